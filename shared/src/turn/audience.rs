//! Whoever follows a turn while it goes on. What is told of a reply before it is stored is provisional: `discard` takes it
//! back, `done` makes it good. A turn does not need anybody to listen, and does not wait for anybody.
//!
//! Each frame has a position: how much of the reply the listener has by then, and a digest of it. A listener whose
//! connection broke sends the last position that it has seen, and gets the rest of the reply if it is the same reply, or is
//! told to discard what it has. No process needs to remember anything for that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Outcome;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Error, Result};
use crate::ports::llm::Tokens;

/// How much of a digest a position holds, in hexadecimal digits.
const DIGEST: usize = 16;

/// Something that is told of a turn.
#[derive(Debug)]
pub enum Frame {
    /// The message is stored.
    Start {
        /// The handle of its conversation.
        handle: String,
    },
    /// The next piece of the reply, never empty.
    Token(String),
    /// A tool.
    Tool {
        /// Its name.
        name: String,
        /// How it stands.
        status: ToolStatus,
    },
    /// What was told of the reply is not it.
    Discard {
        /// Why.
        reason: Discarded,
        /// Whether nothing comes after it.
        is_last: bool,
    },
    /// The reply is stored, and all of it was told. The last frame.
    Done(Outcome),
    /// There is no reply. The last frame.
    Error(Error),
}

impl Frame {
    /// Its name, as it is sent.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Token(_) => "token",
            Self::Tool { .. } => "tool",
            Self::Discard { .. } => "discard",
            Self::Done(_) => "done",
            Self::Error(_) => "error",
        }
    }

    const fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Error(_) | Self::Discard { is_last: true, .. })
    }
}

/// How a tool call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It begins.
    Running,
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
}

/// Why what was told of a reply is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discarded {
    /// The model calls tools and answers after that.
    Tools,
    /// Another message came in; the reply will answer both.
    NewerMessage,
    /// The model failed.
    Failed,
    /// The model was about to tell its instructions.
    Withheld,
    /// The listener has the beginning of another reply.
    OtherReply,
    /// A person has taken over.
    HumanTakeover,
    /// The visitor has stopped it, before there was any text.
    Stopped,
}

/// How much of a reply a listener has: `<bytes>-<digest>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    bytes: usize,
    digest: String,
}

impl Position {
    fn behind(text: &str) -> Self {
        Self { bytes: text.len(), digest: sha256_hex(text)[..DIGEST].to_owned() }
    }

    /// Reads what a listener sends back; `None` when it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (bytes, digest) = text.split_once('-')?;
        Some(Self { bytes: bytes.parse().ok()?, digest: digest.to_owned() })
    }

    /// The part of a reply that is behind this; `None` when it is another reply.
    fn rest<'a>(&self, reply: &'a str) -> Option<&'a str> {
        let (had, rest) = reply.split_at_checked(self.bytes)?;
        (Self::behind(had) == *self).then_some(rest)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.bytes, self.digest)
    }
}

/// The frames of one turn, for one listener.
#[derive(Debug)]
pub struct Frames {
    first: Option<(Frame, Position)>,
    rest: UnboundedReceiver<(Frame, Position)>,
    ended: bool,
}

impl Frames {
    /// Waits until the message is stored.
    ///
    /// # Errors
    /// What kept it from being stored.
    pub(super) async fn begun(mut rest: UnboundedReceiver<(Frame, Position)>) -> Result<Self> {
        match rest.recv().await {
            Some((Frame::Error(error), _)) => Err(error),
            Some(first) => Ok(Self { first: Some(first), rest, ended: false }),
            None => Err(Error::internal("a turn stopped")),
        }
    }

    /// The next frame and the position after it; `None` after the last one. The last one always comes.
    pub async fn next(&mut self) -> Option<(Frame, Position)> {
        if self.ended {
            return None;
        }
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.rest.recv().await,
        };
        let next = next.unwrap_or_else(|| (Frame::Error(Error::internal("a turn stopped")), Position::behind("")));
        self.ended = next.0.is_last();
        Some(next)
    }
}

/// Who listens to a turn, if anybody.
pub(super) struct Audience(Option<Listener>);

struct Listener {
    sender: UnboundedSender<(Frame, Position)>,
    said: Mutex<Said>,
}

