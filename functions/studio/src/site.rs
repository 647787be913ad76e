//! Pages and files: the chat page, the widget, the documents, health.

use std::sync::LazyLock;

use axum::extract::State;
use minijinja::{AutoEscape, Environment, Value, context};
use schemars::JsonSchema;
use serde::Serialize;
use shared::app::{App, agent};
use shared::http::{Asset, Json, Path, Visit};
use shared::kernel::{Code, Error, Result};

use crate::skill::BASE_URL;

shared::ops! {
    /// Whether the system serves, and its version.
    GET "/health" => health, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// This reference, for people.
    GET "/docs" => docs, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// This reference, for programs.
    GET "/openapi/studio.json" => openapi, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// The script that puts a chat button on any page.
    GET "/widget.js" => widget, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// A file that our pages load.
    GET "/assets/{file}" => asset, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// What another AI agent has to know to operate this system.
    GET "/skill.md" => skill, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// Where programs that read pages for models find it.
    GET "/llms.txt" => llms, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// The page behind a mailed link: `invitation` or `reset`.
    GET "/auth/{page}" => auth_page, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// The chat page of an agent.
    GET "/{public_slug}" => chat_page, [] Anyone "" PublicRead Any Known Unaudited Safe;
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    for (name, source) in [
        ("auth.html", include_str!("../assets/auth.html")),
        ("chat.html", include_str!("../assets/chat.html")),
        ("docs.html", include_str!("../assets/docs.html")),
        ("not_found.html", include_str!("../assets/not_found.html")),
    ] {
        if let Err(error) = templates.add_template(name, source) {
            unreachable!("{name} is part of the program and parses: {error}");
        }
    }
    templates
});

/// Renders one of our pages. A template that fails is a fault of ours that a test finds.
pub(crate) fn page(name: &str, context: Value) -> Asset {
    let rendered = TEMPLATES.get_template(name).and_then(|template| template.render(context));
    Asset::page(rendered.unwrap_or_else(|error| format!("<!doctype html><title>Error</title><p>{}</p>", error.kind())))
}

/// How the system is.
#[derive(Debug, Serialize, JsonSchema)]
struct HealthOut {
    /// `ok`.
    status: &'static str,
    version: &'static str,
}

async fn health(_: State<App>, _: Visit) -> Result<Json<HealthOut>> {
    Ok(Json(HealthOut { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}

async fn docs(_: State<App>, _: Visit) -> Result<Asset> {
    let url = "/openapi/studio.json";
    let specs = [context! { name => "studio", url => url }];
    Ok(page("docs.html", context! { title => "Chatia API", spec_url => url, specs => specs }))
}

async fn openapi(_: State<App>, _: Visit) -> Result<Asset> {
    Ok(Asset::file(include_str!("../../../docs/openapi/studio.json"), "application/json"))
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

async fn widget(_: State<App>, _: Visit) -> Result<Asset> {
    Ok(Asset::file(include_str!("../assets/widget.js"), JAVASCRIPT))
}

async fn asset(_: State<App>, _: Visit, Path(file): Path<String>) -> Result<Asset> {
    match file.as_str() {
        "auth.css" => Ok(Asset::file(include_str!("../assets/auth.css"), CSS)),
        "auth.js" => Ok(Asset::file(include_str!("../assets/auth.js"), JAVASCRIPT)),
        "chat-core.js" => Ok(Asset::file(include_str!("../assets/chat-core.js"), JAVASCRIPT)),
        "chat-view.js" => Ok(Asset::file(include_str!("../assets/chat-view.js"), JAVASCRIPT)),
        "chat-texts.js" => Ok(Asset::file(include_str!("../assets/chat-texts.js"), JAVASCRIPT)),
        "chat.css" => Ok(Asset::file(include_str!("../assets/chat.css"), CSS)),
        "chat.js" => Ok(Asset::file(include_str!("../assets/chat.js"), JAVASCRIPT)),
        "docs.css" => Ok(Asset::file(include_str!("../assets/docs.css"), CSS)),
        "docs.js" => Ok(Asset::file(include_str!("../assets/docs.js"), JAVASCRIPT)),
        "widget-panel.js" => Ok(Asset::file(include_str!("../assets/widget-panel.js"), JAVASCRIPT)),
        _ => Err(Error::new(Code::RouteNotFound)),
    }
}

const MARKDOWN: &str = "text/markdown; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// A text of ours with the installation's own address in it.
fn addressed(app: &App, text: &str, content_type: &'static str) -> Asset {
    let body = text.replace(BASE_URL, &app.config.public_base_url);
    Asset { body, content_type, cache: "public, max-age=300", ..Asset::file("", content_type) }
}

async fn skill(State(app): State<App>, _: Visit) -> Result<Asset> {
    Ok(addressed(&app, include_str!("../../../docs/skill.md"), MARKDOWN))
}

async fn llms(State(app): State<App>, _: Visit) -> Result<Asset> {
    Ok(addressed(&app, include_str!("../assets/llms.txt"), PLAIN))
}

async fn auth_page(_: State<App>, _: Visit, Path(name): Path<String>) -> Result<Asset> {
    let title = match name.as_str() {
        "invitation" => "Accept your invitation",
        "reset" => "Set your password anew",
        "verify" => "Verify your e-mail",
        _ => return Err(Error::new(Code::RouteNotFound)),
    };
    Ok(page("auth.html", context! { page => name, title }))
}

async fn chat_page(State(app): State<App>, _: Visit, Path(slug): Path<String>) -> Result<Asset> {
    let snapshot = agent::public(&app, &slug).await?;
    let (name, text) = (&snapshot.name, |text: &Option<String>| text.clone().unwrap_or_default());
    let (description, greeting) = (text(&snapshot.description), text(&snapshot.greeting_message));
    let page = page("chat.html", context! { name, description, greeting });
    Ok(Asset { framable: true, ..page })
}
