//! `/api/agents/{id}/versions`: what an agent was at each publication and before what replaced it; rows of the group [`crate::agents`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::app::version::Restored;
use shared::app::{App, version};
use shared::domain::Agent;
use shared::domain::agent::{AgentVersion, Difference};
use shared::http::{Call, Done, Json, Path, Query};
use shared::kernel::{Int, Result, Time};

use crate::agents::AgentOut;
use crate::wire::{ListOut, actor};

shared::ops! {
    /// List the versions of an agent, newest first.
    ///
    /// Each publication of something new makes one, and so does a roll-back of what it replaces. Edits of a published agent go
    /// live at once: one keeps what it replaces where that had been live for ten minutes and is in no version. The last fifty
    /// are kept and always listed as a whole: there is no `limit`.
    GET "/api/agents/{id}/versions" => list_versions,
        [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// One version of an agent, whole.
    GET "/api/agents/{id}/versions/{number}" => find_version,
        [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// What is different from a version to another one, or to what the agent is now.
    GET "/api/agents/{id}/versions/{number}/diff" => diff_version,
        [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// Bring a version back.
    ///
    /// It is published as a new version. What it replaces is kept as one too, unless the newest version is the same:
    /// `kept_version` names it. Secrets, and where they are sent, stay as they are. 422 when its
    /// provider could never be asked.
    POST "/api/agents/{id}/versions/{number}/restore" => restore_version,
        [User Developer] Editor "agents:write" General Any Known Audited Keyed also [402] + assisted;
}

/// A version as lists show it.
#[derive(Debug, Serialize, JsonSchema)]
struct VersionOut {
    /// Names it in paths.
    number: u32,
    /// `1.<number>`, as the agent shows it.
    version: String,
    agent_id: Int<Agent>,
    name: String,
    /// Who published it, or replaced it if it was kept: `user_` or `key_` with the id.
    author: String,
    /// When it was published, or replaced.
    published_at: Time,
    /// The version that it brought back, if it did.
    restored: Option<u32>,
    /// Whether nobody published it: an edit or a roll-back replaced it, and it was kept.
    kept: bool,
}

/// A version, whole.
#[derive(Debug, Serialize, JsonSchema)]
struct VersionDetailOut {
    #[serde(flatten)]
    listed: VersionOut,
    /// What the agent was: the fields of the agent, with its sections and tools, without secrets.
    body: Value,
}

impl From<&AgentVersion> for VersionOut {
    fn from(version: &AgentVersion) -> Self {
        Self {
            number: version.number,
            version: format!("1.{}", version.number),
            agent_id: version.agent_id.into(),
            name: version.body.name.clone(),
            author: actor(&version.author),
            published_at: version.published_at,
            restored: version.restored,
            kept: version.kept,
        }
    }
}

async fn list_versions(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
) -> Result<Json<ListOut<VersionOut>>> {
    let versions = version::list(&app, &call.caller, id.0).await?;
    Ok(Json(ListOut::whole(versions.iter().map(VersionOut::from).collect())))
}

async fn find_version(
    State(app): State<App>,
    call: Call,
    Path((id, number)): Path<(Int<Agent>, u32)>,
) -> Result<Json<VersionDetailOut>> {
    let version = version::find(&app, &call.caller, id.0, number).await?;
    let body = serde_json::to_value(&version.body).unwrap_or_default();
    Ok(Json(VersionDetailOut { listed: (&version).into(), body }))
}

/// With what to compare.
#[derive(Debug, Deserialize, JsonSchema)]
struct DiffQuery {
    /// Another version; what the agent is now when absent.
    #[serde(default)]
    to: Option<u32>,
}

/// What is different.
#[derive(Debug, Serialize, JsonSchema)]
struct DiffOut {
    from: u32,
    /// Null for what the agent is now.
    to: Option<u32>,
    changes: Vec<ChangeOut>,
}

/// A field that is different.
#[derive(Debug, Serialize, JsonSchema)]
struct ChangeOut {
    /// Such as `system_prompt`, `widget.accent` or `tools.http_request.config`.
    field: String,
    before: Value,
    after: Value,
}

impl From<Difference> for ChangeOut {
    fn from(difference: Difference) -> Self {
        let Difference { field, before, after } = difference;
        Self { field, before, after }
    }
}

async fn diff_version(
    State(app): State<App>,
    call: Call,
    Path((id, from)): Path<(Int<Agent>, u32)>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<DiffOut>> {
    let changes = version::differences(&app, &call.caller, id.0, from, query.to).await?;
    Ok(Json(DiffOut { from, to: query.to, changes: changes.into_iter().map(ChangeOut::from).collect() }))
}

/// An agent with a version brought back.
#[derive(Debug, Serialize, JsonSchema)]
struct RestoredOut {
    #[serde(flatten)]
    agent: AgentOut,
    /// The version that holds what was replaced; null when the newest one did already.
    kept_version: Option<u32>,
}

async fn restore_version(
    State(app): State<App>,
    call: Call,
    Path((id, number)): Path<(Int<Agent>, u32)>,
) -> Result<Done<RestoredOut>> {
    let owner = call.caller.owner_user_id;
    let restore = || version::restore(&app, &call.caller, id.0, number);
    call.run(&app, restore, |Restored { detail, kept }| RestoredOut {
        agent: AgentOut::new(&app, owner, detail),
        kept_version: kept,
    })
    .await
}
