//! Events as this process commits them: what the local platform's stream is made of, so that it reads the outbox only
//! for what nobody here can know. In production the table's stream carries them, nobody listens here, and nothing is
//! kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::Event;
use crate::store::outbox;
use crate::table::Unit;

/// More events than this are not kept for a listener that does not come; it is told to look for itself.
const KEPT: usize = 10_000;

/// What was committed since somebody looked.
#[derive(Debug, Default)]
pub struct Committed {
    is_heard: AtomicBool,
    news: Mutex<News>,
    came: Notify,
}

/// What a listener is told.
#[derive(Debug, Default)]
pub struct News {
    /// Events, in the order of their commits.
    pub events: Vec<Event>,
    /// Whether there may be more of which nobody here knows: a commit was not answered, or the listener came late.
    pub is_unsure: bool,
}

impl Committed {
    /// Begins to keep what is committed.
    pub fn listen(&self) {
        self.is_heard.store(true, Ordering::Relaxed);
    }

    /// Waits until there is something to take.
    pub async fn wait(&self) {
        self.came.notified().await;
    }

    /// Takes everything since the last time.
    #[must_use]
    pub fn take(&self) -> News {
        std::mem::take(&mut *self.news())
    }

    /// The events of a unit that is about to be carried out.
    pub(super) fn of(&self, unit: &Unit) -> Vec<Event> {
        if !self.is_heard.load(Ordering::Relaxed) {
            return Vec::new();
        }
        unit.rows_of(outbox::ENTITY).filter_map(|item| outbox::read(item.clone()).ok()).collect()
    }

    /// Tells of events that are written, or may be.
    pub(super) fn tell(&self, events: Vec<Event>, is_written: bool) {
        if events.is_empty() {
            return;
        }
        let mut news = self.news();
        // Once something is missing nothing is told before it: the look has all, in order.
        if is_written && !news.is_unsure && news.events.len() + events.len() <= KEPT {
            news.events.extend(events);
        } else {
            news.is_unsure = true;
        }
        drop(news);
        self.came.notify_one();
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
