//! Reporting usage to Polar, exactly. Runs of unreported events are claimed before they are queued, and a claim is sent
//! at most once; what is not known to be taken is claimed again when the claim has ended. Polar dedupes on the events'
//! ids, so a crash anywhere means a repeat, and a repeat counts once.
//!
//! Polar's failures stay here: they pause all reporting and never fail a queue message. Only faults of ours do.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{App, Draft};
use crate::domain::usage::{PolarState, UsageBatch, UsageEvent};
use crate::kernel::{Code, Cursor, Day, Error, Kind, Limit, Page, Result, Secret, Time};
use crate::ports::polar::{Failure, Ingested, Polar, dated};
use crate::ports::queue::{Outgoing, QueueName};
use crate::ports::secrets::POLAR_TOKEN;
use crate::store;
use crate::store::keys::{SHARDS, month};
use crate::store::usage::{Gap, Unreported};
use crate::table::{Unit, Versioned};

/// Events in one call to Polar, which names no maximum of its own.
const BATCH: usize = 500;
/// How long a claim holds that nobody sends: well beyond the queue's visibility time-out and its retries.
const CLAIM: Duration = Duration::from_secs(30 * 60);
/// How long a claim holds from when it is sent: well beyond the time-out of whoever sends it.
const SENDING: Duration = Duration::from_secs(10 * 60);
/// How many calls to Polar one claim may cost when Polar refuses and the batch is halved.
const MAX_CALLS: u32 = 64;
/// How many events are parked of a claim of which Polar takes nothing: of more, something else must be the matter.
const MAX_DOUBTFUL: u32 = 20;
/// How many claims one run makes at most; the next run goes on.
const MAX_CLAIMS: usize = 200;
/// How many events are marked at a time.
const MARKS: usize = 16;

/// A message of the usage-report queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The claim.
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
    /// Until when nothing is claimed, since Polar fails or asked to wait.
    pub paused_until: Option<Time>,
}

/// How long usage may wait before it is said, and before that is an error. A claim whose message got lost ends within
/// the first.
const LATE: Duration = Duration::from_secs(40 * 60);
const TOO_LATE: Duration = Duration::from_secs(60 * 60);

/// Claims runs of unreported events and queues them. `force` ignores claims that are under way, and Polar's pause. A
/// shard whose events or claims do not read holds back no other one.
///
/// # Errors
/// When the table or the queue cannot be reached, or shards do not read; then everything else is claimed.
pub async fn batch(app: &App, force: bool) -> Result<Claimed> {
    let mut claimed = Claimed { configured: app.polar.is_some(), ..Claimed::default() };
    if app.polar.is_none() {
        return Ok(claimed);
    }
    let state = store::usage::polar_state(&app.table).await?.body;
    let mut faults = Faults::default();
    let busy = look(app, &months(app.now(), if force { 13 } else { 3 }), &mut faults).await?;
    say_what_waits(app, &state, busy.iter().filter_map(|busy| busy.since).min());
    claimed.paused_until = state.paused_at(app.now()).filter(|_| !force);
    let busy = if claimed.paused_until.is_none() { busy } else { Vec::new() };
    for Busy { month, shard, .. } in &busy {
        if let Err(error) = claim_shard(app, *shard, month, force, &mut claimed).await {
            faults.note(month, *shard, error)?;
        }
        if claimed.batches == MAX_CLAIMS {
            break;
        }
    }
    faults.end()?;
    Ok(claimed)
}

/// Says that usage is not reported, while Polar is left alone or the oldest of it waits too long. An alarm looks for
/// this line.
fn say_what_waits(app: &App, state: &PolarState, oldest: Option<Time>) {
    let (failures, now) = (state.failures, app.now());
    let waits = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    let oldest_seconds = waits.as_secs();
    let reason = state.reason.as_deref().unwrap_or("Polar did not fail");
    if waits > TOO_LATE {
        tracing::error!(failures, oldest_seconds, reason, "usage is not reported");
    } else if waits > LATE || state.paused_at(now).is_some() {
        tracing::warn!(failures, oldest_seconds, reason, "usage is not reported");
    }
}

/// What went wrong with some shards while the others went on.
#[derive(Default)]
struct Faults {
    count: usize,
    first: Option<String>,
}

