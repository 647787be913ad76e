//! Which keys are a tenant's: read when all of it is looked for.

use super::{b, w};
use crate::domain::{BillingAccount, Workspace};
use crate::kernel::Id;
use crate::table::Key;

/// Sort prefix of a workspace's keys of all kinds.
pub const API_KEYS: &str = "KEY#";

/// Where idempotency records lie; whose they are follows.
pub const IDEMPOTENCY: &str = "IDEM#";

/// Where links to set a password anew lie.
pub const RESETS: &str = "RESET#";

/// Where rate windows lie; their class and whose they are follow.
pub const RATES: &str = "RL#";

/// The partition of an account; that of its usage and its rollups begin with it.
#[must_use]
pub fn account_pk(account: Id<BillingAccount>) -> String {
    b(account)
}

/// Whether a partition is a workspace's.
#[must_use]
pub fn is_of_workspace(pk: &str, workspace: Id<Workspace>) -> bool {
    is_below(pk, &w(workspace))
}

/// Whether a partition is an account's.
#[must_use]
pub fn is_of_account(pk: &str, account: Id<BillingAccount>) -> bool {
    is_below(pk, &b(account))
}

/// Whether a partition is some account's.
#[must_use]
pub fn is_bill(pk: &str) -> bool {
    pk.starts_with("B#")
}

/// The partition itself, or one below it; what only begins like it is another's.
fn is_below(pk: &str, of: &str) -> bool {
    pk.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
}

/// Whether a workspace is told apart in the sort key of a rollup of usage, or of its marker.
#[must_use]
pub fn counts_workspace(sk: &str, workspace: Id<Workspace>) -> bool {
    sk.contains(&format!("#{}#", workspace.key()))
}

/// Whose an idempotency record or a rate window is, as the partition says it.
#[must_use]
pub fn subject(pk: &str) -> Option<&str> {
    if let Some(rest) = pk.strip_prefix(IDEMPOTENCY) {
        return Some(rest.rsplit_once('#')?.0);
    }
    Some(pk.strip_prefix(RATES)?.split_once('#')?.1)
}

/// Whether what lies here leads to everything else of a workspace, so that it must be the last to go: the workspace, its
/// members, keys and agents.
#[must_use]
pub fn is_root(key: &Key, workspace: Id<Workspace>) -> bool {
    let first = [super::MEMBERSHIP, API_KEYS, super::AGENT];
    key.pk == w(workspace) && (key.sk == "WS" || first.iter().any(|prefix| key.sk.starts_with(prefix)))
}

/// What an item without an entity type is: counters that are only ever added to.
#[must_use]
pub fn kind(key: &Key) -> &'static str {
    let Key { pk, sk } = key;
    match () {
        () if pk.starts_with(RATES) => "rate_window",
        () if pk.ends_with("#RU") => "rollup",
        () if pk.ends_with("#WHH") => "webhook_health",
        () if sk.starts_with("USE#") => "allowance",
        () if sk.starts_with("CNT#") => "count",
        () => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys;

    #[test]
    fn a_partition_is_of_one_workspace() {
        let (ours, other): (Id<Workspace>, Id<Workspace>) = (Id::from_int(7).unwrap(), Id::from_int(8).unwrap());
        let pk = keys::workspace_pk(ours);
        assert!(is_of_workspace(&pk, ours) && is_of_workspace(&keys::conversations(ours), ours));
        assert!(!is_of_workspace(&pk, other) && !is_of_workspace(&format!("{pk}0"), ours));
        assert!(!is_of_workspace(&pk[..pk.len() - 1], ours) && !is_of_workspace("", ours));
    }

    #[test]
    fn whose_a_record_is_stands_in_its_key() {
        assert_eq!(subject(&keys::idempotency("user_1", "a#b").pk), Some("user_1"));
        assert_eq!(subject(&keys::rate("general", "2001:db8::", 5).pk), Some("2001:db8::"));
        assert_eq!(subject("W#1"), None);
    }
}
