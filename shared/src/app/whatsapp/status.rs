//! What became of messages that went out. Providers tell it more than once, in any order, and sometimes before they have
//! answered the call that sent the message; so each state counts by its rank, and what nobody knows yet is parked.

use std::time::Duration;

use super::super::App;
use super::outbound::read_tag;
use super::{Task, queue};
use crate::domain::whatsapp::{Delivery, Line, Part, Reason, State, Status};
use crate::domain::{Conversation, Message, Workspace};
use crate::kernel::{Code, Error, Id, Result};
use crate::store;
use crate::store::whatsapp::Trace;
use crate::table::{Cond, Refusal, Unit, Update, decode};

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

/// Notes what became of a message. What is left to send of one that had been given up is queued.
///
/// # Errors
/// When the table or the queue cannot be reached.
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
        let (mut unit, spot) = (Unit::new(), spot(app, line, status).await?);
        match spot {
            // Its tag tells which message it is, whatever became of the call that sent it.
            Some(spot) => found(app, &mut unit, line, spot, (&status.id, state, reason), v).await?,
            None => {
                let key = store::whatsapp::trace_key(workspace, agent, &status.id);
                store::whatsapp::put_trace(&mut unit, key, &Trace::Parked { state, reason }, v, app.now())?;
            }
        }
        match (app.commit(unit).await, spot) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some(spot)) => {
                let Spot { workspace, conversation, message, .. } = spot;
                let now = store::conversation::message(&app.table, workspace, conversation, message).await?;
                return go_on(app, spot, now).await;
            }
            (Err(Refusal::Conditions(_)), _) => {}
            (Err(Refusal::Error(error)), _) => return Err(error),
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

/// Sees to it that the parts behind the one of which was told go out, if nobody else does.
async fn go_on(app: &App, spot: Spot, message: Option<Message>) -> Result<()> {
    let delivery = message.and_then(|message| message.delivery);
    if !delivery.is_some_and(|delivery| delivery.is_left_alone(app.now())) {
        return Ok(());
    }
    let Spot { workspace: workspace_id, conversation: conversation_id, message: message_id, .. } = spot;
    queue(app, &Task::Send { workspace_id, conversation_id, message_id, unsent: None }, Duration::ZERO).await
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

/// Notes that a part was taken under this id, and how far it has come. That it was not known to have gone out is mended. A part
/// that was sent twice has two ids, and stays as far as the better of them has come. Of an erased message nothing is noted.
pub(super) async fn found(
    app: &App,
    unit: &mut Unit,
    line: &Line,
    spot: Spot,
    (id, state, reason): (&str, State, Option<Reason>),
    v: Option<u64>,
) -> Result<()> {
    let Spot { workspace, conversation, message, part } = spot;
    let known = store::conversation::message(&app.table, workspace, conversation, message).await?;
    let Some(delivery) = known.and_then(|message| message.delivery) else { return Ok(()) };
    let trace = Trace::Out { conversation_id: conversation, message_id: message, part };
    let key = store::whatsapp::trace_key(workspace, line.agent_id, id);
    store::whatsapp::put_trace(unit, key, &trace, v, app.now())?;
    let taken = Part { id: id.to_owned(), rank: state.rank(), reason };
    let at = format!("delivery.sent.{}", Delivery::part(part));
    let update = Update::new(store::keys::message(workspace, conversation, message)).set(at.clone(), &taken);
    let (update, unchanged) = match delivery.sent.get(&Delivery::part(part)) {
        // What failed was this part: nothing behind it was tried.
        None => (update.remove("delivery.failure"), Cond::present("delivery").and(Cond::absent(at))),
        Some(before) if before.rank < state.counts_below() => (update, Cond::eq(format!("{at}.rank"), before.rank)),
        Some(_) => return Ok(()),
    };
    unit.update(update, unchanged, Error::new(Code::Conflict));
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
    let item = match app.table.update(update, Some(news), Error::new(Code::Conflict)).await {
        Ok(item) => Some(item),
        // Old news, or its own work after a lost answer: whoever stopped after the first time has queued nothing.
        Err(Refusal::Conditions(failed)) => failed.into_iter().find_map(|failed| failed.found),
        Err(Refusal::Error(error)) => return Err(error),
    };
    go_on(app, spot, item.map(decode).transpose()?).await
}
