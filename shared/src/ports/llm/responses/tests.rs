//! The Responses protocol against a mock on loopback.

use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, header, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::kernel::Secret;
use crate::ports::llm::tests::{
    Heard, IMAGE, always, body, calls, cause, first_then, models as chat, named, request, sent_with_images,
};
use crate::ports::llm::{Finish, Kept, Llm, Message, Models, NoTokens, OpenAiApi, Probe, Refusal, ToolCall, Usage};

fn models(server: &str) -> Models {
    let mut models = chat(server);
    models.config.openai_api = OpenAiApi::Responses;
    models
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "resp_1", "model": "m-1-2026", "status": "in_progress",
        "output": []}, "sequence_number": 0})
}

fn text_delta(text: &str) -> Value {
    json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
        "delta": text, "logprobs": [], "obfuscation": "x3kq"})
}

fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

fn done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn arguments_delta(index: u64, delta: &str) -> Value {
    json!({"type": "response.function_call_arguments.delta", "item_id": "fc", "output_index": index, "delta": delta})
}

fn function_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": name, "arguments": arguments,
        "status": "completed"})
}

fn reasoning(seal: Value) -> Value {
    json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal})
}

fn message(text: &str) -> Value {
    let part = json!({"type": "output_text", "text": text, "annotations": []});
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]})
}

/// The last event, with the whole response.
fn end(status: &str, output: Value, more: Value) -> Value {
    let mut response = json!({"id": "resp_1", "model": "m-1-2026", "status": status, "output": output, "usage": {
        "input_tokens": 40, "input_tokens_details": {"cached_tokens": 32}, "output_tokens": 25,
        "output_tokens_details": {"reasoning_tokens": 20}, "total_tokens": 65}});
    response.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({"type": format!("response.{status}"), "response": response})
}

fn text_answer() -> ResponseTemplate {
    named(&[created(), text_delta("Hi"), end("completed", json!([message("Hi")]), json!({}))])
}

fn tool_answer(seal: Value) -> ResponseTemplate {
    let output = json!([reasoning(seal), message("One moment."), function_call("call_a", "now", "{}")]);
    let text = json!({"type": "response.output_text.delta", "output_index": 1, "delta": "One moment."});
    named(&[created(), text, end("completed", output, json!({}))])
}

#[tokio::test]
async fn text_is_streamed_and_counted_and_nothing_is_stored_at_the_provider() {
    let server = MockServer::start().await;
    let expected = json!({"model": "m-1", "stream": true, "store": false, "max_output_tokens": 300,
        "include": ["reasoning.encrypted_content"], "temperature": 0.7, "instructions": "You are Luna.",
        "input": [{"type": "message", "role": "user", "content": "Hi there"}],
        "tools": [{"type": "function", "name": "capture_lead", "parameters": {"type": "object"}, "strict": false}]});
    let events = [
        created(),
        json!({"type": "response.in_progress", "response": {"model": "m-1-2026"}}),
        added(0, json!({"type": "message", "id": "msg_1", "content": []})),
        json!({"type": "response.content_part.added", "output_index": 0, "part": {"type": "output_text", "text": ""}}),
        text_delta("Hel"),
        text_delta("lo ñ"),
        json!({"type": "response.output_text.done", "output_index": 0, "text": "Hello ñ"}),
        done(0, message("Hello ñ")),
        end("completed", json!([message("Hello ñ")]), json!({})),
        // Nothing is waited for or read behind the last event.
        text_delta("never"),
    ];
    Mock::given(path("/v1/responses"))
        .and(header("authorization", "Bearer sk-configured"))
        .and(body_partial_json(expected))
        .respond_with(named(&events))
        .mount(&server)
        .await;
    let heard = Heard::default();
    let completion = models(&server.uri()).complete(&request("openai"), &heard).await.unwrap();
    assert_eq!(heard.tokens(), ["Hel", "lo ñ"]);
    assert_eq!((completion.content.as_str(), completion.finish), ("Hello ñ", Finish::Stop));
    assert_eq!(completion.usage, Usage { tokens_in: 40, tokens_out: 25, cached_in: 32, reasoning_out: 20 });
    assert_eq!((completion.model.as_str(), completion.kept), ("m-1-2026", None));
}

#[tokio::test]
async fn a_server_that_sends_no_deltas_and_little_else_is_understood() {
    let whole = json!({"type": "response.completed", "response": {"output": [message("All at once."),
        {"type": "function_call", "name": "now", "arguments": ""}]}});
    let server = always(named(&[whole])).await;
    let heard = Heard::default();
    let completion = models(&server.uri()).complete(&request("openai"), &heard).await.unwrap();
    assert_eq!((heard.tokens().concat().as_str(), completion.content.as_str()), ("All at once.", "All at once."));
    let call = ToolCall { id: "call_1_0".into(), name: "now".into(), arguments: json!({}) };
    assert_eq!((completion.tool_calls, completion.model.as_str()), (vec![call], "m-1"));
    assert!(completion.usage.tokens_in > 10 && completion.usage.tokens_out > 0, "estimated: {:?}", completion.usage);
}

