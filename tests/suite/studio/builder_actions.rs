//! Several actions of the builder that wait about one agent: what a decision about one means for the others.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::domain::Role;
use tests::{Agent, Frame, Options, Owner, ScriptedModel, TestApp};

async fn planned() -> (TestApp, Owner, ScriptedModel) {
    let model = ScriptedModel::new();
    model.calls("make_plan", json!({"steps": ["Change the agents"]}));
    let options = Options { llm: Some(Arc::new(model.clone())), ..Options::default() };
    let test = TestApp::with(options).await;
    let owner = test.paying_owner().await;
    (test, owner, model)
}

/// A run that asks for all of these, about this agent.
async fn asked(test: &TestApp, owner: &Owner, model: &ScriptedModel, agent: &Agent, calls: &[(&str, Value)]) -> String {
    let of_agent = |arguments: &Value| {
        let mut arguments = arguments.clone();
        arguments["agent_id"] = json!(agent.id);
        arguments
    };
    model.says_and_calls("", calls.iter().map(|(tool, arguments)| (*tool, of_agent(arguments))).collect());
    model.says("They wait.");
    let frames = test.builds(&owner.session, json!({"message": "Go on."})).await;
    path(&frames)
}

fn path(frames: &[Frame]) -> String {
    format!("/api/builder/threads/{}", frames[0].data["thread_id"].as_str().unwrap())
}

async fn actions(owner: &Owner, thread: &str) -> Vec<Value> {
    owner.session.get(thread).await.expect(200)["actions"].as_array().unwrap().clone()
}

/// How the actions of a thread stand, and why.
async fn standings(owner: &Owner, thread: &str) -> Vec<(String, Value)> {
    let actions = actions(owner, thread).await;
    actions.iter().map(|one| (one["status"].as_str().unwrap().to_owned(), one["reason"].clone())).collect()
}

fn stands(status: &str, reason: Value) -> (String, Value) {
    (status.to_owned(), reason)
}

fn place(thread: &str, action: &Value) -> String {
    format!("{thread}/actions/{}", action["action_id"].as_str().unwrap())
}

fn faq(number: usize) -> (&'static str, Value) {
    ("add_faq", json!({"question": format!("Question {number}?"), "answer": format!("Answer {number}.")}))
}

#[tokio::test]
async fn what_was_asked_for_together_is_confirmed_in_turn_and_none_is_shown_twice() {
    let (test, owner, model) = planned().await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    let hosts = json!({"name": "http_request", "config": {"allowed_hosts": ["api.example.com"]}});
    let calls = [("publish_agent", json!({})), ("attach_tool", hosts), ("unpublish_agent", json!({}))];
    let thread = asked(&test, &owner, &model, &draft, &calls).await;
    let shown = actions(&owner, &thread).await;
    assert!(!shown[1]["summary"].as_str().unwrap().contains("which is live"), "{}", shown[1]);
    let agent = format!("/api/agents/{}", draft.id);
    owner.session.post(&place(&thread, &shown[0]), json!({"approve": true})).await.expect(200);
    let published = owner.session.get(&agent).await.expect(200);
    assert_eq!((&published["status"], &published["version"]), (&json!("published"), &json!("1.1")));
    let now = actions(&owner, &thread).await;
    assert_eq!((now.len(), &now[1]["status"]), (3, &json!("pending")), "nothing is shown anew");
    assert!(now[1]["summary"].as_str().unwrap().contains("which is live"), "it is shown as it is by now: {}", now[1]);
    owner.session.post(&place(&thread, &shown[1]), json!({"approve": true})).await.expect(200);
    let attached = owner.session.get(&agent).await.expect(200);
    assert_eq!(attached["tools"][0]["name"], "http_request");
    owner.session.post(&place(&thread, &shown[2]), json!({"approve": true})).await.expect(200);
    assert_eq!(owner.session.get(&agent).await.expect(200)["status"], "draft");
    for action in &shown {
        let again = owner.session.post(&place(&thread, action), json!({"approve": true})).await;
        assert_eq!(again.code(409), "action_settled", "each once");
    }
    assert_eq!(standings(&owner, &thread).await, vec![stands("done", Value::Null); 3]);
}

