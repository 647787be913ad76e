//! Pages of a list, and the cursor between them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Error, Result};

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<Cursor>,
    /// How many there are in all, where that is known without counting.
    pub total: Option<u64>,
}

impl<T> Page<T> {
    /// The same page with each item changed.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next, total: self.total }
    }
}

/// How many items a page holds: 1 to 100, 20 when the caller does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u8);

impl Limit {
    /// The largest page.
    pub const MAX: u32 = 100;

    /// Reads a caller's wish.
    ///
    /// # Errors
    /// `validation_error` on `limit` when it is not 1 to 100.
    pub fn new(wish: Option<u32>) -> Result<Self> {
        let wish = wish.unwrap_or(20);
        match u8::try_from(wish) {
            Ok(limit) if (1..=Self::MAX).contains(&wish) => Ok(Self(limit)),
            _ => Err(Error::field("limit", "out_of_range", "limit must be between 1 and 100")),
        }
    }

    /// As a count.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// The longest sort key, in bytes: the table refuses to look for a longer one.
const MAX_POSITION: usize = 1_024;

/// An opaque position in a list. It holds the sort position only: the partition is rebuilt from the caller, so a
/// cursor cannot reach into another tenant and needs no signature. The list's name keeps it from being used elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The sort key of the last item of the page before.
    pub position: String,
}

impl Cursor {
    /// The text that the caller gets.
    #[must_use]
    pub fn encode(&self, list: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("1\n{list}\n{}", self.position))
    }

    /// Reads what [`Self::encode`] wrote for the same list.
    ///
    /// # Errors
    /// `validation_error` on `cursor` when the text is not ours or belongs to another list.
    pub fn decode(list: &str, text: &str) -> Result<Self> {
        let bad = || Error::field("cursor", "invalid_cursor", "cursor must be the next_cursor of this list, unchanged");
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() <= 600).ok_or_else(bad)?;
        let inner = String::from_utf8(bytes).map_err(|_| bad())?;
        let mut parts = inner.splitn(3, '\n');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("1"), Some(of), Some(position)) if of == list && (1..=MAX_POSITION).contains(&position.len()) => {
                Ok(Self { position: position.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_only_in_its_own_list() {
        let cursor = Cursor { position: "AG#01".into() };
        let text = cursor.encode("agents");
        assert_eq!(Cursor::decode("agents", &text).unwrap(), cursor);
        assert!(Cursor::decode("leads", &text).is_err());
        assert!(Cursor::decode("agents", "rubbish!").is_err());
        let forged = Cursor { position: "z".repeat(1_025) }.encode("agents");
        assert!(Cursor::decode("agents", &forged).is_err());
    }

    #[test]
    fn a_limit_outside_its_range_is_refused() {
        assert_eq!(Limit::new(None).unwrap().get(), 20);
        assert!(Limit::new(Some(0)).is_err());
        assert!(Limit::new(Some(101)).is_err());
        assert!(Limit::new(Some(100)).is_ok());
    }
}
