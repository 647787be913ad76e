//! Asking the model, with tools, within the budget.

use std::time::Duration;

use serde_json::Value;

use uuid::Uuid;

use super::accept::OwnTurn;
use super::audience::{Audience, Discarded, ToolStatus};
use super::guard::{self, Guard};
use super::load::Scene;
use super::{prompt, schedule, sight, tools};
use crate::app::{App, verification};
use crate::domain::agent::{SecretField, Snapshot, SnapshotTool};
use crate::domain::language::Lang;
use crate::domain::message::{Author, Message, ToolUse, Unanswered};
use crate::domain::text::shorten;
use crate::domain::tool::Builtin;
use crate::domain::{Agent, Conversation, Workspace};
use crate::kernel::{Code, Error, Id, Kind, Result};
use crate::ports::llm::{self, Completion, Finish, Request, Target, ToolCall, Usage};
use crate::store;

/// Rounds of model and tools in one turn.
const MAX_TOOL_ROUNDS: u32 = 6;
/// Tool calls in one turn.
const MAX_CALLS: u32 = 10;
/// The longest reply that is stored, in characters.
const MAX_CONTENT: usize = 16_000;
/// The longest arguments of a tool call, in bytes of JSON.
const MAX_ARGUMENTS: usize = 16 * 1024;
/// What is said when nothing can be.
const FALLBACK: [&str; 3] = [
    "Sorry, I cannot answer right now. Please try again in a moment.",
    "Lo siento, ahora no puedo responder. Inténtalo de nuevo en un momento.",
    "Desculpe, não consigo responder agora. Tente novamente em instantes.",
];

/// What came of thinking.
#[derive(Debug, Clone, Default)]
pub(super) struct Thought {
    pub(super) content: String,
    /// `None` for the fallback text.
    pub(super) model: Option<String>,
    /// Of all rounds.
    pub(super) usage: Usage,
    pub(super) tool_calls: Vec<ToolUse>,
    /// Whether the visitor stopped it.
    pub(super) stopped: bool,
    /// Why it is the fallback text.
    pub(super) unanswered: Option<Unanswered>,
}

/// How thinking ended.
pub(super) enum Ended {
    /// With something to say.
    Thought(Thought),
    /// The visitor stopped it before anything was said.
    Stopped,
    /// A person has taken over, or the lease is lost.
    TakenOver,
}

impl Thought {
    pub(super) const fn is_fallback(&self) -> bool {
        self.model.is_none()
    }
}

/// A turn's exchange with the model. It goes on when newer messages come in, so that tools are not called again.
pub(super) struct Thinking<'a> {
    app: &'a App,
    scene: &'a Scene,
    conversation: crate::domain::Conversation,
    lease: Uuid,
    audience: &'a Audience,
    /// The message that the turn's tool calls are keyed by.
    anchor: Id<Message>,
    request: Request,
    guard: Guard,
    /// The visitor's language, as far as it can be told.
    lang: Option<Lang>,
    /// Why the model cannot be asked at all.
    broken: Option<Error>,
    /// Rounds of the whole turn, also those before newer messages came in.
    rounds: u32,
    calls: u32,
    so_far: Thought,
}

impl<'a> Thinking<'a> {
    pub(super) async fn new(app: &'a App, scene: &'a Scene, turn: &OwnTurn, audience: &'a Audience) -> Result<Self> {
        let anchor = turn.transcript.pending.first().map(|message| message.id);
        let mut target = target(app, &scene.snapshot);
        let broken = match verification::ensure_may_ask(app, &scene.account, &target.provider, scene.key_source()) {
            Ok(()) => add_own_key(app, &scene.snapshot, &mut target).await.err(),
            Err(error) => Some(error),
        };
        let mut messages = prompt::messages(&turn.transcript);
        let said: Vec<&Message> = turn.transcript.settled.iter().chain(&turn.transcript.pending).collect();
        let reported = messages.len() - said.len();
        sight::show(app, &target, &said, &mut messages[reported..]).await;
        let zone = schedule::zone(app, &scene.snapshot).await;
        let request = Request {
            target,
            system: prompt::system(&scene.snapshot, app.now(), zone.as_ref()),
            messages,
            tools: offered(&scene.snapshot),
            max_tokens: app.config.reply_tokens,
            temperature: None,
        };
        Ok(Self {
            app,
            scene,
            conversation: turn.head.clone(),
            lease: turn.lease.id,
            audience,
            anchor: anchor.ok_or_else(|| Error::internal("a turn without a message"))?,
            request,
            guard: Guard::new(&scene.snapshot.prompt),
            lang: spoken(&said),
            broken,
            rounds: 0,
            calls: 0,
            so_far: Thought::default(),
        })
    }

