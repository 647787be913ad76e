//! Invitations: what a stranger is mailed and how often, and what is told of somebody before they accept.

use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::plan::PlanKey;
use shared::ports::mail::Mail;
use tests::{Answer, Owner, PASSWORD, Persona, TestApp};

const SUBJECT: &str = "You are invited to look after AI agents";

async fn invites(by: &Persona, email: &str) -> Answer {
    by.post("/api/clients", json!({"email": email})).await
}

async fn verifies(test: &TestApp, owner: &Owner) {
    let shown = json!({"token": test.verification_token(&owner.email).await});
    assert_eq!(test.anonymous().post("/api/auth/verify-email", shown).await.status, 204);
}

/// Somebody who registers with a name of their choice.
async fn named(test: &TestApp, name: &str) -> Persona {
    let body = json!({"email": "mallory@example.com", "password": PASSWORD, "name": name});
    let session = test.anonymous().post("/api/auth/register", body).await.expect(201);
    test.anonymous().with_bearer(session["access_token"].as_str().unwrap())
}

async fn mailed_to(test: &TestApp, email: &str) -> Vec<Mail> {
    test.workers().run().await;
    test.mail.sent().into_iter().filter(|mail| mail.to == email).collect()
}

/// What a mail says beside its own link.
fn words(test: &TestApp, mail: &Mail) -> String {
    mail.text.replace(&test.app.config.public_base_url, "")
}

#[tokio::test]
async fn nobody_has_a_stranger_mailed_words_or_links_of_theirs_by_a_name() {
    let test = TestApp::new().await;
    let mallory = named(&test, "Your parcel is waiting at https://evil.example/pay - DHL").await;
    invites(&mallory, "target@example.com").await.expect(201);
    let mail = mailed_to(&test, "target@example.com").await.pop().unwrap();
    assert_eq!(mail.subject, SUBJECT);
    let said = words(&test, &mail);
    assert!(!said.contains("evil") && !said.contains("parcel") && !said.contains("://"), "{said}");
    assert!(said.starts_with("mallory@example.com invites you to look after their AI agents"), "{said}");
}

#[tokio::test]
async fn an_invitation_says_who_invites_to_what_and_whether_their_address_is_theirs() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let first = |mail: &Mail| mail.text.lines().next().unwrap().to_owned();
    invites(&owner.session, "one@example.com").await.expect(201);
    let mail = mailed_to(&test, "one@example.com").await.pop().unwrap();
    let base = &test.app.config.public_base_url;
    let who = format!("\"Olivia Owner\" ({}) invites you to look after their AI agents at {base}: ", owner.email);
    assert!(first(&mail).starts_with(&who), "{}", mail.text);
    assert!(mail.text.contains("have not shown that this e-mail address is theirs"), "{}", mail.text);
    verifies(&test, &owner).await;
    invites(&owner.session, "other@example.com").await.expect(201);
    let mail = mailed_to(&test, "other@example.com").await.pop().unwrap();
    assert!(first(&mail).starts_with(&who) && !mail.text.contains("have not shown"), "{}", mail.text);
    assert_eq!(mail.subject, SUBJECT);
}

#[tokio::test]
async fn one_address_is_mailed_five_invitations_an_hour_whoever_invites_it() {
    let test = TestApp::new().await;
    let (one, other) = (test.owner().await, test.owner().await);
    let made = invites(&one.session, "target@example.com").await.expect(201);
    let again = format!("/api/clients/{}/invite", made["id"]);
    for _ in 0..4 {
        one.session.post(&again, Value::Null).await.expect(200);
    }
    let refused = one.session.post(&again, Value::Null).await;
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    assert!(refused.text.contains("mailed to that address within an hour"), "{}", refused.text);
    assert_eq!(refused.code(429), "rate_limited");
    assert_eq!(invites(&other.session, " Target@example.com").await.code(429), "rate_limited");
    assert_eq!(other.session.get("/api/clients").await.expect(200)["items"], json!([]), "nothing was half made");
    assert_eq!(mailed_to(&test, "target@example.com").await.len(), 5);
    invites(&one.session, "another@example.com").await.expect(201);
    test.clock.advance(Duration::from_secs(3600));
    one.session.post(&again, Value::Null).await.expect(200);
}

