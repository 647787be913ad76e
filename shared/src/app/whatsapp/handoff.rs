//! Telling the team by `WhatsApp` that a visitor wants a person: from the agent's own number to the phone that the tool is
//! configured with. Nobody of the team has written to that number of late, as a rule, so a template may be needed.

use serde_json::{Map, Value};

use super::super::App;
use super::api;
use crate::domain::text::Checks;
use crate::domain::whatsapp::Peer;
use crate::domain::{Agent, Workspace};
use crate::kernel::{Id, Result};
use crate::ports::whatsapp::{Content, Sending};
use crate::store;

/// What a template may have in its places.
const PLACES: [&str; 3] = ["agent", "reason", "phone"];

/// What the team is told.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// What people call the agent.
    pub agent: &'a str,
    /// Why a person is wanted.
    pub reason: &'a str,
    /// The visitor's phone, if it is known.
    pub phone: Option<&'a str>,
}

/// What came of telling the team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The provider took the message.
    Sent,
    /// Nobody's phone is configured, or the agent has no number.
    Nobody,
    /// The provider did not take it, or nobody knows whether it did.
    Failed(String),
}

/// Checks what the tool is configured with.
pub fn check(checks: &mut Checks, config: &Map<String, Value>) {
    if let Some(phone) = config.get("phone") {
        checks.phone("config.phone", phone.as_str().unwrap_or_default());
    }
    let Some(template) = config.get("template").filter(|template| !template.is_null()) else { return };
    let text = |name: &str| template.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
    let names = template.get("parameters").map_or(Some(Vec::new()), |names| names.as_array().cloned());
    let known = names.is_some_and(|names| names.iter().all(|name| PLACES.iter().any(|place| name == place)));
    let message = "config.template must be such as {\"name\": \"handoff\", \"language\": \"en_US\", \"parameters\": \
                   [\"agent\", \"reason\", \"phone\"]}, with some or none of these parameters";
    checks.ensure(text("name") && text("language") && known, "config.template", "invalid", message);
}

/// Tells the team, if the tool and the agent are set up for it.
///
/// # Errors
/// When the table cannot be read.
pub async fn tell(
    app: &App,
    (workspace, agent): (Id<Workspace>, Id<Agent>),
    config: &Map<String, Value>,
    notice: &Notice<'_>,
) -> Result<Told> {
    let phone: String = config.get("phone").and_then(Value::as_str).unwrap_or_default().to_owned();
    let phone: String = phone.chars().filter(char::is_ascii_digit).collect();
    if phone.is_empty() {
        return Ok(Told::Nobody);
    }
    let head = store::agent::get(&app.table, workspace, agent).await?.body;
    let Some(line) = head.line() else { return Ok(Told::Nobody) };
    let Some(api) = api(app, &line).await? else { return Ok(Told::Nobody) };
    let team = Peer { phone: Some(phone), ..Peer::default() };
    let text = words(notice);
    let values: Vec<String> = places(config).map(|place| value(notice, place)).collect();
    let template = config.get("template");
    let field = |name: &str| template.and_then(|template| template.get(name)).and_then(Value::as_str);
    let content = match (field("name"), field("language")) {
        (Some(name), Some(language)) => Content::Template { name, language, parameters: &values },
        _ => Content::Text(&text),
    };
    Ok(match api.send(&team, content, "handoff").await {
        Sending::Taken(_) => Told::Sent,
        Sending::Later { reason, .. } | Sending::Refused { reason, .. } | Sending::Unknown(reason) => {
            tracing::warn!(agent = %agent.text(), code = reason.code, "the team was not told by WhatsApp");
            Told::Failed(reason.text)
        }
    })
}

fn words(notice: &Notice<'_>) -> String {
    let phone = notice.phone.map_or_else(String::new, |phone| format!("\nTheir phone: {phone}"));
    format!("{}: somebody asks for a person.\nWhy: {}{phone}", notice.agent, notice.reason)
}

fn places(config: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let names = config.get("template").and_then(|template| template.get("parameters")).and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str)
}

/// Parameters of a template have no line breaks, and are never empty.
fn value(notice: &Notice<'_>, place: &str) -> String {
    let text = match place {
        "agent" => notice.agent,
        "phone" => notice.phone.unwrap_or("-"),
        _ => notice.reason,
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".to_owned() } else { text }
}
