//! Mail: plain text, perhaps with a file, to one person at a time. Production speaks SMTP, such as Amazon SES's endpoint; the local platform
//! writes `.eml` files; tests collect.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::message::header::ContentType;
use lettre::message::{Attachment as Part, Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::{self, authentication::Credentials};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::secrets::private_directory;
use crate::kernel::{Clock, Code, Error, Result, Secret, Time};

/// The port on which TLS starts at once; on every other one STARTTLS is demanded.
const IMPLICIT_TLS_PORT: u16 = 465;

/// The field of an error that is about the address.
const TO: &str = "to";

/// Answers of a server that are about our log-in and not about the mail, although they are for good.
const LOG_IN: [u16; 4] = [530, 534, 535, 538];

/// The variables that say how a function reaches its SMTP server and who writes.
pub const VARIABLES: [&str; 4] = ["SMTP_HOST", "SMTP_PORT", "SMTP_USER", "MAIL_FROM"];

/// How long one mail may take, from the connection to the server's last word.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// One address, `ana@example.com` or `Ana <ana@example.com>`.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text, in UTF-8 with `\n` between lines.
    pub text: String,
    /// A file that goes along.
    pub attachment: Option<Attachment>,
}

/// A text file that goes with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What it is saved as.
    pub name: String,
    /// Such as `text/calendar; method=REQUEST; charset=utf-8`.
    pub content_type: String,
    /// What is in it.
    pub body: String,
}

/// Sends mail.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Hands a mail over. Success means that the server took it, not that it arrived.
    ///
    /// # Errors
    /// `validation_error` on `subject`, or on `to` when that is no address or the server refuses it for good, see
    /// [`is_refusal`]; `upstream_error` when the server does not take the mail for another reason.
    async fn send(&self, mail: &Mail) -> Result<()>;
}

/// Whether a mail failed for its address, so that to send it again would change nothing. Such an error never quotes the
/// address.
#[must_use]
pub fn is_refusal(error: &Error) -> bool {
    error.invalid_fields().iter().any(|field| field.name == TO)
}

/// Whether mail can be sent to this text, without a name beside the address.
#[must_use]
pub fn is_address(text: &str) -> bool {
    recipient(text).is_ok_and(|mailbox| mailbox.name.is_none())
}

/// How to reach the SMTP server.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// Such as `email-smtp.eu-west-1.amazonaws.com`.
    pub host: String,
    /// 465 for TLS from the start; any other, such as 587, for STARTTLS. Nothing is ever sent in the clear.
    pub port: u16,
    /// The SMTP user, which for SES is not an access key's id.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Who writes, `Chatia <hello@example.com>`.
    pub from: String,
}

/// Sends by SMTP over TLS.
pub struct SmtpMailer {
    config: SmtpConfig,
    from: Mailbox,
    clock: Arc<dyn Clock>,
    transport: OnceLock<AsyncSmtpTransport<Tokio1Executor>>,
}

impl SmtpMailer {
    /// A mailer that connects when the first mail goes out.
    ///
    /// # Errors
    /// `not_configured` when `from` is no address.
    pub fn new(config: SmtpConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let from = sender(&config.from)?;
        Ok(Self { config, from, clock, transport: OnceLock::new() })
    }

    fn transport(&self) -> Result<&AsyncSmtpTransport<Tokio1Executor>> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport);
        }
        let SmtpConfig { host, port, user, password, .. } = &self.config;
        // Both refuse to go on without TLS, so that nobody in between can talk the server's STARTTLS away.
        let builder = match *port {
            IMPLICIT_TLS_PORT => AsyncSmtpTransport::<Tokio1Executor>::relay(host),
            _ => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host),
        };
        let builder = builder.map_err(|error| Error::internal(format!("no TLS for mail: {error}")))?;
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        let transport = builder.port(*port).credentials(credentials).timeout(Some(TIMEOUT)).build();
        Ok(self.transport.get_or_init(|| transport))
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        let message = compose(&self.from, self.clock.now(), mail)?;
        match tokio::time::timeout(TIMEOUT, self.transport()?.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure(&error, mail.to.is_ascii())),
            Err(_) => Err(failed(&"the server took too long")),
        }
    }
}

