//! `WhatsApp`: as whom somebody who writes is known, and what finds them.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::domain::{Agent as AgentHead, Contact};
use shared::kernel::Id;
use shared::store::keys;
use shared::table::Row;
use tests::phones::{SIGNING_SECRET, of_meta, text};
use tests::{Agent, Owner, TestApp};

use super::whatsapp::{ANA, BURST, NUMBER, contents, conversation};

const NEW: &str = "34600333444";

/// An agent on a number at Meta.
async fn set() -> (TestApp, Owner, Agent) {
    let (test, _phones, _model, owner, agent) = super::whatsapp::set().await;
    (test, owner, agent)
}

/// Somebody writes to a number from Ana's phone.
async fn writes(test: &TestApp, number: &str, id: &str, user: Option<&str>) {
    test.comes_in(number, says(test, id, user, Some(ANA))).await;
    test.workers().run_queues().await;
}

/// The contacts, by when they were made.
async fn contacts(test: &TestApp) -> Vec<Value> {
    let dump = test.db_dump().await;
    let mut all: Vec<Value> = dump.of("contact").cloned().collect();
    all.sort_by_key(|contact| contact["id"].to_string());
    all
}

#[tokio::test]
async fn who_writes_to_two_agents_of_two_portfolios_is_one_person_and_is_erased_as_one() {
    let (test, owner, first) = set().await;
    let second = owner.agent_with(json!({"name": "Ventas"})).await;
    test.connects_meta(&owner, &second, "888").await;
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    writes(&test, "888", "wamid.2", Some("ES.99")).await;
    writes(&test, NUMBER, "wamid.3", Some("ES.1")).await;
    let known = contacts(&test).await;
    assert_eq!((known.len(), &known[0]["phone"]), (1, &json!(ANA)), "{known:?}");
    assert_eq!(test.db_dump().await.of("contact_guard").count(), 3, "a phone, and a user id at each of both");
    for agent in [&first, &second] {
        assert_eq!(owner.conversations(agent).await.len(), 1);
    }
    let erased = owner.session.post("/api/contacts/erase", json!({"phone": ANA})).await.expect(200);
    assert_eq!(erased["conversations"], 2);
    let dump = test.db_dump().await;
    assert_eq!((dump.of("contact").count(), dump.of("contact_guard").count()), (0, 0));
}

#[tokio::test]
async fn whom_a_site_has_signed_is_known_by_their_user_id_too_so_that_nobody_else_becomes_them() {
    let (test, owner, agent) = set().await;
    let made = owner.session.post(&format!("/api/agents/{}/identity-secret", agent.id), json!({})).await.expect(200);
    let mut mac = Hmac::<Sha256>::new_from_slice(made["secret"].as_str().unwrap().as_bytes()).unwrap();
    mac.update(b"u1");
    let identity = json!({"user_id": "u1", "signature": hex::encode(mac.finalize().into_bytes()), "phone": ANA});
    let visitor = test.visitor(&agent);
    let body = json!({"message": "Hello", "identity": identity});
    visitor.persona.post(&visitor.path(), body).await.expect(200);
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    assert_eq!(contacts(&test).await.len(), 1, "they have that number");
    writes(&test, NUMBER, "wamid.2", Some("ES.2")).await;
    let known = contacts(&test).await;
    assert_eq!(known.len(), 2, "another person has it now: {known:?}");
    let of = |user: Value| known.iter().find(|contact| contact["user_id"] == user).unwrap();
    assert_eq!((&of(json!("u1"))["phone"], &of(json!("whatsapp:ES.2"))["phone"]), (&Value::Null, &json!(ANA)));
}

#[tokio::test]
async fn a_visitor_who_named_somebodys_number_has_no_say_once_its_owner_writes() {
    let (test, _owner, agent) = set().await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    let lead = json!({"name": "Somebody", "phone": ANA, "conversation_id": visitor.handle});
    visitor.persona.post(&form, lead).await.expect(201);
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    let lead = json!({"phone": ANA, "email": "visitor@example.com", "conversation_id": visitor.handle});
    visitor.persona.post(&form, lead).await.expect(201);
    let known = contacts(&test).await;
    assert_eq!((known.len(), &known[0]["email"]), (1, &Value::Null), "{known:?}");
}

