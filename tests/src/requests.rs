//! The registry of valid requests: one for each row of the surface, by the row's id.
//!
//! A new row needs one line here. The access matrix, the Lambda tests, the fuzzing and the benchmark take their requests
//! from it, so that no row can be refused for the wrong reason. What a request names lies in a [`Scene`].

use axum::http::Method;
use serde_json::{Value, json};
use shared::access::{Floor, Op};
use shared::domain::plan::PlanKey;
use studio::SURFACE;
use uuid::Uuid;

use crate::builder::PNG;
use crate::{Agent, Answer, Owner, PASSWORD, Persona, TestApp, polar};

/// What a request may name.
#[derive(Debug, Clone)]
pub struct Things {
    /// A published agent with the tool `capture_lead`.
    pub agent: u64,
    /// Its public slug.
    pub slug: String,
    /// An agent that was never published.
    pub draft: u64,
    /// Its name.
    pub draft_name: String,
    /// A conversation with the published agent.
    pub conversation: u64,
    /// The handle of the conversation.
    pub handle: String,
    /// A webhook to which a replay was done.
    pub webhook: u64,
    /// A developer key that nobody uses.
    pub key: u64,
    /// A delivery that was given up.
    pub delivery: Uuid,
    /// A usage event that is parked.
    pub parked: Uuid,
    /// The owner's e-mail.
    pub email: String,
    /// A client to whom the published agent is granted, and who was not there yet.
    pub client: u64,
    /// The token of their invitation.
    pub invitation: String,
    /// A token to set the owner's password anew.
    pub reset: String,
    /// A token to verify the owner's e-mail.
    pub verification: String,
    /// A lead of the published agent.
    pub lead: u64,
    /// Its e-mail.
    pub lead_email: String,
    /// The owner's user id.
    pub user: u64,
    /// A thread of the builder.
    pub thread: String,
    /// What waits for a confirmation in it.
    pub action: String,
    /// An image that was uploaded for the builder.
    pub upload: String,
    /// An appointment of the published agent that began.
    pub appointment: u64,
    /// A file in the conversation.
    pub file: u64,
}

/// An owner who has one of everything.
pub struct Scene {
    /// The app.
    pub test: TestApp,
    /// The owner.
    pub owner: Owner,
    /// Their published agent.
    pub agent: Agent,
    /// What requests name.
    pub things: Things,
}

/// A request that its right caller gets `status` for.
#[derive(Debug, Clone)]
pub struct Valid {
    /// The path, with its query.
    pub path: String,
    /// The body, where there is one.
    pub body: Option<Value>,
    /// What it is answered with.
    pub status: u16,
}

