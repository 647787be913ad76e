//! What an agent has done.

use serde_json::json;
use tests::TestApp;

#[tokio::test]
async fn an_agent_s_stats_follow_its_conversations() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let path = format!("/api/agents/{}/stats", agent.id);
    let nothing = json!({"agent_id": agent.id, "conversations": 0, "messages": 0, "replies": 0, "leads": 0});
    assert_eq!(owner.session.get(&path).await.expect(200), nothing);
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    visitor.says("How long does delivery take?").await;
    let lead = json!({"email": "ana@example.com"});
    visitor.persona.post(&format!("/api/public/agents/{}/leads", agent.slug), lead).await.expect(201);
    test.workers().run().await;
    let done = json!({"agent_id": agent.id, "conversations": 1, "messages": 2, "replies": 2, "leads": 1});
    assert_eq!(owner.key().await.get(&path).await.expect(200), done);
    assert_eq!(test.owner().await.session.get(&path).await.code(404), "not_found");
}
