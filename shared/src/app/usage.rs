//! Reporting usage to Polar, exactly: events are claimed in runs before they are queued, posted with an id that Polar
//! dedupes on, and marked after. A crash anywhere means a repeat, and a repeat counts once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::App;
use crate::domain::usage::{UsageBatch, UsageEvent};
use crate::kernel::{Code, Error, Result, Time};
use crate::ports::polar::Ingested;
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::store::keys::{SHARDS, month};

/// Events in one call to Polar, which names no maximum of its own.
const BATCH: usize = 500;
/// How long a claim holds: well beyond the queue's visibility time-out and its retries.
const CLAIM: Duration = Duration::from_secs(30 * 60);
/// How many calls to Polar one claim may cost when Polar refuses and the batch is halved.
const MAX_CALLS: u32 = 64;

/// A message of the usage-report queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The claimed run.
    pub batch: UsageBatch,
}

/// What was found and claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claimed {
    /// Runs that were queued.
    pub batches: usize,
    /// Events in them.
    pub events: usize,
    /// Whether there is a Polar to report to; without one nothing is claimed.
    pub configured: bool,
}

/// Claims runs of unreported events and queues them. `force` ignores claims that are under way.
///
/// # Errors
/// When the table or the queue cannot be reached.
pub async fn batch(app: &App, force: bool) -> Result<Claimed> {
    let mut claimed = Claimed { configured: app.polar.is_some(), ..Claimed::default() };
    if app.polar.is_none() {
        return Ok(claimed);
    }
    for month in months(app.now(), if force { 13 } else { 3 }) {
        for shard in 0..SHARDS {
            claim_shard(app, shard, &month, force, &mut claimed).await?;
        }
    }
    Ok(claimed)
}

/// This month and the ones before it: events are listed by month, and an outage may last over its end.
fn months(now: Time, count: u32) -> Vec<String> {
    let day = Duration::from_secs(24 * 3600);
    let mut months: Vec<String> = (0..count * 31).map(|days| month(now - day * days)).collect();
    months.dedup();
    months.truncate(usize::try_from(count).unwrap_or(1));
    months
}

async fn claim_shard(app: &App, shard: u8, bucket: &str, force: bool, claimed: &mut Claimed) -> Result<()> {
    let mut after = None;
    loop {
        let found = store::usage::unreported(&app.table, shard, bucket, after, BATCH).await?;
        let Some(last) = found.last() else { return Ok(()) };
        after = Some(last.id);
        let is_last_page = found.len() < BATCH;
        let free = if force { found } else { unclaimed(app, shard, bucket, found).await? };
        if let (Some(first), Some(last)) = (free.first(), free.last()) {
            let now = app.now();
            let batch =
                UsageBatch { shard, bucket: bucket.into(), first: first.id, last: last.id, deadline: now + CLAIM };
            match store::usage::claim(&app.table, &batch, force, now).await {
                Ok(()) => {
                    let body = serde_json::to_string(&Report { batch }).map_err(Error::internal)?;
                    app.queue.send(QueueName::UsageReport, vec![Outgoing::now(body)]).await?;
                    claimed.batches += 1;
                    claimed.events += free.len();
                }
                // Another scheduled run was first.
                Err(error) if error.code() == Code::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        if is_last_page {
            return Ok(());
        }
    }
}

/// The events that lie in no live claim.
async fn unclaimed(app: &App, shard: u8, bucket: &str, found: Vec<UsageEvent>) -> Result<Vec<UsageEvent>> {
    let now = app.now();
    let claims = store::usage::claims(&app.table, shard).await?;
    let live: Vec<_> = claims.iter().filter(|claim| claim.bucket == bucket && claim.deadline > now).collect();
    let is_claimed = |event: &UsageEvent| live.iter().any(|claim| claim.first <= event.id && event.id <= claim.last);
    // A run is described by its ends, so it must not reach over a claimed one: take what comes before the first.
    Ok(found.into_iter().skip_while(|event| is_claimed(event)).take_while(|event| !is_claimed(event)).collect())
}

/// Reports a claimed run and ends the claim.
///
/// # Errors
/// When Polar or the table cannot be reached; the queue then gives the run again.
pub async fn report(app: &App, report: &Report) -> Result<()> {
    let events = store::usage::of_batch(&app.table, &report.batch, BATCH * 4).await?;
    let mut calls = MAX_CALLS;
    for run in events.chunks(BATCH) {
        post(app, run, &mut calls).await?;
    }
    store::usage::release(&app.table, &report.batch).await
}

/// Posts a run. When Polar refuses it, its halves are tried, until the events that it refuses stand alone.
async fn post(app: &App, events: &[UsageEvent], calls: &mut u32) -> Result<()> {
    let mut runs = vec![events];
    while let Some(run) = runs.pop().filter(|run| !run.is_empty()) {
        *calls = calls.checked_sub(1).ok_or_else(|| Error::internal("Polar refuses too many runs; the rest waits"))?;
        let polar = app.polar.as_ref().ok_or_else(|| Error::new(Code::NotConfigured))?;
        let token = app.secrets.get("polar_access_token").await?;
        let token = token.ok_or_else(|| Error::with_message(Code::NotConfigured, "Set POLAR_ACCESS_TOKEN."))?;
        match polar.ingest(&token, run, app.now()).await? {
            Ingested::Taken { .. } => mark(app, run, None).await?,
            Ingested::Refused(_) if run.len() > 1 => {
                let (left, right) = run.split_at(run.len() / 2);
                runs.extend([right, left]);
            }
            Ingested::Refused(reason) => {
                tracing::error!(event = %run[0].id, reason, "usage event parked: Polar refuses it");
                mark(app, run, Some(&reason)).await?;
            }
        }
    }
    Ok(())
}

async fn mark(app: &App, events: &[UsageEvent], parked: Option<&str>) -> Result<()> {
    let now = app.now();
    for event in events {
        store::usage::mark(&app.table, event, parked, now).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_over_the_end_of_a_month_is_looked_at() {
        let january = Time::from_millis(1_767_225_600_000);
        assert_eq!(months(january, 3), ["202601", "202512", "202511"]);
    }
}
