//! Randomness is a parameter, as time is: production seeds from the operating system, tests from a number.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng, TryRng};

/// A shared source of cryptographically strong random bytes.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    /// Seeded from the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, since nothing safe can go on without it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "no key, id or token may ever be made without randomness")]
    pub fn from_system() -> Self {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).expect("the operating system gives randomness");
        Self(Arc::new(Mutex::new(StdRng::from_seed(seed))))
    }

    /// The same sequence for the same seed, for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `bound`; 0 when the bound is 0. The bias is below 2⁻³², which jitter and sampling do not notice.
    #[must_use]
    pub fn below(&self, bound: u32) -> u32 {
        let wide = u128::from(u64::from_le_bytes(self.bytes())) * u128::from(bound);
        u32::try_from(wide >> 64).unwrap_or(0)
    }

    /// `length` characters of lower-case base32, 5 random bits each: for keys and tokens that people copy.
    #[must_use]
    pub fn text(&self, length: usize) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        (0..length).map(|_| char::from(ALPHABET[usize::from(self.bytes::<1>()[0] & 31)])).collect()
    }
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        assert_eq!(Rng::seeded(7).bytes::<16>(), Rng::seeded(7).bytes::<16>());
        assert_ne!(Rng::seeded(7).bytes::<16>(), Rng::seeded(8).bytes::<16>());
    }

    #[test]
    fn below_stays_below() {
        let rng = Rng::seeded(1);
        assert!((0..1000).all(|_| rng.below(10) < 10));
        assert_eq!(rng.below(0), 0);
    }
}
