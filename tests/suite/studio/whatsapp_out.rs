//! `WhatsApp`: what goes out, what becomes of it, and who may write.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::whatsapp::Task;
use shared::domain::agent::SecretField;
use shared::kernel::{Id, Rng, Secret};
use shared::store;
use shared::table::Unit;
use shared::table::fault::{Faults, Rates};
use tests::phones::{SIGNING_SECRET, of_meta, status, text};
use tests::{Agent, Owner, Phones, ScriptedModel, TestApp};

const NUMBER: &str = "106540352242922";
const ANA: &str = "34600111222";
const BURST: Duration = Duration::from_secs(3);

/// An agent on a number at Meta to whom Ana has written, and who has answered unless a person is to.
async fn set(model: &ScriptedModel) -> (TestApp, Phones, Owner, Agent) {
    let (test, phones) = Phones::with_app(model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, NUMBER).await;
    (test, phones, owner, agent)
}

async fn asks(test: &TestApp, id: &str, words: &str) {
    test.writes(NUMBER, id, ANA, words).await;
    let workers = test.workers();
    workers.run().await;
    workers.after(BURST).await;
}

async fn thread(owner: &Owner, agent: &Agent) -> Value {
    let list = owner.conversations(agent).await;
    owner.conversation(agent, list[0]["id"].as_u64().unwrap()).await
}

/// How the last message stands.
async fn stands(owner: &Owner, agent: &Agent) -> (String, Value) {
    let thread = thread(owner, agent).await;
    let delivery = thread["messages"].as_array().unwrap().last().unwrap()["meta"]["delivery"].clone();
    (delivery["status"].as_str().unwrap().to_owned(), delivery["error"]["code"].clone())
}

async fn operator_says(owner: &Owner, agent: &Agent, words: &str) -> tests::Answer {
    let id = owner.conversations(agent).await[0]["id"].as_u64().unwrap();
    let path = format!("/api/clients/me/agents/{}/conversations/{id}/messages", agent.id);
    owner.session.post(&path, json!({"content": words})).await
}

#[tokio::test]
async fn a_person_who_takes_over_writes_to_the_phone_and_the_agent_is_silent() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says("Hello!");
    asks(&test, "wamid.1", "Hi").await;
    let made = operator_says(&owner, &agent, "Olivia here. How can I help?").await.expect(201);
    assert_eq!(made["meta"]["delivery"]["status"], "pending");
    test.workers().run().await;
    assert_eq!(phones.texts(), ["Hello!", "Olivia here. How can I help?"]);
    asks(&test, "wamid.2", "I want a refund").await;
    assert_eq!((phones.taken().len(), model.heard().len()), (2, 1), "a person answers now");
    for words in ["One moment.", "Done."] {
        operator_says(&owner, &agent, words).await.expect(201);
    }
    test.workers().run().await;
    test.workers().run().await;
    assert_eq!(phones.texts()[2..], ["One moment.", "Done."], "in order, and once");
    assert_eq!(stands(&owner, &agent).await.0, "sent");
    let id = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    owner.takeover(&agent, id, false).await;
    model.says("Anything else?");
    asks(&test, "wamid.3", "Thanks").await;
    assert_eq!(phones.texts()[4..], ["Anything else?"]);
}

#[tokio::test]
async fn a_day_after_their_last_message_nothing_is_written_to_them() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    asks(&test, "wamid.1", "Hi").await;
    let open = &thread(&owner, &agent).await["whatsapp"]["window_open_until"];
    assert_eq!(open, "2040-03-06T09:00:00.000Z");
    test.clock.advance(Duration::from_secs(24 * 3600));
    let refused = operator_says(&owner, &agent, "Are you still there?").await;
    assert_eq!(refused.code(409), "whatsapp_window_closed");
    test.workers().run().await;
    assert_eq!(phones.taken().len(), 1);
    assert_eq!(thread(&owner, &agent).await["messages"].as_array().unwrap().len(), 2, "and nothing is stored");
    asks(&test, "wamid.2", "Yes").await;
    operator_says(&owner, &agent, "Good.").await.expect(201);
    let line = json!({"config": {"whatsapp": null}});
    owner.session.patch(&format!("/api/agents/{}", agent.id), line).await.expect(200);
    assert_eq!(operator_says(&owner, &agent, "And now?").await.code(409), "whatsapp_not_connected");
    // What was written before goes out no more, and says why.
    test.workers().run().await;
    assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!("not_connected")));
}