#[tokio::test]
async fn tool_calls_are_put_together_by_their_place_in_the_output() {
    let begun = |id: &str, name: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": ""});
    let server = always(named(&[
        created(),
        added(1, begun("call_a", "capture_lead")),
        added(2, begun("call_b", "now")),
        arguments_delta(1, "{\"email\":"),
        arguments_delta(2, ""),
        arguments_delta(1, "\"a@b.io\"}"),
        done(1, function_call("call_a", "capture_lead", "{\"email\":\"a@b.io\"}")),
        added(3, begun("call_c", "cut")),
        arguments_delta(3, "{\"a\": \"b"),
        end("incomplete", json!([]), json!({"incomplete_details": {"reason": "max_output_tokens"}})),
    ]))
    .await;
    let completion = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap();
    let call = |id: &str, name: &str, arguments| ToolCall { id: id.into(), name: name.into(), arguments };
    let expected = [
        call("call_a", "capture_lead", json!({"email": "a@b.io"})),
        call("call_b", "now", json!({})),
        call("call_c", "cut", json!("{\"a\": \"b")),
    ];
    assert_eq!(completion.tool_calls, expected);
    assert_eq!((completion.finish, completion.kept), (Finish::Length, None));
}

#[tokio::test]
async fn calls_and_results_are_items_of_the_input() {
    let server = always(text_answer()).await;
    let mut request = request("openai");
    let call = ToolCall { id: "a".into(), name: "now".into(), arguments: json!({"x": 1}) };
    let result =
        |is_error| Message::ToolResult { call_id: "a".into(), name: "now".into(), content: "no".into(), is_error };
    request.messages = vec![
        Message::Assistant { content: "Wait.".into(), tool_calls: vec![call], kept: None },
        result(true),
        result(false),
        Message::assistant("ok"),
    ];
    models(&server.uri()).complete(&request, &NoTokens).await.unwrap();
    let expected = json!([
        {"type": "message", "role": "assistant", "content": "Wait."},
        {"type": "function_call", "call_id": "a", "name": "now", "arguments": "{\"x\":1}"},
        {"type": "function_call_output", "call_id": "a", "output": "ERROR: no"},
        {"type": "function_call_output", "call_id": "a", "output": "no"},
        {"type": "message", "role": "assistant", "content": "ok"},
    ]);
    assert_eq!(body(&server).await["input"], expected);
}

/// The input of the round after an answer.
async fn next_input(answer: ResponseTemplate, model_then: &str) -> Value {
    let server = MockServer::start().await;
    first_then(&server, answer, text_answer()).await;
    let (models, mut request) = (models(&server.uri()), request("openai"));
    let completion = models.complete(&request, &NoTokens).await.unwrap();
    let (content, tool_calls, kept) = (completion.content, completion.tool_calls, completion.kept);
    request.messages.push(Message::Assistant { content, tool_calls, kept });
    let (call_id, name) = ("call_a".into(), "now".into());
    request.messages.push(Message::ToolResult { call_id, name, content: "12:00".into(), is_error: false });
    request.target.model = model_then.into();
    models.complete(&request, &NoTokens).await.unwrap();
    server.received_requests().await.unwrap()[1].body_json::<Value>().unwrap()["input"].clone()
}

#[tokio::test]
async fn sealed_reasoning_goes_back_unchanged_and_in_its_place_within_a_tool_loop() {
    let input = next_input(tool_answer(json!("gAAAAA…sealed")), "m-1").await;
    let expected = json!([
        {"type": "message", "role": "user", "content": "Hi there"},
        reasoning(json!("gAAAAA…sealed")),
        message("One moment."),
        function_call("call_a", "now", "{}"),
        {"type": "function_call_output", "call_id": "call_a", "output": "12:00"},
    ]);
    assert_eq!(input, expected);
}

