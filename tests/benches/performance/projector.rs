//! The projector: events a second that go into their counters, in batches as the stream gives them.

use std::time::Instant;

use shared::app::projector;
use shared::table::Meter;
use tests::TestApp;

use crate::report::{Report, per_second, row};

const EVENTS: usize = 5_000;
/// As the template has it.
const BATCH: usize = 100;
const AGENTS: usize = 5;

pub(crate) async fn counting() -> Report {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let mut events = Vec::new();
    for number in 0..AGENTS {
        let agent = owner.agent(&format!("Agent {number}")).await;
        let made = test.db_use(&owner, agent.id, &test.event_ids(EVENTS / AGENTS, None)).await;
        events.extend(made.into_iter().map(|(_, event)| event));
    }
    // As they come: the agents' events beside each other.
    events.sort_by_key(|event| event.id.as_u128().reverse_bits());
    test.app.table.meter().record();
    let began = Instant::now();
    for batch in events.chunks(BATCH) {
        projector::project(&test.app, batch).await.expect("the projector works");
    }
    let (took, calls) = (began.elapsed(), test.app.table.meter().take());
    let ours = took.saturating_sub(Meter::time(&calls));
    let writes: f64 = calls.iter().map(|call| call.write).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let each = writes / EVENTS as f64;
    let rows = [
        row([&"replies counted (each in two counters)", &"rate", &"write units an event"]),
        row([&"with the table's own time", &per_second(EVENTS, took), &format!("{each:.1}")]),
        row([&"the table's own time left out", &per_second(EVENTS, ours), &""]),
    ];
    Report::new().table(&rows)
}
