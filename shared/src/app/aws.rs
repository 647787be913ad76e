//! The app of a Lambda function: every port in its AWS form, from the function's environment. The DynamoDB client is
//! built at init; everything else on first use, which keeps a cold start short. Region and credentials are those that
//! Lambda sets: the SDK's search through profiles, metadata services and sign-ins would be part of every binary.

mod kit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

pub use kit::Kit;

use kit::Given;

use super::function::Use;
use super::renewed::Renewed;
use super::{App, Config, Parts};
use crate::kernel::{Clock, Code, Error, Result, Rng, Secret, SystemClock};
use crate::ports::egress::{Egress, EgressConfig, managed_client};
use crate::ports::journal::LogJournal;
use crate::ports::llm::{Completion, Llm, Models, ModelsConfig, Probe, Request, Target, Tokens};
use crate::ports::mail::{Mail, Mailer, SmtpConfig, SmtpMailer};
use crate::ports::objects::Objects;
use crate::ports::polar::Polar;
use crate::ports::roots;
use crate::ports::secrets::{
    ANTHROPIC_KEY, ManagerSecrets, OPENAI_KEY, POLAR_TOKEN, POLAR_WEBHOOK, ROOT_KEYRING, SMTP_PASSWORD, Secrets,
    require,
};
use crate::table::Table;

/// The `user-agent` of every call to an address that a customer gave.
pub const USER_AGENT: &str = concat!("Chatia/", env!("CARGO_PKG_VERSION"));

/// How long a connection to a service of AWS may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The variables that say where everything is kept. Every function is told; its role says what it may reach.
pub const PLACES: [&str; 3] = [TABLE, SECRET, BUCKET];

const TABLE: &str = "TABLE_NAME";
const SECRET: &str = "SECRET_ARN";
const BUCKET: &str = "OBJECTS_BUCKET";

/// What a function reads beside its row: what Lambda sets, and what a developer may set to lead it elsewhere.
pub const AMBIENT: [&str; 11] = [
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_SQS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Builds the app from the function's environment, of which it sees what its row lists and nothing else.
///
/// # Errors
/// When a required variable ([`PLACES`]) is missing or another one is wrong.
pub fn app(kit: &Kit) -> Result<App> {
    let app = build(kit, &sdk()?, environment)?;
    if kit.function.uses.contains(&Use::Secret) {
        tokio::spawn(read_secrets(app.clone(), environment("SMTP_HOST").is_some()));
    }
    Ok(app)
}

/// What the SDK needs of the environment.
fn sdk() -> Result<SdkConfig> {
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(environment("AWS_REGION").map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .retry_config(RetryConfig::standard())
        .service_config(Environment)
        .http_client(OneConnector::build()?);
    Ok(sdk.build())
}

/// A deployed table and the bucket beside it, for the operator's commands: region and credentials are those of the
/// environment.
///
/// # Errors
/// `not_configured` when one of them is missing.
pub fn storage(table: &str, bucket: Option<&str>) -> Result<(Table, Option<Objects>)> {
    for name in &AMBIENT[..3] {
        environment(name).ok_or_else(|| missing(name))?;
    }
    let table = Table::on_aws(&sdk()?, table, Rng::from_system(), Arc::new(SystemClock));
    Ok((table, bucket.map(|bucket| Objects::s3(bucket, environment))))
}

/// The installation's secrets, for the operator's commands.
///
/// # Errors
/// As [`storage`].
pub fn secrets(arn: &str) -> Result<impl Secrets> {
    for name in &AMBIENT[..3] {
        environment(name).ok_or_else(|| missing(name))?;
    }
    Ok(ManagerSecrets::new(sdk()?, arn, Arc::new(SystemClock)))
}

/// Reads the secrets while the function waits for its first event, and says which of them this installation lacks.
async fn read_secrets(app: App, mails: bool) {
    if let Err(error) = require(app.secrets.as_ref(), &needed(&app.config, mails)).await {
        tracing::error!(%error, cause = error.cause(), "the installation's secrets are not complete");
    }
}

/// The secrets that an installation with these settings cannot do without.
fn needed(config: &Config, mails: bool) -> Vec<&'static str> {
    let fallback = config.fallback_model.as_ref().map(|(provider, _)| provider.as_str());
    let builder = config.builder_provider.as_deref();
    let asks = |name: &str| config.default_provider == name || [fallback, builder].contains(&Some(name));
    let of = |is_needed: bool, name| is_needed.then_some(name);
    let all = [
        of(true, ROOT_KEYRING),
        of(asks("openai"), OPENAI_KEY),
        of(asks("anthropic"), ANTHROPIC_KEY),
        of(config.polar_base_url.is_some(), POLAR_TOKEN),
        of(!config.polar_products.is_empty(), POLAR_WEBHOOK),
        of(mails, SMTP_PASSWORD),
    ];
    all.into_iter().flatten().collect()
}

/// A variable of the environment; an empty one is not set.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn build(kit: &Kit, sdk: &SdkConfig, environment: impl Fn(&str) -> Option<String>) -> Result<App> {
    // An empty variable is not set.
    let given = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
    let variable = |name: &str| kit.function.reads(name).then(|| given(name)).flatten();
    let required = |name: &str| variable(name).ok_or_else(|| missing(name));
    let config = Config::read(variable)?;
    let (clock, rng): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Rng::from_system());
    let secrets = (kit.secrets)(sdk, required(SECRET)?, Arc::clone(&clock));
    let given = Given { sdk, variable: &variable, secrets: &secrets, clock: &clock };
    let (egress, queue, mailer) = (egress(&config), (kit.queue)(&given), (kit.mailer)(&given));
    Ok(App::new(Parts {
        table: Table::on_aws(sdk, required(TABLE)?, rng.clone(), Arc::clone(&clock)),
        queue,
        journal: Arc::new(LogJournal { namespace: config.metrics_namespace.clone() }),
        mailer,
        objects: (kit.objects)(required(BUCKET)?),
        llm: Arc::new(LazyModels::new(&config, Arc::clone(&secrets), Arc::clone(&egress))),
        polar: config.polar_base_url.clone().map(Polar::new),
        egress,
        secrets,
        clock,
        rng,
        config,
    }))
}

