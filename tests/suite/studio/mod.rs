//! Studio, through its router.

mod chat;
mod clock;
mod stats;
mod turn;
mod usage;
mod webhooks;
