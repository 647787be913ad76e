//! All tests, in one binary.

mod access;
mod contract;
mod dialect;
mod floors;
mod fuzz;
mod idempotency;
mod lambda;
mod studio;
mod survival;
