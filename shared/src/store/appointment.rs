//! When owners can be met, what is held of their days, and appointments.
//!
//! Who books reads the days that the appointment touches and changes them by their versions, in the transaction that
//! writes the appointment: no two can take the same time, and nothing is scanned to see whether it is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::keys;
use crate::domain::scheduling::{Booking, BusyDay, Status, Stretch};
use crate::domain::{Agent, Appointment, Availability, Conversation, User, Workspace};
use crate::kernel::{Code, Cursor, Day, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Key, Query, Row, Table, Unit, Update, Versioned, decode, decode_versioned};

/// How long what was held of a day is kept after it.
const KEPT: Duration = Duration::from_secs(35 * 24 * 3600);
/// How many days one look for free slots may take in.
const MAX_DAYS: usize = 400;
/// How many appointments one read of a filtered list takes, and how many reads a page may cost.
const CHUNK: usize = 100;
const MAX_READS: usize = 10;

/// When somebody can be met, if they said so.
///
/// # Errors
/// When the table cannot be read.
pub async fn availability(
    table: &Table,
    workspace: Id<Workspace>,
    provider: Id<User>,
) -> Result<Option<Versioned<Availability>>> {
    table.get_versioned(&keys::availability(workspace, provider)).await
}

/// When the owner of a workspace can be met, cached: for what every turn tells, and no booking goes by.
///
/// # Errors
/// When the table cannot be read.
pub async fn cached_availability(table: &Table, id: Id<Workspace>) -> Result<Option<Arc<Availability>>> {
    match table.get_cached::<Workspace>(&keys::workspace(id)).await? {
        Some(workspace) => table.get_cached(&keys::availability(id, workspace.owner_user_id)).await,
        None => Ok(None),
    }
}

/// Says when somebody can be met, in place of what was read at version `v`, if there was something.
///
/// # Errors
/// When it does not serialise.
pub fn set_availability(unit: &mut Unit, availability: &Availability, v: Option<u64>) -> Result<()> {
    let key = keys::availability(availability.workspace_id, availability.provider_id);
    let row = Row::new(key, "availability", availability)?;
    match v {
        Some(v) => unit.replace(row, v),
        None => unit.create_fresh(row),
    };
    Ok(())
}

/// Demands that somebody's hours are still what was read. If they changed meanwhile, the command is run
/// again with the new ones.
pub fn ensure_unchanged(unit: &mut Unit, availability: &Versioned<Availability>) {
    let key = keys::availability(availability.body.workspace_id, availability.body.provider_id);
    unit.check(key, Cond::version(availability.v), Error::new(Code::ConcurrentChange));
}

/// What is held of somebody's days that a stretch touches.
///
/// # Errors
/// When the table cannot be read, or the stretch is too long.
pub async fn busy(
    table: &Table,
    workspace: Id<Workspace>,
    provider: Id<User>,
    within: Stretch,
) -> Result<Vec<Stretch>> {
    let (first, last) = (Day::of(within.from), Day::of(within.until));
    let pk = keys::busy_days(workspace, provider);
    let query = Query::between(Index::Main, pk, keys::busy_day_sk(first), keys::busy_day_sk(last));
    let mut held = Vec::new();
    for item in table.all(&query, MAX_DAYS).await? {
        held.extend(decode::<BusyDay>(item)?.bookings.iter().map(Booking::held));
    }
    Ok(held)
}

/// Some days of somebody's, to take time of them or give it back.
#[derive(Debug)]
pub struct Calendar {
    workspace: Id<Workspace>,
    provider: Id<User>,
    days: BTreeMap<Day, Sheet>,
}

#[derive(Debug, Default)]
struct Sheet {
    bookings: Vec<Booking>,
    v: Option<u64>,
    is_changed: bool,
}

