//! What a model may send with its tools: each tool's own schema, and what the owner adds to it.

use serde_json::{Value, json};
use shared::ports::llm::Message;
use tests::{Agent, Owner, ScriptedModel, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

struct Scene {
    test: TestApp,
    model: ScriptedModel,
    owner: Owner,
    agent: Agent,
    service: MockServer,
}

impl Scene {
    async fn new() -> Self {
        let (model, service) = (ScriptedModel::new(), MockServer::start().await);
        Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string("{}")).mount(&service).await;
        let test = TestApp::with_model(model.clone()).await;
        let owner = test.owner().await;
        let tools = ["capture_lead", "schedule_appointment", "send_whatsapp_handoff"];
        let agent = owner.agent_with(json!({"name": "Luna", "tools": tools, "publish": true})).await;
        Self { test, model, owner, agent, service }
    }

    fn path(&self) -> String {
        format!("/api/agents/{}/tools", self.agent.id)
    }

    /// Lets the model call the service, as the owner configures it.
    async fn web_request(&self, more: Value) -> Value {
        let mut config = json!({"allowed_hosts": [self.service.address().to_string()]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let tool = self.owner.session.post(&self.path(), json!({"name": "http_request", "config": config})).await;
        assert!(tool.status.is_success(), "{}", tool.text);
        tool.json()
    }

    /// What the model is told of a call that it makes.
    async fn told(&self, tool: &str, arguments: Value) -> (String, bool) {
        self.model.calls(tool, arguments);
        self.model.says("done");
        self.test.visitor(&self.agent).says("Go on.").await;
        let heard = self.model.heard();
        match heard.last().unwrap().messages.last().unwrap() {
            Message::ToolResult { content, is_error, .. } => (content.clone(), *is_error),
            other => panic!("{other:?}"),
        }
    }

    /// The bodies that the service got.
    async fn sent(&self) -> Vec<String> {
        let requests = self.service.received_requests().await.unwrap();
        requests.iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect()
    }
}

#[tokio::test]
async fn arguments_of_every_tool_are_held_against_its_schema_and_the_field_is_named() {
    let scene = Scene::new().await;
    scene.web_request(json!({})).await;
    let url = scene.service.uri();
    let cases = [
        ("capture_lead", json!({"email": ["a@example.com"]}), "email: value is not of type"),
        ("capture_lead", json!({"email": "a@example.com", "phone": 5}), "phone: value is not of type"),
        ("schedule_appointment", json!({"name": "Ana"}), "when\\\" is a required property"),
        ("schedule_appointment", json!({"when": null}), "when: value is not of type"),
        ("send_whatsapp_handoff", json!({"reason": {"text": "help"}}), "reason: value is not of type"),
        ("send_whatsapp_handoff", json!("{\"reason\": \"cut"), "value is not of type \\\"object"),
        ("http_request", json!({"method": "BREW", "url": url}), "method: value is not one of"),
        ("http_request", json!({"method": "POST", "url": url, "body": "{}"}), "body: value is not of type"),
    ];
    for (tool, arguments, expected) in cases {
        let (told, is_error) = scene.told(tool, arguments.clone()).await;
        assert!(is_error && told.contains(expected), "{tool} {arguments}: {told}");
    }
    assert!(scene.sent().await.is_empty());
    let leads = scene.owner.session.get(&format!("/api/clients/me/agents/{}/leads", scene.agent.id)).await.expect(200);
    assert!(leads["items"].as_array().unwrap().is_empty(), "{leads}");
    let kinds: Vec<String> = scene.test.workers().events().await.into_iter().map(|event| event.kind).collect();
    assert!(!kinds.contains(&"handoff.requested".to_owned()), "{kinds:?}");
}

#[tokio::test]
async fn what_a_model_leaves_out_it_may_call_null() {
    let scene = Scene::new().await;
    let arguments = json!({"name": null, "email": "ana@example.com", "phone": null, "interest": null});
    let (told, is_error) = scene.told("capture_lead", arguments).await;
    assert!(!is_error && told.contains("ana@example.com"), "{told}");
}

fn order() -> Value {
    json!({"$ref": "#/$defs/order", "$defs": {"order": {
        "type": "object", "additionalProperties": false, "required": ["sku", "count"],
        "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9}}}}})
}

#[tokio::test]
async fn a_body_leaves_only_if_it_fits_what_the_owner_says() {
    let scene = Scene::new().await;
    let tool = scene.web_request(json!({"methods": ["POST", "GET"], "body_schema": order()})).await;
    assert_eq!(tool["config"]["body_schema"], order(), "as the owner wrote it");
    assert_eq!(tool["schema"]["properties"]["body"]["required"], json!(["sku", "count"]), "as the model is offered it");
    let call = |method: &str, body: Value| json!({"method": method, "url": scene.service.uri(), "body": body});
    let refused = [
        (call("POST", json!({"sku": "ABC-1"})), "body: \\\"count\\\" is a required property"),
        (call("POST", json!({"sku": "abc", "count": 2})), "body/sku: value does not match"),
        (call("POST", json!({"sku": "ABC-1", "count": 10})), "body/count: value is greater than the maximum of 9"),
        (call("POST", json!({"sku": "ABC-1", "count": 2, "discount": 100})), "'discount' was unexpected"),
        (call("POST", Value::Null), "\\\"body\\\" is a required property"),
        (json!({"method": "POST", "url": scene.service.uri()}), "\\\"body\\\" is a required property"),
        (call("GET", json!({"note": "hidden"})), "'note' was unexpected"),
        (call("DELETE", json!({"sku": "ABC-1", "count": 1})), "method: value is not one of"),
    ];
    for (arguments, expected) in refused {
        let (told, is_error) = scene.told("http_request", arguments.clone()).await;
        assert!(is_error && told.contains(expected), "{arguments}: {told}");
    }
    assert!(scene.sent().await.is_empty(), "nothing left");
    scene.told("http_request", call("POST", json!({"sku": "ABC-1", "count": 2}))).await;
    scene.told("http_request", json!({"method": "GET", "url": scene.service.uri()})).await;
    assert_eq!(scene.sent().await, ["{\"sku\":\"ABC-1\",\"count\":2}", ""]);
    let offered = scene.model.heard().last().unwrap().tools.clone();
    let offered = offered.iter().find(|tool| tool.name == "http_request").unwrap().parameters.clone();
    assert_eq!((&offered, &offered["properties"]["method"]["enum"]), (&tool["schema"], &json!(["GET", "POST"])));
    assert!(!offered.to_string().contains("$ref"), "providers differ in what references they follow");
}

#[tokio::test]
async fn a_body_schema_is_checked_when_the_tool_is_configured_and_nothing_is_stored() {
    let scene = Scene::new().await;
    let before = scene.test.db_dump().await;
    let cases = [
        (json!({"body_schema": "object"}), "config.body_schema", "must be an object"),
        (json!({"body_schema": {"type": "objct"}}), "config.body_schema", "not usable"),
        (json!({"body_schema": {"$ref": "https://evil.example/s.json"}}), "config.body_schema", "schema itself only"),
        (json!({"body_schema": {"pattern": "(?=a)"}}), "config.body_schema", "not usable"),
        (json!({"body_schema": {"$id": "https://evil.example"}}), "config.body_schema", "not known here"),
        (json!({"methods": []}), "config.methods", "must list some of GET"),
        (json!({"methods": ["TRACE"]}), "config.methods", "must list some of GET"),
        (json!({"methods": "GET"}), "config.methods", "must list some of GET"),
    ];
    for (mut config, field, why) in cases {
        config["allowed_hosts"] = json!(["api.example.com"]);
        let body = json!({"name": "http_request", "config": config});
        let answer = scene.owner.session.post(&scene.path(), body).await.expect(422);
        assert_eq!((&answer["code"], &answer["field"]), (&json!("validation_error"), &json!(field)), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(why), "{answer}");
    }
    assert!(scene.test.db_dump().await.changes_since(&before).is_empty());
}
