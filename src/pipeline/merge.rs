//! Three contents of one resource become one, field by field, or a conflict that names the fields.
//!
//! What must hold: a side that changed nothing gives way to the other; what only one side changed is
//! in the outcome; what both changed alike is there once; what both changed differently is decided
//! by the rule or told, never by the order of asking. The outcome is written into git's own text, so
//! comments and order of both sides stay; see [`crate::yaml::edit`].

use crate::catalog::lists::{ListRule, list_rule};
use crate::model::conflict::{ConflictStrategy, FieldClash, Side};
use crate::model::field::{FieldPath, FieldStep};
use crate::yaml::field::{item_key, to_json};
use crate::yaml::value::{Value, resolve};
use crate::yaml::{Limits, edit, lines};
use std::collections::{BTreeMap, BTreeSet};

/// A conflict names at most so many fields.
const CLASHES_MAX: usize = 200;
/// A longer list is one value, whatever its rule: items are looked for one by one.
const ITEMS_MAX: usize = 2_000;

/// The contents of one resource's file; none where there is no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sides<'a> {
    /// What both began with.
    pub base: Option<&'a str>,
    /// What was changed here.
    pub record: Option<&'a str>,
    /// What git has.
    pub git: Option<&'a str>,
}

/// How what both changed is decided.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// In general.
    pub strategy: ConflictStrategy,
    /// Which side was changed last; none where nobody knows.
    pub newest: Option<Side>,
    /// For single fields, or for all below one; these count more than the strategy.
    pub decisions: BTreeMap<FieldPath, Side>,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// The file gets this content.
    Text(String),
    /// The file goes.
    Gone,
    /// A person must say; these are the fields.
    Conflict(Vec<FieldClash>),
}

/// Merges the contents of a resource of `kind`.
pub fn merge(sides: Sides<'_>, kind: &str, rule: &Rule, limits: Limits) -> Merged {
    let Sides { base, record, git } = sides;
    let strict = rule.strategy == ConflictStrategy::Manual || base.is_none();
    match (record, git) {
        (None, None) => Merged::Gone,
        (Some(record), Some(git)) if record == git => Merged::Text(git.to_owned()),
        (Some(record), None) if base.is_none() => Merged::Text(record.to_owned()),
        (None, Some(git)) if base.is_none() => Merged::Text(git.to_owned()),
        (Some(_), Some(_)) => both(sides, kind, rule, strict, limits),
        (Some(_), None) | (None, Some(_)) => one_is_gone(sides, rule, strict, limits),
    }
}

/// One side removed the file.
fn one_is_gone(sides: Sides<'_>, rule: &Rule, strict: bool, limits: Limits) -> Merged {
    let value =
        |text: Option<&str>| text.and_then(|it| edit::only(it, limits)).map(|it| resolve(&it));
    let (base, record, git) = (value(sides.base), value(sides.record), value(sides.git));
    let left = sides.record.or(sides.git);
    let untouched =
        left == sides.base || (base.is_some() && base == record.clone().or(git.clone()));
    if untouched && !strict {
        return Merged::Gone;
    }
    match side_of(rule, &FieldPath::default()) {
        Some(side) => whole(sides, side),
        None => {
            let [base, record, git] = [base, record, git].map(|it| it.as_ref().map(to_json));
            Merged::Conflict(vec![FieldClash { path: FieldPath::default(), base, record, git }])
        }
    }
}

fn whole(sides: Sides<'_>, side: Side) -> Merged {
    let text = match side {
        Side::Base => sides.base,
        Side::Record => sides.record,
        Side::Git => sides.git,
    };
    text.map_or(Merged::Gone, |it| Merged::Text(it.to_owned()))
}

