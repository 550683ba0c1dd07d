//! Opening the store, whatever a crash, a power cut or a stranger left of it.
//!
//! sled cannot be opened after a crash in the middle of a snapshot (`*.generating`), and may panic
//! on a damaged tail or open *empty without an error* after a power cut. So leftovers go first, the
//! opening is fenced, and the number of the last write (the generation) is compared with a file
//! beside the store that says which one was acknowledged. A store that is behind it, or that cannot
//! be read to its end, is put aside, and the caller makes the records again from git.

use super::census::Census;
use super::migrate::{self, FORMAT_KEY};
use super::write::DIGEST;
use super::{Error, Store, news, seal, slack};
use crate::fence;
use crate::step::{Mistake, Steps};
use crate::whole;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The format this version writes.
pub const FORMAT: u32 = 4;

pub(super) const META: &str = "meta";
pub(super) const GENERATION: &str = "generation";
/// The file beside the store with the generation that was acknowledged.
pub(super) const WITNESS: &str = "generation";
/// A store of so many records is opened anew when it was checked.
const LARGE_RECORDS: u64 = if cfg!(test) { 1_000 } else { 10_000 };
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// The store of last time.
    Kept,
    /// There was none.
    New,
    /// An older version wrote it, and it was brought up to this one's format.
    Migrated {
        /// The format it had.
        from: u32,
        /// Where it lies as it was.
        aside: PathBuf,
    },
    /// What was there could not be trusted and lies aside.
    Replaced {
        /// Where it lies now.
        aside: PathBuf,
        /// What was wrong.
        why: String,
    },
}

