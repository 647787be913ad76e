//! Connecting an agent to a number. A number belongs to the agent that names it first, wherever its provider is, and is
//! free again when that agent lets go of it.

use super::super::App;
use super::with_token;
use crate::domain::Agent;
use crate::domain::agent::SecretField;
use crate::domain::text::Checks;
use crate::domain::whatsapp::{Line, is_number_id};
use crate::kernel::{Error, Patch, Result, Secret};
use crate::store;
use crate::table::Unit;

/// What a caller says of an agent's line.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The number at Kapso.
    pub kapso_number: Patch<String>,
    /// The key of the Kapso project.
    pub kapso_key: Patch<Secret>,
    /// What Kapso signs its callbacks with.
    pub kapso_secret: Patch<Secret>,
    /// The number at Meta.
    pub meta_number: Patch<String>,
    /// What is sent with at Meta.
    pub meta_token: Patch<Secret>,
    /// What Meta signs its callbacks with.
    pub meta_secret: Patch<Secret>,
    /// The word that Meta shows when the callback is set up.
    pub meta_verify: Patch<Secret>,
}

impl Changes {
    /// The secrets among them, with the names that callers know.
    #[must_use]
    pub fn secrets(&self) -> [(SecretField, &'static str, &Patch<Secret>); 5] {
        [
            (SecretField::KapsoKey, "config.kapso.api_key", &self.kapso_key),
            (SecretField::KapsoSecret, "config.kapso.webhook_secret", &self.kapso_secret),
            (SecretField::MetaToken, "config.whatsapp.access_token", &self.meta_token),
            (SecretField::MetaSecret, "config.whatsapp.app_secret", &self.meta_secret),
            (SecretField::MetaVerify, "config.whatsapp.verify_token", &self.meta_verify),
        ]
    }

    /// Whether they name a secret.
    #[must_use]
    pub fn name_secrets(&self) -> bool {
        self.secrets().iter().any(|(_, _, change)| change.is_present())
    }

    /// Whether they name a number.
    #[must_use]
    pub const fn name_number(&self) -> bool {
        self.kapso_number.is_present() || self.meta_number.is_present()
    }

    /// Puts the numbers on the head.
    pub fn apply(&self, checks: &mut Checks, agent: &mut Agent) {
        let numbers = [
            ("config.kapso.phone_number_id", &self.kapso_number, &mut agent.kapso_phone_number_id),
            ("config.whatsapp.phone_number_id", &self.meta_number, &mut agent.meta.phone_number_id),
        ];
        for (name, change, field) in numbers {
            match change {
                Patch::Keep => {}
                Patch::Clear => *field = None,
                Patch::Set(number) if number.trim().is_empty() => *field = None,
                Patch::Set(number) => {
                    let number = number.trim();
                    let message = format!("{name} must be the id that Meta gives the number, such as 106540352242922");
                    checks.ensure(is_number_id(number), name, "invalid", &message);
                    *field = Some(number.to_owned());
                }
            }
        }
        let both = agent.kapso_phone_number_id.is_some() && agent.meta.phone_number_id.is_some();
        let message =
            "An agent answers on one number: set phone_number_id of the other to null first, or in the same call.";
        checks.ensure(!both, "config.whatsapp.phone_number_id", "second_line", message);
    }
}

/// Whether a secret is there now, as the head shows it.
pub fn show(agent: &mut Agent, field: SecretField, is_there: bool) {
    match field {
        SecretField::AiKey => agent.has_ai_key = is_there,
        SecretField::Identity => agent.has_identity_secret = is_there,
        SecretField::KapsoKey => agent.has_kapso_key = is_there,
        SecretField::KapsoSecret => agent.has_kapso_secret = is_there,
        SecretField::MetaToken => agent.meta.has_access_token = is_there,
        SecretField::MetaSecret => agent.meta.has_app_secret = is_there,
        SecretField::MetaVerify => agent.meta.has_verify_token = is_there,
    }
}

/// Asks the provider whether the key that the caller sent may use the number, so that a wrong one is found out now, and
/// nobody keeps the number of somebody else. What cannot be told now is taken: a provider may be away for a moment. Says
/// whether the key was shown to be one for the number.
///
/// # Errors
/// `validation_error` that names the key.
pub async fn check(app: &App, agent: &Agent, changes: &Changes) -> Result<bool> {
    let Some(line) = agent.line() else { return Ok(false) };
    let field = super::sending_secret(line.provider);
    let sent = changes.secrets().into_iter().find(|(known, _, _)| *known == field);
    let Some((name, token)) = sent.and_then(|(_, name, change)| Some((name, change.value()?))) else {
        return Ok(false);
    };
    let token = Secret::new(token.expose().trim());
    if token.expose().is_empty() {
        return Ok(false);
    }
    match with_token(app, &line, token).works().await {
        Some(false) => {
            Err(Error::field(name, "refused", "The provider does not let this key use that phone_number_id."))
        }
        works => Ok(works == Some(true)),
    }
}

/// Takes and lets go of numbers as the head changes. One that the caller names is taken also when the head had it: it may
/// be from a time when nobody took numbers.
///
/// # Errors
/// When it does not serialise, or the table cannot be read.
pub async fn follow(
    app: &App,
    unit: &mut Unit,
    (before, after): (Option<&Line>, Option<&Line>),
    (is_named, is_proven): (bool, bool),
) -> Result<()> {
    if let Some(after) = after.filter(|_| is_named || is_proven || before != after) {
        store::whatsapp::claim(unit, after, is_proven)?;
    }
    let moved = |before: &&Line| after.is_none_or(|after| after.phone_number_id != before.phone_number_id);
    if let Some(before) = before.filter(moved)
        && store::whatsapp::line_now(&app.table, &before.phone_number_id).await?.as_ref() == Some(before)
    {
        store::whatsapp::release(unit, before);
    }
    Ok(())
}

/// Where a line's provider is to call us.
#[must_use]
pub fn callback_url(app: &App, line: &Line) -> String {
    let Line { provider, phone_number_id, .. } = line;
    format!("{}/hooks/whatsapp/{}/{phone_number_id}", app.config.public_base_url, provider.text())
}
