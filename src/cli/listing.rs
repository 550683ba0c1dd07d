//! Answers from the store for people: records, operations, conflicts, as lists and one by one.

use super::render::{files, plain, qualified};
use super::table::{Paint, Style, Table, count, printable};
use crate::model::operation::{Operation, State};
use crate::model::record::{Conflict, ConflictKind, Record, Reject, Source};
use crate::model::report::{Ignored, IgnoredList};
use std::fmt::Write as _;

/// So many changed paths of one operation are named; the rest are counted.
const CHANGES_NAMED_MAX: usize = 100;

/// The answer of `records list`.
pub fn records(list: &[Record], colored: bool) -> String {
    if list.is_empty() {
        return "no resources on record; drop a file in raw/, or `git intake put FILE`\n"
            .to_owned();
    }
    let mut table = Table::with_head(&["FABRIC", "KIND", "NAME", "FILE", "SOURCE"]);
    for it in list {
        table.row([
            plain(it.fabric.as_str()),
            plain(&it.key.kind),
            plain(&qualified(&it.key.namespace, &it.key.name)),
            plain(it.path.as_str()),
            (Style::Dim, it.source.as_ref().map(place).unwrap_or_default()),
        ]);
    }
    table.render(Paint { colored })
}

/// The answer of `records show`.
pub fn record(it: &Record, colored: bool) -> String {
    let paint = Paint { colored };
    let title = format!("{} {}", it.key.kind, qualified(&it.key.namespace, &it.key.name));
    let mut out = format!("{}\n", paint.dress(Style::Bold, &printable(&title)));
    let mut table = Table::indented(2);
    let mut row =
        |name: &str, value: String| table.row([(Style::Dim, name.to_owned()), plain(&value)]);
    row("id", it.id.to_string());
    row("fabric", it.fabric.to_string());
    row("api version", it.api_version.clone());
    row("file", it.path.to_string());
    row("sha256", it.sha256.to_string());
    row("blob", it.blob_id.to_string());
    row("commit", it.commit_id.map_or("not known".to_owned(), |it| it.to_string()));
    match &it.source {
        Some(source) => {
            row("source", format!("{}, document {}", place(source), source.document));
            if let Some(id) = source.operation {
                row("operation", id.to_string());
            }
        }
        None => row("source", "found in the tree".to_owned()),
    }
    for (name, map) in [("label", &it.labels), ("annotation", &it.annotations)] {
        for (key, value) in map {
            row(name, format!("{key}={value}"));
        }
    }
    out.push_str(&table.render(paint));
    out
}

/// The answer of `operations list`, in the order given.
pub fn operations(list: &[Operation], colored: bool) -> String {
    if list.is_empty() {
        return "no operations yet\n".to_owned();
    }
    let head = ["ID", "STARTED", "FABRIC", "PURPOSE", "TRIGGER", "STATE", "COMMIT", "FILES"];
    let mut table = Table::with_head(&head);
    for it in list {
        table.row([
            plain(&it.id.to_string()),
            plain(&moment(it.started_at)),
            plain(it.fabric.as_str()),
            plain(&it.purpose.to_string()),
            plain(&it.trigger.to_string()),
            (state_style(&it.state), it.state.word().to_owned()),
            plain(&it.state.commit_id().map(|it| it.short()).unwrap_or_default()),
            plain(&it.files.len().to_string()),
        ]);
    }
    table.render(Paint { colored })
}

