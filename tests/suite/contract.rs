//! The documented contract against what is built. `tests/contract/` holds the contract as it was given; nobody edits it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::access::{Credential, Floor, Op};
use shared::domain::slug::RESERVED;
use shared::events::studio::DOCUMENTED;
use studio::SURFACE;

use tests::requests::{known, rows};

const OPERATIONS: &str = include_str!("../contract/operations.tsv");
/// The prose of the contract, which the operations were listed from.
pub(crate) const PROSE: &str = include_str!("../contract/studio.md");

/// Documented operations that are not built yet. This list only shrinks.
const NOT_BUILT: &[(&str, &str)] = &[];

struct Documented {
    method: &'static str,
    path: &'static str,
    auth: &'static str,
}

fn documented() -> Vec<Documented> {
    let rows = OPERATIONS.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [surface, method, path, _, auth, _] = cells[..] else { panic!("a row of six cells: {line}") };
        assert_eq!(surface, "studio");
        Documented { method, path, auth }
    });
    rows.collect()
}

/// The documented operations, in the order of the list.
pub(crate) fn operations() -> Vec<(&'static str, &'static str)> {
    documented().iter().map(|row| (row.method, row.path)).collect()
}

fn built(method: &str, path: &str) -> Option<&'static Op> {
    rows().into_iter().find(|op| (op.method, op.path) == (method, path))
}

#[test]
fn every_documented_operation_is_a_row_or_known_to_be_missing() {
    for Documented { method, path, .. } in documented() {
        let missing = NOT_BUILT.contains(&(method, path));
        let row = built(method, path);
        assert!(row.is_some() || missing, "{method} {path} is documented and nowhere");
        assert!(row.is_none() || !missing, "{method} {path} is built: take it off the list of what is missing");
    }
    for (method, path) in NOT_BUILT {
        let known = documented().iter().any(|row| (row.method, row.path) == (*method, *path));
        assert!(known, "{method} {path} is on the list of what is missing, but is not documented");
    }
}

#[test]
fn the_listed_operations_are_all_that_the_prose_names() {
    let listed: BTreeSet<(&str, &str)> = documented().iter().map(|row| (row.method, row.path)).collect();
    let mut seen = 0;
    for line in PROSE.lines().filter(|line| line.starts_with("| ") && line.contains("`/api/")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let path = cells[2].split('`').nth(1).unwrap();
        assert!(listed.contains(&(cells[1], path)), "{} {path} is in the prose only", cells[1]);
        seen += 1;
    }
    assert_eq!(seen, 39, "the prose's tables were read to the end");
}

/// Rows that take other credentials than the contract's column says, and why.
const OTHER_CREDENTIALS: &[(&str, &str)] =
    &[("create_api_key", "a key that makes keys could outlive its revocation, so people make them")];

#[test]
fn every_built_operation_takes_the_credentials_that_the_contract_names() {
    for Documented { method, path, auth } in documented() {
        let Some(op) = built(method, path) else { continue };
        if OTHER_CREDENTIALS.iter().any(|(id, _)| *id == op.id) {
            continue;
        }
        let (user, key) = (Credential::User, Credential::Developer);
        let fits = match auth {
            "public" => op.credentials.is_empty(),
            "superadmin" => op.credentials == [user] && op.floor == Floor::Superadmin,
            "user JWT" => op.credentials.contains(&user),
            "user JWT or chatia_ key" => op.credentials.contains(&user) && op.credentials.contains(&key),
            other => panic!("an unknown credential in the contract: {other}"),
        };
        assert!(fits, "{}: the contract says {auth}, the row {:?} {:?}", op.id, op.credentials, op.floor);
    }
}

#[test]
fn the_events_are_the_documented_ones() {
    let start = PROSE.split("Outbound webhooks").nth(1).unwrap();
    let list = start.split("Signing:").next().unwrap();
    let named: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("- "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(named, DOCUMENTED);
}

/// Where the entities of the contract's data model are shown: an operation, and the place in its answer.
const SHOWN: &[(&str, &str, &str, &str)] = &[
    ("User", "POST", "/api/auth/login", "user"),
    ("User", "GET", "/api/auth/me", ""),
    ("User", "GET", "/api/admin/users", "items"),
    ("User", "GET", "/api/admin/users/{id}", ""),
    ("Agent", "GET", "/api/agents/{id}", ""),
    ("Agent", "PATCH", "/api/agents/{id}", ""),
    ("Agent", "POST", "/api/agents/{id}/publish", ""),
    ("Agent", "POST", "/api/developers/agents", ""),
    ("AgentTool", "POST", "/api/agents/{id}/tools", ""),
    ("AgentTool", "GET", "/api/agents/{id}", "tools"),
    ("Conversation", "GET", "/api/clients/me/agents/{id}/conversations", "items"),
    ("Conversation", "GET", "/api/clients/me/agents/{id}/conversations/{cid}", ""),
    ("Conversation", "POST", "/api/clients/me/agents/{id}/conversations/{cid}/takeover", ""),
    ("ConversationMessage", "GET", "/api/clients/me/agents/{id}/conversations/{cid}", "messages"),
    ("ConversationMessage", "POST", "/api/clients/me/agents/{id}/conversations/{cid}/messages", ""),
    ("Lead", "GET", "/api/clients/me/agents/{id}/leads", "items"),
    ("BillingAccount", "GET", "/api/billing/account", ""),
    ("UsageEvent", "GET", "/api/billing/usage-events", "items"),
    ("ClientAgentGrant", "POST", "/api/clients/{id}/grants", ""),
    ("ClientAgentGrant", "GET", "/api/clients/{id}/grants", "items"),
];

/// The entities of the contract's data model with their fields; those that it only names have none.
fn entities() -> Vec<(&'static str, Vec<&'static str>)> {
    let told = PROSE.split("## Data model quick reference").nth(1).unwrap().split("\n## ").next().unwrap();
    let entity = |text: &'static str| {
        let (name, fields) = text.split_once('(').unwrap_or((text, ""));
        let mut depth = 0;
        let fields = fields.trim_end_matches(')').split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        (name, fields.map(str::trim).filter(|field| !field.is_empty()).collect())
    };
    told.split('`').skip(1).step_by(2).map(entity).collect()
}

