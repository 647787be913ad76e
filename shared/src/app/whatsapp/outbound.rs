//! Messages that go out: replies of the agent, and what people of the team write. Each is claimed before it is sent, by
//! one process at a time, part by part, and what a provider has taken is noted with the id that it gave. So nothing is sent
//! twice; what a provider's answer was lost of is not sent again, and said to be unknown, until a status tells.

use std::time::Duration;

use uuid::Uuid;

use super::super::App;
use super::status::{Spot, found};
use super::{Task, api, queue};
use crate::domain::whatsapp::{Claim, Delivery, Line, Reason, State, Talk, formatted, split};
use crate::domain::{Conversation, Message, Workspace};
use crate::kernel::{Code, Error, Id, Limit, Result, Time};
use crate::ports::whatsapp::{Api, Content, Sending};
use crate::store;
use crate::store::whatsapp::Trace;
use crate::table::{Cond, Failed, Refusal, Unit, Update, decode};

/// How many of a conversation's last messages are looked at for what waits.
const LAST: usize = 40;
/// How long a message is its sender's: longer than a worker works on anything.
const CLAIM: Duration = Duration::from_secs(120);
/// How long a turn's beginning may take to be shown.
const COURTESY: Duration = Duration::from_secs(3);
/// When a message is looked at again that somebody else has moved on.
const SHORTLY: Duration = Duration::from_secs(1);
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

/// Sends what waits in a conversation, in order. One that cannot go yet holds back those after it, and comes again. `unsent` is
/// a claim under which nothing was sent, although it may still stand.
///
/// # Errors
/// When the table or the queue cannot be reached.
pub async fn flush(
    app: &App,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    named: Id<Message>,
    unsent: Option<Uuid>,
) -> Result<()> {
    let Some(thread) = store::conversation::thread(&app.table, workspace, conversation, LAST).await? else {
        return Ok(());
    };
    let head = thread.head;
    let Some(talk) = &head.whatsapp else { return Ok(()) };
    let (mut messages, mut rest) = (thread.messages, None);
    // So many may have come after it that it is none of the last any more, nor what waits behind it.
    if messages.first().is_some_and(|first| named < first.id) {
        let found = store::conversation::message(&app.table, workspace, conversation, named).await?;
        (messages, rest) = (found.into_iter().collect(), Some(named));
    }
    loop {
        for message in messages {
            let Some(delivery) = message.delivery.as_ref().filter(|delivery| delivery.is_waiting()) else { continue };
            match send(app, &head, talk, (&message, delivery), unsent).await? {
                Went::Through => {}
                // Whoever put it off comes back to it, and to those behind it.
                Went::WaitsFor(_) if message.id != named => return Ok(()),
                Went::WaitsFor(at) => return again(app, &head, &message, at.since(app.now()), None).await,
                Went::Not(wait) => return again(app, &head, &message, wait, None).await,
                Went::PutOff => return Ok(()),
            }
        }
        let Some(last) = rest else { return Ok(()) };
        let limit = Limit::new(Some(Limit::MAX))?;
        let page = store::conversation::messages_after(&app.table, workspace, conversation, Some(last), limit).await?;
        rest = page.next.and(page.items.last().map(|message| message.id));
        messages = page.items;
    }
}

/// Queues a message for later, a little after its time: clocks differ.
async fn again(app: &App, head: &Conversation, message: &Message, wait: Duration, unsent: Option<Uuid>) -> Result<()> {
    let (workspace_id, conversation_id, message_id) = (head.workspace_id, head.id, message.id);
    queue(app, &Task::Send { workspace_id, conversation_id, message_id, unsent }, wait).await
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
    /// Not yet; it is queued to come again.
    PutOff,
}

/// What came of claiming a part of a message.
enum Took {
    /// It is ours, and stands so.
    Ours(Delivery),
    /// Nothing of the message waits any more.
    Over,
    /// Somebody else sends it, or it is to be looked at again.
    Not,
}

