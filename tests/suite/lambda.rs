//! Every row as its Lambda function sees it: from the JSON of the event that API Gateway makes of a call, through the
//! group's own router.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shared::access::Op;
use studio::SURFACE;
use tests::{Options, TestApp};

use tests::requests::{Scene, Stage, Valid, rows, valid};

use crate::gateway::{self, Gateway, SOURCE, event};

/// Gives the event to the function of a group of studio.
async fn invoke(test: &TestApp, group: &str, event: &Value) -> (StatusCode, String) {
    gateway::invoke(&test.app, &format!("studio-{group}"), event).await
}

/// The function that a request reaches through the gateway, and the event that it is given.
fn event_of<'a>(gateway: &'a Gateway, op: &Op, request: &Valid, authorization: Option<&str>) -> (&'a str, Value) {
    let body = request.body.as_ref().map(Value::to_string);
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|header| ("authorization", header)));
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let (binary, mut event) = gateway.takes((op.method, path, path), &headers, body.as_deref()).expect("a route");
    event["rawQueryString"] = json!(query);
    (binary, event)
}

#[tokio::test]
async fn every_row_answers_an_event_as_it_answers_a_request() {
    let (mut stage, mut wrong, gateway) = (Stage::default(), Vec::new(), Gateway::new());
    for op in rows() {
        let scene = stage.scene(op).await;
        let request = valid(op, &scene.things);
        if !op.credentials.is_empty() {
            let (binary, event) = event_of(&gateway, op, &request, None);
            let (status, text) = gateway::invoke(&scene.test.app, binary, &event).await;
            if status != 401 || !text.contains("\"unauthenticated\"") {
                wrong.push(format!("{} without a credential: {status} {text}", op.id));
            }
        }
        let bearer = scene.right_caller(op).await.authorization();
        let (binary, event) = event_of(&gateway, op, &request, bearer.as_deref());
        let (status, text) = gateway::invoke(&scene.test.app, binary, &event).await;
        if status.as_u16() != request.status {
            wrong.push(format!("{}: {status} instead of {}: {text}", op.id, request.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_function_knows_no_row_of_another_group() {
    let (scene, gateway) = (Scene::new().await, Gateway::new());
    for op in rows().into_iter().filter(|op| op.path.starts_with("/api/")) {
        let bearer = scene.right_caller(op).await.authorization();
        let (own, _) = event_of(&gateway, op, &valid(op, &scene.things), None);
        let path = valid(op, &scene.things).path;
        let authorization = bearer.as_deref().map(|bearer| ("authorization", bearer));
        let event = event(op.method, &path, "", authorization.as_slice(), None);
        let other = SURFACE.groups.iter().find(|group| !own.ends_with(group.name) && group.name != "site").unwrap();
        let (status, _) = invoke(&scene.test, other.name, &event).await;
        assert!(status == 404 || status == 405, "{} is answered by {}: {status}", op.id, other.name);
    }
}

#[tokio::test]
async fn a_body_in_base64_is_read_as_what_it_stands_for() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.owner.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({"name": "Información ☎"}).to_string();
    let mut event = event("POST", "/api/agents", "", &headers, Some(&STANDARD.encode(&body)));
    event["isBase64Encoded"] = json!(true);
    let (status, text) = invoke(&scene.test, "agents", &event).await;
    assert_eq!(status, 201, "{text}");
    assert!(text.contains("Información ☎"), "{text}");
}

#[tokio::test]
async fn a_query_and_a_decoded_path_arrive_whole() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.owner.token);
    let headers = [("authorization", bearer.as_str())];
    let (status, text) = invoke(&scene.test, "agents", &event("GET", "/api/agents", "limit=1", &headers, None)).await;
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status.as_u16(), list["items"].as_array().map(Vec::len)), (200, Some(1)), "{text}");
    // The gateway decodes the path: what was %20, %C3%B1 or %2F arrives as itself.
    for path in [
        "/api/public/agents/soporte técnico ñ",
        "/api/public/agents/a b/conversations/<x>/messages",
        "/api/public/agents/100%",
    ] {
        let (status, text) = invoke(&scene.test, "chat", &event("GET", path, "", &[], None)).await;
        assert_eq!(status, 404, "{path}: {text}");
        assert!(text.contains("\"not_found\""), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_confirmation_in_the_query_is_enough_where_a_proxy_drops_the_body() {
    let scene = Scene::new().await;
    let odd = scene.owner.agent_with(json!({"name": "Soporte & Ñandú 100%"})).await;
    let bearer = format!("Bearer {}", scene.owner.token);
    let query = "confirmation=Soporte%20%26%20%C3%91and%C3%BA+100%25";
    let path = format!("/api/agents/{}", odd.id);
    let event = event("DELETE", &path, query, &[("authorization", &bearer)], None);
    let (status, text) = invoke(&scene.test, "agents", &event).await;
    assert_eq!(status, 204, "{text}");
}

/// The address that the audit log has of an agent's creation by an event with these headers.
async fn audited_address(test: &TestApp, headers: &[(&str, &str)]) -> String {
    let owner = test.owner().await;
    let bearer = format!("Bearer {}", owner.token);
    let headers = [&[("authorization", bearer.as_str()), ("content-type", "application/json")], headers].concat();
    let event = event("POST", "/api/agents", "", &headers, Some(r#"{"name":"Soporte"}"#));
    let before = test.db_dump().await;
    let (status, text) = invoke(test, "agents", &event).await;
    assert_eq!(status, 201, "{text}");
    let after = test.db_dump().await;
    let entries: Vec<_> = after.of("audit").filter(|entry| !before.of("audit").any(|known| known == *entry)).collect();
    assert_eq!(entries.len(), 1, "one entry for one command");
    entries[0]["ip"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_caller_is_where_the_gateway_says_and_not_where_headers_say() {
    let test = TestApp::new().await;
    assert_eq!(audited_address(&test, &[]).await, SOURCE);
    let spoofed = [
        ("x-forwarded-for", "198.51.100.9"),
        ("cloudfront-viewer-address", "198.51.100.9:4711"),
        ("x-real-ip", "198.51.100.9"),
        ("x-origin-secret", ""),
    ];
    assert_eq!(audited_address(&test, &spoofed).await, SOURCE);
}

#[tokio::test]
async fn the_cdn_is_believed_only_with_the_origin_secret() {
    let variables = vec![("CHATIA_ORIGIN_SECRET", "between us".to_owned())];
    let test = TestApp::with(Options { variables, ..Options::default() }).await;
    let from = |viewer: &'static str, secret: &'static str| {
        [("cloudfront-viewer-address", viewer), ("x-origin-secret", secret)]
    };
    assert_eq!(audited_address(&test, &from("198.51.100.9:4711", "between us")).await, "198.51.100.9");
    assert_eq!(audited_address(&test, &from("2001:db8::9:4711", "between us")).await, "2001:db8::9");
    assert_eq!(audited_address(&test, &from("198.51.100.9:4711", "a guess")).await, SOURCE);
    assert_eq!(audited_address(&test, &from("198.51.100.9:4711", "")).await, SOURCE);
    assert_eq!(audited_address(&test, &[("cloudfront-viewer-address", "198.51.100.9:4711")]).await, SOURCE);
}

#[tokio::test]
async fn visitors_are_counted_by_the_gateways_address() {
    let scene = Scene::new().await;
    let path = format!("/api/public/agents/{}/leads", scene.things.slug);
    let body = r#"{"name":"Ana"}"#;
    let from = |address: &str| {
        let mut event = event("POST", &path, "", &[("content-type", "application/json")], Some(body));
        event["requestContext"]["http"]["sourceIp"] = json!(address);
        event
    };
    let mut last = StatusCode::OK;
    for _ in 0..=25 {
        last = invoke(&scene.test, "chat", &from("203.0.113.50")).await.0;
    }
    assert_eq!(last, 429);
    assert_eq!(invoke(&scene.test, "chat", &from("203.0.113.51")).await.0, 201);
}