/// The answer of `operations show`.
pub fn operation(it: &Operation, colored: bool) -> String {
    let paint = Paint { colored };
    let word = paint.dress(state_style(&it.state), it.state.word());
    let title = paint.dress(Style::Bold, &it.id.to_string());
    let mut out = format!("{title}: {word}\n");
    let mut table = Table::indented(2);
    let mut row =
        |name: &str, value: String| table.row([(Style::Dim, name.to_owned()), plain(&value)]);
    row("fabric", it.fabric.to_string());
    row("purpose", format!("{}, set off by {}", it.purpose, it.trigger));
    row("actor", it.actor.clone());
    row("started", moment(it.started_at));
    if let Some(at) = it.completed_at {
        row("completed", moment(at));
    }
    row("branch", it.branch.clone());
    row("base", it.base.map_or("no commit yet".to_owned(), |it| it.to_string()));
    if let Some(id) = it.state.commit_id() {
        row("commit", id.to_string());
    }
    match &it.state {
        State::Held { reason } | State::Undone { reason } => row("why", reason.clone()),
        State::Local { .. } => (),
        State::Planned | State::Applied | State::Done => (),
        State::Committed { .. } | State::Pushed { .. } => (),
    }
    out.push_str(&table.render(paint));
    if !it.changes.is_empty() {
        let n = count(it.changes.len(), "changed file");
        let _ = writeln!(out, "{}", paint.dress(Style::Bold, &n));
    }
    for change in it.changes.iter().take(CHANGES_NAMED_MAX) {
        let (style, mark) = match (&change.digest, change.was) {
            (Some(_), None) => (Style::Good, "+"),
            (Some(_), Some(_)) => (Style::Warning, "~"),
            (None, _) => (Style::Bad, "-"),
        };
        let path = printable(&change.path.to_string());
        let _ = writeln!(out, "  {} {path}", paint.dress(style, mark));
    }
    if let more @ 1.. = it.changes.len().saturating_sub(CHANGES_NAMED_MAX) {
        let _ = writeln!(out, "  and {more} more");
    }
    out.push_str(&files(&it.files, paint));
    out
}

/// The answer of `reject list`.
pub fn rejects(list: &[Reject], colored: bool) -> String {
    let paint = Paint { colored };
    if list.is_empty() {
        return format!("{}\n", paint.dress(Style::Good, "nothing is rejected"));
    }
    let mut out = String::new();
    for it in list {
        let path = paint.dress(Style::Bold, &printable(&it.path.to_string()));
        let _ = writeln!(out, "{path} ({}, since {})", it.fabric, moment(it.since));
        it.problems.iter().for_each(|it| out.push_str(&super::render::problem(it, colored)));
    }
    let n = count(list.len(), "drop");
    let _ = writeln!(
        out,
        "{n} rejected; mend and save, and they are taken by themselves; `git intake retry` judges them \
         as they are"
    );
    out
}

/// The answer of `status --ignored`.
pub fn ignored(lists: &[IgnoredList], colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    for it in lists {
        let name = paint.dress(Style::Bold, it.fabric.as_str());
        let n = usize::try_from(it.count).unwrap_or(usize::MAX);
        let words = match n {
            1 => "1 entry of raw/ is left alone".to_owned(),
            n => format!("{n} entries of raw/ are left alone"),
        };
        let _ = writeln!(out, "{name}: {words}");
        let mut table = Table::indented(2);
        for entry in &it.entries {
            let slash = if entry.directory { "/" } else { "" };
            table
                .row([plain(&format!("{}{slash}", entry.path)), (Style::Dim, because(&entry.why))]);
        }
        out.push_str(&table.render(paint));
        if let more @ 1.. = n.saturating_sub(it.entries.len()) {
            let _ = writeln!(out, "  and {more} more");
        }
    }
    out
}

fn because(why: &Ignored) -> String {
    match why {
        Ignored::Hidden => "hidden".to_owned(),
        Ignored::Leftover { pattern } => format!("left by an editor or a transfer ({pattern})"),
        Ignored::Pattern { pattern } => format!("matches {pattern} of intake.ignore"),
        Ignored::Report => "a report of ours".to_owned(),
        Ignored::Ours => "ours, while a file is written or taken away".to_owned(),
        Ignored::Aside => "what the agent put aside".to_owned(),
        Ignored::NotNamed => "ends in none of .yaml, .yml and .json".to_owned(),
        Ignored::Unreadable => "cannot be looked into, or is nested too deep".to_owned(),
    }
}

