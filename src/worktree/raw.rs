//! Reading a drop, and taking it away once it is safe elsewhere.

use super::lease::{self, Leased};
use super::temp::Temp;
use super::{Error, TEMP_PREFIX, WorkTree, beneath, list, mounts, rename_new};
use crate::model::digest::Sha256;
use crate::model::document::Intake;
use crate::model::path::{RawPath, RepoPath};
use crate::pipeline::discovery::Fingerprint;
use crate::step::{Mistake, Step};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};

/// How many drops of one name may lie beside each other after crashes.
const RECOVERED_MAX: u32 = 1000;

/// How many drops on their way out are remembered for the watcher; forgetting one costs a look.
const OWN_MOVES_MAX: usize = 100_000;

/// The drops that this process takes away itself, so that its watcher passes over what the kernel
/// tells of that. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct OwnMoves(Arc<Mutex<HashSet<Vec<u8>>>>);

impl OwnMoves {
    fn tell(&self, path: &[u8]) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= OWN_MOVES_MAX {
            // Nobody is listening, or events were lost.
            told.clear();
        }
        told.insert(path.to_vec());
    }

    /// Says whether the file at `path`, relative to the top, was taken away by us; once.
    pub(super) fn was_told(&self, path: &[u8]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path)
    }

    /// Forgets what it was told, because what the kernel had to say of it is lost.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What reading a drop gave.
#[derive(Debug)]
pub enum ReadRaw {
    /// Its bytes, whole.
    Read {
        /// The file as it was.
        intake: Intake,
        /// The kernel vouched that nobody was writing.
        leased: bool,
    },
    /// Somebody has it open for writing.
    Busy,
    /// It is not there any more.
    Gone,
    /// It changed while it was read.
    Changed,
    /// It is larger than allowed; nothing was read.
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A symbolic link, a pipe, a device or a directory.
    NotRegular,
    /// A hard link to a file that nobody but our own user may read: whoever made it may mean to have
    /// us read it out.
    Private,
    /// We may not read it.
    Denied,
}

/// What taking a drop away gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// Another file has its place meanwhile: a new drop, which stays.
    Replaced,
    /// Somebody else removed it.
    Gone,
}

impl WorkTree {
    /// Reads one drop, as long as it is still what `expected` says.
    ///
    /// The file is opened without following links and without blocking; a read lease tells whether
    /// a writer holds it, and where there are no leases its fingerprint is compared, before with
    /// what was found ready and afterwards with what was opened.
    pub fn read_raw(
        &self,
        raw: &RepoPath,
        path: &RawPath,
        expected: &Fingerprint,
        bytes_max: u64,
    ) -> Result<ReadRaw, Error> {
        let full = path.in_repository(raw);
        let failed = |it: std::io::Error| Error::file("read", &full, it);
        if Mistake::LookThenOpen.is_made() {
            let place = self.path.join(std::ffi::OsStr::from_bytes(&full));
            if std::fs::symlink_metadata(&place).is_ok_and(|it| it.is_file()) {
                let bytes = std::fs::read(&place).map_err(failed)?;
                let intake = Intake::new(path.clone(), bytes);
                return Ok(ReadRaw::Read { intake, leased: false });
            }
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let file = match self.beneath(&full, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(ReadRaw::Gone),
            Err(Errno::LOOP | Errno::NXIO | Errno::XDEV) => return Ok(ReadRaw::NotRegular),
            Err(Errno::ACCESS | Errno::PERM) => return Ok(ReadRaw::Denied),
            Err(it) => return Err(failed(it.into())),
        };
        let stat = || rustix::fs::fstat(&file).map_err(|it| failed(it.into()));
        let before = stat()?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(ReadRaw::NotRegular);
        }
        let own = before.st_uid == rustix::process::geteuid().as_raw();
        if own && before.st_nlink > 1 && before.st_mode & 0o044 == 0 {
            return Ok(ReadRaw::Private);
        }
        let bytes = list::fingerprint(&before).bytes;
        if bytes > bytes_max {
            return Ok(ReadRaw::TooLarge { bytes, max: bytes_max });
        }
        let leased = match lease::take(&file) {
            Leased::Busy if mounts::leases_count(&file) => return Ok(ReadRaw::Busy),
            Leased::Yes => true,
            Leased::Busy | Leased::Unknown => false,
        };
        // The metadata again: a writer may have finished between opening and the lease.
        let before = list::fingerprint(&stat()?);
        if !leased && before != *expected {
            // Without a lease only time tells, and this one has changed since it stood still.
            return Ok(ReadRaw::Changed);
        }
        let mut bytes =
            Vec::with_capacity(usize::try_from(before.bytes.min(bytes_max)).unwrap_or(0));
        let read = (&file).take(bytes_max + 1).read_to_end(&mut bytes);
        let undisturbed = !leased || lease::release(&file);
        read.map_err(failed)?;
        let after = list::fingerprint(&stat()?);
        if bytes.len() as u64 > bytes_max {
            return Ok(ReadRaw::TooLarge { bytes: after.bytes, max: bytes_max });
        }
        if !undisturbed || before != after || bytes.len() as u64 != after.bytes {
            return Ok(ReadRaw::Changed);
        }
        Ok(ReadRaw::Read { intake: Intake::new(path.clone(), bytes), leased })
    }

