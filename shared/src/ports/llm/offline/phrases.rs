//! What the offline model says on its own account, in its three languages. `{}` is filled by [`Phrase::with`].

pub(super) use crate::domain::language::Lang;

/// One sentence in all languages.
#[derive(Debug)]
pub(super) struct Phrase {
    en: &'static str,
    es: &'static str,
    pt: &'static str,
}

impl Phrase {
    pub(super) fn of(&self, lang: Lang) -> &'static str {
        lang.of([self.en, self.es, self.pt])
    }

    /// The sentence with its gap filled.
    pub(super) fn with(&self, lang: Lang, what: &str) -> String {
        self.of(lang).replacen("{}", what, 1)
    }

    /// Whether a text has this sentence, in any language: how the model knows what it asked before.
    pub(super) fn is_in(&self, text: &str) -> bool {
        [self.en, self.es, self.pt].iter().any(|phrase| text.contains(phrase))
    }
}

macro_rules! phrases {
    ($($name:ident { en: $en:literal, es: $es:literal, pt: $pt:literal })*) => {
        $(pub(super) const $name: Phrase = Phrase { en: $en, es: $es, pt: $pt };)*
    };
}

phrases! {
    HELLO { en: "Hello!", es: "¡Hola!", pt: "Olá!" }
    I_AM { en: "I'm {}.", es: "Soy {}.", pt: "Sou {}." }
    HOW_CAN_I_HELP { en: "How can I help you?", es: "¿En qué puedo ayudarte?", pt: "Como posso ajudar?" }
    NICE_TO_MEET { en: "Nice to meet you, {}!", es: "¡Mucho gusto, {}!", pt: "Muito prazer, {}!" }
    YOU_ARE_WELCOME { en: "You're welcome!", es: "¡De nada!", pt: "De nada!" }
    ALL_RIGHT { en: "All right.", es: "De acuerdo.", pt: "Tudo bem." }
    BYE {
        en: "Goodbye, and thank you for writing!",
        es: "¡Hasta luego, y gracias por escribir!",
        pt: "Até logo, e obrigado pelo contato!"
    }
    AUTOMATED {
        en: "I'm an automated assistant, not a person.",
        es: "Soy un asistente automático, no una persona.",
        pt: "Sou um assistente automático, não uma pessoa."
    }
    AUTOMATED_AS {
        en: "I'm {}, an automated assistant, not a person.",
        es: "Soy {}, un asistente automático, no una persona.",
        pt: "Sou {}, um assistente automático, não uma pessoa."
    }
    CAN_ANSWER {
        en: "I answer questions from the information that I was given.",
        es: "Respondo preguntas con la información que me dieron.",
        pt: "Respondo perguntas com as informações que recebi."
    }
    CAN_TAKE_CONTACT {
        en: "I can take your contact details.",
        es: "Puedo tomar tus datos de contacto.",
        pt: "Posso anotar seus dados de contato."
    }
    CAN_HAND_OFF {
        en: "I can pass you on to a person.",
        es: "Puedo pasarte con una persona.",
        pt: "Posso encaminhar você a uma pessoa."
    }
    CAN_SCHEDULE {
        en: "I can request an appointment for you.",
        es: "Puedo pedir una cita para ti.",
        pt: "Posso pedir um agendamento para você."
    }
    NO_IMAGES { en: "I can't see images.", es: "No puedo ver imágenes.", pt: "Não consigo ver imagens." }
    UNKNOWN {
        en: "I don't have that information.",
        es: "No tengo esa información.",
        pt: "Não tenho essa informação."
    }
    UNKNOWN_ABOUT {
        en: "About “{}”: I don't have that information.",
        es: "Sobre «{}»: no tengo esa información.",
        pt: "Sobre “{}”: não tenho essa informação."
    }
    NOTED_ABOUT { en: "I have read “{}”.", es: "He leído «{}».", pt: "Li “{}”." }
    OFFER {
        en: "If you like, leave me your name and an e-mail or phone number, so that the team can get back to you.",
        es: "Si quieres, déjame tu nombre y un correo o teléfono, para que el equipo pueda responderte.",
        pt: "Se quiser, deixe seu nome e um e-mail ou telefone, para que a equipe possa responder."
    }
    ASK_CONTACT {
        en: "Please tell me your name and an e-mail or phone number.",
        es: "Dime, por favor, tu nombre y un correo o teléfono.",
        pt: "Por favor, diga seu nome e um e-mail ou telefone."
    }
    ASK_WHEN {
        en: "Which day and time would suit you?",
        es: "¿Qué día y a qué hora te vendría bien?",
        pt: "Que dia e horário ficam bons para você?"
    }
    NO_LEADS {
        en: "Thank you, but I can't keep contact details in this chat.",
        es: "Gracias, pero no puedo guardar datos de contacto en este chat.",
        pt: "Obrigado, mas não posso guardar dados de contato neste chat."
    }
    NO_HANDOFF {
        en: "I can't connect you with a person from this chat.",
        es: "No puedo comunicarte con una persona desde este chat.",
        pt: "Não posso encaminhar você a uma pessoa neste chat."
    }
    NO_APPOINTMENTS {
        en: "I can't arrange appointments in this chat.",
        es: "No puedo agendar citas en este chat.",
        pt: "Não posso marcar horários neste chat."
    }
    DONE { en: "Done!", es: "¡Listo!", pt: "Pronto!" }
    DONE_WITH { en: "Done: {}", es: "Listo: {}", pt: "Pronto: {}" }
    LEAD_DONE {
        en: "Thank you! I have noted your contact details.",
        es: "¡Gracias! He anotado tus datos de contacto.",
        pt: "Obrigado! Anotei seus dados de contato."
    }
    LEAD_DONE_FOR {
        en: "Thank you, {}! I have noted your contact details.",
        es: "¡Gracias, {}! He anotado tus datos de contacto.",
        pt: "Obrigado, {}! Anotei seus dados de contato."
    }
    HANDOFF_DONE {
        en: "I have passed your request on to the team.",
        es: "He pasado tu solicitud al equipo.",
        pt: "Encaminhei seu pedido à equipe."
    }
    APPOINTMENT_DONE {
        en: "I have noted your request for an appointment: {}.",
        es: "He anotado tu solicitud de cita: {}.",
        pt: "Anotei seu pedido de agendamento: {}."
    }
    APPOINTMENT_BOOKED {
        en: "Your appointment is booked: {}.",
        es: "Tu cita está reservada: {}.",
        pt: "Seu horário está marcado: {}."
    }
    FAILED {
        en: "I'm sorry, that did not work.",
        es: "Lo siento, eso no ha funcionado.",
        pt: "Desculpe, isso não funcionou."
    }
    SORRY { en: "I'm sorry: {}", es: "Lo siento: {}", pt: "Desculpe: {}" }
}
