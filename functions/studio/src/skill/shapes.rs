//! Bodies and answers in the words of `/skill.md`, made of their schemas in the document.

use std::fmt::Write as _;

use serde_json::Value;

/// How deep objects within objects are shown.
const DEPTH: usize = 4;

/// The document that schemas refer into.
#[derive(Clone, Copy)]
pub(super) struct Shapes<'a>(pub(super) &'a Value);

/// A field, such as `config.ai.api_key`.
struct Field {
    path: String,
    may_be_absent: bool,
    kind: String,
    about: String,
}

impl<'a> Shapes<'a> {
    /// The schema itself, where it is referred to.
    fn resolve(self, schema: &'a Value) -> &'a Value {
        let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.0.pointer(pointer)).map_or(schema, |schema| self.resolve(schema))
    }

    /// The schema without the null that it may be.
    fn inner(self, schema: &'a Value) -> &'a Value {
        let schema = self.resolve(schema);
        let mut others = schema["anyOf"].as_array().into_iter().flatten().filter(|one| one["type"] != "null");
        match (others.next(), others.next()) {
            (Some(only), None) => self.resolve(only),
            _ => schema,
        }
    }

    fn fields_of(self, schema: &'a Value) -> impl Iterator<Item = (&'a String, &'a Value, bool)> {
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let fields = schema["properties"].as_object().into_iter().flatten();
        fields.map(move |(name, field)| (name, field, !required.iter().any(|other| other == name)))
    }

    /// Such as `{ message, history[]?, identity? }`; nothing for what is no object.
    pub(super) fn brief(self, schema: &'a Value) -> Option<String> {
        let names = self.fields_of(self.inner(schema)).map(|(name, field, may_be_absent)| {
            let (many, absent) =
                (if self.items(field).is_some() { "[]" } else { "" }, if may_be_absent { "?" } else { "" });
            format!("{name}{many}{absent}")
        });
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| format!("{{ {} }}", names.join(", ")))
    }

    fn items(self, schema: &'a Value) -> Option<&'a Value> {
        self.inner(schema).get("items")
    }

    /// A table of all fields, also of objects within it; nothing for what has none.
    pub(super) fn table(self, schema: &'a Value) -> String {
        let mut fields = Vec::new();
        self.collect(self.inner(schema), "", DEPTH, &mut fields);
        if fields.is_empty() {
            return String::new();
        }
        let mut text = "| field | type | |\n| --- | --- | --- |\n".to_owned();
        for Field { path, may_be_absent, kind, about } in fields {
            let absent = if may_be_absent { "?" } else { "" };
            _ = writeln!(text, "| `{path}`{absent} | {kind} | {} |", about.replace('|', "\\|"));
        }
        text
    }

    fn collect(self, schema: &'a Value, before: &str, depth: usize, fields: &mut Vec<Field>) {
        for (name, field, may_be_absent) in self.fields_of(schema) {
            let (inner, mut path) = (self.inner(field), format!("{before}{name}"));
            let about = one_line(field["description"].as_str().unwrap_or_default());
            fields.push(Field { path: path.clone(), may_be_absent, kind: self.kind(field), about });
            let within = match inner.get("items") {
                Some(items) => {
                    path.push_str("[]");
                    self.inner(items)
                }
                None => inner,
            };
            if depth > 1 {
                self.collect(within, &format!("{path}."), depth - 1, fields);
            }
        }
    }

    /// What a value may be.
    fn kind(self, schema: &'a Value) -> String {
        let schema = self.resolve(schema);
        let inner = self.inner(schema);
        let nullable = !std::ptr::eq(inner, schema)
            || schema["type"].as_array().is_some_and(|types| types.contains(&"null".into()));
        let of_enum = inner["enum"].as_array().into_iter().flatten();
        let of_consts = inner["oneOf"].as_array().into_iter().flatten().flat_map(|one| match one["enum"].as_array() {
            Some(several) => several.iter().collect(),
            None => vec![&one["const"]],
        });
        let words: Vec<String> =
            of_enum.chain(of_consts).filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        let named = || match &inner["type"] {
            Value::String(name) => Some(name.clone()),
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).find(|name| *name != "null").map(str::to_owned)
            }
            _ => None,
        };
        let one = match (words.is_empty(), inner.get("items")) {
            (false, _) => words.join(", "),
            (true, Some(items)) => format!("array of {}", self.kind(items)),
            (true, None) => match inner["format"].as_str() {
                Some("date-time") => "time".to_owned(),
                _ => named().unwrap_or_else(|| "any".to_owned()),
            },
        };
        if nullable { format!("{one} or null") } else { one }
    }

    /// The frames of a stream, each with its fields.
    pub(super) fn frames(self, schema: &'a Value) -> String {
        let mut text = String::new();
        for frame in self.resolve(schema)["anyOf"].as_array().into_iter().flatten() {
            let frame = self.resolve(frame);
            let about = one_line(frame["description"].as_str().unwrap_or_default());
            let data = self.brief(frame).unwrap_or_else(|| "{}".to_owned());
            _ = writeln!(text, "- {about} Data: `{data}`.");
        }
        text
    }

    /// The name of the schema that this one refers to.
    pub(super) fn name(schema: &Value) -> Option<&str> {
        schema["$ref"].as_str()?.rsplit('/').next()
    }
}

/// Doc comments are wrapped; lines of tables are not.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
