//! A text is made to say something else, and everything that need not change stays byte for byte.
//!
//! What must hold of [`rewrite`]: the outcome, parsed again, is exactly the value wanted; fields
//! that say what they said keep their text, their comments and their order; whatever cannot be done
//! so is refused, never guessed. Pieces of another text (the donor) that say what is wanted are
//! taken as they are written there, comments included.

use super::align::align;
use super::parse::parse;
use super::render::{entry_as, inline, item, word};
use super::value::{Value, resolve};
use super::{Content, Limits, Node, cut, line_end, line_start};
use std::collections::BTreeMap;
use std::ops::Range;

/// A donor's list is searched for an item up to this length.
const DONOR_ITEMS_MAX: usize = 2_000;

/// Gives `text` (one document) with the changes that make it say `wanted`; none where that cannot
/// be done without touching something else.
pub fn rewrite(text: &str, wanted: &Value, donor: Option<&str>, limits: Limits) -> Option<String> {
    let mut text = text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let root = only(&text, limits)?;
    let given = donor.and_then(|it| Some((it, only(it, limits)?)));
    let given = given.as_ref().map(|(text, root)| (*text, root));
    // What the donor writes may not fit here (an alias, a style); then it is written anew.
    [given, None].into_iter().find_map(|given| {
        let json = root.flow && text[root.span.clone()].starts_with('{') && text.contains('"');
        let donor_text = given.map_or("", |it| it.0);
        let mut editor = Editor { text: &text, donor_text, json, splices: Vec::new() };
        if !editor.reconcile(&root, wanted, given.map(|it| it.1), root.flow) {
            return None;
        }
        let edited = editor.finish()?;
        (resolve(&only(&edited, limits)?) == *wanted).then_some(edited)
    })
}

/// The value of the one document in `text`; none where there is another number of them.
pub fn only(text: &str, limits: Limits) -> Option<Node> {
    match parse(text, limits) {
        (documents, None) => {
            let mut roots = documents.into_iter().filter_map(|it| it.root);
            roots.next().filter(|_| roots.next().is_none())
        }
        _ => None,
    }
}

struct Editor<'a> {
    text: &'a str,
    donor_text: &'a str,
    /// Keys and text are in quotes throughout.
    json: bool,
    splices: Vec<(Range<usize>, String)>,
}

