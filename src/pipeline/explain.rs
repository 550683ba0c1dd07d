//! Problems in words: where, the line itself with a caret under it, why, and what to do.

use crate::model::path::RawPath;
use crate::model::problem::{Problem, Severity};
use std::fmt::Write as _;

/// The text of the report that stands beside a rejected drop.
///
/// It follows from the problems alone, so that looking at the same file again writes nothing.
pub fn report(path: &RawPath, problems: &[Problem]) -> String {
    let name = path.to_string();
    let file = name.rsplit('/').next().unwrap_or(&name);
    let errors = problems.iter().filter(|it| it.is_error()).count();
    let (count, what) = match errors {
        1 => ("one problem".to_owned(), "it"),
        n => (format!("{n} problems"), "them"),
    };
    let mut text = format!(
        "{file} was not taken: {count}.\n\nThe file is as you left it. Mend {what} and save it; it is \
         then taken by itself, and this report goes away.\n\n"
    );
    text.push_str(&render(file, problems, false));
    text
}

/// The problems of one file, for a terminal or a report.
pub fn render(name: &str, problems: &[Problem], colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let mut out = String::new();
    for it in problems {
        let (code, word) = match it.severity {
            Severity::Error => ("1;31", "error"),
            Severity::Warning => ("1;33", "warning"),
        };
        let word = paint(code, &format!("{word}[{}]", it.rule));
        let _ = writeln!(out, "{word}: {}", paint("1", &printable(&it.message)));
        let mut place = printable(name);
        for number in [it.line, it.column].into_iter().flatten() {
            let _ = write!(place, ":{number}");
        }
        if let Some(document) = it.document {
            let _ = write!(place, " (document {document})");
        }
        let _ = writeln!(out, "  {} {place}", paint("34", "-->"));
        if let (Some(line), Some(excerpt)) = (it.line, &it.excerpt) {
            let excerpt = printable(excerpt);
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let bar = paint("34", "|");
            let _ = writeln!(out, "{} {bar} {excerpt}", paint("34", &number));
            // Of a very long line only the beginning is shown.
            let shown = u32::try_from(excerpt.chars().count()).unwrap_or(u32::MAX);
            if let Some(column) = it.column.filter(|it| *it <= shown.saturating_add(1)) {
                let _ = writeln!(
                    out,
                    "{margin} {bar} {}{}",
                    indent(&excerpt, column),
                    paint(code, "^")
                );
            }
        }
        if let Some(hint) = &it.hint {
            let _ = writeln!(out, "  {}: {}", paint("32", "help"), printable(hint));
        }
        out.push('\n');
    }
    out
}

/// As much blank as stands before a column. Tabs stay tabs, so that the caret stands where an
/// editor would put it.
fn indent(excerpt: &str, column: u32) -> String {
    let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    excerpt.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect()
}

/// What somebody wrote, without what could play tricks on a terminal.
fn printable(text: &str) -> String {
    let tricks = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    text.chars().map(|c| if tricks(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caret_stands_under_what_is_not_shown() {
        let mut it = Problem::error("syntax", "far right").at(1, 5000);
        it.excerpt = Some("a".repeat(200));
        let told = render("a.yaml", &[it], false);
        assert!(told.contains("a.yaml:1:5000") && !told.contains('^'), "{told}");
    }

    #[test]
    fn a_finding_reads_like_a_compiler_s() {
        let mut it = Problem::error("bad-name", "`A\u{1b}[2J` cannot name a resource")
            .at(5, 9)
            .in_document(2)
            .hint("use lower-case letters");
        it.excerpt = Some("\tname: A".into());
        assert_eq!(
            render("a.yaml", &[it], false),
            "error[bad-name]: `A\u{fffd}[2J` cannot name a resource\n  --> a.yaml:5:9 (document 2)\n\
             5 | \tname: A\n  | \t       ^\n  help: use lower-case letters\n\n"
        );
    }
}
