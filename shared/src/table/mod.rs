//! The one place that talks to DynamoDB: items, conditions, transactions, queries.
//!
//! Thin on purpose. It knows the shape of the table (`pk`, `sk`, two sparse indexes, `et`, `v`, `ttl`) and nothing of
//! what is in it; `store` knows that. Reserved words never bite, since every name is an expression attribute.

pub mod admin;
mod attempt;
mod cache;
mod expr;
pub mod fault;
pub mod inside;
mod meter;
mod query;
mod row;
mod scan;
mod unit;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{DisplayErrorContext, SdkError};
use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use serde::de::DeserializeOwned;

pub use aws_sdk_dynamodb::types::AttributeValue;
pub use expr::{Cond, Path, Update};
pub use meter::{Call, Meter};
pub use query::{Index, Query, Rows};
pub use row::{Row, Versioned, decode, decode_versioned, value};
pub use scan::Scanned;
pub use unit::{Failed, MAX_WRITES, Refusal, Unit};

use crate::kernel::{Clock, Error, Result, Rng};
use cache::Cache;

/// What IAM calls reading the table.
pub const READS: [&str; 3] = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"];

/// What it calls reading an index.
pub const QUERIES: [&str; 1] = ["dynamodb:Query"];

/// What it calls writing, alone and in transactions.
pub const WRITES: [&str; 4] =
    ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"];

/// What it calls being fed by the stream, which Lambda does in the name of the function's role.
pub const FOLLOWS: [&str; 3] = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"];

/// What it calls finding the table's streams, for the same.
pub const FINDS_STREAMS: [&str; 1] = ["dynamodb:ListStreams"];

/// What it calls counting calls in rate windows.
pub const COUNTS: [&str; 1] = ["dynamodb:UpdateItem"];

/// An item as DynamoDB has it.
pub type Item = HashMap<String, AttributeValue>;

/// The primary key of an item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Partition key; the tenant comes first in it.
    pub pk: String,
    /// Sort key.
    pub sk: String,
}

impl Key {
    /// A key from its two parts.
    #[must_use]
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    fn item(&self) -> Item {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("sk".to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }

    /// The key of an item.
    #[must_use]
    pub fn of(item: &Item) -> Option<Self> {
        Some(Self::new(item.get("pk")?.as_s().ok()?, item.get("sk")?.as_s().ok()?))
    }
}

/// A handle on the table; cheap to clone.
#[derive(Clone)]
pub struct Table(Arc<Inner>);

struct Inner {
    client: Client,
    name: String,
    rng: Rng,
    meter: Meter,
    cache: Cache,
}

impl Table {
    /// A handle on the table `name`. `rng` spreads retries, `clock` ages the cache.
    #[must_use]
    pub fn new(client: Client, name: impl Into<String>, rng: Rng, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { client, name: name.into(), rng, meter: Meter::default(), cache: Cache::new(clock) }))
    }

    /// As [`Self::new`], with a client of AWS. Tries are repeated here and not by the SDK, see [`attempt`].
    #[must_use]
    pub fn on_aws(sdk: &aws_config::SdkConfig, name: impl Into<String>, rng: Rng, clock: Arc<dyn Clock>) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(TRY_TIMEOUT);
        let config = aws_sdk_dynamodb::config::Builder::from(sdk)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.build());
        Self::new(Client::from_conf(config.build()), name, rng, clock)
    }

    /// What each call cost, for tests and benchmarks.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// One item, read consistently; `None` when there is none.
    ///
    /// # Errors
    /// `unavailable` when the table cannot be reached, `internal_error` when the item cannot be read as a `T`.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.get_item(key).await?.map(decode).transpose()
    }

    /// As [`Self::get`], kept in this process for up to 5 seconds. A write through this handle drops what is kept, so a
    /// process sees its own changes at once. For the few items that nearly every request reads.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_cached<T: DeserializeOwned + Send + Sync + 'static>(&self, key: &Key) -> Result<Option<Arc<T>>> {
        if let Some(kept) = self.0.cache.get(key) {
            return Ok(Some(kept));
        }
        let reading = self.0.cache.read(key);
        let found = self.get_item(key).await?.map(decode).transpose()?;
        Ok(found.map(|body| reading.keep(body)))
    }

    /// As [`Self::get`], with the version that an optimistic write must name.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_versioned<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Versioned<T>>> {
        self.get_item(key).await?.map(decode_versioned).transpose()
    }

    async fn get_item(&self, key: &Key) -> Result<Option<Item>> {
        let call = self.0.meter.start("GetItem");
        let request = self
            .0
            .client
            .get_item()
            .table_name(&self.0.name)
            .set_key(Some(key.item()))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = self.attempt(|| request.clone().send()).await.outcome.map_err(unavailable)?;
        call.read(output.consumed_capacity());
        Ok(output.item)
    }

    /// The items with these keys, in the order of the keys; missing ones are left out.
    ///
    /// # Errors
    /// `unavailable` when the table cannot be reached or keeps back keys after several tries.
    pub async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Item>> {
        let mut found: HashMap<Key, Item> = HashMap::with_capacity(keys.len());
        // No batch may name a key twice.
        let mut once = HashSet::with_capacity(keys.len());
        let keys: Vec<&Key> = keys.iter().filter(|key| once.insert(*key)).collect();
        for chunk in keys.chunks(100) {
            let mut wanted: Vec<Item> = chunk.iter().map(|key| key.item()).collect();
            for attempt in 0.. {
                let (items, rest) = self.batch_get_once(wanted).await?;
                found.extend(items.into_iter().filter_map(|item| Some((Key::of(&item)?, item))));
                if rest.is_empty() {
                    break;
                }
                if attempt == MAX_RETRIES {
                    return Err(Error::new(crate::kernel::Code::Unavailable).caused_by("BatchGetItem keeps back keys"));
                }
                self.back_off(attempt).await;
                wanted = rest;
            }
        }
        Ok(keys.into_iter().filter_map(|key| found.remove(key)).collect())
    }

    async fn batch_get_once(&self, keys: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>)> {
        let call = self.0.meter.start("BatchGetItem");
        let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let request = self
            .0
            .client
            .batch_get_item()
            .request_items(&self.0.name, request.map_err(Error::internal)?)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let mut output = self.attempt(|| request.clone().send()).await.outcome.map_err(unavailable)?;
        call.read_all(output.consumed_capacity());
        let items = output.responses.as_mut().and_then(|by_table| by_table.remove(&self.0.name)).unwrap_or_default();
        let rest = output.unprocessed_keys.and_then(|mut by_table| by_table.remove(&self.0.name));
        Ok((items, rest.map(|rest| rest.keys).unwrap_or_default()))
    }

    /// Waits before the next try: 10 ms doubling, with jitter, so that conflicting writers spread out.
    async fn back_off(&self, attempt: u32) {
        let ceiling = 10_u32 << attempt.min(6);
        let millis = ceiling / 2 + self.0.rng.below(ceiling);
        tokio::time::sleep(Duration::from_millis(u64::from(millis))).await;
    }
}

/// How often a call is tried again that conflicted, was throttled, failed or was not answered.
const MAX_RETRIES: u32 = 9;
/// How long a connection may take, and one try in all: the table answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

fn unavailable<E, R>(error: SdkError<E, R>) -> Error
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    Error::new(crate::kernel::Code::Unavailable).caused_by(DisplayErrorContext(&error)).retry_after(1)
}
