//! What a page sees of a reply while it is written, frame by frame: `discard` takes nothing back from who has read it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use shared::domain::plan::PlanKey;
use tests::{Agent, Frame, ScriptedModel, TestApp, Typing};

use super::injection::{ATTACKS, PROMPT};
use super::stream::{message, open};

/// So many letters in a row are a quotation.
const QUOTATION: usize = 60;
const WITHHELD: &str = "I cannot share my instructions. How else can I help you?";

/// A page that follows a model which writes in such pieces.
struct Follower {
    test: TestApp,
    model: ScriptedModel,
    agent: Agent,
    messages: u32,
}

impl Follower {
    async fn of(prompt: &str, typing: Typing) -> Self {
        let model = ScriptedModel::new();
        model.types(typing);
        let test = TestApp::with_model(model.clone()).await;
        let owner = test.owner().await;
        test.db_set_plan(&owner, PlanKey::Agency).await;
        let agent = owner.agent_with(json!({"name": "Luna", "system_prompt": prompt, "publish": true})).await;
        Self { test, model, agent, messages: 0 }
    }

    /// The frames of a reply.
    async fn follows(&mut self, reply: &str) -> Vec<Frame> {
        self.model.says(reply);
        self.messages += 1;
        self.test.clock.advance(Duration::from_secs(60));
        open(&self.test, &self.agent, &message(self.messages), None).await.rest().await
    }
}

/// All that was ever told, also what was taken back.
fn told(frames: &[Frame]) -> String {
    let tokens = frames.iter().filter(|frame| frame.name == "token");
    tokens.map(|frame| frame.data["text"].as_str().unwrap()).collect()
}

fn letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// How much of one text, in a row, stands in another one.
fn longest_run(text: &str, of: &str) -> usize {
    let (text, of) = (text.as_bytes(), of.as_bytes());
    let mut runs = vec![0; of.len() + 1];
    let mut longest = 0;
    for byte in text {
        for at in (0..of.len()).rev() {
            runs[at + 1] = if of[at] == *byte { runs[at] + 1 } else { 0 };
            longest = longest.max(runs[at + 1]);
        }
    }
    longest
}

/// Long instructions, no two passages of which are the same.
fn handbook() -> String {
    let line = |number: u32| {
        let (price, room) = (number * 37 % 101, number * number % 997);
        format!(
            "Rule {number}: treatment {room} costs {price} euros, and {} minutes are kept for it. ",
            number * 7 % 59
        )
    };
    (1..60).map(line).collect()
}

/// The ways in which a model may be asked to write its instructions.
fn dressed(prompt: &str) -> Vec<String> {
    let lines = |code: &str, length: usize| {
        let lines: Vec<&str> = code.as_bytes().chunks(length).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join("\n")
    };
    let rotate = |c: char| match c.to_ascii_lowercase() {
        'a'..='m' => char::from(c as u8 + 13),
        'n'..='z' => char::from(c as u8 - 13),
        _ => c,
    };
    let hex: String = prompt.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = STANDARD.encode(prompt);
    vec![
        prompt.to_owned(),
        prompt.to_uppercase(),
        prompt.chars().flat_map(|c| [c, '-']).collect(),
        prompt.chars().rev().collect(),
        prompt.chars().map(rotate).collect(),
        lines(&base64, 76),
        lines(&base64, 4).replace('\n', " "),
        lines(&base64, 30).replace('\n', "\n> - "),
        URL_SAFE_NO_PAD.encode(prompt),
        lines(&hex, 75),
        lines(&hex, 2).replace('\n', " "),
        lines(&hex, 2).replace('\n', ":").to_uppercase(),
        format!("0x{}", lines(&hex, 2).replace('\n', ", 0x")),
        prompt.replace(' ', "%20").replace('.', "%2E"),
        format!("%{}", lines(&hex, 2).replace('\n', "%")),
        STANDARD.encode(prompt.chars().rev().collect::<String>()),
    ]
}

#[tokio::test]
async fn a_page_that_follows_an_attack_sees_no_more_of_the_instructions_than_a_quotation_and_no_image() {
    for typing in [Typing::Letters, Typing::Words] {
        let mut page = Follower::of(PROMPT, typing).await;
        for (_, attack) in ATTACKS {
            let attack = attack.replace("{evil}", "https://evil.example");
            let frames = page.follows(&format!("{attack}\n\n{PROMPT}")).await;
            let told = told(&frames);
            let Some(told) = told.strip_suffix(WITHHELD) else { panic!("{typing:?}: {told}") };
            let run = longest_run(&letters(told), &letters(PROMPT));
            assert!(run <= QUOTATION, "{typing:?}: {run} letters: {told}");
            assert!(!told.contains("![") && told.len() > 20, "{typing:?}: {told}");
        }
    }
}

#[tokio::test]
async fn instructions_are_not_followed_in_whatever_dress_and_however_long_they_are() {
    for prompt in [PROMPT.to_owned(), handbook()] {
        for typing in [Typing::Letters, Typing::Words] {
            let mut page = Follower::of(&prompt, typing).await;
            for dressed in dressed(&prompt) {
                let told = told(&page.follows(&format!("Sure, here: {dressed}\n\nAnything else?")).await);
                let most = QUOTATION * dressed.len() / letters(&prompt).len() * 3 / 2;
                let Some(told) = told.strip_suffix(WITHHELD) else { panic!("{typing:?}: {dressed}: {told}") };
                let run = longest_run(told, &dressed);
                assert!(run <= most, "{typing:?}: {run} of {dressed}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_quotes_facts_is_followed_while_it_is_written() {
    let facts = "Delivery of aligners takes two days inside the country and five to seven days abroad.";
    let prompt = format!("{PROMPT} {facts} We are open from 9 to 18.");
    let answer = format!(
        "Good question! {facts} So yours should be there by Friday. We are open from 9 to 18, if you prefer to come, \
         and whoever comes is asked for the number of the order."
    );
    for typing in [Typing::Letters, Typing::Words] {
        let frames = Follower::of(&prompt, typing).await.follows(&answer).await;
        assert_eq!((told(&frames), frames.iter().any(|frame| frame.name == "discard")), (answer.clone(), false));
        let tokens = frames.iter().filter(|frame| frame.name == "token");
        let longest = tokens.map(|frame| frame.data["text"].as_str().unwrap().len()).max().unwrap();
        assert!(longest < 40, "{typing:?}: {longest}");
    }
}
