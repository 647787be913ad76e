//! What people do with their own log-in: accepting an invitation, a forgotten password, a new one, another name.

use std::time::Duration;

use super::auth::{self, LoggedIn, Others};
use super::deliver::Task;
use super::{App, Draft, password, verification};
use crate::access::{Caller, RateClass};
use crate::domain::invitation::{InvitationToken, inviter};
use crate::domain::text::{Checks, is_email};
use crate::domain::user::UserStatus;
use crate::domain::workspace::MembershipStatus;
use crate::domain::{Membership, User};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Result, Secret, work};
use crate::ports::mail::Mail;
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::table::{Unit, Versioned};

/// How long a link to set a password anew holds.
const RESET_LIFETIME: Duration = Duration::from_secs(3600);
/// Random characters of such a link, 5 bits each: 160 bits.
const RESET_CHARS: usize = 32;

/// Somebody who accepted an invitation.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// They are logged in where they were invited to.
    pub logged_in: LoggedIn,
    /// Who invited them, as the mail told it.
    pub invited_by: String,
}

/// Accepts an invitation and logs in. Somebody new sets their password with it; somebody known shows theirs. Where an
/// address was registered and never verified, whoever holds the link holds the mailbox: a password that is not the known
/// one is theirs from then on, and the sessions and keys of whoever registered end.
///
/// # Errors
/// `invitation.invalid`, `validation_error`, `invalid_credentials`.
pub async fn accept_invitation(
    app: &App,
    token: &str,
    password: &Secret,
    name: Option<&str>,
) -> Result<Draft<Accepted>> {
    let (membership, v) = invited(app, token).await?;
    let Versioned { body: mut user, v: user_v } = store::user::get_versioned(&app.table, membership.user_id).await?;
    if user.status != UserStatus::Active {
        return Err(Error::new(Code::InvitationInvalid));
    }
    let claims = claims(app, &user, password).await?;
    if claims != Claims::Nothing {
        let mut checks = Checks::new();
        auth::check_password(&mut checks, "password", password);
        let name = checks.optional("name", name, 255);
        checks.finish()?;
        user.name = name.unwrap_or(user.name);
        user.password_hash = password::hash(&app.rng, password).await?;
    }
    if claims == Claims::FromAnother {
        verification::end_keys(app, &user).await?;
    }
    let mut unit = Unit::new();
    // The link came by mail to that address.
    verification::note(app, &mut unit, &mut user).await?;
    store::user::replace(&mut unit, &user, user_v)?;
    let workspace = store::workspace::get(&app.table, membership.workspace_id).await?.body;
    let joined = Membership { status: MembershipStatus::Active, invitation: None, ..membership };
    store::workspace::replace_member(&mut unit, &joined, v)?;
    let owner = store::user::get(&app.table, workspace.owner_user_id).await?;
    let invited_by = inviter(&workspace.name, owner.as_ref().map_or("", |owner| &owner.email));
    let others = if claims == Claims::FromAnother { Others::End } else { Others::GoOn };
    let draft = auth::open_session(app, unit, user, &workspace, joined.role, others).await?;
    Ok(draft.map(|logged_in| Accepted { logged_in, invited_by }))
}

/// What somebody who accepts an invitation takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claims {
    /// Nothing: they are who they were.
    Nothing,
    /// An address that nobody has a password for.
    Unused,
    /// An address that somebody registered without showing that it is theirs.
    FromAnother,
}

async fn claims(app: &App, user: &User, password: &Secret) -> Result<Claims> {
    if user.password_hash.is_empty() {
        return Ok(Claims::Unused);
    }
    app.count_call(RateClass::AuthEmail, &sha256_hex(&user.email)).await?;
    match (auth::fits(user, password).await?, user.email_verified) {
        (true, _) => Ok(Claims::Nothing),
        (false, false) => Ok(Claims::FromAnother),
        (false, true) => Err(Error::new(Code::InvalidCredentials)),
    }
}

/// The invitation that a token is for.
async fn invited(app: &App, token: &str) -> Result<(Membership, u64)> {
    let invalid = || Error::new(Code::InvitationInvalid);
    let token = InvitationToken::read(token).ok_or_else(invalid)?;
    let found = store::workspace::member(&app.table, token.workspace_id, token.user_id).await;
    let Versioned { body: membership, v } = found.map_err(|error| match error.code() {
        Code::NotFound => invalid(),
        _ => error,
    })?;
    let invitation = membership.invitation.as_ref().ok_or_else(invalid)?;
    let holds = token.fits(&app.keys().await?.link, invitation) && invitation.expires_at > app.now();
    if holds { Ok((membership, v)) } else { Err(invalid()) }
}

