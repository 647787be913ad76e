//! Reading the whole table, for the operator's rare questions that must miss nothing. No function of ours may do it.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::expr::Names;
use super::{Cond, Item, Key, Table, unavailable};
use crate::kernel::Result;

/// What a page of the table has of what was looked for.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The items, complete, in no order.
    pub items: Vec<Item>,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<Key>,
    /// What the page cost. The filter spares the way, not the price.
    pub read_units: f64,
}

impl Table {
    /// The items of the next page (up to 1 MB of the table) for which the filter holds, read consistently.
    ///
    /// # Errors
    /// `unavailable` when the table cannot be reached.
    pub async fn scan(&self, filter: &Cond, after: Option<&Key>) -> Result<Scanned> {
        let mut names = Names::default();
        let filter = filter.render(&mut names);
        let (names, values) = names.finish();
        let call = self.0.meter.start("Scan");
        let request = self
            .0
            .client
            .scan()
            .table_name(&self.0.name)
            .filter_expression(filter)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .set_exclusive_start_key(after.map(Key::item))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = self.attempt(|| request.clone().send()).await.outcome.map_err(unavailable)?;
        call.read(output.consumed_capacity());
        let read_units = output.consumed_capacity().and_then(|capacity| capacity.capacity_units()).unwrap_or_default();
        let next = output.last_evaluated_key.as_ref().and_then(Key::of);
        Ok(Scanned { items: output.items.unwrap_or_default(), next, read_units })
    }
}