/// A schema, followed to where it lies, and into what a list has.
fn followed<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match (schema["$ref"].as_str(), schema.get("items")) {
        (Some(reference), _) => followed(document, document.pointer(&reference[1..]).unwrap()),
        (None, Some(items)) => followed(document, items),
        (None, None) => schema,
    }
}

/// What is wrong with a field as a schema has it. As the contract writes them: `name`, `name?`, `name: one | other` and
/// `name{part, part}`.
fn lacks(document: &Value, schema: &Value, field: &str) -> Option<String> {
    let name = field.split([':', '{', '?']).next().unwrap();
    let Some(found) = schema["properties"].get(name) else { return Some(format!("{name} is not shown")) };
    if !schema["required"].as_array().unwrap().iter().any(|required| required == name) {
        return Some(format!("{name} may be left out"));
    }
    let parts = field.split_once('{').map_or("", |(_, parts)| parts.trim_end_matches('}'));
    let has = |part: &&str| followed(document, found)["properties"].get(*part).is_some();
    let lacking = parts.split(',').map(str::trim).filter(|part| !part.is_empty()).find(|part| !has(part));
    lacking.map(|part| format!("{name}.{part} is not shown"))
}

#[test]
fn every_field_of_the_data_model_is_shown_under_its_name_wherever_its_entity_is() {
    let document = shared::http::openapi::document(&SURFACE);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (entity, fields) in entities() {
        let places = SHOWN.iter().filter(|(name, ..)| *name == entity);
        assert!(fields.is_empty() || places.clone().count() > 0, "{entity} is shown nowhere");
        seen += fields.len();
        for (_, method, path, place) in places {
            let responses = &document["paths"][path][method.to_lowercase()]["responses"];
            let success = ["200", "201"].iter().find_map(|status| responses.get(*status)).unwrap();
            let mut schema = followed(&document, &success["content"]["application/json"]["schema"]);
            if !place.is_empty() {
                schema = followed(&document, &schema["properties"][place]);
            }
            let lacking = fields.iter().filter_map(|field| lacks(&document, schema, field));
            wrong.extend(lacking.map(|what| format!("{entity} at {method} {path}: {what}")));
        }
    }
    assert_eq!(seen, 52, "the data model was read to the end");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_published_document_is_the_one_that_the_rows_make() {
    let made = shared::http::openapi::document(&SURFACE);
    let kept: Value = serde_json::from_str(include_str!("../../docs/openapi/studio.json")).unwrap();
    let parts = ["info", "tags", "paths", "components"];
    let stale: Vec<_> = parts.into_iter().filter(|part| made[*part] != kept[*part]).collect();
    assert!(made == kept, "docs/openapi/studio.json is stale in {stale:?}: run `cargo run -- openapi`");
}

#[test]
fn the_skill_file_is_up_to_date_and_names_every_row() {
    let kept = include_str!("../../docs/skill.md");
    assert!(kept == studio::skill::document(&SURFACE), "docs/skill.md is stale: run `cargo run -- openapi`");
    for op in rows() {
        assert!(kept.contains(&format!("| {} | `{}` |", op.method, op.path)), "{}", op.id);
    }
    // What the contract's own file tells of, this one does too.
    for event in shared::events::studio::DOCUMENTED {
        assert!(kept.contains(event), "{event}");
    }
    for header in ["x-chatia-signature", "x-chatia-timestamp", "x-chatia-event", "x-chatia-event-id"] {
        assert!(kept.contains(header) && PROSE.contains(header), "{header}");
    }
}

#[test]
fn the_document_describes_every_row_under_its_own_name() {
    let document = shared::http::openapi::document(&SURFACE);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for op in rows() {
        *names.entry(op.id).or_default() += 1;
        let entry = &document["paths"][op.path][op.method.to_ascii_lowercase()];
        assert_eq!(entry["operationId"], op.id);
        let summary = entry["summary"].as_str().unwrap_or_default();
        assert!(summary.len() > 3 && summary.ends_with('.'), "{}: {summary:?} is no sentence", op.id);
        assert_eq!(entry["security"].as_array().map(Vec::len), Some(op.credentials.len()), "{}", op.id);
        let in_path = |parameter: &&Value| parameter["in"] == "path";
        let parameters = entry["parameters"].as_array().unwrap().iter().filter(in_path).count();
        assert_eq!(parameters, op.path.matches('{').count(), "{}", op.id);
        let statuses = entry["responses"].as_object().unwrap().keys();
        let successes: Vec<&str> = statuses.map(String::as_str).filter(|status| status.starts_with('2')).collect();
        // A second one only where the row says it: a 200 for what was there beside a 201.
        let also = if op.also.contains(&200) { vec!["200", "201"] } else { vec![successes[0]] };
        assert_eq!(successes, also, "{}", op.id);
    }
    let twice: Vec<_> = names.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = shared::http::openapi::document(&SURFACE);
    let text = document.to_string();
    for reference in text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "#{pointer} leads nowhere");
    }
}

