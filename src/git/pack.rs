//! New objects become one pack, on the disk before any ref names them.
//!
//! gix writes loose objects without syncing them: after a power cut an empty file can stand where
//! an object should be, and git takes it for the object. A pack appears whole, by renaming, and
//! costs three syncs however many objects it holds.
//! Formats: git's `gitformat-pack(5)`, pack version 2 and index version 2.

use super::{Error, Repo};
use crate::step::{Mistake, Step};
use gix::ObjectId;
use gix::objs::Kind;
use gix_zlib::Status;
use gix_zlib::stream::deflate::{Compress, FlushCompress};
use std::cell::RefCell;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// So many objects are compressed before they are written.
const COMPRESSED_MAX: usize = 4096;
pub(super) type Objects = Vec<(ObjectId, Kind, Content)>;

/// What an object holds.
#[derive(Debug)]
pub(super) enum Content {
    /// Made for it.
    Own(Vec<u8>),
    /// A file's bytes, which others hold as well.
    Shared(Arc<[u8]>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Content::Own(it) => it,
            Content::Shared(it) => it,
        }
    }
}

/// One object in the pack, for its index.
struct Place {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

impl Repo {
    /// Writes objects as one pack with its index, both synced.
    pub(super) fn write_pack(&self, mut objects: Objects) -> Result<(), Error> {
        if objects.is_empty() {
            return Ok(());
        }
        let failed = |it: io::Error| Error::io("write a pack of new objects", it);
        self.steps.pass(Step::WritePack).map_err(failed)?;
        // In the order of git's own packs; ids make it the same every time.
        let rank = |kind: &Kind| match kind {
            Kind::Commit => 0,
            Kind::Tag => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
        };
        objects.sort_by(|a, b| rank(&a.1).cmp(&rank(&b.1)).then(a.0.cmp(&b.0)));
        let dir = self.gix.objects.store_ref().path().join("pack");
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let level = self.level();
        let n = u32::try_from(objects.len()).map_err(|it| failed(io::Error::other(it)))?;
        let compressed = objects.chunks(COMPRESSED_MAX).map(|batch| {
            let entries = compress(batch, level)?;
            Ok(batch.iter().map(|it| it.0).zip(entries).collect::<Vec<_>>())
        });
        let name = self.write_both(&dir, n, compressed).map_err(failed)?;
        self.note_pack(&name, n).map_err(failed)
    }

    /// As hard as git compresses a new object: what somebody has set, else for speed.
    fn level(&self) -> gix::zlib::Compression {
        let config = self.gix.config_snapshot();
        match config.integer("pack.compression").is_some() {
            true => self.gix.pack_compression().unwrap_or_default(),
            false => self.gix.loose_compression(),
        }
    }

    /// Writes `n` entries, which come in pieces, and gives the pack's name.
    pub(super) fn write_both(
        &self,
        dir: &Path,
        n: u32,
        entries: impl Iterator<Item = io::Result<Vec<(ObjectId, Vec<u8>)>>>,
    ) -> io::Result<String> {
        let mark = self.temp_mark();
        let temp = tempfile::Builder::new().prefix(&format!("tmp_pack{mark}")).tempfile_in(dir)?;
        let mut out = Hashed::new(BufWriter::with_capacity(1 << 18, temp), self.gix.object_hash());
        out.put(&gix_pack::data::header::encode(gix_pack::data::Version::V2, n))?;
        let mut places = Vec::new();
        for entries in entries {
            for (id, entry) in entries? {
                places.push(Place { id, crc: crc32fast::hash(&entry), offset: out.written });
                out.put(&entry)?;
            }
        }
        let (temp, pack_hash) = out.finish()?;
        self.steps.pass(Step::Sync)?;
        if !Mistake::NoSync.is_made() {
            temp.as_file().sync_all()?;
        }

        places.sort_by_key(|it| it.id);
        let index = tempfile::Builder::new().prefix(&format!("tmp_idx{mark}")).tempfile_in(dir)?;
        let mut out = Hashed::new(BufWriter::new(index), self.gix.object_hash());
        write_index(&mut out, &places, &pack_hash)?;
        let (index, _) = out.finish()?;
        self.steps.pass(Step::Sync)?;
        index.as_file().sync_all()?;

        let name = format!("pack-{pack_hash}");
        self.steps.pass(Step::Rename)?;
        // The pack first: only its index makes it visible.
        for (temp, extension) in [(temp, "pack"), (index, "idx")] {
            temp.as_file().set_permissions(Permissions::from_mode(0o444))?;
            temp.persist(dir.join(format!("{name}.{extension}")))?;
        }
        self.doubted_packs.borrow_mut().insert(name.clone());
        self.steps.pass(Step::Sync)?;
        File::open(dir)?.sync_all()?;
        self.doubted_packs.borrow_mut().remove(&name);
        self.packs_made.set(self.packs_made.get().saturating_add(1));
        Ok(name)
    }

