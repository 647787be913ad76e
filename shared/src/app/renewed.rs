//! What is made of secrets, and made anew when they have changed: a key that is rotated counts without a deployment, as
//! soon as the secrets are read again.

use std::sync::{Arc, Mutex, PoisonError};

use crate::kernel::{Result, Secret};

/// What was made last, and of which secrets.
#[derive(Debug)]
pub struct Renewed<T>(Mutex<Option<Made<T>>>);

#[derive(Debug)]
struct Made<T> {
    of: Vec<Option<Secret>>,
    what: Arc<T>,
}

impl<T> Default for Renewed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Renewed<T> {
    /// What `make` makes of these secrets: the last one, as long as they are the same.
    ///
    /// # Errors
    /// When it cannot be made; what was made of older secrets is not given any more.
    pub fn of(
        &self,
        secrets: Vec<Option<Secret>>,
        make: impl FnOnce(&[Option<Secret>]) -> Result<T>,
    ) -> Result<Arc<T>> {
        // Held while it is made: it is quick, and made once.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| same(&made.of, &secrets)) {
            return Ok(Arc::clone(&made.what));
        }
        let what = Arc::new(make(&secrets)?);
        *made = Some(Made { of: secrets, what: Arc::clone(&what) });
        Ok(what)
    }
}

fn same(one: &[Option<Secret>], other: &[Option<Secret>]) -> bool {
    one.iter().map(text).eq(other.iter().map(text))
}

fn text(secret: &Option<Secret>) -> Option<&str> {
    secret.as_ref().map(Secret::expose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_of_the_same_secrets_and_anew_of_others() {
        let renewed = Renewed::default();
        let of = |text: Option<&str>| {
            let make = |secrets: &[Option<Secret>]| Ok(secrets[0].as_ref().map(|secret| secret.expose().to_owned()));
            renewed.of(vec![text.map(Secret::new)], make).unwrap()
        };
        let (first, again, second) = (of(Some("one")), of(Some("one")), of(Some("two")));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &second));
        assert_eq!((second.as_deref(), of(None).as_deref()), (Some("two"), None));
    }
}
