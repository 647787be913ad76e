//! Batches of a queue: each message is done on its own, and those that failed are named in the answer, so that only
//! they come again. The last try that fails, and a message that does not read, is buried among the queue's dead letters
//! with its reason. What ends the whole worker is given up by the queue's own redrive policy.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use shared::app::deliver::Task;
use shared::app::usage::Report;
use shared::app::whatsapp::Task as ChannelTask;
use shared::domain::text::shorten;
use shared::kernel::{Clock, Code, Error, Result, Time, Work, work};
use shared::ports::journal::{Journal, Kind};
use shared::ports::queue::{Death, Queue, QueueName};
use tokio::sync::Semaphore;

/// When a message comes again whose first try failed: most faults are short ones. Those after it have the queue's
/// visibility time-out, so that a long one does not use up all tries.
const SOON: Duration = Duration::from_secs(60);

/// The longest reason that is kept, in characters.
const REASON: usize = 500;

/// How a queue is worked off.
pub(crate) struct Desk<'a> {
    /// Which queue.
    pub(crate) name: QueueName,
    /// Where what is given up goes.
    pub(crate) queue: &'a dyn Queue,
    /// The time.
    pub(crate) clock: &'a dyn Clock,
    /// How many messages of one lane go at a time.
    pub(crate) width: usize,
    /// Where it is told what became of each message.
    pub(crate) journal: &'a dyn Journal,
    /// How long a message may take. Less than the function may, so that one that hangs fails alone.
    pub(crate) patience: Duration,
}

/// What a message asks for.
pub(crate) trait Job: DeserializeOwned {
    /// What it is called in the journal.
    fn kind(&self) -> &'static str;
}

impl Job for Task {
    fn kind(&self) -> &'static str {
        Self::kind(self)
    }
}

impl Job for Report {
    fn kind(&self) -> &'static str {
        "report"
    }
}

impl Job for ChannelTask {
    fn kind(&self) -> &'static str {
        Self::kind(self)
    }
}

