//! The only way to call an address that came from a caller or from the database.
//!
//! A customer's URL must never reach what our own network position opens: metadata endpoints, private networks, the
//! loopback. So a call passes two gates. [`Egress::check_url`] looks at the text: https, no user or password, no
//! forbidden address written out, no port of another service. The client's own resolver looks at what is dialled: each address of the name must be
//! public, whatever an earlier look-up said. Redirects are not followed; a caller who wants to go on sends again.
//!
//! `CHATIA_EGRESS_ALLOW` lists networks that may be called although they are not public, also by plain http, for
//! development. A name is judged by all of its addresses: `localhost` usually needs `127.0.0.0/8,::1`.

mod address;
mod client;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, Url};

pub use address::{ALLOW_VARIABLE, Cidr};
pub use client::{managed_client, reason};

use crate::kernel::{Code, Error, Result};
use client::Lookup;

/// The longest URL that may be called, in bytes.
pub const MAX_URL: usize = 2048;

/// What [`Egress`] needs to know.
#[derive(Debug, Clone, Default)]
pub struct EgressConfig {
    /// Networks that may be called although they are not public, from `CHATIA_EGRESS_ALLOW`. Empty in production.
    pub allow: Vec<Cidr>,
    /// What we call ourselves in `User-Agent`.
    pub user_agent: String,
}

/// Calls addresses that we do not trust. The clients are built on first use, since loading TLS roots is slow.
pub struct Egress {
    rules: Rules,
    user_agent: String,
    lookup: Lookup,
    https: OnceLock<reqwest::Client>,
    http: OnceLock<reqwest::Client>,
}

/// A call to make.
pub struct Outbound {
    /// Any method but CONNECT and TRACE.
    pub method: Method,
    /// The address; it passes [`Egress::check_url`] again.
    pub url: String,
    /// Headers to send, besides those that belong to the connection (`host`, `content-length`, …).
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// For all of it: resolve, connect, send, read.
    pub timeout: Duration,
    /// How many bytes of the answer's body are kept.
    pub max_response: usize,
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The status code; 3xx comes as it is.
    pub status: u16,
    /// The headers with lower-case names, in the order of arrival; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The body, or its first [`Outbound::max_response`] bytes.
    pub body: Vec<u8>,
    /// Whether the body was longer.
    pub truncated: bool,
    /// Why the body ended before it was complete, if it did: the time was up, or the connection broke.
    pub cut: Option<SendError>,
}

impl Inbound {
    /// The first header of this lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer. Each text may be shown to the customer: it names no address and nothing of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The rules forbid the call; trying again is pointless until the URL or its DNS changes.
    #[error("refused: {0}")]
    Refused(String),
    /// The name has no address.
    #[error("DNS: {0}")]
    Dns(String),
    /// No TCP or TLS connection.
    #[error("connect: {0}")]
    Connect(String),
    /// The time was up.
    #[error("time-out: no complete answer in time")]
    Timeout,
    /// The connection broke, or a fault of ours.
    #[error("{0}")]
    Io(String),
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Refused(why) => Self::with_message(Code::EgressRefused, why),
            other => Self::with_message(Code::UpstreamError, format!("The call failed: {other}.")),
        }
    }
}

/// The two schemes, which have rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

impl Scheme {
    fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "https" => Some(Self::Https),
            "http" => Some(Self::Http),
            _ => None,
        }
    }

    /// What a customer is told when an address breaks the scheme's rule.
    const fn refusal(self) -> &'static str {
        match self {
            Self::Https => "That host is not on the public Internet. Give a public https address.",
            Self::Http => "Use https. Plain http is only for development networks (CHATIA_EGRESS_ALLOW).",
        }
    }
}

/// Which addresses may be dialled.
#[derive(Clone)]
struct Rules(Arc<[Cidr]>);

impl Rules {
    fn may_dial(&self, scheme: Scheme, address: IpAddr) -> bool {
        let allowed = self.0.iter().any(|network| network.contains(address));
        allowed || (scheme == Scheme::Https && address::is_public(address))
    }
}

impl Egress {
    /// A guard over the operating system's resolver.
    #[must_use]
    pub fn new(config: EgressConfig) -> Self {
        Self::with_lookup(config, client::system_lookup())
    }

    fn with_lookup(config: EgressConfig, lookup: Lookup) -> Self {
        let EgressConfig { allow, user_agent } = config;
        Self { rules: Rules(allow.into()), user_agent, lookup, https: OnceLock::new(), http: OnceLock::new() }
    }