#[tokio::test]
async fn a_message_is_as_far_as_was_told_of_it_in_whatever_order() {
    let model = ScriptedModel::new();
    let (test, _phones, owner, agent) = set(&model).await;
    // Told before the message is sent at all: nobody knows the id yet.
    test.tells(NUMBER, status("wamid.out-1", "delivered")).await;
    test.tells(NUMBER, status("wamid.out-1", "sent")).await;
    test.workers().run().await;
    asks(&test, "wamid.1", "Hi").await;
    assert_eq!(stands(&owner, &agent).await.0, "delivered");
    for (state, want) in [("sent", "delivered"), ("read", "read"), ("delivered", "read"), ("failed", "read")] {
        test.tells(NUMBER, status("wamid.out-1", state)).await;
        test.workers().run().await;
        assert_eq!(stands(&owner, &agent).await.0, want, "after {state}");
    }
    asks(&test, "wamid.2", "Hello?").await;
    let mut failed = status("wamid.out-2", "failed");
    failed["errors"] = json!([{"code": 131_026, "title": "Undeliverable"}]);
    for told in [failed, status("wamid.out-2", "delivered")] {
        test.tells(NUMBER, told).await;
        test.workers().run().await;
        assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!("131026")));
    }
}

#[tokio::test]
async fn a_status_that_overtakes_the_answer_of_the_send_call_is_not_lost() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    let held = phones.holds();
    test.writes(NUMBER, "wamid.1", ANA, "Hi").await;
    let workers = test.workers();
    workers.run().await;
    let telling = async {
        while phones.taken().is_empty() {
            tokio::task::yield_now().await;
        }
        let taken = phones.taken().remove(0);
        let mut told = status(&taken.id, "read");
        told["biz_opaque_callback_data"] = json!(taken.tag());
        test.tells(NUMBER, told).await;
        let other = test.workers();
        other.run_queues().await;
        held.add_permits(1);
    };
    tokio::join!(workers.after(BURST), telling);
    assert_eq!(stands(&owner, &agent).await.0, "read");
    assert_eq!(phones.taken().len(), 1);
}

#[tokio::test]
async fn what_a_provider_cannot_take_now_is_sent_later_and_once() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    phones.answers(409, json!({"error": "another send is in flight"}));
    phones.answers(429, json!({"error": {"code": 130_429, "message": "Rate limit hit"}}));
    phones.answers(503, Value::Null);
    model.says("Hello!");
    test.writes(NUMBER, "wamid.1", ANA, "Hi").await;
    let workers = test.workers();
    workers.run().await;
    workers.after(BURST).await;
    assert_eq!((phones.taken().len(), stands(&owner, &agent).await.0), (0, "pending".to_owned()));
    // What is written meanwhile waits its turn.
    operator_says(&owner, &agent, "And I am Olivia.").await.expect(201);
    workers.run().await;
    for _ in 0..12 {
        workers.after(Duration::from_secs(15)).await;
    }
    assert_eq!(phones.texts(), ["Hello!", "And I am Olivia."]);
    assert_eq!(stands(&owner, &agent).await.0, "sent");
}

#[tokio::test]
async fn what_a_provider_refuses_is_not_tried_again_and_the_thread_says_why() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    for (number, code, http) in [(1, 131_047, 400), (2, 190, 401), (3, 132_001, 404)] {
        phones.answers(http, json!({"error": {"code": code, "message": "no"}}));
        asks(&test, &format!("wamid.{number}"), "Hi").await;
        assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!(code.to_string())));
    }
    test.workers().after(Duration::from_secs(3600)).await;
    assert_eq!(phones.taken().len(), 0);
}

#[tokio::test]
async fn what_nobody_knows_whether_it_went_out_is_told_as_such_until_a_status_tells() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    phones.answers(200, json!("the answer is lost"));
    asks(&test, "wamid.1", "Hi").await;
    assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!("unknown")));
    test.workers().after(Duration::from_secs(3600)).await;
    let taken = phones.taken();
    assert_eq!(taken.len(), 1, "it is not sent twice");
    let mut told = status("wamid.real", "delivered");
    told["biz_opaque_callback_data"] = json!(taken[0].tag());
    test.tells(NUMBER, told).await;
    test.workers().run().await;
    assert_eq!(stands(&owner, &agent).await, ("delivered".to_owned(), Value::Null));
}

