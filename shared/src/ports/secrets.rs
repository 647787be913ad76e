//! Secrets: keys of providers and the root keyring, by name. Production reads Secrets Manager; the local platform a
//! file for its owner only; an environment variable wins over both.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Builder;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use tokio::sync::Mutex;

use crate::kernel::{Clock, Code, Error, Keyring, Result, Rng, Secret, Time};

/// The name of the secret that [`Keyring::parse`] reads.
pub const ROOT_KEYRING: &str = "root_keyring";

/// The installation's own key of OpenAI, or of a server that speaks its protocol.
pub const OPENAI_KEY: &str = "openai_api_key";
/// The installation's own key of Anthropic.
pub const ANTHROPIC_KEY: &str = "anthropic_api_key";
/// The organisation's token of Polar.
pub const POLAR_TOKEN: &str = "polar_access_token";
/// What Polar signs its callbacks with, as Polar shows it.
pub const POLAR_WEBHOOK: &str = "polar_webhook_secret";
/// The password of the SMTP user.
pub const SMTP_PASSWORD: &str = "smtp_password";

/// What IAM calls reading them.
pub const READS: [&str; 1] = ["secretsmanager:GetSecretValue"];

/// How long a fetched secret is believed.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// How long an old one is used when a fetch fails, before the next try.
const STALE: Duration = Duration::from_secs(30);

/// How long one try may take. Whoever asks meanwhile waits for it.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

/// What Secrets Manager says of a secret without a value.
const EMPTY: &str = "ResourceNotFoundException";

/// Finds secrets.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The secret of this name, such as `openai_api_key`; `None` when there is none.
    ///
    /// # Errors
    /// `unavailable` when the place where they are kept does not answer; `internal_error` when it holds rubbish.
    async fn get(&self, name: &str) -> Result<Option<Secret>>;
}

/// Sees that all of these secrets are there.
///
/// # Errors
/// `not_configured`, which names every one that is not; those of [`Secrets::get`].
pub async fn require(secrets: &dyn Secrets, names: &[&str]) -> Result<()> {
    let mut missing = Vec::new();
    for name in names {
        if secrets.get(name).await?.is_none_or(|secret| secret.expose().trim().is_empty()) {
            missing.push(*name);
        }
    }
    let what = || format!("These secrets are missing: {}.", missing.join(", "));
    if missing.is_empty() { Ok(()) } else { Err(Error::with_message(Code::NotConfigured, what())) }
}

#[async_trait]
impl<S: Secrets + ?Sized> Secrets for Arc<S> {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        (**self).get(name).await
    }
}

type Values = HashMap<String, Secret>;

/// Reads a JSON object of texts. The parser's own words may quote a value, so they are dropped.
fn parse(json: &str, place: &str) -> Result<Values> {
    serde_json::from_str(json).map_err(|_| Error::internal(format!("{place} is not a JSON object of name and text")))
}

/// One secret of AWS Secrets Manager, a JSON object of name and text. It is fetched by whoever asks first, while the
/// others wait, and believed for five minutes; when a later fetch fails, the old values serve on.
pub struct ManagerSecrets {
    config: SdkConfig,
    arn: String,
    clock: Arc<dyn Clock>,
    client: OnceLock<Client>,
    cache: Mutex<Option<Cached>>,
}

struct Cached {
    until: Time,
    values: Values,
}

impl ManagerSecrets {
    /// The secret with this ARN. The client is built on first use.
    #[must_use]
    pub fn new(config: SdkConfig, arn: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self { config, arn: arn.into(), clock, client: OnceLock::new(), cache: Mutex::new(None) }
    }