#[tokio::test]
async fn reasoning_goes_back_neither_without_its_seal_nor_to_another_model() {
    let plain = json!([
        {"type": "message", "role": "user", "content": "Hi there"},
        {"type": "message", "role": "assistant", "content": "One moment."},
        {"type": "function_call", "call_id": "call_a", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_a", "output": "12:00"},
    ]);
    assert_eq!(next_input(tool_answer(Value::Null), "m-1").await, plain);
    assert_eq!(next_input(tool_answer(json!("gAAAAA…sealed")), "m-2").await, plain);
}

#[test]
fn what_is_kept_is_for_the_model_that_wrote_it() {
    let mut target = request("openai").target;
    let kept = Kept::new(&target, Vec::new());
    assert!(kept.is_of(&target));
    target.provider = "other".into();
    assert!(!kept.is_of(&target));
}

#[tokio::test]
async fn a_model_that_cannot_reason_is_asked_again_without_reasoning() {
    let refusal = json!({"error": {"message": "Encrypted content is not supported with this model.",
        "type": "invalid_request_error", "param": "include", "code": null}});
    let server = MockServer::start().await;
    first_then(&server, ResponseTemplate::new(400).set_body_json(refusal.clone()), text_answer()).await;
    assert_eq!(models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap().content, "Hi");
    let asked: Vec<Value> =
        server.received_requests().await.unwrap().iter().map(|request| request.body_json().unwrap()).collect();
    assert!(asked[0].get("include").is_some() && asked[1].get("include").is_none());
    assert_eq!((asked.len(), &asked[1]["input"]), (2, &asked[0]["input"]));
    let stubborn = always(ResponseTemplate::new(400).set_body_json(refusal)).await;
    models(&stubborn.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert_eq!(calls(&stubborn).await, 2, "once more, not for ever");
    let other = json!({"error": {"message": "m", "type": "invalid_request_error", "param": "input", "code": null}});
    let other = always(ResponseTemplate::new(400).set_body_json(other)).await;
    models(&other.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert_eq!(calls(&other).await, 1);
}

#[tokio::test]
async fn why_an_answer_ended_is_told() {
    let reason = |reason: &str| json!({"incomplete_details": {"reason": reason}});
    let refusal = json!({"type": "response.refusal.delta", "output_index": 0, "delta": "I can't."});
    let table = [
        ("completed", json!({}), text_delta("Hi"), Finish::Stop),
        ("incomplete", reason("max_output_tokens"), text_delta("Hi"), Finish::Length),
        ("incomplete", reason("content_filter"), text_delta("Hi"), Finish::Filtered),
        ("completed", json!({}), refusal, Finish::Filtered),
    ];
    for (status, more, said, finish) in table {
        let server = always(named(&[created(), said.clone(), end(status, json!([]), more)])).await;
        let completion = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap();
        assert_eq!((completion.finish, completion.content.as_str()), (finish, said["delta"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_failure_after_http_200_is_judged_by_its_code() {
    let failed = |code: &str| end("failed", json!([]), json!({"error": {"code": code, "message": "Hi there"}}));
    let bare = |code: &str| json!({"type": "error", "code": code, "message": "Hi there", "param": null});
    let nested = |code: &str| json!({"type": "error", "error": {"code": code, "message": "Hi there"}});
    let forms: [&dyn Fn(&str) -> Value; 3] = [&failed, &bare, &nested];
    for form in forms {
        let server = MockServer::start().await;
        first_then(&server, named(&[created(), form("server_error")]), text_answer()).await;
        assert_eq!(models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap().content, "Hi");
        for (said, code) in [(None, "insufficient_quota"), (None, "invalid_prompt"), (Some("He"), "server_error")] {
            let events: Vec<Value> = [created()].into_iter().chain(said.map(text_delta)).chain([form(code)]).collect();
            let server = always(named(&events)).await;
            let error = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
            assert_eq!(cause(&error), format!("model provider: the stream failed: {code}"));
            assert_eq!(calls(&server).await, 1, "{code}");
        }
    }
}

#[tokio::test]
async fn the_setting_holds_for_the_configured_server_only() {
    let server = always(text_answer()).await;
    let mut request = request("openai");
    request.target.api_key = Some(Secret::new("sk-own"));
    models(&server.uri()).complete(&request, &NoTokens).await.unwrap();
    for provider in ["openai", "my-server"] {
        request.target.base_url = Some(format!("{}/own/v1", server.uri()).parse().unwrap());
        request.target.provider = provider.into();
        models("http://127.0.0.1:9").complete(&request, &NoTokens).await.unwrap_err();
    }
    let asked = server.received_requests().await.unwrap();
    let paths: Vec<&str> = asked.iter().map(|request| request.url.path()).collect();
    assert_eq!(paths[0], "/v1/responses");
    assert!(paths[1..].iter().all(|path| *path == "/own/v1/chat/completions"), "{paths:?}");
}

#[tokio::test]
async fn a_key_is_tried_with_as_few_tokens_as_the_protocol_takes() {
    let cut = json!({"incomplete_details": {"reason": "max_output_tokens"}});
    let server = always(named(&[created(), end("incomplete", json!([]), cut)])).await;
    assert_eq!(models(&server.uri()).probe(&request("openai").target).await, Probe::Works);
    assert_eq!(body(&server).await["max_output_tokens"], 16);
    let server = always(ResponseTemplate::new(401)).await;
    assert_eq!(models(&server.uri()).probe(&request("openai").target).await, Probe::Refused(Refusal::Key));
}

#[tokio::test]
async fn images_are_parts_of_the_message() {
    let server = always(text_answer()).await;
    let body = sent_with_images(&models(&server.uri()), &server, "openai").await;
    let image = json!({"type": "input_image", "image_url": format!("data:image/png;base64,{IMAGE}"), "detail": "auto"});
    let text = json!({"type": "input_text", "text": "What is this?"});
    let expected = json!([
        {"type": "message", "role": "user", "content": [image, image, text]},
        {"type": "message", "role": "assistant", "content": "A dot."},
        {"type": "message", "role": "user", "content": [image]},
    ]);
    assert_eq!(body["input"], expected);
}
