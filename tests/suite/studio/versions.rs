//! Versions of an agent: kept at each publication, compared, brought back; and the log of who did it.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Owner, TestApp};

async fn set() -> (TestApp, Owner, u64, String) {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let body = json!({"name": "Soporte", "system_prompt": "We are open from 9 to 18.", "tools": ["capture_lead"]});
    let agent = owner.session.post("/api/agents", body).await.expect(201)["id"].as_u64().unwrap();
    (test, owner, agent, format!("/api/agents/{agent}"))
}

async fn publish(owner: &Owner, path: &str) -> Value {
    owner.session.post(&format!("{path}/publish"), Value::Null).await.expect(200)
}

#[tokio::test]
async fn each_publication_is_kept_and_an_edit_is_not() {
    let (_test, owner, _, path) = set().await;
    let versions = async || owner.session.get(&format!("{path}/versions")).await.expect(200)["items"].clone();
    assert_eq!(versions().await, json!([]), "nothing was published yet");
    publish(&owner, &path).await;
    owner.session.patch(&path, json!({"system_prompt": "We are open from 8 to 20."})).await.expect(200);
    publish(&owner, &path).await;
    let list = versions().await;
    let numbers: Vec<_> =
        list.as_array().unwrap().iter().map(|one| (one["number"].clone(), one["version"].clone())).collect();
    assert_eq!(numbers, [(json!(2), json!("1.2")), (json!(1), json!("1.1"))]);
    assert!(list[0]["author"].as_str().unwrap().starts_with("user_"));
    let first = owner.session.get(&format!("{path}/versions/1")).await.expect(200);
    assert_eq!(first["body"]["playbooks"][0]["body"], "We are open from 9 to 18.");
    assert_eq!(owner.session.get(&format!("{path}/versions/3")).await.code(404), "not_found");
    let other = _test.owner().await;
    assert_eq!(other.session.get(&format!("{path}/versions/1")).await.code(404), "not_found");
}

#[tokio::test]
async fn what_is_different_is_told_by_field() {
    let (_test, owner, _, path) = set().await;
    publish(&owner, &path).await;
    let changes =
        json!({"system_prompt": "We are closed.", "widget": {"accent": "#10b981"}, "description": "Answers."});
    owner.session.patch(&path, changes).await.expect(200);
    owner.session.delete(&format!("{path}/tools/capture_lead")).await;
    let diff = owner.session.get(&format!("{path}/versions/1/diff")).await.expect(200);
    let fields: Vec<_> =
        diff["changes"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        ["description", "system_prompt", "tools.capture_lead.config", "tools.capture_lead.is_active", "widget.accent"]
    );
    let prompt = &diff["changes"][1];
    assert_eq!((&prompt["before"], &prompt["after"]), (&json!("We are open from 9 to 18."), &json!("We are closed.")));
    publish(&owner, &path).await;
    let between = owner.session.get(&format!("{path}/versions/2/diff?to=1")).await.expect(200);
    assert_eq!((between["changes"].as_array().unwrap().len(), &between["to"]), (5, &json!(1)));
    let none = owner.session.get(&format!("{path}/versions/2/diff")).await.expect(200);
    assert_eq!(none["changes"], json!([]));
}

#[tokio::test]
async fn a_version_is_brought_back_as_a_new_one_and_answers_at_once() {
    let (test, owner, _, path) = set().await;
    let header = json!({"allowed_hosts": ["api.example.com"], "headers": {"x-key": "secret-of-ours"}});
    let tool = json!({"name": "http_request", "config": header});
    owner.session.post(&format!("{path}/tools"), tool).await.expect(201);
    let published = publish(&owner, &path).await;
    owner.session.patch(&path, json!({"name": "Ventas", "system_prompt": "We sell."})).await.expect(200);
    owner.session.delete(&format!("{path}/tools/capture_lead")).await;
    publish(&owner, &path).await;
    let restored = owner.session.post(&format!("{path}/versions/1/restore"), Value::Null).await.expect(200);
    assert_eq!((&restored["name"], &restored["version"]), (&json!("Soporte"), &json!("1.3")));
    assert_eq!(restored["system_prompt"], "We are open from 9 to 18.");
    let tools: Vec<_> =
        restored["tools"].as_array().unwrap().iter().map(|tool| (&tool["name"], &tool["has_secret_headers"])).collect();
    assert_eq!(
        tools,
        [(&json!("capture_lead"), &json!(false)), (&json!("http_request"), &json!(true))],
        "with its secret"
    );
    assert_eq!(restored["public_slug"], published["public_slug"]);
    let list = owner.session.get(&format!("{path}/versions")).await.expect(200);
    assert_eq!((&list["items"][0]["number"], &list["items"][0]["restored"]), (&json!(3), &json!(1)));
    let dump = test.db_dump().await;
    let kept: Vec<String> = dump.of("agent_version").map(Value::to_string).collect();
    assert!(
        kept.len() == 3 && kept.iter().all(|version| !version.contains("secret-of-ours") && !version.contains("kid"))
    );
    let slug = published["public_slug"].as_str().unwrap();
    let answer = test
        .anonymous()
        .post(&format!("/api/public/agents/{slug}/chat"), json!({"message": "When are you open?"}))
        .await;
    assert!(answer.expect(200)["reply"].as_str().unwrap().contains("9 to 18"));
}

