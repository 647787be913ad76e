//! What a visitor plainly wants: contact details left, a human, an appointment, small talk, or an answer.
//!
//! [`read`] looks at one message; the rules are lists of words, so each can be read and argued about. A rule that is
//! in doubt does not fire: the text is then looked up in the agent's knowledge like any other question.

use super::contact::{self, Contact};
use super::language::{has_any, is_greeting, is_greeting_filler, sentences, spaced, stems, words};
use super::phrases::ASK_WHEN;
use super::when::when;

/// One message, understood.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// It begins with a greeting.
    pub(super) greeting: bool,
    /// Small talk that has its own answer.
    pub(super) small: Option<Small>,
    /// E-mail or phone, if any, and the name with them.
    pub(super) contact: Contact,
    /// The name that the visitor gave.
    pub(super) name: Option<String>,
    /// A human is asked for.
    pub(super) handoff: bool,
    /// An appointment is asked for.
    pub(super) appointment: Option<Appointment>,
    /// What is to be looked up, in the visitor's words.
    pub(super) questions: Vec<String>,
}

/// A wish for an appointment; the day or time in the visitor's words, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Appointment {
    pub(super) when: Option<String>,
}

/// Small talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Small {
    Thanks,
    Bye,
    Yes,
    No,
    /// Who or what is this?
    Identity,
    /// What can it do?
    Help,
}

/// Understands one message. `before` is what the agent said last: it tells whether a bare "tomorrow at 10" answers
/// our question for a time.
pub(super) fn read(text: &str, before: &str) -> Reading {
    let contact = contact::find(text);
    let rest = contact.rest.clone();
    let folded = spaced(&rest);
    let mut reading = Reading {
        greeting: words(&rest).first().is_some_and(|word| is_greeting(word)) || has_any(&folded, "good morning"),
        small: small(&folded),
        handoff: wants_human(&folded),
        appointment: appointment(&rest, &folded, ASK_WHEN.is_in(before)),
        name: contact::introduced(&rest),
        ..Reading::default()
    };
    // Alone, a word with a capital may be anything ("Prices"); beside contact details it is a name.
    if reading.name.is_none() && contact.is_some() {
        reading.name = contact::bare(&rest);
    }
    reading.contact = contact;
    reading.questions = questions(&rest, &reading);
    reading
}

/// The parts of a message that want an answer from the agent's knowledge. Beside a plain intent, or beside another
/// question, only questions count; else the message as a whole is one.
fn questions(rest: &str, reading: &Reading) -> Vec<String> {
    let has_intent = reading.small.is_some()
        || reading.handoff
        || reading.appointment.is_some()
        || reading.name.is_some()
        || reading.contact.is_some();
    let has_own_answer = |sentence: &str| {
        let folded = spaced(sentence);
        let greets = folded.split_whitespace().all(|word| is_greeting(word) || is_greeting_filler(word));
        greets || small(&folded).is_some() || wants_human(&folded) || appointment(sentence, &folded, false).is_some()
    };
    let open: Vec<&str> = sentences(rest)
        .into_iter()
        .filter(|sentence| !stems(sentence).is_empty() && !has_own_answer(sentence))
        .collect();
    let asked: Vec<String> =
        open.iter().filter(|sentence| sentence.ends_with('?')).map(|sentence| (*sentence).to_owned()).collect();
    if has_intent || asked.len() > 1 {
        asked
    } else if open.is_empty() {
        Vec::new()
    } else {
        vec![rest.trim().to_owned()]
    }
}

