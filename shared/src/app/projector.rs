//! The projector: keeps the counters that people look at. Each event counts once in each rollup, whatever order or
//! repetition it comes in.

use super::App;
use crate::domain::{BillingAccount, Event};
use crate::events::catalog::kind;
use crate::kernel::Result;
use crate::store::keys;
use crate::store::rollup::{Contribution, count};

/// Counts a batch of events.
///
/// # Errors
/// When the table cannot be written; the whole batch is then given again, and counts nothing twice.
pub async fn project(app: &App, events: &[Event]) -> Result<()> {
    for contribution in events.iter().flat_map(contributions) {
        count(&app.table, &contribution, app.now()).await?;
    }
    Ok(())
}

/// What an event adds to which counters. Pure.
fn contributions(event: &Event) -> Vec<Contribution> {
    let of_agent = |counter| {
        let agent = event.agent_id?;
        Some(Contribution { rollup: keys::agent_rollup(event.workspace_id, agent), event: event.id, counter })
    };
    let of_account = || {
        let account = event.id_in::<BillingAccount>("account")?;
        let counter = match event.data.get("key_source")?.as_str()? {
            "managed" => "managed",
            "byok" => "byok",
            _ => return None,
        };
        Some(Contribution { rollup: keys::account_rollup(account, &keys::month(event.at)), event: event.id, counter })
    };
    let found = match event.kind.as_str() {
        kind::CONVERSATION_CREATED => [of_agent("conversations"), None],
        kind::MESSAGE_INBOUND => [of_agent("messages"), None],
        kind::MESSAGE_REPLY => [of_agent("replies"), of_account()],
        kind::LEAD_CAPTURED => [of_agent("leads"), None],
        _ => [None, None],
    };
    found.into_iter().flatten().collect()
}
