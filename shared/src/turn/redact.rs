//! What a web service answers, without the customer's secret headers. Services echo what they were sent, and what the model
//! sees it may be talked into telling.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";
/// What is shorter is no secret, and of one that was cut so much is known.
const SHORTEST: usize = 4;

/// What must not be told.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of these headers, also without their scheme word, since services echo just the token.
    pub(super) fn of(headers: &BTreeMap<String, String>) -> Self {
        let tokens = headers.values().filter_map(|value| Some(value.split_once(' ')?.1.trim()));
        let secrets = headers.values().map(String::as_str).chain(tokens);
        Self(secrets.filter(|secret| secret.len() >= SHORTEST).map(str::to_owned).collect())
    }

    /// An answer as the model may see it: as JSON if it is that, else as text.
    pub(super) fn redact(&self, answer: &str, is_cut: bool) -> Value {
        let text = self.without(answer, is_cut);
        serde_json::from_str(&text).map_or(Value::String(text), |body| self.redact_within(body))
    }

    /// JSON without secrets in its texts, which may have been written with escapes.
    fn redact_within(&self, body: Value) -> Value {
        match body {
            Value::String(text) => Value::String(self.without(&text, false)),
            Value::Array(items) => items.into_iter().map(|item| self.redact_within(item)).collect(),
            Value::Object(fields) => {
                let field = |(name, value): (String, Value)| (self.without(&name, false), self.redact_within(value));
                fields.into_iter().map(field).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => body,
        }
    }

    /// A text without secrets.
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
}