/// Both have a file.
fn both(sides: Sides<'_>, kind: &str, rule: &Rule, strict: bool, limits: Limits) -> Merged {
    let read = |text: &str| edit::only(text, limits).map(|it| resolve(&it));
    let (Some(record_text), Some(git_text)) = (sides.record, sides.git) else {
        return Merged::Gone;
    };
    let base = sides.base.and_then(read);
    let strict = strict || base.is_none();
    let (Some(record), Some(git)) = (read(record_text), read(git_text)) else {
        // One of them is no YAML: there are no fields to go by.
        return one_is_gone(sides, rule, true, limits);
    };
    let mut merger = Merger { kind, rule, strict, path: Vec::new(), clashes: Vec::new() };
    let value = merger.merge(base.as_ref(), Some(&record), Some(&git));
    if !merger.clashes.is_empty() {
        return Merged::Conflict(merger.clashes);
    }
    let Some(value) = value else { return Merged::Gone };
    if git == record && sides.base.is_none() {
        return Merged::Text(git_text.to_owned());
    }
    match written(sides, &value, limits) {
        Some(text) => Merged::Text(text),
        None if value == git => Merged::Text(git_text.to_owned()),
        None if value == record => Merged::Text(record_text.to_owned()),
        // It cannot be written without touching something else: a person has to.
        None => {
            let [base, record, git] =
                [base, Some(record), Some(git)].map(|it| it.as_ref().map(to_json));
            Merged::Conflict(vec![FieldClash { path: FieldPath::default(), base, record, git }])
        }
    }
}

/// The text that says `value`: line by line where that is what comes of it, so that comments of
/// both stay; else git's text with the fields changed, or the record's.
fn written(sides: Sides<'_>, value: &Value, limits: Limits) -> Option<String> {
    let (record, git) = (sides.record?, sides.git?);
    let says = |text: &String| edit::only(text, limits).is_some_and(|it| resolve(&it) == *value);
    sides
        .base
        .and_then(|base| lines::merge(base, record, git))
        .filter(says)
        .or_else(|| edit::rewrite(git, value, Some(record), limits))
        .or_else(|| edit::rewrite(record, value, Some(git), limits))
}

/// The side that a field is taken from where both changed it.
fn side_of(rule: &Rule, path: &FieldPath) -> Option<Side> {
    let decided = (0..=path.0.len()).rev().find_map(|n| {
        let above = FieldPath(path.0[..n].to_vec());
        rule.decisions.get(&above).copied()
    });
    decided.or(match rule.strategy {
        ConflictStrategy::RecordWins => Some(Side::Record),
        ConflictStrategy::GitWins => Some(Side::Git),
        ConflictStrategy::Newest => rule.newest,
        ConflictStrategy::Merge | ConflictStrategy::Manual => None,
    })
}

struct Merger<'a> {
    kind: &'a str,
    rule: &'a Rule,
    /// Every difference is a clash, whoever made it.
    strict: bool,
    path: Vec<FieldStep>,
    clashes: Vec<FieldClash>,
}

