//! Plans and how an account stands.

use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::plan::PlanKey;
use shared::domain::usage::{KeySource, UsageBucket, UsageSums};
use shared::domain::{BillingAccount, Role};
use shared::kernel::{Day, Id};
use shared::store;
use shared::table::{Meter, Row, Unit};
use tests::{Agent, Owner, ScriptedModel, TestApp};

use crate::contract::PROSE;

async fn account(owner: &Owner) -> Value {
    owner.session.get("/api/billing/account").await.expect(200)
}

#[tokio::test]
async fn the_plans_are_the_contracts() {
    let test = TestApp::new().await;
    let catalogue = test.anonymous().get("/api/billing/plans").await.expect(200);
    assert_eq!(catalogue["rates"], json!({"managed": 0.010, "byok": 0.004}));
    assert_eq!(catalogue["seat_price"], 5);
    let plans = catalogue["plans"].as_array().unwrap();
    let slugs: Vec<_> = plans.iter().map(|plan| plan["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["free", "payg", "starter", "pro", "studio", "agency"]);
    let figures = |slug: &str| {
        let plan = plans.iter().find(|plan| plan["slug"] == slug).unwrap();
        [&plan["price_usd"], &plan["included_messages"], &plan["agents_limit"]].map(Value::as_u64)
    };
    assert_eq!(figures("free"), [Some(0), Some(50), Some(1)]);
    assert_eq!(figures("payg")[..2], [None, Some(0)]);
    // As printed: "- **Starter $5** · 2 agentes · 1k msgs."
    let mut printed = 0;
    for line in PROSE.lines().filter(|line| line.starts_with("- **") && line.contains("agentes ·")) {
        let words: Vec<&str> = line.split(['*', ' ', '·']).filter(|word| !word.is_empty() && *word != "-").collect();
        let [name, price, agents, "agentes", messages, "msgs."] = words[..] else { panic!("{words:?}") };
        let thousands: u64 = messages.trim_end_matches('k').parse().unwrap();
        let expected = [price.trim_start_matches('$').parse().ok(), Some(thousands * 1_000), agents.parse().ok()];
        assert_eq!(figures(&name.to_lowercase()), expected, "{line}");
        printed += 1;
    }
    assert_eq!(printed, 4);
    for plan in plans {
        let trial = plan["slug"] == "free";
        assert_eq!(plan["period"], if trial { "once" } else { "month" });
        assert_eq!(plan["overage"], !trial, "only the trial stops");
    }
}

#[tokio::test]
async fn a_free_account_stands_at_the_start_of_its_trial() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let expected = json!({
        "owner_id": owner.user_id, "polar_customer_id": null, "polar_subscription_id": null,
        "plan": "free", "status": "none", "paid_until": null, "cancel_at_period_end": false, "period_start": null, "period_end": null,
        "messages_used_current_period": 0, "messages_used_managed": 0, "messages_used_byok": 0,
        "messages_limit": 50, "free_messages_remaining": 50,
        "has_payment_method": false, "payg_enabled": false,
        "agents_used": 0, "agents_limit": 1, "seats_used": 1, "seats_limit": 3,
        "spend_cap_cents": null, "estimated_overage_cents": 0.0, "email_verification_required": false,
    });
    assert_eq!(account(&owner).await, expected);
}

#[tokio::test]
async fn a_paid_account_counts_by_calendar_month_and_has_no_trial() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    test.db_set_plan(&owner, PlanKey::Pro).await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.workers().run().await;
    let expected = json!({
        "owner_id": owner.user_id, "polar_customer_id": null, "polar_subscription_id": null,
        "plan": "pro", "status": "none", "paid_until": null, "cancel_at_period_end": false,
        "period_start": "2040-03-01T00:00:00.000Z", "period_end": "2040-04-01T00:00:00.000Z",
        "messages_used_current_period": 1, "messages_used_managed": 1, "messages_used_byok": 0,
        "messages_limit": 5_000, "free_messages_remaining": null,
        "has_payment_method": false, "payg_enabled": false,
        "agents_used": 1, "agents_limit": 4, "seats_used": 1, "seats_limit": 10,
        "spend_cap_cents": null, "estimated_overage_cents": 0.0, "email_verification_required": false,
    });
    assert_eq!(account(&owner).await, expected);
    test.clock.advance(Duration::from_secs(31 * 24 * 3600));
    let relogin = test
        .anonymous()
        .post("/api/auth/login", json!({"email": owner.email, "password": tests::PASSWORD}))
        .await
        .expect(200);
    let session = owner.session.with_bearer(relogin["access_token"].as_str().unwrap());
    let april = session.get("/api/billing/account").await.expect(200);
    assert_eq!((&april["messages_used_current_period"], &april["messages_used_managed"]), (&json!(0), &json!(0)));
    assert_eq!(april["period_start"], "2040-04-01T00:00:00.000Z");
}

