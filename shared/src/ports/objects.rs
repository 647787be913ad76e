//! Objects: files too large for the table, such as uploads and exports. Production keeps them in S3, the local platform
//! in a directory; both behind `object_store`.

mod address;

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

// The same type as `bytes::Bytes`, which both `object_store` and the HTTP floor speak.
use axum::body::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use object_store::{Attribute, Attributes, ClientConfigKey, ObjectStore, ObjectStoreExt as _, PutOptions, RetryConfig};
use tokio::sync::OnceCell;

pub use address::PATH as ADDRESSES;

use address::Addresses;

use super::secrets::private_directory;
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
    /// Built on first use, since its client loads TLS roots.
    S3 { bucket: String, open: Open, store: OnceCell<Arc<dyn Bucket>> },
    /// A directory or memory, which keep no content types.
    Local(Arc<dyn ObjectStore>, Option<Addresses>),
    /// Nowhere.
    None,
}

/// A store that gives signed addresses.
trait Bucket: ObjectStore + Signer {}

impl Bucket for AmazonS3 {}

/// How a bucket is opened. Only who makes a [`Place::S3`] names it, so that others do not link its library.
type Open = fn(&str) -> Result<Arc<dyn Bucket>>;

impl Objects {
    /// A bucket. Region, credentials and endpoint come from the standard `AWS_…` variables, read by `object_store`
    /// on first use; in a function they are the ones of its role. The role needs `s3:ListBucket` too: without it S3
    /// answers 403 where there is no object, and [`Self::get`] cannot tell that from a refusal.
    #[must_use]
    pub fn s3(bucket: impl Into<String>) -> Self {
        let open: Open = |bucket| open_s3(AmazonS3Builder::from_env(), bucket);
        Self(Place::S3 { bucket: bucket.into(), open, store: OnceCell::new() })
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
    /// When this is no address.
    pub fn service(endpoint: &str, bucket: &str, (id, secret): (&str, &str)) -> Result<Self> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_region("eu-west-1")
            .with_access_key_id(id)
            .with_secret_access_key(secret);
        let open: Open = |_| Err(Error::internal("a service is opened at once"));
        let store = OnceCell::new_with(Some(open_s3(builder, bucket)?));
        Ok(Self(Place::S3 { bucket: bucket.to_owned(), open, store }))
    }

