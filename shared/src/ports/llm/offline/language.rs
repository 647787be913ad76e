//! Words of Spanish, Portuguese and English: folding, stop words, light stems.
//!
//! All of it is deliberately small. A stem only has to be the same for the forms of a word that visitors and
//! knowledge use ("horario", "horarios"); [`CONCEPTS`] joins what stems cannot, also across the languages ("price",
//! "precio", "cuesta"), so that an English question finds a Spanish answer.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::phrases::Lang;
pub(super) use crate::domain::language::words;
pub(super) use crate::domain::text::fold;

/// Greetings; stop words, too.
const GREETINGS: &str = "hello hi hey greetings hola buenas buenos buen dias saludos ola oi bom boa tardes noches alo";
/// What may stand beside a greeting.
const AROUND_GREETINGS: &str = "\
    good morning afternoon evening day there everyone dia tarde noite noche todos team equipo que tal como estas esta \
    estan va vai tudo bem bien how are you doing whats up is";

const STOP: &str = "\
    a an the is are am was were be been do does did dont im ive id youre its it this that these those there here i me \
    my mine you your yours we our us they them their he she his her what whats which who how when why and or but if \
    then of in on at to for from with without by about as into can cant could would should will shall may might must \
    have has had got get give want wants need needs like know tell say please thanks thank ok okay yes no not any some \
    much many more also just so too very really let lets see ask available disponible disponibles disponivel \
    disponiveis el la los las lo le les un una unos unas y o u e ni es son esta estan este esto esa ese eso ser hay ha \
    han he era soy eres yo mi mis me tu tus te su sus se nos ustedes usted ud vos que cual cuales quien como cuando \
    cuanto cuanta cuantos cuantas por para con sin de del al en a sobre si tambien muy mas pero porque pues ya quiero \
    quisiera quieres puedo puede pueden puedes podria podrian necesito necesitas tienen tiene tengo tienes tenes hacen \
    hace hago saber decir dime dame gracias favor vale algo alguna algun algunos todo toda gustaria o os as um uma uns \
    umas sao foi eu meu minha meus minhas seu sua seus suas voce voces qual quais quem quando quanto quanta quantos \
    quantas com sem do da dos das no na nos nas ao aos pelo pela num numa em mas mais muito tambem sim nao quero \
    queria gostaria posso pode podem poderia preciso tem tenho temos ter fazem faz faco saber dizer diga obrigado \
    obrigada isso isto esse essa ja algum alguma tudo queda quedan fica ficam";

/// Each row means one thing; the first word names it.
const CONCEPTS: &[&str] = &[
    "hours hour hora horas open opens opening opened close closes closing closed horario horarios abierto abiertos \
     abre abren abrir cierra cierran cerrado cerrados aberto aberta abrem fecham fechado funcionamento",
    "price prices pricing cost costs fee precio precios cuesta cuestan costo coste tarifa tarifas valor preco precos \
     custa custam custo",
    "where address location located donde direccion ubicacion ubicado ubicados onde endereco localizacao localizado",
    "shipping ship ships shipped deliver delivers delivery deliveries delivered envio envios enviar envian enviamos \
     enviam entrega entregas entregam entregar entregamos frete",
    "payment payments pay pays paid pago pagos pagar pagan pagamento pagamentos card cards tarjeta tarjetas cartao \
     cartoes",
    "refund refunds return returns returned devolucion devoluciones devolver reembolso devolucao devolucoes troca \
     trocas",
    "phone telephone telefono telefonos telefone",
    "email mail correo",
    "appointment appointments booking bookings book reservation reservations reserve cita citas reserva reservas \
     reservar agendar turno turnos marcar agendamento",
    "service services servicio servicios servico servicos",
    "free gratis gratuito gratuita",
    "parking estacionamiento aparcamiento estacionamento",
    "warranty guarantee garantia",
    "discount discounts descuento descuentos desconto descontos promotion promotions promocion promociones promocao",
    "cancel cancellation cancelar cancelacion cancelamento",
    "product products producto productos produto produtos",
    "store shop tienda loja",
    "menu carta cardapio",
    "pet pets mascota mascotas",
    "support soporte suporte",
    "holiday holidays festivo festivos feriado feriados",
    "contact contacto contato",
    "duration last lasts long take takes dura duran duracion duracao demora tarda tardan minutes minutos weeks \
     semanas months meses",
    "visit visits consultation visita visitas consulta consultas",
    "first primera primero primeira primeiro",
    "saturday sabado saturdays sabados",
    "sunday domingo sundays domingos",
    "monday lunes mondays",
];

/// The language of a text, if something speaks for one.
pub(super) fn detect(text: &str) -> Option<Lang> {
    Lang::detect(text)
}

fn set(words: &'static str) -> HashSet<&'static str> {
    words.split_whitespace().collect()
}

static STOP_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| &set(STOP) | &set(GREETINGS));
static GREETING_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| set(GREETINGS));
static GREETING_FILLERS: LazyLock<HashSet<&str>> = LazyLock::new(|| set(AROUND_GREETINGS));
static CONCEPT_OF: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let row = |row: &&'static str| {
        let name = row.split_whitespace().next().unwrap_or_default();
        row.split_whitespace().map(move |word| (stem(word), name)).collect::<Vec<_>>()
    };
    CONCEPTS.iter().flat_map(row).collect()
});

