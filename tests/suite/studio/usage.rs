//! Reporting usage to Polar: whatever it does, its ledger comes out exact to the event, and no event is sent again
//! before its claim has ended, except by force.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use shared::app::usage::{self, Report};
use shared::domain::usage::{UsageBatch, UsageEvent};
use shared::kernel::{Rng, Time};
use shared::ports::queue::QueueName;
use shared::store;
use tests::{Agent, Ledger, Mood, Owner, TestApp};
use uuid::Uuid;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

async fn chat(test: &TestApp, agent: &Agent, messages: usize) {
    let mut visitor = test.visitor(agent);
    for number in 0..messages {
        visitor.says(&format!("message {number}")).await;
    }
}

/// An owner who used so many messages.
pub(super) async fn used(test: &TestApp, count: usize) -> (Owner, Agent) {
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.db_use(&owner, agent.id, &test.event_ids(count, None)).await;
    (owner, agent)
}

/// The messages that wait to be reported.
fn queued(test: &TestApp) -> Vec<Report> {
    let messages = test.queue.take(QueueName::UsageReport).into_iter();
    messages.map(|message| serde_json::from_str(&message.body).expect("a report")).collect()
}

pub(super) async fn claim(test: &TestApp, force: bool) -> Vec<Report> {
    usage::batch(&test.app, force).await.expect("usage is claimed");
    queued(test)
}

async fn report(test: &TestApp, report: &Report) {
    usage::report(&test.app, report).await.expect("Polar's failures are no faults of ours");
}

pub(super) async fn report_all(test: &TestApp, reports: &[Report]) {
    for one in reports {
        report(test, one).await;
    }
}

/// What the schedule and the queue do every five minutes.
pub(super) async fn five_minutes(test: &TestApp) {
    let reports = claim(test, false).await;
    report_all(test, &reports).await;
    test.clock.advance(5 * MINUTE);
}

/// The ledger has exactly what is stored, and all of it is marked.
pub(super) async fn assert_exact(test: &TestApp, owner: &Owner, ledger: &Ledger) {
    let stored = test.db_usage(owner).await;
    let ids: BTreeSet<String> = stored.iter().map(UsageEvent::external_id).collect();
    assert_eq!(ledger.events().into_keys().collect::<BTreeSet<_>>(), ids);
    let unmarked: Vec<_> = stored.iter().filter(|event| event.reported_at.is_none()).collect();
    assert!(unmarked.is_empty(), "{} of {} are not marked", unmarked.len(), stored.len());
    assert_eq!(test.db_dump().await.of("usage_batch").count(), 0, "every claim has ended");
}

#[tokio::test]
async fn every_reply_is_posted_once_with_what_the_meter_sums() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    chat(&test, &agent, 7).await;
    let admin = test.superadmin().await;
    let report = admin.post("/api/admin/billing/report-usage", json!({})).await.expect(200);
    assert_eq!((&report["configured"], &report["events"]), (&json!(true), &json!(7)));
    test.workers().run().await;
    assert_exact(&test, &owner, &ledger).await;
    let account = test.db_account(&owner).await;
    for (id, event) in ledger.events() {
        assert!(id.starts_with("ws_") && id.contains(':'), "unique over all tenants: {id}");
        assert_eq!(event["name"], "ai_message");
        assert_eq!(event["external_customer_id"], account.id.text());
        assert_eq!(event["metadata"]["key_source"], "managed");
        assert_eq!(event["metadata"]["billable"], 0, "the trial is reported, but not billed");
    }
    let again = admin.post("/api/admin/billing/report-usage", json!({"force": true})).await.expect(200);
    assert_eq!(again["events"], 0, "nothing is unreported any more");
}

