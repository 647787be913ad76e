//! Models for tests: one that waits until it is let go, one that says what it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use shared::kernel::{Code, Error, Result};
use shared::ports::llm::{Completion, Finish, Llm, Message, Request, Tokens, ToolCall, Usage};
use tokio::sync::Semaphore;

/// Lets a [`PausedModel`] go on, and tells when it was asked.
#[derive(Debug, Clone)]
pub struct Gate {
    asked: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { asked: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Tells that the model was asked, and waits until it may answer.
    async fn pass(&self) -> Result<()> {
        self.asked.add_permits(1);
        self.open.acquire().await.map_err(|_| Error::new(Code::UpstreamError))?.forget();
        Ok(())
    }

    /// Waits until the model has been asked once more.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn asked(&self) {
        self.asked.acquire().await.expect("never closed").forget();
    }

    /// Lets one answer out.
    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

/// A model that answers only when its gate is opened.
#[derive(Debug)]
pub struct PausedModel(Gate);

impl PausedModel {
    /// The model and its gate.
    #[must_use]
    pub fn new() -> (Self, Gate) {
        let gate = Gate::new();
        (Self(gate.clone()), gate)
    }
}

#[async_trait]
impl Llm for PausedModel {
    async fn complete(&self, request: &Request, _: &dyn Tokens) -> Result<Completion> {
        self.0.pass().await?;
        Ok(completion(&echo(request), Vec::new()))
    }
}

/// In what pieces a model writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// Letter by letter.
    Letters,
    /// Word by word.
    Words,
}

impl Typing {
    fn write(self, text: &str, tokens: &dyn Tokens) {
        match self {
            Self::Letters => text.chars().for_each(|c| tokens.token(c.encode_utf8(&mut [0; 4]))),
            Self::Words => text.split_inclusive(char::is_whitespace).for_each(|word| tokens.token(word)),
        }
    }
}

/// What a scripted model does next.
#[derive(Debug)]
enum Next {
    Plays(Result<Completion>),
    /// Says this, and whatever it was given.
    Repeats(String),
}

/// A model that plays back what it is given, then echoes the visitor's last message.
#[derive(Debug, Clone, Default)]
pub struct ScriptedModel {
    script: Arc<Mutex<VecDeque<Next>>>,
    heard: Arc<Mutex<Vec<Request>>>,
    typing: Arc<Mutex<Option<Typing>>>,
    pause: Option<(usize, Gate)>,
}

impl ScriptedModel {
    /// A model without a script: it echoes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, but before the answer of this number, the first being 1, it waits until its gate is opened.
    #[must_use]
    pub fn pausing_at(self, number: usize) -> (Self, Gate) {
        let gate = Gate::new();
        (Self { pause: Some((number, gate.clone())), ..self }, gate)
    }

    /// Next, it says this.
    pub fn says(&self, text: &str) {
        self.push(Ok(completion(text, Vec::new())));
    }

    /// Next, it says this, and repeats every result of a tool that it was given.
    pub fn says_and_repeats(&self, text: &str) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).push_back(Next::Repeats(text.to_owned()));
    }

    /// From now on it writes whatever it says in such pieces, and not at once.
    pub fn types(&self, typing: Typing) {
        *self.typing.lock().unwrap_or_else(PoisonError::into_inner) = Some(typing);
    }

    /// Next, it calls a tool.
    pub fn calls(&self, name: &str, arguments: serde_json::Value) {
        let call = ToolCall { id: "call-1".into(), name: name.into(), arguments };
        self.push(Ok(completion("", vec![call])));
    }

    /// Next, it says this and calls these tools at once.
    pub fn says_and_calls(&self, text: &str, calls: Vec<(&str, serde_json::Value)>) {
        let call = |(at, (name, arguments)): (usize, (&str, serde_json::Value))| ToolCall {
            id: format!("call-{at}"),
            name: name.into(),
            arguments,
        };
        self.push(Ok(completion(text, calls.into_iter().enumerate().map(call).collect())));
    }

    /// Next, it fails.
    pub fn fails(&self) {
        self.push(Err(Error::new(Code::UpstreamError).caused_by("scripted failure")));
    }

    /// Everything that it was asked.
    pub fn heard(&self) -> Vec<Request> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, next: Result<Completion>) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).push_back(Next::Plays(next));
    }
}

