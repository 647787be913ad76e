//! Looking back: finding what was said, handing a conversation out, and erasing a conversation or a person.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use tokio::time::Instant;

use super::{App, Draft, client, whatsapp};
use crate::access::Caller;
use crate::domain::lead::Details;
use crate::domain::message::Author;
use crate::domain::scheduling::Appointment;
use crate::domain::text::{Checks, find_folded, fold, shorten};
use crate::domain::{Agent, Contact, Conversation, GrantScope, Lead, Message, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::store;
use crate::store::appointment::Filter;
use crate::table::{Cond, Key, Refusal, Unit, Update, Versioned, decode};

/// How many conversations one page of a search reads; the page after goes on behind them.
const LOOKED_AT: usize = 200;
/// How much text it reads, in bytes, and how long that may take: then the page ends where it is.
const READ: usize = 20 * 1024 * 1024;
const TAKEN: Duration = Duration::from_secs(10);
/// How many of them at the same time.
const AT_ONCE: usize = 8;
/// How many of a conversation's last messages are searched.
const SEARCHED: usize = 200;
/// How many places of a conversation are shown.
const EXCERPTS: usize = 3;
/// How much of a message is shown, and how much of that stands before what was found.
const EXCERPT: usize = 160;
const BEFORE: usize = 60;

/// The shortest and the longest text that is searched for, in characters.
const NEEDLE: std::ops::RangeInclusive<usize> = 2..=100;

/// A conversation in which something was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which.
    pub head: Conversation,
    /// Where, oldest first; empty when it is the visitor that matches.
    pub excerpts: Vec<Excerpt>,
}

/// A place where something was found.
#[derive(Debug, Clone)]
pub struct Excerpt {
    /// In which message.
    pub message_id: Id<Message>,
    /// Whose.
    pub author: Author,
    /// What stands around it.
    pub text: String,
    /// When it was written.
    pub created_at: Time,
}

/// Conversations of an agent in which a text was said, or whose visitor it names; the most recently active first, however
/// it is written in upper or lower case and with or without accents. The last 200 messages of each are read. A page may be
/// short although more follow: it looks at 200 conversations at most.
///
/// # Errors
/// `validation_error`, `not_found` when the workspace has and had no such agent.
pub async fn search(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    text: &str,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Found>> {
    let needle = needle(text)?;
    client::ensure_granted(app, caller, agent, GrantScope::MessagesRead).await?;
    let (mut items, mut looked_at, mut bytes, mut after) = (Vec::new(), 0, 0, after.cloned());
    let (chunk, began) = (Limit::new(Some(25))?, Instant::now());
    loop {
        let page =
            store::conversation::page_of_agent(&app.table, caller.workspace_id, agent, after.as_ref(), chunk).await?;
        if page.items.is_empty() && after.is_none() {
            store::agent::get(&app.table, caller.workspace_id, agent).await?;
        }
        let mut left = page.items.len();
        let mut looks = stream::iter(page.items).map(|head| look(app, head, &needle)).buffered(AT_ONCE);
        while let Some(Looked { head, found, read }) = looks.try_next().await? {
            (looked_at, left, bytes) = (looked_at + 1, left - 1, bytes + read);
            let position = store::conversation::position_of_agent(&head);
            // One that moved to the top while it was read must not take the page back there.
            if after.as_ref().is_none_or(|after| position.position < after.position) {
                after = Some(position);
            }
            items.extend(found.map(|excerpts| Found { head, excerpts }));
            if items.len() == limit.get() || bytes > READ || began.elapsed() > TAKEN {
                return Ok(Page { items, next: after.filter(|_| left > 0 || page.next.is_some()), total: None });
            }
        }
        drop(looks);
        if page.next.is_none() || looked_at >= LOOKED_AT {
            return Ok(Page { items, next: page.next, total: None });
        }
        after = page.next;
    }
}

fn needle(text: &str) -> Result<String> {
    let mut checks = Checks::new();
    let folded = fold(text.trim());
    let fits = NEEDLE.contains(&folded.chars().count());
    checks.ensure(fits, "q", "invalid", "q must have 2 to 100 characters");
    checks.finish()?;
    Ok(folded)
}

/// A conversation that was looked at.
struct Looked {
    head: Conversation,
    /// What of it matches, if anything does.
    found: Option<Vec<Excerpt>>,
    /// How much text was read.
    read: usize,
}

async fn look(app: &App, head: Conversation, needle: &str) -> Result<Looked> {
    let thread = store::conversation::thread(&app.table, head.workspace_id, head.id, SEARCHED).await?;
    let messages = thread.map(|thread| thread.messages).unwrap_or_default();
    let excerpt = |message: &Message| {
        let at = find_folded(&message.content, needle)?;
        let text = around(&message.content, at);
        Some(Excerpt { message_id: message.id, author: message.author, text, created_at: message.created_at })
    };
    let excerpts: Vec<Excerpt> = messages.iter().filter_map(excerpt).take(EXCERPTS).collect();
    let identity = head.identity.as_ref();
    let of_identity = identity.into_iter().flat_map(|who| {
        [Some(&who.user_id), who.name.as_ref(), who.email.as_ref(), who.phone.as_ref()].into_iter().flatten()
    });
    let is_visitor = head.visitor_id.iter().chain(of_identity).any(|text| fold(text).contains(needle));
    let found = (is_visitor || !excerpts.is_empty()).then_some(excerpts);
    let read = messages.iter().map(|message| message.content.len()).sum();
    Ok(Looked { head, found, read })
}

/// What stands around a place in a text, on one line.
fn around(text: &str, at: usize) -> String {
    let from = text[..at].char_indices().rev().nth(BEFORE - 1).map_or(0, |(from, _)| from);
    let line = text[from..].split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = shorten(&line, EXCERPT);
    if from > 0 { format!("…{shown}") } else { shown }
}

/// How much of a conversation is handed out at a time: a function's answer may have 6 MB.
const EXPORTED_MESSAGES: usize = 2_000;
const EXPORTED_BYTES: usize = 4 * 1024 * 1024;

/// A part of a conversation.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which conversation.
    pub head: Conversation,
    /// Its messages, oldest first, and where to go on.
    pub messages: Page<Message>,
}