#[tokio::test]
async fn trial_messages_are_counted_over_all_agents_of_an_owner() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = owner.agent("Uno").await;
    test.visitor(&first).says("Hello").await;
    let off = format!("/api/agents/{}/unpublish", first.id);
    owner.session.post(&off, Value::Null).await.expect(200);
    let second = owner.agent("Dos").await;
    assert_eq!(test.visitor(&second).says("Hello").await["free_messages_remaining"], 48);
    let now = account(&owner).await;
    assert_eq!((&now["messages_used_current_period"], &now["free_messages_remaining"]), (&json!(2), &json!(48)));
}

#[tokio::test]
async fn seats_and_cap_are_what_the_account_holds() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let mut stored = test.db_account(&owner).await;
    (stored.extra_seats, stored.spend_cap_cents, stored.has_payment_method) = (2, Some(1_500), true);
    store::billing::overwrite(&test.app.table, &stored).await.unwrap();
    for role in [Role::Admin, Role::Operator] {
        test.db_member(&owner, role).await;
    }
    let now = account(&owner).await;
    assert_eq!((&now["seats_used"], &now["seats_limit"]), (&json!(3), &json!(52)));
    assert_eq!((&now["spend_cap_cents"], &now["has_payment_method"]), (&json!(1_500), &json!(true)));
}

#[tokio::test]
async fn clients_and_viewers_use_no_seat() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    for role in [Role::Client, Role::Viewer] {
        test.db_member(&owner, role).await;
    }
    assert_eq!(account(&owner).await["seats_used"], 1);
}

#[tokio::test]
async fn a_free_account_with_a_card_may_go_on_metered() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let mut stored = test.db_account(&owner).await;
    (stored.payg_enabled, stored.has_payment_method) = (true, true);
    store::billing::overwrite(&test.app.table, &stored).await.unwrap();
    let agent = owner.agent("Soporte").await;
    assert_eq!(test.visitor(&agent).says("Hello").await["free_messages_remaining"], Value::Null);
    let now = account(&owner).await;
    assert_eq!((&now["plan"], &now["messages_limit"], &now["agents_limit"]), (&json!("payg"), &json!(0), &json!(2)));
    assert_eq!(now["estimated_overage_cents"], 1.0, "a managed message costs a cent");
}

#[tokio::test]
async fn what_an_account_costs_is_for_admins_owners_and_keys_and_not_for_who_edits_agents() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (admin, key) = (test.db_member(&owner, Role::Admin).await, owner.key().await);
    let editor = test.db_member(&owner, Role::Editor).await;
    for path in ["/api/billing/account", "/api/billing/usage"] {
        for persona in [&owner.session, &admin, &key] {
            persona.get(path).await.expect(200);
        }
        assert_eq!(editor.get(path).await.code(403), "forbidden", "{path}");
    }
}

/// What an account used: all, with our key, with its own.
async fn used(owner: &Owner) -> [u64; 3] {
    let now = account(owner).await;
    ["current_period", "managed", "byok"].map(|name| now[format!("messages_used_{name}")].as_u64().unwrap())
}

/// Gives an agent a model key of its owner's.
async fn own_key(owner: &Owner, agent: &Agent) {
    let own = json!({"config": {"ai": {"provider": "offline", "api_key": "sk-own"}}});
    owner.session.patch(&format!("/api/agents/{}", agent.id), own).await.expect(200);
}

#[tokio::test]
async fn what_is_used_by_whose_key_adds_up_to_what_is_used_of_the_trial_also_in_the_next_month() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.clock.advance(Duration::from_secs(40 * 24 * 3600));
    let owner = Owner { session: owner.again().await, ..owner };
    own_key(&owner, &agent).await;
    test.visitor(&agent).says("Hello").await;
    assert_eq!(used(&owner).await, [2, 1, 1], "the trial is one period for ever, and nothing waits for a worker");
}

