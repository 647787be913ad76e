//! Keys, webhook endpoints and the owner's own events. What webhooks are told, and when, is in `webhooks.rs`.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use shared::domain::api_key::DEVELOPER_SCOPES;
use tests::{Options, Owner, TestApp};
use wiremock::matchers::{header, header_exists, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

const KEYS: &str = "/api/developers/api-keys";
const WEBHOOKS: &str = "/api/developers/webhooks";
const EVENTS: &str = "/api/developers/events";

async fn total(owner: &Owner, list: &str) -> Value {
    owner.session.get(list).await.expect(200)["total"].clone()
}

/// A receiver that answers with a status, and its address.
async fn receiver(status: u16) -> (MockServer, String) {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(status).set_body_string("noted"))
        .mount(&server)
        .await;
    let url = format!("{}/in", server.uri());
    (server, url)
}

#[tokio::test]
async fn the_overview_counts_what_there_is() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let empty = owner.session.get("/api/developers/overview").await.expect(200);
    assert_eq!((&empty["agents_published"], &empty["api_keys"], &empty["webhooks"]), (&json!(0), &json!(0), &json!(0)));
    let agent = owner.agent("Soporte").await;
    owner.agent_with(json!({"name": "Borrador"})).await;
    owner.key().await;
    owner.webhook("https://one.example.com", Value::Null).await;
    let (off, _) = owner.webhook("https://two.example.com", Value::Null).await;
    owner.session.patch(&format!("{WEBHOOKS}/{off}"), json!({"is_active": false})).await.expect(200);
    test.visitor(&agent).says("Hello").await;
    let overview = owner.key().await.get("/api/developers/overview").await.expect(200);
    assert_eq!((&overview["agents_published"], &overview["agents_limit"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&overview["api_keys"], &overview["webhooks"], &overview["webhooks_active"]),
        (&json!(2), &json!(2), &json!(1))
    );
    assert_eq!(overview["messages_used_current_period"], 1);
    assert_eq!(overview["events"].as_array().unwrap().len(), 8);
    assert_eq!(
        (&overview["base_url"], &overview["docs_url"]),
        (&json!("http://127.0.0.1:8000"), &json!("http://127.0.0.1:8000/docs"))
    );
}

#[tokio::test]
async fn a_key_is_shown_once() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let made = owner.session.post(KEYS, json!({"name": " CI "})).await.expect(201);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("chatia_") && key.len() == 47, "{key}");
    assert_eq!((&made["name"], made["prefix"].as_str()), (&json!("CI"), Some(&key[..12])));
    assert_eq!(made["scopes"], json!(DEVELOPER_SCOPES));
    let list = owner.session.get(KEYS).await;
    assert!(!list.text.contains(key), "{}", list.text);
    let list = list.expect(200);
    let mut listed = made.as_object().unwrap().clone();
    listed.remove("key");
    assert_eq!(list["items"], json!([listed]), "the list shows everything but the key");
    assert!(!test.db_dump().await.contains(key), "a key lies in the table in clear");
    let second = owner.session.post(KEYS, json!({"name": "second"})).await.expect(201);
    assert_eq!(owner.session.get(KEYS).await.expect(200)["items"][0]["id"], second["id"], "newest first");
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let made = owner.session.post(KEYS, json!({"name": "reader", "scopes": ["agents:read"]})).await.expect(201);
    assert_eq!(made["scopes"], json!(["agents:read"]));
    let reader = owner.session.with_bearer(made["key"].as_str().unwrap());
    reader.get("/api/agents").await.expect(200);
    let refused = reader.post("/api/agents", json!({"name": "x"})).await;
    assert!(refused.text.contains("agents:write"), "the answer names what lacks: {}", refused.text);
    assert_eq!(refused.code(403), "scope_missing");
    for scopes in [json!([]), json!(["agents:read", "everything"]), json!(["AGENTS:READ"]), json!([""])] {
        let answer = owner.session.post(KEYS, json!({"name": "x", "scopes": scopes})).await.expect(422);
        assert_eq!(answer["field"], "scopes", "{answer}");
    }
    for name in ["", " ", &"n".repeat(61)] {
        assert_eq!(owner.session.post(KEYS, json!({"name": name})).await.expect(422)["field"], "name");
    }
    assert_eq!(total(&owner, KEYS).await, 1);
}

