//! What an owner's schema may be, and what it does then.

use serde_json::{Value, json};

use super::*;

fn refusal(schema: &Value) -> String {
    match Schema::read(schema) {
        Ok(_) => panic!("{schema} was taken"),
        Err(why) => why,
    }
}

fn written_out(schema: &Value) -> Value {
    Schema::read(schema).unwrap_or_else(|why| panic!("{schema}: {why}")).written_out().clone()
}

fn faults(schema: &Value, value: &Value) -> String {
    Schema::read(schema).unwrap_or_else(|why| panic!("{schema}: {why}")).check(value).err().unwrap_or_default()
}

#[test]
fn a_value_that_does_not_fit_is_told_by_its_field_and_not_by_its_content() {
    let schema = json!({"type": "object", "required": ["email"], "additionalProperties": false, "properties": {
        "email": {"type": "string", "format": "email"}, "plan": {"enum": ["basic", "pro"]},
        "people": {"type": "array", "items": {"type": "object", "properties": {"age": {"type": "integer", "minimum": 18}}}}}});
    assert_eq!(faults(&schema, &json!({"email": "a@b.io", "plan": "pro", "people": [{"age": 18}]})), "");
    let cases = [
        (json!({}), "\"email\" is a required property"),
        (json!({"email": "no-address"}), "email: value is not a \"email\""),
        (json!({"email": "a@b.io", "plan": "secret"}), "plan: value is not one of \"basic\" or \"pro\""),
        (json!({"email": "a@b.io", "people": [{}, {"age": 17}]}), "people/1/age: value is less than the minimum of 18"),
        (json!({"email": "a@b.io", "more": 1}), "('more' was unexpected)"),
        (json!("secret"), "value is not of type \"object\""),
    ];
    for (value, expected) in cases {
        let told = faults(&schema, &value);
        assert!(told.contains(expected) && !told.contains("secret"), "{value}: {told}");
    }
    let several = faults(&schema, &json!({"email": 5, "plan": 5}));
    assert!(several.contains("email: ") && several.contains("; plan: "), "{several}");
}

#[test]
fn references_into_the_schema_are_written_out() {
    let address = json!({"type": "object", "title": "Address", "properties": {"city": {"type": "string"}}});
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "home": {"$ref": "#/definitions/address"},
            "work": {"$ref": "#/definitions/address", "title": "Work address"},
            "both": {"$ref": "#/definitions/address", "required": ["city"]},
            "none": {"const": {"$ref": "#/data"}},
        },
        "definitions": {"address": address},
    });
    let mut work = address.clone();
    work["title"] = "Work address".into();
    let expected = json!({"type": "object", "properties": {
        "$ref": {"type": "string"},
        "home": address,
        "work": work,
        "both": {"required": ["city"], "allOf": [address]},
        "none": {"const": {"$ref": "#/data"}},
    }});
    assert_eq!(written_out(&schema), expected);
    assert_eq!(faults(&schema, &json!({"home": {"city": 5}})), "home/city: value is not of type \"string\"");
    assert_eq!(faults(&schema, &json!({"both": {}})), "both: \"city\" is a required property");
    let root = json!({"$ref": "#/$defs/order", "$defs": {"order": {"type": "object"}}});
    assert_eq!(written_out(&root), json!({"type": "object"}));
}

