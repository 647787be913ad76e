//! Watching conversations, taking them over, leads.

use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::Role;
use shared::ports::llm;
use tests::{Agent, Options, Owner, ScriptedModel, TestApp};

async fn set() -> (TestApp, Owner, Agent) {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    (test, owner, agent)
}

fn inbox(agent: &Agent) -> String {
    format!("/api/clients/me/agents/{}", agent.id)
}

/// A conversation that a visitor began, by the visitor and its id.
async fn began(test: &TestApp, owner: &Owner, agent: &Agent, message: &str) -> (tests::Visitor, u64) {
    let mut visitor = test.visitor(agent);
    visitor.says(message).await;
    let id = owner.conversations(agent).await[0]["id"].as_u64().unwrap();
    (visitor, id)
}

#[tokio::test]
async fn a_conversation_is_listed_with_how_it_stands() {
    let (test, owner, agent) = set().await;
    assert_eq!(
        owner.session.get(&format!("{}/conversations", inbox(&agent))).await.expect(200),
        json!({"items": [], "next_cursor": null})
    );
    let mut visitor = test.visitor(&agent);
    let body = json!({"message": "When do you open?", "visitor_id": "browser-1"});
    let first = visitor.persona.post(&visitor.path(), body).await.expect(200);
    visitor.handle = first["conversation_id"].as_str().map(str::to_owned);
    test.clock.advance(Duration::from_secs(90));
    let second = visitor.says("And on Sundays? ".repeat(20).trim()).await;
    let [head] = &owner.conversations(&agent).await[..] else { panic!("one conversation") };
    assert_eq!((head["agent_id"].as_u64(), head["owner_id"].as_u64()), (Some(agent.id), Some(owner.user_id)));
    assert_eq!(
        (&head["agent_name"], &head["visitor_id"], &head["channel"]),
        (&json!("Soporte"), &json!("browser-1"), &json!("webchat"))
    );
    assert_eq!(
        (&head["status"], &head["ai_paused"], &head["message_count"]),
        (&json!("open"), &json!(false), &json!(4))
    );
    assert_eq!(
        (&head["created_at"], &head["last_message_at"]),
        (&json!("2040-03-05T09:00:00.000Z"), &json!("2040-03-05T09:01:30.000Z"))
    );
    let preview = head["last_preview"].as_str().unwrap();
    assert!(
        second["reply"].as_str().unwrap().starts_with(preview.trim_end_matches('…')) && preview.chars().count() <= 141,
        "{preview}"
    );
}

