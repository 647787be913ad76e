//! `/skill.md`: what another AI agent has to know to operate this system, made of the operation table, the plans and the
//! events. `chatia openapi` writes it to `docs/skill.md`, and the functions serve that file.

mod shapes;

use std::fmt::Write as _;

use serde_json::Value;
use shared::access::{Credential, Floor, Op};
use shared::domain::GrantScope;
use shared::domain::api_key::DEVELOPER_SCOPES;
use shared::domain::plan::{BYOK_MESSAGE, CATALOGUE, EXTRA_SEAT_USD, MANAGED_MESSAGE, Period};
use shared::domain::tool::Builtin;
use shared::events::studio::DOCUMENTED;
use shared::http::Surface;

use shapes::{Shapes, one_line};

/// What stands for the address of the installation in the file.
pub const BASE_URL: &str = "{BASE_URL}";

const HEAD: &str = include_str!("../assets/skill.head.md");
const TAIL: &str = include_str!("../assets/skill.tail.md");

/// Operations whose bodies and answers the file shows field by field.
pub const DETAILED: [&str; 24] = [
    "register",
    "login",
    "create_agent",
    "update_agent",
    "publish_agent",
    "attach_tool",
    "preview_agent",
    "stream_builder",
    "decide_builder_action",
    "chat",
    "stream_chat",
    "create_public_lead",
    "set_takeover",
    "create_operator_message",
    "create_grant",
    "create_api_key",
    "create_webhook",
    "publish_event",
    "set_availability",
    "create_appointment",
    "create_checkout_session",
    "set_user_status",
    "set_user_plan",
    "impersonate_user",
];

/// What the data model is made of, and the schema that shows each of it.
pub const ENTITIES: [(&str, &str); 13] = [
    ("User", "UserOut"),
    ("Agent", "AgentOut"),
    ("AgentTool", "ToolOut"),
    ("Conversation", "ConversationOut"),
    ("ConversationMessage", "MessageOut"),
    ("Lead", "LeadOut"),
    ("Appointment", "AppointmentOut"),
    ("BillingAccount", "AccountOut"),
    ("UsageEvent", "UsageEventOut"),
    ("ClientAgentGrant", "GrantOut"),
    ("DeveloperApiKey", "ApiKeyOut"),
    ("WebhookEndpoint", "WebhookOut"),
    ("WebhookDelivery", "DeliveryOut"),
];

/// The file.
#[must_use]
pub fn document(surface: &Surface) -> String {
    let api = shared::http::openapi::document(surface);
    let rows: Vec<(&'static str, Vec<&'static Op>)> = surface
        .groups
        .iter()
        .map(|group| (group.about, (group.rows)().into_iter().map(|row| row.op).collect()))
        .collect();
    let mut text = HEAD.replace("{VERSION}", env!("CARGO_PKG_VERSION"));
    text += &operations(&api, &rows);
    text += &details(&api, &rows);
    text += &scopes();
    text += &data_model(&api);
    text += &events();
    text += &pricing();
    text += TAIL;
    text
}

fn operations(api: &Value, groups: &[(&str, Vec<&'static Op>)]) -> String {
    let mut text = "## Operations\n\n\
        Who may call stands in the last column: `session` is a user's JWT, `key` a developer key. `?` marks what may be \
        absent,\n`[]` a list. All schemas are in `{BASE_URL}/openapi/studio.json`.\n"
        .to_owned();
    for (about, rows) in groups.iter().filter(|(_, rows)| !rows.is_empty()) {
        _ = write!(
            text,
            "\n### {}\n\n| verb | path | what | takes | who |\n| --- | --- | --- | --- | --- |\n",
            title(about)
        );
        for op in rows {
            let Op { method, path, .. } = op;
            let takes = takes(api, op);
            _ = writeln!(text, "| {method} | `{path}` | {} | {takes} | {} |", summary(op), who(op));
        }
    }
    text
}

/// The row's entry in the document.
fn entry<'a>(api: &'a Value, op: &Op) -> &'a Value {
    &api["paths"][op.path][op.method.to_ascii_lowercase()]
}

fn body_of<'a>(api: &'a Value, op: &Op) -> &'a Value {
    &entry(api, op)["requestBody"]["content"]["application/json"]["schema"]
}

