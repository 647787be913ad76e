//! What Polar tells us: its callbacks, each signed. They come late, twice and in any order, so what is in them is never
//! added to what is known: each says how something stands at a moment, and the newest moment counts.

use serde::Deserialize;

use super::{App, Draft};
use crate::domain::BillingAccount;
use crate::domain::billing::{Product, Subscription, SubscriptionStatus};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::ports::secrets::POLAR_WEBHOOK;
use crate::ports::signature::{Signed, verify};
use crate::store;
use crate::table::{Unit, Versioned};

/// Polar among the providers.
const PROVIDER: &str = "polar";

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It counts, or something newer does.
    Taken,
    /// It was here before.
    Known,
    /// It is about nothing of ours.
    Ignored,
}

/// A callback, as far as we read it.
#[derive(Debug, Deserialize)]
struct Callback {
    #[serde(rename = "type")]
    kind: String,
    timestamp: Time,
    data: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct SubscriptionIn {
    id: String,
    status: String,
    product_id: String,
    #[serde(default)]
    current_period_end: Option<Time>,
    #[serde(default)]
    cancel_at_period_end: bool,
    #[serde(default)]
    seats: Option<u32>,
    #[serde(default)]
    customer: Option<CustomerIn>,
}

#[derive(Debug, Clone, Deserialize)]
struct CustomerIn {
    /// Polar's own.
    #[serde(default)]
    id: Option<String>,
    /// Ours.
    #[serde(default)]
    external_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OrderIn {
    #[serde(default)]
    total_amount: i64,
    #[serde(default)]
    customer: Option<CustomerIn>,
}

/// A customer with what is active of theirs.
#[derive(Debug, Deserialize)]
struct StateIn {
    #[serde(flatten)]
    customer: CustomerIn,
    #[serde(default)]
    active_subscriptions: Vec<SubscriptionIn>,
}

/// Takes a callback: checks who signed it, and what it says.
///
/// # Errors
/// `signature.invalid`, `malformed_body`, `not_configured` without the secret; Polar sends it again then.
pub async fn hear(app: &App, signed: &Signed<'_>, body: &[u8]) -> Result<Draft<Heard>> {
    let secret = app.secrets.get(POLAR_WEBHOOK).await?;
    let secret = secret
        .ok_or_else(|| Error::with_message(Code::NotConfigured, "The secret polar_webhook_secret is to be set."))?;
    if !verify(&secret, signed, body, app.now()) {
        return Err(Error::new(Code::SignatureInvalid));
    }
    if store::billing::was_heard(&app.table, PROVIDER, signed.id).await? {
        return Ok(Draft::done(Heard::Known));
    }
    let malformed = |error: serde_json::Error| Error::new(Code::MalformedBody).caused_by(error);
    let callback: Callback = serde_json::from_slice(body).map_err(malformed)?;
    let Some((account, news)) = read(app, callback).map_err(malformed)? else {
        return Ok(Draft::done(Heard::Ignored));
    };
    match apply(app, account, &news).await {
        Ok(mut unit) => {
            store::billing::hear(&mut unit, PROVIDER, signed.id, app.now())?;
            Ok(Draft::new(unit, Heard::Taken))
        }
        // Polar knows customers of ours who are gone, and may serve others beside us.
        Err(error) if error.code() == Code::NotFound => Ok(Draft::done(Heard::Ignored)),
        Err(error) => Err(error),
    }
}

/// What a callback says of an account.
#[derive(Debug)]
struct News {
    at: Time,
    subscriptions: Vec<SubscriptionIn>,
    /// Whether these are all that are active.
    are_all: bool,
    payment_method: Option<bool>,
    /// The customer's id at Polar, where it is told.
    customer: Option<String>,
    /// Whether Polar has the customer no more.
    is_deleted: bool,
}

fn read(app: &App, callback: Callback) -> Result<Option<(Id<BillingAccount>, News)>, serde_json::Error> {
    let Callback { kind, timestamp: at, data } = callback;
    let news =
        News { at, subscriptions: Vec::new(), are_all: false, payment_method: None, customer: None, is_deleted: false };
    let (who, news) = match kind.as_str() {
        kind if kind.starts_with("subscription.") => {
            let told: SubscriptionIn = serde_json::from_value(data)?;
            let (who, customer) = named(told.customer.clone());
            // Whoever pays for something has a card there.
            let pays = ["active", "past_due"].contains(&told.status.as_str()).then_some(true);
            (who, News { subscriptions: vec![told], payment_method: pays, customer, ..news })
        }
        "order.paid" => {
            let order: OrderIn = serde_json::from_value(data)?;
            let pays = (order.total_amount > 0).then_some(true);
            let (who, customer) = named(order.customer);
            (who, News { payment_method: pays, customer, ..news })
        }
        "customer.state_changed" => {
            let state: StateIn = serde_json::from_value(data)?;
            let (who, customer) = named(Some(state.customer));
            (who, News { subscriptions: state.active_subscriptions, are_all: true, customer, ..news })
        }
        "customer.deleted" => {
            let gone: CustomerIn = serde_json::from_value(data)?;
            (gone.external_id, News { are_all: true, payment_method: Some(false), is_deleted: true, ..news })
        }
        _ => return Ok(None),
    };
    let sold = |told: &SubscriptionIn| app.config.polar_products.iter().any(|(_, id)| *id == told.product_id);
    if let Some(unknown) = news.subscriptions.iter().find(|told| !sold(told)) {
        tracing::warn!(product = unknown.product_id, "POLAR_PRODUCTS does not name a product that somebody has");
    }
    Ok(who.and_then(|text| Id::from_text(&text)).map(|account| (account, news)))
}

/// What we call a customer, and what Polar does.
fn named(customer: Option<CustomerIn>) -> (Option<String>, Option<String>) {
    customer.map_or((None, None), |customer| (customer.external_id, customer.id))
}

/// The writes that make the news count.
async fn apply(app: &App, account: Id<BillingAccount>, news: &News) -> Result<Unit> {
    let Versioned { body: mut account, v } = store::billing::get_versioned(&app.table, account).await?;
    let mut known = store::billing::subscriptions(&app.table, account.id).await?;
    let mut unit = Unit::new();
    if news.are_all {
        account.all_told_at = account.all_told_at.max(Some(news.at));
    }
    let id = account.id;
    for told in news.subscriptions.iter().filter_map(|told| subscription(app, id, news.at, told)) {
        match known.iter_mut().find(|one| one.id == told.id) {
            Some(one) if !told.is_newer_than(one) => continue,
            Some(one) => one.clone_from(&told),
            None => known.push(told.clone()),
        }
        store::billing::put_subscription(&mut unit, PROVIDER, &told)?;
    }
    if let Some(saved) = news.payment_method {
        account.note_payment_method(saved, news.at);
    }
    if news.customer.is_some() || news.is_deleted {
        account.note_customer(news.customer.clone(), news.at);
    }
    account.follow(&known, app.now());
    store::billing::replace(&mut unit, &account, v)?;
    Ok(unit)
}

/// A subscription to something that we sell.
fn subscription(app: &App, account: Id<BillingAccount>, at: Time, told: &SubscriptionIn) -> Option<Subscription> {
    let product =
        app.config.polar_products.iter().find(|(_, id)| *id == told.product_id).map(|(product, _)| *product)?;
    Some(Subscription {
        id: told.id.clone(),
        billing_account_id: account,
        product,
        status: status(&told.status),
        seats: if product == Product::Seat { told.seats.unwrap_or(1) } else { 0 },
        period_end: told.current_period_end,
        cancel_at_period_end: told.cancel_at_period_end,
        told_at: at,
    })
}

/// Polar's words. A pause is an end until it is over; `unpaid` is what Polar says when it has given up.
fn status(text: &str) -> SubscriptionStatus {
    match text {
        "trialing" => SubscriptionStatus::Trialing,
        "active" => SubscriptionStatus::Active,
        "past_due" => SubscriptionStatus::PastDue,
        "canceled" | "unpaid" | "paused" => SubscriptionStatus::Canceled,
        // `incomplete` and `incomplete_expired`: it never began.
        _ => SubscriptionStatus::None,
    }
}
