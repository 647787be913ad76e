//! Objects: files too large for the table, such as uploads and exports. Production keeps them in S3 ([`bucket`]), the
//! local platform in a directory ([`local`]).

mod address;
mod bucket;
mod local;

use std::fmt::Display;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
// The same type as `bytes::Bytes`, which both kinds of store and the HTTP floor speak.
use axum::body::Bytes;

pub use address::PATH as ADDRESSES;
pub use bucket::Environment;

use address::Addresses;
use bucket::Bucket;
use local::Local;

use crate::domain::Workspace;
use crate::kernel::{Clock, Code, Error, Id, Result, Rng};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 512;

/// What IAM calls storing, reading and deleting objects.
pub const KEEPS: [&str; 3] = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"];

/// What it calls reading them, also by a signed address.
pub const READS: [&str; 1] = ["s3:GetObject"];

/// What it calls being told that there is no object of a key, see [`Objects::s3`].
pub const LISTS: [&str; 1] = ["s3:ListBucket"];

/// A store of objects.
///
/// A key is `<tenant>/<segment>/…`: at least two segments, the tenant's id first, so that a whole tenant can be listed
/// and deleted. Segments are of ASCII letters, digits, `-`, `_` and `.`, and do not start with a dot.
#[derive(Clone)]
pub struct Objects(Place);

#[derive(Clone)]
enum Place {
    /// A bucket. Only who makes one names it, so that others do not link it.
    Elsewhere(Arc<dyn Store>),
    /// A directory or memory.
    Here(Local),
    /// Nowhere.
    None,
}

/// What keeps objects. Keys have been looked at.
#[async_trait]
trait Store: Send + Sync {
    async fn put(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<()>;
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;
    async fn address(&self, key: &str, disposition: &str, valid: Duration) -> Result<Option<String>>;
    async fn delete(&self, key: &str) -> Result<()>;
    /// Keys whose first segment this is.
    async fn list(&self, tenant: &str, most: usize) -> Result<Vec<String>>;
}

impl Objects {
    /// A bucket. Region, credentials and endpoint come from the standard `AWS_…` variables, asked for on first use; in a
    /// function they are the ones of its role. The role needs `s3:ListBucket` too: without it S3 answers 403 where there
    /// is no object, and [`Self::get`] cannot tell that from a refusal.
    #[must_use]
    pub fn s3(bucket: impl Into<String>, environment: Environment) -> Self {
        Self(Place::Elsewhere(Arc::new(Bucket::of_account(bucket.into(), environment))))
    }

    /// No store: whatever is asked of it is refused.
    #[must_use]
    pub const fn none() -> Self {
        Self(Place::None)
    }

    /// Whether it is [`Self::none`].
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self.0, Place::None)
    }

    /// A bucket of a service that speaks S3's language, with keys of its own instead of the environment's.
    ///
    /// # Errors
    /// `not_configured` when this is no address.
    pub fn service(endpoint: &str, bucket: &str, keys: (&str, &str)) -> Result<Self> {
        Ok(Self(Place::Elsewhere(Arc::new(Bucket::of_service(endpoint, bucket, keys)?))))
    }

    /// A directory, which is made, for its owner only, if it is not there.
    ///
    /// # Errors
    /// `not_configured` when it cannot be made or entered.
    pub fn directory(path: &FilePath) -> Result<Self> {
        Local::directory(path).map(Place::Here).map(Self)
    }

    /// Memory, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self(Place::Here(Local::memory()))
    }

    /// The same, if it is a directory or memory, with addresses below [`ADDRESSES`], which [`Self::at`] knows again: they
    /// are for whoever answers requests, as S3 does for a bucket.
    #[must_use]
    pub fn with_addresses(self, rng: &Rng, clock: Arc<dyn Clock>) -> Self {
        match self.0 {
            Place::Here(local) => Self(Place::Here(local.with(Addresses::new(rng, clock)))),
            place => Self(place),
        }
    }

    /// What is at an address that [`Self::with_addresses`] made, with its `Content-Disposition`, by the address's query.
    /// `None` when it is none, when its time is over, and when there is no such object any more.
    ///
    /// # Errors
    /// `unavailable` when the store does not answer.
    pub async fn at(&self, query: &str) -> Result<Option<(Bytes, String)>> {
        let Place::Here(Local { addresses: Some(addresses), .. }) = &self.0 else { return Ok(None) };
        let Some((key, disposition)) = addresses.read(query) else { return Ok(None) };
        Ok(self.get(&key).await?.map(|bytes| (bytes, disposition)))
    }

    /// Stores an object, whole or not at all, in place of any that has the key. `content_type` is what a download by
    /// a signed URL would carry; [`Self::get`] does not return it.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when the store does not take it.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>, content_type: &str) -> Result<()> {
        check(key)?;
        self.store()?.put(key, bytes.into(), content_type).await
    }

    /// The object's bytes, or `None` when there is none.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when the store does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check(key)?;
        self.store()?.get(key).await
    }

    /// An address at which anybody who has it may download an object for a while, under this `Content-Disposition`; `None`
    /// where objects have no addresses. That there is no object shows only there.
    ///
    /// # Errors
    /// `validation_error` on `key`; `not_configured` when there are no credentials to sign with.
    pub async fn address(&self, key: &str, disposition: &str, valid: Duration) -> Result<Option<String>> {
        check(key)?;
        match &self.0 {
            Place::None => Ok(None),
            _ => self.store()?.address(key, disposition, valid).await,
        }
    }

    /// Deletes an object; that there is none is fine.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when the store does not answer.
    pub async fn delete(&self, key: &str) -> Result<()> {
        check(key)?;
        self.store()?.delete(key).await
    }

    /// Up to `most` keys of a tenant's objects, in no order.
    ///
    /// # Errors
    /// `unavailable` when the store does not answer.
    pub async fn list(&self, tenant: Id<Workspace>, most: usize) -> Result<Vec<String>> {
        self.store()?.list(&Self::of(tenant), most).await
    }

    /// The first segment of the keys of a tenant's objects.
    #[must_use]
    pub fn of(tenant: Id<Workspace>) -> String {
        tenant.key()
    }

    fn store(&self) -> Result<&dyn Store> {
        match &self.0 {
            Place::Elsewhere(store) => Ok(store.as_ref()),
            Place::Here(local) => Ok(local),
            Place::None => Err(Error::new(Code::NotConfigured).caused_by("nothing here keeps objects")),
        }
    }
}

