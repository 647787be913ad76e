//! Taking a tenant's messages out of the queues, waiting or dead: for its erasure, while no platform runs.

use shared::app::deliver::Task;
use shared::domain::Workspace;
use shared::kernel::{Id, Result};
use shared::ports::queue::QueueName;
use shared::store;
use shared::table::Table;

use super::{key, page};

/// Deletes a tenant's messages from the table of the queues, and says how many there were. What does not read as work is
/// left alone.
///
/// # Errors
/// When the table cannot be read or written.
pub async fn forget(table: &Table, tenant: Id<Workspace>) -> Result<usize> {
    let mut forgotten = 0;
    for name in QueueName::ALL {
        let mut after = None;
        loop {
            let (records, more) = page(table, *name, after.as_ref()).await?;
            let is_ours = |body: &str| {
                let task: Option<Task> = serde_json::from_str(body).ok();
                task.and_then(|task| task.workspace()) == Some(tenant)
            };
            let ours: Vec<_> =
                records.iter().filter(|record| is_ours(&record.body)).map(|record| key(*name, &record.id)).collect();
            forgotten += ours.len();
            store::tenant::delete(table, ours).await?;
            after = more;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(forgotten)
}
