//! The model port: one trait, and behind it OpenAI by either of its protocols and everything compatible, Anthropic, and
//! the offline model.
//!
//! A use case asks [`Llm::complete`] with a [`Request`] that knows no provider; [`Models`] chooses by
//! [`Target::provider`]. What a protocol looks like stays in its own file (`openai`, `responses`, `anthropic`), what they
//! share over HTTP (retries, caps, errors) in `call`, and nothing of theirs is ever stored.
//!
//! Four things to note:
//! - A call is cancelled by dropping its future: nothing is spawned. The caller bounds the whole with a time-out.
//! - Tokens are provisional, the [`Completion`] is the answer. After the first token nothing is retried.
//! - The configured key goes to the configured base URL only, never to one that a customer gave.
//! - Neither key nor prompt ever gets into an error or a log line.
//!
//! To add a provider that speaks Chat Completions, add nothing: any unknown name with a base URL is one. To add
//! another protocol, write its file beside `anthropic` and give it an arm in [`Models::protocol`] and two more.

mod anthropic;
mod call;
mod image;
pub mod offline;
mod openai;
mod responses;
mod sse;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use serde_json::{Value, json};
use url::Url;

use crate::kernel::{Code, Error, Result, Rng, Secret};
use crate::ports::egress::Egress;

pub use image::{Image, MAX_IMAGE_BYTES, MAX_IMAGES, MAX_IMAGES_BYTES};
pub use offline::OfflineModel;

/// The provider that is no provider: its model is part of the program.
pub const OFFLINE: &str = "offline";

/// The field by which the result of a tool tells that nothing was done: an agent is only tried out.
pub const PREVIEW: &str = "preview";

/// Something that completes a conversation.
#[async_trait]
pub trait Llm: Send + Sync {
    /// Asks the model once. Text is given to `tokens` as it arrives and is in the completion as a whole.
    ///
    /// # Errors
    /// `validation_error` for images that are too many or too large together; `not_configured` when there is no key to
    /// ask with, `egress.refused` when the customer's base URL may not be
    /// called, `upstream_error` for everything that the provider did; its cause names status and code, no prompt.
    async fn complete(&self, request: &Request, tokens: &dyn Tokens) -> Result<Completion>;

    /// Asks the model for one token, once, to see whether it can be asked with this key at all.
    async fn probe(&self, _: &Target) -> Probe {
        Probe::Unknown
    }
}

/// What a [`Llm::probe`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It answers.
    Works,
    /// It does not, and will not until something changes.
    Refused(Refusal),
    /// Nobody can tell: it does not answer, is busy, or wants to be asked otherwise.
    Unknown,
}

/// Why a provider will not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The key is none, or may not do this.
    Key,
    /// There is no such model, or no such server.
    Model,
    /// The account has no credit, or its limit is reached.
    Spent,
}

/// Where a model's text goes while it is being written.
pub trait Tokens: Send + Sync {
    /// Takes the next piece, never empty. It must not block.
    fn token(&self, text: &str);
}

/// For turns that are answered in one piece.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTokens;

impl Tokens for NoTokens {
    fn token(&self, _: &str) {}
}

/// One question to a model.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which model, and with whose key.
    pub target: Target,
    /// The system prompt; may be empty.
    pub system: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// The most tokens that the answer may have.
    pub max_tokens: u32,
    /// 0 to 2, where the provider takes one; `None` is the model's own.
    pub temperature: Option<f32>,
}