fn small(folded: &str) -> Option<Small> {
    const IDENTITY: &str = "\
        who are you, what are you, are you human, are you a human, are you a person, are you a real person, are you \
        real, are you a bot, are you a robot, are you an ai, are you ai, are you chatgpt, what is your name, whats \
        your name, am i talking to a human, am i talking to a person, am i talking to a bot, quien eres, que eres, \
        quien sos, eres humano, eres un humano, eres humana, eres un bot, eres un robot, eres una persona, eres real, \
        eres una ia, eres una maquina, sos un bot, sos humano, como te llamas, cual es tu nombre, estoy hablando con \
        un humano, estoy hablando con una persona, quem e voce, voce e humano, voce e um humano, voce e um robo, voce \
        e um bot, voce e uma pessoa, voce e real, qual e o seu nome, qual o seu nome, qual seu nome, como voce se \
        chama";
    const HELP: &str = "\
        what can you do, how can you help, what can you help, que puedes hacer, que sabes hacer, en que me puedes \
        ayudar, en que puedes ayudarme, como puedes ayudarme, como me puedes ayudar, o que voce pode fazer, o que voce \
        faz, como voce pode ajudar, como voce pode me ajudar, em que voce pode ajudar";
    if has_any(folded, IDENTITY) {
        return Some(Small::Identity);
    }
    if has_any(folded, HELP) || matches!(folded.trim(), "help" | "help me" | "ayuda" | "ayudame" | "ajuda" | "me ajuda")
    {
        return Some(Small::Help);
    }
    short_talk(folded)
}

/// Messages that consist of nothing but thanks, a farewell, a yes or a no.
fn short_talk(folded: &str) -> Option<Small> {
    const THANKS: &str = " thanks thank thx gracias obrigado obrigada obg valeu agradezco ";
    const BYE: &str = " bye goodbye adios chau chao tchau hasta luego ate logo see later nos vemos pronto ";
    const YES: &str = " \
        yes yeah yep sure ok okay si claro vale dale sim pode ser perfecto perfeito perfect great please bueno ";
    const NO: &str = " no nope nao ";
    const AROUND: &str = " \
        you so very much a lot for your the help muchas mucha mil por todo toda tu su muito tudo pela pelo sua seu \
        ayuda ajuda favor that is all eso es mais nada mas it was great i will la is e de you have nice day un buen \
        dia ";
    let is_in = |list: &str, word: &str| list.contains(&format!(" {word} "));
    let words: Vec<&str> = folded.split_whitespace().collect();
    let lists = [(THANKS, Small::Thanks), (BYE, Small::Bye), (YES, Small::Yes), (NO, Small::No)];
    let plain = words.iter().all(|word| {
        is_in(AROUND, word)
            || is_greeting_filler(word)
            || is_greeting(word)
            || lists.iter().any(|(list, _)| is_in(list, word))
    });
    if words.is_empty() || !plain {
        return None;
    }
    let any = |list: &str| words.iter().any(|word| is_in(list, word));
    // "ok, thanks, bye" is a farewell, "no, thank you" a no.
    if any(NO) && words.len() <= 4 {
        return Some(Small::No);
    }
    let farewell = has_any(folded, "bye, goodbye, adios, chau, chao, tchau, hasta luego, ate logo, see you, nos vemos");
    match () {
        () if farewell => Some(Small::Bye),
        () if any(THANKS) => Some(Small::Thanks),
        () if any(YES) => Some(Small::Yes),
        () => None,
    }
}

fn wants_human(folded: &str) -> bool {
    const STRONG: &str = "\
        human, humano, humana, whatsapp, real person, live person, live agent, operator, representative, persona real, \
        asesor, asesora, operador, operadora, representante, pessoa real, atendente, someone from your team, alguien \
        del equipo, alguem da equipe";
    const PERSON: &str = "\
        person, someone, somebody, agent, team, staff, manager, persona, alguien, agente, equipo, encargado, pessoa, \
        alguem, equipe, gerente, vendedor";
    const REACH: &str = "\
        talk, speak, speaking, chat, connect, transfer, contact, hablar, hable, conversar, comunicar, comunicarme, \
        comuniquen, contactar, pasame, pasarme, atienda, atender, falar, conversar, contatar, transferir, atenda";
    // "Are you human?" asks something else, and so do "human resources".
    const NOT: &str = "\
        dont want, do not want, no quiero, nao quero, no need to, no necesito, nao preciso, human resources, recursos \
        humanos, por persona, per person, por pessoa";
    let asked = has_any(folded, STRONG) || (has_any(folded, PERSON) && has_any(folded, REACH));
    asked && !has_any(folded, NOT) && small(folded).is_none()
}

fn appointment(text: &str, folded: &str, was_asked: bool) -> Option<Appointment> {
    let when = when(text);
    if was_asked && when.is_some() || wishes_appointment(folded, text.contains('?')) {
        return Some(Appointment { when });
    }
    None
}

