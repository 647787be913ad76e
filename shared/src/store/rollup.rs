//! Counters for display, kept by the projector. Each event counts once per rollup: a marker goes with it in the same
//! transaction, so batches may be repeated, reordered and cut anew.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::keys;
use crate::domain::usage::{UsageBucket, UsageSums};
use crate::domain::{Agent, BillingAccount, Workspace};
use crate::kernel::{Code, Cursor, Day, Error, Id, Result, Time};
use crate::table::{Index, Item, Key, Query, Refusal, Row, Table, Unit, Update, decode_versioned};

/// Longer than the events themselves, so that one which is relayed again at the last moment is not counted again.
const MARKERS_KEPT: Duration = Duration::from_secs(35 * 24 * 3600);

/// How many events are counted in one transaction: few enough that one which meets another writer is soon repeated.
const TOGETHER: usize = 25;

/// Counters of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentCounts {
    /// Conversations ever begun.
    pub conversations: u64,
    /// Messages of visitors.
    pub messages: u64,
    /// Replies of the agent.
    pub replies: u64,
    /// Leads captured.
    pub leads: u64,
}

/// What one event adds to the counters of one rollup.
pub type Amounts = Vec<(&'static str, i64)>;

/// The amounts of usage, by the names of its counters.
#[must_use]
pub fn amounts(sums: UsageSums) -> Amounts {
    let UsageSums { messages, included, cost } = sums;
    vec![("messages", messages), ("included", included), ("cost", cost)]
}

/// Counts events in one rollup, each unless it was counted there before.
///
/// # Errors
/// When the table cannot be written. Some events may be counted then; counting all of them again is right.
pub async fn count(table: &Table, rollup: &Key, mut events: BTreeMap<Uuid, Amounts>, now: Time) -> Result<()> {
    while let Some(last) = events.keys().nth(TOGETHER).copied() {
        let rest = events.split_off(&last);
        count_together(table, rollup, std::mem::replace(&mut events, rest), now).await?;
    }
    count_together(table, rollup, events, now).await
}

/// One transaction: a marker for each event, and one update that adds what all of them add.
async fn count_together(table: &Table, rollup: &Key, mut events: BTreeMap<Uuid, Amounts>, now: Time) -> Result<()> {
    while !events.is_empty() {
        let mut unit = Unit::new();
        for event in events.keys() {
            unit.create(marker(rollup, *event, now)?, Error::new(Code::Conflict));
        }
        unit.upsert(add(rollup, events.values()));
        match table.commit(unit).await {
            Ok(()) => return Ok(()),
            Err(Refusal::Conditions(counted)) => {
                let before = events.len();
                let is_counted = |event: &Uuid| {
                    let marker = keys::rollup_marker(rollup, *event);
                    counted.iter().any(|failed| failed.key == marker)
                };
                events.retain(|event, _| !is_counted(event));
                if events.len() == before {
                    return Err(Error::internal("a rollup was refused for another reason than a marker"));
                }
            }
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn marker(rollup: &Key, event: Uuid, now: Time) -> Result<Row> {
    let row = Row::new(keys::rollup_marker(rollup, event), "rollup_marker", &json!({}))?;
    Ok(row.ttl(now + MARKERS_KEPT))
}

fn add<'a>(rollup: &Key, amounts: impl Iterator<Item = &'a Amounts>) -> Update {
    let mut sums: BTreeMap<&'static str, i64> = BTreeMap::new();
    for (counter, amount) in amounts.flatten() {
        *sums.entry(counter).or_default() += amount;
    }
    // A sum of 0 still makes the counter.
    sums.into_iter().fold(Update::new(rollup.clone()), |update, (counter, sum)| update.add(counter, sum))
}

/// Counters of several agents, in the order asked.
///
/// # Errors
/// When the table cannot be read.
pub async fn agents(table: &Table, workspace: Id<Workspace>, agents: &[Id<Agent>]) -> Result<Vec<AgentCounts>> {
    let keys: Vec<Key> = agents.iter().map(|agent| keys::agent_rollup(workspace, *agent)).collect();
    let mut counts = Vec::with_capacity(keys.len());
    let mut found = table.batch_get(&keys).await?.into_iter().peekable();
    for key in &keys {
        let is_it = |item: &Item| item.get("sk").and_then(|sk| sk.as_s().ok()) == Some(&key.sk);
        counts.push(match found.next_if(is_it) {
            Some(item) => crate::table::decode(item)?,
            None => AgentCounts::default(),
        });
    }
    Ok(counts)
}

/// A bucket of an account's usage as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Which one.
    pub bucket: UsageBucket,
    /// How much.
    pub sums: UsageSums,
    /// Moves on with every change.
    v: u64,
}

/// The largest number of buckets that are read at once.
const MAX_BUCKETS: usize = 50_000;

/// What an account used from one day to another, both included, in the order of days.
///
/// # Errors
/// `validation_error` on `since` when there are too many buckets, or the table cannot be read.
pub async fn usage(table: &Table, account: Id<BillingAccount>, since: Day, until: Day) -> Result<Vec<Counted>> {
    let (from, to) = keys::usage_rollups(since, until);
    let query = Query::between(Index::Main, keys::account_rollups(account), from, to);
    let rows = table.query(&query, MAX_BUCKETS).await?;
    if rows.more_after.is_some() {
        return Err(Error::field("since", "too_much", "there is too much usage in that time; ask for less of it"));
    }
    rows.items.into_iter().map(counted).collect()
}

fn counted(item: Item) -> Result<Counted> {
    let bucket = item.get("sk").and_then(|sk| keys::read_usage_rollup(sk.as_s().ok()?));
    let bucket = bucket.ok_or_else(|| Error::internal("a rollup of usage with a key that does not read"))?;
    let found = decode_versioned::<UsageSums>(item)?;
    Ok(Counted { bucket, sums: found.body, v: found.v })
}

/// How many markers are read at a time.
const PAGE: usize = 1_000;

/// Which usage of an account is counted, of the ids from one to another, both included.
///
/// # Errors
/// When the table cannot be read.
pub async fn counted_usage(
    table: &Table,
    account: Id<BillingAccount>,
    (first, last): (Uuid, Uuid),
) -> Result<HashSet<Uuid>> {
    let (from, to) = keys::usage_markers(first, last);
    let query = Query::between(Index::Main, keys::account_rollups(account), from, to);
    let (mut found, mut after) = (HashSet::new(), None);
    loop {
        let rows = table.query(&query.clone().after(after.as_ref()), PAGE).await?;
        let sort_keys = rows.items.iter().filter_map(|item| item.get("sk")?.as_s().ok());
        found.extend(sort_keys.filter_map(|sk| keys::read_usage_marker(sk)));
        after = rows.more_after.map(|position| Cursor { position });
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Counts usage in its bucket, each unless it was counted there before.
///
/// # Errors
/// As [`count`].
pub async fn count_usage(
    table: &Table,
    account: Id<BillingAccount>,
    bucket: &UsageBucket,
    events: BTreeMap<Uuid, UsageSums>,
    now: Time,
) -> Result<()> {
    let events = events.into_iter().map(|(event, sums)| (event, amounts(sums))).collect();
    count(table, &keys::usage_rollup(account, bucket), events, now).await
}

/// Sets a bucket to what it should be, unless it was counted in since it was read (as `read`; `None` when it was not
/// there). Says whether it was set.
///
/// # Errors
/// When the table cannot be written.
pub async fn set_usage(
    table: &Table,
    account: Id<BillingAccount>,
    bucket: &UsageBucket,
    read: Option<&Counted>,
    sums: UsageSums,
) -> Result<bool> {
    let row = Row::new(keys::usage_rollup(account, bucket), "rollup", &sums)?;
    let mut unit = Unit::new();
    match read {
        Some(read) => unit.replace(row, read.v),
        None => unit.create_fresh(row),
    };
    match table.commit(unit).await {
        Ok(()) => Ok(true),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}