    /// Takes a drop away, if its bytes still are those of `drop_id`.
    ///
    /// It is claimed first, by renaming it to a hidden name: what somebody puts in its place
    /// meanwhile is another drop and stays.
    pub fn remove_raw(
        &self,
        raw: &RepoPath,
        path: &RawPath,
        drop_id: &Sha256,
        bytes_max: u64,
    ) -> Result<Removal, Error> {
        let full = path.in_repository(raw);
        let failed = |it: std::io::Error| Error::file("remove", &full, it);
        let Some((dir, name)) = self.parent_of(&full).map_err(|it| failed(it.into()))? else {
            return Ok(Removal::Gone);
        };
        let claim = Claim::new(&dir, &name, path, drop_id, bytes_max);
        self.own.tell(&full);
        self.leave_raw(&claim, None).map_err(failed)
    }

    /// Puts `rest` in the place of a drop, if its bytes still are those of `drop_id`.
    ///
    /// The rest is on the disk before the drop is claimed, and has its name before the claim goes: a
    /// crash leaves the whole, or both, which [`WorkTree::finish_replacing`] tells apart.
    pub fn replace_raw(
        &self,
        raw: &RepoPath,
        path: &RawPath,
        drop_id: &Sha256,
        rest: &[u8],
        bytes_max: u64,
    ) -> Result<Removal, Error> {
        let full = path.in_repository(raw);
        let failed = |it: std::io::Error| Error::file("replace", &full, it);
        let Some((dir, name)) = self.parent_of(&full).map_err(|it| failed(it.into()))? else {
            return Ok(Removal::Gone);
        };
        let claim = Claim::new(&dir, &name, path, drop_id, bytes_max);
        let mut temp = self.temp_in(&dir).map_err(failed)?;
        temp.file().write_all(rest).map_err(failed)?;
        if let Ok(found) = rustix::fs::statat(&dir, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            // Whoever may mend the drop may mend what is left of it.
            let mode = std::fs::Permissions::from_mode(found.st_mode & 0o777);
            temp.file().set_permissions(mode).map_err(failed)?;
        }
        self.steps.pass(Step::Sync).map_err(failed)?;
        temp.file().sync_all().map_err(failed)?;
        self.leave_raw(&claim, Some((temp, Sha256::of_drop(path.as_bytes(), rest)))).map_err(failed)
    }

    /// Takes away what a crash left of a drop whose rest has its place already.
    pub fn finish_replacing(
        &self,
        raw: &RepoPath,
        path: &RawPath,
        drop_id: &Sha256,
        rest: &Sha256,
        bytes_max: u64,
    ) -> Result<(), Error> {
        let full = path.in_repository(raw);
        let failed = |it: std::io::Error| Error::file("read", &full, it);
        let Some((dir, name)) = self.parent_of(&full).map_err(|it| failed(it.into()))? else {
            return Ok(());
        };
        let claim = Claim::new(&dir, &name, path, rest, bytes_max);
        if is_there(&dir, &claim.hidden) && claim.whole(&name, rest).map_err(failed)?.is_some() {
            self.remove_raw(raw, path, drop_id, bytes_max)?;
        }
        Ok(())
    }