/// A conversation with all of its messages, in parts of at most 2,000 messages or 4 MB.
///
/// # Errors
/// `not_found` when the workspace has no such conversation with that agent.
pub async fn export(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    id: Id<Conversation>,
    after: Option<Id<Message>>,
) -> Result<Part> {
    let (_, head) = tokio::try_join!(
        client::ensure_granted(app, caller, agent, GrantScope::MessagesRead),
        store::conversation::head(&app.table, caller.workspace_id, id)
    )?;
    if head.agent_id != agent {
        return Err(Error::not_found());
    }
    let (mut items, mut bytes, mut after) = (Vec::new(), 0, after);
    loop {
        let chunk = Limit::new(Some(Limit::MAX))?;
        let page = store::conversation::messages_after(&app.table, caller.workspace_id, id, after, chunk).await?;
        let mut left = page.items.len();
        for message in page.items {
            let weight = weight(&message)?;
            let is_full = items.len() >= EXPORTED_MESSAGES || bytes + weight > EXPORTED_BYTES;
            if is_full && !items.is_empty() {
                break;
            }
            (bytes, left, after) = (bytes + weight, left - 1, Some(message.id));
            items.push(message);
        }
        let next = page.next.or_else(|| (left > 0).then(|| Cursor { position: String::new() }));
        if next.is_none() || left > 0 {
            return Ok(Part { head, messages: Page { items, next, total: None } });
        }
    }
}

/// What a message takes in a function's answer: JSON within JSON, in which each quotation mark and backslash counts twice.
fn weight(message: &Message) -> Result<usize> {
    let json = serde_json::to_string(message).map_err(Error::internal)?;
    Ok(json.len() + json.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count())
}

/// How many items are deleted in one transaction.
const TOGETHER: usize = 50;

