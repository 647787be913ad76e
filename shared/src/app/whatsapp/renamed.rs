//! Somebody's number changes, and with it what Meta calls them: they stay the contact that they were, in the conversation
//! that they had. It may be told more than once, and after they wrote; whoever is known as who they are now stays that. Who had
//! the new number before them loses it, and nothing of theirs is left at the former one, which will be somebody else's.

use std::collections::BTreeSet;

use super::super::App;
use crate::domain::contact::WHATSAPP_USER;
use crate::domain::whatsapp::{Line, Peer, Renamed, Talk};
use crate::domain::{Contact, Conversation};
use crate::kernel::{Code, Error, Id, Result, Time, work};
use crate::store;
use crate::store::contact::Renaming;
use crate::table::{Cond, Unit, Update, Versioned};

/// How often it is looked up again when somebody else wrote at the same time.
const TRIES: u32 = 6;

/// Knows somebody by their new user id and number, or the one that is told, in the contact and in the conversation, all at once.
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
    let mut unit = Unit::new();
    let head = conversation(app, line, renamed).await?;
    let ahead = ahead(app, line, renamed, head.as_ref()).await?;
    let heir = know(app, &mut unit, line, renamed, (head.as_ref(), &ahead)).await?;
    match (&head, &ahead.own) {
        (Some(head), None) => go_over(app, &mut unit, line, head, renamed, &ahead).await?,
        (Some(head), Some(_)) => leave(app, &mut unit, line, head, renamed, heir).await?,
        (None, _) => {}
    }
    if let Some(own) = &ahead.own {
        learn(&mut unit, line, own, renamed, &ahead)?;
    }
    if unit.is_empty() { Ok(()) } else { app.commit(unit).await.map_err(Error::from) }
}

/// The conversation that they had as who they were.
async fn conversation(app: &App, line: &Line, renamed: &Renamed) -> Result<Option<Conversation>> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    for mark in renamed.was.marks() {
        let Some(id) = store::whatsapp::conversation_of(&app.table, workspace, agent, &mark).await? else { continue };
        let head: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
        let is_theirs = |talk: &Talk| talk.peer.has(&mark) && renamed.was_in(talk);
        if let Some(head) = head.filter(|head| head.whatsapp.as_ref().is_some_and(is_theirs)) {
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
    let is_theirs = |known: &Contact| {
        let is_unnamed = known.user_id.is_none() || known.user_id == former;
        is_unnamed || (known.phone.is_some() && known.phone == was.phone)
    };
    Ok(known.filter(|known| is_theirs(&known.body)))
}

/// What they are found by as who they are now.
struct Ahead {
    /// Who they are: without the number, if somebody else has written from it since.
    is: Peer,
    /// The conversation that they have begun as that, if it is another one than they had.
    own: Option<Conversation>,
    /// The marks of who they are, each with where it leads.
    marks: Vec<(String, Option<Id<Conversation>>)>,
    /// That of whoever had the number before.
    former: Option<Id<Conversation>>,
}

async fn ahead(app: &App, line: &Line, renamed: &Renamed, had: Option<&Conversation>) -> Result<Ahead> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    let mut ahead = Ahead { is: renamed.is.clone(), own: None, marks: Vec::new(), former: None };
    for mark in renamed.is.marks() {
        let found = store::whatsapp::conversation_of(&app.table, workspace, agent, &mark).await?;
        let is_known = |id: &Id<Conversation>| [had, ahead.own.as_ref()].iter().flatten().any(|head| head.id == *id);
        if let Some(id) = found.filter(|id| !is_known(id)) {
            let head: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
            match head.as_ref().and_then(|head| head.whatsapp.as_ref()) {
                Some(talk) if talk.peer.has(&mark) && renamed.is_in(talk) => ahead.own = ahead.own.or(head),
                Some(talk) if renamed.is.phone.is_some() && talk.peer.phone == renamed.is.phone => {
                    if renamed.at.is_some_and(|at| talk.last_inbound_at > at) {
                        // It is told late: the number is theirs who wrote from it last.
                        ahead.is.phone = None;
                        continue;
                    }
                    ahead.former = found;
                }
                _ => {}
            }
        }
        ahead.marks.push((mark, found));
    }
    Ok(ahead)
}

