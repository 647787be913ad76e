//! Appointments: hours, slots, booking by hand and by chat, and what becomes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::kernel::{Result, Rng};
use shared::ports::llm::{Completion, Llm, Message, Request, Tokens};
use shared::ports::mail::Mail;
use tests::{Agent, Owner, Persona, ScriptedModel, TestApp};
use tokio::sync::Notify;

/// Monday is today, at 9 in UTC.
const TUESDAY: &str = "2040-03-06";

struct Scene {
    test: TestApp,
    owner: Owner,
    agent: Agent,
}

impl Scene {
    async fn new() -> Self {
        Self::on(TestApp::new().await).await
    }

    async fn with_model(model: &ScriptedModel) -> Self {
        Self::on(TestApp::with_model(model.clone()).await).await
    }

    async fn on(test: TestApp) -> Self {
        let owner = test.paying_owner().await;
        let tools = json!(["schedule_appointment", "capture_lead"]);
        let agent = owner.agent_with(json!({"name": "Luna", "tools": tools, "publish": true})).await;
        Self { test, owner, agent }
    }

    /// The starts of the free slots of a day, as the clock shows them.
    async fn free(&self, day: &str) -> Vec<String> {
        let path = format!("/api/agents/{}/slots?from={day}&to={day}", self.agent.id);
        let slots = self.owner.session.get(&path).await.expect(200);
        let start = |slot: &Value| slot["local_start"].as_str().unwrap()[11..16].to_owned();
        slots["items"].as_array().unwrap().iter().map(start).collect()
    }

    async fn book(&self, start: &str) -> Value {
        let body = json!({"start": start, "name": "Ana", "email": "ana@example.com"});
        self.owner.session.post("/api/appointments", body).await.expect(201)
    }

    async fn listed(&self, query: &str) -> Vec<Value> {
        list(&self.owner.session, query).await
    }
}

