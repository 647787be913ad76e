//! What the table's stream is in production: gives every event of the outbox to each reader, in order within a shard.
//! A commit wakes it. It reads the outbox itself, since the embedded engine's streams do not scale.
//!
//! Its place is a cursor per shard, kept beside the queues. An event may be written somewhat after the moment that it
//! carries, so each look goes back a minute before the cursor, and the ids of what was handled there are remembered.
//! A reader that fails gets its events again and holds back only its own shard and no other reader.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::domain::Event;
use shared::kernel::{Error, Result, Time};
use shared::store::keys::SHARDS;
use shared::store::outbox::{KEPT, Walk};
use shared::table::{Key, Row, Table, Unit};
use tokio::time::Instant;
use uuid::Uuid;

use crate::registry::Work;
use crate::stopping::Stopping;

/// How far behind the cursor an event may still appear.
const LOOK_BACK: Duration = Duration::from_secs(60);

/// The least time between two looks, so that many commits make one.
const GAP: Duration = Duration::from_millis(40);
/// The next look without a commit, as long as something was committed within [`LOOK_BACK`].
const TICK: Duration = Duration::from_secs(2);
/// The same when nothing was: every commit wakes us, so this only guards against what nobody thought of.
const IDLE: Duration = Duration::from_secs(60);
/// The wait after a fault; it doubles up to [`IDLE`].
const BACK_OFF: Duration = Duration::from_secs(1);
/// How often the place is kept while events come: what comes after it may be given twice after a kill.
const SAVE: Duration = Duration::from_secs(1);
/// How often it is kept while none come, so that a later start has few minutes to look at.
const SAVE_IDLE: Duration = Duration::from_secs(600);
/// How many ids of a shard and reader are kept; it matters only for what is repeated after a restart.
const IDS_KEPT: usize = 500;

/// A reader of the outbox.
pub struct Reader {
    /// Its binary: the name of its place.
    pub binary: String,
    /// The most events at once.
    pub batch: usize,
    /// How long it may take for them.
    pub timeout: Duration,
    /// What it does.
    pub work: Work<Vec<Event>, ()>,
}

/// The outbox with its readers.
pub struct Outbox {
    app: App,
    places: Table,
    readers: Vec<Reader>,
    shards: Vec<Shard>,
}

/// How far a shard is read.
struct Shard {
    number: u8,
    /// Everything before this was handled, but for what appears late.
    at: Time,
    /// What each reader has handled of the time from [`LOOK_BACK`] before that: id and moment.
    seen: HashMap<String, BTreeMap<Uuid, Time>>,
    changed: bool,
}

/// A shard's place, as it is kept.
#[derive(Serialize, Deserialize)]
struct Cursor {
    at: Time,
    #[serde(default)]
    seen: HashMap<String, BTreeMap<Uuid, Time>>,
}

impl Outbox {
    /// The outbox of an app, from where an earlier run left it. Places are kept in `places`.
    ///
    /// # Errors
    /// When the places cannot be read.
    pub async fn open(app: App, places: Table, readers: Vec<Reader>) -> Result<Self> {
        let mut shards = Vec::new();
        for number in 0..SHARDS {
            let kept: Option<Cursor> = places.get(&key(number)).await?;
            let Cursor { at, seen } = kept.unwrap_or_else(|| Cursor { at: app.now(), seen: HashMap::new() });
            shards.push(Shard { number, at, seen, changed: true });
        }
        Ok(Self { app, places, readers, shards })
    }

