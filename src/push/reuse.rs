//! Entries of local packs, taken as they lie: nothing is inflated only to be deflated again.
//!
//! An entry ends where the next one begins, so the offsets of a pack, sorted, say what to copy and
//! which object the base of a delta is. The checksum in the index stands in for looking inside.
//! A pack that cannot be read is passed over: the object database then finds the object its way.

use std::{
    fs::DirEntry,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use gix::{ObjectId, hash::Kind as Hash, objs::Kind};
use gix_pack::data::entry::Header;

use super::odb::Odb;

/// The most packs that are looked into.
const PACKS_MAX: usize = 1_000;

/// A pack with more objects than this, or than so many for each one that is sent, costs more than
/// it gains.
const PACK_OBJECTS_MAX: usize = 16 * 1024;
const SHARE_MIN: usize = 256;

/// The packs of a repository and of those it borrows from, the newest first. Each is opened when all
/// before it have been asked in vain: of files in memory the kernel counts what lies around a byte
/// too, so a look into each of many takes more than all that is sent.
pub(crate) struct Packs {
    slots: Vec<Slot>,
    /// Packs of more objects are not worth it.
    objects_max: usize,
    hash: Hash,
    /// Where the last object was found: the next one is probably there too.
    latest: AtomicU32,
}

/// A pack, once it was looked into; none if it cannot be read, or is not worth it.
struct Slot {
    index: PathBuf,
    pack: OnceLock<Option<Pack>>,
}

struct Pack {
    index: gix_pack::index::File,
    data: gix_pack::data::File,
    /// Offset and place in the index of each entry, by offset; made when first asked for.
    entries: OnceLock<Vec<(u64, u32)>>,
}

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: u32,
    entry: u32,
}

/// An entry as it lies in a pack.
pub(crate) struct Entry<'a> {
    pub(crate) form: Form,
    /// The size of what is compressed: the object, or its delta.
    pub(crate) size: u64,
    pub(crate) compressed: &'a [u8],
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole(Kind),
    Delta(ObjectId),
}

impl Packs {
    /// No packs at all.
    pub(crate) fn none() -> Self {
        Packs { slots: Vec::new(), objects_max: 0, hash: Hash::Sha1, latest: AtomicU32::default() }
    }

    /// The packs that may be worth it for a push of so many objects.
    pub(crate) fn open(odb: &Odb, wanted: usize) -> Self {
        let store = odb.store();
        let mut dirs = vec![store.path().to_owned()];
        // Without the borrowed ones their objects are only sent more slowly.
        dirs.extend(store.alternate_db_paths().unwrap_or_default());
        let names = dirs.iter().filter_map(|it| std::fs::read_dir(it.join("pack")).ok()).flatten();
        let indices =
            names.flatten().filter(|it| it.path().extension().is_some_and(|it| it == "idx"));
        let age = |it: &DirEntry| it.metadata().and_then(|it| it.modified()).ok();
        let mut indices: Vec<_> = indices.take(PACKS_MAX).map(|it| (age(&it), it.path())).collect();
        indices.sort_unstable_by(|a, b| b.cmp(a));
        let slot = |(_, index)| Slot { index, pack: OnceLock::new() };
        Packs {
            slots: indices.into_iter().map(slot).collect(),
            objects_max: PACK_OBJECTS_MAX.max(wanted.saturating_mul(SHARE_MIN)),
            hash: store.object_hash(),
            latest: AtomicU32::default(),
        }
    }

    fn pack(&self, at: u32) -> Option<&Pack> {
        let slot = self.slots.get(at as usize)?;
        let open = || {
            let index = gix_pack::index::File::at(&slot.index, self.hash).ok()?;
            if index.num_objects() as usize > self.objects_max {
                return None;
            }
            let data = gix_pack::data::File::at(slot.index.with_extension("pack"), self.hash);
            Some(Pack { index, data: data.ok()?, entries: OnceLock::new() })
        };
        slot.pack.get_or_init(open).as_ref()
    }

