//! Reading the audit log.

use super::App;
use crate::access::Caller;
use crate::domain::audit::AuditEntry;
use crate::kernel::{Cursor, Day, Error, Limit, Page, Result, Time};
use crate::store;

/// How many entries a file has at most: with the longest targets and reasons they fit into what a function may answer.
const MAX_FILE: usize = 5_000;

/// Which time of the log is read: a month, or a day.
#[derive(Debug, Clone)]
pub struct Span {
    /// Such as `2026-01` or `2026-01-15`.
    pub name: String,
    from: Time,
    until: Time,
}

/// The month that is asked for, such as `2026-01`, or the day, such as `2026-01-15`; this month when nothing is.
///
/// # Errors
/// `validation_error`.
pub fn span(app: &App, month: Option<&str>, day: Option<&str>) -> Result<Span> {
    if let Some(text) = day {
        if month.is_some() {
            return Err(Error::field("day", "invalid", "give either a month or a day"));
        }
        let day = Some(text).filter(|text| text.len() == 10).and_then(Day::parse);
        let day = day.ok_or_else(|| Error::field("day", "invalid", "day must be such as 2026-01-15"))?;
        return Ok(Span { name: text.to_owned(), from: day.start(), until: day.end() });
    }
    let month = month.map_or_else(|| app.now().format("%Y-%m"), str::to_owned);
    let first = Some(&month).filter(|text| text.len() == 7).and_then(|text| Day::parse(&format!("{text}-01")));
    let first = first.ok_or_else(|| Error::field("month", "invalid", "month must be such as 2026-01"))?;
    Ok(Span { name: month, from: first.start(), until: first.last_of_month().end() })
}

/// A page of what was done in the caller's workspace in that time, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(
    app: &App,
    caller: &Caller,
    span: &Span,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<AuditEntry>> {
    store::audit::list(&app.table, caller.workspace_id, (span.from, span.until), after, limit).await
}

/// All of it, for a file: one that ends early would look whole.
///
/// # Errors
/// `too_much` when it is more than a file takes.
pub async fn all(app: &App, caller: &Caller, span: &Span) -> Result<Vec<AuditEntry>> {
    let (mut entries, mut after, limit) = (Vec::new(), None, Limit::new(Some(100))?);
    loop {
        let page = list(app, caller, span, after.as_ref(), limit).await?;
        entries.extend(page.items);
        if entries.len() > MAX_FILE {
            let message =
                format!("there are more than {MAX_FILE} entries; ask for a day, or read them page by page as JSON");
            return Err(Error::field("format", "too_much", message));
        }
        after = page.next;
        if after.is_none() {
            return Ok(entries);
        }
    }
}
