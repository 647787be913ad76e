//! Showing that an e-mail address is one's own, and what waits for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::store;
use shared::table::Meter;
use tests::builder::BUILDER;
use tests::{Agent, Answer, Options, Owner, PASSWORD, Persona, Phones, ScriptedModel, TestApp};

const VERIFY: &str = "/api/auth/verify-email";
const SEND: &str = "/api/auth/verify-email/send";
const RESET: &str = "/api/auth/reset-password";
const ACCEPT: &str = "/api/auth/invitations/accept";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// An installation whose models wait for owners to verify their address.
async fn gated(model: &ScriptedModel) -> TestApp {
    let variables = vec![("CHATIA_VERIFY_EMAIL", "true".to_owned()), ("CHATIA_PROVIDER", "openai".to_owned())];
    TestApp::with(Options { llm: Some(Arc::new(model.clone())), variables, ..Options::default() }).await
}

async fn verify(test: &TestApp, token: &str) -> Answer {
    test.anonymous().post(VERIFY, json!({"token": token})).await
}

async fn verifies(test: &TestApp, owner: &Owner) {
    let token = test.verification_token(&owner.email).await;
    assert_eq!(verify(test, &token).await.status, 204);
}

async fn is_verified(persona: &Persona) -> bool {
    persona.get("/api/auth/me").await.expect(200)["email_verified"].as_bool().unwrap()
}

async fn waits(owner: &Owner) -> bool {
    let account = owner.session.get("/api/billing/account").await.expect(200);
    account["email_verification_required"].as_bool().unwrap()
}

/// The links that were mailed to an address.
fn links(test: &TestApp, email: &str) -> Vec<String> {
    let sent = test.mail.sent().into_iter().filter(|mail| mail.to == email);
    let link = |text: &str| text.split("/auth/verify#token=").nth(1)?.split_whitespace().next().map(str::to_owned);
    sent.filter_map(|mail| link(&mail.text)).collect()
}

