//! Small packs of ours become one, because every look-up asks each pack.
//!
//! Entries are copied as they lie, one at a time: nothing is inflated, and memory holds one entry. In
//! a directory of 100,000 files each commit has a tree of megabytes, so a fold that read what it
//! copies would hold hundreds of them.

use super::{Error, Repo};
use crate::step::Step;
use gix::ObjectId;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Our small packs are folded when there are so many.
const FOLD_AT: usize = 64;
/// So many are folded at least, however large they are; and more while they stay within the bytes,
/// so that a commit never waits long for it.
const FOLD_MIN: usize = 8;
const FOLD_BYTES_MAX: u64 = 16 << 20;
/// A pack with more objects than this is left as it is.
const FOLD_OBJECTS_MAX: u32 = 256;
/// The list of packs that we may fold, in the repository's own intake directory.
const LIST: &str = "intake/packs";
/// The kinds of entries that are whole objects; others need a base.
const WHOLE: std::ops::RangeInclusive<u8> = 1..=4;

/// A pack whose entries can be copied.
struct Source {
    file: File,
    /// In the order in which they lie.
    entries: Vec<Copied>,
    bytes: u64,
}

/// One entry of it.
struct Copied {
    id: ObjectId,
    crc: u32,
    from: u64,
    len: usize,
}

impl Repo {
    /// Folds our small packs into one, the oldest first, when there are many.
    pub fn fold_packs(&self) -> Result<(), Error> {
        let failed = |it: io::Error| Error::io("fold small packs", it);
        let noted = self.noted_packs().map_err(failed)?;
        if noted.len() < FOLD_AT {
            return Ok(());
        }
        let dir = self.gix.objects.store_ref().path().join("pack");
        let (mut sources, mut bytes, mut gone_through) = (Vec::new(), 0, 0);
        for name in &noted {
            if sources.len() >= FOLD_MIN && bytes > FOLD_BYTES_MAX {
                break;
            }
            gone_through += 1;
            // git may have repacked meanwhile, and what cannot be read is not ours to lose.
            if let Some(source) = Source::open(&dir, name, self.gix.object_hash()) {
                bytes += source.bytes;
                sources.push((name, source));
            }
        }
        // First off the list: what a crash leaves unfolded costs a look-up and nothing else.
        self.note_only(&noted[gone_through..]).map_err(failed)?;
        if sources.len() < 2 {
            return Ok(());
        }
        self.steps.pass(Step::WritePack).map_err(failed)?;
        let mut seen = HashSet::new();
        for (_, source) in &mut sources {
            source.entries.retain(|it| seen.insert(it.id));
        }
        let n = u32::try_from(seen.len()).map_err(|it| failed(io::Error::other(it)))?;
        let entries = sources.iter().flat_map(|(_, it)| it.entries.iter().map(|one| it.read(one)));
        let name = self.write_both(&dir, n, entries).map_err(failed)?;
        if bytes <= FOLD_BYTES_MAX {
            self.note_pack(&name, n).map_err(failed)?;
        }
        // A pack with the same entries has the same name.
        for (old, _) in sources.iter().filter(|it| *it.0 != name) {
            self.steps.pass(Step::Remove).map_err(failed)?;
            // The index first: a pack without one is not looked at.
            remove(&dir.join(format!("{old}.idx"))).map_err(failed)?;
            remove(&dir.join(format!("{old}.pack"))).map_err(failed)?;
        }
        Ok(())
    }

    /// Notes a new pack of `n` objects, if it may be folded.
    pub(super) fn note_pack(&self, name: &str, n: u32) -> io::Result<()> {
        if n > FOLD_OBJECTS_MAX {
            return Ok(());
        }
        let list = self.gix.common_dir().join(LIST);
        if let Some(parent) = list.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = File::options().create(true).append(true).open(list)?;
        writeln!(file, "{name}")
    }

    /// The packs that may be folded, the oldest first.
    fn noted_packs(&self) -> io::Result<Vec<String>> {
        match std::fs::read_to_string(self.gix.common_dir().join(LIST)) {
            Ok(it) => {
                Ok(it.lines().filter(|it| it.starts_with("pack-")).map(str::to_owned).collect())
            }
            Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(it) => Err(it),
        }
    }

    /// Written in its place: a name that a crash cuts short is one that is not found.
    fn note_only(&self, names: &[String]) -> io::Result<()> {
        let list = self.gix.common_dir().join(LIST);
        let mut file = File::options().write(true).truncate(true).open(list)?;
        names.iter().try_for_each(|name| writeln!(file, "{name}"))
    }
}

impl Source {
    /// None where it is not there, not sound, or holds entries that need others.
    fn open(dir: &Path, name: &str, hash: gix::hash::Kind) -> Option<Source> {
        let index = gix_pack::index::File::at(dir.join(format!("{name}.idx")), hash).ok()?;
        let file = File::open(dir.join(format!("{name}.pack"))).ok()?;
        let bytes = file.metadata().ok()?.len();
        let mut entries = Vec::new();
        for it in index.iter() {
            entries.push(Copied { id: it.oid, crc: it.crc32?, from: it.pack_offset, len: 0 });
        }
        entries.sort_by_key(|it| it.from);
        let mut end = bytes.checked_sub(hash.len_in_bytes() as u64)?;
        for it in entries.iter_mut().rev() {
            it.len = usize::try_from(end.checked_sub(it.from)?).ok()?;
            end = it.from;
            let mut first = [0];
            file.read_exact_at(&mut first, it.from).ok()?;
            if !WHOLE.contains(&(first[0] >> 4 & 7)) {
                return None;
            }
        }
        Some(Source { file, entries, bytes })
    }

    fn read(&self, it: &Copied) -> io::Result<Vec<(ObjectId, Vec<u8>)>> {
        let mut bytes = vec![0; it.len];
        self.file.read_exact_at(&mut bytes, it.from)?;
        match crc32fast::hash(&bytes) == it.crc {
            true => Ok(vec![(it.id, bytes)]),
            false => Err(io::Error::other(format!("{} is damaged in its pack", it.id))),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the caller has passed the step")]
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(it),
        _ => Ok(()),
    }
}