fn failed(error: impl Display) -> Error {
    Error::new(Code::Unavailable).caused_by(format!("objects: {error}"))
}

/// Looks at a key. Strict, because a key becomes a path of the local disk and a tenant's border in the bucket.
fn check(key: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let segments: Vec<&str> = key.split('/').collect();
    let good = |segment: &&str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain);
    if key.len() <= MAX_KEY && segments.len() >= 2 && segments.iter().all(good) {
        return Ok(());
    }
    Err(Error::field("key", "invalid", "An object's key is tenant/name, of letters, digits, '-', '_' and '.'."))
}

#[cfg(test)]
mod tests {
    use crate::kernel::{ManualClock, Time};
    use wiremock::matchers::{body_string, header, method, path as path_is, query_param, query_param_is_missing};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[test]
    fn a_key_stays_in_its_tenant() {
        let long = format!("ws/{}", "x".repeat(MAX_KEY));
        let words = r"
            / ws ws/ /ws/a ws//a ws/a/ ../a ws/.. ws/../other/a ws/./a ws/.hidden ws/... ws/a\..\b ws/ä ws/%2e%2e/a
            ws/a?b ws/a#1 C:/a
        ";
        for key in words.split_whitespace().chain(["", "ws/a b", "ws/a\0", "ws/a\n", &long]) {
            assert_eq!(check(key).unwrap_err().invalid_fields()[0].name, "key", "{key}");
        }
        for key in ["ws/a", "00jd3k/uploads/01h-x_y.tar.gz", "ws/a..b"] {
            check(key).unwrap();
        }
    }

    async fn keeps_objects(objects: Objects) {
        assert_eq!(objects.get("ws/files/a.txt").await.unwrap(), None);
        objects.put("ws/files/a.txt", "one", "text/plain").await.unwrap();
        objects.put("ws/files/a.txt", "two", "text/plain").await.unwrap();
        assert_eq!(objects.get("ws/files/a.txt").await.unwrap().unwrap(), "two");
        assert_eq!(objects.get("other/files/a.txt").await.unwrap(), None);
        assert_eq!(objects.address("ws/files/a.txt", "attachment", Duration::from_secs(60)).await.unwrap(), None);
        objects.delete("ws/files/a.txt").await.unwrap();
        objects.delete("ws/files/a.txt").await.unwrap();
        assert_eq!(objects.get("ws/files/a.txt").await.unwrap(), None);
        assert!(objects.put("ws/../x/y", "no", "text/plain").await.is_err());
    }

