//! Objects in a directory or in memory, by `object_store`. Neither keeps content types.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _};

use super::address::Addresses;
use super::{Store, failed};
use crate::kernel::{Code, Error, Result};
use crate::ports::secrets::private_directory;

#[derive(Clone)]
pub(super) struct Local {
    store: Arc<dyn ObjectStore>,
    pub(super) addresses: Option<Addresses>,
}

impl Local {
    pub(super) fn directory(path: &FilePath) -> Result<Self> {
        private_directory(path)?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| {
            Error::with_message(Code::NotConfigured, format!("{} cannot hold objects: {error}", path.display()))
        })?;
        Ok(Self { store: Arc::new(store.with_automatic_cleanup(true)), addresses: None })
    }

    pub(super) fn memory() -> Self {
        Self { store: Arc::new(InMemory::new()), addresses: None }
    }

    /// The same, with addresses.
    pub(super) fn with(self, addresses: Addresses) -> Self {
        Self { addresses: Some(addresses), ..self }
    }
}

fn path(key: &str) -> Result<Path> {
    Path::parse(key).map_err(failed)
}

#[async_trait]
impl Store for Local {
    async fn put(&self, key: &str, bytes: Bytes, _: &str) -> Result<()> {
        self.store.put(&path(key)?, bytes.into()).await.map(drop).map_err(failed)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.store.get(&path(key)?).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn address(&self, key: &str, disposition: &str, valid: Duration) -> Result<Option<String>> {
        Ok(self.addresses.as_ref().map(|addresses| addresses.of(key, disposition, valid)))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&path(key)?).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn list(&self, tenant: &str, most: usize) -> Result<Vec<String>> {
        // A prefix is of whole segments, so that no tenant's id is the beginning of another's.
        let found = self.store.list(Some(&path(tenant)?)).take(most);
        found.map_ok(|object| object.location.to_string()).try_collect().await.map_err(failed)
    }
}
