//! Mail to owners: once for each event, and to addresses that take any.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::app::deliver::{self, Task};
use shared::domain::Event;
use shared::kernel::{Id, Rng};
use shared::ports::queue::QueueName;
use shared::store;
use shared::table::fault::{Faults, Rates};
use tests::{Owner, PASSWORD, ScriptedModel, TestApp};

/// A visitor of an owner's asks for a person: the event, of which its owner is not told yet.
async fn asked_for_a_person() -> (TestApp, Owner, Event) {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = json!({"name": "Soporte", "tools": ["send_whatsapp_handoff"], "publish": true});
    let agent = owner.agent_with(agent).await;
    model.calls("send_whatsapp_handoff", json!({"reason": "wants a refund"}));
    model.says("A person will write to you.");
    test.visitor(&agent).says("I want a person").await;
    let mut events = test.workers().events().await.into_iter();
    let event = events.find(|event| event.kind == "handoff.requested").unwrap();
    (test, owner, event)
}

#[tokio::test]
async fn an_owner_gets_one_mail_of_an_event_however_often_it_is_relayed() {
    let (test, owner, event) = asked_for_a_person().await;
    let workers = test.workers();
    workers.run().await;
    for _ in 0..2 {
        deliver::run(&test.app, QueueName::Deliver, &Task::Mail { event: event.clone() }).await.unwrap();
        // Another process, to which every event is new.
        test.workers().run().await;
    }
    let mails = test.mail.sent();
    assert_eq!((mails.len(), &mails[0].to), (1, &owner.email), "{mails:?}");
}

#[tokio::test]
async fn a_mail_that_went_out_is_done_although_that_cannot_be_noted() {
    let (test, _, event) = asked_for_a_person().await;
    let faults = Faults::new(Rng::seeded(7));
    let app = test.process_with(Rng::seeded(8), &faults, Arc::clone(&test.queue) as _);
    // Every write is refused, and no read.
    faults.set(Rates { conflict: 1_000, ..Rates::default() });
    deliver::run(&app, QueueName::Deliver, &Task::Mail { event }).await.unwrap();
    assert_eq!((test.db_dump().await.of("mailed").count(), test.mail.sent().len()), (0, 1));
}

#[tokio::test]
async fn an_address_that_takes_no_mail_is_its_owners_mistake_and_no_dead_letter() {
    let (test, owner, event) = asked_for_a_person().await;
    let user = Id::from_int(owner.user_id).unwrap();
    let mut user = store::user::get(&test.app.table, user).await.unwrap().unwrap();
    let good = std::mem::replace(&mut user.email, "a..b@example.com".into());
    store::user::overwrite(&test.app.table, &user).await.unwrap();
    deliver::run(&test.app, QueueName::Deliver, &Task::Mail { event: event.clone() }).await.unwrap();
    assert_eq!(test.mail.sent(), []);
    // It did not go out, so it may still.
    user.email = good;
    store::user::overwrite(&test.app.table, &user).await.unwrap();
    deliver::run(&test.app, QueueName::Deliver, &Task::Mail { event }).await.unwrap();
    assert_eq!(test.mail.sent().len(), 1);
}

#[tokio::test]
async fn nobody_registers_with_an_address_that_mail_cannot_be_sent_to() {
    let test = TestApp::new().await;
    for email in ["a..b@example.com", ".a@example.com", "a.@example.com", "nobody"] {
        let body = json!({"email": email, "password": PASSWORD});
        let refused = test.anonymous().post("/api/auth/register", body).await.expect(422);
        assert_eq!((&refused["code"], &refused["field"]), (&json!("validation_error"), &json!("email")), "{email}");
        assert_ne!(refused["detail"], Value::Null);
    }
}
