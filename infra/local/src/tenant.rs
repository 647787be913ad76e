//! `chatia tenant`: exporting and erasing a tenant, on this machine's data directory or on a deployed table.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use shared::app::aws;
use shared::app::tenant::{self, Counts, Erase, Erased, SETTLES_IN, Storage, Survey};
use shared::domain::Workspace;
use shared::kernel::{Clock as _, Code, Error, Id, Result, Rng, SystemClock};
use shared::ports::objects::Objects;
use shared::table::Table;

use crate::data::DataDir;
use crate::engine::Offline;
use crate::platform::{QUEUES, TABLE};
use crate::queue;

/// What to do with a tenant: a workspace, its people and everything in it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write everything of a tenant to standard output, one JSON object a line, without its secrets.
    Export {
        /// Which one.
        #[command(flatten)]
        tenant: Tenant,
    },
    /// Keep the owner from logging in, and end their sessions.
    Suspend {
        /// Which one.
        #[command(flatten)]
        tenant: Tenant,
        /// Let them log in again.
        #[arg(long)]
        lift: bool,
    },
    /// Tell what an erasure would delete; with --confirm, erase the tenant for good. Its owner must be suspended.
    Erase {
        /// Which one.
        #[command(flatten)]
        tenant: Tenant,
        /// Erase this workspace. There is no way back.
        #[arg(long, value_name = "WORKSPACE ID")]
        confirm: Option<String>,
        /// Erase its bill too: account, allowances, usage and what is counted of it.
        #[arg(long)]
        with_bills: bool,
    },
}

/// Which tenant, and where.
#[derive(Debug, Args)]
pub struct Tenant {
    /// The id of the workspace (ws_…), or its owner's e-mail.
    #[arg(value_name = "WORKSPACE ID OR E-MAIL")]
    who: String,
    /// A deployed table, with region and credentials from the environment; the data directory without it.
    #[arg(long, value_name = "TABLE NAME")]
    table: Option<String>,
    /// The deployed bucket of objects.
    #[arg(long, requires = "table")]
    bucket: Option<String>,
}

/// Where tenants are kept, open.
pub(crate) struct Place {
    table: Table,
    objects: Option<Objects>,
    /// The queues of the data directory.
    queues: Option<Table>,
    /// The data directory, held for as long as it is used, and its database.
    here: Option<(Offline, DataDir)>,
    settles_in: Duration,
}

impl Place {
    fn open(tenant: &Tenant, data_dir: &Path) -> Result<Self> {
        match &tenant.table {
            Some(table) => {
                let (table, objects) = aws::storage(table, tenant.bucket.as_deref())?;
                Ok(Self { table, objects, queues: None, here: None, settles_in: SETTLES_IN })
            }
            None => Self::here(data_dir),
        }
    }

    /// The data directory, which no platform may use meanwhile: it would go on from what it remembers.
    pub(crate) fn here(data_dir: &Path) -> Result<Self> {
        let refuse = |what: String| Err(Error::with_message(Code::NotConfigured, what));
        let shown = data_dir.display();
        if !data_dir.join("chatia.db").exists() {
            return refuse(format!("There is no data in {shown}. Name the directory: --data-dir PATH"));
        }
        let data = match DataDir::take(data_dir)? {
            Some(data) => data,
            None => return refuse(format!("A platform runs on {shown}. Stop it first, then do the same again.")),
        };
        let database = Offline::open(&data.database()?)?;
        let open = |name| Table::new(database.client(), name, Rng::from_system(), Arc::new(SystemClock));
        let objects = Objects::directory(&data.objects())?;
        let (table, queues) = (open(TABLE), open(QUEUES));
        let here = Some((database, data));
        Ok(Self { table, objects: Some(objects), queues: Some(queues), here, settles_in: Duration::ZERO })
    }

    pub(crate) const fn table(&self) -> &Table {
        &self.table
    }

    /// Writes the files of a data directory anew, without what was deleted or replaced.
    pub(crate) fn compact(&self) -> Result<()> {
        self.here.as_ref().map_or(Ok(()), |(database, _)| database.compact())
    }

    fn storage(&self) -> Storage<'_> {
        Storage { table: &self.table, objects: self.objects.as_ref(), clock: &SystemClock }
    }
}

