//! The only way to a served router: a surface's groups inside the layers that every request passes.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use lambda_http::RequestExt;
use lambda_http::request::RequestContext;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

use super::errors::{Asked, Dialect, parked};
use super::gate::RATE_HEADERS;
use super::ops::{Group, Surface};
use super::respond::REPLAYED;
use crate::app::App;
use crate::kernel::{Code, Error, Work, work};
use crate::ports::journal::Kind;

/// A second below the gateway's limit, so that the caller gets our answer and not the gateway's.
const TIMEOUT: Duration = Duration::from_secs(28);

/// Where a request comes from, as far as we believe it.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// The id of a request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// A served router of some of a surface's groups.
pub fn surface<'a>(app: &App, surface: &'static Surface, groups: impl IntoIterator<Item = &'a Group>) -> Router {
    let routes = groups.into_iter().fold(Router::new(), |router, group| router.merge((group.router)(app, surface)));
    let layers = tower::ServiceBuilder::new()
        .layer(from_fn_with_state((app.clone(), surface.name), identify))
        .layer(cors())
        .layer(from_fn(revalidate))
        .layer(from_fn_with_state(surface.dialect, speak))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(limit_time));
    routes
        .fallback(async || Error::new(Code::RouteNotFound))
        .method_not_allowed_fallback(async || Error::new(Code::MethodNotAllowed))
        .with_state(app.clone())
        .layer(layers)
}

/// Bearer tokens only and no cookies, so any origin may call: a page can send no more than what its author holds.
fn cors() -> CorsLayer {
    let headers = [AUTHORIZATION, CONTENT_TYPE, ACCEPT, HeaderName::from_static("idempotency-key"), LAST_EVENT_ID];
    let [limit, remaining, reset] = RATE_HEADERS.map(HeaderName::from_static);
    let exposed = [RETRY_AFTER, REPLAYED, REQUEST_ID, limit, remaining, reset];
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(methods)
        .allow_headers(headers)
        .expose_headers(exposed)
        .max_age(Duration::from_secs(600))
}

/// Answers 304 when the caller has what it would get. A CDN that compresses weakens the tag, which is the same to us.
async fn revalidate(request: Request, next: Next) -> Response {
    let had = request.headers().get(IF_NONE_MATCH).cloned();
    let mut response = next.run(request).await;
    let (Some(had), Some(tag)) = (had, response.headers().get(ETAG)) else { return response };
    let had = had.to_str().unwrap_or_default();
    let same = had.split(',').any(|one| one.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes());
    if same && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = axum::body::Body::empty();
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id and its address, and tells the journal of it when it is answered. Its first notes are what
/// stays when no row answers.
async fn identify(State((app, surface)): State<(App, &'static str)>, mut request: Request, next: Next) -> Response {
    let id = app.ids().uuid().to_string();
    let work = Work::new(id.clone());
    work.note("service", surface);
    work.note("operation", "none");
    note_gateway(&work, &request);
    if request.extensions().get::<ClientAddress>().is_none()
        && let Some(address) = address(&app, &request)
    {
        request.extensions_mut().insert(ClientAddress(address));
    }
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = work.run(next.run(request)).await;
    work.note("status", u64::from(response.status().as_u16()));
    app.journal.write(Kind::Request, app.now(), &work);
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The ids that the gateway's and Lambda's own logs know the request by.
fn note_gateway(work: &Work, request: &Request) {
    let gateway_id = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => context.request_id.as_deref(),
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.as_deref(),
        _ => None,
    };
    work.note_id("gateway_request_id", gateway_id);
    if let Some(context) = request.lambda_context_ref() {
        work.note_id("lambda_request_id", Some(&context.request_id));
        work.note_id("trace_id", context.xray_trace_id.as_deref());
    }
}

/// The caller's address: what the CDN says, if it proves to be ours by the origin secret; else what the gateway saw.
fn address(app: &App, request: &Request) -> Option<IpAddr> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let trusted = app.config.origin_secret.as_deref().is_some_and(|secret| {
        let given = header("x-origin-secret").unwrap_or_default();
        crate::kernel::secret::constant_time_eq(given.as_bytes(), secret.as_bytes())
    });
    if trusted && let Some(viewer) = header("cloudfront-viewer-address") {
        // `address:port`, without brackets for IPv6.
        return viewer.rsplit_once(':').and_then(|(address, _)| address.parse().ok());
    }
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => {
            context.identity.source_ip.as_deref().and_then(|ip| ip.parse().ok())
        }
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref().and_then(|ip| ip.parse().ok()),
        _ => None,
    }
}

/// Writes parked errors in the surface's dialect, and logs the ones that are our fault.
async fn speak(State(dialect): State<Dialect>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let asked = Asked {
        path: request.uri().path().to_owned(),
        wants_html: wants_html(request.headers()),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
    };
    let response = next.run(request).await;
    let Some(error) = parked(&response) else { return response };
    work::note("error", error.code().text());
    if error.is_fault() {
        tracing::error!(%method, path = asked.path, request_id = asked.request_id, %error, "request failed");
    } else {
        tracing::debug!(%method, path = asked.path, request_id = asked.request_id, %error, "request refused");
    }
    let mut rendered = (dialect.render)(&error, &asked);
    // How the caller stands with its limit, and which methods there are, holds for refusals too.
    rendered.headers_mut().extend(response.headers().clone());
    if rendered.status() == StatusCode::UNAUTHORIZED {
        rendered.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry_after_seconds() {
        rendered.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    rendered
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::new(Code::Timeout).into_response(),
    }
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into());
    Error::internal(format!("panic: {text}")).into_response()
}
