//! Contact details in free text: e-mail address, phone number, name. No regular expressions, no guessing beyond what
//! the visitor plainly wrote.

use super::language::{fold, is_greeting_filler, is_stop, words};

/// What a message says about how to reach its writer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contact {
    /// As typed.
    pub(super) email: Option<String>,
    /// Digits, with a leading `+` if one was typed.
    pub(super) phone: Option<String>,
    /// The message without addresses and numbers.
    pub(super) rest: String,
}

impl Contact {
    pub(super) fn is_some(&self) -> bool {
        self.email.is_some() || self.phone.is_some()
    }
}

/// Finds the first address and the first number of a text.
pub(super) fn find(text: &str) -> Contact {
    let (email, rest) = take_email(text);
    let (phone, rest) = match find_phone(&rest) {
        Some((start, end, phone)) => (Some(phone), format!("{} {}", &rest[..start], &rest[end..])),
        None => (None, rest),
    };
    Contact { email, phone, rest }
}

/// The first e-mail address, and the text without any.
fn take_email(text: &str) -> (Option<String>, String) {
    let in_address = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '@');
    let (mut first, mut rest) = (None, String::with_capacity(text.len()));
    for piece in text.split_inclusive(|c: char| !in_address(c)) {
        let address = piece.trim_end_matches(|c: char| !in_address(c));
        let mark = &piece[address.len()..];
        let address = address.trim_matches(['.', '-']);
        if is_email(address) {
            first.get_or_insert_with(|| address.to_owned());
            // A point behind it ended a sentence.
            rest.push_str(if piece.trim_end_matches(|c: char| !in_address(c)).ends_with('.') { ". " } else { " " });
            rest.push_str(mark);
        } else {
            rest.push_str(piece);
        }
    }
    (first, rest)
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let top = domain.rsplit('.').next().unwrap_or_default();
    (1..=64).contains(&local.len())
        && text.len() <= 254
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label)
        && top.len() >= 2
        && top.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Where the first phone number is, from the first to behind the last digit, and what it is: groups of digits, joined
/// by what people put between them, 8 to 18 digits in all. Dates, and numbers that a word before calls something
/// else, are none.
fn find_phone(text: &str) -> Option<(usize, usize, String)> {
    let groups = digit_groups(text);
    let mut at = 0;
    while at < groups.len() {
        let mut last = at;
        let mut digits = groups[at].1 - groups[at].0;
        while let Some(next) = groups.get(last + 1) {
            let length = next.1 - next.0;
            // A lone digit after a whole number is an amount ("600111222 2 people").
            let fits = digits + length <= 18 && !(digits >= 8 && length == 1);
            if !fits || !is_joint(&text[groups[last].1..next.0]) {
                break;
            }
            digits += length;
            last += 1;
        }
        let chain = &groups[at..=last];
        if is_date(text, chain) {
            at += 3;
        } else if (8..=18).contains(&digits) && !is_other_number(&text[..chain[0].0]) {
            let (start, end) = (chain[0].0, groups[last].1);
            let plus = if text[..start].ends_with('+') { "+" } else { "" };
            let number: String = text[start..end].chars().filter(char::is_ascii_digit).collect();
            return Some((start - plus.len(), end, format!("{plus}{number}")));
        } else {
            at = last + 1;
        }
    }
    None
}

/// The runs of digits that stand alone: not in a word, a time or a fraction.
fn digit_groups(text: &str) -> Vec<(usize, usize)> {
    let mut groups = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_ascii_digit(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                let before = text[..from].chars().next_back();
                let in_word =
                    |c: char| c.is_alphanumeric() || matches!(c, ':' | '/' | '_' | '#' | '@' | '%' | '€' | '$');
                if !before.is_some_and(in_word) && !in_word(c) {
                    groups.push((from, at));
                }
                start = None;
            }
            _ => {}
        }
    }
    groups
}

fn is_joint(between: &str) -> bool {
    matches!(between, " " | "-" | "." | "(" | ")" | ") " | " (" | ")-" | " - " | "\u{a0}")
}

