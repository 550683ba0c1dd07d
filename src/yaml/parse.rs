//! Text becomes documents, under limits, one event at a time.

use super::{Content, Fault, Limits, Node, Style};
use libyaml_safer::{Event, EventData, MappingStyle, Parser, ScalarStyle, SequenceStyle};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More directives than this in one file are an attack.
const DIRECTIVES_MAX: usize = 1_000;

/// One document of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Its value; none where it holds nothing but comments.
    pub root: Option<Node>,
    /// Where its text stands: behind its `---` and up to the next. Comments are part of it.
    pub region: Range<usize>,
    /// Comments that stand before its `---`, where nothing else does.
    pub preface: Range<usize>,
}

/// Splits `text` into documents.
///
/// Gives the documents that were read, and the fault that ended the reading, if one did: behind a
/// mistake in the grammar nobody can say what the rest would mean.
pub fn parse(text: &str, limits: Limits) -> (Vec<Parsed>, Option<Fault>) {
    let mut documents = Vec::new();
    // The scanner panics where a block scalar ends in the middle of the last line.
    let whole = match text.is_empty() || text.ends_with('\n') {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{text}\n")),
    };
    let fault = match flooded(&whole) {
        Some(fault) => Some(fault),
        None => match catch_unwind(AssertUnwindSafe(|| read(&whole, limits, &mut documents))) {
            Ok(done) => done.err(),
            // The parser has sharp corners of its own; a file that finds one is that file's affair.
            Err(_) => Some(unreadable(&whole)),
        },
    };
    for it in &mut documents {
        it.region.end = it.region.end.min(text.len().max(it.region.start));
    }
    (documents, fault)
}

/// The fault of a text that the parser itself fails on.
fn unreadable(text: &str) -> Fault {
    let at = text.find(['|', '>', '{', '[', '&', '*', '"', '\'', '?', '%']).unwrap_or(0);
    Fault::new("unreadable", "the YAML parser cannot read this file", at)
        .hint("it holds an unusual use of signs such as | > ? % or quotes; write it more plainly")
}

/// Directives are compared with each other, so that many of them take for ever.
fn flooded(text: &str) -> Option<Fault> {
    let mut directives = text.match_indices("\n%");
    let (at, _) = directives.nth(DIRECTIVES_MAX)?;
    let message = format!("there are more than {DIRECTIVES_MAX} lines that begin with `%`");
    Some(Fault::new("syntax", message, at + 1).hint("manifests need no directives; remove them"))
}

fn read(text: &str, limits: Limits, documents: &mut Vec<Parsed>) -> Result<(), Fault> {
    let mut input = text.as_bytes();
    let mut parser: Parser<&mut &[u8]> = Parser::new();
    parser.set_input_string(&mut input);
    let mut builder = Builder::new(limits);
    // Where the text of the current document began, and the one before ended.
    let mut open: Option<(Range<usize>, usize)> = None;
    let mut free = 0;
    loop {
        let event = parser.parse().map_err(|it| fault(text, &it))?;
        let span = offset(text, event.start_mark.index)..offset(text, event.end_mark.index);
        match event.data {
            EventData::StreamStart { .. } => (),
            EventData::StreamEnd => break,
            EventData::DocumentStart { implicit, .. } => {
                if let Some(last) = documents.last_mut().filter(|it| it.region.end == usize::MAX) {
                    last.region.end = span.start;
                    free = span.start;
                }
                if documents.len() >= limits.documents_max {
                    let message = format!("there are more than {} documents", limits.documents_max);
                    return Err(Fault::new("too-many-documents", message, span.start)
                        .hint("split the file"));
                }
                let begin = if implicit { free } else { behind_marker(text, span.end) };
                let preface = if implicit { free..free } else { free..span.start };
                open = Some((preface, begin));
                builder = Builder::new(limits);
            }
            EventData::DocumentEnd { implicit } => {
                let (preface, begin) = open.take().unwrap_or((free..free, free));
                // Without a `...` the document reaches to the next `---`, or to the end.
                let end = if implicit { usize::MAX } else { span.start };
                free = if implicit { span.end } else { super::line_end(text, span.end) };
                let root = builder.take().filter(|it| !(it.span.is_empty() && it.is_null()));
                documents.push(Parsed { root, region: begin..end.max(begin), preface });
            }
            _ => builder.add(event, span).map_err(|it| match it.rule {
                // `{{ .x }}` without quotes is a mapping with a mapping as its key.
                "complex-key" if line_at(text, it.at).contains("{{") => template(it.at),
                _ => it,
            })?,
        }
    }
    Ok(())
}

/// The text of a document begins on the line behind its `---`, or right behind it.
fn behind_marker(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    match rest[blank..].starts_with('\n') {
        true => at + blank + 1,
        false => at + blank,
    }
}

