//! Versions of agents: each explicit publication is kept, shown, compared and brought back.

use super::agent::{self, Detail};
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::Agent;
use crate::domain::agent::{AgentVersion, Definition, Difference, MAX_VERSIONS, VersionBody};
use crate::kernel::{Error, Id, Result};
use crate::store;
use crate::store::agent::Section;
use crate::table::Unit;

/// Keeps what an agent is at its publication, and lets go of the version that is one too many.
///
/// # Errors
/// When it does not serialise.
pub(super) fn keep(
    app: &App,
    caller: &Caller,
    unit: &mut Unit,
    (agent, definition): (&Agent, &Definition),
    restored: Option<u32>,
) -> Result<()> {
    let version = AgentVersion {
        number: agent.minor,
        workspace_id: agent.workspace_id,
        agent_id: agent.id,
        author: caller.actor(),
        published_at: app.now(),
        restored,
        body: VersionBody::of(agent, definition),
    };
    store::agent::put_version(unit, &version)?;
    if let Some(old) = agent.minor.checked_sub(MAX_VERSIONS) {
        store::agent::delete_version(unit, agent, old);
    }
    Ok(())
}

/// The versions of an agent, newest first; the last fifty are kept.
///
/// # Errors
/// `not_found`.
pub async fn list(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Vec<AgentVersion>> {
    let (_, versions) = tokio::try_join!(
        store::agent::get(&app.table, caller.workspace_id, agent),
        store::agent::versions(&app.table, caller.workspace_id, agent)
    )?;
    Ok(versions)
}

/// One version.
///
/// # Errors
/// `not_found`.
pub async fn find(app: &App, caller: &Caller, agent: Id<Agent>, number: u32) -> Result<AgentVersion> {
    let version = store::agent::version(&app.table, caller.workspace_id, agent, number).await?;
    version.ok_or_else(Error::not_found)
}

/// What is different from a version to another one, or to what the agent is now.
///
/// # Errors
/// `not_found`.
pub async fn differences(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    number: u32,
    to: Option<u32>,
) -> Result<Vec<Difference>> {
    let before = find(app, caller, agent, number).await?.body;
    let after = match to {
        Some(number) => find(app, caller, agent, number).await?.body,
        None => {
            let Detail { agent, definition, .. } = agent::detail(app, caller, agent).await?;
            VersionBody::of(&agent, &definition)
        }
    };
    Ok(before.differences(&after))
}

/// Brings a version back: it is published as a new one. Secrets, and where they are sent, stay as they are.
///
/// # Errors
/// `not_found`, `agent_limit_reached` when the agent is not published and no further one may be.
pub async fn restore(app: &App, caller: &Caller, agent: Id<Agent>, number: u32) -> Result<Draft<Detail>> {
    let version = find(app, caller, agent, number).await?;
    let mut editing = agent::edit(app, caller, agent).await?;
    let mut unit = Unit::new();
    let (head, definition) = (&mut editing.agent.body, &mut editing.definition);
    let before: Vec<_> = definition.tools.iter().map(|binding| binding.tool).collect();
    version.body.restore(head, definition);
    for gone in before.into_iter().filter(|tool| definition.tool(*tool).is_none()) {
        store::agent::delete_tool(&mut unit, head, gone);
    }
    for binding in &definition.tools {
        store::agent::put_tool(&mut unit, head, binding)?;
    }
    for section in Section::ALL {
        store::agent::put_section(&mut unit, head, section, definition)?;
    }
    agent::go_live(app, &mut unit, head, &editing.workspace.body).await?;
    keep(app, caller, &mut unit, (head, definition), Some(number))?;
    crate::events::emit(&mut unit, &app.events().agent_published(head))?;
    agent::with_counts(app, editing.save(app, unit)?).await
}
