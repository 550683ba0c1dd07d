//! The records follow HEAD, whoever moved it: what changed below `managed/` is adopted, updated,
//! moved, removed or told of as a stray, and nothing else is read.

use super::history::{self, History};
use super::lane::Lane;
use super::read::{self, Read};
use super::{Error, closed, conflicts, named, release};
use crate::git::Changed;
use crate::model::account::HoldKind;
use crate::model::digest::Sha256;
use crate::model::document::Document;
use crate::model::fabric::FabricName;
use crate::model::ids::{BlobId, CommitId};
use crate::model::key::{Key, ResourceId};
use crate::model::path::{RawPath, RepoPath, escape};
use crate::model::record::{MODIFICATIONS_MAX, Modification, Orphan, Record, Stray, StrayKind};
use crate::model::rules::OnDelete;
use crate::pipeline::{classification, validation};
use crate::store::Settlement;
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many records are held in memory where all of a fabric are made.
const PART_RECORDS: usize = 5_000;

/// The path of a file that could hold a resource.
pub(super) fn manifest_path(path: &BString) -> Option<RepoPath> {
    let text = std::str::from_utf8(path).ok()?;
    let manifest = [".yaml", ".yml", ".json"].iter().any(|it| text.ends_with(it));
    manifest.then(|| RepoPath::parse(text).ok()).flatten()
}

fn is_manifest(path: &BString) -> bool {
    manifest_path(path).is_some()
}

/// What becomes of many removals at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removals {
    /// They wait for a person.
    Guarded,
    /// A person has said that they are meant.
    Accepted,
}

/// Brings a fabric's records up to `head`: only what changed since they were made is read.
///
/// # Errors
/// [`Error::Held`] where so many resources are gone that a person has to say that it is meant; the
/// records stay as they are until then.
pub fn records_follow_head(lane: &mut Lane, n: usize, head: Option<CommitId>) -> Result<(), Error> {
    follow(lane, n, head, Removals::Guarded)
}

/// The same for all fabrics; one that waits for a person keeps no other from following.
pub(super) fn all_follow_head(lane: &mut Lane, head: Option<CommitId>) -> Result<(), Error> {
    for n in 0..lane.fabrics.len() {
        match follow(lane, n, head, Removals::Guarded) {
            Err(Error::Held { reason }) if lane.fabrics[n].hold.is_some() => {
                tracing::warn!(fabric.name = %lane.fabrics[n].fabric.name, reason, "a fabric is held");
            }
            other => other?,
        }
    }
    Ok(())
}

pub(super) fn follow(
    lane: &mut Lane,
    n: usize,
    head: Option<CommitId>,
    removals: Removals,
) -> Result<(), Error> {
    let Some(head) = head else { return Ok(()) };
    let fabric = lane.fabrics[n].fabric.clone();
    let synced = lane.store.synced(&fabric.name)?;
    if synced == Some(head) {
        follows_again(lane, n);
        return Ok(());
    }
    let since = synced.filter(|it| lane.repo.has_commit(*it));
    // Back to where it was before: what later commits said of the files is not to be known any more.
    let from = match since {
        Some(it) if !lane.repo.is_ancestor(head, it)? => Some(it),
        _ => None,
    };
    let managed = fabric.managed();
    let history = history::read(lane, &managed, head, from)?;
    let changes = match since {
        Some(it) => lane.repo.changes_between(Some(it), head, &managed)?,
        None => Vec::new(),
    };
    if removals == Removals::Guarded {
        release::guard(lane, n, head, &changes, from.map(|_| &history))?;
    }
    follows_again(lane, n);
    if from.is_some() && closed::put_back(lane, n, &changes, &history)? {
        // The commit that did so has been followed.
        return Ok(());
    }
    let changes = match from {
        Some(_) => changes,
        None => {
            // A store that forgot, or a history that went back: everything again.
            lane.store.forget_records(&fabric.name)?;
            let files = lane.repo.files_below(head, &managed)?;
            files.into_iter().map(|(path, id)| (path, None, Some(id))).collect()
        }
    };
    let mut news = News::of(lane, n, head, &history);
    // What the archive knows of many is looked up for all of them together.
    if from.is_none() && lane.repo.tip(&fabric.archive_ref())?.is_none() {
        news.parts = Some(0);
    }
    news.take(&changes)?;
    if from.is_none() {
        news.forget_strays()?;
        news.find_orphans()?;
    }
    news.touched(&changes)?;
    let mut settlement = news.into_settlement()?;
    if from.is_none() {
        super::archive::sources_from_archive(lane, n, &mut settlement.records)?;
        settlement.conflicts = conflicts::remembered(lane, n)?;
        settlement.rejects = conflicts::kept_back(lane, &settlement.conflicts)?;
    }
    let gone: Vec<Key> = gone_keys(lane, &settlement)?;
    lane.store.settle(settlement)?;
    named::tell_of_gone(lane, n, &gone)?;
    conflicts::close_settled(lane)?;
    conflicts::sweep(lane, n)
}

