//! `WhatsApp` through Kapso or Meta: what they tell us ([`read`]), and what we ask of them. Both speak Meta's language; they
//! differ in the credential, and in how a callback is wrapped and signed.

mod read;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Value, json};

pub use read::{Told, What, read};

use super::egress::{Egress, Inbound, Method, Outbound, SendError, Url};
use crate::domain::whatsapp::{Peer, Provider, Reason};
use crate::kernel::Secret;
use crate::kernel::secret::{constant_time_eq, hmac_sha256};

/// How long a provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a message waits for another one of the same conversation that is being sent.
const IN_FLIGHT: Duration = Duration::from_secs(2);
/// How long after a provider could not take it.
const SOON: Duration = Duration::from_secs(5);
/// How long after the number sent too much.
const SLOWER: Duration = Duration::from_secs(30);
/// How long after one person was sent too much.
const MINUTES: Duration = Duration::from_secs(60);

/// What Meta answers a number or an app that asks too much.
const SLOW_DOWN: [i64; 4] = [130_429, 80_007, 4, 131_048];
/// What it answers while something of its own does not work.
const DOWN: [i64; 5] = [131_000, 131_016, 131_057, 133_004, 2];

/// Whether somebody who knows the secret signed this body: `<hex>` at Kapso, `sha256=<hex>` at Meta.
#[must_use]
pub fn is_signed(secret: &Secret, signature: &str, body: &[u8]) -> bool {
    let signature = signature.trim().strip_prefix("sha256=").unwrap_or(signature.trim());
    let expected = hmac_sha256(secret.expose().trim().as_bytes(), &[body]);
    let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    constant_time_eq(signature.to_ascii_lowercase().as_bytes(), hex.as_bytes())
}

/// A number, and what is needed to use it.
pub struct Api<'a> {
    /// The way out.
    pub egress: &'a Egress,
    /// Through whom.
    pub provider: Provider,
    /// Where they listen.
    pub base: &'a Url,
    /// What Meta calls the number.
    pub phone_number_id: &'a str,
    /// The key at Kapso, or the token at Meta.
    pub token: Secret,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// A text of one message.
    Text(&'a str),
    /// A template that the provider knows, with the texts of its body.
    Template {
        /// Its name.
        name: &'a str,
        /// Such as `en_US`.
        language: &'a str,
        /// What stands in its places.
        parameters: &'a [String],
    },
}

/// What came of a message that was to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// It was taken, under this id. That is not yet that it arrived.
    Taken(String),
    /// It was not taken, and may be later.
    Later {
        /// How long to wait at least.
        wait: Duration,
        /// Why.
        reason: Reason,
    },
    /// It will never be taken.
    Refused {
        /// Why.
        reason: Reason,
        /// Whether nothing else of this number will be either, until its owner mends something.
        is_about_line: bool,
    },
    /// Nobody knows whether it was taken.
    Unknown(Reason),
}

/// Why a file could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// For people.
    pub why: String,
    /// Whether it may be had a little later.
    pub passes: bool,
}

impl Missed {
    /// For good.
    fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), passes: false }
    }
}

impl From<SendError> for Missed {
    fn from(error: SendError) -> Self {
        Self { why: error.to_string(), passes: !matches!(error, SendError::Refused(_)) }
    }
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its type, as the provider says.
    pub mime: Option<String>,
}

