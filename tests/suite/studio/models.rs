//! Which model answers, and what becomes of keys that do not fit.

use serde_json::{Value, json};
use shared::kernel::Id;
use shared::ports::llm::Message;
use shared::store::keys;
use shared::table::Row;
use std::sync::Arc;
use tests::{Agent, Options, Owner, PausedModel, ScriptedModel, TestApp, Visitor};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// A server that speaks Chat Completions and answers so.
async fn provider(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let asked = Mock::given(method("POST")).and(path("/v1/chat/completions"));
    asked.and(header("authorization", "Bearer sk-customer-1")).respond_with(answer).mount(&server).await;
    server
}

fn one_token() -> ResponseTemplate {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": choice})
        )
    };
    let body = [chunk(json!({"role": "assistant", "content": "H"}), Value::Null), chunk(json!({}), json!("length"))];
    ResponseTemplate::new(200).set_body_raw(format!("{}data: [DONE]\n\n", body.concat()), "text/event-stream")
}

fn refusal(status: u16, code: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"error": {"message": "no: sk-customer-1", "code": code}}))
}

fn agent(server: &MockServer) -> Value {
    let ai = json!({"api_key": "sk-customer-1", "base_url": format!("{}/v1", server.uri())});
    json!({"name": "Luna", "provider": "openai", "model": "m-1", "config": {"ai": ai}})
}

#[tokio::test]
async fn a_key_that_works_is_taken_after_one_token() {
    let (test, server) = (TestApp::new().await, provider(one_token()).await);
    let owner = test.owner().await;
    let made = owner.session.post("/api/developers/agents", agent(&server)).await.expect(201);
    assert_eq!(made["config"]["ai"]["has_api_key"], true, "{made}");
    let asked = server.received_requests().await.unwrap();
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!((asked.len(), &body["max_completion_tokens"], &body["model"]), (1, &json!(1), &json!("m-1")));
    let path = format!("/api/agents/{}", made["id"]);
    owner.session.patch(&path, json!({"description": "Of Luna Dental"})).await.expect(200);
    assert_eq!(server.received_requests().await.unwrap().len(), 1, "a key that is not sent is not tried");
}

#[tokio::test]
async fn a_key_that_the_provider_refuses_is_refused_and_nothing_is_stored() {
    let refusals = [
        (401, "invalid_api_key", "config.ai.api_key"),
        (403, "forbidden", "config.ai.api_key"),
        (402, "billing", "config.ai.api_key"),
        (429, "insufficient_quota", "config.ai.api_key"),
        (404, "model_not_found", "model"),
    ];
    for (status, code, field) in refusals {
        let (test, server) = (TestApp::new().await, provider(refusal(status, code)).await);
        let owner = test.owner().await;
        let before = test.db_dump().await;
        let answer = owner.session.post("/api/developers/agents", agent(&server)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (422, &json!(field)), "{status} {}", answer.text);
        assert!(!answer.text.contains("sk-customer"), "{}", answer.text);
        assert!(test.db_dump().await.changes_since(&before).is_empty());
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "once");
    }
}

#[tokio::test]
async fn a_provider_that_is_away_or_busy_does_not_keep_anybody_from_setting_a_key() {
    for answer in [refusal(500, "server_error"), refusal(429, "rate_limit_exceeded"), refusal(400, "unsupported")] {
        let (test, server) = (TestApp::new().await, provider(answer).await);
        let owner = test.owner().await;
        owner.session.post("/api/developers/agents", agent(&server)).await.expect(201);
    }
}

#[tokio::test]
async fn another_model_is_asked_once_when_the_installations_own_fails() {
    let model = ScriptedModel::new();
    let llm: Option<Arc<dyn shared::ports::llm::Llm>> = Some(Arc::new(model.clone()));
    let variables =
        vec![("CHATIA_FALLBACK_PROVIDER", "anthropic".to_owned()), ("CHATIA_FALLBACK_MODEL", "second-1".to_owned())];
    let test = TestApp::with(Options { llm, variables, ..Options::default() }).await;
    let owner = test.owner().await;
    let agent = owner.agent("Luna").await;
    let mut visitor = test.visitor(&agent);
    model.fails();
    model.says("From the second.");
    assert_eq!(visitor.says("Hello").await["reply"], "From the second.");
    let targets: Vec<(String, String)> =
        model.heard().into_iter().map(|request| (request.target.provider, request.target.model)).collect();
    assert_eq!(targets[1], ("anthropic".to_owned(), "second-1".to_owned()));
    assert_eq!(test.db_usage(&owner).await.len(), 1, "it is an answer");
    model.fails();
    model.fails();
    assert!(visitor.says("Hello again").await["reply"].as_str().unwrap().starts_with("Sorry"));
    assert_eq!(model.heard().len(), 4);
}

