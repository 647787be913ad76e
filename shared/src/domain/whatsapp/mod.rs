//! `WhatsApp`: the lines that agents answer on, who writes there, and what becomes of what we send.

mod delivery;
mod file;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use delivery::{Claim, Delivery, Part, Reason, State};
pub use text::{formatted, split};

use super::{Agent, Workspace};
use crate::kernel::{Id, Time};

/// How long after a person's last message anything may be written to them; later only templates go through.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Through whom a line is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Kapso, which speaks Meta's language with a key of its own.
    Kapso,
    /// Meta's Cloud API itself.
    Meta,
}

impl Provider {
    /// Its name, as paths and settings have it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Kapso => "kapso",
            Self::Meta => "meta",
        }
    }
}

/// A phone number at a provider, and the one agent that answers on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Through whom.
    pub provider: Provider,
    /// What Meta calls the number.
    pub phone_number_id: String,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// Which agent.
    pub agent_id: Id<Agent>,
}

/// Whether a text may be the id of a number: it stands in keys and paths.
#[must_use]
pub fn is_number_id(text: &str) -> bool {
    (1..=60).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// What an agent's head says of its line at Meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaLine {
    /// What Meta calls the number.
    #[serde(default)]
    pub phone_number_id: Option<String>,
    /// Whether there is a token to send with.
    #[serde(default)]
    pub has_access_token: bool,
    /// Whether there is the secret that callbacks are signed with.
    #[serde(default)]
    pub has_app_secret: bool,
    /// Whether there is the word that Meta shows when the callback is set up.
    #[serde(default)]
    pub has_verify_token: bool,
}

/// Who writes. The business-scoped user id is who they are; the phone may be missing, and may come to be another's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What Meta calls them towards this business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Digits without `+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What they call themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Peer {
    /// By what they are found, the surest first.
    pub fn marks(&self) -> impl Iterator<Item = String> {
        let user = self.user_id.as_ref().map(|id| format!("user {id}"));
        user.into_iter().chain(self.phone.as_ref().map(|phone| format!("phone {phone}")))
    }

    /// Whether they are found by this mark: one that led to them before may be another's by now.
    #[must_use]
    pub fn has(&self, mark: &str) -> bool {
        self.marks().any(|own| own == mark)
    }

    /// Whether both may be the same person: two different user ids are two people, whatever their phone.
    #[must_use]
    pub fn may_be(&self, other: &Self) -> bool {
        match (&self.user_id, &other.user_id) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        }
    }

    /// What is known of them with what a newer message says.
    #[must_use]
    pub fn updated(&self, newer: &Self) -> Self {
        let either = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
        Self {
            user_id: either(&newer.user_id, &self.user_id),
            phone: either(&newer.phone, &self.phone),
            name: either(&newer.name, &self.name),
        }
    }
}

/// What a conversation knows of the line that it goes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talk {
    /// Through whom.
    pub provider: Provider,
    /// What Meta calls our number.
    pub phone_number_id: String,
    /// With whom.
    pub peer: Peer,
    /// When they last wrote.
    pub last_inbound_at: Time,
}

impl Talk {
    /// What is known with what another message says, which may be older than the last one.
    #[must_use]
    pub fn updated(&self, said: &Self) -> Self {
        let (older, newer) = if said.last_inbound_at < self.last_inbound_at { (said, self) } else { (self, said) };
        Self { peer: older.peer.updated(&newer.peer), ..newer.clone() }
    }

    /// Until when anything may be written to them.
    #[must_use]
    pub fn open_until(&self) -> Time {
        self.last_inbound_at + WINDOW
    }

    /// Whether anything may be written to them now.
    #[must_use]
    pub fn is_open(&self, now: Time) -> bool {
        now < self.open_until()
    }
}

/// A message that came in, as far as we read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Meta's id of it.
    pub id: String,
    /// Who wrote.
    pub peer: Peer,
    /// When.
    pub at: Time,
    /// What it says; marks stand for what is no text.
    pub text: String,
    /// The file that came with it.
    #[serde(default)]
    pub file: Option<FileRef>,
}

