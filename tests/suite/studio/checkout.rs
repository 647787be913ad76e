//! Buying through Polar: what is asked of it, and what its callbacks make of an account.

use std::time::Duration;

use serde_json::{Value, json};
use shared::kernel::{Rng, Time};
use tests::polar::{Callback, Key};
use tests::{Owner, START, TestApp};
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

async fn account(owner: &Owner) -> Value {
    owner.session.get("/api/billing/account").await.expect(200)
}

fn at(seconds: u64) -> Time {
    START + Duration::from_secs(seconds)
}

async fn set() -> (MockServer, TestApp, Owner) {
    let polar = MockServer::start().await;
    let test = TestApp::selling(&polar.uri()).await;
    let owner = test.owner().await;
    (polar, test, owner)
}

async fn answers(polar: &MockServer, verb: &str, at: &str, status: u16, body: Value) {
    Mock::given(method(verb))
        .and(path(at))
        .respond_with(ResponseTemplate::new(status).set_body_json(body))
        .mount(polar)
        .await;
}

async fn bodies(polar: &MockServer, at: &str) -> Vec<Value> {
    let requests = polar.received_requests().await.unwrap().into_iter();
    requests.filter(|request| request.url.path() == at).map(|request| request.body_json().unwrap()).collect()
}

fn open_checkout() -> Value {
    json!({"id": "co-1", "url": "https://polar.example.com/co-1", "expires_at": "2040-03-06T09:00:00Z"})
}

#[tokio::test]
async fn a_checkout_is_opened_for_the_owner_of_the_account() {
    let (polar, test, owner) = set().await;
    answers(&polar, "POST", "/v1/checkouts/", 201, open_checkout()).await;
    let body = json!({"plan_slug": "pro", "embed_origin": "https://app.example.com"});
    let open = owner.session.post("/api/billing/checkout-session", body).await.expect(200);
    assert_eq!((&open["url"], &open["checkout_id"]), (&json!("https://polar.example.com/co-1"), &json!("co-1")));
    let asked = bodies(&polar, "/v1/checkouts/").await.remove(0);
    assert_eq!(asked["products"], json!(["p-pro"]));
    assert_eq!(asked["external_customer_id"], json!(test.customer(&owner).await));
    assert_eq!(
        (&asked["customer_email"], &asked["embed_origin"]),
        (&json!(owner.email), &json!("https://app.example.com"))
    );
    assert!(
        asked["customer_ip_address"].is_string() && asked["success_url"].as_str().unwrap().contains("{CHECKOUT_ID}")
    );
    let request = polar.received_requests().await.unwrap().remove(0);
    assert_eq!(request.headers["authorization"], "Bearer polar_oat_test");
    assert_eq!(request.headers["polar-version"], "2026-10");
    assert_eq!(account(&owner).await["plan"], "free", "nothing counts before it is paid for");
    let from_page = [("origin", "http://localhost:3000")];
    let body = Some(json!({"plan_slug": "payg"}));
    owner.session.call("POST", "/api/billing/checkout-session", &from_page, body).await.expect(200);
    let asked = bodies(&polar, "/v1/checkouts/").await.remove(1);
    assert_eq!((&asked["products"], &asked["embed_origin"]), (&json!(["p-payg"]), &json!("http://localhost:3000")));
}

#[tokio::test]
async fn what_cannot_be_bought_is_refused_with_the_reason() {
    let (polar, test, owner) = set().await;
    let buy = async |body: Value| owner.session.post("/api/billing/checkout-session", body).await;
    for plan in ["free", "gold", ""] {
        assert_eq!(buy(json!({"plan_slug": plan})).await.expect(422)["field"], "plan_slug", "{plan}");
    }
    for origin in ["http://example.com", "https://example.com/page", "nonsense", "javascript:alert(1)"] {
        let body = json!({"plan_slug": "pro", "embed_origin": origin});
        assert_eq!(buy(body).await.expect(422)["field"], "embed_origin", "{origin}");
    }
    assert_eq!(buy(json!({"plan_slug": "pro"})).await.code(502), "upstream_error", "Polar does not know the path");
    test.subscribes(&owner, "starter").await;
    assert_eq!(buy(json!({"plan_slug": "pro"})).await.code(409), "subscription_active");
    let here = TestApp::new().await;
    let somebody = here.owner().await;
    for (path, body) in [("checkout-session", json!({"plan_slug": "pro"})), ("portal-session", Value::Null)] {
        let refused = somebody.session.post(&format!("/api/billing/{path}"), body).await;
        assert_eq!(refused.code(503), "not_configured", "{path}");
    }
    drop(polar);
}

