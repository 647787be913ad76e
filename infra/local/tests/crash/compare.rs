//! Compares what clients were told with what is stored, delivered and posted. Everything that is wrong is collected, so
//! that one run shows all of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use shared::domain::message::Author;
use shared::domain::usage::{KeySource, UsageEvent};
use shared::domain::webhook::DeliveryStatus;
use shared::domain::{Delivery, Event, Message};
use shared::events::catalog::kind;
use shared::events::studio;
use shared::kernel::{Id, Time};
use uuid::Uuid;

use crate::clients::{Hook, Owner, Paying, Told};
use crate::http::{Client, Request};
use crate::ledger::Ledger;
use crate::receivers::{Call, Receivers};
use crate::stored::{Ids, Tables, Thread};

/// How many things of one kind are listed.
const SHOWN: usize = 5;

/// What is wrong.
#[derive(Default)]
pub(crate) struct Wrong(BTreeMap<&'static str, Vec<String>>);

impl Wrong {
    fn unless(&mut self, holds: bool, what: &'static str, which: impl FnOnce() -> String) {
        if !holds {
            self.0.entry(what).or_default().push(which());
        }
    }

    /// The wrongs as text; `None` when there is none.
    pub(crate) fn told(&self) -> Option<String> {
        let lines = self.0.iter().map(|(what, which)| {
            let shown = which.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n    ");
            format!("{what}: {}\n    {shown}", which.len())
        });
        (!self.0.is_empty()).then(|| lines.collect::<Vec<_>>().join("\n"))
    }
}

/// Everything that belongs to an owner.
pub(crate) struct Estate<'a> {
    pub(crate) number: usize,
    pub(crate) owner: &'a Owner,
    pub(crate) ids: Ids,
    /// The workspace's events, up to a moment: time alone makes more, since silent conversations are closed.
    pub(crate) events: Vec<&'a Event>,
    pub(crate) until: Time,
    pub(crate) threads: Vec<Thread>,
    pub(crate) usage: Vec<UsageEvent>,
}

impl Estate<'_> {
    /// Whether an event belongs to these.
    fn covers(&self, event: &str) -> bool {
        Uuid::parse_str(event).is_ok_and(|event| Time::of_uuid(event) < self.until)
    }

    fn of_kind(&self, kind: &str) -> Vec<&Event> {
        self.events.iter().copied().filter(|event| event.kind == kind).collect()
    }

    fn replies(&self) -> impl Iterator<Item = &Message> {
        self.threads.iter().flat_map(|thread| thread.by(Author::Agent))
    }

    /// Replies of a model: the fallback text costs nothing.
    fn billed(&self) -> impl Iterator<Item = &Message> {
        self.replies().filter(|message| message.reply.as_ref().is_some_and(|reply| !reply.is_fallback()))
    }
}

