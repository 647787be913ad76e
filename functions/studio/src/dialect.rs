//! How studio writes errors: `{detail, code, field?, errors?}`; a page for browsers outside `/api`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use minijinja::context;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use shared::http::{Asked, Dialect, usual_status};
use shared::kernel::Error;

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
    let status = usual_status(error.kind());
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