#[tokio::test]
async fn what_is_used_by_whose_key_is_of_the_month_on_a_plan_and_of_the_trial_again_after_it() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.db_set_plan(&owner, PlanKey::Pro).await;
    assert_eq!(used(&owner).await, [0, 0, 0], "the trial is no part of the month");
    test.visitor(&agent).says("Hello").await;
    own_key(&owner, &agent).await;
    for _ in 0..2 {
        test.visitor(&agent).says("Hello").await;
    }
    assert_eq!(used(&owner).await, [3, 1, 2]);
    test.workers().run().await;
    let replies = owner.session.get("/api/billing/usage").await.expect(200);
    assert_eq!(replies["totals"]["messages"], 4, "what was ever replied is told by the usage");
    test.db_set_plan(&owner, PlanKey::Free).await;
    assert_eq!(used(&owner).await, [1, 1, 0], "what the plan gave is no part of the trial");
    test.visitor(&agent).says("Hello").await;
    assert_eq!(used(&owner).await, [2, 1, 1]);
    test.db_set_plan(&owner, PlanKey::Pro).await;
    test.clock.advance(Duration::from_secs(31 * 24 * 3600));
    let owner = Owner { session: owner.again().await, ..owner };
    assert_eq!(used(&owner).await, [0, 0, 0], "a new month");
}

#[tokio::test]
async fn what_no_reply_came_of_is_given_back_to_whose_key_it_was_taken_for() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    own_key(&owner, &agent).await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    model.fails();
    // The fallback text is stored, and costs nothing.
    visitor.says("And tomorrow?").await;
    assert_eq!(used(&owner).await, [1, 0, 1]);
}

#[tokio::test]
async fn messages_from_before_whose_key_was_told_apart_count_as_ours() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let account = test.db_account(&owner).await;
    let key = store::keys::allowance(account.id, &account.period(test.app.now()));
    test.app.table.overwrite(Row::new(key, "allowance", &json!({"used": 7, "overage": 0})).unwrap()).await.unwrap();
    assert_eq!(used(&owner).await, [7, 7, 0]);
    own_key(&owner, &agent).await;
    test.visitor(&agent).says("Hello").await;
    assert_eq!(used(&owner).await, [8, 7, 1]);
}

#[tokio::test]
async fn a_long_history_makes_neither_the_account_nor_the_overview_dearer() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (stored, workspace) = (test.db_account(&owner).await, test.db_workspace(&owner).await.id);
    let cost = async |path: &str| {
        test.app.table.meter().record();
        owner.session.get(path).await.expect(200);
        let calls = test.app.table.meter().take();
        (Meter::trips(&calls), calls.len(), calls.iter().map(|call| call.read).sum::<f64>())
    };
    // An account that was a large one until yesterday, and is on the trial again.
    let yesterday = Day::of(test.app.now()).plus(-1);
    let sums = UsageSums { messages: 9, included: 9, cost: 0 };
    let mut buckets = (0..100).flat_map(|back| (1..=20).map(move |agent| (yesterday.plus(-back), agent)));
    while let Some(first) = buckets.next() {
        let mut unit = Unit::new();
        for (day, agent) in std::iter::once(first).chain(buckets.by_ref().take(99)) {
            let key_source = KeySource::Managed;
            let bucket = UsageBucket { day, workspace, agent: Id::from_int(agent).unwrap(), key_source };
            unit.put(Row::new(store::keys::usage_rollup(stored.id, &bucket), "rollup", &sums).unwrap());
        }
        test.app.commit(unit).await.unwrap();
    }
    let early = BillingAccount { created_at: yesterday.plus(-400).start(), ..stored };
    store::billing::overwrite(&test.app.table, &early).await.unwrap();
    for path in ["/api/billing/account", "/api/developers/overview"] {
        let (trips, calls, reads) = cost(path).await;
        assert!(trips <= 6 && calls <= 9 && reads <= 9.0, "{path}: {trips} trips, {calls} calls, {reads} read units");
    }
    assert_eq!(used(&owner).await, [0, 0, 0]);
}
