//! What handlers answer with.

use std::marker::PhantomData;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
    LOCATION,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::extract::Json;
use super::ops::{DocOut, OpDoc};
use crate::app::file::{Content, Opened};
use crate::kernel::Error;
use crate::kernel::secret::sha256_hex;

/// Marks an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The answer of a command, with its status in its type so that the document knows it.
#[derive(Debug)]
pub struct Reply<W, const STATUS: u16> {
    /// The status; another than `STATUS` only where the command says so, or when an older answer is given again.
    pub(super) status: u16,
    /// The JSON body; empty for 204.
    pub(super) body: Vec<u8>,
    /// Whether this is an older answer.
    pub(super) replayed: bool,
    pub(super) wire: PhantomData<fn() -> W>,
}

/// 200 with a body.
pub type Done<W> = Reply<W, 200>;
/// 201 with a body.
pub type Created<W> = Reply<W, 201>;
/// 204.
pub type NoContent = Reply<(), 204>;

impl<W, const STATUS: u16> IntoResponse for Reply<W, STATUS> {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        if self.status != 204 {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => Reply::<T, 200> { status: 200, body, replayed: false, wire: PhantomData }.into_response(),
            Err(error) => Error::internal(format!("an answer does not serialise: {error}")).into_response(),
        }
    }
}

impl<T: Serialize + JsonSchema> DocOut for Json<T> {
    fn document(doc: &mut OpDoc<'_>) {
        doc.ok = Some((200, Some(doc.schemas.answers.subschema_for::<T>()), "application/json"));
    }
}

impl<W: JsonSchema, const STATUS: u16> DocOut for Reply<W, STATUS> {
    fn document(doc: &mut OpDoc<'_>) {
        let schema = (STATUS != 204).then(|| doc.schemas.answers.subschema_for::<W>());
        doc.ok = Some((STATUS, schema, "application/json"));
    }
}

/// A page or a file of ours, with the policy that lets it load nothing but our own files.
#[derive(Debug)]
pub struct Asset {
    /// The content.
    pub body: String,
    /// Its type.
    pub content_type: &'static str,
    /// How long caches may keep it.
    pub cache: &'static str,
    /// Whether other sites may show it in a frame.
    pub framable: bool,
    /// Whether pages of other sites may load it: a file, which is the same for everybody.
    pub shared: bool,
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data: https:; base-uri 'none'; form-action 'none'; frame-src 'self'";

impl Asset {
    /// A page that only we show.
    #[must_use]
    pub const fn page(body: String) -> Self {
        Self { body, content_type: "text/html; charset=utf-8", cache: "no-cache", framable: false, shared: false }
    }

    /// A file that a page loads.
    #[must_use]
    pub fn file(body: &'static str, content_type: &'static str) -> Self {
        // Names are fixed, so that a new version is seen within minutes; after that the tag tells whether it is another.
        Self { body: body.to_owned(), content_type, cache: "public, max-age=300", framable: true, shared: true }
    }
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let ancestors = if self.framable { "*" } else { "'none'" };
        let policy = format!("{POLICY}; frame-ancestors {ancestors}");
        let tag = self.shared.then(|| format!("\"{}\"", &sha256_hex(&self.body)[..32]));
        let mut response = Response::new(Body::from(self.body));
        let headers = response.headers_mut();
        if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            headers.insert(ETAG, tag);
            // Isolated pages (COEP) load only what says so.
            headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.cache));
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert("referrer-policy", HeaderValue::from_static("strict-origin-when-cross-origin"));
        response
    }
}

/// A file for calendars.
#[derive(Debug)]
pub struct Calendar(pub String);

impl IntoResponse for Calendar {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/calendar; charset=utf-8"));
        let disposition = HeaderValue::from_static("attachment; filename=\"appointment.ics\"");
        headers.insert(CONTENT_DISPOSITION, disposition);
        response
    }
}

/// A file that somebody sent. It is saved, and never shown as a page of ours, whatever it says that it is.
#[derive(Debug)]
pub struct Download(pub Opened);

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        let Opened { mime, disposition, content } = self.0;
        let Ok(disposition) = HeaderValue::try_from(disposition) else {
            return Error::internal("a file name that is none").into_response();
        };
        let mut response = match content {
            Content::Bytes(bytes) => Response::new(Body::from(bytes)),
            Content::At(address) => {
                let Ok(address) = HeaderValue::try_from(address) else {
                    return Error::internal("an address that is none").into_response();
                };
                let mut response = StatusCode::FOUND.into_response();
                response.headers_mut().extend([(CACHE_CONTROL, NOT_KEPT), (LOCATION, address)]);
                return response;
            }
        };
        let mime = HeaderValue::try_from(mime).unwrap_or(HeaderValue::from_static("application/octet-stream"));
        let headers = [(CONTENT_TYPE, mime), (CONTENT_DISPOSITION, disposition), (CACHE_CONTROL, NOT_KEPT)];
        response.headers_mut().extend(headers);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
        // The Lambda library writes texts anew, as UTF-8, unless they say that they are encoded.
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        response
    }
}

/// For what only its caller may have.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("private, no-store");

/// What the document says of files, whose type is their own.
const ANY_TYPE: &str = "*/*";

impl DocOut for Download {
    fn document(doc: &mut OpDoc<'_>) {
        doc.ok = Some((200, None, ANY_TYPE));
        doc.bare.push((302, "The file is at `Location`, for a few minutes."));
    }
}

impl DocOut for Calendar {
    fn document(doc: &mut OpDoc<'_>) {
        doc.ok = Some((200, None, "text/calendar"));
    }
}

impl DocOut for Asset {
    fn document(doc: &mut OpDoc<'_>) {
        doc.ok = Some((200, None, ANY_TYPE));
        doc.bare.push((304, "It is still what `If-None-Match` says."));
    }
}