#[tokio::test]
async fn a_key_ends_at_its_time() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for past in ["2040-03-05T09:00:00Z", "2025-01-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
        let answer = owner.session.post(KEYS, json!({"name": "x", "expires_at": past})).await.expect(422);
        assert_eq!(answer["field"], "expires_at", "{answer}");
    }
    assert_eq!(
        owner.session.post(KEYS, json!({"name": "x", "expires_at": "tomorrow"})).await.expect(422)["field"],
        "expires_at"
    );
    let made =
        owner.session.post(KEYS, json!({"name": "x", "expires_at": "2040-03-05T11:00:00+01:00"})).await.expect(201);
    assert_eq!(made["expires_at"], "2040-03-05T10:00:00.000Z");
    let key = owner.session.with_bearer(made["key"].as_str().unwrap());
    test.clock.advance(Duration::from_secs(3599));
    key.get("/api/agents").await.expect(200);
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(key.get("/api/agents").await.code(401), "unauthenticated");
    let forever = json!({"name": "x", "expires_at": "2099-12-31T23:59:59Z"});
    owner.session.post(KEYS, forever).await.expect(201);
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let made = owner.session.post(KEYS, json!({"name": "x"})).await.expect(201);
    let key = owner.session.with_bearer(made["key"].as_str().unwrap());
    key.get("/api/agents").await.expect(200);
    let path = format!("{KEYS}/{}", made["id"]);
    assert_eq!(owner.session.delete(&path).await.status, 204);
    assert_eq!(key.get("/api/agents").await.code(401), "unauthenticated");
    assert_eq!(owner.session.delete(&path).await.code(404), "not_found");
    assert_eq!(total(&owner, KEYS).await, 0);
}

#[tokio::test]
async fn a_key_cannot_make_or_revoke_keys() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let key = owner.key().await;
    let id = owner.session.get(KEYS).await.expect(200)["items"][0]["id"].clone();
    let refused = key.post(KEYS, json!({"name": "child"})).await;
    assert!(refused.text.contains("Log in"), "a key that holds is not told that it does not: {}", refused.text);
    assert_eq!(refused.code(403), "forbidden");
    assert_eq!(key.delete(&format!("{KEYS}/{id}")).await.code(403), "forbidden");
    assert_eq!(key.get("/api/auth/me").await.code(403), "forbidden");
    assert_eq!(total(&owner, KEYS).await, 1);
}

#[tokio::test]
async fn a_workspace_has_fifty_keys_at_most() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for _ in 0..50 {
        owner.key().await;
    }
    assert_eq!(owner.session.post(KEYS, json!({"name": "x"})).await.code(409), "api_key_limit_reached");
    let id = owner.session.get(KEYS).await.expect(200)["items"][7]["id"].clone();
    assert_eq!(owner.session.delete(&format!("{KEYS}/{id}")).await.status, 204);
    owner.key().await;
}

#[tokio::test]
async fn a_webhook_is_made_listed_changed_and_removed() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let made =
        owner.session.post(WEBHOOKS, json!({"name": " crm ", "url": "https://crm.example.com/in"})).await.expect(201);
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    assert_eq!((&made["name"], &made["events"], &made["is_active"]), (&json!("crm"), &Value::Null, &json!(true)));
    assert_eq!(made["secret_prefix"].as_str(), Some(&secret[..12]));
    let path = format!("{WEBHOOKS}/{}", made["id"]);
    for answer in
        [owner.session.get(&path).await, owner.session.get(WEBHOOKS).await, owner.session.patch(&path, json!({})).await]
    {
        assert!(!answer.text.contains(&secret) && !answer.text.contains("\"secret\""), "{}", answer.text);
        assert_eq!(answer.status, 200);
    }
    assert!(!test.db_dump().await.contains(&secret), "a secret lies in the table in clear");
    let only = json!({"events": ["agent.lead.captured", "custom.order.paid"], "name": "erp", "url": "https://erp.example.com"});
    let changed = owner.session.patch(&path, only.clone()).await.expect(200);
    assert_eq!((&changed["events"], &changed["name"], &changed["url"]), (&only["events"], &only["name"], &only["url"]));
    let kept = owner.session.patch(&path, json!({"is_active": false})).await.expect(200);
    assert_eq!((&kept["events"], &kept["is_active"]), (&only["events"], &json!(false)));
    let all = owner.session.patch(&path, json!({"events": null})).await.expect(200);
    assert_eq!((&all["events"], &all["is_active"]), (&Value::Null, &json!(false)));
    let gone = owner.session.delete(&path).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    for (verb, tail) in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")] {
        let body = (verb == "PATCH").then(|| json!({}));
        let answer = owner.session.call(verb, &format!("{path}{tail}"), &[], body).await;
        assert_eq!(answer.code(404), "not_found", "{verb} {tail}");
    }
    assert_eq!(total(&owner, WEBHOOKS).await, 0);
}

