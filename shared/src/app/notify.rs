//! Mail about events: to the owner, when a visitor needs a person or a webhook fails; to whom somebody invites.

use serde_json::Value;

use super::{App, appointment_mail, payload, verification};
use crate::domain::billing::ReachedOf;
use crate::domain::invitation::inviter;
use crate::domain::tool::Builtin;
use crate::domain::{Conversation, Event, User, Webhook, Workspace};
use crate::events::catalog::kind;
use crate::kernel::{Code, Result};
use crate::ports::mail::Mail;
use crate::store;

/// Whether somebody gets mail about an event: a visitor asked for a person or for an appointment, one was booked, a
/// webhook fails, somebody is invited.
#[must_use]
pub fn is_wanted(event: &Event) -> bool {
    let data = |field: &str| event.data.get(field);
    let appointment = || data("tool").and_then(Value::as_str) == Some(Builtin::ScheduleAppointment.name());
    match event.kind.as_str() {
        kind::HANDOFF_REQUESTED
        | kind::WEBHOOK_FAILING
        | kind::WEBHOOK_DISABLED
        | kind::CLIENT_INVITED
        | kind::USAGE_REACHED => true,
        kind::TOOL_CALLED => appointment() && data("ok") == Some(&Value::Bool(true)),
        _ => appointment_mail::is_wanted(event),
    }
}

/// Sends the mail about an event, unless it went out before. After a crash in between it may come twice. An address that
/// no server takes is its owner's mistake, and no fault of ours.
///
/// # Errors
/// When the mail is not taken for another reason; the queue gives the task again.
pub async fn mail(app: &App, event: &Event) -> Result<()> {
    if appointment_mail::is_wanted(event) {
        return appointment_mail::mail(app, event).await;
    }
    let Some(workspace) = found(store::workspace::get(&app.table, event.workspace_id).await)? else { return Ok(()) };
    let invited = event.id_in::<User>("user").filter(|_| event.kind == kind::CLIENT_INVITED);
    let told = invited.unwrap_or(workspace.body.owner_user_id);
    let Some(told) = store::user::get(&app.table, told).await? else { return Ok(()) };
    if invited.is_none() && !verification::may_be_told(app, &told).await? {
        return Ok(());
    }
    if store::mail::was_sent(&app.table, event.workspace_id, event.id, None).await? {
        return Ok(());
    }
    let letter = match event.kind.as_str() {
        kind::WEBHOOK_FAILING | kind::WEBHOOK_DISABLED => about_webhook(app, event).await?,
        kind::CLIENT_INVITED => about_invitation(app, &workspace.body, &told).await?,
        kind::USAGE_REACHED => Some(about_usage(app, event)),
        _ => about_visitor(app, event).await?,
    };
    let Some((subject, text)) = letter else { return Ok(()) };
    let subject = subject.replace(char::is_control, " ");
    if app.mail(&told.id.text(), &Mail { to: told.email, subject, text, attachment: None }).await? {
        note(app, event).await;
    }
    Ok(())
}

/// The link of an invitation that still holds. Anybody can register and invite anybody: nothing of the mail is in the words
/// of whoever invites but their name, as far as it is harmless.
async fn about_invitation(app: &App, workspace: &Workspace, invited: &User) -> Result<Option<(String, String)>> {
    let membership = store::workspace::membership(&app.table, workspace.id, invited.id).await?;
    let invitation = membership.and_then(|membership| membership.invitation);
    let Some(invitation) = invitation.filter(|invitation| invitation.expires_at > app.now()) else { return Ok(None) };
    let token = invitation.token(&app.keys().await?.link, workspace.id, invited.id);
    let owner = store::user::get(&app.table, workspace.owner_user_id).await?;
    let who = inviter(&workspace.name, owner.as_ref().map_or("", |owner| &owner.email));
    let doubt = match owner {
        Some(owner) if owner.email_verified => "",
        _ => "They have not shown that this e-mail address is theirs.\n\n",
    };
    let address = &app.config.public_base_url;
    let text = format!(
        "{who} invites you to look after their AI agents at {address}: to read what people write to these agents on web \
         pages and by WhatsApp, and to answer them.\n\n{doubt}\
         Accept within seven days: {address}/auth/invitation#token={token}\n\n\
         If you do not know who invites you, do nothing: without you nothing comes of it.\n",
    );
    Ok(Some(("You are invited to look after AI agents".to_owned(), text)))
}

