//! Facts for the visitor and orders for the agent stand in the same prompt; this tells them apart.

use super::language::{fold, has_any, spaced, words};

/// Whether a text speaks of the agent's work: it names a tool (`capture_lead`), the prompt or "the visitor".
pub(super) fn is_about_the_agent(text: &str) -> bool {
    let is_tool = |token: &str| {
        let token = token.trim_matches(|c: char| !c.is_alphanumeric());
        token.contains('_') && token.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    const INSIDE: &str = "\
        these instructions, this prompt, system prompt, the visitor, the visitors, the user, results of tools, tool \
        results, el visitante, el usuario, estas instrucciones, o visitante, o usuario, estas instrucoes";
    text.split_whitespace().any(is_tool) || has_any(&spaced(text), INSIDE)
}

/// Whether a sentence tells the agent what to do rather than the visitor what is so: the imperative mood, "You are",
/// "Always", "If a visitor asks". Labels ("Contact: …") and sentences whose first word is a noun ("Help is free") are
/// facts.
pub(super) fn is_instruction(sentence: &str) -> bool {
    const OPENINGS: &str = "\
        you are, youre, you must, you should, you will, you only, you never, you always, your name is, your role, \
        your job, your goal, your task, your tone, your purpose, today is, the current, current date, current time, \
        it is monday, it is tuesday, it is wednesday, it is thursday, it is friday, it is saturday, it is sunday, \
        the assistant, the agent, the bot, as an assistant, tu eres, usted es, tu nombre es, tu rol, tu tarea, tu \
        objetivo, tu trabajo, tu tono, el asistente, el agente, como asistente, tienes que, voce e, voce deve, seu \
        nome e, sua tarefa, seu papel, seu objetivo, seu tom, o assistente, a assistente, o agente";
    const LABELS: &str = " \
        tone style role goal goals objective objectives personality guardrails task language instructions tono \
        estilo rol objetivo objetivos personalidad idioma instrucciones tom papel personalidade instrucoes \
        tarefa tarea ";
    if let Some((label, _)) = sentence.split_once(':')
        && LABELS.contains(&format!(" {} ", fold(label).trim()))
    {
        return true;
    }
    let words = words(sentence);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let opening = format!("{} ", words.iter().take(4).copied().collect::<Vec<_>>().join(" "));
    is_about_the_agent(sentence)
        || OPENINGS.split(", ").any(|known| opening.starts_with(&format!("{known} ")))
        || is_imperative(sentence, &words)
        || is_conditional_order(sentence, &words)
}

/// Verbs as they begin an order, folded.
const IMPERATIVES: &str = " \
    answer ask offer use keep be greet help reply respond speak write say tell never always make ensure avoid \
    collect capture qualify provide give explain mention recommend suggest confirm act behave follow stay remember \
    remain focus refer redirect escalate transfer hand schedule book call try limit include introduce invite guide \
    assist encourage address begin start end finish check verify let treat consider maintain adopt pretend ignore \
    respect apologise apologize summarise summarize translate thank continue only send share promise reveal discuss \
    invent do dont go show find get take turn close listen identify understand learn note record save register pass \
    forward present propose push sell match switch mirror acknowledge request wait react read repeat return quote \
    cite base rely prefer think responde responda contesta conteste pregunta pregunte pide pida solicita solicite \
    ofrece ofrezca ofrezcas usa use uses utiliza utilice ayuda ayude ayudales saluda salude habla hable hables evita \
    evite manten mantenga di diga digas explica explique recomienda recomiende sugiere sugiera confirma confirme \
    nunca siempre jamas invita invite guia guie agenda agende captura capture recoge recopila transfiere deriva \
    envia envie menciona mencione menciones actua actue comportate recuerda asegurate sigue siga resume traduce \
    agradece presentate trata trate escribe escriba consulta consulte verifica verifique limita limitate eres debes \
    deberas debe inventes invente prometas prometa respondas reveles revele compartas des hagas discutas pidas \
    pergunte pergunta peca ofereca utilize ajude cumprimente fale seja mantenha explique recomende sugira sempre \
    jamais convide marque colete transfira encaminhe mencione aja lembre siga resuma traduza agradeca apresente \
    escreva limite forneca compartilhe faca finja ";

fn is_verb(word: &str) -> bool {
    IMPERATIVES.contains(&format!(" {word} "))
}

fn is_imperative(sentence: &str, words: &[&str]) -> bool {
    // After these the first word was a noun: "Help is …", "Book prices", "Offer valid until".
    const AFTER_NOUNS: &str = " \
        is are was were has have had can will costs cost takes starts opens hours of time times date price prices \
        valid includes center centre es esta son incluye cuesta dura e sao esta inclui custa ";
    let first = sentence.trim_start_matches(|c: char| !c.is_alphanumeric());
    let label = first.split_whitespace().next().is_some_and(|token| token.ends_with(':'));
    let lower = first.to_lowercase();
    // With its accent "sé" is an order, without one "se" is not; the same of "dê" and "de", "dé" and "de".
    let accented = ["sé ", "dé ", "dê "].iter().any(|verb| lower.starts_with(verb));
    match words {
        ["please" | "favor", rest @ ..] | ["por", "favor", rest @ ..] => rest.first().is_some_and(|word| is_verb(word)),
        ["no" | "nao", verb, ..] => is_verb(verb),
        [verb, noun, ..] => accented || (!label && is_verb(verb) && !AFTER_NOUNS.contains(&format!(" {noun} "))),
        [verb] => accented || (!label && is_verb(verb)),
        [] => false,
    }
}

/// "If a visitor …" always, "If they are happy, offer …" because an order follows.
fn is_conditional_order(sentence: &str, words: &[&str]) -> bool {
    let [first, rest @ ..] = words else { return false };
    if !matches!(*first, "if" | "when" | "whenever" | "once" | "si" | "cuando" | "se" | "quando") {
        return false;
    }
    let visitor = rest.iter().take(3).any(|word| {
        matches!(*word, "visitor" | "visitors" | "user" | "users" | "visitante" | "visitantes" | "usuario" | "usuarios")
    });
    let ordered = |clause: &str| {
        let words = self::words(clause);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        is_imperative(clause, &words)
    };
    visitor || sentence.split(',').skip(1).any(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_told_from_a_fact() {
        let orders = [
            "Answer FAQs.",
            "Ask for the e-mail.",
            "You are Luna.",
            "Never give discounts.",
            "Do not invent prices.",
            "Be kind.",
            "Responde con amabilidad.",
            "Eres Luna.",
            "No inventes precios.",
            "Sé breve.",
            "Siempre saluda.",
            "Pide el correo.",
            "Você é Luna.",
            "Não invente preços.",
            "Seja breve.",
            "Pergunte o nome.",
            "Tone: friendly",
            "Please answer briefly.",
            "If the customer is unhappy, offer a call.",
            "Si el visitante pregunta, ofrece una cita.",
            "Call capture_lead then.",
        ];
        let facts = [
            "Help is free.",
            "Contact: a@b.com",
            "Book prices start at 5 €.",
            "Se aceptan tarjetas.",
            "No aceptamos mascotas.",
            "Não aceitamos cartões.",
            "Offer valid until May.",
            "You can pay by card.",
            "Visit us at Sun St 5.",
            "Si no está satisfecho, devolvemos el dinero.",
            "Support is open all day.",
            "Llámanos al 555.",
        ];
        for order in orders {
            assert!(is_instruction(order), "{order}");
        }
        for fact in facts {
            assert!(!is_instruction(fact), "{fact}");
        }
    }
}
