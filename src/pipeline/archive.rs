//! The fifth stage: what becomes of the originals, and the finished plan.

use super::processing::Processed;
use crate::model::fabric::Fabric;
use crate::model::plan::{Change, Disposal, Fate, Original, Plan};
use serde::{Deserialize, Serialize};

/// Where the original bytes of a filed drop are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveStrategy {
    /// In the commits of `refs/intake/archive/<fabric>`, outside of the tree that others pull.
    Ref,
    /// In the tree, as `raw/processed/<name>.<digest>.archived`.
    Directory,
    /// Nowhere: the managed files are all that is kept.
    None,
}

/// Finishes the plan: the originals of what leaves `raw/` go to the archive.
///
/// What moved to `unmanaged/` or `raw/errors/` is there byte for byte and needs no second copy.
pub fn archive(processed: Processed, strategy: ArchiveStrategy, fabric: &Fabric) -> Plan {
    let mut changes = processed.changes;
    let mut originals = Vec::new();
    let filed = processed.disposals.iter().filter(|it| needs_archive(it));
    for Disposal { intake, .. } in filed {
        match strategy {
            ArchiveStrategy::None => (),
            ArchiveStrategy::Ref => originals.push(Original {
                drop_id: intake.drop_id,
                path: intake.path.clone(),
                bytes: intake.bytes.clone(),
            }),
            ArchiveStrategy::Directory => {
                let name = intake.path.safe_name();
                let tail = format!("processed/{name}.{}.archived", intake.drop_id.short());
                let path = fabric.raw().join(&tail);
                // Cannot fail: a safe name keeps the grammar and its length leaves room.
                let path = path.expect("a safe name and a digest keep the grammar");
                let change =
                    Change::Write { path: path.clone(), bytes: intake.bytes.clone(), was: None };
                changes.insert(path.as_str().into(), change);
            }
        }
    }
    Plan {
        changes: changes.into_values().collect(),
        originals,
        disposals: processed.disposals,
        recorded: processed.recorded,
        subject: None,
        trailers: Vec::new(),
        in_place: false,
    }
}

fn needs_archive(disposal: &Disposal) -> bool {
    use crate::model::report::Ending;
    match &disposal.fate {
        Fate::Leaves { ending, .. } => match ending {
            Ending::Managed | Ending::NoDocuments | Ending::Parted => true,
            Ending::Unmanaged | Ending::Rejected => false,
        },
        // What goes of it does so in pieces, so all of it is kept.
        Fate::Parted { .. } => true,
        Fate::Stays { .. } | Fate::Quarantined { .. } => false,
    }
}
