//! The tool `schedule_appointment`: it books where the owner said when they can be met, and records the wish where not.
//!
//! The booking is part of the call's own transaction (see [`super::tools`]): it happens once, and of two visitors who want
//! the same slot one is told what else is free.

mod words;

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tools::{Place, Told};
use crate::access::RateClass;
use crate::app::App;
use crate::app::appointment::{self, Entered, Guest};
use crate::app::lead::Giver;
use crate::domain::agent::Snapshot;
use crate::domain::language::Lang;
use crate::domain::lead::Details;
use crate::domain::scheduling::{Source, Stretch, When, first_moment, iso, spoken};
use crate::domain::text::shorten;
use crate::domain::tool::Builtin;
use crate::domain::{Appointment, Availability, Conversation};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Result, Time};
use crate::store;
use crate::table::{Unit, Versioned};

/// How many appointments one conversation may book, so that nobody fills a calendar by chatting.
const MAX_BOOKED: u32 = 5;
/// How many free slots the model is told of when it asks for them, and when a wish cannot be met.
const ASKED: usize = 12;
const OTHERS: usize = 6;
/// How many of them the message for the visitor names.
const NAMED: usize = 4;

/// What the model asks for.
#[derive(Deserialize)]
pub(super) struct Given {
    #[serde(default)]
    action: Action,
    when: String,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    notes: Option<String>,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    #[default]
    Book,
    FindSlots,
}

/// Where the agent's appointments take place, if it makes any. A turn goes on without.
pub(super) async fn zone(app: &App, snapshot: &Snapshot) -> Option<TimeZone> {
    snapshot.tools.iter().find(|tool| tool.tool == Builtin::ScheduleAppointment)?;
    let hours = store::appointment::cached_availability(&app.table, snapshot.workspace_id).await;
    let zone = hours.and_then(|hours| hours.map(|hours| hours.zone()).transpose());
    zone.unwrap_or_else(|error| {
        tracing::warn!(%error, "the zone of appointments is not known to a turn");
        None
    })
}

/// The writes of a call, and what the model is told.
pub(super) async fn schedule(app: &App, place: Place<'_>, lang: Lang, given: Given) -> Result<(Unit, Told)> {
    let head = place.conversation;
    let Some(hours) = appointment::of_workspace(app, head.workspace_id).await? else {
        return Ok((Unit::new(), wish(&given, lang)));
    };
    let availability = &hours.body;
    let read = When::read(&given.when, &availability.zone()?);
    if given.action == Action::FindSlots {
        let told = offer(app, availability, read, lang, "").await?;
        return Ok((Unit::new(), Told { ok: true, ..told }));
    }
    if let Some(known) = booked_here(app, head, availability, read).await? {
        return Ok((Unit::new(), told(&known, true, lang)?));
    }
    let why = match read {
        Some(When::At(start)) => match book(app, (head, lang), &hours, start, &given).await? {
            Ok(booked) => return Ok(booked),
            Err(why) => why,
        },
        // Which of the two is meant, the visitor says.
        Some(When::Twice(..)) => words::twice(lang).into(),
        Some(When::LeftOut(_)) => words::left_out(lang).into(),
        Some(When::On(_)) => words::no_time(lang).into(),
        None => words::unclear(lang).into(),
    };
    Ok((Unit::new(), offer(app, availability, read, lang, &why).await?))
}

/// Records the wish; the stored call is the record, and its event tells the owner.
fn wish(given: &Given, lang: Lang) -> Told {
    let message = words::recorded(lang);
    let result = json!({
        "recorded": true, "booked": false, "confirmed": false, "when": given.when, "name": given.name,
        "notes": given.notes, "message": message,
    });
    Told { ok: given.action == Action::Book, result }
}

