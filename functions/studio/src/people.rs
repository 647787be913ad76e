//! `/api/admin`: the installation's users and numbers; rows of the group [`crate::admin`].

use std::collections::BTreeMap;

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::admin::{self, Detail, Impersonation, Listed, Metrics};
use shared::domain::agent::AgentStatus;
use shared::domain::billing::{Product, SubscriptionStatus};
use shared::domain::plan::{MicroDollars, PlanKey};
use shared::domain::user::{StaffRole, UserStatus};
use shared::domain::{Agent, BillingAccount, Membership, Role, User, Workspace};
use shared::http::{Call, Done, Json, Path, Query};
use shared::kernel::{Int, Nullable, Result, Time};
use shared::ports::secrets::{POLAR_TOKEN, POLAR_WEBHOOK};

use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// The installation in numbers.
    ///
    /// Added up over the accounts when it is asked for; beyond 5,000 of them `complete` is false.
    GET "/api/admin/metrics" => find_metrics, [User] Superadmin "" Staff Any Known Unaudited Safe;
    /// List users, newest first, or find one by e-mail.
    GET "/api/admin/users" => list_users, [User] Superadmin "" Staff Any Known Unaudited Safe;
    /// One user, with account and agents.
    GET "/api/admin/users/{id}" => find_user, [User] Superadmin "" Staff Any Known Unaudited Safe;
    /// Suspend a user, or lift that.
    ///
    /// Who is suspended is logged out; keys do not work, and agents say that they cannot answer. The reason, if
    /// one is given, is in the user's own log.
    PATCH "/api/admin/users/{id}/status" => set_user_status, [User] Superadmin "" Staff Any Known Audited Keyed;
    /// Give a user a plan whatever is booked, or take that back.
    PATCH "/api/admin/users/{id}/plan" => set_user_plan, [User] Superadmin "" Staff Any Known Audited Keyed;
    /// Act for a user for half an hour.
    ///
    /// The session reads, and changes agents and conversations; never passwords, keys, secrets, billing or clients, and it
    /// deletes nothing. The reason and every change are in the user's own log.
    POST "/api/admin/users/{id}/impersonate" => impersonate_user, [User] Superadmin "" Staff Any Known Audited Own;
    /// How billing is set up.
    GET "/api/admin/billing/config" => find_billing_config, [User] Superadmin "" Staff Any Known Unaudited Safe;
}