/// The contact that they were is known as who they are now; where another one is that already, it loses their former number,
/// and the other one learns the number that they have. Gives who is to have the conversation that they leave, if somebody else is.
async fn know(
    app: &App,
    unit: &mut Unit,
    line: &Line,
    renamed: &Renamed,
    (head, ahead): (Option<&Conversation>, &Ahead),
) -> Result<Option<Id<Contact>>> {
    let (table, now) = (&app.table, app.now());
    let user = ahead.is.user_id.as_ref().map(|user| format!("{WHATSAPP_USER}{user}"));
    let known = match &user {
        Some(user) => store::contact::of_user(table, line.workspace_id, line.agent_id, user).await?,
        None => None,
    };
    let was = contact(app, line, &renamed.was, head).await?;
    let talked = head.and_then(|head| head.whatsapp.as_ref()?.peer.phone.as_deref());
    let former_phone =
        renamed.was.phone.as_deref().or(talked).filter(|phone| Some(*phone) != ahead.is.phone.as_deref());
    // A number alone tells no more than the conversation that goes over.
    let is_renamed = if user.is_some() { known.is_none() } else { head.is_some() && ahead.own.is_none() };
    if is_renamed {
        if let Some(was) = &was {
            let names = Renaming { user: user.as_deref(), phone: ahead.is.phone.as_deref(), former_phone };
            store::contact::rename(table, unit, was, line.agent_id, names, now).await?;
        }
        return Ok(None);
    }
    let was = was.filter(|was| known.as_ref().is_none_or(|known| known.body.id != was.body.id));
    let has_former = |contact: &Contact| contact.phone.is_some() && contact.phone.as_deref() == former_phone;
    if let (Some(was), Some(phone)) = (was.as_ref().filter(|was| has_former(&was.body)), former_phone)
        && !is_anothers(app, line, phone, renamed.at, head).await?
    {
        store::contact::set_phone(table, unit, was, None, now).await?;
    }
    if let (Some(known), Some(phone)) = (&known, &ahead.is.phone)
        && (known.body.phone.is_none() || has_former(&known.body))
    {
        store::contact::set_phone(table, unit, known, Some(phone), now).await?;
    }
    // Whom nothing else finds is erased with who they are now.
    let is_lost =
        |was: &Contact| was.email.is_none() && was.user_id.as_ref().is_none_or(|user| user.starts_with(WHATSAPP_USER));
    let begun = known.map(|known| known.body.id).or_else(|| ahead.own.as_ref()?.contact_id);
    Ok(begun.filter(|_| was.is_some_and(|was| is_lost(&was.body))))
}

