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
    /// The plan that is booked.
    pub plan: PlanKey,
    /// The plan that staff gave, whatever is booked.
    #[serde(default)]
    pub granted_plan: Option<PlanKey>,
    /// How the subscription stands.
    #[serde(default)]
    pub status: SubscriptionStatus,
    /// Whether its owner is suspended: then no agent of theirs answers.
    #[serde(default)]
    pub is_suspended: bool,
    /// Whether its owner has yet to show that their address is theirs: see `app::verification`. Accounts of owners who
    /// could not show it when they registered wait for nothing.
    #[serde(default)]
    pub awaits_verification: bool,
    /// Whether a card is saved.
    #[serde(default)]
    pub has_payment_method: bool,
    /// When the provider told of that: what is older changes nothing.
    #[serde(default)]
    pub payment_method_told_at: Option<Time>,
    /// When the provider last told of everything that is live: what was true before that is not any more.
    #[serde(default)]
    pub all_told_at: Option<Time>,
    /// The customer, by the provider's own id.
    #[serde(default)]
    pub customer_id: Option<String>,
    /// When the provider told of that: what is older changes nothing.
    #[serde(default)]
    pub customer_told_at: Option<Time>,
    /// The subscription that the plan comes from, by the provider's id.
    #[serde(default)]
    pub subscription_id: Option<String>,
    /// When what is paid for ends or is paid for again.
    #[serde(default)]
    pub paid_until: Option<Time>,
    /// Whether it ends then.
    #[serde(default)]
    pub cancel_at_period_end: bool,
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

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// A plan of the catalogue.
    Plan(PlanKey),
    /// Seats beyond the plan's.
    Seat,
}

impl Product {
    /// The plan, if it is one.
    #[must_use]
    pub const fn plan(self) -> Option<PlanKey> {
        match self {
            Self::Plan(plan) => Some(plan),
            Self::Seat => None,
        }
    }
}

/// A subscription as its provider last told of it. What is told is always the whole of it, with the moment that it was
/// true at; so the newest counts, in whatever order and however often it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The provider's id.
    pub id: String,
    /// Whose.
    pub billing_account_id: Id<BillingAccount>,
    /// For what.
    pub product: Product,
    /// How it stands.
    pub status: SubscriptionStatus,
    /// How many, for seats.
    #[serde(default)]
    pub seats: u32,
    /// When what is paid for ends or is paid for again.
    #[serde(default)]
    pub period_end: Option<Time>,
    /// Whether it ends then.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// When this was true.
    pub told_at: Time,
}

impl Subscription {
    /// Whether it gives what it is for, as far as it is told of by itself.
    #[must_use]
    const fn is_live(&self) -> bool {
        match self.status {
            SubscriptionStatus::Trialing | SubscriptionStatus::Active | SubscriptionStatus::PastDue => true,
            SubscriptionStatus::None | SubscriptionStatus::Canceled => false,
        }
    }

    /// Whether this is news beside what is known. At the same moment the one that is nearer to the end counts.
    #[must_use]
    pub fn is_newer_than(&self, known: &Self) -> bool {
        let order = |one: &Self| (one.told_at, one.status as u8, one.cancel_at_period_end, one.seats, one.period_end);
        order(self) > order(known)
    }
}

