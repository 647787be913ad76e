//! The sections of an agent's definition. Each is one table item that holds its whole list, so that the rules within a
//! section hold by one conditional write.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::tool::Builtin;
use crate::kernel::Time;
use crate::kernel::secret::Sealed;

/// Who the agent is to the outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// A sentence that opens every prompt.
    pub preamble: Option<String>,
    /// Where people can write.
    pub contact_email: Option<String>,
    /// Where people can call.
    pub contact_phone: Option<String>,
    /// The company's site.
    pub website_url: Option<String>,
}

/// How the agent speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Personality {
    /// The text itself.
    pub text: Option<String>,
}

/// Something that the agent tries to achieve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// Slug, unique in the agent.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What to do.
    pub body: String,
    /// Lower comes first.
    pub priority: i32,
}

/// Something that the agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Slug, unique in the agent.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// How to do it.
    pub body: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Tools that must be ready; without them the skill is withheld.
    #[serde(default)]
    pub required_tools: Vec<String>,
}

/// How the agent conducts a conversation. The default one's body is studio's `system_prompt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playbook {
    /// Slug, unique in the agent.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// When to use it instead of the default.
    #[serde(default)]
    pub when_to_use: Option<String>,
    /// The text itself.
    pub body: String,
    /// Exactly one is the default whenever there is any.
    pub is_default: bool,
}

/// What the agent must not do, and what it must say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guardrails {
    /// Not to be talked about.
    pub topics_to_avoid: Vec<String>,
    /// Not to be claimed.
    pub claims_not_to_make: Vec<String>,
    /// To be said.
    pub required_disclaimers: Vec<String>,
    /// Anything else.
    pub additional_rules: Option<String>,
}

/// How the chat looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Widget {
    /// An https image.
    pub avatar: Option<String>,
    /// `#rrggbb`.
    pub accent: Option<String>,
    /// Offered before the first message; at most 6.
    pub suggested_questions: Vec<String>,
    /// Hide the line that names this product.
    pub hide_powered_by: bool,
}

/// A tool that an agent has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolBinding {
    /// Which tool.
    pub tool: Builtin,
    /// What is not secret of its configuration.
    #[serde(default, with = "crate::kernel::json_text")]
    pub config: Map<String, Value>,
    /// Secret headers and the like, sealed.
    #[serde(default)]
    pub secrets: Option<Sealed>,
    /// Whether the agent may use it.
    pub is_active: bool,
    /// When it was attached.
    pub created_at: Time,
}

impl ToolBinding {
    /// What the configuration lacks for the tool to work; a tool that lacks something is withheld from the turn.
    #[must_use]
    pub fn missing_fields(&self) -> Vec<&'static str> {
        let given = |field: &&str| self.config.get(*field).is_some_and(|value| !value.is_null());
        self.tool.required_config().iter().filter(|field| !given(field)).copied().collect()
    }

    /// Whether a turn may offer it to the model.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_active && self.missing_fields().is_empty()
    }
}
