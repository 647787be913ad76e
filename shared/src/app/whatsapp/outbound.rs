//! Messages that go out: replies of the agent, and what people of the team write. Each is claimed before it is sent, by
//! one process at a time, and what a provider has taken is noted with the id that it gave. So nothing is sent twice; what
//! a provider's answer was lost of is not sent again, and said to be unknown, until a status tells.

use std::time::Duration;

use super::super::App;
use super::status::{Spot, found};
use super::{Task, api, queue};
use crate::domain::whatsapp::{Claim, Delivery, Line, Reason, State, Talk, formatted, split};
use crate::domain::{Conversation, Message, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::ports::whatsapp::{Api, Content, Sending};
use crate::store;
use crate::store::whatsapp::Trace;
use crate::table::{Cond, Refusal, Unit, Update, decode};

/// How many of a conversation's last messages are looked at for what waits.
const LAST: usize = 40;
/// How long a message is its sender's: longer than a worker works on anything.
const CLAIM: Duration = Duration::from_secs(120);
/// How long a turn's beginning may take to be shown.
const COURTESY: Duration = Duration::from_secs(3);
/// Waits after the tries that a provider could not take; then it is given up.
const WAITS: [u64; 7] = [2, 10, 30, 60, 120, 300, 900];
/// How often a part is noted anew when a status of it came at the same time.
const TRIES: u32 = 6;

/// What is sent beside a part, to know it again in its statuses.
pub(super) fn tag(conversation: Id<Conversation>, message: Id<Message>, part: u32) -> String {
    format!("{}.{}.{part}", conversation.key(), message.key())
}

/// Reads [`tag`].
pub(super) fn read_tag(tag: &str) -> Option<(Id<Conversation>, Id<Message>, u32)> {
    let mut parts = tag.split('.');
    let (conversation, message) = (Id::from_key(parts.next()?)?, Id::from_key(parts.next()?)?);
    Some((conversation, message, parts.next()?.parse().ok()?))
}

/// Sends what waits in a conversation, in order. One that cannot go yet holds back those after it, and comes again.
///
/// # Errors
/// When the table or the queue cannot be reached.
pub async fn flush(
    app: &App,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    named: Id<Message>,
) -> Result<()> {
    let Some(thread) = store::conversation::thread(&app.table, workspace, conversation, LAST).await? else {
        return Ok(());
    };
    let head = thread.head;
    let Some(talk) = &head.whatsapp else { return Ok(()) };
    let mut messages = thread.messages;
    // So many may have come after it that it is none of the last any more.
    if messages.first().is_some_and(|first| named < first.id) {
        let found = store::conversation::message(&app.table, workspace, conversation, named).await?;
        messages.splice(0..0, found);
    }
    for message in messages {
        let Some(delivery) = message.delivery.as_ref().filter(|delivery| delivery.is_waiting()) else { continue };
        match send(app, &head, talk, &message, delivery).await? {
            Went::Through => {}
            // Whoever put it off comes back to it, and to those behind it.
            Went::WaitsFor(_) if message.id != named => return Ok(()),
            Went::WaitsFor(at) => return again(app, &head, &message, at.since(app.now())).await,
            Went::Not(wait) => return again(app, &head, &message, wait).await,
        }
    }
    Ok(())
}

/// Queues a message for later, a little after its time: clocks differ.
async fn again(app: &App, head: &Conversation, message: &Message, wait: Duration) -> Result<()> {
    let (workspace_id, conversation_id, message_id) = (head.workspace_id, head.id, message.id);
    queue(app, &Task::Send { workspace_id, conversation_id, message_id }, wait).await
}

/// Shows on somebody's phone that their message was seen and an answer is being written. A courtesy: it may fail.
pub async fn see(app: &App, head: &Conversation, message: &Message) {
    let (Some(talk), Some(id)) = (&head.whatsapp, &message.client_message_id) else { return };
    let line = line_of(head, talk);
    let seeing = async {
        if let Some(api) = api(app, &line).await? {
            api.see(id).await?;
        }
        Ok::<(), Error>(())
    };
    match tokio::time::timeout(COURTESY, seeing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a message was not shown as seen"),
        Err(_) => tracing::debug!("a message was not shown as seen in time"),
    }
}

fn line_of(head: &Conversation, talk: &Talk) -> Line {
    Line {
        provider: talk.provider,
        phone_number_id: talk.phone_number_id.clone(),
        workspace_id: head.workspace_id,
        agent_id: head.agent_id,
    }
}

/// What came of a message.
enum Went {
    /// It is sent, or given up: the next one may go.
    Through,
    /// It was put off until then.
    WaitsFor(Time),
    /// Not yet; it is to come again after this.
    Not(Duration),
}

async fn send(app: &App, head: &Conversation, talk: &Talk, message: &Message, delivery: &Delivery) -> Result<Went> {
    let now = app.now();
    if let Some(at) = delivery.next_at.filter(|at| *at > now) {
        return Ok(Went::WaitsFor(at));
    }
    if let Some(claim) = &delivery.claim {
        if claim.until > now.millis() {
            let rest = u64::try_from(claim.until - now.millis()).unwrap_or_default();
            return Ok(Went::Not(Duration::from_millis(rest) + Duration::from_secs(1)));
        }
        let text = "The process that sent it stopped, so the message may have gone out or not.";
        return give_up(app, head, message, claim, &Reason::new("unknown", text)).await;
    }
    let claim = Claim { id: app.ids().uuid_of(head.workspace_id), until: (now + CLAIM).millis() };
    if !take(app, head, message, &claim).await? {
        return Ok(Went::Not(Duration::from_secs(1)));
    }
    let line = line_of(head, talk);
    let is_ours = store::whatsapp::line_now(&app.table, &line.phone_number_id).await?.as_ref() == Some(&line);
    let api = if is_ours { api(app, &line).await? } else { None };
    let refusal = match &api {
        None => Some(("not_connected", Code::WhatsappNotConnected.message())),
        Some(_) if !talk.is_open(now) => Some(("window_closed", Code::WhatsappWindowClosed.message())),
        Some(_) => None,
    };
    match (api, refusal) {
        (Some(api), None) => send_parts(app, head, talk, (message, delivery), &claim, (&line, &api)).await,
        (_, refusal) => {
            let (code, text) = refusal.unwrap_or(("not_connected", "The agent has no key for its number."));
            give_up(app, head, message, &claim, &Reason::new(code, text)).await
        }
    }
}

/// Sends the parts that nobody has taken yet, one after the other.
async fn send_parts(
    app: &App,
    head: &Conversation,
    talk: &Talk,
    (message, delivery): (&Message, &Delivery),
    claim: &Claim,
    (line, api): (&Line, &Api<'_>),
) -> Result<Went> {
    let texts = split(&formatted(&message.content));
    let last = texts.len().saturating_sub(1);
    for (number, text) in (0_u32..).zip(&texts) {
        if delivery.sent.contains_key(&Delivery::part(number)) {
            continue;
        }
        let tag = tag(head.id, message.id, number);
        match api.send(&talk.peer, Content::Text(text), &tag).await {
            Sending::Taken(id) => {
                let spot =
                    Spot { workspace: head.workspace_id, conversation: head.id, message: message.id, part: number };
                note(app, line, spot, &id, number as usize == last).await?;
            }
            Sending::Later { wait, reason } => {
                return put_off(app, head, (message, delivery), claim, wait, &reason).await;
            }
            Sending::Refused { reason, is_about_line } => {
                if is_about_line {
                    tracing::error!(agent = %head.agent_id.text(), code = reason.code, "WhatsApp refuses an agent's number");
                }
                return give_up(app, head, message, claim, &reason).await;
            }
            Sending::Unknown(reason) => return give_up(app, head, message, claim, &reason).await,
        }
    }
    Ok(Went::Through)
}

/// Claims a message; says whether it is ours.
async fn take(app: &App, head: &Conversation, message: &Message, claim: &Claim) -> Result<bool> {
    let free = Cond::absent("delivery.claim").and(Cond::absent("delivery.failure")).and(Cond::present("delivery"));
    let update = of(head, message).set("delivery.claim", claim);
    match app.table.update(update, Some(free), Error::new(Code::Conflict)).await {
        Ok(_) => Ok(true),
        // After a lost answer it meets itself.
        Err(Refusal::Conditions(failed)) => {
            let found = failed.into_iter().find_map(|failed| failed.found).map(decode::<Message>).transpose()?;
            let held = found.and_then(|found| found.delivery).and_then(|delivery| delivery.claim);
            Ok(held.as_ref() == Some(claim))
        }
        Err(Refusal::Error(error)) => Err(error),
    }
}

fn of(head: &Conversation, message: &Message) -> Update {
    Update::new(store::keys::message(head.workspace_id, head.id, message.id))
}

/// Notes that a part was taken, with what was told of it before the call was answered.
async fn note(app: &App, line: &Line, spot: Spot, id: &str, is_last: bool) -> Result<()> {
    for _ in 0..TRIES {
        let known = store::whatsapp::trace(&app.table, spot.workspace, line.agent_id, id).await?;
        let v = known.as_ref().map(|known| known.v);
        let mut unit = Unit::new();
        match known.map(|known| known.body) {
            // A status with our tag came first, and has noted it.
            Some(Trace::Out { .. }) => {}
            Some(Trace::Parked { state, reason }) => {
                found(app, &mut unit, line, spot, (id, State::Sent.with(state), reason), v)?;
            }
            Some(Trace::In { .. }) | None => found(app, &mut unit, line, spot, (id, State::Sent, None), v)?,
        }
        match app.commit(unit).await {
            Ok(()) if !is_last => return Ok(()),
            Ok(()) => return let_go(app, spot).await,
            Err(Refusal::Conditions(_)) => {}
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

/// Ends the claim on a message that was sent. Should it stay, nobody minds: nothing of the message waits any more.
async fn let_go(app: &App, spot: Spot) -> Result<()> {
    let update = Update::new(store::keys::message(spot.workspace, spot.conversation, spot.message));
    let update = update.remove("delivery.claim").remove("delivery.next_at");
    match app.table.update(update, Some(Cond::present("delivery")), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Lets a message go for a while, or for good after its last try.
async fn put_off(
    app: &App,
    head: &Conversation,
    (message, delivery): (&Message, &Delivery),
    claim: &Claim,
    wait: Duration,
    reason: &Reason,
) -> Result<Went> {
    let Some(usual) = WAITS.get(delivery.tries as usize) else {
        return give_up(app, head, message, claim, reason).await;
    };
    let wait = wait.max(Duration::from_secs(*usual));
    tracing::warn!(agent = %head.agent_id.text(), code = reason.code, ?wait, "a message goes out later");
    let update = of(head, message)
        .remove("delivery.claim")
        .set("delivery.tries", delivery.tries + 1)
        .set("delivery.next_at", app.now() + wait);
    let ours = Cond::eq("delivery.claim.id", claim.id);
    match app.table.update(update, Some(ours), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(Went::Not(wait)),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Notes why a message, or the rest of it, does not go out.
async fn give_up(app: &App, head: &Conversation, message: &Message, claim: &Claim, reason: &Reason) -> Result<Went> {
    let update = of(head, message).remove("delivery.claim").set("delivery.failure", reason);
    let ours = Cond::eq("delivery.claim.id", claim.id);
    match app.table.update(update, Some(ours), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(Went::Through),
        Err(Refusal::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_part() {
        let (conversation, message) = (Id::from_int(7).unwrap(), Id::from_int(8).unwrap());
        assert_eq!(read_tag(&tag(conversation, message, 2)), Some((conversation, message, 2)));
        assert_eq!(read_tag("somebody else's"), None);
    }
}
