//! Our own extractors: they reject with the product's error, and tell the document what they take.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

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
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() { invalid(&path, &inner.to_string()) } else { malformed(&inner) }
    })?;
    reader.end().map_err(|error| malformed(&error))?;
    Ok(body)
}

fn malformed(error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    Error::with_message(Code::MalformedBody, format!("The body is not valid JSON (line {line}, column {column})."))
}

fn invalid(path: &str, message: &str) -> Error {
    let message = message.split(" at line ").next().unwrap_or(message);
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let parent = if path == "." { String::new() } else { format!("{path}.") };
    match missing {
        Some(field) => Error::field(format!("{parent}{field}"), "required", format!("{parent}{field} is required")),
        None if path == "." => Error::field("body", "invalid", format!("body: {message}")),
        None => Error::field(path, "invalid", format!("{path}: {message}")),
    }
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
            let field = text.split(':').next().filter(|field| !field.contains(' ')).unwrap_or("query");
            Error::field(field, "invalid", text)
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
    }
}
