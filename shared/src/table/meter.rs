//! What table calls cost. Always counted for the work that is being done; kept call by call only while a test records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::ConsumedCapacity;

use crate::kernel::work::{self, TableCall};

/// Counts calls and, while recording, keeps each with its capacity and its place in the sequence of events.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<State>);

#[derive(Debug, Default)]
struct State {
    moment: AtomicU64,
    calls: Mutex<Option<Vec<Call>>>,
}

/// One call to the table.
#[derive(Debug, Clone)]
pub struct Call {
    /// Such as `GetItem`.
    pub operation: &'static str,
    /// Read units.
    pub read: f64,
    /// Write units.
    pub write: f64,
    /// A counter at the start; two calls overlap when their moments do.
    pub started: u64,
    /// The counter at the end.
    pub ended: u64,
    /// From when to when it was under way.
    pub time: (Instant, Instant),
}

/// A call under way.
#[must_use]
pub(super) struct Running<'a> {
    meter: &'a Meter,
    operation: &'static str,
    started: u64,
    began: Instant,
}

impl Meter {
    /// Starts keeping calls, forgetting those kept before.
    pub fn record(&self) {
        *self.calls() = Some(Vec::new());
    }

    /// Stops keeping calls and gives those kept since [`Self::record`].
    #[must_use]
    pub fn take(&self) -> Vec<Call> {
        self.calls().take().unwrap_or_default()
    }

    /// How many of the calls stand one after the other: calls that overlap count as one trip.
    #[must_use]
    pub fn trips(calls: &[Call]) -> usize {
        work::trips(calls.iter().map(|call| (call.started, call.ended)))
    }

    /// For how long any of the calls was under way: calls at the same time count once.
    #[must_use]
    pub fn time(calls: &[Call]) -> Duration {
        let mut times: Vec<_> = calls.iter().map(|call| call.time).collect();
        times.sort_unstable();
        let (mut sum, mut until) = (Duration::ZERO, None);
        for (began, ended) in times {
            let from = until.map_or(began, |until| began.max(until));
            sum += ended.saturating_duration_since(from);
            until = until.max(Some(ended));
        }
        sum
    }

    pub(super) fn start(&self, operation: &'static str) -> Running<'_> {
        let started = self.0.moment.fetch_add(1, Ordering::Relaxed);
        Running { meter: self, operation, started, began: Instant::now() }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Option<Vec<Call>>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    pub(super) fn read(self, capacity: Option<&ConsumedCapacity>) {
        self.finish(units(capacity), 0.0);
    }

    pub(super) fn read_all(self, capacity: &[ConsumedCapacity]) {
        self.finish(capacity.iter().map(|one| units(Some(one))).sum(), 0.0);
    }

    pub(super) fn write(self, capacity: Option<&ConsumedCapacity>) {
        self.finish(0.0, units(capacity));
    }

    pub(super) fn write_all(self, capacity: &[ConsumedCapacity]) {
        self.finish(0.0, capacity.iter().map(|one| units(Some(one))).sum());
    }

    fn finish(self, read: f64, write: f64) {
        let ended = self.meter.0.moment.fetch_add(1, Ordering::Relaxed);
        let started = self.started;
        work::called(TableCall { started, ended, read, write });
        if let Some(calls) = self.meter.calls().as_mut() {
            let (operation, time) = (self.operation, (self.began, Instant::now()));
            calls.push(Call { operation, read, write, started, ended, time });
        }
    }
}

fn units(capacity: Option<&ConsumedCapacity>) -> f64 {
    capacity.and_then(ConsumedCapacity::capacity_units).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(started: u64, ended: u64) -> Call {
        let at = |moment: u64| *BEGAN + Duration::from_millis(moment);
        Call { operation: "GetItem", read: 0.5, write: 0.0, started, ended, time: (at(started), at(ended)) }
    }

    static BEGAN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

    #[test]
    fn time_in_which_calls_overlap_counts_once() {
        assert_eq!(Meter::time(&[call(0, 5), call(1, 3), call(4, 9), call(20, 21)]), Duration::from_millis(10));
        assert_eq!(Meter::time(&[]), Duration::ZERO);
    }

    #[test]
    fn overlapping_calls_are_one_trip() {
        assert_eq!(Meter::trips(&[call(0, 5), call(1, 3), call(2, 4), call(6, 7)]), 2);
        assert_eq!(Meter::trips(&[call(0, 1), call(2, 3), call(4, 5)]), 3);
        // The second call began only after the first ended, beside a long one: two trips, not one.
        assert_eq!(Meter::trips(&[call(0, 9), call(1, 2), call(3, 4)]), 2);
        assert_eq!(Meter::trips(&[]), 0);
    }
}
