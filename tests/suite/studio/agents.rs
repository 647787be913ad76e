//! Building agents: creating, listing, changing, tools, deleting. What goes live is in `publishing.rs`.

use serde_json::{Value, json};
use shared::kernel::Cursor;
use tests::{Owner, TestApp};

use crate::contract::PROSE;

/// The bodies of the contract's quickstart, as printed: the agent's, then the webhook's.
pub(super) fn quickstart() -> Vec<Value> {
    let bodies = PROSE.split("-d '").skip(1).map(|rest| rest.split('\'').next().unwrap());
    bodies.map(|body| serde_json::from_str(body).expect("the quickstart is JSON")).collect()
}

async fn agent(owner: &Owner, id: u64) -> Value {
    owner.session.get(&format!("/api/agents/{id}")).await.expect(200)
}

#[tokio::test]
async fn the_quickstart_works_as_printed_with_a_key() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let key = owner.key().await;
    let [body, webhook] = &quickstart()[..] else { panic!("two bodies") };
    let agent = key.post("/api/developers/agents", body.clone()).await.expect(201);
    assert_eq!((&agent["name"], &agent["system_prompt"]), (&body["name"], &body["system_prompt"]));
    assert_eq!((&agent["is_published"], &agent["public_slug"]), (&json!(true), &json!("soporte")));
    assert_eq!(agent["public_url"], "http://127.0.0.1:8000/soporte");
    let tools: Vec<_> = agent["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(json!(tools), body["tools"]);
    let webhook = key.post("/api/developers/webhooks", webhook.clone()).await.expect(201);
    assert_eq!((&webhook["events"], &webhook["is_active"]), (&Value::Null, &json!(true)));
    test.anonymous().get("/api/public/agents/soporte").await.expect(200);
    let listed = key.get("/api/developers/agents").await.expect(200);
    assert_eq!(listed["items"][0]["id"], agent["id"]);
    // What the contract says to watch is there for a key too.
    let account = key.get("/api/billing/account").await.expect(200);
    assert_eq!((&account["agents_used"], &account["agents_limit"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_new_agent_is_a_draft_with_what_was_given() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = json!({
        "name": "  Ventas  ", "description": "Sells.", "system_prompt": "Be brief.", "provider": "openai",
        "model": "gpt-5.4-mini", "greeting_message": "Hola", "fallback_message": "Un momento",
        "config": {"ai": {"base_url": "https://models.example.com/v1"}, "kapso": {"phone_number_id": "123"}},
        "widget": {"accent": "#10b981", "suggested_questions": ["¿Precio?"]},
    });
    let made = owner.session.post("/api/agents", body).await.expect(201);
    assert_eq!(made["name"], "Ventas");
    assert_eq!(
        (&made["status"], &made["is_published"], &made["version"]),
        (&json!("draft"), &json!(false), &json!("1.0"))
    );
    assert_eq!(
        (&made["public_slug"], &made["public_url"], &made["published_at"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(made["owner_id"].as_u64(), Some(owner.user_id));
    assert_eq!(
        made["config"],
        json!({
            "ai": {"has_api_key": false, "base_url": "https://models.example.com/v1"},
            "kapso": {"has_api_key": false, "has_webhook_secret": false, "phone_number_id": "123",
                "callback_url": "http://127.0.0.1:8000/hooks/whatsapp/kapso/123"},
            "whatsapp": {"provider": "meta", "phone_number_id": null, "has_access_token": false,
                "has_app_secret": false, "has_verify_token": false, "callback_url": null},
        })
    );
    assert_eq!((&made["widget"]["accent"], &made["enabled"]), (&json!("#10b981"), &json!(true)));
    assert_eq!(agent(&owner, made["id"].as_u64().unwrap()).await, made, "reading shows what creating showed");
}

#[tokio::test]
async fn the_first_agent_becomes_the_default_one_and_its_deletion_promotes_another() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (first, second) = (owner.agent("Uno").await, owner.agent("Dos").await);
    let default =
        async || owner.session.get("/api/auth/me").await.expect(200)["workspace"]["default_agent_id"].as_u64();
    assert_eq!(default().await, Some(first.id));
    let path = format!("/api/agents/{}?confirmation=Uno", first.id);
    assert_eq!(owner.session.delete(&path).await.status, 204);
    assert_eq!(default().await, Some(second.id));
}

#[tokio::test]
async fn an_agent_that_breaks_a_rule_names_the_field_and_is_not_made() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let before = test.db_dump().await;
    let cases = [
        (json!({"name": ""}), "name"),
        (json!({"name": "   "}), "name"),
        (json!({"name": "n".repeat(121)}), "name"),
        (json!({"name": "a\u{7}b"}), "name"),
        (json!({"name": "x", "description": "d".repeat(2_001)}), "description"),
        (json!({"name": "x", "system_prompt": "s".repeat(32_001)}), "system_prompt"),
        (json!({"name": "x", "greeting_message": "g".repeat(1_001)}), "greeting_message"),
        (json!({"name": "x", "tools": ["capture_lead", "rm_rf"]}), "tools"),
        (json!({"name": "x", "config": {"ai": {"base_url": "http://169.254.169.254/latest"}}}), "config.ai.base_url"),
        (json!({"name": "x", "config": {"ai": {"base_url": "not a url"}}}), "config.ai.base_url"),
        (json!({"name": "x", "widget": {"accent": "red"}}), "widget.accent"),
        (json!({"name": "x", "widget": {"avatar": "javascript:alert(1)"}}), "widget.avatar"),
        (
            json!({"name": "x", "widget": {"suggested_questions": ["?", "?", "?", "?", "?", "?", "?"]}}),
            "widget.suggested_questions",
        ),
    ];
    for (body, field) in cases {
        let answer = owner.session.post("/api/agents", body.clone()).await.expect(422);
        assert_eq!(answer["field"], field, "{body}: {answer}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
    let longest = json!({"name": "ñ".repeat(120), "system_prompt": "ñ".repeat(32_000)});
    owner.session.post("/api/agents", longest).await.expect(201);
}

#[tokio::test]
async fn a_list_gives_every_agent_once_newest_first() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let mut made = Vec::new();
    for number in 0..25 {
        made.push(owner.agent_with(json!({"name": format!("Agent {number}")})).await.id);
    }
    made.reverse();
    let default = owner.session.get("/api/agents").await.expect(200);
    assert_eq!(default["items"].as_array().unwrap().len(), 20, "twenty unless it is said");
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = owner.session.get(&format!("/api/agents?limit=10{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|agent| agent["id"].as_u64().unwrap()));
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen), (3, made));
    let exact = owner.session.get("/api/agents?limit=25").await.expect(200);
    assert_eq!(exact["next_cursor"], Value::Null, "a last page that is full says that it is the last");
}

#[tokio::test]
async fn a_limit_outside_its_bounds_and_a_cursor_that_is_not_ours_are_refused() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for limit in ["0", "101", "-1", "4294967296", "ten", "1.5", ""] {
        let answer = owner.session.get(&format!("/api/agents?limit={limit}")).await.expect(422);
        assert_eq!(answer["field"], "limit", "{limit}: {answer}");
    }
    for limit in [1, 100] {
        owner.session.get(&format!("/api/agents?limit={limit}")).await.expect(200);
    }
    for cursor in ["rubbish", "MQphZ2VudHM", "!!", "", "MQpsZWFkcwpBRyM"] {
        let answer = owner.session.get(&format!("/api/agents?cursor={cursor}")).await.expect(422);
        assert_eq!(answer["field"], "cursor", "{cursor}: {answer}");
    }
}

#[tokio::test]
async fn a_cursor_of_another_owner_shows_nothing_of_theirs() {
    let test = TestApp::new().await;
    let (one, other) = (test.owner().await, test.owner().await);
    for owner in [&one, &other] {
        for number in 0..3 {
            owner.agent_with(json!({"name": format!("{number}")})).await;
        }
    }
    let page = one.session.get("/api/agents?limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = other.session.get(&format!("/api/agents?cursor={cursor}")).await.expect(200);
    let owners: Vec<_> = page["items"].as_array().unwrap().iter().map(|agent| agent["owner_id"].as_u64()).collect();
    assert!(owners.iter().all(|owner| *owner == Some(other.user_id)), "{page}");
}

#[tokio::test]
async fn a_forged_cursor_breaks_nothing() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    owner.agent_with(json!({"name": "Uno"})).await;
    let long = format!("AG#{}", "z".repeat(3_000));
    for position in [long.as_str(), "~", "\u{10ffff}", "A", "\u{0}", "WS", "AG#\u{0}"] {
        let cursor = Cursor { position: position.to_owned() }.encode("agents");
        let answer = owner.session.get(&format!("/api/agents?cursor={cursor}")).await;
        assert!(answer.status == 200 || answer.status == 422, "{position:?}: {}", answer.text);
        assert!(!answer.text.contains(&owner.email), "{position:?} shows more than agents: {}", answer.text);
    }
}

#[tokio::test]
async fn a_change_keeps_what_is_absent_clears_what_is_null_and_sets_the_rest() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let full = json!({
        "name": "Ventas", "description": "d", "system_prompt": "s", "provider": "openai", "model": "m",
        "greeting_message": "g", "fallback_message": "f", "widget": {"accent": "#10b981"},
        "config": {"ai": {"base_url": "https://models.example.com"}, "kapso": {"phone_number_id": "1"}},
    });
    let id = owner.agent_with(full).await.id;
    let path = format!("/api/agents/{id}");
    let before = agent(&owner, id).await;
    test.clock.advance(std::time::Duration::from_secs(60));
    let kept = owner.session.patch(&path, json!({})).await.expect(200);
    for field in [
        "name",
        "description",
        "system_prompt",
        "provider",
        "model",
        "greeting_message",
        "fallback_message",
        "config",
        "widget",
        "version",
    ] {
        assert_eq!(kept[field], before[field], "{field} is absent and stays");
    }
    assert_eq!(kept["updated_at"], "2040-03-05T09:01:00.000Z");
    for field in ["description", "provider", "model", "greeting_message", "fallback_message"] {
        let set = owner.session.patch(&path, json!({field: "other"})).await.expect(200);
        assert_eq!(set[field], "other");
        let cleared = owner.session.patch(&path, json!({field: null})).await.expect(200);
        assert_eq!(cleared[field], Value::Null, "{field} is null and is cleared");
    }
    let nested = json!({"config": {"ai": {"base_url": null}, "kapso": {"phone_number_id": "2"}}});
    let changed = owner.session.patch(&path, nested).await.expect(200);
    assert_eq!(
        (&changed["config"]["ai"]["base_url"], &changed["config"]["kapso"]["phone_number_id"]),
        (&Value::Null, &json!("2"))
    );
    let cleared = owner.session.patch(&path, json!({"system_prompt": null, "widget": null})).await.expect(200);
    assert_eq!((&cleared["system_prompt"], &cleared["widget"]["accent"]), (&json!(""), &Value::Null));
    assert_eq!(owner.session.patch(&path, json!({"name": null})).await.expect(422)["field"], "name");
    assert_eq!(agent(&owner, id).await["name"], "Ventas");
}

#[tokio::test]
async fn a_change_that_breaks_a_rule_changes_nothing() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let id = owner.agent_with(json!({"name": "Ventas"})).await.id;
    let before = test.db_dump().await;
    for (body, field) in [
        (json!({"description": "fine", "name": ""}), "name"),
        (json!({"greeting_message": "fine", "system_prompt": "s".repeat(32_001)}), "system_prompt"),
        (json!({"config": {"ai": {"api_key": "sk-1", "base_url": "ftp://x.example.com"}}}), "config.ai.base_url"),
    ] {
        let answer = owner.session.patch(&format!("/api/agents/{id}"), body).await.expect(422);
        assert_eq!(answer["field"], field, "{answer}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn two_changes_at_once_are_both_kept() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let id = owner.agent_with(json!({"name": "Ventas"})).await.id;
    let path = format!("/api/agents/{id}");
    let (one, other) = tokio::join!(
        owner.session.patch(&path, json!({"description": "d"})),
        owner.session.patch(&path, json!({"greeting_message": "g"})),
    );
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (200, 200));
    let now = agent(&owner, id).await;
    assert_eq!((&now["description"], &now["greeting_message"]), (&json!("d"), &json!("g")));
}

#[tokio::test]
async fn keys_are_write_only() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (ai, kapso) = ("sk-live-4f9a8b7c6d5e", "kapso-1a2b3c4d5e6f");
    let body =
        json!({"name": "Ventas", "publish": true, "config": {"ai": {"api_key": ai}, "kapso": {"api_key": kapso}}});
    let made = owner.session.post("/api/agents", body).await;
    let path = format!("/api/agents/{}", made.json()["id"]);
    let mut answers = vec![made];
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({"config": {"kapso": {"phone_number_id": "2"}}}))),
        ("GET", "/api/agents".into(), None),
        ("GET", "/api/developers/agents".into(), None),
        ("POST", format!("{path}/publish"), None),
        ("GET", "/api/public/agents/ventas".into(), None),
    ] {
        answers.push(owner.session.call(method, &path, &[], body).await);
    }
    for answer in &answers {
        assert!(answer.status.is_success(), "{}", answer.text);
        assert!(!answer.text.contains(ai) && !answer.text.contains(kapso), "{}", answer.text);
    }
    let dump = test.db_dump().await;
    assert!(!dump.contains(ai) && !dump.contains(kapso), "a key lies in the table in clear");
    let shown = answers[1].json();
    assert_eq!(
        (&shown["config"]["ai"]["has_api_key"], &shown["config"]["kapso"]["has_api_key"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        answers[2].json()["config"]["ai"]["has_api_key"],
        true,
        "a change that is silent about the key keeps it"
    );
    // A key is for the server that it was given for: whoever points the agent elsewhere must know the key.
    let moved = json!({"config": {"ai": {"base_url": "https://models.example.com"}}});
    let removed = owner.session.patch(&path, moved).await.expect(200);
    assert_eq!(
        (&removed["config"]["ai"]["has_api_key"], &removed["config"]["kapso"]["has_api_key"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(test.db_dump().await.of("agent_secret").count(), 1);
}

#[tokio::test]
async fn a_tool_is_attached_once_and_configured_after() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/agents/{}/tools", agent.id);
    assert_eq!(owner.session.get(&path).await.expect(200), json!({"items": [], "next_cursor": null, "total": 0}));
    let form = async || {
        test.anonymous().get(&format!("/api/public/agents/{}", agent.slug)).await.expect(200)["lead_form"].clone()
    };
    assert_eq!(form().await, false);
    let first = owner.session.post(&path, json!({"name": "capture_lead"})).await.expect(201);
    assert_eq!(first["agent_id"], json!(agent.id));
    assert_eq!(
        (&first["is_active"], &first["config_status"], &first["missing_fields"]),
        (&json!(true), &json!("complete"), &json!([]))
    );
    assert_eq!(first["schema"]["type"], "object");
    assert_eq!(form().await, true);
    let again = owner.session.post(&path, json!({"name": "capture_lead", "is_active": false})).await.expect(200);
    assert_eq!(again["is_active"], false);
    assert_eq!(form().await, false, "a tool that is switched off is not offered");
    let again = owner.session.post(&path, json!({"name": "capture_lead"})).await.expect(200);
    assert_eq!(again["is_active"], false, "absent keeps what there is");
    assert_eq!(owner.session.get(&path).await.expect(200)["total"], 1);
    assert_eq!(owner.session.delete(&format!("{path}/capture_lead")).await.status, 204);
    assert_eq!(owner.session.delete(&format!("{path}/capture_lead")).await.code(404), "not_found");
    assert_eq!(owner.session.delete(&format!("{path}/rm_rf")).await.code(404), "not_found");
    assert_eq!(owner.session.get(&path).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn an_unknown_tool_is_refused_with_the_names_of_the_known_ones() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let before = test.db_dump().await;
    let path = format!("/api/agents/{}/tools", agent.id);
    for name in ["rm_rf", "", "Capture_Lead", "@anychat/tool.capture-lead"] {
        let answer = owner.session.post(&path, json!({"name": name})).await.expect(422);
        assert_eq!(answer["field"], "name", "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains("capture_lead"), "{answer}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
}

#[tokio::test]
async fn a_web_request_waits_for_its_hosts_and_keeps_its_headers_secret() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/agents/{}/tools", agent.id);
    let waiting = owner.session.post(&path, json!({"name": "http_request"})).await.expect(201);
    assert_eq!(
        (&waiting["config_status"], &waiting["missing_fields"]),
        (&json!("incomplete"), &json!(["allowed_hosts"]))
    );
    let secret = "Bearer tok-9f8e7d6c5b4a";
    let config = json!({"allowed_hosts": ["api.example.com"], "headers": {"authorization": secret}});
    let ready = owner.session.post(&path, json!({"name": "http_request", "config": config})).await;
    let shown = ready.json();
    assert_eq!((&shown["config_status"], &shown["has_secret_headers"]), (&json!("complete"), &json!(true)));
    assert_eq!(shown["config"], json!({"allowed_hosts": ["api.example.com"]}));
    let changed = json!({"name": "http_request", "config": {"allowed_hosts": ["api.example.com"], "note": "orders"}});
    let changed = owner.session.post(&path, changed).await;
    assert_eq!(changed.json()["has_secret_headers"], true, "headers that are not sent stay");
    let moved = json!({"name": "http_request", "config": {"allowed_hosts": ["evil.example.com"]}});
    let moved = owner.session.post(&path, moved).await.expect(200);
    assert_eq!(moved["has_secret_headers"], false, "but not for other hosts than they were given for");
    for answer in
        [ready, changed, owner.session.get(&path).await, owner.session.get(&format!("/api/agents/{}", agent.id)).await]
    {
        assert!(answer.status.is_success() && !answer.text.contains("tok-9f8e"), "{}", answer.text);
    }
    assert!(!test.db_dump().await.contains("tok-9f8e"), "a secret header lies in the table in clear");
    assert_eq!(owner.session.delete(&format!("{path}/http_request")).await.status, 204);
    let anew = owner.session.post(&path, json!({"name": "http_request"})).await.expect(201);
    assert_eq!(anew["has_secret_headers"], false, "secrets go with their tool");
}

#[tokio::test]
async fn a_tools_configuration_is_checked() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/agents/{}/tools", agent.id);
    for (config, field) in [
        (json!({"allowed_hosts": []}), "config.allowed_hosts"),
        (json!({"allowed_hosts": "api.example.com"}), "config.allowed_hosts"),
        (json!({"allowed_hosts": null}), "config.allowed_hosts"),
        (json!({"allowed_hosts": ["https://api.example.com"]}), "config.allowed_hosts"),
        (json!({"allowed_hosts": ["user@api.example.com"]}), "config.allowed_hosts"),
        (json!({"allowed_hosts": [5]}), "config.allowed_hosts"),
        (json!({"allowed_hosts": ["api.example.com"], "headers": {"x": 5}}), "config.headers"),
        (json!({"allowed_hosts": ["api.example.com"], "headers": []}), "config.headers"),
        (json!({"allowed_hosts": ["api.example.com"], "notes": "n".repeat(8 * 1024)}), "config"),
    ] {
        let answer = owner.session.post(&path, json!({"name": "http_request", "config": config})).await.expect(422);
        assert_eq!(answer["field"], field, "{config}: {answer}");
    }
    assert_eq!(owner.session.get(&path).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_deletion_asks_for_the_exact_name() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte Técnico").await;
    let path = format!("/api/agents/{}", agent.id);
    let before = test.db_dump().await;
    for body in [
        json!({"confirmation": "soporte técnico"}),
        json!({"confirmation": "Soporte Técnico "}),
        json!({"confirmation": ""}),
        json!({"confirmation": null}),
        json!({}),
    ] {
        let answer = owner.session.call("DELETE", &path, &[], Some(body.clone())).await;
        assert_eq!(answer.code(400), "confirmation_mismatch", "{body}");
    }
    assert_eq!(owner.session.delete(&path).await.code(400), "confirmation_mismatch");
    assert_eq!(owner.session.delete(&format!("{path}?confirmation=Soporte")).await.code(400), "confirmation_mismatch");
    assert!(test.db_dump().await.changes_since(&before).is_empty());
    let deleted = owner.session.delete(&format!("{path}?confirmation=Soporte%20T%C3%A9cnico")).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
}

#[tokio::test]
async fn a_deleted_agent_is_gone_everywhere_and_its_address_stays_taken() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Soporte", "publish": true, "tools": ["capture_lead"], "config": {"ai": {"api_key": "sk-1"}}})).await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let path = format!("/api/agents/{}", agent.id);
    let confirmation = Some(json!({"confirmation": "Soporte"}));
    assert_eq!(owner.session.call("DELETE", &path, &[], confirmation.clone()).await.status, 204);
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({"name": "x"}))),
        ("POST", format!("{path}/publish"), None),
        ("POST", format!("{path}/unpublish"), None),
        ("GET", format!("{path}/tools"), None),
        ("POST", format!("{path}/tools"), Some(json!({"name": "capture_lead"}))),
        ("DELETE", format!("{path}/tools/capture_lead"), None),
        ("DELETE", path.clone(), confirmation),
        ("GET", format!("/api/public/agents/{}", agent.slug), None),
        ("POST", format!("/api/public/agents/{}/leads", agent.slug), Some(json!({"name": "Ana"}))),
        ("GET", format!("/{}", agent.slug), None),
    ] {
        assert_eq!(owner.session.call(method, &path, &[], body).await.code(404), "not_found", "{method} {path}");
    }
    assert_eq!(visitor.send("Hello again").await.code(404), "not_found");
    assert_eq!(owner.session.get("/api/agents").await.expect(200)["items"], json!([]));
    let dump = test.db_dump().await;
    let left = ["agent", "agent_slug", "live", "section", "tool_binding", "agent_secret"].map(|et| dump.of(et).count());
    assert_eq!(left, [0; 6], "nothing of the agent is left but its public address");
    let next = owner.agent("Soporte").await;
    assert_ne!(next.slug, agent.slug);
}

#[tokio::test]
async fn the_conversations_and_leads_of_a_deleted_agent_stay_readable() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    visitor.persona.post(&form, json!({"name": "Ana"})).await.expect(201);
    let conversation = owner.conversations(&agent).await[0]["id"].as_u64().unwrap();
    let path = format!("/api/agents/{}?confirmation=Soporte", agent.id);
    assert_eq!(owner.session.delete(&path).await.status, 204);
    let listed = owner.conversations(&agent).await;
    assert_eq!((listed.len(), &listed[0]["agent_name"]), (1, &json!("Soporte")));
    assert_eq!(owner.conversation(&agent, conversation).await["messages"].as_array().unwrap().len(), 2);
    let leads = owner.session.get(&format!("/api/clients/me/agents/{}/leads", agent.id)).await.expect(200);
    assert_eq!(leads["items"][0]["name"], "Ana");
}

#[tokio::test]
async fn an_id_that_is_none_is_not_found() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for id in ["0", "x", "-1", "1.5", "9007199254740992", "99999999999999999999999", "agent_01h", "%00", "1%2F2"] {
        assert_eq!(owner.session.get(&format!("/api/agents/{id}")).await.status, 404, "{id}");
    }
}

#[tokio::test]
async fn a_hundred_drafts_are_kept_and_no_more() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = owner.agent_with(json!({"name": "Borrador"})).await;
    test.db_drafts(&owner, first.id, 98).await;
    owner.agent_with(json!({"name": "Borrador"})).await;
    assert_eq!(owner.session.post("/api/agents", json!({"name": "Borrador"})).await.code(402), "agent_limit_reached");
}
