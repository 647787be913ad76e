//! One call to a provider over HTTP: send, read the stream, retry what may be retried, and turn failures into errors.
//!
//! The protocols differ only in their body and in how they read events ([`Answer`]). A retry happens only while the
//! caller has seen no token, at most twice. The rule is that of the official SDKs: `x-should-retry` decides if it is
//! there, else 408, 409, 429 and ≥ 500 are retried; the pause is `retry-after-ms`, else `Retry-After`, else half a
//! second doubled each time, less up to a quarter; a provider that asks for more than eight seconds is not asked again. A used-up quota is never retried, whatever the headers say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::sse::{Event, Parser};
use super::{Completion, NoTokens, Probe, Refusal, Request, Route, Tokens, ToolCall, Usage, estimate};
use crate::kernel::{Code, Error, Result, Rng, Secret};
use crate::ports::egress::{self, SendError};

/// The first pause before a retry.
pub(super) const BACKOFF: Duration = Duration::from_millis(500);
/// The longest pause before a retry: a turn has 24 s in all.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
const RETRIES: u32 = 2;
/// The most that one answer may send, framing included.
const STREAM_CAP: usize = 2 * 1024 * 1024;
const ERROR_BODY_CAP: usize = 64 * 1024;
/// Codes of an account that has to pay or raise a limit first.
const SPENT: [&str; 4] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
];
/// Codes in a stream that mean what 429 and ≥ 500 mean before it.
const PASSING: [&str; 8] = [
    "overloaded_error",
    "api_error",
    "rate_limit_error",
    "timeout_error",
    "rate_limit_exceeded",
    "server_error",
    "internal_server_error",
    "service_unavailable",
];

/// What a protocol makes of its events.
pub(super) trait Answer: Send {
    /// Takes one event; true when it was the last.
    ///
    /// # Errors
    /// When the event says that the provider failed, or is unreadable.
    fn take(&mut self, event: &Event, tokens: &dyn Tokens) -> Result<bool, Failure>;

    /// The completion, once the stream is over.
    ///
    /// # Errors
    /// When the stream ended before the answer did.
    fn complete(self) -> Result<Completion, Failure>;
}

/// An error, and whether asking again may help.
#[derive(Debug)]
pub(super) struct Failure {
    error: Error,
    retry: Retry,
    refusal: Option<Refusal>,
    /// The parameter that the provider does not take.
    param: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    /// After the usual pause.
    Usual,
    /// After the pause that the provider asked for.
    After(Duration),
}

impl Failure {
    /// Final.
    pub(super) fn end(cause: impl std::fmt::Display) -> Self {
        Self { error: upstream(cause), retry: Retry::Never, refusal: None, param: None }
    }

    /// Worth another try.
    pub(super) fn passing(cause: impl std::fmt::Display) -> Self {
        Self { error: upstream(cause), retry: Retry::Usual, refusal: None, param: None }
    }

    /// From the `error` object of an event, after HTTP 200.
    pub(super) fn in_stream(error: &Value) -> Self {
        let codes = codes(error);
        let passing = codes.iter().any(|code| {
            PASSING.contains(&code.as_str()) || code.parse().is_ok_and(|status| is_passing(status_of(status)))
        });
        let retry = if passing && !is_spent(&codes) { Retry::Usual } else { Retry::Never };
        let refusal = is_spent(&codes).then_some(Refusal::Spent);
        Self { error: upstream(format_args!("the stream failed: {}", shown(&codes))), retry, refusal, param: None }
    }

