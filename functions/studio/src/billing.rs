//! `/api/billing`: plans, how the account stands, and what it used.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::billing::{self, Standing, Usage, UsageQuery, UsageRow};
use shared::domain::billing::SubscriptionStatus;
use shared::domain::plan::{
    BYOK_MESSAGE, CATALOGUE, EXTRA_SEAT_USD, MANAGED_MESSAGE, MicroDollars, Period, Plan, PlanKey,
};
use shared::domain::usage::{KeySource, UsageSums};
use shared::domain::{Agent, User};
use shared::http::{AcceptsCsv, Call, Csv, Format, Json, JsonOrCsv, Query, Visit};
use shared::kernel::{Day, Error, Int, Result, Time};

shared::ops! {
    /// Every plan, with what a message and a seat cost.
    GET "/api/billing/plans" => list_plans, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// How your account stands: plan, usage, limits.
    GET "/api/billing/account" => find_account, [User Developer] Admin "billing:read" General Any Known Unaudited Safe + private;
    /// What your account used, by day, agent, key source and client.
    ///
    /// Counted a moment after each reply, in whole micro-dollars, over all workspaces that the account pays for. Days
    /// are UTC's. As CSV with `format=csv` or `Accept: text/csv`: the rows, without the totals. At most 7,500 rows: more
    /// are refused.
    GET "/api/billing/usage" => list_usage, [User Developer] Admin "billing:read" General Any Known Unaudited Safe + private;
}

/// The catalogue.
#[derive(Debug, Serialize, JsonSchema)]
struct PlansOut {
    plans: Vec<PlanOut>,
    rates: RatesOut,
    /// Dollars a month for one more seat on a paid plan.
    seat_price: u32,
}

/// What a message costs beyond the included ones, in dollars.
#[derive(Debug, Serialize, JsonSchema)]
struct RatesOut {
    managed: f64,
    byok: f64,
}

/// A plan.
#[derive(Debug, Serialize, JsonSchema)]
struct PlanOut {
    slug: PlanKey,
    name: &'static str,
    /// Dollars a month; null for metered only.
    price_usd: Option<u32>,
    included_messages: u64,
    /// `once` for a trial, `month` otherwise.
    period: &'static str,
    /// Whether messages beyond the included ones are sold.
    overage: bool,
    agents_limit: u64,
    seats_limit: u64,
}

impl From<&Plan> for PlanOut {
    fn from(plan: &Plan) -> Self {
        let period = match plan.period {
            Period::Once => "once",
            Period::Month => "month",
        };
        Self {
            slug: plan.key,
            name: plan.name,
            price_usd: plan.price_usd,
            included_messages: plan.included_messages,
            period,
            overage: plan.overage,
            agents_limit: plan.agents,
            seats_limit: plan.seats,
        }
    }
}

fn dollars(micro: MicroDollars) -> f64 {
    cents(micro) / 100.0
}

/// Cents with their fraction: 4,000 micro-dollars are 0.4.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 micro-dollars, nine billion dollars")]
pub(crate) fn cents(micro: MicroDollars) -> f64 {
    micro as f64 / 10_000.0
}

async fn list_plans(_: State<App>, _: Visit) -> Result<Json<PlansOut>> {
    let rates = RatesOut { managed: dollars(MANAGED_MESSAGE), byok: dollars(BYOK_MESSAGE) };
    Ok(Json(PlansOut { plans: CATALOGUE.iter().map(PlanOut::from).collect(), rates, seat_price: EXTRA_SEAT_USD }))
}

