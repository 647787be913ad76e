//! The offline model: no network, no key, the same answer to the same question. It is the local default.
//!
//! It is no language model and pretends nothing: it looks up what a visitor asks in the agent's own system prompt,
//! quotes the passage that fits or says that it does not know, and calls the built-in tools on plain intents. It
//! speaks English, Spanish and Portuguese, whichever the visitor does.
//!
//! | file | holds |
//! | --- | --- |
//! | `language` | words, stems |
//! | `contact` | e-mail, phone, name in free text |
//! | `when` | day and time in free text, and which ones they are |
//! | `intents` | what one message wants |
//! | `mood` | facts told from instructions |
//! | `passages` | what of the system prompt can be quoted |
//! | `knowledge` | which passage answers |
//! | `reply` | the sentences of an answer |
//! | `phrases` | all that it says on its own account |
//! | `builder` | the same for the builder: what a description of an agent asks for |
//!
//! To teach it a tool, add the tool's name here, its intent to `intents::Reading`, and its arguments to [`calls`].

mod builder;
mod contact;
mod intents;
mod knowledge;
mod language;
mod mood;
mod passages;
mod phrases;
mod reply;
#[cfg(test)]
mod tests;
mod when;

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::{Completion, Finish, Llm, Message, Request, Tokens, Tool, ToolCall, estimate};
use crate::kernel::Result;
use intents::Reading;

/// What the model calls itself.
const MODEL: &str = "offline-1";
const CAPTURE_LEAD: &str = "capture_lead";
const HANDOFF: &str = "send_whatsapp_handoff";
const SCHEDULE: &str = "schedule_appointment";

/// A model of rules and look-ups.
#[derive(Debug, Clone, Copy, Default)]
pub struct OfflineModel;

#[async_trait]
impl Llm for OfflineModel {
    async fn complete(&self, request: &Request, tokens: &dyn Tokens) -> Result<Completion> {
        let turn = Turn::of(request);
        let (built, tool_calls) = match builder::answer(request) {
            Some((text, calls)) => (Some(text), calls),
            None => (None, calls(request, &turn)),
        };
        if !tool_calls.is_empty() {
            let usage = estimate(request, "", &tool_calls);
            let model = MODEL.to_owned();
            let (content, finish) = (String::new(), Finish::ToolCalls);
            return Ok(Completion { content, tool_calls, kept: None, usage, model, finish });
        }
        let (content, finish) = limited(built.unwrap_or_else(|| reply::compose(request, &turn)), request.max_tokens);
        for word in content.split_inclusive(char::is_whitespace) {
            tokens.token(word);
        }
        let usage = estimate(request, &content, &[]);
        Ok(Completion { content, tool_calls: Vec::new(), kept: None, usage, model: MODEL.to_owned(), finish })
    }
}

/// What is unanswered: everything after the last answer that called no tool.
struct Turn<'a> {
    /// What the agent said last; empty at the beginning.
    before: &'a str,
    /// The visitor's messages; several may have arrived at once.
    asked: Vec<Asked<'a>>,
    /// Results of the tools that were called meanwhile.
    results: Vec<Outcome<'a>>,
}

/// One message of the visitor.
struct Asked<'a> {
    text: &'a str,
    /// Whether images came with it.
    shows: bool,
    reading: Reading,
    /// Whether it came before the last tool call, which then has been made for it, too.
    handled: bool,
}

/// The result of one tool call.
struct Outcome<'a> {
    tool: &'a str,
    /// The arguments of the call, if it is in the conversation.
    arguments: Option<&'a Value>,
    content: &'a str,
    is_error: bool,
}

impl<'a> Turn<'a> {
    fn of(request: &'a Request) -> Self {
        let messages = &request.messages;
        let is_answer =
            |message: &Message| matches!(message, Message::Assistant { tool_calls, .. } if tool_calls.is_empty());
        let answered = messages.iter().rposition(is_answer);
        let open = &messages[answered.map_or(0, |at| at + 1)..];
        let before = match answered.and_then(|at| messages.get(at)) {
            Some(Message::Assistant { content, .. }) => content.as_str(),
            _ => open.iter().find_map(last_reported).unwrap_or_default(),
        };
        let last_call = open.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
        let mut turn = Self { before, asked: Vec::new(), results: Vec::new() };
        for (at, message) in open.iter().enumerate() {
            match message {
                Message::User { content, .. } if is_report(content) => {}
                Message::User { content, images } => turn.asked.push(Asked {
                    text: content,
                    shows: !images.is_empty(),
                    reading: intents::read(content, before),
                    handled: last_call.is_some_and(|call| at < call),
                }),
                Message::ToolResult { call_id, name, content, is_error } => {
                    let arguments = arguments_of(open, call_id);
                    turn.results.push(Outcome { tool: name, arguments, content, is_error: *is_error });
                }
                Message::Assistant { .. } => {}
            }
        }
        turn
    }

    /// The visitor's name, from this turn.
    fn name(&self) -> Option<&str> {
        self.asked.iter().find_map(|asked| asked.reading.name.as_deref())
    }
}

/// Whether a message is not the visitor's but tells what was said elsewhere: a line of introduction, and the rest
/// fenced as data. It wants no answer.
fn is_report(content: &str) -> bool {
    let fenced = content.trim_end().strip_suffix("</data>");
    fenced
        .and_then(|text| text.split_once('\n'))
        .is_some_and(|(intro, rest)| intro.ends_with(':') && rest.starts_with("<data>"))
}

