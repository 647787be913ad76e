//! Customers' secrets sealed anew after a key was rotated, so that the old one may go. For the operator alone, by a command
//! beside the running system: it reads the whole table.

use crate::kernel::secret::Keyring;
use crate::kernel::{Result, Rng};
use crate::store::sealed;
use crate::table::Table;

/// How often the table is read until nothing is left of what older keys sealed. Twice is usual: the second finds nothing.
const PASSES: usize = 5;
/// How many places of what does not open are told.
const MAX_TOLD: usize = 20;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resealed {
    /// How many secrets were sealed anew.
    pub renewed: usize,
    /// Secrets in the last pass that no key of the ring opens, or that do not read.
    pub closed: usize,
    /// Where the first of them are: keys of items, which hold ids only.
    pub places: Vec<String>,
    /// Whether the last pass found nothing that an older key sealed.
    pub is_complete: bool,
    /// What it cost to find out.
    pub read_units: f64,
}

/// Seals anew, under the first key of the ring, what its other keys sealed. The system may run meanwhile: what is changed
/// under our hands is read again, and each pass looks whether the one before left something.
///
/// # Errors
/// When the table cannot be read or written. What was sealed anew until then is, and the same again goes on.
pub async fn reseal(table: &Table, ring: &Keyring, rng: &Rng) -> Result<Resealed> {
    let mut all = Resealed::default();
    for _ in 0..PASSES {
        let pass = pass(table, ring, rng).await?;
        all = Resealed { renewed: all.renewed + pass.renewed, read_units: all.read_units + pass.read_units, ..pass };
        if all.is_complete {
            break;
        }
    }
    Ok(all)
}

async fn pass(table: &Table, ring: &Keyring, rng: &Rng) -> Result<Resealed> {
    let (mut pass, mut after) = (Resealed { is_complete: true, ..Resealed::default() }, None);
    loop {
        let page = sealed::page(table, after.as_ref()).await?;
        pass.read_units += page.read_units;
        page.unreadable.iter().for_each(|key| pass.tell_closed(&format!("{} {}", key.pk, key.sk)));
        for holder in page.holders {
            let key = format!("{} {}", holder.key().pk, holder.key().sk);
            let mut closed = false;
            let renew = |place: &str, sealed: &_| {
                ring.renew(rng, place, sealed).or_else(|_| {
                    closed = true;
                    Ok(None)
                })
            };
            let renewed = holder.renew(table, renew).await?;
            pass.renewed += renewed.unwrap_or_default();
            // What was written may have been undone by somebody who had read it before: the next pass sees.
            pass.is_complete &= renewed == Some(0);
            if closed {
                pass.tell_closed(&key);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(pass);
        }
    }
}

impl Resealed {
    fn tell_closed(&mut self, place: &str) {
        self.closed += 1;
        if self.places.len() < MAX_TOLD {
            self.places.push(place.to_owned());
        }
    }
}
