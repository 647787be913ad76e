//! `chatia keys`: what an operator does about the keys of an installation.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use shared::app::reseal::{Resealed, reseal};
use shared::app::{Keys, aws};
use shared::kernel::{Error, Result, Rng};
use shared::ports::secrets::{FileSecrets, ROOT_KEYRING, Secrets as _};
use shared::table::Table;

use crate::tenant::Place;

/// What to do about the keys of an installation.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Seal what customers entrusted to it (keys, tokens, secret headers) anew, under the first key of `root_keyring`.
    Reseal(Installation),
}

/// Which installation.
#[derive(Debug, Args)]
pub struct Installation {
    /// A deployed table, with region and credentials from the environment; the data directory without it.
    #[arg(long, value_name = "TABLE NAME", requires = "secret")]
    table: Option<String>,
    /// The deployed secret of the same installation.
    #[arg(long, value_name = "ARN", requires = "table")]
    secret: Option<String>,
}

/// Carries a command out; what it has to say goes to `out`.
///
/// # Errors
/// With what to do: another platform runs, the secret cannot be read, or something is left that does not open.
pub async fn run(command: &Command, data_dir: PathBuf, out: &mut impl Write) -> Result<()> {
    let Command::Reseal(installation) = command;
    let resealed = match (&installation.table, &installation.secret) {
        (Some(table), Some(secret)) => {
            let root = aws::secrets(secret)?.get(ROOT_KEYRING).await?;
            let (table, _) = aws::storage(table, None)?;
            renew(&table, &Keys::of(root.as_ref())?).await?
        }
        _ => here(&data_dir).await?,
    };
    writeln!(out, "{}", told(&resealed)).map_err(Error::internal)?;
    out.flush().map_err(Error::internal)?;
    if resealed.is_complete && resealed.closed == 0 { Ok(()) } else { Err(left(&resealed)) }
}

async fn here(data_dir: &Path) -> Result<Resealed> {
    let place = Place::here(data_dir)?;
    let secrets = FileSecrets::open(&data_dir.join("secrets.json"), &Rng::from_system())?;
    let resealed = renew(place.table(), &Keys::of(secrets.get(ROOT_KEYRING).await?.as_ref())?).await?;
    // The bytes of before are in pages that are free.
    place.compact()?;
    Ok(resealed)
}

async fn renew(table: &Table, keys: &Keys) -> Result<Resealed> {
    reseal(table, &keys.seal, &Rng::from_system()).await
}

fn told(resealed: &Resealed) -> String {
    let next = if resealed.is_complete && resealed.closed == 0 {
        "Everything is sealed by the first key of the ring."
    } else {
        "Some of it is not sealed by the first key of the ring."
    };
    format!("Sealed anew: {}. Read units: {}. {next}", resealed.renewed, resealed.read_units.ceil())
}

fn left(resealed: &Resealed) -> Error {
    let why = if resealed.closed > 0 {
        format!(
            "{} secrets are opened by no key of root_keyring; whoever gave them must give them anew, or the key must come \
             back into the ring. The first of them: {}",
            resealed.closed,
            resealed.places.join(", ")
        )
    } else {
        "Functions still seal by an older key: wait until all of them know the new one, then do the same again.".into()
    };
    Error::with_message(shared::kernel::Code::Conflict, why)
}
