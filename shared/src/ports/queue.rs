//! Queues: work that a worker does later. Production sends to SQS; the local platform has queues of its own behind the
//! same trait; tests collect.
//!
//! A message whose work fails comes again. After [`QueueName::tries`] the worker buries it among the queue's dead
//! letters, with its reason; a message that ends its worker is moved there by the queue itself. Dead letters are
//! listed, replayed and discarded by the operator.

mod memory;
mod sqs;
#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use async_trait::async_trait;

pub use memory::MemoryQueue;
pub use sqs::SqsQueue;

use crate::kernel::{Error, Result, Time};

/// The longest delay that SQS knows; whatever is due later waits in the table.
pub const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// The most bytes of a message, and of all messages of one batch.
pub const MAX_BYTES: usize = 1 << 20;

/// The most messages of one batch.
const MAX_BATCH: usize = 10;

/// The most dead letters that one call replays.
pub const MAX_DEAD: usize = 100;

/// The most dead letters that one call lists.
pub const MAX_LISTED: usize = 200;

/// Why the queue itself gave a message up: nobody was left to say more.
pub const WORKER_ENDED: &str = "The worker ended before the message was done (crash, time-out or stop), each time.";

/// What IAM calls sending, also among the dead letters.
pub const SENDS: [&str; 1] = ["sqs:SendMessage"];

/// What it calls being fed by a queue, which Lambda does in the name of the function's role, and letting a message come
/// again at another time.
pub const CONSUMES: [&str; 4] =
    ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"];

/// What it calls listing, replaying and discarding dead letters.
pub const WORKS_OFF: [&str; 3] = ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage"];

/// The queues that the product's code sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueName {
    /// Deliveries to webhooks, and mail.
    Deliver,
    /// Deliveries to webhooks that answer slowly: apart, so that they hold back nobody else's.
    DeliverSlow,
    /// Usage batches to report to the billing provider.
    UsageReport,
    /// Messages of channels: to store, to answer, to send.
    Turn,
}

impl QueueName {
    /// Every queue.
    pub const ALL: &[Self] = &[Self::Deliver, Self::DeliverSlow, Self::UsageReport, Self::Turn];

    /// The name, as in the template and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::DeliverSlow => "deliver-slow",
            Self::UsageReport => "usage-report",
            Self::Turn => "turn",
        }
    }

    /// The environment variable that holds the queue's URL.
    #[must_use]
    pub const fn url_variable(self) -> &'static str {
        match self {
            Self::Deliver => "DELIVER_QUEUE_URL",
            Self::DeliverSlow => "DELIVER_SLOW_QUEUE_URL",
            Self::UsageReport => "USAGE_REPORT_QUEUE_URL",
            Self::Turn => "TURN_QUEUE_URL",
        }
    }

    /// The environment variable that holds the URL of its dead-letter queue.
    #[must_use]
    pub const fn dead_letters_url_variable(self) -> &'static str {
        match self {
            Self::Deliver => "DELIVER_DEAD_LETTERS_URL",
            Self::DeliverSlow => "DELIVER_SLOW_DEAD_LETTERS_URL",
            Self::UsageReport => "USAGE_REPORT_DEAD_LETTERS_URL",
            Self::Turn => "TURN_DEAD_LETTERS_URL",
        }
    }

    /// How often a message is tried before it is given up: `maxReceiveCount` in the template.
    #[must_use]
    pub const fn tries(self) -> u32 {
        match self {
            Self::Deliver | Self::DeliverSlow | Self::Turn => 5,
            Self::UsageReport => 4,
        }
    }

    /// The queue of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|queue| queue.as_str() == name)
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

/// How a message came to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Why its last try failed, in our words: never a secret, never the message's own text.
    pub reason: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it was sent first, where that is known.
    pub sent_at: Option<Time>,
    /// When it was given up, where that is known.
    pub died_at: Option<Time>,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names it among its queue's dead letters.
    pub id: String,
    /// The message, as it was sent.
    pub body: String,
    /// How it came here.
    pub death: Death,
}

/// Sends messages, and keeps those that were given up. A message may arrive more than once and in any order.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Sends all messages, or says how many were not sent. The caller then sends all of them again.
    ///
    /// # Errors
    /// `internal_error` when a message breaks a limit (then none is sent); `not_configured` when the queue is not known
    /// here; `unavailable` when some were not sent.
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()>;

    /// Lets a received message that is not acknowledged come again after `wait`, instead of at the end of the queue's
    /// visibility time-out. `receipt` is the handle that it was received with.
    ///
    /// # Errors
    /// `not_configured` when the queue is not known here; `unavailable` when it was not taken.
    async fn again(&self, queue: QueueName, receipt: &str, wait: Duration) -> Result<()>;

    /// Puts a message among the dead letters. Whoever has it acknowledges it after; a crash in between leaves it in
    /// both places, which a replay bears.
    ///
    /// # Errors
    /// `not_configured` when the queue is not known here; `unavailable` when it was not taken.
    async fn bury(&self, queue: QueueName, body: &str, death: Death) -> Result<()>;

    /// Dead letters of a queue, up to `limit` and [`MAX_LISTED`], the oldest first where the queue knows.
    ///
    /// # Errors
    /// `not_configured` or `unavailable`.
    async fn dead_letters(&self, queue: QueueName, limit: usize) -> Result<Vec<DeadLetter>>;

    /// Sends a dead letter again as a new message, or up to [`MAX_DEAD`] of them, and says how many.
    ///
    /// # Errors
    /// `not_found` when there is no such letter, or the queue does not show it; `not_configured` or `unavailable`.
    async fn replay(&self, queue: QueueName, id: Option<&str>) -> Result<usize>;

    /// Ends a dead letter for good.
    ///
    /// # Errors
    /// `not_found` when there is no such letter, or the queue does not show it; `not_configured` or `unavailable`.
    async fn discard(&self, queue: QueueName, id: &str) -> Result<()>;
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
