//! Building, publishing and deleting agents.

use serde_json::{Map, Value};

use super::whatsapp::line;
use super::{App, Draft, ai_key, tool_config, version};
use crate::access::Caller;
use crate::domain::Workspace;
use crate::domain::agent::{
    Agent, AgentStatus, AgentVersion, Definition, MAX_DRAFTS, MAX_TOOLS, PublicAlias, SecretField, Snapshot,
    SnapshotSecrets, ToolBinding, Widget, compile,
};
use crate::domain::slug::{public_slug_candidate, slugify};
use crate::domain::text::Checks;
use crate::domain::tool::Builtin;
use crate::domain::whatsapp::MetaLine;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Patch, Result, Secret};
use crate::store;
use crate::store::agent::Section;
use crate::store::rollup::AgentCounts;
use crate::table::{Unit, Versioned};

/// What a caller says of an agent. At creation absent means none; in a change absent means as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Patch<String>,
    /// The body of the default playbook.
    pub system_prompt: Option<String>,
    /// Model provider.
    pub provider: Patch<String>,
    /// Model name.
    pub model: Patch<String>,
    /// What it says first.
    pub greeting_message: Patch<String>,
    /// What it says when it cannot answer.
    pub fallback_message: Patch<String>,
    /// Whether it answers at all.
    pub enabled: Option<bool>,
    /// The customer's model key.
    pub ai_api_key: Patch<Secret>,
    /// Where a compatible provider listens.
    pub ai_base_url: Patch<String>,
    /// The customer's `WhatsApp` line.
    pub line: line::Changes,
    /// How the chat looks.
    pub widget: Option<Widget>,
}

/// A new agent.
#[derive(Debug, Clone)]
pub struct Create {
    /// Everything but its tools.
    pub changes: Changes,
    /// Names of built-in tools.
    pub tools: Vec<String>,
    /// Whether it goes live at once.
    pub publish: bool,
}

/// An agent with its definition and counters.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The head.
    pub agent: Agent,
    /// The sections.
    pub definition: Definition,
    /// The counters.
    pub counts: AgentCounts,
}

pub(super) const MAX_PROMPT: usize = 32_000;
const MAX_SECRET: usize = 4_096;

/// Makes an agent.
///
/// # Errors
/// `validation_error`, also for a model key that its provider refuses, and for a provider that nobody knows where to
/// find; `agent_limit_reached` when it is to be published and the plan's number is reached, or when there are too many
/// drafts.
pub async fn create(app: &App, caller: &Caller, command: &Create) -> Result<Draft<Detail>> {
    keep_secrets(caller, &command.changes)?;
    let workspace = store::workspace::get(&app.table, caller.workspace_id).await?;
    let mut checks = Checks::new();
    let name = checks.name("name", command.changes.name.as_deref().unwrap_or_default(), 120);
    let tools: Vec<Builtin> = command.tools.iter().filter_map(|name| find_tool(&mut checks, "tools", name)).collect();
    let mut agent = new_agent(app, &workspace.body, name);
    let mut definition = Definition::default();
    apply(app, &mut checks, &mut agent, &mut definition, &command.changes);
    checks.finish()?;
    ai_key::check(app, &agent, &command.changes.ai_api_key).await?;
    let is_proven = line::check(app, &agent, &command.changes.line).await?;
    ensure_room(app, caller).await?;
    for tool in tools {
        if definition.tool(tool).is_none() {
            definition.tools.push(new_binding(app, tool, Map::new()));
        }
    }
    let mut unit = Unit::new();
    let events = app.events();
    crate::events::emit(&mut unit, &events.agent_created(&agent))?;
    let secrets = put_secrets(app, &mut unit, &mut agent, &command.changes).await?;
    line::follow(app, &mut unit, (None, agent.line().as_ref()), (true, is_proven)).await?;
    if command.publish {
        go_live(app, &mut unit, &mut agent, &workspace.body).await?;
        version::published(app, caller, &mut unit, (&agent, &definition), None)?;
        crate::events::emit(&mut unit, &events.agent_published(&agent))?;
        put_compiled(&mut unit, &agent, &definition, &workspace.body, secrets)?;
    }
    store::agent::create(&mut unit, &agent)?;
    store::agent::put_section(&mut unit, &agent, Section::Playbooks, &definition)?;
    store::agent::put_section(&mut unit, &agent, Section::Widget, &definition)?;
    for binding in &definition.tools {
        store::agent::put_tool(&mut unit, &agent, binding)?;
    }
    make_default(&mut unit, workspace, agent.id)?;
    Ok(Draft::new(unit, Detail { agent, definition, counts: AgentCounts::default() }))
}

