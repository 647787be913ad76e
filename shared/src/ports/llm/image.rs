//! Images that a visitor's message carries. They travel as data: an address would have the provider fetch whatever a
//! visitor names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Message, Request};
use crate::kernel::{Error, Result};

/// The most bytes of one image: 5 MB in base64, which is where the strictest provider stops.
pub const MAX_IMAGE_BYTES: usize = 5 * 1024 * 1024 / 4 * 3;
/// The most images of one request.
pub const MAX_IMAGES: usize = 10;
/// The most bytes of all images of one request: a function has little memory, and each is in it several times.
pub const MAX_IMAGES_BYTES: usize = 8 * 1024 * 1024;
/// What one image costs to read, at most about: no provider tells before.
pub(super) const IMAGE_TOKENS: u64 = 1_600;

/// An image.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    media_type: &'static str,
    bytes: Vec<u8>,
}

impl Image {
    /// Takes an image that every provider reads. What it is, its first bytes tell; what its sender calls it does not
    /// count.
    ///
    /// # Errors
    /// `validation_error` for another kind of file, and for one that is too large.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() > MAX_IMAGE_BYTES {
            let message = format!("An image may have {MAX_IMAGE_BYTES} bytes.");
            return Err(Error::field("images", "too_large", message));
        }
        let media_type = media_type(&bytes).ok_or_else(|| {
            Error::field("images", "unsupported_type", "An image must be a PNG, JPEG, GIF or WebP file.")
        })?;
        Ok(Self { media_type, bytes })
    }

    /// Reads an address that holds the image itself (`data:image/png;base64,…`).
    ///
    /// # Errors
    /// `validation_error` for any other text, and as [`Self::new`].
    pub fn from_data_url(url: &str) -> Result<Self> {
        let wrong = || {
            let message = "An image must be a data URL, such as data:image/png;base64,…: nothing is fetched.";
            Error::field("images", "invalid", message)
        };
        let (head, data) = url.strip_prefix("data:").and_then(|rest| rest.split_once(',')).ok_or_else(wrong)?;
        if !head.ends_with(";base64") {
            return Err(wrong());
        }
        Self::new(STANDARD.decode(data.trim()).map_err(|_| wrong())?)
    }

    /// Such as `image/png`.
    #[must_use]
    pub const fn media_type(&self) -> &'static str {
        self.media_type
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// As an address that holds the image itself.
    pub(super) fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.base64())
    }
}

/// Without what it shows: that is its sender's business.
impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}, {} bytes)", self.media_type, self.bytes.len())
    }
}

fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The images of a request.
pub(super) fn of(request: &Request) -> impl Iterator<Item = &Image> {
    request.messages.iter().flat_map(|message| match message {
        Message::User { images, .. } => images.as_slice(),
        Message::Assistant { .. } | Message::ToolResult { .. } => &[],
    })
}

/// Whether a request may be sent with its images.
///
/// # Errors
/// `validation_error` when there are too many, or they are too large together.
pub(super) fn check(request: &Request) -> Result<()> {
    if of(request).count() > MAX_IMAGES {
        return Err(Error::field(
            "images",
            "too_many",
            format!("A conversation may show {MAX_IMAGES} images at once."),
        ));
    }
    if of(request).map(|image| image.bytes.len()).sum::<usize>() > MAX_IMAGES_BYTES {
        let message = format!("The images of a conversation may have {MAX_IMAGES_BYTES} bytes together.");
        return Err(Error::field("images", "too_large", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Code;

    fn head(kind: &[u8]) -> Vec<u8> {
        [kind, b"rest"].concat()
    }

    #[test]
    fn an_image_is_what_its_first_bytes_say() {
        let kinds: [(&[u8], &str); 5] = [
            (b"\x89PNG\r\n\x1a\n", "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"GIF87a", "image/gif"),
            (b"RIFF\x24\0\0\0WEBP", "image/webp"),
        ];
        for (bytes, media_type) in kinds {
            assert_eq!(Image::new(head(bytes)).unwrap().media_type(), media_type);
        }
        for other in [&b""[..], b"\x89PNG", b"%PDF-1.7", b"<svg xmlns=", b"RIFF\x24\0\0\0WAVE", b"GIF88a", b"BM"] {
            let error = Image::new(head(other)).unwrap_err();
            assert_eq!(error.code(), Code::ValidationError);
            assert!(error.message().contains("PNG, JPEG, GIF or WebP"), "{error}");
        }
    }

    #[test]
    fn a_data_url_is_read_and_any_other_address_is_not_fetched() {
        let image = Image::new(head(b"GIF89a")).unwrap();
        assert_eq!(Image::from_data_url(&image.data_url()).unwrap(), image);
        for other in ["https://example.com/a.png", "obj_01", "data:image/png,abc", "data:image/png;base64,%%", ""] {
            assert!(Image::from_data_url(other).unwrap_err().message().contains("data URL"), "{other}");
        }
        let text = "data:image/png;base64,aGVsbG8=";
        assert!(Image::from_data_url(text).unwrap_err().message().contains("PNG, JPEG"));
    }

    #[test]
    fn an_image_may_not_be_larger_than_any_provider_takes() {
        let png = |size: usize| {
            let mut bytes = head(b"\x89PNG\r\n\x1a\n");
            bytes.resize(size, 0);
            Image::new(bytes)
        };
        assert!(png(MAX_IMAGE_BYTES).unwrap().base64().len() <= 5 * 1024 * 1024);
        assert!(png(MAX_IMAGE_BYTES + 1).unwrap_err().message().contains("3932160 bytes"));
    }

    #[test]
    fn what_an_image_shows_gets_into_no_log() {
        let image = Image::new(head(b"GIF89a secret")).unwrap();
        assert_eq!(format!("{image:?}"), "Image(image/gif, 17 bytes)");
    }
}