    /// Runs until the platform stops.
    pub async fn run(mut self, mut stopping: Stopping) {
        let (mut busy_at, mut saved_at, mut faults) = (Instant::now(), Instant::now(), 0_u32);
        loop {
            match self.pass().await {
                Ok(found) => {
                    faults = 0;
                    busy_at = if found { Instant::now() } else { busy_at };
                }
                Err(error) => {
                    faults += 1;
                    tracing::error!(%error, faults, "events wait: a reader of the outbox failed and is tried again");
                }
            }
            let unsaved = self.shards.iter().any(|shard| shard.changed);
            if saved_at.elapsed() >= if unsaved { SAVE } else { SAVE_IDLE } && self.save().await {
                saved_at = Instant::now();
            }
            let pause = match faults {
                0 if unsaved && saved_at.elapsed() < SAVE => SAVE,
                0 if busy_at.elapsed() < LOOK_BACK => TICK,
                0 => IDLE,
                faults => (BACK_OFF * 2_u32.pow(faults.min(6) - 1)).min(IDLE),
            };
            tokio::select! {
                () = stopping.wait() => break,
                woken = self.pause(pause, faults == 0) => busy_at = if woken { Instant::now() } else { busy_at },
            }
        }
        self.save().await;
    }

    /// Waits, at most until the next commit. Says whether there was one.
    async fn pause(&self, longest: Duration, until_commit: bool) -> bool {
        if !until_commit {
            tokio::time::sleep(longest).await;
            return false;
        }
        let woken = tokio::time::timeout(longest, self.app.outbox_changed()).await.is_ok();
        if woken {
            tokio::time::sleep(GAP).await;
        }
        woken
    }

    /// Gives every event that is new to the readers. Says whether there was one.
    ///
    /// # Errors
    /// When the outbox cannot be read or a reader fails; the next pass begins at the same place.
    pub async fn pass(&mut self) -> Result<bool> {
        let (app, readers) = (&self.app, &self.readers);
        let passes = join_all(self.shards.iter_mut().map(|shard| shard.pass(app, readers))).await;
        passes.into_iter().try_fold(false, |found, pass| Ok(pass? || found))
    }

    /// Keeps the place of every shard. A place that is not kept is kept the next time.
    pub async fn save(&mut self) -> bool {
        let mut unit = Unit::new();
        for shard in &self.shards {
            match Row::new(key(shard.number), "cursor", &shard.cursor()) {
                Ok(row) => {
                    unit.put(row);
                }
                Err(error) => tracing::error!(%error, "a place in the outbox was not kept"),
            }
        }
        match self.places.commit(unit).await {
            Ok(()) => self.shards.iter_mut().for_each(|shard| shard.changed = false),
            Err(refusal) => {
                tracing::error!(error = %Error::from(refusal), "the places in the outbox were not kept");
                return false;
            }
        }
        true
    }
}

impl Shard {
    async fn pass(&mut self, app: &App, readers: &[Reader]) -> Result<bool> {
        let now = app.now();
        // A clock that was set back must not leave us waiting in the future.
        let from = (self.at.min(now) - LOOK_BACK).max(now - KEPT);
        let mut found = false;
        // A reader that failed waits for the next pass, so that its events keep their order.
        let mut faults: Vec<Option<Error>> = readers.iter().map(|_| None).collect();
        let mut walk = Walk::new(self.number, from, now);
        while let Some(events) = walk.next(&app.table).await? {
            for (reader, fault) in readers.iter().zip(&mut faults).filter(|(_, fault)| fault.is_none()) {
                let seen = self.seen.entry(reader.binary.clone()).or_default();
                let new: Vec<Event> = events.iter().filter(|event| !seen.contains_key(&event.id)).cloned().collect();
                found |= !new.is_empty();
                for batch in new.chunks(reader.batch.max(1)) {
                    match reader.read(app, batch.to_vec()).await {
                        Ok(()) => seen.extend(batch.iter().map(|event| (event.id, event.at))),
                        Err(error) => {
                            *fault = Some(error);
                            break;
                        }
                    }
                }
            }
        }
        self.changed |= found;
        if let Some(fault) = faults.into_iter().flatten().next() {
            return Err(fault);
        }
        self.at = now;
        // An id may be somewhat newer than the moment that its event carries.
        let oldest = now - LOOK_BACK - Duration::from_secs(5);
        self.seen.values_mut().for_each(|seen| seen.retain(|_, at| *at >= oldest));
        Ok(found)
    }

    fn cursor(&self) -> Cursor {
        // UUIDv7 sorts by time: the last ones are the newest.
        let newest =
            |seen: &BTreeMap<Uuid, Time>| seen.iter().rev().take(IDS_KEPT).map(|(id, at)| (*id, *at)).collect();
        Cursor { at: self.at, seen: self.seen.iter().map(|(reader, seen)| (reader.clone(), newest(seen))).collect() }
    }
}

