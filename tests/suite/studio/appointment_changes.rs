//! What becomes of appointments, who sees them, and what remains of them.

use std::time::Duration;

use serde_json::{Value, json};
use shared::app::deliver::{self, Task};
use shared::ports::queue::QueueName;
use tests::{Agent, Answer, Owner, TestApp};

struct Scene {
    test: TestApp,
    owner: Owner,
    agent: Agent,
}

impl Scene {
    async fn new() -> Self {
        let test = TestApp::new().await;
        let owner = test.paying_owner().await;
        let agent = owner.agent("Luna").await;
        owner.opens("UTC", Value::Null).await;
        Self { test, owner, agent }
    }

    async fn book(&self, start: &str) -> Value {
        let body = json!({"start": start, "name": "Ana", "email": "ana@example.com", "agent_id": self.agent.id});
        self.owner.session.post("/api/appointments", body).await.expect(201)
    }

    async fn act(&self, appointment: &Value, what: &str, body: Value) -> Answer {
        self.owner.session.post(&format!("/api/appointments/{}/{what}", appointment["id"]), body).await
    }

    async fn listed(&self, query: &str) -> Vec<String> {
        let list = self.owner.session.get(&format!("/api/appointments{query}")).await.expect(200);
        let start = |item: &Value| item["start"].as_str().unwrap()[..16].to_owned();
        list["items"].as_array().unwrap().iter().map(start).collect()
    }

    async fn is_free(&self, start: &str) -> bool {
        let path = format!("/api/agents/{}/slots?from={day}&to={day}", self.agent.id, day = &start[..10]);
        let slots = self.owner.session.get(&path).await.expect(200);
        slots["items"].as_array().unwrap().iter().any(|slot| slot["start"].as_str().unwrap().starts_with(start))
    }

    /// The file that was mailed last to somebody, and its subject.
    async fn mailed(&self, to: &str) -> (String, String) {
        self.test.workers().run().await;
        let mail = self.test.mail.sent().into_iter().rev().find(|mail| mail.to == to).unwrap();
        (mail.subject, mail.attachment.unwrap().body)
    }
}

#[tokio::test]
async fn a_cancelled_appointment_frees_its_slot_and_calendars_take_it_out() {
    let scene = Scene::new().await;
    let booked = scene.book("2040-03-06T10:00").await;
    let (_, invited) = scene.mailed("ana@example.com").await;
    assert!(!scene.is_free("2040-03-06T10:00").await);
    let cancelled = scene.act(&booked, "cancel", json!({"reason": "ill"})).await.expect(200);
    assert_eq!((&cancelled["status"], &cancelled["cancel_reason"]), (&json!("cancelled"), &json!("ill")));
    assert_eq!(cancelled["history"][1]["action"], "cancelled");
    assert!(scene.is_free("2040-03-06T10:00").await);
    let (subject, file) = scene.mailed("ana@example.com").await;
    assert!(subject.starts_with("Cancelled: "), "{subject}");
    let uid = |file: &str| file.split("\r\n").find(|line| line.starts_with("UID:")).unwrap().to_owned();
    assert_eq!(uid(&file), uid(&invited), "the same appointment");
    for line in ["METHOD:CANCEL", "STATUS:CANCELLED", "SEQUENCE:1"] {
        assert!(file.contains(&format!("{line}\r\n")), "{line} in {file}");
    }
    assert!(!file.contains("ill") && scene.mailed(&scene.owner.email).await.0.starts_with("Cancelled: "));
    let again = scene.book("2040-03-06T10:00").await;
    assert_ne!(again["id"], booked["id"]);
}

#[tokio::test]
async fn a_moved_appointment_frees_its_slot_and_takes_the_other() {
    let scene = Scene::new().await;
    let booked = scene.book("2040-03-06T10:00").await;
    scene.book("2040-03-06T11:00").await;
    let taken = scene.act(&booked, "reschedule", json!({"start": "2040-03-06T11:00"})).await;
    assert_eq!(taken.code(409), "appointment_slot_taken");
    for start in ["2040-03-06T10:30", "2040-03-07T10:00"] {
        let before = scene.owner.session.get(&format!("/api/appointments/{}", booked["id"])).await.expect(200);
        let moved = scene.act(&booked, "reschedule", json!({"start": start})).await.expect(200);
        assert!(moved["start"].as_str().unwrap().starts_with(start) && moved["status"] == "confirmed", "{moved}");
        let change = moved["history"].as_array().unwrap().last().unwrap();
        assert_eq!(
            (&change["action"], &change["from"], &change["to"]),
            (&json!("rescheduled"), &before["start"], &moved["start"])
        );
        assert!(!scene.is_free(start).await);
        assert!(scene.is_free(&before["start"].as_str().unwrap()[..16]).await);
    }
    assert_eq!(scene.listed("").await, ["2040-03-06T11:00", "2040-03-07T10:00"]);
    let refused = scene.act(&booked, "reschedule", json!({"start": "2040-03-07T20:00"})).await.expect(422);
    assert_eq!(refused["field"], "start");
    scene.act(&booked, "reschedule", json!({"start": "2040-03-07T20:00", "outside_hours": true})).await.expect(200);
    let (subject, file) = scene.mailed("ana@example.com").await;
    assert!(subject.starts_with("Moved: ") && file.contains("SEQUENCE:3") && file.contains("DTSTART:20400307T200000Z"));
}