impl Faults {
    /// Notes a fault of one shard. While the table or the queue is away, none gets further, so that is given back.
    fn note(&mut self, month: &str, shard: u8, error: Error) -> Result<()> {
        if error.kind() == Kind::Unavailable {
            return Err(error);
        }
        tracing::error!(month, shard, %error, "usage of a shard is not claimed");
        self.count += 1;
        self.first.get_or_insert_with(|| format!("shard {shard} of {month}: {error}"));
        Ok(())
    }

    fn end(self) -> Result<()> {
        let Self { count, first } = self;
        first.map_or(Ok(()), |first| Err(Error::internal(format!("{count} shards of usage do not read; {first}"))))
    }
}

/// This month and the ones before it: events are listed by month, and an outage may last over its end.
fn months(now: Time, count: u32) -> Vec<String> {
    let day = Duration::from_secs(24 * 3600);
    let mut months: Vec<String> = (0..count * 31).map(|days| month(now - day * days)).collect();
    months.dedup();
    months.truncate(usize::try_from(count).unwrap_or(1));
    months
}

/// A shard of a month that has anything unreported.
struct Busy {
    month: String,
    shard: u8,
    /// Since when its first event waits, where that is seen.
    since: Option<Time>,
}

/// The shards of these months that have anything unreported.
async fn look(app: &App, months: &[String], faults: &mut Faults) -> Result<Vec<Busy>> {
    let mut busy = Vec::new();
    for month in months {
        let looks = (0..SHARDS).map(|shard| store::usage::unreported(&app.table, shard, month, Gap::default(), 1));
        for (shard, found) in (0..SHARDS).zip(join_all(looks).await) {
            match found {
                Ok(Unreported { events, rest }) if !events.is_empty() || rest.is_some() => {
                    let since = events.first().map(UsageEvent::waits_since);
                    busy.push(Busy { month: month.clone(), shard, since });
                }
                Ok(_) => {}
                Err(error) => faults.note(month, shard, error)?,
            }
        }
    }
    Ok(busy)
}

/// Claims every free run of a shard's month. When somebody else claims there at the same time, they go on.
async fn claim_shard(app: &App, shard: u8, bucket: &str, force: bool, claimed: &mut Claimed) -> Result<()> {
    let mut claims = store::usage::claims(&app.table, shard, bucket).await?;
    let live = live(app, &claims.claims, force).await?;
    for gap in gaps(live) {
        let mut next = Some(gap);
        while let Some(gap) = next {
            if claimed.batches == MAX_CLAIMS {
                return Ok(());
            }
            let found = store::usage::unreported(&app.table, shard, bucket, gap, BATCH).await?;
            next = found.rest;
            let (Some(first), Some(last)) = (found.events.first(), found.events.last()) else { continue };
            let batch = new_claim(app, shard, bucket, (first.id, last.id), force);
            if !store::usage::claim(&app.table, &mut claims, std::slice::from_ref(&batch)).await? {
                return Ok(());
            }
            claimed.batches += 1;
            claimed.events += found.events.len();
            let body = serde_json::to_string(&Report { batch }).map_err(Error::internal)?;
            app.queue.send(QueueName::UsageReport, vec![Outgoing::now(body)]).await?;
        }
    }
    Ok(())
}

fn new_claim(app: &App, shard: u8, bucket: &str, (first, last): (Uuid, Uuid), forced: bool) -> UsageBatch {
    let (token, deadline) = (app.rng.text(20), app.now() + CLAIM);
    UsageBatch { shard, bucket: bucket.into(), first, last, token, forced, sent_at: None, deadline }
}

/// The runs of the claims that hold. Those that have ended are removed first, so that nobody sends them any more; by
/// force, all are.
async fn live(app: &App, claims: &[UsageBatch], force: bool) -> Result<Vec<(Uuid, Uuid)>> {
    let (now, mut live) = (app.now(), Vec::new());
    for claim in claims {
        let is_gone = match force {
            true => store::usage::release(&app.table, claim).await.map(|()| true)?,
            false if claim.deadline <= now => store::usage::remove_ended(&app.table, claim, now).await?,
            false => false,
        };
        if !is_gone {
            live.push((claim.first, claim.last));
        }
    }
    Ok(live)
}

/// What lies between claimed runs, which may overlap. Pure.
fn gaps(mut claimed: Vec<(Uuid, Uuid)>) -> Vec<Gap> {
    claimed.sort_unstable();
    let (mut gaps, mut after) = (Vec::new(), None);
    for (first, last) in claimed {
        if after.is_none_or(|after| after < first) {
            gaps.push(Gap { after, before: Some(first) });
        }
        after = after.max(Some(last));
    }
    gaps.push(Gap { after, before: None });
    gaps
}

