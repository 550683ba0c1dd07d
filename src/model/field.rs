//! Where a field stands in a resource: `spec.subnets.default.vlan`, `spec.neighbors[ip="10.0.0.1"]`.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// No real path has more steps.
const STEPS_MAX: usize = 200;

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldStep {
    /// Into a mapping.
    Key(String),
    /// Into a list, to the item whose `key` (dotted where it lies deeper) says `value`.
    Item {
        /// Such as `ip` or `server.port`.
        key: String,
        /// As text.
        value: String,
    },
    /// Into a list, counted from 0.
    Index(usize),
}

/// The way from the top of a resource to one of its fields; the empty one is all of it.
///
/// As text: keys are joined by dots, a key with other signs than letters, digits, `_` and `-`
/// stands as `["key"]`, the whole resource is `.`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldPath(pub Vec<FieldStep>);

/// Why a text is no [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no field: {why}; write it like spec.subnets.default.vlan, spec.list[0] or metadata.labels[\"a.b/c\"]"
)]
pub struct FieldError {
    text: String,
    why: &'static str,
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_char('.');
        }
        for (n, step) in self.0.iter().enumerate() {
            match step {
                FieldStep::Key(key) if is_plain(key) => {
                    write!(f, "{}{key}", if n > 0 { "." } else { "" })?;
                }
                FieldStep::Key(key) => write!(f, "[{}]", quoted(key))?,
                FieldStep::Item { key, value } => write!(f, "[{key}={}]", quoted(value))?,
                FieldStep::Index(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

impl FromStr for FieldPath {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<FieldPath, FieldError> {
        let wrong = |why| FieldError {
            text: super::path::escape(text.as_bytes()).chars().take(200).collect(),
            why,
        };
        let mut steps = Vec::new();
        let mut rest = if text == "." { "" } else { text };
        while !rest.is_empty() {
            if steps.len() >= STEPS_MAX {
                return Err(wrong("it has too many steps"));
            }
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, tail) = bracket(inner).map_err(wrong)?;
                steps.push(step);
                rest = tail;
                continue;
            }
            if !steps.is_empty() {
                rest = rest.strip_prefix('.').ok_or_else(|| wrong("a dot is missing"))?;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if !is_plain(&rest[..end]) {
                return Err(wrong("a step is empty, or holds signs that need [\"...\"]"));
            }
            steps.push(FieldStep::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        Ok(FieldPath(steps))
    }
}

/// What stands between brackets, and the text behind them.
fn bracket(text: &str) -> Result<(FieldStep, &str), &'static str> {
    const OPEN: &str = "a bracket is not closed";
    if text.starts_with('"') {
        let (key, rest) = unquoted(text)?;
        return Ok((FieldStep::Key(key), rest.strip_prefix(']').ok_or(OPEN)?));
    }
    let end = text.find([']', '=']).ok_or(OPEN)?;
    let (word, rest) = text.split_at(end);
    if let Some(rest) = rest.strip_prefix(']') {
        let at = word
            .parse()
            .map_err(|_| "between brackets stands a number, \"key\" or key=\"value\"")?;
        return Ok((FieldStep::Index(at), rest));
    }
    let rest = &rest[1..];
    let (value, rest) = match rest.starts_with('"') {
        true => unquoted(rest)?,
        false => {
            let end = rest.find(']').ok_or(OPEN)?;
            (rest[..end].to_owned(), &rest[end..])
        }
    };
    let step = FieldStep::Item { key: word.to_owned(), value };
    Ok((step, rest.strip_prefix(']').ok_or(OPEN)?))
}

/// A JSON string at the beginning of `text`, and what follows.
fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut read = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match read.next() {
        Some(Ok(it)) => Ok((it, &text[read.byte_offset()..])),
        _ => Err("a quote is not closed"),
    }
}

fn is_plain(key: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    !key.is_empty() && key.bytes().all(inner)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl TryFrom<String> for FieldPath {
    type Error = FieldError;
    fn try_from(text: String) -> Result<FieldPath, FieldError> {
        text.parse()
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> String {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_reads_as_people_write_it() {
        let path: FieldPath = "spec.list[0].x[ip=10.0.0.1].labels[\"a.b/c\"]".parse().unwrap();
        assert_eq!(path.0.len(), 7);
        assert_eq!(path.to_string(), "spec.list[0].x[ip=\"10.0.0.1\"].labels[\"a.b/c\"]");
        for wrong in ["a..b", ".a", "a[", "a[x", "a[\"x]", "a b", "a[1]b"] {
            assert!(wrong.parse::<FieldPath>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_read_back(words in proptest::collection::vec(".{0,8}", 0..6)) {
            let steps = words.iter().enumerate().map(|(n, word)| match n % 3 {
                0 => FieldStep::Key(word.clone()),
                1 => FieldStep::Item { key: "server.port".into(), value: word.clone() },
                _ => FieldStep::Index(n),
            });
            let path = FieldPath(steps.collect());
            prop_assert_eq!(path.to_string().parse::<FieldPath>().ok(), Some(path));
        }
    }
}