/// One connector for all services of AWS, made at init. The SDK would make one to see whether that can be done, and one
/// more for each set of time-outs, and each reads all certificates anew; the time-out of a call is not the connector's.
#[derive(Debug, Clone)]
struct OneConnector(SharedHttpConnector);

impl OneConnector {
    fn build() -> Result<Self> {
        let connector = Connector::builder()
            .connector_settings(HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(trust()?)
            .build();
        Ok(Self(SharedHttpConnector::new(connector)))
    }
}

impl HttpClient for OneConnector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

/// What the SDK asks for one service: `AWS_ENDPOINT_URL_SQS` comes before `AWS_ENDPOINT_URL`.
#[derive(Debug)]
struct Environment;

impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        environment(&format!("{}_{service}", key.env())).or_else(|| environment(key.env()))
    }
}

/// Whom the SDK trusts, and from here on the other clients too: the system's certificates. Where the environment names
/// others, each client reads those by itself.
fn trust() -> Result<TlsContext> {
    let named = environment("SSL_CERT_FILE").or_else(|| environment("SSL_CERT_DIR")).is_some();
    let store = match if named { None } else { roots::keep() } {
        Some(roots) => TrustStore::empty().with_pem_certificate(roots.pem()),
        None => TrustStore::default(),
    };
    TlsContext::builder().with_trust_store(store).build().map_err(Error::internal)
}

/// The way to addresses that customers gave.
#[must_use]
pub fn egress(config: &Config) -> Arc<Egress> {
    Arc::new(Egress::new(EgressConfig { allow: config.egress_allow.clone(), user_agent: USER_AGENT.into() }))
}

/// The models, built when the first one is asked, and anew when a key of theirs has changed.
pub struct LazyModels {
    config: Config,
    secrets: Arc<dyn Secrets>,
    egress: Arc<Egress>,
    models: Renewed<Models>,
}

impl LazyModels {
    /// The models that this configuration names.
    #[must_use]
    pub fn new(config: &Config, secrets: Arc<dyn Secrets>, egress: Arc<Egress>) -> Self {
        Self { config: config.clone(), secrets, egress, models: Renewed::default() }
    }

