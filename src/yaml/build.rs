//! Events become nodes, under limits.

use super::{Content, Fault, Limits, Node, Style};
use libyaml_safer::{Event, EventData, MappingStyle, ScalarStyle, SequenceStyle};
use std::collections::HashMap;
use std::ops::Range;

const CORE_TAGS: [&str; 7] = ["str", "int", "float", "bool", "null", "map", "seq"];

/// Makes the nodes of one document.
pub(super) struct Builder {
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
    inner: Inner,
}

/// What has been read of it.
enum Inner {
    Items(Vec<Node>),
    /// And the key whose value comes next.
    Entries(Vec<(Node, Node)>, Option<Node>),
}

impl Builder {
    pub(super) fn new(limits: Limits) -> Builder {
        Builder { limits, nodes: 0, stack: Vec::new(), anchors: HashMap::new(), root: None }
    }

    /// The value, when all of it was read.
    pub(super) fn take(&mut self) -> Option<Node> {
        self.root.take()
    }

    /// Takes one event.
    pub(super) fn add(&mut self, event: Event, span: Range<usize>) -> Result<(), Fault> {
        let at = span.start;
        match event.data {
            EventData::Scalar { anchor, tag, value, style, .. } => {
                let tag = core_tag(tag, at)?;
                let style = match style {
                    ScalarStyle::Plain | ScalarStyle::Any => Style::Plain,
                    _ => Style::Text,
                };
                self.scalar(Content::Scalar { text: value, style, tag }, span, anchor)
            }
            EventData::SequenceStart { anchor, tag, style, .. } => {
                core_tag(tag, at)?;
                self.open(anchor, at, style == SequenceStyle::Flow, true)
            }
            EventData::MappingStart { anchor, tag, style, .. } => {
                core_tag(tag, at)?;
                self.open(anchor, at, style == MappingStyle::Flow, false)
            }
            EventData::SequenceEnd | EventData::MappingEnd => self.shut(span.end),
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

    /// Where the innermost bracket stands that is open.
    pub(super) fn open_bracket(&self) -> Option<usize> {
        self.stack.iter().rfind(|it| it.flow).map(|it| it.start)
    }

    /// Takes one scalar.
    pub(super) fn scalar(
        &mut self,
        content: Content,
        span: Range<usize>,
        anchor: Option<String>,
    ) -> Result<(), Fault> {
        self.count(1, span.start)?;
        self.close(Node { content, span, flow: false, alias: false }, anchor)
    }

    /// Opens a list or a mapping.
    pub(super) fn open(
        &mut self,
        anchor: Option<String>,
        start: usize,
        flow: bool,
        list: bool,
    ) -> Result<(), Fault> {
        self.count(1, start)?;
        if self.stack.len() >= self.limits.depth_max {
            return Err(too_deep(self.limits, start));
        }
        let inner = match list {
            true => Inner::Items(Vec::new()),
            false => Inner::Entries(Vec::new(), None),
        };
        self.stack.push(Open { anchor, start, flow, inner });
        Ok(())
    }

    /// Ends the innermost collection that is open.
    pub(super) fn shut(&mut self, end: usize) -> Result<(), Fault> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let content = match open.inner {
            Inner::Entries(entries, _) => Content::Mapping(entries),
            Inner::Items(items) => Content::Sequence(items),
        };
        let span = open.start..end;
        self.close(Node { content, span, flow: open.flow, alias: false }, open.anchor)
    }

    fn close(&mut self, node: Node, anchor: Option<String>) -> Result<(), Fault> {
        if let Some(anchor) = anchor {
            // What an anchor keeps counts as well: it is a copy.
            self.count(size(&node), node.span.start)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|it| &mut it.inner) {
            None => self.root = Some(node),
            Some(Inner::Items(items)) => items.push(node),
            Some(Inner::Entries(entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => {
                    judge_entry(&key, &node)?;
                    entries.push((key, node));
                }
            },
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

fn judge_entry(key: &Node, value: &Node) -> Result<(), Fault> {
    if key.text().is_none() || key.is_null() {
        let what = if key.is_null() { "nothing" } else { "a collection" };
        let message = format!("{what} cannot be a key");
        return Err(Fault::new("complex-key", message, key.span.start)
            .hint("use text as the key; braces that are meant as text need quotes"));
    }
    let mut merged = value.merge_sources().iter().filter(|_| key.is_merge());
    match merged.find(|it| !matches!(it.content, Content::Mapping(_))) {
        None => Ok(()),
        Some(wrong) => {
            let message = "`<<` merges mappings, and this is none";
            Err(Fault::new("merge-key", message, wrong.span.start)
                .hint("write an alias of a mapping, or put << in quotes if it is a name"))
        }
    }
}

fn core_tag(tag: Option<String>, at: usize) -> Result<Option<&'static str>, Fault> {
    let Some(tag) = tag else { return Ok(None) };
    let word = tag.strip_prefix("tag:yaml.org,2002:");
    match CORE_TAGS.into_iter().find(|it| word == Some(it)) {
        Some(word) => Ok(Some(word)),
        // A lone `!` says: text, whatever it looks like.
        None if tag == "!" => Ok(Some("str")),
        None => {
            let tag: String = crate::model::path::escape(tag.as_bytes()).chars().take(60).collect();
            let message = format!("the tag `{tag}` is none that Kubernetes reads");
            Err(Fault::new("custom-tag", message, at)
                .hint("remove the tag, and write the value itself"))
        }
    }
}
