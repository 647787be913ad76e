//! What waits for a confirmation, and what becomes of it.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::perform::{self, Actor};
use super::tools::Tool;
use crate::access::Caller;
use crate::app::{App, Draft};
use crate::domain::builder::{Action, ActionStatus, BuilderRole};
use crate::domain::{Agent, BuilderMessage, BuilderThread};
use crate::kernel::{Code, Error, Id, Kind, Result};
use crate::store;
use crate::table::Unit;

/// How long an action can be confirmed.
const WAITS: Duration = Duration::from_secs(24 * 3600);

/// A call that waits for a confirmation. What is stored is what is shown, and nothing else is carried out.
pub(super) fn ask(app: &App, actor: &Actor, tool: Tool, agent: &Agent, given: &Value) -> Action {
    let mut arguments = given.clone();
    if tool == Tool::DeleteAgent {
        // The name that was shown is the confirmation that the deletion asks for.
        arguments["name"] = json!(agent.name);
    }
    let now = app.now();
    Action {
        id: app.ids().id(),
        thread_id: actor.thread,
        tool: tool.name().into(),
        summary: perform::summary(tool, agent, given),
        arguments,
        agent_id: agent.id,
        // A publication is of all that the agent is, so that no later change may slip in.
        revision: (tool == Tool::PublishAgent).then_some(agent.revision),
        status: ActionStatus::Pending,
        created_at: now,
        expires_at: now + WAITS,
        decided_at: None,
        decided_by: None,
    }
}

/// Carries out what a person confirms, or notes that they decline.
///
/// # Errors
/// `not_found`, `action.settled` when it was decided before, is too old or is not what was shown any more, and what the
/// command says; then it still waits.
pub async fn decide(
    app: &App,
    caller: &Caller,
    address: IpAddr,
    thread: Id<BuilderThread>,
    action: Id<Action>,
    approve: bool,
) -> Result<Draft<Action>> {
    let now = app.now();
    store::builder::get(&app.table, caller.workspace_id, thread, now).await?;
    let mut action = store::builder::action(&app.table, caller.workspace_id, thread, action).await?;
    if action.standing(now) != ActionStatus::Pending {
        return Err(Error::new(Code::ActionSettled));
    }
    let actor = Actor { caller: caller.clone(), address, thread };
    let (mut unit, then) = match approve {
        true => carry_out(app, &actor, &action).await?,
        false => (Unit::new(), Vec::new()),
    };
    action.status = if approve { ActionStatus::Done } else { ActionStatus::Declined };
    (action.decided_at, action.decided_by) = (Some(now), Some(caller.actor()));
    store::builder::settle(&mut unit, caller.workspace_id, &action, action.status, &caller.actor(), now);
    store::builder::add_message(&mut unit, caller.workspace_id, thread, &note(app, &action))?;
    Ok(Draft { unit, value: action, then })
}

type Writes = (Unit, Vec<(crate::ports::queue::QueueName, crate::ports::queue::Outgoing)>);

async fn carry_out(app: &App, actor: &Actor, action: &Action) -> Result<Writes> {
    let tool = Tool::find(&action.tool).ok_or_else(|| Error::new(Code::ActionSettled))?;
    let draft = if tool == Tool::DeleteAgent {
        let name = action.arguments["name"].as_str().unwrap_or_default();
        perform::delete(app, actor, action.agent_id, name).await
    } else {
        perform::perform(app, actor, tool, &action.arguments).await
    };
    let draft = match draft {
        // The agent is gone, or is called otherwise by now.
        Err(error) if error.kind() == Kind::NotFound || error.code() == Code::ConfirmationMismatch => {
            return Err(Error::new(Code::ActionSettled));
        }
        other => other?,
    };
    if let Some(shown) = action.revision {
        // Read after the draft, whose writes hold only for what the agent was before: a change in between fails them.
        let agent = store::agent::get(&app.table, actor.caller.workspace_id, action.agent_id).await?;
        if agent.body.revision != shown {
            let message = "The agent has changed since this was shown. Ask the builder to publish it again.";
            return Err(Error::with_message(Code::ActionSettled, message));
        }
    }
    Ok((draft.unit, draft.then))
}

/// What the thread says of a decision.
fn note(app: &App, action: &Action) -> BuilderMessage {
    let what = if action.status == ActionStatus::Done { "Confirmed and done" } else { "Declined" };
    BuilderMessage {
        id: app.ids().id(),
        role: BuilderRole::Action,
        content: format!("{what}: {}", action.summary),
        images: 0,
        tools: Vec::new(),
        run_id: None,
        created_at: app.now(),
    }
}
