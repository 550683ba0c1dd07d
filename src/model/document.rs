//! What a drop turns into: an intake, its documents, and the judgement on each.

use super::digest::{Sha256, Xxh3};
use super::key::Key;
use super::path::{RawPath, RepoPath};
use super::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One file found in `raw/`, as it was when read.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Where it lay, relative to `raw/`.
    pub path: RawPath,
    /// Its bytes; shared, since the archive keeps them as well.
    pub bytes: Arc<[u8]>,
    /// The digest of path and bytes, which names the drop in journal and history.
    pub drop_id: Sha256,
}

impl Intake {
    /// Names the drop of `bytes` at `path`.
    pub fn new(path: RawPath, bytes: impl Into<Arc<[u8]>>) -> Intake {
        let bytes = bytes.into();
        let drop_id = Sha256::of_drop(path.as_bytes(), &bytes);
        Intake { path, bytes, drop_id }
    }
}

/// A place in the intake: line and column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Where a document says what it is, for findings about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The value of `apiVersion`.
    pub api_version: Mark,
    /// The value of `kind`.
    pub kind: Mark,
    /// The value of `metadata.name`.
    pub name: Mark,
    /// The value of `metadata.namespace`, or of the name where there is none.
    pub namespace: Mark,
}

/// One document of an intake that says what it is, in the words it will be filed in.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its place in the intake, counted from 1; items of a list count one by one.
    pub index: u32,
    /// The line of the intake where it begins, counted from 1.
    pub line: u32,
    /// Where it says what it is.
    pub marks: Marks,
    /// As written: group and version.
    pub api_version: String,
    /// Which resource it is.
    pub key: Key,
    /// The user's own text less what was cut: no `---`, LF, one final newline.
    pub text: String,
    /// Dotted paths of the fields that were cut, such as `metadata.uid`.
    pub cut: Vec<String>,
    /// XXH3 of the parsed content after the cut: formatting does not change it.
    pub content: Xxh3,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, less what was cut.
    pub annotations: BTreeMap<String, String>,
    /// The resources that it names, and where.
    pub namings: Vec<(Naming, Mark)>,
    /// What others may name of it, such as the subnets of a VPC.
    pub parts: Vec<String>,
}

/// One resource that a document names in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The field.
    pub field: &'static str,
    /// Of which kind it may be, each by group and name.
    pub kinds: &'static [(&'static str, &'static str)],
    /// Its name.
    pub name: String,
    /// A part of it.
    pub part: Option<String>,
}

/// What keeps some documents of an intake behind, where a file may go through in parts; else empty.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Why.
    pub problems: Vec<Problem>,
    /// Their numbers.
    pub stays: BTreeSet<u32>,
}

/// An intake whose every document says what it is, but for its faults. Only validation makes one.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The file.
    pub intake: Intake,
    /// Its documents in the order written; empty where the file holds only comments.
    pub documents: Vec<Document>,
    /// What a person may want to know.
    pub warnings: Vec<Problem>,
    /// What stays behind.
    pub faults: Faults,
}

/// An intake that cannot be filed as it is.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The file.
    pub intake: Intake,
    /// Why: every error that was found, and the warnings beside them.
    pub problems: Vec<Problem>,
}

/// The judgement on one document.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It has a place below `managed/`.
    Managed {
        /// The canonical path of its one file.
        target: RepoPath,
    },
    /// No kind of ours: it belongs to `unmanaged/`, untouched.
    Unmanaged {
        /// Why, for the report.
        why: Problem,
    },
    /// It must not be filed: a controller's kind, a version that is not served, a foreign namespace.
    Rejected {
        /// Why, with the way out.
        why: Problem,
    },
}

/// A document and the judgement on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The document.
    pub document: Document,
    /// The judgement.
    pub verdict: Verdict,
}

/// A validated intake whose every document has been judged. Only classification makes one.
#[derive(Debug, Clone)]
pub struct Classified {
    /// The file.
    pub intake: Intake,
    /// Its documents in the order written.
    pub judged: Vec<Judged>,
    /// What a person may want to know.
    pub warnings: Vec<Problem>,
    /// What stays behind.
    pub faults: Faults,
}