#[tokio::test]
async fn the_portal_opens_for_customers_and_makes_one_of_whom_polar_does_not_know() {
    let (polar, test, owner) = set().await;
    let unknown =
        ResponseTemplate::new(422).set_body_json(json!({"error": "PolarRequestValidationError", "detail": []}));
    Mock::given(path("/v1/customer-sessions/")).respond_with(unknown).up_to_n_times(1).mount(&polar).await;
    answers(&polar, "POST", "/v1/customers/", 201, json!({"id": "c-1"})).await;
    let session = json!({"id": "cs-1", "customer_portal_url": "https://polar.example.com/portal"});
    answers(&polar, "POST", "/v1/customer-sessions/", 201, session).await;
    let body = json!({"return_url": "https://app.example.com/billing"});
    let open = owner.session.post("/api/billing/portal-session", body).await.expect(200);
    assert_eq!(open["url"], "https://polar.example.com/portal");
    let customer = test.customer(&owner).await;
    assert_eq!(bodies(&polar, "/v1/customers/").await, [json!({"external_id": customer, "email": owner.email})]);
    let again = owner.session.post("/api/billing/portal-session", Value::Null).await.expect(200);
    assert_eq!(again["url"], "https://polar.example.com/portal");
    assert_eq!(bodies(&polar, "/v1/customers/").await.len(), 1);
}

#[tokio::test]
async fn a_subscription_makes_its_plan_count_until_it_ends() {
    let (_polar, test, owner) = set().await;
    let customer = test.customer(&owner).await;
    let tell = async |seconds: u64, kind: &str, data: Value| {
        let callback = Callback::new(&format!("e-{seconds}"), kind, at(seconds), data);
        test.hears(&callback, Key::Decoded).await.expect(200)
    };
    let sub = |product: &str, status: &str| TestApp::subscription(&customer, "s-1", product, status);
    assert_eq!(tell(1, "subscription.created", sub("p-starter", "incomplete")).await["status"], "taken");
    assert_eq!(account(&owner).await["plan"], "free", "not before it is paid for");
    tell(2, "subscription.active", sub("p-starter", "active")).await;
    let stands = account(&owner).await;
    assert_eq!(
        (&stands["plan"], &stands["status"], &stands["agents_limit"]),
        (&json!("starter"), &json!("active"), &json!(2))
    );
    assert_eq!((&stands["has_payment_method"], &stands["messages_limit"]), (&json!(true), &json!(1_000)));
    assert_eq!(stands["paid_until"], "2040-04-05T09:00:00.000Z");
    assert_eq!((&stands["polar_customer_id"], &stands["polar_subscription_id"]), (&json!("c-1"), &json!("s-1")));
    for name in ["Soporte", "Ventas"] {
        owner.agent(name).await;
    }
    let third = json!({"name": "Tercero", "publish": true});
    let refused = owner.session.post("/api/developers/agents", third.clone()).await;
    assert!(refused.text.contains("Pro allows 4 agents"), "{}", refused.text);
    assert_eq!(refused.code(402), "agent_limit_reached");
    tell(3, "subscription.updated", sub("p-pro", "active")).await;
    owner.session.post("/api/developers/agents", third).await.expect(201);
    let mut ending = sub("p-pro", "active");
    ending["cancel_at_period_end"] = json!(true);
    tell(4, "subscription.canceled", ending).await;
    let stands = account(&owner).await;
    assert_eq!(
        (&stands["plan"], &stands["cancel_at_period_end"]),
        (&json!("pro"), &json!(true)),
        "until the period ends"
    );
    tell(5, "subscription.past_due", sub("p-pro", "past_due")).await;
    assert_eq!(account(&owner).await["status"], "past_due");
    tell(6, "subscription.revoked", sub("p-pro", "canceled")).await;
    let stands = account(&owner).await;
    assert_eq!(
        (&stands["plan"], &stands["status"], &stands["agents_used"]),
        (&json!("free"), &json!("canceled"), &json!(3))
    );
    assert_eq!((&stands["polar_customer_id"], &stands["polar_subscription_id"]), (&json!("c-1"), &Value::Null));
    let other = json!({"id": "c-0", "external_id": customer, "active_subscriptions": []});
    tell(5, "customer.state_changed", other).await;
    assert_eq!(account(&owner).await["polar_customer_id"], "c-1", "what is older changes nothing");
    tell(7, "customer.deleted", json!({"id": "c-1", "external_id": customer})).await;
    assert_eq!(account(&owner).await["polar_customer_id"], Value::Null);
    let body = json!({"name": "Cuarto", "publish": true});
    assert_eq!(owner.session.post("/api/developers/agents", body).await.code(402), "agent_limit_reached");
}

