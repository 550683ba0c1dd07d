//! What a node means: its resolved value, by which contents are compared.

use super::{Content, Node, Style};
use crate::model::digest::Xxh3;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A resolved value. Formatting, key order, aliases and merge keys are gone; types are not.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value. As Kubernetes reads them: `yes`, `no`, `on` and `off` are ones.
    Bool(bool),
    /// A whole number, in decimal.
    Int(i128),
    /// Any other number, by its bits, so that it can be compared.
    Float(u64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// Entries by key.
    Map(BTreeMap<String, Value>),
}

/// A resolved value that is no collection. Its text stays where it was read: asking costs nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// As in [`Value`].
    Null,
    /// As in [`Value`].
    Bool(bool),
    /// As in [`Value`].
    Int(i128),
    /// As in [`Value`].
    Float(u64),
    /// As in [`Value`].
    Text(&'a str),
}

impl From<Scalar<'_>> for Value {
    fn from(it: Scalar) -> Value {
        match it {
            Scalar::Null => Value::Null,
            Scalar::Bool(it) => Value::Bool(it),
            Scalar::Int(it) => Value::Int(it),
            Scalar::Float(it) => Value::Float(it),
            Scalar::Text(it) => Value::Text(it.to_owned()),
        }
    }
}

/// Resolves a scalar; none for a collection.
pub fn scalar(node: &Node) -> Option<Scalar<'_>> {
    let Content::Scalar { text, style, tag } = &node.content else { return None };
    Some(match (tag, style) {
        (Some("str"), _) | (None, Style::Text) => Scalar::Text(text),
        _ => plain(text),
    })
}

/// Says whether a plain scalar is a number beyond all numbers, or none at all (`.inf`, `.nan`).
pub fn is_finite(node: &Node) -> bool {
    let Content::Scalar { text, style: Style::Plain, .. } = &node.content else { return true };
    // Most scalars are words; only what begins like a number has to be looked at.
    let first = text.as_bytes().first().copied().unwrap_or(b'a');
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return true;
    }
    match scalar(node) {
        Some(Scalar::Float(bits)) => f64::from_bits(bits).is_finite(),
        _ => true,
    }
}

/// Resolves a node. Merge keys (`<<`) are filled in, as Kubernetes does.
pub fn resolve(node: &Node) -> Value {
    match &node.content {
        Content::Scalar { .. } => scalar(node).unwrap_or(Scalar::Null).into(),
        Content::Sequence(items) => Value::List(items.iter().map(resolve).collect()),
        Content::Mapping(entries) => {
            let mut map = BTreeMap::new();
            for (key, value) in entries {
                match key.text() {
                    Some(_) if key.is_merge() => merge(&mut map, value),
                    Some(text) => {
                        map.insert(text.to_owned(), resolve(value));
                    }
                    None => (),
                }
            }
            Value::Map(map)
        }
    }
}

/// Fills in what is merged, below what is written out: earlier maps win, written keys always.
fn merge(map: &mut BTreeMap<String, Value>, merged: &Node) {
    for it in merged.merge_sources() {
        if let Value::Map(entries) = resolve(it) {
            for (key, value) in entries {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// Says whether YAML 1.1, and so Kubernetes, reads this plain text as a truth value though many
/// take it for a word.
pub fn is_boolean_word(text: &str) -> bool {
    matches!(
        text,
        "y" | "Y"
            | "yes"
            | "Yes"
            | "YES"
            | "n"
            | "N"
            | "no"
            | "No"
            | "NO"
            | "on"
            | "On"
            | "ON"
            | "off"
            | "Off"
            | "OFF"
    )
}

fn plain(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY.to_bits());
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY.to_bits()),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN.to_bits()),
        _ => (),
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return Scalar::Text(text);
    }
    let number = match text.contains('_') {
        true => Cow::Owned(text.replace('_', "")),
        false => Cow::Borrowed(text),
    };
    if let Some(number) = whole(&number) {
        return Scalar::Int(number);
    }
    // Most of what begins with a digit and is no number is an address, which ends here.
    let digits = number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if !digits || !number.bytes().any(|b| b.is_ascii_digit()) {
        return Scalar::Text(text);
    }
    number.parse::<f64>().map_or(Scalar::Text(text), |it| Scalar::Float(it.to_bits()))
}

/// `text` is without underscores.
fn whole(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = match digits.as_bytes() {
        // A sign behind the prefix is none.
        [b'0', _, b'+' | b'-', ..] => return None,
        [b'0', b'x', ..] => i128::from_str_radix(&digits[2..], 16).ok()?,
        [b'0', b'b', ..] => i128::from_str_radix(&digits[2..], 2).ok()?,
        [b'0', b'o', ..] => i128::from_str_radix(&digits[2..], 8).ok()?,
        // As YAML 1.1 and Kubernetes have it: a leading zero means octal, if it can.
        [b'0', _, ..] => i128::from_str_radix(digits, 8).ok()?,
        _ => digits.parse().ok()?,
    };
    let number = sign * number;
    // What is larger becomes a float, as Kubernetes has it.
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}

/// XXH3 of what a node means, the same as that of its resolved value.
pub fn digest(node: &Node) -> Xxh3 {
    let mut bytes = Vec::new();
    flatten(node, &mut bytes);
    Xxh3::of(&bytes)
}

