//! Images of messages to the builder: given whole or uploaded before, and shown to models that see.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::clock;
use shared::app::upload::{MAX_BYTES, MAX_HELD};
use shared::domain::Role;
use shared::ports::llm::{Message, Request};
use tests::builder::{BUILDER, PNG, UPLOADS};
use tests::{Frame, Options, Owner, Persona, ScriptedModel, TestApp};

const GIF: &str = "data:image/gif;base64,R0lGODlhcmVzdA==";

async fn of_provider(provider: &str, more: Vec<(&'static str, String)>) -> (TestApp, Owner, ScriptedModel) {
    let model = ScriptedModel::new();
    let variables = [vec![("CHATIA_BUILDER_PROVIDER", provider.to_owned())], more].concat();
    let test = TestApp::with(Options { llm: Some(Arc::new(model.clone())), variables, ..Options::default() }).await;
    let owner = test.owner().await;
    (test, owner, model)
}

/// An owner whose builder is a model that sees.
async fn seeing() -> (TestApp, Owner, ScriptedModel) {
    of_provider("openai", Vec::new()).await
}

/// The types of the images that a request shows.
fn shown(request: &Request) -> Vec<&'static str> {
    let images = request.messages.iter().flat_map(|message| match message {
        Message::User { images, .. } => images.as_slice(),
        _ => &[],
    });
    images.map(|image| image.media_type()).collect()
}

fn text(frames: &[Frame]) -> String {
    let texts = frames.iter().filter(|frame| frame.name == "text_delta");
    texts.map(|frame| frame.data["text"].as_str().unwrap()).collect()
}

/// What a message that is refused on its images is told.
async fn refused(persona: &Persona, images: Value) -> Value {
    let answer = persona.post(BUILDER, json!({"message": "See", "images": images})).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let told = answer.json();
    assert_eq!(told["field"], "images", "{told}");
    told
}

/// What the bucket holds of an owner's workspace.
async fn objects(test: &TestApp, owner: &Owner) -> Vec<String> {
    test.app.objects.list(test.db_workspace(owner).await.id, 100).await.unwrap()
}

/// An image of so many bytes.
fn gif_of(size: usize) -> String {
    // Four characters stand for three bytes.
    format!("data:image/gif;base64,R0lGODlh{}", "A".repeat((size - 6) / 3 * 4))
}

#[tokio::test]
async fn images_are_shown_to_the_model_and_nothing_is_fetched() {
    let (test, owner, model) = seeing().await;
    let frames = test.builds(&owner.session, json!({"message": "Like this.", "images": [PNG, PNG]})).await;
    assert_eq!(shown(&model.heard()[0]), ["image/png", "image/png"]);
    assert_eq!(text(&frames), "you said: Like this.");
    let thread = frames[0].data["thread_id"].as_str().unwrap();
    let stored = owner.session.get(&format!("/api/builder/threads/{thread}")).await.expect(200);
    assert_eq!(stored["messages"][0]["images"], 2);
    assert!(!test.db_dump().await.contains("iVBORw0KGgp"), "they are not kept");
    let large = format!("data:image/png;base64,{}", "A".repeat(3 * 1024 * 1024));
    for images in [json!(["https://example.com/a.png"]), json!([PNG, PNG, PNG, PNG, PNG]), json!([large])] {
        refused(&owner.session, images).await;
    }
    let huge = json!({"message": "See", "images": ["A".repeat(5 * 1024 * 1024)]});
    assert_eq!(owner.session.post(BUILDER, huge).await.status, 413);
}