    async fn fetch(&self) -> Result<Values> {
        let client = self.client.get_or_init(|| {
            let timeouts = TimeoutConfig::builder().operation_attempt_timeout(TRY_TIMEOUT).build();
            Client::from_conf(Builder::from(&self.config).timeout_config(timeouts).build())
        });
        let answer = match client.get_secret_value().secret_id(&self.arn).send().await {
            Ok(answer) => answer,
            // Nothing was put into it yet.
            Err(error) if error.code() == Some(EMPTY) => return Ok(Values::new()),
            Err(error) => {
                // Code and class only: the error's full text can quote the answer, and with it the secret.
                let code = error.code().unwrap_or("no code");
                return Err(Error::new(Code::Unavailable).caused_by(format!("secret {}: {error} ({code})", self.arn)));
            }
        };
        parse(answer.secret_string().unwrap_or_default(), &format!("the secret {}", self.arn))
    }
}

#[async_trait]
impl Secrets for ManagerSecrets {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        // Held over the fetch on purpose, so that there is only one at a time.
        let mut cache = self.cache.lock().await;
        let now = self.clock.now();
        if let Some(cached) = cache.as_ref().filter(|cached| now < cached.until) {
            return Ok(cached.values.get(name).cloned());
        }
        match (Box::pin(self.fetch()).await, cache.as_mut()) {
            (Ok(values), _) => *cache = Some(Cached { until: now + FRESH, values }),
            (Err(error), Some(old)) => {
                tracing::warn!(%error, "secrets could not be refreshed; the old ones serve on");
                old.until = now + STALE;
            }
            (Err(error), None) => return Err(error),
        }
        Ok(cache.as_ref().and_then(|cached| cached.values.get(name).cloned()))
    }
}

/// A JSON file of name and text, for the local platform. Read once, at start.
#[derive(Debug)]
pub struct FileSecrets(Values);

impl FileSecrets {
    /// Reads the file. When there is none, one is made, for its owner only, with a new root keyring.
    ///
    /// # Errors
    /// `not_configured` with a message for whoever starts the platform: the file is open to others, has no root
    /// keyring, is no JSON object of texts, or cannot be read or made.
    pub fn open(path: &Path, rng: &Rng) -> Result<Self> {
        let refuse = |why: &str| Error::with_message(Code::NotConfigured, format!("{}: {why}", path.display()));
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            private_directory(directory)?;
        }
        if !path.try_exists().map_err(|error| refuse(&error.to_string()))? {
            create(path, rng).map_err(|error| refuse(&format!("cannot be made: {error}")))?;
        }
        let text = read_private(path).map_err(|error| refuse(&error.to_string()))?;
        let values = parse(&text, "it").map_err(|_| refuse("is not a JSON object of name and text"))?;
        if values.contains_key(ROOT_KEYRING) {
            Ok(Self(values))
        } else {
            // Not added in place: if a keyring was lost here, a new one would hide that nothing sealed opens any more.
            Err(refuse("has no \"root_keyring\"; move the file away to have a new one made"))
        }
    }
}

#[async_trait]
impl Secrets for FileSecrets {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        Ok(self.0.get(name).cloned())
    }
}

/// Writes a first secrets file, whole or not at all, and never over another one.
fn create(path: &Path, rng: &Rng) -> io::Result<()> {
    let content = serde_json::json!({ROOT_KEYRING: Keyring::generate(rng)});
    let part = path.with_extension(format!("{}.part", rng.text(8)));
    let mut file = private_file().open(&part)?;
    file.write_all(format!("{content:#}\n").as_bytes())?;
    file.sync_all()?;
    // A link, unlike a rename, fails when another start has made the file meanwhile; then that one holds.
    let linked = fs::hard_link(&part, path);
    fs::remove_file(&part)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Reads a file if nobody but its owner can. The open file is asked, so that it cannot be swapped in between.
fn read_private(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    if is_open_to_others(&file.metadata()?) {
        let fix = format!("other users can read it; run: chmod 600 '{}'", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, fix));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(unix)]
fn private_file() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// Makes a directory for its owner only (0700), with those above it, unless it is there.
///
/// # Errors
/// `not_configured` with a message for whoever starts the platform.
#[cfg(unix)]
pub(super) fn private_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    make_directory(path, fs::DirBuilder::new().recursive(true).mode(0o700))
}

// Elsewhere a user's own directories are closed to others by default, and there is no mode to ask for.
#[cfg(not(unix))]
fn is_open_to_others(_: &fs::Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    options
}

