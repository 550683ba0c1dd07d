//! Locks on files of git that a start after a crash can tell from everybody else's.
//!
//! Git's lock is a file that must not be there yet, so a killed process leaves one that blocks
//! everybody for ever. Ours is made under a name of our own first, below `intake/locks` in the git
//! directory (the *note*), and then linked to where git looks: the same inode under two names. A
//! start that finds a note removes the lock beside it if, and only if, it still is that inode;
//! the note keeps the inode from being given to anybody else. Locks of others are never touched.

use crate::step::Mistake;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the notes lie, in the git directory.
const NOTES: &str = "intake/locks";
/// How deep the names of refs are followed below it.
const DEPTH_MAX: usize = 64;
/// People's git holds a lock for moments, and waits as long for ours (`core.filesRefLockTimeout`).
const WAIT: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);
const NOT_THERE: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
/// What file systems without hard links answer.
const NO_LINKS: [i32; 3] = [libc::EPERM, libc::EOPNOTSUPP, libc::ENOSYS];

/// A lock that we hold. It goes away with this value, unless it became the file it locks.
#[derive(Debug)]
pub(super) struct Lock {
    target: PathBuf,
    lock: PathBuf,
    note: PathBuf,
    file: File,
    held: bool,
}

/// What taking a lock gave.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is ours.
    Ours(Lock),
    /// Somebody else has it.
    Theirs(PathBuf),
}

/// The content of a file to be, on the disk, before anybody is locked out for it.
#[derive(Debug)]
pub(super) struct Note {
    target: PathBuf,
    path: PathBuf,
    file: File,
}

impl Note {
    /// Writes the content that `target` is to get, which is `name` in its directory, like
    /// `refs/heads/main`. A lock on it that we could not remove earlier goes first.
    pub(super) fn write(
        git_dir: &Path,
        name: &str,
        target: PathBuf,
        content: &[u8],
    ) -> io::Result<Note> {
        let_go(git_dir, name, &target)?;
        let path = git_dir.join(NOTES).join(name);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        // A note of an earlier try may be linked to the file itself: never written into.
        remove(&path)?;
        let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.write_all(content)?;
        if !content.is_empty() {
            let synced = file.sync_all();
            match Mistake::SyncAgain.is_made() {
                true => synced.or_else(|_| file.sync_all())?,
                false => synced?,
            }
        }
        Ok(Note { target, path, file })
    }

    /// Locks the target with it, waiting a moment for somebody who has it.
    pub(super) fn lock(self) -> io::Result<Taken> {
        self.lock_within(WAIT)
    }

    /// The same with so long a wait.
    pub(super) fn lock_within(self, wait: Duration) -> io::Result<Taken> {
        let lock = lock_of(&self.target);
        if let Some(dir) = self.target.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let begun = crate::clock::instant();
        let other = loop {
            match self.link(&lock) {
                Ok(other) => break other,
                Err(it) if it.kind() == io::ErrorKind::AlreadyExists => {
                    if crate::clock::instant().duration_since(begun) >= wait {
                        remove(&self.path)?;
                        return Ok(Taken::Theirs(lock));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(it) => {
                    remove(&self.path)?;
                    return Err(it);
                }
            }
        };
        let Note { target, path: note, file } = self;
        let file = other.unwrap_or(file);
        Ok(Taken::Ours(Lock { target, lock, note, file, held: true }))
    }

    /// Gives the lock where it is another file than the note.
    fn link(&self, lock: &Path) -> io::Result<Option<File>> {
        match std::fs::hard_link(&self.path, lock) {
            // A file system without links: the lock is git's own kind, and after a crash a person
            // removes it, as they would git's.
            Err(it) if NO_LINKS.iter().any(|no| it.raw_os_error() == Some(*no)) => {
                let content = std::fs::read(&self.path)?;
                let mut file =
                    File::options().read(true).write(true).create_new(true).open(lock)?;
                file.write_all(&content)?;
                file.sync_all()?;
                Ok(Some(file))
            }
            other => other.map(|()| None),
        }
    }
}

impl Lock {
    /// The lock file, for content that can only be made under the lock.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Says whether a start after a crash would know it for ours.
    pub(super) fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|it| it.nlink() > 1)
    }

    /// The lock becomes the file that it locks. Its directory is the caller's to sync.
    pub(super) fn commit(mut self) -> io::Result<()> {
        rename(&self.lock, &self.target)?;
        self.held = false;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let given_back = match self.held {
            true => self.file.metadata().and_then(|it| release(&self.lock, &it)),
            false => Ok(true),
        };
        let given_back = given_back.and_then(|ours| match ours {
            true => Ok(()),
            false => Err(io::Error::other("it is not ours any more")),
        });
        // The note last: it says whose the lock is.
        if let Err(error) = given_back.and_then(|()| remove(&self.note)) {
            tracing::warn!(lock = %self.lock.display(), %error, "cannot remove a lock of ours; it goes before the next is taken");
        }
    }
}

/// Removes a lock on `target` that we hold no more and could not remove, and nobody else's. Only the
/// lane takes locks, one at a time for each file, so a note that is there is of an earlier try.
pub(super) fn let_go(git_dir: &Path, name: &str, target: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(git_dir.join(NOTES).join(name)) {
        Ok(it) => release(&lock_of(target), &it).map(drop),
        Err(it) if NOT_THERE.contains(&it.kind()) => Ok(()),
        Err(it) => Err(it),
    }
}

fn lock_of(target: &Path) -> PathBuf {
    let mut lock = target.as_os_str().to_owned();
    lock.push(".lock");
    PathBuf::from(lock)
}

/// Removes the locks that an earlier run of this agent left, and nobody else's. `dirs` are where
/// the locked files may lie: the git directory and, of a linked work tree, the shared one.
pub(super) fn sweep(git_dir: &Path, dirs: &[&Path]) -> io::Result<u32> {
    let notes = git_dir.join(NOTES);
    let mut swept = 0;
    let mut todo = vec![(notes.clone(), 0)];
    while let Some((dir, depth)) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(it) => it,
            Err(it) if it.kind() == io::ErrorKind::NotFound => continue,
            Err(it) => return Err(it),
        };
        for entry in entries {
            let path = entry?.path();
            let found = std::fs::symlink_metadata(&path)?;
            if found.is_dir() {
                if depth < DEPTH_MAX {
                    todo.push((path, depth + 1));
                }
                continue;
            }
            for dir in dirs {
                let Ok(name) = path.strip_prefix(&notes) else { continue };
                // A lock that stays keeps its note, or nobody would know any more whose it is.
                swept += u32::from(release(&lock_of(&dir.join(name)), &found)?);
            }
            remove(&path)?;
        }
    }
    Ok(swept)
}

/// Removes a lock if it is the file that `ours` describes; says whether it was.
fn release(lock: &Path, ours: &Metadata) -> io::Result<bool> {
    let found = match std::fs::symlink_metadata(lock) {
        Ok(it) => it,
        Err(it) if NOT_THERE.contains(&it.kind()) => return Ok(false),
        Err(it) => return Err(it),
    };
    let same = (ours.dev(), ours.ino()) == (found.dev(), found.ino());
    if same {
        remove(lock)?;
    }
    Ok(same)
}

#[expect(clippy::disallowed_methods, reason = "the caller has passed the step")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[expect(clippy::disallowed_methods, reason = "a lock or a note of ours")]
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(it),
        _ => Ok(()),
    }
}
