//! `WhatsApp`: what goes out, what becomes of it, and who may write.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::whatsapp::Task;
use shared::domain::Workspace;
use shared::domain::agent::SecretField;
use shared::kernel::{Id, Rng, Secret};
use shared::ports::llm::Message;
use shared::store;
use shared::table::Unit;
use shared::table::fault::{Faults, Rates};
use tests::phones::{Taken, status};
use tests::{Agent, Owner, Phones, ScriptedModel, TestApp, Workers};

use super::whatsapp::{ANA, BURST, NUMBER, change, conversation, set};

/// An agent on a number at Meta.
struct Scene {
    test: TestApp,
    phones: Phones,
    model: ScriptedModel,
    owner: Owner,
    agent: Agent,
}

impl Scene {
    async fn new() -> Self {
        let (test, phones, model, owner, agent) = set().await;
        Self { test, phones, model, owner, agent }
    }

    /// One whom Ana has greeted, and who has answered.
    async fn greeted() -> Self {
        let scene = Self::new().await;
        scene.model.says("Hello!");
        scene.asks("wamid.1", "Hi").await;
        scene
    }

    /// One whose next answer the provider takes without saying so.
    async fn losing_an_answer(reply: &str) -> Self {
        let scene = Self::new().await;
        scene.model.says(reply);
        scene.phones.answers(200, json!("the answer is lost"));
        scene
    }

    /// Ana writes, and the message is stored; whoever is given works off the answer.
    async fn hears(&self, id: &str, words: &str) -> Workers<'_> {
        self.test.writes(NUMBER, id, ANA, words).await;
        let workers = self.test.workers();
        workers.run().await;
        workers
    }

    /// Ana writes and is answered, unless a person is to.
    async fn asks(&self, id: &str, words: &str) {
        self.hears(id, words).await.after(BURST).await;
    }

    async fn thread(&self) -> Value {
        conversation(&self.owner, &self.agent).await
    }

    /// How the last message stands, and the code of what failed.
    async fn stands(&self) -> String {
        let thread = self.thread().await;
        let delivery = &thread["messages"].as_array().unwrap().last().unwrap()["meta"]["delivery"];
        let code = delivery["error"]["code"].as_str().map(|code| format!(": {code}")).unwrap_or_default();
        format!("{}{code}", delivery["status"].as_str().unwrap())
    }

    async fn operator_says(&self, words: &str) -> tests::Answer {
        let id = self.thread().await["id"].as_u64().unwrap();
        let path = format!("/api/clients/me/agents/{}/conversations/{id}/messages", self.agent.id);
        self.owner.session.post(&path, json!({"content": words})).await
    }

    /// An operator writes all of this.
    async fn operator_writes(&self, all: &[&str]) {
        for words in all {
            self.operator_says(words).await.expect(201);
        }
    }

    /// All that waits is worked off.
    async fn works(&self) {
        self.test.workers().run().await;
    }

    /// Meta tells what became of a message, and that is worked off.
    async fn tells(&self, status: Value) {
        self.test.tells(NUMBER, status).await;
        self.works().await;
    }

    /// The same by another worker, while something else is going on: what is queued, and no more.
    async fn tells_meanwhile(&self, status: Value) {
        self.test.tells(NUMBER, status).await;
        self.test.workers().run_queues().await;
    }

    /// The tag of the last message that was taken.
    fn tag(&self) -> String {
        self.phones.taken().last().unwrap().tag().to_owned()
    }

    /// Waits until a provider has taken so many messages, whatever it answers.
    async fn until_taken(&self, count: usize) -> Vec<Taken> {
        while self.phones.taken().len() < count {
            tokio::task::yield_now().await;
        }
        self.phones.taken()
    }

    /// Waits until a provider is asked to send more than so many messages, whatever it answers.
    async fn until_asked(&self, before: usize) {
        while self.phones.asked() == before {
            tokio::task::yield_now().await;
        }
    }

    /// The task to send the last message.
    async fn waiting(&self) -> Task {
        let id = self.thread().await["id"].as_u64().unwrap();
        let (workspace_id, conversation_id) = (self.workspace().await, Id::from_int(id).unwrap());
        let thread = store::conversation::thread(&self.test.app.table, workspace_id, conversation_id, 1).await.unwrap();
        Task::Send { workspace_id, conversation_id, message_id: thread.unwrap().messages[0].id, unsent: None }
    }

    async fn workspace(&self) -> Id<Workspace> {
        self.test.db_workspace(&self.owner).await.id
    }
}