    async fn lists_objects_of_one_tenant(objects: Objects) {
        let [ours, other] = [7, 7 << 5].map(|id| Id::from_int(id).unwrap());
        for (tenant, name) in [(ours, "a"), (ours, "deep/b"), (ours, "c"), (other, "a")] {
            objects.put(&format!("{}/{name}", Objects::of(tenant)), "x", "text/plain").await.unwrap();
        }
        let mut found = objects.list(ours, 10).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, ["a", "c", "deep/b"].map(|name| format!("{}/{name}", Objects::of(ours))));
        assert_eq!(objects.list(ours, 2).await.unwrap().len(), 2);
        assert_eq!(objects.list(Id::from_int(8).unwrap(), 2).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_tenants_objects_are_listed() {
        let root = tempfile::tempdir().unwrap();
        lists_objects_of_one_tenant(Objects::directory(&root.path().join("objects")).unwrap()).await;
        lists_objects_of_one_tenant(Objects::memory()).await;
    }

    #[tokio::test]
    async fn a_directory_keeps_objects() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("data/objects");
        keeps_objects(Objects::directory(&directory).unwrap()).await;
        let reopened = Objects::directory(&directory).unwrap();
        reopened.put("ws/b", "kept", "text/plain").await.unwrap();
        assert_eq!(Objects::directory(&directory).unwrap().get("ws/b").await.unwrap().unwrap(), "kept");
    }

