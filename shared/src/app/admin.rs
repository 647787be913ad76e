//! What the operator of the installation sees and does of its users.

use std::collections::BTreeMap;

use super::{App, Draft, auth};
use crate::access::Caller;
use crate::domain::audit::AuditEntry;
use crate::domain::billing::Allowance;
use crate::domain::plan::{MicroDollars, PlanKey};
use crate::domain::session::IMPERSONATION;
use crate::domain::text::Checks;
use crate::domain::user::UserStatus;
use crate::domain::{Agent, BillingAccount, Membership, Role, Session, User, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::store;
use crate::table::{Unit, Versioned};

/// A user as the operator's list shows them.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Who.
    pub user: User,
    /// Their account, unless they have none: clients pay for nothing.
    pub account: Option<(BillingAccount, Allowance, u64)>,
    /// The owner of the workspace that they log in to, for clients.
    pub parent: Option<Id<User>>,
}

/// A page of users, newest first; or the one with that e-mail.
///
/// # Errors
/// When the table cannot be read.
pub async fn users(app: &App, email: Option<&str>, after: Option<&Cursor>, limit: Limit) -> Result<Page<Listed>> {
    let page = match email {
        Some(email) => {
            let found = store::user::by_email(&app.table, &email.trim().to_lowercase()).await?;
            Page { items: found.into_iter().collect(), next: None, total: None }
        }
        None => store::user::page(&app.table, after, limit).await?,
    };
    let Page { items, next, total } = page;
    Ok(Page { items: listed(app, items).await?, next, total })
}

/// Users with their accounts, and clients with whose they are.
async fn listed(app: &App, users: Vec<User>) -> Result<Vec<Listed>> {
    let ids: Vec<Id<BillingAccount>> = users.iter().map(|user| user.billing_account_id).collect();
    let accounts = store::billing::many(&app.table, &ids, app.now()).await?;
    let account_of = |user: &User| accounts.iter().find(|(account, ..)| account.id == user.billing_account_id);
    let is_client =
        |user: &User| account_of(user).is_none() && user.staff_role.is_none() && user.status != UserStatus::Deleted;
    let homes: Vec<Id<Workspace>> =
        users.iter().filter(|user| is_client(user)).map(|user| user.default_workspace_id).collect();
    let homes = store::workspace::many(&app.table, &homes).await?;
    let one = |user: User| {
        let home = homes.iter().find(|home| home.id == user.default_workspace_id && is_client(&user));
        Listed { account: account_of(&user).cloned(), parent: home.map(|home| home.owner_user_id), user }
    };
    Ok(users.into_iter().map(one).collect())
}

/// A user in full.
#[derive(Debug, Clone)]
pub struct Detail {
    /// As lists show them.
    pub listed: Listed,
    /// Where they belong.
    pub memberships: Vec<Membership>,
    /// The agents of the workspace that they own, if they own one.
    pub agents: Vec<Agent>,
}

/// One user.
///
/// # Errors
/// `not_found`.
pub async fn user(app: &App, id: Id<User>) -> Result<Detail> {
    let user = store::user::get(&app.table, id).await?.ok_or_else(Error::not_found)?;
    let memberships = store::workspace::memberships_of(&app.table, id).await?;
    let owned = memberships.iter().find(|membership| membership.role == Role::Owner);
    let agents = match owned {
        Some(owned) => store::agent::all(&app.table, owned.workspace_id).await?,
        None => Vec::new(),
    };
    let listed = listed(app, vec![user]).await?.pop().ok_or_else(Error::not_found)?;
    Ok(Detail { listed, memberships, agents })
}

/// The workspace that a user owns; clients own none.
pub(super) async fn home(app: &App, user: &User) -> Result<Option<Workspace>> {
    let memberships = store::workspace::memberships_of(&app.table, user.id).await?;
    match memberships.iter().find(|membership| membership.role == Role::Owner) {
        Some(owned) => Ok(Some(store::workspace::get(&app.table, owned.workspace_id).await?.body)),
        None => Ok(None),
    }
}

/// A line of the tenant's own log about what staff did.
fn note(app: &App, caller: &Caller, workspace: Id<Workspace>, action: &str, reason: Option<&str>) -> AuditEntry {
    AuditEntry {
        id: app.ids().uuid(),
        workspace_id: workspace,
        actor: caller.actor(),
        impersonator: None,
        reason: reason.map(str::to_owned),
        action: action.to_owned(),
        target: String::new(),
        ip: None,
        at: app.now(),
    }
}

/// Suspends a user, or lifts that. Who is suspended is logged out and cannot log in; their keys do not work, and their
/// agents say that they cannot answer.
///
/// # Errors
/// `not_found`, `validation_error`, `staff.protected`.
pub async fn set_status(
    app: &App,
    caller: &Caller,
    id: Id<User>,
    suspends: bool,
    why: Option<&str>,
) -> Result<Draft<User>> {
    let mut checks = Checks::new();
    let why = checks.optional("reason", why, 500);
    checks.finish()?;
    let Versioned { body: mut user, v } = store::user::get_versioned(&app.table, id).await?;
    if user.staff_role.is_some() {
        return Err(Error::new(Code::StaffProtected));
    }
    if user.status == UserStatus::Deleted {
        return Err(Error::not_found());
    }
    let mut unit = Unit::new();
    if let Some(home) = home(app, &user).await? {
        // Before the rest, so that a call that broke off is done again.
        store::api_key::suspend_all(&app.table, home.id, suspends).await?;
        let Versioned { body: mut account, v } =
            store::billing::get_versioned(&app.table, home.billing_account_id).await?;
        (account.is_suspended, account.updated_at) = (suspends, app.now());
        store::billing::replace(&mut unit, &account, v)?;
        let action = if suspends { "suspended" } else { "suspension_lifted" };
        store::audit::create(&mut unit, &note(app, caller, home.id, action, why.as_deref()))?;
    }
    let status = if suspends { UserStatus::Suspended } else { UserStatus::Active };
    (user.status, user.updated_at) = (status, app.now());
    store::user::replace(&mut unit, &user, v)?;
    if suspends {
        store::session::delete_all(&app.table, &mut unit, user.id, None).await?;
    }
    Ok(Draft::new(unit, user))
}

