//! `/api/admin/dead-letters`: what workers gave up, for the operator of the installation.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, dead_letter};
use shared::http::{Call, Done, Json, NoContent, Path, Query};
use shared::kernel::{Error, Result, Time};
use shared::ports::queue::{DeadLetter, Death, QueueName};

use crate::wire::ListOut;

shared::ops! {
    /// List messages that were given up, each with its reason.
    ///
    /// The oldest first where the queue knows: on AWS it is a sample of a larger number.
    GET "/api/admin/dead-letters" => list_dead_letters, [User] Superadmin "" Staff Any Known Unaudited Safe;
    /// Send messages that were given up again: one, or up to 100 of a queue.
    ///
    /// Do it when their cause is gone, until it says 0. Work that was done already is not done twice. One letter is looked
    /// for among up to 1,000; 404 says that the queue did not show it among them.
    POST "/api/admin/dead-letters/replay" => replay_dead_letters, [User] Superadmin "" Staff Any Known Audited Own also [404];
    /// Throw a message away that was given up.
    ///
    /// It is looked for among up to 1,000; 404 says that the queue did not show it among them.
    DELETE "/api/admin/dead-letters/{queue}/{id}" => discard_dead_letter, [User] Superadmin "" Staff Any Known Audited Own;
}

/// Whose dead letters.
#[derive(Debug, Deserialize, JsonSchema)]
struct QueueQuery {
    /// `deliver`, `deliver-slow`, `usage-report` or `turn`; all of them when absent.
    #[serde(default)]
    queue: Option<String>,
    /// 1 to 200 of each queue; 50 when absent.
    #[serde(default)]
    limit: Option<usize>,
}

/// A message that was given up.
#[derive(Debug, Serialize, JsonSchema)]
struct DeadLetterOut {
    id: String,
    queue: &'static str,
    /// The message, as it was sent, but only its first 2,000 characters.
    body: String,
    /// Whether there is more of it.
    truncated: bool,
    /// Why its last try failed.
    reason: String,
    /// How often it was tried.
    tries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    died_at: Option<Time>,
}

/// The most characters of a message in a list: what a function may answer is limited.
const MAX_BODY: usize = 2_000;

impl From<(QueueName, DeadLetter)> for DeadLetterOut {
    fn from((queue, letter): (QueueName, DeadLetter)) -> Self {
        let DeadLetter { id, body, death: Death { reason, tries, sent_at, died_at } } = letter;
        let whole = body.len();
        let body: String = body.chars().take(MAX_BODY).collect();
        let truncated = body.len() < whole;
        Self { id, queue: queue.as_str(), body, truncated, reason, tries, sent_at, died_at }
    }
}

/// Which to send again.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReplayIn {
    /// `deliver`, `deliver-slow`, `usage-report` or `turn`.
    queue: String,
    /// Only this one; up to 100 when absent.
    #[serde(default)]
    id: Option<String>,
}

/// What was sent again.
#[derive(Debug, Serialize, JsonSchema)]
struct ReplayOut {
    replayed: usize,
}

fn named(queue: &str) -> Result<QueueName> {
    let known = || QueueName::ALL.iter().map(|queue| queue.as_str()).collect::<Vec<_>>().join(" or ");
    QueueName::find(queue).ok_or_else(|| Error::field("queue", "invalid", format!("queue must be {}", known())))
}

async fn list_dead_letters(
    State(app): State<App>,
    _: Call,
    Query(query): Query<QueueQuery>,
) -> Result<Json<ListOut<DeadLetterOut>>> {
    let queue = query.queue.as_deref().map(named).transpose()?;
    let letters = dead_letter::list(&app, queue, query.limit).await?;
    Ok(Json(ListOut::whole(letters.into_iter().map(DeadLetterOut::from).collect())))
}

async fn replay_dead_letters(
    State(app): State<App>,
    call: Call,
    Json(body): Json<ReplayIn>,
) -> Result<Done<ReplayOut>> {
    let queue = named(&body.queue)?;
    let command = || dead_letter::replay(&app, queue, body.id.as_deref());
    call.run(&app, command, |replayed| ReplayOut { replayed }).await
}

async fn discard_dead_letter(
    State(app): State<App>,
    call: Call,
    Path((queue, id)): Path<(String, String)>,
) -> Result<NoContent> {
    let queue = QueueName::find(&queue).ok_or_else(Error::not_found)?;
    call.run(&app, || dead_letter::discard(&app, queue, &id), |()| ()).await
}
