//! The public chat, followed while it goes on.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tests::{Agent, Frame, Frames, Gate, Options, Owner, PausedModel, ScriptedModel, TestApp, TypingModel};

/// Sends a message as a page does, which may have something of the reply already.
pub(super) async fn open(test: &TestApp, agent: &Agent, body: &Value, last: Option<&str>) -> Frames {
    let path = format!("/api/public/agents/{}/chat/stream", agent.slug);
    let mut request = Request::post(path).header("content-type", "application/json");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    Frames::open(test, request.body(Body::from(body.to_string())).unwrap()).await
}

/// What a page has after some frames.
fn text(frames: &[Frame]) -> String {
    let mut text = String::new();
    for frame in frames {
        match frame.name.as_str() {
            "token" => text.push_str(frame.data["text"].as_str().unwrap()),
            "discard" => text.clear(),
            _ => {}
        }
    }
    text
}

fn names(frames: &[Frame]) -> Vec<&str> {
    let mut names: Vec<&str> = frames.iter().map(|frame| frame.name.as_str()).collect();
    names.dedup();
    names
}

pub(super) fn message(id: u32) -> Value {
    json!({"message": "How long does delivery take?", "client_message_id": format!("client-message-{id:06}")})
}

async fn with(llm: impl shared::ports::llm::Llm + 'static) -> (TestApp, Owner, Agent) {
    let variables = vec![("CHATIA_WATCH_SECONDS", "0.02".to_owned())];
    let test = TestApp::with(Options { llm: Some(std::sync::Arc::new(llm)), variables, ..Options::default() }).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    (test, owner, agent)
}

#[tokio::test]
async fn a_reply_is_told_while_it_is_written_and_exists_when_it_is_done() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let frames = open(&test, &agent, &message(1), None).await.rest().await;
    assert_eq!(names(&frames), ["start", "token", "done"]);
    let done = &frames.last().unwrap().data;
    assert_eq!(text(&frames), done["reply"].as_str().unwrap());
    assert_eq!(done["conversation_id"], frames[0].data["conversation_id"]);
    let listed = test.anonymous();
    let path = format!(
        "/api/public/agents/{}/conversations/{}/messages",
        agent.slug,
        done["conversation_id"].as_str().unwrap()
    );
    let page = listed.get(&path).await.expect(200);
    assert_eq!(page["items"][1]["id"], done["message_id"]);
    assert_eq!(test.db_usage(&owner).await.len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_frame_is_taken_up_again_without_loss_repeat_or_second_charge() {
    let (test, owner, agent) = with(TypingModel::new(&["It ", "takes ", "two días", ", or ", "three."])).await;
    let whole = open(&test, &agent, &message(0), None).await.rest().await;
    let reply = "It takes two días, or three.";
    assert_eq!(text(&whole), reply);
    for seen in 0..=whole.len() {
        let body = message(1 + u32::try_from(seen).unwrap());
        let mut first = open(&test, &agent, &body, None).await;
        let mut frames = Vec::new();
        while frames.len() < seen
            && let Some(frame) = first.next().await
        {
            frames.push(frame);
        }
        // The page has gone; the turn goes on.
        drop(first);
        let last = frames.last().map(|frame| frame.id.clone());
        let rest = open(&test, &agent, &body, last.as_deref()).await.rest().await;
        assert_eq!(rest.last().unwrap().name, "done", "after {seen}: {rest:?}");
        frames.extend(rest);
        assert_eq!(text(&frames), reply, "after {seen}");
        assert!(!frames.iter().any(|frame| frame.name == "discard"), "after {seen}: {frames:?}");
    }
    let usage = test.db_usage(&owner).await;
    assert_eq!(usage.len(), whole.len() + 2, "each message is metered once");
}

#[tokio::test]
async fn a_page_that_leaves_does_not_stop_the_turn() {
    let (model, gate) = PausedModel::new();
    let (test, owner, agent) = with(model).await;
    let mut connection = open(&test, &agent, &message(1), None).await;
    assert_eq!(connection.next().await.unwrap().name, "start");
    gate.asked().await;
    drop(connection);
    gate.open();
    let frames = open(&test, &agent, &message(1), None).await.rest().await;
    assert_eq!(frames.last().unwrap().name, "done");
    assert_eq!(test.db_usage(&owner).await.len(), 1);
    assert_eq!(owner.conversations(&agent).await.len(), 1);
}

#[tokio::test]
async fn tools_are_told_of_and_what_was_said_before_them_is_taken_back() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Ventas", "tools": ["capture_lead"], "publish": true})).await;
    model.calls("capture_lead", json!({"email": "visitor@example.com"}));
    model.says("Thank you, somebody will write to you.");
    let frames = open(&test, &agent, &message(1), None).await.rest().await;
    assert_eq!(names(&frames), ["start", "tool", "token", "done"]);
    let tools: Vec<&Value> = frames.iter().filter(|frame| frame.name == "tool").map(|frame| &frame.data).collect();
    assert_eq!(tools[0], &json!({"name": "capture_lead", "status": "running"}));
    assert_eq!(tools[1], &json!({"name": "capture_lead", "status": "succeeded"}));
}

