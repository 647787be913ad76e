//! Counters for display, kept by the projector. Each event counts once per rollup: a marker goes with it in the same
//! transaction, so batches may be repeated, reordered and cut anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::keys;
use crate::domain::{Agent, BillingAccount, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Key, Refusal, Row, Table, Unit, Update, decode};

const MARKERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

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

/// Counters of an account in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageCounts {
    /// Replies with our key.
    pub managed: u64,
    /// Replies with the customer's key.
    pub byok: u64,
}

/// One event's contribution to one rollup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// Which rollup.
    pub rollup: Key,
    /// Which event.
    pub event: Uuid,
    /// Which counter.
    pub counter: &'static str,
}

/// Counts one event in one rollup, unless it was counted before. Says whether it was counted now.
///
/// # Errors
/// When the table cannot be written.
pub async fn count(table: &Table, contribution: &Contribution, now: Time) -> Result<bool> {
    let marker = keys::rollup_marker(&contribution.rollup, contribution.event);
    let mut unit = Unit::new();
    unit.create(Row::new(marker, "rollup_marker", &json!({}))?.ttl(now + MARKERS_KEPT), Error::new(Code::Conflict));
    unit.upsert(Update::new(contribution.rollup.clone()).add(contribution.counter, 1));
    match table.commit(unit).await {
        Ok(()) => Ok(true),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
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
        let is_it = |item: &crate::table::Item| item.get("sk").and_then(|sk| sk.as_s().ok()) == Some(&key.sk);
        counts.push(match found.next_if(is_it) {
            Some(item) => decode(item)?,
            None => AgentCounts::default(),
        });
    }
    Ok(counts)
}

/// Counters of an account in the month of a time.
///
/// # Errors
/// When the table cannot be read.
pub async fn messages(table: &Table, account: Id<BillingAccount>, at: Time) -> Result<MessageCounts> {
    Ok(table.get(&keys::account_rollup(account, &keys::month(at))).await?.unwrap_or_default())
}
