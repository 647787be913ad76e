//! The link that proves whose an e-mail address is.
//!
//! The MAC of the link's token is over the address too, which the token does not hold: it proves the one that it was
//! mailed to, and nothing is stored for it.

use super::User;
use super::link::{self, Kind};
use crate::kernel::{Id, Keyring, Time};

/// How long a link holds: seven days.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// None of the other links' MACs is over anything that begins with a letter.
const LINK: Kind = Kind { prefix: "ver", purpose: b"verify e-mail" };

/// The token of the link that is mailed.
#[must_use]
pub fn token(keys: &Keyring, user: &User, until: Time) -> String {
    LINK.token(keys, [user.id.int(), until.millis().cast_unsigned()], &user.email)
}

/// A token as somebody sent it: it says whom it is about, and proves nothing before it is compared.
#[derive(Debug)]
pub struct VerificationToken {
    /// Whose address.
    pub user_id: Id<User>,
    /// When it ends.
    pub until: Time,
    token: link::Token,
}

impl VerificationToken {
    /// Reads a token.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let token = LINK.read(text)?;
        let [user, until] = token.numbers;
        Some(Self { user_id: Id::from_int(user)?, until: Time::from_millis(until.cast_signed()), token })
    }

    /// Whether we made it for this person and their address, and it has not ended.
    #[must_use]
    pub fn fits(&self, keys: &Keyring, user: &User, now: Time) -> bool {
        LINK.fits(keys, &self.token, &user.email) && self.user_id == user.id && self.until > now
    }
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
