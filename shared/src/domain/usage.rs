//! The bill: one event for each stored reply, append-only, in integer micro-dollars; and how it gets to Polar.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::{BYOK_MESSAGE, MANAGED_MESSAGE, MicroDollars};
use super::{Agent, BillingAccount, Conversation, Message, Workspace};
use crate::kernel::{Day, Id, Time};

/// Whose model key answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// Ours.
    Managed,
    /// The customer's own.
    Byok,
}

impl KeySource {
    /// As the contracts write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Byok => "byok",
        }
    }

    /// Reads what [`Self::text`] wrote.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Managed, Self::Byok].into_iter().find(|source| source.text() == text)
    }

    /// What one message costs beyond the included ones.
    #[must_use]
    pub const fn unit_cost(self) -> MicroDollars {
        match self {
            Self::Managed => MANAGED_MESSAGE,
            Self::Byok => BYOK_MESSAGE,
        }
    }
}

/// One billed or included message. The `message.reply` event that tells of it has an id of its own, and this one's in
/// `data.usage.id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEvent {
    /// Identity; Polar dedupes on `<workspace>:<id>`.
    pub id: Uuid,
    /// Who pays.
    pub billing_account_id: Id<BillingAccount>,
    /// Where it happened.
    pub workspace_id: Id<Workspace>,
    /// Which agent answered.
    pub agent_id: Id<Agent>,
    /// In which conversation.
    pub conversation_id: Id<Conversation>,
    /// With which message.
    pub message_id: Id<Message>,
    /// Whose model key answered.
    pub key_source: KeySource,
    /// What one message costs.
    pub unit_cost: MicroDollars,
    /// Whether the plan's included messages (or the trial) cover it.
    pub included: bool,
    /// When.
    pub at: Time,
    /// When Polar took it.
    #[serde(default)]
    pub reported_at: Option<Time>,
    /// Why Polar does not take it, when that is so.
    #[serde(default)]
    pub parked: Option<String>,
    /// Since when it is parked.
    #[serde(default)]
    pub parked_at: Option<Time>,
    /// When it was put back, after it was parked.
    #[serde(default)]
    pub put_back_at: Option<Time>,
}

impl UsageEvent {
    /// The id that Polar dedupes on, over all tenants.
    #[must_use]
    pub fn external_id(&self) -> String {
        format!("{}:{}", self.workspace_id.text(), self.id)
    }

    /// Where it is counted.
    #[must_use]
    pub fn bucket(&self) -> UsageBucket {
        let (workspace, agent) = (self.workspace_id, self.agent_id);
        UsageBucket { day: Day::of(self.at), workspace, agent, key_source: self.key_source }
    }

    /// What it adds to a bill.
    #[must_use]
    pub const fn sums(&self) -> UsageSums {
        UsageSums::of_one(self.included, self.unit_cost)
    }

    /// Since when it waits to be reported.
    #[must_use]
    pub fn waits_since(&self) -> Time {
        self.put_back_at.unwrap_or(self.at)
    }

    /// Whether Polar is still to be told.
    #[must_use]
    pub const fn is_unreported(&self) -> bool {
        self.reported_at.is_none() && self.parked.is_none()
    }
}

/// Messages and what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageSums {
    /// Replies of models.
    pub messages: i64,
    /// Those that the plan's included messages (or the trial) cover.
    pub included: i64,
    /// What the others cost.
    pub cost: MicroDollars,
}

impl UsageSums {
    /// What one message adds.
    #[must_use]
    pub const fn of_one(included: bool, unit_cost: MicroDollars) -> Self {
        if included {
            Self { messages: 1, included: 1, cost: 0 }
        } else {
            Self { messages: 1, included: 0, cost: unit_cost }
        }
    }

    /// The nearest sums that lie between two others, each by itself.
    #[must_use]
    pub fn between(self, low: Self, high: Self) -> Self {
        Self {
            messages: self.messages.max(low.messages).min(high.messages),
            included: self.included.max(low.included).min(high.included),
            cost: self.cost.max(low.cost).min(high.cost),
        }
    }

    /// Messages beyond the included ones.
    #[must_use]
    pub const fn billable(self) -> i64 {
        self.messages - self.included
    }
}