fn tagged(id: &str, state: &str, tag: &str) -> Value {
    let mut told = status(id, state);
    told["biz_opaque_callback_data"] = json!(tag);
    told
}

/// The same of one that did not arrive.
fn undeliverable(mut told: Value) -> Value {
    told["errors"] = json!([{"code": 131_026, "title": "Undeliverable"}]);
    told
}

/// How Meta answers whoever sends too much.
fn too_much() -> Value {
    json!({"error": {"code": 130_429, "message": "Rate limit hit"}})
}

/// A reply of two parts.
fn long() -> String {
    format!("{}\n\n{}", "first ".repeat(500).trim(), "second ".repeat(500).trim())
}

#[tokio::test]
async fn a_person_who_takes_over_writes_to_the_phone_and_the_agent_is_silent() {
    let scene = Scene::greeted().await;
    let made = scene.operator_says("Olivia here. How can I help?").await.expect(201);
    assert_eq!(made["meta"]["delivery"]["status"], "pending");
    scene.works().await;
    assert_eq!(scene.phones.texts(), ["Hello!", "Olivia here. How can I help?"]);
    scene.asks("wamid.2", "I want a refund").await;
    assert_eq!((scene.phones.taken().len(), scene.model.heard().len()), (2, 1), "a person answers now");
    scene.operator_writes(&["One moment.", "Done."]).await;
    scene.works().await;
    scene.works().await;
    assert_eq!(scene.phones.texts()[2..], ["One moment.", "Done."], "in order, and once");
    assert_eq!(scene.stands().await, "sent");
    let id = scene.thread().await["id"].as_u64().unwrap();
    scene.owner.takeover(&scene.agent, id, false).await;
    scene.model.says("Anything else?");
    scene.asks("wamid.3", "Thanks").await;
    assert_eq!(scene.phones.texts()[4..], ["Anything else?"]);
}

#[tokio::test]
async fn a_day_after_their_last_message_nothing_is_written_to_them() {
    let scene = Scene::new().await;
    scene.asks("wamid.1", "Hi").await;
    let open = &scene.thread().await["whatsapp"]["window_open_until"];
    assert_eq!(open, "2040-03-06T09:00:00.000Z");
    scene.test.clock.advance(Duration::from_secs(24 * 3600));
    let refused = scene.operator_says("Are you still there?").await;
    assert_eq!(refused.code(409), "whatsapp_window_closed");
    scene.works().await;
    assert_eq!(scene.phones.taken().len(), 1);
    assert_eq!(scene.thread().await["messages"].as_array().unwrap().len(), 2, "and nothing is stored");
    scene.asks("wamid.2", "Yes").await;
    scene.operator_says("Good.").await.expect(201);
    change(&scene.owner, &scene.agent, json!({"whatsapp": null})).await.expect(200);
    assert_eq!(scene.operator_says("And now?").await.code(409), "whatsapp_not_connected");
    // What was written before goes out no more, and says why.
    scene.works().await;
    assert_eq!(scene.stands().await, "failed: not_connected");
}

