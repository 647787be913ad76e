//! One call to the table, tried until it has an answer. The SDK's own retries are off: only whoever tries again knows
//! that an earlier try may have been carried out although its answer was lost, and a write must know that.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::{MAX_RETRIES, Table};

/// What a failed try means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was not carried out: try again.
    Refused,
    /// It may have been carried out: try again, and expect to meet its own work.
    Unknown,
    /// This is the answer.
    Final,
}

/// What came of all tries.
pub(super) struct Attempted<T, E> {
    /// The last answer.
    pub(super) outcome: Result<T, SdkError<E, HttpResponse>>,
    /// Whether an earlier try may have been carried out.
    pub(super) may_have_happened: bool,
}

/// Faults that pass by themselves and leave nothing behind. A conflict is a running transaction that holds the item.
const REFUSALS: [&str; 6] = [
    "TransactionConflictException",
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "ReplicatedWriteConflictException",
];

fn fate<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Fate {
    match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            if REFUSALS.contains(&code) {
                Fate::Refused
            } else if service.raw().status().is_server_error() {
                Fate::Unknown
            } else {
                Fate::Final
            }
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => Fate::Unknown,
        _ => Fate::Final,
    }
}

impl Table {
    /// Sends a call until it is answered, with growing pauses.
    pub(super) async fn attempt<T, E, Fut>(&self, send: impl Fn() -> Fut) -> Attempted<T, E>
    where
        E: ProvideErrorMetadata,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut may_have_happened = false;
        for attempt in 0.. {
            // Boxed: the SDK's futures are large, and there are many of them.
            let outcome = Box::pin(send()).await;
            match outcome.as_ref().err().map_or(Fate::Final, fate) {
                Fate::Refused if attempt < MAX_RETRIES => {}
                Fate::Unknown if attempt < MAX_RETRIES => may_have_happened = true,
                Fate::Unknown => return Attempted { outcome, may_have_happened: true },
                Fate::Refused | Fate::Final => return Attempted { outcome, may_have_happened },
            }
            self.back_off(attempt).await;
        }
        unreachable!("the last attempt returns")
    }
}
