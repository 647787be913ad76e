//! Where customers want to be told, and each telling.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Workspace;
use crate::kernel::secret::{Sealed, sha256_hex};
use crate::kernel::{Id, Time};

/// How many endpoints a workspace may have.
pub const MAX_WEBHOOKS: usize = 20;
/// Waits before the retries, after the first try: five, as studio's contract says.
pub const RETRY_SCHEDULE: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(5 * 60),
    Duration::from_secs(3_600),
    Duration::from_secs(8 * 3_600),
    Duration::from_secs(24 * 3_600),
];
/// How many deliveries to one endpoint may be under way, so that a slow receiver holds back nobody else.
pub const IN_FLIGHT: usize = 5;
/// A call that takes longer makes its endpoint a slow one for [`SLOW_FOR`]: it is served apart, by workers of its own, so
/// that a receiver that hangs holds back nobody else's events.
pub const SLOW: Duration = Duration::from_secs(3);
/// For how long an endpoint is a slow one after such a call.
pub const SLOW_FOR: Duration = Duration::from_secs(10 * 60);
/// An endpoint that fails for so long is switched off.
pub const FAILING_FOR: Duration = Duration::from_secs(5 * 24 * 3_600);
/// How much of that time passes before its owner is told, in percent, each time.
pub const NOTICES: [u64; 3] = [50, 70, 90];
/// Failures that are further apart than this are not one and the same trouble. Longer than the longest wait between two
/// attempts of one delivery.
pub const QUIET: Duration = Duration::from_secs(48 * 3_600);
/// The least time between the last notice and that.
pub const LAST_NOTICE: Duration = Duration::from_secs(12 * 3_600);
/// For how long both secrets sign after a rotation, unless it is said; at most [`MAX_OVERLAP`].
pub const OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// The longest such time.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A replay that has not moved on for so long holds back no other.
pub const REPLAY_STALE: Duration = Duration::from_secs(24 * 3_600);
/// How many secrets before the present one sign too; the oldest go first.
pub const MAX_PREVIOUS: usize = 4;
/// How many attempts of a delivery are kept; the oldest go first.
pub const KEPT_ATTEMPTS: usize = 24;
/// How often an attempt may be lost (its sender stopped) before the delivery is given up.
pub const MAX_LOST: u32 = 10;

/// An endpoint of a customer's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Webhook {
    /// Identity.
    pub id: Id<Webhook>,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// Which surface's event names, payload and signature it gets.
    pub dialect: Dialect,
    /// What its owner calls it.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// The dialect's event names that it wants; `None` means all of them.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// `whsec_…`, sealed; shown once.
    pub secret: Sealed,
    /// The first characters of the secret, to tell which one is in use.
    pub secret_prefix: String,
    /// Secrets before this one that sign too, the newest first.
    #[serde(default)]
    pub previous_secrets: Vec<PreviousSecret>,
    /// Whether it is told at all.
    pub is_active: bool,
    /// Why we switched it off, if we did.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// When it was last switched off, by us or by its owner.
    #[serde(default)]
    pub disabled_at: Option<Time>,
    /// From when on it may have missed events then: the first that failed, or when it was switched off. A replay of all
    /// since then brings them.
    #[serde(default)]
    pub missed_since: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

/// A secret that was replaced and signs for a while yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// `whsec_…`, sealed.
    pub secret: Sealed,
    /// Until when it signs.
    pub until: Time,
}

impl PreviousSecret {
    /// Whether it still signs.
    #[must_use]
    pub fn signs(&self, now: Time) -> bool {
        self.until > now
    }
}

/// How an endpoint fares. Apart from the endpoint, since every attempt changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The last attempt.
    pub last_delivery_at: Option<Time>,
    /// How the last attempt went.
    pub last_delivery_status: Option<DeliveryStatus>,
    /// When the failures began, if the last attempt failed.
    pub failing_since: Option<Time>,
    /// Which of the [`NOTICES`] its owner has had of these failures, in percent.
    pub noticed: u64,
    /// When it had the last one.
    pub noticed_at: Option<Time>,
    /// When the first event happened that it has not taken since then.
    pub missed_since: Option<Time>,
    /// Until when it asked us to wait, in milliseconds since 1970.
    pub paused_until: i64,
    /// Until when it counts as slow, in milliseconds since 1970.
    pub slow_until: i64,
    /// How many deliveries are under way.
    pub busy: i64,
}

