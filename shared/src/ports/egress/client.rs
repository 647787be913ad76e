//! The HTTP clients: how a name becomes an address that may be dialled, and what went wrong when a call failed.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, redirect};

use super::{Rules, Scheme, SendError};
use crate::kernel::{Error, Result};
use crate::ports::roots;

/// How long resolving, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept for the next call. Short, since a frozen function finds its connections dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client for base URLs that come from the configuration, such as a provider's: it may reach any address, but takes
/// no proxy from the environment and follows no redirect. Nothing whose host came from a caller or the database may
/// use it. The caller sets the time-out of each request.
///
/// # Errors
/// `internal_error` when TLS cannot be set up.
pub fn managed_client() -> Result<reqwest::Client> {
    build(base())
}

/// A client that dials only what `rules` allow for `scheme`.
pub(super) fn guarded(rules: &Rules, scheme: Scheme, lookup: &Lookup, user_agent: &str) -> Result<reqwest::Client> {
    let guard = Guard { rules: rules.clone(), scheme, lookup: Arc::clone(lookup) };
    build(base().https_only(scheme == Scheme::Https).user_agent(user_agent).dns_resolver(Arc::new(guard)))
}

#[expect(clippy::disallowed_methods, reason = "the one place that builds HTTP clients")]
fn base() -> reqwest::ClientBuilder {
    // A proxy would dial in our place and a redirect could lead anywhere, so neither is taken.
    reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    let failed = |error: reqwest::Error| Error::internal(format!("no HTTP client: {}", chain(&error)));
    let builder = match roots::kept() {
        Some(roots) => {
            let certificates = roots.certificates().map(Certificate::from_der).collect::<Result<Vec<_>, _>>();
            builder.tls_certs_only(certificates.map_err(failed)?)
        }
        None => builder,
    };
    builder.build().map_err(failed)
}

/// Finds the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The operating system's resolver.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// The resolver of a guarded client. The addresses that it returns are the ones dialled, so a name that changes its
/// mind between a check and the call (DNS rebinding) gains nothing.
struct Guard {
    rules: Rules,
    scheme: Scheme,
    lookup: Lookup,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, scheme, name) = (self.rules.clone(), self.scheme, name.as_str().to_owned());
        let found = (self.lookup)(name.clone());
        Box::pin(async move {
            let found = found.await.unwrap_or_default();
            if found.is_empty() {
                return Err(Dial::NoAddress.into());
            }
            // One bad address condemns the name: whoever mixes public and private ones is up to no good.
            if !found.iter().all(|address| rules.may_dial(scheme, *address)) {
                tracing::warn!(name, "egress refused: the name leads to an address that may not be called");
                return Err(Dial::Forbidden(scheme).into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Why [`Guard`] gives no address.
#[derive(Debug, thiserror::Error)]
enum Dial {
    #[error("no address")]
    NoAddress,
    #[error("forbidden address")]
    Forbidden(Scheme),
}

/// Turns a failed call into a reason that a customer may read: no address, no internals of ours. For callers of
/// [`super::Egress::guarded_client`]; [`super::Egress::send`] has used it already.
#[must_use]
pub fn reason(error: &reqwest::Error) -> SendError {
    match causes(error).find_map(|cause| cause.downcast_ref::<Dial>()) {
        Some(Dial::NoAddress) => return SendError::Dns("the host name has no address".into()),
        Some(Dial::Forbidden(scheme)) => return SendError::Refused(scheme.refusal().into()),
        None => {}
    }
    if error.is_connect() {
        return SendError::Connect(connect_reason(error));
    }
    if error.is_timeout() {
        return SendError::Timeout;
    }
    SendError::Io("the connection broke before the whole answer had come".into())
}

fn connect_reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no connection within {} seconds", CONNECT_TIMEOUT.as_secs());
    }
    for cause in causes(error) {
        // The words of rustls. The first names the fault, such as `Expired` or `NotValidForName`; what follows may
        // quote the certificate, and is left out.
        if let Some(fault) = cause.to_string().strip_prefix("invalid peer certificate: ") {
            let fault: String = fault.chars().take_while(char::is_ascii_alphanumeric).collect();
            return format!("the server's certificate is not valid ({fault})");
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return "the connection was refused".into(),
            Some(io::ErrorKind::InvalidData) => return "the TLS handshake failed".into(),
            _ => {}
        }
    }
    "no connection could be made".into()
}

/// The error and what caused it, outermost first. An `io::Error` that wraps another error gives that error's source as
/// its own, so the wrapped one has to be asked for.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
