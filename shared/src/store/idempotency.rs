//! What an `Idempotency-Key` was answered with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys;
use crate::kernel::secret::Sealed;
use crate::kernel::{Code, Error, Result, Time};
use crate::table::{Key, Row, Table, Unit};

const KEPT: Duration = Duration::from_secs(48 * 3600);

/// A stored answer. The body is sealed: it may show a key or a secret that is shown only once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// SHA-256 of method, path and body of the request.
    pub request_hash: String,
    /// HTTP status.
    pub status: u16,
    /// The body, sealed; `None` when there is none.
    #[serde(default)]
    pub body: Option<Sealed>,
    /// When it was stored.
    pub at: Time,
}

/// The stored answer for a key, if it is not too old.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(table: &Table, key: &Key, now: Time) -> Result<Option<Answer>> {
    let answer: Option<Answer> = table.get(key).await?;
    Ok(answer.filter(|answer| now.since(answer.at) < KEPT))
}

/// Stores an answer with the command that it answers; the unit fails on this key when somebody was first.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, key: Key, answer: &Answer) -> Result<()> {
    let old = crate::table::Cond::new_item().or(crate::table::Cond::le("at", answer.at - KEPT));
    let row = Row::new(key, "idempotency", answer)?.ttl(answer.at + KEPT);
    unit.put_if(row, old, Error::new(Code::IdempotencyInFlight));
    Ok(())
}

/// The record of a subject's key.
#[must_use]
pub fn key(subject: &str, key: &str) -> Key {
    keys::idempotency(subject, key)
}
