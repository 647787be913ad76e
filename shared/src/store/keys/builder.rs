//! Keys of the builder's threads.

use uuid::Uuid;

use super::{HEAD, moment, w};
use crate::domain::builder::Action;
use crate::domain::{BuilderMessage, BuilderThread, User, Workspace};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Id, Time};
use crate::table::Key;

/// Where a workspace's threads are listed.
#[must_use]
pub fn builder_threads(workspace: Id<Workspace>) -> String {
    format!("{}#BT", w(workspace))
}

/// The position of a thread in that list.
#[must_use]
pub fn builder_position(at: Time, thread: Id<BuilderThread>) -> String {
    format!("{}#{}", moment(at), thread.key())
}

/// Partition of a thread: all that is of it.
#[must_use]
pub fn builder_pk(workspace: Id<Workspace>, thread: Id<BuilderThread>) -> String {
    format!("{}#{}", builder_threads(workspace), thread.key())
}

/// A thread's head.
#[must_use]
pub fn builder_thread(workspace: Id<Workspace>, thread: Id<BuilderThread>) -> Key {
    Key::new(builder_pk(workspace, thread), HEAD)
}

/// Sort prefix of a thread's messages.
pub const BUILDER_MESSAGE: &str = "M#";

/// A message of a thread.
#[must_use]
pub fn builder_message(workspace: Id<Workspace>, thread: Id<BuilderThread>, message: Id<BuilderMessage>) -> Key {
    Key::new(builder_pk(workspace, thread), format!("{BUILDER_MESSAGE}{}", message.key()))
}

/// Sort prefix of what waits, or waited, for a confirmation.
pub const BUILDER_ACTION: &str = "X#";

/// Something that waits for a confirmation.
#[must_use]
pub fn builder_action(workspace: Id<Workspace>, thread: Id<BuilderThread>, action: Id<Action>) -> Key {
    Key::new(builder_pk(workspace, thread), format!("{BUILDER_ACTION}{}", action.key()))
}

/// Sort prefix of what was told of a run.
#[must_use]
pub fn builder_frames(run: Uuid) -> String {
    format!("F#{}#", run.simple())
}

/// Something that was told of a run, in order.
#[must_use]
pub fn builder_frame(workspace: Id<Workspace>, thread: Id<BuilderThread>, run: Uuid, number: u32) -> Key {
    Key::new(builder_pk(workspace, thread), format!("{}{number:06}", builder_frames(run)))
}

/// The guard of a client's own id of a message to the builder.
#[must_use]
pub fn builder_client_message(workspace: Id<Workspace>, user: Option<Id<User>>, client_id: &str) -> Key {
    let user = user.map(Id::key).unwrap_or_default();
    Key::new(format!("{}#BTC", w(workspace)), sha256_hex(format!("{user}\n{client_id}")))
}

/// What a workspace has uploaded for the builder.
#[must_use]
pub fn builder_uploads(workspace: Id<Workspace>) -> Key {
    Key::new(format!("{}#BTU", w(workspace)), HEAD)
}
