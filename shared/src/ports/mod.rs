//! The outside world. Each port has its real implementation and one that needs nothing but this machine; which one is
//! used is decided where the app is put together, never here. `reqwest` clients are built in this module only.

pub mod egress;
pub mod journal;
pub mod llm;
pub mod mail;
pub mod objects;
pub mod polar;
pub mod queue;
pub mod roots;
pub mod secrets;
pub mod signature;
pub mod whatsapp;
