//! Whatever of customers' secrets lies sealed in the table, found by reading all of it: for sealing it anew.
//!
//! | item | what is sealed |
//! | --- | --- |
//! | agent secret | all of it: model key, keys of channels, what signs users |
//! | tool binding | secret headers |
//! | live snapshot | copies of the model key, of what signs users and of secret headers |
//! | webhook | its secret, and those before it that sign for a while yet |
//!
//! Answers under an `Idempotency-Key` are sealed too; they are gone after 48 hours.

use super::keys;
use crate::domain::agent::{SecretField, Snapshot, StoredSecret, ToolBinding};
use crate::domain::{Agent, Webhook};
use crate::kernel::secret::Sealed;
use crate::kernel::{Code, Error, Result};
use crate::table::{Cond, Item, Key, Refusal, Table, Update, Versioned, decode_versioned};

/// The items that hold something sealed: names of their entities.
const HOLDERS: [&str; 4] = ["agent_secret", "tool_binding", "live", "webhook"];

/// An item that may hold something sealed.
#[derive(Debug)]
pub struct Holder {
    key: Key,
    body: Versioned<Body>,
}

#[derive(Debug)]
enum Body {
    /// With its place.
    Secret(String, StoredSecret),
    /// With its place.
    Tool(String, Box<ToolBinding>),
    Live(Box<Snapshot>),
    Webhook(Box<Webhook>),
}

/// A page of the table.
#[derive(Debug)]
pub struct Found {
    /// The items.
    pub holders: Vec<Holder>,
    /// Keys of items that do not read.
    pub unreadable: Vec<Key>,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<Key>,
    /// What it cost.
    pub read_units: f64,
}

/// Looks through the next page of the table (up to 1 MB).
///
/// # Errors
/// When the table cannot be read.
pub async fn page(table: &Table, after: Option<&Key>) -> Result<Found> {
    let any = HOLDERS.into_iter().map(|entity| Cond::eq("et", entity)).reduce(Cond::or);
    let any = any.ok_or_else(|| Error::internal("nothing holds anything sealed"))?;
    let scanned = table.scan(&any, after).await?;
    let mut found =
        Found { holders: Vec::new(), unreadable: Vec::new(), next: scanned.next, read_units: scanned.read_units };
    for item in scanned.items {
        let Some(key) = Key::of(&item) else { continue };
        match read(&key, item) {
            Ok(body) => found.holders.push(Holder { key, body }),
            Err(error) => {
                tracing::warn!(%error, "an item that may hold something sealed does not read");
                found.unreadable.push(key);
            }
        }
    }
    Ok(found)
}

fn read(key: &Key, item: Item) -> Result<Versioned<Body>> {
    let of_agent = || keys::read_agent_pk(&key.pk).ok_or_else(|| Error::internal(format!("{key:?} is of no agent")));
    let entity = item.get("et").and_then(|entity| entity.as_s().ok()).cloned().unwrap_or_default();
    Ok(match entity.as_str() {
        "agent_secret" => {
            let (workspace, agent) = of_agent()?;
            let name = key.sk.strip_prefix(keys::AGENT_SECRET).unwrap_or_default();
            let field = SecretField::ALL.into_iter().find(|field| field.key() == name);
            let field = field.ok_or_else(|| Error::internal(format!("{key:?} is no known secret")))?;
            let found = decode_versioned(item)?;
            found.map(|secret| Body::Secret(Agent::secret_place(workspace, agent, field), secret))
        }
        "tool_binding" => {
            let (workspace, agent) = of_agent()?;
            let found: Versioned<ToolBinding> = decode_versioned(item)?;
            found.map(|tool| Body::Tool(Agent::tool_secret_place(workspace, agent, tool.tool), Box::new(tool)))
        }
        "live" => decode_versioned(item)?.map(|snapshot| Body::Live(Box::new(snapshot))),
        _ => decode_versioned(item)?.map(|webhook| Body::Webhook(Box::new(webhook))),
    })
}

impl Holder {
    /// Its key, which holds ids only.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Gives each sealed text with its place to `seal`, writes what that gives back in its stead, and says how many it
    /// gave. `None` when the item was changed meanwhile: it is to be read again.
    ///
    /// # Errors
    /// What `seal` says, before anything is written, or when the table cannot be written.
    pub async fn renew(
        mut self,
        table: &Table,
        mut seal: impl FnMut(&str, &Sealed) -> Result<Option<Sealed>>,
    ) -> Result<Option<usize>> {
        let (mut count, unchanged) = (0, self.unchanged());
        let mut each = |place: &str, sealed: &mut Sealed| -> Result<()> {
            if let Some(renewed) = seal(place, sealed)? {
                *sealed = renewed;
                count += 1;
            }
            Ok(())
        };
        match &mut self.body.body {
            Body::Secret(place, secret) => each(place, &mut secret.sealed)?,
            Body::Tool(place, tool) => tool.secrets.iter_mut().try_for_each(|sealed| each(place, sealed))?,
            Body::Live(snapshot) => of_snapshot(snapshot, &mut each)?,
            Body::Webhook(webhook) => {
                let place = Webhook::secret_place(webhook.workspace_id, webhook.id);
                each(&place, &mut webhook.secret)?;
                webhook.previous_secrets.iter_mut().try_for_each(|previous| each(&place, &mut previous.secret))?;
            }
        }
        if count == 0 {
            return Ok(Some(0));
        }
        match table.update(self.update(), Some(unchanged), Error::new(Code::ConcurrentChange)).await {
            Ok(_) => Ok(Some(count)),
            Err(Refusal::Conditions(_)) => Ok(None),
            Err(Refusal::Error(error)) => Err(error),
        }
    }

    /// What holds as long as nobody has changed what is sealed. A put begins a new count of versions, so the version alone
    /// does not tell.
    fn unchanged(&self) -> Cond {
        let version = Cond::eq("v", self.body.v);
        match &self.body.body {
            Body::Secret(_, secret) => Cond::eq("sealed", &secret.sealed),
            Body::Tool(_, tool) => Cond::eq("secrets", &tool.secrets),
            Body::Live(snapshot) => version.and(Cond::eq("revision", snapshot.revision)),
            Body::Webhook(_) => version,
        }
    }

    fn update(self) -> Update {
        let update = Update::new(self.key);
        match self.body.body {
            Body::Secret(_, secret) => update.set("sealed", secret.sealed),
            Body::Tool(_, tool) => update.set("secrets", tool.secrets),
            Body::Live(snapshot) => update
                .set("ai_key", &snapshot.ai_key)
                .set("identity_secret", &snapshot.identity_secret)
                .set("tools", &snapshot.tools),
            Body::Webhook(webhook) => {
                update.set("secret", webhook.secret).set("previous_secrets", webhook.previous_secrets)
            }
        }
    }
}

fn of_snapshot(snapshot: &mut Snapshot, each: &mut impl FnMut(&str, &mut Sealed) -> Result<()>) -> Result<()> {
    let (workspace, agent) = (snapshot.workspace_id, snapshot.agent_id);
    let place = |field| Agent::secret_place(workspace, agent, field);
    snapshot.ai_key.iter_mut().try_for_each(|sealed| each(&place(SecretField::AiKey), sealed))?;
    snapshot.identity_secret.iter_mut().try_for_each(|sealed| each(&place(SecretField::Identity), sealed))?;
    snapshot.tools.iter_mut().try_for_each(|tool| {
        let place = Agent::tool_secret_place(workspace, agent, tool.tool);
        tool.secrets.iter_mut().try_for_each(|sealed| each(&place, sealed))
    })
}