    /// Claims a drop, and lets it go if it is the one that is meant.
    fn leave_raw(&self, it: &Claim, rest: Option<(Temp<'_>, Sha256)>) -> std::io::Result<Removal> {
        self.steps.pass(Step::Rename)?;
        match it.rename(it.name, &it.hidden) {
            Ok(()) => (),
            // Nobody has the name: gone, unless an earlier try was cut off after its claim.
            Err(Errno::NOENT) if !is_there(it.dir, &it.hidden) => return Ok(Removal::Gone),
            // An earlier claim, with a newer file beside it or without: its own bytes decide, below.
            Err(Errno::NOENT | Errno::EXIST) => (),
            Err(it) => return Err(it.into()),
        }
        let settled = match it.whole(&it.hidden, it.drop_id) {
            Ok(Some(file)) => {
                let dropped = self.drop_claim(it, rest);
                self.leaving.close(file.into());
                dropped
            }
            // Not what we filed: back to its name, unless yet another file has that already.
            Ok(None) => self.give_back(it),
            Err(error) => Err(error),
        };
        if settled.is_err() && self.steps.pass(Step::Rename).is_ok() {
            // Not left hidden: a drop that cannot be taken away stays where people see it. Where
            // that fails too, the next try or the next start finds the claim.
            let _ = it.rename(&it.hidden, it.name);
        }
        settled
    }

    /// The claim goes; what is left of it gets its name first.
    fn drop_claim(&self, it: &Claim, rest: Option<(Temp<'_>, Sha256)>) -> std::io::Result<Removal> {
        let remove = || {
            self.steps.pass(Step::Remove)?;
            Ok(rustix::fs::unlinkat(it.dir, &it.hidden[..], AtFlags::empty())?)
        };
        let Some((temp, rest)) = rest else { return remove().map(|()| Removal::Removed) };
        self.steps.pass(Step::Rename)?;
        let temp = temp.keep();
        match it.rename(&temp, it.name) {
            Ok(()) => (),
            // Somebody put another drop there meanwhile.
            Err(Errno::EXIST) => put_beside(it.dir, &temp, it.path)?,
            Err(error) => {
                let _ = rustix::fs::unlinkat(it.dir, &temp[..], AtFlags::empty());
                return Err(error.into());
            }
        }
        let sync = || {
            self.steps.pass(Step::Sync)?;
            rustix::fs::fsync(it.dir).map_err(std::io::Error::from)
        };
        let Err(error) = sync().and_then(|()| remove()) else { return Ok(Removal::Removed) };
        // The whole back to its name. Of what had it, only the rest may go: all of that is in the
        // whole.
        self.steps.pass(Step::Rename)?;
        let (dir, swap) = (it.dir, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(dir, &it.hidden[..], dir, it.name, swap)?;
        match it.whole(&it.hidden, &rest)? {
            Some(_) => remove()?,
            None => put_beside(dir, &it.hidden, it.path)?,
        }
        Err(error)
    }

    fn give_back(&self, it: &Claim) -> std::io::Result<Removal> {
        self.steps.pass(Step::Rename)?;
        match it.rename(&it.hidden, it.name) {
            Ok(()) => (),
            Err(Errno::EXIST) => put_beside(it.dir, &it.hidden, it.path)?,
            Err(error) => return Err(error.into()),
        }
        Ok(Removal::Replaced)
    }

    /// Puts claims that a crash left behind back to their names, so that they are drops again.
    pub fn restore_claims(&self, raw: &RepoPath) -> Result<u32, Error> {
        let mut restored = 0;
        self.visit_hidden(raw, &mut |dir, name| {
            let Some(original) = claimed_name(name) else { return Ok(()) };
            self.steps.pass(Step::Rename).map_err(|_| Errno::NOSPC)?;
            match rename_new(dir, name, &original) {
                Ok(()) => restored += 1,
                // The place is taken by a newer drop; the older bytes become a drop beside it.
                Err(Errno::EXIST) => match put_beside(dir, name, &RawPath::new(original)) {
                    Ok(()) => restored += 1,
                    Err(it) => leave(name, it),
                },
                Err(Errno::NOENT) => (),
                // In a directory of somebody else's: not a claim of ours.
                Err(it) => leave(name, it),
            }
            Ok(())
        })?;
        Ok(restored)
    }

    /// Opens the directory that holds `full` and gives the last component beside it.
    pub(super) fn parent_of(&self, full: &[u8]) -> Result<Option<(OwnedFd, Vec<u8>)>, Errno> {
        let at = full.iter().rposition(|b| *b == b'/');
        let (dir, name) = match at {
            Some(at) => (&full[..at], &full[at + 1..]),
            None => (&b""[..], full),
        };
        match self.beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some((fd, name.to_vec()))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(it) => Err(it),
        }
    }
}

/// A drop on its way out, which has a hidden name meanwhile.
struct Claim<'a> {
    dir: &'a OwnedFd,
    name: &'a [u8],
    hidden: Vec<u8>,
    path: &'a RawPath,
    drop_id: &'a Sha256,
    bytes_max: u64,
}

impl<'a> Claim<'a> {
    fn new(
        dir: &'a OwnedFd,
        name: &'a [u8],
        path: &'a RawPath,
        drop_id: &'a Sha256,
        bytes_max: u64,
    ) -> Claim<'a> {
        Claim { dir, name, hidden: claim_name(path), path, drop_id, bytes_max }
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        rename_new(self.dir, from, to)
    }