/// Erases a conversation for good: its messages and what tools did in it. The contact, leads and usage stay; leads forget
/// the conversation. `confirmation` must be the conversation's id.
///
/// # Errors
/// `not_found`, `confirmation_mismatch`.
pub async fn erase(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    id: Id<Conversation>,
    confirmation: &str,
) -> Result<Draft<()>> {
    let head = store::conversation::head(&app.table, caller.workspace_id, id).await?;
    if head.agent_id != agent {
        return Err(Error::not_found());
    }
    if confirmation != id.int().to_string() {
        let message = "confirmation must be the id of the conversation.";
        return Err(Error::with_message(Code::ConfirmationMismatch, message));
    }
    Ok(Draft::new(empty(app, &head).await?, ()))
}

/// Deletes what a conversation holds, and gives the unit that deletes its head. The head goes last, so that whoever is
/// interrupted finds the rest of it again; and only if nobody has written since, so that nothing is left without a head.
async fn empty(app: &App, head: &Conversation) -> Result<Unit> {
    let (workspace, id) = (head.workspace_id, head.id);
    // Without its lease a turn in flight stores no reply, and nothing comes of its tools any more.
    let update = Update::new(store::keys::conversation(workspace, id)).set("erasing", true).remove("turn");
    let head: Conversation = match app.table.update(update, Some(Cond::existing()), Error::not_found()).await {
        Ok(item) => decode(item)?,
        Err(Refusal::Conditions(_)) => return Err(Error::not_found()),
        Err(Refusal::Error(error)) => return Err(error),
    };
    loop {
        let parts = store::conversation::parts(&app.table, workspace, id, TOGETHER).await?;
        if parts.keys.is_empty() {
            break;
        }
        if !parts.files.is_empty() {
            // Before their messages go: whoever is interrupted tells it again.
            let task = whatsapp::Task::DropFiles { workspace_id: workspace, files: parts.files };
            whatsapp::queue(app, &task, Duration::ZERO).await?;
        }
        let (guards, others): (Vec<Key>, Vec<Key>) = parts.keys.into_iter().partition(store::lead::is_guard);
        for guard in guards {
            forget_conversation(app, &head, guard).await?;
        }
        let mut unit = Unit::new();
        for key in others {
            unit.delete(key);
        }
        app.commit(unit).await?;
    }
    let mut unit = Unit::new();
    store::conversation::delete_head(&mut unit, &head);
    Ok(unit)
}

/// Deletes the guard of a lead, and makes the lead forget the conversation.
async fn forget_conversation(app: &App, head: &Conversation, guard: Key) -> Result<()> {
    let lead = store::lead::of_guard(&app.table, head.workspace_id, head.agent_id, &guard).await?;
    let mut unit = Unit::new();
    unit.delete(guard);
    if let Some(Versioned { body: mut lead, v }) = lead {
        lead.conversation_id = None;
        store::lead::replace(&mut unit, &lead, v)?;
    }
    app.commit(unit).await.map_err(Into::into)
}

/// Whom to erase: what they are known by, as it is stored.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// Lower case.
    pub email: Option<String>,
    /// Digits.
    pub phone: Option<String>,
    /// What the site that an agent answers on calls them.
    pub user: Option<(Id<Agent>, String)>,
}

/// What was erased.
#[derive(Debug, Clone, Default)]
pub struct Erased {
    /// How many conversations.
    pub conversations: usize,
    /// How many leads.
    pub leads: usize,
    /// Where to go on; `None` once the person is erased.
    pub next: Option<Cursor>,
}

/// How long one call looks for what belongs to a person.
const LOOKED_FOR: Duration = Duration::from_secs(12);

/// Erases a person: their contacts, the leads and conversations of those, and whatever else bears their address. In a large
/// workspace it takes several calls. The contacts go last, once nothing that came meanwhile is left, so that whoever is
/// interrupted begins again.
///
/// # Errors
/// `not_found` when the workspace knows nobody like that.
pub async fn erase_person(app: &App, caller: &Caller, who: &Person, after: Option<&Cursor>) -> Result<Draft<Erased>> {
    let mut search = Search::begin(app, caller, who, after).await?;
    let mut erased = Erased::default();
    while let Some(stage) = search.place.stage {
        if search.began.elapsed() > LOOKED_FOR {
            erased.next = Some(search.place.cursor());
            return Ok(Draft::done(erased));
        }
        search.step(stage, &mut erased).await?;
    }
    if search.contacts.is_empty() && after.is_none() && erased.leads + erased.conversations == 0 {
        return Err(Error::not_found());
    }
    let agents = store::agent::all(&app.table, caller.workspace_id).await?;
    // One that is gone may be named, too.
    let agents: BTreeSet<Id<Agent>> =
        agents.iter().map(|agent| agent.id).chain(who.user.iter().map(|(agent, _)| *agent)).collect();
    let agents: Vec<Id<Agent>> = agents.into_iter().collect();
    let mut unit = Unit::new();
    for Versioned { body: contact, v } in &search.contacts {
        store::contact::delete(&app.table, &mut unit, contact, *v, &agents).await?;
    }
    Ok(Draft::new(unit, erased))
}

