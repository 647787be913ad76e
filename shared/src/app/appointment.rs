//! Appointments: when the owner can be met, which slots are free, booking and what becomes of it.

use std::time::Duration;

use super::lead::Giver;
use super::mail_limit::{self, Counted};
use super::{App, Draft, appointment_mail, client, lead};
use crate::access::{Caller, RateClass};
use crate::domain::lead::Details;
use crate::domain::scheduling::{
    AvailabilityWish, Change, Invite, Method, Source, Status, Stretch, Unbookable, When, first_moment, iso,
};
use crate::domain::text::Checks;
use crate::domain::{Agent, Appointment, Availability, Conversation, GrantScope, Role, User, Workspace};
use crate::events::catalog::kind;
use crate::events::emit;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Cursor, Day, Error, Id, Limit, Page, Result, Time};
use crate::store;
use crate::store::appointment::{Calendar, Filter};
use crate::table::{Unit, Versioned};

/// How many days one look at free slots may take in.
const MAX_DAYS: u32 = 31;
/// How many it takes in when the caller does not say.
const USUAL_DAYS: i32 = 7;
/// By hand, what took place may be written down too, and what lies far ahead: but neither without bounds.
const BACK: Duration = Duration::from_secs(31 * 24 * 3600);
const AHEAD: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// When the owner of the caller's workspace can be met; `None` until they said so.
///
/// # Errors
/// When the table cannot be read.
pub async fn availability(app: &App, caller: &Caller) -> Result<Option<Availability>> {
    let found = store::appointment::availability(&app.table, caller.workspace_id, caller.owner_user_id).await?;
    Ok(found.map(|found| found.body))
}

/// Says when the owner can be met. What was booked stays.
///
/// # Errors
/// `validation_error`.
pub async fn set_availability(app: &App, caller: &Caller, wish: &AvailabilityWish) -> Result<Draft<Availability>> {
    let (workspace, provider) = (caller.workspace_id, caller.owner_user_id);
    let availability = Availability::check(workspace, provider, wish, app.now())?;
    let before = store::appointment::availability(&app.table, workspace, provider).await?;
    let mut unit = Unit::new();
    store::appointment::set_availability(&mut unit, &availability, before.map(|before| before.v))?;
    Ok(Draft::new(unit, availability))
}

/// When the owner of a workspace can be met, for whoever books in their name; `None` until they said so.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_workspace(app: &App, workspace: Id<Workspace>) -> Result<Option<Versioned<Availability>>> {
    let owner = store::workspace::get(&app.table, workspace).await?.body.owner_user_id;
    store::appointment::availability(&app.table, workspace, owner).await
}

/// The free slots of some days of the owner's calendar, both included, for an agent that books into it.
///
/// # Errors
/// `not_found`, `availability.missing`, `validation_error`.
pub async fn slots(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    (from, to): (Option<Day>, Option<Day>),
) -> Result<(Availability, Vec<Stretch>)> {
    let (_, availability) =
        tokio::try_join!(store::agent::get(&app.table, caller.workspace_id, agent), availability(app, caller))?;
    let availability = availability.ok_or_else(|| Error::new(Code::AvailabilityMissing))?;
    let zone = availability.zone()?;
    let today = || Day::parse(&iso(app.now(), &zone)[..10]).unwrap_or_else(|| Day::of(app.now()));
    let from = from.unwrap_or_else(today);
    let to = to.unwrap_or_else(|| from.plus(USUAL_DAYS - 1));
    let mut checks = Checks::new();
    checks.ensure(from <= to, "to", "out_of_range", "to may not lie before from");
    let message = format!("from and to may be {MAX_DAYS} days apart");
    checks.ensure(from.count_through(to) <= MAX_DAYS, "to", "out_of_range", &message);
    checks.finish()?;
    let within = Stretch { from: first_moment(from, &zone), until: first_moment(to.plus(1), &zone) };
    let free = free(app, &availability, within).await?;
    Ok((availability, free))
}

/// The slots within a stretch that can be booked now.
///
/// # Errors
/// When the table cannot be read.
pub async fn free(app: &App, availability: &Availability, within: Stretch) -> Result<Vec<Stretch>> {
    availability.slots(within, &busy_around(app, availability, within).await?, app.now())
}

/// The free slots nearest to a moment.
///
/// # Errors
/// When the table cannot be read.
pub async fn nearest(app: &App, availability: &Availability, wish: Time, count: usize) -> Result<Vec<Stretch>> {
    let near = availability.near(wish, app.now());
    availability.nearest(wish, count, &busy_around(app, availability, near).await?, app.now())
}

