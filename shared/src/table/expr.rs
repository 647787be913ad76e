//! Conditions and updates, rendered to DynamoDB's expression language with every name and value as a placeholder.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use super::{Key, value};

/// The name of an attribute; a dot reaches into a map: `turn.id`.
pub type Path = Cow<'static, str>;

/// What must hold for a write to happen. Paths may reach into maps: `turn.id`.
#[derive(Debug, Clone)]
pub enum Cond {
    /// The item, or the attribute at the path, does not exist.
    Absent(Path),
    /// The item, or the attribute at the path, exists.
    Present(Path),
    /// A comparison of the attribute with a value: `=`, `<>`, `<`, `<=`, `>`, `>=`.
    Compare(Path, &'static str, AttributeValue),
    /// The attribute is a text that begins with this one.
    Begins(Path, String),
    /// All of these.
    All(Vec<Cond>),
    /// At least one of these.
    Any(Vec<Cond>),
}

impl Cond {
    /// There is no such item yet.
    #[must_use]
    pub fn new_item() -> Self {
        Self::absent("pk")
    }

    /// The item exists.
    #[must_use]
    pub fn existing() -> Self {
        Self::present("pk")
    }

    /// The attribute does not exist.
    #[must_use]
    pub fn absent(path: impl Into<Path>) -> Self {
        Self::Absent(path.into())
    }

    /// The attribute exists.
    #[must_use]
    pub fn present(path: impl Into<Path>) -> Self {
        Self::Present(path.into())
    }

    /// The item is still at the version that was read.
    #[must_use]
    pub fn version(v: u64) -> Self {
        Self::eq("v", v)
    }

    /// The attribute equals the value.
    #[must_use]
    pub fn eq(path: impl Into<Path>, expected: impl Serialize) -> Self {
        Self::Compare(path.into(), "=", value(expected))
    }

    /// The attribute is below the value.
    #[must_use]
    pub fn lt(path: impl Into<Path>, bound: impl Serialize) -> Self {
        Self::Compare(path.into(), "<", value(bound))
    }

    /// The attribute is above the value.
    #[must_use]
    pub fn gt(path: impl Into<Path>, bound: impl Serialize) -> Self {
        Self::Compare(path.into(), ">", value(bound))
    }

    /// The attribute is at most the value.
    #[must_use]
    pub fn le(path: impl Into<Path>, bound: impl Serialize) -> Self {
        Self::Compare(path.into(), "<=", value(bound))
    }

    /// The attribute is a text that begins with `prefix`.
    #[must_use]
    pub fn begins(path: impl Into<Path>, prefix: impl Into<String>) -> Self {
        Self::Begins(path.into(), prefix.into())
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::All(vec![self, other])
    }

    /// One of the two holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Any(vec![self, other])
    }

    pub(super) fn render(&self, names: &mut Names) -> String {
        let joined = |conds: &[Cond], word: &str, names: &mut Names| {
            let parts: Vec<_> = conds.iter().map(|cond| cond.render(names)).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::Absent(path) => format!("attribute_not_exists({})", names.path(path)),
            Self::Present(path) => format!("attribute_exists({})", names.path(path)),
            Self::Compare(path, operator, value) => {
                let path = names.path(path);
                format!("{path} {operator} {}", names.value(value.clone()))
            }
            Self::Begins(path, prefix) => {
                let path = names.path(path);
                format!("begins_with({path}, {})", names.value(AttributeValue::S(prefix.clone())))
            }
            Self::All(conds) => joined(conds, " AND ", names),
            Self::Any(conds) => joined(conds, " OR ", names),
        }
    }
}

/// Changes to fields of one item; never a whole put, so that two writers of different fields do not undo each other.
#[derive(Debug, Clone)]
pub struct Update {
    pub(super) key: Key,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Set(Path, AttributeValue),
    SetOnce(Path, AttributeValue),
    Add(Path, AttributeValue),
    Remove(Path),
}

impl Update {
    /// No change yet, but for the version, which every write moves on: an optimistic replace must notice.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self { key, changes: vec![Change::Add("v".into(), value(1))] }
    }

    /// As [`Self::new`], for fields that no optimistic write is about: the version stays.
    #[must_use]
    pub const fn beside(key: Key) -> Self {
        Self { key, changes: Vec::new() }
    }

    /// Sets a field; `None` removes it.
    #[must_use]
    pub fn set(self, path: impl Into<Path>, to: impl Serialize) -> Self {
        match value(to) {
            AttributeValue::Null(_) => self.remove(path),
            value => self.change(Change::Set(path.into(), value)),
        }
    }

    /// Sets a field unless it is there already.
    #[must_use]
    pub fn set_once(self, path: impl Into<Path>, to: impl Serialize) -> Self {
        self.change(Change::SetOnce(path.into(), value(to)))
    }

    /// Adds to a number, which starts at 0.
    #[must_use]
    pub fn add(self, path: impl Into<Path>, by: i64) -> Self {
        self.change(Change::Add(path.into(), value(by)))
    }

    /// Removes a field.
    #[must_use]
    pub fn remove(self, path: impl Into<Path>) -> Self {
        self.change(Change::Remove(path.into()))
    }

    fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    pub(super) fn render(&self, names: &mut Names) -> String {
        let (mut set, mut add, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        for change in &self.changes {
            match change {
                Change::Set(path, value) => {
                    let path = names.path(path);
                    set.push(format!("{path} = {}", names.value(value.clone())));
                }
                Change::SetOnce(path, value) => {
                    let path = names.path(path);
                    set.push(format!("{path} = if_not_exists({path}, {})", names.value(value.clone())));
                }
                Change::Add(path, value) => {
                    let path = names.path(path);
                    add.push(format!("{path} {}", names.value(value.clone())));
                }
                Change::Remove(path) => remove.push(names.path(path)),
            }
        }
        let clauses = [("SET", set), ("ADD", add), ("REMOVE", remove)];
        let clauses = clauses.iter().filter(|(_, parts)| !parts.is_empty());
        clauses.map(|(word, parts)| format!("{word} {}", parts.join(", "))).collect::<Vec<_>>().join(" ")
    }
}

type NameMap = Option<HashMap<String, String>>;
type ValueMap = Option<HashMap<String, AttributeValue>>;

/// The placeholders of one request.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Names {
    pub(super) fn path(&mut self, path: &str) -> String {
        let parts: Vec<_> = path.split('.').map(|part| self.name(part)).collect();
        parts.join(".")
    }

    fn name(&mut self, name: &str) -> String {
        let placeholder = format!("#{name}");
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    pub(super) fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    /// The two maps as the SDK wants them: absent when empty.
    pub(super) fn finish(self) -> (NameMap, ValueMap) {
        let Self { names, values } = self;
        ((!names.is_empty()).then_some(names), (!values.is_empty()).then_some(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_everything_by_placeholder() {
        let mut names = Names::default();
        let free = Cond::absent("turn").or(Cond::lt("turn.until", 5));
        let text = free.and(Cond::eq("ai_paused", false)).render(&mut names);
        assert_eq!(text, "((attribute_not_exists(#turn) OR #turn.#until < :0) AND #ai_paused = :1)");
        assert_eq!(names.finish().0.unwrap().len(), 3);
    }

    #[test]
    fn an_update_groups_its_clauses() {
        let mut names = Names::default();
        let update = Update::new(Key::new("p", "s")).set("a", 1).add("n", 2).set("gone", None::<u8>).remove("turn");
        assert_eq!(update.render(&mut names), "SET #a = :1 ADD #v :0, #n :2 REMOVE #gone, #turn");
    }
}