#[tokio::test]
async fn nobody_moves_another_tenants_messages_by_their_tags() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    asks(&test, "wamid.1", "Hi").await;
    let stranger = test.owner().await;
    let theirs = stranger.agent("Theirs").await;
    test.connects_meta(&stranger, &theirs, "888").await;
    let taken = phones.taken().remove(0);
    let mut told = status(&taken.id, "failed");
    told["biz_opaque_callback_data"] = json!(taken.tag());
    test.tells("888", told).await;
    test.workers().run().await;
    assert_eq!(stands(&owner, &agent).await.0, "sent");
}

#[tokio::test]
async fn a_long_reply_is_cut_and_its_parts_go_out_in_order() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    let long = format!("**{}**\n\n{}", "first ".repeat(500).trim(), "second ".repeat(500).trim());
    model.says(&long);
    asks(&test, "wamid.1", "Tell me all").await;
    let texts = phones.texts();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].starts_with("*first") && texts[0].ends_with("first*") && texts[1].starts_with("second"));
    test.tells(NUMBER, status("wamid.out-1", "read")).await;
    test.workers().run().await;
    assert_eq!(stands(&owner, &agent).await.0, "sent", "its second part is");
}

/// A reply of two parts.
fn long() -> String {
    format!("{}\n\n{}", "first ".repeat(500).trim(), "second ".repeat(500).trim())
}

/// Waits until a provider has taken so many messages, whatever it answers.
async fn until_taken(phones: &Phones, count: usize) -> Vec<tests::phones::Taken> {
    while phones.taken().len() < count {
        tokio::task::yield_now().await;
    }
    phones.taken()
}

fn tagged(id: &str, state: &str, tag: &str) -> Value {
    let mut told = status(id, state);
    told["biz_opaque_callback_data"] = json!(tag);
    told
}

#[tokio::test]
async fn a_part_of_which_a_status_told_before_its_answer_was_lost_has_not_failed() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says(&long());
    phones.answers(200, json!("the answer is lost"));
    let held = phones.holds();
    test.writes(NUMBER, "wamid.1", ANA, "Tell me all").await;
    let workers = test.workers();
    workers.run().await;
    let telling = async {
        let taken = until_taken(&phones, 1).await;
        test.tells(NUMBER, tagged("wamid.real", "delivered", taken[0].tag())).await;
        test.workers().run_queues().await;
        held.add_permits(2);
    };
    tokio::join!(workers.after(BURST), telling);
    assert_eq!(phones.taken().len(), 2, "the part behind it goes out too");
    assert_eq!(stands(&owner, &agent).await, ("sent".to_owned(), Value::Null));
}

#[tokio::test]
async fn the_rest_of_a_reply_goes_out_once_a_status_tells_that_its_first_part_has() {
    for (later, want, taken) in [
        (Duration::from_secs(60), ("sent".to_owned(), Value::Null), 2),
        (Duration::from_secs(24 * 3600), ("failed".to_owned(), json!("window_closed")), 1),
    ] {
        let model = ScriptedModel::new();
        let (test, phones, owner, agent) = set(&model).await;
        model.says(&long());
        phones.answers(200, json!("the answer is lost"));
        asks(&test, "wamid.1", "Tell me all").await;
        assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!("unknown")));
        assert_eq!(phones.taken().len(), 1);
        test.clock.advance(later);
        let told = tagged("wamid.real", "delivered", phones.taken()[0].tag());
        test.tells(NUMBER, told).await;
        test.workers().run_queues().await;
        assert_eq!(stands(&owner, &agent).await, want);
        assert_eq!(phones.taken().len(), taken);
    }
}

#[tokio::test]
async fn a_reply_whose_first_part_failed_is_failed_and_nothing_follows() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says(&long());
    phones.answers(200, json!("the answer is lost"));
    asks(&test, "wamid.1", "Tell me all").await;
    let mut told = tagged("wamid.real", "failed", phones.taken()[0].tag());
    told["errors"] = json!([{"code": 131_026, "title": "Undeliverable"}]);
    test.tells(NUMBER, told).await;
    test.workers().run().await;
    assert_eq!((phones.taken().len(), stands(&owner, &agent).await), (1, ("failed".to_owned(), json!("131026"))));
}

