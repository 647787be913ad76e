//! Polar's customers: checkouts, the customer portal, changes of a subscription.
//!
//! Facts (Polar API, version 2026-10): a customer is named by our own `external_customer_id`; a checkout makes one that is
//! not there yet, a portal session does not; collection paths end in `/`; a change that has to be paid at once and is not
//! answers 402.

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Polar, reason, unreachable};
use crate::domain::BillingAccount;
use crate::kernel::{Code, Error, Id, Result, Secret, Time};

/// What a checkout is for.
#[derive(Debug, Clone)]
pub struct Checkout<'a> {
    /// Polar's id of the product.
    pub product: &'a str,
    /// Who pays.
    pub account: Id<BillingAccount>,
    /// Prefilled.
    pub email: &'a str,
    /// The buyer's own address, from which country and currency follow.
    pub ip: Option<String>,
    /// The origin of the page that shows it in a frame.
    pub embed_origin: Option<&'a str>,
    /// Where the buyer is sent afterwards; `{CHECKOUT_ID}` in it is filled in.
    pub success_url: &'a str,
    /// How many, for seats.
    pub seats: Option<u32>,
}

/// A checkout that waits for its buyer.
#[derive(Debug, Clone, Deserialize)]
pub struct OpenCheckout {
    /// Polar's id.
    pub id: String,
    /// Where to pay.
    pub url: String,
    /// When it ends by itself.
    pub expires_at: Time,
}

/// A change of a subscription; Polar takes one at a time.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// Another product: a dearer one at once, paid for what is left of the period; a cheaper one with the next period.
    Product {
        /// Polar's id of it.
        id: &'a str,
        /// Whether it counts at once.
        at_once: bool,
    },
    /// End with the period, or not.
    Cancel(bool),
    /// Another number of seats.
    Seats(u32),
}

#[derive(Deserialize)]
struct PortalSession {
    customer_portal_url: String,
}

impl Polar {
    /// Opens a checkout.
    ///
    /// # Errors
    /// `upstream_error` when Polar does not.
    pub async fn open_checkout(&self, token: &Secret, checkout: &Checkout<'_>) -> Result<OpenCheckout> {
        let account = checkout.account.text();
        let mut body = json!({
            "products": [checkout.product],
            "external_customer_id": account,
            "customer_email": checkout.email,
            "success_url": checkout.success_url,
            "allow_discount_codes": true,
            "metadata": {"account": account},
        });
        let optional = [
            ("customer_ip_address", checkout.ip.clone().map(Value::from)),
            ("embed_origin", checkout.embed_origin.map(Value::from)),
            ("seats", checkout.seats.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        self.ask(token, Method::POST, "/v1/checkouts/", &body).await
    }

    /// Opens the customer portal; the address holds for an hour. A customer who is not there yet is made.
    ///
    /// # Errors
    /// `upstream_error` when Polar does not.
    pub async fn open_portal(
        &self,
        token: &Secret,
        account: Id<BillingAccount>,
        email: &str,
        return_url: Option<&str>,
    ) -> Result<String> {
        let mut body = json!({"external_customer_id": account.text()});
        if let Some(return_url) = return_url {
            body["return_url"] = json!(return_url);
        }
        let path = "/v1/customer-sessions/";
        let opened: Result<PortalSession, _> = self.try_asking(token, Method::POST, path, &body).await;
        let opened = match opened {
            // There is no such customer yet. Anything else that is wrong with the request is wrong with the next, too.
            Err((404 | 422, _)) => {
                let customer = json!({"external_id": account.text(), "email": email});
                let _: Value = self.ask(token, Method::POST, "/v1/customers/", &customer).await?;
                self.ask(token, Method::POST, path, &body).await?
            }
            other => other.map_err(|(_, error)| error)?,
        };
        Ok(opened.customer_portal_url)
    }

    /// Changes a subscription.
    ///
    /// # Errors
    /// `payment_failed` when it had to be paid at once and was not, `upstream_error` when Polar does not otherwise.
    pub async fn change_subscription(&self, token: &Secret, id: &str, change: &Change<'_>) -> Result<()> {
        let body = match change {
            Change::Product { id, at_once } => {
                json!({"product_id": id, "proration_behavior": if *at_once { "invoice" } else { "next_period" }})
            }
            Change::Cancel(cancel) => json!({"cancel_at_period_end": cancel}),
            Change::Seats(0) => json!({"revoke": true}),
            Change::Seats(seats) => json!({"seats": seats}),
        };
        let _: Value = self.ask(token, Method::PATCH, &format!("/v1/subscriptions/{id}"), &body).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(&self, token: &Secret, method: Method, path: &str, body: &Value) -> Result<T> {
        self.try_asking(token, method, path, body).await.map_err(|(_, error)| error)
    }

    /// As [`Self::ask`]; an error has Polar's status beside it, or 0 without one.
    async fn try_asking<T: DeserializeOwned>(
        &self,
        token: &Secret,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T, (u16, Error)> {
        let failed = |status: u16, reason: String| (status, Error::new(Code::UpstreamError).caused_by(reason));
        let url = self.base_url.join(path).map_err(|error| (0, Error::internal(error)))?;
        let http = self.http().map_err(|error| (0, error))?;
        let answer = self.call(http.request(method, url).json(body), token).await.map_err(|why| failed(0, why))?;
        match answer.status().as_u16() {
            200..=299 => answer.json().await.map_err(|error| failed(0, unreachable(error))),
            402 => Err((402, Error::new(Code::PaymentFailed).caused_by(reason(402, answer).await))),
            status => Err(failed(status, reason(status, answer).await)),
        }
    }
}
