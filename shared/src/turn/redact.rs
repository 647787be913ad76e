//! What a web service answers, without the customer's secret headers. Services echo what they were sent, and what the model
//! sees it may be talked into telling.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Number, Value};

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";
/// What is shorter is no secret, and of one that was cut so much is known.
const SHORTEST: usize = 4;
/// So many layers of escapes are looked behind: JSON in a text of JSON in a page.
const LAYERS: usize = 3;
/// Characters that HTML has names for.
const NAMED: [(&str, char); 5] = [("amp", '&'), ("quot", '"'), ("apos", '\''), ("lt", '<'), ("gt", '>')];

/// What must not be told.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of these headers, also without their scheme word, since services echo just the token.
    pub(super) fn of(headers: &BTreeMap<String, String>) -> Self {
        let tokens = headers.values().filter_map(|value| Some(value.split_once(' ')?.1.trim()));
        let mut secrets: Vec<String> = headers.values().map(String::as_str).chain(tokens).map(str::to_owned).collect();
        // One that looks as if it had escapes loses them together with the answer that it stands in.
        secrets.extend(secrets.iter().map(|secret| plain(secret, false)).collect::<Vec<_>>());
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort();
        secrets.dedup();
        Self(secrets)
    }

    /// An answer as the model may see it: as JSON if it is that, else as text.
    pub(super) fn redact(&self, answer: &str, is_cut: bool) -> Value {
        match serde_json::from_str(answer) {
            Ok(body) => self.redact_within(body),
            Err(_) => Value::String(self.redact_text(answer, is_cut)),
        }
    }

    fn redact_within(&self, body: Value) -> Value {
        match body {
            Value::String(text) => Value::String(self.redact_text(&text, false)),
            Value::Array(items) => items.into_iter().map(|item| self.redact_within(item)).collect(),
            Value::Object(fields) => {
                let field =
                    |(name, value): (String, Value)| (self.redact_text(&name, false), self.redact_within(value));
                fields.into_iter().map(field).collect()
            }
            Value::Number(number) if self.is_in(&number) => Value::String(REDACTED.into()),
            Value::Null | Value::Bool(_) | Value::Number(_) => body,
        }
    }

    fn is_in(&self, number: &Number) -> bool {
        let is_same = |secret: &String| serde_json::from_str::<Number>(secret).is_ok_and(|secret| secret == *number);
        self.0.iter().any(is_same) || !self.find(&number.to_string(), false).is_empty()
    }

    /// A text without secrets, however they are written. It loses its escapes only if some hide one: redacted as it came,
    /// a short secret would keep the escaped rest of a longer one from being known.
    fn redact_text(&self, text: &str, is_cut: bool) -> String {
        let held = |text: &str| self.find(text, is_cut).iter().map(Range::len).sum::<usize>();
        let behind = plain(text, is_cut);
        let told = self.without(if held(&behind) > held(text) { &behind } else { text }, is_cut);
        let behind = plain(&told, is_cut);
        if held(&behind) > 0 { self.without(&behind, is_cut) } else { told }
    }

    /// A text without secrets as they are.
    fn without(&self, text: &str, is_cut: bool) -> String {
        let mut told = String::with_capacity(text.len());
        let mut end = 0;
        for found in self.find(text, is_cut) {
            if found.start >= end {
                told += &text[end..found.start];
                told += REDACTED;
            }
            end = end.max(found.end);
        }
        told + &text[end..]
    }

    /// Where a text holds secrets, in order. All are looked for in the text as it came: one may be a part of another, and
    /// would hide the rest of it if it were taken out first.
    fn find(&self, text: &str, is_cut: bool) -> Vec<Range<usize>> {
        let whole = |secret: &String| {
            let length = secret.len();
            text.match_indices(secret.as_str()).map(|(start, _)| start..start + length).collect::<Vec<_>>()
        };
        let mut found: Vec<_> = self.0.iter().flat_map(whole).collect();
        if is_cut {
            found.extend(self.0.iter().filter_map(|secret| cut_off(text, secret)));
        }
        found.sort_by_key(|found| found.start);
        found
    }
}

/// The end of a text that was cut, if it is the beginning of a secret.
fn cut_off(text: &str, secret: &str) -> Option<Range<usize>> {
    let beginnings = secret.char_indices().map(|(end, _)| &secret[..end]).filter(|part| part.len() >= SHORTEST);
    let longest = beginnings.rev().find(|beginning| text.ends_with(beginning))?;
    Some(text.len() - longest.len()..text.len())
}

/// A text without escapes, nor what only looks like one, and without the zeros between the letters of UTF-16.
fn plain(text: &str, is_cut: bool) -> String {
    (0..LAYERS).fold(text.to_owned(), |text, _| unescaped(&text.replace('\0', ""), is_cut))
}

/// A text with one layer less of the escapes of JSON, of HTML and of addresses. An escape that was cut is left out.
fn unescaped(text: &str, is_cut: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '&', '%']) {
        plain += &rest[..at];
        rest = &rest[at..];
        let (c, length) = match escape(rest) {
            Some(escape) => escape,
            None if is_cut && is_begun(rest) => return plain,
            None => (char::from(rest.as_bytes()[0]), 1),
        };
        plain.push(c);
        rest = &rest[length..];
    }
    plain + rest
}

/// Whether an escape may have been cut behind this.
fn is_begun(rest: &str) -> bool {
    rest.len() < 8 && rest[1..].chars().all(|c| c == '#' || c.is_ascii_alphanumeric())
}

