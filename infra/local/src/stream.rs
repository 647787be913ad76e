//! What the table's stream is in production: gives every event of the outbox to each reader.
//!
//! Events that this process commits are given as they are told ([`shared::app::committed`]), without a read. What nobody
//! here can know of is found by looking at the outbox itself: at the start, what an earlier run left; after a commit
//! that was not answered; again after a reader failed; and now and then, one shard after the other, to be sure. (The
//! embedded engine's streams do not scale.)
//!
//! The place is a cursor per shard, kept beside the queues. An event may be written somewhat after the moment that it
//! carries, so each look goes back a minute before the cursor, and the ids of what was handled there are remembered.
//! They are not kept over a restart: readers take an event twice without harm. A reader that fails gets its events
//! again and holds back only its own shard and no other reader.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::domain::Event;
use shared::kernel::{Error, Result, Time};
use shared::store::keys::{SHARDS, shard_of_int};
use shared::store::outbox::{KEPT, Walk};
use shared::table::{Key, Row, Table, Unit};
use tokio::time::Instant;
use uuid::Uuid;

use crate::registry::Work;
use crate::stopping::Stopping;

/// How far behind the cursor an event may still appear.
const LOOK_BACK: Duration = Duration::from_secs(60);
/// How long events are gathered after the first, so that many commits make one batch.
const GATHER: Duration = Duration::from_millis(10);
/// How often a shard is looked at, as long as something was committed within [`LOOK_BACK`]. One shard at a time: readers
/// wait for a look, and all shards of a busy minute take a second.
const LOOK_BUSY: Duration = Duration::from_secs(30);
/// The same when nothing was; it only guards against what nobody thought of.
const LOOK_IDLE: Duration = Duration::from_secs(600);
/// The wait after a fault; it doubles up to a minute.
const BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// A reader of the outbox.
pub struct Reader {
    /// Its binary, for the log.
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
    /// How each reader stands, in their order.
    progress: Vec<Progress>,
}

/// What one reader has handled of a shard.
#[derive(Default)]
struct Progress {
    /// Of the time from [`LOOK_BACK`] before the shard's place: id and moment.
    seen: BTreeMap<Uuid, Time>,
    /// Whether it failed, so that what comes now has to wait until a look gives it what it missed, in order.
    is_behind: bool,
}

/// The shards' places, as they are kept.
#[derive(Serialize, Deserialize)]
struct Cursor {
    at: Vec<Time>,
}

impl Outbox {
    /// The outbox of an app, from where an earlier run left it. Places are kept in `places`.
    ///
    /// # Errors
    /// When the places cannot be read.
    pub async fn open(app: App, places: Table, readers: Vec<Reader>) -> Result<Self> {
        app.committed().listen();
        let kept: Option<Cursor> = places.get(&key()).await?;
        let (kept, now) = (kept.map(|cursor| cursor.at).unwrap_or_default(), app.now());
        let shard = |number: u8| Shard {
            number,
            at: kept.get(usize::from(number)).copied().unwrap_or(now),
            progress: readers.iter().map(|_| Progress::default()).collect(),
        };
        let shards = (0..SHARDS).map(shard).collect();
        Ok(Self { app, places, readers, shards })
    }

    /// Runs until the platform stops.
    pub async fn run(mut self, mut stopping: Stopping) {
        let (mut look_at, mut busy_at, mut faults) = (Instant::now(), Instant::now(), 0_u32);
        // Nobody knows what an earlier run left, so the first look is at every shard.
        let (mut whole, mut turns) = (true, (0..SHARDS).cycle());
        loop {
            if look_at <= Instant::now() {
                match self.look_now(whole, &mut turns).await {
                    Ok(found) => {
                        (whole, faults) = (false, 0);
                        busy_at = if found { Instant::now() } else { busy_at };
                        let round = if busy_at.elapsed() < LOOK_BACK { LOOK_BUSY } else { LOOK_IDLE };
                        look_at = Instant::now() + round / u32::from(SHARDS);
                    }
                    Err(error) => {
                        tracing::error!(%error, faults, "events wait: a reader of the outbox failed and is tried again");
                        look_at = Instant::now() + (BACK_OFF * 2_u32.pow(faults.min(6))).min(LONGEST_BACK_OFF);
                        (whole, faults) = (true, faults + 1);
                    }
                }
                self.save().await;
            }
            tokio::select! {
                () = stopping.wait() => break,
                () = tokio::time::sleep_until(look_at) => continue,
                () = self.app.committed().wait() => {}
            }
            // Nothing may end this wait: what was heard of is not told again.
            tokio::time::sleep(GATHER).await;
            let told = self.app.committed().take();
            busy_at = Instant::now();
            let given = self.give(&told.events).await;
            if let Err(error) = &given {
                tracing::warn!(%error, "a reader of the outbox failed; it is given its events again");
            }
            whole |= given.is_err() || told.is_unsure;
            let soonest = busy_at + if whole { BACK_OFF } else { LOOK_BUSY / u32::from(SHARDS) };
            // A look that failed keeps its own pause.
            look_at = if faults == 0 { look_at.min(soonest) } else { look_at };
        }
        self.save().await;
    }

