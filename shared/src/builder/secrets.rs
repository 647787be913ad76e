//! Secrets in what a model calls tools with. Nobody is to give it any: the tools refuse them, and neither a frame, a message
//! nor an action keeps them.

use serde_json::Value;

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// Whether a field of this name holds a secret.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 6] = ["token", "secret", "password", "authorization", "credential", "bearer"];
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase();
    plain == "headers" || plain.ends_with("key") || PARTS.iter().any(|part| plain.contains(part))
}

/// The arguments of a call without secrets, however deep they lie. What a schema says of a field is no secret: only texts
/// are, and all of what headers hold. Arguments that are no object are none, and whatever they hold is not kept.
pub(super) fn without(arguments: Value) -> Value {
    match arguments {
        Value::Object(_) => inner(arguments),
        Value::Null => Value::Null,
        _ => REDACTED.into(),
    }
}

fn inner(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(inner).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| {
                let hides = is_secret(&name) && (!value.is_object() || name.eq_ignore_ascii_case("headers"));
                let hides = hides && !value.is_null() && !value.is_array();
                let value = if hides { REDACTED.into() } else { inner(value) };
                (name, value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
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
        let schema = json!({"properties": {"token": {"type": "string"}}, "required": ["token"]});
        let plain =
            json!({"name": "http_request", "config": {"body_schema": schema, "allowed_hosts": ["a.example.com"]}});
        assert_eq!(without(plain.clone()), plain);
        assert!(!were_in(&plain));
    }
}
