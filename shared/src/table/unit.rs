//! A unit of work: writes that happen together or not at all.

use aws_sdk_dynamodb::error::{DisplayErrorContext, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, ReturnConsumedCapacity, ReturnValue,
    ReturnValuesOnConditionCheckFailure as OnFailure, TransactWriteItem, Update as SdkUpdate,
};

use super::expr::Names;
use super::{Cond, Item, Key, MAX_RETRIES, Row, Table, Update, unavailable};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Result};

/// How many writes and demands a unit may have.
pub const MAX_WRITES: usize = 100;

/// Writes that happen together. Exactly one becomes a plain conditional write at half the price; several become one
/// transaction (at most 100 actions, no item twice).
#[derive(Debug, Clone, Default)]
pub struct Unit {
    writes: Vec<Write>,
}

#[derive(Debug, Clone)]
struct Write {
    action: Action,
    cond: Option<Cond>,
    otherwise: Error,
}

#[derive(Debug, Clone)]
enum Action {
    Put(Row),
    Update(Update),
    Delete(Key),
    Check(Key),
}

impl Action {
    const fn key(&self) -> &Key {
        match self {
            Self::Put(row) => &row.key,
            Self::Update(update) => &update.key,
            Self::Delete(key) | Self::Check(key) => key,
        }
    }

    const fn row(&self) -> Option<&Row> {
        match self {
            Self::Put(row) => Some(row),
            Self::Update(_) | Self::Delete(_) | Self::Check(_) => None,
        }
    }
}

impl Unit {
    /// No write yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many writes and demands there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there is a write or a demand of this item; there can be one.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.writes.iter().any(|write| write.action.key() == key)
    }

    /// Creates a row. If the key is taken, the unit fails with `otherwise`.
    pub fn create(&mut self, row: Row, otherwise: Error) -> &mut Self {
        self.push(Action::Put(row), Some(Cond::new_item()), otherwise)
    }

    /// Creates a row under a fresh id. A taken id is chance, not the caller's fault: the command is run again.
    pub fn create_fresh(&mut self, row: Row) -> &mut Self {
        self.create(row, Error::new(Code::ConcurrentChange))
    }

    /// Replaces a row that was read at version `v`; the row gets `v + 1`.
    pub fn replace(&mut self, row: Row, v: u64) -> &mut Self {
        let row = row.version(v + 1);
        self.push(Action::Put(row), Some(Cond::version(v)), Error::new(Code::ConcurrentChange))
    }

    /// Puts a row whatever is there.
    pub fn put(&mut self, row: Row) -> &mut Self {
        self.push(Action::Put(row), None, Error::new(Code::Conflict))
    }

    /// Puts a row if the condition holds of what is there.
    pub fn put_if(&mut self, row: Row, cond: Cond, otherwise: Error) -> &mut Self {
        self.push(Action::Put(row), Some(cond), otherwise)
    }

    /// Changes fields if the condition holds.
    pub fn update(&mut self, update: Update, cond: Cond, otherwise: Error) -> &mut Self {
        self.push(Action::Update(update), Some(cond), otherwise)
    }

    /// Changes fields whatever is there.
    pub fn upsert(&mut self, update: Update) -> &mut Self {
        self.push(Action::Update(update), None, Error::new(Code::Conflict))
    }

    /// Deletes an item, whether it is there or not.
    pub fn delete(&mut self, key: Key) -> &mut Self {
        self.push(Action::Delete(key), None, Error::new(Code::Conflict))
    }

    /// Deletes an item if the condition holds.
    pub fn delete_if(&mut self, key: Key, cond: Cond, otherwise: Error) -> &mut Self {
        self.push(Action::Delete(key), Some(cond), otherwise)
    }

    /// Demands something of an item that the unit does not write.
    pub fn check(&mut self, key: Key, cond: Cond, otherwise: Error) -> &mut Self {
        self.push(Action::Check(key), Some(cond), otherwise)
    }

    /// Adds the writes of another unit.
    pub fn append(&mut self, other: Unit) -> &mut Self {
        self.writes.extend(other.writes);
        self
    }

    /// The items of an entity type that are put.
    pub fn rows_of(&self, et: &'static str) -> impl Iterator<Item = &Item> {
        self.writes
            .iter()
            .filter_map(|write| write.action.row())
            .map(|row| &row.item)
            .filter(move |item| item.get("et").and_then(|value| value.as_s().ok()).is_some_and(|known| known == et))
    }

    fn push(&mut self, action: Action, cond: Option<Cond>, otherwise: Error) -> &mut Self {
        self.writes.push(Write { action, cond, otherwise });
        self
    }
}

