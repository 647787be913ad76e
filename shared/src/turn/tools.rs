//! The built-in tools. Each call has the key (message, call): its effect, its event and its result are one
//! transaction under that key, so a repeated turn reads the result instead of acting again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::load::Scene;
use super::redact::Secrets;
use super::schedule;
use crate::app::whatsapp::handoff::{self, Notice, Told as TeamTold};
use crate::app::{App, lead};
use crate::domain::agent::SnapshotTool;
use crate::domain::lead::{Details, LeadSource};
use crate::domain::schema::Schema;
use crate::domain::tool::{Builtin, needs_body};
use crate::domain::{Agent, Conversation, Message};
use crate::events::emit;
use crate::kernel::{Code, Error, Id, Kind, Result};
use crate::ports::egress::{Method, Outbound};
use crate::ports::llm::ToolCall;
use crate::store;
use crate::store::conversation::turn_is;
use crate::store::tool_call::ToolResult;
use crate::table::{Refusal, Unit, Update};

/// How long a customer's web service may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(8);
/// How much of its answer the model sees.
const HTTP_MAX_ANSWER: usize = 16 * 1024;
/// How often a capture is tried when two of them meet.
const TRIES: u32 = 4;

/// Where a call is made.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) conversation: &'a Conversation,
    /// The lease of the turn that calls: without it nothing may come of the call.
    pub(super) lease: Uuid,
    pub(super) anchor: Id<Message>,
    pub(super) index: u32,
}

/// What the model is told.
pub(super) struct Told {
    pub(super) ok: bool,
    pub(super) result: Value,
}

/// A call that is not made.
pub(super) fn refused(why: &str) -> Told {
    Told { ok: false, result: json!({"error": why}) }
}

