//! `/api/billing/usage-events`: the bill, event by event; a row of the group [`crate::billing`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::usage_event::{self, Asked};
use shared::domain::usage::{KeySource, UsageEvent};
use shared::domain::{Agent, Conversation, Message, User};
use shared::http::{Call, Json, Query};
use shared::kernel::{Day, Id, Int, Result, Time};
use uuid::Uuid;

use crate::billing::cents;
use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// The usage events of your account, newest first: one for each reply of a model.
    ///
    /// Over all workspaces that the account pays for, and kept for 25 months after they are reported. Days are UTC's. Of one
    /// agent a page looks at 2,000 events at most, so it may be short although more follow. For sums ask for
    /// `/api/billing/usage`.
    GET "/api/billing/usage-events" => list_usage_events, [User] Owner "" General Any Known Unaudited Safe + private;
}

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
struct UsageEventsQuery {
    /// The first day; 29 days before the last one when absent.
    #[serde(default)]
    since: Option<Day>,
    /// The last day; today when absent. At most 366 days in all.
    #[serde(default)]
    until: Option<Day>,
    /// Only this agent.
    #[serde(default)]
    agent_id: Option<Int<Agent>>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

/// A reply of a model, as it is billed.
#[derive(Debug, Serialize, JsonSchema)]
struct UsageEventOut {
    /// Polar knows it as `<workspace>:<id>`; the event of the reply names it as `data.usage.id`.
    id: Uuid,
    owner_id: Int<User>,
    /// The agent that answered; it may be deleted by now.
    agent_id: Int<Agent>,
    conversation_id: Int<Conversation>,
    message_id: Int<Message>,
    /// `ai_message`.
    event_type: &'static str,
    key_source: KeySource,
    /// Always 1.
    quantity: u32,
    /// What such a message costs beyond the included ones, in cents: 1.0 with our key, 0.4 with your own.
    unit_cost_cents: f64,
    /// Whether the plan's included messages, or the trial, cover it: then it costs nothing.
    included: bool,
    created_at: Time,
    /// When Polar took it; null until then, and where no Polar is connected.
    reported_at: Option<Time>,
}

impl UsageEventOut {
    fn new(owner: Id<User>, event: UsageEvent) -> Self {
        Self {
            id: event.id,
            owner_id: owner.into(),
            agent_id: event.agent_id.into(),
            conversation_id: event.conversation_id.into(),
            message_id: event.message_id.into(),
            event_type: "ai_message",
            key_source: event.key_source,
            quantity: 1,
            unit_cost_cents: cents(event.unit_cost),
            included: event.included,
            created_at: event.at,
            reported_at: event.reported_at,
        }
    }
}

const USAGE_EVENTS: &str = "usage_events";

async fn list_usage_events(
    State(app): State<App>,
    call: Call,
    Query(query): Query<UsageEventsQuery>,
) -> Result<Json<ListOut<UsageEventOut>>> {
    let UsageEventsQuery { since, until, agent_id, cursor, limit } = query;
    let (after, limit) = PageQuery { cursor, limit }.read(USAGE_EVENTS)?;
    let asked = Asked { since, until, agent: agent_id.map(|id| id.0) };
    let page = usage_event::list(&app, &call.caller, &asked, after.as_ref(), limit).await?;
    let owner = call.caller.owner_user_id;
    Ok(Json(ListOut::page(USAGE_EVENTS, page.map(|event| UsageEventOut::new(owner, event)))))
}