#[tokio::test]
async fn messages_beyond_the_included_ones_are_billable_and_stop_at_the_spend_cap() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let mut account = test.db_account(&owner).await;
    (account.has_payment_method, account.payg_enabled, account.spend_cap_cents) = (true, true, Some(3));
    store::billing::overwrite(&test.app.table, &account).await.unwrap();
    let agent = owner.agent("Soporte").await;
    chat(&test, &agent, 3).await;
    let refused = test.visitor(&agent).send("one more").await;
    assert_eq!(refused.code(402), "spend_cap_reached", "three cents are three managed messages");
    let shown = owner.session.get("/api/billing/account").await.expect(200);
    assert_eq!((&shown["plan"], &shown["estimated_overage_cents"]), (&json!("payg"), &json!(3.0)));
    five_minutes(&test).await;
    assert!(ledger.events().values().all(|event| event["metadata"]["billable"] == 1));
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn a_time_that_polar_would_take_for_the_future_is_sent_as_now() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, agent) = used(&test, 1).await;
    let (mut usage, _) = test.db_use(&owner, agent.id, &test.event_ids(1, None)).await.remove(0);
    usage.at = usage.at + MINUTE;
    usage.id = test.app.ids().uuid();
    let mut unit = shared::table::Unit::new();
    store::usage::create(&mut unit, &usage).unwrap();
    test.app.commit(unit).await.unwrap();
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
    assert_eq!(ledger.events()[&usage.external_id()]["timestamp"], "2040-03-05T08:59:00.000Z");
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_polars_parks_nothing() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 5).await;
    ledger.is_behind(MINUTE);
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn what_is_used_around_midnight_is_dated_on_its_own_day() {
    let (test, ledger) = Ledger::with_app().await;
    test.clock.advance(Duration::from_secs(14 * 3600 + 59 * 60 + 59));
    let (owner, agent) = used(&test, 2).await;
    test.clock.advance(Duration::from_secs(2));
    test.db_use(&owner, agent.id, &test.event_ids(3, None)).await;
    let days = || -> Vec<String> {
        ledger.events().values().map(|event| event["timestamp"].as_str().unwrap()[..10].to_owned()).collect()
    };
    five_minutes(&test).await;
    assert_eq!(days(), ["2040-03-05"; 2], "the new day's wait");
    five_minutes(&test).await;
    assert_eq!(days().iter().filter(|day| *day == "2040-03-06").count(), 3);
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn a_claimed_run_is_not_claimed_again_before_its_deadline_except_by_force() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 5).await;
    let first = claim(&test, false).await;
    assert_eq!(usage::batch(&test.app, false).await.unwrap().events, 0, "claimed");
    let forced = claim(&test, true).await;
    assert_eq!(forced.len(), first.len(), "force ignores claims");
    report_all(&test, &first).await;
    assert!(ledger.calls().is_empty(), "the claims gave way to the forced ones");
    report_all(&test, &forced).await;
    report_all(&test, &forced).await;
    assert_eq!(ledger.calls().len(), forced.len());
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn what_the_queue_loses_is_claimed_again_after_the_deadline_and_never_sent_by_the_old_claim() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 5).await;
    let lost = claim(&test, false).await;
    test.clock.advance(29 * MINUTE);
    assert!(claim(&test, false).await.is_empty());
    test.clock.advance(MINUTE);
    let again = claim(&test, false).await;
    assert_eq!(again.len(), lost.len());
    report_all(&test, &lost).await;
    assert!(ledger.is_empty(), "found again too late");
    report_all(&test, &again).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn a_message_that_the_queue_gives_twice_is_sent_once() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 20).await;
    let reports = claim(&test, false).await;
    for one in &reports {
        tokio::join!(report(&test, one), report(&test, one));
        report(&test, one).await;
    }
    let calls = ledger.calls();
    let sent: Vec<&String> = calls.iter().flat_map(|call| &call.ids).collect();
    assert_eq!(sent.len(), sent.iter().collect::<BTreeSet<_>>().len(), "no event twice");
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn what_a_reporter_had_begun_when_it_died_is_sent_by_the_next_claim_and_not_by_a_repeat() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(5, Some(2))).await;
    let reports = claim(&test, false).await;
    let now = test.app.now();
    let begun = store::usage::begin(&test.app.table, &reports[0].batch, now, now + 10 * MINUTE).await.unwrap();
    assert!(begun.is_some());
    report(&test, &reports[0]).await;
    test.clock.advance(9 * MINUTE);
    assert!(claim(&test, false).await.is_empty());
    assert!(ledger.calls().is_empty());
    test.clock.advance(MINUTE);
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn runs_of_the_schedule_at_the_same_moment_claim_each_event_once() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 60).await;
    let runs = [(); 4].map(|()| usage::batch(&test.app, false));
    let claimed: usize = futures_util::future::try_join_all(runs).await.unwrap().iter().map(|run| run.events).sum();
    assert_eq!(claimed, 60);
    report_all(&test, &queued(&test)).await;
    let sent: usize = ledger.calls().iter().map(|call| call.ids.len()).sum();
    assert_eq!(sent, 60);
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn every_free_stretch_between_claims_is_claimed_in_one_run() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, agent) = (test.owner().await, 7);
    let ids = test.event_ids(50, Some(3));
    let claim_of = |first: usize, last: usize, token: &str| UsageBatch {
        shard: 3,
        bucket: "204003".into(),
        first: ids[first],
        last: ids[last],
        token: token.into(),
        forced: false,
        sent_at: None,
        deadline: test.app.now() + 10 * MINUTE,
    };
    let taken = [claim_of(5, 9, "a"), claim_of(20, 20, "b"), claim_of(21, 30, "c"), claim_of(45, 49, "d")];
    let mut claims = store::usage::claims(&test.app.table, 3, "204003").await.unwrap();
    assert!(store::usage::claim(&test.app.table, &mut claims, &taken).await.unwrap());
    test.db_use(&owner, agent, &ids).await;
    let reports = claim(&test, false).await;
    let runs: Vec<_> = reports.iter().map(|report| (report.batch.first, report.batch.last)).collect();
    assert_eq!(runs, [(ids[0], ids[4]), (ids[10], ids[19]), (ids[31], ids[44])]);
    report_all(&test, &reports).await;
    assert_eq!(ledger.len(), 29);
    test.clock.advance(10 * MINUTE);
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn more_events_than_a_call_takes_are_claimed_in_several_runs_at_once() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(1_100, Some(0))).await;
    let claimed = usage::batch(&test.app, false).await.unwrap();
    assert_eq!((claimed.batches, claimed.events), (3, 1_100));
    report_all(&test, &queued(&test)).await;
    let sizes: Vec<usize> = ledger.calls().iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes, [500, 500, 100]);
    assert_exact(&test, &owner, &ledger).await;
}

