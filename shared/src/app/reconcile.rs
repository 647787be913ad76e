//! Reconciliation: what is stored, what our counters say, what was reported and what Polar has, side by side; and the
//! counters set right from what is stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::{App, usage};
use crate::domain::BillingAccount;
use crate::domain::usage::{UsageBucket, UsageEvent, UsageSums};
use crate::kernel::{Code, Cursor, Day, Error, Id, Limit, Result, Secret, Time};
use crate::ports::polar::Polar;
use crate::store;
use crate::store::rollup::Counted;

/// Usage events expire 25 months after they were reported; beyond that, what is stored says nothing.
const OLDEST_DAYS: i32 = 730;
/// The longest time that is looked at.
const MAX_DAYS: u32 = 31;
/// How many usage events are read of one account, and after how many a list of accounts is cut, unless it is said.
pub const MAX_EVENTS: usize = 100_000;
/// How late an event may be counted without being missed.
const LAG: Duration = Duration::from_secs(15 * 60);
/// How many are read at a time.
const PAGE: usize = 1_000;
/// An event gets its id a moment after its time, which may be on the next day.
const SLACK: Duration = Duration::from_secs(3600);
/// How often a day is set right again when it is counted in at the same time.
const TRIES: u32 = 5;
/// How old a day may be for its markers to be complete: well within the time that they are kept.
const MARKED_DAYS: i32 = 28;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Command {
    /// Only this account.
    pub account: Option<Id<BillingAccount>>,
    /// The first day.
    pub since: Day,
    /// The last day.
    pub until: Day,
    /// Whether counters that are off are set right.
    pub repair: bool,
    /// Where the list of accounts goes on.
    pub after: Option<Cursor>,
    /// How many accounts.
    pub limit: Limit,
    /// How many usage events are read of an account before it is left out, and after how many the list is cut.
    pub bound: usize,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The accounts, each with what was found of it, or why it was left out: it has too much usage in that time.
    pub accounts: Vec<(Id<BillingAccount>, Result<Drift>)>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<Cursor>,
    /// Whether there is a Polar to ask.
    pub polar_configured: bool,
    /// Why Polar did not tell what it has.
    pub polar_error: Option<String>,
}

/// What was found of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drift {
    /// Usage events that are stored.
    pub stored: UsageSums,
    /// Those that are marked as taken by Polar.
    pub reported: i64,
    /// Those that Polar is still to be told of.
    pub unreported: i64,
    /// Those that Polar refuses.
    pub parked: i64,
    /// What our counters say, before any is set right.
    pub rollup: UsageSums,
    /// What they say beyond what is stored, where more than the events of the last moments may be missing.
    pub beyond: UsageSums,
    /// How many events Polar has; `None` when there is no Polar, or it does not tell.
    pub polar: Option<i64>,
    /// How many counters are off.
    pub off: usize,
    /// How many of them were set right.
    pub repaired: usize,
    /// How many of them were given up, since they were counted in all the time.
    pub given_up: usize,
}

impl Drift {
    /// How many events Polar has more than we know of. Up to [`Self::unreported`] of them it took without our knowing:
    /// they are sent again, and it drops them.
    #[must_use]
    pub fn of_polar(&self) -> Option<i64> {
        self.polar.map(|polar| polar - self.reported)
    }
}

/// Looks at a page of accounts, or at one.
///
/// # Errors
/// `validation_error` for days that are the wrong way round, too far apart or too long ago; `not_found` for an unknown
/// account.
pub async fn run(app: &App, command: &Command) -> Result<Report> {
    check(app, command)?;
    let (accounts, mut next) = accounts(app, command).await?;
    let mut asking = Asking::new(app).await?;
    let (mut found, mut read) = (Vec::new(), 0);
    for account in accounts {
        if read > command.bound {
            let last = found.last().map(|(account, _): &(Id<BillingAccount>, _)| account.key());
            next = last.map(|position| Cursor { position });
            break;
        }
        let drift = of_account(app, command, account, &mut asking).await;
        read += match &drift {
            Ok(drift) => usize::try_from(drift.stored.messages).unwrap_or(0),
            Err(error) if is_too_much(error) => command.bound,
            Err(error) => return Err(error.clone()),
        };
        found.push((account, drift));
    }
    let Asking { configured, failed, .. } = asking;
    Ok(Report { accounts: found, next, polar_configured: configured.is_some(), polar_error: failed })
}

fn is_too_much(error: &Error) -> bool {
    error.invalid_fields().iter().any(|field| field.code == "too_much")
}

