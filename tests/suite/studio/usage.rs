//! Metering and reporting to Polar.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::auth::ensure_superadmin;
use shared::app::usage;
use shared::kernel::{Id, Secret};
use tests::{Options, Persona, TestApp};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// A ledger that behaves as Polar's: it dedupes on `external_id`, and one bad event refuses the whole batch.
#[derive(Clone, Default)]
struct Ledger {
    events: Arc<Mutex<HashMap<String, Value>>>,
    calls: Arc<Mutex<usize>>,
    bad: Arc<Mutex<Option<String>>>,
}

impl Ledger {
    async fn start(&self) -> MockServer {
        let server = MockServer::start().await;
        let ingest = Mock::given(method("POST")).and(path("/v1/events/ingest"));
        ingest.and(header("authorization", "Bearer polar_oat_test")).respond_with(self.clone()).mount(&server).await;
        server
    }

    fn sum(&self) -> usize {
        self.events.lock().unwrap().len()
    }
}

impl Respond for Ledger {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        *self.calls.lock().unwrap() += 1;
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let events = body["events"].as_array().unwrap();
        let id = |event: &Value| event["external_id"].as_str().unwrap().to_owned();
        if let Some(bad) = self.bad.lock().unwrap().as_ref()
            && events.iter().any(|event| id(event) == *bad)
        {
            return ResponseTemplate::new(422).set_body_json(json!({"error": "RequestValidationError", "detail": []}));
        }
        let mut ledger = self.events.lock().unwrap();
        let before = ledger.len();
        ledger.extend(events.iter().map(|event| (id(event), event.clone())));
        let inserted = ledger.len() - before;
        ResponseTemplate::new(200).set_body_json(json!({"inserted": inserted, "duplicates": events.len() - inserted}))
    }
}

async fn with_polar(server: &MockServer) -> TestApp {
    TestApp::with(Options { polar: Some(server.uri()), ..Options::default() }).await
}

async fn superadmin(test: &TestApp) -> Persona {
    ensure_superadmin(&test.app, "root@example.com", &Secret::new("correct horse")).await.unwrap();
    let body = json!({"email": "root@example.com", "password": "correct horse"});
    let login = test.anonymous().post("/api/auth/login", body).await.expect(200);
    assert_eq!(login["user"]["role"], "superadmin");
    test.anonymous().with_bearer(login["access_token"].as_str().unwrap())
}

async fn chat(test: &TestApp, agent: &tests::Agent, messages: usize) {
    let mut visitor = test.visitor(agent);
    for number in 0..messages {
        visitor.says(&format!("message {number}")).await;
    }
}

#[tokio::test]
async fn every_reply_is_posted_once_with_what_the_meter_sums() {
    let ledger = Ledger::default();
    let server = ledger.start().await;
    let test = with_polar(&server).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    chat(&test, &agent, 7).await;
    let admin = superadmin(&test).await;
    let report = admin.post("/api/admin/billing/report-usage", json!({})).await.expect(200);
    assert_eq!((&report["configured"], &report["events"]), (&json!(true), &json!(7)));
    test.workers().run().await;
    assert_eq!(ledger.sum(), 7);
    let account = test.db_account(&owner).await;
    for (id, event) in ledger.events.lock().unwrap().iter() {
        assert!(id.starts_with("ws_") && id.contains(':'), "unique over all tenants: {id}");
        assert_eq!(event["name"], "ai_message");
        assert_eq!(event["external_customer_id"], account.id.text());
        assert_eq!(event["metadata"]["key_source"], "managed");
        assert_eq!(event["metadata"]["billable"], 0, "the trial is reported, but not billed");
    }
    let again = admin.post("/api/admin/billing/report-usage", json!({"force": true})).await.expect(200);
    assert_eq!(again["events"], 0, "nothing is unreported any more");
}

