//! A queue as SQS may behave on a bad day: messages come twice, late, in any order, and again when nobody acknowledges
//! them in time; a send may fail, or be carried out and seem to have failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use shared::kernel::{Clock, Code, Error, ManualClock, Result, Rng, Time};
use shared::ports::queue::{DeadLetter, Death, Outgoing, Queue, QueueName};

/// How long a received message is hidden.
const VISIBILITY: Duration = Duration::from_secs(120);

/// How often each fault happens, in percent of all sends or receives.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueFaults {
    /// A send fails and nothing is sent.
    pub refused: u32,
    /// A send seems to fail, but all is sent.
    pub lost: u32,
    /// A message is sent twice.
    pub doubled: u32,
    /// A message comes up to five minutes later.
    pub late: u32,
}

/// A message that somebody has.
#[derive(Debug, Clone)]
pub struct Held {
    /// Names it.
    pub id: u64,
    /// From which queue.
    pub queue: QueueName,
    /// The text.
    pub body: String,
    /// How often it was received, this time included.
    pub receives: u32,
}

#[derive(Debug, Clone)]
struct Record {
    held: Held,
    visible_at: Time,
}

/// The queues.
pub struct Broker {
    clock: Arc<ManualClock>,
    rng: Rng,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: QueueFaults,
    next: u64,
    records: Vec<Record>,
    dead: Vec<(QueueName, DeadLetter)>,
}

impl Broker {
    /// Empty queues without faults.
    #[must_use]
    pub fn new(clock: Arc<ManualClock>, rng: Rng) -> Self {
        Self { clock, rng, state: Mutex::default() }
    }

    /// From now on, faults at these rates.
    pub fn set(&self, faults: QueueFaults) {
        self.state().faults = faults;
    }

    /// Receives up to `most` messages of any queue, in any order; they come again unless they are acknowledged.
    pub fn receive(&self, most: usize) -> Vec<Held> {
        let now = self.clock.now();
        let mut state = self.state();
        let mut visible: Vec<usize> =
            (0..state.records.len()).filter(|index| state.records[*index].visible_at <= now).collect();
        let mut received = Vec::new();
        while received.len() < most && !visible.is_empty() {
            let drawn = self.rng.below(u32::try_from(visible.len()).unwrap_or(u32::MAX)) as usize;
            let record = &mut state.records[visible.swap_remove(drawn)];
            record.visible_at = now + VISIBILITY;
            record.held.receives += 1;
            received.push(record.held.clone());
        }
        let dying = |held: &Held| held.receives > held.queue.tries();
        for held in received.extract_if(.., |held| dying(held)) {
            state.records.retain(|record| record.held.id != held.id);
            let death =
                Death { reason: "received too often".into(), tries: held.receives, sent_at: None, died_at: Some(now) };
            state.dead.push((held.queue, DeadLetter { id: held.id.to_string(), body: held.body, death }));
        }
        received
    }

    /// Ends a message.
    pub fn acknowledge(&self, id: u64) {
        self.state().records.retain(|record| record.held.id != id);
    }

    /// How many messages there are, visible or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dead letters of all queues.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadLetter> {
        self.state().dead.iter().map(|(_, letter)| letter.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, percent: u32) -> bool {
        self.rng.below(100) < percent
    }
}

#[async_trait]
impl Queue for Broker {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        let now = self.clock.now();
        let faults = self.state().faults;
        if self.happens(faults.refused) {
            return Err(Error::new(Code::Unavailable));
        }
        for message in messages {
            let times = if self.happens(faults.doubled) { 2 } else { 1 };
            for _ in 0..times {
                let late = if self.happens(faults.late) { self.rng.below(300) } else { 0 };
                let visible_at = now + message.delay + Duration::from_secs(u64::from(late));
                let mut state = self.state();
                state.next += 1;
                let held = Held { id: state.next, queue, body: message.body.clone(), receives: 0 };
                state.records.push(Record { held, visible_at });
            }
        }
        if self.happens(faults.lost) { Err(Error::new(Code::Unavailable)) } else { Ok(()) }
    }

    async fn again(&self, queue: QueueName, receipt: &str, wait: Duration) -> Result<()> {
        let visible_at = self.clock.now() + wait;
        let mut state = self.state();
        let held = |record: &&mut Record| record.held.queue == queue && record.held.id.to_string() == receipt;
        if let Some(record) = state.records.iter_mut().find(held) {
            record.visible_at = visible_at;
        }
        Ok(())
    }

    async fn bury(&self, queue: QueueName, body: &str, death: Death) -> Result<()> {
        let mut state = self.state();
        state.next += 1;
        let letter = DeadLetter { id: state.next.to_string(), body: body.to_owned(), death };
        state.dead.push((queue, letter));
        Ok(())
    }

    async fn dead_letters(&self, queue: QueueName, limit: usize) -> Result<Vec<DeadLetter>> {
        let state = self.state();
        let of_queue = state.dead.iter().filter(|(of, _)| *of == queue);
        Ok(of_queue.take(limit).map(|(_, letter)| letter.clone()).collect())
    }

    async fn replay(&self, queue: QueueName, id: Option<&str>) -> Result<usize> {
        let is_meant = |of: QueueName, letter: &DeadLetter| of == queue && id.is_none_or(|id| letter.id == id);
        let meant: Vec<_> = self.state().dead.extract_if(.., |(of, letter)| is_meant(*of, letter)).collect();
        let count = meant.len();
        self.send(queue, meant.into_iter().map(|(_, letter)| Outgoing::now(letter.body)).collect()).await?;
        Ok(count)
    }

    async fn discard(&self, queue: QueueName, id: &str) -> Result<()> {
        self.state().dead.retain(|(of, letter)| *of != queue || letter.id != id);
        Ok(())
    }
}
