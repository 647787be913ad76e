//! `/api/billing`: plans and how the account stands.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use shared::app::App;
use shared::app::billing::{self, Standing};
use shared::domain::billing::SubscriptionStatus;
use shared::domain::plan::{
    BYOK_MESSAGE, CATALOGUE, EXTRA_SEAT_USD, MANAGED_MESSAGE, MicroDollars, Period, Plan, PlanKey,
};
use shared::http::{Call, Json, Visit};
use shared::kernel::{Result, Time};

shared::ops! {
    /// Every plan, with what a message and a seat cost.
    GET "/api/billing/plans" => list_plans, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// How your account stands: plan, usage, limits.
    GET "/api/billing/account" => find_account, [User Developer] Editor "billing:read" General Any Known Unaudited Safe;
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
fn cents(micro: MicroDollars) -> f64 {
    micro as f64 / 10_000.0
}

async fn list_plans(_: State<App>, _: Visit) -> Result<Json<PlansOut>> {
    let rates = RatesOut { managed: dollars(MANAGED_MESSAGE), byok: dollars(BYOK_MESSAGE) };
    Ok(Json(PlansOut { plans: CATALOGUE.iter().map(PlanOut::from).collect(), rates, seat_price: EXTRA_SEAT_USD }))
}

/// How an account stands.
#[derive(Debug, Serialize, JsonSchema)]
struct AccountOut {
    plan: PlanKey,
    status: SubscriptionStatus,
    /// Null on a trial, which has no period.
    period_start: Option<Time>,
    period_end: Option<Time>,
    messages_used_current_period: u64,
    /// Of this calendar month; counted a moment after the reply.
    messages_used_managed: u64,
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
            plan: standing.plan.key,
            status: standing.account.status,
            period_start: standing.period_start,
            period_end: standing.period_end,
            messages_used_current_period: standing.allowance.count(),
            messages_used_managed: standing.counts.managed,
            messages_used_byok: standing.counts.byok,
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