impl Desk<'_> {
    /// Does every message of a batch, all at once but for those of one lane.
    pub(crate) async fn each<T, L, Fut>(
        &self,
        batch: SqsEvent,
        lane: impl Fn(&T) -> Option<L>,
        work: impl Fn(T) -> Fut,
    ) -> SqsBatchResponse
    where
        T: Job,
        L: Eq + Hash,
        Fut: Future<Output = Result<()>>,
    {
        let mut lanes: HashMap<L, Arc<Semaphore>> = HashMap::new();
        let work = &work;
        let runs = batch.records.into_iter().map(|message| {
            let task = parse::<T>(&message);
            let lane = task.as_ref().ok().and_then(&lane);
            let width = self.width;
            let lane = lane.map(|lane| Arc::clone(lanes.entry(lane).or_insert_with(|| Semaphore::new(width).into())));
            async move {
                let told = self.begin(&message);
                let again = told.run(self.settle(message, lane, work, task)).await;
                self.journal.write(Kind::Message, self.clock.now(), &told);
                again
            }
        });
        // Collected first: the lanes must be known before anything runs.
        let runs: Vec<_> = runs.collect();
        let mut response = SqsBatchResponse::default();
        join_all(runs).await.into_iter().flatten().for_each(|id| response.add_failure(id));
        response
    }

    /// Until it turns out from which request it follows, the message is known by its own id.
    fn begin(&self, message: &SqsMessage) -> Work {
        let work = Work::new(message.message_id.clone().unwrap_or_default());
        work.note_id("message_id", message.message_id.as_deref());
        work.note("service", self.name.as_str());
        work.note("operation", "none");
        work.note("tries", u64::from(tries(message)));
        work
    }

    /// Does a message and sees to what becomes of it. Gives its id when it comes again.
    async fn settle<T, Fut>(
        &self,
        message: SqsMessage,
        lane: Option<Arc<Semaphore>>,
        work: impl Fn(T) -> Fut,
        task: Result<T>,
    ) -> Option<String>
    where
        T: Job,
        Fut: Future<Output = Result<()>>,
    {
        let task = match task {
            Ok(task) => task,
            // To try again would change nothing.
            Err(error) => return self.bury(message, &error).await,
        };
        work::note("operation", task.kind());
        match self.attempt(lane, work, task).await {
            Ok(()) => {
                work::note("outcome", "done");
                None
            }
            Err(error) => self.failed(message, &error).await,
        }
    }

    /// One try. A panic and a work that does not end are failures of their own message only.
    async fn attempt<T, Fut>(&self, lane: Option<Arc<Semaphore>>, work: impl Fn(T) -> Fut, task: T) -> Result<()>
    where
        Fut: Future<Output = Result<()>>,
    {
        let run = async {
            // Never closed, so it always gives; and it is held until the work is done.
            let _slot = match &lane {
                Some(lane) => Some(lane.acquire().await),
                None => None,
            };
            AssertUnwindSafe(async { work(task).await }).catch_unwind().await
        };
        match tokio::time::timeout(self.patience, run).await {
            Ok(Ok(outcome)) => outcome,
            // What the panic said may quote the message; the log has it.
            Ok(Err(_)) => Err(Error::internal("the work panicked")),
            Err(_) => Err(Error::new(Code::Timeout).caused_by(format!("not done within {:?}", self.patience))),
        }
    }

    /// Lets a message come again, or buries it after its last try. Gives its id when it comes again.
    async fn failed(&self, message: SqsMessage, error: &Error) -> Option<String> {
        let (tries, queue) = (tries(&message), self.name.as_str());
        if tries >= self.name.tries() {
            return self.bury(message, error).await;
        }
        work::note("outcome", "failed");
        work::note("error", error.code().text());
        let id = message.message_id.unwrap_or_default();
        tracing::error!(queue, message = id, tries, %error, "a message failed and will come again");
        if tries == 1 {
            let receipt = message.receipt_handle.unwrap_or_default();
            if let Err(fault) = self.queue.again(self.name, &receipt, SOON).await {
                tracing::warn!(queue, message = id, %fault, "a message comes again no sooner than usual");
            }
        }
        Some(id)
    }

    /// Gives a message up. One that cannot be buried comes again, until the redrive policy takes it.
    async fn bury(&self, message: SqsMessage, error: &Error) -> Option<String> {
        work::note("outcome", "buried");
        work::note("error", error.code().text());
        let reason: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let death = Death {
            reason: shorten(&reason, REASON),
            tries: tries(&message),
            sent_at: attribute(&message, "SentTimestamp").map(Time::from_millis),
            died_at: Some(self.clock.now()),
        };
        let (queue, tries) = (self.name.as_str(), death.tries);
        let id = message.message_id.unwrap_or_default();
        match self.queue.bury(self.name, message.body.as_deref().unwrap_or_default(), death).await {
            Ok(()) => {
                tracing::error!(queue, message = id, tries, %error, "a message was given up: it is a dead letter now");
                None
            }
            Err(fault) => {
                tracing::error!(queue, message = id, tries, %error, %fault, "a message was not buried and comes again");
                Some(id)
            }
        }
    }
}