#[tokio::test]
async fn a_webhook_asks_for_events_that_there_are() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let before = test.db_dump().await;
    for events in [
        json!(["agent.created", "agent.exploded"]),
        json!([]),
        json!(["webhook.test"]),
        json!(["custom."]),
        json!(["custom.Ä"]),
        json!(["*"]),
    ] {
        let body = json!({"name": "crm", "url": "https://crm.example.com", "events": events});
        let answer = owner.session.post(WEBHOOKS, body).await.expect(422);
        assert_eq!(answer["field"], "events", "{answer}");
    }
    for name in ["", &"n".repeat(121)] {
        let body = json!({"name": name, "url": "https://crm.example.com"});
        assert_eq!(owner.session.post(WEBHOOKS, body).await.expect(422)["field"], "name");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn only_public_https_addresses_are_told() {
    let test =
        TestApp::with(Options { variables: vec![("CHATIA_EGRESS_ALLOW", String::new())], ..Options::default() }).await;
    let owner = test.owner().await;
    let (good, _) = owner.webhook("https://crm.example.com/in", Value::Null).await;
    let before = test.db_dump().await;
    for url in [
        "http://crm.example.com/in",
        "https://127.0.0.1/in",
        "https://localhost/in",
        "https://localhost./in",
        "https://10.0.0.1",
        "https://192.168.1.1",
        "https://172.16.0.1",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1",
        "https://0.0.0.0",
        "https://2130706433",
        "https://0x7f.1",
        "https://[::1]",
        "https://[::ffff:7f00:1]",
        "https://[fd00::1]",
        "https://[fe80::1]",
        "https://user:pass@crm.example.com",
        "ftp://crm.example.com",
        "javascript:alert(1)",
        "//crm.example.com",
        "crm.example.com",
        "",
    ] {
        let answer = owner.session.post(WEBHOOKS, json!({"name": "crm", "url": url})).await.expect(422);
        assert_eq!((&answer["code"], &answer["field"]), (&json!("validation_error"), &json!("url")), "{url}: {answer}");
        let answer = owner.session.patch(&format!("{WEBHOOKS}/{good}"), json!({"url": url})).await.expect(422);
        assert_eq!(answer["field"], "url", "{url}: {answer}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn a_workspace_has_twenty_webhooks_at_most() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for number in 0..20 {
        owner.webhook(&format!("https://crm{number}.example.com"), Value::Null).await;
    }
    let body = json!({"name": "one more", "url": "https://crm.example.com"});
    assert_eq!(owner.session.post(WEBHOOKS, body.clone()).await.code(409), "webhook_limit_reached");
    let list = owner.session.get(WEBHOOKS).await.expect(200);
    assert_eq!((&list["total"], &list["next_cursor"]), (&json!(20), &Value::Null));
    assert_eq!(owner.session.delete(&format!("{WEBHOOKS}/{}", list["items"][3]["id"])).await.status, 204);
    owner.session.post(WEBHOOKS, body).await.expect(201);
}

#[tokio::test]
async fn many_at_once_make_no_more_webhooks_and_keys_than_there_may_be() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let webhook = json!({"name": "crm", "url": "https://crm.example.com"});
    join_all((0..30).map(|_| owner.session.post(WEBHOOKS, webhook.clone()))).await;
    let key = json!({"name": "x"});
    join_all((0..65).map(|_| owner.session.post(KEYS, key.clone()))).await;
    let (webhooks, keys) = (total(&owner, WEBHOOKS).await, total(&owner, KEYS).await);
    assert_eq!((webhooks, keys), (json!(20), json!(50)));
}

#[tokio::test]
async fn a_test_event_says_how_it_went_and_leaves_nothing() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (server, url) = receiver(204).await;
    let (id, secret) = owner.webhook(&url, json!(["agent.created"])).await;
    let path = format!("{WEBHOOKS}/{id}/test");
    let before = test.db_dump().await;
    let good = owner.session.post(&path, Value::Null).await.expect(200);
    assert_eq!((&good["delivered"], &good["status"], &good["error"]), (&json!(true), &json!(204), &Value::Null));
    let [received] = &server.received_requests().await.unwrap()[..] else { panic!("one request") };
    let told = |name: &str| received.headers[name].to_str().unwrap().to_owned();
    assert_eq!(told("x-chatia-event"), "webhook.test");
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(
        (&body["type"], body["id"].as_str()),
        (&json!("webhook.test"), Some(told("x-chatia-event-id").as_str()))
    );
    let signed = [told("x-chatia-timestamp").as_bytes(), b".", &received.body].concat();
    let signature = shared::kernel::secret::hmac_sha256(secret.as_bytes(), &[&signed]);
    assert_eq!(told("x-chatia-signature"), hex::encode(signature));
    // Its place on the way to the endpoint was given back; nothing else is left.
    let changes = test.db_dump().await.changes_since(&before);
    assert!(changes.iter().all(|change| change.contains("#WHH")), "{changes:?}");
}

