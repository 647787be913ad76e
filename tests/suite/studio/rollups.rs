//! Counters: each event counts once, however events are cut into batches, ordered and repeated; and usage by day, agent
//! and key source, as the account sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::projector::project;
use shared::domain::Event;
use shared::domain::usage::{KeySource, UsageBucket, UsageSums};
use shared::kernel::{Day, Id, Rng};
use shared::store;
use shared::table::{Row, Unit};
use tests::{Owner, TestApp};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn counters_follow_the_events_and_count_none_twice() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    for number in 0..4 {
        visitor.says(&format!("message {number}")).await;
    }
    for _ in 0..3 {
        test.workers().run().await;
    }
    let shown = owner.session.get(&format!("/api/agents/{}", agent.id)).await.expect(200);
    assert_eq!(shown["conversation_count"], 1);
    let by_source = usage(&owner, "group_by=key_source").await;
    assert_eq!(by_source["rows"], json!([row(json!({"key_source": "managed"}), [4, 4, 0, 0])]));
    let workspace = test.db_workspace(&owner).await.id;
    let ids = [Id::from_int(agent.id).unwrap()];
    let counts = shared::store::rollup::agents(&test.app.table, workspace, &ids).await.unwrap()[0];
    assert_eq!((counts.messages, counts.replies), (4, 4));
}

/// Every counter of the table; what tells how often it was written is left out.
async fn counters(test: &TestApp) -> BTreeMap<String, Value> {
    let dump = test.db_dump().await.0.into_iter();
    let rollups = dump.filter(|(key, _)| key.contains("#RU / ") && !key.contains(" / EV#"));
    rollups
        .map(|(key, mut item)| {
            item.as_object_mut().expect("an item").remove("v");
            (key, item)
        })
        .collect()
}

/// The events of two accounts with three agents on three days.
async fn event_list() -> Vec<Event> {
    let test = TestApp::new().await;
    let (one, other) = (test.owner().await, test.owner().await);
    let mut visitor = test.visitor(&one.agent("Soporte").await);
    for number in 0..3 {
        visitor.says(&format!("message {number}")).await;
    }
    for (owner, agent, count) in [(&one, 7, 28), (&one, 8, 3), (&other, 7, 6), (&one, 7, 5)] {
        test.db_use(owner, agent, &test.event_ids(count, None)).await;
        test.clock.advance(DAY);
    }
    test.workers().events().await
}

/// A random cut of the list, reordered, with repetitions.
fn partition(rng: &Rng, events: &[Event]) -> Vec<Vec<Event>> {
    let pick = |bound: usize| rng.below(u32::try_from(bound).expect("small")) as usize;
    let mut list: Vec<Event> = events.to_vec();
    list.extend((0..pick(40)).map(|_| events[pick(events.len())].clone()));
    for at in (1..list.len()).rev() {
        list.swap(at, pick(at + 1));
    }
    let mut batches = Vec::new();
    while !list.is_empty() {
        batches.push(list.split_off(list.len().saturating_sub(1 + pick(list.len().min(60)))));
    }
    for _ in 0..pick(3) {
        batches.push(batches[pick(batches.len())].clone());
    }
    batches
}

