//! What lies where in the table, and the access patterns of each noun. Every function takes the tenant first; keys are
//! built in [`keys`] only.

pub mod agent;
pub mod api_key;
pub mod appointment;
pub mod audit;
pub mod billing;
pub mod builder;
pub mod contact;
pub mod conversation;
pub mod delivery;
pub mod idempotency;
pub mod keys;
pub mod lead;
pub mod mail;
pub mod outbox;
pub mod rate;
pub mod replay;
pub mod rollup;
pub mod sealed;
pub mod session;
pub mod tenant;
pub mod timer;
pub mod tool_call;
pub mod upload;
pub mod usage;
pub mod user;
pub mod webhook;
pub mod whatsapp;
pub mod workspace;
