//! The second stage: bytes become documents that say what they are, or problems with their place.
//!
//! Every mistake of a file is told, not only the first, as far as the grammar lets one read on.
//! The rules, by their stable names:
//!
//! | rule | says |
//! | --- | --- |
//! | `empty-file` | there is nothing in the file |
//! | `not-utf-8`, `not-utf-16`, `control-character`, `odd-line-end` | it is not text |
//! | `syntax`, `tab`, `json`, `merge-conflict` | it is not YAML (or JSON) |
//! | `template`, `custom-tag`, `complex-key`, `unknown-alias`, `merge-key`, `not-finite` | it is YAML that no manifest uses |
//! | `too-deep`, `too-many-values`, `too-many-documents` | it is over a limit |
//! | `duplicate-key` | a key stands twice in one mapping |
//! | `not-a-resource`, `not-a-mapping`, `no-api-version`, `no-kind`, `no-metadata`, `no-name`, `generate-name` | it does not say what it is |
//! | `bad-api-version`, `bad-kind`, `bad-name`, `bad-namespace`, `not-text` | it says so in a way nobody can take |
//! | `duplicate-resource` | one resource stands twice in the file |
//! | `cut-failed`, `split-failed` | a field, or the document, cannot be cut out safely |
//! | `yaml-1.1-boolean`, `list-rewritten` (warnings) | what a person may want to know |

use super::envelope::{self, Envelope};
use crate::model::document::{Document, Intake, Rejected, Validated};
use crate::model::key::Key;
use crate::model::problem::{Problem, Severity};
use crate::yaml::cut;
use crate::yaml::parse::{Parsed, parse};
use crate::yaml::value::{Value, resolve};
use crate::yaml::{Fault, Limits, Lines, Node, decode};
use std::collections::HashMap;

/// More problems than this in one file help nobody.
const PROBLEMS_MAX: usize = 100;
const EXCERPT_CHARS_MAX: usize = 200;

/// Judges the bytes of an intake.
pub fn validate(intake: Intake, limits: &Limits) -> Result<Validated, Rejected> {
    let read = read(&intake.bytes, is_json(&intake), *limits);
    let untold = read.untold;
    let (mut errors, warnings): (Vec<Problem>, Vec<Problem>) =
        read.problems.into_iter().partition(Problem::is_error);
    if errors.is_empty() {
        return Ok(Validated { intake, documents: read.documents, warnings });
    }
    if untold > 0 {
        let message = format!("and {untold} more problems");
        let hint = "mend these first; the rest is told then";
        errors.push(Problem::error("more", message).hint(hint));
    }
    errors.extend(warnings);
    Err(Rejected { intake, problems: errors })
}

/// Reads one file of `managed/` as it stands in the tree: exactly one document.
pub fn read_managed(bytes: &[u8], limits: &Limits) -> Result<Document, Vec<Problem>> {
    let mut read = read(bytes, false, *limits);
    read.problems.retain(Problem::is_error);
    match (read.problems.is_empty(), read.documents.pop()) {
        (true, Some(document)) if read.documents.is_empty() => Ok(document),
        (true, found) => {
            let n = read.documents.len() + usize::from(found.is_some());
            let message = format!("the file holds {n} documents; a managed file holds one");
            Err(vec![Problem::error("not-one-document", message)])
        }
        (false, _) => Err(read.problems),
    }
}

fn is_json(intake: &Intake) -> bool {
    intake.path.file_name().to_ascii_lowercase().ends_with(b".json")
}

