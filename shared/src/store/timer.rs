//! Things to do at a time, for the clock.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys;
use crate::domain::builder::Upload;
use crate::domain::webhook::Replay;
use crate::domain::{BillingAccount, Conversation, Webhook, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Result, Time};
use crate::table::{Cond, Index, Query, Row, Table, Unit, decode};

/// Something to do at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When.
    pub due: Time,
    /// Which shard it lies in.
    pub shard: u8,
    /// What.
    pub task: Task,
}

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Close a conversation that has been silent.
    CloseSilent {
        /// Where.
        workspace_id: Id<Workspace>,
        /// Which.
        conversation_id: Id<Conversation>,
    },
    /// Look for turns that died and still hold a message of an allowance.
    SweepHolds {
        /// Whose.
        account_id: Id<BillingAccount>,
    },
    /// Look whether a replay goes on.
    WatchReplay {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// To which endpoint.
        webhook_id: Id<Webhook>,
        /// Which.
        replay_id: Uuid,
    },
    /// Drop the bytes of an upload.
    DropUpload {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// Which.
        upload_id: Id<Upload>,
    },
}

impl Timer {
    /// Looks at a conversation at `due`.
    #[must_use]
    pub fn close_silent(workspace_id: Id<Workspace>, conversation_id: Id<Conversation>, due: Time) -> Self {
        let task = Task::CloseSilent { workspace_id, conversation_id };
        Self { due, shard: keys::shard_of_id(conversation_id), task }
    }

    /// Looks at what turns hold of an account at `due`.
    #[must_use]
    pub fn sweep_holds(account_id: Id<BillingAccount>, due: Time) -> Self {
        Self { due, shard: keys::shard_of_id(account_id), task: Task::SweepHolds { account_id } }
    }

    /// Looks whether a replay goes on at `due`.
    #[must_use]
    pub fn watch_replay(replay: &Replay, due: Time) -> Self {
        let Replay { workspace_id, webhook_id, id: replay_id, .. } = *replay;
        Self {
            due,
            shard: keys::shard_of_id(webhook_id),
            task: Task::WatchReplay { workspace_id, webhook_id, replay_id },
        }
    }

    /// Drops the bytes of an upload at `due`.
    #[must_use]
    pub fn drop_upload(workspace_id: Id<Workspace>, upload_id: Id<Upload>, due: Time) -> Self {
        Self { due, shard: keys::shard_of_id(upload_id), task: Task::DropUpload { workspace_id, upload_id } }
    }

    fn key(&self) -> crate::table::Key {
        let name = match &self.task {
            Task::CloseSilent { workspace_id, conversation_id } => {
                format!("close#{}#{}", workspace_id.key(), conversation_id.key())
            }
            Task::SweepHolds { account_id } => format!("holds#{}", account_id.key()),
            Task::WatchReplay { replay_id, .. } => format!("replay#{replay_id}"),
            Task::DropUpload { workspace_id, upload_id } => {
                format!("upload#{}#{}", workspace_id.key(), upload_id.key())
            }
        };
        keys::timer(self.shard, self.due, &name)
    }
}

/// Sets a timer.
///
/// # Errors
/// When it does not serialise.
pub fn set(unit: &mut Unit, timer: &Timer) -> Result<()> {
    unit.put(Row::new(timer.key(), "timer", timer)?);
    Ok(())
}

/// Takes a timer away in the unit that does its work; the unit fails when another clock did it.
pub fn claim(unit: &mut Unit, timer: &Timer) {
    unit.delete_if(timer.key(), Cond::existing(), Error::new(Code::Conflict));
}

/// Timers of a shard whose time has come, from `after` on, and whether there may be more. One that does not read is logged
/// and left out: it must not hold back the others.
///
/// # Errors
/// When the table cannot be read.
pub async fn due(
    table: &Table,
    shard: u8,
    now: Time,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<(Vec<Timer>, Option<Cursor>)> {
    let query = Query::between(Index::Main, keys::timers(shard), "0", format!("{}~", keys::moment(now)));
    Ok(table.query(&query.after(after), limit).await?.readable(decode))
}