#[test]
fn a_schema_leads_nowhere_else_and_not_back_to_itself() {
    for reference in [
        "https://evil.example/schema.json",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "other.json",
        "//evil.example/s",
        "#order",
        "",
    ] {
        let why = refusal(&json!({"$ref": reference}));
        assert!(why.contains("into the schema itself only"), "{reference}: {why}");
    }
    assert!(refusal(&json!({"$ref": "#/$defs/x"})).contains("leads nowhere"));
    assert!(refusal(&json!({"$ref": 5})).contains("must be a text"));
    let tree = json!({"$ref": "#/$defs/a", "$defs": {
        "a": {"properties": {"b": {"$ref": "#/$defs/b"}}}, "b": {"items": {"$ref": "#/$defs/a"}}}});
    for recursive in [json!({"$ref": "#"}), json!({"properties": {"x": {"$ref": "#"}}}), tree] {
        assert!(refusal(&recursive).contains("lead back"), "{recursive}");
    }
    // Around its own end it would be longer with each turn.
    assert!(refusal(&json!({"items": {"not": {"$ref": "#/items"}}})).contains("lead back"));
    for name in ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary"] {
        assert!(refusal(&json!({name: "https://evil.example"})).contains("not known here"), "{name}");
    }
    for draft in ["https://evil.example/schema", "http://json-schema.org/draft-04/schema#"] {
        assert!(refusal(&json!({"$schema": draft})).contains("$schema must be"), "{draft}");
    }
}

#[test]
fn a_rule_that_nobody_would_keep_is_refused() {
    let cases = [
        (json!({"dependencies": {}}), "dependencies is not known"),
        (json!({"requires": ["a"]}), "requires is not known"),
        (json!({"properties": {"a": {"nullable": true}}}), "nullable is not known"),
        (json!({"type": "objct"}), "type"),
        (json!({"items": [{"type": "string"}]}), "must be an object"),
        (json!({"properties": []}), "properties must hold schemas"),
        (json!({"minLength": -1}), "minLength"),
        (json!({"required": "a"}), "required"),
        (json!({"format": "zip-code"}), "format"),
        (json!("object"), "must be an object"),
        (Value::Null, "must be an object"),
    ];
    for (schema, expected) in cases {
        let why = refusal(&schema);
        assert!(why.contains(expected), "{schema}: {why}");
    }
}

#[test]
fn size_and_depth_are_bounded_also_by_way_of_references() {
    assert!(refusal(&json!({"description": "x".repeat(MAX_SCHEMA_BYTES)})).contains("8192 bytes"));
    let many: Map<String, Value> =
        (0..200).map(|at| (format!("d{at}"), json!({"$ref": format!("#/$defs/d{}", at + 1)}))).collect();
    assert!(refusal(&json!({"$ref": "#/$defs/d0", "$defs": many})).contains("leads nowhere: #/$defs/d200"));
    let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({"items": inner}));
    assert!(Schema::read(&nested(MAX_SCHEMA_DEPTH)).is_ok());
    assert!(refusal(&nested(MAX_SCHEMA_DEPTH + 1)).contains("16 deep"));
    // Ten definitions that each use the next one ten times would be ten thousand million schemas.
    let mut defs = Map::new();
    for level in 0..10 {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        defs.insert(format!("d{level}"), json!({"allOf": vec![next; 10]}));
    }
    defs.insert("d10".into(), json!({}));
    assert!(refusal(&json!({"$ref": "#/$defs/d0", "$defs": defs})).contains("references written out"));
}

#[test]
fn a_pattern_cannot_hang_nor_grow() {
    let slow = json!({"type": "string", "pattern": "^(a+)+$"});
    assert_eq!(faults(&slow, &json!("a".repeat(40))), "");
    assert!(faults(&slow, &json!(format!("{}!", "a".repeat(10_000)))).contains("does not match"));
    for pattern in ["(?=a)b", "(a)\\1", "(", "(a{999}){999}", "((\\w{99}){99}){99}"] {
        refusal(&json!({"pattern": pattern}));
        refusal(&json!({"patternProperties": {pattern: true}}));
    }
    assert!(refusal(&json!({"pattern": "x".repeat(MAX_PATTERN_CHARS + 1)})).contains("200 characters"));
    let many: Vec<Value> = (0..=MAX_PATTERNS).map(|_| json!({"pattern": "a"})).collect();
    assert!(refusal(&json!({"anyOf": many})).contains("20 patterns"));
}
