//! The sample events in `events/`: each is answered by its function, through the handler that the function runs.

use std::collections::BTreeSet;

use aws_lambda_events::dynamodb::Event as StreamEvent;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_lambda_events::streams::DynamoDbEventResponse;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::app::App;
use shared::app::function::FUNCTIONS;
use shared::http::gate::BoxFuture;
use shared::kernel::Result;
use shared::ports::queue::QueueName;
use tests::Ledger;

use crate::gateway;

type Handler<E, R> = fn(App, E) -> BoxFuture<'static, Result<R>>;

/// How a function is called, and how it answers its sample.
enum Answers {
    /// By a gateway: the status and a word of the answer. Nobody is logged in, and there is no agent.
    Http(u16, &'static str),
    /// By the stream: it names no record to give again.
    Stream(Handler<StreamEvent, DynamoDbEventResponse>),
    /// By a queue: it names no message to give again, and buries none.
    Queue(QueueName, Handler<SqsEvent, SqsBatchResponse>),
    /// By a schedule: with what it did.
    Schedule(Handler<Value, Value>, &'static str),
}

const SAMPLES: &[(&str, Answers)] = &[
    ("studio-auth", Answers::Http(401, "invalid_credentials")),
    ("studio-agents", Answers::Http(401, "unauthenticated")),
    ("studio-developers", Answers::Http(401, "unauthenticated")),
    ("studio-chat", Answers::Http(404, "not_found")),
    ("studio-builder", Answers::Http(401, "unauthenticated")),
    ("studio-chat-stream", Answers::Http(404, "not_found")),
    ("studio-inbox", Answers::Http(401, "unauthenticated")),
    ("studio-billing", Answers::Http(200, "agency")),
    ("studio-admin", Answers::Http(401, "unauthenticated")),
    ("studio-site", Answers::Http(200, "ok")),
    ("hooks-providers", Answers::Http(401, "signature_invalid")),
    ("hooks-whatsapp", Answers::Http(200, "taken")),
    ("relay", Answers::Stream(|app, batch| Box::pin(workers::relay(app, batch)))),
    ("projector", Answers::Stream(|app, batch| Box::pin(workers::projector(app, batch)))),
    ("deliver", Answers::Queue(QueueName::Deliver, |app, batch| Box::pin(workers::deliver(app, batch)))),
    ("deliver-slow", Answers::Queue(QueueName::DeliverSlow, |app, batch| Box::pin(workers::deliver_slow(app, batch)))),
    ("usage-report", Answers::Queue(QueueName::UsageReport, |app, batch| Box::pin(workers::usage_report(app, batch)))),
    ("turn", Answers::Queue(QueueName::Turn, |app, batch| Box::pin(workers::turn(app, batch)))),
    ("usage-batch", Answers::Schedule(|app, event| Box::pin(workers::usage_batch(app, event)), "batches")),
    ("clock", Answers::Schedule(|app, event| Box::pin(workers::clock(app, event)), "closed")),
];

fn directory() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

/// A sample as the function's event type.
fn read<T: DeserializeOwned>(binary: &str) -> T {
    let text = std::fs::read_to_string(directory().join(format!("{binary}.json"))).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("events/{binary}.json: {error}"))
}

#[test]
fn there_is_a_sample_for_every_function_and_no_other() {
    let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.collect();
    let functions = FUNCTIONS.iter().map(|function| format!("{}.json", function.binary));
    assert_eq!(files, functions.collect());
    let known: BTreeSet<&str> = SAMPLES.iter().map(|(binary, _)| *binary).collect();
    assert_eq!(known, FUNCTIONS.iter().map(|function| function.binary).collect());
}

#[tokio::test]
async fn every_sample_is_answered_by_its_function() {
    let (test, _polar) = Ledger::with_app().await;
    for (binary, answers) in SAMPLES {
        let app = test.app.clone();
        match answers {
            Answers::Http(status, word) => {
                let (given, text) = gateway::invoke(&app, binary, &read(binary)).await;
                assert_eq!(given.as_u16(), *status, "{binary}: {text}");
                assert!(text.contains(&format!("\"{word}\"")), "{binary}: {text}");
            }
            Answers::Stream(work) => {
                let batch: StreamEvent = read(binary);
                assert!(!batch.records.is_empty(), "{binary}");
                let response = work(app, batch).await.unwrap();
                assert!(response.batch_item_failures.is_empty(), "{binary}: {response:?}");
            }
            Answers::Queue(name, work) => {
                let batch: SqsEvent = read(binary);
                assert!(!batch.records.is_empty(), "{binary}");
                let response = work(app, batch).await.unwrap();
                assert!(response.batch_item_failures.is_empty(), "{binary}: {response:?}");
                let dead = test.app.queue.dead_letters(*name, 10).await.unwrap();
                assert!(dead.is_empty(), "{binary}: {dead:?}");
            }
            Answers::Schedule(work, word) => {
                let done = work(app, read(binary)).await.unwrap();
                assert!(done.get(word).is_some(), "{binary}: {done}");
            }
        }
    }
    // The projector's sample tells of a reply, which is counted.
    assert!(test.db_dump().await.contains("03nfc9c5801"), "nothing was counted");
}
