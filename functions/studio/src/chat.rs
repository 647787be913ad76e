//! `/api/public/agents`: what a visitor's browser calls. No credential; a running conversation is named by its handle.

use std::time::Duration;

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, agent, conversation, lead};
use shared::domain::agent::Snapshot;
use shared::domain::identity::Claim;
use shared::domain::lead::{Details, LeadSource};
use shared::domain::usage::KeySource;
use shared::domain::{Lead, Message};
use shared::http::{Created, IdempotencyKey, Json, Path, Query, Visit};
use shared::kernel::{Id, Int, Limit, Result, Text, Time};
use shared::turn::{self, Incoming, Outcome, Reported};

use crate::wire::role_and_author;

shared::ops! {
    /// What a chat page needs to know of an agent.
    GET "/api/public/agents/{slug}" => find_public_agent, [] Anyone "" PublicRead Any Known Unaudited Safe;
    /// Send a message and get the reply.
    ///
    /// The reply is stored before it is answered. Give `conversation_id` of the first answer to go on. The same
    /// `client_message_id` (or `Idempotency-Key`) gets the stored outcome, whatever happened meanwhile. 402: the owner's
    /// allowance is used up. 403: the identity is not signed as it should be. 409: the agent is still answering an earlier
    /// message; the new one is stored. Or the conversation belongs to another user than the identity says; nothing is.
    POST "/api/public/agents/{slug}/chat" => chat, [] Anyone "" PublicChat Any Known Unaudited Own also [402 403 409];
    /// Stop the reply that is being written.
    ///
    /// What was written by then is the reply; nothing is when there is nothing yet. It takes about a second.
    POST "/api/public/agents/{slug}/conversations/{handle}/stop" => stop_chat, [] Anyone "" PublicForm Any Known Unaudited Own;
    /// Leave contact details.
    POST "/api/public/agents/{slug}/leads" => create_public_lead, [] Anyone "" PublicForm Any Known Unaudited Keyed;
    /// A visitor's own conversation, oldest first.
    ///
    /// Poll it with `after` to get the answers of people; with `wait` it is answered when there is one, while a person has
    /// taken over.
    GET "/api/public/agents/{slug}/conversations/{handle}/messages" => list_public_messages, [] Anyone "" PublicRead Any Known Unaudited Safe;
}

/// An agent, as anybody may see it.
#[derive(Debug, Serialize, JsonSchema)]
struct PublicAgentOut {
    name: String,
    description: Option<String>,
    /// What it says first.
    greeting: Option<String>,
    avatar: Option<String>,
    /// `#rrggbb`.
    accent: Option<String>,
    suggested_questions: Vec<String>,
    show_powered_by: bool,
    /// Whether it captures leads.
    lead_form: bool,
    /// Whether it answers without a model, from its own instructions only.
    offline: bool,
}

async fn find_public_agent(State(app): State<App>, _: Visit, Path(slug): Path<String>) -> Result<Json<PublicAgentOut>> {
    let snapshot = agent::public(&app, &slug).await?;
    let (provider, _) = app.config.model(snapshot.provider.as_deref(), None);
    let Snapshot { name, description, greeting_message, widget, .. } = snapshot.as_ref().clone();
    Ok(Json(PublicAgentOut {
        name,
        description,
        greeting: greeting_message,
        avatar: widget.avatar,
        accent: widget.accent,
        suggested_questions: widget.suggested_questions,
        show_powered_by: !widget.hide_powered_by,
        lead_form: snapshot.tools.iter().any(|tool| tool.tool == shared::domain::tool::Builtin::CaptureLead),
        offline: provider == "offline",
    }))
}

