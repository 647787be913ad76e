//! Looking back: searching conversations, handing one out, erasing one or a person; rows of the group [`crate::inbox`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::history::{self, Erased, Excerpt, Found, Part, Person};
use shared::app::{App, file};
use shared::domain::lead::Details;
use shared::domain::{Agent, Message, User};
use shared::http::{AcceptsCsv, Call, Csv, Done, Download, Format, Json, JsonOrCsv, MaybeJson, NoContent, Path, Query};
use shared::kernel::secret::sha256_hex;
use shared::kernel::{Cursor, Error, Id, Int, Limit, Result, Time};

use crate::inbox::{ConversationOut, MessageOut};
use crate::wire::{ListOut, Named, role_and_author};

shared::ops! {
    /// Search an agent's conversations.
    ///
    /// By what was said in their last 200 messages, or by who the visitor is; upper case and accents do not matter. A page
    /// looks at 200 conversations at most, the most recently active first, so it may be short although more follow.
    GET "/api/clients/me/agents/{id}/search" => search_conversations, [User] GrantedViewer "" General Any Known Unaudited Safe;
    /// Download a conversation.
    ///
    /// At most 2,000 messages or 4 MB at a time. As CSV with `format=csv` or `Accept: text/csv`: the messages, where they
    /// fit into one file.
    GET "/api/clients/me/agents/{id}/conversations/{cid}/export" => export_conversation, [User] GrantedViewer "" General Any Known Unaudited Safe + private;
    /// Download the file of a message.
    ///
    /// `meta.file.link` of the message leads here. One of more than 4.5 MB is answered with 302 and an address that holds for
    /// five minutes; do not send your token there.
    GET "/api/clients/me/agents/{id}/conversations/{cid}/files/{file}" => download_file, [User] GrantedViewer "" General Any Known Unaudited Safe + private;
    /// Erase a conversation for good.
    ///
    /// The confirmation must be its id, in the body or as `?confirmation=`. Its leads stay, and what it cost; webhooks that
    /// were told of it keep what they were sent for 35 days.
    DELETE "/api/clients/me/agents/{id}/conversations/{cid}" => erase_conversation, [User] Admin "" General Any Known Audited Keyed;
    /// Erase a person: their contact, their leads, and the conversations in which they were known.
    ///
    /// Found by phone and e-mail, or by what a site of yours calls them (`agent_id` and `user_id`). In a large workspace call
    /// it again, with `next_cursor` as `cursor`, until that is null. Conversations of visitors who never said who they are have to be
    /// erased one by one.
    POST "/api/contacts/erase" => erase_person, [User] Admin "" General Any Known Audited Keyed also [404];
}

/// What is searched for.
#[derive(Debug, Deserialize, JsonSchema)]
struct SearchQuery {
    /// 2 to 100 characters.
    #[serde(default)]
    q: String,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

/// A conversation in which something was found.
#[derive(Debug, Serialize, JsonSchema)]
struct FoundOut {
    conversation: ConversationOut,
    /// The first three places, oldest first; empty when it is the visitor that matches.
    matches: Vec<ExcerptOut>,
}

/// A place where something was found.
#[derive(Debug, Serialize, JsonSchema)]
struct ExcerptOut {
    message_id: Int<Message>,
    /// `user` or `assistant`.
    role: &'static str,
    /// What stands around it, on one line.
    excerpt: String,
    created_at: Time,
}

impl From<Excerpt> for ExcerptOut {
    fn from(found: Excerpt) -> Self {
        let Excerpt { message_id, author, text, created_at } = found;
        Self { message_id: message_id.into(), role: role_and_author(author).0, excerpt: text, created_at }
    }
}

impl FoundOut {
    fn new(owner: Id<User>, found: Found) -> Self {
        let matches = found.excerpts.into_iter().map(ExcerptOut::from).collect();
        Self { conversation: ConversationOut::new(owner, found.head), matches }
    }
}

const SEARCH: &str = "search";

async fn search_conversations(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Agent>>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<ListOut<FoundOut>>> {
    let after = query.cursor.as_deref().map(|text| Cursor::decode(SEARCH, text)).transpose()?;
    let limit = Limit::new(query.limit)?;
    let page = history::search(&app, &call.caller, id.0, &query.q, after.as_ref(), limit).await?;
    let owner = call.caller.owner_user_id;
    Ok(Json(ListOut::page(SEARCH, page.map(|found| FoundOut::new(owner, found)))))
}

/// Which part of a conversation, and in which form.
#[derive(Debug, Deserialize, JsonSchema)]
struct ExportQuery {
    /// `next_cursor` of the part before.
    #[serde(default)]
    cursor: Option<String>,
    /// `json` or `csv`; what `Accept` asks for when absent.
    #[serde(default)]
    format: Option<Format>,
}

/// A conversation as it is handed out.
#[derive(Debug, Serialize, JsonSchema)]
struct ExportOut {
    conversation: ConversationOut,
    /// Oldest first.
    messages: Vec<MessageOut>,
    /// Give it as `cursor` to get the next part; null on the last one.
    next_cursor: Option<String>,
}

async fn export_conversation(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid)): Path<(Int<Agent>, Named)>,
    Query(query): Query<ExportQuery>,
    accepts: AcceptsCsv,
) -> Result<JsonOrCsv<ExportOut>> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    let malformed = || Error::field("cursor", "invalid_cursor", "cursor must be the next_cursor of this conversation");
    let after = query.cursor.as_deref().map(|text| Id::<Message>::from_text(text).ok_or_else(malformed)).transpose()?;
    let part = history::export(&app, &call.caller, id.0, cid, after).await?;
    let (as_csv, owner) = (accepts.csv(query.format), call.caller.owner_user_id);
    if !as_csv {
        return Ok(JsonOrCsv::Json(ExportOut::new(owner, part)));
    }
    // A file that ends early would look whole.
    let message = "this conversation is too long for one file; download it as JSON, part by part";
    if part.messages.next.is_some() {
        Err(Error::field("format", "too_much", message))
    } else {
        Ok(JsonOrCsv::Csv(csv(part)))
    }
}

