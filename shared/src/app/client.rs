//! Clients: people whom an owner lets look after some agents. They log in as everybody does and see what is granted.

use super::mail_limit::{self, Counted};
use super::{App, Draft, auth, password};
use crate::access::{Caller, RateClass};
use crate::domain::grant::{Grant, GrantScope};
use crate::domain::invitation::{self, Invitation};
use crate::domain::text::{Checks, is_email, local_part};
use crate::domain::user::UserStatus;
use crate::domain::workspace::{MAX_GRANTS, MembershipStatus};
use crate::domain::{Agent, Membership, Role, User};
use crate::events::emit;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Patch, Result, Secret};
use crate::ports::mail;
use crate::store;
use crate::table::{Unit, Versioned};

/// A wish for a client.
#[derive(Debug, Clone)]
pub struct Invite {
    /// As typed.
    pub email: String,
    /// What the owner calls them; the local part of the e-mail when absent.
    pub name: Option<String>,
    /// With one they may log in at once, unless they are known here already; without one they are mailed an invitation.
    pub password: Option<Secret>,
    /// What they may look after from the beginning.
    pub agents: Vec<Id<Agent>>,
    /// What of these agents; [`GrantScope::USUAL`] when absent.
    pub scopes: Option<Vec<String>>,
}

/// A client as their owner sees them: of somebody who has not accepted yet, only what the owner gave.
#[derive(Debug, Clone)]
pub struct Client {
    /// The person.
    pub id: Id<User>,
    /// Where they are mailed.
    pub email: String,
    /// What the owner calls them; else their own name once they accepted, and the local part of the e-mail before.
    pub name: String,
    /// Whether they have shown that the address is theirs; before they accepted it is not told.
    pub email_verified: bool,
    /// What they are here.
    pub membership: Membership,
}

impl Client {
    /// Somebody who is known here may be invited by anybody who has their address, and agrees first to be known by them.
    fn new(user: User, membership: Membership) -> Self {
        let (own_name, email_verified) = match membership.status {
            MembershipStatus::Invited => (local_part(&user.email).to_owned(), false),
            MembershipStatus::Active | MembershipStatus::Suspended => (user.name, user.email_verified),
        };
        let name = membership.name.clone().unwrap_or(own_name);
        Self { id: user.id, email: user.email, name, email_verified, membership }
    }
}

/// Makes somebody a client of the caller's workspace.
///
/// # Errors
/// `validation_error`, `client.already_exists`, `client.limit_reached`, `not_found` for an agent that is not there,
/// `rate_limited` when too many invitations were mailed.
pub async fn invite(app: &App, caller: &Caller, command: &Invite, counted: &Counted) -> Result<Draft<Client>> {
    let mut checks = Checks::new();
    let email = checks.email("email", &command.email);
    let reachable = !is_email(&email) || mail::is_address(&email);
    checks.ensure(reachable, "email", "invalid_email", "email must be an e-mail address");
    if let Some(password) = &command.password {
        auth::check_password(&mut checks, "password", password);
    }
    let name = checks.optional("name", command.name.as_deref(), 255);
    let scopes = scopes(&mut checks, command.scopes.as_deref());
    let few = command.agents.len() <= MAX_GRANTS;
    checks.ensure(few, "agent_ids", "too_many", &format!("agent_ids may hold {MAX_GRANTS} agents"));
    checks.finish()?;
    let mut membership = Membership::new(caller.workspace_id, app.ids().id(), Role::Client, app.now());
    membership.name = name;
    for agent in &command.agents {
        store::agent::get(&app.table, caller.workspace_id, *agent).await?;
        put_grant(app, &mut membership, *agent, scopes.clone())?;
    }
    let mut unit = Unit::new();
    let user = person(app, caller, &mut unit, &email, command, &mut membership).await?;
    membership.user_id = user.id;
    if membership.status == MembershipStatus::Invited {
        count_mail(app, caller, &email, counted).await?;
        membership.invitation = Some(new_invitation(app));
        emit(&mut unit, &app.events().client_invited(&membership))?;
    }
    store::workspace::count_client(&mut unit, caller.workspace_id);
    store::workspace::add_member(&mut unit, &membership)?;
    Ok(Draft::new(unit, Client::new(user, membership)))
}

