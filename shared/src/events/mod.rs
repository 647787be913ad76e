//! What can happen. Each event is made by a function here and written by [`emit`] in the transaction of the change
//! that it tells of.

pub mod catalog;
pub mod studio;

use crate::domain::Event;
use crate::kernel::Result;
use crate::store::outbox;
use crate::table::Unit;

/// Adds an event to the unit that makes it true.
///
/// # Errors
/// When it does not serialise.
pub fn emit(unit: &mut Unit, event: &Event) -> Result<()> {
    outbox::create(unit, event)
}
