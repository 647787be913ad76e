//! JSON of a caller's as one text in a record: the table's numbers (38 digits) and nesting (32 levels) are narrower than
//! JSON's, and what was given must come back as it was.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with = "crate::kernel::json_text")]`.
///
/// # Errors
/// When the value is no JSON.
pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
}

/// For `#[serde(with = "crate::kernel::json_text")]`.
///
/// # Errors
/// When the text is no JSON of that shape.
pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    serde_json::from_str(&text).map_err(D::Error::custom)
}
