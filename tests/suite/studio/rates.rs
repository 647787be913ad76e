//! Limits: floods of one caller, and what everybody else notices of them.

use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use serde_json::json;
use shared::access::RateClass;
use shared::app::App;
use shared::domain::Role;
use shared::kernel::{Code, Rng};
use shared::table::fault::{Faults, Rates};
use tests::{Answer, Persona, TestApp};

const LOGIN: &str = "/api/auth/login";

fn left(answer: &Answer) -> u32 {
    answer.headers["x-ratelimit-remaining"].to_str().unwrap().parse().unwrap()
}

fn seconds(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

/// Calls until it is refused; says how many calls passed.
async fn flood(caller: &Persona, path: &str, at_most: u32) -> (u32, Answer) {
    for passed in 0..=at_most {
        let answer = caller.get(path).await;
        if answer.status == 429 {
            return (passed, answer);
        }
    }
    panic!("more than {at_most} calls of {path} passed");
}

/// Other processes of the same installation.
fn processes(test: &TestApp, count: u64) -> Vec<App> {
    (0..count).map(|seed| test.process(Rng::seeded(900 + seed))).collect()
}

fn router(app: &App) -> Router {
    shared::http::serve::surface(app, &studio::SURFACE, studio::SURFACE.groups)
}

/// How many of `calls` calls on each of the processes pass, all at the same time.
async fn passed(processes: &[App], calls: usize, class: RateClass, subject: &str) -> usize {
    let calls = processes.iter().flat_map(|app| std::iter::repeat_n(app.clone(), calls)).map(|app| {
        let subject = subject.to_owned();
        tokio::spawn(async move { app.count_call(class, &subject).await })
    });
    let outcomes = join_all(calls).await.into_iter().map(|outcome| outcome.unwrap());
    outcomes
        .filter(|outcome| match outcome {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.code(), Code::RateLimited, "{error}");
                false
            }
        })
        .count()
}

#[tokio::test]
async fn a_flood_from_one_address_is_refused_without_a_table_call_and_others_go_on() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/public/agents/{}", agent.slug);
    let (flooder, other) = (test.anonymous(), test.anonymous());
    let (passed, refused) = flood(&flooder, &path, 600).await;
    assert_eq!((passed, left(&refused)), (600, 0));
    assert_eq!(refused.headers["x-ratelimit-limit"], "600");
    let wait = seconds(&refused);
    assert!((1..=300).contains(&wait), "{wait}");
    assert_eq!(refused.code(429), "rate_limited");
    test.app.table.meter().record();
    for _ in 0..500 {
        assert_eq!(flooder.get(&path).await.status, 429);
    }
    assert_eq!(test.app.table.meter().take().len(), 0, "refusing costs the table nothing");
    assert_eq!(other.get(&path).await.status, 200);
    assert_eq!(owner.session.get("/api/agents").await.status, 200);
    test.clock.advance(Duration::from_secs(wait));
    assert_eq!(flooder.get(&path).await.status, 200, "the time that Retry-After tells is enough");
}

#[tokio::test]
async fn a_key_that_floods_stops_neither_its_workspace_nor_another_tenant() {
    let test = TestApp::new().await;
    let (owner, stranger) = (test.owner().await, test.owner().await);
    let key = owner.key().await;
    let (passed, refused) = flood(&key, "/api/agents", 600).await;
    assert_eq!((passed, left(&refused)), (600, 0));
    assert!((1..=60).contains(&seconds(&refused)));
    for other in [&owner.session, &owner.key().await, &stranger.session, &stranger.key().await] {
        assert_eq!(other.get("/api/agents").await.status, 200);
    }
}

#[tokio::test]
async fn all_keys_of_a_workspace_together_have_a_limit_of_their_own() {
    let test = TestApp::new().await;
    let (owner, stranger) = (test.owner().await, test.owner().await);
    let key = owner.key().await;
    let workspace = test.db_workspace(&owner).await.id.text();
    let before = left(&owner.session.get("/api/agents").await);
    while test.app.count_call(RateClass::Workspace, &workspace).await.unwrap().remaining > 1 {}
    let tight = owner.session.get("/api/agents").await;
    assert_eq!((tight.status.as_u16(), left(&tight)), (200, 0), "the workspace's is less than {before}");
    assert_eq!(tight.headers["x-ratelimit-limit"], "3000");
    for caller in [&owner.session, &key] {
        let refused = caller.get("/api/agents").await;
        assert!((1..=60).contains(&seconds(&refused)));
        assert_eq!(refused.code(429), "rate_limited");
    }
    assert_eq!(stranger.key().await.get("/api/agents").await.status, 200);
}