/// The answer of `conflicts list`.
pub fn conflicts(list: &[Conflict], colored: bool) -> String {
    let paint = Paint { colored };
    match list.is_empty() {
        true => format!("{}\n", paint.dress(Style::Good, "no conflicts")),
        false => conflict_lines(list, paint),
    }
}

pub(super) fn conflict_lines(list: &[Conflict], paint: Paint) -> String {
    let mut out = String::new();
    for it in list {
        let word = match it.kind {
            ConflictKind::ConcurrentModification => "two edits at once",
            ConflictKind::DuplicateIdentity => "one resource, two files",
            ConflictKind::Merge => "others changed it too",
            ConflictKind::MissingResource => "removed and changed",
        };
        let word = paint.dress(Style::Bad, word);
        let _ = writeln!(out, "  {word}: {} (since {})", it.path, moment(it.detected_at));
        if let Some(raw) = &it.raw_path {
            let _ = writeln!(out, "    kept back: raw/{}", printable(&raw.to_string()));
        }
        let _ = writeln!(out, "    {}", printable(&it.message));
    }
    out
}

fn state_style(state: &State) -> Style {
    match state {
        State::Pushed { .. } | State::Local { .. } | State::Done => Style::Good,
        State::Planned | State::Applied | State::Committed { .. } => Style::Warning,
        State::Undone { .. } => Style::Dim,
        State::Held { .. } => Style::Bad,
    }
}

/// `wiring.yaml:14`, as editors and compilers write a place.
fn place(source: &Source) -> String {
    format!("{}:{}", source.path, source.line)
}

