//! Answers about conflicts and edits for people. Pure: a report goes in, text comes out.

use super::render::delivered;
use super::table::{Paint, Style, Table, count, printable};
use crate::model::conflict::FieldClash;
use crate::model::report::{ConflictView, EditReport, ResolveReport};
use std::fmt::Write as _;

/// So many characters of one value are shown.
const VALUE_CHARS_MAX: usize = 60;

/// The answer of `conflicts show`.
pub fn conflict(it: &ConflictView, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = super::listing::conflict_lines(std::slice::from_ref(&it.conflict), paint);
    let _ = writeln!(out, "    id {}", it.conflict.id);
    out.push_str(&fields(&it.conflict.fields, paint));
    for (name, text) in [
        ("base, what both began with", &it.base),
        ("record, changed here", &it.record),
        ("git, as it is now", &it.git),
    ] {
        let _ = writeln!(out, "{}", paint.dress(Style::Bold, &format!("-- {name}")));
        out.push_str(&shown(text.as_deref()));
    }
    match &it.preview {
        Some(text) => {
            let _ = writeln!(
                out,
                "{}",
                paint.dress(Style::Good, "-- resolved so, the file would hold")
            );
            out.push_str(&shown((!text.is_empty()).then_some(text)));
        }
        None if it.conflict.kept => {
            let n = count(it.open.len(), "field");
            let _ = writeln!(
                out,
                "{n} to be decided: git-intake conflicts resolve {} --field FIELD=record|git|base, or --strategy",
                it.conflict.path.file_name()
            );
        }
        None => (),
    }
    out
}

/// The answer of `conflicts resolve`.
pub fn resolved(report: &ResolveReport, dry_run: bool, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    for it in &report.conflicts {
        let commit = it.commit_id.map(|it| format!(", commit {}", it.short())).unwrap_or_default();
        let (style, word) = match (it.resolved, dry_run) {
            (true, true) => (Style::Good, "would be resolved"),
            (true, false) => (Style::Good, "resolved"),
            (false, _) => (Style::Bad, "stays open"),
        };
        let _ = writeln!(out, "{}: {}{commit}", it.path, paint.dress(style, word));
        if let Some(reason) = &it.reason {
            let _ = writeln!(out, "  {}", printable(reason));
        }
        out.push_str(&fields(&it.open, paint));
        if dry_run && it.resolved {
            out.push_str(&shown(it.content.as_deref()));
        }
    }
    if report.conflicts.is_empty() {
        out.push_str("no conflicts\n");
    }
    if !dry_run {
        out.push_str(&delivered(&report.delivery, paint));
    }
    out
}

/// The answer of `records set`, `records edit` and `records delete`.
pub fn edited(it: &EditReport, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    if !it.open.is_empty() {
        let words = "git has changed the same fields since; your edit waits as a conflict";
        let _ = writeln!(out, "{}: {}", it.path, paint.dress(Style::Bad, words));
        out.push_str(&fields(&it.open, paint));
        let _ = writeln!(out, "next: git-intake conflicts show {}", it.path.file_name());
        return out;
    }
    let verb = match (&it.before, &it.after) {
        (before, after) if before == after => "unchanged",
        (None, _) => "created",
        (Some(_), Some(_)) => "updated",
        (Some(_), None) => "deleted",
    };
    let commit = it.commit_id.map(|it| format!(", commit {}", it.short())).unwrap_or_default();
    let would = if it.dry_run { "would be " } else { "" };
    let _ = writeln!(out, "{}: {would}{verb}{commit}", it.path);
    if it.dry_run && it.after != it.before {
        out.push_str(&shown(it.after.as_deref()));
    }
    out.push_str(&delivered(&it.delivery, paint));
    out
}

fn fields(list: &[FieldClash], paint: Paint) -> String {
    let mut table = Table::indented(4);
    for it in list {
        let value = |it: &Option<serde_json::Value>| match it {
            Some(it) => it.to_string().chars().take(VALUE_CHARS_MAX).collect(),
            None => "(nothing)".to_owned(),
        };
        let path = match it.path.0.is_empty() {
            true => "the whole resource".to_owned(),
            false => it.path.to_string(),
        };
        table.row([
            (Style::Plain, path),
            (Style::Dim, format!("base {}", value(&it.base))),
            (Style::Plain, format!("record {}", value(&it.record))),
            (Style::Plain, format!("git {}", value(&it.git))),
        ]);
    }
    table.render(paint)
}

/// Somebody's text, each line safe to show.
fn shown(text: Option<&str>) -> String {
    let Some(text) = text else { return "  (no file)\n".to_owned() };
    text.lines().map(|line| format!("  {}\n", printable(line))).collect()
}
