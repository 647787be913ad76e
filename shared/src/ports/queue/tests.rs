//! Tests of the queues against a fake SQS.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use serde_json::{Value, json};
use wiremock::matchers::header;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::kernel::Code;

/// An SDK configuration that talks to a fake service, and does not retry by itself.
pub(crate) fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("id", "key", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

fn queue_at(endpoint: &str) -> SqsQueue {
    let lookup = |name: &str| match name {
        "DELIVER_QUEUE_URL" => Some(format!("{endpoint}/000000000000/deliver")),
        "DELIVER_SLOW_QUEUE_URL" => Some(format!("{endpoint}/000000000000/deliver-slow")),
        "DELIVER_SLOW_DEAD_LETTERS_URL" => Some(format!("{endpoint}/000000000000/deliver-slow-dead")),
        "DELIVER_DEAD_LETTERS_URL" => Some(format!("{endpoint}/000000000000/deliver-dead")),
        _ => None,
    };
    let mut queue = SqsQueue::new(sdk_config(endpoint), lookup);
    queue.pause = Duration::ZERO;
    queue
}

fn messages(bodies: impl IntoIterator<Item = String>) -> Vec<Outgoing> {
    bodies.into_iter().map(Outgoing::now).collect()
}

fn numbered(count: usize) -> Vec<Outgoing> {
    messages((0..count).map(|index| format!("m{index}")))
}

/// A fake SQS that judges each message by its body: `None` takes it, a code refuses it.
async fn fake(judge: impl Fn(&str) -> Option<(&'static str, bool)> + Send + Sync + 'static) -> MockServer {
    let server = MockServer::start().await;
    let answer = move |request: &Request| {
        let (mut taken, mut refused) = (vec![], vec![]);
        for entry in entries_of(request) {
            match judge(entry["MessageBody"].as_str().unwrap()) {
                None => taken.push(json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"})),
                Some((code, fault)) => refused.push(json!({"Id": entry["Id"], "Code": code, "SenderFault": fault})),
            }
        }
        ResponseTemplate::new(200).set_body_json(json!({"Successful": taken, "Failed": refused}))
    };
    Mock::given(header("x-amz-target", "AmazonSQS.SendMessageBatch")).respond_with(answer).mount(&server).await;
    server
}

fn entries_of(request: &Request) -> Vec<Value> {
    let body: Value = request.body_json().unwrap();
    body["Entries"].as_array().unwrap().clone()
}

/// The bodies of each call, in order.
async fn calls(server: &MockServer) -> Vec<Vec<String>> {
    let bodies = |request: &Request| {
        entries_of(request).iter().map(|entry| entry["MessageBody"].as_str().unwrap().to_owned()).collect()
    };
    server.received_requests().await.unwrap().iter().map(bodies).collect()
}

#[tokio::test]
async fn messages_go_out_in_batches_of_ten_with_their_delays() {
    let server = fake(|_| None).await;
    let mut sent = numbered(23);
    sent[0].delay = Duration::from_millis(1500);
    sent[1].delay = MAX_DELAY;
    queue_at(&server.uri()).send(QueueName::Deliver, sent).await.unwrap();
    let calls = calls(&server).await;
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3]);
    assert_eq!(calls[2], ["m20", "m21", "m22"]);
    let first = entries_of(&server.received_requests().await.unwrap()[0]);
    let delays: Vec<_> = first[..3].iter().map(|entry| entry["DelaySeconds"].as_i64().unwrap()).collect();
    assert_eq!(delays, [2, 900, 0]);
}

#[tokio::test]
async fn a_message_that_is_to_come_again_sooner_is_shown_sooner_in_its_own_queue() {
    let server = MockServer::start().await;
    let asked = Mock::given(header("x-amz-target", "AmazonSQS.ChangeMessageVisibility"));
    asked.respond_with(ResponseTemplate::new(200).set_body_json(json!({}))).mount(&server).await;
    queue_at(&server.uri()).again(QueueName::DeliverSlow, "receipt", Duration::from_secs(60)).await.unwrap();
    let body: Value = server.received_requests().await.unwrap()[0].body_json().unwrap();
    let queue = format!("{}/000000000000/deliver-slow", server.uri());
    assert_eq!(body, json!({"QueueUrl": queue, "ReceiptHandle": "receipt", "VisibilityTimeout": 60}));
}

#[test]
fn a_batch_stays_within_a_mebibyte() {
    let sizes = [400, 400, 224, 1, 1024, 1, 1023];
    let cut = batches(messages(sizes.map(|kib| "x".repeat(kib * 1024))));
    assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1, 2]);
}