#[test]
fn the_document_tells_what_each_row_answers() {
    let document = shared::http::openapi::document(&SURFACE);
    for op in rows() {
        let responses = &document["paths"][op.path][op.method.to_ascii_lowercase()]["responses"];
        let told = |status: &str| responses.get(status).is_some();
        assert!(told("429"), "{}: every row is rated", op.id);
        assert_eq!(told("401"), !op.credentials.is_empty() || op.also.contains(&401), "{}", op.id);
        assert!(op.also.iter().all(|status| told(&status.to_string())), "{}", op.id);
        assert_eq!(told("404"), op.path.contains('{') || op.also.contains(&404), "{}", op.id);
        let operation = &document["paths"][op.path][op.method.to_ascii_lowercase()];
        let has_query = operation["parameters"].as_array().unwrap().iter().any(|it| it["in"] == "query");
        assert!(told("422") || (operation.get("requestBody").is_none() && !has_query), "{}", op.id);
    }
    let responses = |path: &str, method: &str| document["paths"][path][method]["responses"].clone();
    let usage = responses("/api/billing/usage", "get");
    assert!(usage["422"].is_object() && usage["200"]["content"]["application/json"].is_object());
    assert_eq!(usage["200"]["content"]["text/csv"]["schema"]["type"], "string");
    let chat = responses("/api/public/agents/{slug}/chat", "post");
    assert!(chat["402"].is_object() && chat["409"].is_object());
    let tool = responses("/api/agents/{id}/tools", "post");
    assert_eq!(tool["200"], tool["201"], "a tool that was there is answered as a new one");
    let file = responses("/api/clients/me/agents/{id}/conversations/{cid}/files/{file}", "get");
    assert!(file["200"].is_object() && file["302"].is_object(), "{file}");
}

#[test]
fn what_may_be_left_out_is_not_required_and_what_must_be_there_is() {
    let document = shared::http::openapi::document(&SURFACE);
    let required = |schema: &str| {
        let required = document["components"]["schemas"][schema]["required"].as_array().cloned().unwrap_or_default();
        required.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(required("Error"), ["detail", "code"]);
    let chat = required("ChatOut");
    assert!(chat.contains(&"message_id".to_owned()), "it may be null, and is always there: {chat:?}");
    assert!(!chat.iter().any(|name| name == "human_takeover" || name == "stopped"), "{chat:?}");
    for (schema, field) in [("ImpersonateIn", "reason"), ("UserPlanIn", "plan_slug"), ("SpendCapIn", "spend_cap_cents")]
    {
        assert_eq!(required(schema), [field], "{schema}");
    }
    assert_eq!(required("UserStatusIn"), ["status"]);
}

#[test]
fn no_first_segment_of_a_route_can_become_a_public_slug() {
    for op in rows() {
        let segment = op.path.trim_start_matches('/').split('/').next().unwrap();
        let parameter = segment.starts_with('{');
        assert!(parameter || RESERVED.contains(&segment), "{}: /{segment} is not reserved", op.path);
        assert!(!parameter || op.id == "chat_page", "{}: only the chat page takes any first segment", op.path);
    }
}

#[test]
fn a_row_that_writes_says_what_a_repeat_does() {
    use shared::access::Idempotency;
    for op in rows() {
        let reads = op.method == "GET";
        assert_eq!(op.idempotency == Idempotency::Safe, reads, "{}: only reads are safe to repeat as they are", op.id);
    }
}

#[test]
fn every_row_has_one_valid_request_and_every_request_has_a_row() {
    let rows: Vec<&str> = rows().iter().map(|op| op.id).collect();
    let known = known();
    let lacking: Vec<_> = rows.iter().filter(|id| !known.contains(id)).collect();
    assert!(lacking.is_empty(), "rows without a valid request in tests/src/requests.rs: {lacking:?}");
    let stale: Vec<_> = known.iter().filter(|id| !rows.contains(id)).collect();
    assert!(stale.is_empty(), "requests without a row in tests/src/requests.rs: {stale:?}");
    let mut once = known.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), known.len(), "a row has two requests");
}
