//! `/api/clients/me/agents/{id}`: watching conversations, taking them over, leads.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::app::{App, conversation, lead};
use shared::domain::conversation::{Channel, ConversationStatus};
use shared::domain::identity::Identified;
use shared::domain::lead::{LeadSource, LeadStatus};
use shared::domain::message::ToolUse;
use shared::domain::whatsapp::{File, Talk};
use shared::domain::{Agent, Conversation, Lead, Message, User};
use shared::http::{Call, Created, Done, Json, Path, Query};
use shared::kernel::{Id, Int, Result, Time};
use shared::store::conversation::Thread;

use crate::wire::{ListOut, Named, PageQuery, role_and_author};

shared::ops! {
    /// List an agent's conversations, the most recently active first.
    GET "/api/clients/me/agents/{id}/conversations" => list_conversations, [User] GrantedViewer "" General Any Known Unaudited Safe;
    /// One conversation with its last 200 messages.
    GET "/api/clients/me/agents/{id}/conversations/{cid}" => find_conversation, [User] GrantedViewer "" General Any Known Unaudited Safe;
    /// Take a conversation over, or hand it back to the agent.
    ///
    /// Once this is answered, no reply of the agent is stored until it is handed back.
    POST "/api/clients/me/agents/{id}/conversations/{cid}/takeover" => set_takeover, [User] GrantedOperator "" General Any Known Audited Keyed + assisted;
    /// Answer in a conversation as a person, which takes it over.
    ///
    /// On WhatsApp it goes out to their phone, and `meta.delivery` tells how far it has come. More than 24 hours after their
    /// last message it is refused with `whatsapp_window_closed`.
    POST "/api/clients/me/agents/{id}/conversations/{cid}/messages" => create_operator_message, [User] GrantedOperator "" General Any Known Unaudited Keyed also [409] + assisted;
    /// Close a conversation.
    ///
    /// The visitor's next message opens it again.
    POST "/api/clients/me/agents/{id}/conversations/{cid}/close" => close_conversation, [User] GrantedOperator "" General Any Known Unaudited Keyed + assisted;
    /// Say what became of a lead.
    PATCH "/api/clients/me/agents/{id}/leads/{lead_id}" => update_lead, [User] GrantedOperator "" General Any Known Unaudited Keyed + assisted;
    /// List an agent's leads.
    GET "/api/clients/me/agents/{id}/leads" => list_leads, [User] GrantedViewer "" General Any Known Unaudited Safe;
}

/// A conversation as lists show it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConversationOut {
    id: Int<Conversation>,
    agent_id: Int<Agent>,
    agent_name: String,
    owner_id: Int<User>,
    visitor_id: Option<String>,
    /// Who the visitor is, when their site signed it; else null.
    identity: Option<IdentityOut>,
    channel: Channel,
    /// With whom, on WhatsApp; else null.
    whatsapp: Option<WhatsappOut>,
    status: ConversationStatus,
    /// Whether a person has taken over.
    ai_paused: bool,
    message_count: u64,
    last_message_at: Time,
    last_preview: String,
    /// When the visitor asked for a person.
    handoff_requested_at: Option<Time>,
    created_at: Time,
    closed_at: Option<Time>,
}

impl ConversationOut {
    pub(crate) fn new(owner: Id<User>, head: Conversation) -> Self {
        Self {
            id: head.id.into(),
            agent_id: head.agent_id.into(),
            agent_name: head.agent_name,
            owner_id: owner.into(),
            visitor_id: head.visitor_id,
            identity: head.identity.map(IdentityOut::from),
            channel: head.channel,
            whatsapp: head.whatsapp.map(WhatsappOut::from),
            status: head.status,
            ai_paused: head.ai_paused,
            message_count: head.message_count,
            last_message_at: head.last_message_at,
            last_preview: head.last_preview,
            handoff_requested_at: head.handoff_requested_at,
            created_at: head.created_at,
            closed_at: head.closed_at,
        }
    }
}