impl Valid {
    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    const fn gives(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Sends it as somebody.
    pub async fn by(&self, persona: &Persona, op: &Op) -> Answer {
        persona.call(op.method, &self.path, &[], self.body.clone()).await
    }
}

type Make = fn(&Things) -> Valid;

const REQUESTS: &[(&str, Make)] = &[
    ("register", |_| {
        at("/api/auth/register").body(json!({"email": "new@example.com", "password": PASSWORD})).gives(201)
    }),
    ("login", |its| at("/api/auth/login").body(json!({"email": its.email, "password": PASSWORD}))),
    ("logout", |_| at("/api/auth/logout").gives(204)),
    ("me", |_| at("/api/auth/me")),
    ("update_me", |_| at("/api/auth/me").body(json!({"name": "Olivia"}))),
    ("change_password", |_| {
        let body = json!({"current_password": PASSWORD, "new_password": "another horse"});
        at("/api/auth/password").body(body).gives(204)
    }),
    ("forgot_password", |its| at("/api/auth/forgot-password").body(json!({"email": its.email}))),
    ("reset_password", |its| {
        at("/api/auth/reset-password").body(json!({"token": its.reset, "password": "another horse"})).gives(204)
    }),
    ("verify_email", |its| at("/api/auth/verify-email").body(json!({"token": its.verification})).gives(204)),
    ("send_verification", |_| at("/api/auth/verify-email/send")),
    ("accept_invitation", |its| {
        at("/api/auth/invitations/accept").body(json!({"token": its.invitation, "password": PASSWORD}))
    }),
    ("list_clients", |_| at("/api/clients")),
    ("create_client", |its| {
        let body = json!({"email": "another@example.com", "name": "Another", "agent_ids": [its.agent]});
        at("/api/clients").body(body).gives(201)
    }),
    ("find_client", |its| at(format!("/api/clients/{}", its.client))),
    ("update_client", |its| at(format!("/api/clients/{}", its.client)).body(json!({"name": "Renamed"}))),
    ("delete_client", |its| at(format!("/api/clients/{}", its.client)).gives(204)),
    ("invite_client", |its| at(format!("/api/clients/{}/invite", its.client))),
    ("list_grants", |its| at(format!("/api/clients/{}/grants", its.client))),
    ("create_grant", |its| {
        at(format!("/api/clients/{}/grants", its.client)).body(json!({"agent_id": its.draft})).gives(201)
    }),
    ("delete_grant", |its| at(format!("/api/clients/{}/grants/{}", its.client, its.agent)).gives(204)),
    ("list_my_agents", |_| at("/api/clients/me/agents")),
    ("list_agents", |_| at("/api/agents")),
    ("create_agent", |_| at("/api/agents").body(json!({"name": "Ventas"})).gives(201)),
    ("preview_agent", |its| at(format!("/api/agents/{}/preview", its.draft)).body(json!({"message": "Hello"}))),
    ("find_agent", |its| at(format!("/api/agents/{}", its.agent))),
    ("update_agent", |its| at(format!("/api/agents/{}", its.agent)).body(json!({"description": "Answers."}))),
    ("publish_agent", |its| at(format!("/api/agents/{}/publish", its.draft))),
    ("unpublish_agent", |its| at(format!("/api/agents/{}/unpublish", its.agent))),
    ("list_versions", |its| at(format!("/api/agents/{}/versions", its.agent))),
    ("find_version", |its| at(format!("/api/agents/{}/versions/1", its.agent))),
    ("diff_version", |its| at(format!("/api/agents/{}/versions/1/diff", its.agent))),
    ("restore_version", |its| at(format!("/api/agents/{}/versions/1/restore", its.agent))),
    ("list_audit_log", |_| at("/api/audit-log")),
    ("stream_builder", |its| {
        let body = json!({"message": "An assistant for my bakery, please.", "images": [its.upload]});
        at("/api/builder/stream").body(body)
    }),
    ("create_builder_upload", |_| at("/api/builder/uploads").body(json!({"data_url": PNG})).gives(201)),
    ("delete_builder_upload", |its| at(format!("/api/builder/uploads/{}", its.upload)).gives(204)),
    ("list_builder_threads", |_| at("/api/builder/threads")),
    ("find_builder_thread", |its| at(format!("/api/builder/threads/{}", its.thread))),
    ("delete_builder_thread", |its| at(format!("/api/builder/threads/{}", its.thread)).gives(204)),
    ("stop_builder", |its| at(format!("/api/builder/threads/{}/stop", its.thread))),
    ("decide_builder_action", |its| {
        at(format!("/api/builder/threads/{}/actions/{}", its.thread, its.action)).body(json!({"approve": true}))
    }),
    ("find_agent_stats", |its| at(format!("/api/agents/{}/stats", its.agent))),
    ("list_tools", |its| at(format!("/api/agents/{}/tools", its.agent))),
    ("attach_tool", |its| {
        at(format!("/api/agents/{}/tools", its.agent)).body(json!({"name": "schedule_appointment"})).gives(201)
    }),
    ("detach_tool", |its| at(format!("/api/agents/{}/tools/capture_lead", its.agent)).gives(204)),
    ("rotate_identity_secret", |its| at(format!("/api/agents/{}/identity-secret", its.agent))),
    ("remove_identity_secret", |its| at(format!("/api/agents/{}/identity-secret", its.agent)).gives(204)),
    ("delete_agent", |its| {
        at(format!("/api/agents/{}", its.draft)).body(json!({"confirmation": its.draft_name})).gives(204)
    }),
    ("list_developer_agents", |_| at("/api/developers/agents")),
    ("create_developer_agent", |_| {
        at("/api/developers/agents").body(json!({"name": "Ventas", "publish": true})).gives(201)
    }),
    ("developer_overview", |_| at("/api/developers/overview")),
    ("list_api_keys", |_| at("/api/developers/api-keys")),
    ("create_api_key", |_| at("/api/developers/api-keys").body(json!({"name": "new"})).gives(201)),
    ("revoke_api_key", |its| at(format!("/api/developers/api-keys/{}", its.key)).gives(204)),
    ("list_webhooks", |_| at("/api/developers/webhooks")),
    ("create_webhook", |_| {
        at("/api/developers/webhooks").body(json!({"name": "crm", "url": "https://crm.example.com/in"})).gives(201)
    }),
    ("find_webhook", |its| at(format!("/api/developers/webhooks/{}", its.webhook))),
    ("update_webhook", |its| at(format!("/api/developers/webhooks/{}", its.webhook)).body(json!({"name": "erp"}))),
    ("delete_webhook", |its| at(format!("/api/developers/webhooks/{}", its.webhook)).gives(204)),
    ("test_webhook", |its| at(format!("/api/developers/webhooks/{}/test", its.webhook))),
    ("list_deliveries", |its| at(format!("/api/developers/webhooks/{}/deliveries", its.webhook))),
    ("rotate_webhook", |its| at(format!("/api/developers/webhooks/{}/rotate", its.webhook))),
    ("find_delivery", |its| at(format!("/api/developers/webhooks/deliveries/{}", its.delivery))),
    ("replay_events", |its| {
        at(format!("/api/developers/webhooks/{}/replay", its.webhook)).body(json!({"since": "2040-03-05T09:00:00Z"}))
    }),
    ("find_replay", |its| at(format!("/api/developers/webhooks/{}/replay", its.webhook))),
    ("stop_replay", |its| at(format!("/api/developers/webhooks/{}/replay", its.webhook)).gives(204)),
    ("list_events", |_| at("/api/developers/events")),
    ("retry_delivery", |its| at(format!("/api/developers/webhooks/deliveries/{}/retry", its.delivery))),
    ("publish_event", |its| {
        let body = json!({"event": "order.paid", "agent_id": its.agent, "data": {"total": 12.5}});
        at("/api/developers/events").body(body).gives(201)
    }),
    ("find_public_agent", |its| at(format!("/api/public/agents/{}", its.slug))),
    ("chat", |its| {
        let body = json!({"message": "When do you open?", "conversation_id": its.handle});
        at(format!("/api/public/agents/{}/chat", its.slug)).body(body)
    }),
    ("stream_chat", |its| {
        let body = json!({"message": "When do you open?", "conversation_id": its.handle});
        at(format!("/api/public/agents/{}/chat/stream", its.slug)).body(body)
    }),
    ("stop_chat", |its| at(format!("/api/public/agents/{}/conversations/{}/stop", its.slug, its.handle))),
    ("create_public_lead", |its| {
        let body = json!({"name": "Lea Lead", "email": "lea@example.com", "conversation_id": its.handle});
        at(format!("/api/public/agents/{}/leads", its.slug)).body(body).gives(201)
    }),
    ("list_public_messages", |its| {
        at(format!("/api/public/agents/{}/conversations/{}/messages", its.slug, its.handle))
    }),
    ("list_conversations", |its| at(format!("/api/clients/me/agents/{}/conversations", its.agent))),
    ("find_conversation", |its| at(conversation(its, ""))),
    ("set_takeover", |its| at(conversation(its, "/takeover")).body(json!({"paused": true}))),
    ("create_operator_message", |its| {
        at(conversation(its, "/messages")).body(json!({"content": "Hello, I am Olivia."})).gives(201)
    }),
    ("search_conversations", |its| at(format!("/api/clients/me/agents/{}/search?q=hello", its.agent))),
    ("export_conversation", |its| at(conversation(its, "/export"))),
    ("download_file", |its| at(conversation(its, &format!("/files/{}", its.file)))),
    ("erase_conversation", |its| {
        at(conversation(its, "")).body(json!({"confirmation": its.conversation.to_string()})).gives(204)
    }),
    ("erase_person", |its| at("/api/contacts/erase").body(json!({"email": its.lead_email}))),
    ("close_conversation", |its| at(conversation(its, "/close"))),
    ("update_lead", |its| {
        let path = format!("/api/clients/me/agents/{}/leads/{}", its.agent, its.lead);
        at(path).body(json!({"status": "contacted"}))
    }),
    ("list_leads", |its| at(format!("/api/clients/me/agents/{}/leads", its.agent))),
    ("find_availability", |_| at("/api/availability")),
    ("set_availability", |_| at("/api/availability").body(json!({"timezone": "Europe/Madrid", "rules": []}))),
    ("list_slots", |its| at(format!("/api/agents/{}/slots", its.agent))),
    ("list_appointments", |_| at("/api/appointments")),
    ("create_appointment", |_| {
        let body = json!({"start": "2040-04-01T10:00", "name": "Ana", "outside_hours": true});
        at("/api/appointments").body(body).gives(201)
    }),
    ("find_appointment", |its| at(appointment(its, ""))),
    ("find_appointment_file", |its| at(appointment(its, "/calendar.ics"))),
    ("cancel_appointment", |its| at(appointment(its, "/cancel"))),
    ("reschedule_appointment", |its| {
        at(appointment(its, "/reschedule")).body(json!({"start": "2040-04-02T10:00Z", "outside_hours": true}))
    }),
    ("complete_appointment", |its| at(appointment(its, "/complete"))),
    ("miss_appointment", |its| at(appointment(its, "/no-show"))),
    ("list_plans", |_| at("/api/billing/plans")),
    ("find_account", |_| at("/api/billing/account")),
    ("list_usage", |_| at("/api/billing/usage")),
    ("list_usage_events", |_| at("/api/billing/usage-events")),
    ("create_checkout_session", |_| at("/api/billing/checkout-session").body(json!({"plan_slug": "pro"}))),
    ("create_portal_session", |_| at("/api/billing/portal-session")),
    ("update_subscription", |_| at("/api/billing/subscription").body(json!({"cancel_at_period_end": true}))),
    ("set_seats", |_| at("/api/billing/seats").body(json!({"extra_seats": 1}))),
    ("set_payg", |_| at("/api/billing/payg").body(json!({"enabled": false}))),
    ("set_spend_cap", |_| at("/api/billing/spend-cap").body(json!({"spend_cap_cents": 5_000}))),
    ("find_metrics", |_| at("/api/admin/metrics")),
    ("list_users", |_| at("/api/admin/users")),
    ("find_user", |its| at(format!("/api/admin/users/{}", its.user))),
    ("set_user_status", |its| {
        at(format!("/api/admin/users/{}/status", its.user)).body(json!({"status": "active", "reason": "all is well"}))
    }),
    ("set_user_plan", |its| at(format!("/api/admin/users/{}/plan", its.user)).body(json!({"plan_slug": "agency"}))),
    ("impersonate_user", |its| {
        at(format!("/api/admin/users/{}/impersonate", its.user)).body(json!({"reason": "asked for help"}))
    }),
    ("find_billing_config", |_| at("/api/admin/billing/config")),
    ("list_parked_usage", |_| at("/api/admin/billing/parked-usage")),
    ("retry_parked_usage", |its| at(format!("/api/admin/billing/parked-usage/{}/retry", its.parked)).gives(204)),
    ("retry_all_parked_usage", |_| at("/api/admin/billing/parked-usage/retry")),
    ("reconcile_usage", |_| at("/api/admin/billing/reconcile").body(json!({"repair": true}))),
    ("report_usage", |_| at("/api/admin/billing/report-usage").body(json!({"force": true}))),
    ("replay_outbox", |_| {
        let body = json!({"since": "2040-03-05T09:00:00Z", "until": "2040-03-05T10:00:00Z"});
        at("/api/admin/outbox/replay").body(body)
    }),
    ("list_dead_letters", |_| at("/api/admin/dead-letters?queue=deliver")),
    ("replay_dead_letters", |_| at("/api/admin/dead-letters/replay").body(json!({"queue": "usage-report"}))),
    ("discard_dead_letter", |_| at("/api/admin/dead-letters/deliver/1").gives(204)),
    ("health", |_| at("/health")),
    ("docs", |_| at("/docs")),
    ("openapi", |_| at("/openapi/studio.json")),
    ("widget", |_| at("/widget.js")),
    ("asset", |_| at("/assets/chat.css")),
    ("skill", |_| at("/skill.md")),
    ("llms", |_| at("/llms.txt")),
    ("auth_page", |_| at("/auth/reset")),
    ("chat_page", |its| at(format!("/{}", its.slug))),
];

fn at(path: impl Into<String>) -> Valid {
    Valid { path: path.into(), body: None, status: 200 }
}

fn conversation(its: &Things, tail: &str) -> String {
    format!("/api/clients/me/agents/{}/conversations/{}{tail}", its.agent, its.conversation)
}

fn appointment(its: &Things, tail: &str) -> String {
    format!("/api/appointments/{}{tail}", its.appointment)
}

/// Every row of the surface.
pub fn rows() -> Vec<&'static Op> {
    SURFACE.groups.iter().flat_map(|group| (group.rows)()).map(|row| row.op).collect()
}