impl Editor<'_> {
    fn splice(&mut self, range: Range<usize>, by: impl Into<String>) {
        self.splices.push((range, by.into()));
    }

    fn finish(mut self) -> Option<String> {
        // Stable: what was added at one place stays in the order of the asking.
        self.splices.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.text.len());
        let mut at = 0;
        for (range, by) in &self.splices {
            if range.start < at {
                return None;
            }
            out.push_str(self.text.get(at..range.start)?);
            out.push_str(by);
            at = range.end;
        }
        out.push_str(self.text.get(at..)?);
        Some(out)
    }

    /// Changes what stands at `node` in its place. Says no where the whole entry or item around it
    /// has to be written anew.
    fn reconcile(&mut self, node: &Node, wanted: &Value, donor: Option<&Node>, flow: bool) -> bool {
        if resolve(node) == *wanted {
            return true;
        }
        if node.alias {
            return false;
        }
        match (&node.content, wanted) {
            (Content::Mapping(old), Value::Map(new)) if !old.is_empty() && !new.is_empty() => {
                match node.flow {
                    true => self.flow_mapping(node, new, donor),
                    false => self.block_mapping(node, new, donor),
                }
            }
            (Content::Sequence(old), Value::List(new)) if !old.is_empty() && !new.is_empty() => {
                let donor = donor.and_then(cut::as_list).filter(|it| it.len() <= DONOR_ITEMS_MAX);
                match node.flow {
                    true => self.flow_list(old, new),
                    false => self.block_list(old, new, donor.unwrap_or_default()),
                }
            }
            (Content::Scalar { .. }, Value::Map(_) | Value::List(_)) if !flow => false,
            (Content::Scalar { .. }, _) => self.scalar(node, wanted, donor, flow),
            _ if node.flow && !node.span.is_empty() => {
                let by = inline(wanted, self.json);
                self.splice(node.span.clone(), by);
                true
            }
            _ => false,
        }
    }

    fn scalar(&mut self, node: &Node, wanted: &Value, donor: Option<&Node>, flow: bool) -> bool {
        let source = &self.text[node.span.clone()];
        if source.contains('\n') {
            return false;
        }
        let donor = donor.filter(|it| {
            let source = &self.donor_text[it.span.clone()];
            !it.alias && !source.is_empty() && !source.contains('\n') && resolve(it) == *wanted
        });
        let mut by = match donor {
            Some(it) => self.donor_text[it.span.clone()].to_owned(),
            None => inline(wanted, self.json),
        };
        if source.is_empty() {
            if !self.text[..node.span.start].ends_with([':', '-']) {
                return false;
            }
            by.insert(0, ' ');
        }
        if let Some(donor) = donor.filter(|_| !flow) {
            // The comment behind it comes along where none stands yet.
            let rest = |text: &str, at: usize| text[at..line_end(text, at)].trim_end().to_owned();
            let theirs = rest(self.donor_text, donor.span.end);
            if theirs.trim_start().starts_with('#') && rest(self.text, node.span.end).is_empty() {
                by.push_str(&theirs);
            }
        }
        self.splice(node.span.clone(), by);
        true
    }

    fn block_mapping(
        &mut self,
        node: &Node,
        wanted: &BTreeMap<String, Value>,
        donor: Option<&Node>,
    ) -> bool {
        let entries = node.entries();
        let column = column(self.text, entries[0].0.span.start);
        for (n, (key, value)) in entries.iter().enumerate() {
            let Some(name) = key.text().filter(|_| !key.is_merge()) else { continue };
            let range = entry_range(self.text, node, n);
            match wanted.get(name) {
                None if is_line_start(self.text, range.start) => self.splice(range, ""),
                // What stands behind a dash cannot go alone.
                None => return false,
                Some(wanted) => {
                    if self.reconcile(value, wanted, donor.and_then(|it| it.get(name)), false) {
                        continue;
                    }
                    let key = &self.text[key.span.clone()];
                    let by = donor_entry(self.donor_text, donor, name, wanted, column, false)
                        .unwrap_or_else(|| entry_as(key, wanted, column));
                    let by = match is_line_start(self.text, range.start) {
                        true => by,
                        false => by.trim_start_matches(' ').to_owned(),
                    };
                    self.splice(range, by);
                }
            }
        }
        for name in missing(node, wanted, donor) {
            let at = place_after(node, wanted, donor, name).unwrap_or(entries.len() - 1);
            let end = entry_range(self.text, node, at).end;
            let by = donor_entry(self.donor_text, donor, name, &wanted[name], column, true)
                .unwrap_or_else(|| entry_as(&word(name, false), &wanted[name], column));
            self.splice(end..end, by);
        }
        true
    }

    fn flow_mapping(
        &mut self,
        node: &Node,
        wanted: &BTreeMap<String, Value>,
        donor: Option<&Node>,
    ) -> bool {
        let entries = node.entries();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.text().unwrap_or_default();
            kept.push(key.is_merge() || wanted.contains_key(name));
            if let Some(wanted) = wanted.get(name).filter(|_| !key.is_merge())
                && !self.reconcile(value, wanted, donor.and_then(|it| it.get(name)), true)
            {
                return false;
            }
        }
        let added = missing(node, wanted, donor)
            .into_iter()
            .map(|name| format!("{}: {}", word(name, self.json), inline(&wanted[name], self.json)));
        let added = added.collect::<Vec<_>>();
        let spans: Vec<Range<usize>> = entries
            .iter()
            .map(|(key, value)| key.span.start..value.content_end().max(key.span.end))
            .collect();
        self.flow_items(&spans, &kept, added)
    }

    fn flow_list(&mut self, old: &[Node], new: &[Value]) -> bool {
        let aligned = align(old, new);
        // Added in between: the list is short enough to be written anew.
        if aligned.added[..old.len()].iter().any(|it| !it.is_empty()) {
            return false;
        }
        for (node, kept) in old.iter().zip(&aligned.kept) {
            if let Some(n) = kept
                && !self.reconcile(node, &new[*n], None, true)
            {
                return false;
            }
        }
        let added = aligned.added[old.len()].iter().map(|n| inline(&new[*n], self.json));
        let added = added.collect::<Vec<_>>();
        let spans: Vec<Range<usize>> =
            old.iter().map(|it| it.span.start..it.content_end()).collect();
        let kept: Vec<bool> = aligned.kept.iter().map(Option::is_some).collect();
        self.flow_items(&spans, &kept, added)
    }

    /// Takes out what is not kept, with its comma, and adds behind the last that is.
    fn flow_items(&mut self, spans: &[Range<usize>], kept: &[bool], added: Vec<String>) -> bool {
        let Some(last) = kept.iter().rposition(|it| *it) else { return false };
        let mut n = 0;
        while n < spans.len() {
            let next = (n..spans.len()).find(|it| kept[*it]);
            match next {
                Some(next) if next > n => self.splice(spans[n].start..spans[next].start, ""),
                None => {
                    self.splice(spans[last].end..spans[spans.len() - 1].end, "");
                    break;
                }
                Some(_) => (),
            }
            n = next.map_or(spans.len(), |it| it + 1);
        }
        // On lines of their own where the others are.
        let gap = match last.checked_sub(1) {
            Some(before) if self.text[spans[before].end..spans[last].start].contains('\n') => {
                let column = column(self.text, spans[last].start);
                format!(",\n{:column$}", "")
            }
            _ => ", ".to_owned(),
        };
        let at = spans[last].end;
        for it in added {
            self.splice(at..at, format!("{gap}{it}"));
        }
        true
    }

    fn block_list(&mut self, old: &[Node], new: &[Value], donor: &[Node]) -> bool {
        let aligned = align(old, new);
        let Some(dashes) =
            old.iter().map(|it| dash(self.text, it.span.start)).collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        let moves = aligned.kept.iter().any(Option::is_none)
            || aligned.added.iter().any(|it| !it.is_empty());
        // A list that begins behind another dash has no lines of its own.
        if moves && !dashes.iter().all(|it| is_blank_before(self.text, *it)) {
            return false;
        }
        let column = column(self.text, dashes[0]);
        let donor_values: Vec<Value> = donor.iter().map(resolve).collect();
        let write = |editor: &Self, n: usize| {
            let found = donor_values.iter().position(|it| *it == new[n]);
            let given = found.and_then(|it| donor_item(editor.donor_text, donor, it, column));
            given.unwrap_or_else(|| item(&new[n], column))
        };
        let range = |editor: &Self, n: usize| {
            let end = value_line_end(editor.text, &old[n], dashes[n] + 1);
            let start = line_start(editor.text, dashes[n]);
            match is_blank_before(editor.text, dashes[n]) {
                true => start..end,
                false => dashes[n]..end,
            }
        };
        for (n, (node, kept)) in old.iter().zip(&aligned.kept).enumerate() {
            let range = range(self, n);
            match kept {
                None => self.splice(range, ""),
                Some(m) => {
                    let given = donor_values.iter().position(|it| *it == new[*m]);
                    if !self.reconcile(node, &new[*m], given.map(|it| &donor[it]), false) {
                        let by = write(self, *m);
                        let by = match is_blank_before(self.text, dashes[n]) {
                            true => by,
                            false => by.trim_start_matches(' ').to_owned(),
                        };
                        self.splice(range, by);
                    }
                }
            }
        }
        for (n, added) in aligned.added.iter().enumerate() {
            let at = match n.checked_sub(1) {
                Some(before) => range(self, before).end,
                None => range(self, 0).start,
            };
            for m in added {
                let by = write(self, *m);
                self.splice(at..at, by);
            }
        }
        true
    }
}

