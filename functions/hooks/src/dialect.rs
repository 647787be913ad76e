//! How hooks writes errors: `{detail, code}`, always JSON. Providers show it in their logs of failed callbacks.
//! They repeat a call after 5xx and mostly give up after 4xx: only our own faults are 5xx.

use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use shared::http::{Asked, Dialect, usual_status};
use shared::kernel::Error;

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
    (usual_status(error.kind()), axum::Json(body)).into_response()
}