/// The words with a space around each, to look for phrases in.
pub(super) fn spaced(text: &str) -> String {
    format!(" {} ", words(text).join(" "))
}

/// Whether one of the phrases, of folded words and with ", " between them, is in a [`spaced`] text.
pub(super) fn has_any(spaced: &str, phrases: &str) -> bool {
    phrases.split(", ").any(|phrase| spaced.contains(&format!(" {phrase} ")))
}

/// Whether a folded word means nothing by itself.
pub(super) fn is_stop(word: &str) -> bool {
    STOP_WORDS.contains(word)
}

/// Whether a folded word greets.
pub(super) fn is_greeting(word: &str) -> bool {
    GREETING_WORDS.contains(word)
}

/// Whether a folded word may stand beside a greeting without adding to it.
pub(super) fn is_greeting_filler(word: &str) -> bool {
    GREETING_FILLERS.contains(word)
}

/// The stems of what a text is about, without stop words; words of one concept have the same.
pub(super) fn stems(text: &str) -> Vec<String> {
    let mut stems: Vec<String> = words(text)
        .iter()
        .filter(|word| !is_stop(word))
        .map(|word| {
            let stem = stem(word);
            CONCEPT_OF.get(&stem).map_or(stem, |concept| (*concept).to_owned())
        })
        .collect();
    let asks_price =
        "how much is, how much are, how much for, cuanto es, cuanto son, cuanto sale, quanto e, quanto fica";
    if has_any(&spaced(text), asks_price) {
        stems.push("price".into());
    }
    stems
}

/// The common part of a folded word's forms.
fn stem(word: &str) -> String {
    if !word.is_ascii() || word.bytes().any(|byte| byte.is_ascii_digit()) {
        return word.to_owned();
    }
    let mut stem = singular(word);
    for suffix in ["amo", "emo", "imo", "ando", "endo", "indo", "ing", "ed", "ar", "er", "ir", "an", "en", "am", "em"] {
        if let Some(rest) = stem.strip_suffix(suffix).filter(|rest| rest.len() >= 4) {
            stem.truncate(rest.len());
            break;
        }
    }
    let doubled = matches!(stem.as_bytes(), [.., a, b] if a == b && stem.len() > 3);
    if doubled {
        stem.pop();
    }
    if stem.len() > 3 && stem.ends_with(['a', 'e', 'o', 'y']) {
        stem.pop();
    }
    stem
}

fn singular(word: &str) -> String {
    match word {
        word if word.len() > 4 && word.ends_with("ies") => format!("{}y", &word[..word.len() - 3]),
        word if word.len() > 4 && word.ends_with("oes") => format!("{}ao", &word[..word.len() - 3]),
        word if word.len() > 6 && word.ends_with("ciones") => word[..word.len() - 2].to_owned(),
        word if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") => word[..word.len() - 1].to_owned(),
        word => word.to_owned(),
    }
}

/// The sentences of a text, each with its end mark. A point ends one only before white space, and not after an
/// abbreviation or a single letter.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    const ABBREVIATIONS: [&str; 11] = ["av", "dr", "dra", "sr", "sra", "st", "tel", "approx", "aprox", "nr", "prof"];
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, mark) in text.char_indices() {
        let end = at + mark.len_utf8();
        let ends = match mark {
            '\n' => true,
            '?' | '!' | '…' => {
                text[end..].chars().next().is_none_or(|next| !matches!(next, '?' | '!' | '"' | '”' | '»' | ')'))
            }
            '.' if text[end..].chars().next().is_none_or(char::is_whitespace) => {
                let word = text[start..at].rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                let number = word.chars().all(|c| c.is_ascii_digit());
                let short = word.chars().count() == 1 && !number;
                !short && !ABBREVIATIONS.contains(&fold(word).as_str())
            }
            _ => false,
        };
        if ends {
            sentences.push(&text[start..end]);
            start = end;
        }
    }
    sentences.push(&text[start..]);
    sentences.into_iter().map(str::trim).filter(|sentence| sentence.chars().any(char::is_alphanumeric)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_have_one_stem() {
        let same = [
            "horario horarios opening abren",
            "shipping ships envío envíos entregas",
            "price prices precios cuesta preço custam",
            "aceptan aceptamos aceptas",
            "park parks",
            "cartões tarjeta card",
            "devolución devoluciones returns",
        ];
        for forms in same {
            let stems = stems(forms);
            assert!(stems.iter().all(|stem| *stem == stems[0]), "{forms}: {stems:?}");
        }
    }

    #[test]
    fn a_point_inside_a_word_or_after_an_abbreviation_ends_nothing() {
        let text = "Write to a.b@x.com. We are in Av. Sol 3, from 9 a.m. to 5. Really?! Yes";
        let expected = ["Write to a.b@x.com.", "We are in Av. Sol 3, from 9 a.m. to 5.", "Really?!", "Yes"];
        assert_eq!(sentences(text), expected);
    }
}