/// Where the line that holds the `n`-th entry of a block begins (or its key, behind a dash), and
/// where its last line ends.
fn entry_range(text: &str, node: &Node, n: usize) -> Range<usize> {
    let (key, value) = &node.entries()[n];
    let start = match is_blank_before(text, key.span.start) {
        true => line_start(text, key.span.start),
        false => key.span.start,
    };
    start..value_line_end(text, value, key.span.end)
}

/// Where the last line of a value ends, behind its line feed; `least` is on its first line.
fn value_line_end(text: &str, value: &Node, least: usize) -> usize {
    let end = value.content_end().max(least);
    // A block scalar ends at the beginning of a line already.
    match end > least && text[..end].ends_with('\n') {
        true => end,
        false => line_end(text, end),
    }
}

fn is_blank_before(text: &str, at: usize) -> bool {
    text[line_start(text, at)..at].bytes().all(|b| b == b' ')
}

fn is_line_start(text: &str, at: usize) -> bool {
    at == line_start(text, at)
}

fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// The dash of the item whose content begins at `at`: on its line, or on one above it with nothing
/// but comments between.
fn dash(text: &str, at: usize) -> Option<usize> {
    let mut end = at;
    loop {
        let start = line_start(text, end);
        let line = &text[start..end];
        let code = match line.trim_start().starts_with('#') {
            true => "",
            false => line.split(" #").next().unwrap_or_default(),
        };
        match code.trim_end() {
            "" if start > 0 => end = start - 1,
            code if code.ends_with('-') => return Some(start + code.len() - 1),
            _ => return None,
        }
    }
}

