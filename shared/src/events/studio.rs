//! Studio's names for events: the eight of its contract, the test event, and the owner's own.

use super::catalog::kind;
use crate::domain::Event;

/// The documented events, in the contract's order.
pub const DOCUMENTED: [&str; 8] = [
    "agent.created",
    "agent.published",
    "agent.message.created",
    "agent.reply.created",
    "agent.lead.captured",
    "agent.tool.called",
    "agent.handoff.requested",
    "conversation.closed",
];

/// What every endpoint can be sent to try it.
pub const TEST: &str = "webhook.test";

/// What the owner's own events start with.
pub const CUSTOM_PREFIX: &str = "custom.";

/// Studio's name for an event; `None` when studio does not tell of it.
#[must_use]
pub fn name(event: &Event) -> Option<String> {
    let name = match event.kind.as_str() {
        kind::AGENT_CREATED => "agent.created",
        kind::AGENT_PUBLISHED => "agent.published",
        kind::MESSAGE_INBOUND => "agent.message.created",
        kind::MESSAGE_REPLY => "agent.reply.created",
        kind::LEAD_CAPTURED => "agent.lead.captured",
        kind::TOOL_CALLED => "agent.tool.called",
        kind::HANDOFF_REQUESTED => "agent.handoff.requested",
        kind::CONVERSATION_CLOSED => "conversation.closed",
        kind::CUSTOM => return Some(format!("{CUSTOM_PREFIX}{}", event.data.get("name")?.as_str()?)),
        _ => return None,
    };
    Some(name.into())
}

/// Whether an endpoint may ask for an event of that name.
#[must_use]
pub fn is_subscribable(name: &str) -> bool {
    DOCUMENTED.contains(&name) || name.strip_prefix(CUSTOM_PREFIX).is_some_and(is_custom_name)
}

/// Whether an owner may call an event of their own that: `^[a-z0-9][a-z0-9._-]{0,63}$`.
#[must_use]
pub fn is_custom_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(valid) && name.as_bytes()[0].is_ascii_alphanumeric()
}
