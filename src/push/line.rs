//! Packet lines: four hex digits of length, then the bytes.
//!
//! Everything the remote sends is read through here, so this is where it is counted: a reader
//! takes no more than its limit, and never holds more than one line.

use std::io::{self, Read, Write};

use super::error::{Error, Stop};

/// The most bytes a line may carry, its length digits not counted.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 65516;

/// One line as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Data(&'a [u8]),
    /// `0000`
    Flush,
    /// `0001` and `0002`, which this protocol never sends.
    Marker,
    /// The other side closed between two lines.
    End,
}

/// Reads lines, up to a number of bytes in all.
pub(crate) struct Lines<R> {
    inner: R,
    line: Vec<u8>,
    what: &'static str,
    left_bytes: u64,
    limit_bytes: u64,
}

impl<R: Read> Lines<R> {
    /// `what` names the thing in errors.
    pub(crate) fn new(inner: R, what: &'static str, limit_bytes: u64) -> Self {
        Lines { inner, line: Vec::new(), what, left_bytes: limit_bytes, limit_bytes }
    }

    /// The next line. A stream that ends within a line is an [`io::ErrorKind::UnexpectedEof`].
    pub(crate) fn next(&mut self) -> io::Result<Result<Line<'_>, Error>> {
        let mut digits = [0; 4];
        let mut have = 0;
        while have < digits.len() {
            match self.inner.read(&mut digits[have..]) {
                Ok(0) if have == 0 => return Ok(Ok(Line::End)),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => have += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        let length = std::str::from_utf8(&digits)
            .ok()
            .filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|it| usize::from_str_radix(it, 16).ok());
        let payload = match length {
            Some(0) => return Ok(Ok(Line::Flush)),
            Some(1 | 2) => return Ok(Ok(Line::Marker)),
            Some(n) if (4..=PAYLOAD_BYTES_MAX + 4).contains(&n) => n - 4,
            _ => {
                let detail = format!("bad line length `{}`", digits.escape_ascii());
                return Ok(Err(Error::Protocol { what: self.what, detail }));
            }
        };
        self.left_bytes = self.left_bytes.checked_sub(payload as u64 + 4).ok_or_else(|| {
            io::Error::from(Stop::Size { what: self.what, limit_bytes: self.limit_bytes })
        })?;
        self.line.resize(payload, 0);
        self.inner.read_exact(&mut self.line)?;
        Ok(Ok(Line::Data(&self.line)))
    }

    pub(crate) fn what(&self) -> &'static str {
        self.what
    }
}

/// Appends one line.
pub(crate) fn put(out: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "callers keep names and options short");
    write!(out, "{:04x}", payload.len() + 4).expect("a vector takes all");
    out.extend_from_slice(payload);
}

/// `0000`
pub(crate) const FLUSH: &[u8] = b"0000";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_come_back_as_they_went() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"one\n");
        put(&mut bytes, b"");
        bytes.extend_from_slice(FLUSH);
        let mut lines = Lines::new(&*bytes, "test", 100);
        assert_eq!(lines.next().unwrap().unwrap(), Line::Data(b"one\n"));
        assert_eq!(lines.next().unwrap().unwrap(), Line::Data(b""));
        assert_eq!(lines.next().unwrap().unwrap(), Line::Flush);
        assert_eq!(lines.next().unwrap().unwrap(), Line::End);
    }

    #[test]
    fn a_stream_of_lines_is_cut_at_its_limit() {
        let bytes = b"0008abcd".repeat(100);
        let mut lines = Lines::new(&*bytes, "test", 80);
        let err = loop {
            match lines.next() {
                Ok(it) => drop(it.unwrap()),
                Err(err) => break Error::wire("u", "reading", err),
            }
        };
        assert!(matches!(err, Error::Limit { what: "test", limit_bytes: 80 }), "{err:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut lines = Lines::new(&*bytes, "test", 1000);
            for _ in 0..=bytes.len() {
                match lines.next() {
                    Ok(Ok(Line::End)) | Ok(Err(_)) | Err(_) => return Ok(()),
                    Ok(Ok(_)) => {}
                }
            }
            prop_assert!(false, "it never ended");
        }
    }
}
