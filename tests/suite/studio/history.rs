//! Searching conversations, handing them out, erasing them and people.

use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::Role;
use tests::{Agent, Owner, ScriptedModel, TestApp, Visitor};

async fn set() -> (TestApp, Owner, Agent) {
    let test = TestApp::with_model(ScriptedModel::new()).await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    (test, owner, agent)
}

async fn says(test: &TestApp, agent: &Agent, messages: &[&str]) -> Visitor {
    let mut visitor = test.visitor(agent);
    for message in messages {
        visitor.says(message).await;
        test.clock.advance(Duration::from_secs(61));
    }
    visitor
}

async fn search(owner: &Owner, agent: &Agent, query: &str) -> Value {
    owner.session.get(&format!("/api/clients/me/agents/{}/search?q={query}", agent.id)).await.expect(200)
}

fn ids(found: &Value) -> Vec<u64> {
    found["items"].as_array().unwrap().iter().map(|item| item["conversation"]["id"].as_u64().unwrap()).collect()
}

async fn newest(owner: &Owner, agent: &Agent) -> u64 {
    owner.conversations(agent).await[0]["id"].as_u64().unwrap()
}

#[tokio::test]
async fn conversations_are_found_by_what_was_said_however_it_is_written() {
    let (test, owner, agent) = set().await;
    says(&test, &agent, &["¿Hacen envíos a MÉXICO?", "Gracias"]).await;
    let first = newest(&owner, &agent).await;
    says(&test, &agent, &["When do you open?"]).await;
    says(&test, &agent, &["Is Mexico far?"]).await;
    let third = newest(&owner, &agent).await;
    let found = search(&owner, &agent, "mexico").await;
    assert_eq!(ids(&found), [third, first], "the most recently active first");
    let places = found["items"][1]["matches"].as_array().unwrap();
    assert_eq!((&places[0]["role"], &places[0]["excerpt"]), (&json!("user"), &json!("¿Hacen envíos a MÉXICO?")));
    assert_eq!(places[1]["role"], "assistant", "the reply repeats it");
    assert_eq!(ids(&search(&owner, &agent, "env%C3%8Dos").await), [first]);
    assert_eq!(search(&owner, &agent, "shoes").await, json!({"items": [], "next_cursor": null}));
    let other = owner.agent("Ventas").await;
    assert!(ids(&search(&owner, &other, "mexico").await).is_empty(), "another agent's are not searched");
    let (path, stranger) = (format!("/api/clients/me/agents/{}/search?q=mexico", agent.id), test.owner().await);
    assert_eq!(stranger.session.get(&path).await.code(404), "not_found");
    for q in ["", "q=%20", "q=a", "q=%CC%81%CC%81", &format!("q={}", "a".repeat(101))] {
        let path = format!("/api/clients/me/agents/{}/search?{q}", agent.id);
        assert_eq!(owner.session.get(&path).await.expect(422)["field"], "q", "{q}");
    }
}

