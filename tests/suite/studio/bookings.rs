//! Bookings that meet something: themselves, other hours, a cancellation, a limit.

use std::time::Duration;

use serde_json::{Value, json};
use shared::app::appointment::{self, Entered, Guest};
use shared::app::lead::Giver;
use shared::domain::plan::PlanKey;
use shared::domain::scheduling::Source;
use shared::kernel::{Code, Day, Error, Id};
use shared::ports::llm::Message;
use shared::store;
use tests::{Agent, Answer, Owner, ScriptedModel, TestApp};

struct Scene {
    test: TestApp,
    model: ScriptedModel,
    owner: Owner,
    agent: Agent,
}

impl Scene {
    async fn new() -> Self {
        let model = ScriptedModel::new();
        let test = TestApp::with_model(model.clone()).await;
        let owner = test.paying_owner().await;
        let tools = json!(["schedule_appointment"]);
        let agent = owner.agent_with(json!({"name": "Luna", "tools": tools, "publish": true})).await;
        owner.opens("UTC", Value::Null).await;
        Self { test, model, owner, agent }
    }

    /// With an owner who has shown that their address is theirs.
    async fn verified() -> Self {
        let scene = Self::new().await;
        let (table, id) = (&scene.test.app.table, Id::from_int(scene.owner.user_id).unwrap());
        let mut user = store::user::get(table, id).await.unwrap().unwrap();
        user.email_verified = true;
        store::user::overwrite(table, &user).await.unwrap();
        scene
    }

    async fn post(&self, body: Value) -> Answer {
        self.owner.session.post("/api/appointments", body).await
    }

    async fn book(&self, start: &str, email: &str) -> Value {
        self.post(json!({"start": start, "email": email, "outside_hours": true})).await.expect(201)
    }

    async fn act(&self, appointment: &Value, what: &str, body: Value) -> Answer {
        self.owner.session.post(&format!("/api/appointments/{}/{what}", appointment["id"]), body).await
    }

    /// The calls that a visitor's next message leads to.
    fn calls(&self, arguments: Value) {
        self.model.calls("schedule_appointment", arguments);
        self.model.says("Done.");
    }

    /// What the model was told of its last call.
    fn told(&self) -> (Value, bool) {
        match self.model.heard().last().unwrap().messages.last().unwrap() {
            Message::ToolResult { content, is_error, .. } => (serde_json::from_str(content).unwrap(), *is_error),
            other => panic!("{other:?}"),
        }
    }

    async fn listed(&self) -> usize {
        let list = self.owner.session.get("/api/appointments").await.expect(200);
        list["items"].as_array().unwrap().len()
    }

    /// The subjects of what was mailed to somebody.
    async fn mailed(&self, to: &str) -> Vec<String> {
        self.test.workers().run().await;
        self.test.mail.sent().into_iter().filter(|mail| mail.to == to).map(|mail| mail.subject).collect()
    }
}

