//! Contacts: what an unknown visitor may add to somebody whom the workspace knows.

use serde_json::{Value, json};
use shared::domain::Contact;
use shared::domain::lead::Details;
use shared::store;
use tests::{Owner, ScriptedModel, TestApp};

/// Whoever has an address or a number.
async fn holder(test: &TestApp, owner: &Owner, email: Option<&str>, phone: Option<&str>) -> Option<Contact> {
    let (details, workspace) = (Details::check(None, email, phone, None).unwrap(), test.db_workspace(owner).await.id);
    store::contact::find(&test.app.table, workspace, &details).await.unwrap().map(|found| found.body)
}

async fn told(model: &ScriptedModel, call: Value) {
    model.calls("capture_lead", call);
    model.says("Thank you.");
}

#[tokio::test]
async fn a_visitor_who_names_a_known_address_adds_nothing_that_identifies_its_holder() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.paying_owner().await;
    let tools = json!(["capture_lead", "schedule_appointment"]);
    let agent = owner.agent_with(json!({"name": "Luna", "tools": tools, "publish": true})).await;
    owner.opens("UTC", Value::Null).await;
    told(&model, json!({"name": "Ana", "email": "ana@example.com"})).await;
    test.visitor(&agent).says("I am Ana, ana@example.com").await;
    let ana = holder(&test, &owner, Some("ana@example.com"), None).await.unwrap();

    // Another conversation: by the tool, by a booking, and by the form.
    told(&model, json!({"name": "Eva", "email": "ana@example.com", "phone": "+34 600 000 001"})).await;
    test.visitor(&agent).says("I am ana@example.com").await;
    let booking = json!({"when": "2040-03-06T10:00", "email": "ana@example.com", "phone": "+34 600 000 002"});
    model.calls("schedule_appointment", booking);
    model.says("Booked.");
    test.visitor(&agent).says("Tomorrow at ten").await;
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    let lead = json!({"email": "ana@example.com", "phone": "+34 600 000 003"});
    test.anonymous().post(&form, lead).await.expect(201);

    let after = holder(&test, &owner, Some("ana@example.com"), None).await.unwrap();
    assert_eq!((after.id, after.name.as_deref(), after.phone.as_deref()), (ana.id, Some("Ana"), None));
    for number in ["34600000001", "34600000002", "34600000003"] {
        assert!(holder(&test, &owner, None, Some(number)).await.is_none(), "{number} leads to nobody");
    }
    let leads = owner.session.get(&format!("/api/clients/me/agents/{}/leads", agent.id)).await.expect(200);
    let phones: Vec<&str> =
        leads["items"].as_array().unwrap().iter().filter_map(|lead| lead["phone"].as_str()).collect();
    assert_eq!(phones, ["34600000003", "34600000001"], "the owner sees what was said");
    let booked = owner.session.get("/api/appointments").await.expect(200);
    assert_eq!(booked["items"][0]["contact_id"], json!(ana.id.int()), "and whom it leads to");
}

#[tokio::test]
async fn a_visitor_completes_the_contact_that_they_began_and_the_team_completes_any() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.paying_owner().await;
    let agent = owner.agent_with(json!({"name": "Luna", "tools": ["capture_lead"], "publish": true})).await;
    owner.opens("UTC", Value::Null).await;
    let mut visitor = test.visitor(&agent);
    told(&model, json!({"email": "ana@example.com"})).await;
    visitor.says("I am ana@example.com").await;
    told(&model, json!({"email": "ana@example.com", "phone": "+34 600 000 001"})).await;
    visitor.says("And my number is +34 600 000 001").await;
    let ana = holder(&test, &owner, None, Some("34600000001")).await.expect("it is theirs");
    assert_eq!(ana.email.as_deref(), Some("ana@example.com"));

    told(&model, json!({"email": "eva@example.com"})).await;
    test.visitor(&agent).says("I am eva@example.com").await;
    let body = json!({"start": "2040-03-06T10:00", "email": "eva@example.com", "phone": "+34 600 000 002"});
    owner.session.post("/api/appointments", body).await.expect(201);
    let eva = holder(&test, &owner, None, Some("34600000002")).await.expect("the team says so");
    assert_eq!(eva.email.as_deref(), Some("eva@example.com"));
}