/// Which surface an endpoint was made at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `x-chatia-*` headers and the contract's eight events.
    Studio,
}

/// One event for one endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delivery {
    /// Made from the endpoint and the event, so that a repeat meets the first one.
    pub id: Uuid,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// To where.
    pub webhook_id: Id<Webhook>,
    /// Of what.
    pub event_id: Uuid,
    /// The event's name in the endpoint's dialect.
    pub event: String,
    /// The bytes that are sent, frozen at the first attempt.
    pub payload: String,
    /// How it stands.
    pub status: DeliveryStatus,
    /// The number of the last attempt that was claimed. Numbers only rise: each is sent at most once.
    pub attempt: u32,
    /// How many attempts ended since it began or was retried by hand: the place in the schedule.
    #[serde(default)]
    pub tries: u32,
    /// How many attempts were lost, since their senders stopped.
    #[serde(default)]
    pub lost: u32,
    /// Until when the running attempt is its sender's, in milliseconds since 1970; 0 when none runs.
    #[serde(default)]
    pub claimed_until: i64,
    /// Whose the running attempt is: random, so that two that claim at once are told apart.
    #[serde(default)]
    pub claim: Option<Uuid>,
    /// Every attempt that ended.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// When the next attempt is due.
    #[serde(default)]
    pub next_at: Option<Time>,
    /// How often it was put off since its last attempt, because there was no place on the way to the endpoint.
    #[serde(default)]
    pub deferrals: u32,
    /// Why it was given up, unless its attempts say it.
    #[serde(default)]
    pub reason: Option<String>,
    /// The request that the event came of, for the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The last [`Replay`] that it is of: each takes a delivery up once.
    #[serde(default)]
    pub replay: Option<Uuid>,
    /// When it was first tried.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Being tried, or waiting for its next attempt.
    Pending,
    /// The receiver took it.
    Succeeded,
    /// Given up.
    Failed,
}

/// One attempt.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Attempt {
    /// Which attempt; also the header `x-chatia-attempt` of the call.
    #[serde(default)]
    pub number: u32,
    /// When it began.
    pub at: Time,
    /// What the receiver answered, if it did.
    #[serde(default)]
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// The first 2 KB of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Events that are delivered to an endpoint again, and how far that has come. Each endpoint has its last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Identity.
    pub id: Uuid,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// To which endpoint.
    pub webhook_id: Id<Webhook>,
    /// These events, or everything of a time.
    #[serde(default)]
    pub event_ids: Vec<Uuid>,
    /// From when on.
    #[serde(default)]
    pub since: Option<Time>,
    /// Until when.
    #[serde(default)]
    pub until: Option<Time>,
    /// Whether also what the endpoint has taken already.
    pub include_delivered: bool,
    /// Behind which position it goes on; empty at the start.
    pub after: String,
    /// The position before that one.
    #[serde(default)]
    pub before: Option<String>,
    /// How many deliveries were queued.
    pub queued: u64,
    /// How it stands.
    pub status: ReplayStatus,
    /// When it began.
    pub started_at: Time,
    /// When it last moved on.
    pub moved_at: Time,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Time>,
}

/// How a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayStatus {
    /// It goes on behind the scenes.
    Running,
    /// All of it was queued.
    Done,
    /// It was stopped, its webhook was switched off meanwhile, or it could not go on for a day.
    Stopped,
}

impl Replay {
    /// Whether it is under way.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == ReplayStatus::Running
    }

    /// Whether it holds back another one.
    #[must_use]
    pub fn is_in_the_way(&self, now: Time) -> bool {
        self.is_running() && now.since(self.moved_at) < REPLAY_STALE
    }
}

impl Delivery {
    /// The id of an event's delivery to an endpoint: a UUID (version 8) that both sides of a race compute alike. It
    /// begins with the event's time, so that deliveries sort by it.
    #[must_use]
    pub fn id_for(webhook: Id<Webhook>, event: Uuid) -> Uuid {
        let digest = sha256_hex(format!("{}/{event}", webhook.text()));
        let tail = u128::from_str_radix(&digest[..20], 16).unwrap_or(0);
        let head = event.as_u128() >> 80 << 80;
        uuid::Builder::from_custom_bytes((head | tail).to_be_bytes()).into_uuid()
    }

