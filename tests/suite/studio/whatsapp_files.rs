//! Files that come in by `WhatsApp`: fetched, kept, shown to models that see, and lost only with their reason.

use std::time::Duration;

use serde_json::{Value, json};
use shared::kernel::Id;
use shared::ports::objects::Objects;
use shared::ports::queue::QueueName;
use tests::phones::{SIGNING_SECRET, of_kapso, of_meta, status, text};
use tests::{Agent, Owner, Phones, ScriptedModel, TestApp};

use super::whatsapp::{ANA, BURST, NUMBER, contents, conversation, set};

#[tokio::test]
async fn a_file_is_fetched_kept_and_named_on_its_message() {
    let (test, phones, model, owner, agent) = set().await;
    let jpeg = [&[0xff, 0xd8, 0xff, 0xe0][..], &[7; 100]].concat();
    phones.keeps("media-1", "image/jpeg", &jpeg);
    phones.keeps("media-2", "image/jpeg", &vec![0; 6 * 1024 * 1024]);
    let image = |id: &str, media: &str| {
        json!({"from": ANA, "id": id, "timestamp": test.app.now().seconds().to_string(), "type": "image",
            "image": {"id": media, "mime_type": "image/jpeg", "caption": "Is this broken?"}})
    };
    let body = of_meta(NUMBER, &[image("wamid.1", "media-1"), image("wamid.2", "media-2")], &[]);
    assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 2);
    let workers = test.workers();
    workers.run().await;
    workers.after(BURST).await;
    let thread = conversation(&owner, &agent).await;
    assert_eq!(contents(&thread)[..2], ["[image] Is this broken?"; 2]);
    let kept = &thread["messages"][0]["meta"]["file"];
    assert_eq!((&kept["type"], &kept["mime"], &kept["bytes"]), (&json!("image"), &json!("image/jpeg"), &json!(104)));
    let stored = test.app.objects.get(kept["object"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored, jpeg);
    let large = &thread["messages"][1]["meta"]["file"];
    assert_eq!((&large["object"], &large["missing"]), (&Value::Null, &json!("it has more than 5 MB")));
    let workspace: Id<shared::domain::Workspace> = test.db_workspace(&owner).await.id;
    assert_eq!(test.app.objects.list(workspace, 10).await.unwrap().len(), 1);
    assert!(kept["object"].as_str().unwrap().starts_with(&Objects::of(workspace)));
    assert_eq!(model.heard().len(), 1);
}

fn image(test: &TestApp, id: &str, image: &Value) -> Value {
    let at = test.app.now().seconds().to_string();
    json!({"from": ANA, "id": id, "timestamp": at, "type": "image", "image": image})
}

#[tokio::test]
async fn a_file_that_a_provider_cannot_give_just_then_is_asked_for_again_and_the_message_waits() {
    let (test, phones, _model, owner, agent) = set().await;
    phones.keeps("media-1", "image/jpeg", &[0xff, 0xd8, 0xff, 0xe0, 7]);
    let sent = image(&test, "wamid.1", &json!({"id": "media-1", "caption": "Look"}));
    test.comes_in(NUMBER, sent).await;
    phones.fails_file(429);
    phones.fails_file(503);
    let workers = test.workers();
    workers.run().await;
    assert!(owner.conversations(&agent).await.is_empty(), "nothing is stored without it");
    workers.after(Duration::from_secs(5)).await;
    workers.after(Duration::from_secs(30)).await;
    let thread = conversation(&owner, &agent).await;
    assert_eq!(contents(&thread), ["[image] Look"]);
    let file = &thread["messages"][0]["meta"]["file"];
    assert_eq!((&file["bytes"], &file["missing"]), (&json!(5), &Value::Null));
}

#[tokio::test]
async fn a_file_that_cannot_be_had_after_all_tries_is_told_as_lost_and_its_message_is_kept() {
    // One that passes, and one that does not.
    for (status, tries) in [(503, 5), (404, 1)] {
        let (test, phones, _model, owner, agent) = set().await;
        phones.keeps("media-1", "image/jpeg", &[0xff, 0xd8, 0xff, 0xe0, 7]);
        for _ in 0..tries {
            phones.fails_file(status);
        }
        let sent = image(&test, "wamid.1", &json!({"id": "media-1", "caption": "Look"}));
        test.comes_in(NUMBER, sent).await;
        let workers = test.workers();
        workers.run().await;
        for number in 1..tries {
            assert!(owner.conversations(&agent).await.is_empty(), "after {number} tries");
            workers.after(Duration::from_secs(300)).await;
        }
        let thread = conversation(&owner, &agent).await;
        assert_eq!(contents(&thread)[0], "[image] Look");
        let file = &thread["messages"][0]["meta"]["file"];
        let want = format!("the provider does not say where it is (status {status})");
        assert_eq!((&file["bytes"], &file["missing"]), (&Value::Null, &json!(want)));
        assert_eq!(phones.downloads(), 0);
    }
}

