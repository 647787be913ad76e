//! Everything of one tenant, wherever it lies: for its export and its erasure.
//!
//! What leads to the rest (the workspace, its people, keys and agents) is read by key; the rest is found by a scan of the
//! table, since deleted agents, conversations and events of long ago are on no list. What leads to the rest goes last, so
//! that an erasure that broke off is taken up by doing it again.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;

use super::keys;
use crate::domain::user::UserStatus;
use crate::domain::workspace::WorkspaceStatus;
use crate::domain::{Agent, ApiKey, BillingAccount, Membership, Session, User, Webhook, Workspace};
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Cursor, Error, Id, Result, Time};
use crate::table::{Cond, Index, Item, Key, Query, Refusal, Table, Unit, Update, Versioned, decode};

/// How many items one read of a list takes.
const CHUNK: usize = 500;
/// How many items are deleted at a time.
const AT_ONCE: usize = 8;

/// What leads to everything else of a tenant.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Which tenant.
    pub id: Id<Workspace>,
    /// Its workspace; `None` when it is gone, or never was.
    pub workspace: Option<Versioned<Workspace>>,
    /// Its people who belong to no other workspace: they go with it.
    pub going: Vec<User>,
    /// Its other people, each with a workspace that they belong to as well.
    pub staying: Vec<(User, Id<Workspace>)>,
    /// Its agents.
    pub agents: Vec<Agent>,
    /// Its keys.
    pub keys: Vec<ApiKey>,
}

/// Reads what leads to everything else of a tenant.
///
/// # Errors
/// When the table cannot be read.
pub async fn roots(table: &Table, id: Id<Workspace>) -> Result<Roots> {
    let workspace: Option<Versioned<Workspace>> = table.get_versioned(&keys::workspace(id)).await?;
    let list = |prefix| Query::prefix(Index::Main, keys::workspace_pk(id), prefix);
    let members: Vec<Membership> = every(table, &list(keys::MEMBERSHIP)).await?;
    let owner = workspace.iter().map(|workspace| workspace.body.owner_user_id);
    let mut people: Vec<Id<User>> = owner.chain(members.iter().map(|member| member.user_id)).collect();
    let mut once = HashSet::new();
    people.retain(|user| once.insert(*user));
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for user in people {
        let Some(user) = super::user::get(table, user).await? else { continue };
        let belongs: Vec<Membership> =
            every(table, &Query::partition(Index::Gsi1, keys::memberships_of(user.id))).await?;
        match belongs.into_iter().find(|membership| membership.workspace_id != id) {
            Some(other) => staying.push((user, other.workspace_id)),
            None => going.push(user),
        }
    }
    let (agents, keys) = (every(table, &list(keys::AGENT)).await?, every(table, &list(keys::API_KEYS)).await?);
    Ok(Roots { id, workspace, going, staying, agents, keys })
}

/// A whole list, a piece at a time.
async fn every<T: DeserializeOwned>(table: &Table, query: &Query) -> Result<Vec<T>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let rows = table.query(&query.clone().after(after.as_ref()), CHUNK).await?;
        for item in rows.items {
            found.push(decode(item)?);
        }
        after = rows.more_after.map(|position| Cursor { position });
        if after.is_none() {
            return Ok(found);
        }
    }
}

impl Roots {
    /// Its owner, unless they are gone.
    #[must_use]
    pub fn owner(&self) -> Option<&User> {
        let id = self.workspace.as_ref()?.body.owner_user_id;
        self.going.iter().chain(self.staying.iter().map(|(user, _)| user)).find(|user| user.id == id)
    }

    /// Whether its owner has other workspaces, which share its account.
    fn shares_account(&self) -> bool {
        let owner = self.workspace.as_ref().map(|workspace| workspace.body.owner_user_id);
        self.staying.iter().any(|(user, _)| Some(user.id) == owner)
    }

    /// When its doors were closed, if they were.
    #[must_use]
    pub fn closed_at(&self) -> Option<Time> {
        let workspace = &self.workspace.as_ref()?.body;
        Some(workspace.updated_at).filter(|_| workspace.status == WorkspaceStatus::Deleted)
    }

    /// How its items are recognised.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let people = self.going.iter().flat_map(|user| [user.id.text(), sha256_hex(&user.email)]);
        let programs = self.keys.iter().map(|key| key.id.text());
        let agents = self.agents.iter().map(|agent| agent.id.text());
        Mark {
            workspace: self.id,
            account: self.workspace.as_ref().map(|workspace| workspace.body.billing_account_id),
            shares_account: self.shares_account(),
            subjects: people.chain(programs).chain(agents).chain([self.id.text()]).collect(),
            people: self.going.iter().map(|user| user.id.key()).collect(),
        }
    }
}

/// What an item is to an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It leads to the rest, and goes last.
    Root,
    /// It goes.
    Rest,
    /// It belongs to the bill, and goes only when that is wanted.
    Bill,
}

