//! The local platform: the whole system in one process, driven by `template.yaml`. It stands in for the parts of AWS
//! that production has: API Gateway ([`gateway`]), Lambda ([`registry`]), DynamoDB ([`engine`]) and its stream
//! ([`stream`]), SQS ([`queue`], [`poller`]), the scheduler ([`schedules`]). The code that it runs is production's.

#[cfg(test)]
mod bench;
pub mod data;
pub mod demo;
pub mod engine;
pub mod first;
pub mod gateway;
pub mod guard;
pub mod keys;
pub mod platform;
pub mod poller;
pub mod queue;
pub mod registry;
pub mod routes;
pub mod schedules;
pub mod stopping;
pub mod stream;
pub mod template;
pub mod tenant;

pub use platform::{Lookup, Options, Platform};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
