//! Queues: work that a worker does later. Production sends to SQS; the local platform has queues of its own behind the
//! same trait; tests collect.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use crate::kernel::{Code, Error, Result};

/// The longest delay that SQS knows; whatever is due later waits in the table.
pub const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// The most bytes of a message, and of all messages of one batch.
pub const MAX_BYTES: usize = 1 << 20;

/// The most messages of one batch.
const MAX_BATCH: usize = 10;

/// How often the refused messages of a batch are sent again.
const RETRIES: u32 = 3;

/// The queues that the product's code sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueName {
    /// Deliveries to webhooks.
    Deliver,
    /// Usage batches to report to the billing provider.
    UsageReport,
}

impl QueueName {
    /// Every queue.
    pub const ALL: &[Self] = &[Self::Deliver, Self::UsageReport];

    /// The name, as in the template and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::UsageReport => "usage-report",
        }
    }

    /// The environment variable that holds the queue's URL.
    #[must_use]
    pub const fn url_variable(self) -> &'static str {
        match self {
            Self::Deliver => "DELIVER_QUEUE_URL",
            Self::UsageReport => "USAGE_REPORT_QUEUE_URL",
        }
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The text, 1 byte to [`MAX_BYTES`].
    pub body: String,
    /// How long nobody sees it: whole seconds, rounded up, at most [`MAX_DELAY`].
    pub delay: Duration,
}

impl Outgoing {
    /// A message without delay.
    #[must_use]
    pub fn now(body: impl Into<String>) -> Self {
        Self { body: body.into(), delay: Duration::ZERO }
    }

    /// The delay as SQS takes it. Rounded up, so that a retry never comes before it is due.
    fn delay_seconds(&self) -> i32 {
        i32::try_from(self.delay.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
    }
}

/// Sends messages. A message may arrive more than once and in any order.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Sends all messages, or says how many were not sent. The caller then sends all of them again.
    ///
    /// # Errors
    /// `internal_error` when a message breaks a limit (then none is sent); `not_configured` when the queue is not known
    /// here; `unavailable` when some were not sent.
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()>;
}

/// Refuses what SQS would refuse, before anything is sent. To break a limit is a fault of ours, not of a caller.
fn check(queue: QueueName, messages: &[Outgoing]) -> Result<()> {
    for message in messages {
        let fault = match message {
            Outgoing { delay, .. } if *delay > MAX_DELAY => "delayed by more than 15 minutes",
            Outgoing { body, .. } if body.is_empty() => "empty",
            Outgoing { body, .. } if body.len() > MAX_BYTES => "larger than 1 MiB",
            _ => continue,
        };
        return Err(Error::internal(format!("a message for {} is {fault}", queue.as_str())));
    }
    Ok(())
}

