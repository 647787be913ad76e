//! The deliver worker's binary as Lambda runs it: a process of its own that asks for batches of messages.

use serde_json::{Value, json};
use tests::{Cloud, Function, TestApp};

const DELIVER: &str = env!("CARGO_BIN_EXE_deliver");

fn sample() -> Value {
    serde_json::from_str(include_str!("../../events/deliver.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_an_endpoint_that_is_gone_are_done() {
    let test = TestApp::new().await;
    let cloud = Cloud::of(&test).await;
    let function = Function::start(DELIVER, &cloud.variables()).await;
    let answer = function.invoke(&sample()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert!(cloud.sent().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_read_is_buried_with_its_reason() {
    let test = TestApp::new().await;
    let cloud = Cloud::of(&test).await;
    let function = Function::start(DELIVER, &cloud.variables()).await;
    let mut batch = sample();
    batch["Records"][0]["body"] = json!("{\"task\":\"none that there is\"}");
    let answer = function.invoke(&batch).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    let sent = cloud.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0]["QueueUrl"].as_str().unwrap().ends_with("/deliver-dead-letters"), "{sent:?}");
    assert_eq!(sent[0]["MessageBody"], batch["Records"][0]["body"]);
    let reason = sent[0]["MessageAttributes"]["reason"]["StringValue"].as_str().unwrap();
    assert!(reason.contains("does not read"), "{reason}");
}
