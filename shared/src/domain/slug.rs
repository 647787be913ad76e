//! Slugs: the parts of a URL that people read.

/// First path segments that can never be a public slug, since something else lives there or may come to.
pub const RESERVED: &[&str] = &[
    "api",
    "v1",
    "v2",
    "ws",
    "o",
    "health",
    "ready",
    "status",
    "docs",
    "redoc",
    "openapi",
    "openapi.json",
    "skill.md",
    "llms.txt",
    "widget.js",
    "sdk.js",
    "dashboard",
    "admin",
    "app",
    "login",
    "logout",
    "register",
    "signup",
    "auth",
    "oauth",
    "callback",
    "hooks",
    "webhooks",
    "trigger-agent",
    "static",
    "assets",
    "uploads",
    "media",
    "public",
    "favicon.ico",
    "robots.txt",
    "sitemap.xml",
    ".well-known",
    "manifest.json",
    "sw.js",
    "billing",
    "pricing",
    "terms",
    "privacy",
    "legal",
    "help",
    "support",
    "kb",
    "blog",
    "about",
    "contact",
    "www",
    "mail",
    "root",
    "null",
    "undefined",
    "index.html",
    "embed",
    "chat",
    "unsubscribe",
    "invite",
    "reset-password",
];

/// The text as a slug part: accents folded, other characters to single `-`, at most `max` characters, maybe empty.
#[must_use]
pub fn slugify(text: &str, max: usize) -> String {
    let mut slug = String::new();
    for c in super::text::fold(text).chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= max {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Whether the text may be a public slug: `^[a-z0-9][a-z0-9-]{2,62}$`, not all digits, not reserved.
#[must_use]
pub fn is_public_slug(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (3..=63).contains(&text.len())
        && text.bytes().all(valid)
        && !text.starts_with('-')
        && !text.bytes().all(|byte| byte.is_ascii_digit())
        && !RESERVED.contains(&text)
}

/// Candidates for the public slug of a name, best first: the name, then the name with a random tail.
#[must_use]
pub fn public_slug_candidate(name: &str, tail: Option<&str>) -> String {
    let base = slugify(name, 48);
    match tail {
        None if is_public_slug(&base) => base,
        None => public_slug_candidate(name, Some("agent")),
        Some(tail) if base.is_empty() => format!("agent-{tail}"),
        Some(tail) => format!("{base}-{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_slug() {
        assert_eq!(slugify("Soporte Técnico & Ventas", 48), "soporte-tecnico-ventas");
        assert_eq!(slugify("  ¿?  ", 48), "");
        assert_eq!(slugify("abc def", 4), "abc");
    }

    #[test]
    fn a_reserved_or_odd_text_is_no_public_slug() {
        for bad in ["api", "ab", "123", "-abc", "Abc", "widget.js", "a_b", ""] {
            assert!(!is_public_slug(bad), "{bad}");
        }
        assert!(is_public_slug("soporte"));
    }

    #[test]
    fn a_minted_slug_is_always_valid() {
        for name in ["Soporte", "Admin", "日本語", "!!", "12", "a"] {
            assert!(is_public_slug(&public_slug_candidate(name, None)), "{name}");
            assert!(is_public_slug(&public_slug_candidate(name, Some("k3v9"))), "{name}");
        }
    }
}