impl Calendar {
    /// Reads the days that some stretches touch.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn read(
        table: &Table,
        workspace: Id<Workspace>,
        provider: Id<User>,
        touched: &[Stretch],
    ) -> Result<Self> {
        let days = touched.iter().flat_map(|stretch| stretch.days());
        let mut days: BTreeMap<Day, Sheet> = days.map(|day| (day, Sheet::default())).collect();
        let keys: Vec<Key> = days.keys().map(|day| keys::busy_day(workspace, provider, *day)).collect();
        for item in table.batch_get(&keys).await? {
            let Versioned { body, v } = decode_versioned::<BusyDay>(item)?;
            days.insert(body.day, Sheet { bookings: body.bookings, v: Some(v), is_changed: false });
        }
        Ok(Self { workspace, provider, days })
    }

    /// What is held, but for one appointment's own.
    #[must_use]
    pub fn busy(&self, except: Option<Id<Appointment>>) -> Vec<Stretch> {
        let bookings = self.days.values().flat_map(|sheet| &sheet.bookings);
        bookings.filter(|booking| Some(booking.appointment_id) != except).map(Booking::held).collect()
    }

    /// What holds a moment; nothing else can, since no two overlap.
    #[must_use]
    pub fn holder(&self, at: Time) -> Option<Id<Appointment>> {
        let mut bookings = self.days.values().flat_map(|sheet| &sheet.bookings);
        bookings.find(|booking| booking.from <= at && at < booking.until).map(|booking| booking.appointment_id)
    }

    /// Gives back what an appointment holds.
    pub fn release(&mut self, appointment: Id<Appointment>) {
        for sheet in self.days.values_mut() {
            let before = sheet.bookings.len();
            sheet.bookings.retain(|booking| booking.appointment_id != appointment);
            sheet.is_changed |= sheet.bookings.len() != before;
        }
    }

    /// Takes a stretch for an appointment.
    ///
    /// # Errors
    /// When a day of it was not read.
    pub fn take(&mut self, appointment_id: Id<Appointment>, held: Stretch) -> Result<()> {
        for day in held.days() {
            let sheet = self.days.get_mut(&day).ok_or_else(|| Error::internal("a day that was not read is taken"))?;
            sheet.bookings.push(Booking { appointment_id, from: held.from, until: held.until });
            sheet.bookings.sort_by_key(|booking| booking.from);
            sheet.is_changed = true;
        }
        Ok(())
    }

    /// Writes the days that changed. If somebody else changed one meanwhile, the command is run again.
    ///
    /// # Errors
    /// When one does not serialise.
    pub fn write(self, unit: &mut Unit) -> Result<()> {
        for (day, sheet) in self.days.into_iter().filter(|(_, sheet)| sheet.is_changed) {
            let body = BusyDay { workspace_id: self.workspace, day, bookings: sheet.bookings };
            let row = Row::new(keys::busy_day(self.workspace, self.provider, day), "busy_day", &body)?;
            let row = row.ttl(day.end() + KEPT);
            match sheet.v {
                Some(v) => unit.replace(row, v),
                None => unit.create_fresh(row),
            };
        }
        Ok(())
    }
}

fn row(appointment: &Appointment) -> Result<Row> {
    let Appointment { id, workspace_id, start, .. } = *appointment;
    let row = Row::new(keys::appointment(workspace_id, id), "appointment", appointment)?;
    Ok(row.gsi1(keys::appointments(workspace_id), keys::appointment_position(start, id)))
}

/// Adds a new appointment.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, appointment: &Appointment) -> Result<()> {
    unit.create_fresh(row(appointment)?);
    Ok(())
}

/// Replaces an appointment that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, appointment: &Appointment, v: u64) -> Result<()> {
    unit.replace(row(appointment)?, v);
    Ok(())
}

/// One appointment.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn get(
    table: &Table,
    workspace: Id<Workspace>,
    appointment: Id<Appointment>,
) -> Result<Versioned<Appointment>> {
    table.get_versioned(&keys::appointment(workspace, appointment)).await?.ok_or_else(Error::not_found)
}

/// How many appointments were booked in a conversation.
///
/// # Errors
/// When the table cannot be read.
pub async fn count(table: &Table, workspace: Id<Workspace>, conversation: Id<Conversation>) -> Result<u32> {
    #[derive(Deserialize)]
    struct Count {
        n: u32,
    }
    let count = table.get::<Count>(&keys::appointment_count(workspace, conversation)).await?;
    Ok(count.map_or(0, |count| count.n))
}

/// Counts one more.
pub fn add_to_count(unit: &mut Unit, workspace: Id<Workspace>, conversation: Id<Conversation>) {
    unit.upsert(Update::new(keys::appointment_count(workspace, conversation)).add("n", 1));
}

/// Which appointments are listed.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Those that begin then or later.
    pub from: Time,
    /// Those that begin before then.
    pub until: Option<Time>,
    /// Those that stand so.
    pub status: Option<Status>,
    /// Those of these agents.
    pub agents: Option<Vec<Id<Agent>>>,
}

impl Filter {
    fn wants(&self, appointment: &Appointment) -> bool {
        let of_agent = |agents: &Vec<Id<Agent>>| appointment.agent_id.is_some_and(|agent| agents.contains(&agent));
        self.status.is_none_or(|status| appointment.status == status) && self.agents.as_ref().is_none_or(of_agent)
    }
}

/// A page of a workspace's appointments by their start, the earliest first. Where few of many are wanted it may be short,
/// and there is more behind it all the same.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(
    table: &Table,
    workspace: Id<Workspace>,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Appointment>> {
    let (from, until) = (keys::moment(filter.from), filter.until.map_or_else(|| "~".to_owned(), keys::moment));
    let query = Query::between(Index::Gsi1, keys::appointments(workspace), from, until);
    let is_filtered = filter.status.is_some() || filter.agents.is_some();
    let chunk = if is_filtered { CHUNK } else { limit.get() };
    let (mut items, mut after): (Vec<Appointment>, _) = (Vec::new(), after.cloned());
    for _ in 0..MAX_READS {
        let rows = table.query(&query.clone().after(after.as_ref()), chunk).await?;
        after = rows.more_after.map(|position| Cursor { position });
        for item in rows.items {
            let appointment: Appointment = decode(item)?;
            match items.last().filter(|_| items.len() == limit.get()) {
                _ if !filter.wants(&appointment) => {}
                Some(last) => {
                    let position = keys::appointment_position(last.start, last.id);
                    return Ok(Page { items, next: Some(Cursor { position }), total: None });
                }
                None => items.push(appointment),
            }
        }
        if after.is_none() || !is_filtered {
            break;
        }
    }
    Ok(Page { items, next: after, total: None })
}
