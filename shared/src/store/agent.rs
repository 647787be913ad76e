//! Agents: heads, sections, snapshots, secrets, public slugs.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::keys;
use crate::domain::agent::{
    AgentVersion, Definition, MAX_VERSIONS, PublicAlias, SecretField, Snapshot, SnapshotSecrets, StoredSecret,
    ToolBinding,
};
use crate::domain::plan::{CATALOGUE, Plan};
use crate::domain::slug::is_public_slug;
use crate::domain::tool::Builtin;
use crate::domain::{Agent, BillingAccount, Workspace};
use crate::kernel::secret::Sealed;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result};
use crate::table::{Cond, Index, Item, Query, Row, Table, Unit, Update, Versioned, decode};

fn head_row(agent: &Agent) -> Result<Row> {
    Row::new(keys::agent(agent.workspace_id, agent.id), "agent", agent)
}

/// Adds a new agent with its slug guard.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, agent: &Agent) -> Result<()> {
    let guard =
        Row::new(keys::agent_slug(agent.workspace_id, &agent.slug), "agent_slug", &json!({"agent_id": agent.id}))?;
    unit.create_fresh(guard);
    unit.create_fresh(head_row(agent)?);
    Ok(())
}

/// Replaces a head that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, agent: &Agent, v: u64) -> Result<()> {
    unit.replace(head_row(agent)?, v);
    Ok(())
}

/// The head as a unit will leave it, when the unit writes it.
///
/// # Errors
/// When it does not read.
pub fn written(unit: &Unit) -> Result<Option<Agent>> {
    unit.rows_of("agent").next().cloned().map(decode).transpose()
}

/// One agent's head.
///
/// # Errors
/// `not_found` when the workspace has no such agent, or the table cannot be read.
pub async fn get(table: &Table, workspace: Id<Workspace>, agent: Id<Agent>) -> Result<Versioned<Agent>> {
    table.get_versioned(&keys::agent(workspace, agent)).await?.ok_or_else(Error::not_found)
}

/// A page of heads, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(
    table: &Table,
    workspace: Id<Workspace>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Agent>> {
    let query = Query::prefix(Index::Main, keys::workspace_pk(workspace), keys::AGENT).newest_first().after(after);
    table.page(&query, limit).await
}

/// Every head of a workspace, oldest first; their number is bounded by plan and draft limit.
///
/// # Errors
/// When the table cannot be read.
pub async fn all(table: &Table, workspace: Id<Workspace>) -> Result<Vec<Agent>> {
    let query = Query::prefix(Index::Main, keys::workspace_pk(workspace), keys::AGENT);
    table.all(&query, 1_000).await?.into_iter().map(decode).collect()
}

/// The sections and bindings of an agent.
///
/// # Errors
/// When the table cannot be read.
pub async fn definition(table: &Table, workspace: Id<Workspace>, agent: Id<Agent>) -> Result<Definition> {
    let (from, to) = keys::DEFINITION;
    let query = Query::between(Index::Main, keys::agent_pk(workspace, agent), from, to);
    let mut definition = Definition::default();
    for item in table.all(&query, 200).await? {
        let sk = sort_key(&item).to_owned();
        match sk.as_str() {
            "DEF#IDENTITY" => definition.identity = section(item)?,
            "DEF#PERSONALITY" => definition.personality = section(item)?,
            "DEF#OBJECTIVES" => definition.objectives = section(item)?,
            "DEF#SKILLS" => definition.skills = section(item)?,
            "DEF#PLAYBOOKS" => definition.playbooks = section(item)?,
            "DEF#GUARDRAILS" => definition.guardrails = section(item)?,
            "DEF#WIDGET" => definition.widget = section(item)?,
            sk if sk.starts_with("BIND#") => definition.tools.push(decode::<ToolBinding>(item)?),
            _ => {}
        }
    }
    definition.tools.sort_by_key(|binding| binding.created_at);
    Ok(definition)
}

fn section<T: DeserializeOwned>(item: Item) -> Result<T> {
    #[derive(serde::Deserialize)]
    struct Section<T> {
        body: T,
    }
    Ok(decode::<Section<T>>(item)?.body)
}

/// A section that can be stored.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the sections of `domain::agent`")]
pub enum Section {
    Identity,
    Personality,
    Objectives,
    Skills,
    Playbooks,
    Guardrails,
    Widget,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Personality,
        Self::Objectives,
        Self::Skills,
        Self::Playbooks,
        Self::Guardrails,
        Self::Widget,
    ];
}

