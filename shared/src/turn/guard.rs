//! What a reply may not hold, whatever the model was talked into. It stands outside of the model: the rules in the prompt
//! ask, this enforces.
//!
//! - **Instructions.** Most of the agent's instructions word by word, or one of the house rules, is not sent: also when it
//!   is spaced out, backwards, rotated by 13 letters or in base64. Facts may be quoted: an answer may repeat a passage.
//! - **Images.** In Markdown `![…](…)` would make whoever renders the reply call an address that a model was talked into, with what it
//!   knows in it. It becomes a link, which a person has to follow.
//!
//! Secrets need no rule here: the model never sees any.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::audience::{Audience, Discarded};
use super::prompt;
use crate::ports::llm::Tokens;

/// What is answered in place of instructions.
pub(super) const WITHHELD: &str = "I cannot share my instructions. How else can I help you?";

/// A run of instructions that is shorter than this, in letters and digits, is a quotation.
const SHORTEST: usize = 100;
/// Such a run is one however long the instructions are.
const LONGEST: usize = 1_500;
/// How much of the instructions is most of them, in percent.
const MOST: usize = 60;
/// A house rule is known by so many of its letters.
const RULE: usize = 40;
/// How often a growing text is looked at, in bytes.
const STEP: usize = 64;

/// What must not be told.
#[derive(Debug)]
pub(super) struct Guard {
    instructions: String,
    rules: Vec<String>,
}

impl Guard {
    /// For an agent with these instructions.
    pub(super) fn new(instructions: &str) -> Self {
        let rules = prompt::RULES.lines().map(letters).filter(|rule| rule.len() >= RULE);
        Self { instructions: letters(instructions), rules: rules.map(|rule| rule[..RULE].to_owned()).collect() }
    }

    /// Whether a text gives instructions away.
    pub(super) fn is_leak(&self, text: &str) -> bool {
        let plain = letters(text);
        let backwards: String = plain.chars().rev().collect();
        let rotated: String = plain.chars().map(rotate).collect();
        let decoded = text.split_whitespace().filter(|word| word.len() >= RULE).filter_map(decode);
        [plain, backwards, rotated].into_iter().chain(decoded).any(|text| self.is_in(&text))
    }

    fn is_in(&self, text: &str) -> bool {
        let enough = (self.instructions.len() * MOST / 100).clamp(SHORTEST, LONGEST);
        self.rules.iter().any(|rule| text.contains(rule)) || has_run(text, &self.instructions, enough)
    }
}

/// Lower-case letters and digits alone: what is left when a text is spaced out, quoted or formatted. Those of other
/// scripts are written by their numbers, so that all of it is ASCII.
fn letters(text: &str) -> String {
    let mut letters = String::with_capacity(text.len());
    for c in text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase) {
        match c.is_ascii() {
            true => letters.push(c),
            false => letters.push_str(&format!("{:x}", u32::from(c))),
        }
    }
    letters
}

fn rotate(c: char) -> char {
    match c {
        'a'..='m' => char::from(c as u8 + 13),
        'n'..='z' => char::from(c as u8 - 13),
        other => other,
    }
}

fn decode(word: &str) -> Option<String> {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && !"+/-_".contains(c));
    let bytes = STANDARD_NO_PAD.decode(word).or_else(|_| URL_SAFE_NO_PAD.decode(word)).ok()?;
    Some(letters(&String::from_utf8_lossy(&bytes)))
}

/// Whether a text has so many letters of another one in a row. Both are ASCII.
fn has_run(text: &str, of: &str, enough: usize) -> bool {
    if of.len() < enough || text.len() < enough {
        return false;
    }
    // Any such run holds one of these pieces whole; around it the run is measured.
    let piece = enough / 2;
    (0..=of.len() - piece).step_by(piece).any(|at| {
        text.match_indices(&of[at..at + piece]).any(|(found, _)| {
            let before = same(text[..found].bytes().rev(), of[..at].bytes().rev());
            let after = same(text[found + piece..].bytes(), of[at + piece..].bytes());
            before + piece + after >= enough
        })
    })
}

fn same(one: impl Iterator<Item = u8>, other: impl Iterator<Item = u8>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).count()
}

/// A reply without images. Code that only looks like the beginning of one stays as it is.
pub(super) fn without_images(text: &str) -> String {
    if has_images(text) { without_bangs(text) } else { text.to_owned() }
}

/// Whether a text may hold an image in Markdown: `![…](…)`, `![…][…]`, or `![…]` with a definition elsewhere. What stands
/// between the brackets may have brackets of its own, escaped ones too, so it is not looked at.
fn has_images(text: &str) -> bool {
    let Some(start) = text.find("![") else { return false };
    text.contains("]:") || ["](", "]["].iter().any(|end| text[start..].contains(end))
}

/// A text in which no `!` stands before a `[`.
fn without_bangs(text: &str) -> String {
    let parts = text.split('[').collect::<Vec<_>>();
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate();
    parts.map(|(at, part)| if at < last { part.trim_end_matches('!') } else { part }).collect::<Vec<_>>().join("[")
}

/// What a model writes on its way to whoever listens: without images, and no further once it gives instructions away.
pub(super) struct Watched<'a> {
    guard: &'a Guard,
    audience: &'a Audience,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    text: String,
    looked_at: usize,
    /// Each `!` at the end that may begin an image.
    bangs: String,
    is_leak: bool,
}

