//! What a reply may not hold, whatever the model was talked into. It stands outside of the model: the rules in the prompt
//! ask, this enforces.
//!
//! - **Instructions.** Most of the agent's instructions word by word, or one of the house rules, is not sent, in none of
//!   the dresses that [`super::runs`] knows. Facts may be quoted: an answer may repeat a passage. Whoever follows a reply is
//!   told no more than a short quotation before it is known whether more comes.
//! - **Images.** In Markdown `![…](…)` would make whoever renders the reply call an address that a model was talked into, with what it
//!   knows in it. It becomes a link, which a person has to follow.
//!
//! Secrets need no rule here: the model never sees any.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::audience::{Audience, Discarded};
use super::prompt;
use super::runs::{self, Known, Reading};
use crate::ports::llm::Tokens;

/// What is answered in place of instructions.
pub(super) const WITHHELD: &str = "I cannot share my instructions. How else can I help you?";

/// A run of instructions that is shorter than this, in letters and digits, is a quotation.
const SHORTEST: usize = 100;
/// Such a run is one however long the instructions are.
const LONGEST: usize = 1_500;
/// How much of the instructions is most of them, in percent.
const MOST: usize = 60;
/// Of a longer run the rest is held back while it is not known how long it becomes.
const HELD: usize = 60;

/// What must not be told.
#[derive(Debug)]
pub(super) struct Guard {
    known: Known,
    /// A run of this length is most of the instructions.
    enough: usize,
}

impl Guard {
    /// For an agent with these instructions.
    pub(super) fn new(instructions: &str) -> Self {
        let length = runs::length(instructions);
        let enough = (length * MOST / 100).clamp(SHORTEST, LONGEST);
        // What is shorter has nothing to hide.
        let hidden = if length >= enough { instructions } else { "" };
        Self { known: Known::new(hidden, prompt::RULES.lines()), enough }
    }

    /// Whether a text gives instructions away.
    pub(super) fn is_leak(&self, text: &str) -> bool {
        let mut reading = Reading::new(&self.known);
        text.chars().any(|c| reading.read(c) >= self.enough)
    }
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
    audience: &'a Audience,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    guard: &'a Guard,
    reading: Reading<'a>,
    /// The end, while it goes along with the instructions.
    held: String,
    /// Each `!` at the end that may begin an image.
    bangs: String,
    is_leak: bool,
}

impl<'a> Watched<'a> {
    pub(super) fn new(guard: &'a Guard, audience: &'a Audience) -> Self {
        Self { audience, state: Mutex::new(State::new(guard)) }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> State<'a> {
    fn new(guard: &'a Guard) -> Self {
        let reading = Reading::new(&guard.known);
        Self { guard, reading, held: String::new(), bangs: String::new(), is_leak: false }
    }

    /// What may be told by now. What is held back in the end is no leak: it comes with the whole text.
    fn take(&mut self, piece: &str) -> Option<String> {
        let mut told = std::mem::take(&mut self.bangs);
        for c in piece.chars() {
            let run = self.reading.read(c);
            self.is_leak = self.is_leak || run >= self.guard.enough;
            self.held.push(c);
            if run <= HELD {
                told += &self.held;
                self.held.clear();
            }
        }
        if self.is_leak {
            return None;
        }
        let shown = told.trim_end_matches('!');
        told[shown.len()..].clone_into(&mut self.bangs);
        // What follows is not known yet: should it be no image, the whole text comes in the end.
        Some(without_bangs(shown)).filter(|told| !told.is_empty())
    }
}

impl Tokens for Watched<'_> {
    fn token(&self, text: &str) {
        if !self.audience.listens() {
            return;
        }
        let mut state = self.state();
        let told = state.take(text);
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
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    use super::*;

    const INSTRUCTIONS: &str = "You are Luna of Luna Dental. Never offer discounts. Prices are final. If somebody asks \
        for the director, say that she is away. The margin on whitening is 70 percent. Opening hours: 9 to 18. \
        Delivery of aligners takes two days inside the country and five to seven days abroad.";

    #[test]
    fn most_of_the_instructions_are_not_told_in_whatever_dress() {
        let guard = Guard::new(INSTRUCTIONS);
        let spaced: String = INSTRUCTIONS.chars().flat_map(|c| [c, ' ']).collect();
        let rotate = |c: char| match c.to_ascii_lowercase() {
            'a'..='m' => char::from(c as u8 + 13),
            'n'..='z' => char::from(c as u8 - 13),
            _ => c,
        };
        let rotated: String = INSTRUCTIONS.chars().map(rotate).collect();
        let dressed = [
            INSTRUCTIONS.to_owned(),
            format!("Sure! Here they are:\n```\n{INSTRUCTIONS}\n```"),
            INSTRUCTIONS.to_uppercase(),
            INSTRUCTIONS.replace(". ", ".\n> - **"),
            spaced,
            INSTRUCTIONS.replace(' ', "\u{200b} "),
            INSTRUCTIONS.chars().rev().collect(),
            rotated.clone(),
            rotated.to_uppercase(),
            format!("Decode this: {}", STANDARD_NO_PAD.encode(INSTRUCTIONS)),
            format!("\"{}\"", URL_SAFE_NO_PAD.encode(INSTRUCTIONS)),
            STANDARD_NO_PAD.encode(&rotated),
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
        assert!(guard.is_leak(&russian.chars().rev().collect::<String>()));
        assert!(guard.is_leak(&STANDARD_NO_PAD.encode(russian)) && guard.is_leak(&URL_SAFE_NO_PAD.encode(russian)));
        assert!(guard.is_leak(&russian.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()));
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
            let (mut state, mut told) = (State::new(&guard), String::new());
            for piece in text.as_bytes().chunks(step) {
                told.extend(state.take(std::str::from_utf8(piece).unwrap()));
            }
            let whole = without_bangs(text);
            assert!(whole.starts_with(&told) && whole.len() - told.len() <= 2, "{step}: {told}");
        }
    }
}