fn offset(text: &str, index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX).min(text.len())
}

struct Builder {
    limits: Limits,
    nodes: usize,
    stack: Vec<Open>,
    anchors: HashMap<String, Node>,
    root: Option<Node>,
}

/// A collection that is being read.
struct Open {
    anchor: Option<String>,
    start: usize,
    flow: bool,
    items: Vec<Node>,
    mapping: bool,
}

impl Builder {
    fn new(limits: Limits) -> Builder {
        Builder { limits, nodes: 0, stack: Vec::new(), anchors: HashMap::new(), root: None }
    }

    fn take(&mut self) -> Option<Node> {
        self.root.take()
    }

    fn add(&mut self, event: Event, span: Range<usize>) -> Result<(), Fault> {
        let at = span.start;
        match event.data {
            EventData::Scalar { anchor, tag, value, style, .. } => {
                self.count(1, at)?;
                let tag = core_tag(tag, at)?;
                let style = match style {
                    ScalarStyle::Plain | ScalarStyle::Any => Style::Plain,
                    _ => Style::Text,
                };
                let content = Content::Scalar { text: value, style, tag };
                self.close(Node { content, span, flow: false, alias: false }, anchor)
            }
            EventData::SequenceStart { anchor, tag, style, .. } => {
                core_tag(tag, at)?;
                self.open(anchor, span, style == SequenceStyle::Flow, false)
            }
            EventData::MappingStart { anchor, tag, style, .. } => {
                core_tag(tag, at)?;
                self.open(anchor, span, style == MappingStyle::Flow, true)
            }
            EventData::SequenceEnd | EventData::MappingEnd => {
                let Some(open) = self.stack.pop() else { return Ok(()) };
                let content = match open.mapping {
                    true => Content::Mapping(pairs(open.items)?),
                    false => Content::Sequence(open.items),
                };
                let span = open.start..span.end;
                self.close(Node { content, span, flow: open.flow, alias: false }, open.anchor)
            }
            EventData::Alias { anchor } => {
                let Some(found) = self.anchors.get(&anchor) else {
                    let message =
                        format!("`*{anchor}` stands for nothing: no `&{anchor}` comes before it");
                    return Err(Fault::new("unknown-alias", message, at)
                        .hint("define the anchor in the same document, before its use"));
                };
                let (size, height) = (size(found), height(found));
                self.count(size, at)?;
                if self.stack.len() + height > self.limits.depth_max {
                    return Err(too_deep(self.limits, at));
                }
                let node = Node { span, alias: true, ..self.anchors[&anchor].clone() };
                self.close(node, None)
            }
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        anchor: Option<String>,
        span: Range<usize>,
        flow: bool,
        mapping: bool,
    ) -> Result<(), Fault> {
        self.count(1, span.start)?;
        if self.stack.len() >= self.limits.depth_max {
            return Err(too_deep(self.limits, span.start));
        }
        self.stack.push(Open { anchor, start: span.start, flow, items: Vec::new(), mapping });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: Option<String>) -> Result<(), Fault> {
        if let Some(anchor) = anchor {
            // What an anchor keeps counts as well: it is a copy.
            self.count(size(&node), node.span.start)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }

    fn count(&mut self, n: usize, at: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(n);
        if self.nodes <= self.limits.nodes_max {
            return Ok(());
        }
        let message = format!("the document holds more than {} values", self.limits.nodes_max);
        Err(Fault::new("too-many-values", message, at).hint(
            "aliases count as often as they are used; write what they stand for, or split the file",
        ))
    }
}

fn too_deep(limits: Limits, at: usize) -> Fault {
    let message = format!("collections nest deeper than {}", limits.depth_max);
    Fault::new("too-deep", message, at)
        .hint("no manifest needs that; check the brackets and indentation")
}

fn size(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 1,
        Content::Sequence(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Mapping(entries) => {
            1 + entries.iter().map(|(k, v)| size(k) + size(v)).sum::<usize>()
        }
    }
}

fn height(node: &Node) -> usize {
    match &node.content {
        Content::Scalar { .. } => 0,
        Content::Sequence(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Content::Mapping(entries) => 1 + entries.iter().map(|(_, v)| height(v)).max().unwrap_or(0),
    }
}

fn pairs(items: Vec<Node>) -> Result<Vec<(Node, Node)>, Fault> {
    let mut entries = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        if key.text().is_none() || key.is_null() {
            let what = if key.is_null() { "nothing" } else { "a collection" };
            let message = format!("{what} cannot be a key");
            return Err(Fault::new("complex-key", message, key.span.start)
                .hint("use text as the key; braces that are meant as text need quotes"));
        }
        if let Some(wrong) = value
            .merge_sources()
            .iter()
            .find(|it| key.is_merge() && !matches!(it.content, Content::Mapping(_)))
        {
            let message = "`<<` merges mappings, and this is none";
            return Err(Fault::new("merge-key", message, wrong.span.start)
                .hint("write an alias of a mapping, or put << in quotes if it is a name"));
        }
        entries.push((key, value));
    }
    Ok(entries)
}

fn core_tag(tag: Option<String>, at: usize) -> Result<Option<String>, Fault> {
    let Some(tag) = tag else { return Ok(None) };
    match tag.strip_prefix("tag:yaml.org,2002:") {
        Some(word @ ("str" | "int" | "float" | "bool" | "null" | "map" | "seq")) => {
            Ok(Some(word.to_owned()))
        }
        // A lone `!` says: text, whatever it looks like.
        _ if tag == "!" => Ok(Some("str".to_owned())),
        _ => {
            let tag: String = crate::model::path::escape(tag.as_bytes()).chars().take(60).collect();
            let message = format!("the tag `{tag}` is none that Kubernetes reads");
            Err(Fault::new("custom-tag", message, at)
                .hint("remove the tag, and write the value itself"))
        }
    }
}

fn fault(text: &str, error: &libyaml_safer::Error) -> Fault {
    let problem = error.problem();
    let begun = ["could not find expected ':'", "unexpected end of stream", "expected ',' or"];
    // Where the thing began that never ends says more than where the text gave out.
    let mark = match begun.iter().any(|it| problem.contains(it)) {
        true => error.context_mark().or(error.problem_mark()),
        false => error.problem_mark(),
    };
    let at = mark.map_or(0, |it| offset(text, it.index));
    let here = line_at(text, at);
    if let Some(marker) = conflict_marker(text) {
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

fn line_at(text: &str, at: usize) -> &str {
    text[super::line_start(text, at)..].lines().next().unwrap_or_default()
}

fn conflict_marker(text: &str) -> Option<usize> {
    match text.starts_with("<<<<<<< ") {
        true => Some(0),
        false => text.find("\n<<<<<<< ").map(|it| it + 1),
    }
}

/// The fault of a file that still has to go through a template engine.
pub fn template(at: usize) -> Fault {
    Fault::new("template", "this looks like a template that nobody has filled in", at)
        .hint("render it first (helm template, envsubst, ...) and drop the result")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docs(text: &str) -> Vec<String> {
        let (documents, fault) = parse(text, Limits::default());
        assert_eq!(fault, None, "{text}");
        documents.iter().map(|it| text[it.region.clone()].to_owned()).collect()
    }

    #[test]
    fn documents_keep_their_own_words() {
        assert_eq!(
            docs("# top\na: 1 # x\n---\n# two\nb: 2\n"),
            ["# top\na: 1 # x\n", "# two\nb: 2\n"]
        );
        assert_eq!(docs("--- # x\na: 1\n...\n# c\n---\nb: 2\n"), ["# x\na: 1\n", "b: 2\n"]);
        assert_eq!(docs("a: \u{e9}\u{1f600}\n---\nb: 2"), ["a: \u{e9}\u{1f600}\n", "b: 2"]);
        assert_eq!(docs("%YAML 1.1\n---\na: 1\n"), ["a: 1\n"]);
    }

    #[test]
    fn a_block_may_end_with_the_text() {
        for text in ["a: |\n  x", "a: >\n  x\n  y", "a: |+\n  x", "- |\n x"] {
            let (documents, fault) = parse(text, Limits::default());
            assert!(fault.is_none() && documents.len() == 1, "{text:?}");
            assert_eq!(documents[0].region, 0..text.len());
        }
    }

    #[test]
    fn a_document_without_content_has_no_root() {
        for text in ["", "# x\n", "---\n", "---\n# x\n---\n"] {
            let (documents, fault) = parse(text, Limits::default());
            assert!(fault.is_none() && documents.iter().all(|it| it.root.is_none()), "{text:?}");
        }
    }

    #[test]
    fn bombs_are_refused_at_once() {
        let laughs = (b'b'..=b'z').fold("a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, c| {
            let (this, last) = (char::from(c), char::from(c - 1));
            format!(
                "{text}{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n"
            )
        });
        let bombs = [
            ("[".repeat(100_000), "too-deep"),
            ("{a: ".repeat(100_000), "too-deep"),
            ("- ".repeat(100_000), "too-deep"),
            ("? ".repeat(100_000), "too-deep"),
            (laughs, "too-many-values"),
            ("---\n".repeat(20_000), "too-many-documents"),
        ];
        for (text, rule) in bombs {
            let (_, fault) = parse(&text, Limits::default());
            assert_eq!(fault.map(|it| it.rule), Some(rule), "{}", &text[..20]);
        }
    }
}
