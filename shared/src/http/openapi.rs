//! The `OpenAPI` 3.1 document of a surface, made of its rows and its handlers' signatures. Made by tests and by
//! `chatia openapi`; the functions serve the generated file and pay nothing for it.

use schemars::Schema;
use serde_json::{Map, Value, json};

use super::ops::{Group, RowDoc, Surface};
use super::schemas::{Renames, Schemas, rename};
use crate::access::{Acting, Credential, Idempotency, Op};

/// The document of a surface.
#[must_use]
pub fn document(surface: &Surface) -> Value {
    let mut schemas = Schemas::default();
    let error = (surface.dialect.schema)(&mut schemas.answers);
    let mut paths = Map::new();
    for group in surface.groups {
        for row in (group.rows)() {
            let entry = operation(group, row.op, &mut schemas, row.document);
            let path = paths.entry(row.op.path).or_insert_with(|| json!({}));
            path[row.op.method.to_ascii_lowercase()] = entry;
        }
    }
    let (mut schemas, renames) = schemas.take();
    paths.values_mut().for_each(|path| rename_requests(path, &renames));
    schemas.insert("Error".into(), error.to_value());
    schemas.sort_keys();
    let tags = surface.groups.iter().map(|group| json!({"name": group.name, "description": group.about}));
    json!({
        "openapi": "3.1.0",
        "info": {"title": surface.title, "version": env!("CARGO_PKG_VERSION")},
        "servers": [{"url": "/"}],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security_schemes()},
    })
}

/// Lets what operations take refer to the schemas of requests.
fn rename_requests(path: &mut Value, renames: &Renames) {
    for operation in path.as_object_mut().into_iter().flat_map(Map::values_mut) {
        for part in ["parameters", "requestBody"] {
            operation.get_mut(part).into_iter().for_each(|part| rename(part, renames));
        }
    }
}

fn security_schemes() -> Value {
    json!({
        "session": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "From POST /api/auth/login."},
        "developer_key": {"type": "http", "scheme": "bearer", "description": "A key that starts with chatia_."},
    })
}

fn operation(group: &Group, op: &Op, schemas: &mut Schemas, document: fn(&mut Schemas) -> RowDoc) -> Value {
    let doc = document(schemas);
    let text = op.doc.trim();
    let (summary, description) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut entry = json!({
        "operationId": op.id,
        "tags": [group.name],
        "summary": one_line(summary),
        "parameters": parameters(op, &doc),
        "responses": responses(op, &doc),
        "security": op.credentials.iter().map(|credential| json!({scheme(*credential): []})).collect::<Vec<_>>(),
        "x-chatia-role": format!("{:?}", op.floor).to_lowercase(),
        "x-chatia-rate-class": op.rate.key(),
    });
    if !description.is_empty() {
        entry["description"] = json!(one_line(description));
    }
    if !op.scope.is_empty() {
        entry["x-chatia-scope"] = json!(op.scope);
    }
    if let Some((schema, required)) = doc.body {
        entry["requestBody"] = json!({"required": required, "content": {"application/json": {"schema": schema}}});
    }
    entry
}

/// Doc comments are wrapped; the document is not.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const fn scheme(credential: Credential) -> &'static str {
    match credential {
        Credential::User => "session",
        Credential::Developer => "developer_key",
    }
}

fn parameters(op: &Op, doc: &RowDoc) -> Vec<Value> {
    let names = op.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let any = Schema::from(true);
    let in_path = names.enumerate().map(|(at, name)| {
        let schema = doc.path.get(at).unwrap_or(&any);
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    });
    let mut parameters: Vec<Value> = in_path.collect();
    if let Some(query) = doc.query.as_ref().and_then(|schema| schema.get("properties")).and_then(Value::as_object) {
        let named = query.iter().map(|(name, schema)| {
            let description = schema.get("description").cloned().unwrap_or_default();
            json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
        });
        parameters.extend(named);
    }
    parameters.extend(doc.headers.iter().map(|(name, about)| {
        json!({"name": name, "in": "header", "required": false, "schema": {"type": "string"}, "description": about})
    }));
    if op.idempotency == Idempotency::Keyed {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false, "schema": {"type": "string", "maxLength": 255},
            "description": "The same key within 48 hours gets the first answer again, marked Idempotent-Replayed: true.",
        }));
    }
    parameters
}

