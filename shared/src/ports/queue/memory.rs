//! A queue that collects, for tests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{DeadLetter, Death, MAX_DEAD, MAX_LISTED, Outgoing, Queue, QueueName, check};
use crate::kernel::{Error, Result};

/// Collects messages, for tests. It refuses what SQS would refuse.
#[derive(Debug, Default)]
pub struct MemoryQueue(Mutex<HashMap<QueueName, Held>>);

/// What a queue holds.
#[derive(Debug, Default)]
struct Held {
    sent: Vec<Outgoing>,
    dead: Vec<DeadLetter>,
    /// What is to come again, by its receipt, and when.
    again: Vec<(String, Duration)>,
    /// How many were ever buried; the last one's id.
    buried: usize,
}

impl MemoryQueue {
    /// Takes out what was sent to `queue`, oldest first.
    #[must_use]
    pub fn take(&self, queue: QueueName) -> Vec<Outgoing> {
        std::mem::take(&mut self.held().entry(queue).or_default().sent)
    }

    /// Takes out which receipts of `queue` are to come again, and when.
    #[must_use]
    pub fn take_again(&self, queue: QueueName) -> Vec<(String, Duration)> {
        std::mem::take(&mut self.held().entry(queue).or_default().again)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<QueueName, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the dead letters of this id, or as many as one call may.
    fn exhume(&self, queue: QueueName, id: Option<&str>) -> Result<Vec<DeadLetter>> {
        let mut held = self.held();
        let dead = &mut held.entry(queue).or_default().dead;
        let Some(id) = id else { return Ok(dead.drain(..dead.len().min(MAX_DEAD)).collect()) };
        let at = dead.iter().position(|letter| letter.id == id).ok_or_else(Error::not_found)?;
        Ok(vec![dead.remove(at)])
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        check(queue, &messages)?;
        self.held().entry(queue).or_default().sent.extend(messages);
        Ok(())
    }

    async fn again(&self, queue: QueueName, receipt: &str, wait: Duration) -> Result<()> {
        self.held().entry(queue).or_default().again.push((receipt.to_owned(), wait));
        Ok(())
    }

    async fn bury(&self, queue: QueueName, body: &str, death: Death) -> Result<()> {
        let mut held = self.held();
        let held = held.entry(queue).or_default();
        held.buried += 1;
        held.dead.push(DeadLetter { id: held.buried.to_string(), body: body.to_owned(), death });
        Ok(())
    }

    async fn dead_letters(&self, queue: QueueName, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut held = self.held();
        Ok(held.entry(queue).or_default().dead.iter().take(limit.min(MAX_LISTED)).cloned().collect())
    }

    async fn replay(&self, queue: QueueName, id: Option<&str>) -> Result<usize> {
        let letters = self.exhume(queue, id)?;
        let count = letters.len();
        self.send(queue, letters.into_iter().map(|letter| Outgoing::now(letter.body)).collect()).await?;
        Ok(count)
    }

    async fn discard(&self, queue: QueueName, id: &str) -> Result<()> {
        self.exhume(queue, Some(id)).map(drop)
    }
}
