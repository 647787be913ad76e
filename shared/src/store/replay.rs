//! Replays to webhook endpoints: the last one of each.

use super::keys;
use crate::domain::webhook::{Replay, ReplayStatus};
use crate::domain::{Webhook, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Cond, Refusal, Row, Table, Unit, Update, Versioned};

/// The last replay to an endpoint.
///
/// # Errors
/// When the table cannot be read.
pub async fn last(table: &Table, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Result<Option<Versioned<Replay>>> {
    table.get_versioned(&keys::replay(workspace, webhook)).await
}

/// Puts a new replay in the place of the last one, which was read at version `v`; `None` when there was none.
///
/// # Errors
/// When it does not serialise.
pub fn begin(unit: &mut Unit, replay: &Replay, v: Option<u64>) -> Result<()> {
    let row = Row::new(keys::replay(replay.workspace_id, replay.webhook_id), "replay", replay)?;
    match v {
        Some(v) => unit.replace(row, v),
        None => unit.create_fresh(row),
    };
    Ok(())
}

/// Moves a replay on from where it was read: `queued` more deliveries, then `next`, or its end. Says whether it was
/// still there; if not, it has ended, or somebody else has moved it on.
///
/// # Errors
/// When the table cannot be written.
pub async fn advance(table: &Table, read: &Replay, queued: u64, next: Option<&str>, now: Time) -> Result<bool> {
    let update = update(read).add("queued", i64::try_from(queued).unwrap_or(i64::MAX)).set("moved_at", now);
    let update = match next {
        Some(next) => update.set("after", next).set("before", &read.after),
        None => update.set("status", ReplayStatus::Done).set("ended_at", now),
    };
    let mut unit = Unit::new();
    let here = running(read).and(Cond::eq("after", &read.after));
    unit.update(update, here, Error::new(Code::ConcurrentChange));
    match table.commit(unit).await {
        Ok(()) => Ok(true),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Stops a replay; the unit fails when it has ended meanwhile.
pub fn stop(unit: &mut Unit, read: &Replay, now: Time) {
    let update = update(read).set("status", ReplayStatus::Stopped).set("ended_at", now);
    unit.update(update, running(read), Error::new(Code::ConcurrentChange));
}

fn update(replay: &Replay) -> Update {
    Update::new(keys::replay(replay.workspace_id, replay.webhook_id))
}

fn running(replay: &Replay) -> Cond {
    Cond::eq("id", replay.id).and(Cond::eq("status", ReplayStatus::Running))
}