#[tokio::test]
async fn what_finds_nobody_any_more_keeps_nobody_from_being_heard() {
    let (test, owner, agent) = set().await;
    let (workspace, gone) = (test.db_workspace(&owner).await.id, Id::<Contact>::from_int(77).unwrap());
    let key = keys::contact_user(workspace, Id::<AgentHead>::from_int(agent.id).unwrap(), "whatsapp:ES.1");
    let guard = Row::new(key, "contact_guard", &json!({"contact_id": gone})).unwrap();
    test.app.table.overwrite(guard).await.unwrap();
    writes(&test, NUMBER, "wamid.1", Some("ES.1")).await;
    assert_eq!(owner.conversations(&agent).await.len(), 1);
    owner.session.post("/api/contacts/erase", json!({"phone": ANA})).await.expect(200);
    assert_eq!(test.db_dump().await.of("contact_guard").count(), 0, "and they are erased wholly");
}

/// A message as somebody is known when they write it.
fn says(test: &TestApp, id: &str, user: Option<&str>, phone: Option<&str>) -> Value {
    let mut message = text(id, ANA, test.app.now(), "Hi");
    (message["from"], message["from_user_id"]) = (json!(phone), json!(user));
    message
}

/// Meta tells this, and it is worked off.
async fn tell(test: &TestApp, message: Value) {
    test.comes_in(NUMBER, message).await;
    test.workers().run_queues().await;
}

/// What the app tells of itself, now.
fn system(test: &TestApp, from: Option<&str>, system: &Value) -> Value {
    let at = test.app.now().seconds().to_string();
    json!({"id": "wamid.system", "timestamp": at, "from": from, "type": "system", "system": system})
}

/// How many messages each conversation has, and with whom it is, the oldest first.
async fn talks(owner: &Owner, agent: &Agent) -> Vec<(u64, Value, Value)> {
    let mut heads = owner.conversations(agent).await;
    heads.sort_by_key(|head| head["created_at"].to_string());
    let of = |head: &Value| {
        let talk = &head["whatsapp"];
        (head["message_count"].as_u64().unwrap(), talk["user_id"].clone(), talk["phone"].clone())
    };
    heads.iter().map(of).collect()
}

#[tokio::test]
async fn somebody_whose_number_changes_stays_who_they_were_in_the_conversation_that_they_had() {
    let (test, owner, agent) = set().await;
    tell(&test, says(&test, "wamid.1", Some("ES.1"), Some(ANA))).await;
    // The number and the user id, told twice.
    let told = json!({"body": "User Ana changed from 34600111222 to 34600333444", "type": "user_changed_number",
        "wa_id": NEW, "user_id": "ES.2", "previous_user_id": "ES.1"});
    tell(&test, system(&test, Some(ANA), &told)).await;
    let once = test.db_dump().await;
    tell(&test, system(&test, Some(ANA), &told)).await;
    assert_eq!(once.changes_since(&test.db_dump().await), Vec::<String>::new());
    tell(&test, says(&test, "wamid.2", Some("ES.2"), Some(NEW))).await;
    // Only the user id: they hide their number.
    let told = json!({"body": "User Ana changed from ES.2 to ES.3", "type": "user_changed_user_id",
        "user_id": "ES.3", "previous_user_id": "ES.2"});
    tell(&test, system(&test, None, &told)).await;
    tell(&test, says(&test, "wamid.3", Some("ES.3"), None)).await;
    // In a field of its own.
    let mut body = of_meta(NUMBER, &[], &[]);
    let change = &mut body["entry"][0]["changes"][0];
    change["field"] = json!("user_id_update");
    change["value"]["user_id_update"] = json!([{"user_id": {"previous": "ES.3", "current": "ES.4"}}]);
    assert_eq!(test.meta_calls(SIGNING_SECRET, &body).await.expect(200)["taken"], 1);
    test.workers().run_queues().await;
    tell(&test, says(&test, "wamid.4", Some("ES.4"), None)).await;
    let thread = conversation(&owner, &agent).await;
    assert_eq!(contents(&thread).iter().filter(|said| **said == "Hi").count(), 4, "{thread}");
    assert_eq!((&thread["whatsapp"]["user_id"], &thread["whatsapp"]["phone"]), (&json!("ES.4"), &Value::Null));
    let dump = test.db_dump().await;
    let known: Vec<_> = dump.of("contact").map(|contact| [&contact["user_id"], &contact["phone"]]).collect();
    assert_eq!(known, [[&json!("whatsapp:ES.4"), &Value::Null]], "nobody knows their number any more");
    assert_eq!((dump.of("contact_guard").count(), dump.of("whatsapp_peer").count()), (1, 1), "a user each");
    // Whoever has the former number now is somebody else, and so is whoever Meta calls by a former id.
    tell(&test, says(&test, "wamid.5", Some("ES.9"), Some(ANA))).await;
    assert_eq!(owner.conversations(&agent).await.len(), 2);
    let them = json!({"agent_id": agent.id, "user_id": "whatsapp:ES.4"});
    assert_eq!(owner.session.post("/api/contacts/erase", them).await.expect(200)["conversations"], 1);
    assert_eq!(conversation(&owner, &agent).await["whatsapp"]["user_id"], "ES.9");
}

