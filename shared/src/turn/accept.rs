//! Storing the visitor's message, and taking the conversation's lease when it is free.

use super::allowance::{self, Charge};
use super::load::Scene;
use super::transcript::Transcript;
use super::wait::Waiting;
use super::{Incoming, Pace};
use crate::app::App;
use crate::app::conversation::{self, silence_timer};
use crate::domain::conversation::{Channel, ConversationStatus, Turn};
use crate::domain::message::{Author, Message};
use crate::domain::{Conversation, Workspace};
use crate::events::emit;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::store;
use crate::store::conversation::{ClientMessage, turn_is, turn_is_free};
use crate::table::{Cond, Key, Refusal, Unit, Update, decode};

/// How long a lease lasts beyond the budget of its turn.
const MARGIN: std::time::Duration = std::time::Duration::from_secs(6);
/// How often a message is stored anew when its id, or the state that it met, was taken by somebody else.
const TRIES: u32 = 5;

/// What came of storing a message.
pub(super) enum Accepted {
    /// The turn is ours.
    Turn(Box<OwnTurn>),
    /// A person has taken over, another turn holds the conversation, or the message was here before: see what comes.
    Waiting(Waiting),
}

/// A turn that holds its conversation.
pub(super) struct OwnTurn {
    pub(super) head: Conversation,
    pub(super) lease: Turn,
    pub(super) charge: Charge,
    pub(super) transcript: Transcript,
    pub(super) pace: Pace,
    /// The last message that needs no answer any more, once the visitor has stopped the turn.
    pub(super) stopped: Option<Id<Message>>,
}

impl OwnTurn {
    /// The message that the turn was begun for.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let message = self.transcript.pending.last()?;
        Some(Waiting { conversation_id: self.head.id, message_id: message.id })
    }
}

/// A new lease.
pub(super) fn lease(app: &App, workspace: Id<Workspace>, pace: Pace) -> Turn {
    let until = (app.now() + pace.budget + MARGIN).millis();
    Turn { id: app.ids().uuid_of(workspace), until }
}

pub(super) async fn accept(app: &App, scene: &Scene, incoming: &Incoming, pace: Pace) -> Result<Accepted> {
    for _ in 0..TRIES {
        match attempt(app, scene, incoming, pace).await {
            // An id was taken by chance: draw another.
            Err(error) if error.code() == Code::ConcurrentChange => {}
            outcome => return outcome,
        }
    }
    Err(Error::new(Code::ConversationBusy).retry_after(1))
}

async fn attempt(app: &App, scene: &Scene, incoming: &Incoming, pace: Pace) -> Result<Accepted> {
    match &scene.thread {
        None => begin(app, scene, incoming, pace).await,
        Some(thread) if is_held(&thread.head, app.now()) => {
            let head = store::conversation::head(&app.table, thread.head.workspace_id, thread.head.id).await?;
            store_only(app, scene, &head, incoming).await
        }
        Some(thread) => go_on(app, scene, &thread.head, &thread.messages, incoming, pace).await,
    }
}

/// Whether somebody else answers here: a person, or another turn.
fn is_held(head: &Conversation, now: Time) -> bool {
    let by_person = head.ai_paused && head.status == ConversationStatus::Open;
    by_person || head.is_busy(now)
}

/// The guard of the client's own message id: in a running conversation it is unique there, for a first message among
/// the agent's visitors, which is why short ids are refused.
fn guard(scene: &Scene, conversation: Option<Id<Conversation>>, incoming: &Incoming) -> Option<Key> {
    let id = incoming.client_message_id.as_ref()?;
    let scope = match conversation {
        Some(conversation) => conversation.text(),
        None => format!("visitor {}", incoming.visitor_id.as_deref().unwrap_or_default()),
    };
    Some(store::keys::client_message(scene.snapshot.workspace_id, scene.snapshot.agent_id, &scope, id))
}

/// The writes of every accepted message: the message, its client id, its event.
fn add_message(
    app: &App,
    scene: &Scene,
    unit: &mut Unit,
    head: &Conversation,
    message: &Message,
    guard: Option<Key>,
) -> Result<()> {
    store::conversation::add_message(unit, scene.snapshot.workspace_id, message)?;
    if let Some(key) = guard {
        store::conversation::take_client_id(unit, key, &client_message(app, message))?;
    }
    emit(unit, &app.events().message_inbound(head, message.id))
}