/// The person behind an e-mail: somebody known, who has to agree, or somebody new.
async fn person(
    app: &App,
    caller: &Caller,
    unit: &mut Unit,
    email: &str,
    command: &Invite,
    membership: &mut Membership,
) -> Result<User> {
    let known = store::user::by_email(&app.table, email).await?;
    if let Some(user) = known.as_ref().filter(|user| user.status != UserStatus::Deleted) {
        if store::workspace::membership(&app.table, caller.workspace_id, user.id).await?.is_some() {
            return Err(Error::new(Code::ClientAlreadyExists));
        }
        membership.status = MembershipStatus::Invited;
        return Ok(user.clone());
    }
    let password_hash = match &command.password {
        Some(password) => password::hash(&app.rng, password).await?,
        None => {
            membership.status = MembershipStatus::Invited;
            String::new()
        }
    };
    let name = membership.name.clone().unwrap_or_else(|| local_part(email).to_owned());
    let mut user = auth::new_user(app, email.to_owned(), &name, password_hash);
    user.default_workspace_id = caller.workspace_id;
    match known {
        // Whoever was removed from everywhere begins anew under the same address.
        Some(gone) => {
            let stored = store::user::get_versioned(&app.table, gone.id).await?;
            user.id = gone.id;
            store::user::replace(unit, &user, stored.v)?;
        }
        None => store::user::create(unit, &user)?,
    }
    Ok(user)
}

/// Counts an invitation that is about to be mailed: nobody must be able to fill anybody's mailbox, nor to write to the whole
/// world by inviting it.
async fn count_mail(app: &App, caller: &Caller, email: &str, counted: &Counted) -> Result<()> {
    if counted.is_done() {
        return Ok(());
    }
    let (of_a_day, to_all) = match mail_limit::may_mail_many(app, caller).await? {
        true => (
            RateClass::InvitationMailDay,
            "So many invitations were mailed for this workspace today that no more are. Go on tomorrow.",
        ),
        false => (
            RateClass::InvitationMailDayFree,
            "So many invitations were mailed for this workspace today that no more are. Go on tomorrow. More a day are \
             mailed once the owner's e-mail is verified and their plan is a paid one.",
        ),
    };
    let to_one = "So many invitations were mailed to that address within an hour that no more are. Go on later.";
    let (one, workspace) = (sha256_hex(email), caller.workspace_id.text());
    counted.count(app, [(RateClass::InvitationMail, one, to_one), (of_a_day, workspace, to_all)]).await
}

fn new_invitation(app: &App) -> Invitation {
    Invitation { nonce: hex::encode(app.rng.bytes::<16>()), expires_at: app.now() + invitation::LIFETIME }
}

fn scopes(checks: &mut Checks, wanted: Option<&[String]>) -> Vec<GrantScope> {
    let Some(wanted) = wanted else { return GrantScope::USUAL.to_vec() };
    let mut scopes: Vec<GrantScope> = wanted.iter().filter_map(|text| GrantScope::find(text)).collect();
    let message = format!("scopes may hold {}", GrantScope::ALL.map(GrantScope::text).join(", "));
    let known = wanted.iter().all(|text| GrantScope::find(text).is_some());
    checks.ensure(known && !wanted.is_empty(), "scopes", "unknown_scope", &message);
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// Says whether the grant is new.
fn put_grant(
    app: &App,
    membership: &mut Membership,
    agent: Id<Agent>,
    scopes: Vec<GrantScope>,
) -> Result<(Grant, bool)> {
    if let Some(known) = membership.grants.iter_mut().find(|grant| grant.agent_id == agent) {
        known.scopes = scopes;
        return Ok((known.clone(), false));
    }
    if membership.grants.len() >= MAX_GRANTS {
        return Err(Error::new(Code::GrantLimitReached));
    }
    let grant = Grant { agent_id: agent, scopes, created_at: app.now() };
    membership.grants.push(grant.clone());
    Ok((grant, true))
}

/// A page of the caller's clients, oldest first, and the workspace's agents, whose names the grants lack.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(app: &App, caller: &Caller, after: Option<&Cursor>, limit: Limit) -> Result<Page<Client>> {
    let members = store::workspace::members(&app.table, caller.workspace_id, after, limit).await?;
    let (mut clients, next) = (members.items, members.next);
    clients.retain(|member| member.role == Role::Client);
    let ids: Vec<Id<User>> = clients.iter().map(|member| member.user_id).collect();
    let users = store::user::many(&app.table, &ids).await?;
    let found = |membership: Membership| {
        let user = users.iter().find(|user| user.id == membership.user_id)?.clone();
        Some(Client::new(user, membership))
    };
    Ok(Page { items: clients.into_iter().filter_map(found).collect(), next, total: None })
}

