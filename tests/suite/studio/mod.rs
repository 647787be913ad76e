//! Studio, through its router.

mod admin;
mod agents;
mod auth;
mod billing;
mod chat;
mod clock;
mod deliveries;
mod developers;
mod egress;
mod endpoints;
mod inbox;
mod injection;
mod mail;
mod models;
mod outbox;
mod publishing;
mod reconcile;
mod refusals;
mod replays;
mod rollups;
mod site;
mod stats;
mod stream;
mod turn;
mod usage;
mod webhooks;
