//! What the builder's tools do: the commands that its caller may give elsewhere too, with the same checks and limits.
//! A confirmed action comes the same way as a call that needs no confirmation.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::secrets;
use super::tools::Tool;
use crate::access::Caller;
use crate::app::agent::{self, AttachTool, Changes, Create, Detail};
use crate::app::section::{self, Content};
use crate::app::whatsapp::line;
use crate::app::{App, Draft};
use crate::domain::BuilderThread;
use crate::domain::agent::{Agent, AgentStatus, Definition, Guardrails};
use crate::domain::audit::AuditEntry;
use crate::kernel::{Error, Id, Limit, Patch, Result};
use crate::store;
use crate::table::Unit;
use crate::turn::{arguments, fitting};

/// How many agents a model is told of.
const LISTED: u32 = 50;

/// Who acts, and where.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    /// With whose rights.
    pub(super) caller: Caller,
    /// From which address the message came.
    pub(super) address: IpAddr,
    /// In which thread.
    pub(super) thread: Id<BuilderThread>,
}

/// What a command will have made, as a model is told it.
pub(super) struct Made {
    /// The agent that it is about.
    pub(super) agent_id: Id<Agent>,
    /// What is told.
    pub(super) output: Value,
}

/// The writes of a tool, with its audit entry.
///
/// # Errors
/// What the command says, and `validation_error` for arguments that do not fit.
pub(super) async fn perform(app: &App, actor: &Actor, tool: Tool, given: &Value) -> Result<Draft<Made>> {
    let given = fitting(tool.parameters(), given)?;
    let mut draft = command(app, &actor.caller, tool, &given).await?;
    audit(app, actor, tool, &mut draft)?;
    Ok(draft)
}

async fn command(app: &App, caller: &Caller, tool: Tool, given: &Value) -> Result<Draft<Made>> {
    match tool {
        Tool::CreateAgent => create(app, caller, arguments(given)?).await,
        Tool::UpdateAgent => {
            let changes: AgentFields = arguments(given)?;
            change(app, caller, agent_of(given)?, changes.into()).await
        }
        Tool::SetModel => {
            let ModelFields { provider, model } = arguments(given)?;
            let patch = |text: Option<String>| text.map_or(Patch::Clear, Patch::Set);
            let changes = Changes { provider: patch(provider), model: patch(model), ..Changes::default() };
            change(app, caller, agent_of(given)?, changes).await
        }
        Tool::ConnectChannel => {
            let ChannelFields { phone_number_id } = arguments(given)?;
            let line = line::Changes { kapso_number: Patch::Set(phone_number_id), ..line::Changes::default() };
            let changes = Changes { line, ..Changes::default() };
            change(app, caller, agent_of(given)?, changes).await
        }
        Tool::AddFaq | Tool::SetPersonality | Tool::SetObjectives | Tool::SetGuardrails => {
            let draft = section::set(app, caller, agent_of(given)?, &content(tool, given)?).await?;
            Ok(told(draft))
        }
        Tool::Attach => attach(app, caller, agent_of(given)?, arguments(given)?).await,
        Tool::Detach => {
            let (agent, ToolFields { name, .. }) = (agent_of(given)?, arguments(given)?);
            let draft = agent::detach_tool(app, caller, agent, &name).await?;
            Ok(draft.map(|()| Made { agent_id: agent, output: json!({"agent_id": agent.int(), "detached": name}) }))
        }
        Tool::PublishAgent => Ok(told(agent::publish(app, caller, agent_of(given)?).await?)),
        Tool::UnpublishAgent => Ok(told(agent::unpublish(app, caller, agent_of(given)?).await?)),
        Tool::MakePlan | Tool::UpdatePlan | Tool::ListAgents | Tool::FindAgent | Tool::DeleteAgent => {
            Err(Error::internal(format!("{} is no command", tool.name())))
        }
    }
}

