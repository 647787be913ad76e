//! Days and times in free text. They are cut out, and understood where nothing is left open: a day by its name or its date,
//! and a time. What "tomorrow" is, the time that the prompt tells says.

use super::language::{fold, has_any, spaced};
use crate::kernel::Day;

/// The day that the prompt says it is: where appointments are, if it tells that, else that of UTC.
pub(super) fn today(system: &str) -> Option<Day> {
    let told = system.rsplit("- It is ").next().filter(|told| told.len() < system.len())?;
    let (_, date) = told.lines().next()?.split_once(", ")?;
    Day::parse(date.get(..10)?)
}

/// The day and time of a message in a calendar's form, `2040-03-06 15:00`, or the day alone: of what [`when`] cut out of
/// it, and only if every word of that is understood, and no word of the message turns it into something else.
pub(super) fn moment(message: &str, cut: &str, today: Day) -> Option<String> {
    const TURNS: &str = "\
        not, cant, cannot, wont, dont, except, after, before, until, between, instead, no puedo, no me, no quiero, nada, \
        excepto, despues, antes, hasta, entre, menos, nao, exceto, ate, depois";
    const LATER: [&str; 3] = [" day after tomorrow ", " pasado manana ", " depois de amanha "];
    let mut said = spaced(message);
    for later in LATER {
        said = said.replace(later, " tomorrow ");
    }
    if has_any(&said, TURNS) {
        return None;
    }
    let mut read = Read { today, day: None, hour: None, minute: 0, half: None, is_exact: false };
    let folded = fold(cut).replace("p.m.", "pm").replace("a.m.", "am").replace("p.m", "pm").replace("a.m", "am");
    let tokens: Vec<&str> = folded
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | '.' | '!' | '?' | '(' | ')'))
        .filter(|token| !token.is_empty())
        .collect();
    let mut at = 0;
    while at < tokens.len() {
        at += read.take(&tokens[at..], at.checked_sub(1).map_or("", |before| tokens[before]))?;
    }
    read.written()
}

/// What is understood so far.
struct Read {
    today: Day,
    day: Option<Day>,
    hour: Option<u32>,
    minute: u32,
    /// Whether it is the second half of the day, where that is said.
    half: Option<bool>,
    /// Whether the hour is one of the twenty-four by how it is written: `03:00`, `3h`.
    is_exact: bool,
}

impl Read {
    /// Reads the next words, and says how many; `None` when they are not understood, or say something twice.
    fn take(&mut self, tokens: &[&str], before: &str) -> Option<usize> {
        const FILLERS: &str = " on at el la las los a as de do da em no na para por this next este esta proximo proxima que viene \
            vem in the o'clock oclock ";
        match tokens {
            ["day", "after", "tomorrow", ..] => self.on(2, 3),
            ["depois", "de", "amanha", ..] => self.on(2, 3),
            ["pasado", "manana", ..] => self.on(2, 2),
            ["de" | "da" | "por" | "pela", "la", "manana", ..] => self.half(false, 3),
            ["de" | "por", "la", "tarde" | "noche", ..] => self.half(true, 3),
            ["da" | "de" | "pela", "manha", ..] => self.half(false, 2),
            ["da" | "de" | "pela", "tarde" | "noite", ..] => self.half(true, 2),
            ["in", "the", "morning", ..] => self.half(false, 3),
            ["in", "the", "afternoon" | "evening", ..] => self.half(true, 3),
            ["morning", ..] => self.half(false, 1),
            ["afternoon" | "evening", ..] => self.half(true, 1),
            ["today" | "hoy" | "hoje", ..] => self.on(0, 1),
            ["tomorrow" | "manana" | "amanha", ..] => self.on(1, 1),
            ["noon" | "midday" | "mediodia", ..] => self.at(12, 0, 1),
            ["am", ..] if self.hour.is_some() => self.half(false, 1),
            ["pm", ..] if self.hour.is_some() => self.half(true, 1),
            ["h" | "hs" | "hrs" | "horas" | "hora", ..] if self.hour.is_some() => Some(1),
            [word, ..] if FILLERS.contains(&format!(" {word} ")) => Some(1),
            [word, ..] => self.word(word, before),
            [] => None,
        }
    }

