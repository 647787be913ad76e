//! What happened: one envelope for every event of the bus.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Agent, Conversation, Workspace};
use crate::kernel::{Id, Time};

/// An event. `data` holds ids, not texts: whoever needs a text reads it, so that nothing is kept twice and what was
/// deleted stays deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Identity (UUIDv7); also the `webhook-id` of every delivery of it.
    pub id: Uuid,
    /// Our name for it, such as `message.reply`; each surface has its own.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of `data`'s shape.
    pub version: u8,
    /// When.
    pub at: Time,
    /// Where.
    pub workspace_id: Id<Workspace>,
    /// Which agent, if one.
    #[serde(default)]
    pub agent_id: Option<Id<Agent>>,
    /// What exactly.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// The request that it came of, so that what follows from it can be told apart in the logs. For us alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Event {
    /// What the event belongs to: its conversation, else its agent, else its workspace. Events of one thread keep their
    /// order up to the queues.
    #[must_use]
    pub fn thread(&self) -> u64 {
        let conversation = self.id_in::<Conversation>("conversation").map(Id::int);
        conversation.or(self.agent_id.map(Id::int)).unwrap_or_else(|| self.workspace_id.int())
    }

    /// An id in `data`.
    #[must_use]
    pub fn id_in<K>(&self, field: &str) -> Option<Id<K>> {
        Id::from_key(self.data.get(field)?.as_str()?)
    }
}
