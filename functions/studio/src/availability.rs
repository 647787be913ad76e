//! `/api/availability`: when the owner can be met; rows of the group [`crate::inbox`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, appointment};
use shared::domain::Availability;
use shared::domain::scheduling::{AvailabilityWish, Closure, On, Rule, RuleKind, RuleWish, time_text};
use shared::http::{Call, Done, Json};
use shared::kernel::{Day, Result, Time};

shared::ops! {
    /// When you can be met.
    ///
    /// It is yours and counts for all of your agents. Until you set it, `is_configured` is false, and agents record
    /// wishes instead of booking.
    GET "/api/availability" => find_availability, [User Developer] Viewer "appointments:read" General Any Known Unaudited Safe;
    /// Say when you can be met.
    ///
    /// The whole of it: what is left out has its default. What is booked stays.
    PUT "/api/availability" => set_availability, [User Developer] Admin "appointments:write" General Any Known Audited Keyed;
}

/// Hours that are open or blocked. Open hours of a date stand in place of its weekday's; blocked beats open.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct RuleFace {
    kind: RuleKind,
    /// 0 for Sunday to 6; this or a date.
    #[serde(default)]
    weekday: Option<u8>,
    /// This or a weekday.
    #[serde(default)]
    date: Option<Day>,
    /// `HH:MM`.
    start_time: String,
    /// `HH:MM`, up to `24:00`.
    end_time: String,
}

/// A date on which nothing is open.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct ClosureFace {
    date: Day,
    /// Up to 255 characters.
    #[serde(default)]
    reason: Option<String>,
}

/// When you can be met.
#[derive(Debug, Deserialize, JsonSchema)]
struct AvailabilityIn {
    /// The IANA name of the zone that hours and dates are of, such as `Europe/Madrid`.
    timezone: String,
    /// Up to 200.
    #[serde(default)]
    rules: Vec<RuleFace>,
    /// Up to 400.
    #[serde(default)]
    closures: Vec<ClosureFace>,
    /// 5 to 1440; 30 when absent.
    #[serde(default)]
    duration_minutes: Option<u32>,
    /// 0 to 240, kept free before each appointment.
    #[serde(default)]
    buffer_before_minutes: Option<u32>,
    /// 0 to 240, kept free after each.
    #[serde(default)]
    buffer_after_minutes: Option<u32>,
    /// 5 to 1440: how far apart slots begin, counted from the beginning of open hours; the duration when absent.
    #[serde(default)]
    slot_step_minutes: Option<u32>,
    /// 0 to 43200: how long before its start a slot can be booked at the latest; 60 when absent.
    #[serde(default)]
    minimum_notice_minutes: Option<u32>,
    /// 1 to 365: how far ahead slots can be booked; 60 when absent.
    #[serde(default)]
    days_ahead: Option<u32>,
    /// What calendars show; `Appointment` when absent.
    #[serde(default)]
    title: Option<String>,
    /// Where: an address or a link.
    #[serde(default)]
    location: Option<String>,
    /// The address that visitors' calendars show as who invites; none of yours is shown when absent.
    #[serde(default)]
    organizer_email: Option<String>,
}

/// When you can be met.
#[derive(Debug, Serialize, JsonSchema)]
struct AvailabilityOut {
    /// Whether you said so; else these are the defaults.
    is_configured: bool,
    timezone: String,
    rules: Vec<RuleFace>,
    closures: Vec<ClosureFace>,
    duration_minutes: u32,
    buffer_before_minutes: u32,
    buffer_after_minutes: u32,
    slot_step_minutes: u32,
    minimum_notice_minutes: u32,
    days_ahead: u32,
    title: String,
    location: Option<String>,
    organizer_email: Option<String>,
    updated_at: Option<Time>,
}

impl AvailabilityOut {
    fn new(availability: Availability, is_configured: bool) -> Self {
        let rule = |rule: Rule| RuleFace {
            kind: rule.kind,
            weekday: if let On::Weekday(weekday) = rule.on { Some(weekday) } else { None },
            date: if let On::Date(date) = rule.on { Some(date) } else { None },
            start_time: time_text(rule.start),
            end_time: time_text(rule.end),
        };
        let closure = |closure: Closure| ClosureFace { date: closure.date, reason: closure.reason };
        Self {
            is_configured,
            timezone: availability.timezone,
            rules: availability.rules.into_iter().map(rule).collect(),
            closures: availability.closures.into_iter().map(closure).collect(),
            duration_minutes: availability.duration_minutes,
            buffer_before_minutes: availability.buffer_before_minutes,
            buffer_after_minutes: availability.buffer_after_minutes,
            slot_step_minutes: availability.slot_step_minutes,
            minimum_notice_minutes: availability.minimum_notice_minutes,
            days_ahead: availability.days_ahead,
            title: availability.title,
            location: availability.location,
            organizer_email: availability.organizer_email,
            updated_at: Some(availability.updated_at).filter(|_| is_configured),
        }
    }
}

async fn find_availability(State(app): State<App>, call: Call) -> Result<Json<AvailabilityOut>> {
    let found = appointment::availability(&app, &call.caller).await?;
    let is_configured = found.is_some();
    let unset = || Availability::unset(call.caller.workspace_id, call.caller.owner_user_id, app.now());
    Ok(Json(AvailabilityOut::new(found.unwrap_or_else(unset), is_configured)))
}

impl From<AvailabilityIn> for AvailabilityWish {
    fn from(body: AvailabilityIn) -> Self {
        let rule = |rule: RuleFace| {
            let RuleFace { kind, weekday, date, start_time, end_time } = rule;
            RuleWish { kind, weekday, date, start_time, end_time }
        };
        let closure = |closure: ClosureFace| Closure { date: closure.date, reason: closure.reason };
        Self {
            timezone: body.timezone,
            rules: body.rules.into_iter().map(rule).collect(),
            closures: body.closures.into_iter().map(closure).collect(),
            duration_minutes: body.duration_minutes,
            buffer_before_minutes: body.buffer_before_minutes,
            buffer_after_minutes: body.buffer_after_minutes,
            slot_step_minutes: body.slot_step_minutes,
            minimum_notice_minutes: body.minimum_notice_minutes,
            days_ahead: body.days_ahead,
            title: body.title,
            location: body.location,
            organizer_email: body.organizer_email,
        }
    }
}

async fn set_availability(
    State(app): State<App>,
    call: Call,
    Json(body): Json<AvailabilityIn>,
) -> Result<Done<AvailabilityOut>> {
    let wish = AvailabilityWish::from(body);
    let command = || appointment::set_availability(&app, &call.caller, &wish);
    call.run(&app, command, |availability| AvailabilityOut::new(availability, true)).await
}
