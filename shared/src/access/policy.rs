//! Whether a caller may call. One pure function; a new exception is a new column of the table, never an `if` here.

use super::{Caller, Credential, Floor, Op, PlanGate, Visibility};
use crate::domain::Role;
use crate::domain::plan::PlanKey;
use crate::domain::user::StaffRole;
use crate::kernel::{Code, Error, Result};

/// Decides a call, in the documented order: credential (401, or 403 for one of another kind), role (403 or 404), scope
/// (403), plan (403).
/// `plan` is the caller's effective plan where the row asks for one.
///
/// # Errors
/// `unauthenticated`, `forbidden` (or `not_found` where the row hides itself), `scope_missing`, `plan_required`.
pub fn decide(op: &Op, caller: Option<&Caller>, plan: Option<PlanKey>) -> Result<()> {
    if op.credentials.is_empty() {
        return Ok(());
    }
    let caller = caller.ok_or_else(|| Error::new(Code::Unauthenticated))?;
    if !op.credentials.contains(&caller.credential) {
        return Err(Error::with_message(Code::Forbidden, other_credential(caller.credential)));
    }
    if caller.impersonator.is_some() && !op.acting.allows(op.method) {
        return Err(Error::with_message(Code::Forbidden, "Not while you act for somebody else."));
    }
    if !reaches(op.floor, caller) {
        return Err(match op.visibility {
            Visibility::Known => Error::new(Code::Forbidden),
            Visibility::Hidden => Error::not_found(),
        });
    }
    if !has_scope(op.scope, caller) {
        let message = format!("The key lacks the scope {}.", op.scope);
        return Err(Error::with_message(Code::ScopeMissing, message));
    }
    match (op.plan, plan) {
        (PlanGate::Paid, None | Some(PlanKey::Free)) => Err(Error::new(Code::PlanRequired)),
        (PlanGate::Paid | PlanGate::Any, _) => Ok(()),
    }
}

/// A 401 would say that the credential does not hold, and it does.
const fn other_credential(given: Credential) -> &'static str {
    match given {
        Credential::User => "A session cannot do this. Send a developer key.",
        Credential::Developer => "A developer key cannot do this. Log in, and send that session's token.",
    }
}

fn reaches(floor: Floor, caller: &Caller) -> bool {
    match floor.role() {
        Some(role) => caller.role >= role || (caller.role == Role::Client && floor.takes_grants()),
        None => floor == Floor::Anyone || caller.staff_role == Some(StaffRole::Superadmin),
    }
}

fn has_scope(scope: &str, caller: &Caller) -> bool {
    match caller.credential {
        Credential::User => true,
        Credential::Developer => scope.is_empty() || caller.scopes.iter().any(|has| has == scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Acting, Audit, Idempotency, RateClass};
    use crate::kernel::{Id, Kind};

    const ROW: Op = Op {
        id: "write_things",
        method: "POST",
        path: "/things",
        credentials: &[Credential::User, Credential::Developer],
        floor: Floor::Editor,
        scope: "things:write",
        rate: RateClass::General,
        plan: PlanGate::Any,
        visibility: Visibility::Known,
        audit: Audit::Unaudited,
        idempotency: Idempotency::Keyed,
        also: &[],
        acting: Acting::Reads,
        doc: "",
    };

    fn caller(credential: Credential, role: Role, scopes: &[&str]) -> Caller {
        Caller {
            credential,
            workspace_id: Id::from_int(1).unwrap(),
            billing_account_id: Id::from_int(1).unwrap(),
            owner_user_id: Id::from_int(1).unwrap(),
            role,
            user_id: None,
            key_id: None,
            sid: None,
            staff_role: None,
            impersonator: None,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        }
    }

    fn kind(op: &Op, caller: &Caller, plan: Option<PlanKey>) -> Option<Kind> {
        decide(op, Some(caller), plan).err().map(|error| error.kind())
    }

    #[test]
    fn each_column_refuses_in_its_own_way() {
        let key = |role, scopes| caller(Credential::Developer, role, scopes);
        assert_eq!(decide(&ROW, None, None).unwrap_err().kind(), Kind::Unauthenticated);
        assert_eq!(kind(&ROW, &key(Role::Operator, &["things:write"]), None), Some(Kind::Forbidden));
        assert_eq!(kind(&ROW, &key(Role::Editor, &["things:read"]), None), Some(Kind::ScopeMissing));
        assert_eq!(kind(&ROW, &key(Role::Editor, &["things:write"]), None), None);
        assert_eq!(kind(&ROW, &caller(Credential::User, Role::Owner, &[]), None), None);
    }

    #[test]
    fn a_credential_of_another_kind_is_refused_as_such() {
        let op = Op { credentials: &[Credential::User], ..ROW };
        let key = caller(Credential::Developer, Role::Owner, &["things:write"]);
        let refused = decide(&op, Some(&key), None).unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden);
        assert!(refused.message().contains("Log in"), "{refused}");
    }

    #[test]
    fn a_hidden_row_is_not_there_for_lower_roles() {
        let op = Op { visibility: Visibility::Hidden, ..ROW };
        assert_eq!(kind(&op, &caller(Credential::User, Role::Viewer, &[]), None), Some(Kind::NotFound));
    }

    #[test]
    fn a_paid_row_asks_for_a_plan() {
        let op = Op { plan: PlanGate::Paid, ..ROW };
        let owner = caller(Credential::User, Role::Owner, &[]);
        assert_eq!(kind(&op, &owner, Some(PlanKey::Free)), Some(Kind::PlanRequired));
        assert_eq!(kind(&op, &owner, Some(PlanKey::Pro)), None);
    }

    #[test]
    fn a_client_reaches_what_may_be_granted_and_a_viewer_does_not_reach_an_operators() {
        let of = |floor, role| kind(&Op { floor, ..ROW }, &caller(Credential::User, role, &[]), None);
        assert_eq!(of(Floor::GrantedOperator, Role::Client), None);
        assert_eq!(of(Floor::GrantedOperator, Role::Viewer), Some(Kind::Forbidden));
        assert_eq!(of(Floor::GrantedViewer, Role::Viewer), None);
        assert_eq!(of(Floor::Viewer, Role::Client), Some(Kind::Forbidden));
    }

    #[test]
    fn staff_who_act_for_somebody_read_and_do_what_says_so() {
        let mut owner = caller(Credential::User, Role::Owner, &[]);
        owner.impersonator = Some(Id::from_int(9).unwrap());
        assert_eq!(kind(&ROW, &owner, None), Some(Kind::Forbidden));
        assert_eq!(kind(&Op { method: "GET", ..ROW }, &owner, None), None);
        assert_eq!(kind(&Op { acting: Acting::Assists, ..ROW }, &owner, None), None);
        let private = Op { method: "GET", acting: Acting::Nothing, ..ROW };
        assert_eq!(kind(&private, &owner, None), Some(Kind::Forbidden));
        owner.impersonator = None;
        assert_eq!(kind(&private, &owner, None), None);
    }

    #[test]
    fn only_a_superadmin_reaches_the_top() {
        let op = Op { floor: Floor::Superadmin, credentials: &[Credential::User], ..ROW };
        let mut owner = caller(Credential::User, Role::Owner, &[]);
        assert_eq!(kind(&op, &owner, None), Some(Kind::Forbidden));
        owner.staff_role = Some(StaffRole::Superadmin);
        assert_eq!(kind(&op, &owner, None), None);
    }
}