/// What is held around a stretch: what begins in it may end two days later, buffers included.
async fn busy_around(app: &App, availability: &Availability, within: Stretch) -> Result<Vec<Stretch>> {
    let (workspace, provider) = (availability.workspace_id, availability.provider_id);
    store::appointment::busy(&app.table, workspace, provider, within.widened(2)).await
}

/// Who comes, and how that came about.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The agent that books, or that it is booked for.
    pub agent_id: Option<Id<Agent>>,
    /// Where it is booked, if in a conversation.
    pub conversation_id: Option<Id<Conversation>>,
    /// How.
    pub source: Source,
    /// Who gives the details.
    pub giver: Giver,
    /// Who books.
    pub actor: String,
    /// Name and addresses, if any are known.
    pub details: Option<Details>,
    /// What it is about.
    pub notes: Option<String>,
}

/// Whether a slot was entered.
#[derive(Debug)]
pub enum Entered {
    /// It will have been, once this is carried out.
    Booked(Box<Draft<Appointment>>),
    /// It cannot be.
    Not(Unbookable),
}

/// What a conversation has booked at a moment already, if it stands.
///
/// # Errors
/// When the table cannot be read.
pub async fn booked_in(
    app: &App,
    availability: &Availability,
    conversation: Id<Conversation>,
    start: Time,
) -> Result<Option<Appointment>> {
    let (workspace, provider) = (availability.workspace_id, availability.provider_id);
    let moment = Stretch::new(start, start.millis() + 1);
    let calendar = Calendar::read(&app.table, workspace, provider, &[moment]).await?;
    let Some(holder) = calendar.holder(start) else { return Ok(None) };
    match store::appointment::get(&app.table, workspace, holder).await {
        Ok(found) => Ok(Some(found.body).filter(|known| {
            known.conversation_id == Some(conversation) && known.start == start && !known.status.is_final()
        })),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Enters a slot into the calendar, if it is free. A slot that is not `offered` need not fit the open hours, the notice
/// and how far ahead is bookable; it is never entered where something else is. One that is offered is entered only if the
/// hours are still those that it was offered by.
///
/// # Errors
/// When the table cannot be read.
pub async fn enter(
    app: &App,
    hours: &Versioned<Availability>,
    start: Time,
    offered: bool,
    guest: &Guest,
) -> Result<Entered> {
    let availability = &hours.body;
    let (workspace, provider) = (availability.workspace_id, availability.provider_id);
    let slot = availability.slot(start);
    let held = availability.held(slot);
    let mut calendar = Calendar::read(&app.table, workspace, provider, &[held]).await?;
    if let Some(why) = why_not(app, availability, (slot, held), &calendar.busy(None), offered)? {
        return Ok(Entered::Not(why));
    }
    let mut unit = Unit::new();
    if offered {
        store::appointment::ensure_unchanged(&mut unit, hours);
    }
    let appointment = new_appointment(app, &mut unit, availability, (slot, held), guest).await?;
    calendar.take(appointment.id, held)?;
    calendar.write(&mut unit)?;
    store::appointment::create(&mut unit, &appointment)?;
    emit(&mut unit, &app.events().appointment(kind::APPOINTMENT_BOOKED, &appointment))?;
    Ok(Entered::Booked(Box::new(Draft::new(unit, appointment))))
}

fn why_not(
    app: &App,
    availability: &Availability,
    (slot, held): (Stretch, Stretch),
    busy: &[Stretch],
    offered: bool,
) -> Result<Option<Unbookable>> {
    if offered {
        return availability.why_not(slot.from, busy, app.now());
    }
    let now = app.now();
    let why = match slot.from {
        start if start < now - BACK => Some(Unbookable::TooSoon),
        start if start > now + AHEAD => Some(Unbookable::TooFar),
        _ => busy.iter().any(|busy| busy.overlaps(held)).then_some(Unbookable::Taken),
    };
    Ok(why)
}

async fn new_appointment(
    app: &App,
    unit: &mut Unit,
    availability: &Availability,
    (slot, held): (Stretch, Stretch),
    guest: &Guest,
) -> Result<Appointment> {
    let (workspace_id, now) = (availability.workspace_id, app.now());
    let details = guest.details.clone().unwrap_or_default();
    // A name alone leads to nobody.
    let contact_id = match details.email.is_some() || details.phone.is_some() {
        true => Some(lead::save_contact(app, unit, workspace_id, &details, guest.giver).await?),
        false => None,
    };
    Ok(Appointment {
        id: app.ids().id(),
        workspace_id,
        provider_id: availability.provider_id,
        agent_id: guest.agent_id,
        conversation_id: guest.conversation_id,
        contact_id,
        title: availability.title.clone(),
        location: availability.location.clone(),
        name: details.name,
        email: details.email,
        phone: details.phone,
        notes: guest.notes.clone(),
        start: slot.from,
        end: slot.until,
        held,
        timezone: availability.timezone.clone(),
        status: Status::Confirmed,
        source: guest.source,
        sequence: 0,
        cancel_reason: None,
        history: vec![Change::new(now, "booked", &guest.actor)],
        created_at: now,
        updated_at: now,
    })
}

/// A booking by hand.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// When, as [`When::read`] reads it.
    pub start: String,
    /// How long, if not as long as slots are.
    pub duration_minutes: Option<u32>,
    /// For which agent, if for one.
    pub agent_id: Option<Id<Agent>>,
    /// Who comes.
    pub name: Option<String>,
    /// Their address.
    pub email: Option<String>,
    /// Their number.
    pub phone: Option<String>,
    /// What it is about.
    pub notes: Option<String>,
    /// Whether it need not fit the hours.
    pub outside_hours: bool,
}

/// Books by hand.
///
/// # Errors
/// `validation_error`, `not_found` for a foreign agent, `availability.missing`, `appointment.slot_taken`.
pub async fn book(app: &App, caller: &Caller, wish: &Book, counted: &Counted) -> Result<Draft<Appointment>> {
    let mut hours = hours_for(app, caller, wish.outside_hours).await?;
    let start = read_start(&wish.start, &hours.body)?;
    let mut checks = Checks::new();
    if let Some(minutes) = wish.duration_minutes {
        let fits = (5..=24 * 60).contains(&minutes);
        checks.ensure(fits, "duration_minutes", "out_of_range", "duration_minutes must be 5 to 1440");
        hours.body.duration_minutes = minutes;
    }
    let notes = checks.optional("notes", wish.notes.as_deref(), 2_000);
    checks.finish()?;
    let (name, email, phone) = (wish.name.as_deref(), wish.email.as_deref(), wish.phone.as_deref());
    let is_given = |text: Option<&str>| text.is_some_and(|text| !text.trim().is_empty());
    let named = [name, email, phone].into_iter().any(is_given);
    let details = if named { Some(Details::check(name, email, phone, None)?) } else { None };
    if let Some(agent) = wish.agent_id {
        store::agent::get(&app.table, caller.workspace_id, agent).await?;
    }
    let guest = Guest {
        agent_id: wish.agent_id,
        conversation_id: None,
        source: Source::Team,
        giver: Giver::Team,
        actor: caller.actor(),
        details,
        notes,
    };
    match enter(app, &hours, start, !wish.outside_hours, &guest).await? {
        Entered::Booked(draft) => {
            count_mail(app, caller, &draft.value, counted).await?;
            Ok(*draft)
        }
        Entered::Not(why) => Err(refusal(why, &hours.body)),
    }
}

/// The owner's hours; where they need not be kept, there may be none.
async fn hours_for(app: &App, caller: &Caller, outside_hours: bool) -> Result<Versioned<Availability>> {
    let (workspace, provider) = (caller.workspace_id, caller.owner_user_id);
    match store::appointment::availability(&app.table, workspace, provider).await? {
        Some(availability) => Ok(availability),
        None if outside_hours => Ok(Versioned { body: Availability::unset(workspace, provider, app.now()), v: 0 }),
        None => Err(Error::new(Code::AvailabilityMissing)),
    }
}

/// Counts the mail to a guest that somebody of the team is about to have us send: a workspace must not be able to fill
/// anybody's mailbox, nor to write to the whole world by booking.
async fn count_mail(app: &App, caller: &Caller, appointment: &Appointment, counted: &Counted) -> Result<()> {
    let Some(email) = appointment.email.as_deref().filter(|_| appointment.end > app.now()) else { return Ok(()) };
    if counted.is_done() {
        return Ok(());
    }
    let workspace = appointment.workspace_id.text();
    let of_a_day = match mail_limit::may_mail_many(app, caller).await? {
        true => RateClass::GuestMailDay,
        false => RateClass::GuestMailDayFree,
    };
    let to_one = "So many appointments were mailed to that address today that no more are. Leave the e-mail out, or go on \
                  tomorrow.";
    let to_all =
        "So many guests were mailed of appointments today that no more are. Leave the e-mail out, or go on tomorrow.";
    let one = sha256_hex(format!("{workspace} {email}"));
    counted.count(app, [(RateClass::GuestMail, one, to_one), (of_a_day, workspace, to_all)]).await
}

fn read_start(text: &str, availability: &Availability) -> Result<Time> {
    let zone = &availability.timezone;
    match When::read(text, &availability.zone()?) {
        // Who means the second of two can write the offset.
        Some(When::At(start) | When::Twice(start, _)) => Ok(start),
        Some(When::LeftOut(_)) => {
            let message = format!("The clocks of {zone} skip that time on that day.");
            Err(Error::field("start", "left_out", message))
        }
        Some(When::On(_)) | None => {
            let message =
                format!("start must be a moment such as 2040-03-05T10:00 (of {zone}) or 2040-03-05T10:00:00Z");
            Err(Error::field("start", "invalid", message))
        }
    }
}

fn refusal(why: Unbookable, availability: &Availability) -> Error {
    let otherwise = "Choose one of GET /api/agents/{id}/slots, or say outside_hours.";
    match why {
        Unbookable::Taken => Error::new(Code::SlotTaken),
        Unbookable::TooSoon => {
            let notice = availability.minimum_notice_minutes;
            Error::field(
                "start",
                "too_soon",
                format!("That is over, or within the notice of {notice} minutes. {otherwise}"),
            )
        }
        Unbookable::TooFar => {
            let days = availability.days_ahead;
            Error::field("start", "too_far", format!("Slots can be booked {days} days ahead. {otherwise}"))
        }
        Unbookable::OutsideHours => Error::field("start", "outside_hours", format!("No slot begins then. {otherwise}")),
    }
}

/// Moves an appointment, as long as it is.
///
/// # Errors
/// `not_found`, `appointment.state`, `validation_error`, `appointment.slot_taken`.
pub async fn reschedule(
    app: &App,
    caller: &Caller,
    id: Id<Appointment>,
    (start, outside_hours): (&str, bool),
    counted: &Counted,
) -> Result<Draft<Appointment>> {
    let found = store::appointment::get(&app.table, caller.workspace_id, id).await?;
    let (mut appointment, v) = (found.body, found.v);
    let mut hours = hours_for(app, caller, outside_hours).await?;
    let start = read_start(start, &hours.body)?;
    let length = u32::try_from(appointment.end.since(appointment.start).as_secs() / 60);
    hours.body.duration_minutes = length.unwrap_or(hours.body.duration_minutes);
    let slot = hours.body.slot(start);
    let held = hours.body.held(slot);
    let (workspace, provider) = (appointment.workspace_id, appointment.provider_id);
    let mut calendar = Calendar::read(&app.table, workspace, provider, &[appointment.held, held]).await?;
    appointment.move_to(slot, held, &caller.actor(), app.now())?;
    if let Some(why) = why_not(app, &hours.body, (slot, held), &calendar.busy(Some(id)), !outside_hours)? {
        return Err(refusal(why, &hours.body));
    }
    count_mail(app, caller, &appointment, counted).await?;
    calendar.release(id);
    calendar.take(id, held)?;
    let mut unit = Unit::new();
    if !outside_hours {
        store::appointment::ensure_unchanged(&mut unit, &hours);
    }
    calendar.write(&mut unit)?;
    store::appointment::replace(&mut unit, &appointment, v)?;
    emit(&mut unit, &app.events().appointment(kind::APPOINTMENT_RESCHEDULED, &appointment))?;
    Ok(Draft::new(unit, appointment))
}

/// Cancels an appointment; its time is free again.
///
/// # Errors
/// `not_found`, `appointment.state`, `validation_error`.
pub async fn cancel(
    app: &App,
    caller: &Caller,
    id: Id<Appointment>,
    reason: Option<&str>,
) -> Result<Draft<Appointment>> {
    let mut checks = Checks::new();
    let reason = checks.optional("reason", reason, 500);
    checks.finish()?;
    let found = store::appointment::get(&app.table, caller.workspace_id, id).await?;
    let (mut appointment, v) = (found.body, found.v);
    appointment.cancel(reason, &caller.actor(), app.now())?;
    let (workspace, provider) = (appointment.workspace_id, appointment.provider_id);
    let mut calendar = Calendar::read(&app.table, workspace, provider, &[appointment.held]).await?;
    calendar.release(id);
    let mut unit = Unit::new();
    calendar.write(&mut unit)?;
    store::appointment::replace(&mut unit, &appointment, v)?;
    emit(&mut unit, &app.events().appointment(kind::APPOINTMENT_CANCELLED, &appointment))?;
    Ok(Draft::new(unit, appointment))
}

/// Says what became of an appointment that began: it took place, or nobody came.
///
/// # Errors
/// `not_found`, `appointment.state`, `validation_error` before it began.
pub async fn finish(app: &App, caller: &Caller, id: Id<Appointment>, came: bool) -> Result<Draft<Appointment>> {
    let found = store::appointment::get(&app.table, caller.workspace_id, id).await?;
    let (mut appointment, v) = (found.body, found.v);
    let (status, kind) = match came {
        true => (Status::Completed, kind::APPOINTMENT_COMPLETED),
        false => (Status::NoShow, kind::APPOINTMENT_NO_SHOW),
    };
    appointment.finish(status, &caller.actor(), app.now())?;
    let mut unit = Unit::new();
    store::appointment::replace(&mut unit, &appointment, v)?;
    emit(&mut unit, &app.events().appointment(kind, &appointment))?;
    Ok(Draft::new(unit, appointment))
}

/// One appointment; for a client, of an agent whose leads are granted to them.
///
/// # Errors
/// `not_found`, `scope_missing`.
pub async fn find(app: &App, caller: &Caller, id: Id<Appointment>) -> Result<Appointment> {
    let found = store::appointment::get(&app.table, caller.workspace_id, id).await?.body;
    if caller.role == Role::Client {
        let agent = found.agent_id.ok_or_else(Error::not_found)?;
        client::ensure_granted(app, caller, agent, GrantScope::Leads).await?;
    }
    Ok(found)
}

/// Which appointments are listed.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Those that begin then or later; now when absent.
    pub from: Option<Time>,
    /// Those that begin before then.
    pub until: Option<Time>,
    /// Those that stand so.
    pub status: Option<Status>,
    /// Those of an agent.
    pub agent_id: Option<Id<Agent>>,
}

