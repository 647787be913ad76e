//! Cuts a system prompt into passages that can be quoted.
//!
//! A passage is a sentence, a question with its answer ("Q: … A: …", "**…?** …", a heading that asks), or a list
//! under its introduction. Instructions to the agent are left out; see [`is_instruction`]. Headings are never quoted,
//! but say what the passages below them are about.

use std::collections::HashSet;

use super::language::{fold, has_any, sentences, spaced, stems, words};
use super::mood::{is_about_the_agent, is_instruction};

/// The longest passage that is quoted, in characters.
const LONGEST: usize = 600;
/// Headings that say what a section is, not what it is about.
const SECTIONS: &str = "\
    instructions, faq, faqs, knowledge, knowledge base, instrucciones, preguntas frecuentes, conocimiento, instrucoes, \
    perguntas frequentes, conhecimento";
/// Headings of what is only for the agent, whatever its sentences look like ("Budget: find it out").
const UNQUOTABLE: &str = "\
    personality, objectives, guardrails, personalidad, objetivos, personalidade";

/// Something that can be quoted.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) text: String,
    /// The words that count in full: of the question, of the introduction, or of the sentence itself.
    pub(super) cue: HashSet<String>,
    /// The words that count less: of the answer or the items.
    body: HashSet<String>,
    /// The words of the heading above.
    topic: HashSet<String>,
    /// A whole list. It answers only who asks for what it lists, else its items do.
    pub(super) list: bool,
}

impl Passage {
    /// How much of an answer this is to a stem, 0 to 1.
    pub(super) fn strength(&self, word: &str) -> f64 {
        match () {
            () if self.cue.contains(word) => 1.0,
            // The item itself says it better than the whole list.
            () if self.body.contains(word) && self.list => 0.5,
            () if self.body.contains(word) => 0.75,
            () if self.topic.contains(word) => 0.7,
            () => 0.0,
        }
    }
}

/// Reads the passages of a system prompt.
pub(super) fn read(system: &str) -> Vec<Passage> {
    let mut reader = Reader::default();
    for line in joined_lines(system) {
        reader.line(&line);
    }
    reader.close_list();
    reader.passages
}