/// Each answered message is stored once and has one answer: the one that its visitor saw.
pub(crate) fn conversations(wrong: &mut Wrong, estate: &Estate<'_>, told: &Told) {
    let messages: Vec<&Message> = estate.threads.iter().flat_map(|thread| &thread.messages).collect();
    let mut by_client_id: HashMap<&str, Vec<&Message>> = HashMap::new();
    for message in &messages {
        if let Some(id) = &message.client_message_id {
            by_client_id.entry(id).or_default().push(message);
        }
    }
    let mut answers: HashMap<Id<Message>, Vec<&Message>> = HashMap::new();
    for reply in estate.replies() {
        for answered in reply.reply.iter().flat_map(|reply| &reply.answers) {
            answers.entry(*answered).or_default().push(reply);
        }
    }
    let heard: Vec<_> = told.heard.iter().filter(|heard| heard.owner == estate.number).collect();
    for heard in &heard {
        let stored = by_client_id.get(heard.client_message_id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let [message] = stored else {
            wrong.unless(false, "answered messages not stored once", || format!("{heard:?}: {stored:?}"));
            continue;
        };
        let answers = answers.get(&message.id).map(Vec::as_slice).unwrap_or_default();
        let is_it = |reply: &&Message| reply.id.text() == heard.reply_id && reply.content == heard.reply;
        let same = message.content == heard.message && answers.len() == 1 && answers.iter().all(is_it);
        wrong.unless(same, "replies that a visitor saw and that are not the only answer", || {
            format!("{heard:?}: {answers:?}")
        });
    }
    let visitors = messages.iter().filter(|message| message.author == Author::Visitor).count();
    wrong.unless(visitors == heard.len(), "stored messages beside the answered ones", || {
        format!("owner {}: {visitors} stored, {} answered", estate.number, heard.len())
    });
    let handles: HashSet<&str> = heard.iter().map(|heard| heard.handle.as_str()).collect();
    wrong.unless(handles.len() == estate.threads.len(), "conversations that nobody knows", || {
        format!("owner {}: {} stored, {} known", estate.number, estate.threads.len(), handles.len())
    });
}

/// The counters on each head, and those that the projector keeps, are what a recount gives.
pub(crate) async fn counters(wrong: &mut Wrong, tables: &Tables, estate: &Estate<'_>) {
    for Thread { head, messages } in &estate.threads {
        let inbound = messages.iter().filter(|message| message.author == Author::Visitor).count();
        let counted = (usize::try_from(head.message_count).unwrap(), usize::try_from(head.inbound_count).unwrap());
        wrong.unless(counted == (messages.len(), inbound), "counters of a conversation", || {
            format!("{:?}: {counted:?}, recounted {:?}", head.id, (messages.len(), inbound))
        });
        wrong.unless(messages.is_sorted_by_key(|message| message.id), "order of messages", || format!("{:?}", head.id));
    }
    let agent = Id::from_int(estate.owner.agent.0).unwrap();
    let counts = tables.counts(estate.ids, &[agent]).await[&agent.int()];
    let leads = estate.of_kind(kind::LEAD_CAPTURED).len();
    let sum = |author| estate.threads.iter().map(|thread| thread.by(author).count()).sum::<usize>();
    let recounted = [estate.threads.len(), sum(Author::Visitor), sum(Author::Agent), leads];
    let counted = [counts.conversations, counts.messages, counts.replies, counts.leads];
    let counted = counted.map(|count| usize::try_from(count).unwrap());
    wrong.unless(counted == recounted, "counters of an agent", || {
        format!("owner {}: {counted:?}, recounted {recounted:?}", estate.number)
    });
    let (of_account, billed) = (tables.message_counts(estate.ids).await, estate.billed().count());
    wrong.unless(usize::try_from(of_account) == Ok(billed), "counters of an account", || {
        format!("owner {}: {of_account}, recounted {billed}", estate.number)
    });
    let agents = tables.agents(estate.ids).await;
    let published = agents.iter().filter(|agent| agent.is_published()).count();
    let counted = tables.published(estate.ids).await;
    wrong.unless(usize::try_from(counted) == Ok(published), "counters of published agents", || {
        format!("owner {}: {counted}, recounted {published}", estate.number)
    });
}

/// What was acknowledged happened once, and nothing else did.
pub(crate) async fn events(wrong: &mut Wrong, tables: &Tables, estate: &Estate<'_>, told: &Told) {
    let custom: Vec<&Event> = estate.of_kind(kind::CUSTOM);
    let mut by_id: BTreeMap<String, usize> = BTreeMap::new();
    for event in &custom {
        *by_id.entry(event.id.to_string()).or_default() += 1;
    }
    let acknowledged: Vec<_> = told.events.iter().filter(|(owner, ..)| *owner == estate.number).collect();
    for (_, number, id) in &acknowledged {
        wrong.unless(by_id.get(id) == Some(&1), "acknowledged events not stored once", || format!("{number}: {id}"));
    }
    wrong.unless(custom.len() == acknowledged.len(), "events beside the acknowledged ones", || {
        format!("owner {}: {} stored, {} acknowledged", estate.number, custom.len(), acknowledged.len())
    });
    let told_of: [(&str, usize); 3] = [
        (kind::CONVERSATION_CREATED, estate.threads.len()),
        (kind::MESSAGE_INBOUND, estate.threads.iter().map(|thread| thread.by(Author::Visitor).count()).sum()),
        (kind::MESSAGE_REPLY, estate.replies().count()),
    ];
    for (kind, things) in told_of {
        let events = estate.of_kind(kind);
        let distinct: BTreeSet<String> = events.iter().map(|event| json!(event.data).to_string()).collect();
        wrong.unless((events.len(), distinct.len()) == (things, things), "events of a conversation", || {
            format!("owner {}: {} {kind}, {} distinct, of {things}", estate.number, events.len(), distinct.len())
        });
    }
    let agents = tables.agents(estate.ids).await;
    let made = told.agents.iter().filter(|(owner, ..)| *owner == estate.number);
    for (_, name, id) in made.clone() {
        let same = agents.iter().filter(|agent| agent.name == *name).map(|agent| agent.id.int()).collect::<Vec<_>>();
        wrong.unless(same == [*id], "agents that were not made once", || format!("{name}: {id}, stored {same:?}"));
        let wanted = told.publications.iter().filter(|told| **told == (estate.number, *id)).count();
        let events = estate.of_kind(kind::AGENT_PUBLISHED);
        let told = events.iter().filter(|event| event.agent_id.map(Id::int) == Some(*id)).count();
        wrong.unless(told == wanted, "publications that did not happen once", || format!("{name}: {told} of {wanted}"));
    }
    let (made, created) = (made.count() + 1, estate.of_kind(kind::AGENT_CREATED).len());
    wrong.unless((agents.len(), created) == (made, made), "agents beside the acknowledged ones", || {
        format!("owner {}: {} stored, {created} told, {made} acknowledged", estate.number, agents.len())
    });
}

/// Stored replies, usage events and the ledger of the billing provider say the same.
pub(crate) async fn usage(wrong: &mut Wrong, tables: &Tables, estate: &Estate<'_>, ledger: &Ledger) {
    let billed: BTreeSet<u64> = estate.billed().map(|reply| reply.id.int()).collect();
    let used: BTreeSet<u64> = estate.usage.iter().map(|event| event.message_id.int()).collect();
    let counts = (billed.len(), used.len(), estate.usage.len());
    wrong.unless(billed == used && used.len() == estate.usage.len(), "usage beside the replies", || {
        format!("owner {}: (replies, replies in usage, usage events) {counts:?}", estate.number)
    });
    amounts(wrong, estate, ledger);
    let taken = tables.taken(estate.ids, estate.owner.paying == Paying::Nothing).await;
    let overage: i64 = estate.usage.iter().filter(|event| !event.included).map(|event| event.unit_cost).sum();
    let expected = (i64::try_from(billed.len()).unwrap(), overage);
    wrong.unless(taken == expected, "allowance", || {
        format!("owner {}: {taken:?} taken, {expected:?} billed", estate.number)
    });
}

/// The ledger has each usage event, with the same amounts.
fn amounts(wrong: &mut Wrong, estate: &Estate<'_>, ledger: &Ledger) {
    let posted = ledger.events.lock().unwrap();
    let prefix = format!("{}:", estate.ids.workspace.text());
    let in_ledger = posted.keys().filter(|id| id.starts_with(&prefix)).count();
    wrong.unless(in_ledger == estate.usage.len(), "events in the ledger", || {
        format!("owner {}: {in_ledger} of {}", estate.number, estate.usage.len())
    });
    for event in &estate.usage {
        let expected = json!({
            "key_source": KeySource::Managed.text(),
            "billable": u8::from(!event.included),
            "quantity": 1,
            "unit_cost_micro_usd": event.unit_cost,
        });
        let stored = posted.get(&event.external_id());
        let same = |name: &str| stored.is_some_and(|stored| stored["metadata"][name] == expected[name]);
        let amounts = ["key_source", "billable", "quantity", "unit_cost_micro_usd"].into_iter().all(same);
        let customer = stored.is_some_and(|stored| stored["external_customer_id"] == estate.ids.account.text());
        wrong.unless(amounts && customer, "amounts in the ledger", || format!("{event:?}: {stored:?}"));
        let done = event.reported_at.is_some() && event.parked.is_none();
        wrong.unless(done, "usage that is not marked as reported", || format!("{event:?}"));
        let right = event.included == (estate.owner.paying != Paying::AsTheyGo);
        wrong.unless(right, "usage that counts as included or not", || format!("{event:?}"));
    }
}

/// The events that an endpoint wants, by id.
pub(crate) fn wanted<'a>(events: &[&'a Event], hook: &Hook) -> BTreeMap<String, &'a Event> {
    let is_wanted = |event: &&&Event| {
        studio::name(event).is_some_and(|name| hook.events.as_ref().is_none_or(|events| events.contains(&name)))
    };
    events.iter().filter(is_wanted).map(|event| (event.id.to_string(), *event)).collect()
}