    /// Adds messages that came in while the model was thinking. The reply that was not stored is taken back: the next
    /// one must answer all of them.
    pub(super) async fn hear(&mut self, messages: Vec<Message>) {
        if matches!(self.request.messages.last(), Some(llm::Message::Assistant { .. })) {
            self.request.messages.pop();
        }
        let said: Vec<&Message> = messages.iter().collect();
        self.lang = spoken(&said).or(self.lang);
        let mut told: Vec<llm::Message> = messages.iter().map(prompt::said).collect();
        sight::show(self.app, &self.request.target, &said, &mut told).await;
        self.request.messages.extend(told);
    }

    /// Thinks for at most `budget`. When the model fails, cannot even be asked, or the time is up, the fallback text is the
    /// answer: the visitor is told something, and nothing is billed.
    pub(super) async fn think(&mut self, budget: Duration) -> Ended {
        let watch = Watch::of(self);
        let ended = tokio::select! {
            ended = tokio::time::timeout(budget, self.rounds()) => ended,
            interrupted = watch.interrupted() => return self.interrupted(interrupted),
        };
        let (failure, unanswered) = match ended {
            Ok(Ok(thought)) => return Ended::Thought(thought),
            Ok(Err(error)) => (error.to_string(), self.unanswered(&error)),
            Err(_) => ("the budget of the turn is used up".into(), Unanswered::Timeout),
        };
        self.audience.discard(Discarded::Failed);
        tracing::warn!(agent = %self.scene.snapshot.agent_id.text(), failure, "the fallback text stands in for a reply");
        let snapshot = &self.scene.snapshot;
        let usual = || self.lang.unwrap_or_else(|| snapshot.lang()).of(FALLBACK).to_owned();
        let content = snapshot.fallback_message.clone().unwrap_or_else(usual);
        let tool_calls = self.so_far.tool_calls.clone();
        Ended::Thought(Thought { content, tool_calls, unanswered: Some(unanswered), ..Thought::default() })
    }

    /// What the owner is told of a failure.
    fn unanswered(&self, error: &Error) -> Unanswered {
        match error.code() {
            Code::Forbidden => Unanswered::Suspended,
            Code::EmailNotVerified => Unanswered::EmailNotVerified,
            Code::NotConfigured | Code::EgressRefused => Unanswered::NotConfigured,
            // The agent's key does not open.
            _ if self.broken.is_some() => Unanswered::NotConfigured,
            Code::UpstreamError => Unanswered::ModelUnavailable,
            Code::Timeout => Unanswered::Timeout,
            _ if self.is_spent() => Unanswered::Limit,
            _ => Unanswered::Internal,
        }
    }

    /// What was told by the time that the visitor stopped it is the reply.
    fn interrupted(&self, interrupted: Interrupted) -> Ended {
        let said = self.guarded(self.audience.said());
        match interrupted {
            Interrupted::Stopped if !said.is_empty() => {
                // The provider tells no usage of what it could not end: it is estimated, as elsewhere.
                let usage = llm::estimate(&self.request, &said, &[]);
                let mut thought = Thought { content: said, stopped: true, ..self.so_far.clone() };
                thought.model = Some(self.request.target.model.clone());
                thought.usage += usage;
                Ended::Thought(thought)
            }
            Interrupted::Stopped => Ended::Stopped,
            Interrupted::TakenOver => Ended::TakenOver,
        }
    }

    /// Whether no further round may be asked: each reads the whole conversation once more.
    pub(super) fn is_spent(&self) -> bool {
        self.rounds == MAX_TOOL_ROUNDS || self.so_far.usage.total() >= self.app.config.turn_tokens
    }