/// Makes a call, or reads the result of the same call of an earlier, interrupted turn.
///
/// # Errors
/// Only for faults of ours; a call that fails is told to the model.
pub(super) async fn call(app: &App, scene: &Scene, place: Place<'_>, call: &ToolCall) -> Result<Told> {
    let Some(tool) = scene.snapshot.tools.iter().find(|tool| tool.tool.name() == call.name) else {
        return Ok(refused(&format!("There is no tool {}.", call.name)));
    };
    let name = store::tool_call::name(place.index, &call.name, &call.arguments);
    let key = store::tool_call::key(place.conversation.workspace_id, place.conversation.id, place.anchor, &name);
    if let Some(known) = store::tool_call::get(&app.table, &key).await? {
        return Ok(Told { ok: known.ok, result: known.result });
    }
    for _ in 0..TRIES {
        let (mut unit, told) = match effect(app, scene, tool, place, call).await {
            Ok(done) => done,
            Err(error) if error.kind() == Kind::Invalid => (Unit::new(), refused(error.message())),
            Err(error) => return Err(error),
        };
        let result = ToolResult {
            tool: call.name.clone(),
            arguments: call.arguments.clone(),
            ok: told.ok,
            result: told.result.clone(),
        };
        store::tool_call::create(&mut unit, key.clone(), &result, app.now())?;
        emit(&mut unit, &app.events().tool_called(place.conversation, place.anchor, &name, &call.name, told.ok))?;
        let head = store::keys::conversation(place.conversation.workspace_id, place.conversation.id);
        // A hand-off changes the head itself.
        if tool.tool != Builtin::SendWhatsappHandoff {
            unit.check(head.clone(), turn_is(place.lease), Error::new(Code::ConcurrentChange));
        }
        match app.commit(unit).await {
            Ok(()) => return Ok(told),
            // A person has taken over, or the conversation was erased.
            Err(refusal) if refusal.on(&head).is_some() => return Err(Error::new(Code::ConversationBusy)),
            Err(refusal) if refusal.on(&key).is_some() => {
                let known = store::tool_call::get(&app.table, &key).await?;
                return Ok(known.map_or(told, |known| Told { ok: known.ok, result: known.result }));
            }
            // Another turn made the same contact, or booked on the same day, at the same time: look again.
            Err(Refusal::Conditions(_)) => {}
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Ok(refused("The call met another one. Try again."))
}

/// The writes of a call, and what the model is told.
async fn effect(
    app: &App,
    scene: &Scene,
    tool: &SnapshotTool,
    place: Place<'_>,
    call: &ToolCall,
) -> Result<(Unit, Told)> {
    let given = fitting(tool.tool.parameters(&tool.config), &call.arguments)?;
    match tool.tool {
        Builtin::CaptureLead => capture_lead(app, place, arguments(&given)?).await,
        Builtin::SendWhatsappHandoff => hand_off(app, tool, place, &arguments::<HandOff>(&given)?).await,
        Builtin::ScheduleAppointment => schedule::schedule(app, place, scene.snapshot.lang(), arguments(&given)?).await,
        Builtin::HttpRequest => http_request(app, tool, place, arguments(&given)?).await,
    }
}

/// The arguments, if they fit the schema that the tool was offered with.
///
/// # Errors
/// `validation_error` that tells the model what does not fit.
pub fn fitting(parameters: Value, arguments: &Value) -> Result<Value> {
    let mut arguments = arguments.clone();
    if let Some(fields) = arguments.as_object_mut() {
        // Models say null for what they leave out.
        let required = parameters["required"].as_array();
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
        fields.retain(|name, value| !value.is_null() || is_required(name));
    }
    let schema = Schema::own(parameters).map_err(|why| Error::internal(format!("the schema of a tool: {why}")))?;
    schema.check(&arguments).map_err(|why| unfit(&why))?;
    Ok(arguments)
}

/// Arguments that fit, as what the tool takes.
///
/// # Errors
/// `validation_error` that tells the model what does not fit.
pub fn arguments<T: for<'de> Deserialize<'de>>(given: &Value) -> Result<T> {
    T::deserialize(given).map_err(|error| unfit(&error.to_string()))
}

fn unfit(why: &str) -> Error {
    Error::field("arguments", "invalid", format!("The arguments do not fit: {why}."))
}

#[derive(Deserialize)]
struct Capture {
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    interest: Option<String>,
}

async fn capture_lead(app: &App, place: Place<'_>, given: Capture) -> Result<(Unit, Told)> {
    let Capture { name, email, phone, interest } = given;
    let details = Details::check(name.as_deref(), email.as_deref(), phone.as_deref(), interest.as_deref())?;
    let place = lead::Place {
        workspace_id: place.conversation.workspace_id,
        agent_id: place.conversation.agent_id,
        conversation_id: Some(place.conversation.id),
        contact_id: place.conversation.contact_id,
        source: LeadSource::Tool,
    };
    let draft = lead::capture(app, place, &details).await?;
    let stored = json!({"name": draft.value.name, "email": draft.value.email, "phone": draft.value.phone});
    Ok((draft.unit, Told { ok: true, result: json!({"stored": stored}) }))
}

#[derive(Deserialize)]
struct HandOff {
    reason: String,
    phone: Option<String>,
}

/// Records that a person is wanted; the owner is told by event and mail, and the team by `WhatsApp` where that is set
/// up. The model is told which.
async fn hand_off(app: &App, tool: &SnapshotTool, place: Place<'_>, given: &HandOff) -> Result<(Unit, Told)> {
    let head = place.conversation;
    let reason = crate::domain::text::shorten(given.reason.trim(), 500);
    let known = head.whatsapp.as_ref().and_then(|talk| talk.peer.phone.as_deref());
    let notice = Notice { agent: &head.agent_name, reason: &reason, phone: given.phone.as_deref().or(known) };
    let told = handoff::tell(app, (head.workspace_id, head.agent_id), &tool.config, &notice).await?;
    let mut unit = Unit::new();
    let update =
        Update::new(store::keys::conversation(head.workspace_id, head.id)).set("handoff_requested_at", app.now());
    store::conversation::update_head(&mut unit, update, turn_is(place.lease));
    emit(&mut unit, &app.events().handoff_requested(head, "whatsapp", &reason))?;
    let message = match &told {
        TeamTold::Sent => {
            "The request is recorded, and the team has been told by WhatsApp. A person will get in touch."
        }
        TeamTold::Nobody => "The request is recorded and the team has been told. A person will get in touch.",
        TeamTold::Failed(_) => {
            "The request is recorded and shown to the team, but the message to their WhatsApp did not go out. Say that \
             a person will get in touch, and do not promise that they know by now."
        }
    };
    let sent = told == TeamTold::Sent;
    let result =
        json!({"recorded": true, "whatsapp_sent": sent, "reason": reason, "phone": given.phone, "message": message});
    Ok((unit, Told { ok: true, result }))
}

#[derive(Deserialize)]
struct HttpCall {
    method: String,
    url: String,
    body: Option<Value>,
}

async fn http_request(app: &App, tool: &SnapshotTool, place: Place<'_>, given: HttpCall) -> Result<(Unit, Told)> {
    let url = app.egress.check_url(&given.url)?;
    let host = url.host_str().unwrap_or_default();
    let allowed = tool.config.get("allowed_hosts").and_then(Value::as_array);
    // A host means its usual port; another one has to be written beside it.
    let address = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let is_allowed = allowed
        .is_some_and(|hosts| hosts.iter().filter_map(Value::as_str).any(|known| known.eq_ignore_ascii_case(&address)));
    if !is_allowed {
        return Ok((Unit::new(), refused(&format!("Calls to {address} are not allowed."))));
    }
    if given.body.is_none() && needs_body(&tool.config, &given.method) {
        return Err(unfit("\"body\" is a required property"));
    }
    let method = match given.method.as_str() {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        other => return Ok((Unit::new(), refused(&format!("The method {other} is not allowed.")))),
    };
    let secret_headers = secret_headers(app, tool, place).await?;
    let secrets = Secrets::of(&secret_headers);
    let mut headers: Vec<(String, String)> = secret_headers.into_iter().collect();
    headers.push(("idempotency-key".into(), format!("{}-{}", place.anchor.text(), place.index)));
    headers.push(("content-type".into(), "application/json".into()));
    let body = given.body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let call =
        Outbound { method, url: url.into(), headers, body, timeout: HTTP_TIMEOUT, max_response: HTTP_MAX_ANSWER };
    let told = match app.egress.send(call).await {
        Ok(answer) if answer.cut.is_some() => refused("the connection broke before the answer was complete"),
        Ok(answer) => {
            let body = secrets.redact(&String::from_utf8_lossy(&answer.body), answer.truncated);
            let ok = (200..300).contains(&answer.status);
            Told { ok, result: json!({"status": answer.status, "body": body, "truncated": answer.truncated}) }
        }
        Err(error) => refused(&error.to_string()),
    };
    Ok((Unit::new(), told))
}

/// The customer's secret headers of a tool.
async fn secret_headers(app: &App, tool: &SnapshotTool, place: Place<'_>) -> Result<BTreeMap<String, String>> {
    let Some(sealed) = &tool.secrets else { return Ok(BTreeMap::new()) };
    let at = Agent::tool_secret_place(place.conversation.workspace_id, place.conversation.agent_id, tool.tool);
    let text = app.keys().await?.seal.open_text(&at, sealed)?;
    serde_json::from_str(text.expose()).map_err(|_| Error::internal("the sealed headers of a tool do not read"))
}