/// One failure: nothing is sent while it makes no sense, then all of it, once.
async fn survives(mood: Mood, wait: Duration, patience: Duration) {
    let (test, ledger) = Ledger::with_patience(patience).await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(30, Some(1))).await;
    let reports = claim(&test, false).await;
    ledger.is(mood.clone());
    report_all(&test, &reports).await;
    ledger.is(Mood::Well);
    report_all(&test, &reports).await;
    assert!(ledger.calls().len() <= 1, "a claim is sent once: {mood:?}");
    let paused = usage::batch(&test.app, false).await.unwrap();
    let until = paused.paused_until.expect("Polar is left alone");
    assert_eq!(paused.events, 0);
    let waits = until.since(test.app.now());
    assert!(waits <= wait && waits >= wait.mul_f64(0.89), "{mood:?} waits {waits:?}");
    test.clock.advance(waits - Duration::from_millis(1));
    assert!(claim(&test, false).await.is_empty(), "not before: {mood:?}");
    test.clock.advance(Duration::from_millis(1));
    let reports = claim(&test, false).await;
    report_all(&test, &reports).await;
    assert_exact(&test, &owner, &ledger).await;
    let state = store::usage::polar_state(&test.app.table).await.unwrap().body;
    assert_eq!((state.failures, state.paused_until), (0, None), "success clears the state");
}

const PATIENT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_500_before_anything_is_stored_loses_nothing() {
    survives(Mood::Fails, MINUTE, PATIENT).await;
}

