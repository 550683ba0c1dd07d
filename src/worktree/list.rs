//! Listing `raw/`: every entry that could be a drop, with what tells whether it changed.

use super::{Error, TEMP_PREFIX, WorkTree, beneath};
use crate::model::path::{RawPath, RepoPath};
use crate::pipeline::REPORT_SUFFIX;
use crate::pipeline::discovery::{Entry, EntryType, Fingerprint, Listing};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// How much one listing may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLimits {
    /// Entries of interest; what is beyond waits for a later listing.
    pub entries_max: usize,
    /// How deep directories may nest; deeper ones count as unreadable.
    pub depth_max: usize,
}

impl Default for ListLimits {
    fn default() -> ListLimits {
        ListLimits { entries_max: 1_000_000, depth_max: 32 }
    }
}

/// Directories at the top of `raw/` that the agent keeps for what it put aside.
const OURS: [&[u8]; 2] = [b"processed", b"errors"];

impl WorkTree {
    /// Lists the drops below `raw`, without opening any and without following links.
    ///
    /// Hidden entries, editors' and transfers' leftovers, reports and what does not end in `.yaml`,
    /// `.yml` or `.json` are passed over. A missing `raw` is an empty listing.
    pub fn list_raw(&self, raw: &RepoPath, limits: ListLimits) -> Result<Listing, Error> {
        self.check_directory(raw)?;
        let mut listing = Listing::default();
        let top = match self.directory(raw) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(listing),
            Err(it) => return Err(Error::file("list", raw.as_str().as_bytes(), it)),
        };
        let mut todo: Vec<(Vec<u8>, usize)> = vec![(Vec::new(), 0)];
        while let Some((below, depth)) = todo.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = match beneath(&top, &below, flags, Mode::empty()) {
                Ok(fd) => fd,
                // Removed or replaced between listing and opening: the next listing sees what it is.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(Errno::ACCESS) => {
                    listing.unreadable.push(RawPath::new(below));
                    continue;
                }
                Err(it) => return Err(Error::file("list", &below, it)),
            };
            let here = Here { fd, below: &below, depth };
            here.entries(limits, &mut listing, &mut todo)?;
            if listing.truncated {
                break;
            }
        }
        listing.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }
}

struct Here<'a> {
    fd: OwnedFd,
    below: &'a [u8],
    depth: usize,
}

impl Here<'_> {
    fn entries(
        &self,
        limits: ListLimits,
        listing: &mut Listing,
        todo: &mut Vec<(Vec<u8>, usize)>,
    ) -> Result<(), Error> {
        let failed = |it| Error::file("list", self.below, it);
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if is_passed_over(name) {
                continue;
            }
            let mut path = self.below.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let Ok(found) = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let file_type = FileType::from_raw_mode(found.st_mode);
            if file_type == FileType::Directory && !has_drop_name(name) {
                let ours = self.depth == 0 && OURS.contains(&name);
                if ours {
                    continue;
                }
                if self.depth < limits.depth_max {
                    todo.push((path, self.depth + 1));
                } else {
                    listing.unreadable.push(RawPath::new(path));
                }
                continue;
            }
            if !has_drop_name(name) {
                continue;
            }
            if listing.entries.len() >= limits.entries_max {
                listing.truncated = true;
                return Ok(());
            }
            listing.entries.push(Entry {
                path: RawPath::new(path),
                entry_type: match file_type {
                    FileType::RegularFile => EntryType::Regular,
                    FileType::Symlink => EntryType::Symlink,
                    FileType::Directory => EntryType::Directory,
                    _ => EntryType::Special,
                },
                fingerprint: Fingerprint {
                    bytes: u64::try_from(found.st_size).unwrap_or(0),
                    inode: found.st_ino,
                    modified: (found.st_mtime, found.st_mtime_nsec),
                    changed: (found.st_ctime, found.st_ctime_nsec),
                },
            });
        }
        Ok(())
    }
}

/// Names that are no drop, whatever they hold: hidden, half-written or of an editor.
pub(super) fn is_passed_over(name: &[u8]) -> bool {
    let ends = |suffix: &str| name.ends_with(suffix.as_bytes());
    name.starts_with(b".")
        || name.starts_with(b"#")
        || name.starts_with(TEMP_PREFIX.as_bytes())
        || ends("~")
        || ends(REPORT_SUFFIX)
        || [".tmp", ".part", ".crdownload", ".swp", ".swx", ".filepart", ".partial"]
            .iter()
            .any(|it| ends(it))
}

/// Says whether the name ends like a manifest.
pub(super) fn has_drop_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    [&b".yaml"[..], b".yml", b".json"]
        .iter()
        .any(|it| lower.ends_with(it) && lower.len() > it.len())
}
