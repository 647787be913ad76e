//! The audit log.

use std::time::Duration;

use super::keys;
use crate::domain::Workspace;
use crate::domain::audit::AuditEntry;
use crate::kernel::{Cursor, Id, Limit, Page, Result, Time};
use crate::table::{Index, Query, Row, Table, Unit};

const KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// Adds an entry.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, entry: &AuditEntry) -> Result<()> {
    let key = keys::audit(entry.workspace_id, entry.at, entry.id);
    unit.put(Row::new(key, "audit", entry)?.ttl(entry.at + KEPT));
    Ok(())
}

/// The entries from one time until before another of the same month, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(
    table: &Table,
    workspace: Id<Workspace>,
    (from, until): (Time, Time),
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<AuditEntry>> {
    let (from, until) = (keys::audit_from(workspace, from), keys::audit_from(workspace, until).sk);
    table.page(&Query::between(Index::Main, from.pk, from.sk, until).newest_first().after(after), limit).await
}
