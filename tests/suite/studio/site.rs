//! Pages and files.

use serde_json::{Value, json};
use tests::{Answer, TestApp};

const FILES: [&str; 8] = [
    "/assets/chat.css",
    "/assets/chat.js",
    "/assets/chat-core.js",
    "/assets/chat-view.js",
    "/assets/chat-texts.js",
    "/assets/widget-panel.js",
    "/assets/docs.css",
    "/assets/docs.js",
];
const BROWSER: &[(&str, &str)] = &[("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")];

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

fn directive<'a>(policy: &'a str, name: &str) -> Option<&'a str> {
    policy.split(';').map(str::trim).find_map(|part| part.strip_prefix(name)).map(str::trim)
}

#[tokio::test]
async fn every_page_may_load_nothing_but_our_own_files() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let anybody = test.anonymous();
    for path in [format!("/{}", agent.slug), "/docs".into(), "/nobody-here".into(), "/no/such/path".into()] {
        let page = anybody.call("GET", &path, BROWSER, None).await;
        assert!(header(&page, "content-type").starts_with("text/html"), "{path}");
        let policy = header(&page, "content-security-policy");
        assert!(
            !policy.contains("unsafe") && !policy.contains("http:") && !policy.contains('*')
                || path == format!("/{}", agent.slug),
            "{path}: {policy}"
        );
        assert_eq!(directive(policy, "default-src"), Some("'none'"), "{path}");
        for name in ["script-src", "style-src", "connect-src"] {
            assert_eq!(directive(policy, name), Some("'self'"), "{path}: {name}");
        }
        assert_eq!(directive(policy, "base-uri"), Some("'none'"), "{path}");
        assert_eq!(directive(policy, "form-action"), Some("'none'"), "{path}");
        // What the policy forbids must not be there either: it would only be broken.
        for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.text.contains(forbidden), "{path} has {forbidden}");
        }
        for script in page.text.split("<script").skip(1) {
            assert!(script.split('>').next().unwrap().contains("src=\"/assets/"), "{path} has an inline script");
        }
    }
}

#[tokio::test]
async fn another_agent_learns_how_to_operate_the_installation() {
    let test = TestApp::new().await;
    let skill = test.anonymous().get("/skill.md").await;
    assert_eq!((skill.status.as_u16(), header(&skill, "content-type")), (200, "text/markdown; charset=utf-8"));
    let base = &test.app.config.public_base_url;
    assert!(skill.text.starts_with("---\nname: chatia\n") && skill.text.contains(&format!("{base}/widget.js")));
    assert!(!skill.text.contains("{BASE_URL}") && !skill.text.contains("{VERSION}"));
    assert!(skill.text.contains("| `starter` | 5 | 1000 | sold | 2 | 3 |") && skill.text.contains("$0.004"));
    let llms = test.anonymous().get("/llms.txt").await;
    assert_eq!((llms.status.as_u16(), header(&llms, "content-type")), (200, "text/plain; charset=utf-8"));
    assert!(llms.text.contains(&format!("{base}/skill.md")));
}

#[tokio::test]
async fn only_the_chat_page_may_stand_in_a_frame() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let ancestors = async |path: &str| {
        let page = test.anonymous().call("GET", path, BROWSER, None).await;
        directive(header(&page, "content-security-policy"), "frame-ancestors").map(str::to_owned)
    };
    assert_eq!(ancestors(&format!("/{}", agent.slug)).await.as_deref(), Some("*"), "any site may show it");
    for path in ["/docs", "/nobody-here"] {
        assert_eq!(ancestors(path).await.as_deref(), Some("'none'"), "{path}");
    }
}

#[tokio::test]
async fn no_page_or_file_names_another_host() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let pages = [format!("/{}", agent.slug), "/docs".into(), "/widget.js".into(), "/nobody-here".into()];
    let allowed = ["http://www.w3.org/", "https://example.com", "https://…", "https://your-"];
    for path in pages.iter().map(String::as_str).chain(FILES) {
        let answer = test.anonymous().call("GET", path, BROWSER, None).await;
        for scheme in ["http://", "https://"] {
            for (at, _) in answer.text.match_indices(scheme) {
                let url: String = answer.text[at..]
                    .chars()
                    .take(60)
                    .take_while(|c| !c.is_whitespace() && !"\"'`<>)".contains(*c))
                    .collect();
                let placeholder = url == scheme || allowed.iter().any(|known| url.starts_with(known));
                assert!(placeholder, "{path} names {url}");
            }
        }
        for remote in ["@import", "src=\"//", "href=\"//", "url(//"] {
            assert!(!answer.text.contains(remote), "{path} has {remote}");
        }
    }
}

#[tokio::test]
async fn the_chat_page_shows_its_agent_and_runs_nothing_that_its_name_says() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}";
    let body = json!({"name": evil, "description": evil, "greeting_message": evil, "publish": true});
    let agent = owner.agent_with(body).await;
    let page = test.anonymous().get(&format!("/{}", agent.slug)).await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("<script>alert") && !page.text.contains("<img src=x"), "{}", page.text);
    assert!(page.text.contains("&lt;script&gt;") && page.text.contains("{{ 7 * 7 }}"), "{}", page.text);
}