    /// From the answer to a request that was refused.
    fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let codes = codes(body.get("error").unwrap_or(&body));
        let asked = match text(headers, "x-should-retry") {
            Some("true") => true,
            Some("false") => false,
            _ => is_passing(status),
        };
        let retry = match (asked && !is_spent(&codes), pause_asked(headers)) {
            (false, _) => Retry::Never,
            (true, Some(pause)) => Retry::After(pause),
            (true, None) => Retry::Usual,
        };
        let request = text(headers, "x-request-id").or_else(|| text(headers, "request-id")).unwrap_or("no request id");
        let cause = format!("status {}: {}, {}", status.as_u16(), shown(&codes), plain(request));
        let refusal = match status.as_u16() {
            _ if is_spent(&codes) => Some(Refusal::Spent),
            401 | 403 => Some(Refusal::Key),
            402 => Some(Refusal::Spent),
            404 => Some(Refusal::Model),
            _ => None,
        };
        let param = body.pointer("/error/param").and_then(Value::as_str).filter(|_| status == StatusCode::BAD_REQUEST);
        Self { error: upstream(cause), retry, refusal, param: param.map(str::to_owned) }
    }

    /// From a request that got no answer, or an answer that broke off.
    fn broken(error: &reqwest::Error, what: &str) -> Self {
        // The guard refuses while it dials, inside the transport.
        if let refused @ SendError::Refused(_) = egress::reason(error) {
            return Self { error: refused.into(), retry: Retry::Never, refusal: Some(Refusal::Model), param: None };
        }
        // A time-out after the connection stood has used up the caller's patience already.
        let passing = error.is_connect() || !(error.is_timeout() || error.is_builder() || error.is_redirect());
        let why = match (error.is_connect(), error.is_timeout()) {
            (true, _) => "no connection",
            (false, true) => "time-out",
            (false, false) => "broken off",
        };
        let cause = format!("{what}: {why}");
        if passing { Self::passing(cause) } else { Self::end(cause) }
    }
}

/// A request, ready to be sent as often as it takes.
#[derive(Debug)]
pub(super) struct Call {
    client: Client,
    url: Url,
    headers: HeaderMap,
    body: Value,
    may_lack: &'static [&'static str],
}

impl Call {
    /// To `path` below the route's base URL; a query of the base URL is kept.
    pub(super) fn new(route: &Route<'_>, path: &[&str], headers: HeaderMap, body: Value) -> Result<Self> {
        let mut url = route.base_url.clone();
        let no_base = || Error::with_message(Code::NotConfigured, "The base URL of the model provider is not usable.");
        url.path_segments_mut().map_err(|()| no_base())?.pop_if_empty().extend(path);
        Ok(Self { client: route.client.clone(), url, headers, body, may_lack: &[] })
    }

    /// Names parameters that not every model takes: when one is refused by name, it is left out and the call goes out
    /// once more.
    pub(super) fn which_may_lack(self, parameters: &'static [&'static str]) -> Self {
        Self { may_lack: parameters, ..self }
    }

    /// Sends it until it is answered, and reads the answer into a fresh [`Answer`] each time.
    pub(super) async fn run<A: Answer>(
        &self,
        fresh: impl Fn() -> A,
        tokens: &dyn Tokens,
        (backoff, rng): (Duration, &Rng),
    ) -> Result<Completion> {
        let watched = Watched { tokens, any: AtomicBool::new(false) };
        let mut tries = 0;
        loop {
            let failure = match self.attempt(&fresh, &watched).await {
                Ok(completion) => return Ok(completion),
                Err(failure) => failure,
            };
            let pause = match failure.retry {
                Retry::Never => return Err(failure.error),
                Retry::Usual => usual_pause(backoff, tries, rng),
                Retry::After(pause) => pause,
            };
            // Whoever wants to be left alone for longer is not asked sooner: another model, or the fallback text, is there.
            if tries == RETRIES || pause > LONGEST_PAUSE || watched.any.load(Ordering::Relaxed) {
                return Err(failure.error);
            }
            tries += 1;
            tracing::info!(cause = failure.error.cause(), tries, "the model provider is asked again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends it once, and says what that tells of the key.
    pub(super) async fn probe<A: Answer>(&self, fresh: impl Fn() -> A) -> Probe {
        match self.attempt(&fresh, &NoTokens).await {
            Ok(_) => Probe::Works,
            Err(Failure { refusal: Some(refusal), .. }) => Probe::Refused(refusal),
            Err(_) => Probe::Unknown,
        }
    }

    async fn attempt<A: Answer>(&self, fresh: &impl Fn() -> A, tokens: &dyn Tokens) -> Result<Completion, Failure> {
        let outcome = self.send(&self.body, fresh(), tokens).await;
        let refused = outcome.as_ref().err().and_then(|failure| failure.param.as_deref());
        let Some(name) = refused.and_then(|param| self.may_lack.iter().find(|name| param.starts_with(**name))) else {
            return outcome;
        };
        let mut body = self.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.shift_remove(*name);
        }
        self.send(&body, fresh(), tokens).await
    }

    async fn send<A: Answer>(&self, body: &Value, mut answer: A, tokens: &dyn Tokens) -> Result<Completion, Failure> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).json(body);
        let mut response = request.send().await.map_err(|error| Failure::broken(&error, "request"))?;
        let status = response.status();
        if !status.is_success() {
            let body = read_capped(&mut response, ERROR_BODY_CAP).await;
            return Err(Failure::refused(status, response.headers(), &body));
        }
        let (mut parser, mut size) = (Parser::default(), 0);
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                // All of the answer may have come before the connection broke.
                Err(error) => return answer.complete().map_err(|_| Failure::broken(&error, "stream")),
            };
            size += chunk.len();
            if size > STREAM_CAP {
                return Err(Failure::end("the answer is larger than 2 MB"));
            }
            for event in parser.push(&chunk) {
                if answer.take(&event, tokens)? {
                    return answer.complete();
                }
            }
        }
        if let Some(event) = parser.finish() {
            answer.take(&event, tokens)?;
        }
        answer.complete()
    }
}