#[tokio::test]
async fn a_change_of_somebody_who_is_known_as_both_or_as_neither_moves_no_conversation() {
    let (test, owner, agent) = set().await;
    for (id, user) in [("wamid.1", "ES.1"), ("wamid.2", "ES.2")] {
        tell(&test, says(&test, id, Some(user), None)).await;
        test.clock.advance(Duration::from_secs(1));
    }
    let told = |from: &str, to: &str| json!({"type": "user_changed_user_id", "user_id": to, "previous_user_id": from});
    let before = test.db_dump().await;
    tell(&test, system(&test, None, &told("ES.7", "ES.8"))).await;
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
    tell(&test, system(&test, None, &told("ES.1", "ES.2"))).await;
    // They are not at what Meta called them before.
    assert_eq!(talks(&owner, &agent).await, [(1, Value::Null, Value::Null), (1, json!("ES.2"), Value::Null)]);
    let once = test.db_dump().await;
    tell(&test, system(&test, None, &told("ES.1", "ES.2"))).await;
    assert_eq!(once.changes_since(&test.db_dump().await), Vec::<String>::new());
}

#[tokio::test]
async fn a_change_of_number_is_followed_however_it_is_told_and_whoever_gets_the_former_one_is_a_stranger() {
    // As whom Ana is known, what is told, and as whom the stranger writes.
    let number: u64 = NEW.parse().unwrap();
    let forms = [
        (None, Some(ANA), json!({"type": "user_changed_number", "wa_id": NEW}), None),
        (Some("ES.1"), Some(ANA), json!({"type": "user_changed_number", "wa_id": NEW}), Some("ES.9")),
        (None, None, json!({"type": "customer_changed_number", "customer": ANA, "wa_id": NEW}), Some("ES.9")),
        (None, Some(ANA), json!({"type": "customer_changed_number", "wa_id": ANA, "new_wa_id": number}), None),
        (Some("ES.1"), Some(NEW), json!({"type": "user_changed_number", "customer": ANA, "wa_id": NEW}), None),
        (
            Some("ES.1"),
            Some(ANA),
            json!({"type": "user_changed_number", "wa_id": NEW, "user_id": "ES.2", "previous_user_id": "ES.1"}),
            Some("ES.9"),
        ),
    ];
    for (user, from, told, stranger) in forms {
        let (test, owner, agent) = set().await;
        tell(&test, says(&test, "wamid.1", user, Some(ANA))).await;
        test.clock.advance(Duration::from_secs(60));
        let change = system(&test, from, &told);
        tell(&test, change.clone()).await;
        let once = test.db_dump().await;
        tell(&test, change.clone()).await;
        assert_eq!(once.changes_since(&test.db_dump().await), Vec::<String>::new(), "{told}");
        test.clock.advance(Duration::from_secs(60));
        tell(&test, says(&test, "wamid.2", stranger, Some(ANA))).await;
        tell(&test, says(&test, "wamid.3", Some("ES.2"), Some(NEW))).await;
        tell(&test, change).await;
        let want = [(2, json!("ES.2"), json!(NEW)), (1, json!(stranger), json!(ANA))];
        assert_eq!(talks(&owner, &agent).await, want, "{told}");
        let known = contacts(&test).await;
        assert_eq!((known.len(), &known[0]["phone"], &known[1]["phone"]), (2, &json!(NEW), &json!(ANA)), "{told}");
        assert_eq!(known[0]["user_id"], "whatsapp:ES.2", "{told}");
        // Nothing finds them by what they were.
        let erased = owner.session.post("/api/contacts/erase", json!({"phone": NEW})).await.expect(200);
        assert_eq!(erased["conversations"], 1, "{told}");
        let guards = test.db_dump().await.of("contact_guard").count();
        assert_eq!(guards, 1 + usize::from(stranger.is_some()), "{told}");
    }
}

