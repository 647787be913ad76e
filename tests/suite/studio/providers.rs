//! Whole turns with providers that fail, for every protocol.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::ports::llm::Llm;
use tests::{Agent, Does, FakeProvider, Options, Owner, Protocol, TestApp};

struct Scene {
    protocol: Protocol,
    provider: FakeProvider,
    test: TestApp,
    owner: Owner,
    agent: Agent,
}

impl Scene {
    async fn new(protocol: Protocol, does: Vec<Does>) -> Self {
        Self::with(protocol, does, &[]).await
    }

    /// With another model to fall back on, at the same provider.
    async fn with_another_model(protocol: Protocol, does: Vec<Does>) -> Self {
        let another = [("CHATIA_FALLBACK_PROVIDER", protocol.provider()), ("CHATIA_FALLBACK_MODEL", "second-1")];
        Self::with(protocol, does, &another).await
    }

    async fn with(protocol: Protocol, does: Vec<Does>, more: &[(&'static str, &str)]) -> Self {
        let provider = FakeProvider::start(does).await;
        let llm: Option<Arc<dyn Llm>> = Some(Arc::new(provider.models(protocol)));
        let own = [("CHATIA_PROVIDER", protocol.provider()), ("CHATIA_MODEL", "first-1")];
        let variables = own.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect();
        let test = TestApp::with(Options { llm, variables, ..Options::default() }).await;
        let owner = test.owner().await;
        let agent = owner.agent_with(json!({"name": "Luna", "tools": ["capture_lead"], "publish": true})).await;
        Self { protocol, provider, test, owner, agent }
    }

    /// What a visitor is answered in one piece.
    async fn reply(&self) -> String {
        self.test.visitor(&self.agent).says("Hello").await["reply"].as_str().unwrap().to_owned()
    }

    /// What a visitor who follows is told: the frames that matter here, and the reply as it adds up.
    async fn followed(&self) -> (Vec<String>, String) {
        let path = format!("/api/public/agents/{}/chat/stream", self.agent.slug);
        let told = self.test.anonymous().post(&path, json!({"message": "Hello"})).await;
        assert_eq!(told.status, 200, "{}", told.text);
        let (mut frames, mut text) = (Vec::new(), String::new());
        for frame in told.text.split("\n\n") {
            let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            let data: Value = serde_json::from_str(line("data:")).unwrap_or_default();
            match line("event:") {
                "token" => text.push_str(data["text"].as_str().unwrap_or_else(|| panic!("{frame}"))),
                "discard" => text.clear(),
                "start" | "" => continue,
                _ => {}
            }
            frames.push(line("event:").to_owned());
        }
        frames.dedup();
        (frames, text)
    }

    /// The models that were asked, in order.
    fn asked(&self) -> Vec<String> {
        self.provider.heard().iter().map(|body| body["model"].as_str().unwrap().to_owned()).collect()
    }

    /// That the fallback text is stored, and that nothing was paid for it.
    async fn assert_fell_back(&self, reply: &str) {
        let protocol = self.protocol;
        assert!(reply.starts_with("Sorry"), "{protocol:?}: {reply}");
        let id = self.owner.conversations(&self.agent).await[0]["id"].as_u64().unwrap();
        let stored = self.owner.conversation(&self.agent, id).await["messages"][1].clone();
        assert_eq!((&stored["content"], &stored["meta"]["fallback"]), (&json!(reply), &json!(true)), "{protocol:?}");
        assert!(self.test.db_usage(&self.owner).await.is_empty(), "{protocol:?}");
        let account = self.owner.session.get("/api/billing/account").await.expect(200);
        assert_eq!(account["free_messages_remaining"], 50, "{protocol:?}: the allowance was given back");
    }
}

#[tokio::test]
async fn a_tool_call_and_an_answer_become_a_stored_and_counted_reply() {
    for protocol in Protocol::ALL {
        let calls = protocol.calls("capture_lead", "{\"email\": \"ana@example.com\"}");
        let does = vec![Does::stream(calls), Does::stream(protocol.text(&["Thank ", "you."]))];
        let scene = Scene::new(protocol, does).await;
        assert_eq!(scene.reply().await, "Thank you.", "{protocol:?}");
        let id = scene.owner.conversations(&scene.agent).await[0]["id"].as_u64().unwrap();
        let meta = scene.owner.conversation(&scene.agent, id).await["messages"][1]["meta"].clone();
        let told = ["tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning"].map(|name| meta[name].as_u64());
        assert_eq!(told, [Some(80), Some(10), Some(60), Some(4)], "two rounds, in one sense for all: {protocol:?}");
        assert_eq!((&meta["model"], &meta["tool_calls"][0]["ok"]), (&json!("m-1-2026"), &json!(true)));
        assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 1);
    }
}

#[tokio::test]
async fn a_first_token_that_does_not_come_in_time_is_the_fallback_text() {
    for protocol in Protocol::ALL {
        for does in [Does::IsSilent, Does::Hangs(String::new()), Does::Hangs(protocol.begins(&[]))] {
            let times = [("CHATIA_TURN_SECONDS", "0.1"), ("CHATIA_STREAM_SECONDS", "0.1")];
            let scene = Scene::with(protocol, vec![does], &times).await;
            let reply = scene.reply().await;
            scene.assert_fell_back(&reply).await;
            let (frames, text) = scene.followed().await;
            assert_eq!((frames, text.as_str()), (vec!["token".to_owned(), "done".to_owned()], reply.as_str()));
            assert_eq!(scene.asked().len(), 2, "{protocol:?}: each turn asked once");
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_in_time_is_taken_back() {
    for protocol in Protocol::ALL {
        let does = vec![Does::Hangs(protocol.begins(&["Half an "]))];
        let scene = Scene::with(protocol, does, &[("CHATIA_STREAM_SECONDS", "0.1")]).await;
        let (frames, text) = scene.followed().await;
        assert_eq!(frames, ["token", "discard", "token", "done"], "{protocol:?}");
        scene.assert_fell_back(&text).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_token_is_asked_for_again() {
    for protocol in Protocol::ALL {
        let breaks = [
            Does::BreaksOff(String::new()),
            Does::BreaksOff(protocol.begins(&[])),
            Does::stream(protocol.begins(&[])),
            Does::stream(protocol.begins(&[]) + &protocol.fails()),
        ];
        for broken in breaks {
            let scene = Scene::new(protocol, vec![broken.clone(), Does::stream(protocol.text(&["Whole."]))]).await;
            assert_eq!(
                scene.followed().await,
                (vec!["token".into(), "done".into()], "Whole.".to_owned()),
                "{broken:?}"
            );
            assert_eq!(scene.asked(), ["first-1", "first-1"], "{broken:?}");
            assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_first_token_is_taken_back_and_not_asked_for_again() {
    for protocol in Protocol::ALL {
        let half = protocol.begins(&["Half an "]);
        for broken in [
            Does::BreaksOff(half.clone()),
            Does::stream(half.clone()),
            Does::stream(half.clone() + &protocol.fails()),
            Does::stream(half.clone() + "data: {\"cut\n\n"),
        ] {
            let scene = Scene::new(protocol, vec![broken.clone()]).await;
            let (frames, text) = scene.followed().await;
            assert_eq!(frames, ["token", "discard", "token", "done"], "{broken:?}");
            scene.assert_fell_back(&text).await;
            assert_eq!(scene.asked(), ["first-1"], "{broken:?}");
            // Another model may say something else; what the first one said is taken back before.
            let does = vec![broken.clone(), Does::stream(protocol.text(&["Whole."]))];
            let scene = Scene::with_another_model(protocol, does).await;
            let (frames, text) = scene.followed().await;
            assert_eq!((frames.join(" ").as_str(), text.as_str()), ("token discard token done", "Whole."));
            assert_eq!(scene.asked(), ["first-1", "second-1"], "{broken:?}");
        }
    }
}

#[tokio::test]
async fn too_many_requests_are_sent_again_but_not_to_an_account_that_has_to_pay() {
    for protocol in Protocol::ALL {
        let answer = || Does::stream(protocol.text(&["Whole."]));
        let scene = Scene::new(protocol, vec![protocol.is_busy(), protocol.is_busy(), answer()]).await;
        assert_eq!((scene.reply().await.as_str(), scene.asked().len()), ("Whole.", 3), "{protocol:?}");
        let scene = Scene::new(protocol, vec![protocol.is_spent(), answer()]).await;
        let reply = scene.reply().await;
        scene.assert_fell_back(&reply).await;
        assert_eq!(scene.asked(), ["first-1"], "{protocol:?}");
        let scene = Scene::with_another_model(protocol, vec![protocol.is_spent(), answer()]).await;
        assert_eq!(scene.reply().await, "Whole.");
        assert_eq!(scene.asked(), ["first-1", "second-1"], "{protocol:?}");
    }
}

#[tokio::test]
async fn an_overloaded_provider_is_asked_three_times_and_then_another_model() {
    for protocol in Protocol::ALL {
        let overloaded = || protocol.is_overloaded();
        let does = vec![overloaded(), overloaded(), overloaded(), Does::stream(protocol.text(&["Whole."]))];
        let scene = Scene::with_another_model(protocol, does).await;
        assert_eq!(scene.reply().await, "Whole.");
        assert_eq!(scene.asked(), ["first-1", "first-1", "first-1", "second-1"], "{protocol:?}");
        assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 1);
        let scene = Scene::with_another_model(protocol, vec![overloaded()]).await;
        let reply = scene.reply().await;
        scene.assert_fell_back(&reply).await;
        assert_eq!(scene.asked().len(), 6, "{protocol:?}: three times each, and then it is enough");
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_are_told_to_the_model_in_its_own_protocol() {
    for protocol in Protocol::ALL {
        let calls = protocol.calls("capture_lead", "{\"email\": \"ana@exam");
        let does = vec![Does::stream(calls), Does::stream(protocol.text(&["Your address?"]))];
        let scene = Scene::new(protocol, does).await;
        assert_eq!(scene.reply().await, "Your address?", "{protocol:?}");
        let asked = scene.provider.heard()[1].clone();
        let messages = asked.get("messages").or(asked.get("input")).unwrap().as_array().unwrap().clone();
        let (call, result) = (&messages[messages.len() - 2], &messages[messages.len() - 1]);
        let sent = json!({"invalid_arguments": "{\"email\": \"ana@exam"});
        let (told, known) = match protocol {
            Protocol::Chat => (result["content"].clone(), call["tool_calls"][0]["function"]["arguments"].clone()),
            Protocol::Responses => (result["output"].clone(), call["arguments"].clone()),
            Protocol::Anthropic => (result["content"][0]["content"].clone(), call["content"][0]["input"].clone()),
        };
        assert!(told.as_str().unwrap().contains("The arguments do not fit"), "{protocol:?}: {result}");
        assert!(known == sent || known == json!(sent.to_string()), "providers read them again: {call}");
        let path = format!("/api/clients/me/agents/{}/leads", scene.agent.id);
        let leads = scene.owner.session.get(&path).await.expect(200);
        assert!(leads["items"].as_array().unwrap().is_empty(), "{protocol:?}");
    }
}

#[tokio::test]
async fn an_endless_tool_loop_of_a_provider_ends() {
    for protocol in Protocol::ALL {
        let calls = protocol.calls("capture_lead", "{\"email\": \"ana@example.com\"}");
        let scene = Scene::new(protocol, vec![Does::stream(calls.clone())]).await;
        let reply = scene.reply().await;
        scene.assert_fell_back(&reply).await;
        assert_eq!(scene.asked().len(), 6, "{protocol:?}: by rounds");
        // 45 tokens each, by the provider's own count.
        let scene = Scene::with(protocol, vec![Does::stream(calls)], &[("CHATIA_TURN_TOKENS", "90")]).await;
        let reply = scene.reply().await;
        scene.assert_fell_back(&reply).await;
        assert_eq!(scene.asked().len(), 2, "{protocol:?}: by tokens");
    }
}

#[tokio::test]
async fn sealed_reasoning_goes_back_within_its_turn_and_is_never_stored_or_told() {
    const SEAL: &str = "EqQBCgseal7f3a";
    for protocol in [Protocol::Responses, Protocol::Anthropic] {
        let calls = protocol.reasons_and_calls(SEAL, "capture_lead", "{\"email\": \"ana@example.com\"}");
        let scene = Scene::new(protocol, vec![Does::stream(calls), Does::stream(protocol.text(&["Thank you."]))]).await;
        let mut visitor = scene.test.visitor(&scene.agent);
        assert_eq!(visitor.says("I am ana@example.com").await["reply"], "Thank you.", "{protocol:?}");
        visitor.says("Bye").await;
        let heard: Vec<bool> = scene.provider.heard().iter().map(|body| body.to_string().contains(SEAL)).collect();
        assert_eq!(heard, [false, true, false], "{protocol:?}: with the result of its tool, and not in the next turn");
        assert!(!scene.test.db_dump().await.contains(SEAL), "{protocol:?}");
        assert!(scene.test.db_dump().await.contains("Thank you."), "the dump sees replies");
    }
}
