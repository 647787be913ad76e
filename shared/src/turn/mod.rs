//! One turn of an agent: load, accept, think, commit.
//!
//! 1. **Load** ([`load`]): the live snapshot, the conversation with its last messages, the account. One parallel trip.
//! 2. **Accept** ([`accept`]): the visitor's message and its event in one transaction that takes the conversation's
//!    lease when it is free; beside it the allowance. The message is stored before the model is asked.
//! 3. **Think** ([`think`]): the model, with tools, within the budget.
//! 4. **Commit** ([`commit`]): reply, usage event, event and the end of the lease in one transaction, on the condition
//!    that the lease is still ours, nobody has taken over and no newer message came in.
//!
//! A message that finds the conversation held is stored, and its caller waits ([`wait`]): the running turn answers it
//! too, or the waiting caller takes the lease when that turn ends without having seen it. A reply names the messages
//! that it answers, so nothing is answered twice.
//!
//! A caller may follow the turn while it goes on ([`audience`]): then what the model writes is told as it comes, and the
//! turn looks every second whether a person has taken over or the visitor has had enough.

mod accept;
mod allowance;
pub mod audience;
pub mod channel;
mod commit;
mod guard;
mod identify;
mod load;
pub mod preview;
mod prompt;
mod redact;
mod runs;
mod schedule;
mod sight;
mod think;
mod tools;
mod transcript;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use crate::access::RateClass;
use crate::app::App;
use crate::domain::identity::Claim;
use crate::domain::message::{MAX_VISITOR_CHARS, Message};
use crate::domain::text::Checks;
use crate::domain::usage::KeySource;
use crate::kernel::{Code, Error, Id, Result, Time, Work, work};
use crate::ports::journal::Kind;
use crate::store;
use crate::store::conversation::turn_is;
use crate::table::{Refusal, Update};

pub use prompt::{defused, fenced};
pub use sight::sees;
pub use tools::{arguments, fitting};

use accept::Accepted;
use audience::{Audience, Frames, Position};

/// A visitor's message.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The public slug of the agent.
    pub slug: String,
    /// The handle of a running conversation; a new one begins without it.
    pub handle: Option<String>,
    /// What the visitor's browser calls itself.
    pub visitor_id: Option<String>,
    /// The text.
    pub content: String,
    /// The caller's own id of the message: the same id again is answered with the stored outcome.
    pub client_message_id: Option<String>,
    /// Earlier messages as the browser reports them; used for a new conversation only, and never believed.
    pub history: Vec<Reported>,
    /// Whom the visitor's site says that they are.
    pub identity: Option<Claim>,
}

/// An earlier message as a browser reports it.
#[derive(Debug, Clone)]
pub struct Reported {
    /// Whether the agent said it.
    pub by_agent: bool,
    /// The text.
    pub content: String,
}

/// What came of a message.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The handle of the conversation.
    pub handle: String,
    /// The reply; `None` when a person has taken over.
    pub reply: Option<Answer>,
    /// Whose key answers for this agent.
    pub key_source: KeySource,
    /// Trial messages left, on a trial: after the reply if there is one.
    pub free_messages_remaining: Option<u64>,
    /// Whether the visitor stopped the turn. Then the reply is what had been written, if anything had.
    pub stopped: bool,
}

/// A stored reply.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which message it is.
    pub message_id: Id<Message>,
    /// The text.
    pub content: String,
    /// Trial messages left after it, on a trial.
    pub free_messages_remaining: Option<u64>,
    /// Whether the visitor stopped it.
    pub stopped: bool,
}

/// The shortest client message id: short ones are no ids but counters, and two visitors' counters would meet.
const MIN_CLIENT_ID: usize = 16;

/// Takes a visitor's message and answers it. The work is a task of its own: a caller that leaves does not stop it, the
/// reply is stored and metered all the same.
///
/// # Errors
/// `validation_error`, `not_found` for an unknown slug or handle, `identity.refused`, `identity.other_user`,
/// `message_limit_reached`, `spend_cap_reached`, `conversation.busy`, `rate_limited`.
pub async fn answer(app: &App, incoming: Incoming) -> Result<Outcome> {
    check(&incoming)?;
    let app = app.clone();
    let task = tokio::spawn(work::carried(async move {
        let budget = app.config.turn_budget;
        Box::pin(run(&app, incoming, budget, &Audience::nobody())).await
    }));
    task.await.map_err(|error| Error::internal(format!("a turn stopped: {error}")))?
}