/// Somebody whose number changed, whereupon Meta calls them otherwise. What is not told of who they are is not known: neither
/// the number nor the user id of before is theirs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// Who they were.
    pub was: Peer,
    /// Who they are.
    pub is: Peer,
    /// Since when, if that is told.
    #[serde(default)]
    pub at: Option<Time>,
}

impl Renamed {
    /// Whether a conversation that a mark of before leads to is theirs. One that only the number leads to may be that of
    /// somebody who has the number now: they write after the change.
    #[must_use]
    pub fn was_in(&self, talk: &Talk) -> bool {
        let is_sure = talk.peer.user_id.is_some() && talk.peer.user_id == self.was.user_id;
        let is_before = self.at.map_or(self.is.user_id.is_some(), |at| talk.last_inbound_at <= at);
        is_sure || (talk.peer.may_be(&self.was) && is_before)
    }

    /// Whether a conversation that a mark of theirs leads to is one that they have begun as who they are. Else it is that of
    /// somebody who had the number before.
    #[must_use]
    pub fn is_in(&self, talk: &Talk) -> bool {
        match (&talk.peer.user_id, &self.is.user_id) {
            (Some(one), Some(other)) => one == other,
            _ => self.at.is_none_or(|at| talk.last_inbound_at > at),
        }
    }
}

/// Where a file that came in is to be had, for some minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Meta's id of it.
    pub id: String,
    /// What it is.
    pub kind: FileKind,
    /// What its sender's phone calls its type.
    #[serde(default)]
    pub mime: Option<String>,
    /// What its sender calls it.
    #[serde(default)]
    pub name: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Meta's words")]
pub enum FileKind {
    Image,
    Video,
    Audio,
    Document,
    Sticker,
}

impl FileKind {
    /// Meta's word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Sticker => "sticker",
        }
    }

    /// How many bytes Meta lets one have, or what a function has memory for.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        const MB: usize = 1024 * 1024;
        match self {
            Self::Image => 5 * MB,
            Self::Video | Self::Audio => 16 * MB,
            // Meta takes 100 MB, which no function of ours holds several times over.
            Self::Document => 20 * MB,
            Self::Sticker => MB,
        }
    }
}

/// A file of a message, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// What it is.
    pub kind: FileKind,
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// What its sender calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The key of its object; `None` when it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Why it could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a provider tells of a message that we sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Meta's id of the message.
    pub id: String,
    /// What became of it.
    pub state: State,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// What we sent beside the message to know it again.
    #[serde(default)]
    pub tag: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(user: Option<&str>, phone: Option<&str>) -> Peer {
        Peer { user_id: user.map(str::to_owned), phone: phone.map(str::to_owned), name: None }
    }

    #[test]
    fn people_are_found_by_their_user_id_first_and_a_phone_alone_makes_nobody_another() {
        let both = peer(Some("US.1"), Some("1555"));
        assert_eq!(both.marks().collect::<Vec<_>>(), ["user US.1", "phone 1555"]);
        assert!(both.has("phone 1555") && !both.has("phone 1556") && !peer(None, None).has("user US.1"));
        assert!(both.may_be(&peer(None, Some("1555"))) && peer(None, Some("1555")).may_be(&both));
        assert!(!both.may_be(&peer(Some("US.2"), Some("1555"))), "the number has another owner now");
        let hidden = both.updated(&peer(Some("US.1"), None));
        assert_eq!(hidden.phone.as_deref(), Some("1555"), "what a message leaves out is not forgotten");
    }

    #[test]
    fn the_window_is_open_for_a_day() {
        let at = Time::from_millis(1_000);
        let talk =
            Talk { provider: Provider::Meta, phone_number_id: "1".into(), peer: peer(None, None), last_inbound_at: at };
        assert!(talk.is_open(at + WINDOW - Duration::from_millis(1)) && !talk.is_open(at + WINDOW));
    }

    #[test]
    fn ids_of_numbers_are_plain() {
        assert!(is_number_id("106540352242922") && !is_number_id("") && !is_number_id("1/2") && !is_number_id("1#2"));
        assert!(!is_number_id(&"1".repeat(61)));
    }
}