/// Keys that are wanted and not there yet: the donor's in its order, then the others.
fn missing<'a>(
    node: &Node,
    wanted: &'a BTreeMap<String, Value>,
    donor: Option<&Node>,
) -> Vec<&'a str> {
    let own = |name: &str| node.entries().iter().any(|(key, _)| key.text() == Some(name));
    // What a merge key brings is there, if it says the same.
    let there =
        |name: &str| own(name) || node.get(name).is_some_and(|it| resolve(it) == wanted[name]);
    let order = |name: &str| {
        let entries = donor.map_or(&[][..], Node::entries);
        entries.iter().position(|(key, _)| key.text() == Some(name)).unwrap_or(usize::MAX)
    };
    let mut names: Vec<&str> =
        wanted.keys().map(String::as_str).filter(|name| !there(name)).collect();
    names.sort_by_key(|name| order(name));
    names
}

/// The entry that a new one follows: the nearest before it in the donor that is here too.
fn place_after(
    node: &Node,
    wanted: &BTreeMap<String, Value>,
    donor: Option<&Node>,
    name: &str,
) -> Option<usize> {
    let entries = donor?.entries();
    let at = entries.iter().position(|(key, _)| key.text() == Some(name))?;
    entries[..at].iter().rev().find_map(|(before, _)| {
        let before = before.text().filter(|it| wanted.contains_key(*it))?;
        node.entries().iter().position(|(key, _)| key.text() == Some(before))
    })
}

/// An entry as the donor writes it, where it says what is wanted; with the comments above it for an
/// entry that is new.
fn donor_entry(
    text: &str,
    donor: Option<&Node>,
    name: &str,
    wanted: &Value,
    indent: usize,
    lead: bool,
) -> Option<String> {
    let node = donor.filter(|it| !it.flow && !it.alias)?;
    let n = node.entries().iter().position(|(key, _)| key.text() == Some(name))?;
    if resolve(&node.entries()[n].1) != *wanted {
        return None;
    }
    let range = entry_range(text, node, n);
    let own = column(text, node.entries()[n].0.span.start);
    let start = match lead && is_line_start(text, range.start) {
        true => comments_above(text, range.start, own),
        false => range.start,
    };
    Some(shifted(&text[start..range.end], own, indent))
}

/// Where the comments begin that stand directly above the line at `at`, in its column.
fn comments_above(text: &str, at: usize, column: usize) -> usize {
    let mut begin = at;
    while begin > 0 {
        let above = line_start(text, begin - 1);
        let line = &text[above..begin];
        let blank = line.len() - line.trim_start_matches(' ').len();
        if blank != column || !line[blank..].starts_with('#') {
            break;
        }
        begin = above;
    }
    begin
}

/// An item as the donor writes it.
fn donor_item(text: &str, items: &[Node], n: usize, indent: usize) -> Option<String> {
    let node = &items[n];
    if node.alias || dash(text, node.span.start).is_none() {
        return None;
    }
    let own = cut::item(text, items, n, false);
    let mut out = String::new();
    let mut begun = false;
    for line in own.lines() {
        let lead = !begun && line.starts_with('#');
        let prefix = match (lead, begun) {
            (true, _) => String::new(),
            (false, false) => "- ".to_owned(),
            (false, true) => "  ".to_owned(),
        };
        begun |= !lead;
        match line.is_empty() {
            true => out.push('\n'),
            false => out.push_str(&format!("{:indent$}{prefix}{line}\n", "")),
        }
    }
    begun.then_some(out)
}

/// Lines moved from one column to another.
fn shifted(lines: &str, from: usize, to: usize) -> String {
    let mut out = String::new();
    for line in lines.split_inclusive('\n') {
        let blank = line.len() - line.trim_start_matches(' ').len();
        if line.trim().is_empty() {
            out.push('\n');
        } else {
            out.push_str(&format!("{:to$}{}", "", &line[blank.min(from)..]));
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
