//! Images that are uploaded for the builder, to be named in its messages. They are kept for a day: who uploads sets a timer
//! before anything is stored, so that nothing is left for ever, whatever breaks off in between.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::future::try_join_all;

use super::{App, Draft};
use crate::access::Caller;
use crate::domain::Workspace;
use crate::domain::builder::Upload;
use crate::kernel::{Code, Error, Id, Result};
use crate::ports::llm::Image;
use crate::ports::objects::Objects;
use crate::store;
use crate::store::timer::Timer;
use crate::table::Unit;

/// The most bytes of one: as a data URL it fits into a body.
pub const MAX_BYTES: usize = 3_000_000;
/// How many a workspace has at most.
pub const MAX_HELD: usize = 40;
/// How long one can be named.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How much later its bytes go, for whoever named it just before.
const LATER: Duration = Duration::from_secs(10 * 60);

/// The key of an upload among the objects.
#[must_use]
pub fn object(workspace: Id<Workspace>, upload: Id<Upload>) -> String {
    format!("{}/builder/{}", Objects::of(workspace), upload.key())
}

/// Stores the bytes of an image, which nobody can name until it is [`create`]d.
///
/// # Errors
/// `validation_error` when it is too large, `forbidden` for a suspended account, `upload.limit_reached`, `unavailable` when
/// it cannot be stored.
pub async fn keep(app: &App, caller: &Caller, image: Image) -> Result<Upload> {
    let size = image.bytes().len();
    if size > MAX_BYTES {
        return Err(Error::field("data_url", "too_large", format!("An image may have {MAX_BYTES} bytes.")));
    }
    if store::billing::get(&app.table, caller.billing_account_id).await?.is_suspended {
        return Err(Error::with_message(Code::Forbidden, "The account is suspended."));
    }
    let (workspace, now) = (caller.workspace_id, app.now());
    ensure_room(&store::upload::list(&app.table, workspace, now).await?.body)?;
    let upload = Upload {
        id: app.ids().id(),
        content_type: image.media_type().to_owned(),
        size: size as u64,
        expires_at: now + KEPT,
    };
    let mut unit = Unit::new();
    store::timer::set(&mut unit, &Timer::drop_upload(workspace, upload.id, upload.expires_at + LATER))?;
    app.commit(unit).await?;
    app.objects.put(&object(workspace, upload.id), Bytes::copy_from_slice(image.bytes()), &upload.content_type).await?;
    Ok(upload)
}

fn ensure_room(held: &[Upload]) -> Result<()> {
    if held.len() < MAX_HELD { Ok(()) } else { Err(Error::new(Code::UploadLimitReached)) }
}

/// Lets an image whose bytes are stored be named.
///
/// # Errors
/// `upload.limit_reached`.
pub async fn create(app: &App, caller: &Caller, upload: &Upload) -> Result<Draft<Upload>> {
    let workspace = caller.workspace_id;
    let mut held = store::upload::list(&app.table, workspace, app.now()).await?;
    ensure_room(&held.body)?;
    held.body.push(upload.clone());
    let mut unit = Unit::new();
    store::upload::replace(&mut unit, workspace, held.body, held.v)?;
    Ok(Draft::new(unit, upload.clone()))
}

/// Deletes an upload, its bytes first: of what broke off in between the bytes are gone, and it is gone on with by the same
/// call.
///
/// # Errors
/// `not_found`.
pub async fn delete(app: &App, caller: &Caller, id: Id<Upload>) -> Result<Draft<()>> {
    let workspace = caller.workspace_id;
    let mut held = store::upload::list(&app.table, workspace, app.now()).await?;
    let at = held.body.iter().position(|upload| upload.id == id).ok_or_else(Error::not_found)?;
    app.objects.delete(&object(workspace, id)).await?;
    held.body.remove(at);
    let mut unit = Unit::new();
    store::upload::replace(&mut unit, workspace, held.body, held.v)?;
    Ok(Draft::new(unit, ()))
}

/// That an upload cannot be named: another workspace's, one that is gone and one that never was are the same to a caller.
#[must_use]
pub fn missing() -> Error {
    let message = "images names an upload that is not there, or not any more: POST /api/builder/uploads";
    Error::field("images", "not_found", message)
}

/// Reads uploads that are named on the field `images`, which may have `room` bytes together.
///
/// # Errors
/// `validation_error` when one is not there or they are too large together; `unavailable` when they cannot be read.
pub async fn read(app: &App, workspace: Id<Workspace>, ids: &[Id<Upload>], room: usize) -> Result<Vec<Image>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let held = store::upload::list(&app.table, workspace, app.now()).await?.body;
    let size = |id: &Id<Upload>| held.iter().find(|upload| upload.id == *id).map(|upload| upload.size);
    let sizes: Vec<u64> = ids.iter().map(size).collect::<Option<_>>().ok_or_else(missing)?;
    if sizes.iter().sum::<u64>() > room as u64 {
        return Err(Error::field("images", "too_large", "images may have 3 MB together"));
    }
    let read = async |id: &Id<Upload>| {
        let bytes = app.objects.get(&object(workspace, *id)).await?.ok_or_else(missing)?;
        Image::new(bytes.to_vec())
    };
    try_join_all(ids.iter().map(read)).await
}
