//! Manifests of our own making, and what must be said of each document: a table, kept beside them.

use git_intake::catalog::Catalog;
use git_intake::model::document::{Intake, Verdict};
use git_intake::model::fabric::{Fabric, FabricName};
use git_intake::model::path::{RawPath, RepoPath};
use git_intake::model::problem::Problem;
use git_intake::pipeline::classification::classify;
use git_intake::pipeline::validation::{Rules, SchemaStrategy, validate};
use git_intake::yaml::Limits;
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn every_document_gets_the_verdict_that_the_table_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/verdicts");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.ends_with(".yaml") || it.ends_with(".json"))
        .collect();
    names.sort();
    let mut table =
        "# What is said of each document\n\n| file | document | verdict |\n| --- | --- | --- |\n"
            .to_owned();
    for name in names {
        let bytes = std::fs::read(dir.join(&name)).unwrap();
        for (document, verdict) in verdicts(&name, &bytes) {
            let _ = writeln!(table, "| {name} | {document} | {verdict} |");
        }
    }
    let file = dir.join("TABLE.md");
    if std::env::var_os("UPDATE_VERDICTS").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(&file).unwrap());
}

/// What is said, by the document it is said of.
fn verdicts(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let catalog = Catalog::hedgehog();
    let rules = Rules {
        limits: Limits::default(),
        catalog: &catalog,
        schema: SchemaStrategy::Warn,
        partial: false,
    };
    let fabric = Fabric::flat(FabricName::parse("f").unwrap(), RepoPath::parse("f").unwrap());
    let valid = match validate(Intake::new(RawPath::new(name), bytes), &rules) {
        Ok(it) => it,
        Err(it) => return it.problems.iter().map(|it| said("rejected: ", it)).collect(),
    };
    let it = classify(valid, &fabric, &catalog);
    let mut told: Vec<(String, String)> = Vec::new();
    for judged in &it.judged {
        let document = &judged.document;
        told.push(match &judged.verdict {
            Verdict::Managed { target } => {
                let cut = document.cut.join(", ");
                let cut = if cut.is_empty() { cut } else { format!(", without {cut}") };
                (document.index.to_string(), format!("managed: {target}{cut}"))
            }
            Verdict::Unmanaged { why } => said("unmanaged: ", why),
            Verdict::Rejected { why } => said("rejected: ", why),
        });
    }
    if told.is_empty() {
        told.push(("-".to_owned(), "no documents".to_owned()));
    }
    told.extend(it.warnings.iter().map(|it| said("warned: ", it)));
    told
}

fn said(word: &str, it: &Problem) -> (String, String) {
    assert!(it.hint.is_some(), "{it} has no way out");
    let document = it.document.map_or("-".to_owned(), |n| n.to_string());
    let place = match (it.line, it.column) {
        (Some(line), Some(column)) => format!(" at {line}:{column}"),
        _ => String::new(),
    };
    (document, format!("{word}{}{place}", it.rule))
}
