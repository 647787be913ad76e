//! Trying an agent out: what it would answer, with nothing stored, nothing billed, and no tool carried out.

use serde_json::json;

use super::guard::{self, Guard};
use super::{Reported, prompt, schedule, think, tools};
use crate::access::Caller;
use crate::app::{App, agent, ai_key, verification};
use crate::domain::Agent;
use crate::domain::agent::Snapshot;
use crate::domain::message::{MAX_VISITOR_CHARS, ToolUse};
use crate::domain::text::{Checks, shorten};
use crate::kernel::{Code, Error, Id, Result};
use crate::ports::llm::{self, Completion, NoTokens, PREVIEW, Request, Target, ToolCall, Usage};
use crate::store;

/// Rounds of model and tools.
const ROUNDS: usize = 4;
/// Tool calls that are shown.
const CALLS: usize = 10;
/// How many messages of what was said before are taken, and how much text.
const HISTORY: usize = 40;
const HISTORY_CHARS: usize = 32_000;

/// What an agent would answer.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The text.
    pub content: String,
    /// Which model.
    pub model: String,
    /// The tools that it would have called; `ok` tells whether the arguments fit.
    pub tool_calls: Vec<ToolUse>,
    /// Of all rounds.
    pub usage: Usage,
}

/// Asks an agent as it is now, published or not. Tools are offered as in a turn, and a call is answered by saying that this
/// is a preview.
///
/// # Errors
/// `not_found`, `validation_error`, also for a provider of the owner's choice that cannot be asked, `forbidden` while the
/// account is suspended, `email.not_verified`, `not_configured` where the installation's own provider has no key,
/// `upstream_error` when the model fails, `timeout` when it takes longer than a turn may.
pub async fn preview(
    app: &App,
    caller: &Caller,
    id: Id<Agent>,
    history: &[Reported],
    message: &str,
) -> Result<Preview> {
    check(history, message)?;
    let (snapshot, account) =
        tokio::try_join!(agent::compiled(app, caller, id), store::billing::get(&app.table, caller.billing_account_id))?;
    let (has_address, has_key) = (snapshot.ai_base_url.is_some(), snapshot.ai_key.is_some());
    ai_key::ensure_way(app, snapshot.provider.as_deref(), has_address, has_key)?;
    let target = think::target(app, &snapshot);
    verification::ensure_may_ask(app, &account, &target.provider, snapshot.key_source())?;
    let asked = Box::pin(ask(app, &snapshot, target, history, message));
    tokio::time::timeout(app.config.turn_budget, asked).await.map_err(|_| Error::new(Code::Timeout))?
}

fn check(history: &[Reported], message: &str) -> Result<()> {
    let mut checks = Checks::new();
    checks.required("message", message, MAX_VISITOR_CHARS);
    checks.ensure(history.len() <= HISTORY, "history", "too_long", "history may hold 40 messages");
    let chars: usize = history.iter().map(|reported| reported.content.chars().count()).sum();
    checks.ensure(chars <= HISTORY_CHARS, "history", "too_long", "history may hold 32,000 characters");
    checks.finish()
}

async fn ask(
    app: &App,
    snapshot: &Snapshot,
    mut target: Target,
    history: &[Reported],
    message: &str,
) -> Result<Preview> {
    think::add_own_key(app, snapshot, &mut target).await?;
    let said = history.iter().map(|reported| match reported.by_agent {
        true => llm::Message::assistant(reported.content.clone()),
        false => llm::Message::user(prompt::defused(&reported.content)),
    });
    let zone = schedule::zone(app, snapshot).await;
    let mut request = Request {
        target,
        system: prompt::system(snapshot, app.now(), zone.as_ref()),
        messages: said.chain([llm::Message::user(prompt::defused(message))]).collect(),
        tools: think::offered(snapshot),
        max_tokens: app.config.reply_tokens,
        temperature: None,
    };
    let (mut usage, mut tool_calls) = (Usage::default(), Vec::new());
    for _ in 0..ROUNDS {
        // As in a turn: each round reads everything once more.
        if usage.total() >= app.config.turn_tokens {
            break;
        }
        let Completion { content, tool_calls: calls, model, usage: used, kept, .. } =
            app.llm.complete(&request, &NoTokens).await.map_err(|error| owners(app, snapshot, error))?;
        usage += used;
        if calls.is_empty() {
            let content = said_to(snapshot, content.trim());
            return Ok(Preview { content, model, tool_calls, usage });
        }
        let results: Vec<llm::Message> = calls.iter().map(|call| answered(snapshot, call, &mut tool_calls)).collect();
        request.messages.push(llm::Message::Assistant { content, tool_calls: calls, kept });
        request.messages.extend(results);
    }
    let message = "The agent went on calling tools without an answer.";
    Err(Error::with_message(Code::UpstreamError, message))
}

/// A failure as its owner is told it: that the provider which they chose has no key here is theirs to mend, and no fault
/// of the installation, which answers for its own provider only.
fn owners(app: &App, snapshot: &Snapshot, error: Error) -> Error {
    let chosen = snapshot.provider.as_ref().filter(|provider| **provider != app.config.default_provider);
    match chosen {
        Some(_) if error.code() == Code::NotConfigured => {
            let message = "There is no key for this provider here: set config.ai.api_key, or choose another provider.";
            Error::field("config.ai.api_key", "required", message)
        }
        _ => error,
    }
}

/// The reply as a visitor would be told it.
fn said_to(snapshot: &Snapshot, content: &str) -> String {
    if Guard::new(&snapshot.prompt).is_leak(content) { guard::WITHHELD.into() } else { guard::without_images(content) }
}

fn answered(snapshot: &Snapshot, call: &ToolCall, shown: &mut Vec<ToolUse>) -> llm::Message {
    let tool = snapshot.tools.iter().find(|tool| tool.tool.name() == call.name);
    let told = match tool.map(|tool| tools::fitting(tool.tool.parameters(&tool.config), &call.arguments)) {
        Some(Ok(_)) => {
            Ok(json!({PREVIEW: true, "note": "Nothing was done: this is a preview. Answer as if it had been done."}))
        }
        Some(Err(error)) => Err(error.message().to_owned()),
        None => Err(format!("There is no tool {}.", shorten(&call.name, 64))),
    };
    let ok = told.is_ok();
    if shown.len() < CALLS {
        shown.push(ToolUse { name: shorten(&call.name, 64), arguments: call.arguments.clone(), ok });
    }
    llm::Message::ToolResult {
        call_id: call.id.clone(),
        name: call.name.clone(),
        content: told.unwrap_or_else(|why| json!({"error": why})).to_string(),
        is_error: !ok,
    }
}
