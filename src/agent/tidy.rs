//! Each file of `managed/` goes to its place by one commit, because somebody asked for it: others
//! may have put it elsewhere, or the layout was changed. A second file of one resource goes to
//! `unmanaged/`, so that nothing of it is lost and one file remains.

use super::edits::{self, Edits};
use super::lane::Lane;
use super::{Error, fabrics, follow};
use crate::model::account::{Moved, TidyReport};
use crate::model::fabric::FabricName;
use crate::model::operation::{Purpose, Trigger};
use crate::model::path::{RawPath, RepoPath};
use crate::model::record::StrayKind;
use crate::model::report::Delivery;
use crate::pipeline::{classification, validation};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many files are moved by one commit; what is left is told, and goes with the next.
const FILES_MAX: usize = 10_000;

/// What is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TidyAsked {
    /// Which fabric.
    pub fabric: FabricName,
    /// Who asks.
    pub actor: String,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Tidies up; the caller sends the commit.
pub(super) fn tidy(
    lane: &mut Lane,
    asked: &TidyAsked,
    trigger: Trigger,
) -> Result<TidyReport, Error> {
    let n = fabrics::place(lane, &asked.fabric)?;
    let head = lane.head_to_commit_on()?.commit;
    follow::records_follow_head(lane, n, head)?;
    let mut found = Found {
        lane,
        n,
        moved: Vec::new(),
        files: BTreeMap::new(),
        taken: BTreeSet::new(),
        left: Vec::new(),
        more: 0,
    };
    found.seconds()?;
    found.misplaced()?;
    let Found { moved, files, left, more, .. } = found;
    let mut report = TidyReport {
        fabric: asked.fabric.clone(),
        moved,
        left,
        more,
        operation: None,
        commit_id: None,
        delivery: Delivery::Nothing,
        dry_run: asked.dry_run,
    };
    if asked.dry_run || files.is_empty() {
        return Ok(report);
    }
    let count = report.moved.len();
    let edits = Edits {
        files: files.into_iter().collect(),
        purpose: Purpose::Cleanup,
        trigger,
        actor: asked.actor.clone(),
        subject: format!("move {count} {} to where the layout says", files_of(count)),
        trailers: Vec::new(),
        in_place: false,
    };
    let operation = edits::carry_out(lane, n, edits)?;
    report.operation = operation.as_ref().map(|it| it.id);
    report.commit_id = operation.and_then(|it| it.state.commit_id());
    Ok(report)
}

fn files_of(count: usize) -> &'static str {
    if count == 1 { "file" } else { "files" }
}

struct Found<'a> {
    lane: &'a Lane,
    n: usize,
    moved: Vec<Moved>,
    files: BTreeMap<RepoPath, Option<Arc<[u8]>>>,
    /// Paths that something goes to.
    taken: BTreeSet<RepoPath>,
    left: Vec<Moved>,
    more: u64,
}

impl Found<'_> {
    /// Second files of a resource, first: one of them may lie where the other belongs.
    fn seconds(&mut self) -> Result<(), Error> {
        let fabric = &self.lane.fabrics[self.n].fabric;
        let head = self.lane.repo.head()?.commit;
        for it in self.lane.store.strays(&fabric.name) {
            let it = it?;
            let from = std::str::from_utf8(it.path.as_bytes()).ok();
            let (StrayKind::Duplicate, Some(Ok(from))) = (it.kind, from.map(RepoPath::parse))
            else {
                continue;
            };
            if self.moved.len() >= FILES_MAX {
                self.more += 1;
                continue;
            }
            let Some(to) = self.free(&fabric.unmanaged(), from.file_name())? else {
                self.left.push(Moved { from, to: fabric.unmanaged() });
                continue;
            };
            if let Some(blob) = self.lane.repo.blob_at(head, from.as_str().as_bytes())? {
                let bytes = Arc::from(self.lane.repo.blob(blob)?);
                self.put(from, to, bytes);
            }
        }
        Ok(())
    }

    /// Files that lie elsewhere than the layout says.
    fn misplaced(&mut self) -> Result<(), Error> {
        let (lane, fabric) = (self.lane, &self.lane.fabrics[self.n].fabric);
        let mut all: Vec<(RepoPath, RepoPath, Arc<[u8]>)> = Vec::new();
        for record in lane.store.records(&fabric.name) {
            let record = record?;
            let bytes = lane.repo.blob(record.blob_id)?;
            let Ok(document) = validation::read_managed(&bytes, &lane.settings.limits) else {
                continue;
            };
            match classification::home(&document, fabric, &lane.catalog) {
                Ok(home) if home == record.path => (),
                Ok(home) if all.len() < FILES_MAX => all.push((record.path, home, bytes.into())),
                Ok(_) => self.more += 1,
                Err(_) => (),
            }
        }
        // Who comes to a place waits for who is there now, and stays where that one stays.
        let mut leaving: BTreeSet<RepoPath> = self.files.keys().cloned().collect();
        leaving.extend(all.iter().map(|it| it.0.clone()));
        loop {
            let before = all.len();
            let mut kept = Vec::with_capacity(before);
            for (from, home, bytes) in all {
                let there = lane.tree.read(&home, lane.settings.bytes_max)?;
                match there.is_none() || leaving.contains(&home) {
                    true => kept.push((from, home, bytes)),
                    false => {
                        leaving.remove(&from);
                        self.left.push(Moved { from, to: home });
                    }
                }
            }
            all = kept;
            if all.len() == before {
                break;
            }
        }
        all.into_iter().for_each(|(from, home, bytes)| self.put(from, home, bytes));
        Ok(())
    }

    fn put(&mut self, from: RepoPath, to: RepoPath, bytes: Arc<[u8]>) {
        self.taken.insert(to.clone());
        // What comes to a place counts more than that something else leaves it.
        self.files.entry(from.clone()).or_insert(None);
        self.files.insert(to.clone(), Some(bytes));
        self.moved.push(Moved { from, to });
    }

    /// A free name in a directory, made from `name`; none where there are too many alike.
    fn free(&self, dir: &RepoPath, name: &str) -> Result<Option<RepoPath>, Error> {
        let name = RawPath::new(name).safe_name();
        for number in 1..100 {
            let name = match number {
                1 => name.clone(),
                n => format!("{n}-{name}"),
            };
            let Ok(path) = dir.join(&name) else { return Ok(None) };
            let there = self.lane.tree.read(&path, self.lane.settings.bytes_max)?;
            if there.is_none() && !self.taken.contains(&path) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}
