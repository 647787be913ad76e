//! An invitation into a workspace, and the link that proves whom it was mailed to.
//!
//! The MAC of the link's token is over the invitation's nonce too, so that the same link can be mailed again, and a new
//! invitation ends the old one.

use serde::{Deserialize, Serialize};

use super::link::{self, Kind};
use super::text::{harmless_address, harmless_name};
use super::{User, Workspace};
use crate::kernel::{Id, Keyring, Time};

/// How long an invitation holds: seven days.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// The longest name that somebody invited is shown.
const NAME_CHARS: usize = 60;

/// Who invites, as somebody who does not know them may be told: `"Acme" (ana@example.com)`. What mail programs would make a
/// link of is left out.
#[must_use]
pub fn inviter(name: &str, email: &str) -> String {
    match (harmless_name(name, NAME_CHARS), harmless_address(email)) {
        (Some(name), Some(email)) => format!("\"{name}\" ({email})"),
        (Some(name), None) => format!("\"{name}\""),
        (None, Some(email)) => email.to_owned(),
        (None, None) => "Somebody".to_owned(),
    }
}

const LINK: Kind = Kind { prefix: "inv", purpose: b"" };

/// An invitation that was not accepted yet; it lies in the membership that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Random; a new one ends the links before.
    pub nonce: String,
    /// When it ends by itself.
    pub expires_at: Time,
}

impl Invitation {
    /// The token of the link that is mailed.
    #[must_use]
    pub fn token(&self, keys: &Keyring, workspace: Id<Workspace>, user: Id<User>) -> String {
        LINK.token(keys, [workspace.int(), user.int()], &self.nonce)
    }
}

/// A token as somebody sent it: it says which membership it is about, and proves nothing before it is compared.
#[derive(Debug)]
pub struct InvitationToken {
    /// Into which workspace.
    pub workspace_id: Id<Workspace>,
    /// Whose.
    pub user_id: Id<User>,
    token: link::Token,
}

impl InvitationToken {
    /// Reads a token.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let token = LINK.read(text)?;
        let [workspace, user] = token.numbers;
        Some(Self { workspace_id: Id::from_int(workspace)?, user_id: Id::from_int(user)?, token })
    }

    /// Whether we made it for this invitation.
    #[must_use]
    pub fn fits(&self, keys: &Keyring, invitation: &Invitation) -> bool {
        LINK.fits(keys, &self.token, &invitation.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Rng;

    fn keys(seed: u64) -> Keyring {
        Keyring::parse(&Keyring::generate(&Rng::seeded(seed))).unwrap()
    }

    fn invitation(nonce: &str) -> Invitation {
        Invitation { nonce: nonce.into(), expires_at: Time::from_millis(0) }
    }

    #[test]
    fn a_token_fits_its_own_invitation_under_our_key_only() {
        let token = invitation("a").token(&keys(1), Id::from_int(1).unwrap(), Id::from_int(2).unwrap());
        let read = InvitationToken::read(&token).unwrap();
        assert_eq!((read.workspace_id.int(), read.user_id.int()), (1, 2));
        assert!(read.fits(&keys(1), &invitation("a")));
        assert!(!read.fits(&keys(1), &invitation("b")) && !read.fits(&keys(2), &invitation("a")));
    }

    #[test]
    fn who_invites_is_told_without_anything_that_becomes_a_link() {
        let email = "ana.lee+x@example.com";
        for (name, told) in [
            ("Acme, Inc. & Co", "\"Acme, Inc. & Co\" (ana.lee+x@example.com)"),
            ("Acme\r\nBcc:  x", "\"Acme Bcc: x\" (ana.lee+x@example.com)"),
            ("\"Bank\" \u{202e}moc", "\"Bank moc\" (ana.lee+x@example.com)"),
            ("At https://evil.example/pay - DHL", email),
            ("pay at evil.example", email),
            ("pay at evil\u{200b}.\u{2060}example", email),
            ("pay at evil\u{3002}example", email),
            ("write to me@evil", email),
            ("mailto:me", email),
            ("call +34 600 11 12 22", email),
            ("\u{200b}\"", email),
        ] {
            assert_eq!(inviter(name, email), told, "{name:?}");
        }
        let long = inviter(&"word ".repeat(40), "evil.example/pay@example.com");
        assert_eq!((long.chars().count(), long.ends_with("…\"")), (62, true), "{long}");
        assert_eq!(inviter("evil.example", "evil.example/pay@example.com"), "Somebody");
    }

    #[test]
    fn a_changed_token_fits_at_no_character() {
        let token = invitation("a").token(&keys(1), Id::from_int(1).unwrap(), Id::from_int(2).unwrap());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = InvitationToken::read(std::str::from_utf8(&bytes).unwrap());
            assert!(!changed.is_some_and(|changed| changed.fits(&keys(1), &invitation("a"))), "{at}");
        }
    }
}