/// How a subscription stands, from its beginning to its end.
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
            granted_plan: None,
            status: SubscriptionStatus::None,
            is_suspended: false,
            awaits_verification: false,
            has_payment_method: false,
            payment_method_told_at: None,
            all_told_at: None,
            customer_id: None,
            customer_told_at: None,
            subscription_id: None,
            paid_until: None,
            cancel_at_period_end: false,
            payg_enabled: false,
            spend_cap_cents: None,
            extra_seats: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// The plan that counts: what staff gave, else the booked one, or pay-as-you-go for a free account with a card that
    /// allows it.
    #[must_use]
    pub const fn effective_plan(&self) -> &'static Plan {
        if let Some(granted) = self.granted_plan {
            return granted.plan();
        }
        match self.plan {
            PlanKey::Free if self.payg_enabled && self.has_payment_method => PlanKey::Payg.plan(),
            PlanKey::Free | PlanKey::Payg | PlanKey::Starter | PlanKey::Pro | PlanKey::Studio | PlanKey::Agency => {
                self.plan.plan()
            }
        }
    }

    /// Whether messages beyond the included ones are sold: not while a payment is due.
    #[must_use]
    pub fn sells_overage(&self) -> bool {
        self.effective_plan().overage && (self.granted_plan.is_some() || self.status != SubscriptionStatus::PastDue)
    }

    /// Whether what a subscription is for may be used.
    #[must_use]
    pub fn has(&self, one: &Subscription) -> bool {
        one.is_live() && self.all_told_at.is_none_or(|at| one.told_at >= at)
    }

    /// Takes over what all subscriptions say together, as they are known now.
    pub fn follow(&mut self, subscriptions: &[Subscription], now: Time) {
        let account = self.clone();
        let live = || subscriptions.iter().filter(|one| account.has(one));
        let best = live().filter_map(|one| Some((one.product.plan()?, one))).max_by_key(|(plan, one)| {
            // Of two with the same plan always the same one, in whatever order they are known.
            (*plan as usize, one.told_at, one.id.clone())
        });
        self.extra_seats = live().filter(|one| one.product == Product::Seat).map(|one| one.seats).sum();
        self.plan = best.as_ref().map_or(PlanKey::Free, |(plan, _)| *plan);
        // One that was live is not, unless it never began.
        let ended = || subscriptions.iter().any(|one| one.status != SubscriptionStatus::None);
        self.status = match &best {
            Some((_, one)) => one.status,
            None if ended() => SubscriptionStatus::Canceled,
            None => SubscriptionStatus::None,
        };
        let best = best.map(|(_, one)| one);
        self.subscription_id = best.map(|one| one.id.clone());
        self.paid_until = best.and_then(|one| one.period_end);
        self.cancel_at_period_end = best.is_some_and(|one| one.cancel_at_period_end);
        self.updated_at = now;
    }

    /// Takes over whether a card is saved, unless something newer is known.
    pub fn note_payment_method(&mut self, saved: bool, told_at: Time) {
        // Of two at the same moment the one that says no counts, in whatever order they come: the customer was deleted.
        let known = self.payment_method_told_at.map(|at| (at, !self.has_payment_method));
        if known.is_none_or(|known| known < (told_at, !saved)) {
            (self.has_payment_method, self.payment_method_told_at) = (saved, Some(told_at));
        }
    }

    /// Takes over the customer's id, none when they were deleted, unless something newer is known.
    pub fn note_customer(&mut self, id: Option<String>, told_at: Time) {
        // Of two at the same moment always the same one counts, in whatever order they come, and a deletion before all.
        let order = |at: Time, id: &Option<String>| (at, id.is_none(), id.clone());
        let known = self.customer_told_at.map(|at| order(at, &self.customer_id));
        if known.is_none_or(|known| known < order(told_at, &id)) {
            (self.customer_id, self.customer_told_at) = (id, Some(told_at));
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
    /// Whether it is answered with the customer's own model key.
    #[serde(default)]
    pub byok: bool,
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

/// That so much of an allowance is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Of what.
    pub of: ReachedOf,
    /// 80 or 100.
    pub percent: u8,
    /// What is used: messages, or micro-dollars.
    pub used: i64,
    /// What there is.
    pub limit: i64,
}

/// What an owner is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReachedOf {
    /// The included messages.
    Messages,
    /// The spend cap.
    SpendCap,
}

impl ReachedOf {
    /// As stored.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::SpendCap => "spend_cap",
        }
    }
}