/// One write of a unit whose condition did not hold.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The key of the item.
    pub key: Key,
    /// The item as it is, if there is one.
    pub found: Option<Item>,
    /// The error that the unit named for this case.
    pub error: Error,
}

/// Why a unit did not happen.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// These conditions did not hold (at least one). Nothing was written.
    Conditions(Vec<Failed>),
    /// The table could not be reached, or refused for another reason.
    Error(Error),
}

impl Refusal {
    /// The failed condition on this key, if that is (among) what failed.
    #[must_use]
    pub fn on(&self, key: &Key) -> Option<&Failed> {
        match self {
            Self::Conditions(failed) => failed.iter().find(|failed| failed.key == *key),
            Self::Error(_) => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conditions(mut failed) if !failed.is_empty() => {
                // What was read is stale then, so that the other conditions say nothing: the command is run again.
                let stale = failed.iter().position(|failed| failed.error.code() == Code::ConcurrentChange);
                failed.remove(stale.unwrap_or(0)).error
            }
            Refusal::Conditions(_) => Error::internal("a unit failed without a reason"),
            Refusal::Error(error) => error,
        }
    }
}

impl Table {
    /// Carries out a unit, all or nothing.
    ///
    /// # Errors
    /// [`Refusal::Conditions`] when conditions do not hold; [`Refusal::Error`] when the table cannot be reached, or
    /// keeps conflicting with other writers after several tries.
    pub async fn commit(&self, unit: Unit) -> Result<(), Refusal> {
        let keys: Vec<Key> = unit.writes.iter().map(|write| write.action.key().clone()).collect();
        let outcome = self.carry_out(unit).await;
        // After the write, not before it: a read in between would keep the old item.
        keys.iter().for_each(|key| self.0.cache.drop(key));
        outcome
    }

    async fn carry_out(&self, unit: Unit) -> Result<(), Refusal> {
        match <[Write; 1]>::try_from(unit.writes) {
            Ok([write]) => self.write_one(write).await,
            Err(writes) if writes.is_empty() => Ok(()),
            Err(writes) => self.write_all(writes).await,
        }
    }

