//! Billing accounts and the allowance counter.

use super::keys;
use crate::domain::BillingAccount;
use crate::domain::billing::{Allowance, PeriodKey};
use crate::domain::plan::MicroDollars;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result};
use crate::table::{Cond, Index, Query, Refusal, Row, Table, Unit, Update, decode};

/// Adds a new account.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, account: &BillingAccount) -> Result<()> {
    unit.create_fresh(row(account)?);
    Ok(())
}

/// Every account is listed, for whoever goes through all of them.
fn row(account: &BillingAccount) -> Result<Row> {
    let row = Row::new(keys::billing_account(account.id), "billing_account", account)?;
    Ok(row.gsi1(keys::BILLING_ACCOUNTS, account.id.key()))
}

/// A page of all accounts, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(table: &Table, after: Option<&Cursor>, limit: Limit) -> Result<Page<BillingAccount>> {
    table.page(&Query::partition(Index::Gsi1, keys::BILLING_ACCOUNTS).after(after), limit).await
}

/// One account.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn get(table: &Table, account: Id<BillingAccount>) -> Result<BillingAccount> {
    table.get(&keys::billing_account(account)).await?.ok_or_else(Error::not_found)
}

/// Puts an account whatever is there: for set-up and tests.
///
/// # Errors
/// When the table cannot be written.
pub async fn overwrite(table: &Table, account: &BillingAccount) -> Result<()> {
    table.overwrite(row(account)?).await
}

/// What was used in a period.
///
/// # Errors
/// When the table cannot be read.
pub async fn allowance(table: &Table, account: Id<BillingAccount>, period: &PeriodKey) -> Result<Allowance> {
    Ok(table.get(&keys::allowance(account, period)).await?.unwrap_or_default())
}

/// Takes one message of the included ones; `None` when they are used up.
///
/// # Errors
/// When the table cannot be written.
pub async fn take_included(
    table: &Table,
    account: Id<BillingAccount>,
    period: &PeriodKey,
    included: u64,
) -> Result<Option<Allowance>> {
    if included == 0 {
        return Ok(None);
    }
    let below = Cond::Absent("used").or(Cond::lt("used", included));
    let update = Update::new(keys::allowance(account, period)).add("used", 1);
    take(table, update, below).await
}

/// Takes one message beyond the included ones, within the cap; `None` when the cap forbids it.
///
/// # Errors
/// When the table cannot be written.
pub async fn take_overage(
    table: &Table,
    account: Id<BillingAccount>,
    period: &PeriodKey,
    cost: MicroDollars,
    cap: Option<MicroDollars>,
) -> Result<Option<Allowance>> {
    let update = Update::new(keys::allowance(account, period)).add("used", 1).add("overage", cost);
    match cap {
        None => Ok(Some(decode(table.update(update, None, Error::new(Code::Conflict)).await?)?)),
        Some(cap) if cost > cap => Ok(None),
        Some(cap) => take(table, update, Cond::Absent("overage").or(Cond::le("overage", cap - cost))).await,
    }
}

async fn take(table: &Table, update: Update, cond: Cond) -> Result<Option<Allowance>> {
    match table.update(update, Some(cond), Error::new(Code::MessageLimitReached)).await {
        Ok(item) => Ok(Some(decode(item)?)),
        Err(Refusal::Conditions(_)) => Ok(None),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Gives one message back.
///
/// # Errors
/// When the table cannot be written.
pub async fn give_back(
    table: &Table,
    account: Id<BillingAccount>,
    period: &PeriodKey,
    overage: MicroDollars,
) -> Result<()> {
    let update = Update::new(keys::allowance(account, period)).add("used", -1).add("overage", -overage);
    table.update(update, None, Error::new(Code::Conflict)).await.map(drop).map_err(Into::into)
}
