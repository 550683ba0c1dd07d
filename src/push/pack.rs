//! The pack, streamed: each object is encoded when its turn comes and forgotten when it is out.
//!
//! A few workers encode ahead of the writer, each by a batch or two of bounded size, so what is
//! held is a handful of batches and the largest objects among them, however many are sent.
//! A delta's base either precedes it in the pack or is with the remote already.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::mpsc,
};

use gix::{
    ObjectId,
    hash::Hasher,
    objs::{Find, FindHeader, Kind},
};
use gix_pack::data::entry::Header;
use gix_zlib::{
    Compression,
    stream::deflate::{Compress, FlushCompress},
};

use super::{
    delta,
    error::Error,
    graph::{self, Odb, unreadable},
    walk::{self, Wanted},
};

/// What a pack was made of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PackCounts {
    pub objects: u32,
    /// Objects sent as a difference to another.
    pub deltas: u32,
    /// Objects whose compressed bytes were taken as they lay in a local pack.
    pub copied: u32,
    /// The size of the whole pack.
    pub bytes: u64,
}

/// How a pack is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Deltas against objects that only the remote has.
    pub(crate) thin: bool,
    /// Bases by distance instead of by name.
    pub(crate) ofs_delta: bool,
    pub(crate) level: Compression,
}

/// Smaller objects are not worth a delta.
const DELTA_BYTES_MIN: u64 = 128;

/// Larger objects are sent whole: both ends would have to be in memory.
const DELTA_BYTES_MAX: u64 = 64 << 20;

/// The longest chain of deltas that is made.
const DELTA_DEPTH_MAX: u16 = 50;

/// Below this many objects, workers cost more than they gain.
const WORKERS_OBJECTS_MIN: usize = 64;
const WORKERS_MAX: usize = 8;

/// A worker hands over what it has when it has this many objects or bytes.
const BATCH_OBJECTS: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// An object as it goes into the pack, its header still to come.
struct Encoded {
    base: Option<ObjectId>,
    kind: Kind,
    size: u64,
    copied: bool,
    data: Vec<u8>,
}

/// Writes the pack of `wanted`; `report` hears of objects and bytes now and then.
pub(crate) fn write(
    odb: &Odb,
    wanted: &[Wanted],
    settings: Settings,
    out: &mut dyn Write,
    report: &mut dyn FnMut(u32, u64),
) -> Result<PackCounts, Failure> {
    let positions = walk::positions(wanted);
    let bases = bases(wanted, &positions, settings.thin);
    let count = u32::try_from(wanted.len()).expect("a repository holds fewer objects");
    let mut pack = Pack {
        out,
        hash: gix::hash::hasher(odb.store_ref().object_hash()),
        counts: PackCounts { objects: count, ..PackCounts::default() },
        offsets: vec![0; wanted.len()],
        header: Vec::new(),
    };
    let version = gix_pack::data::Version::V2;
    pack.put(&gix_pack::data::header::encode(version, count))?;
    let mut take = |at: usize, encoded: Encoded| -> Result<(), Failure> {
        pack.entry(at, encoded, &positions, settings.ofs_delta)?;
        if at.is_multiple_of(256) {
            report(at as u32, pack.counts.bytes);
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, |it| it.get().min(WORKERS_MAX));
    if workers < 2 || wanted.len() < WORKERS_OBJECTS_MIN {
        let mut encoder = Encoder::new(odb.clone(), settings.level);
        for (at, object) in wanted.iter().enumerate() {
            take(at, encoder.encode(object, bases[at])?)?;
        }
    } else {
        in_turn(odb, wanted, &bases, settings, workers, &mut take)?;
    }
    report(count, pack.counts.bytes);
    pack.finish()
}

/// What kept a pack from being written: our side, or the wire.
#[derive(Debug)]
pub(crate) enum Failure {
    Local(Error),
    Wire(io::Error),
}

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        Self::Local(err)
    }
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Self {
        Self::Wire(err)
    }
}

/// Which predecessor each object may be a delta against.
fn bases(
    wanted: &[Wanted],
    positions: &HashMap<ObjectId, u32>,
    thin: bool,
) -> Vec<Option<ObjectId>> {
    let mut depths = vec![0u16; wanted.len()];
    let mut out = Vec::with_capacity(wanted.len());
    for (at, object) in wanted.iter().enumerate() {
        let base = object.base.filter(|base| match positions.get(base) {
            Some(before) => {
                let depth = depths[*before as usize] + 1;
                let fits = (*before as usize) < at && depth <= DELTA_DEPTH_MAX;
                if fits {
                    depths[at] = depth;
                }
                fits
            }
            None => thin,
        });
        out.push(base);
    }
    out
}