impl ExportOut {
    fn new(owner: Id<User>, Part { head, messages }: Part) -> Self {
        let next_cursor = messages.next.and(messages.items.last().map(|last| last.id.text()));
        let messages = messages.items.into_iter().map(|message| MessageOut::new(head.agent_id, message)).collect();
        Self { conversation: ConversationOut::new(owner, head), messages, next_cursor }
    }
}

fn csv(Part { head, messages }: Part) -> Csv {
    let name = format!("conversation_{}.csv", head.id.int());
    let mut file = Csv::new(name, &["id", "created_at", "role", "author", "content", "model"]);
    for message in messages.items {
        let (role, author) = role_and_author(message.author);
        let model = message.reply.and_then(|reply| reply.model).unwrap_or_default();
        let (id, at) = (message.id.int().to_string(), message.created_at.to_string());
        file.line([id, at, role.into(), author.into(), Csv::text(&message.content), Csv::text(&model)]);
    }
    file
}

async fn download_file(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid, file)): Path<(Int<Agent>, Named, Int<Message>)>,
) -> Result<Download> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    file::open(&app, &call.caller, id.0, cid, file.0).await.map(Download)
}

/// The confirmation of an erasure.
#[derive(Debug, Deserialize, JsonSchema)]
struct ErasureIn {
    /// The id of the conversation.
    #[serde(default)]
    confirmation: Option<String>,
}

async fn erase_conversation(
    State(app): State<App>,
    mut call: Call,
    Path((id, cid)): Path<(Int<Agent>, Named)>,
    Query(query): Query<ErasureIn>,
    MaybeJson(body): MaybeJson<ErasureIn>,
) -> Result<NoContent> {
    let cid = cid.read(&app, &mut call, id.0).await?;
    let confirmation = body.and_then(|body| body.confirmation).or(query.confirmation).unwrap_or_default();
    call.run(&app, || history::erase(&app, &call.caller, id.0, cid, &confirmation), |()| ()).await
}

/// Whom to erase: by `email` or `phone`, or by `agent_id` and `user_id`.
#[derive(Debug, Deserialize, JsonSchema)]
struct PersonIn {
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    phone: Option<String>,
    /// An agent that answers on the site which calls them `user_id`.
    #[serde(default)]
    agent_id: Option<Int<Agent>>,
    #[serde(default)]
    user_id: Option<String>,
    /// `next_cursor` of the call before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Whether a field says something.
fn is_given(text: Option<&str>) -> bool {
    text.is_some_and(|text| !text.trim().is_empty())
}

impl PersonIn {
    fn read(&self) -> Result<Person> {
        match (self.agent_id, self.user_id.clone()) {
            (Some(agent), Some(user)) if self.email.is_none() && self.phone.is_none() => {
                Ok(Person { user: Some((agent.0, user)), ..Person::default() })
            }
            (None, None) => {
                if !is_given(self.email.as_deref()) && !is_given(self.phone.as_deref()) {
                    let message = "give email or phone or both, or agent_id and user_id together";
                    return Err(Error::field("email", "required", message));
                }
                let details = Details::check(None, self.email.as_deref(), self.phone.as_deref(), None)?;
                Ok(Person { email: details.email, phone: details.phone, user: None })
            }
            _ => {
                let message = "give either email and phone, or agent_id and user_id together";
                Err(Error::field("user_id", "invalid", message))
            }
        }
    }

    /// What its cursors are called: those of one person are of no use for another.
    fn list(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let agent = self.agent_id.map_or(0, |agent| agent.0.int());
        let who = format!("{}\n{}\n{agent}\n{}", text(&self.email), text(&self.phone), text(&self.user_id));
        format!("erasure {}", &sha256_hex(who)[..16])
    }
}

/// What was erased by this call.
#[derive(Debug, Serialize, JsonSchema)]
struct ErasedOut {
    conversations: usize,
    leads: usize,
    /// Call again with it as `cursor`; null once the person is erased.
    next_cursor: Option<String>,
}

async fn erase_person(State(app): State<App>, call: Call, Json(body): Json<PersonIn>) -> Result<Done<ErasedOut>> {
    let (person, list) = (body.read()?, body.list());
    let after = body.cursor.as_deref().map(|text| Cursor::decode(&list, text)).transpose()?;
    let command = || history::erase_person(&app, &call.caller, &person, after.as_ref());
    call.run(&app, command, |erased| ErasedOut::new(&list, erased)).await
}

impl ErasedOut {
    fn new(list: &str, Erased { conversations, leads, next }: Erased) -> Self {
        Self { conversations, leads, next_cursor: next.map(|next| next.encode(list)) }
    }
}