    /// Changes fields of one item if the condition holds, and gives the item as it is after. For counters and leases
    /// that many want at once: a plain write, which a transaction's token does not protect. After a lost answer it is
    /// sent again, so it must do no harm twice, or its condition must fail on its own work: the caller then finds
    /// itself in the item that the refusal carries.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn update(&self, update: Update, cond: Option<Cond>, otherwise: Error) -> Result<Item, Refusal> {
        let mut names = Names::default();
        let expression = update.render(&mut names);
        let cond = cond.map(|cond| cond.render(&mut names));
        let (names, values) = names.finish();
        let key = update.key;
        let call = self.0.meter.start("UpdateItem");
        let request = self
            .0
            .client
            .update_item()
            .table_name(&self.0.name)
            .set_key(Some(key.item()))
            .update_expression(expression)
            .set_condition_expression(cond)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let sent = self.attempt(|| request.clone().send()).await.outcome;
        self.0.cache.drop(&key);
        match sent {
            Ok(output) => {
                call.write(output.consumed_capacity());
                Ok(output.attributes.unwrap_or_default())
            }
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                call.write(None);
                let found = match service.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => failed.item,
                    _ => None,
                };
                Err(Refusal::Conditions(vec![Failed { key, found, error: otherwise }]))
            }
            Err(error) => Err(Refusal::Error(unavailable(error))),
        }
    }

    /// One write. Where doing it twice would matter and cannot be seen in the item, it is a transaction of one: its
    /// token makes that a lost answer is no second write. A check alone has no plain form either.
    async fn write_one(&self, write: Write) -> Result<(), Refusal> {
        match write.action {
            Action::Put(row) => self.put_one(row, write.cond, write.otherwise).await,
            Action::Delete(key) => self.delete_one(key, write.cond, write.otherwise).await,
            Action::Update(_) | Action::Check(_) => self.write_all(vec![write]).await,
        }
    }

    async fn put_one(&self, row: Row, cond: Option<Cond>, otherwise: Error) -> Result<(), Refusal> {
        let mut names = Names::default();
        let cond = cond.map(|cond| cond.render(&mut names));
        let (names, values) = names.finish();
        let call = self.0.meter.start("PutItem");
        let request = self
            .0
            .client
            .put_item()
            .table_name(&self.0.name)
            .set_item(Some(row.item.clone()))
            .set_condition_expression(cond)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let sent = self.attempt(|| request.clone().send()).await;
        match sent.outcome {
            Ok(output) => {
                call.write(output.consumed_capacity());
                Ok(())
            }
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                call.write(None);
                let found = match service.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => failed.item,
                    _ => None,
                };
                // After a lost answer the put meets its own item: that is success. Rows whose writers compete carry
                // a token of their writer, so that nobody takes another's for his own.
                if sent.may_have_happened && found.as_ref() == Some(&row.item) {
                    return Ok(());
                }
                Err(Refusal::Conditions(vec![Failed { key: row.key, found, error: otherwise }]))
            }
            Err(error) => Err(Refusal::Error(unavailable(error))),
        }
    }

    async fn delete_one(&self, key: Key, cond: Option<Cond>, otherwise: Error) -> Result<(), Refusal> {
        let mut names = Names::default();
        let cond = cond.map(|cond| cond.render(&mut names));
        let (names, values) = names.finish();
        let call = self.0.meter.start("DeleteItem");
        let request = self
            .0
            .client
            .delete_item()
            .table_name(&self.0.name)
            .set_key(Some(key.item()))
            .set_condition_expression(cond)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let sent = self.attempt(|| request.clone().send()).await;
        match sent.outcome {
            Ok(output) => {
                call.write(output.consumed_capacity());
                Ok(())
            }
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                call.write(None);
                let found = match service.into_err() {
                    DeleteItemError::ConditionalCheckFailedException(failed) => failed.item,
                    _ => None,
                };
                // After a lost answer it is gone already, by our own doing as far as anybody can tell.
                if sent.may_have_happened && found.is_none() {
                    return Ok(());
                }
                Err(Refusal::Conditions(vec![Failed { key, found, error: otherwise }]))
            }
            Err(error) => Err(Refusal::Error(unavailable(error))),
        }
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<(), Refusal> {
        let items: Vec<_> =
            writes.iter().map(|write| self.sdk_write(write)).collect::<Result<_>>().map_err(Refusal::Error)?;
        let (mut token, mut may_have_happened) = (self.token(&writes), false);
        for attempt in 0..=MAX_RETRIES {
            let call = self.0.meter.start("TransactWriteItems");
            let request = self
                .0
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .client_request_token(&token)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            // Every try of these has the same token, so that what was carried out unseen is not done again.
            let sent = self.attempt(|| request.clone().send()).await;
            may_have_happened |= sent.may_have_happened;
            let error = match sent.outcome {
                Ok(output) => {
                    call.write_all(output.consumed_capacity());
                    return Ok(());
                }
                Err(error) => error,
            };
            call.write(None);
            match cancelled(error, &writes) {
                Cancelled::Conditions(failed) => return Err(Refusal::Conditions(failed)),
                // It may still be under way.
                Cancelled::InProgress(_) if attempt < MAX_RETRIES => {}
                // It was called off: what is sent next is another one, unless nobody knows what became of a first try.
                Cancelled::Transient(_) if attempt < MAX_RETRIES => {
                    token = if may_have_happened { token } else { self.token(&writes) };
                }
                Cancelled::InProgress(why) | Cancelled::Transient(why) => {
                    return Err(Refusal::Error(Error::new(Code::Unavailable).caused_by(why).retry_after(1)));
                }
                Cancelled::Error(error) => return Err(Refusal::Error(error)),
            }
            self.back_off(attempt).await;
        }
        Err(Refusal::Error(Error::new(Code::Unavailable)))
    }

    /// A new token for a transaction. What it writes goes into it, so that processes that were copied with their
    /// randomness draw the same one for the same writes at most.
    fn token(&self, writes: &[Write]) -> String {
        let keys = writes.iter().map(|write| write.action.key()).map(|key| format!("{}\n{}\n", key.pk, key.sk));
        let drawn = hex::encode(self.0.rng.bytes::<16>());
        sha256_hex(format!("{drawn}\n{}", keys.collect::<String>()))[..TOKEN_CHARS].to_owned()
    }

    fn sdk_write(&self, write: &Write) -> Result<TransactWriteItem> {
        let mut names = Names::default();
        let update = match &write.action {
            Action::Update(update) => Some(update.render(&mut names)),
            Action::Put(_) | Action::Delete(_) | Action::Check(_) => None,
        };
        let cond = write.cond.as_ref().map(|cond| cond.render(&mut names));
        let (names, values) = names.finish();
        let (table, key) = (&self.0.name, write.action.key());
        // The four builders are four types without a common trait; this writes their common part once.
        macro_rules! common {
            ($builder:expr) => {
                $builder
                    .table_name(table)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .return_values_on_condition_check_failure(OnFailure::AllOld)
            };
        }
        let item = TransactWriteItem::builder();
        let item = match &write.action {
            Action::Put(row) => {
                let put = common!(Put::builder()).set_item(Some(row.item.clone())).set_condition_expression(cond);
                item.put(put.build().map_err(Error::internal)?)
            }
            Action::Update(_) => {
                let update = common!(SdkUpdate::builder()).set_key(Some(key.item())).set_update_expression(update);
                item.update(update.set_condition_expression(cond).build().map_err(Error::internal)?)
            }
            Action::Delete(_) => {
                let delete = common!(Delete::builder()).set_key(Some(key.item())).set_condition_expression(cond);
                item.delete(delete.build().map_err(Error::internal)?)
            }
            Action::Check(_) => {
                let check = common!(ConditionCheck::builder()).set_key(Some(key.item())).set_condition_expression(cond);
                item.condition_check(check.build().map_err(Error::internal)?)
            }
        };
        Ok(item.build())
    }
}

