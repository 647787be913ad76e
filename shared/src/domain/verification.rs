//! The link that proves whose an e-mail address is.
//!
//! The link's token is `ver_<key id>.<base64url of user and end (8 bytes each) and a MAC of 120 bits>`. The MAC is over the
//! address too, which the token does not hold: it proves the one that it was mailed to, and nothing is stored for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::User;
use crate::kernel::secret::{constant_time_eq, hmac_sha256};
use crate::kernel::{Id, Keyring, Time};

/// How long a link holds: seven days.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

const MAC_BYTES: usize = 15;

/// What tells it from other things that the same key authenticates: none of them begins with a letter.
const PURPOSE: &[u8] = b"verify e-mail";

/// The token of the link that is mailed.
#[must_use]
pub fn token(keys: &Keyring, user: &User, until: Time) -> String {
    let (key_id, key) = keys.current();
    let claim = claim(user.id, until);
    let mac = mac(key, claim, &user.email);
    format!("ver_{key_id}.{}", URL_SAFE_NO_PAD.encode([&claim[..], &mac[..]].concat()))
}

/// A token as somebody sent it: it says whom it is about, and proves nothing before it is compared.
#[derive(Debug)]
pub struct VerificationToken {
    /// Whose address.
    pub user_id: Id<User>,
    /// When it ends.
    pub until: Time,
    key_id: String,
    mac: Vec<u8>,
}

impl VerificationToken {
    /// Reads a token.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (key_id, encoded) = text.trim().strip_prefix("ver_")?.split_once('.')?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (claim, mac) = bytes.split_first_chunk::<16>()?;
        let part = |at: usize| claim[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        Some(Self {
            user_id: Id::from_int(part(0)?)?,
            until: Time::from_millis(i64::try_from(part(8)?).ok()?),
            key_id: key_id.to_owned(),
            mac: mac.to_vec(),
        })
    }

    /// Whether we made it for this person and their address, and it has not ended.
    #[must_use]
    pub fn fits(&self, keys: &Keyring, user: &User, now: Time) -> bool {
        let Some(key) = keys.find(&self.key_id) else { return false };
        let expected = mac(key, claim(self.user_id, self.until), &user.email);
        constant_time_eq(&self.mac, &expected) && self.user_id == user.id && self.until > now
    }
}

fn claim(user: Id<User>, until: Time) -> [u8; 16] {
    let mut claim = [0; 16];
    claim[..8].copy_from_slice(&user.int().to_be_bytes());
    claim[8..].copy_from_slice(&until.millis().to_be_bytes());
    claim
}

fn mac(key: &[u8], claim: [u8; 16], email: &str) -> [u8; MAC_BYTES] {
    let whole = hmac_sha256(key, &[PURPOSE, &claim, email.as_bytes()]);
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&whole[..MAC_BYTES]);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::user::UserStatus;
    use crate::kernel::Rng;

    const NOW: Time = Time::from_millis(1_000);

    fn keys(seed: u64) -> Keyring {
        Keyring::parse(&Keyring::generate(&Rng::seeded(seed))).unwrap()
    }

    fn user(id: u64, email: &str) -> User {
        User {
            id: Id::from_int(id).unwrap(),
            email: email.into(),
            password_hash: String::new(),
            name: "Ana".into(),
            email_verified: false,
            status: UserStatus::Active,
            staff_role: None,
            default_workspace_id: Id::from_int(3).unwrap(),
            billing_account_id: Id::from_int(4).unwrap(),
            created_at: NOW,
            updated_at: NOW,
        }
    }

    #[test]
    fn a_token_fits_its_own_person_and_address_under_our_key_until_it_ends() {
        let ana = user(1, "ana@example.com");
        let token = token(&keys(1), &ana, NOW + LIFETIME);
        let read = VerificationToken::read(&token).unwrap();
        assert_eq!((read.user_id, read.until), (ana.id, NOW + LIFETIME));
        assert!(read.fits(&keys(1), &ana, NOW) && !read.fits(&keys(2), &ana, NOW));
        assert!(!read.fits(&keys(1), &user(2, "ana@example.com"), NOW), "somebody else");
        assert!(!read.fits(&keys(1), &user(1, "bob@example.com"), NOW), "another address");
        assert!(!read.fits(&keys(1), &ana, NOW + LIFETIME), "too late");
        assert!(!token.contains("ana"));
    }

    #[test]
    fn a_changed_token_fits_at_no_character() {
        let ana = user(1, "ana@example.com");
        let token = token(&keys(1), &ana, NOW + LIFETIME);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = VerificationToken::read(std::str::from_utf8(&bytes).unwrap());
            assert!(!changed.is_some_and(|changed| changed.fits(&keys(1), &ana, NOW)), "{at}");
        }
    }
}
