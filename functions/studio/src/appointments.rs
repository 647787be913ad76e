//! `/api/appointments`: what is booked, and what becomes of it; rows of the group [`crate::inbox`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::appointment::{self, Book, List};
use shared::app::mail_limit::Counted;
use shared::domain::scheduling::{Change, Source, Status};
use shared::domain::{Agent, Appointment, Contact, Conversation};
use shared::http::{Calendar, Call, Created, Done, Json, MaybeJson, Path, Query};
use shared::kernel::{Int, Result, Time};

use crate::wire::{ListOut, PageQuery, actor as who};

shared::ops! {
    /// List appointments by their start, the earliest first.
    ///
    /// From now on, unless `from` says otherwise. Clients see those of agents whose leads are granted to them.
    GET "/api/appointments" => list_appointments, [User Developer] GrantedViewer "appointments:read" General Any Known Unaudited Safe also [404];
    /// Book an appointment by hand.
    ///
    /// Never where another one is, and only a free slot unless you say `outside_hours`.
    POST "/api/appointments" => create_appointment, [User Developer] Operator "appointments:write" General Any Known Audited Keyed also [404 409];
    /// One appointment.
    GET "/api/appointments/{id}" => find_appointment, [User Developer] GrantedViewer "appointments:read" General Any Known Unaudited Safe;
    /// An appointment as a file for calendars.
    GET "/api/appointments/{id}/calendar.ics" => find_appointment_file, [User Developer] GrantedViewer "appointments:read" General Any Known Unaudited Safe;
    /// Cancel an appointment; its time is free again.
    POST "/api/appointments/{id}/cancel" => cancel_appointment, [User Developer] Operator "appointments:write" General Any Known Audited Keyed also [409];
    /// Move an appointment, as long as it is.
    POST "/api/appointments/{id}/reschedule" => reschedule_appointment, [User Developer] Operator "appointments:write" General Any Known Audited Keyed also [409];
    /// Say that an appointment took place.
    POST "/api/appointments/{id}/complete" => complete_appointment, [User Developer] Operator "appointments:write" General Any Known Audited Keyed also [409];
    /// Say that nobody came to an appointment.
    POST "/api/appointments/{id}/no-show" => miss_appointment, [User Developer] Operator "appointments:write" General Any Known Audited Keyed also [409];
}

/// Which appointments, and which page of them.
#[derive(Debug, Deserialize, JsonSchema)]
struct AppointmentsQuery {
    /// Those that begin then or later; now when absent.
    #[serde(default)]
    from: Option<Time>,
    /// Those that begin before then.
    #[serde(default)]
    to: Option<Time>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    agent_id: Option<Int<Agent>>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

/// An appointment to book.
#[derive(Debug, Deserialize, JsonSchema)]
struct AppointmentIn {
    /// Such as `2040-03-05T10:00`, of the zone of your hours, or with an offset.
    start: String,
    /// 5 to 1440; as long as your slots when absent.
    #[serde(default)]
    duration_minutes: Option<u32>,
    /// The agent that it is for, if for one.
    #[serde(default)]
    agent_id: Option<Int<Agent>>,
    #[serde(default)]
    name: Option<String>,
    /// Where the confirmation goes.
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    phone: Option<String>,
    /// Up to 2,000 characters, for the team.
    #[serde(default)]
    notes: Option<String>,
    /// Book it although no slot begins then. What took place within the last 31 days can be written down so.
    #[serde(default)]
    outside_hours: bool,
}

/// Why an appointment is cancelled.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct CancelIn {
    /// Up to 500 characters, for the team.
    #[serde(default)]
    reason: Option<String>,
}

/// When an appointment is instead.
#[derive(Debug, Deserialize, JsonSchema)]
struct RescheduleIn {
    /// As at booking.
    start: String,
    /// As at booking.
    #[serde(default)]
    outside_hours: bool,
}

/// Something that became of an appointment.
#[derive(Debug, Serialize, JsonSchema)]
struct ChangeOut {
    at: Time,
    /// `booked`, `rescheduled`, `cancelled`, `completed` or `no_show`.
    action: String,
    /// `user_`, `key_` or `agent_` with the id of who did it.
    actor: String,
    from: Option<Time>,
    to: Option<Time>,
    reason: Option<String>,
}