/// How an account stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AccountOut {
    /// Who pays: the owner's user id.
    owner_id: Int<User>,
    plan: PlanKey,
    status: SubscriptionStatus,
    /// What Polar calls you; null before it told of you.
    polar_customer_id: Option<String>,
    /// The subscription at Polar that the plan comes from; null without one.
    polar_subscription_id: Option<String>,
    /// Whether the installation's models answer only once the owner's e-mail is verified, which it is not yet. Agents with
    /// a model key of their own answer.
    email_verification_required: bool,
    /// When what is paid for ends or is paid for again.
    paid_until: Option<Time>,
    /// Whether it ends then.
    cancel_at_period_end: bool,
    /// Null on a trial, which has no period.
    period_start: Option<Time>,
    period_end: Option<Time>,
    /// Messages that were taken of the allowance, also those that are being answered: all of the trial, which is one period
    /// for ever; else those of `period_start` to `period_end`, the calendar month in UTC, on plans with that period.
    messages_used_current_period: u64,
    /// Those of `messages_used_current_period` that are answered with our model key. Together with `messages_used_byok`
    /// they are all of them.
    messages_used_managed: u64,
    /// Those that are answered with your own model key; messages from before the two were told apart count as ours.
    messages_used_byok: u64,
    /// Included messages of the period.
    messages_limit: u64,
    /// Trial messages left over all agents; null on plans without a trial.
    free_messages_remaining: Option<u64>,
    has_payment_method: bool,
    payg_enabled: bool,
    agents_used: u64,
    agents_limit: u64,
    seats_used: usize,
    seats_limit: u64,
    spend_cap_cents: Option<u32>,
    /// What messages beyond the included ones cost so far, in cents.
    estimated_overage_cents: f64,
}

impl From<Standing> for AccountOut {
    fn from(standing: Standing) -> Self {
        Self {
            owner_id: standing.account.owner_user_id.into(),
            plan: standing.plan.key,
            status: standing.account.status,
            polar_customer_id: standing.account.customer_id.clone(),
            polar_subscription_id: standing.account.subscription_id.clone(),
            email_verification_required: standing.awaits_verification,
            paid_until: standing.account.paid_until,
            cancel_at_period_end: standing.account.cancel_at_period_end,
            period_start: standing.period_start,
            period_end: standing.period_end,
            messages_used_current_period: standing.allowance.count(),
            messages_used_managed: standing.allowance.count_managed(),
            messages_used_byok: standing.allowance.count_byok(),
            messages_limit: standing.plan.included_messages,
            free_messages_remaining: standing.free_messages_remaining(),
            has_payment_method: standing.account.has_payment_method,
            payg_enabled: standing.account.payg_enabled,
            agents_used: standing.agents_used,
            agents_limit: standing.plan.agents,
            seats_used: standing.seats_used,
            seats_limit: standing.account.seats(),
            spend_cap_cents: standing.account.spend_cap_cents,
            estimated_overage_cents: cents(standing.allowance.overage),
        }
    }
}

async fn find_account(State(app): State<App>, call: Call) -> Result<Json<AccountOut>> {
    Ok(Json(billing::standing(&app, &call.caller).await?.into()))
}

/// Which usage, and in which form.
#[derive(Debug, Deserialize, JsonSchema)]
struct UsageQueryIn {
    /// The first day; 29 days before the last one when absent.
    #[serde(default)]
    since: Option<Day>,
    /// The last day; today when absent. At most 366 days in all.
    #[serde(default)]
    until: Option<Day>,
    /// What the rows are split by: any of `day`, `agent`, `key_source` and `client`, separated by commas; the first three
    /// when absent. A client's usage is that of the agents that are granted to them now: an agent that is granted to
    /// several counts for each of them, and once in the totals.
    #[serde(default)]
    group_by: Option<String>,
    /// Only this agent.
    #[serde(default)]
    agent_id: Option<Int<Agent>>,
    /// Only agents that are granted to this client now.
    #[serde(default)]
    client_id: Option<Int<User>>,
    /// `json` or `csv`; what `Accept` asks for when absent.
    #[serde(default)]
    format: Option<Format>,
}

/// What rows may be split by.
const GROUPS: [&str; 4] = ["day", "agent", "key_source", "client"];

impl UsageQueryIn {
    fn read(&self) -> Result<UsageQuery> {
        let words: Vec<&str> = self.group_by.as_deref().unwrap_or("day,agent,key_source").split(',').collect();
        if let Some(unknown) = words.iter().find(|word| !GROUPS.contains(word)) {
            let message =
                format!("group_by takes day, agent, key_source and client, separated by commas, not {unknown:?}");
            return Err(Error::field("group_by", "invalid", message));
        }
        Ok(UsageQuery {
            since: self.since,
            until: self.until,
            agent: self.agent_id.map(|id| id.0),
            by_day: words.contains(&"day"),
            by_agent: words.contains(&"agent"),
            by_key_source: words.contains(&"key_source"),
            by_client: words.contains(&"client"),
            client: self.client_id.map(|id| id.0),
        })
    }
}

