//! Turns of the public chat over HTTP, with the offline model, whose own time is a fraction of a millisecond.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::Connection;
use crate::report::{Report, Times, per_second, row};
use crate::stage::{Place, Stage};

/// Messages in a conversation, before a visitor leaves and another one comes.
const MESSAGES: usize = 10;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(8);

/// A visitor after the other, until the time is over. The times of turns that began after `from` count.
async fn visitors(stage: &Stage, first: usize, path: &str, from: Instant, until: Instant) -> Times {
    let (mut times, mut number) = (Times::default(), first);
    while Instant::now() < until {
        let path = format!("/api/public/agents/{}/{path}", stage.slug(number));
        let mut connection = Connection::open(stage.address, "").await.expect("a connection");
        let mut handle = Value::Null;
        for _ in 0..MESSAGES {
            let began = Instant::now();
            let body = json!({"message": "How long does delivery take?", "conversation_id": handle});
            let answer = connection.post(&path, &body).await.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.body);
            if began >= from && began < until {
                times.add(began.elapsed());
            }
            handle = answer.json()["conversation_id"].clone();
        }
        number += 1;
    }
    times
}

/// So many clients at once; how long each turn took.
async fn load(stage: &Stage, clients: usize, warm_up: Duration, measured: Duration) -> Times {
    let from = Instant::now() + warm_up;
    let clients = (0..clients).map(|client| visitors(stage, client * 7, "chat", from, from + measured));
    join_all(clients).await.into_iter().collect()
}

/// Turns a second and how long they take.
pub(crate) async fn turns() -> Report {
    let mut rows = vec![row([&"tables in", &"clients", &"turns", &"p50", &"p99"])];
    for place in [Place::Memory, Place::Disk] {
        let stage = Stage::start(place);
        for clients in [1, 16, 64] {
            let times = load(&stage, clients, WARM_UP, MEASURED).await;
            let turns = per_second(times.count(), MEASURED);
            rows.push(row([&place.name(), &clients, &turns, &times.shown(50), &times.shown(99)]));
        }
    }
    Report::new().table(&rows)
}

/// How long it takes until the first token is there.
pub(crate) async fn first_token() -> Report {
    let stage = Stage::start(Place::Memory);
    drop(load(&stage, 1, WARM_UP, Duration::ZERO).await);
    let (mut first, mut whole) = (Times::default(), Times::default());
    for number in 0..400 {
        let path = format!("/api/public/agents/{}/chat/stream", stage.slug(number));
        let mut connection = Connection::open(stage.address, "").await.expect("a connection");
        let began = Instant::now();
        let body = json!({"message": "How long does delivery take?"});
        connection.post_until(&path, &body, "event: token").await.expect("a token");
        first.add(began.elapsed());
        connection.until("event: done").await.expect("the reply");
        whole.add(began.elapsed());
    }
    let rows = [
        row([&"from the request to", &"p50", &"p99"]),
        row([&"the first token", &first.shown(50), &first.shown(99)]),
        row([&"the stored reply", &whole.shown(50), &whole.shown(99)]),
    ];
    Report::new().table(&rows)
}

/// What the platform holds in memory.
pub(crate) async fn memory() -> Report {
    let mut rows = vec![row([&"tables in", &"after the start", &"after 64 clients for eight seconds", &"turns"])];
    for place in [Place::Memory, Place::Disk] {
        let stage = Stage::start(place);
        let before = stage.resident_mb();
        let times = load(&stage, 64, Duration::ZERO, MEASURED).await;
        let after = stage.resident_mb();
        rows.push(row([&place.name(), &format!("{before} MB"), &format!("{after} MB"), &times.count()]));
    }
    Report::new().table(&rows)
}

/// What the time of one turn is made of, without HTTP, workers and model.
pub(crate) async fn anatomy() -> Report {
    let test = tests::TestApp::with_model(tests::ScriptedModel::new()).await;
    let agent = test.paying_owner().await.agent("Soporte").await;
    let meter = test.app.table.meter();
    let (mut whole, mut table) = (Times::default(), Times::default());
    let mut calls: std::collections::BTreeMap<(usize, &'static str), (Times, Times)> =
        std::collections::BTreeMap::new();
    for _ in 0..40 {
        let mut visitor = test.visitor(&agent);
        visitor.says("Hello").await;
        for _ in 1..MESSAGES {
            meter.record();
            let began = Instant::now();
            visitor.says("How long does delivery take?").await;
            whole.add(began.elapsed());
            let made = meter.take();
            table.add(shared::table::Meter::time(&made));
            for (number, call) in made.iter().enumerate() {
                let times = calls.entry((number, call.operation)).or_default();
                times.0.add(call.time.0 - began);
                times.1.add(call.time.1 - call.time.0);
            }
        }
    }
    let mut rows = vec![row([&"call", &"begins at", &"takes"])];
    for ((_, operation), (begins, takes)) in calls.iter().filter(|(_, (begins, _))| begins.count() > 100) {
        rows.push(row([operation, &begins.shown(50), &takes.shown(50)]));
    }
    rows.push(row([&"any table call", &"", &table.shown(50)]));
    rows.push(row([&"the turn", &"", &whole.shown(50)]));
    Report::new().table(&rows)
}
