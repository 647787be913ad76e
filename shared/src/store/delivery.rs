//! Deliveries of events to webhook endpoints.

use std::time::Duration;

use futures_util::future::try_join_all;
use uuid::Uuid;

use super::keys;
use crate::domain::webhook::DeliveryStatus;
use crate::domain::{Delivery, Webhook, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Index, Query, Row, Table, Unit, Versioned, decode, decode_versioned};

/// Longer than the events themselves, so that one which is relayed or replayed at the last moment meets its delivery.
const KEPT: Duration = Duration::from_secs(35 * 24 * 3600);
/// How many events of one millisecond are looked through for a delivery's id.
const SAME_MILLISECOND: usize = 1_000;
/// How many deliveries one page of a filtered list looks at; the page after goes on behind them.
const LOOKED_AT: usize = 2_000;
/// How many it reads at once.
const CHUNK: usize = 100;

/// The row of a delivery. While it waits for an attempt it is listed among the due ones, once given up among the failed.
/// Its own id is not indexed: there are far more deliveries than questions for one ([`by_id`]).
fn row(delivery: &Delivery) -> Result<Row> {
    let key = keys::delivery(delivery.workspace_id, delivery.webhook_id, delivery.event_id);
    let sk = key.sk.clone();
    // A late retry begins anew, and must not vanish on the way.
    let row = Row::new(key, "delivery", delivery)?.ttl(delivery.created_at.max(delivery.updated_at) + KEPT);
    Ok(match (delivery.status, delivery.next_at) {
        (DeliveryStatus::Pending, Some(at)) => {
            let due = keys::due_deliveries(keys::shard_of(delivery.event_id));
            row.gsi2(due, format!("{}#{}", keys::moment(at), delivery.id))
        }
        (DeliveryStatus::Failed, _) => {
            row.gsi2(keys::failed_deliveries(delivery.workspace_id, delivery.webhook_id), sk)
        }
        _ => row,
    })
}

/// Adds a delivery; the unit fails on its key when it is known.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, delivery: &Delivery) -> Result<()> {
    unit.create(row(delivery)?, Error::new(Code::Conflict));
    Ok(())
}

/// Replaces a delivery that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, delivery: &Delivery, v: u64) -> Result<()> {
    unit.replace(row(delivery)?, v);
    Ok(())
}

/// The delivery of an event to an endpoint.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(
    table: &Table,
    workspace: Id<Workspace>,
    webhook: Id<Webhook>,
    event: Uuid,
) -> Result<Option<Versioned<Delivery>>> {
    table.get_versioned(&keys::delivery(workspace, webhook, event)).await
}

/// The deliveries of several events to an endpoint; events without one are left out.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_events(
    table: &Table,
    workspace: Id<Workspace>,
    webhook: Id<Webhook>,
    events: &[Uuid],
) -> Result<Vec<Versioned<Delivery>>> {
    let keys: Vec<_> = events.iter().map(|event| keys::delivery(workspace, webhook, *event)).collect();
    table.batch_get(&keys).await?.into_iter().map(decode_versioned).collect()
}

/// A delivery by its own id, to one of the workspace's endpoints. The id tells the millisecond of the event, so that
/// each endpoint is asked for those few deliveries that begin with it.
///
/// # Errors
/// `not_found` when the workspace has none such or its endpoint was deleted, or the table cannot be read.
pub async fn by_id(table: &Table, workspace: Id<Workspace>, id: Uuid) -> Result<Versioned<Delivery>> {
    let of_endpoint = async |webhook: Id<Webhook>| {
        let prefix = format!("{}{}", keys::DELIVERY, Delivery::event_begins_with(id));
        let query = Query::prefix(Index::Main, keys::deliveries(workspace, webhook), &prefix);
        let (found, _) = table.query(&query, SAME_MILLISECOND).await?.readable(decode_versioned::<Delivery>);
        Ok::<_, Error>(found.into_iter().find(|found| found.body.id == id))
    };
    let endpoints = super::webhook::all(table, workspace).await?;
    let found = try_join_all(endpoints.iter().map(|webhook| of_endpoint(webhook.id))).await?;
    found.into_iter().flatten().next().ok_or_else(Error::not_found)
}

/// Which deliveries of an endpoint are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// How they stand.
    pub status: Option<DeliveryStatus>,
    /// The event's name in the endpoint's dialect.
    pub event: Option<String>,
    /// Of events that happened at or after it.
    pub since: Option<Time>,
    /// Of events that happened at or before it.
    pub until: Option<Time>,
}

impl Filter {
    fn query(&self, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Query {
        let prefix = keys::DELIVERY;
        let from = self.since.map_or_else(|| prefix.to_owned(), |since| format!("{prefix}{}", keys::uuid_at(since)));
        let to = self.until.map_or_else(|| "~".to_owned(), keys::uuid_at);
        let (index, pk) = match self.status {
            Some(DeliveryStatus::Failed) => (Index::Gsi2, keys::failed_deliveries(workspace, webhook)),
            _ => (Index::Main, keys::deliveries(workspace, webhook)),
        };
        Query::between(index, pk, from, format!("{prefix}{to}~")).newest_first()
    }

    fn matches(&self, delivery: &Delivery) -> bool {
        self.status.is_none_or(|status| delivery.status == status)
            && self.event.as_ref().is_none_or(|event| delivery.event == *event)
    }
}

/// A page of an endpoint's deliveries, newest event first. A page may be short although more follow: a rare event is
/// looked for among so many at a time.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(
    table: &Table,
    workspace: Id<Workspace>,
    webhook: Id<Webhook>,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Delivery>> {
    let (mut items, mut looked_at, mut after) = (Vec::new(), 0, after.cloned());
    loop {
        let rows = table.query(&filter.query(workspace, webhook).after(after.as_ref()), CHUNK).await?;
        let (mut left, has_more) = (rows.items.len(), rows.more_after.is_some());
        for item in rows.items {
            let delivery: Delivery = decode(item)?;
            (looked_at, left) = (looked_at + 1, left - 1);
            after = Some(Cursor { position: format!("{}{}", keys::DELIVERY, delivery.event_id) });
            if filter.matches(&delivery) {
                items.push(delivery);
                if items.len() == limit.get() {
                    return Ok(Page { items, next: after.filter(|_| left > 0 || has_more), total: None });
                }
            }
        }
        if !has_more || looked_at >= LOOKED_AT {
            return Ok(Page { items, next: after.filter(|_| has_more), total: None });
        }
    }
}

/// Deliveries of a shard whose time has come, the longest waiting first; from `after` on, and whether there may be more.
/// One that does not read is logged and left out: it must not hold back the others.
///
/// # Errors
/// When the table cannot be read.
pub async fn due(
    table: &Table,
    shard: u8,
    now: Time,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<(Vec<Versioned<Delivery>>, Option<Cursor>)> {
    let until = format!("{}~", keys::moment(now));
    let query = Query::between(Index::Gsi2, keys::due_deliveries(shard), "0", until);
    Ok(table.query(&query.after(after), limit).await?.readable(decode_versioned))
}