async fn send(
    app: &App,
    head: &Conversation,
    talk: &Talk,
    (message, delivery): (&Message, &Delivery),
    unsent: Option<Uuid>,
) -> Result<Went> {
    let now = app.now();
    if let Some(at) = delivery.next_at.filter(|at| *at > now) {
        return Ok(Went::WaitsFor(at));
    }
    let Some(first) = delivery.first_unsent() else { return Ok(Went::Through) };
    let before = match &delivery.claim {
        // Whoever claimed it was refused, and could not note that.
        Some(claim) if Some(claim.id) == unsent => Some(claim),
        Some(claim) if claim.until > now.millis() => {
            let rest = u64::try_from(claim.until - now.millis()).unwrap_or_default();
            return Ok(Went::Not(Duration::from_millis(rest) + Duration::from_secs(1)));
        }
        // Whoever claimed it stopped once the part was taken, and before the next one was begun.
        Some(claim) if delivery.is_sent(claim.part) => Some(claim),
        Some(claim) => {
            let text = "The process that sent it stopped, so the message may have gone out or not.";
            let is_given_up = give_up(app, head, message, claim, &Reason::new("unknown", text)).await?;
            return Ok(if is_given_up { Went::Through } else { Went::Not(SHORTLY) });
        }
        None => None,
    };
    // Whatever can fail before the call comes before the claim: one that stays behind says that the message may have gone out.
    let line = line_of(head, talk);
    let is_ours = store::whatsapp::line_now(&app.table, &line.phone_number_id).await?.as_ref() == Some(&line);
    let api = if is_ours { api(app, &line).await? } else { None };
    let claim = Claim { id: app.ids().uuid_of(head.workspace_id), until: (now + CLAIM).millis(), part: first };
    let Some(api) = api else {
        let reason = Reason::new("not_connected", Code::WhatsappNotConnected.message());
        return refuse(app, head, message, (&claim, before), &reason).await;
    };
    if !talk.is_open(now) {
        let reason = Reason::new("window_closed", Code::WhatsappWindowClosed.message());
        return refuse(app, head, message, (&claim, before), &reason).await;
    }
    let delivery = match take(app, head, message, &claim, before).await? {
        Took::Ours(delivery) => delivery,
        Took::Over => return Ok(Went::Through),
        Took::Not => return Ok(Went::Not(SHORTLY)),
    };
    send_parts(app, head, talk, (message, delivery), claim, (&line, &api)).await
}

