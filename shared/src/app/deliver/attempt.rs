//! One attempt: claimed, made, recorded.

use std::time::Duration;

use uuid::Uuid;

use super::lane::{Left, Place};
use super::send::{Attempted, Parcel, send};
use super::{Task, notices};
use crate::app::{App, payload};
use crate::domain::Event;
use crate::domain::webhook::{Delivery, DeliveryStatus, MAX_LOST, SLOW, Webhook};
use crate::events::studio;
use crate::kernel::{Id, Result, Time, work};
use crate::ports::queue::{MAX_DELAY, Outgoing, QueueName};
use crate::store;
use crate::store::webhook::Outcome;
use crate::table::{Refusal, Unit, Versioned};

/// When a delivery that found no place is looked at again, the first time.
const POSTPONED: Duration = Duration::from_secs(60);
/// How often that time doubles: up to about two hours, so that a long backlog of a slow endpoint costs little.
const DOUBLINGS: u32 = 7;

/// Why a delivery is given up whose endpoint takes no more.
pub(super) const ENDPOINT_OFF: &str = "The endpoint was switched off or deleted.";

/// An event that an endpoint may not have been told of.
#[derive(Clone, Copy)]
pub(super) struct News<'a> {
    /// The event.
    pub(super) event: &'a Event,
    /// The replay that tells of it, if it is one.
    pub(super) replay: Option<Uuid>,
}

/// Whether this attempt of a delivery is still to be made.
pub(super) fn is_wanted(delivery: &Delivery, number: u32, now: Time) -> bool {
    delivery.status == DeliveryStatus::Pending && delivery.attempt + 1 == number && !delivery.is_running(now)
}

/// Creates the delivery with its first attempt claimed and its payload frozen, and makes the attempt. When it is known
/// already the message is a repeat: one that waits for its first attempt gets it now, and one whose sender stopped gets
/// its next one.
pub(super) async fn first(app: &App, webhook: &Webhook, news: News<'_>, place: &Place) -> Result<Left> {
    let Some(mut delivery) = new(app, webhook, news).await? else { return Ok(Left::Unused) };
    delivery.begin_attempt(place.slot.claim, app.now(), place.until);
    // Its queue message is there until the outcome is recorded. So the clock needs not look for it as well, and nearly
    // all deliveries are spared an entry among the due ones and its end.
    delivery.next_at = None;
    if create(app, &delivery).await? {
        return make(app, webhook, Versioned { body: delivery, v: 1 }, place).await;
    }
    match repeated(app, webhook.id, news).await? {
        Some(found) => next(app, webhook, found, place).await,
        None => Ok(Left::Unused),
    }
}

/// What became of the delivery that a message of a first attempt is about, if that message is to go on with it: it waits
/// for that attempt, or the sender of it stopped. While the attempt is under way the message goes round once more: it may
/// be the one of a sender that stopped, and must be there when the claim ends.
async fn repeated(app: &App, webhook: Id<Webhook>, news: News<'_>) -> Result<Option<Versioned<Delivery>>> {
    let found = store::delivery::get(&app.table, news.event.workspace_id, webhook, news.event.id).await?;
    let (Some(found), now) = (found, app.now()) else { return Ok(None) };
    let delivery = &found.body;
    if delivery.status == DeliveryStatus::Pending && delivery.attempt == 0 {
        return Ok(Some(found));
    }
    if !delivery.is_unwatched() {
        return Ok(None);
    }
    if !delivery.is_running(now) {
        return Ok(Some(found));
    }
    let rest = Time::from_millis(delivery.claimed_until).since(now) + Duration::from_secs(1);
    let body = Task::first(webhook, news).to_json()?;
    app.queue.send(QueueName::Deliver, vec![Outgoing { body, delay: rest.min(MAX_DELAY) }]).await?;
    Ok(None)
}

/// Keeps the delivery of an event that found no place, so that the clock finds it.
pub(super) async fn postpone(app: &App, webhook: &Webhook, news: News<'_>, wait: Duration) -> Result<()> {
    let Some(mut delivery) = new(app, webhook, news).await? else { return Ok(()) };
    defer(app, &mut delivery, wait);
    if create(app, &delivery).await? {
        return Ok(());
    }
    match repeated(app, webhook.id, news).await? {
        Some(found) if found.body.is_unwatched() => put_off(app, found, wait).await,
        _ => Ok(()),
    }
}

