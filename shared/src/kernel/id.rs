//! Identities.
//!
//! An [`Id<K>`] is 53 bits, 41 of milliseconds since 2025-01-01 and 12 random: a JSON-safe integer at surfaces that
//! document integers ([`Int`]), prefixed Crockford base32 at the others ([`Text`]). It names things in URLs and is
//! never a capability. Two creators may draw the same id, so a create is always conditional and retried with a new id.
//!
//! `Id<K>` serialises for the *table* only. It has no `JsonSchema`, and everything that a handler sends must have one:
//! a wire type that forgets to choose a face does not compile.
//!
//! Events, usage events, deliveries and request ids are UUIDv7 ([`Ids::uuid`]).

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use super::{Clock, Rng, Time};

/// What an id names, and the prefix of its text face.
pub trait Named: 'static {
    /// Such as `agent`, for `agent_01h…`.
    const PREFIX: &'static str;
}

/// 2025-01-01T00:00:00Z in milliseconds.
const EPOCH: i64 = 1_735_689_600_000;
const RANDOM_BITS: u32 = 12;
const MAX: u64 = (1 << 53) - 1;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The identity of a `K`.
pub struct Id<K>(u64, PhantomData<fn() -> K>);

impl<K> Id<K> {
    /// From its integer face; `None` beyond 53 bits.
    #[must_use]
    pub const fn from_int(raw: u64) -> Option<Self> {
        if raw <= MAX { Some(Self(raw, PhantomData)) } else { None }
    }

    /// The integer face.
    #[must_use]
    pub const fn int(self) -> u64 {
        self.0
    }

    /// From the 11 characters of [`Self::key`]; strict: length, alphabet and range.
    #[must_use]
    pub fn from_key(text: &str) -> Option<Self> {
        if text.len() != 11 {
            return None;
        }
        let raw = text.bytes().try_fold(0_u64, |raw, byte| {
            let digit = ALPHABET.iter().position(|known| *known == byte)?;
            Some(raw << 5 | digit as u64)
        })?;
        Self::from_int(raw)
    }

    /// Eleven characters whose order is the order of creation: how keys and records spell the id.
    #[must_use]
    pub fn key(self) -> String {
        (0..11).rev().map(|place| char::from(ALPHABET[(self.0 >> (5 * place)) as usize & 31])).collect()
    }

    /// When it was made, to the millisecond.
    #[must_use]
    pub const fn time(self) -> Time {
        Time::from_millis(EPOCH + (self.0 >> RANDOM_BITS) as i64)
    }
}

impl<K: Named> Id<K> {
    /// The text face, such as `agent_01h…`.
    #[must_use]
    pub fn text(self) -> String {
        format!("{}_{}", K::PREFIX, self.key())
    }

    /// Reads the text face.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        text.strip_prefix(K::PREFIX)?.strip_prefix('_').and_then(Self::from_key)
    }
}

// Derives would ask `K: Clone` and so on, but `K` is only a name.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.key())
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Cow::<str>::deserialize(deserializer)?;
        Self::from_key(&key).ok_or_else(|| D::Error::custom("not an id key"))
    }
}

/// The integer face of an id on the wire.
pub struct Int<K>(pub Id<K>);

/// The prefixed text face of an id on the wire.
pub struct Text<K>(pub Id<K>);

macro_rules! face_basics {
    ($face:ident) => {
        impl<K> Clone for $face<K> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<K> Copy for $face<K> {}
        impl<K> fmt::Debug for $face<K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl<K> From<Id<K>> for $face<K> {
            fn from(id: Id<K>) -> Self {
                Self(id)
            }
        }
    };
}
face_basics!(Int);
face_basics!(Text);

impl<K> Serialize for Int<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.int())
    }
}
impl<'de, K> Deserialize<'de> for Int<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = u64::deserialize(deserializer)?;
        Id::from_int(raw).map(Self).ok_or_else(|| D::Error::custom("not an id"))
    }
}
impl<K> JsonSchema for Int<K> {
    fn schema_name() -> Cow<'static, str> {
        "IntegerId".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX})
    }
}

impl<K: Named> Serialize for Text<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text())
    }
}
impl<'de, K: Named> Deserialize<'de> for Text<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Id::from_text(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("expected an id like {}_01h0000000", K::PREFIX)))
    }
}
impl<K: Named> JsonSchema for Text<K> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}_id", K::PREFIX).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": format!("^{}_[0-9a-hjkmnp-tv-z]{{11}}$", K::PREFIX)})
    }
}

/// Makes ids. Within one process ids rise strictly, so that two messages of one millisecond keep their order.
#[derive(Clone)]
pub struct Ids {
    clock: Arc<dyn Clock>,
    rng: Rng,
    last: Arc<AtomicU64>,
    last_uuid: Arc<AtomicU64>,
}