/// What the listener has of the reply.
#[derive(Default)]
struct Said {
    text: String,
    /// Spaces that are told only when something comes behind them: a reply has none at its ends.
    spaces: String,
    /// What it had when it came.
    had: Option<Position>,
}

impl Audience {
    /// Nobody: the turn is answered in one piece.
    pub(super) const fn nobody() -> Self {
        Self(None)
    }

    /// A listener, who may have something of the reply already.
    pub(super) fn listener(had: Option<Position>) -> (Self, UnboundedReceiver<(Frame, Position)>) {
        let (sender, receiver) = unbounded_channel();
        let had = had.filter(|had| had.bytes > 0);
        (Self(Some(Listener { sender, said: Mutex::new(Said { had, ..Said::default() }) })), receiver)
    }

    /// Whether anybody listens, or did: who has left may come back and stop the turn.
    pub(super) const fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// The message is stored.
    pub(super) fn start(&self, handle: String) {
        self.tell(|_| Some(Frame::Start { handle }));
    }

    /// A tool begins or ends.
    pub(super) fn tool(&self, name: &str, status: ToolStatus) {
        self.tell(|_| Some(Frame::Tool { name: name.to_owned(), status }));
    }

    /// Takes back what was told, if anything was.
    pub(super) fn discard(&self, reason: Discarded) {
        self.tell(|said| said.forget().then_some(Frame::Discard { reason, is_last: false }));
    }

    /// What was told of the reply so far; empty when nobody listens.
    pub(super) fn said(&self) -> String {
        self.0.as_ref().map(|listener| listener.said().text.clone()).unwrap_or_default()
    }

    /// The end: whatever the listener lacks of the reply, and the outcome.
    pub(super) fn end(&self, outcome: Result<Outcome>) {
        let frame = match outcome {
            Err(error) => Frame::Error(error),
            Ok(Outcome { stopped: true, reply: None, .. }) => {
                Frame::Discard { reason: Discarded::Stopped, is_last: true }
            }
            Ok(Outcome { reply: None, .. }) => Frame::Discard { reason: Discarded::HumanTakeover, is_last: true },
            Ok(outcome) => {
                self.complete(outcome.reply.as_ref().map_or("", |reply| &reply.content));
                Frame::Done(outcome)
            }
        };
        self.tell(|said| {
            if matches!(frame, Frame::Discard { .. }) {
                said.forget();
            }
            Some(frame)
        });
    }

    fn complete(&self, reply: &str) {
        let rest = |said: &Said| match &said.had {
            Some(had) => had.rest(reply).map(str::to_owned),
            None => reply.strip_prefix(said.text.as_str()).map(str::to_owned),
        };
        let Some(listener) = &self.0 else { return };
        let rest = rest(&listener.said());
        let rest = rest.unwrap_or_else(|| {
            self.discard(Discarded::OtherReply);
            reply.to_owned()
        });
        self.tell(|said| {
            (said.text, said.had) = (reply.to_owned(), None);
            (!rest.is_empty()).then_some(Frame::Token(rest))
        });
    }

    fn tell(&self, frame: impl FnOnce(&mut Said) -> Option<Frame>) {
        let Some(listener) = &self.0 else { return };
        let mut said = listener.said();
        let Some(frame) = frame(&mut said) else { return };
        let position = said.had.clone().unwrap_or_else(|| Position::behind(&said.text));
        // A listener who has gone misses nothing: the reply is stored all the same.
        drop(listener.sender.send((frame, position)));
    }
}

impl Listener {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// Says whether there was anything.
    fn forget(&mut self) -> bool {
        self.spaces.clear();
        let (text, had) = (std::mem::take(&mut self.text), self.had.take());
        !text.is_empty() || had.is_some()
    }

    /// What to tell of a new piece.
    fn add(&mut self, piece: &str) -> Option<String> {
        let piece = format!("{}{piece}", std::mem::take(&mut self.spaces));
        let piece = if self.text.is_empty() { piece.trim_start() } else { piece.as_str() };
        let shown = piece.trim_end();
        piece[shown.len()..].clone_into(&mut self.spaces);
        self.text.push_str(shown);
        (!shown.is_empty()).then(|| shown.to_owned())
    }
}

