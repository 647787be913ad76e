//! What is being done right now: a request, a message of a queue, a run of a schedule. Whatever happens for it, in
//! whichever layer, is counted and noted here, and told in one line of the journal when it is over. What follows from it
//! elsewhere (an event and its deliveries) carries its id, so that it can be followed from the request that began it.
//!
//! Notes are ids, numbers and our own words. Texts of others do not fit in, so no secret and no message can be told.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tracing::Instrument as _;
use tracing::field::Empty;
use uuid::Uuid;

use super::Id;
use super::id::Named;

tokio::task_local! {
    static CURRENT: Work;
}

/// The most table calls whose places in the sequence are kept; more are counted all the same.
const PLACES: usize = 512;

/// One piece of work. A handle: clones are the same work.
#[derive(Clone)]
pub struct Work(Arc<Inner>);

struct Inner {
    began: Instant,
    span: tracing::Span,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    request_id: String,
    notes: Vec<(&'static str, Value)>,
    spent: Spent,
}

/// What work spent in the table.
#[derive(Debug, Clone, Default, PartialEq)]
struct Spent {
    calls: u64,
    read_units: f64,
    write_units: f64,
    /// When the calls began and ended, on the table's own counter.
    places: Vec<(u64, u64)>,
}

/// One call to the table, as it counts here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TableCall {
    /// A counter at the start; two calls overlap when their moments do.
    pub started: u64,
    /// The counter at the end.
    pub ended: u64,
    /// Read units.
    pub read: f64,
    /// Write units.
    pub write: f64,
}

/// What may stand in a note.
pub trait Notable {
    /// As JSON.
    fn note(self) -> Value;
}

impl Notable for &'static str {
    fn note(self) -> Value {
        json!(self)
    }
}

impl Notable for u64 {
    fn note(self) -> Value {
        json!(self)
    }
}

impl Notable for Uuid {
    fn note(self) -> Value {
        json!(self)
    }
}

impl<K: Named> Notable for Id<K> {
    fn note(self) -> Value {
        json!(self.text())
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Work").field(&self.request_id()).finish()
    }
}

impl Work {
    /// Work that begins now, under the id of the request that it is, or follows from.
    #[must_use]
    pub fn new(request_id: impl Into<String>) -> Self {
        let state = State { request_id: request_id.into(), ..State::default() };
        let span = tracing::info_span!("work", request_id = Empty);
        span.record("request_id", state.request_id.as_str());
        Self(Arc::new(Inner { began: Instant::now(), span, state: Mutex::new(state) }))
    }

    /// The work that this is done for, if any.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Does this for the work: what it notes and spends is the work's, and its log lines have its id.
    pub async fn run<F: Future>(&self, doing: F) -> F::Output {
        CURRENT.scope(self.clone(), doing.instrument(self.0.span.clone())).await
    }

