//! What an earlier run left behind, cleared up before this one begins.
//!
//! After a kill: our locks, half-written packs, and what gix leaves of a fetch. After a power cut
//! also objects that stand there empty or undecodable, because somebody wrote them without a sync:
//! git takes such a file for the object, so that writing the same content again would leave it
//! broken. They are put aside, and what the work tree still holds of them is written again.

use super::{Error, Repo, locks};
use crate::step::Step;
use gix::ObjectId;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
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
        for entry in entries(&own.join("intake")).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b".tmp")) {
                remove(&path).map_err(failed)?;
            }
        }
        let marker = own.join(RUNNING);
        if let Some(since) = modified(&marker).map_err(failed)? {
            // Not stopped in an orderly way.
            let since = since.checked_sub(OLDER_MAX).unwrap_or(SystemTime::UNIX_EPOCH);
            let loose = self.broken_loose(since).map_err(failed)?;
            let packs = self.broken_packs(since).map_err(failed)?;
            cleared.broken = loose.iter().map(ToString::to_string).chain(packs).collect();
            cleared.mended = self.mend(&loose)?;
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
                        empty && found.modified().is_ok_and(|at| at >= it) && !is_written(&path)
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

    /// Loose objects since a time that are not what their names say; they lie aside afterwards.
    fn broken_loose(&self, since: SystemTime) -> io::Result<Vec<ObjectId>> {
        let top = self.gix.objects.store_ref().path().to_owned();
        let hash = self.gix.object_hash();
        let store = gix::odb::loose::Store::at(&top, hash);
        let mut broken = Vec::new();
        let mut looked_at = 0;
        for dir in entries(&top)? {
            let dir = dir?;
            let first = dir.file_name().to_string_lossy().into_owned();
            if first.len() != 2 || !dir.file_type()?.is_dir() {
                continue;
            }
            for entry in entries(&dir.path())? {
                let entry = entry?;
                let name = format!("{first}{}", entry.file_name().to_string_lossy());
                let Ok(id) = ObjectId::from_hex(name.as_bytes()) else { continue };
                let Ok(found) = entry.metadata() else { continue };
                if found.modified().is_ok_and(|at| at < since) || looked_at >= LOOSE_MAX {
                    continue;
                }
                looked_at += 1;
                if found.len() == 0 || !is_whole(&store, id) {
                    self.put_aside(&entry.path(), &name)?;
                    broken.push(id);
                }
            }
        }
        Ok(broken)
    }

    /// Packs since a time whose content is not what their ends say; they lie aside afterwards.
    fn broken_packs(&self, since: SystemTime) -> io::Result<Vec<String>> {
        let hash = self.gix.object_hash();
        let mut broken = Vec::new();
        for entry in entries(&self.pack_dir())? {
            let path = entry?.path();
            let fresh = modified(&path)?.is_some_and(|at| at >= since);
            if !fresh || path.extension().is_none_or(|it| it != "idx") {
                continue;
            }
            let stop = AtomicBool::new(false);
            let mut quiet = gix::progress::Discard;
            let index = gix_pack::index::File::at(&path, hash)
                .and_then(|it| it.verify_checksum(&mut quiet, &stop));
            let data = gix_pack::data::File::at(path.with_extension("pack"), hash)
                .and_then(|it| it.verify_checksum(&mut quiet, &stop));
            if index.is_ok() && data.is_ok() {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // The index first: a pack without one is not looked at.
            self.put_aside(&path, &format!("{name}.idx"))?;
            self.put_aside(&path.with_extension("pack"), &format!("{name}.pack"))?;
            broken.push(name);
        }
        Ok(broken)
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

fn is_whole(store: &gix::odb::loose::Store, id: ObjectId) -> bool {
    let mut buffer = Vec::new();
    let Ok(Some(found)) = store.try_find(&id, &mut buffer) else { return false };
    gix::objs::compute_hash(id.kind(), found.kind, found.data).is_ok_and(|it| it == id)
}

/// Says whether somebody has the file open for writing, by asking for a read lease (`fcntl(2)`).
/// Where the kernel does not tell, it counts as so.
fn is_written(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    // SAFETY: F_SETLEASE takes one integer and touches no memory of ours.
    let lease =
        |kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 };
    !(lease(libc::F_RDLCK) && lease(libc::F_UNLCK))
}

fn entries(dir: &Path) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>>> {
    match std::fs::read_dir(dir) {
        Ok(it) => Ok(Some(it).into_iter().flatten()),
        Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(it) => Err(it),
    }
}

fn modified(path: &Path) -> io::Result<Option<SystemTime>> {
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