    /// Looks at every shard, or at the next in turn.
    async fn look_now(&mut self, whole: bool, turns: &mut impl Iterator<Item = u8>) -> Result<bool> {
        if whole {
            // The look has it all.
            drop(self.app.committed().take());
            return self.look().await;
        }
        let number = turns.next().map_or(0, usize::from);
        self.shards[number].look(&self.app, &self.readers).await
    }

    /// Gives events to the readers, each unless it was given before.
    ///
    /// # Errors
    /// When a reader fails: what it did not take comes with the next look.
    pub async fn give(&mut self, events: &[Event]) -> Result<()> {
        let app = &self.app;
        let mut columns: Vec<Vec<&mut Progress>> = self.readers.iter().map(|_| Vec::new()).collect();
        for shard in &mut self.shards {
            columns.iter_mut().zip(&mut shard.progress).for_each(|(column, progress)| column.push(progress));
        }
        let readers = self.readers.iter().zip(columns).map(|(reader, shards)| reader.take_new(app, events, shards));
        join_all(readers).await.into_iter().collect()
    }

    /// Looks at every shard, and gives what is new there to the readers. Says whether there was anything.
    ///
    /// # Errors
    /// When the outbox cannot be read or a reader fails; the next look begins at the same place.
    pub async fn look(&mut self) -> Result<bool> {
        let (app, readers) = (&self.app, &self.readers);
        let looks = join_all(self.shards.iter_mut().map(|shard| shard.look(app, readers))).await;
        looks.into_iter().try_fold(false, |found, look| Ok(look? || found))
    }

    /// Keeps the place of every shard. A place that is not kept is kept the next time.
    pub async fn save(&mut self) {
        let cursor = Cursor { at: self.shards.iter().map(|shard| shard.at).collect() };
        let mut unit = Unit::new();
        let kept = async {
            unit.put(Row::new(key(), "cursor", &cursor)?);
            self.places.commit(unit).await.map_err(Error::from)
        };
        if let Err(error) = kept.await {
            tracing::error!(%error, "the places in the outbox were not kept");
        }
    }
}

impl Shard {
    async fn look(&mut self, app: &App, readers: &[Reader]) -> Result<bool> {
        let now = app.now();
        // A clock that was set back must not leave us waiting in the future.
        let from = (self.at.min(now) - LOOK_BACK).max(now - KEPT);
        let mut found = false;
        // A reader that failed waits for the next look, so that its events keep their order.
        let mut faults: Vec<Option<Error>> = readers.iter().map(|_| None).collect();
        let mut walk = Walk::new(self.number, from, now);
        loop {
            let events = match walk.next(&app.table).await {
                Ok(Some(events)) => events,
                Ok(None) => break,
                Err(error) => {
                    // Nobody knows what comes before that which is told from now on.
                    self.progress.iter_mut().for_each(|progress| progress.is_behind = true);
                    return Err(error);
                }
            };
            let each = readers.iter().zip(&mut self.progress).zip(&mut faults);
            for ((reader, progress), fault) in each.filter(|(_, fault)| fault.is_none()) {
                let new: Vec<Event> =
                    events.iter().filter(|event| !progress.seen.contains_key(&event.id)).cloned().collect();
                found |= !new.is_empty();
                for batch in new.chunks(reader.batch.max(1)) {
                    match reader.read(app, batch.to_vec()).await {
                        Ok(()) => progress.seen.extend(batch.iter().map(|event| (event.id, event.at))),
                        Err(error) => {
                            *fault = Some(error);
                            break;
                        }
                    }
                }
            }
        }
        self.progress.iter_mut().zip(&faults).for_each(|(progress, fault)| progress.is_behind = fault.is_some());
        if let Some(fault) = faults.into_iter().flatten().next() {
            return Err(fault);
        }
        self.at = now;
        // An id may be somewhat newer than the moment that its event carries.
        let oldest = now - LOOK_BACK - Duration::from_secs(5);
        self.progress.iter_mut().for_each(|progress| progress.seen.retain(|_, at| *at >= oldest));
        Ok(found)
    }
}