fn failed(why: &dyn std::fmt::Display) -> Error {
    Error::new(Code::UpstreamError).caused_by(format!("mail: {why}"))
}

/// What a server's refusal means. Only its number is told, since its words may quote the address.
fn failure(error: &smtp::Error, is_ascii: bool) -> Error {
    match error.status() {
        Some(code) if error.is_permanent() && !LOG_IN.contains(&u16::from(code)) => {
            Error::field(TO, "refused", format!("The mail server refuses the address for good ({code})."))
        }
        // Other letters than ASCII are more than some servers can.
        None if error.is_client() && !is_ascii => {
            Error::field(TO, "refused", "The mail server does not know such addresses.")
        }
        _ => failed(error),
    }
}

/// Writes each mail to a file of its own, for the local platform. Names sort by time: `20260131T093000.000Z-000001.eml`.
pub struct FileMailer {
    directory: PathBuf,
    from: Mailbox,
    clock: Arc<dyn Clock>,
    written: AtomicU64,
}

impl FileMailer {
    /// A mailer into `directory`, which is made, for its owner only, if it is not there.
    ///
    /// # Errors
    /// `not_configured` when `from` is no address or the directory cannot be made.
    pub fn new(directory: impl Into<PathBuf>, from: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let (directory, from) = (directory.into(), sender(from)?);
        private_directory(&directory)?;
        Ok(Self { directory, from, clock, written: AtomicU64::new(0) })
    }

    fn next_path(&self, now: Time) -> PathBuf {
        let number = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        let millis = now.millis().rem_euclid(1000);
        self.directory.join(format!("{}.{millis:03}Z-{number:06}.eml", now.format("%Y%m%dT%H%M%S")))
    }
}

#[async_trait]
impl Mailer for FileMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        let now = self.clock.now();
        let bytes = compose(&self.from, now, mail)?.formatted();
        let path = self.next_path(now);
        let written = tokio::task::spawn_blocking(move || write_new(&path, &bytes)).await;
        let failed = |why: &dyn std::fmt::Display| Error::internal(format!("mail file: {why}"));
        written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

/// Writes a file that appears under its name only when it is whole, since people and tests watch the directory.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&part)?;
    file.write_all(bytes)?;
    fs::rename(part, path)
}

/// Collects mails, for tests. It refuses what the others refuse.
#[derive(Debug, Default)]
pub struct MemoryMailer(Mutex<Vec<Mail>>);

impl MemoryMailer {
    /// What was sent so far, oldest first.
    #[must_use]
    pub fn sent(&self) -> Vec<Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Mailer for MemoryMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        compose(&sender("Test <test@example.com>")?, Time::from_millis(0), mail)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mail.clone());
        Ok(())
    }
}

fn sender(from: &str) -> Result<Mailbox> {
    from.parse().map_err(|_| {
        Error::with_message(Code::NotConfigured, format!("\"{from}\" is no sender: write Name <name@example.com>"))
    })
}

fn recipient(to: &str) -> Result<Mailbox> {
    let bad = || Error::field(TO, "invalid", "That is not an e-mail address.");
    if to.chars().any(char::is_control) { Err(bad()) } else { to.parse().map_err(|_| bad()) }
}