/// The rows that have a valid request, by id.
pub fn known() -> Vec<&'static str> {
    REQUESTS.iter().map(|(id, _)| *id).collect()
}

/// The valid request of a row.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn valid(op: &Op, things: &Things) -> Valid {
    let found = REQUESTS.iter().find(|(id, _)| *id == op.id);
    let (_, make) = found.unwrap_or_else(|| panic!("{} has no valid request: add one to tests/src/requests.rs", op.id));
    make(things)
}

/// Whether the row can change what is stored for its callers.
pub fn writes(op: &Op) -> bool {
    op.method != Method::GET.as_str()
}

impl Scene {
    /// A fresh app with an owner who has one of everything, on a plan with room for more.
    pub async fn new() -> Self {
        Self::on(TestApp::selling(polar::agreeable()).await).await
    }

    /// The same on an app as wanted.
    pub async fn on(test: TestApp) -> Self {
        let owner = test.paying_owner().await;
        let (agent, things) = one_of_everything(&test, &owner).await;
        Self { test, owner, agent, things }
    }

    /// Another owner of the same installation who has one of everything too.
    pub async fn other_owner(&self) -> (Owner, Things) {
        let other = self.test.paying_owner().await;
        let (_, things) = one_of_everything(&self.test, &other).await;
        (other, things)
    }