async fn load(app: &App, caller: &Caller, id: Id<User>) -> Result<Versioned<Membership>> {
    let member = store::workspace::member(&app.table, caller.workspace_id, id).await?;
    if member.body.role == Role::Client { Ok(member) } else { Err(Error::not_found()) }
}

async fn user_of(app: &App, id: Id<User>) -> Result<User> {
    store::user::get(&app.table, id).await?.ok_or_else(Error::not_found)
}

/// One client.
///
/// # Errors
/// `not_found` when the workspace has no such client.
pub async fn find(app: &App, caller: &Caller, id: Id<User>) -> Result<Client> {
    let (member, user) = tokio::try_join!(load(app, caller, id), user_of(app, id))?;
    Ok(Client::new(user, member.body))
}

/// What an owner changes of a client. The person's own name, address and password are the person's.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// What the owner calls them; null for their own name.
    pub name: Patch<String>,
    /// Whether they may come in.
    pub is_active: Option<bool>,
}

/// Changes a client. Who may not come in any more is logged out.
///
/// # Errors
/// `not_found`, `validation_error`.
pub async fn change(app: &App, caller: &Caller, id: Id<User>, changes: &Changes) -> Result<Draft<Client>> {
    let Versioned { body: mut membership, v } = load(app, caller, id).await?;
    let mut checks = Checks::new();
    match &changes.name {
        Patch::Keep => {}
        Patch::Clear => membership.name = None,
        Patch::Set(name) => membership.name = checks.optional("name", Some(name), 255),
    }
    checks.finish()?;
    let mut unit = Unit::new();
    match (changes.is_active, membership.status) {
        (Some(false), MembershipStatus::Active) => {
            membership.status = MembershipStatus::Suspended;
            store::session::delete_in(&app.table, &mut unit, id, caller.workspace_id).await?;
        }
        (Some(true), MembershipStatus::Suspended) => membership.status = MembershipStatus::Active,
        // An invitation is accepted by whom it is for, and taken back by removing the client.
        _ => {}
    }
    store::workspace::replace_member(&mut unit, &membership, v)?;
    Ok(Draft::new(unit, Client::new(user_of(app, id).await?, membership)))
}

/// Mails the invitation again, for another seven days; the link before ends.
///
/// # Errors
/// `not_found`, `invitation.accepted`, `rate_limited`.
pub async fn invite_again(app: &App, caller: &Caller, id: Id<User>, counted: &Counted) -> Result<Draft<Client>> {
    let Versioned { body: mut membership, v } = load(app, caller, id).await?;
    if membership.status != MembershipStatus::Invited {
        return Err(Error::new(Code::InvitationAccepted));
    }
    let user = user_of(app, id).await?;
    count_mail(app, caller, &user.email, counted).await?;
    membership.invitation = Some(new_invitation(app));
    let mut unit = Unit::new();
    emit(&mut unit, &app.events().client_invited(&membership))?;
    store::workspace::replace_member(&mut unit, &membership, v)?;
    Ok(Draft::new(unit, Client::new(user, membership)))
}

/// Removes a client with all that is granted to them, at once. The person stays where they belong to another workspace.
///
/// # Errors
/// `not_found`.
pub async fn remove(app: &App, caller: &Caller, id: Id<User>) -> Result<Draft<()>> {
    let Versioned { body: membership, v } = load(app, caller, id).await?;
    let (user, elsewhere) =
        tokio::try_join!(store::user::get_versioned(&app.table, id), store::workspace::memberships_of(&app.table, id))?;
    let mut unit = Unit::new();
    store::workspace::remove_member(&mut unit, &membership, v);
    store::workspace::uncount_client(&mut unit, caller.workspace_id);
    store::session::delete_in(&app.table, &mut unit, id, caller.workspace_id).await?;
    let Versioned { body: mut user, v } = user;
    match elsewhere.iter().find(|other| other.workspace_id != caller.workspace_id) {
        Some(other) if user.default_workspace_id == caller.workspace_id => {
            user.default_workspace_id = other.workspace_id;
            store::user::replace(&mut unit, &user, v)?;
        }
        Some(_) => {}
        None => {
            (user.status, user.password_hash) = (UserStatus::Deleted, String::new());
            store::user::replace(&mut unit, &user, v)?;
        }
    }
    Ok(Draft::new(unit, ()))
}