/// How often the message was received, this time included.
fn tries(message: &SqsMessage) -> u32 {
    attribute(message, "ApproximateReceiveCount").and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

fn attribute(message: &SqsMessage, name: &str) -> Option<i64> {
    message.attributes.get(name)?.parse().ok()
}

/// The parser's own words may quote the message, so only the place is told.
fn parse<T: DeserializeOwned>(message: &SqsMessage) -> Result<T> {
    let body = message.body.as_deref().unwrap_or_default();
    serde_json::from_str(body).map_err(|error| {
        Error::internal(format!("the message does not read (line {}, column {})", error.line(), error.column()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use shared::kernel::ManualClock;
    use shared::ports::journal::MemoryJournal;
    use shared::ports::queue::{DeadLetter, MemoryQueue};

    use super::*;

    const NAME: QueueName = QueueName::Deliver;
    const NOW: Time = Time::from_millis(1_767_225_600_000);

    struct Bench {
        queue: MemoryQueue,
        clock: ManualClock,
        journal: MemoryJournal,
        width: usize,
        patience: Duration,
    }

    impl Bench {
        fn new() -> Self {
            let (queue, clock, journal) = (MemoryQueue::default(), ManualClock::at(NOW), MemoryJournal::default());
            Self { queue, clock, journal, width: 1, patience: Duration::from_secs(10) }
        }

        fn desk(&self) -> Desk<'_> {
            let Self { queue, clock, journal, width, patience } = self;
            Desk { name: NAME, queue, clock, journal, width: *width, patience: *patience }
        }

        async fn dead(&self) -> Vec<DeadLetter> {
            self.queue.dead_letters(NAME, 10).await.unwrap()
        }
    }

    /// A batch as it comes for the `tries`th time.
    fn batch(bodies: &[&str], tries: u32) -> SqsEvent {
        let message = |(number, body): (usize, &&str)| {
            let mut message = SqsMessage::default();
            message.attributes.insert("ApproximateReceiveCount".into(), tries.to_string());
            message.attributes.insert("SentTimestamp".into(), "1767225000000".into());
            message.message_id = Some(format!("m{number}"));
            message.receipt_handle = Some(format!("r{number}"));
            message.body = Some((*body).to_owned());
            message
        };
        let mut batch = SqsEvent::default();
        batch.records = bodies.iter().enumerate().map(message).collect();
        batch
    }

    fn failed(response: &SqsBatchResponse) -> Vec<&str> {
        response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
    }

    impl Job for u8 {
        fn kind(&self) -> &'static str {
            "number"
        }
    }

    impl Job for String {
        fn kind(&self) -> &'static str {
            "text"
        }
    }

    async fn all_read<T: Job>(sample: &str) {
        let sample: SqsEvent = serde_json::from_str(sample).unwrap();
        let done = AtomicUsize::new(0);
        let work = async |_: T| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let (count, bench) = (sample.records.len(), Bench::new());
        assert!(failed(&bench.desk().each(sample, |_| None::<()>, work).await).is_empty());
        assert_eq!((done.into_inner(), bench.dead().await.len()), (count, 0));
    }

    #[tokio::test]
    async fn the_sample_events_read() {
        all_read::<Task>(include_str!("../../../events/deliver.json")).await;
        all_read::<Report>(include_str!("../../../events/usage-report.json")).await;
        all_read::<ChannelTask>(include_str!("../../../events/turn.json")).await;
    }

    #[tokio::test]
    async fn what_fails_comes_again_and_is_buried_with_its_reason_after_its_last_try() {
        let (bench, done) = (Bench::new(), AtomicUsize::new(0));
        let work = async |number: u8| {
            done.fetch_add(1, Ordering::Relaxed);
            if number == 2 { Err(Error::internal("the line\nis cut")) } else { Ok(()) }
        };
        for tries in 1..NAME.tries() {
            let response = bench.desk().each(batch(&["1", "2", "4"], tries), |_| Some(()), work).await;
            assert_eq!((failed(&response), bench.dead().await.len()), (vec!["m1"], 0));
            let again = if tries == 1 { vec![("r1".to_owned(), SOON)] } else { Vec::new() };
            assert_eq!(bench.queue.take_again(NAME), again, "a short fault is soon over, a long one is not");
        }
        let response = bench.desk().each(batch(&["1", "2", "4"], NAME.tries()), |_| Some(()), work).await;
        assert!(failed(&response).is_empty(), "it is acknowledged");
        let letters = bench.dead().await;
        assert_eq!((letters.len(), letters[0].body.as_str()), (1, "2"));
        let Death { reason, tries, sent_at, died_at } = &letters[0].death;
        assert!(reason.starts_with("internal_error") && reason.contains("the line is cut"), "{reason}");
        let sent = Time::from_millis(1_767_225_000_000);
        assert_eq!((*tries, *sent_at, *died_at), (NAME.tries(), Some(sent), Some(NOW)));
        let outcomes = |id: &str| -> Vec<String> {
            let lines = bench.journal.lines();
            let of = lines.iter().filter(|line| line["message"] == "message" && line["request_id"] == id);
            of.map(|line| line["outcome"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(outcomes("m1"), ["failed", "failed", "failed", "failed", "buried"]);
        assert_eq!(outcomes("m0"), ["done"; 5]);
        assert_eq!(done.into_inner(), 3 * 5);
    }

    #[tokio::test]
    async fn what_does_not_read_is_buried_at_once_and_its_reason_does_not_quote_it() {
        let bench = Bench::new();
        let response = bench.desk().each(batch(&["1", "\"secret\"", ""], 1), |_| Some(()), async |_: u8| Ok(())).await;
        assert!(failed(&response).is_empty());
        let letters = bench.dead().await;
        assert_eq!(letters.iter().map(|letter| letter.body.as_str()).collect::<Vec<_>>(), ["\"secret\"", ""]);
        for DeadLetter { death, .. } in letters {
            assert!(death.reason.contains("does not read") && !death.reason.contains("secret"), "{}", death.reason);
            assert_eq!(death.tries, 1);
        }
    }

    #[tokio::test]
    async fn a_message_that_panics_or_hangs_fails_alone() {
        let bench = Bench { patience: Duration::from_millis(20), ..Bench::new() };
        let work = async |mood: String| match mood.as_str() {
            "panic" => panic!("as it was told"),
            "hang" => std::future::pending().await,
            _ => Ok(()),
        };
        let moods = ["\"good\"", "\"panic\"", "\"hang\"", "\"fine\""];
        let response = bench.desk().each(batch(&moods, 1), |_| None::<()>, work).await;
        assert_eq!(failed(&response), ["m1", "m2"]);
        let response = bench.desk().each(batch(&moods, NAME.tries()), |_| None::<()>, work).await;
        assert!(failed(&response).is_empty());
        let reasons: Vec<_> = bench.dead().await.into_iter().map(|letter| letter.death.reason).collect();
        assert!(reasons[0].contains("panicked") && reasons[1].contains("not done within 20ms"), "{reasons:?}");
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_buried_comes_again() {
        struct Full;
        #[async_trait::async_trait]
        impl Queue for Full {
            async fn send(&self, _: QueueName, _: Vec<shared::ports::queue::Outgoing>) -> Result<()> {
                Err(Error::new(Code::Unavailable))
            }
            async fn again(&self, _: QueueName, _: &str, _: Duration) -> Result<()> {
                Err(Error::new(Code::Unavailable))
            }
            async fn bury(&self, _: QueueName, _: &str, _: Death) -> Result<()> {
                Err(Error::new(Code::Unavailable))
            }
            async fn dead_letters(&self, _: QueueName, _: usize) -> Result<Vec<DeadLetter>> {
                Err(Error::new(Code::Unavailable))
            }
            async fn replay(&self, _: QueueName, _: Option<&str>) -> Result<usize> {
                Err(Error::new(Code::Unavailable))
            }
            async fn discard(&self, _: QueueName, _: &str) -> Result<()> {
                Err(Error::new(Code::Unavailable))
            }
        }
        let bench = Bench::new();
        let desk = Desk { queue: &Full, ..bench.desk() };
        let response = desk.each(batch(&["1", "x"], 1), |_| Some(()), async |_: u8| Err(Error::internal("no"))).await;
        assert_eq!(failed(&response), ["m0", "m1"]);
        let response = desk.each(batch(&["1", "x"], 9), |_| Some(()), async |_: u8| Err(Error::internal("no"))).await;
        assert_eq!(failed(&response), ["m0", "m1"]);
    }

    #[tokio::test]
    async fn a_lane_is_never_wider_than_allowed_and_holds_back_no_other() {
        let (slow, most, quick) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let work = async |lane: u8| {
            if lane == 1 {
                most.fetch_max(slow.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                // Done only after the other lanes are, however often this is polled.
                while quick.load(Ordering::Relaxed) < 3 {
                    tokio::task::yield_now().await;
                }
                slow.fetch_sub(1, Ordering::Relaxed);
            } else {
                quick.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let bodies = ["1", "1", "1", "1", "1", "1", "1", "2", "3", "2"];
        let bench = Bench { width: 2, ..Bench::new() };
        let response = bench.desk().each(batch(&bodies, 1), |lane: &u8| Some(*lane), work).await;
        assert!(failed(&response).is_empty());
        assert_eq!(most.into_inner(), 2);
    }
}
