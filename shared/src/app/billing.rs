//! How an account stands, and what it used.

use std::collections::{BTreeMap, HashMap};

use super::client::Client;
use super::{App, verification};
use crate::access::Caller;
use crate::domain::billing::Allowance;
use crate::domain::plan::{Period, Plan};
use crate::domain::usage::{KeySource, UsageSums};
use crate::domain::{Agent, BillingAccount, User, Workspace};
use crate::kernel::{Day, Error, Id, Limit, Result, Time};
use crate::store;

/// An account with what it used.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The account.
    pub account: BillingAccount,
    /// The plan that counts.
    pub plan: &'static Plan,
    /// What was used in the period.
    pub allowance: Allowance,
    /// Published agents.
    pub agents_used: u64,
    /// People in the workspace who use a seat.
    pub seats_used: usize,
    /// First moment of the period; `None` for a trial, which has none.
    pub period_start: Option<Time>,
    /// First moment after the period.
    pub period_end: Option<Time>,
    /// Whether the installation's models wait for the owner to verify their address.
    pub awaits_verification: bool,
}

impl Standing {
    /// Trial messages left; `None` on plans without a trial.
    #[must_use]
    pub fn free_messages_remaining(&self) -> Option<u64> {
        trial_of(self.plan, &self.allowance)
    }
}

fn trial_of(plan: &Plan, used: &Allowance) -> Option<u64> {
    match plan.period {
        Period::Once => Some(plan.included_messages.saturating_sub(used.count())),
        Period::Month => None,
    }
}

/// Trial messages that an account has left; `None` on plans without a trial, for which nothing is read.
///
/// # Errors
/// When the table cannot be read.
pub async fn trial_left(app: &App, account: &BillingAccount) -> Result<Option<u64>> {
    let plan = account.effective_plan();
    if plan.period == Period::Month {
        return Ok(None);
    }
    let used = store::billing::allowance(&app.table, account.id, &account.period(app.now())).await?;
    Ok(trial_of(plan, &used))
}

/// How the caller's account stands.
///
/// # Errors
/// When the table cannot be read.
pub async fn standing(app: &App, caller: &Caller) -> Result<Standing> {
    standing_as(app, caller, store::billing::get(&app.table, caller.billing_account_id).await?).await
}

/// How it stands when the account is this.
pub(super) async fn standing_as(app: &App, caller: &Caller, account: BillingAccount) -> Result<Standing> {
    let (now, today) = (app.now(), Day::of(app.now()));
    let (first, last) = (today.first_of_month(), today.last_of_month());
    let plan = account.effective_plan();
    let (allowance, agents_used, seats_used) = tokio::try_join!(
        async { store::billing::allowance(&app.table, account.id, &account.period(now)).await },
        store::agent::published_count(&app.table, account.id),
        store::workspace::seats_used(&app.table, caller.workspace_id),
    )?;
    let (period_start, period_end) = match plan.period {
        Period::Once => (None, None),
        Period::Month => (Some(first.start()), Some(last.end())),
    };
    let awaits_verification = verification::is_awaited(app, &account);
    Ok(Standing { account, plan, allowance, agents_used, seats_used, period_start, period_end, awaits_verification })
}

/// The longest time that usage is asked for.
const MAX_DAYS: u32 = 366;
/// How many days are shown when the caller does not say.
const USUAL_DAYS: i32 = 30;

/// How many rows are shown at most: with the longest names, as JSON and as CSV, they fit into the 6 MB that a function
/// may answer, in which every quotation mark and backslash of the answer counts twice.
const MAX_ROWS: usize = 7_500;

/// What to show of an account's usage.
#[derive(Debug, Clone, Copy)]
pub struct UsageQuery {
    /// The first day; 29 days before the last one unless it is said.
    pub since: Option<Day>,
    /// The last day; today unless it is said.
    pub until: Option<Day>,
    /// Only this agent.
    pub agent: Option<Id<Agent>>,
    /// Whether each day has rows of its own.
    pub by_day: bool,
    /// Whether each agent has.
    pub by_agent: bool,
    /// Whether each key source has.
    pub by_key_source: bool,
    /// Whether each client has: by the agents that are granted to them now. An agent that is granted to several counts for
    /// each of them.
    pub by_client: bool,
    /// Only agents that are granted to this client now.
    pub client: Option<Id<User>>,
}

/// One row of usage. What the rows are not split by is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// On which day.
    pub day: Option<Day>,
    /// With which agent.
    pub agent: Option<Id<Agent>>,
    /// Its name; `None` when it was deleted, or is another workspace's.
    pub agent_name: Option<String>,
    /// With whose model key.
    pub key_source: Option<KeySource>,
    /// By whose agents; `None` also for agents that are granted to nobody.
    pub client: Option<Id<User>>,
    /// What that client is called.
    pub client_name: Option<String>,
    /// How much.
    pub sums: UsageSums,
}

/// What an account used.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The first day.
    pub since: Day,
    /// The last day.
    pub until: Day,
    /// The rows, by day, agent, key source and client.
    pub rows: Vec<UsageRow>,
    /// Whether each client has rows of its own.
    pub by_client: bool,
    /// All of them together.
    pub totals: UsageSums,
}