/// How many bits of a UUIDv7 follow its milliseconds before the random ones begin.
const SEQUENCE_BITS: u32 = 12;

impl Ids {
    /// A generator over a clock and a source of randomness.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self { clock, rng, last: Arc::default(), last_uuid: Arc::default() }
    }

    /// A new identity.
    #[must_use]
    pub fn id<K>(&self) -> Id<K> {
        self.id_after(Id(0, PhantomData))
    }

    /// A new identity that sorts after `earlier`, whatever another machine's clock said when that one was made.
    #[must_use]
    pub fn id_after<K>(&self, earlier: Id<K>) -> Id<K> {
        let millis = u64::try_from(self.clock.now().millis() - EPOCH).unwrap_or(0);
        let drawn = millis << RANDOM_BITS | u64::from(self.rng.below(1 << RANDOM_BITS));
        let next = |last: u64| drawn.max(last + 1).max(earlier.0 + 1).min(MAX);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        Id(next(last.unwrap_or_else(|last| last)), PhantomData)
    }

    /// A new UUIDv7. Within one process they rise strictly, as ids do.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.draw_uuid(0)
    }

    /// A new UUIDv7 of something of a tenant's. No two tenants are ever given the same one, not even by two processes
    /// that were copied with their randomness: the tenant's id is mixed into the random bits, and ids are unique.
    #[must_use]
    pub fn uuid_of<K>(&self, tenant: Id<K>) -> Uuid {
        self.draw_uuid(tenant.0)
    }

    fn draw_uuid(&self, tenant: u64) -> Uuid {
        let millis = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        let next = |last: u64| (millis << SEQUENCE_BITS).max(last + 1);
        let last = self.last_uuid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let moment = next(last.unwrap_or_else(|last| last));
        let sequence = (moment & ((1 << SEQUENCE_BITS) - 1)).to_be_bytes();
        let random = (u64::from_be_bytes(self.rng.bytes()) ^ tenant).to_be_bytes();
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&sequence[6..]);
        bytes[2..].copy_from_slice(&random);
        uuid::Builder::from_unix_timestamp_millis(moment >> SEQUENCE_BITS, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ManualClock;

    struct Thing;
    impl Named for Thing {
        const PREFIX: &'static str = "thing";
    }

    #[test]
    fn the_largest_id_has_both_faces() {
        let id = Id::<Thing>::from_int(MAX).unwrap();
        assert_eq!(serde_json::to_string(&Int(id)).unwrap(), "9007199254740991");
        assert_eq!(serde_json::to_string(&Text(id)).unwrap(), "\"thing_7zzzzzzzzzz\"");
        assert!(Id::<Thing>::from_int(MAX + 1).is_none());
    }

    #[test]
    fn a_malformed_text_is_no_id() {
        for text in
            ["thing_80000000000", "other_00000000000", "thing_0000000000", "thing_0000000000u", "thing_0000000000A"]
        {
            assert!(Id::<Thing>::from_text(text).is_none(), "{text}");
        }
        assert!(Id::<Thing>::from_text("thing_00000000001").is_some());
    }

    #[test]
    fn ids_rise_strictly_while_the_clock_stands() {
        let clock = Arc::new(ManualClock::at(Time::from_millis(EPOCH + 5)));
        let ids = Ids::new(clock, Rng::seeded(1));
        let made: Vec<Id<Thing>> = (0..10_000).map(|_| ids.id()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1] && pair[0].key() < pair[1].key()));
        assert!(ids.id_after(Id::<Thing>::from_int(1 << 50).unwrap()).int() > 1 << 50);
    }

    #[test]
    fn uuids_rise_strictly_and_no_two_tenants_share_one() {
        let ids = || Ids::new(Arc::new(ManualClock::at(Time::from_millis(EPOCH + 5))), Rng::seeded(1));
        let (one, two) = (Id::<Thing>::from_int(1).unwrap(), Id::<Thing>::from_int(2).unwrap());
        let (a, b) = (ids(), ids());
        let ours: Vec<Uuid> = (0..10_000).map(|_| a.uuid_of(one)).collect();
        let theirs: Vec<Uuid> = (0..10_000).map(|_| b.uuid_of(two)).collect();
        assert!(ours.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| ours != theirs && ours.get_version_num() == 7));
        assert_eq!(ours[0].get_timestamp().unwrap().to_unix().0, u64::try_from(EPOCH / 1000).unwrap());
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let ids = Ids::new(Arc::new(ManualClock::at(Time::from_millis(EPOCH + 86_400_000))), Rng::seeded(1));
        assert_eq!(ids.id::<Thing>().time().to_string(), "2025-01-02T00:00:00.000Z");
    }
}
