//! What of the ports a function's binary brings with it: what its row lists, and nothing else. The others are not linked
//! into it, which is a good part of what it weighs, and so of a cold start.

use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;

use super::{LazyMailer, environment};
use crate::app::function::{FUNCTIONS, Function, Use};
use crate::app::renewed::Renewed;
use crate::kernel::{Clock, Code, Error, Result, Secret};
use crate::ports::mail::{self, Mail, Mailer};
use crate::ports::objects::Objects;
use crate::ports::queue::{DeadLetter, Death, Outgoing, Queue, QueueName, SqsQueue};
use crate::ports::secrets::{ManagerSecrets, Secrets};

/// A function and what it brings. Made in a `const`, so that what it lacks is named nowhere in the binary:
///
/// ```ignore
/// serve_group(&SURFACE, const { Kit::of("studio-chat") })
/// ```
pub struct Kit {
    /// Its row.
    pub function: &'static Function,
    pub(super) secrets: OpenSecrets,
    pub(super) queue: fn(&Given<'_>) -> Arc<dyn Queue>,
    pub(super) mailer: fn(&Given<'_>) -> Arc<dyn Mailer>,
    pub(super) objects: fn(String) -> Objects,
}

/// Opens the secret of this ARN.
type OpenSecrets = fn(&SdkConfig, String, Arc<dyn Clock>) -> Arc<dyn Secrets>;

/// What ports are made of.
pub(super) struct Given<'a> {
    pub(super) sdk: &'a SdkConfig,
    /// A variable that the function reads, by its name.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) secrets: &'a Arc<dyn Secrets>,
    pub(super) clock: &'a Arc<dyn Clock>,
}

impl Kit {
    /// The function of this binary.
    ///
    /// # Panics
    /// While it is compiled, for a binary without a row.
    #[must_use]
    pub const fn of(binary: &str) -> Self {
        let mut at = 0;
        while !is_same(FUNCTIONS[at].binary, binary) {
            at += 1;
            // A build stops here, and no program.
            assert!(at < FUNCTIONS.len(), "the binary has no row in shared/src/app/function.rs");
        }
        Self::new(&FUNCTIONS[at])
    }

    const fn new(function: &'static Function) -> Self {
        let mut kit =
            Self { function, secrets: no_secrets, queue: no_queue, mailer: no_mailer, objects: |_| Objects::none() };
        let mut at = 0;
        while at < function.uses.len() {
            match function.uses[at] {
                Use::Secret => kit.secrets = secrets_manager,
                Use::Send(_) | Use::Consume(_) | Use::DeadLetters(_) => kit.queue = sqs,
                Use::Mail => kit.mailer = smtp,
                Use::Objects | Use::ReadObjects => kit.objects = |bucket| Objects::s3(bucket, environment),
                Use::Read | Use::Write | Use::Count | Use::Follow | Use::Stream => {}
            }
            at += 1;
        }
        kit
    }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

fn secrets_manager(sdk: &SdkConfig, arn: String, clock: Arc<dyn Clock>) -> Arc<dyn Secrets> {
    Arc::new(ManagerSecrets::new(sdk.clone(), arn, clock))
}

fn sqs(given: &Given<'_>) -> Arc<dyn Queue> {
    Arc::new(SqsQueue::new(given.sdk.clone(), given.variable))
}

fn smtp(given: &Given<'_>) -> Arc<dyn Mailer> {
    Arc::new(LazyMailer {
        secrets: Arc::clone(given.secrets),
        clock: Arc::clone(given.clock),
        settings: mail::VARIABLES.map(given.variable),
        smtp: Renewed::default(),
    })
}

fn no_secrets(_: &SdkConfig, _: String, _: Arc<dyn Clock>) -> Arc<dyn Secrets> {
    Arc::new(NotBrought)
}

fn no_queue(_: &Given<'_>) -> Arc<dyn Queue> {
    Arc::new(NotBrought)
}

fn no_mailer(_: &Given<'_>) -> Arc<dyn Mailer> {
    Arc::new(NotBrought)
}

/// Stands where a function brings nothing.
struct NotBrought;

fn refuse<T>(what: &str) -> Result<T> {
    let why = format!("this function's row in shared/src/app/function.rs lists no {what}");
    Err(Error::new(Code::NotConfigured).caused_by(why))
}

#[async_trait]
impl Secrets for NotBrought {
    async fn get(&self, _: &str) -> Result<Option<Secret>> {
        refuse("secret")
    }
}

#[async_trait]
impl Mailer for NotBrought {
    async fn send(&self, _: &Mail) -> Result<()> {
        refuse("mail")
    }
}

#[async_trait]
impl Queue for NotBrought {
    async fn send(&self, _: QueueName, _: Vec<Outgoing>) -> Result<()> {
        refuse("queue")
    }

    async fn again(&self, _: QueueName, _: &str, _: std::time::Duration) -> Result<()> {
        refuse("queue")
    }

    async fn bury(&self, _: QueueName, _: &str, _: Death) -> Result<()> {
        refuse("queue")
    }

    async fn dead_letters(&self, _: QueueName, _: usize) -> Result<Vec<DeadLetter>> {
        refuse("queue")
    }

    async fn replay(&self, _: QueueName, _: Option<&str>) -> Result<usize> {
        refuse("queue")
    }

    async fn discard(&self, _: QueueName, _: &str) -> Result<()> {
        refuse("queue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kit_brings_what_the_row_lists() {
        let (site, turn) = (Kit::of("studio-site"), Kit::of("turn"));
        assert_eq!((site.function.binary, turn.function.binary), ("studio-site", "turn"));
        let objects = |kit: &Kit| (kit.objects)("bucket".into()).is_none();
        assert!(objects(&site) && !objects(&turn));
        let refused = (site.objects)("bucket".into()).put("ws/a.txt", "", "text/plain").await.unwrap_err();
        assert_eq!(refused.code(), Code::NotConfigured);
        assert_eq!(NotBrought.get("openai_api_key").await.unwrap_err().code(), Code::NotConfigured);
    }

    #[test]
    #[should_panic(expected = "no row")]
    fn a_binary_without_a_row_does_not_compile() {
        drop(Kit::of("studio-nothing"));
    }
}
