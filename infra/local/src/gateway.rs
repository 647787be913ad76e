//! The gateway: does what API Gateway's HTTP API and Lambda do between a caller and a function. It chooses the route,
//! hands over decoded paths, holds production's limits, and says clearly when a request gets no further than here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shared::http::serve::ClientAddress;
use shared::ports::egress::Url;
use shared::ports::objects::{ADDRESSES, Objects};
use tower::ServiceExt as _;

use crate::first::First;
use crate::guard::Guard;
use crate::routes::Routes;

/// The largest request that an HTTP API takes.
const MAX_REQUEST: usize = 10 * 1024 * 1024;
/// The largest event or answer that Lambda carries, after base64.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024;
/// How long a caller waits for a function in production.
pub const TIMEOUT: Duration = Duration::from_secs(29);

/// A function behind a route.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its binary, for the log.
    pub binary: String,
    /// Its router.
    pub router: Router,
    /// Whether its answer is handed on piece by piece.
    pub streams: bool,
}

/// Everything between a caller and the functions.
pub struct Gateway {
    /// Who may call.
    pub guard: Guard,
    /// The routes of the template.
    pub routes: Routes<Function>,
    /// The pages of the local platform itself.
    pub first: First,
    /// How long a caller waits for a function.
    pub timeout: Duration,
    /// What stands in for S3, with its addresses.
    pub objects: Objects,
}

impl Gateway {
    /// The gateway as a service for one listener.
    pub fn into_router(self) -> Router {
        Router::new().fallback(serve).with_state(Arc::new(self))
    }

    async fn handle(&self, peer: SocketAddr, request: Request) -> Response {
        if let Err(refusal) = self.guard.check(request.headers()) {
            return told(refusal.status, refusal.code, &refusal.message);
        }
        if matches!(*request.method(), Method::GET | Method::HEAD)
            && let Some(page) = self.first.page(request.uri().path())
        {
            return page;
        }
        if *request.method() == Method::GET && request.uri().path() == ADDRESSES {
            return self.object(request.uri().query().unwrap_or_default()).await;
        }
        let Some(path) = decoded(request.uri().path()) else {
            return told(StatusCode::BAD_REQUEST, "malformed_path", "The path does not decode to UTF-8.");
        };
        let Some((function, route)) = self.routes.find(request.method().as_str(), &path) else {
            return self.no_route(request.headers(), request.method(), &path);
        };
        let (mut parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, MAX_REQUEST).await else {
            return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        };
        if payload(&parts.headers, &body) > MAX_PAYLOAD {
            return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long");
        }
        let Some(uri) = function_uri(&path, parts.uri.query()) else {
            return told(StatusCode::BAD_REQUEST, "malformed_path", "The path cannot be handed to a function.");
        };
        tracing::debug!(method = %parts.method, path, route, function = function.binary, "request");
        parts.uri = uri;
        parts.extensions.insert(ClientAddress(peer.ip()));
        invoke(function, self.timeout, Request::from_parts(parts, Body::from(body))).await
    }

    /// Answers at an address of an object, as S3 does: no function stands between, and so no limit of one.
    async fn object(&self, query: &str) -> Response {
        match self.objects.at(query).await {
            Ok(Some((bytes, disposition))) => {
                let headers = [
                    (CONTENT_TYPE, "application/octet-stream".to_owned()),
                    (CONTENT_DISPOSITION, disposition),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
                    (CACHE_CONTROL, "private, no-store".to_owned()),
                    (ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
                ];
                (headers, bytes).into_response()
            }
            Ok(None) => told(StatusCode::FORBIDDEN, "address_expired", "This address of a file holds no more."),
            Err(error) => {
                tracing::error!(%error, "an object was not read");
                message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
            }
        }
    }

    /// A path that the template lacks does not exist in production either, and that should be found out here.
    fn no_route(&self, headers: &HeaderMap, method: &Method, path: &str) -> Response {
        let wants_html = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        if wants_html.is_some_and(|accept| accept.contains("text/html")) {
            return (StatusCode::NOT_FOUND, self.first.not_found(path)).into_response();
        }
        let detail = format!(
            "No route of template.yaml takes {method} {path}, so the gateway has nowhere to send it. The API is described \
             at /docs; a new path needs an event of its function in template.yaml."
        );
        told(StatusCode::NOT_FOUND, "route_not_found", &detail)
    }
}

async fn serve(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (method, path, started) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let response = gateway.handle(peer, request).await;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%method, path, status = response.status().as_u16(), ms, "answered");
    response
}

