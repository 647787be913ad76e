//! `/hooks/whatsapp`: what Kapso and Meta tell of messages.

use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::whatsapp::hook::{self, Signed};
use shared::domain::whatsapp::Provider;
use shared::http::{Asset, Json, Path, Query, RawBody};
use shared::kernel::{Code, Error, Result};

shared::ops! {
    /// Messages and statuses through Kapso, signed in `X-Webhook-Signature`.
    ///
    /// The number stands in the body; that of the path only tells callbacks apart. What is about numbers of nobody here is
    /// 200, too.
    POST "/hooks/whatsapp/kapso/{number}" => kapso_callback, [] Anyone "" Provider Any Known Unaudited Own also [400 401];
    /// Messages and statuses from Meta, signed in `X-Hub-Signature-256`.
    POST "/hooks/whatsapp/meta/{number}" => meta_callback, [] Anyone "" Provider Any Known Unaudited Own also [400 401];
    /// Meta asks whether the callback is ours, with the verify token of the number's agent.
    GET "/hooks/whatsapp/meta/{number}" => meta_challenge, [] Anyone "" Provider Any Known Unaudited Safe also [403];
}

/// What became of a callback.
#[derive(Debug, Serialize, JsonSchema)]
struct HeardOut {
    /// How many messages and statuses were taken.
    taken: usize,
}

async fn kapso_callback(
    State(app): State<App>,
    Path(_): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<HeardOut>> {
    let (signature, event) = (header(&headers, "x-webhook-signature"), header(&headers, "x-webhook-event"));
    let taken = hook::hear(&app, &Signed { provider: Provider::Kapso, signature, event }, &body).await?;
    Ok(Json(HeardOut { taken }))
}

async fn meta_callback(
    State(app): State<App>,
    Path(_): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<HeardOut>> {
    let signature = header(&headers, "x-hub-signature-256");
    let taken = hook::hear(&app, &Signed { provider: Provider::Meta, signature, event: "" }, &body).await?;
    Ok(Json(HeardOut { taken }))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What Meta asks.
#[derive(Debug, Deserialize, JsonSchema)]
struct Challenge {
    #[serde(rename = "hub.mode", default)]
    mode: String,
    #[serde(rename = "hub.verify_token", default)]
    verify_token: String,
    #[serde(rename = "hub.challenge", default)]
    challenge: String,
}

async fn meta_challenge(
    State(app): State<App>,
    Path(number): Path<String>,
    Query(asked): Query<Challenge>,
) -> Result<Asset> {
    hook::check_word(&app, &number, &asked.mode, &asked.verify_token).await?;
    if asked.challenge.len() > 256 {
        return Err(Error::new(Code::Forbidden));
    }
    Ok(Asset { content_type: "text/plain; charset=utf-8", cache: "no-store", ..Asset::page(asked.challenge) })
}
