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

#[derive(Default)]
struct Entries {
    /// When each item was read, and what it was.
    kept: HashMap<Key, (Time, Arc<dyn Any + Send + Sync>)>,
    /// Items that are being read.
    reading: HashMap<Key, Readings>,
}

#[derive(Default)]
struct Readings {
    count: u32,
    /// Whether the item was written since: what was read may be from before.
    is_stale: bool,
}

/// A read whose answer may be kept, unless the item is written meanwhile.
pub(super) struct Reading<'a> {
    cache: &'a Cache,
    key: &'a Key,
}

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
        let kept =
            self.entries().kept.get(key).filter(|(at, _)| now.since(*at) < KEPT).map(|(_, body)| Arc::clone(body))?;
        kept.downcast().ok()
    }

    /// Begins to read an item.
    pub(super) fn read<'a>(&'a self, key: &'a Key) -> Reading<'a> {
        self.entries().reading.entry(key.clone()).or_default().count += 1;
        Reading { cache: self, key }
    }

    pub(super) fn drop(&self, key: &Key) {
        let mut entries = self.entries();
        entries.kept.remove(key);
        if let Some(readings) = entries.reading.get_mut(key) {
            readings.is_stale = true;
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    /// Keeps what was read.
    pub(super) fn keep<T: Send + Sync + 'static>(self, body: T) -> Arc<T> {
        let (now, body) = (self.cache.clock.now(), Arc::new(body));
        let mut entries = self.cache.entries();
        if entries.kept.len() >= CAPACITY {
            entries.kept.retain(|_, (at, _)| now.since(*at) < KEPT);
        }
        let is_stale = entries.reading.get(self.key).is_none_or(|readings| readings.is_stale);
        if entries.kept.len() < CAPACITY && !is_stale {
            entries.kept.insert(self.key.clone(), (now, Arc::clone(&body) as Arc<dyn Any + Send + Sync>));
        }
        drop(entries);
        body
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut entries = self.cache.entries();
        if let Some(readings) = entries.reading.get_mut(self.key) {
            readings.count -= 1;
            if readings.count == 0 {
                entries.reading.remove(self.key);
            }
        }
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
        cache.read(&key).keep(7_u8);
        assert_eq!(cache.get::<u8>(&key).as_deref(), Some(&7));
        clock.advance(Duration::from_secs(5));
        assert_eq!(cache.get::<u8>(&key), None);
        cache.read(&key).keep(8_u8);
        cache.drop(&key);
        assert_eq!(cache.get::<u8>(&key), None);
        // Written while it was read.
        let (reading, other) = (cache.read(&key), cache.read(&key));
        cache.drop(&key);
        assert_eq!(*reading.keep(9_u8), 9);
        drop(other);
        assert_eq!(cache.get::<u8>(&key), None);
        cache.read(&key).keep(10_u8);
        assert_eq!(cache.get::<u8>(&key).as_deref(), Some(&10));
        assert!(cache.entries().reading.is_empty());
    }
}
