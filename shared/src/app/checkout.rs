//! Buying: checkouts, the customer portal, changes of a subscription, and what an owner sets of their account. What is
//! bought counts when Polar tells of it ([`super::polar`]), never before.

use super::billing::{Standing, standing_as};
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::BillingAccount;
use crate::domain::billing::{Product, Subscription};
use crate::domain::plan::PlanKey;
use crate::domain::text::Checks;
use crate::kernel::{Code, Error, Result, Secret};
use crate::ports::polar::{Change, Checkout, OpenCheckout, Polar};
use crate::ports::secrets::POLAR_TOKEN;
use crate::store;
use crate::table::{Unit, Versioned};

/// Where a buyer is.
#[derive(Debug, Clone)]
pub struct Buyer {
    /// The origin of the page that shows the checkout in a frame.
    pub embed_origin: Option<String>,
    /// Where the buyer is sent afterwards.
    pub success_url: Option<String>,
    /// The buyer's address.
    pub ip: Option<String>,
}

impl Buyer {
    fn check(&self, checks: &mut Checks) {
        check_page(checks, "embed_origin", self.embed_origin.as_deref(), true);
        check_page(checks, "success_url", self.success_url.as_deref(), false);
    }
}

/// The most seats that are sold beyond a plan's.
const MAX_SEATS: u32 = 1_000;
/// The largest spend cap, in cents.
const MAX_CAP: u32 = 100_000_000;

async fn polar(app: &App) -> Result<(&Polar, Secret)> {
    let missing = || {
        let message = "Nothing can be bought here: POLAR_BASE_URL, POLAR_PRODUCTS and the secret polar_access_token are to be set.";
        Error::with_message(Code::NotConfigured, message)
    };
    let polar = app.polar.as_ref().ok_or_else(missing)?;
    let token = app.secrets.get(POLAR_TOKEN).await?.ok_or_else(missing)?;
    Ok((polar, token))
}

/// Polar's id of a product.
fn product(app: &App, product: Product) -> Result<&str> {
    let found = app.config.polar_products.iter().find(|(known, _)| *known == product);
    let message = "This is not sold here: POLAR_PRODUCTS does not name it.";
    found.map(|(_, id)| id.as_str()).ok_or_else(|| Error::with_message(Code::NotConfigured, message))
}

fn plan(checks: &mut Checks, text: &str) -> Option<PlanKey> {
    let plan = serde_json::from_value(text.into()).ok().filter(|plan| *plan != PlanKey::Free);
    let message = "plan_slug must be starter, pro, studio, agency or payg";
    checks.ensure(plan.is_some(), "plan_slug", "unknown_plan", message);
    plan
}

/// An address of a page: https, or http on this machine.
fn check_page(checks: &mut Checks, field: &str, text: Option<&str>, only_origin: bool) {
    let Some(text) = text else { return };
    let url = url::Url::parse(text).ok().filter(|url| text.len() <= 2_048 && url.host_str().is_some());
    let is_local = |url: &url::Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let holds = url.is_some_and(|url| {
        let is_bare = url.origin().ascii_serialization() == text.trim_end_matches('/');
        (url.scheme() == "https" || (url.scheme() == "http" && is_local(&url))) && (is_bare || !only_origin)
    });
    let what =
        if only_origin { "the origin of an https page, such as https://example.com" } else { "an https address" };
    checks.ensure(holds, field, "invalid_url", &format!("{field} must be {what}"));
}

async fn email(app: &App, caller: &Caller) -> Result<String> {
    let owner = store::user::get(&app.table, caller.owner_user_id).await?;
    Ok(owner.ok_or_else(Error::not_found)?.email)
}

/// The subscription that is in force, which a checkout would double.
async fn live(app: &App, account: &BillingAccount, of: impl Fn(Product) -> bool) -> Result<Option<Subscription>> {
    let all = store::billing::subscriptions(&app.table, account.id).await?;
    Ok(all.into_iter().find(|one| account.has(one) && of(one.product)))
}

/// Opens a checkout for the plan of that key.
///
/// # Errors
/// `validation_error`, `subscription.active`, `not_configured`, `upstream_error`.
pub async fn buy(app: &App, caller: &Caller, plan_key: &str, buyer: &Buyer) -> Result<OpenCheckout> {
    let mut checks = Checks::new();
    let plan = plan(&mut checks, plan_key);
    buyer.check(&mut checks);
    checks.finish()?;
    let plan = plan.ok_or_else(|| Error::new(Code::ValidationError))?;
    let (polar, token) = polar(app).await?;
    let product = product(app, Product::Plan(plan))?;
    let account = store::billing::get(&app.table, caller.billing_account_id).await?;
    // Pay as you go gives way to a plan; a plan is changed, not bought twice.
    let stands = live(app, &account, |product| product.plan().is_some_and(|plan| plan != PlanKey::Payg)).await?;
    if stands.is_some() {
        return Err(Error::new(Code::SubscriptionActive));
    }
    open(app, caller, polar, &token, (product, None), buyer).await
}

async fn open(
    app: &App,
    caller: &Caller,
    polar: &Polar,
    token: &Secret,
    (product, seats): (&str, Option<u32>),
    buyer: &Buyer,
) -> Result<OpenCheckout> {
    let email = email(app, caller).await?;
    let usual = format!("{}/?checkout_id={{CHECKOUT_ID}}", app.config.public_base_url);
    let checkout = Checkout {
        product,
        account: caller.billing_account_id,
        email: &email,
        ip: buyer.ip.clone(),
        embed_origin: buyer.embed_origin.as_deref().map(|origin| origin.trim_end_matches('/')),
        success_url: buyer.success_url.as_deref().unwrap_or(&usual),
        seats,
    };
    polar.open_checkout(token, &checkout).await
}

