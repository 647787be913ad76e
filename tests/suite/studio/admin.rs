//! What the operator of the installation may do.

use serde_json::json;
use shared::domain::Role;
use shared::kernel::Secret;
use shared::ports::queue::QueueName;
use tests::{PASSWORD, TestApp};

const REPORT: &str = "/api/admin/billing/report-usage";

#[tokio::test]
async fn only_a_superadmin_reports_usage() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let admin = test.db_member(&owner, Role::Admin).await;
    for persona in [&owner.session, &admin] {
        assert_eq!(persona.post(REPORT, json!({})).await.code(403), "forbidden");
    }
    assert_eq!(owner.key().await.post(REPORT, json!({})).await.code(403), "forbidden");
    let root = test.superadmin().await;
    let nothing = json!({"configured": false, "batches": 0, "events": 0, "paused_until": null});
    for body in [None, Some(json!({})), Some(json!({"force": true})), Some(json!({"force": false}))] {
        assert_eq!(root.call("POST", REPORT, &[], body).await.expect(200), nothing);
    }
    assert_eq!(root.post(REPORT, json!({"force": "yes"})).await.expect(422)["field"], "force");
}

#[tokio::test]
async fn the_operators_superadmin_is_made_once_and_keeps_up_with_the_password() {
    let test = TestApp::new().await;
    let root = test.superadmin().await;
    let me = root.get("/api/auth/me").await.expect(200);
    assert_eq!((&me["role"], &me["email_verified"]), (&json!("superadmin"), &json!(true)));
    let password = Secret::new("another password");
    shared::app::auth::ensure_superadmin(&test.app, " ROOT@example.com", &password).await.unwrap();
    assert_eq!(test.db_dump().await.of("user").count(), 1);
    let login = |password: &str| json!({"email": "root@example.com", "password": password});
    test.anonymous().post("/api/auth/login", login("another password")).await.expect(200);
    assert_eq!(test.anonymous().post("/api/auth/login", login(PASSWORD)).await.code(401), "invalid_credentials");
}

#[tokio::test]
async fn an_owner_becomes_the_superadmin_and_keeps_what_they_have() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    owner.agent("Soporte").await;
    shared::app::auth::ensure_superadmin(&test.app, &owner.email, &Secret::new(PASSWORD)).await.unwrap();
    let login = json!({"email": owner.email, "password": PASSWORD});
    let token = test.anonymous().post("/api/auth/login", login).await.expect(200)["access_token"].clone();
    let root = test.anonymous().with_bearer(token.as_str().unwrap());
    assert_eq!(root.get("/api/auth/me").await.expect(200)["role"], "superadmin");
    assert_eq!(root.get("/api/agents").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_superadmin_sees_no_tenant_through_the_tenants_doors() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let root = test.superadmin().await;
    assert_eq!(root.get(&format!("/api/agents/{}", agent.id)).await.code(404), "not_found");
    assert_eq!(root.get("/api/agents").await.expect(200)["items"], json!([]));
}

const LETTERS: &str = "/api/admin/dead-letters";

#[tokio::test]
async fn the_operator_lists_replays_and_discards_what_workers_gave_up() {
    let test = TestApp::new().await;
    let root = test.superadmin().await;
    assert_eq!(root.get(LETTERS).await.expect(200), json!({"items": [], "next_cursor": null, "total": 0}));
    for (body, reason) in [("first", "The table cannot be reached."), ("second", "No mail."), ("third", "No mail.")] {
        test.bury(body, reason).await;
    }
    let list = root.get(&format!("{LETTERS}?queue=deliver")).await.expect(200);
    let (now, first) = (json!(test.app.now()), &list["items"][0]);
    let expected = json!({
        "id": first["id"], "queue": "deliver", "body": "first", "truncated": false, "reason": "The table cannot be reached.", "tries": 5,
        "sent_at": now, "died_at": now,
    });
    assert_eq!((first, list["items"].as_array().unwrap().len()), (&expected, 3));
    assert_eq!(root.get(&format!("{LETTERS}?queue=usage-report")).await.expect(200)["items"], json!([]));
    let replay = format!("{LETTERS}/replay");
    let only = json!({"queue": "deliver", "id": first["id"]});
    assert_eq!(root.post(&replay, only.clone()).await.expect(200), json!({"replayed": 1}));
    assert_eq!(root.post(&replay, only).await.code(404), "not_found");
    let second = format!("{LETTERS}/deliver/{}", list["items"][1]["id"].as_str().unwrap());
    assert_eq!(root.delete(&second).await.status, 204);
    assert_eq!(root.delete(&second).await.code(404), "not_found");
    assert_eq!(root.post(&replay, json!({"queue": "deliver"})).await.expect(200), json!({"replayed": 1}));
    assert_eq!(root.get(LETTERS).await.expect(200)["total"], 0);
    let sent = test.queue.take(QueueName::Deliver).into_iter().map(|message| message.body);
    assert_eq!(sent.collect::<Vec<_>>(), ["first", "third"]);
    let audited = test.db_dump().await;
    let audited = audited.of("audit").map(|entry| entry["action"].as_str().unwrap().to_owned());
    let letters: Vec<_> = audited.filter(|action| action.contains("dead_letter")).collect();
    assert_eq!(letters.len(), 3, "each thing that was done, and no refusal: {letters:?}");
}

#[tokio::test]
async fn a_queue_that_there_is_not_has_no_dead_letters() {
    let test = TestApp::new().await;
    let root = test.superadmin().await;
    assert_eq!(root.get(&format!("{LETTERS}?queue=mail")).await.expect(422)["field"], "queue");
    assert_eq!(root.post(&format!("{LETTERS}/replay"), json!({"queue": "mail"})).await.expect(422)["field"], "queue");
    assert_eq!(root.delete(&format!("{LETTERS}/mail/1")).await.code(404), "not_found");
    assert_eq!(test.owner().await.session.get(LETTERS).await.code(403), "forbidden");
}

#[tokio::test]
async fn a_list_of_long_dead_letters_is_cut_to_what_a_function_may_answer() {
    let test = TestApp::new().await;
    let root = test.superadmin().await;
    let long = "\u{1F600}\"".repeat(4_000);
    for _ in 0..230 {
        test.bury(&long, "No mail.").await;
    }
    let list = async |query: &str| root.get(&format!("{LETTERS}?{query}")).await;
    let usual = list("").await.expect(200);
    assert_eq!((&usual["total"], &usual["items"][0]["truncated"]), (&json!(50), &json!(true)));
    assert_eq!(usual["items"][0]["body"].as_str().unwrap().chars().count(), 2_000);
    let most = list("limit=200").await;
    assert_eq!(most.json()["total"], 200);
    // As a function gives it: a text within JSON.
    assert!(serde_json::to_string(&most.text).unwrap().len() < 6_000_000);
    for limit in ["0", "201", "x"] {
        assert_eq!(list(&format!("limit={limit}")).await.expect(422)["field"], "limit", "{limit}");
    }
}
