//! What each Lambda function uses, one row a function. The binary is told of nothing else ([`super::aws::app`]), and
//! tests hold the variables and the roles of `template.yaml` against these rows, and the rows against what the functions
//! do. A function that comes to use more gets one word more here, and one policy or variable more there.

use std::collections::BTreeSet;

use super::{aws, config};
use crate::ports::queue;
use crate::ports::queue::QueueName::{self, Deliver, DeliverSlow, Turn, UsageReport};
use crate::ports::{mail, objects, secrets};
use crate::table;

/// A Lambda function.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its binary: `<surface>-<group>` for a route group, the worker's name for a worker.
    pub binary: &'static str,
    /// What it uses.
    pub uses: &'static [Use],
}

/// Something that a function uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Reads the table and its indexes.
    Read,
    /// Writes the table.
    Write,
    /// Counts its calls in rate windows. Only for functions that write nothing else.
    Count,
    /// Reads the secrets of the installation.
    Secret,
    /// Sends to a queue.
    Send(QueueName),
    /// Is fed by a queue: lets messages come again sooner, and buries them.
    Consume(QueueName),
    /// Is fed by the table's stream; what is given up of it is told in a queue of its own.
    Follow,
    /// Lists, replays and discards the dead letters of a queue. What is replayed is sent, too.
    DeadLetters(QueueName),
    /// Sends mail.
    Mail,
    /// Keeps objects.
    Objects,
    /// Reads objects. Only for functions that do not keep them.
    ReadObjects,
    /// Answers piece by piece, through an API whose stage is no part of the paths.
    Stream,
}

/// What an action of IAM is allowed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The table.
    Table,
    /// The rate windows of the table.
    RateWindows,
    /// The indexes of the table.
    Indexes,
    /// The stream of the table.
    Stream,
    /// Any stream of the table: it has had others before.
    Streams,
    /// Pointers to what was given up of the stream.
    StreamFailures,
    /// The secret.
    Secret,
    /// A queue.
    Queue(QueueName),
    /// The dead letters of a queue.
    DeadLetters(QueueName),
    /// The bucket itself.
    Bucket,
    /// What is in the bucket.
    Files,
}

/// Every function.
pub const FUNCTIONS: &[Function] = &[
    row("studio-auth", &[Use::Read, Use::Write, Use::Secret, Use::Send(Deliver)]),
    row("studio-agents", &[Use::Read, Use::Write, Use::Secret, Use::Objects]),
    row("studio-developers", &[Use::Read, Use::Write, Use::Secret, Use::Send(Deliver)]),
    row("studio-chat", &[Use::Read, Use::Write, Use::Secret]),
    row("studio-builder", &[Use::Read, Use::Write, Use::Secret, Use::ReadObjects, Use::Stream]),
    row("studio-chat-stream", &[Use::Read, Use::Write, Use::Secret, Use::Stream]),
    row("studio-inbox", &[Use::Read, Use::Write, Use::Secret, Use::Send(Turn), Use::ReadObjects]),
    row("studio-billing", &[Use::Read, Use::Write, Use::Secret]),
    row(
        "studio-admin",
        &[
            Use::Read,
            Use::Write,
            Use::Secret,
            Use::Send(Deliver),
            Use::Send(DeliverSlow),
            Use::Send(UsageReport),
            Use::Send(Turn),
            Use::DeadLetters(Deliver),
            Use::DeadLetters(DeliverSlow),
            Use::DeadLetters(UsageReport),
            Use::DeadLetters(Turn),
        ],
    ),
    row("studio-site", &[Use::Read, Use::Count]),
    row("hooks-providers", &[Use::Read, Use::Write, Use::Secret]),
    row("hooks-whatsapp", &[Use::Read, Use::Count, Use::Secret, Use::Send(Turn)]),
    row("relay", &[Use::Read, Use::Send(Deliver), Use::Send(Turn), Use::Follow]),
    row("projector", &[Use::Write, Use::Follow]),
    row(
        "deliver",
        &[
            Use::Read,
            Use::Write,
            Use::Secret,
            Use::Send(Deliver),
            Use::Send(DeliverSlow),
            Use::Consume(Deliver),
            Use::Mail,
        ],
    ),
    row(
        "deliver-slow",
        &[Use::Read, Use::Write, Use::Secret, Use::Send(Deliver), Use::Send(DeliverSlow), Use::Consume(DeliverSlow)],
    ),
    row("usage-report", &[Use::Read, Use::Write, Use::Secret, Use::Consume(UsageReport)]),
    row("turn", &[Use::Read, Use::Write, Use::Secret, Use::Send(Turn), Use::Consume(Turn), Use::Objects]),
    row("usage-batch", &[Use::Read, Use::Write, Use::Send(UsageReport)]),
    row("clock", &[Use::Read, Use::Write, Use::Send(Deliver), Use::Send(Turn)]),
];

