//! The `OpenAPI` 3.1 document of a surface, made of its rows and its handlers' signatures. Made by tests and by
//! `chatia openapi`; the functions serve the generated file and pay nothing for it.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::ops::{Group, RowDoc, Surface};
use crate::access::{Acting, Credential, Floor, Idempotency, Op};

/// The document of a surface.
#[must_use]
pub fn document(surface: &Surface) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = (surface.dialect.schema)(&mut generator);
    let mut paths = Map::new();
    for group in surface.groups {
        for row in (group.rows)() {
            let entry = operation(group, row.op, &mut generator, row.document);
            let path = paths.entry(row.op.path).or_insert_with(|| json!({}));
            path[row.op.method.to_ascii_lowercase()] = entry;
        }
    }
    let tags = surface.groups.iter().map(|group| json!({"name": group.name, "description": group.about}));
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Error".into(), error.to_value());
    schemas.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {"title": surface.title, "version": env!("CARGO_PKG_VERSION")},
        "servers": [{"url": "/"}],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security_schemes()},
    })
}

fn security_schemes() -> Value {
    json!({
        "session": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "From POST /api/auth/login."},
        "developer_key": {"type": "http", "scheme": "bearer", "description": "A key that starts with chatia_."},
    })
}

fn operation(
    group: &Group,
    op: &Op,
    generator: &mut SchemaGenerator,
    document: fn(&mut SchemaGenerator) -> RowDoc,
) -> Value {
    let doc = document(generator);
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
        402 => "The allowance is used up, or the spend cap is reached; what was sent was kept.",
        404 => "Not there, or not yours.",
        409 => {
            "It does not go together with what is there, or somebody is at it; Retry-After may say when to try again."
        }
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
        let mut success = json!({"description": "Success."});
        if let Some(schema) = schema {
            success["content"] = json!({*content_type: {"schema": schema}});
        } else if *status == 200 {
            success["content"] = json!({*content_type: {}});
        }
        if let Some(other) = doc.other_form {
            success["content"][other] = json!({"schema": {"type": "string"}});
        }
        responses.insert(status.to_string(), success);
    }
    let error = |about: &str| {
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
        json!({"description": about, "content": content})
    };
    if doc.body.is_some() {
        responses.insert("400".into(), error("The body is not valid JSON."));
        responses.insert("413".into(), error("The body is too large."));
    }
    if doc.body.is_some() || doc.query.is_some() || op.idempotency == Idempotency::Keyed {
        responses.insert("422".into(), error("The request breaks a rule; each wrong field is named."));
    }
    if !op.credentials.is_empty() {
        responses.insert("401".into(), error("No valid credential."));
        if op.floor != Floor::Anyone {
            responses.insert("403".into(), error(forbidden(op)));
        }
    }
    if op.path.contains('{') {
        responses.insert("404".into(), error(also(404)));
    }
    for status in op.also {
        responses.insert(status.to_string(), error(also(*status)));
    }
    responses.insert("429".into(), error("Too many requests; Retry-After says when to come back."));
    responses.sort_keys();
    Value::Object(responses)
}
