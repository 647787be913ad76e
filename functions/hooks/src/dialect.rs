//! How hooks writes errors: `{detail, code}`, always JSON. Providers show it in their logs of failed callbacks.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use shared::http::{Asked, Dialect};
use shared::kernel::{Error, Kind};

pub(crate) const DIALECT: Dialect = Dialect { render, schema };

/// An error.
#[derive(Debug, Serialize, JsonSchema)]
struct ErrorOut {
    /// What went wrong, for people.
    detail: String,
    /// What went wrong, for programs.
    code: String,
}

fn schema(generator: &mut SchemaGenerator) -> Schema {
    ErrorOut::json_schema(generator)
}

fn render(error: &Error, _: &Asked) -> Response {
    let body = ErrorOut { detail: error.message().to_owned(), code: error.code().text().replace('.', "_") };
    (status(error.kind()), axum::Json(body)).into_response()
}

/// Providers repeat a call after 5xx and mostly give up after 4xx, so only our own faults are 5xx.
const fn status(kind: Kind) -> StatusCode {
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
