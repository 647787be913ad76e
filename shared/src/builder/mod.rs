//! The builder: an agent that builds agents by chat.
//!
//! A message begins a **run** ([`run`]): a task of its own that plans, calls [`tools`] with the rights of whoever wrote,
//! and tells of it ([`tell`]). One run holds a thread at a time. Each effect, its audit entry and the frame that tells of it
//! are one transaction, on the condition that the run still holds the thread: what was told has happened, and nothing
//! happens after the thread was lost.
//!
//! What reaches others (publishing, deleting, connecting, a change of an agent that is live) never happens in a run. The
//! call is stored as an **action** ([`action`]), and only a person's request carries it out: what was shown, once, in time.
//! A model has no way to that request, so it does not matter what it was talked into.

mod action;
mod others;
mod perform;
mod prompt;
mod run;
mod secrets;
mod tell;
mod thread;
mod tools;

use std::net::IpAddr;
use std::time::Duration;

pub use action::{Decision, decide};
pub use tell::Frames;
pub use thread::{Detail, clear, find, list, stop};

use crate::access::Caller;
use crate::app::{App, upload, verification};
use crate::domain::builder::{BuilderRole, Frame, Position, Run, Upload};
use crate::domain::text::{Checks, shorten};
use crate::domain::usage::KeySource;
use crate::domain::{BuilderMessage, BuilderThread};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, work};
use crate::ports::llm::Image;
use crate::store;
use crate::store::builder::ClientMessage;
use crate::table::{Key, Unit};

use tell::Place;

/// The longest message, in characters.
pub const MAX_MESSAGE: usize = 8_000;
/// The most images of a message.
pub const MAX_IMAGES: usize = 4;
/// The most bytes of all of them.
const MAX_IMAGES_BYTES: usize = 3 * 1024 * 1024;
/// How long a run holds its thread without a sign of life.
const LEASE: Duration = Duration::from_secs(40);
/// How long a title is, in characters.
const TITLE: usize = 80;
/// How often a message is taken again that meets another one.
const TRIES: u32 = 4;

/// An image of a message, as it was given.
#[derive(Debug, Clone)]
pub enum Picture {
    /// Itself.
    Whole(Image),
    /// By the id of an upload.
    Uploaded(Id<Upload>),
}

impl Picture {
    /// What tells it from another one. An upload's bytes never change, so its id will do, also when it has expired.
    fn mark(&self) -> String {
        match self {
            Self::Whole(image) => sha256_hex(image.bytes()),
            Self::Uploaded(id) => id.text(),
        }
    }
}

/// A message to the builder.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where to go on; a new thread begins without it.
    pub thread: Option<Id<BuilderThread>>,
    /// The text.
    pub message: String,
    /// What is shown beside it.
    pub images: Vec<Picture>,
    /// The caller's own id of the message: the same id again follows the same run.
    pub client_message_id: Option<String>,
    /// What the caller has of a run already.
    pub had: Option<Position>,
}

/// Takes a message and begins a run, or takes up again the run that the caller knows of.
///
/// # Errors
/// `validation_error`, `not_found` for an unknown thread or run, `builder.busy`, `idempotency.mismatch`, `forbidden` while the
/// account is suspended, `email.not_verified`.
pub async fn begin(app: &App, caller: &Caller, address: IpAddr, incoming: Incoming) -> Result<Frames> {
    if let Some(had) = incoming.had {
        return resume(app, caller, incoming.thread, had).await;
    }
    check(&incoming)?;
    // A caller who leaves while the message is being stored must not leave it without its run.
    let (app, caller) = (app.clone(), caller.clone());
    let task = tokio::spawn(work::carried(async move { accept(&app, &caller, address, incoming).await }));
    task.await.map_err(|error| Error::internal(format!("a message to the builder was dropped: {error}")))?
}

