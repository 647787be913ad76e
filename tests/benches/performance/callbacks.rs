//! Callbacks of a provider of WhatsApp: how soon one is verified, queued and acknowledged. The messages that they bring are
//! stored and answered meanwhile.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::kernel::{Clock as _, SystemClock};
use tests::phones::{SIGNING_SECRET, of_meta, signature, text};

use crate::http::Connection;
use crate::report::{Report, Times, per_second, row};
use crate::stage::{NUMBER, Place, Stage};

const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);
/// How long one client waits between two callbacks: Meta's pace is that of people who write.
const PAUSE: Duration = Duration::from_millis(50);

/// Callbacks one after the other, each with a message of somebody else, until the time is over.
async fn callbacks(stage: &Stage, client: usize, from: Instant, until: Instant) -> Times {
    let mut connection = Connection::open(stage.address, "").await.expect("a connection");
    let mut times = Times::default();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let (id, phone) = (format!("wamid.{client}.{number}"), format!("34{client:03}{number:06}"));
        let message = text(&id, &phone, SystemClock.now(), "How long does delivery take?");
        let body = of_meta(NUMBER, &[message], &[]).to_string();
        let signed = format!("x-hub-signature-256: sha256={}\r\n", signature(SIGNING_SECRET, &body));
        let began = Instant::now();
        let answer = connection.post_with(&signed, "/hooks/whatsapp/meta/any", &body).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        if began >= from && began < until {
            times.add(began.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    times
}

/// How soon callbacks are acknowledged.
pub(crate) async fn acknowledged() -> Report {
    let stage = Stage::start(Place::Memory);
    let mut rows = vec![row([&"providers' connections", &"callbacks", &"p50", &"p99"])];
    for clients in [1, 8] {
        let from = Instant::now() + WARM_UP;
        let all = (0..clients).map(|client| callbacks(&stage, client + clients, from, from + MEASURED));
        let times: Times = join_all(all).await.into_iter().collect();
        let rate = per_second(times.count(), MEASURED);
        rows.push(row([&clients, &rate, &times.shown(50), &times.shown(99)]));
    }
    Report::new().table(&rows)
}