/// An appointment.
#[derive(Debug, Serialize, JsonSchema)]
struct AppointmentOut {
    id: Int<Appointment>,
    /// The agent that booked it, or that it is for.
    agent_id: Option<Int<Agent>>,
    /// Where it was booked.
    conversation_id: Option<Int<Conversation>>,
    contact_id: Option<Int<Contact>>,
    title: String,
    location: Option<String>,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    notes: Option<String>,
    start: Time,
    end: Time,
    /// The zone that its time was agreed in.
    timezone: String,
    status: Status,
    source: Source,
    cancel_reason: Option<String>,
    /// The last 50 changes, oldest first.
    history: Vec<ChangeOut>,
    created_at: Time,
    updated_at: Time,
}

impl From<Change> for ChangeOut {
    fn from(Change { at, action, actor, from, to, reason }: Change) -> Self {
        Self { at, action, actor: who(&actor), from, to, reason }
    }
}

impl From<Appointment> for AppointmentOut {
    fn from(appointment: Appointment) -> Self {
        Self {
            id: appointment.id.into(),
            agent_id: appointment.agent_id.map(Int),
            conversation_id: appointment.conversation_id.map(Int),
            contact_id: appointment.contact_id.map(Int),
            title: appointment.title,
            location: appointment.location,
            name: appointment.name,
            email: appointment.email,
            phone: appointment.phone,
            notes: appointment.notes,
            start: appointment.start,
            end: appointment.end,
            timezone: appointment.timezone,
            status: appointment.status,
            source: appointment.source,
            cancel_reason: appointment.cancel_reason,
            history: appointment.history.into_iter().map(ChangeOut::from).collect(),
            created_at: appointment.created_at,
            updated_at: appointment.updated_at,
        }
    }
}

const APPOINTMENTS: &str = "appointments";

async fn list_appointments(
    State(app): State<App>,
    call: Call,
    Query(query): Query<AppointmentsQuery>,
) -> Result<Json<ListOut<AppointmentOut>>> {
    let AppointmentsQuery { from, to, status, agent_id, cursor, limit } = query;
    let (after, limit) = PageQuery { cursor, limit }.read(APPOINTMENTS)?;
    let wish = List { from, until: to, status, agent_id: agent_id.map(|agent| agent.0) };
    let page = appointment::list(&app, &call.caller, &wish, after.as_ref(), limit).await?;
    Ok(Json(ListOut::page(APPOINTMENTS, page.map(AppointmentOut::from))))
}

async fn create_appointment(
    State(app): State<App>,
    call: Call,
    Json(body): Json<AppointmentIn>,
) -> Result<Created<AppointmentOut>> {
    let AppointmentIn { start, duration_minutes, agent_id, name, email, phone, notes, outside_hours } = body;
    let agent_id = agent_id.map(|agent| agent.0);
    let wish = Book { start, duration_minutes, agent_id, name, email, phone, notes, outside_hours };
    let counted = Counted::default();
    call.run(&app, || appointment::book(&app, &call.caller, &wish, &counted), AppointmentOut::from).await
}

async fn find_appointment(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Appointment>>,
) -> Result<Json<AppointmentOut>> {
    Ok(Json(appointment::find(&app, &call.caller, id.0).await?.into()))
}

async fn find_appointment_file(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Appointment>>,
) -> Result<Calendar> {
    let appointment = appointment::find(&app, &call.caller, id.0).await?;
    Ok(Calendar(appointment::file(&app, &appointment).await?))
}

async fn cancel_appointment(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Appointment>>,
    MaybeJson(body): MaybeJson<CancelIn>,
) -> Result<Done<AppointmentOut>> {
    let reason = body.unwrap_or_default().reason;
    let command = || appointment::cancel(&app, &call.caller, id.0, reason.as_deref());
    call.run(&app, command, AppointmentOut::from).await
}

async fn reschedule_appointment(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Appointment>>,
    Json(RescheduleIn { start, outside_hours }): Json<RescheduleIn>,
) -> Result<Done<AppointmentOut>> {
    let counted = Counted::default();
    let command = || appointment::reschedule(&app, &call.caller, id.0, (&start, outside_hours), &counted);
    call.run(&app, command, AppointmentOut::from).await
}

async fn complete_appointment(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Appointment>>,
) -> Result<Done<AppointmentOut>> {
    call.run(&app, || appointment::finish(&app, &call.caller, id.0, true), AppointmentOut::from).await
}

async fn miss_appointment(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Appointment>>,
) -> Result<Done<AppointmentOut>> {
    call.run(&app, || appointment::finish(&app, &call.caller, id.0, false), AppointmentOut::from).await
}
