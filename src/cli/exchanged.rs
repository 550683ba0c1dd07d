//! Answers about both ways, undoing, releasing and fabrics for people. Pure: a report goes in, text
//! comes out.

use super::render::{delivered, ingest, plain};
use super::table::{Paint, Style, Table, count, printable};
use crate::agent::fabrics::{FabricChange, FabricState, FabricView};
use crate::model::account::{
    HandEditState, IncomingKind, ReleaseReport, RevertReport, SyncReport, TidyReport,
};
use crate::model::report::FabricStatus;
use std::fmt::Write as _;

/// So many changes are named; the rest are counted.
const NAMED_MAX: usize = 40;

/// The answer of `sync`.
pub fn synced(it: &SyncReport, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    let mut table = Table::indented(2);
    for change in it.incoming.iter().take(NAMED_MAX) {
        let (style, word) = match change.kind {
            IncomingKind::Created => (Style::Good, "created"),
            IncomingKind::Updated => (Style::Good, "updated"),
            IncomingKind::Moved => (Style::Good, "moved"),
            IncomingKind::Removed => (Style::Bad, "removed"),
            IncomingKind::Stray => (Style::Warning, "no resource"),
            IncomingKind::Intake => (Style::Good, "to be taken"),
        };
        table.row([(style, word.to_owned()), plain(&change.path.to_string())]);
    }
    let n = usize::try_from(it.incoming_count).unwrap_or(usize::MAX);
    let would = if it.dry_run { "would come in" } else { "came in" };
    let _ = writeln!(out, "{} {would}", count(n, "change"));
    out.push_str(&table.render(paint));
    if let more @ 1.. = n.saturating_sub(NAMED_MAX) {
        let _ = writeln!(out, "  and {more} more");
    }
    for path in it.overlaps.iter().take(NAMED_MAX) {
        let word = paint.dress(Style::Bad, "would be a conflict");
        let _ = writeln!(out, "  {word}: {}", printable(&path.to_string()));
    }
    out.push_str(&super::listing::conflict_lines(&it.conflicts, paint));
    for hold in &it.holds {
        let word = paint.dress(Style::Bad, "held");
        let _ = writeln!(out, "{word}: {}", printable(&hold.reason));
    }
    out.push_str(&ingest(&it.ingested, colored));
    if it.ingested.is_empty() {
        out.push_str(&delivered(&it.delivery, paint));
    }
    out
}

/// The answer of `release`.
pub fn released(it: &ReleaseReport, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    for it in &it.released {
        let files = count(usize::try_from(it.hold.removed).unwrap_or(usize::MAX), "file");
        let word = if it.restored { "brought back" } else { "let go" };
        let commit = it.commit_id.map(|it| format!(", commit {}", it.short())).unwrap_or_default();
        let _ = writeln!(out, "{}: {files} {word}{commit}", it.hold.fabric);
    }
    if it.released.is_empty() {
        out.push_str("nothing is held\n");
    }
    out + &delivered(&it.delivery, paint)
}

/// The answer of `revert`.
pub fn reverted(it: &RevertReport, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    for file in it.files.iter().take(NAMED_MAX) {
        let (style, word) = match (file.open.is_empty(), file.changed_since) {
            (false, _) => (Style::Bad, "in the way: changed since in the same fields"),
            (true, true) => (Style::Warning, "undone, with what was changed since"),
            (true, false) => (Style::Good, "undone"),
        };
        let _ = writeln!(out, "{}: {}", file.path, paint.dress(style, word));
        for clash in &file.open {
            let _ = writeln!(out, "    {}", printable(&clash.path.to_string()));
        }
    }
    if let more @ 1.. = it.files.len().saturating_sub(NAMED_MAX) {
        let _ = writeln!(out, "and {more} more");
    }
    let _ = match (it.commit_id, it.dry_run) {
        (Some(id), _) => {
            writeln!(out, "operation {} is reverted, commit {}", it.reverted, id.short())
        }
        (None, true) => writeln!(out, "nothing was changed (dry run)"),
        (None, false) => writeln!(out, "nothing was changed"),
    };
    out + &delivered(&it.delivery, paint)
}

/// The answer of `fabric list`.
pub fn fabrics(list: &[FabricView], colored: bool) -> String {
    if list.is_empty() {
        return "no fabric yet; make one: git-intake fabric add NAME\n".to_owned();
    }
    let mut table = Table::with_head(&["FABRIC", "DIRECTORY", "MODE", "RESOURCES", "STATE"]);
    for it in list {
        let (style, word) = state(it);
        table.row([
            plain(it.name.as_str()),
            plain(&it.dir.to_string()),
            plain(&it.mode.to_string()),
            plain(&it.records.to_string()),
            (style, word),
        ]);
    }
    table.render(Paint { colored })
}