/// Opens the customer portal: cards, invoices, the end of a subscription.
///
/// # Errors
/// `validation_error`, `not_configured`, `upstream_error`.
pub async fn portal(app: &App, caller: &Caller, return_url: Option<&str>) -> Result<String> {
    let mut checks = Checks::new();
    check_page(&mut checks, "return_url", return_url, false);
    checks.finish()?;
    let (polar, token) = polar(app).await?;
    polar.open_portal(&token, caller.billing_account_id, &email(app, caller).await?, return_url).await
}

/// A change of the subscription.
#[derive(Debug, Clone, Default)]
pub struct ChangePlan {
    /// Another plan.
    pub plan: Option<String>,
    /// Whether it ends with the period.
    pub cancel_at_period_end: Option<bool>,
}

/// Changes the subscription: a larger plan at once, a smaller one with the next period.
///
/// # Errors
/// `validation_error`, `subscription.missing`, `payment_failed`, `not_configured`, `upstream_error`.
pub async fn change(app: &App, caller: &Caller, command: &ChangePlan) -> Result<()> {
    let mut checks = Checks::new();
    let plan = command.plan.as_deref().and_then(|text| plan(&mut checks, text));
    let one = command.plan.is_some() != command.cancel_at_period_end.is_some();
    checks.ensure(one, "plan_slug", "required", "say either plan_slug or cancel_at_period_end");
    checks.finish()?;
    let (polar, token) = polar(app).await?;
    let account = store::billing::get(&app.table, caller.billing_account_id).await?;
    let known = account.subscription_id.as_deref().ok_or_else(|| Error::new(Code::SubscriptionMissing))?;
    let change = match (plan, command.cancel_at_period_end) {
        (Some(plan), _) => {
            Change::Product { id: product(app, Product::Plan(plan))?, at_once: plan as usize > account.plan as usize }
        }
        (None, cancel) => Change::Cancel(cancel.unwrap_or(true)),
    };
    polar.change_subscription(&token, known, &change).await
}

/// What came of asking for seats.
#[derive(Debug, Clone)]
pub enum Seats {
    /// Polar was told, and will tell.
    Changed,
    /// They have to be paid for first.
    ToPay(OpenCheckout),
}

/// Asks for so many seats beyond the plan's.
///
/// # Errors
/// `validation_error`, `plan_required` on a plan that is not paid for, `not_configured`, `upstream_error`.
pub async fn seats(app: &App, caller: &Caller, wanted: u32, buyer: &Buyer) -> Result<Seats> {
    let mut checks = Checks::new();
    checks.ensure(wanted <= MAX_SEATS, "extra_seats", "too_many", &format!("extra_seats may be {MAX_SEATS} at most"));
    buyer.check(&mut checks);
    checks.finish()?;
    let (polar, token) = polar(app).await?;
    let account = store::billing::get(&app.table, caller.billing_account_id).await?;
    if let Some(known) = live(app, &account, |product| product == Product::Seat).await? {
        polar.change_subscription(&token, &known.id, &Change::Seats(wanted)).await?;
        return Ok(Seats::Changed);
    }
    if wanted == 0 {
        return Ok(Seats::Changed);
    }
    if account.effective_plan().price_usd.is_none_or(|price| price == 0) {
        return Err(Error::with_message(Code::PlanRequired, "Seats are sold beside a paid plan."));
    }
    let product = product(app, Product::Seat)?;
    Ok(Seats::ToPay(open(app, caller, polar, &token, (product, Some(wanted)), buyer).await?))
}

/// Sets whether messages may be billed without a plan.
///
/// # Errors
/// `payment_method_required` without a saved card.
pub async fn set_payg(app: &App, caller: &Caller, enabled: bool) -> Result<Draft<Standing>> {
    let Versioned { body: mut account, v } =
        store::billing::get_versioned(&app.table, caller.billing_account_id).await?;
    if enabled && !account.has_payment_method {
        return Err(Error::new(Code::PaymentMethodRequired));
    }
    (account.payg_enabled, account.updated_at) = (enabled, app.now());
    save(app, caller, account, v).await
}

/// Sets the most that messages beyond the included ones may cost in a month.
///
/// # Errors
/// `validation_error`.
pub async fn set_spend_cap(app: &App, caller: &Caller, cap: Option<u32>) -> Result<Draft<Standing>> {
    let mut checks = Checks::new();
    let fits = cap.is_none_or(|cents| cents <= MAX_CAP);
    checks.ensure(fits, "spend_cap_cents", "too_large", &format!("spend_cap_cents may be {MAX_CAP} at most"));
    checks.finish()?;
    let Versioned { body: mut account, v } =
        store::billing::get_versioned(&app.table, caller.billing_account_id).await?;
    (account.spend_cap_cents, account.updated_at) = (cap, app.now());
    save(app, caller, account, v).await
}

async fn save(app: &App, caller: &Caller, account: BillingAccount, v: u64) -> Result<Draft<Standing>> {
    let mut unit = Unit::new();
    store::billing::replace(&mut unit, &account, v)?;
    Ok(Draft::new(unit, standing_as(app, caller, account).await?))
}
