//! Queues on the embedded database, so that messages survive a kill. They do what SQS does for us: a delay, a time
//! during which a received message is hidden, a count of receives, and dead letters.
//!
//! This process alone sends and receives, so it knows what waits (`waiting`): a message costs a write when it is sent
//! and one when it is done, and those in between only when its work failed. After a kill, what workers held can be
//! received at once: nobody works on it any more, and that it was received is forgotten. (A message whose work ends the
//! whole process is so never given up here; SQS counts it.)
//!
//! | entity | pk | sk | gsi1 |
//! | --- | --- | --- | --- |
//! | message | `Q#<queue>` | `<message id>` | only dead letters: `DEAD#<queue>` / died at, id |
//! | places in the outbox (see `stream`) | `CURSOR` | `outbox` | |

mod forget;
mod waiting;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shared::kernel::{Clock, Code, Cursor, Error, Ids, Result, Rng, Time};
use shared::ports::queue::{
    DeadLetter, Death, MAX_DEAD, MAX_DELAY, MAX_LISTED, Outgoing, Queue, QueueName, WORKER_ENDED,
};
use shared::store::keys::moment;
use shared::table::{Cond, Index, Key, Query, Refusal, Row, Table, Unit, Update, decode};
use tokio::sync::Notify;

pub use self::forget::forget;
use self::waiting::{Line, Waiting};
use crate::template::QueueSpec;

/// The largest message here. SQS takes a mebibyte, an item of the table 400 KB; ours stay far below both.
const MAX_BYTES: usize = 350 * 1024;
/// How many messages are written in one transaction.
const CHUNK: usize = 25;
/// How many messages are read at a time when the platform starts.
const PAGE: usize = 1_000;
/// When a message comes again that could not be read.
const AGAIN: Duration = Duration::from_secs(2);

/// The queues of the template.
pub struct LocalQueue {
    table: Table,
    clock: Arc<dyn Clock>,
    ids: Ids,
    queues: HashMap<QueueName, Here>,
}

struct Here {
    spec: QueueSpec,
    line: Mutex<Line>,
    sent: Notify,
}

impl Here {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    body: String,
    sent_at: Time,
    /// When somebody may receive it.
    visible_at: Time,
    /// How often it was received, as far as that came to nothing.
    #[serde(default)]
    receives: u32,
    /// When it was given up; only a dead letter has it.
    #[serde(default)]
    died_at: Option<Time>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl Record {
    fn into_waiting(self) -> Waiting {
        let Self { id, body, sent_at, visible_at, receives, .. } = self;
        Waiting { id, body: Some(body), sent_at, visible_at, receives }
    }

    fn into_letter(self) -> DeadLetter {
        let reason = self.reason.unwrap_or_else(|| WORKER_ENDED.to_owned());
        let death = Death { reason, tries: self.receives, sent_at: Some(self.sent_at), died_at: self.died_at };
        DeadLetter { id: self.id, body: self.body, death }
    }
}

/// A message that was received: whoever has it deletes it or lets it come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub id: String,
    /// The text.
    pub body: String,
    /// When it was sent.
    pub sent_at: Time,
    /// How often it was received, this time included.
    pub receives: u32,
}