#[tokio::test]
async fn a_search_is_read_page_by_page_and_misses_nothing() {
    let (test, owner, agent) = set().await;
    for number in 0..60 {
        let word = if number % 3 == 0 { "needle" } else { "straw" };
        says(&test, &agent, &[&format!("{word} {number}")]).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/api/clients/me/agents/{}/search?q=needle&limit=7{cursor}", agent.id);
        let page = owner.session.get(&path).await.expect(200);
        seen.extend(ids(&page));
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((seen.len(), pages), (20, 3));
    seen.dedup();
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn a_client_searches_and_downloads_what_is_granted_to_them() {
    let (test, owner, agent) = set().await;
    says(&test, &agent, &["Hello"]).await;
    let id = newest(&owner, &agent).await;
    let (_, reads) = owner.client_with(&test, &[&agent], &["messages:read"]).await;
    let (_, leads) = owner.client_with(&test, &[&agent], &["leads"]).await;
    let paths = [
        format!("/api/clients/me/agents/{}/search?q=hello", agent.id),
        format!("/api/clients/me/agents/{}/conversations/{id}/export", agent.id),
    ];
    for path in &paths {
        reads.get(path).await.expect(200);
        assert_eq!(leads.get(path).await.code(403), "scope_missing", "{path}");
    }
    let erase = format!("/api/clients/me/agents/{}/conversations/{id}?confirmation={id}", agent.id);
    assert_eq!(reads.delete(&erase).await.status, 403);
    let editor = test.db_member(&owner, Role::Editor).await;
    assert_eq!(editor.delete(&erase).await.status, 403);
}

#[tokio::test]
async fn a_conversation_is_downloaded_whole() {
    let (test, owner, agent) = set().await;
    let visitor = says(&test, &agent, &["Hello", "=1+1", "Bye"]).await;
    let id = newest(&owner, &agent).await;
    let path = format!("/api/clients/me/agents/{}/conversations/{id}/export", agent.id);
    let whole = owner.session.get(&path).await.expect(200);
    assert_eq!((&whole["conversation"]["id"], &whole["next_cursor"]), (&json!(id), &Value::Null));
    assert_eq!(whole["messages"], owner.conversation(&agent, id).await["messages"]);
    let file = owner.session.get(&format!("{path}?format=csv")).await;
    let lines: Vec<&str> = file.text.split("\r\n").collect();
    assert_eq!((lines[0], lines.len()), ("id,created_at,role,author,content,model", 8));
    assert!(lines[3].ends_with(",user,visitor,'=1+1,"), "{}", lines[3]);
    drop(visitor);
    let other = owner.agent("Ventas").await;
    let wrong = format!("/api/clients/me/agents/{}/conversations/{id}/export", other.id);
    assert_eq!(owner.session.get(&wrong).await.code(404), "not_found");
}

#[tokio::test]
async fn a_long_conversation_is_downloaded_in_parts() {
    let (test, owner, agent) = set().await;
    let mut visitor = test.visitor(&agent);
    // What costs the most in an answer that is a text within JSON: four bytes for each.
    let long = "\"".repeat(8_000);
    for _ in 0..80 {
        visitor.says(&long).await;
        test.clock.advance(Duration::from_secs(1));
    }
    let id = newest(&owner, &agent).await;
    let path = format!("/api/clients/me/agents/{}/conversations/{id}/export", agent.id);
    let (mut seen, mut query, mut parts) = (Vec::new(), String::new(), 0);
    loop {
        let answer = owner.session.get(&format!("{path}{query}")).await;
        // As a function gives it.
        assert!(serde_json::to_string(&answer.text).unwrap().len() < 6_000_000);
        let part = answer.expect(200);
        seen.extend(part["messages"].as_array().unwrap().iter().map(|message| message["id"].as_u64().unwrap()));
        parts += 1;
        let Some(next) = part["next_cursor"].as_str() else { break };
        query = format!("?cursor={next}");
    }
    assert_eq!((seen.len(), parts), (160, 2));
    assert!(seen.is_sorted());
    assert_eq!(owner.session.get(&format!("{path}?format=csv")).await.expect(422)["field"], "format");
    assert_eq!(owner.session.get(&format!("{path}?cursor=x")).await.expect(422)["field"], "cursor");
}

#[tokio::test]
async fn an_erased_conversation_is_gone_and_its_lead_and_its_bill_stay() {
    let (test, owner, agent) = set().await;
    let visitor = says(&test, &agent, &["Hello", "Bye"]).await;
    let handle = visitor.handle.clone().unwrap();
    let lead = json!({"name": "Ana", "email": "ana@example.com", "conversation_id": handle});
    visitor.persona.post(&format!("/api/public/agents/{}/leads", agent.slug), lead).await.expect(201);
    let id = newest(&owner, &agent).await;
    let path = format!("/api/clients/me/agents/{}/conversations/{id}", agent.id);
    let session = &owner.session;
    for wrong in ["", "?confirmation=Soporte"] {
        assert_eq!(session.delete(&format!("{path}{wrong}")).await.code(400), "confirmation_mismatch");
    }
    let body = json!({"confirmation": id.to_string()});
    assert_eq!(session.call("DELETE", &path, &[], Some(body)).await.status, 204);
    assert_eq!(session.get(&path).await.code(404), "not_found");
    assert!(owner.conversations(&agent).await.is_empty());
    let dump = test.db_dump().await;
    assert_eq!((dump.of("message").count(), dump.of("conversation").count(), dump.of("lead_guard").count()), (0, 0, 0));
    let leads = session.get(&format!("/api/clients/me/agents/{}/leads", agent.id)).await.expect(200);
    assert_eq!((&leads["items"][0]["name"], &leads["items"][0]["conversation_id"]), (&json!("Ana"), &Value::Null));
    assert_eq!(test.db_usage(&owner).await.len(), 2);
    assert_eq!(visitor.send("Are you there?").await.code(404), "not_found");
    // The timer that would have closed it finds nothing.
    test.clock.advance(Duration::from_secs(7_200));
    shared::app::clock::tick(&test.app).await.unwrap();
    let log = session.get("/api/audit-log").await.expect(200);
    assert_eq!(log["items"][0]["action"], "erase_conversation");
}

#[tokio::test]
async fn an_erased_person_is_gone_with_everything_that_they_said_and_nobody_else_is() {
    let (test, owner, agent) = set().await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    for (name, email) in [("Ana", "ana@example.com"), ("Berta", "berta@example.com"), ("Ana", "ana@example.com")] {
        let visitor = says(&test, &agent, &[&format!("I am {name}")]).await;
        let lead = json!({"name": name, "email": email, "conversation_id": visitor.handle});
        visitor.persona.post(&form, lead).await.expect(201);
    }
    test.anonymous().post(&form, json!({"name": "Ana", "email": "ana@example.com"})).await.expect(201);
    let stranger = test.owner().await;
    let erase = json!({"email": " Ana@Example.com"});
    assert_eq!(stranger.session.post("/api/contacts/erase", erase.clone()).await.code(404), "not_found");
    let erased = owner.session.post("/api/contacts/erase", erase.clone()).await.expect(200);
    assert_eq!(erased, json!({"conversations": 2, "leads": 3, "next_cursor": null}));
    let left = test.db_dump().await;
    for item in left.0.values() {
        let text = format!("{item:?}").to_lowercase();
        // What the gate remembers of the calls is sealed.
        assert!(!text.contains("ana@") && !text.contains("i am ana"), "{text}");
    }
    assert_eq!((left.of("conversation").count(), left.of("lead").count(), left.of("contact").count()), (1, 1, 1));
    assert_eq!(owner.session.post("/api/contacts/erase", erase).await.code(404), "not_found");
    for (body, field) in [
        (json!({}), "email"),
        (json!({"user_id": "7"}), "user_id"),
        (json!({"phone": "12"}), "phone"),
        (json!({"email": "berta@example.com", "cursor": "x"}), "cursor"),
        (json!({"email": "berta@example.com", "user_id": "7", "agent_id": agent.id}), "user_id"),
    ] {
        assert_eq!(owner.session.post("/api/contacts/erase", body).await.expect(422)["field"], field);
    }
    let nobody = owner.session.post("/api/contacts/erase", json!({"email": " "})).await.expect(422);
    assert_eq!(nobody["detail"], "give email or phone or both, or agent_id and user_id together");
}

#[tokio::test]
async fn a_lead_with_the_address_of_somebody_else_is_erased_with_that_address() {
    let (test, owner, agent) = set().await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    let anybody = test.anonymous();
    for lead in [
        json!({"name": "Ana", "email": "ana@example.com"}),
        json!({"name": "Berta", "phone": "5215512345678"}),
        // Berta's contact, but Ana's address.
        json!({"name": "Berta", "phone": "5215512345678", "email": "ana@example.com"}),
    ] {
        anybody.post(&form, lead).await.expect(201);
    }
    let erased = owner.session.post("/api/contacts/erase", json!({"email": "ana@example.com"})).await.expect(200);
    assert_eq!((&erased["leads"], &erased["next_cursor"]), (&json!(2), &Value::Null));
    let dump = test.db_dump().await;
    assert!(!dump.0.values().any(|item| format!("{item:?}").contains("ana@")));
    assert_eq!((dump.of("lead").count(), dump.of("contact").count()), (1, 1), "Berta stays");
}

#[tokio::test]
async fn an_erasure_ends_a_turn_and_nothing_comes_of_its_tools() {
    let (model, gate) = ScriptedModel::new().pausing_at(1);
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Ventas", "tools": ["capture_lead"], "publish": true})).await;
    model.calls("capture_lead", json!({"email": "ana@example.com"}));
    model.says("Somebody will write to you.");
    let visitor = test.visitor(&agent);
    let sending = tokio::spawn({
        let visitor = visitor.clone();
        async move { visitor.send("I am Ana, ana@example.com").await }
    });
    gate.asked().await;
    let id = newest(&owner, &agent).await;
    let path = format!("/api/clients/me/agents/{}/conversations/{id}?confirmation={id}", agent.id);
    assert_eq!(owner.session.delete(&path).await.status, 204);
    gate.open();
    assert_eq!(sending.await.unwrap().code(404), "not_found");
    let dump = test.db_dump().await;
    assert!(
        !dump.0.values().any(|item| format!("{item:?}").contains("ana@")),
        "no lead, no contact, no result of a tool"
    );
    assert!(test.db_usage(&owner).await.is_empty());
}