impl Store {
    /// Opens the store in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// When another process has it open, when a newer version wrote it, or when the disk refuses.
    pub fn open(dir: &Path, steps: Steps) -> Result<(Store, Freshness), Error> {
        let failed = |source| Error::Open { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        migrate::remove_half(dir).map_err(failed)?;
        whole::sweep(dir).map_err(failed)?;
        let path = dir.join("db");
        let existed = path.join("db").exists();
        match checked_open(&path, dir, existed, &steps) {
            Ok(store) => {
                let freshness = match store.format() {
                    Some(from) if from < FORMAT => {
                        let aside = store.migrate(dir, from)?;
                        Freshness::Migrated { from, aside }
                    }
                    _ if existed => Freshness::Kept,
                    _ => Freshness::New,
                };
                store.stamp(dir)?;
                Ok((store, freshness))
            }
            Err(Trouble::Refused(error)) => Err(error),
            Err(Trouble::Broken(why)) => {
                let aside = put_aside(dir, &path).map_err(failed)?;
                let store = patient_open(&path, &steps, None).map_err(|it| match it {
                    Trouble::Refused(error) => error,
                    Trouble::Broken(why) => failed(io::Error::other(why)),
                })?;
                store.stamp(dir)?;
                Ok((store, Freshness::Replaced { aside, why }))
            }
        }
    }

    /// The store over an open database; `counted` is what an earlier look at it counted.
    fn over(
        db: sled::Db,
        file: File,
        blobs: PathBuf,
        steps: Steps,
        counted: Option<Census>,
    ) -> sled::Result<Store> {
        let operations = db.open_tree("operations")?;
        let meta = db.open_tree(META)?;
        let places = db.open_tree("places")?;
        let census = match counted {
            Some(it) => it,
            None => Census::of(&places)?,
        };
        let opened_at = number(&meta, GENERATION).unwrap_or(0);
        Ok(Store {
            witness: Mutex::default(),
            generation: AtomicU64::new(opened_at),
            opened_at,
            owed: db.open_tree("owed")?,
            operations_len: AtomicUsize::new(operations.len()),
            stuck: AtomicBool::new(false),
            #[cfg(test)]
            unguarded: AtomicBool::new(false),
            meta,
            records: db.open_tree("records")?,
            census: Mutex::new(census),
            places,
            sources: db.open_tree("sources")?,
            operations,
            open: db.open_tree("open")?,
            rejects: db.open_tree("rejects")?,
            conflicts: db.open_tree("conflicts")?,
            synced: db.open_tree("synced")?,
            orphans: db.open_tree("orphans")?,
            strays: db.open_tree("strays")?,
            ear: news::Ear::default(),
            stands: db.open_tree("stands")?,
            plans: db.open_tree("plans")?,
            last: seal::Last::of(&db),
            db,
            file,
            blobs,
            steps,
        })
    }

    /// What is to be sealed when this store is closed, where that is worth it: a small one is read to
    /// its end in less time.
    pub(super) fn closing(&self) -> Option<seal::Closing> {
        let db = self.blobs.parent()?.to_owned();
        let dir = db.parent()?.to_owned();
        let census = self.census().clone();
        let sealed = self.witness.lock().is_ok_and(|it| it.file.is_some());
        let large = census.total() >= LARGE_RECORDS;
        let (generation, digest) = (self.generation.load(Ordering::SeqCst), self.digest_held()?);
        let closing = || seal::Closing { dir, db, generation, digest, census };
        (sealed && large).then(closing)
    }

    fn is_sealed_as(&self, seal: &seal::Seal) -> bool {
        self.generation.load(Ordering::SeqCst) == seal.generation
            && self.digest_held().as_ref() == Some(&seal.digest)
    }

    /// The digest that the last write left.
    fn digest_held(&self) -> Option<String> {
        let held = self.meta.get(DIGEST).ok()??;
        String::from_utf8(held.to_vec()).ok()
    }

    /// Writes the format, and begins to note beside the store what is acknowledged.
    fn stamp(&self, dir: &Path) -> Result<(), Error> {
        let failed = |source| Error::Open { path: dir.to_owned(), source };
        self.meta.insert(FORMAT_KEY, FORMAT.to_string().as_bytes()).map_err(super::write)?;
        self.write(super::Batch::default())?;
        self.sync()?;
        // The file beside the store comes second: it never promises what the store may have lost.
        let generation = self.generation.load(Ordering::SeqCst);
        let text = witness_text(generation);
        let file = whole::replace(&dir.join(WITNESS), |it| it.write_all(text.as_bytes()));
        self.witness.lock().unwrap_or_else(|it| it.into_inner()).file = Some(file.map_err(failed)?);
        Ok(())
    }
}

/// A generation as the witness holds it: always as long, so that it is overwritten in place.
pub(super) fn witness_text(generation: u64) -> String {
    format!("{generation:020}\n")
}

enum Trouble {
    /// It must not be touched.
    Refused(Error),
    /// It can be put aside.
    Broken(String),
}

/// Opens a store and says what is wrong with it. A large one is opened once more, because sled lets go of
/// what was read to check it only when as much was read again.
///
/// One that was closed in good order, and that nobody has touched since, is not read.
fn checked_open(path: &Path, dir: &Path, existed: bool, steps: &Steps) -> Result<Store, Trouble> {
    let refused = |source| Trouble::Refused(Error::Open { path: dir.to_owned(), source });
    if let Some(seal) = seal::broken(dir, path).map_err(refused)? {
        let store = patient_open(path, steps, Some(seal.census()))?;
        // Another process may have had it in between.
        if store.is_sealed_as(&seal) {
            check_end(&store, dir, existed)?;
            return Ok(store);
        }
    }
    let store = patient_open(path, steps, None)?;
    check_end(&store, dir, existed)?;
    check_whole(&store)?;
    if store.census().total() < LARGE_RECORDS {
        return Ok(store);
    }
    let counted = store.census().clone();
    drop(store);
    patient_open(path, steps, Some(counted))
}

/// sled's own threads may hold its lock for a moment after a store was closed, so a lock is asked for
/// again a few times before it counts as another process'.
fn patient_open(path: &Path, steps: &Steps, counted: Option<Census>) -> Result<Store, Trouble> {
    for _ in 0..LOCK_TRIES {
        match try_open(path, steps, counted.clone()) {
            Err(Trouble::Refused(Error::InUse { .. })) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    try_open(path, steps, counted)
}

fn try_open(path: &Path, steps: &Steps, counted: Option<Census>) -> Result<Store, Trouble> {
    let refused = |source| Trouble::Refused(Error::Open { path: path.to_owned(), source });
    if !Mistake::KeepGenerating.is_made() {
        sweep(path, |name| name.ends_with(".generating")).map_err(refused)?;
    }
    let config = sled::Config::new().path(path).flush_every_ms(None).cache_capacity(16 << 20);
    // sled may panic on what a power cut left.
    let db = match fence::around(|| slack::with_late_clocks(|| config.open())) {
        Some(Ok(db)) => db,
        Some(Err(sled::Error::Io(it))) if is_lock(&it) => {
            return Err(Trouble::Refused(Error::InUse { path: path.to_owned() }));
        }
        Some(Err(sled::Error::Io(it))) if is_of_the_disk(&it) => return Err(refused(it)),
        Some(Err(it)) => return Err(Trouble::Broken(it.to_string())),
        None => return Err(Trouble::Broken("sled panicked while opening it".to_owned())),
    };
    let file = File::options().read(true).write(true).open(path.join("db")).map_err(refused)?;
    let blobs = path.join("blobs");
    Store::over(db, file, blobs, steps.clone(), counted)
        .map_err(|it| Trouble::Broken(it.to_string()))
}

/// Says whether a store is one that this version can write, and ends where it was acknowledged to.
fn check_end(store: &Store, dir: &Path, existed: bool) -> Result<(), Trouble> {
    let meta = &store.meta;
    if let Some(found) = store.format().filter(|it| *it > FORMAT) {
        return Err(Trouble::Refused(Error::Newer { path: dir.to_owned(), found }));
    }
    let beside = match fs::read_to_string(dir.join(WITNESS)) {
        Ok(text) => Some(text.trim().parse::<u64>().unwrap_or(u64::MAX)),
        Err(it) if it.kind() == io::ErrorKind::NotFound => None,
        Err(it) if it.kind() == io::ErrorKind::InvalidData => Some(u64::MAX),
        Err(source) => return Err(Trouble::Refused(Error::Open { path: dir.to_owned(), source })),
    };
    let within = number(meta, GENERATION);
    let sound = match (within, beside) {
        // The store may be ahead: what is beside it is written later and not synced each time.
        (Some(within), Some(beside)) => within >= beside,
        // The first start was cut off between the two, or before either.
        (None | Some(1), None) => true,
        (Some(_), None) => !existed,
        (None, Some(_)) => false,
    };
    if !sound {
        return Err(Trouble::Broken(format!(
            "it ends with write {within:?}, though write {beside:?} was acknowledged"
        )));
    }
    Ok(())
}

/// Damaged pages may make sled panic on the first touch; all of them are touched here.
fn check_whole(store: &Store) -> Result<(), Trouble> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.is_whole())) {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Trouble::Broken("its content is not what was written".to_owned())),
        Ok(Err(it)) => Err(Trouble::Broken(it.to_string())),
        Err(_) => Err(Trouble::Broken("sled panicked while reading it".to_owned())),
    }
}

