//! Queues of SQS, and their dead-letter queues.
//!
//! A dead-letter queue is a queue like any other: to see what is in it is to receive it. Listing hides what it
//! receives for a moment, so that it receives nothing twice, and shows it again at its end.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata as _, SdkError};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName as System,
    SendMessageBatchRequestEntry,
};

use super::{DeadLetter, Death, MAX_DEAD, MAX_LISTED, Outgoing, Queue, QueueName, WORKER_ENDED, batches, check};
use crate::kernel::{Code, Error, Result, Time};

/// How often the refused messages of a batch are sent again.
const RETRIES: u32 = 3;
/// The most messages that SQS gives at once.
const PAGE: i32 = 10;
/// How many dead letters are looked at to find one, and for how long at most.
const MAX_SEARCHED: usize = 1_000;

/// How long one try may take; nothing here waits for messages.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
const SEARCH: Duration = Duration::from_secs(12);
/// How long a listed dead letter is hidden, should nobody show it again: longer than a search takes.
const HIDDEN_SECONDS: i32 = 20;
/// How long SQS looks for messages. With no wait at all it asks only some of its servers.
const LOOK_SECONDS: i32 = 1;

/// Attributes of a dead letter that a worker buried.
const REASON: &str = "reason";
const TRIES: &str = "tries";
const SENT_AT: &str = "sent_at";
const DIED_AT: &str = "died_at";

/// Queues of SQS.
pub struct SqsQueue {
    config: SdkConfig,
    urls: HashMap<&'static str, String>,
    /// The wait before the first retry; it doubles.
    pub(super) pause: Duration,
    client: OnceLock<Client>,
}

impl SqsQueue {
    /// The queues whose URLs `lookup` finds under their variables; a function is told only of those that it uses. The
    /// client is built on first use.
    #[must_use]
    pub fn new(config: SdkConfig, lookup: impl Fn(&str) -> Option<String>) -> Self {
        let variables =
            QueueName::ALL.iter().flat_map(|queue| [queue.url_variable(), queue.dead_letters_url_variable()]);
        let urls = variables.filter_map(|variable| Some((variable, lookup(variable)?))).collect();
        Self { config, urls, pause: Duration::from_millis(100), client: OnceLock::new() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let timeouts = TimeoutConfig::builder().operation_attempt_timeout(TRY_TIMEOUT).build();
            Client::from_conf(Builder::from(&self.config).timeout_config(timeouts).build())
        })
    }

    fn url(&self, variable: &'static str) -> Result<&str> {
        let lacks = || Error::new(Code::NotConfigured).caused_by(format!("{variable} is not set"));
        self.urls.get(variable).map(String::as_str).ok_or_else(lacks)
    }

    fn live(&self, queue: QueueName) -> Result<&str> {
        self.url(queue.url_variable())
    }

    fn dead(&self, queue: QueueName) -> Result<&str> {
        self.url(queue.dead_letters_url_variable())
    }

    /// Sends one batch.
    async fn send_batch(&self, url: &str, batch: &[Outgoing]) -> Result<(), Unsent> {
        let client = self.client();
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

/// Any failure of a call to SQS.
fn unavailable<E, R>(error: SdkError<E, R>) -> Error
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    Error::new(Code::Unavailable).caused_by(DisplayErrorContext(&error))
}

fn attribute(text: impl Into<String>) -> Result<MessageAttributeValue> {
    MessageAttributeValue::builder().data_type("String").string_value(text).build().map_err(Error::internal)
}

/// What a message of a dead-letter queue tells. One that no worker buried was moved there by the redrive policy.
fn letter(queue: QueueName, message: &Message) -> DeadLetter {
    let text = |name: &str| message.message_attributes()?.get(name)?.string_value();
    let time = |name: &str| serde_json::from_value::<Time>(text(name)?.into()).ok();
    let system = |name: &System| message.attributes()?.get(name)?.parse::<i64>().ok();
    let death = match text(REASON) {
        Some(reason) => Death {
            reason: reason.to_owned(),
            tries: text(TRIES).and_then(|tries| tries.parse().ok()).unwrap_or(queue.tries()),
            sent_at: time(SENT_AT),
            died_at: time(DIED_AT),
        },
        None => Death {
            reason: WORKER_ENDED.to_owned(),
            tries: queue.tries(),
            // SQS keeps the time of the first sending when it moves a message.
            sent_at: system(&System::SentTimestamp).map(Time::from_millis),
            died_at: None,
        },
    };
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    DeadLetter { id: owned(message.message_id()), body: owned(message.body()), death }
}

