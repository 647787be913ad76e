//! Rate windows.

use serde::Deserialize;

use super::keys;
use crate::access::RateClass;
use crate::kernel::{Code, Error, Result, Time};
use crate::table::{Table, Update, decode};

/// Takes `tokens` of a window and says how many are given out with them; those beyond the limit are none.
///
/// # Errors
/// When the table cannot be written.
pub async fn take(
    table: &Table,
    class: RateClass,
    subject: &str,
    window: i64,
    tokens: u32,
    until: Time,
) -> Result<u32> {
    #[derive(Deserialize)]
    struct Window {
        given: u32,
    }
    let update = Update::new(keys::rate(class.key(), subject, window))
        .add("given", i64::from(tokens))
        .set("ttl", until.seconds());
    let item = table.update(update, None, Error::new(Code::RateLimited)).await?;
    Ok(decode::<Window>(item)?.given)
}
