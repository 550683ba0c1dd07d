//! What people edited in the work tree and have not committed: told by the index, as git tells it.

use super::index::Place;
use super::{Error, Repo};
use crate::cores;
use crate::model::ids::{BlobId, CommitId};
use crate::model::path::RepoPath;
use bstr::{BStr, BString, ByteSlice};
use gix::index::Entry;
use gix::index::entry::stat::Time;
use gix::index::entry::{Flags, Mode, Stage, Stat};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// So many edits are told at most; more are no work of hands.
const EDITED_MAX: usize = 20_000;
/// Edits of one file that are farther apart than this have different times.
const TICKS_NANOS: i128 = 50_000_000;
/// How deep directories are looked into.
const DEPTH_MAX: usize = 32;

/// One file that differs between HEAD and the work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Where, relative to the top of the repository.
    pub path: BString,
    /// What HEAD has there.
    pub head: Option<BlobId>,
    /// What the work tree has there.
    pub work: Option<BlobId>,
    /// Somebody has staged it, in this or another content: it is theirs to commit.
    pub staged: bool,
}

impl Repo {
    /// The files below `dir` that differ between HEAD and the work tree. Only what looks changed to
    /// the index is read.
    pub fn edited_below(
        &self,
        head: Option<CommitId>,
        dir: &RepoPath,
    ) -> Result<Vec<Edited>, Error> {
        let place = self.place();
        if !self.gix.index_path().exists() {
            return Ok(Vec::new());
        }
        let index = self.gix.open_index().map_err(|it| Error::git("read the index", it))?;
        let prefix = format!("{}/", dir.as_str());
        let prefix = if dir.is_top() { "" } else { prefix.as_str() };
        let committed: HashMap<BString, BlobId> = match head {
            Some(head) => self.files_below(head, dir)?.into_iter().collect(),
            None => HashMap::new(),
        };
        let entries = index.prefixed_entries(prefix.into()).unwrap_or_default();
        let known: BTreeSet<&BStr> = entries.iter().map(|it| it.path(&index)).collect();
        let mut found = changed(&place, &index, entries, &committed);
        // Removed from the index and not from the last commit: somebody is about to commit that.
        let unstaged = committed.iter().filter(|it| !known.contains(it.0.as_bstr()));
        for (path, blob) in unstaged.take(EDITED_MAX) {
            if let Some(work) = place.hashed(path) {
                found.push(Edited { path: path.clone(), head: Some(*blob), work, staged: true });
            }
        }
        let mut new = Vec::new();
        list(&place.of(dir.as_str().as_bytes()), dir.as_str().as_bytes(), 0, &mut new);
        for path in new.into_iter().filter(|it| !known.contains(it.as_bstr())).take(EDITED_MAX) {
            let work = place.hashed(&path);
            if let (Some(Some(_)), false) = (work, committed.contains_key(&path)) {
                found.push(Edited { path, head: None, work: work.flatten(), staged: false });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

/// The files that the index follows and that are not what HEAD has.
fn changed(
    place: &Place<'_>,
    index: &gix::index::File,
    entries: &[Entry],
    committed: &HashMap<BString, BlobId>,
) -> Vec<Edited> {
    let written = index.timestamp();
    let written = (written.unix_seconds(), written.nanoseconds());
    let followed = entries.iter().filter(|it| {
        it.stage() == Stage::Unconflicted
            && !it.flags.contains(Flags::SKIP_WORKTREE)
            && (it.mode == Mode::FILE || it.mode == Mode::FILE_EXECUTABLE)
    });
    let followed: Vec<(&BStr, &Entry)> = followed.map(|it| (it.path(index), it)).collect();
    let now = cores::on_all(&followed, |(path, entry)| {
        let found = gix::index::fs::Metadata::from_path_no_follow(&place.of(path)).ok();
        let found = found.filter(|it| it.is_file()).and_then(|it| Stat::from_fs(&it).ok());
        let as_followed = found.is_some_and(|it| it == entry.stat);
        if as_followed && is_older(&entry.stat.mtime, written) {
            return Ok::<_, Infallible>(Some(Some(BlobId(entry.id))));
        }
        Ok(place.hashed(path))
    });
    let Ok(now) = now;
    let found = followed.iter().zip(now).filter_map(|((path, entry), now)| {
        let head = committed.get(*path).copied();
        let work = now.filter(|it| *it != head)?;
        let staged = head.map(|it| it.0) != Some(entry.id);
        Some(Edited { path: (*path).to_owned(), head, work, staged })
    });
    found.take(EDITED_MAX).collect()
}

/// Whether a file's time says that it has not been edited since the index followed it: what was
/// written when the index was may have been, as git tells it ("racy").
///
/// Git counts in seconds, because some file systems do. Where both times are finer, a distance of
/// several ticks of the kernel's clock tells as well.
fn is_older(file: &Time, index: (i64, u32)) -> bool {
    let (seconds, nanos) = (i64::from(file.secs), file.nsecs);
    if nanos == 0 || index.1 == 0 {
        return seconds < index.0;
    }
    let nanos = i128::from(index.1) - i128::from(nanos);
    i128::from(index.0 - seconds) * 1_000_000_000 + nanos > TICKS_NANOS
}

impl Place<'_> {
    /// The blob that a regular file would be, none where there is no file; and nothing at all where
    /// that cannot be told: what may not be read, or is something else now, has not been removed.
    pub(super) fn hashed(&self, path: &[u8]) -> Option<Option<BlobId>> {
        let place = self.of(path);
        let gone = |it: &io::Error| {
            matches!(it.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        };
        let file = match std::fs::symlink_metadata(&place) {
            Ok(it) if it.is_file() => open(&place),
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        let (found, mut file) = match file {
            Ok(it) => it,
            Err(error) if gone(&error) => return Some(None),
            Err(_) => return None,
        };
        // Piece by piece, whatever its size.
        let hash = gix::objs::compute_stream_hash(
            self.hash,
            gix::objs::Kind::Blob,
            &mut file,
            found.len(),
            &mut gix::progress::Discard,
            &AtomicBool::new(false),
        );
        // Where somebody is at it, what it will be is told next time.
        let whole = file.metadata().is_ok_and(|it| it.len() == found.len());
        hash.ok().filter(|_| whole).map(|it| Some(BlobId(it)))
    }
}

/// Opens what was a regular file a moment ago, and waits for nobody should it be a pipe by now.
fn open(place: &Path) -> io::Result<(Metadata, File)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(place)?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((found, file)),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The regular files below a directory, without following links.
fn list(place: &Path, at: &[u8], depth: usize, found: &mut Vec<BString>) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if found.len() > EDITED_MAX * 10 {
            return;
        }
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let path = BString::from([at, b"/", name.as_bytes()].concat());
        match entry.file_type() {
            Ok(it) if it.is_dir() && depth < DEPTH_MAX => {
                list(&entry.path(), path.as_bytes(), depth + 1, found);
            }
            Ok(it) if it.is_file() => found.push(path),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_trusted_when_the_index_is_younger_by_more_than_a_tick() {
        let file = |secs, nsecs| Time { secs, nsecs };
        assert!(is_older(&file(9, 1), (10, 1)));
        assert!(is_older(&file(9, 999_000_000), (10, 100_000_000)));
        assert!(!is_older(&file(9, 999_000_000), (10, 1)), "it may be one tick");
        assert!(is_older(&file(10, 1_000), (10, 51_000_000)));
        assert!(!is_older(&file(10, 51_000_000), (10, 1_000)), "it is younger");
        // Whole seconds, as some file systems have them, say less.
        assert!(!is_older(&file(10, 0), (10, 900_000_000)));
        assert!(!is_older(&file(10, 1), (10, 0)));
        assert!(is_older(&file(9, 0), (10, 1)));
    }
}
