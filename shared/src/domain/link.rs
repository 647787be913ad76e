//! Tokens of mailed links: `<prefix>_<key id>.<base64url of two numbers (8 bytes each) and a MAC of 120 bits>`. The numbers
//! say what a link is about; the MAC is also over what the token does not hold.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::kernel::Keyring;
use crate::kernel::secret::{constant_time_eq, hmac_sha256};

const MAC_BYTES: usize = 15;

/// A kind of link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// What its tokens begin with.
    pub(super) prefix: &'static str,
    /// What tells it from other kinds that the same key authenticates.
    pub(super) purpose: &'static [u8],
}

/// A token as somebody sent it: it says what it is about, and proves nothing before it is compared.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) numbers: [u64; 2],
    key_id: String,
    mac: Vec<u8>,
}

impl Kind {
    /// The token of a link about these numbers, that holds for `hidden`.
    pub(super) fn token(self, keys: &Keyring, numbers: [u64; 2], hidden: &str) -> String {
        let (key_id, key) = keys.current();
        let (claim, mac) = (bytes(numbers), self.mac(key, numbers, hidden));
        format!("{}_{key_id}.{}", self.prefix, URL_SAFE_NO_PAD.encode([&claim[..], &mac[..]].concat()))
    }

    /// Reads a token of this kind.
    pub(super) fn read(self, text: &str) -> Option<Token> {
        let (key_id, encoded) = text.trim().strip_prefix(self.prefix)?.strip_prefix('_')?.split_once('.')?;
        let decoded = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (claim, mac) = decoded.split_first_chunk::<16>()?;
        let part = |at: usize| claim[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        Some(Token { numbers: [part(0)?, part(8)?], key_id: key_id.to_owned(), mac: mac.to_vec() })
    }

    /// Whether we made this token, for `hidden`.
    pub(super) fn fits(self, keys: &Keyring, token: &Token, hidden: &str) -> bool {
        let Some(key) = keys.find(&token.key_id) else { return false };
        constant_time_eq(&token.mac, &self.mac(key, token.numbers, hidden))
    }

    fn mac(self, key: &[u8], numbers: [u64; 2], hidden: &str) -> Vec<u8> {
        hmac_sha256(key, &[self.purpose, &bytes(numbers), hidden.as_bytes()])[..MAC_BYTES].to_vec()
    }
}

fn bytes(numbers: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&numbers[0].to_be_bytes());
    bytes[8..].copy_from_slice(&numbers[1].to_be_bytes());
    bytes
}
