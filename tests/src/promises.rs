//! What the published documents promise, held against every answer that a persona gets: its status must be one of the
//! row's, and what is JSON must fit the schema of that status. So no test can see an answer that is not documented.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::http::header::CONTENT_TYPE;
use jsonschema::Validator;
use serde_json::{Value, json};
use shared::access::Op;
use shared::http::Surface;

use crate::Answer;

/// A surface's document and the rows that it was made of.
struct Document {
    rows: Vec<&'static Op>,
    text: Value,
    /// Made when they are first asked for, by where their schema lies in the document.
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

static DOCUMENTS: LazyLock<[Document; 2]> =
    LazyLock::new(|| [Document::of(&studio::SURFACE), Document::of(&hooks::SURFACE)]);

/// Codes of faults that any row may have, which the document has one entry for.
const FAULTS: [&str; 3] = ["internal_error", "unavailable", "timeout"];

/// Holds an answer against the document, if the path is a row's.
///
/// # Panics
/// When it is another answer than the document says.
pub(crate) fn hold(method: &str, path: &str, answer: &Answer) {
    let found = DOCUMENTS.iter().find_map(|document| Some((document, document.row(method, path)?)));
    let Some((document, op)) = found else { return };
    if let Err(why) = document.fits(op, answer) {
        panic!("{}: {} is not as documented: {why}: {}", op.id, answer.status, answer.text);
    }
}

impl Document {
    fn of(surface: &'static Surface) -> Self {
        let rows = surface.groups.iter().flat_map(|group| (group.rows)()).map(|row| row.op).collect();
        Self { rows, text: shared::http::openapi::document(surface), validators: Mutex::default() }
    }

    /// The row that answers there: the one that says most of the path itself.
    fn row(&self, method: &str, path: &str) -> Option<&'static Op> {
        let fits = |op: &&&Op| op.method == method && is_at(op.path, path);
        self.rows.iter().filter(fits).min_by_key(|op| op.path.matches('{').count()).copied()
    }

    fn fits(&self, op: &Op, answer: &Answer) -> Result<(), String> {
        let status = answer.status.as_u16().to_string();
        let at = format!("/paths/{}/{}/responses", op.path.replace('/', "~1"), op.method.to_ascii_lowercase());
        let responses = self.text.pointer(&at).ok_or("the row is not documented")?;
        let is_fault = answer.json()["code"].as_str().is_some_and(|code| FAULTS.contains(&code));
        let status = if is_fault { "5XX".to_owned() } else { status };
        let response = responses.get(&status).ok_or("the status is not listed")?;
        let given = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default();
        let content = &response["content"];
        let Some(documented) = content.get(essence) else {
            // A page for people who look at a missing path in a browser has no entry of its own.
            let may_be = content.get("*/*").is_some() || matches!(essence, "" | "text/html");
            return if may_be { Ok(()) } else { Err(format!("{essence:?} is not listed")) };
        };
        if documented.get("schema").is_none() {
            return Ok(());
        }
        let place = format!("#{at}/{status}/content/{}/schema", essence.replace('/', "~1"));
        let validator = self.validator(&place);
        match essence {
            "application/json" => check(&validator, &answer.json()),
            "text/event-stream" => {
                let data = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
                let mut frames = data.map(|data| serde_json::from_str(data).map_err(|error| error.to_string()));
                frames.try_for_each(|frame| check(&validator, &frame?))
            }
            _ => Ok(()),
        }
    }

    fn validator(&self, place: &str) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let made = validators.entry(place.to_owned()).or_insert_with(|| {
            let schema = self.text.pointer(&place[1..]).expect("it was found there");
            let whole = json!({"allOf": [schema], "components": self.text["components"]});
            Arc::new(jsonschema::draft202012::new(&whole).expect("a schema"))
        });
        Arc::clone(made)
    }
}

/// Whether a row's path stands for this one.
fn is_at(row: &str, path: &str) -> bool {
    let (row, path) = (row.split('/'), path.split('/'));
    row.clone().count() == path.clone().count() && row.zip(path).all(|(row, path)| row == path || row.starts_with('{'))
}

fn check(validator: &Validator, given: &Value) -> Result<(), String> {
    let wrong: Vec<String> =
        validator.iter_errors(given).map(|error| format!("{} {error}", error.instance_path())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}