/// Lets workers encode ahead and takes their objects in the order of `wanted`.
fn in_turn(
    odb: &Odb,
    wanted: &[Wanted],
    bases: &[Option<ObjectId>],
    settings: Settings,
    workers: usize,
    take: &mut dyn FnMut(usize, Encoded) -> Result<(), Failure>,
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let mut lanes = Vec::with_capacity(workers);
        for worker in 0..workers {
            // One batch waits while the next is made.
            let (tx, rx) = mpsc::sync_channel::<Result<Vec<Encoded>, Error>>(1);
            let mut encoder = Encoder::new(odb.clone(), settings.level);
            scope.spawn(move || {
                for first in (worker * BATCH_OBJECTS..wanted.len()).step_by(workers * BATCH_OBJECTS)
                {
                    let end = (first + BATCH_OBJECTS).min(wanted.len());
                    let (mut batch, mut bytes) = (Vec::new(), 0);
                    for at in first..end {
                        match encoder.encode(&wanted[at], bases[at]) {
                            Ok(encoded) => {
                                bytes += encoded.data.len();
                                batch.push(encoded);
                            }
                            // The writer hears of it and gives up; if it has already, so be it.
                            Err(err) => return drop(tx.send(Err(err))),
                        }
                        if bytes >= BATCH_BYTES || at + 1 == end {
                            bytes = 0;
                            if tx.send(Ok(std::mem::take(&mut batch))).is_err() {
                                return;
                            }
                        }
                    }
                }
            });
            lanes.push(rx);
        }
        for (lane, first) in (0..wanted.len()).step_by(BATCH_OBJECTS).enumerate() {
            let end = (first + BATCH_OBJECTS).min(wanted.len());
            let mut at = first;
            while at < end {
                let batch = lanes[lane % workers].recv().map_err(|_| {
                    Failure::Local(Error::local("objects to pack", "a worker has ended early"))
                })?;
                for encoded in batch? {
                    take(at, encoded)?;
                    at += 1;
                }
            }
        }
        Ok(())
    })
}

struct Pack<'a> {
    out: &'a mut dyn Write,
    hash: Hasher,
    counts: PackCounts,
    offsets: Vec<u64>,
    header: Vec<u8>,
}

impl Pack<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.counts.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn entry(
        &mut self,
        at: usize,
        encoded: Encoded,
        positions: &HashMap<ObjectId, u32>,
        ofs_delta: bool,
    ) -> io::Result<()> {
        let offset = self.counts.bytes;
        self.offsets[at] = offset;
        let header = match encoded.base {
            None => match encoded.kind {
                Kind::Commit => Header::Commit,
                Kind::Tree => Header::Tree,
                Kind::Blob => Header::Blob,
                Kind::Tag => Header::Tag,
            },
            Some(base_id) => match positions.get(&base_id) {
                Some(before) if ofs_delta => {
                    Header::OfsDelta { base_distance: offset - self.offsets[*before as usize] }
                }
                _ => Header::RefDelta { base_id },
            },
        };
        self.counts.deltas += u32::from(encoded.base.is_some());
        self.counts.copied += u32::from(encoded.copied);
        let mut bytes = std::mem::take(&mut self.header);
        bytes.clear();
        header.write_to(encoded.size, &mut bytes)?;
        self.put(&bytes)?;
        self.header = bytes;
        self.put(&encoded.data)
    }

    fn finish(mut self) -> Result<PackCounts, Failure> {
        let hash = self.hash.try_finalize().map_err(|err| Error::local("the pack", err))?;
        self.out.write_all(hash.as_slice())?;
        self.counts.bytes += hash.as_slice().len() as u64;
        Ok(self.counts)
    }
}

/// Makes entries of objects, one after the other, with its own buffers.
struct Encoder {
    odb: Odb,
    deflate: Compress,
    new: Vec<u8>,
    old: Vec<u8>,
}

impl Encoder {
    fn new(mut odb: Odb, level: Compression) -> Self {
        // Locations must stay good between being found and being read.
        odb.prevent_pack_unload();
        let deflate = Compress::new(level);
        Encoder { odb, deflate, new: Vec::new(), old: Vec::new() }
    }

