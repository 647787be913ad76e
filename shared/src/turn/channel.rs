//! Turns without a visitor who waits for the answer: messages of a channel are stored by a worker as they come, and a
//! task asks for their answer a little later. One turn answers all that wait by then.

use std::time::Duration;

use super::accept::OwnTurn;
use super::audience::Audience;
use super::load::Scene;
use super::transcript::Transcript;
use super::wait::{self, Claimed, Waiting};
use super::{Answer, Pace, commit, load};
use crate::access::RateClass;
use crate::app::App;
use crate::app::whatsapp::{self, Task};
use crate::domain::{Agent, Conversation, Message, Workspace};
use crate::kernel::{Error, Id, Kind, Result, work};

/// When a turn that found another one comes again.
const BUSY: Duration = Duration::from_secs(3);
/// How many pauses of a burst a message waits for those after it; somebody who types on and on is answered too.
const MOST_PAUSES: u32 = 5;

/// Does one task of the turn queue.
///
/// # Errors
/// When the table, the queue or the objects cannot be reached; the message then comes again.
pub async fn run(app: &App, task: &Task) -> Result<()> {
    match task {
        Task::Inbound { line, message, tries } => whatsapp::inbound::receive(app, line, message, *tries).await,
        Task::Status { line, status } => whatsapp::status::tell(app, line, status).await,
        Task::Renamed { line, renamed } => whatsapp::renamed::follow(app, line, renamed).await,
        Task::Send { workspace_id, conversation_id, message_id, unsent } => {
            work::note("tenant", *workspace_id);
            whatsapp::outbound::flush(app, *workspace_id, *conversation_id, *message_id, *unsent).await
        }
        Task::DropFiles { workspace_id, files } => {
            work::note("tenant", *workspace_id);
            whatsapp::drop_files(app, *workspace_id, files).await
        }
        Task::Answer { workspace_id, agent_id, conversation_id, message_id } => {
            work::note("tenant", *workspace_id);
            work::note("agent", *agent_id);
            answer(app, task, (*workspace_id, *agent_id), *conversation_id, *message_id).await
        }
    }
}

async fn answer(
    app: &App,
    task: &Task,
    (workspace, agent): (Id<Workspace>, Id<Agent>),
    conversation: Id<Conversation>,
    message: Id<Message>,
) -> Result<()> {
    let pace = Pace { began: app.now(), budget: app.config.turn_budget };
    // An agent that is off the air answers nobody; what was written is kept.
    let Some(scene) = load::load_conversation(app, workspace, agent, conversation).await? else { return Ok(()) };
    let Some(thread) = &scene.thread else { return Ok(()) };
    let head = &thread.head;
    let pending = Transcript::new(head.settled_until, thread.messages.iter().cloned()).pending;
    let (Some(first), Some(newest)) = (pending.first(), pending.last()) else {
        // It is answered, but whoever did so may have stopped before it was sent.
        return whatsapp::outbound::flush(app, workspace, conversation, message, None).await;
    };
    let patience = app.config.burst * MOST_PAUSES;
    if newest.id > message && app.now().since(first.created_at) < patience {
        return Ok(());
    }
    if head.ai_paused {
        return Ok(());
    }
    let waiting = Waiting { conversation_id: conversation, message_id: newest.id };
    app.count_call(RateClass::AgentChat, &agent.text()).await?;
    let claimed = match wait::claim(app, &scene, waiting, pace).await {
        Ok(claimed) => claimed,
        Err(error) if error.kind() == Kind::Allowance => return not_allowed(&error),
        Err(error) => return Err(error),
    };
    match claimed {
        Claimed::Turn(turn) => match think(app, &scene, *turn, newest).await? {
            Some(reply) => whatsapp::outbound::flush(app, workspace, conversation, reply.message_id, None).await,
            // A person answers now, or whoever took the lease; it is looked at once more.
            None => whatsapp::queue(app, task, BUSY).await,
        },
        Claimed::Settled => Ok(()),
        Claimed::Not => whatsapp::queue(app, task, BUSY).await,
    }
}

/// The turn, shown on the phone while it goes on.
async fn think(app: &App, scene: &Scene, turn: OwnTurn, newest: &Message) -> Result<Option<Answer>> {
    let head = turn.head.clone();
    let audience = Audience::nobody();
    let thinking = commit::think_and_commit(app, scene, turn, &audience);
    tokio::join!(thinking, whatsapp::outbound::see(app, &head, newest)).0
}

/// The owner is told of the end of the allowance; whoever wrote is answered when there is some again and they write.
fn not_allowed(error: &Error) -> Result<()> {
    work::note("refused", error.code().text());
    tracing::info!(code = error.code().text(), "a message is kept without an answer");
    Ok(())
}
