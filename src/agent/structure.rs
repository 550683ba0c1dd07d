//! The three directories of a fabric: made, tracked and repaired, by the one way that changes a
//! repository.

use super::lane::Lane;
use super::{Error, turn};
use crate::model::fabric::Fabric;
use crate::model::operation::{Operation, Purpose, Trigger};
use crate::model::path::RepoPath;
use crate::model::plan::{Change, Plan};
use crate::model::rules::Mode;
use std::sync::Arc;

const RAW: &str = "\
# raw/

Drop Kubernetes-style YAML or JSON here. Within a second each file is checked, filed in `managed/`,
committed and pushed, and leaves this directory.

A file that cannot be taken stays, with a report beside it (`NAME.rejected.txt`) that says what is
wrong and where. Mend the file and save it: it is taken by itself.

Files are told to be complete when they are closed; names ending in `.tmp` or `.part`, and hidden
ones, are left alone. Subdirectories are welcome.
";

const MANAGED: &str = "\
# managed/

One resource, one file: `<plural>/<name>.yaml`, or `<plural>/<namespace>/<name>.yaml` outside of the
namespace `default`. Point Argo CD, Flux or `git pull` at this directory.

The files are what was dropped in `raw/`, less what a cluster had filled in. You may edit them and
commit; the records follow.
";

const UNMANAGED: &str = "\
# unmanaged/

What is here is never read, moved or rewritten by git-intake. Dropped files of kinds that are not
this fabric's come here as they are.
";

/// The note in each directory, and what it says.
pub(super) fn notes(fabric: &Fabric) -> Vec<(RepoPath, &'static str)> {
    let texts = [(fabric.raw(), RAW), (fabric.managed(), MANAGED), (fabric.unmanaged(), UNMANAGED)];
    texts.iter().map(|(dir, text)| (dir.join_fixed("README.md"), *text)).collect()
}

/// Makes sure that a fabric has its directories, in the work tree and in HEAD. One commit, or none.
///
/// # Errors
/// When one of them is a link or a file: nothing is done then, and a person must look.
pub fn ensure(lane: &mut Lane, n: usize) -> Result<Option<Operation>, Error> {
    let fabric = lane.fabrics[n].fabric.clone();
    if lane.fabrics[n].rules.mode < Mode::Ingest {
        return Ok(None);
    }
    for dir in [fabric.dir.clone(), fabric.raw(), fabric.managed(), fabric.unmanaged()] {
        lane.tree.check_directory(&dir)?;
    }
    let files = notes(&fabric);
    let standing = lane.head_to_commit_on()?;
    let held =
        lane.repo.blobs_at(standing.commit, files.iter().map(|it| it.0.as_str().as_bytes()))?;
    let mut plan = Plan::default();
    let mut lost = Vec::new();
    for (path, text) in &files {
        match held.get(path.as_str().as_bytes()) {
            // Whatever it says: people may write their own.
            Some(blob) => {
                if !lane.tree.exists(path)? {
                    lost.push((path.clone(), Arc::from(lane.repo.blob(*blob)?)));
                }
            }
            None => {
                // A file that nobody committed yet is somebody's own text.
                let bytes =
                    lane.tree.read(path, 1 << 20)?.unwrap_or_else(|| text.as_bytes().to_vec());
                let change =
                    Change::Write { path: path.clone(), bytes: Arc::from(bytes), was: None };
                plan.changes.push(change);
            }
        }
    }
    // Removed but not committed (git clean, rm -r): put back, without a commit.
    // Not while somebody's git is at work: a checkout that takes the fabric away moves HEAD last.
    if !lane.repo.index_is_locked() {
        lane.tree.write_all(&lost)?;
    }
    if plan.changes.is_empty() {
        return Ok(None);
    }
    let base = (standing.commit, standing.branch);
    let actor = lane.settings.author.name.clone();
    let (purpose, trigger) = (Purpose::DirectoryInit, Trigger::Startup);
    let mut operation = super::edits::entry(lane, n, purpose, trigger, &actor, base);
    turn::carry_out(lane, n, &mut plan, &[], &mut operation)?;
    super::settle::tidy(lane);
    Ok(Some(operation))
}
