//! Contacts and the guards that find them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::contact::{WHATSAPP_USER, WhatsappUser};
use crate::domain::lead::Details;
use crate::domain::{Agent, Contact, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Cond, Key, Row, Table, Unit, Versioned};

#[derive(Serialize, Deserialize)]
struct Guard {
    contact_id: Id<Contact>,
}

/// The contact that these details belong to: by phone, else by e-mail.
///
/// # Errors
/// When the table cannot be read.
pub async fn find(table: &Table, workspace: Id<Workspace>, details: &Details) -> Result<Option<Versioned<Contact>>> {
    let by_phone = details.phone.as_deref().map(|phone| keys::contact_phone(workspace, phone));
    let by_email = details.email.as_deref().map(|email| keys::contact_email(workspace, email));
    for key in [by_phone, by_email].into_iter().flatten() {
        if let Some(guard) = table.get::<Guard>(&key).await? {
            return table.get_versioned(&keys::contact(workspace, guard.contact_id)).await;
        }
    }
    Ok(None)
}

/// The phone and e-mail that this contact may take: what it lacks and no other contact holds.
///
/// # Errors
/// When the table cannot be read.
pub async fn unheld<'a>(
    table: &Table,
    contact: &Contact,
    phone: Option<&'a str>,
    email: Option<&'a str>,
) -> Result<(Option<&'a str>, Option<&'a str>)> {
    let (mut phone, mut email) = (phone.filter(|_| contact.phone.is_none()), email.filter(|_| contact.email.is_none()));
    if let Some(digits) = phone {
        let holder = table.get::<Guard>(&keys::contact_phone(contact.workspace_id, digits)).await?;
        phone = phone.filter(|_| holder.is_none());
    }
    if let Some(address) = email {
        let holder = table.get::<Guard>(&keys::contact_email(contact.workspace_id, address)).await?;
        email = email.filter(|_| holder.is_none());
    }
    Ok((phone, email))
}

/// Adds a new contact with its guards. Somebody else taking the same number at once makes the command run again. A phone
/// that a `former` contact has goes over from it.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, contact: &Contact, former: Option<&Versioned<Contact>>) -> Result<()> {
    unit.create_fresh(Row::new(keys::contact(contact.workspace_id, contact.id), "contact", contact)?);
    guard(unit, contact, (contact.phone.as_deref(), contact.email.as_deref()), former)
}

/// Replaces a contact that was read at version `v`, guarding what is new on it. A new phone that a `former` contact has goes
/// over from it.
///
/// # Errors
/// When it does not serialise.
pub fn replace(
    unit: &mut Unit,
    contact: &Contact,
    (before, v): (&Contact, u64),
    former: Option<&Versioned<Contact>>,
) -> Result<()> {
    unit.replace(Row::new(keys::contact(contact.workspace_id, contact.id), "contact", contact)?, v);
    let new = |now: &Option<String>, before: &Option<String>| now.clone().filter(|_| before.is_none());
    let (phone, email) = (new(&contact.phone, &before.phone), new(&contact.email, &before.email));
    guard(unit, contact, (phone.as_deref(), email.as_deref()), former)
}

/// The contact whom a site that this agent answers on calls by this id.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_user(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    user_id: &str,
) -> Result<Option<Versioned<Contact>>> {
    match table.get::<Guard>(&keys::contact_user(workspace, agent, user_id)).await? {
        Some(guard) => table.get_versioned(&keys::contact(workspace, guard.contact_id)).await,
        None => Ok(None),
    }
}