/// The versions of an agent, newest first: number, whether it was kept, which one it brought back.
async fn numbers(owner: &Owner, path: &str) -> Vec<(u64, bool, Option<u64>)> {
    let list = owner.session.get(&format!("{path}/versions")).await.expect(200);
    let one = |one: &Value| (one["number"].as_u64().unwrap(), one["kept"].as_bool().unwrap(), one["restored"].as_u64());
    list["items"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn a_roll_back_can_be_rolled_back() {
    let (_test, owner, _, path) = set().await;
    publish(&owner, &path).await;
    let restore = async |number: u64| {
        owner.session.post(&format!("{path}/versions/{number}/restore"), Value::Null).await.expect(200)
    };
    owner.session.patch(&path, json!({"system_prompt": "We are open from 8 to 20."})).await.expect(200);
    let restored = restore(1).await;
    assert_eq!((&restored["version"], &restored["kept_version"]), (&json!("1.3"), &json!(2)));
    assert_eq!(restored["system_prompt"], "We are open from 9 to 18.");
    assert_eq!(numbers(&owner, &path).await, [(3, false, Some(1)), (2, true, None), (1, false, None)]);
    let kept = owner.session.get(&format!("{path}/versions/2")).await.expect(200);
    assert_eq!(kept["body"]["playbooks"][0]["body"], "We are open from 8 to 20.");
    let back = restore(2).await;
    assert_eq!((&back["version"], &back["kept_version"]), (&json!("1.4"), &Value::Null), "nothing was lost by that");
    assert_eq!(back["system_prompt"], "We are open from 8 to 20.");
    let published = owner.session.get(&path).await.expect(200);
    assert_eq!((&published["version"], &published["status"]), (&json!("1.4"), &json!("published")));
}

#[tokio::test]
async fn a_publication_of_nothing_new_makes_no_version_and_is_not_told() {
    let (test, owner, _, path) = set().await;
    let first = publish(&owner, &path).await;
    let told = async || test.db_dump().await.of("event").filter(|event| event["type"] == "agent.published").count();
    assert_eq!(told().await, 1);
    for _ in 0..3 {
        let again = publish(&owner, &path).await;
        assert_eq!((&again["version"], &again["published_at"]), (&json!("1.1"), &first["published_at"]));
        assert_eq!(again["updated_at"], first["updated_at"], "it is left as it is");
        test.clock.advance(Duration::from_secs(60));
    }
    assert_eq!((numbers(&owner, &path).await.len(), told().await), (1, 1));
    owner.session.post(&format!("{path}/unpublish"), Value::Null).await.expect(200);
    assert_eq!(publish(&owner, &path).await["status"], "published");
    assert_eq!((numbers(&owner, &path).await.len(), told().await), (2, 2), "it goes live again");
    let live = json!({"name": "Ventas", "tools": ["capture_lead"], "publish": true});
    let made = owner.session.post("/api/agents", live).await.expect(201)["id"].as_u64().unwrap();
    let path = format!("/api/agents/{made}");
    publish(&owner, &path).await;
    assert_eq!(numbers(&owner, &path).await, [(1, false, None)], "it was published when it was made");
}

#[tokio::test]
async fn what_was_live_for_a_while_is_kept_by_the_edit_that_replaces_it() {
    let (test, owner, _, path) = set().await;
    let edit = async |text: &str| owner.session.patch(&path, json!({"system_prompt": text})).await.expect(200);
    edit("A draft.").await;
    test.clock.advance(Duration::from_secs(3600));
    edit("Another draft.").await;
    assert_eq!(numbers(&owner, &path).await, [], "a draft was never live");
    publish(&owner, &path).await;
    test.clock.advance(Duration::from_secs(600));
    for text in ["W", "We", "We sell."] {
        edit(text).await;
    }
    assert_eq!(numbers(&owner, &path).await, [(1, false, None)], "what was live is the version, and typing makes none");
    test.clock.advance(Duration::from_secs(600));
    assert_eq!(edit("We are closed.").await["version"], "1.2");
    edit("We are open.").await;
    assert_eq!(numbers(&owner, &path).await, [(2, true, None), (1, false, None)]);
    let kept = owner.session.get(&format!("{path}/versions/2")).await.expect(200);
    assert_eq!(kept["body"]["playbooks"][0]["body"], "We sell.");
    test.clock.advance(Duration::from_secs(600));
    publish(&owner, &path).await;
    assert_eq!(numbers(&owner, &path).await[0], (3, false, None), "published, it is kept once");
    assert_eq!(numbers(&owner, &path).await.len(), 3);
}

#[tokio::test]
async fn the_last_fifty_versions_are_kept_and_go_with_the_agent() {
    let (test, owner, _, path) = set().await;
    for number in 0..53 {
        owner.session.patch(&path, json!({"description": format!("The {number}th.")})).await.expect(200);
        publish(&owner, &path).await;
    }
    let list = owner.session.get(&format!("{path}/versions")).await.expect(200);
    let numbers: Vec<_> = list["items"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (4..=53).rev().collect::<Vec<_>>());
    assert_eq!(test.db_dump().await.of("agent_version").count(), 50);
    let body = Some(json!({"confirmation": "Soporte"}));
    assert_eq!(owner.session.call("DELETE", &path, &[], body).await.status, 204);
    assert_eq!(test.db_dump().await.of("agent_version").count(), 0);
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_is_a_file_too() {
    let (test, owner, agent, path) = set().await;
    let key = owner.key().await;
    publish(&owner, &path).await;
    key.post(&format!("{path}/publish"), Value::Null).await.expect(200);
    let log = owner.session.get("/api/audit-log?limit=2").await.expect(200);
    let entry = &log["items"][0];
    assert_eq!(
        (&entry["action"], &entry["target"]),
        (&json!("publish_agent"), &json!(format!("/api/agents/{agent}/publish")))
    );
    assert!(entry["actor"].as_str().unwrap().starts_with("key_") && entry["ip"].is_string());
    assert_eq!(log["items"][1]["actor"], format!("user_{}", owner.user_id), "as whom the owner finds them elsewhere");
    let next = format!("/api/audit-log?limit=2&cursor={}", log["next_cursor"].as_str().unwrap());
    assert_eq!(owner.session.get(&next).await.expect(200)["items"][0]["action"], "create_api_key");
    let file = owner.session.call("GET", "/api/audit-log?format=csv", &[], None).await;
    assert!(file.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    assert!(file.text.starts_with("id,at,actor,impersonated_by,action,target,reason,ip\r\n"), "{}", file.text);
    assert_eq!(file.text.lines().count(), 1 + 4, "all of it: {}", file.text);
    assert_eq!(owner.session.get("/api/audit-log?month=2040-02").await.expect(200)["items"], json!([]));
    assert_eq!(owner.session.get("/api/audit-log?month=march").await.expect(422)["field"], "month");
    assert_eq!(owner.session.get("/api/audit-log?day=2040-03-32").await.expect(422)["field"], "day");
    assert_eq!(owner.session.get("/api/audit-log?day=2040-03-05&month=2040-03").await.expect(422)["field"], "day");
    let other = test.owner().await;
    assert!(!other.session.get("/api/audit-log").await.text.contains(&agent.to_string()));
}

/// The lines of the audit log as a file, without its header.
async fn lines(owner: &Owner, query: &str) -> Vec<String> {
    let file = owner.session.get(&format!("/api/audit-log?format=csv{query}")).await;
    assert_eq!(file.status, 200, "{}", file.text);
    file.text.lines().skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_audit_log_as_a_file_is_whole_or_refused() {
    let (test, owner, _, _) = set().await;
    let before = lines(&owner, "").await.len();
    test.db_audit(&owner, 250).await;
    assert_eq!(lines(&owner, "&limit=2").await.len(), before + 250, "more than a page");
    test.clock.advance(Duration::from_secs(24 * 3600));
    let rest = 5_000 - 250 - before;
    test.db_audit(&owner, rest).await;
    let all = lines(&owner, "").await;
    assert_eq!(all.len(), 5_000);
    let ids: std::collections::BTreeSet<_> = all.iter().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(ids.len(), 5_000, "each once");
    assert_eq!(lines(&owner, "&day=2040-03-06").await.len(), rest);
    assert_eq!(lines(&owner, "&day=2040-03-05").await.len(), 250 + before);
    test.db_audit(&owner, 1).await;
    let refused = owner.session.get("/api/audit-log?format=csv").await.expect(422);
    assert_eq!(refused["field"], "format");
    assert!(refused.to_string().contains("ask for a day"), "{refused}");
    assert_eq!(lines(&owner, "&day=2040-03-06").await.len(), rest + 1, "a narrower one goes");
    assert_eq!(
        owner.session.get("/api/audit-log?day=2040-03-06&limit=100").await.expect(200)["items"][99]["action"],
        "made_up"
    );
}