#[tokio::test]
async fn whoever_had_a_number_before_does_not_get_the_conversation_of_who_has_it_now() {
    for former in [None, Some("ES.9")] {
        let (test, owner, agent) = set().await;
        tell(&test, says(&test, "wamid.1", former, Some(NEW))).await;
        test.clock.advance(Duration::from_secs(60));
        tell(&test, says(&test, "wamid.2", None, Some(ANA))).await;
        test.clock.advance(Duration::from_secs(60));
        tell(&test, system(&test, Some(ANA), &json!({"type": "user_changed_number", "wa_id": NEW}))).await;
        tell(&test, says(&test, "wamid.3", Some("ES.2"), Some(NEW))).await;
        let want = [(1, json!(former), Value::Null), (2, json!("ES.2"), json!(NEW))];
        assert_eq!(talks(&owner, &agent).await, want, "{former:?}");
        let known = contacts(&test).await;
        assert_eq!((known.len(), &known[0]["phone"], &known[1]["phone"]), (2, &Value::Null, &json!(NEW)));
    }
}

#[tokio::test]
async fn a_change_that_is_told_late_does_not_move_a_stranger_who_has_the_former_number() {
    let (test, owner, agent) = set().await;
    tell(&test, says(&test, "wamid.1", Some("ES.1"), Some(ANA))).await;
    test.clock.advance(Duration::from_secs(60));
    let late = system(&test, Some(ANA), &json!({"type": "user_changed_number", "wa_id": NEW}));
    test.clock.advance(Duration::from_secs(60));
    tell(&test, says(&test, "wamid.2", Some("ES.9"), Some(ANA))).await;
    let before = test.db_dump().await;
    tell(&test, late).await;
    assert_eq!(before.changes_since(&test.db_dump().await), Vec::<String>::new());
    let want = [(1, json!("ES.1"), Value::Null), (1, json!("ES.9"), json!(ANA))];
    assert_eq!(talks(&owner, &agent).await, want, "what is written to the first one does not reach the stranger");
}

#[tokio::test]
async fn a_change_that_is_told_after_they_have_written_leaves_nothing_of_theirs_at_the_former_number() {
    let changed = json!({"type": "user_changed_number", "wa_id": NEW});
    let mut by_user = changed.clone();
    by_user["user_id"] = json!("ES.2");
    let mut by_both = by_user.clone();
    by_both["previous_user_id"] = json!("ES.1");
    // As whom Ana is known before and after, what is told, and as whom the stranger writes.
    let forms = [
        (None, None, &changed, Some("ES.9")),
        (None, None, &changed, None),
        (None, Some("ES.2"), &by_user, Some("ES.9")),
        (None, Some("ES.2"), &by_user, None),
        (Some("ES.1"), Some("ES.2"), &changed, Some("ES.9")),
        (Some("ES.1"), Some("ES.2"), &by_both, Some("ES.9")),
        (Some("ES.1"), Some("ES.2"), &by_both, None),
    ];
    for (was, is, told, stranger) in forms {
        let case = format!("{was:?} {is:?} {stranger:?} {told}");
        let (test, phones, _model, owner, agent) = super::whatsapp::set().await;
        tell(&test, says(&test, "wamid.1", was, Some(ANA))).await;
        test.clock.advance(Duration::from_secs(60));
        let late = system(&test, Some(ANA), told);
        test.clock.advance(Duration::from_secs(60));
        tell(&test, says(&test, "wamid.2", is, Some(NEW))).await;
        tell(&test, late.clone()).await;
        let left = [(1, Value::Null, Value::Null), (1, json!(is), json!(NEW))];
        assert_eq!(talks(&owner, &agent).await, left, "{case}");
        let phones_of = async || contacts(&test).await.iter().map(|one| one["phone"].clone()).collect::<Vec<_>>();
        assert_eq!(phones_of().await, [Value::Null, json!(NEW)], "{case}");
        let once = test.db_dump().await;
        tell(&test, late.clone()).await;
        assert_eq!(once.changes_since(&test.db_dump().await), Vec::<String>::new(), "{case}");
        // What an operator writes there goes to nobody, and they are told so.
        let first = owner.conversations(&agent).await.iter().map(|head| head["id"].as_u64().unwrap()).min().unwrap();
        owner.takeover(&agent, first, true).await;
        let asked = phones.asked();
        let path = format!("/api/clients/me/agents/{}/conversations/{first}/messages", agent.id);
        owner.session.post(&path, json!({"content": "Your order has come"})).await.expect(201);
        test.workers().run().await;
        let thread = owner.conversation(&agent, first).await;
        let delivery = &thread["messages"][1]["meta"]["delivery"];
        assert_eq!((phones.asked(), &delivery["status"]), (asked, &json!("failed")), "{case}: {thread}");
        assert_eq!(delivery["error"]["code"], "no_recipient", "{case}");
        // A stranger gets the number: nothing of Ana's is theirs.
        test.clock.advance(Duration::from_secs(60));
        tell(&test, says(&test, "wamid.3", stranger, Some(ANA))).await;
        tell(&test, late).await;
        let want = [(2, Value::Null, Value::Null), (1, json!(is), json!(NEW)), (1, json!(stranger), json!(ANA))];
        assert_eq!(talks(&owner, &agent).await, want, "{case}");
        assert_eq!(phones_of().await, [Value::Null, json!(NEW), json!(ANA)], "{case}");
        // And she is erased with what she wrote before.
        let erased = owner.session.post("/api/contacts/erase", json!({"phone": NEW})).await.expect(200);
        assert_eq!(erased["conversations"], 2, "{case}");
    }
}