impl Reached {
    /// What one more message, which took `step` of the limit and left `used`, reached.
    #[must_use]
    pub fn by(of: ReachedOf, used: i64, limit: i64, step: i64) -> Option<Self> {
        if limit <= 0 || step <= 0 {
            return None;
        }
        let before = used - step;
        // The last one that fits reaches the end, also where something too small for another one is left.
        let is_last = limit - used < step && limit - before >= step;
        let passes_80 = used * 100 >= limit * 80 && before * 100 < limit * 80;
        let percent = if is_last { 100 } else { u8::from(passes_80) * 80 };
        (percent > 0).then_some(Self { of, percent, used, limit })
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
    /// Those of the used messages that are answered with the customer's own key; what was taken before they were told
    /// apart counts as ours.
    #[serde(default)]
    pub byok: i64,
}

impl Allowance {
    /// Messages used, for people.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.used).unwrap_or(0)
    }

    /// Those of them with the customer's own key.
    #[must_use]
    pub fn count_byok(&self) -> u64 {
        u64::try_from(self.byok).unwrap_or(0).min(self.count())
    }

    /// Those of them with our key.
    #[must_use]
    pub fn count_managed(&self) -> u64 {
        self.count() - self.count_byok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(limit: i64, step: i64) -> Vec<(i64, u8)> {
        let each = (1..=limit / step).map(|number| number * step);
        each.filter_map(|used| Reached::by(ReachedOf::Messages, used, limit, step).map(|it| (used, it.percent)))
            .collect()
    }

    #[test]
    fn each_mark_is_reached_by_exactly_one_message() {
        assert_eq!(reached(50, 1), [(40, 80), (50, 100)]);
        assert_eq!(reached(1_000, 1), [(800, 80), (1_000, 100)]);
        // A cap of 0.95 dollars at one cent a message; one that no multiple of the price fits; one of a single message.
        assert_eq!(reached(950_000, 10_000), [(760_000, 80), (950_000, 100)]);
        assert_eq!(reached(25_000, 10_000), [(20_000, 100)]);
        assert_eq!(reached(1, 1), [(1, 100)]);
        assert!(Reached::by(ReachedOf::Messages, 1, 0, 1).is_none());
    }

    fn subscription(id: &str, product: Product, status: SubscriptionStatus, told_at: i64) -> Subscription {
        Subscription {
            id: id.into(),
            billing_account_id: Id::from_int(1).unwrap(),
            product,
            status,
            seats: 2,
            period_end: None,
            cancel_at_period_end: false,
            told_at: Time::from_millis(told_at),
        }
    }

    #[test]
    fn the_largest_live_plan_counts_and_seats_are_added() {
        use SubscriptionStatus::{Active, Canceled, PastDue};
        let now = Time::from_millis(9);
        let mut account = BillingAccount::new(Id::from_int(1).unwrap(), Id::from_int(2).unwrap(), now);
        let payg = subscription("a", Product::Plan(PlanKey::Payg), Active, 1);
        let pro = subscription("b", Product::Plan(PlanKey::Pro), PastDue, 2);
        let seats = subscription("c", Product::Seat, Active, 3);
        account.follow(&[payg.clone(), pro.clone(), seats.clone()], now);
        assert_eq!((account.plan, account.status, account.seats()), (PlanKey::Pro, PastDue, 12));
        assert!(!account.sells_overage(), "nothing is sold on credit while a payment is due");
        account.follow(&[Subscription { status: Canceled, ..pro }, payg, seats.clone()], now);
        assert_eq!((account.plan, account.status), (PlanKey::Payg, Active));
        account.follow(&[Subscription { status: Canceled, ..seats }], now);
        assert_eq!((account.plan, account.status, account.extra_seats), (PlanKey::Free, Canceled, 0));
        let late = subscription("d", Product::Plan(PlanKey::Studio), Active, 5);
        account.all_told_at = Some(Time::from_millis(6));
        account.follow(&[late], now);
        assert_eq!(account.plan, PlanKey::Free, "it was not among those that were live later");
        account.granted_plan = Some(PlanKey::Agency);
        assert_eq!(account.effective_plan().key, PlanKey::Agency);
    }
}