/// Adds a piece of text to an answer and tells it; what is no text, or empty, is none.
pub(super) fn write(content: &mut String, text: &Value, tokens: &dyn Tokens) {
    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
        content.push_str(text);
        tokens.token(text);
    }
}

/// What an answer cost, as the provider says it; estimated where it says nothing.
pub(super) fn counted(request: &Request, told: Option<Usage>, content: &str, calls: &[ToolCall]) -> Usage {
    told.unwrap_or_else(|| {
        tracing::warn!(provider = request.target.provider, "the model sent no usage, it is estimated");
        estimate(request, content, calls)
    })
}

/// A key as a header value that no log shows.
///
/// # Errors
/// `not_configured` when the key has characters that no header can carry.
pub(super) fn key_header(prefix: &str, key: &Secret) -> Result<HeaderValue> {
    let unusable = || Error::with_message(Code::NotConfigured, "The key of the model provider has invalid characters.");
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", key.expose().trim())).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Notes whether any token went out: from then on nothing may be retried.
struct Watched<'a> {
    tokens: &'a dyn Tokens,
    any: AtomicBool,
}

impl Tokens for Watched<'_> {
    fn token(&self, text: &str) {
        self.any.store(true, Ordering::Relaxed);
        self.tokens.token(text);
    }
}

fn upstream(cause: impl std::fmt::Display) -> Error {
    Error::new(Code::UpstreamError).caused_by(format_args!("model provider: {cause}"))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429) || status.is_server_error()
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::BAD_REQUEST)
}

fn is_spent(codes: &[String]) -> bool {
    codes.iter().any(|code| SPENT.contains(&code.as_str()))
}

/// The codes of an error object, the most exact first: Anthropic's `details.error_code`, `code` (a number at some
/// compatible servers), `type`. The message is left out, since providers quote keys and prompts in it.
fn codes(error: &Value) -> Vec<String> {
    [error.pointer("/details/error_code"), error.get("code"), error.get("type")]
        .into_iter()
        .flatten()
        .filter_map(|code| match code {
            Value::String(code) => Some(plain(code)),
            Value::Number(code) => Some(code.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        })
        .collect()
}

fn shown(codes: &[String]) -> &str {
    codes.first().map_or("no error code", String::as_str)
}

/// At most 64 characters such as a code or an id has, so that no provider can put a text of its own into our log.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The pause after so many retries: it doubles, and is up to a quarter shorter, so that turns which met the same failure
/// do not come back together.
fn usual_pause(first: Duration, tries: u32, rng: &Rng) -> Duration {
    first.saturating_mul(1 << tries).mul_f64(1.0 - f64::from(rng.below(251)) / 1_000.0)
}

/// The pause that the provider asks for. A date counts from the answer's own `Date`, so that no clock is needed.
fn pause_asked(headers: &HeaderMap) -> Option<Duration> {
    if let Some(millis) = text(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1000.0).ok();
    }
    let after = text(headers, "retry-after")?;
    if let Ok(seconds) = after.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let (until, now) = (date(after)?, date(text(headers, "date")?)?);
    Some(Duration::from_secs(u64::try_from(until.as_second() - now.as_second()).unwrap_or(0)))
}

