//! The built-in tools: what a model is told of each, and what its configuration needs.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A built-in tool. Studio names it as here; orgs by the qualified id in `docs/DOMAIN.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Stores contact details as a lead.
    CaptureLead,
    /// Records the wish for an appointment.
    ScheduleAppointment,
    /// Asks for a person on `WhatsApp`.
    SendWhatsappHandoff,
    /// Calls a web service of the customer's.
    HttpRequest,
}

impl Builtin {
    /// Every tool.
    pub const ALL: [Builtin; 4] =
        [Self::CaptureLead, Self::ScheduleAppointment, Self::SendWhatsappHandoff, Self::HttpRequest];

    /// Its name, as the model and studio know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CaptureLead => "capture_lead",
            Self::ScheduleAppointment => "schedule_appointment",
            Self::SendWhatsappHandoff => "send_whatsapp_handoff",
            Self::HttpRequest => "http_request",
        }
    }

    /// The tool of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// What the model is told.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::CaptureLead => "Store the visitor's contact details as soon as they give any of them.",
            Self::ScheduleAppointment => {
                "Record the visitor's wish for an appointment. A person confirms it later: never promise the slot."
            }
            Self::SendWhatsappHandoff => "Ask a person of the team to go on with the visitor on WhatsApp.",
            Self::HttpRequest => "Call a web service of the company to look something up or to do something.",
        }
    }

    /// The JSON schema of its arguments.
    #[must_use]
    pub fn parameters(self) -> Value {
        let text = |about: &str| json!({"type": "string", "description": about});
        let (properties, required) = match self {
            Self::CaptureLead => (
                json!({
                    "name": text("Full name"), "email": text("E-mail address"),
                    "phone": text("Phone number with country code"), "interest": text("What they want, in a sentence"),
                }),
                json!([]),
            ),
            Self::ScheduleAppointment => (
                json!({
                    "when": text("Day and time as the visitor said it, with the time zone if known"),
                    "name": text("Who wants it"), "notes": text("What it is about"),
                }),
                json!(["when"]),
            ),
            Self::SendWhatsappHandoff => (
                json!({"reason": text("Why a person is needed"), "phone": text("The visitor's WhatsApp number, if given")}),
                json!(["reason"]),
            ),
            Self::HttpRequest => (
                json!({
                    "method": {"type": "string", "enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
                    "url": text("Absolute https URL on an allowed host"),
                    "body": {"type": "object", "description": "JSON body, for methods that send one"},
                }),
                json!(["method", "url"]),
            ),
        };
        json!({"type": "object", "properties": properties, "required": required})
    }

    /// Fields that its configuration must have before a turn offers it. An `http_request` without allowed hosts could
    /// be talked into calling anywhere, so it waits for them.
    #[must_use]
    pub const fn required_config(self) -> &'static [&'static str] {
        match self {
            Self::CaptureLead | Self::ScheduleAppointment | Self::SendWhatsappHandoff => &[],
            Self::HttpRequest => &["allowed_hosts"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_is_found_by_its_name_and_serialises_as_it() {
        for tool in Builtin::ALL {
            assert_eq!(Builtin::find(tool.name()), Some(tool));
            assert_eq!(serde_json::to_value(tool).unwrap(), tool.name());
        }
        assert_eq!(Builtin::find("rm_rf"), None);
    }
}
