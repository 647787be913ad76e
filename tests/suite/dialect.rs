//! How studio writes what goes wrong, and what every answer carries.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shared::app::{App, Parts};
use shared::http::{Asked, serve};
use shared::kernel::{Code, Error, Field, Result, Secret};
use shared::ports::objects::Objects;
use shared::ports::secrets::Secrets;
use studio::SURFACE;
use tests::TestApp;
use tower::ServiceExt as _;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

async fn rendered(error: &Error, path: &str, wants_html: bool) -> String {
    let asked = Asked { path: path.into(), wants_html, request_id: "req".into() };
    let response = (SURFACE.dialect.render)(error, &asked);
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    format!("{status} {}", String::from_utf8_lossy(&body))
}

/// Compares with a kept text. `UPDATE_SNAPSHOTS=1` writes it anew; the change then shows in the diff of the commit.
fn assert_snapshot(name: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, text).expect("the snapshot is written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let differs: Vec<String> = kept
        .lines()
        .map(|line| (line, "-"))
        .chain(text.lines().map(|line| (line, "+")))
        .filter(|(line, sign)| !if *sign == "-" { text } else { &kept }.lines().any(|other| other == *line))
        .map(|(line, sign)| format!("{sign} {line}"))
        .collect();
    assert!(kept == text, "snapshots/{name} differs (UPDATE_SNAPSHOTS=1 writes it anew):\n{}", differs.join("\n"));
}

#[tokio::test]
async fn every_code_has_its_status_and_body() {
    let mut page = "Every error code as studio writes it: code, status, body.\n\n".to_owned();
    for code in Code::ALL {
        let rendered = rendered(&Error::new(*code), "/api/x", false).await;
        page.push_str(&format!("{:<26} {rendered}\n", code.text()));
    }
    let field = |name: &str| Field { name: name.into(), code: "required", message: format!("{name} is required") };
    let cases = [
        ("one field", Error::fields(vec![field("name")])),
        ("several fields", Error::fields(vec![field("name"), field("config.ai.base_url")])),
        ("with a cause", Error::internal("the database said: password=hunter2")),
    ];
    for (what, error) in cases {
        page.push_str(&format!("{what:<26} {}\n", rendered(&error, "/api/x", false).await));
    }
    assert!(!page.contains("hunter2"), "a cause is logged, never shown");
    assert_snapshot("studio_errors.txt", &page);
}

#[tokio::test]
async fn an_unknown_path_is_json_for_programs_and_a_page_for_browsers() {
    let test = TestApp::new().await;
    let anybody = test.anonymous();
    let html = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    assert_eq!(anybody.get("/api/nothing").await.code(404), "route_not_found");
    assert_eq!(anybody.get("/nothing/at/all").await.code(404), "route_not_found");
    let page = anybody.call("GET", "/nothing/at/all", &html, None).await;
    assert_eq!(page.status, 404);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    // A browser that opens the API by hand still gets what programs get.
    assert_eq!(anybody.call("GET", "/api/nothing", &html, None).await.code(404), "route_not_found");
}

#[tokio::test]
async fn a_page_that_is_not_there_repeats_its_path_without_running_it() {
    let test = TestApp::new().await;
    let html = [("accept", "text/html")];
    let page = test.anonymous().call("GET", "/x/%3Cscript%3Ealert(1)%3C/script%3E", &html, None).await;
    assert_eq!(page.status, 404);
    assert!(!page.text.contains("<script>alert"), "{}", page.text);
}

#[tokio::test]
async fn another_method_is_405_and_says_which_ones_there_are() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let answer = owner.session.call("PUT", "/api/agents", &[], None).await;
    let allow = answer.headers.get("allow").map(|allow| allow.to_str().unwrap().to_owned());
    assert_eq!(answer.code(405), "method_not_allowed");
    let allow = allow.expect("405 names the methods that there are");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(test.anonymous().call("DELETE", "/health", &[], None).await.code(405), "method_not_allowed");
}

#[tokio::test]
async fn a_401_says_how_to_authenticate() {
    let test = TestApp::new().await;
    let answer = test.anonymous().get("/api/agents").await;
    let header = answer.headers.get("www-authenticate").map(|header| header.to_str().unwrap().to_owned());
    assert_eq!(answer.code(401), "unauthenticated");
    assert_eq!(header.as_deref(), Some("Bearer"));
}

