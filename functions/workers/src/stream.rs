//! Batches of the table's stream: which of their records are events, and which of those do not read.

use aws_lambda_events::dynamodb::{Event as StreamEvent, EventRecord};
use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use serde_dynamo::AttributeValue;
use shared::domain::Event;
use shared::store::outbox::ENTITY;

/// What a batch holds for us.
pub(crate) struct Read {
    /// Its events, in order.
    pub(crate) events: Vec<Event>,
    /// Names the records that do not read, so that the batch is cut at the first of them and tried again. What comes
    /// behind it is handled now all the same, since a repeat does no harm and waiting would.
    pub(crate) response: DynamoDbEventResponse,
}

/// Reads a batch. The stream's filter lets only events through, but a filter may change: whatever else comes is skipped.
pub(crate) fn read(batch: StreamEvent) -> Read {
    let mut read = Read { events: Vec::new(), response: DynamoDbEventResponse::default() };
    for record in batch.records.into_iter().filter(is_event) {
        let number = record.change.sequence_number.unwrap_or_default();
        match serde_dynamo::from_item(record.change.new_image) {
            Ok(event) => read.events.push(event),
            Err(error) => {
                // The error names a field, never its content.
                tracing::error!(sequence_number = number, %error, "an event record does not read");
                let mut failure = DynamoDbBatchItemFailure::default();
                failure.item_identifier = Some(number);
                read.response.batch_item_failures.push(failure);
            }
        }
    }
    read
}

fn is_event(record: &EventRecord) -> bool {
    let entity = record.change.new_image.inner().get("et");
    record.event_name == "INSERT" && matches!(entity, Some(AttributeValue::S(entity)) if entity == ENTITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &str) -> StreamEvent {
        serde_json::from_str(text).unwrap()
    }

    const RELAY: &str = include_str!("../../../events/relay.json");

    #[test]
    fn the_sample_events_read() {
        for text in [RELAY, include_str!("../../../events/projector.json")] {
            let read = read(batch(text));
            assert_eq!(read.events.len(), 1);
            assert_eq!(read.events[0].kind, "message.reply");
            assert!(read.events[0].agent_id.is_some());
            assert!(read.response.batch_item_failures.is_empty());
        }
    }

    #[test]
    fn what_is_not_a_new_event_is_skipped() {
        for (from, to) in [("\"INSERT\"", "\"MODIFY\""), ("\"INSERT\"", "\"REMOVE\""), ("\"event\"", "\"agent\"")] {
            let read = read(batch(&RELAY.replace(from, to)));
            assert!(read.events.is_empty() && read.response.batch_item_failures.is_empty(), "{to}");
        }
    }

    #[test]
    fn a_record_that_does_not_read_is_named_and_the_others_go_on() {
        let mut whole = batch(RELAY);
        let good = whole.records[0].clone();
        let bad = batch(&RELAY.replace("\"workspace_id\"", "\"workspace\"")).records.remove(0);
        for (number, mut record) in [bad, good].into_iter().enumerate() {
            record.change.sequence_number = Some(format!("{}", 100 + number));
            whole.records.push(record);
        }
        let read = read(whole);
        assert_eq!(read.events.len(), 2);
        let failed: Vec<_> = read.response.batch_item_failures.iter().map(|one| one.item_identifier.clone()).collect();
        assert_eq!(failed, [Some("100".to_owned())]);
    }
}