/// Notes whom a site calls by this id. The unit must demand that the contact exists. What was noted of one who is gone
/// gives way.
///
/// # Errors
/// When the table cannot be read.
pub async fn guard_user(
    table: &Table,
    unit: &mut Unit,
    contact: &Contact,
    agent: Id<Agent>,
    user_id: &str,
) -> Result<()> {
    let workspace = contact.workspace_id;
    let key = keys::contact_user(workspace, agent, user_id);
    let mut free = Cond::new_item();
    if let Some(Guard { contact_id }) = table.get(&key).await?
        && table.get::<Contact>(&keys::contact(workspace, contact_id)).await?.is_none()
    {
        free = free.or(Cond::eq("contact_id", contact_id));
    }
    let row = Row::new(key, "contact_guard", &Guard { contact_id: contact.id })?;
    unit.put_if(row, free, Error::new(Code::ConcurrentChange));
    Ok(())
}

/// As whom a contact is known from now on.
#[derive(Debug, Clone, Copy)]
pub struct Renaming<'a> {
    /// What Meta calls them; `None` when that is not known yet.
    pub user: Option<&'a str>,
    /// Their number; `None` when they hide it.
    pub phone: Option<&'a str>,
    /// The number that is theirs no more.
    pub former_phone: Option<&'a str>,
}

/// Knows a contact, read at version `v`, by another user id and another phone, which goes over from whoever has it. What found
/// it by the former ones finds it no more.
///
/// # Errors
/// When the table cannot be read.
pub async fn rename(
    table: &Table,
    unit: &mut Unit,
    Versioned { body: before, v }: &Versioned<Contact>,
    agent: Id<Agent>,
    names: Renaming<'_>,
    now: Time,
) -> Result<()> {
    let workspace = before.workspace_id;
    let mut contact = Contact { updated_at: now, ..before.clone() };
    // What a site calls them stays.
    let own = before.user_id.as_ref().filter(|name| name.starts_with(WHATSAPP_USER));
    let here = before.whatsapp.iter().filter(|known| known.agent_id == agent).map(|known| &known.user_id);
    let former: BTreeSet<&String> = own.into_iter().chain(here).collect();
    let mut former: Vec<Key> = former.into_iter().map(|name| keys::contact_user(workspace, agent, name)).collect();
    contact.whatsapp.retain(|known| known.agent_id != agent);
    if own.is_some() || before.user_id.is_none() {
        let elsewhere = contact.whatsapp.first().map(|known| known.user_id.clone());
        contact.user_id = names.user.map(str::to_owned).or(elsewhere);
    }
    let is_former = |phone: &&str| Some(*phone) == names.former_phone;
    let phone = names.phone.or(before.phone.as_deref().filter(|phone| !is_former(phone)));
    if phone != before.phone.as_deref() {
        former.extend(before.phone.iter().map(|old| keys::contact_phone(workspace, old)));
        contact.phone = phone.map(str::to_owned);
    }
    for key in former {
        unguard(table, unit, key, contact.id).await?;
    }
    if let Some(new) = phone.filter(|new| before.phone.as_deref() != Some(new)) {
        take_phone(table, unit, &contact, new).await?;
    }
    if let Some(user) = names.user {
        guard_user(table, unit, &contact, agent, user).await?;
        // By it the guard is found again when they are erased.
        contact.whatsapp.push(WhatsappUser { agent_id: agent, user_id: user.to_owned() });
    }
    unit.replace(Row::new(keys::contact(workspace, contact.id), "contact", &contact)?, *v);
    Ok(())
}

/// Knows a contact, read at version `v`, by this phone, which goes over from whoever has it, or by none. The one before finds
/// it no more.
///
/// # Errors
/// When the table cannot be read.
pub async fn set_phone(
    table: &Table,
    unit: &mut Unit,
    Versioned { body: before, v }: &Versioned<Contact>,
    phone: Option<&str>,
    now: Time,
) -> Result<()> {
    let workspace = before.workspace_id;
    let contact = Contact { phone: phone.map(str::to_owned), updated_at: now, ..before.clone() };
    if let Some(old) = &before.phone {
        unguard(table, unit, keys::contact_phone(workspace, old), contact.id).await?;
    }
    if let Some(new) = phone {
        take_phone(table, unit, &contact, new).await?;
    }
    unit.replace(Row::new(keys::contact(workspace, contact.id), "contact", &contact)?, *v);
    Ok(())
}

