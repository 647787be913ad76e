//! The nouns of the product, one file each: types, invariants, state machines. Pure: no I/O, no clock, no randomness.
//!
//! `docs/DOMAIN.md` maps every noun of the five contracts to its file here, also those that are not built yet.
//! A domain type is its own table record, so new fields carry `#[serde(default)]`.

pub mod agent;
pub mod api_key;
pub mod audit;
pub mod billing;
pub mod builder;
pub mod contact;
pub mod conversation;
pub mod event;
pub mod grant;
pub mod handle;
pub mod identity;
pub mod invitation;
pub mod language;
pub mod lead;
mod link;
pub mod message;
pub mod plan;
pub mod scheduling;
pub mod schema;
pub mod session;
pub mod slug;
pub mod text;
pub mod tool;
pub mod usage;
pub mod user;
pub mod verification;
pub mod webhook;
pub mod whatsapp;
pub mod workspace;

pub use agent::Agent;
pub use api_key::ApiKey;
pub use billing::BillingAccount;
pub use builder::{BuilderMessage, BuilderThread};
pub use contact::Contact;
pub use conversation::Conversation;
pub use event::Event;
pub use grant::{Grant, GrantScope};
pub use invitation::Invitation;
pub use lead::Lead;
pub use message::Message;
pub use scheduling::{Appointment, Availability};
pub use session::Session;
pub use user::User;
pub use webhook::{Delivery, Webhook};
pub use workspace::{Membership, Role, Workspace};

use crate::kernel::id::Named;

macro_rules! prefixes {
    ($($noun:ty => $prefix:literal),* $(,)?) => {
        $(impl Named for $noun { const PREFIX: &'static str = $prefix; })*
    };
}

prefixes! {
    builder::Action => "act",
    builder::Upload => "obj",
    Agent => "agent",
    ApiKey => "key",
    Appointment => "apt",
    BillingAccount => "ba",
    BuilderMessage => "bmsg",
    BuilderThread => "thr",
    Contact => "con",
    Conversation => "conv",
    Lead => "lead",
    Message => "msg",
    User => "user",
    Webhook => "wh",
    Workspace => "ws",
}