/// Which users.
#[derive(Debug, Deserialize, JsonSchema)]
struct UsersQuery {
    /// Only the one with this e-mail.
    #[serde(default)]
    email: Option<String>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

/// A user.
#[derive(Debug, Serialize, JsonSchema)]
struct AdminUserOut {
    id: Int<User>,
    email: String,
    name: String,
    /// `owner`, `client` or `superadmin`.
    role: &'static str,
    /// The owner whose client they are, by the workspace that they log in to; null for everybody else.
    parent_user_id: Option<Int<User>>,
    status: UserStatus,
    email_verified: bool,
    created_at: Time,
    /// Null for whoever pays for nothing, such as clients.
    account: Option<AdminAccountOut>,
}

/// An account as the operator sees it.
#[derive(Debug, Serialize, JsonSchema)]
struct AdminAccountOut {
    id: Int<BillingAccount>,
    /// The plan that counts.
    plan: PlanKey,
    /// The plan that staff gave, if they did.
    granted_plan: Option<PlanKey>,
    subscription_status: SubscriptionStatus,
    has_payment_method: bool,
    messages_used_current_period: u64,
    messages_limit: u64,
    agents_used: u64,
    agents_limit: u64,
    /// What messages beyond the included ones cost in the period, in millionths of a dollar.
    overage_micro_usd: MicroDollars,
    spend_cap_cents: Option<u32>,
}

/// A user in full.
#[derive(Debug, Serialize, JsonSchema)]
struct AdminUserDetailOut {
    #[serde(flatten)]
    user: AdminUserOut,
    memberships: Vec<AdminMembershipOut>,
    agents: Vec<AdminAgentOut>,
}

/// Where somebody belongs.
#[derive(Debug, Serialize, JsonSchema)]
struct AdminMembershipOut {
    workspace_id: Int<Workspace>,
    role: Role,
    joined_at: Time,
}

/// An agent as the operator sees it: no prompt, no secret.
#[derive(Debug, Serialize, JsonSchema)]
struct AdminAgentOut {
    id: Int<Agent>,
    name: String,
    status: AgentStatus,
    public_slug: Option<String>,
    created_at: Time,
}

impl From<Listed> for AdminUserOut {
    fn from(listed: Listed) -> Self {
        let Listed { user, account, parent } = listed;
        let role = match (user.staff_role, &account) {
            (Some(StaffRole::Superadmin), _) => "superadmin",
            (_, Some(_)) => "owner",
            (_, None) => "client",
        };
        let account = account.map(|(account, allowance, agents_used)| {
            let plan = account.effective_plan();
            AdminAccountOut {
                id: account.id.into(),
                plan: plan.key,
                granted_plan: account.granted_plan,
                subscription_status: account.status,
                has_payment_method: account.has_payment_method,
                messages_used_current_period: allowance.count(),
                messages_limit: plan.included_messages,
                agents_used,
                agents_limit: plan.agents,
                overage_micro_usd: allowance.overage,
                spend_cap_cents: account.spend_cap_cents,
            }
        });
        Self {
            id: user.id.into(),
            email: user.email,
            name: user.name,
            role,
            parent_user_id: parent.map(Int),
            status: user.status,
            email_verified: user.email_verified,
            created_at: user.created_at,
            account,
        }
    }
}

impl From<Detail> for AdminUserDetailOut {
    fn from(detail: Detail) -> Self {
        let membership = |of: Membership| AdminMembershipOut {
            workspace_id: of.workspace_id.into(),
            role: of.role,
            joined_at: of.joined_at,
        };
        let agent = |agent: Agent| AdminAgentOut {
            id: agent.id.into(),
            name: agent.name,
            status: agent.status,
            public_slug: agent.public_slug,
            created_at: agent.created_at,
        };
        Self {
            user: detail.listed.into(),
            memberships: detail.memberships.into_iter().map(membership).collect(),
            agents: detail.agents.into_iter().map(agent).collect(),
        }
    }
}

const USERS: &str = "users";

async fn list_users(
    State(app): State<App>,
    _: Call,
    Query(query): Query<UsersQuery>,
) -> Result<Json<ListOut<AdminUserOut>>> {
    let UsersQuery { email, cursor, limit } = query;
    let (after, limit) = PageQuery { cursor, limit }.read(USERS)?;
    let page = admin::users(&app, email.as_deref(), after.as_ref(), limit).await?;
    Ok(Json(ListOut::page(USERS, page.map(AdminUserOut::from))))
}

async fn find_user(State(app): State<App>, _: Call, Path(id): Path<Int<User>>) -> Result<Json<AdminUserDetailOut>> {
    Ok(Json(admin::user(&app, id.0).await?.into()))
}

/// A status that staff may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SetStatus {
    /// They may log in.
    Active,
    /// They may not, until staff lift it.
    Suspended,
}

/// A status.
#[derive(Debug, Deserialize, JsonSchema)]
struct UserStatusIn {
    status: SetStatus,
    /// Why; up to 500 characters.
    #[serde(default)]
    reason: Option<String>,
}

/// A user's status.
#[derive(Debug, Serialize, JsonSchema)]
struct UserStatusOut {
    id: Int<User>,
    status: UserStatus,
}

async fn set_user_status(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<User>>,
    Json(body): Json<UserStatusIn>,
) -> Result<Done<UserStatusOut>> {
    let suspends = body.status == SetStatus::Suspended;
    let command = || admin::set_status(&app, &call.caller, id.0, suspends, body.reason.as_deref());
    call.run(&app, command, |user| UserStatusOut { id: user.id.into(), status: user.status }).await
}

/// A plan to give.
#[derive(Debug, Deserialize, JsonSchema)]
struct UserPlanIn {
    /// Null takes it back: what is booked counts again.
    plan_slug: Nullable<PlanKey>,
}

