//! Rules for texts that callers send, checked in one pass so that a caller learns of every wrong field at once.

use crate::kernel::{Error, Field, Result, Time};

/// How many wrong fields an answer names.
const MAX_FIELDS: usize = 20;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub struct Checks(Vec<Field>);

impl Checks {
    /// Nothing wrong yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a wrong field.
    pub fn fail(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        // A caller can send more wrong things than an answer can hold.
        if self.0.len() == MAX_FIELDS {
            return;
        }
        self.0.push(Field { name: name.into(), code, message: message.into() });
    }

    /// Notes the field when the rule does not hold.
    pub fn ensure(&mut self, holds: bool, name: &str, code: &'static str, message: &str) {
        if !holds {
            self.fail(name, code, message);
        }
    }

    /// A text that must say something, of at most `max` characters, trimmed.
    pub fn required(&mut self, name: &str, text: &str, max: usize) -> String {
        let text = text.trim();
        self.ensure(!text.is_empty(), name, "required", &format!("{name} must not be empty"));
        self.limited(name, text, max)
    }

    /// A name: as [`Self::required`], in one line, since it stands in subjects, logs and titles.
    pub fn name(&mut self, name: &str, text: &str, max: usize) -> String {
        self.ensure(!text.trim().contains(['\n', '\r']), name, "several_lines", &format!("{name} must be one line"));
        self.required(name, text, max)
    }

    /// A text of at most `max` characters; the text itself, unchanged.
    pub fn limited(&mut self, name: &str, text: &str, max: usize) -> String {
        let fits = text.chars().count() <= max;
        self.ensure(fits, name, "too_long", &format!("{name} may have at most {max} characters"));
        // DynamoDB keeps any text, but control characters break logs, mail and CSV of whoever reads it later.
        let clean = !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
        self.ensure(clean, name, "control_characters", &format!("{name} may not contain control characters"));
        text.to_owned()
    }

    /// An optional text: trimmed, empty means none.
    pub fn optional(&mut self, name: &str, text: Option<&str>, max: usize) -> Option<String> {
        let text = text.map(str::trim).filter(|text| !text.is_empty())?;
        Some(self.limited(name, text, max))
    }

    /// An e-mail address in its stored form: trimmed, lower case.
    pub fn email(&mut self, name: &str, text: &str) -> String {
        let email = text.trim().to_lowercase();
        self.ensure(is_email(&email), name, "invalid_email", &format!("{name} must be an e-mail address"));
        email
    }

    /// A phone number in its stored form: 8 to 18 digits without `+`.
    pub fn phone(&mut self, name: &str, text: &str) -> String {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')')).collect();
        let digits = digits.strip_prefix('+').unwrap_or(&digits).to_owned();
        let valid = (8..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        self.ensure(valid, name, "invalid_phone", &format!("{name} must be a phone number of 8 to 18 digits"));
        digits
    }

    /// A time from `since` to `until`, where both are said.
    pub fn period(&mut self, since: Option<Time>, until: Option<Time>) {
        let holds = since.zip(until).is_none_or(|(since, until)| since <= until);
        self.ensure(holds, "since", "out_of_range", "since may not lie behind until");
    }

    /// The end of the checks.
    ///
    /// # Errors
    /// `validation_error` with every field that was noted.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::fields(self.0)) }
    }
}

/// Whether the text could be an e-mail address: one `@`, a local part, a host with a dot, no blanks, at most 254 long.
#[must_use]
pub fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, ',' | ';' | '<' | '>' | '"' | '@');
    text.len() <= 254
        && !local.is_empty()
        && local.len() <= 64
        && host.contains('.')
        && host.split('.').all(|label| !label.is_empty() && !label.starts_with('-'))
        && local.chars().all(plain)
        && host.chars().all(|c| plain(c) && c != '_')
}

/// The first `max` characters, with an ellipsis when something was cut.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(max).collect();
    if chars.next().is_some() { format!("{}…", head.trim_end()) } else { head }
}

/// What stands before the `@` of an e-mail address: a name for whoever gave none.
#[must_use]
pub fn local_part(email: &str) -> &str {
    email.split('@').next().unwrap_or_default()
}

