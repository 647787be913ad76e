//! Whether a model can be asked for an agent: of a provider that is known here or has an address, and with a customer's
//! key that works.

use super::App;
use super::agent::Changes;
use crate::domain::Agent;
use crate::domain::text::Checks;
use crate::kernel::{Error, Patch, Result, Secret};
use crate::ports::llm::{OFFLINE, Probe, Refusal, Target};

/// Providers whose address is configured or needs none.
const KNOWN: [&str; 3] = ["openai", "anthropic", OFFLINE];

const UNKNOWN: &str = "This provider is not known here: name openai, anthropic or offline, or give the address of a \
                       compatible server as config.ai.base_url, with its key as config.ai.api_key.";

/// Whether nobody here knows where to find a provider that an agent names.
fn is_unknown(app: &App, provider: Option<&str>) -> bool {
    provider.is_some_and(|name| !KNOWN.contains(&name) && name != app.config.default_provider)
}

/// Checks that the provider of an agent can be found.
pub(super) fn check_provider(app: &App, checks: &mut Checks, agent: &Agent) {
    let is_found = !is_unknown(app, agent.provider.as_deref()) || agent.ai_base_url.is_some();
    checks.ensure(is_found, "provider", "unknown_provider", UNKNOWN);
}

/// Makes sure that an agent which goes live can be answered for: one that never will is found out by its owner now, and
/// not by visitors.
///
/// # Errors
/// `validation_error` that names the provider, or the key that is missing for its address.
pub(super) fn ensure_can_answer(app: &App, agent: &Agent) -> Result<()> {
    ensure_way(app, agent.provider.as_deref(), agent.ai_base_url.is_some(), agent.has_ai_key)
}

/// Makes sure that a change leaves an agent that is live with what it answers by.
///
/// # Errors
/// As [`ensure_can_answer`].
pub(super) fn ensure_stays(app: &App, agent: &Agent, changes: &Changes) -> Result<()> {
    let named = changes.provider.is_present() || changes.ai_base_url.is_present() || changes.ai_api_key.is_present();
    if named && agent.is_published() { ensure_can_answer(app, agent) } else { Ok(()) }
}

/// Makes sure that there is a way to a provider: it is known here, or has an address, and a key to go there with.
///
/// # Errors
/// As [`ensure_can_answer`].
pub(crate) fn ensure_way(app: &App, provider: Option<&str>, has_address: bool, has_key: bool) -> Result<()> {
    if !is_unknown(app, provider) || (has_address && has_key) {
        return Ok(());
    }
    if !has_address {
        return Err(Error::field("provider", "unknown_provider", UNKNOWN));
    }
    let message = "The server at config.ai.base_url is called with a key of the agent's only: set config.ai.api_key.";
    Err(Error::field("config.ai.api_key", "required", message))
}

/// Asks the model for one token with a key that the caller sent, so that a wrong one is found out now and not by a
/// visitor. What cannot be told now is taken: a provider may be away for a moment.
///
/// # Errors
/// `validation_error` that names the key, or the model.
pub(super) async fn check(app: &App, agent: &Agent, key: &Patch<Secret>) -> Result<()> {
    let key = key.value().map(|key| Secret::new(key.expose().trim()));
    let Some(key) = key.filter(|key| !key.expose().is_empty()) else { return Ok(()) };
    let (provider, model) = app.config.model(agent.provider.as_deref(), agent.model.as_deref());
    let base_url = agent.ai_base_url.as_deref().map(|url| app.egress.check_url(url)).transpose()?;
    let target = Target { provider, model, api_key: Some(key), base_url };
    if target.provider == OFFLINE {
        return Ok(());
    }
    let refused = |field: &str, message: &str| Err(Error::field(field, "refused", message));
    match app.llm.probe(&target).await {
        Probe::Works | Probe::Unknown => Ok(()),
        Probe::Refused(Refusal::Key) => refused("config.ai.api_key", "The provider refuses this key."),
        Probe::Refused(Refusal::Spent) => {
            refused("config.ai.api_key", "The provider's account of this key has no credit left, or reached its limit.")
        }
        Probe::Refused(Refusal::Model) => {
            refused("model", "The provider has no such model, or config.ai.base_url leads nowhere.")
        }
    }
}
