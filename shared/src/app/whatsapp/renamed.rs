//! Somebody's number changes, and with it what Meta calls them: they stay the contact that they were, in the conversation
//! that they had. It may be told more than once, and after they wrote; whoever is known as who they are now stays that.

use super::super::App;
use crate::domain::contact::WHATSAPP_USER;
use crate::domain::whatsapp::{Line, Peer, Renamed, Talk};
use crate::domain::{Contact, Conversation};
use crate::kernel::{Code, Error, Result, work};
use crate::store;
use crate::table::{Cond, Unit, Update, Versioned};

/// How often it is looked up again when somebody else wrote at the same time.
const TRIES: u32 = 6;

/// Knows somebody by their new user id and number, in the contact and in the conversation, all at once.
///
/// # Errors
/// When the table cannot be reached.
pub async fn follow(app: &App, line: &Line, renamed: &Renamed) -> Result<()> {
    work::note("tenant", line.workspace_id);
    work::note("agent", line.agent_id);
    for _ in 0..TRIES {
        match follow_once(app, line, renamed).await {
            Err(error) if error.code() == Code::ConcurrentChange => {}
            other => return other,
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

async fn follow_once(app: &App, line: &Line, renamed: &Renamed) -> Result<()> {
    let Some(user) = &renamed.is.user_id else { return Ok(()) };
    let (table, workspace, agent) = (&app.table, line.workspace_id, line.agent_id);
    let mut unit = Unit::new();
    let head = conversation(app, line, &renamed.was).await?;
    if let Some(head) = &head {
        go_over(app, &mut unit, head, line, &renamed.is).await?;
    }
    let user = format!("{WHATSAPP_USER}{user}");
    if store::contact::of_user(table, workspace, agent, &user).await?.is_none()
        && let Some(contact) = contact(app, line, &renamed.was, head.as_ref()).await?
    {
        let names = (user.as_str(), renamed.is.phone.as_deref());
        store::contact::rename(table, &mut unit, &contact, agent, names, app.now()).await?;
    }
    if unit.is_empty() { Ok(()) } else { app.commit(unit).await.map_err(Error::from) }
}

/// The conversation that they had as who they were.
async fn conversation(app: &App, line: &Line, was: &Peer) -> Result<Option<Conversation>> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    for mark in was.marks() {
        let Some(id) = store::whatsapp::conversation_of(&app.table, workspace, agent, &mark).await? else { continue };
        let head: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
        let is_theirs = |head: &Conversation| head.whatsapp.as_ref().is_some_and(|talk| talk.peer.may_be(was));
        if let Some(head) = head.filter(is_theirs) {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// The contact that they were: by their user id, else that of their conversation, unless it has another one.
async fn contact(
    app: &App,
    line: &Line,
    was: &Peer,
    head: Option<&Conversation>,
) -> Result<Option<Versioned<Contact>>> {
    let (table, workspace) = (&app.table, line.workspace_id);
    let talked = head.and_then(|head| head.whatsapp.as_ref()?.peer.user_id.as_ref());
    let former = was.user_id.as_ref().or(talked).map(|user| format!("{WHATSAPP_USER}{user}"));
    if let Some(user) = &former
        && let Some(known) = store::contact::of_user(table, workspace, line.agent_id, user).await?
    {
        return Ok(Some(known));
    }
    let Some(id) = head.and_then(|head| head.contact_id) else { return Ok(None) };
    let known: Option<Versioned<Contact>> = table.get_versioned(&store::keys::contact(workspace, id)).await?;
    Ok(known.filter(|known| known.body.user_id.is_none() || known.body.user_id == former))
}

/// The conversation is theirs as who they are now, and is found by that; unless they have begun another one.
async fn go_over(app: &App, unit: &mut Unit, head: &Conversation, line: &Line, is: &Peer) -> Result<()> {
    let (table, place) = (&app.table, (line.workspace_id, line.agent_id));
    let Some(before) = &head.whatsapp else { return Ok(()) };
    for mark in is.marks() {
        if store::whatsapp::conversation_of(table, place.0, place.1, &mark).await?.is_some_and(|found| found != head.id)
        {
            return Ok(());
        }
    }
    let talk = Talk { peer: before.peer.updated(is), ..before.clone() };
    if talk == *before {
        return Ok(());
    }
    let now: Vec<String> = talk.peer.marks().collect();
    for mark in before.peer.marks().filter(|mark| !now.contains(mark)) {
        store::whatsapp::unpoint(table, unit, place, &mark, head.id).await?;
    }
    for mark in is.marks() {
        if store::whatsapp::conversation_of(table, place.0, place.1, &mark).await?.is_none() {
            store::whatsapp::point(unit, place, &mark, None, head.id)?;
        }
    }
    let update = Update::new(store::keys::conversation(head.workspace_id, head.id)).set("whatsapp", &talk);
    let user = "whatsapp.peer.user_id";
    let same = before.peer.user_id.as_ref().map_or_else(|| Cond::absent(user), |known| Cond::eq(user, known));
    let unchanged = Cond::existing().and(Cond::eq("whatsapp.last_inbound_at", before.last_inbound_at)).and(same);
    unit.update(update, unchanged, Error::new(Code::ConcurrentChange));
    Ok(())
}