/// Puts a section. The agent's head is replaced in the same unit, whose version keeps two editors apart.
///
/// # Errors
/// When it does not serialise.
pub fn put_section(unit: &mut Unit, agent: &Agent, name: Section, definition: &Definition) -> Result<()> {
    fn body<T: Serialize>(value: &T) -> Result<Value> {
        serde_json::to_value(value).map(|body| json!({"body": body})).map_err(Error::internal)
    }
    let (name, body) = match name {
        Section::Identity => ("IDENTITY", body(&definition.identity)?),
        Section::Personality => ("PERSONALITY", body(&definition.personality)?),
        Section::Objectives => ("OBJECTIVES", body(&definition.objectives)?),
        Section::Skills => ("SKILLS", body(&definition.skills)?),
        Section::Playbooks => ("PLAYBOOKS", body(&definition.playbooks)?),
        Section::Guardrails => ("GUARDRAILS", body(&definition.guardrails)?),
        Section::Widget => ("WIDGET", body(&definition.widget)?),
    };
    unit.put(Row::new(keys::section(agent.workspace_id, agent.id, name), "section", &body)?);
    Ok(())
}

/// Puts a tool binding.
///
/// # Errors
/// When it does not serialise.
pub fn put_tool(unit: &mut Unit, agent: &Agent, binding: &ToolBinding) -> Result<()> {
    let key = keys::tool_binding(agent.workspace_id, agent.id, binding.tool);
    unit.put(Row::new(key, "tool_binding", binding)?);
    Ok(())
}

/// Removes a tool binding.
pub fn delete_tool(unit: &mut Unit, agent: &Agent, tool: Builtin) {
    unit.delete(keys::tool_binding(agent.workspace_id, agent.id, tool));
}

/// Puts or removes a sealed secret.
///
/// # Errors
/// When it does not serialise.
pub fn put_secret(unit: &mut Unit, agent: &Agent, field: SecretField, sealed: Option<Sealed>) -> Result<()> {
    let key = keys::agent_secret(agent.workspace_id, agent.id, field.key());
    match sealed {
        Some(sealed) => unit.put(Row::new(key, "agent_secret", &StoredSecret { sealed })?),
        None => unit.delete(key),
    };
    Ok(())
}

/// The sealed secrets that a snapshot has with it.
///
/// # Errors
/// When the table cannot be read.
pub async fn secrets(table: &Table, workspace: Id<Workspace>, agent: Id<Agent>) -> Result<SnapshotSecrets> {
    let query = Query::prefix(Index::Main, keys::agent_pk(workspace, agent), keys::AGENT_SECRET);
    let mut secrets = SnapshotSecrets::default();
    for item in table.all(&query, 10).await? {
        let place = match sort_key(&item).strip_prefix(keys::AGENT_SECRET) {
            Some(field) if field == SecretField::AiKey.key() => &mut secrets.ai_key,
            Some(field) if field == SecretField::Identity.key() => &mut secrets.identity,
            _ => continue,
        };
        *place = Some(decode::<StoredSecret>(item)?.sealed);
    }
    Ok(secrets)
}

/// One sealed secret of an agent, cached.
///
/// # Errors
/// When the table cannot be read.
pub async fn secret(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    field: SecretField,
) -> Result<Option<Arc<StoredSecret>>> {
    table.get_cached(&keys::agent_secret(workspace, agent, field.key())).await
}

fn sort_key(item: &Item) -> &str {
    item.get("sk").and_then(|sk| sk.as_s().ok()).map_or("", String::as_str)
}

/// Puts the live snapshot.
///
/// # Errors
/// When it does not serialise.
pub fn put_snapshot(unit: &mut Unit, snapshot: &Snapshot) -> Result<()> {
    unit.put(Row::new(keys::live(snapshot.workspace_id, snapshot.agent_id), "live", snapshot)?);
    Ok(())
}

/// Removes the live snapshot: from then on the agent does not answer.
pub fn delete_snapshot(unit: &mut Unit, agent: &Agent) {
    unit.delete(keys::live(agent.workspace_id, agent.id));
}

/// The live snapshot, cached.
///
/// # Errors
/// When the table cannot be read.
pub async fn snapshot(table: &Table, workspace: Id<Workspace>, agent: Id<Agent>) -> Result<Option<Arc<Snapshot>>> {
    table.get_cached(&keys::live(workspace, agent)).await
}

/// Takes a public slug that was free. When somebody took it meanwhile, the command is run again and finds another.
///
/// # Errors
/// When it does not serialise.
pub fn create_public_slug(unit: &mut Unit, slug: &str, alias: PublicAlias) -> Result<()> {
    unit.create_fresh(Row::new(keys::public_slug(slug), "public_slug", &alias)?);
    Ok(())
}