#[tokio::test]
async fn an_unknown_address_is_a_page_for_browsers_and_json_for_programs() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    assert!(draft.slug.is_empty());
    for path in ["/nobody-here", "/borrador", "/Soporte", "/%3Cb%3E"] {
        let page = test.anonymous().call("GET", path, BROWSER, None).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(
            header(&page, "content-type").starts_with("text/html") && page.text.contains("<!doctype html>"),
            "{path}"
        );
        assert!(!page.text.contains("<b>"), "{path}");
        assert_eq!(test.anonymous().get(path).await.code(404), "not_found", "{path}");
        let json = test.anonymous().call("GET", path, &[("accept", "application/json")], None).await;
        assert_eq!(json.code(404), "not_found", "{path}");
    }
}

#[tokio::test]
async fn an_address_longer_than_any_is_not_found() {
    let test = TestApp::new().await;
    let long = "a".repeat(5_000);
    for path in [format!("/{long}"), format!("/api/public/agents/{long}"), format!("/assets/{long}")] {
        assert_eq!(test.anonymous().get(&path).await.status, 404, "{}", &path[..20]);
    }
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let handle = format!("/api/public/agents/{}/conversations/conv_k1.{long}/messages", agent.slug);
    assert_eq!(test.anonymous().get(&handle).await.code(404), "not_found");
}

#[tokio::test]
async fn the_reference_is_served_for_people_and_for_programs() {
    let test = TestApp::new().await;
    let docs = test.anonymous().get("/docs").await;
    assert_eq!(docs.status, 200);
    assert!(docs.text.contains("studio.json") && docs.text.contains("/assets/docs.js"));
    let served = test.anonymous().get("/openapi/studio.json").await;
    assert_eq!(header(&served, "content-type"), "application/json");
    assert_eq!(served.text, include_str!("../../../docs/openapi/studio.json"));
    assert_eq!(served.expect(200)["openapi"], "3.1.0");
}

#[tokio::test]
async fn files_come_with_their_type_and_may_be_kept_for_a_while() {
    let test = TestApp::new().await;
    for path in FILES.into_iter().chain(["/widget.js"]) {
        let file = test.anonymous().get(path).await;
        assert_eq!(file.status, 200, "{path}");
        let kind = if path.ends_with(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
        assert_eq!(header(&file, "content-type"), kind, "{path}");
        assert!(header(&file, "cache-control").contains("max-age="), "{path}");
    }
    for path in ["/assets/nothing.js", "/assets/", "/assets/..%2fchat.js", "/assets/chat.html", "/assets/chat.js/x"] {
        assert_eq!(test.anonymous().get(path).await.code(404), "route_not_found", "{path}");
    }
}

#[tokio::test]
async fn every_file_that_a_page_asks_for_is_there() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    for page in [format!("/{}", agent.slug), "/docs".into(), "/nobody-here".into()] {
        let page = test.anonymous().call("GET", &page, BROWSER, None).await;
        let files: Vec<&str> = page.text.split(['"', '\'']).filter(|text| text.starts_with("/assets/")).collect();
        for file in files {
            assert_eq!(test.anonymous().get(file).await.status, 200, "{file}");
        }
    }
}

#[tokio::test]
async fn the_widget_reads_what_the_contract_documents() {
    let test = TestApp::new().await;
    let widget = test.anonymous().get("/widget.js").await;
    for attribute in ["agent", "position", "accent"] {
        assert!(widget.text.contains(&format!("given.{attribute}")), "data-{attribute}");
    }
}

#[tokio::test]
async fn health_tells_the_version() {
    let test = TestApp::new().await;
    let health = test.anonymous().get("/health").await.expect(200);
    assert_eq!(health, json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}));
}

#[tokio::test]
async fn no_page_sets_a_cookie() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    for path in [format!("/{}", agent.slug), "/docs".into(), "/widget.js".into(), "/api/billing/plans".into()] {
        assert!(!test.anonymous().get(&path).await.headers.contains_key("set-cookie"), "{path}");
    }
    let login = json!({"email": owner.email, "password": tests::PASSWORD});
    let answer = test.anonymous().post("/api/auth/login", login).await;
    assert!(!answer.headers.contains_key("set-cookie"));
    let _: Value = answer.expect(200);
}

#[tokio::test]
async fn what_an_agent_does_not_say_is_not_on_its_page() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Soporte", "publish": true})).await;
    let page = test.anonymous().call("GET", &format!("/{}", agent.slug), BROWSER, None).await.text;
    assert!(page.contains(r#"<div class="bubble"></div>"#) && !page.contains("None"), "{page}");
    let greeting = json!({"greeting_message": "Hello <you>"});
    owner.session.patch(&format!("/api/agents/{}", agent.id), greeting).await.expect(200);
    let page = test.anonymous().call("GET", &format!("/{}", agent.slug), BROWSER, None).await.text;
    assert!(page.contains(r#"<div class="bubble">Hello &lt;you&gt;</div>"#), "{page}");
}