/// A visitor's message.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct ChatIn {
    /// 1 to 8,000 characters.
    message: String,
    /// Earlier messages as the page has them; used for a new conversation only, at most 20, and never stored.
    #[serde(default)]
    history: Vec<HistoryIn>,
    /// The handle that the first answer gave.
    #[serde(default)]
    conversation_id: Option<String>,
    /// What the page calls its visitor; a label, up to 128 characters.
    #[serde(default)]
    visitor_id: Option<String>,
    /// The page's own id of this message, such as a UUID: 16 to 128 characters.
    #[serde(default)]
    client_message_id: Option<String>,
    /// Who the visitor is, when your site knows and signs it.
    #[serde(default)]
    identity: Option<IdentityIn>,
}

/// Who a visitor is. Only `user_id` is signed; the rest is shown, and never used to tell who somebody is.
#[derive(Debug, Deserialize, JsonSchema)]
struct IdentityIn {
    /// What your site calls them: 1 to 128 characters.
    user_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    phone: Option<String>,
    /// The lower-case hex HMAC-SHA256 of `user_id` under the agent's identity secret, made on your server.
    #[serde(default)]
    signature: String,
}

impl IdentityIn {
    fn read(self) -> Result<Claim> {
        let Self { user_id, name, email, phone, signature } = self;
        Claim::new(&user_id, name.as_deref(), email.as_deref(), phone.as_deref(), signature)
    }
}

/// An earlier message.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct HistoryIn {
    /// `user` or `assistant`.
    role: HistoryRole,
    content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum HistoryRole {
    User,
    Assistant,
}

impl From<HistoryIn> for Reported {
    fn from(entry: HistoryIn) -> Self {
        Self { by_agent: entry.role == HistoryRole::Assistant, content: entry.content }
    }
}

impl ChatIn {
    /// The message for the agent of that slug; `key` is its id unless the body has one.
    pub(crate) fn read(self, slug: String, key: Option<String>) -> Result<Incoming> {
        Ok(Incoming {
            slug,
            handle: self.conversation_id.filter(|handle| !handle.is_empty()),
            visitor_id: self.visitor_id,
            content: self.message,
            client_message_id: self.client_message_id.or(key),
            history: self.history.into_iter().map(Reported::from).collect(),
            identity: self.identity.map(IdentityIn::read).transpose()?,
        })
    }
}

/// A reply.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatOut {
    /// Empty when a person has taken over.
    reply: String,
    /// The handle of the conversation: keep it secret, give it with the next message.
    conversation_id: String,
    /// The reply's message; null when there is none.
    message_id: Option<Text<Message>>,
    key_source: KeySource,
    /// Trial messages that the owner has left, over all agents; null on plans without a trial.
    free_messages_remaining: Option<u64>,
    /// True when a person has taken over: the message was stored and a person answers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    human_takeover: bool,
    /// True when the visitor stopped it: the reply is what had been written by then, or empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stopped: bool,
}

impl From<Outcome> for ChatOut {
    fn from(outcome: Outcome) -> Self {
        let human_takeover = outcome.reply.is_none() && !outcome.stopped;
        let message_id = outcome.reply.as_ref().map(|answer| answer.message_id.into());
        Self {
            reply: outcome.reply.map(|answer| answer.content).unwrap_or_default(),
            conversation_id: outcome.handle,
            message_id,
            key_source: outcome.key_source,
            free_messages_remaining: outcome.free_messages_remaining,
            human_takeover,
            stopped: outcome.stopped,
        }
    }
}

async fn chat(
    State(app): State<App>,
    _: Visit,
    Path(slug): Path<String>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<ChatIn>,
) -> Result<Json<ChatOut>> {
    Ok(Json(turn::answer(&app, body.read(slug, key)?).await?.into()))
}

/// What became of a wish to stop.
#[derive(Debug, Serialize, JsonSchema)]
struct StopOut {
    /// Whether a reply was being written.
    stopping: bool,
}

async fn stop_chat(
    State(app): State<App>,
    _: Visit,
    Path((slug, handle)): Path<(String, String)>,
) -> Result<Json<StopOut>> {
    Ok(Json(StopOut { stopping: turn::stop(&app, &slug, &handle).await? }))
}

