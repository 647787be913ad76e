//! The messages of a queue as this process knows them, in the order in which they can be received. All sends and
//! receives go through here, so that receiving costs no table call; the table has what must survive a kill.

use std::collections::{BTreeSet, HashMap};

use shared::kernel::Time;

/// How many bytes of texts are kept; of what comes beyond, the text is read when it is received.
const TEXTS_KEPT: usize = 64 * 1024 * 1024;

/// A message.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) id: String,
    /// The text, unless there were too many.
    pub(super) body: Option<String>,
    pub(super) sent_at: Time,
    /// When somebody may receive it.
    pub(super) visible_at: Time,
    /// How often it was received.
    pub(super) receives: u32,
}

/// All messages of a queue.
#[derive(Debug, Default)]
pub(super) struct Line {
    by_time: BTreeSet<(Time, String)>,
    messages: HashMap<String, Waiting>,
    texts: usize,
}

impl Line {
    /// Adds a message, or puts it in another place.
    pub(super) fn put(&mut self, mut message: Waiting) {
        self.remove(&message.id);
        let size = message.body.as_ref().map_or(0, String::len);
        if self.texts + size > TEXTS_KEPT {
            message.body = None;
        } else {
            self.texts += size;
        }
        self.by_time.insert((message.visible_at, message.id.clone()));
        self.messages.insert(message.id.clone(), message);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Waiting> {
        let message = self.messages.remove(id)?;
        self.texts -= message.body.as_ref().map_or(0, String::len);
        self.by_time.remove(&(message.visible_at, message.id.clone()));
        Some(message)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Waiting> {
        self.messages.get(id)
    }

    /// Up to so many messages that are visible, the longest first: each is received once more, and hidden until then.
    pub(super) fn receive(&mut self, most: usize, now: Time, until: Time) -> Vec<Waiting> {
        let due: Vec<String> =
            self.by_time.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, id)| id.clone()).collect();
        let hide = |id: String| {
            let mut message = self.remove(&id)?;
            (message.visible_at, message.receives) = (until, message.receives + 1);
            self.put(message.clone());
            Some(message)
        };
        due.into_iter().filter_map(hide).collect()
    }

    /// Hides a message until then, if it is still here.
    pub(super) fn hide(&mut self, id: &str, until: Time) {
        if let Some(message) = self.remove(id) {
            self.put(Waiting { visible_at: until, ..message });
        }
    }

    /// When the next message becomes visible.
    pub(super) fn next_visible(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, at: i64, size: usize) -> Waiting {
        let at = Time::from_millis(at);
        Waiting { id: id.into(), body: Some("x".repeat(size)), sent_at: at, visible_at: at, receives: 0 }
    }

    #[test]
    fn texts_beyond_the_budget_are_left_to_the_table_and_the_budget_is_given_back() {
        let (mut line, at) = (Line::default(), Time::from_millis);
        for (number, id) in ["a", "b", "c"].iter().enumerate() {
            line.put(message(id, i64::try_from(number).unwrap(), TEXTS_KEPT / 2));
        }
        let received = line.receive(2, at(5), at(9));
        assert!(received.iter().all(|message| message.body.is_some() && message.receives == 1));
        assert_eq!(
            line.receive(2, at(5), at(9)).iter().map(|message| message.body.is_some()).collect::<Vec<_>>(),
            [false]
        );
        assert_eq!(line.next_visible(), Some(at(9)));
        for id in ["a", "b", "c"] {
            line.remove(id);
        }
        assert_eq!((line.texts, line.by_time.len(), line.messages.len()), (0, 0, 0));
    }
}