/// Notes that the mail went out. To fail here would send it once more, which is worse than not to know.
async fn note(app: &App, event: &Event) {
    if let Err(error) = store::mail::sent(&app.table, event, None, app.now()).await {
        tracing::warn!(event = %event.id, %error, "it is not noted that a mail went out");
    }
}

/// What is gone meanwhile needs no mail.
fn found<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.code() == Code::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn about_usage(app: &App, event: &Event) -> (String, String) {
    let number = |field: &str| event.data.get(field).and_then(Value::as_i64).unwrap_or(0);
    let (percent, used, limit) = (number("percent"), number("used"), number("limit"));
    let of_cap = event.data.get("of").and_then(Value::as_str) == Some(ReachedOf::SpendCap.text());
    let dollars = |micro: i64| format!("${}.{:02}", micro / 1_000_000, micro % 1_000_000 / 10_000);
    let what = if of_cap {
        format!("{} of your spend cap of {}", dollars(used), dollars(limit))
    } else {
        format!("{used} of the {limit} messages that your plan includes")
    };
    let then = match (of_cap, percent) {
        (true, 100) => "Agents keep messages from now on and do not answer until the month ends or you raise the cap.",
        (false, 100) => {
            "Further messages are billed by use where your plan sells that; otherwise agents do not answer."
        }
        _ => "Nothing happens yet.",
    };
    let address = &app.config.public_base_url;
    let text = format!("{what} are used.\n\n{then}\n\nHow it stands: GET {address}/api/billing/account\n");
    (format!("{percent} % used: {what}"), text)
}

async fn about_webhook(app: &App, event: &Event) -> Result<Option<(String, String)>> {
    let Some(id) = event.id_in::<Webhook>("webhook") else { return Ok(None) };
    let Some(webhook) = found(store::webhook::get(&app.table, event.workspace_id, id).await)? else { return Ok(None) };
    let (webhook, said) = (webhook.body, |field: &str| event.data.get(field).and_then(Value::as_str).unwrap_or("?"));
    let address = format!("{}/api/developers/webhooks/{}", app.config.public_base_url, webhook.id.int());
    let (subject, text) = if event.kind == kind::WEBHOOK_DISABLED {
        let text = format!(
            "The webhook {} ({}) was switched off: {}\n\nIts events are kept for 30 days. Switch it on again with\n\
             PATCH {address} {{\"is_active\": true}}\nand have it told of what it missed with\n\
             POST {address}/replay {{\"since\": \"{}\"}}\n",
            webhook.name,
            webhook.url,
            said("reason"),
            event.at,
        );
        (format!("The webhook {} was switched off", webhook.name), text)
    } else {
        let text = format!(
            "The webhook {} ({}) has been failing since {}.\nIt is switched off when it fails for five days.\n\n\
             What it answers: GET {address}/deliveries?status=failed\n",
            webhook.name,
            webhook.url,
            said("since"),
        );
        (format!("The webhook {} fails", webhook.name), text)
    };
    Ok(Some((subject, text)))
}

async fn about_visitor(app: &App, event: &Event) -> Result<Option<(String, String)>> {
    let Some(conversation) = event.id_in::<Conversation>("conversation") else { return Ok(None) };
    let head = store::conversation::head(&app.table, event.workspace_id, conversation).await;
    let Some(head) = found(head)? else { return Ok(None) };
    let Some((subject, wish)) = wish(app, event, &head).await? else { return Ok(None) };
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
    Ok(Some((subject, text)))
}

/// What a visitor wishes: a person, or an appointment that could not be booked at once.
async fn wish(app: &App, event: &Event, head: &Conversation) -> Result<Option<(String, String)>> {
    if event.kind == kind::HANDOFF_REQUESTED {
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or("no reason given");
        return Ok(Some((
            format!("A visitor of {} wants a person", head.agent_name),
            format!("A visitor asks for a person: {reason}"),
        )));
    }
    let call = payload::tool_call(app, event).await?;
    // An appointment that was booked has an event of its own, and a look at free slots tells the owner nothing.
    let Some(call) = call.filter(|call| call.result["recorded"] == Value::Bool(true)) else { return Ok(None) };
    let said = |field: &str| call.arguments.get(field).and_then(Value::as_str).unwrap_or("not said").to_owned();
    let text = format!(
        "A visitor asks for an appointment.\nWhen: {}\nWho: {}\nAbout: {}",
        said("when"),
        said("name"),
        said("notes")
    );
    Ok(Some((format!("A visitor of {} wants an appointment", head.agent_name), text)))
}
