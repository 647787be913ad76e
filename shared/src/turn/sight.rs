//! What the model is shown beside words: images that came in on a channel, where its provider reads them.

use crate::app::App;
use crate::domain::message::Message;
use crate::domain::whatsapp::FileKind;
use crate::ports::llm::{self, Image, MAX_IMAGES_BYTES, Target};

/// How many of the last images are shown: each is read anew with every round.
const MAX_SHOWN: usize = 3;

/// Adds the images of messages to what the model is told, the last ones first. One that cannot be had is left to the mark
/// that stands in its message.
pub(super) async fn show(app: &App, target: &Target, said: &[&Message], told: &mut [llm::Message]) {
    if !sees(target) {
        return;
    }
    let (mut shown, mut room) = (0, MAX_IMAGES_BYTES);
    for (message, told) in said.iter().zip(told).rev() {
        let file = message.file.as_ref().filter(|file| file.kind == FileKind::Image);
        let (Some(key), llm::Message::User { images, .. }) = (file.and_then(|file| file.object.as_ref()), told) else {
            continue;
        };
        if shown == MAX_SHOWN {
            return;
        }
        let bytes = match app.objects.get(key).await {
            Ok(Some(bytes)) if bytes.len() <= room => bytes,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, "an image of a message was not read");
                continue;
            }
        };
        room -= bytes.len();
        if let Ok(image) = Image::new(bytes.to_vec()) {
            images.push(image);
            shown += 1;
        }
    }
}

/// Whether a model sees: those of the two providers do; of a compatible server nobody knows.
#[must_use]
pub fn sees(target: &Target) -> bool {
    target.base_url.is_none() && ["openai", "anthropic"].contains(&target.provider.as_str())
}
