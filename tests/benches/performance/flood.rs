//! What other tenants notice of a flood.

use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};

use crate::http::Connection;
use crate::report::{Denied, Report, Times, per_second, row};
use crate::stage::{Place, Stage};

/// Long enough that the slowest hundredth is more than the three turns that the host held up.
const MEASURED: Duration = Duration::from_secs(30);
/// The pause between two messages of an ordinary visitor.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections that the flood uses at once.
const CONNECTIONS: usize = 8;
/// Calls a second that the flood makes in all.
const FLOOD: u32 = 2_000;

/// A tenant's visitors chat one after the other.
async fn ordinary(stage: &Stage, until: Instant) -> Times {
    let (mut times, mut number) = (Times::default(), 0);
    while Instant::now() < until {
        // The first tenant is the one that is flooded.
        let path = format!("/api/public/agents/{}/chat", stage.slug(number * 8 + 1));
        let mut connection = Connection::open(stage.address, "").await.expect("a connection");
        let mut handle = Value::Null;
        for _ in 0..10 {
            let began = Instant::now();
            let body = json!({"message": "How long does delivery take?", "conversation_id": handle});
            let answer = connection.post(&path, &body).await.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.body);
            times.add(began.elapsed());
            handle = answer.json()["conversation_id"].clone();
            tokio::time::sleep(PAUSE).await;
        }
        number += 1;
    }
    times
}

/// What became of a flood's calls.
#[derive(Default)]
struct Flooded {
    passed: usize,
    refused: usize,
}

/// Calls without a stop, all with one credential, or from one address.
async fn flood(stage: &Stage, token: &str, path: &str, until: Instant) -> Flooded {
    let mut flooded = Flooded::default();
    let mut connections = Vec::new();
    let from = crate::http::fresh_address();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open_from(from, stage.address, token).await.expect("a connection"));
    }
    let (began, mut sent) = (Instant::now(), 0_u32);
    while Instant::now() < until {
        let calls = connections.iter_mut().map(|connection| connection.get(path));
        for answer in futures_util::future::join_all(calls).await {
            match answer.expect("an answer").status {
                200 => flooded.passed += 1,
                429 => flooded.refused += 1,
                other => panic!("{other}"),
            }
            sent += 1;
        }
        tokio::time::sleep((Duration::from_secs(1) * sent / FLOOD).saturating_sub(began.elapsed())).await;
    }
    flooded
}

/// The turns of other tenants, alone and beside floods.
pub(crate) async fn beside_others() -> Report {
    let stage = Stage::start(Place::Memory);
    drop(ordinary(&stage, Instant::now() + Duration::from_secs(3)).await);
    let head = row([&"beside", &"flood's calls", &"of them refused", &"others' turns", &"p50", &"p99", &"denied"]);
    let (until, denied) = (Instant::now() + MEASURED, Denied::since_now());
    let alone = ordinary(&stage, until).await;
    let turns = |times: &Times| per_second(times.count(), MEASURED);
    let mut rows =
        vec![head, row([&"nothing", &"", &"", &turns(&alone), &alone.shown(50), &alone.shown(99), &denied.shown()])];
    let page = format!("/api/public/agents/{}", stage.slug(0));
    for (who, token, path) in
        [("one address", "", page.as_str()), ("one key", stage.tenants[0].token.as_str(), "/api/agents")]
    {
        let (until, denied) = (Instant::now() + MEASURED, Denied::since_now());
        let (flooded, others) = join(flood(&stage, token, path, until), ordinary(&stage, until)).await;
        let Flooded { passed, refused } = flooded;
        let calls = per_second(passed + refused, MEASURED);
        let (turns, p50, p99) = (turns(&others), others.shown(50), others.shown(99));
        rows.push(row([&who, &calls, &refused, &turns, &p50, &p99, &denied.shown()]));
    }
    Report::new().table(&rows)
}
