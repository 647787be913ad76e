//! Between domain types and items. A domain type is its own record: its serde form is the item's body, to which a
//! row adds keys, entity type, version and expiry. New fields are `#[serde(default)]`, so that old items still read.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_attribute_value, to_item};

use super::{Item, Key};
use crate::kernel::{Error, Result, Time};

/// An item about to be written.
#[derive(Debug, Clone)]
pub struct Row {
    pub(super) key: Key,
    pub(super) item: Item,
}

impl Row {
    /// The body under a key. `et` is the entity type, such as `agent`.
    ///
    /// # Errors
    /// `internal_error` when the body does not serialise to a map.
    pub fn new<T: Serialize>(key: Key, et: &'static str, body: &T) -> Result<Self> {
        let mut item: Item =
            to_item(body).map_err(|error| Error::internal(format!("{et} does not serialise: {error}")))?;
        // A sparse attribute is absent, never NULL: absent is what conditions and indexes understand.
        item.retain(|_, value| !value.is_null());
        item.extend(key.item());
        item.insert("et".into(), AttributeValue::S(et.into()));
        item.insert("v".into(), AttributeValue::N("1".into()));
        Ok(Self { key, item })
    }

    /// The version that this write makes; 1 unless it is said.
    #[must_use]
    pub fn version(mut self, v: u64) -> Self {
        self.item.insert("v".into(), AttributeValue::N(v.to_string()));
        self
    }

    /// Lists the row in the first index. The sort position must be unique in its partition: end it with the id.
    #[must_use]
    pub fn gsi1(self, pk: impl Into<String>, sk: impl Into<String>) -> Self {
        self.index("gsi1pk", pk.into(), "gsi1sk", sk.into())
    }

    /// Lists the row in the second index, under the same rule.
    #[must_use]
    pub fn gsi2(self, pk: impl Into<String>, sk: impl Into<String>) -> Self {
        self.index("gsi2pk", pk.into(), "gsi2sk", sk.into())
    }

    fn index(mut self, pk_name: &str, pk: String, sk_name: &str, sk: String) -> Self {
        self.item.insert(pk_name.into(), AttributeValue::S(pk));
        self.item.insert(sk_name.into(), AttributeValue::S(sk));
        self
    }

    /// When the table may forget the row. Deletion is lazy, so readers check expiry themselves.
    #[must_use]
    pub fn ttl(mut self, at: Time) -> Self {
        self.item.insert("ttl".into(), AttributeValue::N(at.seconds().to_string()));
        self
    }
}

/// A record with the version that it was read at.
#[derive(Debug, Clone)]
pub struct Versioned<T> {
    /// The record.
    pub body: T,
    /// Its version; an optimistic write names it.
    pub v: u64,
}

impl<T> Versioned<T> {
    /// The same version of something else.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Versioned<U> {
        Versioned { body: make(self.body), v: self.v }
    }
}

/// Reads an item's body.
///
/// # Errors
/// `internal_error` when the item is not a `T`; the message names the item by its key, never by its content.
pub fn decode<T: DeserializeOwned>(item: Item) -> Result<T> {
    let key = Key::of(&item);
    from_item(item).map_err(|error| Error::internal(format!("item {key:?} does not read: {error}")))
}

/// Reads an item's body and version.
///
/// # Errors
/// As [`decode`].
pub fn decode_versioned<T: DeserializeOwned>(item: Item) -> Result<Versioned<T>> {
    let v = item.get("v").and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(Versioned { body: decode(item)?, v })
}

/// One value, as conditions and updates name it.
///
/// # Panics
/// Never for the types that records hold: only a map with keys that are no text would fail.
#[must_use]
#[expect(clippy::expect_used, reason = "records hold texts, numbers, lists and maps with text keys only")]
pub fn value<T: Serialize>(value: T) -> AttributeValue {
    to_attribute_value(value).expect("a record value serialises")
}
