//! What goes live, under which address, and how many may.

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::domain::plan::PlanKey;
use shared::kernel::Id;
use shared::store;
use shared::table::Unit;
use tests::{Answer, Owner, TestApp};

async fn publish(owner: &Owner, agent: u64) -> Answer {
    owner.session.post(&format!("/api/agents/{agent}/publish"), Value::Null).await
}

async fn unpublish(owner: &Owner, agent: u64) -> Value {
    owner.session.post(&format!("/api/agents/{agent}/unpublish"), Value::Null).await.expect(200)
}

async fn draft(owner: &Owner, name: &str) -> u64 {
    owner.agent_with(json!({"name": name})).await.id
}

async fn used(owner: &Owner) -> Value {
    owner.session.get("/api/billing/account").await.expect(200)["agents_used"].clone()
}

#[tokio::test]
async fn the_first_publication_mints_the_address_from_the_name() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let agent = publish(&owner, draft(&owner, "Soporte Técnico & Ventas").await).await.expect(200);
    assert_eq!((&agent["is_published"], &agent["status"]), (&json!(true), &json!("published")));
    assert_eq!(agent["public_slug"], "soporte-tecnico-ventas");
    assert_eq!(agent["public_url"], "http://127.0.0.1:8000/soporte-tecnico-ventas");
    assert_eq!(agent["published_at"], "2040-03-05T09:00:00.000Z");
    let page = test.anonymous().get("/soporte-tecnico-ventas").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Soporte Técnico &amp; Ventas"), "{}", page.text);
}

#[tokio::test]
async fn agents_of_one_name_get_addresses_of_their_own() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let mut slugs = Vec::new();
    for name in ["Soporte", "Soporte", "SOPORTE!", "Admin", "Admin", "日本語", "…", "api", "12", "a"] {
        let agent = publish(&owner, draft(&owner, name).await).await.expect(200);
        let slug = agent["public_slug"].as_str().unwrap().to_owned();
        assert_eq!(test.anonymous().get(&format!("/{slug}")).await.status, 200, "{name}: /{slug}");
        slugs.push(slug);
    }
    assert_eq!(slugs[0], "soporte");
    assert!(slugs[1].starts_with("soporte-") && slugs[3].starts_with("admin-"), "{slugs:?}");
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 10);
}

#[tokio::test]
async fn agents_of_one_name_that_are_published_at_once_all_get_an_address() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let mut drafts = Vec::new();
    for _ in 0..8 {
        drafts.push(draft(&owner, "Soporte").await);
    }
    let answers = join_all(drafts.iter().map(|agent| publish(&owner, *agent))).await;
    let mut slugs: Vec<_> = answers.into_iter().map(|answer| answer.expect(200)["public_slug"].to_string()).collect();
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 8);
}

#[tokio::test]
async fn each_publication_of_something_new_is_a_new_version_and_an_edit_is_none() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let id = draft(&owner, "Soporte").await;
    let version = |agent: Value| agent["version"].as_str().unwrap().to_owned();
    assert_eq!(version(publish(&owner, id).await.expect(200)), "1.1");
    assert_eq!(version(publish(&owner, id).await.expect(200)), "1.1", "nothing is new");
    let edit = async |text: String| {
        owner.session.patch(&format!("/api/agents/{id}"), json!({"description": text})).await.expect(200)
    };
    assert_eq!(version(edit("d".into()).await), "1.1");
    assert_eq!(version(publish(&owner, id).await.expect(200)), "1.2");
    assert_eq!(version(unpublish(&owner, id).await), "1.2");
    assert_eq!(version(publish(&owner, id).await.expect(200)), "1.3");
    for number in 4..=10 {
        edit(format!("The {number}th.")).await;
        publish(&owner, id).await.expect(200);
    }
    assert_eq!(version(owner.session.get(&format!("/api/agents/{id}")).await.expect(200)), "1.10");
}

#[tokio::test]
async fn an_edit_of_a_published_agent_is_live_at_once() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let (public, path) = (format!("/api/public/agents/{}", agent.slug), format!("/api/agents/{}", agent.id));
    let mut visitor = test.visitor(&agent);
    let before = visitor.says("How long does delivery take?").await;
    assert!(before["reply"].as_str().unwrap().contains("two days"), "{before}");
    let change = json!({"system_prompt": "Delivery takes nine days.", "greeting_message": "¡Buenas!", "name": "Ayuda", "widget": {"accent": "#123456"}});
    owner.session.patch(&path, change).await.expect(200);
    let shown = test.anonymous().get(&public).await.expect(200);
    assert_eq!(
        (&shown["greeting"], &shown["name"], &shown["accent"]),
        (&json!("¡Buenas!"), &json!("Ayuda"), &json!("#123456"))
    );
    let after = visitor.says("How long does delivery take?").await;
    assert!(after["reply"].as_str().unwrap().contains("nine days"), "{after}");
    let slug = owner.session.get(&path).await.expect(200)["public_slug"].clone();
    assert_eq!(slug, agent.slug, "a new name does not move the address");
}

