//! A tenant and who belongs to it. Owner account (studio), client (sites), workspace, org and tenant (panel) are this.

use serde::{Deserialize, Serialize};

use super::{Agent, BillingAccount, Grant, GrantScope, Invitation, User};
use crate::kernel::{Id, Time};

/// A tenant: everything else belongs to one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workspace {
    /// Identity.
    pub id: Id<Workspace>,
    /// `^[a-z0-9][a-z0-9_-]{1,62}$`, unique over the installation, never changed, never used again.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// The member with role owner.
    pub owner_user_id: Id<User>,
    /// Who pays; several workspaces of one owner share it.
    pub billing_account_id: Id<BillingAccount>,
    /// IANA name.
    pub timezone: String,
    /// Whether it is in use.
    pub status: WorkspaceStatus,
    /// The agent of doors that know only one.
    #[serde(default)]
    pub default_agent_id: Option<Id<Agent>>,
    /// When it was made.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

/// Whether a workspace is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStatus {
    /// In use.
    Active,
    /// Switched off by an admin: keys and public chat are refused.
    Inactive,
    /// Switched off by staff.
    Suspended,
    /// To be deleted at a date.
    DeletionScheduled,
    /// Gone.
    Deleted,
}

/// A person in a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Membership {
    /// Where.
    pub workspace_id: Id<Workspace>,
    /// Who.
    pub user_id: Id<User>,
    /// As what.
    pub role: Role,
    /// Whether they may come in.
    #[serde(default)]
    pub status: MembershipStatus,
    /// What the workspace calls them, where that is not their own name.
    #[serde(default)]
    pub name: Option<String>,
    /// What a client may look after; nobody else needs any.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// The invitation that they were mailed, until they accept it.
    #[serde(default)]
    pub invitation: Option<Invitation>,
    /// Since when.
    pub joined_at: Time,
}

/// Whether a member may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipStatus {
    /// Yes.
    #[default]
    Active,
    /// Not before they accept their invitation.
    Invited,
    /// Not until the workspace lets them again.
    Suspended,
}

/// The most clients that a workspace may have.
pub const MAX_CLIENTS: usize = 500;
/// The most agents that one client may look after; a membership is one item.
pub const MAX_GRANTS: usize = 100;

impl Membership {
    /// A member who may come in at once.
    #[must_use]
    pub fn new(workspace: Id<Workspace>, user: Id<User>, role: Role, joined_at: Time) -> Self {
        let (status, grants) = (MembershipStatus::Active, Vec::new());
        Self { workspace_id: workspace, user_id: user, role, status, name: None, grants, invitation: None, joined_at }
    }

    /// What is granted of an agent.
    #[must_use]
    pub fn grant(&self, agent: Id<Agent>) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.agent_id == agent)
    }

    /// Whether something of an agent is granted.
    #[must_use]
    pub fn may(&self, agent: Id<Agent>, scope: GrantScope) -> bool {
        self.grant(agent).is_some_and(|grant| grant.scopes.iter().any(|has| has.includes(scope)))
    }
}

/// What a member may do; each role includes the ones above it in this list. `Client` is a studio sub-user, who has no
/// rank and sees only what is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Only granted agents.
    Client,
    /// Reads.
    Viewer,
    /// Works in the inbox.
    Operator,
    /// Builds agents.
    Editor,
    /// Runs the workspace.
    Admin,
    /// Owns it and pays.
    Owner,
}

impl Role {
    /// Every role, lowest first.
    pub const ALL: [Role; 6] = [Role::Client, Role::Viewer, Role::Operator, Role::Editor, Role::Admin, Role::Owner];

    /// Whether a member of this role uses a seat of the plan; who only looks uses none.
    #[must_use]
    pub const fn uses_seat(self) -> bool {
        match self {
            Self::Client | Self::Viewer => false,
            Self::Operator | Self::Editor | Self::Admin | Self::Owner => true,
        }
    }
}