#[tokio::test]
async fn a_conversation_is_read_in_order_with_who_wrote_what() {
    let (test, owner, agent) = set().await;
    let (mut visitor, id) = began(&test, &owner, &agent, "When do you open?").await;
    visitor.says("Thanks!").await;
    let conversation = owner.conversation(&agent, id).await;
    let messages = conversation["messages"].as_array().unwrap();
    let seen: Vec<_> = messages
        .iter()
        .map(|message| (message["role"].as_str().unwrap(), message["meta"]["author"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("user", "visitor"), ("assistant", "agent"), ("user", "visitor"), ("assistant", "agent")]);
    assert_eq!((&messages[0]["content"], &messages[2]["content"]), (&json!("When do you open?"), &json!("Thanks!")));
    assert!(messages.iter().all(|message| message["conversation_id"].as_u64() == Some(id)));
    let ids: Vec<_> = messages.iter().map(|message| message["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(messages[1]["meta"]["key_source"], "managed");
    assert_eq!(messages[1]["meta"]["answers"], json!([ids[0]]));
}

#[tokio::test]
async fn the_most_recently_active_conversation_comes_first() {
    let (test, owner, agent) = set().await;
    let (mut first, one) = began(&test, &owner, &agent, "one").await;
    test.clock.advance(Duration::from_secs(120));
    let (_, two) = began(&test, &owner, &agent, "two").await;
    let order =
        async || owner.conversations(&agent).await.iter().map(|head| head["id"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(order().await, [two, one]);
    test.clock.advance(Duration::from_secs(120));
    first.says("one again").await;
    assert_eq!(order().await, [one, two]);
}

#[tokio::test]
async fn a_list_of_conversations_is_paged() {
    let (test, owner, agent) = set().await;
    for number in 0..5 {
        test.visitor(&agent).says(&format!("message {number}")).await;
        test.clock.advance(Duration::from_secs(61));
    }
    let all: Vec<_> = owner.conversations(&agent).await.iter().map(|head| head["id"].clone()).collect();
    assert_eq!(all.len(), 5);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = owner.session.get(&format!("{}/conversations?limit=2{cursor}", inbox(&agent))).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|head| head["id"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, all);
    let leads = format!("{}/leads?limit=2{cursor}", inbox(&agent));
    assert_eq!(owner.session.get(&leads).await.expect(422)["field"], "cursor", "a cursor works in its own list only");
}

#[tokio::test]
async fn a_conversation_is_found_under_its_own_agent_only() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (agent, other) = (owner.agent("Soporte").await, owner.agent("Ventas").await);
    let (_, id) = began(&test, &owner, &agent, "Hello").await;
    let wrong = format!("{}/conversations/{id}", inbox(&other));
    for (method, path, body) in [
        ("GET", wrong.clone(), None),
        ("POST", format!("{wrong}/takeover"), Some(json!({"paused": true}))),
        ("POST", format!("{wrong}/messages"), Some(json!({"content": "Hi"}))),
    ] {
        assert_eq!(owner.session.call(method, &path, &[], body).await.code(404), "not_found", "{method} {path}");
    }
    assert!(owner.conversations(&other).await.is_empty());
}

#[tokio::test]
async fn a_person_takes_over_and_hands_back() {
    let (test, owner, agent) = set().await;
    let (mut visitor, id) = began(&test, &owner, &agent, "Hello").await;
    assert_eq!(owner.takeover(&agent, id, true).await["ai_paused"], true);
    assert_eq!(owner.takeover(&agent, id, true).await["ai_paused"], true, "twice is as good as once");
    let during = visitor.says("Is anybody there?").await;
    assert_eq!(
        (&during["reply"], &during["human_takeover"], &during["message_id"]),
        (&json!(""), &json!(true), &Value::Null)
    );
    assert_eq!(during["free_messages_remaining"], 49, "as many as after the first reply");
    let messages = owner.conversation(&agent, id).await["messages"].as_array().unwrap().len();
    assert_eq!(messages, 3, "the message was kept and nobody answered for the person");
    assert_eq!(owner.takeover(&agent, id, false).await["ai_paused"], false);
    let after = visitor.says("And now?").await;
    assert!(!after["reply"].as_str().unwrap().is_empty() && after["human_takeover"].is_null(), "{after}");
    let account = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!(account["messages_used_current_period"], 2, "the person's turn cost nothing");
}

#[tokio::test]
async fn a_persons_answer_takes_over_and_reaches_the_visitor() {
    let (test, owner, agent) = set().await;
    let (mut visitor, id) = began(&test, &owner, &agent, "Hello").await;
    let operator = test.db_member(&owner, Role::Operator).await;
    let path = format!("{}/conversations/{id}/messages", inbox(&agent));
    let sent = operator.post(&path, json!({"content": "  Olivia here.  "})).await.expect(201);
    assert_eq!(
        (&sent["role"], &sent["content"], &sent["meta"]["author"]),
        (&json!("assistant"), &json!("Olivia here."), &json!("operator"))
    );
    assert!(sent["meta"]["user_id"].is_u64(), "{sent}");
    let head = &owner.conversations(&agent).await[0];
    assert_eq!(
        (&head["ai_paused"], &head["last_preview"], &head["message_count"]),
        (&json!(true), &json!("Olivia here."), &json!(3))
    );
    let handle = visitor.handle.clone().unwrap();
    let public = format!("/api/public/agents/{}/conversations/{handle}/messages", agent.slug);
    let seen = visitor.persona.get(&public).await.expect(200);
    let last = seen["items"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["author"], &last["content"], &seen["human_takeover"]),
        (&json!("operator"), &json!("Olivia here."), &json!(true))
    );
    assert!(last.get("user_id").is_none() && !last.to_string().contains("@"), "a visitor does not learn who: {last}");
    assert_eq!(visitor.says("Thanks").await["human_takeover"], true);
}

#[tokio::test]
async fn a_visitor_waits_for_what_a_person_writes_and_gets_it_at_once() {
    let variables = vec![("CHATIA_WATCH_SECONDS", "0.01".to_owned())];
    let test = TestApp::with(Options { variables, ..Options::default() }).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let (visitor, id) = began(&test, &owner, &agent, "Hello").await;
    let handle = visitor.handle.clone().unwrap();
    let public = format!("/api/public/agents/{}/conversations/{handle}/messages", agent.slug);
    let seen = visitor.persona.get(&public).await.expect(200);
    let last = seen["items"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let waiting = format!("{public}?after={last}&wait=20");
    let at_once = visitor.persona.get(&waiting).await.expect(200);
    assert_eq!((&at_once["items"], &at_once["human_takeover"]), (&json!([]), &json!(false)), "nobody is waited for");
    owner.takeover(&agent, id, true).await;
    let (answer, _) = tokio::join!(visitor.persona.get(&waiting), async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let path = format!("{}/conversations/{id}/messages", inbox(&agent));
        owner.session.post(&path, json!({"content": "Olivia here."})).await.expect(201)
    });
    assert_eq!(answer.expect(200)["items"][0]["content"], "Olivia here.");
    assert_eq!(visitor.persona.get(&format!("{public}?wait=21")).await.expect(422)["field"], "wait");
}

#[tokio::test]
async fn an_answer_says_something_and_not_too_much() {
    let (test, owner, agent) = set().await;
    let (_, id) = began(&test, &owner, &agent, "Hello").await;
    let path = format!("{}/conversations/{id}/messages", inbox(&agent));
    let before = test.db_dump().await;
    for content in ["", "   \n", &"x".repeat(4_097), "a\u{0}b"] {
        assert_eq!(owner.session.post(&path, json!({"content": content})).await.expect(422)["field"], "content");
    }
    assert_eq!(
        owner.session.post(&format!("{}/conversations/{id}/takeover", inbox(&agent)), json!({})).await.expect(422)["field"],
        "paused"
    );
    assert!(test.db_dump().await.changes_since(&before).is_empty(), "a refused answer does not take over");
    owner.session.post(&path, json!({"content": "ñ".repeat(4_096)})).await.expect(201);
}

#[tokio::test]
async fn many_answers_at_once_are_all_kept() {
    let (test, owner, agent) = set().await;
    let (_, id) = began(&test, &owner, &agent, "Hello").await;
    let path = format!("{}/conversations/{id}/messages", inbox(&agent));
    let sends = (0..8).map(|number| owner.session.post(&path, json!({"content": format!("answer {number}")})));
    for answer in futures_util::future::join_all(sends).await {
        let _ = answer.expect(201);
    }
    let conversation = owner.conversation(&agent, id).await;
    assert_eq!(conversation["messages"].as_array().unwrap().len(), 10);
    assert_eq!(conversation["message_count"], 10);
}

#[tokio::test]
async fn a_long_conversation_shows_its_last_two_hundred_messages() {
    let (test, owner, agent) = set().await;
    let (_, id) = began(&test, &owner, &agent, "Hello").await;
    test.db_messages(&owner, id, 205).await;
    let conversation = owner.conversation(&agent, id).await;
    let messages = conversation["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 200);
    assert_eq!((&messages[0]["content"], &messages[199]["content"]), (&json!("5"), &json!("204")));
}

#[tokio::test]
async fn leads_are_listed_newest_first_with_where_they_came_from() {
    let (test, owner, agent) = set().await;
    let (visitor, id) = began(&test, &owner, &agent, "Hello").await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    let first = json!({"name": "Ana", "email": " Ana@Example.com ", "phone": "+54 (11) 5555-1234", "interest": "Prices", "conversation_id": visitor.handle});
    let made = visitor.persona.post(&form, first).await.expect(201);
    test.clock.advance(Duration::from_secs(1));
    test.anonymous().post(&form, json!({"name": "Luis"})).await.expect(201);
    let list = owner.session.get(&format!("{}/leads", inbox(&agent))).await.expect(200);
    let [luis, ana] = &list["items"].as_array().unwrap()[..] else { panic!("two leads: {list}") };
    assert_eq!((&luis["name"], &luis["conversation_id"], &luis["email"]), (&json!("Luis"), &Value::Null, &Value::Null));
    assert_eq!((&ana["id"], ana["conversation_id"].as_u64()), (&made["id"], Some(id)));
    assert_eq!((&ana["email"], &ana["phone"]), (&json!("ana@example.com"), &json!("541155551234")));
    assert_eq!((&ana["interest"], &ana["source"], &ana["status"]), (&json!("Prices"), &json!("form"), &json!("new")));
    assert_eq!((ana["agent_id"].as_u64(), ana["owner_id"].as_u64()), (Some(agent.id), Some(owner.user_id)));
    let page = owner.session.get(&format!("{}/leads?limit=1", inbox(&agent))).await.expect(200);
    let next = format!("{}/leads?limit=1&cursor={}", inbox(&agent), page["next_cursor"].as_str().unwrap());
    assert_eq!(owner.session.get(&next).await.expect(200)["items"][0]["id"], ana["id"]);
}

#[tokio::test]
async fn the_same_contact_makes_one_lead_in_a_conversation() {
    let (test, owner, agent) = set().await;
    let (visitor, _) = began(&test, &owner, &agent, "Hello").await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    for body in [
        json!({"email": "ana@example.com", "conversation_id": visitor.handle}),
        json!({"email": "ANA@example.com", "name": "Ana", "conversation_id": visitor.handle}),
    ] {
        visitor.persona.post(&form, body).await.expect(201);
    }
    let list = owner.session.get(&format!("{}/leads", inbox(&agent))).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["items"][0]["name"], "Ana", "the second capture completes the first");
}

#[tokio::test]
async fn after_it_is_handed_back_the_model_sees_what_the_person_wrote() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    model.says("We open at nine.");
    let (mut visitor, id) = began(&test, &owner, &agent, "When do you open?").await;
    owner.takeover(&agent, id, true).await;
    visitor.says("Is anybody there?").await;
    let path = format!("{}/conversations/{id}/messages", inbox(&agent));
    owner.session.post(&path, json!({"content": "Olivia here: on Sundays at ten."})).await.expect(201);
    visitor.says("Thanks, Olivia.").await;
    assert_eq!(model.heard().len(), 1, "nobody asked it while a person answered");
    owner.takeover(&agent, id, false).await;
    visitor.says("And on Mondays?").await;
    let heard = model.heard();
    let [_, asked] = &heard[..] else { panic!("asked twice, not {} times", heard.len()) };
    let seen: Vec<_> = asked
        .messages
        .iter()
        .map(|message| match message {
            llm::Message::User { content, .. } => ("visitor", content.as_str()),
            llm::Message::Assistant { content, .. } => ("us", content.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [
        ("visitor", "When do you open?"),
        ("us", "We open at nine."),
        ("visitor", "Is anybody there?"),
        ("us", "Olivia here: on Sundays at ten."),
        ("visitor", "Thanks, Olivia."),
        ("visitor", "And on Mondays?"),
    ];
    assert_eq!(seen, want);
}

#[tokio::test]
async fn a_conversation_is_named_by_its_id_or_by_the_handle_that_its_visitor_holds() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (agent, other) = (owner.agent("Soporte").await, owner.agent("Ventas").await);
    let (visitor, id) = began(&test, &owner, &agent, "Hello").await;
    let handle = visitor.handle.clone().unwrap();
    let at = |agent: &Agent, name: &str, tail: &str| format!("{}/conversations/{name}{tail}", inbox(agent));
    let rows = |agent: &Agent, name: &str| {
        [
            ("GET", at(agent, name, ""), None, 200),
            ("GET", at(agent, name, "/export"), None, 200),
            ("POST", at(agent, name, "/takeover"), Some(json!({"paused": true})), 200),
            ("POST", at(agent, name, "/messages"), Some(json!({"content": "Olivia here."})), 201),
            ("POST", at(agent, name, "/close"), None, 200),
        ]
    };
    let (_, client) = owner.client_with(&test, &[&agent], &["messages"]).await;
    for who in [&owner.session, &client] {
        for (method, path, body, status) in rows(&agent, &handle) {
            let answer = who.call(method, &path, &[], body).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text);
            assert!(answer.text.contains(&id.to_string()), "{}", answer.text);
        }
    }
    let log = owner.session.get("/api/audit-log").await.expect(200).to_string();
    assert!(log.contains(&at(&agent, &id.to_string(), "/takeover")) && !log.contains("conv_"), "{log}");
    let (stranger, elsewhere) = (test.owner().await, test.paying_owner().await);
    let theirs = elsewhere.agent("Theirs").await;
    let (foreign, _) = began(&test, &elsewhere, &theirs, "Hello").await;
    let foreign = foreign.handle.unwrap();
    let mut forged = handle.clone();
    forged.pop();
    let (_, no_client) = owner.client_with(&test, &[&other], &["messages"]).await;
    let before = test.db_dump().await;
    for (who, agent, name) in [
        (&stranger.session, &agent, handle.as_str()),
        (&no_client, &agent, &handle),
        (&no_client, &other, &handle),
        (&owner.session, &other, &handle),
        (&owner.session, &agent, &foreign),
        (&owner.session, &theirs, &foreign),
        (&owner.session, &agent, &forged),
        (&owner.session, &agent, "conv_"),
        (&owner.session, &agent, "12e"),
    ] {
        for (method, path, body, _) in rows(agent, name) {
            assert_eq!(who.call(method, &path, &[], body).await.code(404), "not_found", "{method} {path}");
        }
    }
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
    let path = format!("{}?confirmation={id}", at(&agent, &handle, ""));
    owner.session.delete(&path).await.expect(204);
    assert_eq!(owner.session.get(&at(&agent, &handle, "")).await.code(404), "not_found", "it is erased");
}
