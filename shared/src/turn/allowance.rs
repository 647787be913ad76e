//! The gate of a turn: one message of the plan's, taken by a plain conditional counter and given back if no reply comes
//! of it.

use super::load::Scene;
use crate::app::App;
use crate::domain::billing::PeriodKey;
use crate::domain::plan::{MicroDollars, Period};
use crate::kernel::{Code, Error, Result};
use crate::store;

/// A message that was taken.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    /// The period that it was taken from.
    pub(super) period: PeriodKey,
    /// What it costs beyond the included ones; 0 when it is included.
    pub(super) overage: MicroDollars,
    /// Trial messages left, on a trial.
    pub(super) free_remaining: Option<u64>,
}

impl Charge {
    /// Whether the plan's included messages cover it.
    pub(super) const fn is_included(&self) -> bool {
        self.overage == 0
    }
}

/// Takes one message: of the included ones, else beyond them where the plan sells that and the cap allows it.
pub(super) async fn take(app: &App, scene: &Scene) -> Result<Charge> {
    let (account, plan) = (&scene.account, scene.account.effective_plan());
    let period = account.period(app.now());
    if let Some(allowance) =
        store::billing::take_included(&app.table, account.id, &period, plan.included_messages).await?
    {
        let left = plan.included_messages.saturating_sub(allowance.count());
        let free_remaining = (plan.period == Period::Once).then_some(left);
        return Ok(Charge { period, overage: 0, free_remaining });
    }
    if !plan.overage {
        return Err(Error::new(Code::MessageLimitReached));
    }
    let cost = scene.key_source().unit_cost();
    let taken = store::billing::take_overage(&app.table, account.id, &period, cost, account.overage_cap()).await?;
    taken
        .map(|_| Charge { period, overage: cost, free_remaining: None })
        .ok_or_else(|| Error::new(Code::SpendCapReached))
}

/// Gives a message back. A failure is logged and not passed on: the visitor's answer does not depend on it, and the
/// counter is only the gate, not the bill.
pub(super) async fn give_back(app: &App, scene: &Scene, charge: &Charge) {
    let given = store::billing::give_back(&app.table, scene.account.id, &charge.period, charge.overage).await;
    if let Err(error) = given {
        tracing::warn!(account = %scene.account.id.text(), %error, "an unused message was not given back");
    }
}