#[tokio::test]
async fn an_edit_of_a_draft_shows_nowhere() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let id = draft(&owner, "Soporte").await;
    owner.session.patch(&format!("/api/agents/{id}"), json!({"greeting_message": "g"})).await.expect(200);
    assert_eq!(test.anonymous().get("/api/public/agents/soporte").await.code(404), "not_found");
    assert_eq!(test.db_dump().await.of("live").count(), 0);
}

#[tokio::test]
async fn an_agent_off_the_air_answers_nobody_and_keeps_its_address() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let off = unpublish(&owner, agent.id).await;
    assert_eq!(
        (&off["is_published"], &off["status"], &off["public_url"]),
        (&json!(false), &json!("draft"), &Value::Null)
    );
    assert_eq!(off["public_slug"], agent.slug);
    assert_eq!(unpublish(&owner, agent.id).await["is_published"], false, "twice is as good as once");
    for path in [format!("/api/public/agents/{}", agent.slug), format!("/{}", agent.slug)] {
        assert_eq!(test.anonymous().get(&path).await.code(404), "not_found");
    }
    assert_eq!(visitor.send("Are you there?").await.code(404), "not_found");
    let back = publish(&owner, agent.id).await.expect(200);
    assert_eq!(back["public_slug"], agent.slug);
    visitor.says("And now?").await;
}

#[tokio::test]
async fn an_agent_that_is_switched_off_answers_nobody_but_stays_published() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/agents/{}", agent.id);
    let off = owner.session.patch(&path, json!({"enabled": false})).await.expect(200);
    assert_eq!((&off["enabled"], &off["is_published"]), (&json!(false), &json!(true)));
    assert_eq!(test.anonymous().get(&format!("/api/public/agents/{}", agent.slug)).await.code(404), "not_found");
    assert_eq!(test.visitor(&agent).send("Hello").await.code(404), "not_found");
    owner.session.patch(&path, json!({"enabled": true})).await.expect(200);
    test.visitor(&agent).says("Hello").await;
}

#[tokio::test]
async fn the_public_reading_tells_nothing_that_is_not_public() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let body = json!({"name": "Soporte", "system_prompt": "The code word is xyzzy.", "provider": "offline", "model": "secret-model-1", "publish": true});
    let agent = owner.agent_with(body).await;
    let answer = test.anonymous().get(&format!("/api/public/agents/{}", agent.slug)).await;
    for hidden in ["xyzzy", "secret-model-1", &agent.id.to_string(), &owner.user_id.to_string(), &owner.email] {
        assert!(!answer.text.contains(hidden), "{hidden}: {}", answer.text);
    }
    let shown = answer.expect(200);
    let names: Vec<_> = shown.as_object().unwrap().keys().cloned().collect();
    let expected = [
        "name",
        "description",
        "greeting",
        "avatar",
        "accent",
        "suggested_questions",
        "show_powered_by",
        "lead_form",
        "offline",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_free_plan_publishes_one_agent_at_a_time() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (first, second) = (draft(&owner, "Uno").await, draft(&owner, "Dos").await);
    publish(&owner, first).await.expect(200);
    let before = test.db_dump().await;
    assert_eq!(publish(&owner, second).await.code(402), "agent_limit_reached");
    let body = json!({"name": "Tres", "publish": true});
    assert_eq!(owner.session.post("/api/developers/agents", body).await.code(402), "agent_limit_reached");
    assert!(test.db_dump().await.changes_since(&before).is_empty(), "what is refused is not half made");
    publish(&owner, first).await.expect(200);
    assert_eq!(used(&owner).await, 1, "publishing again counts once");
    unpublish(&owner, first).await;
    assert_eq!(used(&owner).await, 0);
    publish(&owner, second).await.expect(200);
    assert_eq!(publish(&owner, first).await.code(402), "agent_limit_reached");
    assert_eq!(owner.session.delete(&format!("/api/agents/{second}?confirmation=Dos")).await.status, 204);
    publish(&owner, first).await.expect(200);
    assert_eq!(used(&owner).await, 1);
}

#[tokio::test]
async fn each_plan_publishes_as_many_agents_as_it_says() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let mut published = 0;
    for (plan, limit) in [(PlanKey::Starter, 2), (PlanKey::Pro, 4), (PlanKey::Studio, 6), (PlanKey::Agency, 15)] {
        test.db_set_plan(&owner, plan).await;
        while published < limit {
            owner.agent("Soporte").await;
            published += 1;
        }
        assert_eq!(publish(&owner, draft(&owner, "Zu viel").await).await.code(402), "agent_limit_reached", "{plan:?}");
    }
    test.db_set_plan(&owner, PlanKey::Free).await;
    assert_eq!(used(&owner).await, 15, "a downgrade keeps what is published");
}

