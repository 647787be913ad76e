//! `WhatsApp`: who answers on a number, which conversation somebody is in, what a provider's id of a message stands for.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::whatsapp::{Line, Reason, State};
use crate::domain::{Agent, Conversation, Message, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Cond, Key, Row, Table, Unit, Update, Versioned};

/// How long a provider's id of a message is recognised: they tell of one for a week, and statuses come late.
const KEPT: Duration = Duration::from_secs(35 * 24 * 3600);

/// Who answers on a number, cached.
///
/// # Errors
/// When the table cannot be read.
pub async fn line(table: &Table, number: &str) -> Result<Option<Arc<Line>>> {
    table.get_cached(&keys::whatsapp_number(number)).await
}

/// Who answers on a number, as it is now.
///
/// # Errors
/// When the table cannot be read.
pub async fn line_now(table: &Table, number: &str) -> Result<Option<Line>> {
    table.get(&keys::whatsapp_number(number)).await
}

/// A number's line, and whether its owner has shown a key that the provider takes for it.
#[derive(Serialize)]
struct Claim<'a> {
    #[serde(flatten)]
    line: &'a Line,
    is_proven: bool,
}

/// Takes a number that nobody has, or that the same agent has at another provider. Ids of numbers are no secret, so one that
/// somebody took without showing a key for it gives way to who shows one.
///
/// # Errors
/// When it does not serialise.
pub fn claim(unit: &mut Unit, line: &Line, is_proven: bool) -> Result<()> {
    let row = Row::new(keys::whatsapp_number(&line.phone_number_id), "whatsapp_line", &Claim { line, is_proven })?;
    let free = Cond::new_item().or(is_of(line));
    let free = if is_proven { free.or(Cond::eq("is_proven", false)) } else { free };
    unit.put_if(row, free, Error::new(Code::WhatsappNumberTaken));
    Ok(())
}

/// Lets go of a number that the agent has.
pub fn release(unit: &mut Unit, line: &Line) {
    let key = keys::whatsapp_number(&line.phone_number_id);
    unit.delete_if(key, Cond::new_item().or(is_of(line)), Error::new(Code::ConcurrentChange));
}

fn is_of(line: &Line) -> Cond {
    Cond::eq("workspace_id", line.workspace_id).and(Cond::eq("agent_id", line.agent_id))
}

/// The numbers that these agents have, as keys.
pub(super) async fn held(table: &Table, agents: &[Agent]) -> Result<Vec<Key>> {
    let mut held = Vec::new();
    for line in agents.iter().filter_map(Agent::line) {
        let found = line_now(table, &line.phone_number_id).await?;
        held.extend(found.filter(|found| *found == line).map(|line| keys::whatsapp_number(&line.phone_number_id)));
    }
    Ok(held)
}

#[derive(Serialize, Deserialize)]
struct Pointer {
    conversation_id: Id<Conversation>,
}

/// The conversation of an agent with somebody of this mark.
///
/// # Errors
/// When the table cannot be read.
pub async fn conversation_of(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    mark: &str,
) -> Result<Option<Id<Conversation>>> {
    let found: Option<Pointer> = table.get(&keys::whatsapp_peer(workspace, agent, mark)).await?;
    Ok(found.map(|pointer| pointer.conversation_id))
}

/// Notes that somebody of this mark is in a conversation. `before` is where the mark was seen to lead; when it leads
/// elsewhere by now, the command is run again.
///
/// # Errors
/// When it does not serialise.
pub fn point(
    unit: &mut Unit,
    (workspace, agent): (Id<Workspace>, Id<Agent>),
    mark: &str,
    before: Option<Id<Conversation>>,
    conversation: Id<Conversation>,
) -> Result<()> {
    let key = keys::whatsapp_peer(workspace, agent, mark);
    let row = Row::new(key, "whatsapp_peer", &Pointer { conversation_id: conversation })?;
    let cond = before.map_or_else(Cond::new_item, |before| Cond::eq("conversation_id", before));
    unit.put_if(row, cond, Error::new(Code::ConcurrentChange));
    Ok(())
}

/// Forgets that somebody of this mark is in a conversation, if it leads there.
///
/// # Errors
/// When the table cannot be read.
pub async fn unpoint(
    table: &Table,
    unit: &mut Unit,
    (workspace, agent): (Id<Workspace>, Id<Agent>),
    mark: &str,
    conversation: Id<Conversation>,
) -> Result<()> {
    if conversation_of(table, workspace, agent, mark).await? == Some(conversation) {
        let key = keys::whatsapp_peer(workspace, agent, mark);
        unit.delete_if(key, Cond::eq("conversation_id", conversation), Error::new(Code::ConcurrentChange));
    }
    Ok(())
}

/// Has a conversation forget the number of whoever it is with: it is somebody else's since then, if that is told, who must not
/// get what is written there. One who writes from it meanwhile makes the command run again.
pub fn lose_phone(
    unit: &mut Unit,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    phone: &str,
    since: Option<Time>,
) {
    let at = "whatsapp.peer.phone";
    let update = Update::new(keys::conversation(workspace, conversation)).remove(at);
    let has_it = Cond::eq(at, phone);
    let has_it = match since {
        Some(since) => has_it.and(Cond::le("whatsapp.last_inbound_at", since)),
        None => has_it,
    };
    unit.update(update, has_it, Error::new(Code::ConcurrentChange));
}

/// What a provider's id of a message stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trace {
    /// A message that came in.
    In {
        /// Where it is.
        conversation_id: Id<Conversation>,
        /// Which one.
        message_id: Id<Message>,
    },
    /// A message that went out, or a part of one.
    Out {
        /// Where it is.
        conversation_id: Id<Conversation>,
        /// Which one.
        message_id: Id<Message>,
        /// Which part.
        part: u32,
    },
    /// What was told of a message that nobody knew yet.
    Parked {
        /// How far it had come.
        state: State,
        /// Why it failed.
        #[serde(default)]
        reason: Option<Reason>,
    },
}

/// The key of a [`Trace`], to see which condition failed.
#[must_use]
pub fn trace_key(workspace: Id<Workspace>, agent: Id<Agent>, id: &str) -> Key {
    keys::whatsapp_message(workspace, agent, id)
}

/// What a provider's id of a message stands for, if it is known.
///
/// # Errors
/// When the table cannot be read.
pub async fn trace(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    id: &str,
) -> Result<Option<Versioned<Trace>>> {
    table.get_versioned(&keys::whatsapp_message(workspace, agent, id)).await
}

/// Notes what a provider's id of a message stands for, in place of what was read at version `v`. The unit fails on this
/// key when somebody else noted something meanwhile.
///
/// # Errors
/// When it does not serialise.
pub fn put_trace(unit: &mut Unit, key: Key, trace: &Trace, v: Option<u64>, now: Time) -> Result<()> {
    let row = Row::new(key, "whatsapp_message", trace)?.ttl(now + KEPT);
    match v {
        Some(v) => unit.replace(row, v),
        None => unit.create(row, Error::new(Code::ConcurrentChange)),
    };
    Ok(())
}