#[tokio::test]
async fn a_callback_counts_when_polar_signed_it_and_once() {
    let (_polar, test, owner) = set().await;
    let customer = test.customer(&owner).await;
    let callback = |id: &str, product: &str| {
        let data = TestApp::subscription(&customer, "s-1", product, "active");
        Callback::new(id, "subscription.active", at(1), data)
    };
    let provider = test.provider();
    let whole = callback("e-1", "p-pro");
    assert_eq!(test.hears(&whole, Key::Whole).await.expect(200)["status"], "taken", "an older endpoint");
    assert_eq!(test.hears(&whole, Key::Decoded).await.expect(200)["status"], "known", "a newer one, and a repeat");
    let before = test.db_dump().await;
    let forged = callback("e-2", "p-agency").body.to_string();
    let headers = whole.headers(Key::Decoded, test.app.now());
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        provider.call_raw("POST", "/hooks/polar", &headers, forged).await.expect(401)["code"],
        "signature_invalid"
    );
    assert_eq!(provider.call_raw("POST", "/hooks/polar", &[], "{}").await.expect(401)["code"], "signature_invalid");
    let old = whole.headers(Key::Decoded, at(0) - Duration::from_secs(301));
    let old: Vec<_> = old.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let late = provider.call_raw("POST", "/hooks/polar", &old, whole.body.to_string()).await;
    assert_eq!(late.expect(401)["code"], "signature_invalid");
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
}

#[tokio::test]
async fn callbacks_that_are_not_about_us_are_taken_and_change_nothing() {
    let (_polar, test, owner) = set().await;
    let customer = test.customer(&owner).await;
    let before = test.db_dump().await;
    let told = [
        ("product.updated", json!({"id": "p-pro"})),
        ("subscription.active", TestApp::subscription("ba_00000000000", "s-1", "p-pro", "active")),
        ("subscription.active", TestApp::subscription("somebody else's", "s-1", "p-pro", "active")),
        ("order.paid", json!({"total_amount": 500, "customer": {"external_id": null}})),
    ];
    for (number, (kind, data)) in told.into_iter().enumerate() {
        let callback = Callback::new(&format!("e-{number}"), kind, at(1), data);
        assert_eq!(test.hears(&callback, Key::Decoded).await.expect(200)["status"], "ignored", "{kind}");
    }
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
    let nonsense =
        Callback { id: "e-9".into(), body: json!({"type": "subscription.active", "timestamp": at(1), "data": 7}) };
    assert_eq!(test.hears(&nonsense, Key::Decoded).await.expect(400)["code"], "malformed_body");
    let unknown = TestApp::subscription(&customer, "s-2", "p-nobody-knows", "active");
    let callback = Callback::new("e-10", "subscription.active", at(2), unknown);
    test.hears(&callback, Key::Decoded).await.expect(200);
    assert_eq!(account(&owner).await["plan"], "free", "a product that is not sold here is no plan");
}

