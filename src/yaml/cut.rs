//! Cutting fields out of a text, and items out of a list, by their place.
//!
//! Whatever is cut is parsed again by the caller and compared with the value wanted: a cut that
//! would change anything else is not made.

use super::{Content, Node, line_end, line_start};
use std::ops::Range;

/// Where the entries at `paths` (keys from the root down) stand in the text that `root` was read
/// from, so that they can be taken out with [`without`].
///
/// In block style whole lines go, comments above and below stay; in braces the comma goes along.
/// A mapping that is left empty goes as well, below the first key of its path.
pub fn spans(text: &str, root: &Node, paths: &[Vec<&str>]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> =
        widen(root, paths).iter().filter_map(|it| entry_span(text, root, it)).collect();
    spans.sort_by_key(|it| (it.start, it.end));
    spans
}

/// The text without `spans`, which are sorted by their beginning.
pub fn without(text: &str, spans: &[Range<usize>]) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        if span.start >= at {
            kept.push_str(&text[at..span.start]);
        }
        at = at.max(span.end);
    }
    kept.push_str(&text[at..]);
    kept
}

/// Replaces paths by their parent where all entries of the parent go.
fn widen<'a>(root: &Node, paths: &[Vec<&'a str>]) -> Vec<Vec<&'a str>> {
    let mut widened: Vec<Vec<&str>> = Vec::new();
    for path in paths {
        let (last, parent) = match path.split_last() {
            Some((last, parent)) if parent.len() >= 2 => (last, parent),
            _ => {
                widened.push(path.clone());
                continue;
            }
        };
        let entries =
            parent.iter().try_fold(root, |it, key| it.get(key)).map_or(&[][..], Node::entries);
        let goes = |key: Option<&str>| {
            key == Some(last)
                || paths.iter().any(|it| it[..it.len() - 1] == *parent && it.last().copied() == key)
        };
        let all = entries.iter().all(|(key, _)| goes(key.text()));
        widened.push(if all { parent.to_vec() } else { path.clone() });
    }
    widened
}

fn entry_span(text: &str, root: &Node, path: &[&str]) -> Option<Range<usize>> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(root, |it, key| it.get(key))?;
    if parent.alias {
        return None;
    }
    let entries = parent.entries();
    let n = entries.iter().position(|(key, _)| key.text() == Some(last))?;
    let (key, value) = &entries[n];
    if parent.flow {
        return Some(match (entries.get(n + 1), n.checked_sub(1).map(|it| &entries[it])) {
            (Some((next, _)), _) => key.span.start..next.span.start,
            (None, Some((_, before))) => {
                before.content_end()..value.content_end().max(key.span.end)
            }
            (None, None) => key.span.start..value.content_end().max(key.span.end),
        });
    }
    let end = value.content_end().max(key.span.end);
    // A block scalar ends at the beginning of a line already.
    let end = match text[..end].ends_with('\n') {
        true => end,
        false => line_end(text, end),
    };
    Some(line_start(text, key.span.start)..end)
}

/// The text of the `n`-th item of a list, as a document of its own: moved to the left margin.
pub fn item(text: &str, items: &[Node], n: usize, flow: bool) -> String {
    let node = &items[n];
    if flow || node.flow || node.alias {
        return format!("{}\n", &text[node.span.clone()]);
    }
    let start = line_start(text, node.span.start);
    let column = text[start..node.span.start].chars().count();
    // Up to the next item and the comments above it; the last item ends where its content does.
    let end = match items.get(n + 1) {
        Some(next) => lead(text, line_start(text, next.span.start), column),
        None => {
            let end = node.content_end().max(node.span.start);
            // A block scalar ends at the beginning of a line already.
            if text[..end].ends_with('\n') { end } else { line_end(text, end) }
        }
    };
    let mut own = String::new();
    for line in text[lead(text, start, column)..start].lines() {
        own.push_str(line.trim_start_matches(' '));
        own.push('\n');
    }
    for (k, line) in
        text[node.span.start..end.max(node.span.start)].split_inclusive('\n').enumerate()
    {
        let blank = line.len() - line.trim_start_matches(' ').len();
        let dedent = if k == 0 { 0 } else { blank.min(column) };
        own.push_str(&line[dedent..]);
    }
    own
}

