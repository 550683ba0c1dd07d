//! Values become text, for fields that nobody has written yet.
//!
//! What looks like another type, in any YAML version, is put in quotes; quoted text is JSON's, which
//! every reader takes.

use super::value::{Scalar, Value, is_boolean_word, scalar};
use super::{Content, Node, Style};
use std::fmt::Write as _;

/// A value on one line: `{a: 1, b: [x]}`. With `json`, keys and text are always in quotes.
pub fn inline(value: &Value, json: bool) -> String {
    match value {
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|it| inline(it, json)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", word(key, json), inline(value, json)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Text(text) => word(text, json),
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Float(bits) => float(f64::from_bits(*bits)),
    }
}

/// `key: value` in block style, its lines indented by `indent`, ended by a line feed.
pub fn entry(key: &str, value: &Value, indent: usize) -> String {
    entry_as(&word(key, false), value, indent)
}

/// The same with a key as it is spelled already.
pub fn entry_as(key: &str, value: &Value, indent: usize) -> String {
    let mut out = format!("{:indent$}{key}:", "");
    behind(value, indent, &mut out);
    out
}

/// `- value` in block style, its lines indented by `indent`, ended by a line feed.
pub fn item(value: &Value, indent: usize) -> String {
    let mut out = format!("{:indent$}-", "");
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            let mut inner = String::new();
            for (key, value) in entries {
                inner.push_str(&entry(key, value, indent + 2));
            }
            // The first key stands behind the dash.
            let _ = write!(out, " {}", inner.trim_start_matches(' '));
        }
        Value::List(items) if !items.is_empty() => {
            let inner: String = items.iter().map(|it| item(it, indent + 2)).collect();
            let _ = write!(out, " {}", inner.trim_start_matches(' '));
        }
        _ => behind(value, indent, &mut out),
    }
    out
}

/// What stands behind `key:` or `-`.
fn behind(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            for (key, value) in entries {
                out.push_str(&entry(key, value, indent + 2));
            }
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            for it in items {
                out.push_str(&item(it, indent + 2));
            }
        }
        Value::Text(text) if is_block(text) => {
            let keeps = if text.ends_with('\n') { "|" } else { "|-" };
            let _ = writeln!(out, " {keeps}");
            for line in text.lines() {
                match line.is_empty() {
                    true => out.push('\n'),
                    false => {
                        let _ = writeln!(out, "{:1$}{line}", "", indent + 2);
                    }
                }
            }
        }
        _ => {
            let _ = writeln!(out, " {}", inline(value, false));
        }
    }
}

/// Says whether text of several lines can stand as a block that says just this.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let plain = |it: char| {
        it == '\n'
            || (!it.is_control() && !matches!(it, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'))
    };
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n'])
        && text.chars().all(plain)
        && body.lines().all(|it| !it.ends_with(' '))
}

/// Text as a scalar: as it is where nobody can mistake it, else in quotes.
pub fn word(text: &str, json: bool) -> String {
    if !json && is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for it in text.chars() {
        match it {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            it if it.is_control()
                || matches!(it, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                let _ = write!(quoted, "\\u{:04x}", u32::from(it));
            }
            it => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

/// Says whether text can stand without quotes, in braces too.
fn is_plain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_./:+@-".contains(&b);
    let first =
        text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'/');
    first
        && text.bytes().all(inner)
        && !text.ends_with(':')
        && !is_boolean_word(text)
        && text != "<<"
        && reads_as_text(text)
        // Other readers take more for numbers than we do: 1e3, 12:30, 0o7, 2001-01-01.
        && (!text.as_bytes()[0].is_ascii_digit() || is_address(text))
}

/// Addresses and prefixes are plain everywhere: three dots and digits are no number.
fn is_address(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'.').count() == 3
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'/')
}

fn reads_as_text(text: &str) -> bool {
    let content = Content::Scalar { text: text.to_owned(), style: Style::Plain, tag: None };
    let node = Node { content, span: 0..0, flow: false, alias: false };
    matches!(scalar(&node), Some(Scalar::Text(it)) if it == text)
}

fn float(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    // `{:?}` writes the shortest text that reads back the same, always with a dot or an exponent.
    let text = format!("{number:?}");
    match text.split_once('e') {
        // 1e21 has no dot, and would be text to some readers.
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}.0e{sign}{exponent}")
        }
        _ => text,
    }
}
