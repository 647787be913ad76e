//! Settings, each from one environment variable; `docs/CONFIGURATION.md` lists them. Nothing else reads the environment.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::domain::billing::Product;
use crate::domain::plan::PlanKey;
use crate::domain::webhook::RETRY_SCHEDULE;
use crate::kernel::{Error, Result};
use crate::ports::egress::Cidr;
use crate::ports::llm::OpenAiApi;

/// The longest turn: the gateway gives up after 30 s, and what came of it must still be stored and answered.
const TURN: Duration = Duration::from_secs(24);

/// Enough for several rounds of tools in a long conversation.
const TURN_TOKENS: u64 = 100_000;
const REPLY_TOKENS: u32 = 2_048;

/// The documented model of the builder.
const BUILDER_MODEL: &str = "gpt-5.4";
/// The model of an installation without any.
const OFFLINE_MODEL: &str = "offline-1";

/// The variables that the template gives every function.
pub const DEPLOYED: &[&str] = &[
    "PUBLIC_BASE_URL",
    "CHATIA_PROVIDER",
    "CHATIA_MODEL",
    "OPENAI_BASE_URL",
    "OPENAI_API",
    "CHATIA_FALLBACK_PROVIDER",
    "CHATIA_FALLBACK_MODEL",
    "CHATIA_BUILDER_PROVIDER",
    "CHATIA_BUILDER_MODEL",
    "ANTHROPIC_BASE_URL",
    "POLAR_BASE_URL",
    "POLAR_PRODUCTS",
    "CHATIA_TURN_TOKENS",
    "CHATIA_REPLY_TOKENS",
    "CHATIA_ORIGIN_SECRET",
    "CHATIA_METRICS_NAMESPACE",
    "KAPSO_BASE_URL",
    "META_GRAPH_BASE_URL",
    "CHATIA_BURST_SECONDS",
    "CHATIA_VERIFY_EMAIL",
];

/// The variables that are for development and tests: production has their defaults.
pub const LOCAL: &[&str] = &[
    "ANTHROPIC_VERSION",
    "CHATIA_EGRESS_ALLOW",
    "CHATIA_WEBHOOK_RETRY_SECONDS",
    "CHATIA_WEBHOOK_TIMEOUT_SECONDS",
    "CHATIA_TURN_SECONDS",
    "CHATIA_STREAM_SECONDS",
    "CHATIA_WATCH_SECONDS",
];