#[tokio::test]
async fn a_model_that_fails_on_the_way_leaves_the_fallback_and_costs_nothing() {
    let (test, owner, agent) = with(TypingModel::new(&["Half of "]).failing()).await;
    let frames = open(&test, &agent, &message(1), None).await.rest().await;
    assert_eq!(names(&frames), ["start", "token", "discard", "token", "done"]);
    assert_eq!(frames.iter().find(|frame| frame.name == "discard").unwrap().data["reason"], "failed");
    assert_eq!(text(&frames), frames.last().unwrap().data["reply"].as_str().unwrap());
    assert!(test.db_usage(&owner).await.is_empty());
}

/// A model that has written something and waits, and a page that has read it.
async fn half_written() -> (TestApp, Owner, Agent, Gate, Frames, Vec<Frame>) {
    let (model, gate) = TypingModel::new(&["It takes ", "two days."]).pausing_after(1);
    let (test, owner, agent) = with(model).await;
    let mut connection = open(&test, &agent, &message(1), None).await;
    let frames = vec![connection.next().await.unwrap(), connection.next().await.unwrap()];
    assert_eq!(names(&frames), ["start", "token"]);
    (test, owner, agent, gate, connection, frames)
}

#[tokio::test]
async fn after_a_takeover_nothing_more_is_told_and_no_reply_is_stored() {
    let (test, owner, agent, gate, connection, _) = half_written().await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    owner.takeover(&agent, id, true).await;
    let rest = connection.rest().await;
    gate.open();
    assert_eq!(names(&rest), ["discard"]);
    assert_eq!(rest[0].data, json!({"reason": "human_takeover", "final": true}));
    let thread = owner.conversation(&agent, id).await;
    assert_eq!(thread["messages"].as_array().unwrap().len(), 1);
    assert!(test.db_usage(&owner).await.is_empty());
}

#[tokio::test]
async fn a_visitor_who_has_read_enough_stops_the_reply_and_keeps_what_there_is() {
    let (test, owner, agent, _gate, connection, mut frames) = half_written().await;
    let handle = frames[0].data["conversation_id"].as_str().unwrap().to_owned();
    let path = format!("/api/public/agents/{}/conversations/{handle}/stop", agent.slug);
    assert_eq!(test.anonymous().post(&path, json!({})).await.expect(200), json!({"stopping": true}));
    frames.extend(connection.rest().await);
    let done = frames.last().unwrap();
    assert_eq!(
        (done.name.as_str(), &done.data["reply"], &done.data["stopped"]),
        ("done", &json!("It takes"), &json!(true))
    );
    assert_eq!(text(&frames), "It takes");
    assert_eq!(test.db_usage(&owner).await.len(), 1, "what was written was paid for");
    assert_eq!(test.anonymous().post(&path, json!({})).await.expect(200), json!({"stopping": false}));
    let other = format!("/api/public/agents/{}/conversations/conv_nonsense/stop", agent.slug);
    assert_eq!(test.anonymous().post(&other, json!({})).await.status, 404);
}

