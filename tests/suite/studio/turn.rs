//! The turn under real concurrency, and what it costs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::table::Meter;
use tests::{Agent, Owner, PausedModel, TestApp, Visitor};

/// Every message of an agent's conversations, past the paging of the detail.
async fn messages(owner: &Owner, agent: &Agent) -> Vec<Value> {
    let (mut all, mut path) = (Vec::new(), format!("/api/clients/me/agents/{}/conversations?limit=100", agent.id));
    loop {
        let page = owner.session.get(&path).await.expect(200);
        for head in page["items"].as_array().unwrap() {
            let detail = owner.conversation(agent, head["id"].as_u64().unwrap()).await;
            all.extend(detail["messages"].as_array().unwrap().iter().cloned());
        }
        let Some(next) = page["next_cursor"].as_str() else { return all };
        path = format!("/api/clients/me/agents/{}/conversations?limit=100&cursor={next}", agent.id);
    }
}

fn by_agent(messages: &[Value]) -> Vec<&Value> {
    messages.iter().filter(|message| message["meta"]["author"] == "agent").collect()
}

fn id(message: &Value) -> u64 {
    message["id"].as_u64().unwrap()
}

#[tokio::test]
async fn a_plain_turn_costs_three_trips_and_at_most_twenty_write_units() {
    let test = TestApp::new().await;
    let agent = test.paying_owner().await.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    test.app.table.meter().record();
    visitor.says("How long does delivery take?").await;
    let calls = test.app.table.meter().take();
    let writes: f64 = calls.iter().map(|call| call.write).sum();
    let reads: f64 = calls.iter().map(|call| call.read).sum();
    // Seen with `--nocapture`; docs/PERFORMANCE.md quotes it.
    println!(
        "a plain turn: {} trips, {} calls, {writes} write units, {reads} read units",
        Meter::trips(&calls),
        calls.len()
    );
    calls.iter().for_each(|call| println!("  {} writes {} reads {}", call.operation, call.write, call.read));
    assert!(Meter::trips(&calls) <= 3, "{calls:#?}");
    assert!(writes <= 20.0, "{writes} units: {calls:#?}");
    assert!(writes >= 10.0, "the engine counts: {calls:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_twenty_chats_each_lose_nothing() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    let clients = (0..50).map(|number| {
        let mut visitor = test.visitor(&agent);
        async move {
            let mut seen = Vec::new();
            for message in 0..20 {
                let answer = visitor.says(&format!("client {number} message {message}")).await;
                seen.push(answer["message_id"].as_str().unwrap().to_owned());
            }
            seen
        }
    });
    let seen: HashSet<String> = join_all(clients).await.into_iter().flatten().collect();
    assert_eq!(seen.len(), 1_000, "each chat had a reply of its own");
    let stored = messages(&owner, &agent).await;
    let replies: HashSet<String> = by_agent(&stored)
        .into_iter()
        .map(|reply| shared::kernel::Id::<shared::domain::Message>::from_int(id(reply)).unwrap().text())
        .collect();
    assert_eq!(replies, seen, "stored replies are what clients saw");
    let usage = test.db_usage(&owner).await;
    let billed: HashSet<String> = usage.iter().map(|event| event.message_id.text()).collect();
    assert_eq!((usage.len(), billed), (1_000, seen), "usage events are what clients saw");
    let account = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!(account["messages_used_current_period"], 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_messages_at_once_in_one_conversation_are_each_answered_once_by_a_reply_that_saw_them() {
    let test = TestApp::with_model(tests::ScriptedModel::new()).await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let answers = join_all((0..30).map(|number| {
        let visitor = visitor.clone();
        async move { (number, visitor.send(&format!("[message {number:02}]")).await) }
    }))
    .await;
    let stored = messages(&owner, &agent).await;
    let visitors: BTreeMap<u64, &str> = stored
        .iter()
        .filter(|message| message["role"] == "user")
        .map(|message| (id(message), message["content"].as_str().unwrap()))
        .collect();
    assert_eq!(visitors.len(), 31, "all are stored");
    let mut answered: BTreeMap<u64, usize> = BTreeMap::new();
    for reply in by_agent(&stored) {
        let content = reply["content"].as_str().unwrap();
        for message in reply["meta"]["answers"].as_array().unwrap() {
            let message = message.as_u64().unwrap();
            *answered.entry(message).or_default() += 1;
            assert!(content.contains(visitors[&message]), "the reply saw what it answers: {content}");
        }
    }
    assert_eq!(answered.len(), 31, "every message is answered");
    assert!(answered.values().all(|times| *times == 1), "and once: {answered:?}");
    for (number, answer) in answers {
        let answer = answer.expect(200);
        assert!(answer["reply"].as_str().unwrap().contains(&format!("[message {number:02}]")), "{answer}");
    }
    assert_eq!(test.db_usage(&owner).await.len(), by_agent(&stored).len(), "usage events are replies");
    let account = owner.session.get("/api/billing/account").await.expect(200);
    let used = account["messages_used_current_period"].as_u64().unwrap();
    assert_eq!(used, by_agent(&stored).len() as u64, "what was taken for nothing was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_client_message_id_twenty_times_at_once_is_one_message_one_reply_one_usage_event() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    let first = test.visitor(&agent);
    let answers = same_id_at_once(&first, "Hello", "0a8f0c1e-first-message-id").await;
    let handles: HashSet<&str> = answers.iter().filter_map(|answer| answer["conversation_id"].as_str()).collect();
    assert_eq!(handles.len(), 1, "one conversation, although none was named");
    assert_one_exchange(&test, &owner, &agent, 1).await;
    let mut running = test.visitor(&agent);
    running.handle = handles.into_iter().next().map(str::to_owned);
    same_id_at_once(&running, "How long does delivery take?", "0a8f0c1e-second-message-id").await;
    assert_one_exchange(&test, &owner, &agent, 2).await;
    let again = running.send_as("How long does delivery take?", Some("0a8f0c1e-second-message-id")).await.expect(200);
    assert!(again["reply"].as_str().unwrap().contains("two days"), "much later, the stored outcome: {again}");
    assert_one_exchange(&test, &owner, &agent, 2).await;
    let other = running.send_as("Something else", Some("0a8f0c1e-second-message-id")).await;
    assert_eq!(other.code(422), "idempotency_mismatch");
}

async fn same_id_at_once(visitor: &Visitor, message: &str, id: &str) -> Vec<Value> {
    let sends = (0..20).map(|_| async { visitor.send_as(message, Some(id)).await.expect(200) });
    let answers = join_all(sends).await;
    let replies: HashSet<&str> = answers.iter().filter_map(|answer| answer["message_id"].as_str()).collect();
    assert_eq!(replies.len(), 1, "everybody gets the same reply");
    answers
}

async fn assert_one_exchange(test: &TestApp, owner: &Owner, agent: &Agent, exchanges: usize) {
    let stored = messages(owner, agent).await;
    assert_eq!(stored.len(), exchanges * 2, "{stored:#?}");
    assert_eq!(test.db_usage(owner).await.len(), exchanges);
    let account = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!(account["messages_used_current_period"].as_u64().unwrap(), exchanges as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_parallel_chats_on_a_fresh_free_owner_get_exactly_fifty_answers() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let chats = (0..200).map(|number| {
        let visitor = test.visitor(&agent);
        async move { visitor.send(&format!("chat {number}")).await }
    });
    let answers = join_all(chats).await;
    let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(answered.len(), 50);
    let remaining: HashSet<u64> =
        answered.iter().map(|answer| answer.json()["free_messages_remaining"].as_u64().unwrap()).collect();
    assert_eq!(remaining, (0..50).collect(), "each was told a different rest");
    for answer in refused {
        assert_eq!(answer.code(402), "message_limit_reached");
    }
    assert_eq!(test.db_usage(&owner).await.len(), 50);
    let stored = messages(&owner, &agent).await;
    assert_eq!(stored.iter().filter(|message| message["role"] == "user").count(), 200, "refused messages are kept");
}

#[tokio::test]
async fn the_trial_counts_per_owner_over_all_agents() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = owner.agent("One").await;
    let mut visitor = test.visitor(&first);
    for _ in 0..30 {
        visitor.says("Hello").await;
    }
    owner.session.post(&format!("/api/agents/{}/unpublish", first.id), json!({})).await.expect(200);
    let second = owner.agent("Two").await;
    let mut visitor = test.visitor(&second);
    for _ in 0..20 {
        visitor.says("Hello").await;
    }
    assert_eq!(visitor.send("Hello").await.code(402), "message_limit_reached");
}

#[tokio::test]
async fn a_takeover_between_accept_and_commit_leaves_no_reply_and_no_usage() {
    let (model, gate) = PausedModel::new();
    let test = TestApp::with_model(model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let visitor = test.visitor(&agent);
    let sending = tokio::spawn({
        let visitor = visitor.clone();
        async move { visitor.send("I need help").await }
    });
    gate.asked().await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    assert_eq!(owner.takeover(&agent, id, true).await["ai_paused"], true);
    gate.open();
    let answer = sending.await.unwrap().expect(200);
    assert_eq!((&answer["reply"], &answer["human_takeover"]), (&json!(""), &json!(true)));
    let detail = owner.conversation(&agent, id).await;
    assert_eq!(detail["messages"].as_array().unwrap().len(), 1, "the visitor's message only: {detail}");
    assert!(test.db_usage(&owner).await.is_empty());
    let account = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!(account["free_messages_remaining"], 50, "the allowance was given back");
    let kinds: Vec<String> = test.workers().events().await.into_iter().map(|event| event.kind).collect();
    assert!(!kinds.contains(&"message.reply".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn under_a_takeover_messages_are_kept_and_a_person_answers_until_it_is_handed_back() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let path = format!("/api/clients/me/agents/{}/conversations/{id}/messages", agent.id);
    let message = owner.session.post(&path, json!({"content": "This is Olivia."})).await.expect(201);
    assert_eq!((&message["role"], &message["meta"]["author"]), (&json!("assistant"), &json!("operator")));
    let answer = visitor.says("Are you real?").await;
    assert_eq!((&answer["reply"], &answer["human_takeover"]), (&json!(""), &json!(true)));
    assert_eq!(test.db_usage(&owner).await.len(), 1, "only the first reply is billed");
    let handle = visitor.handle.clone().unwrap();
    let seen = visitor.persona.get(&format!("/api/public/agents/{}/conversations/{handle}/messages", agent.slug)).await;
    let seen = seen.expect(200);
    assert_eq!(seen["human_takeover"], true);
    assert_eq!(seen["items"][2]["author"], "operator");
    owner.takeover(&agent, id, false).await;
    let answer = visitor.says("How long does delivery take?").await;
    assert!(answer["reply"].as_str().unwrap().contains("two days"), "{answer}");
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_by_the_next_message() {
    let (model, gate) = PausedModel::new();
    let test = TestApp::with_model(model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    let lost = tokio::spawn({
        let visitor = visitor.clone();
        async move { visitor.send_as("first", Some("the-first-message-id")).await }
    });
    gate.asked().await;
    // The process that holds the lease is gone, as far as anybody can see.
    test.clock.advance(Duration::from_secs(60));
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let head = shared::kernel::Id::from_int(id).unwrap();
    let workspace = owner.session.get("/api/auth/me").await.expect(200)["workspace"]["id"].as_u64().unwrap();
    let agent_id = shared::kernel::Id::from_int(agent.id).unwrap();
    let handle = shared::domain::handle::Handle {
        workspace_id: shared::kernel::Id::from_int(workspace).unwrap(),
        agent_id,
        conversation_id: head,
    };
    visitor.handle = Some(handle.encode(&test.app.keys().await.unwrap().handle));
    let second = tokio::spawn({
        let visitor = visitor.clone();
        async move { visitor.send("second").await }
    });
    gate.asked().await;
    // The old turn wakes up first: its lease is lost, its reply is dropped; then the new one answers both.
    gate.open();
    gate.open();
    let answer = second.await.unwrap().expect(200);
    let reply = answer["reply"].as_str().unwrap();
    assert!(reply.contains("first") && reply.contains("second"), "{reply}");
    lost.abort();
    let stored = messages(&owner, &agent).await;
    assert_eq!(by_agent(&stored).len(), test.db_usage(&owner).await.len());
}