/// Staff who act for somebody set none of their secrets, nor where these are sent.
fn keep_secrets(caller: &Caller, changes: &Changes) -> Result<()> {
    let names = changes.ai_api_key.is_present() || changes.line.name_secrets() || changes.ai_base_url.is_present();
    ensure_own_secrets(caller, names)
}

fn ensure_own_secrets(caller: &Caller, sets_secrets: bool) -> Result<()> {
    if sets_secrets && caller.impersonator.is_some() {
        return Err(Error::with_message(Code::Forbidden, "No secrets while you act for somebody else."));
    }
    Ok(())
}

fn new_agent(app: &App, workspace: &Workspace, name: String) -> Agent {
    let now = app.now();
    Agent {
        id: app.ids().id(),
        workspace_id: workspace.id,
        slug: format!("agent-{}-{}", slugify(&name, 24), app.rng.text(8)).replace("--", "-"),
        name,
        description: None,
        provider: None,
        model: None,
        ai_base_url: None,
        has_ai_key: false,
        kapso_phone_number_id: None,
        has_kapso_key: false,
        has_kapso_secret: false,
        meta: MetaLine::default(),
        has_identity_secret: false,
        greeting_message: None,
        fallback_message: None,
        enabled: true,
        status: AgentStatus::Draft,
        public_slug: None,
        minor: 0,
        revision: 0,
        auto_publish: false,
        published_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// Drafts are free, but not without end.
async fn ensure_room(app: &App, caller: &Caller) -> Result<()> {
    let agents = store::agent::all(&app.table, caller.workspace_id).await?;
    if agents.iter().filter(|agent| !agent.is_published()).count() >= MAX_DRAFTS {
        let message = format!("A workspace can keep {MAX_DRAFTS} unpublished agents. Delete one first.");
        return Err(Error::with_message(Code::AgentLimitReached, message));
    }
    Ok(())
}

/// The first agent of a workspace is its default one.
fn make_default(unit: &mut Unit, mut workspace: Versioned<Workspace>, agent: Id<Agent>) -> Result<()> {
    if workspace.body.default_agent_id.is_none() {
        workspace.body.default_agent_id = Some(agent);
        store::workspace::replace(unit, &workspace.body, workspace.v)?;
    }
    Ok(())
}

fn apply(app: &App, checks: &mut Checks, agent: &mut Agent, definition: &mut Definition, changes: &Changes) {
    if let Some(name) = &changes.name {
        agent.name = checks.name("name", name, 120);
    }
    if let Some(prompt) = &changes.system_prompt {
        definition.set_system_prompt(&checks.limited("system_prompt", prompt, MAX_PROMPT));
    }
    let texts = [
        ("description", &changes.description, 2_000, &mut agent.description),
        ("provider", &changes.provider, 60, &mut agent.provider),
        ("model", &changes.model, 120, &mut agent.model),
        ("greeting_message", &changes.greeting_message, 1_000, &mut agent.greeting_message),
        ("fallback_message", &changes.fallback_message, 1_000, &mut agent.fallback_message),
        ("config.ai.base_url", &changes.ai_base_url, 2_048, &mut agent.ai_base_url),
    ];
    for (name, change, max, field) in texts {
        match change {
            Patch::Keep => {}
            Patch::Clear => *field = None,
            Patch::Set(text) => *field = checks.optional(name, Some(text), max),
        }
    }
    if let Patch::Set(url) = &changes.ai_base_url
        && let Err(error) = app.egress.check_url(url)
    {
        checks.fail("config.ai.base_url", "egress_refused", error.message());
    }
    if changes.provider.is_present() || changes.ai_base_url.is_present() {
        ai_key::check_provider(app, checks, agent);
    }
    changes.line.apply(checks, agent);
    let secrets = changes.line.secrets().map(|(_, name, change)| (name, change));
    for (name, change) in secrets.into_iter().chain([("config.ai.api_key", &changes.ai_api_key)]) {
        let fits = change.value().is_none_or(|secret| secret.expose().len() <= MAX_SECRET);
        checks.ensure(fits, name, "too_long", &format!("{name} may have {MAX_SECRET} bytes"));
    }
    agent.enabled = changes.enabled.unwrap_or(agent.enabled);
    if let Some(widget) = &changes.widget {
        check_widget(checks, widget);
        definition.widget.clone_from(widget);
    }
}

fn check_widget(checks: &mut Checks, widget: &Widget) {
    let hex =
        |text: &str| text.len() == 7 && text.starts_with('#') && text[1..].bytes().all(|byte| byte.is_ascii_hexdigit());
    let accent = widget.accent.as_deref().is_none_or(hex);
    checks.ensure(accent, "widget.accent", "invalid_color", "widget.accent must be a color like #10b981");
    let avatar = widget.avatar.as_deref().is_none_or(|url| url.starts_with("https://") && url.len() <= 2_048);
    checks.ensure(avatar, "widget.avatar", "invalid_url", "widget.avatar must be an https URL");
    let few = widget.suggested_questions.len() <= 6;
    checks.ensure(few, "widget.suggested_questions", "too_many", "widget.suggested_questions may hold 6 questions");
    for question in &widget.suggested_questions {
        checks.required("widget.suggested_questions", question, 200);
    }
}

/// Seals the secrets that the caller sent. They are write-only: the head keeps only whether there is one.
async fn put_secrets(app: &App, unit: &mut Unit, agent: &mut Agent, changes: &Changes) -> Result<SnapshotSecrets> {
    let mut secrets = SnapshotSecrets::default();
    let given = changes.line.secrets().map(|(field, _, change)| (field, change));
    for (field, change) in given.into_iter().chain([(SecretField::AiKey, &changes.ai_api_key)]) {
        let sealed = match change {
            Patch::Keep => continue,
            Patch::Clear => None,
            Patch::Set(secret) if secret.expose().trim().is_empty() => None,
            Patch::Set(secret) => {
                let place = Agent::secret_place(agent.workspace_id, agent.id, field);
                Some(app.seal(&place, &Secret::new(secret.expose().trim())).await?)
            }
        };
        if field == SecretField::AiKey {
            secrets.ai_key.clone_from(&sealed);
        }
        line::show(agent, field, sealed.is_some());
        store::agent::put_secret(unit, agent, field, sealed)?;
    }
    Ok(secrets)
}

/// Marks an agent as published, if it can answer: counts it on the plan and mints its public slug, both when it was not
/// published yet.
pub(super) async fn go_live(app: &App, unit: &mut Unit, agent: &mut Agent, workspace: &Workspace) -> Result<()> {
    ai_key::ensure_can_answer(app, agent)?;
    if !agent.is_published() {
        let account = store::billing::get(&app.table, workspace.billing_account_id).await?;
        store::agent::count_published(unit, account.id, account.effective_plan());
    }
    if agent.public_slug.is_none() {
        let slug = free_public_slug(app, &agent.name).await?;
        let alias = PublicAlias {
            workspace_id: agent.workspace_id,
            agent_id: agent.id,
            billing_account_id: workspace.billing_account_id,
        };
        store::agent::create_public_slug(unit, &slug, alias)?;
        agent.public_slug = Some(slug);
    }
    agent.status = AgentStatus::Published;
    agent.auto_publish = true;
    agent.minor += 1;
    agent.published_at = Some(app.now());
    Ok(())
}

async fn free_public_slug(app: &App, name: &str) -> Result<String> {
    let plain = public_slug_candidate(name, None);
    if store::agent::public_alias(&app.table, &plain).await?.is_none() {
        return Ok(plain);
    }
    Ok(public_slug_candidate(name, Some(&app.rng.text(6))))
}

/// Compiles the agent and puts its live snapshot. Every edit of a published agent does this in its own transaction.
fn put_compiled(
    unit: &mut Unit,
    agent: &Agent,
    definition: &Definition,
    workspace: &Workspace,
    secrets: SnapshotSecrets,
) -> Result<()> {
    store::agent::put_snapshot(unit, &compile(agent, definition, workspace, secrets))
}

/// An agent as it is while it is being changed.
pub(super) struct Editing {
    pub(super) workspace: Versioned<Workspace>,
    pub(super) agent: Versioned<Agent>,
    pub(super) definition: Definition,
    pub(super) secrets: SnapshotSecrets,
    /// What it was, if an edit must keep it.
    unkept: Option<AgentVersion>,
}

pub(super) async fn edit(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Editing> {
    let mut editing = load(app, caller, agent).await?;
    editing.unkept = version::unkept_by_edits(app, caller, &editing.agent.body, &editing.definition).await?;
    Ok(editing)
}

/// The same for a command that keeps itself what it replaces.
pub(super) async fn load(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Editing> {
    let (table, id) = (&app.table, caller.workspace_id);
    let (workspace, agent, definition, secrets) = tokio::try_join!(
        store::workspace::get(table, id),
        store::agent::get(table, id, agent),
        store::agent::definition(table, id, agent),
        store::agent::secrets(table, id, agent),
    )?;
    Ok(Editing { workspace, agent, definition, secrets, unkept: None })
}

impl Editing {
    /// Writes the head back, and the snapshot when the agent is live. What an edit replaced is kept if it has to be.
    pub(super) fn save(mut self, app: &App, mut unit: Unit) -> Result<Draft<Detail>> {
        let agent = &mut self.agent.body;
        agent.updated_at = app.now();
        agent.revision += 1;
        if let Some(was) = self.unkept {
            version::keep(&mut unit, agent, &was)?;
        }
        store::agent::replace(&mut unit, agent, self.agent.v)?;
        if agent.is_published() {
            put_compiled(&mut unit, agent, &self.definition, &self.workspace.body, self.secrets)?;
        }
        Ok(Draft::new(
            unit,
            Detail { agent: agent.clone(), definition: self.definition, counts: AgentCounts::default() },
        ))
    }
}

/// An agent as a turn would have it, published or not.
///
/// # Errors
/// `not_found`.
pub async fn compiled(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Snapshot> {
    let Editing { workspace, agent, definition, secrets, .. } = load(app, caller, agent).await?;
    Ok(compile(&agent.body, &definition, &workspace.body, secrets))
}

/// Changes an agent; what is live follows at once.
///
/// # Errors
/// `not_found`, `validation_error`, also for a model key that its provider refuses; `whatsapp.number_taken`.
pub async fn change(app: &App, caller: &Caller, agent: Id<Agent>, changes: &Changes) -> Result<Draft<Detail>> {
    keep_secrets(caller, changes)?;
    let mut editing = edit(app, caller, agent).await?;
    let (mut checks, before) = (Checks::new(), editing.agent.body.line());
    apply(app, &mut checks, &mut editing.agent.body, &mut editing.definition, changes);
    checks.finish()?;
    ai_key::check(app, &editing.agent.body, &changes.ai_api_key).await?;
    let is_proven = line::check(app, &editing.agent.body, &changes.line).await?;
    let mut unit = Unit::new();
    let after = editing.agent.body.line();
    let claims = (changes.line.name_number(), is_proven);
    line::follow(app, &mut unit, (before.as_ref(), after.as_ref()), claims).await?;
    // A key is for the server that it was given for: a new address without the key again loses it.
    let mut changes = changes.clone();
    if changes.ai_base_url.is_present() && !changes.ai_api_key.is_present() && editing.agent.body.has_ai_key {
        changes.ai_api_key = Patch::Clear;
    }
    let secrets = put_secrets(app, &mut unit, &mut editing.agent.body, &changes).await?;
    if changes.ai_api_key.is_present() {
        editing.secrets.ai_key = secrets.ai_key;
    }
    ai_key::ensure_stays(app, &editing.agent.body, &changes)?;
    if changes.system_prompt.is_some() {
        store::agent::put_section(&mut unit, &editing.agent.body, Section::Playbooks, &editing.definition)?;
    }
    if changes.widget.is_some() {
        store::agent::put_section(&mut unit, &editing.agent.body, Section::Widget, &editing.definition)?;
    }
    with_counts(app, editing.save(app, unit)?).await
}

/// Publishes an agent: a new version goes live. One that is published and of which nothing has changed since its newest
/// version is left as it is.
///
/// # Errors
/// `not_found`, `agent_limit_reached`, `validation_error` when its provider cannot be asked.
pub async fn publish(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Draft<Detail>> {
    let mut editing = load(app, caller, agent).await?;
    let mut unit = Unit::new();
    let head = &mut editing.agent.body;
    ai_key::ensure_can_answer(app, head)?;
    if head.is_published() && version::unkept(app, caller, head, &editing.definition).await?.is_none() {
        let counts = AgentCounts::default();
        return with_counts(app, Draft::done(Detail { agent: head.clone(), definition: editing.definition, counts }))
            .await;
    }
    go_live(app, &mut unit, head, &editing.workspace.body).await?;
    version::published(app, caller, &mut unit, (head, &editing.definition), None)?;
    crate::events::emit(&mut unit, &app.events().agent_published(&editing.agent.body))?;
    with_counts(app, editing.save(app, unit)?).await
}

/// Takes an agent off the air: its page is gone, its slug stays reserved for it.
///
/// # Errors
/// `not_found`.
pub async fn unpublish(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Draft<Detail>> {
    let mut editing = edit(app, caller, agent).await?;
    let mut unit = Unit::new();
    if editing.agent.body.is_published() {
        editing.agent.body.status = AgentStatus::Draft;
        store::agent::uncount_published(&mut unit, caller.billing_account_id);
        store::agent::delete_snapshot(&mut unit, &editing.agent.body);
    }
    with_counts(app, editing.save(app, unit)?).await
}

/// A wish to attach a tool.
#[derive(Debug, Clone)]
pub struct AttachTool {
    /// Its name.
    pub name: String,
    /// Its configuration; absent keeps what there is.
    pub config: Option<Map<String, Value>>,
    /// Whether the agent may use it; absent keeps what there is.
    pub is_active: Option<bool>,
}

/// Attaches a built-in tool, or changes the one that is attached. Says whether it is new.
///
/// # Errors
/// `not_found`, `validation_error` for an unknown tool or a wrong configuration, `tool.limit_reached`.
pub async fn attach_tool(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    command: &AttachTool,
) -> Result<Draft<(ToolBinding, bool)>> {
    let mut editing = edit(app, caller, agent).await?;
    let mut checks = Checks::new();
    let tool = find_tool(&mut checks, "name", &command.name);
    let (config, headers) = tool_config::split(&mut checks, tool, command.config.clone());
    ensure_own_secrets(caller, headers.is_some())?;
    checks.finish()?;
    let tool = tool.ok_or_else(|| Error::new(Code::ValidationError))?;
    let known = editing.definition.tool(tool).cloned();
    if known.is_none() && editing.definition.tools.len() >= MAX_TOOLS {
        return Err(Error::new(Code::ToolLimitReached));
    }
    let is_new = known.is_none();
    let mut binding = known.unwrap_or_else(|| new_binding(app, tool, Map::new()));
    if let Some(config) = config {
        // Secret headers are for the hosts that they were given for.
        if headers.is_none() && config.get("allowed_hosts") != binding.config.get("allowed_hosts") {
            binding.secrets = None;
        }
        binding.config = config;
    }
    if let Some(headers) = headers {
        let place = Agent::tool_secret_place(editing.agent.body.workspace_id, agent, tool);
        binding.secrets = Some(app.seal(&place, &headers).await?);
    }
    binding.is_active = command.is_active.unwrap_or(binding.is_active);
    editing.definition.tools.retain(|other| other.tool != tool);
    editing.definition.tools.push(binding.clone());
    let mut unit = Unit::new();
    store::agent::put_tool(&mut unit, &editing.agent.body, &binding)?;
    let draft = editing.save(app, unit)?;
    Ok(Draft::new(draft.unit, (binding, is_new)))
}

/// Detaches a tool; its secrets go with it.
///
/// # Errors
/// `not_found` when the agent does not have it.
pub async fn detach_tool(app: &App, caller: &Caller, agent: Id<Agent>, name: &str) -> Result<Draft<()>> {
    let mut editing = edit(app, caller, agent).await?;
    let tool = Builtin::find(name).filter(|tool| editing.definition.tool(*tool).is_some());
    let tool = tool.ok_or_else(Error::not_found)?;
    editing.definition.tools.retain(|binding| binding.tool != tool);
    let mut unit = Unit::new();
    store::agent::delete_tool(&mut unit, &editing.agent.body, tool);
    Ok(Draft::new(editing.save(app, unit)?.unit, ()))
}

fn find_tool(checks: &mut Checks, field: &str, name: &str) -> Option<Builtin> {
    let tool = Builtin::find(name);
    let known = Builtin::ALL.map(Builtin::name).join(", ");
    checks.ensure(tool.is_some(), field, "unknown_tool", &format!("there is no tool {name}; known are {known}"));
    tool
}

fn new_binding(app: &App, tool: Builtin, config: Map<String, Value>) -> ToolBinding {
    ToolBinding { tool, config, secrets: None, is_active: true, created_at: app.now() }
}

/// Deletes an agent for good. `confirmation` must be its exact name. Conversations and leads stay.
///
/// # Errors
/// `not_found`, `confirmation_mismatch`.
pub async fn delete(app: &App, caller: &Caller, agent: Id<Agent>, confirmation: &str) -> Result<Draft<()>> {
    let Editing { mut workspace, agent, definition, .. } = load(app, caller, agent).await?;
    if confirmation != agent.body.name {
        let message = "confirmation must be the exact name of the agent.";
        return Err(Error::with_message(Code::ConfirmationMismatch, message));
    }
    let mut unit = Unit::new();
    line::follow(app, &mut unit, (agent.body.line().as_ref(), None), (false, false)).await?;
    store::agent::delete(&mut unit, &agent.body, agent.v, &definition);
    if agent.body.is_published() {
        store::agent::uncount_published(&mut unit, caller.billing_account_id);
    }
    if workspace.body.default_agent_id == Some(agent.body.id) {
        let others = store::agent::all(&app.table, caller.workspace_id).await?;
        let next = others.iter().find(|other| other.id != agent.body.id && other.is_published());
        workspace.body.default_agent_id = next.map(|next| next.id);
        store::workspace::replace(&mut unit, &workspace.body, workspace.v)?;
    }
    crate::events::emit(&mut unit, &app.events().agent_deleted(&agent.body))?;
    Ok(Draft::new(unit, ()))
}

pub(super) async fn with_counts(app: &App, mut draft: Draft<Detail>) -> Result<Draft<Detail>> {
    let agent = &draft.value.agent;
    let counts = store::rollup::agents(&app.table, agent.workspace_id, &[agent.id]).await?;
    draft.value.counts = counts.into_iter().next().unwrap_or_default();
    Ok(draft)
}

/// A page of the workspace's agents with their counters, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(
    app: &App,
    caller: &Caller,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<(Agent, AgentCounts)>> {
    let page = store::agent::page(&app.table, caller.workspace_id, after, limit).await?;
    let ids: Vec<Id<Agent>> = page.items.iter().map(|agent| agent.id).collect();
    let mut counts = store::rollup::agents(&app.table, caller.workspace_id, &ids).await?.into_iter();
    Ok(page.map(|agent| (agent, counts.next().unwrap_or_default())))
}

/// One agent with its definition and counters.
///
/// # Errors
/// `not_found`.
pub async fn detail(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Detail> {
    let (table, workspace) = (&app.table, caller.workspace_id);
    let only = [agent];
    let (head, definition, counts) = tokio::try_join!(
        store::agent::get(table, workspace, agent),
        store::agent::definition(table, workspace, agent),
        store::rollup::agents(table, workspace, &only),
    )?;
    Ok(Detail { agent: head.body, definition, counts: counts.into_iter().next().unwrap_or_default() })
}

/// What an agent has done so far.
///
/// # Errors
/// `not_found`.
pub async fn stats(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<AgentCounts> {
    store::agent::get(&app.table, caller.workspace_id, agent).await?;
    let counts = store::rollup::agents(&app.table, caller.workspace_id, &[agent]).await?;
    Ok(counts.into_iter().next().unwrap_or_default())
}

/// The live snapshot behind a public slug.
///
/// # Errors
/// `not_found` when there is none, or the agent does not answer.
pub async fn public(app: &App, slug: &str) -> Result<std::sync::Arc<crate::domain::agent::Snapshot>> {
    let alias = store::agent::public_alias(&app.table, slug).await?.ok_or_else(Error::not_found)?;
    let snapshot = store::agent::snapshot(&app.table, alias.workspace_id, alias.agent_id).await?;
    snapshot.filter(|snapshot| snapshot.enabled).ok_or_else(Error::not_found)
}
