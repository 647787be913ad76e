//! What is told of a run: each frame is stored under its number before anybody is sent it, so that whoever comes back,
//! to whichever process, gets the rest. Text is gathered for a moment first, so that it costs few writes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use crate::app::App;
use crate::domain::builder::{Frame, Position};
use crate::domain::{BuilderThread, Workspace};
use crate::kernel::{Code, Error, Id, Result};
use crate::ports::llm::Tokens;
use crate::store;
use crate::table::{Refusal, Unit};

/// How many stored frames are read at once.
const READ_AT_ONCE: usize = 50;
/// The longest pause between two looks at what is stored of a run.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Which run it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) workspace: Id<Workspace>,
    pub(super) thread: Id<BuilderThread>,
    pub(super) run: Uuid,
}

/// Text that a model writes, until it is told.
#[derive(Debug, Default)]
pub(super) struct Text(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    /// Not told yet.
    waiting: String,
    /// What this answer of the model has written, as it came.
    answer: String,
    /// Whether anything was told, or waits.
    has_any: bool,
    /// An exclamation mark that may begin an image.
    bang: bool,
}

impl Text {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another answer of the model begins: its text is a paragraph of its own.
    pub(super) fn begin(&self) {
        let mut written = self.written();
        written.answer.clear();
        written.release_bang();
    }

    /// Whatever of an answer did not come piece by piece.
    pub(super) fn complete(&self, answer: &str) {
        let rest = {
            let written = self.written();
            answer.strip_prefix(written.answer.as_str()).filter(|rest| !rest.is_empty()).map(str::to_owned)
        };
        if let Some(rest) = rest {
            self.token(&rest);
        }
        self.written().release_bang();
    }

    /// Whether this answer has been told something of.
    pub(super) fn is_begun(&self) -> bool {
        !self.written().answer.is_empty()
    }

    fn waiting(&self) -> Option<String> {
        let written = self.written();
        (!written.waiting.is_empty()).then(|| written.waiting.clone())
    }

    fn told(&self, text: &str) {
        let mut written = self.written();
        if written.waiting.starts_with(text) {
            written.waiting.drain(..text.len());
        }
    }
}

impl Written {
    fn release_bang(&mut self) {
        if std::mem::take(&mut self.bang) {
            self.waiting.push('!');
        }
    }
}

impl Tokens for Text {
    /// Images become links: whoever renders the text must not call an address because a model was talked into it.
    fn token(&self, text: &str) {
        let mut written = self.written();
        let is_blank = written.answer.trim().is_empty();
        written.answer.push_str(text);
        if is_blank && text.trim().is_empty() {
            return;
        }
        if is_blank && std::mem::replace(&mut written.has_any, true) {
            written.waiting.push_str("\n\n");
        }
        for c in text.chars() {
            if c != '[' {
                written.release_bang();
            }
            written.bang = c == '!';
            if c != '!' {
                written.waiting.push(c);
            }
        }
    }
}

/// Tells of a run.
pub(super) struct Teller {
    app: App,
    place: Place,
    number: u32,
    text: Arc<Text>,
    said: String,
    live: UnboundedSender<(u32, Frame)>,
}

impl Teller {
    /// The teller of a run whose first frames are stored, and what its listener gets.
    pub(super) fn new(app: &App, place: Place, first: Frame) -> (Self, Frames) {
        let (live, receiver) = unbounded_channel();
        drop(live.send((1, first)));
        let teller = Self { app: app.clone(), place, number: 1, text: Arc::default(), said: String::new(), live };
        (teller, Frames { run: place.run, source: Source::Live(receiver), last: 0, ended: false })
    }

    /// The text that a model may write to.
    pub(super) fn text(&self) -> Arc<Text> {
        Arc::clone(&self.text)
    }

    /// Everything that was said.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// Carries out a unit and tells of it in the same transaction: text that waits comes first. Nothing is written but on
    /// the condition that the run holds the thread, or a run that was thought dead would write into one that is gone.
    pub(super) async fn commit(&mut self, mut unit: Unit, frames: Vec<Frame>) -> Result<(), Refusal> {
        let text = self.text.waiting().map(|text| Frame::TextDelta { text });
        let frames: Vec<Frame> = text.into_iter().chain(frames).collect();
        let of = (self.place.workspace, self.place.thread);
        for (number, frame) in (self.number + 1..).zip(&frames) {
            let at = Position { run: self.place.run, number };
            store::builder::add_frame(&mut unit, of, at, frame, self.app.now()).map_err(Refusal::Error)?;
        }
        let head = store::keys::builder_thread(of.0, of.1);
        if !unit.is_empty() && !unit.has(&head) {
            unit.check(head, store::builder::is_held_by(self.place.run), Error::new(Code::BuilderBusy));
        }
        self.app.commit(unit).await?;
        frames.into_iter().for_each(|frame| self.told(frame));
        Ok(())
    }

    /// Tells of something that is no effect.
    pub(super) async fn tell(&mut self, frame: Frame) -> Result<()> {
        Ok(self.commit(Unit::new(), vec![frame]).await?)
    }

    /// Tells the text that waits.
    pub(super) async fn flush(&mut self) -> Result<()> {
        Ok(self.commit(Unit::new(), Vec::new()).await?)
    }

