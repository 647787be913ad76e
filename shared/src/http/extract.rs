//! Our own extractors: they reject with the product's error, and tell the document what they take.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::ops::{DocIn, DocPath, OpDoc};
use crate::kernel::{Code, Error, Result};

/// The largest JSON body. Files do not travel in JSON.
pub const MAX_JSON: usize = 1024 * 1024;

/// The largest callback of a provider: Meta's are up to 3 MB.
const MAX_CALLBACK: usize = 4 * 1024 * 1024;

/// A JSON body: in of a request, or out as a 200.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

/// A JSON body that may be absent.
#[derive(Debug, Clone)]
pub struct MaybeJson<T>(pub Option<T>);

/// The largest JSON body that carries images as data URLs, below what Lambda takes.
pub const MAX_LARGE_JSON: usize = 4 * 1024 * 1024;

/// A JSON body that may carry images.
#[derive(Debug, Clone)]
pub struct LargeJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for LargeJson<T> {
    type Rejection = Error;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let too_large = || Error::with_message(Code::PayloadTooLarge, "The body may have 4 MB.");
        let body = MaybeJson::read_up_to(request, MAX_LARGE_JSON, too_large).await?.0;
        body.map(Self).ok_or_else(|| Error::new(Code::MalformedBody))
    }
}

impl<T: DeserializeOwned + JsonSchema> DocIn for LargeJson<T> {
    fn document(doc: &mut OpDoc<'_>) {
        Json::<T>::document(doc);
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        MaybeJson::read(request).await?.0.map(Self).ok_or_else(|| Error::new(Code::MalformedBody))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MaybeJson<T> {
    type Rejection = Error;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        // Null is nothing, too.
        Ok(Self(MaybeJson::<Option<T>>::read(request).await?.0.flatten()))
    }
}

impl<T: DeserializeOwned> MaybeJson<T> {
    async fn read(request: Request) -> Result<Self> {
        Self::read_up_to(request, MAX_JSON, too_large).await
    }

    async fn read_up_to(request: Request, most: usize, too_large: impl Fn() -> Error) -> Result<Self> {
        let is_json = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json);
        let bytes = to_bytes(request.into_body(), most).await.map_err(|_| too_large())?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        if !is_json {
            return Err(Error::new(Code::UnsupportedMediaType));
        }
        parse(&bytes).map(|body| Self(Some(body)))
    }
}

/// A body beyond [`MAX_JSON`].
#[must_use]
pub fn too_large() -> Error {
    Error::with_message(Code::PayloadTooLarge, "The body may have 1 MB.")
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Text that is no JSON is malformed; JSON of the wrong shape is invalid, and the field is named.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(bytes);
    let text =
        text.map_err(|_| Error::with_message(Code::MalformedBody, "The body is not valid JSON: it is not UTF-8."))?;
    // The reader below does not go on behind what it does not want.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| malformed(&error))?;
    // A list would be taken for the fields in their order.
    if text.trim_ascii_start().starts_with('[') {
        return Err(Error::field("body", "invalid", "The body must be an object."));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| {
        let path = error.path().to_string();
        invalid(&path, &error.into_inner())
    })
}

fn malformed(error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    Error::with_message(Code::MalformedBody, format!("The body is not valid JSON (line {line}, column {column})."))
}

fn invalid(path: &str, error: &serde_json::Error) -> Error {
    // Where a value must be one of a few words, the reader calls another type no JSON.
    let message = if error.is_data() { error.to_string() } else { "this is not one of its values".to_owned() };
    let message = plain(message.split(" at line ").next().unwrap_or(&message));
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let parent = if path == "." { String::new() } else { format!("{path}.") };
    match missing {
        Some(field) => Error::field(format!("{parent}{field}"), "required", format!("{parent}{field} is required")),
        None if path == "." => Error::field("body", "invalid", format!("body: {message}")),
        None => Error::field(path, "invalid", format!("{path}: {message}")),
    }
}

/// A reader's message in words for somebody who sends JSON and knows nothing of how it is read.
fn plain(message: &str) -> String {
    if message.starts_with("UUID parsing failed") {
        return "expected an id such as 8c7f1f5e-3f0a-4c55-9c54-6f1f2c1f9d11".into();
    }
    if message.starts_with("invalid digit") || message.starts_with("cannot parse integer") {
        return "expected a whole number".into();
    }
    let Some((found, wanted)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let wanted = match wanted {
        "a map" => "an object",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "f32" | "f64" => "a number",
        _ if wanted.starts_with("struct ") || wanted.contains("tagged enum") => "an object",
        _ if wanted.len() <= 5 && wanted.starts_with(['u', 'i']) => "a whole number",
        _ => wanted,
    };
    format!("{found}expected {wanted}")
}

/// Parameters of the path. What does not parse names nothing: 404.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| Error::not_found())
    }
}