#[tokio::test]
async fn a_body_beyond_a_megabyte_is_413_also_with_an_idempotency_key() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = json!({"name": "x", "description": "x".repeat(1024 * 1024)}).to_string();
    assert_eq!(
        owner.session.post_raw("/api/agents", "application/json", body.clone()).await.code(413),
        "payload_too_large"
    );
    let headers = [("content-type", "application/json"), ("idempotency-key", "big")];
    assert_eq!(owner.session.call_raw("POST", "/api/agents", &headers, body).await.code(413), "payload_too_large");
    let just_below = json!({"name": "x", "ignored": "x".repeat(1000 * 1000)});
    owner.session.post("/api/agents", just_below).await.expect(201);
}

#[tokio::test]
async fn a_body_of_another_type_is_415_and_json_in_any_spelling_is_taken() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = r#"{"name":"x"}"#;
    for wrong in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "json",
    ] {
        assert_eq!(
            owner.session.post_raw("/api/agents", wrong, body).await.code(415),
            "unsupported_media_type",
            "{wrong}"
        );
    }
    assert_eq!(owner.session.call_raw("POST", "/api/agents", &[], body).await.code(415), "unsupported_media_type");
    for right in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
        owner.session.post_raw("/api/agents", right, body).await.expect(201);
    }
}

#[tokio::test]
async fn what_is_no_json_is_400() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let broken: [&[u8]; 8] = [
        b"",
        b"{",
        b"{\"name\":}",
        b"{\"name\":\"x\"} trailing",
        b"nul",
        b"{\"name\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        b"{'name':'x'}",
    ];
    for body in broken {
        let answer = owner.session.call_raw("POST", "/api/agents", JSON, body.to_vec()).await;
        assert_eq!(answer.code(400), "malformed_body", "{}", String::from_utf8_lossy(body));
    }
    let deep = "[".repeat(200_000);
    let answer = owner.session.call_raw("POST", "/api/agents", JSON, deep).await;
    assert!(answer.status == 400 || answer.status == 422, "{}", answer.text);
}

#[tokio::test]
async fn what_is_json_of_a_wrong_shape_is_422_and_names_the_field() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let cases = [
        (json!([]), "body"),
        (json!("text"), "body"),
        (json!(null), "body"),
        (json!({}), "name"),
        (json!({"name": null}), "name"),
        (json!({"name": 5}), "name"),
        (json!({"name": "x", "publish": "yes"}), "publish"),
        (json!({"name": "x", "tools": "capture_lead"}), "tools"),
        (json!({"name": "x", "tools": [1]}), "tools[0]"),
        (json!({"name": "x", "config": {"ai": {"api_key": 5}}}), "config.ai.api_key"),
        (json!({"name": "x", "widget": {"suggested_questions": 5}}), "widget.suggested_questions"),
    ];
    for (body, field) in cases {
        let answer = owner.session.post("/api/agents", body.clone()).await.expect(422);
        assert_eq!(answer["code"], "validation_error", "{body}: {answer}");
        assert_eq!(answer["field"], field, "{body}: {answer}");
        assert!(answer["detail"].as_str().unwrap().len() > 10, "{answer}");
    }
}

#[tokio::test]
async fn several_wrong_fields_are_told_at_once() {
    let test = TestApp::new().await;
    let body = json!({"email": "nobody", "password": "short"});
    let answer = test.anonymous().post("/api/auth/register", body).await.expect(422);
    let fields: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["email", "password"]);
    assert_eq!(answer["field"], "email");
    for error in answer["errors"].as_array().unwrap() {
        assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
    }
    // What two parts of the program find wrong is told once.
    let nameless = test.owner().await.session.post("/api/agents", json!({"name": ""})).await.expect(422);
    assert_eq!((&nameless["field"], &nameless["errors"]), (&json!("name"), &Value::Null));
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = json!({"name": "x", "id": 1, "owner_id": 2, "is_published": true, "__proto__": {}});
    let agent = owner.session.post("/api/agents", body).await.expect(201);
    assert_eq!((&agent["is_published"], agent["owner_id"].as_u64()), (&json!(false), Some(owner.user_id)));
}

