//! Studio: the surface that freelancers build, publish and watch their agents at. Its contract is `skill.md`; what it
//! leaves open is decided in `docs/DOMAIN.md`.

mod auth;
mod dialect;
mod line;
mod webhooks;
mod wire;

pub mod admin;
pub mod agents;
pub mod appointments;
pub mod audit;
pub mod availability;
pub mod billing;
pub mod builder;
pub mod builder_stream;
pub mod chat;
pub mod chat_stream;
pub mod checkout;
pub mod clients;
pub mod dead_letters;
pub mod developers;
pub mod history;
pub mod inbox;
pub mod people;
pub mod preview;
pub mod sessions;
pub mod site;
pub mod skill;
pub mod slots;
pub mod uploads;
pub mod usage_events;
pub mod versions;

use shared::http::{Group, Surface};

/// The surface with all of its groups; each group is one Lambda function.
pub static SURFACE: Surface =
    surface(&[AUTH, AGENTS, DEVELOPERS, CHAT, CHAT_STREAM, BUILDER, INBOX, BILLING, ADMIN, SITE]);

/// The surface with these of its groups. A function has one, so that the others are not part of its binary.
#[must_use]
pub const fn surface(groups: &'static [Group]) -> Surface {
    Surface {
        name: "studio",
        title: "Chatia studio API",
        dialect: dialect::DIALECT,
        authenticate: auth::authenticate,
        groups,
    }
}

/// Registering, logging in and out; clients, whose passwords need the same memory.
pub const AUTH: Group = Group {
    name: "auth",
    about: "Registering, logging in and out; clients and what they may look after.",
    rows: || sessions::rows().into_iter().chain(clients::rows()).collect(),
    router: |app, surface| sessions::router(app, surface).merge(clients::router(app, surface)),
    streams: false,
};

/// Building and publishing agents.
pub const AGENTS: Group = Group {
    name: "agents",
    about: "Building and publishing agents.",
    rows: || {
        let ours = agents::rows().into_iter().chain(versions::rows()).chain(slots::rows());
        ours.chain(preview::rows()).chain(builder::rows()).chain(uploads::rows()).collect()
    },
    router: |app, surface| {
        let ours =
            agents::router(app, surface).merge(versions::router(app, surface)).merge(slots::router(app, surface));
        let building = builder::router(app, surface).merge(uploads::router(app, surface));
        ours.merge(preview::router(app, surface)).merge(building)
    },
    streams: false,
};

/// Keys, webhooks, events, the audit log.
pub const DEVELOPERS: Group = Group {
    name: "developers",
    about: "Keys, webhooks, events, the audit log.",
    rows: || developers::rows().into_iter().chain(audit::rows()).collect(),
    router: |app, surface| developers::router(app, surface).merge(audit::router(app, surface)),
    streams: false,
};

/// The public chat. No credential.
pub const CHAT: Group = Group {
    name: "chat",
    about: "The public chat. No credential.",
    rows: chat::rows,
    router: chat::router,
    streams: false,
};

/// The public chat, told while it goes on.
pub const CHAT_STREAM: Group = Group {
    name: "chat-stream",
    about: "The public chat, told while it goes on.",
    rows: chat_stream::rows,
    router: chat_stream::router,
    streams: true,
};

/// Building agents by chat, told while it goes on.
pub const BUILDER: Group = Group {
    name: "builder",
    about: "Building agents by chat, told while it goes on.",
    rows: builder_stream::rows,
    router: builder_stream::router,
    streams: true,
};

/// Watching and taking over conversations; leads; appointments.
pub const INBOX: Group = Group {
    name: "inbox",
    about: "Watching and taking over conversations; leads; appointments.",
    rows: || {
        let ours = inbox::rows().into_iter().chain(history::rows());
        ours.chain(availability::rows()).chain(appointments::rows()).collect()
    },
    router: |app, surface| {
        let scheduling = availability::router(app, surface).merge(appointments::router(app, surface));
        inbox::router(app, surface).merge(history::router(app, surface)).merge(scheduling)
    },
    streams: false,
};

/// Plans, how the account stands, what it used, and buying.
pub const BILLING: Group = Group {
    name: "billing",
    about: "Plans, how the account stands, what it used, and buying.",
    rows: || billing::rows().into_iter().chain(usage_events::rows()).chain(checkout::rows()).collect(),
    router: |app, surface| {
        let rest = usage_events::router(app, surface).merge(checkout::router(app, surface));
        billing::router(app, surface).merge(rest)
    },
    streams: false,
};

/// For the operator of the installation.
pub const ADMIN: Group = Group {
    name: "admin",
    about: "For the operator of the installation.",
    rows: || admin::rows().into_iter().chain(dead_letters::rows()).chain(people::rows()).collect(),
    router: |app, surface| {
        admin::router(app, surface).merge(dead_letters::router(app, surface)).merge(people::router(app, surface))
    },
    streams: false,
};

/// Pages, files and this document.
pub const SITE: Group = Group {
    name: "site",
    about: "Pages, files and this document.",
    rows: site::rows,
    router: site::router,
    streams: false,
};
