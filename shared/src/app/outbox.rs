//! Relaying again what readers of the stream gave up: the events themselves stay in the outbox. For the operator.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::deliver::Task;
use super::{App, Draft, projector, relay};
use crate::domain::text::Checks;
use crate::kernel::{Result, Time};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store::keys::SHARDS;
use crate::store::outbox::{KEPT, Walk};

/// How many events one message is about, as many as a batch of the stream.
const CHUNK: usize = 100;

/// A stretch of a shard of the outbox that is to be relayed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Which shard.
    pub shard: u8,
    /// From when on.
    pub since: Time,
    /// Until when.
    pub until: Time,
    /// Behind which event.
    #[serde(default)]
    pub after: Option<Uuid>,
}

impl Stretch {
    fn message(self) -> Result<Outgoing> {
        Task::Relay(self).to_json().map(Outgoing::now)
    }
}

/// Has all events of a time relayed and counted again, and says which time that is. The queue has it at once: the
/// draft's writes are only about who did it.
///
/// # Errors
/// `validation_error`, or when the queue cannot be reached.
pub async fn replay(app: &App, since: Time, until: Time) -> Result<Draft<(Time, Time)>> {
    let (now, mut checks) = (app.now(), Checks::new());
    checks.period(Some(since), Some(until));
    checks.ensure(since >= now - KEPT, "since", "out_of_range", "since may lie up to 30 days back");
    checks.finish()?;
    let until = until.min(now);
    let stretches = (0..SHARDS).map(|shard| Stretch { shard, since, until, after: None }.message());
    app.queue.send(QueueName::Deliver, stretches.collect::<Result<_>>()?).await?;
    Ok(Draft::done((since, until)))
}

/// Relays and counts some events of a stretch, and queues the rest. What was delivered, mailed or counted before is not
/// again, so that it may be repeated at will.
///
/// # Errors
/// When the table or the queue cannot be reached; the same events are then relayed again.
pub async fn step(app: &App, stretch: &Stretch) -> Result<()> {
    // What is older is forgotten, and so may be that it was delivered and counted.
    let since = stretch.since.max(app.now() - KEPT);
    let mut walk = Walk::new(stretch.shard, since, stretch.until).behind(stretch.after).at_a_time(CHUNK);
    let Some(events) = walk.next(&app.table).await? else { return Ok(()) };
    relay::fan_out_again(app, &events).await?;
    projector::project(app, &events).await?;
    let Some(last) = events.last() else { return Ok(()) };
    let rest = Stretch { since: last.at, after: Some(last.id), ..stretch.clone() };
    app.queue.send(QueueName::Deliver, vec![rest.message()?]).await
}
