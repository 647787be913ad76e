//! An agent's WhatsApp line, as callers write and read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::whatsapp::line::{Changes, callback_url};
use shared::domain::Agent;
use shared::domain::whatsapp::Provider;
use shared::kernel::{Patch, Secret};

/// The customer's WhatsApp line at Kapso; null for all of it removes it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct KapsoPatch {
    /// The key of the Kapso project. Write-only; null removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    api_key: Patch<Secret>,
    /// The `secret_key` that Kapso showed for the number's webhook. Write-only; null removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    webhook_secret: Patch<Secret>,
    #[serde(default)]
    phone_number_id: Patch<String>,
}

/// The customer's WhatsApp line at Meta's Cloud API; null for all of it removes it. An agent has one line, here or at
/// Kapso.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct WhatsappPatch {
    /// Through whom; `meta` is the only one.
    #[serde(default)]
    #[expect(dead_code, reason = "it says what is the case; another word is refused")]
    provider: Option<MetaWord>,
    #[serde(default)]
    phone_number_id: Patch<String>,
    /// The token of a system user. Write-only; null removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    access_token: Patch<Secret>,
    /// The secret of the app, which signs its callbacks. Write-only; null removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    app_secret: Patch<Secret>,
    /// A word of your choice, which Meta shows when the callback is set up. Write-only; null removes it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    verify_token: Patch<Secret>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum MetaWord {
    Meta,
}

/// What a body says of both.
pub(crate) fn line_of(kapso: Patch<KapsoPatch>, meta: Patch<WhatsappPatch>) -> Changes {
    let kapso = match kapso {
        Patch::Keep => KapsoPatch::default(),
        Patch::Clear => {
            KapsoPatch { api_key: Patch::Clear, webhook_secret: Patch::Clear, phone_number_id: Patch::Clear }
        }
        Patch::Set(kapso) => kapso,
    };
    let meta = match meta {
        Patch::Keep => WhatsappPatch::default(),
        Patch::Clear => WhatsappPatch {
            provider: None,
            phone_number_id: Patch::Clear,
            access_token: Patch::Clear,
            app_secret: Patch::Clear,
            verify_token: Patch::Clear,
        },
        Patch::Set(meta) => meta,
    };
    Changes {
        kapso_number: kapso.phone_number_id,
        kapso_key: kapso.api_key,
        kapso_secret: kapso.webhook_secret,
        meta_number: meta.phone_number_id,
        meta_token: meta.access_token,
        meta_secret: meta.app_secret,
        meta_verify: meta.verify_token,
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct KapsoOut {
    has_api_key: bool,
    has_webhook_secret: bool,
    phone_number_id: Option<String>,
    /// Where the number's webhook at Kapso is to call; null without a number.
    callback_url: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WhatsappOut {
    provider: Provider,
    phone_number_id: Option<String>,
    has_access_token: bool,
    has_app_secret: bool,
    has_verify_token: bool,
    /// What to enter as callback of the app at Meta; null without a number.
    callback_url: Option<String>,
}

fn callback(app: &App, agent: &Agent, provider: Provider) -> Option<String> {
    agent.line().filter(|line| line.provider == provider).map(|line| callback_url(app, &line))
}

impl KapsoOut {
    pub(crate) fn new(app: &App, agent: &Agent) -> Self {
        Self {
            has_api_key: agent.has_kapso_key,
            has_webhook_secret: agent.has_kapso_secret,
            phone_number_id: agent.kapso_phone_number_id.clone(),
            callback_url: callback(app, agent, Provider::Kapso),
        }
    }
}

impl WhatsappOut {
    pub(crate) fn new(app: &App, agent: &Agent) -> Self {
        Self {
            provider: Provider::Meta,
            phone_number_id: agent.meta.phone_number_id.clone(),
            has_access_token: agent.meta.has_access_token,
            has_app_secret: agent.meta.has_app_secret,
            has_verify_token: agent.meta.has_verify_token,
            callback_url: callback(app, agent, Provider::Meta),
        }
    }
}
