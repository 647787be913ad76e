//! Who uses the platform while it is killed: owners who set up, visitors who chat, programs that publish. Each repeats
//! what was not answered under the same id, and remembers what it was told.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shared::kernel::Rng;

use crate::http::{Client, Request};
use crate::moments::{Moment, Moments};
use crate::receivers::Receivers;

/// What an owner pays by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paying {
    /// Included messages.
    Agency,
    /// Each message.
    AsTheyGo,
    /// The trial.
    Nothing,
}

/// A webhook of an owner's.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    /// The path of its receiver.
    pub(crate) endpoint: String,
    /// `None` for all events.
    pub(crate) events: Option<Vec<String>>,
}

/// Somebody with an account, agents, keys and webhooks.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) paying: Paying,
    pub(crate) user_id: u64,
    pub(crate) token: String,
    pub(crate) keys: Vec<String>,
    pub(crate) hooks: Vec<Hook>,
    /// The agent that visitors chat with: id and slug.
    pub(crate) agent: (u64, String),
}

/// A message that was answered.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) owner: usize,
    pub(crate) client_message_id: String,
    pub(crate) message: String,
    pub(crate) reply: String,
    pub(crate) reply_id: String,
    pub(crate) handle: String,
}

/// Everything that clients were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) heard: Vec<Heard>,
    /// Custom events that were acknowledged: owner, number, id.
    pub(crate) events: Vec<(usize, usize, String)>,
    /// Agents that were made: owner, name, id.
    pub(crate) agents: Vec<(usize, String, u64)>,
    /// Publications that were acknowledged: owner, agent.
    pub(crate) publications: Vec<(usize, u64)>,
    /// Requests that had to be sent again.
    pub(crate) repeats: u32,
}

/// What the clients share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) rng: Rng,
    pub(crate) moments: Arc<Moments>,
    pub(crate) owners: Arc<Vec<Owner>>,
    pub(crate) told: Arc<Mutex<Told>>,
}

/// Arrivals that a visitor's message leads to: it and its reply at one endpoint, its reply at the other.
pub(crate) const PER_MESSAGE: usize = 3;
/// Arrivals that three custom events lead to: one goes to one endpoint, the others to two.
pub(crate) const PER_THREE_EVENTS: usize = 5;

const PROMPT: &str = "You are Sol.\nQ: When do you open? A: At nine.\nQ: Where are you? A: In Lisbon, by the river.";
const PASSWORD: &str = "correct horse";

/// Registers an owner with an agent, keys and webhooks, one for everything and one for some of it.
pub(crate) async fn set_up(
    client: &Client,
    receivers: &Receivers,
    at: &str,
    (number, paying): (usize, Paying),
    keys: usize,
) -> Owner {
    let email = format!("owner{number}@example.com");
    let who = json!({"email": email, "password": PASSWORD});
    let registered = client.insist(&Request::post("/api/auth/register", who)).await.0;
    let (token, user_id) = (text(&registered["access_token"]), registered["user"]["id"].as_u64().unwrap());
    let call = |path: &'static str, body: Value| {
        let request = Request::post(path, body).bearer(&token);
        async move { client.insist(&request).await.0 }
    };
    let mut hooks = Vec::new();
    let some = ["custom.order.paid", "agent.reply.created", "agent.created"].map(str::to_owned).to_vec();
    for (part, events) in [("all", None), ("some", Some(some))] {
        let endpoint = format!("{number}-{part}");
        let body = json!({"name": endpoint, "url": format!("{at}/{endpoint}"), "events": events});
        let hook = call("/api/developers/webhooks", body).await;
        receivers.expect(&endpoint, &text(&hook["secret"]));
        hooks.push(Hook { id: hook["id"].as_u64().unwrap(), endpoint, events });
    }
    let mut raw = Vec::new();
    for key in 0..keys {
        let made = call("/api/developers/api-keys", json!({"name": format!("k{key}")})).await;
        raw.push(text(&made["key"]));
    }
    let agent = json!({"name": "Sol", "system_prompt": PROMPT, "tools": ["capture_lead"], "publish": true});
    let agent = call("/api/developers/agents", agent).await;
    let agent = (agent["id"].as_u64().unwrap(), text(&agent["public_slug"]));
    Owner { paying, user_id, token, keys: raw, hooks, agent }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// An id of a client's own.