/// Which model answers, and who pays for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `openai`, `anthropic`, `offline`, or any other name for an OpenAI-compatible server at `base_url`.
    pub provider: String,
    /// The provider's name of the model. It is data: no name is known here.
    pub model: String,
    /// The customer's own key; `None` is the configured one.
    pub api_key: Option<Secret>,
    /// The customer's own server; `None` is the configured one. For OpenAI with the version (`https://host/v1`).
    pub base_url: Option<Url>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// What the visitor wrote.
    User {
        /// The text; may be empty beside images.
        content: String,
        /// What they show beside it.
        images: Vec<Image>,
    },
    /// What the model answered.
    Assistant {
        /// The text; may be empty beside tool calls.
        content: String,
        /// The tools it called. Each needs a [`Message::ToolResult`] after it.
        tool_calls: Vec<ToolCall>,
        /// What came beside it and has to go back to its provider, from [`Completion::kept`].
        kept: Option<Kept>,
    },
    /// What a tool answered.
    ToolResult {
        /// The id of the call.
        call_id: String,
        /// The name of the tool.
        name: String,
        /// The result, usually JSON.
        content: String,
        /// Whether the tool failed.
        is_error: bool,
    },
}

impl Message {
    /// What a visitor wrote.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::User { content: content.into(), images: Vec::new() }
    }

    /// An answer without tool calls.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::Assistant { content: content.into(), tool_calls: Vec::new(), kept: None }
    }
}

/// An answer as its provider wrote it, with reasoning that is sealed or signed: it goes back unchanged as long as the
/// tools of that answer are at work. It means nothing to another model, and is never stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    provider: String,
    model: String,
    items: Vec<Value>,
}

impl Kept {
    fn new(target: &Target, items: Vec<Value>) -> Self {
        Self { provider: target.provider.clone(), model: target.model.clone(), items }
    }

    /// Whether it was written by the model that is asked now.
    fn is_of(&self, target: &Target) -> bool {
        (&self.provider, &self.model) == (&target.provider, &target.model)
    }
}

/// A tool as it is offered to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// At most 64 characters of `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// When to call it, for the model.
    pub description: String,
    /// The JSON schema of its arguments, an object; null for none.
    pub parameters: Value,
}

/// A call that the model wants made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The provider's id, to be named in the result.
    pub id: String,
    /// The tool's name, as the model wrote it: it may not exist.
    pub name: String,
    /// The arguments. An object when all is well; the raw text as a string when it is no JSON (a model may write
    /// rubbish, or be cut off by `max_tokens`). Answer anything but an object with an error result.
    pub arguments: Value,
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The whole text; equal to the tokens joined.
    pub content: String,
    /// The tools to call before asking again.
    pub tool_calls: Vec<ToolCall>,
    /// What belongs beside them in the [`Message::Assistant`] of the next request.
    pub kept: Option<Kept>,
    /// What it cost.
    pub usage: Usage,
    /// The model that answered, as the provider names it (usually more exact than what was asked for).
    pub model: String,
    /// Why it ended.
    pub finish: Finish,
}

/// Tokens used, in the same sense for every provider. When a provider sends none, all are estimated at four
/// characters each, and a warning is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Read by the model, cached ones included.
    pub tokens_in: u64,
    /// Written by the model, its reasoning included.
    pub tokens_out: u64,
    /// The part of `tokens_in` that came from the provider's cache.
    pub cached_in: u64,
    /// The part of `tokens_out` that was reasoning, where the provider says so.
    pub reasoning_out: u64,
}

impl Usage {
    /// Everything that was read and written.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.tokens_in.saturating_add(self.tokens_out)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        // What a provider counts is only believed as far as it fits.
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
        self.cached_in = self.cached_in.saturating_add(other.cached_in);
        self.reasoning_out = self.reasoning_out.saturating_add(other.reasoning_out);
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It is complete.
    Stop,
    /// It waits for the results of its tool calls.
    ToolCalls,
    /// `max_tokens`, or the model's context, was reached: the text or the last arguments are cut.
    Length,
    /// The provider withheld it, or the model refused.
    Filtered,
}