/// As [`answer`], told while it goes on. A caller whose connection broke sends the same message again under its client
/// message id with the last position that it saw, and gets the rest.
///
/// # Errors
/// As [`answer`], as long as the message is not stored; after that, failures are frames.
pub async fn follow(app: &App, incoming: Incoming, had: Option<Position>) -> Result<Frames> {
    check(&incoming)?;
    let (app, (audience, frames)) = (app.clone(), Audience::listener(had));
    // Its request is told of when its first frame is there; the rest is told by itself.
    let work = Work::new(work::request_id().unwrap_or_default());
    tokio::spawn(async move {
        let budget = app.config.stream_budget;
        let outcome = work.run(Box::pin(run(&app, incoming, budget, &audience))).await;
        work.note("service", "turn");
        work.note("operation", "follow");
        work.note("outcome", if outcome.as_ref().is_err_and(Error::is_fault) { "failed" } else { "done" });
        app.journal.write(Kind::Turn, app.now(), &work);
        audience.end(outcome);
    });
    Frames::begun(frames).await
}

/// Asks the turn that holds a conversation to stop. It does so within about a second: what it has told of its reply is
/// stored, and nothing when there is nothing. Says whether there was a turn.
///
/// # Errors
/// `not_found` for an unknown slug or handle.
pub async fn stop(app: &App, slug: &str, handle: &str) -> Result<bool> {
    let (workspace, conversation) = crate::app::conversation::of_visitor(app, slug, handle).await?;
    let head = store::conversation::head(&app.table, workspace, conversation).await?;
    let Some(turn) = head.turn.filter(|turn| turn.until > app.now().millis()) else { return Ok(false) };
    let update = Update::new(store::keys::conversation(workspace, conversation)).set("stop", turn.id);
    match app.table.update(update, Some(turn_is(turn.id)), Error::new(Code::Conflict)).await {
        Ok(_) => Ok(true),
        // It has ended meanwhile.
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

fn check(incoming: &Incoming) -> Result<()> {
    let mut checks = Checks::new();
    checks.required("message", &incoming.content, MAX_VISITOR_CHARS);
    checks.optional("visitor_id", incoming.visitor_id.as_deref(), 128);
    if let Some(id) = &incoming.client_message_id {
        let fits = (MIN_CLIENT_ID..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        let message = "client_message_id must be 16 to 128 visible ASCII characters, such as a UUID";
        checks.ensure(fits, "client_message_id", "invalid", message);
    }
    checks.ensure(incoming.history.len() <= 20, "history", "too_long", "history may hold 20 messages");
    for reported in &incoming.history {
        checks.limited("history", &reported.content, MAX_VISITOR_CHARS);
    }
    checks.finish()
}

/// The time that a turn has.
#[derive(Debug, Clone, Copy)]
struct Pace {
    began: Time,
    budget: Duration,
}

impl Pace {
    /// How much of it is left.
    fn left(self, app: &App) -> Duration {
        self.budget.saturating_sub(app.now().since(self.began))
    }
}

async fn run(app: &App, incoming: Incoming, budget: Duration, audience: &Audience) -> Result<Outcome> {
    let pace = Pace { began: app.now(), budget };
    let mut scene = load::load(app, &incoming).await?;
    work::note("tenant", scene.snapshot.workspace_id);
    work::note("agent", scene.snapshot.agent_id);
    app.count_call(RateClass::AgentChat, &scene.snapshot.agent_id.text()).await?;
    scene.known = identify::identify(app, &scene, &incoming).await?;
    let scene = Arc::new(scene);
    match accept::accept(app, &scene, &incoming, pace).await? {
        Accepted::Turn(turn) => {
            let waiting = turn.waiting().ok_or_else(|| Error::internal("a turn without a message"))?;
            audience.start(scene.handle_text(app, waiting.conversation_id).await?);
            match commit::think_and_commit(app, &scene, *turn, audience).await? {
                Some(answer) => scene.outcome(app, waiting.conversation_id, Some(answer)).await,
                // The reply was dropped: a person answers now, or whoever took the lease; or the visitor stopped it.
                None => wait::wait(app, &scene, waiting, pace, audience).await,
            }
        }
        Accepted::Waiting(waiting) => {
            audience.start(scene.handle_text(app, waiting.conversation_id).await?);
            wait::wait(app, &scene, waiting, pace, audience).await
        }
    }
}

fn busy() -> Error {
    Error::new(Code::ConversationBusy).retry_after(2)
}
