//! What one operation declares. Every column is mandatory in the `ops!` table, so nothing is open by omission.

use super::{Credential, RateClass};
use crate::domain::Role;

/// One operation of one surface.
#[derive(Debug)]
pub struct Op {
    /// The handler's name: unique in the surface, the `operationId` of its document, the action of its audit entry.
    pub id: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Credentials that it takes; none means that anybody may call.
    pub credentials: &'static [Credential],
    /// The lowest role.
    pub floor: Floor,
    /// The scope that a key needs; empty when none.
    pub scope: &'static str,
    /// Which rate limit counts it.
    pub rate: RateClass,
    /// What the plan must include.
    pub plan: PlanGate,
    /// What a caller below the floor is told.
    pub visibility: Visibility,
    /// Whether it leaves an audit entry.
    pub audit: Audit,
    /// What an `Idempotency-Key` does.
    pub idempotency: Idempotency,
    /// Statuses that it answers besides those that follow from the other columns; only the document reads it.
    pub also: &'static [u16],
    /// What staff may do of it who act for somebody.
    pub acting: Acting,
    /// The doc comment of the row.
    pub doc: &'static str,
}

/// The lowest role that may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the roles of `domain::Role`, and the two ends beyond them")]
pub enum Floor {
    Anyone,
    Client,
    /// A viewer, or a client: the command looks at what is granted to clients.
    GrantedViewer,
    Viewer,
    /// An operator, or a client: the command looks at what is granted to clients.
    GrantedOperator,
    Operator,
    Editor,
    Admin,
    Owner,
    Superadmin,
}

impl Floor {
    /// The workspace role that it asks for; `None` at both ends.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Anyone | Self::Superadmin => None,
            Self::Client => Some(Role::Client),
            Self::GrantedViewer | Self::Viewer => Some(Role::Viewer),
            Self::GrantedOperator | Self::Operator => Some(Role::Operator),
            Self::Editor => Some(Role::Editor),
            Self::Admin => Some(Role::Admin),
            Self::Owner => Some(Role::Owner),
        }
    }

    /// Whether clients may call too, for what is granted to them.
    #[must_use]
    pub const fn takes_grants(self) -> bool {
        matches!(self, Self::GrantedViewer | Self::GrantedOperator)
    }
}

/// What the plan must include.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanGate {
    /// Nothing.
    Any,
    /// Some plan that is paid for.
    Paid,
}

/// What a caller below the floor is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// 403: the caller may know that the operation exists.
    Known,
    /// 404: the caller may not.
    Hidden,
}

/// Whether a successful call leaves an audit entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// Yes, in the command's own transaction.
    Audited,
    /// No.
    Unaudited,
}

/// What staff may do of an operation who act for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acting {
    /// Read; what changes something is refused. Every row that says nothing else.
    Reads,
    /// Also change something: `+ assisted`.
    Assists,
    /// Nothing, not even read: `+ private`. Billing, keys, and what is handed out to be kept.
    Nothing,
}

impl Acting {
    /// Whether they may call by this method.
    #[must_use]
    pub fn allows(self, method: &str) -> bool {
        match self {
            Self::Reads => method == "GET",
            Self::Assists => true,
            Self::Nothing => false,
        }
    }
}

/// What an `Idempotency-Key` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// The operation only reads; the header is ignored.
    Safe,
    /// The first answer is stored with the command and given again.
    Keyed,
    /// The operation has its own way of recognising a repeat (a chat's message id), or repeats harmlessly (a log-in).
    Own,
}