impl LocalQueue {
    /// The queues, kept in `table`, with everything that an earlier run left.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn open(table: Table, clock: Arc<dyn Clock>, rng: Rng, specs: &[QueueSpec]) -> Result<Self> {
        let here = |spec: &QueueSpec| Here { spec: spec.clone(), line: Mutex::default(), sent: Notify::new() };
        let queues = specs.iter().map(|spec| (spec.name, here(spec))).collect();
        let queue = Self { table, ids: Ids::new(Arc::clone(&clock), rng), clock, queues };
        for (name, here) in &queue.queues {
            let mut after = None;
            loop {
                let (records, more) = page(&queue.table, *name, after.as_ref()).await?;
                let alive = records.into_iter().filter(|record| record.died_at.is_none());
                alive.for_each(|record| here.line().put(record.into_waiting()));
                after = more;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(queue)
    }

    /// Receives up to `most` messages, the longest visible first, and hides them for the queue's visibility time-out.
    /// What was received too often already becomes a dead letter instead.
    ///
    /// # Errors
    /// `not_configured` for a queue that the template lacks, or when the table cannot be read or written.
    pub async fn receive(&self, name: QueueName, most: usize) -> Result<Vec<Received>> {
        let here = self.here(name)?;
        let mut received = Vec::new();
        while received.is_empty() {
            let now = self.clock.now();
            let found = here.line().receive(most, now, now + here.spec.visibility);
            if found.is_empty() {
                break;
            }
            let mut fault = None;
            for message in found {
                match self.take(here, &message, now).await {
                    Ok(taken) => received.extend(taken),
                    Err(error) => {
                        // As if it had not been received: nobody has it.
                        let receives = message.receives - 1;
                        here.line().put(Waiting { visible_at: now + AGAIN, receives, ..message });
                        fault = Some(error);
                    }
                }
            }
            if let Some(error) = fault.filter(|_| received.is_empty()) {
                return Err(error);
            }
        }
        Ok(received)
    }

    /// A message that is received, unless it is given up or gone.
    async fn take(&self, here: &Here, message: &Waiting, now: Time) -> Result<Option<Received>> {
        if message.receives > here.spec.max_receives {
            self.give_up(here, message, now).await?;
            return Ok(None);
        }
        let Some(body) = self.body(here.spec.name, message).await? else {
            // The table forgets what is older than the queue's retention.
            here.line().remove(&message.id);
            return Ok(None);
        };
        let Waiting { id, sent_at, receives, .. } = message.clone();
        Ok(Some(Received { id, body, sent_at, receives }))
    }

    /// The text of a message; `None` when it is gone.
    async fn body(&self, name: QueueName, message: &Waiting) -> Result<Option<String>> {
        if let Some(body) = &message.body {
            return Ok(Some(body.clone()));
        }
        let record: Option<Record> = self.table.get(&key(name, &message.id)).await?;
        Ok(record.map(|record| record.body))
    }

    /// The redrive policy: what its workers neither did nor buried.
    async fn give_up(&self, here: &Here, message: &Waiting, now: Time) -> Result<()> {
        let (queue, id, receives) = (here.spec.name.as_str(), &message.id, message.receives - 1);
        tracing::error!(queue, id, receives, "a message was given up: its worker ended before it was done, each time");
        let update = Update::new(key(here.spec.name, id))
            .set("receives", receives)
            .set("died_at", now)
            .set("reason", WORKER_ENDED)
            .set("gsi1pk", dead_partition(here.spec.name))
            .set("gsi1sk", position(now, id))
            .set("ttl", (now + here.spec.dead_retention).seconds());
        self.change(update).await?;
        here.line().remove(id);
        Ok(())
    }

    /// Changes a message, unless it is gone.
    async fn change(&self, update: Update) -> Result<()> {
        match self.table.update(update, Some(Cond::existing()), Error::not_found()).await {
            Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
            Err(Refusal::Error(error)) => Err(error),
        }
    }

    /// Ends messages whose work is done.
    ///
    /// # Errors
    /// When the table cannot be written; the messages then come again.
    pub async fn delete(&self, name: QueueName, ids: impl IntoIterator<Item = &str>) -> Result<()> {
        let (here, ids) = (self.here(name)?, ids.into_iter().collect::<Vec<&str>>());
        for chunk in ids.chunks(CHUNK) {
            let mut unit = Unit::new();
            for id in chunk {
                unit.delete(key(name, id));
            }
            self.table.commit(unit).await?;
            let mut line = here.line();
            chunk.iter().for_each(|id| drop(line.remove(id)));
        }
        Ok(())
    }

    /// Lets go of messages whose work failed. They come again when their visibility time-out ends or when
    /// [`Queue::again`] said, as with SQS, also after a restart.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn release(&self, name: QueueName, ids: impl IntoIterator<Item = &str>) -> Result<()> {
        let here = self.here(name)?;
        for id in ids {
            let Some(Waiting { visible_at, receives, .. }) = here.line().get(id).cloned() else { continue };
            let update = Update::new(key(name, id)).set("receives", receives).set("visible_at", visible_at);
            self.change(update).await?;
        }
        Ok(())
    }

