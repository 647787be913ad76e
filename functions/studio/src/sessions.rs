//! `/api/auth`: registering, logging in and out.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::account::Accepted;
use shared::app::auth::{self, LoggedIn, Register};
use shared::app::{App, account, verification};
use shared::domain::user::StaffRole;
use shared::domain::{Membership, Role, User, Workspace};
use shared::http::{Call, Created, Done, Json, NoContent, Visit};
use shared::kernel::{Int, Result, Secret, Time};

shared::ops! {
    /// Register a person.
    ///
    /// Makes the user with a workspace and a billing account on the free plan, and logs in. A link to verify the e-mail is
    /// mailed.
    POST "/api/auth/register" => register, [] Anyone "" Auth Any Known Unaudited Own also [409];
    /// Log in.
    ///
    /// An unknown e-mail and a wrong password get the same answer.
    POST "/api/auth/login" => login, [] Anyone "" Auth Any Known Unaudited Own also [401 403];
    /// Log out.
    ///
    /// Ends the session that the call came with, at every door, and only that.
    POST "/api/auth/logout" => logout, [User] Client "" General Any Known Unaudited Own + assisted;
    /// Who is logged in.
    GET "/api/auth/me" => me, [User] Client "" General Any Known Unaudited Safe;
    /// Change your own name.
    PATCH "/api/auth/me" => update_me, [User] Client "" General Any Known Unaudited Keyed;
    /// Set another password.
    ///
    /// Ends all other sessions. 422 on `current_password` when that is not yours.
    POST "/api/auth/password" => change_password, [User] Client "" Auth Any Known Unaudited Own;
    /// Have a link mailed to set a password anew.
    ///
    /// The answer is the same whether somebody has that address or not.
    POST "/api/auth/forgot-password" => forgot_password, [] Anyone "" Auth Any Known Unaudited Own;
    /// Set a password by a mailed link.
    ///
    /// A link holds for an hour and once. All sessions end.
    POST "/api/auth/reset-password" => reset_password, [] Anyone "" Auth Any Known Unaudited Own;
    /// Verify an e-mail by a mailed link.
    ///
    /// A link holds for seven days. Taken again it changes nothing.
    POST "/api/auth/verify-email" => verify_email, [] Anyone "" Auth Any Known Unaudited Own;
    /// Have another link mailed to verify your e-mail.
    ///
    /// Five an hour. 409 `email_already_verified` when there is nothing to verify any more.
    POST "/api/auth/verify-email/send" => send_verification, [User] Client "" Auth Any Known Unaudited Own also [409];
    /// Accept an invitation and log in.
    ///
    /// Somebody new sets their password with it; somebody who has one here gives it. Where the e-mail was registered and
    /// never verified, another password takes the place of the one before, whose sessions and keys end.
    POST "/api/auth/invitations/accept" => accept_invitation, [] Anyone "" Auth Any Known Unaudited Own also [401 409];
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
    /// A workspace that you belong to, as `GET /api/auth/me` lists them; your usual one when absent.
    #[serde(default)]
    workspace_id: Option<Int<Workspace>>,
}

/// Changes to yourself.
#[derive(Debug, Deserialize, JsonSchema)]
struct MePatch {
    /// What others see. 1 to 255 characters.
    name: String,
}

/// Another password.
#[derive(Debug, Deserialize, JsonSchema)]
struct PasswordIn {
    current_password: String,
    /// 8 to 256 characters.
    #[schemars(length(min = 8, max = 256))]
    new_password: String,
}

/// Whose password was forgotten.
#[derive(Debug, Deserialize, JsonSchema)]
struct ForgotPasswordIn {
    email: String,
}

/// What becomes of it.
#[derive(Debug, Serialize, JsonSchema)]
struct ForgotPasswordOut {
    /// For people.
    detail: &'static str,
}

/// A password by a mailed link.
#[derive(Debug, Deserialize, JsonSchema)]
struct ResetPasswordIn {
    /// What stands behind `#token=` in the link.
    token: String,
    /// 8 to 256 characters.
    #[schemars(length(min = 8, max = 256))]
    password: String,
}

/// A link that verifies an e-mail.
#[derive(Debug, Deserialize, JsonSchema)]
struct VerifyEmailIn {
    /// What stands behind `#token=` in the link.
    token: String,
}

/// What becomes of it.
#[derive(Debug, Serialize, JsonSchema)]
struct SendVerificationOut {
    /// For people.
    detail: String,
}

