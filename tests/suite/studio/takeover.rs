//! A person who takes over while a reply is being written, many times and at any moment of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use shared::domain::Message;
use shared::kernel::Id;
use tests::{Agent, Options, Owner, TestApp, TypingModel};

use super::stream::{message, open};

const RUNS: u32 = 240;
/// How many runs go on at the same time.
const TOGETHER: u32 = 60;
/// How many runs more look as seldom as an installation does that says nothing of it.
const BY_DEFAULT: u32 = 20;
/// What the model writes at once; then it takes its time, so that it still writes whenever a person takes over before.
const AT_ONCE: u32 = 20;
/// How many pieces it takes its time for, and how much for each: together far longer than a token may be late.
const SLOWLY: u32 = 10;
const EACH: Duration = Duration::from_millis(350);
/// How long a token may still come once the takeover is answered.
const LATEST: Duration = Duration::from_secs(2);

/// How soon a reply ends once the takeover is answered.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Ends {
    /// Within [`LATEST`], by the clock.
    InTime,
    /// Before the model has written all of it: a machine may be slow, but it is as slow for the model.
    BeforeAll,
}

/// What one run showed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Came {
    /// The person was first: no reply.
    Nothing,
    /// The reply was made before the person took over.
    Reply,
}

/// After how many frames the person takes over. Every second run in the midst of what is written at once, and the others
/// about the end.
const fn frames_before(number: u32) -> u32 {
    let run = number / 2;
    if number.is_multiple_of(2) { run % (AT_ONCE + 1) } else { AT_ONCE + SLOWLY - 1 + run % 4 }
}

/// Follows a reply, takes over once so many frames have come, and checks what comes after that.
async fn run(test: &TestApp, owner: &Owner, agent: &Agent, number: u32, ends: Ends) -> Came {
    let mut connection = open(test, agent, &message(number), None).await;
    let mut start = connection.next().await.expect("a start");
    let handle = start.data["conversation_id"].take();
    let (mut told, mut is_over) = (0, false);
    while told < frames_before(number) && !is_over {
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
    // Ids rise strictly within the process: whatever message is made from now on has a larger one.
    let (acknowledged, at) = (test.app.ids().id::<Message>(), Instant::now());
    let then = replies(owner, agent, id).await;
    assert!(then.iter().all(|reply| *reply < acknowledged), "run {number}: a reply was made after the takeover");
    for (name, came) in reading.await.expect("it read to the end") {
        let late = came.saturating_duration_since(at);
        told += u32::from(name == "token");
        let is_late = ends == Ends::InTime && late >= LATEST;
        assert!(name != "token" || !is_late, "run {number}: a token came {late:?} after it was answered");
        // The end of a reply that was stored before may be under way to the page; one of a reply that was not is none.
        assert!(name != "done" || then.len() == 1, "run {number}: done without a reply");
    }
    let is_whole = told >= AT_ONCE + SLOWLY;
    assert!(ends == Ends::InTime || !is_whole, "run {number}: {told} tokens came, as if nobody had taken over");
    assert_eq!(replies(owner, agent, id).await, then, "run {number}: a reply was stored after the takeover");
    if then.is_empty() { Came::Nothing } else { Came::Reply }
}

/// The ids of what the agent said.
async fn replies(owner: &Owner, agent: &Agent, id: u64) -> Vec<Id<Message>> {
    let thread = owner.conversation(agent, id).await;
    let by_agent = thread["messages"].as_array().unwrap().iter().filter(|message| message["meta"]["author"] == "agent");
    by_agent.map(|message| Id::from_int(message["id"].as_u64().unwrap()).unwrap()).collect()
}

async fn conversation_of(test: &TestApp, agent: &Agent, handle: &Value) -> u64 {
    let snapshot = shared::app::agent::public(&test.app, &agent.slug).await.unwrap();
    let place = (snapshot.workspace_id, snapshot.agent_id);
    let id = shared::app::conversation::of_handle(&test.app, place, handle.as_str().unwrap()).await.unwrap();
    id.int()
}

/// An app whose model takes its time, with one agent.
struct Scene {
    test: TestApp,
    owner: Owner,
    agent: Agent,
}

impl Scene {
    async fn new(variables: Vec<(&'static str, String)>) -> Arc<Self> {
        let pieces: Vec<String> = (0..AT_ONCE + SLOWLY).map(|number| format!("word{number} ")).collect();
        let model = TypingModel::new(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
        let model = model.slowing_after(AT_ONCE as usize, EACH);
        let llm = Some(Arc::new(model) as Arc<dyn shared::ports::llm::Llm>);
        let test = TestApp::with(Options { llm, variables, ..Options::default() }).await;
        let owner = test.paying_owner().await;
        let agent = owner.agent("Soporte").await;
        Arc::new(Self { test, owner, agent })
    }

    /// Runs with these numbers at the same time.
    async fn run(self: &Arc<Self>, numbers: impl Iterator<Item = u32>, ends: Ends) -> Vec<Came> {
        let start = |number| {
            let scene = Arc::clone(self);
            tokio::spawn(async move { run(&scene.test, &scene.owner, &scene.agent, number, ends).await })
        };
        let mut came = Vec::new();
        for run in numbers.map(start).collect::<Vec<_>>() {
            came.push(run.await.expect("a run"));
        }
        came
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_person_takes_over_no_reply_of_the_agent_comes_after_it() {
    let scene = Scene::new(vec![("CHATIA_WATCH_SECONDS", "0.02".to_owned())]).await;
    let mut came = Vec::new();
    for batch in 0..RUNS / TOGETHER {
        came.extend(scene.run((0..TOGETHER).map(|number| batch * TOGETHER + number), Ends::InTime).await);
        // The owner may make so many calls a minute.
        scene.test.clock.advance(Duration::from_secs(61));
    }
    let replies =
        |every_second: usize| came.iter().skip(every_second).step_by(2).filter(|came| **came == Came::Reply).count();
    let (cut, late) = (replies(0), replies(1));
    // What would go on for seconds is cut short: there is a reply only where all of it was waited for.
    assert_eq!(cut, 0, "replies although a person took over in their midst");
    assert!((1..came.len() / 2).contains(&late), "the race was run in both orders: {late} replies");
    // What was billed is what was stored.
    assert_eq!((came.len(), scene.test.db_usage(&scene.owner).await.len()), (RUNS as usize, cut + late));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_that_says_nothing_of_it_looks_often_enough_for_a_person_who_takes_over() {
    let scene = Scene::new(Vec::new()).await;
    // Each in the midst of a reply.
    let came = scene.run((0..BY_DEFAULT).map(|number| 2 * number), Ends::BeforeAll).await;
    assert_eq!(came, vec![Came::Nothing; BY_DEFAULT as usize]);
    assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 0);
}
