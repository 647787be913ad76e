//! Counting the mail that a workspace has us send to people who did not ask us for any.

use std::sync::atomic::{AtomicBool, Ordering};

use super::App;
use crate::access::{Caller, RateClass};
use crate::domain::plan::PlanKey;
use crate::kernel::{Code, Result};
use crate::store;

/// Whether a request has counted its mail: a command that meets another one is run again, and mails once.
#[derive(Debug, Default)]
pub struct Counted(AtomicBool);

/// A limit, whom it counts, and what somebody who meets it is told.
pub(super) type MailLimit = (RateClass, String, &'static str);

impl Counted {
    pub(super) fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts the mail of a request that has not counted it yet.
    pub(super) async fn count(&self, app: &App, limits: [MailLimit; 2]) -> Result<()> {
        for (class, subject, told) in limits {
            app.count_call(class, &subject).await.map_err(|error| match error.code() {
                Code::RateLimited => error.saying(told),
                _ => error,
            })?;
        }
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether the caller's workspace may write to many in a day: anybody can register, and must not come to write to the world
/// by it. Its owner has shown that their address is theirs, and pays.
pub(super) async fn may_mail_many(app: &App, caller: &Caller) -> Result<bool> {
    let (owner, account) = tokio::try_join!(
        store::user::get(&app.table, caller.owner_user_id),
        store::billing::get(&app.table, caller.billing_account_id)
    )?;
    let is_verified = owner.is_some_and(|owner| owner.email_verified);
    Ok(is_verified && account.effective_plan().key != PlanKey::Free)
}