fn follows_again(lane: &mut Lane, n: usize) {
    let hold = &mut lane.fabrics[n].hold;
    if hold.as_ref().is_some_and(|it| it.kind == HoldKind::RemovedInGit) {
        *hold = None;
    }
}

fn gone_keys(lane: &Lane, settlement: &Settlement) -> Result<Vec<Key>, Error> {
    let mut keys: Vec<Key> = settlement.orphans.iter().map(|it| it.record.key.clone()).collect();
    for id in &settlement.gone {
        keys.extend(lane.store.record(id)?.map(|it| it.key));
    }
    Ok(keys)
}

/// A path that others changed last, and how.
type Foreign<'a> = (&'a [u8], RepoPath, &'a Modification);

/// What came in, sorted by what becomes of it.
struct News<'a> {
    lane: &'a Lane,
    fabric: FabricName,
    n: usize,
    head: CommitId,
    history: &'a History,
    /// What changed paths hold now.
    changed: HashMap<BString, Option<BlobId>>,
    records: BTreeMap<ResourceId, Record>,
    /// Records are written as they come, so many by now, and the commit that they follow with the last
    /// of them: what a crash leaves of them is forgotten when they are made again.
    parts: Option<usize>,
    gone: BTreeMap<ResourceId, (Record, Option<Modification>)>,
    orphans: Vec<Orphan>,
    strays: BTreeMap<RawPath, Stray>,
    homed: BTreeSet<RawPath>,
}

