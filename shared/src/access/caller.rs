//! Who calls.

use crate::domain::user::StaffRole;
use crate::domain::{ApiKey, BillingAccount, Role, User, Workspace};
use crate::kernel::Id;

/// A kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A user's session.
    User,
    /// A `chatia_…` key.
    Developer,
}

impl Credential {
    /// What it is called in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Developer => "developer",
        }
    }
}

/// An authenticated caller. The workspace comes from the credential, never from the request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What the caller showed.
    pub credential: Credential,
    /// Where the caller acts.
    pub workspace_id: Id<Workspace>,
    /// Who pays for it.
    pub billing_account_id: Id<BillingAccount>,
    /// Who owns it; studio shows this as `owner_id`.
    pub owner_user_id: Id<User>,
    /// What the caller may do there.
    pub role: Role,
    /// The person, for sessions.
    pub user_id: Option<Id<User>>,
    /// The key, for keys.
    pub key_id: Option<Id<ApiKey>>,
    /// The session, for sessions.
    pub sid: Option<String>,
    /// Above all workspaces.
    pub staff_role: Option<StaffRole>,
    /// Staff who act for the person.
    pub impersonator: Option<Id<User>>,
    /// What a key may do; sessions are bounded by their role alone.
    pub scopes: Vec<String>,
}

impl Caller {
    /// The caller as audit entries name it; also whose requests are counted together, and whose idempotency keys are
    /// one namespace.
    #[must_use]
    pub fn actor(&self) -> String {
        match (self.user_id, self.key_id) {
            (Some(user), _) => user.text(),
            (None, Some(key)) => key.text(),
            (None, None) => "system".into(),
        }
    }
}