async fn tries_out(owner: &Owner, agent: &Agent) -> Answer {
    owner.session.post(&format!("/api/agents/{}/preview", agent.id), json!({"message": "Hi"})).await
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
    assert_eq!(owner.key().await.post(SEND, Value::Null).await.code(403), "forbidden", "a key has no address");
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

#[tokio::test]
async fn the_installations_models_answer_only_for_owners_who_verified_their_address() {
    let model = ScriptedModel::new();
    let test = gated(&model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    assert!(waits(&owner).await, "the account says why");
    let answer = visitor.says("When do you open?").await;
    assert!(answer["reply"].as_str().unwrap().starts_with("Sorry"), "{answer}");
    let account = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!(account["free_messages_remaining"], 50, "it was given back");
    let body = json!({"message": "Are you there?", "client_message_id": "client-message-000001"});
    let frames = super::stream::open(&test, &agent, &body, None).await.rest().await;
    assert!(frames.last().unwrap().data["reply"].as_str().unwrap().starts_with("Sorry"));
    assert_eq!(tries_out(&owner, &agent).await.code(403), "email_not_verified");
    let told = owner.session.post(BUILDER, json!({"message": "Make me an agent"})).await;
    assert_eq!(told.clone().code(403), "email_not_verified");
    assert!(told.text.contains(SEND), "{}", told.text);
    assert!(model.heard().is_empty() && test.db_usage(&owner).await.is_empty(), "nothing is asked and nothing billed");
    let kept = owner.conversations(&agent).await;
    assert_eq!(kept.len(), 2, "what was written is kept");
    let thread = owner.conversation(&agent, kept[0]["id"].as_u64().unwrap()).await;
    assert_eq!(thread["messages"][1]["meta"]["reason"], "email_not_verified", "and the owner is told why");
    verifies(&test, &owner).await;
    assert!(!waits(&owner).await);
    assert!(!visitor.says("And now?").await["reply"].as_str().unwrap().starts_with("Sorry"));
    tries_out(&owner, &agent).await.expect(200);
    test.builds(&owner.session, json!({"message": "Make me an agent"})).await;
    assert_eq!(test.db_usage(&owner).await.len(), 1);
}

#[tokio::test]
async fn a_phone_gets_the_fallback_text_while_the_owner_is_not_verified() {
    let (model, phones) = (ScriptedModel::new(), Phones::start().await);
    let mut variables = phones.variables();
    variables.extend([("CHATIA_VERIFY_EMAIL", "true".to_owned()), ("CHATIA_PROVIDER", "openai".to_owned())]);
    let llm = Some(Arc::new(model.clone()) as _);
    let test = TestApp::with(Options { llm, variables, ..Options::default() }).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, "106540352242922").await;
    let asks = async |id: &str| {
        test.writes("106540352242922", id, "34600111222", "Hi").await;
        let workers = test.workers();
        workers.run().await;
        workers.after(Duration::from_secs(3)).await;
    };
    asks("wamid.1").await;
    assert_eq!((phones.texts().len(), model.heard().len()), (1, 0));
    assert!(phones.texts()[0].starts_with("Sorry"), "{:?}", phones.texts());
    verifies(&test, &owner).await;
    model.says("Hello!");
    asks("wamid.2").await;
    assert_eq!(phones.texts()[1..], ["Hello!"]);
    assert_eq!(test.db_usage(&owner).await.len(), 1);
}

#[tokio::test]
async fn a_key_of_the_owners_and_the_offline_model_wait_for_nothing() {
    let model = ScriptedModel::new();
    let test = gated(&model).await;
    let owner = test.paying_owner().await;
    let ai = json!({"ai": {"api_key": "sk-customer-1"}});
    for body in [
        json!({"name": "A", "config": ai, "publish": true}),
        json!({"name": "B", "provider": "offline", "publish": true}),
    ] {
        let agent = owner.agent_with(body).await;
        let answer = test.visitor(&agent).says("Hello").await;
        assert!(!answer["reply"].as_str().unwrap().starts_with("Sorry"), "{answer}");
        tries_out(&owner, &agent).await.expect(200);
    }
    assert_eq!(model.heard()[0].target.api_key.as_ref().unwrap().expose(), "sk-customer-1");
}

#[tokio::test]
async fn nobody_waits_where_the_installation_does_not_ask_for_it_nor_who_registered_before_it_could() {
    let test = TestApp::with(Options {
        variables: vec![("CHATIA_PROVIDER", "openai".to_owned())],
        llm: Some(Arc::new(ScriptedModel::new())),
        ..Options::default()
    });
    let test = test.await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    assert!(!waits(&owner).await);
    tries_out(&owner, &agent).await.expect(200);
    let test = gated(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut before = serde_json::to_value(test.db_account(&owner).await).unwrap();
    before.as_object_mut().unwrap().remove("awaits_verification");
    let before = serde_json::from_value(before).unwrap();
    store::billing::overwrite(&test.app.table, &before).await.unwrap();
    tries_out(&owner, &agent).await.expect(200);
}

#[tokio::test]
async fn to_look_whether_the_owner_is_verified_costs_a_turn_nothing() {
    let test = gated(&ScriptedModel::new()).await;
    let owner = test.paying_owner().await;
    verifies(&test, &owner).await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    test.app.table.meter().record();
    visitor.says("How long does delivery take?").await;
    let calls = test.app.table.meter().take();
    assert!(Meter::trips(&calls) <= 3, "{calls:#?}");
}

#[tokio::test]
async fn a_password_that_is_set_by_a_mailed_link_verifies_the_address_and_ends_what_was_there_before() {
    let model = ScriptedModel::new();
    let test = gated(&model).await;
    let owner = test.owner().await;
    let (agent, key) = (owner.agent("Soporte").await, owner.key().await);
    let reset = async |password: &str| {
        let token = test.reset_token(&owner.email).await;
        test.anonymous().post(RESET, json!({"token": token, "password": password})).await
    };
    assert_eq!(reset("another horse").await.status, 204);
    assert_eq!(owner.session.get("/api/auth/me").await.code(401), "unauthenticated");
    assert_eq!(key.get("/api/agents").await.code(401), "unauthenticated", "whoever registered may be somebody else");
    let body = json!({"email": owner.email, "password": "another horse"});
    let session = test.anonymous().post("/api/auth/login", body).await.expect(200);
    assert_eq!(session["user"]["email_verified"], true);
    let now = Owner { session: owner.session.with_bearer(session["access_token"].as_str().unwrap()), ..owner.clone() };
    assert!(!waits(&now).await);
    tries_out(&now, &agent).await.expect(200);
    let key = now.key().await;
    assert_eq!(reset("a third horse").await.status, 204);
    assert_eq!(key.get("/api/agents").await.status, 200, "they are the same person this time");
}

#[tokio::test]
async fn whoever_accepts_an_invitation_takes_an_address_that_somebody_else_registered() {
    let model = ScriptedModel::new();
    let test = gated(&model).await;
    let (owner, squatter) = (test.paying_owner().await, test.owner().await);
    let key = squatter.key().await;
    let made = owner.session.post("/api/clients", json!({"email": squatter.email})).await.expect(201);
    let invitation = test.invitation_token(&owner, made["id"].as_u64().unwrap()).await;
    let accept = async |token: &str, password: &str| {
        test.anonymous().post(ACCEPT, json!({"token": token, "password": password})).await
    };
    assert_eq!(accept(&invitation, "short").await.expect(422)["field"], "password");
    assert_eq!(key.get("/api/agents").await.status, 200, "nothing ended yet");
    let session = accept(&invitation, "another horse").await.expect(200);
    assert_eq!((&session["user"]["email_verified"], &session["user"]["role"]), (&json!(true), &json!("client")));
    assert_eq!(squatter.session.get("/api/auth/me").await.code(401), "unauthenticated");
    assert_eq!(key.get("/api/agents").await.code(401), "unauthenticated");
    let log_in = async |password: &str| {
        test.anonymous().post("/api/auth/login", json!({"email": squatter.email, "password": password})).await
    };
    assert_eq!(log_in(PASSWORD).await.code(401), "invalid_credentials");
    assert_eq!(log_in("another horse").await.expect(200)["user"]["role"], "owner", "the home is theirs, too");
    assert!(!test.db_account(&squatter).await.awaits_verification);
}

#[tokio::test]
async fn who_accepts_an_invitation_with_their_own_password_keeps_what_they_have() {
    let test = TestApp::new().await;
    let (owner, other) = (test.paying_owner().await, test.owner().await);
    let key = other.key().await;
    let made = owner.session.post("/api/clients", json!({"email": other.email})).await.expect(201);
    let token = test.invitation_token(&owner, made["id"].as_u64().unwrap()).await;
    let session = test.anonymous().post(ACCEPT, json!({"token": token, "password": PASSWORD})).await.expect(200);
    assert_eq!(session["user"]["email_verified"], true);
    assert_eq!((key.get("/api/agents").await.status.as_u16(), is_verified(&other.session).await), (200, true));
    assert!(!test.db_account(&other).await.awaits_verification);
}

#[tokio::test]
async fn an_owner_who_has_shown_no_address_is_mailed_nothing_of_what_visitors_write() {
    let model = ScriptedModel::new();
    let test = gated(&model).await;
    let owner = test.owner().await;
    let own_key = json!({"ai": {"api_key": "sk-own"}});
    let body = json!({"name": "Soporte", "tools": ["send_whatsapp_handoff"], "config": own_key, "publish": true});
    let agent = owner.agent_with(body).await;
    let mails = || test.mail.sent().into_iter().filter(|mail| !mail.text.contains("/auth/verify#token=")).count();
    let workers = test.workers();
    for (asked, told) in [("first", 0), ("second", 1)] {
        model.calls("send_whatsapp_handoff", json!({"reason": asked}));
        model.says("A person will write to you.");
        test.visitor(&agent).says("I want a person").await;
        workers.run().await;
        assert_eq!(mails(), told, "after the {asked} visitor");
        if told == 0 {
            verifies(&test, &owner).await;
        }
    }
}

#[tokio::test]
async fn a_host_who_has_shown_no_address_is_mailed_no_appointment_and_the_guest_is() {
    let test = gated(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    owner.opens("UTC", Value::Null).await;
    let book = async |start: &str| {
        let body = json!({"start": start, "email": "guest@example.com", "outside_hours": true});
        owner.session.post("/api/appointments", body).await.expect(201);
    };
    let workers = test.workers();
    let told = || {
        let of = |to: &str| test.mail.sent().iter().filter(|mail| mail.to == to && mail.attachment.is_some()).count();
        (of("guest@example.com"), of(&owner.email))
    };
    book("2040-03-06T10:00").await;
    workers.run().await;
    assert_eq!(told(), (1, 0));
    verifies(&test, &owner).await;
    book("2040-03-06T12:00").await;
    workers.run().await;
    assert_eq!(told(), (2, 1));
}
