//! Signatures of callbacks in the form of Standard Webhooks: `webhook-signature` holds any number of `v1,<base64>`, each an
//! HMAC-SHA256 of `<id>.<timestamp>.<body>`.
//!
//! Polar has endpoints of two kinds: for the older ones the key is the whole secret as it is shown, for the newer ones
//! (and for everybody else) what its base64 behind `whsec_` says. Its own library tries both, and so does this.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::kernel::secret::{constant_time_eq, hmac_sha256};
use crate::kernel::{Secret, Time};

/// How old a callback may be, and how far in the future.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Secrets and signatures come with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a callback says beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// `webhook-id`: the same when it comes again.
    pub id: &'a str,
    /// `webhook-timestamp`, unix seconds.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signatures: &'a str,
}

/// Whether somebody who knows the secret signed this body, just now.
#[must_use]
pub fn verify(secret: &Secret, signed: &Signed<'_>, body: &[u8], now: Time) -> bool {
    let Ok(seconds) = signed.timestamp.parse::<i64>() else { return false };
    if (now.seconds() - seconds).unsigned_abs() > TOLERANCE.as_secs() {
        return false;
    }
    let text = secret.expose().trim();
    let decoded = BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok();
    let keys = [Some(text.as_bytes().to_vec()), decoded.filter(|key| !key.is_empty())];
    let parts = [signed.id.as_bytes(), b".", signed.timestamp.as_bytes(), b".", body];
    let given = signed.signatures.split(' ').filter_map(|one| BASE64.decode(one.strip_prefix("v1,")?).ok());
    let given: Vec<Vec<u8>> = given.take(16).collect();
    keys.into_iter().flatten().any(|key| {
        let expected = hmac_sha256(&key, &parts);
        given.iter().any(|given| constant_time_eq(given, &expected))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_767_225_600_000);
    const BODY: &[u8] = br#"{"type":"order.paid"}"#;
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn sign(key: &[u8], timestamp: &str) -> String {
        format!("v1,{}", BASE64.encode(hmac_sha256(key, &[b"msg_1.", timestamp.as_bytes(), b".", BODY])))
    }

    fn holds(signatures: &str, timestamp: &str, body: &[u8]) -> bool {
        verify(&Secret::new(SECRET), &Signed { id: "msg_1", timestamp, signatures }, body, NOW)
    }

    fn decoded() -> Vec<u8> {
        BASE64.decode(SECRET.trim_start_matches("whsec_")).unwrap()
    }

    #[test]
    fn both_kinds_of_key_sign_among_several_signatures() {
        let at = NOW.seconds().to_string();
        for key in [SECRET.as_bytes().to_vec(), decoded()] {
            assert!(holds(&sign(&key, &at), &at, BODY));
            assert!(holds(&format!("v1a,xyz v1,AAAA {}", sign(&key, &at)), &at, BODY));
        }
        assert!(!holds(&sign(b"another", &at), &at, BODY));
        assert!(!holds("", &at, BODY));
        assert!(!holds(&sign(&decoded(), &at), &at, b"{}"));
    }

    #[test]
    fn what_is_older_or_newer_than_five_minutes_does_not_count() {
        for (seconds, want) in [(0, true), (-300, true), (300, true), (-301, false), (301, false)] {
            let at = (NOW.seconds() + seconds).to_string();
            assert_eq!(holds(&sign(&decoded(), &at), &at, BODY), want, "{seconds}");
        }
        assert!(!holds(&sign(&decoded(), "now"), "now", BODY));
    }
}
