//! Threads of the builder while something else happens to them: changes of what was shown, deletions, runs that broke off.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::kernel::{Error, Id};
use shared::ports::llm::Llm;
use shared::store;
use tests::builder::BUILDER;
use tests::{Frame, Frames, Options, Owner, ScriptedModel, TestApp, TypingModel};

async fn with(llm: impl Llm + 'static) -> (TestApp, Owner) {
    let variables = vec![("CHATIA_WATCH_SECONDS", "0.02".to_owned())];
    let test = TestApp::with(Options { llm: Some(Arc::new(llm)), variables, ..Options::default() }).await;
    let owner = test.paying_owner().await;
    (test, owner)
}

/// A scripted model that has made a plan.
async fn planned() -> (TestApp, Owner, ScriptedModel) {
    let model = ScriptedModel::new();
    model.calls("make_plan", json!({"steps": ["Change the agents"]}));
    let (test, owner) = with(model.clone()).await;
    (test, owner, model)
}

fn of<'a>(frames: &'a [Frame], name: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame.name == name).map(|frame| &frame.data).collect()
}

fn path(frames: &[Frame]) -> String {
    format!("/api/builder/threads/{}", frames[0].data["thread_id"].as_str().unwrap())
}

fn place(frames: &[Frame], action: &Value) -> String {
    format!("{}/actions/{}", path(frames), action["action_id"].as_str().unwrap())
}

#[tokio::test]
async fn a_confirmation_is_about_the_agent_as_it_was_shown_and_another_is_shown_anew() {
    let (test, owner, model) = planned().await;
    let mut thread = Value::Null;
    let calls = [
        ("update_agent", json!({"greeting_message": "Good day!"})),
        ("connect_channel", json!({"channel": "whatsapp", "phone_number_id": "123"})),
        ("unpublish_agent", json!({})),
        ("delete_agent", json!({})),
    ];
    for (tool, mut arguments) in calls {
        let live = owner.agent(&format!("For {tool}")).await;
        arguments["agent_id"] = json!(live.id);
        model.calls(tool, arguments);
        model.says("It waits.");
        let frames = test.builds(&owner.session, json!({"message": "Go on.", "thread_id": thread})).await;
        thread = frames[0].data["thread_id"].clone();
        let shown = of(&frames, "external_action")[0].clone();
        let agent = format!("/api/agents/{}", live.id);
        owner.session.patch(&agent, json!({"system_prompt": "Something else."})).await.expect(200);
        let before = owner.session.get(&agent).await.expect(200);
        let refused = owner.session.post(&place(&frames, &shown), json!({"approve": true})).await;
        assert!(refused.text.contains("has changed") && refused.text.contains("shown anew"), "{}", refused.text);
        assert_eq!(refused.code(409), "action_settled", "{tool}");
        assert_eq!(owner.session.get(&agent).await.expect(200), before, "{tool}: nothing was done");
        let stored = owner.session.get(&path(&frames)).await.expect(200);
        let actions = stored["actions"].as_array().unwrap();
        let [.., old, new] = &actions[..] else { panic!("{stored}") };
        assert_eq!((&old["action_id"], &old["status"]), (&shown["action_id"], &json!("expired")));
        assert_eq!((&new["action"], &new["status"]), (&json!(tool), &json!("pending")));
        assert_eq!((&new["arguments"], &new["summary"]), (&shown["arguments"], &shown["summary"]));
        let again = owner.session.post(&place(&frames, &shown), json!({"approve": true})).await;
        assert_eq!(again.code(409), "action_settled", "a second click confirms nothing that was not seen");
        if tool != "connect_channel" {
            owner.session.post(&place(&frames, new), json!({"approve": true})).await.expect(200);
        }
    }
}