/// Calls a function and takes its whole answer, within the limits; that of one that streams is handed on as it comes.
async fn invoke(function: &Function, timeout: Duration, request: Request) -> Response {
    if function.streams {
        let Ok(response) = function.router.clone().oneshot(request).await;
        return response;
    }
    let answer = async {
        let Ok(response) = function.router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        (parts, to_bytes(body, MAX_PAYLOAD).await)
    };
    let Ok((parts, body)) = tokio::time::timeout(timeout, answer).await else {
        tracing::warn!(function = function.binary, "the function took longer than a caller waits");
        return message(StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out");
    };
    match body {
        Ok(body) if payload(&parts.headers, &body) <= MAX_PAYLOAD => Response::from_parts(parts, Body::from(body)),
        _ => {
            tracing::error!(function = function.binary, "the function's answer is larger than Lambda carries (6 MB)");
            message(StatusCode::BAD_GATEWAY, "Internal Server Error")
        }
    }
}

/// How large a body is inside an event: a JSON text, or base64 when it is no text.
fn payload(headers: &HeaderMap, body: &Bytes) -> usize {
    let is_text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_none_or(is_text);
    let text = if is_text && !headers.contains_key(CONTENT_ENCODING) { str::from_utf8(body).ok() } else { None };
    let in_json = text.and_then(|text| serde_json::to_string(text).ok());
    in_json.map_or_else(|| body.len().div_ceil(3) * 4, |text| text.len())
}

fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let texts = ["application/json", "application/javascript", "application/xml", "application/x-www-form-urlencoded"];
    essence.starts_with("text/") || texts.contains(&essence.as_str()) || essence.ends_with("+json")
}

/// The path as an HTTP API hands it to a function: decoded once, so that `%2F` is a `/`. `None` when it is no UTF-8.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = if *first == b'%' { tail.split_at_checked(2) } else { None };
        let escaped = digits.and_then(|(digits, tail)| Some((hex(digits)?, tail)));
        let (byte, next) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8(bytes).ok()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.iter().try_fold(0, |byte, digit| Some(byte << 4 | value(digit)?))
}

/// The URI that a function sees: `lambda_http` makes it of the decoded path with this parser, which encodes again only
/// what a URI cannot hold. A decoded `?` begins the query there, and so it does here.
fn function_uri(path: &str, query: Option<&str>) -> Option<Uri> {
    let url = Url::parse(&format!("http://localhost{path}")).ok()?;
    let text = url.as_str().strip_prefix("http://localhost")?.to_owned();
    let text = match query.filter(|query| !query.is_empty()) {
        Some(query) => format!("{text}?{query}"),
        None => text,
    };
    text.parse().ok()
}

/// An answer in API Gateway's own words.
fn message(status: StatusCode, text: &str) -> Response {
    (status, axum::Json(json!({"message": text}))).into_response()
}

