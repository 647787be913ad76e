//! Who may call at all. The platform listens on the loopback only, but a browser on this machine runs other people's
//! pages: a page may point its own name at 127.0.0.1 (DNS rebinding), and any page may send requests here.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};

/// Checks the names under which callers reach us.
#[derive(Debug)]
pub struct Guard {
    /// The host of `PUBLIC_BASE_URL`: the operator may lead a name of their own here, such as a tunnel's.
    public_host: Option<String>,
}

/// Why a request is turned away.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// For people.
    pub message: String,
    /// For programs.
    pub code: &'static str,
}

impl Guard {
    /// A guard that knows local names, and the one of the public address.
    #[must_use]
    pub fn new(public_base_url: &str) -> Self {
        let host = public_base_url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
        Self { public_host: host }
    }

    /// Lets a request pass, or says why not.
    ///
    /// # Errors
    /// 421 for a foreign `Host`; 403 for a request with a credential from a page of a foreign origin.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = text(HOST).unwrap_or_default();
        if !host_of(host).is_some_and(|host| self.knows(host)) {
            let message = format!(
                "The local platform answers to localhost, 127.0.0.1 and [::1] only, not to \"{host}\". To reach it under \
                 another name, start it with PUBLIC_BASE_URL set to that address."
            );
            return Err(Refusal { status: StatusCode::MISDIRECTED_REQUEST, message, code: "host_not_local" });
        }
        let Some(origin) = text(ORIGIN).filter(|_| headers.contains_key(AUTHORIZATION)) else { return Ok(()) };
        let host = origin.split_once("://").and_then(|(_, rest)| host_of(rest));
        if host.is_some_and(|host| self.knows(host)) {
            return Ok(());
        }
        let message = format!(
            "A page of \"{origin}\" sent a credential. The local platform takes credentials from pages of this machine only \
             (http://localhost and 127.0.0.1, any port); serve the page locally, or call without a browser."
        );
        Err(Refusal { status: StatusCode::FORBIDDEN, message, code: "origin_not_local" })
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") || self.public_host.as_ref() == Some(&host)
    }
}

/// The host of `host` or `host:port`; `None` for anything else.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':').filter(|_| !authority.ends_with(']')) {
        Some(colon) => (&authority[..colon], &authority[colon + 1..]),
        None => (authority, "0"),
    };
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(host)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn check(headers: &[(HeaderName, &str)]) -> Result<(), u16> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        Guard::new("https://chatia.example.org").check(&headers).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn only_local_names_and_the_public_one_are_hosts() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]", "[::1]:8000", "chatia.example.org"] {
            assert_eq!(check(&[(HOST, host)]), Ok(()), "{host}");
        }
        let foreign = [
            "evil.example",
            "localhost.evil.example:8000",
            "127.0.0.1.nip.io",
            "127.0.0.2",
            "localhost:x",
            "",
            "::1",
            "localhost:8000:8000",
            "0.0.0.0:8000",
        ];
        for host in foreign {
            assert_eq!(check(&[(HOST, host)]), Err(421), "{host}");
        }
        assert_eq!(check(&[]), Err(421));
    }

    #[test]
    fn a_credential_comes_from_a_local_page_or_from_no_page() {
        let with = |origin: &str| check(&[(HOST, "localhost:8000"), (AUTHORIZATION, "Bearer x"), (ORIGIN, origin)]);
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173", "https://chatia.example.org"]
        {
            assert_eq!(with(origin), Ok(()), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "localhost", ""] {
            assert_eq!(with(origin), Err(403), "{origin}");
        }
        assert_eq!(check(&[(HOST, "localhost"), (AUTHORIZATION, "Bearer x")]), Ok(()));
        assert_eq!(check(&[(HOST, "localhost"), (ORIGIN, "https://shop.example")]), Ok(()), "the widget on any site");
    }
}
