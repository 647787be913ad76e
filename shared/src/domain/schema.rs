//! JSON schemas: those of the built-in tools' arguments, and those that owners give their tools.
//!
//! An owner's schema is bounded before anything compiles it: its size, depth and patterns. It says all there is to say
//! itself, since references into it are written out when it is read and others are refused, so that nothing is fetched
//! and nothing recurs. A keyword that is not known here is refused: an owner must not believe in a rule that nobody
//! keeps. Patterns run in linear time, so none of them can hang.
//!
//! To take another keyword, add it to [`HOLDS`] by what it holds, or to [`PLAIN`].

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use super::text::shorten;

/// The most bytes of a schema that is written out: every round of every turn reads it.
pub const MAX_SCHEMA_BYTES: usize = 8 * 1024;
/// How deep a schema that is written out may be nested.
pub const MAX_SCHEMA_DEPTH: usize = 16;
/// How many patterns a schema may have, and how long each may be.
const MAX_PATTERNS: usize = 20;
const MAX_PATTERN_CHARS: usize = 200;
/// How large a compiled pattern may be: repetitions of repetitions grow without end.
const MAX_PATTERN_BYTES: usize = 512 * 1024;
/// How many faults are told at once, and how much of each.
const MAX_FAULTS: usize = 5;
const MAX_FAULT_CHARS: usize = 200;

/// What a keyword holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A schema.
    One,
    /// A list of schemas.
    List,
    /// Schemas by name.
    Map,
}

/// The keywords that hold schemas.
const HOLDS: [(&str, Holds); 18] = [
    ("items", Holds::One),
    ("contains", Holds::One),
    ("additionalProperties", Holds::One),
    ("unevaluatedItems", Holds::One),
    ("unevaluatedProperties", Holds::One),
    ("propertyNames", Holds::One),
    ("not", Holds::One),
    ("if", Holds::One),
    ("then", Holds::One),
    ("else", Holds::One),
    ("allOf", Holds::List),
    ("anyOf", Holds::List),
    ("oneOf", Holds::List),
    ("prefixItems", Holds::List),
    ("properties", Holds::Map),
    ("patternProperties", Holds::Map),
    ("dependentSchemas", Holds::Map),
    // Only to be referred to.
    ("$defs", Holds::Map),
];

/// The keywords that hold none.
const PLAIN: [&str; 29] = [
    "type",
    "enum",
    "const",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "required",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minContains",
    "maxContains",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
];

/// The drafts that a schema may name. All are read as the newest: what stands beside a `$ref` counts, as it did not in
/// draft 7; elsewhere where they differ there is a keyword that is refused.
const DRAFTS: [&str; 3] = ["draft/2020-12/schema", "draft/2019-09/schema", "draft-07/schema"];

/// A schema that may be used.
pub struct Schema {
    written_out: Value,
    validator: Validator,
}

impl Schema {
    /// Reads an owner's schema.
    ///
    /// # Errors
    /// What is wrong with it, for its owner.
    pub fn read(given: &Value) -> Result<Self, String> {
        Self::compile(Self::write_out(given)?)
    }

    /// An owner's schema as it is offered to a model: whole, without references. Cheap beside [`Self::read`], which
    /// compiles it as well.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn write_out(given: &Value) -> Result<Value, String> {
        if given.to_string().len() > MAX_SCHEMA_BYTES {
            return Err(format!("it may have {MAX_SCHEMA_BYTES} bytes"));
        }
        let mut reader = Reader { root: given, bytes: 0, patterns: 0 };
        reader.schema(given, 0, &mut Vec::new())
    }

    /// A schema of our own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn own(schema: Value) -> Result<Self, String> {
        Self::compile(schema)
    }

    fn compile(written_out: Value) -> Result<Self, String> {
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
        let options = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(patterns);
        match options.build(&written_out) {
            Ok(validator) => Ok(Self { written_out, validator }),
            Err(error) => Err(fault(&error)),
        }
    }

    /// As it is offered to a model: whole, without references.
    #[must_use]
    pub const fn written_out(&self) -> &Value {
        &self.written_out
    }

    /// Whether a value fits.
    ///
    /// # Errors
    /// Names the fields that do not, and why; what stands in them is left out.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let faults: Vec<String> =
            self.validator.iter_errors(value).take(MAX_FAULTS).map(|error| fault(&error)).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// Where something is wrong, and what.
fn fault(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let mut text = String::new();
    if !place.is_empty() {
        text.push_str(place.trim_start_matches('/'));
        text.push_str(": ");
    }
    // Writing into a text does not fail.
    let _ = write!(text, "{}", error.masked());
    shorten(&text, MAX_FAULT_CHARS)
}

/// Writes a schema out, within bounds.
struct Reader<'a> {
    root: &'a Value,
    bytes: usize,
    patterns: usize,
}