/// A session in which staff act for somebody.
#[derive(Debug, Clone)]
pub struct Impersonation {
    /// The bearer token.
    pub token: String,
    /// Until when.
    pub expires_at: Time,
    /// For whom.
    pub user: User,
}

/// Opens a session in which staff see what a user sees, for half an hour. Of what changes something they may do only what
/// says so, and each of it is in the user's own log.
///
/// # Errors
/// `not_found`, `validation_error` without a reason, `staff.protected`, `forbidden` for whoever cannot log in.
pub async fn impersonate(app: &App, caller: &Caller, id: Id<User>, why: &str) -> Result<Draft<Impersonation>> {
    let mut checks = Checks::new();
    let why = checks.required("reason", why, 500);
    checks.finish()?;
    let user = store::user::get(&app.table, id).await?.ok_or_else(Error::not_found)?;
    if user.staff_role.is_some() {
        return Err(Error::new(Code::StaffProtected));
    }
    if user.status != UserStatus::Active {
        return Err(Error::with_message(Code::Forbidden, "This account is suspended."));
    }
    let membership = auth::way_in(app, &user, None).await?;
    let workspace = store::workspace::get(&app.table, membership.workspace_id).await?.body;
    let session = Session {
        staff_role: None,
        impersonator: caller.user_id,
        expires_at: app.now() + IMPERSONATION,
        ..auth::new_session(app, &user, &workspace, membership.role)
    };
    let mut unit = Unit::new();
    store::session::create(&mut unit, &session)?;
    store::audit::create(&mut unit, &note(app, caller, workspace.id, "impersonated", Some(&why)))?;
    let token = auth::sign(app, &session).await?;
    Ok(Draft::new(unit, Impersonation { token, expires_at: session.expires_at, user }))
}

/// Gives an account a plan whatever is booked, or takes that back.
///
/// # Errors
/// `not_found`, also for whoever pays for nothing.
pub async fn set_plan(
    app: &App,
    caller: &Caller,
    id: Id<User>,
    plan: Option<PlanKey>,
) -> Result<Draft<BillingAccount>> {
    let user = store::user::get(&app.table, id).await?.ok_or_else(Error::not_found)?;
    let home = home(app, &user).await?.ok_or_else(Error::not_found)?;
    let Versioned { body: mut account, v } = store::billing::get_versioned(&app.table, home.billing_account_id).await?;
    (account.granted_plan, account.updated_at) = (plan, app.now());
    let mut unit = Unit::new();
    store::billing::replace(&mut unit, &account, v)?;
    let told = plan.map_or("none", |plan| plan.plan().name);
    store::audit::create(&mut unit, &note(app, caller, home.id, "plan_granted", Some(told)))?;
    Ok(Draft::new(unit, account))
}

/// How many accounts are looked at for [`metrics`].
const MAX_ACCOUNTS: usize = 5_000;

/// The installation in numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Whether every account was looked at; of more than 5,000 the oldest are.
    pub complete: bool,
    /// Accounts, each of an owner.
    pub accounts: usize,
    /// Of these, suspended.
    pub suspended: usize,
    /// By the plan that counts.
    pub plans: BTreeMap<&'static str, usize>,
    /// Dollars a month of the plans that are paid for.
    pub monthly_usd: u64,
    /// Published agents.
    pub agents_published: u64,
    /// Messages in the accounts' current periods.
    pub messages: u64,
    /// What messages beyond the included ones cost in these periods.
    pub overage: MicroDollars,
}

/// Counts.
///
/// # Errors
/// When the table cannot be read.
pub async fn metrics(app: &App) -> Result<Metrics> {
    let (mut sums, mut after) = (Metrics::default(), None);
    loop {
        let page = store::billing::page(&app.table, after.as_ref(), Limit::new(Some(100))?).await?;
        let ids: Vec<Id<BillingAccount>> = page.items.iter().map(|account| account.id).collect();
        for (account, allowance, published) in store::billing::many(&app.table, &ids, app.now()).await? {
            let plan = account.effective_plan();
            sums.accounts += 1;
            sums.suspended += usize::from(account.is_suspended);
            *sums.plans.entry(plan.slug()).or_default() += 1;
            let pays = account.granted_plan.is_none();
            sums.monthly_usd += plan.price_usd.filter(|_| pays).map_or(0, u64::from);
            sums.agents_published += published;
            sums.messages += allowance.count();
            sums.overage += allowance.overage;
        }
        after = page.next;
        sums.complete = after.is_none();
        if sums.complete || sums.accounts >= MAX_ACCOUNTS {
            return Ok(sums);
        }
    }
}
