//! Addresses that nobody may make us call, on every way that takes one.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use shared::ports::egress::Url;
use shared::ports::llm::{Llm, Message};
use tests::{Options, ScriptedModel, TestApp};

/// Addresses of ours, of the machine, of the cloud, of private networks; written as they are and as they are not.
const FORBIDDEN: &[&str] = &[
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.1./",
    "https://127.255.255.254/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0X7F.0.0.0X1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://2130706433/",
    "https://%31%32%37.0.0.1/",
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://10.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.0.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://0xa9fea9fe/",
    "https://2852039166/",
    "https://169.254.170.2/v2/credentials",
    "https://192.0.0.1/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:db8::1]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://api.localhost/",
    "https://ⓛocalhost/",
    "http://127.0.0.1/",
    "http://example.com/",
    "http://8.8.8.8/",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://:secret@example.com/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://8.8.8.8:53/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "//example.com/",
    "https://",
    "https:///",
    "example.com",
];

async fn scene() -> (TestApp, ScriptedModel) {
    let model = ScriptedModel::new();
    let llm: Option<Arc<dyn Llm>> = Some(Arc::new(model.clone()));
    // As in production: nothing is allowed besides what is public.
    let variables = vec![("CHATIA_EGRESS_ALLOW", String::new())];
    (TestApp::with(Options { llm, variables, ..Options::default() }).await, model)
}

#[test]
fn there_are_more_than_sixty_of_them() {
    let different: HashSet<_> = FORBIDDEN.iter().collect();
    assert!(different.len() == FORBIDDEN.len() && FORBIDDEN.len() > 60, "{}", FORBIDDEN.len());
}

#[tokio::test]
async fn no_webhook_listens_there() {
    let (test, _) = scene().await;
    let owner = test.owner().await;
    let fine = json!({"name": "crm", "url": "https://crm.example.com/in"});
    let made = owner.session.post("/api/developers/webhooks", fine).await.expect(201);
    let path = format!("/api/developers/webhooks/{}", made["id"]);
    let before = test.db_dump().await;
    for url in FORBIDDEN {
        let answer = owner.session.post("/api/developers/webhooks", json!({"name": "crm", "url": url})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (422, &json!("url")), "{url}: {}", answer.text);
        let answer = owner.session.patch(&path, json!({"url": url})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (422, &json!("url")), "{url}: {}", answer.text);
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn no_model_is_asked_there() {
    let (test, _) = scene().await;
    let owner = test.owner().await;
    let agent = owner.agent("Luna").await;
    let path = format!("/api/agents/{}", agent.id);
    for url in FORBIDDEN {
        let config = json!({"ai": {"base_url": url, "api_key": "sk-1"}});
        let body = json!({"name": "Luna", "provider": "openai", "config": config});
        for answer in [
            owner.session.post("/api/developers/agents", body).await,
            owner.session.patch(&path, json!({"config": config})).await,
        ] {
            let field = &answer.json()["field"];
            assert_eq!((answer.status.as_u16(), field), (422, &json!("config.ai.base_url")), "{url}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn no_tool_calls_there_although_its_owner_allows_it() {
    let (test, model) = scene().await;
    let owner = test.paying_owner().await;
    let agent = owner.agent("Luna").await;
    let path = format!("/api/agents/{}/tools", agent.id);
    // Each host stands in the list as the tool compares it, so that nothing but the guard refuses.
    let host = |url: &&str| {
        let url = Url::parse(url).ok()?;
        let host = url.host_str().filter(|host| !host.is_empty())?.to_owned();
        Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
    };
    let hosts: HashSet<String> = FORBIDDEN.iter().filter_map(host).collect();
    owner.session.post(&path, json!({"name": "http_request", "config": {"allowed_hosts": hosts}})).await.expect(201);
    owner.session.post(&format!("/api/agents/{}/publish", agent.id), json!({})).await.expect(200);
    let mut visitor = test.visitor(&agent);
    for url in FORBIDDEN {
        model.calls("http_request", json!({"method": "GET", "url": url}));
        model.says("done");
        visitor.says("Call it.").await;
        let heard = model.heard();
        let Some(Message::ToolResult { is_error, content, .. }) = heard.last().unwrap().messages.last() else {
            panic!("{url}: no result")
        };
        assert!(*is_error && !content.contains("Calls to"), "{url}: {content}");
    }
}
