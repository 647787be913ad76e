//! Usage events, the sparse indexes of the unreported and the parked ones, claims on runs of the unreported, and how
//! Polar stands.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::keys;
use crate::domain::BillingAccount;
use crate::domain::usage::{PolarState, UsageBatch, UsageEvent};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Item, Query, Refusal, Row, Table, Unit, Update, Versioned, decode};

const KEPT: Duration = Duration::from_secs(25 * 31 * 24 * 3600);
/// How long a claim may lie around after its end, whatever it was put off to.
const CLAIM_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Adds a usage event, listed as unreported.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, event: &UsageEvent) -> Result<()> {
    let unreported = keys::unreported(keys::shard_of(event.id), &keys::month(event.at));
    let row = Row::new(key(event), "usage", event)?;
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

fn key(event: &UsageEvent) -> crate::table::Key {
    keys::usage(event.billing_account_id, event.at, event.id)
}

/// A stretch of a shard's month: what lies between two claims, or before, behind and without any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gap {
    /// The last event before it.
    pub after: Option<Uuid>,
    /// The first event behind it.
    pub before: Option<Uuid>,
}

/// Unreported events in a gap, oldest first.
#[derive(Debug, Clone)]
pub struct Unreported {
    /// The events.
    pub events: Vec<UsageEvent>,
    /// Where the gap goes on, when it does.
    pub rest: Option<Gap>,
}

/// Unreported events of a shard and month.
///
/// # Errors
/// When the table cannot be read.
pub async fn unreported(table: &Table, shard: u8, month: &str, gap: Gap, limit: usize) -> Result<Unreported> {
    let pk = keys::unreported(shard, month);
    let query = match gap.before {
        Some(before) => Query::between(Index::Gsi1, pk, "\u{0}", before.to_string()),
        None => Query::partition(Index::Gsi1, pk),
    };
    let after = gap.after.map(|id| Cursor { position: id.to_string() });
    let rows = table.query(&query.after(after.as_ref()), limit).await?;
    let rest = rows.more_after.and_then(|position| position.parse().ok()).map(|id| Gap { after: Some(id), ..gap });
    let mut events = decode_unreported(rows.items)?;
    events.retain(|event| Some(event.id) != gap.before);
    Ok(Unreported { events, rest })
}

/// The index may lag behind the events.
fn decode_unreported(items: Vec<Item>) -> Result<Vec<UsageEvent>> {
    let events: Vec<UsageEvent> = items.into_iter().map(decode).collect::<Result<_>>()?;
    Ok(events.into_iter().filter(UsageEvent::is_unreported).collect())
}

/// The unreported events of a claim.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_batch(table: &Table, batch: &UsageBatch, limit: usize) -> Result<Vec<UsageEvent>> {
    let pk = keys::unreported(batch.shard, &batch.bucket);
    let query = Query::between(Index::Gsi1, pk, batch.first.to_string(), batch.last.to_string());
    decode_unreported(table.query(&query, limit).await?.items)
}

/// Marks an event as taken by Polar: it leaves the index of unreported ones, and expires after 25 months.
///
/// # Errors
/// When the table cannot be written.
pub async fn mark_reported(table: &Table, event: &UsageEvent, now: Time) -> Result<()> {
    let update = Update::new(key(event)).set("reported_at", now).set("ttl", (now + KEPT).seconds());
    let update = update.remove("gsi1pk").remove("gsi1sk").remove("parked").remove("parked_at");
    table.update(update, Some(Cond::existing()), Error::not_found()).await.map(drop).map_err(Into::into)
}

