//! What a commit of ours says: a subject for people, trailers for the agent that reads it again.
//!
//! The text follows from the plan alone, so the same plan makes the same commit.

use crate::model::fabric::FabricName;
use crate::model::ids::OperationId;
use crate::model::path::{RawPath, RepoPath, escape};
use crate::model::plan::{Change, Disposal, Fate, Plan};
use crate::model::record::Source;
use crate::model::report::{Action, Ending};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How many sources a commit names; the archive knows them all.
pub const SOURCES_MAX: usize = 200;
/// How many drops or resources a subject names before it only counts them.
const NAMED_MAX: usize = 3;

const OPERATION: &str = "Intake-Operation";
const SOURCE: &str = "Intake-Source";
const ACTOR: &str = "Intake-Actor";
/// The trailer of a commit that takes over edits by hand.
pub const BY_HAND: &str = "Intake-Edited: by hand";

/// The message of the commit that joins our proposals and what others pushed.
pub(super) fn joined(branch: &str) -> String {
    let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    format!("intake: merge what others pushed to {short}\n")
}

/// The message of the commit that carries out `plan`.
pub fn commit_message(
    fabric: &FabricName,
    plan: &Plan,
    operation: OperationId,
    actor: &str,
) -> String {
    let subject = plan.subject.clone().unwrap_or_else(|| subject(plan));
    let mut text = format!("{fabric}: {subject}\n\n");
    for disposal in &plan.disposals {
        if let Fate::Leaves { filed, .. } | Fate::Parted { filed, .. } = &disposal.fate {
            let changed = filed.iter().filter(|it| it.action != Action::Unchanged).count();
            let _ = writeln!(
                text,
                "{}: {changed} of {} documents changed",
                disposal.intake.path,
                filed.len()
            );
        }
        if text.len() > 8 * 1024 {
            text.push_str("and more\n");
            break;
        }
    }
    text.push('\n');
    let _ = writeln!(text, "{OPERATION}: {operation}");
    for it in plan.recorded.iter().take(SOURCES_MAX) {
        let (document, line) = (it.document.index, it.document.line);
        let _ = writeln!(text, "{SOURCE}: {} {document}:{line} {}", it.path, it.source);
    }
    for it in plan.trailers.iter().take(SOURCES_MAX) {
        let _ = writeln!(text, "{it}");
    }
    // On one line, whoever it is: a name must not pose as another trailer.
    let _ = writeln!(text, "{ACTOR}: {}", escape(actor.as_bytes()));
    text
}

/// The message of the archive's commit: which original lies where, all of them.
pub fn archive_message(fabric: &FabricName, plan: &Plan, operation: OperationId) -> String {
    let n = plan.originals.len();
    let mut text =
        format!("{fabric}: keep {n} {}\n\n", if n == 1 { "original" } else { "originals" });
    for it in &plan.originals {
        let _ = writeln!(text, "{} {}", it.drop_id, it.path);
    }
    let _ = writeln!(text, "\n{OPERATION}: {operation}");
    text
}

/// What the trailers of a commit say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trailers {
    /// The operation that made the commit; none where it is not ours.
    pub operation: Option<OperationId>,
    /// It takes over what somebody edited by hand.
    pub by_hand: bool,
    /// Where files came from, by their path.
    pub sources: BTreeMap<RepoPath, Source>,
}

/// Reads the trailers of a commit back. Lines that are not ours, or damaged, are passed over.
pub fn trailers(message: &str) -> Trailers {
    let mut found = Trailers::default();
    for line in message.lines() {
        found.by_hand |= line == BY_HAND;
        if let Some(id) = line.strip_prefix(OPERATION).and_then(|it| it.strip_prefix(": ")) {
            found.operation = id.trim().parse().ok();
        } else if let Some(rest) = line.strip_prefix(SOURCE).and_then(|it| it.strip_prefix(": ")) {
            found.sources.extend(source(rest));
        }
    }
    for it in found.sources.values_mut() {
        it.operation = found.operation;
    }
    found
}

