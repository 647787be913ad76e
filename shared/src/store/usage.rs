//! Usage events, the sparse index of the unreported ones, and claims on runs of them.

use std::time::Duration;

use uuid::Uuid;

use super::keys;
use crate::domain::BillingAccount;
use crate::domain::usage::{UsageBatch, UsageEvent};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Query, Row, Table, Unit, Update, decode};

const KEPT: Duration = Duration::from_secs(25 * 31 * 24 * 3600);

/// Adds a usage event, listed as unreported.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, event: &UsageEvent) -> Result<()> {
    let unreported = keys::unreported(keys::shard_of(event.id), &keys::month(event.at));
    let row = Row::new(keys::usage(event.billing_account_id, event.at, event.id), "usage", event)?;
    unit.create_fresh(row.gsi1(unreported, event.id.to_string()));
    Ok(())
}

/// Whether there is a usage event with this id, of a moment between that of the id and the later one of these two.
///
/// # Errors
/// When the table cannot be read.
pub async fn exists(table: &Table, account: Id<BillingAccount>, id: Uuid, (until, now): (i64, Time)) -> Result<bool> {
    // Events lie by month, and one may have come after the end of the month in which its id was made.
    let mut places: Vec<_> =
        [Time::of_uuid(id), Time::from_millis(until), now].map(|at| keys::usage(account, at, id)).into();
    places.dedup();
    Ok(!table.batch_get(&places).await?.is_empty())
}

/// Unreported events of a shard and month, oldest first, from `after` on.
///
/// # Errors
/// When the table cannot be read.
pub async fn unreported(
    table: &Table,
    shard: u8,
    month: &str,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<UsageEvent>> {
    let cursor = after.map(|id| Cursor { position: id.to_string() });
    let query = Query::partition(Index::Gsi1, keys::unreported(shard, month)).after(cursor.as_ref());
    table.query(&query, limit).await?.items.into_iter().map(decode).collect()
}

/// The unreported events of a claim.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_batch(table: &Table, batch: &UsageBatch, limit: usize) -> Result<Vec<UsageEvent>> {
    let pk = keys::unreported(batch.shard, &batch.bucket);
    let query = Query::between(Index::Gsi1, pk, batch.first.to_string(), batch.last.to_string());
    let events: Vec<UsageEvent> =
        table.query(&query, limit).await?.items.into_iter().map(decode).collect::<Result<_>>()?;
    // The index may lag behind the events.
    Ok(events.into_iter().filter(|event| event.reported_at.is_none() && event.parked.is_none()).collect())
}

/// Marks an event as taken by Polar, or as parked for good: it leaves the index of unreported ones. Reported events
/// expire after 25 months.
///
/// # Errors
/// When the table cannot be written.
pub async fn mark(table: &Table, event: &UsageEvent, parked: Option<&str>, now: Time) -> Result<()> {
    let update =
        Update::new(keys::usage(event.billing_account_id, event.at, event.id)).remove("gsi1pk").remove("gsi1sk");
    let update = match parked {
        Some(reason) => update.set("parked", reason),
        None => update.set("reported_at", now).set("ttl", (now + KEPT).seconds()),
    };
    table.update(update, Some(Cond::existing()), Error::not_found()).await.map(drop).map_err(Into::into)
}

/// The live claims of a shard.
///
/// # Errors
/// When the table cannot be read.
pub async fn claims(table: &Table, shard: u8) -> Result<Vec<UsageBatch>> {
    let query = Query::partition(Index::Main, keys::usage_batches(shard));
    table.all(&query, 10_000).await?.into_iter().map(decode).collect()
}

/// Claims a run, unless it is claimed already and the claim has not ended. `force` ignores that.
///
/// # Errors
/// `conflict` when the run is claimed, or the table cannot be written.
pub async fn claim(table: &Table, batch: &UsageBatch, force: bool, now: Time) -> Result<()> {
    let row = Row::new(keys::usage_batch(batch), "usage_batch", batch)?.ttl(batch.deadline + Duration::from_secs(3600));
    let mut unit = Unit::new();
    if force {
        unit.put(row);
    } else {
        let free = Cond::new_item().or(Cond::lt("deadline", now));
        unit.put_if(row, free, Error::new(Code::Conflict));
    }
    table.commit(unit).await.map_err(Into::into)
}

/// Ends a claim whose events are all reported or parked.
///
/// # Errors
/// When the table cannot be written.
pub async fn release(table: &Table, batch: &UsageBatch) -> Result<()> {
    let mut unit = Unit::new();
    unit.delete(keys::usage_batch(batch));
    table.commit(unit).await.map_err(Into::into)
}

/// The usage events of an account in a month, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(
    table: &Table,
    account: Id<BillingAccount>,
    month: Time,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<UsageEvent>> {
    let partition = keys::usage(account, month, Uuid::nil()).pk;
    table.page(&Query::partition(Index::Main, partition).after(after), limit).await
}
