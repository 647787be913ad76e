//! The schemas of a document. What a type looks like depends on its way: a field that may be left out of a request is
//! always there in an answer, and one that an answer leaves out is not. So there is a generator for each way, and what
//! they make goes together at the end.

use std::collections::BTreeMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// Where the document has its schemas.
const PLACE: &str = "#/components/schemas/";

/// Makes the schemas of a document.
#[derive(Debug)]
pub struct Schemas {
    /// Of what is sent to us: what serde reads.
    pub requests: SchemaGenerator,
    /// Of what we send: what serde writes.
    pub answers: SchemaGenerator,
}

/// New names of schemas of requests, by the name that the answer's schema has too.
pub(super) type Renames = BTreeMap<String, String>;

impl Default for Schemas {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { requests: settings.clone().into_generator(), answers: settings.for_serialize().into_generator() }
    }
}

impl Schemas {
    /// All schemas that were referred to. Where a type looks different in requests, that schema has another name.
    pub(super) fn take(mut self) -> (Map<String, Value>, Renames) {
        let (mut all, requests) = (self.answers.take_definitions(true), self.requests.take_definitions(true));
        let renames = renames(&requests, &all);
        for (name, mut schema) in requests {
            rename(&mut schema, &renames);
            all.insert(renames.get(&name).cloned().unwrap_or(name), schema);
        }
        all.sort_keys();
        (all, renames)
    }
}

/// The schemas that differ, by themselves or by what they refer to.
fn renames(requests: &Map<String, Value>, answers: &Map<String, Value>) -> Renames {
    let both = || requests.iter().filter_map(|(name, schema)| Some((name, schema, answers.get(name)?)));
    let new = |name: &String| (name.clone(), format!("{name}Input"));
    let mut renames: Renames =
        both().filter(|(_, request, answer)| request != answer).map(|(name, ..)| new(name)).collect();
    loop {
        let refers = |schema: &Value| {
            let mut renamed = schema.clone();
            rename(&mut renamed, &renames);
            renamed != *schema
        };
        let more: Renames = both()
            .filter(|(name, request, _)| !renames.contains_key(*name) && refers(request))
            .map(|(name, ..)| new(name))
            .collect();
        if more.is_empty() {
            return renames;
        }
        renames.extend(more);
    }
}

/// Lets references lead to the new names.
pub(super) fn rename(schema: &mut Value, renames: &Renames) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(new) = reference.strip_prefix(PLACE).and_then(|name| renames.get(name))
            {
                *reference = format!("{PLACE}{new}");
            }
            fields.values_mut().for_each(|field| rename(field, renames));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renames)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out_when_empty: Vec<u8>,
        #[serde(default)]
        defaulted: Option<u8>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Outer {
        inner: Inner,
        same: Same,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Same {
        field: String,
    }

    #[test]
    fn what_requests_and_answers_must_have_is_told_apart() {
        let mut schemas = Schemas::default();
        schemas.requests.subschema_for::<Outer>();
        schemas.answers.subschema_for::<Outer>();
        let (all, renames) = schemas.take();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["Inner", "InnerInput", "Outer", "OuterInput", "Same"]);
        assert_eq!(renames.len(), 2);
        assert_eq!(all["Inner"]["required"], json!(["defaulted"]));
        assert_eq!(all["InnerInput"]["required"], Value::Null);
        assert_eq!(all["OuterInput"]["properties"]["inner"]["$ref"], json!("#/components/schemas/InnerInput"));
        assert_eq!(all["Outer"]["properties"]["inner"]["$ref"], json!("#/components/schemas/Inner"));
    }
}