/// The deletion of an agent, which was shown under this name.
///
/// # Errors
/// `not_found`, `confirmation_mismatch` when it has another name by now.
pub(super) async fn delete(app: &App, actor: &Actor, agent: Id<Agent>, name: &str) -> Result<Draft<Made>> {
    let draft = agent::delete(app, &actor.caller, agent, name).await?;
    let output = json!({"agent_id": agent.int(), "deleted": true});
    let mut draft = draft.map(|()| Made { agent_id: agent, output });
    audit(app, actor, Tool::DeleteAgent, &mut draft)?;
    Ok(draft)
}

/// The entry that the operation itself would leave, with the thread as its place.
fn audit(app: &App, actor: &Actor, tool: Tool, draft: &mut Draft<Made>) -> Result<()> {
    let target = format!("/api/agents/{}", draft.value.agent_id.int());
    note_down(app, actor, &mut draft.unit, tool.name(), target)
}

/// Adds an entry of the audit log that names the thread.
///
/// # Errors
/// When it does not serialise.
pub(super) fn note_down(app: &App, actor: &Actor, unit: &mut Unit, action: &str, target: String) -> Result<()> {
    let entry = AuditEntry {
        id: app.ids().uuid(),
        workspace_id: actor.caller.workspace_id,
        actor: actor.caller.actor(),
        impersonator: actor.caller.impersonator,
        reason: Some(format!("builder {}", actor.thread.text())),
        action: action.into(),
        target,
        ip: Some(actor.address.to_string()),
        at: app.now(),
    };
    store::audit::create(unit, &entry)
}

fn told(draft: Draft<Detail>) -> Draft<Made> {
    draft.map(|detail| Made { agent_id: detail.agent.id, output: brief(&detail.agent, &detail.definition) })
}

/// The agent that arguments name.
///
/// # Errors
/// `not_found` when they name none.
pub(super) fn agent_of(given: &Value) -> Result<Id<Agent>> {
    given["agent_id"].as_u64().and_then(Id::from_int).ok_or_else(Error::not_found)
}

#[derive(Deserialize)]
struct AgentFields {
    name: Option<String>,
    description: Option<String>,
    system_prompt: Option<String>,
    greeting_message: Option<String>,
    fallback_message: Option<String>,
    enabled: Option<bool>,
    #[serde(default)]
    tools: Vec<String>,
}