async fn accept(app: &App, caller: &Caller, address: IpAddr, incoming: Incoming) -> Result<Frames> {
    let account = store::billing::get(&app.table, caller.billing_account_id).await?;
    verification::ensure_may_ask(app, &account, &app.config.builder().0, KeySource::Managed)?;
    let guard = guard(caller, &incoming);
    let mut read = None;
    for tries_left in (0..TRIES).rev() {
        if let Some(frames) = repeat(app, caller, guard.as_ref(), &incoming).await? {
            return Ok(frames);
        }
        // Only now: a repeat follows its run also when what it names has expired.
        let images = match read.take() {
            Some(images) => images,
            None => images(app, caller, &incoming.images).await?,
        };
        let now = app.now();
        let known = match incoming.thread {
            Some(id) => Some(store::builder::get(&app.table, caller.workspace_id, id, now).await?),
            None => None,
        };
        if known.as_ref().is_some_and(|thread| thread.running(now).is_some()) {
            return Err(busy());
        }
        let accepted = Accepted::new(app, caller, known, &incoming);
        let error = match app.commit(accepted.unit(app, guard.clone())?).await {
            Ok(()) => return Ok(run::start(app, caller, address, accepted, images)),
            Err(refusal) => Error::from(refusal),
        };
        // The same message was first, or an id was taken by chance: look again.
        let again = matches!(error.code(), Code::ConcurrentChange | Code::IdempotencyInFlight | Code::BuilderBusy);
        if !again || tries_left == 0 {
            return Err(error);
        }
        read = Some(images);
    }
    Err(busy())
}

/// The images of a message in its order, with those that were uploaded.
async fn images(app: &App, caller: &Caller, given: &[Picture]) -> Result<Vec<Image>> {
    let (mut ids, mut room) = (Vec::new(), MAX_IMAGES_BYTES);
    for picture in given {
        match picture {
            Picture::Whole(image) => room = room.saturating_sub(image.bytes().len()),
            Picture::Uploaded(id) => ids.push(*id),
        }
    }
    let mut uploads = upload::read(app, caller.workspace_id, &ids, room).await?.into_iter();
    let image = |picture: &Picture| match picture {
        Picture::Whole(image) => Some(image.clone()),
        Picture::Uploaded(_) => uploads.next(),
    };
    Ok(given.iter().filter_map(image).collect())
}

fn busy() -> Error {
    Error::new(Code::BuilderBusy).retry_after(2)
}