#[tokio::test]
async fn a_500_after_storing_counts_nothing_twice() {
    survives(Mood::FailsAfterTaking, MINUTE, PATIENT).await;
}

#[tokio::test]
async fn a_time_out_after_storing_counts_nothing_twice() {
    survives(Mood::HangsAfterTaking, MINUTE, Duration::from_millis(400)).await;
}

#[tokio::test]
async fn a_connection_that_nobody_takes_loses_nothing() {
    survives(Mood::Down, MINUTE, PATIENT).await;
}

#[tokio::test]
async fn a_429_waits_as_long_as_it_asks_for() {
    survives(Mood::Busy(Some("77".into())), Duration::from_secs(77), PATIENT).await;
    survives(Mood::Busy(Some("Mon, 05 Mar 2040 09:03:20 GMT".into())), Duration::from_secs(200), PATIENT).await;
}

#[tokio::test]
async fn a_429_without_retry_after_waits_a_minute() {
    survives(Mood::Busy(None), MINUTE, PATIENT).await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_until_it_fits() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(100, Some(5))).await;
    ledger.is(Mood::TakesAtMost(30));
    five_minutes(&test).await;
    let sizes: Vec<usize> = ledger.calls().iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes, [100, 50, 25, 25, 50, 25, 25]);
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn what_was_taken_before_a_failure_is_marked_and_only_the_rest_is_sent_again() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(100, Some(5))).await;
    ledger.is(Mood::TakesAtMost(25));
    ledger.tires_after(4);
    five_minutes(&test).await;
    assert_eq!(test.db_usage(&owner).await.iter().filter(|event| event.reported_at.is_some()).count(), 50);
    ledger.is(Mood::Well);
    five_minutes(&test).await;
    let calls: Vec<(usize, u16)> = ledger.calls().iter().map(|call| (call.ids.len(), call.status)).collect();
    assert_eq!(calls, [(100, 413), (50, 413), (25, 200), (25, 200), (50, 500), (50, 200)]);
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn after_an_hours_outage_the_ledger_is_exact_and_polar_was_not_flooded() {
    for mood in [Mood::Down, Mood::Fails, Mood::FailsAfterTaking] {
        let (test, ledger) = Ledger::with_app().await;
        let (owner, agent) = used(&test, 40).await;
        ledger.is(mood.clone());
        for _ in 0..12 {
            five_minutes(&test).await;
            test.db_use(&owner, agent.id, &test.event_ids(5, None)).await;
        }
        assert!(ledger.calls().len() <= 12, "{mood:?}: {} calls in an hour", ledger.calls().len());
        ledger.is(Mood::Well);
        for _ in 0..5 {
            five_minutes(&test).await;
        }
        assert_eq!(ledger.len(), 100, "{mood:?}");
        assert_exact(&test, &owner, &ledger).await;
    }
}

