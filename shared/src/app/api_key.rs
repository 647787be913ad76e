//! Minting, listing and revoking keys.

use super::{App, Draft};
use crate::access::Caller;
use crate::domain::Role;
use crate::domain::api_key::{ApiKey, DEVELOPER_SCOPES, KeyKind, KeyLookup};
use crate::domain::text::Checks;
use crate::kernel::secret::sha256_hex;
use crate::kernel::{Code, Error, Id, Result, Secret, Time};
use crate::store;
use crate::table::Unit;

/// A wish for a key.
#[derive(Debug, Clone)]
pub struct Mint {
    /// What its owner calls it.
    pub name: String,
    /// What it may do; all that the kind can when absent.
    pub scopes: Option<Vec<String>>,
    /// When it ends by itself.
    pub expires_at: Option<Time>,
}

/// A new key: the only time that its raw text is known.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The key as it is listed.
    pub key: ApiKey,
    /// The text that the owner copies.
    pub raw: Secret,
}

/// Random characters of a raw key, 5 bits each: 200 bits.
const RAW_CHARS: usize = 40;
/// How much of the raw key is shown, to tell keys apart.
const PREFIX_CHARS: usize = 12;

/// Makes a developer key of the caller's workspace. Its scopes say what it may do; it never acts as more than who made
/// it, nor as the owner.
///
/// # Errors
/// `validation_error`, `api_key.limit_reached`, `forbidden` for callers without a user.
pub async fn mint(app: &App, caller: &Caller, command: &Mint) -> Result<Draft<Minted>> {
    let mut checks = Checks::new();
    let name = checks.name("name", &command.name, 60);
    let scopes = scopes(&mut checks, command.scopes.as_deref());
    let lasts = command.expires_at.is_none_or(|at| at > app.now());
    checks.ensure(lasts, "expires_at", "in_the_past", "expires_at must be in the future");
    checks.finish()?;
    let kind = KeyKind::Developer;
    let raw = format!("{}{}", kind.prefix(), app.rng.text(RAW_CHARS));
    let key = ApiKey {
        id: app.ids().id(),
        workspace_id: caller.workspace_id,
        kind,
        name,
        prefix: raw[..PREFIX_CHARS].to_owned(),
        hash: sha256_hex(&raw),
        scopes,
        created_by: caller.user_id.ok_or_else(|| Error::new(Code::Forbidden))?,
        created_at: app.now(),
        expires_at: command.expires_at,
    };
    let lookup = KeyLookup {
        key_id: key.id,
        workspace_id: key.workspace_id,
        billing_account_id: caller.billing_account_id,
        owner_user_id: caller.owner_user_id,
        kind,
        scopes: key.scopes.clone(),
        role: caller.role.min(Role::Admin),
        expires_at: key.expires_at,
        is_suspended: false,
    };
    let mut unit = Unit::new();
    store::api_key::create(&mut unit, &key, &lookup)?;
    Ok(Draft::new(unit, Minted { key, raw: Secret::new(raw) }))
}

fn scopes(checks: &mut Checks, wanted: Option<&[String]>) -> Vec<String> {
    let Some(wanted) = wanted else { return DEVELOPER_SCOPES.map(str::to_owned).to_vec() };
    let known = |scope: &String| DEVELOPER_SCOPES.contains(&scope.as_str());
    let message = format!("scopes may hold {}", DEVELOPER_SCOPES.join(", "));
    checks.ensure(!wanted.is_empty() && wanted.iter().all(known), "scopes", "unknown_scope", &message);
    let mut scopes = wanted.to_vec();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// The keys of the caller's workspace, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<ApiKey>> {
    let mut keys = store::api_key::list(&app.table, caller.workspace_id, KeyKind::Developer).await?;
    keys.reverse();
    Ok(keys)
}

/// Revokes a key at once.
///
/// # Errors
/// `not_found` when the workspace has no such key.
pub async fn revoke(app: &App, caller: &Caller, key: Id<ApiKey>) -> Result<Draft<()>> {
    let key = store::api_key::get(&app.table, caller.workspace_id, KeyKind::Developer, key).await?;
    let mut unit = Unit::new();
    store::api_key::delete(&mut unit, &key.ok_or_else(Error::not_found)?);
    Ok(Draft::new(unit, ()))
}