#[tokio::test]
async fn a_message_is_as_far_as_was_told_of_it_in_whatever_order() {
    let scene = Scene::new().await;
    // Told before the message is sent at all: nobody knows the id yet.
    scene.test.tells(NUMBER, status("wamid.out-1", "delivered")).await;
    scene.tells(status("wamid.out-1", "sent")).await;
    scene.asks("wamid.1", "Hi").await;
    assert_eq!(scene.stands().await, "delivered");
    for (state, want) in [("sent", "delivered"), ("read", "read"), ("delivered", "read"), ("failed", "read")] {
        scene.tells(status("wamid.out-1", state)).await;
        assert_eq!(scene.stands().await, want, "after {state}");
    }
    scene.asks("wamid.2", "Hello?").await;
    for told in [undeliverable(status("wamid.out-2", "failed")), status("wamid.out-2", "delivered")] {
        scene.tells(told).await;
        assert_eq!(scene.stands().await, "failed: 131026");
    }
}

#[tokio::test]
async fn a_status_that_overtakes_the_answer_of_the_send_call_is_not_lost() {
    let scene = Scene::new().await;
    let held = scene.phones.holds();
    let workers = scene.hears("wamid.1", "Hi").await;
    let telling = async {
        let taken = scene.until_taken(1).await.remove(0);
        scene.tells_meanwhile(tagged(&taken.id, "read", taken.tag())).await;
        held.add_permits(1);
    };
    tokio::join!(workers.after(BURST), telling);
    assert_eq!(scene.stands().await, "read");
    assert_eq!(scene.phones.taken().len(), 1);
}

#[tokio::test]
async fn what_a_provider_cannot_take_now_is_sent_later_and_once() {
    let scene = Scene::new().await;
    scene.phones.answers(409, json!({"error": "another send is in flight"}));
    scene.phones.answers(429, too_much());
    scene.phones.answers(503, Value::Null);
    scene.model.says("Hello!");
    let workers = scene.hears("wamid.1", "Hi").await;
    workers.after(BURST).await;
    assert_eq!((scene.phones.taken().len(), scene.stands().await.as_str()), (0, "pending"));
    // What is written meanwhile waits its turn.
    scene.operator_says("And I am Olivia.").await.expect(201);
    workers.run().await;
    for _ in 0..12 {
        workers.after(Duration::from_secs(15)).await;
    }
    assert_eq!(scene.phones.texts(), ["Hello!", "And I am Olivia."]);
    assert_eq!(scene.stands().await, "sent");
}

#[tokio::test]
async fn what_a_provider_refuses_is_not_tried_again_and_the_thread_says_why() {
    let scene = Scene::new().await;
    for (number, code, http) in [(1, 131_047, 400), (2, 190, 401), (3, 132_001, 404)] {
        scene.phones.answers(http, json!({"error": {"code": code, "message": "no"}}));
        scene.asks(&format!("wamid.{number}"), "Hi").await;
        assert_eq!(scene.stands().await, format!("failed: {code}"));
    }
    scene.test.workers().after(Duration::from_secs(3600)).await;
    assert_eq!(scene.phones.taken().len(), 0);
}

#[tokio::test]
async fn what_nobody_knows_whether_it_went_out_is_told_as_such_until_a_status_tells() {
    let scene = Scene::losing_an_answer("Hello!").await;
    scene.asks("wamid.1", "Hi").await;
    assert_eq!(scene.stands().await, "failed: unknown");
    scene.test.workers().after(Duration::from_secs(3600)).await;
    let taken = scene.phones.taken();
    assert_eq!(taken.len(), 1, "it is not sent twice");
    scene.tells(tagged("wamid.real", "delivered", taken[0].tag())).await;
    assert_eq!(scene.stands().await, "delivered");
}

#[tokio::test]
async fn nobody_moves_another_tenants_messages_by_their_tags() {
    let scene = Scene::new().await;
    scene.asks("wamid.1", "Hi").await;
    let stranger = scene.test.owner().await;
    let theirs = stranger.agent("Theirs").await;
    scene.test.connects_meta(&stranger, &theirs, "888").await;
    let taken = scene.phones.taken().remove(0);
    scene.test.tells("888", tagged(&taken.id, "failed", taken.tag())).await;
    scene.works().await;
    assert_eq!(scene.stands().await, "sent");
}