#[tokio::test]
async fn a_reply_tells_the_tokens_of_all_its_rounds_with_what_was_cached_and_what_was_reasoning() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["capture_lead"], "publish": true})).await;
    model.calls("capture_lead", json!({"email": "ana@example.com"}));
    model.says("Thank you.");
    test.visitor(&agent).says("I am ana@example.com").await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let thread = owner.conversation(&agent, id).await;
    let (visitors, meta) = (&thread["messages"][0]["meta"], &thread["messages"][1]["meta"]);
    let told = ["tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning"].map(|name| meta[name].as_u64());
    assert_eq!(told, [Some(20), Some(10), Some(8), Some(4)], "{meta}");
    assert!(visitors.get("tokens_cached").is_none(), "{visitors}");
}

/// A visitor of an agent whose model has a script, with these many tokens a turn.
async fn with_tokens(tokens: u64) -> (TestApp, ScriptedModel, tests::Owner, tests::Agent) {
    let model = ScriptedModel::new();
    let llm: Option<Arc<dyn shared::ports::llm::Llm>> = Some(Arc::new(model.clone()));
    let variables = vec![("CHATIA_TURN_TOKENS", tokens.to_string())];
    let test = TestApp::with(Options { llm, variables, ..Options::default() }).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["schedule_appointment"], "publish": true})).await;
    (test, model, owner, agent)
}

#[tokio::test]
async fn an_endless_tool_loop_ends_by_rounds_by_calls_and_by_tokens() {
    let when = |number: usize| json!({"when": format!("at {number}")});
    // Each round reads and writes 15 tokens; none is asked once so many are used up.
    for (tokens, rounds) in [(1_000, 6), (91, 6), (45, 3), (31, 3), (30, 2), (1, 1)] {
        let (test, model, owner, agent) = with_tokens(tokens).await;
        (0..20).for_each(|number| model.calls("schedule_appointment", when(number)));
        let reply = test.visitor(&agent).says("Again and again.").await["reply"].clone();
        assert!(reply.as_str().unwrap().starts_with("Sorry"), "{tokens}: {reply}");
        assert_eq!(model.heard().len(), rounds, "{tokens}");
        assert_eq!(owner_calls(&test).await, rounds, "what was called is carried out: {tokens}");
        assert!(test.db_usage(&owner).await.is_empty(), "a fallback costs nothing: {tokens}");
    }
    let (test, model, _, agent) = with_tokens(1_000).await;
    for round in 0..20 {
        let calls = (0..4).map(|number| ("schedule_appointment", when(round * 4 + number)));
        model.says_and_calls("", calls.collect());
    }
    test.visitor(&agent).says("Again and again.").await;
    assert_eq!((model.heard().len(), owner_calls(&test).await), (6, 10), "24 calls were wanted");
}

/// Tool calls that were carried out.
async fn owner_calls(test: &TestApp) -> usize {
    test.workers().events().await.iter().filter(|event| event.kind == "tool.called").count()
}

#[tokio::test]
async fn a_turn_whose_tokens_are_used_up_says_what_it_has() {
    let (test, model, owner, agent) = with_tokens(30).await;
    for text in ["One moment.", "I asked for ten o'clock."] {
        model.says_and_calls(text, vec![("schedule_appointment", json!({"when": text}))]);
    }
    let path = format!("/api/public/agents/{}/chat/stream", agent.slug);
    let told = test.anonymous().post(&path, json!({"message": "At ten, please."})).await;
    assert!(told.text.contains("I asked for ten o'clock."), "{}", told.text);
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let reply = owner.conversation(&agent, id).await["messages"][1].clone();
    assert_eq!((&reply["content"], &reply["meta"]["model"]), (&json!("I asked for ten o'clock."), &json!("test-1")));
    assert_eq!((&reply["meta"]["tokens_in"], &reply["meta"]["fallback"]), (&json!(20), &json!(false)));
    assert_eq!((model.heard().len(), test.db_usage(&owner).await.len()), (2, 1), "it is an answer");
}

