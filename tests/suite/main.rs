//! All tests, in one binary.

mod access;
mod contract;
mod costs;
mod covered;
mod dialect;
mod events;
mod floors;
mod fuzz;
mod gateway;
mod idempotency;
mod lambda;
mod skill;
mod studio;
mod survival;
mod uses;
