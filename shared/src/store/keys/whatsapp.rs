//! Keys of `WhatsApp`: numbers, people, messages.

use super::a;
use crate::domain::{Agent, Workspace};
use crate::kernel::Id;
use crate::kernel::secret::sha256_hex;
use crate::table::Key;

/// Who answers on a number.
#[must_use]
pub fn whatsapp_number(number: &str) -> Key {
    Key::new(format!("WA#{number}"), "G")
}

/// The conversation of an agent with somebody, by a mark of theirs.
#[must_use]
pub fn whatsapp_peer(workspace: Id<Workspace>, agent: Id<Agent>, mark: &str) -> Key {
    Key::new(format!("{}#WAP", a(workspace, agent)), sha256_hex(mark))
}

/// What a provider's id of a message stands for.
#[must_use]
pub fn whatsapp_message(workspace: Id<Workspace>, agent: Id<Agent>, id: &str) -> Key {
    Key::new(format!("{}#WAM", a(workspace, agent)), sha256_hex(id))
}
