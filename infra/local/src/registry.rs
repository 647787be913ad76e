//! Which code stands behind a binary of the template. Here it is called in this process; in production it is a Lambda.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use serde_json::Value;
use shared::app::App;
use shared::domain::Event;
use shared::http::gate::BoxFuture;
use shared::http::{Group, Surface};
use shared::kernel::Result;

/// Every surface.
pub const SURFACES: [&Surface; 2] = [&studio::SURFACE, &hooks::SURFACE];

/// A worker: from an event to its answer.
pub type Work<E, R> = fn(App, E) -> BoxFuture<'static, Result<R>>;

/// What stands behind a binary.
#[derive(Clone, Copy)]
pub enum Entry {
    /// A route group.
    Http(&'static Surface, &'static Group),
    /// A reader of the stream.
    Reader(Work<Vec<Event>, ()>),
    /// A consumer of a queue.
    Consumer(Work<SqsEvent, SqsBatchResponse>),
    /// A scheduled worker.
    Scheduled(Work<Value, Value>),
}

/// The workers by binary.
const WORKERS: [(&str, Entry); 8] = [
    ("relay", Entry::Reader(|app, events| Box::pin(workers::relay_events(app, events)))),
    ("projector", Entry::Reader(|app, events| Box::pin(workers::project_events(app, events)))),
    ("deliver", Entry::Consumer(|app, batch| Box::pin(workers::deliver(app, batch)))),
    ("deliver-slow", Entry::Consumer(|app, batch| Box::pin(workers::deliver_slow(app, batch)))),
    ("usage-report", Entry::Consumer(|app, batch| Box::pin(workers::usage_report(app, batch)))),
    ("turn", Entry::Consumer(|app, batch| Box::pin(workers::turn(app, batch)))),
    ("usage-batch", Entry::Scheduled(|app, event| Box::pin(workers::usage_batch(app, event)))),
    ("clock", Entry::Scheduled(|app, event| Box::pin(workers::clock(app, event)))),
];

/// Everything there is, by binary: `<surface>-<group>` for route groups, the worker's name for workers.
pub fn entries() -> impl Iterator<Item = (String, Entry)> {
    let groups = SURFACES.into_iter().flat_map(|surface| {
        surface
            .groups
            .iter()
            .map(move |group| (format!("{}-{}", surface.name, group.name), Entry::Http(surface, group)))
    });
    groups.chain(WORKERS.into_iter().map(|(binary, entry)| (binary.to_owned(), entry)))
}

/// What stands behind a binary; `None` when there is none of that name.
#[must_use]
pub fn find(binary: &str) -> Option<Entry> {
    entries().find(|(known, _)| known == binary).map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::template::Template;

    #[test]
    fn the_template_has_a_function_for_each_entry_and_no_other() {
        let functions = Template::of_this_build().unwrap().functions;
        let in_template: BTreeSet<String> = functions.into_iter().map(|function| function.binary).collect();
        let here: BTreeSet<String> = entries().map(|(binary, _)| binary).collect();
        assert_eq!(in_template, here);
        for binary in in_template {
            let path = format!("{}/../../events/{binary}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{path}");
        }
    }
}
