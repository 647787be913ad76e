//! The outbox: events lie beside what they tell of, written in the same transaction, and are kept 30 days for replay.

use std::time::Duration;

use super::keys;
use crate::domain::Event;
use crate::kernel::{Result, Time};
use crate::table::{Index, Item, Query, Row, Table, Unit, decode};

const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The entity type of an event item; the stream's filter in template.yaml names it too.
pub const ENTITY: &str = "event";

/// Adds an event.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, event: &Event) -> Result<()> {
    let pk = keys::outbox(&keys::outbox_minute(event.at), keys::shard_of(event.id));
    let row = Row::new(crate::table::Key::new(pk, event.id.to_string()), ENTITY, event)?;
    unit.create_fresh(row.ttl(event.at + KEPT));
    Ok(())
}

/// The events of one minute and shard, in order.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_minute(table: &Table, minute: Time, shard: u8) -> Result<Vec<Event>> {
    let query = Query::partition(Index::Main, keys::outbox(&keys::outbox_minute(minute), shard));
    table.query(&query, 100_000).await?.items.into_iter().map(decode).collect()
}

/// Reads an event from an item, as the stream carries it.
///
/// # Errors
/// When the item is no event.
pub fn read(item: Item) -> Result<Event> {
    decode(item)
}