    /// The file of that name, if it holds the bytes of a drop, all of them, and nobody is writing it.
    fn whole(&self, name: &[u8], drop_id: &Sha256) -> std::io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = match beneath(self.dir, name, flags, Mode::empty()).map(File::from) {
            Ok(file) => file,
            // No file, or one that we may not read: not what we filed.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::PERM) => {
                return Ok(None);
            }
            Err(it) => return Err(it.into()),
        };
        let found = file.metadata()?;
        // What somebody writes is not what we filed either.
        if !found.is_file() || lease::take(&file) == Leased::Busy {
            return Ok(None);
        }
        // One read for all of it, and one that finds its end.
        let room = usize::try_from(found.len().min(self.bytes_max)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(room + 1);
        (&file).take(self.bytes_max + 1).read_to_end(&mut bytes)?;
        lease::release(&file);
        Ok((Sha256::of_drop(self.path.as_bytes(), &bytes) == *drop_id).then_some(file))
    }
}

/// What has a name like ours and cannot be moved keeps the agent from nothing.
fn leave(name: &[u8], why: Errno) {
    let name = crate::model::path::escape(name);
    tracing::warn!(name, error = %why, "cannot put this back among the drops; it stays hidden");
}

fn is_there(dir: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Gives a claim whose own name is taken a name of its own, `recovered-N-NAME`: it is a drop again.
fn put_beside(dir: &OwnedFd, claim: &[u8], path: &RawPath) -> Result<(), Errno> {
    let name = path.safe_name();
    for n in 1..=RECOVERED_MAX {
        let other = format!("recovered-{n}-{name}");
        match rename_new(dir, claim, other.as_ref()) {
            Err(Errno::EXIST) => (),
            other => return other,
        }
    }
    Err(Errno::EXIST)
}

/// The hidden name of a drop that is being taken away: our prefix, then its own name as far as a
/// file name reaches, so that a crash leaves a file that can be put back.
fn claim_name(path: &RawPath) -> Vec<u8> {
    let mut name = format!("{TEMP_PREFIX}taken-").into_bytes();
    name.extend_from_slice(path.file_name());
    // At most 255 bytes; a longer one loses its beginning and keeps its extension.
    if name.len() > 255 {
        let keep = 255 - TEMP_PREFIX.len() - "taken-".len();
        let tail = path.file_name()[path.file_name().len() - keep..].to_vec();
        name.truncate(TEMP_PREFIX.len() + "taken-".len());
        name.extend_from_slice(&tail);
    }
    name
}

fn claimed_name(name: &[u8]) -> Option<Vec<u8>> {
    let rest = name.strip_prefix(TEMP_PREFIX.as_bytes())?.strip_prefix(b"taken-")?;
    (!rest.is_empty()).then(|| rest.to_vec())
}