    fn encode(&mut self, object: &Wanted, base: Option<ObjectId>) -> Result<Encoded, Error> {
        let (id, kind) = (object.id, object.kind);
        if let Some(base) = base {
            let delta = match &object.delta {
                Some(delta) => Some(delta.to_vec()),
                None => self.delta(id, kind, base)?,
            };
            if let Some(delta) = delta {
                let (size, data) = (delta.len() as u64, self.deflated(&delta)?);
                return Ok(Encoded { base: Some(base), kind, size, copied: false, data });
            }
        }
        if let Some(encoded) = self.copy(id, kind)? {
            return Ok(encoded);
        }
        let mut buffer = std::mem::take(&mut self.new);
        let object = graph::find(&self.odb, id, &mut buffer)?.ok_or(Error::Missing { id })?;
        if object.kind != kind {
            return Err(unreadable(id, format!("it is a {}, not a {kind}", object.kind)));
        }
        let (size, data) = (object.data.len() as u64, self.deflated(object.data)?);
        // One huge object should not be remembered by its room for long.
        if buffer.capacity() <= BATCH_BYTES * 4 {
            self.new = buffer;
        }
        Ok(Encoded { base: None, kind, size, copied: false, data })
    }

    fn delta(
        &mut self,
        id: ObjectId,
        kind: Kind,
        base: ObjectId,
    ) -> Result<Option<Vec<u8>>, Error> {
        let size = |id: ObjectId| {
            let found = self.odb.try_header(&id).map_err(|err| unreadable(id, err))?;
            Ok::<_, Error>(found.map_or(0, |it| it.size))
        };
        let fits = |size: u64| (DELTA_BYTES_MIN..=DELTA_BYTES_MAX).contains(&size);
        let (ours, theirs) = (size(id)?, size(base)?);
        // Little of a large object can come from a small one.
        if !fits(ours) || !fits(theirs) || theirs < ours / 4 {
            return Ok(None);
        }
        let new = self.odb.try_find(&id, &mut self.new).map_err(|err| unreadable(id, err))?;
        let old = self.odb.try_find(&base, &mut self.old).map_err(|err| unreadable(base, err))?;
        let (Some(new), Some(old)) = (new, old) else {
            return Ok(None);
        };
        if new.kind != old.kind || new.kind != kind {
            return Ok(None);
        }
        let exact = match kind {
            Kind::Tree => delta::tree(old.data, new.data, id.as_slice().len()),
            Kind::Blob | Kind::Commit | Kind::Tag => None,
        };
        Ok(exact.or_else(|| delta::bytes(old.data, new.data)))
    }

    /// Takes the compressed bytes of an object that lies whole in a local pack.
    fn copy(&mut self, id: ObjectId, kind: Kind) -> Result<Option<Encoded>, Error> {
        use gix_pack::Find;
        let located =
            self.odb.location_by_oid(&id, &mut self.old).map_err(|err| unreadable(id, err))?;
        let Some(location) = located else {
            return Ok(None);
        };
        let Some(entry) = self.odb.entry_by_location(&location) else {
            return Ok(None);
        };
        let header =
            gix_pack::data::Entry::from_bytes(&entry.data, location.pack_offset, id.kind())
                .map_err(|err| unreadable(id, err))?;
        if header.header.as_kind() != Some(kind) {
            return Ok(None);
        }
        let mut data = entry.data;
        data.drain(..header.header_size());
        Ok(Some(Encoded { base: None, kind, size: header.decompressed_size, copied: true, data }))
    }

    fn deflated(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.deflate.reset();
        let mut out = Vec::new();
        // Zlib's own bound on what cannot be compressed, so that one call does.
        let room = bytes.len() + (bytes.len() >> 10) + 64;
        out.resize(room, 0);
        let failed = |source| Error::local("objects to pack", source);
        self.deflate
            .compress(bytes, &mut out, FlushCompress::Finish)
            .map_err(|err| failed(err.to_string()))?;
        let (read, written) = (self.deflate.total_in(), self.deflate.total_out());
        if read != bytes.len() as u64 {
            return Err(failed("they do not compress".into()));
        }
        out.truncate(usize::try_from(written).expect("it fits the buffer"));
        Ok(out)
    }
}
