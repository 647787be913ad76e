//! A person who can log in.

use serde::{Deserialize, Serialize};

use super::{BillingAccount, Workspace};
use crate::kernel::{Id, Time};

/// A person who can log in. The e-mail is unique over the whole installation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// Identity.
    pub id: Id<User>,
    /// Lower case, trimmed.
    pub email: String,
    /// Argon2id in PHC form.
    pub password_hash: String,
    /// What others see; the local part of the e-mail when the person gave none.
    pub name: String,
    /// Whether the person has shown to own the mailbox.
    pub email_verified: bool,
    /// Whether the person may log in.
    pub status: UserStatus,
    /// Staff of the installation, above all workspaces.
    #[serde(default)]
    pub staff_role: Option<StaffRole>,
    /// The workspace of a session that names none.
    pub default_workspace_id: Id<Workspace>,
    /// Who pays for what this person owns.
    pub billing_account_id: Id<BillingAccount>,
    /// When the person registered.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

/// Whether a person may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Yes.
    Active,
    /// No, until staff lift it.
    Suspended,
    /// No, for good.
    Deleted,
}

/// Staff of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaffRole {
    /// Everything.
    Superadmin,
    /// Tickets and look-ups.
    Support,
}