#[cfg(not(unix))]
pub(super) fn private_directory(path: &Path) -> Result<()> {
    make_directory(path, fs::DirBuilder::new().recursive(true))
}

fn make_directory(path: &Path, builder: &fs::DirBuilder) -> Result<()> {
    builder.create(path).map_err(|error| {
        Error::with_message(Code::NotConfigured, format!("the directory {} cannot be made: {error}", path.display()))
    })
}

/// Secrets in memory, for tests.
#[derive(Debug, Default)]
pub struct MemorySecrets(Values);

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for MemorySecrets {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), Secret::new(value))).collect())
    }
}

#[async_trait]
impl Secrets for MemorySecrets {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        Ok(self.0.get(name).cloned())
    }
}

/// Finds a variable of the environment by its name.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Secrets of which the environment has the first word: `openai_api_key` is looked up as `OPENAI_API_KEY`, and only
/// when that is not set, or empty, asked of `inner`.
pub struct EnvFirst<S> {
    lookup: Box<Lookup>,
    inner: S,
}

impl<S: Secrets> EnvFirst<S> {
    /// `lookup` finds a variable by its name.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static, inner: S) -> Self {
        Self { lookup: Box::new(lookup), inner }
    }
}

#[async_trait]
impl<S: Secrets> Secrets for EnvFirst<S> {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        match (self.lookup)(&variable(name)).filter(|value| !value.is_empty()) {
            Some(value) => Ok(Some(Secret::new(value))),
            None => self.inner.get(name).await,
        }
    }
}

