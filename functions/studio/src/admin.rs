//! `/api/admin`: for the operator of the installation.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, usage};
use shared::domain::usage::{KeySource, UsageEvent};
use shared::domain::{Agent, BillingAccount, Conversation, Message, Workspace};
use shared::http::{Call, Json, MaybeJson, NoContent, Path, Query};
use shared::kernel::{Int, Result, Time};
use uuid::Uuid;

use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// Report unreported usage to Polar now.
    ///
    /// What is claimed by a report that is under way is left to it, and nothing is sent while Polar fails or asks to
    /// wait, unless `force` is set; Polar counts an event once however often it is sent.
    POST "/api/admin/billing/report-usage" => report_usage, [User] Superadmin "" Staff Any Known Unaudited Own;
    /// Usage that Polar refuses, newest first, each with the reason.
    GET "/api/admin/billing/parked-usage" => list_parked_usage, [User] Superadmin "" Staff Any Known Unaudited Safe;
    /// Put parked usage back: it is sent again with the next report.
    POST "/api/admin/billing/parked-usage/{id}/retry" => retry_parked_usage,
        [User] Superadmin "" Staff Any Known Audited Keyed;
}

/// How to report.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ReportUsageIn {
    /// Ignore claims that are under way and Polar's wish to wait, and look back over a year.
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
    /// Until when nothing is reported, since Polar fails or asked to wait; null when it is reported to.
    paused_until: Option<Time>,
}

async fn report_usage(
    State(app): State<App>,
    _: Call,
    MaybeJson(body): MaybeJson<ReportUsageIn>,
) -> Result<Json<ReportUsageOut>> {
    let usage::Claimed { configured, batches, events, paused_until } =
        usage::batch(&app, body.unwrap_or_default().force).await?;
    Ok(Json(ReportUsageOut { configured, batches, events, paused_until }))
}

/// A usage event that Polar refuses.
#[derive(Debug, Serialize, JsonSchema)]
struct ParkedUsageOut {
    id: Uuid,
    account_id: Int<BillingAccount>,
    workspace_id: Int<Workspace>,
    agent_id: Int<Agent>,
    conversation_id: Int<Conversation>,
    message_id: Int<Message>,
    key_source: KeySource,
    included: bool,
    unit_cost_micro_usd: i64,
    /// When the message was answered.
    at: Time,
    /// What Polar said.
    reason: Option<String>,
    parked_at: Option<Time>,
}

impl From<UsageEvent> for ParkedUsageOut {
    fn from(event: UsageEvent) -> Self {
        Self {
            id: event.id,
            account_id: event.billing_account_id.into(),
            workspace_id: event.workspace_id.into(),
            agent_id: event.agent_id.into(),
            conversation_id: event.conversation_id.into(),
            message_id: event.message_id.into(),
            key_source: event.key_source,
            included: event.included,
            unit_cost_micro_usd: event.unit_cost,
            at: event.at,
            reason: event.parked,
            parked_at: event.parked_at,
        }
    }
}

const PARKED: &str = "parked_usage";

async fn list_parked_usage(
    State(app): State<App>,
    _: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<ParkedUsageOut>>> {
    let (after, limit) = query.read(PARKED)?;
    let page = usage::parked(&app, after.as_ref(), limit).await?;
    Ok(Json(ListOut::page(PARKED, page.map(ParkedUsageOut::from))))
}

async fn retry_parked_usage(State(app): State<App>, call: Call, Path(id): Path<Uuid>) -> Result<NoContent> {
    call.run(&app, || usage::retry_parked(&app, id), |()| ()).await
}