/// A life with Polar: a first customer who is deleted, another one, bought, changed, unpaid, seats, a second subscription,
/// its end that is wished, taken back and wished again; `gone` adds that this customer is deleted too.
fn life(customer: &str, gone: bool) -> Vec<Callback> {
    let of = |id: &str, mut told: Value| {
        told["customer"]["id"] = json!(id);
        told
    };
    let sub = |id: &str, product: &str, status: &str| TestApp::subscription(customer, id, product, status);
    let mut seats = sub("s-seat", "p-seat", "active");
    seats["seats"] = json!(4);
    let mut more_seats = seats.clone();
    more_seats["seats"] = json!(7);
    let mut ending = of("c-2", sub("s-2", "p-studio", "active"));
    ending["cancel_at_period_end"] = json!(true);
    let state = |subscriptions: Vec<Value>| json!({"external_id": customer, "active_subscriptions": subscriptions});
    let order = json!({"total_amount": 1_200, "customer": {"external_id": customer}});
    let deleted = |id: &str| json!({"id": id, "external_id": customer});
    // Each with its second; some are at the same moment.
    let mut told = vec![
        (0, "subscription.active", of("c-0", sub("s-0", "p-agency", "active"))),
        (1, "customer.deleted", deleted("c-0")),
        (2, "subscription.created", sub("s-1", "p-starter", "incomplete")),
        (3, "subscription.active", sub("s-1", "p-starter", "active")),
        (4, "order.paid", order.clone()),
        (5, "subscription.active", seats),
        (6, "subscription.updated", sub("s-1", "p-pro", "active")),
        (7, "customer.state_changed", state(vec![sub("s-1", "p-pro", "active"), more_seats.clone()])),
        (8, "subscription.past_due", sub("s-1", "p-pro", "past_due")),
        (9, "subscription.active", sub("s-1", "p-pro", "active")),
        (10, "subscription.active", sub("s-2", "p-studio", "trialing")),
        (10, "subscription.revoked", sub("s-1", "p-pro", "canceled")),
        (12, "customer.state_changed", state(vec![sub("s-2", "p-studio", "active"), more_seats])),
        (13, "subscription.canceled", ending.clone()),
        (14, "subscription.uncanceled", of("c-1", sub("s-2", "p-studio", "active"))),
        (15, "subscription.canceled", ending),
    ];
    if gone {
        told.extend([(16, "order.paid", of("c-2", order)), (16, "customer.deleted", deleted("c-2"))]);
    }
    let numbered = told.into_iter().enumerate();
    numbered
        .map(|(number, (second, kind, data))| Callback::new(&format!("e-{number}"), kind, at(second), data))
        .collect()
}

/// What an account and its subscriptions are; when they were written, and how often, is left out.
async fn state(test: &TestApp, owner: &Owner) -> (Value, Vec<Value>) {
    let dump = test.db_dump().await;
    let without = |mut item: Value| {
        let fields = item.as_object_mut().unwrap();
        for name in ["v", "updated_at", "pk", "sk", "billing_account_id", "owner_id"] {
            fields.remove(name);
        }
        item
    };
    (without(account(owner).await), dump.of("subscription").cloned().map(without).collect())
}

/// How the account ends when a life is told in order.
async fn told_in_order(gone: bool) -> (Value, Vec<Value>) {
    let (_polar, test, owner) = set().await;
    for callback in &life(&test.customer(&owner).await, gone) {
        test.hears(callback, Key::Decoded).await.expect(200);
    }
    state(&test, &owner).await
}

