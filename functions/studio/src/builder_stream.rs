//! `POST /api/builder/stream`: building agents by chat, told while it goes on. A group of its own, since streaming is a
//! property of a whole function.

use axum::extract::State;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::app::{App, upload};
use shared::builder::{self, Frames, Incoming, MAX_IMAGES, Picture};
use shared::domain::Agent;
use shared::domain::builder::{Action, Frame, Position, Step};
use shared::domain::{BuilderMessage, BuilderThread};
use shared::http::{Call, EventStream, IdempotencyKey, LargeJson, LastEventId, SentFrame};
use shared::kernel::{Error, Id, Int, Result, Text, Time};
use shared::ports::llm::Image;
use uuid::Uuid;

/// The longest images of a message together, as data URLs.
const MAX_IMAGE_TEXT: usize = 3 * 1024 * 1024;

shared::ops! {
    /// Build agents by chat, and follow what the builder does.
    ///
    /// Frames: `thread`; then any of `plan_created`, `plan_step_updated`, `tool_called`, `tool_output`, `external_action`,
    /// `text_delta`; at last `done` or `error`. An `external_action` waits for
    /// `POST /api/builder/threads/{thread_id}/actions/{action_id}`: nothing is published, deleted or connected without it. The
    /// run goes on when the client leaves: send `Last-Event-ID` with `thread_id` to take it up again, or the same body with
    /// the same `client_message_id` (or `Idempotency-Key`). With `Last-Event-ID` no new message is taken. Ten a minute
    /// for each user and 200 a day for each workspace, previews of agents included; not billed.
    POST "/api/builder/stream" => stream_builder, [User] Editor "" AiAssist Any Known Unaudited Own also [404 409];
}

/// A message to the builder.
#[derive(Debug, Deserialize, JsonSchema)]
struct BuilderIn {
    /// 1 to 8,000 characters; not read beside `Last-Event-ID`.
    #[serde(default)]
    message: String,
    /// Up to 4 images, 3 MB together: data URLs (PNG, JPEG, GIF or WebP), or ids of `POST /api/builder/uploads`. They are
    /// shown to the model, if it sees, with this message, and not kept with it.
    #[serde(default)]
    images: Vec<String>,
    /// Where to go on; a new thread begins without it.
    #[serde(default)]
    thread_id: Option<String>,
    /// Your own id of this message, such as a UUID: 16 to 128 characters.
    #[serde(default)]
    client_message_id: Option<String>,
}

impl BuilderIn {
    fn read(self, key: Option<String>, last: Option<String>) -> Result<Incoming> {
        let no_frame =
            || Error::field("Last-Event-ID", "invalid", "Last-Event-ID must be the id of a frame of the builder");
        let had = last.filter(|last| !last.is_empty());
        Ok(Incoming {
            had: had.map(|last| Position::read(&last).ok_or_else(no_frame)).transpose()?,
            // Whatever names no thread of ours is not found.
            thread: self.thread_id.map(|id| Id::from_text(&id).ok_or_else(Error::not_found)).transpose()?,
            message: self.message,
            images: images(&self.images)?,
            client_message_id: self.client_message_id.or(key),
        })
    }
}

fn images(given: &[String]) -> Result<Vec<Picture>> {
    if given.len() > MAX_IMAGES {
        return Err(Error::field("images", "too_many", format!("images may hold {MAX_IMAGES} images")));
    }
    if given.iter().map(String::len).sum::<usize>() > MAX_IMAGE_TEXT {
        return Err(Error::field("images", "too_large", "images may have 3 MB together, as data URLs"));
    }
    given.iter().map(|given| picture(given)).collect()
}

fn picture(given: &str) -> Result<Picture> {
    if given.starts_with("obj_") {
        // What is no id names nothing.
        return Id::from_text(given).map(Picture::Uploaded).ok_or_else(upload::missing);
    }
    Image::from_data_url(given).map(Picture::Whole)
}

