//! Secrets in what a model calls tools with. Nobody is to give it any: the tools refuse them, and neither a frame, a message
//! nor an action keeps them.

use serde_json::{Map, Value};

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// Whether a field of this name holds a secret.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 8] =
        ["token", "secret", "password", "authorization", "credential", "bearer", "cookie", "passphrase"];
    const WORDS: [&str; 5] = ["auth", "pass", "pwd", "passwd", "headers"];
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase();
    let is_key = plain.ends_with("key") || plain.ends_with("keys");
    is_key || PARTS.iter().any(|part| plain.contains(part)) || words(name).iter().any(|word| WORDS.contains(&&**word))
}

/// The words of a name such as `basic_auth`, `X-Auth` or `basicAuth`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// The arguments of a call without secrets, however deep they lie: under the name of one every text is. What a schema says of
/// its fields is none, and neither are numbers. Arguments that are no object are none, and whatever they hold is not kept.
pub(super) fn without(arguments: Value) -> Value {
    match arguments {
        Value::Object(_) => inner(arguments, false),
        Value::Null => Value::Null,
        _ => REDACTED.into(),
    }
}

fn inner(value: Value, hides: bool) -> Value {
    match value {
        Value::String(_) if hides => REDACTED.into(),
        Value::Array(values) => values.into_iter().map(|value| inner(value, hides)).collect(),
        Value::Object(fields) => {
            // Headers may be told as a list of names and values.
            let names = ["name", "key", "header"].iter().filter_map(|name| fields.get(*name)?.as_str());
            let names_one = names.into_iter().any(is_secret);
            let field = |(name, value): (String, Value)| {
                let value = match (name.as_str(), value) {
                    ("properties", Value::Object(properties)) => schemas(properties, hides),
                    ("required" | "enum", value @ Value::Array(_)) if is_plain(&value) => value,
                    (name, value) => inner(value, hides || is_secret(name) || (names_one && name == "value")),
                };
                (name, value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// Whether a list holds nothing but texts, as those of a schema do.
fn is_plain(value: &Value) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(|value| !value.is_object() && !value.is_array()))
}

/// The properties of a schema: their names are those of fields, and what is said of one is no secret unless it is a value.
fn schemas(properties: Map<String, Value>, hides: bool) -> Value {
    const SAYS: [&str; 6] = ["type", "description", "title", "format", "pattern", "$ref"];
    let property = |(name, value): (String, Value)| {
        let hides = hides || is_secret(&name);
        let value = match value {
            Value::Object(mut schema) => {
                let said: Vec<(String, Value)> = SAYS
                    .iter()
                    .filter_map(|word| schema.remove_entry(*word))
                    .filter(|(_, value)| !value.is_object())
                    .collect();
                let Value::Object(mut rest) = inner(Value::Object(schema), hides) else { return (name, Value::Null) };
                rest.extend(said);
                Value::Object(rest)
            }
            value => inner(value, hides),
        };
        (name, value)
    };
    Value::Object(properties.into_iter().map(property).collect())
}

/// Whether something was taken out.
pub(super) fn were_in(value: &Value) -> bool {
    match value {
        Value::String(text) => text == REDACTED,
        Value::Array(values) => values.iter().any(were_in),
        Value::Object(fields) => fields.values().any(were_in),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_headers_are_taken_out_wherever_they_lie_and_nothing_else_is() {
        for name in ["api_key", "apiKey", "kapso_key", "Access-Token", "client_secret", "password", "Authorization"] {
            let given = json!({"agent_id": 7, "config": {"deep": [{name: "s3cret"}]}, name: "s3cret"});
            let kept = without(given);
            assert!(!kept.to_string().contains("s3cret") && kept["agent_id"] == 7 && were_in(&kept), "{name}: {kept}");
        }
        for headers in [json!({"x": "s3cret"}), json!("s3cret")] {
            let kept = without(json!({"config": {"Headers": headers}}));
            assert!(!kept.to_string().contains("s3cret"), "{kept}");
        }
        assert_eq!(without(json!("{broken s3cret")), json!("[redacted]"));
        for hidden in [
            json!({"headers": [{"name": "Authorization", "value": "Bearer s3cret"}]}),
            json!({"config": {"fields": [{"name": "X-Api-Key", "value": "s3cret"}]}}),
            json!({"tokens": ["s3cret"]}),
            json!({"secret": {"value": {"deep": ["s3cret"]}}}),
            json!({"properties": {"token": "s3cret"}}),
            json!({"properties": {"token": {"type": "string", "default": "s3cret", "examples": ["s3cret"]}}}),
            json!({"secret": {"type": "s3cret"}}),
        ] {
            let kept = without(hidden);
            assert!(!kept.to_string().contains("s3cret") && were_in(&kept), "{kept}");
        }
        for name in
            ["auth", "pass", "pwd", "basic_auth", "basicAuth", "X-Auth", "cookie", "Set-Cookie", "api_keys", "db_pass"]
        {
            let kept = without(json!({"config": {name: {"user": ["s3cret"]}}}));
            assert!(!kept.to_string().contains("s3cret") && were_in(&kept), "{name}: {kept}");
        }
        let plain = json!({"max_tokens": 300, "token": true, "author": "Ana", "compass": "north", "passenger": "Eva"});
        assert_eq!(without(plain.clone()), plain);
        let token = json!({"type": "string", "description": "Theirs.", "enum": ["a", "b"]});
        let nested =
            json!({"type": "object", "properties": {"pwd": {"type": ["string", "null"]}}, "required": ["pwd"]});
        let schema = json!({"properties": {"token": token, "auth": nested}, "required": ["token"]});
        let plain =
            json!({"name": "http_request", "config": {"body_schema": schema, "allowed_hosts": ["a.example.com"]}});
        assert_eq!(without(plain.clone()), plain);
        assert!(!were_in(&plain));
    }
}