#[tokio::test]
async fn a_process_that_stops_between_two_parts_leaves_the_second_one_to_another() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says(&long());
    let _held = phones.holds();
    test.writes(NUMBER, "wamid.1", ANA, "Tell me all").await;
    let workers = test.workers();
    workers.run().await;
    let telling = async {
        let taken = until_taken(&phones, 1).await;
        test.tells(NUMBER, tagged("wamid.real", "delivered", taken[0].tag())).await;
        test.workers().run_queues().await;
    };
    tokio::select! {
        () = workers.after(BURST) => panic!("the provider does not answer"),
        () = telling => {}
    }
    phones.holds().add_permits(1);
    let workers = test.workers();
    workers.run().await;
    workers.after(Duration::from_secs(130)).await;
    assert_eq!(phones.taken().len(), 2);
    assert_eq!(stands(&owner, &agent).await, ("sent".to_owned(), Value::Null));
}

#[tokio::test]
async fn what_one_worker_saw_waiting_and_another_has_sent_is_not_sent_again() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says("Hello!");
    asks(&test, "wamid.1", "Hi").await;
    for words in ["One moment.", "Done."] {
        operator_says(&owner, &agent, words).await.expect(201);
    }
    let (slow, held) = (test.workers(), phones.holds());
    let overtaking = async {
        until_taken(&phones, 2).await;
        // The first worker hangs in its first call until its claim is over; another one goes on.
        phones.holds().add_permits(10);
        test.clock.advance(Duration::from_secs(121));
        test.workers().run().await;
        assert_eq!(phones.texts(), ["Hello!", "One moment.", "Done."]);
        held.add_permits(10);
    };
    tokio::join!(slow.run(), overtaking);
    assert_eq!(phones.texts(), ["Hello!", "One moment.", "Done."]);
    let thread = thread(&owner, &agent).await;
    let last = thread["messages"].as_array().unwrap().iter().rev().take(2);
    assert!(last.map(|message| &message["meta"]["delivery"]["status"]).all(|status| status == "sent"), "{thread}");
}

#[tokio::test]
async fn what_failed_before_anything_was_sent_is_sent_later_and_is_not_unknown() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says("Hello!");
    asks(&test, "wamid.1", "Hi").await;
    operator_says(&owner, &agent, "One moment.").await.expect(201);
    let message = waiting(&test, &owner, &agent).await;
    let (table, workspace) = (&test.app.table, test.db_workspace(&owner).await.id);
    let head = store::agent::get(table, workspace, Id::from_int(agent.id).unwrap()).await.unwrap().body;
    let put = async |sealed: shared::kernel::secret::Sealed| {
        let mut unit = Unit::new();
        store::agent::put_secret(&mut unit, &head, SecretField::MetaToken, Some(sealed)).unwrap();
        table.commit(unit).await.unwrap();
    };
    let kept = store::agent::secret(table, workspace, head.id, SecretField::MetaToken).await.unwrap().unwrap();
    // Nobody can open it for a while.
    put(test.app.seal("elsewhere", &Secret::new("token")).await.unwrap()).await;
    let process = test.process(Rng::seeded(1));
    Box::pin(shared::turn::channel::run(&process, &message)).await.unwrap_err();
    put(kept.sealed.clone()).await;
    test.clock.advance(Duration::from_secs(125));
    let process = test.process(Rng::seeded(2));
    Box::pin(shared::turn::channel::run(&process, &message)).await.unwrap();
    assert_eq!(phones.texts(), ["Hello!", "One moment."]);
    assert_eq!(stands(&owner, &agent).await, ("sent".to_owned(), Value::Null));
}

/// The task to send the last message of the only conversation.
async fn waiting(test: &TestApp, owner: &Owner, agent: &Agent) -> Task {
    let id = owner.conversations(agent).await[0]["id"].as_u64().unwrap();
    let (workspace_id, conversation_id) = (test.db_workspace(owner).await.id, Id::from_int(id).unwrap());
    let thread = store::conversation::thread(&test.app.table, workspace_id, conversation_id, 1).await.unwrap().unwrap();
    Task::Send { workspace_id, conversation_id, message_id: thread.messages[0].id, unsent: None }
}