/// Settings of the installation.
#[derive(Debug, Clone)]
pub struct Config {
    /// `PUBLIC_BASE_URL`: where callers reach us.
    pub public_base_url: String,
    /// `CHATIA_PROVIDER`: the model provider of agents that name none.
    pub default_provider: String,
    /// `CHATIA_MODEL`: the model of agents that name none.
    pub default_model: String,
    /// `OPENAI_BASE_URL`.
    pub openai_base_url: Url,
    /// `OPENAI_API`: `chat` or `responses`, by which protocol that server is asked.
    pub openai_api: OpenAiApi,
    /// `CHATIA_FALLBACK_PROVIDER` and `CHATIA_FALLBACK_MODEL`: who is asked when the installation's own model fails.
    pub fallback_model: Option<(String, String)>,
    /// `CHATIA_BUILDER_PROVIDER`: who is asked by the builder; `CHATIA_PROVIDER` when it is not set.
    pub builder_provider: Option<String>,
    /// `CHATIA_BUILDER_MODEL`: the builder's model.
    pub builder_model: String,
    /// `ANTHROPIC_BASE_URL`.
    pub anthropic_base_url: Url,
    /// `ANTHROPIC_VERSION`.
    pub anthropic_version: String,
    /// `POLAR_BASE_URL`; without it nothing is reported.
    pub polar_base_url: Option<Url>,
    /// `POLAR_PRODUCTS`: what Polar sells, as `starter=<product id>,…`; `seat` is a seat beyond the plan's.
    pub polar_products: Vec<(Product, String)>,
    /// `KAPSO_BASE_URL`: where Kapso takes what goes out by `WhatsApp`.
    pub kapso_base_url: Url,
    /// `META_GRAPH_BASE_URL`: where Meta does.
    pub meta_base_url: Url,
    /// `CHATIA_BURST_SECONDS`: how long a turn waits for more of the same person's messages on a phone; 2 s.
    pub burst: Duration,
    /// `CHATIA_VERIFY_EMAIL`: whether the installation's models answer only for owners whose address is verified; `false`.
    pub verify_email: bool,
    /// `CHATIA_EGRESS_ALLOW`: networks that may be called although they are not public, for development.
    pub egress_allow: Vec<Cidr>,
    /// `CHATIA_WEBHOOK_RETRY_SECONDS`: waits before the retries.
    pub webhook_retries: Vec<Duration>,
    /// `CHATIA_WEBHOOK_TIMEOUT_SECONDS`: how long a receiver may take; 15 s.
    pub webhook_timeout: Duration,
    /// `CHATIA_TURN_SECONDS`: how long a buffered turn may take in all.
    pub turn_budget: Duration,
    /// `CHATIA_STREAM_SECONDS`: how long a turn may take that is told while it goes on; 120 s.
    pub stream_budget: Duration,
    /// `CHATIA_TURN_TOKENS`: how many tokens a turn may read and write in all before no further round is asked.
    pub turn_tokens: u64,
    /// `CHATIA_REPLY_TOKENS`: how many tokens one answer of a model may have, its reasoning included.
    pub reply_tokens: u32,
    /// `CHATIA_WATCH_SECONDS`: how often a turn looks whether it may go on; 1 s.
    pub watch_every: Duration,
    /// `CHATIA_METRICS_NAMESPACE`: the CloudWatch namespace of the metrics that functions tell; without it there are none.
    pub metrics_namespace: Option<String>,
    /// `CHATIA_ORIGIN_SECRET`: what the CDN adds, so that its word on the caller's address is believed.
    pub origin_secret: Option<String>,
}

impl Config {
    /// The model of somebody who may have named provider and model, as both; the installation's own where they did not.
    #[must_use]
    pub fn model(&self, provider: Option<&str>, model: Option<&str>) -> (String, String) {
        let provider = provider.unwrap_or(&self.default_provider);
        (provider.to_owned(), model.unwrap_or(&self.default_model).to_owned())
    }

    /// Provider and model of the builder.
    #[must_use]
    pub fn builder(&self) -> (String, String) {
        let provider = self.builder_provider.as_ref().unwrap_or(&self.default_provider);
        let model = if provider == "offline" { OFFLINE_MODEL } else { &self.builder_model };
        (provider.clone(), model.to_owned())
    }

