//! One message of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::KeySource;
use super::whatsapp::{Delivery, File};
use super::{Conversation, User};
use crate::kernel::{Id, Time};

/// The longest message of a visitor, in characters.
pub const MAX_VISITOR_CHARS: usize = 8_000;
/// The longest message of an operator, in characters.
pub const MAX_OPERATOR_CHARS: usize = 4_096;

/// One message. Its id rises in the order in which the conversation stored it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Identity.
    pub id: Id<Message>,
    /// Where.
    pub conversation_id: Id<Conversation>,
    /// Who wrote it.
    pub author: Author,
    /// The text.
    pub content: String,
    /// The caller's own id of it, if given.
    #[serde(default)]
    pub client_message_id: Option<String>,
    /// What only a reply of the agent has.
    #[serde(default)]
    pub reply: Option<Reply>,
    /// Which member wrote it, for operators.
    #[serde(default)]
    pub author_user_id: Option<Id<User>>,
    /// How it goes out to a phone; `None` where the visitor fetches it.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// The file that came with it.
    #[serde(default)]
    pub file: Option<File>,
    /// When.
    pub created_at: Time,
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The person who asked.
    Visitor,
    /// The model.
    Agent,
    /// A person of the team.
    Operator,
}

/// What a reply of the agent knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The visitor messages that it answers.
    pub answers: Vec<Id<Message>>,
    /// Whose key paid the model; `None` for the fallback text, which costs nothing.
    #[serde(default)]
    pub key_source: Option<KeySource>,
    /// Which model.
    #[serde(default)]
    pub model: Option<String>,
    /// Tokens read.
    #[serde(default)]
    pub tokens_in: u64,
    /// Tokens written.
    #[serde(default)]
    pub tokens_out: u64,
    /// The part of those read that the provider had in its cache.
    #[serde(default)]
    pub tokens_cached: u64,
    /// The part of those written that was reasoning.
    #[serde(default)]
    pub tokens_reasoning: u64,
    /// From accept to commit.
    #[serde(default)]
    pub response_ms: u64,
    /// The tools that were called: name, arguments without secrets, whether it worked.
    #[serde(default)]
    pub tool_calls: Vec<ToolUse>,
    /// Trial messages left after this one, on a trial.
    #[serde(default)]
    pub free_messages_remaining: Option<u64>,
    /// Whether the visitor stopped it: the text is what had been written by then.
    #[serde(default)]
    pub stopped: bool,
    /// Why it is the fallback text; `None` for a model's answer, and for fallbacks of before this was kept.
    #[serde(default)]
    pub reason: Option<Unanswered>,
}

/// Why a model did not answer, for the owner. In our words: what a provider said may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// The provider failed, is busy, refused the key or has no such model; or it answered nothing.
    ModelUnavailable,
    /// There is no key to ask with, or the agent's key or address does not hold any more.
    NotConfigured,
    /// The time of the turn was up.
    Timeout,
    /// The owner's address is not verified.
    EmailNotVerified,
    /// The account is suspended.
    Suspended,
    /// The rounds or the tokens of the turn were used up.
    Limit,
    /// Something of ours failed.
    Internal,
}

/// A tool call as the thread shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolUse {
    /// Which tool.
    pub name: String,
    /// With what.
    #[serde(with = "crate::kernel::json_text")]
    pub arguments: Value,
    /// Whether it worked.
    pub ok: bool,
}

impl Reply {
    /// Whether this is the fallback text that stands in for an answer.
    #[must_use]
    pub const fn is_fallback(&self) -> bool {
        self.key_source.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_before_cached_and_reasoning_tokens_were_kept_is_read() {
        let stored = serde_json::json!({"answers": [], "tokens_in": 7, "tokens_out": 2});
        let reply: Reply = serde_json::from_value(stored).unwrap();
        assert_eq!((reply.tokens_in, reply.tokens_cached, reply.tokens_reasoning, reply.reason), (7, 0, 0, None));
    }
}
