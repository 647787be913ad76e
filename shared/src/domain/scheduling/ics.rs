//! An appointment as calendars exchange it: iCalendar (RFC 5545) with a method of iTIP (RFC 5546). Times are UTC, so that
//! no description of a zone has to go along and be right.

use super::{Appointment, Status};
use crate::kernel::Time;

/// The longest line, in bytes without its end.
const LINE: usize = 75;

/// What a calendar is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// To enter the appointment, or change what it has of it.
    Request,
    /// To take it out.
    Cancel,
    /// To show it; nobody is invited.
    Publish,
}

impl Method {
    /// As the file and the mail's content type write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::Cancel => "CANCEL",
            Self::Publish => "PUBLISH",
        }
    }
}

/// A file about an appointment, for somebody's calendar.
#[derive(Debug, Clone, Copy)]
pub struct Invite<'a> {
    /// What it asks for.
    pub method: Method,
    /// The appointment.
    pub appointment: &'a Appointment,
    /// Its start, end and sequence as of what is told of: it may have moved on since.
    pub times: (Time, Time, u32),
    /// Who invites: name and address.
    pub organizer: (&'a str, &'a str),
    /// The addresses of who is invited.
    pub attendees: &'a [&'a str],
    /// What is said of it.
    pub description: &'a str,
    /// What makes its id unique in the world, such as the host of this installation.
    pub host: &'a str,
    /// When the file was made.
    pub now: Time,
}

impl Invite<'_> {
    /// The file.
    #[must_use]
    pub fn to_ics(&self) -> String {
        let (start, end, sequence) = self.times;
        let appointment = self.appointment;
        let is_cancelled = self.method == Method::Cancel || appointment.status == Status::Cancelled;
        let status = if is_cancelled { "CANCELLED" } else { "CONFIRMED" };
        let mut file = File::default();
        file.line("BEGIN:VCALENDAR");
        file.line("VERSION:2.0");
        file.line("PRODID:-//Chatia//Appointments//EN");
        file.line("CALSCALE:GREGORIAN");
        file.line(&format!("METHOD:{}", self.method.text()));
        file.line("BEGIN:VEVENT");
        file.line(&format!("UID:{}@{}", appointment.id.text(), self.host));
        file.line(&format!("DTSTAMP:{}", utc(self.now)));
        file.line(&format!("SEQUENCE:{sequence}"));
        file.line(&format!("DTSTART:{}", utc(start)));
        file.line(&format!("DTEND:{}", utc(end)));
        file.line(&format!("SUMMARY:{}", escaped(&appointment.title)));
        if let Some(location) = &appointment.location {
            file.line(&format!("LOCATION:{}", escaped(location)));
        }
        if !self.description.is_empty() {
            file.line(&format!("DESCRIPTION:{}", escaped(self.description)));
        }
        let (name, address) = self.organizer;
        file.line(&format!("ORGANIZER;CN={}:mailto:{}", quoted(name), uri(address)));
        for address in self.attendees {
            let who = "CUTYPE=INDIVIDUAL;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=FALSE";
            file.line(&format!("ATTENDEE;{who}:mailto:{}", uri(address)));
        }
        file.line(&format!("STATUS:{status}"));
        file.line("TRANSP:OPAQUE");
        file.line("END:VEVENT");
        file.line("END:VCALENDAR");
        file.0
    }
}

#[derive(Default)]
struct File(String);

impl File {
    /// Adds a line, folded where it is too long: never within a character.
    fn line(&mut self, line: &str) {
        let mut room = LINE;
        for c in line.chars() {
            if c.len_utf8() > room {
                self.0.push_str("\r\n ");
                room = LINE - 1;
            }
            self.0.push(c);
            room -= c.len_utf8();
        }
        self.0.push_str("\r\n");
    }
}

/// `20400305T090000Z`.
fn utc(at: Time) -> String {
    at.format("%Y%m%dT%H%M%SZ")
}

/// A text as a value: what has a meaning there stands behind a backslash.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\\' | ';' | ',' => escaped.extend(['\\', c]),
            '\n' | '\r' => escaped.push_str("\\n"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text as the value of a parameter, which has no escape for its own quotes.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).map(|c| if c == '"' { '\'' } else { c }).collect();
    format!("\"{plain}\"")
}