/// Whether somebody has written from a number since, in another conversation.
async fn is_anothers(
    app: &App,
    line: &Line,
    phone: &str,
    since: Option<Time>,
    had: Option<&Conversation>,
) -> Result<bool> {
    let (workspace, peer) = (line.workspace_id, Peer { phone: Some(phone.to_owned()), ..Peer::default() });
    for mark in peer.marks() {
        let found = store::whatsapp::conversation_of(&app.table, workspace, line.agent_id, &mark).await?;
        let Some(id) = found.filter(|id| had.is_none_or(|head| head.id != *id)) else { continue };
        let other: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
        let talk = other.and_then(|other| other.whatsapp).filter(|talk| talk.peer.phone == peer.phone);
        if talk.is_some_and(|talk| since.is_none_or(|since| talk.last_inbound_at > since)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The conversation is theirs as who they are now, and is found by that, and by nothing else.
async fn go_over(
    app: &App,
    unit: &mut Unit,
    line: &Line,
    head: &Conversation,
    renamed: &Renamed,
    ahead: &Ahead,
) -> Result<()> {
    let Some(before) = &head.whatsapp else { return Ok(()) };
    unpoint(app, unit, line, head, renamed).await?;
    lead(unit, line, head.id, renamed, ahead)?;
    let talk = Talk { peer: Peer { name: before.peer.name.clone(), ..ahead.is.clone() }, ..before.clone() };
    if talk != *before {
        let update = Update::new(store::keys::conversation(head.workspace_id, head.id)).set("whatsapp", &talk);
        unit.update(update, unchanged(before), Error::new(Code::ConcurrentChange));
    }
    Ok(())
}

/// They have begun another conversation as who they are now: nothing leads to the one before, and nothing goes out from it, for
/// what they were found by there will be somebody else's. It goes to an heir, if they have one.
async fn leave(
    app: &App,
    unit: &mut Unit,
    line: &Line,
    head: &Conversation,
    renamed: &Renamed,
    heir: Option<Id<Contact>>,
) -> Result<()> {
    let Some(before) = &head.whatsapp else { return Ok(()) };
    unpoint(app, unit, line, head, renamed).await?;
    let talk = Talk { peer: Peer { name: before.peer.name.clone(), ..Peer::default() }, ..before.clone() };
    let mut update = Update::new(store::keys::conversation(head.workspace_id, head.id)).set("whatsapp", &talk);
    if let Some(heir) = heir {
        let key = store::keys::contact(head.workspace_id, heir);
        if !unit.has(&key) {
            unit.check(key, Cond::existing(), Error::new(Code::ConcurrentChange));
        }
        update = update.set("contact_id", heir);
    }
    unit.update(update, unchanged(before), Error::new(Code::ConcurrentChange));
    Ok(())
}

/// A conversation that is theirs as who they are now, but does not know their number yet, is found by that too.
fn learn(unit: &mut Unit, line: &Line, own: &Conversation, renamed: &Renamed, ahead: &Ahead) -> Result<()> {
    let (Some(before), Some(phone)) = (&own.whatsapp, &ahead.is.phone) else { return Ok(()) };
    if before.peer.phone.is_some() {
        return Ok(());
    }
    lead(unit, line, own.id, renamed, ahead)?;
    let at = "whatsapp.peer.phone";
    let update = Update::new(store::keys::conversation(own.workspace_id, own.id)).set(at, phone);
    unit.update(update, unchanged(before).and(Cond::absent(at)), Error::new(Code::ConcurrentChange));
    Ok(())
}

/// What they were found by leads to their conversation no more, unless they are found by it now.
async fn unpoint(app: &App, unit: &mut Unit, line: &Line, head: &Conversation, renamed: &Renamed) -> Result<()> {
    let place = (line.workspace_id, line.agent_id);
    let now: Vec<String> = renamed.is.marks().collect();
    let known = head.whatsapp.iter().flat_map(|talk| talk.peer.marks());
    let former: BTreeSet<String> = known.chain(renamed.was.marks()).collect();
    for mark in former.iter().filter(|mark| !now.contains(mark)) {
        store::whatsapp::unpoint(&app.table, unit, place, mark, head.id).await?;
    }
    Ok(())
}

/// What they are found by now leads to this conversation, and whoever had the number before has it no more.
fn lead(unit: &mut Unit, line: &Line, to: Id<Conversation>, renamed: &Renamed, ahead: &Ahead) -> Result<()> {
    let place = (line.workspace_id, line.agent_id);
    for (mark, found) in ahead.marks.iter().filter(|(_, found)| *found != Some(to)) {
        store::whatsapp::point(unit, place, mark, *found, to)?;
    }
    if let (Some(other), Some(phone)) = (ahead.former, &ahead.is.phone) {
        store::whatsapp::lose_phone(unit, place.0, other, phone, renamed.at);
    }
    Ok(())
}

/// That nobody has written in a conversation, nor moved it, since it was read.
fn unchanged(before: &Talk) -> Cond {
    let user = "whatsapp.peer.user_id";
    let same = before.peer.user_id.as_ref().map_or_else(|| Cond::absent(user), |known| Cond::eq(user, known));
    Cond::existing().and(Cond::eq("whatsapp.last_inbound_at", before.last_inbound_at)).and(same)
}