/// A place for secrets that breaks in the worst way.
struct Panicking;

#[async_trait]
impl Secrets for Panicking {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        panic!("{name} could not be read with password hunter2");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let test = TestApp::new().await;
    let parts: &Parts = &test.app;
    let app = App::new(Parts {
        table: parts.table.clone(),
        clock: Arc::clone(&parts.clock),
        rng: parts.rng.clone(),
        config: parts.config.clone(),
        secrets: Arc::new(Panicking),
        queue: Arc::clone(&parts.queue),
        journal: Arc::clone(&parts.journal),
        mailer: Arc::clone(&parts.mailer),
        objects: Objects::memory(),
        llm: Arc::clone(&parts.llm),
        egress: Arc::clone(&parts.egress),
        polar: None,
    });
    let router = serve::surface(&app, &SURFACE, SURFACE.groups);
    let request = Request::get("/api/auth/me").header("authorization", "Bearer a.b.c");
    let Ok(response) = router.oneshot(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(response.status(), 500);
    assert!(response.headers().contains_key("x-request-id"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "internal_error");
    assert!(!body.to_string().contains("hunter2"), "{body}");
}

#[tokio::test]
async fn every_answer_names_its_request_and_forbids_sniffing() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let mut seen = Vec::new();
    for (persona, method, path) in [
        (&owner.session, "GET", "/api/agents"),
        (&owner.session, "GET", "/api/agents/1"),
        (&owner.session, "PUT", "/api/agents"),
        (&test.anonymous(), "GET", "/api/agents"),
        (&test.anonymous(), "GET", "/nothing"),
        (&test.anonymous(), "GET", "/widget.js"),
    ] {
        let answer = persona.call(method, path, &[], None).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{method} {path}");
        seen.push(answer.headers["x-request-id"].to_str().unwrap().to_owned());
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "each request has an id of its own");
}

#[tokio::test]
async fn every_rated_answer_tells_how_its_caller_stands() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = owner.session.get("/api/agents").await;
    let left =
        |answer: &tests::Answer| -> u32 { answer.headers["x-ratelimit-remaining"].to_str().unwrap().parse().unwrap() };
    assert_eq!(first.headers["x-ratelimit-limit"], "600");
    let reset: i64 = first.headers["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&(reset - test.app.now().seconds())), "{reset}");
    for path in ["/api/agents/1", "/api/agents?limit=0", "/api/admin/billing/report-usage"] {
        let method = if path.contains("admin") { "POST" } else { "GET" };
        let refused = owner.session.call(method, path, &[], None).await;
        assert!(refused.status.is_client_error());
        assert!(refused.headers.contains_key("x-ratelimit-remaining"), "{path}: {} is rated too", refused.status);
    }
    let last = owner.session.get("/api/agents").await;
    assert_eq!(left(&last), left(&first) - 3, "refused calls count as well");
}

#[tokio::test]
async fn a_page_of_any_origin_may_ask_first() {
    let test = TestApp::new().await;
    let headers = [
        ("origin", "https://shop.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,idempotency-key"),
    ];
    for path in ["/api/public/agents/soporte/chat", "/api/agents"] {
        let answer = test.anonymous().call("OPTIONS", path, &headers, None).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        assert!(
            ["authorization", "content-type", "idempotency-key"].iter().all(|name| allowed.contains(name)),
            "{allowed}"
        );
        let methods = answer.headers["access-control-allow-methods"].to_str().unwrap();
        assert!(["GET", "POST", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        // No cookies: with a credential that browsers add by themselves, any page could act for its visitor.
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_answers_and_errors() {
    let test = TestApp::new().await;
    for path in ["/api/billing/plans", "/api/public/agents/nobody", "/api/agents"] {
        let answer = test.anonymous().call("GET", path, &[("origin", "https://shop.example.com")], None).await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*", "{path}");
        let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap().to_lowercase();
        assert!(exposed.contains("retry-after") && exposed.contains("idempotent-replayed"), "{exposed}");
    }
}

#[tokio::test]
async fn a_head_request_gets_the_headers_only() {
    let test = TestApp::new().await;
    let answer = test.anonymous().call("HEAD", "/health", &[], None).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}
