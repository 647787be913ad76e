//! Conversations and their messages. Messages sort before the head, so one read backwards gives the head and the last
//! messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys;
use crate::domain::conversation::{ConversationStatus, PREVIEW};
use crate::domain::text::shorten;
use crate::domain::{Agent, Conversation, Message, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Item, Key, Query, Row, Table, Unit, Update, decode};

/// How long a client's message id is recognised.
const CLIENT_IDS_KEPT: Duration = Duration::from_secs(48 * 3600);

/// A head with the last messages, oldest first.
#[derive(Debug, Clone)]
pub struct Thread {
    /// The head.
    pub head: Conversation,
    /// Messages, oldest first.
    pub messages: Vec<Message>,
}

/// The head and the last `limit` messages, in one read.
///
/// # Errors
/// When the table cannot be read.
pub async fn thread(
    table: &Table,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    limit: usize,
) -> Result<Option<Thread>> {
    let query = Query::partition(Index::Main, keys::conversation_pk(workspace, conversation)).newest_first();
    let mut items = table.query(&query, limit + 1).await?.items.into_iter();
    let Some(head) =
        items.next().filter(|item| item.get("sk").and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == keys::HEAD))
    else {
        return Ok(None);
    };
    let mut messages: Vec<Message> = items.map(decode).collect::<Result<_>>()?;
    messages.reverse();
    Ok(Some(Thread { head: decode(head)?, messages }))
}

/// The head alone.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn head(table: &Table, workspace: Id<Workspace>, conversation: Id<Conversation>) -> Result<Conversation> {
    table.get(&keys::conversation(workspace, conversation)).await?.ok_or_else(Error::not_found)
}

/// Messages after a point, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn messages_after(
    table: &Table,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    after: Option<Id<Message>>,
    limit: Limit,
) -> Result<Page<Message>> {
    let cursor = after.map(|message| Cursor { position: keys::message_sk(message) });
    let query = Query::prefix(Index::Main, keys::conversation_pk(workspace, conversation), "M#").after(cursor.as_ref());
    table.page(&query, limit).await
}

/// One message.
///
/// # Errors
/// When the table cannot be read.
pub async fn message(
    table: &Table,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    message: Id<Message>,
) -> Result<Option<Message>> {
    table.get(&keys::message(workspace, conversation, message)).await
}

/// Adds a message.
///
/// # Errors
/// When it does not serialise.
pub fn add_message(unit: &mut Unit, workspace: Id<Workspace>, message: &Message) -> Result<()> {
    let key = keys::message(workspace, message.conversation_id, message.id);
    unit.create_fresh(Row::new(key, "message", message)?);
    Ok(())
}

/// Adds a new conversation.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, head: &Conversation) -> Result<()> {
    let row = Row::new(keys::conversation(head.workspace_id, head.id), "conversation", head)?;
    let (all, of_agent) = list_positions(head.status, head.listed_at, head.id);
    let row = row.gsi1(keys::conversations(head.workspace_id), all);
    unit.create_fresh(row.gsi2(keys::agent_conversations(head.workspace_id, head.agent_id), of_agent));
    Ok(())
}

fn list_positions(status: ConversationStatus, at: Time, id: Id<Conversation>) -> (String, String) {
    let position = format!("{}#{}", keys::moment(at), id.key());
    (format!("{}#{position}", status.letter()), position)
}

/// The start of a head update for a new message.
#[must_use]
pub fn touch(head: &Conversation, content: &str, now: Time) -> Update {
    let update = Update::new(keys::conversation(head.workspace_id, head.id))
        .add("message_count", 1)
        .set("last_message_at", now)
        .set("last_preview", shorten(content, PREVIEW));
    if head.list_is_due(now) { list_at(update, head, ConversationStatus::Open, now) } else { update }
}

/// Moves the head in the lists.
#[must_use]
pub fn list_at(update: Update, head: &Conversation, status: ConversationStatus, at: Time) -> Update {
    let (all, of_agent) = list_positions(status, at, head.id);
    update.set("listed_at", at).set("gsi1sk", all).set("gsi2sk", of_agent)
}

