//! The sentences of an answer: what the tools did, then what each of the visitor's messages gets.

use std::collections::HashSet;

use serde_json::Value;

use super::intents::Small;
use super::knowledge::Knowledge;
use super::language::{detect, fold, sentences, words};
use super::mood::is_instruction;
use super::phrases::*;
use super::{Asked, CAPTURE_LEAD, HANDOFF, Outcome, SCHEDULE, Turn, brief, offered, written};
use crate::ports::llm::{PREVIEW, Request};

/// The whole answer to a turn.
pub(super) fn compose(request: &Request, turn: &Turn<'_>) -> String {
    let lang = written(request).find_map(detect).unwrap_or(Lang::En);
    let mut reply = Reply {
        request,
        lang,
        before: turn.before,
        several: turn.asked.len() > 1,
        knowledge: Knowledge::read(&request.system),
        called: turn.results.iter().map(|outcome| outcome.tool).collect(),
        parts: Vec::new(),
        offers: false,
    };
    for outcome in &turn.results {
        let sentence = confirmation(lang, outcome);
        reply.parts.push(sentence);
    }
    if turn.asked.iter().any(|asked| asked.shows) {
        reply.parts.push(NO_IMAGES.of(lang).to_owned());
    }
    for asked in &turn.asked {
        reply.answer(asked);
    }
    reply.finish(turn)
}

struct Reply<'a> {
    request: &'a Request,
    lang: Lang,
    before: &'a str,
    /// Whether several messages are answered at once: each must then be recognisable in the answer.
    several: bool,
    knowledge: Knowledge,
    /// The tools that this turn has called.
    called: HashSet<&'a str>,
    parts: Vec<String>,
    /// Whether contact details are worth offering to take.
    offers: bool,
}

