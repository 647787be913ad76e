//! Mail to the owner when a visitor needs a person.

use serde_json::Value;

use super::{App, payload};
use crate::domain::tool::Builtin;
use crate::domain::{Conversation, Event};
use crate::events::catalog::kind;
use crate::kernel::{Code, Error, Result};
use crate::ports::mail::Mail;
use crate::store;

/// Whether the owner gets mail about an event: a visitor asked for a person or for an appointment.
#[must_use]
pub fn is_wanted(event: &Event) -> bool {
    let data = |field: &str| event.data.get(field);
    let appointment = || data("tool").and_then(Value::as_str) == Some(Builtin::ScheduleAppointment.name());
    match event.kind.as_str() {
        kind::HANDOFF_REQUESTED => true,
        kind::TOOL_CALLED => appointment() && data("ok") == Some(&Value::Bool(true)),
        _ => false,
    }
}

/// Sends the owner's mail about an event. Sent at least once: after a crash in between it may come twice.
///
/// # Errors
/// When the mail is not taken; the queue gives the task again.
pub async fn mail_owner(app: &App, event: &Event) -> Result<()> {
    let workspace = match store::workspace::get(&app.table, event.workspace_id).await {
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        other => other?.body,
    };
    let Some(owner) = store::user::get(&app.table, workspace.owner_user_id).await? else { return Ok(()) };
    let Some(conversation) = event.id_in::<Conversation>("conversation") else { return Ok(()) };
    let head = match store::conversation::head(&app.table, event.workspace_id, conversation).await {
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        other => other?,
    };
    let (subject, wish) = wish(app, event, &head).await?;
    let subject = subject.replace(char::is_control, " ");
    let text = format!(
        "{wish}\n\nAgent: {}\nConversation: {}\nLast message: {}\n\nTo answer: POST {{\"content\": …}} to\n\
         {}/api/clients/me/agents/{}/conversations/{}/messages\n",
        head.agent_name,
        head.id.int(),
        head.last_preview,
        app.config.public_base_url,
        head.agent_id.int(),
        head.id.int(),
    );
    app.mailer.send(&Mail { to: owner.email, subject, text }).await.map_err(|error| match error.code() {
        // An address that no server takes will not get better; anything else is tried again.
        Code::ValidationError => Error::internal(format!("the owner's address is not valid: {error}")),
        _ => error,
    })
}

async fn wish(app: &App, event: &Event, head: &Conversation) -> Result<(String, String)> {
    if event.kind == kind::HANDOFF_REQUESTED {
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or("no reason given");
        return Ok((
            format!("A visitor of {} wants a person", head.agent_name),
            format!("A visitor asks for a person: {reason}"),
        ));
    }
    let call = payload::tool_call(app, event).await?;
    let said = |field: &str| {
        let value = call.as_ref().and_then(|call| call.arguments.get(field)).and_then(Value::as_str);
        value.unwrap_or("not said").to_owned()
    };
    let text = format!(
        "A visitor asks for an appointment.\nWhen: {}\nWho: {}\nAbout: {}",
        said("when"),
        said("name"),
        said("notes")
    );
    Ok((format!("A visitor of {} wants an appointment", head.agent_name), text))
}
