//! `/skill.md` against the contract's own file and the published document: what another AI agent needs is in it.

use serde_json::Value;
use studio::SURFACE;
use studio::skill::{DETAILED, ENTITIES};

use crate::contract::PROSE;
use tests::requests::rows;

const SKILL: &str = include_str!("../../docs/skill.md");

/// What stands below a heading, down to the next one of the same rank.
fn section(heading: &str) -> &'static str {
    let rank = heading.split(' ').next().unwrap();
    let below = SKILL.split(&format!("\n{heading}\n")).nth(1);
    let below = below.unwrap_or_else(|| panic!("there is no {heading:?}"));
    below.split(&format!("\n{rank} ")).next().unwrap()
}

/// The names of all fields of a schema, also within its objects and lists.
fn names<'a>(document: &'a Value, schema: &'a Value, depth: usize, found: &mut Vec<&'a str>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return names(document, document.pointer(&reference[1..]).unwrap(), depth, found);
    }
    for one in ["anyOf", "oneOf"].iter().filter_map(|kind| schema[*kind].as_array()).flatten() {
        names(document, one, depth, found);
    }
    if let Some(items) = schema.get("items") {
        names(document, items, depth, found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten().filter(|_| depth > 0) {
        found.push(name);
        names(document, field, depth - 1, found);
    }
}

/// Whether the text has the field's name as a whole word.
fn says(text: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + name.len()..].chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn every_field_of_the_operations_that_are_needed_most_is_named() {
    let document = shared::http::openapi::document(&SURFACE);
    for id in DETAILED {
        let op = rows().into_iter().find(|op| op.id == id).unwrap_or_else(|| panic!("{id} is no row"));
        let (text, entry) = (
            section(&format!("### {} `{}`", op.method, op.path)),
            &document["paths"][op.path][op.method.to_ascii_lowercase()],
        );
        let mut found = Vec::new();
        names(&document, &entry["requestBody"]["content"]["application/json"]["schema"], 4, &mut found);
        let success = ["200", "201"].iter().find_map(|status| entry["responses"].get(*status)).unwrap();
        for content in success["content"].as_object().unwrap().values() {
            // The fields of an entity are in the data model; frames are told with their own fields.
            let depth = if id.starts_with("stream_") { 1 } else { 4 };
            let schema = &content["schema"];
            let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
            let entity = ENTITIES.iter().find(|(_, schema)| Some(*schema) == name);
            match entity {
                Some((entity, _)) => assert!(text.contains(&format!("the `{entity}`")), "{id}: {text}"),
                None => names(&document, schema, depth, &mut found),
            }
        }
        let lacking: Vec<_> = found.iter().filter(|name| !says(text, name)).collect();
        assert!(lacking.is_empty(), "{id}: {lacking:?}");
    }
}

#[test]
fn every_row_says_what_it_takes() {
    let document = shared::http::openapi::document(&SURFACE);
    for op in rows() {
        let start = format!("| {} | `{}` |", op.method, op.path);
        let line = SKILL.lines().find(|line| line.starts_with(&start)).unwrap();
        let entry = &document["paths"][op.path][op.method.to_ascii_lowercase()];
        let mut found = Vec::new();
        names(&document, &entry["requestBody"]["content"]["application/json"]["schema"], 1, &mut found);
        let lacking: Vec<_> = found.iter().filter(|name| !says(line, name)).collect();
        assert!(lacking.is_empty(), "{}: {lacking:?}", op.id);
    }
}

#[test]
fn the_data_model_has_every_entity_with_every_field() {
    let document = shared::http::openapi::document(&SURFACE);
    for (entity, schema) in ENTITIES {
        let (text, mut found) = (section(&format!("### {entity}")), Vec::new());
        names(&document, &document["components"]["schemas"][schema], 4, &mut found);
        assert!(found.len() > 3, "{schema} has fields");
        let lacking: Vec<_> = found.iter().filter(|name| !says(text, name)).collect();
        assert!(lacking.is_empty(), "{entity}: {lacking:?}");
    }
    // The contract names them, too.
    let told = PROSE.split("## Data model quick reference").nth(1).unwrap().split("\n## ").next().unwrap();
    let named = told.split('`').skip(1).step_by(2).map(|entity| entity.split('(').next().unwrap());
    for entity in named {
        assert!(ENTITIES.iter().any(|(known, _)| *known == entity), "{entity} is in the contract only");
    }
}

#[test]
fn what_the_contract_tells_agents_is_told() {
    let builder = section("## Building agents by chat");
    let events = PROSE.split("Events emitted:").nth(1).unwrap().split("The model").next().unwrap();
    for event in events.split('`').skip(1).step_by(2) {
        assert!(builder.contains(&format!("`{event}`")), "{event}");
    }
    for word in ["gpt-5.4", "Paso 1", "Step 1", "`{ message, images[], thread_id }`", "Last-Event-ID"] {
        assert!(builder.contains(word), "{word}");
    }
    let says = |heading: &str, words: &[&str]| {
        for word in words {
            assert!(section(heading).contains(word), "{heading} lacks {word}");
        }
    };
    says("## Conventions", &["only once it is stored", "confirmation", "Idempotency-Key", "PolarEmbedCheckout"]);
    says("## Talking to an agent", &["human_takeover", "\"paused\": true", "ai_paused", "\"content\""]);
    says(
        "## WhatsApp",
        &["Kapso", "Meta", "api_key", "webhook_secret", "access_token", "verify_token", "callback_url"],
    );
    says(
        "## Appointments",
        &["/api/availability", "schedule_appointment", "/api/appointments", "availability_missing"],
    );
    says("## Widget", &["widget.js", "data-agent", "data-position", "data-accent", "async"]);
    says("## Scopes", &["`messages`", "`messages:read`", "`leads`", "`agents:write`", "`webhooks:manage`"]);
    says("## Events and webhooks", &["hmac_sha256(secret, timestamp + \".\" + raw_body)", "x-chatia-signature"]);
    says("## Prices", &["starter", "pro", "studio", "agency", "0.010", "0.004"]);
    says("## Quick start", &["CHATIA_API_KEY", "/api/developers/agents", "/api/developers/webhooks"]);
}
