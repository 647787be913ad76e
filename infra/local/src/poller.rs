//! Feeds a worker from its queue, as Lambda does: batches of at most the template's size, so many at the same time, and
//! only what the answer names as failed comes again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use shared::app::App;
use shared::kernel::{Error, Result};
use shared::ports::queue::QueueName;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::queue::{LocalQueue, Received};
use crate::registry::Work;
use crate::stopping::Stopping;

/// The longest wait for the next look when nothing is sent; only a clock that jumps makes it matter.
const IDLE: Duration = Duration::from_secs(60);
/// The wait after a fault of the queue itself.
const FAULT: Duration = Duration::from_secs(2);

/// A queue and its worker.
#[derive(Clone)]
pub struct Poller {
    /// What the worker may reach.
    pub app: App,
    /// Where messages come from.
    pub queue: Arc<LocalQueue>,
    /// Which of them.
    pub name: QueueName,
    /// The most messages of a batch.
    pub batch: usize,
    /// The most batches at the same time.
    pub concurrency: usize,
    /// How long the worker may take.
    pub timeout: Duration,
    /// The worker.
    pub work: Work<SqsEvent, SqsBatchResponse>,
}

impl Poller {
    /// Runs until the platform stops, then lets the batches that are under way end.
    pub async fn run(self, mut stopping: Stopping) {
        let slots = Arc::new(Semaphore::new(self.concurrency.max(1)));
        let mut running = JoinSet::new();
        loop {
            let slot = tokio::select! {
                () = stopping.wait() => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            while running.try_join_next().is_some() {}
            match self.queue.receive(self.name, self.batch).await {
                Ok(messages) if messages.is_empty() => {
                    drop(slot);
                    tokio::select! {
                        () = stopping.wait() => break,
                        () = self.wait() => {}
                    }
                }
                Ok(messages) => {
                    let poller = self.clone();
                    running.spawn(async move {
                        poller.handle(messages).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::error!(queue = self.name.as_str(), %error, "the queue cannot be read");
                    drop(slot);
                    tokio::select! {
                        () = stopping.wait() => break,
                        () = tokio::time::sleep(FAULT) => {}
                    }
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Waits for a send, or until a message becomes visible.
    async fn wait(&self) {
        let wait = match self.queue.next_visible(self.name) {
            Ok(Some(at)) => at.since(self.app.now()).clamp(Duration::from_millis(5), IDLE),
            Ok(None) => IDLE,
            Err(_) => FAULT,
        };
        tokio::select! {
            _ = self.queue.sent(self.name) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    async fn handle(&self, messages: Vec<Received>) {
        let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
        let failed = self.failures(messages).await;
        // AWS reads an answer that names what was not in the batch as a failure of all of it.
        let named: HashSet<&str> = failed.iter().map(String::as_str).collect();
        let all_failed = named.iter().any(|id| !ids.iter().any(|known| known == id));
        let (again, done): (Vec<&str>, Vec<&str>) =
            ids.iter().map(String::as_str).partition(|id| all_failed || named.contains(id));
        let settled = async {
            self.queue.delete(self.name, done).await?;
            self.queue.release(self.name, again).await
        };
        if let Err(error) = settled.await {
            tracing::error!(queue = self.name.as_str(), %error, "messages were not settled; they come again");
        }
    }

    /// Runs the worker. Gives the ids that it names as failed, or an empty one when it failed as a whole.
    async fn failures(&self, messages: Vec<Received>) -> Vec<String> {
        let work = self.work;
        // A task of its own, so that a panic is a failure of the batch and not the end of the queue.
        let mut run = tokio::spawn(work(self.app.clone(), event(messages)));
        let outcome: Result<SqsBatchResponse> = match tokio::time::timeout(self.timeout, &mut run).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Error::internal(panic)),
            Err(_) => {
                run.abort();
                Err(Error::internal("the worker ran into its time-out"))
            }
        };
        match outcome {
            Ok(response) => response.batch_item_failures.into_iter().map(|one| one.item_identifier).collect(),
            Err(error) => {
                tracing::error!(queue = self.name.as_str(), %error, "a batch failed");
                vec![String::new()]
            }
        }
    }
}

/// A batch as Lambda hands it over.
fn event(messages: Vec<Received>) -> SqsEvent {
    let message = |received: Received| {
        let mut message = SqsMessage::default();
        message.attributes.insert("ApproximateReceiveCount".into(), received.receives.to_string());
        message.attributes.insert("SentTimestamp".into(), received.sent_at.millis().to_string());
        message.receipt_handle = Some(received.id.clone());
        message.message_id = Some(received.id);
        message.body = Some(received.body);
        message.event_source = Some("aws:sqs".into());
        message
    };
    let mut event = SqsEvent::default();
    event.records = messages.into_iter().map(message).collect();
    event
}

#[cfg(test)]
mod tests {
    use shared::http::gate::BoxFuture;
    use shared::ports::queue::{Outgoing, Queue as _};

    use super::*;
    use crate::bench::Bench;

    const NAME: QueueName = QueueName::Deliver;

    /// Names the messages that say `bad`; fails, panics, hangs or talks nonsense when one says so.
    fn moody(_: App, batch: SqsEvent) -> BoxFuture<'static, Result<SqsBatchResponse>> {
        Box::pin(async move {
            let mut response = SqsBatchResponse::default();
            for message in batch.records {
                match message.body.as_deref().unwrap() {
                    "bad" => response.add_failure(message.message_id.unwrap()),
                    "fault" => return Err(Error::internal("no")),
                    "panic" => panic!("as it was told"),
                    "hang" => std::future::pending().await,
                    "nonsense" => response.add_failure("unknown"),
                    _ => {}
                }
            }
            Ok(response)
        })
    }

    /// Sends messages as one batch, and gives what comes again after the visibility time-out.
    async fn again(bench: &Bench, bodies: &[&str]) -> Vec<String> {
        let queue = bench.queues().await;
        let timeout = Duration::from_millis(if bodies.contains(&"hang") { 1 } else { 10_000 });
        let (app, work) = (bench.app.clone(), moody as Work<_, _>);
        let poller = Poller { app, queue: Arc::clone(&queue), name: NAME, batch: 10, concurrency: 1, timeout, work };
        queue.send(NAME, bodies.iter().map(|body| Outgoing::now(*body)).collect()).await.unwrap();
        poller.handle(queue.receive(NAME, 10).await.unwrap()).await;
        assert!(queue.receive(NAME, 10).await.unwrap().is_empty(), "what failed is hidden for now");
        bench.clock.advance(Duration::from_secs(720));
        let messages = queue.receive(NAME, 10).await.unwrap();
        queue.delete(NAME, messages.iter().map(|message| message.id.as_str())).await.unwrap();
        let mut bodies: Vec<String> = messages.into_iter().map(|message| message.body).collect();
        bodies.sort();
        bodies
    }

    #[tokio::test]
    async fn only_what_failed_comes_again_and_everything_when_the_worker_failed() {
        let bench = Bench::new().await;
        assert_eq!(again(&bench, &["good", "bad", "fine"]).await, ["bad"]);
        assert!(again(&bench, &["good", "fine"]).await.is_empty());
        for mood in ["fault", "hang", "nonsense", "panic"] {
            assert_eq!(again(&bench, &["a", mood]).await, ["a", mood]);
        }
    }

    #[tokio::test]
    async fn a_poller_takes_what_is_sent_while_it_runs_and_ends_when_it_is_told() {
        let bench = Bench::new().await;
        let (queue, (stop, stopping)) = (bench.queues().await, crate::stopping::Stop::new());
        let work: Work<_, _> = |app, batch: SqsEvent| {
            Box::pin(async move {
                let bodies = batch.records.into_iter().map(|message| Outgoing::now(message.body.unwrap()));
                app.queue.send(NAME, bodies.collect()).await?;
                Ok(SqsBatchResponse::default())
            })
        };
        let (app, timeout) = (bench.app.clone(), Duration::from_secs(10));
        let poller = Poller { app, queue: Arc::clone(&queue), name: NAME, batch: 10, concurrency: 2, timeout, work };
        let running = tokio::spawn(poller.run(stopping));
        queue.send(NAME, vec![Outgoing::now("a")]).await.unwrap();
        let taken = async {
            while bench.sent.take(NAME).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(timeout, taken).await.unwrap();
        stop.now();
        tokio::time::timeout(timeout, running).await.unwrap().unwrap();
        assert_eq!(queue.next_visible(NAME).unwrap(), None, "what was done is gone");
    }
}