    async fn rounds(&mut self) -> Result<Thought> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut beside_calls = None;
        while !self.is_spent() {
            self.rounds += 1;
            let completion = self.ask().await?;
            self.so_far.usage += completion.usage;
            let content = completion.content.trim();
            if completion.tool_calls.is_empty() {
                if content.is_empty() {
                    return Err(Error::with_message(Code::UpstreamError, "The model answered nothing."));
                }
                if completion.finish == Finish::Length {
                    let agent = self.scene.snapshot.agent_id.text();
                    tracing::warn!(agent, "a reply was cut: it is as long as CHATIA_REPLY_TOKENS allows");
                }
                let content = self.guarded(shorten(content, MAX_CONTENT));
                self.request.messages.push(llm::Message::assistant(content.clone()));
                return Ok(self.thought(content, completion.model));
            }
            let before = self.request.messages.len();
            beside_calls = (!content.is_empty()).then(|| (shorten(content, MAX_CONTENT), completion.model));
            self.request.messages.push(llm::Message::Assistant {
                content: completion.content,
                tool_calls: completion.tool_calls.clone(),
                kept: completion.kept,
            });
            self.audience.discard(Discarded::Tools);
            if let Err(error) = self.carry_out(&completion.tool_calls).await {
                // Calls without their results would make every later question unreadable.
                self.request.messages.truncate(before);
                return Err(error);
            }
        }
        // What it wrote beside its last calls is all that there is to say.
        let (content, model) =
            beside_calls.ok_or_else(|| Error::internal("the rounds or the tokens of the turn are used up"))?;
        tracing::warn!(agent = %self.scene.snapshot.agent_id.text(), "a turn ended before its model did");
        Ok(self.thought(self.guarded(content), model))
    }

    /// Asks the model, and another one if it fails.
    async fn ask(&mut self) -> Result<Completion> {
        let tokens = guard::Watched::new(&self.guard, self.audience);
        match self.app.llm.complete(&self.request, &tokens).await {
            Err(error) if error.kind() == Kind::Upstream && self.turns_to_another(&error) => {
                let tokens = guard::Watched::new(&self.guard, self.audience);
                self.app.llm.complete(&self.request, &tokens).await
            }
            completion => completion,
        }
    }

    async fn carry_out(&mut self, calls: &[ToolCall]) -> Result<()> {
        for call in calls {
            let name = shorten(&call.name, 64);
            self.audience.tool(&name, ToolStatus::Running);
            let result = self.call(call).await?;
            let failed = matches!(result, llm::Message::ToolResult { is_error: true, .. });
            self.audience.tool(&name, if failed { ToolStatus::Failed } else { ToolStatus::Succeeded });
            self.request.messages.push(result);
        }
        Ok(())
    }

    fn thought(&self, content: String, model: String) -> Thought {
        Thought { content, model: Some(model), ..self.so_far.clone() }
    }

    /// After a failure of the installation's own model: says whether there is another one to ask, once. A customer's key
    /// is the customer's choice, and so is its model.
    fn turns_to_another(&mut self, error: &Error) -> bool {
        let target = &mut self.request.target;
        let Some((provider, model)) = self.app.config.fallback_model.clone() else { return false };
        if target.api_key.is_some() || (&target.provider, &target.model) == (&provider, &model) {
            return false;
        }
        tracing::warn!(failed = target.model, asked = model, %error, "another model is asked");
        (target.provider, target.model) = (provider, model);
        self.audience.discard(Discarded::Failed);
        true
    }

    /// A reply as it may be told.
    fn guarded(&self, content: String) -> String {
        if self.guard.is_leak(&content) {
            tracing::warn!(agent = %self.scene.snapshot.agent_id.text(), "a reply held the agent's instructions");
            return guard::WITHHELD.to_owned();
        }
        guard::without_images(&content)
    }

    async fn call(&mut self, call: &ToolCall) -> Result<llm::Message> {
        self.calls += 1;
        let outcome = if self.calls > MAX_CALLS {
            tools::refused("Too many tool calls in one turn. Answer with what you have.")
        } else if call.arguments.to_string().len() > MAX_ARGUMENTS {
            // Neither kept nor carried out: an item has its limits.
            self.so_far.tool_calls.push(ToolUse { name: shorten(&call.name, 64), arguments: Value::Null, ok: false });
            return Ok(result(call, &tools::refused("The arguments are too long.")));
        } else {
            let place = tools::Place {
                conversation: &self.conversation,
                lease: self.lease,
                anchor: self.anchor,
                index: self.calls,
            };
            tools::call(self.app, self.scene, place, call).await?
        };
        let (name, arguments, ok) = (shorten(&call.name, 64), call.arguments.clone(), outcome.ok);
        self.so_far.tool_calls.push(ToolUse { name, arguments, ok });
        Ok(result(call, &outcome))
    }
}