/// What is walked through, in this order. What came while it was walked through is at the beginning of each list, so both
/// are begun once more, as far as they are newer than the first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Leads,
    Conversations,
    Appointments,
    NewLeads,
    NewConversations,
}

impl Stage {
    const ALL: [Self; 5] =
        [Self::Leads, Self::Conversations, Self::Appointments, Self::NewLeads, Self::NewConversations];

    const fn next(self) -> Option<Self> {
        match self {
            Self::Leads => Some(Self::Conversations),
            Self::Conversations => Some(Self::Appointments),
            Self::Appointments => Some(Self::NewLeads),
            Self::NewLeads => Some(Self::NewConversations),
            Self::NewConversations => None,
        }
    }
}

/// Where an erasure stands.
#[derive(Debug, Clone)]
struct Place {
    /// `None` when it is through.
    stage: Option<Stage>,
    /// Behind which item.
    after: Option<Cursor>,
    /// When it began.
    since: Time,
}

impl Place {
    fn cursor(&self) -> Cursor {
        let stage = Stage::ALL.iter().position(|stage| Some(*stage) == self.stage).unwrap_or_default();
        let after = self.after.as_ref().map_or("", |after| &after.position);
        Cursor { position: format!("{stage} {} {after}", self.since.millis()) }
    }

    fn read(cursor: &Cursor) -> Option<Self> {
        let mut parts = cursor.position.splitn(3, ' ');
        let stage = Stage::ALL.get(parts.next()?.parse::<usize>().ok()?).copied();
        let since = Time::from_millis(parts.next()?.parse().ok()?);
        let after = parts.next().filter(|position| !position.is_empty());
        Some(Self { stage, after: after.map(|position| Cursor { position: position.to_owned() }), since })
    }
}

/// An erasure of a person in one call.
struct Search<'a> {
    app: &'a App,
    who: &'a Person,
    workspace: Id<Workspace>,
    contacts: Vec<Versioned<Contact>>,
    place: Place,
    began: Instant,
}

impl<'a> Search<'a> {
    async fn begin(app: &'a App, caller: &Caller, who: &'a Person, after: Option<&Cursor>) -> Result<Self> {
        let (table, workspace) = (&app.table, caller.workspace_id);
        let bad =
            || Error::field("cursor", "invalid_cursor", "cursor must be the next_cursor of this erasure, unchanged");
        let place = match after {
            Some(cursor) => Place::read(cursor).ok_or_else(bad)?,
            None => Place { stage: Some(Stage::Leads), after: None, since: app.now() },
        };
        let mut contacts: Vec<Versioned<Contact>> = Vec::new();
        let only = |email: Option<&String>, phone: Option<&String>| Details {
            email: email.cloned(),
            phone: phone.cloned(),
            ..Details::default()
        };
        for details in [only(who.email.as_ref(), None), only(None, who.phone.as_ref())] {
            contacts.extend(store::contact::find(table, workspace, &details).await?);
        }
        if let Some((agent, user)) = &who.user {
            contacts.extend(store::contact::of_user(table, workspace, *agent, user).await?);
        }
        contacts.sort_by_key(|contact| contact.body.id);
        contacts.dedup_by_key(|contact| contact.body.id);
        Ok(Self { app, who, workspace, contacts, place, began: Instant::now() })
    }

