//! A person who takes over while a reply is being written, many times and at any moment of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Agent, Options, Owner, TestApp, TypingModel};

use super::stream::{message, open};

const RUNS: u32 = 200;
/// How many runs go on at the same time.
const TOGETHER: u32 = 20;
/// How long a token may still come once the takeover is answered.
const LATEST: Duration = Duration::from_secs(2);

/// What one run showed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Came {
    /// The person was first: no reply.
    Nothing,
    /// The reply was stored before the person took over.
    Reply,
}

/// Follows a reply, takes over once so many frames have come, and checks what comes after that.
async fn run(test: &TestApp, owner: &Owner, agent: &Agent, number: u32) -> Came {
    let mut connection = open(test, agent, &message(number), None).await;
    let mut start = connection.next().await.expect("a start");
    let handle = start.data["conversation_id"].take();
    let wanted = usize::try_from(number % 23).unwrap();
    let (mut told, mut is_over) = (0, false);
    while told < wanted && !is_over {
        is_over = connection.next().await.is_none();
        told += 1;
    }
    // The page reads on while the person takes over, as pages do.
    let reading = tokio::spawn(async move {
        let mut late = Vec::new();
        while !is_over && let Some(frame) = connection.next().await {
            late.push((frame.name, Instant::now()));
        }
        late
    });
    let id = conversation_of(test, agent, &handle).await;
    owner.takeover(agent, id, true).await;
    let acknowledged = Instant::now();
    let then = replies(owner, agent, id).await;
    for (name, at) in reading.await.expect("it read to the end") {
        let late = at.saturating_duration_since(acknowledged);
        assert!(name != "token" || late < LATEST, "run {number}: a token came {late:?} after it was answered");
        // The end of a reply that was stored before may be under way to the page; one of a reply that was not is none.
        assert!(name != "done" || then == 1, "run {number}: done without a reply");
    }
    assert_eq!(replies(owner, agent, id).await, then, "run {number}: a reply was stored after the takeover");
    if then == 1 { Came::Reply } else { Came::Nothing }
}

async fn replies(owner: &Owner, agent: &Agent, id: u64) -> usize {
    let thread = owner.conversation(agent, id).await;
    thread["messages"].as_array().unwrap().iter().filter(|message| message["meta"]["author"] == "agent").count()
}

async fn conversation_of(test: &TestApp, agent: &Agent, handle: &Value) -> u64 {
    let snapshot = shared::app::agent::public(&test.app, &agent.slug).await.unwrap();
    let place = (snapshot.workspace_id, snapshot.agent_id);
    let id = shared::app::conversation::of_handle(&test.app, place, handle.as_str().unwrap()).await.unwrap();
    id.int()
}

/// So many runs against a model, and how many of them ended with a reply.
async fn race(runs: u32, model: impl Fn(&[&str]) -> TypingModel) -> usize {
    let pieces: Vec<String> = (0..20).map(|number| format!("word{number} ")).collect();
    let model = model(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
    let variables = vec![("CHATIA_WATCH_SECONDS", "0.02".to_owned())];
    let llm = Some(Arc::new(model) as Arc<dyn shared::ports::llm::Llm>);
    let test = Arc::new(TestApp::with(Options { llm, variables, ..Options::default() }).await);
    let owner = Arc::new(test.paying_owner().await);
    let agent = Arc::new(owner.agent("Soporte").await);
    let mut came = Vec::new();
    for batch in 0..runs / TOGETHER {
        let runs: Vec<_> = (0..TOGETHER)
            .map(|number| {
                let (test, owner, agent) = (Arc::clone(&test), Arc::clone(&owner), Arc::clone(&agent));
                tokio::spawn(async move { run(&test, &owner, &agent, batch * TOGETHER + number).await })
            })
            .collect();
        for run in runs {
            came.push(run.await.expect("a run"));
        }
        // The owner may make so many calls a minute.
        test.clock.advance(Duration::from_secs(61));
    }
    let replies = came.iter().filter(|came| **came == Came::Reply).count();
    assert_eq!(came.len(), usize::try_from(runs).unwrap());
    // What was billed is what was stored.
    assert_eq!(test.db_usage(&owner).await.len(), replies);
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_person_takes_over_no_reply_of_the_agent_comes_after_it() {
    let replies = race(RUNS - TOGETHER, TypingModel::new).await;
    assert!((1..180).contains(&replies), "the race was run in both orders: {replies} replies");
    // A model that would go on for six seconds is cut short: there is a reply only where all of it was waited for.
    let slow = race(TOGETHER, |pieces| TypingModel::new(pieces).pausing_each(Duration::from_millis(300))).await;
    assert!(slow < 4, "{slow} replies");
}