#[tokio::test]
async fn a_turn_whose_tokens_are_used_up_does_not_start_over_for_a_newer_message() {
    for (tokens, first_reply) in [("1", "you said: one"), ("1000", "you said: one | two")] {
        let (model, gate) = PausedModel::new();
        let variables = vec![("CHATIA_TURN_TOKENS", tokens.to_owned())];
        let test = TestApp::with(Options { llm: Some(Arc::new(model)), variables, ..Options::default() }).await;
        let owner = test.owner().await;
        let agent = owner.agent("Soporte").await;
        let mut visitor = test.visitor(&agent);
        gate.open();
        visitor.says("hello").await;
        gate.asked().await;
        let send = |text: &'static str| {
            let visitor = visitor.clone();
            tokio::spawn(async move { visitor.send(text).await.expect(200)["reply"].clone() })
        };
        let first = send("one");
        gate.asked().await;
        let second = send("two");
        let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
        while owner.conversation(&agent, id).await["messages"].as_array().unwrap().len() < 4 {}
        gate.open();
        gate.open();
        assert_eq!(first.await.unwrap(), first_reply, "{tokens}");
        assert!(second.await.unwrap().as_str().unwrap().ends_with("two"), "{tokens}: nobody is left without an answer");
    }
}

/// A conversation in which the model is asked for the `number`th time when a second message comes in; both are let go
/// then. Gives what the first message was answered with.
async fn interrupted(owner: &Owner, agent: &Agent, mut visitor: Visitor, gate: tests::Gate) -> Value {
    visitor.says("hello").await;
    let send = |text: &'static str| {
        let visitor = visitor.clone();
        tokio::spawn(async move { visitor.send(text).await.expect(200)["reply"].clone() })
    };
    let first = send("one");
    gate.asked().await;
    let second = send("two");
    let id = owner.conversations(agent).await[0]["id"].as_u64().unwrap();
    while owner.conversation(agent, id).await["messages"].as_array().unwrap().len() < 4 {}
    gate.open();
    let reply = first.await.unwrap();
    assert_eq!(second.await.unwrap(), reply, "one reply answers both");
    reply
}

#[tokio::test]
async fn rounds_count_over_all_messages_that_a_turn_answers() {
    let (model, gate) = ScriptedModel::new().pausing_at(6);
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["schedule_appointment"], "publish": true})).await;
    model.says("Hello.");
    (0..4).for_each(|number| model.calls("schedule_appointment", json!({"when": format!("at {number}")})));
    model.says("Not told: a newer message is there.");
    model.says_and_calls("The sixth round.", vec![("schedule_appointment", json!({"when": "at 5"}))]);
    model.says("The seventh.");
    let reply = interrupted(&owner, &agent, test.visitor(&agent), gate).await;
    assert_eq!((reply, model.heard().len()), (json!("The sixth round."), 1 + 6));
}

#[tokio::test]
async fn a_call_that_could_not_be_made_leaves_no_question_without_its_answer() {
    let (model, gate) = ScriptedModel::new().pausing_at(2);
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["schedule_appointment"], "publish": true})).await;
    let tool = json!({"name": "http_request", "config": {
        "allowed_hosts": ["api.example.com"], "headers": {"authorization": "Bearer sk-12345"},
    }});
    owner.session.post(&format!("/api/agents/{}/tools", agent.id), tool).await.expect(201);
    spoil_headers(&test, &owner, &agent).await;
    model.says("Hello.");
    let request = json!({"method": "GET", "url": "http://api.example.com/"});
    model.says_and_calls("", vec![("schedule_appointment", json!({"when": "at ten"})), ("http_request", request)]);
    model.says("Here I am again.");
    let reply = interrupted(&owner, &agent, test.visitor(&agent), gate).await;
    assert_eq!(reply, "Here I am again.");
    let heard = model.heard();
    let calls = |message: &Message| matches!(message, Message::Assistant { tool_calls, .. } if !tool_calls.is_empty());
    assert!(!heard[2].messages.iter().any(calls), "{:?}", heard[2].messages);
    assert_eq!(owner_calls(&test).await, 1, "the first of the two calls was made");
}

/// What is sealed for the agent's tools does not open any more.
async fn spoil_headers(test: &TestApp, owner: &Owner, agent: &Agent) {
    let key = keys::live(test.db_workspace(owner).await.id, Id::from_int(agent.id).unwrap());
    let mut live: Value = test.app.table.get(&key).await.unwrap().unwrap();
    let tools = live["tools"].as_array_mut().unwrap();
    let sealed = tools.iter_mut().filter_map(|tool| tool.get_mut("secrets")).find(|sealed| sealed.is_string()).unwrap();
    *sealed = json!("v1.spoiled");
    test.app.table.overwrite(Row::new(key, "live", &live).unwrap()).await.unwrap();
}