/// What this conversation has booked at that time already. Said again, or called again by a turn that was taken up, it is
/// the visitor's and not taken.
async fn booked_here(
    app: &App,
    head: &Conversation,
    availability: &Availability,
    read: Option<When>,
) -> Result<Option<Appointment>> {
    let starts = match read {
        Some(When::At(start)) => vec![start],
        Some(When::Twice(first, second)) => vec![first, second],
        Some(When::On(_) | When::LeftOut(_)) | None => Vec::new(),
    };
    if starts.is_empty() || store::appointment::count(&app.table, head.workspace_id, head.id).await? == 0 {
        return Ok(None);
    }
    for start in starts {
        if let Some(known) = appointment::booked_in(app, availability, head.id, start).await? {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

/// Books a slot; or says, for the visitor, why not.
async fn book(
    app: &App,
    (head, lang): (&Conversation, Lang),
    hours: &Versioned<Availability>,
    start: Time,
    given: &Given,
) -> Result<Result<(Unit, Told), String>> {
    if store::appointment::count(&app.table, head.workspace_id, head.id).await? >= MAX_BOOKED {
        return Ok(Err(words::too_many_here(lang, MAX_BOOKED)));
    }
    let guest = guest(head, given)?;
    if !may_book(app, head, &guest).await {
        return Ok(Err(words::too_many_today(lang).into()));
    }
    let draft = match appointment::enter(app, hours, start, true, &guest).await? {
        Entered::Booked(draft) => draft,
        Entered::Not(why) => return Ok(Err(words::why_not(lang, why, &hours.body))),
    };
    let (mut unit, booked) = (draft.unit, draft.value);
    store::appointment::add_to_count(&mut unit, head.workspace_id, head.id);
    let told = told(&booked, false, lang)?;
    Ok(Ok((unit, told)))
}

/// What is told of an appointment that is booked now, or was before.
fn told(booked: &Appointment, before: bool, lang: Lang) -> Result<Told> {
    let zone = booked.zone()?;
    let when = format!("{} ({})", spoken(booked.start, &zone, lang), booked.timezone);
    let message = match before {
        true => words::booked_before(lang, &when),
        false => words::booked(lang, &when, booked.email.as_deref()),
    };
    let result = json!({
        "booked": true, "confirmed": true, "already_booked": before, "start": iso(booked.start, &zone),
        "end": iso(booked.end, &zone), "time_zone": booked.timezone, "title": booked.title,
        "location": booked.location, "when": when, "message": message,
    });
    Ok(Told { ok: true, result })
}

/// Whether one more may be booked today: conversations cost a visitor nothing, so neither a calendar nor somebody's mailbox
/// may be filled by beginning many.
async fn may_book(app: &App, head: &Conversation, guest: &Guest) -> bool {
    let details = guest.details.as_ref();
    if let Some(address) = details.and_then(|details| details.email.as_ref().or(details.phone.as_ref())) {
        let subject = sha256_hex(format!("{} {address}", head.workspace_id.text()));
        if app.count_call(RateClass::Booking, &subject).await.is_err() {
            return false;
        }
    }
    app.count_call(RateClass::AgentBooking, &head.agent_id.text()).await.is_ok()
}

/// Who comes: as the model says, else as the visitor's site signed them.
fn guest(head: &Conversation, given: &Given) -> Result<Guest> {
    let known = head.identity.as_ref();
    let said = |given: &Option<String>| given.clone().filter(|text| !text.trim().is_empty());
    let name = said(&given.name).or_else(|| known.and_then(|known| known.name.clone()));
    let email = said(&given.email).or_else(|| known.and_then(|known| known.email.clone()));
    let phone = said(&given.phone).or_else(|| known.and_then(|known| known.phone.clone()));
    let is_known = name.is_some() || email.is_some() || phone.is_some();
    let check = || Details::check(name.as_deref(), email.as_deref(), phone.as_deref(), None);
    Ok(Guest {
        agent_id: Some(head.agent_id),
        conversation_id: Some(head.id),
        source: Source::Agent,
        giver: Giver::Visitor { conversation: Some(head.id), contact: head.contact_id },
        actor: head.agent_id.text(),
        details: if is_known { Some(check()?) } else { None },
        notes: said(&given.notes).map(|notes| shorten(notes.trim(), 500)),
    })
}

/// Free slots: of the day that is asked for, else the nearest ones; from now on when no day is told.
async fn offer(app: &App, availability: &Availability, read: Option<When>, lang: Lang, why: &str) -> Result<Told> {
    let (zone, now) = (availability.zone()?, app.now());
    let most = if why.is_empty() { ASKED } else { OTHERS };
    let free = match read {
        Some(When::At(wish)) => appointment::nearest(app, availability, wish, most).await?,
        Some(When::Twice(first, second)) => {
            let within = Stretch::new(first, second.millis() + 1);
            let mut free = appointment::free(app, availability, within).await?;
            free.retain(|slot| [first, second].contains(&slot.from));
            if free.is_empty() { appointment::nearest(app, availability, first, most).await? } else { free }
        }
        Some(When::On(day) | When::LeftOut(day)) => {
            let within = Stretch { from: first_moment(day, &zone), until: first_moment(day.plus(1), &zone) };
            let mut free = appointment::free(app, availability, within).await?;
            free.truncate(ASKED);
            if free.is_empty() { appointment::nearest(app, availability, within.from, most).await? } else { free }
        }
        None => appointment::nearest(app, availability, now, most).await?,
    };
    let named = free.iter().take(NAMED).map(|slot| spoken(slot.from, &zone, lang)).collect::<Vec<_>>().join("; ");
    let message = if free.is_empty() {
        format!("{why} {}", words::none_free(lang))
    } else {
        format!("{why} {}: {named} ({}). {}", words::free(lang), availability.timezone, words::which(lang))
    };
    let free: Vec<Value> = free.iter().map(|slot| iso(slot.from, &zone).into()).collect();
    let result = json!({
        "booked": false, "free": free, "now": iso(now, &zone), "time_zone": availability.timezone,
        "how_to_book": "Call again with action book and when set to one of free, once the visitor chose it.",
        "message": message.trim(),
    });
    Ok(Told { ok: false, result })
}