#[tokio::test]
async fn a_test_event_that_is_not_taken_says_why() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for status in [199, 302, 404, 410, 500] {
        let (_server, url) = receiver(status).await;
        let (id, _) = owner.webhook(&url, Value::Null).await;
        let answer = owner.session.post(&format!("{WEBHOOKS}/{id}/test"), Value::Null).await.expect(200);
        assert_eq!(answer["delivered"], false, "{status}: {answer}");
        assert!(answer["error"].is_string(), "{status}: {answer}");
        let endpoint = owner.session.get(&format!("{WEBHOOKS}/{id}")).await.expect(200);
        assert_eq!(endpoint["is_active"], true, "a test switches nothing off");
    }
    let (id, _) = owner.webhook("http://127.0.0.1:9/in", Value::Null).await;
    let answer = owner.session.post(&format!("{WEBHOOKS}/{id}/test"), Value::Null).await.expect(200);
    assert_eq!((&answer["delivered"], &answer["status"]), (&json!(false), &Value::Null));
    assert!(answer["error"].as_str().unwrap().starts_with("connect"), "{answer}");
}

#[tokio::test]
async fn an_event_of_the_owners_is_told_as_it_was_given() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let server = MockServer::start().await;
    let custom = Mock::given(header("x-chatia-event", "custom.order.paid")).and(header_exists("x-chatia-signature"));
    custom.respond_with(ResponseTemplate::new(200)).expect(1).mount(&server).await;
    owner.webhook(&server.uri(), json!(["custom.order.paid"])).await;
    let data = json!({"id": "ñ ☎", "total": 12.5, "deep": [{"a": [null, true, {"b": []}]}], "": "", "big": 9_007_199_254_740_993_u64});
    let body = json!({"event": "order.paid", "agent_id": agent.id, "data": data});
    let accepted = owner.key().await.post(EVENTS, body).await.expect(201);
    assert_eq!(accepted["event"], "custom.order.paid");
    test.workers().run().await;
    let [received] = &server.received_requests().await.unwrap()[..] else { panic!("one request") };
    let told: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!((&told["id"], &told["data"]), (&accepted["id"], &data));
    assert_eq!(told["agent_id"].as_u64(), Some(agent.id));
}

