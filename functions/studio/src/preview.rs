//! `/api/agents/{id}/preview`: trying an agent out; rows of the group [`crate::agents`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::app::App;
use shared::domain::Agent;
use shared::domain::message::ToolUse;
use shared::http::{Call, Json, Path};
use shared::kernel::{Int, Result};
use shared::turn::Reported;
use shared::turn::preview::{self, Preview};

use crate::chat::HistoryIn;

shared::ops! {
    /// Ask an agent without a trace: nothing is stored, nothing is billed, and no tool is carried out.
    ///
    /// It answers as it is now, published or not. `tool_calls` tells what it would have done. Ten times a minute, and two hundred times a day in a
    /// workspace. 422 also names what a provider of your choice lacks. 502: the
    /// model failed. 503: the installation has no key for its own. 504: it took longer than a reply may.
    POST "/api/agents/{id}/preview" => preview_agent, [User] Editor "" AiAssist Any Known Unaudited Own also [502 503 504];
}

/// A message to try.
#[derive(Debug, Deserialize, JsonSchema)]
struct PreviewIn {
    /// 1 to 8,000 characters.
    message: String,
    /// What was said before, at most 40 messages with 32,000 characters together.
    #[serde(default)]
    history: Vec<HistoryIn>,
}

/// What the agent would answer.
#[derive(Debug, Serialize, JsonSchema)]
struct PreviewOut {
    reply: String,
    model: String,
    /// What it would have called.
    tool_calls: Vec<ToolCallOut>,
    tokens_in: u64,
    tokens_out: u64,
}

/// A call of a tool that was not carried out.
#[derive(Debug, Serialize, JsonSchema)]
struct ToolCallOut {
    name: String,
    arguments: Value,
    /// Whether there is such a tool and the arguments fit it.
    ok: bool,
}

impl From<ToolUse> for ToolCallOut {
    fn from(ToolUse { name, arguments, ok }: ToolUse) -> Self {
        Self { name, arguments, ok }
    }
}

impl From<Preview> for PreviewOut {
    fn from(Preview { content, model, tool_calls, usage }: Preview) -> Self {
        let tool_calls = tool_calls.into_iter().map(ToolCallOut::from).collect();
        Self { reply: content, model, tool_calls, tokens_in: usage.tokens_in, tokens_out: usage.tokens_out }
    }
}

async fn preview_agent(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Json(body): Json<PreviewIn>,
) -> Result<Json<PreviewOut>> {
    let history: Vec<Reported> = body.history.into_iter().map(Reported::from).collect();
    let asked = preview::preview(&app, &call.caller, id.0, &history, &body.message);
    Ok(Json(asked.await?.into()))
}
