//! Visitors whom their site signs.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::domain::lead::Details;
use shared::domain::plan::PlanKey;
use shared::kernel::Id;
use shared::store::contact;
use shared::table::Meter;
use tests::{Agent, Answer, Owner, TestApp, Visitor};

async fn set() -> (TestApp, Owner, Agent, String) {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let secret = new_secret(&owner, &agent).await;
    (test, owner, agent, secret)
}

fn path(agent: &Agent) -> String {
    format!("/api/agents/{}/identity-secret", agent.id)
}

async fn new_secret(owner: &Owner, agent: &Agent) -> String {
    let made = owner.session.post(&path(agent), json!({})).await.expect(200);
    assert_eq!(made["agent_id"], agent.id);
    made["secret"].as_str().unwrap().to_owned()
}

fn sign(secret: &str, user: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(user.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

fn signed(secret: &str, user: &str) -> Value {
    json!({"user_id": user, "signature": sign(secret, user)})
}

async fn send(visitor: &mut Visitor, message: &str, identity: Value) -> Answer {
    let body = json!({"message": message, "conversation_id": visitor.handle, "identity": identity});
    let answer = visitor.persona.post(&visitor.path(), body).await;
    if answer.status == 200 {
        visitor.handle = answer.json()["conversation_id"].as_str().map(str::to_owned);
    }
    answer
}

#[tokio::test]
async fn the_inbox_shows_whom_the_site_signed() {
    let (test, owner, agent, secret) = set().await;
    let mut ana = test.visitor(&agent);
    let mut identity = signed(&secret, "user-42");
    identity["name"] = json!(" Ana Pérez ");
    identity["email"] = json!("Ana@Example.com");
    identity["phone"] = json!("+52 55 1234 5678");
    send(&mut ana, "Hello", identity).await.expect(200);
    let shown = json!({"user_id": "user-42", "name": "Ana Pérez", "email": "ana@example.com", "phone": "525512345678"});
    let [head] = &owner.conversations(&agent).await[..] else { panic!("one conversation") };
    assert_eq!(head["identity"], shown);
    let detail = owner.conversation(&agent, head["id"].as_u64().unwrap()).await;
    assert_eq!(detail["identity"], shown);

    test.visitor(&agent).says("Hello").await;
    assert_eq!(owner.conversations(&agent).await[0]["identity"], Value::Null, "who says nothing is nobody");
}

#[tokio::test]
async fn a_conversation_that_began_without_a_name_gets_one() {
    let (test, owner, agent, secret) = set().await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    send(&mut visitor, "It is me", signed(&secret, "user-42")).await.expect(200);
    let mut named = signed(&secret, "user-42");
    named["name"] = json!("Ana");
    send(&mut visitor, "Ana, that is", named).await.expect(200);
    visitor.says("Without saying so again").await;
    let [head] = &owner.conversations(&agent).await[..] else { panic!("one conversation") };
    assert_eq!((&head["identity"]["user_id"], &head["identity"]["name"]), (&json!("user-42"), &json!("Ana")));
}

#[tokio::test]
async fn what_is_not_signed_as_it_should_be_is_refused_and_not_stored() {
    let (test, owner, agent, secret) = set().await;
    let right = sign(&secret, "user-42");
    let wrong = [
        json!({"user_id": "user-42"}),
        json!({"user_id": "user-42", "signature": ""}),
        json!({"user_id": "user-43", "signature": right}),
        json!({"user_id": "user-42 ", "signature": right}),
        json!({"user_id": "user-42", "signature": right.to_uppercase()}),
        json!({"user_id": "user-42", "signature": sign("idsec_another", "user-42")}),
    ];
    for identity in wrong {
        for door in ["", "/stream"] {
            let visitor = test.visitor(&agent);
            let body = json!({"message": "Hello", "identity": identity});
            let answer = visitor.persona.post(&format!("{}{door}", visitor.path()), body).await;
            assert_eq!(answer.code(403), "identity_refused", "{door} {identity}");
        }
    }
    let mut visitor = test.visitor(&agent);
    let empty = json!({"user_id": " ", "signature": right});
    assert_eq!(send(&mut visitor, "Hello", empty).await.code(422), "validation_error");
    assert!(owner.conversations(&agent).await.is_empty());
}

#[tokio::test]
async fn without_a_secret_no_identity_is_believed() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    let refused = send(&mut visitor, "Hello", signed("", "user-42")).await;
    assert!(refused.text.contains("identity-secret"), "it says what to do: {}", refused.text);
    assert_eq!(refused.code(403), "identity_refused");
    send(&mut visitor, "Hello", Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_rotated_or_removed_secret_signs_nobody() {
    let (test, owner, agent, old) = set().await;
    let new = new_secret(&owner, &agent).await;
    assert_ne!(old, new);
    assert_eq!(send(&mut test.visitor(&agent), "Hello", signed(&old, "user-42")).await.code(403), "identity_refused");
    send(&mut test.visitor(&agent), "Hello", signed(&new, "user-42")).await.expect(200);
    // What is published and edited later keeps it.
    owner.session.patch(&format!("/api/agents/{}", agent.id), json!({"description": "New."})).await.expect(200);
    send(&mut test.visitor(&agent), "Hello", signed(&new, "user-42")).await.expect(200);
    owner.session.delete(&path(&agent)).await.expect(204);
    assert_eq!(send(&mut test.visitor(&agent), "Hello", signed(&new, "user-42")).await.code(403), "identity_refused");
}

#[tokio::test]
async fn the_secret_is_shown_once() {
    let (_test, owner, agent, secret) = set().await;
    let shown = owner.session.get(&format!("/api/agents/{}", agent.id)).await;
    assert!(!shown.text.contains(&secret));
    assert_eq!(shown.expect(200)["has_identity_secret"], true);
    owner.session.delete(&path(&agent)).await.expect(204);
    let shown = owner.session.get(&format!("/api/agents/{}", agent.id)).await.expect(200);
    assert_eq!(shown["has_identity_secret"], false);
}

#[tokio::test]
async fn a_secret_signs_for_its_own_agent_only() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    let secret = new_secret(&owner, &agent).await;
    let other = owner.agent("Ventas").await;
    new_secret(&owner, &other).await;
    assert_eq!(
        send(&mut test.visitor(&other), "Hello", signed(&secret, "user-42")).await.code(403),
        "identity_refused"
    );
    let stranger = test.owner().await;
    assert_eq!(stranger.session.post(&path(&agent), json!({})).await.code(404), "not_found");
    assert_eq!(stranger.session.delete(&path(&agent)).await.code(404), "not_found");
}

#[tokio::test]
async fn a_conversation_belongs_to_one_user() {
    let (test, owner, agent, secret) = set().await;
    let mut visitor = test.visitor(&agent);
    send(&mut visitor, "Hello", signed(&secret, "user-42")).await.expect(200);
    let refused = send(&mut visitor, "I am another", signed(&secret, "user-43")).await;
    assert_eq!(refused.code(409), "identity_other_user");
    let [head] = &owner.conversations(&agent).await[..] else { panic!("one conversation") };
    assert_eq!((&head["identity"]["user_id"], &head["message_count"]), (&json!("user-42"), &json!(2)));
    visitor.handle = None;
    send(&mut visitor, "I am another", signed(&secret, "user-43")).await.expect(200);
    assert_eq!(owner.conversations(&agent).await[0]["identity"]["user_id"], "user-43");
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_answered_once_with_an_identity_too() {
    let (test, owner, agent, secret) = set().await;
    let visitor = test.visitor(&agent);
    let body = json!({
        "message": "Hello", "client_message_id": "6b1f3a0e-8f0c-4a53", "identity": signed(&secret, "user-42"),
    });
    let first = visitor.persona.post(&visitor.path(), body.clone()).await.expect(200);
    let again = visitor.persona.post(&visitor.path(), body).await.expect(200);
    assert_eq!((&first["conversation_id"], &first["message_id"]), (&again["conversation_id"], &again["message_id"]));
    assert_eq!(owner.conversations(&agent).await.len(), 1);
}

#[tokio::test]
async fn a_person_whose_message_waits_for_an_operator_is_known_too() {
    let (test, owner, agent, secret) = set().await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    owner.takeover(&agent, id, true).await;
    send(&mut visitor, "It is me", signed(&secret, "user-42")).await.expect(200);
    assert_eq!(owner.conversation(&agent, id).await["identity"]["user_id"], "user-42");
}

#[tokio::test]
async fn an_address_that_somebody_else_has_makes_nobody_them() {
    let (test, owner, agent, secret) = set().await;
    let lead = json!({"name": "Lea Lead", "email": "lea@example.com"});
    let leads = format!("/api/public/agents/{}/leads", agent.slug);
    test.anonymous().post(&leads, lead).await.expect(201);
    let mut visitor = test.visitor(&agent);
    let mut identity = signed(&secret, "user-42");
    identity["email"] = json!("lea@example.com");
    send(&mut visitor, "Hello", identity).await.expect(200);
    let mut identity = signed(&secret, "user-42");
    identity["name"] = json!("Ana");
    identity["phone"] = json!("525512345678");
    send(&mut visitor, "Hello again", identity).await.expect(200);

    let (table, workspace) = (&test.app.table, test.db_workspace(&owner).await.id);
    let signed = contact::of_user(table, workspace, Id::from_int(agent.id).unwrap(), "user-42").await;
    let signed = signed.unwrap().expect("a contact").body;
    let details = Details::check(None, Some("lea@example.com"), None, None).unwrap();
    let lea = contact::find(table, workspace, &details).await.unwrap().expect("a contact").body;
    assert_ne!(signed.id, lea.id);
    assert_eq!((lea.name.as_deref(), lea.user_id), (Some("Lea Lead"), None), "Lea is who she was");
    let known = (signed.name.as_deref(), signed.email.as_deref(), signed.phone.as_deref(), signed.user_id.as_deref());
    assert_eq!(known, (Some("Ana"), None, Some("525512345678"), Some("user-42")), "not Lea: an address is not signed");
}

#[tokio::test]
async fn a_user_is_one_contact_in_all_their_conversations() {
    let (test, owner, agent, secret) = set().await;
    for name in ["Ana", "Ana Pérez"] {
        let mut identity = signed(&secret, "user-42");
        identity["name"] = json!(name);
        send(&mut test.visitor(&agent), "Hello", identity).await.expect(200);
    }
    let (table, workspace) = (&test.app.table, test.db_workspace(&owner).await.id);
    let known = contact::of_user(table, workspace, Id::from_int(agent.id).unwrap(), "user-42").await.unwrap();
    assert_eq!(known.expect("a contact").body.name.as_deref(), Some("Ana Pérez"), "the name follows");
    let shown: Vec<_> = owner.conversations(&agent).await.iter().map(|head| head["identity"]["name"].clone()).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.contains(&json!("Ana")) && shown.contains(&json!("Ana Pérez")), "{shown:?}");
}

#[tokio::test]
async fn the_same_user_id_at_two_agents_is_two_people_of_whom_either_may_be_erased() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (table, workspace) = (&test.app.table, test.db_workspace(&owner).await.id);
    let mut agents = Vec::new();
    for (name, visitor) in [("Soporte", "Ana"), ("Ventas", "Berta")] {
        let agent = owner.agent(name).await;
        let mut identity = signed(&new_secret(&owner, &agent).await, "user-42");
        (identity["name"], identity["email"]) = (json!(visitor), json!("user@example.com"));
        send(&mut test.visitor(&agent), "Hello", identity).await.expect(200);
        agents.push(agent);
    }
    let contact = async |agent: &Agent| {
        let known = contact::of_user(table, workspace, Id::from_int(agent.id).unwrap(), "user-42").await.unwrap();
        known.map(|known| known.body)
    };
    let (ana, berta) = (contact(&agents[0]).await.unwrap(), contact(&agents[1]).await.unwrap());
    assert_ne!(ana.id, berta.id);
    assert_eq!((ana.name.as_deref(), ana.email.as_deref()), (Some("Ana"), Some("user@example.com")));
    assert_eq!((berta.name.as_deref(), berta.email.as_deref()), (Some("Berta"), None), "an address is one contact's");
    let whom = json!({"agent_id": agents[0].id, "user_id": "user-42"});
    assert_eq!(owner.session.post("/api/contacts/erase", whom).await.expect(200)["conversations"], 1);
    assert!(contact(&agents[0]).await.is_none() && owner.conversations(&agents[0]).await.is_empty());
    assert_eq!(contact(&agents[1]).await.map(|known| known.id), Some(berta.id));
    assert_eq!(owner.conversations(&agents[1]).await[0]["identity"]["name"], "Berta");
}

#[tokio::test]
async fn no_site_signs_anybody_as_whom_whatsapp_calls_so() {
    let (test, owner, agent, secret) = set().await;
    for door in ["", "/stream"] {
        let visitor = test.visitor(&agent);
        let body = json!({"message": "Hello", "identity": signed(&secret, "whatsapp:ES.1")});
        let refused = visitor.persona.post(&format!("{}{door}", visitor.path()), body).await.expect(422);
        assert_eq!(refused["field"], "identity.user_id", "{refused}");
    }
    assert!(owner.conversations(&agent).await.is_empty());
}

#[tokio::test]
async fn a_known_user_costs_a_turn_no_more_than_nobody() {
    let (test, owner, agent, secret) = set().await;
    test.db_set_plan(&owner, PlanKey::Agency).await;
    let mut visitor = test.visitor(&agent);
    send(&mut visitor, "Hello", signed(&secret, "user-42")).await.expect(200);
    test.app.table.meter().record();
    send(&mut visitor, "Hello again", signed(&secret, "user-42")).await.expect(200);
    let calls = test.app.table.meter().take();
    assert!(Meter::trips(&calls) <= 3, "{calls:#?}");
}