#[derive(Default)]
struct Read {
    documents: Vec<Document>,
    problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`], only counted.
    untold: u32,
}

fn read(bytes: &[u8], json: bool, limits: Limits) -> Read {
    let mut read = Read::default();
    let text = match decode::decode(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let lossy = shown_text(bytes);
            read.tell(&Lines::new(&lossy), fault, None);
            return read;
        }
    };
    if text.trim().is_empty() {
        let problem = Problem::error("empty-file", "there is nothing in the file");
        read.problems.push(
            problem
                .hint("if it is still being written, it is taken when it is done; else remove it"),
        );
        return read;
    }
    if json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        let (line, column) = (u32::try_from(error.line()), u32::try_from(error.column().max(1)));
        let problem = Problem::error("json", format!("this is not JSON: {error}"));
        let mut problem = problem.at(line.unwrap_or(1), column.unwrap_or(1));
        problem.excerpt = problem.line.and_then(|it| excerpt(&Lines::new(&text), it));
        read.problems
            .push(problem.hint("a .json file holds one JSON object; name it .yaml if it is YAML"));
        return read;
    }
    let (documents, fault) = parse(&text, limits);
    let lines = Lines::new(&text);
    for it in &documents {
        read.document(&text, &lines, it, limits);
    }
    if let Some(fault) = fault {
        let n = read.next_index();
        read.tell(&lines, fault, Some(n));
    }
    read.name_twins(&lines);
    read
}

impl Read {
    fn next_index(&self) -> u32 {
        u32::try_from(self.documents.len() + 1).unwrap_or(u32::MAX)
    }

    /// One document of the file: a resource, or a list of them.
    fn document(&mut self, text: &str, lines: &Lines, parsed: &Parsed, limits: Limits) {
        let Some(root) = &parsed.root else { return };
        if let Some(items) = list_items(root) {
            self.list(text, lines, root, items, limits);
            return;
        }
        let own = cut::tidy(&text[parsed.preface.clone()], &text[parsed.region.clone()]);
        self.resource(lines, root, &own, limits);
    }

    fn list(&mut self, text: &str, lines: &Lines, root: &Node, items: &[Node], limits: Limits) {
        let flow = root.get("items").is_some_and(|it| it.flow);
        for (n, item) in items.iter().enumerate() {
            let mut own = cut::item(text, items, n, flow);
            let (documents, fault) = parse(&own, limits);
            let whole = match (&documents[..], fault) {
                ([one], None) => one.root.as_ref().is_some_and(|it| resolve(it) == resolve(item)),
                _ => false,
            };
            if !whole {
                // An anchor outside of the item, or text that cannot be moved: written anew.
                own = serde_yaml::to_string(&resolve(item).to_yaml()).unwrap_or_default();
                let message = "this item refers to another part of the list, so it is written anew, without comments";
                let fault = Fault::new("list-rewritten", message, item.span.start);
                self.warn(lines, fault);
            }
            self.resource(lines, item, &cut::tidy("", &own), limits);
        }
    }

    /// One resource: `root` is where it stands in `text`, `own` is what would be filed.
    fn resource(&mut self, lines: &Lines, root: &Node, own: &str, limits: Limits) {
        let index = self.next_index();
        let envelope = match envelope::read(root) {
            Ok(it) => it,
            Err(faults) => {
                for fault in faults {
                    self.tell(lines, fault, Some(index));
                }
                // Its number is taken all the same, so that the next is counted right.
                self.documents.push(placeholder(index));
                return;
            }
        };
        let mut words = Vec::new();
        envelope::boolean_words(root, &mut words);
        for (at, word) in words {
            let message = format!("Kubernetes reads `{word}` as a truth value");
            let fault = Fault::new("yaml-1.1-boolean", message, at);
            let fault = fault.hint(format!(
                "write \"{word}\" in quotes if you mean the word, else true or false"
            ));
            self.warn(lines, fault);
        }
        let line = lines.line(root.span.start);
        match file(root, own, &envelope, limits) {
            Some((filed, content)) => self.documents.push(Document {
                index,
                line,
                api_version: envelope.api_version,
                key: envelope.key,
                text: filed,
                cut: envelope.populated.iter().map(|it| it.join(".")).collect(),
                content: content.digest(),
                labels: envelope.labels,
                annotations: envelope.annotations,
            }),
            None => {
                let fields: Vec<String> =
                    envelope.populated.iter().map(|it| it.join(".")).collect();
                if fields.is_empty() {
                    let message = "this document cannot be taken out of its file unchanged";
                    let fault = Fault::new("split-failed", message, root.span.start);
                    let hint = "put it in a file of its own, without `---` and directives";
                    self.tell(lines, fault.hint(hint), Some(index));
                    self.documents.push(placeholder(index));
                    return;
                }
                let message = format!(
                    "{} must not be filed, and cannot be cut out without changing something else",
                    fields.join(", ")
                );
                let fault = Fault::new("cut-failed", message, root.span.start);
                self.tell(lines, fault.hint("remove these fields yourself"), Some(index));
                self.documents.push(placeholder(index));
            }
        }
    }

    fn tell(&mut self, lines: &Lines, fault: Fault, document: Option<u32>) {
        if self.problems.iter().filter(|it| it.is_error()).count() >= PROBLEMS_MAX {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        let mut problem = problem(lines, fault);
        problem.document = document;
        self.problems.push(problem);
    }

    fn warn(&mut self, lines: &Lines, fault: Fault) {
        if self.problems.len() < 2 * PROBLEMS_MAX {
            let problem = problem(lines, fault).in_document(self.next_index());
            self.problems.push(Problem { severity: Severity::Warning, ..problem });
        }
    }

    /// One resource twice in one file: nobody can say which is meant.
    fn name_twins(&mut self, lines: &Lines) {
        let mut seen: HashMap<&Key, u32> = HashMap::new();
        let mut twins = Vec::new();
        for it in self.documents.iter().filter(|it| !it.key.name.is_empty()) {
            match seen.get(&it.key) {
                None => {
                    seen.insert(&it.key, it.line);
                }
                Some(first) => {
                    let message =
                        format!("{} stands in this file twice, first at line {first}", it.key);
                    let problem = Problem::error("duplicate-resource", message);
                    let mut problem = problem.in_document(it.index).at(it.line, 1);
                    problem.excerpt = excerpt(lines, it.line);
                    twins.push(problem.hint("keep one of the two"));
                }
            }
        }
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        let over = twins.len().saturating_sub(room);
        self.untold = self.untold.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
        self.problems.extend(twins.into_iter().take(room));
    }
}

/// The items, where this is a `List` or a `<Kind>List`.
fn list_items(root: &Node) -> Option<&[Node]> {
    let kind = root.get("kind")?.text()?;
    let unnamed = root.get("metadata").is_none_or(|it| it.get("name").is_none());
    let items = cut::as_list(root.get("items")?)?;
    (kind.ends_with("List") && unnamed && !root.get("items")?.alias).then_some(items)
}

/// The text to file and its value: the own text less what a cluster filled in, if that can be cut
/// out without changing anything else. `root` is what the drop says, which the text must say too.
fn file(root: &Node, own: &str, envelope: &Envelope, limits: Limits) -> Option<(String, Value)> {
    let only = |text: &str| -> Option<Node> {
        match parse(text, limits) {
            (mut documents, None) if documents.len() == 1 => documents.pop()?.root,
            _ => None,
        }
    };
    let mut wanted = resolve(root);
    for path in &envelope.populated {
        remove(&mut wanted, path);
    }
    let kept = match envelope.populated.is_empty() {
        true => own.to_owned(),
        false => cut::tidy("", &cut::without(own, &only(own)?, &envelope.populated)),
    };
    // Blank lines at the end go, unless they are part of the content.
    [cut::trim_end(&kept), kept].into_iter().find_map(|text| {
        let value = resolve(&only(&text)?);
        (value == wanted).then_some((text, value))
    })
}

fn remove(value: &mut Value, path: &[&str]) {
    let Value::Map(entries) = value else { return };
    match path {
        [] => (),
        [last] => {
            entries.remove(*last);
        }
        [first, rest @ ..] => {
            let Some(inner) = entries.get_mut(*first) else { return };
            remove(inner, rest);
            // Annotations that are empty now go as well, but never the metadata itself.
            if *first == "annotations" && *inner == Value::Map(Default::default()) {
                entries.remove(*first);
            }
        }
    }
}

/// Stands for a document that cannot be read; a file that has one is never filed.
fn placeholder(index: u32) -> Document {
    Document {
        index,
        line: 0,
        api_version: String::new(),
        key: Key {
            group: String::new(),
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
        },
        text: String::new(),
        cut: Vec::new(),
        content: Value::Null.digest(),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn problem(lines: &Lines, fault: Fault) -> Problem {
    let (line, column) = lines.position(fault.at);
    let mut it = Problem::error(fault.rule, fault.message);
    it.hint = fault.hint;
    it.excerpt = excerpt(lines, line);
    it.at(line, column)
}

/// Bytes that are no text, as far as they can be shown.
fn shown_text(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => String::new(),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// One line of the file (counted from 1), safe to show.
fn excerpt(lines: &Lines, line: u32) -> Option<String> {
    let line = lines.get(line)?;
    let shown: String = line.chars().take(EXCERPT_CHARS_MAX).collect();
    let shown: Vec<String> =
        shown.split('\t').map(|it| crate::model::path::escape(it.as_bytes())).collect();
    Some(shown.join("\t").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests;
