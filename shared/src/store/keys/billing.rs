//! Keys of billing accounts: what is paid for, and what was used.

use uuid::Uuid;

use super::b;
use crate::domain::BillingAccount;
use crate::domain::billing::PeriodKey;
use crate::domain::usage::{KeySource, UsageBatch, UsageBucket};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Day, Id, Time};
use crate::table::Key;

/// A billing account.
#[must_use]
pub fn billing_account(account: Id<BillingAccount>) -> Key {
    Key::new(b(account), "ACC")
}

/// Sort prefix of an account's subscriptions.
pub const SUBSCRIPTION: &str = "SUB#";

/// A subscription, by the id that its provider gave it.
#[must_use]
pub fn subscription(account: Id<BillingAccount>, provider: &str, id: &str) -> Key {
    Key::new(b(account), format!("{SUBSCRIPTION}{provider}#{id}"))
}

/// That a call of a provider was heard.
#[must_use]
pub fn heard(provider: &str, id: &str) -> Key {
    Key::new(format!("HOOK#{provider}#{}", sha256_hex(id)), "H")
}

/// What was used of an allowance.
#[must_use]
pub fn allowance(account: Id<BillingAccount>, period: &PeriodKey) -> Key {
    Key::new(b(account), format!("USE#{}", period.0))
}

/// That an owner was told how much of an allowance is used.
#[must_use]
pub fn alert(account: Id<BillingAccount>, period: &PeriodKey, of: &str, percent: u8) -> Key {
    Key::new(b(account), format!("ALERT#{}#{of}#{percent}", period.0))
}

/// How many agents an account has published.
#[must_use]
pub fn published_agents(account: Id<BillingAccount>) -> Key {
    Key::new(b(account), "CNT#agents")
}

/// The month of a usage event, in UTC.
#[must_use]
pub fn month(at: Time) -> String {
    at.format("%Y%m")
}

/// A usage event.
#[must_use]
pub fn usage(account: Id<BillingAccount>, at: Time, id: Uuid) -> Key {
    Key::new(format!("{}#U#{}", b(account), month(at)), id.to_string())
}

/// Where unreported usage is listed.
#[must_use]
pub fn unreported(shard: u8, month: &str) -> String {
    format!("UNREP#{shard}#{month}")
}

/// Where the claims of a shard lie.
#[must_use]
pub fn usage_batches(shard: u8) -> String {
    format!("UB#{shard}")
}

/// Sort prefix of the claims on a month's events.
#[must_use]
pub fn usage_batch_prefix(month: &str) -> String {
    format!("{month}#")
}

/// A claim.
#[must_use]
pub fn usage_batch(batch: &UsageBatch) -> Key {
    let sk = format!("{}{}#{}", usage_batch_prefix(&batch.bucket), batch.first, batch.token);
    Key::new(usage_batches(batch.shard), sk)
}

/// What every new claim on a shard's month moves on.
#[must_use]
pub fn usage_batch_head(shard: u8, month: &str) -> Key {
    Key::new(usage_batches(shard), format!("HEAD#{month}"))
}

/// Where parked usage is listed.
pub const PARKED_USAGE: &str = "PARKED";

/// Where billing accounts are listed.
pub const BILLING_ACCOUNTS: &str = "ACCOUNTS";

/// How Polar stands.
#[must_use]
pub fn polar_state() -> Key {
    Key::new("POLAR", "STATE")
}

/// The partition of an account's rollups.
#[must_use]
pub fn account_rollups(account: Id<BillingAccount>) -> String {
    format!("{}#RU", b(account))
}

/// The sort keys of an account's usage from one day to another: they lie between these two.
#[must_use]
pub fn usage_rollups(first: Day, last: Day) -> (String, String) {
    (format!("DAY#{first}#"), format!("DAY#{last}#~"))
}

/// What an account used on a day with an agent and a key source.
#[must_use]
pub fn usage_rollup(account: Id<BillingAccount>, of: &UsageBucket) -> Key {
    let UsageBucket { day, workspace, agent, key_source } = of;
    let sk = format!("DAY#{day}#{}#{}#{}", workspace.key(), agent.key(), key_source.text());
    Key::new(account_rollups(account), sk)
}

/// Reads the sort key of [`usage_rollup`].
#[must_use]
pub fn read_usage_rollup(sk: &str) -> Option<UsageBucket> {
    let mut parts = sk.strip_prefix("DAY#")?.split('#');
    Some(UsageBucket {
        day: Day::parse(parts.next()?)?,
        workspace: Id::from_key(parts.next()?)?,
        agent: Id::from_key(parts.next()?)?,
        key_source: KeySource::from_text(parts.next()?)?,
    })
}
