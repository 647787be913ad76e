//! One call to a receiver: signed, sent, and what came of it in words for its owner.

use jiff::fmt::rfc2822;
use uuid::Uuid;

use crate::app::App;
use crate::domain::Webhook;
use crate::domain::webhook::Attempt;
use crate::kernel::secret::hmac_sha256;
use crate::kernel::{Error, Result, Secret, Time};
use crate::ports::egress::{Inbound, Method, Outbound, SendError};

/// How much of an answer is read.
const MAX_ANSWER: usize = 16 * 1024;
/// How much of an answer is kept.
const KEPT_ANSWER: usize = 2_048;
/// The longest wait that a receiver may ask for.
const LONGEST_WAIT: u64 = 24 * 3_600;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The event's id: `webhook-id`.
    pub event_id: Uuid,
    /// The event's name in the endpoint's dialect.
    pub event: &'a str,
    /// The number of the attempt.
    pub attempt: u32,
    /// The body.
    pub payload: &'a str,
}

/// How one attempt went.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// What is recorded.
    pub attempt: Attempt,
    /// Seconds that the receiver asked us to wait (429 and 503 only).
    pub retry_after: Option<u64>,
}

impl Attempted {
    /// Whether the receiver took it: 2xx only.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.attempt.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the receiver says that it wants nothing any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.attempt.status == Some(410)
    }
}

/// Signs and sends a payload once.
///
/// # Errors
/// When the endpoint's secret does not open.
pub async fn send(app: &App, webhook: &Webhook, parcel: Parcel<'_>) -> Result<Attempted> {
    let at = app.now();
    let call = Outbound {
        method: Method::POST,
        url: webhook.url.clone(),
        headers: headers(&secrets(app, webhook, at).await?, parcel, at)?,
        body: parcel.payload.as_bytes().to_vec(),
        timeout: app.config.webhook_timeout,
        max_response: MAX_ANSWER,
    };
    let answer = app.egress.send(call).await;
    let now = app.now();
    let ms = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
    Ok(attempted(parcel.attempt, (at, now), ms, answer))
}

/// The secrets that sign: the present one, and those before it that still do, the newest first.
async fn secrets(app: &App, webhook: &Webhook, now: Time) -> Result<(Secret, Vec<Secret>)> {
    let (keys, place) = (app.keys().await?, Webhook::secret_place(webhook.workspace_id, webhook.id));
    let ring = &keys.seal;
    let previous = webhook.previous_secrets.iter().filter(|previous| previous.signs(now));
    let previous = previous.map(|previous| ring.open_text(&place, &previous.secret)).collect::<Result<_>>()?;
    Ok((ring.open_text(&place, &webhook.secret)?, previous))
}

/// Studio's headers, and the Standard Webhooks ones beside them so that off-the-shelf libraries verify too.
///
/// Studio signs `timestamp + "." + body` with the UTF-8 bytes of the whole secret as shown and writes bare hex; Standard
/// Webhooks signs `id.timestamp.body` with the decoded part behind `whsec_`. While several secrets count, studio's header
/// is of the newest one with those of the older ones beside it, and the Standard Webhooks header lists all of them.
fn headers((secret, previous): &(Secret, Vec<Secret>), parcel: Parcel<'_>, at: Time) -> Result<Vec<(String, String)>> {
    let (id, seconds) = (parcel.event_id.to_string(), at.seconds().to_string());
    let studio = |secret: &Secret| {
        let parts = [seconds.as_bytes(), b".", parcel.payload.as_bytes()];
        hex::encode(hmac_sha256(secret.expose().as_bytes(), &parts))
    };
    let standard = |secret: &Secret| {
        standardwebhooks::Webhook::new(secret.expose())
            .and_then(|webhook| webhook.sign(&id, at.seconds(), parcel.payload.as_bytes()))
            .map_err(|error| Error::internal(format!("signing a webhook: {error}")))
    };
    let signatures = std::iter::once(secret).chain(previous).map(standard).collect::<Result<Vec<_>>>()?.join(" ");
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("user-agent", "Chatia-Webhooks/1.0".to_owned()),
        ("x-chatia-signature", studio(secret)),
        ("x-chatia-timestamp", seconds.clone()),
        ("x-chatia-event", parcel.event.to_owned()),
        ("x-chatia-event-id", id.clone()),
        ("x-chatia-attempt", parcel.attempt.to_string()),
        ("webhook-id", id.clone()),
        ("webhook-timestamp", seconds.clone()),
        ("webhook-signature", signatures),
    ];
    let older = previous.iter().map(studio).collect::<Vec<_>>().join(" ");
    let previous = (!older.is_empty()).then_some(("x-chatia-signature-previous", older));
    Ok(headers.into_iter().chain(previous).map(|(name, value)| (name.to_owned(), value)).collect())
}