/// The longest token that a transaction may have.
const TOKEN_CHARS: usize = 36;

enum Cancelled {
    Conditions(Vec<Failed>),
    InProgress(String),
    Transient(String),
    Error(Error),
}

fn cancelled<R: std::fmt::Debug>(error: SdkError<TransactWriteItemsError, R>, writes: &[Write]) -> Cancelled {
    let text = DisplayErrorContext(&error).to_string();
    let Some(TransactWriteItemsError::TransactionCanceledException(reasons)) = error.as_service_error() else {
        return match error.as_service_error() {
            Some(service) if service.is_transaction_in_progress_exception() => Cancelled::InProgress(text),
            _ => Cancelled::Error(unavailable(error)),
        };
    };
    let reasons = reasons.cancellation_reasons();
    let has = |code: &str| reasons.iter().any(|reason| reason.code() == Some(code));
    let failed = |(write, reason): (&Write, &CancellationReason)| {
        (reason.code() == Some("ConditionalCheckFailed")).then(|| Failed {
            key: write.action.key().clone(),
            found: reason.item().cloned(),
            error: write.otherwise.clone(),
        })
    };
    let failed: Vec<Failed> = writes.iter().zip(reasons).filter_map(failed).collect();
    if !failed.is_empty() {
        Cancelled::Conditions(failed)
    } else if has("TransactionConflict") || has("ThrottlingError") || has("ProvisionedThroughputExceeded") {
        Cancelled::Transient(text)
    } else {
        Cancelled::Error(Error::internal(text))
    }
}
