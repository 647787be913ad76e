//! `/api/clients`: people whom an owner lets look after agents, and what they may look after.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::App;
use shared::app::client::{self, Changes, Client, Invite};
use shared::app::mail_limit::Counted;
use shared::domain::agent::AgentStatus;
use shared::domain::grant::Grant;
use shared::domain::workspace::MembershipStatus;
use shared::domain::{Agent, GrantScope, User};
use shared::http::{Call, Created, Done, Json, NoContent, Path, Query};
use shared::kernel::{Int, Patch, Result, Secret, Time};

use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// List your clients, oldest first.
    GET "/api/clients" => list_clients, [User] Admin "" General Any Known Unaudited Safe;
    /// Make somebody a client.
    ///
    /// With a password they may log in at once; without one, or when the address is registered here already, they are
    /// mailed an invitation that holds for seven days. The mail shows them your name, shortened, if it holds nothing like a
    /// link, and your e-mail. 429 after five invitations to one address in an hour, or 200 a day in a workspace; 20 a day
    /// while your e-mail is not verified or your plan is free.
    POST "/api/clients" => create_client, [User] Admin "" General Any Known Audited Keyed also [404 409];
    /// One client.
    GET "/api/clients/{id}" => find_client, [User] Admin "" General Any Known Unaudited Safe;
    /// Change what you call a client, or whether they may come in.
    PATCH "/api/clients/{id}" => update_client, [User] Admin "" General Any Known Audited Keyed;
    /// Remove a client, with all that is granted to them, at once.
    DELETE "/api/clients/{id}" => delete_client, [User] Admin "" General Any Known Audited Keyed;
    /// Mail the invitation again.
    ///
    /// The link before ends. It counts as an invitation of `POST /api/clients` does.
    POST "/api/clients/{id}/invite" => invite_client, [User] Admin "" General Any Known Audited Keyed also [409];
    /// What is granted to a client.
    GET "/api/clients/{id}/grants" => list_grants, [User] Admin "" General Any Known Unaudited Safe;
    /// Grant an agent to a client, or change what of it is granted.
    ///
    /// 201 when it is new, 200 when it was changed.
    POST "/api/clients/{id}/grants" => create_grant, [User] Admin "" General Any Known Audited Keyed also [200 409];
    /// Take an agent away from a client, at once.
    DELETE "/api/clients/{id}/grants/{agent_id}" => delete_grant, [User] Admin "" General Any Known Audited Keyed;
    /// The agents that you may look after: for clients what is granted to them, for others all.
    GET "/api/clients/me/agents" => list_my_agents, [User] Client "" General Any Known Unaudited Safe;
}

/// A client to make.
#[derive(Debug, Deserialize, JsonSchema)]
struct ClientIn {
    #[schemars(length(max = 254))]
    email: String,
    /// What you call them; the local part of the e-mail when absent.
    #[serde(default)]
    name: Option<String>,
    /// 8 to 256 characters. Ignored when the address is registered here already: its owner has a password.
    #[serde(default)]
    password: Option<String>,
    /// Agents to grant at once, up to 100.
    #[serde(default)]
    agent_ids: Vec<Int<Agent>>,
    /// What of these agents, see `POST /api/clients/{id}/grants`.
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

/// Changes to a client.
#[derive(Debug, Deserialize, JsonSchema)]
struct ClientPatch {
    /// What you call them; null for their own name, and until they accept the local part of the e-mail.
    #[serde(default)]
    name: Patch<String>,
    /// Whether they may come in. Who may not is logged out at once.
    #[serde(default)]
    is_active: Option<bool>,
}

/// A grant to make.
#[derive(Debug, Deserialize, JsonSchema)]
struct GrantIn {
    agent_id: Int<Agent>,
    /// Any of `messages` (read conversations, take them over, answer), `messages:read` (read them only) and `leads`;
    /// `messages` and `leads` when absent.
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

/// What is granted of an agent.
#[derive(Debug, Serialize, JsonSchema)]
struct GrantOut {
    client_user_id: Int<User>,
    agent_id: Int<Agent>,
    agent_name: String,
    scopes: Vec<&'static str>,
    created_at: Time,
}

/// A client.
#[derive(Debug, Serialize, JsonSchema)]
struct ClientOut {
    /// Their user id.
    id: Int<User>,
    email: String,
    /// What you call them; else their own name, and until they accept the local part of the e-mail.
    name: String,
    /// `client`.
    role: &'static str,
    /// `active`, `invited` until they accept their invitation, or `suspended`.
    status: &'static str,
    /// Your user id.
    parent_user_id: Int<User>,
    /// Whether they have shown that the address is theirs; false until they accept.
    email_verified: bool,
    /// Until when the invitation holds, while there is one.
    invitation_expires_at: Option<Time>,
    grants: Vec<GrantOut>,
    created_at: Time,
}

impl GrantOut {
    fn new(client: Int<User>, grant: Grant, agent: &Agent) -> Self {
        Self {
            client_user_id: client,
            agent_id: agent.id.into(),
            agent_name: agent.name.clone(),
            scopes: grant.scopes.into_iter().map(GrantScope::text).collect(),
            created_at: grant.created_at,
        }
    }