fn check(app: &App, command: &Command) -> Result<()> {
    let days = command.since.count_through(command.until);
    if days == 0 {
        return Err(Error::field("until", "out_of_range", "until must not be before since"));
    }
    if days > MAX_DAYS {
        return Err(Error::field("since", "out_of_range", format!("at most {MAX_DAYS} days can be looked at")));
    }
    if command.since < Day::of(app.now()).plus(-OLDEST_DAYS) {
        return Err(Error::field("since", "out_of_range", "what is older than two years is not kept in full"));
    }
    Ok(())
}

async fn accounts(app: &App, command: &Command) -> Result<(Vec<Id<BillingAccount>>, Option<Cursor>)> {
    if let Some(account) = command.account {
        store::billing::get(&app.table, account).await?;
        return Ok((vec![account], None));
    }
    let page = store::billing::page(&app.table, command.after.as_ref(), command.limit).await?;
    Ok((page.items.into_iter().map(|account| account.id).collect(), page.next))
}

/// Polar, as long as it answers: one failure is enough to wait for.
struct Asking<'a> {
    configured: Option<(&'a Polar, Secret)>,
    failed: Option<String>,
}

impl<'a> Asking<'a> {
    async fn new(app: &'a App) -> Result<Self> {
        let token = match usage::token(app).await {
            Ok(token) => Some(token),
            Err(error) if error.code() == Code::NotConfigured => None,
            Err(error) => return Err(error),
        };
        Ok(Self { configured: app.polar.as_ref().zip(token), failed: None })
    }

    async fn count(&mut self, account: Id<BillingAccount>, command: &Command) -> Option<i64> {
        let (polar, token) = self.configured.as_ref().filter(|_| self.failed.is_none())?;
        match polar.count(token, account, command.since.start(), command.until.end()).await {
            Ok(count) => i64::try_from(count).ok(),
            Err(error) => {
                tracing::warn!(%error, "Polar does not tell what it has");
                self.failed = error.cause().map(str::to_owned);
                None
            }
        }
    }
}

/// What is stored in a bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    /// All of it.
    all: UsageSums,
    /// What must have been counted by now.
    settled: UsageSums,
}

async fn of_account(
    app: &App,
    command: &Command,
    account: Id<BillingAccount>,
    asking: &mut Asking<'_>,
) -> Result<Drift> {
    // Counters are read before events, so that what they count is among the events.
    let counted = counted(app, account, (command.since, command.until)).await?;
    let (mut stored, mut reported, mut parked): (BTreeMap<UsageBucket, Stored>, _, _) = (BTreeMap::new(), 0, 0);
    let settled = app.now() - LAG;
    let visit = |event: &UsageEvent| {
        let bucket = stored.entry(event.bucket()).or_default();
        bucket.all += event.sums();
        bucket.settled += if event.at < settled { event.sums() } else { UsageSums::default() };
        reported += i64::from(event.reported_at.is_some());
        parked += i64::from(event.reported_at.is_none() && event.parked.is_some());
    };
    for_each(app, account, (command.since, command.until), command.bound, visit).await?;
    let polar = asking.count(account, command).await;
    let off = differences(&stored, &counted);
    let mut given_up = 0;
    if command.repair {
        let mut by_day: BTreeMap<Day, BTreeSet<UsageBucket>> = BTreeMap::new();
        for bucket in off.keys() {
            by_day.entry(bucket.day).or_default().insert(*bucket);
        }
        for (day, off) in by_day {
            given_up += repair(app, command, account, day, off).await?;
        }
    }
    let repaired = if command.repair { off.len() - given_up } else { 0 };
    let rollup = counted.values().map(|counted| counted.sums).sum();
    let (beyond, off) = (off.values().copied().sum(), off.len());
    let stored: UsageSums = stored.values().map(|stored| stored.all).sum();
    let unreported = stored.messages - reported - parked;
    Ok(Drift { stored, reported, unreported, parked, rollup, beyond, polar, off, repaired, given_up })
}

/// What is counted in these days.
async fn counted(
    app: &App,
    account: Id<BillingAccount>,
    (since, until): (Day, Day),
) -> Result<BTreeMap<UsageBucket, Counted>> {
    let counted = store::rollup::usage(&app.table, account, since, until).await?;
    Ok(counted.into_iter().map(|counted| (counted.bucket, counted)).collect())
}

/// The buckets that are not counted as they are stored, each with what is counted too much. Whatever happened in the
/// last moments may be counted or not.
fn differences(
    stored: &BTreeMap<UsageBucket, Stored>,
    counted: &BTreeMap<UsageBucket, Counted>,
) -> BTreeMap<UsageBucket, UsageSums> {
    let all: BTreeSet<_> = stored.keys().chain(counted.keys()).copied().collect();
    let beyond = |bucket: UsageBucket| {
        let Stored { all, settled } = stored.get(&bucket).copied().unwrap_or_default();
        let counted = counted.get(&bucket).map(|counted| counted.sums).unwrap_or_default();
        (bucket, counted - counted.between(settled, all))
    };
    all.into_iter().map(beyond).filter(|(_, beyond)| *beyond != UsageSums::default()).collect()
}