/// Grants an agent to a client, or changes what of it is granted. Says whether it is new.
///
/// # Errors
/// `not_found`, `validation_error`, `grant.limit_reached`.
pub async fn grant(
    app: &App,
    caller: &Caller,
    id: Id<User>,
    agent: Id<Agent>,
    wanted: Option<&[String]>,
) -> Result<Draft<((Agent, Grant), bool)>> {
    let mut checks = Checks::new();
    let scopes = scopes(&mut checks, wanted);
    checks.finish()?;
    let (member, agent) =
        tokio::try_join!(load(app, caller, id), store::agent::get(&app.table, caller.workspace_id, agent))?;
    let Versioned { body: mut membership, v } = member;
    let (grant, is_new) = put_grant(app, &mut membership, agent.body.id, scopes)?;
    let mut unit = Unit::new();
    store::workspace::replace_member(&mut unit, &membership, v)?;
    Ok(Draft::new(unit, ((agent.body, grant), is_new)))
}

/// Takes an agent away from a client, at once.
///
/// # Errors
/// `not_found` when it is not granted.
pub async fn revoke(app: &App, caller: &Caller, id: Id<User>, agent: Id<Agent>) -> Result<Draft<()>> {
    let Versioned { body: mut membership, v } = load(app, caller, id).await?;
    if membership.grant(agent).is_none() {
        return Err(Error::not_found());
    }
    membership.grants.retain(|grant| grant.agent_id != agent);
    let mut unit = Unit::new();
    store::workspace::replace_member(&mut unit, &membership, v)?;
    Ok(Draft::new(unit, ()))
}

/// The agents of the caller's workspace, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn agents(app: &App, caller: &Caller) -> Result<Vec<Agent>> {
    store::agent::all(&app.table, caller.workspace_id).await
}

/// The agents that the caller may look after, with what of each: for a client what is granted, for others all.
///
/// # Errors
/// When the table cannot be read.
pub async fn looked_after(app: &App, caller: &Caller) -> Result<Vec<(Agent, Vec<GrantScope>)>> {
    let agents = agents(app, caller).await?;
    if caller.role != Role::Client {
        return Ok(agents.into_iter().map(|agent| (agent, GrantScope::ALL.to_vec())).collect());
    }
    let Some(membership) = membership_of(app, caller).await? else { return Ok(Vec::new()) };
    let granted = |agent: Agent| membership.grant(agent.id).map(|grant| (agent, grant.scopes.clone()));
    Ok(agents.into_iter().filter_map(granted).collect())
}

async fn membership_of(app: &App, caller: &Caller) -> Result<Option<Membership>> {
    let Some(user) = caller.user_id else { return Ok(None) };
    let membership = store::workspace::membership(&app.table, caller.workspace_id, user).await?;
    Ok(membership.filter(|membership| membership.status == MembershipStatus::Active))
}

/// Whether a client may do what they ask of an agent; for everybody else their role has decided. It is read anew at each
/// call, so that what is taken away is gone at once.
///
/// # Errors
/// `not_found` for an agent that is not granted or not there, `scope_missing` when something else of it is granted.
pub async fn ensure_granted(app: &App, caller: &Caller, agent: Id<Agent>, scope: GrantScope) -> Result<()> {
    if caller.role != Role::Client {
        return Ok(());
    }
    // Deleting an agent ends what was granted of it.
    let (membership, _) =
        tokio::try_join!(membership_of(app, caller), store::agent::get(&app.table, caller.workspace_id, agent))?;
    let membership = membership.filter(|membership| membership.grant(agent).is_some());
    if membership.ok_or_else(Error::not_found)?.may(agent, scope) {
        return Ok(());
    }
    let message = format!("This agent is not granted to you with {}.", scope.text());
    Err(Error::with_message(Code::ScopeMissing, message))
}
