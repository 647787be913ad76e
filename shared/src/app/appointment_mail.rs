//! Mail about appointments: to who comes, if an address is known, and to whom they meet, each with a file for calendars.
//!
//! A visitor may give anybody's address. So the mail to it holds nothing that the visitor wrote, neither name nor notes:
//! nobody can have us send their words to others.

use jiff::tz::TimeZone;

use super::{App, appointment, verification};
use crate::domain::language::Lang;
use crate::domain::scheduling::{Invite, Method, Source, Status, spoken};
use crate::domain::{Agent, Appointment, Event};
use crate::events::catalog::kind;
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::ports::mail::{Attachment, Mail};
use crate::store;

/// How the two mails about one event are told apart.
const GUEST: &str = "guest";
const HOST: &str = "host";

/// What an event tells, as of when it happened.
struct Told<'a> {
    event: &'a Event,
    appointment: Appointment,
    method: Method,
    times: (Time, Time, u32),
    /// Whose name mails and calendars show.
    name: String,
    organizer: String,
    /// The language of the agent that it was booked by or for.
    lang: Lang,
    /// Its start in the zone that it was agreed in, and its end, to be spoken.
    zone: TimeZone,
}

/// Whether mail is sent about the event.
pub(super) fn is_wanted(event: &Event) -> bool {
    let kinds = [kind::APPOINTMENT_BOOKED, kind::APPOINTMENT_RESCHEDULED, kind::APPOINTMENT_CANCELLED];
    kinds.contains(&event.kind.as_str())
}