    /// A directory, which is made, for its owner only, if it is not there.
    ///
    /// # Errors
    /// `not_configured` when it cannot be made or entered.
    pub fn directory(path: &FilePath) -> Result<Self> {
        private_directory(path)?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| {
            Error::with_message(Code::NotConfigured, format!("{} cannot hold objects: {error}", path.display()))
        })?;
        Ok(Self(Place::Local(Arc::new(store.with_automatic_cleanup(true)), None)))
    }

    /// The same, if it is a directory or memory, with addresses below [`ADDRESSES`], which [`Self::at`] knows again: they
    /// are for whoever answers requests, as S3 does for a bucket.
    #[must_use]
    pub fn with_addresses(self, rng: &Rng, clock: Arc<dyn Clock>) -> Self {
        match self.0 {
            Place::Local(store, _) => Self(Place::Local(store, Some(Addresses::new(rng, clock)))),
            place => Self(place),
        }
    }

    /// What is at an address that [`Self::with_addresses`] made, with its `Content-Disposition`, by the address's query.
    /// `None` when it is none, when its time is over, and when there is no such object any more.
    ///
    /// # Errors
    /// `unavailable` when the store does not answer.
    pub async fn at(&self, query: &str) -> Result<Option<(Bytes, String)>> {
        let Place::Local(_, Some(addresses)) = &self.0 else { return Ok(None) };
        let Some((key, disposition)) = addresses.read(query) else { return Ok(None) };
        Ok(self.get(&key).await?.map(|bytes| (bytes, disposition)))
    }

    /// Memory, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self(Place::Local(Arc::new(InMemory::new()), None))
    }

    /// Stores an object, whole or not at all, in place of any that has the key. `content_type` is what a download by
    /// a signed URL would carry; [`Self::get`] does not return it.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when the store does not take it.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>, content_type: &str) -> Result<()> {
        let path = path(key)?;
        let mut options = PutOptions::default();
        if matches!(self.0, Place::S3 { .. }) {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, content_type.to_owned())]);
        }
        let put = self.store().await?.put_opts(&path, bytes.into().into(), options).await;
        put.map(|_| ()).map_err(failed)
    }

    /// The object's bytes, or `None` when there is none.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when the store does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.store().await?.get(&path(key)?).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// An address at which anybody who has it may download an object for a while, under this `Content-Disposition`; `None`
    /// where objects have no addresses. That there is no object shows only there.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when there are no credentials to sign with.
    pub async fn address(&self, key: &str, disposition: &str, valid: Duration) -> Result<Option<String>> {
        let (bucket, open, store) = match &self.0 {
            Place::S3 { bucket, open, store } => (bucket, open, store),
            Place::Local(_, Some(addresses)) => {
                let of = |path: Path| addresses.of(path.as_ref(), disposition, valid);
                return path(key).map(of).map(Some);
            }
            Place::Local(_, None) | Place::None => return Ok(None),
        };
        let (path, store) = (path(key)?, store.get_or_try_init(|| async { open(bucket) }).await?);
        let options = SignedUrlOptions::default().with_query([("response-content-disposition", disposition)]);
        let url = store.signed_url_opts(Method::GET, &path, valid, &options).await.map_err(failed)?;
        Ok(Some(url.into()))
    }

    /// Deletes an object; that there is none is fine.
    ///
    /// # Errors
    /// `validation_error` on `key`; `unavailable` when the store does not answer.
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self.store().await?.delete(&path(key)?).await {
            Ok(()) => Ok(()),
            // S3 answers 204 for an object that is not there; its 404 means that the bucket is not.
            Err(object_store::Error::NotFound { .. }) if matches!(self.0, Place::Local(..)) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Up to `most` keys of a tenant's objects, in no order.
    ///
    /// # Errors
    /// `unavailable` when the store does not answer.
    pub async fn list(&self, tenant: Id<Workspace>, most: usize) -> Result<Vec<String>> {
        // A prefix is of whole segments, so that no tenant's id is the beginning of another's.
        let prefix = Path::from(Self::of(tenant));
        let found = self.store().await?.list(Some(&prefix)).take(most);
        found.map_ok(|object| object.location.to_string()).try_collect().await.map_err(failed)
    }

    /// The first segment of the keys of a tenant's objects.
    #[must_use]
    pub fn of(tenant: Id<Workspace>) -> String {
        tenant.key()
    }

    async fn store(&self) -> Result<&dyn ObjectStore> {
        match &self.0 {
            Place::Local(store, _) => Ok(store.as_ref()),
            Place::S3 { bucket, open, store } => Ok(store.get_or_try_init(|| async { open(bucket) }).await?.as_ref()),
            Place::None => Err(Error::new(Code::NotConfigured).caused_by("nothing here keeps objects")),
        }
    }
}

/// The time-outs stay below the 29 s that a buffered route has. They are set one by one, since a whole set of client
/// options would undo what the environment says of them.
fn open_s3(builder: AmazonS3Builder, bucket: &str) -> Result<Arc<dyn Bucket>> {
    let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() };
    let builder = builder
        .with_bucket_name(bucket)
        // We delete one at a time, and every S3-compatible service knows that request.
        .with_disable_bulk_delete(true)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), "5 seconds")
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "20 seconds")
        .with_retry(retry);
    let store = builder.build().map_err(|error| Error::internal(format!("bucket {bucket}: {error}")))?;
    Ok(Arc::new(store))
}

fn failed(error: object_store::Error) -> Error {
    Error::new(Code::Unavailable).caused_by(format!("objects: {error}"))
}

/// Reads a key. Strict, because a key becomes a path of the local disk and a tenant's border in the bucket.
fn path(key: &str) -> Result<Path> {
    let bad =
        || Error::field("key", "invalid", "An object's key is tenant/name, of letters, digits, '-', '_' and '.'.");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let segments: Vec<&str> = key.split('/').collect();
    let good = |segment: &&str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain);
    if key.len() > MAX_KEY || segments.len() < 2 || !segments.iter().all(good) {
        return Err(bad());
    }
    Path::parse(key).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use crate::kernel::{ManualClock, Time};
    use wiremock::matchers::{header, method, path as path_is};
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
            assert_eq!(path(key).unwrap_err().invalid_fields()[0].name, "key", "{key}");
        }
        for key in ["ws/a", "00jd3k/uploads/01h-x_y.tar.gz", "ws/a..b"] {
            assert_eq!(path(key).unwrap().as_ref(), key);
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
        at("PUT").and(header("content-type", "text/plain")).respond_with(stored).expect(1).mount(&server).await;
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

        Mock::given(path_is("/bucket/ws/no")).respond_with(ResponseTemplate::new(403)).mount(&server).await;
        assert_eq!(objects.get("ws/no").await.unwrap_err().code(), Code::Unavailable);
    }
}
