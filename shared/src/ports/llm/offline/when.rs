//! Days and times in free text. They are cut out, not understood: what "tomorrow" is, a calendar has to say.

use super::language::fold;

/// The day and time of a text, in the visitor's own words: from the first word that names one to the last.
pub(super) fn when(text: &str) -> Option<String> {
    const FAR: usize = 6;
    let mut tokens: Vec<(usize, &str, String)> = Vec::new();
    let mut at = 0;
    for piece in text.split_inclusive(char::is_whitespace) {
        let token = piece.trim();
        if !token.is_empty() {
            let folded = fold(token);
            tokens.push((at, token, folded.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()));
        }
        at += piece.len();
    }
    let word = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", |token| token.2.as_str());
    let names_time = |at: usize| {
        let before = at.checked_sub(1);
        let farther = at.checked_sub(2);
        is_time([word(farther), word(before), word(Some(at)), word(Some(at + 1)), word(Some(at + 2))])
    };
    let marks: Vec<usize> = (0..tokens.len()).filter(|at| names_time(*at)).collect();
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for mark in marks {
        match spans.last_mut() {
            Some((_, last)) if mark - *last <= FAR => *last = mark,
            _ => spans.push((mark, mark)),
        }
    }
    let shown = |(first, last): &(usize, usize)| {
        let (start, end) = (tokens[*first].0, tokens[*last].0 + tokens[*last].1.len());
        text[start..end].trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
    };
    let when = spans.iter().map(shown).collect::<Vec<_>>().join(", ");
    (!when.is_empty()).then(|| when.chars().take(120).collect())
}

/// Whether the middle one of five folded words names a day or a time.
fn is_time([farther, before, word, after, beyond]: [&str; 5]) -> bool {
    const DAYS: &str = " \
        monday tuesday wednesday thursday friday saturday sunday today tomorrow tonight weekend noon midday lunes \
        martes miercoles jueves viernes sabado domingo hoy manana pasado mediodia segunda segunda-feira terca \
        terca-feira quarta quarta-feira quinta quinta-feira sexta sexta-feira hoje amanha ";
    const PARTS: &str = " morning afternoon evening tarde noche manha noite ";
    const GOOD: &str = " good buen buena buenas buenos bom boa ";
    const MONTHS: &str = " \
        january february march april may june july august september october november december enero febrero marzo \
        abril mayo junio julio agosto septiembre octubre noviembre diciembre janeiro fevereiro marco maio junho julho \
        setembro outubro novembro dezembro ";
    const UNITS: &str = " am pm a.m p.m h hs hrs horas hora o'clock oclock uhr ";
    let is_in = |list: &str, word: &str| !word.is_empty() && list.contains(&format!(" {word} "));
    let number = |word: &str| (1..=2).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    let month_beside = is_in(MONTHS, after) || (after == "de" && is_in(MONTHS, beyond)) || is_in(MONTHS, before);
    let number_beside = number(before)
        || (before == "de" && number(farther))
        || is_ordinal(before)
        || number(after)
        || is_ordinal(after);
    (is_in(DAYS, word) && !is_in(GOOD, before))
        || (is_in(PARTS, word) && !is_in(GOOD, before))
        || (matches!(word, "week" | "month" | "semana" | "mes")
            && matches!(before, "next" | "this" | "proxima" | "proximo" | "esta" | "este"))
        || (is_in(MONTHS, word) && number_beside)
        || (number(word)
            && (month_beside
                || is_in(UNITS, after)
                || matches!(before, "at" | "las" | "la" | "as" | "el" | "dia" | "the" | "on")))
        || (is_in(UNITS, word) && number(before))
        || (is_ordinal(word) && (month_beside || before == "the"))
        || is_clock_or_date(word)
}

fn is_ordinal(word: &str) -> bool {
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(&word[number.len()..], "st" | "nd" | "rd" | "th")
}

/// `10:30`, `10am`, `10h30`, `15h`, `14/05`, `14/05/2026`, `2026-05-14`, also with `T10:30`.
fn is_clock_or_date(word: &str) -> bool {
    let parts: Vec<&str> = word.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let marks: String = word.chars().filter(|c| !c.is_ascii_digit()).collect();
    let small = |part: &&str| part.len() <= 2;
    match marks.as_str() {
        ":" | "h" | ":h" | ":am" | ":pm" | ":hs" | "am" | "pm" | "hs" | "hrs" | "a.m" | "p.m" => {
            !parts.is_empty()
                && parts.len() <= 2
                && parts.iter().all(small)
                && word.starts_with(|c: char| c.is_ascii_digit())
        }
        "/" => parts.len() == 2 && parts.iter().all(small),
        "//" | "--" | ".." => parts.len() == 3 && parts.iter().any(|part| part.len() == 4),
        "--t:" | "--t::" | "--t:z" | "--t::z" => parts.len() >= 5,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_out_in_the_visitors_words() {
        let table = [
            ("I'd like an appointment on Tuesday at 3pm please", Some("Tuesday at 3pm")),
            ("Can I book a table for 4 people tomorrow at 8:30?", Some("tomorrow at 8:30")),
            ("quiero una cita el martes 14 de mayo a las 15:30 por favor", Some("martes 14 de mayo a las 15:30")),
            ("mañana por la tarde", Some("mañana por la tarde")),
            ("buenas tardes, quiero una cita", None),
            ("Quero marcar para sexta-feira às 10h", Some("sexta-feira às 10h")),
            ("amanhã de manhã", Some("amanhã de manhã")),
            ("May 5th works", Some("May 5th")),
            ("may I book a demo", None),
            ("2026-05-14 at 10:00 is fine", Some("2026-05-14 at 10:00")),
            ("next week", Some("week")),
            ("the plan costs 20 per person", None),
        ];
        for (text, expected) in table {
            assert_eq!(when(text).as_deref(), expected, "{text}");
        }
    }
}
