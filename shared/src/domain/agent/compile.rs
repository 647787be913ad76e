//! Publishing: the head and the sections become one item, so that a turn reads one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Agent, Guardrails, Identity, Objective, Personality, Playbook, Skill, ToolBinding, Widget};
use crate::domain::language::Lang;
use crate::domain::tool::Builtin;
use crate::domain::usage::KeySource;
use crate::domain::{BillingAccount, Workspace};
use crate::kernel::Id;
use crate::kernel::secret::Sealed;

/// Every section of an agent.
#[derive(Debug, Clone, Default)]
pub struct Definition {
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
    /// Its tools.
    pub tools: Vec<ToolBinding>,
}

impl Definition {
    /// The body of the default playbook: what studio, sites and panel call the system prompt.
    #[must_use]
    pub fn system_prompt(&self) -> &str {
        self.playbooks.iter().find(|playbook| playbook.is_default).map_or("", |playbook| &playbook.body)
    }

    /// Sets the body of the default playbook, making one when there is none.
    pub fn set_system_prompt(&mut self, body: &str) {
        match self.playbooks.iter_mut().find(|playbook| playbook.is_default) {
            Some(playbook) => body.clone_into(&mut playbook.body),
            None => self.playbooks.push(Playbook {
                id: "default".into(),
                name: "Default".into(),
                when_to_use: None,
                body: body.into(),
                is_default: true,
            }),
        }
    }

    /// The binding of a tool.
    #[must_use]
    pub fn tool(&self, tool: Builtin) -> Option<&ToolBinding> {
        self.tools.iter().find(|binding| binding.tool == tool)
    }
}

/// What a turn needs of an agent, in one item under (workspace, agent).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which agent.
    pub agent_id: Id<Agent>,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// Who pays.
    pub billing_account_id: Id<BillingAccount>,
    /// What people call it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it answers.
    pub enabled: bool,
    /// Such as `1.3`.
    pub version: String,
    /// One more with each compilation.
    pub revision: u32,
    /// The assembled instructions.
    pub prompt: String,
    /// The tools that are ready.
    #[serde(default)]
    pub tools: Vec<SnapshotTool>,
    /// `None` is the installation's default.
    #[serde(default)]
    pub provider: Option<String>,
    /// `None` is the installation's default.
    #[serde(default)]
    pub model: Option<String>,
    /// Where a compatible provider listens.
    #[serde(default)]
    pub ai_base_url: Option<String>,
    /// The customer's model key, still sealed.
    #[serde(default)]
    pub ai_key: Option<Sealed>,
    /// What the customer's site signs its users with, still sealed.
    #[serde(default)]
    pub identity_secret: Option<Sealed>,
    /// What it says first.
    #[serde(default)]
    pub greeting_message: Option<String>,
    /// What it says when it cannot answer.
    #[serde(default)]
    pub fallback_message: Option<String>,
    /// Where its page is.
    #[serde(default)]
    pub public_slug: Option<String>,
    /// How the chat looks.
    #[serde(default)]
    pub widget: Widget,
}

impl Snapshot {
    /// Whose key answers.
    #[must_use]
    pub const fn key_source(&self) -> KeySource {
        if self.ai_key.is_some() { KeySource::Byok } else { KeySource::Managed }
    }

    /// The language that it speaks.
    #[must_use]
    pub fn lang(&self) -> Lang {
        Lang::of_agent(self.greeting_message.as_deref(), &self.prompt)
    }
}

/// The secrets that a snapshot has with it, still sealed.
#[derive(Debug, Clone, Default)]
pub struct SnapshotSecrets {
    /// The customer's model key.
    pub ai_key: Option<Sealed>,
    /// What the customer's site signs its users with.
    pub identity: Option<Sealed>,
}

/// A ready tool of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapshotTool {
    /// Which tool.
    pub tool: Builtin,
    /// Its configuration.
    #[serde(default, with = "crate::kernel::json_text")]
    pub config: Map<String, Value>,
    /// Its secrets, still sealed.
    #[serde(default)]
    pub secrets: Option<Sealed>,
}

/// Compiles an agent. Pure: the same head and sections give the same snapshot.
#[must_use]
pub fn compile(agent: &Agent, definition: &Definition, workspace: &Workspace, secrets: SnapshotSecrets) -> Snapshot {
    let ready = definition.tools.iter().filter(|binding| binding.is_ready());
    let tools: Vec<SnapshotTool> = ready
        .map(|binding| SnapshotTool {
            tool: binding.tool,
            config: binding.config.clone(),
            secrets: binding.secrets.clone(),
        })
        .collect();
    Snapshot {
        agent_id: agent.id,
        workspace_id: agent.workspace_id,
        billing_account_id: workspace.billing_account_id,
        name: agent.name.clone(),
        description: agent.description.clone(),
        enabled: agent.enabled,
        version: agent.version(),
        revision: agent.revision,
        prompt: prompt(agent, definition, &workspace.name, &tools),
        tools,
        provider: agent.provider.clone(),
        model: agent.model.clone(),
        ai_base_url: agent.ai_base_url.clone(),
        ai_key: secrets.ai_key,
        identity_secret: secrets.identity,
        greeting_message: agent.greeting_message.clone(),
        fallback_message: agent.fallback_message.clone(),
        public_slug: agent.public_slug.clone(),
        widget: definition.widget.clone(),
    }
}

/// The instructions, in the order that the product documents: who, how, what, with what, what not.
fn prompt(agent: &Agent, definition: &Definition, company: &str, tools: &[SnapshotTool]) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(definition.identity.preamble.clone());
    parts.push(format!("You are {}, an assistant of {company}.", agent.name));
    parts.extend(definition.personality.text.as_ref().map(|text| format!("## Personality\n{text}")));
    if !definition.system_prompt().is_empty() {
        parts.push(format!("## Instructions\n{}", definition.system_prompt()));
    }
    let others = definition.playbooks.iter().filter(|playbook| !playbook.is_default);
    parts.extend(others.map(|playbook| {
        let when = playbook.when_to_use.as_deref().unwrap_or("when it fits better");
        format!("## Playbook: {} (use {when})\n{}", playbook.name, playbook.body)
    }));
    let mut objectives: Vec<_> = definition.objectives.iter().collect();
    objectives.sort_by_key(|objective| objective.priority);
    parts.extend(section(
        "Objectives",
        objectives.iter().map(|objective| format!("{}: {}", objective.name, objective.body)),
    ));
    let ready = |name: &String| tools.iter().any(|tool| tool.tool.name() == name);
    let skills = definition.skills.iter().filter(|skill| skill.enabled && skill.required_tools.iter().all(ready));
    parts.extend(skills.map(|skill| format!("## Skill: {}\n{}", skill.name, skill.body)));
    parts.extend(guardrails(&definition.guardrails));
    parts.join("\n\n")
}

fn guardrails(guardrails: &Guardrails) -> Vec<String> {
    let mut parts = Vec::new();
    parts.extend(section("Do not talk about", guardrails.topics_to_avoid.iter().cloned()));
    parts.extend(section("Do not claim", guardrails.claims_not_to_make.iter().cloned()));
    parts.extend(section("Say where it applies", guardrails.required_disclaimers.iter().cloned()));
    parts.extend(guardrails.additional_rules.as_ref().map(|rules| format!("## Rules\n{rules}")));
    parts
}

fn section(title: &str, lines: impl Iterator<Item = String>) -> Option<String> {
    let lines: Vec<String> = lines.map(|line| format!("- {line}")).collect();
    (!lines.is_empty()).then(|| format!("## {title}\n{}", lines.join("\n")))
}