#[tokio::test]
async fn messages_beyond_the_included_ones_are_billable_and_stop_at_the_spend_cap() {
    let ledger = Ledger::default();
    let server = ledger.start().await;
    let test = with_polar(&server).await;
    let owner = test.owner().await;
    let mut account = test.db_account(&owner).await;
    (account.has_payment_method, account.payg_enabled, account.spend_cap_cents) = (true, true, Some(3));
    shared::store::billing::overwrite(&test.app.table, &account).await.unwrap();
    let agent = owner.agent("Soporte").await;
    chat(&test, &agent, 3).await;
    let refused = test.visitor(&agent).send("one more").await;
    assert_eq!(refused.code(402), "spend_cap_reached", "three cents are three managed messages");
    let shown = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!((&shown["plan"], &shown["estimated_overage_cents"]), (&json!("payg"), &json!(3.0)));
    usage::batch(&test.app, false).await.unwrap();
    test.workers().run().await;
    assert!(ledger.events.lock().unwrap().values().all(|event| event["metadata"]["billable"] == 1));
    assert_eq!(ledger.sum(), 3);
}

#[tokio::test]
async fn a_claimed_run_is_not_claimed_again_before_its_deadline_except_by_force() {
    let ledger = Ledger::default();
    let server = ledger.start().await;
    let test = with_polar(&server).await;
    let agent = test.owner().await.agent("Soporte").await;
    chat(&test, &agent, 5).await;
    assert_eq!(usage::batch(&test.app, false).await.unwrap().events, 5);
    assert_eq!(usage::batch(&test.app, false).await.unwrap().events, 0, "claimed");
    assert_eq!(usage::batch(&test.app, true).await.unwrap().events, 5, "force ignores claims");
    // The queue lost everything: after the deadline the events are claimed again.
    for queue in shared::ports::queue::QueueName::ALL {
        drop(test.queue.take(*queue));
    }
    test.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(usage::batch(&test.app, false).await.unwrap().events, 5);
    test.workers().run().await;
    assert_eq!(ledger.sum(), 5, "sent more than once, counted once");
}

#[tokio::test]
async fn one_event_that_polar_refuses_is_parked_and_the_others_arrive() {
    let ledger = Ledger::default();
    let server = ledger.start().await;
    let test = with_polar(&server).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    chat(&test, &agent, 9).await;
    let bad = test.db_usage(&owner).await[4].clone();
    *ledger.bad.lock().unwrap() = Some(bad.external_id());
    usage::batch(&test.app, false).await.unwrap();
    test.workers().run().await;
    assert_eq!(ledger.sum(), 8);
    let events = test.db_usage(&owner).await;
    let parked: Vec<_> = events.iter().filter(|event| event.parked.is_some()).collect();
    assert_eq!((parked.len(), parked[0].id), (1, bad.id));
    assert!(parked[0].parked.as_ref().unwrap().contains("422"));
    assert!(events.iter().filter(|event| event.parked.is_none()).all(|event| event.reported_at.is_some()));
}

#[tokio::test]
async fn counters_follow_the_events_and_count_none_twice() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    chat(&test, &agent, 4).await;
    for _ in 0..3 {
        test.workers().run().await;
    }
    let shown = owner.session.get(&format!("/api/agents/{}", agent.id)).await.expect(200);
    assert_eq!(shown["conversation_count"], 1);
    let account = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!((&account["messages_used_managed"], &account["messages_used_byok"]), (&json!(4), &json!(0)));
    let me = owner.session.get("/api/auth/me").await.expect(200);
    let workspace = Id::from_int(me["workspace"]["id"].as_u64().unwrap()).unwrap();
    let ids = [Id::from_int(agent.id).unwrap()];
    let counts = shared::store::rollup::agents(&test.app.table, workspace, &ids).await.unwrap()[0];
    assert_eq!((counts.messages, counts.replies), (4, 4));
}

#[tokio::test]
async fn without_polar_nothing_is_claimed_and_the_answer_says_so() {
    let test = TestApp::new().await;
    let agent = test.owner().await.agent("Soporte").await;
    chat(&test, &agent, 1).await;
    let admin = superadmin(&test).await;
    let report = admin.post("/api/admin/billing/report-usage", json!({})).await.expect(200);
    assert_eq!(report, json!({"configured": false, "batches": 0, "events": 0}));
}