async fn list(caller: &Persona, query: &str) -> Vec<Value> {
    let list = caller.get(&format!("/api/appointments{query}")).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

/// What the model was told of its last call.
fn told(model: &ScriptedModel) -> (Value, bool) {
    let heard = model.heard();
    match heard.last().unwrap().messages.last().unwrap() {
        Message::ToolResult { content, is_error, .. } => (serde_json::from_str(content).unwrap(), *is_error),
        other => panic!("{other:?}"),
    }
}

/// The lines of a file for calendars.
fn unfolded(file: &str) -> Vec<String> {
    file.replace("\r\n ", "").split_terminator("\r\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn an_owner_says_when_they_can_be_met_and_sees_the_slots_that_it_makes() {
    let scene = Scene::new().await;
    let unset = scene.owner.session.get("/api/availability").await.expect(200);
    assert_eq!((&unset["is_configured"], &unset["rules"]), (&json!(false), &json!([])));
    let slots = format!("/api/agents/{}/slots", scene.agent.id);
    assert_eq!(scene.owner.session.get(&slots).await.code(409), "availability_missing");
    let rules = json!([
        {"kind": "open", "weekday": 2, "start_time": "09:00", "end_time": "12:00"},
        {"kind": "blocked", "weekday": 2, "start_time": "10:00", "end_time": "10:30"},
        {"kind": "open", "date": "2040-03-13", "start_time": "15:00", "end_time": "16:00"},
    ]);
    let more = json!({"rules": rules, "closures": [{"date": "2040-03-20", "reason": "fair"}], "days_ahead": 30});
    let set = scene.owner.opens("europe/madrid", more).await;
    assert_eq!((&set["is_configured"], &set["timezone"]), (&json!(true), &json!("Europe/Madrid")));
    assert_eq!(scene.owner.session.get("/api/availability").await.expect(200), set);
    assert_eq!(scene.free(TUESDAY).await, ["09:00", "09:30", "10:30", "11:00", "11:30"]);
    assert_eq!(scene.free("2040-03-07").await, [""; 0], "no hours on Wednesdays");
    assert_eq!(scene.free("2040-03-13").await, ["15:00", "15:30"], "a date in place of its weekday");
    assert_eq!(scene.free("2040-03-20").await, [""; 0], "closed");
    assert_eq!(scene.free("2040-04-10").await, [""; 0], "farther than 30 days");
    let week = scene.owner.session.get(&slots).await.expect(200);
    assert_eq!(week["items"][0]["start"], "2040-03-06T08:00:00.000Z", "a week from today on");
    assert_eq!(week["items"][0]["local_start"], "2040-03-06T09:00:00+01:00");
    let refused = async |query: &str| scene.owner.session.get(&format!("{slots}?{query}")).await.expect(422);
    assert_eq!(refused("from=2040-03-06&to=2040-04-06").await["field"], "to", "32 days");
    assert_eq!(refused("from=2040-03-06&to=2040-03-05").await["field"], "to");
}

#[tokio::test]
async fn what_is_wrong_with_hours_is_said_and_nothing_is_stored() {
    let scene = Scene::new().await;
    let put = async |body: Value| scene.owner.session.call("PUT", "/api/availability", &[], Some(body)).await;
    let rule = |start: &str, end: &str| json!([{"kind": "open", "weekday": 1, "start_time": start, "end_time": end}]);
    let cases = [
        (json!({"timezone": "Mars/Olympus"}), "timezone"),
        (json!({}), "timezone"),
        (json!({"timezone": "UTC", "rules": rule("10:00", "09:00")}), "rules[0].end_time"),
        (json!({"timezone": "UTC", "rules": rule("10", "12:00")}), "rules[0].start_time"),
        (json!({"timezone": "UTC", "duration_minutes": 1}), "duration_minutes"),
        (json!({"timezone": "UTC", "buffer_after_minutes": 241}), "buffer_after_minutes"),
        (json!({"timezone": "UTC", "days_ahead": 366}), "days_ahead"),
        (json!({"timezone": "UTC", "organizer_email": "nobody"}), "organizer_email"),
    ];
    for (body, field) in cases {
        assert_eq!(put(body.clone()).await.expect(422)["field"], field, "{body}");
    }
    let many = vec![rule("09:00", "10:00")[0].clone(); 201];
    assert_eq!(put(json!({"timezone": "UTC", "rules": many})).await.expect(422)["field"], "rules");
    assert_eq!(scene.owner.session.get("/api/availability").await.expect(200)["is_configured"], false);
}

#[tokio::test]
async fn hours_that_the_clock_leaves_out_or_repeats_are_offered_as_it_shows_them() {
    let scene = Scene::new().await;
    let night: Vec<Value> = (0..7)
        .map(|weekday| json!({"kind": "open", "weekday": weekday, "start_time": "01:00", "end_time": "04:00"}))
        .collect();
    scene.owner.opens("Europe/Madrid", json!({"rules": night, "duration_minutes": 60, "days_ahead": 365})).await;
    assert_eq!(scene.free("2040-03-25").await, ["01:00", "03:00"]);
    assert_eq!(scene.free("2040-10-28").await, ["01:00", "02:00", "02:00", "03:00"]);
    let post = async |start: &str| scene.owner.session.post("/api/appointments", json!({"start": start})).await;
    let refused = post("2040-03-25T02:00").await.expect(422);
    assert!(refused["field"] == "start" && refused["detail"].as_str().unwrap().contains("skip"), "{refused}");
    let first = post("2040-10-28T02:00").await.expect(201);
    assert_eq!(first["start"], "2040-10-28T00:00:00.000Z");
    assert_eq!(post("2040-10-28T02:00").await.code(409), "appointment_slot_taken");
    let second = post("2040-10-28T02:00+01:00").await.expect(201);
    assert_eq!(second["start"], "2040-10-28T01:00:00.000Z", "the hour that comes again is another one");
    assert_eq!(scene.free("2040-10-28").await, ["01:00", "03:00"]);
}

#[tokio::test]
async fn a_booking_by_hand_keeps_to_the_hours_unless_it_says_otherwise_and_never_meets_another() {
    let scene = Scene::new().await;
    let post = async |body: Value| scene.owner.session.post("/api/appointments", body).await;
    assert_eq!(post(json!({"start": "2040-03-06T10:00"})).await.code(409), "availability_missing");
    let more = json!({"buffer_before_minutes": 10, "buffer_after_minutes": 10, "minimum_notice_minutes": 60});
    scene.owner.opens("UTC", more).await;
    let wrong = [
        ("tomorrow", "start"),
        ("2040-03-06", "start"),
        ("2040-03-06T10:10", "start"),
        ("2040-03-06T08:00", "start"),
        ("2040-03-05T09:30", "start"),
        ("2041-03-06T10:00", "start"),
    ];
    for (start, field) in wrong {
        assert_eq!(post(json!({"start": start})).await.expect(422)["field"], field, "{start}");
    }
    assert_eq!(post(json!({"start": "2040-03-06T10:00", "email": "x"})).await.expect(422)["field"], "email");
    assert_eq!(post(json!({"start": "2040-03-06T10:00", "agent_id": 1_u64 << 52})).await.code(404), "not_found");
    let booked = scene.book("2040-03-06T10:00").await;
    assert_eq!((&booked["status"], &booked["source"]), (&json!("confirmed"), &json!("team")));
    assert_eq!(
        (&booked["start"], &booked["end"]),
        (&json!("2040-03-06T10:00:00.000Z"), &json!("2040-03-06T10:30:00.000Z"))
    );
    assert_eq!((&booked["history"][0]["action"], &booked["timezone"]), (&json!("booked"), &json!("UTC")));
    let free = scene.free(TUESDAY).await;
    assert!(!free.contains(&"09:30".into()) && !free.contains(&"10:30".into()), "buffers: {free:?}");
    for (start, outside) in [("2040-03-06T10:00", false), ("2040-03-06T10:20", true), ("2040-03-06T09:45", true)] {
        let answer = post(json!({"start": start, "outside_hours": outside})).await;
        assert_eq!(answer.code(409), "appointment_slot_taken", "{start}");
    }
    let night = json!({"start": "2040-03-06T23:50", "outside_hours": true, "duration_minutes": 60});
    assert_eq!(post(night).await.expect(201)["end"], "2040-03-07T00:50:00.000Z");
    let over_midnight = json!({"start": "2040-03-07T00:30", "outside_hours": true});
    assert_eq!(post(over_midnight).await.code(409), "appointment_slot_taken", "it is held on both days");
}

#[tokio::test]
async fn a_visitor_books_by_chat_and_both_are_told_by_mail_once() {
    let scene = Scene::new().await;
    scene.owner.opens("Europe/Madrid", json!({"title": "First visit", "location": "Main St. 1"})).await;
    let mut visitor = scene.test.visitor(&scene.agent);
    let said = "I'm Ana Luz, ana@example.com. I want to book an appointment on 2040-03-06T10:00";
    let reply = visitor.says(said).await;
    assert!(reply["reply"].as_str().unwrap().contains("Tuesday, 6 March 2040, 10:00"), "{reply}");
    let listed = scene.listed("").await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    let booked = &listed[0];
    assert_eq!((&booked["start"], &booked["source"]), (&json!("2040-03-06T09:00:00.000Z"), &json!("agent")));
    assert_eq!((&booked["email"], &booked["agent_id"]), (&json!("ana@example.com"), &json!(scene.agent.id)));
    let conversation = scene.owner.conversations(&scene.agent).await[0]["id"].clone();
    assert_eq!((&booked["conversation_id"], booked["contact_id"].is_u64()), (&conversation, true));
    assert!(!scene.free(TUESDAY).await.contains(&"10:00".into()));
    for _ in 0..2 {
        scene.test.workers().run().await;
    }
    let mails: BTreeMap<String, Mail> =
        scene.test.mail.sent().into_iter().map(|mail| (mail.to.clone(), mail)).collect();
    assert_eq!((scene.test.mail.sent().len(), mails.len()), (2, 2), "one each: {:?}", scene.test.mail.sent());
    let to_guest = &mails["ana@example.com"];
    assert_eq!(to_guest.subject, "Booked: First visit, Tuesday, 6 March 2040, 10:00 to 10:30 (Europe/Madrid)");
    let file = to_guest.attachment.as_ref().unwrap();
    assert_eq!(file.content_type, "text/calendar; method=REQUEST; charset=utf-8");
    let lines = unfolded(&file.body);
    for line in
        ["METHOD:REQUEST", "DTSTART:20400306T090000Z", "DTEND:20400306T093000Z", "SEQUENCE:0", "SUMMARY:First visit"]
    {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
    }
    let shown = format!("{}{}{}", to_guest.subject, to_guest.text, file.body);
    assert!(!shown.contains("Ana Luz"), "nobody has us send their words to others: {shown}");
    assert!(!shown.contains(&scene.owner.email), "the owner's own address stays theirs");
    let to_owner = &mails[&scene.owner.email];
    assert!(to_owner.text.contains("Ana Luz") && to_owner.text.contains("ana@example.com"), "{}", to_owner.text);
    assert!(to_owner.attachment.as_ref().unwrap().body.contains("METHOD:REQUEST"));
}

#[tokio::test]
async fn a_visitor_who_wants_a_taken_slot_is_told_what_is_free_and_books_that() {
    let scene = Scene::new().await;
    scene.owner.opens("UTC", Value::Null).await;
    scene.book("2040-03-06T10:00").await;
    let mut visitor = scene.test.visitor(&scene.agent);
    let reply = visitor.says("I want to book an appointment on 2040-03-06 at 10:00").await;
    let text = reply["reply"].as_str().unwrap().to_owned();
    assert!(text.contains("taken") && text.contains("Tuesday, 6 March 2040, 10:30"), "{text}");
    let reply = visitor.says("2040-03-06T10:30").await;
    assert!(reply["reply"].as_str().unwrap().contains("Booked: Tuesday, 6 March 2040, 10:30"), "{reply}");
    assert_eq!(scene.listed("").await.len(), 2);
}

#[tokio::test]
async fn a_model_looks_for_free_slots_and_is_told_why_a_wish_cannot_be_booked() {
    let model = ScriptedModel::new();
    let scene = Scene::with_model(&model).await;
    scene.owner.opens("Europe/Madrid", json!({"minimum_notice_minutes": 60, "days_ahead": 30})).await;
    let call = async |arguments: Value| {
        model.calls("schedule_appointment", arguments);
        model.says("done");
        scene.test.visitor(&scene.agent).says("Go on.").await;
        told(&model)
    };
    let (found, is_error) = call(json!({"action": "find_slots", "when": "2040-03-07"})).await;
    assert!(!is_error && found["booked"] == false, "{found}");
    assert_eq!(
        (&found["free"][0], &found["time_zone"]),
        (&json!("2040-03-07T09:00:00+01:00"), &json!("Europe/Madrid"))
    );
    assert_eq!(found["free"].as_array().unwrap().len(), 12);
    assert_eq!(found["now"], "2040-03-05T10:00:00+01:00");
    let (found, _) = call(json!({"action": "find_slots", "when": "as soon as possible"})).await;
    assert_eq!(found["free"][0], "2040-03-05T11:00:00+01:00", "an hour's notice: {found}");
    let refused = [
        ("tomorrow at ten", "no day and time"),
        ("2040-03-06", "without a time"),
        ("2040-03-06T08:00", "No appointment begins"),
        ("2040-03-05T10:30", "too soon"),
        ("2040-06-05T10:00", "too far"),
        ("2040-03-25T02:30", "skip"),
    ];
    for (when, why) in refused {
        let (refused, is_error) = call(json!({"when": when})).await;
        let message = refused["message"].as_str().unwrap();
        assert!(is_error && message.contains(why) && refused["booked"] == false, "{when}: {refused}");
        assert!(!refused["free"].as_array().unwrap().is_empty(), "{when}: {refused}");
    }
    let (wrong, is_error) = call(json!({"when": "2040-03-06T10:00", "email": "nobody"})).await;
    assert!(is_error && wrong["error"].as_str().unwrap().contains("email"), "{wrong}");
    assert!(scene.listed("").await.is_empty());
    let chosen =
        json!({"action": "book", "when": "2040-03-07T09:00:00+01:00", "name": "Ana", "phone": "+34 600 111 222"});
    let (booked, is_error) = call(chosen).await;
    assert!(!is_error && booked["booked"] == true && booked["start"] == "2040-03-07T09:00:00+01:00", "{booked}");
    assert_eq!(scene.listed("").await[0]["phone"], "34600111222");
    // A look and a refusal are nothing that the owner must be told of.
    scene.test.workers().run().await;
    let mails = scene.test.mail.sent();
    assert!(mails.len() == 1 && mails[0].subject.starts_with("Booked: Ana"), "{mails:?}");
}

#[tokio::test]
async fn without_hours_a_wish_is_recorded_and_the_owner_is_told_of_it() {
    let model = ScriptedModel::new();
    let scene = Scene::with_model(&model).await;
    model.calls("schedule_appointment", json!({"when": "2040-03-06T10:00", "name": "Ana"}));
    model.says("A person will confirm it.");
    scene.test.visitor(&scene.agent).says("Tomorrow at ten, please").await;
    let (told, is_error) = told(&model);
    assert!(!is_error && told["recorded"] == true && told["booked"] == false, "{told}");
    assert!(scene.listed("").await.is_empty());
    scene.test.workers().run().await;
    let mails = scene.test.mail.sent();
    assert!(mails.len() == 1 && mails[0].subject.contains("wants an appointment"), "{mails:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_who_book_one_slot_at_once_exactly_one_has_it() {
    let scene = Scene::new().await;
    scene.owner.opens("UTC", Value::Null).await;
    // Several processes, as functions are: they share nothing but the table.
    let routers: Vec<_> = (0..8)
        .map(|number| {
            let app = scene.test.process(Rng::seeded(1_000 + number));
            shared::http::serve::surface(&app, &studio::SURFACE, studio::SURFACE.groups)
        })
        .collect();
    let tries = (0..200).map(|number| {
        let caller = scene.test.elsewhere(&scene.owner.session).on(routers[number % routers.len()].clone());
        tokio::spawn(async move { caller.post("/api/appointments", json!({"start": "2040-03-06T10:00"})).await })
    });
    let tries: Vec<_> = tries.collect();
    let (mut booked, mut taken) = (Vec::new(), 0);
    for task in tries {
        let answer = task.await.unwrap();
        match answer.status.as_u16() {
            201 => booked.push(answer.json()["id"].as_u64()),
            _ => {
                assert_eq!(answer.code(409), "appointment_slot_taken");
                taken += 1;
            }
        }
    }
    assert_eq!((booked.len(), taken), (1, 199));
    let listed = scene.listed("").await;
    assert_eq!((listed.len(), listed[0]["id"].as_u64()), (1, booked[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_visitors_who_want_one_slot_at_once_one_books_it_and_the_others_hear_of_more() {
    let scene = Scene::new().await;
    scene.owner.opens("UTC", Value::Null).await;
    let visitors = (0..12).map(|_| {
        let mut visitor = scene.test.visitor(&scene.agent);
        tokio::spawn(async move { visitor.says("Book an appointment on 2040-03-06T10:00 please").await })
    });
    let visitors: Vec<_> = visitors.collect();
    let mut replies = Vec::new();
    for visitor in visitors {
        replies.push(visitor.await.unwrap()["reply"].as_str().unwrap().to_owned());
    }
    let booked = replies.iter().filter(|reply| reply.contains("Booked: Tuesday, 6 March 2040, 10:00")).count();
    let others = replies.iter().filter(|reply| reply.contains("taken") && reply.contains("Free: ")).count();
    assert_eq!((booked, others), (1, 11), "{replies:#?}");
    assert_eq!(scene.listed("").await.len(), 1);
}

#[tokio::test]
async fn a_conversation_books_five_appointments_and_no_more() {
    let model = ScriptedModel::new();
    let scene = Scene::with_model(&model).await;
    scene.owner.opens("UTC", Value::Null).await;
    let mut visitor = scene.test.visitor(&scene.agent);
    for hour in 10..16 {
        model.calls("schedule_appointment", json!({"when": format!("{TUESDAY}T{hour}:00")}));
        model.says("done");
        visitor.says("One more").await;
    }
    let (told, is_error) = told(&model);
    assert!(is_error && told["message"].as_str().unwrap().contains("5 appointments"), "{told}");
    assert_eq!(scene.listed("").await.len(), 5);
}

/// Answers as its script says, but for the third time that it is asked: then its process is gone.
struct Vanishing {
    script: ScriptedModel,
    asked: AtomicU32,
    gone: Arc<Notify>,
}

#[async_trait]
impl Llm for Vanishing {
    async fn complete(&self, request: &Request, tokens: &dyn Tokens) -> Result<Completion> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == 2 {
            self.gone.notify_one();
            std::future::pending::<()>().await;
        }
        self.script.complete(request, tokens).await
    }
}

#[tokio::test]
async fn a_turn_that_broke_off_after_booking_finds_its_booking_when_it_is_taken_up() {
    let (script, gone) = (ScriptedModel::new(), Arc::new(Notify::new()));
    let model = Vanishing { script: script.clone(), asked: AtomicU32::new(0), gone: Arc::clone(&gone) };
    let scene = Scene::on(TestApp::with_model(model).await).await;
    scene.owner.opens("UTC", Value::Null).await;
    let mut visitor = scene.test.visitor(&scene.agent);
    script.says("Hello!");
    visitor.says("Hello").await;
    script.calls("schedule_appointment", json!({"when": "2040-03-06T10:00"}));
    let lost = tokio::spawn({
        let visitor = visitor.clone();
        async move { visitor.send("Tomorrow at ten, please").await }
    });
    gone.notified().await;
    lost.abort();
    assert_eq!(scene.listed("").await.len(), 1, "booked, and nobody was told");
    scene.test.clock.advance(Duration::from_secs(60));
    script.calls("schedule_appointment", json!({"when": "2040-03-06T10:00"}));
    script.says("It is booked.");
    visitor.says("Are you there?").await;
    let (told, is_error) = told(&script);
    assert!(!is_error && told["booked"] == true, "{told}");
    assert_eq!(scene.listed("").await.len(), 1);
}
