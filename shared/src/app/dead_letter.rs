//! Messages that workers gave up: looked at, sent again, thrown away. For the operator.

use super::{App, Draft};
use crate::kernel::Result;
use crate::ports::queue::{DeadLetter, MAX_DEAD, QueueName};

/// Dead letters of one queue, or of all.
///
/// # Errors
/// When a queue cannot be reached.
pub async fn list(app: &App, queue: Option<QueueName>) -> Result<Vec<(QueueName, DeadLetter)>> {
    let mut found = Vec::new();
    for name in QueueName::ALL.iter().copied().filter(|name| queue.is_none_or(|queue| queue == *name)) {
        found.extend(app.queue.dead_letters(name, MAX_DEAD).await?.into_iter().map(|letter| (name, letter)));
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
