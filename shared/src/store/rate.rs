//! Rate windows.

use serde::Deserialize;

use super::keys;
use crate::access::RateClass;
use crate::kernel::{Code, Error, Result, Time};
use crate::table::{Table, Update, decode};

/// Adds `hits` to a window and says how many there are.
///
/// # Errors
/// When the table cannot be written.
pub async fn add(table: &Table, class: RateClass, subject: &str, window: i64, hits: u32, until: Time) -> Result<u32> {
    #[derive(Deserialize)]
    struct Window {
        hits: u32,
    }
    let update =
        Update::new(keys::rate(class.key(), subject, window)).add("hits", i64::from(hits)).set("ttl", until.seconds());
    let item = table.update(update, None, Error::new(Code::RateLimited)).await?;
    Ok(decode::<Window>(item)?.hits)
}