#[tokio::test]
async fn nothing_more_becomes_of_what_is_final_and_nothing_is_over_before_it_began() {
    let scene = Scene::new().await;
    let [took_place, missed, cancelled] = [
        scene.book("2040-03-05T10:00").await,
        scene.book("2040-03-05T10:30").await,
        scene.book("2040-03-05T11:00").await,
    ];
    for what in ["complete", "no-show"] {
        assert_eq!(scene.act(&took_place, what, Value::Null).await.expect(422)["field"], "start");
    }
    scene.act(&cancelled, "cancel", Value::Null).await.expect(200);
    scene.test.clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(scene.act(&took_place, "complete", Value::Null).await.expect(200)["status"], "completed");
    assert_eq!(scene.act(&missed, "no-show", Value::Null).await.expect(200)["status"], "no_show");
    for appointment in [&took_place, &missed, &cancelled] {
        for what in ["cancel", "complete", "no-show", "reschedule"] {
            let body = json!({"start": "2040-03-08T10:00"});
            assert_eq!(scene.act(appointment, what, body).await.code(409), "appointment_state", "{what}");
        }
    }
    let kinds: Vec<String> = scene.test.workers().events().await.into_iter().map(|event| event.kind).collect();
    let of = |kind: &str| kinds.iter().filter(|known| *known == kind).count();
    let counts =
        ["booked", "cancelled", "completed", "no_show", "rescheduled"].map(|kind| of(&format!("appointment.{kind}")));
    assert_eq!(counts, [3, 1, 1, 1, 0], "{kinds:?}");
}

#[tokio::test]
async fn appointments_are_listed_by_start_filtered_and_in_pages() {
    let scene = Scene::new().await;
    let mut booked = Vec::new();
    for start in ["2040-03-08T10:00", "2040-03-06T10:00", "2040-03-07T10:00", "2040-04-02T10:00"] {
        booked.push(scene.book(start).await);
    }
    let by_hand = json!({"start": "2040-03-09T10:00", "outside_hours": true});
    scene.owner.session.post("/api/appointments", by_hand).await.expect(201);
    scene.act(&booked[2], "cancel", Value::Null).await.expect(200);
    let march = "?from=2040-03-07T00:00:00Z&to=2040-04-01T00:00:00Z";
    assert_eq!(scene.listed(march).await, ["2040-03-07T10:00", "2040-03-08T10:00", "2040-03-09T10:00"]);
    assert_eq!(scene.listed(&format!("{march}&status=cancelled")).await, ["2040-03-07T10:00"]);
    let of_agent = format!("{march}&agent_id={}", scene.agent.id);
    assert_eq!(scene.listed(&of_agent).await, ["2040-03-07T10:00", "2040-03-08T10:00"]);
    for filter in ["", "&status=confirmed"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = scene.owner.session.get(&format!("/api/appointments?limit=2{filter}{cursor}")).await.expect(200);
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["start"].clone()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), if filter.is_empty() { 5 } else { 4 }, "{seen:?}");
        assert!(seen.is_sorted_by_key(|start| start.as_str().unwrap().to_owned()), "{seen:?}");
    }
    scene.test.clock.advance(Duration::from_secs(10 * 24 * 3600));
    let owner = Scene { owner: Owner { session: scene.owner.again().await, ..scene.owner.clone() }, ..scene };
    assert_eq!(owner.listed("").await, ["2040-04-02T10:00"], "from now on");
}

#[tokio::test]
async fn another_tenant_sees_nothing_and_books_into_their_own_calendar() {
    let scene = Scene::new().await;
    let booked = scene.book("2040-03-06T10:00").await;
    let other = scene.test.paying_owner().await;
    let others = other.agent("Sol").await;
    other.opens("UTC", Value::Null).await;
    let list = other.session.get("/api/appointments").await.expect(200);
    assert_eq!(list["items"], json!([]));
    let path = format!("/api/appointments/{}", booked["id"]);
    for path in [path.clone(), format!("{path}/calendar.ics"), format!("/api/agents/{}/slots", scene.agent.id)] {
        assert_eq!(other.session.get(&path).await.code(404), "not_found", "{path}");
    }
    for what in ["cancel", "reschedule", "complete", "no-show"] {
        let body = json!({"start": "2040-03-07T10:00"});
        assert_eq!(other.session.post(&format!("{path}/{what}"), body).await.code(404), "not_found", "{what}");
    }
    let body = json!({"start": "2040-03-06T10:00", "agent_id": others.id});
    other.session.post("/api/appointments", body).await.expect(201);
    assert_eq!(scene.listed("").await.len(), 1);
}

