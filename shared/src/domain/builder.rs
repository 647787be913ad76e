//! The builder: a thread in which somebody builds agents by talking, its plan, its runs, what was told of them, and what
//! waits for a confirmation.

pub mod plan;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::message::ToolUse;
use super::{Agent, User, Workspace};
use crate::kernel::{Id, Time};

pub use plan::{Step, StepStatus};

/// A thread of a builder. It belongs to the workspace: whoever may edit agents may read it and go on in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuilderThread {
    /// Identity.
    pub id: Id<BuilderThread>,
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// Who began it.
    #[serde(default)]
    pub user_id: Option<Id<User>>,
    /// The beginning of its first message.
    pub title: String,
    /// The agent that was built or changed last.
    #[serde(default)]
    pub agent_id: Option<Id<Agent>>,
    /// The plan that counts.
    #[serde(default)]
    pub plan: Vec<Step>,
    /// The run that holds it; there is one at a time.
    #[serde(default)]
    pub run: Option<Run>,
    /// The run that was asked to stop.
    #[serde(default)]
    pub stop: Option<Uuid>,
    /// Whether it is being deleted: it is not there any more, for anybody.
    #[serde(default)]
    pub deleting: bool,
    /// When it began.
    pub created_at: Time,
    /// Its last message.
    pub updated_at: Time,
}

/// A run holds its thread until `until`, which it moves on while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Identity.
    pub id: Uuid,
    /// In milliseconds.
    pub until: i64,
}

impl BuilderThread {
    /// The run that is at work.
    #[must_use]
    pub fn running(&self, now: Time) -> Option<Uuid> {
        self.run.filter(|run| run.until > now.millis()).map(|run| run.id)
    }
}

/// A message of a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuilderMessage {
    /// Identity, in order of time.
    pub id: Id<BuilderMessage>,
    /// Who wrote it.
    pub role: BuilderRole,
    /// The text; empty when only tools were used.
    pub content: String,
    /// How many images came with it. They are shown to the model and not kept.
    #[serde(default)]
    pub images: u32,
    /// The tools that were used for it.
    #[serde(default)]
    pub tools: Vec<ToolUse>,
    /// The run that answers it, or that it is of.
    #[serde(default)]
    pub run_id: Option<Uuid>,
    /// When.
    pub created_at: Time,
}

/// Who wrote a message of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuilderRole {
    /// Somebody of the workspace.
    User,
    /// The builder.
    Assistant,
    /// What became of an action that waited for a confirmation.
    Action,
}

/// An image that was uploaded, to be named in a message. What it shows never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Identity.
    pub id: Id<Upload>,
    /// What its bytes are, such as `image/png`.
    pub content_type: String,
    /// How many bytes.
    pub size: u64,
    /// From then on it cannot be named.
    pub expires_at: Time,
}

/// Something that happens only if a person confirms it: exactly this, once, in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Identity.
    pub id: Id<Action>,
    /// Where it was asked for.
    pub thread_id: Id<BuilderThread>,
    /// The builder's tool that it is a call of.
    pub tool: String,
    /// What it is called with.
    #[serde(with = "crate::kernel::json_text")]
    pub arguments: Value,
    /// What it does, in a sentence that no model wrote.
    pub summary: String,
    /// Which agent it is about.
    pub agent_id: Id<Agent>,
    /// The agent's revision that was shown: what is confirmed is about that one.
    #[serde(default)]
    pub revision: Option<u32>,
    /// How it stands.
    pub status: ActionStatus,
    /// When it was asked for.
    pub created_at: Time,
    /// From then on it cannot be confirmed.
    pub expires_at: Time,
    /// When it was decided.
    #[serde(default)]
    pub decided_at: Option<Time>,
    /// By whom: `user_…`.
    #[serde(default)]
    pub decided_by: Option<String>,
    /// Why it is stored as expired.
    #[serde(default)]
    pub lapse: Option<Lapse>,
}

/// Why an action can be confirmed no more, though nobody decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lapse {
    /// Nobody decided in time.
    TooLate,
    /// The agent had changed: the same call waits as another action, shown as the agent is by then.
    ShownAnew,
    /// The agent was deleted.
    AgentDeleted,
    /// What it is about is not there any more, such as a tool that the agent does not have now.
    Gone,
}