    /// The checks that need no network, for when a URL is stored: length, scheme, no user or password, and the address
    /// where one is written out in any of the forms that browsers take (`127.1`, `0x7f.1`, `[::ffff:7f00:1]`).
    ///
    /// # Errors
    /// `egress.refused` with a message that says what to change.
    pub fn check_url(&self, url: &str) -> Result<Url> {
        let refused = |why: &'static str| Error::with_message(Code::EgressRefused, why);
        if url.len() > MAX_URL {
            return Err(refused("The URL is longer than 2048 characters."));
        }
        let url = Url::parse(url).map_err(|_| refused("That is no URL. Give one like https://example.com/path."))?;
        let scheme = Scheme::of(&url).ok_or_else(|| refused("Only https addresses can be called."))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("Leave user and password out of the URL."));
        }
        // Mail servers, shells and the like: we are no way to look for them. Development networks may have any port.
        if self.rules.0.is_empty() && url.port().is_some_and(|port| port < 1_024 && port != 443) {
            return Err(refused("Use port 443, or one above 1023."));
        }
        let address = match url.host() {
            Some(url::Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(url::Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
            // Whatever its DNS says, so that whoever types it learns at once and not from a failed delivery.
            Some(url::Host::Domain(name)) if is_localhost(name) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(url::Host::Domain(_)) => None,
            None => return Err(refused("The URL has no host.")),
        };
        let possible = match address {
            Some(address) => self.rules.may_dial(scheme, address),
            // What a name leads to is judged when it is dialled, but http with no allowed network cannot succeed.
            None => scheme == Scheme::Https || !self.rules.0.is_empty(),
        };
        if possible { Ok(url) } else { Err(refused(scheme.refusal())) }
    }

    /// The client for calls to `url` that stream, such as to a customer's own model endpoint. `url` must be what
    /// [`Self::check_url`] returned, and each URL called must have its scheme, host and port: an address that is
    /// written out is dialled without asking the resolver, so this client alone would not stop it. The caller caps
    /// time and size.
    ///
    /// # Errors
    /// `internal_error` when TLS cannot be set up.
    pub fn guarded_client(&self, url: &Url) -> Result<reqwest::Client> {
        let scheme = Scheme::of(url).unwrap_or(Scheme::Https);
        let cell = match scheme {
            Scheme::Https => &self.https,
            Scheme::Http => &self.http,
        };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let client = client::guarded(&self.rules, scheme, &self.lookup, &self.user_agent)?;
        Ok(cell.get_or_init(|| client).clone())
    }

    /// Makes a call and reads its answer. No redirect is followed and no status is an error. Once there is a status it
    /// is told, also when the body does not come to its end: see [`Inbound::cut`].
    ///
    /// # Errors
    /// [`SendError`], whose text may be shown to the customer.
    pub async fn send(&self, call: Outbound) -> Result<Inbound, SendError> {
        let (end, max) = (tokio::time::Instant::now() + call.timeout, call.max_response);
        let head = Box::pin(self.head(call));
        let response = tokio::time::timeout_at(end, head).await.unwrap_or(Err(SendError::Timeout))?;
        let status = response.status().as_u16();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let mut inbound = Inbound { status, headers, body: Vec::new(), truncated: false, cut: None };
        let read = tokio::time::timeout_at(end, read(response, max, &mut inbound));
        inbound.cut = read.await.unwrap_or(Err(SendError::Timeout)).err();
        Ok(inbound)
    }

    async fn head(&self, call: Outbound) -> Result<reqwest::Response, SendError> {
        let url = self.check_url(&call.url).map_err(|error| SendError::Refused(error.message().to_owned()))?;
        if matches!(call.method, Method::CONNECT | Method::TRACE) {
            return Err(SendError::Refused(format!("{} cannot be sent.", call.method)));
        }
        let headers = header_map(&call.headers)?;
        let client = self.guarded_client(&url).map_err(|error| {
            tracing::error!(%error, "egress has no client");
            SendError::Io("a fault on our side".into())
        })?;
        let request = client.request(call.method, url).headers(headers).body(call.body);
        request.send().await.map_err(|error| reason(&error))
    }
}

/// Names that mean this machine by RFC 6761, also as `localhost.`.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Headers that belong to the connection. Set by a customer, they could frame the request anew (smuggling), reach
/// another virtual host behind the address, or turn the connection into something else.
const OURS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, SendError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = |what: &str| SendError::Refused(format!("The header \"{}\" {what}.", name.escape_debug()));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("has a name that cannot be sent"))?;
        if OURS.contains(&name.as_str()) {
            return Err(bad("belongs to the connection and cannot be set"));
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad("has a value that cannot be sent"))?;
        map.append(name, value);
    }
    Ok(map)
}

/// Reads the body up to `max` bytes. What is beyond is never read: the connection is closed.
async fn read(mut response: reqwest::Response, max: usize, into: &mut Inbound) -> Result<(), SendError> {
    while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
        let room = max - into.body.len();
        if chunk.len() > room {
            into.body.extend_from_slice(&chunk[..room]);
            into.truncated = true;
            break;
        }
        into.body.extend_from_slice(&chunk);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
