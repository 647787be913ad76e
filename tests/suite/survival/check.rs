//! What must hold once everything has come to its end, whatever happened before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use shared::events::studio;
use shared::kernel::{Id, Text};
use tests::Dump;

use super::world::World;

/// Checks everything.
pub(super) async fn all_is_well(world: &World) {
    let dump = world.test.db_dump().await;
    nothing_is_half_written(&dump);
    replies_are_answers(&dump);
    what_was_seen_is_stored(world, &dump);
    replies_usage_and_ledger_agree(world, &dump);
    allowances_are_what_was_replied(&dump);
    events_tell_of_what_is_stored(world, &dump).await;
    every_event_arrived(world, &dump).await;
    counters_are_recounts(&dump);
    assert!(world.broker.dead().is_empty(), "dead letters: {:?}", world.broker.dead());
    assert!(world.broker.is_empty(), "{} messages are left", world.broker.len());
}

fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item[field].as_str().unwrap_or_else(|| panic!("{field} in {item}"))
}

/// A number as the table writes it.
fn number(item: &Value, field: &str) -> usize {
    item[field]["n"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} in {item}"))
}

fn messages(dump: &Dump) -> BTreeMap<&str, Vec<&Value>> {
    let mut threads: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for message in dump.of("message") {
        threads.entry(text(message, "conversation_id")).or_default().push(message);
    }
    threads
}

/// Every head has its messages and the counts of them; no message lies without a head; no lease is left.
fn nothing_is_half_written(dump: &Dump) {
    let threads = messages(dump);
    let heads: HashMap<&str, &Value> = dump.of("conversation").map(|head| (text(head, "id"), head)).collect();
    assert_eq!(heads.keys().copied().collect::<BTreeSet<_>>(), threads.keys().copied().collect());
    for (id, messages) in &threads {
        let head = heads[id];
        assert_eq!(number(head, "message_count"), messages.len(), "{head}");
        let visitors = messages.iter().filter(|message| message["author"] == "visitor").count();
        assert_eq!(number(head, "inbound_count"), visitors, "{head}");
        assert!(head.get("turn").is_none(), "a lease is left: {head}");
    }
}

/// No message is answered twice, and no client message is stored twice.
fn replies_are_answers(dump: &Dump) {
    for messages in messages(dump).values() {
        let mut answered = BTreeSet::new();
        for reply in messages.iter().filter(|message| message["author"] == "agent") {
            for message in reply["reply"]["answers"].as_array().unwrap() {
                assert!(answered.insert(message.as_str().unwrap()), "{message} is answered twice");
            }
        }
        let clients: Vec<_> = messages.iter().filter_map(|message| message["client_message_id"].as_str()).collect();
        assert_eq!(clients.iter().collect::<BTreeSet<_>>().len(), clients.len(), "a message is stored twice");
    }
}

/// What a visitor's page was told is what the team reads.
fn what_was_seen_is_stored(world: &World, dump: &Dump) {
    // Where the clock stands, two conversations may have a message of the same id.
    let mut stored: HashMap<&str, Vec<&Value>> = HashMap::new();
    for message in dump.of("message") {
        stored.entry(text(message, "id")).or_default().push(message);
    }
    for (id, (said, seen)) in world.users.iter().flat_map(|user| &user.pages).flat_map(|page| &page.sent) {
        let Some(answer) = seen else { continue };
        let reply: Text<shared::domain::Message> = serde_json::from_value(answer["message_id"].clone()).unwrap();
        let question = dump.of("message").find(|message| message["client_message_id"] == id.as_str()).unwrap();
        assert_eq!(text(question, "content"), said);
        let found = stored.get(reply.0.key().as_str()).into_iter().flatten();
        let reply = found.copied().find(|reply| reply["conversation_id"] == question["conversation_id"]);
        let reply = reply.unwrap_or_else(|| panic!("{answer} is not stored"));
        assert_eq!(text(reply, "content"), answer["reply"].as_str().unwrap());
        assert!(reply["reply"]["answers"].as_array().unwrap().contains(&question["id"]), "{reply} answers {question}");
    }
}

/// Stored replies that cost something, usage events, and what the billing provider has are the same.
fn replies_usage_and_ledger_agree(world: &World, dump: &Dump) {
    let is_billed = |message: &&Value| ["managed", "byok"].iter().any(|key| message["reply"]["key_source"] == *key);
    // Where the clock stands, two conversations may have a message of the same id.
    let place = |item: &'_ Value, id: &str| (text(item, "conversation_id").to_owned(), text(item, id).to_owned());
    let replies: BTreeSet<_> = dump.of("message").filter(is_billed).map(|message| place(message, "id")).collect();
    let usage: Vec<&Value> = dump.of("usage").collect();
    let of_messages: BTreeSet<_> = usage.iter().map(|event| place(event, "message_id")).collect();
    assert_eq!((usage.len(), of_messages), (replies.len(), replies), "each reply has one usage event");
    let external = |event: &&Value| {
        let workspace: Id<shared::domain::Workspace> = Id::from_key(text(event, "workspace_id")).unwrap();
        format!("{}:{}", workspace.text(), text(event, "id"))
    };
    let ledger = world.outside.ledger();
    assert_eq!(usage.iter().map(external).collect::<BTreeSet<_>>(), ledger.keys().cloned().collect());
    assert!(usage.iter().all(|event| event["reported_at"].is_string()), "all is marked as reported");
}

