//! Billing accounts and the allowance counter.

use std::time::Duration;

use uuid::Uuid;

use super::agent::PublishedCount;
use super::keys;
use crate::domain::BillingAccount;
use crate::domain::billing::{Allowance, Hold, PeriodKey, Subscription};
use crate::domain::plan::MicroDollars;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Item, Key, Query, Refusal, Row, Table, Unit, Update, Versioned, decode};

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

/// One account with its version.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn get_versioned(table: &Table, account: Id<BillingAccount>) -> Result<Versioned<BillingAccount>> {
    table.get_versioned(&keys::billing_account(account)).await?.ok_or_else(Error::not_found)
}

/// The accounts of these ids that are there, with what they used in their periods and how many agents they have
/// published, in any order.
///
/// # Errors
/// When the table cannot be read.
pub async fn many(
    table: &Table,
    accounts: &[Id<BillingAccount>],
    now: Time,
) -> Result<Vec<(BillingAccount, Allowance, u64)>> {
    let keys: Vec<Key> = accounts.iter().map(|account| keys::billing_account(*account)).collect();
    let found: Vec<BillingAccount> = table.batch_get(&keys).await?.into_iter().map(decode).collect::<Result<_>>()?;
    let counters = found
        .iter()
        .flat_map(|account| [keys::allowance(account.id, &account.period(now)), keys::published_agents(account.id)]);
    let counters = table.batch_get(&counters.collect::<Vec<_>>()).await?;
    let find = |key: &Key| {
        let is = |item: &&Item| {
            let part = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
            part("pk") == Some(&key.pk) && part("sk") == Some(&key.sk)
        };
        counters.iter().find(is).cloned()
    };
    let whole = |account: BillingAccount| {
        let allowance = find(&keys::allowance(account.id, &account.period(now))).map(decode).transpose()?;
        let published = find(&keys::published_agents(account.id)).map(decode::<PublishedCount>).transpose()?;
        let published = published.map_or(0, PublishedCount::agents);
        Ok((account, allowance.unwrap_or_default(), published))
    };
    found.into_iter().map(whole).collect()
}

/// Replaces an account that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, account: &BillingAccount, v: u64) -> Result<()> {
    unit.replace(row(account)?, v);
    Ok(())
}

/// The subscriptions of an account, also those that ended, up to a hundred.
///
/// # Errors
/// When the table cannot be read.
pub async fn subscriptions(table: &Table, account: Id<BillingAccount>) -> Result<Vec<Subscription>> {
    let query = Query::prefix(Index::Main, keys::account_pk(account), keys::SUBSCRIPTION);
    table.query(&query, 100).await?.items.into_iter().map(decode).collect()
}

/// Puts a subscription. The account is replaced in the same unit, whose version keeps two callbacks apart.
///
/// # Errors
/// When it does not serialise.
pub fn put_subscription(unit: &mut Unit, provider: &str, subscription: &Subscription) -> Result<()> {
    let key = keys::subscription(subscription.billing_account_id, provider, &subscription.id);
    unit.put(Row::new(key, "subscription", subscription)?);
    Ok(())
}

/// How long it is known that a call of a provider was heard: longer than any of them repeats it.
const HEARD: Duration = Duration::from_secs(30 * 24 * 3600);

/// Notes that a call of a provider was heard; the unit fails with `conflict` when it was before.
///
/// # Errors
/// When it does not serialise.
pub fn hear(unit: &mut Unit, provider: &str, id: &str, now: Time) -> Result<()> {
    let row = Row::new(keys::heard(provider, id), "heard", &serde_json::json!({"at": now}))?;
    unit.create(row.ttl(now + HEARD), Error::new(Code::Conflict));
    Ok(())
}

/// Whether a call of a provider was heard.
///
/// # Errors
/// When the table cannot be read.
pub async fn was_heard(table: &Table, provider: &str, id: &str) -> Result<bool> {
    Ok(table.get::<serde::de::IgnoredAny>(&keys::heard(provider, id)).await?.is_some())
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

/// What came of taking a message.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It was taken; the allowance as it is after.
    Yes(Allowance),
    /// Nothing is left. Who holds something of it, since some of them may have died.
    No(Vec<Hold>),
}

/// The attribute of a hold. It stands beside the counter, since a map in a map would have to be made first.
fn hold_attribute(turn: Uuid) -> String {
    format!("{HOLD}{}", turn.simple())
}

const HOLD: &str = "hold_";

