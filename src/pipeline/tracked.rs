//! Drops that came by git: whoever pushed one hears of it by git as well.
//!
//! The report of a drop that stays is committed beside it, and leaves the tree with the drop.

use super::processing::Processed;
use super::{REPORT_SUFFIX, explain};
use crate::model::document::Intake;
use crate::model::fabric::Fabric;
use crate::model::ids::BlobId;
use crate::model::path::{COMPONENT_BYTES_MAX, PathError, RawPath, RepoPath};
use crate::model::plan::{Change, Fate};
use crate::model::problem::Problem;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What HEAD holds below `raw/` of the drops of a turn.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    /// Drops, because they came by git.
    pub drops: HashMap<RawPath, BlobId>,
    /// Reports by their drop, with what they say.
    pub reports: HashMap<RawPath, (BlobId, Arc<[u8]>)>,
    /// Drops whose report has no place, because a directory of its name is there.
    pub mute: HashSet<RawPath>,
}

/// Where the report of a drop lies: beside it. A name that no path of ours may have gets its report
/// at the top of `raw/`, under a name made of its letters and its digest.
pub fn report_path(fabric: &Fabric, drop: &RawPath) -> RepoPath {
    let name = drop.file_name();
    let keep = name.len().min(COMPONENT_BYTES_MAX - REPORT_SUFFIX.len());
    let above = &drop.as_bytes()[..drop.as_bytes().len() - name.len()];
    let beside = [above, &name[name.len() - keep..]].concat();
    let beside = String::from_utf8(beside).ok().map(|it| it + REPORT_SUFFIX);
    let path = beside.and_then(|it| fabric.raw().join(&it).ok());
    path.unwrap_or_else(|| {
        let digest = crate::model::digest::Sha256::of(drop.as_bytes()).short();
        let name = format!("{}.{digest}{REPORT_SUFFIX}", drop.safe_name());
        fabric.raw().join(&name).expect("a safe name and a digest keep the grammar")
    })
}

/// Where a drop lies in the repository, if its name is one that we may write.
pub fn drop_place(fabric: &Fabric, drop: &RawPath) -> Option<RepoPath> {
    fabric.raw().join(std::str::from_utf8(drop.as_bytes()).ok()?).ok()
}

/// Where a drop and its report go when they are put aside.
pub fn aside(fabric: &Fabric, intake: &Intake) -> [RepoPath; 2] {
    let name = format!("errors/{}.{}", intake.drop_id.short(), intake.path.safe_name());
    let path =
        |name: &str| fabric.raw().join(name).expect("a safe name and a digest keep the grammar");
    [path(&name), path(&format!("{name}{REPORT_SUFFIX}"))]
}

/// Where a drop goes below `unmanaged/`: by its own name, and by name and digest where that is taken.
pub(super) fn leftover_paths(fabric: &Fabric, intake: &Intake) -> [Result<RepoPath, PathError>; 2] {
    let unmanaged = fabric.unmanaged();
    let components: Vec<String> = intake
        .path
        .as_bytes()
        .split(|b| *b == b'/')
        .map(|it| RawPath::new(it).safe_name())
        .collect();
    let plain = components.join("/");
    let digest = intake.drop_id.short();
    let numbered = match plain.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') && !stem.is_empty() => {
            format!("{stem}.{digest}.{extension}")
        }
        _ => format!("{plain}.{digest}"),
    };
    [unmanaged.join(&plain), unmanaged.join(&numbered)]
}

/// Adds to what was decided what the tree has to say of drops that came by git, and what it still
/// says of those that are `gone`.
pub fn answer(processed: &mut Processed, tracked: &Tracked, fabric: &Fabric, gone: &[RawPath]) {
    let mut changes: Vec<Change> = Vec::new();
    let write = |path: RepoPath, bytes: Arc<[u8]>, was| Change::Write { path, bytes, was };
    let mut over: Vec<&RawPath> = gone.iter().collect();
    for it in &processed.disposals {
        let (intake, came_by_git) = (&it.intake, tracked.drops.contains_key(&it.intake.path));
        match &it.fate {
            Fate::Stays { .. } if tracked.mute.contains(&intake.path) => (),
            Fate::Stays { problems } if came_by_git => {
                let old = tracked.reports.get(&intake.path);
                let text = text(intake, problems);
                if old.is_none_or(|it| it.1 != text) {
                    let path = report_path(fabric, &intake.path);
                    changes.push(write(path, text, old.map(|it| it.0)));
                }
            }
            Fate::Stays { .. } => (),
            Fate::Quarantined { problems } if came_by_git => {
                let [place, report] = aside(fabric, intake);
                changes.push(write(place, intake.bytes.clone(), None));
                changes.push(write(report, text(intake, problems), None));
                over.push(&intake.path);
            }
            Fate::Parted { rest, .. } => {
                over.push(&intake.path);
                if let Some(was) = tracked.drops.get(&intake.path)
                    && let Some(path) = drop_place(fabric, &intake.path)
                {
                    changes.push(write(path, rest.clone(), Some(*was)));
                }
            }
            Fate::Leaves { .. } | Fate::Quarantined { .. } => over.push(&intake.path),
        }
    }
    for drop in over {
        if let Some((was, _)) = tracked.reports.get(drop) {
            let path = report_path(fabric, drop).as_str().into();
            changes.push(Change::Remove { path, was: *was });
        }
    }
    for it in changes {
        processed.changes.insert(it.path().to_vec(), it);
    }
}

fn text(intake: &Intake, problems: &[Problem]) -> Arc<[u8]> {
    Arc::from(explain::report(&intake.path, problems).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fabric::FabricName;

    #[test]
    fn every_name_has_a_place_for_its_report() {
        let name = FabricName::parse("f").unwrap();
        let fabric = Fabric::flat(name, RepoPath::parse("f").unwrap());
        let place = |drop: &[u8]| report_path(&fabric, &RawPath::new(drop)).to_string();
        assert_eq!(place(b"team a/x.yaml"), "f/raw/team a/x.yaml.rejected.txt");
        let long = place(&[b'n'; 255]);
        assert_eq!(long.len(), "f/raw/".len() + 255);
        for odd in [&b"a\nb.yaml"[..], b"\xff.yaml", b"-rf.yaml", b"a/\x1b/b.yaml"] {
            let place = place(odd);
            assert!(place.starts_with("f/raw/") && place.ends_with(REPORT_SUFFIX), "{place}");
            assert!(!place["f/raw/".len()..].contains('/'), "{place}");
        }
    }
}
