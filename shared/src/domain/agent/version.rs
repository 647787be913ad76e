//! A version of an agent: what it was when it was published, or when something took its place.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Agent, Definition, Guardrails, Identity, Objective, Personality, Playbook, Skill, ToolBinding, Widget};
use crate::domain::Workspace;
use crate::domain::tool::Builtin;
use crate::kernel::{Id, Time};

/// How many versions of an agent are kept.
pub const MAX_VERSIONS: u32 = 50;

/// What an agent was at an explicit publication, or before an edit or a roll-back. No secret is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentVersion {
    /// `1.<number>` is what people read.
    pub number: u32,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// Of which agent.
    pub agent_id: Id<Agent>,
    /// Who published it, or replaced it if it was kept, as the audit log names them.
    pub author: String,
    /// When.
    pub published_at: Time,
    /// The version that it brought back, if it did.
    #[serde(default)]
    pub restored: Option<u32>,
    /// Whether nobody published it: something else took its place, and it is kept so that it can be brought back.
    #[serde(default)]
    pub kept: bool,
    /// What it was, as JSON: the table's own form would cost three times the space.
    #[serde(with = "crate::kernel::json_text")]
    pub body: VersionBody,
}

/// What makes an agent, without what is secret and where secrets are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct VersionBody {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Model provider.
    pub provider: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// What it says first.
    pub greeting_message: Option<String>,
    /// What it says when it cannot answer.
    pub fallback_message: Option<String>,
    /// Who it is to the outside.
    pub identity: Identity,
    /// How it speaks.
    pub personality: Personality,
    /// What it tries to achieve.
    pub objectives: Vec<Objective>,
    /// What it can do.
    pub skills: Vec<Skill>,
    /// How it conducts a conversation.
    pub playbooks: Vec<Playbook>,
    /// What it must not do.
    pub guardrails: Guardrails,
    /// How the chat looks.
    pub widget: Widget,
    /// Its tools, in order of attachment.
    pub tools: Vec<VersionTool>,
}

/// A tool of a version, without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionTool {
    /// Which tool.
    pub tool: Builtin,
    /// Its configuration.
    pub config: Map<String, Value>,
    /// Whether the agent may use it.
    pub is_active: bool,
    /// When it was attached.
    pub created_at: Time,
}

/// What is different between two versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Of what, such as `system_prompt` or `tools.http_request.config`.
    pub field: String,
    /// What it was; null when it was not there.
    pub before: Value,
    /// What it is.
    pub after: Value,
}

impl VersionBody {
    /// What an agent is now.
    #[must_use]
    pub fn of(agent: &Agent, definition: &Definition) -> Self {
        let tool = |binding: ToolBinding| VersionTool {
            tool: binding.tool,
            config: binding.config,
            is_active: binding.is_active,
            created_at: binding.created_at,
        };
        // Each section by its name: one that is new is not forgotten here.
        let Definition { identity, personality, objectives, skills, playbooks, guardrails, widget, tools } =
            definition.clone();
        Self {
            name: agent.name.clone(),
            description: agent.description.clone(),
            provider: agent.provider.clone(),
            model: agent.model.clone(),
            greeting_message: agent.greeting_message.clone(),
            fallback_message: agent.fallback_message.clone(),
            tools: tools.into_iter().map(tool).collect(),
            identity,
            personality,
            objectives,
            skills,
            playbooks,
            guardrails,
            widget,
        }
    }

    /// Makes an agent what it was. Secrets stay as they are, and go with a tool that goes; those of a tool that would
    /// send them to other hosts go too.
    pub fn restore(self, agent: &mut Agent, definition: &mut Definition) {
        agent.name = self.name;
        agent.description = self.description;
        agent.provider = self.provider;
        agent.model = self.model;
        agent.greeting_message = self.greeting_message;
        agent.fallback_message = self.fallback_message;
        let known = std::mem::take(&mut definition.tools);
        let binding = |was: VersionTool| {
            let hosts = |config: &Map<String, Value>| config.get("allowed_hosts").cloned();
            let same = known.iter().find(|now| now.tool == was.tool && hosts(&now.config) == hosts(&was.config));
            ToolBinding {
                tool: was.tool,
                config: was.config,
                secrets: same.and_then(|now| now.secrets.clone()),
                is_active: was.is_active,
                created_at: was.created_at,
            }
        };
        *definition = Definition {
            tools: self.tools.into_iter().map(binding).collect(),
            identity: self.identity,
            personality: self.personality,
            objectives: self.objectives,
            skills: self.skills,
            playbooks: self.playbooks,
            guardrails: self.guardrails,
            widget: self.widget,
        };
    }

    /// What is different in another one, by field.
    #[must_use]
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        let (before, after) = (self.fields(), after.fields());
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let of = |fields: &Map<String, Value>, name: &str| fields.get(name).cloned().unwrap_or(Value::Null);
        let pairs = names.into_iter().map(|name| (name, of(&before, name), of(&after, name)));
        let changed = pairs.filter(|(_, before, after)| before != after);
        changed.map(|(name, before, after)| Difference { field: name.clone(), before, after }).collect()
    }

    /// Its fields under the names that callers know; playbooks, skills, objectives and tools each by their own.
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let whole = serde_json::to_value(self).unwrap_or_default();
        for (name, value) in whole.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("playbooks", Value::Array(list)) => list.iter().for_each(|one| {
                    let is_default = one["is_default"] == true;
                    let id = one["id"].as_str().unwrap_or_default();
                    let name = if is_default { "system_prompt".into() } else { format!("playbooks.{id}") };
                    fields.insert(name, if is_default { one["body"].clone() } else { one.clone() });
                }),
                ("skills" | "objectives", Value::Array(list)) => list.iter().for_each(|one| {
                    fields.insert(format!("{name}.{}", one["id"].as_str().unwrap_or_default()), one.clone());
                }),
                ("tools", Value::Array(list)) => list.iter().for_each(|one| {
                    let tool = one["tool"].as_str().unwrap_or_default();
                    fields.insert(format!("tools.{tool}.config"), one["config"].clone());
                    fields.insert(format!("tools.{tool}.is_active"), one["is_active"].clone());
                }),
                ("identity" | "personality" | "guardrails" | "widget", Value::Object(section)) => {
                    fields.extend(section.iter().map(|(field, value)| (format!("{name}.{field}"), value.clone())));
                }
                _ => {
                    fields.insert(name.clone(), value.clone());
                }
            }
        }
        fields
    }
}
