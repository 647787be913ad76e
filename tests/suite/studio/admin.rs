//! What the operator of the installation may do.

use serde_json::json;
use shared::domain::Role;
use shared::kernel::Secret;
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
    assert_eq!(owner.key().await.post(REPORT, json!({})).await.code(401), "unauthenticated");
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
