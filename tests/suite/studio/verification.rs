//! Showing that an e-mail address is one's own.

use std::time::Duration;

use serde_json::{Value, json};
use shared::store;
use tests::{Answer, Owner, PASSWORD, Persona, TestApp};

const VERIFY: &str = "/api/auth/verify-email";
const SEND: &str = "/api/auth/verify-email/send";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

async fn verify(test: &TestApp, token: &str) -> Answer {
    test.anonymous().post(VERIFY, json!({"token": token})).await
}

async fn is_verified(persona: &Persona) -> bool {
    persona.get("/api/auth/me").await.expect(200)["email_verified"].as_bool().unwrap()
}

/// The links that were mailed to an address.
fn links(test: &TestApp, email: &str) -> Vec<String> {
    let sent = test.mail.sent().into_iter().filter(|mail| mail.to == email);
    let link = |text: &str| text.split("/auth/verify#token=").nth(1)?.split_whitespace().next().map(str::to_owned);
    sent.filter_map(|mail| link(&mail.text)).collect()
}

#[tokio::test]
async fn who_registers_is_mailed_a_link_that_verifies_their_address() {
    let test = TestApp::new().await;
    let owner = Owner::register(test.anonymous(), "ana@example.com").await;
    assert!(!is_verified(&owner.session).await);
    test.workers().run().await;
    let mails = test.mail.sent();
    assert_eq!(mails.len(), 1);
    assert_eq!((mails[0].to.as_str(), mails[0].subject.as_str()), ("ana@example.com", "Verify your e-mail"));
    let page = test.anonymous().get("/auth/verify").await;
    assert!(page.status == 200 && page.text.contains("data-page=\"verify\""), "{}", page.text);
    let token = links(&test, "ana@example.com").pop().unwrap();
    assert!(!test.db_dump().await.contains(&token), "nothing is stored of it");
    assert_eq!(verify(&test, &token).await.status, 204);
    assert!(is_verified(&owner.session).await, "and the session goes on");
    let before = test.db_dump().await;
    assert_eq!(verify(&test, &format!(" {token}\n")).await.status, 204, "once more");
    assert!(test.db_dump().await.changes_since(&before).iter().all(|change| change.contains("RL#")));
    let told = test.journal.lines().iter().map(Value::to_string).collect::<String>();
    assert!(!told.contains(&token) && told.contains("verify_email"), "{told}");
}

#[tokio::test]
async fn a_link_holds_for_seven_days_for_its_own_person_and_nobody_who_is_suspended() {
    let test = TestApp::new().await;
    let (ana, bob) = (test.owner().await, test.owner().await);
    let token = test.verification_token(&ana.email).await;
    for wrong in ["", "nothing", "ver_k1.AAAA", &token[..token.len() - 1], &format!("{token}A")] {
        assert_eq!(verify(&test, wrong).await.code(400), "verification_invalid", "{wrong}");
    }
    let status = format!("/api/admin/users/{}/status", ana.user_id);
    let root = test.superadmin().await;
    root.patch(&status, json!({"status": "suspended"})).await.expect(200);
    assert_eq!(verify(&test, &token).await.code(400), "verification_invalid");
    root.patch(&status, json!({"status": "active"})).await.expect(200);
    test.clock.advance(WEEK - Duration::from_secs(1));
    verify(&test, &test.verification_token(&bob.email).await).await;
    let shown = root.get(&format!("/api/admin/users/{}", ana.user_id)).await.expect(200);
    assert_eq!(shown["email_verified"], false, "bob's link is not hers");
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(verify(&test, &token).await.code(400), "verification_invalid");
    let user = store::user::by_email(&test.app.table, &ana.email).await.unwrap().unwrap();
    assert!(!user.email_verified);
}

#[tokio::test]
async fn another_link_is_mailed_to_whoever_asks_five_times_an_hour_until_they_are_verified() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for _ in 0..5 {
        let told = owner.session.post(SEND, Value::Null).await.expect(200);
        assert_eq!(told["detail"], format!("A mail is on its way to {}.", owner.email));
    }
    assert_eq!(owner.again().await.post(SEND, Value::Null).await.code(429), "rate_limited");
    test.workers().run().await;
    let links = links(&test, &owner.email);
    assert_eq!(links.len(), 5);
    assert_eq!(test.anonymous().post(SEND, Value::Null).await.code(401), "unauthenticated");
    assert_eq!(owner.key().await.post(SEND, Value::Null).await.code(401), "unauthenticated", "a key has no address");
    test.clock.advance(Duration::from_secs(3600));
    owner.session.post(SEND, Value::Null).await.expect(200);
    assert_eq!(verify(&test, &links[0]).await.status, 204, "the first one holds too");
    assert_eq!(owner.session.post(SEND, Value::Null).await.code(409), "email_already_verified");
    test.workers().run().await;
    assert_eq!(self::links(&test, &owner.email).len(), 5, "what waited is not needed any more");
}

#[tokio::test]
async fn a_client_with_a_password_from_their_owner_verifies_their_own_address() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = json!({"email": "carla@example.com", "password": PASSWORD});
    owner.session.post("/api/clients", body.clone()).await.expect(201);
    let session = test.anonymous().post("/api/auth/login", body).await.expect(200);
    let client = test.anonymous().with_bearer(session["access_token"].as_str().unwrap());
    client.post(SEND, Value::Null).await.expect(200);
    test.workers().run().await;
    assert_eq!(verify(&test, &links(&test, "carla@example.com")[0]).await.status, 204);
    assert!(is_verified(&client).await && !is_verified(&owner.session).await);
}