/// How a tenant's items are recognised.
#[derive(Debug, Clone)]
pub struct Mark {
    workspace: Id<Workspace>,
    account: Option<Id<BillingAccount>>,
    shares_account: bool,
    /// Whose idempotency records and rate windows are the tenant's.
    subjects: HashSet<String>,
    /// Its people who go with it.
    people: HashSet<String>,
}

impl Mark {
    /// What the table may leave out by itself. It lets some of others' through: [`Self::part`] decides.
    #[must_use]
    pub fn filter(&self) -> Cond {
        let mut any = vec![
            Cond::begins("pk", keys::workspace_pk(self.workspace)),
            Cond::eq("workspace_id", self.workspace),
            Cond::eq("task.workspace_id", self.workspace),
            Cond::begins("pk", keys::IDEMPOTENCY),
            Cond::begins("pk", keys::RATES),
            Cond::begins("pk", keys::RESETS),
        ];
        if let Some(account) = self.account {
            any.push(Cond::begins("pk", keys::account_pk(account)));
            any.push(Cond::eq("task.account_id", account));
        }
        Cond::Any(any)
    }

    /// What an item is, if it is the tenant's.
    #[must_use]
    pub fn part(&self, key: &Key, item: &Item) -> Option<Part> {
        let id = |path: &[&str]| text(item, path);
        let names = [id(&["workspace_id"]), id(&["task", "workspace_id"])];
        let is_named = names.contains(&Some(self.workspace.key().as_str()));
        if keys::is_bill(&key.pk) {
            // An account that other workspaces share stays, but for what tells of this one.
            let whole = !self.shares_account && self.account.is_some_and(|id| keys::is_of_account(&key.pk, id));
            let ours = whole || is_named || keys::counts_workspace(&key.sk, self.workspace);
            return ours.then_some(Part::Bill);
        }
        if keys::is_root(key, self.workspace) || (is_named && id(&["et"]) == Some("slug_guard")) {
            return Some(Part::Root);
        }
        if is_named || keys::is_of_workspace(&key.pk, self.workspace) {
            return Some(Part::Rest);
        }
        if key.pk.starts_with(keys::RESETS) {
            return id(&["user_id"]).is_some_and(|user| self.people.contains(user)).then_some(Part::Rest);
        }
        let account = self.account.filter(|_| !self.shares_account).map(Id::key);
        if account.is_some() && id(&["task", "account_id"]) == account.as_deref() {
            return Some(Part::Bill);
        }
        keys::subject(&key.pk).is_some_and(|subject| self.subjects.contains(subject)).then_some(Part::Rest)
    }
}

fn text<'a>(item: &'a Item, path: &[&str]) -> Option<&'a str> {
    match path {
        [name] => item.get(*name)?.as_s().ok().map(String::as_str),
        [name, rest @ ..] => text(item.get(*name)?.as_m().ok()?, rest),
        [] => None,
    }
}

/// What an item is called.
#[must_use]
pub fn kind(key: &Key, item: &Item) -> String {
    text(item, &["et"]).unwrap_or_else(|| keys::kind(key)).to_owned()
}

/// A page of what a tenant has.
#[derive(Debug, Clone)]
pub struct Found {
    /// The items, and what each is.
    pub items: Vec<(Key, Part, Item)>,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<Key>,
    /// What the page cost.
    pub read_units: f64,
}

/// Reads the next page of the table, and gives what is the tenant's.
///
/// # Errors
/// When the table cannot be read.
pub async fn find(table: &Table, mark: &Mark, after: Option<&Key>) -> Result<Found> {
    let page = table.scan(&mark.filter(), after).await?;
    let ours = |item: Item| {
        let (key, item) = keyed(item)?;
        let part = mark.part(&key, &item)?;
        Some((key, part, item))
    };
    Ok(Found { items: page.items.into_iter().filter_map(ours).collect(), next: page.next, read_units: page.read_units })
}

/// Deletes items, whether they are there or not.
///
/// # Errors
/// When the table cannot be written.
pub async fn delete(table: &Table, keys: impl IntoIterator<Item = Key>) -> Result<()> {
    let delete = async |key: Key| {
        let mut unit = Unit::new();
        unit.delete(key);
        table.commit(unit).await.map_err(Error::from)
    };
    stream::iter(keys.into_iter().map(delete)).buffer_unordered(AT_ONCE).try_collect().await
}

/// Sets whether a person may log in, and ends their sessions when they may not.
///
/// # Errors
/// When the table cannot be written.
pub async fn set_status(table: &Table, user: &User, status: UserStatus, now: Time) -> Result<()> {
    let update = Update::new(keys::user(user.id)).set("status", status).set("updated_at", now);
    happened(table.update(update, Some(Cond::existing()), Error::not_found()).await.map(drop))?;
    if status == UserStatus::Active {
        return Ok(());
    }
    let sessions = sessions_of(table, user.id).await?;
    delete(table, sessions.into_iter().map(|session| keys::session(&session.sid))).await
}