#[tokio::test]
async fn a_long_reply_is_cut_and_its_parts_go_out_in_order() {
    let scene = Scene::new().await;
    scene.model.says(&format!("**{}", long().replacen("\n\n", "**\n\n", 1)));
    scene.asks("wamid.1", "Tell me all").await;
    let texts = scene.phones.texts();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].starts_with("*first") && texts[0].ends_with("first*") && texts[1].starts_with("second"));
    scene.tells(status("wamid.out-1", "read")).await;
    assert_eq!(scene.stands().await, "sent", "its second part is");
}

#[tokio::test]
async fn a_part_of_which_a_status_told_before_its_answer_was_lost_has_not_failed() {
    let scene = Scene::losing_an_answer(&long()).await;
    let held = scene.phones.holds();
    let workers = scene.hears("wamid.1", "Tell me all").await;
    let telling = async {
        let taken = scene.until_taken(1).await;
        scene.tells_meanwhile(tagged("wamid.real", "delivered", taken[0].tag())).await;
        held.add_permits(2);
    };
    tokio::join!(workers.after(BURST), telling);
    assert_eq!(scene.phones.taken().len(), 2, "the part behind it goes out too");
    assert_eq!(scene.stands().await, "sent");
}

#[tokio::test]
async fn the_rest_of_a_reply_goes_out_once_a_status_tells_that_its_first_part_has() {
    for (later, want, taken) in
        [(Duration::from_secs(60), "sent", 2), (Duration::from_secs(24 * 3600), "failed: window_closed", 1)]
    {
        let scene = Scene::losing_an_answer(&long()).await;
        scene.asks("wamid.1", "Tell me all").await;
        assert_eq!(scene.stands().await, "failed: unknown");
        assert_eq!(scene.phones.taken().len(), 1);
        scene.test.clock.advance(later);
        scene.tells_meanwhile(tagged("wamid.real", "delivered", &scene.tag())).await;
        assert_eq!(scene.stands().await, want);
        assert_eq!(scene.phones.taken().len(), taken);
    }
}

#[tokio::test]
async fn a_reply_whose_first_part_failed_is_failed_and_nothing_follows() {
    let scene = Scene::losing_an_answer(&long()).await;
    scene.asks("wamid.1", "Tell me all").await;
    scene.tells(undeliverable(tagged("wamid.real", "failed", &scene.tag()))).await;
    assert_eq!((scene.phones.taken().len(), scene.stands().await.as_str()), (1, "failed: 131026"));
}

#[tokio::test]
async fn a_process_that_stops_between_two_parts_leaves_the_second_one_to_another() {
    let scene = Scene::new().await;
    scene.model.says(&long());
    let _held = scene.phones.holds();
    let workers = scene.hears("wamid.1", "Tell me all").await;
    let telling = async {
        let taken = scene.until_taken(1).await;
        scene.tells_meanwhile(tagged("wamid.real", "delivered", taken[0].tag())).await;
    };
    tokio::select! {
        () = workers.after(BURST) => panic!("the provider does not answer"),
        () = telling => {}
    }
    scene.phones.holds().add_permits(1);
    let workers = scene.test.workers();
    workers.run().await;
    workers.after(Duration::from_secs(130)).await;
    assert_eq!(scene.phones.taken().len(), 2);
    assert_eq!(scene.stands().await, "sent");
}