/// Has this find the contact no more, if it does.
async fn unguard(table: &Table, unit: &mut Unit, key: Key, contact: Id<Contact>) -> Result<()> {
    if table.get::<Guard>(&key).await?.is_some_and(|guard| guard.contact_id == contact) {
        unit.delete_if(key, Cond::eq("contact_id", contact), Error::new(Code::ConcurrentChange));
    }
    Ok(())
}

/// Has a phone find this contact, whomever it found before: they have it no more.
async fn take_phone(table: &Table, unit: &mut Unit, contact: &Contact, phone: &str) -> Result<()> {
    let workspace = contact.workspace_id;
    let key = keys::contact_phone(workspace, phone);
    let mut free = Cond::new_item();
    if let Some(Guard { contact_id }) = table.get(&key).await? {
        free = Cond::eq("contact_id", contact_id);
        let holder: Option<Versioned<Contact>> = table.get_versioned(&keys::contact(workspace, contact_id)).await?;
        if let Some(Versioned { body, v }) = holder.filter(|holder| holder.body.id != contact.id) {
            let bare = Contact { phone: None, updated_at: contact.updated_at, ..body };
            unit.replace(Row::new(keys::contact(workspace, bare.id), "contact", &bare)?, v);
        }
    }
    let row = Row::new(key, "contact_guard", &Guard { contact_id: contact.id })?;
    unit.put_if(row, free, Error::new(Code::ConcurrentChange));
    Ok(())
}

/// Removes a contact that was read at version `v`, with everything that finds it: phone, e-mail, what Meta calls them, and
/// what sites do, `agents` being those that may answer on one.
///
/// # Errors
/// When the table cannot be read.
pub async fn delete(table: &Table, unit: &mut Unit, contact: &Contact, v: u64, agents: &[Id<Agent>]) -> Result<()> {
    let (workspace, id) = (contact.workspace_id, contact.id);
    unit.delete_if(keys::contact(workspace, id), Cond::version(v), Error::new(Code::ConcurrentChange));
    let mut finds: Vec<Key> = Vec::new();
    finds.extend(contact.phone.iter().map(|phone| keys::contact_phone(workspace, phone)));
    finds.extend(contact.email.iter().map(|email| keys::contact_email(workspace, email)));
    if let Some(user) = &contact.user_id {
        finds.extend(agents.iter().map(|agent| keys::contact_user(workspace, *agent, user)));
    }
    finds.extend(contact.whatsapp.iter().map(|user| keys::contact_user(workspace, user.agent_id, &user.user_id)));
    for key in finds {
        // It may find somebody else by now.
        if !unit.has(&key) && table.get::<Guard>(&key).await?.is_some_and(|guard| guard.contact_id == id) {
            unit.delete(key);
        }
    }
    Ok(())
}

fn guard(
    unit: &mut Unit,
    contact: &Contact,
    (phone, email): (Option<&str>, Option<&str>),
    former: Option<&Versioned<Contact>>,
) -> Result<()> {
    let (workspace, taken) = (contact.workspace_id, || Error::new(Code::ConcurrentChange));
    let row = |key: Key| Row::new(key, "contact_guard", &Guard { contact_id: contact.id });
    if let Some(phone) = phone {
        let mut free = Cond::new_item();
        if let Some(Versioned { body, v }) = former {
            let bare = Contact { phone: None, updated_at: contact.updated_at, ..body.clone() };
            unit.replace(Row::new(keys::contact(workspace, bare.id), "contact", &bare)?, *v);
            free = Cond::eq("contact_id", bare.id);
        }
        unit.put_if(row(keys::contact_phone(workspace, phone))?, free, taken());
    }
    if let Some(email) = email {
        unit.create(row(keys::contact_email(workspace, email))?, taken());
    }
    Ok(())
}