fn client_message(app: &App, message: &Message) -> ClientMessage {
    ClientMessage {
        conversation_id: message.conversation_id,
        message_id: message.id,
        body_hash: sha256_hex(&message.content),
        at: app.now(),
    }
}

fn visitor_message(
    app: &App,
    conversation: Id<Conversation>,
    incoming: &Incoming,
    after: Option<Id<Message>>,
) -> Message {
    Message {
        id: after.map_or_else(|| app.ids().id(), |after| app.ids().id_after(after)),
        conversation_id: conversation,
        author: Author::Visitor,
        content: incoming.content.trim().to_owned(),
        client_message_id: incoming.client_message_id.clone(),
        reply: None,
        author_user_id: None,
        delivery: None,
        file: None,
        created_at: app.now(),
    }
}

/// A first message: the conversation is made with its lease taken.
async fn begin(app: &App, scene: &Scene, incoming: &Incoming, pace: Pace) -> Result<Accepted> {
    let now = app.now();
    let id = app.ids().id();
    let message = visitor_message(app, id, incoming, None);
    let lease = lease(app, scene.snapshot.workspace_id, pace);
    let charge = allowance::take(app, scene, &lease, id);
    let (place, name) = ((scene.snapshot.workspace_id, scene.snapshot.agent_id), scene.snapshot.name.clone());
    let head = Conversation {
        visitor_id: incoming.visitor_id.clone(),
        contact_id: scene.known.as_ref().map(|known| known.contact_id),
        identity: scene.known.as_ref().map(|known| known.identity.clone()),
        turn: Some(lease.clone()),
        ..Conversation::begun(id, place, name, Channel::Webchat, &message.content, now)
    };
    let guard = guard(scene, None, incoming);
    let mut unit = Unit::new();
    store::conversation::create(&mut unit, &head)?;
    store::timer::set(&mut unit, &silence_timer(&head, now))?;
    emit(&mut unit, &app.events().conversation_created(&head))?;
    add_message(app, scene, &mut unit, &head, &message, guard.clone())?;
    // Sent again by a page that knows the conversation by now, it is known there too.
    if let Some(here) = self::guard(scene, Some(id), incoming) {
        store::conversation::take_client_id(&mut unit, here, &client_message(app, &message))?;
    }
    let (stored, charge) = tokio::join!(app.commit(unit), charge);
    let transcript = Transcript::begin(&incoming.history, message);
    match stored {
        Ok(()) => own(app, scene, head, lease, charge, transcript, pace).await,
        Err(refusal) => {
            unused(app, scene, &refusal, &charge).await;
            known(guard, refusal, &incoming.content)
        }
    }
}

/// A further message of a conversation that seems free. The condition names the state that was loaded: if anything
/// happened since, the message is only stored and what to do is decided afresh.
async fn go_on(
    app: &App,
    scene: &Scene,
    head: &Conversation,
    messages: &[Message],
    incoming: &Incoming,
    pace: Pace,
) -> Result<Accepted> {
    let now = app.now();
    let message = visitor_message(app, head.id, incoming, messages.last().map(|last| last.id));
    let lease = lease(app, head.workspace_id, pace);
    let charge = allowance::take(app, scene, &lease, head.id);
    let guard = guard(scene, Some(head.id), incoming);
    let mut unit = Unit::new();
    add_message(app, scene, &mut unit, head, &message, guard.clone())?;
    let update = touched(scene, &mut unit, head, &message, now)?.set("turn", &lease);
    let unchanged = Cond::eq("message_count", head.message_count).and(Cond::eq("status", head.status));
    let head_key = store::keys::conversation(head.workspace_id, head.id);
    store::conversation::update_head(&mut unit, update, turn_is_free(now).and(unchanged));
    let (stored, charge) = tokio::join!(app.commit(unit), charge);
    match stored {
        Ok(()) => {
            let mut head = head.clone();
            head.inbound_count += 1;
            head.message_count += 1;
            let transcript = Transcript::new(head.settled_until, messages.iter().cloned().chain([message]));
            own(app, scene, head, lease, charge, transcript, pace).await
        }
        Err(refusal) => {
            unused(app, scene, &refusal, &charge).await;
            let met = refusal.on(&head_key).and_then(|failed| failed.found.clone());
            match met.filter(|_| guard.as_ref().is_none_or(|guard| refusal.on(guard).is_none())) {
                Some(met) => store_only(app, scene, &decode(met)?, incoming).await,
                None => known(guard, refusal, &incoming.content),
            }
        }
    }
}