/// What an account used.
#[derive(Debug, Serialize, JsonSchema)]
struct UsageOut {
    since: Day,
    until: Day,
    /// By day, agent and key source.
    rows: Vec<UsageRowOut>,
    totals: UsageSumsOut,
}

/// One row. What the rows are not split by is null.
#[derive(Debug, Serialize, JsonSchema)]
struct UsageRowOut {
    day: Option<Day>,
    agent_id: Option<Int<Agent>>,
    /// Null when the agent was deleted, or is another workspace's.
    agent_name: Option<String>,
    key_source: Option<KeySource>,
    /// Absent unless the rows are split by client, and for agents that are granted to nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<Int<User>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_name: Option<String>,
    #[serde(flatten)]
    sums: UsageSumsOut,
}

/// Messages and what they cost.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct UsageSumsOut {
    /// Replies of models.
    messages: i64,
    /// Those that the plan's included messages (or the trial) cover.
    included: i64,
    /// The others.
    billable: i64,
    /// What the others cost, in millionths of a dollar.
    cost_micro_usd: i64,
}

impl From<UsageSums> for UsageSumsOut {
    fn from(sums: UsageSums) -> Self {
        let UsageSums { messages, included, cost } = sums;
        Self { messages, included, billable: sums.billable(), cost_micro_usd: cost }
    }
}

impl From<UsageRow> for UsageRowOut {
    fn from(row: UsageRow) -> Self {
        let UsageRow { day, agent, agent_name, key_source, client, client_name, sums } = row;
        let (agent_id, client_id) = (agent.map(Int), client.map(Int));
        Self { day, agent_id, agent_name, key_source, client_id, client_name, sums: sums.into() }
    }
}

impl From<Usage> for UsageOut {
    fn from(usage: Usage) -> Self {
        let Usage { since, until, rows, totals, .. } = usage;
        Self { since, until, rows: rows.into_iter().map(UsageRowOut::from).collect(), totals: totals.into() }
    }
}

const COLUMNS: [&str; 10] = [
    "day",
    "agent_id",
    "agent_name",
    "key_source",
    "messages",
    "included",
    "billable",
    "cost_micro_usd",
    "client_id",
    "client_name",
];

fn csv(usage: Usage) -> Csv {
    let columns = if usage.by_client { &COLUMNS[..] } else { &COLUMNS[..COLUMNS.len() - 2] };
    let mut file = Csv::new(format!("usage_{}_{}.csv", usage.since, usage.until), columns);
    for row in usage.rows {
        let UsageRow { day, agent, agent_name, key_source, client, client_name, sums } = row;
        let keys = [
            day.map(|day| day.to_string()),
            agent.map(|agent| agent.int().to_string()),
            agent_name.map(|name| Csv::text(&name)),
            key_source.map(|source| source.text().to_owned()),
        ];
        let sums = [sums.messages, sums.included, sums.billable(), sums.cost].map(|sum| Some(sum.to_string()));
        let of = [client.map(|client| client.int().to_string()), client_name.map(|name| Csv::text(&name))];
        let cells = keys.into_iter().chain(sums).chain(of).map(Option::unwrap_or_default);
        file.line(cells.take(columns.len()));
    }
    file
}

async fn list_usage(
    State(app): State<App>,
    call: Call,
    Query(query): Query<UsageQueryIn>,
    accepts: AcceptsCsv,
) -> Result<JsonOrCsv<UsageOut>> {
    let usage = billing::usage(&app, &call.caller, &query.read()?).await?;
    let as_csv = accepts.csv(query.format);
    Ok(if as_csv { JsonOrCsv::Csv(csv(usage)) } else { JsonOrCsv::Json(usage.into()) })
}
