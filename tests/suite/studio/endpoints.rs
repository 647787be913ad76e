//! What becomes of endpoints that are slow, quiet, moved, or given new secrets again and again.

use std::time::Duration;

use serde_json::{Value, json};
use shared::app::{deliver, relay};
use shared::kernel::{Id, Rng};
use shared::ports::queue::QueueName;
use shared::store;
use tests::{Owner, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const HOUR: Duration = Duration::from_secs(3_600);

async fn receiver(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn received(server: &MockServer) -> usize {
    server.received_requests().await.unwrap_or_default().len()
}

async fn publish(owner: &Owner, name: &str) {
    owner.session.post("/api/developers/events", json!({"event": name})).await.expect(201);
}

/// A receiver that takes four seconds, by the test's clock.
async fn slow_receiver(test: &TestApp) -> MockServer {
    let (server, clock) = (MockServer::start().await, test.clock.clone());
    let answer = move |_: &Request| {
        clock.advance(Duration::from_secs(4));
        ResponseTemplate::new(200)
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn an_endpoint_that_answers_slowly_is_served_from_a_queue_apart_for_a_while() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (slow, quick) = (slow_receiver(&test).await, receiver(ResponseTemplate::new(200)).await);
    owner.webhook(&slow.uri(), Value::Null).await;
    owner.webhook(&quick.uri(), Value::Null).await;
    let workers = test.workers();
    publish(&owner, "first").await;
    workers.run().await;
    assert_eq!((received(&slow).await, received(&quick).await), (1, 1));
    publish(&owner, "second").await;
    let events = workers.events().await;
    shared::app::relay::fan_out(&test.app, &events[events.len() - 1..]).await.unwrap();
    for message in test.queue.take(QueueName::Deliver) {
        let task = serde_json::from_str(&message.body).unwrap();
        shared::app::deliver::run(&test.app, QueueName::Deliver, &task).await.unwrap();
    }
    assert_eq!((received(&slow).await, received(&quick).await), (1, 2), "the slow one waits apart");
    let apart = test.queue.take(QueueName::DeliverSlow);
    assert_eq!(apart.len(), 1);
    let task = serde_json::from_str(&apart[0].body).unwrap();
    shared::app::deliver::run(&test.app, QueueName::DeliverSlow, &task).await.unwrap();
    assert_eq!(received(&slow).await, 2);
    // Ten minutes later it may show whether it is quick now.
    test.clock.advance(Duration::from_secs(601));
    publish(&owner, "third").await;
    workers.run().await;
    assert_eq!((received(&slow).await, test.queue.take(QueueName::DeliverSlow).len()), (3, 0));
}

#[tokio::test]
async fn two_failures_with_days_of_silence_between_them_switch_nothing_off() {
    let (test, server) = (TestApp::new().await, receiver(ResponseTemplate::new(500)).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let (path, workers) = (format!("/api/developers/webhooks/{webhook}"), test.workers());
    publish(&owner, "monday").await;
    workers.run().await;
    for _ in 0..8 {
        workers.after(6 * HOUR).await;
    }
    test.clock.advance(150 * HOUR);
    publish(&owner, "next.monday").await;
    workers.run().await;
    let found = owner.again().await.get(&path).await.expect(200);
    assert_eq!(found["is_active"], true, "{found}");
    assert_eq!(found["failing_since"].as_str().unwrap()[..13], test.now_text()[..13], "its failures began anew");
    assert!(test.mail.sent().is_empty());
}

#[tokio::test]
async fn nobody_is_switched_off_before_the_last_notice_and_then_knows_since_when_events_are_missing() {
    let (test, server) = (TestApp::new().await, receiver(ResponseTemplate::new(500)).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let (path, workers, began) = (format!("/api/developers/webhooks/{webhook}"), test.workers(), test.now_text());
    // One event a day and a half, so that five days end between two attempts.
    for _ in 0..4 {
        publish(&owner, "rare").await;
        workers.run().await;
        test.clock.advance(41 * HOUR);
    }
    let session = owner.again().await;
    let found = session.get(&path).await.expect(200);
    assert_eq!(found["is_active"], true, "five days are over, but nobody has had the last notice: {found}");
    workers.after(HOUR).await;
    workers.after(30 * HOUR).await;
    let off = session.get(&path).await.expect(200);
    assert_eq!(off["is_active"], false, "{off}");
    assert_eq!(off["missed_since"].as_str().unwrap()[..16], began[..16], "the first event that failed");
    assert_ne!(off["missed_since"], off["disabled_at"]);
    let on = session.patch(&path, json!({"is_active": true})).await.expect(200);
    assert_eq!((&on["missed_since"], &on["failing_since"]), (&off["missed_since"], &Value::Null));
}

#[tokio::test]
async fn another_address_is_not_blamed_for_what_the_one_before_it_did() {
    let test = TestApp::new().await;
    let busy = receiver(ResponseTemplate::new(429).insert_header("retry-after", "86400")).await;
    let fine = receiver(ResponseTemplate::new(200)).await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&busy.uri(), Value::Null).await;
    let (path, workers) = (format!("/api/developers/webhooks/{webhook}"), test.workers());
    publish(&owner, "first").await;
    workers.run().await;
    let waiting = owner.session.post(&format!("{path}/test"), json!({})).await;
    assert_eq!(waiting.status, 429, "the receiver asked for a pause: {}", waiting.text);
    let moved = owner.session.patch(&path, json!({"url": fine.uri()})).await.expect(200);
    assert_eq!(moved["failing_since"], Value::Null);
    assert!(moved["missed_since"].is_string(), "what the old address missed can be had again");
    publish(&owner, "second").await;
    workers.run().await;
    assert_eq!(received(&fine).await, 1);
    assert_eq!(owner.session.post(&format!("{path}/test"), json!({})).await.expect(200)["delivered"], true);
}

#[tokio::test]
async fn a_shorter_pause_does_not_end_a_longer_one() {
    let (test, server) = (TestApp::new().await, MockServer::start().await);
    for seconds in ["3600", "1"] {
        let answer = ResponseTemplate::new(429).insert_header("retry-after", seconds);
        Mock::given(any()).respond_with(answer).up_to_n_times(1).mount(&server).await;
    }
    let owner = test.owner().await;
    owner.webhook(&server.uri(), Value::Null).await;
    let workers = test.workers();
    publish(&owner, "one").await;
    publish(&owner, "two").await;
    shared::app::relay::fan_out(&test.app, &workers.events().await).await.unwrap();
    let tasks: Vec<_> = test.queue.take(QueueName::Deliver);
    let runs = tasks.iter().map(async |message| {
        let task = serde_json::from_str(&message.body).unwrap();
        shared::app::deliver::run(&test.app, QueueName::Deliver, &task).await.unwrap();
    });
    futures_util::future::join_all(runs).await;
    let before = received(&server).await;
    publish(&owner, "three").await;
    workers.run().await;
    workers.after(Duration::from_secs(60)).await;
    assert_eq!(received(&server).await, before, "an hour was asked for");
}

#[tokio::test]
async fn a_secret_signs_until_its_own_time_ends_however_often_others_replace_it() {
    let (test, server) = (TestApp::new().await, receiver(ResponseTemplate::new(200)).await);
    let owner = test.owner().await;
    let (webhook, first) = owner.webhook(&server.uri(), Value::Null).await;
    let (path, workers) = (format!("/api/developers/webhooks/{webhook}/rotate"), test.workers());
    owner.session.post(&path, json!({})).await.expect(200);
    owner.session.post(&path, json!({})).await.expect(200);
    publish(&owner, "one").await;
    workers.run().await;
    let call = server.received_requests().await.unwrap().remove(0);
    let header = |name: &str| call.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("webhook-signature").split(' ').count(), 3);
    let verifier = standardwebhooks::Webhook::new(&first).unwrap();
    let signed =
        verifier.sign(&header("webhook-id"), header("webhook-timestamp").parse().unwrap(), &call.body).unwrap();
    assert!(header("webhook-signature").contains(&signed), "the one that the receiver has");
    test.clock.advance(25 * HOUR);
    let path = format!("/api/developers/webhooks/{webhook}");
    let found = owner.again().await.get(&path).await.expect(200);
    assert_eq!(found["previous_secret_expires_at"], Value::Null, "it is over");
}

#[tokio::test]
async fn a_retry_to_an_endpoint_that_is_off_says_so() {
    let (test, server) = (TestApp::new().await, receiver(ResponseTemplate::new(200)).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let delivery = test.db_failed_delivery(&owner, webhook).await;
    let path = format!("/api/developers/webhooks/{webhook}");
    owner.session.patch(&path, json!({"is_active": false})).await.expect(200);
    let retry = format!("/api/developers/webhooks/deliveries/{delivery}/retry");
    assert_eq!(owner.session.post(&retry, json!({})).await.code(409), "webhook_disabled");
    owner.session.delete(&path).await.expect(204);
    assert_eq!(owner.session.post(&retry, json!({})).await.status, 404);
}

#[tokio::test]
async fn a_process_that_remembers_an_endpoint_as_switched_off_loses_no_event_after_it_is_switched_on() {
    let (test, server) = (TestApp::new().await, receiver(ResponseTemplate::new(200)).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let path = format!("/api/developers/webhooks/{webhook}");
    owner.session.patch(&path, json!({"is_active": false})).await.expect(200);
    let (elsewhere, workspace) = (test.process(Rng::seeded(77)), test.db_workspace(&owner).await.id);
    let known = store::webhook::get_cached(&elsewhere.table, workspace, Id::from_int(webhook).unwrap()).await;
    assert!(!known.unwrap().unwrap().is_active, "it is remembered so for five seconds");
    owner.session.patch(&path, json!({"is_active": true})).await.expect(200);
    publish(&owner, "order.paid").await;
    relay::fan_out(&test.app, &test.workers().events().await).await.unwrap();
    for message in test.queue.take(QueueName::Deliver) {
        let task = serde_json::from_str(&message.body).unwrap();
        deliver::run(&elsewhere, QueueName::Deliver, &task).await.unwrap();
    }
    assert!(received(&server).await >= 1);
}

#[tokio::test]
async fn an_event_that_is_relayed_again_is_not_told_to_an_endpoint_made_since() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    publish(&owner, "order.paid").await;
    let before = test.workers().events().await;
    test.clock.advance(Duration::from_secs(6));
    owner.webhook("http://127.0.0.1:9/in", Value::Null).await;
    relay::fan_out(&test.app, &before).await.unwrap();
    assert!(test.queue.take(QueueName::Deliver).is_empty());
    publish(&owner, "order.paid").await;
    relay::fan_out(&test.app, &test.workers().events().await).await.unwrap();
    assert_eq!(test.queue.take(QueueName::Deliver).len(), 1);
}

#[tokio::test]
async fn a_secret_that_is_replaced_while_it_is_sealed_anew_stays_the_new_one() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook("https://crm.example.com/in", Value::Null).await;
    let user = store::user::by_email(&test.app.table, &owner.email).await.unwrap().unwrap();
    let secrets = async || store::webhook::all(&test.app.table, user.default_workspace_id).await.unwrap().remove(0);
    let found = store::sealed::page(&test.app.table, None).await.unwrap();
    let [holder] = <[_; 1]>::try_from(found.holders).unwrap();
    owner.session.post(&format!("/api/developers/webhooks/{webhook}/rotate"), json!({})).await.expect(200);
    let before = secrets().await;
    let renewed = holder.renew(&test.app.table, |_, sealed| Ok(Some(sealed.clone()))).await.unwrap();
    assert_eq!(renewed, None, "it is to be read again");
    assert!(secrets().await.secret == before.secret && before.previous_secrets.len() == 1);
    // Read again it is sealed anew, and the one before it too.
    let found = store::sealed::page(&test.app.table, None).await.unwrap();
    let [holder] = <[_; 1]>::try_from(found.holders).unwrap();
    let renewed = holder.renew(&test.app.table, |_, sealed| Ok(Some(sealed.clone()))).await.unwrap();
    assert_eq!(renewed, Some(2));
}