impl Add for UsageSums {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            included: self.included + other.included,
            cost: self.cost + other.cost,
        }
    }
}

impl Sub for UsageSums {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            messages: self.messages - other.messages,
            included: self.included - other.included,
            cost: self.cost - other.cost,
        }
    }
}

impl AddAssign for UsageSums {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for UsageSums {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Add::add)
    }
}

/// A part of an account's usage that is counted by itself. Agents' ids are their workspace's, so it belongs to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageBucket {
    /// On which day.
    pub day: Day,
    /// Where.
    pub workspace: Id<Workspace>,
    /// With which agent.
    pub agent: Id<Agent>,
    /// With whose model key.
    pub key_source: KeySource,
}

/// A claim on a run of unreported usage events: until its deadline nobody else sends them. It is sent at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Which shard of the unreported index.
    pub shard: u8,
    /// Which month of it, such as `202611`.
    pub bucket: String,
    /// The first event.
    pub first: Uuid,
    /// The last event.
    pub last: Uuid,
    /// Random: tells claims on the same run apart, also those of one moment.
    pub token: String,
    /// Whether it was made to be sent whatever stands against it.
    #[serde(default)]
    pub forced: bool,
    /// When it began to be sent.
    #[serde(default)]
    pub sent_at: Option<Time>,
    /// When the claim ends: from then on the events may be claimed again.
    pub deadline: Time,
}

/// How Polar stands, for the whole installation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PolarState {
    /// Failures since it last took something.
    pub failures: u32,
    /// Until when nothing is sent.
    pub paused_until: Option<Time>,
    /// The last failure, for people.
    pub reason: Option<String>,
}

impl PolarState {
    /// The end of the pause, while it lasts.
    #[must_use]
    pub fn paused_at(&self, now: Time) -> Option<Time> {
        self.paused_until.filter(|until| *until > now)
    }

    /// How it stands after one more failure. Without a wish of Polar's the pause is 1, 2, 4, … up to 15 minutes, less
    /// up to a tenth: `jitter` is below 1,000.
    #[must_use]
    pub fn failed(&self, now: Time, wish: Option<Duration>, jitter: u32, reason: String) -> Self {
        let minutes = (1_u64 << self.failures.min(4)).min(15);
        let ours = Duration::from_millis(minutes * (60_000 - 6 * u64::from(jitter)));
        let pause = wish.unwrap_or(ours).clamp(Duration::from_secs(1), LONGEST_PAUSE);
        Self { failures: self.failures.saturating_add(1), paused_until: Some(now + pause), reason: Some(reason) }
    }
}

/// The longest that Polar can make us wait: a wrong header must not stop the bill for a year.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_798_675_199_000);

    #[test]
    fn failures_in_a_row_wait_longer_and_longer_up_to_a_quarter_of_an_hour() {
        let (mut state, mut minutes) = (PolarState::default(), Vec::new());
        for _ in 0..6 {
            state = state.failed(NOW, None, 0, "500".into());
            minutes.push(state.paused_until.unwrap().since(NOW).as_secs() / 60);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 15, 15]);
        let jittered = PolarState::default().failed(NOW, None, 999, "500".into());
        assert_eq!(jittered.paused_until.unwrap().since(NOW).as_millis(), 54_006);
    }

    #[test]
    fn polars_wish_counts_within_reason() {
        let wish = |seconds| {
            let state = PolarState::default().failed(NOW, Some(Duration::from_secs(seconds)), 7, "429".into());
            state.paused_until.unwrap().since(NOW).as_secs()
        };
        assert_eq!((wish(0), wish(77), wish(u64::MAX)), (1, 77, 3600));
    }

    #[test]
    fn a_pause_ends_at_its_time() {
        let state = PolarState { paused_until: Some(NOW), ..PolarState::default() };
        assert_eq!(state.paused_at(NOW), None);
        assert_eq!(state.paused_at(NOW - Duration::from_millis(1)), Some(NOW));
    }

    #[test]
    fn included_messages_cost_nothing() {
        let sums = UsageSums::of_one(true, 10_000) + UsageSums::of_one(false, 4_000);
        assert_eq!((sums.messages, sums.billable(), sums.cost), (2, 1, 4_000));
    }
}