/// Parameters behind `?`.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.rsplit("query string: ").next().unwrap_or_default();
            match text.split_once(": ").filter(|(field, _)| !field.contains(' ')) {
                Some((field, what)) => Error::field(field, "invalid", format!("{field}: {}", plain(what))),
                None => Error::field("query", "invalid", plain(text)),
            }
        })
    }
}

/// A body as it came, to the byte: what a signature is over.
#[derive(Debug)]
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Error;
    async fn from_request(request: Request, _: &S) -> Result<Self> {
        to_bytes(request.into_body(), MAX_CALLBACK).await.map(Self).map_err(|_| too_large())
    }
}

impl DocIn for RawBody {}

/// The `Idempotency-Key` of an operation that has its own way of recognising a repeat.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let given = parts.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        Ok(Self(given.map(str::to_owned)))
    }
}

impl DocIn for IdempotencyKey {}

/// `Last-Event-ID`: the last frame that a client has of a stream.
#[derive(Debug)]
pub struct LastEventId(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let given = parts.headers.get("last-event-id").and_then(|value| value.to_str().ok());
        Ok(Self(given.map(str::to_owned)))
    }
}

impl DocIn for LastEventId {
    fn document(doc: &mut OpDoc<'_>) {
        doc.headers
            .push(("Last-Event-ID", "The id of the last frame that came, after a connection broke: the rest follows."));
    }
}

impl<T: DeserializeOwned + JsonSchema> DocIn for Json<T> {
    fn document(doc: &mut OpDoc<'_>) {
        doc.body = Some((doc.schemas.requests.subschema_for::<T>(), true));
    }
}

impl<T: DeserializeOwned + JsonSchema> DocIn for MaybeJson<T> {
    fn document(doc: &mut OpDoc<'_>) {
        doc.body = Some((doc.schemas.requests.subschema_for::<T>(), false));
    }
}

impl<T: DocPath> DocIn for Path<T> {
    fn document(doc: &mut OpDoc<'_>) {
        doc.path = T::schemas(&mut doc.schemas.requests);
    }
}

impl<T: JsonSchema> DocIn for Query<T> {
    fn document(doc: &mut OpDoc<'_>) {
        doc.query = Some(T::json_schema(&mut doc.schemas.requests));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kind;

    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "only whether it parses matters")]
    struct Body {
        name: String,
        config: Option<Config>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "only whether it parses matters")]
    struct Config {
        limit: u8,
    }

    fn error(text: &str) -> Error {
        parse::<Body>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn broken_json_is_malformed_and_wrong_shapes_name_their_field() {
        assert_eq!(error("{").kind(), Kind::Malformed);
        assert_eq!(error(r#"{"name":"x"} trailing"#).kind(), Kind::Malformed);
        let field = |text| error(text).invalid_fields()[0].name.clone();
        assert_eq!(field("{}"), "name");
        assert_eq!(field(r#"{"name":1}"#), "name");
        assert_eq!(field(r#"{"name":"x","config":{"limit":"a"}}"#), "config.limit");
        assert_eq!(field(r#"{"name":"x","config":{}}"#), "config.limit");
        assert_eq!(field("[]"), "body");
        assert_eq!(field(r#" ["x", null]"#), "body");
        assert_eq!(error("[").kind(), Kind::Malformed);
    }

    #[test]
    fn a_value_of_another_type_is_told_in_plain_words() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            New,
        }
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only whether it parses matters")]
        struct Every {
            word: Option<Word>,
            id: Option<uuid::Uuid>,
            at: Option<crate::kernel::Time>,
            inner: Option<Config>,
            list: Option<Vec<u32>>,
            number: Option<f64>,
        }
        for (body, told) in [
            (r#"{"word": 5}"#, "word: this is not one of its values"),
            (r#"{"word": ["new"]}"#, "word: this is not one of its values"),
            (r#"{"word": "old"}"#, "word: unknown variant `old`, expected `new`"),
            (r#"{"id": "x"}"#, "id: expected an id such as 8c7f1f5e-3f0a-4c55-9c54-6f1f2c1f9d11"),
            (r#"{"at": "june"}"#, "at: expected a time such as 2026-01-31T09:30:00Z"),
            (r#"{"inner": 1}"#, "inner: invalid type: integer `1`, expected an object"),
            (r#"{"inner": {"limit": -1}}"#, "inner.limit: invalid value: integer `-1`, expected a whole number"),
            (r#"{"list": {}}"#, "list: invalid type: map, expected a list"),
            (r#"{"number": "1"}"#, "number: invalid type: string \"1\", expected a number"),
        ] {
            let error = parse::<Every>(body.as_bytes()).unwrap_err();
            assert_eq!((error.kind(), error.message()), (Kind::Invalid, told), "{body}");
        }
        assert_eq!(parse::<Every>(br#"{"word": 5"#).unwrap_err().kind(), Kind::Malformed);
    }
}
