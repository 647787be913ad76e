//! `/api/agents/{id}/slots`: what an agent could book; a row of the group [`crate::agents`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, appointment};
use shared::domain::Agent;
use shared::domain::scheduling::iso;
use shared::http::{Call, Json, Path, Query};
use shared::kernel::{Day, Int, Result, Time};

shared::ops! {
    /// The free slots of some days, for an agent to book.
    ///
    /// At most 31 days, of the zone that your hours are of. 409 until you set them.
    GET "/api/agents/{id}/slots" => list_slots, [User Developer] Viewer "appointments:read" General Any Known Unaudited Safe also [409];
}

/// Which days.
#[derive(Debug, Deserialize, JsonSchema)]
struct SlotsQuery {
    /// The first day; today when absent.
    #[serde(default)]
    from: Option<Day>,
    /// The last day; a week in all when absent.
    #[serde(default)]
    to: Option<Day>,
}

/// A slot.
#[derive(Debug, Serialize, JsonSchema)]
struct SlotOut {
    start: Time,
    end: Time,
    /// Its start as the clock of the zone shows it, with the offset. An hour that the clock shows twice is two slots.
    local_start: String,
}

/// Free slots, in order.
#[derive(Debug, Serialize, JsonSchema)]
struct SlotsOut {
    timezone: String,
    duration_minutes: u32,
    items: Vec<SlotOut>,
}

async fn list_slots(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Query(SlotsQuery { from, to }): Query<SlotsQuery>,
) -> Result<Json<SlotsOut>> {
    let (availability, free) = appointment::slots(&app, &call.caller, id.0, (from, to)).await?;
    let zone = availability.zone()?;
    let slot = |at: &shared::domain::scheduling::Stretch| SlotOut {
        start: at.from,
        end: at.until,
        local_start: iso(at.from, &zone),
    };
    let items = free.iter().map(slot).collect();
    Ok(Json(SlotsOut { timezone: availability.timezone, duration_minutes: availability.duration_minutes, items }))
}