impl Reply<'_> {
    fn answer(&mut self, asked: &Asked<'_>) {
        let parts_before = self.parts.len();
        let reading = &asked.reading;
        if let Some(small) = reading.small {
            let sentence = self.small(small);
            self.parts.push(sentence);
        }
        self.intents(asked);
        for question in &reading.questions {
            self.look_up(question);
        }
        let silent = self.parts.len() == parts_before;
        if silent && reading.name.is_some() && !reading.contact.is_some() {
            let sentence = NICE_TO_MEET.with(self.lang, reading.name.as_deref().unwrap_or_default());
            self.parts.push(sentence);
        } else if silent && reading.greeting && !self.was_acted_on(asked) {
            let sentence = self.greeting();
            self.parts.push(sentence);
        } else if silent && self.several && !self.was_acted_on(asked) {
            self.parts.push(NOTED_ABOUT.with(self.lang, &quoted(asked.text)));
        }
    }

    /// Whether a tool was called for what the message wants.
    fn was_acted_on(&self, asked: &Asked<'_>) -> bool {
        let reading = &asked.reading;
        (reading.contact.is_some() && self.called.contains(CAPTURE_LEAD))
            || (reading.handoff && self.called.contains(HANDOFF))
            || self.called.contains(SCHEDULE)
    }

    /// What intents get whose tool was not called: it is not offered, or something is missing.
    fn intents(&mut self, asked: &Asked<'_>) {
        let reading = &asked.reading;
        if reading.contact.is_some() && offered(self.request, CAPTURE_LEAD).is_none() {
            self.parts.push(NO_LEADS.of(self.lang).to_owned());
        }
        if reading.handoff && offered(self.request, HANDOFF).is_none() {
            self.look_up_or(asked.text, &NO_HANDOFF);
        }
        if reading.appointment.is_some() && !self.called.contains(SCHEDULE) {
            if offered(self.request, SCHEDULE).is_some() {
                self.parts.push(ASK_WHEN.of(self.lang).to_owned());
            } else {
                self.look_up_or(asked.text, &NO_APPOINTMENTS);
            }
        }
    }

    fn look_up_or(&mut self, question: &str, otherwise: &Phrase) {
        let passages = self.knowledge.answer(question);
        if passages.is_empty() {
            self.parts.push(otherwise.of(self.lang).to_owned());
            self.offers = true;
        } else {
            self.parts.push(joined(&passages));
        }
    }

    fn look_up(&mut self, question: &str) {
        let passages = self.knowledge.answer(question);
        if !passages.is_empty() {
            self.parts.push(joined(&passages));
            return;
        }
        self.offers = true;
        self.parts.push(if self.several {
            UNKNOWN_ABOUT.with(self.lang, &quoted(question))
        } else {
            UNKNOWN.of(self.lang).to_owned()
        });
    }

    fn small(&self, small: Small) -> String {
        let lang = self.lang;
        let name = agent_name(&self.request.system);
        match small {
            Small::Thanks => YOU_ARE_WELCOME.of(lang).to_owned(),
            Small::Bye => BYE.of(lang).to_owned(),
            Small::No => ALL_RIGHT.of(lang).to_owned(),
            Small::Yes if OFFER.is_in(self.before) && offered(self.request, CAPTURE_LEAD).is_some() => {
                ASK_CONTACT.of(lang).to_owned()
            }
            Small::Yes => HOW_CAN_I_HELP.of(lang).to_owned(),
            Small::Identity => {
                name.map_or_else(|| AUTOMATED.of(lang).to_owned(), |name| AUTOMATED_AS.with(lang, &name))
            }
            Small::Help => {
                let skills = [(CAPTURE_LEAD, CAN_TAKE_CONTACT), (HANDOFF, CAN_HAND_OFF), (SCHEDULE, CAN_SCHEDULE)];
                let offered = skills.iter().filter(|(tool, _)| offered(self.request, tool).is_some());
                let sentences = std::iter::once(CAN_ANSWER.of(lang)).chain(offered.map(|(_, phrase)| phrase.of(lang)));
                sentences.collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn greeting(&self) -> String {
        let lang = self.lang;
        let name = agent_name(&self.request.system).map(|name| I_AM.with(lang, &name));
        let sentences = [Some(HELLO.of(lang).to_owned()), name, Some(HOW_CAN_I_HELP.of(lang).to_owned())];
        sentences.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn finish(mut self, turn: &Turn<'_>) -> String {
        if self.parts.is_empty() {
            // Nothing was asked (yet), or nothing that has words.
            let begins = turn.asked.is_empty() && self.before.is_empty();
            return if begins { self.greeting() } else { HOW_CAN_I_HELP.of(self.lang).to_owned() };
        }
        let greeted = self.parts.iter().any(|part| part.starts_with(HELLO.of(self.lang)));
        if turn.asked.iter().any(|asked| asked.reading.greeting) && turn.results.is_empty() && !greeted {
            self.parts.insert(0, HELLO.of(self.lang).to_owned());
        }
        if self.offers && offered(self.request, CAPTURE_LEAD).is_some() && !self.called.contains(CAPTURE_LEAD) {
            self.parts.push(OFFER.of(self.lang).to_owned());
        }
        let mut seen = HashSet::new();
        self.parts.retain(|part| seen.insert(part.clone()));
        self.parts.join(" ")
    }
}

/// What a tool did, in the visitor's language. A `message` in the result is meant for the visitor and is said; a link
/// or the plain fields of the result go along.
fn confirmation(lang: Lang, outcome: &Outcome<'_>) -> String {
    let content: Value = serde_json::from_str(outcome.content).unwrap_or_else(|_| outcome.content.into());
    // What is said of a preview is meant for a model that reads.
    let content = if content[PREVIEW] == true { Value::Null } else { content };
    let said = match &content {
        Value::String(text) => Some(text.as_str()),
        content => content["message"].as_str().or(content["error"].as_str().filter(|_| outcome.is_error)),
    };
    let said = said.map(|text| closed(&brief(text, 600))).filter(|text| !text.is_empty());
    if outcome.is_error {
        return said.map_or_else(|| FAILED.of(lang).to_owned(), |said| SORRY.with(lang, &said));
    }
    let done = done(lang, outcome, &content);
    let sentence = match (said, done) {
        // A tool may speak another language than the visitor: then the visitor is told in theirs first.
        (Some(said), Some(done)) if detect(&said).is_some_and(|spoken| spoken != lang) => format!("{done} {said}"),
        (Some(said), _) => format!("{} {said}", DONE.of(lang)),
        (None, Some(done)) => done,
        (None, None) => {
            fields(&content).map_or_else(|| DONE.of(lang).to_owned(), |fields| DONE_WITH.with(lang, &fields))
        }
    };
    let link = ["url", "link", "whatsapp_url"].iter().find_map(|name| content[*name].as_str());
    match link.filter(|link| !sentence.contains(*link)) {
        Some(link) => format!("{sentence} {link}"),
        None => sentence,
    }
}

/// What a tool that this model knows did, by its call.
fn done(lang: Lang, outcome: &Outcome<'_>, content: &Value) -> Option<String> {
    let argument = |name: &str| outcome.arguments.and_then(|arguments| arguments[name].as_str());
    match outcome.tool {
        CAPTURE_LEAD => {
            Some(argument("name").map_or_else(|| LEAD_DONE.of(lang).to_owned(), |name| LEAD_DONE_FOR.with(lang, name)))
        }
        HANDOFF => Some(HANDOFF_DONE.of(lang).to_owned()),
        SCHEDULE if content["booked"] == true => {
            content["when"].as_str().map(|when| APPOINTMENT_BOOKED.with(lang, when))
        }
        SCHEDULE => argument("when").or(content["when"].as_str()).map(|when| APPOINTMENT_DONE.with(lang, when)),
        _ => None,
    }
}

/// The plain fields of a result, at most four: "status: ok, total: 3".
fn fields(content: &Value) -> Option<String> {
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{name}: {}", brief(text, 120))),
        Value::Number(_) | Value::Bool(_) => Some(format!("{name}: {value}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let shown: Vec<String> = content.as_object()?.iter().filter_map(field).take(4).collect();
    (!shown.is_empty()).then(|| format!("{}.", shown.join(", ")))
}

fn joined(passages: &[&str]) -> String {
    passages.iter().map(|passage| closed(passage)).collect::<Vec<_>>().join(" ")
}

/// With a mark at its end, so that another sentence can follow.
fn closed(text: &str) -> String {
    let open = text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '€' | '$' | '%' | '"'));
    if open && !text.rsplit(char::is_whitespace).next().is_some_and(|word| word.contains("://")) {
        format!("{text}.")
    } else {
        text.to_owned()
    }
}

/// The visitor's own words, short and without anything that a page could take for markup.
fn quoted(text: &str) -> String {
    let plain: String =
        text.chars().filter(|c| !matches!(c, '<' | '>' | '`' | '*' | '[' | ']' | '«' | '»' | '“' | '”')).collect();
    brief(&plain, 60)
}

/// The agent's name: from "You are <name>" or its like, else a first line that is nothing but a name.
fn agent_name(system: &str) -> Option<String> {
    const MARKS: [&str; 14] = [
        "you are ",
        "you're ",
        "your name is ",
        "tu nombre es ",
        "te llamas ",
        "eres ",
        "você é ",
        "voce e ",
        "seu nome é ",
        "name:",
        "nombre:",
        "nome:",
        "agent:",
        "agente:",
    ];
    let clean =
        |line: &'_ str| line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '*' | '-')).to_owned();
    let named = sentences(system).into_iter().map(clean).find_map(|sentence| {
        let lower = sentence.to_lowercase();
        let start = MARKS.iter().find_map(|mark| lower.starts_with(mark).then_some(mark.len()))?;
        name_in(sentence.get(start..)?)
    });
    named.or_else(|| system.lines().map(clean).find(|line| !line.is_empty()).and_then(|line| title(&line)))
}

/// A name at the beginning of a text: "Luna, the assistant of …".
fn name_in(text: &str) -> Option<String> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '*' | '“' | '«'));
    let end = text.find([',', '.', ';', ':', '(', '\n', '"', '*', '”', '»', '—', '–', '|', '!']).unwrap_or(text.len());
    let mut name = &text[..end];
    for joint in [
        " - ", " the ", " an ", " a ", " and ", " el ", " la ", " un ", " una ", " y ", " o ", " um ", " uma ", " e ",
        " from ", " at ", " of ",
    ] {
        name = name.split(joint).next().unwrap_or(name);
    }
    let name = name.trim();
    // "You are a friendly assistant" gives a role, no name.
    let fits =
        name.starts_with(char::is_uppercase) && name.chars().count() <= 40 && name.split_whitespace().count() <= 4;
    fits.then(|| name.to_owned())
}

