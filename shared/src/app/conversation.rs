//! Reading conversations, taking them over, and answering in them as a person.

use std::time::Duration;

use tokio::time::Instant;

use super::{App, Draft, client};
use crate::access::{Caller, RateClass};
use crate::domain::conversation::ConversationStatus;
use crate::domain::handle::Handle;
use crate::domain::message::{Author, MAX_OPERATOR_CHARS};
use crate::domain::text::Checks;
use crate::domain::whatsapp::{Delivery, Talk};
use crate::domain::{Agent, Conversation, GrantScope, Message, Workspace};
use crate::events::emit;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::store;
use crate::store::conversation::Thread;
use crate::table::{Cond, Unit, Update};

/// How many messages a conversation's detail shows.
const DETAIL_MESSAGES: usize = 200;
/// How much text they may have together; a function's answer may have 6 MB.
const DETAIL_BYTES: usize = 3 * 1024 * 1024;

/// A page of an agent's conversations, the most recently active first; they stay when the agent is deleted.
///
/// # Errors
/// `not_found` when the workspace has and had no such agent.
pub async fn list(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Conversation>> {
    client::ensure_granted(app, caller, agent, GrantScope::MessagesRead).await?;
    let page = store::conversation::page_of_agent(&app.table, caller.workspace_id, agent, after, limit).await?;
    if page.items.is_empty() {
        store::agent::get(&app.table, caller.workspace_id, agent).await?;
    }
    Ok(page)
}

/// A conversation of an agent with its last messages.
///
/// # Errors
/// `not_found` when the workspace has no such conversation with that agent.
pub async fn detail(app: &App, caller: &Caller, agent: Id<Agent>, id: Id<Conversation>) -> Result<Thread> {
    let (_, thread) = tokio::try_join!(
        client::ensure_granted(app, caller, agent, GrantScope::MessagesRead),
        store::conversation::thread(&app.table, caller.workspace_id, id, DETAIL_MESSAGES)
    )?;
    let mut thread = thread.filter(|thread| thread.head.agent_id == agent).ok_or_else(Error::not_found)?;
    // The newest that fit one answer: long messages must not make a conversation unreadable.
    let mut room = DETAIL_BYTES;
    let fit = thread.messages.iter().rev().take_while(|message| {
        let fits = message.content.len() <= room;
        room = room.saturating_sub(message.content.len());
        fits
    });
    let surplus = thread.messages.len() - fit.count();
    thread.messages.drain(..surplus);
    Ok(thread)
}

/// The head of a conversation in which the caller may act.
async fn head(app: &App, caller: &Caller, agent: Id<Agent>, id: Id<Conversation>) -> Result<Conversation> {
    let (_, head) = tokio::try_join!(
        client::ensure_granted(app, caller, agent, GrantScope::Messages),
        store::conversation::head(&app.table, caller.workspace_id, id)
    )?;
    if head.agent_id == agent { Ok(head) } else { Err(Error::not_found()) }
}

/// Takes a conversation over, or hands it back. A turn in flight commits nothing once this is answered.
///
/// # Errors
/// `not_found`.
pub async fn set_paused(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    id: Id<Conversation>,
    paused: bool,
) -> Result<Draft<Conversation>> {
    let mut head = head(app, caller, agent, id).await?;
    let by = caller.user_id.filter(|_| paused);
    let mut unit = Unit::new();
    // Without its lease a turn in flight commits nothing, even if the conversation is handed back before it ends.
    let update = Update::new(store::keys::conversation(head.workspace_id, head.id))
        .set("ai_paused", paused)
        .set("paused_by", by);
    let update = if paused { reopen(app, &mut unit, &mut head, update.remove("turn"))? } else { update };
    store::conversation::update_head(&mut unit, update, Cond::existing());
    (head.ai_paused, head.paused_by) = (paused, by);
    Ok(Draft::new(unit, head))
}

/// What a person does in a closed conversation opens it, so that the visitor's next message finds the person there.
fn reopen(app: &App, unit: &mut Unit, head: &mut Conversation, update: Update) -> Result<Update> {
    if head.status == ConversationStatus::Open {
        return Ok(update);
    }
    let now = app.now();
    store::timer::set(unit, &silence_timer(head, now))?;
    (head.status, head.closed_at) = (ConversationStatus::Open, None);
    let update = store::conversation::list_at(update, head, ConversationStatus::Open, now);
    Ok(update.set("status", ConversationStatus::Open).set("last_message_at", now).remove("closed_at"))
}

/// Closes a conversation, and ends the lease of a turn that died or goes on: it commits nothing any more.
///
/// # Errors
/// When the event does not serialise.
pub(super) fn close(app: &App, unit: &mut Unit, head: &Conversation, by: &str, cond: Cond) -> Result<()> {
    let update = Update::new(store::keys::conversation(head.workspace_id, head.id))
        .set("status", ConversationStatus::Closed)
        .set("closed_at", app.now())
        .remove("turn");
    let update = store::conversation::list_at(update, head, ConversationStatus::Closed, head.last_message_at);
    store::conversation::update_head(unit, update, cond);
    emit(unit, &app.events().conversation_closed(head, by))
}

/// Closes a conversation as a person: the visitor's next message opens it again, answered by the agent unless it was
/// taken over.
///
/// # Errors
/// `not_found`, `conversation.closed` when it is.
pub async fn close_as_operator(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    id: Id<Conversation>,
) -> Result<Draft<Conversation>> {
    let mut head = head(app, caller, agent, id).await?;
    if head.status == ConversationStatus::Closed {
        return Err(Error::new(Code::ConversationClosed));
    }
    let mut unit = Unit::new();
    close(app, &mut unit, &head, "operator", Cond::eq("status", ConversationStatus::Open))?;
    (head.status, head.closed_at) = (ConversationStatus::Closed, Some(app.now()));
    Ok(Draft::new(unit, head))
}

/// Answers as a person, which takes the conversation over.
///
/// # Errors
/// `not_found`, `validation_error`; `whatsapp.window_closed` and `whatsapp.not_connected` for what could not go out.
pub async fn answer_as_operator(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    id: Id<Conversation>,
    content: &str,
) -> Result<Draft<Message>> {
    let mut checks = Checks::new();
    let content = checks.required("content", content, MAX_OPERATOR_CHARS);
    checks.finish()?;
    let head = head(app, caller, agent, id).await?;
    let now = app.now();
    if let Some(talk) = &head.whatsapp {
        ensure_reachable(app, &head, talk).await?;
    }
    let message = Message {
        id: app.ids().id(),
        conversation_id: head.id,
        author: Author::Operator,
        delivery: head.whatsapp.as_ref().map(|_| Delivery::of(&content)),
        content,
        client_message_id: None,
        reply: None,
        author_user_id: caller.user_id,
        file: None,
        created_at: now,
    };
    let mut unit = Unit::new();
    store::conversation::add_message(&mut unit, head.workspace_id, &message)?;
    let update = store::conversation::touch(&head, &message.content, now);
    let update = update.set("ai_paused", true).set("paused_by", caller.user_id).remove("turn");
    let update = match head.status {
        ConversationStatus::Open => update,
        ConversationStatus::Closed => {
            store::timer::set(&mut unit, &silence_timer(&head, now))?;
            update.set("status", ConversationStatus::Open).remove("closed_at")
        }
    };
    store::conversation::update_head(&mut unit, update, Cond::existing());
    emit(&mut unit, &app.events().message_outbound(&head, message.id))?;
    Ok(Draft::new(unit, message))
}

/// What would not go out is refused before it is written.
async fn ensure_reachable(app: &App, head: &Conversation, talk: &Talk) -> Result<()> {
    if !talk.is_open(app.now()) {
        return Err(Error::new(Code::WhatsappWindowClosed));
    }
    let line = store::whatsapp::line_now(&app.table, &talk.phone_number_id).await?;
    let ours = line.is_some_and(|line| {
        (line.workspace_id, line.agent_id, line.provider) == (head.workspace_id, head.agent_id, talk.provider)
    });
    if ours { Ok(()) } else { Err(Error::new(Code::WhatsappNotConnected)) }
}

/// The start of the head update for a visitor's message. One that comes after the closing opens the conversation again, for
/// the agent: what was a person's business then is over.
///
/// # Errors
/// When the timer does not serialise.
pub fn touched_by_visitor(unit: &mut Unit, head: &Conversation, content: &str, now: Time) -> Result<Update> {
    let update = store::conversation::touch(head, content, now).add("inbound_count", 1);
    match head.status {
        ConversationStatus::Open => Ok(update),
        ConversationStatus::Closed => {
            store::timer::set(unit, &silence_timer(head, now))?;
            let update = update.set("status", ConversationStatus::Open).set("ai_paused", false);
            Ok(update.remove("closed_at").remove("paused_by"))
        }
    }
}

/// The timer that looks whether the conversation fell silent.
#[must_use]
pub fn silence_timer(head: &Conversation, last: Time) -> store::timer::Timer {
    store::timer::Timer::close_silent(head.workspace_id, head.id, last + crate::domain::conversation::SILENCE)
}

/// The conversation that a visitor's handle names, if it is one of this workspace with this agent.
///
/// # Errors
/// `not_found` otherwise.
pub async fn of_handle(app: &App, place: (Id<Workspace>, Id<Agent>), handle: &str) -> Result<Id<Conversation>> {
    let handle = Handle::decode(&app.keys().await?.handle, handle);
    let ours = handle.filter(|handle| (handle.workspace_id, handle.agent_id) == place);
    ours.map(|handle| handle.conversation_id).ok_or_else(Error::not_found)
}

/// The conversation behind a visitor's handle.
///
/// # Errors
/// `not_found` unless the handle is ours and belongs to the agent behind the slug.
pub async fn of_visitor(app: &App, slug: &str, handle: &str) -> Result<(Id<Workspace>, Id<Conversation>)> {
    let snapshot = super::agent::public(app, slug).await?;
    let place = (snapshot.workspace_id, snapshot.agent_id);
    Ok((snapshot.workspace_id, of_handle(app, place, handle).await?))
}

/// Whether one more may wait: a process is held for each, and those of chats are few. Who may not is answered at once.
async fn may_wait(app: &App, head: &Conversation) -> bool {
    let of_conversation = app.count_call(RateClass::Wait, &head.id.text()).await;
    of_conversation.is_ok() && app.count_call(RateClass::AgentWait, &head.agent_id.text()).await.is_ok()
}

/// What a visitor sees of their own conversation after a message, oldest first, and whether a person is answering. While
/// one is, and nothing new is there, it waits for that long: a visitor who chats with a person reads along, and nobody
/// else holds a process.
///
/// # Errors
/// `not_found` unless the handle is ours and belongs to the agent behind the slug.
pub async fn public_messages(
    app: &App,
    slug: &str,
    handle: &str,
    after: Option<Id<Message>>,
    limit: Limit,
    wait: Duration,
) -> Result<(Page<Message>, bool)> {
    let ((workspace, id), table) = (of_visitor(app, slug, handle).await?, &app.table);
    let (until, mut is_counted) = (Instant::now() + wait, wait.is_zero());
    loop {
        let (head, page) = tokio::try_join!(
            store::conversation::head(table, workspace, id),
            store::conversation::messages_after(table, workspace, id, after, limit),
        )?;
        let by_person = head.ai_paused && head.status == ConversationStatus::Open;
        if !by_person || !page.items.is_empty() || after.is_none() || Instant::now() >= until {
            return Ok((page, head.ai_paused));
        }
        if !is_counted {
            is_counted = true;
            if !may_wait(app, &head).await {
                return Ok((page, head.ai_paused));
            }
        }
        tokio::time::sleep(app.config.watch_every.min(until - Instant::now())).await;
    }
}
