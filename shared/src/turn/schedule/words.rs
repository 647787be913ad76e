//! What the visitor is told of appointments, in the language of the agent. A model puts it into the visitor's own; the
//! offline model says it as it is.

use crate::domain::Availability;
use crate::domain::language::Lang;
use crate::domain::scheduling::Unbookable;

/// The question that ends a message without a booking. The offline model knows it as its own.
pub(super) fn which(lang: Lang) -> &'static str {
    lang.of([
        "Which day and time would suit you?",
        "¿Qué día y a qué hora te vendría bien?",
        "Que dia e horário ficam bons para você?",
    ])
}

pub(super) fn recorded(lang: Lang) -> &'static str {
    lang.of([
        "The request is recorded and the team has been told. A person will confirm the time.",
        "La solicitud está registrada y el equipo ya lo sabe. Una persona confirmará la hora.",
        "O pedido está registrado e a equipe já foi avisada. Uma pessoa vai confirmar o horário.",
    ])
}

pub(super) fn left_out(lang: Lang) -> &'static str {
    lang.of([
        "The clocks skip that time on that day.",
        "Ese día los relojes se saltan esa hora.",
        "Nesse dia os relógios pulam esse horário.",
    ])
}

pub(super) fn twice(lang: Lang) -> &'static str {
    lang.of([
        "The clocks show that time twice on that day.",
        "Ese día los relojes marcan esa hora dos veces.",
        "Nesse dia os relógios marcam esse horário duas vezes.",
    ])
}

pub(super) fn no_time(lang: Lang) -> &'static str {
    lang.of(["That is a day without a time.", "Eso es un día sin hora.", "Isso é um dia sem horário."])
}

pub(super) fn unclear(lang: Lang) -> &'static str {
    lang.of([
        "That is no day and time that can be booked as it is.",
        "Eso no es un día y una hora que se puedan reservar tal cual.",
        "Isso não é um dia e horário que se possa marcar assim.",
    ])
}

pub(super) fn too_many_here(lang: Lang, most: u32) -> String {
    lang.of([
        format!("{most} appointments were booked in this conversation, and no more can be."),
        format!("En esta conversación ya se reservaron {most} citas y no se pueden reservar más."),
        format!("Nesta conversa já foram marcados {most} horários e não é possível marcar mais."),
    ])
}

pub(super) fn too_many_today(lang: Lang) -> &'static str {
    lang.of([
        "So many appointments were booked today that a person of the team has to book this one.",
        "Hoy se han reservado tantas citas que esta la tiene que reservar una persona del equipo.",
        "Hoje foram marcados tantos horários que uma pessoa da equipe precisa marcar este.",
    ])
}

pub(super) fn booked_before(lang: Lang, when: &str) -> String {
    lang.of([
        format!("That is booked already: {when}."),
        format!("Ya está reservada: {when}."),
        format!("Já está marcado: {when}."),
    ])
}

pub(super) fn booked(lang: Lang, when: &str, email: Option<&str>) -> String {
    let booked = lang.of([format!("Booked: {when}."), format!("Reservada: {when}."), format!("Marcado: {when}.")]);
    let Some(email) = email else { return booked };
    lang.of([
        format!("{booked} A confirmation goes to {email}."),
        format!("{booked} La confirmación llegará a {email}."),
        format!("{booked} A confirmação vai para {email}."),
    ])
}

pub(super) fn none_free(lang: Lang) -> &'static str {
    lang.of([
        "There is no free time near that.",
        "No hay ninguna hora libre cerca de esa.",
        "Não há nenhum horário livre perto desse.",
    ])
}

pub(super) fn free(lang: Lang) -> &'static str {
    lang.of(["Free", "Libre", "Livre"])
}

pub(super) fn why_not(lang: Lang, why: Unbookable, availability: &Availability) -> String {
    let (notice, days) = (availability.minimum_notice_minutes, availability.days_ahead);
    match why {
        Unbookable::Taken => {
            lang.of(["That time is taken.", "Esa hora está ocupada.", "Esse horário está ocupado."]).to_owned()
        }
        Unbookable::OutsideHours => lang
            .of([
                "No appointment begins at that time.",
                "A esa hora no empieza ninguna cita.",
                "Nenhum atendimento começa nesse horário.",
            ])
            .to_owned(),
        Unbookable::TooSoon => lang.of([
            format!("That is over, or too soon: appointments are booked {notice} minutes ahead at least."),
            format!(
                "Eso ya pasó o es demasiado pronto: las citas se reservan con al menos {notice} minutos de antelación."
            ),
            format!(
                "Isso já passou ou é cedo demais: é preciso marcar com pelo menos {notice} minutos de antecedência."
            ),
        ]),
        Unbookable::TooFar => lang.of([
            format!("That is too far: appointments are booked up to {days} days ahead."),
            format!("Eso queda demasiado lejos: las citas se reservan con hasta {days} días de antelación."),
            format!("Isso está longe demais: é possível marcar com até {days} dias de antecedência."),
        ]),
    }
}
