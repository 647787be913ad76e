//! What the operator of the installation sees of usage: what is parked, and how stored, counted and reported usage
//! compare.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::projector::project;
use shared::app::reconcile::Command;
use shared::app::{reconcile, usage};
use shared::domain::usage::{UsageEvent, UsageSums};
use shared::domain::{BillingAccount, Event};
use shared::kernel::{Day, Id, Limit, Rng};
use shared::store;
use shared::table::fault::Faults;
use tests::{Ledger, Mood, Owner, Persona, TestApp};

const PARKED: &str = "/api/admin/billing/parked-usage";
const RECONCILE: &str = "/api/admin/billing/reconcile";
/// After this, what was used should have been counted.
const LAG: Duration = Duration::from_secs(16 * 60);

async fn report(test: &TestApp) {
    usage::batch(&test.app, false).await.unwrap();
    test.workers().run().await;
}

/// Usage of an agent, without its events being counted.
async fn used(test: &TestApp, owner: &Owner, count: usize) -> (Vec<UsageEvent>, Vec<Event>) {
    test.db_use(owner, 7, &test.event_ids(count, None)).await.into_iter().unzip()
}

#[tokio::test]
async fn parked_usage_is_listed_with_its_reason_and_can_be_put_back() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    let (made, _) = used(&test, &owner, 12).await;
    let bad = [&made[3], &made[8]];
    bad.iter().for_each(|event| ledger.refuses(&event.external_id()));
    report(&test).await;
    let list = root.get(&format!("{PARKED}?limit=1")).await.expect(200);
    let newest = bad.iter().max_by_key(|event| event.id).unwrap();
    let item = &list["items"][0];
    assert_eq!((item["id"].as_str().unwrap(), list["items"].as_array().unwrap().len()), (&*newest.id.to_string(), 1));
    assert!(item["reason"].as_str().unwrap().starts_with("Polar answered 422"), "{item}");
    assert_eq!(item["parked_at"], "2040-03-05T09:00:00.000Z");
    assert_eq!(item["account_id"], test.db_account(&owner).await.id.int());
    let next = format!("{PARKED}?cursor={}", list["next_cursor"].as_str().unwrap());
    assert_eq!(root.get(&next).await.expect(200)["items"].as_array().unwrap().len(), 1);

    ledger.refuses_nothing();
    let retry = format!("{PARKED}/{}/retry", newest.id);
    assert_eq!(root.post(&retry, Value::Null).await.status, 204);
    assert_eq!(root.post(&retry, Value::Null).await.code(404), "not_found");
    report(&test).await;
    assert_eq!(ledger.len(), 11);
    let left = root.get(PARKED).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    let stored = test.db_usage(&owner).await;
    assert!(stored.iter().find(|event| event.id == newest.id).unwrap().reported_at.is_some());
}

#[tokio::test]
async fn parked_usage_of_long_ago_is_sent_when_it_is_put_back() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let (made, _) = used(&test, &owner, 1).await;
    ledger.refuses(&made[0].external_id());
    report(&test).await;
    test.clock.advance(Duration::from_secs(200 * 24 * 3600));
    ledger.refuses_nothing();
    let retry = format!("{PARKED}/{}/retry", made[0].id);
    assert_eq!(test.superadmin().await.post(&retry, Value::Null).await.status, 204);
    report(&test).await;
    assert_eq!(ledger.len(), 1);
}

async fn compare(root: &Persona, body: Value) -> Value {
    root.post(RECONCILE, body).await.expect(200)
}

fn account_id(account: Id<BillingAccount>) -> Value {
    json!(account.int())
}

