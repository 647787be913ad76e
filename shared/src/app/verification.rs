//! Whether an e-mail address is shown to be its person's, and what that decides: the installation's own models answer
//! for an account whose owner has shown it, where `CHATIA_VERIFY_EMAIL` says so.

use super::deliver::Task;
use super::{App, Draft, admin};
use crate::access::{Caller, RateClass};
use crate::domain::api_key::KeyKind;
use crate::domain::usage::KeySource;
use crate::domain::user::UserStatus;
use crate::domain::verification::{self, VerificationToken};
use crate::domain::{BillingAccount, User};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, work};
use crate::ports::llm::OFFLINE;
use crate::ports::mail::Mail;
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::table::{Unit, Versioned};

/// The wish for a mail with the link. It goes out once the person is stored; who misses it asks for another one.
pub(super) fn asked(user: Id<User>) -> Result<(QueueName, Outgoing)> {
    let task = Task::VerifyEmail { user_id: user, request_id: work::request_id() };
    Ok((QueueName::Deliver, Outgoing::now(task.to_json()?)))
}

/// Has the link mailed to the caller once more. Links before hold on.
///
/// # Errors
/// `email.already_verified`, `rate_limited`, or the queue does not take it.
pub async fn send_again(app: &App, caller: &Caller) -> Result<Draft<String>> {
    let id = caller.user_id.ok_or_else(|| Error::new(Code::Forbidden))?;
    let user = store::user::get(&app.table, id).await?.ok_or_else(Error::not_found)?;
    if user.email_verified {
        return Err(Error::new(Code::EmailAlreadyVerified));
    }
    app.count_call(RateClass::VerificationMail, &sha256_hex(&user.email)).await?;
    let (queue, message) = asked(id)?;
    app.queue.send(queue, vec![message]).await?;
    Ok(Draft::done(user.email))
}

/// Mails the link, unless there is nothing to show any more.
///
/// # Errors
/// When the table or the mail server fails; the queue then gives the task again, and another link is made.
pub async fn mail(app: &App, user: Id<User>) -> Result<()> {
    let user = store::user::get(&app.table, user).await?;
    let waits = |user: &User| user.status == UserStatus::Active && !user.email_verified;
    let Some(user) = user.filter(waits) else { return Ok(()) };
    let token = verification::token(&app.keys().await?.link, &user, app.now() + verification::LIFETIME);
    let text = format!(
        "Somebody, most likely you, registered with this address.\n\n\
         Verify within seven days that it is yours: {}/auth/verify#token={token}\n\n\
         If it was not you, do nothing: the address is not verified then.\n",
        app.config.public_base_url,
    );
    let subject = "Verify your e-mail".to_owned();
    let whom = user.id.text();
    app.mail(&whom, &Mail { to: user.email, subject, text, attachment: None }).await.map(drop)
}

/// Takes a mailed link. Taken again it changes nothing.
///
/// # Errors
/// `verification.invalid`.
pub async fn redeem(app: &App, token: &str) -> Result<Draft<()>> {
    let invalid = || Error::new(Code::VerificationInvalid);
    let token = VerificationToken::read(token).ok_or_else(invalid)?;
    let found = store::user::get_versioned(&app.table, token.user_id).await;
    let Versioned { body: mut user, v } = found.map_err(|error| match error.code() {
        Code::NotFound => invalid(),
        _ => error,
    })?;
    if !token.fits(&app.keys().await?.link, &user, app.now()) || user.status != UserStatus::Active {
        return Err(invalid());
    }
    if user.email_verified {
        return Ok(Draft::done(()));
    }
    let mut unit = Unit::new();
    note(app, &mut unit, &mut user).await?;
    store::user::replace(&mut unit, &user, v)?;
    Ok(Draft::new(unit, ()))
}

/// Notes that an address is shown to be the person's: on them, which the caller writes, and on the account that they pay
/// with, if they have one, so that a turn reads it with what it reads anyway.
pub(super) async fn note(app: &App, unit: &mut Unit, user: &mut User) -> Result<()> {
    (user.email_verified, user.updated_at) = (true, app.now());
    match store::billing::get_versioned(&app.table, user.billing_account_id).await {
        Ok(Versioned { body: mut account, v }) if account.awaits_verification && account.owner_user_id == user.id => {
            (account.awaits_verification, account.updated_at) = (false, app.now());
            store::billing::replace(unit, &account, v)
        }
        Err(error) if error.code() != Code::NotFound => Err(error),
        // Known already, or a client, who pays for nothing.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Ends the keys of a workspace whose owner registered with an address that somebody else has shown to be theirs now. Each
/// by itself, before the rest, so that a call that broke off is done again.
pub(super) async fn end_keys(app: &App, user: &User) -> Result<()> {
    let Some(home) = admin::home(app, user).await? else { return Ok(()) };
    for key in store::api_key::list(&app.table, home.id, KeyKind::Developer).await? {
        let mut unit = Unit::new();
        store::api_key::delete(&mut unit, &key);
        match app.commit(unit).await.map_err(Error::from) {
            // Revoked meanwhile.
            Err(error) if error.code() == Code::NotFound => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Whether the installation's models wait for the owner of an account to verify their address.
#[must_use]
pub fn is_awaited(app: &App, account: &BillingAccount) -> bool {
    app.config.verify_email && account.awaits_verification
}

/// Whether an owner is mailed what happens at their agents. Where addresses are verified, one that is not may be anybody's,
/// who has nothing to do with what visitors write there.
pub(super) async fn may_be_told(app: &App, owner: &User) -> Result<bool> {
    if owner.email_verified || !app.config.verify_email {
        return Ok(true);
    }
    let account = store::billing::get(&app.table, owner.billing_account_id).await?;
    Ok(!is_awaited(app, &account))
}

/// Makes sure that a model may be asked at the cost of an account: not while it is suspended, and one of the installation's
/// only if its owner's address is known to be theirs. The offline model costs nobody anything.
///
/// # Errors
/// `forbidden` while the account is suspended, `email.not_verified`.
pub fn ensure_may_ask(app: &App, account: &BillingAccount, provider: &str, key: KeySource) -> Result<()> {
    if account.is_suspended {
        return Err(Error::with_message(Code::Forbidden, "The account is suspended."));
    }
    let is_ours = key == KeySource::Managed && provider != OFFLINE;
    if is_ours && is_awaited(app, account) {
        return Err(Error::new(Code::EmailNotVerified));
    }
    Ok(())
}