/// Somebody on WhatsApp.
#[derive(Debug, Serialize, JsonSchema)]
struct WhatsappOut {
    /// Digits; null while they hide it behind a username.
    phone: Option<String>,
    /// What Meta calls them towards this business.
    user_id: Option<String>,
    /// What they call themselves.
    name: Option<String>,
    /// Until when anything may be written to them.
    window_open_until: Time,
}

impl From<Talk> for WhatsappOut {
    fn from(talk: Talk) -> Self {
        let window_open_until = talk.open_until();
        Self { phone: talk.peer.phone, user_id: talk.peer.user_id, name: talk.peer.name, window_open_until }
    }
}

/// A visitor whom their site signed. `user_id` is proven; the rest is what the visitor's page said.
#[derive(Debug, Serialize, JsonSchema)]
struct IdentityOut {
    user_id: String,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
}

impl From<Identified> for IdentityOut {
    fn from(Identified { user_id, name, email, phone }: Identified) -> Self {
        Self { user_id, name, email, phone }
    }
}

/// A conversation with its messages.
#[derive(Debug, Serialize, JsonSchema)]
struct ConversationDetailOut {
    #[serde(flatten)]
    conversation: ConversationOut,
    /// The last 200, oldest first.
    messages: Vec<MessageOut>,
}

/// A message.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageOut {
    id: Int<Message>,
    conversation_id: Int<Conversation>,
    /// `user` or `assistant`; a person's message is `assistant` with `meta.author` = `operator`.
    role: &'static str,
    content: String,
    /// Who wrote it, and for replies: model, tokens, time, tools. `tokens_cached` is a part of `tokens_in`,
    /// `tokens_reasoning` of `tokens_out`. Where `fallback` is true no model answered, and `reason` says why:
    /// `model_unavailable`, `not_configured`, `timeout`, `email_not_verified`, `suspended`, `limit` or `internal`. On WhatsApp also `delivery` (`status` and what went wrong) of what went out,
    /// and `file` of what came in: its `id`, `type`, `mime`, `name`, size in `bytes`, the `link` to download it by, or why it
    /// is `missing`.
    meta: Value,
    created_at: Time,
}

impl MessageOut {
    pub(crate) fn new(agent: Id<Agent>, message: Message) -> Self {
        let (role, author) = role_and_author(message.author);
        let mut meta = json!({"author": author});
        if let Some(user) = message.author_user_id {
            meta["user_id"] = json!(user.int());
        }
        if let Some(delivery) = &message.delivery {
            let error = delivery.reason().map(|reason| json!({"code": reason.code, "message": reason.text}));
            meta["delivery"] = json!({"status": delivery.state(), "error": error});
        }
        if let Some(File { kind, mime, name, bytes, object, missing }) = message.file {
            // A message has one at most.
            let id = message.id.int();
            let (agent, conversation) = (agent.int(), message.conversation_id.int());
            let link = format!("/api/clients/me/agents/{agent}/conversations/{conversation}/files/{id}");
            meta["file"] = json!({"id": id, "type": kind, "mime": mime, "name": name, "bytes": bytes,
                "link": object.is_some().then_some(link), "object": object, "missing": missing});
        }
        if let Some(reply) = message.reply {
            meta["fallback"] = json!(reply.is_fallback());
            meta["reason"] = json!(reply.reason);
            meta["key_source"] = json!(reply.key_source);
            meta["model"] = json!(reply.model);
            meta["tokens_in"] = json!(reply.tokens_in);
            meta["tokens_out"] = json!(reply.tokens_out);
            meta["tokens_cached"] = json!(reply.tokens_cached);
            meta["tokens_reasoning"] = json!(reply.tokens_reasoning);
            meta["response_ms"] = json!(reply.response_ms);
            let call = |call: &ToolUse| json!({"name": call.name, "arguments": call.arguments, "ok": call.ok});
            meta["tool_calls"] = reply.tool_calls.iter().map(call).collect();
            meta["answers"] = json!(reply.answers.iter().map(|id| id.int()).collect::<Vec<_>>());
        }
        Self {
            id: message.id.into(),
            conversation_id: message.conversation_id.into(),
            role,
            content: message.content,
            meta,
            created_at: message.created_at,
        }
    }
}