#[tokio::test]
async fn while_polar_fails_other_claims_end_unsent_and_force_sends_all_the_same() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    for shard in 0..4 {
        test.db_use(&owner, 7, &test.event_ids(3, Some(shard))).await;
    }
    let reports = claim(&test, false).await;
    ledger.is(Mood::Fails);
    report_all(&test, &reports).await;
    assert_eq!((reports.len(), ledger.calls().len()), (4, 1), "one failure is enough");
    assert_eq!(test.db_dump().await.of("usage_batch").count(), 1, "only the claim of which nobody knows holds");
    ledger.is(Mood::Well);
    let admin = test.superadmin().await;
    let paused = admin.post("/api/admin/billing/report-usage", json!({})).await.expect(200);
    assert!(paused["paused_until"].is_string() && paused["events"] == 0, "{paused}");
    let forced = admin.post("/api/admin/billing/report-usage", json!({"force": true})).await.expect(200);
    assert_eq!((&forced["events"], &forced["paused_until"]), (&json!(12), &json!(null)));
    report_all(&test, &queued(&test)).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn a_report_under_way_sees_that_another_one_was_asked_to_wait() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    test.db_use(&owner, 7, &test.event_ids(30, Some(1))).await;
    let reports = claim(&test, false).await;
    ledger.is(Mood::TakesAtMost(1));
    let asked = async {
        while ledger.calls().len() < 8 {
            tokio::task::yield_now().await;
        }
        let state = store::usage::polar_state(&test.app.table).await.unwrap();
        let failed = state.body.failed(test.app.now(), Some(MINUTE), 0, "429".into());
        store::usage::set_polar_state(&test.app.table, failed, state.v).await.unwrap();
        ledger.calls().len()
    };
    let (seen, ()) = tokio::join!(asked, report_all(&test, &reports));
    let calls = ledger.calls().len();
    assert!(calls <= seen + 2, "{calls} calls, {seen} when Polar was to be left alone");
    assert_eq!(usage::batch(&test.app, false).await.unwrap().paused_until, Some(test.app.now() + MINUTE));
    ledger.is(Mood::Well);
    test.clock.advance(MINUTE);
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn a_token_that_polar_does_not_know_is_a_pause_and_no_dead_letter() {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 3).await;
    ledger.is(Mood::Answers(401));
    five_minutes(&test).await;
    let state = store::usage::polar_state(&test.app.table).await.unwrap().body;
    assert!(state.reason.unwrap().contains("401"));
    ledger.is(Mood::Well);
    five_minutes(&test).await;
    assert_exact(&test, &owner, &ledger).await;
}

#[tokio::test]
async fn what_does_not_read_in_one_shard_holds_back_no_other() {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let made: Vec<_> = {
        let mut made = Vec::new();
        for shard in 0..3 {
            made.extend(test.db_use(&owner, 7, &test.event_ids(2, Some(shard))).await);
        }
        made
    };
    let key = store::keys::usage(made[0].0.billing_account_id, made[0].0.at, made[0].0.id);
    let broken = shared::table::Update::new(key).set("unit_cost", "a cent");
    test.app.table.update(broken, None, shared::kernel::Error::not_found()).await.unwrap();
    let now = test.app.now();
    let claim = json!({"shard": 1, "bucket": "204003", "token": 7, "deadline": now});
    let key = shared::table::Key::new(store::keys::usage_batches(1), "204003#x#y");
    test.app.table.overwrite(shared::table::Row::new(key, "usage_batch", &claim).unwrap()).await.unwrap();
    let error = usage::batch(&test.app, false).await.unwrap_err();
    assert!(error.cause().unwrap().starts_with("2 shards of usage do not read; shard 0 of 204003"), "{error}");
    report_all(&test, &queued(&test)).await;
    assert_eq!(ledger.len(), 2, "those of the third shard");
}

#[tokio::test]
async fn without_polar_nothing_is_claimed_and_the_answer_says_so() {
    let test = TestApp::new().await;
    let agent = test.owner().await.agent("Soporte").await;
    chat(&test, &agent, 1).await;
    let report = test.superadmin().await.post("/api/admin/billing/report-usage", json!({})).await.expect(200);
    assert_eq!(report, json!({"configured": false, "batches": 0, "events": 0, "paused_until": null}));
}

/// How many shards a random walk uses.
const MEETING: u8 = 3;

/// What is known of a claim.
struct Seen {
    batch: UsageBatch,
    /// When it was gone.
    gone: Option<Time>,
}

/// Watches the table and the ledger, and finds who sends an event although somebody else's claim on it holds.
struct Watch<'a> {
    test: &'a TestApp,
    ledger: &'a Ledger,
    claims: BTreeMap<String, Seen>,
    /// Under which claims an event was sent.
    sent: BTreeMap<String, Vec<String>>,
    calls: usize,
}

impl<'a> Watch<'a> {
    fn new(test: &'a TestApp, ledger: &'a Ledger) -> Self {
        Self { test, ledger, claims: BTreeMap::new(), sent: BTreeMap::new(), calls: 0 }
    }

