//! The local platform: the whole system in one process, driven by `template.yaml`.

pub mod engine;
pub mod template;
