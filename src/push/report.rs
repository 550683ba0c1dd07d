//! What the remote says last: hook messages as they come, then a status for each reference.
//!
//! With a sideband the report travels inside band 1, framed once more; bands 2 and 3 are text for
//! people. Hooks run before the outer flush, so reading goes on to that. Without a sideband the
//! report is bare and the conversation ends with the stream.

use std::io::Read;

use gix::bstr::{BString, ByteSlice};

use super::{
    error::Error,
    line::{Line, Lines},
};

/// The remote's answer in full.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// How unpacking went, if the remote said so.
    pub(crate) unpack: Option<Result<(), BString>>,
    pub(crate) refs: Vec<Status>,
    /// The remote ended the conversation with a message on band 3.
    pub(crate) fatal: Option<BString>,
}

/// One reference's line, and the option lines after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) name: BString,
    pub(crate) result: Result<(), BString>,
    pub(crate) options: Vec<BString>,
}

/// Collects text into lines and hands each on; a carriage return ends a line that a terminal
/// would overwrite.
pub(crate) struct Messages<'a> {
    line: Vec<u8>,
    emit: &'a mut dyn FnMut(&[u8], bool),
}

/// A line without an end is handed on in pieces of this size.
const LINE_BYTES_MAX: usize = 8 * 1024;

impl<'a> Messages<'a> {
    pub(crate) fn new(emit: &'a mut dyn FnMut(&[u8], bool)) -> Self {
        Messages { line: Vec::new(), emit }
    }

    pub(crate) fn take(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' | b'\r' => {
                    (self.emit)(&self.line, *byte == b'\r');
                    self.line.clear();
                }
                _ => self.line.push(*byte),
            }
            if self.line.len() >= LINE_BYTES_MAX {
                self.finish();
            }
        }
    }

    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            (self.emit)(&self.line, false);
            self.line.clear();
        }
    }
}

/// Reads to the end of the conversation.
///
/// `emit` gets each message line, and whether it was transient.
/// When the stream breaks after the report was complete, the report stands.
pub(crate) fn read<R: Read>(
    lines: &mut Lines<R>,
    url: &str,
    sideband: bool,
    emit: &mut dyn FnMut(&[u8], bool),
) -> Result<Report, Error> {
    if sideband { banded(lines, url, emit) } else { bare(lines, url) }
}

const READING: &str = "reading its report";

fn bare<R: Read>(lines: &mut Lines<R>, url: &str) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut flushed = false;
    loop {
        match lines.next() {
            Ok(Ok(Line::Data(line))) if !flushed => report.take(line)?,
            Ok(Ok(Line::Flush)) => flushed = true,
            Ok(Ok(Line::Data(_) | Line::Marker)) => {}
            Ok(Ok(Line::End)) => return Ok(report),
            // What follows the report is nobody's business; it only has to end.
            Ok(Err(_)) | Err(_) if flushed => return Ok(report),
            Ok(Err(err)) => return Err(err),
            Err(err) => return Err(Error::wire(url, READING, err)),
        }
    }
}

fn banded<R: Read>(
    lines: &mut Lines<R>,
    url: &str,
    emit: &mut dyn FnMut(&[u8], bool),
) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut inner = Inner::default();
    let mut messages = Messages::new(emit);
    let ended = loop {
        let line = match lines.next() {
            Ok(Ok(line)) => line,
            Ok(Err(err)) => break Some(err),
            Err(err) => break Some(Error::wire(url, READING, err)),
        };
        match line {
            Line::Data([1, data @ ..]) => inner.take(data, &mut report)?,
            Line::Data([2, text @ ..]) => messages.take(text),
            Line::Data([3, text @ ..]) => {
                report.fatal.get_or_insert_with(|| text.trim().into());
                messages.take(text);
            }
            // A keep-alive.
            Line::Data([]) => {}
            Line::Data(line) => {
                let ascii = line.starts_with(b"ERR ");
                let detail = if ascii {
                    line[4..].to_str_lossy().into_owned()
                } else {
                    format!("unknown band {}", line[0])
                };
                break Some(Error::Protocol { what: "the report", detail });
            }
            Line::Flush | Line::End => break None,
            Line::Marker => {}
        }
    };
    messages.finish();
    match ended {
        Some(err) if !inner.complete => Err(err),
        _ => Ok(report),
    }
}

/// The report's own framing inside band 1, put together from whatever pieces come.
#[derive(Default)]
struct Inner {
    pending: Vec<u8>,
    complete: bool,
}

impl Inner {
    fn take(&mut self, data: &[u8], report: &mut Report) -> Result<(), Error> {
        if self.complete {
            return Ok(());
        }
        self.pending.extend_from_slice(data);
        let mut used = 0;
        while let Some(digits) = self.pending.get(used..used + 4) {
            let mut lines = Lines::new(&self.pending[used..], "the report", u64::MAX);
            let have = self.pending.len() - used;
            match lines.next() {
                Ok(Ok(Line::Data(line))) => {
                    used += line.len() + 4;
                    report.take(line)?;
                }
                Ok(Ok(Line::Flush)) => {
                    self.complete = true;
                    break;
                }
                Ok(Ok(Line::Marker | Line::End)) => used += digits.len(),
                Ok(Err(err)) => return Err(err),
                // The rest of this line is still to come.
                Err(_) if have < super::line::PAYLOAD_BYTES_MAX + 4 => break,
                Err(err) => return Err(Error::local("the report", err)),
            }
        }
        self.pending.drain(..used);
        Ok(())
    }
}

impl Report {
    /// Whether there is a word on what became of the pack or of a reference.
    pub(crate) fn is_complete(&self) -> bool {
        self.unpack.is_some() || !self.refs.is_empty()
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(result) = line.strip_prefix(b"unpack ") {
            self.unpack = Some(if result == b"ok" { Ok(()) } else { Err(result.into()) });
        } else if let Some(name) = line.strip_prefix(b"ok ") {
            self.refs.push(Status { name: name.into(), result: Ok(()), options: Vec::new() });
        } else if let Some(rest) = line.strip_prefix(b"ng ") {
            let (name, reason) = rest.split_once_str(" ").unwrap_or((rest, b"failed"));
            let result = Err(reason.into());
            self.refs.push(Status { name: name.into(), result, options: Vec::new() });
        } else if let Some(option) = line.strip_prefix(b"option ") {
            if let Some(last) = self.refs.last_mut() {
                last.options.push(option.into());
            }
        } else {
            let detail = format!("bad line `{}`", line[..line.len().min(100)].as_bstr());
            return Err(Error::Protocol { what: "the report", detail });
        }
        Ok(())
    }
}

/// Hands on each line of what a child printed.
pub(crate) fn lines(text: &[u8], emit: &mut dyn FnMut(&[u8])) {
    text.lines().filter(|it| !it.trim().is_empty()).for_each(emit);
}