/// Sees to the delivery of an event whose endpoint is off or gone: if an attempt of it was under way, it must not wait
/// for ever.
pub(super) async fn abandon(app: &App, webhook: Id<Webhook>, news: News<'_>) -> Result<()> {
    match repeated(app, webhook, news).await? {
        Some(found) => give_up(app, found, ENDPOINT_OFF).await,
        None => Ok(()),
    }
}

/// Puts off a known delivery that found no place.
pub(super) async fn put_off(app: &App, found: Versioned<Delivery>, wait: Duration) -> Result<()> {
    let Versioned { body: mut delivery, v } = found;
    defer(app, &mut delivery, wait);
    let mut unit = Unit::new();
    store::delivery::replace(&mut unit, &delivery, v)?;
    happened(app, unit).await.map(drop)
}

/// Says when the clock looks again: not before `wait`, later each time, and spread so that a backlog does not come back
/// all at once.
fn defer(app: &App, delivery: &mut Delivery, wait: Duration) {
    let usual = POSTPONED * (1 << delivery.deferrals.min(DOUBLINGS));
    let half = usual / 2;
    let spread = half + half.mul_f64(f64::from(app.rng.below(2_001)) / 1_000.0);
    delivery.deferrals += 1;
    delivery.next_at = Some(app.now() + wait + if wait.is_zero() { spread } else { spread.min(POSTPONED * 10) });
}

async fn new(app: &App, webhook: &Webhook, News { event, replay }: News<'_>) -> Result<Option<Delivery>> {
    let Some(name) = studio::name(event) else { return Ok(None) };
    let now = app.now();
    Ok(Some(Delivery {
        id: Delivery::id_for(webhook.id, event.id),
        workspace_id: event.workspace_id,
        webhook_id: webhook.id,
        event_id: event.id,
        payload: payload::studio(app, event, &name).await?,
        event: name,
        status: DeliveryStatus::Pending,
        attempt: 0,
        tries: 0,
        lost: 0,
        claimed_until: 0,
        claim: None,
        attempts: Vec::new(),
        next_at: None,
        deferrals: 0,
        reason: None,
        request_id: event.request_id.clone(),
        replay,
        created_at: now,
        updated_at: now,
    }))
}

/// Says whether it is new.
async fn create(app: &App, delivery: &Delivery) -> Result<bool> {
    let mut unit = Unit::new();
    store::delivery::create(&mut unit, delivery)?;
    happened(app, unit).await
}

