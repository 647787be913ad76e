//! `WhatsApp`: connecting a number, and what comes in on it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use shared::ports::queue::QueueName;
use tests::phones::{SIGNING_SECRET, of_kapso, of_meta, signature, text};
use tests::{Agent, Owner, Phones, ScriptedModel, TestApp};

pub(super) const NUMBER: &str = "106540352242922";
pub(super) const ANA: &str = "34600111222";
pub(super) const BURST: Duration = Duration::from_secs(3);

/// An agent on a number at Meta.
pub(super) async fn set() -> (TestApp, Phones, ScriptedModel, Owner, Agent) {
    let model = ScriptedModel::new();
    let (test, phones) = Phones::with_app(&model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, NUMBER).await;
    (test, phones, model, owner, agent)
}

pub(super) async fn change(owner: &Owner, agent: &Agent, config: Value) -> tests::Answer {
    owner.session.patch(&format!("/api/agents/{}", agent.id), json!({"config": config})).await
}

/// The only conversation of an agent, with its messages.
pub(super) async fn conversation(owner: &Owner, agent: &Agent) -> Value {
    let list = owner.conversations(agent).await;
    assert_eq!(list.len(), 1, "{list:?}");
    owner.conversation(agent, list[0]["id"].as_u64().unwrap()).await
}