impl Tokens for Audience {
    fn token(&self, text: &str) {
        if self.0.as_ref().is_some_and(|listener| listener.said().had.is_some()) {
            // It has the beginning of a reply that was never stored.
            self.discard(Discarded::OtherReply);
        }
        self.tell(|said| said.add(text).map(Frame::Token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::KeySource;
    use crate::kernel::Id;
    use crate::turn::Answer;

    fn outcome(reply: Option<&str>) -> Result<Outcome> {
        let message_id = Id::from_int(1).unwrap();
        let answer =
            |text: &str| Answer { message_id, content: text.into(), free_messages_remaining: None, stopped: false };
        let (handle, key_source) = ("conv_1".into(), KeySource::Managed);
        Ok(Outcome { handle, reply: reply.map(answer), key_source, free_messages_remaining: None, stopped: false })
    }

    /// What a listener has after each frame, as a client would keep it.
    async fn heard(mut receiver: UnboundedReceiver<(Frame, Position)>) -> (Vec<String>, String) {
        let (mut names, mut text) = (Vec::new(), String::new());
        receiver.close();
        while let Some((frame, position)) = receiver.recv().await {
            names.push(frame.name().to_owned());
            match frame {
                Frame::Token(token) => text.push_str(&token),
                Frame::Discard { .. } => text.clear(),
                _ => {}
            }
            assert_eq!(position, Position::behind(&text));
        }
        (names, text)
    }

    #[tokio::test]
    async fn tokens_and_what_is_stored_are_the_same_text() {
        let (audience, receiver) = Audience::listener(None);
        for token in ["  ", " Hello", " ", "", "world \n", "  "] {
            audience.token(token);
        }
        audience.end(outcome(Some("Hello world")));
        assert_eq!(
            heard(receiver).await,
            (["token", "token", "done"].map(String::from).to_vec(), "Hello world".into())
        );
    }

    #[tokio::test]
    async fn what_was_told_of_another_text_is_taken_back() {
        let (audience, receiver) = Audience::listener(None);
        audience.token("Let me look");
        audience.discard(Discarded::Tools);
        audience.discard(Discarded::Tools);
        audience.token("It is");
        audience.end(outcome(Some("Sorry.")));
        let names = ["token", "discard", "token", "discard", "token", "done"].map(String::from).to_vec();
        assert_eq!(heard(receiver).await, (names, "Sorry.".into()));
    }

    #[tokio::test]
    async fn who_comes_again_gets_the_rest_and_nothing_twice() {
        let reply = "Año nuevo, vida nueva";
        for (cut, _) in reply.char_indices() {
            let had = Position::read(&Position::behind(&reply[..cut]).to_string());
            let (audience, mut receiver) = Audience::listener(had);
            audience.start("conv_1".into());
            audience.end(outcome(Some(reply)));
            receiver.close();
            let mut text = reply[..cut].to_owned();
            while let Some((frame, _)) = receiver.recv().await {
                match frame {
                    Frame::Token(token) => text.push_str(&token),
                    Frame::Discard { .. } => panic!("it is the same reply"),
                    _ => {}
                }
            }
            assert_eq!(text, reply, "{cut}");
        }
    }

    #[tokio::test]
    async fn who_has_another_beginning_is_told_to_discard_it() {
        for had in ["5-0123456789abcdef", "900-0123456789abcdef"] {
            let (audience, mut receiver) = Audience::listener(Position::read(had));
            audience.end(outcome(Some("Hello world")));
            assert!(matches!(receiver.recv().await, Some((Frame::Discard { is_last: false, .. }, _))));
            assert!(matches!(receiver.recv().await, Some((Frame::Token(text), _)) if text == "Hello world"));
        }
        for text in ["", "-", "5", "five-0123", "-5-0123"] {
            assert!(Position::read(text).is_none(), "{text}");
        }
    }

    #[tokio::test]
    async fn the_last_frame_always_comes_and_nothing_after_it() {
        let (audience, receiver) = Audience::listener(None);
        audience.start("conv_1".into());
        drop(audience);
        let mut frames = Frames::begun(receiver).await.unwrap();
        assert!(matches!(frames.next().await, Some((Frame::Start { .. }, _))));
        assert!(matches!(frames.next().await, Some((Frame::Error(_), _))), "the turn panicked");
        assert!(frames.next().await.is_none());
    }
}
