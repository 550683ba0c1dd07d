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
        let _ = writeln!(out, "{word}: {}", paint("1", &it.message));
        let mut place = name.to_owned();
        for number in [it.line, it.column].into_iter().flatten() {
            let _ = write!(place, ":{number}");
        }
        if let Some(document) = it.document {
            let _ = write!(place, " (document {document})");
        }
        let _ = writeln!(out, "  {} {place}", paint("34", "-->"));
        if let (Some(line), Some(excerpt)) = (it.line, &it.excerpt) {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let bar = paint("34", "|");
            let _ = writeln!(out, "{} {bar} {excerpt}", paint("34", &number));
            if let Some(column) = it.column {
                let column = usize::try_from(column).unwrap_or(1).saturating_sub(1);
                // Tabs stay tabs, so that the caret stands where an editor would put it.
                let indent: String = excerpt
                    .chars()
                    .take(column)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let _ = writeln!(out, "{margin} {bar} {indent}{}", paint(code, "^"));
            }
        }
        if let Some(hint) = &it.hint {
            let _ = writeln!(out, "  {}: {hint}", paint("32", "help"));
        }
        out.push('\n');
    }
    out
}