#[tokio::test]
async fn a_client_sees_the_appointments_of_agents_whose_leads_are_granted_and_changes_nothing() {
    let scene = Scene::new().await;
    let other = scene.owner.agent("Sol").await;
    let ours = scene.book("2040-03-06T10:00").await;
    let body = json!({"start": "2040-03-06T11:00", "agent_id": other.id});
    let theirs = scene.owner.session.post("/api/appointments", body).await.expect(201);
    let by_hand = scene.owner.session.post("/api/appointments", json!({"start": "2040-03-06T12:00"})).await.expect(201);
    let (_, client) = scene.owner.client_with(&scene.test, &[&scene.agent], &["leads"]).await;
    let listed = client.get("/api/appointments").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["items"][0]["id"], ours["id"]);
    let path = |of: &Value| format!("/api/appointments/{}", of["id"]);
    client.get(&path(&ours)).await.expect(200);
    assert_eq!(client.get(&path(&theirs)).await.code(404), "not_found");
    assert_eq!(client.get(&path(&by_hand)).await.code(404), "not_found");
    let of_other = format!("/api/appointments?agent_id={}", other.id);
    assert_eq!(client.get(&of_other).await.code(404), "not_found");
    assert_eq!(client.post(&format!("{}/cancel", path(&ours)), json!({})).await.code(403), "forbidden");
    assert_eq!(client.get("/api/availability").await.code(403), "forbidden");
    let (_, reader) = scene.owner.client_with(&scene.test, &[&scene.agent], &["messages"]).await;
    assert_eq!(reader.get("/api/appointments").await.code(403), "scope_missing");
    assert_eq!(reader.get(&path(&ours)).await.code(403), "scope_missing");
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    let scene = Scene::new().await;
    let booked = scene.book("2040-03-06T10:00").await;
    let key = async |scopes: Value| {
        let key = scene.owner.session.post("/api/developers/api-keys", json!({"name": "k", "scopes": scopes})).await;
        scene.owner.session.with_bearer(key.expect(201)["key"].as_str().unwrap())
    };
    let (reads, writes) = (key(json!(["appointments:read"])).await, key(json!(["appointments:write"])).await);
    let cancel = format!("/api/appointments/{}/cancel", booked["id"]);
    assert_eq!(reads.post(&cancel, json!({})).await.code(403), "scope_missing");
    assert_eq!(writes.get("/api/appointments").await.code(403), "scope_missing");
    assert_eq!(reads.get("/api/appointments").await.expect(200)["items"][0]["id"], booked["id"]);
    let cancelled = writes.post(&cancel, json!({})).await.expect(200);
    assert!(cancelled["history"][1]["actor"].as_str().unwrap().starts_with("key_"), "{cancelled}");
}

#[tokio::test]
async fn a_booking_that_is_asked_for_twice_under_one_key_happens_once() {
    let scene = Scene::new().await;
    let body = json!({"start": "2040-03-06T10:00"});
    let headers = [("idempotency-key", "one-booking-0001")];
    let post = async || scene.owner.session.call("POST", "/api/appointments", &headers, Some(body.clone())).await;
    let (first, second) = (post().await.expect(201), post().await.expect(201));
    assert_eq!(first["id"], second["id"]);
    assert_eq!(scene.listed("").await.len(), 1);
}

#[tokio::test]
async fn an_appointment_is_handed_out_as_a_file_for_calendars() {
    let scene = Scene::new().await;
    let body = json!({"start": "2040-03-06T10:00", "name": "Ana; Luz", "notes": "a, b\nc"});
    let booked = scene.owner.session.post("/api/appointments", body).await.expect(201);
    let file = scene.owner.session.get(&format!("/api/appointments/{}/calendar.ics", booked["id"])).await;
    assert_eq!(file.headers["content-type"], "text/calendar; charset=utf-8");
    let lines: Vec<&str> = file.text.split("\r\n").collect();
    for line in
        ["METHOD:PUBLISH", "DTSTART:20400306T100000Z", "DESCRIPTION:Ana\\; Luz\\na\\, b\\nc", "STATUS:CONFIRMED"]
    {
        assert!(lines.contains(&line), "{line} in {lines:?}");
    }
}

#[tokio::test]
async fn a_guest_whose_address_takes_no_mail_does_not_keep_the_owner_from_being_told() {
    let scene = Scene::new().await;
    let body = json!({"start": "2040-03-06T10:00", "name": "Ana", "email": "a..b@example.com"});
    scene.owner.session.post("/api/appointments", body).await.expect(201);
    let events = scene.test.workers().events().await;
    let event = events.into_iter().find(|event| event.kind == "appointment.booked").unwrap();
    for _ in 0..3 {
        deliver::run(&scene.test.app, QueueName::Deliver, &Task::Mail { event: event.clone() }).await.unwrap();
    }
    let told: Vec<String> = scene.test.mail.sent().into_iter().map(|mail| mail.to).collect();
    assert_eq!(told, [scene.owner.email.as_str()], "once");
}