impl Merger<'_> {
    /// What becomes of one field; none where it is absent.
    fn merge(
        &mut self,
        base: Option<&Value>,
        record: Option<&Value>,
        git: Option<&Value>,
    ) -> Option<Value> {
        if record == git {
            return git.cloned();
        }
        if !self.strict && base == record {
            return git.cloned();
        }
        if !self.strict && base == git {
            return record.cloned();
        }
        match (record, git) {
            (Some(Value::Map(record)), Some(Value::Map(git))) => {
                let none = BTreeMap::new();
                let base = match base {
                    Some(Value::Map(base)) => base,
                    _ => &none,
                };
                let names: BTreeSet<&String> =
                    base.keys().chain(record.keys()).chain(git.keys()).collect();
                let mut merged = BTreeMap::new();
                for name in names {
                    self.path.push(FieldStep::Key(name.clone()));
                    let value = self.merge(base.get(name), record.get(name), git.get(name));
                    self.path.pop();
                    merged.extend(value.map(|it| (name.clone(), it)));
                }
                Some(Value::Map(merged))
            }
            (Some(Value::List(r)), Some(Value::List(g))) => {
                let none = Vec::new();
                let b = match base {
                    Some(Value::List(base)) => base,
                    _ => &none,
                };
                let short = [b, r, g].iter().all(|it| it.len() <= ITEMS_MAX);
                let merged = match list_rule(self.kind, &self.path).filter(|_| short) {
                    Some(ListRule::Keyed(key)) => self.keyed(key, b, r, g),
                    Some(ListRule::Set) if !self.strict => set(b, r, g),
                    Some(ListRule::Set) | None => None,
                };
                merged.map_or_else(|| self.clash(base, record, git), |it| Some(Value::List(it)))
            }
            _ => self.clash(base, record, git),
        }
    }

    /// Lists whose items have names; none where a name is missing or stands twice, or where both
    /// sides put the items into another order.
    fn keyed(
        &mut self,
        key: &str,
        base: &[Value],
        record: &[Value],
        git: &[Value],
    ) -> Option<Vec<Value>> {
        let (b, r, g) = (named(key, base)?, named(key, record)?, named(key, git)?);
        // Only one of them may have another order than the base; its order counts.
        let order = order(&b, &r, &g)?;
        let mut merged = Vec::with_capacity(order.len());
        for name in order {
            self.path.push(FieldStep::Item { key: key.to_owned(), value: name.clone() });
            let value = self.merge(at(&b, &name), at(&r, &name), at(&g, &name));
            self.path.pop();
            merged.extend(value);
        }
        Some(merged)
    }

    fn clash(
        &mut self,
        base: Option<&Value>,
        record: Option<&Value>,
        git: Option<&Value>,
    ) -> Option<Value> {
        let path = FieldPath(self.path.clone());
        match side_of(self.rule, &path) {
            Some(Side::Base) => base.cloned(),
            Some(Side::Record) => record.cloned(),
            Some(Side::Git) => git.cloned(),
            None => {
                if self.clashes.len() < CLASHES_MAX {
                    let [base, record, git] = [base, record, git].map(|it| it.map(to_json));
                    self.clashes.push(FieldClash { path, base, record, git });
                }
                git.cloned()
            }
        }
    }
}

type Names<'a> = Vec<(String, &'a Value)>;

fn at<'a>(items: &Names<'a>, name: &str) -> Option<&'a Value> {
    items.iter().find(|it| it.0 == name).map(|it| it.1)
}

fn named<'a>(key: &str, items: &'a [Value]) -> Option<Names<'a>> {
    let mut seen = BTreeSet::new();
    let names = items.iter().map(|it| Some((item_key(it, key)?, it)));
    let names: Names<'a> = names.collect::<Option<_>>()?;
    names.iter().all(|it| seen.insert(it.0.clone())).then_some(names)
}

/// The names of all items in the order that the outcome has: of the side that moved some, else of
/// git; what the other side added stands behind what it stood behind there.
fn order(base: &Names<'_>, record: &Names<'_>, git: &Names<'_>) -> Option<Vec<String>> {
    let names = |it: &Names<'_>| it.iter().map(|it| it.0.clone()).collect::<Vec<_>>();
    let (base, record, git) = (names(base), names(record), names(git));
    let common = |of: &[String], with: &[String]| -> Vec<String> {
        of.iter().filter(|it| with.contains(it)).cloned().collect()
    };
    let moved = |side: &[String]| common(side, &base) != common(&base, side);
    let (mut lead, other) = match (moved(&record), moved(&git)) {
        (true, true) if common(&record, &git) != common(&git, &record) => return None,
        (true, false) => (record, git),
        _ => (git, record),
    };
    for (n, name) in other.iter().enumerate() {
        if lead.contains(name) {
            continue;
        }
        let before = other[..n].iter().rev().find_map(|it| lead.iter().position(|l| l == it));
        lead.insert(before.map_or(0, |it| it + 1), name.clone());
    }
    Some(lead)
}

/// Lists whose order says nothing; none where a value stands twice.
fn set(base: &[Value], record: &[Value], git: &[Value]) -> Option<Vec<Value>> {
    let once = |items: &[Value]| items.iter().enumerate().all(|(n, it)| !items[..n].contains(it));
    if ![base, record, git].into_iter().all(once) {
        return None;
    }
    let stays = |it: &&Value| record.contains(it) || !base.contains(it);
    let added = record.iter().filter(|it| !base.contains(it) && !git.contains(it));
    Some(git.iter().filter(stays).chain(added).cloned().collect())
}

#[cfg(test)]
mod tests;
