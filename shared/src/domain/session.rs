//! A log-in. The token that a client holds names it by `sid`; the gate reads the item, so that ending it ends the
//! token at once, at every door.

use serde::{Deserialize, Serialize};

use super::user::StaffRole;
use super::{BillingAccount, Role, User, Workspace};
use crate::kernel::{Id, Time};

/// How long a user's session lasts: 30 days.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// How long staff may act for somebody: 30 minutes.
pub const IMPERSONATION: std::time::Duration = std::time::Duration::from_secs(30 * 60);

/// A log-in with everything that the gate needs, so that a request costs one read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// 128 random bits in hex.
    pub sid: String,
    /// Who logged in.
    pub user_id: Id<User>,
    /// The active workspace.
    pub workspace_id: Id<Workspace>,
    /// Who pays for it.
    pub billing_account_id: Id<BillingAccount>,
    /// Who owns it.
    pub owner_user_id: Id<User>,
    /// The user's role there.
    pub role: Role,
    /// The user's staff role, if any.
    #[serde(default)]
    pub staff_role: Option<StaffRole>,
    /// Staff who act for the user, if this is theirs.
    #[serde(default)]
    pub impersonator: Option<Id<User>>,
    /// When it began.
    pub created_at: Time,
    /// When it ends by itself.
    pub expires_at: Time,
}
