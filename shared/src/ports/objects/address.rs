//! Addresses of objects that no S3 keeps: signed, for a while, and answered by whoever has the objects.

use std::sync::Arc;
use std::time::Duration;

use url::form_urlencoded::{Serializer, parse};

use crate::kernel::secret::{constant_time_eq, hmac_sha256};
use crate::kernel::{Clock, Rng};

/// Their path; the rest is in the query.
pub const PATH: &str = "/-/objects";

/// Signs addresses and knows them again. They end with the process that gave them, if not before.
#[derive(Clone)]
pub(super) struct Addresses {
    key: [u8; 32],
    clock: Arc<dyn Clock>,
}

impl Addresses {
    pub(super) fn new(rng: &Rng, clock: Arc<dyn Clock>) -> Self {
        Self { key: rng.bytes(), clock }
    }

    /// The address of an object.
    pub(super) fn of(&self, object: &str, disposition: &str, valid: Duration) -> String {
        let until = (self.clock.now() + valid).millis().to_string();
        let mac = self.mac(object, disposition, &until);
        let mut query = Serializer::new(String::new());
        query.extend_pairs([("object", object), ("as", disposition), ("until", &until), ("mac", &mac)]);
        format!("{PATH}?{}", query.finish())
    }

    /// The object and its `Content-Disposition`, of a query that [`Self::of`] made not too long ago.
    pub(super) fn read(&self, query: &str) -> Option<(String, String)> {
        let field = |name: &str| parse(query.as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value);
        let (object, disposition) = (field("object")?, field("as")?);
        let (until, mac) = (field("until")?, field("mac")?);
        let ours = self.mac(&object, &disposition, &until);
        let is_over = until.parse().is_ok_and(|until: i64| until <= self.clock.now().millis());
        let holds = constant_time_eq(mac.as_bytes(), ours.as_bytes()) && !is_over;
        holds.then(|| (object.into_owned(), disposition.into_owned()))
    }

    fn mac(&self, object: &str, disposition: &str, until: &str) -> String {
        hex::encode(hmac_sha256(
            &self.key,
            &[until.as_bytes(), b"\0", object.as_bytes(), b"\0", disposition.as_bytes()],
        ))
    }
}
