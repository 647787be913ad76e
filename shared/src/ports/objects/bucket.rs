//! A bucket of S3, or of a service that speaks its language. Each call is an address that `rusty-s3` signs for a moment,
//! called by the client of our own services: a small part of what a whole SDK or a store for every cloud would weigh.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use reqwest::{RequestBuilder, StatusCode};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket as Signer, Credentials, S3Action as _, UrlStyle};
use tokio::sync::OnceCell;

use super::{Store, failed};
use crate::kernel::{Code, Error, Result};
use crate::ports::egress::managed_client;

/// How long a call may take, with all of its tries: less than the 29 s that a buffered route has.
const TIMEOUT: Duration = Duration::from_secs(24);

/// How long one try may take. One that took too long is not repeated.
const TRY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the address of a call of our own holds.
const VALID: Duration = Duration::from_secs(300);

/// Between the tries of a call. Whatever is asked of a bucket may be asked twice.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(400)];

/// A bucket, opened on first use.
pub(super) struct Bucket {
    name: String,
    environment: Environment,
    opened: OnceCell<Opened>,
}

/// A variable of the environment, unless it is not set.
pub type Environment = fn(&str) -> Option<String>;

struct Opened {
    signer: Signer,
    credentials: Credentials,
    client: reqwest::Client,
}

impl Bucket {
    /// A bucket of this account: region, credentials and endpoint are those of the standard `AWS_…` variables.
    pub(super) const fn of_account(name: String, environment: Environment) -> Self {
        Self { name, environment, opened: OnceCell::const_new() }
    }

    /// A bucket of a service elsewhere.
    pub(super) fn of_service(endpoint: &str, name: &str, (id, secret): (&str, &str)) -> Result<Self> {
        let opened = Opened::new(endpoint, UrlStyle::Path, (name, "eu-west-1"), Credentials::new(id, secret))?;
        Ok(Self { name: name.to_owned(), environment: |_| None, opened: OnceCell::new_with(Some(opened)) })
    }

    async fn opened(&self) -> Result<&Opened> {
        self.opened.get_or_try_init(|| async { Opened::of_account(&self.name, self.environment) }).await
    }
}

impl Opened {
    fn of_account(name: &str, given: Environment) -> Result<Self> {
        let missing = |name: &str| Error::with_message(Code::NotConfigured, format!("The variable {name} is missing."));
        let required = |name: &str| given(name).ok_or_else(|| missing(name));
        let region = required("AWS_REGION")?;
        let (id, secret) = (required("AWS_ACCESS_KEY_ID")?, required("AWS_SECRET_ACCESS_KEY")?);
        let credentials = match given("AWS_SESSION_TOKEN") {
            Some(token) => Credentials::new_with_token(id, secret, token),
            None => Credentials::new(id, secret),
        };
        match given("AWS_ENDPOINT_URL_S3").or_else(|| given("AWS_ENDPOINT_URL")) {
            // Where a service's address is given, its certificate names that address and no bucket.
            Some(endpoint) => Self::new(&endpoint, UrlStyle::Path, (name, &region), credentials),
            None => {
                let endpoint = format!("https://s3.{region}.amazonaws.com");
                Self::new(&endpoint, UrlStyle::VirtualHost, (name, &region), credentials)
            }
        }
    }

    fn new(endpoint: &str, style: UrlStyle, (name, region): (&str, &str), credentials: Credentials) -> Result<Self> {
        let wrong =
            |why: String| Error::with_message(Code::NotConfigured, format!("The bucket {name} at {endpoint}: {why}"));
        let address = endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        let signer = Signer::new(address, style, name.to_owned(), region.to_owned());
        Ok(Self { signer: signer.map_err(|error| wrong(error.to_string()))?, credentials, client: managed_client()? })
    }