#[tokio::test]
async fn a_reply_that_is_stopped_before_it_begins_is_none_and_the_next_message_is_answered() {
    let (model, gate) = PausedModel::new();
    let (test, owner, agent) = with(model).await;
    let mut connection = open(&test, &agent, &message(1), None).await;
    let handle = connection.next().await.unwrap().data["conversation_id"].as_str().unwrap().to_owned();
    gate.asked().await;
    let path = format!("/api/public/agents/{}/conversations/{handle}/stop", agent.slug);
    test.anonymous().post(&path, json!({})).await.expect(200);
    let rest = connection.rest().await;
    assert_eq!(rest[0].data, json!({"reason": "stopped", "final": true}));
    assert!(test.db_usage(&owner).await.is_empty());
    // Who comes again for it is told the same.
    let again = open(&test, &agent, &message(1), None).await.rest().await;
    assert_eq!(again.last().unwrap().data["reason"], "stopped");
    gate.open();
    let mut next = message(2);
    next["conversation_id"] = json!(handle);
    let frames = open(&test, &agent, &next, None).await.rest().await;
    assert_eq!(frames.last().unwrap().name, "done");
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let thread = owner.conversation(&agent, id).await;
    assert_eq!(thread["messages"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_wrong_before_the_message_is_stored_is_an_answer_and_no_stream() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/public/agents/{}/chat/stream", agent.slug);
    let visitor = test.anonymous();
    assert_eq!(visitor.post(&path, json!({"message": ""})).await.code(422), "validation_error");
    assert_eq!(visitor.post("/api/public/agents/nobody/chat/stream", message(1)).await.status, 404);
    let foreign = json!({"message": "Hello", "conversation_id": "conv_nonsense"});
    assert_eq!(visitor.post(&path, foreign).await.status, 404);
}

#[tokio::test]
async fn a_reply_can_be_stopped_by_a_page_that_came_back_for_it() {
    let (test, owner, agent, _gate, connection, frames) = half_written().await;
    drop(connection);
    let again = open(&test, &agent, &message(1), Some(&frames[1].id)).await;
    let handle = frames[0].data["conversation_id"].as_str().unwrap();
    let path = format!("/api/public/agents/{}/conversations/{handle}/stop", agent.slug);
    assert_eq!(test.anonymous().post(&path, json!({})).await.expect(200)["stopping"], true);
    let rest = again.rest().await;
    let done = &rest.last().unwrap().data;
    assert_eq!((&done["reply"], &done["stopped"]), (&json!("It takes"), &json!(true)), "{rest:?}");
    assert_eq!(test.db_usage(&owner).await.len(), 1);
}

#[tokio::test]
async fn a_turn_that_is_answered_in_one_piece_is_stopped_too() {
    let (model, gate) = PausedModel::new();
    let (test, owner, agent) = with(model).await;
    let visitor = test.anonymous();
    let path = format!("/api/public/agents/{}/chat", agent.slug);
    gate.open();
    let first = visitor.post(&path, message(1)).await.expect(200);
    gate.asked().await;
    let mut next = message(2);
    next["conversation_id"] = first["conversation_id"].clone();
    let (answer, ()) = tokio::join!(visitor.post(&path, next), async {
        gate.asked().await;
        let handle = first["conversation_id"].as_str().unwrap();
        let stop = format!("/api/public/agents/{}/conversations/{handle}/stop", agent.slug);
        test.anonymous().post(&stop, json!({})).await.expect(200);
    });
    let answer = answer.expect(200);
    assert_eq!((&answer["reply"], &answer["stopped"], answer.get("human_takeover")), (&json!(""), &json!(true), None));
    assert_eq!(answer["free_messages_remaining"], 49, "the first one took the only one");
    assert_eq!(test.db_usage(&owner).await.len(), 1, "the first one");
}

#[tokio::test]
async fn to_hand_back_what_nobody_took_over_disturbs_no_reply() {
    let (_, owner, agent, gate, connection, _) = half_written().await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    owner.takeover(&agent, id, false).await;
    gate.open();
    let rest = connection.rest().await;
    assert_eq!(rest.last().unwrap().data["reply"], "It takes two days.", "{rest:?}");
    assert!(!rest.iter().any(|frame| frame.name == "discard"));
}