/// The character that an escape at the beginning of a text stands for, and how long the escape is.
fn escape(text: &str) -> Option<(char, usize)> {
    let number = |digits: &str, radix: u32| char::from_u32(u32::from_str_radix(digits, radix).ok()?);
    let hex = |from: usize, to: usize| Some((number(text.get(from..to)?, 16)?, to));
    match text.as_bytes() {
        [b'\\', b'u', ..] => hex(2, 6),
        [b'\\', b'x', ..] => hex(2, 4),
        [b'\\', b'n' | b'r' | b't', ..] => Some((' ', 2)),
        [b'\\', ..] => text[1..].chars().next().map(|c| (c, 1 + c.len_utf8())),
        [b'%', ..] => hex(1, 3),
        [b'&', ..] => {
            let name = &text[1..text.bytes().take(12).position(|byte| byte == b';')?];
            let c = match name.strip_prefix('#').map(|number| (number, number.strip_prefix(['x', 'X']))) {
                Some((_, Some(digits))) => number(digits, 16),
                Some((digits, None)) => number(digits, 10),
                None => NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
            };
            c.map(|c| (c, name.len() + 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(headers: &[(&str, &str)]) -> Secrets {
        Secrets::of(&headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn an_echoed_secret_is_redacted_with_and_without_its_scheme() {
        let secrets = secrets(&[("authorization", "Bearer sk-12345")]);
        assert_eq!(secrets.redact("you sent Bearer sk-12345", false), "you sent [redacted]");
        assert_eq!(secrets.redact("token=sk-12345; again sk-12345", false), "token=[redacted]; again [redacted]");
        assert_eq!(secrets.redact("{\"sk-12345\": [1, \"sk-1\\u00323\\/45\"]}", false)["[redacted]"][0], 1);
    }

    #[test]
    fn a_secret_that_is_a_part_of_another_one_shows_nothing_of_it() {
        for names in [["authorization", "x-tenant"], ["x-key", "a-tenant"]] {
            let secrets = secrets(&[(names[0], "Bearer acme-live-9f8e7d"), (names[1], "acme")]);
            for (echo, told) in [
                ("{\"token\":\"acme-live-9f8e7d\"}", "{\"token\":\"[redacted]\"}"),
                ("{\"to\\u006ben\":\"ac\\u006de-live-9f8e7d\"}", "{\"token\":\"[redacted]\"}"),
                ("{\"token\":\"acme\\u002dlive\\u002d9f8e7d\"}", "{\"token\":\"[redacted]\"}"),
                ("f(\"acme\\u002dlive\\u002d9f8e7d\")", "\"f(\\\"[redacted]\\\")\""),
                ("{\"tenant\":\"acme\"}", "{\"tenant\":\"[redacted]\"}"),
                ("\"acme acme-live-9f8e7d-acme\"", "\"[redacted] [redacted]-[redacted]\""),
            ] {
                assert_eq!(secrets.redact(echo, false).to_string(), told);
            }
            for end in ["Bearer acme-live-9f8e", "acme-live-9f8e7", "acme-", "acme", "Bearer acme-live-9f8e7d"] {
                assert_eq!(secrets.redact(&format!("you sent {end}"), true), "you sent [redacted]", "{end}");
            }
        }
    }

    #[test]
    fn secrets_that_overlap_are_redacted_together() {
        let secrets = secrets(&[("a", "one-two"), ("b", "two-three"), ("c", "tic-tac-tic")]);
        assert_eq!(secrets.redact("<one-two-three>", false), "<[redacted]>");
        assert_eq!(secrets.redact("<one-two-thr", true), "<[redacted]");
        assert_eq!(secrets.redact("<tic-tac-tic", true), "<[redacted]");
    }

    #[test]
    fn escapes_hide_no_secret_and_stay_where_there_is_none() {
        let secrets = secrets(&[("a", "k-\"/&1"), ("b", "50%2fa\\n"), ("c", "12345678")]);
        for (echo, told) in [
            ("<i>k&#45;&quot;&#x2F;&amp;1</i>", "<i>[redacted]</i>"),
            ("f({\"k\": \"k\\u002d\\\"\\/\\u0026amp;1\"})", "f({\"k\": \"[redacted]\"})"),
            ("?k=k%2D%22%2f%261&b=1", "?k=[redacted]&b=1"),
            ("?k=50%252fa%5cn", "?k=[redacted]"),
            ("50%2fa\\n 50%2fa\\\\n", "[redacted] [redacted]"),
            ("k\\u002d\\u0022/&1 k\\\\u002d\\\\u0022/&1", "[redacted] [redacted]"),
        ] {
            assert_eq!(secrets.redact(echo, false), told);
        }
        assert_eq!(secrets.redact("{\"k\": [5, 12345678]}", false).to_string(), "{\"k\":[5,\"[redacted]\"]}");
        for end in ["k\\u002d\\u0022/", "k\\u002d\\u0022/\\u00", "k&#45;&quot;/&am", "50%252fa%5"] {
            assert_eq!(secrets.redact(&format!("f(\"{end}"), true), "f(\"[redacted]", "{end}");
        }
        for text in ["a \\u002d 100% &amp; %", "C:\\new \\", "&", "\\u", "%é", "\\é &é;", "&#x110000; \\ud800"] {
            assert_eq!(secrets.redact(text, false), text);
        }
    }
}
