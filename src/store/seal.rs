//! A large store that was closed in good order is opened without being read to its end.
//!
//! Whoever closes it writes beside it what its files are (their inodes, lengths and times), once all of
//! them are on the disk. That is the seal. Whoever opens it breaks the seal first, so that it speaks
//! of nothing but a store that nobody has touched: a killed agent, a power cut or a stranger's hand
//! leaves none, or one that does not fit, and everything is read as ever. What sits on the disk and
//! rots without a change of its times is found when it is read, since sled's pages have checksums; a
//! store in which something could not be read is not sealed.

use super::census::Census;
use crate::fence;
use crate::whole;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The file beside the store.
const SEAL: &str = "closed";
/// sled's threads may be at the file for a moment after it was closed.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// Something in a store of this process could not be read.
static DOUBTED: AtomicBool = AtomicBool::new(false);

/// No store of this process is sealed any more.
pub(super) fn doubt() {
    DOUBTED.store(true, Ordering::SeqCst);
}

/// What a store was when it was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// The number of its last write.
    pub generation: u64,
    /// The digest of all it holds.
    pub digest: String,
    /// How many records it has, and where: the first place of each stretch, and its length.
    stretches: Vec<(String, u64)>,
    files: Vec<Stat>,
}

impl Seal {
    /// How many records the store has, and where.
    pub fn census(&self) -> Census {
        let stretches = self.stretches.iter();
        Census::of_stretches(stretches.map(|(first, count)| (first.as_bytes(), *count)))
    }
}

/// What the file system says of a file: whoever writes to it changes one of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Stat {
    name: PathBuf,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A store that is being closed: where it lies, and what it holds.
#[derive(Debug)]
pub(super) struct Closing {
    /// The directory of the store and of what lies beside it.
    pub dir: PathBuf,
    /// sled's own directory in it.
    pub db: PathBuf,
    /// The number of its last write.
    pub generation: u64,
    /// The digest of all it holds.
    pub digest: String,
    /// How many records it has, and where.
    pub census: Census,
}

impl Closing {
    /// Seals a store that sled has let go of.
    pub fn seal(self) -> io::Result<()> {
        if DOUBTED.load(Ordering::SeqCst) || std::thread::panicking() {
            return Ok(());
        }
        let file = File::open(self.db.join("db"))?;
        let Some(_held) = held(&file) else { return Ok(()) };
        for it in files_of(&self.db)? {
            File::open(it)?.sync_all()?;
        }
        File::open(&self.db)?.sync_all()?;
        let Closing { dir, db, generation, digest, census } = self;
        let stretches = census.stretches().map(|(first, count)| {
            let first = std::str::from_utf8(first).map_err(io::Error::other)?;
            Ok((first.to_owned(), count))
        });
        let stretches = stretches.collect::<io::Result<_>>()?;
        let seal = Seal { generation, digest, stretches, files: stats_of(&db)? };
        let text = serde_json::to_string(&seal)?;
        let sum = xxh3_64(text.as_bytes());
        whole::replace(&dir.join(SEAL), |it| writeln!(it, "{sum:016x} {text}"))?;
        Ok(())
    }
}

/// The handle with which sled closes its file. It panics where the disk does not take the end of it,
/// which ends nothing: what was acknowledged is on the disk, and the rest was told as an error.
#[derive(Debug)]
pub(super) struct Last {
    db: Option<sled::Db>,
    /// What is sealed when it is closed.
    pub closing: Option<Closing>,
}

impl Last {
    pub fn of(db: &sled::Db) -> Last {
        Last { db: Some(db.clone()), closing: None }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = fence::around(|| drop(db));
        if let (Some(()), Some(closing)) = (closed, self.closing.take())
            && let Err(error) = closing.seal()
        {
            tracing::debug!(%error, "cannot seal the store; it is read to its end at the next start");
        }
    }
}

/// The lock that sled has on an open database, as soon as it is free.
fn held(file: &File) -> Option<&File> {
    for _ in 0..TRIES {
        if rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(file);
        }
        std::thread::sleep(PAUSE);
    }
    None
}

/// Breaks the seal beside a store, if there is one, and gives it back if it fits: then the store's files
/// are what they were when they were closed.
///
/// # Errors
/// Where it cannot be removed: it would vouch for what is written from now on.
#[expect(clippy::disallowed_methods, reason = "before any step of ours")]
pub(super) fn broken(dir: &Path, db: &Path) -> io::Result<Option<Seal>> {
    let path = dir.join(SEAL);
    let text = match fs::read_to_string(&path) {
        Ok(it) => Some(it),
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(it) if it.kind() == io::ErrorKind::InvalidData => None,
        Err(it) => return Err(it),
    };
    match fs::remove_file(&path) {
        // Somebody else was first, and has the store open.
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    File::open(dir)?.sync_all()?;
    let seal = text.as_deref().and_then(read).filter(|it| {
        let now = stats_of(db);
        now.is_ok_and(|now| now == it.files)
    });
    Ok(seal)
}

fn read(text: &str) -> Option<Seal> {
    let (sum, rest) = text.trim_end().split_once(' ')?;
    let same = u64::from_str_radix(sum, 16).is_ok_and(|it| it == xxh3_64(rest.as_bytes()));
    same.then(|| serde_json::from_str(rest).ok()).flatten()
}

/// The files of sled's directory: the database, its settings and snapshot, and large values.
fn files_of(db: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in [db.to_owned(), db.join("blobs")] {
        let entries = match fs::read_dir(&dir) {
            Err(it) if it.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn stats_of(db: &Path) -> io::Result<Vec<Stat>> {
    let stat = |path: PathBuf| {
        let it = fs::symlink_metadata(&path)?;
        Ok(Stat {
            name: path.strip_prefix(db).unwrap_or(&path).to_owned(),
            inode: it.ino(),
            len: it.len(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    };
    let mut stats: Vec<Stat> = files_of(db)?.into_iter().map(stat).collect::<io::Result<_>>()?;
    stats.sort();
    Ok(stats)
}