    #[tokio::test]
    async fn memory_keeps_objects() {
        // Spawned, which shows that handlers can await it.
        tokio::spawn(keeps_objects(Objects::memory())).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_holds_for_a_while_and_for_its_object_only() {
        let clock = Arc::new(ManualClock::at(Time::from_millis(1_000_000)));
        let objects = Objects::memory().with_addresses(&Rng::seeded(1), Arc::clone(&clock) as _);
        for name in ["a", "b"] {
            objects.put(&format!("ws/{name}"), name, "text/plain").await.unwrap();
        }
        let minute = Duration::from_secs(60);
        let address = objects.address("ws/a", "attachment; filename=\"a b.txt\"", minute).await.unwrap().unwrap();
        let query = address.strip_prefix(ADDRESSES).unwrap().strip_prefix('?').unwrap();
        let (bytes, disposition) = objects.at(query).await.unwrap().unwrap();
        assert_eq!((bytes.as_ref(), disposition.as_str()), (b"a".as_slice(), "attachment; filename=\"a b.txt\""));
        let others =
            [query.replace("ws%2Fa", "ws%2Fb"), query.replace("a+b", "a"), query.replace("until=1", "until=2")];
        for other in others.iter().map(String::as_str).chain(["", "object=ws%2Fa&as=x&until=9999999999999&mac="]) {
            assert!(other != query && objects.at(other).await.unwrap().is_none(), "{other}");
        }
        clock.advance(minute);
        assert_eq!(objects.at(query).await.unwrap(), None);
        assert_eq!(Objects::memory().at(query).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_bucket_is_spoken_to_as_s3_wants_it() {
        let server = MockServer::start().await;
        let objects = Objects::service(&server.uri(), "bucket", ("id", "key")).unwrap();

        let at = |verb: &str| Mock::given(method(verb)).and(path_is("/bucket/ws/a.txt"));
        let stored = ResponseTemplate::new(200).insert_header("etag", "\"1\"");
        // A call that failed there is made once more, with all that it had.
        at("PUT").respond_with(ResponseTemplate::new(503)).up_to_n_times(1).expect(1).mount(&server).await;
        let whole = at("PUT").and(header("content-type", "text/plain")).and(body_string("hello"));
        whole.respond_with(stored).expect(1).mount(&server).await;
        objects.put("ws/a.txt", "hello", "text/plain").await.unwrap();

        let found = ResponseTemplate::new(200)
            .insert_header("etag", "\"1\"")
            .insert_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .set_body_string("hello");
        at("GET").respond_with(found).mount(&server).await;
        assert_eq!(objects.get("ws/a.txt").await.unwrap().unwrap(), "hello");
        assert_eq!(objects.get("ws/b.txt").await.unwrap(), None);

        // What it signs names the object, how long, and as what it is downloaded.
        let minute = Duration::from_secs(60);
        let address = objects.address("ws/a.txt", "attachment; filename=\"a.txt\"", minute).await.unwrap().unwrap();
        assert!(address.starts_with(&format!("{}/bucket/ws/a.txt?", server.uri())), "{address}");
        for part in ["X-Amz-Expires=60&", "X-Amz-Signature=", "response-content-disposition=attachment%3B%20filename"] {
            assert!(address.contains(part), "{address} has no {part}");
        }

        at("DELETE").respond_with(ResponseTemplate::new(204)).expect(1).mount(&server).await;
        objects.delete("ws/a.txt").await.unwrap();
        assert!(objects.delete("ws/no-such-bucket").await.is_err());

        let refusal = |status: u16, code: &str| {
            let quoted = "<StringToSign>AWS4-HMAC-SHA256</StringToSign><Token-0>token</Token-0>";
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code>{quoted}</Error>");
            ResponseTemplate::new(status).set_body_string(body)
        };
        for (key, status, code) in [("no", 403, "SignatureDoesNotMatch"), ("nowhere", 404, "NoSuchBucket")] {
            Mock::given(path_is(format!("/bucket/ws/{key}"))).respond_with(refusal(status, code)).mount(&server).await;
            let refused = objects.get(&format!("ws/{key}")).await.unwrap_err();
            let cause = refused.cause().unwrap();
            assert_eq!(refused.code(), Code::Unavailable);
            assert!(cause.ends_with(code) && !cause.contains("X-Amz"), "credentials are quoted: {cause}");
        }
        Mock::given(path_is("/bucket/ws/gone")).respond_with(refusal(404, "NoSuchKey")).mount(&server).await;
        assert_eq!(objects.get("ws/gone").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_bucket_of_this_account_is_where_the_environment_says() {
        let address = async |environment: Environment| {
            Objects::s3("bucket", environment).address("ws/a", "attachment", Duration::from_secs(60)).await
        };
        let account = |name: &str| match name {
            "AWS_REGION" => Some("eu-central-1".into()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => Some(name.to_lowercase()),
            _ => None,
        };
        let ours = address(account).await.unwrap().unwrap();
        assert!(ours.starts_with("https://bucket.s3.eu-central-1.amazonaws.com/ws/a?"), "{ours}");
        for part in ["X-Amz-Credential=aws_access_key_id%2F", "X-Amz-Security-Token=aws_session_token&"] {
            assert!(ours.contains(part), "{ours} has no {part}");
        }
        assert!(!ours.contains("secret_access"), "{ours}");
        let elsewhere = address(|name| match name {
            "AWS_ENDPOINT_URL" => Some("http://127.0.0.1:4566".into()),
            "AWS_ENDPOINT_URL_S3" => Some("http://127.0.0.1:9000".into()),
            _ => Some("x".into()),
        });
        let elsewhere = elsewhere.await.unwrap().unwrap();
        assert!(elsewhere.starts_with("http://127.0.0.1:9000/bucket/ws/a?"), "{elsewhere}");
        let error = address(|_| None).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::NotConfigured, "The variable AWS_REGION is missing."));
    }

    #[tokio::test]
    async fn a_bucket_that_does_not_answer_shows_no_signature() {
        let objects = Objects::service("http://127.0.0.1:9", "bucket", ("id", "key")).unwrap();
        let error = objects.get("ws/a.txt").await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(!error.cause().unwrap().contains("X-Amz"), "{error:?}");
        assert_eq!(Objects::service("bucket", "b", ("id", "key")).err().unwrap().code(), Code::NotConfigured);
    }

    #[tokio::test]
    async fn a_bucket_is_listed_page_by_page() {
        let server = MockServer::start().await;
        let objects = Objects::service(&server.uri(), "bucket", ("id", "key")).unwrap();
        let tenant = Id::from_int(7).unwrap();
        let prefix = format!("{}/", Objects::of(tenant));
        let page = |names: [&str; 2], next: Option<&str>| {
            let of = |name: &str| format!("<Contents><Key>{prefix}{name}</Key><Size>1</Size></Contents>");
            let next = next.map(|next| format!("<NextContinuationToken>{next}</NextContinuationToken>"));
            let more = next.is_some();
            let (contents, next) = (names.map(of).concat(), next.unwrap_or_default());
            ResponseTemplate::new(200).set_body_string(format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
                 <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Name>bucket</Name><IsTruncated>{more}</IsTruncated>{contents}{next}</ListBucketResult>"
            ))
        };
        let asked = || Mock::given(method("GET")).and(query_param("prefix", &prefix));
        let first = asked().and(query_param_is_missing("continuation-token"));
        first.respond_with(page(["a", "deep/b"], Some("more"))).mount(&server).await;
        asked()
            .and(query_param("continuation-token", "more"))
            .respond_with(page(["c", "d"], None))
            .mount(&server)
            .await;
        let keys = |names: &[&str]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
        assert_eq!(objects.list(tenant, 10).await.unwrap(), keys(&["a", "deep/b", "c", "d"]));
        assert_eq!(objects.list(tenant, 3).await.unwrap(), keys(&["a", "deep/b", "c"]));
    }
}
