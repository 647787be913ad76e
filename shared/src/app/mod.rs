//! Use cases. Each is `(app, caller, command) -> Result<…>`; one that changes something returns a [`Draft`]: the
//! transaction, not carried out yet, and what it will have made. Whoever carries it out can add to it (the audit entry,
//! the idempotency record), so that all of it happens together or not at all.

pub mod account;
pub mod admin;
pub mod agent;
pub(crate) mod ai_key;
pub mod allowance;
pub mod api_key;
pub mod appointment;
mod appointment_mail;
pub mod audit;
pub mod auth;
pub mod aws;
pub mod billing;
pub mod checkout;
pub mod client;
pub mod clock;
pub mod committed;
pub mod config;
pub mod conversation;
pub mod dead_letter;
pub mod deliver;
pub mod event;
pub mod file;
pub mod function;
pub mod history;
pub mod identity;
pub mod lead;
pub mod log;
pub mod mail_limit;
pub mod notify;
pub mod outbox;
pub mod password;
pub mod payload;
pub mod polar;
pub mod projector;
pub mod rate;
pub mod reconcile;
pub mod relay;
pub mod renewed;
pub mod reseal;
pub mod section;
pub mod tenant;
mod tool_config;
pub mod upload;
pub mod usage;
pub mod usage_event;
pub mod verification;
pub mod version;
pub mod webhook;
pub mod whatsapp;

use std::ops::Deref;
use std::sync::Arc;

pub use config::Config;
use renewed::Renewed;

use crate::events::catalog::Catalog;
use crate::kernel::secret::Secret;
use crate::kernel::{Clock, Error, Ids, Keyring, Result, Rng, Time};
use crate::ports::egress::Egress;
use crate::ports::journal::Journal;
use crate::ports::llm::Llm;
use crate::ports::mail::{self, Mail, Mailer};
use crate::ports::objects::Objects;
use crate::ports::polar::Polar;
use crate::ports::queue::{Outgoing, Queue, QueueName};
use crate::ports::secrets::{ROOT_KEYRING, Secrets};
use crate::table::{Refusal, Table, Unit};

/// Everything that a use case may reach; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What an [`App`] is made of.
pub struct Parts {
    /// Where everything is kept.
    pub table: Table,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Rng,
    /// Settings.
    pub config: Config,
    /// Secrets of the installation.
    pub secrets: Arc<dyn Secrets>,
    /// Work for later.
    pub queue: Arc<dyn Queue>,
    /// Where it is told what was done.
    pub journal: Arc<dyn Journal>,
    /// Mail.
    pub mailer: Arc<dyn Mailer>,
    /// Files.
    pub objects: Objects,
    /// Models.
    pub llm: Arc<dyn Llm>,
    /// Calls to addresses that callers gave.
    pub egress: Arc<Egress>,
    /// The metering provider; `None` where it is not configured.
    pub polar: Option<Polar>,
}

/// The parts, and what is made of them once.
pub struct Inner {
    parts: Parts,
    ids: Ids,
    keys: Renewed<Keys>,
    rates: rate::Rates,
    holds: allowance::Holds,
    lanes: deliver::lane::Lanes,
    committed: committed::Committed,
}

/// The installation's keys, one ring a purpose.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Signs sessions.
    pub session: Keyring,
    /// Authenticates visitors' handles.
    pub handle: Keyring,
    /// Seals customers' secrets.
    pub seal: Keyring,
    /// Authenticates the links of invitations, and those that verify an address.
    pub link: Keyring,
}

impl Keys {
    /// The rings that come of the secret `root_keyring`.
    ///
    /// # Errors
    /// `internal_error` when it is missing or unreadable.
    pub fn of(root: Option<&Secret>) -> Result<Self> {
        let root = root.ok_or_else(|| Error::internal("the secret root_keyring is missing"))?;
        let root = Keyring::parse(root.expose())?;
        let derive = |purpose| root.derive(purpose);
        Ok(Self { session: derive("session"), handle: derive("handle"), seal: derive("seal"), link: derive("link") })
    }
}

/// A transaction that is not carried out yet, and what it will have made.
#[derive(Debug)]
pub struct Draft<T> {
    /// The writes.
    pub unit: Unit,
    /// What they make.
    pub value: T,
    /// Messages to send once it is written. Only for haste: what must not be lost is also found by the clock,
    /// or asked for again by whoever misses it.
    pub then: Vec<(QueueName, Outgoing)>,
}

