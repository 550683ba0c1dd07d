//! Answers for people: what happened, to what, why, and what to do next.
//!
//! Pure: a report goes in, text comes out, each line ended. The same reports as JSON are [`json`].

use super::table::{Paint, Style, Table, count, printable};
use crate::model::problem::{Problem, Severity};
use crate::model::report::{
    Action, Delivery, Ending, FabricStatus, FileReport, Filed, IngestReport, RepositoryStatus,
    VerifyReport,
};
use serde::Serialize;
use std::fmt::Write as _;

/// So many documents of one answer are named; the rest are counted.
const DOCUMENTS_NAMED_MAX: usize = 40;
/// So many findings of one file are shown; the rest are counted.
const PROBLEMS_SHOWN_MAX: usize = 20;
/// So many characters of a line of somebody's file are shown.
const EXCERPT_CHARS_MAX: usize = 100;

/// One JSON document for programs, ended by a line feed.
pub fn json(answer: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(answer)?;
    text.push('\n');
    Ok(text)
}

/// The answer of `ingest` and `put --wait`, one report for each fabric.
pub fn ingest(reports: &[IngestReport], colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    for report in reports {
        out.push_str(&files(&report.files, paint));
        let _ = writeln!(out, "{}", summary(report, paint));
        out.push_str(&next_steps(report, paint));
    }
    out
}

/// The answer of `status`, for each repository.
pub fn status(repositories: &[RepositoryStatus], colored: bool) -> String {
    let paint = Paint { colored };
    let each = repositories.iter().map(|it| repository(it, paint));
    each.collect::<Vec<_>>().join("\n")
}

/// The answer of `verify`.
pub fn verify(report: &VerifyReport, colored: bool) -> String {
    let paint = Paint { colored };
    let asked = if report.remote_asked { "the remote" } else { "the remote (not asked)" };
    let (files, records) = (report.files, report.records);
    let compared = format!("{files} files, {records} records, HEAD and {asked}");
    if report.differences.is_empty() {
        return format!("{}: {compared}\n", paint.dress(Style::Good, "all agree"));
    }
    let mut out = String::new();
    for it in &report.differences {
        let subject = paint.dress(Style::Bold, &printable(&it.subject));
        let between = it.between.replace('_', " ");
        let _ = writeln!(out, "{subject} ({between}): {}", printable(&it.message));
    }
    let n = count(report.differences.len(), "difference");
    let _ = writeln!(out, "{} among {compared}", paint.dress(Style::Bad, &n));
    let _ = writeln!(out, "next: `git intake rebuild` makes records follow git again");
    out
}

/// One finding with its place, the line it is about, and the way out.
pub fn problem(it: &Problem, colored: bool) -> String {
    let paint = Paint { colored };
    let word = match it.severity {
        Severity::Warning => paint.dress(Style::Warning, "warning"),
        Severity::Error => paint.dress(Style::Bad, "error"),
    };
    let mut out = format!("  {word} {}\n", printable(&it.to_string()));
    if let Some(excerpt) = &it.excerpt {
        out.push_str(&excerpt_lines(excerpt, it.line, it.column, paint));
    }
    if let Some(hint) = &it.hint {
        let _ = writeln!(out, "    {} {}", paint.dress(Style::Dim, "hint:"), printable(hint));
    }
    out
}

/// The line as written, and a caret under the character meant.
fn excerpt_lines(excerpt: &str, line: Option<u32>, column: Option<u32>, paint: Paint) -> String {
    // Escapes widen the text, so the caret follows what stands before it, not the column alone.
    let column = usize::try_from(column.unwrap_or(0)).unwrap_or(0);
    let start = column.saturating_sub(EXCERPT_CHARS_MAX);
    let start = if start < excerpt.chars().count() { start } else { 0 };
    let shown: String = excerpt.chars().skip(start).take(EXCERPT_CHARS_MAX).collect();
    let margin = line.map(|it| it.to_string()).unwrap_or_default();
    let bar = paint.dress(Style::Dim, &format!("{margin} |"));
    let mut out = format!("    {bar} {}\n", printable(&shown));
    // Of a very long line only the beginning is known.
    if column > 0 && column <= excerpt.chars().count() + 1 {
        let before: String = shown.chars().take(column - start - 1).collect();
        let blank = " ".repeat(printable(&before).chars().count());
        let bar = paint.dress(Style::Dim, &format!("{} |", " ".repeat(margin.len())));
        let _ = writeln!(out, "    {bar} {blank}{}", paint.dress(Style::Bad, "^"));
    }
    out
}