#[tokio::test]
async fn an_upload_is_named_in_messages_by_its_workspace_until_it_expires_and_then_nothing_is_left_of_it() {
    let (test, owner, model) = seeing().await;
    let stored = owner.session.post(UPLOADS, json!({"data_url": PNG})).await.expect(201);
    assert_eq!((&stored["content_type"], &stored["size"]), (&json!("image/png"), &json!(12)));
    let expires = test.app.now() + Duration::from_secs(24 * 3600);
    assert_eq!(stored["expires_at"], json!(expires));
    let id = stored["id"].as_str().unwrap().to_owned();
    let editor = test.db_member(&owner, Role::Editor).await;
    test.builds(&editor, json!({"message": "Like these.", "images": [GIF, id, GIF]})).await;
    assert_eq!(shown(&model.heard()[0]), ["image/gif", "image/png", "image/gif"], "in their order");
    assert_eq!(objects(&test, &owner).await.len(), 1);

    let stranger = test.owner().await;
    let foreign = refused(&stranger.session, json!([id])).await;
    let never = refused(&owner.session, json!(["obj_00000000001"])).await;
    let no_id = refused(&owner.session, json!(["obj_../../other"])).await;
    test.clock.advance(Duration::from_secs(24 * 3600));
    let expired = refused(&owner.again().await, json!([id])).await;
    let same = |told: &Value| (told["code"].clone(), told["detail"].clone(), told["fields"].clone());
    for told in [&never, &no_id, &expired] {
        assert_eq!(same(told), same(&foreign));
    }
    assert!(foreign.to_string().contains("POST /api/builder/uploads"), "{foreign}");

    test.workers().after(Duration::from_secs(3600)).await;
    assert_eq!(objects(&test, &owner).await, Vec::<String>::new(), "its bytes are gone");
    assert_eq!(clock::tick(&test.app).await.unwrap().closed, 0);
    let left: Vec<String> = test.db_dump().await.0.into_keys().filter(|key| key.contains("upload#")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_is_no_image_or_too_large_is_not_uploaded_and_nothing_is_stored() {
    let (test, owner, _) = seeing().await;
    let before = test.db_dump().await;
    let svg = "data:image/png;base64,PHN2ZyB4bWxucz0i";
    for data_url in [svg, "https://example.com/a.png", "data:image/png,abc", "", &gif_of(MAX_BYTES + 3)] {
        let answer = owner.session.post(UPLOADS, json!({"data_url": data_url})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (422, &json!("data_url")), "{}", answer.text);
    }
    let huge = json!({"data_url": gif_of(4 * 1024 * 1024)});
    assert_eq!(owner.session.post(UPLOADS, huge).await.status, 413);
    let changed = test.db_dump().await.changes_since(&before);
    assert!(changed.iter().all(|key| key.contains("RL#")), "{changed:?}");
    assert!(objects(&test, &owner).await.is_empty());
    let (viewer, key) = (test.db_member(&owner, Role::Viewer).await, owner.key().await);
    assert_eq!(viewer.post(UPLOADS, json!({"data_url": PNG})).await.code(403), "forbidden");
    assert_eq!(key.post(UPLOADS, json!({"data_url": PNG})).await.code(403), "forbidden");
}

#[tokio::test]
async fn the_largest_upload_is_taken_once_by_its_key_and_images_are_bounded_together() {
    let (test, owner, model) = seeing().await;
    let (large, headers) = (json!({"data_url": gif_of(MAX_BYTES)}), [("idempotency-key", "upload-1")]);
    let first = owner.session.call("POST", UPLOADS, &headers, Some(large.clone())).await.expect(201);
    let again = owner.session.call("POST", UPLOADS, &headers, Some(large)).await;
    assert_eq!((again.json(), again.headers["idempotent-replayed"].to_str().unwrap()), (first.clone(), "true"));
    assert_eq!((&first["size"], objects(&test, &owner).await.len()), (&json!(MAX_BYTES), 1));
    test.builds(&owner.session, json!({"message": "This.", "images": [first["id"]]})).await;
    assert_eq!(shown(&model.heard()[0]), ["image/gif"]);
    let told = refused(&owner.session, json!([first["id"], gif_of(300_000)])).await;
    assert!(told.to_string().contains("3 MB together"), "{told}");
    refused(&owner.session, json!([first["id"], first["id"]])).await;
}

#[tokio::test]
async fn a_workspace_holds_so_many_uploads_and_one_that_is_deleted_makes_room() {
    let (test, owner, _) = seeing().await;
    let mut last = String::new();
    for _ in 0..MAX_HELD {
        // Ten a minute.
        test.clock.advance(Duration::from_secs(6));
        last = owner.upload(PNG).await;
    }
    test.clock.advance(Duration::from_secs(60));
    let full = owner.session.post(UPLOADS, json!({"data_url": PNG})).await;
    assert_eq!(full.code(409), "upload_limit_reached");
    assert_eq!(objects(&test, &owner).await.len(), MAX_HELD);
    let place = format!("{UPLOADS}/{last}");
    let stranger = test.owner().await;
    assert_eq!(stranger.session.delete(&place).await.code(404), "not_found");
    assert_eq!(owner.session.delete(&place).await.status, 204);
    assert_eq!(owner.session.delete(&place).await.code(404), "not_found");
    assert_eq!(objects(&test, &owner).await.len(), MAX_HELD - 1);
    refused(&owner.session, json!([last])).await;
    owner.upload(GIF).await;
    // Room is made by time, too.
    test.clock.advance(Duration::from_secs(24 * 3600));
    owner.again().await.post(UPLOADS, json!({"data_url": PNG})).await.expect(201);
}

#[tokio::test]
async fn uploads_at_the_same_time_are_all_held() {
    let (test, owner, model) = seeing().await;
    let (one, two, three) = tokio::join!(owner.upload(PNG), owner.upload(GIF), owner.upload(PNG));
    test.builds(&owner.session, json!({"message": "These.", "images": [one, two, three]})).await;
    assert_eq!(shown(&model.heard()[0]), ["image/png", "image/gif", "image/png"]);
}

#[tokio::test]
async fn a_model_that_does_not_see_gets_no_images_and_the_person_is_told_so() {
    let (test, owner, model) = of_provider("offline", Vec::new()).await;
    let id = owner.upload(PNG).await;
    for (message, told) in [
        ("An assistant that looks like this, please.", "cannot see images"),
        ("Un asistente como este, por favor.", "no puede ver imágenes"),
    ] {
        model.says("Done.");
        let frames = test.builds(&owner.session, json!({"message": message, "images": [id, GIF]})).await;
        let said = text(&frames);
        assert!(said.contains(told) && said.ends_with("\n\nDone."), "{said}");
        let heard = model.heard();
        let request = heard.last().unwrap();
        assert!(shown(request).is_empty());
        assert!(request.system.contains("2 came with the last message"), "{}", request.system);
    }
    let frames = test.builds(&owner.session, json!({"message": "Without any."})).await;
    assert_eq!(text(&frames), "you said: Without any.");
}

#[tokio::test]
async fn the_model_that_stands_in_is_shown_images_only_if_it_sees() {
    for (provider, sees) in [("anthropic", true), ("offline", false)] {
        let fallback = |name: &'static str, given: &str| (name, given.to_owned());
        let more = vec![fallback("CHATIA_FALLBACK_PROVIDER", provider), fallback("CHATIA_FALLBACK_MODEL", "second-1")];
        let (test, owner, model) = of_provider("openai", more).await;
        model.fails();
        model.says("From the second.");
        let frames = test.builds(&owner.session, json!({"message": "Like this.", "images": [PNG]})).await;
        let heard = model.heard();
        assert_eq!((shown(&heard[0]).len(), shown(&heard[1]).len()), (1, usize::from(sees)), "{provider}");
        assert_eq!(text(&frames).contains("cannot see images"), !sees, "{provider}");
    }
}

#[tokio::test]
async fn a_repeat_with_other_images_is_no_repeat_and_one_follows_its_run_when_the_upload_is_gone() {
    let (test, owner, model) = seeing().await;
    let message = |id: &str, images: Value| json!({"message": "This.", "images": images, "client_message_id": id});
    let first = test.builds(&owner.session, message("client-message-000001", json!([PNG]))).await;
    let again = test.builds(&owner.session, message("client-message-000001", json!([PNG]))).await;
    assert_eq!((again[0].id.as_str(), model.heard().len()), (first[0].id.as_str(), 1));
    let other = owner.session.post(BUILDER, message("client-message-000001", json!([GIF]))).await;
    assert_eq!(other.code(422), "idempotency_mismatch");
    let (one, two) = (owner.upload(PNG).await, owner.upload(PNG).await);
    let first = test.builds(&owner.session, message("client-message-000002", json!([one]))).await;
    let other = owner.session.post(BUILDER, message("client-message-000002", json!([two]))).await;
    assert_eq!(other.code(422), "idempotency_mismatch");
    test.clock.advance(Duration::from_secs(60));
    owner.session.delete(&format!("{UPLOADS}/{one}")).await.expect(204);
    let again = test.builds(&owner.session, message("client-message-000002", json!([one]))).await;
    assert_eq!((again[0].id.as_str(), model.heard().len()), (first[0].id.as_str(), 2));
}
