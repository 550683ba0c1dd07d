//! Documents as nearly everybody writes them, read line by line.
//!
//! Block mappings and lists whose scalars stand on one line each, words in brackets and braces, and
//! comments: what libyaml makes of these is known, down to the places, so it need not be asked.
//! Anything else in a document, and first of all any mistake, leaves all of the document to libyaml:
//! it alone says what is YAML, and why something is not. That both read the same is tested, and
//! fuzzed.

use super::build::Builder;
use super::parse::{Parsed, is_marker};
use super::{Content, Limits, Style, line_end};
use std::ops::Range;

/// What is longer is no key to libyaml, which looks 1,024 bytes back for its beginning.
const KEY_BYTES_MAX: usize = 1000;

/// The document that begins at `from`, which is the beginning of the text or a `---`; none where it
/// is not as plain as that, or holds nothing.
///
/// The text ends with a line feed and holds no character that [`super::decode`] would refuse.
pub(super) fn document(text: &str, from: usize, limits: Limits) -> Option<Parsed> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        text,
        builder: Builder::new(limits),
        levels: Vec::new(),
        gap: Some(from),
    };
    let head = reader.next_line(from)?;
    let (preface, begin) = match is_marker(&text[head..]) {
        true => (from..head, reader.behind_marker(head)?),
        false => (from..from, from),
    };
    let mut at = begin;
    let end = loop {
        match reader.next_line(at) {
            Some(line) if !is_marker(&text[line..]) => at = reader.line(line)?,
            end => break end.unwrap_or(text.len()),
        }
    };
    reader.finish(end)?;
    let root = Some(reader.builder.take()?);
    Some(Parsed { root, region: begin..end, preface, alone: true })
}

/// A collection that is being read, and the column of its keys or dashes.
#[derive(Clone, Copy)]
struct Level {
    column: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Mapping,
    List,
    /// A list whose dashes stand below the key it belongs to.
    FlushList,
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    builder: Builder,
    levels: Vec<Level>,
    /// Behind the colon, dash or `---` whose value has not been met yet.
    gap: Option<usize>,
}