/// The message as it goes over the wire. The builder encodes what it puts into headers, so a line break could not add
/// one; it is refused all the same, because nobody means it.
fn compose(from: &Mailbox, now: Time, mail: &Mail) -> Result<Message> {
    if mail.subject.chars().any(char::is_control) {
        return Err(Error::field("subject", "invalid", "The subject must be one line."));
    }
    let to = recipient(&mail.to)?;
    let sent = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
    let message = Message::builder().date(sent).from(from.clone()).to(to).subject(&mail.subject);
    let failed = |error: &dyn std::fmt::Display| Error::internal(format!("mail: {error}"));
    let Some(Attachment { name, content_type, body }) = &mail.attachment else {
        return message.header(ContentType::TEXT_PLAIN).body(mail.text.clone()).map_err(|error| failed(&error));
    };
    let content_type = ContentType::parse(content_type).map_err(|error| failed(&error))?;
    let parts = MultiPart::mixed()
        .singlepart(SinglePart::plain(mail.text.clone()))
        .singlepart(Part::new(name.clone()).body(body.clone(), content_type));
    message.multipart(parts).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    use super::*;
    use crate::kernel::ManualClock;

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(Time::from_millis(1_767_225_600_042)))
    }

    fn mail(to: &str, subject: &str) -> Mail {
        Mail { to: to.into(), subject: subject.into(), text: "Olá,\n.\nbye".into(), attachment: None }
    }

    #[test]
    fn a_file_goes_along_with_its_type_and_as_it_is() {
        let content_type = "text/calendar; method=REQUEST; charset=utf-8".to_owned();
        let body = "BEGIN:VCALENDAR\r\nSUMMARY:Año\r\nEND:VCALENDAR\r\n".to_owned();
        let attachment = Some(Attachment { name: "invite.ics".into(), content_type, body });
        let mail = Mail { attachment, ..mail("a@example.com", "hi") };
        let sent = compose(&sender("hello@example.com").unwrap(), Time::from_millis(0), &mail).unwrap();
        let text = String::from_utf8(sent.formatted()).unwrap();
        let wanted = ["Content-Type: multipart/mixed", "Content-Type: text/calendar; method=REQUEST", "invite.ics"];
        for part in wanted {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(
            text.contains("Content-Disposition: attachment") && text.contains("Content-Type: text/plain"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_header_cannot_be_injected() {
        let mailer = MemoryMailer::default();
        let cases = [
            (mail("a@example.com\r\nBcc: b@example.com", "hi"), "to"),
            (mail("\"a\r\nBcc: b@example.com\" <a@example.com>", "hi"), "to"),
            (mail("a@example.com, b@example.com", "hi"), "to"),
            (mail("nobody", "hi"), "to"),
            (mail("", "hi"), "to"),
            (mail("a@example.com", "hi\r\nBcc: b@example.com"), "subject"),
            (mail("a@example.com", "hi\nthere"), "subject"),
            (mail("a@example.com", "hi\0"), "subject"),
        ];
        for (mail, field) in cases {
            let error = mailer.send(&mail).await.unwrap_err();
            assert_eq!(error.code(), Code::ValidationError);
            assert_eq!(error.invalid_fields()[0].name, field, "{mail:?}");
        }
        assert_eq!(mailer.sent(), []);
        let good = mail("Ana Müller <a@example.com>", "Grüße: 1\u{2028}");
        mailer.send(&good).await.unwrap();
        assert_eq!(mailer.sent(), [good]);
    }

    #[tokio::test]
    async fn files_sort_by_time_and_belong_to_their_owner() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("data/mail");
        let clock = clock();
        let mailer = FileMailer::new(&directory, "Chatia <hello@example.com>", clock.clone()).unwrap();
        for subject in ["first", "second"] {
            mailer.send(&mail("a@example.com", subject)).await.unwrap();
        }
        clock.advance(Duration::from_millis(1));
        mailer.send(&mail("a@example.com", "third")).await.unwrap();

        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(name).collect();
        names.sort();
        let wanted = ["042Z-000001", "042Z-000002", "043Z-000003"].map(|end| format!("20260101T000000.{end}.eml"));
        assert_eq!(names, wanted);
        let text = fs::read_to_string(directory.join(&wanted[2])).unwrap();
        for line in ["Subject: third", "To: a@example.com", "From: Chatia <hello@", "Date: Thu, 01 Jan 2026 00:00:00"] {
            assert!(text.lines().any(|written| written.starts_with(line)), "{line} in {text}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_sender_that_is_no_address_is_told_at_start() {
        let root = tempfile::tempdir().unwrap();
        let error = FileMailer::new(root.path(), "Chatia", clock()).err().unwrap();
        assert_eq!(error.code(), Code::NotConfigured);
    }

    /// Plays an SMTP server that offers no STARTTLS, and returns what the client said.
    async fn plain_server(listener: tokio::net::TcpListener) -> Vec<String> {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut said = Vec::new();
        writer.write_all(b"220 plain\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer: &[u8] = if line.starts_with("QUIT") { b"221 bye\r\n" } else { b"250 AUTH PLAIN LOGIN\r\n" };
            said.push(line);
            if writer.write_all(answer).await.is_err() {
                break;
            }
        }
        said
    }

    /// Plays an SMTP server that gives these answers to the recipient and to the log-in.
    async fn strict_server(listener: tokio::net::TcpListener, recipient: &'static str, log_in: &'static str) {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        writer.write_all(b"220 strict\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match line.get(..4) {
                Some("EHLO") => "250-strict\r\n250 AUTH PLAIN\r\n",
                Some("AUTH") => log_in,
                Some("RCPT") => recipient,
                _ => "250 ok\r\n",
            };
            if writer.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    }

    async fn refused(to: &str, recipient: &'static str, log_in: &'static str) -> Error {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(strict_server(listener, recipient, log_in));
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(port);
        let transport = transport.credentials(Credentials::new("user".into(), "hunter2".into())).build();
        let from = sender("hello@example.com").unwrap();
        let message = compose(&from, Time::from_millis(0), &mail(to, "hi")).unwrap();
        failure(&transport.send(message).await.unwrap_err(), to.is_ascii())
    }

    #[tokio::test]
    async fn an_address_that_a_server_refuses_for_good_is_told_from_a_fault() {
        let (gone, busy) = ("550 5.1.1 <ana@example.com> unknown\r\n", "450 4.2.1 <ana@example.com> busy\r\n");
        let (welcome, stranger) = ("235 welcome\r\n", "535 wrong password\r\n");
        let error = refused("ana@example.com", gone, welcome).await;
        assert!(is_refusal(&error) && error.to_string().contains("550"), "{error}");
        assert!(!format!("{error} {error:?}").contains("ana"), "{error:?}");
        assert!(is_refusal(&refused("añá@example.com", gone, welcome).await), "the server knows no such letters");
        for error in [refused("a@example.com", busy, welcome).await, refused("a@example.com", gone, stranger).await] {
            assert_eq!((error.code(), is_refusal(&error)), (Code::UpstreamError, false), "{error:?}");
        }
    }

    #[test]
    fn an_address_is_one_that_mail_can_be_sent_to() {
        for good in ["a@example.com", "first.last+tag@sub.example.com", "ü@exämple.de"] {
            assert!(is_address(good), "{good}");
        }
        for bad in
            ["a..b@example.com", ".a@example.com", "a.@example.com", "Ana <a@example.com>", "a@example.com\n", ""]
        {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_server_without_tls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(plain_server(listener));
        let config = SmtpConfig {
            host: "127.0.0.1".into(),
            port,
            user: "user".into(),
            password: Secret::new("hunter2"),
            from: "hello@example.com".into(),
        };
        let mailer = SmtpMailer::new(config, clock()).unwrap();
        let error = mailer.send(&mail("a@example.com", "hi")).await.unwrap_err();
        assert_eq!(error.code(), Code::UpstreamError);
        drop(mailer);
        let said = server.await.unwrap();
        assert!(said.iter().all(|line| line.starts_with("EHLO") || line.starts_with("QUIT")), "{said:?}");
    }
}
