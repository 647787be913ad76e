//! Secrets and the few cryptographic pieces built on them: hashes, MACs, sealed fields, a ring of rotating keys.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Error, Result, Rng};

/// A text that must not be logged: `Debug` hides it, and it has no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; each use is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// SHA-256 as lower-case hex: how keys and tokens are stored and looked up.
#[must_use]
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes.as_ref()))
}

/// HMAC-SHA256.
#[must_use]
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Compares without telling by its duration where the difference is.
#[must_use]
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// An encrypted field as it is stored: key id, nonce and ciphertext in one text, `k1.<base64>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

/// Nonce and tag: what is sealed is at least so long, whatever is in it.
const LEAST_SEALED: usize = 28;

impl Sealed {
    /// Whether a text may be something sealed, for whoever hands out what is stored: `<key id>.<base64>` and nothing else.
    #[must_use]
    pub fn is_like(text: &str) -> bool {
        let body = text.split_once('.').and_then(|(_, body)| URL_SAFE_NO_PAD.decode(body).ok());
        body.is_some_and(|body| body.len() >= LEAST_SEALED)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// One key of a ring.
#[derive(Clone)]
struct Key {
    id: String,
    bytes: [u8; 32],
}

/// The keys of one purpose, newest first. The first signs and seals; all of them verify and open, so that a key can
/// be rotated without cutting anybody off.
#[derive(Clone)]
pub struct Keyring(Vec<Key>);

#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: String,
    key: String,
}

impl Keyring {
    /// Reads the stored form: `[{"id": "k1", "key": "<base64 of 32 bytes>"}, …]`, newest first.
    ///
    /// # Errors
    /// `internal_error` when the text is not of that form; the message names no key.
    pub fn parse(json: &str) -> Result<Self> {
        let broken = |why: &str| Error::internal(format!("the root keyring is unreadable: {why}"));
        let stored: Vec<StoredKey> = serde_json::from_str(json).map_err(|_| broken("not a list of {id, key}"))?;
        let keys = stored.into_iter().map(|stored| {
            let bytes = STANDARD.decode(&stored.key).map_err(|_| broken("a key is not base64"))?;
            let bytes = bytes.try_into().map_err(|_| broken("a key is not 32 bytes"))?;
            Ok(Key { id: stored.id, bytes })
        });
        let keys: Vec<Key> = keys.collect::<Result<_>>()?;
        if keys.is_empty() { Err(broken("no key")) } else { Ok(Self(keys)) }
    }

    /// A new ring of one key in its stored form.
    #[must_use]
    pub fn generate(rng: &Rng) -> String {
        serde_json::json!([{"id": "k1", "key": STANDARD.encode(rng.bytes::<32>())}]).to_string()
    }

    /// The ring of another purpose, so that one stored secret serves all of them and none can stand for another.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        let derive = |key: &Key| Key { id: key.id.clone(), bytes: hmac_sha256(&key.bytes, &[purpose.as_bytes()]) };
        Self(self.0.iter().map(derive).collect())
    }

    /// The id and bytes of the key that signs.
    #[must_use]
    pub fn current(&self) -> (&str, &[u8; 32]) {
        (&self.0[0].id, &self.0[0].bytes)
    }

    /// The key with this id, if the ring still holds it.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&[u8; 32]> {
        self.0.iter().find(|key| key.id == id).map(|key| &key.bytes)
    }

    /// Encrypts a field. `aad` names where it belongs (workspace, entity, field): it cannot be moved elsewhere.
    ///
    /// # Errors
    /// `internal_error` when the cipher refuses, which it does only beyond 64 GB.
    pub fn seal(&self, rng: &Rng, aad: &str, plain: &[u8]) -> Result<Sealed> {
        let (id, key) = self.current();
        let nonce = rng.bytes::<12>();
        let cipher = Aes256Gcm::new(&(*key).into());
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: aad.as_bytes() })
            .map_err(|_| Error::internal("sealing failed"))?;
        Ok(Sealed(format!("{id}.{}", URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))))
    }

    /// Decrypts what [`Self::seal`] made with the same `aad`.
    ///
    /// # Errors
    /// `internal_error` when the key is gone, or the field was moved or changed.
    pub fn open(&self, aad: &str, sealed: &Sealed) -> Result<Vec<u8>> {
        let broken = || Error::internal(format!("the sealed field {aad} does not open"));
        let (id, body) = sealed.0.split_once('.').ok_or_else(broken)?;
        let key = self.find(id).ok_or_else(broken)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| broken())?;
        let (nonce, body) = bytes.split_first_chunk::<12>().ok_or_else(broken)?;
        let cipher = Aes256Gcm::new(&(*key).into());
        cipher.decrypt(&Nonce::from(*nonce), Payload { msg: body, aad: aad.as_bytes() }).map_err(|_| broken())
    }

    /// Seals anew under the first key what an older one of the ring sealed; `None` when the first one did.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn renew(&self, rng: &Rng, aad: &str, sealed: &Sealed) -> Result<Option<Sealed>> {
        if sealed.0.split_once('.').is_some_and(|(id, _)| id == self.current().0) {
            return Ok(None);
        }
        self.seal(rng, aad, &self.open(aad, sealed)?).map(Some)
    }

    /// Decrypts a sealed text.
    ///
    /// # Errors
    /// As [`Self::open`], and when the plain bytes are not UTF-8.
    pub fn open_text(&self, aad: &str, sealed: &Sealed) -> Result<Secret> {
        let bytes = self.open(aad, sealed)?;
        String::from_utf8(bytes).map(Secret).map_err(|_| Error::internal(format!("the sealed field {aad} is no text")))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seed: u64) -> Keyring {
        Keyring::parse(&Keyring::generate(&Rng::seeded(seed))).unwrap()
    }

    #[test]
    fn a_sealed_field_opens_only_where_it_belongs() {
        let (keys, rng) = (ring(1), Rng::seeded(2));
        let sealed = keys.seal(&rng, "ws/agent/key", b"sk-123").unwrap();
        assert_eq!(keys.open_text("ws/agent/key", &sealed).unwrap().expose(), "sk-123");
        assert!(keys.open("ws/other/key", &sealed).is_err());
        assert!(ring(3).open("ws/agent/key", &sealed).is_err());
        assert!(Sealed::is_like(&sealed.0) && Sealed::is_like(&keys.seal(&rng, "a", b"").unwrap().0));
        assert!(!Sealed::is_like("We are open.") && !Sealed::is_like("k1.short") && !Sealed::is_like(""));
    }

    #[test]
    fn an_old_key_still_opens_after_a_rotation() {
        let (old, new, rng) = (ring(1).0, ring(2).0, Rng::seeded(3));
        let sealed = Keyring(old.clone()).seal(&rng, "a", b"x").unwrap();
        let rotated = Keyring(vec![Key { id: "k2".into(), bytes: new[0].bytes }, old[0].clone()]);
        assert_eq!(rotated.open("a", &sealed).unwrap(), b"x");
        assert_eq!(rotated.current().0, "k2");
    }

    #[test]
    fn nothing_prints_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
        assert_eq!(format!("{:?}", ring(1)), "[\"k1\"]");
    }

    #[test]
    fn derived_rings_differ_by_purpose() {
        let root = ring(1);
        assert_ne!(root.derive("session").current().1, root.derive("handle").current().1);
    }
}
