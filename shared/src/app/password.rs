//! Password hashing: argon2id with the crate's recommended cost, off the request's thread.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use crate::kernel::{Error, Result, Rng, Secret};

/// The shortest password.
pub const MIN_CHARS: usize = 8;
/// The longest password; hashing is costly, so nobody may send us megabytes of it.
pub const MAX_CHARS: usize = 256;

/// Hashes a password to its PHC text.
///
/// # Errors
/// `internal_error` when hashing fails, which it does only when memory is short.
pub async fn hash(rng: &Rng, password: &Secret) -> Result<String> {
    let (salt, password) = (rng.bytes::<16>(), password.clone());
    blocking(move || {
        let hash = Argon2::default().hash_password_with_salt(password.expose().as_bytes(), &salt);
        hash.map(|hash| hash.to_string()).map_err(|error| Error::internal(format!("hashing failed: {error}")))
    })
    .await?
}

/// Whether the password belongs to the hash. Without a hash (no such user) a hash that fits nothing is checked, so that
/// the answer takes the same time.
///
/// # Errors
/// `internal_error` when the work cannot be done.
pub async fn verify(hash: Option<String>, password: &Secret) -> Result<bool> {
    /// Of a random password that nobody knows, at the same cost as the real ones.
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$cmFuZG9tc2FsdDEyMzQ1Ng$kR6h5aZ3nCzj3Vw2vQd7rM0m3l8Kc1Jx9cJqTq0lY1E";
    let password = password.clone();
    blocking(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.into());
        let fits = PasswordHash::new(&hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok());
        known && fits
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(format!("hashing stopped: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let hash = hash(&Rng::seeded(1), &Secret::new("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify(Some(hash.clone()), &Secret::new("correct horse")).await.unwrap());
        assert!(!verify(Some(hash), &Secret::new("wrong horse")).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_s_hash_is_well_formed_and_fits_nothing() {
        assert!(!verify(None, &Secret::new("correct horse")).await.unwrap());
    }
}
