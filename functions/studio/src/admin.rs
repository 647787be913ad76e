//! `/api/admin`: for the operator of the installation.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::reconcile::{Command, Drift, MAX_EVENTS};
use shared::app::{App, Draft, outbox, reconcile, usage};
use shared::domain::usage::{KeySource, UsageEvent, UsageSums};
use shared::domain::{Agent, BillingAccount, Conversation, Message, Workspace};
use shared::http::{Call, Done, Json, MaybeJson, NoContent, Path, Query};
use shared::kernel::{Day, Error, Id, Int, Page, Result, Time};
use uuid::Uuid;

use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// Report unreported usage to Polar now.
    ///
    /// What is claimed by a report that is under way is left to it, and nothing is sent while Polar fails or asks to
    /// wait, unless `force` is set; Polar counts an event once however often it is sent.
    POST "/api/admin/billing/report-usage" => report_usage, [User] Superadmin "" Staff Any Known Audited Own;
    /// Usage that Polar refuses, newest first, each with the reason.
    GET "/api/admin/billing/parked-usage" => list_parked_usage, [User] Superadmin "" Staff Any Known Unaudited Safe;
    /// Put parked usage back: it is sent again with the next report.
    POST "/api/admin/billing/parked-usage/{id}/retry" => retry_parked_usage,
        [User] Superadmin "" Staff Any Known Audited Keyed;
    /// Put all parked usage back, up to 90 events a call, the newest first: repeat it until it answers 0.
    ///
    /// Do it when Polar's reason is mended. What it still refuses is parked again.
    POST "/api/admin/billing/parked-usage/retry" => retry_all_parked_usage,
        [User] Superadmin "" Staff Any Known Audited Keyed;
    /// Compare what is stored, what is counted, what was reported and what Polar has, account by account.
    ///
    /// For one account or a page of all of them, over at most 31 days of the last two years; this month unless it is
    /// said. An account with more than 100,000 messages in that time is left out with an `error`: ask for it alone, over
    /// fewer days. Counters that are off are set right from what is stored when `repair` is set.
    POST "/api/admin/billing/reconcile" => reconcile_usage, [User] Superadmin "" Staff Any Known Audited Own also [404];
    /// Relay and count the events of a time again, up to 30 days back.
    ///
    /// For events that the readers of the stream gave up. It goes on behind the scenes; what was delivered, mailed or
    /// counted before is not again.
    POST "/api/admin/outbox/replay" => replay_outbox, [User] Superadmin "" Staff Any Known Audited Own;
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

impl From<usage::Claimed> for ReportUsageOut {
    fn from(claimed: usage::Claimed) -> Self {
        let usage::Claimed { configured, batches, events, paused_until } = claimed;
        Self { configured, batches, events, paused_until }
    }
}