    /// A grant, unless its agent is gone.
    fn of(client: Int<User>, grant: Grant, agents: &[Agent]) -> Option<Self> {
        let agent = agents.iter().find(|agent| agent.id == grant.agent_id)?;
        Some(Self::new(client, grant, agent))
    }
}

impl ClientOut {
    fn new(owner: Int<User>, client: Client, agents: &[Agent]) -> Self {
        let Client { id, email, name, email_verified, membership } = client;
        let status = match membership.status {
            MembershipStatus::Active => "active",
            MembershipStatus::Invited => "invited",
            MembershipStatus::Suspended => "suspended",
        };
        let id = id.into();
        Self {
            id,
            email,
            name,
            role: "client",
            status,
            parent_user_id: owner,
            email_verified,
            invitation_expires_at: membership.invitation.map(|invitation| invitation.expires_at),
            grants: membership.grants.into_iter().filter_map(|grant| GrantOut::of(id, grant, agents)).collect(),
            created_at: membership.joined_at,
        }
    }
}

const CLIENTS: &str = "clients";

async fn list_clients(
    State(app): State<App>,
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<ClientOut>>> {
    let (after, limit) = query.read(CLIENTS)?;
    let owner = call.caller.owner_user_id.into();
    let page = client::list(&app, &call.caller, after.as_ref(), limit).await?;
    let agents = client::agents(&app, &call.caller).await?;
    Ok(Json(ListOut::page(CLIENTS, page.map(|client| ClientOut::new(owner, client, &agents)))))
}

async fn create_client(State(app): State<App>, call: Call, Json(body): Json<ClientIn>) -> Result<Created<ClientOut>> {
    let command = Invite {
        email: body.email,
        name: body.name,
        password: body.password.map(Secret::new),
        agents: body.agent_ids.iter().map(|id| id.0).collect(),
        scopes: body.scopes,
    };
    let (owner, agents) = (call.caller.owner_user_id.into(), client::agents(&app, &call.caller).await?);
    let out = |client| ClientOut::new(owner, client, &agents);
    let counted = Counted::default();
    call.run(&app, || client::invite(&app, &call.caller, &command, &counted), out).await
}

async fn find_client(State(app): State<App>, call: Call, Path(id): Path<Int<User>>) -> Result<Json<ClientOut>> {
    let client = client::find(&app, &call.caller, id.0).await?;
    let agents = client::agents(&app, &call.caller).await?;
    Ok(Json(ClientOut::new(call.caller.owner_user_id.into(), client, &agents)))
}

async fn update_client(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<User>>,
    Json(body): Json<ClientPatch>,
) -> Result<Done<ClientOut>> {
    let changes = Changes { name: body.name, is_active: body.is_active };
    let (owner, agents) = (call.caller.owner_user_id.into(), client::agents(&app, &call.caller).await?);
    let out = |client| ClientOut::new(owner, client, &agents);
    call.run(&app, || client::change(&app, &call.caller, id.0, &changes), out).await
}

async fn delete_client(State(app): State<App>, call: Call, Path(id): Path<Int<User>>) -> Result<NoContent> {
    call.run(&app, || client::remove(&app, &call.caller, id.0), |()| ()).await
}

async fn invite_client(State(app): State<App>, call: Call, Path(id): Path<Int<User>>) -> Result<Done<ClientOut>> {
    let (owner, agents) = (call.caller.owner_user_id.into(), client::agents(&app, &call.caller).await?);
    let out = |client| ClientOut::new(owner, client, &agents);
    let counted = Counted::default();
    call.run(&app, || client::invite_again(&app, &call.caller, id.0, &counted), out).await
}

async fn list_grants(State(app): State<App>, call: Call, Path(id): Path<Int<User>>) -> Result<Json<ListOut<GrantOut>>> {
    let client = client::find(&app, &call.caller, id.0).await?;
    let agents = client::agents(&app, &call.caller).await?;
    let grants = client.membership.grants.into_iter();
    Ok(Json(ListOut::whole(grants.filter_map(|grant| GrantOut::of(id, grant, &agents)).collect())))
}

async fn create_grant(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<User>>,
    Json(body): Json<GrantIn>,
) -> Result<Created<GrantOut>> {
    let scopes = body.scopes.as_deref();
    let command = || client::grant(&app, &call.caller, id.0, body.agent_id.0, scopes);
    let status = |(_, is_new): &((Agent, Grant), bool)| if *is_new { 201 } else { 200 };
    call.run_with_status(&app, command, status, |((agent, grant), _)| GrantOut::new(id, grant, &agent)).await
}

async fn delete_grant(
    State(app): State<App>,
    call: Call,
    Path((id, agent)): Path<(Int<User>, Int<Agent>)>,
) -> Result<NoContent> {
    call.run(&app, || client::revoke(&app, &call.caller, id.0, agent.0), |()| ()).await
}

/// An agent that somebody looks after.
#[derive(Debug, Serialize, JsonSchema)]
struct MyAgentOut {
    id: Int<Agent>,
    owner_id: Int<User>,
    name: String,
    description: Option<String>,
    status: AgentStatus,
    is_published: bool,
    public_slug: Option<String>,
    /// What of it.
    scopes: Vec<&'static str>,
}

async fn list_my_agents(State(app): State<App>, call: Call) -> Result<Json<ListOut<MyAgentOut>>> {
    let owner_id = call.caller.owner_user_id.into();
    let out = |(agent, scopes): (Agent, Vec<GrantScope>)| MyAgentOut {
        id: agent.id.into(),
        owner_id,
        is_published: agent.is_published(),
        name: agent.name,
        description: agent.description,
        status: agent.status,
        public_slug: agent.public_slug,
        scopes: scopes.into_iter().map(GrantScope::text).collect(),
    };
    let agents = client::looked_after(&app, &call.caller).await?;
    Ok(Json(ListOut::whole(agents.into_iter().map(out).collect())))
}
