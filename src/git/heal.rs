//! What an earlier run left behind, cleared up before this one begins.
//!
//! After a kill: our locks, half-written packs, and what gix leaves of a fetch. After a power cut
//! also objects that stand there empty or undecodable, because somebody wrote them without a sync:
//! git takes such a file for the object, so that writing the same content again would leave it
//! broken. They are put aside, and what the work tree still holds of them is written again.
//! Git does not sync its index either.

use super::{Error, Repo, locks};
use crate::step::Step;
use crate::whole;
use gix::ObjectId;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

/// In the git directory: says that a run is under way, and by its age since when.
const RUNNING: &str = "intake/running";
/// In the git directory: says that a fetch is under way.
const FETCHING: &str = "intake/fetching";
/// Where broken objects lie aside, in the git directory.
const BROKEN: &str = "intake/broken";
/// Clocks differ, and people work before we start: objects older than the run by more than this
/// are taken to have reached the disk.
const OLDER_MAX: Duration = Duration::from_secs(3600);
/// How many loose objects are looked at after a crash.
const LOOSE_MAX: usize = 200_000;
/// How many broken objects are looked for in the work tree.
const BROKEN_MAX: usize = 10_000;

/// What was cleared up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Our locks and half-written files.
    pub leftovers: u32,
    /// Objects and packs that were empty or could not be decoded, by their names.
    pub broken: Vec<String>,
    /// How many of them were written again from the work tree.
    pub mended: usize,
}

impl Repo {
    /// Clears up after an earlier run. Whoever calls has the lane's lock.
    pub fn clear_up(&self) -> Result<Cleared, Error> {
        let failed = |it: io::Error| Error::io("clear up after an earlier run", it);
        let mut cleared = Cleared::default();
        let (own, shared) = (self.git_dir(), self.gix.common_dir());
        let dirs = if own == shared { vec![own] } else { vec![own, shared] };
        cleared.leftovers += locks::sweep(own, &dirs).map_err(failed)?;
        cleared.leftovers += self.sweep_packs().map_err(failed)?;
        whole::sweep(&own.join("intake")).map_err(failed)?;
        let marker = own.join(RUNNING);
        if marker.exists() {
            // Not stopped in an orderly way.
            let since = self.run_began(None).map_err(failed)?;
            let loose = self.broken_loose(since).map_err(failed)?;
            let packs = self.broken_packs(since).map_err(failed)?;
            cleared.broken = loose.iter().map(ToString::to_string).chain(packs).collect();
            cleared.mended = self.mend(&loose)?;
        }
        if self.broken_index()? {
            cleared.broken.push("index".to_owned());
            cleared.mended += 1;
        }
        self.steps.pass(Step::WriteFile).map_err(failed)?;
        std::fs::create_dir_all(own.join("intake")).map_err(failed)?;
        let begun = File::create(&marker).and_then(|it| it.sync_all());
        begun.and_then(|()| sync_dir(&own.join("intake"))).map_err(failed)?;
        self.running.set(true);
        Ok(cleared)
    }