fn is_date(text: &str, groups: &[(usize, usize)]) -> bool {
    let [first, second, third, ..] = groups else { return false };
    let length = |group: &(usize, usize)| group.1 - group.0;
    let year = |group: &(usize, usize)| ["19", "20"].iter().any(|century| text[group.0..].starts_with(century));
    let lengths = (length(first), length(second), length(third));
    let mark = &text[first.1..second.0];
    matches!(mark, "-" | ".")
        && mark == &text[second.1..third.0]
        && ((lengths == (4, 2, 2) && year(first)) || (matches!(lengths, (1..=2, 1..=2, 4)) && year(third)))
}

/// Whether the last words before a number call it an order, a document or a card.
fn is_other_number(before: &str) -> bool {
    const OTHERS: [&str; 18] = [
        "order",
        "pedido",
        "invoice",
        "factura",
        "fatura",
        "ref",
        "reference",
        "referencia",
        "ticket",
        "tracking",
        "sku",
        "dni",
        "nif",
        "cpf",
        "rut",
        "id",
        "iban",
        "cuenta",
    ];
    words(before).iter().rev().take(3).any(|word| OTHERS.contains(&word.as_str()))
}

/// The name that a visitor gives: "my name is …", "soy …", "me chamo …".
pub(super) fn introduced(text: &str) -> Option<String> {
    // With the strong ones a name may be in lower case, too; "I am" and its like go before much else.
    const STRONG: [&[&str]; 6] = [
        &["my", "name", "is"],
        &["mi", "nombre", "es"],
        &["me", "llamo"],
        &["meu", "nome", "e"],
        &["me", "chamo"],
        &["call", "me"],
    ];
    const WEAK: [&[&str]; 7] =
        [&["i", "am"], &["im"], &["this", "is"], &["soy"], &["sou", "o"], &["sou", "a"], &["sou"]];
    const LABELS: [&str; 3] = ["name:", "nombre:", "nome:"];
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let folded: Vec<String> = tokens.iter().map(|token| words(token).concat()).collect();
    for at in 0..tokens.len() {
        let begins =
            |pattern: &&[&str]| folded[at..].iter().map(String::as_str).take(pattern.len()).eq(pattern.iter().copied());
        let strong = STRONG.iter().find(|pattern| begins(pattern)).map(|pattern| pattern.len());
        let strong = strong.or_else(|| LABELS.contains(&fold(tokens[at]).as_str()).then_some(1));
        let weak = WEAK.iter().find(|pattern| begins(pattern)).map(|pattern| pattern.len());
        let name = match (strong, weak) {
            (Some(length), _) => name_at(&tokens[at + length..], true),
            (None, Some(length)) => name_at(&tokens[at + length..], false),
            (None, None) => None,
        };
        if name.is_some() {
            return name;
        }
    }
    None
}

/// The name that a message with contact details consists of otherwise: "Ana Pérez, ana@…".
pub(super) fn bare(rest: &str) -> Option<String> {
    let says_something = |token: &&&str| {
        let word = words(token).concat();
        !word.is_empty() && !is_stop(&word) && !is_label(&word) && !is_greeting_filler(&word)
    };
    let tokens: Vec<&str> = rest.split_whitespace().collect();
    let named: Vec<&str> = tokens.iter().filter(says_something).map(|token| clean(token)).collect();
    let all_names = named.iter().all(|token| is_name_word(token) && token.starts_with(char::is_uppercase));
    ((1..=4).contains(&named.len()) && all_names).then(|| named.join(" "))
}

fn name_at(tokens: &[&str], any_case: bool) -> Option<String> {
    const PARTICLES: [&str; 9] = ["de", "del", "da", "dos", "das", "do", "la", "van", "von"];
    let mut name: Vec<String> = Vec::new();
    let mut lower = false;
    for (at, token) in tokens.iter().take(5).enumerate() {
        let word = clean(token);
        let capital = |word: &str| word.starts_with(char::is_uppercase);
        let particle = at > 0 && PARTICLES.contains(&word) && tokens.get(at + 1).is_some_and(|next| capital(next));
        let plain = words(word).concat();
        if !is_name_word(word) || (!particle && (is_stop(&plain) || is_label(&plain))) {
            break;
        }
        lower |= at == 0 && !capital(word);
        if !(capital(word) || particle || (lower && any_case)) {
            break;
        }
        name.push(if lower { capitalise(word) } else { word.to_owned() });
        if token.ends_with([',', '.', ';', '!', '?', ':']) {
            break;
        }
    }
    (!name.is_empty()).then(|| name.join(" "))
}