#[tokio::test]
async fn an_account_whose_numbers_agree_has_no_drift() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    let (made, _) = used(&test, &owner, 12).await;
    ledger.refuses(&made[5].external_id());
    report(&test).await;
    used(&test, &owner, 3).await;
    test.workers().run().await;
    let account = account_id(test.db_account(&owner).await.id);
    let found = compare(&root, json!({"account_id": account})).await;
    // Of 12: 4 with the customer's key and 8 with ours; numbers 0, 5 and 10 are included. Of 3: 1 and 2; 0 is included.
    let cost = (3 * 4_000 + 6 * 10_000) + 2 * 10_000;
    let expected = json!({
        "since": "2040-03-01", "until": "2040-03-31", "polar_configured": true, "polar_error": null,
        "items": [{
            "account_id": account, "error": null, "stored": 15, "stored_cost_micro_usd": cost,
            "reported": 11, "unreported": 3, "parked": 1,
            "rollup": 15, "rollup_cost_micro_usd": cost, "polar": 11,
            "drift": {"rollup": 0, "rollup_cost_micro_usd": 0, "polar": 0},
            "counters_off": 0, "counters_repaired": 0, "counters_given_up": 0,
        }],
        "next_cursor": null,
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_missing_at_polar_or_known_only_there_is_drift() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    let (made, _) = used(&test, &owner, 10).await;
    report(&test).await;
    ledger.loses(&made[2].external_id());
    ledger.loses(&made[4].external_id());
    let drift = |found: Value| found["items"][0]["drift"]["polar"].clone();
    let account = account_id(test.db_account(&owner).await.id);
    assert_eq!(drift(compare(&root, json!({"account_id": account})).await), -2);
    // Taken without our knowing: more at Polar than reported, by no more than what is unreported.
    ledger.is(Mood::FailsAfterTaking);
    used(&test, &owner, 4).await;
    report(&test).await;
    ledger.is(Mood::Well);
    let found = compare(&root, json!({"account_id": account})).await;
    assert!(found["items"][0]["unreported"] == 4 && drift(found.clone()).as_i64().unwrap() > -2, "{found}");
    // Days without usage, and the days at the ends.
    let day = |since: &str, until: &str| json!({"account_id": account, "since": since, "until": until});
    let polar = |found: Value| found["items"][0]["polar"].clone();
    assert_eq!(polar(compare(&root, day("2040-03-06", "2040-03-09")).await), 0);
    assert_eq!(polar(compare(&root, day("2040-03-04", "2040-03-04")).await), 0);
    assert!(polar(compare(&root, day("2040-03-05", "2040-03-05")).await).as_i64().unwrap() >= 8);
}

#[tokio::test]
async fn without_polar_and_while_it_fails_the_rest_is_compared_and_the_answer_says_so() {
    let test = TestApp::new().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    used(&test, &owner, 2).await;
    let found = compare(&root, json!({"month": "2040-03"})).await;
    assert_eq!(found["items"][0]["drift"]["rollup"], 0, "what was used just now may be counted later");
    test.clock.advance(LAG);
    let found = compare(&root, json!({"month": "2040-03"})).await;
    assert_eq!((&found["polar_configured"], &found["polar_error"]), (&json!(false), &Value::Null));
    assert_eq!((&found["items"][0]["polar"], &found["items"][0]["drift"]["polar"]), (&Value::Null, &Value::Null));
    assert_eq!((&found["items"][0]["unreported"], &found["items"][0]["drift"]["rollup"]), (&json!(2), &json!(-2)));

    let (test, ledger) = Ledger::with_app().await;
    test.owner().await;
    ledger.is(Mood::Fails);
    let found = compare(&test.superadmin().await, json!({})).await;
    assert!(found["polar_error"].as_str().unwrap().contains("500"), "{found}");
    assert_eq!((&found["polar_configured"], &found["items"][0]["polar"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn all_accounts_are_gone_through_page_by_page() {
    let test = TestApp::new().await;
    let mut accounts = Vec::new();
    for _ in 0..4 {
        let owner = test.owner().await;
        used(&test, &owner, 1).await;
        accounts.push(account_id(test.db_account(&owner).await.id));
    }
    let root = test.superadmin().await;
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let found = compare(&root, json!({"limit": 2, "cursor": cursor})).await;
        seen.extend(found["items"].as_array().unwrap().iter().map(|item| item["account_id"].clone()));
        cursor = found["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert!(accounts.iter().all(|account| seen.contains(account)));
    assert_eq!(seen.len(), 5, "and the operator's own");
}

#[tokio::test]
async fn days_that_cannot_be_compared_are_refused() {
    let test = TestApp::new().await;
    let root = test.superadmin().await;
    for (body, field) in [
        (json!({"month": "2040-13"}), "month"),
        (json!({"month": "2040-03", "since": "2040-03-01"}), "month"),
        (json!({"since": "2040-03-01"}), "month"),
        (json!({"since": "2040-03-02", "until": "2040-03-01"}), "until"),
        (json!({"since": "2040-01-01", "until": "2040-02-01"}), "since"),
        (json!({"month": "2038-01"}), "since"),
        (json!({"cursor": "x"}), "cursor"),
        (json!({"limit": 0}), "limit"),
    ] {
        assert_eq!(root.post(RECONCILE, body.clone()).await.expect(422)["field"], field, "{body}");
    }
    assert_eq!(root.post(RECONCILE, json!({"account_id": 1_u64 << 52})).await.code(404), "not_found");
}

/// A counter set wrong past the API.
async fn db_skew(test: &TestApp, owner: &Owner) {
    let account = test.db_account(owner).await.id;
    let today = shared::kernel::Day::of(test.app.now());
    let counted = store::rollup::usage(&test.app.table, account, today, today).await.unwrap();
    let (read, mut sums) = (counted[0], counted[0].sums);
    (sums.messages, sums.cost) = (sums.messages + 3, 1);
    assert!(store::rollup::set_usage(&test.app.table, account, &read.bucket, Some(&read), sums).await.unwrap());
}

#[tokio::test]
async fn counters_that_are_off_are_set_right_and_what_comes_late_counts_nothing_twice() {
    let test = TestApp::new().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    used(&test, &owner, 9).await;
    test.workers().run().await;
    db_skew(&test, &owner).await;
    // These are stored, and the projector has not come to them yet.
    let (_, late) = used(&test, &owner, 6).await;
    test.clock.advance(Duration::from_secs(24 * 3600));
    let (_, tomorrow) = used(&test, &owner, 2).await;
    test.clock.advance(LAG);
    let body = json!({"account_id": account_id(test.db_account(&owner).await.id)});
    let found = compare(&root, body.clone()).await["items"][0].clone();
    assert_eq!((&found["stored"], &found["rollup"], &found["drift"]["rollup"]), (&json!(17), &json!(12), &json!(-5)));
    assert_eq!((&found["counters_off"], &found["counters_repaired"]), (&json!(4), &json!(0)), "not asked to");
    let mut repair = body.clone();
    repair["repair"] = json!(true);
    let found = compare(&root, repair).await["items"][0].clone();
    assert_eq!((&found["counters_off"], &found["counters_repaired"]), (&json!(4), &json!(4)));
    for events in [&late, &tomorrow] {
        project(&test.app, events).await.unwrap();
    }
    let found = compare(&root, body).await["items"][0].clone();
    let none = json!({"rollup": 0, "rollup_cost_micro_usd": 0, "polar": null});
    assert_eq!((&found["rollup"], &found["drift"], &found["counters_off"]), (&json!(17), &none, &json!(0)));
    let shown = owner.session.get("/api/billing/usage").await.expect(200);
    assert_eq!(shown["totals"]["messages"], 17);
}

/// What is stored of an owner and what is counted.
async fn sums(test: &TestApp, owner: &Owner) -> (UsageSums, UsageSums) {
    let (account, day) = (test.db_account(owner).await.id, Day::of(test.app.now()));
    let counted = store::rollup::usage(&test.app.table, account, day, day).await.unwrap();
    let stored = test.db_usage(owner).await.iter().map(UsageEvent::sums).sum();
    (stored, counted.iter().map(|counted| counted.sums).sum())
}

#[tokio::test]
async fn counting_while_counters_are_set_right_ends_exact() {
    let test = TestApp::new().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    let (_, early) = used(&test, &owner, 30).await;
    project(&test.app, &early).await.unwrap();
    let (_, late) = used(&test, &owner, 60).await;
    test.clock.advance(LAG);
    let repair = json!({"account_id": account_id(test.db_account(&owner).await.id), "repair": true});
    let counting = async {
        for some in late.chunks(3) {
            project(&test.app, some).await.unwrap();
        }
    };
    tokio::join!(counting, compare(&root, repair.clone()), compare(&root, repair.clone()));
    let (stored, counted) = sums(&test, &owner).await;
    assert_eq!(counted, stored, "nobody repairs any more");
}

#[tokio::test]
async fn a_counter_that_is_counted_in_all_the_time_is_given_up_and_stays_right_but_for_what_was_wrong() {
    let test = TestApp::new().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    let (_, early) = used(&test, &owner, 30).await;
    project(&test.app, &early).await.unwrap();
    db_skew(&test, &owner).await;
    test.clock.advance(LAG);
    let mut busy = Vec::new();
    for _ in 0..60 {
        busy.extend(used(&test, &owner, 12).await.1);
    }
    let repair = json!({"account_id": account_id(test.db_account(&owner).await.id), "repair": true});
    let counting = async {
        for event in &busy {
            project(&test.app, std::slice::from_ref(event)).await.unwrap();
        }
    };
    let ((), found) = tokio::join!(counting, compare(&root, repair.clone()));
    let found = &found["items"][0];
    let (given_up, off) = (found["counters_given_up"].as_u64().unwrap(), found["counters_off"].as_u64().unwrap());
    assert_eq!(found["counters_repaired"].as_u64().unwrap() + given_up, off);
    let (stored, counted) = sums(&test, &owner).await;
    assert!(given_up > 0 || counted == stored, "{found}: {counted:?} {stored:?}");
    compare(&root, repair).await;
    let (stored, counted) = sums(&test, &owner).await;
    assert_eq!(counted, stored, "when it is quiet it is set right");
}

/// A repair that ends at any of its calls, while the projector has not come to everything yet.
#[tokio::test]
async fn a_repair_that_dies_anywhere_loses_nothing_and_counts_nothing_twice() {
    for calls in 0..24 {
        let test = TestApp::new().await;
        let owner = test.owner().await;
        let (_, early) = used(&test, &owner, 8).await;
        project(&test.app, &early).await.unwrap();
        let (_, late) = used(&test, &owner, 40).await;
        test.clock.advance(LAG);
        let faults = Faults::new(Rng::seeded(u64::from(calls)));
        let process = test.process_with(Rng::seeded(u64::from(calls) + 7_000), &faults, Arc::clone(&test.queue) as _);
        faults.die_after(calls, calls % 2 == 0);
        let command = everything(&test, true, reconcile::MAX_EVENTS);
        tokio::select! {
            report = reconcile::run(&process, &command) => drop(report.unwrap()),
            () = faults.death() => {}
        }
        project(&test.app, &late).await.unwrap();
        let (stored, counted) = sums(&test, &owner).await;
        assert_eq!(counted, stored, "it died after {calls} calls");
    }
}

fn everything(test: &TestApp, repair: bool, bound: usize) -> Command {
    let today = Day::of(test.app.now());
    let limit = Limit::new(None).unwrap();
    Command { account: None, since: today, until: today, repair, after: None, limit, bound }
}

#[tokio::test]
async fn counters_whose_markers_have_expired_are_set_right_and_never_counted_again() {
    let test = TestApp::new().await;
    let (owner, root) = (test.owner().await, test.superadmin().await);
    let (made, events) = used(&test, &owner, 9).await;
    project(&test.app, &events).await.unwrap();
    db_skew(&test, &owner).await;
    let mut expired = shared::table::Unit::new();
    for event in &made {
        let rollup = store::keys::usage_rollup(event.billing_account_id, &event.bucket());
        expired.delete(store::keys::rollup_marker(&rollup, event.id));
    }
    test.app.commit(expired).await.unwrap();
    test.clock.advance(Duration::from_secs(40 * 24 * 3600));
    let root = if root.get("/api/auth/me").await.status == 200 { root } else { test.superadmin().await };
    let found = compare(&root, json!({"month": "2040-03", "repair": true})).await["items"][0].clone();
    assert_eq!((&found["counters_off"], &found["counters_repaired"]), (&json!(1), &json!(1)));
    let found = compare(&root, json!({"month": "2040-03"})).await["items"][0].clone();
    assert_eq!((&found["stored"], &found["rollup"], &found["counters_off"]), (&json!(9), &json!(9), &json!(0)));
}

#[tokio::test]
async fn an_account_with_too_much_usage_is_left_out_and_the_others_are_compared() {
    let test = TestApp::new().await;
    let (large, small) = (test.owner().await, test.owner().await);
    used(&test, &large, 12).await;
    used(&test, &small, 2).await;
    let mut command = everything(&test, false, 10);
    let mut found = Vec::new();
    loop {
        let report = reconcile::run(&test.app, &command).await.unwrap();
        found.extend(report.accounts);
        command.after = report.next;
        if command.after.is_none() {
            break;
        }
    }
    let of = async |owner: &Owner| {
        let account = test.db_account(owner).await.id;
        found.iter().find(|(found, _)| *found == account).map(|(_, found)| found.clone()).unwrap()
    };
    assert!(of(&large).await.unwrap_err().message().contains("too much usage"));
    assert_eq!(of(&small).await.unwrap().stored.messages, 2);
}

#[tokio::test]
async fn who_repairs_counters_or_reports_usage_leaves_a_trace() {
    let test = TestApp::new().await;
    let root = test.superadmin().await;
    compare(&root, json!({"repair": true})).await;
    root.post("/api/admin/billing/report-usage", json!({"force": true})).await.expect(200);
    let dump = test.db_dump().await;
    let actions: Vec<_> = dump.of("audit").map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    assert!(["reconcile_usage", "report_usage"].iter().all(|action| actions.iter().any(|done| done == action)));
}