async fn sessions_of(table: &Table, user: Id<User>) -> Result<Vec<Session>> {
    every(table, &Query::partition(Index::Gsi1, keys::sessions_of(user))).await
}

/// That it was gone already is fine.
fn happened(outcome: Result<(), Refusal>) -> Result<()> {
    match outcome {
        Ok(()) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Closes every door to a tenant: nobody can log in, no key is known, no page answers, no endpoint is told. What is under
/// way then ends by itself; [`Roots::closed_at`] says since when. Gives the kinds of what it deleted.
///
/// # Errors
/// When the table cannot be written.
pub async fn close(table: &Table, roots: &Roots, now: Time) -> Result<Vec<String>> {
    for user in roots.going.iter().filter(|user| user.status != UserStatus::Deleted) {
        let update = Update::new(keys::user(user.id)).set("status", UserStatus::Deleted).set("updated_at", now);
        happened(table.update(update, Some(Cond::existing()), Error::not_found()).await.map(drop))?;
    }
    let doors: Vec<(Key, Item)> =
        table.batch_get(&doors(table, roots).await?).await?.into_iter().filter_map(keyed).collect();
    delete(table, doors.iter().map(|(key, _)| key.clone())).await?;
    if let Some(Versioned { body, v }) = roots.workspace.as_ref().filter(|_| roots.closed_at().is_none()) {
        let mut unit = Unit::new();
        let closed = Workspace { status: WorkspaceStatus::Deleted, updated_at: now, ..body.clone() };
        super::workspace::replace(&mut unit, &closed, *v)?;
        table.commit(unit).await?;
    }
    Ok(doors.iter().map(|(key, item)| kind(key, item)).collect())
}

fn keyed(item: Item) -> Option<(Key, Item)> {
    Some((Key::of(&item)?, item))
}

/// What lets somebody in, or events out.
async fn doors(table: &Table, roots: &Roots) -> Result<Vec<Key>> {
    let list = Query::prefix(Index::Main, keys::workspace_pk(roots.id), keys::WEBHOOK);
    let webhooks: Vec<Webhook> = every(table, &list).await?;
    let mut doors: Vec<Key> = webhooks.iter().map(|webhook| keys::webhook(roots.id, webhook.id)).collect();
    for user in &roots.going {
        doors.extend(sessions_of(table, user.id).await?.iter().map(|session| keys::session(&session.sid)));
    }
    for (user, _) in &roots.staying {
        let sessions = sessions_of(table, user.id).await?.into_iter();
        let here = sessions.filter(|session| session.workspace_id == roots.id);
        doors.extend(here.map(|session| keys::session(&session.sid)));
    }
    doors.extend(roots.keys.iter().map(|key| keys::key_lookup(&key.hash)));
    doors.extend(roots.agents.iter().filter_map(|agent| agent.public_slug.as_deref()).map(keys::public_slug));
    doors.extend(roots.agents.iter().map(|agent| keys::live(roots.id, agent.id)));
    doors.extend(super::whatsapp::held(table, &roots.agents).await?);
    Ok(doors)
}

/// Deletes what leads to the rest, once the rest is gone: the workspace at the very last.
///
/// # Errors
/// When the table cannot be written.
pub async fn delete_roots(table: &Table, roots: &Roots) -> Result<()> {
    // The owner's other workspaces count their agents in the same place.
    let shared = roots.mark().account.filter(|_| roots.shares_account());
    for agent in &roots.agents {
        let mut unit = Unit::new();
        unit.delete_if(keys::agent(roots.id, agent.id), Cond::existing(), Error::not_found());
        if let Some(account) = shared.filter(|_| agent.is_published()) {
            super::agent::uncount_published(&mut unit, account);
        }
        happened(table.commit(unit).await)?;
    }
    delete(table, roots.keys.iter().map(|key| keys::api_key(roots.id, key.kind, key.id))).await?;
    for (user, other) in &roots.staying {
        let mut unit = Unit::new();
        unit.delete(keys::membership(roots.id, user.id));
        if user.default_workspace_id == roots.id {
            let update = Update::new(keys::user(user.id)).set("default_workspace_id", other);
            unit.update(update, Cond::existing(), Error::not_found());
        }
        table.commit(unit).await?;
    }
    for user in &roots.going {
        let mut unit = Unit::new();
        unit.delete(keys::email(&user.email));
        unit.delete(keys::user(user.id)).delete(keys::membership(roots.id, user.id));
        table.commit(unit).await?;
    }
    let Some(workspace) = &roots.workspace else { return Ok(()) };
    let mut unit = Unit::new();
    unit.delete(keys::workspace_slug(&workspace.body.slug)).delete(keys::workspace(roots.id));
    table.commit(unit).await.map_err(Into::into)
}