impl Reader<'_> {
    /// Where the next line begins that holds more than a comment, at `at` or behind it.
    fn next_line(&self, mut at: usize) -> Option<usize> {
        while at < self.bytes.len() {
            let first = self.blanks(at);
            if !matches!(self.bytes[first], b'\n' | b'#') {
                return Some(at);
            }
            at = line_end(self.text, first);
        }
        None
    }

    /// Reads one line: dashes, then a key with its value, or a value.
    fn line(&mut self, line: usize) -> Option<usize> {
        let mut at = self.blanks(line);
        let mut is_item = false;
        while self.is_dash(at) {
            self.settle(at - line, at, true)?;
            is_item = true;
            self.gap = Some(at + 1);
            at = self.blanks(at + 1);
            if let Some(end) = self.over(at) {
                return Some(end);
            }
        }
        let mut word = self.scalar(at);
        if let Some((content, end)) = word.take_if(|it| self.is_colon(it.1)) {
            if end - at > KEY_BYTES_MAX {
                return None;
            }
            self.settle(at - line, at, false)?;
            self.builder.scalar(content, at..end, None).ok()?;
            self.gap = Some(end + 1);
            at = self.blanks(end + 1);
            if let Some(end) = self.over(at) {
                return Some(end);
            }
            word = self.scalar(at);
        } else if !is_item {
            return None;
        }
        self.gap = None;
        let end = match word {
            Some((content, end)) => {
                self.builder.scalar(content, at..end, None).ok()?;
                end
            }
            None => self.flow(at)?,
        };
        // A comment has a blank before it.
        let behind = self.blanks(end);
        self.over(behind).filter(|_| behind > end || self.bytes[end] == b'\n')
    }

    /// Closes what has ended where a key or a dash stands at `column`, and opens what begins there.
    fn settle(&mut self, column: usize, at: usize, dash: bool) -> Option<()> {
        let kind = match (self.gap, self.levels.last()) {
            (None, _) => None,
            (Some(_), Some(top)) if column < top.column => None,
            (Some(_), Some(top)) if column == top.column => {
                (dash && top.kind == Kind::Mapping).then_some(Kind::FlushList)
            }
            (Some(_), _) => Some(if dash { Kind::List } else { Kind::Mapping }),
        };
        if let Some(kind) = kind {
            self.gap = None;
            self.levels.push(Level { column, kind });
            return self.builder.open(None, at, false, dash).ok();
        }
        self.fill()?;
        let mut top = self.levels.last()?;
        while column < top.column || (column == top.column && top.kind == Kind::FlushList && !dash)
        {
            self.builder.shut(at).ok()?;
            self.levels.pop();
            top = self.levels.last()?;
        }
        (column == top.column && dash == (top.kind != Kind::Mapping)).then_some(())
    }

    /// A value that was not met is nothing, and stands right behind its colon or dash.
    fn fill(&mut self) -> Option<()> {
        let Some(gap) = self.gap.take() else { return Some(()) };
        let nothing = Content::Scalar { text: String::new(), style: Style::Plain, tag: None };
        self.builder.scalar(nothing, gap..gap, None).ok()
    }

    /// Closes all that is open, where the document ends; none where nothing has begun.
    fn finish(&mut self, end: usize) -> Option<()> {
        self.levels.last()?;
        self.fill()?;
        while self.levels.pop().is_some() {
            self.builder.shut(end).ok()?;
        }
        Some(())
    }

    /// Reads brackets or braces that end on their line and hold nothing but words, and says where they
    /// end.
    fn flow(&mut self, at: usize) -> Option<usize> {
        let (list, close) = match self.bytes[at] {
            b'[' => (true, b']'),
            b'{' => (false, b'}'),
            _ => return None,
        };
        self.builder.open(None, at, true, list).ok()?;
        let mut end = self.blanks(at + 1);
        while self.bytes[end] != close {
            if !list {
                let (key, behind) = self.word(end)?;
                if !self.is_colon(behind) || behind - end > KEY_BYTES_MAX {
                    return None;
                }
                self.builder.scalar(key, end..behind, None).ok()?;
                end = self.blanks(behind + 1);
            }
            end = match self.word(end) {
                Some((content, behind)) => {
                    self.builder.scalar(content, end..behind, None).ok()?;
                    behind
                }
                // No deeper than the limit, which the builder knows.
                None => self.flow(end)?,
            };
            end = self.blanks(end);
            match self.bytes[end] {
                b',' => end = self.blanks(end + 1),
                it if it == close => (),
                _ => return None,
            }
        }
        self.builder.shut(end + 1).ok()?;
        Some(end + 1)
    }

    /// A scalar in quotes, or one without that is one wherever it stands.
    fn word(&self, at: usize) -> Option<(Content, usize)> {
        let plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b'/');
        match self.bytes[at] {
            b'"' | b'\'' => self.scalar(at),
            it if it.is_ascii_alphanumeric() => {
                let len = self.bytes[at..].iter().take_while(|it| plain(it)).count();
                Some(self.content(at..at + len, Style::Plain, at + len))
            }
            _ => None,
        }
    }

    /// The scalar at `at`, and where it ends.
    fn scalar(&self, at: usize) -> Option<(Content, usize)> {
        let quote = self.bytes[at];
        if !matches!(quote, b'"' | b'\'') {
            let end = self.plain_end(at)?;
            return Some(self.content(at..end, Style::Plain, end));
        }
        let odd = |it: &u8| *it == quote || matches!(it, b'\\' | b'\n' | b'\t');
        let end = at + 1 + self.bytes[at + 1..].iter().position(odd)?;
        // Two single quotes in a row are one that is meant.
        let ends = self.bytes[end] == quote && self.bytes.get(end + 1) != Some(&quote);
        ends.then(|| self.content(at + 1..end, Style::Text, end + 1))
    }

    fn content(&self, inner: Range<usize>, style: Style, end: usize) -> (Content, usize) {
        (Content::Scalar { text: self.text[inner].to_owned(), style, tag: None }, end)
    }

    /// Where the scalar without quotes ends that begins at `at`, if it is one to everybody.
    fn plain_end(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes;
        let begins = match bytes[at] {
            b'-' => bytes.get(at + 1).is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'.'),
            b'.' => !self.text[at..].starts_with("..."),
            it => {
                it.is_ascii_alphanumeric()
                    || matches!(it, b'_' | b'/' | b'~' | b'$' | b'(' | b'+' | b'=' | b'^')
                    || !it.is_ascii()
            }
        };
        if !begins {
            return None;
        }
        let mut end = at;
        for (n, it) in bytes.iter().enumerate().skip(at) {
            match it {
                b'\n' => break,
                b'\t' => return None,
                b' ' => (),
                b'#' if end < n => break,
                b':' if matches!(bytes.get(n + 1), Some(b' ' | b'\n')) => break,
                _ => end = n + 1,
            }
        }
        Some(end)
    }

    fn is_colon(&self, at: usize) -> bool {
        self.bytes[at] == b':' && matches!(self.bytes.get(at + 1), Some(b' ' | b'\n'))
    }

    fn is_dash(&self, at: usize) -> bool {
        self.bytes[at] == b'-' && matches!(self.bytes.get(at + 1), Some(b' ' | b'\n'))
    }

    /// Where the next line begins, if nothing but a comment is left of this one.
    fn over(&self, at: usize) -> Option<usize> {
        matches!(self.bytes[at], b'\n' | b'#').then(|| line_end(self.text, at))
    }

    /// Behind the spaces at `at`; before the end, since the text ends with a line feed.
    fn blanks(&self, at: usize) -> usize {
        at + self.bytes[at..].iter().take_while(|it| **it == b' ').count()
    }

    /// Where the document begins behind the `---` at `at`, if it stands alone on its line.
    fn behind_marker(&self, at: usize) -> Option<usize> {
        let end = self.blanks(at + "---".len());
        (self.bytes[end] == b'\n').then_some(end + 1)
    }
}

#[cfg(test)]
mod tests;
