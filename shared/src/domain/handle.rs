//! What an anonymous visitor holds of a conversation: an opaque text that nobody can guess or make.
//!
//! `conv_<key id>.<base64url of workspace, agent and conversation (8 bytes each) and a MAC of 120 bits>`. It needs no
//! look-up: it says where the conversation lies, and the MAC proves that we said so.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Agent, Conversation, Workspace};
use crate::kernel::secret::{constant_time_eq, hmac_sha256};
use crate::kernel::{Id, Keyring};

/// Where a handle leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// Whose conversation.
    pub workspace_id: Id<Workspace>,
    /// With which agent.
    pub agent_id: Id<Agent>,
    /// Which conversation.
    pub conversation_id: Id<Conversation>,
}

const MAC_BYTES: usize = 15;

impl Handle {
    /// The text that the visitor gets.
    #[must_use]
    pub fn encode(&self, keys: &Keyring) -> String {
        let (key_id, key) = keys.current();
        let body = self.body();
        let mac = hmac_sha256(key, &[&body]);
        format!("conv_{key_id}.{}", URL_SAFE_NO_PAD.encode([&body[..], &mac[..MAC_BYTES]].concat()))
    }

    /// Reads a text that a visitor sent; `None` unless one of our keys made it.
    #[must_use]
    pub fn decode(keys: &Keyring, text: &str) -> Option<Self> {
        let (key_id, encoded) = text.strip_prefix("conv_")?.split_once('.')?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (body, mac) = bytes.split_first_chunk::<24>()?;
        let expected = hmac_sha256(keys.find(key_id)?, &[body]);
        if !constant_time_eq(mac, &expected[..MAC_BYTES]) {
            return None;
        }
        let part = |at: usize| body.get(at..at + 8).and_then(|part| part.try_into().ok()).map(u64::from_be_bytes);
        Some(Self {
            workspace_id: Id::from_int(part(0)?)?,
            agent_id: Id::from_int(part(8)?)?,
            conversation_id: Id::from_int(part(16)?)?,
        })
    }

    fn body(&self) -> [u8; 24] {
        let mut body = [0; 24];
        body[..8].copy_from_slice(&self.workspace_id.int().to_be_bytes());
        body[8..16].copy_from_slice(&self.agent_id.int().to_be_bytes());
        body[16..].copy_from_slice(&self.conversation_id.int().to_be_bytes());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Rng;

    fn keys(seed: u64) -> Keyring {
        Keyring::parse(&Keyring::generate(&Rng::seeded(seed))).unwrap()
    }

    fn handle() -> Handle {
        let id = |raw| Id::from_int(raw).unwrap();
        Handle { workspace_id: id(1), agent_id: Id::from_int(2).unwrap(), conversation_id: Id::from_int(3).unwrap() }
    }

    #[test]
    fn a_handle_reads_back_under_its_key_only() {
        let text = handle().encode(&keys(1));
        assert_eq!(Handle::decode(&keys(1), &text), Some(handle()));
        assert_eq!(Handle::decode(&keys(2), &text), None);
    }

    #[test]
    fn a_changed_handle_is_refused_at_every_character() {
        let text = handle().encode(&keys(1));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(Handle::decode(&keys(1), &changed), None, "{changed}");
        }
        assert_eq!(Handle::decode(&keys(1), "conv_k1."), None);
        assert_eq!(Handle::decode(&keys(1), "conv-123"), None);
    }
}