/// The plans of an account.
#[derive(Debug, Serialize, JsonSchema)]
struct UserPlanOut {
    /// The plan that counts.
    plan: PlanKey,
    granted_plan: Option<PlanKey>,
}

async fn set_user_plan(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<User>>,
    Json(body): Json<UserPlanIn>,
) -> Result<Done<UserPlanOut>> {
    let out = |account: BillingAccount| UserPlanOut {
        plan: account.effective_plan().key,
        granted_plan: account.granted_plan,
    };
    call.run(&app, || admin::set_plan(&app, &call.caller, id.0, body.plan_slug.0), out).await
}

/// Why.
#[derive(Debug, Deserialize, JsonSchema)]
struct ImpersonateIn {
    /// 1 to 500 characters; the user can read it.
    reason: String,
}

/// A session for somebody.
#[derive(Debug, Serialize, JsonSchema)]
struct ImpersonateOut {
    access_token: String,
    /// `bearer`.
    token_type: &'static str,
    expires_at: Time,
    user_id: Int<User>,
    email: String,
}

impl From<Impersonation> for ImpersonateOut {
    fn from(made: Impersonation) -> Self {
        Self {
            access_token: made.token,
            token_type: "bearer",
            expires_at: made.expires_at,
            user_id: made.user.id.into(),
            email: made.user.email,
        }
    }
}

async fn impersonate_user(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<User>>,
    Json(body): Json<ImpersonateIn>,
) -> Result<Done<ImpersonateOut>> {
    let command = || admin::impersonate(&app, &call.caller, id.0, &body.reason);
    call.run(&app, command, ImpersonateOut::from).await
}

/// The installation in numbers.
#[derive(Debug, Serialize, JsonSchema)]
struct MetricsOut {
    complete: bool,
    accounts: usize,
    accounts_suspended: usize,
    /// Accounts by the plan that counts.
    plans: BTreeMap<&'static str, usize>,
    /// Of plans that are paid for.
    monthly_revenue_usd: u64,
    agents_published: u64,
    messages_current_period: u64,
    /// What messages beyond the included ones cost in the period.
    overage_micro_usd: MicroDollars,
}

impl From<Metrics> for MetricsOut {
    fn from(sums: Metrics) -> Self {
        Self {
            complete: sums.complete,
            accounts: sums.accounts,
            accounts_suspended: sums.suspended,
            plans: sums.plans,
            monthly_revenue_usd: sums.monthly_usd,
            agents_published: sums.agents_published,
            messages_current_period: sums.messages,
            overage_micro_usd: sums.overage,
        }
    }
}

async fn find_metrics(State(app): State<App>, _: Call) -> Result<Json<MetricsOut>> {
    Ok(Json(admin::metrics(&app).await?.into()))
}

/// How billing is set up.
#[derive(Debug, Serialize, JsonSchema)]
struct BillingConfigOut {
    /// Whether there is a Polar to report to.
    polar_configured: bool,
    polar_base_url: Option<String>,
    /// Whether there is a token for it.
    has_access_token: bool,
    /// Whether its callbacks can be checked.
    has_webhook_secret: bool,
    /// Where they go.
    webhook_url: String,
    /// What is sold, by plan; `seat` for seats.
    products: BTreeMap<String, String>,
}

async fn find_billing_config(State(app): State<App>, _: Call) -> Result<Json<BillingConfigOut>> {
    let word = |product: &Product| product.plan().map_or("seat", |plan| plan.plan().slug()).to_owned();
    Ok(Json(BillingConfigOut {
        polar_configured: app.polar.is_some(),
        polar_base_url: app.config.polar_base_url.as_ref().map(ToString::to_string),
        has_access_token: app.secrets.get(POLAR_TOKEN).await?.is_some(),
        has_webhook_secret: app.secrets.get(POLAR_WEBHOOK).await?.is_some(),
        webhook_url: format!("{}/hooks/polar", app.config.public_base_url),
        products: app.config.polar_products.iter().map(|(product, id)| (word(product), id.clone())).collect(),
    }))
}
