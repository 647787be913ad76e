//! Plans and how an account stands.

use serde_json::{Value, json};
use shared::domain::Role;
use shared::domain::plan::PlanKey;
use shared::store;
use tests::{Owner, TestApp};

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
    test.clock.advance(std::time::Duration::from_secs(31 * 24 * 3600));
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

#[tokio::test]
async fn what_is_used_by_whose_key_adds_up_to_what_is_used_of_the_trial_also_in_the_next_month() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.clock.advance(std::time::Duration::from_secs(40 * 24 * 3600));
    let owner = Owner { session: owner.again().await, ..owner };
    let own = json!({"config": {"ai": {"provider": "offline", "api_key": "sk-own"}}});
    owner.session.patch(&format!("/api/agents/{}", agent.id), own).await.expect(200);
    test.visitor(&agent).says("Hello").await;
    test.workers().run().await;
    let now = account(&owner).await;
    let used = ["messages_used_current_period", "messages_used_managed", "messages_used_byok"].map(|name| &now[name]);
    assert_eq!(used, [&json!(2), &json!(1), &json!(1)], "the trial is one period for ever: {now}");
}
