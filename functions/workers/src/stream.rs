//! Batches of the table's stream: which of their records are events, and which of those do not read.

use aws_lambda_events::dynamodb::{Event as StreamEvent, EventRecord};
use serde_dynamo::AttributeValue;
use shared::domain::Event;
use shared::store::outbox::ENTITY;

/// The events of a batch, in order. The stream's filter lets only events through, but a filter may change: whatever else
/// comes is skipped. So is an event that does not read, with an error in the log and an alarm: to ask for it again would
/// hold back everything behind it in its shard for as long as the stream keeps it, and change nothing. It stays in the
/// outbox, from where it is relayed again once it can be read.
pub(crate) fn read(batch: StreamEvent) -> Vec<Event> {
    let read = |record: EventRecord| {
        let number = record.change.sequence_number.unwrap_or_default();
        serde_dynamo::from_item(record.change.new_image)
            // The error names a field, never its content.
            .inspect_err(|error| tracing::error!(sequence_number = number, %error, "an event record does not read"))
            .ok()
    };
    batch.records.into_iter().filter(is_event).filter_map(read).collect()
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
            let events = read(batch(text));
            assert_eq!((events.len(), events[0].kind.as_str()), (1, "message.reply"));
            assert!(events[0].agent_id.is_some());
        }
    }

    #[test]
    fn what_is_not_a_new_event_is_skipped() {
        for (from, to) in [("\"INSERT\"", "\"MODIFY\""), ("\"INSERT\"", "\"REMOVE\""), ("\"event\"", "\"agent\"")] {
            assert!(read(batch(&RELAY.replace(from, to))).is_empty(), "{to}");
        }
    }

    #[test]
    fn a_record_that_does_not_read_holds_back_none_behind_it() {
        let mut whole = batch(RELAY);
        let good = whole.records[0].clone();
        let bad = batch(&RELAY.replace("\"workspace_id\"", "\"workspace\"")).records.remove(0);
        whole.records.extend([bad, good]);
        assert_eq!(read(whole).len(), 2);
    }
}
