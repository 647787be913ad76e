//! The conversation as a turn sees it: what was said and answered, and what waits for an answer.

use std::collections::HashSet;

use super::Reported;
use crate::domain::message::{Author, Message};
use crate::kernel::Id;

/// The messages of a turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Transcript {
    /// What the browser says was said before; unverified.
    pub(super) reported: Vec<Reported>,
    /// Said and settled, oldest first.
    pub(super) settled: Vec<Message>,
    /// The visitor's messages that no reply answers yet, oldest first.
    pub(super) pending: Vec<Message>,
}

impl Transcript {
    /// A first message.
    pub(super) fn begin(reported: &[Reported], message: Message) -> Self {
        Self { reported: reported.to_vec(), settled: Vec::new(), pending: vec![message] }
    }

    /// Sorts messages into settled and pending. A message is pending when no reply names it, no person has answered after
    /// it, and its turn was not stopped.
    pub(super) fn new(settled_until: Option<Id<Message>>, messages: impl IntoIterator<Item = Message>) -> Self {
        let messages: Vec<Message> = messages.into_iter().collect();
        let replies = messages.iter().filter_map(|message| message.reply.as_ref());
        let answered: HashSet<Id<Message>> = replies.flat_map(|reply| reply.answers.iter().copied()).collect();
        let by_person =
            messages.iter().filter(|message| message.author == Author::Operator).map(|message| message.id).max();
        let is_pending = |message: &Message| {
            message.author == Author::Visitor
                && !answered.contains(&message.id)
                && settled_until.is_none_or(|until| message.id > until)
                && by_person.is_none_or(|at| message.id > at)
        };
        let (pending, settled) = messages.into_iter().partition(is_pending);
        Self { reported: Vec::new(), settled, pending }
    }

    /// The messages that a reply to this transcript answers.
    pub(super) fn answers(&self) -> Vec<Id<Message>> {
        self.pending.iter().map(|message| message.id).collect()
    }

    /// Takes over what has come in since, keeping what the browser reported. Says whether anything is new.
    pub(super) fn refresh(&mut self, settled_until: Option<Id<Message>>, messages: Vec<Message>) -> Vec<Message> {
        let seen: HashSet<Id<Message>> = self.pending.iter().map(|message| message.id).collect();
        let fresh = Self::new(settled_until, messages);
        let new: Vec<Message> = fresh.pending.iter().filter(|message| !seen.contains(&message.id)).cloned().collect();
        self.settled = fresh.settled;
        self.pending = fresh.pending;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Reply;
    use crate::kernel::Time;

    fn message(id: u64, author: Author, answers: &[u64]) -> Message {
        let ids = answers.iter().filter_map(|id| Id::from_int(*id)).collect();
        let reply = Reply {
            answers: ids,
            key_source: None,
            model: None,
            tokens_in: 0,
            tokens_out: 0,
            tokens_cached: 0,
            tokens_reasoning: 0,
            response_ms: 0,
            tool_calls: Vec::new(),
            free_messages_remaining: None,
            stopped: false,
            reason: None,
        };
        Message {
            id: Id::from_int(id).unwrap(),
            conversation_id: Id::from_int(1).unwrap(),
            author,
            content: format!("message {id}"),
            client_message_id: None,
            reply: (author == Author::Agent).then_some(reply),
            author_user_id: None,
            delivery: None,
            file: None,
            created_at: Time::from_millis(0),
        }
    }

    fn ids(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.id.int()).collect()
    }

    #[test]
    fn what_was_stopped_waits_for_nothing() {
        let visitor = |id| message(id, Author::Visitor, &[]);
        let transcript = Transcript::new(Id::from_int(1), [visitor(1), visitor(2)]);
        assert_eq!((ids(&transcript.settled), ids(&transcript.pending)), (vec![1], vec![2]));
    }

    #[test]
    fn a_message_stored_before_a_reply_that_did_not_see_it_is_pending() {
        let visitor = |id| message(id, Author::Visitor, &[]);
        let transcript = Transcript::new(None, [visitor(1), visitor(2), message(3, Author::Agent, &[1]), visitor(4)]);
        assert_eq!(ids(&transcript.pending), [2, 4]);
        assert_eq!(ids(&transcript.settled), [1, 3]);
    }

    #[test]
    fn what_a_person_answered_is_settled() {
        let visitor = |id| message(id, Author::Visitor, &[]);
        let transcript = Transcript::new(None, [visitor(1), visitor(2), message(3, Author::Operator, &[]), visitor(4)]);
        assert_eq!(ids(&transcript.pending), [4]);
    }

    #[test]
    fn a_refresh_names_what_is_new() {
        let visitor = |id| message(id, Author::Visitor, &[]);
        let mut transcript = Transcript::new(None, [visitor(1)]);
        assert_eq!(ids(&transcript.refresh(None, vec![visitor(1), visitor(2)])), [2]);
        assert_eq!(ids(&transcript.pending), [1, 2]);
    }
}