/// The language of the last message of a visitor's that tells one.
fn spoken(said: &[&Message]) -> Option<Lang> {
    let by_visitor = said.iter().rev().filter(|message| message.author == Author::Visitor);
    by_visitor.map(|message| message.content.as_str()).find_map(Lang::detect)
}

/// Looks from time to time whether a turn may go on.
struct Watch<'a> {
    app: &'a App,
    workspace: Id<Workspace>,
    conversation: Id<Conversation>,
    lease: Uuid,
}

enum Interrupted {
    /// By the visitor.
    Stopped,
    /// By a person who answers now, or because the lease is somebody else's.
    TakenOver,
}

impl<'a> Watch<'a> {
    fn of(thinking: &Thinking<'a>) -> Self {
        let (workspace, conversation) = (thinking.conversation.workspace_id, thinking.conversation.id);
        Self { app: thinking.app, workspace, conversation, lease: thinking.lease }
    }

    /// Comes back when it may not.
    async fn interrupted(&self) -> Interrupted {
        loop {
            tokio::time::sleep(self.app.config.watch_every).await;
            match store::conversation::head(&self.app.table, self.workspace, self.conversation).await {
                Ok(head) => {
                    if head.ai_paused || head.turn.is_none_or(|turn| turn.id != self.lease) {
                        return Interrupted::TakenOver;
                    }
                    if head.stop == Some(self.lease) {
                        return Interrupted::Stopped;
                    }
                }
                // It was erased.
                Err(error) if error.code() == Code::NotFound => return Interrupted::TakenOver,
                // The commit asks again.
                Err(error) => tracing::warn!(%error, "a turn was not looked after"),
            }
        }
    }
}

fn result(call: &ToolCall, outcome: &tools::Told) -> llm::Message {
    // What a web service answers was written by others.
    let text = outcome.result.to_string();
    let is_ours = call.name != Builtin::HttpRequest.name();
    llm::Message::ToolResult {
        call_id: call.id.clone(),
        name: call.name.clone(),
        content: if is_ours { text } else { prompt::fenced(&call.name, &text) },
        is_error: !outcome.ok,
    }
}

/// The agent's tools, as the model is told of them.
pub(super) fn offered(snapshot: &Snapshot) -> Vec<llm::Tool> {
    let offered = |tool: &SnapshotTool| llm::Tool {
        name: tool.tool.name().into(),
        description: tool.tool.description().into(),
        parameters: tool.tool.parameters(&tool.config),
    };
    snapshot.tools.iter().map(offered).collect()
}

/// Which model answers, with the installation's key.
pub(super) fn target(app: &App, snapshot: &Snapshot) -> Target {
    let (provider, model) = app.config.model(snapshot.provider.as_deref(), snapshot.model.as_deref());
    Target { provider, model, api_key: None, base_url: None }
}

/// Adds the customer's key and address. An error is about the owner's set-up, and nothing that a visitor should read:
/// the key was sealed with one that is gone, or the address may not be called any more.
pub(super) async fn add_own_key(app: &App, snapshot: &Snapshot, target: &mut Target) -> Result<()> {
    let Some(sealed) = &snapshot.ai_key else { return Ok(()) };
    let place = Agent::secret_place(snapshot.workspace_id, snapshot.agent_id, SecretField::AiKey);
    target.api_key = Some(app.keys().await?.seal.open_text(&place, sealed)?);
    // A customer's address is called with the customer's key only: ours must never leave for it.
    target.base_url = snapshot.ai_base_url.as_deref().map(|url| app.egress.check_url(url)).transpose()?;
    Ok(())
}
