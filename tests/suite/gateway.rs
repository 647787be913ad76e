//! What API Gateway makes of a call: the route of the template that it takes, and the event that the function behind it
//! is given. The HTTP API writes events of payload 2.0, the REST API, which streams, of payload 1.0.

use std::time::Duration;

use axum::http::{StatusCode, Uri};
use http_body_util::BodyExt as _;
use local::registry::{self, Entry};
use local::routes::Routes;
use local::template::{Source, Template};
use serde_json::{Value, json};
use shared::access::{Op, RateClass};
use shared::app::App;
use shared::http::serve;
use tests::requests::{Scene, rows, valid};
use tower::ServiceExt as _;

/// Where the gateway sees calls come from.
pub(crate) const SOURCE: &str = "203.0.113.7";

/// The stage of the REST API.
const STAGE: &str = "v1";

/// An event of the HTTP API: headers in lower case, the path decoded, cookies apart.
pub(crate) fn event(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: Option<&str>) -> Value {
    let mut event = json!({
        "version": "2.0",
        "routeKey": "ANY /{proxy+}",
        "rawPath": path,
        "rawQueryString": query,
        "cookies": ["theme=dark", "session=not-ours"],
        "headers": {
            "accept": "application/json",
            "host": "api.example.com",
            "x-forwarded-for": "198.51.100.1",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "api.example.com",
            "domainPrefix": "api",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": SOURCE, "userAgent": "test"},
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "ANY /{proxy+}",
            "stage": "$default",
            "time": "02/Mar/2026:09:00:00 +0000",
            "timeEpoch": 1_772_442_000_000_u64,
        },
        "isBase64Encoded": false,
    });
    for (name, value) in headers {
        event["headers"][*name] = json!(value);
    }
    if let Some(body) = body {
        event["body"] = json!(body);
    }
    event
}