    /// Looks at what happened since the last look: nothing, or this claim was given to the reporter.
    async fn look(&mut self, given: Option<&Report>) {
        let now = self.test.app.now();
        let calls = self.ledger.calls();
        for call in calls.iter().skip(self.calls).filter(|call| !call.is_refused()) {
            let batch = &given.expect("only who is given a claim sends").batch;
            for id in &call.ids {
                let earlier = self.sent.entry(id.clone()).or_default();
                assert!(!earlier.contains(&batch.token), "{id} is sent twice under one claim");
                for token in earlier.iter() {
                    let seen = &self.claims[token];
                    let has_ended = seen.gone.is_some() || seen.batch.deadline <= now;
                    assert!(has_ended || batch.forced, "{id} is sent again while {:?} holds", seen.batch);
                }
                earlier.push(batch.token.clone());
            }
        }
        self.calls = calls.len();
        let mut live = BTreeMap::new();
        for shard in 0..MEETING {
            let found = store::usage::claims(&self.test.app.table, shard, "204003").await.unwrap();
            live.extend(found.claims.into_iter().map(|claim| (claim.token.clone(), claim)));
        }
        for (token, seen) in &mut self.claims {
            match live.remove(token) {
                Some(batch) => seen.batch = batch,
                None => seen.gone = seen.gone.or(Some(now)),
            }
        }
        self.claims.extend(live.into_iter().map(|(token, batch)| (token, Seen { batch, gone: None })));
    }
}

#[tokio::test]
async fn whatever_happens_no_event_is_sent_again_before_its_claim_ends_except_by_force() {
    for seed in 0..3 {
        wander(seed).await;
    }
}

/// A random walk over everything that can happen; in the end the ledger is exact.
async fn wander(seed: u64) {
    let (test, ledger) = Ledger::with_patience(Duration::from_millis(300)).await;
    let (owner, rng) = (test.owner().await, Rng::seeded(seed));
    let mut watch = Watch::new(&test, &ledger);
    let (mut waiting, mut done): (Vec<Report>, Vec<Report>) = (Vec::new(), Vec::new());
    let moods = [
        Mood::Well,
        Mood::Well,
        Mood::Fails,
        Mood::FailsAfterTaking,
        Mood::Busy(Some("90".into())),
        Mood::Busy(None),
        Mood::TakesAtMost(2),
        Mood::Down,
        Mood::HangsAfterTaking,
    ];
    for _ in 0..70 {
        let mut given = None;
        match rng.below(20) {
            0..=3 => drop(test.db_use(&owner, 7, &some_ids(&test, &rng)).await),
            4..=6 => waiting.extend(claim(&test, false).await),
            7 => waiting.extend(claim(&test, true).await),
            8..=12 if !waiting.is_empty() => {
                let one = waiting.swap_remove(pick(&rng, waiting.len()));
                report(&test, &one).await;
                done.push(one.clone());
                given = Some(one);
            }
            // The queue gives a message again, however late.
            13..=14 if !done.is_empty() => {
                let one = done[pick(&rng, done.len())].clone();
                report(&test, &one).await;
                given = Some(one);
            }
            15 if !waiting.is_empty() => drop(waiting.swap_remove(pick(&rng, waiting.len()))),
            16..=17 => ledger.is(moods[pick(&rng, moods.len())].clone()),
            _ => test.clock.advance(Duration::from_secs(u64::from(rng.below(600)))),
        }
        watch.look(given.as_ref()).await;
    }
    ledger.is(Mood::Well);
    for _ in 0..4 {
        for one in claim(&test, false).await {
            report(&test, &one).await;
            watch.look(Some(&one)).await;
        }
        test.clock.advance(15 * MINUTE);
        watch.look(None).await;
    }
    assert_exact(&test, &owner, &ledger).await;
}

/// A few fresh events in few shards, so that claims meet.
fn some_ids(test: &TestApp, rng: &Rng) -> Vec<Uuid> {
    let shard = u8::try_from(rng.below(u32::from(MEETING))).expect("small");
    test.event_ids(pick(rng, 6) + 1, Some(shard))
}

fn pick(rng: &Rng, bound: usize) -> usize {
    rng.below(u32::try_from(bound).expect("small")) as usize
}
