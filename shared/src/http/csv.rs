//! Lists as CSV (RFC 4180), for spreadsheets.

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::Json;
use super::ops::{DocIn, DocOut, OpDoc};
use crate::kernel::{Error, Result};

/// A file of comma-separated values in the making.
#[derive(Debug, Clone)]
pub struct Csv {
    name: String,
    body: String,
}

impl Csv {
    /// A file of this name, which browsers save it under, with its header line.
    #[must_use]
    pub fn new(name: String, columns: &[&str]) -> Self {
        let mut file = Self { name, body: String::new() };
        file.line(columns.iter().map(|column| (*column).to_owned()));
        file
    }

    /// Adds a line.
    pub fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| quoted(&cell)).collect();
        self.body.push_str(&cells.join(","));
        self.body.push_str("\r\n");
    }

    /// A text that somebody chose. What a spreadsheet would take for a formula gets an apostrophe in front, so that
    /// opening a file runs nothing.
    #[must_use]
    pub fn text(text: &str) -> String {
        let first = text.trim_start().chars().next();
        let is_formula = matches!(first, Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '|' | '%'));
        if is_formula || text.starts_with(['\t', '\r', '\n']) { format!("'{text}") } else { text.to_owned() }
    }
}

fn quoted(cell: &str) -> String {
    let is_plain = !cell.contains(['"', ',', '\r', '\n', ';', '\t']) && cell.trim() == cell;
    if is_plain { cell.to_owned() } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
}

impl IntoResponse for Csv {
    fn into_response(self) -> Response {
        let disposition = HeaderValue::try_from(format!("attachment; filename=\"{}\"", self.name));
        let Ok(disposition) = disposition else { return Error::internal("a file name that is none").into_response() };
        let mut response = Response::new(self.body.into());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
        response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
        response
    }
}

/// The same list in one form or the other.
#[derive(Debug)]
pub enum JsonOrCsv<T> {
    /// For programs.
    Json(T),
    /// For spreadsheets.
    Csv(Csv),
}

impl<T: Serialize> IntoResponse for JsonOrCsv<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => Json(body).into_response(),
            Self::Csv(file) => file.into_response(),
        }
    }
}

impl<T: Serialize + JsonSchema> DocOut for JsonOrCsv<T> {
    fn document(doc: &mut OpDoc<'_>) {
        Json::<T>::document(doc);
        doc.other_form = Some("text/csv");
    }
}

/// Whether the caller's `Accept` asks for CSV before JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptsCsv(bool);

impl AcceptsCsv {
    /// Whether the answer is CSV: what `format` says, else what `Accept` does.
    #[must_use]
    pub fn csv(self, format: Option<Format>) -> bool {
        format.map_or(self.0, |format| format == Format::Csv)
    }
}

/// The forms that `format` takes in a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON.
    Json,
    /// CSV, with a line of names.
    Csv,
}

impl<S: Send + Sync> FromRequestParts<S> for AcceptsCsv {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let csv = quality(accept, "text/csv");
        Ok(Self(csv > 0 && csv >= quality(accept, "application/json")))
    }
}

impl DocIn for AcceptsCsv {}

/// How much an `Accept` header wants exactly this type, in thousandths.
fn quality(accept: &str, wanted: &str) -> u32 {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
        is_it.then(|| parts.find_map(|part| part.strip_prefix("q=")).map_or(1_000, thousandths))
    });
    ranges.max().unwrap_or(0)
}

/// A quality: `1`, `0.5`, at most three digits behind the point.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u32>(), fraction.parse::<u32>()) {
        (Ok(whole), Ok(fraction)) => (whole.min(1) * 1_000 + fraction).min(1_000),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_would_be_cut() {
        let mut file = Csv::new("a.csv".into(), &["plain", "quoted"]);
        file.line(["1".to_owned(), "Sol, \"the\" agent\nof ours".to_owned()]);
        assert_eq!(file.body, "plain,quoted\r\n1,\"Sol, \"\"the\"\" agent\nof ours\"\r\n");
    }

    #[test]
    fn a_name_is_no_formula() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "＝1", "|calc"] {
            assert!(Csv::text(bad).starts_with('\''), "{bad}");
        }
        for good in ["Sol", "Sol = luz", "1-2", "ñ", ""] {
            assert_eq!(Csv::text(good), good);
        }
    }

    #[test]
    fn the_better_liked_form_is_given() {
        let csv_first = |accept| {
            quality(accept, "text/csv") > 0 && quality(accept, "text/csv") >= quality(accept, "application/json")
        };
        for csv in ["text/csv", "TEXT/CSV; q=0.9", "application/json;q=0.5, text/csv", "text/csv;header=present, */*"] {
            assert!(csv_first(csv), "{csv}");
        }
        for json in [
            "",
            "*/*",
            "text/*",
            "application/json",
            "application/json, text/csv;q=0.8",
            "text/csv;q=0",
            "text/csv;q=x",
        ] {
            assert!(!csv_first(json), "{json}");
        }
    }
}
