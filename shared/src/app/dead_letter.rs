//! Messages that workers gave up: looked at, sent again, thrown away. For the operator.

use super::{App, Draft};
use crate::kernel::{Error, Result};
use crate::ports::queue::{DeadLetter, MAX_LISTED, QueueName};

/// How many dead letters of a queue are listed when it is not said.
const USUALLY: usize = 50;

/// Dead letters of one queue, or of all: of each up to `limit`.
///
/// # Errors
/// `validation_error` for another limit than 1 to 200, or when a queue cannot be reached.
pub async fn list(app: &App, queue: Option<QueueName>, limit: Option<usize>) -> Result<Vec<(QueueName, DeadLetter)>> {
    let limit = limit.unwrap_or(USUALLY);
    if !(1..=MAX_LISTED).contains(&limit) {
        return Err(Error::field("limit", "out_of_range", format!("limit must be 1 to {MAX_LISTED}")));
    }
    let mut found = Vec::new();
    for name in QueueName::ALL.iter().copied().filter(|name| queue.is_none_or(|queue| queue == *name)) {
        found.extend(app.queue.dead_letters(name, limit).await?.into_iter().map(|letter| (name, letter)));
    }
    Ok(found)
}

/// Sends one dead letter again, or as many as one call may, and says how many. The queue has them at once: the
/// draft's writes are only about who did it.
///
/// # Errors
/// `not_found`, or when the queue cannot be reached.
pub async fn replay(app: &App, queue: QueueName, id: Option<&str>) -> Result<Draft<usize>> {
    Ok(Draft::done(app.queue.replay(queue, id).await?))
}

/// Throws a dead letter away, at once as [`replay`] does.
///
/// # Errors
/// `not_found`, or when the queue cannot be reached.
pub async fn discard(app: &App, queue: QueueName, id: &str) -> Result<Draft<()>> {
    Ok(Draft::done(app.queue.discard(queue, id).await?))
}
