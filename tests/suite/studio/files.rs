//! Downloading the files that came in with messages.

use std::time::Duration;

use serde_json::{Value, json};
use shared::app::{App, Parts};
use shared::kernel::Rng;
use shared::ports::objects::Objects;
use tests::phones::{SIGNING_SECRET, of_meta};
use tests::{Agent, Owner, Phones, ScriptedModel, TestApp};

const NUMBER: &str = "106540352242922";

/// An agent on a number to which Ana has sent a file of this size, and then one that could not be had.
async fn set(size: usize) -> (TestApp, Owner, Agent, Value) {
    let (test, phones) = Phones::with_app(&ScriptedModel::new()).await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, NUMBER).await;
    phones.keeps("media-1", "text/csv; charset=iso-8859-1", "a;b\n".repeat(size / 4).as_bytes());
    let at = test.app.now().seconds().to_string();
    let sent = |id: &str, media: &str| {
        json!({"from": "34600111222", "id": id, "timestamp": at, "type": "document",
            "document": {"id": media, "filename": "../Año \"1\".csv"}})
    };
    let body = of_meta(NUMBER, &[sent("wamid.1", "media-1"), sent("wamid.2", "media-2")], &[]);
    assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 2);
    test.workers().run_queues().await;
    let list = owner.conversations(&agent).await;
    let thread = owner.conversation(&agent, list[0]["id"].as_u64().unwrap()).await;
    (test, owner, agent, thread)
}

fn link(thread: &Value) -> String {
    thread["messages"][0]["meta"]["file"]["link"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn whoever_may_read_a_message_downloads_its_file_and_nobody_else() {
    let (test, owner, agent, thread) = set(104).await;
    let [kept, lost] = [0, 1].map(|at| &thread["messages"][at]["meta"]["file"]);
    assert_eq!((&kept["id"], &kept["type"]), (&thread["messages"][0]["id"], &json!("document")));
    assert_eq!((&kept["bytes"], &kept["name"]), (&json!(104), &json!("../Año \"1\".csv")));
    assert!(lost["link"].is_null() && lost["missing"].is_string(), "{lost}");
    let path = link(&thread);
    let (_, reader) = owner.client_with(&test, &[&agent], &["messages:read"]).await;
    for persona in [&owner.session, &reader] {
        let answer = persona.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "a;b\n".repeat(26).as_str()));
        let header = |name: &str| answer.headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), "text/csv; charset=iso-8859-1");
        let disposition = "attachment; filename=\"_A_o _1_.csv\"; filename*=UTF-8''_A%C3%B1o%20_1_.csv";
        assert_eq!(header("content-disposition"), disposition);
        assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff", "private, no-store"));
        assert_eq!(header("content-encoding"), "identity", "else the Lambda library writes it anew as UTF-8");
    }
    let (_, blind) = owner.client_with(&test, &[&agent], &["leads"]).await;
    assert_eq!(blind.get(&path).await.code(403), "scope_missing");
    let other = owner.agent_with(json!({"name": "Ventas"})).await;
    let (_, elsewhere) = owner.client_with(&test, &[&other], &["messages"]).await;
    let stranger = test.owner().await;
    for persona in [&elsewhere, &stranger.session] {
        assert_eq!(persona.get(&path).await.code(404), "not_found");
    }
    assert_eq!(test.anonymous().get(&path).await.status, 401);
    // The message of the lost one, one that has none, one that is not there, and another agent's or conversation's path.
    let (conversation, file) = (thread["id"].to_string(), kept["id"].to_string());
    let nowhere = [
        path.replace(&file, &thread["messages"][1]["id"].to_string()),
        path.replace(&file, "4503599627370505"),
        path.replace(&format!("agents/{}", agent.id), &format!("agents/{}", other.id)),
        path.replace(&conversation, "4503599627370505"),
    ];
    for path in nowhere {
        assert_eq!(owner.session.get(&path).await.code(404), "not_found", "{path}");
    }
}

#[tokio::test]
async fn what_was_erased_cannot_be_downloaded_any_more() {
    let (test, owner, _, thread) = set(104).await;
    let path = link(&thread);
    let conversation = path.split("/files/").next().unwrap();
    let before = owner.session.get(&path).await;
    assert_eq!(before.status, 200);
    let id = thread["id"].as_u64().unwrap();
    owner.session.delete(&format!("{conversation}?confirmation={id}")).await.expect(204);
    test.workers().run_queues().await;
    assert_eq!(owner.session.get(&path).await.code(404), "not_found");
    let workspace = test.db_workspace(&owner).await.id;
    assert!(test.app.objects.list(workspace, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_too_large_for_an_answer_is_had_at_a_signed_address() {
    let (test, owner, _, thread) = set(5_000_000).await;
    let path = link(&thread);
    // The objects of a test have no addresses, nor has its server a limit.
    let whole = owner.session.get(&path).await;
    assert_eq!((whole.status.as_u16(), whole.text.len()), (200, 5_000_000));
    let process = test.process(Rng::seeded(9));
    let app = App::new(Parts {
        table: process.table.clone(),
        clock: process.clock.clone(),
        rng: process.rng.clone(),
        config: process.config.clone(),
        secrets: process.secrets.clone(),
        queue: process.queue.clone(),
        journal: process.journal.clone(),
        mailer: process.mailer.clone(),
        objects: Objects::service("http://127.0.0.1:9", "bucket", ("id", "key")).unwrap(),
        llm: process.llm.clone(),
        egress: process.egress.clone(),
        polar: None,
    });
    let router = shared::http::serve::surface(&app, &studio::SURFACE, studio::SURFACE.groups);
    let answer = owner.session.on(router).get(&path).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (302, ""));
    assert_eq!(answer.headers["cache-control"], "private, no-store");
    let address = answer.headers["location"].to_str().unwrap();
    let object = thread["messages"][0]["meta"]["file"]["object"].as_str().unwrap();
    assert!(address.starts_with(&format!("http://127.0.0.1:9/bucket/{object}?")), "{address}");
    let minutes = format!("X-Amz-Expires={}&", Duration::from_secs(300).as_secs());
    for part in ["X-Amz-Signature=", minutes.as_str(), "response-content-disposition=attachment"] {
        assert!(address.contains(part), "{address} has no {part}");
    }
}