/// Where the comments begin that stand directly above the line at `at`, no deeper than its dash.
fn lead(text: &str, at: usize, column: usize) -> usize {
    let mut begin = at;
    while begin > 0 {
        let above = line_start(text, begin - 1);
        let line = &text[above..begin];
        let blank = line.len() - line.trim_start_matches(' ').len();
        if !line[blank..].starts_with('#') || blank >= column {
            break;
        }
        begin = above;
    }
    begin
}

/// The text of a document as it is written: from its comments to its end.
///
/// It ends with the region, give or take a line end, so that a place in the region is as far from
/// its end in both.
pub fn tidy(preface: &str, region: &str) -> String {
    let mut text = String::with_capacity(preface.len() + region.len() + 1);
    // Directives stand before the `---` too, and mean nothing without it.
    for line in preface.lines() {
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(region);
    if text.starts_with('\n') {
        let from = text.len() - text.trim_start_matches('\n').len();
        text.drain(..from);
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The same without the blank lines at its end. They are part of the content where the text ends
/// in a block scalar that keeps them, so whoever calls this compares.
pub fn trim_end(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', ' ', '\t']).len());
    text.push('\n');
    text
}

/// Says whether a node is a list.
pub fn as_list(node: &Node) -> Option<&[Node]> {
    match &node.content {
        Content::Sequence(items) => Some(items),
        Content::Scalar { .. } | Content::Mapping(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Limits;
    use crate::yaml::parse::parse;

    fn cut(text: &str, paths: &[&[&str]]) -> String {
        let (documents, fault) = parse(text, Limits::default());
        assert_eq!(fault, None);
        let paths: Vec<Vec<&str>> = paths.iter().map(|it| it.to_vec()).collect();
        without(text, &spans(text, documents[0].root.as_ref().unwrap(), &paths))
    }

    #[test]
    fn a_cut_leaves_every_other_line() {
        let text = "# top\nmetadata:\n  # who\n  name: a # me\n  uid: 1 # cut\n  labels:\n    x: y\n\n# tail\nstatus:\n  a:\n  - b\n  - c: |\n      d\n\n      e\n# end\nspec: {}\n";
        let kept = "# top\nmetadata:\n  # who\n  name: a # me\n  labels:\n    x: y\n\n# tail\n# end\nspec: {}\n";
        assert_eq!(cut(text, &[&["metadata", "uid"], &["status"]]), kept);
    }

    #[test]
    fn a_cut_in_braces_takes_its_comma() {
        let text = "{\"a\": 1, \"status\": {\"x\": [1, 2]}, \"b\": 2}\n";
        assert_eq!(cut(text, &[&["status"]]), "{\"a\": 1, \"b\": 2}\n");
        assert_eq!(cut(text, &[&["b"]]), "{\"a\": 1, \"status\": {\"x\": [1, 2]}}\n");
        assert_eq!(cut("{\n  \"a\": 1,\n  \"b\": 2\n}\n", &[&["a"]]), "{\n  \"b\": 2\n}\n");
    }

    #[test]
    fn a_mapping_left_empty_goes_as_well() {
        let text = "metadata:\n  annotations:\n    k: |\n      {}\n  name: a\n";
        assert_eq!(cut(text, &[&["metadata", "annotations", "k"]]), "metadata:\n  name: a\n");
    }

    #[test]
    fn a_key_without_a_value_is_cut() {
        assert_eq!(
            cut("metadata:\n  uid:\n  name: a\nstatus:\n", &[&["metadata", "uid"], &["status"]]),
            "metadata:\n  name: a\n"
        );
    }
}
