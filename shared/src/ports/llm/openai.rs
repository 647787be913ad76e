//! Chat Completions, as OpenAI and its many compatible servers speak it. Always streamed, so that there is one path.

use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};

use super::call::{self, Call, Failure, key_header};
use super::sse::Event;
use super::{
    Completion, Finish, Image, Message, Request, Route, Tokens, Tool, ToolCall, Usage, read_arguments, schema,
    send_arguments, temperature,
};
use crate::kernel::Result;

/// The call for a request.
///
/// # Errors
/// `not_configured` when base URL or key cannot be used.
pub(super) fn call(route: &Route<'_>, request: &Request) -> Result<Call> {
    let mut headers = HeaderMap::new();
    if let Some(key) = route.key {
        headers.insert(AUTHORIZATION, key_header("Bearer ", key)?);
    }
    Call::new(route, &["chat", "completions"], headers, body(request))
}

fn body(request: &Request) -> Value {
    let mut body = json!({
        "model": request.target.model,
        "messages": messages(request),
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    // OpenAI's newer models refuse `max_tokens`; compatible servers know only that (Ollama), or refuse the other
    // (Mistral).
    let limit = if request.target.provider == "openai" { "max_completion_tokens" } else { "max_tokens" };
    body[limit] = request.max_tokens.into();
    if let Some(value) = request.temperature {
        body["temperature"] = temperature(value, 2.0).into();
    }
    if !request.tools.is_empty() {
        let tool = |tool: &Tool| {
            let function = json!({"name": tool.name, "description": tool.description, "parameters": schema(tool)});
            json!({"type": "function", "function": function})
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    body
}

fn messages(request: &Request) -> Vec<Value> {
    let system = (!request.system.is_empty()).then(|| json!({"role": "system", "content": request.system}));
    system.into_iter().chain(request.messages.iter().map(message)).collect()
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { content, images } if images.is_empty() => json!({"role": "user", "content": content}),
        Message::User { content, images } => {
            let image = |image: &Image| json!({"type": "image_url", "image_url": {"url": image.data_url()}});
            let text = (!content.is_empty()).then(|| json!({"type": "text", "text": content}));
            json!({"role": "user", "content": images.iter().map(image).chain(text).collect::<Vec<_>>()})
        }
        Message::Assistant { content, tool_calls, .. } if tool_calls.is_empty() => {
            json!({"role": "assistant", "content": content})
        }
        Message::Assistant { content, tool_calls, .. } => {
            let call = |call: &ToolCall| {
                let arguments = send_arguments(&call.arguments).to_string();
                json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
            };
            let content = if content.is_empty() { Value::Null } else { content.as_str().into() };
            json!({"role": "assistant", "content": content,
                "tool_calls": tool_calls.iter().map(call).collect::<Vec<_>>()})
        }
        // The protocol has no field for a failure.
        Message::ToolResult { call_id, content, is_error: true, .. } => {
            json!({"role": "tool", "tool_call_id": call_id, "content": format!("ERROR: {content}")})
        }
        Message::ToolResult { call_id, content, is_error: false, .. } => {
            json!({"role": "tool", "tool_call_id": call_id, "content": content})
        }
    }
}

/// What has arrived of an answer.
pub(super) struct Answer<'a> {
    request: &'a Request,
    model: Option<String>,
    content: String,
    calls: Vec<Fragment>,
    usage: Option<Usage>,
    finish: Option<String>,
    refused: bool,
    done: bool,
}

/// A tool call in pieces: id and name come with the first, the arguments bit by bit.
#[derive(Default)]
struct Fragment {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl<'a> Answer<'a> {
    /// Nothing yet.
    pub(super) fn new(request: &'a Request) -> Self {
        Self {
            request,
            model: None,
            content: String::new(),
            calls: Vec::new(),
            usage: None,
            finish: None,
            refused: false,
            done: false,
        }
    }

    fn add_call(&mut self, piece: &Value) {
        let (index, id) = (piece["index"].as_u64(), piece["id"].as_str().unwrap_or_default());
        // Some compatible servers send no index, or the same for all calls: there a new id begins a new call.
        let known = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let known = known.filter(|at| id.is_empty() || self.calls[*at].id.is_empty() || self.calls[*at].id == id);
        let at = known.unwrap_or_else(|| {
            self.calls.push(Fragment { index, ..Fragment::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if !id.is_empty() {
            id.clone_into(&mut call.id);
        }
        if let Some(name) = piece["function"]["name"].as_str().filter(|name| !name.is_empty()) {
            name.clone_into(&mut call.name);
        }
        call.arguments.push_str(piece["function"]["arguments"].as_str().unwrap_or_default());
    }

    fn tool_calls(&mut self) -> Vec<ToolCall> {
        let round = self.request.messages.len();
        let call = |(at, call): (usize, Fragment)| ToolCall {
            // An id that is unique in the conversation, for servers that give none.
            id: if call.id.is_empty() { format!("call_{round}_{at}") } else { call.id },
            name: call.name,
            arguments: read_arguments(&call.arguments),
        };
        std::mem::take(&mut self.calls).into_iter().enumerate().map(call).collect()
    }

    fn finish(&self, calls: &[ToolCall]) -> Finish {
        match self.finish.as_deref() {
            Some("length") => Finish::Length,
            Some("content_filter") => Finish::Filtered,
            // Compatible servers say "stop" beside tool calls, too.
            _ if !calls.is_empty() => Finish::ToolCalls,
            _ if self.refused => Finish::Filtered,
            _ => Finish::Stop,
        }
    }
}

impl call::Answer for Answer<'_> {
    fn take(&mut self, event: &Event, tokens: &dyn Tokens) -> Result<bool, Failure> {
        if event.data == "[DONE]" {
            self.done = true;
            return Ok(true);
        }
        let chunk: Value = serde_json::from_str(&event.data).map_err(|_| Failure::end("an event is no JSON"))?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(Failure::in_stream(error));
        }
        if self.model.is_none() {
            self.model = chunk["model"].as_str().filter(|model| !model.is_empty()).map(str::to_owned);
        }
        if chunk["usage"].is_object() {
            self.usage = Some(usage(&chunk["usage"]));
        }
        // The last chunk has the usage and no choice.
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        call::write(&mut self.content, &delta["content"], tokens);
        if delta["refusal"].is_string() {
            self.refused = true;
            call::write(&mut self.content, &delta["refusal"], tokens);
        }
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            self.add_call(piece);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.to_owned());
        }
        Ok(false)
    }

    fn complete(mut self) -> Result<Completion, Failure> {
        if !self.done && self.finish.is_none() {
            return Err(Failure::passing("the stream ended before the answer"));
        }
        let tool_calls = self.tool_calls();
        let usage = call::counted(self.request, self.usage, &self.content, &tool_calls);
        let finish = self.finish(&tool_calls);
        let model = self.model.take().unwrap_or_else(|| self.request.target.model.clone());
        Ok(Completion { content: self.content, tool_calls, kept: None, usage, model, finish })
    }
}

/// Here the details are parts of the counts, as in a [`Usage`].
fn usage(usage: &Value) -> Usage {
    Usage {
        tokens_in: usage["prompt_tokens"].as_u64().unwrap_or(0),
        tokens_out: usage["completion_tokens"].as_u64().unwrap_or(0),
        cached_in: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0),
        reasoning_out: usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or(0),
    }
}