#[tokio::test]
async fn a_slot_that_the_same_conversation_booked_is_booked_already_and_not_taken() {
    let scene = Scene::new().await;
    let mut visitor = scene.test.visitor(&scene.agent);
    let wish = json!({"when": "2040-03-06T10:00", "name": "Ana", "email": "ana@example.com"});
    scene.calls(wish.clone());
    visitor.says("Tomorrow at ten").await;
    for again in [wish, json!({"when": "2040-03-06T10:00:00Z"})] {
        scene.calls(again);
        visitor.says("Did you book it?").await;
        let (told, is_error) = scene.told();
        assert!(!is_error && told["booked"] == true && told["already_booked"] == true, "{told}");
        assert_eq!(told["start"], "2040-03-06T10:00:00+00:00");
    }
    assert_eq!((scene.listed().await, scene.mailed("ana@example.com").await.len()), (1, 1), "once");
    // Somebody else's is taken, and so is what overlaps one's own.
    scene.calls(json!({"when": "2040-03-06T10:00"}));
    scene.test.visitor(&scene.agent).says("Tomorrow at ten").await;
    assert!(scene.told().1, "{}", scene.told().0);
    // What was cancelled is booked anew.
    let list = scene.owner.session.get("/api/appointments").await.expect(200);
    scene.act(&list["items"][0], "cancel", json!({})).await.expect(200);
    scene.calls(json!({"when": "2040-03-06T10:00"}));
    visitor.says("Again, please").await;
    assert_eq!((&scene.told().0["booked"], &scene.told().0["already_booked"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_slot_is_booked_only_by_the_hours_that_it_was_offered_by() {
    let scene = Scene::new().await;
    let (app, workspace) = (&scene.test.app, scene.test.db_workspace(&scene.owner).await.id);
    let guest = Guest {
        agent_id: None,
        conversation_id: None,
        source: Source::Team,
        giver: Giver::Team,
        actor: "test".into(),
        details: None,
        notes: None,
    };
    let start = app.now() + Duration::from_secs(25 * 3600);
    for (offered, refused) in [(true, true), (false, false)] {
        let hours = appointment::of_workspace(app, workspace).await.unwrap().unwrap();
        let entered = appointment::enter(app, &hours, start, offered, &guest).await.unwrap();
        let Entered::Booked(draft) = entered else { panic!("{entered:?}") };
        // The owner closes for good while the booking is on its way.
        scene.owner.opens("UTC", json!({"rules": []})).await;
        let outcome = app.commit(draft.unit).await.map_err(Error::from);
        assert_eq!(outcome.is_err(), refused, "{outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.code(), Code::ConcurrentChange, "so it is tried again, with the new hours");
        }
        scene.owner.opens("UTC", Value::Null).await;
    }
    assert_eq!(scene.listed().await, 1, "what need not keep to the hours does not mind");
}

#[tokio::test]
async fn a_guest_is_told_nothing_of_what_was_cancelled_before_they_were_invited() {
    let scene = Scene::new().await;
    let booked = scene.book("2040-03-06T10:00", "ana@example.com").await;
    scene.act(&booked, "reschedule", json!({"start": "2040-03-06T11:00"})).await.expect(200);
    scene.act(&booked, "cancel", json!({})).await.expect(200);
    assert_eq!(scene.mailed("ana@example.com").await, [""; 0]);
    let to_owner = scene.mailed(&scene.owner.email).await;
    assert!(to_owner.len() == 1 && to_owner[0].starts_with("Cancelled: "), "{to_owner:?}");
    // Whoever was invited hears of the cancellation.
    let booked = scene.book("2040-03-06T10:00", "eva@example.com").await;
    assert_eq!(scene.mailed("eva@example.com").await.len(), 1);
    scene.act(&booked, "cancel", json!({})).await.expect(200);
    let told = scene.mailed("eva@example.com").await;
    assert!(told.len() == 2 && told[1].starts_with("Cancelled: "), "{told:?}");
    for mail in scene.test.mail.sent() {
        let file = mail.attachment.unwrap().body;
        assert!(!(file.contains("METHOD:REQUEST") && file.contains("STATUS:CANCELLED")), "{file}");
    }
}

#[tokio::test]
async fn nobody_is_invited_to_what_is_over() {
    let scene = Scene::new().await;
    let past = scene.book("2040-03-04T10:00", "ana@example.com").await;
    let soon = scene.book("2040-03-05T10:00", "eva@example.com").await;
    scene.test.clock.advance(Duration::from_secs(2 * 3600));
    scene.act(&past, "cancel", json!({})).await.expect(200);
    assert_eq!(scene.mailed("ana@example.com").await, [""; 0], "written down, and taken out again");
    assert_eq!(scene.mailed("eva@example.com").await, [""; 0], "the mail was late");
    assert_eq!(soon["status"], "confirmed");
    assert_eq!(scene.mailed(&scene.owner.email).await.len(), 2, "the owner is told all the same");
}

#[tokio::test]
async fn a_workspace_mails_one_guest_twenty_times_a_day_and_not_the_whole_world() {
    let scene = Scene::verified().await;
    let slot = |number: u32| format!("2040-03-{:02}T{:02}:00", 6 + number / 8, 9 + number % 8);
    let mut last = Value::Null;
    for number in 0..20 {
        last = scene.book(&slot(number), "ana@example.com").await;
    }
    let body = |email: Value| json!({"start": slot(20), "email": email});
    let refused = scene.post(body(json!("ana@example.com"))).await;
    assert!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    assert!(refused.text.contains("Leave the e-mail out"), "{}", refused.text);
    assert_eq!(refused.code(429), "rate_limited");
    let moved = scene.act(&last, "reschedule", json!({"start": slot(21)})).await;
    assert_eq!(moved.code(429), "rate_limited", "each move is another mail");
    scene.act(&last, "cancel", json!({})).await.expect(200);
    // Without mail, about what is over, and to others it goes on.
    scene.post(body(Value::Null)).await.expect(201);
    scene.book("2040-03-02T10:00", "ana@example.com").await;
    scene.post(json!({"start": slot(22), "email": "eva@example.com"})).await.expect(201);
    scene.test.clock.advance(Duration::from_secs(24 * 3600));
    let tomorrow = scene.owner.again().await;
    let body = json!({"start": slot(23), "email": "ana@example.com"});
    tomorrow.post("/api/appointments", body).await.expect(201);
}

#[tokio::test]
async fn a_time_that_the_clock_shows_twice_is_booked_only_when_it_is_said_which() {
    let scene = Scene::new().await;
    let night: Vec<Value> = (0..7)
        .map(|weekday| json!({"kind": "open", "weekday": weekday, "start_time": "00:00", "end_time": "06:00"}))
        .collect();
    scene.owner.opens("Europe/Madrid", json!({"rules": night, "days_ahead": 365})).await;
    let mut visitor = scene.test.visitor(&scene.agent);
    scene.calls(json!({"when": "2040-10-28T02:30"}));
    visitor.says("In the night of the 28th, at half past two").await;
    let (told, is_error) = scene.told();
    assert!(is_error && told["booked"] == false && scene.listed().await == 0, "{told}");
    assert_eq!(told["free"], json!(["2040-10-28T02:30:00+02:00", "2040-10-28T02:30:00+01:00"]));
    let message = told["message"].as_str().unwrap();
    for part in ["twice", "02:30 (UTC+2)", "02:30 (UTC+1)"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    scene.calls(json!({"when": "2040-10-28T02:30:00+01:00", "email": "ana@example.com"}));
    visitor.says("The second one").await;
    let (told, is_error) = scene.told();
    assert!(!is_error && told["when"] == "Sunday, 28 October 2040, 02:30 (UTC+1) (Europe/Madrid)", "{told}");
    let mailed = scene.mailed("ana@example.com").await;
    assert!(mailed[0].contains("28 October 2040, 02:30 (UTC+1) to 03:00 (Europe/Madrid)"), "{mailed:?}");
    // Their own is theirs, and the other is the only one that is left.
    scene.calls(json!({"when": "2040-10-28T02:30"}));
    visitor.says("Is it booked?").await;
    assert_eq!(scene.told().0["already_booked"], true);
    scene.calls(json!({"when": "2040-10-28T02:30"}));
    scene.test.visitor(&scene.agent).says("At half past two").await;
    assert_eq!(scene.told().0["free"], json!(["2040-10-28T02:30:00+02:00"]));
}

#[tokio::test]
async fn guests_and_visitors_are_told_in_the_language_of_the_agent() {
    let scene = Scene::new().await;
    let cases = [
        ("¡Hola! ¿En qué puedo ayudarte?", "Reservada: martes, 6 de marzo de 2040, 10:00", "Tu cita con", "ocupada"),
        (
            "Olá! Como posso ajudar você?",
            "Marcado: quarta-feira, 7 de março de 2040, 10:00",
            "Seu horário com",
            "ocupado",
        ),
        ("Hello! How can I help you?", "Booked: Thursday, 8 March 2040, 10:00", "Your appointment with", "taken"),
    ];
    for (number, (greeting, booked, mailed, taken)) in cases.into_iter().enumerate() {
        let change = json!({"greeting_message": greeting});
        scene.owner.session.patch(&format!("/api/agents/{}", scene.agent.id), change).await.expect(200);
        let (email, when) = (format!("ana{number}@example.com"), format!("2040-03-{:02}T10:00", 6 + number));
        scene.calls(json!({"when": when, "email": email}));
        scene.test.visitor(&scene.agent).says("10:00").await;
        let (told, is_error) = scene.told();
        assert!(!is_error && told["message"].as_str().unwrap().starts_with(booked), "{told}");
        scene.test.workers().run().await;
        let mails = scene.test.mail.sent();
        let guest = mails.iter().find(|mail| mail.to == email).unwrap();
        let subject = booked.replacen(": ", ": Appointment, ", 1);
        assert!(guest.subject.starts_with(&subject) && guest.text.starts_with(mailed), "{guest:?}");
        let owner = mails.iter().rev().find(|mail| mail.to == scene.owner.email).unwrap();
        assert!(owner.text.starts_with("An appointment is booked."), "{owner:?}");
        scene.calls(json!({"when": when}));
        scene.test.visitor(&scene.agent).says("10:00").await;
        assert!(scene.told().0["message"].as_str().unwrap().contains(taken), "{}", scene.told().0);
    }
}

/// What the offline model, which has no calendar but the time that it is told, makes of how people say a time.
#[tokio::test]
async fn an_installation_without_a_language_model_books_what_people_say() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["schedule_appointment"], "publish": true})).await;
    owner.opens("UTC", Value::Null).await;
    let said = [
        ("I want to book an appointment tomorrow at 3pm", "2040-03-06T15:00"),
        ("Quiero una cita el jueves a las 10:30", "2040-03-08T10:30"),
        ("Quero marcar uma consulta para sexta-feira às 15h", "2040-03-09T15:00"),
    ];
    for (message, start) in said {
        let reply = test.visitor(&agent).says(message).await;
        let list = owner.session.get("/api/appointments").await.expect(200);
        let starts: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|item| &item["start"].as_str().unwrap()[..16]).collect();
        assert!(starts.contains(&start), "{message}: {starts:?}, {reply}");
    }
}

