//! `/api/billing`: buying, changing what was bought, and what an owner sets; rows of the group [`crate::billing`].

use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::checkout::{self, Buyer, ChangePlan, Seats};
use shared::app::{App, Draft};
use shared::http::{Call, Done, Json, MaybeJson};
use shared::kernel::{Nullable, Result, Time};
use shared::ports::polar::OpenCheckout;

use crate::billing::AccountOut;

shared::ops! {
    /// Open a checkout for a plan.
    ///
    /// Give `url` to `PolarEmbedCheckout.create(url, {theme: "dark"})`, with the page's origin in `embed_origin`, or send
    /// the buyer there. The plan counts when Polar says that it is paid for, moments later. `payg` saves a card and bills
    /// by use. Who has a plan changes it instead: `PATCH /api/billing/subscription`.
    POST "/api/billing/checkout-session" => create_checkout_session, [User] Owner "" General Any Known Audited Own also [409 502 503];
    /// Open the customer portal: cards, invoices, the end of a subscription.
    ///
    /// The address holds for an hour.
    POST "/api/billing/portal-session" => create_portal_session, [User] Owner "" General Any Known Audited Own also [502 503];
    /// Change the subscription.
    ///
    /// A larger plan counts at once and is paid for what is left of the period, a smaller one with the next period.
    /// Published agents beyond its number stay published, and no more can be.
    PATCH "/api/billing/subscription" => update_subscription, [User] Owner "" General Any Known Audited Own also [402 409 502 503];
    /// Ask for seats beyond the plan's.
    ///
    /// The first ones are paid for in a checkout, whose `url` is answered; after that their number is changed at once.
    PUT "/api/billing/seats" => set_seats, [User] Owner "" General Any Known Audited Own also [402 409 502 503];
    /// Set whether messages may be billed without a plan, once a card is saved.
    PUT "/api/billing/payg" => set_payg, [User] Owner "" General Any Known Audited Keyed also [402];
    /// Set the most that messages beyond the included ones may cost in a month.
    ///
    /// It is a hard limit: beyond it agents keep messages and do not answer.
    PUT "/api/billing/spend-cap" => set_spend_cap, [User] Owner "" General Any Known Audited Keyed;
}

/// What to buy.
#[derive(Debug, Deserialize, JsonSchema)]
struct CheckoutSessionIn {
    /// `starter`, `pro`, `studio`, `agency`, or `payg` to save a card.
    plan_slug: String,
    /// The origin of the page that shows the checkout; that of the call when absent.
    #[serde(default)]
    embed_origin: Option<String>,
    /// Where the buyer is sent afterwards; `{CHECKOUT_ID}` in it is filled in.
    #[serde(default)]
    success_url: Option<String>,
}

/// A checkout that waits for its buyer.
#[derive(Debug, Serialize, JsonSchema)]
struct CheckoutSessionOut {
    url: String,
    checkout_id: String,
    expires_at: Time,
}

/// A portal to open.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct PortalSessionIn {
    /// Where its back button leads.
    #[serde(default)]
    return_url: Option<String>,
}

/// A portal.
#[derive(Debug, Serialize, JsonSchema)]
struct PortalSessionOut {
    url: String,
}

/// A change of the subscription: one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
struct SubscriptionPatch {
    /// Another plan.
    #[serde(default)]
    plan_slug: Option<String>,
    /// Whether it ends with the period; false takes that back.
    #[serde(default)]
    cancel_at_period_end: Option<bool>,
}

/// What was asked of Polar.
#[derive(Debug, Serialize, JsonSchema)]
struct SubscriptionOut {
    /// `requested`: the account shows it when Polar has carried it out, mostly within seconds.
    status: &'static str,
}