    async fn models(&self) -> Result<Arc<Models>> {
        let (openai, anthropic) = (self.secrets.get(OPENAI_KEY).await?, self.secrets.get(ANTHROPIC_KEY).await?);
        self.models.of(vec![openai, anthropic], |keys| {
            let key = |at: usize| keys.get(at).cloned().flatten();
            let config = ModelsConfig {
                openai_base_url: self.config.openai_base_url.clone(),
                openai_api: self.config.openai_api,
                openai_api_key: key(0),
                anthropic_base_url: self.config.anthropic_base_url.clone(),
                anthropic_version: self.config.anthropic_version.clone(),
                anthropic_api_key: key(1),
            };
            Ok(Models::new(config, managed_client()?, Arc::clone(&self.egress)))
        })
    }
}

#[async_trait]
impl Llm for LazyModels {
    async fn complete(&self, request: &Request, tokens: &dyn Tokens) -> Result<Completion> {
        self.models().await?.complete(request, tokens).await
    }

    async fn probe(&self, target: &Target) -> Probe {
        match self.models().await {
            Ok(models) => models.probe(target).await,
            Err(_) => Probe::Unknown,
        }
    }
}

fn missing(name: &str) -> Error {
    Error::with_message(Code::NotConfigured, format!("The variable {name} is missing."))
}

/// Mail by SMTP (Amazon SES has an SMTP endpoint), built when the first mail is sent, and anew when its password has
/// changed.
struct LazyMailer {
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    /// What [`mail::VARIABLES`] say.
    settings: [Option<String>; 4],
    smtp: Renewed<SmtpMailer>,
}

impl LazyMailer {
    fn build(&self, password: Option<Secret>) -> Result<SmtpMailer> {
        let [host, port, user, from] = &self.settings;
        let required = |value: &Option<String>, name| value.clone().ok_or_else(|| missing(name));
        let port = port.as_deref().unwrap_or("465");
        let config = SmtpConfig {
            host: required(host, "SMTP_HOST")?,
            port: port
                .parse()
                .map_err(|_| Error::with_message(Code::NotConfigured, "SMTP_PORT must be a port number."))?,
            user: required(user, "SMTP_USER")?,
            password: password
                .ok_or_else(|| Error::with_message(Code::NotConfigured, "The secret smtp_password is missing."))?,
            from: required(from, "MAIL_FROM")?,
        };
        SmtpMailer::new(config, Arc::clone(&self.clock))
    }
}

#[async_trait]
impl Mailer for LazyMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        if self.settings[0].is_none() {
            tracing::warn!("a mail is not sent, since SMTP_HOST is not set");
            return Ok(());
        }
        let password = self.secrets.get(SMTP_PASSWORD).await?;
        let smtp = self.smtp.of(vec![password], |password| self.build(password.first().cloned().flatten()))?;
        smtp.send(mail).await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::app::function::FUNCTIONS;

    #[test]
    fn a_function_reads_what_its_row_lists_and_nothing_else() {
        let sdk = SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        for function in FUNCTIONS {
            let asked = RefCell::new(BTreeSet::new());
            let environment = |name: &str| {
                asked.borrow_mut().insert(name.to_owned());
                PLACES.contains(&name).then(|| "there".to_owned())
            };
            build(&Kit::of(function.binary), &sdk, environment).unwrap();
            // These are for the log and for the Lambda library, which read them themselves.
            let others = ["RUST_LOG", "AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH"];
            let listed = function.variables().into_iter().filter(|name| !others.contains(name));
            let listed: BTreeSet<String> =
                listed.chain(super::super::config::LOCAL.iter().copied()).map(str::to_owned).collect();
            assert_eq!(asked.into_inner(), listed, "{}", function.binary);
        }
    }

    #[test]
    fn a_function_that_is_not_told_of_a_place_says_which() {
        let sdk = SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        for place in PLACES {
            let environment = |name: &str| (PLACES.contains(&name) && name != place).then(|| "there".to_owned());
            let Err(error) = build(&Kit::of(FUNCTIONS[0].binary), &sdk, environment) else {
                panic!("{place} is not needed")
            };
            assert!(error.message().contains(place), "{error}");
        }
    }
}