fn source(text: &str) -> Option<(RepoPath, Source)> {
    // A path of ours may hold spaces, a drop's too; the place between them cannot be mistaken,
    // since a path of ours ends in `.yaml`.
    let (path, rest) = text.split_once(".yaml ")?;
    let path = RepoPath::parse(&format!("{path}.yaml")).ok()?;
    let (place, drop) = rest.split_once(' ')?;
    let (document, line) = place.split_once(':')?;
    let source = Source {
        path: RawPath::unescape(drop),
        document: document.parse().ok()?,
        line: line.parse().ok()?,
        operation: None,
    };
    Some((path, source))
}

fn subject(plan: &Plan) -> String {
    let mut counts: BTreeMap<Action, Vec<String>> = BTreeMap::new();
    let mut aside = 0;
    for disposal in &plan.disposals {
        let (filed, ending) = match &disposal.fate {
            Fate::Leaves { filed, ending, .. } => (filed, *ending),
            Fate::Parted { filed, .. } => (filed, Ending::Parted),
            Fate::Stays { .. } | Fate::Quarantined { .. } => continue,
        };
        for it in filed.iter().filter(|it| it.action != Action::Unchanged) {
            counts.entry(it.action).or_default().push(format!("{} {}", it.kind, it.name));
        }
        if matches!(ending, Ending::Unmanaged | Ending::Rejected) {
            aside += 1;
        }
    }
    let mut parts = Vec::new();
    for (action, names) in counts {
        let verb = match action {
            Action::Created => "create",
            Action::Updated => "update",
            Action::Unchanged | Action::Unmanaged => continue,
        };
        parts.push(match names.len() {
            n if n > NAMED_MAX => format!("{verb} {n} resources"),
            _ => format!("{verb} {}", names.join(", ")),
        });
    }
    if aside > 0 {
        parts.push(format!("set {aside} {} aside", if aside == 1 { "file" } else { "files" }));
    }
    let (told, withdrawn) = reports(plan);
    let files = |n: usize| if n == 1 { "file" } else { "files" };
    if told > 0 {
        parts.push(format!("reject {told} {}", files(told)));
    }
    if withdrawn > 0 && parts.is_empty() {
        parts.push(format!("clear the report of {withdrawn} {}", files(withdrawn)));
    }
    if plan.disposals.is_empty() && parts.is_empty() {
        parts.push("make the directories of the fabric".to_owned());
    }
    if parts.is_empty() {
        parts.push("take drops out of raw/".to_owned());
    }
    parts.join("; ")
}

/// How many drops that stay get a report in the tree, and how many lose theirs.
fn reports(plan: &Plan) -> (usize, usize) {
    let ends = |it: &&Change| it.path().ends_with(crate::pipeline::REPORT_SUFFIX.as_bytes());
    let (told, withdrawn): (Vec<_>, Vec<_>) =
        plan.changes.iter().filter(ends).partition(|it| matches!(it, Change::Write { .. }));
    // One that moved to unmanaged/ has its report there, and counts as set aside.
    let moved = |it: &&Disposal| matches!(it.fate, Fate::Leaves { ending: Ending::Rejected, .. });
    let moved = plan.disposals.iter().filter(moved).count();
    (told.len().saturating_sub(moved), withdrawn.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_back() {
        let text = "fabric-1: create VPC a\n\nIntake-Operation: 0192f0c1-2345-7abc-8def-0123456789ab\n\
                    Intake-Source: f 1/managed/vpcs/a.yaml 2:14 team a/wiring\\x0a.yaml\nIntake-Actor: x\n";
        let read = trailers(text);
        let path = RepoPath::parse("f 1/managed/vpcs/a.yaml").unwrap();
        let source = &read.sources[&path];
        assert_eq!((source.document, source.line), (2, 14));
        assert_eq!(source.path.as_bytes(), b"team a/wiring\n.yaml");
        assert_eq!(source.operation, read.operation);
    }

    #[test]
    fn a_damaged_trailer_is_passed_over() {
        let text = "x\n\nIntake-Operation: nonsense\nIntake-Source: ../x.yaml 1:1 a\nIntake-Source: a.yaml\n";
        assert_eq!(trailers(text), Trailers::default());
    }
}
