//! Callbacks of Kapso and Meta: verified and queued, so that they are answered within milliseconds. Whose a callback is,
//! its body says; so it must be signed with the secret of the very number that it names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::App;
use super::{Task, secret, signing_secret};
use crate::domain::agent::SecretField;
use crate::domain::whatsapp::{Line, Provider, is_number_id};
use crate::kernel::secret::constant_time_eq;
use crate::kernel::{Code, Error, Result};
use crate::ports::queue::QueueName;
use crate::ports::whatsapp::{What, is_signed, read};
use crate::store;

/// How many numbers one callback may name: an app has few.
const MAX_NUMBERS: usize = 100;

/// What a callback says beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Through whom it comes.
    pub provider: Provider,
    /// What is said to be its signature.
    pub signature: &'a str,
    /// What Kapso says that it tells.
    pub event: &'a str,
}

/// Takes a callback: how many of its messages and statuses were queued. What is about numbers of nobody here is left
/// out, and so is what this signature does not vouch for.
///
/// # Errors
/// `malformed_body`; `signature.invalid` when it names a number of ours and is not signed for it; `unavailable` when the
/// queue cannot be reached or it names too many numbers. The provider then sends all of it again.
pub async fn hear(app: &App, signed: &Signed<'_>, body: &[u8]) -> Result<usize> {
    let told = read(signed.provider, signed.event, body);
    let told = told.map_err(|error| Error::new(Code::MalformedBody).caused_by(error))?;
    let mut lines: HashMap<&str, Heard> = HashMap::new();
    for number in told.iter().map(|told| told.number.as_str()) {
        if !lines.contains_key(number) && lines.len() < MAX_NUMBERS {
            lines.insert(number, look_up(app, signed, number, body).await?);
        }
    }
    let is_any = |wanted: fn(&Heard) -> bool| lines.values().any(wanted);
    if is_any(|heard| matches!(heard, Heard::Forged)) && !is_any(|heard| matches!(heard, Heard::Ours(_))) {
        return Err(Error::new(Code::SignatureInvalid));
    }
    let tasks = told.iter().filter_map(|told| match lines.get(told.number.as_str())? {
        Heard::Ours(line) => Some(task(line, &told.what)),
        Heard::Forged | Heard::Unknown => None,
    });
    let messages = tasks.map(|task| task.after(Duration::ZERO)).collect::<Result<Vec<_>>>()?;
    let count = messages.len();
    if count < told.len() {
        tracing::info!(told = told.len(), taken = count, "parts of a callback are about numbers of nobody here");
    }
    if count > 0 {
        app.queue.send(QueueName::Turn, messages).await?;
    }
    let is_left_out = told.iter().any(|told| !lines.contains_key(told.number.as_str()));
    if is_left_out || is_any(|heard| matches!(heard, Heard::Forged)) {
        // The provider sends it again, and what was taken is known then: a number whose secret is being changed loses
        // nothing by standing beside others.
        return Err(Error::new(if is_left_out { Code::Unavailable } else { Code::SignatureInvalid }));
    }
    Ok(count)
}

/// Whose a number is, as far as this callback goes.
enum Heard {
    /// An agent's, and its secret signed the body.
    Ours(Arc<Line>),
    /// An agent's, and another secret signed the body.
    Forged,
    /// Nobody's here.
    Unknown,
}

async fn look_up(app: &App, signed: &Signed<'_>, number: &str, body: &[u8]) -> Result<Heard> {
    if !is_number_id(number) {
        return Ok(Heard::Unknown);
    }
    let mut line = store::whatsapp::line(&app.table, number).await?;
    if line.as_ref().is_some_and(|line| line.provider != signed.provider) {
        // It may have moved to the other provider since it was remembered.
        line = store::whatsapp::line_now(&app.table, number).await?.map(Arc::new);
    }
    let Some(line) = line.filter(|line| line.provider == signed.provider) else { return Ok(Heard::Unknown) };
    // Without a secret nothing can be believed.
    let Some(secret) = secret(app, &line, signing_secret(line.provider)).await? else { return Ok(Heard::Forged) };
    Ok(if is_signed(&secret, signed.signature, body) { Heard::Ours(line) } else { Heard::Forged })
}

fn task(line: &Line, what: &What) -> Task {
    let line = line.clone();
    match what.clone() {
        What::Message(message) => Task::Inbound { line, message, tries: 0 },
        What::Status(status) => Task::Status { line, status },
        What::Renamed(renamed) => Task::Renamed { line, renamed },
    }
}

/// Whether Meta, setting up the callback of a number, showed the word that its owner chose.
///
/// # Errors
/// `forbidden` for another word, and for a number of nobody here.
pub async fn check_word(app: &App, number: &str, mode: &str, word: &str) -> Result<()> {
    let refused = || Error::with_message(Code::Forbidden, "The verify token is not the one of this number's agent.");
    if mode != "subscribe" || !is_number_id(number) {
        return Err(refused());
    }
    let line = store::whatsapp::line(&app.table, number).await?.filter(|line| line.provider == Provider::Meta);
    let Some(line) = line else { return Err(refused()) };
    let known = secret(app, &line, SecretField::MetaVerify).await?.ok_or_else(refused)?;
    if constant_time_eq(known.expose().as_bytes(), word.as_bytes()) { Ok(()) } else { Err(refused()) }
}
