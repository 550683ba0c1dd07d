//! Findings get their place: line and column, and the line itself for the caret under it.

use crate::model::document::{Document, Intake, Mark};
use crate::model::problem::Problem;
use crate::yaml::{Fault, Lines, decode};
use std::cell::OnceCell;

const EXCERPT_CHARS_MAX: usize = 200;

/// The lines of an intake, read again only where something has to be shown.
pub(super) struct Shown<'a> {
    intake: &'a Intake,
    lines: OnceCell<Lines<'static>>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(intake: &'a Intake) -> Shown<'a> {
        Shown { intake, lines: OnceCell::new() }
    }

    /// Puts a finding about `document` at `mark`.
    pub(super) fn place(&self, problem: Problem, document: &Document, mark: Mark) -> Problem {
        let lines = self.lines.get_or_init(|| Lines::owned(text(&self.intake.bytes)));
        let mut problem = problem.in_document(document.index).at(mark.line, mark.column);
        problem.excerpt = excerpt(lines, mark.line);
        problem
    }
}

/// A fault as a finding.
pub(super) fn problem(lines: &Lines, fault: Fault) -> Problem {
    let (line, column) = lines.position(fault.at);
    let mut it = Problem::error(fault.rule, fault.message);
    it.hint = fault.hint;
    it.excerpt = excerpt(lines, line);
    it.at(line, column)
}

/// The text of a file, as far as it can be shown.
pub(super) fn text(bytes: &[u8]) -> String {
    decode::decode(bytes).unwrap_or_else(|_| match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|it| unit([it[0], it[1]]));
    let lossy = |it: Result<char, _>| it.unwrap_or(char::REPLACEMENT_CHARACTER);
    char::decode_utf16(units).map(lossy).collect()
}

/// One line of the file (counted from 1), safe to show.
pub(super) fn excerpt(lines: &Lines, line: u32) -> Option<String> {
    let line = lines.get(line)?;
    let shown: String = line.chars().take(EXCERPT_CHARS_MAX).collect();
    let shown: Vec<String> =
        shown.split('\t').map(|it| crate::model::path::escape(it.as_bytes())).collect();
    Some(shown.join("\t").replace("\\\\", "\\"))
}