/// The body in short, or what may stand behind `?`.
fn takes(api: &Value, op: &Op) -> String {
    if let Some(body) = Shapes(api).brief(body_of(api, op)) {
        return format!("`{body}`");
    }
    let parameters = entry(api, op)["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str());
    let query: Vec<&str> = query.collect();
    if query.is_empty() { String::new() } else { format!("`?{}`", query.join("&")) }
}

fn details(api: &Value, groups: &[(&str, Vec<&'static Op>)]) -> String {
    let mut text = "\n## Bodies and answers\n\nThe operations that you will need most, field by field.\n".to_owned();
    let rows = || groups.iter().flat_map(|(_, rows)| rows);
    for op in DETAILED.iter().filter_map(|id| rows().find(|op| op.id == *id)) {
        _ = write!(text, "\n### {} `{}`\n\n{}\n", op.method, op.path, one_line(op.doc));
        let body = Shapes(api).table(body_of(api, op));
        if !body.is_empty() {
            _ = write!(text, "\nBody:\n\n{body}");
        }
        text += &answer(api, op);
    }
    text
}

/// What success looks like.
fn answer(api: &Value, op: &Op) -> String {
    let responses = entry(api, op)["responses"].as_object().into_iter().flatten();
    let successes: Vec<_> = responses.filter(|(status, _)| status.starts_with('2')).collect();
    let statuses = successes.iter().map(|(status, _)| status.as_str()).collect::<Vec<_>>().join(" or ");
    let Some((_, success)) = successes.first() else { return String::new() };
    let (content, shapes) = (&success["content"], Shapes(api));
    if let Some(frames) = content.get("text/event-stream") {
        return format!(
            "\nAnswer {statuses}, `text/event-stream`; its frames:\n\n{}",
            shapes.frames(&frames["schema"])
        );
    }
    let schema = &content["application/json"]["schema"];
    let entity = ENTITIES.iter().find(|(_, schema_name)| Shapes::name(schema) == Some(schema_name));
    match entity {
        Some((name, _)) => format!("\nAnswer {statuses}: the `{name}`, see the data model.\n"),
        None => format!("\nAnswer {statuses}:\n\n{}", shapes.table(schema)),
    }
}

fn scopes() -> String {
    let list = |scopes: &[&str]| scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(", ");
    let (all, usual) = (GrantScope::ALL.map(GrantScope::text), GrantScope::USUAL.map(GrantScope::text));
    format!(
        "\n## Scopes\n\nA grant (`POST /api/clients/{{id}}/grants`) opens an agent to a client by its `scopes`: {}; without \
         any, {}.\n`messages` reads conversations, takes them over and answers; `messages:read` only reads them; `leads` \
         reads leads and\nappointments. An agent without a grant is not there\n(404); without the scope on one that is \
         granted, a call is a 403 (`scope_missing`).\n\nA developer key has any of {}. A call \
         without the scope of its row is a 403 (`scope_missing`).\n",
        list(&all),
        list(&usual),
        list(&DEVELOPER_SCOPES),
    )
}

fn data_model(api: &Value) -> String {
    let mut text = "\n## Data model\n\nAs answers show it.\n".to_owned();
    for (name, schema) in ENTITIES {
        let schema = &api["components"]["schemas"][schema];
        let about = one_line(schema["description"].as_str().unwrap_or_default());
        _ = write!(text, "\n### {name}\n\n{about}\n\n{}", Shapes(api).table(schema));
    }
    text
}

fn title(about: &str) -> &str {
    about.trim_end_matches('.')
}

/// The first sentence of the row's own text.
fn summary(op: &Op) -> String {
    one_line(op.doc.trim().split("\n\n").next().unwrap_or_default()).replace('|', "\\|")
}

fn who(op: &Op) -> String {
    if op.credentials.is_empty() {
        return "anybody".into();
    }
    let names = op.credentials.iter().map(|credential| match (credential, op.floor) {
        (Credential::User, Floor::Superadmin) => "superadmin".to_owned(),
        (Credential::User, _) => "session".to_owned(),
        (Credential::Developer, _) if op.scope.is_empty() => "key".to_owned(),
        (Credential::Developer, _) => format!("key (`{}`)", op.scope),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn events() -> String {
    let names = DOCUMENTED.map(|name| format!("`{name}`")).join(", ");
    format!(
        "\n## Events and webhooks\n\nEvents: {names}; your own as `custom.<name>`. The body of a delivery is\n`{{ id, type, \
         created_at, agent_id, data }}`. Each is tried at once and five times more; only 2xx counts, and the same event may \
         come\ntwice: keep `x-chatia-event-id`.\n\nThe signature is `hex(hmac_sha256(secret, timestamp + \".\" + raw_body))` \
         with the whole secret as shown, in\n`x-chatia-signature`; beside it `x-chatia-timestamp` (unix seconds), \
         `x-chatia-event`, `x-chatia-event-id`. The headers of\nStandard Webhooks go along. Compare over the bytes as they \
         came, and refuse what is older than five minutes.\n"
    )
}

fn pricing() -> String {
    let mut text =
        "\n## Prices\n\n| plan | dollars a month | included messages | beyond | published agents | seats |\n\
                    | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for plan in &CATALOGUE {
        let price = plan.price_usd.map_or("by use".to_owned(), |price| price.to_string());
        let included = match plan.period {
            Period::Once => format!("{} once", plan.included_messages),
            Period::Month => plan.included_messages.to_string(),
        };
        let beyond = if plan.overage { "sold" } else { "stops" };
        let (name, agents, seats) = (plan.slug(), plan.agents, plan.seats);
        _ = writeln!(text, "| `{name}` | {price} | {included} | {beyond} | {agents} | {seats} |");
    }
    let (managed, byok) = (dollars(MANAGED_MESSAGE), dollars(BYOK_MESSAGE));
    _ = writeln!(
        text,
        "\nA message beyond costs ${managed} with our model key and ${byok} with your own; a further seat ${EXTRA_SEAT_USD} a \
         month.\nTools that an agent can have: {}.",
        Builtin::ALL.map(|tool| format!("`{}`", tool.name())).join(", ")
    );
    text
}

fn dollars(micro: i64) -> String {
    format!("{}.{:03}", micro / 1_000_000, micro % 1_000_000 / 1_000)
}
