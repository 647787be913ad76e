//! What a handler knows of its request, and how it carries out a command.

use std::fmt::Display;
use std::future::Future;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::Deref;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;

use super::respond::Reply;
use crate::access::{Audit, Caller, Op};
use crate::app::{App, Draft};
use crate::domain::audit::AuditEntry;
use crate::kernel::{Code, Error, Result};
use crate::store;
use crate::store::idempotency::Answer;
use crate::table::{Key, Unit};

/// How often a command is run again because somebody else wrote at the same time, or an id was taken by chance.
const TRIES: u32 = 4;
/// The largest answer that is kept for a repeat.
const MAX_KEPT: usize = 256 * 1024;

/// What the gate found out about a request.
#[derive(Debug, Clone)]
pub struct Context {
    /// The row.
    pub op: &'static Op,
    /// Who calls, unless the row is public.
    pub caller: Option<Caller>,
    /// Where the call comes from.
    pub address: IpAddr,
    /// What the call is about.
    pub path: String,
    /// The id of the request, as logs have it.
    pub request_id: String,
    /// What an `Idempotency-Key` asks for.
    pub idempotent: Option<Idempotent>,
}

/// A command that may have been given before.
#[derive(Debug, Clone)]
pub struct Idempotent {
    /// Where its answer is kept.
    pub key: Key,
    /// What it asks for.
    pub request_hash: String,
}

/// An authenticated call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    context: Context,
}

/// A call of anybody.
#[derive(Debug, Clone)]
pub struct Visit(Context);

impl Deref for Call {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Deref for Visit {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.0
    }
}

impl Call {
    /// From now on the call is about this, where its path's parameter `name` was given in another way: what is written
    /// down of it names the id, and keeps nothing that opens something.
    pub fn names(&mut self, name: &str, id: impl Display) {
        let given = self.context.op.path.split('/').zip(self.context.path.split('/'));
        let is_it = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) == Some(name);
        let parts = given.map(|(part, given)| if is_it(part) { id.to_string() } else { given.to_owned() });
        self.context.path = parts.collect::<Vec<_>>().join("/");
    }
}

fn context(parts: &Parts) -> Result<Context> {
    parts.extensions.get::<Context>().cloned().ok_or_else(|| Error::internal("a route without a gate"))
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let context = context(parts)?;
        let caller = context.caller.clone().ok_or_else(|| Error::internal("a public row asks for a caller"))?;
        Ok(Self { caller, context })
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        context(parts).map(Self)
    }
}

impl Context {
    /// Runs a command and carries it out together with its audit entry and its idempotency record; `wire` makes the
    /// answer of what was made. A repeat of the same `Idempotency-Key`, also one at the same time, gets the first answer.
    ///
    /// # Errors
    /// What the command says, or `concurrent_change` when others keep writing at the same time.
    pub async fn run<T, W, F, Fut, const STATUS: u16>(
        &self,
        app: &App,
        command: F,
        wire: impl Fn(T) -> W,
    ) -> Result<Reply<W, STATUS>>
    where
        W: Serialize,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Draft<T>>>,
    {
        self.run_with_status(app, command, |_| STATUS, wire).await
    }

    /// As [`Self::run`], with a status that depends on what was made: 200 instead of 201 for what was there already.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_with_status<T, W, F, Fut, const STATUS: u16>(
        &self,
        app: &App,
        command: F,
        status: impl Fn(&T) -> u16,
        wire: impl Fn(T) -> W,
    ) -> Result<Reply<W, STATUS>>
    where
        W: Serialize,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Draft<T>>>,
    {
        for tries_left in (0..TRIES).rev() {
            let Draft { mut unit, value, then } = match command().await {
                Ok(draft) => draft,
                Err(error) => {
                    // What the command misses or meets may be the work of the same request, which was first.
                    if let Some(idempotent) = &self.idempotent
                        && let Some(answer) = replay(app, idempotent).await?
                    {
                        return Ok(answer);
                    }
                    if error.code() == Code::ConcurrentChange && tries_left > 0 {
                        continue;
                    }
                    return Err(error);
                }
            };
            let status = status(&value);
            let body =
                if status == 204 { Vec::new() } else { serde_json::to_vec(&wire(value)).map_err(Error::internal)? };
            self.add_audit(app, &mut unit)?;
            self.add_answer(app, &mut unit, status, &body).await?;
            let Err(refusal) = app.commit(unit).await else {
                app.send_after(then).await;
                return Ok(Reply { status, body, replayed: false, wire: PhantomData });
            };
            if let Some(idempotent) =
                self.idempotent.as_ref().filter(|idempotent| refusal.on(&idempotent.key).is_some())
                && let Some(answer) = replay(app, idempotent).await?
            {
                return Ok(answer);
            }
            let error = Error::from(refusal);
            if error.code() != Code::ConcurrentChange || tries_left == 0 {
                return Err(error);
            }
        }
        Err(Error::new(Code::ConcurrentChange))
    }

    fn add_audit(&self, app: &App, unit: &mut Unit) -> Result<()> {
        let Some(caller) = &self.caller else { return Ok(()) };
        // Whatever staff change for somebody is written down.
        if self.op.audit == Audit::Unaudited && caller.impersonator.is_none() {
            return Ok(());
        }
        let entry = AuditEntry {
            id: app.ids().uuid(),
            workspace_id: caller.workspace_id,
            actor: caller.actor(),
            impersonator: caller.impersonator,
            reason: None,
            action: self.op.id.into(),
            target: self.path.clone(),
            ip: Some(self.address.to_string()),
            at: app.now(),
        };
        store::audit::create(unit, &entry)
    }

    async fn add_answer(&self, app: &App, unit: &mut Unit, status: u16, body: &[u8]) -> Result<()> {
        let Some(idempotent) = &self.idempotent else { return Ok(()) };
        if body.len() > MAX_KEPT {
            return Ok(());
        }
        let place = place(&idempotent.key);
        let body = if body.is_empty() { None } else { Some(app.keys().await?.seal.seal(&app.rng, &place, body)?) };
        let answer = Answer { request_hash: idempotent.request_hash.clone(), status, body, at: app.now() };
        store::idempotency::create(unit, idempotent.key.clone(), &answer)
    }
}

fn place(key: &Key) -> String {
    format!("{}/answer", key.pk)
}

/// The stored answer to a command that was given before.
///
/// # Errors
/// `idempotency.mismatch` when the same key asked for something else.
pub(super) async fn replay<W, const STATUS: u16>(
    app: &App,
    idempotent: &Idempotent,
) -> Result<Option<Reply<W, STATUS>>> {
    let Some(answer) = store::idempotency::get(&app.table, &idempotent.key, app.now()).await? else { return Ok(None) };
    if answer.request_hash != idempotent.request_hash {
        return Err(Error::new(Code::IdempotencyMismatch));
    }
    let body = match &answer.body {
        Some(sealed) => app.keys().await?.seal.open(&place(&idempotent.key), sealed)?,
        None => Vec::new(),
    };
    Ok(Some(Reply { status: answer.status, body, replayed: true, wire: PhantomData }))
}
