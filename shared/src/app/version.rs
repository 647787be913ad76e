//! Versions of agents: each explicit publication, and what edits and roll-backs replace, is kept, shown, compared and
//! brought back.

use std::time::Duration;

use super::agent::{self, Detail};
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::Agent;
use crate::domain::agent::{AgentVersion, Definition, Difference, MAX_VERSIONS, VersionBody};
use crate::kernel::{Error, Id, Result};
use crate::store;
use crate::store::agent::Section;
use crate::table::Unit;

/// How long a published agent must have been what it is for an edit to keep it as a version. Edits that follow each other
/// closely are one to whoever makes them, and would fill the history.
const LIVED: Duration = Duration::from_secs(600);

/// Keeps what an agent is at its publication.
///
/// # Errors
/// When it does not serialise.
pub(super) fn published(
    app: &App,
    caller: &Caller,
    unit: &mut Unit,
    (agent, definition): (&Agent, &Definition),
    restored: Option<u32>,
) -> Result<()> {
    let body = VersionBody::of(agent, definition);
    put(unit, agent, &AgentVersion { restored, ..version(app, caller, agent, agent.minor, body) })
}

/// Keeps what is about to be replaced, under the number that [`unkept`] gave it.
///
/// # Errors
/// When it does not serialise.
pub(super) fn keep(unit: &mut Unit, agent: &mut Agent, version: &AgentVersion) -> Result<()> {
    agent.minor = version.number;
    put(unit, agent, version)
}

/// What an agent is, as a version to be kept; `None` when its newest one says the same.
///
/// # Errors
/// When the table cannot be read.
pub(super) async fn unkept(
    app: &App,
    caller: &Caller,
    agent: &Agent,
    definition: &Definition,
) -> Result<Option<AgentVersion>> {
    let newest = store::agent::version(&app.table, agent.workspace_id, agent.id, agent.minor).await?;
    let body = VersionBody::of(agent, definition);
    let differs = newest.is_none_or(|newest| newest.body != body);
    Ok(differs.then(|| AgentVersion { kept: true, ..version(app, caller, agent, agent.minor + 1, body) }))
}

/// What an edit must keep of a published agent: what has been live for a while and is in no version.
///
/// # Errors
/// When the table cannot be read.
pub(super) async fn unkept_by_edits(
    app: &App,
    caller: &Caller,
    agent: &Agent,
    definition: &Definition,
) -> Result<Option<AgentVersion>> {
    if !agent.is_published() || app.now().since(agent.updated_at) < LIVED {
        return Ok(None);
    }
    unkept(app, caller, agent, definition).await
}

fn version(app: &App, caller: &Caller, agent: &Agent, number: u32, body: VersionBody) -> AgentVersion {
    AgentVersion {
        number,
        workspace_id: agent.workspace_id,
        agent_id: agent.id,
        author: caller.actor(),
        published_at: app.now(),
        restored: None,
        kept: false,
        body,
    }
}

/// Writes a version, and lets go of the one that is one too many.
fn put(unit: &mut Unit, agent: &Agent, version: &AgentVersion) -> Result<()> {
    store::agent::put_version(unit, version)?;
    if let Some(old) = version.number.checked_sub(MAX_VERSIONS) {
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

/// An agent with a version brought back.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What it is now.
    pub detail: Detail,
    /// The version that holds what it was just before, if no other one did.
    pub kept: Option<u32>,
}

/// Brings a version back: it is published as a new one. What it replaces is kept as a version of its own, where none
/// holds it, so that this can be undone too. Secrets, and where they are sent, stay as they are.
///
/// # Errors
/// `not_found`, `agent_limit_reached` when the agent is not published and no further one may be, `validation_error` when
/// the provider that it would have cannot be asked.
pub async fn restore(app: &App, caller: &Caller, agent: Id<Agent>, number: u32) -> Result<Draft<Restored>> {
    let version = find(app, caller, agent, number).await?;
    let mut editing = agent::load(app, caller, agent).await?;
    let mut unit = Unit::new();
    let (head, definition) = (&mut editing.agent.body, &mut editing.definition);
    let replaced = unkept(app, caller, head, definition).await?;
    if let Some(replaced) = &replaced {
        keep(&mut unit, head, replaced)?;
    }
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
    published(app, caller, &mut unit, (head, definition), Some(number))?;
    crate::events::emit(&mut unit, &app.events().agent_published(head))?;
    let draft = agent::with_counts(app, editing.save(app, unit)?).await?;
    Ok(draft.map(|detail| Restored { detail, kept: replaced.map(|replaced| replaced.number) }))
}