/// Parks an event that Polar refuses: it moves from the index of unreported ones to that of parked ones.
///
/// # Errors
/// When the table cannot be written.
pub async fn park(table: &Table, event: &UsageEvent, reason: &str, now: Time) -> Result<()> {
    let update = Update::new(key(event)).set("parked", reason).set("parked_at", now);
    let update = update.set("gsi1pk", keys::PARKED_USAGE).set("gsi1sk", event.id.to_string());
    let unreported = Cond::existing().and(Cond::absent("reported_at"));
    match table.update(update, Some(unreported), Error::new(Code::Conflict)).await {
        // Somebody else's claim got it through meanwhile.
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Parked events, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn parked(table: &Table, after: Option<&Cursor>, limit: Limit) -> Result<Page<UsageEvent>> {
    let query = Query::partition(Index::Gsi1, keys::PARKED_USAGE).newest_first().after(after);
    let mut page: Page<UsageEvent> = table.page(&query, limit).await?;
    page.items.retain(|event| event.parked.is_some());
    Ok(page)
}

/// A parked event.
///
/// # Errors
/// `not_found` when no such event is parked, or the table cannot be read.
pub async fn find_parked(table: &Table, id: Uuid) -> Result<UsageEvent> {
    let id = id.to_string();
    let rows = table.query(&Query::between(Index::Gsi1, keys::PARKED_USAGE, id.clone(), id), 1).await?;
    let event: Option<UsageEvent> = rows.items.into_iter().next().map(decode).transpose()?;
    event.filter(|event| event.parked.is_some()).ok_or_else(Error::not_found)
}

/// Lists a parked event as unreported again: under the month of now, since old months are not looked at any more. When
/// it is not parked any more, the unit fails with `otherwise`.
pub fn put_back(unit: &mut Unit, event: &UsageEvent, now: Time, otherwise: Error) {
    let unreported = keys::unreported(keys::shard_of(event.id), &keys::month(now));
    let update = Update::new(key(event)).set("gsi1pk", unreported).set("gsi1sk", event.id.to_string());
    let update = update.remove("parked").remove("parked_at").set("put_back_at", now);
    unit.update(update, Cond::present("parked"), otherwise);
}

/// The claims on a shard's month.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The claims, by their first event.
    pub claims: Vec<UsageBatch>,
    /// Moves on with every new claim.
    head: u64,
}

/// The claims on a shard's month, also those that have ended.
///
/// # Errors
/// When the table cannot be read.
pub async fn claims(table: &Table, shard: u8, month: &str) -> Result<Claims> {
    // The head first: who claims after this read is noticed by it.
    let head: Option<Versioned<Value>> = table.get_versioned(&keys::usage_batch_head(shard, month)).await?;
    let query = Query::prefix(Index::Main, keys::usage_batches(shard), &keys::usage_batch_prefix(month));
    let claims = table.all(&query, 10_000).await?.into_iter().map(decode).collect::<Result<_>>()?;
    Ok(Claims { claims, head: head.map_or(0, |head| head.v) })
}

/// Adds claims to those that were read. Says no when somebody else claimed since: what is free must be read again.
///
/// # Errors
/// When the table cannot be written.
pub async fn claim(table: &Table, read: &mut Claims, new: &[UsageBatch]) -> Result<bool> {
    let Some(first) = new.first() else { return Ok(true) };
    let mut unit = Unit::new();
    let head = Row::new(keys::usage_batch_head(first.shard, &first.bucket), "usage_batch_head", &json!({}))?;
    match read.head {
        0 => unit.create_fresh(head),
        v => unit.replace(head, v),
    };
    for batch in new {
        let row = Row::new(keys::usage_batch(batch), "usage_batch", batch)?;
        unit.create_fresh(row.ttl(batch.deadline + CLAIM_KEPT));
    }
    match table.commit(unit).await {
        Ok(()) => {
            read.head += 1;
            Ok(true)
        }
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Begins to send a claim, which from then on holds until `until`. `None` when it was sent before, has ended, or gave
/// way to a forced one.
///
/// # Errors
/// When the table cannot be written.
pub async fn begin(table: &Table, batch: &UsageBatch, now: Time, until: Time) -> Result<Option<UsageBatch>> {
    let update = Update::new(keys::usage_batch(batch)).set("sent_at", now).set("deadline", until);
    let holds = Cond::gt("deadline", now);
    let unsent = Cond::existing().and(Cond::absent("sent_at")).and(holds);
    match table.update(update, Some(unsent), Error::new(Code::Conflict)).await {
        Ok(item) => decode(item).map(Some),
        Err(Refusal::Conditions(_)) => Ok(None),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Moves the end of a claim, if it is still there.
///
/// # Errors
/// When the table cannot be written.
pub async fn hold(table: &Table, batch: &UsageBatch, until: Time) -> Result<()> {
    let update = Update::new(keys::usage_batch(batch)).set("deadline", until);
    match table.update(update, Some(Cond::existing()), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Ends a claim, whether it is there or not.
///
/// # Errors
/// When the table cannot be written.
pub async fn release(table: &Table, batch: &UsageBatch) -> Result<()> {
    let mut unit = Unit::new();
    unit.delete(keys::usage_batch(batch));
    table.commit(unit).await.map_err(Into::into)
}

/// Ends a claim that nobody has begun to send.
///
/// # Errors
/// When the table cannot be written.
pub async fn release_unsent(table: &Table, batch: &UsageBatch) -> Result<()> {
    release_if(table, batch, Cond::absent("sent_at")).await.map(drop)
}

/// Removes a claim that has ended. Says no when it was begun meanwhile and so lasts longer.
///
/// # Errors
/// When the table cannot be written.
pub async fn remove_ended(table: &Table, batch: &UsageBatch, now: Time) -> Result<bool> {
    release_if(table, batch, Cond::new_item().or(Cond::le("deadline", now))).await
}

async fn release_if(table: &Table, batch: &UsageBatch, cond: Cond) -> Result<bool> {
    let mut unit = Unit::new();
    unit.delete_if(keys::usage_batch(batch), cond, Error::new(Code::Conflict));
    match table.commit(unit).await {
        Ok(()) => Ok(true),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// How Polar stands, and the version of that.
///
/// # Errors
/// When the table cannot be read.
pub async fn polar_state(table: &Table) -> Result<Versioned<PolarState>> {
    let found = table.get_versioned(&keys::polar_state()).await?;
    Ok(found.unwrap_or_else(|| Versioned { body: PolarState::default(), v: 0 }))
}

/// Changes how Polar stands, unless somebody else did since version `v` was read: one outage is counted once, however
/// many calls it meets. Gives how it stands then.
///
/// # Errors
/// When the table cannot be written or read.
pub async fn set_polar_state(table: &Table, state: PolarState, v: u64) -> Result<PolarState> {
    let row = Row::new(keys::polar_state(), "polar_state", &state)?;
    let mut unit = Unit::new();
    match v {
        0 => unit.create_fresh(row),
        v => unit.replace(row, v),
    };
    match table.commit(unit).await {
        Ok(()) => Ok(state),
        Err(Refusal::Conditions(_)) => Ok(polar_state(table).await?.body),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Usage events of an account in a month that were made from one time on and before another, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn made_between(
    table: &Table,
    account: Id<BillingAccount>,
    month: Time,
    (from, to): (Time, Time),
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Page<UsageEvent>> {
    let partition = keys::usage(account, month, Uuid::nil()).pk;
    let query = Query::between(Index::Main, partition, first_id(from).to_string(), first_id(to).to_string());
    let rows = table.query(&query.after(after), limit).await?;
    let items = rows.items.into_iter().map(decode).collect::<Result<_>>()?;
    Ok(Page { items, next: rows.more_after.map(|position| Cursor { position }), total: None })
}

/// Usage events of an account in a month that were made from one time on and before another, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn newest(
    table: &Table,
    account: Id<BillingAccount>,
    month: Time,
    (from, to): (Time, Time),
    before: Option<Uuid>,
    limit: usize,
) -> Result<Page<UsageEvent>> {
    let partition = keys::usage(account, month, Uuid::nil()).pk;
    let query = Query::between(Index::Main, partition, first_id(from).to_string(), first_id(to).to_string());
    let before = before.map(|id| Cursor { position: id.to_string() });
    let rows = table.query(&query.newest_first().after(before.as_ref()), limit).await?;
    let items = rows.items.into_iter().map(decode).collect::<Result<_>>()?;
    Ok(Page { items, next: rows.more_after.map(|position| Cursor { position }), total: None })
}

/// The smallest id of a moment.
fn first_id(at: Time) -> Uuid {
    let millis = u64::try_from(at.millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
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
