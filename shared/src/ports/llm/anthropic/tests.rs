//! Anthropic's protocol against a mock on loopback.

use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, header, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::ports::llm::tests::{
    Heard, IMAGE, always, body, calls, cause, first_then, models, named, request, sent_with_images,
};
use crate::ports::llm::{Completion, Finish, Llm, Message, NoTokens, ToolCall, Usage};

fn anthropic_start() -> Value {
    json!({"type": "message_start", "message": {"model": "c-1-2026", "usage": {"input_tokens": 10,
        "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30, "output_tokens": 1}}})
}

fn block(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn block_delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn anthropic_end(reason: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4}}}),
        json!({"type": "message_stop"}),
    ]
}

fn anthropic_text(text: &str, reason: &str) -> ResponseTemplate {
    let said = [
        anthropic_start(),
        json!({"type": "ping"}),
        block(0, json!({"type": "text", "text": ""})),
        block_delta(0, json!({"type": "text_delta", "text": text})),
        json!({"type": "content_block_stop", "index": 0}),
    ];
    named(&[said.as_slice(), &anthropic_end(reason)].concat())
}

#[tokio::test]
async fn anthropic_text_is_streamed_and_counted_in_the_same_sense() {
    let server = MockServer::start().await;
    let expected = json!({"model": "m-1", "max_tokens": 300, "stream": true, "system": "You are Luna.",
        "tools": [{"name": "capture_lead", "input_schema": {"type": "object"}}]});
    Mock::given(path("/v1/messages"))
        .and(header("x-api-key", "sk-ant-configured"))
        .and(header("anthropic-version", "2026-10-21"))
        .and(body_partial_json(expected))
        .respond_with(anthropic_text("Hello", "end_turn"))
        .mount(&server)
        .await;
    let heard = Heard::default();
    let completion = models(&server.uri()).complete(&request("anthropic"), &heard).await.unwrap();
    assert_eq!(heard.tokens(), ["Hello"]);
    assert_eq!((completion.model.as_str(), completion.finish), ("c-1-2026", Finish::Stop));
    assert_eq!(completion.usage, Usage { tokens_in: 60, tokens_out: 9, cached_in: 30, reasoning_out: 4 });
    assert!(body(&server).await.get("temperature").is_none());
}

#[tokio::test]
async fn anthropic_sampling_is_sent_under_the_old_version_only() {
    let server = always(anthropic_text("Hi", "end_turn")).await;
    let mut models = models(&server.uri());
    models.config.anthropic_version = "2023-06-01".into();
    models.complete(&request("anthropic"), &NoTokens).await.unwrap();
    assert_eq!(body(&server).await["temperature"], 0.7);
}

#[tokio::test]
async fn anthropic_tool_calls_are_put_together() {
    let server = always(named(
        &[
            [anthropic_start(), block(0, json!({"type": "tool_use", "id": "t1", "name": "capture_lead", "input": {}}))]
                .as_slice(),
            &[
                block_delta(0, json!({"type": "input_json_delta", "partial_json": ""})),
                block_delta(0, json!({"type": "input_json_delta", "partial_json": "{\"email\": \"a"})),
                block_delta(0, json!({"type": "input_json_delta", "partial_json": "@b.io\"}"})),
                block(1, json!({"type": "tool_use", "id": "t2", "name": "now", "input": {}})),
                block(2, json!({"type": "tool_use", "id": "t3", "name": "cut", "input": {}})),
                block_delta(2, json!({"type": "input_json_delta", "partial_json": "{\"a\""})),
            ],
            &anthropic_end("tool_use"),
        ]
        .concat(),
    ))
    .await;
    let completion = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap();
    let arguments: Vec<Value> = completion.tool_calls.iter().map(|call| call.arguments.clone()).collect();
    assert_eq!(arguments, [json!({"email": "a@b.io"}), json!({}), json!("{\"a\"")]);
    assert_eq!((completion.tool_calls[0].id.as_str(), completion.finish), ("t1", Finish::ToolCalls));
}

#[tokio::test]
async fn anthropic_gets_all_results_of_a_round_in_one_message() {
    let server = always(anthropic_text("Done", "end_turn")).await;
    let call = |id: &str, arguments| ToolCall { id: id.into(), name: "capture_lead".into(), arguments };
    let result = |id: &str, is_error| Message::ToolResult {
        call_id: id.into(),
        name: "capture_lead".into(),
        content: "{}".into(),
        is_error,
    };
    let mut request = request("anthropic");
    request.messages = vec![
        Message::assistant("Welcome!"),
        Message::user("Hi"),
        Message::Assistant {
            content: String::new(),
            tool_calls: vec![call("a", json!({"x": 1})), call("b", json!("{cut"))],
            kept: None,
        },
        result("a", false),
        Message::user("and this"),
        result("b", true),
        Message::user(" "),
    ];
    models(&server.uri()).complete(&request, &NoTokens).await.unwrap();
    let expected = json!([
        {"role": "user", "content": [{"type": "text", "text": "(The conversation begins.)"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Welcome!"}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "capture_lead", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "capture_lead", "input": {"invalid_arguments": "{cut"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "{}"},
            {"type": "tool_result", "tool_use_id": "b", "content": "{}", "is_error": true},
            {"type": "text", "text": "and this"}]},
    ]);
    assert_eq!(body(&server).await["messages"], expected);
}

#[tokio::test]
async fn anthropic_overload_is_retried_and_a_spend_limit_is_not() {
    let overload = json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}});
    let server = MockServer::start().await;
    first_then(&server, named(&[anthropic_start(), overload.clone()]), anthropic_text("Hi", "max_tokens")).await;
    let completion = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap();
    assert_eq!((completion.content.as_str(), completion.finish), ("Hi", Finish::Length));
    let server = MockServer::start().await;
    first_then(&server, ResponseTemplate::new(529).set_body_json(&overload), anthropic_text("Hi", "refusal")).await;
    let completion = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap();
    assert_eq!((calls(&server).await, completion.finish), (2, Finish::Filtered));
    let spent = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "m",
        "details": {"error_code": "enforced_spend_limit_reached"}}});
    let server = always(ResponseTemplate::new(429).set_body_json(spent)).await;
    let error = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap_err();
    assert!(cause(&error).contains("enforced_spend_limit_reached"));
    assert_eq!(calls(&server).await, 1);
}