/// The lines of a prompt, those joined that only a narrow editor broke.
fn joined_lines(system: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in system.lines().map(str::trim) {
        let continues = line.starts_with(char::is_lowercase)
            && lines.last().is_some_and(|last| {
                last.ends_with(|c: char| c.is_alphanumeric() || c == ',') && !last.starts_with('#')
            });
        match lines.last_mut() {
            Some(last) if continues => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Turns lines into passages.
#[derive(Debug, Default)]
struct Reader {
    passages: Vec<Passage>,
    heading: String,
    /// A question whose answer is to come.
    question: Option<String>,
    /// Whether the last passage is an answer that the next line may go on with.
    open_answer: bool,
    list: Option<List>,
    /// Whether the section is one of [`UNQUOTABLE`].
    unquotable: bool,
}

/// An introduction ("Our plans:") or a heading, and the items below it.
#[derive(Debug)]
struct List {
    intro: String,
    quoted: bool,
    forbidden: bool,
    items: Vec<String>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            self.open_answer = false;
            if self.list.as_ref().is_some_and(|list| !list.items.is_empty()) {
                self.close_list();
            }
            return;
        }
        if is_fence(line) {
            return;
        }
        if let Some(heading) = heading(line) {
            self.head(&heading);
            return;
        }
        if self.unquotable {
            return;
        }
        let (item, body) = without_marker(line);
        if let Some((question, answer)) = question(body) {
            self.close_list();
            self.open_answer = false;
            self.question = None;
            if answer.is_empty() {
                self.question = Some(question);
            } else {
                self.pair(&question, &answer);
            }
        } else if let Some(question) = self.question.take() {
            // Below "Ask: what is your budget?" an order may follow, as well as an answer.
            let labelled = after_label(body, &ANSWER_LABELS).is_some();
            if labelled || !is_instruction(body) {
                self.pair(&question, &plain(without_answer_label(body)));
            }
        } else if self.open_answer && !item {
            self.go_on(&plain(body));
        } else {
            self.fact(item, &plain(body));
        }
    }

    fn head(&mut self, heading: &str) {
        self.close_list();
        self.open_answer = false;
        self.question = heading.ends_with('?').then(|| heading.to_owned());
        let title = words(heading).join(" ");
        let is_one_of = |titles: &str| titles.split(", ").any(|known| known == title);
        self.unquotable = is_one_of(UNQUOTABLE);
        self.heading = if is_one_of(SECTIONS) { String::new() } else { heading.to_owned() };
        self.list = (!is_one_of(SECTIONS)).then(|| List::new(heading, false));
    }

    fn pair(&mut self, question: &str, answer: &str) {
        if is_about_the_agent(answer) || is_to_be_asked(question) {
            return;
        }
        let passage = self.passage(answer, stems(question), stems(answer));
        self.passages.push(passage);
        self.open_answer = true;
    }

    fn go_on(&mut self, more: &str) {
        if let Some(passage) = self.passages.last_mut().filter(|_| !is_instruction(more)) {
            passage.text = format!("{} {more}", passage.text);
            passage.body.extend(stems(more));
        }
    }

    fn fact(&mut self, item: bool, body: &str) {
        if item && let Some(list) = &mut self.list {
            if list.forbidden {
                return;
            }
            if !is_instruction(body) {
                list.items.push(body.to_owned());
            }
        }
        if !item {
            self.close_list();
        }
        if !item && body.ends_with(':') {
            self.list = Some(List::new(body, true));
            return;
        }
        for sentence in sentences(body).into_iter().filter(|sentence| !is_instruction(sentence)) {
            // Under "Ask for:" stand things to ask for; alone they say nothing.
            if item && words(sentence).len() < 3 && self.list.as_ref().is_some_and(|list| is_instruction(&list.intro)) {
                continue;
            }
            let mut passage = self.passage(sentence, stems(sentence), Vec::new());
            passage.topic.extend(self.list.iter().flat_map(|list| stems(&list.intro)));
            self.passages.push(passage);
        }
    }

    /// The list as a whole becomes a passage, beside its items.
    fn close_list(&mut self) {
        let Some(list) = self.list.take().filter(|list| list.items.len() > 1 && !is_instruction(&list.intro)) else {
            return;
        };
        let ends: &[char] = &['.', ';', ','];
        let items: Vec<&str> = list.items.iter().map(|item| item.trim_end_matches(ends)).collect();
        let mut text = if list.quoted { format!("{} ", list.intro) } else { String::new() };
        text.push_str(&items.join("; "));
        text.push('.');
        let passage = self.passage(&text, stems(&list.intro), stems(&items.join(" ")));
        self.passages.push(Passage { list: true, ..passage });
    }

    fn passage(&self, text: &str, cue: Vec<String>, body: Vec<String>) -> Passage {
        let implied = implied(text).into_iter().map(str::to_owned);
        Passage {
            text: if text.chars().count() > LONGEST { shortened(text) } else { text.to_owned() },
            cue: cue.into_iter().collect(),
            body: body.into_iter().chain(implied).collect(),
            topic: stems(&self.heading).into_iter().collect(),
            list: false,
        }
    }
}

/// Whether a question is one that the agent is to ask: "Ask them: what is your budget?" Only such orders are looked
/// for, since an honest question may begin with a verb, too ("Do you ship?").
fn is_to_be_asked(question: &str) -> bool {
    let asks = ["ask", "pregunta", "preguntale", "preguntales", "pregunte", "pergunte"];
    let first = words(question).into_iter().next().unwrap_or_default();
    asks.contains(&first.as_str()) || (question.contains(':') && is_instruction(question))
}

/// What a text answers without saying so, as stems: money the question for a price, a clock time the one for the
/// hours, a street the one for the place.
fn implied(text: &str) -> Vec<&'static str> {
    const MONEY: [&str; 7] = ["eur", "usd", "euro", "euros", "dollars", "pesos", "reais"];
    const PLACE: &str = "\
        we are in, we are at, you find us, street, avenue, estamos en, nos encontramos en, calle, avenida, av, estamos \
        na, estamos no, ficamos na, ficamos no, rua";
    let words = words(text);
    let is_clock = |word: &str| {
        word.split_once(':')
            .is_some_and(|(hour, rest)| is_short_number(hour) && rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let has_clock = text.split(|c: char| !(c.is_ascii_digit() || c == ':')).any(is_clock);
    let has_money = text.contains(['€', '$', '£']) || words.iter().any(|word| MONEY.contains(&word.as_str()));
    let has_place = has_any(&spaced(text), PLACE);
    [(has_money, "price"), (has_clock, "hours"), (has_place, "where")]
        .into_iter()
        .filter_map(|(has, stem)| has.then_some(stem))
        .collect()
}

impl List {
    fn new(intro: &str, quoted: bool) -> Self {
        let never = ["never", "do not", "dont", "avoid", "nunca", "no ", "nao ", "evita", "evite", "jamas", "jamais"];
        let folded = fold(intro);
        let forbidden = never.iter().any(|word| folded.starts_with(word));
        Self { intro: intro.to_owned(), quoted, forbidden, items: Vec::new() }
    }
}

fn is_short_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn shortened(text: &str) -> String {
    let cut: String = text.chars().take(LONGEST).collect();
    let end = cut.rfind(char::is_whitespace).unwrap_or(cut.len());
    format!("{}…", cut[..end].trim_end())
}

/// Fences and tags around retrieved text.
fn is_fence(line: &str) -> bool {
    line.starts_with("```")
        || line.starts_with("<<<")
        || line.starts_with(">>>")
        || (line.starts_with('<') && line.ends_with('>'))
        || !line.chars().any(char::is_alphanumeric)
}

/// The text of a heading: `## …`, or a line in bold that is no question.
fn heading(line: &str) -> Option<String> {
    if line.starts_with('#') {
        let text = line.trim_start_matches('#');
        return text.starts_with(char::is_whitespace).then(|| plain(text));
    }
    let bold = line.strip_prefix("**")?.strip_suffix("**").or_else(|| line.strip_prefix("**")?.strip_suffix("**:"))?;
    (!bold.contains("**") && !bold.ends_with('?')).then(|| plain(bold))
}

/// A line without `-`, `*`, `•`, `1.` or `1)`, and whether it had one.
fn without_marker(line: &str) -> (bool, &str) {
    for marker in ["- ", "* ", "• ", "– "] {
        if let Some(body) = line.strip_prefix(marker) {
            return (true, body.trim());
        }
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = line.get(digits..).and_then(|rest| rest.strip_prefix(". ").or_else(|| rest.strip_prefix(") ")));
    match numbered {
        Some(body) if (1..=2).contains(&digits) => (true, body.trim()),
        _ => (false, line),
    }
}

/// A question, and its answer as far as it is on the same line.
fn question(body: &str) -> Option<(String, String)> {
    if let Some(rest) = after_label(body, &["q", "p", "question", "pregunta", "pergunta"]) {
        let answer_at = ANSWER_LABELS.iter().flat_map(|label| {
            // The label as it is written there, upper or lower.
            let upper: String =
                label.chars().take(1).flat_map(char::to_uppercase).chain(label.chars().skip(1)).collect();
            [format!(" {upper}: "), format!(" {label}: "), format!(" **{upper}:** ")]
        });
        let split = answer_at.filter_map(|label| rest.find(&label).map(|at| (at, at + label.len()))).min();
        let (question, answer) = match split {
            Some((end, start)) => (&rest[..end], &rest[start..]),
            None => rest.find('?').map_or((rest, ""), |at| rest.split_at(at + 1)),
        };
        return Some((plain(question), answer_text(answer)));
    }
    let at = body.find('?')?;
    let (question, answer) = body.split_at(at + 1);
    // "We are open. Any questions? Call us." is no question with an answer.
    (sentences(question).len() == 1 && !question.contains(". ")).then(|| (plain(question), answer_text(answer)))
}

const ANSWER_LABELS: [&str; 5] = ["a", "r", "answer", "respuesta", "resposta"];

fn without_answer_label(body: &str) -> &str {
    after_label(body, &ANSWER_LABELS).unwrap_or(body)
}

/// What follows `Label:`, in any case, with a number (`Q1:`) or in bold.
fn after_label<'a>(body: &'a str, labels: &[&str]) -> Option<&'a str> {
    let (label, rest) = body.split_once(':')?;
    let label = fold(label.trim_start_matches('*').trim());
    let label = label.trim_end_matches(|c: char| c.is_ascii_digit() || c.is_whitespace());
    labels.contains(&label).then(|| rest.trim_start_matches('*').trim())
}

fn answer_text(answer: &str) -> String {
    let answer = plain(answer.trim_start_matches(['*', '_', '"', '”', '»', ':', '-', '–', '—', '→', ' ']));
    plain(without_answer_label(&answer))
}

/// Without the marks of bold, italics and code.
fn plain(text: &str) -> String {
    text.replace("**", "").replace("__", "").replace('`', "").trim().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of everything that people write into a prompt, something.
    pub(in super::super) const PROMPT: &str = "# Luna
You are Luna, the assistant of Café Sol. Answer FAQs in the visitor's language.
Café Sol roasts coffee in Lisbon since 1987. Always be brief.
We are in Rua do Sol 12,
next to the station.

## FAQ
Q: Do you ship? A: Yes, to the whole EU within 3 days.
Q: What are your opening hours?
A: Monday to Friday, 9:00 to 18:00.
Closed on holidays.
**Can I bring my dog?** Of course, dogs are welcome.
Ask them: what is your budget?
Note the answer.
- ¿Tienen estacionamiento? Sí, es gratis.
### Is there Wi-Fi?
Yes, ask at the bar.

## Knowledge
Our plans:
- Basic: 10 € a month
- Pro: 20 € a month

Ask for:
- name
- phone number

Never:
- promise discounts to anybody
```
The cellar holds 40 people. Help is available all day.
```
If a visitor asks for a discount, offer the Pro plan. Use capture_lead when they leave an e-mail.
";

    fn texts(system: &str) -> Vec<String> {
        read(system).into_iter().map(|passage| passage.text).collect()
    }

    #[test]
    fn facts_questions_and_lists_become_passages_and_instructions_do_not() {
        let expected = [
            "Café Sol roasts coffee in Lisbon since 1987.",
            "We are in Rua do Sol 12, next to the station.",
            "Yes, to the whole EU within 3 days.",
            "Monday to Friday, 9:00 to 18:00. Closed on holidays.",
            "Of course, dogs are welcome.",
            "Sí, es gratis.",
            "Yes, ask at the bar.",
            "Basic: 10 € a month",
            "Pro: 20 € a month",
            "Our plans: Basic: 10 € a month; Pro: 20 € a month.",
            "The cellar holds 40 people.",
            "Help is available all day.",
        ];
        assert_eq!(texts(PROMPT), expected);
    }

    #[test]
    fn a_long_passage_is_cut_and_odd_prompts_are_read() {
        let long = format!("The {} end.", "very ".repeat(300));
        assert!(texts(&long)[0].chars().count() <= LONGEST + 1);
        for odd in [
            "",
            "#",
            "Q:",
            "Q: A:",
            "**",
            "****",
            "- ",
            "?",
            "???",
            ":",
            "a?b",
            "1.",
            "<>",
            "Q: ¿\nA:",
            "¿?¿?",
            "**?**",
        ] {
            let _ = texts(odd);
        }
    }
}
