//! The bill, event by event.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use shared::domain::Role;
use shared::domain::plan::PlanKey;
use tests::{Ledger, Owner, TestApp};

use super::usage::{claim, report_all, used};

const EVENTS: &str = "/api/billing/usage-events";
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

async fn events(owner: &Owner, query: &str) -> Vec<Value> {
    owner.session.get(&format!("{EVENTS}{query}")).await.expect(200)["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn each_reply_is_one_event_with_what_it_costs_by_whose_key_it_was() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.clock.advance(Duration::from_secs(60));
    let own = json!({"config": {"ai": {"provider": "offline", "api_key": "sk-own"}}});
    owner.session.patch(&format!("/api/agents/{}", agent.id), own).await.expect(200);
    test.visitor(&agent).says("Hello").await;
    let told = events(&owner, "").await;
    let [newest, first] = &told[..] else { panic!("{told:?}") };
    let conversations = owner.session.get(&format!("/api/clients/me/agents/{}/conversations", agent.id)).await;
    let conversations = conversations.expect(200);
    let its = &conversations["items"][1];
    let path = format!("/api/clients/me/agents/{}/conversations/{}", agent.id, its["id"]);
    let reply = owner.session.get(&path).await.expect(200)["messages"][1].clone();
    let expected = json!({
        "id": first["id"], "owner_id": owner.user_id, "agent_id": agent.id, "conversation_id": its["id"],
        "message_id": reply["id"], "event_type": "ai_message", "key_source": "managed", "quantity": 1,
        "unit_cost_cents": 1.0, "included": true, "created_at": first["created_at"], "reported_at": null,
    });
    assert_eq!(first, &expected);
    assert_eq!((&newest["key_source"], &newest["unit_cost_cents"]), (&json!("byok"), &json!(0.4)));
}

#[tokio::test]
async fn events_are_paged_newest_first_over_months_and_read_by_time_and_agent() {
    let test = TestApp::new().await;
    let (owner, agent) = used(&test, 5).await;
    test.db_set_plan(&owner, PlanKey::Pro).await;
    let other = owner.agent("Ventas").await;
    test.clock.advance(2 * MONTH);
    test.db_use(&owner, other.id, &test.event_ids(4, None)).await;
    let owner = Owner { session: owner.again().await, ..owner };
    assert_eq!(events(&owner, "").await.len(), 4, "thirty days, unless it is said");
    let (mut cursor, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let page = owner.session.get(&format!("{EVENTS}?since=2040-01-01&limit=3{cursor}")).await.expect(200);
        pages += 1;
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let ids: HashSet<&str> = seen.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((pages, seen.len(), ids.len()), (3, 9, 9), "each once, and no page without any");
    let times: Vec<&str> = seen.iter().map(|one| one["created_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    assert_eq!(seen[3]["agent_id"], json!(other.id));
    let of_one = format!("?since=2040-01-01&agent_id={}", agent.id);
    assert!(events(&owner, &of_one).await.iter().all(|one| one["agent_id"] == json!(agent.id)));
    assert_eq!(events(&owner, &of_one).await.len(), 5);
    assert_eq!(events(&owner, "?since=2040-03-01&until=2040-03-31").await.len(), 5);
    assert_eq!(events(&owner, "?since=2040-04-01&until=2040-04-30").await.len(), 0);
    for wrong in ["?since=2040-05-09&until=2040-05-01", "?since=2030-01-01", "?limit=0", "?cursor=zzz", "?since=x"] {
        assert_eq!(owner.session.get(&format!("{EVENTS}{wrong}")).await.code(422), "validation_error", "{wrong}");
    }
    let forged = shared::kernel::Cursor { position: "202? x".into() }.encode("usage_events");
    assert_eq!(owner.session.get(&format!("{EVENTS}?cursor={forged}")).await.code(422), "validation_error");
}

#[tokio::test]
async fn whoever_pays_sees_what_was_reported_and_nobody_else_does() {
    let (test, _ledger) = Ledger::with_app().await;
    let (owner, _) = used(&test, 2).await;
    let claims = claim(&test, false).await;
    report_all(&test, &claims).await;
    assert!(events(&owner, "").await.iter().all(|one| one["reported_at"].is_string()));
    let stranger = test.owner().await;
    assert_eq!(events(&stranger, "").await, Vec::<Value>::new());
    for role in [Role::Admin, Role::Editor, Role::Viewer] {
        let member = test.db_member(&owner, role).await;
        assert_eq!(member.get(EVENTS).await.code(403), "forbidden", "{role:?}");
    }
    assert_eq!(owner.key().await.get(EVENTS).await.code(403), "forbidden");
}
