//! The outbox: events lie beside what they tell of, written in the same transaction, and are kept 30 days for replay.

use std::time::Duration;

use futures_util::future::try_join_all;
use uuid::Uuid;

use super::keys;
use crate::domain::{Event, Workspace};
use crate::kernel::{Cursor, Id, Limit, Page, Result, Time};
use crate::table::{Index, Item, Key, Query, Row, Table, Unit, decode};

/// How long events are kept.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The entity type of an event item; the stream's filter in template.yaml names it too.
pub const ENTITY: &str = "event";

/// How many events one read takes, unless it is said.
const CHUNK: usize = 500;

/// Adds an event.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, event: &Event) -> Result<()> {
    let (pk, sk) = (keys::outbox(event.at, keys::shard_of_int(event.thread())), event.id.to_string());
    let row = Row::new(Key::new(pk, &sk), ENTITY, event)?.gsi1(keys::events_of(event.workspace_id), sk);
    unit.create_fresh(row.ttl(event.at + KEPT));
    Ok(())
}

/// Reads the events of a shard in order, some at a time.
#[derive(Debug, Clone)]
pub struct Walk {
    shard: u8,
    day: Time,
    until: Time,
    from: String,
    after: Option<Cursor>,
    chunk: usize,
    ended: bool,
}

const DAY_MILLIS: i64 = 24 * 3_600_000;

impl Walk {
    /// From one moment to another, both included.
    #[must_use]
    pub fn new(shard: u8, from: Time, until: Time) -> Self {
        let day = Time::from_millis(from.millis().div_euclid(DAY_MILLIS) * DAY_MILLIS);
        Self { shard, day, until, from: keys::uuid_at(from), after: None, chunk: CHUNK, ended: false }
    }

    /// Goes on behind an event, which must have happened at the moment that the walk starts from.
    #[must_use]
    pub fn behind(mut self, event: Option<Uuid>) -> Self {
        if let Some(event) = event {
            self.from = format!("{event}~");
        }
        self
    }

    /// Takes up to so many events with one read.
    #[must_use]
    pub const fn at_a_time(mut self, events: usize) -> Self {
        self.chunk = events;
        self
    }

    /// The next events; `None` at the end. One that does not read is logged and left out.
    ///
    /// # Errors
    /// When the table cannot be read; the same events come with the next call.
    pub async fn next(&mut self, table: &Table) -> Result<Option<Vec<Event>>> {
        while !self.ended {
            let until = format!("{}~", keys::uuid_at(self.until));
            let query = Query::between(Index::Main, keys::outbox(self.day, self.shard), &self.from, until);
            let rows = table.query(&query.after(self.after.as_ref()), self.chunk).await?;
            let (events, next) = rows.readable(decode);
            match next {
                Some(next) => self.after = Some(next),
                None => {
                    self.after = None;
                    self.day = Time::from_millis(self.day.millis() + DAY_MILLIS);
                    self.ended = self.day > self.until;
                }
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
        Ok(None)
    }
}

/// A page of a workspace's events between two moments, both included, the newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page_of_workspace(
    table: &Table,
    workspace: Id<Workspace>,
    (since, until): (Time, Time),
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Event>> {
    table.page(&log(workspace, since, until).newest_first().after(after), limit).await
}

/// The next events of a workspace between two moments, both included, the oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn next_of_workspace(
    table: &Table,
    workspace: Id<Workspace>,
    (since, until): (Time, Time),
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Event>> {
    table.page(&log(workspace, since, until).after(after), limit).await
}

/// Events of a workspace by their ids; unknown ones are left out.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_workspace(table: &Table, workspace: Id<Workspace>, ids: &[Uuid]) -> Result<Vec<Event>> {
    let one = async |id: &Uuid| {
        let query = Query::between(Index::Gsi1, keys::events_of(workspace), id.to_string(), id.to_string());
        table.query(&query, 1).await
    };
    let found = try_join_all(ids.iter().map(one)).await?;
    found.into_iter().flat_map(|rows| rows.items).map(decode).collect()
}

fn log(workspace: Id<Workspace>, since: Time, until: Time) -> Query {
    let (from, to) = (keys::uuid_at(since), format!("{}~", keys::uuid_at(until)));
    Query::between(Index::Gsi1, keys::events_of(workspace), from, to)
}

/// Reads an event from an item, as the stream carries it.
///
/// # Errors
/// When the item is no event.
pub fn read(item: Item) -> Result<Event> {
    decode(item)
}