    /// Notes that gix is about to write below `objects/pack`, under names that do not say whose
    /// they are.
    pub(super) fn fetch_begins(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.git_dir().join("intake"))?;
        File::create(self.git_dir().join(FETCHING)).map(drop)
    }

    pub(super) fn fetch_ends(&self) -> io::Result<()> {
        remove(&self.git_dir().join(FETCHING))
    }

    fn pack_dir(&self) -> PathBuf {
        self.gix.objects.store_ref().path().join("pack")
    }

    /// Removes packs of ours that were never finished, and what a fetch that was cut off left.
    fn sweep_packs(&self) -> io::Result<u32> {
        let fetching = self.git_dir().join(FETCHING);
        let since = modified(&fetching)?;
        let ours = self.temp_mark();
        let mut swept = 0;
        for entry in entries(&self.pack_dir())? {
            let path = entry?.path();
            let Some(name) = path.file_name().map(|it| it.to_string_lossy().into_owned()) else {
                continue;
            };
            let half_written = name.starts_with("tmp_") && name.contains(&ours);
            // gix names its files `.tmpXXXXXX`, and guards a new pack with an empty `.keep`.
            let of_fetch = |it: SystemTime| {
                let named = name.starts_with(".tmp") || name.ends_with(".keep");
                let found = std::fs::symlink_metadata(&path).ok().filter(Metadata::is_file);
                named
                    && found.is_some_and(|found| {
                        let empty = !name.ends_with(".keep") || found.len() == 0;
                        empty
                            && found.modified().is_ok_and(|at| at >= it)
                            && !whole::is_written(&path)
                    })
            };
            if half_written || since.is_some_and(of_fetch) {
                self.steps.pass(Step::Remove)?;
                remove(&path)?;
                swept += 1;
            }
        }
        remove(&fetching)?;
        Ok(swept)
    }

    /// When an unfinished run began, or when something else of it was noted, less what clocks differ
    /// by and what people wrote before.
    pub(super) fn run_began(&self, noted: Option<SystemTime>) -> io::Result<SystemTime> {
        let marked = modified(&self.git_dir().join(RUNNING))?;
        let began = [marked, noted].into_iter().flatten().min();
        Ok(began.and_then(|it| it.checked_sub(OLDER_MAX)).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    pub(super) fn loose(&self) -> gix::odb::loose::Store {
        let top = self.gix.objects.store_ref().path().to_owned();
        gix::odb::loose::Store::at(top, self.gix.object_hash())
    }

    /// Loose objects since a time, where they lie, and how long the files are.
    pub(super) fn loose_since(
        &self,
        since: SystemTime,
    ) -> io::Result<Vec<(ObjectId, PathBuf, u64)>> {
        let mut found = Vec::new();
        for dir in entries(self.gix.objects.store_ref().path())? {
            let dir = dir?;
            let first = dir.file_name().to_string_lossy().into_owned();
            if first.len() != 2 || !dir.file_type()?.is_dir() {
                continue;
            }
            for entry in entries(&dir.path())? {
                let entry = entry?;
                let name = format!("{first}{}", entry.file_name().to_string_lossy());
                let Ok(id) = ObjectId::from_hex(name.as_bytes()) else { continue };
                let Ok(meta) = entry.metadata() else { continue };
                if meta.modified().is_ok_and(|at| at < since) || found.len() >= LOOSE_MAX {
                    continue;
                }
                found.push((id, entry.path(), meta.len()));
            }
        }
        Ok(found)
    }

    /// The names of packs since a time.
    pub(super) fn packs_since(&self, since: SystemTime) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in entries(&self.pack_dir())? {
            let path = entry?.path();
            let fresh = modified(&path)?.is_some_and(|at| at >= since);
            if fresh && path.extension().is_some_and(|it| it == "idx") {
                let name = path.file_stem().unwrap_or_default();
                found.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(found)
    }

    /// Loose objects since a time that are not what their names say; they lie aside afterwards.
    fn broken_loose(&self, since: SystemTime) -> io::Result<Vec<ObjectId>> {
        let store = self.loose();
        let mut broken = Vec::new();
        for (id, path, len) in self.loose_since(since)? {
            if len == 0 || !is_whole(&store, id) {
                self.put_aside(&path, &id.to_string())?;
                broken.push(id);
            }
        }
        Ok(broken)
    }

    /// Packs since a time whose content is not what their ends say; they lie aside afterwards.
    fn broken_packs(&self, since: SystemTime) -> io::Result<Vec<String>> {
        let hash = self.gix.object_hash();
        let mut broken = Vec::new();
        for name in self.packs_since(since)? {
            let path = self.pack_dir().join(format!("{name}.idx"));
            let stop = AtomicBool::new(false);
            let mut quiet = gix::progress::Discard;
            let index = gix_pack::index::File::at(&path, hash)
                .and_then(|it| it.verify_checksum(&mut quiet, &stop));
            let data = gix_pack::data::File::at(path.with_extension("pack"), hash)
                .and_then(|it| it.verify_checksum(&mut quiet, &stop));
            if index.is_ok() && data.is_ok() {
                continue;
            }
            // The index first: a pack without one is not looked at.
            self.put_aside(&path, &format!("{name}.idx"))?;
            self.put_aside(&path.with_extension("pack"), &format!("{name}.pack"))?;
            broken.push(name);
        }
        Ok(broken)
    }

    /// Git does not sync the index: one that was cut short lies aside afterwards, and another follows
    /// HEAD from nothing. What was staged in it and never committed is in the work tree. It may be so
    /// after an orderly end of ours, too.
    fn broken_index(&self) -> Result<bool, Error> {
        let path = self.gix.index_path();
        match std::fs::read(&path) {
            Ok(it) if !is_torn(&it, self.gix.object_hash()) => return Ok(false),
            Ok(_) => (),
            Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(it) => return Err(Error::io("read the index", it)),
        }
        let failed = |it: io::Error| Error::io("put a broken index aside", it);
        self.put_aside(&path, "index").map_err(failed)?;
        if let Ok(Some(head)) = self.head().map(|it| it.commit) {
            self.owe_whole_index(head).map_err(failed)?;
        }
        Ok(true)
    }

    fn put_aside(&self, path: &Path, name: &str) -> io::Result<()> {
        let dir = self.git_dir().join(BROKEN);
        std::fs::create_dir_all(&dir)?;
        self.steps.pass(Step::Rename)?;
        rename(path, &dir.join(name))
    }

    /// Writes again what the work tree still holds of broken objects.
    fn mend(&self, broken: &[ObjectId]) -> Result<usize, Error> {
        let mut wanted: BTreeSet<ObjectId> = broken.iter().copied().take(BROKEN_MAX).collect();
        let mut found = Vec::new();
        // HEAD itself may be among the broken; then nobody can say what lay where.
        let Ok(Some(head)) = self.head().map(|it| it.commit) else { return Ok(0) };
        let Ok(files) = self.files_below(head, &crate::model::path::RepoPath::top()) else {
            return Ok(0);
        };
        for (path, blob) in files {
            if wanted.is_empty() {
                break;
            }
            if !wanted.contains(&blob.0) {
                continue;
            }
            use std::os::unix::ffi::OsStrExt as _;
            let full = self.work_tree.join(Path::new(std::ffi::OsStr::from_bytes(&path)));
            let Ok(bytes) = std::fs::read(&full) else { continue };
            if self.blob_id_of(&bytes)? == blob && wanted.remove(&blob.0) {
                found.push((blob.0, gix::objs::Kind::Blob, super::pack::Content::Own(bytes)));
            }
        }
        let n = found.len();
        self.write_pack(found)?;
        Ok(n)
    }
}

impl Drop for Repo {
    fn drop(&mut self) {
        // What is left of the marker after an orderly end costs the next start a look.
        if self.running.get() && remove(&self.git_dir().join(RUNNING)).is_err() {
            tracing::debug!("the mark of a running agent stays");
        }
    }
}

/// Says whether an index is no index at all, or not what the hash at its end says (`gitformat-index(5)`;
/// git may be told to leave that hash out).
fn is_torn(index: &[u8], kind: gix::hash::Kind) -> bool {
    let Some(at) = index.len().checked_sub(kind.len_in_bytes()).filter(|it| *it >= 12) else {
        return true;
    };
    let (content, end) = index.split_at(at);
    let mut hasher = gix::hash::hasher(kind);
    hasher.update(content);
    let whole =
        end.iter().all(|it| *it == 0) || hasher.try_finalize().is_ok_and(|it| it.as_slice() == end);
    !content.starts_with(b"DIRC") || !whole
}

fn is_whole(store: &gix::odb::loose::Store, id: ObjectId) -> bool {
    let mut buffer = Vec::new();
    let Ok(Some(found)) = store.try_find(&id, &mut buffer) else { return false };
    gix::objs::compute_hash(id.kind(), found.kind, found.data).is_ok_and(|it| it == id)
}

fn entries(dir: &Path) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>>> {
    match std::fs::read_dir(dir) {
        Ok(it) => Ok(Some(it).into_iter().flatten()),
        Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(it) => Err(it),
    }
}

pub(super) fn modified(path: &Path) -> io::Result<Option<SystemTime>> {
    match std::fs::symlink_metadata(path) {
        Ok(it) => it.modified().map(Some),
        Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(it) => Err(it),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "the caller has passed the step")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[expect(clippy::disallowed_methods, reason = "our own leftovers and marks")]
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(it),
        _ => Ok(()),
    }
}