fn attempted(number: u32, (at, now): (Time, Time), ms: u64, answer: Result<Inbound, SendError>) -> Attempted {
    let attempt = Attempt { number, at, status: None, ms, error: None, body: None };
    match answer {
        Ok(answer) => {
            let status = answer.status;
            let asked = answer.header("retry-after").filter(|_| matches!(status, 429 | 503));
            let retry_after = asked.and_then(|value| wait_of(value.trim(), now)).map(|wait| wait.min(LONGEST_WAIT));
            let body = beginning(&answer.body);
            let error = (!(200..300).contains(&status)).then(|| match status {
                300..=399 => format!("the receiver redirects ({status}); redirects are not followed"),
                _ => format!("the receiver answered {status}"),
            });
            let body = (!body.is_empty()).then_some(body);
            Attempted { attempt: Attempt { status: Some(status), error, body, ..attempt }, retry_after }
        }
        Err(error) => Attempted { attempt: Attempt { error: Some(error.to_string()), ..attempt }, retry_after: None },
    }
}

/// The first 2 KB, as text: also when bytes that are none grow by being replaced.
fn beginning(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(KEPT_ANSWER)]).into_owned();
    text.truncate(text.floor_char_boundary(KEPT_ANSWER));
    text
}

/// A `Retry-After` in seconds: it may be a number of them, or a date.
fn wait_of(value: &str, now: Time) -> Option<u64> {
    value.parse().ok().or_else(|| {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        u64::try_from(date.as_second() - now.seconds()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "whsec_HxseHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=";
    const PARCEL: Parcel<'_> = Parcel { event_id: Uuid::nil(), event: "agent.created", attempt: 3, payload: "{}" };
    const AT: Time = Time::from_millis(1_767_225_600_000);

    fn signed(secrets: (&str, &[&str])) -> impl Fn(&str) -> Option<String> {
        let secrets = (Secret::new(secrets.0), secrets.1.iter().copied().map(Secret::new).collect());
        let headers = headers(&secrets, PARCEL, AT).unwrap();
        move |name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_signature_is_the_documented_formula_over_the_secret_as_shown() {
        let get = signed((OLD, &[]));
        // Made independently: printf '1767225600.{}' | openssl dgst -sha256 -hmac "$secret"
        assert_eq!(get("x-chatia-timestamp").unwrap(), "1767225600");
        assert_eq!(get("x-chatia-signature").unwrap(), OPENSSL);
        assert_eq!(get("x-chatia-signature-previous"), None);
        assert!(get("webhook-signature").unwrap().starts_with("v1,"));
        assert_eq!(get("webhook-id"), get("x-chatia-event-id"));
        assert_eq!(get("x-chatia-attempt").unwrap(), "3");
    }

    #[test]
    fn while_several_secrets_count_all_sign() {
        let (both, old, new) = (signed((NEW, &[OLD])), signed((OLD, &[])), signed((NEW, &[])));
        assert_eq!(both("x-chatia-signature"), new("x-chatia-signature"));
        assert_eq!(both("x-chatia-signature-previous").unwrap(), OPENSSL);
        let standard = |get: &dyn Fn(&str) -> Option<String>| get("webhook-signature").unwrap();
        assert_eq!(standard(&both), format!("{} {}", standard(&new), standard(&old)));
        let three = signed((NEW, &[OLD, NEW]));
        assert_eq!(three("x-chatia-signature-previous").unwrap().split(' ').count(), 2);
        assert_eq!(standard(&three).split(' ').count(), 3);
    }

    #[test]
    fn what_is_kept_of_an_answer_is_two_kilobytes_at_most() {
        assert_eq!(beginning(&[b'a'; 5_000]).len(), KEPT_ANSWER);
        assert!(beginning(&[0xff; 5_000]).len() <= KEPT_ANSWER);
        assert_eq!(beginning("é".as_bytes()), "é");
    }

    #[test]
    fn a_wish_to_wait_is_seconds_or_a_date() {
        assert_eq!(wait_of("120", AT), Some(120));
        assert_eq!(wait_of("Thu, 01 Jan 2026 00:02:00 GMT", AT), Some(120));
        assert_eq!(wait_of("Wed, 31 Dec 2025 00:02:00 GMT", AT), None, "that time is over");
        assert_eq!(wait_of("soon", AT), None);
    }

    const OPENSSL: &str = "2ec19562065c6cdf8d0a3d6f355da2a2d26536926729ad1f7e5deac5b0e85675";
}
