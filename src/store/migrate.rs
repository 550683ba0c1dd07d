//! A store of an older version becomes one of this version, format by format.
//!
//! Before the first change the older store lies beside the new one, whole and on the disk
//! (`before-format-N`), so that an older version of the agent can be gone back to.
//! Cut off anywhere, the next start begins again: a format is written in the transaction that
//! reaches it, and not before what it promises.
//! New fields of what is stored need no format: they have defaults where they are read.

use super::write::DIGEST;
use super::{Error, FORMAT, Store, open};
use crate::step::Step;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// The entry of `meta` with the format.
pub(super) const FORMAT_KEY: &str = "format";
/// A copy of the older store that is not whole yet.
const HALF: &str = ".tmp-older";
/// The first format that has a digest of all that the store holds.
pub(super) const WITH_DIGEST: u32 = 2;

impl Store {
    /// The format that wrote the store; none where nothing was written yet.
    pub(super) fn format(&self) -> Option<u32> {
        let found = open::number(&self.meta, FORMAT_KEY)?;
        Some(u32::try_from(found).unwrap_or(u32::MAX))
    }

    /// Brings a store of format `from` up to this version's; says where the older one lies.
    pub(super) fn migrate(&self, dir: &Path, from: u32) -> Result<PathBuf, Error> {
        let aside = self.keep_older(dir, from)?;
        for format in from..FORMAT {
            match format {
                0 | 1 => self.add_digest()?,
                // 2 to 3: where an operation stands is kept beside its plan, and read from the plan
                // where that is all there is.
                2 => (),
                // 3 to 4: a long plan is kept in parts, and read as one where it is one.
                3 => (),
                it => unreachable!("no format {it} is older than {FORMAT}"),
            }
        }
        Ok(aside)
    }

    /// Copies the database beside itself.
    fn keep_older(&self, dir: &Path, from: u32) -> Result<PathBuf, Error> {
        let failed = |source| Error::Open { path: dir.to_owned(), source };
        let aside = dir.join(format!("before-format-{}", from + 1));
        if aside.exists() {
            // An earlier start got so far.
            return Ok(aside);
        }
        // What sled did when it opened is in the copy.
        super::write::flush(&self.db).map_err(|it| failed(io::Error::other(it)))?;
        self.steps.pass(Step::WriteFile).map_err(failed)?;
        let half = dir.join(HALF);
        fs::create_dir(&half).map_err(failed)?;
        for name in ["db", open::WITNESS] {
            copy(&dir.join(name), &half.join(name)).map_err(failed)?;
        }
        self.steps.pass(Step::Rename).map_err(failed)?;
        rename(&half, &aside).map_err(failed)?;
        self.steps.pass(Step::Sync).map_err(failed)?;
        File::open(dir).and_then(|it| it.sync_all()).map_err(failed)?;
        Ok(aside)
    }

    /// 1 to 2: the store tells by itself whether it holds what was written.
    fn add_digest(&self) -> Result<(), Error> {
        self.check_room()?;
        self.steps.pass(Step::Settle).map_err(Error::Write)?;
        let digest = self.digest().map_err(super::read)?;
        let done = self.meta.transaction(|meta| {
            let generation = super::write::number(meta, open::GENERATION)? + 1;
            meta.insert(open::GENERATION, generation.to_string().as_bytes())?;
            meta.insert(DIGEST, digest.to_string().as_bytes())?;
            meta.insert(FORMAT_KEY, WITH_DIGEST.to_string().as_bytes())?;
            Ok(u64::try_from(generation).unwrap_or(u64::MAX))
        });
        let generation = done.map_err(|it| self.aborted(it))?;
        self.generation.fetch_max(generation, Ordering::SeqCst);
        self.steps.pass(Step::Sync).map_err(Error::Write)?;
        self.sync()
    }
}

/// Copies a file or a directory, if it is there, and forces it to the disk.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(from) {
        Ok(it) if it.is_dir() => {
            fs::create_dir(to)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                copy(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        Ok(_) => fs::copy(from, to).map(drop)?,
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(it) => return Err(it),
    }
    File::open(to)?.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "the caller has passed the step")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a copy that was cut off.
pub(super) fn remove_half(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir.join(HALF)) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(it),
        _ => Ok(()),
    }
}