/// What the installation configures.
#[derive(Debug, Clone)]
pub struct ModelsConfig {
    /// Such as `https://api.openai.com/v1`.
    pub openai_base_url: Url,
    /// Which of its protocols OpenAI is asked by.
    pub openai_api: OpenAiApi,
    /// From `OPENAI_API_KEY`.
    pub openai_api_key: Option<Secret>,
    /// Such as `https://api.anthropic.com`.
    pub anthropic_base_url: Url,
    /// The `anthropic-version` header, such as `2026-10-21`.
    pub anthropic_version: String,
    /// From `ANTHROPIC_API_KEY`.
    pub anthropic_api_key: Option<Secret>,
}

/// The protocols of OpenAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenAiApi {
    /// Chat Completions, which compatible servers know too.
    #[default]
    Chat,
    /// Responses, by which newer models reason between tool calls.
    Responses,
}

/// All models behind one [`Llm`].
pub struct Models {
    config: ModelsConfig,
    managed: Client,
    egress: Arc<Egress>,
    backoff: Duration,
    rng: Rng,
}

impl Models {
    /// `managed` calls the configured base URLs; those that a customer gave are called through `egress`.
    #[must_use]
    pub fn new(config: ModelsConfig, managed: Client, egress: Arc<Egress>) -> Self {
        Self { config, managed, egress, backoff: call::BACKOFF, rng: Rng::from_system() }
    }

    /// Another first pause before a retry than half a second; it doubles with each one. Tests use zero.
    #[must_use]
    pub fn with_backoff(self, first: Duration) -> Self {
        Self { backoff: first, ..self }
    }

    /// How a target is spoken to. What is configured holds for the configured server: those of customers are mostly
    /// compatible with Chat Completions only.
    fn protocol(&self, target: &Target) -> Protocol {
        match (target.provider.as_str(), self.config.openai_api) {
            ("anthropic", _) => Protocol::Anthropic,
            ("openai", OpenAiApi::Responses) if target.base_url.is_none() => Protocol::Responses,
            _ => Protocol::Chat,
        }
    }

    /// Client, base URL and key for a target: all the customer's, or the configured ones where the customer has none.
    fn route<'a>(&'a self, target: &'a Target) -> Result<Route<'a>> {
        let (base, key, variable) = match target.provider.as_str() {
            "openai" => (Some(&self.config.openai_base_url), &self.config.openai_api_key, "OPENAI_API_KEY"),
            "anthropic" => (Some(&self.config.anthropic_base_url), &self.config.anthropic_api_key, "ANTHROPIC_API_KEY"),
            // Nothing is configured for other names.
            _ => (None, &None, ""),
        };
        if let Some(base_url) = &target.base_url {
            // Without a key of its own the server is asked without one: ours is for the configured server only.
            let client = self.egress.guarded_client(&self.egress.check_url(base_url.as_str())?)?;
            return Ok(Route { client, base_url, key: target.api_key.as_ref() });
        }
        let base_url = base.ok_or_else(|| {
            Error::with_message(Code::NotConfigured, "This model provider is not known here: give it a base URL.")
        })?;
        let key = target.api_key.as_ref().or(key.as_ref()).ok_or_else(|| {
            let message =
                format!("No key for this model provider: set {variable}, or give the agent a key of its own.");
            Error::with_message(Code::NotConfigured, message)
        })?;
        Ok(Route { client: self.managed.clone(), base_url, key: Some(key) })
    }
}

#[async_trait]
impl Llm for Models {
    async fn complete(&self, request: &Request, tokens: &dyn Tokens) -> Result<Completion> {
        image::check(request)?;
        if request.target.provider == OFFLINE {
            return OfflineModel.complete(request, tokens).await;
        }
        let route = self.route(&request.target)?;
        match self.protocol(&request.target) {
            Protocol::Chat => {
                let call = openai::call(&route, request)?;
                call.run(|| openai::Answer::new(request), tokens, (self.backoff, &self.rng)).await
            }
            Protocol::Responses => {
                let call = responses::call(&route, request)?;
                call.run(|| responses::Answer::new(request), tokens, (self.backoff, &self.rng)).await
            }
            Protocol::Anthropic => {
                let call = anthropic::call(&route, request, &self.config.anthropic_version)?;
                call.run(|| anthropic::Answer::new(request), tokens, (self.backoff, &self.rng)).await
            }
        }
    }