/// Shows every usage event of an account in these days, `bound` of them at most.
async fn for_each(
    app: &App,
    account: Id<BillingAccount>,
    (since, until): (Day, Day),
    bound: usize,
    mut visit: impl FnMut(&UsageEvent),
) -> Result<()> {
    let (mut month, mut read) = (since.first_of_month(), 0);
    while month <= until {
        let (first, last) = (month.max(since), month.last_of_month().min(until));
        let made = (first.start() - SLACK, last.end() + SLACK);
        let mut after = None;
        loop {
            let page = store::usage::made_between(&app.table, account, month.start(), made, after.as_ref(), PAGE);
            let page = page.await?;
            page.items.iter().filter(|event| (first..=last).contains(&event.bucket().day)).for_each(&mut visit);
            read += page.items.len();
            if read > bound {
                let message = format!("account {} has too much usage in that time; ask for fewer days", account.int());
                return Err(Error::field("since", "too_much", message));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        month = month.last_of_month().plus(1);
    }
    Ok(())
}

/// The usage events of a bucket: when each was, and what it adds.
type Events = BTreeMap<Uuid, (Time, UsageSums)>;

/// Sets counters of a day to what is stored, and says how many were given up. Each step may be the last one, and the
/// projector may count all the while: whatever was done until then is right.
async fn repair(
    app: &App,
    command: &Command,
    account: Id<BillingAccount>,
    day: Day,
    mut off: BTreeSet<UsageBucket>,
) -> Result<usize> {
    for _ in 0..TRIES {
        // In this order: what a counter counted when it was read is then among the events.
        let counted = counted(app, account, (day, day)).await?;
        let mut stored: BTreeMap<UsageBucket, Events> = BTreeMap::new();
        let visit = |event: &UsageEvent| {
            stored.entry(event.bucket()).or_default().insert(event.id, (event.at, event.sums()));
        };
        for_each(app, account, (day, day), command.bound, visit).await?;
        let marked = marked(app, account, day, &stored).await?;
        let mut missed = BTreeSet::new();
        for bucket in off {
            let events = stored.remove(&bucket).unwrap_or_default();
            if !settle(app, account, &bucket, counted.get(&bucket), events, marked.as_ref()).await? {
                missed.insert(bucket);
            }
        }
        off = missed;
        if off.is_empty() {
            break;
        }
    }
    Ok(off.len())
}

/// The events of a day that are marked as counted; `None` for a day so long ago that markers have expired, when nobody
/// counts in it any more.
async fn marked(
    app: &App,
    account: Id<BillingAccount>,
    day: Day,
    stored: &BTreeMap<UsageBucket, Events>,
) -> Result<Option<HashSet<Uuid>>> {
    if day < Day::of(app.now()).plus(-MARKED_DAYS) {
        return Ok(None);
    }
    let ids = || stored.values().flat_map(BTreeMap::keys).copied();
    let (Some(first), Some(last)) = (ids().min(), ids().max()) else { return Ok(Some(HashSet::new())) };
    store::rollup::counted_usage(&app.table, account, (first, last)).await.map(Some)
}

/// Sets a counter right, unless it must be looked at again. First the events that are overdue are counted, just as the
/// projector does it: marker and amount together, so whoever comes second counts nothing. When none is overdue, the
/// counter is set to what the marked ones amount to, if nothing was counted in it since it was read; the others will be.
async fn settle(
    app: &App,
    account: Id<BillingAccount>,
    bucket: &UsageBucket,
    read: Option<&Counted>,
    events: Events,
    marked: Option<&HashSet<Uuid>>,
) -> Result<bool> {
    let is_marked = |(event, _): &(Uuid, _)| marked.is_none_or(|marked| marked.contains(event));
    let (marked, unmarked): (Vec<_>, Vec<_>) = events.into_iter().partition(is_marked);
    let settled = app.now() - LAG;
    let overdue = unmarked.into_iter().filter(|(_, (at, _))| *at < settled);
    let overdue: BTreeMap<Uuid, UsageSums> = overdue.map(|(event, (_, sums))| (event, sums)).collect();
    if !overdue.is_empty() {
        store::rollup::count_usage(&app.table, account, bucket, overdue, app.now()).await?;
        return Ok(false);
    }
    let sums: UsageSums = marked.into_iter().map(|(_, (_, sums))| sums).sum();
    if read.map(|read| read.sums).unwrap_or_default() == sums {
        return Ok(true);
    }
    store::rollup::set_usage(&app.table, account, bucket, read, sums).await
}