impl<'a> Reader<'a> {
    /// `within` are the references that are being followed.
    fn schema(&mut self, given: &'a Value, depth: usize, within: &mut Vec<&'a str>) -> Result<Value, String> {
        self.count(2)?;
        if depth > MAX_SCHEMA_DEPTH {
            return Err(format!("it may be nested {MAX_SCHEMA_DEPTH} deep"));
        }
        let fields = match given {
            Value::Bool(_) => return Ok(given.clone()),
            Value::Object(fields) => fields,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err("a schema must be an object, or true or false".into());
            }
        };
        let mut written = Map::new();
        for (name, value) in fields {
            match name.as_str() {
                // What is referred to stands where it was needed.
                "$ref" | "$defs" | "definitions" => {}
                "$schema" if depth == 0 && is_known_draft(value) => {}
                "$schema" => return Err("$schema must be draft 2020-12, 2019-09 or 7, at the top".into()),
                _ => {
                    let value = self.keyword(name, value, depth, within)?;
                    written.insert(name.clone(), value);
                }
            }
        }
        match fields.get("$ref") {
            None => Ok(Value::Object(written)),
            Some(reference) => {
                let target = self.follow(reference, depth, within)?;
                Ok(beside(target, written))
            }
        }
    }

    fn keyword(
        &mut self,
        name: &str,
        value: &'a Value,
        depth: usize,
        within: &mut Vec<&'a str>,
    ) -> Result<Value, String> {
        let holds = HOLDS.iter().find(|(known, _)| *known == name).map(|(_, holds)| *holds);
        self.count(name.len())?;
        match (holds, value) {
            (Some(Holds::One), value) => self.schema(value, depth + 1, within),
            (Some(Holds::List), Value::Array(list)) => {
                list.iter().map(|schema| self.schema(schema, depth + 1, within)).collect()
            }
            (Some(Holds::Map), Value::Object(map)) => {
                let mut written = Map::new();
                for (key, schema) in map {
                    self.count(key.len())?;
                    if name == "patternProperties" {
                        self.pattern(key)?;
                    }
                    written.insert(key.clone(), self.schema(schema, depth + 1, within)?);
                }
                Ok(Value::Object(written))
            }
            (Some(Holds::List | Holds::Map), _) => Err(format!("{name} must hold schemas")),
            (None, value) if PLAIN.contains(&name) => {
                if let Some(pattern) = value.as_str().filter(|_| name == "pattern") {
                    self.pattern(pattern)?;
                }
                self.count(value.to_string().len())?;
                Ok(value.clone())
            }
            (None, _) => Err(format!("the keyword {} is not known here", shorten(name, 60))),
        }
    }

    /// The schema that a reference names, written out.
    fn follow(&mut self, reference: &'a Value, depth: usize, within: &mut Vec<&'a str>) -> Result<Value, String> {
        let text = reference.as_str().ok_or("$ref must be a text")?;
        let shown = shorten(text, 100);
        let pointer = text.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.ok_or_else(|| format!("$ref may lead into the schema itself only, not to {shown}"))?;
        if pointer.is_empty() || within.contains(&text) {
            return Err(format!("$ref may not lead back to where it comes from, as {shown} does"));
        }
        let target = self.root.pointer(pointer).ok_or_else(|| format!("$ref leads nowhere: {shown}"))?;
        within.push(text);
        let written = self.schema(target, depth, within);
        within.pop();
        written
    }

    fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(format!("it may have {MAX_PATTERNS} patterns"));
        }
        if pattern.chars().count() > MAX_PATTERN_CHARS {
            return Err(format!("a pattern may have {MAX_PATTERN_CHARS} characters"));
        }
        Ok(())
    }

    /// References to references grow without end, so what is written out is counted while it is written.
    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes > MAX_SCHEMA_BYTES {
            return Err(format!("with its references written out it may have {MAX_SCHEMA_BYTES} bytes"));
        }
        Ok(())
    }
}

fn is_known_draft(value: &Value) -> bool {
    value.as_str().is_some_and(|url| DRAFTS.iter().any(|draft| url.trim_end_matches('#').ends_with(draft)))
}

/// A schema that was referred to, with what stood beside the reference: words replace its words, rules are added.
fn beside(target: Value, written: Map<String, Value>) -> Value {
    const WORDS: [&str; 5] = ["title", "description", "default", "examples", "$comment"];
    match target {
        Value::Object(mut fields) if written.keys().all(|name| WORDS.contains(&name.as_str())) => {
            fields.extend(written);
            Value::Object(fields)
        }
        target => {
            let mut written = written;
            match written.entry("allOf").or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(all) => all.push(target),
                other => *other = Value::Array(vec![target]),
            }
            Value::Object(written)
        }
    }
}
