//! What `check` found, for people and for the tools that show findings beside the lines.
//!
//! Pure: a report goes in, text comes out.

use super::table::{Paint, Style, Table, count, printable};
use crate::model::path::RawPath;
use crate::model::problem::{Problem, Severity};
use crate::model::report::{CheckReport, Ending, FileReport};
use crate::pipeline::explain;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

/// So many documents of one answer are named; the rest are counted.
const DOCUMENTS_NAMED_MAX: usize = 40;

/// For people: the files with findings, those that were named, and all of it in numbers.
pub fn human(report: &CheckReport, named: &HashSet<RawPath>, colored: bool) -> String {
    let paint = Paint { colored };
    let mut out = String::new();
    let mut left = DOCUMENTS_NAMED_MAX;
    for it in &report.files {
        if !it.problems.is_empty() {
            out.push_str(&explain::render(&it.path.to_string(), &it.problems, colored));
        }
        if named.contains(&it.path) {
            out.push_str(&file(it, &mut left, paint));
        }
    }
    let it = &report.summary;
    let number = |n: u64, thing: &str| count(usize::try_from(n).unwrap_or(usize::MAX), thing);
    let (style, words) = match it.rejected {
        0 if it.files == 1 => (Style::Good, "1 file as it should be".to_owned()),
        0 => (Style::Good, format!("{} as they should be", number(it.files, "file"))),
        bad => (Style::Bad, format!("{bad} of {} to be mended", number(it.files, "file"))),
    };
    let mut words = paint.dress(style, &words);
    let _ = write!(words, "; {} would be filed", number(it.documents, "document"));
    for (n, what) in [(it.unmanaged, "of foreign kinds"), (it.no_documents, "without documents")] {
        if n > 0 {
            let _ = write!(words, "; {} {what}", number(n, "file"));
        }
    }
    for (n, thing) in [(it.errors, "error"), (it.warnings, "warning")] {
        if n > 0 {
            let _ = write!(words, "; {}", number(n, thing));
        }
    }
    let _ = writeln!(out, "{words}");
    out
}

fn file(it: &FileReport, left: &mut usize, paint: Paint) -> String {
    let (style, words) = match it.ending {
        Ending::Managed => {
            (Style::Good, format!("{} would be filed", count(it.documents.len(), "document")))
        }
        Ending::Unmanaged => (Style::Warning, "would go to unmanaged/, unchanged".to_owned()),
        Ending::NoDocuments => (Style::Warning, "there is no document in it".to_owned()),
        Ending::Rejected | Ending::Parted => (Style::Bad, "would be rejected".to_owned()),
    };
    let path = paint.dress(Style::Bold, &printable(&it.path.to_string()));
    let mut out = format!("{path}: {}\n", paint.dress(style, &words));
    let mut table = Table::indented(2);
    for filed in it.documents.iter().take(*left) {
        let cut = match filed.cut.is_empty() {
            true => String::new(),
            false => format!("without {}", filed.cut.join(", ")),
        };
        let name = super::render::qualified(&filed.namespace, &filed.name);
        table.row([
            (Style::Plain, format!("{} {name}", filed.kind)),
            (Style::Plain, filed.target.to_string()),
            (Style::Dim, cut),
        ]);
    }
    out.push_str(&table.render(paint));
    if let more @ 1.. = it.documents.len().saturating_sub(*left) {
        let _ = writeln!(out, "  {}", paint.dress(Style::Dim, &format!("{more} more")));
    }
    *left = left.saturating_sub(it.documents.len());
    out
}

/// Workflow commands: GitHub shows each finding beside its line.
pub fn github(report: &CheckReport) -> String {
    let mut out = String::new();
    for (path, it) in findings(report) {
        let level = match it.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = write!(out, "::{level} file={}", property(&path.to_string()));
        for (key, number) in [("line", it.line), ("col", it.column)] {
            if let Some(number) = number {
                let _ = write!(out, ",{key}={number}");
            }
        }
        let _ = writeln!(out, ",title={}::{}", property(&it.rule), escaped(&words(it)));
    }
    out
}

