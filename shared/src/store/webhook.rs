//! Webhook endpoints and deliveries.

use std::time::Duration;

use uuid::Uuid;

use super::keys;
use crate::domain::webhook::{DeliveryStatus, MAX_WEBHOOKS};
use crate::domain::{Delivery, Webhook, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Query, Row, Table, Unit, Update, Versioned, decode, decode_versioned};

const DELIVERIES_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Adds a new endpoint; the unit fails with `webhook.limit_reached` when there are as many as there may be.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, webhook: &Webhook) -> Result<()> {
    let below = Cond::absent("n").or(Cond::lt("n", MAX_WEBHOOKS));
    let count = Update::new(keys::webhook_count(webhook.workspace_id)).add("n", 1);
    unit.update(count, below, Error::new(Code::WebhookLimitReached));
    unit.create_fresh(Row::new(keys::webhook(webhook.workspace_id, webhook.id), "webhook", webhook)?);
    Ok(())
}

/// Replaces an endpoint that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, webhook: &Webhook, v: u64) -> Result<()> {
    unit.replace(Row::new(keys::webhook(webhook.workspace_id, webhook.id), "webhook", webhook)?, v);
    Ok(())
}

/// Removes an endpoint; its deliveries stay until they expire.
pub fn delete(unit: &mut Unit, workspace: Id<Workspace>, webhook: Id<Webhook>) {
    unit.delete_if(keys::webhook(workspace, webhook), Cond::existing(), Error::new(Code::NotFound));
    unit.upsert(Update::new(keys::webhook_count(workspace)).add("n", -1));
}

/// One endpoint.
///
/// # Errors
/// `not_found` when the workspace has no such endpoint, or the table cannot be read.
pub async fn get(table: &Table, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Result<Versioned<Webhook>> {
    table.get_versioned(&keys::webhook(workspace, webhook)).await?.ok_or_else(Error::not_found)
}

/// The endpoints of a workspace, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn all(table: &Table, workspace: Id<Workspace>) -> Result<Vec<Webhook>> {
    let query = Query::prefix(Index::Main, keys::workspace_pk(workspace), keys::WEBHOOK);
    // Creations at the same time may each see room: the limit is for people, this bound for the table.
    table.all(&query, MAX_WEBHOOKS * 50).await?.into_iter().map(decode).collect()
}

/// Notes on the endpoint how the last attempt went; an endpoint that is gone stays gone.
///
/// # Errors
/// When the table cannot be written.
pub async fn note_attempt(table: &Table, delivery: &Delivery, disable: Option<&str>, now: Time) -> Result<()> {
    let update = Update::beside(keys::webhook(delivery.workspace_id, delivery.webhook_id))
        .set("last_delivery_at", now)
        .set("last_delivery_status", delivery.status);
    let update = match disable {
        Some(reason) => update.set("is_active", false).set("disabled_reason", reason),
        None => update,
    };
    match table.update(update, Some(Cond::existing()), Error::not_found()).await.map_err(Error::from) {
        Err(error) if error.code() == Code::NotFound => Ok(()),
        other => other.map(drop),
    }
}

/// The row of a delivery. While it waits for an attempt it is listed among the due ones.
fn row(delivery: &Delivery) -> Result<Row> {
    let key = keys::delivery(delivery.workspace_id, delivery.webhook_id, delivery.event_id);
    let row = Row::new(key, "delivery", delivery)?
        .gsi1(keys::delivery_ids(delivery.workspace_id), delivery.id.to_string())
        .ttl(delivery.created_at + DELIVERIES_KEPT);
    Ok(match (delivery.status, delivery.next_at) {
        (DeliveryStatus::Pending, Some(at)) => {
            let due = keys::due_deliveries(keys::shard_of(delivery.event_id));
            row.gsi2(due, format!("{}#{}", keys::moment(at), delivery.id))
        }
        _ => row,
    })
}

/// Adds the first attempt's claim of a delivery; the unit fails on its key when the delivery is known.
///
/// # Errors
/// When it does not serialise.
pub fn create_delivery(unit: &mut Unit, delivery: &Delivery) -> Result<()> {
    unit.create(row(delivery)?, Error::new(Code::Conflict));
    Ok(())
}

/// Replaces a delivery that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace_delivery(unit: &mut Unit, delivery: &Delivery, v: u64) -> Result<()> {
    unit.replace(row(delivery)?, v);
    Ok(())
}

/// The delivery of an event to an endpoint.
///
/// # Errors
/// When the table cannot be read.
pub async fn delivery(
    table: &Table,
    workspace: Id<Workspace>,
    webhook: Id<Webhook>,
    event: Uuid,
) -> Result<Option<Versioned<Delivery>>> {
    table.get_versioned(&keys::delivery(workspace, webhook, event)).await
}

/// A delivery by its own id.
///
/// # Errors
/// `not_found` when the workspace has none such, or the table cannot be read.
pub async fn delivery_by_id(table: &Table, workspace: Id<Workspace>, id: Uuid) -> Result<Versioned<Delivery>> {
    let id = id.to_string();
    let query = Query::between(Index::Gsi1, keys::delivery_ids(workspace), id.clone(), id);
    let found = table.query(&query, 1).await?.items.pop();
    decode_versioned(found.ok_or_else(Error::not_found)?)
}

/// A page of an endpoint's deliveries, newest event first.
///
/// # Errors
/// When the table cannot be read.
pub async fn deliveries(
    table: &Table,
    workspace: Id<Workspace>,
    webhook: Id<Webhook>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Delivery>> {
    let query = Query::partition(Index::Main, keys::deliveries(workspace, webhook)).newest_first().after(after);
    table.page(&query, limit).await
}

/// Deliveries of a shard whose time has come, the longest waiting first.
///
/// # Errors
/// When the table cannot be read.
pub async fn due(table: &Table, shard: u8, now: Time, limit: usize) -> Result<Vec<Versioned<Delivery>>> {
    let until = format!("{}~", keys::moment(now));
    let query = Query::between(Index::Gsi2, keys::due_deliveries(shard), "0", until);
    table.query(&query, limit).await?.items.into_iter().map(decode_versioned).collect()
}
