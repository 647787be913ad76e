//! A tenant as a whole: handed out, or erased. For the operator alone, by a command beside the running system and never
//! by one of its functions, since it reads the whole table.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::domain::user::UserStatus;
use crate::domain::{User, Workspace};
use crate::kernel::secret::Sealed;
use crate::kernel::{Clock, Code, Error, Id, Result, Time};
use crate::ports::objects::Objects;
use crate::store;
use crate::store::tenant::{Part, Roots};
use crate::table::{Item, Key, Table, decode};

/// Where tenants are kept.
#[derive(Clone, Copy)]
pub struct Storage<'a> {
    /// The table.
    pub table: &'a Table,
    /// The objects; `None` when they are not looked at.
    pub objects: Option<&'a Objects>,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// How many items of each kind.
pub type Counts = BTreeMap<String, usize>;

/// How long what was under way when the doors were closed may take: the longest turn with its lease, and what processes
/// remember of doors.
pub const SETTLES_IN: Duration = Duration::from_secs(180);

/// How often the table is read until nothing of the tenant's is left. Twice is usual: the second finds nothing.
const PASSES: usize = 5;
/// How many objects are deleted at a time, and handed out at all.
const OBJECTS: usize = 1_000;
const MAX_OBJECTS: usize = 100_000;

/// Kinds of items that nobody is handed: sealed secrets, hashes of keys, sessions, and answers that may show a secret.
const WITHHELD: [&str; 6] = ["agent_secret", "key_lookup", "session", "idempotency", "rate_window", "reset"];
/// Fields that are left out of the others, beside all that is sealed.
const SECRET_FIELDS: [&str; 3] = ["password_hash", "hash", "nonce"];
/// Fields that say where an item lies and are told in another way, or tell nothing.
const KEY_FIELDS: [&str; 9] = ["pk", "sk", "et", "v", "ttl", "gsi1pk", "gsi1sk", "gsi2pk", "gsi2sk"];

/// The tenant of a workspace's id (`ws_…`, or the number that the operator's routes show) or of its owner's e-mail.
///
/// # Errors
/// `not_found` with what to do, also for somebody who is no owner.
pub async fn find(at: Storage<'_>, who: &str) -> Result<Id<Workspace>> {
    if let Some(id) = read_id(who) {
        return Ok(id);
    }
    let missing = |what: &str| Err(Error::with_message(Code::NotFound, format!("{who}: {what}")));
    let Some(user) = store::user::by_email(at.table, &who.trim().to_lowercase()).await? else {
        return missing("nobody has registered with that e-mail. Name the tenant by its workspace id, ws_…");
    };
    let workspace: Option<Workspace> = at.table.get(&store::keys::workspace(user.default_workspace_id)).await?;
    match workspace {
        Some(workspace) if workspace.owner_user_id == user.id => Ok(workspace.id),
        _ => missing("that person owns no workspace. Name the tenant by its workspace id, ws_…"),
    }
}

/// Reads a workspace's id in either face.
#[must_use]
pub fn read_id(text: &str) -> Option<Id<Workspace>> {
    Id::from_text(text).or_else(|| Id::from_int(text.parse().ok()?))
}

/// What there is of a tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Whether there is its workspace.
    pub is_there: bool,
    /// Whether its owner may not log in.
    pub is_suspended: bool,
    /// What an erasure deletes.
    pub items: Counts,
    /// What belongs to its bill.
    pub bill: Counts,
    /// Its objects; `None` when they were not looked at.
    pub objects: Option<usize>,
    /// What it cost to find out.
    pub read_units: f64,
}

impl Survey {
    fn count(&mut self, part: Part, kind: String) {
        let counts = if part == Part::Bill { &mut self.bill } else { &mut self.items };
        *counts.entry(kind).or_default() += 1;
    }
}