/// An answer of the local platform, which says what to do. Any page may read it: it holds nothing of anybody.
fn told(status: StatusCode, code: &str, detail: &str) -> Response {
    let mut response = (status, axum::Json(json!({"detail": detail, "code": code}))).into_response();
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

#[cfg(test)]
mod tests {
    use axum::http::header::HOST;
    use shared::kernel::{Rng, SystemClock};

    use super::*;

    fn gateway(router: Router) -> Router {
        gateway_with(router, TIMEOUT)
    }

    fn gateway_with(router: Router, timeout: Duration) -> Router {
        gateway_of(router, timeout, Objects::none())
    }

    fn gateway_of(router: Router, timeout: Duration, objects: Objects) -> Router {
        let function = Function { binary: "echo".into(), router, streams: false };
        let routes = Routes::new([(None, "/echo/{proxy+}".to_owned(), function)]);
        let gateway = Gateway { guard: Guard::new(""), routes, first: First::bare(), timeout, objects };
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5000)));
        gateway.into_router().layer(axum::Extension(peer))
    }

    /// Answers with what it saw.
    fn echo() -> Router {
        Router::new().fallback(async |request: Request| {
            let address = request.extensions().get::<ClientAddress>().map(|address| address.0.to_string());
            format!("{} {}", request.uri(), address.unwrap_or_default())
        })
    }

    async fn call(router: Router, path: &str, body: Vec<u8>) -> (u16, String) {
        let request = Request::post(path).header(HOST, "localhost:8000").body(Body::from(body)).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn a_function_sees_the_decoded_path_and_the_peer() {
        let table = [
            ("/echo/plain?a=%2F&b", "/echo/plain?a=%2F&b 127.0.0.1"),
            ("/echo/%40anychat%2Ftool.x", "/echo/@anychat/tool.x 127.0.0.1"),
            ("/echo/caf%C3%A9%20au", "/echo/caf%C3%A9%20au 127.0.0.1"),
            ("/echo/100%25", "/echo/100% 127.0.0.1"),
            ("/echo/50%zz%4", "/echo/50%zz%4 127.0.0.1"),
            ("/echo/a%3Fb?c=d", "/echo/a?b?c=d 127.0.0.1"),
            ("/%65cho/x", "/echo/x 127.0.0.1"),
        ];
        for (path, expected) in table {
            assert_eq!(call(gateway(echo()), path, Vec::new()).await, (200, expected.to_owned()), "{path}");
        }
        assert_eq!(call(gateway(echo()), "/echo/%FF", Vec::new()).await.0, 400);
    }

    #[tokio::test]
    async fn what_the_template_lacks_is_not_there_and_says_so() {
        let (status, body) = call(gateway(echo()), "/echo", Vec::new()).await;
        assert_eq!(status, 404);
        assert!(body.contains("POST /echo") && body.contains("/docs") && body.contains("route_not_found"), "{body}");
    }

    #[tokio::test]
    async fn a_foreign_host_gets_no_further() {
        let request = Request::get("/echo/x").header(HOST, "evil.example").body(Body::empty()).unwrap();
        let response = gateway(echo()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 421);
    }

    #[tokio::test]
    async fn an_address_of_an_object_is_answered_whatever_a_function_could_carry() {
        let objects = Objects::memory().with_addresses(&Rng::seeded(1), Arc::new(SystemClock));
        objects.put("ws/film", vec![b'x'; 2 * MAX_PAYLOAD], "video/mp4").await.unwrap();
        let address = objects.address("ws/film", "attachment", TIMEOUT).await.unwrap().unwrap();
        let get = async |address: &str| {
            let request = Request::get(address).header(HOST, "localhost:8000").body(Body::empty()).unwrap();
            gateway_of(echo(), TIMEOUT, objects.clone()).oneshot(request).await.unwrap()
        };
        let answer = get(&address).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[CONTENT_DISPOSITION]),
            (200, &"attachment".parse().unwrap())
        );
        assert_eq!(to_bytes(answer.into_body(), usize::MAX).await.unwrap().len(), 2 * MAX_PAYLOAD);
        for other in [address.replace("film", "tape"), ADDRESSES.to_owned()] {
            assert_eq!(get(&other).await.status(), 403);
        }
    }

    #[tokio::test]
    async fn sizes_are_those_of_production() {
        let sized = |length: usize, kind: &'static str| {
            Router::new().fallback(async move || ([(CONTENT_TYPE, kind)], vec![b'x'; length]))
        };
        let five = 5 * 1024 * 1024;
        assert_eq!(call(gateway(sized(five, "text/plain")), "/echo/x", Vec::new()).await.0, 200);
        assert_eq!(
            call(gateway(sized(five, "image/png")), "/echo/x", Vec::new()).await.0,
            502,
            "base64 makes it 6.7 MB"
        );
        assert_eq!(call(gateway(sized(MAX_PAYLOAD + 1, "text/plain")), "/echo/x", Vec::new()).await.0, 502);
        let (status, body) = call(gateway(echo()), "/echo/x", vec![b'x'; MAX_REQUEST + 1]).await;
        assert_eq!((status, body.as_str()), (413, r#"{"message":"Request Entity Too Large"}"#));
        assert_eq!(call(gateway(echo()), "/echo/x", vec![b'x'; MAX_PAYLOAD + 1]).await.0, 413);
        assert_eq!(call(gateway(echo()), "/echo/x", vec![b'x'; five]).await.0, 200);
        assert_eq!(call(gateway(echo()), "/echo/x", vec![b'"'; five]).await.0, 413, "each is two bytes in an event");
    }

    #[tokio::test]
    async fn a_function_that_takes_too_long_is_given_up() {
        assert_eq!(TIMEOUT, Duration::from_secs(29));
        let slow = Router::new().fallback(async || std::future::pending::<()>().await);
        let (status, body) = call(gateway_with(slow, Duration::ZERO), "/echo/x", Vec::new()).await;
        assert_eq!((status, body.as_str()), (504, r#"{"message":"Endpoint request timed out"}"#));
    }
}
