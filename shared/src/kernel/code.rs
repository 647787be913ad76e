//! Every error code of the product, one line each: name, canonical text, kind, what a person is told.
//!
//! The canonical text is dotted lower snake; each surface renders it its own way (studio writes `_` for `.`). A new
//! line here is all that a new code needs: dialects match on the kind.

use super::Kind;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $kind:ident $message:literal;)*) => {
        /// What went wrong, exactly.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each code's message beside it says what it means")]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of this file.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The canonical text, such as `agent.limit_reached`.
            #[must_use]
            pub const fn text(self) -> &'static str { match self { $(Code::$name => $text,)* } }

            /// The class that decides the status.
            #[must_use]
            pub const fn kind(self) -> Kind { match self { $(Code::$name => Kind::$kind,)* } }

            /// What a person is told when nothing more exact is known.
            #[must_use]
            pub const fn message(self) -> &'static str { match self { $(Code::$name => $message,)* } }
        }
    };
}

codes! {
    MalformedBody            "malformed_body"             Malformed        "The body is not valid JSON.";
    UnsupportedMediaType     "unsupported_media_type"     UnsupportedMedia "Send the body as application/json.";
    ConfirmationMismatch     "confirmation_mismatch"      Malformed        "The confirmation must be the exact name.";
    Unauthenticated          "unauthenticated"            Unauthenticated  "Send a valid credential as \"Authorization: Bearer …\".";
    InvalidCredentials       "invalid_credentials"        Unauthenticated  "The e-mail or the password is wrong.";
    Forbidden                "forbidden"                  Forbidden        "Your role does not allow this.";
    ScopeMissing             "scope_missing"              ScopeMissing     "The key lacks the scope that this call needs.";
    OriginNotAllowed         "origin.not_allowed"         Forbidden        "Calls from this origin are not allowed.";
    PlanRequired             "plan_required"              PlanRequired     "Your plan does not include this.";
    AgentLimitReached        "agent_limit_reached"        CountLimit       "Your plan's number of published agents is reached. Unpublish one or choose a larger plan.";
    MessageLimitReached      "message_limit_reached"      Allowance        "The message allowance is used up. The message was kept.";
    PaymentMethodRequired    "payment_method_required"    Allowance        "Save a card first: POST /api/billing/checkout-session with {\"plan_slug\": \"payg\"}.";
    PaymentFailed            "payment_failed"             Allowance        "The payment failed. Mend the card in the customer portal: POST /api/billing/portal-session.";
    SpendCapReached          "spend_cap_reached"          Allowance        "The spend cap is reached. The message was kept.";
    SignatureInvalid         "signature.invalid"          Unauthenticated  "The signature does not fit, or is too old.";
    NotFound                 "not_found"                  NotFound         "There is nothing here that you can see.";
    RouteNotFound            "route_not_found"            NotFound         "No such path. The API is described at /docs.";
    MethodNotAllowed         "method_not_allowed"         MethodNotAllowed "The path exists, but not with this method.";
    ValidationError          "validation_error"           Invalid          "The request is not valid.";
    Conflict                 "conflict"                   Conflict         "The request conflicts with what is stored.";
    ConcurrentChange         "concurrent_change"          Conflict         "Somebody else changed this at the same time. Read it again and retry.";
    EmailAlreadyRegistered   "email.already_registered"   Conflict         "That e-mail is registered already. Log in instead.";
    EmailNotVerified         "email.not_verified"         Forbidden        "The owner's e-mail is not verified yet. Open the link that was mailed to it, or have another one sent: POST /api/auth/verify-email/send. Until then agents answer with a key of their own (config.ai.api_key) or the provider offline.";
    EmailAlreadyVerified     "email.already_verified"     Conflict         "Your e-mail is verified already.";
    VerificationInvalid      "verification.invalid"       Malformed        "This link does not hold, or no longer. Log in and have another one sent: POST /api/auth/verify-email/send.";
    StaffProtected           "staff.protected"            Forbidden        "That is staff of the installation.";
    ClientAlreadyExists      "client.already_exists"      Conflict         "That person is in this workspace already.";
    ClientLimitReached       "client.limit_reached"       Conflict         "A workspace can have 500 clients. Remove one first.";
    GrantLimitReached        "grant.limit_reached"        Conflict         "A client can have 100 agents. Take one away first.";
    InvitationAccepted       "invitation.accepted"        Conflict         "They have accepted already, and can log in.";
    InvitationInvalid        "invitation.invalid"         Malformed        "This link does not hold, or no longer. Ask for a new invitation.";
    ResetInvalid             "reset.invalid"              Malformed        "This link does not hold, or no longer. Ask for a new one: POST /api/auth/forgot-password.";
    SubscriptionActive       "subscription.active"        Conflict         "There is a subscription already. Change it with PATCH /api/billing/subscription.";
    SubscriptionMissing      "subscription.missing"       Conflict         "There is no subscription to change. Begin with POST /api/billing/checkout-session.";
    SlugTaken                "slug.taken"                 Conflict         "That address is taken.";
    ConversationBusy         "conversation.busy"          Conflict         "The agent is still answering in this conversation. Retry shortly.";
    WhatsappNumberTaken      "whatsapp.number_taken"      Conflict         "That WhatsApp number is connected to another agent. Remove it there first.";
    WhatsappWindowClosed     "whatsapp.window_closed"     Conflict         "More than 24 hours have passed since their last message, so WhatsApp takes none from us until they write again.";
    WhatsappNotConnected     "whatsapp.not_connected"     Conflict         "The agent's WhatsApp number is not connected any more. Connect it again: PATCH /api/agents/{id}.";
    ConversationClosed       "conversation.closed"        Conflict         "The conversation is closed.";
    BuilderBusy              "builder.busy"               Conflict         "The builder is at work in this thread. Follow it with Last-Event-ID, stop it (POST …/stop), or retry shortly.";
    ActionChanged            "action.changed"             Conflict         "The agent has changed since this was shown to you. Read the thread, look at it as it is now, and decide again.";
    ActionSettled            "action.settled"             Conflict         "This was decided already, has expired, or is not what was shown any more. Ask the builder for it again.";
    IdentityRefused          "identity.refused"           Forbidden        "The signature of the identity is wrong: it must be the lower-case hex HMAC-SHA256 of user_id under the agent's identity secret.";
    IdentityOtherUser        "identity.other_user"        Conflict         "This conversation belongs to another user. Begin a new one: leave conversation_id out.";
    AppointmentState         "appointment.state"          Conflict         "Nothing more can become of this appointment. Book a new one.";
    SlotTaken                "appointment.slot_taken"     Conflict         "That time is taken. Free times: GET /api/agents/{id}/slots.";
    AvailabilityMissing      "availability.missing"       Conflict         "There are no hours yet. Set them first: PUT /api/availability.";
    DeliveryNotFailed        "delivery.not_failed"        Conflict         "Only a failed delivery can be retried.";
    WebhookDisabled          "webhook.disabled"           Conflict         "The webhook is switched off. Switch it on first: PATCH it with {\"is_active\": true}.";
    ReplayRunning            "replay.running"             Conflict         "A replay to this webhook is running. Wait until it is done, or stop it first: DELETE …/replay.";
    WebhookLimitReached      "webhook.limit_reached"      Conflict         "A workspace can have 20 webhooks. Delete one first.";
    UploadLimitReached       "upload.limit_reached"       Conflict         "A workspace can have 40 uploads at once. Delete one, or wait until they expire.";
    KeyLimitReached          "api_key.limit_reached"      Conflict         "A workspace can have 50 keys. Revoke one first.";
    ToolLimitReached         "tool.limit_reached"         Conflict         "An agent can have 20 tools.";
    IdempotencyMismatch      "idempotency.mismatch"       Invalid          "This Idempotency-Key (or client_message_id) was used for a different request.";
    IdempotencyInFlight      "idempotency.in_flight"      Conflict         "A request with this Idempotency-Key (or client_message_id) is still running. Retry shortly.";
    PreconditionFailed       "precondition_failed"        Stale            "The resource changed since you read it.";
    PayloadTooLarge          "payload_too_large"          TooLarge         "The request is too large.";
    RateLimited              "rate_limited"               RateLimited      "Too many requests. Slow down.";
    UpstreamError            "upstream_error"             Upstream         "A provider failed to answer.";
    EgressRefused            "egress.refused"             Invalid          "That address may not be called: it must be a public https address.";
    NotConfigured            "not_configured"             Unavailable      "This is not configured on this installation.";
    Unavailable              "unavailable"                Unavailable      "Busy. Retry shortly.";
    Timeout                  "timeout"                    Timeout          "The request took too long.";
    InternalError            "internal_error"             Internal         "Something went wrong on our side. It was logged.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_text() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
