//! Stream and queues as AWS has them: a record or a message may come twice, late, and in any order. Through the entry
//! points of the functions, in the events that Lambda gives them.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lambda_events::dynamodb::Event as StreamEvent;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use serde_json::{Value, json};
use shared::kernel::Rng;
use shared::ports::queue::QueueName;
use tests::{Ledger, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const MESSAGES: usize = 6;
/// Longer than a claim on usage lasts, and than any queue hides a message.
const LATE: Duration = Duration::from_secs(45 * 60);

/// The same list in another order, some of it twice, cut into batches.
fn disordered<T: Clone>(rng: &Rng, list: &[T]) -> Vec<Vec<T>> {
    let pick = |bound: usize| rng.below(u32::try_from(bound).expect("small")) as usize;
    let mut all = list.to_vec();
    all.extend(list.iter().filter(|_| pick(3) == 0).cloned());
    for at in (1..all.len()).rev() {
        all.swap(at, pick(at + 1));
    }
    let mut batches = Vec::new();
    while !all.is_empty() {
        batches.push(all.split_off(all.len().saturating_sub(1 + pick(5))));
    }
    batches
}

fn stream(records: &[Value]) -> StreamEvent {
    serde_json::from_value(json!({"Records": records})).expect("a batch of the stream")
}

fn batch(messages: &[(usize, String)]) -> SqsEvent {
    let mut event = SqsEvent::default();
    for (number, body) in messages {
        let mut message = SqsMessage::default();
        (message.message_id, message.body) = (Some(number.to_string()), Some(body.clone()));
        event.records.push(message);
    }
    event
}

/// Messages of one queue between sending and being done.
struct Waiting {
    queue: QueueName,
    messages: Vec<(usize, String)>,
    sent: usize,
}

impl Waiting {
    fn at(queue: QueueName) -> Self {
        Self { queue, messages: Vec::new(), sent: 0 }
    }

    fn take(&mut self, test: &TestApp) {
        for message in test.queue.take(self.queue) {
            self.messages.push((self.sent, message.body));
            self.sent += 1;
        }
    }

    /// Gives the worker some of the messages, twice and in any order; keeps those that failed, and those that are late.
    async fn work(&mut self, test: &TestApp, rng: &Rng, all: bool) {
        let (late, now): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|_| !all && rng.below(3) == 0);
        self.messages = late;
        for some in disordered(rng, &now) {
            let app = test.app.clone();
            let answer = match self.queue {
                QueueName::Deliver => workers::deliver(app, batch(&some)).await,
                QueueName::DeliverSlow => workers::deliver_slow(app, batch(&some)).await,
                QueueName::UsageReport => workers::usage_report(app, batch(&some)).await,
                QueueName::Turn => workers::turn(app, batch(&some)).await,
            };
            let failed = answer.expect("a partial answer").batch_item_failures;
            assert!(failed.is_empty(), "nothing fails here: {failed:?}");
        }
    }
}

/// How often each event arrived, by its id.
async fn arrived(server: &MockServer) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in server.received_requests().await.expect("recorded") {
        let id = request.headers["x-chatia-event-id"].to_str().expect("text").to_owned();
        *counts.entry(id).or_default() += 1;
    }
    counts
}

async fn history(seed: u64) {
    let rng = Rng::seeded(seed);
    let ((test, ledger), server) = (Ledger::with_app().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    owner.webhook(&server.uri(), json!(["agent.message.created", "agent.reply.created"])).await;
    let mut visitor = test.visitor(&agent);
    for number in 0..MESSAGES {
        visitor.says(&format!("message {number}")).await;
    }
    let records = test.db_stream().await;
    for some in disordered(&rng, &records) {
        let failed = workers::relay(test.app.clone(), stream(&some)).await.expect("relayed").batch_item_failures;
        assert!(failed.is_empty(), "{failed:?}");
    }
    for some in disordered(&rng, &records) {
        let failed = workers::projector(test.app.clone(), stream(&some)).await.expect("counted").batch_item_failures;
        assert!(failed.is_empty(), "{failed:?}");
    }
    let mut queues = QueueName::ALL.iter().map(|queue| Waiting::at(*queue)).collect::<Vec<_>>();
    // Twice some messages wait until long after their time; then everything comes.
    for round in 0..4 {
        workers::usage_batch(test.app.clone(), Value::Null).await.expect("claimed");
        workers::clock(test.app.clone(), Value::Null).await.expect("ticked");
        for waiting in &mut queues {
            waiting.take(&test);
            waiting.work(&test, &rng, round >= 2).await;
        }
        test.clock.advance(LATE);
    }
    let arrived = arrived(&server).await;
    assert_eq!(arrived.len(), 2 * MESSAGES, "seed {seed}: every event arrives");
    assert!(arrived.values().all(|times| *times == 1), "seed {seed}: none twice: {arrived:?}");
    assert_eq!(ledger.len(), MESSAGES, "seed {seed}: each reply is charged once");
    let sent: usize = ledger.calls().iter().map(|call| call.ids.len()).sum();
    assert_eq!(sent, MESSAGES, "seed {seed}: none is sent again");
    let usage = owner.session.get("/api/billing/usage").await.expect(200);
    assert_eq!(usage["totals"]["messages"], json!(MESSAGES), "seed {seed}: each reply counts once");
    let counted = owner.session.get(&format!("/api/agents/{}", agent.id)).await.expect(200);
    assert_eq!(counted["conversation_count"], 1, "seed {seed}");
}

#[tokio::test]
async fn records_and_messages_that_come_twice_late_and_out_of_order_are_neither_lost_nor_charged_nor_sent_twice() {
    for seed in 0..5 {
        history(seed).await;
    }
}