#[tokio::test]
async fn what_one_worker_saw_waiting_and_another_has_sent_is_not_sent_again() {
    let scene = Scene::greeted().await;
    scene.operator_writes(&["One moment.", "Done."]).await;
    let (slow, held) = (scene.test.workers(), scene.phones.holds());
    let overtaking = async {
        scene.until_taken(2).await;
        // The first worker hangs in its first call until its claim is over; another one goes on.
        scene.phones.holds().add_permits(10);
        scene.test.clock.advance(Duration::from_secs(121));
        scene.works().await;
        assert_eq!(scene.phones.texts(), ["Hello!", "One moment.", "Done."]);
        held.add_permits(10);
    };
    tokio::join!(slow.run(), overtaking);
    assert_eq!(scene.phones.texts(), ["Hello!", "One moment.", "Done."]);
    let thread = scene.thread().await;
    let last = thread["messages"].as_array().unwrap().iter().rev().take(2);
    assert!(last.map(|message| &message["meta"]["delivery"]["status"]).all(|status| status == "sent"), "{thread}");
}

#[tokio::test]
async fn what_failed_before_anything_was_sent_is_sent_later_and_is_not_unknown() {
    let scene = Scene::greeted().await;
    scene.operator_says("One moment.").await.expect(201);
    let message = scene.waiting().await;
    let (table, workspace) = (&scene.test.app.table, scene.workspace().await);
    let head = store::agent::get(table, workspace, Id::from_int(scene.agent.id).unwrap()).await.unwrap().body;
    let put = async |sealed: shared::kernel::secret::Sealed| {
        let mut unit = Unit::new();
        store::agent::put_secret(&mut unit, &head, SecretField::MetaToken, Some(sealed)).unwrap();
        table.commit(unit).await.unwrap();
    };
    let kept = store::agent::secret(table, workspace, head.id, SecretField::MetaToken).await.unwrap().unwrap();
    // Nobody can open it for a while.
    put(scene.test.app.seal("elsewhere", &Secret::new("token")).await.unwrap()).await;
    let process = scene.test.process(Rng::seeded(1));
    Box::pin(shared::turn::channel::run(&process, &message)).await.unwrap_err();
    put(kept.sealed.clone()).await;
    scene.test.clock.advance(Duration::from_secs(125));
    let process = scene.test.process(Rng::seeded(2));
    Box::pin(shared::turn::channel::run(&process, &message)).await.unwrap();
    assert_eq!(scene.phones.texts(), ["Hello!", "One moment."]);
    assert_eq!(scene.stands().await, "sent");
}

#[tokio::test]
async fn what_was_refused_for_now_is_sent_later_although_that_could_not_be_noted() {
    let scene = Scene::greeted().await;
    scene.operator_says("One moment.").await.expect(201);
    let message = scene.waiting().await;
    let faults = Faults::new(Rng::seeded(1));
    let process = scene.test.process_with(Rng::seeded(2), &faults, Arc::clone(&scene.test.queue) as _);
    scene.phones.answers(429, too_much());
    let (held, before) = (scene.phones.holds(), scene.phones.asked());
    let failing = async {
        scene.until_asked(before).await;
        faults.set(Rates { failed: 1_000, ..Rates::default() });
        held.add_permits(10);
    };
    let (done, ()) = tokio::join!(Box::pin(shared::turn::channel::run(&process, &message)), failing);
    done.unwrap_err();
    let workers = scene.test.workers();
    workers.run_queues().await;
    workers.after(Duration::from_secs(125)).await;
    assert_eq!(scene.phones.texts(), ["Hello!", "One moment."]);
    assert_eq!(scene.stands().await, "sent");
}

#[tokio::test]
async fn what_waits_behind_a_message_that_was_put_off_goes_out_however_many_follow() {
    let scene = Scene::greeted().await;
    for _ in 0..3 {
        scene.phones.answers(429, too_much());
    }
    scene.operator_writes(&["One moment.", "Done."]).await;
    let workers = scene.test.workers();
    workers.run().await;
    for number in 0..150 {
        scene.test.writes(NUMBER, &format!("wamid.more-{number}"), ANA, "And").await;
    }
    workers.run().await;
    for _ in 0..12 {
        workers.after(Duration::from_secs(30)).await;
    }
    assert_eq!(scene.phones.texts(), ["Hello!", "One moment.", "Done."]);
}

