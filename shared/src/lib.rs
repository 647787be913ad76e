//! The common crate: everything that the Lambdas, the workers and the local platform share.
//!
//! The modules are floors. Each uses only the ones listed above it here; `tests/suite/floors.rs` checks that.
//!
//! | floor | what it holds | I/O |
//! | --- | --- | --- |
//! | [`kernel`] | ids, time, randomness, errors, pages, secrets | none |
//! | [`domain`] | one file per noun: types, invariants, state machines | none |
//! | [`access`] | what an operation declares, who calls, whether it may | none |
//! | [`table`] | the only code that talks to DynamoDB | table |
//! | [`store`] | the map of the table and the access patterns of each noun | through `table` |
//! | [`events`] | the catalogue of events and the outbox | through `store` |
//! | [`ports`] | the outside world: models, mail, objects, secrets, queues, egress | yes |
//! | [`app`] | use cases: `(app, caller, command) -> Result<…>`, one transaction each | through the floors below |
//! | [`turn`] | one turn of an agent: load, accept, think, commit | through the floors below |
//! | [`builder`] | agents that build agents: threads, plans, tools, confirmations | through the floors below |
//! | [`http`] | the operation table, the gate, errors, OpenAPI, the Lambda runner | HTTP |

pub mod access;
pub mod app;
pub mod builder;
pub mod domain;
pub mod events;
pub mod http;
pub mod kernel;
pub mod ports;
pub mod store;
pub mod table;
pub mod turn;