/// Takes one message of the included ones. `settled` are turns that came to their end; their holds go with this write.
///
/// # Errors
/// When the table cannot be written.
pub async fn take_included(
    table: &Table,
    (account, period): (Id<BillingAccount>, &PeriodKey),
    included: u64,
    hold: &Hold,
    settled: &[Uuid],
) -> Result<Taken> {
    if included == 0 {
        return Ok(Taken::No(Vec::new()));
    }
    let below = Cond::absent("used").or(Cond::lt("used", included));
    take(table, keys::allowance(account, period), below, hold, settled).await
}

/// Takes one message beyond the included ones, for what the hold says, within the cap.
///
/// # Errors
/// When the table cannot be written.
pub async fn take_overage(
    table: &Table,
    (account, period): (Id<BillingAccount>, &PeriodKey),
    cap: Option<MicroDollars>,
    hold: &Hold,
    settled: &[Uuid],
) -> Result<Taken> {
    let below = match cap {
        None => Cond::absent("overage").or(Cond::present("overage")),
        Some(cap) if hold.overage > cap => return Ok(Taken::No(Vec::new())),
        Some(cap) => Cond::absent("overage").or(Cond::le("overage", cap - hold.overage)),
    };
    take(table, keys::allowance(account, period), below, hold, settled).await
}

async fn take(table: &Table, key: Key, below: Cond, hold: &Hold, settled: &[Uuid]) -> Result<Taken> {
    let ours = hold_attribute(hold.turn);
    let update = amount(Update::new(key), hold, 1).set(ours.clone(), hold);
    let update = settled.iter().fold(update, |update, turn| update.remove(hold_attribute(*turn)));
    let free = below.and(Cond::absent(ours.clone()));
    match table.update(update, Some(free), Error::new(Code::MessageLimitReached)).await {
        Ok(item) => Ok(Taken::Yes(decode(item)?)),
        Err(Refusal::Conditions(failed)) => {
            let found = failed.into_iter().next().and_then(|failed| failed.found).unwrap_or_default();
            // Sent again after a lost answer, it meets itself.
            if found.contains_key(&ours) { Ok(Taken::Yes(decode(found)?)) } else { Ok(Taken::No(holds_in(found)?)) }
        }
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// What a hold takes of an allowance, or (`times` is -1) gives back.
fn amount(update: Update, hold: &Hold, times: i64) -> Update {
    let update = update.add("used", times).add("overage", times * hold.overage);
    // Most accounts never have a key of their own; their item has no counter of it.
    if hold.byok { update.add("byok", times) } else { update }
}

fn holds_in(item: Item) -> Result<Vec<Hold>> {
    let holds = item.into_iter().filter(|(name, _)| name.starts_with(HOLD));
    holds.filter_map(|(_, value)| value.as_m().ok().cloned()).map(decode).collect()
}

/// Who holds something of an allowance.
///
/// # Errors
/// When the table cannot be read.
pub async fn holds(table: &Table, account: Id<BillingAccount>, period: &PeriodKey) -> Result<Vec<Hold>> {
    let found = table.batch_get(&[keys::allowance(account, period)]).await?;
    found.into_iter().next().map_or(Ok(Vec::new()), holds_in)
}

/// Gives a message back, once: when the hold is gone already, nothing happens. Says whether it was given back now.
///
/// # Errors
/// When the table cannot be written.
pub async fn give_back(table: &Table, account: Id<BillingAccount>, period: &PeriodKey, hold: &Hold) -> Result<bool> {
    let ours = hold_attribute(hold.turn);
    let update = amount(Update::new(keys::allowance(account, period)), hold, -1).remove(ours.clone());
    match table.update(update, Some(Cond::present(ours)), Error::new(Code::Conflict)).await {
        Ok(_) => Ok(true),
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// How long it is known that an alert was sent.
const ALERTED: Duration = Duration::from_secs(400 * 24 * 3600);

/// Notes that an owner is told how much of an allowance is used; the unit fails with `conflict` when they were before.
///
/// # Errors
/// When it does not serialise.
pub fn alert(unit: &mut Unit, key: Key, now: Time) -> Result<()> {
    let row = Row::new(key, "alert", &serde_json::json!({"at": now}))?.ttl(now + ALERTED);
    unit.create(row, Error::new(Code::Conflict));
    Ok(())
}

/// Removes the hold of a turn that came to its end: what it took is spent.
///
/// # Errors
/// When the table cannot be written.
pub async fn settle(table: &Table, account: Id<BillingAccount>, period: &PeriodKey, turn: Uuid) -> Result<()> {
    let update = Update::beside(keys::allowance(account, period)).remove(hold_attribute(turn));
    table.update(update, Some(Cond::existing()), Error::new(Code::Conflict)).await.map(drop).map_err(Into::into)
}
