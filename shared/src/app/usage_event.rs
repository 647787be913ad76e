//! The bill, event by event, as whoever pays for it reads it.

use uuid::Uuid;

use super::App;
use super::billing::days;
use crate::access::Caller;
use crate::domain::Agent;
use crate::domain::usage::UsageEvent;
use crate::kernel::{Cursor, Day, Error, Id, Limit, Page, Result};
use crate::store;

/// Which events are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The first day; 29 days before the last one unless it is said.
    pub since: Option<Day>,
    /// The last day; today unless it is said.
    pub until: Option<Day>,
    /// Only this agent's.
    pub agent: Option<Id<Agent>>,
}

/// An event may get its id a moment before or after its time, and that may be on another day.
const SLACK: std::time::Duration = std::time::Duration::from_secs(3600);
/// How many events of other agents are looked at for a page of one agent's.
const LOOKED_AT: usize = 2_000;
/// How many are read at a time then.
const CHUNK: usize = 500;

/// Where a page goes on: events lie by months.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The first day of the month.
    month: Day,
    /// The last event that was looked at there.
    before: Option<Uuid>,
}

impl Place {
    fn of(event: &UsageEvent) -> Self {
        Self { month: Day::of(event.at).first_of_month(), before: Some(event.id) }
    }

    fn read(cursor: &Cursor) -> Result<Self> {
        let parts = cursor.position.split_once(' ');
        let read = parts.and_then(|(month, id)| Some((Day::parse(month)?, Uuid::try_parse(id).ok()?)));
        let bad = || Error::field("cursor", "invalid_cursor", "cursor must be the next_cursor of this list, unchanged");
        let (month, id) = read.ok_or_else(bad)?;
        Ok(Self { month: month.first_of_month(), before: Some(id) })
    }

    fn cursor(&self) -> Option<Cursor> {
        self.before.map(|id| Cursor { position: format!("{} {id}", self.month) })
    }

    fn month_before(self) -> Self {
        Self { month: self.month.plus(-1).first_of_month(), before: None }
    }
}

/// A page of the usage events of the caller's account, over all workspaces that it pays for, newest first. Of one agent
/// a page may be short although more follow: it looks at 2,000 events at most.
///
/// # Errors
/// `validation_error` for days that are the wrong way round or too far apart, and for a cursor that is none of ours.
pub async fn list(
    app: &App,
    caller: &Caller,
    asked: &Asked,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<UsageEvent>> {
    let (since, until) = days(app, asked.since, asked.until)?;
    let made = (since.start() - SLACK, until.end() + SLACK);
    let is_asked = |event: &UsageEvent| {
        (since..=until).contains(&Day::of(event.at)) && asked.agent.is_none_or(|agent| agent == event.agent_id)
    };
    let newest = Place { month: until.first_of_month(), before: None };
    let mut place = after.map(Place::read).transpose()?.filter(|place| place.month <= until).unwrap_or(newest);
    let (mut items, mut looked_at) = (Vec::new(), 0);
    while place.month >= since.first_of_month() {
        let chunk = if asked.agent.is_some() { CHUNK } else { limit.get() + 1 };
        let (account, month) = (caller.billing_account_id, place.month.start());
        let page = store::usage::newest(&app.table, account, month, made, place.before, chunk).await?;
        looked_at += page.items.len();
        let last = page.items.last().map(Place::of);
        items.extend(page.items.into_iter().filter(|event| is_asked(event)));
        if items.len() > limit.get() {
            // One more than is shown tells that more follow.
            items.truncate(limit.get());
            let next = items.last().and_then(|event| Place::of(event).cursor());
            return Ok(Page { items, next, total: None });
        }
        place = match last.filter(|_| page.next.is_some()) {
            Some(last) if looked_at >= LOOKED_AT => return Ok(Page { items, next: last.cursor(), total: None }),
            Some(last) => last,
            None => place.month_before(),
        };
    }
    Ok(Page { items, next: None, total: None })
}
