//! Images of messages to the builder: shown to models that see.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::ports::llm::{Message, Request};
use tests::builder::BUILDER;
use tests::{Frame, Options, Owner, Persona, ScriptedModel, TestApp};

const PNG: &str = "data:image/png;base64,iVBORw0KGgpyZXN0";

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