/// Message and hint, as one text.
fn words(it: &Problem) -> String {
    let mut words = printable(&it.message);
    if let Some(hint) = &it.hint {
        let _ = write!(words, "\nhelp: {}", printable(hint));
    }
    words
}

/// As workflow commands want it: a line end would begin another command.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// SARIF 2.1.0, the form of code scanning services and of many editors.
pub fn sarif(report: &CheckReport) -> serde_json::Result<String> {
    let mut rules: BTreeMap<&str, usize> =
        findings(report).map(|(_, it)| (it.rule.as_str(), 0)).collect();
    rules.values_mut().enumerate().for_each(|(n, index)| *index = n);
    let results: Vec<Value> = findings(report)
        .map(|(path, it)| {
            let level = match it.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let mut place = json!({ "artifactLocation": { "uri": uri(path) } });
            if let Some(line) = it.line {
                let mut region = json!({ "startLine": line });
                if let Some(column) = it.column {
                    region["startColumn"] = column.into();
                }
                if let Some(excerpt) = &it.excerpt {
                    region["snippet"] = json!({ "text": excerpt });
                }
                place["region"] = region;
            }
            json!({
                "ruleId": it.rule,
                "ruleIndex": rules[it.rule.as_str()],
                "level": level,
                "message": { "text": words(it) },
                "locations": [{ "physicalLocation": place }],
            })
        })
        .collect();
    let rules: Vec<Value> = rules.keys().map(|it| json!({ "id": it })).collect();
    let driver =
        json!({ "name": "git-intake", "version": env!("CARGO_PKG_VERSION"), "rules": rules });
    super::render::json(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn findings(report: &CheckReport) -> impl Iterator<Item = (&RawPath, &Problem)> {
    report.files.iter().flat_map(|file| file.problems.iter().map(move |it| (&file.path, it)))
}

/// A path as a relative reference: whatever could mean something else is written in percent.
fn uri(path: &RawPath) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/+@=,".contains(&b);
    let mut out = String::new();
    for b in path.as_bytes() {
        match plain(*b) {
            true => out.push(char::from(*b)),
            false => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::CheckSummary;

    fn report() -> CheckReport {
        let mut problem = Problem::error("bad-name", "`A` is\nno name").at(5, 9).in_document(2);
        problem.hint = Some("50% less".into());
        problem.excerpt = Some("  name: A".into());
        let file = FileReport {
            path: RawPath::new("a dir/b,c:d.yaml"),
            ending: Ending::Rejected,
            documents: vec![],
            problems: vec![problem, Problem::warning("empty", "w")],
        };
        CheckReport { files: vec![file], summary: CheckSummary::default() }
    }

    #[test]
    fn a_workflow_command_is_one_line_whatever_the_finding_says() {
        assert_eq!(
            github(&report()),
            "::error file=a dir/b%2Cc%3Ad.yaml,line=5,col=9,title=bad-name::`A` is\\u{a}no name%0Ahelp: 50%25 less\n\
             ::warning file=a dir/b%2Cc%3Ad.yaml,title=empty::w\n"
        );
    }

    #[test]
    fn sarif_names_rule_file_and_region() {
        let told: Value = serde_json::from_str(&sarif(&report()).unwrap()).unwrap();
        let run = &told["runs"][0];
        let place = &run["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(told["version"], "2.1.0");
        assert_eq!(place["artifactLocation"]["uri"], "a%20dir/b,c%3Ad.yaml");
        assert_eq!(place["region"]["startLine"], 5);
        assert_eq!(place["region"]["startColumn"], 9);
        assert_eq!(run["results"][1]["level"], "warning");
        assert!(run["results"][1]["locations"][0]["physicalLocation"]["region"].is_null());
        let rule = run["results"][1]["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], "empty");
    }
}