/// Sends both mails, each unless it went out before. What is cancelled by now is no booking or move to tell of.
pub(super) async fn mail(app: &App, event: &Event) -> Result<()> {
    let Some(told) = read(app, event).await?.filter(|told| !told.is_overtaken()) else { return Ok(()) };
    let host = match appointment::provider(app, &told.appointment).await {
        Ok(provider) => provider,
        Err(error) if error.code() == Code::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(guest) = told.appointment.email.clone().filter(|_| !told.is_past(app.now()))
        && is_to_be_told(app, &told).await?
    {
        let (subject, text) = told.to_guest();
        told.send(app, GUEST, &guest, (subject, text), &[&guest]).await?;
    }
    if !verification::may_be_told(app, &host).await? {
        return Ok(());
    }
    let (subject, text) = told.to_host(app).await?;
    let guest = told.appointment.email.as_deref();
    let attendees: Vec<&str> = guest.into_iter().chain([host.email.as_str()]).collect();
    told.send(app, HOST, &host.email, (subject, text), &attendees).await
}

/// Whether a guest hears of it: of a cancellation if they were invited, and of anything else unless it is cancelled.
async fn is_to_be_told(app: &App, told: &Told<'_>) -> Result<bool> {
    if told.method == Method::Cancel {
        return store::mail::was_invited(&app.table, &told.appointment).await;
    }
    // Noted first and looked at again then: whoever cancels meanwhile either is seen here, or sees the note.
    store::mail::invites(&app.table, &told.appointment).await?;
    let found = store::appointment::get(&app.table, told.event.workspace_id, told.appointment.id).await;
    match found {
        Ok(found) => Ok(found.body.status != Status::Cancelled),
        Err(error) if error.code() == Code::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn read<'a>(app: &App, event: &'a Event) -> Result<Option<Told<'a>>> {
    let Some(id) = event.id_in::<Appointment>("appointment") else { return Ok(None) };
    let found = store::appointment::get(&app.table, event.workspace_id, id).await;
    let workspace = store::workspace::get(&app.table, event.workspace_id).await;
    let (appointment, workspace) = match (found, workspace) {
        (Ok(found), Ok(workspace)) => (found.body, workspace.body),
        // What is gone meanwhile needs no mail.
        (Err(error), _) | (_, Err(error)) if error.code() == Code::NotFound => return Ok(None),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let time = |field: &str| event.data.get(field).and_then(|at| serde_json::from_value::<Time>(at.clone()).ok());
    let sequence = event.data.get("sequence").and_then(serde_json::Value::as_u64);
    let sequence = sequence.and_then(|sequence| u32::try_from(sequence).ok()).unwrap_or(appointment.sequence);
    let (start, end) = (time("start").unwrap_or(appointment.start), time("end").unwrap_or(appointment.end));
    let availability =
        store::appointment::availability(&app.table, event.workspace_id, appointment.provider_id).await?;
    let shown = availability.and_then(|availability| availability.body.organizer_email);
    let zone = appointment.zone().unwrap_or(TimeZone::UTC);
    let lang = language(app, &appointment).await?;
    let method = if event.kind == kind::APPOINTMENT_CANCELLED { Method::Cancel } else { Method::Request };
    // Without an address that the owner wants to show, answers of calendars lead nowhere.
    let organizer = shown.unwrap_or_else(|| format!("no-reply@{}", host_of(app)));
    let times = (start, end, sequence);
    Ok(Some(Told { event, appointment, method, times, name: workspace.name, organizer, lang, zone }))
}

/// The language that a guest is written to in: that of the agent that it was booked by or for, English where there is none.
async fn language(app: &App, appointment: &Appointment) -> Result<Lang> {
    let Some(agent) = appointment.agent_id else { return Ok(Lang::default()) };
    let workspace = appointment.workspace_id;
    let read = tokio::try_join!(
        store::agent::get(&app.table, workspace, agent),
        store::agent::definition(&app.table, workspace, agent),
    );
    match read {
        Ok((agent, definition)) => {
            Ok(Lang::of_agent(agent.body.greeting_message.as_deref(), definition.system_prompt()))
        }
        Err(error) if error.code() == Code::NotFound => Ok(Lang::default()),
        Err(error) => Err(error),
    }
}

/// The host of this installation.
pub(super) fn host_of(app: &App) -> String {
    let url = url::Url::parse(&app.config.public_base_url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "localhost".into())
}

impl Told<'_> {
    /// Whether it was cancelled after what the event tells of.
    fn is_overtaken(&self) -> bool {
        self.method != Method::Cancel && self.appointment.status == Status::Cancelled
    }

    /// Whether it invites to what is over.
    fn is_past(&self, now: Time) -> bool {
        self.method != Method::Cancel && self.times.1 <= now
    }

    fn verb(&self, lang: Lang) -> (&'static str, &'static str) {
        match self.event.kind.as_str() {
            kind::APPOINTMENT_BOOKED => {
                lang.of([("Booked", "is booked"), ("Reservada", "está reservada"), ("Marcado", "está marcado")])
            }
            kind::APPOINTMENT_RESCHEDULED => {
                lang.of([("Moved", "was moved"), ("Cambiada", "cambió de hora"), ("Remarcado", "foi remarcado")])
            }
            _ => lang.of([
                ("Cancelled", "was cancelled"),
                ("Cancelada", "fue cancelada"),
                ("Cancelado", "foi cancelado"),
            ]),
        }
    }

    /// `Monday, 5 March 2040, 10:00 to 10:30 (Europe/Madrid)`.
    fn when(&self, lang: Lang) -> String {
        let (start, end, _) = self.times;
        let until = spoken(end, &self.zone, lang);
        let until = until.rsplit(", ").next().unwrap_or_default();
        let to = lang.of(["to", "a", "às"]);
        format!("{} {to} {until} ({})", spoken(start, &self.zone, lang), self.appointment.timezone)
    }

    fn to_guest(&self) -> (String, String) {
        let Self { appointment: Appointment { title, location, .. }, name, lang, .. } = self;
        let ((word, verb), at) = (self.verb(*lang), self.when(*lang));
        let [what, when, place] =
            lang.of([["What", "When", "Where"], ["Qué", "Cuándo", "Dónde"], ["O quê", "Quando", "Onde"]]);
        let place = location.as_ref().map(|location| format!("{place}: {location}\n")).unwrap_or_default();
        let then = match self.method {
            Method::Cancel => lang.of([
                "The attached file takes it out of your calendar.",
                "El archivo adjunto la quita de tu calendario.",
                "O arquivo anexo o retira da sua agenda.",
            ]),
            Method::Request | Method::Publish => lang.of([
                "The attached file puts it into your calendar. To change or cancel it, write to where you booked it.",
                "El archivo adjunto la añade a tu calendario. Para cambiarla o cancelarla, escribe donde la reservaste.",
                "O arquivo anexo o coloca na sua agenda. Para mudar ou cancelar, escreva para onde você marcou.",
            ]),
        };
        let first = lang.of([
            format!("Your appointment with {name} {verb}."),
            format!("Tu cita con {name} {verb}."),
            format!("Seu horário com {name} {verb}."),
        ]);
        let text = format!("{first}\n\n{what}: {title}\n{when}: {at}\n{place}\n{then}\n");
        (format!("{word}: {title}, {at}"), text)
    }

    /// In English, as all mail to owners is.
    async fn to_host(&self, app: &App) -> Result<(String, String)> {
        let Appointment { id, title, name, email, phone, notes, agent_id, cancel_reason, source, .. } =
            &self.appointment;
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "not said".into());
        let ((word, verb), when) = (self.verb(Lang::En), self.when(Lang::En));
        let mut text = format!("An appointment {verb}.\n\nWhat: {title}\nWhen: {when}\n");
        if let (Method::Cancel, Some(reason)) = (self.method, cancel_reason) {
            text += &format!("Why: {reason}\n");
        }
        text +=
            &format!("Who: {}\nE-mail: {}\nPhone: {}\nAbout: {}\n", said(name), said(email), said(phone), said(notes));
        if let (Source::Agent, Some(agent)) = (source, agent_id) {
            text += &format!("Booked by: {}\n", agent_name(app, self.event, *agent).await?);
        }
        text += &format!("\nMore: GET {}/api/appointments/{}\n", app.config.public_base_url, id.int());
        let who = name.as_deref().or(email.as_deref()).unwrap_or(title);
        Ok((format!("{word}: {who}, {when}"), text))
    }

    /// Sends one of the mails, unless it went out before. An address that takes no mail is its owner's mistake, and no
    /// reason not to tell the other.
    async fn send(
        &self,
        app: &App,
        whom: &str,
        to: &str,
        (subject, text): (String, String),
        attendees: &[&str],
    ) -> Result<()> {
        let (workspace, event) = (self.event.workspace_id, self.event.id);
        if store::mail::was_sent(&app.table, workspace, event, Some(whom)).await? {
            return Ok(());
        }
        let host = host_of(app);
        let invite = Invite {
            method: self.method,
            appointment: &self.appointment,
            times: self.times,
            organizer: (&self.name, &self.organizer),
            attendees,
            description: "",
            host: &host,
            now: app.now(),
        };
        let content_type = format!("text/calendar; method={}; charset=utf-8", self.method.text());
        let attachment = Attachment { name: "invite.ics".into(), content_type, body: invite.to_ics() };
        let subject = subject.replace(char::is_control, " ");
        let mail = Mail { to: to.to_owned(), subject, text, attachment: Some(attachment) };
        if app.mail(whom, &mail).await?
            && let Err(error) = store::mail::sent(&app.table, self.event, Some(whom), app.now()).await
        {
            // To fail here would send it once more, which is worse than not to know.
            tracing::warn!(%event, whom, %error, "it is not noted that a mail went out");
        }
        Ok(())
    }
}

/// The agent's name; its id when it is gone.
async fn agent_name(app: &App, event: &Event, agent: Id<Agent>) -> Result<String> {
    match store::agent::get(&app.table, event.workspace_id, agent).await {
        Ok(found) => Ok(found.body.name),
        Err(error) if error.code() == Code::NotFound => Ok(agent.text()),
        Err(error) => Err::<String, Error>(error),
    }
}
