//! Webhooks: how many deliveries a second reach a receiver on this machine, and how long after their event.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use futures_util::future::join_all;
use serde_json::json;
use shared::kernel::{Clock as _, SystemClock};
use uuid::Uuid;

use crate::report::{Denied, Report, Times, per_second, row};
use crate::stage::{Place, Stage};

/// Endpoints of each tenant: one event makes so many deliveries.
const ENDPOINTS: u32 = 10;
/// Deliveries a second that are offered.
const OFFERED: [u32; 7] = [100, 200, 300, 400, 500, 550, 600];
const MEASURED: Duration = Duration::from_secs(5);
/// How long the last delivery is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes every call at once and remembers how long after its event it came.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<(Times, Option<Instant>)>>);

impl Receiver {
    async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, receiver) = (listener.local_addr().expect("an address"), self.clone());
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            receiver.take(&headers);
            StatusCode::NO_CONTENT
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// An event's id tells the millisecond that it was made in, before it was committed.
    fn take(&self, headers: &HeaderMap) {
        let id = headers["x-chatia-event-id"].to_str().ok().and_then(|id| Uuid::parse_str(id).ok()).expect("an id");
        let made = i64::try_from(id.as_u128() >> 80).expect("48 bits");
        let delay = u64::try_from(SystemClock.now().millis() - made).unwrap_or(0);
        let mut taken = self.0.lock().expect("not poisoned");
        taken.0.add(Duration::from_millis(delay));
        taken.1 = Some(Instant::now());
    }

    fn count(&self) -> usize {
        self.0.lock().expect("not poisoned").0.count()
    }

    fn reset(&self) -> (Times, Option<Instant>) {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

/// Each tenant makes events in even steps, whether or not those before are delivered, but one after the other: a platform
/// that is slow to take them is offered fewer. Says how many were made.
async fn make_events(stage: &Stage, deliveries_per_second: u32) -> usize {
    let tenants = u32::try_from(stage.tenants.len()).expect("few");
    let step = Duration::from_secs(1) * ENDPOINTS * tenants / deliveries_per_second;
    let begin = Instant::now();
    let made = (0..tenants).map(|tenant| async move {
        let mut connection = stage.owner(tenant as usize).await;
        // One after the other, so that the pace is even over all of them.
        tokio::time::sleep((step * tenant / tenants).saturating_sub(begin.elapsed())).await;
        let (began, mut made) = (Instant::now(), 0);
        while began.elapsed() < MEASURED {
            let answer = connection.post("/api/developers/events", &json!({"event": "order.paid"})).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 201, "{}", answer.body);
            made += 1;
            tokio::time::sleep((step * u32::try_from(made).expect("few")).saturating_sub(began.elapsed())).await;
        }
        made
    });
    join_all(made).await.into_iter().sum()
}

/// What arrives of what is offered.
pub(crate) async fn rates() -> Report {
    let (stage, receiver) = (Stage::start(Place::Memory), Receiver::default());
    let address = receiver.listen().await;
    for tenant in 0..stage.tenants.len() {
        let mut connection = stage.owner(tenant).await;
        for endpoint in 0..ENDPOINTS {
            let body = json!({"name": "crm", "url": format!("http://{address}/{tenant}/{endpoint}")});
            let answer = connection.post("/api/developers/webhooks", &body).await.expect("an answer");
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
    }
    let mut rows = vec![row([&"wanted", &"offered", &"delivered", &"delay p50", &"p95", &"p99", &"denied"])];
    // The first run warms up.
    for offered in std::iter::once(100).chain(OFFERED) {
        drop(receiver.reset());
        let (began, denied) = (Instant::now(), Denied::since_now());
        let expected = make_events(&stage, offered).await * ENDPOINTS as usize;
        let made = per_second(expected, began.elapsed());
        while receiver.count() < expected && began.elapsed() < MEASURED + PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (delays, last) = receiver.reset();
        assert_eq!(delays.count(), expected, "every event reaches every endpoint once");
        let took = last.map_or(PATIENCE, |last| last - began);
        let delivered = per_second(delays.count(), took);
        let (p50, p95, p99) = (delays.shown(50), delays.shown(95), delays.shown(99));
        rows.push(row([&format!("{offered}/s"), &made, &delivered, &p50, &p95, &p99, &denied.shown()]));
    }
    rows.remove(1);
    Report::new().table(&rows)
}