/// A name that may be shown to somebody who does not know whose it is: one line, shortened, without quotation marks and
/// what cannot be seen. `None` for one that mail programs would make a link of, or that says nothing.
#[must_use]
pub fn harmless_name(name: &str, max: usize) -> Option<String> {
    let seen = name.chars().filter(|c| !is_unseen(*c) && !is_quote(*c));
    let line: String = seen.map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_fit = !line.is_empty() && !is_like_link(&line);
    is_fit.then(|| shorten(&line, max - 1))
}

/// An e-mail address that may be shown to somebody who does not know whose it is: none that holds a link of its own.
#[must_use]
pub fn harmless_address(email: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@');
    Some(email).filter(|email| is_email(email) && email.chars().all(plain))
}

/// What takes no place of its own, or turns the direction of what follows.
const fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

const fn is_quote(c: char) -> bool {
    matches!(c, '"' | '<' | '>' | '\u{ab}' | '\u{bb}' | '\u{201c}'..='\u{201f}' | '\u{ff02}')
}

/// Whether mail programs may make a link of something in it: a dot or a colon within a word, an `@`, two slashes, or as
/// many digits as a phone number has.
fn is_like_link(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let is_dot = |c: char| matches!(c, '.' | '\u{2024}' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}');
    let goes_on = |next: char| next.is_alphanumeric() || matches!(next, '/' | '\\' | '-');
    let joins = |pair: &[char]| (is_dot(pair[0]) || matches!(pair[0], ':' | '\u{ff1a}')) && goes_on(pair[1]);
    chars.windows(2).any(joins)
        || chars.iter().any(|c| matches!(c, '@' | '\u{ff20}' | '\u{fe6b}'))
        || text.contains("//")
        || chars.iter().filter(|c| c.is_numeric()).count() >= 7
}

/// Lower case without accents, in the languages that our users write: what people type differently and mean alike.
#[must_use]
pub fn fold(text: &str) -> String {
    let plain = |c: char| match c {
        'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' => Some('a'),
        'é' | 'è' | 'ê' | 'ë' => Some('e'),
        'í' | 'ì' | 'î' | 'ï' => Some('i'),
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' => Some('o'),
        'ú' | 'ù' | 'û' | 'ü' => Some('u'),
        'ñ' => Some('n'),
        'ç' => Some('c'),
        // Accents that are characters of their own.
        '\u{300}'..='\u{36f}' => None,
        other => Some(other),
    };
    text.chars().flat_map(char::to_lowercase).filter_map(plain).collect()
}

/// Where a folded `needle` is in a text, in bytes of the text as it is written.
#[must_use]
pub fn find_folded(text: &str, needle: &str) -> Option<usize> {
    let folded = fold(text);
    let at = folded.find(needle)?;
    // Folding changes lengths: the place is as many folded characters in.
    let before = folded[..at].chars().count();
    let mut folded_so_far = 0;
    for (place, c) in text.char_indices() {
        if folded_so_far >= before {
            return Some(place);
        }
        folded_so_far += fold(c.encode_utf8(&mut [0; 4])).chars().count();
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_it_is_accented() {
        for (text, needle, at) in [
            ("Envíos a MÉXICO", "mexico", Some(10)),
            ("n\u{303}andu", "nandu", Some(0)),
            ("año nuevo", "nuevo", Some(5)),
            ("año", "ano", Some(0)),
            ("año", "anu", None),
        ] {
            assert_eq!(find_folded(text, &fold(needle)), at, "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_other_texts() {
        for good in ["a@b.co", "first.last+tag@sub.example.com", "ü@exämple.de"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "a@b", "@b.co", "a@", "a b@c.de", "a@b..co", "a@@b.co", "a@b.co\nBcc: x@y.z", "<a@b.co>"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_phone_number_is_stored_as_digits() {
        let mut checks = Checks::new();
        assert_eq!(checks.phone("phone", "+54 (11) 5555-1234"), "541155551234");
        assert!(checks.finish().is_ok());
        let mut checks = Checks::new();
        checks.phone("phone", "12ab");
        assert!(checks.finish().is_err());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mut checks = Checks::new();
        checks.required("name", "  ", 10);
        checks.email("email", "nope");
        checks.limited("notes", "too long", 3);
        let error = checks.finish().unwrap_err();
        let names: Vec<_> = error.invalid_fields().iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["name", "email", "notes"]);
    }
}