fn is_label(word: &str) -> bool {
    const LABELS: [&str; 20] = [
        "email",
        "mail",
        "correo",
        "phone",
        "telephone",
        "telefono",
        "telefone",
        "tel",
        "cel",
        "celular",
        "movil",
        "mobile",
        "whatsapp",
        "number",
        "numero",
        "name",
        "nombre",
        "nome",
        "contact",
        "contacto",
    ];
    LABELS.contains(&word)
}

fn is_name_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphabetic() || matches!(c, '-' | '\'' | '’'))
}

fn clean(token: &str) -> &str {
    token.trim_matches(|c: char| !c.is_alphanumeric())
}

fn capitalise(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_wherever_they_stand() {
        let table = [
            ("write to ana@example.com.", Some("ana@example.com")),
            ("Email:ana.p+x@sub.example.co, ok?", Some("ana.p+x@sub.example.co")),
            ("<mailto:a@b.io>", Some("a@b.io")),
            ("mi correo es ana_perez@ejemplo.es y ya", Some("ana_perez@ejemplo.es")),
            ("a@b", None),
            ("@ana on x.com", None),
            ("a@-b.com", None),
            ("a@b.c0m", None),
            ("..@b.com", None),
        ];
        for (text, email) in table {
            assert_eq!(find(text).email.as_deref(), email, "{text}");
        }
    }

    #[test]
    fn numbers_of_8_to_18_digits_are_phones_unless_they_are_something_else() {
        let table = [
            ("+34 600 111 222", Some("+34600111222")),
            ("(555) 123-4567", Some("5551234567")),
            ("+1 (555) 123-4567 after 5", Some("+15551234567")),
            ("600111222. 3 people", Some("600111222")),
            ("600111222 at 10:30", Some("600111222")),
            ("12345678", Some("12345678")),
            ("1234567", None),
            ("1234567890123456789", None),
            ("on 2026-05-14 at 10:30", None),
            ("14.05.2026", None),
            ("14/05/2026", None),
            ("order number 12345678", None),
            ("mi pedido es el 12345678", None),
            ("ABC12345678", None),
            ("from 9:00 to 18:00, 10 000 €", None),
        ];
        for (text, phone) in table {
            assert_eq!(find(text).phone.as_deref(), phone, "{text}");
        }
        assert_eq!(find("a@b.com +34 600 111 222 ok").rest.split_whitespace().collect::<Vec<_>>(), ["ok"]);
    }

    #[test]
    fn names_are_taken_where_they_are_given() {
        let table = [
            ("My name is Ana Pérez and I need help", Some("Ana Pérez")),
            ("my name is ana, hi", Some("Ana")),
            ("Hi, I'm Bob.", Some("Bob")),
            ("I'm interested in the plan", None),
            ("I am looking for Bob", None),
            ("Me llamo María del Mar López", Some("María del Mar López")),
            ("hola soy Juan", Some("Juan")),
            ("soy de Madrid", None),
            ("Meu nome é João da Silva, obrigado", Some("João da Silva")),
            ("Sou a Maria", Some("Maria")),
            ("Nombre: Eva", Some("Eva")),
        ];
        for (text, name) in table {
            assert_eq!(introduced(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn what_is_left_beside_contact_details_may_be_a_name() {
        let table = [
            ("Ana Pérez, ana@example.com", Some("Ana Pérez")),
            ("Hola, Juan 600111222", Some("Juan")),
            ("Email: ana@example.com", None),
            ("my email is ana@example.com", None),
            ("Please send the Catalogue to ana@example.com", None),
        ];
        for (text, name) in table {
            assert_eq!(bare(&find(text).rest).as_deref(), name, "{text}");
        }
    }
}