fn state(it: &FabricView) -> (Style, String) {
    match (&it.hold, it.state) {
        (Some(_), _) => (Style::Bad, "held".to_owned()),
        (None, FabricState::Initialized) => (Style::Good, "initialized".to_owned()),
        (None, FabricState::NotInitialized) => (Style::Warning, "not initialized".to_owned()),
        (None, FabricState::InvalidStructure) => (Style::Bad, "invalid structure".to_owned()),
    }
}

/// The answer of `fabric show` and `fabric set`.
pub fn fabric(it: &FabricView, colored: bool) -> String {
    let paint = Paint { colored };
    let (style, word) = state(it);
    let name = paint.dress(Style::Bold, it.name.as_str());
    let mut out = format!("{name}: {}\n", paint.dress(style, &word));
    let mut table = Table::indented(2);
    let mut row =
        |name: &str, value: String| table.row([(Style::Dim, name.to_owned()), plain(&value)]);
    row("directory", it.dir.to_string());
    row("mode", it.mode.to_string());
    row("on delete", it.on_delete.to_string());
    row("conflict", it.conflict.to_string());
    row("resources", it.records.to_string());
    row("orphans", it.orphans.to_string());
    row("conflicts", it.conflicts.to_string());
    row("records follow", it.synced.map_or("nothing yet".to_owned(), |it| it.to_string()));
    if let Some(reason) = it.hold.as_ref().map(|it| &it.reason).or(it.problem.as_ref()) {
        row("why", reason.clone());
    }
    if let Some(file) = &it.settings_file {
        row("settings", file.display().to_string());
    }
    out.push_str(&table.render(paint));
    out
}

/// The answer of `fabric add` and `fabric remove`.
pub fn changed(it: &FabricChange, word: &str, colored: bool) -> String {
    let paint = Paint { colored };
    let files = match it.files {
        0 => String::new(),
        n => format!(", {}", count(usize::try_from(n).unwrap_or(usize::MAX), "file")),
    };
    let commit = it.commit_id.map(|it| format!(", commit {}", it.short())).unwrap_or_default();
    let mut out = format!("fabric {} in {}/ {word}{files}{commit}\n", it.name, it.dir);
    if let Some(tag) = &it.backup {
        let _ = writeln!(
            out,
            "what was there is kept under the tag {tag}; to have it back: git-intake fabric add {} \
             --dir {} --restore {tag}",
            it.name, it.dir
        );
    }
    out + &delivered(&it.delivery, paint)
}

/// The answer of `fabric tidy`.
pub fn tidied(it: &TidyReport, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    let word = if it.dry_run { "would move" } else { "moved" };
    for one in it.moved.iter().take(NAMED_MAX) {
        let _ = writeln!(out, "{word} {} to {}", one.from, one.to);
    }
    for one in it.left.iter().take(NAMED_MAX) {
        let word = paint.dress(Style::Warning, "left");
        let _ = writeln!(
            out,
            "{word} {}: another file is at {}; remove one of the two",
            one.from, one.to
        );
    }
    let hidden = it.moved.len().saturating_sub(NAMED_MAX) + it.left.len().saturating_sub(NAMED_MAX);
    if hidden > 0 {
        let _ = writeln!(out, "and {}; --json names them", count(hidden, "more file"));
    }
    if it.more > 0 {
        let _ = writeln!(out, "{} more wait: run it again", it.more);
    }
    if it.moved.is_empty() && it.left.is_empty() {
        let _ = writeln!(out, "every file of {} is where it belongs", it.fabric);
    }
    out + &delivered(&it.delivery, paint)
}

/// What in and around `managed/` somebody may want to look at; for `status`.
pub(super) fn around(it: &FabricStatus, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(hold) = &it.hold {
        let word = paint.dress(Style::Bad, "held");
        let _ = writeln!(out, "  {word}: {}", printable(&hold.reason));
    }
    if it.orphans > 0 {
        let n = count(usize::try_from(it.orphans).unwrap_or(usize::MAX), "orphan");
        let _ = writeln!(out, "  {n}: records whose files others removed");
    }
    for stray in it.strays.iter().take(NAMED_MAX) {
        let word = paint.dress(Style::Warning, "no record");
        let path = printable(&stray.path.to_string());
        let _ = writeln!(out, "  {word} {path}: {}", printable(&stray.message));
    }
    for edit in it.hand_edits.iter().take(NAMED_MAX) {
        let (style, word) = match edit.state {
            HandEditState::Waiting => (Style::Dim, "edited by hand, committed when it stood still"),
            HandEditState::Staged => (Style::Dim, "staged by somebody, who commits it"),
            HandEditState::Left => (Style::Warning, "edited by hand and left"),
        };
        let why = edit.why.as_ref().map(|it| format!(": {}", printable(it))).unwrap_or_default();
        let path = printable(&edit.path.to_string());
        let _ = writeln!(out, "  {} {path}{why}", paint.dress(style, word));
    }
    out
}
