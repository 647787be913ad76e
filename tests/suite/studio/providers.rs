//! Whole turns with providers that fail, for every protocol, answered in one piece and followed.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::ports::llm::Llm;
use tests::{Agent, Does, FakeProvider, Options, Owner, Protocol, TestApp};

/// How a visitor is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    InOnePiece,
    Followed,
}
const DOORS: [Door; 2] = [Door::InOnePiece, Door::Followed];

impl Door {
    /// A turn that is cut short by its time: whoever follows has been told something by then.
    const fn cut_short(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::InOnePiece => &SHORT,
            Self::Followed => &LONGER,
        }
    }
}

/// Every protocol, at every door.
fn everywhere() -> impl Iterator<Item = (Protocol, Door)> {
    Protocol::ALL.into_iter().flat_map(|protocol| DOORS.map(|door| (protocol, door)))
}

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

    /// That a visitor gets this reply; who follows is told these frames.
    async fn assert_told(&self, door: Door, frames: &str, reply: &str) {
        let (told, text) = self.told(door).await;
        assert_eq!((told.as_deref().unwrap_or(frames), text.as_str()), (frames, reply), "{:?} {door:?}", self.protocol);
    }

    /// That a visitor gets the fallback text; who follows is told these frames.
    async fn assert_falls_back(&self, door: Door, frames: &str) {
        let (told, text) = self.told(door).await;
        assert_eq!(told.as_deref().unwrap_or(frames), frames, "{:?}", self.protocol);
        self.assert_fell_back(&text).await;
    }

    /// What a visitor is told: the frames, if they follow, and the reply.
    async fn told(&self, door: Door) -> (Option<String>, String) {
        match door {
            Door::InOnePiece => (None, self.reply().await),
            Door::Followed => {
                let (frames, text) = self.followed().await;
                (Some(frames.join(" ")), text)
            }
        }
    }

    /// The models that were asked, in order.
    fn asked(&self) -> Vec<String> {
        self.provider.heard().iter().map(|body| body["model"].as_str().unwrap().to_owned()).collect()
    }

    /// The leads that came of it.
    async fn leads(&self) -> usize {
        let path = format!("/api/clients/me/agents/{}/leads", self.agent.id);
        self.owner.session.get(&path).await.expect(200)["items"].as_array().unwrap().len()
    }

    /// That the visitor's message and the fallback text are stored, and that nothing was paid for it.
    async fn assert_fell_back(&self, reply: &str) {
        let protocol = self.protocol;
        assert!(reply.starts_with("Sorry"), "{protocol:?}: {reply}");
        let id = self.owner.conversations(&self.agent).await[0]["id"].as_u64().unwrap();
        let thread = self.owner.conversation(&self.agent, id).await;
        let (said, stored) = (&thread["messages"][0], &thread["messages"][1]);
        assert_eq!((&said["role"], &said["content"]), (&json!("user"), &json!("Hello")), "{protocol:?}");
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

/// How long a turn may take that is cut short by its time, whichever way it is answered.
const SHORT: [(&str, &str); 2] = [("CHATIA_TURN_SECONDS", "0.1"), ("CHATIA_STREAM_SECONDS", "0.1")];
/// The same, where something has to arrive before.
const LONGER: [(&str, &str); 2] = [("CHATIA_TURN_SECONDS", "0.5"), ("CHATIA_STREAM_SECONDS", "0.5")];

#[tokio::test]
async fn a_first_token_that_does_not_come_in_time_is_the_fallback_text() {
    for (protocol, door) in everywhere() {
        for does in [Does::IsSilent, Does::Hangs(String::new()), Does::Hangs(protocol.begins(&[]))] {
            let scene = Scene::with(protocol, vec![does], &SHORT).await;
            scene.assert_falls_back(door, "token done").await;
            assert_eq!(scene.asked().len(), 1, "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_in_time_is_taken_back() {
    for (protocol, door) in everywhere() {
        let does = vec![Does::Hangs(protocol.begins(&["Half an "]))];
        let scene = Scene::with(protocol, does, door.cut_short()).await;
        scene.assert_falls_back(door, "token discard token done").await;
    }
}

#[tokio::test]
async fn a_stream_that_drips_without_end_is_cut_by_the_time_of_the_turn() {
    let ping = ": still there\n\n".to_owned();
    for (protocol, door) in everywhere() {
        let drips = |begun: String, piece: String| Does::Drips { begun, piece, end: protocol.ends(&["All of it."]) };
        let scene = Scene::with(protocol, vec![drips(protocol.begins(&["One"]), ping.clone())], door.cut_short()).await;
        scene.assert_falls_back(door, "token discard token done").await;
        let scene = Scene::with(protocol, vec![drips(protocol.begins(&[]), ping.clone())], &SHORT).await;
        scene.assert_falls_back(door, "token done").await;
        let words = drips(protocol.begins(&["One"]), protocol.piece(" more"));
        let scene =
            Scene::with(protocol, vec![words, Does::stream(protocol.text(&["Whole."]))], door.cut_short()).await;
        scene.assert_falls_back(door, "token discard token done").await;
        // Another model is not asked in what is left of the time, and the next message is answered and paid for as ever.
        assert_eq!(scene.asked(), ["first-1"], "{protocol:?} {door:?}");
        scene.assert_told(door, "token done", "Whole.").await;
        assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 1, "{protocol:?} {door:?}");
    }
}

#[tokio::test]
async fn what_was_done_before_a_stream_drips_stays_done_and_is_not_paid_for() {
    for (protocol, door) in everywhere() {
        let calls = protocol.calls("capture_lead", "{\"email\": \"ana@example.com\"}");
        let (begun, piece) = (protocol.begins(&["Thank"]), protocol.piece(" you"));
        let drips = Does::Drips { begun, piece, end: protocol.ends(&["Thank you."]) };
        let scene = Scene::with(protocol, vec![Does::stream(calls), drips], &LONGER).await;
        scene.assert_falls_back(door, "tool token discard token done").await;
        assert_eq!((scene.asked().len(), scene.leads().await), (2, 1), "{protocol:?} {door:?}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_token_is_asked_for_again() {
    for (protocol, door) in everywhere() {
        let breaks = [
            Does::BreaksOff(String::new()),
            Does::BreaksOff(protocol.begins(&[])),
            Does::stream(protocol.begins(&[])),
            Does::stream(protocol.begins(&[]) + &protocol.fails()),
        ];
        for broken in breaks {
            let scene = Scene::new(protocol, vec![broken.clone(), Does::stream(protocol.text(&["Whole."]))]).await;
            scene.assert_told(door, "token done", "Whole.").await;
            assert_eq!(scene.asked(), ["first-1", "first-1"], "{broken:?}");
            assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_first_token_is_taken_back_and_not_asked_for_again() {
    for (protocol, door) in everywhere() {
        let half = protocol.begins(&["Half an "]);
        for broken in [
            Does::BreaksOff(half.clone()),
            Does::stream(half.clone()),
            Does::stream(half.clone() + &protocol.fails()),
            Does::stream(half.clone() + "data: {\"cut\n\n"),
        ] {
            let scene = Scene::new(protocol, vec![broken.clone()]).await;
            scene.assert_falls_back(door, "token discard token done").await;
            assert_eq!(scene.asked(), ["first-1"], "{broken:?}");
            // Another model may say something else; what the first one said is taken back before.
            let does = vec![broken.clone(), Does::stream(protocol.text(&["Whole."]))];
            let scene = Scene::with_another_model(protocol, does).await;
            scene.assert_told(door, "token discard token done", "Whole.").await;
            assert_eq!(scene.asked(), ["first-1", "second-1"], "{broken:?}");
        }
    }
}

#[tokio::test]
async fn too_many_requests_are_sent_again_but_not_to_an_account_that_has_to_pay() {
    for (protocol, door) in everywhere() {
        let answer = || Does::stream(protocol.text(&["Whole."]));
        let scene = Scene::new(protocol, vec![protocol.is_busy(), protocol.is_busy(), answer()]).await;
        scene.assert_told(door, "token done", "Whole.").await;
        assert_eq!(scene.asked().len(), 3, "{protocol:?}");
        let scene = Scene::new(protocol, vec![protocol.is_spent(), answer()]).await;
        scene.assert_falls_back(door, "token done").await;
        assert_eq!(scene.asked(), ["first-1"], "{protocol:?}");
        let scene = Scene::with_another_model(protocol, vec![protocol.is_spent(), answer()]).await;
        scene.assert_told(door, "token done", "Whole.").await;
        assert_eq!(scene.asked(), ["first-1", "second-1"], "{protocol:?}");
    }
}

#[tokio::test]
async fn an_overloaded_provider_is_asked_three_times_and_then_another_model() {
    for (protocol, door) in everywhere() {
        let overloaded = || protocol.is_overloaded();
        let does = vec![overloaded(), overloaded(), overloaded(), Does::stream(protocol.text(&["Whole."]))];
        let scene = Scene::with_another_model(protocol, does).await;
        scene.assert_told(door, "token done", "Whole.").await;
        assert_eq!(scene.asked(), ["first-1", "first-1", "first-1", "second-1"], "{protocol:?}");
        assert_eq!(scene.test.db_usage(&scene.owner).await.len(), 1);
        let scene = Scene::with_another_model(protocol, vec![overloaded()]).await;
        scene.assert_falls_back(door, "token done").await;
        assert_eq!(scene.asked().len(), 6, "{protocol:?}: three times each, and then it is enough");
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_are_told_to_the_model_in_its_own_protocol() {
    for (protocol, door) in everywhere() {
        let calls = protocol.calls("capture_lead", "{\"email\": \"ana@exam");
        let does = vec![Does::stream(calls), Does::stream(protocol.text(&["Your address?"]))];
        let scene = Scene::new(protocol, does).await;
        scene.assert_told(door, "tool token done", "Your address?").await;
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
        assert_eq!(scene.leads().await, 0, "{protocol:?}");
    }
}

#[tokio::test]
async fn an_endless_tool_loop_of_a_provider_ends() {
    for (protocol, door) in everywhere() {
        let calls = protocol.calls("capture_lead", "{\"email\": \"ana@example.com\"}");
        let scene = Scene::new(protocol, vec![Does::stream(calls.clone())]).await;
        scene.assert_falls_back(door, "tool token done").await;
        assert_eq!(scene.asked().len(), 6, "{protocol:?}: by rounds");
        // 45 tokens each, by the provider's own count.
        let scene = Scene::with(protocol, vec![Does::stream(calls)], &[("CHATIA_TURN_TOKENS", "90")]).await;
        scene.assert_falls_back(door, "tool token done").await;
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
