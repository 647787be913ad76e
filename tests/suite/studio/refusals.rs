//! What Polar refuses: found and parked when it is an event's fault, put off when it is not, and told to the operator.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shared::store;
use tests::{Ledger, Mood};

use super::usage::{assert_exact, claim, five_minutes, used};

#[tokio::test]
async fn one_event_that_polar_refuses_is_parked_with_its_reason_and_the_others_arrive() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let made = test.db_use(&owner, 7, &test.event_ids(100, Some(5))).await;
    let bad = &made[41].0;
    ledger.refuses(&bad.external_id());
    five_minutes(&test).await;
    assert_eq!(ledger.len(), 99);
    assert!(ledger.calls().len() < 20, "halving finds it in few calls: {}", ledger.calls().len());
    let events = test.db_usage(&owner).await;
    let parked: Vec<_> = events.iter().filter(|event| event.parked.is_some()).collect();
    assert_eq!((parked.len(), parked[0].id), (1, bad.id));
    assert!(parked[0].parked.as_ref().unwrap().contains("422"));
    assert!(events.iter().filter(|event| event.parked.is_none()).all(|event| event.reported_at.is_some()));
    assert!(claim(&test, true).await.is_empty(), "a parked event is sent no more, not even by force");
}

#[tokio::test]
async fn a_polar_that_refuses_everything_is_left_alone_and_nothing_is_parked() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(100, Some(5))).await;
    test.db_use(&owner, 7, &test.event_ids(1, Some(6))).await;
    ledger.is(Mood::Answers(422));
    for _ in 0..3 {
        five_minutes(&test).await;
    }
    assert!(ledger.calls().len() < 40, "not flooded: {}", ledger.calls().len());
    assert!(test.db_usage(&owner).await.iter().all(|event| event.parked.is_none()));
    let state = store::usage::polar_state(&test.app.table).await.unwrap().body;
    assert!(state.failures >= 2 && state.reason.unwrap().contains("whatever we send"));
    ledger.is(Mood::Well);
    five_minutes(&test).await;
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn a_bad_event_that_is_alone_in_its_claim_is_parked_since_polar_takes_others() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let bad = test.db_use(&owner, 7, &test.event_ids(1, Some(5))).await.remove(0).0;
    ledger.refuses(&bad.external_id());
    five_minutes(&test).await;
    assert!(test.db_usage(&owner).await[0].parked.is_some());
    assert_eq!((ledger.len(), ledger.probes()), (0, 1));
}

#[tokio::test]
async fn a_claim_of_which_nothing_is_taken_parks_few_events_at_a_time() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let made = test.db_use(&owner, 7, &test.event_ids(64, Some(5))).await;
    made.iter().for_each(|(usage, _)| ledger.refuses(&usage.external_id()));
    let parked = async || test.db_usage(&owner).await.iter().filter(|event| event.parked.is_some()).count();
    five_minutes(&test).await;
    assert_eq!((parked().await, ledger.probes()), (20, 1));
    five_minutes(&test).await;
    assert_eq!(parked().await, 40);
    ledger.refuses_nothing();
    let root = test.superadmin().await;
    let retry = async || root.post("/api/admin/billing/parked-usage/retry", json!(null)).await.expect(200);
    assert_eq!((retry().await, retry().await), (json!({"retried": 40}), json!({"retried": 0})));
    for _ in 0..3 {
        five_minutes(&test).await;
    }
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn refusals_that_cost_more_calls_than_a_claim_has_are_found_over_several_runs() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let made = test.db_use(&owner, 7, &test.event_ids(64, Some(5))).await;
    made.iter().skip(1).step_by(2).for_each(|(usage, _)| ledger.refuses(&usage.external_id()));
    five_minutes(&test).await;
    assert_eq!(ledger.calls().len(), 64, "a claim costs no more");
    for _ in 0..2 {
        five_minutes(&test).await;
    }
    let events = test.db_usage(&owner).await;
    assert_eq!((ledger.len(), events.iter().filter(|event| event.parked.is_some()).count()), (32, 32));
    let taken: usize = ledger.calls().iter().filter(|call| call.status == 200).map(|call| call.ids.len()).sum();
    assert_eq!(taken, 32, "what was taken is not sent again");
}

/// What is logged while this is held, as the platform collects it.
struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn here() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let make = move || Lines(Arc::clone(&writer));
        let log = tracing_subscriber::fmt().json().with_current_span(false).with_writer(make).finish();
        Self { lines, _guard: tracing::subscriber::set_default(log) }
    }

    /// Takes out the lines with this message: each one's level and fields.
    fn take(&self, message: &str) -> Vec<(String, Value)> {
        let text = String::from_utf8(std::mem::take(&mut *self.lines.lock().unwrap())).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found = lines.filter(|line| line["fields"]["message"].as_str().unwrap().starts_with(message));
        found.map(|line| (line["level"].as_str().unwrap().to_owned(), line["fields"].clone())).collect()
    }
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn it_is_said_how_long_usage_waits_while_polar_fails_and_that_it_is_an_error_after_an_hour() {
    let (test, ledger) = Ledger::with_app().await;
    let (_, _) = used(&test, 1).await;
    let log = Log::here();
    ledger.is(Mood::Fails);
    let mut said = Vec::new();
    for _ in 0..15 {
        five_minutes(&test).await;
        said.extend(log.take("usage is not reported"));
    }
    let seconds = |fields: &Value| fields["oldest_seconds"].as_u64().unwrap();
    assert!(said.iter().any(|(level, fields)| level == "WARN" && fields["failures"].as_u64() > Some(0)), "{said:?}");
    assert!(said.iter().all(|(level, fields)| (level == "ERROR") == (seconds(fields) > 3600)), "{said:?}");
    assert_eq!(said.last().map(|(level, fields)| (level.as_str(), seconds(fields))), Some(("ERROR", 14 * 300)));
    ledger.is(Mood::Well);
    for _ in 0..4 {
        five_minutes(&test).await;
    }
    log.take("");
    five_minutes(&test).await;
    assert!(log.take("usage is not reported").is_empty());
}

#[tokio::test]
async fn a_refusal_that_will_not_pass_by_itself_is_an_error_that_says_what_to_do() {
    for (status, todo) in [(401, "polar_access_token"), (403, "events:write"), (404, "POLAR_BASE_URL")] {
        let (test, ledger) = Ledger::with_app().await;
        used(&test, 1).await;
        let log = Log::here();
        ledger.is(Mood::Answers(status));
        five_minutes(&test).await;
        let said = log.take("usage is put off");
        assert_eq!((said.len(), said[0].0.as_str()), (1, "ERROR"));
        assert!(said[0].1["todo"].as_str().unwrap().contains(todo), "{said:?}");
    }
}
