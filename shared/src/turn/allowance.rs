//! The gate of a turn: one message of the plan's, taken by a plain conditional counter and given back if no reply comes
//! of it. What is taken is held under the turn's id, so that taking and giving back each happen once, and so that the
//! message of a turn that dies is found and given back (see `app::allowance`).

use super::load::Scene;
use crate::app::{App, allowance};
use crate::domain::billing::{Hold, PeriodKey, Reached, ReachedOf};
use crate::domain::conversation::Turn;
use crate::domain::plan::{MicroDollars, Period};
use crate::domain::usage::KeySource;
use crate::domain::{BillingAccount, Conversation};
use crate::kernel::{Code, Error, Id, Result};
use crate::store;
use crate::store::billing::Taken;

/// A message that was taken.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    /// The period that it was taken from.
    pub(super) period: PeriodKey,
    /// The turn that holds it.
    pub(super) hold: Hold,
    /// Trial messages left, on a trial.
    pub(super) free_remaining: Option<u64>,
}

impl Charge {
    /// Whether the plan's included messages cover it.
    pub(super) const fn is_included(&self) -> bool {
        self.hold.overage == 0
    }
}

/// Takes one message for a turn: of the included ones, else beyond them where the plan sells that and the cap allows it.
pub(super) async fn take(app: &App, scene: &Scene, lease: &Turn, conversation: Id<Conversation>) -> Result<Charge> {
    let period = scene.account.period(app.now());
    let place = Place { app, account: &scene.account, period: &period };
    let hold = Hold {
        turn: lease.id,
        until: lease.until,
        workspace_id: scene.snapshot.workspace_id,
        conversation_id: conversation,
        overage: 0,
        byok: scene.key_source() == KeySource::Byok,
    };
    let overage = scene.key_source().unit_cost();
    match place.take(hold.clone(), overage).await {
        // Some of it may be held by turns that died.
        Err(Refused { error, holds }) if place.end(&holds).await? > 0 => {
            tracing::info!(account = %scene.account.id.text(), %error, "taken after all");
            place.take(hold, overage).await.map_err(|refused| refused.error)
        }
        taken => taken.map_err(|refused| refused.error),
    }
}

struct Place<'a> {
    app: &'a App,
    account: &'a BillingAccount,
    period: &'a PeriodKey,
}

/// Why nothing was taken, and who holds what there is.
struct Refused {
    error: Error,
    holds: Vec<Hold>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, holds: Vec::new() }
    }
}

impl Place<'_> {
    async fn take(&self, hold: Hold, overage: MicroDollars) -> Result<Charge, Refused> {
        let (app, plan, place) = (self.app, self.account.effective_plan(), (self.account.id, self.period));
        let settled = app.holds().take_settled(self.account.id, self.period);
        let table = &app.table;
        let taken = store::billing::take_included(table, place, plan.included_messages, &hold, &settled).await?;
        let holds = match taken {
            Taken::Yes(allowance) => {
                let left = plan.included_messages.saturating_sub(allowance.count());
                let free_remaining = (plan.period == Period::Once).then_some(left);
                let limit = i64::try_from(plan.included_messages).unwrap_or(i64::MAX);
                self.alert(&hold, Reached::by(ReachedOf::Messages, allowance.used, limit, 1)).await;
                return Ok(Charge { period: self.period.clone(), hold, free_remaining });
            }
            Taken::No(holds) => holds,
        };
        if !self.account.sells_overage() {
            return Err(Refused { error: Error::new(Code::MessageLimitReached), holds });
        }
        let hold = Hold { overage, ..hold };
        let cap = self.account.overage_cap();
        match store::billing::take_overage(table, place, cap, &hold, &settled).await? {
            Taken::Yes(allowance) => {
                let reached = cap.and_then(|cap| Reached::by(ReachedOf::SpendCap, allowance.overage, cap, overage));
                self.alert(&hold, reached).await;
                Ok(Charge { period: self.period.clone(), hold, free_remaining: None })
            }
            Taken::No(holds) => Err(Refused { error: Error::new(Code::SpendCapReached), holds }),
        }
    }

    async fn alert(&self, hold: &Hold, reached: Option<Reached>) {
        if let Some(reached) = reached {
            let place = (self.account.id, self.period);
            allowance::alert(self.app, hold.workspace_id, place, &reached).await;
        }
    }

    async fn end(&self, holds: &[Hold]) -> Result<usize> {
        allowance::end(self.app, self.account.id, self.period, holds).await
    }
}

/// Gives a message back. A failure is logged and not passed on: the visitor's answer does not depend on it, and the
/// clock finds what is held by nobody.
pub(super) async fn give_back(app: &App, scene: &Scene, charge: &Charge) {
    let Charge { period, hold, .. } = charge;
    let given = store::billing::give_back(&app.table, scene.account.id, period, hold).await;
    if let Err(error) = given {
        tracing::warn!(account = %scene.account.id.text(), %error, "an unused message is left to the clock");
    }
}
