//! What turns hold of an allowance. A hold ends with its turn; that of a turn that died is found by the clock, or by the
//! next message that finds nothing left.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::App;
use crate::domain::billing::{Hold, PeriodKey, Reached};
use crate::domain::{BillingAccount, Workspace};
use crate::events::emit;
use crate::kernel::{Error, Id, Result, Time};
use crate::store;
use crate::store::conversation::turn_is;
use crate::store::timer::Timer;
use crate::table::{Refusal, Unit, Update};

/// How often the clock looks at an account on which turns ran.
const SWEEP: Duration = Duration::from_secs(5 * 60);
/// How long after the end of such a time a turn that began in it has surely ended.
const LAG: Duration = Duration::from_secs(2 * 60);
/// How many accounts, and settled turns of one, a process remembers.
const REMEMBERED: usize = 10_000;
const SETTLED: usize = 20;

/// An account and one of its periods.
type Place = (Id<BillingAccount>, String);

/// What this process remembers of allowances: savings only, which a crash may forget.
#[derive(Debug, Default)]
pub struct Holds {
    /// Turns that came to their end and whose holds go with the account's next message.
    settled: Mutex<HashMap<Place, Vec<Uuid>>>,
    /// When the clock looks at an account anyway.
    swept: Mutex<HashMap<Id<BillingAccount>, Time>>,
}

impl Holds {
    /// Notes that a turn came to its end.
    pub fn note_settled(&self, account: Id<BillingAccount>, period: &PeriodKey, turn: Uuid) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.len() < REMEMBERED {
            let of_account = settled.entry((account, period.0.clone())).or_default();
            if of_account.len() < SETTLED {
                of_account.push(turn);
            }
        }
    }

    /// Takes the turns whose holds may go.
    #[must_use]
    pub fn take_settled(&self, account: Id<BillingAccount>, period: &PeriodKey) -> Vec<Uuid> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.remove(&(account, period.0.clone())).unwrap_or_default()
    }
}

/// Sees to it that the clock looks at the account after the turns that begin now. One write in five minutes for each
/// process and account, before anything is taken, so that no hold is ever forgotten.
///
/// # Errors
/// When the table cannot be written.
pub async fn watch(app: &App, account: Id<BillingAccount>) -> Result<()> {
    let length = i64::try_from(SWEEP.as_millis()).unwrap_or(i64::MAX);
    let due = Time::from_millis((app.now().millis().div_euclid(length) + 1) * length) + LAG;
    let is_known = |swept: &HashMap<_, Time>| swept.get(&account).is_some_and(|known| *known >= due);
    if is_known(&app.holds().swept.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(());
    }
    let mut unit = Unit::new();
    store::timer::set(&mut unit, &Timer::sweep_holds(account, due))?;
    app.commit(unit).await?;
    let mut swept = app.holds().swept.lock().unwrap_or_else(PoisonError::into_inner);
    if swept.len() >= REMEMBERED {
        swept.clear();
    }
    swept.insert(account, due);
    Ok(())
}

/// Tells the owner how much of an allowance is used, once in a period. A failure is logged and not passed on: the visitor's
/// answer does not depend on it.
pub async fn alert(
    app: &App,
    workspace: Id<Workspace>,
    (account, period): (Id<BillingAccount>, &PeriodKey),
    reached: &Reached,
) {
    let draft = || {
        let mut unit = Unit::new();
        let key = store::keys::alert(account, period, reached.of.text(), reached.percent);
        store::billing::alert(&mut unit, key, app.now())?;
        emit(&mut unit, &app.events().usage_reached(workspace, reached))?;
        Ok::<_, Error>(unit)
    };
    let told = match draft() {
        Ok(unit) => app.commit(unit).await,
        Err(error) => Err(Refusal::Error(error)),
    };
    if let Err(Refusal::Error(error)) = told {
        tracing::warn!(account = %account.text(), percent = reached.percent, %error, "an owner is not told of usage");
    }
}

/// Looks at everything that turns hold of an account, and gives back what died. Says how much that was.
///
/// # Errors
/// When the table cannot be reached.
pub async fn sweep(app: &App, account: Id<BillingAccount>) -> Result<usize> {
    let now = app.now();
    let mut given_back = 0;
    // A turn that began before midnight counts in the month that ended with it.
    let mut periods = vec![PeriodKey::trial(), PeriodKey::month(now), PeriodKey::month(now - SWEEP - LAG)];
    periods.dedup();
    for period in periods {
        let holds = store::billing::holds(&app.table, account, &period).await?;
        given_back += end(app, account, &period, &holds).await?;
    }
    Ok(given_back)
}

/// Ends those of the holds whose turns must have ended. Says how many messages were given back.
///
/// # Errors
/// When the table cannot be reached.
pub async fn end(app: &App, account: Id<BillingAccount>, period: &PeriodKey, holds: &[Hold]) -> Result<usize> {
    let mut given_back = 0;
    for hold in holds.iter().filter(|hold| hold.is_over(app.now())) {
        // First the lease, so that nothing can come of the turn any more; only then is looked what did.
        let head = store::keys::conversation(hold.workspace_id, hold.conversation_id);
        let released = app.table.update(Update::new(head).remove("turn"), Some(turn_is(hold.turn)), Error::not_found());
        if let Err(Refusal::Error(error)) = released.await {
            return Err(error);
        }
        if store::usage::exists(&app.table, account, hold.turn, (hold.until, app.now())).await? {
            store::billing::settle(&app.table, account, period, hold.turn).await?;
        } else if store::billing::give_back(&app.table, account, period, hold).await? {
            tracing::warn!(account = %account.text(), turn = %hold.turn, "a turn died; its message was given back");
            given_back += 1;
        }
    }
    Ok(given_back)
}