/// An address within a URI: what would end it or begin another part is written by its number.
fn uri(address: &str) -> String {
    let mut uri = String::with_capacity(address.len());
    for c in address.chars().filter(|c| !c.is_control()) {
        match c {
            '%' | '?' | '#' | '&' | ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                uri.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => uri.push(c),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Source;
    use super::super::tests::at;
    use super::*;
    use crate::domain::scheduling::Stretch;
    use crate::kernel::Id;

    fn appointment(title: &str) -> Appointment {
        let (start, end) = (at("2040-03-05T09:00:00Z"), at("2040-03-05T09:30:00Z"));
        Appointment {
            id: Id::from_int(7).unwrap(),
            workspace_id: Id::from_int(1).unwrap(),
            provider_id: Id::from_int(2).unwrap(),
            agent_id: None,
            conversation_id: None,
            contact_id: None,
            title: title.into(),
            location: Some("Main St. 1, 2nd floor".into()),
            name: None,
            email: None,
            phone: None,
            notes: None,
            start,
            end,
            held: Stretch { from: start, until: end },
            timezone: "UTC".into(),
            status: Status::Confirmed,
            source: Source::Team,
            sequence: 0,
            cancel_reason: None,
            history: Vec::new(),
            created_at: start,
            updated_at: start,
        }
    }

    fn file(method: Method, title: &str, description: &str) -> String {
        let appointment = appointment(title);
        let invite = Invite {
            method,
            appointment: &appointment,
            times: (appointment.start, appointment.end, 3),
            organizer: ("Sol \"&\" Luna; Co", "hello@example.com"),
            attendees: &["ana+x?y@example.com"],
            description,
            host: "chat.example.com",
            now: at("2040-03-01T08:00:00Z"),
        };
        invite.to_ics()
    }

    fn unfolded(file: &str) -> Vec<String> {
        file.replace("\r\n ", "").split_terminator("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn an_invitation_is_written_as_the_standard_says() {
        let lines = unfolded(&file(Method::Request, "Cut, wash; dry", "One\nTwo \\ three"));
        let expected = [
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            "PRODID:-//Chatia//Appointments//EN",
            "CALSCALE:GREGORIAN",
            "METHOD:REQUEST",
            "BEGIN:VEVENT",
            "UID:apt_00000000007@chat.example.com",
            "DTSTAMP:20400301T080000Z",
            "SEQUENCE:3",
            "DTSTART:20400305T090000Z",
            "DTEND:20400305T093000Z",
            "SUMMARY:Cut\\, wash\\; dry",
            "LOCATION:Main St. 1\\, 2nd floor",
            "DESCRIPTION:One\\nTwo \\\\ three",
            "ORGANIZER;CN=\"Sol '&' Luna; Co\":mailto:hello@example.com",
            "ATTENDEE;CUTYPE=INDIVIDUAL;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=FALSE:mailto:ana+x%3Fy@example.com",
            "STATUS:CONFIRMED",
            "TRANSP:OPAQUE",
            "END:VEVENT",
            "END:VCALENDAR",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_cancellation_says_so_twice() {
        let lines = unfolded(&file(Method::Cancel, "Visit", ""));
        assert!(lines.contains(&"METHOD:CANCEL".into()) && lines.contains(&"STATUS:CANCELLED".into()), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("DESCRIPTION")), "{lines:?}");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_file(title in "\\PC{0,200}", description in any::<String>()) {
            let file = file(Method::Request, &title, &description);
            prop_assert!(file.ends_with("END:VCALENDAR\r\n"));
            for line in file.split_terminator("\r\n") {
                prop_assert!(line.len() <= LINE, "{line:?}");
                prop_assert!(!line.contains(char::is_control), "{line:?}");
            }
            let lines = unfolded(&file);
            let summary = lines.iter().find_map(|line| line.strip_prefix("SUMMARY:")).unwrap();
            let read = summary.replace("\\,", ",").replace("\\;", ";").replace("\\\\", "\\");
            prop_assert_eq!(read, title, "what is written reads back");
            let names = lines.iter().map(|line| line.split([':', ';']).next().unwrap_or_default());
            prop_assert_eq!(names.filter(|name| *name == "BEGIN").count(), 2, "no text begins a part of its own");
        }
    }
}
