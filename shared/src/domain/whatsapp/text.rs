//! Text as `WhatsApp` shows it: its own marks instead of Markdown's, and no message longer than it takes.

/// The longest text of one message.
const MAX_TEXT: usize = 4_096;

/// Markdown in `WhatsApp`'s marks: one star for bold, bold lines for headings, addresses in the open.
#[must_use]
pub fn formatted(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        match heading.strip_prefix(' ') {
            Some(title) if (1..=6).contains(&level) => format!("*{}*", title.trim().replace("**", "")),
            _ => linked(line).replace("**", "*"),
        }
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// `[words](address)` as `words (address)`.
fn linked(line: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(line.len()), line);
    while let Some((before, words, address, after)) = link(rest) {
        out.push_str(before);
        out.push_str(&if words == address { address.to_owned() } else { format!("{words} ({address})") });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn link(text: &str) -> Option<(&str, &str, &str, &str)> {
    let middle = text.find("](http")?;
    let open = text[..middle].rfind('[')?;
    let close = middle + text[middle..].find(')')?;
    Some((&text[..open], &text[open + 1..middle], &text[middle + 2..close], &text[close + 1..]))
}

/// Cuts a text into messages, at the end of a paragraph, a line or a word where there is one in the second half.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    while width(rest) > MAX_TEXT {
        let end = fitting(rest);
        let head = &rest[..end];
        let at = ["\n\n", "\n", " "].into_iter().find_map(|mark| head.rfind(mark).filter(|at| *at > end / 2));
        let (part, after) = rest.split_at(at.unwrap_or(end));
        parts.push(part.trim().to_owned());
        rest = after.trim();
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest.to_owned());
    }
    parts
}

/// How long phones count a text to be: in units of UTF-16, which is never less than in characters.
fn width(text: &str) -> usize {
    text.encode_utf16().count()
}

/// How many bytes of a text fit one message.
fn fitting(text: &str) -> usize {
    let mut used = 0;
    let over = text.char_indices().find(|(_, c)| {
        used += c.len_utf16();
        used > MAX_TEXT
    });
    over.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markdown_becomes_the_marks_that_phones_show() {
        let text = "## Prices\n\n**Small**: 5 €, see [the list](https://example.com/a).\n#hashtag, 2 ** 3";
        let shown = "*Prices*\n\n*Small*: 5 €, see the list (https://example.com/a).\n#hashtag, 2 * 3";
        assert_eq!(formatted(text), shown);
        assert_eq!(formatted("[x](y) and [a](https://a"), "[x](y) and [a](https://a");
    }

    #[test]
    fn a_long_text_is_cut_where_a_paragraph_ends() {
        let (one, two) = ("a ".repeat(1_500), "b ".repeat(1_500));
        let parts = split(&format!("{one}\n\n{two}"));
        assert_eq!(parts, [one.trim(), two.trim()]);
        assert_eq!(split(""), [""]);
    }

    proptest! {
        #[test]
        fn nothing_but_space_is_lost_and_every_part_fits(text in "[a-zé😀 \n]{0,12000}") {
            let parts = split(&text);
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(bare(&parts.concat()), bare(&text));
            prop_assert!(parts.iter().all(|part| width(part) <= MAX_TEXT));
        }
    }
}
