//! `/api/builder/uploads`: images to be named in messages to the builder; rows of the group [`crate::agents`].

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::app::{App, upload};
use shared::domain::builder::Upload;
use shared::http::{Call, Created, LargeJson, NoContent, Path};
use shared::kernel::{Error, Field, Result, Text, Time};
use shared::ports::llm::Image;

shared::ops! {
    /// Upload an image for the builder.
    ///
    /// Name its id in `images` of `POST /api/builder/stream`, as often as you like, for 24 hours; then it is deleted. A
    /// workspace holds up to 40. It counts among the builder's ten calls a minute.
    POST "/api/builder/uploads" => create_builder_upload,
        [User] Editor "" AiAssist Any Known Audited Keyed also [409];
    /// Delete an upload before it expires.
    DELETE "/api/builder/uploads/{id}" => delete_builder_upload,
        [User] Editor "" General Any Known Audited Keyed also [409];
}

/// An image.
#[derive(Debug, Deserialize, JsonSchema)]
struct UploadIn {
    /// `data:image/png;base64,…` of a PNG, JPEG, GIF or WebP file of up to 3 MB. What it is, its bytes tell.
    data_url: String,
}

/// An image that can be named.
#[derive(Debug, Serialize, JsonSchema)]
struct UploadOut {
    id: Text<Upload>,
    /// What its bytes are, such as `image/png`.
    content_type: String,
    /// How many bytes.
    size: u64,
    /// From then on it cannot be named.
    expires_at: Time,
}

impl From<Upload> for UploadOut {
    fn from(upload: Upload) -> Self {
        let Upload { id, content_type, size, expires_at } = upload;
        Self { id: id.into(), content_type, size, expires_at }
    }
}

/// Images are looked at for messages, too, whose field has another name.
fn on_data_url(error: Error) -> Error {
    let field = |field: &Field| Field { name: "data_url".into(), ..field.clone() };
    Error::fields(error.invalid_fields().iter().map(field).collect())
}

async fn create_builder_upload(
    State(app): State<App>,
    call: Call,
    LargeJson(body): LargeJson<UploadIn>,
) -> Result<Created<UploadOut>> {
    let image = Image::from_data_url(&body.data_url).map_err(on_data_url)?;
    let stored = upload::keep(&app, &call.caller, image).await?;
    call.run(&app, || upload::create(&app, &call.caller, &stored), UploadOut::from).await
}

async fn delete_builder_upload(State(app): State<App>, call: Call, Path(id): Path<Text<Upload>>) -> Result<NoContent> {
    call.run(&app, || upload::delete(&app, &call.caller, id.0), |()| ()).await
}