fn own_id(rng: &Rng) -> String {
    format!("{:032x}", u128::from_be_bytes(rng.bytes()))
}

const QUESTIONS: [&str; 4] =
    ["When do you open?", "Where are you?", "What does it cost?", "My e-mail is visitor@example.com, call me"];

impl World {
    fn told(&self, what: impl FnOnce(&mut Told), sent: u32) {
        let mut told = self.told.lock().unwrap();
        what(&mut told);
        told.repeats += sent - 1;
        self.moments.answered();
    }

    /// A visitor who says so many things, one after the other, from an address of their own.
    pub(crate) async fn visitor(self, owner: usize, number: u32, messages: usize) {
        let from = Ipv4Addr::from(0x7f10_0000 + number);
        let client = Client { from, ..self.client.clone() };
        let path = format!("/api/public/agents/{}/chat", self.owners[owner].agent.1);
        let mut handle = Value::Null;
        for turn in 0..messages {
            let message = format!("{} ({number}.{turn})", QUESTIONS[turn % QUESTIONS.len()]);
            let client_message_id = own_id(&self.rng);
            let body = json!({
                "message": message, "client_message_id": client_message_id, "conversation_id": handle,
                "visitor_id": format!("visitor-{number}"),
            });
            self.moments.ask(PER_MESSAGE).await;
            self.moments.begins(Moment::Chatting);
            let (answer, sent) = client.insist(&Request::post(path.clone(), body)).await;
            handle = answer["conversation_id"].clone();
            let heard = Heard {
                owner,
                client_message_id,
                message,
                reply: text(&answer["reply"]),
                reply_id: text(&answer["message_id"]),
                handle: text(&handle),
            };
            self.told(|told| told.heard.push(heard), sent);
        }
    }

    /// A program that tells of events of its owner's own.
    pub(crate) async fn program(self, owner: usize, numbers: Vec<usize>) {
        for number in numbers {
            let keys = &self.owners[owner].keys;
            let (event, arrivals) = if number / 3 % 3 == 0 { ("order.lost", 1) } else { ("order.paid", 2) };
            let body = json!({"event": event, "data": {"number": number}});
            let request = Request::post("/api/developers/events", body).bearer(&keys[number % keys.len()]);
            self.moments.ask(arrivals).await;
            let (answer, sent) = self.client.insist(&request.once(&own_id(&self.rng))).await;
            self.told(|told| told.events.push((owner, number, text(&answer["id"]))), sent);
        }
    }

    /// Somebody who makes agents, and publishes each again and again, with something new: there is nothing to publish else.
    pub(crate) async fn builder(self, owner: usize, agents: usize, publications: usize) {
        let token = &self.owners[owner].token;
        for number in 0..agents {
            let name = format!("Agent {number}");
            let request = Request::post("/api/agents", json!({"name": name, "system_prompt": PROMPT})).bearer(token);
            let (made, sent) = self.client.insist(&request.once(&own_id(&self.rng))).await;
            let id = made["id"].as_u64().unwrap();
            self.told(|told| told.agents.push((owner, name, id)), sent);
            for edition in 0..publications {
                let edit = json!({"description": format!("Edition {edition}")});
                self.client.insist(&Request::patch(format!("/api/agents/{id}"), edit).bearer(token)).await;
                let request = Request::post(format!("/api/agents/{id}/publish"), json!({})).bearer(token);
                self.moments.ask(1).await;
                self.moments.begins(Moment::Publishing);
                let (_, sent) = self.client.insist(&request.once(&own_id(&self.rng))).await;
                self.told(|told| told.publications.push((owner, id)), sent);
            }
        }
    }
}