/// What became of each file, and of each document that changed something.
pub(super) fn files(reports: &[FileReport], paint: Paint) -> String {
    let mut left = DOCUMENTS_NAMED_MAX;
    reports.iter().map(|it| file(it, &mut left, paint)).collect()
}

fn file(it: &FileReport, left: &mut usize, paint: Paint) -> String {
    let documents = count(it.documents.len(), "document");
    let (style, words) = match it.ending {
        Ending::Managed => (Style::Good, format!("{documents} filed")),
        Ending::Unmanaged => (Style::Warning, "moved to unmanaged/, unchanged".to_owned()),
        Ending::NoDocuments => (Style::Warning, "nothing in it".to_owned()),
        Ending::Parted => (Style::Bad, format!("{documents} filed, the rest stays in raw/")),
        Ending::Rejected => (Style::Bad, "rejected".to_owned()),
    };
    let path = paint.dress(Style::Bold, &printable(&it.path.to_string()));
    let mut out = format!("{path}: {}\n", paint.dress(style, &words));
    let mut table = Table::indented(2);
    let mut unchanged = 0;
    let mut unnamed = 0;
    for filed in &it.documents {
        match filed.action {
            Action::Unchanged => unchanged += 1,
            _ if *left == 0 => unnamed += 1,
            _ => {
                *left -= 1;
                document(filed, &mut table);
            }
        }
    }
    out.push_str(&table.render(paint));
    for (n, words) in [(unnamed, "more"), (unchanged, "unchanged")] {
        if n > 0 {
            let _ = writeln!(out, "  {}", paint.dress(Style::Dim, &format!("{n} {words}")));
        }
    }
    for it in it.problems.iter().take(PROBLEMS_SHOWN_MAX) {
        out.push_str(&problem(it, paint.colored));
    }
    if let more @ 1.. = it.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(out, "  and {}", count(more, "more finding"));
    }
    out
}

fn document(it: &Filed, table: &mut Table) {
    let (style, action) = match it.action {
        Action::Created => (Style::Good, "created"),
        Action::Updated => (Style::Good, "updated"),
        Action::Unchanged => (Style::Dim, "unchanged"),
        Action::Unmanaged => (Style::Warning, "unmanaged"),
    };
    let cut = match it.cut.is_empty() {
        true => String::new(),
        false => format!("without {}", it.cut.join(", ")),
    };
    table.row([
        (style, action.to_owned()),
        (Style::Plain, format!("{} {}", it.kind, qualified(&it.namespace, &it.name))),
        (Style::Plain, it.target.to_string()),
        (Style::Dim, cut),
    ]);
}

/// The name, with its namespace unless that is the one which is meant anyway.
pub(super) fn qualified(namespace: &str, name: &str) -> String {
    match namespace {
        crate::model::key::DEFAULT_NAMESPACE => name.to_owned(),
        namespace => format!("{namespace}/{name}"),
    }
}

