//! What became of messages that went out. Providers tell it more than once, in any order, and sometimes before they have
//! answered the call that sent the message; so each state counts by its rank, and what nobody knows yet is parked.

use super::super::App;
use super::outbound::read_tag;
use crate::domain::whatsapp::{Delivery, Line, Part, Reason, State, Status};
use crate::domain::{Conversation, Message, Workspace};
use crate::kernel::{Code, Error, Id, Result};
use crate::store;
use crate::store::whatsapp::Trace;
use crate::table::{Cond, Refusal, Unit, Update};

/// How often it is looked up again when somebody else wrote at the same time.
const TRIES: u32 = 6;

/// Where a part of a message is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) workspace: Id<Workspace>,
    pub(super) conversation: Id<Conversation>,
    pub(super) message: Id<Message>,
    pub(super) part: u32,
}

/// Notes what became of a message.
///
/// # Errors
/// When the table cannot be reached.
pub async fn tell(app: &App, line: &Line, status: &Status) -> Result<()> {
    let (workspace, agent) = (line.workspace_id, line.agent_id);
    for _ in 0..TRIES {
        let known = store::whatsapp::trace(&app.table, workspace, agent, &status.id).await?;
        let v = known.as_ref().map(|known| known.v);
        let (state, reason) = match known.map(|known| known.body) {
            // A status of a message that came in: nothing of ours.
            Some(Trace::In { .. }) => return Ok(()),
            Some(Trace::Out { conversation_id: conversation, message_id: message, part }) => {
                return apply(app, Spot { workspace, conversation, message, part }, status).await;
            }
            Some(Trace::Parked { state, reason }) if state.with(status.state) == state => {
                drop((state, reason));
                return Ok(());
            }
            Some(Trace::Parked { .. }) | None => (status.state, status.reason.clone()),
        };
        let mut unit = Unit::new();
        match spot(app, line, status).await? {
            // Its tag tells which message it is, whatever became of the call that sent it.
            Some(spot) => found(app, &mut unit, line, spot, (&status.id, state, reason), v)?,
            None => {
                let key = store::whatsapp::trace_key(workspace, agent, &status.id);
                store::whatsapp::put_trace(&mut unit, key, &Trace::Parked { state, reason }, v, app.now())?;
            }
        }
        match app.commit(unit).await {
            Ok(()) => return Ok(()),
            Err(Refusal::Conditions(_)) => {}
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

/// The part of a message that a status names by its tag, if it is one of this agent's.
async fn spot(app: &App, line: &Line, status: &Status) -> Result<Option<Spot>> {
    let Some((conversation, message, part)) = status.tag.as_deref().and_then(read_tag) else { return Ok(None) };
    let workspace = line.workspace_id;
    let head: Option<Conversation> = app.table.get(&store::keys::conversation(workspace, conversation)).await?;
    if head.is_none_or(|head| head.agent_id != line.agent_id) {
        return Ok(None);
    }
    let found = store::conversation::message(&app.table, workspace, conversation, message).await?;
    let parts = found.and_then(|message| message.delivery).map_or(0, |delivery| delivery.parts);
    Ok((part < parts).then_some(Spot { workspace, conversation, message, part }))
}

/// Notes that a part was taken under this id, and how far it has come. That it was not known to have gone out is mended.
pub(super) fn found(
    app: &App,
    unit: &mut Unit,
    line: &Line,
    spot: Spot,
    (id, state, reason): (&str, State, Option<Reason>),
    v: Option<u64>,
) -> Result<()> {
    let Spot { workspace, conversation, message, part } = spot;
    let trace = Trace::Out { conversation_id: conversation, message_id: message, part };
    let key = store::whatsapp::trace_key(workspace, line.agent_id, id);
    store::whatsapp::put_trace(unit, key, &trace, v, app.now())?;
    let taken = Part { id: id.to_owned(), rank: state.rank(), reason };
    let update = Update::new(store::keys::message(workspace, conversation, message))
        .set(format!("delivery.sent.{}", Delivery::part(part)), &taken)
        .remove("delivery.failure");
    unit.update(update, Cond::present("delivery"), Error::new(Code::Conflict));
    Ok(())
}

/// Moves a part on, if that is news.
async fn apply(app: &App, spot: Spot, status: &Status) -> Result<()> {
    let at = format!("delivery.sent.{}", Delivery::part(spot.part));
    let mut update = Update::new(store::keys::message(spot.workspace, spot.conversation, spot.message))
        .set(format!("{at}.rank"), status.state.rank());
    if let Some(reason) = status.reason.as_ref().filter(|_| status.state == State::Failed) {
        update = update.set(format!("{at}.reason"), reason);
    }
    let news = Cond::lt(format!("{at}.rank"), status.state.counts_below());
    match app.table.update(update, Some(news), Error::new(Code::Conflict)).await {
        // Old news, or its own work after a lost answer.
        Ok(_) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}