impl Reader {
    /// Takes what it was not given before, in batches over all shards but for those that it is behind in. After a fault
    /// each shard of the batch is tried by itself, so that only those fall behind that must.
    async fn take_new(&self, app: &App, events: &[Event], mut shards: Vec<&mut Progress>) -> Result<()> {
        let place = |event: &Event| usize::from(shard_of_int(event.thread()));
        let new: Vec<&Event> =
            events.iter().filter(|event| !shards[place(event)].seen.contains_key(&event.id)).collect();
        let mut fault = None;
        for batch in new.chunks(self.batch.max(1)) {
            let batch: Vec<Event> =
                batch.iter().filter(|event| !shards[place(event)].is_behind).map(|event| (*event).clone()).collect();
            if batch.is_empty() {
                continue;
            }
            if self.read(app, batch.clone()).await.is_ok() {
                for event in &batch {
                    shards[place(event)].seen.insert(event.id, event.at);
                }
                continue;
            }
            let mut by_shard: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
            batch.into_iter().for_each(|event| by_shard.entry(place(&event)).or_default().push(event));
            for (number, events) in by_shard {
                let took: Vec<_> = events.iter().map(|event| (event.id, event.at)).collect();
                match self.read(app, events).await {
                    Ok(()) => shards[number].seen.extend(took),
                    Err(error) => {
                        shards[number].is_behind = true;
                        fault = Some(error);
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

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

fn key() -> Key {
    Key::new("CURSOR", "outbox")
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
            let reader =
                |binary: &str, work| Reader { binary: binary.into(), batch: 2, timeout: Duration::from_secs(4), work };
            let readers = vec![reader("first", note_first as Work<Vec<Event>, ()>), reader("second", second)];
            Outbox::open(self.app.clone(), self.places.clone(), readers).await.unwrap()
        }

        /// Commits an event that carries a moment `late` before now.
        async fn commit(&self, name: &str, late: Duration) {
            self.app.commit(self.unit(name, late)).await.unwrap();
        }

        fn unit(&self, name: &str, late: Duration) -> Unit {
            let workspace: Id<Workspace> = self.app.ids().id();
            let mut event = self.app.events().custom(workspace, None, name, &serde_json::Map::new());
            event.at = self.app.now() - late;
            let millis = u64::try_from(event.at.millis()).unwrap();
            event.id = uuid::Builder::from_unix_timestamp_millis(millis, &self.app.rng.bytes()).into_uuid();
            let mut unit = Unit::new();
            shared::store::outbox::create(&mut unit, &event).unwrap();
            unit
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

    /// Whether the second reader fails, in the tests that want it to; each has its own.
    static FAILS: [AtomicBool; 2] = [const { AtomicBool::new(true) }; 2];

    fn moody<const TEST: usize>(app: App, events: Vec<Event>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            if FAILS[TEST].load(Ordering::Relaxed) {
                return Err(Error::new(Code::Unavailable));
            }
            note(app, QueueName::UsageReport, events).await
        })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn each_reader_is_given_each_event_once_also_late_ones() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(note_second).await;
        assert!(!outbox.look().await.unwrap());
        for name in ["a", "b", "c"] {
            bench.commit(name, Duration::ZERO).await;
        }
        assert!(outbox.look().await.unwrap());
        assert_eq!(bench.given(), [["a", "b", "c"], ["a", "b", "c"]]);
        assert!(!outbox.look().await.unwrap());
        // Past the minute, with one that was under way for long.
        bench.clock.advance(SECOND * 45);
        outbox.look().await.unwrap();
        bench.commit("late", SECOND * 44).await;
        bench.clock.advance(SECOND * 15);
        outbox.look().await.unwrap();
        assert_eq!(bench.given(), [["late"], ["late"]]);
        for _ in 0..10 {
            bench.clock.advance(SECOND * 20);
            assert!(!outbox.look().await.unwrap());
        }
        let mut progress = outbox.shards.iter().flat_map(|shard| &shard.progress);
        assert!(progress.all(|progress| progress.seen.is_empty()), "nothing piles up");
    }

    #[tokio::test]
    async fn what_is_committed_here_is_given_once_and_without_a_read() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(note_second).await;
        for name in ["a", "b", "c"] {
            bench.commit(name, Duration::ZERO).await;
        }
        let told = bench.app.committed().take();
        assert!(!told.is_unsure);
        bench.app.table.meter().record();
        outbox.give(&told.events).await.unwrap();
        outbox.give(&told.events).await.unwrap();
        assert_eq!(bench.app.table.meter().take().len(), 0);
        assert_eq!(bench.given(), [["a", "b", "c"], ["a", "b", "c"]]);
        assert!(!outbox.look().await.unwrap(), "the look finds nothing else");
        assert!(bench.app.committed().take().events.is_empty());
    }

    #[tokio::test]
    async fn looks_in_turn_find_what_was_not_told_and_leave_what_was() {
        let bench = Bench::new().await;
        let (mut outbox, mut turns) = (bench.open(note_second).await, (0..SHARDS).cycle());
        for number in 0..40 {
            let unit = bench.unit(&format!("{number:02}"), Duration::ZERO);
            if number % 2 == 0 {
                bench.app.commit(unit).await.unwrap();
            } else {
                bench.app.table.commit(unit).await.unwrap();
            }
        }
        outbox.look_now(false, &mut turns).await.unwrap();
        let told = bench.app.committed().take();
        assert_eq!(told.events.len(), 20, "a look at one shard must not lose what belongs to the others");
        outbox.give(&told.events).await.unwrap();
        for _ in 1..SHARDS {
            outbox.look_now(false, &mut turns).await.unwrap();
        }
        let all: Vec<String> = (0..40).map(|number| format!("{number:02}")).collect();
        assert_eq!(bench.given(), [all.clone(), all], "each once");
    }

    #[tokio::test]
    async fn a_reader_that_failed_is_given_nothing_of_the_shard_before_what_it_missed() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(moody::<0>).await;
        let (workspace, mut names) = (bench.app.ids().id(), Vec::new());
        for number in 0..4 {
            bench.clock.advance(Duration::from_millis(5));
            let event = bench.app.events().custom(workspace, None, &format!("{number}"), &serde_json::Map::new());
            let mut unit = Unit::new();
            shared::store::outbox::create(&mut unit, &event).unwrap();
            bench.app.commit(unit).await.unwrap();
            names.push(format!("{number}"));
            // The second fails; those after it are told while it is behind.
            FAILS[0].store(number == 1, Ordering::Relaxed);
            let told = bench.app.committed().take();
            assert_eq!(outbox.give(&told.events).await.is_err(), number == 1);
        }
        outbox.look().await.unwrap();
        for queue in [QueueName::Deliver, QueueName::UsageReport] {
            let given: Vec<String> = bench.sent.take(queue).into_iter().map(|message| message.body).collect();
            assert_eq!(given, names, "each once, in order");
        }
    }

    #[tokio::test]
    async fn a_restart_goes_on_where_the_last_run_was_however_long_ago() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(note_second).await;
        bench.commit("before", Duration::ZERO).await;
        outbox.look().await.unwrap();
        outbox.save().await;
        bench.commit("unread", Duration::ZERO).await;
        drop(outbox);
        bench.given();
        bench.clock.advance(SECOND * 1800);
        bench.commit("new", Duration::ZERO).await;
        let mut outbox = bench.open(note_second).await;
        outbox.look().await.unwrap();
        let all = ["before", "new", "unread"];
        assert_eq!(bench.given(), [all, all], "the minute before its end comes twice");
    }

    #[tokio::test]
    async fn a_reader_that_fails_is_given_its_events_again_and_the_other_is_not() {
        let bench = Bench::new().await;
        let mut outbox = bench.open(moody::<1>).await;
        bench.commit("a", Duration::ZERO).await;
        assert!(outbox.look().await.unwrap_err().to_string().contains("second"));
        bench.clock.advance(SECOND * 600);
        assert!(outbox.look().await.is_err(), "its place is not lost");
        FAILS[1].store(false, Ordering::Relaxed);
        outbox.look().await.unwrap();
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
        outbox.look().await.unwrap();
        let given: Vec<String> =
            bench.sent.take(QueueName::UsageReport).into_iter().map(|message| message.body).collect();
        for (number, said) in said.iter().enumerate() {
            let of_thread: Vec<&String> =
                given.iter().filter(|name| name.starts_with(&format!("{number:02} "))).collect();
            assert_eq!(of_thread, said.iter().collect::<Vec<_>>(), "each once, in order");
        }
        assert_eq!(given.len(), said.iter().map(Vec::len).sum::<usize>());
        assert_eq!(LARGEST.load(Ordering::Relaxed), 2, "never more at once than the reader takes");
        assert!(!outbox.look().await.unwrap());
    }
}
