//! What a file that came in is called when it is saved. Its sender chose the name, so nothing of it is believed.

use super::File;

/// The longest name, in characters.
const MAX_NAME: usize = 120;

impl File {
    /// What it is called on disk; `number` tells those apart that came without a name.
    #[must_use]
    pub fn saved_name(&self, number: u64) -> String {
        let plain = |c: &char| !c.is_control() && !is_invisible(*c);
        let name: String = self.name.iter().flat_map(|name| name.chars()).filter(plain).map(harmless).collect();
        let name = name.trim_matches(|c: char| c == '.' || c.is_whitespace());
        if name.is_empty() {
            return format!("{}_{number}.{}", self.kind.text(), self.ending());
        }
        // From the end, where it says what it is.
        let skipped = name.chars().count().saturating_sub(MAX_NAME);
        name.chars().skip(skipped).collect()
    }

    /// `Content-Disposition` with which browsers save it under that name, and never show it as a page (RFC 6266).
    #[must_use]
    pub fn disposition(&self, number: u64) -> String {
        let name = self.saved_name(number);
        let ascii: String = name.chars().map(|c| if c.is_ascii() && c != '%' { c } else { '_' }).collect();
        let encoded: String = name.bytes().map(encoded).collect();
        format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
    }

    fn ending(&self) -> &'static str {
        let mime = self.mime.as_deref().unwrap_or_default();
        match mime.split(';').next().unwrap_or_default().trim() {
            "image/jpeg" => "jpg",
            "image/png" => "png",
            "image/webp" => "webp",
            "video/mp4" => "mp4",
            "video/3gpp" => "3gp",
            "audio/ogg" => "ogg",
            "audio/mpeg" => "mp3",
            "audio/mp4" | "audio/aac" => "m4a",
            "audio/amr" => "amr",
            "application/pdf" => "pdf",
            "text/plain" => "txt",
            _ => "bin",
        }
    }
}

/// What leads elsewhere, or ends a name, in any system.
const fn harmless(c: char) -> char {
    match c {
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
        c => c,
    }
}

/// Marks that turn the direction of a text, so that a name would not read as what it is.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// As `filename*` has it (RFC 8187).
fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::whatsapp::FileKind;

    fn file(name: Option<&str>, mime: &str) -> File {
        let (name, mime) = (name.map(str::to_owned), Some(mime.to_owned()));
        File { kind: FileKind::Document, mime, name, bytes: None, object: None, missing: None }
    }

    #[test]
    fn a_name_is_kept_as_far_as_it_does_no_harm() {
        for (name, want) in [
            ("Año \"1\".pdf", "Año _1_.pdf"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("invoice\u{202e}fdp.exe", "invoicefdp.exe"),
            ("a\r\nSet-Cookie: x", "aSet-Cookie_ x"),
        ] {
            assert_eq!(file(Some(name), "application/pdf").saved_name(7), want);
        }
        assert_eq!(file(None, "application/pdf").saved_name(7), "document_7.pdf");
        assert_eq!(file(Some(" .. "), "text/plain; charset=utf-8").saved_name(7), "document_7.txt");
        let long = format!("{}.pdf", "a".repeat(300));
        assert!(file(Some(&long), "application/pdf").saved_name(7).ends_with("a.pdf"));
        let want = "attachment; filename=\"A_o.pdf\"; filename*=UTF-8''A%C3%B1o.pdf";
        assert_eq!(file(Some("Año.pdf"), "application/pdf").disposition(7), want);
    }

    proptest! {
        #[test]
        fn whatever_it_is_called_it_is_one_header(name in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let disposition = file(Some(&name), "text/plain").disposition(1);
            prop_assert!(disposition.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(disposition.matches('"').count(), 2);
        }
    }
}