impl Api<'_> {
    /// Sends a message. `tag` comes back with its statuses.
    pub async fn send(&self, to: &Peer, content: Content<'_>, tag: &str) -> Sending {
        let Some(mut body) = addressed(to) else {
            let reason = Reason::new("no_recipient", "Neither a phone number nor a user id of theirs is known.");
            return Sending::Refused { reason, is_about_line: false };
        };
        match content {
            Content::Text(text) => {
                body["type"] = json!("text");
                body["text"] = json!({"body": text, "preview_url": false});
            }
            Content::Template { name, language, parameters } => {
                let texts: Vec<Value> = parameters.iter().map(|text| json!({"type": "text", "text": text})).collect();
                let components =
                    if texts.is_empty() { json!([]) } else { json!([{"type": "body", "parameters": texts}]) };
                body["type"] = json!("template");
                body["template"] = json!({"name": name, "language": {"code": language}, "components": components});
            }
        }
        body["biz_opaque_callback_data"] = json!(tag);
        let call = self.call(Method::POST, &format!("{}/messages", self.phone_number_id), Some(&body));
        sending(self.egress.send(call).await)
    }

    /// Tells them that their message was seen, and that an answer is being written.
    ///
    /// # Errors
    /// When the provider cannot be reached.
    pub async fn see(&self, message: &str) -> Result<(), SendError> {
        let body = json!({"messaging_product": "whatsapp", "status": "read", "message_id": message,
            "typing_indicator": {"type": "text"}});
        let call = self.call(Method::POST, &format!("{}/messages", self.phone_number_id), Some(&body));
        self.egress.send(call).await.map(drop)
    }

    /// Whether the provider lets this credential use the number; `None` when that cannot be told now.
    pub async fn works(&self) -> Option<bool> {
        let answer = self.egress.send(self.call(Method::GET, self.phone_number_id, None)).await.ok()?;
        match (answer.status, self.provider) {
            (200..=299, _) => Some(true),
            (401 | 403, _) | (400 | 404, Provider::Meta) => Some(false),
            _ => None,
        }
    }

    /// Fetches a file of at most so many bytes.
    ///
    /// # Errors
    /// Why it could not be had.
    pub async fn file(&self, id: &str, max: usize) -> Result<Fetched, Missed> {
        // It comes from the body of a callback, and stands in a path here.
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(Missed::for_good("its id is none"));
        }
        let path = match self.provider {
            Provider::Kapso => format!("{id}?phone_number_id={}", self.phone_number_id),
            Provider::Meta => id.to_owned(),
        };
        let answer = self.egress.send(self.call(Method::GET, &path, None)).await?;
        let about: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // Kapso has an address of its own that needs no key. Meta's beside it wants a token that only Kapso has.
        let own = about["download_url"].as_str().filter(|_| self.provider == Provider::Kapso);
        let Some(url) = own.or(about["url"].as_str()).filter(|_| answer.status == 200) else {
            let why = format!("the provider does not say where it is (status {})", answer.status);
            return Err(Missed { why, passes: may_pass(answer.status, &about) });
        };
        if number(&about["file_size"]).is_some_and(|size| size > max as u64) {
            return Err(too_large(max));
        }
        let url = self.egress.check_url(url).map_err(|error| Missed::for_good(error.message()))?;
        let headers = if own.is_none() && self.trusts(&url) { self.credential() } else { Vec::new() };
        let (method, timeout) = (Method::GET, TIMEOUT * 2);
        let call = Outbound { method, url: url.into(), headers, body: Vec::new(), timeout, max_response: max };
        match self.egress.send(call).await? {
            Inbound { truncated: true, .. } => Err(too_large(max)),
            Inbound { status: 200, cut: None, body, .. } => {
                let mime = about["mime_type"].as_str().map(|told| media_type(Some(told.to_owned())));
                Ok(Fetched { bytes: body, mime })
            }
            Inbound { status, cut, .. } => Err(Missed {
                why: format!("it could not be read to its end (status {status})"),
                passes: cut.is_some() || may_pass(status, &Value::Null),
            }),
        }
    }

    /// Whether an address may be shown the credential: the provider's own, and those where Meta keeps files.
    fn trusts(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let metas = ["fbsbx.com", "facebook.com", "whatsapp.net"];
        let is_metas = metas.iter().any(|known| host == *known || host.ends_with(&format!(".{known}")));
        let is_own =
            url.host_str() == self.base.host_str() && url.port_or_known_default() == self.base.port_or_known_default();
        is_own || (self.provider == Provider::Meta && is_metas)
    }

    fn credential(&self) -> Vec<(String, String)> {
        vec![match self.provider {
            Provider::Kapso => ("x-api-key".to_owned(), self.token.expose().to_owned()),
            Provider::Meta => ("authorization".to_owned(), format!("Bearer {}", self.token.expose())),
        }]
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Outbound {
        let mut headers = self.credential();
        headers.push(("content-type".into(), "application/json".into()));
        Outbound {
            method,
            url: format!("{}/{path}", self.base.as_str().trim_end_matches('/')),
            headers,
            body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
            timeout: TIMEOUT,
            max_response: MAX_ANSWER,
        }
    }
}

