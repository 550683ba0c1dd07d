//! Bytes become text: byte order marks, UTF-16, line ends; what is no text is told with its place.

use super::Fault;

/// Decodes a file: UTF-8 (with or without a byte order mark) or UTF-16 with one.
/// Line ends become LF and a last line without one gets it, as editors do; nothing else changes, so
/// lines and columns are those of the file.
pub fn decode(bytes: &[u8]) -> Result<String, Fault> {
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest, 3)?,
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ if is_bare_utf16(bytes) => {
            let message = "this looks like UTF-16 without a byte order mark";
            let hint = "save the file as UTF-8, or as UTF-16 with a byte order mark";
            return Err(Fault::new("not-utf-8", message, 0).hint(hint));
        }
        _ => utf8(bytes, 0)?,
    };
    let text = match text.contains('\r') {
        true => text.replace("\r\n", "\n").replace('\r', "\n"),
        false => text,
    };
    let mut text = text;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match oddity(&text) {
        None => Ok(text),
        Some(fault) => Err(fault),
    }
}

/// The first character that no manifest may hold as it is.
pub(super) fn oddity(text: &str) -> Option<Fault> {
    // Almost every file is plain ASCII, and bytes are counted off faster than characters.
    if is_plain(text.as_bytes()) {
        return None;
    }
    // libyaml ends lines at these, newer readers do not: the same file would say two things.
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_odd_break(*c)) {
        let message = format!(
            "U+{:04X} stands here, which some readers take for the end of the line",
            u32::from(c)
        );
        let hint = format!(
            "use an ordinary line end, or write \\u{:04x} within double quotes",
            u32::from(c)
        );
        return Some(Fault::new("odd-line-end", message, at).hint(hint));
    }
    let strange = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let (at, c) = text.char_indices().find(|(_, c)| strange(*c))?;
    let message = format!("there is a control character here (U+{:04X})", u32::from(c));
    let hint = "remove it; YAML takes no control characters but tabs and line ends";
    Some(Fault::new("control-character", message, at).hint(hint))
}

fn is_plain(bytes: &[u8]) -> bool {
    let plain = |it: &u8| matches!(it, b' '..=b'~' | b'\n' | b'\t');
    // Many at once, without a way out between two, is what processors are good at.
    bytes.chunks(64).all(|it| it.iter().fold(true, |all, it| all & plain(it)))
}

fn is_odd_break(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Says whether every other byte at the beginning is zero, and no other.
fn is_bare_utf16(bytes: &[u8]) -> bool {
    const SEEN: usize = 64;
    let begin = &bytes[..bytes.len().min(SEEN) & !1];
    let zeros = |first: usize| {
        begin.chunks_exact(2).all(|it| it[first] == 0 && it[1 - first] != 0 && it[1 - first] < 0x80)
    };
    begin.len() >= 4 && (zeros(0) || zeros(1))
}

/// `before` is how many bytes of the file stand before these.
fn utf8(bytes: &[u8], before: usize) -> Result<String, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let at = error.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            // Lines are counted in the text before, which is all that can be shown.
            let place = before + at;
            let message = format!("byte {place} of the file (0x{byte:02x}) is not UTF-8");
            let hint = "save the file as UTF-8 (in most editors: Save with Encoding)";
            Err(Fault::new("not-utf-8", message, at).hint(hint))
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Fault> {
    let mut text = String::with_capacity(bytes.len() / 2);
    let mut place = 2;
    let wrong = |what: String, at: usize| {
        Err(Fault::new("not-utf-16", what, at).hint("save the file as UTF-8"))
    };
    for it in char::decode_utf16(bytes.chunks_exact(2).map(|it| unit([it[0], it[1]]))) {
        match it {
            Ok(c) => {
                text.push(c);
                place += 2 * c.len_utf16();
            }
            Err(it) => {
                let half = it.unpaired_surrogate();
                let what = format!(
                    "byte {place} of the file begins half a character (U+{half:04X}), which is not UTF-16"
                );
                return wrong(what, text.len());
            }
        }
    }
    match bytes.len().is_multiple_of(2) {
        true => Ok(text),
        false => {
            let what = "the byte order mark says UTF-16, but the file ends within a character";
            wrong(what.to_owned(), text.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_line_ends_are_taken_off() {
        assert_eq!(decode(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n").unwrap(), "a: 1\nb: 2\n");
        assert_eq!(decode(b"\xff\xfea\0:\0 \x001\0").unwrap(), "a: 1\n");
        assert_eq!(decode(b"\xfe\xff\0a").unwrap(), "a\n");
        assert_eq!(decode(b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        assert_eq!(decode(b"ab\xff").unwrap_err().at, 2);
        assert_eq!(decode(b"ab\xff").unwrap_err().rule, "not-utf-8");
        assert_eq!(decode(b"a: \0").unwrap_err().rule, "control-character");
        assert_eq!(decode(b"a: \x1b[31m").unwrap_err().rule, "control-character");
        assert_eq!(decode(b"\xff\xfea").unwrap_err().rule, "not-utf-16");
        let half = decode(b"\xff\xfea\0\x00\xd8b\0").unwrap_err();
        assert_eq!((half.rule, half.at), ("not-utf-16", 1));
        assert!(half.message.starts_with("byte 4 of the file") && half.message.contains("U+D800"));
        for bare in [&b"a\0:\0 \x001\0"[..], b"\0a\0:\0 \x001"] {
            let it = decode(bare).unwrap_err();
            assert!(it.rule == "not-utf-8" && it.message.contains("UTF-16"), "{}", it.message);
        }
        assert!(decode(b"\xef\xbb\xbfab\xff").unwrap_err().message.starts_with("byte 5 "));
        assert_eq!(decode("a: \u{9b}31m".as_bytes()).unwrap_err().rule, "control-character");
        assert_eq!(decode("a\u{2028}b".as_bytes()).unwrap_err().rule, "odd-line-end");
        assert_eq!(decode("a\u{85}b".as_bytes()).unwrap_err().rule, "odd-line-end");
        assert_eq!(decode("a\u{fffe}b".as_bytes()).unwrap_err().rule, "control-character");
    }
}