const CONVERSATIONS: &str = "conversations";
const LEADS: &str = "leads";

async fn list_conversations(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<ConversationOut>>> {
    let (after, limit) = query.read(CONVERSATIONS)?;
    let page = conversation::list(&app, &call.caller, id.0, after.as_ref(), limit).await?;
    let owner = call.caller.owner_user_id;
    Ok(Json(ListOut::page(CONVERSATIONS, page.map(|head| ConversationOut::new(owner, head)))))
}

async fn find_conversation(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid)): Path<(Int<Agent>, Named)>,
) -> Result<Json<ConversationDetailOut>> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    let Thread { head, messages } = conversation::detail(&app, &call.caller, id.0, cid).await?;
    Ok(Json(ConversationDetailOut {
        conversation: ConversationOut::new(call.caller.owner_user_id, head),
        messages: messages.into_iter().map(|message| MessageOut::new(id.0, message)).collect(),
    }))
}

/// A takeover.
#[derive(Debug, Deserialize, JsonSchema)]
struct TakeoverIn {
    /// Whether a person answers from now on.
    paused: bool,
}

async fn set_takeover(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid)): Path<(Int<Agent>, Named)>,
    Json(body): Json<TakeoverIn>,
) -> Result<Done<ConversationOut>> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    let owner = call.caller.owner_user_id;
    let command = || conversation::set_paused(&app, &call.caller, id.0, cid, body.paused);
    call.run(&app, command, |head| ConversationOut::new(owner, head)).await
}

/// A person's answer.
#[derive(Debug, Deserialize, JsonSchema)]
struct OperatorMessageIn {
    /// 1 to 4,096 characters.
    content: String,
}

async fn create_operator_message(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid)): Path<(Int<Agent>, Named)>,
    Json(body): Json<OperatorMessageIn>,
) -> Result<Created<MessageOut>> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    let command = || conversation::answer_as_operator(&app, &call.caller, id.0, cid, &body.content);
    call.run(&app, command, |message| MessageOut::new(id.0, message)).await
}

impl LeadOut {
    fn new(owner: Id<User>, lead: Lead) -> Self {
        Self {
            id: lead.id.into(),
            agent_id: lead.agent_id.into(),
            owner_id: owner.into(),
            conversation_id: lead.conversation_id.map(Int),
            name: lead.name,
            email: lead.email,
            phone: lead.phone,
            interest: lead.interest,
            source: lead.source,
            status: lead.status,
            created_at: lead.created_at,
        }
    }
}

/// A lead.
#[derive(Debug, Serialize, JsonSchema)]
struct LeadOut {
    id: Int<Lead>,
    agent_id: Int<Agent>,
    owner_id: Int<User>,
    conversation_id: Option<Int<Conversation>>,
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    interest: Option<String>,
    source: LeadSource,
    status: LeadStatus,
    created_at: Time,
}

async fn close_conversation(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid)): Path<(Int<Agent>, Named)>,
) -> Result<Done<ConversationOut>> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    let owner = call.caller.owner_user_id;
    let command = || conversation::close_as_operator(&app, &call.caller, id.0, cid);
    call.run(&app, command, |head| ConversationOut::new(owner, head)).await
}

/// What became of a lead.
#[derive(Debug, Deserialize, JsonSchema)]
struct LeadPatch {
    status: LeadStatus,
}

async fn update_lead(
    State(app): State<App>,
    call: Call,
    Path((id, lead)): Path<(Int<Agent>, Int<Lead>)>,
    Json(body): Json<LeadPatch>,
) -> Result<Done<LeadOut>> {
    let owner = call.caller.owner_user_id;
    let command = || lead::set_status(&app, &call.caller, id.0, lead.0, body.status);
    call.run(&app, command, |lead| LeadOut::new(owner, lead)).await
}

async fn list_leads(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<LeadOut>>> {
    let (after, limit) = query.read(LEADS)?;
    let page = lead::list(&app, &call.caller, id.0, after.as_ref(), limit).await?;
    let owner = call.caller.owner_user_id;
    Ok(Json(ListOut::page(LEADS, page.map(|lead| LeadOut::new(owner, lead)))))
}
