//! The events, by our own names, with versioned data. Data holds ids as keys, not texts.

use serde_json::{Map, Value, json};

use crate::domain::billing::Reached;
use crate::domain::usage::UsageEvent;
use crate::domain::{Agent, Appointment, Conversation, Event, Lead, Membership, Message, Webhook, Workspace};
use crate::kernel::{Id, Ids, Time, work};

/// Makes events of one moment.
#[derive(Clone)]
pub struct Catalog<'a> {
    ids: &'a Ids,
    now: Time,
}

/// Our names, for whoever matches on them.
pub mod kind {
    #![expect(missing_docs, reason = "the functions of the catalogue say what each is")]
    pub const AGENT_CREATED: &str = "agent.created";
    pub const AGENT_PUBLISHED: &str = "agent.published";
    pub const AGENT_DELETED: &str = "agent.deleted";
    pub const CONVERSATION_CREATED: &str = "conversation.created";
    pub const CONVERSATION_CLOSED: &str = "conversation.closed";
    pub const MESSAGE_INBOUND: &str = "message.inbound";
    pub const MESSAGE_REPLY: &str = "message.reply";
    pub const MESSAGE_OUTBOUND: &str = "message.outbound";
    pub const LEAD_CAPTURED: &str = "lead.captured";
    pub const TOOL_CALLED: &str = "tool.called";
    pub const HANDOFF_REQUESTED: &str = "handoff.requested";
    pub const APPOINTMENT_BOOKED: &str = "appointment.booked";
    pub const APPOINTMENT_RESCHEDULED: &str = "appointment.rescheduled";
    pub const APPOINTMENT_CANCELLED: &str = "appointment.cancelled";
    pub const APPOINTMENT_COMPLETED: &str = "appointment.completed";
    pub const APPOINTMENT_NO_SHOW: &str = "appointment.no_show";
    pub const CLIENT_INVITED: &str = "client.invited";
    pub const USAGE_REACHED: &str = "usage.reached";
    pub const WEBHOOK_FAILING: &str = "webhook.failing";
    pub const WEBHOOK_DISABLED: &str = "webhook.disabled";
    pub const CUSTOM: &str = "custom";
}

impl<'a> Catalog<'a> {
    /// A maker of events that happen now.
    #[must_use]
    pub const fn new(ids: &'a Ids, now: Time) -> Self {
        Self { ids, now }
    }

    fn event(&self, kind: &str, workspace: Id<Workspace>, agent: Option<Id<Agent>>, data: Value) -> Event {
        let data = match data {
            Value::Object(data) => data,
            _ => Map::new(),
        };
        Event {
            id: self.ids.uuid_of(workspace),
            kind: kind.into(),
            version: 1,
            at: self.now,
            workspace_id: workspace,
            agent_id: agent,
            data,
            request_id: work::request_id(),
        }
    }

    /// An agent was created.
    #[must_use]
    pub fn agent_created(&self, agent: &Agent) -> Event {
        self.event(kind::AGENT_CREATED, agent.workspace_id, Some(agent.id), json!({"name": agent.name}))
    }

    /// An agent was published, by a person or by creation.
    #[must_use]
    pub fn agent_published(&self, agent: &Agent) -> Event {
        let data = json!({"name": agent.name, "version": agent.version(), "public_slug": agent.public_slug});
        self.event(kind::AGENT_PUBLISHED, agent.workspace_id, Some(agent.id), data)
    }

    /// An agent was deleted.
    #[must_use]
    pub fn agent_deleted(&self, agent: &Agent) -> Event {
        self.event(kind::AGENT_DELETED, agent.workspace_id, Some(agent.id), json!({"name": agent.name}))
    }

    /// A conversation began.
    #[must_use]
    pub fn conversation_created(&self, head: &Conversation) -> Event {
        self.event(kind::CONVERSATION_CREATED, head.workspace_id, Some(head.agent_id), json!({"conversation": head.id}))
    }

    /// A conversation was closed: by `silence` or by an `operator`.
    #[must_use]
    pub fn conversation_closed(&self, head: &Conversation, by: &str) -> Event {
        let data = json!({"conversation": head.id, "by": by, "message_count": head.message_count});
        self.event(kind::CONVERSATION_CLOSED, head.workspace_id, Some(head.agent_id), data)
    }

    /// A visitor's message was stored.
    #[must_use]
    pub fn message_inbound(&self, head: &Conversation, message: Id<Message>) -> Event {
        let data = json!({"conversation": head.id, "message": message});
        self.event(kind::MESSAGE_INBOUND, head.workspace_id, Some(head.agent_id), data)
    }