impl Reader {
    /// Runs the worker in a task of its own, so that a panic is a failure and not the end of the stream.
    async fn read(&self, app: &App, events: Vec<Event>) -> Result<()> {
        let work = self.work;
        let mut run = tokio::spawn(work(app.clone(), events));
        let outcome = match tokio::time::timeout(self.timeout, &mut run).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Error::internal(panic)),
            Err(_) => {
                run.abort();
                Err(Error::internal("it ran into its time-out"))
            }
        };
        outcome.map_err(|error| Error::internal(format!("{}: {error}", self.binary)))
    }
}

fn key(shard: u8) -> Key {
    Key::new("CURSOR", format!("{shard:02}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use shared::domain::{Conversation, Workspace};
    use shared::http::gate::BoxFuture;
    use shared::kernel::{Code, Id};
    use shared::ports::queue::{Outgoing, QueueName};

    use super::*;
    use crate::bench::Bench;

    /// Readers note in the app's queues what they were given.
    impl Bench {
        async fn open(&self, second: Work<Vec<Event>, ()>) -> Outbox {
            let reader = |binary: &str, work| Reader { binary: binary.into(), batch: 2, timeout: GAP * 100, work };
            let readers = vec![reader("first", note_first as Work<Vec<Event>, ()>), reader("second", second)];
            Outbox::open(self.app.clone(), self.places.clone(), readers).await.unwrap()
        }

        /// Commits an event that carries a moment `late` before now.
        async fn commit(&self, name: &str, late: Duration) {
            let workspace: Id<Workspace> = self.app.ids().id();
            let mut event = self.app.events().custom(workspace, None, name, &serde_json::Map::new());
            event.at = self.app.now() - late;
            let millis = u64::try_from(event.at.millis()).unwrap();
            event.id = uuid::Builder::from_unix_timestamp_millis(millis, &self.app.rng.bytes()).into_uuid();
            let mut unit = Unit::new();
            shared::store::outbox::create(&mut unit, &event).unwrap();
            self.app.commit(unit).await.unwrap();
        }

        /// What the two readers were given since the last look, sorted.
        fn given(&self) -> [Vec<String>; 2] {
            [QueueName::Deliver, QueueName::UsageReport].map(|queue| {
                let mut names: Vec<String> = self.sent.take(queue).into_iter().map(|message| message.body).collect();
                names.sort();
                names
            })
        }
    }

    async fn note(app: App, queue: QueueName, events: Vec<Event>) -> Result<()> {
        let name = |event: &Event| event.data["name"].as_str().unwrap().to_owned();
        app.queue.send(queue, events.iter().map(|event| Outgoing::now(name(event))).collect()).await
    }

    fn note_first(app: App, events: Vec<Event>) -> BoxFuture<'static, Result<()>> {
        Box::pin(note(app, QueueName::Deliver, events))
    }

    fn note_second(app: App, events: Vec<Event>) -> BoxFuture<'static, Result<()>> {
        Box::pin(note(app, QueueName::UsageReport, events))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn each_reader_is_given_each_event_once_also_late_ones() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(note_second).await;
        assert!(!outbox.pass().await.unwrap());
        for name in ["a", "b", "c"] {
            bench.commit(name, Duration::ZERO).await;
        }
        assert!(outbox.pass().await.unwrap());
        assert_eq!(bench.given(), [["a", "b", "c"], ["a", "b", "c"]]);
        assert!(!outbox.pass().await.unwrap());
        // Past the minute, with one that was under way for long.
        bench.clock.advance(SECOND * 45);
        outbox.pass().await.unwrap();
        bench.commit("late", SECOND * 44).await;
        bench.clock.advance(SECOND * 15);
        outbox.pass().await.unwrap();
        assert_eq!(bench.given(), [["late"], ["late"]]);
        for _ in 0..10 {
            bench.clock.advance(SECOND * 20);
            assert!(!outbox.pass().await.unwrap());
        }
        assert!(outbox.shards.iter().all(|shard| shard.seen.values().all(BTreeMap::is_empty)), "nothing piles up");
    }

    #[tokio::test]
    async fn a_restart_goes_on_where_the_last_run_was_however_long_ago() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(note_second).await;
        bench.commit("before", Duration::ZERO).await;
        outbox.pass().await.unwrap();
        assert!(outbox.save().await);
        bench.commit("unread", Duration::ZERO).await;
        drop(outbox);
        bench.given();
        bench.clock.advance(SECOND * 1800);
        bench.commit("new", Duration::ZERO).await;
        let mut outbox = bench.open(note_second).await;
        outbox.pass().await.unwrap();
        assert_eq!(bench.given(), [["new", "unread"], ["new", "unread"]]);
    }

    #[tokio::test]
    async fn a_reader_that_fails_is_given_its_events_again_and_the_other_is_not() {
        static FAILS: AtomicBool = AtomicBool::new(true);
        fn moody(app: App, events: Vec<Event>) -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                if FAILS.load(Ordering::Relaxed) {
                    return Err(Error::new(Code::Unavailable));
                }
                note(app, QueueName::UsageReport, events).await
            })
        }
        let bench = Bench::new().await;
        let mut outbox = bench.open(moody).await;
        bench.commit("a", Duration::ZERO).await;
        assert!(outbox.pass().await.unwrap_err().to_string().contains("second"));
        bench.clock.advance(SECOND * 600);
        assert!(outbox.pass().await.is_err(), "its place is not lost");
        FAILS.store(false, Ordering::Relaxed);
        outbox.pass().await.unwrap();
        assert_eq!(bench.given(), [["a"], ["a"]]);
    }

    #[tokio::test]
    async fn after_three_hours_without_a_relay_nothing_is_lost_in_order_and_in_small_batches() {
        const THREADS: usize = 12;
        static LARGEST: AtomicUsize = AtomicUsize::new(0);
        fn counting(app: App, events: Vec<Event>) -> BoxFuture<'static, Result<()>> {
            LARGEST.fetch_max(events.len(), Ordering::Relaxed);
            note_second(app, events)
        }
        let bench = Bench::new().await;
        drop(bench.open(counting).await);
        let workspace: Id<Workspace> = bench.app.ids().id();
        let threads: Vec<Id<Conversation>> = (0..THREADS).map(|_| bench.app.ids().id()).collect();
        let mut said: Vec<Vec<String>> = vec![Vec::new(); THREADS];
        for minute in 0..180 {
            bench.clock.advance(SECOND * 60);
            for (number, thread) in threads.iter().enumerate().filter(|(number, _)| (minute + number) % 3 == 0) {
                for turn in 0..2 {
                    let name = format!("{number:02} {minute:03} {turn}");
                    let mut event = bench.app.events().custom(workspace, None, &name, &serde_json::Map::new());
                    event.data.insert("conversation".into(), serde_json::json!(thread));
                    let mut unit = Unit::new();
                    shared::store::outbox::create(&mut unit, &event).unwrap();
                    bench.app.commit(unit).await.unwrap();
                    said[number].push(name);
                }
            }
        }
        let mut outbox = bench.open(counting).await;
        // As if the relay had stopped three hours ago.
        outbox.shards.iter_mut().for_each(|shard| shard.at = bench.app.now() - SECOND * 3 * 3_600);
        outbox.pass().await.unwrap();
        let given: Vec<String> =
            bench.sent.take(QueueName::UsageReport).into_iter().map(|message| message.body).collect();
        for (number, said) in said.iter().enumerate() {
            let of_thread: Vec<&String> =
                given.iter().filter(|name| name.starts_with(&format!("{number:02} "))).collect();
            assert_eq!(of_thread, said.iter().collect::<Vec<_>>(), "each once, in order");
        }
        assert_eq!(given.len(), said.iter().map(Vec::len).sum::<usize>());
        assert_eq!(LARGEST.load(Ordering::Relaxed), 2, "never more at once than the reader takes");
        assert!(!outbox.pass().await.unwrap());
    }
}