impl From<AgentFields> for Changes {
    fn from(fields: AgentFields) -> Self {
        let patch = |text: Option<String>| text.map_or(Patch::Keep, Patch::Set);
        Self {
            name: fields.name,
            description: patch(fields.description),
            system_prompt: fields.system_prompt,
            greeting_message: patch(fields.greeting_message),
            fallback_message: patch(fields.fallback_message),
            enabled: fields.enabled,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
struct ModelFields {
    provider: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize)]
struct ChannelFields {
    phone_number_id: String,
}

#[derive(Deserialize)]
struct ToolFields {
    name: String,
    config: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Faq {
    question: String,
    answer: String,
}

#[derive(Deserialize)]
struct ObjectiveFields {
    name: String,
    body: String,
}

/// A draft, whatever is said: publishing is an action of its own.
async fn create(app: &App, caller: &Caller, mut fields: AgentFields) -> Result<Draft<Made>> {
    let tools = std::mem::take(&mut fields.tools);
    let command = Create { changes: fields.into(), tools, publish: false };
    Ok(told(agent::create(app, caller, &command).await?))
}

async fn change(app: &App, caller: &Caller, agent: Id<Agent>, changes: Changes) -> Result<Draft<Made>> {
    Ok(told(agent::change(app, caller, agent, &changes).await?))
}

async fn attach(app: &App, caller: &Caller, agent: Id<Agent>, fields: ToolFields) -> Result<Draft<Made>> {
    // Secrets are no business of a model: they are set where nobody else reads along.
    if fields.config.as_ref().is_some_and(|config| config.values().any(secrets::were_in)) {
        return Err(Error::field(
            "config",
            "refused",
            "Keys and secret headers are set in the agent's settings, not here.",
        ));
    }
    let command = AttachTool { name: fields.name, config: fields.config, is_active: None };
    let draft = agent::attach_tool(app, caller, agent, &command).await?;
    Ok(draft.map(|(binding, is_new)| {
        let output = json!({
            "agent_id": agent.int(), "tool": binding.tool.name(), "new": is_new, "missing": binding.missing_fields(),
        });
        Made { agent_id: agent, output }
    }))
}

fn content(tool: Tool, given: &Value) -> Result<Content> {
    Ok(match tool {
        Tool::AddFaq => {
            let Faq { question, answer } = arguments(given)?;
            Content::Faq { question, answer }
        }
        Tool::SetPersonality => Content::Personality(given["text"].as_str().unwrap_or_default().to_owned()),
        Tool::SetObjectives => {
            let objectives: Vec<ObjectiveFields> = arguments(&given["objectives"])?;
            Content::Objectives(objectives.into_iter().map(|one| (one.name, one.body)).collect())
        }
        _ => Content::Guardrails(arguments::<Guardrails>(given)?),
    })
}

/// An agent in few words.
fn brief(agent: &Agent, definition: &Definition) -> Value {
    let tools: Vec<&str> = definition.tools.iter().map(|binding| binding.tool.name()).collect();
    json!({
        "agent_id": agent.id.int(), "name": agent.name, "status": agent.status, "tools": tools,
        "public_slug": agent.public_slug,
    })
}

/// The agents of the workspace, as a model is told of them.
///
/// # Errors
/// When the table cannot be read.
pub(super) async fn list(app: &App, caller: &Caller) -> Result<Value> {
    let page = store::agent::page(&app.table, caller.workspace_id, None, Limit::new(Some(LISTED))?).await?;
    let one = |agent: &Agent| json!({"agent_id": agent.id.int(), "name": agent.name, "status": agent.status, "description": agent.description});
    Ok(json!({"agents": page.items.iter().map(one).collect::<Vec<_>>(), "more": page.next.is_some()}))
}

/// One agent, as a model is told of it.
///
/// # Errors
/// `not_found`.
pub(super) async fn find(app: &App, caller: &Caller, given: &Value) -> Result<Value> {
    let id = match given["name"].as_str() {
        Some(name) if given["agent_id"].is_null() => {
            let agents = store::agent::all(&app.table, caller.workspace_id).await?;
            let found = agents.iter().find(|agent| agent.name.trim().eq_ignore_ascii_case(name.trim()));
            found.ok_or_else(Error::not_found)?.id
        }
        _ => agent_of(given)?,
    };
    let Detail { agent, definition, .. } = agent::detail(app, caller, id).await?;
    let mut told = brief(&agent, &definition);
    told["description"] = json!(agent.description);
    told["system_prompt"] = json!(definition.system_prompt());
    told["greeting_message"] = json!(agent.greeting_message);
    told["fallback_message"] = json!(agent.fallback_message);
    told["model"] = json!({"provider": agent.provider, "model": agent.model, "own_key": agent.has_ai_key});
    told["personality"] = json!(definition.personality.text);
    told["objectives"] = json!(definition.objectives);
    told["guardrails"] = json!(definition.guardrails);
    Ok(told)
}

/// What an action does, in a sentence of ours: a model's words could make it look like something else.
pub(super) fn summary(tool: Tool, agent: &Agent, given: &Value) -> String {
    let name = &agent.name;
    let live = if agent.status == AgentStatus::Published { ", which is live" } else { "" };
    match tool {
        Tool::PublishAgent => format!("Publish the agent \"{name}\": anybody can talk to it at its public page."),
        Tool::UnpublishAgent => format!("Take the agent \"{name}\" off the air: its public page is gone."),
        Tool::DeleteAgent => format!("Delete the agent \"{name}\"{live}, for good."),
        Tool::ConnectChannel => {
            let line = given["phone_number_id"].as_str().unwrap_or_default();
            format!("Connect the agent \"{name}\"{live} to the WhatsApp line {line}.")
        }
        Tool::Attach | Tool::Detach => {
            let which = given["name"].as_str().unwrap_or_default();
            let verb = if tool == Tool::Attach { "Set up" } else { "Remove" };
            format!("{verb} the tool {which} of the agent \"{name}\"{live}, as the arguments say.")
        }
        _ => format!("Change the agent \"{name}\"{live}, as the arguments say: everybody sees it at once."),
    }
}
