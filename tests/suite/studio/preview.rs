//! Trying an agent out.

use serde_json::{Value, json};
use shared::domain::Role;
use tests::{Options, Owner, ScriptedModel, TestApp};

async fn set() -> (TestApp, Owner, ScriptedModel) {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    (test, owner, model)
}

#[tokio::test]
async fn a_draft_is_tried_out_and_leaves_no_trace() {
    let (test, owner, model) = set().await;
    let body = json!({"name": "Borrador", "system_prompt": "You sell shoes.", "tools": ["capture_lead"]});
    let draft = owner.agent_with(body).await;
    let before = test.db_dump().await;
    model.calls("capture_lead", json!({"email": "ana@example.com"}));
    model.calls("capture_lead", json!({"email": 7}));
    model.says("Somebody will write to you.");
    let history = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]);
    let body = json!({"message": "Write to ana@example.com", "history": history});
    let answer = owner.session.post(&format!("/api/agents/{}/preview", draft.id), body).await.expect(200);
    assert_eq!(answer["reply"], "Somebody will write to you.");
    let calls = json!([
        {"name": "capture_lead", "arguments": {"email": "ana@example.com"}, "ok": true},
        {"name": "capture_lead", "arguments": {"email": 7}, "ok": false},
    ]);
    assert_eq!(answer["tool_calls"], calls);
    assert_eq!((&answer["tokens_in"], &answer["tokens_out"]), (&json!(30), &json!(15)), "of all rounds");
    let asked = &model.heard()[0];
    assert!(asked.system.contains("You sell shoes."));
    assert_eq!(asked.messages.len(), 3);
    let changes = test.db_dump().await.changes_since(&before);
    assert!(changes.iter().all(|change| change.contains("RL#")), "only the rate is counted: {changes:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_trial_is_told() {
    let (test, owner, model) = set().await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    let path = format!("/api/agents/{}/preview", draft.id);
    for (body, field) in [
        (json!({"message": " "}), "message"),
        (json!({"message": "Hi", "history": vec![json!({"role": "user", "content": "a"}); 41]}), "history"),
    ] {
        assert_eq!(owner.session.post(&path, body).await.expect(422)["field"], field);
    }
    let other = test.owner().await;
    assert_eq!(other.session.post(&path, json!({"message": "Hi"})).await.code(404), "not_found");
    let viewer = test.db_member(&owner, Role::Viewer).await;
    assert_eq!(viewer.post(&path, json!({"message": "Hi"})).await.status, 403);
    model.fails();
    assert_eq!(owner.session.post(&path, json!({"message": "Hi"})).await.code(502), "upstream_error");
}

#[tokio::test]
async fn trials_are_few_a_minute() {
    let (_test, owner, _model) = set().await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    let path = format!("/api/agents/{}/preview", draft.id);
    let mut statuses: Vec<Value> = Vec::new();
    for _ in 0..11 {
        statuses.push(json!(owner.session.post(&path, json!({"message": "Hi"})).await.status.as_u16()));
    }
    assert_eq!(statuses[..10], vec![json!(200); 10]);
    assert_eq!(statuses[10], 429);
}

#[tokio::test]
async fn a_provider_of_the_owners_choice_without_a_key_is_theirs_to_mend_and_the_installations_own_is_not() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let draft = owner.agent_with(json!({"name": "Borrador", "provider": "openai"})).await;
    let path = format!("/api/agents/{}/preview", draft.id);
    let refused = owner.session.post(&path, json!({"message": "Hi"})).await.expect(422);
    assert_eq!(refused["field"], "config.ai.api_key", "{refused}");
    let variables = vec![("CHATIA_PROVIDER", "openai".to_owned())];
    let test = TestApp::with(Options { variables, ..Options::default() }).await;
    let owner = test.owner().await;
    for body in [json!({"name": "Borrador"}), json!({"name": "Borrador", "provider": "openai"})] {
        let draft = owner.agent_with(body).await;
        let path = format!("/api/agents/{}/preview", draft.id);
        assert_eq!(owner.session.post(&path, json!({"message": "Hi"})).await.code(503), "not_configured");
    }
}

#[tokio::test]
async fn the_offline_model_answers_a_trial_as_it_would_a_visitor() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = json!({"name": "Borrador", "system_prompt": "We ship within two days.", "tools": ["capture_lead"]});
    let path = format!("/api/agents/{}/preview", owner.agent_with(body).await.id);
    for (message, thanks) in [
        ("My email is vic@example.com, call me. How fast do you ship?", "Thank"),
        ("Mi correo es vic@example.com, ¿me llaman?", "¡Gracias!"),
    ] {
        let answer = owner.session.post(&path, json!({"message": message})).await.expect(200);
        let reply = answer["reply"].as_str().unwrap();
        assert!(reply.starts_with(thanks) && !reply.contains("preview") && !reply.contains("Nothing"), "{reply}");
        assert_eq!(answer["tool_calls"][0]["name"], "capture_lead");
    }
}
