//! The projector: keeps the counters that people look at. Each event counts once in each rollup, whatever order or
//! repetition it comes in.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use uuid::Uuid;

use super::App;
use crate::domain::plan::MicroDollars;
use crate::domain::usage::{KeySource, UsageBucket, UsageSums};
use crate::domain::{BillingAccount, Event};
use crate::events::catalog::kind;
use crate::kernel::{Day, Result, Time};
use crate::store::keys;
use crate::store::rollup::{Amounts, amounts, count};
use crate::table::Key;

/// Counts a batch of events: what they add to one rollup is added together.
///
/// # Errors
/// When the table cannot be written; the whole batch is then given again, and counts nothing twice.
pub async fn project(app: &App, events: &[Event]) -> Result<()> {
    let mut by_rollup: HashMap<Key, BTreeMap<Uuid, Amounts>> = HashMap::new();
    for event in events {
        for Contribution { rollup, counted, amounts } in contributions(event) {
            by_rollup.entry(rollup).or_default().insert(counted, amounts);
        }
    }
    for (rollup, events) in by_rollup {
        count(&app.table, &rollup, events, app.now()).await?;
    }
    Ok(())
}

/// What an event adds to a rollup.
struct Contribution {
    rollup: Key,
    /// What is counted, once: the event, or the usage that it tells of, which is also counted anew from the bill.
    counted: Uuid,
    amounts: Amounts,
}

/// What an event adds to which counters. Pure.
fn contributions(event: &Event) -> Vec<Contribution> {
    let of_agent = |counter| {
        let rollup = keys::agent_rollup(event.workspace_id, event.agent_id?);
        Some(Contribution { rollup, counted: event.id, amounts: vec![(counter, 1)] })
    };
    let found = match event.kind.as_str() {
        kind::CONVERSATION_CREATED => [of_agent("conversations"), None],
        kind::MESSAGE_INBOUND => [of_agent("messages"), None],
        kind::MESSAGE_REPLY => [of_agent("replies"), of_account(event)],
        kind::LEAD_CAPTURED => [of_agent("leads"), None],
        _ => [None, None],
    };
    found.into_iter().flatten().collect()
}

/// The usage that a reply tells of; the fallback text has none.
#[derive(Deserialize)]
struct Usage {
    id: Uuid,
    key_source: KeySource,
    included: bool,
    unit_cost: MicroDollars,
    at: Time,
}

fn of_account(event: &Event) -> Option<Contribution> {
    let usage = Usage::deserialize(event.data.get("usage")?).ok()?;
    let account = event.id_in::<BillingAccount>("account")?;
    let (day, key_source) = (Day::of(usage.at), usage.key_source);
    let bucket = UsageBucket { day, workspace: event.workspace_id, agent: event.agent_id?, key_source };
    let sums = UsageSums::of_one(usage.included, usage.unit_cost);
    Some(Contribution { rollup: keys::usage_rollup(account, &bucket), counted: usage.id, amounts: amounts(sums) })
}
