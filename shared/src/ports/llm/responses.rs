//! OpenAI's Responses API, used without any state over there. Always streamed, so that there is one path.
//!
//! Nothing is stored at the provider (`store: false`), so each round of tools sends the whole conversation. The model's
//! reasoning comes sealed and goes back as it came: the API refuses a call whose reasoning is missing or stands
//! elsewhere.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};

use super::call::{self, Call, Failure, key_header};
use super::sse::Event;
use super::{
    Completion, Finish, Image, Kept, Message, Request, Route, Target, Tokens, Tool, ToolCall, Usage, read_arguments,
    schema, send_arguments, temperature,
};
use crate::kernel::Result;

/// The API takes no smaller limit.
const LEAST_TOKENS: u32 = 16;

/// The call for a request.
///
/// # Errors
/// `not_configured` when base URL or key cannot be used.
pub(super) fn call(route: &Route<'_>, request: &Request) -> Result<Call> {
    let mut headers = HeaderMap::new();
    if let Some(key) = route.key {
        headers.insert(AUTHORIZATION, key_header("Bearer ", key)?);
    }
    // Models that do not reason refuse to be asked for their reasoning.
    Ok(Call::new(route, &["responses"], headers, body(request))?.which_may_lack(&["include"]))
}

fn body(request: &Request) -> Value {
    let items = request.messages.iter().flat_map(|message| items(message, &request.target));
    let mut body = json!({
        "model": request.target.model,
        "input": items.collect::<Vec<_>>(),
        "max_output_tokens": request.max_tokens.max(LEAST_TOKENS),
        "store": false,
        "include": ["reasoning.encrypted_content"],
        "stream": true,
    });
    if !request.system.is_empty() {
        body["instructions"] = request.system.as_str().into();
    }
    if let Some(value) = request.temperature {
        body["temperature"] = temperature(value, 2.0).into();
    }
    if !request.tools.is_empty() {
        // Unlike Chat Completions, this API takes a schema for a strict one unless it is told otherwise.
        let tool = |tool: &Tool| {
            json!({"type": "function", "name": tool.name, "description": tool.description,
                "parameters": schema(tool), "strict": false})
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    body
}

fn items(message: &Message, target: &Target) -> Vec<Value> {
    match message {
        Message::User { content, images } if images.is_empty() => vec![said("user", content)],
        Message::User { content, images } => {
            let image = |image: &Image| json!({"type": "input_image", "image_url": image.data_url(), "detail": "auto"});
            let text = (!content.is_empty()).then(|| json!({"type": "input_text", "text": content}));
            let parts: Vec<Value> = images.iter().map(image).chain(text).collect();
            vec![json!({"type": "message", "role": "user", "content": parts})]
        }
        Message::Assistant { kept: Some(kept), .. } if kept.is_of(target) => kept.items.clone(),
        Message::Assistant { content, tool_calls, .. } => {
            let call = |call: &ToolCall| {
                let arguments = send_arguments(&call.arguments).to_string();
                json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
            };
            let text = (!content.is_empty()).then(|| said("assistant", content));
            text.into_iter().chain(tool_calls.iter().map(call)).collect()
        }
        Message::ToolResult { call_id, content, is_error, .. } => {
            // The protocol has no field for a failure.
            let output = if *is_error { format!("ERROR: {content}") } else { content.clone() };
            vec![json!({"type": "function_call_output", "call_id": call_id, "output": output})]
        }
    }
}

fn said(role: &str, content: &str) -> Value {
    json!({"type": "message", "role": role, "content": content})
}

/// What has arrived of an answer.
pub(super) struct Answer<'a> {
    request: &'a Request,
    model: Option<String>,
    content: String,
    items: BTreeMap<u64, Item>,
    usage: Option<Usage>,
    end: Option<End>,
    refused: bool,
}

/// An item of the output.
#[derive(Default)]
struct Item {
    /// As it came; whole once it is done.
    raw: Value,
    /// The arguments of a call, bit by bit.
    arguments: String,
}

/// How the response ended.
enum End {
    Complete,
    Incomplete { filtered: bool },
}

impl<'a> Answer<'a> {
    /// Nothing yet.
    pub(super) fn new(request: &'a Request) -> Self {
        let (content, items) = (String::new(), BTreeMap::new());
        Self { request, model: None, content, items, usage: None, end: None, refused: false }
    }

    fn item(&mut self, event: &Value) -> &mut Item {
        self.items.entry(event["output_index"].as_u64().unwrap_or_default()).or_default()
    }

    fn name_model(&mut self, response: &Value) {
        if let Some(model) = response["model"].as_str().filter(|model| !model.is_empty()) {
            self.model = Some(model.to_owned());
        }
    }

    /// The whole response, which the last event has.
    fn end(&mut self, response: &Value, end: End, tokens: &dyn Tokens) {
        self.name_model(response);
        if response["usage"].is_object() {
            self.usage = Some(usage(&response["usage"]));
        }
        if let Some(output) = response["output"].as_array().filter(|output| !output.is_empty()) {
            let item = |raw: &Value| Item { raw: raw.clone(), arguments: String::new() };
            self.items = (0..).zip(output.iter().map(item)).collect();
        }
        // A server that sends no deltas says everything here.
        if self.content.is_empty() {
            let messages: Vec<Value> = self.items.values().map(|item| item.raw["content"].clone()).collect();
            for part in messages.iter().filter_map(Value::as_array).flatten() {
                match part["type"].as_str() {
                    Some("output_text") => call::write(&mut self.content, &part["text"], tokens),
                    Some("refusal") => {
                        self.refused = true;
                        call::write(&mut self.content, &part["refusal"], tokens);
                    }
                    // The text of reasoning, and what is to come: nothing that we show.
                    _ => {}
                }
            }
        }
        self.end = Some(end);
    }

    fn tool_calls(&self) -> Vec<ToolCall> {
        let round = self.request.messages.len();
        let calls = self.items.values().filter(|item| item.raw["type"] == "function_call");
        let call = |(at, item): (usize, &Item)| {
            let text = |name: &str| item.raw[name].as_str().filter(|text| !text.is_empty());
            ToolCall {
                id: text("call_id").map_or_else(|| format!("call_{round}_{at}"), str::to_owned),
                name: text("name").unwrap_or_default().to_owned(),
                arguments: read_arguments(text("arguments").unwrap_or(&item.arguments)),
            }
        };
        calls.enumerate().map(call).collect()
    }

    /// The output as it has to come back with the results, if the model reasoned before it called. Reasoning that is
    /// not sealed means nothing to a provider that stored nothing, so without the seal the calls go back alone.
    fn kept(&self, finish: Finish) -> Option<Kept> {
        let reasoning = self.items.values().filter(|item| item.raw["type"] == "reasoning");
        let sealed: Vec<bool> = reasoning.map(|item| item.raw["encrypted_content"].is_string()).collect();
        let usable = !sealed.is_empty() && sealed.iter().all(|sealed| *sealed) && finish == Finish::ToolCalls;
        usable.then(|| Kept::new(&self.request.target, self.items.values().map(|item| item.raw.clone()).collect()))
    }

    fn finish(&self, calls: &[ToolCall]) -> Finish {
        match self.end {
            Some(End::Incomplete { filtered: true }) => Finish::Filtered,
            Some(End::Incomplete { filtered: false }) => Finish::Length,
            _ if !calls.is_empty() => Finish::ToolCalls,
            _ if self.refused => Finish::Filtered,
            _ => Finish::Stop,
        }
    }
}

impl call::Answer for Answer<'_> {
    fn take(&mut self, event: &Event, tokens: &dyn Tokens) -> Result<bool, Failure> {
        // Not of this protocol, but servers that speak several send it.
        if event.data == "[DONE]" {
            return Ok(true);
        }
        let data: Value = serde_json::from_str(&event.data).map_err(|_| Failure::end("an event is no JSON"))?;
        match data["type"].as_str().unwrap_or(&event.name) {
            "response.created" => self.name_model(&data["response"]),
            "response.output_item.added" | "response.output_item.done" => {
                self.item(&data).raw = data["item"].clone();
            }
            "response.function_call_arguments.delta" => {
                self.item(&data).arguments.push_str(data["delta"].as_str().unwrap_or_default());
            }
            "response.output_text.delta" => call::write(&mut self.content, &data["delta"], tokens),
            "response.refusal.delta" => {
                self.refused = true;
                call::write(&mut self.content, &data["delta"], tokens);
            }
            "response.completed" => self.end(&data["response"], End::Complete, tokens),
            "response.incomplete" => {
                let filtered = data["response"]["incomplete_details"]["reason"] == "content_filter";
                self.end(&data["response"], End::Incomplete { filtered }, tokens);
            }
            "response.failed" => return Err(Failure::in_stream(&data["response"]["error"])),
            "error" => return Err(Failure::in_stream(data.get("error").filter(|e| e.is_object()).unwrap_or(&data))),
            // Beginnings and ends of parts, summaries of reasoning, and what is to come.
            _ => {}
        }
        Ok(self.end.is_some())
    }

    fn complete(self) -> Result<Completion, Failure> {
        if self.end.is_none() {
            return Err(Failure::passing("the stream ended before the answer"));
        }
        let tool_calls = self.tool_calls();
        let usage = call::counted(self.request, self.usage, &self.content, &tool_calls);
        let finish = self.finish(&tool_calls);
        let kept = self.kept(finish);
        let model = self.model.unwrap_or_else(|| self.request.target.model.clone());
        Ok(Completion { content: self.content, tool_calls, kept, usage, model, finish })
    }
}

/// Here the details are parts of the counts, as in a [`Usage`].
fn usage(usage: &Value) -> Usage {
    Usage {
        tokens_in: usage["input_tokens"].as_u64().unwrap_or(0),
        tokens_out: usage["output_tokens"].as_u64().unwrap_or(0),
        cached_in: usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0),
        reasoning_out: usage["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or(0),
    }
}
