//! The secret that a site signs its users with, and the contacts that signed users are.

use super::agent::edit;
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::agent::SecretField;
use crate::domain::identity::Identified;
use crate::domain::{Agent, Contact, Workspace};
use crate::kernel::{Code, Error, Id, Result, Secret};
use crate::store;
use crate::table::Unit;

/// How often a contact is read again when somebody else wrote it at the same time.
const TRIES: u32 = 5;

/// Makes an agent's identity secret, or another in its place; the old one ends at once.
///
/// # Errors
/// `not_found`.
pub async fn rotate(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Draft<Secret>> {
    let mut editing = edit(app, caller, agent).await?;
    let secret = Secret::new(format!("idsec_{}", app.rng.text(48)));
    let place = Agent::secret_place(caller.workspace_id, agent, SecretField::Identity);
    let sealed = app.seal(&place, &secret).await?;
    let mut unit = Unit::new();
    store::agent::put_secret(&mut unit, &editing.agent.body, SecretField::Identity, Some(sealed.clone()))?;
    editing.agent.body.has_identity_secret = true;
    editing.secrets.identity = Some(sealed);
    Ok(Draft::new(editing.save(app, unit)?.unit, secret))
}

/// Removes an agent's identity secret: from then on no identity is believed.
///
/// # Errors
/// `not_found`.
pub async fn remove(app: &App, caller: &Caller, agent: Id<Agent>) -> Result<Draft<()>> {
    let mut editing = edit(app, caller, agent).await?;
    let mut unit = Unit::new();
    store::agent::put_secret(&mut unit, &editing.agent.body, SecretField::Identity, None)?;
    editing.agent.body.has_identity_secret = false;
    editing.secrets.identity = None;
    Ok(Draft::new(editing.save(app, unit)?.unit, ()))
}

/// The contact of a signed user, made or brought up to date.
///
/// # Errors
/// When the table cannot be read or written.
pub async fn contact(
    app: &App,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    identity: &Identified,
) -> Result<Id<Contact>> {
    for _ in 0..TRIES {
        let (unit, contact) = save(app, workspace, agent, identity).await?;
        match app.commit(unit).await.map_err(Error::from) {
            Ok(()) => return Ok(contact),
            Err(error) if error.code() == Code::ConcurrentChange => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Code::Unavailable).retry_after(1))
}

/// What makes the contact what the identity says. The name follows it. E-mail and phone are not signed: they fill blanks,
/// and never make this the contact who has them already, since anybody's page may say anybody's address.
async fn save(
    app: &App,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    identity: &Identified,
) -> Result<(Unit, Id<Contact>)> {
    let (table, now) = (&app.table, app.now());
    let (email, phone) = (identity.email.as_deref(), identity.phone.as_deref());
    let known = store::contact::of_user(table, workspace, agent, &identity.user_id).await?;
    let mut unit = Unit::new();
    let Some(known) = known else {
        let mut contact = Contact {
            id: app.ids().id(),
            workspace_id: workspace,
            name: identity.name.clone(),
            email: None,
            phone: None,
            user_id: Some(identity.user_id.clone()),
            whatsapp: Vec::new(),
            made_in: None,
            created_at: now,
            updated_at: now,
        };
        let (phone, email) = store::contact::unheld(table, &contact, phone, email).await?;
        contact.fill_blanks(None, email, phone, now);
        store::contact::create(&mut unit, &contact, None)?;
        store::contact::guard_user(table, &mut unit, &contact, agent, &identity.user_id).await?;
        return Ok((unit, contact.id));
    };
    let (before, v) = (known.body.clone(), known.v);
    let mut contact = known.body;
    let (phone, email) = store::contact::unheld(table, &contact, phone, email).await?;
    let filled = contact.fill_blanks(None, email, phone, now);
    let renamed = identity.name.is_some() && identity.name != contact.name;
    if renamed {
        contact.name.clone_from(&identity.name);
        contact.updated_at = now;
    }
    // Theirs, and no longer the visitor's who may have named them first.
    let is_claimed = contact.made_in.take().is_some();
    if filled || renamed || is_claimed {
        store::contact::replace(&mut unit, &contact, (&before, v), None)?;
    }
    Ok((unit, contact.id))
}