/// How an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionStatus {
    /// It waits.
    Pending,
    /// It was confirmed, and is done.
    Done,
    /// It was declined.
    Declined,
    /// Nobody decided in time, it was shown anew, or there is nothing left to do it to.
    Expired,
}

impl Action {
    /// How it stands at a time.
    #[must_use]
    pub fn standing(&self, now: Time) -> ActionStatus {
        if self.status == ActionStatus::Pending && self.expires_at <= now { ActionStatus::Expired } else { self.status }
    }

    /// Why it has expired, when it has.
    #[must_use]
    pub fn lapsed(&self, now: Time) -> Option<Lapse> {
        match (self.status, self.standing(now)) {
            // Being shown anew was the only reason before reasons were stored.
            (ActionStatus::Expired, _) => Some(self.lapse.unwrap_or(Lapse::ShownAnew)),
            (_, ActionStatus::Expired) => Some(Lapse::TooLate),
            _ => None,
        }
    }
}

/// Something that is told of a run. Each is stored under its number before it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Frame {
    /// The message is stored. The first frame.
    Thread {
        /// In which thread.
        thread_id: Id<BuilderThread>,
        /// Which run answers.
        run_id: Uuid,
        /// The message.
        message_id: Id<BuilderMessage>,
        /// Which model is asked.
        model: String,
        /// Whether that is no language model.
        offline: bool,
    },
    /// There is a plan, or another one.
    PlanCreated {
        /// Its tasks.
        steps: Vec<Step>,
    },
    /// A task stands otherwise.
    PlanStepUpdated {
        /// The task as it is now.
        step: Step,
    },
    /// A tool begins.
    ToolCalled {
        /// Its number in the run.
        call: u32,
        /// Its name.
        name: String,
        /// What it is called with.
        arguments: Value,
    },
    /// What a tool did, in the transaction in which it did it.
    ToolOutput {
        /// Its number in the run.
        call: u32,
        /// Its name.
        name: String,
        /// Whether it did it.
        ok: bool,
        /// What came of it.
        output: Value,
    },
    /// Something waits for a confirmation.
    ExternalAction(Box<Action>),
    /// The next piece of what the builder says.
    TextDelta {
        /// Never empty.
        text: String,
    },
    /// The end.
    Done {
        /// The builder's stored message.
        message_id: Id<BuilderMessage>,
        /// The agent that was built or changed last.
        agent_id: Option<Id<Agent>>,
        /// Actions of the thread that wait.
        pending: Vec<Id<Action>>,
        /// Whether it was stopped.
        stopped: bool,
        /// Tokens read and written in all rounds.
        tokens: (u64, u64),
    },
    /// The end: it failed.
    Error {
        /// The code.
        code: String,
        /// What went wrong.
        detail: String,
    },
}

impl Frame {
    /// Its name, as it is sent.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Thread { .. } => "thread",
            Self::PlanCreated { .. } => "plan_created",
            Self::PlanStepUpdated { .. } => "plan_step_updated",
            Self::ToolCalled { .. } => "tool_called",
            Self::ToolOutput { .. } => "tool_output",
            Self::ExternalAction(_) => "external_action",
            Self::TextDelta { .. } => "text_delta",
            Self::Done { .. } => "done",
            Self::Error { .. } => "error",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Error { .. })
    }
}

/// What a client has of a run: the number of the last frame, `<run>-<number>` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which run.
    pub run: Uuid,
    /// The last frame that the client has; 0 for none.
    pub number: u32,
}

impl Position {
    /// Reads what a client sends back; `None` when it is none of ours.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (run, number) = text.rsplit_once('-')?;
        Some(Self { run: Uuid::try_parse(run).ok()?, number: number.parse().ok()? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.run.simple(), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_rubbish_is_none() {
        let position = Position { run: Uuid::from_u128(7 << 90), number: 12 };
        assert_eq!(Position::read(&position.to_string()), Some(position));
        for text in ["", "-", "12", "12-ab", "zz-3", "-3", "00000000000000000000000000000007-"] {
            assert_eq!(Position::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_frame_is_stored_as_it_is_told() {
        let arguments = serde_json::json!({"name": "Luna", "number": 1.5e300});
        let frame = Frame::ToolCalled { call: 1, name: "create_agent".into(), arguments };
        let text = serde_json::to_string(&frame).unwrap();
        assert_eq!(serde_json::from_str::<Frame>(&text).unwrap(), frame);
    }
}