fn check(incoming: &Incoming) -> Result<()> {
    let mut checks = Checks::new();
    checks.required("message", &incoming.message, MAX_MESSAGE);
    checks.ensure(incoming.images.len() <= MAX_IMAGES, "images", "too_many", "images may hold 4 images");
    if let Some(id) = &incoming.client_message_id {
        let fits = (16..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        let message = "client_message_id must be 16 to 128 visible ASCII characters, such as a UUID";
        checks.ensure(fits, "client_message_id", "invalid", message);
    }
    checks.finish()
}

/// Takes up a run of a thread behind what the caller has.
async fn resume(app: &App, caller: &Caller, thread: Option<Id<BuilderThread>>, had: Position) -> Result<Frames> {
    let missing = || Error::field("thread_id", "required", "thread_id is required beside Last-Event-ID");
    let place = Place { workspace: caller.workspace_id, thread: thread.ok_or_else(missing)?, run: had.run };
    let head = store::builder::get(&app.table, place.workspace, place.thread, app.now()).await?;
    let from_start = Position { run: had.run, number: 0 };
    let is_known = head.run.is_some_and(|run| run.id == had.run)
        || !store::builder::frames_after(&app.table, place.workspace, place.thread, from_start, 1).await?.is_empty();
    if !is_known {
        return Err(Error::not_found());
    }
    // Every frame is stored before it is sent, so nobody has one that is not.
    let before = Position { run: had.run, number: had.number.saturating_sub(1) };
    let last = store::builder::frames_after(&app.table, place.workspace, place.thread, before, 1).await?;
    if had.number > 0 && last.first().is_none_or(|(number, _)| *number != had.number) {
        let message = "Last-Event-ID names a frame that was never sent";
        return Err(Error::field("Last-Event-ID", "invalid", message));
    }
    Ok(Frames::stored(app, place, had.number))
}

/// Where a client's message id is kept, and what it stands for.
fn guard(caller: &Caller, incoming: &Incoming) -> Option<(Key, String)> {
    let id = incoming.client_message_id.as_deref()?;
    let key = store::builder::client_id(caller.workspace_id, caller.user_id, id);
    Some((key, body_hash(incoming, incoming.thread)))
}

/// What tells a message from another one: where it goes, its images, and its text.
fn body_hash(incoming: &Incoming, thread: Option<Id<BuilderThread>>) -> String {
    let thread = thread.map(Id::key).unwrap_or_default();
    let images: String = incoming.images.iter().map(|image| format!(" {}", image.mark())).collect();
    sha256_hex(format!("{thread}\n{}{images}\n{}", incoming.images.len(), incoming.message))
}

/// The run of a message that was sent before.
async fn repeat(
    app: &App,
    caller: &Caller,
    guard: Option<&(Key, String)>,
    incoming: &Incoming,
) -> Result<Option<Frames>> {
    let Some((key, hash)) = guard else { return Ok(None) };
    let Some(known) = store::builder::client_message(&app.table, key, app.now()).await? else { return Ok(None) };
    // Whoever sends a first message again may name the thread that it began.
    let is_same = known.body_hash == *hash
        || (incoming.thread == Some(known.thread_id) && known.body_hash == body_hash(incoming, None));
    if !is_same {
        return Err(Error::new(Code::IdempotencyMismatch));
    }
    let place = Place { workspace: caller.workspace_id, thread: known.thread_id, run: known.run_id };
    // A thread that was deleted tells nothing any more.
    store::builder::get(&app.table, place.workspace, place.thread, app.now()).await?;
    Ok(Some(Frames::stored(app, place, 0)))
}

/// A message that is taken, and the run that will answer it.
struct Accepted {
    thread: BuilderThread,
    is_new: bool,
    message: BuilderMessage,
    run: Run,
    first: Frame,
}

impl Accepted {
    fn new(app: &App, caller: &Caller, known: Option<BuilderThread>, incoming: &Incoming) -> Self {
        let (now, is_new) = (app.now(), known.is_none());
        let run = Run { id: app.ids().uuid_of(caller.workspace_id), until: (now + LEASE).millis() };
        let title = shorten(incoming.message.trim().lines().next().unwrap_or_default(), TITLE);
        let mut thread = known.unwrap_or_else(|| BuilderThread {
            id: app.ids().id(),
            workspace_id: caller.workspace_id,
            user_id: caller.user_id,
            title,
            agent_id: None,
            plan: Vec::new(),
            run: None,
            stop: None,
            deleting: false,
            created_at: now,
            updated_at: now,
        });
        (thread.run, thread.stop, thread.updated_at) = (Some(run), None, now);
        let message = BuilderMessage {
            id: app.ids().id(),
            role: BuilderRole::User,
            content: incoming.message.trim().to_owned(),
            images: u32::try_from(incoming.images.len()).unwrap_or(u32::MAX),
            tools: Vec::new(),
            run_id: Some(run.id),
            created_at: now,
        };
        let (provider, model) = app.config.builder();
        let offline = provider == "offline";
        let first = Frame::Thread { thread_id: thread.id, run_id: run.id, message_id: message.id, model, offline };
        Self { thread, is_new, message, run, first }
    }

    fn place(&self) -> Place {
        Place { workspace: self.thread.workspace_id, thread: self.thread.id, run: self.run.id }
    }

    /// The message, the lease and the first frame.
    fn unit(&self, app: &App, guard: Option<(Key, String)>) -> Result<Unit> {
        let (mut unit, now) = (Unit::new(), app.now());
        let Place { workspace, thread, run } = self.place();
        if let Some((key, body_hash)) = guard {
            let record = ClientMessage { thread_id: thread, run_id: run, body_hash, at: now };
            store::builder::take_client_id(&mut unit, key, &record)?;
        }
        if self.is_new {
            store::builder::create(&mut unit, &self.thread)?;
        } else {
            let update = store::builder::taken(store::builder::update(workspace, thread), thread, self.run, now);
            unit.update(update, store::builder::is_free(now), busy());
        }
        store::builder::add_message(&mut unit, workspace, thread, &self.message)?;
        store::builder::add_frame(&mut unit, (workspace, thread), Position { run, number: 1 }, &self.first, now)?;
        Ok(unit)
    }
}