#[tokio::test]
async fn who_was_shown_an_action_before_somebody_else_moved_it_on_may_have_to_look_again() {
    let (test, owner, model) = planned().await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    let hosts = json!({"name": "http_request", "config": {"allowed_hosts": ["api.example.com"]}});
    let calls = [("publish_agent", json!({})), ("attach_tool", hosts), ("unpublish_agent", json!({}))];
    let thread = asked(&test, &owner, &model, &draft, &calls).await;
    let editor = test.db_member(&owner, Role::Editor).await;
    let seen = editor.get(&thread).await.expect(200)["actions"].as_array().unwrap().clone();
    let shown = &seen[0]["revision"];
    assert!(shown.is_u64() && seen.iter().all(|action| action["revision"] == *shown), "{seen:?}");
    let as_shown = json!({"approve": true, "revision": shown});
    owner.session.post(&place(&thread, &seen[0]), as_shown.clone()).await.expect(200);
    let before = test.db_dump().await;
    let refused = editor.post(&place(&thread, &seen[1]), as_shown).await;
    let now = actions(&owner, &thread).await;
    assert!(refused.text.contains("which is live"), "it tells what is shown now: {}", refused.text);
    assert_eq!(refused.code(409), "action_changed");
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new(), "it goes on waiting");
    assert_ne!(now[1]["revision"], *shown);
    let looked_again = json!({"approve": true, "revision": now[1]["revision"]});
    editor.post(&place(&thread, &seen[1]), looked_again).await.expect(200);
    let declined = json!({"approve": false, "revision": shown});
    assert_eq!(editor.post(&place(&thread, &seen[2]), declined).await.expect(200)["status"], "declined");
}

#[tokio::test]
async fn a_change_by_hand_in_between_is_shown_anew_also_beside_others() {
    let (test, owner, model) = planned().await;
    let live = owner.agent("Soporte").await;
    let thread = asked(&test, &owner, &model, &live, &[faq(1), faq(2), faq(3)]).await;
    let shown = actions(&owner, &thread).await;
    owner.session.post(&place(&thread, &shown[0]), json!({"approve": true})).await.expect(200);
    let by_hand = json!({"system_prompt": "Something else."});
    owner.session.patch(&format!("/api/agents/{}", live.id), by_hand).await.expect(200);
    let refused = owner.session.post(&place(&thread, &shown[1]), json!({"approve": true})).await;
    assert!(refused.text.contains("shown anew"), "{}", refused.text);
    assert_eq!(refused.code(409), "action_settled");
    let anew = actions(&owner, &thread).await.pop().unwrap();
    owner.session.post(&place(&thread, &anew), json!({"approve": true})).await.expect(200);
    // What was done by then takes along only what was shown with what it changed.
    let refused = owner.session.post(&place(&thread, &shown[2]), json!({"approve": true})).await;
    assert_eq!(refused.code(409), "action_settled");
    let expected = [
        stands("done", Value::Null),
        stands("expired", json!("shown_anew")),
        stands("expired", json!("shown_anew")),
        stands("done", Value::Null),
        stands("pending", Value::Null),
    ];
    assert_eq!(standings(&owner, &thread).await, expected);
    let log = owner.session.get("/api/audit-log?limit=100").await.expect(200);
    let entries = log["items"].as_array().unwrap().iter();
    let anew: Vec<&Value> = entries.filter(|entry| entry["action"] == "show_builder_action_anew").collect();
    assert_eq!(anew.len(), 2, "{log}");
    assert_eq!(anew[1]["target"], json!(place(&thread, &shown[1])));
}

#[tokio::test]
async fn another_name_is_another_agent_to_whoever_was_shown_the_first_one() {
    let (test, owner, model) = planned().await;
    let live = owner.agent("Soporte").await;
    let calls = [("update_agent", json!({"name": "Ventas"})), ("delete_agent", json!({}))];
    let thread = asked(&test, &owner, &model, &live, &calls).await;
    let shown = actions(&owner, &thread).await;
    owner.session.post(&place(&thread, &shown[0]), json!({"approve": true})).await.expect(200);
    let refused = owner.session.post(&place(&thread, &shown[1]), json!({"approve": true})).await;
    assert_eq!(refused.code(409), "action_settled");
    let anew = actions(&owner, &thread).await.pop().unwrap();
    assert!(anew["summary"].as_str().unwrap().contains("\"Ventas\""), "{anew}");
    owner.session.post(&place(&thread, &anew), json!({"approve": true})).await.expect(200);
}

