//! Server-sent events, read incrementally: bytes in as the network cuts them, whole events out.
//!
//! Follows the WHATWG rules for lines (LF, CR, CRLF), comments, multi-line data and the byte order mark. Lines are
//! decoded only when they are complete, so a character that is split between two chunks stays whole. `id` and
//! `retry` are for reconnecting, which nobody here does. An event may grow as large as its sender likes: the reader
//! of the stream caps the bytes.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// From `event:`; empty when there is none.
    pub(super) name: String,
    /// From `data:`, several lines joined by LF.
    pub(super) data: String,
}

/// The state between two chunks.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    after_cr: bool,
    after_first_line: bool,
}

impl Parser {
    /// Takes the next bytes and gives the events that they complete.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in chunk {
            // The LF of a CRLF, which may come in the next chunk.
            let second_half = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                _ if second_half => {}
                b'\r' | b'\n' => events.extend(self.end_line()),
                byte => self.line.push(byte),
            }
        }
        events
    }

    /// The end of the stream. The standard drops an event that no empty line closed; servers that forget it after
    /// their last event exist, so it counts here.
    pub(super) fn finish(mut self) -> Option<Event> {
        let closed = if self.line.is_empty() { None } else { self.end_line() };
        closed.or_else(|| self.dispatch())
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = if self.after_first_line { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        self.after_first_line = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment (no field name), id, retry, or something newer.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        self.data.take().map(|data| Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let mut events: Vec<Event> = chunks.into_iter().flat_map(|chunk| parser.push(chunk)).collect();
        events.extend(parser.finish());
        events.into_iter().map(|event| (event.name, event.data)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn names_comments_and_several_data_lines_are_read() {
        let text = ": hello\nevent: a\ndata: one\ndata:two\ndata:  three\nid: 7\n\nretry: 5\n\ndata\n\n";
        assert_eq!(read([text.as_bytes()]), pairs(&[("a", "one\ntwo\n three"), ("", "")]));
    }

    #[test]
    fn a_name_without_data_is_no_event_and_does_not_leak_into_the_next() {
        assert_eq!(read([b"event: a\n\ndata: x\n\n".as_slice()]), pairs(&[("", "x")]));
    }

    #[test]
    fn an_event_that_nothing_closed_counts_at_the_end() {
        assert_eq!(read([b"data: [DONE]".as_slice()]), pairs(&[("", "[DONE]")]));
        assert_eq!(read([b"data: [DONE]\n".as_slice()]), pairs(&[("", "[DONE]")]));
        assert_eq!(read([b"".as_slice()]), pairs(&[]));
    }

    #[test]
    fn wherever_the_stream_is_cut_the_events_are_the_same() {
        let lines = "\u{feff}event: ñ\n: ping\ndata: {\"a\":\"¿qué? 👋🏽\"}\ndata: é\n\ndata: b: c\n\n\ndata: end\n\n";
        let expected = pairs(&[("ñ", "{\"a\":\"¿qué? 👋🏽\"}\né"), ("", "b: c"), ("", "end")]);
        for ending in ["\n", "\r\n", "\r"] {
            let bytes = lines.replace('\n', ending).into_bytes();
            assert_eq!(read(bytes.chunks(1)), expected, "byte by byte, {ending:?}");
            for first in 0..bytes.len() {
                for second in first..bytes.len() {
                    let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(read(parts), expected, "cut at {first} and {second}, {ending:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_do_not_stop_it() {
        assert_eq!(read([b"data: a\xffb\n\n".as_slice()]), pairs(&[("", "a\u{fffd}b")]));
    }
}
