//! What becomes of a message that goes out: pending, sent, delivered, read, or failed for good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{formatted, split};
use crate::kernel::Time;

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Meta's words, and pending before them")]
pub enum State {
    Pending,
    Sent,
    Delivered,
    Read,
    Failed,
}

impl State {
    /// Its place in the order: a state never gives way to an earlier one.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Sent => 1,
            Self::Delivered => 2,
            Self::Read => 3,
            Self::Failed => 9,
        }
    }

    /// The state of a rank.
    #[must_use]
    pub const fn of_rank(rank: u8) -> Self {
        match rank {
            0 => Self::Pending,
            1 => Self::Sent,
            2 => Self::Delivered,
            3 => Self::Read,
            _ => Self::Failed,
        }
    }

    /// Below which rank it counts: what was delivered has not failed, and what has failed stays so.
    #[must_use]
    pub const fn counts_below(self) -> u8 {
        match self {
            Self::Failed => Self::Delivered.rank(),
            Self::Pending | Self::Sent | Self::Delivered | Self::Read => self.rank(),
        }
    }

    /// What counts of two states that were told of one message, in whatever order.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        if self.rank() < other.counts_below() { other } else { self }
    }
}

/// Why a message failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The provider's code, or a word of ours.
    pub code: String,
    /// For people.
    pub text: String,
}

impl Reason {
    /// A reason of ours: `unknown` for a message whose sending was not answered, so that it may have gone out.
    #[must_use]
    pub fn new(code: &str, text: &str) -> Self {
        Self { code: code.to_owned(), text: text.to_owned() }
    }
}

/// The sending of a message, which one process has at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose.
    pub id: Uuid,
    /// Until when, in milliseconds since 1970. What is not noted by then is not known to have been sent.
    pub until: i64,
    /// Which part is sent.
    #[serde(default)]
    pub part: u32,
}

/// One of the messages that a long one was cut into, once a provider has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Meta's id.
    pub id: String,
    /// The rank of its state.
    pub rank: u8,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// How a message goes out. Absent fields are absent in the table too, since conditions look at them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Into how many messages it is cut.
    pub parts: u32,
    /// Those that were taken, by their number: `p0`, `p1`.
    pub sent: BTreeMap<String, Part>,
    /// Who sends it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// How often it was tried in vain.
    #[serde(default)]
    pub tries: u32,
    /// Before when it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    /// Why the rest of it is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Reason>,
}

impl Delivery {
    /// Of a message that is to go out.
    #[must_use]
    pub fn of(content: &str) -> Self {
        let parts = u32::try_from(split(&formatted(content)).len()).unwrap_or(u32::MAX);
        Self { parts, sent: BTreeMap::new(), claim: None, tries: 0, next_at: None, failure: None }
    }

    /// What a part is called.
    #[must_use]
    pub fn part(number: u32) -> String {
        format!("p{number}")
    }

    /// Whether a part was taken.
    #[must_use]
    pub fn is_sent(&self, part: u32) -> bool {
        self.sent.contains_key(&Self::part(part))
    }

    /// The first part that is not known to have been taken.
    #[must_use]
    pub fn first_unsent(&self) -> Option<u32> {
        (0..self.parts).find(|part| !self.is_sent(*part))
    }

    /// The first one behind `part`.
    #[must_use]
    pub fn first_unsent_after(&self, part: u32) -> Option<u32> {
        (part.saturating_add(1)..self.parts).find(|part| !self.is_sent(*part))
    }

    fn has_failed_part(&self) -> bool {
        self.sent.values().any(|part| part.rank == State::Failed.rank())
    }

    /// Whether anything of it is still to be sent. What follows on a part that failed is not.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.failure.is_none() && !self.has_failed_part() && self.first_unsent().is_some()
    }

    /// Whether something of it is still to be sent that nobody will come back to: it was given up for lack of an answer,
    /// and then a status told that the part had been taken.
    #[must_use]
    pub fn is_left_alone(&self, now: Time) -> bool {
        let is_due = self.next_at.is_none_or(|at| at <= now);
        let is_free = self.claim.as_ref().is_none_or(|claim| claim.until <= now.millis());
        self.is_waiting() && is_free && !self.sent.is_empty() && is_due
    }

    /// How far all of it has come.
    #[must_use]
    pub fn state(&self) -> State {
        if self.failure.is_some() || self.has_failed_part() {
            return State::Failed;
        }
        if self.is_waiting() {
            return State::Pending;
        }
        self.sent.values().map(|part| part.rank).min().map_or(State::Pending, State::of_rank)
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.failure.as_ref().or_else(|| self.sent.values().find_map(|part| part.reason.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(state: State) -> Part {
        Part { id: "wamid.1".into(), rank: state.rank(), reason: None }
    }

    #[test]
    fn a_long_message_is_as_far_as_its_last_part() {
        let mut delivery = Delivery::of(&"x".repeat(5_000));
        assert_eq!((delivery.parts, delivery.state()), (2, State::Pending));
        delivery.sent.insert("p0".into(), part(State::Read));
        assert_eq!(delivery.state(), State::Pending);
        delivery.sent.insert("p1".into(), part(State::Delivered));
        assert_eq!(delivery.state(), State::Delivered);
        delivery.sent.insert("p1".into(), part(State::Failed));
        assert_eq!(delivery.state(), State::Failed);
    }

    proptest! {
        #[test]
        fn states_count_the_same_in_whatever_order_unless_they_contradict(mut ranks in proptest::collection::vec(1_u8..4, 1..6), seed: u64) {
            let told = |ranks: &[u8]| ranks.iter().fold(State::Pending, |state, rank| state.with(State::of_rank(*rank)));
            let before = told(&ranks);
            let turn = (seed % ranks.len() as u64) as usize;
            ranks.rotate_left(turn);
            ranks.reverse();
            prop_assert_eq!(told(&ranks), before);
        }
    }

    #[test]
    fn a_failure_ends_it_unless_it_has_arrived() {
        assert_eq!(State::Sent.with(State::Failed), State::Failed);
        assert_eq!(State::Failed.with(State::Delivered), State::Failed);
        assert_eq!(State::Delivered.with(State::Failed), State::Delivered);
    }
}
