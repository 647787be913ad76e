//! The three states of a field in a PATCH body: absent, null, a value; and a field that may be null but not absent.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// What a PATCH body says of one field. Give the field `#[serde(default)]`, so that its absence is [`Patch::Keep`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// The field is absent: leave it.
    #[default]
    Keep,
    /// The field is null: clear it.
    Clear,
    /// The field has a value: set it.
    Set(T),
}

impl<T> Patch<T> {
    /// Applies the patch to an optional field.
    pub fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }

    /// What to set, where a field has a default instead of being none: null sets the default.
    pub fn or_default(self) -> Option<T>
    where
        T: Default,
    {
        match self {
            Self::Keep => None,
            Self::Clear => Some(T::default()),
            Self::Set(value) => Some(value),
        }
    }

    /// Whether the body names the field at all.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// The value that is set, if one is.
    #[must_use]
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// A field that must be there, where null says something of its own: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Nullable<T>(pub Option<T>);

impl<T: JsonSchema> JsonSchema for Nullable<T> {
    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        name: Patch<String>,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Cap {
        cents: Nullable<u32>,
    }

    #[test]
    fn null_is_none_and_absence_is_an_error_where_the_field_must_be_there() {
        let read = |json| serde_json::from_str::<Cap>(json).map(|cap| cap.cents.0);
        assert_eq!(read(r#"{"cents":null}"#).unwrap(), None);
        assert_eq!(read(r#"{"cents":5}"#).unwrap(), Some(5));
        assert!(read("{}").unwrap_err().to_string().starts_with("missing field `cents`"));
        let schema = schemars::schema_for!(Cap).to_value();
        assert_eq!(schema["required"], serde_json::json!(["cents"]));
        assert_eq!(schema["properties"]["cents"]["type"], serde_json::json!(["integer", "null"]));
    }

    #[test]
    fn absent_null_and_value_differ() {
        let read = |json| serde_json::from_str::<Body>(json).unwrap().name;
        assert_eq!(read("{}"), Patch::Keep);
        assert_eq!(read(r#"{"name":null}"#), Patch::Clear);
        assert_eq!(read(r#"{"name":"x"}"#), Patch::Set("x".into()));
    }
}
