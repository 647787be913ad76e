//! Rate classes: how many calls, in what window, counted by whom.

use std::net::IpAddr;
use std::time::Duration;

use super::Caller;

/// Which limit counts an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateClass {
    /// Log-in and registration, by address.
    Auth,
    /// Log-in attempts on one e-mail.
    AuthEmail,
    /// Mails with a link to verify an address, by that address.
    VerificationMail,
    /// Mails with an invitation, by the address that is invited: mail to strangers.
    InvitationMail,
    /// The same, by workspace.
    InvitationMailDay,
    /// The same, by workspace whose owner has shown no address of theirs, or pays nothing.
    InvitationMailDayFree,
    /// Calls that show no valid credential where one is asked for, by address.
    Unrecognised,
    /// Authenticated work, by credential.
    General,
    /// The same, by workspace: all its people and keys together.
    Workspace,
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
    /// What asks a model for somebody of the workspace, by user.
    AiAssist,
    /// The same over a day, by workspace: nobody is billed for it.
    AiAssistDay,
    /// Appointments that visitors book, by the address that is told of them: mail to strangers.
    Booking,
    /// The same, by agent.
    AgentBooking,
    /// Mail about appointments that the team makes or moves, by the guest's address: mail to strangers.
    GuestMail,
    /// The same, by workspace.
    GuestMailDay,
    /// The same, by workspace whose owner has shown no address of theirs, or pays nothing.
    GuestMailDayFree,
    /// Visitors' pages that wait at the server for what a person writes, by conversation.
    Wait,
    /// The same, by agent.
    AgentWait,
    /// Callbacks of providers, by address: they come in bursts from few addresses, and each is signed.
    Provider,
}

/// So many calls in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub limit: u32,
    /// Length of the window. A burst is a longer window: 120 a minute with a burst of 600 is 600 in five minutes.
    pub window: Duration,
    /// Whether not one call more may pass, over all processes. Each call then asks the table.
    pub exact: bool,
}

impl Rate {
    /// How many calls a process lets pass in a window before it asks the table at all, so that whoever calls now and
    /// then costs no table trip. All that the limit can be passed by is this, for each process.
    #[must_use]
    pub const fn credit(self) -> u32 {
        if self.exact { 0 } else { self.limit / 200 }
    }

    /// How many tokens a process takes at a time that has spent `spent` in the window: as many as it has needed so far,
    /// so that what lies unused in all processes is never more than what was used; at most a twentieth of the limit.
    #[must_use]
    pub fn lot(self, spent: u32) -> u32 {
        if self.exact { 1 } else { spent.clamp(1, (self.limit / 20).max(1)) }
    }
}

impl RateClass {
    /// The limit. Figures: the sites contract for log-in, the product's own for the rest.
    #[must_use]
    pub const fn rate(self) -> Rate {
        let (limit, seconds, exact) = match self {
            Self::Auth => (100, 10, true),
            Self::AuthEmail => (5, 60, true),
            Self::VerificationMail | Self::InvitationMail => (5, 3_600, true),
            Self::InvitationMailDay => (200, 86_400, true),
            Self::Unrecognised => (300, 300, false),
            Self::General | Self::Staff => (600, 60, false),
            Self::Workspace => (3_000, 60, false),
            Self::PublicChat | Self::PublicRead => (600, 300, false),
            Self::AgentChat => (2_400, 120, false),
            Self::PublicForm => (25, 300, false),
            Self::AiAssist => (10, 60, true),
            Self::AiAssistDay => (200, 86_400, true),
            Self::Booking => (10, 86_400, true),
            Self::AgentBooking => (200, 86_400, true),
            Self::GuestMail | Self::GuestMailDayFree | Self::InvitationMailDayFree => (20, 86_400, true),
            Self::GuestMailDay => (500, 86_400, true),
            // A wait takes a third of a minute: four at the same time, and twenty for all conversations of an agent.
            Self::Wait => (12, 60, true),
            Self::AgentWait => (60, 60, true),
            Self::Provider => (12_000, 60, false),
        };
        Rate { limit, window: Duration::from_secs(seconds), exact }
    }

    /// How the table names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthEmail => "auth_email",
            Self::VerificationMail => "verification_mail",
            Self::InvitationMail => "invitation_mail",
            Self::InvitationMailDay => "invitation_mail_day",
            Self::InvitationMailDayFree => "invitation_mail_day_free",
            Self::Unrecognised => "unrecognised",
            Self::General => "general",
            Self::Workspace => "workspace",
            Self::PublicChat => "public_chat",
            Self::AgentChat => "agent_chat",
            Self::PublicForm => "public_form",
            Self::PublicRead => "public_read",
            Self::Staff => "staff",
            Self::AiAssist => "ai_assist",
            Self::AiAssistDay => "ai_assist_day",
            Self::Booking => "booking",
            Self::AgentBooking => "agent_booking",
            Self::GuestMail => "guest_mail",
            Self::GuestMailDay => "guest_mail_day",
            Self::GuestMailDayFree => "guest_mail_day_free",
            Self::Wait => "wait",
            Self::AgentWait => "agent_wait",
            Self::Provider => "provider",
        }
    }

    /// Everything that counts a call of a row of this class: class and subject of each. An authenticated call counts
    /// for its credential and for its workspace, any other for its address.
    #[must_use]
    pub fn counted(self, caller: Option<&Caller>, address: IpAddr) -> Vec<(Self, String)> {
        match caller {
            None => vec![(self, network(address).to_string())],
            Some(caller) if self == Self::General => {
                vec![(self, caller.actor()), (Self::Workspace, caller.workspace_id.text())]
            }
            Some(caller) if self == Self::AiAssist => {
                vec![(self, caller.actor()), (Self::AiAssistDay, caller.workspace_id.text())]
            }
            Some(caller) => vec![(self, caller.actor())],
        }
    }
}

/// Whose address it is: one IPv6 customer has a /64, and must not be many callers.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_customer_are_one_network() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(of("203.0.113.9"), "203.0.113.9");
    }

    #[test]
    fn a_lot_grows_with_what_was_spent_to_a_twentieth() {
        let rate = RateClass::General.rate();
        assert_eq!([0, 1, 3, 12, 30, 500].map(|spent| rate.lot(spent)), [1, 1, 3, 12, 30, 30]);
        assert_eq!((RateClass::Auth.rate().lot(50), RateClass::Auth.rate().credit()), (1, 0));
    }
}