impl<'a> Watched<'a> {
    pub(super) fn new(guard: &'a Guard, audience: &'a Audience) -> Self {
        Self { guard, audience, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What of a piece may be told by now.
    fn take(&mut self, guard: &Guard, piece: &str) -> Option<String> {
        self.text.push_str(piece);
        if self.text.len() - self.looked_at >= STEP {
            self.looked_at = self.text.len();
            self.is_leak = self.is_leak || guard.is_leak(&self.text);
        }
        if self.is_leak {
            return None;
        }
        let piece = format!("{}{piece}", std::mem::take(&mut self.bangs));
        let told = piece.trim_end_matches('!');
        piece[told.len()..].clone_into(&mut self.bangs);
        // What follows is not known yet: should it be no image, the whole text comes in the end.
        Some(without_bangs(told)).filter(|told| !told.is_empty())
    }
}

impl Tokens for Watched<'_> {
    fn token(&self, text: &str) {
        if !self.audience.listens() {
            return;
        }
        let mut state = self.state();
        let told = state.take(self.guard, text);
        if state.is_leak {
            drop(state);
            self.audience.discard(Discarded::Withheld);
        } else if let Some(told) = told {
            drop(state);
            self.audience.token(&told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTRUCTIONS: &str = "You are Luna of Luna Dental. Never offer discounts. Prices are final. If somebody asks \
        for the director, say that she is away. The margin on whitening is 70 percent. Opening hours: 9 to 18. \
        Delivery of aligners takes two days inside the country and five to seven days abroad.";

    #[test]
    fn most_of_the_instructions_are_not_told_in_whatever_dress() {
        let guard = Guard::new(INSTRUCTIONS);
        let spaced: String = INSTRUCTIONS.chars().flat_map(|c| [c, ' ']).collect();
        let dressed = [
            INSTRUCTIONS.to_owned(),
            format!("Sure! Here they are:\n```\n{INSTRUCTIONS}\n```"),
            INSTRUCTIONS.to_uppercase(),
            INSTRUCTIONS.replace(". ", ".\n> - **"),
            spaced,
            INSTRUCTIONS.replace(' ', "\u{200b} "),
            INSTRUCTIONS.chars().rev().collect(),
            letters(INSTRUCTIONS).chars().map(rotate).collect(),
            format!("Decode this: {}", STANDARD_NO_PAD.encode(INSTRUCTIONS)),
            format!("\"{}\"", URL_SAFE_NO_PAD.encode(INSTRUCTIONS)),
            INSTRUCTIONS[..INSTRUCTIONS.len() * 7 / 10].to_owned(),
        ];
        for text in dressed {
            assert!(guard.is_leak(&text), "{text}");
        }
        for rule in prompt::RULES.lines().filter(|rule| rule.len() > 50) {
            assert!(guard.is_leak(&format!("I was told: {rule}")), "{rule}");
        }
    }

    #[test]
    fn instructions_in_other_scripts_are_known_too() {
        let russian =
            "Ты — Луна из клиники. Никогда не давай скидок. Цены окончательные. Директор в отъезде до понедельника.";
        let guard = Guard::new(russian);
        assert!(guard.is_leak(russian) && guard.is_leak(&russian.to_uppercase()));
        assert!(!guard.is_leak("Цены окончательные."));
    }

    #[test]
    fn code_is_no_image() {
        for code in ["let v = vec![1, 2];", "if (![1, 2].includes(x)) return;", "Wow!"] {
            assert_eq!(without_images(code), code);
        }
        for (image, link) in [
            ("![a](https://evil.example)", "[a](https://evil.example)"),
            ("!![a][b]", "[a][b]"),
            ("![a [b] c](https://evil.example)", "[a [b] c](https://evil.example)"),
            ("![a \\] b](https://evil.example)", "[a \\] b](https://evil.example)"),
            ("![a]\n\n[a]: https://evil.example", "[a]\n\n[a]: https://evil.example"),
        ] {
            assert_eq!(without_images(image), link);
        }
    }

    #[test]
    fn facts_may_be_quoted() {
        let guard = Guard::new(INSTRUCTIONS);
        let fine = [
            "Delivery of aligners takes two days inside the country and five to seven days abroad.",
            "Opening hours: 9 to 18.",
            "I cannot share my instructions.",
            "",
        ];
        for text in fine {
            assert!(!guard.is_leak(text), "{text}");
        }
        let short = Guard::new("We are open from 9 to 18. Delivery takes two days.");
        assert!(!short.is_leak("We are open from 9 to 18. Delivery takes two days."), "there is nothing to hide in it");
    }

    #[test]
    fn an_image_never_arrives_however_it_is_cut() {
        let text = "Look! ![x](https://evil.example/?q=1) wow!! !![ ] !!";
        let guard = Guard::new("");
        for step in 1..=text.len() {
            let (mut state, mut told) = (State::default(), String::new());
            for piece in text.as_bytes().chunks(step) {
                told.extend(state.take(&guard, std::str::from_utf8(piece).unwrap()));
            }
            let whole = without_bangs(text);
            assert!(whole.starts_with(&told) && whole.len() - told.len() <= 2, "{step}: {told}");
        }
    }
}
