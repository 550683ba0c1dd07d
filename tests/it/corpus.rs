//! Real manifests: each document gets a verdict that a person can act on.
//!
//! The files are not part of the project; where they are absent the tests say so and pass.

use git_intake::catalog::Catalog;
use git_intake::model::document::{Intake, Verdict};
use git_intake::model::fabric::{Fabric, FabricName};
use git_intake::model::path::{RawPath, RepoPath};
use git_intake::pipeline::{classification, explain, validation};
use git_intake::yaml::Limits;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The folder with the samples, where there is one.
pub fn samples() -> Option<Vec<(String, Vec<u8>)>> {
    let home = std::env::var_os("GIT_INTAKE_CORPUS").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let dir = home.unwrap_or(beside).join("samples");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        eprintln!("skipped: there is no corpus in {}", dir.display());
        return None;
    };
    let mut found: Vec<(String, Vec<u8>)> = entries
        .map(|it| it.unwrap())
        .map(|it| (it.file_name().into_string().unwrap(), std::fs::read(it.path()).unwrap()))
        .collect();
    found.sort();
    Some(found)
}

#[test]
fn every_real_document_gets_a_verdict_with_a_way_out() {
    let Some(samples) = samples() else { return };
    let fabric =
        Fabric::flat(FabricName::parse("fabric-1").unwrap(), RepoPath::parse("fabric-1").unwrap());
    let catalog = Catalog::hedgehog();
    let rules = validation::Rules {
        limits: Limits::default(),
        catalog: &catalog,
        schema: validation::SchemaStrategy::Warn,
        partial: false,
    };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut count = |it: String| *counts.entry(it).or_default() += 1;
    for (name, bytes) in &samples {
        let intake = Intake::new(RawPath::new(name.as_str()), bytes.as_slice());
        let valid = match validation::validate(intake, &rules) {
            Ok(it) => it,
            Err(it) => {
                count("file rejected".into());
                it.problems.iter().for_each(|it| count(format!("  {}", it.rule)));
                assert!(it.problems.iter().all(|it| it.hint.is_some()), "{name}");
                eprintln!("{}", explain::render(name, &it.problems, false));
                continue;
            }
        };
        count(
            if valid.documents.is_empty() { "file without documents" } else { "file valid" }.into(),
        );
        for it in &valid.warnings {
            count(format!("warned: {}", it.rule));
            assert!(it.hint.is_some() && it.excerpt.is_some(), "{name}: {it}");
            eprintln!("{name}:{it}");
        }
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        for it in classification::classify(valid, &fabric, &catalog).judged {
            match it.verdict {
                Verdict::Managed { .. } => {
                    count("document managed".into());
                    // Their own words: each line filed stands in the drop.
                    for line in it.document.text.lines().filter(|it| !it.trim().is_empty()) {
                        assert!(text.contains(line.trim_start()), "{name}: {line}");
                    }
                    let read =
                        validation::read_managed(it.document.text.as_bytes(), &Limits::default());
                    let read = read.unwrap();
                    assert_eq!(
                        (read.content, &read.text),
                        (it.document.content, &it.document.text),
                        "{name}"
                    );
                }
                Verdict::Unmanaged { why } => count(format!("document unmanaged: {}", why.message)),
                Verdict::Rejected { why } => {
                    assert!(why.hint.is_some(), "{name}: {why}");
                    count(format!("document rejected: {}: {}", why.rule, it.document.api_version));
                }
            }
        }
    }
    eprintln!("{} files", samples.len());
    counts.iter().for_each(|(what, n)| eprintln!("{n:5} {what}"));
}

#[test]
fn every_real_file_at_once_goes_through_and_again_makes_no_commit() {
    use crate::world::World;
    let Some(samples) = samples() else { return };
    let world = World::new();
    world.turn();
    let drop_all = || {
        samples.iter().for_each(|(name, bytes)| {
            world.drop(name, bytes);
        })
    };
    drop_all();
    let report = world.turn();
    assert_eq!(report.files.len(), samples.len());
    let clone = world.clone_of_remote();
    let mut expected = BTreeMap::new();
    let catalog = Catalog::hedgehog();
    let rules = validation::Rules {
        limits: Limits::default(),
        catalog: &catalog,
        schema: validation::SchemaStrategy::Warn,
        partial: false,
    };
    let mut endings: BTreeMap<String, u32> = BTreeMap::new();
    for it in &report.files {
        *endings.entry(format!("{:?}", it.ending)).or_default() += 1;
        let bytes = &samples.iter().find(|(name, _)| *name == it.path.to_string()).unwrap().1;
        if it.documents.is_empty() {
            continue;
        }
        let intake = Intake::new(it.path.clone(), bytes.as_slice());
        let valid = validation::validate(intake, &rules).unwrap();
        for (filed, document) in it.documents.iter().zip(valid.documents) {
            expected.insert(filed.target.to_string(), document.text);
        }
    }
    let found: BTreeMap<String, String> =
        clone.iter().map(|(name, text)| (format!("fabric-1/{name}"), text.clone())).collect();
    assert_eq!(found, expected, "the clone has exactly the managed set");
    eprintln!(
        "{} files: {endings:?}; {} managed files in {} commits",
        samples.len(),
        found.len(),
        world.commits()
    );
    let before = world.commits();
    drop_all();
    world.turn();
    assert_eq!(world.commits(), before, "dropping everything again makes no commit");
    world.at_rest();
}