    /// A reply of the agent was stored, with what it costs.
    #[must_use]
    pub fn message_reply(
        &self,
        head: &Conversation,
        account: Id<crate::domain::BillingAccount>,
        message: Id<Message>,
        usage: Option<&UsageEvent>,
    ) -> Event {
        let of_usage = |usage: &UsageEvent| {
            let UsageEvent { id, key_source, included, unit_cost, at, .. } = usage;
            json!({"id": id, "key_source": key_source, "included": included, "unit_cost": unit_cost, "at": at})
        };
        let key_source = usage.map(|usage| usage.key_source);
        let data = json!({"conversation": head.id, "message": message, "account": account, "key_source": key_source,
            "usage": usage.map(of_usage)});
        let data = going_out(head, data);
        self.event(kind::MESSAGE_REPLY, head.workspace_id, Some(head.agent_id), data)
    }

    /// A message of a person of the team was stored.
    #[must_use]
    pub fn message_outbound(&self, head: &Conversation, message: Id<Message>) -> Event {
        let data = going_out(head, json!({"conversation": head.id, "message": message}));
        self.event(kind::MESSAGE_OUTBOUND, head.workspace_id, Some(head.agent_id), data)
    }

    /// A lead was captured.
    #[must_use]
    pub fn lead_captured(&self, lead: &Lead) -> Event {
        let data = json!({"lead": lead.id, "contact": lead.contact_id, "conversation": lead.conversation_id});
        self.event(kind::LEAD_CAPTURED, lead.workspace_id, Some(lead.agent_id), data)
    }

    /// A tool call ended. Its arguments lie in the stored result; the event names the call only.
    #[must_use]
    pub fn tool_called(&self, head: &Conversation, message: Id<Message>, call: &str, tool: &str, ok: bool) -> Event {
        let data = json!({"conversation": head.id, "message": message, "call": call, "tool": tool, "ok": ok});
        self.event(kind::TOOL_CALLED, head.workspace_id, Some(head.agent_id), data)
    }

    /// A person is wanted in a conversation.
    #[must_use]
    pub fn handoff_requested(&self, head: &Conversation, channel: &str, reason: &str) -> Event {
        let data = json!({"conversation": head.id, "channel": channel, "reason": reason});
        self.event(kind::HANDOFF_REQUESTED, head.workspace_id, Some(head.agent_id), data)
    }

    /// Something became of an appointment: one of the kinds that begin with `appointment.`. The times are those of this
    /// moment, since it may move on before anybody is told.
    #[must_use]
    pub fn appointment(&self, kind: &str, appointment: &Appointment) -> Event {
        let Appointment { id, conversation_id, contact_id, start, end, sequence, .. } = appointment;
        let data = json!({"appointment": id, "conversation": conversation_id, "contact": contact_id, "start": start,
            "end": end, "sequence": sequence});
        self.event(kind, appointment.workspace_id, appointment.agent_id, data)
    }

    /// Somebody was invited as a client, or once more; they are told by mail.
    #[must_use]
    pub fn client_invited(&self, membership: &Membership) -> Event {
        self.event(kind::CLIENT_INVITED, membership.workspace_id, None, json!({"user": membership.user_id}))
    }

    /// So much of an allowance is used; the owner is told by mail.
    #[must_use]
    pub fn usage_reached(&self, workspace: Id<Workspace>, reached: &Reached) -> Event {
        let Reached { of, percent, used, limit } = reached;
        let data = json!({"of": of.text(), "percent": percent, "used": used, "limit": limit});
        self.event(kind::USAGE_REACHED, workspace, None, data)
    }

    /// An endpoint has been failing for some time; its owner is told by mail.
    #[must_use]
    pub fn webhook_failing(&self, webhook: &Webhook, since: Time) -> Event {
        let data = json!({"webhook": webhook.id, "since": since});
        self.event(kind::WEBHOOK_FAILING, webhook.workspace_id, None, data)
    }

    /// An endpoint was switched off by us; its owner is told by mail.
    #[must_use]
    pub fn webhook_disabled(&self, webhook: &Webhook, reason: &str) -> Event {
        let data = json!({"webhook": webhook.id, "reason": reason});
        self.event(kind::WEBHOOK_DISABLED, webhook.workspace_id, None, data)
    }

    /// A customer's own event, told to their own webhooks as they gave it; kept as text, since the table's numbers and
    /// nesting are narrower than JSON's.
    #[must_use]
    pub fn custom(
        &self,
        workspace: Id<Workspace>,
        agent: Option<Id<Agent>>,
        name: &str,
        data: &Map<String, Value>,
    ) -> Event {
        self.event(kind::CUSTOM, workspace, agent, json!({"name": name, "payload": json!(data).to_string()}))
    }
}

/// What must leave for a phone says so, since whoever reads the outbox sees to it.
fn going_out(head: &Conversation, mut data: Value) -> Value {
    if head.whatsapp.is_some() {
        data["channel"] = json!(head.channel);
    }
    data
}