fn summary(report: &IngestReport, paint: Paint) -> String {
    let filed = || report.files.iter().flat_map(|it| &it.documents);
    let mut parts = Vec::new();
    for (action, word) in [
        (Action::Created, "created"),
        (Action::Updated, "updated"),
        (Action::Unchanged, "unchanged"),
    ] {
        let n = filed().filter(|it| it.action == action).count();
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    for (ending, word) in [(Ending::Unmanaged, "unmanaged"), (Ending::Rejected, "rejected")] {
        let n = report.files.iter().filter(|it| it.ending == ending).count();
        if n > 0 {
            parts.push(format!("{} {word}", count(n, "file")));
        }
    }
    if parts.is_empty() {
        parts.push("nothing to do".to_owned());
    }
    let name = paint.dress(Style::Bold, report.fabric.as_str());
    let what = parts.join(", ");
    if report.dry_run {
        return format!("{name}: {what}; nothing was changed (dry run)");
    }
    let (style, how) = delivery(&report.delivery, report.commit_id.map(|it| it.short()));
    match how.is_empty() {
        true => format!("{name}: {what}"),
        false => format!("{name}: {what}; {}", paint.dress(style, &how)),
    }
}

fn delivery(it: &Delivery, commit: Option<String>) -> (Style, String) {
    let ours = commit.map(|it| format!("commit {it} ")).unwrap_or_default();
    match it {
        Delivery::Nothing => (Style::Plain, String::new()),
        Delivery::Pushed { commit_id } => {
            (Style::Good, format!("pushed as commit {}", commit_id.short()))
        }
        Delivery::Proposed { commit_id, branch } => {
            let branch = printable(branch.strip_prefix("refs/heads/").unwrap_or(branch));
            let words =
                format!("pushed as commit {} to {branch}, for a pull request", commit_id.short());
            (Style::Good, words)
        }
        Delivery::Waiting { reason } => {
            let words = format!("{ours}is not on the remote yet and is sent again: ");
            (Style::Warning, printable(&(words + reason)))
        }
        Delivery::Held { reason } => (Style::Bad, printable(&format!("{ours}held: {reason}"))),
        Delivery::Local => (Style::Plain, format!("{ours}stays here: no remote is configured")),
    }
}

/// How far commits went, on a line of its own; nothing where there was nothing to send.
pub(super) fn delivered(it: &Delivery, paint: Paint) -> String {
    let (style, words) = delivery(it, None);
    match words.is_empty() {
        true => String::new(),
        false => format!("{}\n", paint.dress(style, &words)),
    }
}

fn next_steps(report: &IngestReport, paint: Paint) -> String {
    let rejected = report.files.iter().filter(|it| it.ending == Ending::Rejected).count();
    if rejected == 0 || report.dry_run {
        return String::new();
    }
    let next = paint.dress(Style::Bold, "next:");
    format!("{next} mend what is named above where it lies in raw/; saving it is enough\n")
}

fn repository(it: &RepositoryStatus, paint: Paint) -> String {
    let agent = match it.running {
        true => paint.dress(Style::Good, "agent running"),
        false => paint.dress(Style::Warning, "no agent running"),
    };
    let tree = paint.dress(Style::Bold, &printable(&it.work_tree));
    let mut out = format!("{tree}: {agent}\n");
    let mut table = Table::indented(2);
    let branch = it.branch.as_deref().unwrap_or("detached HEAD");
    let head = it.head.map_or("no commit yet".to_owned(), |it| it.short());
    table.row([plain("branch"), plain(&format!("{branch} at {head}"))]);
    let remote = it.remote.as_deref().unwrap_or("none: commits stay here");
    table.row([plain("remote"), plain(remote)]);
    if it.remote.is_some() {
        let known = it.remote_head.map_or("nothing heard yet".to_owned(), |it| it.short());
        let (style, words) = match it.unpushed {
            0 => (Style::Good, format!("has everything (at {known})")),
            n => {
                let n = usize::try_from(n).unwrap_or(usize::MAX);
                (Style::Warning, format!("lacks {} (at {known})", count(n, "commit")))
            }
        };
        table.row([plain(""), (style, words)]);
    }
    if let Some(branch) = &it.proposed {
        let branch = printable(branch.strip_prefix("refs/heads/").unwrap_or(branch));
        let words = format!("{branch} waits to be merged: open a pull request for it");
        table.row([(Style::Warning, "proposed".to_owned()), (Style::Plain, words)]);
    }
    if let Some(reason) = &it.held {
        table.row([(Style::Bad, "held".to_owned()), plain(reason)]);
    }
    if let Some(reason) = &it.waiting {
        table.row([(Style::Warning, "waiting".to_owned()), plain(reason)]);
    }
    if let Some(reason) = &it.kept {
        table.row([(Style::Warning, "kept".to_owned()), plain(reason)]);
    }
    if let Some(reason) = &it.polled {
        table.row([(Style::Warning, "polling".to_owned()), plain(reason)]);
    }
    out.push_str(&table.render(paint));
    it.fabrics.iter().for_each(|it| out.push_str(&fabric(it, paint)));
    if !it.running {
        let _ = writeln!(out, "next: `git intake run` watches, `git intake ingest` takes one turn");
    }
    out
}

fn fabric(it: &FabricStatus, paint: Paint) -> String {
    let name = paint.dress(Style::Bold, it.name.as_str());
    let mut out = format!(
        "{name} ({}): {} resources, {} waiting, {} rejected, {}\n",
        it.dir,
        it.records,
        it.pending,
        it.rejected_count,
        count(it.conflicts.len(), "conflict"),
    );
    if let Some(it) = &it.progress {
        let left = match it.per_second {
            0 => String::new(),
            n => format!(", about {} s to go", it.waiting / n),
        };
        let words = format!("{} taken, {} a second{left}", it.taken, it.per_second);
        let _ = writeln!(out, "  {} {words}", paint.dress(Style::Warning, "at work"));
    }
    for rejected in &it.rejected {
        let word = paint.dress(Style::Bad, "rejected");
        let why = rejected.problem.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
        let path = rejected.path.to_string();
        let _ = writeln!(out, "  {word} {}", printable(&(path + &why)));
        if let Some(hint) = rejected.problem.as_ref().and_then(|it| it.hint.as_deref()) {
            let _ = writeln!(out, "    {} {}", paint.dress(Style::Dim, "hint:"), printable(hint));
        }
    }
    if let more @ 1.. = it.rejected_count.saturating_sub(it.rejected.len() as u64) {
        let _ = writeln!(out, "  and {more} more; see `git intake reject list`");
    }
    out.push_str(&super::listing::conflict_lines(&it.conflicts, paint));
    out.push_str(&super::exchanged::around(it, paint));
    out
}

pub(super) fn plain(text: &str) -> (Style, String) {
    (Style::Plain, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fabric::FabricName;
    use crate::model::ids::CommitId;
    use crate::model::path::{RawPath, RepoPath};
    use crate::model::report::{Difference, Progress, RejectedFile};
    use crate::model::rules::Mode;

    fn commit_id() -> CommitId {
        CommitId::try_from("0123456789abcdef0123456789abcdef01234567".to_owned()).unwrap()
    }

    fn filed(action: Action, name: &str, cut: &[&str]) -> Filed {
        Filed {
            document: 1,
            line: 1,
            kind: "VPC".into(),
            namespace: "default".into(),
            name: name.into(),
            target: RepoPath::parse(&format!("f/managed/vpcs/{name}.yaml")).unwrap(),
            action,
            cut: cut.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    fn report(files: Vec<FileReport>, delivery: Delivery) -> IngestReport {
        IngestReport {
            fabric: FabricName::parse("f").unwrap(),
            operation: None,
            commit_id: Some(commit_id()),
            files,
            stages: Vec::new(),
            delivery,
            dry_run: false,
        }
    }

    fn bad_file() -> FileReport {
        let mut problem = Problem::error("wrong-type", "`subnets` must be a mapping")
            .at(4, 12)
            .in_document(2)
            .hint("indent the subnets below it");
        problem.excerpt = Some("  subnets: 7".into());
        FileReport {
            path: RawPath::new("bad.yaml"),
            ending: Ending::Rejected,
            documents: Vec::new(),
            problems: vec![problem],
        }
    }

    #[test]
    fn a_turn_tells_what_became_of_each_file_and_what_to_do_next() {
        let good = FileReport {
            path: RawPath::new("wiring.yaml"),
            ending: Ending::Managed,
            documents: vec![
                filed(Action::Created, "vpc-1", &["status", "metadata.uid"]),
                filed(Action::Updated, "vpc-with-a-name", &[]),
                filed(Action::Unchanged, "vpc-3", &[]),
            ],
            problems: Vec::new(),
        };
        let pushed = Delivery::Pushed { commit_id: commit_id() };
        let text = ingest(&[report(vec![good, bad_file()], pushed)], false);
        insta::assert_snapshot!(text, @r"
        wiring.yaml: 3 documents filed
          created  VPC vpc-1            f/managed/vpcs/vpc-1.yaml            without status, metadata.uid
          updated  VPC vpc-with-a-name  f/managed/vpcs/vpc-with-a-name.yaml
          1 unchanged
        bad.yaml: rejected
          error 4:12: `subnets` must be a mapping (document 2, wrong-type)
            4 |   subnets: 7
              |            ^
            hint: indent the subnets below it
        f: 1 created, 1 updated, 1 unchanged, 1 file rejected; pushed as commit 01234567
        next: mend what is named above where it lies in raw/; saving it is enough
        ");
    }

    #[test]
    fn a_turn_without_work_says_so_and_one_that_waits_says_why() {
        let nothing = report(Vec::new(), Delivery::Nothing);
        assert_eq!(ingest(&[nothing], false), "f: nothing to do\n");
        let waiting = Delivery::Waiting { reason: "cannot reach example.org".into() };
        let text = ingest(&[report(Vec::new(), waiting)], false);
        assert!(text.contains("commit 01234567 is not on the remote yet"), "{text}");
        assert!(text.contains("cannot reach example.org"), "{text}");
    }

    #[test]
    fn ten_thousand_documents_are_counted_and_not_all_named() {
        let file = FileReport {
            path: RawPath::new("all.yaml"),
            ending: Ending::Managed,
            documents: (0..10_000).map(|n| filed(Action::Created, &format!("v{n}"), &[])).collect(),
            problems: Vec::new(),
        };
        let text = files(&[file], Paint { colored: false });
        assert!(text.lines().count() < 50 && text.contains("9960 more"), "{text}");
    }

    #[test]
    fn colours_and_control_characters_appear_only_where_they_may() {
        let mut file = bad_file();
        file.problems[0].message = "odd \x1b[2J name".into();
        file.problems[0].excerpt = Some("\x1b[2J: 7".into());
        let plain = files(std::slice::from_ref(&file), Paint { colored: false });
        assert!(!plain.contains('\x1b'), "{plain:?}");
        let colored = files(&[file], Paint { colored: true });
        assert!(colored.contains("\x1b[31m") && !colored.contains("\x1b[2J"), "{colored:?}");
    }

    #[test]
    fn the_status_of_a_repository_names_what_waits_for_a_person() {
        let problem = bad_file().problems.remove(0);
        let it = RepositoryStatus {
            work_tree: "/srv/gitops".into(),
            running: false,
            branch: Some("main".into()),
            head: Some(commit_id()),
            remote: Some("origin https://example.org/x.git".into()),
            remote_head: None,
            unpushed: 2,
            proposed: None,
            held: None,
            waiting: Some("cannot reach example.org".into()),
            kept: None,
            polled: Some("raw/ lies on NFS".into()),
            turns: 0,
            fabrics: vec![FabricStatus {
                name: FabricName::parse("f").unwrap(),
                dir: RepoPath::parse("f").unwrap(),
                records: 46,
                pending: 1,
                progress: Some(Progress { taken: 900, waiting: 1000, per_second: 100 }),
                rejected_count: 2,
                rejected: vec![RejectedFile {
                    path: RawPath::new("bad.yaml"),
                    problem: Some(problem),
                }],
                conflicts: Vec::new(),
                mode: Mode::Full,
                hold: None,
                orphans: 0,
                strays: Vec::new(),
                hand_edits: Vec::new(),
                synced: None,
            }],
        };
        insta::assert_snapshot!(status(&[it], false), @r"
        /srv/gitops: no agent running
          branch   main at 01234567
          remote   origin https://example.org/x.git
                   lacks 2 commits (at nothing heard yet)
          waiting  cannot reach example.org
          polling  raw/ lies on NFS
        f (f): 46 resources, 1 waiting, 2 rejected, 0 conflicts
          at work 900 taken, 100 a second, about 10 s to go
          rejected bad.yaml: 4:12: `subnets` must be a mapping (document 2, wrong-type)
            hint: indent the subnets below it
          and 1 more; see `git intake reject list`
        next: `git intake run` watches, `git intake ingest` takes one turn
        ");
    }

    #[test]
    fn verify_tells_agreement_from_difference() {
        let mut report =
            VerifyReport { files: 46, records: 46, remote_asked: true, differences: Vec::new() };
        let text = verify(&report, false);
        assert_eq!(text, "all agree: 46 files, 46 records, HEAD and the remote\n");
        report.differences.push(Difference {
            between: "work_tree".into(),
            subject: "f/managed/vpcs/a.yaml".into(),
            message: "is gone; `git checkout` brings it back".into(),
        });
        let text = verify(&report, false);
        assert!(text.starts_with("f/managed/vpcs/a.yaml (work tree): is gone"), "{text}");
        assert!(text.contains("1 difference among 46 files"), "{text}");
    }

    #[test]
    fn json_is_one_document_and_reads_back() {
        let report = report(vec![bad_file()], Delivery::Local);
        let text = json(&[&report]).unwrap();
        let back: Vec<IngestReport> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, [report]);
        assert!(text.ends_with("]\n"));
    }
}
