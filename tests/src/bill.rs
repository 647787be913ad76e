//! What things cost: the prices of `docs/prices.json`, and lines of a bill. `docs/COST.md` is made of them by
//! `cargo bench -p tests --bench costs`.

use std::path::Path;

use serde_json::Value;

use crate::report::{Report, row};

/// The list of prices.
#[derive(Debug, Clone)]
pub struct Prices(Value);

impl Prices {
    /// The list in the repository.
    ///
    /// # Panics
    /// When it does not read.
    #[must_use]
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prices.json");
        let text = std::fs::read_to_string(path).expect("docs/prices.json is there");
        Self(serde_json::from_str(&text).expect("docs/prices.json is JSON"))
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        self.0["prices"].as_array().expect("docs/prices.json has a list of prices").iter()
    }

    /// The price of a thing, by the unit that the list names.
    ///
    /// # Panics
    /// When the list has no such thing.
    #[must_use]
    pub fn of(&self, key: &str) -> f64 {
        let found = self.all().find(|price| price["key"] == key).and_then(|price| price["price"].as_f64());
        found.unwrap_or_else(|| panic!("docs/prices.json has no price of {key}"))
    }

    /// The list as `docs/COST.md` shows it.
    ///
    /// # Panics
    /// When an entry lacks something.
    #[must_use]
    pub fn report(&self) -> Report {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (region, currency, as_of) = (text(&self.0["region"]), text(&self.0["currency"]), text(&self.0["as_of"]));
        let mut rows = vec![row([&"what", &"unit", &currency, &"seen in"])];
        for price in self.all() {
            let value = price["price"].as_f64().expect("a number");
            let source = price["source"].as_str().unwrap_or("**not confirmed**");
            rows.push(row([&text(&price["what"]), &text(&price["unit"]), &value, &source]));
        }
        Report::new()
            .say(format!("List prices in {currency} of region {region} as of {as_of}, first tier, no free tier."))
            .table(&rows)
    }
}

/// What a bill is for.
#[derive(Debug, Default)]
pub struct Bill {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    what: String,
    amount: f64,
    unit: &'static str,
    cost: f64,
}

impl Bill {
    /// Adds a line: so many units of a thing, at the price of one. Nothing makes no line.
    pub fn add(&mut self, what: impl Into<String>, amount: f64, unit: &'static str, price: f64) {
        if amount == 0.0 {
            return;
        }
        self.lines.push(Line { what: what.into(), amount, unit, cost: amount * price });
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.lines.iter().map(|line| line.cost).sum()
    }

    /// The bill as a table, with its sum.
    #[must_use]
    pub fn rows(&self, total: &str) -> Vec<Vec<String>> {
        let mut rows = vec![row([&"", &"amount", &"cost"])];
        for line in &self.lines {
            let amount = format!("{} {}", amount(line.amount), line.unit);
            rows.push(row([&line.what, &amount.trim_end(), &money(line.cost)]));
        }
        rows.push(row([&format!("**{total}**"), &"", &format!("**{}**", money(self.total()))]));
        rows
    }
}

/// With as many digits as say something.
fn amount(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value if value >= 0.1 => format!("{value:.3}"),
        value => format!("{value:.5}"),
    }
}

/// As `$1.23`.
#[must_use]
pub fn money(value: f64) -> String {
    format!("${value:.2}")
}

/// How many bytes an item and its index entries are billed as, by DynamoDB's rules: names and values, and 100 bytes for
/// each entry. The item is as [`crate::Dump`] has it.
#[must_use]
pub fn stored_bytes(item: &Value) -> (usize, usize) {
    let fields = item.as_object().expect("an item");
    let field = |name: &str| fields.get(name).map_or(0, |value| name.len() + value_bytes(value));
    let table = OVERHEAD + fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum::<usize>();
    // The indexes hold keys only: those of the table and their own.
    let entry = |(pk, sk): (&str, &str)| {
        fields.contains_key(pk).then(|| OVERHEAD + field("pk") + field("sk") + field(pk) + field(sk))
    };
    (table, INDEXES.into_iter().filter_map(entry).sum())
}

/// The keys of the indexes.
pub const INDEXES: [(&str, &str); 2] = [("gsi1pk", "gsi1sk"), ("gsi2pk", "gsi2sk")];
const OVERHEAD: usize = 100;

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => 3 + list.iter().map(|one| 1 + value_bytes(one)).sum::<usize>(),
        Value::Object(map) => match (map.len(), map.get("n").and_then(Value::as_str)) {
            // A number: two digits a byte.
            (1, Some(number)) => number.trim_matches(['-', '0']).len().div_ceil(2) + 1,
            _ => 3 + map.iter().map(|(name, one)| 1 + name.len() + value_bytes(one)).sum::<usize>(),
        },
        Value::Bool(_) | Value::Null | Value::Number(_) => 1,
    }
}

/// How many index entries are written when an item changes from one form to another: one that appears, one that goes,
/// two when its keys change.
#[must_use]
pub fn index_writes(before: Option<&Value>, after: Option<&Value>) -> usize {
    let keys = |item: Option<&Value>, (pk, sk): (&str, &str)| {
        item.and_then(|item| Some((item.get(pk)?.clone(), item.get(sk)?.clone())))
    };
    let writes = |index| match (keys(before, index), keys(after, index)) {
        (Some(old), Some(new)) if old != new => 2,
        (Some(_), None) | (None, Some(_)) => 1,
        _ => 0,
    };
    INDEXES.into_iter().map(writes).sum()
}