async fn report_usage(
    State(app): State<App>,
    call: Call,
    MaybeJson(body): MaybeJson<ReportUsageIn>,
) -> Result<Done<ReportUsageOut>> {
    let force = body.unwrap_or_default().force;
    let claim = async || usage::batch(&app, force).await.map(Draft::done);
    call.run(&app, claim, ReportUsageOut::from).await
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
const ACCOUNTS: &str = "reconcile";

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

/// What was put back.
#[derive(Debug, Serialize, JsonSchema)]
struct RetriedOut {
    retried: usize,
}

async fn retry_all_parked_usage(State(app): State<App>, call: Call) -> Result<Done<RetriedOut>> {
    call.run(&app, || usage::retry_all_parked(&app), |retried| RetriedOut { retried }).await
}

/// What to compare.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ReconcileIn {
    /// Only this account; a page of all accounts when absent.
    #[serde(default)]
    account_id: Option<Int<BillingAccount>>,
    /// A month, such as `2026-01`, instead of days.
    #[serde(default)]
    month: Option<String>,
    /// The first day.
    #[serde(default)]
    since: Option<Day>,
    /// The last day.
    #[serde(default)]
    until: Option<Day>,
    /// Set the counters that are off right.
    #[serde(default)]
    repair: bool,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100 accounts; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

impl ReconcileIn {
    fn read(self, now: Time) -> Result<Command> {
        let (after, limit) = PageQuery { cursor: self.cursor, limit: self.limit }.read(ACCOUNTS)?;
        let (since, until) = match (&self.month, self.since, self.until) {
            (None, Some(since), Some(until)) => (since, until),
            (None, None, None) => whole_month(Day::of(now)),
            (Some(month), None, None) => {
                let first = Day::parse(&format!("{month}-01"));
                whole_month(first.ok_or_else(|| Error::field("month", "invalid", "month must be such as 2026-01"))?)
            }
            _ => return Err(Error::field("month", "invalid", "say either month, or both since and until")),
        };
        let (account, repair) = (self.account_id.map(|id| id.0), self.repair);
        Ok(Command { account, since, until, repair, after, limit, bound: MAX_EVENTS })
    }
}

fn whole_month(day: Day) -> (Day, Day) {
    (day.first_of_month(), day.last_of_month())
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
struct ReconcileOut {
    since: Day,
    until: Day,
    /// Whether there is a Polar to ask.
    polar_configured: bool,
    /// Why Polar did not tell what it has; null when it did.
    polar_error: Option<String>,
    #[serde(flatten)]
    accounts: ListOut<ReconciledOut>,
}

/// An account: either what was found of it, or `error`.
#[derive(Debug, Serialize, JsonSchema)]
struct ReconciledOut {
    account_id: Int<BillingAccount>,
    /// Why this account is left out and the numbers are missing; null when they are there. One that has too much usage
    /// in that time is looked at by itself, over fewer days.
    error: Option<String>,
    #[serde(flatten)]
    found: Option<DriftOut>,
}

impl From<(Id<BillingAccount>, Result<Drift>)> for ReconciledOut {
    fn from((account, found): (Id<BillingAccount>, Result<Drift>)) -> Self {
        let error = found.as_ref().err().map(|error| error.message().to_owned());
        Self { account_id: account.into(), error, found: found.ok().map(DriftOut::from) }
    }
}

/// What was found of an account; numbers of messages unless it is said otherwise.
#[derive(Debug, Serialize, JsonSchema)]
struct DriftOut {
    /// What is stored: the bill.
    stored: i64,
    stored_cost_micro_usd: i64,
    /// Of these, what Polar is known to have taken.
    reported: i64,
    /// Of these, what Polar is still to be told of.
    unreported: i64,
    /// Of these, what Polar refuses.
    parked: i64,
    /// What is counted, before anything is set right.
    rollup: i64,
    rollup_cost_micro_usd: i64,
    /// What Polar has; null when there is no Polar, or it does not tell.
    polar: Option<i64>,
    drift: DriftsOut,
    /// How many counters (each of a day, an agent and a key source) are off.
    counters_off: usize,
    /// How many of them were set right.
    counters_repaired: usize,
    /// How many of them could not be, since they were counted in all the time: repair them again later.
    counters_given_up: usize,
}

/// How far the numbers are apart; all 0 when all is well.
#[derive(Debug, Serialize, JsonSchema)]
struct DriftsOut {
    /// Counted beyond what is stored. What happened in the last 15 minutes may be counted or not.
    rollup: i64,
    rollup_cost_micro_usd: i64,
    /// At Polar beyond what is known to be reported. Up to `unreported` of them it took without our knowing; these are
    /// sent again and dropped by it.
    polar: Option<i64>,
}

impl From<Drift> for DriftOut {
    fn from(drift: Drift) -> Self {
        let Drift { stored, reported, unreported, parked, rollup, beyond, polar, off, repaired, given_up } = drift;
        let UsageSums { messages, cost, .. } = beyond;
        Self {
            stored: stored.messages,
            stored_cost_micro_usd: stored.cost,
            reported,
            unreported,
            parked,
            rollup: rollup.messages,
            rollup_cost_micro_usd: rollup.cost,
            polar,
            drift: DriftsOut { rollup: messages, rollup_cost_micro_usd: cost, polar: drift.of_polar() },
            counters_off: off,
            counters_repaired: repaired,
            counters_given_up: given_up,
        }
    }
}

impl ReconcileOut {
    fn of(command: &Command, report: reconcile::Report) -> Self {
        let reconcile::Report { accounts, next, polar_configured, polar_error } = report;
        let accounts = Page { items: accounts, next, total: None }.map(ReconciledOut::from);
        let (since, until, accounts) = (command.since, command.until, ListOut::page(ACCOUNTS, accounts));
        Self { since, until, polar_configured, polar_error, accounts }
    }
}

async fn reconcile_usage(
    State(app): State<App>,
    call: Call,
    MaybeJson(body): MaybeJson<ReconcileIn>,
) -> Result<Done<ReconcileOut>> {
    let command = body.unwrap_or_default().read(app.now())?;
    let run = async || reconcile::run(&app, &command).await.map(Draft::done);
    call.run(&app, run, |report| ReconcileOut::of(&command, report)).await
}

/// A time.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReplayOutboxIn {
    /// From then on, up to 30 days back.
    since: Time,
    /// Until then.
    until: Time,
}

/// The time whose events are relayed and counted again.
#[derive(Debug, Serialize, JsonSchema)]
struct ReplayOutboxOut {
    since: Time,
    until: Time,
}

async fn replay_outbox(
    State(app): State<App>,
    call: Call,
    Json(body): Json<ReplayOutboxIn>,
) -> Result<Done<ReplayOutboxOut>> {
    let command = || outbox::replay(&app, body.since, body.until);
    call.run(&app, command, |(since, until)| ReplayOutboxOut { since, until }).await
}
