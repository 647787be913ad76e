//! The lane to an endpoint: so many deliveries are under way at a time, over all processes. Within a process whoever
//! finds the lane full waits a moment; beyond that, and when the receiver asked for a pause, it comes again later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::app::App;
use crate::domain::Webhook;
use crate::domain::webhook::{IN_FLIGHT, QUIET};
use crate::kernel::{Id, Result, Time};
use crate::ports::queue::QueueName;
use crate::store;
use crate::store::webhook::{Seat, Slot};

/// How long somebody waits for a place within the process.
const PATIENCE: Duration = Duration::from_secs(2);

/// The lanes of this process.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<Id<Webhook>, Weak<Semaphore>>>);

impl Lanes {
    fn of(&self, webhook: Id<Webhook>) -> Arc<Semaphore> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&webhook).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Semaphore::new(IN_FLIGHT));
        lanes.insert(webhook, Arc::downgrade(&lane));
        lane
    }
}

/// Whether there is a place.
pub(in crate::app) enum Lane {
    /// There is; it is held.
    Open(Place),
    /// The endpoint is served from the queue of the slow ones.
    Slow,
    /// There is none for now.
    Closed {
        /// The least time to wait.
        wait: Duration,
    },
}

/// A held place.
pub(in crate::app) struct Place {
    app: App,
    /// The place as the table has it; its claim is also that of the attempt.
    pub(super) slot: Slot,
    /// When it is taken from us, should we still have it.
    pub(super) until: Time,
    /// Whether nothing was sent there for long.
    pub(super) after_quiet: bool,
    _lane: OwnedSemaphorePermit,
}

impl Lane {
    /// Takes a place on the way to an endpoint, for a message of a queue.
    pub(in crate::app) async fn enter(app: &App, queue: QueueName, webhook: &Webhook) -> Result<Self> {
        let lane = app.lanes().of(webhook.id).acquire_owned();
        let Ok(Ok(lane)) = tokio::time::timeout(PATIENCE, lane).await else {
            return Ok(Self::Closed { wait: Duration::ZERO });
        };
        let now = app.now();
        // Enough for the call and to record it.
        let until = now + app.config.webhook_timeout * 4;
        let slot = Slot {
            workspace_id: webhook.workspace_id,
            webhook_id: webhook.id,
            claim: Uuid::from_bytes(app.rng.bytes()),
        };
        let serves_slow = queue == QueueName::DeliverSlow;
        Ok(match store::webhook::take_slot(&app.table, &slot, now, until, serves_slow).await? {
            Seat::Taken(health) => {
                let after_quiet = health.last_delivery_at.is_none_or(|last| now.since(last) > QUIET);
                Self::Open(Place { app: app.clone(), slot, until, after_quiet, _lane: lane })
            }
            Seat::Slow => Self::Slow,
            Seat::Full => Self::Closed { wait: Duration::ZERO },
            Seat::Paused(until) => Self::Closed { wait: until.since(now) },
        })
    }
}

/// What became of a held place.
pub(super) enum Left {
    /// The attempt's end was noted, and the place given back with it.
    Ended,
    /// There was no attempt to make.
    Unused,
}

impl Place {
    /// Gives the place back.
    pub(in crate::app) async fn leave(&self) {
        if let Err(error) = store::webhook::leave_slot(&self.app.table, &self.slot).await {
            tracing::warn!(%error, "a place on the way to an endpoint is left to run out");
        }
    }

    /// Does the work and gives the place back, unless the work did.
    pub(super) async fn with(&self, work: impl Future<Output = Result<Left>>) -> Result<()> {
        let left = work.await;
        if !matches!(left, Ok(Left::Ended)) {
            self.leave().await;
        }
        left.map(drop)
    }
}