#[tokio::test]
async fn whoever_has_shown_no_address_or_pays_nothing_has_twenty_invitations_a_day_mailed() {
    let test = TestApp::new().await;
    let (shown, paying, both) = (test.owner().await, test.paying_owner().await, test.owner().await);
    verifies(&test, &shown).await;
    verifies(&test, &both).await;
    test.db_set_plan(&both, PlanKey::Agency).await;
    for (owner, status) in [(&shown, 429), (&paying, 429), (&both, 201)] {
        for number in 0..20 {
            invites(&owner.session, &format!("c{number}.of.{}@example.com", owner.user_id)).await.expect(201);
        }
        let last = format!("last.of.{}@example.com", owner.user_id);
        let answer = invites(&owner.session, &last).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        // Who is given a password is mailed nothing.
        let body = json!({"email": format!("with.{last}"), "password": PASSWORD});
        owner.session.post("/api/clients", body).await.expect(201);
    }
}

#[tokio::test]
async fn of_somebody_invited_only_what_was_given_is_told_until_they_accept() {
    let test = TestApp::new().await;
    let (owner, known) = (test.owner().await, test.owner().await);
    known.session.patch("/api/auth/me", json!({"name": "Wilhelmina Secret"})).await.expect(200);
    verifies(&test, &known).await;
    // But for address, id and the moment, both answers are the same.
    let like = |mut answer: Value| {
        let email = answer["email"].as_str().unwrap().to_owned();
        let name = answer["name"].as_str().unwrap().replace(email.split('@').next().unwrap(), "local part");
        answer["name"] = name.into();
        ["id", "email", "created_at"].iter().for_each(|field| answer[*field] = Value::Null);
        answer
    };
    let made = invites(&owner.session, &known.email).await.expect(201);
    let stranger = invites(&owner.session, "stranger@example.com").await.expect(201);
    assert_eq!((&made["name"], &made["email_verified"]), (&json!("owner1"), &json!(false)));
    assert_eq!(like(made.clone()), like(stranger));
    let path = format!("/api/clients/{}", made["id"]);
    let agent = owner.agent("Soporte").await;
    owner.session.post(&format!("{path}/grants"), json!({"agent_id": agent.id})).await.expect(201);
    test.visitor(&agent).says("Hi").await;
    test.workers().run().await;
    let usage = owner.session.get("/api/billing/usage?group_by=client").await;
    assert!(usage.text.contains("\"client_name\":\"owner1\""), "{}", usage.text);
    let (list, found) = (owner.session.get("/api/clients").await, owner.session.get(&path).await);
    let again = owner.session.post(&format!("{path}/invite"), Value::Null).await;
    let renamed = owner.session.patch(&path, json!({"name": null})).await;
    let (grants, log) = (owner.session.get(&format!("{path}/grants")).await, owner.session.get("/api/audit-log").await);
    for answer in [&usage, &list, &found, &again, &renamed, &grants, &log] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains("Wilhelmina"), "{}", answer.text);
        assert!(!answer.text.contains("\"email_verified\":true"), "{}", answer.text);
    }
    let token = test.invitation_token(&owner, made["id"].as_u64().unwrap()).await;
    let accepted = json!({"token": token, "password": PASSWORD});
    test.anonymous().post("/api/auth/invitations/accept", accepted).await.expect(200);
    let found = owner.session.get(&path).await.expect(200);
    assert_eq!((&found["name"], &found["email_verified"]), (&json!("Wilhelmina Secret"), &json!(true)));
}

#[tokio::test]
async fn the_page_of_an_invitation_says_where_to_log_in_and_who_invited() {
    let test = TestApp::new().await;
    let script = test.anonymous().get("/assets/auth.js").await;
    let lines: Vec<&str> = script.text.lines().filter(|line| line.trim_start().starts_with("accepted:")).collect();
    assert_eq!(lines.len(), 3, "in each language: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("{who}") && line.contains("POST {api}")), "{lines:?}");
    assert!(script.text.contains("${location.origin}/api/auth/login"), "where");
}
