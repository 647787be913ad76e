//! Who writes, when the message says so: the signature is checked, and the user is known as a contact before the message
//! is stored. A message that says nothing, or nothing new, costs nothing here.

use super::Incoming;
use super::load::Scene;
use crate::app::{App, identity};
use crate::domain::Contact;
use crate::domain::agent::{Agent, SecretField};
use crate::domain::identity::Identified;
use crate::kernel::{Code, Error, Id, Result};

/// A user whom the conversation does not know yet, or not so.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Their contact.
    pub(super) contact_id: Id<Contact>,
    /// Who they are.
    pub(super) identity: Identified,
}

pub(super) async fn identify(app: &App, scene: &Scene, incoming: &Incoming) -> Result<Option<Known>> {
    let Some(claim) = &incoming.identity else { return Ok(None) };
    let snapshot = &scene.snapshot;
    let Some(sealed) = &snapshot.identity_secret else {
        let message = "The agent has no identity secret, so it believes no identity. Make one with POST \
                       /api/agents/{id}/identity-secret and sign user_id with it.";
        return Err(Error::with_message(Code::IdentityRefused, message));
    };
    let place = Agent::secret_place(snapshot.workspace_id, snapshot.agent_id, SecretField::Identity);
    let secret = app.keys().await?.seal.open_text(&place, sealed)?;
    let identity = claim.proven_by(&secret).ok_or_else(|| Error::new(Code::IdentityRefused))?;
    match scene.thread.as_ref().and_then(|thread| thread.head.identity.as_ref()) {
        Some(known) if known == identity => return Ok(None),
        Some(known) if known.user_id != identity.user_id => return Err(Error::new(Code::IdentityOtherUser)),
        _ => {}
    }
    let contact_id = identity::contact(app, snapshot.workspace_id, snapshot.agent_id, identity).await?;
    Ok(Some(Known { contact_id, identity: identity.clone() }))
}