/// As [`Value::flatten`], without building the value first.
fn flatten(node: &Node, out: &mut Vec<u8>) {
    match &node.content {
        Content::Scalar { .. } => scalar(node).unwrap_or(Scalar::Null).flatten(out),
        Content::Sequence(items) => {
            out.push(b'l');
            out.extend((items.len() as u64).to_be_bytes());
            items.iter().for_each(|it| flatten(it, out));
        }
        Content::Mapping(entries) => {
            let mut sorted: Vec<(&str, &Node)> =
                entries.iter().filter_map(|(key, it)| Some((key.text()?, it))).collect();
            sorted.sort_by_key(|it| it.0);
            let twins = sorted.windows(2).any(|it| it[0].0 == it[1].0);
            if twins || entries.iter().any(|it| it.0.is_merge()) {
                // What is merged, and which of two is meant, is for the resolver to say.
                return resolve(node).flatten(out);
            }
            out.push(b'm');
            out.extend((sorted.len() as u64).to_be_bytes());
            for (key, value) in sorted {
                text(b'k', key, out);
                flatten(value, out);
            }
        }
    }
}

impl Scalar<'_> {
    fn flatten(&self, out: &mut Vec<u8>) {
        match self {
            Scalar::Null => out.push(b'n'),
            Scalar::Bool(it) => out.extend([b'b', u8::from(*it)]),
            Scalar::Int(it) => {
                out.push(b'i');
                out.extend(it.to_be_bytes());
            }
            Scalar::Float(it) => {
                out.push(b'f');
                out.extend(it.to_be_bytes());
            }
            Scalar::Text(it) => text(b't', it, out),
        }
    }
}

impl Value {
    /// XXH3 of the value: the same for every way of writing it.
    pub fn digest(&self) -> Xxh3 {
        let mut bytes = Vec::new();
        self.flatten(&mut bytes);
        Xxh3::of(&bytes)
    }

    /// Writes the value so that no two values share their bytes: a letter for the type, lengths
    /// before what varies.
    fn flatten(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => Scalar::Null.flatten(out),
            Value::Bool(it) => Scalar::Bool(*it).flatten(out),
            Value::Int(it) => Scalar::Int(*it).flatten(out),
            Value::Float(it) => Scalar::Float(*it).flatten(out),
            Value::Text(it) => Scalar::Text(it).flatten(out),
            Value::List(items) => {
                out.push(b'l');
                out.extend((items.len() as u64).to_be_bytes());
                items.iter().for_each(|it| it.flatten(out));
            }
            Value::Map(entries) => {
                out.push(b'm');
                out.extend((entries.len() as u64).to_be_bytes());
                for (key, value) in entries {
                    text(b'k', key, out);
                    value.flatten(out);
                }
            }
        }
    }

    /// The same value for serde_yaml, for text that has to be written anew.
    pub fn to_yaml(&self) -> serde_yaml::Value {
        match self {
            Value::Null => serde_yaml::Value::Null,
            Value::Bool(it) => serde_yaml::Value::Bool(*it),
            Value::Int(it) => match (i64::try_from(*it), u64::try_from(*it)) {
                (Ok(it), _) => it.into(),
                (_, Ok(it)) => it.into(),
                _ => it.to_string().into(),
            },
            Value::Float(it) => f64::from_bits(*it).into(),
            Value::Text(it) => it.as_str().into(),
            Value::List(items) => items.iter().map(Value::to_yaml).collect::<Vec<_>>().into(),
            Value::Map(entries) => {
                let pairs =
                    entries.iter().map(|(key, value)| (key.as_str().into(), value.to_yaml()));
                serde_yaml::Value::Mapping(pairs.collect())
            }
        }
    }
}

fn text(letter: u8, it: &str, out: &mut Vec<u8>) {
    out.push(letter);
    out.extend((it.len() as u64).to_be_bytes());
    out.extend(it.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Limits;
    use crate::yaml::parse::parse;

    fn value(text: &str) -> Value {
        let (documents, fault) = parse(text, Limits::default());
        assert_eq!(fault, None);
        resolve(documents[0].root.as_ref().unwrap())
    }

    #[test]
    fn writing_does_not_matter_but_types_do() {
        assert_eq!(value("{b: [1, 'x'], a: null}"), value("a:\nb:\n- 0x1 # c\n- \"x\"\n"));
        assert_ne!(value("a: 1"), value("a: '1'"));
        assert_ne!(value("a: 1").digest(), value("a: '1'").digest());
        for text in ["{b: [1, 'x'], a: null, c: {}}", "x: &x {a: 1}\ny: {<<: *x, b: 2.5}"] {
            let (documents, _) = parse(text, Limits::default());
            assert_eq!(digest(documents[0].root.as_ref().unwrap()), value(text).digest());
        }
        assert_eq!(value("a: yes"), value("a: true"));
        assert_ne!(value("a: 1.0"), value("a: 1"));
        assert_eq!(value("a: 010"), value("a: 8"));
        assert_eq!(value("a: 12:30"), value("a: '12:30'"));
    }

    #[test]
    fn merge_keys_are_filled_in_below_what_is_written() {
        assert_eq!(
            value("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n"),
            value("x: {a: 1, b: 2}\ny: {a: 1, b: 3}")
        );
    }
}