/// The head update of a visitor's message, with who they are if that is new.
fn touched(scene: &Scene, unit: &mut Unit, head: &Conversation, message: &Message, now: Time) -> Result<Update> {
    let update = conversation::touched_by_visitor(unit, head, &message.content, now)?;
    Ok(match &scene.known {
        Some(known) => update.set("contact_id", known.contact_id).set("identity", &known.identity),
        None => update,
    })
}

/// Holds the conversation, if the allowance was given; else lets it go again.
async fn own(
    app: &App,
    scene: &Scene,
    head: Conversation,
    lease: Turn,
    charge: Result<Charge>,
    transcript: Transcript,
    pace: Pace,
) -> Result<Accepted> {
    match charge {
        Ok(charge) => Ok(Accepted::Turn(Box::new(OwnTurn { head, lease, charge, transcript, pace, stopped: None }))),
        Err(error) => {
            release(app, scene, head.id, &lease, None).await;
            Err(error)
        }
    }
}

/// Gives back what was taken beside a message that was not stored. When nobody knows whether it was, the clock will.
async fn unused(app: &App, scene: &Scene, refusal: &Refusal, charge: &Result<Charge>) {
    if let (Refusal::Conditions(_), Ok(charge)) = (refusal, charge) {
        allowance::give_back(app, scene, charge).await;
    }
}

/// Ends a lease without a reply, and notes up to which message none is to come if it was stopped. Says whether it was still ours. A failure is logged only: the lease runs out by
/// itself.
pub(super) async fn release(
    app: &App,
    scene: &Scene,
    conversation: Id<Conversation>,
    lease: &Turn,
    settled_until: Option<Id<Message>>,
) -> bool {
    let mut update = Update::new(store::keys::conversation(scene.snapshot.workspace_id, conversation)).remove("turn");
    if let Some(until) = settled_until {
        update = update.set("settled_until", until);
    }
    let released = app.table.update(update, Some(turn_is(lease.id)), Error::new(Code::Conflict)).await;
    if let Err(Refusal::Error(error)) = &released {
        tracing::warn!(conversation = %conversation.text(), %error, "a lease was left to run out");
    }
    released.is_ok()
}

/// Stores a message without asking the model: a person answers, or another turn does.
async fn store_only(app: &App, scene: &Scene, head: &Conversation, incoming: &Incoming) -> Result<Accepted> {
    let now = app.now();
    let message = visitor_message(app, head.id, incoming, None);
    let guard = guard(scene, Some(head.id), incoming);
    let mut unit = Unit::new();
    add_message(app, scene, &mut unit, head, &message, guard.clone())?;
    let update = touched(scene, &mut unit, head, &message, now)?;
    // What the update does depends on these two; if they changed, it is decided anew.
    let unchanged = Cond::eq("status", head.status).and(Cond::eq("ai_paused", head.ai_paused));
    unit.update(update, unchanged, Error::new(Code::ConcurrentChange));
    match app.commit(unit).await {
        Ok(()) => Ok(Accepted::Waiting(Waiting { conversation_id: head.id, message_id: message.id })),
        Err(refusal) => known(guard, refusal, &incoming.content),
    }
}

/// A refused unit whose client id is known: that message's outcome is this one's.
fn known(guard: Option<Key>, refusal: Refusal, content: &str) -> Result<Accepted> {
    let found = guard.and_then(|guard| refusal.on(&guard).and_then(|failed| failed.found.clone()));
    let Some(found) = found else { return Err(refusal.into()) };
    let record: ClientMessage = decode(found)?;
    if record.body_hash != sha256_hex(content.trim()) {
        return Err(Error::new(Code::IdempotencyMismatch));
    }
    Ok(Accepted::Waiting(Waiting { conversation_id: record.conversation_id, message_id: record.message_id }))
}
