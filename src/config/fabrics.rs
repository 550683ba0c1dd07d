//! One fabric's settings: its own choices, or the general ones.

use super::{FabricSettings, RepositorySettings, Settings};
use crate::model::fabric::{Fabric, FabricName};
use crate::model::path::RepoPath;
use crate::model::rules::FabricRules;
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::processing::Strategies;

/// The longest directory of a fabric, in bytes: what is filed below it needs room in a path.
const DIR_BYTES_MAX: usize = 1024;

impl FabricSettings {
    /// A fabric in the directory of its name, with the general settings.
    pub fn new(name: FabricName, dir: Option<RepoPath>) -> FabricSettings {
        FabricSettings {
            name,
            dir,
            archive: None,
            layout: None,
            on_invalid: None,
            on_unsupported: None,
            partial: None,
            ignore: Vec::new(),
            conflict: None,
            mode: None,
            on_delete: None,
            beside_raw: None,
            resources: Vec::new(),
        }
    }

    /// Where it lies.
    fn dir(&self) -> RepoPath {
        self.dir.clone().unwrap_or_else(|| {
            RepoPath::parse(self.name.as_str()).expect("the name of a fabric is a path component")
        })
    }

    /// The fabric itself.
    pub fn fabric(&self, settings: &Settings) -> Fabric {
        let layout = self.layout.unwrap_or(settings.layout);
        Fabric { name: self.name.clone(), dir: self.dir(), layout }
    }

    /// What in its `raw/` is no drop: the general patterns, then its own, which have the last word.
    pub fn ignore(&self, settings: &Settings) -> Vec<String> {
        [&settings.intake.ignore[..], &self.ignore].concat()
    }

    /// Its choices, or the general ones.
    pub fn strategies(&self, settings: &Settings) -> (Strategies, ArchiveStrategy) {
        let strategies = Strategies {
            on_invalid: self.on_invalid.unwrap_or(settings.on_invalid),
            on_unsupported: self.on_unsupported.unwrap_or(settings.on_unsupported),
            partial: self.partial.unwrap_or(settings.partial).then(|| settings.yaml.limits()),
        };
        (strategies, self.archive.unwrap_or(settings.archive))
    }

    /// What may change, and how what two sides changed is decided.
    pub fn rules(&self, settings: &Settings) -> FabricRules {
        FabricRules {
            mode: self.mode.unwrap_or(settings.mode),
            on_delete: self.on_delete.unwrap_or(settings.on_delete),
            beside_raw: self.beside_raw.unwrap_or(settings.beside_raw),
            removals: settings.removals,
            conflict: self.conflict.unwrap_or(settings.conflict),
            resources: self.resources.clone(),
        }
    }
}

/// Refuses fabrics of one repository that share a name or a place.
pub fn check_fabrics(fabrics: &[FabricSettings]) -> Result<(), String> {
    for (n, second) in fabrics.iter().enumerate() {
        let dir = second.dir();
        if dir.as_str().len() > DIR_BYTES_MAX {
            let name = &second.name;
            return Err(format!(
                "the directory of fabric {name} is longer than {DIR_BYTES_MAX} bytes"
            ));
        }
        for first in &fabrics[..n] {
            let (a, b) = (first.dir(), second.dir());
            if first.name == second.name {
                return Err(format!("two fabrics are named {}", first.name));
            }
            if a.is_within(&b) || b.is_within(&a) {
                return Err(format!(
                    "the fabrics {} ({}) and {} ({}) lie within each other; give each a directory of its own",
                    first.name, a, second.name, b
                ));
            }
        }
    }
    Ok(())
}

/// What the name of a branch for proposals must be.
pub(super) fn check_review(it: &RepositorySettings) -> Result<(), String> {
    let Some(pattern) = &it.review else { return Ok(()) };
    let name = format!("refs/heads/{}", pattern.replace("{branch}", "b"));
    match gix::validate::reference::name(name.as_str().into()) {
        Ok(_) if pattern != "{branch}" && it.branch.as_ref() != Some(pattern) => Ok(()),
        Ok(_) => Err(format!(
            "review: {pattern} is the branch itself; name another, say git-intake/{{branch}}"
        )),
        Err(why) => Err(format!(
            "review: {pattern} is no name for a branch ({why}); say git-intake/{{branch}}"
        )),
    }
}