const fn row(binary: &'static str, uses: &'static [Use]) -> Function {
    Function { binary, uses }
}

/// Read by others than [`aws::app`]: the log's filter.
const LOG: &str = "RUST_LOG";

/// Read by the Lambda library of HTTP functions.
const IGNORE_STAGE: &str = "AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH";

impl Function {
    /// The function of this binary.
    #[must_use]
    pub fn find(binary: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.binary == binary)
    }

    /// The environment variables that it is given: those of every function, and those of what it uses.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<&'static str> {
        let of_all = [LOG].into_iter().chain(aws::PLACES).chain(config::DEPLOYED.iter().copied());
        of_all.chain(self.uses.iter().flat_map(|using| using.variables())).collect()
    }

    /// What its role allows.
    #[must_use]
    pub fn grants(&self) -> BTreeSet<(&'static str, Place)> {
        self.uses.iter().flat_map(|using| using.grants()).collect()
    }

    /// Whether it reads this variable: one that it is given, or one that is there for development only.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        config::LOCAL.contains(&name) || self.variables().contains(name)
    }
}

impl Use {
    /// The environment variables that it takes.
    #[must_use]
    pub fn variables(self) -> Vec<&'static str> {
        match self {
            Self::Read
            | Self::Write
            | Self::Count
            | Self::Secret
            | Self::Objects
            | Self::ReadObjects
            | Self::Follow => Vec::new(),
            Self::Send(queue) => vec![queue.url_variable()],
            Self::Consume(queue) => vec![queue.url_variable(), queue.dead_letters_url_variable()],
            Self::DeadLetters(queue) => vec![queue.dead_letters_url_variable()],
            Self::Mail => mail::VARIABLES.to_vec(),
            Self::Stream => vec![IGNORE_STAGE],
        }
    }

    /// The actions of IAM that it takes.
    #[must_use]
    pub fn grants(self) -> Vec<(&'static str, Place)> {
        let on = |place: Place, actions: &[&'static str]| actions.iter().map(|action| (*action, place)).collect();
        match self {
            Self::Read => [on(Place::Table, &table::READS), on(Place::Indexes, &table::QUERIES)].concat(),
            Self::Write => on(Place::Table, &table::WRITES),
            Self::Count => on(Place::RateWindows, &table::COUNTS),
            Self::Secret => on(Place::Secret, &secrets::READS),
            Self::Send(name) => on(Place::Queue(name), &queue::SENDS),
            Self::Consume(name) => {
                [on(Place::Queue(name), &queue::CONSUMES), on(Place::DeadLetters(name), &queue::SENDS)].concat()
            }
            Self::Follow => [
                on(Place::Stream, &table::FOLLOWS),
                on(Place::Streams, &table::FINDS_STREAMS),
                on(Place::StreamFailures, &queue::SENDS),
            ]
            .concat(),
            Self::DeadLetters(name) => on(Place::DeadLetters(name), &queue::WORKS_OFF),
            Self::Objects => [on(Place::Bucket, &objects::LISTS), on(Place::Files, &objects::KEEPS)].concat(),
            Self::ReadObjects => [on(Place::Bucket, &objects::LISTS), on(Place::Files, &objects::READS)].concat(),
            // Mail goes by SMTP with a password, and what streams is called like any other function.
            Self::Mail | Self::Stream => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_one_row_and_asks_for_nothing_twice() {
        let binaries: BTreeSet<_> = FUNCTIONS.iter().map(|function| function.binary).collect();
        assert_eq!(binaries.len(), FUNCTIONS.len());
        for Function { binary, uses } in FUNCTIONS {
            for (at, using) in uses.iter().enumerate() {
                assert!(!uses[..at].contains(using), "{binary}: {using:?}");
            }
            assert!(!(uses.contains(&Use::Write) && uses.contains(&Use::Count)), "{binary}: whoever writes may count");
            let both = uses.contains(&Use::Objects) && uses.contains(&Use::ReadObjects);
            assert!(!both, "{binary}: whoever keeps objects may read them");
        }
    }

    #[test]
    fn who_replays_dead_letters_may_send_them() {
        for Function { binary, uses } in FUNCTIONS {
            for name in QueueName::ALL {
                let replays = uses.contains(&Use::DeadLetters(*name));
                assert!(!replays || uses.contains(&Use::Send(*name)), "{binary}: {}", name.as_str());
            }
        }
    }
}