/// What a status means that a row names itself.
const fn also(status: u16) -> &'static str {
    match status {
        401 => "What the body shows of who you are does not hold.",
        402 => {
            "The plan's limit is reached, the allowance is used up, or the payment failed: `code` says which. A message \
             that was sent was kept."
        }
        403 => "You may not do that, or not any more.",
        404 => "Not there, or not yours.",
        409 => {
            "It does not go together with what is there, or somebody is at it; Retry-After may say when to try again."
        }
        502 => "A provider failed to answer, or refused.",
        503 => "This is not configured on this installation, or busy.",
        504 => "A provider took too long.",
        _ => "See the description.",
    }
}

const fn forbidden(op: &Op) -> &'static str {
    match op.acting {
        Acting::Nothing => "The role or the key's scopes do not allow this, or staff act for somebody.",
        Acting::Reads | Acting::Assists => "The role or the key's scopes do not allow this.",
    }
}

fn responses(op: &Op, doc: &RowDoc) -> Value {
    let mut responses = Map::new();
    if let Some((status, schema, content_type)) = &doc.ok {
        let success = success(*status, schema.as_ref(), content_type, doc.other_form);
        // What was there already is told in the same way.
        let others = op.also.iter().filter(|status| **status < 300);
        responses.extend(others.chain([status]).map(|status| (status.to_string(), success.clone())));
    }
    responses.extend(doc.bare.iter().map(|(status, about)| (status.to_string(), json!({"description": about}))));
    let refusals = refusals(op, doc).into_iter().map(|(status, about)| {
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
        (status, json!({"description": about, "content": content}))
    });
    responses.extend(refusals);
    responses.sort_keys();
    Value::Object(responses)
}

fn success(status: u16, schema: Option<&Schema>, content_type: &str, other_form: Option<&str>) -> Value {
    let mut success = json!({"description": "Success."});
    if let Some(schema) = schema {
        success["content"] = json!({content_type: {"schema": schema}});
    } else if status == 200 {
        success["content"] = json!({content_type: {}});
    }
    if let Some(other) = other_form {
        success["content"][other] = json!({"schema": {"type": "string"}});
    }
    success
}

/// Each status of a refusal, with what it means: what follows from the columns, then what the row says itself.
fn refusals(op: &Op, doc: &RowDoc) -> Vec<(String, &'static str)> {
    let (has_body, is_keyed) = (doc.body.is_some(), op.idempotency == Idempotency::Keyed);
    let follows = [
        (has_body, 400, "The body is not valid JSON, or does not confirm what it should."),
        (!op.credentials.is_empty(), 401, "No valid credential."),
        (!op.credentials.is_empty(), 403, forbidden(op)),
        (op.path.contains('{'), 404, also(404)),
        (op.idempotency != Idempotency::Safe, 409, "Somebody else changed the same at the same time; try again."),
        (has_body || is_keyed, 413, "The body is too large."),
        (has_body, 415, "The body is not sent as application/json."),
        (has_body || doc.query.is_some() || is_keyed, 422, "The request breaks a rule; each wrong field is named."),
        (true, 429, "Too many requests; Retry-After says when to come back."),
    ];
    let follows = follows.into_iter().filter(|(does, ..)| *does).map(|(_, status, about)| (status.to_string(), about));
    let own = op.also.iter().filter(|status| **status >= 300).map(|status| (status.to_string(), also(*status)));
    let fault = ("5XX".to_owned(), "Something failed that is no fault of the request; try again later.");
    follows.chain(own).chain([fault]).collect()
}
