//! Messages that come in: each is stored once, in the conversation of whoever wrote it.

use std::time::Duration;

use super::super::App;
use super::super::conversation::{silence_timer, touched_by_visitor};
use super::{Task, api, drop_files, queue};
use crate::domain::contact::WHATSAPP_USER;
use crate::domain::contact::WhatsappUser;
use crate::domain::conversation::Channel;
use crate::domain::lead::Details;
use crate::domain::message::Author;
use crate::domain::text::shorten;
use crate::domain::whatsapp::{File, FileRef, Inbound, Line, Peer, Talk};
use crate::domain::{Contact, Conversation, Message, Workspace};
use crate::events::emit;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, Time, work};
use crate::ports::objects::Objects;
use crate::ports::whatsapp::{Missed, media_type};
use crate::store;
use crate::store::whatsapp::Trace;
use crate::table::{Cond, Unit};

/// How often a message is stored anew when somebody else wrote at the same time.
const TRIES: u32 = 6;
/// Waits after the tries at a file that a provider could not give just then; then the message is stored without it. Media
/// can be had for days, but whoever sent it waits for an answer.
const WAITS: [u64; 4] = [5, 30, 120, 300];

/// Stores a message and asks for its answer after a short wait, in which more may come. One that is known only asks for
/// its answer again, which does no harm: nothing is answered twice. One whose file cannot be had just now comes again.
///
/// # Errors
/// When the table, the objects or the queue cannot be reached.
pub async fn receive(app: &App, line: &Line, inbound: &Inbound, tries: u32) -> Result<()> {
    work::note("tenant", line.workspace_id);
    work::note("agent", line.agent_id);
    let mut file = None;
    for _ in 0..TRIES {
        let known = store::whatsapp::trace(&app.table, line.workspace_id, line.agent_id, &inbound.id).await?;
        if let Some(Trace::In { conversation_id, message_id }) = known.map(|known| known.body) {
            forget_unless_kept(app, line, file.as_ref(), (conversation_id, message_id)).await?;
            return ask(app, line, conversation_id, message_id).await;
        }
        // Once, and before anything is stored: the address holds for minutes.
        if let (Some(wanted), None) = (&inbound.file, &file) {
            let wait = WAITS.get(tries as usize).map(|seconds| Duration::from_secs(*seconds));
            file = match (fetch(app, line, &inbound.id, wanted).await?, wait) {
                (Err(Missed { passes: true, .. }), Some(wait)) => {
                    let (line, message) = (line.clone(), inbound.clone());
                    return queue(app, &Task::Inbound { line, message, tries: tries + 1 }, wait).await;
                }
                (Err(Missed { why, .. }), _) => Some(missing(wanted, &why)),
                (Ok(file), _) => Some(file),
            };
        }
        match store_once(app, line, inbound, file.as_ref()).await {
            Ok(Some(message)) => return ask(app, line, message.conversation_id, message.id).await,
            Ok(None) => return forget(app, line, file.as_ref()).await,
            Err(error) if error.code() == Code::ConcurrentChange => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

async fn ask(app: &App, line: &Line, conversation: Id<Conversation>, message: Id<Message>) -> Result<()> {
    let Line { workspace_id, agent_id, .. } = *line;
    let task = Task::Answer { workspace_id, agent_id, conversation_id: conversation, message_id: message };
    queue(app, &task, app.config.burst).await
}

/// Fetches a file and keeps it, under a key that the same message always has.
async fn fetch(app: &App, line: &Line, id: &str, wanted: &FileRef) -> Result<Result<File, Missed>> {
    let FileRef { id: file_id, kind, mime, name } = wanted.clone();
    let fetched = match api(app, line).await? {
        Some(api) => api.file(&file_id, kind.max_bytes()).await,
        None => Err(Missed { why: "the agent has no key for its number".into(), passes: false }),
    };
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(missed) => {
            tracing::warn!(agent = %line.agent_id.text(), why = missed.why, "a file of a message was not fetched");
            return Ok(Err(missed));
        }
    };
    let key = format!("{}/whatsapp/{}", Objects::of(line.workspace_id), sha256_hex(id));
    let mime = media_type(fetched.mime.or(mime));
    let bytes = Some(fetched.bytes.len() as u64);
    app.objects.put(&key, fetched.bytes, &mime).await?;
    Ok(Ok(File { kind, mime: Some(mime), name, bytes, object: Some(key), missing: None }))
}

fn missing(wanted: &FileRef, why: &str) -> File {
    let FileRef { kind, mime, name, .. } = wanted.clone();
    File { kind, mime, name, bytes: None, object: None, missing: Some(shorten(why, 200)) }
}

/// Deletes a file that no message names.
async fn forget(app: &App, line: &Line, file: Option<&File>) -> Result<()> {
    let object = file.and_then(|file| file.object.clone());
    drop_files(app, line.workspace_id, object.as_slice()).await
}

/// The same for a file that was fetched while somebody else stored its message: unless that names it. It may have been erased
/// since, or been stored without a file that nobody could give just then.
async fn forget_unless_kept(
    app: &App,
    line: &Line,
    file: Option<&File>,
    (conversation, message): (Id<Conversation>, Id<Message>),
) -> Result<()> {
    let Some(object) = file.and_then(|file| file.object.as_ref()) else { return Ok(()) };
    let stored = store::conversation::message(&app.table, line.workspace_id, conversation, message).await?;
    let named = stored.and_then(|message| message.file).and_then(|file| file.object);
    if named.as_ref() == Some(object) { Ok(()) } else { forget(app, line, file).await }
}

/// Where a message belongs: the conversation, if there is one, and the marks that do not lead to it yet.
struct Place {
    head: Option<Conversation>,
    marks: Vec<(String, Option<Id<Conversation>>)>,
    /// Those of other people who had the number.
    former: Vec<Id<Conversation>>,
    /// Who wrote: without the number, if somebody else has written from it since.
    peer: Peer,
}

async fn place(app: &App, line: &Line, inbound: &Inbound) -> Result<Place> {
    let (workspace, agent, peer) = (line.workspace_id, line.agent_id, &inbound.peer);
    let mut place = Place { head: None, marks: Vec::new(), former: Vec::new(), peer: peer.clone() };
    for mark in peer.marks() {
        let found = store::whatsapp::conversation_of(&app.table, workspace, agent, &mark).await?;
        if let Some(id) = found.filter(|id| place.head.as_ref().is_none_or(|head| head.id != *id)) {
            let head: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, id)).await?;
            // A phone may be another person's by now, whom the conversation is none of.
            match head.as_ref().and_then(|head| head.whatsapp.as_ref()) {
                Some(known) if known.peer.has(&mark) && known.peer.may_be(peer) => place.head = place.head.or(head),
                Some(known) if peer.phone.is_some() && known.peer.phone == peer.phone => {
                    if known.last_inbound_at > inbound.at {
                        // It comes late: the number is theirs who wrote from it last.
                        place.peer.phone = None;
                        continue;
                    }
                    place.former.push(id);
                }
                _ => {}
            }
        }
        place.marks.push((mark, found));
    }
    let id = place.head.as_ref().map(|head| head.id);
    place.marks.retain(|(_, found)| found.is_none() || *found != id);
    Ok(place)
}