/// Sends a claim, unless that was done before, it has ended, or it gave way to a forced one.
///
/// # Errors
/// For faults of ours only.
pub async fn report(app: &App, report: &Report) -> Result<()> {
    let polar = app.polar.as_ref().ok_or_else(|| Error::new(Code::NotConfigured))?;
    let token = token(app).await?;
    let state = store::usage::polar_state(&app.table).await?;
    let now = app.now();
    if state.body.paused_at(now).is_some() && !report.batch.forced {
        return store::usage::release_unsent(&app.table, &report.batch).await;
    }
    let Some(batch) = store::usage::begin(&app.table, &report.batch, now, now + SENDING).await? else { return Ok(()) };
    // Events may have come to lie in the run since it was claimed.
    let mut events = store::usage::of_batch(&app.table, &batch, BATCH * 2).await?;
    // In the first minute of a day its events wait for the next run: they would be dated on the day before, and no day
    // would agree with what is stored.
    events.retain(|event| Day::of(dated(event, now)) == Day::of(event.at));
    let forced = batch.forced;
    let mut sending = Sending { app, polar, token: &token, forced, calls: MAX_CALLS, took: false, parked: 0 };
    for run in events.chunks(BATCH) {
        match sending.post(run).await? {
            Posted::All => {}
            // The rest is left to the next run.
            Posted::Some => break,
            Posted::Failed(failure) => return pause(app, &batch, &state, failure).await,
        }
    }
    // Unless somebody else changed how it stands since it was read.
    if state.body.failures > 0 && (sending.took || sending.parked > 0) {
        store::usage::set_polar_state(&app.table, PolarState::default(), state.v).await?;
    }
    store::usage::release(&app.table, &batch).await
}

/// The access token of our organisation at Polar.
///
/// # Errors
/// `not_configured` without one.
pub(super) async fn token(app: &App) -> Result<Secret> {
    let token = app.secrets.get(POLAR_TOKEN).await?;
    token.ok_or_else(|| Error::with_message(Code::NotConfigured, "Set POLAR_ACCESS_TOKEN."))
}

/// Puts everything off that is not forced, this claim too: nobody knows what became of its events.
async fn pause(app: &App, batch: &UsageBatch, state: &Versioned<PolarState>, failure: Failure) -> Result<()> {
    let (now, jitter) = (app.now(), app.rng.below(1_000));
    let failed = state.body.failed(now, failure.wait, jitter, failure.reason);
    let (failures, reason) = (failed.failures, &failed.reason);
    match failure.todo {
        Some(todo) => tracing::error!(failures, reason, todo, "usage is put off: Polar refuses all of it"),
        None => tracing::warn!(failures, reason, "usage is put off: Polar does not take it"),
    }
    let until = failed.paused_until.unwrap_or(now);
    let stands = store::usage::set_polar_state(&app.table, failed, state.v).await?;
    store::usage::hold(&app.table, batch, stands.paused_at(now).unwrap_or(until)).await
}

/// How far a run got.
enum Posted {
    /// All of it is taken or parked.
    All,
    /// There were not calls enough, or somebody else learned meanwhile that Polar is to be left alone.
    Some,
    /// Polar failed.
    Failed(Failure),
}

/// A claim that is being sent.
struct Sending<'a> {
    app: &'a App,
    polar: &'a Polar,
    token: &'a Secret,
    /// Whether it is sent whatever stands against it.
    forced: bool,
    /// How many calls it may still cost.
    calls: u32,
    /// Whether Polar took anything of it.
    took: bool,
    /// How many of its events are parked.
    parked: u32,
}

