//! Reconciliation: what is stored, what our counters say, what was reported and what Polar has, side by side; and the
//! counters set right from what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::{App, usage};
use crate::domain::BillingAccount;
use crate::domain::usage::{UsageBucket, UsageEvent, UsageSums};
use crate::kernel::{Code, Cursor, Day, Error, Id, Limit, Result, Secret};
use crate::ports::polar::Polar;
use crate::store;

/// Usage events expire 25 months after they were reported; beyond that, what is stored says nothing.
const OLDEST_DAYS: i32 = 730;
/// The longest time that is looked at.
const MAX_DAYS: u32 = 31;
/// How many usage events are read of one account, and after how many a list of accounts is cut.
const MAX_EVENTS: usize = 100_000;
/// How many are read at a time.
const PAGE: usize = 1_000;
/// An event gets its id a moment after its time, which may be on the next day.
const SLACK: Duration = Duration::from_secs(3600);
/// How often a day is set right again when it is counted in at the same time.
const TRIES: u32 = 5;

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
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The accounts.
    pub accounts: Vec<Drift>,
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
    /// Which account.
    pub account: Id<BillingAccount>,
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
    /// How many events Polar has; `None` when there is no Polar, or it does not tell.
    pub polar: Option<i64>,
    /// How many counters are off.
    pub off: usize,
    /// How many of them were set right.
    pub repaired: usize,
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
/// `validation_error` for days that are the wrong way round, too far apart or too long ago, or hold too much usage;
/// `not_found` for an unknown account.
pub async fn run(app: &App, command: &Command) -> Result<Report> {
    check(app, command)?;
    let (accounts, mut next) = accounts(app, command).await?;
    let mut asking = Asking::new(app).await?;
    let (mut found, mut read) = (Vec::new(), 0);
    for account in accounts {
        if read > MAX_EVENTS {
            let last = found.last().map(|drift: &Drift| drift.account.key());
            next = last.map(|position| Cursor { position });
            break;
        }
        let drift = of_account(app, command, account, &mut asking).await?;
        read += usize::try_from(drift.stored.messages).unwrap_or(0);
        found.push(drift);
    }
    let Asking { configured, failed, .. } = asking;
    Ok(Report { accounts: found, next, polar_configured: configured.is_some(), polar_error: failed })
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

async fn of_account(
    app: &App,
    command: &Command,
    account: Id<BillingAccount>,
    asking: &mut Asking<'_>,
) -> Result<Drift> {
    let (mut buckets, mut reported, mut parked): (BTreeMap<UsageBucket, UsageSums>, _, _) = (BTreeMap::new(), 0, 0);
    let visit = |event: &UsageEvent| {
        *buckets.entry(event.bucket()).or_default() += event.sums();
        reported += i64::from(event.reported_at.is_some());
        parked += i64::from(event.reported_at.is_none() && event.parked.is_some());
    };
    for_each(app, account, (command.since, command.until), visit).await?;
    let polar = asking.count(account, command).await;
    let counted = store::rollup::usage(&app.table, account, command.since, command.until).await?;
    let stored: UsageSums = buckets.values().copied().sum();
    let rollup = counted.iter().map(|counted| counted.sums).sum();
    let counted: BTreeMap<UsageBucket, UsageSums> =
        counted.iter().map(|counted| (counted.bucket, counted.sums)).collect();
    let off = differences(&buckets, &counted);
    let mut repaired = 0;
    if command.repair {
        for day in off.iter().map(|bucket| bucket.day).collect::<BTreeSet<_>>() {
            repaired += repair(app, account, day).await?;
        }
    }
    let unreported = stored.messages - reported - parked;
    Ok(Drift { account, stored, reported, unreported, parked, rollup, polar, off: off.len(), repaired })
}

/// The buckets that are not counted as they are stored.
fn differences(
    stored: &BTreeMap<UsageBucket, UsageSums>,
    counted: &BTreeMap<UsageBucket, UsageSums>,
) -> Vec<UsageBucket> {
    let all: BTreeSet<_> = stored.keys().chain(counted.keys()).copied().collect();
    let differs = |bucket: &UsageBucket| {
        let [stored, counted] = [stored, counted].map(|sums| sums.get(bucket).copied().unwrap_or_default());
        stored != counted
    };
    all.into_iter().filter(differs).collect()
}

/// Shows every usage event of an account in these days.
async fn for_each(
    app: &App,
    account: Id<BillingAccount>,
    (since, until): (Day, Day),
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
            if read > MAX_EVENTS {
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

/// Sets the counters of a day to what is stored. The projector may count at the same time: the events that a counter is
/// set from are first taken away from it, and what it counted since the counter was read makes this start over.
async fn repair(app: &App, account: Id<BillingAccount>, day: Day) -> Result<usize> {
    let mut repaired = 0;
    for _ in 0..TRIES {
        let counted = store::rollup::usage(&app.table, account, day, day).await?;
        let mut stored: BTreeMap<UsageBucket, (UsageSums, Vec<Uuid>)> = BTreeMap::new();
        for_each(app, account, (day, day), |event| {
            let (sums, events) = stored.entry(event.bucket()).or_default();
            *sums += event.sums();
            events.push(event.id);
        })
        .await?;
        let mut missed = false;
        for bucket in
            stored.keys().copied().chain(counted.iter().map(|counted| counted.bucket)).collect::<BTreeSet<_>>()
        {
            let (sums, events) = stored.remove(&bucket).unwrap_or_default();
            let read = counted.iter().find(|counted| counted.bucket == bucket);
            if read.map(|read| read.sums).unwrap_or_default() == sums {
                continue;
            }
            store::rollup::take_over(&app.table, account, &bucket, &events, app.now()).await?;
            let is_set = store::rollup::set_usage(&app.table, account, &bucket, read, sums).await?;
            repaired += usize::from(is_set);
            missed |= !is_set;
        }
        if !missed {
            break;
        }
    }
    Ok(repaired)
}
