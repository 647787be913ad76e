//! The one plan catalogue, as data. Code asks for a limit or a price, never for a plan by name.
//!
//! Figures are the studio contract's ("Pricing model"); other surfaces' tier names map onto these rows in
//! `docs/DOMAIN.md`.

use serde::{Deserialize, Serialize};

/// Micro-dollars: a millionth of a dollar. 0.4 cent is 4,000 of them, exactly.
pub type MicroDollars = i64;

/// Which row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the catalogue says what each is")]
pub enum PlanKey {
    Free,
    Payg,
    Starter,
    Pro,
    Studio,
    Agency,
}

/// One plan.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Its key.
    pub key: PlanKey,
    /// What people read.
    pub name: &'static str,
    /// Dollars a month; `None` for metered only.
    pub price_usd: Option<u32>,
    /// Messages included in a period.
    pub included_messages: u64,
    /// How often the included messages start anew.
    pub period: Period,
    /// Whether messages beyond the included ones are sold.
    pub overage: bool,
    /// Published agents.
    pub agents: u64,
    /// People.
    pub seats: u64,
}

/// How often an allowance starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Never: a trial.
    Once,
    /// Each calendar month, in UTC.
    Month,
}

/// A message answered with our own model key: $0.010.
pub const MANAGED_MESSAGE: MicroDollars = 10_000;
/// A message answered with the customer's key: $0.004.
pub const BYOK_MESSAGE: MicroDollars = 4_000;
/// One more seat on a paid plan, dollars a month.
pub const EXTRA_SEAT_USD: u32 = 5;

const fn plan(
    key: PlanKey,
    name: &'static str,
    price_usd: Option<u32>,
    messages: u64,
    agents: u64,
    seats: u64,
) -> Plan {
    let (period, overage) = match key {
        PlanKey::Free => (Period::Once, false),
        PlanKey::Payg | PlanKey::Starter | PlanKey::Pro | PlanKey::Studio | PlanKey::Agency => (Period::Month, true),
    };
    Plan { key, name, price_usd, included_messages: messages, period, overage, agents, seats }
}

/// Every plan, smallest first.
pub const CATALOGUE: [Plan; 6] = [
    plan(PlanKey::Free, "Free", Some(0), 50, 1, 3),
    plan(PlanKey::Payg, "Pay as you go", None, 0, 2, 3),
    plan(PlanKey::Starter, "Starter", Some(5), 1_000, 2, 3),
    plan(PlanKey::Pro, "Pro", Some(12), 5_000, 4, 10),
    plan(PlanKey::Studio, "Studio", Some(29), 20_000, 6, 25),
    plan(PlanKey::Agency, "Agency", Some(59), 60_000, 15, 50),
];

impl Plan {
    /// Its key as callers write it.
    #[must_use]
    pub const fn slug(&self) -> &'static str {
        match self.key {
            PlanKey::Free => "free",
            PlanKey::Payg => "payg",
            PlanKey::Starter => "starter",
            PlanKey::Pro => "pro",
            PlanKey::Studio => "studio",
            PlanKey::Agency => "agency",
        }
    }
}

impl PlanKey {
    /// The plan.
    #[must_use]
    pub const fn plan(self) -> &'static Plan {
        &CATALOGUE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_finds_its_own_row() {
        for row in &CATALOGUE {
            assert_eq!(row.key.plan().name, row.name);
            assert_eq!(serde_json::to_value(row.key).unwrap(), row.slug());
        }
    }
}