/// Nothing is held any more, and what is spent is what was replied.
fn allowances_are_what_was_replied(dump: &Dump) {
    let mut spent: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for event in dump.of("usage") {
        let (all, byok) = spent.entry(format!("B#{}", text(event, "billing_account_id"))).or_default();
        *all += 1;
        *byok += usize::from(event["key_source"] == "byok");
    }
    for (key, item) in dump.0.iter().filter(|(key, _)| key.contains("USE#")) {
        let (account, byok) = (text(item, "pk"), item.get("byok").map_or(0, |_| number(item, "byok")));
        assert_eq!((number(item, "used"), byok), spent.get(account).copied().unwrap_or_default(), "{key}: {item}");
    }
}

/// Each message has the one event that tells of it.
async fn events_tell_of_what_is_stored(world: &World, dump: &Dump) {
    let events = world.events().await;
    let told = |kind: &str| -> Vec<String> {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        let mut told: Vec<String> = of_kind.map(|event| event.data["message"].as_str().unwrap().to_owned()).collect();
        told.sort();
        told
    };
    let stored = |author: &str| -> Vec<String> {
        let of_author = dump.of("message").filter(|message| message["author"] == author);
        let mut stored: Vec<String> = of_author.map(|message| text(message, "id").to_owned()).collect();
        stored.sort();
        stored
    };
    assert_eq!(told("message.inbound"), stored("visitor"));
    assert_eq!(told("message.reply"), stored("agent"));
    let custom = events.iter().filter(|event| event.kind == "custom").map(|event| event.id.to_string());
    let custom: BTreeSet<String> = custom.collect();
    for id in world.users.iter().flat_map(|user| user.published.values()) {
        assert!(custom.contains(id), "an accepted event is lost");
    }
}

/// Every event came to its owner's receiver, to nobody else's, with the same bytes each time, and each attempt at most
/// once; every delivery tells of all of its attempts.
async fn every_event_arrived(world: &World, dump: &Dump) {
    let mut arrived: BTreeMap<(usize, String), Vec<_>> = BTreeMap::new();
    for call in world.outside.calls() {
        arrived.entry((call.user, call.event.clone())).or_default().push(call);
    }
    let mut wanted = BTreeSet::new();
    for event in world.events().await.iter().filter(|event| studio::name(event).is_some()) {
        let mut users = world.users.iter().enumerate();
        let of = async |user: &super::world::User| world.test.db_workspace(&user.owner).await.id == event.workspace_id;
        let mut owner = None;
        for (number, user) in users.by_ref() {
            if of(user).await {
                owner = Some(number);
            }
        }
        wanted.insert((owner.unwrap(), event.id.to_string()));
    }
    assert_eq!(arrived.keys().cloned().collect::<BTreeSet<_>>(), wanted, "each event came, and only there");
    for ((_, event), calls) in &arrived {
        let numbers: BTreeSet<u32> = calls.iter().map(|call| call.attempt).collect();
        assert_eq!(numbers.len(), calls.len(), "an attempt of {event} was made twice");
        assert!(calls.iter().all(|call| call.body == calls[0].body), "{event} changed its bytes");
    }
    for delivery in dump.of("delivery") {
        assert_eq!(delivery["status"], "succeeded", "{delivery}");
        let numbers: Vec<usize> =
            delivery["attempts"].as_array().unwrap().iter().map(|one| number(one, "number")).collect();
        let last = number(delivery, "attempt");
        let first = last + 1 - numbers.len();
        assert_eq!(numbers, (first..=last).collect::<Vec<_>>(), "{delivery}");
    }
}

/// The counters that people look at are what a recount gives.
fn counters_are_recounts(dump: &Dump) {
    let agent_of: HashMap<&str, &str> =
        dump.of("conversation").map(|head| (text(head, "id"), text(head, "agent_id"))).collect();
    let mut counted: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for head in dump.of("conversation") {
        *counted.entry((text(head, "agent_id").to_owned(), "conversations")).or_default() += 1;
    }
    for message in dump.of("message") {
        let counter = if message["author"] == "visitor" { "messages" } else { "replies" };
        if message["author"] != "operator" {
            let agent = agent_of[text(message, "conversation_id")].to_owned();
            *counted.entry((agent, counter)).or_default() += 1;
        }
    }
    for ((agent, counter), count) in counted {
        let sk = format!("AGENT#{agent}");
        let rollup = dump.0.values().find(|item| item["sk"] == sk.as_str()).expect("counted");
        assert_eq!(number(rollup, counter), count, "{counter} of {agent}");
    }
}