/// Seats to have beyond the plan's.
#[derive(Debug, Deserialize, JsonSchema)]
struct SeatsIn {
    extra_seats: u32,
    #[serde(default)]
    embed_origin: Option<String>,
    #[serde(default)]
    success_url: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
struct SeatsOut {
    /// `requested`, or `checkout` when they are to be paid for first.
    status: &'static str,
    /// Where to pay.
    url: Option<String>,
}

/// Pay as you go.
#[derive(Debug, Deserialize, JsonSchema)]
struct PaygIn {
    enabled: bool,
}

/// A cap.
#[derive(Debug, Deserialize, JsonSchema)]
struct SpendCapIn {
    /// In cents of a dollar; null for none.
    spend_cap_cents: Nullable<u32>,
}

impl From<OpenCheckout> for CheckoutSessionOut {
    fn from(open: OpenCheckout) -> Self {
        Self { url: open.url, checkout_id: open.id, expires_at: open.expires_at }
    }
}

/// Where the buyer is; the frame's origin is the one that the browser says it calls from, unless it is given.
fn buyer(call: &Call, headers: &HeaderMap, embed_origin: Option<String>, success_url: Option<String>) -> Buyer {
    let origin = || headers.get("origin")?.to_str().ok().filter(|origin| *origin != "null").map(str::to_owned);
    Buyer { embed_origin: embed_origin.or_else(origin), success_url, ip: Some(call.address.to_string()) }
}

async fn create_checkout_session(
    State(app): State<App>,
    call: Call,
    headers: HeaderMap,
    Json(body): Json<CheckoutSessionIn>,
) -> Result<Done<CheckoutSessionOut>> {
    let buyer = buyer(&call, &headers, body.embed_origin, body.success_url);
    let buy = async || checkout::buy(&app, &call.caller, &body.plan_slug, &buyer).await.map(Draft::done);
    call.run(&app, buy, CheckoutSessionOut::from).await
}

async fn create_portal_session(
    State(app): State<App>,
    call: Call,
    MaybeJson(body): MaybeJson<PortalSessionIn>,
) -> Result<Done<PortalSessionOut>> {
    let return_url = body.unwrap_or_default().return_url;
    let open = async || checkout::portal(&app, &call.caller, return_url.as_deref()).await.map(Draft::done);
    call.run(&app, open, |url| PortalSessionOut { url }).await
}

const REQUESTED: &str = "requested";

async fn update_subscription(
    State(app): State<App>,
    call: Call,
    Json(body): Json<SubscriptionPatch>,
) -> Result<Done<SubscriptionOut>> {
    let command = ChangePlan { plan: body.plan_slug, cancel_at_period_end: body.cancel_at_period_end };
    let change = async || checkout::change(&app, &call.caller, &command).await.map(Draft::done);
    call.run(&app, change, |()| SubscriptionOut { status: REQUESTED }).await
}

async fn set_seats(
    State(app): State<App>,
    call: Call,
    headers: HeaderMap,
    Json(body): Json<SeatsIn>,
) -> Result<Done<SeatsOut>> {
    let buyer = buyer(&call, &headers, body.embed_origin, body.success_url);
    let ask = async || checkout::seats(&app, &call.caller, body.extra_seats, &buyer).await.map(Draft::done);
    let out = |seats| match seats {
        Seats::Changed => SeatsOut { status: REQUESTED, url: None },
        Seats::ToPay(open) => SeatsOut { status: "checkout", url: Some(open.url) },
    };
    call.run(&app, ask, out).await
}

async fn set_payg(State(app): State<App>, call: Call, Json(body): Json<PaygIn>) -> Result<Done<AccountOut>> {
    call.run(&app, || checkout::set_payg(&app, &call.caller, body.enabled), AccountOut::from).await
}

async fn set_spend_cap(State(app): State<App>, call: Call, Json(body): Json<SpendCapIn>) -> Result<Done<AccountOut>> {
    call.run(&app, || checkout::set_spend_cap(&app, &call.caller, body.spend_cap_cents.0), AccountOut::from).await
}