#[tokio::test]
async fn a_run_that_was_thought_dead_writes_nothing_into_a_thread_that_is_gone() {
    let (model, gate) = TypingModel::new(&["I will ", "go on."]).pausing_after(1);
    // It looks after its thread seldom enough not to notice.
    let test = TestApp::with_model(model).await;
    let owner = test.owner().await;
    let mut connection = Frames::of_builder(&test, &owner.session, &json!({"message": "An agent."}), None).await;
    let begun = connection.next().await.unwrap();
    gate.asked().await;
    let text = begun.data["thread_id"].as_str().unwrap().to_owned();
    let (workspace, id) = (test.db_workspace(&owner).await.id, Id::from_text(&text).unwrap());
    // As if its process had stood still for long.
    let update = store::builder::update(workspace, id).set("run.until", 1);
    test.app.table.update(update, None, Error::not_found()).await.unwrap();
    assert_eq!(owner.session.delete(&format!("/api/builder/threads/{text}")).await.status, 204);
    gate.open();
    let late = connection.rest().await;
    assert_eq!(late.last().unwrap().name, "error", "{late:?}");
    let dump = test.db_dump().await;
    let left: Vec<&String> = dump.0.keys().filter(|key| key.contains(&text.replace("thr_", ""))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_thread_that_is_being_deleted_is_gone_for_everybody_and_its_deletion_is_gone_on_with() {
    let (test, owner, model) = planned().await;
    let live = owner.agent("Luna").await;
    model.calls("unpublish_agent", json!({"agent_id": live.id}));
    model.says("It waits.");
    let frames = test.builds(&owner.session, json!({"message": "Away with it."})).await;
    let text = frames[0].data["thread_id"].as_str().unwrap();
    let (workspace, id) = (test.db_workspace(&owner).await.id, Id::from_text(text).unwrap());
    // As if the process had died between the first step and the last.
    assert!(store::builder::bury(&test.app.table, workspace, id, test.app.now()).await.unwrap());
    let thread = path(&frames);
    assert_eq!(owner.session.get(&thread).await.code(404), "not_found");
    assert_eq!(owner.session.get("/api/builder/threads").await.expect(200)["items"], json!([]));
    let message = json!({"message": "Go on.", "thread_id": text});
    assert_eq!(owner.session.post(BUILDER, message).await.code(404), "not_found");
    let action = place(&frames, of(&frames, "external_action")[0]);
    assert_eq!(owner.session.post(&action, json!({"approve": true})).await.code(404), "not_found");
    assert_eq!(owner.session.delete(&thread).await.status, 204);
    assert_eq!(owner.session.delete(&thread).await.code(404), "not_found");
    let dump = test.db_dump().await;
    assert!(!dump.0.keys().any(|key| key.contains(&format!("#BT#{}", text.replace("thr_", "")))), "nothing is left");
}

#[tokio::test]
async fn the_end_of_a_run_names_all_that_waits_in_its_thread() {
    let (test, owner, model) = planned().await;
    let (one, two) = (owner.agent("Uno").await, owner.agent("Dos").await);
    let mut asked = Vec::new();
    let mut thread = Value::Null;
    for agent in [&one, &two] {
        model.calls("unpublish_agent", json!({"agent_id": agent.id}));
        model.says("It waits.");
        let frames = test.builds(&owner.session, json!({"message": "Go on.", "thread_id": thread})).await;
        thread = frames[0].data["thread_id"].clone();
        asked.push(of(&frames, "external_action")[0]["action_id"].clone());
        assert_eq!(frames.last().unwrap().data["pending_actions"], json!(asked), "earlier ones too");
    }
    let first = format!("/api/builder/threads/{}/actions/{}", thread.as_str().unwrap(), asked[0].as_str().unwrap());
    owner.session.post(&first, json!({"approve": false})).await.expect(200);
    let frames = test.builds(&owner.session, json!({"message": "And now?", "thread_id": thread})).await;
    assert_eq!(frames.last().unwrap().data["pending_actions"], json!([asked[1]]));
}

#[tokio::test]
async fn no_key_that_a_model_gives_a_tool_is_kept_or_used() {
    let (test, owner, model) = planned().await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    let line = json!({"agent_id": draft.id, "channel": "whatsapp", "phone_number_id": "1", "api_key": "s3cret-key"});
    let config = json!({"allowed_hosts": ["a.example.com"], "auth": {"Access-Token": "s3cret-key"}});
    let headers = json!({"allowed_hosts": ["a.example.com"], "Headers": {"x": "s3cret-key"}});
    let calls = vec![
        ("connect_channel", line),
        ("attach_tool", json!({"agent_id": draft.id, "name": "http_request", "config": config})),
        ("attach_tool", json!({"agent_id": draft.id, "name": "http_request", "config": headers})),
        ("attach_tool", json!({"agent_id": draft.id, "name": "capture_lead", "config": {"apiKey": "s3cret-key"}})),
        ("connect_channel", json!("{\"api_key\": \"s3cret-key\"")),
    ];
    model.says_and_calls("", calls);
    model.says("That did not work.");
    let frames = test.builds(&owner.session, json!({"message": "Connect it."})).await;
    assert!(of(&frames, "tool_output").iter().all(|output| output["ok"] == false), "{frames:#?}");
    assert_eq!(of(&frames, "external_action").len(), 0);
    let shown = format!("{frames:?}");
    assert!(!shown.contains("s3cret") && shown.contains("[redacted]"), "{shown}");
    assert!(!test.db_dump().await.contains("s3cret"));
}

#[tokio::test]
async fn offline_a_plan_tells_what_became_of_each_step_and_nothing_is_told_as_done_that_waits() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let message = "Quiero un bot llamado Toby para mi peluquería. Publicalo.";
    let frames = test.builds(&owner.session, json!({"message": message})).await;
    let steps = async |frames: &[Frame]| {
        let plan = owner.session.get(&path(frames)).await.expect(200)["plan"].clone();
        plan.as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(steps(&frames).await, ["completed", "completed"], "it was asked for");
    let publish = place(&frames, of(&frames, "external_action")[0]);
    owner.session.post(&publish, json!({"approve": true})).await.expect(200);
    let thread = frames[0].data["thread_id"].clone();
    // The agent is live by now.
    let body = json!({"message": "Pregunta: ¿Atienden gatos? Respuesta: No.", "thread_id": thread});
    let frames = test.builds(&owner.session, body).await;
    let said: String = of(&frames, "text_delta").iter().map(|data| data["text"].as_str().unwrap()).collect();
    assert!(said.contains("espera tu confirmación") && !said.contains("ya conoce"), "{said}");
    assert_eq!(steps(&frames).await, ["in_progress"]);
    // Another agent in the same thread: its publication is asked for all the same.
    let body = json!({"message": "Crea otro agente llamado Luna para mi hotel. Publicalo.", "thread_id": thread});
    let frames = test.builds(&owner.session, body).await;
    let asked = of(&frames, "external_action").len();
    assert_eq!((asked, steps(&frames).await), (1, vec!["completed".to_owned(); 2]));
    let long = "x".repeat(121);
    let body = json!({"message": format!("Cambiale el nombre a \"{long}\""), "thread_id": thread});
    let frames = test.builds(&owner.session, body).await;
    let said: String = of(&frames, "text_delta").iter().map(|data| data["text"].as_str().unwrap()).collect();
    assert!(said.contains("No ha funcionado"), "{said}");
    assert_eq!(steps(&frames).await, ["failed"]);
}

#[tokio::test]
async fn a_run_is_taken_up_behind_a_frame_that_was_sent_and_behind_no_other() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let frames = test.builds(&owner.session, json!({"message": "hola"})).await;
    let (run, last) = frames.last().unwrap().id.rsplit_once('-').unwrap();
    let body = json!({"thread_id": frames[0].data["thread_id"]});
    let after = async |number: u32| {
        let id = format!("{run}-{number}");
        owner.session.call("POST", BUILDER, &[("last-event-id", id.as_str())], Some(body.clone())).await
    };
    let last: u32 = last.parse().unwrap();
    assert!(after(last - 1).await.text.contains("event: done"));
    assert_eq!(after(last).await.text, "", "that was all");
    assert_eq!(after(last + 1).await.code(422), "validation_error");
}
