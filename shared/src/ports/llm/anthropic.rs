//! Anthropic's Messages API. Always streamed, so that there is one path.
//!
//! Thinking is not asked for, but models think unasked. Their blocks are signed, and go back unchanged as long as the tools
//! of their answer are at work.

#[cfg(test)]
mod tests;

use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::call::{self, Call, Failure, key_header};
use super::sse::Event;
use super::{
    Completion, Finish, Image, Kept, Message, Request, Route, Target, Tokens, Tool, ToolCall, Usage, read_arguments,
    schema, send_arguments, temperature,
};
use crate::kernel::{Code, Error, Result};

/// From this version on the API refuses every sampling parameter.
const NO_SAMPLING_SINCE: &str = "2026-10-21";
/// The API wants a conversation to begin with the user; ours may begin with the agent's greeting.
const OPENING: &str = "(The conversation begins.)";

/// The call for a request.
///
/// # Errors
/// `not_configured` when base URL, version or key cannot be used.
pub(super) fn call(route: &Route<'_>, request: &Request, version: &str) -> Result<Call> {
    let mut headers = HeaderMap::new();
    let unusable = || Error::with_message(Code::NotConfigured, "The configured Anthropic version is not usable.");
    headers.insert("anthropic-version", HeaderValue::from_str(version).map_err(|_| unusable())?);
    if let Some(key) = route.key {
        headers.insert("x-api-key", key_header("", key)?);
    }
    // People paste base URLs with and without the version.
    let versioned = route.base_url.path().trim_end_matches('/').ends_with("/v1");
    let path: &[&str] = if versioned { &["messages"] } else { &["v1", "messages"] };
    Call::new(route, path, headers, body(request, version))
}

fn body(request: &Request, version: &str) -> Value {
    let mut body = json!({
        "model": request.target.model,
        "max_tokens": request.max_tokens.max(1),
        "messages": messages(request),
        "stream": true,
    });
    if !request.system.is_empty() {
        body["system"] = request.system.as_str().into();
    }
    // Versions are dates, so their text order is their age.
    if let Some(value) = request.temperature.filter(|_| version < NO_SAMPLING_SINCE) {
        body["temperature"] = temperature(value, 1.0).into();
    }
    if !request.tools.is_empty() {
        let tool = |tool: &Tool| {
            let schema = schema(tool);
            json!({"name": tool.name, "description": tool.description, "input_schema": schema})
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    body
}

/// The conversation in alternating roles. All results of one round get into one user message, and to its front, as
/// the API demands; what the visitor wrote meanwhile comes after them.
fn messages(request: &Request) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in &request.messages {
        let (role, blocks) = blocks(message, &request.target);
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, known)) if *last == role => known.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    if turns.first().is_none_or(|(role, _)| *role != "user") {
        turns.insert(0, ("user", vec![text(OPENING)]));
    }
    let turn = |(role, mut blocks): (&str, Vec<Value>)| {
        if role == "user" {
            blocks.sort_by_key(|block| block["type"] != "tool_result");
        }
        json!({"role": role, "content": blocks})
    };
    turns.into_iter().map(turn).collect()
}

/// Role and blocks of one message; the API refuses blank texts.
fn blocks(message: &Message, target: &Target) -> (&'static str, Vec<Value>) {
    let texts = |content: &str| (!content.trim().is_empty()).then(|| text(content)).into_iter();
    match message {
        Message::User { content, images } => {
            let image = |image: &Image| {
                let source = json!({"type": "base64", "media_type": image.media_type(), "data": image.base64()});
                json!({"type": "image", "source": source})
            };
            ("user", images.iter().map(image).chain(texts(content)).collect())
        }
        Message::Assistant { kept: Some(kept), .. } if kept.is_of(target) => ("assistant", kept.items.clone()),
        Message::Assistant { content, tool_calls, .. } => {
            let call = |call: &ToolCall| {
                let input = send_arguments(&call.arguments);
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
            };
            ("assistant", texts(content).chain(tool_calls.iter().map(call)).collect())
        }
        Message::ToolResult { call_id, content, is_error, .. } => {
            let mut block = json!({"type": "tool_result", "tool_use_id": call_id, "content": content});
            if *is_error {
                block["is_error"] = true.into();
            }
            ("user", vec![block])
        }
    }
}

fn text(content: &str) -> Value {
    json!({"type": "text", "text": content})
}

/// What has arrived of an answer.
pub(super) struct Answer<'a> {
    request: &'a Request,
    model: Option<String>,
    content: String,
    blocks: Vec<Block>,
    usage: Option<Counts>,
    stop: Option<String>,
    done: bool,
}

/// A block of the answer, in pieces.
struct Block {
    index: u64,
    /// What it began with, and what was added to it. Some compatible servers send the whole input of a tool here and no
    /// deltas.
    raw: Value,
    /// The input of a tool, bit by bit.
    json: String,
}

impl Block {
    fn is(&self, kind: &str) -> bool {
        self.raw["type"] == kind
    }

    fn add(&mut self, field: &str, piece: &Value) {
        let piece = piece.as_str().unwrap_or_default();
        match &mut self.raw[field] {
            Value::String(text) => text.push_str(piece),
            other => *other = piece.into(),
        }
    }

    fn arguments(&self) -> Value {
        let input = &self.raw["input"];
        if self.json.is_empty() && input.is_object() { input.clone() } else { read_arguments(&self.json) }
    }

