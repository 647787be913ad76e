//! Webhook endpoints, and how they fare.

use std::sync::Arc;

use uuid::Uuid;

use super::keys;
use crate::domain::webhook::{DeliveryStatus, Health, IN_FLIGHT, MAX_WEBHOOKS, SLOW_FOR};
use crate::domain::{Webhook, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Cond, Index, Item, Key, Query, Refusal, Row, Table, Unit, Update, Versioned, decode};

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
    unit.delete(keys::webhook_health(workspace, webhook));
    unit.delete(keys::replay(workspace, webhook));
    unit.upsert(Update::new(keys::webhook_count(workspace)).add("n", -1));
}

/// Demands that an endpoint is there and switched on.
pub fn check_active(unit: &mut Unit, workspace: Id<Workspace>, webhook: Id<Webhook>) {
    unit.check(keys::webhook(workspace, webhook), Cond::eq("is_active", true), Error::new(Code::WebhookDisabled));
}

/// One endpoint.
///
/// # Errors
/// `not_found` when the workspace has no such endpoint, or the table cannot be read.
pub async fn get(table: &Table, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Result<Versioned<Webhook>> {
    table.get_versioned(&keys::webhook(workspace, webhook)).await?.ok_or_else(Error::not_found)
}

/// One endpoint as a delivery needs it, cached ≤ 5 s; `None` when there is none. A change that another process made may
/// so be heeded five seconds late.
///
/// # Errors
/// When the table cannot be read.
pub async fn get_cached(table: &Table, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Result<Option<Arc<Webhook>>> {
    table.get_cached(&keys::webhook(workspace, webhook)).await
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

/// How endpoints fare, in the order asked.
///
/// # Errors
/// When the table cannot be read.
pub async fn health(table: &Table, workspace: Id<Workspace>, webhooks: &[Id<Webhook>]) -> Result<Vec<Health>> {
    let keys: Vec<Key> = webhooks.iter().map(|webhook| keys::webhook_health(workspace, *webhook)).collect();
    let found = table.batch_get(&keys).await?;
    let mut found = found.into_iter().peekable();
    let of = |key: &Key| {
        let is_it = |item: &Item| item.get("sk").and_then(|sk| sk.as_s().ok()) == Some(&key.sk);
        found.next_if(is_it).map_or_else(|| Ok(Health::default()), decode)
    };
    keys.iter().map(of).collect()
}

/// Forgets that an endpoint failed: its owner has switched it on again, or it listens elsewhere now.
pub fn forgive(unit: &mut Unit, workspace: Id<Workspace>, webhook: Id<Webhook>) {
    let update = Update::beside(keys::webhook_health(workspace, webhook));
    let update = update.set("noticed", 0).set("paused_until", 0).set("slow_until", 0);
    unit.upsert(update.remove("failing_since").remove("missed_since"));
}

/// A place among the deliveries that are under way to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// To which workspace's endpoint.
    pub workspace_id: Id<Workspace>,
    /// Which endpoint.
    pub webhook_id: Id<Webhook>,
    /// Whose it is.
    pub claim: Uuid,
}

/// What came of asking for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat {
    /// It is ours; and how the endpoint fares.
    Taken(Health),
    /// Too many are under way.
    Full,
    /// The receiver asked us to wait until then.
    Paused(Time),
    /// It is a slow one, for those who serve these.
    Slow,
}

const SLOT: &str = "slot_";

impl Slot {
    fn key(&self) -> Key {
        keys::webhook_health(self.workspace_id, self.webhook_id)
    }

    fn attribute(&self) -> String {
        format!("{SLOT}{}", self.claim.simple())
    }
}

/// Takes a slot until `until`, over all processes; that of a slow endpoint only when `serves_slow`. Slots of senders that
/// stopped are freed on the way.
///
/// # Errors
/// When the table cannot be written.
pub async fn take_slot(table: &Table, slot: &Slot, now: Time, until: Time, serves_slow: bool) -> Result<Seat> {
    for _ in 0..2 {
        let ours = slot.attribute();
        let update = Update::beside(slot.key()).add("busy", 1).set(ours.clone(), until.millis());
        let room = Cond::absent("busy").or(Cond::lt("busy", IN_FLIGHT));
        let allowed = Cond::absent("paused_until").or(Cond::le("paused_until", now.millis()));
        let mut free = room.and(allowed).and(Cond::absent(ours.clone()));
        if !serves_slow {
            free = free.and(Cond::absent("slow_until").or(Cond::le("slow_until", now.millis())));
        }
        let found = match table.update(update, Some(free), Error::new(Code::Conflict)).await {
            Ok(item) => return decode(item).map(Seat::Taken),
            Err(Refusal::Conditions(failed)) => failed.into_iter().find_map(|failed| failed.found).unwrap_or_default(),
            Err(Refusal::Error(error)) => return Err(error),
        };
        // Sent again after a lost answer, it meets itself.
        if found.contains_key(&ours) {
            return decode(found).map(Seat::Taken);
        }
        let stopped = stopped_slots(&found, now);
        let health: Health = decode(found)?;
        if health.paused_until > now.millis() {
            return Ok(Seat::Paused(Time::from_millis(health.paused_until)));
        }
        if !serves_slow && health.slow_until > now.millis() {
            return Ok(Seat::Slow);
        }
        if stopped.is_empty() {
            break;
        }
        for attribute in stopped {
            free_slot(table, slot, &attribute, |update| update).await?;
        }
    }
    Ok(Seat::Full)
}

fn stopped_slots(item: &Item, now: Time) -> Vec<String> {
    let ended = |until: &str| until.parse().is_ok_and(|until: i64| until < now.millis());
    let slots = item.iter().filter(|(name, _)| name.starts_with(SLOT));
    slots.filter(|(_, until)| until.as_n().is_ok_and(|until| ended(until))).map(|(name, _)| name.clone()).collect()
}

async fn free_slot(
    table: &Table,
    slot: &Slot,
    attribute: &str,
    more: impl FnOnce(Update) -> Update,
) -> Result<Option<Item>> {
    let update = more(Update::beside(slot.key()).add("busy", -1).remove(attribute.to_owned()));
    match table.update(update, Some(Cond::present(attribute.to_owned())), Error::new(Code::Conflict)).await {
        Ok(item) => Ok(Some(item)),
        Err(Refusal::Conditions(_)) => Ok(None),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Gives a slot back without an attempt.
///
/// # Errors
/// When the table cannot be written.
pub async fn leave_slot(table: &Table, slot: &Slot) -> Result<()> {
    free_slot(table, slot, &slot.attribute(), |update| update).await.map(drop)
}

/// How an attempt ended, for the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the receiver took it.
    pub succeeded: bool,
    /// How the delivery stands after it.
    pub status: DeliveryStatus,
    /// When its event happened.
    pub event_at: Time,
    /// Whether it took so long that the endpoint is a slow one now.
    pub is_slow: bool,
    /// Whether the failures before it, if any, are another trouble, long ago.
    pub is_first_after_quiet: bool,
}

/// Gives a slot back after an attempt, and notes how it went. Gives how the endpoint fares now; `None` when the slot
/// was freed by others meanwhile, since then nobody knows what came first.
///
/// # Errors
/// When the table cannot be written.
pub async fn end_slot(table: &Table, slot: &Slot, outcome: &Outcome, now: Time) -> Result<Option<Health>> {
    let note = |update: Update| {
        let mut update = update.set("last_delivery_at", now).set("last_delivery_status", outcome.status);
        if outcome.is_slow {
            update = update.set("slow_until", (now + SLOW_FOR).millis());
        }
        match (outcome.succeeded, outcome.is_first_after_quiet) {
            (true, _) => update.remove("failing_since").remove("missed_since").set("noticed", 0),
            (false, true) => update.set("failing_since", now).set("missed_since", outcome.event_at).set("noticed", 0),
            (false, false) => update.set_once("failing_since", now).set_once("missed_since", outcome.event_at),
        }
    };
    free_slot(table, slot, &slot.attribute(), note).await?.map(decode).transpose()
}

/// Notes that the receiver asked us to wait until then. A shorter wait, asked for at the same time, ends no longer one.
///
/// # Errors
/// When the table cannot be written.
pub async fn pause(table: &Table, slot: &Slot, until: Time) -> Result<()> {
    let update = Update::beside(slot.key()).set("paused_until", until.millis());
    let longer = Cond::absent("paused_until").or(Cond::lt("paused_until", until.millis()));
    match table.update(update, Some(longer), Error::new(Code::Conflict)).await {
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Notes that the owner has had a notice; the unit fails when somebody was faster.
pub fn note_notice(unit: &mut Unit, workspace: Id<Workspace>, webhook: Id<Webhook>, percent: u64, now: Time) {
    let update = Update::beside(keys::webhook_health(workspace, webhook));
    let update = update.set("noticed", percent).set("noticed_at", now);
    let first = Cond::absent("noticed").or(Cond::lt("noticed", percent));
    unit.update(update, first, Error::new(Code::Conflict));
}

/// Switches an endpoint off that was read as it is given; the unit fails when it is off already or listens elsewhere now.
pub fn disable(unit: &mut Unit, webhook: &Webhook, reason: &str, missed_since: Time, now: Time) {
    let update = Update::new(keys::webhook(webhook.workspace_id, webhook.id))
        .set("is_active", false)
        .set("disabled_reason", reason)
        .set("disabled_at", now)
        .set("missed_since", missed_since);
    let same = Cond::eq("is_active", true).and(Cond::eq("url", webhook.url.clone()));
    unit.update(update, same, Error::new(Code::Conflict));
}
