//! Registering, logging in and out, and recognising who calls.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use super::{App, Draft, password, verification};
use crate::access::{Caller, Credential, RateClass};
use crate::domain::api_key::KeyKind;
use crate::domain::session::LIFETIME;
use crate::domain::slug::slugify;
use crate::domain::text::{Checks, is_email, local_part};
use crate::domain::user::UserStatus;
use crate::domain::workspace::{MembershipStatus, WorkspaceStatus};
use crate::domain::{BillingAccount, Membership, Role, Session, User, Workspace};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, Secret};
use crate::ports::mail;
use crate::store;
use crate::table::Unit;

/// What a session token says. It is only a name: what counts is in the session item.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    sid: String,
    ws: String,
    kind: String,
    iat: i64,
    exp: i64,
}

/// A registration.
#[derive(Debug, Clone)]
pub struct Register {
    /// As typed.
    pub email: String,
    /// As typed.
    pub password: Secret,
    /// What others see; the local part of the e-mail when absent.
    pub name: Option<String>,
}

/// Somebody who just logged in.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The bearer token.
    pub token: String,
    /// Who.
    pub user: User,
    /// As what, where.
    pub role: Role,
    /// Whose workspace it is.
    pub owner: Id<User>,
}

/// Makes a user with a workspace, a billing account on the free plan and a session, and has them mailed a link to verify
/// their address.
///
/// # Errors
/// `validation_error`, `email.already_registered`, `rate_limited`.
pub async fn register(app: &App, command: &Register) -> Result<Draft<LoggedIn>> {
    let mut draft = join(app, command, false).await?;
    draft.then.push(verification::asked(draft.value.user.id)?);
    Ok(draft)
}

/// The same for somebody whom the installation makes by itself: they have nothing to show and are mailed nothing.
///
/// # Errors
/// As [`register`].
pub async fn register_trusted(app: &App, command: &Register) -> Result<Draft<LoggedIn>> {
    join(app, command, true).await
}

async fn join(app: &App, command: &Register, is_trusted: bool) -> Result<Draft<LoggedIn>> {
    let mut checks = Checks::new();
    let email = checks.email("email", &command.email);
    // What looks like an address may still be one that mail cannot be sent to.
    let reachable = !is_email(&email) || mail::is_address(&email);
    checks.ensure(reachable, "email", "invalid_email", "email must be an e-mail address");
    check_password(&mut checks, "password", &command.password);
    let name = checks.optional("name", command.name.as_deref(), 255);
    checks.finish()?;
    let name = name.unwrap_or_else(|| local_part(&email).to_owned());
    let mut user = new_user(app, email, &name, password::hash(&app.rng, &command.password).await?);
    user.email_verified = is_trusted;
    let mut unit = Unit::new();
    store::user::create(&mut unit, &user)?;
    let workspace = add_home(app, &mut unit, &user).await?;
    let session = add_session(app, &mut unit, &user, &workspace, Role::Owner)?;
    let token = sign(app, &session).await?;
    let owner = user.id;
    Ok(Draft::new(unit, LoggedIn { token, user, role: Role::Owner, owner }))
}

/// Whether somebody may have this password, sent in the field of that name.
pub(super) fn check_password(checks: &mut Checks, field: &str, password: &Secret) {
    let chars = password.expose().chars().count();
    let (short, long) =
        (format!("{field} must have at least 8 characters"), format!("{field} may have 256 characters"));
    checks.ensure(chars >= password::MIN_CHARS, field, "too_short", &short);
    checks.ensure(chars <= password::MAX_CHARS, field, "too_long", &long);
}

/// Whether it is the person's password.
pub(super) async fn fits(user: &User, password: &Secret) -> Result<bool> {
    // Hashing costs by length: what could never be a password is not hashed, whoever asks.
    let plausible = password.expose().chars().count() <= password::MAX_CHARS;
    Ok(plausible && password::verify(Some(user.password_hash.clone()), password).await?)
}

/// A person with a home of their own, which is not made here.
pub(super) fn new_user(app: &App, email: String, name: &str, password_hash: String) -> User {
    let now = app.now();
    User {
        id: app.ids().id(),
        email,
        password_hash,
        name: name.to_owned(),
        email_verified: false,
        status: UserStatus::Active,
        staff_role: None,
        default_workspace_id: app.ids().id(),
        billing_account_id: app.ids().id(),
        created_at: now,
        updated_at: now,
    }
}

/// The workspace and billing account of a new user.
async fn add_home(app: &App, unit: &mut Unit, user: &User) -> Result<Workspace> {
    let now = app.now();
    let workspace = Workspace {
        id: user.default_workspace_id,
        slug: free_slug(app, &user.name).await?,
        name: user.name.clone(),
        owner_user_id: user.id,
        billing_account_id: user.billing_account_id,
        timezone: "UTC".into(),
        status: WorkspaceStatus::Active,
        default_agent_id: None,
        created_at: now,
        updated_at: now,
    };
    let membership = Membership::new(workspace.id, user.id, Role::Owner, now);
    store::workspace::create(unit, &workspace)?;
    store::workspace::add_member(unit, &membership)?;
    let mut account = BillingAccount::new(user.billing_account_id, user.id, now);
    account.awaits_verification = !user.email_verified;
    store::billing::create(unit, &account)?;
    Ok(workspace)
}

