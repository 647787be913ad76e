//! Rate classes: how many calls, in what window, counted by whom.

use std::time::Duration;

/// Which limit counts an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateClass {
    /// Log-in and registration, by address.
    Auth,
    /// Log-in attempts on one e-mail.
    AuthEmail,
    /// Authenticated work, by credential.
    General,
    /// A visitor's chat, by address.
    PublicChat,
    /// All visitors of one agent together.
    AgentChat,
    /// Public forms, by address.
    PublicForm,
    /// Public reads, by address.
    PublicRead,
    /// Staff, by user.
    Staff,
}

/// So many calls in each window.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Calls.
    pub limit: u32,
    /// Length of the window. A burst is a longer window: 120 a minute with a burst of 600 is 600 in five minutes.
    pub window: Duration,
}

impl RateClass {
    /// The limit. Figures: the sites contract for log-in, the product's own for the rest.
    #[must_use]
    pub const fn rate(self) -> Rate {
        let (limit, seconds) = match self {
            Self::Auth => (100, 10),
            Self::AuthEmail => (5, 60),
            Self::General | Self::Staff => (600, 60),
            Self::PublicChat | Self::PublicRead => (600, 300),
            Self::AgentChat => (2_400, 120),
            Self::PublicForm => (25, 300),
        };
        Rate { limit, window: Duration::from_secs(seconds) }
    }

    /// How the table names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthEmail => "auth_email",
            Self::General => "general",
            Self::PublicChat => "public_chat",
            Self::AgentChat => "agent_chat",
            Self::PublicForm => "public_form",
            Self::PublicRead => "public_read",
            Self::Staff => "staff",
        }
    }
}
