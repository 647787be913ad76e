//! Trying a customer's key for a model.

use super::App;
use crate::domain::Agent;
use crate::kernel::{Error, Patch, Result, Secret};
use crate::ports::llm::{Probe, Refusal, Target};

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
    if target.provider == "offline" {
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