/// Carries a command out; what it has to say goes to `out`.
///
/// # Errors
/// With what to do: another platform runs, there is no such tenant, its owner is not suspended, the confirmation is another
/// one.
pub async fn run(command: &Command, data_dir: PathBuf, out: &mut impl Write) -> Result<()> {
    match command {
        Command::Export { tenant } => {
            let place = Place::open(tenant, &data_dir)?;
            let id = tenant::find(place.storage(), &tenant.who).await?;
            tenant::export(place.storage(), id, |line| writeln!(out, "{line}").map_err(Error::internal)).await?;
        }
        Command::Suspend { tenant, lift } => {
            let place = Place::open(tenant, &data_dir)?;
            let id = tenant::find(place.storage(), &tenant.who).await?;
            tenant::suspend(place.storage(), id, *lift).await?;
            let how = if *lift { "may log in again" } else { "cannot log in any more" };
            say(out, &format!("The owner of {} {how}.", id.text()))?;
        }
        Command::Erase { tenant, confirm: None, with_bills } => {
            let place = Place::open(tenant, &data_dir)?;
            let id = tenant::find(place.storage(), &tenant.who).await?;
            let survey = tenant::survey(place.storage(), id).await?;
            say(out, &told(id, &survey, *with_bills))?;
        }
        Command::Erase { tenant, confirm: Some(confirm), with_bills } => {
            let place = Place::open(tenant, &data_dir)?;
            let id = confirmed(&place, &tenant.who, confirm).await?;
            erase(&place, id, *with_bills, out).await?;
        }
    }
    out.flush().map_err(Error::internal)
}

/// The tenant, if the confirmation names it. An erasure that broke off late has left nothing under the e-mail.
async fn confirmed(place: &Place, who: &str, confirm: &str) -> Result<Id<Workspace>> {
    let wrong = || Error::with_message(Code::ConfirmationMismatch, format!("--confirm {confirm} is not that tenant."));
    let id = tenant::read_id(confirm).ok_or_else(wrong)?;
    match tenant::find(place.storage(), who).await {
        Ok(found) if found == id => Ok(id),
        Err(error) if error.code() == Code::NotFound => {
            let hint = format!("{} To finish an erasure that broke off, name it by its id alone.", error.message());
            Err(Error::with_message(Code::NotFound, hint))
        }
        Ok(_) => Err(wrong()),
        Err(error) => Err(error),
    }
}

async fn erase(place: &Place, id: Id<Workspace>, with_bills: bool, out: &mut impl Write) -> Result<()> {
    let command = Erase { with_bills, settles_in: place.settles_in };
    let mut messages = 0;
    let erased = tenant::erase(place.storage(), id, command).await?;
    if let (Erased::Done { .. }, Some(queues)) = (&erased, &place.queues) {
        messages = queue::forget(queues, id).await?;
    }
    place.compact()?;
    let now = SystemClock.now();
    match erased {
        Erased::Closed { until, items } => {
            // Ids and numbers only: this is what an operator's log keeps.
            let total: usize = items.values().sum();
            say(out, &format!("{now} closed {}: {total} items ({})", id.text(), listed(&items)))?;
            say(out, &format!("Nobody reaches it any more. Run the same command again after {until} to erase it."))
        }
        Erased::Done { items, objects } => {
            let total: usize = items.values().sum();
            let objects_text = objects.map_or_else(|| "not looked at".to_owned(), |count| count.to_string());
            let line = format!(
                "{now} erased {}: {total} items ({}), objects: {objects_text}, queued messages: {messages}",
                id.text(),
                listed(&items)
            );
            say(out, &line)?;
            if objects.is_none() {
                say(out, "Objects were not looked at: run the same again with --bucket.")?;
            }
            Ok(())
        }
    }
}

fn say(out: &mut impl Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(Error::internal)
}

fn listed(counts: &Counts) -> String {
    let each = counts.iter().map(|(kind, count)| format!("{kind} {count}"));
    if counts.is_empty() { "none".into() } else { each.collect::<Vec<_>>().join(", ") }
}

/// What a dry run tells.
fn told(id: Id<Workspace>, survey: &Survey, with_bills: bool) -> String {
    let id = id.text();
    let objects = survey.objects.map_or_else(|| "not looked at (--bucket)".to_owned(), |count| count.to_string());
    let fate = if with_bills { "go too" } else { "stay (--with-bills)" };
    let next = match (survey.is_there, survey.is_suspended) {
        (false, _) if survey.items.is_empty() => "There is no such workspace: nothing to do.".to_owned(),
        (true, false) => format!("Suspend the owner first: chatia tenant suspend {id}"),
        _ => format!("To erase it for good, add: --confirm {id}"),
    };
    let (items, bill) = (listed(&survey.items), listed(&survey.bill));
    let lines = [
        format!("Workspace: {id}"),
        format!("Items that go: {items}"),
        format!("Items of the bill, which {fate}: {bill}"),
        format!("Objects: {objects}"),
        format!("Read units of this look: {}", survey.read_units.ceil()),
        next,
    ];
    lines.join("\n")
}
