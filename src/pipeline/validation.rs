//! The second stage: bytes become documents that say what they are, or problems with their place.
//!
//! Every mistake of a file is told, not only the first, as far as the grammar lets one read on.
//! The rules, by their stable names:
//!
//! | rule | says |
//! | --- | --- |
//! | `empty-file` | there is nothing in the file |
//! | `not-utf-8`, `not-utf-16`, `control-character` | it is not text |
//! | `syntax`, `tab`, `json` | it is not YAML (or JSON) |
//! | `template`, `custom-tag`, `complex-key`, `unknown-alias` | it is YAML that no manifest uses |
//! | `too-deep`, `too-many-values`, `too-many-documents` | it is over a limit |
//! | `duplicate-key` | a key stands twice in one mapping |
//! | `not-a-mapping`, `no-api-version`, `no-kind`, `no-metadata`, `no-name`, `generate-name` | it does not say what it is |
//! | `bad-api-version`, `bad-kind`, `bad-name`, `bad-namespace`, `not-text` | it says so in a way nobody can take |
//! | `duplicate-resource` | one resource stands twice in the file |
//! | `cut-failed` | a field that must go cannot be cut out safely |
//! | `yaml-1.1-boolean`, `list-rewritten` (warnings) | what a person may want to know |

use super::envelope::{self, Envelope};
use crate::model::document::{Document, Intake, Rejected, Validated};
use crate::model::key::Key;
use crate::model::problem::Problem;
use crate::yaml::cut;
use crate::yaml::parse::{Parsed, parse};
use crate::yaml::value::{Value, resolve};
use crate::yaml::{Fault, Limits, Node, decode, position};
use std::collections::HashMap;

/// More problems than this in one file help nobody.
const PROBLEMS_MAX: usize = 100;
const EXCERPT_CHARS_MAX: usize = 200;

/// Judges the bytes of an intake.
pub fn validate(intake: Intake, limits: &Limits) -> Result<Validated, Rejected> {
    let read = read(&intake.bytes, is_json(&intake), *limits);
    let (mut errors, warnings): (Vec<Problem>, Vec<Problem>) =
        read.problems.into_iter().partition(Problem::is_error);
    if errors.is_empty() {
        return Ok(Validated { intake, documents: read.documents, warnings });
    }
    if errors.len() > PROBLEMS_MAX {
        let more = errors.len() - PROBLEMS_MAX;
        errors.truncate(PROBLEMS_MAX);
        errors.push(Problem::error("more", format!("and {more} more problems")));
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
}

fn read(bytes: &[u8], json: bool, limits: Limits) -> Read {
    let mut read = Read::default();
    let text = match decode::decode(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let lossy = String::from_utf8_lossy(bytes);
            read.tell(&lossy, fault, None);
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
        problem.excerpt = excerpt(&text, error.line());
        read.problems
            .push(problem.hint("a .json file holds one JSON object; name it .yaml if it is YAML"));
        return read;
    }
    let (documents, fault) = parse(&text, limits);
    for it in &documents {
        read.document(&text, it, limits);
    }
    if let Some(fault) = fault {
        let n = u32::try_from(documents.len() + 1).unwrap_or(u32::MAX);
        read.tell(&text, fault, Some(n));
    }
    read.name_twins();
    read
}

impl Read {
    fn next_index(&self) -> u32 {
        u32::try_from(self.documents.len() + 1).unwrap_or(u32::MAX)
    }

    /// One document of the file: a resource, or a list of them.
    fn document(&mut self, text: &str, parsed: &Parsed, limits: Limits) {
        let Some(root) = &parsed.root else { return };
        if let Some(items) = list_items(root) {
            self.list(text, root, items, limits);
            return;
        }
        let own = cut::tidy(&text[parsed.preface.clone()], &text[parsed.region.clone()]);
        self.resource(text, root, own, limits);
    }

    fn list(&mut self, text: &str, root: &Node, items: &[Node], limits: Limits) {
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
                let (index, problem) = (self.next_index(), problem(text, fault));
                let warning =
                    Problem { severity: crate::model::problem::Severity::Warning, ..problem };
                self.problems.push(warning.in_document(index));
            }
            self.resource(text, item, cut::tidy("", &own), limits);
        }
    }

    /// One resource: `root` is where it stands in `text`, `own` is what would be filed.
    fn resource(&mut self, text: &str, root: &Node, own: String, limits: Limits) {
        let index = self.next_index();
        let envelope = match envelope::read(root) {
            Ok(it) => it,
            Err(faults) => {
                for fault in faults {
                    self.tell(text, fault, Some(index));
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
            let problem = problem(text, fault);
            let warning = Problem { severity: crate::model::problem::Severity::Warning, ..problem };
            self.problems.push(warning.in_document(index));
        }
        let (line, _) = position(text, root.span.start);
        match file(&own, &envelope, limits) {
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
                let message = format!(
                    "{} must not be filed, and cannot be cut out without changing something else",
                    fields.join(", ")
                );
                let fault = Fault::new("cut-failed", message, root.span.start);
                self.tell(text, fault.hint("remove these fields yourself"), Some(index));
                self.documents.push(placeholder(index));
            }
        }
    }

    fn tell(&mut self, text: &str, fault: Fault, document: Option<u32>) {
        let mut problem = problem(text, fault);
        problem.document = document;
        self.problems.push(problem);
    }

    /// One resource twice in one file: nobody can say which is meant.
    fn name_twins(&mut self) {
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
                    let problem = problem.in_document(it.index).at(it.line, 1);
                    twins.push(problem.hint("keep one of the two"));
                }
            }
        }
        self.problems.extend(twins);
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
/// out without changing anything else.
fn file(own: &str, envelope: &Envelope, limits: Limits) -> Option<(String, Value)> {
    let only = |text: &str| -> Option<Node> {
        match parse(text, limits) {
            (mut documents, None) if documents.len() == 1 => documents.pop()?.root,
            _ => None,
        }
    };
    let root = only(own)?;
    let mut wanted = resolve(&root);
    if envelope.populated.is_empty() {
        return Some((own.to_owned(), wanted));
    }
    for path in &envelope.populated {
        remove(&mut wanted, path);
    }
    let text = cut::tidy("", &cut::without(own, &root, &envelope.populated));
    let value = resolve(&only(&text)?);
    (value == wanted).then_some((text, value))
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

fn problem(text: &str, fault: Fault) -> Problem {
    let (line, column) = position(text, fault.at);
    let mut it = Problem::error(fault.rule, fault.message);
    it.hint = fault.hint;
    it.excerpt = excerpt(text, usize::try_from(line).unwrap_or(0));
    it.at(line, column)
}

/// One line of the file (counted from 1), safe to show.
fn excerpt(text: &str, line: usize) -> Option<String> {
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    let shown: String = line.chars().take(EXCERPT_CHARS_MAX).collect();
    let shown: Vec<String> =
        shown.split('\t').map(|it| crate::model::path::escape(it.as_bytes())).collect();
    Some(shown.join("\t").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests;
