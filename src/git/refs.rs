//! Refs move under git's own locks, from the value that was seen, and are on the disk before anybody
//! is told.
//!
//! gix gives a ref its new content by renaming a file that it did not sync, which a power cut turns
//! into an empty ref. Here the content is synced before the lock is taken, the directory after the
//! renaming. A branch moves under the lock of HEAD as well, so that nobody switches away meanwhile.
//!
//! A sync that failed is never tried again and believed: the kernel may have dropped what it could
//! not write. Such a ref is *in doubt* and written anew, with another file, before anything relies
//! on it ([`Repo::make_durable`]).

use super::locks::{Lock, Note, Taken};
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::CommitId;
use crate::step::Step;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One ref and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Move<'a> {
    /// Its full name.
    pub(super) name: &'a str,
    /// Where it must be; none is: it must not exist.
    pub(super) from: Option<CommitId>,
    /// Where it goes.
    pub(super) to: CommitId,
    /// What the reflog says.
    pub(super) why: &'a str,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moved {
    /// All of them are there, on the disk.
    There,
    /// One is not where it was seen, or HEAD has left the branch.
    Elsewhere,
    /// Somebody else holds this lock.
    Locked(PathBuf),
}

impl Repo {
    /// Moves refs, in this order, all or none but for a crash between two; `branch` is the one that
    /// HEAD must be on.
    pub(super) fn move_refs(
        &self,
        moves: &[Move<'_>],
        branch: Option<&str>,
        author: &Author,
        time: jiff::Timestamp,
    ) -> Result<Moved, Error> {
        let failed = |it: io::Error| Error::io("move the branch", it);
        self.steps.pass(Step::MoveRef).map_err(failed)?;
        let mut notes = Vec::with_capacity(moves.len());
        for it in moves {
            check_name(it.name)?;
            self.steps.pass(Step::Sync).map_err(failed)?;
            let (target, text) = (self.gix.common_dir().join(it.name), format!("{}\n", it.to.0));
            let note = Note::write(self.git_dir(), it.name, target, text.as_bytes());
            notes.push(note.map_err(failed)?);
        }
        // HEAD first, as git does.
        let mut head = None;
        if let Some(branch) = branch {
            let target = self.git_dir().join("HEAD");
            let note = Note::write(self.git_dir(), "HEAD", target, b"").map_err(failed)?;
            match note.lock().map_err(failed)? {
                Taken::Ours(lock) => head = Some(lock),
                Taken::Theirs(path) => return Ok(Moved::Locked(path)),
            }
            if self.head()?.branch.as_deref() != Some(branch) {
                return Ok(Moved::Elsewhere);
            }
        }
        let mut locks = Vec::with_capacity(moves.len());
        for note in notes {
            match note.lock().map_err(failed)? {
                Taken::Ours(lock) => locks.push(lock),
                Taken::Theirs(path) => return Ok(Moved::Locked(path)),
            }
        }
        for it in moves {
            if self.tip(it.name)? != it.from {
                return Ok(Moved::Elsewhere);
            }
        }
        for (it, lock) in moves.iter().zip(locks) {
            self.put_ref(it, lock, branch == Some(it.name), author, time).map_err(failed)?;
        }
        drop(head);
        Ok(Moved::There)
    }

    /// Removes a ref; nothing happens where there is none.
    ///
    /// From the packed refs first, as git does, so that what lies there does not come back when the
    /// loose one goes; under locks of our own, so that the next start can tell whose they are.
    pub(super) fn remove_ref(&self, name: &str) -> Result<Moved, Error> {
        let failed = |it: io::Error| Error::io(format!("remove {name}"), it);
        check_name(name)?;
        if self.tip(name)?.is_none() {
            return Ok(Moved::There);
        }
        self.steps.pass(Step::MoveRef).map_err(failed)?;
        let path = self.gix.common_dir().join(name);
        let note = Note::write(self.git_dir(), name, path.clone(), b"").map_err(failed)?;
        let lock = match note.lock().map_err(failed)? {
            Taken::Ours(lock) => lock,
            Taken::Theirs(lock) => return Ok(Moved::Locked(lock)),
        };
        if let Some(lock) = self.unpack_ref(name).map_err(failed)? {
            return Ok(Moved::Locked(lock));
        }
        self.steps.pass(Step::Remove).map_err(failed)?;
        super::heal::remove(&path).map_err(failed)?;
        super::heal::remove(&self.gix.common_dir().join("logs").join(name)).map_err(failed)?;
        drop(lock);
        self.steps.pass(Step::Sync).map_err(failed)?;
        sync_up(&path).map_err(failed)?;
        self.doubts.borrow_mut().remove(name);
        Ok(Moved::There)
    }

    /// Takes a ref out of the packed ones; gives the lock of somebody else's that keeps us from it.
    fn unpack_ref(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let packed = self.gix.common_dir().join("packed-refs");
        let note = Note::write(self.git_dir(), "packed-refs", packed.clone(), b"")?;
        let mut lock = match note.lock()? {
            Taken::Ours(lock) => lock,
            Taken::Theirs(lock) => return Ok(Some(lock)),
        };
        let text = match std::fs::read(&packed) {
            Ok(it) => it,
            Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(it) => return Err(it),
        };
        if let Some(rest) = without(&text, name) {
            self.steps.pass(Step::WriteFile)?;
            lock.file().write_all(&rest)?;
            lock.file().sync_all()?;
            self.steps.pass(Step::Rename)?;
            lock.commit()?;
            self.steps.pass(Step::Sync)?;
            File::open(self.gix.common_dir())?.sync_all()?;
        }
        Ok(None)
    }

    fn put_ref(
        &self,
        it: &Move<'_>,
        lock: Lock,
        on_head: bool,
        author: &Author,
        time: jiff::Timestamp,
    ) -> io::Result<()> {
        self.steps.pass(Step::Rename)?;
        let path = self.gix.common_dir().join(it.name);
        // Directories that were made for it are new in those above them.
        lock.commit()?;
        self.doubts.borrow_mut().insert(it.name.to_owned());
        self.reflog(it, on_head, author, time);
        self.steps.pass(Step::Sync)?;
        sync_up(&path)?;
        self.doubts.borrow_mut().remove(it.name);
        Ok(())
    }

    /// Writes the ref's history, for people. Nothing relies on it, so trouble is told and no more.
    fn reflog(&self, it: &Move<'_>, on_head: bool, author: &Author, time: jiff::Timestamp) {
        let zero = gix::ObjectId::null(self.gix.object_hash());
        let plain = |text: &str| text.replace(['\n', '<', '>'], " ");
        let line = format!(
            "{} {} {} <{}> {} +0000\t{}\n",
            it.from.map_or(zero, |it| it.0),
            it.to.0,
            plain(&author.name),
            plain(&author.email),
            time.as_second(),
            it.why.replace('\n', " "),
        );
        let wanted = self.gix.config_snapshot().boolean("core.logAllRefUpdates").unwrap_or(true);
        let kept = ["refs/heads/", "refs/remotes/"].iter().any(|dir| it.name.starts_with(dir));
        let own = self.gix.common_dir().join("logs").join(it.name);
        let mut done = append(&own, &line, wanted && kept);
        if on_head {
            let head = append(&self.git_dir().join("logs/HEAD"), &line, wanted);
            done = done.and(head);
        }
        if let Err(error) = done {
            tracing::warn!(%error, "cannot write the reflog of {}", it.name);
        }
    }
}

/// Packed refs less one of them, and less the line that says what its tag leads to; none where it
/// is not among them.
fn without(packed: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut rest = Vec::with_capacity(packed.len());
    let (mut found, mut inside) = (false, false);
    for line in packed.split_inclusive(|it| *it == b'\n') {
        inside = match line.first() {
            Some(b'^') => inside,
            Some(b'#') | None => false,
            Some(_) => {
                let named = line.splitn(2, |it| *it == b' ').nth(1);
                named.is_some_and(|it| it.trim_ascii_end() == name.as_bytes())
            }
        };
        found |= inside;
        if !inside {
            rest.extend_from_slice(line);
        }
    }
    found.then_some(rest)
}

/// Names come from git itself; one that could lead elsewhere is refused all the same.
fn check_name(name: &str) -> Result<(), Error> {
    let checked: Result<&gix::refs::FullNameRef, _> = name.try_into();
    match checked {
        Ok(_) if name.starts_with("refs/") => Ok(()),
        Ok(_) => Err(Error::git(format!("use the ref {name}"), "it is not below refs/")),
        Err(it) => Err(Error::git(format!("use the ref {name}"), it)),
    }
}

/// Forces a file's directory to the disk, and those above it up to `refs`, which may be new.
pub(super) fn sync_up(path: &Path) -> io::Result<()> {
    for dir in path.ancestors().skip(1) {
        File::open(dir)?.sync_all()?;
        if dir.ends_with("refs/heads") || dir.ends_with("refs") {
            break;
        }
    }
    Ok(())
}

fn append(path: &Path, line: &str, make: bool) -> io::Result<()> {
    if make && let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match File::options().append(true).create(make).open(path) {
        Ok(mut file) => file.write_all(line.as_bytes()),
        Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(it) => Err(it),
    }
}