impl SqsQueue {
    /// Receives up to `most` dead letters, each once, until `enough` says so of the newly received, or none is left.
    async fn look(&self, queue: QueueName, most: usize, enough: impl Fn(&[Message]) -> bool) -> Result<Vec<Message>> {
        let (url, mut found, mut known) = (self.dead(queue)?, Vec::<Message>::new(), HashSet::new());
        let mut seen = 0;
        while found.len() < most && !enough(&found[seen..]) {
            seen = found.len();
            let room = i32::try_from(most - found.len()).unwrap_or(PAGE).min(PAGE);
            let request = self.client().receive_message().queue_url(url).max_number_of_messages(room);
            let request = request.visibility_timeout(HIDDEN_SECONDS).wait_time_seconds(LOOK_SECONDS);
            let request = request.message_attribute_names("All").message_system_attribute_names(System::SentTimestamp);
            let page = Box::pin(request.send()).await.map_err(unavailable)?.messages.unwrap_or_default();
            found.extend(page.into_iter().filter(|message| known.insert(message.message_id.clone())));
            if found.len() == seen {
                break;
            }
        }
        Ok(found)
    }

    /// Shows received dead letters again, so that the next call finds them. Those that stay hidden come back by
    /// themselves.
    async fn show(&self, queue: QueueName, messages: &[Message]) -> Result<()> {
        for page in messages.chunks(10) {
            let entry = |(number, message): (usize, &Message)| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(number.to_string());
                let entry = entry.receipt_handle(message.receipt_handle().unwrap_or_default()).visibility_timeout(0);
                entry.build().map_err(Error::internal)
            };
            let entries = page.iter().enumerate().map(entry).collect::<Result<Vec<_>>>()?;
            let request = self.client().change_message_visibility_batch().queue_url(self.dead(queue)?);
            Box::pin(request.set_entries(Some(entries)).send()).await.map_err(unavailable)?;
        }
        Ok(())
    }

    /// The dead letter of that id, received, and everything else shown again.
    async fn find(&self, queue: QueueName, id: &str) -> Result<Message> {
        let is_it = |message: &Message| message.message_id() == Some(id);
        let began = Instant::now();
        let enough = |new: &[Message]| new.iter().any(is_it) || began.elapsed() > SEARCH;
        let mut found = self.look(queue, MAX_SEARCHED, enough).await?;
        let at = found.iter().position(is_it);
        let message = at.map(|at| found.remove(at));
        self.show(queue, &found).await?;
        message.ok_or_else(|| {
            let looked = found.len();
            let text = format!(
                "It is not among the {looked} dead letters that the queue showed. It may still be there: \
                                a queue shows a sample, so try again, or replay without an id."
            );
            Error::with_message(Code::NotFound, text)
        })
    }

    async fn end(&self, queue: QueueName, message: &Message) -> Result<()> {
        let handle = message.receipt_handle().unwrap_or_default();
        let request = self.client().delete_message().queue_url(self.dead(queue)?).receipt_handle(handle);
        Box::pin(request.send()).await.map(drop).map_err(unavailable)
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        let url = self.live(queue)?;
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

    async fn again(&self, queue: QueueName, receipt: &str, wait: Duration) -> Result<()> {
        let request = self.client().change_message_visibility().queue_url(self.live(queue)?).receipt_handle(receipt);
        let seconds = i32::try_from(wait.as_secs()).unwrap_or(i32::MAX);
        Box::pin(request.visibility_timeout(seconds).send()).await.map(drop).map_err(unavailable)
    }

    async fn bury(&self, queue: QueueName, body: &str, death: Death) -> Result<()> {
        let request = self.client().send_message().queue_url(self.dead(queue)?).message_body(body);
        let mut request = request
            .message_attributes(REASON, attribute(death.reason)?)
            .message_attributes(TRIES, attribute(death.tries.to_string())?);
        for (name, at) in [(SENT_AT, death.sent_at), (DIED_AT, death.died_at)] {
            if let Some(at) = at {
                request = request.message_attributes(name, attribute(at.to_string())?);
            }
        }
        Box::pin(request.send()).await.map(drop).map_err(unavailable)
    }

    async fn dead_letters(&self, queue: QueueName, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut found = self.look(queue, limit.min(MAX_LISTED), |_| false).await?;
        self.show(queue, &found).await?;
        found.truncate(limit);
        Ok(found.iter().map(|message| letter(queue, message)).collect())
    }

    async fn replay(&self, queue: QueueName, id: Option<&str>) -> Result<usize> {
        let messages = match id {
            Some(id) => vec![self.find(queue, id).await?],
            None => self.look(queue, MAX_DEAD, |_| false).await?,
        };
        for message in &messages {
            // Sent before it is ended: a crash in between doubles it, and work bears a repeat.
            let body = message.body().unwrap_or_default();
            self.send(queue, vec![Outgoing::now(body)]).await?;
            self.end(queue, message).await?;
        }
        Ok(messages.len())
    }

    async fn discard(&self, queue: QueueName, id: &str) -> Result<()> {
        let message = self.find(queue, id).await?;
        self.end(queue, &message).await
    }
}