#[tokio::test]
async fn anthropic_without_usage_is_estimated_and_cut_streams_fail() {
    let said = [block(0, json!({"type": "text", "text": "Hi"})), json!({"type": "message_stop"})];
    let server = always(named(&said)).await;
    let completion = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap();
    assert!(completion.usage.tokens_in > 5 && completion.usage.tokens_out == 1, "{:?}", completion.usage);
    let server = always(named(&[anthropic_start(), block(0, json!({"type": "text", "text": "Hi"}))])).await;
    let error = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap_err();
    assert!(cause(&error).contains("ended before"));
    assert_eq!(calls(&server).await, 1);
}

#[tokio::test]
async fn a_base_url_of_anthropic_may_have_its_version() {
    let server = always(anthropic_text("Hi", "end_turn")).await;
    let mut request = request("anthropic");
    request.target.base_url = Some(format!("{}/proxy/v1/", server.uri()).parse().unwrap());
    models("http://127.0.0.1:9").complete(&request, &NoTokens).await.unwrap();
    let received = &server.received_requests().await.unwrap()[0];
    assert_eq!(received.url.path(), "/proxy/v1/messages");
    assert!(!received.headers.contains_key("x-api-key"));
}

#[tokio::test]
async fn anthropic_thinking_goes_back_signed_and_unchanged_within_a_tool_loop() {
    let thought = [
        anthropic_start(),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        block_delta(0, json!({"type": "thinking_delta", "thinking": "They want "})),
        block_delta(0, json!({"type": "thinking_delta", "thinking": "the time."})),
        block_delta(0, json!({"type": "signature_delta", "signature": "EqQBCg…"})),
        block(1, json!({"type": "redacted_thinking", "data": "EmwKAh…"})),
        block(2, json!({"type": "text", "text": ""})),
        block(3, json!({"type": "text", "text": "One "})),
        block_delta(3, json!({"type": "text_delta", "text": "moment."})),
        block(4, json!({"type": "tool_use", "id": "t1", "name": "now", "input": {}})),
        block_delta(4, json!({"type": "input_json_delta", "partial_json": "{\"zone\""})),
    ];
    let thought = named(&[thought.as_slice(), &anthropic_end("tool_use")].concat());
    let server = MockServer::start().await;
    first_then(&server, thought, anthropic_text("It is noon.", "end_turn")).await;
    let (models, mut request, heard) = (models(&server.uri()), request("anthropic"), Heard::default());
    let completion = models.complete(&request, &heard).await.unwrap();
    assert_eq!(heard.tokens().concat(), "One moment.", "nobody is told what it thinks");
    assert_eq!(
        (completion.content.as_str(), &completion.tool_calls[0].arguments),
        ("One moment.", &json!("{\"zone\""))
    );
    let Completion { content, tool_calls, kept, .. } = completion;
    request.messages.push(Message::Assistant { content, tool_calls, kept });
    let (call_id, name) = ("t1".into(), "now".into());
    request.messages.push(Message::ToolResult { call_id, name, content: "no".into(), is_error: true });
    models.complete(&request, &NoTokens).await.unwrap();
    request.target.model = "m-2".into();
    models.complete(&request, &NoTokens).await.unwrap();
    let asked = server.received_requests().await.unwrap();
    let said = |at: usize| asked[at].body_json::<Value>().unwrap()["messages"][1]["content"].clone();
    let (text, call) = (
        json!({"type": "text", "text": "One moment."}),
        json!({"type": "tool_use", "id": "t1", "name": "now", "input": {"invalid_arguments": "{\"zone\""}}),
    );
    let signed = json!({"type": "thinking", "thinking": "They want the time.", "signature": "EqQBCg…"});
    let redacted = json!({"type": "redacted_thinking", "data": "EmwKAh…"});
    assert_eq!(said(1), json!([signed, redacted, text, call]));
    assert_eq!(said(2), json!([text, call]), "it means nothing to another model");
}

#[tokio::test]
async fn anthropic_blocks_of_an_unknown_shape_are_passed_over() {
    let odd = [
        anthropic_start(),
        block(0, json!("text")),
        block_delta(0, json!({"type": "thinking_delta", "thinking": 7})),
        block(1, json!({"type": "hologram", "text": "not shown"})),
        block_delta(1, json!({"type": "hologram_delta", "text": "not shown"})),
        block(2, json!({"type": "text", "text": "Hi"})),
    ];
    let server = always(named(&[odd.as_slice(), &anthropic_end("end_turn")].concat())).await;
    let completion = models(&server.uri()).complete(&request("anthropic"), &NoTokens).await.unwrap();
    assert_eq!((completion.content.as_str(), completion.tool_calls.len()), ("Hi", 0));
}

#[tokio::test]
async fn anthropic_gets_images_as_blocks_before_the_text() {
    let server = always(anthropic_text("A dot.", "end_turn")).await;
    let body = sent_with_images(&models(&server.uri()), &server, "anthropic").await;
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}});
    let expected = json!([
        {"role": "user", "content": [image, image, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A dot."}]},
        {"role": "user", "content": [image]},
    ]);
    assert_eq!(body["messages"], expected);
}
