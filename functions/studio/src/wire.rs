//! Shapes that several groups share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::domain::message::Author;
use shared::kernel::{Cursor, Limit, Page, Result};

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