    /// Stands in the names of our half-written packs. Another work tree of the same repository has
    /// an agent of its own, whose files are not ours to sweep.
    pub(super) fn temp_mark(&self) -> String {
        use std::os::unix::ffi::OsStrExt as _;
        let below = self.git_dir().strip_prefix(self.gix.common_dir()).unwrap_or(self.git_dir());
        let place = crate::model::digest::Sha256::of(below.as_os_str().as_bytes());
        format!("_intake_{}_", &place.to_string()[..8])
    }
}

fn compress(
    batch: &[(ObjectId, Kind, Content)],
    level: gix::zlib::Compression,
) -> io::Result<Vec<Vec<u8>>> {
    thread_local! {
        /// Setting one up costs more than a small object; there is one level a process.
        static DEFLATE: RefCell<Option<(i32, Compress)>> = const { RefCell::new(None) };
    }
    crate::cores::on_all(batch, |(_, kind, data)| {
        DEFLATE.with_borrow_mut(|kept| {
            if kept.as_ref().is_some_and(|it| it.0 != level.level()) {
                *kept = None;
            }
            let (_, deflate) = kept.get_or_insert_with(|| (level.level(), Compress::new(level)));
            entry(*kind, data, deflate)
        })
    })
}

/// One entry of a pack: its header and the compressed object.
fn entry(kind: Kind, data: &[u8], deflate: &mut Compress) -> io::Result<Vec<u8>> {
    use gix_pack::data::entry::Header;
    let header = match kind {
        Kind::Commit => Header::Commit,
        Kind::Tree => Header::Tree,
        Kind::Blob => Header::Blob,
        Kind::Tag => Header::Tag,
    };
    // What cannot be compressed grows by a few bytes in each block.
    let room = data.len() + data.len() / 1000 + 64;
    let mut out = Vec::with_capacity(room);
    header.write_to(data.len() as u64, &mut out)?;
    deflate.reset();
    let mut at = out.len();
    out.resize(at + room, 0);
    loop {
        let (read, written) = (deflate.total_in(), deflate.total_out());
        let rest = data.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
        let status = deflate.compress(rest, &mut out[at..], FlushCompress::Finish);
        at += usize::try_from(deflate.total_out() - written).map_err(io::Error::other)?;
        match status.map_err(io::Error::other)? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => out.resize(out.len() + room, 0),
        }
    }
    out.truncate(at);
    out.shrink_to_fit();
    Ok(out)
}

fn write_index<W: Write>(
    out: &mut Hashed<W>,
    places: &[Place],
    pack_hash: &ObjectId,
) -> io::Result<()> {
    out.put(b"\xfftOc\0\0\0\x02")?;
    let mut fan = [0u32; 256];
    for it in places {
        fan[usize::from(it.id.as_slice()[0])] += 1;
    }
    let mut sum = 0;
    for n in fan {
        sum += n;
        out.put(&sum.to_be_bytes())?;
    }
    for it in places {
        out.put(it.id.as_slice())?;
    }
    for it in places {
        out.put(&it.crc.to_be_bytes())?;
    }
    // Offsets beyond 2 GiB stand in a table of their own.
    let mut far = Vec::new();
    for it in places {
        match u32::try_from(it.offset) {
            Ok(offset) if offset < 1 << 31 => out.put(&offset.to_be_bytes())?,
            _ => {
                let n = u32::try_from(far.len()).map_err(io::Error::other)?;
                out.put(&(n | 1 << 31).to_be_bytes())?;
                far.push(it.offset);
            }
        }
    }
    for offset in far {
        out.put(&offset.to_be_bytes())?;
    }
    out.put(pack_hash.as_slice())
}

/// Counts and hashes what goes through.
struct Hashed<W> {
    inner: W,
    hasher: gix::hash::Hasher,
    written: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W, hash: gix::hash::Kind) -> Hashed<W> {
        Hashed { inner, hasher: gix::hash::hasher(hash), written: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}

impl Hashed<BufWriter<tempfile::NamedTempFile>> {
    /// Writes the hash of all that went through behind it.
    fn finish(mut self) -> io::Result<(tempfile::NamedTempFile, ObjectId)> {
        let id = self.hasher.try_finalize().map_err(io::Error::other)?;
        self.inner.write_all(id.as_slice())?;
        let inner = self.inner.into_inner().map_err(|it| it.into_error())?;
        Ok((inner, id))
    }
}
