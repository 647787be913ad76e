//! The HTTP providers against a mock on loopback, through [`Models`] as a caller uses it: what all of them have, and Chat
//! Completions. The other protocols have files beside theirs.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::ports::egress::{self, Cidr, EgressConfig};

/// Keeps what it is told.
#[derive(Default)]
pub(super) struct Heard(Mutex<Vec<String>>);

impl Tokens for Heard {
    fn token(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Heard {
    pub(super) fn tokens(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(super) fn models(server: &str) -> Models {
    let base = |path: &str| Url::parse(&format!("{server}{path}")).unwrap();
    let config = ModelsConfig {
        openai_base_url: base("/v1"),
        openai_api: OpenAiApi::Chat,
        openai_api_key: Some(Secret::new("sk-configured")),
        anthropic_base_url: base(""),
        anthropic_version: "2026-10-21".into(),
        anthropic_api_key: Some(Secret::new("sk-ant-configured")),
    };
    // The stand-ins listen on this machine.
    let egress = guard("127.0.0.0/8");
    Models::new(config, egress::managed_client().unwrap(), egress).with_backoff(Duration::ZERO)
}

fn guard(allow: &str) -> Arc<Egress> {
    Arc::new(Egress::new(EgressConfig { allow: Cidr::parse_list(allow).unwrap(), ..EgressConfig::default() }))
}

pub(super) fn request(provider: &str) -> Request {
    Request {
        target: Target { provider: provider.into(), model: "m-1".into(), api_key: None, base_url: None },
        system: "You are Luna.".into(),
        messages: vec![Message::user("Hi there")],
        tools: vec![Tool {
            name: "capture_lead".into(),
            description: "Keeps a lead.".into(),
            parameters: json!({"type": "object"}),
        }],
        max_tokens: 300,
        temperature: Some(0.7),
    }
}

/// A stream of unnamed events.
pub(super) fn stream(events: &[Value]) -> ResponseTemplate {
    let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    raw(format!("{text}data: [DONE]\n\n"))
}

/// A stream of events that are named by their type.
pub(super) fn named(events: &[Value]) -> ResponseTemplate {
    raw(events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect())
}

pub(super) fn raw(text: String) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(text, "text/event-stream")
}

fn delta(delta: Value) -> Value {
    json!({"model": "m-1-2026", "choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null})
}

fn ends(reason: &str) -> Value {
    json!({"model": "m-1-2026", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn openai_usage() -> Value {
    let (cached, reasoned) = (json!({"cached_tokens": 32}), json!({"reasoning_tokens": 3}));
    json!({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45,
        "prompt_tokens_details": cached, "completion_tokens_details": reasoned}})
}

fn text_answer() -> ResponseTemplate {
    stream(&[delta(json!({"content": "Hi"})), ends("stop"), openai_usage()])
}

/// Answers once with the first, then always with the second.
pub(super) async fn first_then(server: &MockServer, first: ResponseTemplate, then: ResponseTemplate) {
    Mock::given(method("POST")).respond_with(first).up_to_n_times(1).mount(server).await;
    Mock::given(method("POST")).respond_with(then).mount(server).await;
}

pub(super) async fn always(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    server
}

pub(super) async fn calls(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

pub(super) async fn body(server: &MockServer) -> Value {
    server.received_requests().await.unwrap()[0].body_json().unwrap()
}

pub(super) fn cause(error: &Error) -> String {
    assert_eq!(error.code(), Code::UpstreamError, "{error}");
    error.cause().unwrap().to_owned()
}

#[tokio::test]
async fn openai_text_is_streamed_and_counted() {
    let server = MockServer::start().await;
    let events = [
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": "lo ñ"})),
    ];
    let events = [events.as_slice(), &[ends("stop"), openai_usage()]].concat();
    let expected = json!({"model": "m-1", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.7,
        "max_completion_tokens": 300, "tools": [{"type": "function", "function": {"name": "capture_lead"}}],
        "messages": [{"role": "system", "content": "You are Luna."}, {"role": "user", "content": "Hi there"}]});
    Mock::given(path("/v1/chat/completions"))
        .and(header("authorization", "Bearer sk-configured"))
        .and(body_partial_json(expected))
        .respond_with(stream(&events))
        .mount(&server)
        .await;
    let heard = Heard::default();
    let completion = models(&server.uri()).complete(&request("openai"), &heard).await.unwrap();
    assert_eq!(heard.tokens(), ["Hel", "lo ñ"]);
    assert_eq!((completion.content.as_str(), completion.finish), ("Hello ñ", Finish::Stop));
    assert_eq!(completion.usage, Usage { tokens_in: 40, tokens_out: 5, cached_in: 32, reasoning_out: 3 });
    assert_eq!(completion.model, "m-1-2026");
}

#[tokio::test]
async fn openai_tool_calls_are_put_together_by_index() {
    let piece = |index: u64, id: Value, name: Value, arguments: &str| {
        delta(json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}))
    };
    let server = always(stream(&[
        piece(0, json!("call_a"), json!("capture_lead"), ""),
        piece(0, Value::Null, Value::Null, "{\"email\":"),
        piece(1, json!("call_b"), json!("now"), ""),
        piece(0, Value::Null, Value::Null, "\"a@b.io\"}"),
        piece(2, json!("call_c"), json!("cut"), "{\"a\": \"b"),
        ends("tool_calls"),
        openai_usage(),
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
    assert_eq!((completion.content.as_str(), completion.finish), ("", Finish::ToolCalls));
}

#[tokio::test]
async fn a_compatible_server_may_leave_out_index_id_usage_and_done() {
    let calls = json!({"tool_calls": [
        {"id": "x", "function": {"name": "one", "arguments": "{}"}},
        {"id": "y", "function": {"name": "two", "arguments": "{}"}}]});
    let text = format!("data: {}\n\ndata: {}\n\n", delta(calls), ends("stop"));
    let server = always(raw(text)).await;
    let mut request = request("my-server");
    request.target.base_url = Some(format!("{}/api/v1/?tenant=a", server.uri()).parse().unwrap());
    let completion = models("http://127.0.0.1:9").complete(&request, &NoTokens).await.unwrap();
    let names: Vec<&str> = completion.tool_calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!((names.as_slice(), completion.finish), (["one", "two"].as_slice(), Finish::ToolCalls));
    assert!(completion.usage.tokens_in > 10 && completion.usage.tokens_out > 0, "estimated: {:?}", completion.usage);
    let received = &server.received_requests().await.unwrap()[0];
    assert_eq!((received.url.path(), received.url.query()), ("/api/v1/chat/completions", Some("tenant=a")));
    assert_eq!(body(&server).await["max_tokens"], 300);
    assert!(!received.headers.contains_key("authorization"), "the configured key stays with the configured server");
}

#[tokio::test]
async fn a_customers_key_goes_to_the_customers_server_or_the_configured_one() {
    let server = always(text_answer()).await;
    let mut request = request("openai");
    request.target.api_key = Some(Secret::new(" sk-own\n"));
    models(&server.uri()).complete(&request, &NoTokens).await.unwrap();
    request.target.base_url = Some(format!("{}/own", server.uri()).parse().unwrap());
    models("http://127.0.0.1:9").complete(&request, &NoTokens).await.unwrap();
    for received in server.received_requests().await.unwrap() {
        assert_eq!(received.headers["authorization"], "Bearer sk-own");
    }
}

#[tokio::test]
async fn a_customers_server_is_reached_through_the_egress_guard_only() {
    let models = |allow| Models { egress: guard(allow), ..models("http://127.0.0.1:9") };
    let mut request = request("openai");
    for url in ["https://169.254.169.254/v1", "https://[::1]/v1", "http://models.example/v1", "https://localhost/v1"] {
        request.target.base_url = Some(url.parse().unwrap());
        let refused = models("").complete(&request, &NoTokens).await.unwrap_err();
        assert_eq!(refused.code(), Code::EgressRefused, "{url}");
    }
    let server = always(text_answer()).await;
    request.target.base_url = Some(server.uri().parse().unwrap());
    assert_eq!(models("127.0.0.0/8").complete(&request, &NoTokens).await.unwrap().content, "Hi");
}

#[tokio::test]
async fn a_missing_key_names_its_variable() {
    let mut models = models("http://127.0.0.1:9");
    (models.config.openai_api_key, models.config.anthropic_api_key) = (None, None);
    for (provider, variable) in
        [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY"), ("mistral", "base URL")]
    {
        let error = models.complete(&request(provider), &NoTokens).await.unwrap_err();
        assert_eq!(error.code(), Code::NotConfigured);
        assert!(error.message().contains(variable), "{error}");
    }
    assert_eq!(models.complete(&request("offline"), &NoTokens).await.unwrap().model, "offline-1");
    models.config.openai_api_key = Some(Secret::new("sk-\u{7f}secret"));
    let error = models.complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert_eq!(error.code(), Code::NotConfigured);
    assert!(!format!("{error:?}{:?}", models.config).contains("secret"));
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_twice_at_most() {
    let server = MockServer::start().await;
    first_then(&server, ResponseTemplate::new(429).insert_header("retry-after-ms", "0"), text_answer()).await;
    assert_eq!(models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap().content, "Hi");
    assert_eq!(calls(&server).await, 2);
    let server = always(ResponseTemplate::new(503)).await;
    let error = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert!(cause(&error).contains("status 503"), "{error}");
    assert_eq!(calls(&server).await, 3);
    let server = always(ResponseTemplate::new(429).insert_header("retry-after", "60")).await;
    models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert_eq!(calls(&server).await, 1, "who wants a minute's rest is not asked within it");
}

#[tokio::test]
async fn a_spent_quota_or_a_wrong_key_is_not_asked_again() {
    let spent = json!({"error": {"message": "…", "type": "insufficient_quota", "code": "insufficient_quota"}});
    let server = always(ResponseTemplate::new(429).set_body_json(spent)).await;
    let error = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert!(cause(&error).contains("insufficient_quota"));
    assert_eq!(calls(&server).await, 1);
    let wrong = json!({"error": {"message": "Incorrect key sk-configured for: Hi there", "code": "invalid_api_key"}});
    let server = always(ResponseTemplate::new(401).set_body_json(wrong)).await;
    let error = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert_eq!(cause(&error), "model provider: status 401: invalid_api_key, norequestid");
    assert_eq!(calls(&server).await, 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_upstream_error() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = models(&format!("http://127.0.0.1:{port}")).complete(&request("openai"), &NoTokens).await.unwrap_err();
    assert!(cause(&error).contains("no connection"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_stream_is_retried_only_before_the_first_token() {
    let broken = json!({"error": {"message": "m", "type": "server_error", "code": null}});
    let server = MockServer::start().await;
    first_then(&server, stream(&[delta(json!({"role": "assistant"})), broken.clone()]), text_answer()).await;
    assert_eq!(models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap().content, "Hi");
    let server = always(stream(&[delta(json!({"content": "He"})), broken])).await;
    let heard = Heard::default();
    let error = models(&server.uri()).complete(&request("openai"), &heard).await.unwrap_err();
    assert!(cause(&error).contains("server_error"));
    assert_eq!((heard.tokens().concat().as_str(), calls(&server).await), ("He", 1));
}

#[tokio::test]
async fn a_stream_that_is_cut_or_unreadable_or_endless_is_an_error() {
    let cut = always(raw(format!("data: {}\n\n", delta(json!({"content": "He"}))))).await;
    let unreadable = always(raw("data: {\"a\":\n\n".into())).await;
    let line = format!("data: {}\n\n", delta(json!({"content": "x".repeat(1000)})));
    let endless = always(raw(line.repeat(2200))).await;
    for (server, what) in [(cut, "ended before"), (unreadable, "no JSON"), (endless, "larger than 2 MB")] {
        let error = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap_err();
        assert!(cause(&error).contains(what), "{error}");
        assert_eq!(calls(&server).await, 1, "{what}");
    }
}

#[tokio::test]
async fn why_an_answer_ended_is_told() {
    let table = [("stop", Finish::Stop), ("length", Finish::Length), ("content_filter", Finish::Filtered)];
    for (reason, finish) in table {
        let server = always(stream(&[delta(json!({"content": "Hi"})), ends(reason)])).await;
        let completion = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap();
        assert_eq!(completion.finish, finish);
    }
    let server = always(stream(&[delta(json!({"refusal": "I can't."})), ends("stop")])).await;
    let completion = models(&server.uri()).complete(&request("openai"), &NoTokens).await.unwrap();
    assert_eq!((completion.content.as_str(), completion.finish), ("I can't.", Finish::Filtered));
}

/// Serves one connection with a chunked answer, in chunks of `size` bytes, each written on its own.
fn serve_in_chunks(events: String, size: usize) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        // The body is JSON without a brace in its strings, so its last brace ends it.
        while !read.ends_with(b"}") {
            let count = socket.read(&mut buffer).unwrap();
            read.extend_from_slice(&buffer[..count]);
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n").unwrap();
        for chunk in events.as_bytes().chunks(size) {
            socket.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            socket.write_all(chunk).unwrap();
            socket.write_all(b"\r\n").unwrap();
        }
        socket.write_all(b"0\r\n\r\n").unwrap();
    });
    (address, thread)
}

#[tokio::test]
async fn however_the_network_cuts_a_stream_it_reads_the_same() {
    let events =
        [delta(json!({"content": "¿Qué "})), delta(json!({"content": "tal? 👋🏽"})), ends("stop"), openai_usage()];
    let text: String = events.iter().map(|event| format!(": keep-alive\r\ndata: {event}\r\n\r\n")).collect();
    for size in [1, 2, 3, 7, 64, 10_000] {
        let (address, thread) = serve_in_chunks(format!("{text}data: [DONE]\r\n\r\n"), size);
        let heard = Heard::default();
        let completion = models(&address).complete(&request("openai"), &heard).await.unwrap();
        assert_eq!((completion.content.as_str(), heard.tokens().len()), ("¿Qué tal? 👋🏽", 2), "{size}");
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn openai_gets_results_and_failures_as_tool_messages() {
    let server = always(text_answer()).await;
    let mut request = request("openai");
    let call = ToolCall { id: "a".into(), name: "now".into(), arguments: json!({"x": 1}) };
    let result =
        |is_error| Message::ToolResult { call_id: "a".into(), name: "now".into(), content: "no".into(), is_error };
    request.messages = vec![
        Message::Assistant { content: String::new(), tool_calls: vec![call], kept: None },
        result(true),
        result(false),
        Message::assistant("ok"),
    ];
    models(&server.uri()).complete(&request, &NoTokens).await.unwrap();
    let function = json!({"name": "now", "arguments": "{\"x\":1}"});
    let expected = json!([
        {"role": "system", "content": "You are Luna."},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "ERROR: no"},
        {"role": "tool", "tool_call_id": "a", "content": "no"},
        {"role": "assistant", "content": "ok"},
    ]);
    assert_eq!(body(&server).await["messages"], expected);
}

/// An image of at least so many bytes.
pub(super) fn image(size: usize) -> Image {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.resize(size.max(bytes.len()), 0);
    Image::new(bytes).unwrap()
}

/// What two messages with images become: one with text, one without.
pub(super) async fn sent_with_images(models: &Models, server: &MockServer, provider: &str) -> Value {
    let mut request = request(provider);
    request.messages = vec![
        Message::User { content: "What is this?".into(), images: vec![image(0), image(0)] },
        Message::assistant("A dot."),
        Message::User { content: String::new(), images: vec![image(0)] },
    ];
    models.complete(&request, &NoTokens).await.unwrap();
    body(server).await
}

/// [`image`], as it travels.
pub(super) const IMAGE: &str = "iVBORw0KGgo=";

#[tokio::test]
async fn openai_gets_images_as_addresses_that_hold_them() {
    let server = always(text_answer()).await;
    let body = sent_with_images(&models(&server.uri()), &server, "openai").await;
    let image = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{IMAGE}")}});
    let expected = json!([
        {"role": "system", "content": "You are Luna."},
        {"role": "user", "content": [image, image, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": "A dot."},
        {"role": "user", "content": [image]},
    ]);
    assert_eq!(body["messages"], expected);
}

#[tokio::test]
async fn images_that_are_too_many_or_too_large_together_are_not_sent() {
    let server = always(text_answer()).await;
    let mut request = request("openai");
    let cases = [(vec![image(0); MAX_IMAGES + 1], "10 images"), (vec![image(MAX_IMAGE_BYTES); 3], "8388608 bytes")];
    for (images, what) in cases {
        request.messages = vec![Message::User { content: "Hi".into(), images }];
        let error = models(&server.uri()).complete(&request, &NoTokens).await.unwrap_err();
        assert_eq!(error.code(), Code::ValidationError);
        assert!(error.message().contains(what), "{error}");
    }
    assert_eq!(calls(&server).await, 0);
}

#[test]
fn an_image_counts_in_an_estimate() {
    let mut request = request("openai");
    let without = estimate(&request, "Hi", &[]);
    request.messages.push(Message::User { content: String::new(), images: vec![image(100_000); 2] });
    let with = estimate(&request, "Hi", &[]);
    assert_eq!((with.tokens_in - without.tokens_in, with.tokens_out), (3_200, without.tokens_out));
}