/// Counts what there is of a tenant, and changes nothing.
///
/// # Errors
/// When the table or the objects cannot be read.
pub async fn survey(at: Storage<'_>, tenant: Id<Workspace>) -> Result<Survey> {
    let roots = store::tenant::roots(at.table, tenant).await?;
    let mut survey = Survey {
        is_there: roots.workspace.is_some(),
        is_suspended: roots.owner().is_none_or(is_suspended),
        ..Survey::default()
    };
    for _ in &roots.going {
        survey.count(Part::Root, "user".into());
        survey.count(Part::Root, "email_guard".into());
    }
    let (mark, mut after) = (roots.mark(), None);
    loop {
        let page = store::tenant::find(at.table, &mark, after.as_ref()).await?;
        survey.read_units += page.read_units;
        page.items.iter().for_each(|(key, part, item)| survey.count(*part, store::tenant::kind(key, item)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if let Some(objects) = at.objects {
        survey.objects = Some(objects.list(tenant, MAX_OBJECTS).await?.len());
    }
    Ok(survey)
}

fn is_suspended(user: &User) -> bool {
    user.status != UserStatus::Active
}

/// Hands out everything of a tenant, one JSON object at a time, without its secrets. The first says what is left out.
///
/// # Errors
/// `not_found` when there is no such workspace, when the table or the objects cannot be read, or `hand` fails.
pub async fn export(at: Storage<'_>, tenant: Id<Workspace>, mut hand: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let roots = store::tenant::roots(at.table, tenant).await?;
    if roots.workspace.is_none() {
        return Err(no_tenant(tenant));
    }
    hand(&json!({
        "kind": "export",
        "workspace_id": tenant.text(),
        "at": at.clock.now(),
        "left_out": "passwords, keys, sessions, sealed secrets and the hashes of all these",
        "objects": at.objects.is_some(),
    }))?;
    for user in roots.going.iter().chain(roots.staying.iter().map(|(user, _)| user)) {
        let key = store::keys::user(user.id);
        hand(&line("user", &key, serde_json::to_value(user).map_err(Error::internal)?))?;
    }
    let (mark, mut after) = (roots.mark(), None);
    loop {
        let page = store::tenant::find(at.table, &mark, after.as_ref()).await?;
        for (key, _, item) in page.items {
            hand_item(&key, item, &mut hand)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    hand_objects(at, tenant, &mut hand).await
}

fn hand_item(key: &Key, item: Item, hand: &mut impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let kind = store::tenant::kind(key, &item);
    if WITHHELD.contains(&kind.as_str()) {
        return Ok(());
    }
    hand(&line(&kind, key, decode(item)?))
}

async fn hand_objects(
    at: Storage<'_>,
    tenant: Id<Workspace>,
    hand: &mut impl FnMut(&Value) -> Result<()>,
) -> Result<()> {
    let Some(objects) = at.objects else { return Ok(()) };
    let keys = objects.list(tenant, MAX_OBJECTS + 1).await?;
    if keys.len() > MAX_OBJECTS {
        let message =
            format!("There are more than {MAX_OBJECTS} objects: copy them from the bucket, and export without.");
        return Err(Error::with_message(Code::PayloadTooLarge, message));
    }
    for key in keys {
        if let Some(bytes) = objects.get(&key).await? {
            hand(&json!({"kind": "object", "key": key, "base64": STANDARD.encode(bytes)}))?;
        }
    }
    Ok(())
}

/// One item as it is handed out.
fn line(kind: &str, key: &Key, mut item: Value) -> Value {
    if let Value::Object(fields) = &mut item {
        fields.retain(|name, _| !KEY_FIELDS.contains(&name.as_str()) && !SECRET_FIELDS.contains(&name.as_str()));
        strip(fields);
    }
    json!({"kind": kind, "key": [key.pk, key.sk], "item": item})
}

/// Takes out what is sealed, wherever it stands.
fn strip(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !is_sealed(value));
    fields.values_mut().for_each(strip_within);
}

fn is_sealed(value: &Value) -> bool {
    value.as_str().is_some_and(Sealed::is_like)
}

fn strip_within(value: &mut Value) {
    match value {
        Value::Object(fields) => strip(fields),
        Value::Array(values) => {
            values.retain(|value| !is_sealed(value));
            values.iter_mut().for_each(strip_within);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn no_tenant(tenant: Id<Workspace>) -> Error {
    Error::with_message(Code::NotFound, format!("There is no workspace {}.", tenant.text()))
}

/// Keeps a tenant's owner from logging in and ends their sessions, or lifts that again.
///
/// # Errors
/// `not_found` when there is no such owner; `forbidden` for staff of the installation, and for a tenant that is being
/// erased.
pub async fn suspend(at: Storage<'_>, tenant: Id<Workspace>, lift: bool) -> Result<()> {
    let roots = store::tenant::roots(at.table, tenant).await?;
    let owner = roots.owner().ok_or_else(|| no_tenant(tenant))?;
    check_staff(owner)?;
    if roots.closed_at().is_some() {
        return Err(Error::with_message(Code::Forbidden, "This tenant is being erased, which cannot be undone."));
    }
    let status = if lift { UserStatus::Active } else { UserStatus::Suspended };
    store::tenant::set_status(at.table, owner, status, at.clock.now()).await
}

fn check_staff(owner: &User) -> Result<()> {
    match owner.staff_role {
        None => Ok(()),
        Some(_) => {
            Err(Error::with_message(Code::Forbidden, "That is an account of the installation's own staff: it stays."))
        }
    }
}

/// How to erase.
#[derive(Debug, Clone, Copy)]
pub struct Erase {
    /// Whether its bill goes too: account, allowances, usage and what is counted of it.
    pub with_bills: bool,
    /// How long what is under way may take after the doors were closed; nothing when no process runs.
    pub settles_in: Duration,
}

/// What came of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erased {
    /// The doors are closed, and what is under way comes to its end.
    Closed {
        /// From then on the rest goes.
        until: Time,
        /// What was deleted now.
        items: Counts,
    },
    /// Nothing is left but the bill, unless that went too.
    Done {
        /// What was deleted now.
        items: Counts,
        /// Objects that were deleted now; `None` when they were not looked at.
        objects: Option<usize>,
    },
}

/// Erases a tenant for good. First the doors are closed, so that nothing new is written; once what was under way has
/// ended, all goes that a scan of the table finds, until it finds no more, and at last what led to it. It may break off
/// anywhere, and be done again at any time.
///
/// # Errors
/// `conflict` when the owner is not suspended, or something goes on writing; `forbidden` for staff of the installation;
/// when the table or the objects cannot be reached.
pub async fn erase(at: Storage<'_>, tenant: Id<Workspace>, command: Erase) -> Result<Erased> {
    let mut roots = store::tenant::roots(at.table, tenant).await?;
    check(&roots)?;
    let now = at.clock.now();
    let mut items = Counts::new();
    add(&mut items, store::tenant::close(at.table, &roots, now).await?);
    if roots.workspace.is_some() {
        let open_until = roots.closed_at().unwrap_or(now) + command.settles_in;
        if now < open_until {
            return Ok(Erased::Closed { until: open_until, items });
        }
        // What was made since they were read, before the doors were closed.
        roots = store::tenant::roots(at.table, tenant).await?;
    }
    sweep(at, &roots, command.with_bills, &mut items).await?;
    let objects = delete_objects(at, tenant).await?;
    count_roots(&roots, &mut items);
    store::tenant::delete_roots(at.table, &roots).await?;
    tracing::info!(workspace = tenant.text(), items = items.values().sum::<usize>(), "a tenant was erased");
    Ok(Erased::Done { items, objects })
}

fn check(roots: &Roots) -> Result<()> {
    roots.going.iter().chain(roots.owner()).try_for_each(check_staff)?;
    if roots.owner().is_none_or(is_suspended) {
        return Ok(());
    }
    let message = "The owner is not suspended, so that somebody may be at work there. Suspend them first.";
    Err(Error::with_message(Code::Conflict, message))
}

/// Deletes all but what leads to it, until nothing is found any more.
async fn sweep(at: Storage<'_>, roots: &Roots, with_bills: bool, items: &mut Counts) -> Result<()> {
    let mark = roots.mark();
    let goes = |part: Part| match part {
        Part::Root => false,
        Part::Rest => true,
        Part::Bill => with_bills,
    };
    for _ in 0..PASSES {
        let (mut after, mut is_clean) = (None, true);
        loop {
            let page = store::tenant::find(at.table, &mark, after.as_ref()).await?;
            let mut going = Vec::new();
            for (key, _, item) in page.items.into_iter().filter(|(_, part, _)| goes(*part)) {
                add(items, [store::tenant::kind(&key, &item)]);
                going.push(key);
            }
            is_clean &= going.is_empty();
            store::tenant::delete(at.table, going).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if is_clean {
            return Ok(());
        }
    }
    let message = "Something goes on writing for this tenant. Wait a few minutes, and do the same again.";
    Err(Error::with_message(Code::Conflict, message))
}

fn add(items: &mut Counts, kinds: impl IntoIterator<Item = String>) {
    kinds.into_iter().for_each(|kind| *items.entry(kind).or_default() += 1);
}

async fn delete_objects(at: Storage<'_>, tenant: Id<Workspace>) -> Result<Option<usize>> {
    let Some(objects) = at.objects else { return Ok(None) };
    let mut deleted = 0;
    loop {
        let keys = objects.list(tenant, OBJECTS).await?;
        if keys.is_empty() {
            return Ok(Some(deleted));
        }
        for key in &keys {
            objects.delete(key).await?;
        }
        deleted += keys.len();
    }
}

fn count_roots(roots: &Roots, items: &mut Counts) {
    let (people, members) = (roots.going.len(), roots.going.len() + roots.staying.len());
    let workspaces = usize::from(roots.workspace.is_some());
    let counts = [
        ("user", people),
        ("email_guard", people),
        ("membership", members),
        ("agent", roots.agents.len()),
        ("api_key", roots.keys.len()),
        ("workspace", workspaces),
        ("slug_guard", workspaces),
    ];
    for (kind, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        *items.entry(kind.to_owned()).or_default() += count;
    }
}
