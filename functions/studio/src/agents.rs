//! `/api/agents` and `/api/developers/agents`: building and publishing agents.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::app::App;
use shared::app::agent::{self, AttachTool, Changes, Create, Detail};
use shared::app::identity;
use shared::domain::User;
use shared::domain::agent::{Agent, AgentStatus, ToolBinding, Widget};
use shared::http::{Call, Created, Done, Json, MaybeJson, NoContent, Path, Query};
use shared::kernel::{Id, Int, Patch, Result, Secret, Time};
use shared::store::rollup::AgentCounts;

use crate::line::{KapsoOut, KapsoPatch, WhatsappOut, WhatsappPatch, line_of};
use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// List your agents.
    GET "/api/agents" => list_agents, [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// Create an agent.
    POST "/api/agents" => create_agent, [User Developer] Editor "agents:write" General Any Known Audited Keyed also [402 409] + assisted;
    /// One agent, in full, with its tools.
    GET "/api/agents/{id}" => find_agent, [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// Change an agent.
    ///
    /// Absent fields stay as they are, null clears. A published agent changes at once. Keys are write-only: reads show
    /// whether there is one. A WhatsApp number belongs to the agent that names it first (409 for another), until it is
    /// cleared.
    PATCH "/api/agents/{id}" => update_agent, [User Developer] Editor "agents:write" General Any Known Audited Keyed also [409] + assisted;
    /// Publish an agent.
    ///
    /// The first publication mints its `public_slug`. One that is published, with nothing changed since its newest version,
    /// is left as it is. 422 names what is missing when its provider could never be asked.
    POST "/api/agents/{id}/publish" => publish_agent, [User Developer] Editor "agents:write" General Any Known Audited Keyed also [402] + assisted;
    /// Take an agent off the air.
    ///
    /// Its `public_slug` stays reserved for it.
    POST "/api/agents/{id}/unpublish" => unpublish_agent, [User Developer] Editor "agents:write" General Any Known Audited Keyed + assisted;
    /// What an agent has done so far.
    ///
    /// Counted a moment after it happens.
    GET "/api/agents/{id}/stats" => find_agent_stats, [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// The tools of an agent.
    GET "/api/agents/{id}/tools" => list_tools, [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// Attach a built-in tool, or configure the one that is attached.
    ///
    /// 201 when it is new, 200 when it was there. `http_request` needs `config.allowed_hosts`; `config.headers` are secret,
    /// `config.methods` and `config.body_schema` limit what the model may send.
    POST "/api/agents/{id}/tools" => attach_tool, [User Developer] Editor "agents:write" General Any Known Audited Keyed also [200 409] + assisted;
    /// Detach a tool.
    DELETE "/api/agents/{id}/tools/{tool}" => detach_tool, [User Developer] Editor "agents:write" General Any Known Audited Keyed;
    /// Make the identity secret of an agent, or another in its place.
    ///
    /// Your server signs its users with it, and the chat believes who they are. It is shown here and never again; the one
    /// before it ends at once.
    POST "/api/agents/{id}/identity-secret" => rotate_identity_secret, [User] Admin "" General Any Known Audited Keyed;
    /// Remove the identity secret of an agent: no identity is believed any more.
    DELETE "/api/agents/{id}/identity-secret" => remove_identity_secret, [User] Admin "" General Any Known Audited Keyed;
    /// Delete an agent for good.
    ///
    /// The confirmation must be its exact name, in the body or, where a proxy drops bodies of DELETE, as
    /// `?confirmation=`. Conversations and leads stay readable. Only people delete: a key cannot.
    DELETE "/api/agents/{id}" => delete_agent, [User] Editor "" General Any Known Audited Keyed;
    /// List your agents, as in the quickstart.
    GET "/api/developers/agents" => list_developer_agents, [User Developer] Viewer "agents:read" General Any Known Unaudited Safe;
    /// Create an agent, as in the quickstart.
    POST "/api/developers/agents" => create_developer_agent, [User Developer] Editor "agents:write" General Any Known Audited Keyed also [402 409] + assisted;
}

/// A new agent.
#[derive(Debug, Deserialize, JsonSchema)]
struct AgentIn {
    /// 1 to 120 characters.
    name: String,
    #[serde(default)]
    description: Patch<String>,
    /// What it knows and how it behaves; up to 32,000 characters.
    #[serde(default)]
    system_prompt: Option<String>,
    /// `openai`, `anthropic`, `offline`, or any name for a compatible provider with `config.ai.base_url`; absent is the
    /// installation's own.
    #[serde(default)]
    provider: Patch<String>,
    #[serde(default)]
    model: Patch<String>,
    #[serde(default)]
    greeting_message: Patch<String>,
    #[serde(default)]
    fallback_message: Patch<String>,
    #[serde(default)]
    config: ConfigPatch,
    #[serde(default)]
    widget: Option<Widget>,
    /// Names of built-in tools.
    #[serde(default)]
    tools: Vec<String>,
    /// Whether it goes live at once.
    #[serde(default)]
    publish: bool,
}

/// Changes to an agent.
#[derive(Debug, Deserialize, JsonSchema)]
struct AgentPatch {
    #[serde(default)]
    name: Patch<String>,
    #[serde(default)]
    description: Patch<String>,
    #[serde(default)]
    system_prompt: Patch<String>,
    #[serde(default)]
    provider: Patch<String>,
    #[serde(default)]
    model: Patch<String>,
    #[serde(default)]
    greeting_message: Patch<String>,
    #[serde(default)]
    fallback_message: Patch<String>,
    /// Whether it answers, without unpublishing it.
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    config: ConfigPatch,
    #[serde(default)]
    widget: Patch<Widget>,
}

/// Model key and WhatsApp line.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ConfigPatch {
    #[serde(default)]
    ai: AiPatch,
    #[serde(default)]
    kapso: Patch<KapsoPatch>,
    #[serde(default)]
    whatsapp: Patch<WhatsappPatch>,
}

/// The customer's own model key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct AiPatch {
    /// Write-only; null removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    api_key: Patch<Secret>,
    /// Where a compatible provider listens; used with the customer's own key only.
    #[serde(default)]
    base_url: Patch<String>,
}

impl From<AgentIn> for Create {
    fn from(body: AgentIn) -> Self {
        let changes = Changes {
            name: Some(body.name),
            description: body.description,
            system_prompt: Some(body.system_prompt.unwrap_or_default()),
            provider: body.provider,
            model: body.model,
            greeting_message: body.greeting_message,
            fallback_message: body.fallback_message,
            enabled: None,
            line: line_of(body.config.kapso, body.config.whatsapp),
            ai_api_key: body.config.ai.api_key,
            ai_base_url: body.config.ai.base_url,
            widget: body.widget,
        };
        Self { changes, tools: body.tools, publish: body.publish }
    }
}

impl From<AgentPatch> for Changes {
    fn from(body: AgentPatch) -> Self {
        Self {
            name: body.name.or_default(),
            description: body.description,
            system_prompt: body.system_prompt.or_default(),
            provider: body.provider,
            model: body.model,
            greeting_message: body.greeting_message,
            fallback_message: body.fallback_message,
            enabled: body.enabled,
            line: line_of(body.config.kapso, body.config.whatsapp),
            ai_api_key: body.config.ai.api_key,
            ai_base_url: body.config.ai.base_url,
            widget: body.widget.or_default(),
        }
    }
}

/// An agent as lists show it.
#[derive(Debug, Serialize, JsonSchema)]
struct AgentSummaryOut {
    id: Int<Agent>,
    owner_id: Int<User>,
    name: String,
    description: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    is_published: bool,
    public_slug: Option<String>,
    status: AgentStatus,
    enabled: bool,
    version: String,
    conversation_count: u64,
    lead_count: u64,
    created_at: Time,
    updated_at: Time,
}

/// An agent in full.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AgentOut {
    #[serde(flatten)]
    summary: AgentSummaryOut,
    system_prompt: String,
    greeting_message: Option<String>,
    fallback_message: Option<String>,
    config: ConfigOut,
    /// Whether there is a secret that your server signs its users with.
    has_identity_secret: bool,
    widget: Widget,
    tools: Vec<ToolOut>,
    /// Where its chat page is, once it is published.
    public_url: Option<String>,
    published_at: Option<Time>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ConfigOut {
    ai: AiOut,
    kapso: KapsoOut,
    whatsapp: WhatsappOut,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AiOut {
    has_api_key: bool,
    base_url: Option<String>,
}

/// A tool of an agent.
#[derive(Debug, Serialize, JsonSchema)]
struct ToolOut {
    agent_id: Int<Agent>,
    name: String,
    description: String,
    /// The JSON schema of its arguments.
    schema: Value,
    is_active: bool,
    /// Without its secrets.
    config: Map<String, Value>,
    has_secret_headers: bool,
    /// `complete`, or `incomplete` when it waits for the missing fields and is not offered to the model.
    config_status: &'static str,
    missing_fields: Vec<String>,
}

impl AgentSummaryOut {
    fn new(owner: Id<User>, agent: Agent, counts: AgentCounts) -> Self {
        Self {
            id: agent.id.into(),
            owner_id: owner.into(),
            is_published: agent.is_published(),
            version: agent.version(),
            name: agent.name,
            description: agent.description,
            provider: agent.provider,
            model: agent.model,
            public_slug: agent.public_slug,
            status: agent.status,
            enabled: agent.enabled,
            conversation_count: counts.conversations,
            lead_count: counts.leads,
            created_at: agent.created_at,
            updated_at: agent.updated_at,
        }
    }
}

impl AgentOut {
    pub(crate) fn new(app: &App, owner: Id<User>, detail: Detail) -> Self {
        let Detail { agent, definition, counts } = detail;
        let ai = AiOut { has_api_key: agent.has_ai_key, base_url: agent.ai_base_url.clone() };
        let (kapso, whatsapp) = (KapsoOut::new(app, &agent), WhatsappOut::new(app, &agent));
        let page = agent.public_slug.as_ref().filter(|_| agent.is_published());
        Self {
            system_prompt: definition.system_prompt().to_owned(),
            greeting_message: agent.greeting_message.clone(),
            fallback_message: agent.fallback_message.clone(),
            config: ConfigOut { ai, kapso, whatsapp },
            has_identity_secret: agent.has_identity_secret,
            widget: definition.widget,
            tools: definition.tools.into_iter().map(|binding| ToolOut::new(agent.id.into(), binding)).collect(),
            public_url: page.map(|slug| format!("{}/{slug}", app.config.public_base_url)),
            published_at: agent.published_at,
            summary: AgentSummaryOut::new(owner, agent, counts),
        }
    }
}

impl ToolOut {
    fn new(agent: Int<Agent>, binding: ToolBinding) -> Self {
        let missing = binding.missing_fields();
        Self {
            agent_id: agent,
            name: binding.tool.name().into(),
            description: binding.tool.description().into(),
            schema: binding.tool.parameters(&binding.config),
            is_active: binding.is_active,
            config_status: if missing.is_empty() { "complete" } else { "incomplete" },
            missing_fields: missing.into_iter().map(str::to_owned).collect(),
            has_secret_headers: binding.secrets.is_some(),
            config: binding.config,
        }
    }
}

const AGENTS: &str = "agents";

async fn list_agents(
    State(app): State<App>,
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<AgentSummaryOut>>> {
    let (after, limit) = query.read(AGENTS)?;
    let page = agent::list(&app, &call.caller, after.as_ref(), limit).await?;
    let owner = call.caller.owner_user_id;
    Ok(Json(ListOut::page(AGENTS, page.map(|(agent, counts)| AgentSummaryOut::new(owner, agent, counts)))))
}

async fn create_agent(State(app): State<App>, call: Call, Json(body): Json<AgentIn>) -> Result<Created<AgentOut>> {
    let (command, owner) = (Create::from(body), call.caller.owner_user_id);
    call.run(&app, || agent::create(&app, &call.caller, &command), |detail| AgentOut::new(&app, owner, detail)).await
}

async fn find_agent(State(app): State<App>, call: Call, Path(id): Path<Int<Agent>>) -> Result<Json<AgentOut>> {
    let detail = agent::detail(&app, &call.caller, id.0).await?;
    Ok(Json(AgentOut::new(&app, call.caller.owner_user_id, detail)))
}

async fn update_agent(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Json(body): Json<AgentPatch>,
) -> Result<Done<AgentOut>> {
    let (changes, owner) = (Changes::from(body), call.caller.owner_user_id);
    call.run(&app, || agent::change(&app, &call.caller, id.0, &changes), |detail| AgentOut::new(&app, owner, detail))
        .await
}

async fn publish_agent(State(app): State<App>, call: Call, Path(id): Path<Int<Agent>>) -> Result<Done<AgentOut>> {
    let owner = call.caller.owner_user_id;
    call.run(&app, || agent::publish(&app, &call.caller, id.0), |detail| AgentOut::new(&app, owner, detail)).await
}

async fn unpublish_agent(State(app): State<App>, call: Call, Path(id): Path<Int<Agent>>) -> Result<Done<AgentOut>> {
    let owner = call.caller.owner_user_id;
    call.run(&app, || agent::unpublish(&app, &call.caller, id.0), |detail| AgentOut::new(&app, owner, detail)).await
}

/// What an agent has done.
#[derive(Debug, Serialize, JsonSchema)]
struct AgentStatsOut {
    agent_id: Int<Agent>,
    conversations: u64,
    /// Messages of visitors.
    messages: u64,
    /// Replies of the agent.
    replies: u64,
    leads: u64,
}

async fn find_agent_stats(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
) -> Result<Json<AgentStatsOut>> {
    let AgentCounts { conversations, messages, replies, leads } = agent::stats(&app, &call.caller, id.0).await?;
    Ok(Json(AgentStatsOut { agent_id: id, conversations, messages, replies, leads }))
}

async fn list_tools(State(app): State<App>, call: Call, Path(id): Path<Int<Agent>>) -> Result<Json<ListOut<ToolOut>>> {
    let detail = agent::detail(&app, &call.caller, id.0).await?;
    let tools = detail.definition.tools.into_iter().map(|binding| ToolOut::new(id, binding));
    Ok(Json(ListOut::whole(tools.collect())))
}

/// A tool to attach.
#[derive(Debug, Deserialize, JsonSchema)]
struct ToolIn {
    /// `capture_lead`, `schedule_appointment`, `send_whatsapp_handoff` or `http_request`.
    name: String,
    /// For `http_request`: `{"allowed_hosts": ["api.example.com"], "headers": {"authorization": "Bearer …"}}`, and if the
    /// model is not to send what it likes, `"methods": ["POST"]` and `"body_schema": {"type": "object", …}`, a JSON schema
    /// that every body must fit before it leaves. It may refer to its own `$defs`, but not to other documents.
    #[serde(default)]
    config: Option<Map<String, Value>>,
    /// Whether the agent may use it.
    #[serde(default)]
    is_active: Option<bool>,
}

async fn attach_tool(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Json(body): Json<ToolIn>,
) -> Result<Created<ToolOut>> {
    let command = AttachTool { name: body.name, config: body.config, is_active: body.is_active };
    let attach = || agent::attach_tool(&app, &call.caller, id.0, &command);
    let status = |(_, is_new): &(ToolBinding, bool)| if *is_new { 201 } else { 200 };
    call.run_with_status(&app, attach, status, |(binding, _)| ToolOut::new(id, binding)).await
}

async fn detach_tool(
    State(app): State<App>,
    call: Call,
    Path((id, tool)): Path<(Int<Agent>, String)>,
) -> Result<NoContent> {
    call.run(&app, || agent::detach_tool(&app, &call.caller, id.0, &tool), |()| ()).await
}

/// A new identity secret.
#[derive(Debug, Serialize, JsonSchema)]
struct IdentitySecretOut {
    agent_id: Int<Agent>,
    /// What your server signs its users with. It is shown here and never again.
    secret: String,
}

async fn rotate_identity_secret(
    State(app): State<App>,
    call: Call,
    Path(agent_id): Path<Int<Agent>>,
) -> Result<Done<IdentitySecretOut>> {
    let out = |secret: Secret| IdentitySecretOut { agent_id, secret: secret.expose().to_owned() };
    call.run(&app, || identity::rotate(&app, &call.caller, agent_id.0), out).await
}

async fn remove_identity_secret(State(app): State<App>, call: Call, Path(id): Path<Int<Agent>>) -> Result<NoContent> {
    call.run(&app, || identity::remove(&app, &call.caller, id.0), |()| ()).await
}

/// The confirmation of a deletion.
#[derive(Debug, Deserialize, JsonSchema)]
struct Confirmation {
    /// The exact name of the agent.
    #[serde(default)]
    confirmation: Option<String>,
}

async fn delete_agent(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Query(query): Query<Confirmation>,
    MaybeJson(body): MaybeJson<Confirmation>,
) -> Result<NoContent> {
    let confirmation = body.and_then(|body| body.confirmation).or(query.confirmation).unwrap_or_default();
    call.run(&app, || agent::delete(&app, &call.caller, id.0, &confirmation), |()| ()).await
}

async fn list_developer_agents(
    app: State<App>,
    call: Call,
    query: Query<PageQuery>,
) -> Result<Json<ListOut<AgentSummaryOut>>> {
    list_agents(app, call, query).await
}

async fn create_developer_agent(app: State<App>, call: Call, body: Json<AgentIn>) -> Result<Created<AgentOut>> {
    create_agent(app, call, body).await
}