    fn word(&mut self, word: &str, before: &str) -> Option<usize> {
        if let Some(weekday) = weekday(word) {
            let days = (weekday + 7 - i32::from(self.today.weekday())) % 7;
            // Whoever means today says so.
            return self.on(if days == 0 { 7 } else { days }, 1);
        }
        if let Some(day) = Day::parse(word) {
            return self.day.replace(day).is_none().then_some(1);
        }
        let (number, rest) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len()));
        let hour: u32 = number.parse().ok().filter(|_| number.len() <= 2)?;
        let is_clock = |minute: &str| minute.len() == 2 && minute.bytes().all(|byte| byte.is_ascii_digit());
        let (minute, mark) = match rest.split_at_checked(3) {
            Some((minute, mark)) if minute.starts_with([':', 'h']) && is_clock(&minute[1..]) => {
                (minute[1..].parse().ok()?, mark)
            }
            _ => (0, rest),
        };
        self.is_exact = number.starts_with('0') || rest.starts_with('h');
        match mark {
            "am" => self.half(false, 1)?,
            "pm" => self.half(true, 1)?,
            "h" | "hs" | "hrs" => 1,
            // A number by itself is an hour only where it is said to be one.
            "" if rest.is_empty() && !matches!(before, "at" | "las" | "la" | "as") => return None,
            "" => 1,
            _ => return None,
        };
        self.at(hour, minute, 1)
    }

    fn on(&mut self, days: i32, words: usize) -> Option<usize> {
        self.day.replace(self.today.plus(days)).is_none().then_some(words)
    }

    fn half(&mut self, second: bool, words: usize) -> Option<usize> {
        self.half.replace(second).is_none().then_some(words)
    }

    fn at(&mut self, hour: u32, minute: u32, words: usize) -> Option<usize> {
        self.minute = minute;
        (hour < 24 && minute < 60 && self.hour.replace(hour).is_none()).then_some(words)
    }

    /// The day, with the time if there is one; `None` when it may be another time.
    fn written(self) -> Option<String> {
        let date = self.day?.date();
        let Some(hour) = self.hour else { return Some(date.to_string()) };
        let hour = match (hour, self.half) {
            (12, Some(false)) => 0,
            (1..=11, Some(true)) => hour + 12,
            (13.., Some(false)) => return None,
            // "At three" is in the afternoon or in the night.
            (1..=7, None) if !self.is_exact => return None,
            (hour, _) => hour,
        };
        Some(format!("{date} {hour:02}:{:02}", self.minute))
    }
}

/// The weekday that a folded word names, 0 for Sunday.
fn weekday(word: &str) -> Option<i32> {
    const NAMES: [&str; 7] = [
        " sunday domingo ",
        " monday lunes segunda segunda-feira ",
        " tuesday martes terca terca-feira ",
        " wednesday miercoles quarta quarta-feira ",
        " thursday jueves quinta quinta-feira ",
        " friday viernes sexta sexta-feira ",
        " saturday sabado ",
    ];
    let found = NAMES.iter().position(|names| names.contains(&format!(" {word} ")))?;
    i32::try_from(found).ok()
}

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
        || matches!((word, after, beyond), ("day", "after", "tomorrow") | ("depois", "de", "amanha"))
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
    fn a_time_is_understood_by_the_day_that_it_is_where_nothing_is_left_open() {
        // A Monday.
        let today = today("You are Luna.\n- It is Sunday, no day.\n- It is Monday, 2040-03-05 09:00 UTC.").unwrap();
        let table = [
            ("I'd like to come tomorrow at 3pm", Some("2040-03-06 15:00")),
            ("tomorrow at 3 PM, please", Some("2040-03-06 15:00")),
            ("today at 15:00", Some("2040-03-05 15:00")),
            ("an appointment on Tuesday at 10:30", Some("2040-03-06 10:30")),
            ("next Monday at 9am", Some("2040-03-12 09:00")),
            ("Friday at 12 p.m.", Some("2040-03-09 12:00")),
            ("Friday at noon", Some("2040-03-09 12:00")),
            ("the day after tomorrow at 11:00", Some("2040-03-07 11:00")),
            ("Wednesday in the morning", Some("2040-03-07")),
            ("una cita mañana a las 10", Some("2040-03-06 10:00")),
            ("mañana por la mañana", Some("2040-03-06")),
            ("mañana a las 3 de la tarde", Some("2040-03-06 15:00")),
            ("pasado mañana a las 16:30", Some("2040-03-07 16:30")),
            ("el miércoles que viene a las 9 de la mañana", Some("2040-03-07 09:00")),
            ("hoy a las 18h", Some("2040-03-05 18:00")),
            ("amanhã às 15h", Some("2040-03-06 15:00")),
            ("depois de amanhã às 10h30", Some("2040-03-07 10:30")),
            ("na sexta-feira às 3 da tarde", Some("2040-03-09 15:00")),
            ("terça às 08:00", Some("2040-03-06 08:00")),
            ("hoje às 14:15", Some("2040-03-05 14:15")),
            ("2040-03-20 at 10:00", Some("2040-03-20 10:00")),
            // Left open, so that it is asked.
            ("tomorrow at 3", None),
            ("martes 14 de mayo a las 15:30", None),
            ("tomorrow or Friday at 10:00", None),
            ("not tomorrow at 10:00", None),
            ("after 3pm tomorrow", None),
            ("no puedo el martes a las 10", None),
            ("at 10:00", None),
            ("tomorrow from 10:00 to 12:00", None),
            ("Tuesday at 25:00", None),
            ("next week", None),
        ];
        for (message, expected) in table {
            let cut = when(message).expect(message);
            assert_eq!(moment(message, &cut, today).as_deref(), expected, "{message}: {cut}");
        }
        assert_eq!(super::today("You are Luna."), None);
    }

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
            ("the day after tomorrow at 9", Some("day after tomorrow at 9")),
            ("the plan costs 20 per person", None),
        ];
        for (text, expected) in table {
            assert_eq!(when(text).as_deref(), expected, "{text}");
        }
    }
}