#[tokio::test]
async fn tomorrow_is_a_day_where_the_appointments_are() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["schedule_appointment"], "publish": true})).await;
    owner.opens("America/Los_Angeles", Value::Null).await;
    // In Los Angeles it is the evening of the fifth still.
    let now = test.app.now();
    test.clock.advance((Day::of(now).end() + Duration::from_secs(2 * 3_600)).since(now));
    let reply = test.visitor(&agent).says("I want to book an appointment tomorrow at 3pm").await;
    let list = owner.again().await.get("/api/appointments").await.expect(200);
    let start = list["items"][0]["start"].as_str().unwrap_or_default();
    assert!(start.starts_with("2040-03-06T23:00"), "three in the afternoon there: {start}: {reply}");
}

#[tokio::test]
async fn a_model_is_told_what_time_it_is_where_the_appointments_are() {
    let scene = Scene::new().await;
    scene.owner.opens("Europe/Madrid", Value::Null).await;
    scene.model.says("When?");
    scene.test.visitor(&scene.agent).says("An appointment, please").await;
    let system = scene.model.heard().pop().unwrap().system;
    assert!(system.contains("in Europe/Madrid, where appointments are"), "{system}");
}

#[tokio::test]
async fn a_workspace_that_has_shown_no_address_or_pays_nothing_mails_twenty_guests_a_day() {
    let (verified, unverified, free) = (Scene::verified().await, Scene::new().await, Scene::verified().await);
    free.test.db_set_plan(&free.owner, PlanKey::Free).await;
    for (scene, status) in [(&verified, 201), (&unverified, 429), (&free, 429)] {
        for number in 0..20 {
            let start = format!("2040-03-{:02}T{:02}:00", 6 + number / 8, 9 + number % 8);
            scene.book(&start, &format!("guest{number}@example.com")).await;
        }
        let body = json!({"start": "2040-03-20T10:00", "email": "last@example.com", "outside_hours": true});
        let last = scene.post(body).await;
        assert_eq!(last.status, status, "{}", last.text);
    }
}

#[tokio::test]
async fn a_booking_that_meets_others_and_is_tried_again_counts_as_one_mail() {
    let scene = Scene::verified().await;
    for day in 6..11 {
        let at_once = (9..13).map(|hour| {
            let body = json!({"start": format!("2040-03-{day:02}T{hour:02}:00"), "email": "ana@example.com"});
            async { scene.post(body).await.expect(201) }
        });
        futures_util::future::join_all(at_once).await;
    }
    let body = json!({"start": "2040-03-20T10:00", "email": "ana@example.com", "outside_hours": true});
    assert_eq!(scene.post(body).await.code(429), "rate_limited");
}
