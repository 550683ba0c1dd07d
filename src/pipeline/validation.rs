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
//! | `not-a-resource`, `not-a-mapping`, `no-api-version`, `no-kind`, `no-metadata`, `no-name`, `generate-name`, `stray-items` | it does not say what it is |
//! | `bad-api-version`, `bad-kind`, `bad-name`, `bad-namespace`, `not-text` | it says so in a way nobody can take |
//! | `duplicate-resource` | one resource stands twice in the file |
//! | `cut-failed`, `split-failed` | a field, or the document, cannot be cut out safely |
//! | `unknown-field`, `missing-field`, `wrong-type`, `wrong-form`, `not-allowed`, `out-of-range`, `duplicate-item` | the API server would refuse it, or drop what was written (errors, or warnings, as the settings say) |
//! | `yaml-1.1-boolean`, `yaml-1.1-octal`, `yaml-1.1-text`, `list-rewritten` (warnings) | what a person may want to know |

use super::classification::{self, Kind};
use super::envelope::{self, Envelope};
use super::place::{self, excerpt};
use crate::catalog::{self, Catalog, Weight, references};
use crate::model::digest::Xxh3;
use crate::model::document::{Document, Faults, Intake, Mark, Marks, Rejected, Validated};
use crate::model::key::Key;
use crate::model::problem::{Problem, Severity};
use crate::yaml::parse::{Parsed, parse, parse_each};
use crate::yaml::value::{self, Value, resolve};
use crate::yaml::{Fault, Limits, Lines, Node, cut, decode};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// More problems than this in one file help nobody.
const PROBLEMS_MAX: usize = 100;
/// Faults that throw doubt on all of their file: what stands beside them may be meant otherwise.
const OF_THE_FILE: [&str; 4] = ["template", "merge-conflict", "too-many-documents", "unreadable"];

/// What a drop is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// How much one file may hold.
    pub limits: Limits,
    /// Which kinds there are.
    pub catalog: &'a Catalog,
    /// What a breach of a kind's schema is taken for.
    pub schema: SchemaStrategy,
    /// Good documents go through though others of their file stay.
    pub partial: bool,
}

/// What is done about fields that the API server would refuse or drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaStrategy {
    /// Nobody looks at them.
    Off,
    /// They are told, and the file goes through.
    Warn,
    /// They keep the file from being taken.
    Enforce,
}