#[tokio::test]
async fn what_waits_about_an_agent_that_is_deleted_expires_and_says_why() {
    let (test, owner, model) = planned().await;
    let (live, other) = (owner.agent("Soporte").await, owner.agent("Ventas").await);
    let thread = asked(&test, &owner, &model, &live, &[faq(1), ("delete_agent", json!({})), faq(2)]).await;
    let shown = actions(&owner, &thread).await;
    owner.session.post(&place(&thread, &shown[1]), json!({"approve": true})).await.expect(200);
    let deleted = stands("expired", json!("agent_deleted"));
    let expected = [deleted.clone(), stands("done", Value::Null), deleted.clone()];
    assert_eq!(standings(&owner, &thread).await, expected);
    let late = owner.session.post(&place(&thread, &shown[0]), json!({"approve": true})).await;
    assert!(late.text.contains("was deleted"), "{}", late.text);
    assert_eq!(late.code(409), "action_settled");
    // Deleted elsewhere: whoever confirms one finds all of them expired.
    model.calls("make_plan", json!({"steps": ["Change the agents"]}));
    let thread = asked(&test, &owner, &model, &other, &[faq(1), faq(2)]).await;
    let shown = actions(&owner, &thread).await;
    let body = json!({"confirmation": "Ventas"});
    assert_eq!(owner.session.call("DELETE", &format!("/api/agents/{}", other.id), &[], Some(body)).await.status, 204);
    let late = owner.session.post(&place(&thread, &shown[0]), json!({"approve": true})).await;
    assert!(late.text.contains("was deleted"), "{}", late.text);
    assert_eq!(late.code(409), "action_settled");
    assert_eq!(standings(&owner, &thread).await, vec![deleted; 2]);
}

#[tokio::test]
async fn a_tool_that_is_gone_by_then_is_detached_no_second_time() {
    let (test, owner, model) = planned().await;
    let live = owner.agent("Soporte").await;
    let tool = json!({"name": "capture_lead"});
    owner.session.post(&format!("/api/agents/{}/tools", live.id), tool.clone()).await.expect(201);
    let calls = [("detach_tool", tool.clone()), ("detach_tool", tool)];
    let thread = asked(&test, &owner, &model, &live, &calls).await;
    let shown = actions(&owner, &thread).await;
    owner.session.post(&place(&thread, &shown[0]), json!({"approve": true})).await.expect(200);
    let second = owner.session.post(&place(&thread, &shown[1]), json!({"approve": true})).await;
    assert!(second.text.contains("not there any more"), "{}", second.text);
    let expected = [stands("done", Value::Null), stands("expired", json!("gone"))];
    assert_eq!(standings(&owner, &thread).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn actions_that_are_confirmed_at_once_happen_once_each_and_none_is_shown_anew() {
    let (test, owner, model) = planned().await;
    for round in 0..4 {
        let live = owner.agent(&format!("Number {round}")).await;
        let thread = asked(&test, &owner, &model, &live, &[faq(1), faq(2), faq(3), faq(4)]).await;
        let shown = actions(&owner, &thread).await;
        let mut waits: Vec<String> = shown.iter().map(|action| place(&thread, action)).collect();
        // Twice each, at once: somebody else may look at the thread too.
        while !waits.is_empty() {
            let clicks = waits.iter().chain(&waits).cloned().map(|place| {
                let session = owner.session.clone();
                tokio::spawn(async move { session.post(&place, json!({"approve": true})).await })
            });
            let clicks: Vec<_> = clicks.collect();
            for click in clicks {
                let answer = click.await.unwrap();
                let is_said = answer.status == 200
                    || ["action_settled", "concurrent_change"].contains(&answer.clone().code(409).as_str());
                assert!(is_said, "{}", answer.text);
            }
            let now = actions(&owner, &thread).await;
            let pending = now.iter().filter(|action| action["status"] == "pending");
            waits = pending.map(|action| place(&thread, action)).collect();
        }
        assert_eq!(standings(&owner, &thread).await, vec![stands("done", Value::Null); 4]);
        let agent = owner.session.get(&format!("/api/agents/{}", live.id)).await.expect(200);
        let prompt = agent["system_prompt"].as_str().unwrap();
        for number in 1..=4 {
            assert_eq!(prompt.matches(&format!("Answer {number}.")).count(), 1, "{prompt}");
        }
        if round < 3 {
            model.calls("make_plan", json!({"steps": ["Change the agents"]}));
        }
    }
}