/// The `data` of a frame; `event` tells which one it is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum BuilderFrame {
    /// `thread`: the message is stored. The first frame.
    Thread {
        /// Where to go on with the next message.
        thread_id: Text<BuilderThread>,
        /// Which run answers.
        run_id: Uuid,
        message_id: Text<BuilderMessage>,
        /// Which model is asked.
        model: String,
        /// Whether that is no language model, but the rules of an installation without any.
        offline: bool,
    },
    /// `plan_created`: what will be done, or another plan in its place.
    PlanCreated {
        /// In order; each name says what is done.
        steps: Vec<Step>,
    },
    /// `plan_step_updated`: a task stands otherwise.
    PlanStepUpdated {
        /// The task as it is now.
        step: Step,
    },
    /// `tool_called`: the builder begins to do something.
    ToolCalled {
        /// Counts the calls of the run; `tool_output` names it.
        call: u32,
        name: String,
        arguments: Value,
    },
    /// `tool_output`: it has happened, or was refused.
    ToolOutput {
        /// The number of its `tool_called`.
        call: u32,
        name: String,
        /// Whether it was done.
        ok: bool,
        output: Value,
    },
    /// `external_action`: this waits for a confirmation, and has not happened.
    ExternalAction {
        /// Name it when you decide.
        action_id: Text<Action>,
        /// The tool that is called when it is confirmed.
        action: String,
        /// What it does, in a sentence that no model wrote.
        summary: String,
        /// What it is called with: exactly this is carried out.
        arguments: Value,
        agent_id: Int<Agent>,
        /// Which state of the agent it is shown with; name it when you decide.
        revision: Option<u32>,
        /// From then on it cannot be confirmed.
        expires_at: Time,
    },
    /// `text_delta`: the next piece of what the builder says; all of them joined are its message.
    TextDelta {
        /// Never empty.
        text: String,
    },
    /// `done`: the end. The last frame.
    Done {
        message_id: Text<BuilderMessage>,
        /// The agent that was built or changed last.
        agent_id: Option<Int<Agent>>,
        /// Actions of the thread that wait for a confirmation, this run's and earlier ones'.
        pending_actions: Vec<Text<Action>>,
        /// Whether somebody stopped it.
        stopped: bool,
        tokens_in: u64,
        tokens_out: u64,
    },
    /// `error`: it failed; what was done is kept. The last frame.
    Error {
        /// What went wrong, for people.
        detail: String,
        /// What went wrong, for programs.
        code: String,
    },
}

impl From<Frame> for BuilderFrame {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Thread { thread_id, run_id, message_id, model, offline } => {
                Self::Thread { thread_id: thread_id.into(), run_id, message_id: message_id.into(), model, offline }
            }
            Frame::PlanCreated { steps } => Self::PlanCreated { steps },
            Frame::PlanStepUpdated { step } => Self::PlanStepUpdated { step },
            Frame::ToolCalled { call, name, arguments } => Self::ToolCalled { call, name, arguments },
            Frame::ToolOutput { call, name, ok, output } => Self::ToolOutput { call, name, ok, output },
            Frame::ExternalAction(action) => Self::ExternalAction {
                action_id: action.id.into(),
                action: action.tool,
                summary: action.summary,
                arguments: action.arguments,
                agent_id: action.agent_id.into(),
                revision: action.revision,
                expires_at: action.expires_at,
            },
            Frame::TextDelta { text } => Self::TextDelta { text },
            Frame::Done { message_id, agent_id, pending, stopped, tokens: (tokens_in, tokens_out) } => Self::Done {
                message_id: message_id.into(),
                agent_id: agent_id.map(Int::from),
                pending_actions: pending.into_iter().map(Text::from).collect(),
                stopped,
                tokens_in,
                tokens_out,
            },
            Frame::Error { code, detail } => Self::Error { detail, code: code.replace('.', "_") },
        }
    }
}

async fn stream_builder(
    State(app): State<App>,
    call: Call,
    IdempotencyKey(key): IdempotencyKey,
    LastEventId(last): LastEventId,
    LargeJson(body): LargeJson<BuilderIn>,
) -> Result<EventStream<BuilderFrame>> {
    let frames = builder::begin(&app, &call.caller, call.address, body.read(key, last)?).await?;
    Ok(EventStream::new(stream::unfold(frames, next)))
}

async fn next(mut frames: Frames) -> Option<(SentFrame<BuilderFrame>, Frames)> {
    let (frame, position) = frames.next().await?;
    let name = frame.name();
    Some((SentFrame { name, id: position.to_string(), data: frame.into() }, frames))
}