/// Where a public slug leads, cached.
///
/// # Errors
/// When the table cannot be read.
pub async fn public_alias(table: &Table, slug: &str) -> Result<Option<Arc<PublicAlias>>> {
    // Whatever else stands in a path is no slug, and may be longer than a key can be.
    if !is_public_slug(slug) {
        return Ok(None);
    }
    table.get_cached(&keys::public_slug(slug)).await
}

/// Counts one more published agent, up to what the plan allows; beyond that the unit fails with `agent_limit_reached`,
/// which names the plan that would allow it.
pub fn count_published(unit: &mut Unit, account: Id<BillingAccount>, plan: &Plan) {
    let below = Cond::absent("n").or(Cond::lt("n", plan.agents));
    let update = Update::new(keys::published_agents(account)).add("n", 1);
    let agents = |count: u64| if count == 1 { "1 agent".to_owned() } else { format!("{count} agents") };
    let now = format!("The plan {} allows {} to be published.", plan.name, agents(plan.agents));
    let message = match CATALOGUE.iter().find(|other| other.agents > plan.agents) {
        Some(larger) => format!("{now} {} allows {}. Unpublish one or choose it.", larger.name, agents(larger.agents)),
        None => format!("{now} There is no larger one. Unpublish one."),
    };
    unit.update(update, below, Error::with_message(Code::AgentLimitReached, message));
}

/// Counts one less.
pub fn uncount_published(unit: &mut Unit, account: Id<BillingAccount>) {
    unit.upsert(Update::new(keys::published_agents(account)).add("n", -1));
}

/// How many agents an account has published.
///
/// # Errors
/// When the table cannot be read.
pub async fn published_count(table: &Table, account: Id<BillingAccount>) -> Result<u64> {
    let count: Option<PublishedCount> = table.get(&keys::published_agents(account)).await?;
    Ok(count.map_or(0, PublishedCount::agents))
}

/// The counter of an account's published agents.
#[derive(serde::Deserialize)]
pub(super) struct PublishedCount {
    n: i64,
}

impl PublishedCount {
    pub(super) fn agents(self) -> u64 {
        u64::try_from(self.n).unwrap_or(0)
    }
}

/// Keeps a version.
///
/// # Errors
/// When it does not serialise.
pub fn put_version(unit: &mut Unit, version: &AgentVersion) -> Result<()> {
    let key = keys::version(version.workspace_id, version.agent_id, version.number);
    unit.put(Row::new(key, "agent_version", version)?);
    Ok(())
}

/// Lets a version go.
pub fn delete_version(unit: &mut Unit, agent: &Agent, number: u32) {
    unit.delete(keys::version(agent.workspace_id, agent.id, number));
}

/// The versions of an agent, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn versions(table: &Table, workspace: Id<Workspace>, agent: Id<Agent>) -> Result<Vec<AgentVersion>> {
    let query = Query::prefix(Index::Main, keys::agent_pk(workspace, agent), keys::VERSION).newest_first();
    table.query(&query, MAX_VERSIONS as usize).await?.items.into_iter().map(decode).collect()
}

/// One version.
///
/// # Errors
/// When the table cannot be read.
pub async fn version(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    number: u32,
) -> Result<Option<AgentVersion>> {
    table.get(&keys::version(workspace, agent, number)).await
}

/// Removes an agent: head, guards, definition, bindings, secrets, snapshot, public slug. Its conversations stay.
pub fn delete(unit: &mut Unit, agent: &Agent, v: u64, definition: &Definition) {
    let (workspace, id) = (agent.workspace_id, agent.id);
    unit.delete_if(keys::agent(workspace, id), Cond::version(v), Error::new(Code::ConcurrentChange));
    unit.delete(keys::agent_slug(workspace, &agent.slug));
    unit.delete(keys::live(workspace, id));
    for name in ["IDENTITY", "PERSONALITY", "OBJECTIVES", "SKILLS", "PLAYBOOKS", "GUARDRAILS", "WIDGET"] {
        unit.delete(keys::section(workspace, id, name));
    }
    for field in SecretField::ALL {
        unit.delete(keys::agent_secret(workspace, id, field.key()));
    }
    for binding in &definition.tools {
        delete_tool(unit, agent, binding.tool);
    }
    for number in agent.minor.saturating_sub(MAX_VERSIONS)..=agent.minor {
        delete_version(unit, agent, number);
    }
}
