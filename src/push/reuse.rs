//! Entries of local packs, taken as they lie: nothing is inflated only to be deflated again.
//!
//! An entry ends where the next one begins, so the offsets of a pack, sorted, say what to copy and
//! which object the base of a delta is. The checksum in the index stands in for looking inside.
//! A pack that cannot be read is passed over: the object database then finds the object its way.

use std::sync::OnceLock;

use gix::{ObjectId, objs::Kind};
use gix_pack::data::entry::Header;

use super::graph::Odb;

/// The most packs that are looked into.
const PACKS_MAX: usize = 1_000;

/// A pack with more objects than this, or than so many for each one that is sent, costs more than
/// it gains.
const PACK_OBJECTS_MAX: usize = 16 * 1024;
const SHARE_MIN: usize = 256;

/// The packs of a repository and of those it borrows from.
pub(crate) struct Packs {
    packs: Vec<Pack>,
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
        Packs { packs: Vec::new() }
    }

    /// Opens the packs that are worth it for a push of so many objects.
    pub(crate) fn open(odb: &Odb, wanted: usize) -> Self {
        let store = odb.store_ref();
        let mut dirs = vec![store.path().to_owned()];
        // Without the borrowed ones their objects are only sent more slowly.
        dirs.extend(store.alternate_db_paths().unwrap_or_default());
        let names = dirs.iter().filter_map(|it| std::fs::read_dir(it.join("pack")).ok()).flatten();
        let names = names.filter_map(|it| Some(it.ok()?.path()));
        let indices = names.filter(|it| it.extension().is_some_and(|it| it == "idx"));
        let mut packs = Vec::new();
        for path in indices.take(PACKS_MAX) {
            let hash = store.object_hash();
            let Ok(index) = gix_pack::index::File::at(&path, hash) else { continue };
            if index.num_objects() as usize > PACK_OBJECTS_MAX.max(wanted.saturating_mul(SHARE_MIN))
            {
                continue;
            }
            let Ok(data) = gix_pack::data::File::at(path.with_extension("pack"), hash) else {
                continue;
            };
            packs.push(Pack { index, data, entries: OnceLock::new() });
        }
        Packs { packs }
    }

    pub(crate) fn find(&self, id: ObjectId) -> Option<Place> {
        (0u32..).zip(&self.packs).find_map(|(pack, it)| {
            let entry = it.index.lookup(id)?;
            Some(Place { pack, entry })
        })
    }

    /// What lies at a place; none if it is damaged.
    pub(crate) fn entry(&self, place: Place) -> Option<Entry<'_>> {
        let pack = self.packs.get(place.pack as usize)?;
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
        let Some(pack) = self.packs.get(place.pack as usize) else { return false };
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
