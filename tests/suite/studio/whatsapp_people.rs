//! `WhatsApp`: as whom somebody who writes is known, and what finds them.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::domain::{Agent as AgentHead, Contact};
use shared::kernel::Id;
use shared::store::keys;
use shared::table::Row;
use tests::phones::{SIGNING_SECRET, of_meta, text};
use tests::{Agent, Owner, Phones, ScriptedModel, TestApp};

const NUMBER: &str = "106540352242922";
const ANA: &str = "34600111222";

/// An agent on a number at Meta.
async fn set() -> (TestApp, Owner, Agent) {
    let (test, _phones) = Phones::with_app(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, NUMBER).await;
    (test, owner, agent)
}

/// Somebody writes to a number from Ana's phone.
async fn writes(test: &TestApp, number: &str, id: &str, user: Option<&str>) {
    let mut message = text(id, ANA, test.app.now(), "Hi");
    message["from_user_id"] = json!(user);
    let body = of_meta(number, &[message], &[]);
    assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 1);
    test.workers().run_queues().await;
}

/// The contacts, by when they were made.
async fn contacts(test: &TestApp) -> Vec<Value> {
    let dump = test.db_dump().await;
    let mut all: Vec<Value> = dump.of("contact").cloned().collect();
    all.sort_by_key(|contact| contact["id"].to_string());
    all
}

#[tokio::test]
async fn who_writes_to_two_agents_of_two_portfolios_is_one_person_and_is_erased_as_one() {
    let (test, owner, first) = set().await;
    let second = owner.agent_with(json!({"name": "Ventas"})).await;
    test.connects_meta(&owner, &second, "888").await;
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    writes(&test, "888", "wamid.2", Some("ES.99")).await;
    writes(&test, NUMBER, "wamid.3", Some("ES.1")).await;
    let known = contacts(&test).await;
    assert_eq!((known.len(), &known[0]["phone"]), (1, &json!(ANA)), "{known:?}");
    assert_eq!(test.db_dump().await.of("contact_guard").count(), 3, "a phone, and a user id at each of both");
    for agent in [&first, &second] {
        assert_eq!(owner.conversations(agent).await.len(), 1);
    }
    let erased = owner.session.post("/api/contacts/erase", json!({"phone": ANA})).await.expect(200);
    assert_eq!(erased["conversations"], 2);
    let dump = test.db_dump().await;
    assert_eq!((dump.of("contact").count(), dump.of("contact_guard").count()), (0, 0));
}

#[tokio::test]
async fn whom_a_site_has_signed_is_known_by_their_user_id_too_so_that_nobody_else_becomes_them() {
    let (test, owner, agent) = set().await;
    let made = owner.session.post(&format!("/api/agents/{}/identity-secret", agent.id), json!({})).await.expect(200);
    let mut mac = Hmac::<Sha256>::new_from_slice(made["secret"].as_str().unwrap().as_bytes()).unwrap();
    mac.update(b"u1");
    let identity = json!({"user_id": "u1", "signature": hex::encode(mac.finalize().into_bytes()), "phone": ANA});
    let visitor = test.visitor(&agent);
    let body = json!({"message": "Hello", "identity": identity});
    visitor.persona.post(&visitor.path(), body).await.expect(200);
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    assert_eq!(contacts(&test).await.len(), 1, "they have that number");
    writes(&test, NUMBER, "wamid.2", Some("ES.2")).await;
    let known = contacts(&test).await;
    assert_eq!(known.len(), 2, "another person has it now: {known:?}");
    let of = |user: Value| known.iter().find(|contact| contact["user_id"] == user).unwrap();
    assert_eq!((&of(json!("u1"))["phone"], &of(json!("whatsapp:ES.2"))["phone"]), (&Value::Null, &json!(ANA)));
}

#[tokio::test]
async fn a_visitor_who_named_somebodys_number_has_no_say_once_its_owner_writes() {
    let (test, _owner, agent) = set().await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    let lead = json!({"name": "Somebody", "phone": ANA, "conversation_id": visitor.handle});
    visitor.persona.post(&form, lead).await.expect(201);
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    let lead = json!({"phone": ANA, "email": "visitor@example.com", "conversation_id": visitor.handle});
    visitor.persona.post(&form, lead).await.expect(201);
    let known = contacts(&test).await;
    assert_eq!((known.len(), &known[0]["email"]), (1, &Value::Null), "{known:?}");
}

#[tokio::test]
async fn what_finds_nobody_any_more_keeps_nobody_from_being_heard() {
    let (test, owner, agent) = set().await;
    let (workspace, gone) = (test.db_workspace(&owner).await.id, Id::<Contact>::from_int(77).unwrap());
    let key = keys::contact_user(workspace, Id::<AgentHead>::from_int(agent.id).unwrap(), "whatsapp:ES.1");
    let guard = Row::new(key, "contact_guard", &json!({"contact_id": gone})).unwrap();
    test.app.table.overwrite(guard).await.unwrap();
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    assert_eq!(owner.conversations(&agent).await.len(), 1);
    owner.session.post("/api/contacts/erase", json!({"phone": ANA})).await.expect(200);
    assert_eq!(test.db_dump().await.of("contact_guard").count(), 0, "and they are erased wholly");
}