#[tokio::test]
async fn callbacks_that_come_twice_shuffled_and_out_of_order_end_as_those_in_order() {
    let ends = [told_in_order(false).await, told_in_order(true).await];
    let shown = |end: &Value| {
        ["plan", "seats_limit", "cancel_at_period_end", "has_payment_method", "polar_customer_id"]
            .map(|name| end[name].clone())
    };
    assert_eq!(shown(&ends[0].0), [json!("studio"), json!(25 + 7), json!(true), json!(true), json!("c-2")]);
    assert_eq!(shown(&ends[1].0), [json!("free"), json!(3), json!(false), json!(false), Value::Null]);
    for (seed, gone) in (0..15).flat_map(|seed| [(seed, false), (seed, true)]) {
        let (_polar, test, owner) = set().await;
        let (rng, customer) = (Rng::seeded(seed), test.customer(&owner).await);
        let pick = |bound: usize| rng.below(u32::try_from(bound).unwrap()) as usize;
        let mut told = life(&customer, gone);
        told.extend((0..pick(12)).map(|_| told[pick(told.len())].clone()).collect::<Vec<_>>());
        for place in (1..told.len()).rev() {
            told.swap(place, pick(place + 1));
        }
        for callback in &told {
            test.hears(callback, Key::Whole).await.expect(200);
        }
        let order: Vec<&str> = told.iter().map(|callback| callback.id.as_str()).collect();
        assert_eq!(state(&test, &owner).await, ends[usize::from(gone)], "seed {seed}: {order:?}");
    }
}

#[tokio::test]
async fn callbacks_at_the_same_time_do_not_undo_each_other() {
    let (_polar, test, owner) = set().await;
    let told = life(&test.customer(&owner).await, false);
    let heard = told.iter().map(|callback| async { test.hears(callback, Key::Decoded).await.status });
    let mut again: Vec<_> = futures_util::future::join_all(heard).await.into_iter().zip(&told).collect();
    // One that met others four times in a row is sent again by Polar.
    for _ in 0..told.len() {
        let mut left = Vec::new();
        for (status, callback) in again.into_iter().filter(|(status, _)| *status != 200) {
            assert_eq!(status, 409, "only because of each other");
            left.push((test.hears(callback, Key::Decoded).await.status, callback));
        }
        again = left;
    }
    let stands = account(&owner).await;
    assert_eq!((&stands["plan"], &stands["seats_limit"]), (&json!("studio"), &json!(25 + 7)));
}

#[tokio::test]
async fn a_plan_is_changed_and_ended_at_polar() {
    let (polar, test, owner) = set().await;
    let change = async |body: Value| owner.session.patch("/api/billing/subscription", body).await;
    assert_eq!(change(json!({"plan_slug": "pro"})).await.code(409), "subscription_missing");
    assert_eq!(change(json!({})).await.expect(422)["field"], "plan_slug");
    test.subscribes(&owner, "pro").await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({"id": "s-1"}));
    Mock::given(method("PATCH"))
        .and(path("/v1/subscriptions/s-1"))
        .respond_with(answer)
        .up_to_n_times(4)
        .mount(&polar)
        .await;
    for (body, want) in [
        (json!({"plan_slug": "agency"}), json!({"product_id": "p-agency", "proration_behavior": "invoice"})),
        (json!({"plan_slug": "starter"}), json!({"product_id": "p-starter", "proration_behavior": "next_period"})),
        (json!({"cancel_at_period_end": true}), json!({"cancel_at_period_end": true})),
        (json!({"cancel_at_period_end": false}), json!({"cancel_at_period_end": false})),
    ] {
        assert_eq!(change(body).await.expect(200)["status"], "requested");
        assert_eq!(bodies(&polar, "/v1/subscriptions/s-1").await.pop().unwrap(), want);
    }
    answers(&polar, "PATCH", "/v1/subscriptions/s-1", 402, json!({"error": "PaymentFailed"})).await;
    assert_eq!(change(json!({"plan_slug": "agency"})).await.code(402), "payment_failed");
    assert_eq!(account(&owner).await["plan"], "pro");
}