/// A page of appointments by their start, the earliest first; for a client those of the agents whose leads are granted to
/// them.
///
/// # Errors
/// `validation_error`, and for clients `not_found` or `scope_missing`.
pub async fn list(
    app: &App,
    caller: &Caller,
    wish: &List,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Appointment>> {
    let from = wish.from.unwrap_or_else(|| app.now());
    let mut checks = Checks::new();
    let in_order = wish.until.is_none_or(|until| from <= until);
    checks.ensure(in_order, "to", "out_of_range", "to may not lie before from");
    checks.finish()?;
    let agents = match wish.agent_id {
        Some(agent) => {
            client::ensure_granted(app, caller, agent, GrantScope::Leads).await?;
            Some(vec![agent])
        }
        None if caller.role == Role::Client => Some(granted(app, caller).await?),
        None => None,
    };
    let filter = Filter { from, until: wish.until, status: wish.status, agents };
    store::appointment::page(&app.table, caller.workspace_id, &filter, after, limit).await
}

/// The agents whose leads are granted to a client.
async fn granted(app: &App, caller: &Caller) -> Result<Vec<Id<Agent>>> {
    let agents = client::looked_after(app, caller).await?;
    if agents.is_empty() {
        return Err(Error::not_found());
    }
    let with_leads = agents.iter().filter(|(_, scopes)| scopes.contains(&GrantScope::Leads));
    let agents: Vec<Id<Agent>> = with_leads.map(|(agent, _)| agent.id).collect();
    if agents.is_empty() { Err(Error::new(Code::ScopeMissing)) } else { Ok(agents) }
}

/// An appointment as a file for calendars: of the team, so with who comes and what it is about.
///
/// # Errors
/// When the table cannot be read.
pub async fn file(app: &App, appointment: &Appointment) -> Result<String> {
    let workspace = store::workspace::get(&app.table, appointment.workspace_id).await?.body;
    let host = appointment_mail::host_of(app);
    let said = [&appointment.name, &appointment.email, &appointment.phone, &appointment.notes];
    let description = said.into_iter().flatten().cloned().collect::<Vec<_>>().join("\n");
    let invite = Invite {
        method: Method::Publish,
        appointment,
        times: (appointment.start, appointment.end, appointment.sequence),
        organizer: (&workspace.name, &format!("no-reply@{host}")),
        attendees: &[],
        description: &description,
        host: &host,
        now: app.now(),
    };
    Ok(invite.to_ics())
}

/// The person who is met.
///
/// # Errors
/// `not_found` when they are gone, or the table cannot be read.
pub(super) async fn provider(app: &App, appointment: &Appointment) -> Result<User> {
    store::user::get(&app.table, appointment.provider_id).await?.ok_or_else(Error::not_found)
}