#[tokio::test]
async fn a_part_that_was_sent_twice_is_as_far_as_the_better_of_both_and_mends_no_other_failure() {
    let scene = Scene::losing_an_answer("Hello!").await;
    scene.asks("wamid.1", "Hi").await;
    let tag = scene.tag();
    for (id, state, want) in
        [("wamid.a", "delivered", "delivered"), ("wamid.b", "sent", "delivered"), ("wamid.c", "read", "read")]
    {
        scene.tells(tagged(id, state, &tag)).await;
        assert_eq!(scene.stands().await, want, "{id}");
    }
    scene.tells(status("wamid.b", "read")).await;
    scene.model.says(&long());
    let workers = scene.hears("wamid.2", "Tell me all").await;
    let (held, before) = (scene.phones.holds(), scene.phones.asked());
    let refusing = async {
        scene.until_asked(before).await;
        scene.phones.answers(400, json!({"error": {"code": 131_026, "message": "no"}}));
        held.add_permits(10);
    };
    tokio::join!(workers.after(BURST), refusing);
    assert_eq!(scene.stands().await, "failed: 131026", "its second part");
    scene.tells(tagged("wamid.d", "delivered", &scene.tag())).await;
    assert_eq!(scene.stands().await, "failed: 131026");
}

#[tokio::test]
async fn an_agent_without_allowance_keeps_the_message_and_says_nothing() {
    let scene = Scene::new().await;
    let account = scene.test.db_account(&scene.owner).await;
    let plan = account.effective_plan().included_messages;
    let workers = scene.test.workers();
    for number in 0..=plan {
        scene.test.writes(NUMBER, &format!("wamid.{number}"), ANA, "Hi").await;
        workers.run_queues().await;
        scene.test.clock.advance(BURST);
        workers.run_queues().await;
    }
    assert_eq!(scene.phones.taken().len() as u64, plan, "the last one is not answered");
    let thread = scene.thread().await;
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
    (phones, serde_json::from_str(&result(&model)).unwrap())
}

/// What the model was told of its call.
fn result(model: &ScriptedModel) -> String {
    match model.heard()[1].messages.last() {
        Some(Message::ToolResult { content, .. }) => content.clone(),
        other => panic!("no result: {other:?}"),
    }
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
    let scene = Scene::new().await;
    let path = format!("/api/agents/{}/tools", scene.agent.id);
    let tool = |config: Value| json!({"name": "send_whatsapp_handoff", "config": config});
    for config in [json!({"phone": "none"}), json!({"phone": "+34600999888", "template": {"name": "x"}})] {
        scene.owner.session.post(&path, tool(config)).await.expect(422);
    }
    scene.owner.session.post(&path, tool(json!({"phone": "+34600999888"}))).await.expect(201);
    scene.phones.answers(400, json!({"error": {"code": 131_047, "message": "Re-engagement message"}}));
    scene.model.calls("send_whatsapp_handoff", json!({"reason": "refund"}));
    scene.model.says("I passed it on.");
    scene.asks("wamid.1", "A person, please").await;
    let content = result(&scene.model);
    assert!(content.contains("did not go out") && content.contains("\"whatsapp_sent\":false"), "{content}");
    assert_eq!(scene.phones.texts(), ["I passed it on."]);
}

#[tokio::test]
async fn an_agent_that_is_off_the_air_keeps_what_is_written_and_answers_nobody() {
    let scene = Scene::new().await;
    scene.owner.session.post(&format!("/api/agents/{}/unpublish", scene.agent.id), Value::Null).await.expect(200);
    scene.asks("wamid.1", "Hi").await;
    assert_eq!((scene.phones.taken().len(), scene.thread().await["messages"].as_array().unwrap().len()), (0, 1));
    scene.test.writes(NUMBER, "wamid.1", ANA, "Hi").await;
}