#[tokio::test]
async fn a_file_whose_agent_goes_while_it_is_fetched_is_not_kept() {
    let (test, phones, _model, owner, agent) = set().await;
    phones.keeps("media-1", "image/jpeg", &[0xff, 0xd8, 0xff, 0xe0, 7]);
    let sent = image(&test, "wamid.1", &json!({"id": "media-1"}));
    test.comes_in(NUMBER, sent).await;
    let (workers, held) = (test.workers(), phones.holds_files());
    let deleting = async {
        while phones.downloads() == 0 {
            tokio::task::yield_now().await;
        }
        let path = format!("/api/agents/{}?confirmation={}", agent.id, agent.name);
        owner.session.delete(&path).await.expect(204);
        held.add_permits(1);
    };
    tokio::join!(workers.run(), deleting);
    let workspace = test.db_workspace(&owner).await.id;
    assert_eq!(test.app.objects.list(workspace, 10).await.unwrap(), Vec::<String>::new());
    assert_eq!(test.db_dump().await.of("message").count(), 0);
}

#[tokio::test]
async fn a_file_whose_message_was_stored_without_it_meanwhile_is_not_kept() {
    let (test, phones, _model, owner, agent) = set().await;
    phones.keeps("media-1", "image/jpeg", &[0xff, 0xd8, 0xff, 0xe0, 7]);
    let sent = image(&test, "wamid.1", &json!({"id": "media-1"}));
    test.comes_in(NUMBER, sent).await;
    let queued = test.queue.take(QueueName::Turn).remove(0);
    let mut task: Value = serde_json::from_str(&queued.body).unwrap();
    let slow = serde_json::from_value(task.clone()).unwrap();
    task["tries"] = json!(4);
    let last_try = serde_json::from_value(task).unwrap();
    let held = phones.holds_files();
    let overtaking = async {
        while phones.downloads() == 0 {
            tokio::task::yield_now().await;
        }
        phones.fails_file(503);
        Box::pin(shared::turn::channel::run(&test.app, &last_try)).await.unwrap();
        held.add_permits(1);
    };
    let (done, ()) = tokio::join!(Box::pin(shared::turn::channel::run(&test.app, &slow)), overtaking);
    done.unwrap();
    let thread = conversation(&owner, &agent).await;
    assert_eq!(thread["messages"][0]["meta"]["file"]["object"], Value::Null);
    let workspace = test.db_workspace(&owner).await.id;
    assert_eq!(test.app.objects.list(workspace, 10).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_provider_calls_the_type_of_a_file_is_taken_only_if_a_header_can_have_it() {
    let (test, phones, _model, owner, agent) = set().await;
    for (number, told) in ["image/jpeg\r\nX-Own: 1", &"x".repeat(101), "imagen/ñ", ""].into_iter().enumerate() {
        phones.keeps(&format!("media-{number}"), told, &[7]);
        let sent = image(&test, &format!("wamid.{number}"), &json!({"id": format!("media-{number}")}));
        test.comes_in(NUMBER, sent).await;
        test.workers().run_queues().await;
        let thread = conversation(&owner, &agent).await;
        assert_eq!(thread["messages"][number]["meta"]["file"]["mime"], "application/octet-stream", "{told:?}");
    }
}

#[tokio::test]
async fn what_is_written_under_a_file_is_kept_although_the_file_has_no_id() {
    let (test, _phones, _model, owner, agent) = set().await;
    let captions = [json!({"caption": "Is this broken?"}), json!({"id": "not an id", "caption": "And this?"})];
    for (number, own) in captions.iter().enumerate() {
        test.comes_in(NUMBER, image(&test, &format!("wamid.{number}"), own)).await;
        test.workers().run_queues().await;
    }
    let thread = conversation(&owner, &agent).await;
    assert_eq!(contents(&thread), ["[image] Is this broken?", "[image] And this?"]);
}

#[tokio::test]
async fn somebody_who_was_erased_leaves_no_file_and_is_answered_when_they_write_again() {
    let (test, phones, _model, owner, agent) = set().await;
    phones.keeps("media-1", "image/jpeg", &[0xff, 0xd8, 0xff, 0xe0, 7]);
    let workers = test.workers();
    let write = async |message: Value| {
        let mut message = message;
        message["from_user_id"] = json!("ES.1");
        test.comes_in(NUMBER, message).await;
        workers.run().await;
        workers.after(BURST).await;
    };
    let at = test.app.now().seconds().to_string();
    write(json!({"from": ANA, "id": "wamid.1", "timestamp": at, "type": "image",
        "image": {"id": "media-1", "mime_type": "image/jpeg", "caption": "I am Ana"}}))
    .await;
    let workspace = test.db_workspace(&owner).await.id;
    assert_eq!(test.app.objects.list(workspace, 10).await.unwrap().len(), 1);
    let erased = owner.session.post("/api/contacts/erase", json!({"phone": ANA})).await.expect(200);
    assert_eq!(erased, json!({"conversations": 1, "leads": 0, "next_cursor": null}));
    workers.run().await;
    assert!(test.app.objects.list(workspace, 10).await.unwrap().is_empty());
    let dump = test.db_dump().await;
    assert_eq!((dump.of("contact").count(), dump.of("contact_guard").count(), dump.of("message").count()), (0, 0, 0));
    let before = phones.taken().len();
    write(text("wamid.2", ANA, test.app.now(), "Hello again")).await;
    assert_eq!(phones.taken().len(), before + 1);
    assert_eq!(contents(&conversation(&owner, &agent).await)[0], "Hello again");
}

#[tokio::test]
async fn a_model_that_sees_is_shown_the_image_and_another_reads_its_mark() {
    for (provider, sees) in [("openai", 1), ("offline", 0)] {
        let (test, phones, model, owner, agent) = set().await;
        let path = format!("/api/agents/{}", agent.id);
        owner.session.patch(&path, json!({"provider": provider})).await.expect(200);
        phones.keeps("media-1", "image/jpeg", &[&[0xff, 0xd8, 0xff, 0xe0][..], &[7; 100]].concat());
        let image = json!({"from": ANA, "id": "wamid.1", "timestamp": "1767225600", "type": "image",
            "image": {"id": "media-1"}});
        let now = text("wamid.2", ANA, test.app.now(), "What is this?");
        let body = of_meta(NUMBER, &[image, now], &[]);
        assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 2);
        let workers = test.workers();
        workers.run().await;
        workers.after(BURST).await;
        let heard = model.heard().remove(0);
        let shared::ports::llm::Message::User { content, images } = &heard.messages[0] else { panic!("a message") };
        assert_eq!((content.as_str(), images.len()), ("[image]", sees), "{provider}");
    }
}

/// An agent on a number at Kapso.
async fn at_kapso() -> (TestApp, Phones, ScriptedModel, Owner, Agent) {
    let model = ScriptedModel::new();
    let (test, phones) = Phones::with_app(&model).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_kapso(&owner, &agent, NUMBER).await;
    (test, phones, model, owner, agent)
}

/// Kapso tells something of a message.
async fn kapso_tells(test: &TestApp, event: &str, message: Value, direction: &str) {
    let event = format!("whatsapp.message.{event}");
    let body = of_kapso(NUMBER, message, direction);
    assert_eq!(test.kapso_calls(SIGNING_SECRET, &event, &body).await.expect(200)["taken"], 1);
}

#[tokio::test]
async fn a_file_that_comes_in_through_kapso_is_fetched_by_kapsos_own_address_and_kept() {
    let (test, phones, _model, owner, agent) = at_kapso().await;
    let jpeg = [&[0xff, 0xd8, 0xff, 0xe0][..], &[7; 100]].concat();
    phones.keeps("media-1", "image/jpeg", &jpeg);
    phones.keeps("media-2", "application/pdf", b"%PDF-1.7");
    phones.keeps("media-3", "audio/ogg", b"OggS");
    phones.keeps("media-4", "image/jpeg", &vec![0; 6 * 1024 * 1024]);
    let message = |number: u32, kind: &str, own: Value| {
        json!({"from": ANA, "id": format!("wamid.{number}"), "timestamp": test.app.now().seconds().to_string(),
            "type": kind, kind: own})
    };
    let mut voice = of_kapso(NUMBER, message(3, "audio", json!({"id": "media-3", "voice": true})), "inbound");
    voice["message"]["kapso"]["transcript"] = json!({"text": "Call me"});
    let data = json!([
        of_kapso(NUMBER, message(1, "image", json!({"id": "media-1", "caption": "Is this broken?"})), "inbound"),
        of_kapso(NUMBER, message(2, "document", json!({"id": "media-2", "filename": "offer.pdf"})), "inbound"),
        voice,
        of_kapso(NUMBER, message(4, "image", json!({"id": "media-4"})), "inbound"),
    ]);
    let batch = json!({"type": "whatsapp.message.received", "batch": true, "data": data});
    let taken = test.kapso_calls(SIGNING_SECRET, "whatsapp.message.received", &batch).await.expect(200);
    assert_eq!(taken["taken"], 4);
    test.workers().run_queues().await;
    let thread = conversation(&owner, &agent).await;
    let words = ["[image] Is this broken?", "[document: offer.pdf]", "[voice message] Call me", "[image]"];
    assert_eq!(contents(&thread)[..4], words);
    let kept = |at: usize| thread["messages"][at]["meta"]["file"].clone();
    for (at, mime, bytes) in [(0, "image/jpeg", 104), (1, "application/pdf", 8), (2, "audio/ogg", 4)] {
        assert_eq!((&kept(at)["mime"], &kept(at)["bytes"]), (&json!(mime), &json!(bytes)), "{}", kept(at));
    }
    let stored = test.app.objects.get(kept(0)["object"].as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored, jpeg);
    assert_eq!((&kept(3)["object"], &kept(3)["missing"]), (&Value::Null, &json!("it has more than 5 MB")));
    assert_eq!(phones.downloads(), 3, "Kapso said how large the last one is");
}

#[tokio::test]
async fn a_file_that_kapso_cannot_give_just_then_is_asked_for_again() {
    let (test, phones, _model, owner, agent) = at_kapso().await;
    phones.keeps("media-1", "image/jpeg", &[0xff, 0xd8, 0xff, 0xe0, 7]);
    phones.fails_file(429);
    kapso_tells(&test, "received", image(&test, "wamid.1", &json!({"id": "media-1"})), "inbound").await;
    let workers = test.workers();
    workers.run().await;
    assert!(owner.conversations(&agent).await.is_empty(), "nothing is stored without it");
    workers.after(Duration::from_secs(5)).await;
    let thread = conversation(&owner, &agent).await;
    assert_eq!(thread["messages"][0]["meta"]["file"]["bytes"], 5);
}

#[tokio::test]
async fn what_kapso_tells_of_an_answer_is_how_far_it_has_come() {
    let (test, phones, model, owner, agent) = at_kapso().await;
    let workers = test.workers();
    for (number, told) in [(1, vec!["sent", "delivered", "read", "delivered"]), (2, vec!["failed", "delivered"])] {
        model.says("Hello!");
        kapso_tells(&test, "received", text(&format!("wamid.{number}"), ANA, test.app.now(), "Hi"), "inbound").await;
        workers.run().await;
        workers.after(BURST).await;
        let taken = phones.taken().pop().unwrap();
        let mut message = json!({"id": taken.id, "timestamp": "2214550800", "to": ANA, "type": "text"});
        for state in told {
            let mut one = status(&taken.id, state);
            if state == "failed" {
                one["errors"] = json!([{"code": 131_026, "title": "Undeliverable"}]);
            }
            message["kapso"] = json!({"direction": "outbound", "origin": "cloud_api", "statuses": [one]});
            let body = json!({"message": message, "phone_number_id": NUMBER,
                "conversation": {"id": "c-1", "phone_number_id": NUMBER}});
            let event = format!("whatsapp.message.{state}");
            assert_eq!(test.kapso_calls(SIGNING_SECRET, &event, &body).await.expect(200)["taken"], 1);
            workers.run().await;
        }
    }
    let thread = conversation(&owner, &agent).await;
    let delivery = |at: usize| thread["messages"][at]["meta"]["delivery"].clone();
    assert_eq!(delivery(1), json!({"status": "read", "error": null}));
    let failed = (delivery(3)["status"].clone(), delivery(3)["error"]["code"].clone());
    assert_eq!(failed, (json!("failed"), json!("131026")), "and a later word changes nothing");
    assert!(phones.taken().iter().all(|taken| taken.credential == format!("key-of-{NUMBER}")));
}