#[tokio::test]
async fn one_event_list_in_fifty_partitions_orders_and_repetitions_gives_equal_rollups() {
    let events = event_list().await;
    let whole = TestApp::new().await;
    project(&whole.app, &events).await.unwrap();
    let expected = counters(&whole).await;
    assert_eq!(expected.keys().filter(|key| key.contains("DAY#")).count(), 9, "{expected:#?}");
    let replies: u64 = events.iter().filter(|event| event.kind == "message.reply").count() as u64;
    let sum = |of: &str| -> u64 {
        let items = expected.iter().filter(|(key, _)| key.contains("DAY#")).map(|(_, item)| &item[of]["n"]);
        items.map(|number| number.as_str().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!((replies, sum("messages")), (45, 45));
    for seed in 0..50 {
        let (test, rng) = (TestApp::new().await, Rng::seeded(seed));
        for batch in partition(&rng, &events) {
            project(&test.app, &batch).await.unwrap();
        }
        assert_eq!(counters(&test).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn readers_that_count_the_same_events_at_once_count_each_once() {
    let events = event_list().await;
    let whole = TestApp::new().await;
    project(&whole.app, &events).await.unwrap();
    let test = TestApp::new().await;
    let (front, back) = events.split_at(events.len() / 3);
    let batches = [&events[..], front, back, &events[..]].map(|batch| project(&test.app, batch));
    futures_util::future::try_join_all(batches).await.unwrap();
    assert_eq!(counters(&test).await, counters(&whole).await);
}

#[tokio::test]
async fn a_batch_is_counted_in_few_transactions() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let events: Vec<Event> =
        test.db_use(&owner, 7, &test.event_ids(100, None)).await.into_iter().map(|(_, event)| event).collect();
    test.app.table.meter().record();
    project(&test.app, &events).await.unwrap();
    let calls = test.app.table.meter().take();
    // Of the agent 100, with the one key source 66, with the other 34: 4 + 3 + 2.
    assert_eq!(calls.len(), 9);
    test.app.table.meter().record();
    project(&test.app, &events).await.unwrap();
    assert!(test.app.table.meter().take().len() <= 9, "what was counted is found out at once");
}

/// An owner with usage of two agents on two days: on the first 10 with one, on the second 6 with the other.
async fn two_days() -> (TestApp, Owner, u64, u64) {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (first, second) = (owner.agent("Ventas, \"rápidas\"").await, owner.agent("=HYPERLINK(1)").await);
    test.db_use(&owner, first.id, &test.event_ids(10, None)).await;
    test.clock.advance(DAY);
    test.db_use(&owner, second.id, &test.event_ids(6, None)).await;
    test.workers().run().await;
    (test, owner, first.id, second.id)
}

async fn usage(owner: &Owner, query: &str) -> Value {
    owner.session.get(&format!("/api/billing/usage?{query}")).await.expect(200)
}

fn row(keys: Value, [messages, included, billable, cost]: [i64; 4]) -> Value {
    let mut row = json!({"day": null, "agent_id": null, "agent_name": null, "key_source": null});
    row.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let sums = json!({"messages": messages, "included": included, "billable": billable, "cost_micro_usd": cost});
    row.as_object_mut().unwrap().extend(sums.as_object().unwrap().clone());
    row
}

#[tokio::test]
async fn usage_is_shown_by_day_agent_and_key_source_in_exact_micro_dollars() {
    let (_test, owner, first, second) = two_days().await;
    let of = |day: &str, agent: u64, name: &str, source: &str| json!({"day": day, "agent_id": agent, "agent_name": name, "key_source": source});
    let (ventas, link) = ("Ventas, \"rápidas\"", "=HYPERLINK(1)");
    // Numbers 0, 3, 6, 9 with the customer's key, 0 and 5 included.
    let rows = json!([
        row(of("2040-03-05", first, ventas, "managed"), [6, 1, 5, 50_000]),
        row(of("2040-03-05", first, ventas, "byok"), [4, 1, 3, 12_000]),
        row(of("2040-03-06", second, link, "managed"), [4, 1, 3, 30_000]),
        row(of("2040-03-06", second, link, "byok"), [2, 1, 1, 4_000]),
    ]);
    let shown = usage(&owner, "since=2040-03-01&until=2040-03-31").await;
    let totals = json!({"messages": 16, "included": 4, "billable": 12, "cost_micro_usd": 96_000});
    let whole = json!({"since": "2040-03-01", "until": "2040-03-31", "rows": rows, "totals": totals});
    assert_eq!(shown, whole);
    assert_eq!(owner.key().await.get("/api/billing/usage?since=2040-03-01&until=2040-03-31").await.expect(200), whole);
    let usual = usage(&owner, "").await;
    assert_eq!((&usual["since"], &usual["until"]), (&json!("2040-02-06"), &json!("2040-03-06")));
    assert_eq!(usual["rows"], rows);
}

#[tokio::test]
async fn usage_is_added_up_over_what_it_is_not_split_by() {
    let (test, owner, first, second) = two_days().await;
    let by_day = usage(&owner, "group_by=day").await;
    let days = json!([
        row(json!({"day": "2040-03-05"}), [10, 2, 8, 62_000]),
        row(json!({"day": "2040-03-06"}), [6, 2, 4, 34_000]),
    ]);
    assert_eq!(by_day["rows"], days);
    let by_source = usage(&owner, "group_by=key_source").await;
    let sources = json!([
        row(json!({"key_source": "managed"}), [10, 2, 8, 80_000]),
        row(json!({"key_source": "byok"}), [6, 2, 4, 16_000]),
    ]);
    assert_eq!(by_source["rows"], sources);
    let of_one = usage(&owner, &format!("group_by=agent,key_source&agent_id={second}")).await;
    assert_eq!((of_one["rows"].as_array().unwrap().len(), &of_one["totals"]["messages"]), (2, &json!(6)));
    assert_eq!(usage(&owner, "since=2040-03-05&until=2040-03-05").await["totals"]["cost_micro_usd"], 62_000);
    // A deleted agent is still on the bill.
    let body = json!({"confirmation": "Ventas, \"rápidas\""});
    let gone = owner.session.call("DELETE", &format!("/api/agents/{first}"), &[], Some(body)).await;
    assert_eq!(gone.status, 204);
    let by_agent = usage(&owner, "group_by=agent").await;
    assert_eq!(by_agent["rows"][0]["agent_id"], first);
    assert_eq!((&by_agent["rows"][0]["agent_name"], &by_agent["rows"][0]["messages"]), (&Value::Null, &json!(10)));
    assert_eq!(usage(&test.owner().await, "").await["rows"], json!([]), "another account used nothing");
}

#[tokio::test]
async fn usage_is_shown_by_client_and_an_agent_of_two_clients_counts_once_in_the_totals() {
    let (test, owner, first, second) = two_days().await;
    let agent = |id: u64| tests::Agent { id, slug: String::new(), name: String::new() };
    let (ana, _) = owner.client_with(&test, &[&agent(first)], &["messages"]).await;
    let (berta, _) = owner.client_with(&test, &[&agent(first)], &["messages"]).await;
    let shown = usage(&owner, "group_by=client").await;
    let rows = shown["rows"].as_array().unwrap();
    let of = |id: Option<u64>| rows.iter().find(|row| row["client_id"].as_u64() == id).unwrap()["messages"].clone();
    assert_eq!((of(Some(ana)), of(Some(berta)), of(None)), (json!(10), json!(10), json!(6)));
    assert_eq!((rows.len(), &shown["totals"]["messages"]), (3, &json!(16)));
    assert!(rows.iter().any(|row| row["client_name"].is_string()));
    let of_ana = usage(&owner, &format!("group_by=day,client&client_id={ana}")).await;
    assert_eq!((&of_ana["rows"][0]["client_id"], &of_ana["totals"]["messages"]), (&json!(ana), &json!(10)));
    assert_eq!(usage(&owner, &format!("client_id={}", owner.user_id)).await["totals"]["messages"], 0, "no client");
    let file = owner.session.get("/api/billing/usage?group_by=client&format=csv").await;
    let head = file.text.lines().next().unwrap();
    assert!(head.ends_with(",cost_micro_usd,client_id,client_name"), "{head}");
    let path = format!("/api/clients/{ana}/grants/{first}");
    assert_eq!(owner.session.delete(&path).await.status, 204);
    let after = usage(&owner, "group_by=client").await;
    assert_eq!(after["rows"].as_array().unwrap().len(), 2, "what is not granted any more counts no more");
    let _ = second;
}

#[tokio::test]
async fn days_that_make_no_sense_are_refused_and_named() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for (query, field) in [
        ("since=2040-03-06&until=2040-03-05", "until"),
        ("since=2039-03-05&until=2040-03-05", "since"),
        ("since=2040-02-30", "since"),
        ("until=yesterday", "until"),
        ("since=2040-03-05T00:00:00Z", "since"),
        ("group_by=week", "group_by"),
        ("group_by=", "group_by"),
        ("agent_id=x", "agent_id"),
        ("format=xml", "format"),
    ] {
        let answer = owner.session.get(&format!("/api/billing/usage?{query}")).await;
        assert_eq!(answer.expect(422)["field"], field, "{query}");
    }
    usage(&owner, "since=2039-03-06&until=2040-03-05").await;
}

#[tokio::test]
async fn usage_comes_as_a_file_for_spreadsheets_in_which_no_name_is_a_formula() {
    let (_test, owner, first, second) = two_days().await;
    let path = "/api/billing/usage?since=2040-03-05&until=2040-03-06";
    let file = owner.session.get(&format!("{path}&format=csv")).await;
    let header = |name: &str| file.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(header("content-disposition"), "attachment; filename=\"usage_2040-03-05_2040-03-06.csv\"");
    let ventas = "\"Ventas, \"\"rápidas\"\"\"";
    let lines = [
        "day,agent_id,agent_name,key_source,messages,included,billable,cost_micro_usd".to_owned(),
        format!("2040-03-05,{first},{ventas},managed,6,1,5,50000"),
        format!("2040-03-05,{first},{ventas},byok,4,1,3,12000"),
        format!("2040-03-06,{second},'=HYPERLINK(1),managed,4,1,3,30000"),
        format!("2040-03-06,{second},'=HYPERLINK(1),byok,2,1,1,4000"),
        String::new(),
    ];
    assert_eq!(file.text, lines.join("\r\n"));
    let asked = async |accept: &str| owner.session.call("GET", path, &[("accept", accept)], None).await;
    assert_eq!(asked("text/csv").await.text, file.text);
    assert!(asked("application/json, text/csv;q=0.5").await.json()["rows"].is_array());
}

#[tokio::test]
async fn more_usage_than_an_answer_can_hold_is_refused_and_the_most_that_is_shown_fits() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    // The longest name whose characters cost the most in an answer that is a text within JSON.
    let name = "\"".repeat(120);
    let agent = owner.agent_with(json!({"name": name})).await;
    test.db_drafts(&owner, agent.id, 24).await;
    let agents = owner.session.get("/api/agents?limit=100").await.expect(200);
    let agents: Vec<u64> =
        agents["items"].as_array().unwrap().iter().map(|agent| agent["id"].as_u64().unwrap()).collect();
    let (account, workspace) = (test.db_account(&owner).await.id, test.db_workspace(&owner).await.id);
    let (last, mut buckets) = (Day::of(test.app.now()), Vec::new());
    for day in (0..150).map(|back| last.plus(-back)) {
        for agent in &agents {
            for key_source in [KeySource::Managed, KeySource::Byok] {
                buckets.push(UsageBucket { day, workspace, agent: Id::from_int(*agent).unwrap(), key_source });
            }
        }
    }
    assert_eq!(buckets.len(), 7_500);
    let sums = UsageSums { messages: 1_000_000_000, included: 100_000_000, cost: 9_000_000_000_000 };
    for some in buckets.chunks(100) {
        let mut unit = Unit::new();
        for bucket in some {
            unit.put(Row::new(store::keys::usage_rollup(account, bucket), "rollup", &sums).unwrap());
        }
        test.app.commit(unit).await.unwrap();
    }
    let asked = async |query: &str| owner.session.get(&format!("/api/billing/usage?{query}")).await;
    let first = last.plus(-149);
    for format in ["json", "csv"] {
        let all = asked(&format!("since={first}&until={last}&format={format}")).await;
        assert_eq!(all.status, 200);
        // As a function gives it: a text within JSON, beside a few headers.
        let bytes = serde_json::to_string(&all.text).unwrap().len();
        assert!(bytes < 6_200_000, "{format}: {bytes}");
    }
    let mut unit = Unit::new();
    let one_more = UsageBucket { day: first.plus(-1), ..buckets[0] };
    unit.put(Row::new(store::keys::usage_rollup(account, &one_more), "rollup", &sums).unwrap());
    test.app.commit(unit).await.unwrap();
    let since = first.plus(-1);
    for format in ["json", "csv"] {
        let refused = asked(&format!("since={since}&until={last}&format={format}")).await;
        assert_eq!((refused.status.as_u16(), refused.text.len() < 500), (422, true), "{format}");
        assert_eq!(refused.json()["field"], "since");
    }
    asked(&format!("since={since}&until={last}&group_by=day,agent")).await.expect(200);
}
