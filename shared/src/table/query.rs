//! Reading a run of sort keys in one partition of the table or of an index.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use serde::de::DeserializeOwned;

use super::expr::Names;
use super::{AttributeValue, Item, Key, Row, Table, decode, unavailable};
use crate::kernel::{Cursor, Error, Limit, Page, Result};

/// Which keys a query walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The table itself.
    Main,
    /// `gsi1`, keys only: the items are fetched after.
    Gsi1,
    /// `gsi2`, keys only.
    Gsi2,
}

impl Index {
    const fn names(self) -> (Option<&'static str>, &'static str, &'static str) {
        match self {
            Self::Main => (None, "pk", "sk"),
            Self::Gsi1 => (Some("gsi1"), "gsi1pk", "gsi1sk"),
            Self::Gsi2 => (Some("gsi2"), "gsi2pk", "gsi2sk"),
        }
    }
}

/// A run of sort keys.
#[derive(Debug, Clone)]
pub struct Query {
    index: Index,
    pk: String,
    from: String,
    to: String,
    newest_first: bool,
    after: Option<String>,
}

/// Sorts after every text that a key may hold.
const LAST: &str = "\u{10ffff}";

impl Query {
    /// Every item of the partition.
    #[must_use]
    pub fn partition(index: Index, pk: impl Into<String>) -> Self {
        Self::between(index, pk, "\u{0}", LAST)
    }

    /// The items whose sort key starts with `prefix`.
    #[must_use]
    pub fn prefix(index: Index, pk: impl Into<String>, prefix: &str) -> Self {
        Self::between(index, pk, prefix, format!("{prefix}{LAST}"))
    }

    /// The items whose sort key lies between the two, both included; none when `from` lies behind `to`.
    #[must_use]
    pub fn between(index: Index, pk: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { index, pk: pk.into(), from: from.into(), to: to.into(), newest_first: false, after: None }
    }

    /// Largest sort key first.
    #[must_use]
    pub const fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Goes on behind a position (a sort key, not included).
    #[must_use]
    pub fn after(mut self, position: Option<&Cursor>) -> Self {
        if let Some(cursor) = position
            && !self.is_empty()
        {
            // A position outside the run (a forged cursor) must not widen it, nor turn it around.
            let position = cursor.position.as_str().clamp(self.from.as_str(), self.to.as_str()).to_owned();
            let bound = if self.newest_first { &mut self.to } else { &mut self.from };
            bound.clone_from(&position);
            self.after = Some(position);
        }
        self
    }

    /// Whether no sort key can lie in the run. The table refuses to be asked for it.
    fn is_empty(&self) -> bool {
        self.from > self.to
    }
}

/// What a query found.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The items, complete, in order.
    pub items: Vec<Item>,
    /// The sort key of the last item, when there are more behind it.
    pub more_after: Option<String>,
}

impl Rows {
    /// The items that read, and where to go on. What does not read (written by a later version, say) is logged and left
    /// out, so that it holds back no other.
    #[must_use]
    pub fn readable<T>(self, read: impl Fn(Item) -> Result<T>) -> (Vec<T>, Option<Cursor>) {
        let read = |item| read(item).inspect_err(|error| tracing::error!(%error, "an item is left out")).ok();
        let position = self.more_after.map(|position| Cursor { position });
        (self.items.into_iter().filter_map(read).collect(), position)
    }
}

impl Table {
    /// Up to `limit` items. Index entries are completed from the table, so a list is never staler than its items.
    ///
    /// # Errors
    /// `unavailable` when the table cannot be reached.
    pub async fn query(&self, query: &Query, limit: usize) -> Result<Rows> {
        let (_, _, sk_name) = query.index.names();
        let mut keys = self.walk(query, limit).await?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        let position = |item: &Item| item.get(sk_name).and_then(|sk| sk.as_s().ok()).cloned();
        let more_after = if more { keys.last().and_then(position) } else { None };
        let items = match query.index {
            Index::Main => keys,
            Index::Gsi1 | Index::Gsi2 => {
                let keys: Vec<Key> = keys.iter().filter_map(Key::of).collect();
                self.batch_get(&keys).await?
            }
        };
        Ok(Rows { items, more_after })
    }

    /// Up to `limit + 1` entries, so that the caller knows whether there are more.
    async fn walk(&self, query: &Query, limit: usize) -> Result<Vec<Item>> {
        let (_, _, sk_name) = query.index.names();
        let mut found = Vec::new();
        let mut start = None;
        if query.is_empty() {
            return Ok(found);
        }
        loop {
            // One more to see whether there are more, and one for the position itself, which is skipped.
            let wanted = limit + 2 - found.len().min(limit);
            let (items, next) = self.walk_once(query, wanted, start).await?;
            let at = |item: &Item| item.get(sk_name).and_then(|sk| sk.as_s().ok()).cloned();
            found.extend(items.into_iter().filter(|item| query.after.is_none() || at(item) != query.after));
            match next {
                Some(key) if found.len() <= limit => start = Some(key),
                _ => break,
            }
        }
        found.truncate(limit + 1);
        Ok(found)
    }

    async fn walk_once(&self, query: &Query, limit: usize, start: Option<Item>) -> Result<(Vec<Item>, Option<Item>)> {
        let (index, pk_name, sk_name) = query.index.names();
        let mut names = Names::default();
        let (pk, sk) = (names.path(pk_name), names.path(sk_name));
        let of = names.value(AttributeValue::S(query.pk.clone()));
        let from = names.value(AttributeValue::S(query.from.clone()));
        let to = names.value(AttributeValue::S(query.to.clone()));
        let (names, values) = names.finish();
        let call = self.0.meter.start("Query");
        let request = self
            .0
            .client
            .query()
            .table_name(&self.0.name)
            .set_index_name(index.map(str::to_owned))
            .key_condition_expression(format!("{pk} = {of} AND {sk} BETWEEN {from} AND {to}"))
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .scan_index_forward(!query.newest_first)
            .consistent_read(index.is_none())
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = self.attempt(|| request.clone().send()).await.outcome.map_err(unavailable)?;
        call.read(output.consumed_capacity());
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key))
    }

    /// One page of a list.
    ///
    /// # Errors
    /// As [`Self::query`], and `internal_error` when an item cannot be read as a `T`.
    pub async fn page<T: DeserializeOwned>(&self, query: &Query, limit: Limit) -> Result<Page<T>> {
        let rows = self.query(query, limit.get()).await?;
        let items = rows.items.into_iter().map(decode).collect::<Result<_>>()?;
        Ok(Page { items, next: rows.more_after.map(|position| Cursor { position }), total: None })
    }

    /// Every item of a run that is known to be small; an error beyond `bound`, so that nothing grows unseen.
    ///
    /// # Errors
    /// As [`Self::query`], and `internal_error` when there are more than `bound`.
    pub async fn all(&self, query: &Query, bound: usize) -> Result<Vec<Item>> {
        let rows = self.query(query, bound).await?;
        match rows.more_after {
            Some(_) => Err(Error::internal(format!("more than {bound} items in {}", query.pk))),
            None => Ok(rows.items),
        }
    }

    /// Puts a row whatever is there: for tests and set-up, where no condition is wanted.
    ///
    /// # Errors
    /// `unavailable` when the table cannot be reached.
    pub async fn overwrite(&self, row: Row) -> Result<()> {
        let mut unit = super::Unit::new();
        unit.put(row);
        self.commit(unit).await.map_err(Into::into)
    }
}