    /// Finds out what was stored of a commit whose answer nobody waited for.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        loop {
            let had = Position { run: self.place.run, number: self.number };
            let (workspace, thread) = (self.place.workspace, self.place.thread);
            let stored = store::builder::frames_after(&self.app.table, workspace, thread, had, READ_AT_ONCE).await?;
            if stored.is_empty() {
                return Ok(());
            }
            stored.into_iter().for_each(|(_, frame)| self.told(frame));
        }
    }

    /// Tells whoever listens, and nobody else: what is not stored.
    pub(super) fn whisper(&self, frame: Frame) {
        drop(self.live.send((self.number, frame)));
    }

    fn told(&mut self, frame: Frame) {
        self.number += 1;
        if let Frame::TextDelta { text } = &frame {
            self.text.told(text);
            self.said.push_str(text);
        }
        // A listener who has gone misses nothing: it is stored.
        drop(self.live.send((self.number, frame)));
    }
}

/// The frames of a run, for one listener.
pub struct Frames {
    run: Uuid,
    source: Source,
    last: u32,
    ended: bool,
}

enum Source {
    /// From the run itself, in this process.
    Live(UnboundedReceiver<(u32, Frame)>),
    /// From what is stored of it, whichever process it runs in.
    Stored(Box<Reader>),
}

struct Reader {
    app: App,
    place: Place,
    number: u32,
    ready: VecDeque<(u32, Frame)>,
}

impl Frames {
    /// What was and will be told of a run after a position.
    pub(super) fn stored(app: &App, place: Place, had: u32) -> Self {
        let reader = Reader { app: app.clone(), place, number: had, ready: VecDeque::new() };
        Self { run: place.run, source: Source::Stored(Box::new(reader)), last: had, ended: false }
    }

    /// The next frame and its position; `None` after the last one, which always comes unless the listener has it already.
    pub async fn next(&mut self) -> Option<(Frame, Position)> {
        if self.ended {
            return None;
        }
        let next = match &mut self.source {
            Source::Live(receiver) => receiver.recv().await.map_or(Next::BrokenOff, Next::Told),
            Source::Stored(reader) => reader.next().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a run is not followed any more");
                Next::BrokenOff
            }),
        };
        let (number, frame) = match next {
            Next::Told(told) => told,
            Next::BrokenOff => (self.last, broken_off()),
            Next::Over => {
                self.ended = true;
                return None;
            }
        };
        (self.last, self.ended) = (number, frame.is_last());
        Some((frame, Position { run: self.run, number }))
    }
}

/// What comes next of a run.
enum Next {
    Told((u32, Frame)),
    /// The listener has its last frame already.
    Over,
    /// It has no end, and will have none.
    BrokenOff,
}

/// What is told in place of the end that never came.
pub(super) fn broken_off() -> Frame {
    let code = Code::Unavailable.text().to_owned();
    Frame::Error { code, detail: "The run broke off. What it did is kept: write again to go on.".into() }
}

/// What is told of an error.
pub(super) fn failed(error: &Error) -> Frame {
    Frame::Error { code: error.code().text().to_owned(), detail: error.message().to_owned() }
}

impl Reader {
    async fn next(&mut self) -> Result<Next> {
        loop {
            if let Some((number, frame)) = self.ready.pop_front() {
                self.number = number;
                return Ok(Next::Told((number, frame)));
            }
            // Looked at before the frames: a run ends in the transaction that stores its last one.
            let now = self.app.now();
            let (workspace, thread) = (self.place.workspace, self.place.thread);
            let head = store::builder::get(&self.app.table, workspace, thread, now).await;
            let had = Position { run: self.place.run, number: self.number };
            let stored = store::builder::frames_after(&self.app.table, workspace, thread, had, READ_AT_ONCE).await?;
            self.ready.extend(stored);
            if !self.ready.is_empty() {
                continue;
            }
            if head?.running(now) != Some(self.place.run) {
                return self.end().await;
            }
            tokio::time::sleep(self.app.config.watch_every.min(LONGEST_PAUSE)).await;
        }
    }

    /// What the end of a run is to a listener who has all of it that is stored.
    async fn end(&self) -> Result<Next> {
        let Some(before) = self.number.checked_sub(1) else { return Ok(Next::BrokenOff) };
        let (workspace, thread) = (self.place.workspace, self.place.thread);
        let had = Position { run: self.place.run, number: before };
        let last = store::builder::frames_after(&self.app.table, workspace, thread, had, 1).await?;
        Ok(if last.iter().any(|(_, frame)| frame.is_last()) { Next::Over } else { Next::BrokenOff })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answers: &[&[&str]]) -> String {
        let text = Text::default();
        for answer in answers {
            text.begin();
            answer.iter().for_each(|piece| text.token(piece));
            text.complete(&answer.concat());
        }
        text.waiting().unwrap_or_default()
    }

    #[test]
    fn answers_are_paragraphs_and_what_did_not_come_in_pieces_comes_in_the_end() {
        assert_eq!(told(&[&["Let me ", "look."], &[], &["  ", "Done", "!"]]), "Let me look.\n\nDone!");
        let text = Text::default();
        text.begin();
        text.token("It ");
        text.complete("It is made.");
        assert_eq!(text.waiting().unwrap(), "It is made.");
        text.told("It is");
        assert_eq!(text.waiting().unwrap(), " made.");
    }

    #[test]
    fn an_image_becomes_a_link_however_it_is_cut() {
        for pieces in [&["![x](https://example.com/a)"][..], &["!", "[x](https://example.com/a)"]] {
            assert_eq!(told(&[pieces]), "[x](https://example.com/a)", "{pieces:?}");
        }
        assert_eq!(told(&[&["Wow!", "!", " [x]"], &["Bye!"]]), "Wow!! [x]\n\nBye!");
    }
}