impl Sending<'_> {
    /// Posts a run. When Polar refuses it, its halves are tried, until the events that it refuses stand alone.
    async fn post(&mut self, events: &[UsageEvent]) -> Result<Posted> {
        let mut runs = vec![events];
        while let Some(run) = runs.pop() {
            let Some(left) = self.calls.checked_sub(1) else { return Ok(Posted::Some) };
            if self.is_put_off().await? {
                return Ok(Posted::Some);
            }
            self.calls = left;
            match self.polar.ingest(self.token, run, self.app.now()).await? {
                Ingested::Taken { .. } => {
                    self.took = true;
                    mark_reported(self.app, run).await?;
                }
                Ingested::Refused(_) if run.len() > 1 => {
                    let (left, right) = run.split_at(run.len() / 2);
                    runs.extend([right, left]);
                }
                Ingested::Refused(reason) => {
                    if let Some(failure) = self.fault(&reason).await? {
                        return Ok(Posted::Failed(failure));
                    }
                    self.park(&run[0], &reason).await?;
                }
                Ingested::Failed(failure) => return Ok(Posted::Failed(failure)),
            }
        }
        Ok(Posted::All)
    }

    /// Whether another report met a failure of Polar's since this one began.
    async fn is_put_off(&self) -> Result<bool> {
        if self.forced || self.calls == MAX_CALLS {
            return Ok(false);
        }
        let state = store::usage::polar_state(&self.app.table).await?;
        Ok(state.body.paused_at(self.app.now()).is_some())
    }

    /// Whether an event is refused for what is no fault of its own. What Polar takes of the same claim proves the
    /// contrary; until it took something, it is asked whether it takes anything of ours at all.
    async fn fault(&self, reason: &str) -> Result<Option<Failure>> {
        let refused = |what: &str| {
            let todo =
                "Compare the reason with Polar's events API, and mend our request or ask Polar. Nothing is lost.";
            Failure { wait: None, reason: format!("{what}: {reason}"), todo: Some(todo) }
        };
        if self.took || (1..MAX_DOUBTFUL).contains(&self.parked) {
            return Ok(None);
        }
        if self.parked > 0 {
            return Ok(Some(refused("Polar refuses one event after the other")));
        }
        Ok(match self.polar.probe(self.token, self.app.now()).await? {
            Ingested::Taken { .. } => None,
            Ingested::Refused(_) => Some(refused("Polar refuses whatever we send")),
            Ingested::Failed(failure) => Some(failure),
        })
    }

    async fn park(&mut self, event: &UsageEvent, reason: &str) -> Result<()> {
        self.parked += 1;
        tracing::error!(event = %event.id, reason, "usage event parked: Polar refuses it");
        store::usage::park(&self.app.table, event, reason, self.app.now()).await
    }
}

async fn mark_reported(app: &App, events: &[UsageEvent]) -> Result<()> {
    let now = app.now();
    for some in events.chunks(MARKS) {
        try_join_all(some.iter().map(|event| store::usage::mark_reported(&app.table, event, now))).await?;
    }
    Ok(())
}

/// Events that Polar refuses, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn parked(app: &App, after: Option<&Cursor>, limit: Limit) -> Result<Page<UsageEvent>> {
    store::usage::parked(&app.table, after, limit).await
}

/// Puts a parked event back among the unreported ones.
///
/// # Errors
/// `not_found` when no such event is parked.
pub async fn retry_parked(app: &App, id: Uuid) -> Result<Draft<()>> {
    let event = store::usage::find_parked(&app.table, id).await?;
    let mut unit = Unit::new();
    store::usage::put_back(&mut unit, &event, app.now(), Error::not_found());
    Ok(Draft::new(unit, ()))
}

/// How many parked events are put back at a time: what fits into one transaction beside what others add to it.
const MAX_PUT_BACK: u32 = 90;

/// Puts up to 90 parked events back, the newest first, and says how many.
///
/// # Errors
/// `concurrent_change` when one of them is put back at the same time.
pub async fn retry_all_parked(app: &App) -> Result<Draft<usize>> {
    let page = store::usage::parked(&app.table, None, Limit::new(Some(MAX_PUT_BACK))?).await?;
    let mut unit = Unit::new();
    for event in &page.items {
        store::usage::put_back(&mut unit, event, app.now(), Error::new(Code::ConcurrentChange));
    }
    Ok(Draft::new(unit, page.items.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_over_the_end_of_a_month_is_looked_at() {
        let january = Time::from_millis(1_767_225_600_000);
        assert_eq!(months(january, 3), ["202601", "202512", "202511"]);
    }

    #[test]
    fn every_free_stretch_is_found_between_before_and_behind_the_claims() {
        let id = Uuid::from_u128;
        let gap = |after: Option<u128>, before: Option<u128>| Gap { after: after.map(id), before: before.map(id) };
        assert_eq!(gaps(Vec::new()), [gap(None, None)]);
        let claimed = vec![(id(20), id(29)), (id(10), id(12)), (id(22), id(24)), (id(40), id(40))];
        let free = [gap(None, Some(10)), gap(Some(12), Some(20)), gap(Some(29), Some(40)), gap(Some(40), None)];
        assert_eq!(gaps(claimed), free);
    }
}
