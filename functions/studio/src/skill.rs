//! `/skill.md`: what another AI agent has to know to operate this system, made of the operation table, the plans and the
//! events. `chatia openapi` writes it to `docs/skill.md`, and the functions serve that file.

use std::fmt::Write as _;

use shared::access::{Credential, Floor, Op};
use shared::domain::plan::{BYOK_MESSAGE, CATALOGUE, EXTRA_SEAT_USD, MANAGED_MESSAGE, Period};
use shared::domain::tool::Builtin;
use shared::events::studio::DOCUMENTED;
use shared::http::Surface;

/// What stands for the address of the installation in the file.
pub const BASE_URL: &str = "{BASE_URL}";

const HEAD: &str = include_str!("../assets/skill.head.md");
const TAIL: &str = include_str!("../assets/skill.tail.md");

/// The file.
#[must_use]
pub fn document(surface: &Surface) -> String {
    let mut text = HEAD.replace("{VERSION}", env!("CARGO_PKG_VERSION"));
    text += "## Operations\n\n";
    text += "Who may call stands in the last column: `session` is a user's JWT, `key` a developer key. The schemas are in\n";
    text += "`{BASE_URL}/openapi/studio.json`.\n";
    for group in surface.groups {
        let rows = (group.rows)();
        if rows.is_empty() {
            continue;
        }
        _ = write!(text, "\n### {}\n\n| verb | path | what | who |\n| --- | --- | --- | --- |\n", title(group.about));
        for row in rows {
            let Op { method, path, .. } = row.op;
            _ = writeln!(text, "| {method} | `{path}` | {} | {} |", summary(row.op), who(row.op));
        }
    }
    text += &events();
    text += &pricing();
    text += TAIL;
    text
}

fn title(about: &str) -> &str {
    about.trim_end_matches('.')
}

/// The first sentence of the row's own text.
fn summary(op: &Op) -> String {
    let first = op.doc.trim().split("\n\n").next().unwrap_or_default();
    first.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
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
        "\n## Events and webhooks\n\nEvents: {names}; your own as `custom.<name>`. Each delivery is tried at once and five \
         times more.\nThe signature is `hex(hmac_sha256(secret, timestamp + \".\" + raw_body))` with the whole secret as \
         shown, in\n`x-chatia-signature`; beside it `x-chatia-timestamp` (unix seconds), `x-chatia-event`, \
         `x-chatia-event-id`. The headers of\nStandard Webhooks go along.\n"
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
