//! `/api/admin`: for the operator of the installation.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::usage;
use shared::http::{Call, Json, MaybeJson};
use shared::kernel::Result;

shared::ops! {
    /// Report unreported usage to Polar now.
    ///
    /// What is claimed by a report that is under way is left to it, unless `force` is set; Polar counts an event once
    /// however often it is sent.
    POST "/api/admin/billing/report-usage" => report_usage, [User] Superadmin "" Staff Any Known Unaudited Own;
}

/// How to report.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ReportUsageIn {
    /// Ignore claims that are under way, and look back over a year.
    #[serde(default)]
    force: bool,
}

/// What was found and queued.
#[derive(Debug, Serialize, JsonSchema)]
struct ReportUsageOut {
    /// Whether there is a Polar to report to.
    configured: bool,
    /// Batches that were queued.
    batches: usize,
    /// Events in them.
    events: usize,
}

async fn report_usage(
    State(app): State<App>,
    _: Call,
    MaybeJson(body): MaybeJson<ReportUsageIn>,
) -> Result<Json<ReportUsageOut>> {
    let claimed = usage::batch(&app, body.unwrap_or_default().force).await?;
    Ok(Json(ReportUsageOut { configured: claimed.configured, batches: claimed.batches, events: claimed.events }))
}