    /// How the text of the event's id begins, from the delivery's id: its millisecond.
    #[must_use]
    pub fn event_begins_with(id: Uuid) -> String {
        let mut text = id.to_string();
        text.truncate("01910000-0000".len());
        text
    }

    /// The wait after so many tries; `None` when they are used up.
    #[must_use]
    pub fn wait_after(schedule: &[Duration], tries: u32) -> Option<Duration> {
        schedule.get(usize::try_from(tries).ok()?.checked_sub(1)?).copied()
    }

    /// Whether an attempt was claimed whose sender stopped before it recorded an outcome.
    #[must_use]
    pub fn is_lost(&self, now: Time) -> bool {
        self.claimed_until != 0 && self.claimed_until <= now.millis()
    }

    /// Whether the clock is to see to its next attempt.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.status == DeliveryStatus::Pending && !self.is_running(now) && self.next_at.is_some_and(|at| at <= now)
    }

    /// Whether an attempt is under way.
    #[must_use]
    pub fn is_running(&self, now: Time) -> bool {
        self.claimed_until > now.millis()
    }

    /// Whether only the message of its first attempt sees to it: the clock does not know of it.
    #[must_use]
    pub fn is_unwatched(&self) -> bool {
        self.status == DeliveryStatus::Pending && self.next_at.is_none()
    }

    /// Records the attempt whose sender stopped, if there is one.
    pub fn note_lost(&mut self, now: Time) {
        if self.is_lost(now) {
            self.lost += 1;
            self.claimed_until = 0;
            let error = "no outcome is known: the sender stopped while it was under way".to_owned();
            self.record(Attempt {
                number: self.attempt,
                at: self.updated_at,
                status: None,
                ms: 0,
                error: Some(error),
                body: None,
            });
        }
    }

    /// Claims the next attempt for the sender `claim`, until `until`. What was lost before it is recorded as that.
    pub fn begin_attempt(&mut self, claim: Uuid, now: Time, until: Time) {
        self.note_lost(now);
        self.attempt += 1;
        self.deferrals = 0;
        (self.claim, self.claimed_until) = (Some(claim), until.millis());
        // Should the sender stop now, the clock finds it after the claim. A first attempt has its message for that.
        self.next_at = Some(until);
        self.updated_at = now;
    }

    /// Keeps an attempt. Retried by hand again and again, a delivery must still fit its item.
    pub fn record(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
        let surplus = self.attempts.len().saturating_sub(KEPT_ATTEMPTS);
        self.attempts.drain(..surplus);
    }

    /// Ends the running attempt: it stays with this state until the next one.
    pub fn end_attempt(&mut self, status: DeliveryStatus, next_at: Option<Time>, now: Time) {
        (self.claim, self.claimed_until) = (None, 0);
        (self.status, self.next_at, self.updated_at) = (status, next_at, now);
    }
}

impl Webhook {
    /// Whether it wants an event of that name.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.is_active && self.events.as_ref().is_none_or(|events| events.iter().any(|wanted| wanted == event))
    }

    /// Drops the secrets that sign no more; those that are left do.
    pub fn forget_secrets(&mut self, now: Time) {
        self.previous_secrets.retain(|previous| previous.signs(now));
    }

    /// Where the sealed secret belongs.
    #[must_use]
    pub fn secret_place(workspace: Id<Workspace>, id: Id<Webhook>) -> String {
        format!("{}/{}/secret", workspace.text(), id.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_id_is_the_same_for_the_same_pair_only() {
        let (one, two) = (Id::from_int(1).unwrap(), Id::from_int(2).unwrap());
        let event = Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(Delivery::id_for(one, event), Delivery::id_for(one, event));
        assert_ne!(Delivery::id_for(one, event), Delivery::id_for(two, event));
        assert_eq!(Delivery::id_for(one, event).as_u128() >> 80, event.as_u128() >> 80);
        assert!(event.to_string().starts_with(&Delivery::event_begins_with(Delivery::id_for(one, event))));
    }

    #[test]
    fn five_retries_follow_the_first_attempt() {
        let waits: Vec<_> = (1..=6).map(|attempt| Delivery::wait_after(&RETRY_SCHEDULE, attempt)).collect();
        assert_eq!(waits.iter().flatten().count(), 5);
        assert_eq!(waits[5], None);
        assert_eq!(Delivery::wait_after(&RETRY_SCHEDULE, 0), None);
    }
}
