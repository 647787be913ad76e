//! The operator and the installation's users: numbers, suspension, plans that are given, acting for somebody.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Agent, Owner, PASSWORD, Persona, TestApp};

async fn set() -> (TestApp, Owner, Agent, Persona) {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let root = test.superadmin().await;
    (test, owner, agent, root)
}

fn at(owner: &Owner, tail: &str) -> String {
    format!("/api/admin/users/{}{tail}", owner.user_id)
}

async fn log_in(test: &TestApp, owner: &Owner) -> tests::Answer {
    test.anonymous().post("/api/auth/login", json!({"email": owner.email, "password": PASSWORD})).await
}

/// The tenant's own log, newest first: who, what, why, for whom.
async fn log(test: &TestApp, owner: &Owner) -> Vec<Value> {
    let workspace = test.db_workspace(owner).await.id.key();
    let dump = test.db_dump().await;
    dump.of("audit").filter(|entry| entry["workspace_id"] == workspace.as_str()).cloned().collect()
}

#[tokio::test]
async fn users_are_listed_newest_first_and_found_by_e_mail() {
    let (test, owner, _, root) = set().await;
    let other = test.paying_owner().await;
    let (client, _) = owner.client(&test, &[]).await;
    let list = root.get("/api/admin/users").await.expect(200);
    let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|user| user["id"].as_u64().unwrap()).collect();
    let known: Vec<u64> =
        ids.iter().copied().filter(|id| [owner.user_id, other.user_id, client].contains(id)).collect();
    assert_eq!(known, [client, other.user_id, owner.user_id]);
    let shown = |id: u64| list["items"].as_array().unwrap().iter().find(|user| user["id"] == id).unwrap();
    assert_eq!((&shown(owner.user_id)["role"], &shown(client)["role"]), (&json!("owner"), &json!("client")));
    assert_eq!(shown(client)["parent_user_id"], json!(owner.user_id));
    assert!(shown(owner.user_id)["parent_user_id"].is_null() && shown(other.user_id)["parent_user_id"].is_null());
    let alone = root.get(&format!("/api/admin/users/{client}")).await.expect(200);
    assert_eq!((&alone["role"], &alone["parent_user_id"]), (&json!("client"), &json!(owner.user_id)));
    let account = &shown(owner.user_id)["account"];
    assert_eq!(
        (&account["plan"], &account["agents_used"], &account["messages_limit"]),
        (&json!("free"), &json!(1), &json!(50))
    );
    assert_eq!((&shown(other.user_id)["account"]["plan"], &shown(client)["account"]), (&json!("agency"), &Value::Null));
    let found = root.get(&format!("/api/admin/users?email={}", owner.email.to_uppercase())).await.expect(200);
    assert_eq!((&found["items"][0]["id"], found["items"].as_array().unwrap().len()), (&json!(owner.user_id), 1));
    assert_eq!(root.get("/api/admin/users?email=nobody@example.com").await.expect(200)["items"], json!([]));
    let page = root.get("/api/admin/users?limit=2").await.expect(200);
    let next = format!("/api/admin/users?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(root.get(&next).await.expect(200)["items"][0]["id"], ids[2]);
    assert!(!list.to_string().contains("argon2"), "no password, not even its hash");
}

#[tokio::test]
async fn a_user_is_shown_with_account_and_agents_and_without_what_is_theirs_alone() {
    let (test, owner, agent, root) = set().await;
    test.visitor(&agent).says("Hello").await;
    let user = root.get(&at(&owner, "")).await.expect(200);
    assert_eq!((&user["email"], &user["status"]), (&json!(owner.email), &json!("active")));
    assert_eq!((&user["agents"][0]["id"], &user["agents"][0]["name"]), (&json!(agent.id), &json!("Soporte")));
    assert_eq!(
        (&user["account"]["messages_used_current_period"], &user["memberships"][0]["role"]),
        (&json!(1), &json!("owner"))
    );
    assert!(!user.to_string().contains("We are open"), "no prompt");
    assert_eq!(root.get("/api/admin/users/123").await.code(404), "not_found");
}

#[tokio::test]
async fn of_the_statuses_of_a_user_only_those_that_can_be_set_are_offered() {
    let (_test, owner, _, root) = set().await;
    for status in ["bogus", "deleted"] {
        let refused = root.patch(&at(&owner, "/status"), json!({"status": status})).await.expect(422);
        let told = refused["detail"].as_str().unwrap();
        let offered = told.split_once("expected").map_or("", |(_, offered)| offered);
        assert!(offered.contains("active") && offered.contains("suspended"), "{told}");
        assert!(!offered.contains("deleted"), "{told}");
    }
}