    /// Who may call the row.
    pub async fn right_caller(&self, op: &Op) -> Persona {
        match (op.credentials.is_empty(), op.floor) {
            (true, _) => self.test.anonymous(),
            (false, Floor::Superadmin) => self.test.superadmin().await,
            (false, _) => self.owner.session.clone(),
        }
    }
}

/// Rows after which a scene lacks what another row's request names.
const SPENDS: [&str; 19] = [
    "delete_builder_upload",
    "delete_builder_thread",
    "decide_builder_action",
    "logout",
    "unpublish_agent",
    "delete_agent",
    "delete_webhook",
    "detach_tool",
    "change_password",
    "reset_password",
    "verify_email",
    "accept_invitation",
    "delete_client",
    "invite_client",
    "delete_grant",
    "cancel_appointment",
    "reschedule_appointment",
    "complete_appointment",
    "miss_appointment",
];

/// A scene for each row: the same one as long as it holds everything, since making one costs time.
#[derive(Default)]
pub struct Stage {
    scene: Option<Scene>,
    done: Vec<&'static str>,
}

impl Stage {
    /// A scene in which the row's valid request gets what the registry says.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn scene(&mut self, op: &Op) -> &Scene {
        let spent = self.done.iter().any(|id| SPENDS.contains(id)) || (writes(op) && self.done.contains(&op.id));
        if spent {
            *self = Self::default();
        }
        self.done.push(op.id);
        if self.scene.is_none() {
            self.scene = Some(Scene::new().await);
        }
        self.scene.as_ref().expect("made just now")
    }
}

