//! Batches of a queue: each message is done on its own, and those that failed are named in the answer.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use shared::kernel::{Error, Result};
use tokio::sync::Semaphore;

/// Does every message of a batch, all at once but for those of one lane, of which `width` go at a time. A message that
/// does not read fails like one whose work fails: it comes again, and ends in the dead-letter queue.
pub(crate) async fn each<T, L, Fut>(
    batch: SqsEvent,
    width: usize,
    lane: impl Fn(&T) -> Option<L>,
    work: impl Fn(T) -> Fut,
) -> SqsBatchResponse
where
    T: DeserializeOwned,
    L: Eq + Hash,
    Fut: Future<Output = Result<()>>,
{
    let mut lanes: HashMap<L, Arc<Semaphore>> = HashMap::new();
    let work = &work;
    let runs: Vec<_> = batch
        .records
        .into_iter()
        .map(|message| {
            let id = message.message_id.clone().unwrap_or_default();
            let task = parse::<T>(&message);
            let lane = task.as_ref().ok().and_then(&lane);
            let lane = lane.map(|lane| Arc::clone(lanes.entry(lane).or_insert_with(|| Semaphore::new(width).into())));
            async move {
                let outcome = match (task, &lane) {
                    (Ok(task), Some(lane)) => {
                        // Never closed, so it always gives; and it is held until the work is done.
                        let _slot = lane.acquire().await;
                        work(task).await
                    }
                    (Ok(task), None) => work(task).await,
                    (Err(error), _) => Err(error),
                };
                outcome.map_err(|error| (id, error))
            }
        })
        .collect();
    let mut response = SqsBatchResponse::default();
    for (id, error) in join_all(runs).await.into_iter().filter_map(Result::err) {
        tracing::error!(message = id, %error, "a message failed and will come again");
        response.add_failure(id);
    }
    response
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

    use shared::app::deliver::Task;
    use shared::app::usage::Report;

    use super::*;

    fn batch(bodies: &[&str]) -> SqsEvent {
        let message = |(number, body): (usize, &&str)| {
            let mut message = SqsMessage::default();
            message.message_id = Some(format!("m{number}"));
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

    async fn all_read<T: DeserializeOwned>(sample: &str) {
        let sample: SqsEvent = serde_json::from_str(sample).unwrap();
        let done = AtomicUsize::new(0);
        let work = async |_: T| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let count = sample.records.len();
        assert!(failed(&each(sample, 1, |_| None::<()>, work).await).is_empty());
        assert_eq!(done.into_inner(), count);
    }

    #[tokio::test]
    async fn the_sample_events_read() {
        all_read::<Task>(include_str!("../../../events/deliver.json")).await;
        all_read::<Report>(include_str!("../../../events/usage-report.json")).await;
    }

    #[tokio::test]
    async fn what_fails_or_does_not_read_is_named_and_the_rest_is_done() {
        let work = async |number: u8| if number == 2 { Err(Error::internal("no")) } else { Ok(()) };
        let response = each(batch(&["1", "2", "three", "4", ""]), 1, |_| Some(()), work).await;
        assert_eq!(failed(&response), ["m1", "m2", "m4"]);
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
        let response = each(batch(&bodies), 2, |lane: &u8| Some(*lane), work).await;
        assert!(failed(&response).is_empty());
        assert_eq!(most.into_inner(), 2);
    }
}