    /// As it goes back; the API refuses blank texts, and inputs that are no objects.
    fn sent_back(&self) -> Option<Value> {
        let mut raw = self.raw.clone();
        if self.is("tool_use") {
            raw["input"] = send_arguments(&self.arguments());
        }
        let is_blank = self.is("text") && raw["text"].as_str().is_none_or(|text| text.trim().is_empty());
        (!is_blank).then_some(raw)
    }
}

/// The provider's counts, which come twice and cumulatively.
#[derive(Default)]
struct Counts {
    fresh: u64,
    written: u64,
    cached: u64,
    out: u64,
    thinking: u64,
}

impl Counts {
    fn update(&mut self, usage: &Value) {
        let take = |value: &Value, count: &mut u64| *count = value.as_u64().unwrap_or(*count);
        take(&usage["input_tokens"], &mut self.fresh);
        take(&usage["cache_creation_input_tokens"], &mut self.written);
        take(&usage["cache_read_input_tokens"], &mut self.cached);
        take(&usage["output_tokens"], &mut self.out);
        take(&usage["output_tokens_details"]["thinking_tokens"], &mut self.thinking);
    }

    /// Here the three input counts exclude each other; a [`Usage`] has their sum. Thinking is part of the output.
    fn usage(&self) -> Usage {
        Usage {
            tokens_in: self.fresh.saturating_add(self.written).saturating_add(self.cached),
            tokens_out: self.out,
            cached_in: self.cached,
            reasoning_out: self.thinking,
        }
    }
}

impl<'a> Answer<'a> {
    /// Nothing yet.
    pub(super) fn new(request: &'a Request) -> Self {
        let (content, blocks) = (String::new(), Vec::new());
        Self { request, model: None, content, blocks, usage: None, stop: None, done: false }
    }

    fn count(&mut self, usage: &Value) {
        if usage.is_object() {
            self.usage.get_or_insert_default().update(usage);
        }
    }

    fn start_block(&mut self, event: &Value, tokens: &dyn Tokens) {
        // What is no object could not be added to.
        let raw = event["content_block"].as_object().cloned().map_or_else(|| json!({}), Value::Object);
        if raw["type"] == "text" {
            call::write(&mut self.content, &raw["text"], tokens);
        }
        self.blocks.push(Block { index: event["index"].as_u64().unwrap_or_default(), raw, json: String::new() });
    }

    fn add_to_block(&mut self, event: &Value, tokens: &dyn Tokens) {
        let (delta, index) = (&event["delta"], event["index"].as_u64().unwrap_or_default());
        if delta["type"] == "text_delta" {
            call::write(&mut self.content, &delta["text"], tokens);
        }
        let Some(block) = self.blocks.iter_mut().rfind(|block| block.index == index) else { return };
        match delta["type"].as_str() {
            Some("text_delta") => block.add("text", &delta["text"]),
            Some("input_json_delta") => block.json.push_str(delta["partial_json"].as_str().unwrap_or_default()),
            Some("thinking_delta") => block.add("thinking", &delta["thinking"]),
            Some("signature_delta") => block.add("signature", &delta["signature"]),
            // Citations, and what is to come.
            _ => {}
        }
    }

    fn tool_calls(&self) -> Vec<ToolCall> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let call = |block: &Block| ToolCall {
            id: text(&block.raw["id"]),
            name: text(&block.raw["name"]),
            arguments: block.arguments(),
        };
        self.blocks.iter().filter(|block| block.is("tool_use")).map(call).collect()
    }

    /// The answer as it has to come back with the results, if the model thought before it called.
    fn kept(&self, finish: Finish) -> Option<Kept> {
        let thought = self.blocks.iter().any(|block| block.is("thinking") || block.is("redacted_thinking"));
        let blocks = || self.blocks.iter().filter_map(Block::sent_back).collect();
        (thought && finish == Finish::ToolCalls).then(|| Kept::new(&self.request.target, blocks()))
    }

    fn finish(&self, calls: &[ToolCall]) -> Finish {
        match self.stop.as_deref() {
            Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
            Some("refusal") => Finish::Filtered,
            _ if !calls.is_empty() => Finish::ToolCalls,
            _ => Finish::Stop,
        }
    }
}

impl call::Answer for Answer<'_> {
    fn take(&mut self, event: &Event, tokens: &dyn Tokens) -> Result<bool, Failure> {
        let data: Value = serde_json::from_str(&event.data).map_err(|_| Failure::end("an event is no JSON"))?;
        match data["type"].as_str().unwrap_or(&event.name) {
            "message_start" => {
                self.model = data["message"]["model"].as_str().map(str::to_owned);
                self.count(&data["message"]["usage"]);
            }
            "content_block_start" => self.start_block(&data, tokens),
            "content_block_delta" => self.add_to_block(&data, tokens),
            "message_delta" => {
                if let Some(reason) = data["delta"]["stop_reason"].as_str() {
                    self.stop = Some(reason.to_owned());
                }
                self.count(&data["usage"]);
            }
            "message_stop" => self.done = true,
            "error" => return Err(Failure::in_stream(&data["error"])),
            // ping, content_block_stop, and what is to come.
            _ => {}
        }
        Ok(self.done)
    }

    fn complete(mut self) -> Result<Completion, Failure> {
        if !self.done && self.stop.is_none() {
            return Err(Failure::passing("the stream ended before the answer"));
        }
        let tool_calls = self.tool_calls();
        let usage = call::counted(self.request, self.usage.as_ref().map(Counts::usage), &self.content, &tool_calls);
        let finish = self.finish(&tool_calls);
        let model = self.model.take().unwrap_or_else(|| self.request.target.model.clone());
        let kept = self.kept(finish);
        Ok(Completion { content: self.content, tool_calls, kept, usage, model, finish })
    }
}