#[tokio::test]
async fn what_was_refused_for_now_is_sent_later_although_that_could_not_be_noted() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says("Hello!");
    asks(&test, "wamid.1", "Hi").await;
    operator_says(&owner, &agent, "One moment.").await.expect(201);
    let message = waiting(&test, &owner, &agent).await;
    let faults = Faults::new(Rng::seeded(1));
    let process = test.process_with(Rng::seeded(2), &faults, Arc::clone(&test.queue) as _);
    phones.answers(429, json!({"error": {"code": 130_429, "message": "Rate limit hit"}}));
    let (held, before) = (phones.holds(), phones.asked());
    let failing = async {
        while phones.asked() == before {
            tokio::task::yield_now().await;
        }
        faults.set(Rates { failed: 1_000, ..Rates::default() });
        held.add_permits(10);
    };
    let (done, ()) = tokio::join!(Box::pin(shared::turn::channel::run(&process, &message)), failing);
    done.unwrap_err();
    let workers = test.workers();
    workers.run_queues().await;
    workers.after(Duration::from_secs(125)).await;
    assert_eq!(phones.texts(), ["Hello!", "One moment."]);
    assert_eq!(stands(&owner, &agent).await, ("sent".to_owned(), Value::Null));
}

#[tokio::test]
async fn what_waits_behind_a_message_that_was_put_off_goes_out_however_many_follow() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    model.says("Hello!");
    asks(&test, "wamid.1", "Hi").await;
    for _ in 0..3 {
        phones.answers(429, json!({"error": {"code": 130_429, "message": "Rate limit hit"}}));
    }
    for words in ["One moment.", "Done."] {
        operator_says(&owner, &agent, words).await.expect(201);
    }
    let workers = test.workers();
    workers.run().await;
    for number in 0..150 {
        test.writes(NUMBER, &format!("wamid.more-{number}"), ANA, "And").await;
    }
    workers.run().await;
    for _ in 0..12 {
        workers.after(Duration::from_secs(30)).await;
    }
    assert_eq!(phones.texts(), ["Hello!", "One moment.", "Done."]);
}

#[tokio::test]
async fn a_part_that_was_sent_twice_is_as_far_as_the_better_of_both_and_mends_no_other_failure() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    phones.answers(200, json!("the answer is lost"));
    asks(&test, "wamid.1", "Hi").await;
    let tag = phones.taken()[0].tag().to_owned();
    for (id, state, want) in
        [("wamid.a", "delivered", "delivered"), ("wamid.b", "sent", "delivered"), ("wamid.c", "read", "read")]
    {
        test.tells(NUMBER, tagged(id, state, &tag)).await;
        test.workers().run().await;
        assert_eq!(stands(&owner, &agent).await, (want.to_owned(), Value::Null), "{id}");
    }
    test.tells(NUMBER, status("wamid.b", "read")).await;
    test.workers().run().await;
    model.says(&long());
    test.writes(NUMBER, "wamid.2", ANA, "Tell me all").await;
    let workers = test.workers();
    workers.run().await;
    let (held, before) = (phones.holds(), phones.asked());
    let refusing = async {
        while phones.asked() == before {
            tokio::task::yield_now().await;
        }
        phones.answers(400, json!({"error": {"code": 131_026, "message": "no"}}));
        held.add_permits(10);
    };
    tokio::join!(workers.after(BURST), refusing);
    assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!("131026")), "its second part");
    let tag = phones.taken().last().unwrap().tag().to_owned();
    test.tells(NUMBER, tagged("wamid.d", "delivered", &tag)).await;
    test.workers().run().await;
    assert_eq!(stands(&owner, &agent).await, ("failed".to_owned(), json!("131026")));
}

#[tokio::test]
async fn an_agent_without_allowance_keeps_the_message_and_says_nothing() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    let account = test.db_account(&owner).await;
    let plan = account.effective_plan().included_messages;
    let workers = test.workers();
    for number in 0..=plan {
        test.writes(NUMBER, &format!("wamid.{number}"), ANA, "Hi").await;
        workers.run_queues().await;
        test.clock.advance(BURST);
        workers.run_queues().await;
    }
    assert_eq!(phones.taken().len() as u64, plan, "the last one is not answered");
    let thread = thread(&owner, &agent).await;
    assert_eq!(thread["messages"].as_array().unwrap().last().unwrap()["role"], "user", "and it is kept");
}

