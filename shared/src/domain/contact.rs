//! A person that a workspace's agents talk to.

use serde::{Deserialize, Serialize};

use super::{Agent, Conversation, Workspace};
use crate::kernel::{Id, Time};

/// What the ids begin with by which a contact is known that Meta gave, so that no site's own can be one.
pub const WHATSAPP_USER: &str = "whatsapp:";

/// What Meta calls somebody towards the business of one agent's number: each business portfolio has ids of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatsappUser {
    /// Who answers there.
    pub agent_id: Id<Agent>,
    /// The id, as the guard that finds them by it has it.
    pub user_id: String,
}

/// A person outside, known to the whole workspace. Phone numbers are unique in it; of one e-mail the first wins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contact {
    /// Identity.
    pub id: Id<Contact>,
    /// Whose contact.
    pub workspace_id: Id<Workspace>,
    /// Full name.
    #[serde(default)]
    pub name: Option<String>,
    /// Lower case.
    #[serde(default)]
    pub email: Option<String>,
    /// Digits without `+`.
    #[serde(default)]
    pub phone: Option<String>,
    /// What the site that signed them calls them.
    #[serde(default)]
    pub user_id: Option<String>,
    /// What Meta calls them, at most once for each agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whatsapp: Vec<WhatsappUser>,
    /// The conversation that they were first heard of in, if an unknown visitor's and nobody has vouched for them since.
    #[serde(default)]
    pub made_in: Option<Id<Conversation>>,
    /// When we first heard of them.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

impl Contact {
    /// Takes over details that a visitor typed, but only where nothing is known: an anonymous visitor must not be able
    /// to overwrite what the workspace knows. Says whether anything changed.
    pub fn fill_blanks(&mut self, name: Option<&str>, email: Option<&str>, phone: Option<&str>, now: Time) -> bool {
        let fill = |field: &mut Option<String>, value: Option<&str>| match (&field, value) {
            (None, Some(value)) => {
                *field = Some(value.to_owned());
                true
            }
            _ => false,
        };
        let changed = [fill(&mut self.name, name), fill(&mut self.email, email), fill(&mut self.phone, phone)];
        let changed = changed.contains(&true);
        if changed {
            self.updated_at = now;
        }
        changed
    }
}
