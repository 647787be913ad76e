//! Shapes that several groups share.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use shared::app::{App, conversation};
use shared::domain::message::Author;
use shared::domain::{Agent, ApiKey, Conversation, User};
use shared::http::Call;
use shared::http::ops::DocPath;
use shared::kernel::{Cursor, Id, Int, Limit, Page, Result};

/// A conversation as the inbox takes it in a path.
#[derive(Debug)]
pub(crate) enum Named {
    /// By its id.
    Id(Id<Conversation>),
    /// By what its visitor holds, such as the answer of a chat gives.
    Handle(String),
}

impl Named {
    /// Its id, if the caller's workspace can have it with this agent.
    pub(crate) async fn read(self, app: &App, call: &mut Call, agent: Id<Agent>) -> Result<Id<Conversation>> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Handle(handle) => {
                let id = conversation::of_handle(app, (call.caller.workspace_id, agent), &handle).await?;
                call.names("cid", id.int());
                Ok(id)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().ok().and_then(Id::from_int).map_or(Self::Handle(text), Self::Id))
    }
}

impl DocPath for Named {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        let about = "Its id, or the handle that a chat's answer gives.";
        let (id, handle) =
            (Int::<Conversation>::json_schema(generator), json_schema!({"type": "string", "pattern": "^conv_"}));
        vec![json_schema!({"description": about, "oneOf": [id, handle]})]
    }
}

/// Who did something, by the id that this surface has for them: `user_`, `key_` or `agent_` with its number, or `system`.
pub(crate) fn actor(text: &str) -> String {
    let user = || Id::<User>::from_text(text).map(|id| format!("user_{}", id.int()));
    let key = || Id::<ApiKey>::from_text(text).map(|id| format!("key_{}", id.int()));
    let agent = || Id::<Agent>::from_text(text).map(|id| format!("agent_{}", id.int()));
    user().or_else(key).or_else(agent).unwrap_or_else(|| text.to_owned())
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListOut<T> {
    /// The items, newest first unless it is said otherwise.
    pub(crate) items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub(crate) next_cursor: Option<String>,
    /// How many there are in all, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
}

impl<T> ListOut<T> {
    /// A page of the list called `list`.
    pub(crate) fn page(list: &str, page: Page<T>) -> Self {
        let next_cursor = page.next.map(|cursor| cursor.encode(list));
        Self { items: page.items, next_cursor, total: page.total }
    }

    /// A list that is always given whole.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        let total = u64::try_from(items.len()).ok();
        Self { items, next_cursor: None, total }
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct PageQuery {
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

impl PageQuery {
    /// Reads the position in the list called `list`.
    pub(crate) fn read(&self, list: &str) -> Result<(Option<Cursor>, Limit)> {
        let cursor = self.cursor.as_deref().map(|text| Cursor::decode(list, text)).transpose()?;
        Ok((cursor, Limit::new(self.limit)?))
    }
}

/// Who wrote a message: the role that studio shows, and the author behind it.
pub(crate) const fn role_and_author(author: Author) -> (&'static str, &'static str) {
    match author {
        Author::Visitor => ("user", "visitor"),
        Author::Agent => ("assistant", "agent"),
        Author::Operator => ("assistant", "operator"),
    }
}