#[tokio::test]
async fn only_what_was_refused_is_sent_again() {
    let refusals = Mutex::new(2);
    let server = fake(move |body| {
        let mut left = refusals.lock().unwrap();
        let refuse = body == "m1" && *left > 0;
        *left -= i32::from(refuse);
        refuse.then_some(("InternalError", false))
    })
    .await;
    queue_at(&server.uri()).send(QueueName::Deliver, numbered(3)).await.unwrap();
    assert_eq!(calls(&server).await, [vec!["m0", "m1", "m2"], vec!["m1"], vec!["m1"]]);
}

#[tokio::test]
async fn what_is_refused_for_good_is_counted() {
    let server = fake(|body| match body {
        "m1" => Some(("InternalError", false)),
        "m2" => Some(("InvalidMessageContents", true)),
        _ => None,
    })
    .await;
    let error = queue_at(&server.uri()).send(QueueName::Deliver, numbered(12)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.cause().unwrap().starts_with("2 of 12 messages for deliver not sent: InternalError"), "{error}");
    assert_eq!(calls(&server).await.iter().map(Vec::len).collect::<Vec<_>>(), [10, 1, 1, 1, 2]);
}

#[tokio::test]
async fn when_the_service_fails_the_rest_is_not_tried() {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any()).respond_with(ResponseTemplate::new(500)).expect(1).mount(&server).await;
    let error = queue_at(&server.uri()).send(QueueName::Deliver, numbered(25)).await.unwrap_err();
    assert!(error.cause().unwrap().starts_with("25 of 25 messages for deliver not sent"), "{error}");
}

#[tokio::test]
async fn a_message_beyond_a_limit_stops_all() {
    let (memory, sqs) = (MemoryQueue::default(), queue_at("http://127.0.0.1:1"));
    let late = Outgoing { body: "x".into(), delay: MAX_DELAY + Duration::from_millis(1) };
    for bad in [late, Outgoing::now(""), Outgoing::now("x".repeat(MAX_BYTES + 1))] {
        let queues: [&dyn Queue; 2] = [&memory, &sqs];
        for queue in queues {
            let error = queue.send(QueueName::Deliver, vec![Outgoing::now("good"), bad.clone()]).await.unwrap_err();
            assert_eq!(error.code(), Code::InternalError);
        }
    }
    assert_eq!(memory.take(QueueName::Deliver), []);
}

