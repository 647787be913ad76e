//! Who a visitor is, as the site that they are logged in to says and signs.

use serde::{Deserialize, Serialize};

use super::contact::WHATSAPP_USER;
use super::text::Checks;
use crate::kernel::secret::{constant_time_eq, hmac_sha256};
use crate::kernel::{Result, Secret};

/// Whom a site signed a visitor as. Only `user_id` is signed and so proven; the rest is what the visitor's page said of
/// that user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identified {
    /// What the site calls them.
    pub user_id: String,
    /// Full name.
    #[serde(default)]
    pub name: Option<String>,
    /// Lower case.
    #[serde(default)]
    pub email: Option<String>,
    /// Digits.
    #[serde(default)]
    pub phone: Option<String>,
}

/// What a message says of who sent it, not believed yet.
#[derive(Debug, Clone)]
pub struct Claim {
    identity: Identified,
    signature: String,
}

impl Claim {
    /// Checks the form of what was given.
    ///
    /// # Errors
    /// `validation_error` naming each wrong field.
    pub fn new(
        user_id: &str,
        name: Option<&str>,
        email: Option<&str>,
        phone: Option<&str>,
        signature: String,
    ) -> Result<Self> {
        let mut checks = Checks::new();
        let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        // The id is signed as it is, so it is not trimmed.
        checks.required("identity.user_id", user_id, 128);
        let is_ours = user_id.starts_with(WHATSAPP_USER);
        let message = "identity.user_id must not begin with whatsapp:, as the ids do that WhatsApp gives";
        checks.ensure(!is_ours, "identity.user_id", "invalid", message);
        let identity = Identified {
            user_id: user_id.to_owned(),
            name: checks.optional("identity.name", name, 120),
            email: given(email).map(|email| checks.email("identity.email", &email)),
            phone: given(phone).map(|phone| checks.phone("identity.phone", &phone)),
        };
        checks.finish()?;
        Ok(Self { identity, signature })
    }

    /// Who it is, if this secret signed it.
    #[must_use]
    pub fn proven_by(&self, secret: &Secret) -> Option<&Identified> {
        let expected = hex::encode(hmac_sha256(secret.expose().as_bytes(), &[self.identity.user_id.as_bytes()]));
        constant_time_eq(expected.as_bytes(), self.signature.as_bytes()).then_some(&self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hex_hmac_of_the_user_id() {
        // Made independently: printf 'user-42' | openssl dgst -sha256 -hmac 'idsec_test'
        let signature = "b9505d748948458ac75c70972e9cc3abf71ebe6c419b69a24dce7f32ca191ad9";
        let claim = |signature: &str| Claim::new("user-42", Some(" Ana "), None, None, signature.into()).unwrap();
        let secret = Secret::new("idsec_test");
        assert_eq!(claim(signature).proven_by(&secret).and_then(|who| who.name.as_deref()), Some("Ana"));
        assert!(claim(signature).proven_by(&Secret::new("idsec_other")).is_none());
        assert!(claim(&signature.to_uppercase()).proven_by(&secret).is_none());
        assert!(claim("").proven_by(&secret).is_none());
    }
}
