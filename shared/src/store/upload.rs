//! Images that were uploaded for the builder, until they expire: one item a workspace, so that their number is bounded
//! exactly.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::Workspace;
use crate::domain::builder::Upload;
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Cond, Row, Table, Unit, Versioned};

/// What a workspace has uploaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Uploads {
    workspace_id: Id<Workspace>,
    uploads: Vec<Upload>,
}

/// What a workspace has uploaded and has not expired, oldest first; the version is 0 where there is no item yet.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(table: &Table, workspace: Id<Workspace>, now: Time) -> Result<Versioned<Vec<Upload>>> {
    let found: Option<Versioned<Uploads>> = table.get_versioned(&keys::builder_uploads(workspace)).await?;
    let mut found = found.map_or(Versioned { body: Vec::new(), v: 0 }, |found| found.map(|item| item.uploads));
    found.body.retain(|upload| upload.expires_at > now);
    Ok(found)
}

/// Writes what a workspace has uploaded in place of the version that was read.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, workspace: Id<Workspace>, uploads: Vec<Upload>, v: u64) -> Result<()> {
    let key = keys::builder_uploads(workspace);
    let Some(last) = uploads.iter().map(|upload| upload.expires_at).max() else {
        unit.delete_if(key, Cond::version(v), Error::new(Code::ConcurrentChange));
        return Ok(());
    };
    let row = Row::new(key, "builder_uploads", &Uploads { workspace_id: workspace, uploads })?.ttl(last);
    if v == 0 {
        unit.create_fresh(row)
    } else {
        unit.replace(row, v)
    };
    Ok(())
}