/// The variable of a secret: upper case, and `_` for whatever a variable's name cannot hold.
fn variable(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::{body_partial_json, header};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::kernel::ManualClock;
    use crate::ports::queue::tests::sdk_config;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:chatia";

    fn manager(endpoint: &str) -> (ManagerSecrets, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Time::from_millis(1_767_225_600_000)));
        (ManagerSecrets::new(sdk_config(endpoint), ARN, clock.clone()), clock)
    }

    #[tokio::test]
    async fn all_that_is_missing_is_told_at_once() {
        let secrets = MemorySecrets::from_iter([(ROOT_KEYRING, "[]"), (POLAR_TOKEN, " ")]);
        require(&secrets, &[ROOT_KEYRING]).await.unwrap();
        let error = require(&secrets, &[OPENAI_KEY, ROOT_KEYRING, POLAR_TOKEN]).await.unwrap_err();
        assert_eq!(error.code(), Code::NotConfigured);
        assert!(error.to_string().contains("openai_api_key, polar_access_token."), "{error}");
    }

    /// Answers the next `times` calls only.
    async fn answer(server: &MockServer, response: ResponseTemplate, times: u64) {
        Mock::given(header("x-amz-target", "secretsmanager.GetSecretValue"))
            .and(body_partial_json(json!({"SecretId": ARN})))
            .respond_with(response)
            .up_to_n_times(times)
            .expect(times)
            .mount(server)
            .await;
    }

    fn holds(secret: &str) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(json!({"ARN": ARN, "SecretString": secret}))
    }

    async fn text(secrets: &dyn Secrets, name: &str) -> Option<String> {
        secrets.get(name).await.unwrap().map(|secret| secret.expose().to_owned())
    }

    #[tokio::test]
    async fn the_manager_is_asked_once_in_five_minutes() {
        let server = MockServer::start().await;
        answer(&server, holds(r#"{"a": "1", "b": "2"}"#), 1).await;
        let (secrets, clock) = manager(&server.uri());
        let (a, b, c) = tokio::join!(text(&secrets, "a"), text(&secrets, "b"), text(&secrets, "c"));
        assert_eq!((a.as_deref(), b.as_deref(), c), (Some("1"), Some("2"), None));
        clock.advance(FRESH - Duration::from_millis(1));
        assert_eq!(text(&secrets, "a").await.as_deref(), Some("1"));
        answer(&server, holds(r#"{"a": "new"}"#), 1).await;
        clock.advance(Duration::from_millis(1));
        assert_eq!(text(&secrets, "a").await.as_deref(), Some("new"));
        assert_eq!(text(&secrets, "b").await, None);
    }

    #[tokio::test]
    async fn old_values_serve_on_while_the_manager_fails() {
        let server = MockServer::start().await;
        let (secrets, clock) = manager(&server.uri());
        answer(&server, ResponseTemplate::new(500), 1).await;
        assert_eq!(secrets.get("a").await.unwrap_err().code(), Code::Unavailable);
        answer(&server, holds(r#"{"a": "1"}"#), 1).await;
        assert_eq!(text(&secrets, "a").await.as_deref(), Some("1"));
        answer(&server, ResponseTemplate::new(500), 1).await;
        clock.advance(FRESH);
        assert_eq!(text(&secrets, "a").await.as_deref(), Some("1"));
        assert_eq!(text(&secrets, "a").await.as_deref(), Some("1"));
        answer(&server, holds(r#"{"a": "2"}"#), 1).await;
        clock.advance(STALE);
        assert_eq!(text(&secrets, "a").await.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn no_error_quotes_a_secret() {
        let server = MockServer::start().await;
        let responses = [
            holds(r#"{"a": {"nested": "hunter2"}}"#),
            holds(r#""hunter2""#),
            ResponseTemplate::new(200).set_body_string(r#"{"SecretString": "hunter2"#),
            ResponseTemplate::new(400)
                .set_body_string(r#"{"__type": "hunter1", "Message": "x", "SecretString": "hunter2"}"#),
        ];
        for response in responses {
            answer(&server, response, 1).await;
            let error = manager(&server.uri()).0.get("a").await.unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_first_start_makes_a_file_that_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data/secrets.json");
        let first = text(&FileSecrets::open(&path, &Rng::seeded(1)).unwrap(), ROOT_KEYRING).await.unwrap();
        Keyring::parse(&first).unwrap();
        let again = FileSecrets::open(&path, &Rng::seeded(2)).unwrap();
        assert_eq!(text(&again, ROOT_KEYRING).await.unwrap(), first);
        assert_eq!(text(&again, "openai_api_key").await, None);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_another_start_made_holds() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secrets.json");
        create(&path, &Rng::seeded(1)).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        create(&path, &Rng::seeded(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secrets.json");
        FileSecrets::open(&path, &Rng::seeded(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = FileSecrets::open(&path, &Rng::seeded(1)).unwrap_err();
            assert_eq!(error.code(), Code::NotConfigured);
            assert!(error.message().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(FileSecrets::open(&path, &Rng::seeded(1)).is_ok());
    }

    #[test]
    fn a_broken_file_is_told_without_its_content() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secrets.json");
        let broken = [("", "JSON"), (r#"{"a": 7, "b": "hunter2"}"#, "JSON"), (r#"{"b": "hunter2"}"#, "root_keyring")];
        for (content, told) in broken {
            let _ = fs::remove_file(&path);
            private_file().open(&path).unwrap().write_all(content.as_bytes()).unwrap();
            let error = FileSecrets::open(&path, &Rng::seeded(1)).unwrap_err();
            assert!(error.message().contains(told) && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_environment_wins_unless_it_is_empty() {
        let variables = HashMap::from([("OPENAI_API_KEY", "env"), ("EMPTY", ""), ("A_B_C", "dots")]);
        let kept =
            Arc::new(MemorySecrets::from_iter([("openai_api_key", "kept"), ("empty", "kept"), ("other", "kept")]));
        let secrets = EnvFirst::new(move |name| variables.get(name).map(|value| (*value).to_owned()), kept);
        assert_eq!(text(&secrets, "openai_api_key").await.as_deref(), Some("env"));
        assert_eq!(text(&secrets, "empty").await.as_deref(), Some("kept"));
        assert_eq!(text(&secrets, "other").await.as_deref(), Some("kept"));
        assert_eq!(text(&secrets, "a.b-c").await.as_deref(), Some("dots"));
        assert_eq!(text(&secrets, "none").await, None);
    }
}