/// What the agent said last, by such a report.
fn last_reported(message: &Message) -> Option<&str> {
    match message {
        Message::User { content, .. } if is_report(content) => {
            content.lines().rev().find_map(|line| line.strip_prefix("assistant: "))
        }
        Message::User { .. } | Message::Assistant { .. } | Message::ToolResult { .. } => None,
    }
}

fn arguments_of<'a>(messages: &'a [Message], call_id: &str) -> Option<&'a Value> {
    messages.iter().find_map(|message| match message {
        Message::Assistant { tool_calls, .. } => {
            tool_calls.iter().find(|call| call.id == call_id).map(|call| &call.arguments)
        }
        Message::User { .. } | Message::ToolResult { .. } => None,
    })
}

/// Everything that the visitor wrote, newest first.
fn written(request: &Request) -> impl Iterator<Item = &str> {
    request.messages.iter().rev().filter_map(|message| match message {
        Message::User { content, .. } if !is_report(content) => Some(content.as_str()),
        Message::User { .. } | Message::Assistant { .. } | Message::ToolResult { .. } => None,
    })
}

fn offered<'a>(request: &'a Request, name: &str) -> Option<&'a Tool> {
    request.tools.iter().find(|tool| tool.name == name)
}

/// The calls that the new messages plainly want, of tools that are offered. `http_request` is never among them.
fn calls(request: &Request, turn: &Turn<'_>) -> Vec<ToolCall> {
    let new: Vec<&Asked<'_>> = turn.asked.iter().filter(|asked| !asked.handled).collect();
    let name = || turn.name().map(str::to_owned).or_else(|| written(request).find_map(contact::introduced));
    let contact = |of: fn(&Reading) -> &Option<String>| new.iter().find_map(|asked| of(&asked.reading).clone());
    let (email, phone) = (contact(|reading| &reading.contact.email), contact(|reading| &reading.contact.phone));
    let handoff = new.iter().find(|asked| asked.reading.handoff);
    let schedule = new.iter().find_map(|asked| {
        let (said, when) = match &asked.reading.appointment.as_ref()?.when {
            Some(when) => (asked.text, when.clone()),
            // "An appointment, please" and "tomorrow at 10" may come as two messages.
            None => new.iter().find_map(|other| Some((other.text, when::when(&other.reading.contact.rest)?)))?,
        };
        let today = when::today(&request.system);
        Some((asked, today.and_then(|today| when::moment(said, &when, today)).unwrap_or(when)))
    });
    let mut calls = Vec::new();
    let mut call = |name: &str, arguments: Vec<(&str, Option<String>)>| {
        if let Some(tool) = offered(request, name) {
            let id = format!("offline_{}_{}", request.messages.len(), calls.len());
            calls.push(ToolCall { id, name: name.to_owned(), arguments: accepted(tool, arguments) });
        }
    };
    if email.is_some() || phone.is_some() {
        let interest = interest(&new);
        let (email, phone) = (email.clone(), phone.clone());
        call(CAPTURE_LEAD, vec![("name", name()), ("email", email), ("phone", phone), ("interest", interest)]);
    }
    if let Some(asked) = handoff {
        call(HANDOFF, vec![("reason", Some(brief(asked.text, 200))), ("phone", phone.clone())]);
    }
    if let Some((asked, when)) = schedule {
        let notes = Some(brief(asked.text, 300));
        // An address that was left before is where the confirmation goes.
        let email = email.or_else(|| written(request).find_map(|text| intents::read(text, "").contact.email));
        let arguments =
            vec![("when", Some(when)), ("name", name()), ("email", email), ("phone", phone), ("notes", notes)];
        call(SCHEDULE, arguments);
    }
    calls
}

/// What the visitor is interested in: what they ask beside leaving their details.
fn interest(new: &[&Asked<'_>]) -> Option<String> {
    const MARKS: [&str; 6] =
        ["interested in ", "me interesa ", "interesado en ", "interesada en ", "interesse em ", "interessado em "];
    let said = new.iter().find_map(|asked| {
        let rest = &asked.reading.contact.rest;
        let lower = rest.to_lowercase();
        // Lower case may have another length in rare scripts; then nothing is cut out.
        let start = MARKS.iter().find_map(|mark| lower.find(mark).map(|at| at + mark.len()))?;
        rest.get(start..)?.split(['.', ',', ';', '!', '?', '\n']).next().map(str::trim).filter(|text| !text.is_empty())
    });
    let asked = || new.iter().flat_map(|asked| &asked.reading.questions).next().map(String::as_str);
    said.or_else(asked).map(|text| brief(text, 200))
}

/// The arguments that the tool's schema knows, if it names any.
fn accepted(tool: &Tool, arguments: Vec<(&str, Option<String>)>) -> Value {
    let known = tool.parameters["properties"].as_object().filter(|known| !known.is_empty());
    let is_known = |name: &str| known.is_none_or(|known| known.contains_key(name));
    let given = arguments.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let object: Map<String, Value> =
        given.filter(|(name, _)| is_known(name)).map(|(name, value)| (name.to_owned(), value.into())).collect();
    object.into()
}

/// A text on one line, of at most so many characters.
fn brief(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// The answer within `max_tokens`, cut after a whole word.
fn limited(answer: String, max_tokens: u32) -> (String, Finish) {
    let most = usize::try_from(max_tokens).unwrap_or(usize::MAX).saturating_mul(4);
    let Some((end, _)) = answer.char_indices().nth(most) else { return (answer, Finish::Stop) };
    let end = answer[..end].rfind(char::is_whitespace).unwrap_or(end);
    (answer[..end].to_owned(), Finish::Length)
}
