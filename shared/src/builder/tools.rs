//! The tools of the builder: what a model is told of each, and what each needs before anything comes of it.

use serde_json::{Value, json};

use crate::domain::builder::plan;
use crate::domain::tool::Builtin;
use crate::ports::llm;

/// A tool of the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    MakePlan,
    UpdatePlan,
    ListAgents,
    FindAgent,
    CreateAgent,
    UpdateAgent,
    SetModel,
    SetPersonality,
    SetObjectives,
    SetGuardrails,
    AddFaq,
    Attach,
    Detach,
    ConnectChannel,
    PublishAgent,
    UnpublishAgent,
    DeleteAgent,
}

/// What a tool needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: it is about the plan.
    Nothing,
    /// Nothing: it reads.
    Reading,
    /// A plan, and a confirmation if the agent is live: a change of it is seen by everybody at once.
    Plan,
    /// A plan and a confirmation, always.
    Confirmation,
}

impl Tool {
    /// Every tool.
    pub(super) const ALL: [Self; 17] = [
        Self::MakePlan,
        Self::UpdatePlan,
        Self::ListAgents,
        Self::FindAgent,
        Self::CreateAgent,
        Self::UpdateAgent,
        Self::SetModel,
        Self::SetPersonality,
        Self::SetObjectives,
        Self::SetGuardrails,
        Self::AddFaq,
        Self::Attach,
        Self::Detach,
        Self::ConnectChannel,
        Self::PublishAgent,
        Self::UnpublishAgent,
        Self::DeleteAgent,
    ];

