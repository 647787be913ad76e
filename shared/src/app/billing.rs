//! How an account stands.

use super::App;
use crate::access::Caller;
use crate::domain::BillingAccount;
use crate::domain::billing::Allowance;
use crate::domain::plan::{Period, Plan};
use crate::kernel::{Result, Time};
use crate::store;
use crate::store::rollup::MessageCounts;

/// An account with what it used.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The account.
    pub account: BillingAccount,
    /// The plan that counts.
    pub plan: &'static Plan,
    /// What was used in the period.
    pub allowance: Allowance,
    /// Replies this month by key source, as far as they are counted.
    pub counts: MessageCounts,
    /// Published agents.
    pub agents_used: u64,
    /// People in the workspace who use a seat.
    pub seats_used: usize,
    /// First moment of the period; `None` for a trial, which has none.
    pub period_start: Option<Time>,
    /// First moment after the period.
    pub period_end: Option<Time>,
}

impl Standing {
    /// Trial messages left; `None` on plans without a trial.
    #[must_use]
    pub fn free_messages_remaining(&self) -> Option<u64> {
        match self.plan.period {
            Period::Once => Some(self.plan.included_messages.saturating_sub(self.allowance.count())),
            Period::Month => None,
        }
    }
}

/// How the caller's account stands.
///
/// # Errors
/// When the table cannot be read.
pub async fn standing(app: &App, caller: &Caller) -> Result<Standing> {
    let now = app.now();
    let account = store::billing::get(&app.table, caller.billing_account_id).await?;
    let plan = account.effective_plan();
    let (allowance, counts, agents_used, seats_used) = tokio::try_join!(
        async { store::billing::allowance(&app.table, account.id, &account.period(now)).await },
        store::rollup::messages(&app.table, account.id, now),
        store::agent::published_count(&app.table, account.id),
        store::workspace::seats_used(&app.table, caller.workspace_id),
    )?;
    let (period_start, period_end) = match plan.period {
        Period::Once => (None, None),
        Period::Month => {
            let (start, end) = month(now);
            (Some(start), Some(end))
        }
    };
    Ok(Standing { account, plan, allowance, counts, agents_used, seats_used, period_start, period_end })
}

/// The first moments of a time's month and of the next, in UTC.
fn month(now: Time) -> (Time, Time) {
    use jiff::{Timestamp, ToSpan, tz::TimeZone};
    let today =
        Timestamp::from_millisecond(now.millis()).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC).date();
    let start = today.first_of_month();
    let end = start.saturating_add(1.month());
    let moment = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp().as_millisecond());
        Time::from_millis(zoned.unwrap_or(0))
    };
    (moment(start), moment(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let (start, end) = month(Time::from_millis(1_798_675_199_000));
        assert_eq!(start.to_string(), "2026-12-01T00:00:00.000Z");
        assert_eq!(end.to_string(), "2027-01-01T00:00:00.000Z");
    }
}
