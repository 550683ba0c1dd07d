//! What keeps a text from being read, in words: the parser's own say too little to people.

use super::{Fault, line_start};

/// Directives are compared with each other, so that many of them take for ever.
const DIRECTIVES_MAX: usize = 1_000;

/// The fault of a text that the parser itself fails on.
pub(super) fn unreadable(text: &str, from: usize) -> Fault {
    let signs = ['|', '>', '{', '[', '&', '*', '"', '\'', '?', '%'];
    let at = from + text[from..].find(signs).unwrap_or(0);
    Fault::new("unreadable", "the YAML parser cannot read this file", at)
        .hint("it holds an unusual use of signs such as | > ? % or quotes; write it more plainly")
}

/// The fault of a text with more directives than anybody writes.
pub(super) fn flooded(text: &str) -> Option<Fault> {
    let mut directives = text.match_indices('%').filter(|(at, _)| text[..*at].ends_with('\n'));
    let (at, _) = directives.nth(DIRECTIVES_MAX)?;
    let message = format!("there are more than {DIRECTIVES_MAX} lines that begin with `%`");
    Some(Fault::new("syntax", message, at).hint("manifests need no directives; remove them"))
}

/// What a fault of the grammar means, and how far the parser had come.
///
/// `bracket` is where the innermost bracket stands that is open there.
pub(super) fn of_grammar(
    text: &str,
    from: usize,
    bracket: Option<usize>,
    error: &libyaml_safer::Error,
) -> (Fault, usize) {
    let marks = [error.context_mark(), error.problem_mark()];
    let reached = marks.iter().flatten().map(|it| offset(text, from, it.index)).max();
    let reached = reached.unwrap_or(from);
    let fault = match bracket {
        // It reached to the end of the document: the bracket is the mistake, not where it ended.
        Some(at) if text[reached..].trim().is_empty() || text[reached..].starts_with("---") => {
            Fault::new("syntax", "this bracket is never closed", at)
                .hint("close it with ] or }, or put text that begins with it in quotes")
        }
        _ => explain(text, from, error),
    };
    (fault, reached)
}

fn explain(text: &str, from: usize, error: &libyaml_safer::Error) -> Fault {
    let problem = error.problem();
    let begun = ["could not find expected ':'", "unexpected end of stream", "expected ',' or"];
    // Where the thing began that never ends says more than where the text gave out.
    let mark = match begun.iter().any(|it| problem.contains(it)) {
        true => error.context_mark().or(error.problem_mark()),
        false => error.problem_mark(),
    };
    let at = mark.map_or(from, |it| offset(text, from, it.index));
    let here = line_at(text, at);
    if let Some(marker) = conflict_marker(text, from) {
        return Fault::new("merge-conflict", "git left both sides of a conflict here", marker)
            .hint("keep one side, and remove the lines with <<<<<<<, ======= and >>>>>>>");
    }
    if here.contains("{{") || here.contains("<no value>") {
        return template(at);
    }
    let indented_by_tab = here.trim_start_matches(' ').starts_with('\t');
    if text[at..].starts_with('\t') || (indented_by_tab && problem.contains("token")) {
        return Fault::new("tab", "a tab stands where YAML wants spaces", at)
            .hint("indent with spaces, two for each level");
    }
    let message = match error.context() {
        Some(context) => format!("this is not YAML: {problem} ({context})"),
        None => format!("this is not YAML: {problem}"),
    };
    let hint = match problem {
        it if it.contains("mapping values are not allowed") => {
            "a `: ` stands where none can be: check the indentation of this line and the one before, \
             and put text that holds `: ` in quotes"
        }
        it if it.contains("did not find expected key") || it.contains("block end") => {
            "check the indentation: keys of one mapping begin in the same column"
        }
        it if it.contains("could not find expected ':'") => {
            "a key needs a colon and a space behind it"
        }
        it if it.contains("found unexpected end of stream") => {
            "a quote or a bracket is never closed"
        }
        it if it.contains("Unicode character escape") => {
            "write the character itself instead of its \\u escapes"
        }
        it if it.contains("expected <document start>") => {
            "one document ends before this; put `---` between two, and remove what is left over"
        }
        it if it.contains("alphabetic or numeric") => "text that begins with * or & needs quotes",
        it if it.contains("expected ',' or") => "a bracket is never closed, or a comma is missing",
        it if it.contains("cannot start any token") => {
            "text that begins with this character needs quotes"
        }
        _ => "mend the line, or the one before it",
    };
    Fault::new("syntax", message, at).hint(hint)
}

pub(super) fn line_at(text: &str, at: usize) -> &str {
    text[line_start(text, at)..].lines().next().unwrap_or_default()
}

fn conflict_marker(text: &str, from: usize) -> Option<usize> {
    match text[from..].starts_with("<<<<<<< ") {
        true => Some(from),
        false => text[from..].find("\n<<<<<<< ").map(|it| from + it + 1),
    }
}

/// Where an index of the parser, which began at `from`, lies in the text.
pub(super) fn offset(text: &str, from: usize, index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX).saturating_add(from).min(text.len())
}

/// The fault of a file that still has to go through a template engine.
pub fn template(at: usize) -> Fault {
    Fault::new("template", "this looks like a template that nobody has filled in", at)
        .hint("render it first (helm template, envsubst, ...) and drop the result")
}
