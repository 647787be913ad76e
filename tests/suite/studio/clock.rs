//! What time alone makes happen.

use std::time::Duration;

use tests::{PausedModel, TestApp};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_conversation_is_closed_after_thirty_minutes_of_silence_and_told_once() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let workers = test.workers();
    workers.after(20 * MINUTE).await;
    visitor.says("Still here").await;
    workers.after(15 * MINUTE).await;
    assert_eq!(owner.conversations(&agent).await[0]["status"], "open", "it was silent for fifteen minutes only");
    workers.after(16 * MINUTE).await;
    workers.after(60 * MINUTE).await;
    let closed = owner.conversations(&agent).await[0].clone();
    assert_eq!(closed["status"], "closed");
    assert!(closed["closed_at"].is_string());
    let told = workers.events().await.into_iter().filter(|event| event.kind == "conversation.closed").count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_message_after_the_closing_opens_the_conversation_again_for_the_agent() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    owner.takeover(&agent, id, true).await;
    let workers = test.workers();
    workers.after(31 * MINUTE).await;
    assert_eq!(owner.conversations(&agent).await[0]["status"], "closed");
    let answer = visitor.says("How long does delivery take?").await;
    assert!(answer["reply"].as_str().unwrap().contains("two days"), "the person's business is over: {answer}");
    let open = owner.conversations(&agent).await[0].clone();
    assert_eq!((open["status"].as_str(), open["ai_paused"].as_bool()), (Some("open"), Some(false)));
    workers.after(31 * MINUTE).await;
    assert_eq!(owner.conversations(&agent).await[0]["status"], "closed", "and closes again");
}

#[tokio::test]
async fn two_clocks_at_once_close_a_conversation_once() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.clock.advance(31 * MINUTE);
    let ticks = (0..5).map(|_| shared::app::clock::tick(&test.app));
    let closed: usize = futures_util::future::join_all(ticks).await.into_iter().map(|tick| tick.unwrap().closed).sum();
    assert_eq!(closed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_died_gives_its_message_back_and_nothing_comes_of_it_any_more() {
    let (model, gate) = PausedModel::new();
    let test = TestApp::with_model(model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let visitor = test.visitor(&agent);
    let used = async || {
        let account = owner.session.get("/api/billing/account").await.expect(200);
        account["messages_used_current_period"].as_u64().unwrap()
    };
    let waiting = tokio::spawn(async move { visitor.send("Hello").await });
    gate.asked().await;
    assert_eq!(used().await, 1);
    // For the clock it is dead: its lease ended minutes ago.
    let workers = test.workers();
    workers.after(2 * MINUTE).await;
    assert_eq!(used().await, 1, "a turn may still run for all that the clock knows of this time");
    workers.after(6 * MINUTE).await;
    assert_eq!(used().await, 0);
    gate.open();
    assert_eq!(waiting.await.unwrap().code(409), "conversation_busy");
    assert!(test.db_usage(&owner).await.is_empty());
    let conversation = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let thread = owner.conversation(&agent, conversation).await;
    assert_eq!(thread["messages"].as_array().unwrap().len(), 1, "the visitor's message alone");
    workers.after(10 * MINUTE).await;
    assert_eq!(used().await, 0, "and it is given back once");
}