/// Has a link mailed to set a password anew. Whether somebody has that address is not told, neither by the answer nor by
/// its time: a worker looks.
///
/// # Errors
/// `validation_error`, `rate_limited`, or the queue does not take it.
pub async fn forgot_password(app: &App, email: &str) -> Result<Draft<()>> {
    let mut checks = Checks::new();
    let email = checks.email("email", email);
    checks.finish()?;
    app.count_call(RateClass::AuthEmail, &sha256_hex(&email)).await?;
    let task = Task::ResetPassword { email, request_id: work::request_id() };
    app.queue.send(QueueName::Deliver, vec![Outgoing::now(task.to_json()?)]).await?;
    Ok(Draft::done(()))
}

/// Makes the link and mails it, if somebody active has that address. One that was not invited yet accepts first.
///
/// # Errors
/// When the table or the mail server fails; the queue then gives the task again, and another link is made.
pub async fn mail_reset(app: &App, email: &str) -> Result<()> {
    if !is_email(email) {
        return Ok(());
    }
    let user = store::user::by_email(&app.table, email).await?;
    let active = |user: &User| user.status == UserStatus::Active && !user.password_hash.is_empty();
    let Some(user) = user.filter(active) else { return Ok(()) };
    let token = app.rng.text(RESET_CHARS);
    let mut unit = Unit::new();
    store::user::create_reset(&mut unit, &sha256_hex(&token), user.id, app.now() + RESET_LIFETIME)?;
    app.commit(unit).await?;
    let text = format!(
        "Somebody, most likely you, asked to set the password of this address anew.\n\n\
         Set it within an hour: {}/auth/reset#token={token}\n\n\
         If it was not you, do nothing: your password stays as it is.\n",
        app.config.public_base_url,
    );
    let subject = "Set your password anew".to_owned();
    let whom = user.id.text();
    app.mail(&whom, &Mail { to: user.email, subject, text, attachment: None }).await.map(drop)
}

/// Sets a password by a mailed link, which is used up, and ends all sessions; and all keys, if it is the first sign that the
/// address is the person's: whoever registered with it may be somebody else.
///
/// # Errors
/// `validation_error`, `reset.invalid`.
pub async fn reset_password(app: &App, token: &str, new: &Secret) -> Result<Draft<()>> {
    let mut checks = Checks::new();
    auth::check_password(&mut checks, "password", new);
    checks.finish()?;
    let hash = sha256_hex(token.trim());
    let user = store::user::reset(&app.table, &hash, app.now()).await?;
    let user = user.ok_or_else(|| Error::new(Code::ResetInvalid))?;
    let Versioned { body: mut user, v } = store::user::get_versioned(&app.table, user).await?;
    if user.status != UserStatus::Active {
        return Err(Error::new(Code::ResetInvalid));
    }
    user.password_hash = password::hash(&app.rng, new).await?;
    if !user.email_verified {
        verification::end_keys(app, &user).await?;
    }
    let mut unit = Unit::new();
    // The link came by mail to that address.
    verification::note(app, &mut unit, &mut user).await?;
    store::user::use_reset(&mut unit, &hash);
    store::user::replace(&mut unit, &user, v)?;
    store::session::delete_all(&app.table, &mut unit, user.id, None).await?;
    Ok(Draft::new(unit, ()))
}

/// Sets the caller's own password and ends their other sessions.
///
/// # Errors
/// `validation_error`, also when the current password is wrong: the session that asks holds on. `rate_limited`.
pub async fn change_password(app: &App, caller: &Caller, current: &Secret, new: &Secret) -> Result<Draft<()>> {
    let mut checks = Checks::new();
    auth::check_password(&mut checks, "new_password", new);
    checks.finish()?;
    let Versioned { body: mut user, v } = own(app, caller).await?;
    app.count_call(RateClass::AuthEmail, &sha256_hex(&user.email)).await?;
    if !auth::fits(&user, current).await? {
        return Err(Error::field("current_password", "wrong", "current_password is not your password"));
    }
    user.password_hash = password::hash(&app.rng, new).await?;
    user.updated_at = app.now();
    let mut unit = Unit::new();
    store::user::replace(&mut unit, &user, v)?;
    store::session::delete_all(&app.table, &mut unit, user.id, caller.sid.as_deref()).await?;
    Ok(Draft::new(unit, ()))
}

/// Changes the caller's own name.
///
/// # Errors
/// `validation_error`.
pub async fn rename(app: &App, caller: &Caller, name: &str) -> Result<Draft<User>> {
    let mut checks = Checks::new();
    let name = checks.name("name", name, 255);
    checks.finish()?;
    let Versioned { body: mut user, v } = own(app, caller).await?;
    (user.name, user.updated_at) = (name, app.now());
    let mut unit = Unit::new();
    store::user::replace(&mut unit, &user, v)?;
    Ok(Draft::new(unit, user))
}

async fn own(app: &App, caller: &Caller) -> Result<Versioned<User>> {
    store::user::get_versioned(&app.table, caller.user_id.ok_or_else(|| Error::new(Code::Forbidden))?).await
}