#[tokio::test]
async fn a_number_that_becomes_known_later_finds_the_contact_too() {
    let hides = json!({"type": "user_changed_user_id", "user_id": "ES.2", "previous_user_id": "ES.1"});
    let shows = json!({"type": "user_changed_number", "wa_id": NEW, "user_id": "ES.2", "previous_user_id": "ES.1"});
    // The change told without the number first; then with it, or by what they write.
    for is_told in [true, false] {
        let (test, owner, agent) = set().await;
        tell(&test, says(&test, "wamid.1", Some("ES.1"), Some(ANA))).await;
        tell(&test, system(&test, None, &hides)).await;
        if is_told {
            tell(&test, system(&test, Some(ANA), &shows)).await;
            assert_eq!(talks(&owner, &agent).await, [(1, json!("ES.2"), json!(NEW))]);
            let once = test.db_dump().await;
            tell(&test, system(&test, Some(ANA), &shows)).await;
            assert_eq!(once.changes_since(&test.db_dump().await), Vec::<String>::new());
        } else {
            tell(&test, says(&test, "wamid.2", Some("ES.2"), Some(NEW))).await;
        }
        is_found_by_their_number(&test, &owner, &agent, 1 + u64::from(!is_told)).await;
    }
    // Somebody who hides their number first.
    let (test, owner, agent) = set().await;
    tell(&test, says(&test, "wamid.1", Some("ES.2"), None)).await;
    tell(&test, says(&test, "wamid.2", Some("ES.2"), Some(NEW))).await;
    is_found_by_their_number(&test, &owner, &agent, 2).await;
    test.app.table.meter().record();
    tell(&test, says(&test, "wamid.3", Some("ES.2"), Some(NEW))).await;
    let calls = test.app.table.meter().take();
    let shown = calls.len();
    test.app.table.meter().record();
    tell(&test, says(&test, "wamid.4", Some("ES.2"), None)).await;
    // Another mark is looked up, and no contact is.
    assert_eq!(shown, test.app.table.meter().take().len() + 1, "{calls:#?}");
}

#[tokio::test]
async fn who_hid_their_number_when_they_wrote_is_found_by_it_once_their_change_is_told() {
    let (test, owner, agent) = set().await;
    tell(&test, says(&test, "wamid.1", Some("ES.1"), Some(ANA))).await;
    test.clock.advance(Duration::from_secs(60));
    let told = json!({"type": "user_changed_number", "wa_id": NEW, "user_id": "ES.2", "previous_user_id": "ES.1"});
    let late = system(&test, Some(ANA), &told);
    test.clock.advance(Duration::from_secs(60));
    tell(&test, says(&test, "wamid.2", Some("ES.2"), None)).await;
    tell(&test, late).await;
    let want = [(1, Value::Null, Value::Null), (1, json!("ES.2"), json!(NEW))];
    assert_eq!(talks(&owner, &agent).await, want);
    tell(&test, says(&test, "wamid.3", None, Some(NEW))).await;
    let want = [(1, Value::Null, Value::Null), (2, json!("ES.2"), json!(NEW))];
    assert_eq!(talks(&owner, &agent).await, want);
    let known = contacts(&test).await;
    assert_eq!((known.len(), &known[0]["phone"], &known[1]["phone"]), (2, &Value::Null, &json!(NEW)), "{known:?}");
}