/// The beginning of a body; one that breaks off is as good as none.
async fn read_capped(response: &mut Response, cap: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < cap
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn retry(status: u16, pairs: &[(&'static str, &'static str)], body: &str) -> Retry {
        Failure::refused(status_of(status), &headers(pairs), body.as_bytes()).retry
    }

    #[test]
    fn what_passes_is_retried_and_what_does_not_is_not() {
        for status in [408, 409, 429, 500, 503, 529] {
            assert_eq!(retry(status, &[], ""), Retry::Usual, "{status}");
        }
        for status in [400, 401, 402, 403, 404, 413, 422] {
            assert_eq!(retry(status, &[], ""), Retry::Never, "{status}");
        }
        assert_eq!(retry(400, &[("x-should-retry", "true")], ""), Retry::Usual);
        assert_eq!(retry(503, &[("x-should-retry", "false")], ""), Retry::Never);
    }

    #[test]
    fn a_spent_account_is_never_retried() {
        let openai = r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let anthropic = r#"{"type":"error","error":{"type":"rate_limit_error","message":"m",
            "details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        for body in [openai, anthropic] {
            assert_eq!(retry(429, &[("x-should-retry", "true"), ("retry-after", "1")], body), Retry::Never);
        }
    }

    #[test]
    fn usual_pauses_double_and_are_spread() {
        let rng = Rng::seeded(3);
        for tries in 0..RETRIES {
            let whole = BACKOFF * (1 << tries);
            let pauses: Vec<_> = (0..50).map(|_| usual_pause(BACKOFF, tries, &rng)).collect();
            assert!(pauses.iter().all(|pause| (whole.mul_f64(0.749)..=whole).contains(pause)), "{pauses:?}");
            let different: std::collections::HashSet<_> = pauses.iter().collect();
            assert!(different.len() > 25, "{different:?}");
        }
    }

    #[test]
    fn the_pause_is_what_the_provider_asks_for() {
        let seconds = |pairs: &[_]| pause_asked(&headers(pairs)).map(|pause| pause.as_secs_f64());
        assert_eq!(seconds(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(0.25));
        assert_eq!(seconds(&[("retry-after", "2")]), Some(2.0));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(seconds(&[("retry-after", "Wed, 21 Oct 2026 07:28:03 GMT"), date]), Some(3.0));
        assert_eq!(seconds(&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), date]), Some(0.0));
        assert_eq!(seconds(&[("retry-after", "-1")]), None);
        assert_eq!(seconds(&[("retry-after", "soon")]), None);
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn an_error_names_status_code_and_request_but_no_message() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-abc","code":"invalid_api_key <b>"}}"#;
        let failure = Failure::refused(status_of(401), &headers(&[("x-request-id", "req_1")]), body.as_bytes());
        assert_eq!(failure.error.cause(), Some("model provider: status 401: invalid_api_keyb, req_1"));
    }

    #[test]
    fn an_error_in_the_stream_is_judged_by_its_code() {
        let judge = |error| Failure::in_stream(&error).retry;
        assert_eq!(judge(serde_json::json!({"type": "overloaded_error"})), Retry::Usual);
        assert_eq!(judge(serde_json::json!({"code": 502})), Retry::Usual);
        assert_eq!(judge(serde_json::json!({"type": "server_error", "code": "insufficient_quota"})), Retry::Never);
        assert_eq!(judge(serde_json::json!({"type": "invalid_request_error"})), Retry::Never);
        assert_eq!(judge(serde_json::json!("text")), Retry::Never);
    }
}