#[tokio::test]
async fn seats_are_bought_changed_and_given_back() {
    let (polar, test, owner) = set().await;
    let seats = async |count: u64| {
        owner.session.call("PUT", "/api/billing/seats", &[], Some(json!({"extra_seats": count}))).await
    };
    assert_eq!(seats(2).await.code(403), "plan_required");
    test.subscribes(&owner, "pro").await;
    answers(&polar, "POST", "/v1/checkouts/", 201, open_checkout()).await;
    let open = seats(2).await.expect(200);
    assert_eq!((&open["status"], &open["url"]), (&json!("checkout"), &json!("https://polar.example.com/co-1")));
    let asked = bodies(&polar, "/v1/checkouts/").await.remove(0);
    assert_eq!((&asked["products"], &asked["seats"]), (&json!(["p-seat"]), &json!(2)));
    let mut bought = TestApp::subscription(&test.customer(&owner).await, "s-seat", "p-seat", "active");
    bought["seats"] = json!(2);
    test.hears(&Callback::new("e-seat", "subscription.active", at(5), bought), Key::Decoded).await.expect(200);
    assert_eq!(account(&owner).await["seats_limit"], 12);
    let answer = ResponseTemplate::new(200).set_body_json(json!({}));
    Mock::given(method("PATCH")).and(path_regex("^/v1/subscriptions/s-seat$")).respond_with(answer).mount(&polar).await;
    for (count, want) in [(5, json!({"seats": 5})), (0, json!({"revoke": true}))] {
        assert_eq!(seats(count).await.expect(200)["status"], "requested");
        assert_eq!(bodies(&polar, "/v1/subscriptions/s-seat").await.pop().unwrap(), want);
    }
    assert_eq!(seats(1_001).await.expect(422)["field"], "extra_seats");
}

#[tokio::test]
async fn pay_as_you_go_needs_a_card_and_bills_beyond_the_trial_up_to_the_cap() {
    let (_polar, test, owner) = set().await;
    let put = async |path: &str, body: Value| {
        owner.session.call("PUT", &format!("/api/billing/{path}"), &[], Some(body)).await
    };
    assert_eq!(put("payg", json!({"enabled": true})).await.code(402), "payment_method_required");
    let order = json!({"total_amount": 1, "customer": {"external_id": test.customer(&owner).await}});
    test.hears(&Callback::new("e-1", "order.paid", at(1), order), Key::Decoded).await.expect(200);
    let stands = put("payg", json!({"enabled": true})).await.expect(200);
    assert_eq!(
        (&stands["plan"], &stands["payg_enabled"], &stands["agents_limit"]),
        (&json!("payg"), &json!(true), &json!(2))
    );
    assert_eq!(put("spend-cap", json!({})).await.expect(422)["field"], "spend_cap_cents");
    assert_eq!(put("spend-cap", json!({"spend_cap_cents": 3})).await.expect(200)["spend_cap_cents"], 3);
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    for number in 1..=3 {
        visitor.says("Hello").await;
        assert_eq!(account(&owner).await["estimated_overage_cents"], json!(f64::from(number)));
    }
    let refused = visitor.send("Hello").await;
    assert_eq!(refused.code(402), "spend_cap_reached");
    assert_eq!(put("spend-cap", json!({"spend_cap_cents": null})).await.expect(200)["spend_cap_cents"], Value::Null);
    test.clock.advance(Duration::from_secs(6));
    visitor.says("Hello").await;
    assert_eq!(put("payg", json!({"enabled": false})).await.expect(200)["plan"], "free");
}

#[tokio::test]
async fn the_owner_is_told_once_at_eighty_and_at_a_hundred_percent() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    for conversation in 0..10 {
        let mut visitor = test.visitor(&agent);
        for number in 0..5 {
            visitor.says(&format!("message {conversation}.{number}")).await;
        }
    }
    assert_eq!(test.visitor(&agent).send("one more").await.code(402), "message_limit_reached");
    for _ in 0..2 {
        test.workers().run().await;
    }
    let subjects: Vec<String> = test.mail.sent().into_iter().map(|mail| mail.subject).collect();
    assert_eq!(
        subjects,
        [
            "80 % used: 40 of the 50 messages that your plan includes",
            "100 % used: 50 of the 50 messages that your plan includes"
        ]
    );
}
