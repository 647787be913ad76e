//! What becomes of the actions that wait beside one that is decided.

use super::action::{add_note, settled, target};
use super::perform::{self, Actor};
use super::thread::SHOWN;
use super::tools::Tool;
use crate::app::App;
use crate::domain::Agent;
use crate::domain::builder::{Action, ActionStatus, Lapse};
use crate::kernel::{Error, Result};
use crate::store;
use crate::table::{MAX_WRITES, Unit};

/// What a decision itself writes beside what is carried out: how it ends, the note with the demand that the thread is
/// there, the audit entry and the answer for a repeat.
const OWN_WRITES: usize = 5;

/// Adds what a confirmation means for the others about the same agent to its unit. Whoever confirms one of several that
/// were asked for together has seen them all: those that were shown with the agent as it was (`before`) are shown with
/// what the unit makes of it, and need no second look. Those of an agent that the unit deletes expire. What finds no room
/// in the transaction stays as it is: it is shown anew, or expires, when somebody confirms it.
pub(super) async fn take_along(
    app: &App,
    actor: &Actor,
    decided: &Action,
    before: &Agent,
    unit: &mut Unit,
) -> Result<()> {
    let after = store::agent::written(unit)?;
    if after.is_none() && Tool::find(&decided.tool) != Some(Tool::DeleteAgent) {
        return Ok(());
    }
    let room = MAX_WRITES.saturating_sub(unit.len() + OWN_WRITES);
    for other in beside(app, actor, decided).await?.iter().take(room) {
        match &after {
            None => store::builder::expire(unit, actor.caller.workspace_id, other, Lapse::AgentDeleted),
            Some(after) => follow(unit, actor, other, (before, after)),
        }
    }
    Ok(())
}

/// What else waits in the thread about the same agent.
async fn beside(app: &App, actor: &Actor, decided: &Action) -> Result<Vec<Action>> {
    let now = app.now();
    let mut actions = store::builder::actions(&app.table, actor.caller.workspace_id, actor.thread, SHOWN).await?;
    actions.retain(|other| {
        let waits = other.standing(now) == ActionStatus::Pending;
        waits && other.agent_id == decided.agent_id && other.id != decided.id
    });
    Ok(actions)
}

/// Moves an action on to what the agent becomes, if it was shown with what the agent was and is still about an agent of
/// that name.
fn follow(unit: &mut Unit, actor: &Actor, other: &Action, (before, after): (&Agent, &Agent)) {
    let Some(tool) = Tool::find(&other.tool) else { return };
    if other.revision == Some(before.revision) && after.name == before.name {
        // The sentence may tell whether the agent is live.
        let summary = perform::summary(tool, after, &other.arguments);
        store::builder::follow(unit, actor.caller.workspace_id, other, after.revision, &summary);
    }
}

/// Lets an action expire that somebody confirms and that is about nothing any more, with all others about an agent that
/// was deleted. Gives what the decision is answered with.
pub(super) async fn let_lapse(app: &App, actor: &Actor, action: &Action, lapse: Lapse) -> Result<Error> {
    let (workspace, mut unit) = (actor.caller.workspace_id, Unit::new());
    store::builder::expire(&mut unit, workspace, action, lapse);
    add_note(app, &mut unit, &actor.caller, action, "Not done, since there is nothing left to do it to")?;
    perform::note_down(app, actor, &mut unit, "expire_builder_action", target(action))?;
    if lapse == Lapse::AgentDeleted {
        let room = MAX_WRITES.saturating_sub(unit.len());
        let others = beside(app, actor, action).await?;
        others.iter().take(room).for_each(|other| store::builder::expire(&mut unit, workspace, other, lapse));
    }
    app.commit(unit).await?;
    Ok(settled(Some(lapse)))
}