async fn free_slug(app: &App, name: &str) -> Result<String> {
    let base = match slugify(name, 48) {
        slug if slug.len() >= 2 => slug,
        _ => "workspace".into(),
    };
    if store::workspace::slug_is_taken(&app.table, &base).await? {
        return Ok(format!("{base}-{}", app.rng.text(6)));
    }
    Ok(base)
}

fn add_session(app: &App, unit: &mut Unit, user: &User, workspace: &Workspace, role: Role) -> Result<Session> {
    let session = new_session(app, user, workspace, role);
    store::session::create(unit, &session)?;
    Ok(session)
}

/// A session of somebody's own, as long as they last.
pub(super) fn new_session(app: &App, user: &User, workspace: &Workspace, role: Role) -> Session {
    let now = app.now();
    Session {
        sid: hex::encode(app.rng.bytes::<16>()),
        user_id: user.id,
        workspace_id: workspace.id,
        billing_account_id: workspace.billing_account_id,
        owner_user_id: workspace.owner_user_id,
        role,
        staff_role: user.staff_role,
        impersonator: None,
        created_at: now,
        expires_at: now + LIFETIME,
    }
}

pub(super) async fn sign(app: &App, session: &Session) -> Result<String> {
    let keys = app.keys().await?;
    let (key_id, key) = keys.session.current();
    let claims = Claims {
        sub: session.user_id.text(),
        sid: session.sid.clone(),
        ws: session.workspace_id.text(),
        kind: "user".into(),
        iat: session.created_at.seconds(),
        exp: session.expires_at.seconds(),
    };
    let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, &claims, &EncodingKey::from_secret(key))
        .map_err(|error| Error::internal(format!("signing: {error}")))
}

/// Checks e-mail and password and opens a session in a workspace of the person's: the one that is asked for, else the
/// usual one. An unknown e-mail and a wrong password get the same answer in the same time.
///
/// # Errors
/// `invalid_credentials`, `forbidden` for who is suspended or belongs to no such workspace, `rate_limited`.
pub async fn log_in(
    app: &App,
    email: &str,
    password: &Secret,
    wanted: Option<Id<Workspace>>,
) -> Result<Draft<LoggedIn>> {
    let email = email.trim().to_lowercase();
    app.count_call(RateClass::AuthEmail, &sha256_hex(&email)).await?;
    let user = if is_email(&email) { store::user::by_email(&app.table, &email).await? } else { None };
    // Hashing costs by length: what could never be a password is not hashed, whoever asks.
    let plausible = password.expose().chars().count() <= password::MAX_CHARS;
    let fits = plausible && password::verify(user.as_ref().map(|user| user.password_hash.clone()), password).await?;
    let user = user.filter(|_| fits).ok_or_else(|| Error::new(Code::InvalidCredentials))?;
    if user.status != UserStatus::Active {
        return Err(Error::with_message(Code::Forbidden, "This account is suspended."));
    }
    let membership = way_in(app, &user, wanted).await?;
    let workspace = store::workspace::get(&app.table, membership.workspace_id).await?.body;
    open_session(app, Unit::new(), user, &workspace, membership.role, Others::GoOn).await
}

/// The membership that somebody comes in by.
pub(super) async fn way_in(app: &App, user: &User, wanted: Option<Id<Workspace>>) -> Result<Membership> {
    let is_open = |membership: &Membership| membership.status == MembershipStatus::Active;
    let id = wanted.unwrap_or(user.default_workspace_id);
    let membership = store::workspace::membership(&app.table, id, user.id).await?.filter(is_open);
    match (membership, wanted) {
        (Some(membership), _) => Ok(membership),
        (None, Some(_)) => Err(Error::with_message(Code::Forbidden, "You do not belong to that workspace.")),
        // The usual one may be closed to them while another is not.
        (None, None) => {
            let others = store::workspace::memberships_of(&app.table, user.id).await?;
            let other = others.into_iter().find(is_open);
            other.ok_or_else(|| Error::with_message(Code::Forbidden, "No workspace is open to you."))
        }
    }
}

/// What becomes of somebody's other sessions when they log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// They go on; of many the oldest end.
    GoOn,
    /// They end.
    End,
}

/// Adds a session to what else is written.
pub(super) async fn open_session(
    app: &App,
    mut unit: Unit,
    user: User,
    workspace: &Workspace,
    role: Role,
    others: Others,
) -> Result<Draft<LoggedIn>> {
    match others {
        Others::GoOn => {
            let known = store::session::of_user(&app.table, user.id).await?;
            for oldest in known.iter().skip(store::session::MAX_SESSIONS - 1) {
                store::session::delete(&mut unit, &oldest.sid);
            }
        }
        Others::End => store::session::delete_all(&app.table, &mut unit, user.id, None).await?,
    }
    let session = add_session(app, &mut unit, &user, workspace, role)?;
    let token = sign(app, &session).await?;
    Ok(Draft::new(unit, LoggedIn { token, user, role, owner: workspace.owner_user_id }))
}

