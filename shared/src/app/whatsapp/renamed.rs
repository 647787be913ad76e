//! Somebody's number changes, and with it what Meta calls them: they stay the contact that they were, in the conversation
//! that they had. It may be told more than once, and after they wrote; whoever is known as who they are now stays that. Who had
//! the new number before them loses it, and nothing of theirs is left at the former one, which will be somebody else's.

use std::collections::BTreeSet;

use super::super::App;
use crate::domain::contact::WHATSAPP_USER;
use crate::domain::whatsapp::{Line, Peer, Renamed, Talk};
use crate::domain::{Contact, Conversation};
use crate::kernel::{Code, Error, Id, Result, work};
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
    let moves = match &head {
        Some(head) => go_over(app, &mut unit, head, line, renamed).await?,
        None => false,
    };
    let user = renamed.is.user_id.as_ref().map(|user| format!("{WHATSAPP_USER}{user}"));
    let is_known = match &user {
        Some(user) => store::contact::of_user(&app.table, line.workspace_id, line.agent_id, user).await?.is_some(),
        // A number alone tells no more than the conversation that it moves.
        None => !moves,
    };
    if !is_known && let Some(contact) = contact(app, line, &renamed.was, head.as_ref()).await? {
        let talked = head.as_ref().and_then(|head| head.whatsapp.as_ref()?.peer.phone.as_deref());
        let names = Renaming {
            user: user.as_deref(),
            phone: renamed.is.phone.as_deref(),
            former_phone: renamed.was.phone.as_deref().or(talked),
        };
        store::contact::rename(&app.table, &mut unit, &contact, line.agent_id, names, app.now()).await?;
    }
    if unit.is_empty() { Ok(()) } else { app.commit(unit).await.map_err(Error::from) }
}

/// The conversation that they had as who they were.
async fn conversation(app: &App, line: &Line, renamed: &Renamed) -> Result<Option<Conversation>> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    for mark in renamed.was.marks() {
        let Some(id) = store::whatsapp::conversation_of(&app.table, workspace, agent, &mark).await? else { continue };
        let head: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
        let is_theirs = |head: &Conversation| head.whatsapp.as_ref().is_some_and(|talk| renamed.was_in(talk));
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
    let is_theirs = |known: &Contact| {
        let is_unnamed = known.user_id.is_none() || known.user_id == former;
        is_unnamed || (known.phone.is_some() && known.phone == was.phone)
    };
    Ok(known.filter(|known| is_theirs(&known.body)))
}

/// The conversation is theirs as who they are now, and is found by that, and by nothing else; unless they have begun another
/// one. Says whether it is.
async fn go_over(app: &App, unit: &mut Unit, head: &Conversation, line: &Line, renamed: &Renamed) -> Result<bool> {
    let place = (line.workspace_id, line.agent_id);
    let Some(before) = &head.whatsapp else { return Ok(false) };
    let Some(leading) = leading(app, head, line, renamed).await? else { return Ok(false) };
    let talk = Talk { peer: Peer { name: before.peer.name.clone(), ..renamed.is.clone() }, ..before.clone() };
    if talk == *before {
        return Ok(false);
    }
    let now: Vec<String> = talk.peer.marks().collect();
    let former: BTreeSet<String> = before.peer.marks().chain(renamed.was.marks()).collect();
    for mark in former.iter().filter(|mark| !now.contains(mark)) {
        store::whatsapp::unpoint(&app.table, unit, place, mark, head.id).await?;
    }
    for Leading { mark, found, loses_phone } in leading {
        store::whatsapp::point(unit, place, &mark, found, head.id)?;
        if let (Some(other), Some(phone), true) = (found, &renamed.is.phone, loses_phone) {
            store::whatsapp::lose_phone(unit, place.0, other, phone);
        }
    }
    let update = Update::new(store::keys::conversation(head.workspace_id, head.id)).set("whatsapp", &talk);
    let user = "whatsapp.peer.user_id";
    let same = before.peer.user_id.as_ref().map_or_else(|| Cond::absent(user), |known| Cond::eq(user, known));
    let unchanged = Cond::existing().and(Cond::eq("whatsapp.last_inbound_at", before.last_inbound_at)).and(same);
    unit.update(update, unchanged, Error::new(Code::ConcurrentChange));
    Ok(true)
}

/// A mark that is to lead to a conversation, and where it leads before.
struct Leading {
    mark: String,
    found: Option<Id<Conversation>>,
    /// Whether that conversation is with whoever had the number.
    loses_phone: bool,
}

/// The marks of who they are now that do not lead to their conversation, each with where it leads. `None` when that is another
/// conversation of theirs.
async fn leading(app: &App, head: &Conversation, line: &Line, renamed: &Renamed) -> Result<Option<Vec<Leading>>> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    let mut leading = Vec::new();
    for mark in renamed.is.marks() {
        let found = store::whatsapp::conversation_of(&app.table, workspace, agent, &mark).await?;
        if let Some(id) = found.filter(|id| *id != head.id) {
            let other: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
            let talk = other.and_then(|other| other.whatsapp);
            if talk.as_ref().is_some_and(|talk| renamed.is_in(talk)) {
                return Ok(None);
            }
            let loses_phone =
                renamed.is.phone.is_some() && talk.is_some_and(|talk| talk.peer.phone == renamed.is.phone);
            leading.push(Leading { mark, found, loses_phone });
        } else if found.is_none() {
            leading.push(Leading { mark, found, loses_phone: false });
        }
    }
    Ok(Some(leading))
}