/// A first line that is a name: few words, no sentence, no section, no order.
fn title(line: &str) -> Option<String> {
    const SECTIONS: [&str; 12] = [
        "instructions",
        "faq",
        "knowledge",
        "system",
        "prompt",
        "context",
        "role",
        "instrucciones",
        "conocimiento",
        "contexto",
        "instrucoes",
        "conhecimento",
    ];
    let is_section = words(line).iter().any(|word| SECTIONS.contains(&word.as_str()));
    let is_sentence = line.ends_with(['.', ':', '!', '?', ',']) || fold(line).split_whitespace().count() > 4;
    if is_section || is_sentence || is_instruction(line) { None } else { name_in(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_name_is_found_where_it_is_given() {
        let table = [
            ("You are Luna, the assistant of Café Sol.", Some("Luna")),
            ("# Agent\nYou are Luna the helper", Some("Luna")),
            ("Eres Sofía, asistente de ventas.", Some("Sofía")),
            ("Você é Bia. Responda em português.", Some("Bia")),
            ("Name: Max\nTone: dry", Some("Max")),
            ("You are a helpful assistant.", None),
            ("# Café Sol\nWe sell coffee.", Some("Café Sol")),
            ("## Instructions\nAnswer FAQs.", None),
            ("Be brief. Your name is Leo and you sell shoes.", Some("Leo")),
            ("Answer FAQs", None),
            ("We sell coffee in Lisbon.", None),
            ("", None),
        ];
        for (system, name) in table {
            assert_eq!(agent_name(system).as_deref(), name, "{system}");
        }
    }
}
