//! What waits for a confirmation, and what becomes of it.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::others;
use super::perform::{self, Actor};
use super::tools::Tool;
use crate::access::Caller;
use crate::app::{App, Draft};
use crate::domain::builder::{Action, ActionStatus, BuilderRole, Lapse};
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
        // Whoever confirms has seen the agent as it was, so that no later change may slip in.
        revision: Some(agent.revision),
        status: ActionStatus::Pending,
        created_at: now,
        expires_at: now + WAITS,
        decided_at: None,
        decided_by: None,
        lapse: None,
    }
}

/// What a person decides about an action.
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    /// Whether it is to happen.
    pub approve: bool,
    /// The agent's revision that they were shown it with, where they say it.
    pub shown: Option<u32>,
}

/// Carries out what a person confirms, or notes that they decline.
///
/// # Errors
/// `not_found`, `action.settled` when it was decided before, is too old or is not what was shown any more; what the agent
/// became too different for is shown anew, as another action, and what it is about nothing for any more expires.
/// `action.changed` when it was moved on since it was shown to whoever confirms it. And what the command says; then it
/// still waits.
pub async fn decide(
    app: &App,
    caller: &Caller,
    address: IpAddr,
    thread: Id<BuilderThread>,
    action: Id<Action>,
    Decision { approve, shown }: Decision,
) -> Result<Draft<Action>> {
    let now = app.now();
    store::builder::get(&app.table, caller.workspace_id, thread, now).await?;
    let mut action = store::builder::action(&app.table, caller.workspace_id, thread, action).await?;
    if action.standing(now) != ActionStatus::Pending {
        return Err(settled(action.lapsed(now)));
    }
    if approve && shown.is_some() && action.revision.is_some() && shown != action.revision {
        return Err(changed(&action));
    }
    let actor = Actor { caller: caller.clone(), address, thread };
    let (mut unit, then) = match approve {
        true => match carry_out(app, &actor, &action).await? {
            Carried::Out(agent, Draft { mut unit, then, .. }) => {
                others::take_along(app, &actor, &action, &agent, &mut unit).await?;
                (unit, then)
            }
            Carried::Stale(agent) => return Err(show_anew(app, &actor, &action, &agent).await?),
            Carried::Lapsed(lapse) => return Err(others::let_lapse(app, &actor, &action, lapse).await?),
        },
        false => (Unit::new(), Vec::new()),
    };
    action.status = if approve { ActionStatus::Done } else { ActionStatus::Declined };
    (action.decided_at, action.decided_by) = (Some(now), Some(caller.actor()));
    store::builder::settle(&mut unit, caller.workspace_id, &action, action.status, &caller.actor(), now);
    let what = if approve { "Confirmed and done" } else { "Declined" };
    add_note(app, &mut unit, caller, &action, what)?;
    Ok(Draft { unit, value: action, then })
}

/// What a confirmation is answered with by somebody who was shown the action before it was moved on: somebody else has
/// confirmed another one of its thread. Declining needs no second look.
fn changed(action: &Action) -> Error {
    let message = format!(
        "The agent has changed since this was shown to you. Read the thread, look at it as it is now ({}), and decide again.",
        action.summary
    );
    Error::with_message(Code::ActionChanged, message)
}

/// What a decision is answered with that comes too late.
pub(super) fn settled(lapse: Option<Lapse>) -> Error {
    let message = match lapse {
        Some(Lapse::AgentDeleted) => "The agent was deleted: nothing is left to confirm.",
        Some(Lapse::Gone) => "What this is about is not there any more: nothing is left to confirm.",
        Some(Lapse::TooLate) => "Nobody decided about this within 24 hours. Ask the builder for it again.",
        Some(Lapse::ShownAnew) => {
            "The agent has changed since this was shown. It is shown anew in the thread: look at it and decide again."
        }
        None => return Error::new(Code::ActionSettled),
    };
    Error::with_message(Code::ActionSettled, message)
}

/// What came of a confirmation.
enum Carried {
    /// What was shown, of the agent as it was: its writes, and what is sent after them.
    Out(Box<Agent>, Draft<perform::Made>),
    /// Nothing: the agent is not what was shown any more.
    Stale(Box<Agent>),
    /// Nothing: it is about nothing any more.
    Lapsed(Lapse),
}

async fn carry_out(app: &App, actor: &Actor, action: &Action) -> Result<Carried> {
    let tool = Tool::find(&action.tool).ok_or_else(|| Error::new(Code::ActionSettled))?;
    let draft = if tool == Tool::DeleteAgent {
        let name = action.arguments["name"].as_str().unwrap_or_default();
        perform::delete(app, actor, action.agent_id, name).await
    } else {
        perform::perform(app, actor, tool, &action.arguments).await
    };
    // Read after the draft, whose writes hold only for what the agent was before: a change in between fails them.
    let agent = match store::agent::get(&app.table, actor.caller.workspace_id, action.agent_id).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Carried::Lapsed(Lapse::AgentDeleted)),
        agent => Box::new(agent?.body),
    };
    if action.revision.is_some_and(|shown| shown != agent.revision) {
        return Ok(Carried::Stale(agent));
    }
    match draft {
        Err(error) if error.kind() == Kind::NotFound => Ok(Carried::Lapsed(Lapse::Gone)),
        Err(error) if error.code() == Code::ConfirmationMismatch => Err(Error::new(Code::ActionSettled)),
        draft => Ok(Carried::Out(agent, draft?)),
    }
}

/// Stores the same call as another action, shown as the agent is now: whoever wants it has to look again. Gives what the
/// decision is answered with.
async fn show_anew(app: &App, actor: &Actor, action: &Action, agent: &Agent) -> Result<Error> {
    let workspace = actor.caller.workspace_id;
    let tool = Tool::find(&action.tool).ok_or_else(|| Error::new(Code::ActionSettled))?;
    let anew = ask(app, actor, tool, agent, &action.arguments);
    let mut unit = Unit::new();
    store::builder::expire(&mut unit, workspace, action, Lapse::ShownAnew);
    store::builder::create_action(&mut unit, workspace, &anew)?;
    add_note(app, &mut unit, &actor.caller, &anew, "Not done, since the agent has changed, and shown anew")?;
    perform::note_down(app, actor, &mut unit, "show_builder_action_anew", target(action))?;
    app.commit(unit).await?;
    Ok(settled(Some(Lapse::ShownAnew)))
}

/// The action, as the audit log names it.
pub(super) fn target(action: &Action) -> String {
    format!("/api/builder/threads/{}/actions/{}", action.thread_id.text(), action.id.text())
}

/// What the thread says of an action, if the thread is still there.
pub(super) fn add_note(app: &App, unit: &mut Unit, caller: &Caller, action: &Action, what: &str) -> Result<()> {
    let (workspace, thread) = (caller.workspace_id, action.thread_id);
    unit.check(store::keys::builder_thread(workspace, thread), store::builder::stands(), Error::not_found());
    store::builder::add_message(unit, workspace, thread, &note(app, action, what))
}

fn note(app: &App, action: &Action, what: &str) -> BuilderMessage {
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
