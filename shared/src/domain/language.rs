//! The languages that we speak on our own account, and which of them a text is in.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::text::fold;

/// A language that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    /// English, where nothing speaks for another.
    #[default]
    En,
    /// Spanish.
    Es,
    /// Portuguese.
    Pt,
}

/// Words that speak for a language and for no other one, folded.
const ENGLISH: &str = "\
    the an is are does you your i im my we what whats when where how who which can could would like want need have has \
    to of in on for with and hello hi hey thanks thank please it this that there be am tomorrow today price prices \
    hours much good morning talk speak open they any about from at tell or not dont yes phone name help opening";
const SPANISH: &str = "\
    el la los las un una unos y es son esta estan tienen tiene tengo tienes tenes quiero quisiera necesito cual cuales \
    cuanto cuanta cuantos cuando donde hola buenos buenas dias tardes gracias mi con sin hay puedo puede pueden puedes \
    llamo soy hablar precio precios horarios ustedes usted del al muy tambien manana hoy correo telefono hacen aceptan \
    abren cierran cita ayuda alguien quien quienes lo le su sus les persona direccion ubicacion envios tu decime dime";
const PORTUGUESE: &str = "\
    os um uma e sao tem tenho quero queria gostaria preciso qual quais quanto quantos quando onde ola oi bom boa noite \
    obrigado obrigada meu minha com sem posso pode podem chamo sou falar preco precos voces voce da dos das na ao \
    muito sim tambem quem onde amanha hoje fazem aceitam abrem fecham pessoa nao seu sua pelo pela isso esse atendente \
    alguem ajuda";

fn set(words: &'static str) -> HashSet<&'static str> {
    words.split_whitespace().collect()
}

static WORDS: LazyLock<[HashSet<&str>; 3]> = LazyLock::new(|| [set(ENGLISH), set(SPANISH), set(PORTUGUESE)]);

/// The folded words of a text; an apostrophe joins ("don't" is "dont").
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let folded: String = fold(text).chars().filter(|c| !matches!(c, '\'' | '’')).collect();
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Lang {
    /// The one of three texts, in English, Spanish and Portuguese, that is in this language.
    #[must_use]
    pub fn of<T>(self, [en, es, pt]: [T; 3]) -> T {
        match self {
            Self::En => en,
            Self::Es => es,
            Self::Pt => pt,
        }
    }

    /// The language of a text by its commonest words and letters; `None` when nothing speaks for one.
    #[must_use]
    pub fn detect(text: &str) -> Option<Self> {
        // Addresses say nothing, and ".com" would be Portuguese.
        let is_address = |token: &&str| token.contains('@') || token.trim_end_matches(['.', '?', '!']).contains('.');
        let text: String = text.split_whitespace().filter(|token| !is_address(token)).collect::<Vec<_>>().join(" ");
        let words = words(&text);
        let [english, spanish, portuguese] =
            &WORDS.each_ref().map(|list| words.iter().filter(|word| list.contains(word.as_str())).count());
        let letters = |letters: &[char]| if text.to_lowercase().contains(letters) { 2 } else { 0 };
        let spanish = spanish + letters(&['¿', '¡', 'ñ']);
        let portuguese = portuguese + letters(&['ã', 'õ', 'ç', 'ê', 'ô', 'à']);
        // English words stray into the others, not the other way round: a tie is theirs.
        match spanish.max(portuguese).max(*english) {
            0 => None,
            most if most == spanish => Some(Self::Es),
            most if most == portuguese => Some(Self::Pt),
            _ => Some(Self::En),
        }
    }

    /// The language of an agent, which is that of what it says first, else of its instructions.
    #[must_use]
    pub fn of_agent(greeting: Option<&str>, instructions: &str) -> Self {
        greeting.and_then(Self::detect).or_else(|| Self::detect(instructions)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_shows_in_common_words() {
        let table = [
            ("Do you ship to France?", Some(Lang::En)),
            ("¿Hacen envíos?", Some(Lang::Es)),
            ("cuanto cuesta el plan pro", Some(Lang::Es)),
            ("Vocês fazem entregas?", Some(Lang::Pt)),
            ("qual o preco?", Some(Lang::Pt)),
            ("bom dia", Some(Lang::Pt)),
            ("buenos días", Some(Lang::Es)),
            ("ana@loja.com", None),
            ("12345", None),
        ];
        for (text, lang) in table {
            assert_eq!(Lang::detect(text), lang, "{text}");
        }
    }

    #[test]
    fn an_agent_speaks_the_language_of_its_greeting_else_of_its_instructions() {
        assert_eq!(Lang::of_agent(Some("¡Hola! Soy Luna."), "You are Luna."), Lang::Es);
        assert_eq!(Lang::of_agent(Some("Luna!"), "Você é a Luna. Responda em português."), Lang::Pt);
        assert_eq!(Lang::of_agent(None, ""), Lang::En);
    }
}