#[async_trait]
impl Llm for ScriptedModel {
    async fn complete(&self, request: &Request, tokens: &dyn Tokens) -> Result<Completion> {
        let number = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push(request.clone());
            heard.len()
        };
        if let Some((_, gate)) = self.pause.as_ref().filter(|(at, _)| *at == number) {
            gate.pass().await?;
        }
        let next = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let next = match next {
            Some(Next::Plays(next)) => next,
            Some(Next::Repeats(text)) => Ok(completion(&format!("{text}\n\n{}", results(request)), Vec::new())),
            None => Ok(completion(&echo(request), Vec::new())),
        };
        let typing = *self.typing.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(completion), Some(typing)) = (&next, typing) {
            typing.write(&completion.content, tokens);
        }
        next
    }
}

/// A model that writes piece by piece.
#[derive(Debug, Clone)]
pub struct TypingModel {
    pieces: Vec<String>,
    fails: bool,
    pause: Option<(usize, Gate)>,
    each: Option<(usize, Duration)>,
}

impl TypingModel {
    /// It writes these pieces.
    #[must_use]
    pub fn new(pieces: &[&str]) -> Self {
        Self { pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(), fails: false, pause: None, each: None }
    }

    /// The same, but after so many pieces it takes that long for each.
    #[must_use]
    pub fn slowing_after(self, pieces: usize, each: Duration) -> Self {
        Self { each: Some((pieces, each)), ..self }
    }

    /// The same, but it fails in the end.
    #[must_use]
    pub fn failing(self) -> Self {
        Self { fails: true, ..self }
    }

    /// The same, but after so many pieces it waits until its gate is opened.
    #[must_use]
    pub fn pausing_after(self, pieces: usize) -> (Self, Gate) {
        let gate = Gate::new();
        (Self { pause: Some((pieces, gate.clone())), ..self }, gate)
    }
}

#[async_trait]
impl Llm for TypingModel {
    async fn complete(&self, _: &Request, tokens: &dyn Tokens) -> Result<Completion> {
        for (number, piece) in self.pieces.iter().enumerate() {
            if let Some((_, gate)) = self.pause.as_ref().filter(|(after, _)| *after == number) {
                gate.pass().await?;
            }
            tokens.token(piece);
            match self.each {
                // A provider's pace; the tests wait for frames.
                Some((after, each)) if number >= after => tokio::time::sleep(each).await,
                _ => tokio::task::yield_now().await,
            }
        }
        if self.fails {
            return Err(Error::new(Code::UpstreamError).caused_by("it broke off"));
        }
        Ok(completion(&self.pieces.concat(), Vec::new()))
    }
}

/// Repeats every message of the visitor that stands behind the last answer, so that a test sees what a reply saw.
fn echo(request: &Request) -> String {
    let unanswered = request.messages.iter().rev().take_while(|message| !matches!(message, Message::Assistant { .. }));
    let mut said: Vec<&str> = unanswered
        .filter_map(|message| match message {
            Message::User { content, .. } => Some(content.as_str()),
            Message::Assistant { .. } | Message::ToolResult { .. } => None,
        })
        .collect();
    said.reverse();
    format!("you said: {}", said.join(" | "))
}

/// All that tools gave.
fn results(request: &Request) -> String {
    let result = |message: &Message| match message {
        Message::ToolResult { content, .. } => Some(content.clone()),
        Message::User { .. } | Message::Assistant { .. } => None,
    };
    request.messages.iter().filter_map(result).collect::<Vec<_>>().join("\n")
}

fn completion(text: &str, tool_calls: Vec<ToolCall>) -> Completion {
    let finish = if tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    let usage = Usage { tokens_in: 10, tokens_out: 5, cached_in: 4, reasoning_out: 2 };
    Completion { content: text.into(), tool_calls, kept: None, usage, model: "test-1".into(), finish }
}
