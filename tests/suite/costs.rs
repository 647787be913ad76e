//! What `docs/COST.md` says of prices, and how its figures are made.

use serde_json::json;
use tests::bill::{Bill, Prices, index_writes, stored_bytes};
use tests::report::Document;

#[test]
fn the_document_has_the_prices_of_the_list() {
    let listed = Prices::read().report().to_string();
    let shown = Document::Cost.read("prices").expect("docs/COST.md has a place for prices");
    assert!(shown == listed, "docs/COST.md is stale: run `cargo bench -p tests --bench costs`");
}

#[test]
fn an_item_is_billed_by_its_names_and_values_and_a_hundred_bytes() {
    // Names and values: 3 for `pk` and `a`, 4 for `sk` and `bc`, 2 and 3 for five digits under `n1`.
    let item = json!({"pk": "a", "sk": "bc", "n1": {"n": "12345"}});
    assert_eq!(stored_bytes(&item), (100 + 3 + 4 + 2 + 4, 0));
    // A list and a map are 3 bytes, and one more for each element.
    let item = json!({"pk": "a", "sk": "b", "l": ["xy", true], "m": {"k": "v"}});
    assert_eq!(stored_bytes(&item), (100 + 3 + 3 + (1 + 3 + 3 + 2) + (1 + 3 + 1 + 1 + 1), 0));
    // An index entry has the keys of both.
    let item = json!({"pk": "a", "sk": "b", "gsi1pk": "x", "gsi1sk": "yz", "text": "not in it"});
    assert_eq!(stored_bytes(&item).1, 100 + 3 + 3 + 7 + 8);
}

#[test]
fn an_index_entry_is_written_when_it_comes_and_goes_and_twice_when_it_moves() {
    let listed = json!({"pk": "a", "sk": "b", "gsi1pk": "x", "gsi1sk": "1"});
    let moved = json!({"pk": "a", "sk": "b", "gsi1pk": "x", "gsi1sk": "2"});
    let hidden = json!({"pk": "a", "sk": "b"});
    let both = json!({"pk": "a", "sk": "b", "gsi1pk": "x", "gsi1sk": "1", "gsi2pk": "y", "gsi2sk": "1"});
    assert_eq!(index_writes(None, Some(&listed)), 1);
    assert_eq!(index_writes(Some(&listed), None), 1);
    assert_eq!(index_writes(Some(&listed), Some(&listed)), 0);
    assert_eq!(index_writes(Some(&listed), Some(&moved)), 2);
    assert_eq!(index_writes(Some(&moved), Some(&hidden)), 1);
    assert_eq!(index_writes(None, Some(&both)), 2);
}

#[test]
fn a_bill_is_the_sum_of_its_lines() {
    let mut bill = Bill::default();
    bill.add("writes", 22.0, "million units", 0.625);
    bill.add("requests", 1.0, "million", 0.2);
    bill.add("nothing", 0.0, "million", 9.0);
    assert!((bill.total() - 13.95).abs() < 1e-9);
    let rows = bill.rows("all");
    assert_eq!(rows[1], ["writes", "22.00 million units", "$13.75"]);
    assert_eq!(rows.len(), 4, "nothing makes no line");
    assert_eq!(rows[3], ["**all**", "", "**$13.95**"]);
}
