//! Capturing and listing leads.

use super::{App, Draft, client};
use crate::access::Caller;
use crate::domain::lead::{Details, LeadSource, LeadStatus};
use crate::domain::{Agent, Contact, Conversation, GrantScope, Lead, Workspace};
use crate::events::emit;
use crate::kernel::{Cursor, Error, Id, Limit, Page, Result};
use crate::store;
use crate::table::{Cond, Unit};

/// Where a lead is captured.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// By which agent.
    pub agent_id: Id<Agent>,
    /// In which conversation, if in one.
    pub conversation_id: Option<Id<Conversation>>,
    /// Whom that conversation is with, if its channel or the visitor's site vouches for them.
    pub contact_id: Option<Id<Contact>>,
    /// How.
    pub source: LeadSource,
}

/// Who gives details, and so what they may add to a contact who is known already.
#[derive(Debug, Clone, Copy)]
pub enum Giver {
    /// Somebody of the team, or their program: what is blank is filled.
    Team,
    /// A visitor. They may name anybody's address or number, and that leads to whoever has it. But no address and no
    /// number is added to somebody else's contact by that: only to their own.
    Visitor {
        /// Where they say it, if in a conversation: a contact that was made there is theirs.
        conversation: Option<Id<Conversation>>,
        /// Whom that conversation is known to be with, if that is known.
        contact: Option<Id<Contact>>,
    },
}

impl Giver {
    /// Whether the contact is theirs to add addresses and numbers to.
    fn may_identify(self, contact: &Contact) -> bool {
        match self {
            Self::Team => true,
            Self::Visitor { conversation, contact: own } => {
                own == Some(contact.id) || (conversation.is_some() && contact.made_in == conversation)
            }
        }
    }

    const fn made_in(self) -> Option<Id<Conversation>> {
        match self {
            Self::Team => None,
            Self::Visitor { conversation, .. } => conversation,
        }
    }
}

/// Captures a lead: finds or makes the contact, as [`save_contact`] says, and makes one lead for each contact in a
/// conversation. Captured again there, the lead is completed and nothing is told anew.
///
/// # Errors
/// When the table cannot be read.
pub async fn capture(app: &App, place: Place, details: &Details) -> Result<Draft<Lead>> {
    let mut unit = Unit::new();
    let giver = Giver::Visitor { conversation: place.conversation_id, contact: place.contact_id };
    let contact = save_contact(app, &mut unit, place.workspace_id, details, giver).await?;
    let known = match place.conversation_id {
        Some(conversation) => {
            store::lead::of_conversation(&app.table, place.workspace_id, place.agent_id, conversation, contact).await?
        }
        None => None,
    };
    if let Some(known) = known {
        let mut lead = known.body;
        let complete = |field: &mut Option<String>, given: &Option<String>| {
            *field = given.clone().or_else(|| field.take());
        };
        complete(&mut lead.name, &details.name);
        complete(&mut lead.email, &details.email);
        complete(&mut lead.phone, &details.phone);
        complete(&mut lead.interest, &details.interest);
        store::lead::replace(&mut unit, &lead, known.v)?;
        return Ok(Draft::new(unit, lead));
    }
    let lead = Lead {
        id: app.ids().id(),
        workspace_id: place.workspace_id,
        agent_id: place.agent_id,
        contact_id: contact,
        conversation_id: place.conversation_id,
        name: details.name.clone(),
        email: details.email.clone(),
        phone: details.phone.clone(),
        interest: details.interest.clone(),
        source: place.source,
        status: LeadStatus::New,
        created_at: app.now(),
    };
    store::lead::create(&mut unit, &lead)?;
    emit(&mut unit, &app.events().lead_captured(&lead))?;
    Ok(Draft::new(unit, lead))
}

/// Captures a lead from a public form of the agent behind a slug, in the visitor's conversation when they show its
/// handle.
///
/// # Errors
/// `not_found` for an unknown slug, or a handle that is not of this agent.
pub async fn capture_public(
    app: &App,
    slug: &str,
    handle: Option<&str>,
    source: LeadSource,
    details: &Details,
) -> Result<Draft<Lead>> {
    let snapshot = super::agent::public(app, slug).await?;
    let (workspace_id, agent_id) = (snapshot.workspace_id, snapshot.agent_id);
    let conversation_id = match handle {
        Some(handle) => Some(super::conversation::of_handle(app, (workspace_id, agent_id), handle).await?),
        None => None,
    };
    let place = Place { workspace_id, agent_id, conversation_id, contact_id: None, source };
    let mut draft = capture(app, place, details).await?;
    if let Some(conversation) = conversation_id {
        // One that is erased, or about to be, gets no lead any more.
        let stays = Cond::existing().and(Cond::absent("erasing"));
        draft.unit.check(store::keys::conversation(place.workspace_id, conversation), stays, Error::not_found());
    }
    Ok(draft)
}

/// Finds or makes the contact that these details belong to. Of one that is known only blanks are filled: the name, and
/// what identifies them where whoever gives it may say so.
pub(super) async fn save_contact(
    app: &App,
    unit: &mut Unit,
    workspace: Id<Workspace>,
    details: &Details,
    giver: Giver,
) -> Result<Id<Contact>> {
    let now = app.now();
    let (name, email, phone) = (details.name.as_deref(), details.email.as_deref(), details.phone.as_deref());
    if let Some(found) = store::contact::find(&app.table, workspace, details).await? {
        let (before, v) = (found.body.clone(), found.v);
        let mut contact = found.body;
        let (phone, email) = if giver.may_identify(&contact) { (phone, email) } else { (None, None) };
        let (phone, email) = store::contact::unheld(&app.table, &contact, phone, email).await?;
        contact.fill_blanks(name, email, phone, now);
        // Written also when nothing is new: an erasure of the contact must not miss the lead that comes of this.
        store::contact::replace(unit, &contact, (&before, v), None)?;
        return Ok(contact.id);
    }
    let contact = Contact {
        id: app.ids().id(),
        workspace_id: workspace,
        name: details.name.clone(),
        email: details.email.clone(),
        phone: details.phone.clone(),
        user_id: None,
        whatsapp: Vec::new(),
        made_in: giver.made_in(),
        created_at: now,
        updated_at: now,
    };
    store::contact::create(unit, &contact, None)?;
    Ok(contact.id)
}

/// A page of an agent's leads, newest first; they stay when the agent is deleted.
///
/// # Errors
/// `not_found` when the workspace has and had no such agent.
pub async fn list(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Lead>> {
    client::ensure_granted(app, caller, agent, GrantScope::Leads).await?;
    let page = store::lead::page(&app.table, caller.workspace_id, agent, after, limit).await?;
    if page.items.is_empty() {
        store::agent::get(&app.table, caller.workspace_id, agent).await?;
    }
    Ok(page)
}

/// Says what became of a lead.
///
/// # Errors
/// `not_found`.
pub async fn set_status(
    app: &App,
    caller: &Caller,
    agent: Id<Agent>,
    id: Id<Lead>,
    status: LeadStatus,
) -> Result<Draft<Lead>> {
    let (_, lead) = tokio::try_join!(
        client::ensure_granted(app, caller, agent, GrantScope::Leads),
        store::lead::get(&app.table, caller.workspace_id, agent, id)
    )?;
    let mut lead = lead.ok_or_else(Error::not_found)?;
    lead.body.status = status;
    let mut unit = Unit::new();
    store::lead::replace(&mut unit, &lead.body, lead.v)?;
    Ok(Draft::new(unit, lead.body))
}