    /// Sends a request, once more where it failed on the way or at the service.
    async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let tries = tokio::time::timeout(TIMEOUT, Self::tries(request));
        tries.await.unwrap_or_else(|_| Err(failed("no answer in time")))
    }

    async fn tries(request: RequestBuilder) -> Result<Answer> {
        let mut pauses = PAUSES.into_iter();
        loop {
            // What it sends is in memory, so it can be sent again.
            let again = request.try_clone().ok_or_else(|| Error::internal("a request that cannot be copied"))?;
            let answer = Answer::to(again).await;
            let is_worth_it = match &answer {
                Ok(Answer { status, .. }) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
                Err(error) => !error.is_timeout(),
            };
            match pauses.next() {
                Some(pause) if is_worth_it => tokio::time::sleep(pause).await,
                // An address is signed, and would be a key to the object in a log.
                _ => return answer.map_err(|error| failed(error.without_url())),
            }
        }
    }

    async fn list_some(&self, prefix: &str, most: usize, after: Option<String>) -> Result<Listed> {
        let mut action = self.signer.list_objects_v2(Some(&self.credentials));
        action.with_prefix(prefix);
        action.with_max_keys(most.min(1_000));
        if let Some(after) = after {
            action.with_continuation_token(after);
        }
        let listed = self.send(self.client.get(action.sign(VALID))).await?.body()?;
        let page = ListObjectsV2::parse_response(&String::from_utf8_lossy(&listed)).map_err(failed)?;
        Ok((page.contents.into_iter().map(|object| object.key).collect(), page.next_continuation_token))
    }
}

/// Keys, and what to go on with when there are more.
type Listed = (Vec<String>, Option<String>);

/// What a bucket answers, whole.
struct Answer {
    status: StatusCode,
    bytes: Bytes,
}

impl Answer {
    async fn to(request: RequestBuilder) -> reqwest::Result<Self> {
        let answer = request.timeout(TRY_TIMEOUT).send().await?;
        Ok(Self { status: answer.status(), bytes: answer.bytes().await? })
    }

    /// What a call that worked is answered with.
    fn body(self) -> Result<Bytes> {
        if self.status.is_success() { Ok(self.bytes) } else { Err(failed(format!("{} {}", self.status, self.code()))) }
    }

    /// The word for what went wrong. The rest of the document may quote credentials.
    fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.chars().filter(char::is_ascii_alphanumeric).take(60).collect()).unwrap_or_default()
    }
}

#[async_trait]
impl Store for Bucket {
    async fn put(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<()> {
        let opened = self.opened().await?;
        let address = opened.signer.put_object(Some(&opened.credentials), key).sign(VALID);
        let request = opened.client.put(address).header("content-type", content_type).body(bytes);
        opened.send(request).await?.body().map(drop)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let opened = self.opened().await?;
        let address = opened.signer.get_object(Some(&opened.credentials), key).sign(VALID);
        let answer = opened.send(opened.client.get(address)).await?;
        if answer.status == StatusCode::NOT_FOUND && answer.code() != "NoSuchBucket" {
            return Ok(None);
        }
        answer.body().map(Some)
    }

    async fn address(&self, key: &str, disposition: &str, valid: Duration) -> Result<Option<String>> {
        let opened = self.opened().await?;
        let mut action = opened.signer.get_object(Some(&opened.credentials), key);
        action.query_mut().insert("response-content-disposition", disposition);
        Ok(Some(action.sign(valid).into()))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let opened = self.opened().await?;
        let address = opened.signer.delete_object(Some(&opened.credentials), key).sign(VALID);
        // S3 answers 204 for an object that is not there; its 404 means that the bucket is not.
        opened.send(opened.client.delete(address)).await?.body().map(drop)
    }

    async fn list(&self, tenant: &str, most: usize) -> Result<Vec<String>> {
        let (opened, prefix) = (self.opened().await?, format!("{tenant}/"));
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < most {
            let (keys, next) = opened.list_some(&prefix, most - found.len(), after).await?;
            found.extend(keys);
            after = next;
            if after.is_none() {
                break;
            }
        }
        found.truncate(most);
        Ok(found)
    }
}
