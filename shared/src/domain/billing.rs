//! Who pays, for what plan, and how many messages that allows.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::{MicroDollars, Period, Plan, PlanKey};
use super::{Conversation, User, Workspace};
use crate::kernel::{Id, Time};

/// The paying account. It belongs to the owner, and all workspaces of that owner share it: many workspaces do not
/// multiply the trial.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BillingAccount {
    /// Identity; also the customer's id at Polar (`external_customer_id`).
    pub id: Id<BillingAccount>,
    /// Who pays.
    pub owner_user_id: Id<User>,
    /// The plan that is in force.
    pub plan: PlanKey,
    /// How the subscription stands.
    #[serde(default)]
    pub status: SubscriptionStatus,
    /// Whether a card is saved.
    #[serde(default)]
    pub has_payment_method: bool,
    /// Whether usage may be billed without a plan.
    #[serde(default)]
    pub payg_enabled: bool,
    /// The most that overage may cost in a period, in cents; none without one.
    #[serde(default)]
    pub spend_cap_cents: Option<u32>,
    /// Seats beyond the plan's.
    #[serde(default)]
    pub extra_seats: u32,
    /// When it was made.
    pub created_at: Time,
    /// The last change.
    pub updated_at: Time,
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the providers' own words")]
pub enum SubscriptionStatus {
    #[default]
    None,
    Trialing,
    Active,
    PastDue,
    Canceled,
}

/// The period that an allowance counts in, such as `TRIAL` or `202611`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeriodKey(pub String);

impl PeriodKey {
    /// The trial, which is one period for ever.
    #[must_use]
    pub fn trial() -> Self {
        Self("TRIAL".into())
    }

    /// A calendar month, in UTC.
    #[must_use]
    pub fn month(at: Time) -> Self {
        Self(at.format("%Y%m"))
    }
}

impl BillingAccount {
    /// A new account on the free plan.
    #[must_use]
    pub fn new(id: Id<BillingAccount>, owner_user_id: Id<User>, now: Time) -> Self {
        Self {
            id,
            owner_user_id,
            plan: PlanKey::Free,
            status: SubscriptionStatus::None,
            has_payment_method: false,
            payg_enabled: false,
            spend_cap_cents: None,
            extra_seats: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// The plan that counts: the booked one, or pay-as-you-go for a free account with a card that allows it.
    #[must_use]
    pub const fn effective_plan(&self) -> &'static Plan {
        match self.plan {
            PlanKey::Free if self.payg_enabled && self.has_payment_method => PlanKey::Payg.plan(),
            PlanKey::Free | PlanKey::Payg | PlanKey::Starter | PlanKey::Pro | PlanKey::Studio | PlanKey::Agency => {
                self.plan.plan()
            }
        }
    }

    /// The period that a message counts in.
    #[must_use]
    pub fn period(&self, now: Time) -> PeriodKey {
        match self.effective_plan().period {
            Period::Once => PeriodKey::trial(),
            Period::Month => PeriodKey::month(now),
        }
    }

    /// The most that overage may cost in the period; `None` without a cap.
    #[must_use]
    pub fn overage_cap(&self) -> Option<MicroDollars> {
        self.spend_cap_cents.map(|cents| i64::from(cents) * 10_000)
    }

    /// Seats in all.
    #[must_use]
    pub fn seats(&self) -> u64 {
        self.effective_plan().seats + u64::from(self.extra_seats)
    }
}

/// A message that a running turn has taken of an allowance. It lies in the allowance's own item, so that taking and
/// giving back happen once however often they are sent, and so that a turn that died is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose: the id of the turn, and of the usage event if it comes to that.
    pub turn: Uuid,
    /// When the turn's lease ends, in milliseconds since 1970.
    pub until: i64,
    /// Where the turn runs.
    pub workspace_id: Id<Workspace>,
    /// In which conversation.
    pub conversation_id: Id<Conversation>,
    /// What the message costs beyond the included ones; 0 when it is included.
    #[serde(default)]
    pub overage: MicroDollars,
}

impl Hold {
    /// How long after the end of its lease a turn is taken for dead: other machines' clocks go differently.
    pub const GRACE: Duration = Duration::from_secs(10);

    /// Whether its turn must have ended.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        (now - Self::GRACE).millis() > self.until
    }
}

/// What was used of an allowance in one period: the gate, not the bill. Usage events are the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allowance {
    /// Messages answered or being answered.
    #[serde(default)]
    pub used: i64,
    /// What messages beyond the included ones cost.
    #[serde(default)]
    pub overage: MicroDollars,
}

impl Allowance {
    /// Messages used, for people.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.used).unwrap_or(0)
    }
}
