//! The built-in tools: what a model is told of each, and what its configuration needs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::schema::Schema;

/// How an `http_request` may be made.
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// Those of them that send something.
const SENDING: [&str; 3] = ["POST", "PUT", "PATCH"];

/// A built-in tool. Studio names it as here; orgs by the qualified id in `docs/DOMAIN.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Stores contact details as a lead.
    CaptureLead,
    /// Books an appointment, or records the wish for one.
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
                "Find free times and book appointments. With action find_slots it lists free times from the day in `when` \
                 on; with action book it books `when` if that is free, and lists the nearest free times if not. Book only \
                 what the visitor chose, and ask for their name and e-mail first, so that a confirmation reaches them. \
                 Only a result with \"booked\": true is an appointment. One with \"recorded\": true is a wish that a \
                 person confirms later: never promise it."
            }
            Self::SendWhatsappHandoff => "Ask a person of the team to go on with the visitor on WhatsApp.",
            Self::HttpRequest => "Call a web service of the company to look something up or to do something.",
        }
    }

    /// The JSON schema of its arguments, with what its owner configured. Every call is held against it.
    #[must_use]
    pub fn parameters(self, config: &Map<String, Value>) -> Value {
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
                    "action": {"type": "string", "enum": ["book", "find_slots"],
                        "description": "What to do; book when left out"},
                    "when": text(
                        "Date and time as 2040-03-05T10:00, in the company's time zone unless an offset follows; \
                         for find_slots a date such as 2040-03-05 is enough. Only if you cannot tell the date: the \
                         visitor's own words",
                    ),
                    "name": text("Who comes"), "email": text("Their e-mail address"),
                    "phone": text("Their phone number with country code"), "notes": text("What it is about"),
                }),
                json!(["when"]),
            ),
            Self::SendWhatsappHandoff => (
                json!({"reason": text("Why a person is needed"), "phone": text("The visitor's WhatsApp number, if given")}),
                json!(["reason"]),
            ),
            Self::HttpRequest => {
                let methods = methods(config);
                let needs_body = methods.iter().all(|method| needs_body(config, method));
                let required = if needs_body { json!(["method", "url", "body"]) } else { json!(["method", "url"]) };
                let method = json!({"type": "string", "enum": methods});
                let url = text("Absolute https URL on an allowed host");
                (json!({"method": method, "url": url, "body": body(config)}), required)
            }
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

/// The methods that the owner allows; all of them when nothing is said.
fn methods(config: &Map<String, Value>) -> Vec<&'static str> {
    let allowed = config.get("methods").and_then(Value::as_array);
    let is_allowed = |method: &str| allowed.is_none_or(|allowed| allowed.iter().any(|known| known == method));
    METHODS.into_iter().filter(|method| is_allowed(method)).collect()
}

/// What a body looks like: an object, or what the owner says. One whose schema is not understood any more is refused.
fn body(config: &Map<String, Value>) -> Value {
    match config.get("body_schema").map(Schema::write_out) {
        None => json!({"type": "object", "description": "JSON body, for methods that send one"}),
        Some(Ok(schema)) => schema,
        Some(Err(_)) => json!({"not": {}}),
    }
}

/// Whether a web request by this method may not go out without a body: its owner said what it looks like.
#[must_use]
pub fn needs_body(config: &Map<String, Value>, method: &str) -> bool {
    config.contains_key("body_schema") && SENDING.contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tools_own_schema_is_one() {
        for tool in Builtin::ALL {
            let parameters = tool.parameters(&Map::new());
            assert!(Schema::read(&parameters).is_ok_and(|schema| *schema.written_out() == parameters), "{tool:?}");
        }
    }

    #[test]
    fn a_web_request_is_offered_as_its_owner_configured_it() {
        let offered = |config: Value| Builtin::HttpRequest.parameters(config.as_object().unwrap());
        let free = offered(json!({}));
        assert_eq!(free["properties"]["method"]["enum"], json!(METHODS));
        assert_eq!(
            (&free["properties"]["body"]["type"], &free["required"]),
            (&json!("object"), &json!(["method", "url"]))
        );
        let schema = json!({"$ref": "#/$defs/order", "$defs": {"order": {"type": "object", "required": ["id"]}}});
        let both = offered(json!({"body_schema": schema}));
        assert_eq!(both["properties"]["body"], json!({"type": "object", "required": ["id"]}));
        assert_eq!(both["required"], json!(["method", "url"]), "a GET has none");
        let posting = offered(json!({"methods": ["PATCH", "POST"], "body_schema": schema}));
        assert_eq!(posting["properties"]["method"]["enum"], json!(["POST", "PATCH"]));
        assert_eq!(posting["required"], json!(["method", "url", "body"]));
        let unread = offered(json!({"body_schema": {"madeUpKeyword": 1}}));
        assert_eq!(unread["properties"]["body"], json!({"not": {}}), "nothing fits");
    }

    #[test]
    fn each_tool_is_found_by_its_name_and_serialises_as_it() {
        for tool in Builtin::ALL {
            assert_eq!(Builtin::find(tool.name()), Some(tool));
            assert_eq!(serde_json::to_value(tool).unwrap(), tool.name());
        }
        assert_eq!(Builtin::find("rm_rf"), None);
    }
}
