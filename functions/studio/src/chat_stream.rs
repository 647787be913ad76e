//! `POST /api/public/agents/{slug}/chat/stream`: the public chat, told while it goes on. A group of its own, since
//! streaming is a property of a whole function.

use axum::extract::State;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;
use shared::app::App;
use shared::http::{EventStream, IdempotencyKey, Json, LastEventId, Path, SentFrame, Visit};
use shared::kernel::Result;
use shared::turn;
use shared::turn::audience::{Discarded, Frame, Frames, Position, ToolStatus};

use crate::chat::{ChatIn, ChatOut};
use crate::dialect::{self, ErrorOut};

shared::ops! {
    /// Send a message and follow the reply while it is written.
    ///
    /// Frames: `start`; then any of `token`, `tool`, `discard`; at last `done`, `error`, or a `discard` that is final.
    /// Tokens joined are the reply; a `discard` takes back what came so far. The reply exists with `done`. It is stored
    /// and metered also when the client leaves. After a broken connection send the same body again, with the same
    /// `client_message_id`, and `Last-Event-ID`: the rest follows, and nothing is charged twice. Before the message is
    /// stored, errors are answers as everywhere; after that, frames.
    POST "/api/public/agents/{slug}/chat/stream" => stream_chat, [] Anyone "" PublicChat Any Known Unaudited Own also [402 403 409];
}

/// The `data` of a frame; `event` tells which one it is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ChatFrame {
    /// `start`: the message is stored.
    Start {
        /// The handle of the conversation: keep it secret, give it with the next message.
        conversation_id: String,
    },
    /// `token`: the next piece of the reply.
    Token {
        /// Never empty.
        text: String,
    },
    /// `tool`: the agent does something.
    Tool {
        /// Which tool.
        name: String,
        /// How it stands.
        status: ToolStatus,
    },
    /// `discard`: forget the text that came so far.
    Discard {
        /// Why.
        reason: Discarded,
        /// Whether this is the last frame: then there is no reply.
        r#final: bool,
    },
    /// `done`: the reply is stored. The last frame.
    Done(ChatOut),
    /// `error`: there is no reply. The last frame.
    Error(ErrorOut),
}

impl From<Frame> for ChatFrame {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Start { handle } => Self::Start { conversation_id: handle },
            Frame::Token(text) => Self::Token { text },
            Frame::Tool { name, status } => Self::Tool { name, status },
            Frame::Discard { reason, is_last } => Self::Discard { reason, r#final: is_last },
            Frame::Done(outcome) => Self::Done(outcome.into()),
            Frame::Error(error) => Self::Error(dialect::body(&error)),
        }
    }
}

async fn stream_chat(
    State(app): State<App>,
    _: Visit,
    Path(slug): Path<String>,
    IdempotencyKey(key): IdempotencyKey,
    LastEventId(last): LastEventId,
    Json(body): Json<ChatIn>,
) -> Result<EventStream<ChatFrame>> {
    let had = last.as_deref().and_then(Position::read);
    let frames = turn::follow(&app, body.read(slug, key)?, had).await?;
    Ok(EventStream::new(stream::unfold(frames, next)))
}

async fn next(mut frames: Frames) -> Option<(SentFrame<ChatFrame>, Frames)> {
    let (frame, position) = frames.next().await?;
    let name = frame.name();
    Some((SentFrame { name, id: position.to_string(), data: frame.into() }, frames))
}