/// What the caller's account used, as far as it is counted: all its workspaces, since one account pays for them.
///
/// # Errors
/// `validation_error` for days that are the wrong way round or too far apart, or hold too much usage to be shown.
pub async fn usage(app: &App, caller: &Caller, query: &UsageQuery) -> Result<Usage> {
    let (since, until) = days(app, query.since, query.until)?;
    let counted = store::rollup::usage(&app.table, caller.billing_account_id, since, until).await?;
    let clients =
        if query.by_client || query.client.is_some() { clients(app, caller).await? } else { Clients::default() };
    let (mut sums, mut totals): (BTreeMap<_, UsageSums>, _) = (BTreeMap::new(), UsageSums::default());
    let is_asked = |agent| {
        query.agent.is_none_or(|asked| asked == agent) && query.client.is_none_or(|asked| clients.has(asked, agent))
    };
    for counted in counted.iter().filter(|counted| counted.sums.messages != 0 && is_asked(counted.bucket.agent)) {
        let bucket = counted.bucket;
        let day = query.by_day.then_some(bucket.day);
        let agent = query.by_agent.then_some((bucket.agent, bucket.workspace));
        let key_source = query.by_key_source.then_some(bucket.key_source);
        let of = if query.by_client { clients.of(bucket.agent, query.client) } else { vec![None] };
        for client in of {
            *sums.entry((day, agent, key_source, client)).or_default() += counted.sums;
        }
        totals += counted.sums;
        ensure_shown(query, sums.len())?;
    }
    let names = if query.by_agent { names(app, caller.workspace_id).await? } else { HashMap::new() };
    let name = |(agent, workspace)| if workspace == caller.workspace_id { names.get(&agent).cloned() } else { None };
    let rows = sums.into_iter().map(|((day, agent, key_source, client), sums)| UsageRow {
        day,
        agent: agent.map(|(agent, _)| agent),
        agent_name: agent.and_then(name),
        key_source,
        client,
        client_name: client.and_then(|client| clients.names.get(&client).cloned()),
        sums,
    });
    Ok(Usage { since, until, rows: rows.collect(), by_client: query.by_client, totals })
}

/// Refuses more rows than an answer can hold.
fn ensure_shown(query: &UsageQuery, rows: usize) -> Result<()> {
    // A client's name is as long as an agent's.
    if rows <= if query.by_client { MAX_ROWS / 2 } else { MAX_ROWS } {
        return Ok(());
    }
    let message = "there is too much usage in that time; ask for fewer days, or with a shorter group_by";
    Err(Error::field("since", "too_much", message))
}

/// The clients of a workspace, and what is granted to each.
#[derive(Default)]
struct Clients {
    names: HashMap<Id<User>, String>,
    granted: HashMap<Id<Agent>, Vec<Id<User>>>,
}

impl Clients {
    fn has(&self, client: Id<User>, agent: Id<Agent>) -> bool {
        self.granted.get(&agent).is_some_and(|clients| clients.contains(&client))
    }

    /// Whose row an agent's usage belongs to: only `asked`'s, where one is asked for.
    fn of(&self, agent: Id<Agent>, asked: Option<Id<User>>) -> Vec<Option<Id<User>>> {
        match (asked, self.granted.get(&agent)) {
            (Some(asked), _) => vec![Some(asked)],
            (None, Some(clients)) => clients.iter().copied().map(Some).collect(),
            (None, None) => vec![None],
        }
    }
}

async fn clients(app: &App, caller: &Caller) -> Result<Clients> {
    let (mut clients, mut after) = (Clients::default(), None);
    loop {
        let limit = Limit::new(Some(Limit::MAX))?;
        let page = super::client::list(app, caller, after.as_ref(), limit).await?;
        for Client { id, name, membership, .. } in page.items {
            for grant in &membership.grants {
                clients.granted.entry(grant.agent_id).or_default().push(id);
            }
            clients.names.insert(id, name);
        }
        after = page.next;
        if after.is_none() {
            return Ok(clients);
        }
    }
}

/// The days that are asked for, both included.
pub(super) fn days(app: &App, since: Option<Day>, until: Option<Day>) -> Result<(Day, Day)> {
    let until = until.unwrap_or_else(|| Day::of(app.now()));
    let since = since.unwrap_or_else(|| until.plus(1 - USUAL_DAYS));
    match since.count_through(until) {
        0 => Err(Error::field("until", "out_of_range", "until must not be before since")),
        days if days > MAX_DAYS => {
            Err(Error::field("since", "out_of_range", format!("since and until may be {MAX_DAYS} days apart at most")))
        }
        _ => Ok((since, until)),
    }
}

async fn names(app: &App, workspace: Id<Workspace>) -> Result<HashMap<Id<Agent>, String>> {
    let agents = store::agent::all(&app.table, workspace).await?;
    Ok(agents.into_iter().map(|agent| (agent.id, agent.name)).collect())
}