impl<'a> News<'a> {
    fn of(lane: &'a Lane, n: usize, head: CommitId, history: &'a History) -> News<'a> {
        let fabric = lane.fabrics[n].fabric.name.clone();
        let (records, gone, orphans) = Default::default();
        let (changed, strays, homed) = Default::default();
        let parts = None;
        News {
            lane,
            fabric,
            n,
            head,
            history,
            changed,
            records,
            parts,
            gone,
            orphans,
            strays,
            homed,
        }
    }

    fn take(&mut self, changes: &[Changed]) -> Result<(), Error> {
        self.changed = changes.iter().map(|(path, _, now)| (path.clone(), *now)).collect();
        for part in changes.chunks(read::TOGETHER_MAX) {
            let wanted = part.iter().map(|(path, _, new)| new.filter(|_| is_manifest(path)));
            let read = read::all(self.lane, wanted)?;
            for ((path, _, new), read) in part.iter().zip(read) {
                let raw = RawPath::new(path.to_vec());
                self.homed.insert(raw.clone());
                match (manifest_path(path), new, read) {
                    (None, Some(_), _) if !path.ends_with(b"/README.md") => {
                        let message = "this file in managed/ is no manifest; move it elsewhere";
                        self.stray(raw, StrayKind::Foreign, None, message.to_owned());
                    }
                    (Some(path), None, _) => {
                        if let Some(old) = self.lane.store.record_at(&self.fabric, &path)? {
                            let change = self.history.foreign(history::bytes(&path)).cloned();
                            self.gone.insert(old.id, (old, change));
                        }
                    }
                    (Some(path), Some(_), Some(read)) => self.adopt(path, read)?,
                    (None | Some(_), ..) => (),
                }
            }
            if let Some(written) = &mut self.parts
                && self.records.len() >= PART_RECORDS
            {
                let records = std::mem::take(&mut self.records);
                *written += records.len();
                let records = records.into_values().collect();
                self.lane.store.settle(Settlement { records, ..Settlement::default() })?;
            }
        }
        self.gone.retain(|id, _| !self.records.contains_key(id));
        self.wake_duplicates()
    }

    /// A second file of a resource comes into its place when the first is gone.
    fn wake_duplicates(&mut self) -> Result<(), Error> {
        if self.gone.is_empty() {
            return Ok(());
        }
        let known: Result<Vec<Stray>, _> = self.lane.store.strays(&self.fabric).collect();
        for it in known? {
            let (Some(id), StrayKind::Duplicate) = (it.of, it.kind) else { continue };
            let path = BString::from(it.path.as_bytes());
            if !self.gone.contains_key(&id) || self.homed.contains(&it.path) {
                continue;
            }
            let blob = self.lane.repo.blob_at(Some(self.head), &path)?;
            if let (Some(path), Some(blob)) = (manifest_path(&path), blob) {
                self.homed.insert(it.path);
                let read = read::all(self.lane, std::iter::once(Some(blob)))?.pop().flatten();
                if let Some(read) = read {
                    self.adopt(path, read)?;
                }
            }
        }
        self.gone.retain(|id, _| !self.records.contains_key(id));
        Ok(())
    }

    fn adopt(&mut self, path: RepoPath, read: Read) -> Result<(), Error> {
        let raw = RawPath::new(path.as_str());
        let mut old = self.lane.store.record_at(&self.fabric, &path)?;
        let Read { blob, bytes, document } = read;
        let document = match document {
            Ok(it) => it,
            Err(problems) => {
                let why = problems.first().map(ToString::to_string).unwrap_or_default();
                let message = format!("it cannot be read, so its record stays as it was: {why}");
                self.stray(raw, StrayKind::Invalid, old.map(|it| it.id), message);
                return Ok(());
            }
        };
        let fabric = &self.lane.fabrics[self.n].fabric;
        let home = match classification::home(&document, fabric, &self.lane.catalog) {
            Ok(it) => it,
            Err(why) => {
                let message = format!("it holds no resource of this fabric: {}", why);
                self.stray(raw, StrayKind::Foreign, None, message);
                self.left(old);
                return Ok(());
            }
        };
        let id = ResourceId::of(&self.fabric, &document.key);
        if old.as_ref().is_some_and(|it| it.id != id) {
            self.left(old.take());
        }
        if let Some(twin) = self.twin(id, &path, old.as_ref())? {
            let (stays, stray) = if path == home { (&path, &twin) } else { (&twin, &path) };
            let message = format!(
                "it holds {}, which {stays} holds already; remove one, or set this one aside: git mv \
                 {stray} {}",
                document.key,
                fabric.unmanaged().join(stray.file_name()).unwrap_or_else(|_| fabric.unmanaged())
            );
            let (stray, stays) = (RawPath::new(stray.as_str()), *stays == path);
            self.stray(stray, StrayKind::Duplicate, Some(id), message);
            if !stays {
                return Ok(());
            }
        }
        let record = self.record(path, (blob, &bytes), &document, old)?;
        self.records.insert(id, record);
        Ok(())
    }

    /// The resource of a file that holds another one now, or none.
    fn left(&mut self, old: Option<Record>) {
        if let Some(old) = old {
            let change = self.history.foreign(history::bytes(&old.path)).cloned();
            self.gone.insert(old.id, (old, change));
        }
    }

    /// Where else a resource has a file, in what came in or from before; `here` is its record, where
    /// that says that the file is at `path`.
    fn twin(
        &self,
        id: ResourceId,
        path: &RepoPath,
        here: Option<&Record>,
    ) -> Result<Option<RepoPath>, Error> {
        if let Some(it) = self.records.get(&id) {
            return Ok(Some(it.path.clone()).filter(|it| it != path));
        }
        if here.is_some() {
            return Ok(None);
        }
        let Some(it) = self.lane.store.record(&id)?.filter(|it| it.path != *path) else {
            return Ok(None);
        };
        let at = BString::from(it.path.as_str());
        // What moved in thousands is not looked up one by one.
        let there = match self.changed.get(&at) {
            Some(now) => *now,
            None => self.lane.repo.blob_at(Some(self.head), &at)?,
        };
        Ok((there == Some(it.blob_id)).then_some(it.path))
    }

    fn record(
        &self,
        path: RepoPath,
        (blob, bytes): (BlobId, &[u8]),
        document: &Document,
        here: Option<Record>,
    ) -> Result<Record, Error> {
        let id = ResourceId::of(&self.fabric, &document.key);
        let old = match here {
            Some(it) => Some(it),
            None => self.lane.store.record(&id)?,
        };
        let old = match old {
            Some(it) => Some(it),
            None => self.lane.store.orphan(&id)?.map(|it| it.record),
        };
        let told = self.history.sources.get(&path);
        let commit_id = match (self.history.commit_of(history::bytes(&path)), &old) {
            (Some(it), _) => Some(it),
            (None, Some(old)) if old.blob_id == blob => old.commit_id,
            _ => None,
        };
        // An edit in place does not change where a resource came from.
        let source = told.map(|it| it.0.clone()).or(old.as_ref().and_then(|it| it.source.clone()));
        let (fabric, modifications) = (self.fabric.clone(), self.modified(&path, old.as_ref()));
        let record = read::record_of(fabric, document, path, blob, commit_id, source);
        let actual = old.and_then(|it| it.actual);
        Ok(Record { sha256: Sha256::of(bytes), modifications, actual, ..record })
    }

    /// What did not come through the agent, with what was known before.
    fn modified(&self, path: &RepoPath, old: Option<&Record>) -> Vec<Modification> {
        let mut all = self.history.modifications(history::bytes(path)).to_vec();
        for it in old.map_or(&[][..], |it| &it.modifications) {
            if all.iter().all(|known| known.commit_id != it.commit_id) {
                all.push(it.clone());
            }
        }
        all.truncate(MODIFICATIONS_MAX);
        all
    }

    /// Paths that were changed and are what they were: only who did it last is new.
    fn touched(&mut self, changes: &[Changed]) -> Result<(), Error> {
        let changed: BTreeSet<&BString> = changes.iter().map(|it| &it.0).collect();
        for (path, commit_id) in self.history.paths() {
            let Some(path) = manifest_path(path).filter(|_| !changed.contains(path)) else {
                continue;
            };
            let Some(record) = self.lane.store.record_at(&self.fabric, &path)? else { continue };
            if self.records.contains_key(&record.id) {
                continue;
            }
            let modifications = self.modified(&path, Some(&record));
            let record = Record { commit_id: Some(commit_id), modifications, ..record };
            self.records.insert(record.id, record);
        }
        Ok(())
    }

    /// What is a stray no more, where everything was read again.
    fn forget_strays(&mut self) -> Result<(), Error> {
        for it in self.lane.store.strays(&self.fabric) {
            self.homed.insert(it?.path);
        }
        Ok(())
    }

    /// What others removed, as far as the history tells: for a store that forgot.
    fn find_orphans(&mut self) -> Result<(), Error> {
        let (history, repo) = (self.history, &self.lane.repo);
        let foreign = history.paths().filter_map(|(path, _)| {
            Some((path.as_slice(), manifest_path(path)?, history.foreign(path.as_ref())?))
        });
        let foreign: Vec<_> = foreign.collect();
        // Looked up together, as each look-up reads the whole of a directory.
        let there = repo.blobs_at(Some(self.head), foreign.iter().map(|it| it.0))?;
        let mut by_commit: BTreeMap<CommitId, Vec<Foreign<'_>>> = BTreeMap::new();
        for it in foreign.into_iter().filter(|it| !there.contains_key(it.0)) {
            by_commit.entry(it.2.commit_id).or_default().push(it);
        }
        for (commit_id, removed) in by_commit {
            let commit = repo.log(commit_id, None, 1)?.pop();
            let parent = commit.and_then(|it| it.parent).filter(|it| repo.has_commit(*it));
            let blobs = repo.blobs_at(parent, removed.iter().map(|it| it.0))?;
            for (path, at, change) in removed {
                if let Some(blob) = blobs.get(path) {
                    self.orphaned(at, *blob, change)?;
                }
            }
        }
        Ok(())
    }

    /// Notes that the resource a removed file held is gone, if no other file holds it.
    fn orphaned(&mut self, at: RepoPath, blob: BlobId, by: &Modification) -> Result<(), Error> {
        let bytes = self.lane.repo.blob(blob)?;
        let read = validation::read_managed(&bytes, &self.lane.settings.limits);
        let Ok(document) = read else { return Ok(()) };
        let record = read::record_of(self.fabric.clone(), &document, at, blob, None, None);
        let fabric = &self.lane.fabrics[self.n].fabric;
        let ours = classification::home(&document, fabric, &self.lane.catalog).is_ok();
        let id = &record.id;
        let written = self.parts.is_some() && self.lane.store.record(id)?.is_some();
        let there = written || self.records.contains_key(id);
        if ours && !there {
            self.gone.insert(record.id, (record, Some(by.clone())));
        }
        Ok(())
    }

    fn stray(&mut self, path: RawPath, kind: StrayKind, of: Option<ResourceId>, message: String) {
        self.homed.remove(&path);
        let stray = Stray { fabric: self.fabric.clone(), path: path.clone(), kind, of, message };
        self.strays.insert(path, stray);
    }

    fn into_settlement(mut self) -> Result<Settlement<'static>, Error> {
        let mut settlement =
            Settlement { synced: Some((self.fabric.clone(), self.head)), ..Settlement::default() };
        let policy = self.lane.fabrics[self.n].rules.on_delete;
        for (id, (record, removed)) in std::mem::take(&mut self.gone) {
            match (policy, removed) {
                (OnDelete::Orphan, Some(removed)) => {
                    self.orphans.push(Orphan { record, removed });
                }
                _ => settlement.gone.push(id),
            }
        }
        for stray in self.strays.values() {
            if self.lane.store.stray(&self.fabric, &stray.path)?.as_ref() != Some(stray) {
                let (path, why) = (escape(stray.path.as_bytes()), &stray.message);
                tracing::warn!(path, why, "a file in managed/ has no record; it is left as it is");
            }
        }
        settlement.records = self.records.into_values().collect();
        settlement.before = self.parts.unwrap_or(0);
        settlement.orphans = self.orphans;
        settlement.strays = self.strays.into_values().collect();
        let homed = self.homed.into_iter().map(|it| (self.fabric.clone(), it));
        settlement.homed = homed.collect();
        Ok(settlement)
    }
}
