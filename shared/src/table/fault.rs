//! Faults on the way to the table, for tests and for trying the whole system under them: what AWS does now and then and
//! the embedded engine never does. They are made below the SDK, so that everything above meets them as in production.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;

use tokio::sync::watch;

use crate::kernel::Rng;

/// How often each fault happens, in thousandths of all calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// A running transaction holds the item (writes only).
    pub conflict: u32,
    /// Too many calls.
    pub throttled: u32,
    /// A fault of the service: nothing was done.
    pub failed: u32,
    /// It was done, and the answer was lost.
    pub lost: u32,
}

impl Rates {
    /// Each fault this often, in percent.
    #[must_use]
    pub const fn each_percent(percent: u32) -> Self {
        let rate = percent * 10;
        Self { conflict: rate, throttled: rate, failed: rate, lost: rate }
    }
}

/// When the process "dies": from then on no call is ever answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Death {
    /// So many calls are still answered.
    after: u32,
    /// Whether the last one is carried out although nobody hears of it.
    applied: bool,
}

/// The faults of one client; a handle, cheap to clone.
#[derive(Debug, Clone)]
pub struct Faults(Arc<State>);

#[derive(Debug)]
struct State {
    rng: Rng,
    now: Mutex<Now>,
    died: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Now {
    rates: Rates,
    death: Option<Death>,
    dead: bool,
    made: u64,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Conflict,
    Throttled,
    Failed,
    Lost,
    /// Never answered; carried out or not.
    Hangs {
        applied: bool,
    },
}

impl Faults {
    /// No faults yet.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self(Arc::new(State { rng, now: Mutex::default(), died: watch::Sender::new(false) }))
    }

    /// From now on, faults at these rates.
    pub fn set(&self, rates: Rates) {
        self.now().rates = rates;
    }

    /// The process dies at the call after the next `calls`; that one is carried out or not, but never answered.
    pub fn die_after(&self, calls: u32, applied: bool) {
        self.now().death = Some(Death { after: calls, applied });
    }

    /// Whether the process has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.now().dead
    }

    /// Waits until the process has died.
    pub async fn death(&self) {
        // The sender lives as long as this handle, so that it always gives.
        drop(self.0.died.subscribe().wait_for(|died| *died).await);
    }

    /// How many faults were made.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.now().made
    }

    /// The client with these faults on its way.
    #[must_use]
    pub fn wrap(&self, client: SharedHttpClient) -> SharedHttpClient {
        SharedHttpClient::new(Faulty { client, faults: self.clone() })
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, writes: bool) -> Fault {
        let draw = self.0.rng.below(1_000);
        let mut now = self.now();
        if now.dead {
            return Fault::Hangs { applied: false };
        }
        if let Some(death) = &mut now.death {
            if let Some(left) = death.after.checked_sub(1) {
                death.after = left;
            } else {
                let applied = death.applied;
                now.dead = true;
                self.0.died.send_replace(true);
                return Fault::Hangs { applied };
            }
        }
        let Rates { conflict, throttled, failed, lost } = now.rates;
        let mut bound = 0;
        for (rate, fault) in [
            (throttled, Fault::Throttled),
            (failed, Fault::Failed),
            (lost, Fault::Lost),
            (if writes { conflict } else { 0 }, Fault::Conflict),
        ] {
            bound += rate;
            if draw < bound {
                now.made += 1;
                return fault;
            }
        }
        Fault::None
    }
}

#[derive(Debug)]
struct Faulty<C> {
    client: C,
    faults: Faults,
}

impl HttpClient for Faulty<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let client = self.client.http_connector(settings, components);
        SharedHttpConnector::new(Faulty { client, faults: self.faults.clone() })
    }
}

impl HttpConnector for Faulty<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let (_, operation) = target.rsplit_once('.').unwrap_or_default();
        let transacts = operation == "TransactWriteItems";
        let writes = transacts || matches!(operation, "PutItem" | "UpdateItem" | "DeleteItem");
        match self.faults.next(writes) {
            Fault::None => self.client.call(request),
            Fault::Conflict if transacts => answer(400, "TransactionCanceledException", CANCELLED),
            Fault::Conflict => answer(400, "TransactionConflictException", ""),
            Fault::Throttled => answer(400, "ProvisionedThroughputExceededException", ""),
            Fault::Failed => answer(500, "InternalServerError", ""),
            Fault::Lost => {
                let call = self.client.call(request);
                HttpConnectorFuture::new(async move {
                    drop(call.await);
                    Err(ConnectorError::timeout("the answer was lost".into()))
                })
            }
            Fault::Hangs { applied } => {
                let call = applied.then(|| self.client.call(request));
                HttpConnectorFuture::new(async move {
                    if let Some(call) = call {
                        drop(call.await);
                    }
                    std::future::pending().await
                })
            }
        }
    }
}

const CANCELLED: &str =
    r#","CancellationReasons":[{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]"#;

/// An error as DynamoDB words it.
fn answer(status: u16, code: &str, more: &str) -> HttpConnectorFuture {
    let body =
        format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"made by the fault layer"{more}}}"#);
    let made = StatusCode::try_from(status).map(|status| {
        let mut response = HttpResponse::new(status, body.into());
        response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
        response
    });
    HttpConnectorFuture::ready(made.map_err(|error| ConnectorError::other(error.into(), None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_at_their_rates_and_death_is_for_ever() {
        let faults = Faults::new(Rng::seeded(1));
        assert_eq!(faults.next(true), Fault::None);
        faults.set(Rates::each_percent(5));
        let drawn: Vec<Fault> = (0..10_000).map(|_| faults.next(true)).collect();
        for fault in [Fault::Conflict, Fault::Throttled, Fault::Failed, Fault::Lost] {
            let times = drawn.iter().filter(|drawn| **drawn == fault).count();
            assert!((400..600).contains(&times), "{fault:?}: {times}");
        }
        assert!((0..1_000).all(|_| faults.next(false) != Fault::Conflict), "reads meet no conflict");
        faults.set(Rates::default());
        faults.die_after(1, true);
        assert_eq!(
            [faults.next(true), faults.next(true), faults.next(true)],
            [Fault::None, Fault::Hangs { applied: true }, Fault::Hangs { applied: false }]
        );
        assert!(faults.is_dead());
    }
}