/// Every event arrived at every endpoint that wants it, signed, in the same bytes, and is listed as delivered.
pub(crate) async fn deliveries(wrong: &mut Wrong, tables: &Tables, estate: &Estate<'_>, receivers: &Receivers) {
    for hook in &estate.owner.hooks {
        let wanted = wanted(&estate.events, hook);
        let stored = tables.deliveries(estate.ids, hook.id).await;
        let calls = receivers.calls.lock().unwrap();
        let mut by_event: HashMap<&str, Vec<&Call>> = HashMap::new();
        for call in calls.iter().filter(|call| call.endpoint == hook.endpoint) {
            by_event.entry(&call.event_id).or_default().push(call);
        }
        let known = by_event.keys().copied().chain(stored.keys().map(String::as_str));
        let strange: Vec<&str> = known.filter(|id| estate.covers(id) && !wanted.contains_key(*id)).collect();
        wrong.unless(strange.is_empty(), "events that an endpoint does not want", || format!("{strange:?}"));
        for (id, event) in &wanted {
            let calls = by_event.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
            arrival(wrong, event, hook, calls, stored.get(id));
        }
    }
}

fn arrival(wrong: &mut Wrong, event: &Event, hook: &Hook, calls: &[&Call], stored: Option<&Delivery>) {
    let which = || format!("{} {} at {}: {stored:?}", event.kind, event.id, hook.endpoint);
    wrong.unless(!calls.is_empty(), "events that did not arrive", which);
    for call in calls {
        wrong.unless(call.wrong.is_none(), "signatures", || format!("{}: {call:?}", which()));
        wrong.unless(call.body == calls[0].body, "bytes that changed", || format!("{}: {call:?}", which()));
        wrong.unless(studio::name(event).as_deref() == Some(&call.event), "names of events", which);
    }
    let numbers: Vec<&String> = calls.iter().filter_map(|call| call.attempt.as_ref()).collect();
    let distinct: HashSet<&&String> = numbers.iter().collect();
    wrong.unless(distinct.len() == numbers.len(), "attempts that were made twice", || {
        format!("{}: {numbers:?}", which())
    });
    let Some(delivery) = stored else {
        wrong.unless(false, "deliveries that are not stored", which);
        return;
    };
    let succeeded = delivery.status == DeliveryStatus::Succeeded && calls.iter().any(|call| call.taken);
    wrong.unless(succeeded, "deliveries that did not succeed", which);
    let same = calls.iter().all(|call| call.body == delivery.payload.as_bytes());
    wrong.unless(same, "bytes that are not the listed ones", which);
    let (last, failed) = delivery.attempts.split_last().map_or((None, &[][..]), |(last, failed)| (Some(last), failed));
    let reasons = failed.iter().all(|attempt| attempt.error.is_some());
    let ended = last.is_some_and(|last| last.error.is_none() && last.status == Some(204));
    wrong.unless(reasons && ended, "attempts without their outcome", which);
}