    async fn probe(&self, target: &Target) -> Probe {
        let request = Request {
            target: target.clone(),
            system: String::new(),
            messages: vec![Message::user("Hi")],
            tools: Vec::new(),
            max_tokens: 1,
            temperature: None,
        };
        let Ok(route) = self.route(target) else { return Probe::Unknown };
        let probe = async {
            let request = &request;
            Some(match self.protocol(target) {
                Protocol::Chat => openai::call(&route, request).ok()?.probe(|| openai::Answer::new(request)).await,
                Protocol::Responses => {
                    responses::call(&route, request).ok()?.probe(|| responses::Answer::new(request)).await
                }
                Protocol::Anthropic => {
                    let call = anthropic::call(&route, request, &self.config.anthropic_version).ok()?;
                    call.probe(|| anthropic::Answer::new(request)).await
                }
            })
        };
        let probe = tokio::time::timeout(PROBE, probe).await;
        probe.ok().flatten().unwrap_or(Probe::Unknown)
    }
}

/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(8);

/// How a provider is spoken to.
#[derive(Clone, Copy)]
enum Protocol {
    Chat,
    Responses,
    Anthropic,
}

/// Where a call goes.
struct Route<'a> {
    client: Client,
    base_url: &'a Url,
    key: Option<&'a Secret>,
}

/// Reads tool arguments: JSON, nothing at all for a tool without arguments, or the raw text when it is neither.
fn read_arguments(raw: &str) -> Value {
    if raw.trim().is_empty() {
        return json!({});
    }
    serde_json::from_str(raw).unwrap_or_else(|_| Value::String(raw.to_owned()))
}

/// Arguments as they go back to a provider. Anthropic takes objects only, and some compatible servers parse them.
fn send_arguments(arguments: &Value) -> Value {
    if arguments.is_object() { arguments.clone() } else { json!({"invalid_arguments": arguments}) }
}

/// The schema of a tool's arguments; both providers want an object.
fn schema(tool: &Tool) -> Value {
    if tool.parameters.is_object() { tool.parameters.clone() } else { json!({"type": "object", "properties": {}}) }
}

/// A temperature without the noise digits that an `f32` gets as JSON.
fn temperature(value: f32, most: f64) -> f64 {
    ((f64::from(value) * 1000.0).round() / 1000.0).clamp(0.0, most)
}

/// What a request and its answer probably cost: four characters are about one token, an image is a flat rate.
pub(crate) fn estimate(request: &Request, content: &str, calls: &[ToolCall]) -> Usage {
    let calls_length = |calls: &[ToolCall]| -> usize {
        calls.iter().map(|call| call.name.len() + call.arguments.to_string().chars().count()).sum()
    };
    let message_length = |message: &Message| match message {
        Message::User { content, .. } | Message::ToolResult { content, .. } => content.chars().count(),
        Message::Assistant { content, tool_calls, .. } => content.chars().count() + calls_length(tool_calls),
    };
    let tool_length =
        |tool: &Tool| tool.name.len() + tool.description.chars().count() + tool.parameters.to_string().len();
    let read = request.system.chars().count()
        + request.messages.iter().map(message_length).sum::<usize>()
        + request.tools.iter().map(tool_length).sum::<usize>();
    let tokens = |characters: usize| u64::try_from(characters.div_ceil(4)).unwrap_or(u64::MAX);
    let written = content.chars().count() + calls_length(calls);
    let shown = u64::try_from(image::of(request).count()).unwrap_or(u64::MAX).saturating_mul(image::IMAGE_TOKENS);
    Usage { tokens_in: tokens(read).saturating_add(shown), tokens_out: tokens(written), ..Usage::default() }
}