#[tokio::test]
async fn an_events_data_may_be_whatever_json_can_say() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (server, url) = receiver(200).await;
    owner.webhook(&url, Value::Null).await;
    let nested = (0..60).fold(json!("x"), |inner, _| json!({"in": inner}));
    let cases = [
        json!({"nested": nested}),
        json!({"large": 1e300, "small": 1e-300, "exact": u64::MAX, "negative": i64::MIN}),
        json!({"": {"": [""]}}),
        json!({"pk": "W#1", "sk": "~", "ttl": 1, "v": 5, "et": "user", "gsi1pk": "x"}),
        json!({"a.b": 1, "#n": 2, ":v": 3, "$": 4}),
        json!({"\u{0}": "\u{0}\u{1f}", "emoji": "👩‍👩‍👧‍👦"}),
    ];
    for data in &cases {
        let answer = owner.session.post(EVENTS, json!({"event": "x", "data": data})).await;
        assert_eq!(answer.status, 201, "{data}: {}", answer.text);
    }
    test.workers().run().await;
    let received = server.received_requests().await.unwrap();
    let told: Vec<Value> = received
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["data"].clone())
        .collect();
    for data in &cases {
        assert!(told.contains(data), "{data} was not told as it was given: {told:?}");
    }
}

#[tokio::test]
async fn an_event_has_a_plain_name_and_little_data() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let before = test.db_dump().await;
    for name in ["", " ", "Order", "orden pagada", "ñ", "-x", ".x", &"x".repeat(65), "custom."] {
        assert_eq!(owner.session.post(EVENTS, json!({"event": name})).await.expect(422)["field"], "event", "{name:?}");
    }
    let filled = |bytes: usize| -> Map<String, Value> {
        let envelope = json!({"x": ""}).to_string().len();
        [("x".to_owned(), json!("y".repeat(bytes - envelope)))].into_iter().collect()
    };
    let answer = owner.session.post(EVENTS, json!({"event": "x", "data": filled(32 * 1024 + 1)})).await.expect(422);
    assert_eq!(answer["field"], "data", "{answer}");
    for data in [json!([]), json!("text"), json!(null)] {
        assert_eq!(owner.session.post(EVENTS, json!({"event": "x", "data": data})).await.expect(422)["field"], "data");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
    owner.session.post(EVENTS, json!({"event": "x", "data": filled(32 * 1024)})).await.expect(201);
    for (name, full) in
        [("a", "custom.a"), ("custom.b", "custom.b"), (" c ", "custom.c"), ("9.x_y-z", "custom.9.x_y-z")]
    {
        assert_eq!(owner.session.post(EVENTS, json!({"event": name})).await.expect(201)["event"], full);
    }
}

#[tokio::test]
async fn an_event_about_an_agent_that_is_not_the_owners_is_refused() {
    let test = TestApp::new().await;
    let (owner, other) = (test.owner().await, test.owner().await);
    let foreign = other.agent("Soporte").await.id;
    let before = test.db_dump().await;
    let answers = [
        owner.session.post(EVENTS, json!({"event": "x", "agent_id": foreign})).await,
        owner.session.post(EVENTS, json!({"event": "x", "agent_id": 12345})).await,
    ];
    assert_eq!(answers[0].text, answers[1].text);
    for answer in answers {
        assert_eq!(answer.code(404), "not_found");
    }
    assert_eq!(
        owner.session.post(EVENTS, json!({"event": "x", "agent_id": 1_u64 << 53})).await.expect(422)["field"],
        "agent_id"
    );
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn a_failed_delivery_is_listed_and_sent_again() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (server, url) = receiver(200).await;
    let (webhook, _) = owner.webhook(&url, json!(["custom.x"])).await;
    let failed = test.db_failed_delivery(&owner, webhook).await;
    let deliveries = format!("{WEBHOOKS}/{webhook}/deliveries");
    let listed = owner.session.get(&deliveries).await.expect(200);
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["status"]), (&json!(failed), &json!("failed")));
    let retry = format!("{WEBHOOKS}/deliveries/{failed}/retry");
    let pending = owner.session.post(&retry, Value::Null).await.expect(200);
    assert_eq!(pending["status"], "pending");
    assert_eq!(owner.session.post(&retry, Value::Null).await.code(409), "delivery_not_failed");
    test.workers().run().await;
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    let listed = owner.session.get(&deliveries).await.expect(200);
    assert_eq!(listed["items"][0]["status"], "succeeded");
    assert_eq!(owner.session.post(&retry, Value::Null).await.code(409), "delivery_not_failed");
    for id in ["not-a-uuid", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(
            owner.session.post(&format!("{WEBHOOKS}/deliveries/{id}/retry"), Value::Null).await.code(404),
            "not_found"
        );
    }
}
