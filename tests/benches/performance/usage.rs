//! Usage: from unreported events to what Polar has, in batches of 500.

use std::time::Instant;

use shared::app::usage;
use shared::ports::queue::QueueName;
use shared::table::Meter;
use tests::Ledger;

use crate::report::{Report, per_second, row};

const EVENTS: usize = 20_000;

pub(crate) async fn reporting() -> Report {
    let (test, ledger) = Ledger::with_app().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.app.table.meter().record();
    let began = Instant::now();
    test.db_use(&owner, agent.id, &test.event_ids(EVENTS, None)).await;
    let stored = began.elapsed();
    let stores = test.app.table.meter().take().len();
    test.app.table.meter().record();
    let began = Instant::now();
    // One run claims all of them; a few more, should it begin in the first minute of a day.
    for _ in 0..10 {
        if ledger.len() == EVENTS {
            break;
        }
        usage::batch(&test.app, false).await.expect("usage is claimed");
        for message in test.queue.take(QueueName::UsageReport) {
            let report = serde_json::from_str(&message.body).expect("a report");
            usage::report(&test.app, &report).await.expect("usage is reported");
        }
    }
    assert_eq!(ledger.len(), EVENTS, "all of it is reported");
    let (took, calls) = (began.elapsed(), test.app.table.meter().take());
    let ours = took.saturating_sub(Meter::time(&calls));
    let rows = [
        row([&"usage events", &"rate", &"table calls"]),
        row([
            &"stored, each with the event that tells of it, 50 in a transaction",
            &per_second(EVENTS, stored),
            &stores,
        ]),
        row([&"reported, with the table's own time", &per_second(EVENTS, took), &calls.len()]),
        row([&"reported, the table's own time left out", &per_second(EVENTS, ours), &""]),
    ];
    let share = 100.0 * (1.0 - ours.as_secs_f64() / took.as_secs_f64());
    let limit = format!(
        "Of the time of reporting, {share:.0} % is the embedded engine's: each event is marked as reported by a write of \
         its own, sixteen at a time, and the engine carries out one write after the other."
    );
    Report::new().table(&rows).say(limit)
}
