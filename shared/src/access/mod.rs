//! Who may do what: what a row declares ([`op`]), who calls ([`caller`]), and whether it may ([`policy`]). Pure.

pub mod caller;
pub mod op;
pub mod policy;
pub mod rate;

pub use caller::{Caller, Credential};
pub use op::{Acting, Audit, Floor, Idempotency, Op, PlanGate, Visibility};
pub use policy::decide;
pub use rate::{Rate, RateClass};
