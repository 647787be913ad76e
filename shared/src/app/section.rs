//! The sections of an agent beside its instructions: how it speaks, what it tries to achieve, what it must not do.

use super::agent::{self, Detail};
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::Agent;
use crate::domain::agent::{Guardrails, Objective};
use crate::domain::slug::slugify;
use crate::domain::text::Checks;
use crate::kernel::{Id, Result};
use crate::store;
use crate::store::agent::Section;
use crate::table::Unit;

/// The most entries of a list in a section.
const MAX_ENTRIES: usize = 20;
/// The longest entry, and the longest text of a section, in characters.
const MAX_ENTRY: usize = 500;
const MAX_TEXT: usize = 8_000;
/// The heading of the questions in an agent's instructions.
const FAQ: &str = "## FAQ";

/// What a section is to be. It takes the place of what was there.
#[derive(Debug, Clone)]
pub enum Content {
    /// How the agent speaks; empty for nothing in particular.
    Personality(String),
    /// What it tries to achieve, name and what to do, the most important first.
    Objectives(Vec<(String, String)>),
    /// What it must not do.
    Guardrails(Guardrails),
    /// A question and its answer, added to its instructions.
    Faq {
        /// As visitors ask it.
        question: String,
        /// The answer.
        answer: String,
    },
}

/// Sets a section of an agent; what is live follows at once.
///
/// # Errors
/// `not_found`, `validation_error`.
pub async fn set(app: &App, caller: &Caller, agent: Id<Agent>, content: &Content) -> Result<Draft<Detail>> {
    let mut editing = agent::edit(app, caller, agent).await?;
    let mut checks = Checks::new();
    let section = match content {
        Content::Personality(text) => {
            editing.definition.personality.text = checks.optional("personality", Some(text), MAX_TEXT);
            Section::Personality
        }
        Content::Objectives(objectives) => {
            editing.definition.objectives = read_objectives(&mut checks, objectives);
            Section::Objectives
        }
        Content::Guardrails(guardrails) => {
            editing.definition.guardrails = read_guardrails(&mut checks, guardrails);
            Section::Guardrails
        }
        Content::Faq { question, answer } => {
            let question = checks.required("question", &on_one_line(question), MAX_ENTRY);
            let answer = checks.required("answer", &on_one_line(answer), MAX_ENTRY * 4);
            let prompt = with_faq(editing.definition.system_prompt(), &question, &answer);
            editing.definition.set_system_prompt(&checks.limited("system_prompt", &prompt, agent::MAX_PROMPT));
            Section::Playbooks
        }
    };
    checks.finish()?;
    let mut unit = Unit::new();
    store::agent::put_section(&mut unit, &editing.agent.body, section, &editing.definition)?;
    agent::with_counts(app, editing.save(app, unit)?).await
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Instructions with one question more, below a heading that the offline model knows.
fn with_faq(prompt: &str, question: &str, answer: &str) -> String {
    let pair = format!("Q: {question}\nA: {answer}");
    let heading = if prompt.lines().any(|line| line.trim() == FAQ) { "" } else { FAQ };
    let parts = [prompt.trim_end(), heading, &pair];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn read_objectives(checks: &mut Checks, given: &[(String, String)]) -> Vec<Objective> {
    checks.ensure(given.len() <= MAX_ENTRIES, "objectives", "too_many", "an agent may have 20 objectives");
    let objective = |(priority, (name, body)): (i32, &(String, String))| {
        let name = checks.name("objectives", name, 120);
        let id = format!("{}-{priority}", slugify(&name, 40));
        Objective { id, name, body: checks.limited("objectives", body.trim(), MAX_ENTRY * 4), priority }
    };
    (1..).zip(given.iter().take(MAX_ENTRIES)).map(objective).collect()
}

fn read_guardrails(checks: &mut Checks, given: &Guardrails) -> Guardrails {
    let mut list = |name: &str, entries: &[String]| {
        checks.ensure(entries.len() <= MAX_ENTRIES, name, "too_many", &format!("{name} may hold 20 entries"));
        entries.iter().take(MAX_ENTRIES).map(|entry| checks.required(name, entry, MAX_ENTRY)).collect::<Vec<_>>()
    };
    Guardrails {
        topics_to_avoid: list("topics_to_avoid", &given.topics_to_avoid),
        claims_not_to_make: list("claims_not_to_make", &given.claims_not_to_make),
        required_disclaimers: list("required_disclaimers", &given.required_disclaimers),
        additional_rules: checks.optional("additional_rules", given.additional_rules.as_deref(), MAX_TEXT),
    }
}
