//! Keys for programs. One entity for the kinds of all surfaces; each kind works only at its own.

use serde::{Deserialize, Serialize};

use super::{BillingAccount, Role, User, Workspace};
use crate::kernel::{Id, Time};

/// How many live keys a workspace may have.
pub const MAX_KEYS: usize = 50;

/// A key as its owner sees it. The raw key is shown once, when it is made; what is stored is its hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiKey {
    /// Identity.
    pub id: Id<ApiKey>,
    /// Whose it is. Keys belong to the workspace, not to who made them.
    pub workspace_id: Id<Workspace>,
    /// Which surface it works at.
    pub kind: KeyKind,
    /// What its owner calls it.
    pub name: String,
    /// The first characters, to tell keys apart.
    pub prefix: String,
    /// SHA-256 of the raw key in hex.
    pub hash: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Who made it.
    pub created_by: Id<User>,
    /// When it was made.
    pub created_at: Time,
    /// When it ends by itself.
    #[serde(default)]
    pub expires_at: Option<Time>,
}

/// What the gate reads for a request with a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyLookup {
    /// Which key.
    pub key_id: Id<ApiKey>,
    /// Its workspace.
    pub workspace_id: Id<Workspace>,
    /// Who pays.
    pub billing_account_id: Id<BillingAccount>,
    /// Who owns the workspace.
    pub owner_user_id: Id<User>,
    /// The surface it works at.
    pub kind: KeyKind,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The role that it acts as.
    pub role: Role,
    /// When it ends by itself.
    #[serde(default)]
    pub expires_at: Option<Time>,
    /// Whether its workspace's owner is suspended.
    #[serde(default)]
    pub is_suspended: bool,
}

/// The surface that a key works at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// `chatia_…`, studio.
    Developer,
}

impl KeyKind {
    /// What the raw key starts with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Developer => "chatia_",
        }
    }

    /// How the kind is written in table keys.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Developer => "developer",
        }
    }
}

/// What developer keys can be allowed to do; a key that names no scopes gets all of them.
pub const DEVELOPER_SCOPES: [&str; 9] = [
    "agents:read",
    "agents:write",
    "appointments:read",
    "appointments:write",
    "billing:read",
    "events:write",
    "keys:read",
    "webhooks:manage",
    "developers:read",
];
