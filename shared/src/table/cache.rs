//! The few items that nearly every request reads, kept for seconds.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Key;
use crate::kernel::{Clock, Time};

const KEPT: Duration = Duration::from_secs(5);
/// A flood of different keys must not fill the memory; what is kept is small, so this is a few MB.
const CAPACITY: usize = 4_096;

/// When each item was read, and what it was.
type Entries = HashMap<Key, (Time, Arc<dyn Any + Send + Sync>)>;

pub(super) struct Cache {
    clock: Arc<dyn Clock>,
    entries: Mutex<Entries>,
}

impl Cache {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self, key: &Key) -> Option<Arc<T>> {
        let now = self.clock.now();
        let kept = self.entries().get(key).filter(|(at, _)| now.since(*at) < KEPT).map(|(_, body)| Arc::clone(body))?;
        kept.downcast().ok()
    }

    pub(super) fn put<T: Send + Sync + 'static>(&self, key: Key, body: T) -> Arc<T> {
        let (now, body) = (self.clock.now(), Arc::new(body));
        let mut entries = self.entries();
        if entries.len() >= CAPACITY {
            entries.retain(|_, (at, _)| now.since(*at) < KEPT);
        }
        if entries.len() < CAPACITY {
            entries.insert(key, (now, Arc::clone(&body) as Arc<dyn Any + Send + Sync>));
        }
        body
    }

    pub(super) fn drop(&self, key: &Key) {
        self.entries().remove(key);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ManualClock;

    #[test]
    fn what_is_kept_is_forgotten_after_five_seconds_or_when_it_is_written() {
        let clock = Arc::new(ManualClock::at(Time::from_millis(0)));
        let cache = Cache::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let key = Key::new("p", "s");
        cache.put(key.clone(), 7_u8);
        assert_eq!(cache.get::<u8>(&key).as_deref(), Some(&7));
        clock.advance(Duration::from_secs(5));
        assert_eq!(cache.get::<u8>(&key), None);
        cache.put(key.clone(), 8_u8);
        cache.drop(&key);
        assert_eq!(cache.get::<u8>(&key), None);
    }
}
