//! Well-known forms of text and numbers, and text as it may be shown.

use crate::yaml::value::Value;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SHOWN_CHARS_MAX: usize = 60;

/// Somebody's text, safe and short enough for a message.
pub(super) fn shown(text: &str) -> String {
    crate::model::path::escape(text.as_bytes()).chars().take(SHOWN_CHARS_MAX).collect()
}

/// A value of a schema, as one would write it.
pub(super) fn of_value(value: &Value) -> String {
    match value {
        Value::Text(text) if text.is_empty() => "\"\"".to_owned(),
        Value::Text(text) => shown(text),
        Value::Int(number) => number.to_string(),
        Value::Bool(it) => it.to_string(),
        Value::Null => "null".to_owned(),
        Value::Float(bits) => f64::from_bits(*bits).to_string(),
        Value::List(_) | Value::Map(_) => "a collection".to_owned(),
    }
}

pub(super) fn plural(thing: &str) -> String {
    match thing.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{thing}s"),
    }
}

/// Says what a text should be, if it is not. Forms that nobody checks say nothing.
pub(super) fn of_text(format: &str, text: &str) -> Option<&'static str> {
    let (fits, wants) = match format {
        "ipv4" => (text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
        "ipv6" => (text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
        "cidr" => (is_cidr(text), "a prefix such as 10.0.0.0/24"),
        "mac" => (is_mac(text), "a MAC address such as 0c:20:12:fe:00:01"),
        "uuid" => (uuid::Uuid::try_parse(text).is_ok(), "a UUID"),
        "date-time" => {
            (text.parse::<jiff::Timestamp>().is_ok(), "a time such as 2026-01-02T03:04:05Z")
        }
        "date" => (text.parse::<jiff::civil::Date>().is_ok(), "a date such as 2026-01-02"),
        _ => return None,
    };
    (!fits).then_some(wants)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let bits = bits.parse::<u8>().unwrap_or(u8::MAX);
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => bits <= 32,
        Ok(IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let pair = |it: &&str| it.len() == 2 && it.bytes().all(|b| b.is_ascii_hexdigit());
    parts.len() == 6 && parts.iter().all(pair)
}

/// Says why a number does not fit its format.
pub(super) fn of_number(format: &str, number: i128) -> Option<&'static str> {
    match format {
        "int32" if i32::try_from(number).is_err() => Some("it takes numbers of 32 bits"),
        "int64" if i64::try_from(number).is_err() => Some("it takes numbers of 64 bits"),
        _ => None,
    }
}

/// Says whether a plain number begins with a zero that makes it octal.
pub(super) fn is_octal(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Says what readers of YAML 1.1 take a plain text for that is text to Kubernetes.
pub(super) fn read_otherwise(text: &str) -> Option<&'static str> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+')) {
        return None;
    }
    // 12:30 is 12 times 60 and 30 to them.
    let mut parts = text.trim_start_matches(['-', '+']).split(':');
    let digits = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let head = parts.next().is_some_and(|it| digits(it) && !it.starts_with('0'));
    let rest: Vec<&str> = parts.collect();
    let sixty = |it: &&str| digits(it) && it.len() <= 2 && it.parse::<u8>().is_ok_and(|n| n < 60);
    if head && !rest.is_empty() && rest.iter().all(sixty) {
        return Some("a number to the base of 60");
    }
    (text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()).then_some("a date")
}
