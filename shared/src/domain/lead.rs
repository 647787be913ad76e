//! One capture of contact details by an agent.

use serde::{Deserialize, Serialize};

use super::text::Checks;
use super::{Agent, Contact, Conversation, Workspace};
use crate::kernel::{Id, Result, Time};

/// One capture of contact details. Within a conversation a contact makes one lead, however often it is captured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lead {
    /// Identity.
    pub id: Id<Lead>,
    /// Whose lead.
    pub workspace_id: Id<Workspace>,
    /// Which agent captured it.
    pub agent_id: Id<Agent>,
    /// Who.
    pub contact_id: Id<Contact>,
    /// In which conversation, if in one.
    #[serde(default)]
    pub conversation_id: Option<Id<Conversation>>,
    /// As given.
    #[serde(default)]
    pub name: Option<String>,
    /// As given, lower case.
    #[serde(default)]
    pub email: Option<String>,
    /// As given, digits.
    #[serde(default)]
    pub phone: Option<String>,
    /// What they want.
    #[serde(default)]
    pub interest: Option<String>,
    /// Where it came from.
    pub source: LeadSource,
    /// Where the contact stands with this agent.
    #[serde(default)]
    pub status: LeadStatus,
    /// When.
    pub created_at: Time,
}

/// Where a lead came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the data model")]
pub enum LeadSource {
    Form,
    Tool,
}

/// Where a contact stands with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the data model")]
pub enum LeadStatus {
    #[default]
    New,
    Contacted,
    Qualified,
    Converted,
    Lost,
}

/// Contact details as somebody gave them, checked and in their stored forms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Full name.
    pub name: Option<String>,
    /// Lower case.
    pub email: Option<String>,
    /// Digits.
    pub phone: Option<String>,
    /// What they want.
    pub interest: Option<String>,
}

impl Details {
    /// Checks what was given: at least one of name, e-mail and phone.
    ///
    /// # Errors
    /// `validation_error` naming each wrong field.
    pub fn check(name: Option<&str>, email: Option<&str>, phone: Option<&str>, interest: Option<&str>) -> Result<Self> {
        let mut checks = Checks::new();
        let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let details = Self {
            name: checks.optional("name", name, 120),
            email: given(email).map(|email| checks.email("email", &email)),
            phone: given(phone).map(|phone| checks.phone("phone", &phone)),
            interest: checks.optional("interest", interest, 2_000),
        };
        let any = details.name.is_some() || details.email.is_some() || details.phone.is_some();
        checks.ensure(any, "email", "required", "give at least one of name, email and phone");
        checks.finish()?;
        Ok(details)
    }
}