/// Ends the session that the caller came with, and only that.
///
/// # Errors
/// `forbidden` for callers without a session.
pub fn log_out(caller: &Caller) -> Result<Draft<()>> {
    let mut unit = Unit::new();
    store::session::delete(&mut unit, caller.sid.as_deref().ok_or_else(|| Error::new(Code::Forbidden))?);
    Ok(Draft::new(unit, ()))
}

/// The caller's own user and workspace, and all memberships that are open to them.
///
/// # Errors
/// `forbidden` for callers without a session, `not_found` when the user is gone.
pub async fn me(app: &App, caller: &Caller) -> Result<(User, Workspace, Vec<Membership>)> {
    let user = caller.user_id.ok_or_else(|| Error::new(Code::Forbidden))?;
    let (user, workspace, mut memberships) = tokio::try_join!(
        store::user::get(&app.table, user),
        store::workspace::get(&app.table, caller.workspace_id),
        store::workspace::memberships_of(&app.table, user)
    )?;
    memberships.retain(|membership| membership.status == MembershipStatus::Active);
    Ok((user.ok_or_else(Error::not_found)?, workspace.body, memberships))
}

/// Recognises a bearer token: a session, or a key of the kind that the surface takes. `None` when it is neither, or
/// has ended.
///
/// # Errors
/// When the table cannot be read.
pub async fn recognise(app: &App, token: &str, kind: KeyKind) -> Result<Option<Caller>> {
    if token.starts_with(kind.prefix()) {
        recognise_key(app, token, kind).await
    } else {
        recognise_session(app, token).await
    }
}

async fn recognise_key(app: &App, raw: &str, kind: KeyKind) -> Result<Option<Caller>> {
    let key = store::api_key::lookup(&app.table, &sha256_hex(raw), app.now()).await?;
    Ok(key.filter(|key| key.kind == kind && !key.is_suspended).map(|key| Caller {
        credential: Credential::Developer,
        workspace_id: key.workspace_id,
        billing_account_id: key.billing_account_id,
        owner_user_id: key.owner_user_id,
        role: key.role,
        user_id: None,
        key_id: Some(key.key_id),
        sid: None,
        staff_role: None,
        impersonator: None,
        scopes: key.scopes.clone(),
    }))
}

async fn recognise_session(app: &App, token: &str) -> Result<Option<Caller>> {
    let Some(claims) = verify(app, token).await? else { return Ok(None) };
    let session: Option<Arc<Session>> = store::session::get(&app.table, &claims.sid, app.now()).await?;
    Ok(session.map(|session| Caller {
        credential: Credential::User,
        workspace_id: session.workspace_id,
        billing_account_id: session.billing_account_id,
        owner_user_id: session.owner_user_id,
        role: session.role,
        user_id: Some(session.user_id),
        key_id: None,
        sid: Some(session.sid.clone()),
        staff_role: session.staff_role,
        impersonator: session.impersonator,
        scopes: Vec::new(),
    }))
}

async fn verify(app: &App, token: &str) -> Result<Option<Claims>> {
    let keys = app.keys().await?;
    let key_id = decode_header(token).ok().and_then(|header| header.kid);
    let Some(key) = key_id.and_then(|key_id| keys.session.find(&key_id)) else { return Ok(None) };
    // The machine's clock is not ours: expiry is checked against the session item and the injected clock.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    let claims = decode::<Claims>(token, &DecodingKey::from_secret(key), &validation).ok().map(|token| token.claims);
    Ok(claims.filter(|claims| claims.kind == "user" && claims.exp > app.now().seconds()))
}

/// Makes sure that the operator's superadmin exists with this password: for `CHATIA_ADMIN_EMAIL` at start-up.
///
/// # Errors
/// `validation_error`, or the table cannot be written.
pub async fn ensure_superadmin(app: &App, email: &str, password: &Secret) -> Result<User> {
    let command = Register { email: email.into(), password: password.clone(), name: Some("Admin".into()) };
    let known = store::user::by_email(&app.table, &email.trim().to_lowercase()).await?;
    let mut user = match known {
        Some(user) => user,
        None => app.complete(register_trusted(app, &command).await?).await?.user,
    };
    let is_same = password::verify(Some(user.password_hash.clone()), password).await?;
    let mut unit = Unit::new();
    if !is_same || user.staff_role.is_none() {
        // Whoever logged in before, with another password or as somebody else, does not become the operator.
        store::session::delete_all(&app.table, &mut unit, user.id, None).await?;
    }
    verification::note(app, &mut unit, &mut user).await?;
    app.commit(unit).await?;
    user.password_hash = password::hash(&app.rng, password).await?;
    user.staff_role = Some(crate::domain::user::StaffRole::Superadmin);
    store::user::overwrite(&app.table, &user).await?;
    Ok(user)
}