    /// When the next message becomes visible; `None` when there is none.
    ///
    /// # Errors
    /// `not_configured` for a queue that the template lacks.
    pub fn next_visible(&self, name: QueueName) -> Result<Option<Time>> {
        Ok(self.here(name)?.line().next_visible())
    }

    /// Makes a dead letter a message like any other.
    async fn revive(&self, here: &Here, id: &str) -> Result<()> {
        let (spec, now) = (&here.spec, self.clock.now());
        let update = Update::new(key(spec.name, id))
            .set("visible_at", now)
            .set("receives", 0)
            .set("ttl", (now + spec.retention).seconds())
            .remove("gsi1pk")
            .remove("gsi1sk")
            .remove("died_at")
            .remove("reason");
        let item = self.table.update(update, Some(is_dead()), Error::not_found()).await?;
        here.line().put(decode::<Record>(item)?.into_waiting());
        Ok(())
    }

    /// Waits until something was sent since the last wait.
    ///
    /// # Errors
    /// `not_configured` for a queue that the template lacks.
    pub async fn sent(&self, name: QueueName) -> Result<()> {
        self.here(name)?.sent.notified().await;
        Ok(())
    }

    fn here(&self, name: QueueName) -> Result<&Here> {
        let lacks =
            || Error::new(Code::NotConfigured).caused_by(format!("template.yaml has no queue {}", name.as_str()));
        self.queues.get(&name).ok_or_else(lacks)
    }
}

/// Whether a queue holds any message, for whoever looks at its table from outside; dead letters do not count.
///
/// # Errors
/// When the table cannot be read.
pub async fn is_empty(table: &Table, name: QueueName) -> Result<bool> {
    let mut after = None;
    loop {
        let (records, more) = page(table, name, after.as_ref()).await?;
        if records.iter().any(|record| record.died_at.is_none()) {
            return Ok(false);
        }
        after = more;
        if after.is_none() {
            return Ok(true);
        }
    }
}

/// Some records of a queue, its dead among them, and where to go on.
async fn page(table: &Table, name: QueueName, after: Option<&Cursor>) -> Result<(Vec<Record>, Option<Cursor>)> {
    let query = Query::partition(Index::Main, partition(name));
    Ok(table.query(&query.after(after), PAGE).await?.readable(decode))
}

fn partition(name: QueueName) -> String {
    format!("Q#{}", name.as_str())
}

fn dead_partition(name: QueueName) -> String {
    format!("DEAD#{}", name.as_str())
}

/// The condition that a message was given up.
fn is_dead() -> Cond {
    Cond::present("died_at")
}

fn key(name: QueueName, id: &str) -> Key {
    Key::new(partition(name), id)
}

fn position(at: Time, id: &str) -> String {
    format!("{}#{id}", moment(at))
}