/// An invitation to accept.
#[derive(Debug, Deserialize, JsonSchema)]
struct AcceptInvitationIn {
    /// What stands behind `#token=` in the link.
    token: String,
    /// Your own, or the one to have from now on.
    password: String,
    /// What others see, for somebody new.
    #[serde(default)]
    name: Option<String>,
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

/// A session of somebody who accepted an invitation.
#[derive(Debug, Serialize, JsonSchema)]
struct AcceptedOut {
    #[serde(flatten)]
    session: TokenOut,
    /// Who invited you, as the mail told it: a name in quotation marks, an e-mail, or both.
    invited_by: String,
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
    /// Staff who act for you in this session.
    impersonated_by: Option<Int<User>>,
    /// All workspaces that are open to you; log in with another `workspace_id` to act there.
    memberships: Vec<MembershipOut>,
}

/// A workspace that somebody belongs to.
#[derive(Debug, Serialize, JsonSchema)]
struct MembershipOut {
    workspace_id: Int<Workspace>,
    role: Role,
    joined_at: Time,
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
        let user = UserOut::new(logged_in.user, logged_in.role, Some(logged_in.owner.into()));
        Self { access_token: logged_in.token, token_type: "bearer", user }
    }
}

async fn register(State(app): State<App>, visit: Visit, Json(body): Json<RegisterIn>) -> Result<Created<TokenOut>> {
    let command = Register { email: body.email, password: Secret::new(body.password), name: body.name };
    visit.run(&app, || auth::register(&app, &command), TokenOut::from).await
}

async fn login(State(app): State<App>, visit: Visit, Json(body): Json<LoginIn>) -> Result<Done<TokenOut>> {
    let password = Secret::new(body.password);
    let workspace = body.workspace_id.map(|id| id.0);
    visit.run(&app, || auth::log_in(&app, &body.email, &password, workspace), TokenOut::from).await
}

async fn logout(State(app): State<App>, call: Call) -> Result<NoContent> {
    call.run(&app, async || auth::log_out(&call.caller), |()| ()).await
}

async fn me(State(app): State<App>, call: Call) -> Result<Json<MeOut>> {
    let (user, workspace, memberships) = auth::me(&app, &call.caller).await?;
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
    let out =
        |of: Membership| MembershipOut { workspace_id: of.workspace_id.into(), role: of.role, joined_at: of.joined_at };
    let impersonated_by = call.caller.impersonator.map(Int);
    Ok(Json(MeOut { user, workspace, impersonated_by, memberships: memberships.into_iter().map(out).collect() }))
}

async fn update_me(State(app): State<App>, call: Call, Json(body): Json<MePatch>) -> Result<Done<UserOut>> {
    let (role, owner) = (call.caller.role, Some(call.caller.owner_user_id.into()));
    call.run(&app, || account::rename(&app, &call.caller, &body.name), |user| UserOut::new(user, role, owner)).await
}

async fn change_password(State(app): State<App>, call: Call, Json(body): Json<PasswordIn>) -> Result<NoContent> {
    let (current, new) = (Secret::new(body.current_password), Secret::new(body.new_password));
    call.run(&app, || account::change_password(&app, &call.caller, &current, &new), |()| ()).await
}

const MAIL_IS_COMING: &str = "If somebody has this address, a mail is on its way.";

async fn forgot_password(
    State(app): State<App>,
    visit: Visit,
    Json(body): Json<ForgotPasswordIn>,
) -> Result<Done<ForgotPasswordOut>> {
    let out = |()| ForgotPasswordOut { detail: MAIL_IS_COMING };
    visit.run(&app, || account::forgot_password(&app, &body.email), out).await
}

async fn reset_password(State(app): State<App>, visit: Visit, Json(body): Json<ResetPasswordIn>) -> Result<NoContent> {
    let password = Secret::new(body.password);
    visit.run(&app, || account::reset_password(&app, &body.token, &password), |()| ()).await
}

async fn verify_email(State(app): State<App>, visit: Visit, Json(body): Json<VerifyEmailIn>) -> Result<NoContent> {
    visit.run(&app, || verification::redeem(&app, &body.token), |()| ()).await
}

async fn send_verification(State(app): State<App>, call: Call) -> Result<Done<SendVerificationOut>> {
    let out = |email| SendVerificationOut { detail: format!("A mail is on its way to {email}.") };
    call.run(&app, || verification::send_again(&app, &call.caller), out).await
}

async fn accept_invitation(
    State(app): State<App>,
    visit: Visit,
    Json(body): Json<AcceptInvitationIn>,
) -> Result<Done<AcceptedOut>> {
    let (password, name) = (Secret::new(body.password), body.name.as_deref());
    let out = |accepted: Accepted| AcceptedOut {
        invited_by: accepted.invited_by,
        session: TokenOut::from(accepted.logged_in),
    };
    visit.run(&app, || account::accept_invitation(&app, &body.token, &password, name), out).await
}