/// The same call as the REST API writes it.
fn event_of_rest(method: &str, path: &str, route: &str, headers: &[(&str, &str)], body: Option<&str>) -> Value {
    let all = [("accept", "application/json"), ("host", "stream.example.com")].iter().chain(headers);
    let (mut single, mut multi) = (json!({}), json!({}));
    for (name, value) in all {
        single[*name] = json!(value);
        multi[*name] = json!([value]);
    }
    json!({
        "resource": route,
        "path": path,
        "httpMethod": method,
        "headers": single,
        "multiValueHeaders": multi,
        "queryStringParameters": null,
        "multiValueQueryStringParameters": null,
        "pathParameters": {},
        "stageVariables": null,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "stream-id",
            "domainName": "stream.example.com",
            "domainPrefix": "stream",
            "httpMethod": method,
            "identity": {"sourceIp": SOURCE, "userAgent": "test"},
            "path": format!("/{STAGE}{path}"),
            "protocol": "HTTP/1.1",
            "requestId": "00000000-0000-4000-8000-000000000003",
            "requestTime": "02/Mar/2026:09:00:00 +0000",
            "requestTimeEpoch": 1_772_442_000_000_u64,
            "resourceId": "abc123",
            "resourcePath": route,
            "stage": STAGE,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

/// Gives the event to the function of a binary.
pub(crate) async fn invoke(app: &App, binary: &str, event: &Value) -> (StatusCode, String) {
    let Some(Entry::Http(surface, group)) = registry::find(binary) else { panic!("{binary} answers no requests") };
    let router = serve::surface(app, surface, [group]);
    let mut request = lambda_http::request::from_str(&event.to_string()).expect("an event of the gateway");
    if event["requestContext"]["stage"] == STAGE {
        *request.uri_mut() = without_stage(request.uri());
    }
    let Ok(response) = router.oneshot(request).await;
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (parts.status, text)
}

/// The Lambda library puts the stage before the path unless `AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH` is set. The template
/// sets it; a test cannot, since its process has others' tests in it.
fn without_stage(uri: &Uri) -> Uri {
    let (before, after) =
        uri.to_string().split_once(&format!("/{STAGE}/")).map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    format!("{before}/{after}").parse().unwrap()
}

/// Both APIs, with the distribution before them.
pub(crate) struct Gateway {
    http: Routes<String>,
    rest: Routes<String>,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        let functions = Template::of_this_build().unwrap().functions;
        let of = |wanted: bool| {
            Routes::new(functions.iter().flat_map(move |function| {
                function.sources.iter().filter_map(move |source| match source {
                    Source::Http { method, path, streams } if *streams == wanted => {
                        Some((method.clone(), path.clone(), function.binary.clone()))
                    }
                    _ => None,
                })
            }))
        };
        Self { http: of(false), rest: of(true) }
    }

    /// The function that a call reaches, and the event that it is given. `path` is as the event has it; the route is
    /// found by the decoded one.
    pub(crate) fn takes(
        &self,
        (method, path, decoded): (&str, &str, &str),
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Option<(&str, Value)> {
        if let Some((binary, route)) = self.rest.find(method, decoded) {
            return Some((binary, event_of_rest(method, path, route, headers, body)));
        }
        let (binary, route) = self.http.find(method, decoded)?;
        let mut event = event(method, path, "", headers, body);
        event["routeKey"] = json!(format!("ANY {route}"));
        Some((binary, event))
    }
}

/// The binary that a row belongs to.
pub(crate) fn binary_of(op: &Op) -> String {
    let of = registry::SURFACES.iter().flat_map(|surface| surface.groups.iter().map(move |group| (surface, group)));
    let mut owners = of.filter(|(_, group)| (group.rows)().iter().any(|row| std::ptr::eq(row.op, op)));
    let (surface, group) = owners.next().unwrap();
    assert!(owners.next().is_none(), "{} is in two groups", op.id);
    format!("{}-{}", surface.name, group.name)
}

#[test]
fn no_route_is_there_twice() {
    let template = Template::of_this_build().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for function in &template.functions {
        for source in &function.sources {
            if let Source::Http { method, path, .. } = source {
                // What a parameter is called makes no route another one.
                let shape: Vec<_> =
                    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
                let shape = if path.ends_with("+}") { format!("{}+", shape.join("/")) } else { shape.join("/") };
                assert!(seen.insert((method.clone(), shape)), "{method:?} {path} of {}", function.binary);
            }
        }
    }
    let callback = Gateway::new();
    let (binary, _) = callback.takes(("POST", "/hooks/polar", "/hooks/polar"), &[], None).unwrap();
    assert_eq!(binary, "hooks-providers");
}

#[test]
fn every_row_takes_one_route_to_its_own_function_by_the_api_that_suits_it() {
    let gateway = Gateway::new();
    for op in rows() {
        let path = filled(op, "5k3v");
        let binary = binary_of(op);
        let streams = matches!(registry::find(&binary), Some(Entry::Http(_, group)) if group.streams);
        let (found, event) = gateway.takes((op.method, &path, &path), &[], None).unwrap();
        assert_eq!(found, binary, "{} {path}", op.method);
        assert_eq!(event.get("version").is_none(), streams, "{}: payload 1.0 is of the API that streams", op.id);
    }
}

fn filled(op: &Op, value: &str) -> String {
    let fill = |segment: &str| if segment.starts_with('{') { value.to_owned() } else { segment.to_owned() };
    op.path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Parameters as people and programs write them.
const ODD: [&str; 7] = ["5k3v", "two words", "ñandú ☎ 日本", "100%", "%41", "a+b", "@me.too&b=c;d"];

/// The event as it is of a caller elsewhere, so that no limit counts all of a test's calls together.
fn from_elsewhere(mut event: Value, number: u32) -> Value {
    let address = json!(std::net::Ipv4Addr::from(0xc633_6400 + number).to_string());
    match event["requestContext"].get("identity") {
        Some(_) => event["requestContext"]["identity"]["sourceIp"] = address,
        None => event["requestContext"]["http"]["sourceIp"] = address,
    }
    event
}

#[tokio::test]
async fn a_parameter_means_the_same_in_an_event_whether_the_gateway_decodes_it_or_not() {
    let (scene, gateway) = (Scene::new().await, Gateway::new());
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for op in rows().into_iter().filter(|op| op.path.contains('{')) {
        for value in ODD {
            let (decoded, path) = (filled(op, value), filled(op, &encoded(value)));
            if op.rate == RateClass::AiAssist {
                // Few of these may be made in a minute.
                scene.test.clock.advance(Duration::from_secs(61));
            }
            let (caller, body) = (scene.right_caller(op).await, valid(op, &scene.things).body);
            let answer = caller.call(op.method, &path, &[], body.clone()).await;
            let expected = (answer.status, answer.text);
            // A file that is not there is a path that is not there.
            let is_lost = !["asset", "auth_page"].contains(&op.id) && expected.1.contains("route_not_found");
            if is_lost || expected.0.is_server_error() {
                wrong.push(format!("{} {path}: {expected:?}", op.method));
            }
            let (bearer, body) = (caller.authorization(), body.map(|body| body.to_string()));
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
            // What reads as encoded and is not cannot be told apart once it is decoded.
            let forms = if value == "%41" { vec![&path] } else { vec![&path, &decoded] };
            for form in forms {
                asked += 1;
                let call = (op.method, form.as_str(), decoded.as_str());
                let (binary, event) = gateway.takes(call, &headers, body.as_deref()).unwrap();
                let given = invoke(&scene.test.app, binary, &from_elsewhere(event, asked)).await;
                if given != expected {
                    wrong.push(format!("{} {form}: {given:?} instead of {expected:?}", op.method));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked > 300, "{asked}");
}