/// Gives up what could not be tried, if the part could be claimed.
async fn refuse(
    app: &App,
    head: &Conversation,
    message: &Message,
    (claim, before): (&Claim, Option<&Claim>),
    reason: &Reason,
) -> Result<Went> {
    let update = of(head, message).remove("delivery.claim").remove("delivery.next_at").set("delivery.failure", reason);
    let may = may_take(app, claim, before);
    match app.table.update(update, Some(may), Error::new(Code::Conflict)).await {
        Ok(_) => Ok(Went::Through),
        Err(Refusal::Conditions(failed)) => {
            let waits = delivery_of(failed)?.is_some_and(|delivery| delivery.is_waiting());
            Ok(if waits { Went::Not(SHORTLY) } else { Went::Through })
        }
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Sends the parts that nobody has taken yet, one after the other. The first of them is claimed already.
async fn send_parts(
    app: &App,
    head: &Conversation,
    talk: &Talk,
    (message, mut delivery): (&Message, Delivery),
    mut claim: Claim,
    (line, api): (&Line, &Api<'_>),
) -> Result<Went> {
    let texts = split(&formatted(&message.content));
    while let Some(text) = texts.get(claim.part as usize) {
        let part = claim.part;
        let sending = api.send(&talk.peer, Content::Text(text), &tag(head.id, message.id, part)).await;
        let reason = match (sending, WAITS.get(delivery.tries as usize)) {
            (Sending::Taken(id), _) => {
                let spot = Spot { workspace: head.workspace_id, conversation: head.id, message: message.id, part };
                note(app, line, spot, &id).await?;
                None
            }
            (Sending::Later { wait, reason }, Some(usual)) => {
                let wait = wait.max(Duration::from_secs(*usual));
                return put_off(app, head, (message, &delivery), &claim, wait, &reason).await;
            }
            (Sending::Refused { reason, is_about_line }, _) => {
                if is_about_line {
                    tracing::error!(agent = %head.agent_id.text(), code = reason.code, "WhatsApp refuses an agent's number");
                }
                Some(reason)
            }
            (Sending::Later { reason, .. } | Sending::Unknown(reason), _) => Some(reason),
        };
        // Unless a status has told meanwhile that it went out.
        if let Some(reason) = reason
            && give_up(app, head, message, &claim, &reason).await?
        {
            return Ok(Went::Through);
        }
        let Some(next) = delivery.first_unsent_after(part) else { break };
        claim = Claim { part: next, until: (app.now() + CLAIM).millis(), ..claim };
        delivery = match take(app, head, message, &claim, None).await? {
            Took::Ours(delivery) => delivery,
            Took::Over => return Ok(Went::Through),
            Took::Not => return Ok(Went::Not(SHORTLY)),
        };
    }
    let_go(app, head, message, &claim).await?;
    Ok(Went::Through)
}

/// Whether a part may be claimed: by nobody, by us already, or as it was `before`. It must not be known to have gone out, nor the
/// message be put off or given up.
fn may_take(app: &App, claim: &Claim, before: Option<&Claim>) -> Cond {
    let held = |claim: &Claim| Cond::eq("delivery.claim.id", claim.id);
    let free = Cond::absent("delivery.claim").or(held(claim));
    let free =
        before.map_or(free.clone(), |before| free.or(held(before).and(Cond::eq("delivery.claim.until", before.until))));
    let due = Cond::absent("delivery.next_at").or(Cond::le("delivery.next_at", app.now()));
    let waits = Cond::present("delivery").and(Cond::absent("delivery.failure")).and(Cond::absent(sent(claim.part)));
    waits.and(free).and(due)
}

/// Claims a part of a message, if [`may_take`] says so: what was read may be old, so it is sent as it is found now.
async fn take(
    app: &App,
    head: &Conversation,
    message: &Message,
    claim: &Claim,
    before: Option<&Claim>,
) -> Result<Took> {
    let update = of(head, message).set("delivery.claim", claim);
    match app.table.update(update, Some(may_take(app, claim, before)), Error::new(Code::Conflict)).await {
        Ok(item) => {
            let delivery = decode::<Message>(item)?.delivery.filter(Delivery::is_waiting);
            Ok(delivery.map_or(Took::Over, Took::Ours))
        }
        Err(Refusal::Conditions(failed)) => {
            let found = delivery_of(failed)?.filter(Delivery::is_waiting);
            Ok(match found {
                None => Took::Over,
                // After a lost answer it meets itself.
                Some(delivery) if delivery.claim.as_ref() == Some(claim) && !delivery.is_sent(claim.part) => {
                    Took::Ours(delivery)
                }
                Some(_) => Took::Not,
            })
        }
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// How a message stands whose condition did not hold.
fn delivery_of(failed: Vec<Failed>) -> Result<Option<Delivery>> {
    let found = failed.into_iter().find_map(|failed| failed.found).map(decode::<Message>).transpose()?;
    Ok(found.and_then(|found| found.delivery))
}

fn of(head: &Conversation, message: &Message) -> Update {
    Update::new(store::keys::message(head.workspace_id, head.id, message.id))
}

/// Where it is noted that a part was taken.
fn sent(part: u32) -> String {
    format!("delivery.sent.{}", Delivery::part(part))
}

/// Notes that a part was taken, with what was told of it before the call was answered.
async fn note(app: &App, line: &Line, spot: Spot, id: &str) -> Result<()> {
    for _ in 0..TRIES {
        let known = store::whatsapp::trace(&app.table, spot.workspace, line.agent_id, id).await?;
        let v = known.as_ref().map(|known| known.v);
        let mut unit = Unit::new();
        match known.map(|known| known.body) {
            // A status with our tag came first, and has noted it.
            Some(Trace::Out { .. }) => {}
            Some(Trace::Parked { state, reason }) => {
                found(app, &mut unit, line, spot, (id, State::Sent.with(state), reason), v).await?;
            }
            Some(Trace::In { .. }) | None => found(app, &mut unit, line, spot, (id, State::Sent, None), v).await?,
        }
        match app.commit(unit).await {
            Ok(()) => return Ok(()),
            Err(Refusal::Conditions(_)) => {}
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

/// Ends the claim on a message that was sent. Should it stay, nobody minds: nothing of the message waits any more.
async fn let_go(app: &App, head: &Conversation, message: &Message, claim: &Claim) -> Result<()> {
    let update = of(head, message).remove("delivery.claim").remove("delivery.next_at");
    let ours = Cond::eq("delivery.claim.id", claim.id);
    match app.table.update(update, Some(ours), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Lets a message go for a while. It is queued before that is noted: whoever stops in between leaves nothing that nobody
/// comes back to. Whoever does knows the claim as one under which nothing was sent.
async fn put_off(
    app: &App,
    head: &Conversation,
    (message, delivery): (&Message, &Delivery),
    claim: &Claim,
    wait: Duration,
    reason: &Reason,
) -> Result<Went> {
    tracing::warn!(agent = %head.agent_id.text(), code = reason.code, ?wait, "a message goes out later");
    again(app, head, message, wait, Some(claim.id)).await?;
    let update = of(head, message)
        .remove("delivery.claim")
        .set("delivery.tries", delivery.tries + 1)
        .set("delivery.next_at", app.now() + wait);
    let ours = Cond::eq("delivery.claim.id", claim.id);
    match app.table.update(update, Some(ours), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(Went::PutOff),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Notes why a message does not go out from the claimed part on. Says whether it does not: when a status told meanwhile that
/// the part was taken, nothing is noted.
async fn give_up(app: &App, head: &Conversation, message: &Message, claim: &Claim, reason: &Reason) -> Result<bool> {
    let update = of(head, message).remove("delivery.claim").remove("delivery.next_at").set("delivery.failure", reason);
    let ours = Cond::eq("delivery.claim.id", claim.id).and(Cond::absent(sent(claim.part)));
    match app.table.update(update, Some(ours), Error::new(Code::Conflict)).await {
        Ok(_) => Ok(true),
        Err(Refusal::Conditions(failed)) => {
            Ok(delivery_of(failed)?.is_none_or(|delivery| !delivery.is_sent(claim.part)))
        }
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
