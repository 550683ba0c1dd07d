//! Documents with positions: decode, split, read and cut without disturbing the rest.
//!
//! The grammar is libyaml's, whose port is what Kubernetes itself reads with: what passes here
//! passes there. Everything is under limits before anything is built, because a parser that builds
//! first can be made to hang, to fill the memory or to overflow the stack by a file of 100 KB.

mod align;
mod build;
pub mod cut;
pub mod decode;
pub mod edit;
pub mod fault;
pub mod field;
pub mod lines;
pub mod parse;
mod plain;
mod render;
pub mod value;

use std::borrow::Cow;
use std::ops::Range;

/// How much one file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Documents in one file.
    pub documents_max: usize,
    /// How deep collections may nest.
    pub depth_max: usize,
    /// Scalars and collections in one document, aliases counted as often as they are used.
    pub nodes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { documents_max: 10_000, depth_max: 100, nodes_max: 500_000 }
    }
}

/// Something in the text that keeps it from being read, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A stable name, see [`crate::pipeline::validation`].
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where, as an offset in bytes into the decoded text.
    pub at: usize,
}

impl Fault {
    pub(crate) fn new(rule: &'static str, message: impl Into<String>, at: usize) -> Fault {
        Fault { rule, message: message.into(), hint: None, at }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: its text decides its type.
    Plain,
    /// In quotes, or as a block: text.
    Text,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One value.
    Scalar {
        /// Its text, without quotes.
        text: String,
        /// How it was written.
        style: Style,
        /// A tag of YAML's core, such as `!!str`, by its last word.
        tag: Option<&'static str>,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order written.
    Mapping(Vec<(Node, Node)>),
}

/// One value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it holds; an alias holds what it stands for.
    pub content: Content,
    /// Where it is written, in bytes of the text it was parsed from.
    pub span: Range<usize>,
    /// In braces or brackets.
    pub flow: bool,
    /// Written as `*name`: the content lies elsewhere.
    pub alias: bool,
}

impl Node {
    /// The value under `key`, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value under `key`: written here, or merged in with `<<`.
    pub fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        let own = self.entries().iter().find(|(it, _)| it.text() == Some(key));
        own.or_else(|| {
            let merged = self.entries().iter().filter(|(it, _)| it.is_merge());
            merged.flat_map(|(_, it)| it.merge_sources()).find_map(|it| it.entry(key))
        })
    }

    /// Says whether this key is `<<`, which merges other mappings in. In quotes it is a name.
    pub fn is_merge(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, style: Style::Plain, .. } if text == "<<")
    }

    /// The mappings that stand under a `<<`: one, or a list of them.
    pub fn merge_sources(&self) -> &[Node] {
        match &self.content {
            Content::Sequence(items) => items,
            Content::Scalar { .. } | Content::Mapping(_) => std::slice::from_ref(self),
        }
    }

    /// The entries, where this is a mapping.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.content {
            Content::Mapping(entries) => entries,
            Content::Scalar { .. } | Content::Sequence(_) => &[],
        }
    }

    /// The text, where this is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    /// Says whether nothing is written here.
    pub fn is_null(&self) -> bool {
        value::scalar(self) == Some(value::Scalar::Null)
    }

    /// Says whether the last thing written in it is a block (`|` or `>`): blank lines behind it may
    /// be part of it.
    pub fn ends_in_block(&self, text: &str) -> bool {
        if self.flow || self.alias {
            return false;
        }
        match &self.content {
            // Of all scalars only a block ends where a line does.
            Content::Scalar { style, .. } => {
                *style == Style::Text && text[..self.span.end].ends_with('\n')
            }
            Content::Sequence(items) => items.last().is_some_and(|it| it.ends_in_block(text)),
            Content::Mapping(entries) => {
                entries.last().is_some_and(|(_, it)| it.ends_in_block(text))
            }
        }
    }

    /// Where the last character of its content ends. The parser lets a block end only where the
    /// next thing begins, which would take the comments between along.
    pub fn content_end(&self) -> usize {
        if self.flow || self.alias {
            return self.span.end;
        }
        match &self.content {
            Content::Scalar { .. } => self.span.end,
            Content::Sequence(items) => items.last().map_or(self.span.end, Node::content_end),
            Content::Mapping(entries) => match entries.last() {
                // A key without a value ends behind its colon.
                Some((key, value)) if value.span.is_empty() => value.span.end.max(key.span.end),
                Some((_, value)) => value.content_end(),
                None => self.span.end,
            },
        }
    }
}

/// Where the lines of a text begin, so that finding a place costs the same anywhere in it.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    text: Cow<'a, str>,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Reads a text through once.
    pub fn new(text: &'a str) -> Lines<'a> {
        Lines { text: Cow::Borrowed(text), starts: starts(text) }
    }

    /// Keeps the text as well.
    pub fn owned(text: String) -> Lines<'static> {
        Lines { starts: starts(&text), text: Cow::Owned(text) }
    }

    /// The line of an offset, counted from 1.
    pub fn line(&self, at: usize) -> u32 {
        u32::try_from(self.starts.partition_point(|it| *it <= at)).unwrap_or(u32::MAX)
    }

    /// Line and column of an offset, both counted from 1, the column in characters.
    pub fn position(&self, at: usize) -> (u32, u32) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.line(at);
        let column = self.text[self.starts[line as usize - 1]..at].chars().count() + 1;
        (line, u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// One line, counted from 1, without its line feed.
    pub fn get(&self, line: u32) -> Option<&str> {
        let start = *self.starts.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
        self.text[start..].split('\n').next()
    }
}

fn starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(n, _)| n + 1)).collect()
}

/// Where the line that holds `at` begins.
pub fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |it| it + 1)
}

/// Where the line that holds `at` ends, behind its line feed.
pub fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |it| at + it + 1)
}