/// The only contact has the new number, and whoever leaves that on the site is no second one.
async fn is_found_by_their_number(test: &TestApp, owner: &Owner, agent: &Agent, messages: u64) {
    assert_eq!(talks(owner, agent).await, [(messages, json!("ES.2"), json!(NEW))]);
    let lead = json!({"name": "Ana", "phone": NEW});
    test.anonymous().post(&format!("/api/public/agents/{}/leads", agent.slug), lead).await.expect(201);
    let known = contacts(test).await;
    let want = (1, &json!("whatsapp:ES.2"), &json!(NEW));
    assert_eq!((known.len(), &known[0]["user_id"], &known[0]["phone"]), want, "{known:?}");
}

#[tokio::test]
async fn what_comes_late_takes_no_number_from_who_has_it_now() {
    // Whether who had it before has a conversation already.
    for has_one in [true, false] {
        let (test, owner, agent) = set().await;
        if has_one {
            tell(&test, says(&test, "wamid.1", Some("ES.1"), Some(ANA))).await;
        }
        test.clock.advance(Duration::from_secs(60));
        let late = says(&test, "wamid.late", Some("ES.1"), Some(ANA));
        let change =
            json!({"type": "user_changed_number", "wa_id": ANA, "user_id": "ES.7", "previous_user_id": "ES.6"});
        let changed = system(&test, Some(NEW), &change);
        tell(&test, says(&test, "wamid.2", Some("ES.6"), Some(NEW))).await;
        test.clock.advance(Duration::from_secs(60));
        tell(&test, says(&test, "wamid.3", Some("ES.9"), Some(ANA))).await;
        let first = 1 + u64::from(has_one);
        tell(&test, late).await;
        has_the_number(&test, &owner, &agent, [(first, "ES.1"), (1, "ES.6"), (1, "ES.9")]).await;
        // Nor does a change of somebody who had it for a while.
        tell(&test, changed).await;
        has_the_number(&test, &owner, &agent, [(first, "ES.1"), (1, "ES.7"), (1, "ES.9")]).await;
        tell(&test, says(&test, "wamid.4", Some("ES.9"), Some(ANA))).await;
        has_the_number(&test, &owner, &agent, [(first, "ES.1"), (1, "ES.7"), (2, "ES.9")]).await;
    }
}

/// Ana's number is that of the last of these only, in the conversations and in the contacts.
async fn has_the_number(test: &TestApp, owner: &Owner, agent: &Agent, want: [(u64, &str); 3]) {
    let mut all = talks(owner, agent).await;
    all.sort_by_key(|talk| talk.1.to_string());
    let found: Vec<_> = all.iter().map(|(count, user, _)| (*count, user.as_str().unwrap())).collect();
    assert_eq!((found, &all[2].2), (want.to_vec(), &json!(ANA)));
    assert!(all[..2].iter().all(|talk| talk.2 != ANA), "{all:?}");
    let known = contacts(test).await;
    let holders: Vec<_> = known.iter().filter(|contact| contact["phone"] == ANA).collect();
    assert_eq!((known.len(), holders.len()), (3, 1), "{known:?}");
    assert_eq!(holders[0]["user_id"], format!("whatsapp:{}", want[2].1));
}

#[tokio::test]
async fn who_hides_their_new_number_is_not_answered_at_the_former_one() {
    let (test, phones, _model, owner, agent) = super::whatsapp::set().await;
    tell(&test, says(&test, "wamid.1", Some("ES.1"), Some(ANA))).await;
    let told = json!({"type": "user_changed_user_id", "user_id": "ES.2", "previous_user_id": "ES.1"});
    tell(&test, system(&test, None, &told)).await;
    test.comes_in(NUMBER, says(&test, "wamid.2", Some("ES.2"), None)).await;
    let workers = test.workers();
    workers.run().await;
    workers.after(BURST).await;
    let taken = phones.taken().pop().unwrap();
    assert_eq!((&taken.body["recipient"], &taken.body["to"]), (&json!("ES.2"), &Value::Null));
    let known = contacts(&test).await;
    assert_eq!((known.len(), &known[0]["user_id"], &known[0]["phone"]), (1, &json!("whatsapp:ES.2"), &Value::Null));
    tell(&test, says(&test, "wamid.3", Some("ES.9"), Some(ANA))).await;
    assert_eq!((contacts(&test).await.len(), owner.conversations(&agent).await.len()), (2, 2));
}