impl<T> Draft<T> {
    /// A draft.
    pub const fn new(unit: Unit, value: T) -> Self {
        Self { unit, value, then: Vec::new() }
    }

    /// A draft of what is done already: its writes are only about who did it.
    #[must_use]
    pub fn done(value: T) -> Self {
        Self::new(Unit::new(), value)
    }

    /// The same, of something made of what it makes.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Draft<U> {
        Draft { unit: self.unit, value: to(self.value), then: self.then }
    }
}

impl App {
    /// An app of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let ids = Ids::new(Arc::clone(&parts.clock), parts.rng.clone());
        Self(Arc::new(Inner {
            parts,
            ids,
            keys: Renewed::default(),
            rates: rate::Rates::default(),
            holds: allowance::Holds::default(),
            lanes: deliver::lane::Lanes::default(),
            committed: committed::Committed::default(),
        }))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Makes ids.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.0.ids
    }

    /// Makes events of this moment.
    #[must_use]
    pub fn events(&self) -> Catalog<'_> {
        Catalog::new(self.ids(), self.now())
    }

    /// The installation's keys, as the secrets have them now: a new one in front of the root keyring counts without a
    /// deployment.
    ///
    /// # Errors
    /// `not_configured` without a root keyring, `internal_error` when it is unreadable.
    pub async fn keys(&self) -> Result<Arc<Keys>> {
        let root = self.secrets.get(ROOT_KEYRING).await?;
        self.0.keys.of(vec![root], |root| Keys::of(root.first().and_then(Option::as_ref)))
    }

    /// Seals a secret of a customer's into its place.
    ///
    /// # Errors
    /// As [`Self::keys`].
    pub async fn seal(&self, place: &str, secret: &Secret) -> Result<crate::kernel::secret::Sealed> {
        self.keys().await?.seal.seal(&self.rng, place, secret.expose().as_bytes())
    }

    /// Carries out a unit and tells who listens of its events.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub async fn commit(&self, unit: Unit) -> Result<(), Refusal> {
        let events = self.0.committed.of(&unit);
        let outcome = self.table.commit(unit).await;
        if !matches!(outcome, Err(Refusal::Conditions(_))) {
            self.0.committed.tell(events, outcome.is_ok());
        }
        outcome
    }

    /// Sends a mail. `false` when its address takes none, which is its owner's mistake and no fault of ours: it is logged for
    /// `whom`, without the address, and to send it again would change nothing.
    ///
    /// # Errors
    /// When the mail is not taken for another reason.
    pub async fn mail(&self, whom: &str, mail: &Mail) -> Result<bool> {
        match self.mailer.send(mail).await {
            Ok(()) => Ok(true),
            Err(error) if mail::is_refusal(&error) => {
                let subject = &mail.subject;
                tracing::warn!(whom, subject, %error, "somebody is not told: their address takes no mail");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Carries out a draft as it is and gives what it made: for callers without a request, such as workers.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub async fn complete<T>(&self, draft: Draft<T>) -> Result<T> {
        self.commit(draft.unit).await?;
        self.send_after(draft.then).await;
        Ok(draft.value)
    }

    /// Sends what a draft asked for after it was carried out.
    pub async fn send_after(&self, messages: Vec<(QueueName, Outgoing)>) {
        for (queue, message) in messages {
            if let Err(error) = self.queue.send(queue, vec![message]).await {
                tracing::warn!(queue = queue.as_str(), %error, "left to the clock: the queue did not take a message");
            }
        }
    }

    /// Events as this process commits them.
    #[must_use]
    pub fn committed(&self) -> &committed::Committed {
        &self.0.committed
    }

    /// What this process remembers of allowances.
    #[must_use]
    pub fn holds(&self) -> &allowance::Holds {
        &self.0.holds
    }

    /// The lanes of this process to webhook endpoints.
    #[must_use]
    pub fn lanes(&self) -> &deliver::lane::Lanes {
        &self.0.lanes
    }

    /// Counts calls against their limits.
    #[must_use]
    pub fn rates(&self) -> &rate::Rates {
        &self.0.rates
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}