/// Whole seconds in UTC.
fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::{Sha256, Xxh3};
    use crate::model::fabric::FabricName;
    use crate::model::ids::{BlobId, CommitId, OperationId};
    use crate::model::key::{Key, ResourceId};
    use crate::model::operation::{Purpose, Trigger};
    use crate::model::path::{RawPath, RepoPath};
    use crate::model::plan::Planned;
    use crate::model::problem::Problem;
    use crate::model::report::IgnoredEntry;
    use std::collections::BTreeMap;

    const HEX: &str = "0123456789abcdef0123456789abcdef01234567";

    fn a_record() -> Record {
        let fabric = FabricName::parse("f").unwrap();
        let key = Key {
            group: "vpc.githedgehog.com".into(),
            kind: "VPC".into(),
            namespace: "team-a".into(),
            name: "vpc-1".into(),
        };
        Record {
            id: ResourceId::of(&fabric, &key),
            fabric,
            key,
            api_version: "vpc.githedgehog.com/v1beta1".into(),
            path: RepoPath::parse("f/managed/vpcs/team-a/vpc-1.yaml").unwrap(),
            blob_id: BlobId::try_from(HEX.to_owned()).unwrap(),
            sha256: Sha256::of(b"x"),
            content: Xxh3::of(b"x"),
            commit_id: None,
            labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
            annotations: BTreeMap::new(),
            source: Some(Source {
                path: RawPath::new("wiring.yaml"),
                document: 2,
                line: 14,
                operation: None,
            }),
            modifications: Vec::new(),
            actual: None,
        }
    }

    fn an_operation(state: State) -> Operation {
        Operation {
            id: OperationId("0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap()),
            fabric: FabricName::parse("f").unwrap(),
            purpose: Purpose::Ingestion,
            trigger: Trigger::Watch,
            actor: "agent".into(),
            started_at: "2026-11-24T00:00:00Z".parse().unwrap(),
            completed_at: None,
            state,
            base: None,
            branch: "refs/heads/main".into(),
            changes: vec![Planned {
                path: RawPath::new("f/managed/vpcs/vpc-1.yaml"),
                digest: Some(Sha256::of(b"x")),
                was: None,
            }],
            taken: Vec::new(),
            files: Vec::new(),
            stages: Vec::new(),
        }
    }

    #[test]
    fn a_list_of_records_says_where_each_is_and_where_it_came_from() {
        insta::assert_snapshot!(records(&[a_record()], false), @r"
        FABRIC  KIND  NAME          FILE                              SOURCE
        f       VPC   team-a/vpc-1  f/managed/vpcs/team-a/vpc-1.yaml  wiring.yaml:14
        ");
        assert!(records(&[], false).contains("git intake put"));
    }

    #[test]
    fn a_record_is_shown_whole() {
        let text = record(&a_record(), false);
        for part in ["VPC team-a/vpc-1", "wiring.yaml:14, document 2", "tier=gold", HEX] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_operation_says_how_far_it_came_and_why_it_is_held() {
        let commit_id = CommitId::try_from(HEX.to_owned()).unwrap();
        let list = operations(&[an_operation(State::Pushed { commit_id })], false);
        insta::assert_snapshot!(list, @r"
        ID                                    STARTED               FABRIC  PURPOSE    TRIGGER  STATE   COMMIT    FILES
        0192f0c1-2345-7abc-8def-0123456789ab  2026-11-24 00:00:00Z  f       ingestion  watch    pushed  01234567  0
        ");
        let held = an_operation(State::Held { reason: "HEAD is detached".into() });
        let text = operation(&held, false);
        assert!(text.contains("why      HEAD is detached"), "{text}");
        assert!(text.contains("+ f/managed/vpcs/vpc-1.yaml"), "{text}");
    }

    #[test]
    fn a_rejected_drop_is_listed_with_every_reason() {
        let problem = |rule: &str| Problem::error(rule, "wrong\x1b[2J").at(3, 7).hint("mend it");
        let reject = Reject {
            fabric: FabricName::parse("f").unwrap(),
            path: RawPath::new("team\n/a.yaml"),
            drop_id: Sha256::of(b"x"),
            problems: vec![problem("one"), problem("two")],
            since: "2026-11-24T00:00:00Z".parse().unwrap(),
        };
        insta::assert_snapshot!(rejects(&[reject], false), @r"
        team\x0a/a.yaml (f, since 2026-11-24 00:00:00Z)
          error 3:7: wrong\u{1b}[2J (one)
            hint: mend it
          error 3:7: wrong\u{1b}[2J (two)
            hint: mend it
        1 drop rejected; mend and save, and they are taken by themselves; `git intake retry` judges them as they are
        ");
        assert_eq!(rejects(&[], false), "nothing is rejected\n");
    }

    #[test]
    fn what_is_left_alone_is_told_with_its_reason() {
        let entry =
            |path: &str, directory, why| IgnoredEntry { path: RawPath::new(path), directory, why };
        let list = IgnoredList {
            fabric: FabricName::parse("f").unwrap(),
            entries: vec![
                entry(".git", true, Ignored::Hidden),
                entry("a.yaml~", false, Ignored::Leftover { pattern: "*~".to_owned() }),
                entry("drafts", true, Ignored::Pattern { pattern: "drafts/".to_owned() }),
                entry("notes.txt", false, Ignored::NotNamed),
            ],
            count: 5,
        };
        insta::assert_snapshot!(ignored(&[list], false), @r"
        f: 5 entries of raw/ are left alone
          .git/      hidden
          a.yaml~    left by an editor or a transfer (*~)
          drafts/    matches drafts/ of intake.ignore
          notes.txt  ends in none of .yaml, .yml and .json
          and 1 more
        ");
    }

    #[test]
    fn a_conflict_says_what_meets_and_the_way_out() {
        let record = a_record();
        let conflict = Conflict {
            id: record.id,
            fabric: record.fabric,
            path: record.path,
            kind: ConflictKind::ConcurrentModification,
            raw_path: Some(RawPath::new("new.yaml")),
            message: "commit or discard your edit".into(),
            detected_at: "2026-11-24T00:00:00Z".parse().unwrap(),
            fields: Vec::new(),
            strategy: Default::default(),
            kept: false,
        };
        insta::assert_snapshot!(conflicts(&[conflict], false), @r"
          two edits at once: f/managed/vpcs/team-a/vpc-1.yaml (since 2026-11-24 00:00:00Z)
            kept back: raw/new.yaml
            commit or discard your edit
        ");
        assert_eq!(conflicts(&[], false), "no conflicts\n");
    }
}
