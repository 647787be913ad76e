//! Who did what: kept 400 days, never with a secret in it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{User, Workspace};
use crate::kernel::{Id, Time};

/// One line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Identity, in order of time.
    pub id: Uuid,
    /// Where it happened.
    pub workspace_id: Id<Workspace>,
    /// Who: `user_…`, `key_…` or `system`.
    pub actor: String,
    /// Staff who acted for them.
    #[serde(default)]
    pub impersonator: Option<Id<User>>,
    /// Why, where it is asked for.
    #[serde(default)]
    pub reason: Option<String>,
    /// The operation, such as `studio.delete_agent`.
    pub action: String,
    /// What it was done to, as the path says.
    pub target: String,
    /// The caller's address, as far as we know it.
    #[serde(default)]
    pub ip: Option<String>,
    /// When.
    pub at: Time,
}