/// Contact details; at least one of name, e-mail and phone.
#[derive(Debug, Deserialize, JsonSchema)]
struct LeadIn {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    /// 8 to 18 digits.
    #[serde(default)]
    phone: Option<String>,
    #[serde(default)]
    interest: Option<String>,
    /// The handle of the visitor's conversation, if there is one.
    #[serde(default)]
    conversation_id: Option<String>,
}

/// A lead that was stored.
#[derive(Debug, Serialize, JsonSchema)]
struct PublicLeadOut {
    id: Int<Lead>,
    created_at: Time,
}

async fn create_public_lead(
    State(app): State<App>,
    visit: Visit,
    Path(slug): Path<String>,
    Json(body): Json<LeadIn>,
) -> Result<Created<PublicLeadOut>> {
    let details =
        Details::check(body.name.as_deref(), body.email.as_deref(), body.phone.as_deref(), body.interest.as_deref())?;
    let handle = body.conversation_id.as_deref().filter(|handle| !handle.is_empty());
    let capture = || lead::capture_public(&app, &slug, handle, LeadSource::Form, &details);
    visit.run(&app, capture, |lead| PublicLeadOut { id: lead.id.into(), created_at: lead.created_at }).await
}

/// Which messages of a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
struct AfterQuery {
    /// The id of the last message that the page has.
    #[serde(default)]
    after: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
    /// Seconds to wait for something new behind `after` while a person answers: up to 20; none when absent. Where too many
    /// wait it is answered at once.
    #[serde(default)]
    wait: Option<u32>,
}

/// The longest wait: the gateway gives up after 29 seconds.
const MAX_WAIT: u32 = 20;

/// A visitor's own conversation.
#[derive(Debug, Serialize, JsonSchema)]
struct PublicMessagesOut {
    /// Oldest first.
    items: Vec<PublicMessageOut>,
    /// Give it as `after` to get the rest; null when there is none.
    next_cursor: Option<String>,
    /// Whether a person answers instead of the agent.
    human_takeover: bool,
}

/// A message, as the visitor may see it.
#[derive(Debug, Serialize, JsonSchema)]
struct PublicMessageOut {
    id: Text<Message>,
    /// `user` or `assistant`.
    role: &'static str,
    /// `visitor`, `agent` or `operator`.
    author: &'static str,
    content: String,
    client_message_id: Option<String>,
    created_at: Time,
}

impl From<Message> for PublicMessageOut {
    fn from(message: Message) -> Self {
        let (role, author) = role_and_author(message.author);
        Self {
            id: message.id.into(),
            role,
            author,
            content: message.content,
            client_message_id: message.client_message_id,
            created_at: message.created_at,
        }
    }
}

async fn list_public_messages(
    State(app): State<App>,
    _: Visit,
    Path((slug, handle)): Path<(String, String)>,
    Query(query): Query<AfterQuery>,
) -> Result<Json<PublicMessagesOut>> {
    let malformed = || shared::kernel::Error::field("after", "invalid", "after must be the id of a message");
    let after = query.after.as_deref().map(|text| Id::<Message>::from_text(text).ok_or_else(malformed)).transpose()?;
    let (limit, wait) = (Limit::new(query.limit)?, query.wait.unwrap_or(0));
    if wait > MAX_WAIT {
        return Err(shared::kernel::Error::field("wait", "out_of_range", "wait may be 20 seconds at most"));
    }
    let wait = Duration::from_secs(wait.into());
    let (page, human_takeover) = conversation::public_messages(&app, &slug, &handle, after, limit, wait).await?;
    let items: Vec<PublicMessageOut> = page.items.into_iter().map(PublicMessageOut::from).collect();
    let next_cursor = page.next.and(items.last().map(|last| last.id.0.text()));
    Ok(Json(PublicMessagesOut { items, next_cursor, human_takeover }))
}