#[tokio::test]
async fn strangers_with_wrong_keys_are_counted_by_address_and_do_not_lock_out_who_shares_it() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let address = "198.51.100.77".parse().unwrap();
    let (guesser, colleague) = (test.anonymous().at(address), owner.session.at(address));
    let mut limits = Vec::new();
    for number in 0..300 {
        let answer = guesser.with_bearer(&format!("chatia_{number:032}")).get("/api/agents").await;
        limits.push(left(&answer));
        assert_eq!(answer.code(401), "unauthenticated");
    }
    assert_eq!((limits[0], limits[299]), (299, 0), "told from the first");
    let refused = guesser.with_bearer("chatia_guess").get("/api/agents").await;
    assert!((1..=300).contains(&seconds(&refused)));
    assert_eq!(refused.code(429), "rate_limited");
    assert_eq!(colleague.get("/api/agents").await.status, 200);
    assert_eq!(guesser.at("198.51.100.78".parse().unwrap()).get("/api/agents").await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_so_many_log_ins_pass_as_are_allowed_however_many_processes_take_them_at_once() {
    let test = TestApp::new().await;
    let processes = processes(&test, 8);
    assert_eq!(passed(&processes, 5, RateClass::AuthEmail, "somebody").await, 5);
    assert_eq!(passed(&processes, 25, RateClass::Auth, "203.0.113.4").await, 100);
    // The same through the doors of all of them.
    let owner = test.owner().await;
    let attempts = processes.iter().map(|app| {
        let door = test.anonymous().on(router(app));
        let body = json!({"email": owner.email, "password": "wrong horse"});
        async move { door.post(LOGIN, body).await.status.as_u16() }
    });
    let mut statuses = join_all(attempts).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_limit_pass_it_by_no_more_than_their_credit() {
    let test = TestApp::new().await;
    let processes = processes(&test, 6);
    let most = 600 + 6 * RateClass::General.rate().credit() as usize;
    let all = passed(&processes, 300, RateClass::General, "key_1").await;
    assert!((600..=most).contains(&all), "{all} of 1,800");
}

#[tokio::test]
async fn without_a_table_to_count_in_work_goes_on_but_nobody_tries_passwords() {
    let test = TestApp::new().await;
    let faults = Faults::new(Rng::seeded(5));
    let app = test.process_with(Rng::seeded(6), &faults, test.queue.clone());
    faults.set(Rates { failed: 1_000, ..Rates::default() });
    for _ in 0..8 {
        app.count_call(RateClass::General, "key_1").await.unwrap();
    }
    let error = app.count_call(RateClass::AuthEmail, "somebody").await.unwrap_err();
    assert_ne!(error.code(), Code::RateLimited);
}

#[tokio::test]
async fn a_refusal_tells_of_the_limit_that_refused() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let id = shared::kernel::Id::<shared::domain::Agent>::from_int(agent.id).unwrap().text();
    while test.app.count_call(RateClass::AgentChat, &id).await.unwrap().remaining > 0 {}
    let refused = test.visitor(&agent).send("Hello").await;
    assert_eq!((refused.status.as_u16(), left(&refused)), (429, 0));
    assert_eq!(refused.headers["x-ratelimit-limit"], "2400", "the agent's, not the visitor's own 600");
    assert!((1..=120).contains(&seconds(&refused)));
    let reset: u64 = refused.headers["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert_eq!(reset, u64::try_from(test.app.now().seconds()).unwrap() + seconds(&refused));
}

#[tokio::test]
async fn a_workspace_asks_the_builder_and_for_previews_two_hundred_times_a_day() {
    let test = TestApp::new().await;
    let (owner, stranger) = (test.owner().await, test.owner().await);
    let agent = owner.agent("Soporte").await;
    let colleague = test.db_member(&owner, Role::Editor).await;
    let (builder, preview) = ("/api/builder/stream", format!("/api/agents/{}/preview", agent.id));
    let body = |number: u32| json!({"message": "Hello", "client_message_id": format!("client-message-{number:06}")});
    for number in 0..200 {
        // Ten a minute for each of the two; what they ask counts together.
        if number % 20 == 0 {
            test.clock.advance(Duration::from_secs(61));
        }
        let who = if number % 2 == 0 { &owner.session } else { &colleague };
        let path = if number < 190 { preview.as_str() } else { builder };
        let answer = who.post(path, body(number)).await;
        assert_eq!(answer.status, 200, "{number}: {}", answer.text);
    }
    test.clock.advance(Duration::from_secs(61));
    let rest = 86_400 - u64::try_from(test.app.now().seconds()).unwrap() % 86_400;
    for (who, path) in [(&owner.session, builder), (&colleague, builder), (&owner.session, &preview)] {
        let refused = who.post(path, body(200)).await;
        assert_eq!(seconds(&refused), rest, "until the day is over");
        assert_eq!(refused.code(429), "rate_limited");
    }
    assert_eq!(stranger.session.post(builder, body(200)).await.status, 200, "another workspace's are its own");
    test.clock.advance(Duration::from_secs(rest));
    assert_eq!(owner.session.post(builder, body(201)).await.status, 200);
}
