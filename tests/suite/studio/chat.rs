//! The public chat.

use tests::TestApp;

#[tokio::test]
async fn a_visitor_asks_and_the_agent_answers_from_its_instructions() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let mut visitor = test.visitor(&agent);
    let answer = visitor.says("How long does delivery take?").await;
    assert!(answer["reply"].as_str().unwrap().contains("two days"), "{answer}");
    assert_eq!(answer["key_source"], "managed");
    assert_eq!(answer["free_messages_remaining"], 49);
}