pub(super) fn contents(conversation: &Value) -> Vec<&str> {
    let messages = conversation["messages"].as_array().unwrap();
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_line_shows_that_its_secrets_are_there_and_where_its_provider_is_to_call() {
    let (test, _phones) = Phones::with_app(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    let (meta, kapso) = (owner.agent("Meta").await, owner.agent_with(json!({"name": "Kapso"})).await);
    let shown = test.connects_meta(&owner, &meta, NUMBER).await["config"]["whatsapp"].clone();
    let want = json!({"provider": "meta", "phone_number_id": NUMBER, "has_access_token": true, "has_app_secret": true,
        "has_verify_token": true, "callback_url": format!("http://127.0.0.1:8000/hooks/whatsapp/meta/{NUMBER}")});
    assert_eq!(shown, want);
    let shown = test.connects_kapso(&owner, &kapso, "777").await["config"]["kapso"].clone();
    let want = json!({"phone_number_id": "777", "has_api_key": true, "has_webhook_secret": true,
        "callback_url": "http://127.0.0.1:8000/hooks/whatsapp/kapso/777"});
    assert_eq!(shown, want);
    let dump = test.db_dump().await;
    for secret in [SIGNING_SECRET, "key-of-777", "open sesame", "token-of-106540352242922"] {
        assert!(!dump.contains(secret), "{secret} lies in the table in clear");
        for agent in [&meta, &kapso] {
            let shown = owner.session.get(&format!("/api/agents/{}", agent.id)).await;
            assert!(!shown.text.contains(secret), "{}", shown.text);
        }
    }
}

#[tokio::test]
async fn a_number_belongs_to_whoever_connects_it_first_until_they_let_go_of_it() {
    let (test, _phones, _model, owner, agent) = set().await;
    let other = test.owner().await;
    let late = other.agent("Late").await;
    let take = json!({"whatsapp": {"phone_number_id": NUMBER}});
    assert_eq!(change(&other, &late, take.clone()).await.code(409), "whatsapp_number_taken");
    let by_kapso = json!({"kapso": {"phone_number_id": NUMBER}});
    assert_eq!(change(&other, &late, by_kapso.clone()).await.code(409), "whatsapp_number_taken");
    let new = json!({"name": "New", "config": {"kapso": {"phone_number_id": NUMBER}}});
    assert_eq!(other.session.post("/api/agents", new).await.code(409), "whatsapp_number_taken");
    let both = change(&owner, &agent, json!({"kapso": {"phone_number_id": "777"}})).await.expect(422);
    assert_eq!(both["field"], "config.whatsapp.phone_number_id", "{both}");
    // From one provider to the other in one call: it stays theirs.
    change(&owner, &agent, json!({"whatsapp": null, "kapso": {"phone_number_id": NUMBER}})).await.expect(200);
    assert_eq!(change(&other, &late, take.clone()).await.code(409), "whatsapp_number_taken");
    change(&owner, &agent, json!({"kapso": {"phone_number_id": null}})).await.expect(200);
    change(&other, &late, take).await.expect(200);
    assert_eq!(change(&owner, &agent, by_kapso).await.code(409), "whatsapp_number_taken");
    let path = format!("/api/agents/{}?confirmation=Late", late.id);
    other.session.delete(&path).await.expect(204);
    test.connects_meta(&owner, &agent, NUMBER).await;
}

#[tokio::test]
async fn a_number_that_somebody_took_without_its_key_goes_to_who_has_the_key() {
    let (test, _phones, _model, owner, agent) = set().await;
    change(&owner, &agent, json!({"whatsapp": null})).await.expect(200);
    let squatter = test.owner().await;
    let squatting = squatter.agent("Squatting").await;
    let take = json!({"whatsapp": {"phone_number_id": NUMBER}});
    change(&squatter, &squatting, take.clone()).await.expect(200);
    assert_eq!(change(&owner, &agent, take.clone()).await.code(409), "whatsapp_number_taken", "nobody showed a key");
    test.connects_meta(&owner, &agent, NUMBER).await;
    assert_eq!(change(&squatter, &squatting, take).await.code(409), "whatsapp_number_taken");
    test.comes_in(NUMBER, text("wamid.1", ANA, test.app.now(), "Hello")).await;
}

#[tokio::test]
async fn a_key_that_the_provider_refuses_is_refused_and_so_is_a_number_that_is_none() {
    let (_test, _phones, _model, owner, agent) = set().await;
    let wrong = json!({"whatsapp": {"access_token": "wrong"}});
    assert_eq!(change(&owner, &agent, wrong).await.expect(422)["field"], "config.whatsapp.access_token");
    let foreign = json!({"whatsapp": {"phone_number_id": "foreign-1", "access_token": "mine"}});
    assert_eq!(change(&owner, &agent, foreign).await.expect(422)["field"], "config.whatsapp.access_token");
    for number in ["1/2", "a b", "#1"] {
        let refused = change(&owner, &agent, json!({"whatsapp": {"phone_number_id": number}})).await.expect(422);
        assert_eq!(refused["field"], "config.whatsapp.phone_number_id", "{number}");
    }
}

#[tokio::test]
async fn meta_is_told_that_the_callback_is_ours_when_it_shows_the_agents_own_word() {
    let (test, _phones, _model, owner, agent) = set().await;
    let ask = async |number: &str, word: &str| {
        let query = format!("hub.mode=subscribe&hub.verify_token={word}&hub.challenge=1158201444");
        test.provider().get(&format!("/hooks/whatsapp/meta/{number}?{query}")).await
    };
    let answer = ask(NUMBER, "open%20sesame").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "1158201444"));
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    for (number, word) in [(NUMBER, "open"), (NUMBER, ""), ("999", "open%20sesame")] {
        assert_eq!(ask(number, word).await.status, 403, "{number} {word}");
    }
    change(&owner, &agent, json!({"whatsapp": {"verify_token": null}})).await.expect(200);
    assert_eq!(ask(NUMBER, "open%20sesame").await.status, 403);
}

