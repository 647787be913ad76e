//! `/api/auth`: registering, logging in and out.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::auth::{self, LoggedIn, Register};
use shared::domain::user::StaffRole;
use shared::domain::{Role, User, Workspace};
use shared::http::{Call, Created, Done, Json, NoContent, Visit};
use shared::kernel::{Int, Result, Secret, Time};

shared::ops! {
    /// Register a person.
    ///
    /// Makes the user with a workspace and a billing account on the free plan, and logs in.
    POST "/api/auth/register" => register, [] Anyone "" Auth Any Known Unaudited Own;
    /// Log in.
    ///
    /// An unknown e-mail and a wrong password get the same answer.
    POST "/api/auth/login" => login, [] Anyone "" Auth Any Known Unaudited Own;
    /// Log out.
    ///
    /// Ends the session that the call came with, at every door, and only that.
    POST "/api/auth/logout" => logout, [User] Client "" General Any Known Unaudited Own;
    /// Who is logged in.
    GET "/api/auth/me" => me, [User] Client "" General Any Known Unaudited Safe;
}

/// A registration.
#[derive(Debug, Deserialize, JsonSchema)]
struct RegisterIn {
    #[schemars(length(max = 254))]
    email: String,
    /// 8 to 256 characters.
    #[schemars(length(min = 8, max = 256))]
    password: String,
    /// What others see; the local part of the e-mail when absent.
    #[serde(default)]
    name: Option<String>,
}

/// A log-in.
#[derive(Debug, Deserialize, JsonSchema)]
struct LoginIn {
    email: String,
    password: String,
}

/// A session.
#[derive(Debug, Serialize, JsonSchema)]
struct TokenOut {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// `bearer`.
    token_type: &'static str,
    user: UserOut,
}

/// A person.
#[derive(Debug, Serialize, JsonSchema)]
struct UserOut {
    id: Int<User>,
    email: String,
    name: String,
    /// `owner`, `client` or `superadmin`.
    role: &'static str,
    /// The owner's user id, for clients.
    parent_user_id: Option<Int<User>>,
    email_verified: bool,
    created_at: Time,
}

/// The caller.
#[derive(Debug, Serialize, JsonSchema)]
struct MeOut {
    #[serde(flatten)]
    user: UserOut,
    workspace: WorkspaceOut,
}

/// The active workspace.
#[derive(Debug, Serialize, JsonSchema)]
struct WorkspaceOut {
    id: Int<Workspace>,
    slug: String,
    name: String,
    owner_id: Int<User>,
    default_agent_id: Option<Int<shared::domain::Agent>>,
}

impl UserOut {
    fn new(user: User, role: Role, owner: Option<Int<User>>) -> Self {
        let is_client = role == Role::Client;
        let role = match (user.staff_role, role) {
            (Some(StaffRole::Superadmin), _) => "superadmin",
            (_, Role::Client) => "client",
            (_, Role::Viewer | Role::Operator | Role::Editor | Role::Admin | Role::Owner) => "owner",
        };
        Self {
            id: user.id.into(),
            email: user.email,
            name: user.name,
            role,
            parent_user_id: owner.filter(|_| is_client),
            email_verified: user.email_verified,
            created_at: user.created_at,
        }
    }
}

impl From<LoggedIn> for TokenOut {
    fn from(logged_in: LoggedIn) -> Self {
        let user = UserOut::new(logged_in.user, logged_in.role, None);
        Self { access_token: logged_in.token, token_type: "bearer", user }
    }
}

async fn register(State(app): State<App>, visit: Visit, Json(body): Json<RegisterIn>) -> Result<Created<TokenOut>> {
    let command = Register { email: body.email, password: Secret::new(body.password), name: body.name };
    visit.run(&app, || auth::register(&app, &command), TokenOut::from).await
}

async fn login(State(app): State<App>, visit: Visit, Json(body): Json<LoginIn>) -> Result<Done<TokenOut>> {
    let password = Secret::new(body.password);
    visit.run(&app, || auth::log_in(&app, &body.email, &password), TokenOut::from).await
}

async fn logout(State(app): State<App>, call: Call) -> Result<NoContent> {
    call.run(&app, async || auth::log_out(&call.caller), |()| ()).await
}

async fn me(State(app): State<App>, call: Call) -> Result<Json<MeOut>> {
    let (user, workspace) = auth::me(&app, &call.caller).await?;
    let owner_id = workspace.owner_user_id.into();
    let user = UserOut::new(user, call.caller.role, Some(owner_id));
    let default_agent_id = workspace.default_agent_id.map(Int);
    let workspace = WorkspaceOut {
        id: workspace.id.into(),
        slug: workspace.slug,
        name: workspace.name,
        owner_id,
        default_agent_id,
    };
    Ok(Json(MeOut { user, workspace }))
}
