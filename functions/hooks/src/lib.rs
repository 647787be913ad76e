//! Hooks: the door for providers' callbacks under `/hooks`. Each call is signed, and the handler checks that.

mod dialect;
pub mod polar;
pub mod whatsapp;

use axum::http::HeaderMap;
use shared::access::Caller;
use shared::app::App;
use shared::http::gate::BoxFuture;
use shared::http::{Group, Surface};
use shared::kernel::Result;

/// The surface with all of its groups; each group is one Lambda function.
pub static SURFACE: Surface = surface(&[PROVIDERS, WHATSAPP]);

/// The surface with these of its groups. A function has one, so that the others are not part of its binary.
#[must_use]
pub const fn surface(groups: &'static [Group]) -> Surface {
    Surface {
        name: "hooks",
        title: "Chatia provider callbacks",
        dialect: dialect::DIALECT,
        authenticate: nobody,
        groups,
    }
}

/// Callbacks of providers.
pub const PROVIDERS: Group = Group {
    name: "providers",
    about: "Callbacks of providers.",
    rows: polar::rows,
    router: polar::router,
    streams: false,
};

/// Callbacks of Kapso and Meta.
pub const WHATSAPP: Group = Group {
    name: "whatsapp",
    about: "Callbacks of Kapso and Meta.",
    rows: whatsapp::rows,
    router: whatsapp::router,
    streams: false,
};

/// Providers hold no credential of ours: each signs its calls, and the handler of the call checks that.
fn nobody(_: App, _: HeaderMap) -> BoxFuture<'static, Result<Option<Caller>>> {
    Box::pin(async { Ok(None) })
}