fn wishes_appointment(folded: &str, question: bool) -> bool {
    const VERBS: &str = "\
        to schedule, schedule a, schedule an, to book, book a, book an, book me, to reserve, reserve a, make an \
        appointment, make a reservation, agendar, agendame, agendarme, reservar, reservame, pedir hora, pedir cita, \
        sacar turno, marcar, marque, agende";
    const NOUNS: &str = "\
        appointment, meeting, demo, booking, reservation, cita, reunion, turno, reserva, agendamento, reuniao, \
        consulta marcada";
    const DESIRES: &str = "\
        want, like, need, make, get, have, can i, could i, can we, could we, please, quiero, quisiera, necesito, \
        gustaria, puedo, podria, podemos, pedir, sacar, hacer, dame, tener, quero, queria, preciso, gostaria, posso, \
        podemos, fazer, por favor";
    const NOT: &str = "\
        cancel, cancelar, reschedule, reprogramar, remarcar, desmarcar, anular, cambiar, change, move my, do i need, \
        do i have to, is it necessary, hace falta, es necesario, tengo que, preciso de, e necessario, dont want, do \
        not want, no quiero, nao quero";
    let wish = has_any(folded, VERBS) || (has_any(folded, NOUNS) && (has_any(folded, DESIRES) || !question));
    wish && !has_any(folded, NOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_human_is_called_when_one_is_asked_for() {
        let yes = [
            "Can I talk to a human?",
            "I want to speak with someone",
            "whatsapp please",
            "Quiero hablar con una persona",
            "me pasas con un asesor",
            "Quero falar com um atendente",
            "posso falar com alguém da equipe?",
        ];
        let no = [
            "How much is it per person?",
            "Are you human?",
            "¿Eres humano?",
            "precio por persona",
            "I don't want to talk to a human",
            "Do you have human resources software?",
            "Você é uma pessoa?",
        ];
        for text in yes {
            assert!(read(text, "").handoff, "{text}");
        }
        for text in no {
            assert!(!read(text, "").handoff, "{text}");
        }
    }

    #[test]
    fn an_appointment_is_wished_for_not_only_mentioned() {
        let yes = [
            "I want to book a demo",
            "Could I get an appointment on Friday?",
            "Quisiera agendar una cita",
            "reservar mesa mañana",
            "Gostaria de marcar um horário amanhã",
            "una cita para el lunes",
        ];
        let no = [
            "Do I need an appointment on Saturday?",
            "How do I cancel my appointment on Monday?",
            "What is your schedule on Monday?",
            "¿Tengo que reservar?",
            "Do you sell books?",
        ];
        for text in yes {
            assert!(read(text, "").appointment.is_some(), "{text}");
        }
        for text in no {
            assert!(read(text, "").appointment.is_none(), "{text}");
        }
        assert!(read("tomorrow at 10", "Sure. Which day and time would suit you?").appointment.is_some());
        assert!(read("tomorrow at 10", "").appointment.is_none());
    }

    #[test]
    fn small_talk_is_only_small_talk() {
        let table = [
            ("thanks a lot!", Some(Small::Thanks)),
            ("ok gracias, hasta luego", Some(Small::Bye)),
            ("sí, por favor", Some(Small::Yes)),
            ("no thanks", Some(Small::No)),
            ("quem é você?", Some(Small::Identity)),
            ("what can you do?", Some(Small::Help)),
            ("thanks, and the price?", None),
            ("hola", None),
        ];
        for (text, expected) in table {
            assert_eq!(read(text, "").small, expected, "{text}");
        }
    }

    #[test]
    fn beside_an_intent_only_questions_are_looked_up() {
        assert_eq!(read("I'm Ana, a@b.com. How much is the pro plan?", "").questions, ["How much is the pro plan?"]);
        assert_eq!(read("Call me at 600111222 about the garden", "").questions, [""; 0]);
        assert_eq!(read("Do you ship? Is parking free?", "").questions, ["Do you ship?", "Is parking free?"]);
        assert_eq!(read("I look for a gift. Do you ship?", "").questions, ["I look for a gift. Do you ship?"]);
        assert_eq!(read("hola buenas tardes", "").questions, [""; 0]);
    }
}