/// Cuts messages into batches of at most [`MAX_BATCH`] messages and [`MAX_BYTES`], in order.
fn batches(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH && bytes <= MAX_BYTES => batch.push(message),
            _ => {
                bytes = message.body.len();
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// Queues of SQS.
pub struct SqsQueue {
    config: SdkConfig,
    urls: HashMap<QueueName, String>,
    /// The wait before the first retry; it doubles.
    pause: Duration,
    client: OnceLock<Client>,
}

impl SqsQueue {
    /// The queues with these URLs; a function names only those that it sends to. The client is built on first use.
    #[must_use]
    pub fn new(config: SdkConfig, urls: impl IntoIterator<Item = (QueueName, String)>) -> Self {
        let urls = urls.into_iter().collect();
        Self { config, urls, pause: Duration::from_millis(100), client: OnceLock::new() }
    }

    /// Sends one batch.
    async fn send_batch(&self, url: &str, batch: &[Outgoing]) -> Result<(), Unsent> {
        let client = self.client.get_or_init(|| Client::new(&self.config));
        let mut waiting = entries(batch)?;
        let mut rejected = Unsent::default();
        for attempt in 0..=RETRIES {
            if attempt > 0 {
                tokio::time::sleep(self.pause * 2_u32.pow(attempt - 1)).await;
            }
            let sent = client.send_message_batch().queue_url(url).set_entries(Some(waiting.clone())).send().await;
            let answer = sent.map_err(|error| Unsent {
                count: rejected.count + waiting.len(),
                why: format!("{:?}: {}", error.code(), DisplayErrorContext(&error)),
                stop: true,
            })?;
            let done: HashSet<&str> = answer.successful().iter().map(|entry| entry.id()).collect();
            waiting.retain(|entry| !done.contains(entry.id()));
            for failure in answer.failed() {
                rejected.why = format!("{}: {}", failure.code(), failure.message().unwrap_or_default());
                if failure.sender_fault() {
                    // The message itself is at fault, so that to send it again would change nothing.
                    waiting.retain(|entry| entry.id() != failure.id());
                    rejected.count += 1;
                }
            }
            if waiting.is_empty() {
                break;
            }
        }
        rejected.count += waiting.len();
        if rejected.count == 0 { Ok(()) } else { Err(rejected) }
    }
}

/// What is left of a batch.
#[derive(Debug, Default)]
struct Unsent {
    count: usize,
    /// The last reason that SQS gave.
    why: String,
    /// Whether SQS did not answer at all, so that further batches would only wait in vain.
    stop: bool,
}

fn entries(batch: &[Outgoing]) -> Result<Vec<SendMessageBatchRequestEntry>, Unsent> {
    let entry = |(index, message): (usize, &Outgoing)| {
        let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&message.body);
        entry.delay_seconds(message.delay_seconds()).build()
    };
    let entries: Result<Vec<_>, _> = batch.iter().enumerate().map(entry).collect();
    entries.map_err(|error| Unsent { count: batch.len(), why: error.to_string(), stop: false })
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        let url = self
            .urls
            .get(&queue)
            .ok_or_else(|| Error::new(Code::NotConfigured).caused_by(format!("{} is not set", queue.url_variable())))?;
        check(queue, &messages)?;
        let total = messages.len();
        let mut unsent = Unsent::default();
        for batch in batches(messages) {
            if unsent.stop {
                unsent.count += batch.len();
            } else if let Err(left) = Box::pin(self.send_batch(url, &batch)).await {
                unsent = Unsent { count: unsent.count + left.count, ..left };
            }
        }
        if unsent.count == 0 {
            return Ok(());
        }
        let (count, name, why) = (unsent.count, queue.as_str(), unsent.why);
        Err(Error::new(Code::Unavailable).caused_by(format!("{count} of {total} messages for {name} not sent: {why}")))
    }
}

/// Collects messages, for tests. It refuses what SQS would refuse.
#[derive(Debug, Default)]
pub struct MemoryQueue(Mutex<HashMap<QueueName, Vec<Outgoing>>>);

impl MemoryQueue {
    /// Takes out what was sent to `queue`, oldest first.
    #[must_use]
    pub fn take(&self, queue: QueueName) -> Vec<Outgoing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&queue).unwrap_or_default()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        check(queue, &messages)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(queue).or_default().extend(messages);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use aws_config::retry::RetryConfig;
    use aws_config::{BehaviorVersion, Region};
    use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
    use serde_json::{Value, json};
    use wiremock::matchers::header;
    use wiremock::{Mock, MockServer, Request, ResponseTemplate};

    use super::*;

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
        let url = format!("{endpoint}/000000000000/deliver");
        let queue = SqsQueue::new(sdk_config(endpoint), [(QueueName::Deliver, url)]);
        SqsQueue { pause: Duration::ZERO, ..queue }
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
        let names: HashSet<_> =
            QueueName::ALL.iter().flat_map(|queue| [queue.as_str(), queue.url_variable()]).collect();
        assert_eq!(names.len(), 2 * QueueName::ALL.len());
    }
}