/// Carries a unit out. Says whether it happened: if not, somebody else was faster, and theirs is the record.
async fn happened(app: &App, unit: Unit) -> Result<bool> {
    match app.commit(unit).await {
        Ok(()) => Ok(true),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Claims the next attempt of a known delivery and makes it.
pub(super) async fn next(app: &App, webhook: &Webhook, found: Versioned<Delivery>, place: &Place) -> Result<Left> {
    let Versioned { body: mut delivery, v } = found;
    let now = app.now();
    if delivery.status != DeliveryStatus::Pending || delivery.is_running(now) {
        return Ok(Left::Unused);
    }
    delivery.begin_attempt(place.slot.claim, now, place.until);
    if delivery.lost > MAX_LOST {
        let found = Versioned { body: delivery, v };
        give_up(app, found, "Again and again its sender stopped while an attempt was under way.").await?;
        return Ok(Left::Unused);
    }
    let mut unit = Unit::new();
    store::delivery::replace(&mut unit, &delivery, v)?;
    if !happened(app, unit).await? {
        return Ok(Left::Unused);
    }
    make(app, webhook, Versioned { body: delivery, v: v + 1 }, place).await
}

/// Ends a delivery that has nowhere to go: it must not wait among the due ones for ever. It can be retried by hand.
pub(super) async fn give_up(app: &App, found: Versioned<Delivery>, reason: &str) -> Result<()> {
    let Versioned { body: mut delivery, v } = found;
    delivery.note_lost(app.now());
    delivery.end_attempt(DeliveryStatus::Failed, None, app.now());
    delivery.reason = Some(reason.to_owned());
    let mut unit = Unit::new();
    store::delivery::replace(&mut unit, &delivery, v)?;
    happened(app, unit).await.map(drop)
}

/// Makes a claimed attempt, records how it went, and sees to what follows from it.
async fn make(app: &App, webhook: &Webhook, claimed: Versioned<Delivery>, place: &Place) -> Result<Left> {
    let Versioned { body: mut delivery, v } = claimed;
    let Delivery { event_id, event, payload, attempt, .. } = &delivery;
    work::note("delivery", delivery.id);
    work::note("attempt", u64::from(*attempt));
    let attempted = send(app, webhook, Parcel { event_id: *event_id, event, attempt: *attempt, payload }).await?;
    let (now, succeeded, gone) = (app.now(), attempted.succeeded(), attempted.is_gone());
    let is_slow = attempted.attempt.ms >= SLOW.as_millis() as u64;
    delivery.tries += 1;
    let wait = if succeeded || gone { None } else { wait(app, &delivery, &attempted) };
    let status = match (succeeded, wait) {
        (true, _) => DeliveryStatus::Succeeded,
        (false, Some(_)) => DeliveryStatus::Pending,
        (false, None) => DeliveryStatus::Failed,
    };
    let paused_until = attempted.retry_after.map(|seconds| now + Duration::from_secs(seconds));
    work::note("receiver_status", u64::from(attempted.attempt.status.unwrap_or(0)));
    work::note("receiver_ms", attempted.attempt.ms);
    delivery.record(attempted.attempt);
    delivery.end_attempt(status, wait.map(|wait| now + wait), now);
    let mut unit = Unit::new();
    store::delivery::replace(&mut unit, &delivery, v)?;
    if !happened(app, unit).await? {
        // Our claim ran out and somebody else went on.
        return Ok(Left::Unused);
    }
    if let Some(until) = paused_until {
        store::webhook::pause(&app.table, &place.slot, until).await?;
    }
    let event_at = Time::of_uuid(delivery.event_id);
    let outcome = Outcome { succeeded, status, event_at, is_slow, is_first_after_quiet: place.after_quiet };
    if let Some(health) = store::webhook::end_slot(&app.table, &place.slot, &outcome, now).await? {
        notices::after(app, webhook, &health, gone).await?;
    }
    queue(app, &delivery, wait).await?;
    Ok(Left::Ended)
}

/// Queues the next attempt. Longer waits are left to the clock: a queue message cannot be delayed that long.
async fn queue(app: &App, delivery: &Delivery, wait: Option<Duration>) -> Result<()> {
    let Some(delay) = wait.filter(|wait| *wait <= MAX_DELAY) else { return Ok(()) };
    let message = Outgoing { body: Task::attempt(delivery).to_json()?, delay };
    app.queue.send(QueueName::Deliver, vec![message]).await
}

/// The wait before the next attempt, ± 20 % so that many deliveries do not come back at once; at least what the
/// receiver asked for. `None` when the attempts are used up.
fn wait(app: &App, delivery: &Delivery, attempted: &Attempted) -> Option<Duration> {
    let wait = Delivery::wait_after(&app.config.webhook_retries, delivery.tries)?;
    let spread = wait.mul_f64(0.8 + f64::from(app.rng.below(401)) / 1000.0);
    Some(spread.max(Duration::from_secs(attempted.retry_after.unwrap_or(0))))
}

/// Starts a delivery anew, by hand or by a `replay`: the same bytes, all tries again. Gives it as it is then.
///
/// # Errors
/// When it does not serialise.
pub fn restart(unit: &mut Unit, found: Versioned<Delivery>, replay: Option<Uuid>, now: Time) -> Result<Delivery> {
    let Versioned { body: mut delivery, v } = found;
    delivery.note_lost(now);
    // Due now: should the message that goes after it be lost, the clock finds the delivery.
    delivery.end_attempt(DeliveryStatus::Pending, Some(now), now);
    (delivery.tries, delivery.lost, delivery.reason) = (0, 0, None);
    delivery.replay = replay.or(delivery.replay);
    store::delivery::replace(unit, &delivery, v)?;
    Ok(delivery)
}
