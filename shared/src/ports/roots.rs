//! The certificates that a function's clients trust, read once and from one file. Left alone, each client reads the
//! system's store for itself, and where that is a directory, hundreds of files: most of a cold start.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// Where systems keep all of their certificates in one file: Amazon Linux and Fedora, Debian and Alpine, SUSE, others.
const BUNDLES: [&str; 4] = [
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

static KEPT: OnceLock<Roots> = OnceLock::new();

/// Certificates of authorities.
pub struct Roots {
    pem: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Reads a bundle. `None` unless it has certificates and every one of them can be trusted as it is: clients differ
    /// in what they make of the others.
    fn parse(pem: Vec<u8>) -> Option<Self> {
        let certificates = certificates(std::str::from_utf8(&pem).ok()?)?;
        let mut store = RootCertStore::empty();
        let (added, ignored) = store.add_parsable_certificates(certificates.iter().cloned());
        (added > 0 && ignored == 0).then_some(Self { pem, certificates })
    }

    /// The bundle as it was read.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// Its certificates, in DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }
}

/// The certificates of a bundle; `None` when one is broken. The parser of the TLS library takes a millisecond for it.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let (mut found, mut open) = (Vec::new(), None);
    for line in pem.lines().map(str::trim_end) {
        match (line, open.as_mut()) {
            ("-----BEGIN CERTIFICATE-----", None) => open = Some(String::with_capacity(2_048)),
            ("-----END CERTIFICATE-----", Some(text)) => {
                found.push(CertificateDer::from(STANDARD.decode(&*text).ok()?));
                open = None;
            }
            (line, Some(text)) => text.push_str(line),
            (_, None) => {}
        }
    }
    open.is_none().then_some(found)
}

/// Has all clients that this process builds from now on trust the system's bundle, and gives it. `None`, and each client
/// reads the system's store by itself, when there is no such file or something is wrong with it.
pub fn keep() -> Option<&'static Roots> {
    if KEPT.get().is_none() {
        let read = BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).and_then(Roots::parse);
        if let Some(roots) = read {
            // Whoever was first read the same file.
            drop(KEPT.set(roots));
        }
    }
    kept()
}

/// The certificates that [`keep`] read, if it was asked to.
#[must_use]
pub fn kept() -> Option<&'static Roots> {
    KEPT.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of an authority, made for this test: `CN=test`, an elliptic key, until 2126.
    const ROOT: &str = include_str!("roots/test.pem");

    #[test]
    fn a_bundle_is_its_certificates() {
        let roots = Roots::parse(format!("# a comment\n{ROOT}\n{ROOT}").into_bytes()).expect("a bundle");
        let certificates: Vec<_> = roots.certificates().collect();
        assert_eq!(certificates.len(), 2);
        let der: String = ROOT.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(certificates[0], STANDARD.decode(der).unwrap());
        assert!(roots.pem().starts_with(b"# a comment"));
    }

    #[test]
    fn a_bundle_in_which_anything_is_wrong_is_left_to_the_clients() {
        assert!(Roots::parse(Vec::new()).is_none(), "nobody would be trusted");
        let odd = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode("no"));
        assert!(Roots::parse(format!("{ROOT}\n{odd}").into_bytes()).is_none(), "one is no certificate");
        assert!(Roots::parse(b"-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n".to_vec()).is_none());
        assert!(Roots::parse(ROOT.replace("-----END CERTIFICATE-----", "").into_bytes()).is_none(), "it is cut");
    }
}
