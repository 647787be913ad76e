//! One error type for the whole product. It knows no HTTP: a surface's dialect decides status and body.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use super::{Code, Time};

/// `Result` with the product's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an error, which decides its status. Dialects match on it exhaustively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request cannot be read.
    Malformed,
    /// The body is of a type that we do not read.
    UnsupportedMedia,
    /// No credential, or one that is not valid.
    Unauthenticated,
    /// The caller's role is too low.
    Forbidden,
    /// The caller's key lacks a scope.
    ScopeMissing,
    /// The plan lacks the feature.
    PlanRequired,
    /// A counted limit of the plan (agents, seats) is reached.
    CountLimit,
    /// The message allowance or the spend cap is used up.
    Allowance,
    /// Not there, or not the caller's to see.
    NotFound,
    /// The path exists with other methods.
    MethodNotAllowed,
    /// The request reads well but breaks a rule.
    Invalid,
    /// The stored state forbids it.
    Conflict,
    /// An `If-Match` does not hold.
    Stale,
    /// Body, page or upload beyond its limit.
    TooLarge,
    /// Too many requests.
    RateLimited,
    /// A provider failed.
    Upstream,
    /// Busy, or not configured.
    Unavailable,
    /// We took too long.
    Timeout,
    /// A bug or a fault of ours.
    Internal,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The path of the field, such as `config.ai.api_key`.
    pub name: String,
    /// A short code, such as `required` or `too_long`.
    pub code: &'static str,
    /// What a person is told.
    pub message: String,
}

/// An error. What the caller sees ([`Error::message`]) and what we log ([`Error::internal`]) are two things.
#[derive(Clone)]
pub struct Error(Box<Parts>);

#[derive(Clone)]
struct Parts {
    code: Code,
    message: Cow<'static, str>,
    fields: Vec<Field>,
    retry_after: Option<u32>,
    exceeded: Option<Exceeded>,
    internal: Option<String>,
}

/// The limit of calls that a refused one was beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Calls in a window.
    pub limit: u32,
    /// When the window ends.
    pub reset: Time,
}

impl Error {
    /// The code with its own message.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self::with_message(code, code.message())
    }

    /// The code with a more exact message.
    #[must_use]
    pub fn with_message(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Parts { code, message, fields: Vec::new(), retry_after: None, exceeded: None, internal: None }))
    }

    /// One invalid field.
    #[must_use]
    pub fn field(name: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self::fields(vec![Field { name: name.into(), code, message: message.into() }])
    }

    /// Several invalid fields at once, each fault of a field once.
    #[must_use]
    pub fn fields(mut fields: Vec<Field>) -> Self {
        let mut told = BTreeSet::new();
        fields.retain(|field| told.insert((field.name.clone(), field.message.clone())));
        let message = fields.first().map_or(Code::ValidationError.message().into(), |field| field.message.clone());
        let mut error = Self::with_message(Code::ValidationError, message);
        error.0.fields = fields;
        error
    }

    /// Not there, or not the caller's to see: the same answer, so that nobody can probe for foreign ids.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound)
    }

    /// A fault of ours. The text is logged, never shown.
    #[must_use]
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::new(Code::InternalError).caused_by(what)
    }

    /// Tells the caller more exactly what it is.
    #[must_use]
    pub fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// Adds what we log and never show.
    #[must_use]
    pub fn caused_by(mut self, what: impl fmt::Display) -> Self {
        self.0.internal = Some(what.to_string());
        self
    }

    /// Tells the caller when to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Says which limit of calls refused.
    #[must_use]
    pub fn exceeded(mut self, limit: u32, reset: Time) -> Self {
        self.0.exceeded = Some(Exceeded { limit, reset });
        self
    }

    /// The exact code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The class.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// Whether it is a fault of ours or of a provider, and no refusal.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self.kind(), Kind::Internal | Kind::Upstream | Kind::Unavailable | Kind::Timeout)
    }

    /// What the caller is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields that are wrong, for validation errors.
    #[must_use]
    pub fn invalid_fields(&self) -> &[Field] {
        &self.0.fields
    }

    /// Seconds until a retry makes sense.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// The limit of calls that refused, for `rate_limited`.
    #[must_use]
    pub fn limit_exceeded(&self) -> Option<Exceeded> {
        self.0.exceeded
    }

    /// What we log.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.text(), self.0.message)?;
        match &self.0.internal {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
