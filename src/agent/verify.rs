//! Do the store, the work tree, HEAD and the remote agree? And: the store, made again from git.

use super::lane::Lane;
use super::{Error, follow, propose};
use crate::model::ids::CommitId;
use crate::model::path::escape;
use crate::model::report::{Difference, VerifyReport};

/// No more differences than this are told.
const LISTED_MAX: usize = 1_000;

/// Compares everything with everything; changes nothing.
///
/// `ask_remote` asks the remote where its branch is; without it the last word we heard counts.
pub fn verify(lane: &Lane, ask_remote: bool) -> Result<VerifyReport, Error> {
    let mut report =
        VerifyReport { files: 0, records: 0, remote_asked: false, differences: Vec::new() };
    let head = lane.repo.head()?;
    let Some(tip) = head.commit else { return Ok(report) };
    for it in &lane.fabrics {
        let fabric = &it.fabric;
        let mut files = std::collections::BTreeMap::new();
        for (path, blob) in lane.repo.files_below(tip, &fabric.managed())? {
            if let Some(path) = follow::manifest_path(&path) {
                files.insert(path, blob);
            } else if !path.ends_with(b"README.md") {
                tell(
                    &mut report,
                    "head",
                    &escape(&path),
                    "this file in managed/ is no manifest; move it elsewhere",
                );
            }
        }
        report.files += files.len() as u64;
        for (path, blob) in &files {
            let found = lane.tree.read(path, u64::from(u32::MAX))?;
            let found = found.map(|it| lane.repo.blob_id_of(&it)).transpose()?;
            match found {
                Some(it) if it == *blob => (),
                Some(_) => tell(
                    &mut report,
                    "work_tree",
                    path.as_str(),
                    "the file was edited and not committed",
                ),
                None => tell(
                    &mut report,
                    "work_tree",
                    path.as_str(),
                    "the file was removed and not committed",
                ),
            }
        }
        let mut recorded = std::collections::BTreeSet::new();
        for record in lane.store.records(&fabric.name) {
            let record = record?;
            report.records += 1;
            match files.get(&record.path) {
                Some(blob) if *blob == record.blob_id => (),
                Some(_) => tell(
                    &mut report,
                    "record",
                    record.path.as_str(),
                    "the record is of another content than HEAD; it follows with the next turn, or run git-intake rebuild",
                ),
                None => tell(
                    &mut report,
                    "record",
                    record.path.as_str(),
                    "HEAD has no such file; run git-intake rebuild",
                ),
            }
            recorded.insert(record.path);
        }
        for path in files.keys().filter(|it| !recorded.contains(it)) {
            tell(
                &mut report,
                "record",
                path.as_str(),
                "there is no record of this file: it holds no resource, a second copy of one, or the store is behind (git-intake rebuild)",
            );
        }
    }
    if let Some(branch) = &head.branch {
        compare_remote(lane, branch, tip, ask_remote, &mut report)?;
    }
    Ok(report)
}

fn compare_remote(
    lane: &Lane,
    branch: &str,
    tip: CommitId,
    ask_remote: bool,
    report: &mut VerifyReport,
) -> Result<(), Error> {
    let Some(remote) = &lane.settings.remote else { return Ok(()) };
    let theirs = match ask_remote {
        true => lane.repo.ask(remote, branch, tip)?,
        false => lane.repo.tracking(&remote.name, branch)?,
    };
    report.remote_asked = ask_remote;
    // What waits to be taken over is on the remote, on a branch of its own.
    let waiting = propose::waiting(lane, branch, tip, theirs)?;
    if theirs == Some(tip) || waiting.is_some_and(|it| it.1 == tip) {
        return Ok(());
    }
    let message = match theirs {
        Some(it) => format!("the remote is at {}, HEAD is at {}", it.short(), tip.short()),
        None => format!("the remote has no such branch; HEAD is at {}", tip.short()),
    };
    tell(report, "remote", branch, &message);
    Ok(())
}

fn tell(report: &mut VerifyReport, between: &str, subject: &str, message: &str) {
    if report.differences.len() < LISTED_MAX {
        report.differences.push(Difference {
            between: between.to_owned(),
            subject: subject.to_owned(),
            message: message.to_owned(),
        });
    }
}

/// Throws a lane's records away and makes them again from the tree and the history.
pub fn rebuild(lane: &mut Lane) -> Result<u64, Error> {
    let head = lane.repo.head()?.commit;
    let mut records = 0;
    for n in 0..lane.fabrics.len() {
        let name = lane.fabrics[n].fabric.name.clone();
        lane.store.forget_records(&name)?;
        follow::records_follow_head(lane, n, head)?;
        records += lane.store.records_count(&name);
    }
    Ok(records)
}
