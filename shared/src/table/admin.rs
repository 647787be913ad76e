//! Making a table on another engine than AWS: the local platform's and the tests'. In production the template makes it.

use std::sync::Arc;

pub use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TimeToLiveSpecification,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::fault::Faults;
use super::inside::{Engine, Inside};
use super::{Table, unavailable};
use crate::kernel::{Clock, Error, Result, Rng};

/// What a table looks like, as the template says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Partition and sort key.
    pub key: (String, String),
    /// Its indexes.
    pub indexes: Vec<IndexShape>,
    /// The attribute that says when an item expires.
    pub ttl: String,
}

/// An index; both of its keys are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexShape {
    /// Its name.
    pub name: String,
    /// Partition and sort key.
    pub key: (String, String),
    /// Whether it holds keys only; else everything.
    pub keys_only: bool,
}

/// A client of an engine at `endpoint`, which takes any credentials.
#[must_use]
pub fn connect(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
    let credentials = Credentials::new("local", "local", None, None, "local");
    Client::from_conf(config(endpoint, http).credentials_provider(credentials).build())
}

/// A client of an engine in this process.
#[must_use]
pub fn connect_inside(engine: Arc<dyn Engine>) -> Client {
    inside(SharedHttpClient::new(Inside(engine)))
}

/// As [`connect_inside`], with faults on the way.
#[must_use]
pub fn connect_through(engine: Arc<dyn Engine>, faults: &Faults) -> Client {
    inside(faults.wrap(SharedHttpClient::new(Inside(engine))))
}

/// Nobody checks a signature there, so none is made.
fn inside(http: SharedHttpClient) -> Client {
    Client::from_conf(config("http://inside", http).allow_no_auth().build())
}

fn config(endpoint: &str, http: SharedHttpClient) -> aws_sdk_dynamodb::config::Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .timeout_config(TimeoutConfig::disabled())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .endpoint_url(endpoint)
        .http_client(http)
}

impl Table {
    /// A handle on the table `name` of the engine behind `client`, made there unless it exists.
    ///
    /// # Errors
    /// `unavailable` when the engine does not answer or refuses the shape.
    pub async fn open(client: Client, name: &str, shape: &Shape, rng: Rng, clock: Arc<dyn Clock>) -> Result<Self> {
        if client.describe_table().table_name(name).send().await.is_err() {
            create(&client, name, shape).await?;
        }
        Ok(Self::new(client, name, rng, clock))
    }
}

async fn create(client: &Client, name: &str, shape: &Shape) -> Result<()> {
    let keys = std::iter::once(&shape.key).chain(shape.indexes.iter().map(|index| &index.key));
    let attributes = keys.flat_map(|(pk, sk)| [pk, sk]).map(|name| {
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        attribute.build().map_err(Error::internal)
    });
    let indexes = shape.indexes.iter().map(|index| {
        let projection = if index.keys_only { ProjectionType::KeysOnly } else { ProjectionType::All };
        GlobalSecondaryIndex::builder()
            .index_name(&index.name)
            .set_key_schema(Some(key_schema(&index.key)?))
            .projection(Projection::builder().projection_type(projection).build())
            .build()
            .map_err(Error::internal)
    });
    client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(key_schema(&shape.key)?))
        .set_attribute_definitions(Some(attributes.collect::<Result<_>>()?))
        .set_global_secondary_indexes(Some(indexes.collect::<Result<_>>()?))
        .send()
        .await
        .map_err(unavailable)?;
    let ttl = TimeToLiveSpecification::builder().attribute_name(&shape.ttl).enabled(true).build();
    let ttl = ttl.map_err(Error::internal)?;
    client.update_time_to_live().table_name(name).time_to_live_specification(ttl).send().await.map_err(unavailable)?;
    Ok(())
}

fn key_schema((pk, sk): &(String, String)) -> Result<Vec<KeySchemaElement>> {
    let element = |name: &String, kind| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(Error::internal)
    };
    Ok(vec![element(pk, KeyType::Hash)?, element(sk, KeyType::Range)?])
}