    /// The tool of that name.
    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// As models, frames and stored actions name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MakePlan => "make_plan",
            Self::UpdatePlan => "update_plan",
            Self::ListAgents => "list_agents",
            Self::FindAgent => "find_agent",
            Self::CreateAgent => "create_agent",
            Self::UpdateAgent => "update_agent",
            Self::SetModel => "set_model",
            Self::SetPersonality => "set_personality",
            Self::SetObjectives => "set_objectives",
            Self::SetGuardrails => "set_guardrails",
            Self::AddFaq => "add_faq",
            Self::Attach => "attach_tool",
            Self::Detach => "detach_tool",
            Self::ConnectChannel => "connect_channel",
            Self::PublishAgent => "publish_agent",
            Self::UnpublishAgent => "unpublish_agent",
            Self::DeleteAgent => "delete_agent",
        }
    }

    /// What it needs, with these arguments. A tool that calls outside connects an agent to something, so its set-up is
    /// confirmed as a channel is.
    pub(super) fn needs(self, arguments: &Value) -> Needs {
        match self {
            Self::MakePlan | Self::UpdatePlan => Needs::Nothing,
            Self::ListAgents | Self::FindAgent => Needs::Reading,
            Self::Attach if arguments["name"] == Builtin::HttpRequest.name() => Needs::Confirmation,
            Self::CreateAgent
            | Self::UpdateAgent
            | Self::SetModel
            | Self::SetPersonality
            | Self::SetObjectives
            | Self::SetGuardrails
            | Self::AddFaq
            | Self::Attach
            | Self::Detach => Needs::Plan,
            Self::ConnectChannel | Self::PublishAgent | Self::UnpublishAgent | Self::DeleteAgent => Needs::Confirmation,
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::MakePlan => {
                "Make the plan before anything else, and again when it changes. Each step says what is done, such as \
                 \"Write the greeting\"; never number steps and never call them step, paso, etapa or the like."
            }
            Self::UpdatePlan => "Tell how a step of the plan stands: when you begin it, and when it is done.",
            Self::ListAgents => "List the agents of the workspace.",
            Self::FindAgent => "Read one agent in full, by its id or by its exact name.",
            Self::CreateAgent => "Make a new agent. It is a draft, which nobody sees until it is published.",
            Self::UpdateAgent => "Change fields of an agent; what you leave out stays as it is.",
            Self::SetModel => "Choose which provider and model answer for an agent; leave both out for the default.",
            Self::SetPersonality => "Say how an agent speaks. It takes the place of what was there.",
            Self::SetObjectives => "Say what an agent tries to achieve. It takes the place of what was there.",
            Self::SetGuardrails => "Say what an agent must not do. It takes the place of what was there.",
            Self::AddFaq => "Add a question and its answer to what an agent knows.",
            Self::Attach => {
                "Give an agent a tool, or configure the one that it has. http_request needs config.allowed_hosts and is \
                 carried out only after the user has confirmed it."
            }
            Self::Detach => "Take a tool away from an agent.",
            Self::ConnectChannel => {
                "Connect an agent to a WhatsApp line of the user's at Kapso. Only after the user has confirmed it. Keys are \
                 never given here: the user sets them in the agent's settings."
            }
            Self::PublishAgent => "Put an agent on the air. Only after the user has confirmed it.",
            Self::UnpublishAgent => "Take an agent off the air. Only after the user has confirmed it.",
            Self::DeleteAgent => "Delete an agent for good. Only after the user has confirmed it.",
        }
    }

    /// The JSON schema of its arguments. Every call is held against it.
    pub(super) fn parameters(self) -> Value {
        let (properties, required) = self.fields();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    fn fields(self) -> (Value, Vec<&'static str>) {
        let id = json!({"type": "integer", "minimum": 0, "description": "The id of the agent"});
        let only_agent = (json!({"agent_id": id}), vec!["agent_id"]);
        match self {
            Self::MakePlan => {
                let steps =
                    json!({"type": "array", "items": text("What is done"), "minItems": 1, "maxItems": plan::MAX_STEPS});
                (json!({"steps": steps}), vec!["steps"])
            }
            Self::UpdatePlan => {
                let status = json!({"type": "string", "enum": ["pending", "in_progress", "completed", "failed"]});
                let step = json!({"type": "integer", "minimum": 1, "description": "Counts from 1"});
                (json!({"step": step, "status": status}), vec!["step", "status"])
            }
            Self::ListAgents => (json!({}), vec![]),
            Self::FindAgent => {
                (json!({"agent_id": id, "name": text("Its exact name, when the id is not known")}), vec![])
            }
            Self::CreateAgent => {
                let tools = json!({"type": "array", "items": tool_name(), "maxItems": 10});
                let mut fields = fields_of_agent();
                fields["tools"] = tools;
                (fields, vec!["name", "system_prompt"])
            }
            Self::UpdateAgent => {
                let mut fields = fields_of_agent();
                fields["agent_id"] = id;
                fields["enabled"] = json!({"type": "boolean", "description": "Whether it answers at all"});
                (fields, vec!["agent_id"])
            }
            Self::SetModel => (
                json!({"agent_id": id, "provider": text("openai, anthropic or offline; another name only where the agent has an address of it"), "model": text("A model of it")}),
                vec!["agent_id"],
            ),
            Self::SetPersonality => (json!({"agent_id": id, "text": text("How it speaks")}), vec!["agent_id", "text"]),
            Self::SetObjectives => {
                let properties = json!({"name": text("In a few words"), "body": text("What to do")});
                let one = json!({"type": "object", "properties": properties, "required": ["name", "body"], "additionalProperties": false});
                let objectives =
                    json!({"type": "array", "items": one, "maxItems": 20, "description": "The most important first"});
                (json!({"agent_id": id, "objectives": objectives}), vec!["agent_id", "objectives"])
            }
            Self::SetGuardrails => {
                let list = |about: &str| json!({"type": "array", "items": text(about), "maxItems": 20});
                let fields = json!({
                    "agent_id": id, "topics_to_avoid": list("Not to be talked about"),
                    "claims_not_to_make": list("Not to be claimed"), "required_disclaimers": list("To be said"),
                    "additional_rules": text("Anything else"),
                });
                (fields, vec!["agent_id"])
            }
            Self::AddFaq => (
                json!({"agent_id": id, "question": text("As visitors ask it"), "answer": text("The answer")}),
                vec!["agent_id", "question", "answer"],
            ),
            Self::Attach => {
                (json!({"agent_id": id, "name": tool_name(), "config": {"type": "object"}}), vec!["agent_id", "name"])
            }
            Self::Detach => (json!({"agent_id": id, "name": tool_name()}), vec!["agent_id", "name"]),
            Self::ConnectChannel => {
                let channel = json!({"type": "string", "enum": ["whatsapp"]});
                let fields =
                    json!({"agent_id": id, "channel": channel, "phone_number_id": text("The line's id at Kapso")});
                (fields, vec!["agent_id", "channel", "phone_number_id"])
            }
            Self::PublishAgent | Self::UnpublishAgent | Self::DeleteAgent => only_agent,
        }
    }
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn tool_name() -> Value {
    json!({"type": "string", "enum": Builtin::ALL.map(Builtin::name)})
}

fn fields_of_agent() -> Value {
    json!({
        "name": text("What people call it, in one line"),
        "description": text("What it is for, in a sentence"),
        "system_prompt": text("Its instructions and what it knows, in the language of its visitors"),
        "greeting_message": text("What it says first"),
        "fallback_message": text("What it says when it cannot answer"),
    })
}

/// The tools as a model is offered them.
pub(super) fn offered() -> Vec<llm::Tool> {
    let offer = |tool: Tool| llm::Tool {
        name: tool.name().into(),
        description: tool.description().into(),
        parameters: tool.parameters(),
    };
    Tool::ALL.into_iter().map(offer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schema::Schema;

    #[test]
    fn every_tool_has_a_name_of_its_own_and_a_schema_that_takes_nothing_else() {
        for tool in Tool::ALL {
            assert_eq!(Tool::find(tool.name()), Some(tool));
            let schema = Schema::own(tool.parameters()).unwrap();
            assert!(schema.check(&json!({"publish": true})).is_err(), "{tool:?}");
        }
        assert_eq!(Tool::find("create_api_key"), None);
    }

    #[test]
    fn whatever_reaches_others_needs_a_confirmation() {
        let none = json!({});
        let confirmed = Tool::ALL.into_iter().filter(|tool| tool.needs(&none) == Needs::Confirmation);
        let names: Vec<_> = confirmed.map(Tool::name).collect();
        assert_eq!(names, ["connect_channel", "publish_agent", "unpublish_agent", "delete_agent"]);
        assert_eq!(Tool::Attach.needs(&json!({"name": "http_request"})), Needs::Confirmation);
        assert_eq!(Tool::Attach.needs(&json!({"name": "capture_lead"})), Needs::Plan);
    }
}