/// Judges the bytes of an intake.
pub fn validate(intake: Intake, rules: &Rules) -> Result<Validated, Rejected> {
    let read = read(&intake.bytes, is_json(&intake), rules.limits, Some(rules));
    let untold = read.untold;
    let (mut errors, mut warnings): (Vec<Problem>, Vec<Problem>) =
        read.problems.into_iter().partition(Problem::is_error);
    // As a person reads the file: from its beginning to its end.
    warnings.sort_by_key(|it| (it.line, it.column));
    errors.sort_by_key(|it| (it.line, it.column));
    let apart = |it: &Problem| it.document.filter(|_| !OF_THE_FILE.contains(&it.rule.as_str()));
    let stays: Option<BTreeSet<u32>> = errors.iter().map(apart).collect();
    if let Some(mut stays) = stays.filter(|it| it.is_empty() || (rules.partial && untold == 0)) {
        stays.extend(read.twins);
        let mut documents = read.documents;
        documents.retain(|it| !stays.contains(&it.index));
        if errors.is_empty() || !documents.is_empty() {
            let faults = Faults { problems: errors, stays };
            return Ok(Validated { intake, documents, warnings, faults });
        }
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
    let mut read = read(bytes, false, *limits, None);
    read.problems.retain(Problem::is_error);
    match (read.problems.is_empty(), read.documents.pop()) {
        (true, Some(document)) if read.documents.is_empty() => Ok(document),
        (true, found) => {
            let n = read.documents.len() + usize::from(found.is_some());
            let message = format!("the file holds {n} documents; a managed file holds one");
            let hint = "keep one document in it, and drop the others in raw/";
            Err(vec![Problem::error("not-one-document", message).hint(hint)])
        }
        (false, _) => Err(read.problems),
    }
}

fn is_json(intake: &Intake) -> bool {
    intake.path.file_name().to_ascii_lowercase().ends_with(b".json")
}

#[derive(Default)]
struct Read<'a> {
    /// None for a file of `managed/`, which is taken as it is.
    rules: Option<&'a Rules<'a>>,
    documents: Vec<Document>,
    problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`], only counted.
    untold: u32,
    /// Documents whose resource stands in the file once more.
    twins: BTreeSet<u32>,
}

fn read<'a>(bytes: &[u8], json: bool, limits: Limits, rules: Option<&'a Rules<'a>>) -> Read<'a> {
    let mut read = Read { rules, ..Read::default() };
    let text = match decode::decode(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let lossy = place::text(bytes);
            read.tell(&Lines::new(&lossy), fault, None);
            return read;
        }
    };
    if text.trim().is_empty() {
        let problem = Problem::error("empty-file", "there is nothing in the file");
        let hint = "if it is still being written, it is taken when it is done; else remove it";
        read.problems.push(problem.hint(hint));
        return read;
    }
    let lines = Lines::new(&text);
    if json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        read.problems.push(not_json(&lines, &error));
        return read;
    }
    parse_each(&text, limits, &mut |it| match it {
        Ok(parsed) => read.document(&text, &lines, &parsed, limits),
        Err(broken) => {
            let index = read.next_index();
            read.tell(&lines, broken.fault, Some(index));
            read.documents.push(placeholder(index));
        }
    });
    read.name_twins(&lines);
    if let Some(rules) = rules.filter(|_| read.problems.iter().any(Problem::is_error)) {
        read.judge_kinds(&lines, rules.catalog);
    }
    read
}

fn not_json(lines: &Lines, error: &serde_json::Error) -> Problem {
    let (line, column) = (u32::try_from(error.line()), u32::try_from(error.column().max(1)));
    let problem = Problem::error("json", format!("this is not JSON: {error}"));
    let mut problem = problem.at(line.unwrap_or(1), column.unwrap_or(1));
    problem.excerpt = problem.line.and_then(|it| excerpt(lines, it));
    problem.hint("a .json file holds one JSON object; name it .yaml if it is YAML")
}

/// The text that a document would be filed as, before anything is cut out.
struct Draft<'a> {
    text: String,
    /// Where the entries that must go stand in it.
    cuts: Vec<Range<usize>>,
    /// What it says, which whatever is filed must say too, less the cuts.
    node: &'a Node,
    /// It says so without being read again, blank lines at its end aside.
    sure: bool,
    /// Blank lines at its end may be part of what it says.
    block: bool,
}

impl Read<'_> {
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
        self.resource(lines, root, limits, |populated| {
            let own = cut::tidy(&text[parsed.preface.clone()], &text[parsed.region.clone()]);
            let added = usize::from(!text[parsed.region.clone()].ends_with('\n'));
            // The region is the end of the text, so places in it move by the same distance.
            let (end, own_end) = (parsed.region.end, own.len() - added);
            let moved = |at: usize| own_end.saturating_sub(end - at.min(end));
            let cuts = cut::spans(text, root, populated);
            Draft {
                cuts: cuts.into_iter().map(|it| moved(it.start)..moved(it.end)).collect(),
                text: own,
                node: root,
                sure: parsed.alone,
                block: root.ends_in_block(text),
            }
        });
    }

    fn list(&mut self, text: &str, lines: &Lines, root: &Node, items: &[Node], limits: Limits) {
        let flow = root.get("items").is_some_and(|it| it.flow);
        for (n, item) in items.iter().enumerate() {
            let mut own = cut::item(text, items, n, flow);
            let same = |it: &Node| resolve(it) == resolve(item);
            let mut found = only(&own, limits).filter(same);
            if found.is_none() {
                // An anchor outside of the item, or text that cannot be moved: written anew.
                own = serde_yaml::to_string(&resolve(item).to_yaml()).unwrap_or_default();
                let message = "this item refers to another part of the list, so it is written anew, without comments";
                let fault = Fault::new("list-rewritten", message, item.span.start);
                self.warn(lines, fault);
                found = only(&own, limits).filter(same);
            }
            self.resource(lines, item, limits, |populated| Draft {
                cuts: found.as_ref().map_or(vec![], |it| cut::spans(&own, it, populated)),
                node: item,
                sure: found.is_some(),
                block: found.as_ref().is_none_or(|it| it.ends_in_block(&own)),
                text: own,
            });
        }
    }

    /// One resource, which stands in the file as `root`; `draft` makes what would be filed.
    fn resource<'a>(
        &mut self,
        lines: &Lines,
        root: &'a Node,
        limits: Limits,
        draft: impl FnOnce(&[Vec<&'static str>]) -> Draft<'a>,
    ) {
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
        self.judge_fields(lines, root, &envelope, index);
        let fields: Vec<String> = envelope.populated.iter().map(|it| it.join(".")).collect();
        match file(draft(&envelope.populated), &envelope.populated, limits) {
            Some((text, content)) => {
                let marks = marks(lines, envelope.places);
                let line = lines.line(root.span.start);
                let Envelope { api_version, key, labels, annotations, .. } = envelope;
                let namings = references::namings(&key.group, &key.kind, root);
                let parts = references::parts(&key.group, &key.kind, root);
                let namings = namings.into_iter().map(|(it, at)| (it, mark(lines, at)));
                self.documents.push(Document {
                    index,
                    line,
                    marks,
                    api_version,
                    key,
                    text,
                    cut: fields,
                    content,
                    labels,
                    annotations,
                    namings: namings.collect(),
                    parts,
                });
            }
            None => {
                let at = root.span.start;
                self.tell(lines, cannot_be_filed(&fields, at), Some(index));
                self.documents.push(placeholder(index));
            }
        }
    }

    /// What the fields hold, against the schema of the kind; without one, words that may be meant
    /// as such.
    fn judge_fields(&mut self, lines: &Lines, root: &Node, envelope: &Envelope, index: u32) {
        let Some(rules) = self.rules else { return };
        let version = envelope.api_version.rsplit('/').next().unwrap_or_default();
        let schema = match rules.schema {
            SchemaStrategy::Off => None,
            SchemaStrategy::Warn | SchemaStrategy::Enforce => {
                rules.catalog.schema(&envelope.key.group, &envelope.key.kind, version)
            }
        };
        let Some(schema) = schema else {
            let mut words = Vec::new();
            envelope::boolean_words(root, &mut words);
            words.into_iter().for_each(|it| self.warn(lines, it));
            return;
        };
        for it in catalog::judge(schema, root) {
            match (it.weight, rules.schema) {
                (Weight::Breach, SchemaStrategy::Enforce) => {
                    self.tell(lines, it.fault, Some(index));
                }
                (Weight::Breach | Weight::Note, _) => self.warn(lines, it.fault),
            }
        }
    }

    /// What the next stage would say of the documents that can be read, so that everything that is
    /// wrong with a file is told at once.
    fn judge_kinds(&mut self, lines: &Lines, catalog: &Catalog) {
        let mut found = Vec::new();
        for it in self.documents.iter().filter(|it| !it.key.name.is_empty()) {
            let Kind::Wrong(why, mark) = classification::kind_of(it, catalog) else { continue };
            let mut why = why.in_document(it.index).at(mark.line, mark.column);
            why.excerpt = excerpt(lines, mark.line);
            found.push(why);
        }
        self.extend(found);
    }

    /// Adds errors as far as there is room for them.
    fn extend(&mut self, errors: Vec<Problem>) {
        let told = self.problems.iter().filter(|it| it.is_error()).count();
        let room = PROBLEMS_MAX.saturating_sub(told);
        let over = errors.len().saturating_sub(room);
        self.untold = self.untold.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
        self.problems.extend(errors.into_iter().take(room));
    }

    fn tell(&mut self, lines: &Lines, fault: Fault, document: Option<u32>) {
        if self.problems.iter().filter(|it| it.is_error()).count() >= PROBLEMS_MAX {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        let mut problem = place::problem(lines, fault);
        problem.document = document;
        self.problems.push(problem);
    }

    fn warn(&mut self, lines: &Lines, fault: Fault) {
        if self.problems.len() < 2 * PROBLEMS_MAX {
            let problem = place::problem(lines, fault).in_document(self.next_index());
            self.problems.push(Problem { severity: Severity::Warning, ..problem });
        }
    }

    /// One resource twice in one file: nobody can say which is meant.
    fn name_twins(&mut self, lines: &Lines) {
        let mut seen: HashMap<&Key, (u32, u32)> = HashMap::new();
        let mut twins = Vec::new();
        for it in self.documents.iter().filter(|it| !it.key.name.is_empty()) {
            match seen.get(&it.key) {
                None => {
                    seen.insert(&it.key, (it.line, it.index));
                }
                Some((first, index)) => {
                    self.twins.extend([*index, it.index]);
                    let message =
                        format!("{} stands in this file twice, first at line {first}", it.key);
                    let problem = Problem::error("duplicate-resource", message);
                    let mut problem = problem.in_document(it.index).at(it.line, 1);
                    problem.excerpt = excerpt(lines, it.line);
                    twins.push(problem.hint("keep one of the two"));
                }
            }
        }
        self.extend(twins);
    }
}

/// The items, where this is a `List` or a `<Kind>List`.
pub(super) fn list_items(root: &Node) -> Option<&[Node]> {
    let kind = root.get("kind")?.text()?;
    let unnamed = root.get("metadata").is_none_or(|it| it.get("name").is_none());
    let items = cut::as_list(root.get("items")?)?;
    (kind.ends_with("List") && unnamed && !root.get("items")?.alias).then_some(items)
}

/// The only document of a text.
fn only(text: &str, limits: Limits) -> Option<Node> {
    match parse(text, limits) {
        (mut documents, None) if documents.len() == 1 => documents.pop()?.root,
        _ => None,
    }
}

/// The text to file and the digest of its value: the draft less what a cluster filled in, if that
/// can be cut out without changing anything else.
fn file(draft: Draft, populated: &[Vec<&str>], limits: Limits) -> Option<(String, Xxh3)> {
    let Draft { text, cuts, node, sure, block } = draft;
    // Blank lines at the end go, unless they are part of the content.
    if populated.is_empty() && sure && !block {
        return Some((cut::trim_end(text), value::digest(node)));
    }
    let mut wanted = resolve(node);
    populated.iter().for_each(|path| remove(&mut wanted, path));
    let kept = cut::tidy("", &cut::without(&text, &cuts));
    [cut::trim_end(kept.clone()), kept].into_iter().find_map(|text| {
        let value = resolve(&only(&text, limits)?);
        (value == wanted).then(|| (text, value.digest()))
    })
}

fn cannot_be_filed(fields: &[String], at: usize) -> Fault {
    if fields.is_empty() {
        let message = "this document cannot be taken out of its file unchanged";
        let hint = "put it in a file of its own, without `---` and directives";
        return Fault::new("split-failed", message, at).hint(hint);
    }
    let fields = fields.join(", ");
    let message = format!(
        "{fields} must not be filed, and cannot be cut out without changing something else"
    );
    Fault::new("cut-failed", message, at).hint("remove these fields yourself")
}

fn marks(lines: &Lines, places: [usize; 4]) -> Marks {
    let [api_version, kind, name, namespace] = places.map(|at| mark(lines, at));
    Marks { api_version, kind, name, namespace }
}

fn mark(lines: &Lines, at: usize) -> Mark {
    let (line, column) = lines.position(at);
    Mark { line, column }
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
        marks: Marks::default(),
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
        namings: Vec::new(),
        parts: Vec::new(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