    /// Reads the settings through `lookup`, which finds a variable by its name.
    ///
    /// # Errors
    /// `validation_error` that names the variable and says what it should be.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let given = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let text = |name: &str, default: &str| given(name).unwrap_or_else(|| default.to_owned());
        let url = |name: &str, default: &str| parse_url(name, &text(name, default));
        Ok(Self {
            public_base_url: text("PUBLIC_BASE_URL", "http://127.0.0.1:8000").trim_end_matches('/').to_owned(),
            default_provider: text("CHATIA_PROVIDER", "offline"),
            default_model: text("CHATIA_MODEL", OFFLINE_MODEL),
            openai_base_url: url("OPENAI_BASE_URL", "https://api.openai.com/v1")?,
            openai_api: openai_api(&text("OPENAI_API", "chat"))?,
            fallback_model: given("CHATIA_FALLBACK_PROVIDER").zip(given("CHATIA_FALLBACK_MODEL")),
            builder_provider: given("CHATIA_BUILDER_PROVIDER"),
            builder_model: text("CHATIA_BUILDER_MODEL", BUILDER_MODEL),
            anthropic_base_url: url("ANTHROPIC_BASE_URL", "https://api.anthropic.com")?,
            anthropic_version: text("ANTHROPIC_VERSION", "2026-10-21"),
            polar_base_url: given("POLAR_BASE_URL").map(|text| parse_url("POLAR_BASE_URL", &text)).transpose()?,
            polar_products: products(&text("POLAR_PRODUCTS", ""))?,
            kapso_base_url: url("KAPSO_BASE_URL", "https://api.kapso.ai/meta/whatsapp/v24.0")?,
            meta_base_url: url("META_GRAPH_BASE_URL", "https://graph.facebook.com/v26.0")?,
            burst: burst("CHATIA_BURST_SECONDS", given)?,
            verify_email: yes("CHATIA_VERIFY_EMAIL", &text("CHATIA_VERIFY_EMAIL", "false"))?,
            egress_allow: Cidr::parse_list(&text("CHATIA_EGRESS_ALLOW", ""))?,
            webhook_retries: given("CHATIA_WEBHOOK_RETRY_SECONDS")
                .map_or(Ok(RETRY_SCHEDULE.to_vec()), |text| retries(&text))?,
            webhook_timeout: seconds("CHATIA_WEBHOOK_TIMEOUT_SECONDS", given, Duration::from_secs(15))?,
            turn_budget: seconds("CHATIA_TURN_SECONDS", given, TURN)?,
            stream_budget: seconds("CHATIA_STREAM_SECONDS", given, Duration::from_secs(120))?,
            turn_tokens: tokens("CHATIA_TURN_TOKENS", given, TURN_TOKENS)?,
            reply_tokens: tokens("CHATIA_REPLY_TOKENS", given, REPLY_TOKENS)?,
            watch_every: seconds("CHATIA_WATCH_SECONDS", given, Duration::from_secs(1))?,
            metrics_namespace: given("CHATIA_METRICS_NAMESPACE"),
            origin_secret: given("CHATIA_ORIGIN_SECRET"),
        })
    }
}

fn parse_url(name: &str, text: &str) -> Result<Url> {
    Url::parse(text).map_err(|_| Error::field(name, "invalid_url", format!("{name} must be an absolute URL")))
}

fn products(text: &str) -> Result<Vec<(Product, String)>> {
    let name = "POLAR_PRODUCTS";
    let wrong = || {
        let message =
            format!("{name} must be such as starter=<id>,pro=<id>,studio=<id>,agency=<id>,payg=<id>,seat=<id>");
        Error::field(name, "invalid", message)
    };
    let read = |part: &str| {
        let (word, id) = part.split_once('=').ok_or_else(wrong)?;
        let product = match word.trim() {
            "seat" => Product::Seat,
            word => {
                let plan: PlanKey = serde_json::from_value(word.into()).map_err(|_| wrong())?;
                Some(plan).filter(|plan| *plan != PlanKey::Free).map(Product::Plan).ok_or_else(wrong)?
            }
        };
        Some(id.trim()).filter(|id| !id.is_empty()).map(|id| (product, id.to_owned())).ok_or_else(wrong)
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read).collect()
}

fn openai_api(text: &str) -> Result<OpenAiApi> {
    match text.trim() {
        "chat" => Ok(OpenAiApi::Chat),
        "responses" => Ok(OpenAiApi::Responses),
        _ => Err(Error::field("OPENAI_API", "invalid", "OPENAI_API must be chat or responses")),
    }
}

fn yes(name: &str, text: &str) -> Result<bool> {
    text.trim().parse().map_err(|_| Error::field(name, "invalid", format!("{name} must be true or false")))
}

/// A time that can be made shorter, for tests.
fn seconds(name: &str, given: impl Fn(&str) -> Option<String>, longest: Duration) -> Result<Duration> {
    let Some(text) = given(name) else { return Ok(longest) };
    let read = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let wrong = || Error::field(name, "invalid", format!("{name} must be up to {} seconds", longest.as_secs()));
    read.filter(|read| !read.is_zero() && *read <= longest).ok_or_else(wrong)
}

/// Seconds, none included; more than ten feel dead.
fn burst(name: &str, given: impl Fn(&str) -> Option<String>) -> Result<Duration> {
    let Some(text) = given(name) else { return Ok(Duration::from_secs(2)) };
    let wrong = || Error::field(name, "invalid", format!("{name} must be 0 to 10 seconds, such as 2"));
    let read = text.trim().parse().ok().filter(|seconds| *seconds <= 10);
    read.map(Duration::from_secs).ok_or_else(wrong)
}

