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
/// How long a receiver may take.
pub const TIMEOUT: Duration = Duration::from_secs(15);

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
    /// Whether it is told at all.
    pub is_active: bool,
    /// Why we switched it off, if we did.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// The last attempt.
    #[serde(default)]
    pub last_delivery_at: Option<Time>,
    /// How the last attempt went.
    #[serde(default)]
    pub last_delivery_status: Option<DeliveryStatus>,
    /// When it was made.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
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
    /// How many attempts were claimed since it began or was retried by hand.
    pub attempt: u32,
    /// Until when the running attempt is ours, in milliseconds since 1970; 0 when none runs.
    #[serde(default)]
    pub claimed_until: i64,
    /// Every attempt that ended.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// When the next attempt is due.
    #[serde(default)]
    pub next_at: Option<Time>,
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
    /// The first KB of the answer.
    #[serde(default)]
    pub body: Option<String>,
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

    /// The wait after `attempt` attempts; `None` when they are used up.
    #[must_use]
    pub fn wait_after(schedule: &[Duration], attempt: u32) -> Option<Duration> {
        schedule.get(usize::try_from(attempt).ok()?.checked_sub(1)?).copied()
    }
}

impl Webhook {
    /// Whether it wants an event of that name.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.is_active && self.events.as_ref().is_none_or(|events| events.iter().any(|wanted| wanted == event))
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
    }

    #[test]
    fn five_retries_follow_the_first_attempt() {
        let waits: Vec<_> = (1..=6).map(|attempt| Delivery::wait_after(&RETRY_SCHEDULE, attempt)).collect();
        assert_eq!(waits.iter().flatten().count(), 5);
        assert_eq!(waits[5], None);
        assert_eq!(Delivery::wait_after(&RETRY_SCHEDULE, 0), None);
    }
}