    /// Looks at one page of a list, and erases what is theirs.
    async fn step(&mut self, stage: Stage, erased: &mut Erased) -> Result<()> {
        let limit = Limit::new(Some(Limit::MAX))?;
        let (table, after) = (&self.app.table, self.place.after.as_ref());
        let next = match stage {
            Stage::Leads | Stage::NewLeads => {
                let page = store::lead::page_of_workspace(table, self.workspace, after, limit).await?;
                let is_old = page.items.last().is_some_and(|lead| lead.body.created_at < self.place.since);
                for lead in page.items.into_iter().filter(|lead| self.is_their_lead(&lead.body)) {
                    erase_lead(self.app, lead.body, erased).await?;
                }
                page.next.filter(|_| stage == Stage::Leads || !is_old)
            }
            Stage::Conversations | Stage::NewConversations => {
                let page = store::conversation::page_of_workspace(table, self.workspace, after, limit).await?;
                for head in page.items.into_iter().filter(|head| self.is_theirs(head)) {
                    self.app.commit(empty(self.app, &head).await?).await?;
                    erased.conversations += 1;
                }
                page.next
            }
            Stage::Appointments => {
                let all = Filter { from: Time::from_millis(0), until: None, status: None, agents: None };
                let page = store::appointment::page(table, self.workspace, &all, after, limit).await?;
                for appointment in page.items.into_iter().filter(|appointment| self.is_their_appointment(appointment)) {
                    let found = store::appointment::get(table, self.workspace, appointment.id).await?;
                    let Versioned { body: mut appointment, v } = found;
                    appointment.forget_who(self.app.now());
                    let mut unit = Unit::new();
                    store::appointment::replace(&mut unit, &appointment, v)?;
                    self.app.commit(unit).await?;
                }
                page.next
            }
        };
        if next.is_none() {
            self.place.stage = stage.next();
        }
        self.place.after = next;
        Ok(())
    }

    fn knows(&self, contact: Option<Id<Contact>>) -> bool {
        self.contacts.iter().any(|known| Some(known.body.id) == contact)
    }

    fn is_address(&self, email: Option<&String>, phone: Option<&String>) -> bool {
        let is = |known: &Option<String>, given: Option<&String>| known.is_some() && known.as_ref() == given;
        is(&self.who.email, email) || is(&self.who.phone, phone)
    }

    fn is_their_lead(&self, lead: &Lead) -> bool {
        self.knows(Some(lead.contact_id)) || self.is_address(lead.email.as_ref(), lead.phone.as_ref())
    }

    fn is_their_appointment(&self, appointment: &Appointment) -> bool {
        let is_contact = appointment.contact_id.is_some() && self.knows(appointment.contact_id);
        is_contact || self.is_address(appointment.email.as_ref(), appointment.phone.as_ref())
    }

    fn is_theirs(&self, head: &Conversation) -> bool {
        let is_user = |user_id: &str| {
            self.who.user.as_ref().is_some_and(|(agent, user)| *agent == head.agent_id && user == user_id)
        };
        let by_identity = head.identity.as_ref().is_some_and(|identity| {
            is_user(&identity.user_id) || self.is_address(identity.email.as_ref(), identity.phone.as_ref())
        });
        by_identity || self.knows(head.contact_id)
    }
}

async fn erase_lead(app: &App, lead: Lead, erased: &mut Erased) -> Result<()> {
    if let Some(conversation) = lead.conversation_id {
        match store::conversation::head(&app.table, lead.workspace_id, conversation).await {
            Ok(head) => {
                app.commit(empty(app, &head).await?).await?;
                erased.conversations += 1;
            }
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // It has forgotten its conversation since it was read.
    if let Some(found) = store::lead::get(&app.table, lead.workspace_id, lead.agent_id, lead.id).await? {
        let mut unit = Unit::new();
        store::lead::delete(&mut unit, &found.body, found.v);
        app.commit(unit).await?;
        erased.leads += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_a_line_around_the_place() {
        let text = format!("{} the order\n\nnumber 17 {}", "a ".repeat(100), "b ".repeat(200));
        let at = find_folded(&text, "order").unwrap();
        let shown = around(&text, at);
        assert!(shown.starts_with("…a a") && shown.contains("the order number 17 b"), "{shown}");
        assert!(shown.chars().count() <= EXCERPT + 1, "{shown}");
        assert_eq!(around("ñandú", find_folded("ñandú", "nandu").unwrap()), "ñandú");
    }
}