/// Whether a message tells more of whoever wrote it than their conversation knows.
fn tells_more(peer: &Peer, known: Option<&Talk>) -> bool {
    let (user, phone) = known.map_or((&None, &None), |talk| (&talk.peer.user_id, &talk.peer.phone));
    (peer.user_id.is_some() && user.is_none()) || (peer.phone.is_some() && peer.phone != *phone)
}

/// Stores a message, unless the agent is gone.
async fn store_once(app: &App, line: &Line, inbound: &Inbound, file: Option<&File>) -> Result<Option<Message>> {
    let (workspace, agent, now) = (line.workspace_id, line.agent_id, app.now());
    let Place { head, marks, former, peer } = place(app, line, inbound).await?;
    let id = head.as_ref().map_or_else(|| app.ids().id(), |head| head.id);
    let message = Message {
        id: app.ids().id(),
        conversation_id: id,
        author: Author::Visitor,
        content: inbound.text.clone(),
        client_message_id: Some(inbound.id.clone()),
        reply: None,
        author_user_id: None,
        delivery: None,
        file: file.cloned(),
        created_at: now,
    };
    let mut unit = Unit::new();
    let head = match head {
        Some(head) => {
            if tells_more(&peer, head.whatsapp.as_ref()) {
                // So that whoever has the number later is not taken for them, and they are found by what they have now.
                contact(app, line, &peer).await?;
            }
            go_on(app, &mut unit, head, talk(line, peer, inbound.at, now), &message)?
        }
        None => match begin(app, &mut unit, id, line, talk(line, peer, inbound.at, now), &message).await {
            Ok(head) => head,
            Err(error) if error.code() == Code::NotFound => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    for (mark, before) in marks {
        store::whatsapp::point(&mut unit, (workspace, agent), &mark, before, id)?;
    }
    for other in former {
        let phone = inbound.peer.phone.as_deref().unwrap_or_default();
        store::whatsapp::lose_phone(&mut unit, workspace, other, phone, Some(inbound.at));
    }
    let trace = Trace::In { conversation_id: id, message_id: message.id };
    let key = store::whatsapp::trace_key(workspace, agent, &inbound.id);
    store::whatsapp::put_trace(&mut unit, key, &trace, None, now)?;
    store::conversation::add_message(&mut unit, workspace, &message)?;
    emit(&mut unit, &app.events().message_inbound(&head, message.id))?;
    app.commit(unit).await?;
    Ok(Some(message))
}

fn talk(line: &Line, peer: Peer, at: Time, now: Time) -> Talk {
    let Line { provider, phone_number_id, .. } = line.clone();
    Talk { provider, phone_number_id, peer, last_inbound_at: at.min(now) }
}

async fn begin(
    app: &App,
    unit: &mut Unit,
    id: Id<Conversation>,
    line: &Line,
    said: Talk,
    message: &Message,
) -> Result<Conversation> {
    let (workspace, agent, now) = (line.workspace_id, line.agent_id, app.now());
    let agent_name = store::agent::get(&app.table, workspace, agent).await?.body.name;
    let contact_id = contact(app, line, &said.peer).await?;
    // They may be erased meanwhile.
    unit.check(store::keys::contact(workspace, contact_id), Cond::existing(), Error::new(Code::ConcurrentChange));
    let head = Conversation {
        contact_id: Some(contact_id),
        whatsapp: Some(said),
        ..Conversation::begun(id, (workspace, agent), agent_name, Channel::Whatsapp, &message.content, now)
    };
    store::conversation::create(unit, &head)?;
    store::timer::set(unit, &silence_timer(&head, now))?;
    emit(unit, &app.events().conversation_created(&head))?;
    Ok(head)
}

/// A further message. One that comes after the closing opens the conversation again, for the agent.
fn go_on(app: &App, unit: &mut Unit, head: Conversation, said: Talk, message: &Message) -> Result<Conversation> {
    let now = app.now();
    let update = touched_by_visitor(unit, &head, &message.content, now)?;
    // What the update does depends on these; if they changed, it is decided anew.
    let unchanged = Cond::eq("status", head.status).and(Cond::eq("ai_paused", head.ai_paused));
    let talk = head.whatsapp.as_ref().map_or_else(|| said.clone(), |before| before.updated(&said));
    let (update, cond) = if head.whatsapp.as_ref() == Some(&talk) {
        (update, unchanged)
    } else {
        // Messages come in any order and at once: the time goes forward only.
        let newest = Cond::absent("whatsapp").or(Cond::le("whatsapp.last_inbound_at", talk.last_inbound_at));
        (update.set("whatsapp", &talk), unchanged.and(newest))
    };
    unit.update(update, cond, Error::new(Code::ConcurrentChange));
    Ok(head)
}

/// Whoever writes, as a contact: by their user id, else by their phone, which the network vouches for. A phone whose contact
/// has another user id is another person's by now, and goes over to them. What they call themselves fills a blank only.
async fn contact(app: &App, line: &Line, peer: &Peer) -> Result<Id<Contact>> {
    let (table, workspace, agent, now) = (&app.table, line.workspace_id, line.agent_id, app.now());
    let user = peer.user_id.as_ref().map(|id| format!("{WHATSAPP_USER}{id}"));
    let by_user = match &user {
        Some(user) => store::contact::of_user(table, workspace, agent, user).await?,
        None => None,
    };
    let details = Details { phone: peer.phone.clone(), ..Details::default() };
    let (former, holder) = match store::contact::find(table, workspace, &details).await? {
        Some(holder) if is_another(app, line, &holder.body, user.as_deref()).await? => (Some(holder), None),
        holder => (None, holder),
    };
    let new_user = user.filter(|_| by_user.is_none());
    let known = by_user.or(holder);
    let mut contact = match &known {
        Some(known) => known.body.clone(),
        None => blank(app.ids().id(), workspace, now),
    };
    let phone = match &former {
        Some(_) => peer.phone.as_deref(),
        None => store::contact::unheld(table, &contact, peer.phone.as_deref(), None).await?.0,
    };
    let mut is_changed = contact.fill_blanks(peer.name.as_deref(), None, phone, now);
    let mut unit = Unit::new();
    // The network vouches for them: whoever named their number first has no say any more.
    is_changed |= contact.made_in.take().is_some();
    if let Some(user_id) = new_user {
        store::contact::guard_user(table, &mut unit, &contact, agent, &user_id).await?;
        contact.user_id.get_or_insert_with(|| user_id.clone());
        // By it the guard is found again when they are erased.
        contact.whatsapp.push(WhatsappUser { agent_id: agent, user_id });
        is_changed = true;
    }
    match &known {
        None => store::contact::create(&mut unit, &contact, former.as_ref())?,
        Some(known) if is_changed => {
            store::contact::replace(&mut unit, &contact, (&known.body, known.v), former.as_ref())?;
        }
        Some(_) => {}
    }
    app.commit(unit).await?;
    Ok(contact.id)
}

const fn blank(id: Id<Contact>, workspace_id: Id<Workspace>, now: Time) -> Contact {
    Contact {
        id,
        workspace_id,
        name: None,
        email: None,
        phone: None,
        user_id: None,
        whatsapp: Vec::new(),
        made_in: None,
        created_at: now,
        updated_at: now,
    }
}

/// Whether the holder of a phone is another person than whoever writes from it now: the agent knows them by another of Meta's
/// user ids. What other agents know them by tells nothing, since each business portfolio has ids of its own.
async fn is_another(app: &App, line: &Line, holder: &Contact, user: Option<&str>) -> Result<bool> {
    let Some(user) = user else { return Ok(false) };
    let here = holder.whatsapp.iter().filter(|known| known.agent_id == line.agent_id).map(|known| &known.user_id);
    for known in here.chain(holder.user_id.as_ref().filter(|known| known.starts_with(WHATSAPP_USER))) {
        if known == user {
            return Ok(false);
        }
        let found = store::contact::of_user(&app.table, line.workspace_id, line.agent_id, known).await?;
        if found.is_some_and(|found| found.body.id == holder.id) {
            return Ok(true);
        }
    }
    Ok(false)
}
