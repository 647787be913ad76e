//! `/api/audit-log`: who did what; rows of the group [`crate::developers`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, audit};
use shared::domain::User;
use shared::domain::audit::AuditEntry;
use shared::http::{AcceptsCsv, Call, Csv, Format, JsonOrCsv, Query};
use shared::kernel::{Int, Result, Time};
use uuid::Uuid;

use crate::wire::{ListOut, PageQuery, actor};

shared::ops! {
    /// Who did what in your workspace, newest first, a month at a time.
    ///
    /// Kept for 400 days. As CSV with `format=csv` or `Accept: text/csv`: all of the month, or of the day that `day` names,
    /// whatever `cursor` and `limit` say. At most 5,000 lines: more are refused.
    GET "/api/audit-log" => list_audit_log, [User] Admin "" General Any Known Unaudited Safe + private;
}

/// Which part of the log, and in which form.
#[derive(Debug, Deserialize, JsonSchema)]
struct AuditQuery {
    /// Such as `2026-01`, in UTC; this month when absent.
    #[serde(default)]
    month: Option<String>,
    /// Instead of a month: such as `2026-01-15`, in UTC.
    #[serde(default)]
    day: Option<String>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
    /// `json` or `csv`; what `Accept` asks for when absent.
    #[serde(default)]
    format: Option<Format>,
}

/// Something that was done.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditEntryOut {
    id: Uuid,
    at: Time,
    /// Who: `user_` or `key_` with the id of the user or of the key, or `system`.
    actor: String,
    /// Staff who acted for them.
    impersonated_by: Option<Int<User>>,
    /// The operation, as the reference names it.
    action: String,
    /// What it was done to, as the path says.
    target: String,
    /// Why, where staff had to say.
    reason: Option<String>,
    ip: Option<String>,
}

impl From<AuditEntry> for AuditEntryOut {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            actor: actor(&entry.actor),
            impersonated_by: entry.impersonator.map(Int),
            action: entry.action,
            target: entry.target,
            reason: entry.reason,
            ip: entry.ip,
        }
    }
}

const LOG: &str = "audit_log";
const COLUMNS: [&str; 8] = ["id", "at", "actor", "impersonated_by", "action", "target", "reason", "ip"];

fn csv(span: &str, entries: Vec<AuditEntry>) -> Csv {
    let mut file = Csv::new(format!("audit-log_{span}.csv"), &COLUMNS);
    for entry in entries {
        file.line([
            entry.id.to_string(),
            entry.at.to_string(),
            actor(&entry.actor),
            entry.impersonator.map(|staff| staff.int().to_string()).unwrap_or_default(),
            entry.action,
            Csv::text(&entry.target),
            entry.reason.as_deref().map(Csv::text).unwrap_or_default(),
            entry.ip.unwrap_or_default(),
        ]);
    }
    file
}

async fn list_audit_log(
    State(app): State<App>,
    call: Call,
    Query(query): Query<AuditQuery>,
    accepts: AcceptsCsv,
) -> Result<JsonOrCsv<ListOut<AuditEntryOut>>> {
    let AuditQuery { month, day, cursor, limit, format } = query;
    let span = audit::span(&app, month.as_deref(), day.as_deref())?;
    let (after, limit) = PageQuery { cursor, limit }.read(LOG)?;
    if accepts.csv(format) {
        return Ok(JsonOrCsv::Csv(csv(&span.name, audit::all(&app, &call.caller, &span).await?)));
    }
    let page = audit::list(&app, &call.caller, &span, after.as_ref(), limit).await?;
    Ok(JsonOrCsv::Json(ListOut::page(LOG, page.map(AuditEntryOut::from))))
}