/// The API lists every delivery as succeeded, with its attempts.
pub(crate) async fn listed(wrong: &mut Wrong, client: &Client, estate: &Estate<'_>) {
    for (number, hook) in estate.owner.hooks.iter().enumerate() {
        let key = &estate.owner.keys[number % estate.owner.keys.len()];
        let (mut seen, mut cursor) = (0, String::new());
        loop {
            let path = format!("/api/developers/webhooks/{}/deliveries?limit=100{cursor}", hook.id);
            let page = client.insist(&Request::get(path).bearer(key)).await.0;
            for delivery in page["items"].as_array().unwrap() {
                if !estate.covers(delivery["event_id"].as_str().unwrap_or_default()) {
                    continue;
                }
                seen += 1;
                let attempts = delivery["attempts"].as_array().map_or(0, Vec::len);
                let fine = delivery["status"] == "succeeded" && attempts > 0 && delivery["next_attempt_at"].is_null();
                wrong.unless(fine, "deliveries that are not listed as succeeded", || delivery.to_string());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let expected = wanted(&estate.events, hook).len();
        wrong.unless(seen == expected, "deliveries that are not listed", || {
            format!("{}: {seen} of {expected}", hook.endpoint)
        });
    }
}

/// Nothing was given up.
pub(crate) async fn dead_letters(wrong: &mut Wrong, client: &Client, root: &str) {
    let list = client.insist(&Request::get("/api/admin/dead-letters").bearer(root)).await.0;
    for letter in list["items"].as_array().unwrap_or(&vec![Value::Null]) {
        wrong.unless(false, "dead letters", || letter.to_string());
    }
}