#[tokio::test]
async fn a_message_is_answered_once_on_the_phone_however_often_it_is_told() {
    let (test, phones, model, owner, agent) = set().await;
    model.says("We open at 9.");
    for _ in 0..3 {
        test.writes(NUMBER, "wamid.in-1", ANA, "When do you open?").await;
    }
    let workers = test.workers();
    workers.run().await;
    assert_eq!(phones.taken().len(), 0, "more may come");
    workers.after(BURST).await;
    test.writes(NUMBER, "wamid.in-1", ANA, "When do you open?").await;
    workers.after(BURST).await;
    workers.after(Duration::from_secs(300)).await;
    let taken = phones.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!((taken[0].text(), &taken[0].body["to"]), ("We open at 9.", &json!(ANA)));
    assert_eq!(taken[0].path, format!("/meta/{NUMBER}/messages"));
    assert_eq!(taken[0].credential, format!("Bearer token-of-{NUMBER}"));
    assert_eq!(model.heard().len(), 1);
    let thread = conversation(&owner, &agent).await;
    assert_eq!(contents(&thread), ["When do you open?", "We open at 9."]);
    assert_eq!((&thread["channel"], &thread["whatsapp"]["phone"]), (&json!("whatsapp"), &json!(ANA)));
    assert_eq!(thread["messages"][1]["meta"]["delivery"], json!({"status": "sent", "error": null}));
    assert_eq!(test.db_usage(&owner).await.len(), 1, "billed as anywhere");
    let names: BTreeSet<String> = workers.events().await.into_iter().map(|event| event.kind).collect();
    for name in ["conversation.created", "message.inbound", "message.reply"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn a_burst_is_answered_once_and_a_later_message_again() {
    let (test, phones, model, owner, agent) = set().await;
    let workers = test.workers();
    for (number, words) in ["Hello", "I have a question", "Do you deliver?"].into_iter().enumerate() {
        test.writes(NUMBER, &format!("wamid.in-{number}"), ANA, words).await;
        workers.after(Duration::from_secs(1)).await;
    }
    model.says("Yes, in two days.");
    workers.after(BURST).await;
    assert_eq!(phones.texts(), ["Yes, in two days."]);
    test.writes(NUMBER, "wamid.in-9", ANA, "Thanks").await;
    model.says("You are welcome.");
    workers.run().await;
    workers.after(BURST).await;
    assert_eq!(phones.texts(), ["Yes, in two days.", "You are welcome."]);
    assert_eq!(model.heard().len(), 2);
    let thread = conversation(&owner, &agent).await;
    assert_eq!(thread["messages"][3]["meta"]["answers"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn somebody_who_types_on_and_on_is_answered_too() {
    let (test, phones, _model, _owner, _agent) = set().await;
    let workers = test.workers();
    for number in 0..14 {
        test.writes(NUMBER, &format!("wamid.in-{number}"), ANA, &format!("and {number}")).await;
        workers.after(Duration::from_secs(1)).await;
    }
    assert!(!phones.taken().is_empty(), "ten seconds are enough");
    workers.after(BURST).await;
    assert!(phones.taken().len() < 5, "{:?}", phones.texts());
}

#[tokio::test]
async fn what_kapso_tells_in_a_batch_is_stored_and_answered() {
    let (test, phones) = Phones::with_app(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_kapso(&owner, &agent, "777").await;
    let message = |number: usize, phone: &str| {
        of_kapso(
            "777",
            text(&format!("wamid.{number}"), phone, test.app.now(), &format!("message {number}")),
            "inbound",
        )
    };
    let data: Vec<Value> = vec![message(1, ANA), message(2, "34600999888"), message(3, ANA)];
    let batch = json!({"type": "whatsapp.message.received", "batch": true, "data": data});
    let taken = test.kapso_calls(SIGNING_SECRET, "whatsapp.message.received", &batch).await.expect(200);
    assert_eq!(taken["taken"], 3);
    let workers = test.workers();
    workers.run().await;
    workers.after(BURST).await;
    assert_eq!(owner.conversations(&agent).await.len(), 2);
    let taken = phones.taken();
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken.iter().all(|taken| taken.credential == "key-of-777" && taken.path == "/kapso/777/messages"));
    let to: BTreeSet<&str> = taken.iter().map(|taken| taken.body["to"].as_str().unwrap()).collect();
    assert_eq!(to, [ANA, "34600999888"].into());
}

#[tokio::test]
async fn what_is_not_signed_with_the_numbers_own_secret_is_refused_and_leaves_nothing() {
    let (test, _phones, _model, _owner, _agent) = set().await;
    let stranger = test.owner().await;
    let theirs = stranger.agent("Theirs").await;
    let line = json!({"whatsapp": {"phone_number_id": "888", "access_token": "t", "app_secret": "their-own-secret"}});
    change(&stranger, &theirs, line).await.expect(200);
    let body = of_meta(NUMBER, &[text("wamid.1", ANA, test.app.now(), "Hello")], &[]);
    for secret in ["another", "", "their-own-secret"] {
        assert_eq!(test.meta_calls(secret, &body).await.status, 401, "{secret}");
    }
    let unsigned = test.provider().post("/hooks/whatsapp/meta/888", body.clone()).await;
    assert_eq!(unsigned.code(401), "signature_invalid");
    assert!(test.queue.take(QueueName::Turn).is_empty());
    // Of a body that names both, what its secret signed is taken; the rest must come again.
    let mut both = body.clone();
    let second = of_meta("888", &[text("wamid.2", ANA, test.app.now(), "Hi")], &[]);
    both["entry"].as_array_mut().unwrap().push(second["entry"][0].clone());
    assert_eq!(test.meta_calls("their-own-secret", &both).await.code(401), "signature_invalid");
    let queued = test.queue.take(QueueName::Turn);
    assert!(queued.len() == 1 && queued[0].body.contains("wamid.2"), "{queued:?}");
}

#[tokio::test]
async fn what_kapso_did_not_sign_is_refused_and_leaves_nothing() {
    const EVENT: &str = "whatsapp.message.received";
    let (test, _phones) = Phones::with_app(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_kapso(&owner, &agent, "777").await;
    let body = of_kapso("777", text("wamid.1", ANA, test.app.now(), "Hello"), "inbound");
    let before = test.db_dump().await;
    for secret in ["another", "", "key-of-777"] {
        assert_eq!(test.kapso_calls(secret, EVENT, &body).await.code(401), "signature_invalid", "{secret}");
    }
    let right = signature(SIGNING_SECRET, &body.to_string());
    let of_another_body = signature(SIGNING_SECRET, &format!("{body} "));
    for signed in [None, Some(""), Some("0"), Some(&right[1..]), Some(of_another_body.as_str())] {
        let mut headers = vec![("content-type", "application/json"), ("x-webhook-event", EVENT)];
        headers.extend(signed.map(|signed| ("x-webhook-signature", signed)));
        // Meta's header is none of Kapso's.
        headers.push(("x-hub-signature-256", right.as_str()));
        let refused = test.provider().call_raw("POST", "/hooks/whatsapp/kapso/777", &headers, body.to_string()).await;
        assert_eq!(refused.code(401), "signature_invalid", "{signed:?}");
    }
    assert!(test.queue.take(QueueName::Turn).is_empty());
    test.workers().run_queues().await;
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
    // Without the secret nothing can be believed, whatever it is signed with.
    change(&owner, &agent, json!({"kapso": {"webhook_secret": null}})).await.expect(200);
    for secret in [SIGNING_SECRET, ""] {
        assert_eq!(test.kapso_calls(secret, EVENT, &body).await.code(401), "signature_invalid", "{secret}");
    }
    test.connects_kapso(&owner, &agent, "777").await;
    assert_eq!(test.kapso_calls(SIGNING_SECRET, EVENT, &body).await.expect(200)["taken"], 1);
}

#[tokio::test]
async fn a_callback_about_a_number_of_nobody_is_taken_and_left_alone() {
    let (test, _phones, _model, owner, agent) = set().await;
    let body = of_meta("999", &[text("wamid.1", ANA, test.app.now(), "Hello")], &[]);
    assert_eq!(test.meta_calls("whatever", &body).await.expect(200)["taken"], 0);
    // At the other provider it is another line, whose secret this one is not.
    let message = of_kapso(NUMBER, text("wamid.1", ANA, test.app.now(), "Hello"), "inbound");
    let taken = test.kapso_calls(SIGNING_SECRET, "whatsapp.message.received", &message).await.expect(200);
    assert_eq!(taken["taken"], 0);
    change(&owner, &agent, json!({"whatsapp": null})).await.expect(200);
    let body = of_meta(NUMBER, &[text("wamid.1", ANA, test.app.now(), "Hello")], &[]);
    assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 0);
    let broken = test.provider().post_raw("/hooks/whatsapp/meta/1", "application/json", "{").await;
    assert_eq!(broken.code(400), "malformed_body");
    assert!(test.queue.take(QueueName::Turn).is_empty());
}

#[tokio::test]
async fn people_are_known_by_their_user_id_and_a_phone_may_come_to_be_anothers() {
    let (test, phones, _model, owner, agent) = set().await;
    let workers = test.workers();
    let write = async |id: &str, user: Option<&str>, phone: Option<&str>| {
        let mut message = text(&id.replace(' ', "-"), ANA, test.app.now(), id);
        (message["from"], message["from_user_id"]) = (json!(phone), json!(user));
        test.comes_in(NUMBER, message).await;
        workers.run().await;
        workers.after(BURST).await;
    };
    write("by phone", None, Some(ANA)).await;
    write("with both", Some("ES.1"), Some(ANA)).await;
    write("without a phone", Some("ES.1"), None).await;
    let thread = conversation(&owner, &agent).await;
    assert_eq!(thread["messages"].as_array().unwrap().len(), 6, "one conversation");
    assert_eq!((&thread["whatsapp"]["user_id"], &thread["whatsapp"]["phone"]), (&json!("ES.1"), &json!(ANA)));
    write("another person", Some("ES.2"), Some(ANA)).await;
    write("who hides", Some("ES.3"), None).await;
    assert_eq!(owner.conversations(&agent).await.len(), 3);
    let last = phones.taken().pop().unwrap();
    assert_eq!((&last.body["recipient"], &last.body["to"]), (&json!("ES.3"), &Value::Null));
}

#[tokio::test]
async fn a_number_that_another_person_has_now_goes_over_to_a_contact_of_theirs() {
    let (test, _phones, _model, owner, agent) = set().await;
    let write = async |id: &str, user: Option<&str>, name: &str| {
        let mut message = text(id, ANA, test.app.now(), "Hi");
        message["from_user_id"] = json!(user);
        let mut body = of_meta(NUMBER, &[message], &[]);
        let who = json!({"profile": {"name": name}, "wa_id": ANA, "user_id": user});
        body["entry"][0]["changes"][0]["value"]["contacts"] = json!([who]);
        assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 1);
        test.workers().run_queues().await;
    };
    // Known by the phone first, and by the user id only later.
    write("wamid.1", None, "Ana").await;
    write("wamid.2", Some("ES.1"), "Ana").await;
    write("wamid.3", Some("ES.2"), "Bea").await;
    write("wamid.4", Some("ES.2"), "Bea").await;
    let dump = test.db_dump().await;
    let mut known: Vec<_> =
        dump.of("contact").map(|contact| [&contact["name"], &contact["user_id"], &contact["phone"]]).collect();
    known.sort_by_key(|contact| contact[0].to_string());
    assert_eq!(known[0], [&json!("Ana"), &json!("whatsapp:ES.1"), &Value::Null]);
    assert_eq!(known[1], [&json!("Bea"), &json!("whatsapp:ES.2"), &json!(ANA)]);
    assert_eq!((known.len(), dump.of("contact_guard").count()), (2, 3), "two users and a phone");
    let of: BTreeSet<_> = dump.of("conversation").map(|head| head["contact_id"].to_string()).collect();
    assert_eq!(of.len(), 2, "each has a conversation");
    // Whoever has the number now is erased by it, and nobody else.
    let erased = owner.session.post("/api/contacts/erase", json!({"phone": ANA})).await.expect(200);
    assert_eq!(erased["conversations"], 1);
    let left = conversation(&owner, &agent).await;
    assert_eq!(left["whatsapp"]["user_id"], "ES.1");
    let other = json!({"agent_id": agent.id, "user_id": "whatsapp:ES.1"});
    assert_eq!(owner.session.post("/api/contacts/erase", other).await.expect(200)["conversations"], 1);
    let dump = test.db_dump().await;
    assert_eq!((dump.of("contact").count(), dump.of("contact_guard").count()), (0, 0));
}

#[tokio::test]
async fn the_last_message_is_the_latest_one_in_whatever_order_they_are_worked_off() {
    let (test, _phones, _model, owner, agent) = set().await;
    test.clock.advance(Duration::from_secs(3600));
    test.writes(NUMBER, "wamid.0", ANA, "Hi").await;
    test.workers().run_queues().await;
    test.clock.advance(Duration::from_secs(600));
    let now = test.app.now();
    for late in 0..5_u32 {
        let at = shared::kernel::Time::from_millis(now.millis() - i64::from(late) * 60_000);
        test.comes_in(NUMBER, text(&format!("wamid.late-{late}"), ANA, at, "And")).await;
    }
    let at_once = test.queue.take(QueueName::Turn).into_iter().map(async |message| {
        let task = serde_json::from_str(&message.body).unwrap();
        Box::pin(shared::turn::channel::run(&test.app, &task)).await.unwrap();
    });
    futures_util::future::join_all(at_once).await;
    let open = conversation(&owner, &agent).await["whatsapp"]["window_open_until"].clone();
    assert_eq!(open, json!((now + Duration::from_secs(24 * 3600)).to_string()));
}
