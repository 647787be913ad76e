//! Reading the audit log.

use super::App;
use crate::access::Caller;
use crate::domain::audit::AuditEntry;
use crate::kernel::{Cursor, Day, Error, Limit, Page, Result, Time};
use crate::store;

/// The month that is asked for, such as `2026-01`; this one when nothing is.
///
/// # Errors
/// `validation_error`.
pub fn month(app: &App, text: Option<&str>) -> Result<Time> {
    let Some(text) = text else { return Ok(app.now()) };
    let day = Some(text).filter(|text| text.len() == 7).and_then(|text| Day::parse(&format!("{text}-01")));
    day.map(Day::start).ok_or_else(|| Error::field("month", "invalid", "month must be such as 2026-01"))
}

/// A page of a month of the caller's workspace, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(
    app: &App,
    caller: &Caller,
    month: Time,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<AuditEntry>> {
    store::audit::list(&app.table, caller.workspace_id, month, after, limit).await
}