/// Adds the update of a head; the unit fails with `conflict` when the condition does not hold.
pub fn update_head(unit: &mut Unit, update: Update, cond: Cond) {
    unit.update(update, cond, Error::new(Code::Conflict));
}

/// The condition that no turn holds the conversation, or that its lease ran out.
#[must_use]
pub fn turn_is_free(now: Time) -> Cond {
    Cond::existing().and(Cond::absent("turn").or(Cond::lt("turn.until", now.millis())))
}

/// The condition that this turn still holds the conversation.
#[must_use]
pub fn turn_is(turn: Uuid) -> Cond {
    Cond::eq("turn.id", turn)
}

/// Where a conversation stands in its agent's list, so that a page may end behind it.
#[must_use]
pub fn position_of_agent(head: &Conversation) -> Cursor {
    Cursor { position: list_positions(head.status, head.listed_at, head.id).1 }
}

/// A page of a workspace's conversations: the open ones, then the closed ones.
///
/// # Errors
/// When the table cannot be read.
pub async fn page_of_workspace(
    table: &Table,
    workspace: Id<Workspace>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Conversation>> {
    let query = Query::partition(Index::Gsi1, keys::conversations(workspace)).newest_first().after(after);
    table.page(&query, limit).await
}

/// Some of what a conversation holds besides its head: messages, results of tool calls, guards of its leads.
#[derive(Debug, Default)]
pub struct Parts {
    /// Their keys.
    pub keys: Vec<Key>,
    /// Keys of files among the objects.
    pub files: Vec<String>,
}

/// Some of the parts of a conversation; none when there is no more.
///
/// # Errors
/// When the table cannot be read.
pub async fn parts(
    table: &Table,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    limit: usize,
) -> Result<Parts> {
    let messages = Query::prefix(Index::Main, keys::conversation_pk(workspace, conversation), "M#");
    let calls = Query::partition(Index::Main, keys::turn_pk(workspace, conversation));
    let (messages, calls) = futures_util::try_join!(table.query(&messages, limit), table.query(&calls, limit))?;
    let text = |item: &Item, name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    let key = |item: &Item| Some(Key::new(text(item, "pk")?, text(item, "sk")?));
    let mut parts = Parts::default();
    for item in messages.items.iter().chain(&calls.items).take(limit) {
        parts.keys.extend(key(item));
        let file = item.get("file").and_then(|file| file.as_m().ok());
        parts.files.extend(file.and_then(|file| file.get("object")?.as_s().ok().cloned()));
    }
    Ok(parts)
}

/// Removes the head of a conversation that is still as it was read: nobody has written to it since.
pub fn delete_head(unit: &mut Unit, head: &Conversation) {
    let unchanged = Cond::eq("message_count", head.message_count).and(Cond::absent("turn"));
    let key = keys::conversation(head.workspace_id, head.id);
    unit.delete_if(key, unchanged, Error::new(Code::ConcurrentChange));
}

/// A page of an agent's conversations, the most recently active first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page_of_agent(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Conversation>> {
    let query = Query::partition(Index::Gsi2, keys::agent_conversations(workspace, agent)).newest_first().after(after);
    table.page(&query, limit).await
}

/// What a client's own message id stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientMessage {
    /// In which conversation.
    pub conversation_id: Id<Conversation>,
    /// Which message.
    pub message_id: Id<Message>,
    /// SHA-256 of its text: the same id with another text is a mistake of the caller's.
    pub body_hash: String,
    /// When it was taken.
    pub at: Time,
}

/// Takes a client's message id; the unit fails on this key when it is known. An old one counts no more, also when the
/// table has not deleted it yet.
///
/// # Errors
/// When it does not serialise.
pub fn take_client_id(unit: &mut Unit, key: Key, record: &ClientMessage) -> Result<()> {
    let row = Row::new(key, "client_message", record)?.ttl(record.at + CLIENT_IDS_KEPT);
    let free = Cond::new_item().or(Cond::le("at", record.at - CLIENT_IDS_KEPT));
    unit.put_if(row, free, Error::new(Code::IdempotencyInFlight));
    Ok(())
}
