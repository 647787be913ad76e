//! Two processes that were copied with their randomness: what they make differs wherever tenants could meet.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shared::kernel::Rng;
use tests::{Dump, Owner, Persona, TestApp};
use uuid::Uuid;

/// What one process does for its own owner: everything that makes an id.
async fn live(test: &TestApp, anybody: Persona, email: &str) -> Owner {
    let owner = Owner::register(anybody.clone(), email).await;
    test.db_set_plan(&owner, shared::domain::plan::PlanKey::Agency).await;
    owner.webhook("http://127.0.0.1:9/hook", Value::Null).await;
    owner.key().await;
    let agent = owner.agent("Soporte").await;
    for number in 0..3 {
        let body = json!({"message": format!("mail me: a{number}@example.com"), "client_message_id": format!("same-id-{number:016}")});
        anybody.post(&format!("/api/public/agents/{}/chat", agent.slug), body).await.expect(200);
        owner.session.post("/api/developers/events", json!({"event": "same"})).await.expect(201);
    }
    owner
}

/// The keys of an entity that lie outside of tenants, and the ids that are told outside.
fn ids<'a>(dump: &'a Dump, et: &'a str, field: &'a str) -> Vec<&'a str> {
    dump.of(et).map(|item| item[field].as_str().unwrap_or_else(|| panic!("{field} in {item}"))).collect()
}

#[tokio::test]
async fn two_workspaces_with_the_same_clock_and_randomness_share_no_id_outside_of_themselves() {
    let test = TestApp::new().await;
    let mut owners = Vec::new();
    for number in 0..2 {
        // The same seed: both draw the same numbers at the same millisecond.
        let app = test.process(Rng::seeded(99));
        let router = shared::http::serve::surface(&app, &studio::SURFACE, studio::SURFACE.groups);
        owners.push(live(&test, test.anonymous().on(router), &format!("copy{number}@example.com")).await);
    }
    test.workers().run().await;
    let dump = test.db_dump().await;
    for (et, field, least) in [
        ("user", "id", 2),
        ("workspace", "id", 2),
        ("workspace", "slug", 2),
        ("billing_account", "id", 2),
        ("session", "sid", 2),
        ("event", "id", 20),
        ("usage", "id", 6),
        ("delivery", "id", 20),
    ] {
        let found = ids(&dump, et, field);
        assert!(found.len() >= least, "{et}: {found:?}");
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "{field} of {et} clash: {found:?}");
    }
    let (one, two) = (test.db_workspace(&owners[0]).await, test.db_workspace(&owners[1]).await);
    assert_ne!((one.id, one.owner_user_id), (two.id, two.owner_user_id));
    for owner in &owners {
        assert_eq!(test.db_usage(owner).await.len(), 3, "each was answered and billed for itself");
        let keys = owner.session.get("/api/developers/api-keys").await.expect(200);
        assert_eq!(keys["items"].as_array().unwrap().len(), 1);
    }
    // Names of different kinds do not meet either: every id outside of tenants is there once.
    let all: Vec<Uuid> = ["event", "usage", "delivery"]
        .iter()
        .flat_map(|et| ids(&dump, et, "id"))
        .map(|id| id.parse().unwrap())
        .collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}
