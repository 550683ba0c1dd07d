//! Durations, sizes, counts and file modes as people write them.
//!
//! Each is refused where it is read, so that the message carries the line and column of the file.

use serde::{Deserialize, Deserializer, Serializer, de};
use std::time::Duration;

/// No duration in the settings is longer: a week.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// No size in the settings is larger: it has to fit in memory.
const BYTES_MAX: u64 = 4 << 30;

/// Reads `200ms`, `2s`, `5m`, `1h` or `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no duration: write a number and ms, s, m, h or d, as in 2s");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?);
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(format!("`{text}` is out of bounds: write 1ms to 7d"));
    }
    Ok(duration)
}

/// Writes a duration in its largest whole unit.
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis != 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// Reads `512 KiB`, `10 MiB`, `1 GiB`, `1 MB` or `100 B`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is no size: write a number and B, KiB, MiB or GiB, as in 10 MiB");
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let size = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(size).ok_or_else(wrong)?;
    if bytes == 0 || bytes > BYTES_MAX {
        return Err(format!("`{text}` is out of bounds: write 1 B to 4 GiB"));
    }
    Ok(bytes)
}

/// Writes a size in its largest whole binary unit.
pub fn bytes_text(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1u64 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(size) {
            return format!("{} {unit}", bytes / size);
        }
    }
    format!("{bytes} B")
}

/// Reads patterns in gitignore syntax, each of which must say something.
pub fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let patterns = Vec::<String>::deserialize(from)?;
    for it in &patterns {
        let idle = it.trim_matches(['!', '/', ' ']).is_empty();
        if idle || it.starts_with('#') || it.contains('\n') {
            let why =
                "is no pattern: write one as in a .gitignore file, such as drafts/ or *.local.yaml";
            return Err(de::Error::custom(format!("`{}` {why}", it.escape_default())));
        }
    }
    Ok(patterns)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

/// What stands in a file where a text with a unit belongs; a bare number gets a word of advice.
struct WithUnit(&'static str);

impl de::Visitor<'_> for WithUnit {
    type Value = String;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// For `#[serde(with)]`: a [`Duration`].
pub mod duration {
    use super::*;

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = from.deserialize_any(WithUnit("a duration with its unit, as in 2s"))?;
        parse_duration(&text).map_err(de::Error::custom)
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&duration_text(*duration))
    }
}

/// For `#[serde(with)]`: a [`Duration`], or `off`.
pub mod duration_or_off {
    use super::*;

    struct OrOff;

    impl de::Visitor<'_> for OrOff {
        type Value = Option<Duration>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration with its unit, as in 60s, or off")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            match text {
                "off" => Ok(None),
                text => parse_duration(text).map(Some).map_err(E::custom),
            }
        }
        fn visit_bool<E: de::Error>(self, on: bool) -> Result<Self::Value, E> {
            match on {
                false => Ok(None),
                true => Err(E::invalid_value(de::Unexpected::Bool(true), &self)),
            }
        }
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        from.deserialize_any(OrOff)
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(it: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match it {
            Some(duration) => to.serialize_str(&duration_text(*duration)),
            None => to.serialize_str("off"),
        }
    }
}

/// For `#[serde(with)]`: a number of bytes.
pub mod bytes {
    use super::*;

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = from.deserialize_any(WithUnit("a size with its unit, as in 10 MiB"))?;
        parse_bytes(&text).map_err(de::Error::custom)
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&bytes_text(*bytes))
    }
}

/// For `#[serde(deserialize_with)]`: a count of at least one.
pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        0 => Err(de::Error::custom("0 lets nothing through: write at least 1")),
        n => Ok(n),
    }
}

/// For `#[serde(with)]`: permissions of a file, in octal and quoted.
pub mod mode {
    use super::*;

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = from.deserialize_any(WithUnit("an octal mode in quotes, as in \"0600\""))?;
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|it| (0o600..=0o777).contains(it) && it & 0o600 == 0o600)
            .ok_or_else(|| {
                let wrong = format!("`{text}` is no mode for a socket: write \"0600\" or \"0660\"");
                de::Error::custom(wrong)
            })
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{mode:04o}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_back_as_they_were_written() {
        for text in ["200ms", "2s", "5m", "1h", "1500ms"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        for text in ["100 B", "512 KiB", "10 MiB", "1 GiB"] {
            assert_eq!(bytes_text(parse_bytes(text).unwrap()), text);
        }
        assert_eq!(parse_bytes("10MiB"), Ok(10 << 20));
        assert_eq!(parse_bytes("1 MB"), Ok(1_000_000));
    }

    #[test]
    fn a_number_without_unit_or_out_of_bounds_is_refused() {
        for text in ["2", "s", "", "-1s", "0s", "8d", "99999999999999999999s", "2 weeks", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["2", "MiB", "0 B", "5 GiB", "10 mib", "18446744073709551615 GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
