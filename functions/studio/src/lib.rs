//! Studio: the surface that freelancers build, publish and watch their agents at. Its contract is `skill.md`; what it
//! leaves open is decided in `docs/DOMAIN.md`.

mod auth;
mod dialect;
mod webhooks;
mod wire;

pub mod admin;
pub mod agents;
pub mod billing;
pub mod chat;
pub mod chat_stream;
pub mod dead_letters;
pub mod developers;
pub mod inbox;
pub mod sessions;
pub mod site;

use shared::http::{Group, Surface};

/// The surface with its groups; each group is one Lambda function.
pub static SURFACE: Surface = Surface {
    name: "studio",
    title: "Chatia studio API",
    dialect: dialect::DIALECT,
    authenticate: auth::authenticate,
    groups: &[
        Group {
            name: "auth",
            about: "Registering, logging in and out.",
            rows: sessions::rows,
            router: sessions::router,
            streams: false,
        },
        Group {
            name: "agents",
            about: "Building and publishing agents.",
            rows: agents::rows,
            router: agents::router,
            streams: false,
        },
        Group {
            name: "developers",
            about: "Keys, webhooks, events.",
            rows: developers::rows,
            router: developers::router,
            streams: false,
        },
        Group {
            name: "chat",
            about: "The public chat. No credential.",
            rows: chat::rows,
            router: chat::router,
            streams: false,
        },
        Group {
            name: "chat-stream",
            about: "The public chat, told while it goes on.",
            rows: chat_stream::rows,
            router: chat_stream::router,
            streams: true,
        },
        Group {
            name: "inbox",
            about: "Watching and taking over conversations; leads.",
            rows: inbox::rows,
            router: inbox::router,
            streams: false,
        },
        Group {
            name: "billing",
            about: "Plans, how the account stands, and what it used.",
            rows: billing::rows,
            router: billing::router,
            streams: false,
        },
        Group {
            name: "admin",
            about: "For the operator of the installation.",
            rows: || admin::rows().into_iter().chain(dead_letters::rows()).collect(),
            router: |app, surface| admin::router(app, surface).merge(dead_letters::router(app, surface)),
            streams: false,
        },
        Group {
            name: "site",
            about: "Pages, files and this document.",
            rows: site::rows,
            router: site::router,
            streams: false,
        },
    ],
};