    /// The id of the request that it is, or follows from.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.state().request_id.clone()
    }

    /// Notes something; the last note of a name counts.
    pub fn note(&self, name: &'static str, value: impl Notable) {
        let (mut state, value) = (self.state(), value.note());
        match state.notes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => state.notes.push((name, value)),
        }
    }

    /// Notes an id that others gave, if it looks like one: they are short, and have neither spaces nor control characters.
    pub fn note_id(&self, name: &'static str, id: Option<&str>) {
        let looks_like_one =
            |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(id) = id.filter(looks_like_one) {
            self.state().notes.push((name, json!(id)));
        }
    }

    /// It turns out to follow from that request.
    pub fn follow(&self, request_id: &str) {
        self.0.span.record("request_id", request_id);
        request_id.clone_into(&mut self.state().request_id);
    }

    /// Everything that is known of it by now: `request_id`, its notes, `ms`, and what it spent in the table
    /// (`table_calls`, `table_trips`, `read_units`, `write_units`).
    #[must_use]
    pub fn told(&self) -> Map<String, Value> {
        let state = self.state();
        let mut told = Map::new();
        told.insert("request_id".into(), json!(state.request_id));
        told.extend(state.notes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let took = self.0.began.elapsed();
        told.insert("ms".into(), json!(rounded(took)));
        let Spent { calls, read_units, write_units, places } = &state.spent;
        if *calls > 0 {
            told.insert("table_calls".into(), json!(calls));
            told.insert("table_trips".into(), json!(trips(places.iter().copied())));
            told.insert("read_units".into(), json!(read_units));
            told.insert("write_units".into(), json!(write_units));
        }
        told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds with one decimal.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Notes something of the present work, if there is one.
pub fn note(name: &'static str, value: impl Notable) {
    if let Some(work) = Work::current() {
        work.note(name, value);
    }
}

/// The present work turns out to follow from that request. Nothing changes when none is told.
pub fn follow(request_id: Option<&str>) {
    if let (Some(work), Some(request_id)) = (Work::current(), request_id) {
        work.follow(request_id);
    }
}

/// The id of the request that the present work is, or follows from.
#[must_use]
pub fn request_id() -> Option<String> {
    Work::current().map(|work| work.request_id())
}

/// The same, done for the present work also in a task of its own.
pub fn carried<F: Future>(doing: F) -> impl Future<Output = F::Output> {
    let work = Work::current();
    async move {
        match work {
            Some(work) => work.run(doing).await,
            None => doing.await,
        }
    }
}

/// Counts a call to the table for the present work.
pub fn called(call: TableCall) {
    let Some(work) = Work::current() else { return };
    let spent = &mut work.state().spent;
    spent.calls += 1;
    spent.read_units += call.read;
    spent.write_units += call.write;
    if spent.places.len() < PLACES {
        spent.places.push((call.started, call.ended));
    }
}

/// How many of these calls (when they began and ended) stand one after the other: those that overlap count as one trip.
pub fn trips(calls: impl Iterator<Item = (u64, u64)>) -> usize {
    let mut calls: Vec<_> = calls.collect();
    calls.sort_unstable();
    let (mut trips, mut open_until) = (0, None);
    for (started, ended) in calls {
        // A trip lasts as long as its shortest member lets the next one start: the earliest end decides.
        open_until = match open_until {
            Some(until) if started <= until => Some(ended.min(until)),
            _ => {
                trips += 1;
                Some(ended)
            }
        };
    }
    trips
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: TableCall = TableCall { started: 1, ended: 2, read: 0.5, write: 2.0 };

    #[tokio::test]
    async fn what_happens_in_a_task_that_is_carried_belongs_to_the_work() {
        let work = Work::new("r-1");
        let spawned = || async {
            tokio::spawn(carried(async {
                note("operation", "chat");
                called(CALL);
                request_id()
            }))
            .await
        };
        assert_eq!(work.run(spawned()).await.unwrap().as_deref(), Some("r-1"));
        let told = work.told();
        assert_eq!(
            (&told["operation"], &told["table_calls"], &told["write_units"]),
            (&json!("chat"), &json!(1), &json!(2.0))
        );
        assert_eq!(spawned().await.unwrap(), None, "outside of any work nothing is noted");
    }

    #[tokio::test]
    async fn work_within_work_is_told_by_itself() {
        let (outer, inner) = (Work::new("batch"), Work::new("message"));
        outer
            .run(async {
                called(CALL);
                inner.run(async { follow(Some("r-2")) }).await;
                follow(None);
            })
            .await;
        assert_eq!((outer.request_id(), inner.request_id()), ("batch".to_owned(), "r-2".to_owned()));
        assert!(!inner.told().contains_key("table_calls"));
    }

    #[test]
    fn the_last_note_of_a_name_counts() {
        let work = Work::new("r");
        work.note("status", 200);
        work.note("status", 500);
        assert_eq!(work.told()["status"], 500);
    }

    #[test]
    fn calls_beyond_the_kept_places_are_counted() {
        let work = Work::new("r");
        let calls = async {
            for at in 0..600 {
                called(TableCall { started: at * 2, ended: at * 2 + 1, ..CALL });
            }
        };
        futures_util::FutureExt::now_or_never(work.run(calls)).unwrap();
        assert_eq!((&work.told()["table_calls"], &work.told()["table_trips"]), (&json!(600), &json!(512)));
    }
}