pub(super) fn number(meta: &sled::Tree, key: &str) -> Option<u64> {
    parsed(&meta.get(key).ok()??)
}

pub(super) fn parsed<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Removes what a crash left half written: sled refuses to start beside a snapshot of that kind.
#[expect(clippy::disallowed_methods, reason = "leftovers of nobody else, before any step of ours")]
fn sweep(path: &Path, is_left: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(it) => it,
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(it) => return Err(it),
    };
    for entry in entries {
        let entry = entry?;
        if is_left(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Moves a broken store out of the way, and drops the number that it no longer has to match.
#[expect(clippy::disallowed_methods, reason = "no operation can be open while there is no store")]
fn put_aside(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    for n in 1..1000 {
        let aside = dir.join(format!("broken-{n}"));
        if aside.exists() {
            continue;
        }
        if path.exists() {
            sweep(path, |name| name.ends_with(".generating"))?;
            fs::rename(path, &aside)?;
        }
        match fs::remove_file(dir.join(WITNESS)) {
            Err(it) if it.kind() != io::ErrorKind::NotFound => return Err(it),
            _ => return Ok(aside),
        }
    }
    Err(io::Error::other("a thousand broken stores lie here; remove the directories broken-*"))
}

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Trouble that another store would meet as well.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    // Too many files are open, here or in the whole system.
    let crowded = [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .iter()
        .any(|it| error.raw_os_error() == Some(it.raw_os_error()));
    crowded
        || matches!(
            error.kind(),
            PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
        )
}