/// Refuses what SQS, or this table, would refuse. To break a limit is a fault of ours, not of a caller.
fn check(name: QueueName, messages: &[Outgoing]) -> Result<()> {
    let fits = |message: &Outgoing| (1..=MAX_BYTES).contains(&message.body.len()) && message.delay <= MAX_DELAY;
    match messages.iter().find(|message| !fits(message)) {
        None => Ok(()),
        Some(Outgoing { body, delay }) => {
            let (queue, bytes) = (name.as_str(), body.len());
            Err(Error::internal(format!("a message for {queue} has {bytes} bytes and is delayed by {delay:?}")))
        }
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        let here = self.here(queue)?;
        check(queue, &messages)?;
        for chunk in messages.chunks(CHUNK) {
            let (mut unit, mut sent) = (Unit::new(), Vec::with_capacity(chunk.len()));
            for message in chunk {
                let now = self.clock.now();
                let (id, visible_at) = (self.ids.uuid().to_string(), now + message.delay);
                let (key, body) = (key(queue, &id), message.body.clone());
                let record = Record { id, body, sent_at: now, visible_at, receives: 0, died_at: None, reason: None };
                unit.create_fresh(Row::new(key, "message", &record)?.ttl(now + here.spec.retention));
                sent.push(record.into_waiting());
            }
            let outcome = self.table.commit(unit).await;
            // What may be written is given too: its sender will send it again, and twice is better than at the next start.
            if !matches!(outcome, Err(Refusal::Conditions(_))) {
                let mut line = here.line();
                sent.into_iter().for_each(|message| line.put(message));
                here.sent.notify_one();
            }
            outcome?;
        }
        Ok(())
    }

    async fn again(&self, queue: QueueName, receipt: &str, wait: Duration) -> Result<()> {
        // What its worker lets go of afterwards keeps this time ([`LocalQueue::release`]). Sooner, never later: a developer
        // may have set a short time-out.
        let here = self.here(queue)?;
        here.line().hide(receipt, self.clock.now() + wait.min(here.spec.visibility));
        Ok(())
    }

    async fn bury(&self, queue: QueueName, body: &str, death: Death) -> Result<()> {
        let (spec, now) = (&self.here(queue)?.spec, self.clock.now());
        let (id, died_at) = (self.ids.uuid().to_string(), death.died_at.unwrap_or(now));
        let (key, position) = (key(queue, &id), position(died_at, &id));
        let record = Record {
            id,
            body: body.to_owned(),
            sent_at: death.sent_at.unwrap_or(died_at),
            visible_at: died_at,
            receives: death.tries,
            died_at: Some(died_at),
            reason: Some(death.reason),
        };
        let row = Row::new(key, "message", &record)?.gsi1(dead_partition(queue), position);
        let mut unit = Unit::new();
        unit.create_fresh(row.ttl(now + spec.dead_retention));
        self.table.commit(unit).await.map_err(Into::into)
    }

    async fn dead_letters(&self, queue: QueueName, limit: usize) -> Result<Vec<DeadLetter>> {
        self.here(queue)?;
        let query = Query::partition(Index::Gsi1, dead_partition(queue));
        let items = self.table.query(&query, limit.min(MAX_LISTED)).await?.items;
        items.into_iter().map(|item| decode::<Record>(item).map(Record::into_letter)).collect()
    }

    async fn replay(&self, queue: QueueName, id: Option<&str>) -> Result<usize> {
        let here = self.here(queue)?;
        let mut revived = 0;
        match id {
            Some(id) => {
                self.revive(here, id).await?;
                revived = 1;
            }
            None => {
                for letter in self.dead_letters(queue, MAX_DEAD).await? {
                    match self.revive(here, &letter.id).await {
                        Ok(()) => revived += 1,
                        // Somebody else was first.
                        Err(error) if error.code() == Code::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        here.sent.notify_one();
        Ok(revived)
    }

    async fn discard(&self, queue: QueueName, id: &str) -> Result<()> {
        self.here(queue)?;
        let mut unit = Unit::new();
        unit.delete_if(key(queue, id), is_dead(), Error::not_found());
        self.table.commit(unit).await.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::table::fault::{Faults, Rates};

    use super::*;
    use crate::bench::Bench;

    const NAME: QueueName = QueueName::Deliver;
    const SECOND: Duration = Duration::from_secs(1);

    fn delayed(body: &str, seconds: u64) -> Outgoing {
        Outgoing { body: body.into(), delay: SECOND * u32::try_from(seconds).unwrap() }
    }

    async fn bodies(queue: &LocalQueue) -> Vec<String> {
        queue.receive(NAME, 10).await.unwrap().into_iter().map(|message| message.body).collect()
    }

    #[tokio::test]
    async fn a_message_is_received_once_when_it_is_due() {
        let bench = Bench::new().await;
        let queue = bench.queues().await;
        queue.send(NAME, vec![delayed("late", 30), Outgoing::now("now")]).await.unwrap();
        assert_eq!(bodies(&queue).await, ["now"]);
        assert!(bodies(&queue).await.is_empty());
        assert!(!is_empty(&bench.places, NAME).await.unwrap(), "one is late, one is being worked on");
        assert!(is_empty(&bench.places, QueueName::UsageReport).await.unwrap());
        assert_eq!(queue.next_visible(NAME).unwrap(), Some(bench.clock.now() + SECOND * 30));
        bench.clock.advance(SECOND * 30);
        assert_eq!(bodies(&queue).await, ["late"]);
        assert!(queue.receive(QueueName::UsageReport, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_not_deleted_comes_again_after_its_time_out_and_ends_among_the_dead() {
        let bench = Bench::new().await;
        let queue = bench.queues().await;
        let spec = queue.here(NAME).unwrap().spec.clone();
        queue.send(NAME, vec![Outgoing::now("bad"), Outgoing::now("good")]).await.unwrap();
        for round in 1..=spec.max_receives {
            let received = queue.receive(NAME, 10).await.unwrap();
            assert!(received.iter().all(|message| message.receives == round));
            let (good, bad): (Vec<_>, Vec<_>) = received.iter().partition(|message| message.body == "good");
            assert_eq!((bad.len(), good.len()), (1, usize::from(round == 1)));
            queue.delete(NAME, good.iter().map(|message| message.id.as_str())).await.unwrap();
            queue.release(NAME, bad.iter().map(|message| message.id.as_str())).await.unwrap();
            bench.clock.advance(spec.visibility - SECOND);
            assert!(bodies(&queue).await.is_empty(), "hidden for the whole time-out");
            bench.clock.advance(SECOND);
        }
        assert!(bodies(&queue).await.is_empty());
        let letters = queue.dead_letters(NAME, 10).await.unwrap();
        assert_eq!((letters.len(), letters[0].body.as_str()), (1, "bad"));
        let Death { reason, tries, died_at, .. } = &letters[0].death;
        assert_eq!((reason.as_str(), *tries, *died_at), (WORKER_ENDED, spec.max_receives, Some(bench.clock.now())));
        assert_eq!(queue.next_visible(NAME).unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_to_come_again_sooner_does_also_after_a_restart() {
        let bench = Bench::new().await;
        let queue = bench.queues().await;
        queue.send(NAME, vec![Outgoing::now("soon")]).await.unwrap();
        let received = queue.receive(NAME, 10).await.unwrap();
        queue.again(NAME, &received[0].id, SECOND * 60).await.unwrap();
        queue.release(NAME, [received[0].id.as_str()]).await.unwrap();
        for queue in [queue, bench.queues().await] {
            assert_eq!(queue.next_visible(NAME).unwrap(), Some(bench.clock.now() + SECOND * 60));
        }
        bench.clock.advance(SECOND * 60);
        let restarted = bench.queues().await;
        assert_eq!(bodies(&restarted).await, ["soon"]);
    }

    #[tokio::test]
    async fn a_fault_of_the_table_takes_no_message_from_those_received_with_it() {
        let (bench, faults) = (Bench::new().await, Faults::new(Rng::seeded(3)));
        let queue = bench.queues_through(&faults).await;
        let spec = queue.here(NAME).unwrap().spec.clone();
        queue.send(NAME, vec![Outgoing::now("worn out")]).await.unwrap();
        for _ in 0..spec.max_receives {
            assert_eq!(queue.receive(NAME, 10).await.unwrap().len(), 1);
            bench.clock.advance(spec.visibility);
        }
        queue.send(NAME, vec![Outgoing::now("fresh")]).await.unwrap();
        faults.set(Rates { failed: 1_000, ..Rates::default() });
        assert_eq!(bodies(&queue).await, ["fresh"], "the other one could not be given up, and waits");
        bench.clock.advance(AGAIN);
        assert!(queue.receive(NAME, 10).await.is_err());
        faults.set(Rates::default());
        bench.clock.advance(AGAIN);
        assert!(bodies(&queue).await.is_empty());
        let letters = queue.dead_letters(NAME, 10).await.unwrap();
        assert_eq!((letters.len(), letters[0].death.tries), (1, spec.max_receives), "the faults cost it no try");
    }

    #[tokio::test]
    async fn a_dead_letter_keeps_its_reason_over_a_restart_and_is_replayed_or_discarded() {
        let bench = Bench::new().await;
        let queue = bench.queues().await;
        let (sent, died) = (bench.clock.now(), bench.clock.now() + SECOND);
        let death = |reason: &str| Death { reason: reason.into(), tries: 5, sent_at: Some(sent), died_at: Some(died) };
        for body in ["first", "second", "third"] {
            queue.bury(NAME, body, death(body)).await.unwrap();
        }
        drop(queue);
        let queue = bench.queues().await;
        assert!(bodies(&queue).await.is_empty(), "the dead are not received");
        let letters = queue.dead_letters(NAME, 10).await.unwrap();
        assert!(letters.iter().all(|letter| letter.death == death(&letter.body)), "{letters:?}");
        let id = |body: &str| letters.iter().find(|letter| letter.body == body).unwrap().id.clone();
        assert_eq!(queue.replay(NAME, Some(&id("first"))).await.unwrap(), 1);
        tokio::time::timeout(SECOND, queue.sent(NAME)).await.unwrap().unwrap();
        let received = queue.receive(NAME, 10).await.unwrap();
        assert_eq!((received.len(), received[0].body.as_str(), received[0].receives), (1, "first", 1));
        queue.discard(NAME, &id("second")).await.unwrap();
        for gone in ["first", "second"] {
            assert_eq!(queue.discard(NAME, &id(gone)).await.unwrap_err().code(), Code::NotFound, "{gone}");
            assert_eq!(queue.replay(NAME, Some(&id(gone))).await.unwrap_err().code(), Code::NotFound, "{gone}");
        }
        assert_eq!(queue.replay(NAME, None).await.unwrap(), 1);
        assert_eq!(bodies(&queue).await, ["third"]);
        assert!(queue.dead_letters(NAME, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_restart_keeps_every_message_and_gives_the_held_ones_at_once() {
        let bench = Bench::new().await;
        let queue = bench.queues().await;
        queue.send(NAME, vec![Outgoing::now("held"), delayed("waiting", 60)]).await.unwrap();
        let held = queue.receive(NAME, 10).await.unwrap();
        assert_eq!(held.len(), 1);
        queue.send(NAME, vec![Outgoing::now("new")]).await.unwrap();
        drop(queue);

        let queue = bench.queues().await;
        let mut again = bodies(&queue).await;
        again.sort();
        assert_eq!(again, ["held", "new"]);
        bench.clock.advance(SECOND * 60);
        assert_eq!(bodies(&queue).await, ["waiting"]);
    }

    #[tokio::test]
    async fn a_send_wakes_who_waits_and_breaks_no_limit() {
        let bench = Bench::new().await;
        let queue = bench.queues().await;
        queue.send(NAME, (0..60).map(|number| Outgoing::now(format!("m{number}"))).collect()).await.unwrap();
        tokio::time::timeout(SECOND, queue.sent(NAME)).await.unwrap().unwrap();
        let mut seen = 0;
        while let received @ 1.. = queue.receive(NAME, 10).await.unwrap().len() {
            seen += received;
        }
        assert_eq!(seen, 60);
        for bad in [Outgoing::now(""), delayed("x", 901), Outgoing::now("x".repeat(MAX_BYTES + 1))] {
            assert!(queue.send(NAME, vec![Outgoing::now("fine"), bad]).await.is_err());
        }
        assert!(bodies(&queue).await.is_empty(), "nothing of a refused batch is sent");
    }
}