fn tokens<T>(name: &str, given: impl Fn(&str) -> Option<String>, default: T) -> Result<T>
where
    T: FromStr + PartialOrd + Default + Display,
{
    let Some(text) = given(name) else { return Ok(default) };
    let wrong = || Error::field(name, "invalid", format!("{name} must be a number of tokens, such as {default}"));
    text.trim().parse().ok().filter(|tokens| *tokens > T::default()).ok_or_else(wrong)
}

fn retries(text: &str) -> Result<Vec<Duration>> {
    let name = "CHATIA_WEBHOOK_RETRY_SECONDS";
    let wrong = || Error::field(name, "invalid", format!("{name} must be seconds separated by commas, such as 1,2,5"));
    let seconds = text.split(',').map(|part| part.trim().parse::<f64>().map_err(|_| wrong()));
    seconds.map(|seconds| Duration::try_from_secs_f64(seconds?).map_err(|_| wrong())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_listed_as_deployed_or_local_and_every_listed_one_is_read() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let ask = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            None
        };
        Config::read(ask).unwrap();
        let listed: Vec<&str> = DEPLOYED.iter().chain(LOCAL).copied().collect();
        assert_eq!(asked.into_inner(), listed.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(listed.len(), DEPLOYED.len() + LOCAL.len());
    }

    #[test]
    fn an_empty_environment_is_a_working_development_set_up() {
        let config = Config::read(|_| None).unwrap();
        assert_eq!(config.default_provider, "offline");
        assert_eq!(config.webhook_retries.len(), 5);
        assert!(config.polar_base_url.is_none());
        assert_eq!(config.builder(), ("offline".into(), "offline-1".into()));
        let config = Config::read(|name| (name == "CHATIA_PROVIDER").then(|| "openai".to_owned())).unwrap();
        assert_eq!(config.builder(), ("openai".into(), "gpt-5.4".into()));
        assert_eq!(config.openai_api, OpenAiApi::Chat);
        assert!(!config.verify_email, "whoever tries it out has no mail");
        // After a takeover no word comes later than two seconds: it is looked often enough for that, with time to spare.
        assert!(config.watch_every <= Duration::from_secs(1), "{:?}", config.watch_every);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let lookup = |name: &str| (name == "CHATIA_WEBHOOK_RETRY_SECONDS").then(|| "1,x".to_owned());
        assert!(Config::read(lookup).unwrap_err().to_string().contains("CHATIA_WEBHOOK_RETRY_SECONDS"));
        let lookup = |name: &str| (name == "POLAR_BASE_URL").then(|| "polar".to_owned());
        assert!(Config::read(lookup).is_err());
        let lookup = |name: &str| (name == "OPENAI_API").then(|| "assistants".to_owned());
        assert!(Config::read(lookup).unwrap_err().to_string().contains("chat or responses"));
        let lookup = |name: &str| (name == "CHATIA_TURN_SECONDS").then(|| "25".to_owned());
        assert!(Config::read(lookup).unwrap_err().to_string().contains("up to 24 seconds"));
        let lookup = |name: &str| (name == "CHATIA_VERIFY_EMAIL").then(|| "on".to_owned());
        assert!(Config::read(lookup).unwrap_err().to_string().contains("CHATIA_VERIFY_EMAIL must be true or false"));
        for wrong in ["starter", "starter=", "gold=1", "free=1"] {
            let lookup = |name: &str| (name == "POLAR_PRODUCTS").then(|| wrong.to_owned());
            assert!(Config::read(lookup).unwrap_err().to_string().contains("POLAR_PRODUCTS"), "{wrong}");
        }
        for wrong in ["0", "-1", "many", "1.5"] {
            let lookup = |name: &str| (name == "CHATIA_TURN_TOKENS").then(|| wrong.to_owned());
            assert!(Config::read(lookup).unwrap_err().to_string().contains("CHATIA_TURN_TOKENS"), "{wrong}");
        }
    }
}
