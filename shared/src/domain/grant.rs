//! What a client sees of an agent. A client is a person at whom an owner points agents; studio's `ClientAgentGrant`.

use serde::{Deserialize, Serialize};

use super::Agent;
use crate::kernel::{Id, Time};

/// An agent that a client may look after. It lies in the client's membership, so that taking it away counts at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which agent.
    pub agent_id: Id<Agent>,
    /// What of it, each once, in order.
    pub scopes: Vec<GrantScope>,
    /// Since when.
    pub created_at: Time,
}

/// A part of an agent that can be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantScope {
    /// Reading its conversations, taking them over and answering in them.
    #[serde(rename = "messages")]
    Messages,
    /// Reading its conversations.
    #[serde(rename = "messages:read")]
    MessagesRead,
    /// Reading its leads, and saying what became of them.
    #[serde(rename = "leads")]
    Leads,
}

impl GrantScope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Messages, Self::MessagesRead, Self::Leads];
    /// What is granted when nothing is said.
    pub const USUAL: [Self; 2] = [Self::Messages, Self::Leads];

    /// As callers write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::MessagesRead => "messages:read",
            Self::Leads => "leads",
        }
    }

    /// The scope of this text.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.text() == text)
    }

    /// Whether who has this scope may do what needs that one.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == other || (self, other) == (Self::Messages, Self::MessagesRead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_answer_is_also_to_read_and_nothing_else_is_included() {
        let includes = |scope: GrantScope| GrantScope::ALL.map(|other| scope.includes(other));
        assert_eq!(includes(GrantScope::Messages), [true, true, false]);
        assert_eq!(includes(GrantScope::MessagesRead), [false, true, false]);
        assert_eq!(includes(GrantScope::Leads), [false, false, true]);
    }

    #[test]
    fn a_scope_is_stored_as_callers_write_it() {
        for scope in GrantScope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.text());
            assert_eq!(GrantScope::find(scope.text()), Some(scope));
        }
        assert_eq!(GrantScope::find("everything"), None);
    }
}
