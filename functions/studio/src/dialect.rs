//! How studio writes errors: `{detail, code, field?, errors?}`; a page for browsers outside `/api`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use minijinja::context;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use shared::http::{Asked, Dialect};
use shared::kernel::{Error, Kind};

use crate::site::page;

pub(crate) const DIALECT: Dialect = Dialect { render, schema };

/// An error.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorOut {
    /// What went wrong, for people.
    detail: String,
    /// What went wrong, for programs.
    code: String,
    /// The first wrong field, for `validation_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Every wrong field, when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldOut>,
}

/// One wrong field.
#[derive(Debug, Serialize, JsonSchema)]
struct FieldOut {
    field: String,
    code: String,
    message: String,
}

fn schema(generator: &mut SchemaGenerator) -> Schema {
    ErrorOut::json_schema(generator)
}

fn render(error: &Error, asked: &Asked) -> Response {
    let status = status(error.kind());
    if asked.wants_html && !asked.path.starts_with("/api") && status == StatusCode::NOT_FOUND {
        let body = page("not_found.html", context! { path => &asked.path });
        return (status, body).into_response();
    }
    (status, axum::Json(body(error))).into_response()
}

pub(crate) fn body(error: &Error) -> ErrorOut {
    let fields = error.invalid_fields();
    let several = fields.iter().filter(|_| fields.len() > 1).map(|field| FieldOut {
        field: field.name.clone(),
        code: field.code.into(),
        message: field.message.clone(),
    });
    ErrorOut {
        detail: error.message().to_owned(),
        code: error.code().text().replace('.', "_"),
        field: fields.first().map(|field| field.name.clone()),
        errors: several.collect(),
    }
}

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
