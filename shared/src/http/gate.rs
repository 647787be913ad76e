//! The gate before every handler: credential, rate, role, scope, plan, and what an `Idempotency-Key` was answered with.
//! It runs before any extractor, so that a broken body of a stranger is a 401 and not a 400. It is driven by the row
//! alone; a new exception is a new column.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
pub use futures_util::future::BoxFuture;

use super::call::{Context, Idempotent, replay};
use super::errors::parked;
use super::extract::MAX_LARGE_JSON;
use super::serve::{ClientAddress, RequestId};
use crate::access::rate::network;
use crate::access::{Caller, Idempotency, Op, PlanGate, RateClass, decide};
use crate::app::App;
use crate::app::rate::Standing;
use crate::kernel::error::Exceeded;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Result, work};
use crate::store;

/// How a surface recognises a caller: `None` when there is no valid credential.
pub type Authenticate = fn(App, HeaderMap) -> BoxFuture<'static, Result<Option<Caller>>>;

/// What the gate of one row knows.
#[derive(Clone)]
pub struct Gate {
    pub(super) app: App,
    pub(super) op: &'static Op,
    pub(super) authenticate: Authenticate,
}

/// Lets a request through to its handler, or says why not.
pub(super) async fn gate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let mut standing = None;
    let mut response = match pass(&gate, request, &mut standing).await {
        Ok(Passed::On(request)) => next.run(*request).await,
        Ok(Passed::Answered(response)) => response,
        Err(error) => error.into_response(),
    };
    // A limit that only the handler could count (by e-mail, by agent) refused: its figures are the ones that matter.
    if let Some(Exceeded { limit, reset }) = parked(&response).and_then(|error| error.limit_exceeded()) {
        standing = Some(Standing { limit, remaining: 0, reset, is_refused: true });
    }
    standing.iter().for_each(|standing| rate_headers(response.headers_mut(), standing));
    response
}

enum Passed {
    On(Box<Request>),
    Answered(Response),
}

/// Leaves in `rated` how the caller stands, also when it refuses the call.
async fn pass(gate: &Gate, request: Request, rated: &mut Option<Standing>) -> Result<Passed> {
    let Gate { app, op, authenticate } = gate;
    work::note("operation", op.id);
    let address =
        request.extensions().get::<ClientAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.0);
    let caller = if op.credentials.is_empty() {
        None
    } else {
        let caller = authenticate(app.clone(), request.headers().clone()).await?;
        if caller.is_none() {
            rate(app, &RateClass::Unrecognised.counted(None, address), rated).await?;
            return Err(Error::new(Code::Unauthenticated));
        }
        caller
    };
    if let Some(caller) = &caller {
        work::note("tenant", caller.workspace_id);
        work::note("caller", caller.credential.as_str());
    }
    rate(app, &op.rate.counted(caller.as_ref(), address), rated).await?;
    let plan = match (op.plan, &caller) {
        (PlanGate::Paid, Some(caller)) => {
            Some(store::billing::get(&app.table, caller.billing_account_id).await?.effective_plan().key)
        }
        (PlanGate::Paid | PlanGate::Any, _) => None,
    };
    decide(op, caller.as_ref(), plan)?;
    let subject = caller.as_ref().map_or_else(|| network(address).to_string(), Caller::actor);
    let (request, idempotent) = idempotent(op, request, &subject).await?;
    if let Some(idempotent) = &idempotent
        && let Some(answer) = replay::<(), 200>(app, idempotent).await?
    {
        return Ok(Passed::Answered(answer.into_response()));
    }
    let (mut parts, body) = request.into_parts();
    let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    parts.extensions.insert(Context { op, caller, address, path, request_id, idempotent });
    Ok(Passed::On(Box::new(Request::from_parts(parts, body))))
}

/// Counts the call; how its caller stands is told also when that refuses it.
async fn rate(app: &App, counted: &[(RateClass, String)], rated: &mut Option<Standing>) -> Result<()> {
    *rated = app.count_each(counted).await?;
    rated.map_or(Ok(()), |standing| standing.passed(app.now()).map(drop))
}

/// Reads the `Idempotency-Key` of a command, with the hash of what is asked.
async fn idempotent(op: &Op, request: Request, subject: &str) -> Result<(Request, Option<Idempotent>)> {
    let given = match op.idempotency {
        Idempotency::Keyed => request.headers().get("idempotency-key").cloned(),
        Idempotency::Safe | Idempotency::Own => None,
    };
    let Some(key) = given else { return Ok((request, None)) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let wrong =
        || Error::field("Idempotency-Key", "invalid", "Idempotency-Key must be 1 to 255 visible ASCII characters");
    let key = store::idempotency::key(subject, key.ok_or_else(wrong)?);
    let (parts, body) = request.into_parts();
    // Which body the row takes, its handler says.
    let too_large = |_| Error::new(Code::PayloadTooLarge);
    let bytes = to_bytes(body, MAX_LARGE_JSON).await.map_err(too_large)?;
    let head = format!("{} {}\n", method(&parts.method), parts.uri);
    let request_hash = sha256_hex([head.as_bytes(), &bytes].concat());
    Ok((Request::from_parts(parts, Body::from(bytes)), Some(Idempotent { key, request_hash })))
}

fn method(method: &Method) -> &str {
    method.as_str()
}

/// How a caller stands: calls in a window, calls left, and when the window ends (unix seconds).
pub(super) const RATE_HEADERS: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

fn rate_headers(headers: &mut HeaderMap, standing: &Standing) {
    let Standing { limit, remaining, reset, .. } = *standing;
    let values = [HeaderValue::from(limit), HeaderValue::from(remaining), HeaderValue::from(reset.seconds())];
    for (name, value) in RATE_HEADERS.into_iter().zip(values) {
        headers.insert(name, value);
    }
}
