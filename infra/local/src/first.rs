//! The local platform's own pages: the first screen, its two files, and the page for an address that leads nowhere.

use axum::response::{IntoResponse as _, Response};
use minijinja::{Environment, context};
use shared::http::Asset;
use shared::kernel::{Error, Result};

use crate::demo::Demo;

/// What the first screen tells.
#[derive(Debug, Default)]
pub struct Facts {
    /// Where callers reach us.
    pub base_url: String,
    /// The model that agents use unless they say otherwise.
    pub model: String,
    /// Where data lies.
    pub data_dir: String,
    /// Where mail lies.
    pub mail_dir: String,
    /// Whether usage is reported.
    pub polar_configured: bool,
    /// Where the AWS CLI can look at the table.
    pub table_endpoint: String,
}

/// The pages, rendered once.
#[derive(Debug, Default)]
pub struct First {
    screen: String,
}

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

impl First {
    /// The pages for these facts, and for the demo when there is one.
    ///
    /// # Errors
    /// `internal_error` when the template of the screen does not render, which a test finds.
    pub fn render(facts: &Facts, demo: Option<&Demo>) -> Result<Self> {
        let demo = demo.map(|demo| {
            context! {
                name => &demo.agent_name,
                slug => &demo.slug,
                page_url => demo.page_url(&facts.base_url),
                api_key => &demo.api_key,
                agent_id => demo.agent_id,
                email => &demo.email,
                password => &demo.password,
            }
        });
        let mut templates = Environment::new();
        templates.add_template("first.html", include_str!("../assets/first.html")).map_err(Error::internal)?;
        let screen = templates.get_template("first.html").and_then(|template| {
            template.render(context! {
                version => env!("CARGO_PKG_VERSION"),
                base_url => &facts.base_url,
                model => &facts.model,
                data_dir => &facts.data_dir,
                mail_dir => &facts.mail_dir,
                polar_configured => facts.polar_configured,
                table_endpoint => &facts.table_endpoint,
                demo => demo,
            })
        });
        Ok(Self { screen: screen.map_err(Error::internal)? })
    }

    /// Pages without a screen, for tests of the gateway alone.
    #[cfg(test)]
    pub(crate) fn bare() -> Self {
        Self::default()
    }

    /// The page of ours at a path, if there is one.
    #[must_use]
    pub fn page(&self, path: &str) -> Option<Response> {
        let asset = match path {
            "/" => Asset::page(self.screen.clone()),
            "/assets/first.css" => Asset::file(include_str!("../assets/first.css"), CSS),
            "/assets/first.js" => Asset::file(include_str!("../assets/first.js"), JAVASCRIPT),
            _ => return None,
        };
        Some(asset.into_response())
    }

    /// The page for an address that no route takes.
    #[must_use]
    pub fn not_found(&self, path: &str) -> Asset {
        let mut templates = Environment::new();
        // The name ends in .html, so what callers write into the path is escaped.
        let added = templates.add_template("not_found.html", NOT_FOUND);
        let page = added.and_then(|()| templates.get_template("not_found.html")?.render(context! { path => path }));
        Asset::page(page.unwrap_or_else(|_| "Not found".into()))
    }
}

const NOT_FOUND: &str = r#"<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
  <meta name="color-scheme" content="light dark">
  <title>No route leads here</title>
  <link rel="stylesheet" href="/assets/first.css">
</head>
<body>
  <main>
    <h1>No route leads here</h1>
    <p>No route of <code>template.yaml</code> takes <code>{{ path }}</code>, so the gateway has nowhere to send it; in
    production it would not exist either.</p>
    <p>Go to the <a href="/">first screen</a>, or to the <a href="/docs">API reference</a>.</p>
  </main>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_renders_with_and_without_a_demo() {
        let facts = Facts { base_url: "http://127.0.0.1:8000".into(), model: "offline-1".into(), ..Facts::default() };
        let demo = Demo {
            email: "demo@example.com".into(),
            password: "pass".into(),
            agent_name: "<Luna>".into(),
            agent_id: 7,
            slug: "luna".into(),
            api_key: "chatia_k".into(),
        };
        let screen = First::render(&facts, Some(&demo)).unwrap().screen;
        for part in
            ["Meet &lt;Luna&gt;", "http:&#x2f;&#x2f;127.0.0.1:8000&#x2f;luna", "Bearer chatia_k", "demo@example.com"]
        {
            assert!(screen.contains(part), "{part} in {screen}");
        }
        let screen = First::render(&facts, None).unwrap().screen;
        assert!(screen.contains("YOUR_KEY") && !screen.contains("Meet"));
    }

    #[test]
    fn a_path_on_the_page_is_text() {
        let page = First::bare().not_found("/<script>alert(1)</script>");
        assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script>alert"));
    }
}