async fn handoff(config: Value, connects: bool) -> (Phones, Value) {
    let model = ScriptedModel::new();
    let (test, phones) = Phones::with_app(&model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let tool = json!({"name": "send_whatsapp_handoff", "config": config});
    owner.session.post(&format!("/api/agents/{}/tools", agent.id), tool).await.expect(201);
    if connects {
        test.connects_meta(&owner, &agent, NUMBER).await;
    }
    model.calls("send_whatsapp_handoff", json!({"reason": "wants a\nrefund", "phone": "+1 555 0100"}));
    model.says("A person will write to you.");
    test.visitor(&agent).says("I want a person").await;
    let heard = model.heard();
    let shared::ports::llm::Message::ToolResult { content, .. } = heard[1].messages.last().unwrap().clone() else {
        panic!("a result")
    };
    (phones, serde_json::from_str(&content).unwrap())
}

#[tokio::test]
async fn the_team_is_told_by_a_template_or_a_text_and_the_model_is_told_the_truth() {
    let template = json!({"name": "handoff", "language": "en_US", "parameters": ["agent", "reason", "phone"]});
    let (phones, told) = handoff(json!({"phone": "+34 600 999 888", "template": template}), true).await;
    assert_eq!(told["whatsapp_sent"], true);
    let taken = phones.taken().remove(0);
    assert_eq!((&taken.body["to"], &taken.body["type"]), (&json!("34600999888"), &json!("template")));
    let parameters = ["Soporte", "wants a refund", "+1 555 0100"].map(|text| json!({"type": "text", "text": text}));
    let want = json!({"name": "handoff", "language": {"code": "en_US"},
        "components": [{"type": "body", "parameters": parameters}]});
    assert_eq!(taken.body["template"], want);
    let (phones, told) = handoff(json!({"phone": "+34 600 999 888"}), true).await;
    assert!(phones.texts()[0].contains("wants a") && told["whatsapp_sent"] == true);
    for (config, connects) in [(json!({}), true), (json!({"phone": "+34 600 999 888"}), false)] {
        let (phones, told) = handoff(config, connects).await;
        assert_eq!((phones.taken().len(), &told["whatsapp_sent"]), (0, &json!(false)));
    }
}

#[tokio::test]
async fn a_handoff_that_does_not_go_out_is_not_promised_and_a_wrong_set_up_is_refused() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    let path = format!("/api/agents/{}/tools", agent.id);
    let tool = |config: Value| json!({"name": "send_whatsapp_handoff", "config": config});
    for config in [json!({"phone": "none"}), json!({"phone": "+34600999888", "template": {"name": "x"}})] {
        owner.session.post(&path, tool(config)).await.expect(422);
    }
    owner.session.post(&path, tool(json!({"phone": "+34600999888"}))).await.expect(201);
    phones.answers(400, json!({"error": {"code": 131_047, "message": "Re-engagement message"}}));
    model.calls("send_whatsapp_handoff", json!({"reason": "refund"}));
    model.says("I passed it on.");
    asks(&test, "wamid.1", "A person, please").await;
    let shared::ports::llm::Message::ToolResult { content, .. } = model.heard()[1].messages.last().unwrap().clone()
    else {
        panic!("a result")
    };
    assert!(content.contains("did not go out") && content.contains("\"whatsapp_sent\":false"), "{content}");
    assert_eq!(phones.texts(), ["I passed it on."]);
}

#[tokio::test]
async fn an_agent_that_is_off_the_air_keeps_what_is_written_and_answers_nobody() {
    let model = ScriptedModel::new();
    let (test, phones, owner, agent) = set(&model).await;
    owner.session.post(&format!("/api/agents/{}/unpublish", agent.id), Value::Null).await.expect(200);
    asks(&test, "wamid.1", "Hi").await;
    assert_eq!((phones.taken().len(), thread(&owner, &agent).await["messages"].as_array().unwrap().len()), (0, 1));
    let old = of_meta(NUMBER, &[text("wamid.1", ANA, test.app.now(), "Hi")], &[]);
    assert_eq!(test.meta_calls(SIGNING_SECRET, &old).await.expect(200)["taken"], 1);
}