async fn one_of_everything(test: &TestApp, owner: &Owner) -> (Agent, Things) {
    let prompt = "We are open from 9 to 18 on weekdays.";
    let tools = ["capture_lead"];
    let body = json!({"name": "Soporte", "system_prompt": prompt, "tools": tools, "publish": true});
    let agent = owner.agent_with(body).await;
    let draft = owner.agent_with(json!({"name": "Borrador"})).await;
    let mut visitor = test.visitor(&agent);
    visitor.says("When do you open?").await;
    let handle = visitor.handle.clone().expect("a handle");
    let lead_email = format!("ana.of.{}@example.com", owner.user_id);
    let lead = json!({"name": "Ana", "email": lead_email, "conversation_id": handle});
    let form = format!("/api/public/agents/{}/leads", agent.slug);
    let lead = visitor.persona.post(&form, lead).await.expect(201);
    let conversation = owner.conversations(&agent).await[0]["id"].as_u64().expect("an id");
    test.bury("{}", "The table cannot be reached.").await;
    // Nobody listens there, so that a test event fails at once and without a network.
    let (webhook, _) = owner.webhook("http://127.0.0.1:9/in", Value::Null).await;
    test.db_replay(owner, webhook).await;
    let key = owner.session.post("/api/developers/api-keys", json!({"name": "spare"})).await.expect(201);
    // Beside the plan that it has past the API.
    test.subscribes(owner, "payg").await;
    test.db_set_plan(owner, PlanKey::Agency).await;
    let (client, invitation) = owner.client(test, &[&agent]).await;
    let (thread, action) = test.db_builder_thread(owner, draft.id).await;
    let upload = owner.upload(PNG).await;
    let appointment = owner.appointment(&agent, "2040-03-05T08:00:00Z").await;
    let things = Things {
        agent: agent.id,
        slug: agent.slug.clone(),
        draft: draft.id,
        draft_name: draft.name,
        conversation,
        handle,
        webhook,
        key: key["id"].as_u64().expect("an id"),
        delivery: test.db_failed_delivery(owner, webhook).await,
        parked: test.db_parked_usage(owner, agent.id).await,
        email: owner.email.clone(),
        client,
        invitation,
        reset: test.reset_token(&owner.email).await,
        verification: test.verification_token(&owner.email).await,
        lead: lead["id"].as_u64().expect("an id"),
        lead_email,
        user: owner.user_id,
        thread,
        action,
        upload,
        appointment,
        file: test.db_file(owner, conversation).await,
    };
    (agent, things)
}

/// Well-formed names of things that are nowhere.
pub fn missing() -> Things {
    let nowhere = 1 << 52;
    Things {
        agent: nowhere,
        slug: "nobody-here".into(),
        draft: nowhere + 1,
        draft_name: "Borrador".into(),
        conversation: nowhere + 2,
        handle: "conv_k1.AAAA".into(),
        webhook: nowhere + 3,
        key: nowhere + 4,
        delivery: Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0001),
        parked: Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0002),
        email: "nobody@example.com".into(),
        client: nowhere + 5,
        invitation: "inv_k1.AAAA".into(),
        reset: "nothing".into(),
        verification: "ver_k1.AAAA".into(),
        lead: nowhere + 6,
        lead_email: "nobody@example.com".into(),
        user: nowhere + 7,
        thread: "thr_70000000000".into(),
        action: "act_70000000000".into(),
        upload: "obj_70000000000".into(),
        appointment: nowhere + 8,
        file: nowhere + 9,
    }
}