#[tokio::test]
async fn the_installation_is_counted() {
    let (test, owner, agent, root) = set().await;
    test.paying_owner().await;
    test.visitor(&agent).says("Hello").await;
    root.patch(&at(&owner, "/plan"), json!({"plan_slug": "studio"})).await.expect(200);
    let metrics = root.get("/api/admin/metrics").await.expect(200);
    // The operator has an account, too.
    assert_eq!((&metrics["accounts"], &metrics["complete"]), (&json!(3), &json!(true)));
    assert_eq!(metrics["plans"], json!({"agency": 1, "free": 1, "studio": 1}));
    assert_eq!(metrics["monthly_revenue_usd"], 59, "what is given brings nothing");
    assert_eq!((&metrics["agents_published"], &metrics["accounts_suspended"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn who_is_suspended_is_out_and_their_agents_say_politely_that_they_cannot_answer() {
    let (test, owner, agent, root) = set().await;
    let (key, mut visitor) = (owner.key().await, test.visitor(&agent));
    visitor.says("Hello").await;
    let status = async |status: &str, reason: Value| {
        root.patch(&at(&owner, "/status"), json!({"status": status, "reason": reason})).await
    };
    assert_eq!(status("suspended", json!("x".repeat(501))).await.expect(422)["field"], "reason");
    assert_eq!(status("deleted", json!("gone")).await.expect(422)["field"], "status");
    assert_eq!(status("suspended", json!("spam")).await.expect(200)["status"], "suspended");
    test.clock.advance(Duration::from_secs(6));
    assert_eq!(owner.session.get("/api/agents").await.code(401), "unauthenticated");
    assert_eq!(log_in(&test, &owner).await.code(403), "forbidden");
    assert_eq!(key.get("/api/agents").await.code(401), "unauthenticated");
    let answer = visitor.says("Are you there?").await;
    assert!(answer["reply"].as_str().unwrap().starts_with("Sorry"), "{answer}");
    assert!(test.db_dump().await.of("message").any(|message| message["reply"]["reason"] == "suspended"));
    let metrics = root.get("/api/admin/metrics").await.expect(200);
    assert_eq!(
        (&metrics["messages_current_period"], &metrics["accounts_suspended"]),
        (&json!(1), &json!(1)),
        "not billed"
    );
    status("active", json!("a mistake")).await.expect(200);
    test.clock.advance(Duration::from_secs(6));
    log_in(&test, &owner).await.expect(200);
    assert_eq!(key.get("/api/agents").await.status, 200);
    assert!(!visitor.says("And now?").await["reply"].as_str().unwrap().starts_with("Sorry"));
    let log = log(&test, &owner).await;
    let told: Vec<_> = log
        .iter()
        .filter(|entry| !entry["reason"].is_null())
        .map(|entry| (&entry["action"], &entry["reason"]))
        .collect();
    assert!(told.contains(&(&json!("suspended"), &json!("spam"))), "{told:?}");
    assert!(told.contains(&(&json!("suspension_lifted"), &json!("a mistake"))), "{told:?}");
    // It may be done without a word, too.
    status("suspended", Value::Null).await.expect(200);
    root.patch(&at(&owner, "/status"), json!({"status": "active"})).await.expect(200);
}

#[tokio::test]
async fn staff_are_neither_suspended_nor_acted_for() {
    let (test, _, _, root) = set().await;
    let me = root.get("/api/auth/me").await.expect(200)["id"].clone();
    let body = json!({"status": "suspended", "reason": "why not"});
    assert_eq!(root.patch(&format!("/api/admin/users/{me}/status"), body).await.code(403), "staff_protected");
    let body = json!({"reason": "why not"});
    assert_eq!(root.post(&format!("/api/admin/users/{me}/impersonate"), body).await.code(403), "staff_protected");
    assert_eq!(test.superadmin().await.get("/api/auth/me").await.status, 200);
}

#[tokio::test]
async fn a_plan_that_is_given_counts_until_it_is_taken_back() {
    let (_test, owner, _, root) = set().await;
    let give = async |plan: Value| root.patch(&at(&owner, "/plan"), json!({"plan_slug": plan})).await;
    assert_eq!(give(json!("gold")).await.status, 422);
    assert_eq!(root.patch(&at(&owner, "/plan"), json!({})).await.expect(422)["field"], "plan_slug");
    assert_eq!(give(json!("starter")).await.expect(200), json!({"plan": "starter", "granted_plan": "starter"}));
    owner.agent("Ventas").await;
    assert_eq!(owner.session.get("/api/billing/account").await.expect(200)["plan"], "starter");
    assert_eq!(give(Value::Null).await.expect(200), json!({"plan": "free", "granted_plan": null}));
    let third = owner.session.post("/api/developers/agents", json!({"name": "Tercero", "publish": true})).await;
    assert!(third.text.contains("Free allows 1 agent") && third.text.contains("allows 2 agents"), "{}", third.text);
    assert_eq!(third.code(402), "agent_limit_reached");
}

#[tokio::test]
async fn staff_who_act_for_somebody_help_and_touch_nothing_of_theirs_alone() {
    let (test, owner, agent, root) = set().await;
    assert_eq!(root.post(&at(&owner, "/impersonate"), json!({})).await.expect(422)["field"], "reason");
    let session = root.post(&at(&owner, "/impersonate"), json!({"reason": "ticket 7"})).await.expect(200);
    let acting = test.anonymous().with_bearer(session["access_token"].as_str().unwrap());
    let me = acting.get("/api/auth/me").await.expect(200);
    assert_eq!((&me["id"], me["impersonated_by"].is_u64()), (&json!(owner.user_id), true));
    let path = format!("/api/agents/{}", agent.id);
    acting.patch(&path, json!({"description": "Mended."})).await.expect(200);
    assert_eq!(acting.get("/api/agents").await.status, 200, "to see is allowed");
    let secret = json!({"config": {"ai": {"api_key": "sk-theirs"}}});
    let header =
        json!({"name": "http_request", "config": {"allowed_hosts": ["a.example.com"], "headers": {"x-key": "k"}}});
    for private in
        ["/api/billing/account", "/api/billing/usage?format=csv", "/api/developers/api-keys", "/api/audit-log"]
    {
        assert_eq!(owner.session.get(private).await.status, 200, "{private}");
        assert_eq!(acting.get(private).await.code(403), "forbidden", "{private}");
    }
    let refused = [
        ("PATCH", path.clone(), secret),
        ("POST", format!("{path}/tools"), header),
        ("DELETE", path.clone(), json!({"confirmation": "Soporte"})),
        ("POST", "/api/developers/api-keys".into(), json!({"name": "k"})),
        ("POST", "/api/developers/webhooks".into(), json!({"name": "w", "url": "https://example.com"})),
        ("POST", "/api/auth/password".into(), json!({"current_password": PASSWORD, "new_password": "another horse"})),
        ("PATCH", "/api/auth/me".into(), json!({"name": "Somebody"})),
        ("POST", "/api/clients".into(), json!({"email": "c@example.com"})),
        ("POST", "/api/billing/checkout-session".into(), json!({"plan_slug": "pro"})),
        ("PUT", "/api/billing/spend-cap".into(), json!({"spend_cap_cents": 1})),
        ("POST", at(&owner, "/impersonate"), json!({"reason": "once more"})),
        ("PATCH", at(&owner, "/plan"), json!({"plan_slug": "agency"})),
    ];
    let before = test.db_dump().await;
    for (method, path, body) in refused {
        assert_eq!(acting.call(method, &path, &[], Some(body)).await.code(403), "forbidden", "{method} {path}");
    }
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
    let log = log(&test, &owner).await;
    let entry = |action: &str| log.iter().find(|entry| entry["action"] == action).unwrap();
    assert_eq!(entry("impersonated")["reason"], "ticket 7");
    let changed = log.iter().filter(|entry| !entry["impersonator"].is_null()).collect::<Vec<_>>();
    assert_eq!((changed.len(), &changed[0]["action"]), (1, &json!("update_agent")), "what they change is written down");
    test.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(acting.get(&path).await.code(401), "unauthenticated", "for half an hour");
}

#[tokio::test]
async fn how_billing_is_set_up_is_told_without_a_secret() {
    let test = TestApp::selling("http://127.0.0.1:9").await;
    let root = test.superadmin().await;
    let config = root.get("/api/admin/billing/config").await.expect(200);
    assert_eq!((&config["polar_configured"], &config["has_access_token"]), (&json!(true), &json!(true)));
    assert_eq!((&config["products"]["pro"], &config["products"]["seat"]), (&json!("p-pro"), &json!("p-seat")));
    assert!(config["webhook_url"].as_str().unwrap().ends_with("/hooks/polar"));
    assert!(!config.to_string().contains("polar_oat_") && !config.to_string().contains("whsec_"));
}
