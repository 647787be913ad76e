//! Late rendering: an error travels as itself until the surface's outermost layer, which writes it in its dialect. So
//! `?` works everywhere and shared machinery needs to know no surface.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::{Schema, SchemaGenerator};

use crate::kernel::{Error, Kind};

/// How a surface writes errors.
#[derive(Clone, Copy)]
pub struct Dialect {
    /// Status and body of an error.
    pub render: fn(&Error, &Asked) -> Response,
    /// The schema of that body, for the document.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// What a dialect may want to know of the request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// Whether the caller is a browser that shows a page.
    pub wants_html: bool,
    /// The id of the request, as logs have it.
    pub request_id: String,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The error that a response carries, if it carries one.
#[must_use]
pub fn parked(response: &Response) -> Option<Arc<Error>> {
    response.extensions().get::<Arc<Error>>().cloned()
}

/// The status of an error, on a surface whose contract asks for no other.
#[must_use]
pub const fn usual_status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::CountLimit | Kind::Allowance => StatusCode::PAYMENT_REQUIRED,
        Kind::Forbidden | Kind::ScopeMissing | Kind::PlanRequired => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Stale => StatusCode::PRECONDITION_FAILED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Upstream => StatusCode::BAD_GATEWAY,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}