#[tokio::test]
async fn of_twenty_publications_at_once_the_free_plan_takes_one() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let mut drafts = Vec::new();
    for number in 0..20 {
        drafts.push(draft(&owner, if number % 2 == 0 { "Soporte" } else { "Ventas" }).await);
    }
    let answers = join_all(drafts.iter().map(|agent| publish(&owner, *agent))).await;
    let (published, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(published.len(), 1);
    for answer in refused {
        assert_eq!(answer.code(402), "agent_limit_reached");
    }
    assert_eq!(used(&owner).await, 1);
    let list = owner.session.get("/api/agents?limit=100").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().iter().filter(|agent| agent["is_published"] == true).count(), 1);
    assert_eq!(test.db_dump().await.of("public_slug").count(), 1);
}

#[tokio::test]
async fn an_agent_that_is_published_twice_at_once_counts_once() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let id = draft(&owner, "Soporte").await;
    let answers = join_all((0..3).map(|_| publish(&owner, id))).await;
    for answer in answers {
        let _ = answer.expect(200);
    }
    assert_eq!(used(&owner).await, 1);
    unpublish(&owner, id).await;
    assert_eq!(used(&owner).await, 0);
}

#[tokio::test]
async fn an_agent_that_is_taken_off_twice_at_once_counts_once() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let (first, _second) = (owner.agent("Uno").await, owner.agent("Dos").await);
    join_all((0..3).map(|_| unpublish(&owner, first.id))).await;
    assert_eq!(used(&owner).await, 1);
}

#[tokio::test]
async fn a_provider_that_nobody_could_ask_is_refused_before_visitors_find_out() {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let before = test.db_dump().await;
    for more in [json!({"publish": true}), json!({})] {
        let mut body = json!({"name": "Luna", "provider": "nope", "model": "m"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = owner.session.post("/api/developers/agents", body).await.expect(422);
        assert_eq!(refused["field"], "provider", "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("config.ai.base_url"), "it says what to do: {refused}");
    }
    assert!(test.db_dump().await.changes_since(&before).is_empty());
    let ai = json!({"base_url": "https://models.example.com/v1"});
    let draft = owner.agent_with(json!({"name": "Luna", "provider": "nope", "config": {"ai": ai}})).await.id;
    let path = format!("/api/agents/{draft}");
    assert_eq!(publish(&owner, draft).await.expect(422)["field"], "config.ai.api_key", "a server of theirs needs it");
    owner.session.patch(&path, json!({"config": {"ai": {"api_key": "sk-1"}}})).await.expect(200);
    publish(&owner, draft).await.expect(200);
    let cleared = owner.session.patch(&path, json!({"config": {"ai": {"base_url": null}}})).await.expect(422);
    assert_eq!(cleared["field"], "provider");
    for lost in [json!({"api_key": null}), json!({"base_url": "https://others.example.com/v1"})] {
        let refused = owner.session.patch(&path, json!({"config": {"ai": lost}})).await.expect(422);
        assert_eq!(refused["field"], "config.ai.api_key", "it is live and needs its key: {refused}");
    }
    let moved = json!({"provider": "offline", "config": {"ai": {"base_url": null}}});
    owner.session.patch(&path, moved).await.expect(200);
    assert_eq!(owner.session.patch(&path, json!({"provider": "other"})).await.expect(422)["field"], "provider");
    let restored = owner.session.post(&format!("{path}/versions/1/restore"), Value::Null).await.expect(422);
    assert_eq!(restored["field"], "provider", "nor is it brought back: {restored}");
    for known in ["openai", "anthropic", "offline"] {
        owner.session.patch(&path, json!({"provider": known})).await.expect(200);
    }
}

#[tokio::test]
async fn an_agent_of_before_with_a_provider_that_nobody_could_ask_is_not_published_and_can_be_mended() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let id = draft(&owner, "Luna").await;
    let (workspace, agent) = (test.db_workspace(&owner).await.id, Id::from_int(id).unwrap());
    let found = store::agent::get(&test.app.table, workspace, agent).await.unwrap();
    let (mut unit, mut stored) = (Unit::new(), found.body);
    stored.provider = Some("nope".into());
    store::agent::replace(&mut unit, &stored, found.v).unwrap();
    test.app.commit(unit).await.unwrap();
    assert_eq!(publish(&owner, id).await.expect(422)["field"], "provider");
    let path = format!("/api/agents/{id}");
    let tried = owner.session.post(&format!("{path}/preview"), json!({"message": "Hi"})).await.expect(422);
    assert_eq!(tried["field"], "provider", "{tried}");
    owner.session.patch(&path, json!({"name": "Sol"})).await.expect(200);
    owner.session.patch(&path, json!({"provider": null})).await.expect(200);
    publish(&owner, id).await.expect(200);
}
