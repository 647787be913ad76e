//! What a description of an agent says, read by rules: its name, its company, its facts, questions and answers, tools.

use super::super::language::{detect, fold, has_any, sentences, spaced, words};
use super::super::phrases::Lang;
use super::in_language;

const MAKES: &str = "\
    create, creates, make, build, i want, i need, we need, we want, set up, crea, crear, creame, crees, haz, hazme, hacer, \
    quiero, quisiera, necesito, necesitamos, construye, arma, armame, monta, cria, criar, crie, faca, preciso, queria, \
    gostaria, monte";
const AGENTS: &str = "\
    agent, agents, assistant, assistants, bot, chatbot, agente, asistente, asistentes, assistente, assistentes";
const ANOTHER: &str = "\
    new agent, another agent, new assistant, another assistant, nuevo agente, otro agente, nuevo asistente, otro asistente, \
    novo agente, outro agente, novo assistente, outro assistente";
const PUBLISHES: &str = "\
    publish, publish it, go live, publica, publicalo, publicala, publicar, publique, publiques, publicado, ponlo en linea";
const UNPUBLISHES: &str = "unpublish, despublica, despublicar, despublique, take it offline, off the air";
const DELETES: &str = "\
    delete it, delete the agent, delete this agent, borralo, borra el agente, elimina el agente, eliminalo, apague o agente, \
    exclua o agente, exclua";
const NOT_YET: &str = "\
    dont publish, do not publish, not publish, no publiques, no lo publiques, sin publicar, nao publique, nao publica, \
    without publishing";
const LEADS: &str = "\
    lead, leads, contact details, contact data, contact information, datos de contacto, contacto, contactos, \
    dados de contato, contato, contatos, quote, quotes, presupuesto, presupuestos, orcamento, orcamentos, interesados, \
    interessados, prospects, prospectos, capture, captar, captura, ask for a phone, ask for their phone, ask for an email, \
    ask for their email, pedir el telefono, pida el telefono, pide el telefono, pedir el correo, pida el correo, pedir el mail, \
    pedir o telefone, peca o telefone, pergunte o telefone, pedir o email";
const APPOINTMENTS: &str = "\
    appointment, appointments, booking, bookings, book, schedule, cita, citas, turno, turnos, reserva, reservas, reservar, \
    agenda, agendar, agende, agendamento, agendamentos, consultas, marcar";
const HANDOFF: &str = "\
    whatsapp, human, a person, real person, handoff, hand over, una persona, humano, derivar, derive, uma pessoa, atendente, \
    pessoa real";
/// The most questions that are taken from one message.
const MAX_FAQS: usize = 20;

/// What is to be done with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Create,
    Change,
    Unpublish,
    Delete,
    Nothing,
}

/// What somebody wants of the builder.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) lang: Lang,
    pub(super) does: Does,
    /// The agent that the thread is about.
    pub(super) agent: Option<u64>,
    /// The name that was given.
    pub(super) named: Option<String>,
    subject: Option<String>,
    facts: String,
    pub(super) faqs: Vec<(String, String)>,
    pub(super) tools: Vec<&'static str>,
    pub(super) publishes: bool,
}

impl Wish {
    pub(super) fn read(text: &str, agent: Option<u64>) -> Self {
        let (mut faqs, mut rest) = faqs(text);
        if let Some((_, answer)) = faqs.last_mut() {
            rest.push_str(&order_behind(answer));
        }
        let spaced = spaced(&rest);
        let lang = detect(text).unwrap_or(Lang::En);
        let (named, tools) = (name(&rest), tools(&spaced));
        let wants_new = agent.is_none() || has_any(&spaced, ANOTHER);
        let says_much = words(&rest).len() > 3;
        let unpublishes = has_any(&spaced, UNPUBLISHES);
        let publishes = has_any(&spaced, PUBLISHES) && !has_any(&spaced, NOT_YET) && !unpublishes;
        let describes = has_any(&spaced, AGENTS) || says_much || !faqs.is_empty();
        let does = match () {
            () if !wants_new && has_any(&spaced, DELETES) => Does::Delete,
            () if !wants_new && unpublishes => Does::Unpublish,
            () if !wants_new && (publishes || named.is_some() || !tools.is_empty() || !faqs.is_empty()) => Does::Change,
            () if wants_new && describes && !unpublishes => Does::Create,
            () => Does::Nothing,
        };
        let is_idle = matches!(does, Does::Nothing | Does::Delete | Does::Unpublish);
        let faqs = if is_idle { Vec::new() } else { faqs };
        let agent = agent.filter(|_| does != Does::Create);
        Self {
            subject: subject(&rest),
            facts: facts(&rest, named.as_deref()),
            publishes: publishes && !is_idle,
            lang,
            does,
            agent,
            named,
            faqs,
            tools,
        }
    }

