//! Studio, through its router.

mod chat;
mod clock;
mod turn;
mod usage;
mod webhooks;