    pub(crate) fn find(&self, id: ObjectId) -> Option<Place> {
        let latest = self.latest.load(Ordering::Relaxed);
        let all = std::iter::once(latest).chain((0u32..).take(self.slots.len()));
        let mut found = all.filter_map(|pack| {
            let entry = self.pack(pack)?.index.lookup(id)?;
            Some(Place { pack, entry })
        });
        let found = found.next()?;
        self.latest.store(found.pack, Ordering::Relaxed);
        Some(found)
    }

    /// What lies at a place; none if it is damaged.
    pub(crate) fn entry(&self, place: Place) -> Option<Entry<'_>> {
        let pack = self.pack(place.pack)?;
        let (bytes, start) = pack.bytes(place.entry)?;
        let entry = gix_pack::data::Entry::from_bytes(bytes, start, pack.index.object_hash());
        let entry = entry.ok()?;
        let form = match entry.header {
            Header::RefDelta { base_id } => Form::Delta(base_id),
            Header::OfsDelta { base_distance } => {
                let base = Header::verified_base_pack_offset(start, base_distance)?;
                let at = pack.at(base).ok()?;
                let (_, base) = pack.entries().get(at)?;
                Form::Delta(pack.index.oid_at_index(*base).to_owned())
            }
            whole => Form::Whole(whole.as_kind()?),
        };
        let compressed = bytes.get(entry.header_size()..)?;
        Some(Entry { form, size: entry.decompressed_size, compressed })
    }

    /// Says whether the bytes at a place are those that the pack was made with.
    pub(crate) fn is_intact(&self, place: Place) -> bool {
        let Some(pack) = self.pack(place.pack) else { return false };
        let bytes = pack.bytes(place.entry);
        // Packs of the oldest format have no checksums; they are read the careful way.
        bytes.is_some_and(|(bytes, _)| {
            pack.index.crc32_at_index(place.entry) == Some(crc32fast::hash(bytes))
        })
    }
}

impl Pack {
    fn entries(&self) -> &[(u64, u32)] {
        self.entries.get_or_init(|| {
            let offset = |entry| (self.index.pack_offset_at_index(entry), entry);
            let mut entries: Vec<_> = (0..self.index.num_objects()).map(offset).collect();
            entries.sort_unstable();
            entries
        })
    }

    fn at(&self, offset: u64) -> Result<usize, usize> {
        self.entries().binary_search_by_key(&offset, |it| it.0)
    }

    /// The whole entry and its offset.
    fn bytes(&self, entry: u32) -> Option<(&[u8], u64)> {
        let start = self.index.pack_offset_at_index(entry);
        let next = self.at(start).ok()? + 1;
        let end = self.entries().get(next).map_or(self.data.pack_end() as u64, |it| it.0);
        let fits = start < end && end <= self.data.pack_end() as u64;
        let bytes = fits.then(|| self.data.entry_slice(start..end)).flatten()?;
        Some((bytes, start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn older_packs_are_opened_only_for_what_the_newer_lack() {
        let dir = tempfile::tempdir().unwrap();
        let run = |line: &str| {
            let out = Command::new("sh").current_dir(dir.path()).args(["-ec", line]).output();
            let out = out.unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            ObjectId::from_hex(out.stdout.trim_ascii()).ok()
        };
        run("git init -q");
        let packed = |name: &str| {
            run(&format!(
                "git update-ref refs/tags/{name} $(echo {name} | git hash-object -w --stdin)"
            ));
            run("git repack -qd");
            run(&format!("git rev-parse {name}")).unwrap()
        };
        let old = packed("old");
        run("touch -d @0 .git/objects/pack/*");
        let new = packed("new");
        let repo = gix::open_opts(dir.path(), gix::open::Options::isolated()).unwrap();
        let packs = Packs::open(&Odb::of(&repo), 1);
        let opened = || packs.slots.iter().filter(|it| it.pack.get().is_some()).count();
        assert_eq!((packs.slots.len(), opened()), (2, 0));
        assert_eq!((packs.find(new).unwrap().pack, opened()), (0, 1));
        let place = packs.find(old).unwrap();
        assert_eq!((place.pack, opened()), (1, 2));
        assert_eq!(packs.entry(place).unwrap().form, Form::Whole(Kind::Blob));
        assert_eq!(packs.find(ObjectId::null(Hash::Sha1)), None);
    }
}