    fn say(&self, texts: [&'static str; 3]) -> &'static str {
        in_language(self.lang, texts)
    }

    pub(super) fn name(&self) -> String {
        let of =
            |subject: &String| format!("{} {subject}", self.say(["Assistant for", "Asistente de", "Assistente de"]));
        let plain = || self.say(["Assistant", "Asistente", "Assistente"]).to_owned();
        self.named.clone().or_else(|| self.subject.as_ref().map(of)).unwrap_or_else(plain)
    }

    pub(super) fn purpose(&self) -> String {
        let answers = self.say(["Answers visitors", "Atiende a los visitantes", "Atende os visitantes"]);
        match &self.subject {
            Some(subject) => format!("{answers} {} {subject}.", self.say(["of", "de", "de"])),
            None => format!("{answers}."),
        }
    }

    pub(super) fn instructions(&self) -> String {
        let rules = self.say([
            "Answer kindly and briefly, only with what you know. When you do not know something, say so and offer that a person answers.",
            "Responde con amabilidad y brevedad, solo con lo que sabes. Cuando no sepas algo, dilo y ofrece que responda una persona.",
            "Responda com gentileza e brevidade, apenas com o que você sabe. Quando não souber algo, diga e ofereça que uma pessoa responda.",
        ]);
        let role = self.say(["You are", "Eres", "Você é"]);
        let parts = [format!("{role} {}. {rules}", self.name()), self.facts.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }

    pub(super) fn greeting(&self) -> String {
        let (hello, help) = (
            self.say(["Hello! I'm", "¡Hola! Soy", "Olá! Sou"]),
            self.say(["How can I help you?", "¿En qué puedo ayudarte?", "Como posso ajudar?"]),
        );
        format!("{hello} {}. {help}", self.name())
    }

    pub(super) fn fallback(&self) -> &'static str {
        self.say([
            "Sorry, I cannot answer right now. Please try again in a moment.",
            "Lo siento, ahora no puedo responder. Inténtalo de nuevo en un momento.",
            "Desculpe, não consigo responder agora. Tente de novo em instantes.",
        ])
    }
}

/// Takes the order to publish off the end of an answer: "… Yes, all. Publish it."
fn order_behind(answer: &mut String) -> String {
    let Some(last) = sentences(answer).last().map(|last| (*last).to_owned()) else { return String::new() };
    let is_order = words(&last).len() <= 3 && has_any(&spaced(&last), PUBLISHES) && last.len() < answer.len();
    if !is_order {
        return String::new();
    }
    let kept = answer.trim_end().trim_end_matches(last.as_str()).trim_end().len();
    answer.truncate(kept);
    format!("\n{last}")
}

fn tools(spaced: &str) -> Vec<&'static str> {
    let wanted = [("capture_lead", LEADS), ("schedule_appointment", APPOINTMENTS), ("send_whatsapp_handoff", HANDOFF)];
    wanted.into_iter().filter(|(_, phrases)| has_any(spaced, phrases)).map(|(tool, _)| tool).collect()
}

/// What the description says beside that an agent is wanted: every sentence that is no order to the builder, and does not
/// only give the agent its name.
fn facts(text: &str, named: Option<&str>) -> String {
    let is_order = |sentence: &&str| {
        let spaced = spaced(sentence);
        let is_short = words(sentence).len() <= 4;
        (has_any(&spaced, MAKES) && has_any(&spaced, AGENTS))
            || has_any(&spaced, NOT_YET)
            || (named.is_some() && words(sentence).len() <= 6 && name(sentence).as_deref() == named)
            || (has_any(&spaced, PUBLISHES) && is_short)
    };
    let line = |line: &str| sentences(line).into_iter().filter(|one| !is_order(one)).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n").trim().to_owned()
}

/// A word of a text without what stands around it.
fn bare(token: &str) -> &str {
    token.trim_matches(|c: char| !c.is_alphanumeric())
}

/// The name that the description gives: in quotes, or in capitals behind "called", "llamado", "chamada" and the like.
fn name(text: &str) -> Option<String> {
    const MARKS: [&str; 24] = [
        "called",
        "named",
        "llamado",
        "llamada",
        "llame",
        "llama",
        "llamalo",
        "llamala",
        "llamarse",
        "llamar",
        "nombre",
        "chamado",
        "chamada",
        "chame",
        "chama",
        "chamar",
        "nome",
        "name",
        "call it",
        "call her",
        "call him",
        "rename it to",
        "nombre a",
        "nome para",
    ];
    const JOINTS: [&str; 8] = ["it", "is", "es", "sea", "se", "seja", "to", "a"];
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let folded: Vec<String> = tokens.iter().map(|token| fold(bare(token))).collect();
    for at in 0..tokens.len() {
        let is_mark = MARKS.iter().any(|mark| {
            let mark: Vec<&str> = mark.split(' ').collect();
            folded[at..].iter().zip(&mark).filter(|(word, mark)| word == mark).count() == mark.len()
        });
        if !is_mark {
            continue;
        }
        // "Llamar a Juan" is a call and no name.
        let joints = if folded[at] == "llamar" { &[][..] } else { &JOINTS[..] };
        let from = at + 1 + folded[at + 1..].iter().take_while(|word| joints.contains(&word.as_str())).count();
        let found = quoted(&tokens[from..]).or_else(|| capitals(&tokens[from..]));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn quoted(tokens: &[&str]) -> Option<String> {
    const OPEN: [char; 5] = ['"', '“', '«', '\'', '‘'];
    const CLOSE: [char; 5] = ['"', '”', '»', '\'', '’'];
    tokens.first().filter(|token| token.starts_with(OPEN))?;
    let text = tokens.iter().take(6).copied().collect::<Vec<_>>().join(" ");
    let inner = text.trim_start_matches(OPEN);
    let name = inner.split_once(CLOSE)?.0.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

fn capitals(tokens: &[&str]) -> Option<String> {
    let mut name = Vec::new();
    for token in tokens.iter().take(4) {
        if !bare(token).starts_with(char::is_uppercase) {
            break;
        }
        name.push(bare(token));
        // A mark behind a word ends the name.
        if !token.ends_with(char::is_alphanumeric) {
            break;
        }
    }
    (!name.is_empty()).then(|| name.join(" "))
}

/// For whom the agent is: what stands behind "for", "para" and the like.
fn subject(text: &str) -> Option<String> {
    const MARKS: [&str; 2] = ["for", "para"];
    const ARTICLES: [&str; 19] = [
        "a", "an", "the", "my", "our", "un", "una", "el", "la", "los", "las", "mi", "nuestra", "nuestro", "um", "uma",
        "o", "minha", "nossa",
    ];
    const ENDS: [&str; 18] = [
        "que", "that", "which", "who", "con", "with", "com", "y", "and", "e", "llamado", "llamada", "called", "named",
        "chamado", "chamada", "se", "it",
    ];
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let folded: Vec<String> = tokens.iter().map(|token| fold(bare(token))).collect();
    let at = folded.iter().position(|word| MARKS.contains(&word.as_str()))? + 1;
    let from = at + folded[at..].iter().take_while(|word| ARTICLES.contains(&word.as_str())).count();
    let mut subject = Vec::new();
    for (token, word) in tokens.iter().zip(&folded).skip(from).take(5) {
        if ENDS.contains(&word.as_str()) || bare(token).is_empty() {
            break;
        }
        subject.push(bare(token));
        if !token.ends_with(char::is_alphanumeric) {
            break;
        }
    }
    // "for appointments" is a tool, "para que" nothing; both have no company in them.
    let text = subject.join(" ");
    let is_work = has_any(&spaced(&text), APPOINTMENTS) || has_any(&spaced(&text), LEADS);
    (!text.is_empty() && !is_work && text.chars().count() <= 60).then_some(text)
}

/// Takes the questions with their answers ("Q: … A: …", "Pregunta: … Respuesta: …") out of a text.
fn faqs(text: &str) -> (Vec<(String, String)>, String) {
    const QUESTIONS: [&str; 5] = ["q:", "p:", "question:", "pregunta:", "pergunta:"];
    const ANSWERS: [&str; 5] = ["a:", "r:", "answer:", "respuesta:", "resposta:"];
    let behind = |token: &'_ str, marks: &[&str]| {
        let token = token.trim_start_matches(['-', '*', '¿']);
        let is_at = |mark: &&&str| token.get(..mark.len()).is_some_and(|head| head.eq_ignore_ascii_case(mark));
        marks.iter().find(is_at).map(|mark| token[mark.len()..].to_owned())
    };
    let (mut pairs, mut rest): (Vec<(String, String)>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut question, mut answer): (Option<String>, Option<String>) = (None, None);
    for line in text.lines() {
        let mut plain = Vec::new();
        for token in line.split_whitespace() {
            if let Some(more) = behind(token, &QUESTIONS) {
                pairs.extend(question.take().zip(answer.take()));
                question = Some(more);
            } else if question.is_some() && answer.is_none() && behind(token, &ANSWERS).is_some() {
                answer = behind(token, &ANSWERS);
            } else if let Some(open) = answer.as_mut().or(question.as_mut()) {
                open.push(' ');
                open.push_str(token);
            } else {
                plain.push(token);
            }
        }
        if answer.as_ref().is_some_and(|answer| !answer.trim().is_empty()) {
            pairs.extend(question.take().zip(answer.take()));
        }
        rest.push(plain.join(" "));
    }
    pairs.extend(question.take().zip(answer.take()));
    let trimmed = |(question, answer): (String, String)| (question.trim().to_owned(), answer.trim().to_owned());
    let whole = |(question, answer): &(String, String)| !question.is_empty() && !answer.is_empty();
    (pairs.into_iter().map(trimmed).filter(whole).take(MAX_FAQS).collect(), rest.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_in_three_languages() {
        let es = Wish::read(
            "Crea un asistente llamado Luna para mi clínica dental Sonrisa, que agende citas y capte contactos.\nAbrimos de 9 a \
             18.\nPregunta: ¿Aceptan tarjeta? Respuesta: Sí, todas.",
            None,
        );
        assert_eq!((es.lang, es.does, es.name().as_str()), (Lang::Es, Does::Create, "Luna"));
        assert_eq!(es.tools, ["capture_lead", "schedule_appointment"]);
        assert_eq!(es.faqs, [("¿Aceptan tarjeta?".to_owned(), "Sí, todas.".to_owned())]);
        assert!(es.instructions().starts_with("Eres Luna.") && es.instructions().ends_with("Abrimos de 9 a 18."));
        assert!(!es.publishes && es.purpose().ends_with("de clínica dental Sonrisa."), "{}", es.purpose());
        let en = Wish::read("I need an assistant for our bakery. We deliver on Mondays. Publish it.", None);
        assert_eq!((en.lang, en.name().as_str(), en.publishes), (Lang::En, "Assistant for bakery", true));
        assert!(en.instructions().ends_with("We deliver on Mondays."), "{}", en.instructions());
        let behind = Wish::read("A bot for my shop.\nQ: Cards? A: Yes, all. Publish it.", None);
        assert_eq!((behind.publishes, behind.faqs[0].1.as_str()), (true, "Yes, all."));
        let named = Wish::read(
            "Quiero un bot para mi peluquería. Abrimos a las 10. Pedir el teléfono. Se tiene que llamar Toby. Publicalo.",
            None,
        );
        assert_eq!((named.name().as_str(), &named.tools[..]), ("Toby", &["capture_lead"][..]));
        assert!(named.instructions().ends_with("Abrimos a las 10. Pedir el teléfono."), "{}", named.instructions());
        let call = Wish::read("Un bot para mi taller. En urgencias llamar a Pedro.", None);
        assert!(call.named.is_none() && call.instructions().contains("Pedro"));
        let pt =
            Wish::read("Preciso de um assistente chamado \"Bia da Loja\" para a minha loja, mas não publique.", None);
        assert_eq!((pt.lang, pt.name().as_str(), pt.publishes), (Lang::Pt, "Bia da Loja", false));
    }

    #[test]
    fn questions_and_answers_are_taken_from_one_line_and_from_several() {
        let text = "Hi\nQ: One? A: Yes. Q: Two? A: No.\nP: ¿Tres?\nR: Sí.\nQ:\nQ: Four?\nThe rest";
        let (pairs, rest) = faqs(text);
        let pairs: Vec<_> = pairs.iter().map(|(question, answer)| (question.as_str(), answer.as_str())).collect();
        assert_eq!(pairs, [("One?", "Yes."), ("Two?", "No."), ("¿Tres?", "Sí.")]);
        assert!(rest.starts_with("Hi") && !rest.contains("One"));
    }

    #[test]
    fn a_thread_with_an_agent_is_changed_published_or_deleted() {
        let of = |text: &str| Wish::read(text, Some(7));
        assert_eq!((of("publícalo").does, of("publícalo").publishes), (Does::Change, true));
        assert_eq!((of("Delete the agent").does, of("unpublish it").does), (Does::Delete, Does::Unpublish));
        assert_eq!(of("Q: Open? A: Always.").faqs.len(), 1);
        assert_eq!(of("Llámalo Sol").named.as_deref(), Some("Sol"));
        assert_eq!(
            (of("thanks").does, of("Create a new agent called Sol for my hotel").does),
            (Does::Nothing, Does::Create)
        );
        assert_eq!(
            (Wish::read("hello", None).does, Wish::read("publish it", None).does),
            (Does::Nothing, Does::Nothing)
        );
    }
}
