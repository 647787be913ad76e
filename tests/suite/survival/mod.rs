//! Nothing lost, nothing doubled: whatever dies, fails, comes twice, late or in another order.

mod check;
mod copies;
mod disorder;
mod outside;
mod phones;
mod world;

use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use shared::table::fault::Rates;
use tests::QueueFaults;

use world::{CONVERSATIONS, Step, USERS, World};

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..USERS, 0..CONVERSATIONS);
    prop_oneof![
        6 => (place(), 1..4_usize).prop_map(|((user, conversation), times)| Step::Chat { user, conversation, times }),
        2 => place().prop_map(|(user, conversation)| Step::Repeat { user, conversation }),
        1 => (place(), any::<bool>())
            .prop_map(|((user, conversation), paused)| Step::Takeover { user, conversation, paused }),
        2 => (0..USERS).prop_map(|user| Step::Publish { user }),
        1 => Just(Step::ModelFails),
        5 => (1..30_usize).prop_map(|messages| Step::Work { messages }),
        2 => Just(Step::Schedules),
        2 => (1..180_u64).prop_map(|seconds| Step::Wait { seconds }),
        4 => (0..25_u32, any::<bool>()).prop_map(|(after, applied)| Step::Die { after, applied }),
    ]
}

fn rates() -> impl Strategy<Value = Rates> {
    prop_oneof![Just(Rates::default()), Just(Rates::each_percent(2)), Just(Rates::each_percent(5))]
}

/// A number that the environment may set.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

#[test]
fn whatever_happens_replies_bill_and_events_agree_in_the_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = u32::try_from(number("PROPTEST_CASES", 8)).unwrap();
    let config = Config { cases, max_shrink_iters: 12, failure_persistence: None, ..Config::default() };
    let histories = (any::<u64>(), rates(), vec(step(), 10..40));
    let outcome = TestRunner::new(config).run(&histories, |(seed, rates, steps)| {
        let ran = runtime.block_on(async {
            tokio::spawn(async move {
                let mut world = World::new(seed, Rates::default()).await;
                world.misbehave(rates, QueueFaults { refused: 3, lost: 3, doubled: 10, late: 10 }, 30);
                for step in &steps {
                    world.step(step).await;
                }
                world.settle().await;
                check::all_is_well(&world).await;
            })
            .await
        });
        ran.map_err(|panic| TestCaseError::fail(panic_text(panic)))
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_five_percent_of_each_fault_of_the_table_callers_see_next_to_none() {
    let chats = number("CHATIA_FAULT_CHATS", 60);
    let mut world = World::new(7, Rates::default()).await;
    world.misbehave(Rates::each_percent(5), QueueFaults::default(), 0);
    let seats = tokio::sync::Semaphore::new(10);
    let visitors = (0..chats / 6).map(|number| {
        let slug = &world.users[number % USERS].agent.slug;
        let (persona, path) = (world.visitor(), format!("/api/public/agents/{slug}/chat"));
        let seats = &seats;
        async move {
            let (mut handle, mut failed) = (serde_json::Value::Null, 0);
            // Some of them at a time, as people come.
            let _seat = seats.acquire().await;
            for turn in 0..6 {
                let answer =
                    persona.post(&path, json!({"message": format!("{turn}"), "conversation_id": handle})).await;
                failed += usize::from(answer.status != 200);
                handle = answer.json()["conversation_id"].clone();
            }
            failed
        }
    });
    let failed: usize = join_all(visitors).await.into_iter().sum();
    println!("{failed} of {chats} messages failed");
    assert!(failed <= chats / 1_000, "{failed} of {chats} are more than a thousandth");
    world.settle().await;
    check::all_is_well(&world).await;
}