#[tokio::test]
async fn a_queue_without_url_is_not_configured() {
    let error = queue_at("http://127.0.0.1:1").send(QueueName::UsageReport, numbered(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotConfigured);
    assert_eq!(error.cause(), Some("USAGE_REPORT_QUEUE_URL is not set"));
}

#[tokio::test]
async fn memory_keeps_each_queue_apart() {
    let memory = MemoryQueue::default();
    memory.send(QueueName::Deliver, numbered(2)).await.unwrap();
    assert_eq!(memory.take(QueueName::UsageReport), []);
    assert_eq!(memory.take(QueueName::Deliver), numbered(2));
    assert_eq!(memory.take(QueueName::Deliver), []);
}

#[test]
fn every_queue_has_its_own_names() {
    let names = QueueName::ALL
        .iter()
        .flat_map(|queue| [queue.as_str(), queue.url_variable(), queue.dead_letters_url_variable()]);
    assert_eq!(names.collect::<HashSet<_>>().len(), 3 * QueueName::ALL.len());
    assert!(QueueName::ALL.iter().all(|queue| QueueName::find(queue.as_str()) == Some(*queue)));
    assert_eq!(QueueName::find("deliver-dlq"), None);
}

/// A message of [`Shelf`].
struct Kept {
    id: String,
    body: String,
    attributes: Value,
    hidden: bool,
}

/// A fake dead-letter queue that keeps what it is sent, and gives it in pages of three.
#[derive(Default)]
struct Shelf {
    dead: Mutex<Vec<Kept>>,
    /// What was sent to the live queue.
    sent: Mutex<Vec<String>>,
}

impl Shelf {
    async fn start(self: &Arc<Self>) -> MockServer {
        let (server, shelf) = (MockServer::start().await, Arc::clone(self));
        let answer = move |request: &Request| {
            let target = request.headers["x-amz-target"].to_str().unwrap();
            let answer = shelf.answer(target.trim_start_matches("AmazonSQS."), &request.body_json().unwrap());
            ResponseTemplate::new(200).set_body_json(answer)
        };
        Mock::given(wiremock::matchers::any()).respond_with(answer).mount(&server).await;
        server
    }

    fn add(&self, id: &str, body: &str, attributes: Value) {
        let (id, body) = (id.to_owned(), body.to_owned());
        self.dead.lock().unwrap().push(Kept { id, body, attributes, hidden: false });
    }

    fn answer(&self, action: &str, request: &Value) -> Value {
        let is_dead = request["QueueUrl"].as_str().unwrap().ends_with("-dead");
        let mut dead = self.dead.lock().unwrap();
        match action {
            "SendMessageBatch" => {
                assert!(!is_dead);
                let entries = request["Entries"].as_array().unwrap();
                let bodies = entries.iter().map(|entry| entry["MessageBody"].as_str().unwrap().to_owned());
                self.sent.lock().unwrap().extend(bodies);
                let taken = |entry: &Value| json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"});
                json!({"Successful": entries.iter().map(taken).collect::<Vec<_>>(), "Failed": []})
            }
            _ if !is_dead => panic!("{action} of the live queue"),
            "SendMessage" => {
                let (number, body) = (dead.len() + 1, request["MessageBody"].as_str().unwrap().to_owned());
                let attributes = request["MessageAttributes"].clone();
                dead.push(Kept { id: format!("d{number}"), body, attributes, hidden: false });
                json!({"MessageId": format!("d{number}")})
            }
            "ReceiveMessage" => {
                let give = |kept: &mut Kept| {
                    kept.hidden = true;
                    json!({
                        "MessageId": kept.id, "ReceiptHandle": kept.id, "Body": kept.body,
                        "MessageAttributes": kept.attributes, "Attributes": {"SentTimestamp": "1767225600042"},
                    })
                };
                let most = usize::try_from(request["MaxNumberOfMessages"].as_u64().unwrap()).unwrap().min(3);
                let page: Vec<Value> = dead.iter_mut().filter(|kept| !kept.hidden).take(most).map(give).collect();
                if page.is_empty() { json!({}) } else { json!({"Messages": page}) }
            }
            "ChangeMessageVisibilityBatch" => {
                for entry in request["Entries"].as_array().unwrap() {
                    assert_eq!(entry["VisibilityTimeout"], 0);
                    dead.iter_mut()
                        .filter(|kept| entry["ReceiptHandle"] == kept.id)
                        .for_each(|kept| kept.hidden = false);
                }
                json!({"Successful": [], "Failed": []})
            }
            "DeleteMessage" => {
                dead.retain(|kept| request["ReceiptHandle"] != kept.id);
                json!({})
            }
            other => panic!("{other} is not known"),
        }
    }

    fn left(&self) -> Vec<String> {
        let dead = self.dead.lock().unwrap();
        assert!(dead.iter().all(|kept| !kept.hidden), "everything that stays is shown again");
        dead.iter().map(|kept| kept.body.clone()).collect()
    }
}

fn death(reason: &str) -> Death {
    let at = Time::from_millis(1_767_225_600_000);
    Death { reason: reason.into(), tries: 5, sent_at: Some(at), died_at: Some(at + MAX_DELAY) }
}

#[tokio::test]
async fn what_is_buried_is_listed_with_its_reason_replayed_without_it_and_discarded() {
    let (shelf, memory) = (Arc::new(Shelf::default()), MemoryQueue::default());
    let server = shelf.start().await;
    let (sqs, name) = (queue_at(&server.uri()), QueueName::Deliver);
    let queues: [&dyn Queue; 2] = [&memory, &sqs];
    for queue in queues {
        for number in 0..7 {
            queue.bury(name, &format!("m{number}"), death(&format!("why {number}"))).await.unwrap();
        }
        let letters = queue.dead_letters(name, MAX_DEAD).await.unwrap();
        assert_eq!(letters.len(), 7);
        assert_eq!((letters[2].body.as_str(), &letters[2].death), ("m2", &death("why 2")));
        assert_eq!(queue.dead_letters(name, 2).await.unwrap(), letters[..2]);
        assert_eq!(queue.replay(name, Some(&letters[6].id)).await.unwrap(), 1);
        queue.discard(name, &letters[0].id).await.unwrap();
        for gone in [&letters[0].id, &letters[6].id] {
            assert_eq!(queue.discard(name, gone).await.unwrap_err().code(), Code::NotFound);
            assert_eq!(queue.replay(name, Some(gone)).await.unwrap_err().code(), Code::NotFound);
        }
        let left: Vec<_> = queue.dead_letters(name, MAX_DEAD).await.unwrap().into_iter().map(|one| one.body).collect();
        assert_eq!(left, ["m1", "m2", "m3", "m4", "m5"]);
    }
    assert_eq!(shelf.left(), ["m1", "m2", "m3", "m4", "m5"]);
    for queue in queues {
        assert_eq!(queue.replay(name, None).await.unwrap(), 5);
        assert_eq!(queue.replay(name, None).await.unwrap(), 0);
    }
    let sent = ["m6", "m1", "m2", "m3", "m4", "m5"];
    assert_eq!(*shelf.sent.lock().unwrap(), sent);
    assert_eq!(memory.take(name), sent.map(Outgoing::now));
    assert!(shelf.left().is_empty());
}

#[tokio::test]
async fn a_letter_that_no_worker_buried_says_that_its_worker_ended() {
    let shelf = Arc::new(Shelf::default());
    shelf.add("moved", "text", json!({}));
    let server = shelf.start().await;
    let letters = queue_at(&server.uri()).dead_letters(QueueName::Deliver, 10).await.unwrap();
    let death = Death {
        reason: WORKER_ENDED.into(),
        tries: QueueName::Deliver.tries(),
        sent_at: Some(Time::from_millis(1_767_225_600_042)),
        died_at: None,
    };
    assert_eq!(letters, [DeadLetter { id: "moved".into(), body: "text".into(), death }]);
}

#[tokio::test]
async fn no_call_lists_more_than_two_hundred_letters_or_replays_more_than_a_hundred() {
    let (shelf, memory) = (Arc::new(Shelf::default()), MemoryQueue::default());
    for number in 0..230 {
        shelf.add(&number.to_string(), "text", json!({}));
        memory.bury(QueueName::Deliver, "text", death("why")).await.unwrap();
    }
    let server = shelf.start().await;
    let sqs = queue_at(&server.uri());
    let queues: [&dyn Queue; 2] = [&memory, &sqs];
    for queue in queues {
        assert_eq!(queue.dead_letters(QueueName::Deliver, 1000).await.unwrap().len(), MAX_LISTED);
        assert_eq!(queue.replay(QueueName::Deliver, None).await.unwrap(), MAX_DEAD);
        assert_eq!(queue.dead_letters(QueueName::Deliver, 1000).await.unwrap().len(), 130);
    }
}

#[tokio::test]
async fn one_letter_is_found_far_down_and_else_it_is_said_how_many_were_looked_at() {
    let shelf = Arc::new(Shelf::default());
    for number in 0..1_100 {
        shelf.add(&number.to_string(), "text", json!({}));
    }
    let server = shelf.start().await;
    let sqs = queue_at(&server.uri());
    assert_eq!(sqs.replay(QueueName::Deliver, Some("300")).await.unwrap(), 1);
    let error = sqs.discard(QueueName::Deliver, "1099").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("dead letters that the queue showed"), "{error}");
    assert_eq!(shelf.left().len(), 1_099);
}