/// The type of a file as a header can have it: what others call it may be anything.
#[must_use]
pub fn media_type(told: Option<String>) -> String {
    let is_plain = |told: &String| {
        (1..=100).contains(&told.len()) && told.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    };
    told.filter(is_plain).unwrap_or_else(|| "application/octet-stream".to_owned())
}

/// A number, which Kapso writes as a text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn too_large(max: usize) -> Missed {
    Missed::for_good(format!("it has more than {} MB", max / (1024 * 1024)))
}

/// Whether what was answered so may be answered otherwise a little later.
fn may_pass(status: u16, body: &Value) -> bool {
    let code = body["error"]["code"].as_i64();
    matches!(status, 408 | 429 | 500..) || code.is_some_and(|code| SLOW_DOWN.contains(&code) || DOWN.contains(&code))
}

/// A body for somebody: by their phone while it is known, as Meta recommends.
fn addressed(to: &Peer) -> Option<Value> {
    let mut body = json!({"messaging_product": "whatsapp", "recipient_type": "individual"});
    match (&to.phone, &to.user_id) {
        (Some(phone), _) => body["to"] = json!(phone),
        (None, Some(user)) => body["recipient"] = json!(user),
        (None, None) => return None,
    }
    Some(body)
}

/// What an answer means for the message.
fn sending(answer: Result<Inbound, SendError>) -> Sending {
    let answer = match answer {
        Ok(answer) => answer,
        Err(SendError::Refused(why)) => {
            return Sending::Refused { reason: Reason::new("egress_refused", &why), is_about_line: true };
        }
        // Nothing was sent over a connection that never was.
        Err(error @ (SendError::Dns(_) | SendError::Connect(_))) => {
            return Sending::Later { wait: SOON, reason: Reason::new("unreachable", &error.to_string()) };
        }
        Err(error @ (SendError::Timeout | SendError::Io(_))) => return unknown(&error.to_string()),
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if (200..300).contains(&answer.status) {
        return match body["messages"][0]["id"].as_str() {
            Some(id) => Sending::Taken(id.to_owned()),
            None => unknown("the answer does not read"),
        };
    }
    refused(&answer, &body)
}

fn unknown(why: &str) -> Sending {
    let text = format!("The provider's answer was lost ({why}), so the message may have gone out or not.");
    Sending::Unknown(Reason { code: "unknown".into(), text })
}

/// By the code: titles are going away.
fn refused(answer: &Inbound, body: &Value) -> Sending {
    let error = &body["error"];
    let code = error["code"].as_i64();
    let told = [&error["error_data"]["details"], &error["message"], error, &body["message"]];
    let text = told.iter().find_map(|text| text.as_str()).unwrap_or("The provider gave no reason.");
    let reason = Reason {
        code: code.map_or_else(|| format!("http_{}", answer.status), |code| code.to_string()),
        text: crate::domain::text::shorten(text, 300),
    };
    let later = |wait: Duration| Sending::Later { wait, reason: reason.clone() };
    match (code, answer.status) {
        (Some(131_056), _) => later(MINUTES),
        (Some(code), _) if SLOW_DOWN.contains(&code) => later(SLOWER),
        (Some(code), _) if DOWN.contains(&code) => later(SOON),
        (Some(0 | 3 | 10 | 190 | 200..=299), _) | (_, 401 | 403) => Sending::Refused { reason, is_about_line: true },
        (None, 409) => later(IN_FLIGHT),
        (_, 429) => later(retry_after(answer).unwrap_or(SLOWER)),
        (_, 500..) => later(SOON),
        _ => Sending::Refused { reason, is_about_line: false },
    }
}

fn retry_after(answer: &Inbound) -> Option<Duration> {
    let seconds = answer.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MINUTES * 10))
}
