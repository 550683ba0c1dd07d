//! The pack, streamed: each object is encoded when its turn comes and forgotten when it is out.
//!
//! A few workers encode ahead of the writer, each by a batch or two of bounded size, so what is
//! held is a handful of batches and the largest objects among them, however many are sent.
//! A delta's base either precedes it in the pack or is with the remote already.

use std::{
    io::{self, Write},
    sync::mpsc,
};

use gix::{ObjectId, hash::Hasher, hashtable::HashMap, objs::Kind};
use gix_pack::data::entry::Header;
use gix_zlib::{
    Compression,
    stream::deflate::{Compress, FlushCompress},
};

use super::{
    delta::{self, Ends},
    draft::Draft,
    error::Error,
    odb::{Odb, unreadable},
    plan::Planned,
    reuse::{Form, Packs},
    walk::{Objects, Wanted},
};

/// What a pack was made of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PackCounts {
    /// All objects of it.
    pub objects: u32,
    /// Objects sent as a difference to another.
    pub deltas: u32,
    /// Objects and deltas whose compressed bytes were taken as they lay in a local pack.
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

/// So short a difference of trees is half a hash, which no compression makes shorter.
const STORED_BYTES_MAX: usize = 96;

/// Smaller objects are not worth a delta.
const DELTA_BYTES_MIN: u64 = 128;

/// Larger objects are sent whole: both ends would have to be in memory.
const DELTA_BYTES_MAX: u64 = 64 << 20;

/// Below this many objects, workers cost more than they gain.
const WORKERS_OBJECTS_MIN: usize = 64;
const WORKERS_MAX: usize = 8;

/// Below this many objects and without one of this size, opening the packs costs more than copying
/// from them gains.
const COPY_OBJECTS_MIN: usize = 64;
const COPY_BYTES_MIN: u64 = 256 * 1024;

/// A worker hands over what it has when it has this many objects or bytes.
const BATCH_OBJECTS: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// What an object is in the pack.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    base: Option<ObjectId>,
    kind: Kind,
    size: u64,
    copied: bool,
}

/// An object as it goes into the pack, its header still to come.
pub(crate) struct Encoded {
    pub(crate) head: Head,
    pub(crate) data: Vec<u8>,
}

/// Writes the pack of `objects`, from where a draft of it ends; `report` hears of objects and bytes now
/// and then.
pub(crate) fn write(
    odb: &Odb,
    objects: &Objects,
    draft: Option<Draft>,
    settings: Settings,
    out: &mut dyn Write,
    report: &mut dyn FnMut(u32, u64),
) -> Result<PackCounts, Failure> {
    let wanted = &objects.wanted[..];
    let count = u32::try_from(wanted.len()).expect("a repository holds fewer objects");
    let mut pack = Pack {
        out,
        hash: gix::hash::hasher(odb.hash()),
        counts: PackCounts { objects: count, ..PackCounts::default() },
        offsets: vec![0; wanted.len()],
        header: Vec::new(),
    };
    let version = gix_pack::data::Version::V2;
    pack.put(&gix_pack::data::header::encode(version, count))?;
    // The remote starts the program that unpacks when it sees this: it can do so meanwhile.
    pack.out.flush()?;
    let draft = match draft.filter(|it| it.is_for(settings)) {
        Some(draft) => draft,
        None => Draft::of(odb, objects, settings)?,
    };
    let mut written = 0;
    let mut take = |planned: &Planned, head: &Head, data: &[u8]| -> Result<(), Failure> {
        pack.entry(planned.at as usize, head, data, &draft.positions, settings.ofs_delta)?;
        written += 1;
        if written % 256 == 0 {
            report(written, pack.counts.bytes);
        }
        Ok(())
    };
    let made = draft.made();
    let rest = &draft.plan[made.len()..];
    for (planned, (head, data)) in draft.plan.iter().zip(made) {
        take(planned, head, data)?;
    }
    let mut take = |planned: &Planned, it: Encoded| take(planned, &it.head, &it.data);
    let source = draft.source(objects);
    let workers = std::thread::available_parallelism().map_or(1, |it| it.get().min(WORKERS_MAX));
    if workers < 2 || rest.len() < WORKERS_OBJECTS_MIN {
        let mut encoder = Encoder::new(odb.clone(), source);
        for planned in rest {
            take(planned, encoder.encode(planned)?)?;
        }
    } else {
        in_turn(odb, source, rest, workers, &mut take)?;
    }
    report(count, pack.counts.bytes);
    pack.finish()
}

pub(crate) fn is_worth_copying(odb: &Odb, wanted: &[Wanted]) -> Result<bool, Error> {
    if wanted.len() >= COPY_OBJECTS_MIN {
        return Ok(true);
    }
    for id in wanted.iter().filter(|it| it.delta.is_none()).map(|it| it.id) {
        let header = odb.header(id)?;
        if header.is_some_and(|it| it.size >= COPY_BYTES_MIN) {
            return Ok(true);
        }
    }
    Ok(false)
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

/// Lets workers encode ahead and takes their objects in the order of the plan.
fn in_turn(
    odb: &Odb,
    source: Source<'_>,
    plan: &[Planned],
    workers: usize,
    take: &mut dyn FnMut(&Planned, Encoded) -> Result<(), Failure>,
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let mut lanes = Vec::with_capacity(workers);
        for worker in 0..workers {
            // One batch waits while the next is made.
            let (tx, rx) = mpsc::sync_channel::<Result<Vec<Encoded>, Error>>(1);
            let mut encoder = Encoder::new(odb.clone(), source);
            scope.spawn(move || {
                for part in plan.chunks(BATCH_OBJECTS).skip(worker).step_by(workers) {
                    let (mut batch, mut bytes) = (Vec::new(), 0);
                    for (n, planned) in part.iter().enumerate() {
                        match encoder.encode(planned) {
                            Ok(encoded) => {
                                bytes += encoded.data.len();
                                batch.push(encoded);
                            }
                            // The writer hears of it and gives up; if it has already, so be it.
                            Err(err) => return drop(tx.send(Err(err))),
                        }
                        if bytes >= BATCH_BYTES || n + 1 == part.len() {
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
        for (lane, part) in plan.chunks(BATCH_OBJECTS).enumerate() {
            let mut part = part.iter();
            while part.len() > 0 {
                let batch = lanes[lane % workers].recv().map_err(|_| {
                    Failure::Local(Error::local("objects to pack", "a worker has ended early"))
                })?;
                for (encoded, planned) in batch?.into_iter().zip(part.by_ref()) {
                    take(planned, encoded)?;
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
        head: &Head,
        data: &[u8],
        positions: &HashMap<ObjectId, u32>,
        ofs_delta: bool,
    ) -> io::Result<()> {
        let offset = self.counts.bytes;
        self.offsets[at] = offset;
        let header = match head.base {
            None => match head.kind {
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
        self.counts.deltas += u32::from(head.base.is_some());
        self.counts.copied += u32::from(head.copied);
        let mut bytes = std::mem::take(&mut self.header);
        bytes.clear();
        header.write_to(head.size, &mut bytes)?;
        self.put(&bytes)?;
        self.header = bytes;
        self.put(data)
    }

    fn finish(mut self) -> Result<PackCounts, Failure> {
        let hash = self.hash.try_finalize().map_err(|err| Error::local("the pack", err))?;
        self.out.write_all(hash.as_slice())?;
        self.counts.bytes += hash.as_slice().len() as u64;
        Ok(self.counts)
    }
}

/// Where objects come from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) packs: &'a Packs,
    pub(crate) level: Compression,
}

/// A few bytes as a zlib stream that holds them as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("it is short");
    let mut out = vec![0x78, 0x01, 1];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(bytes);
    let sums = bytes.iter().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    out.extend_from_slice(&(sums.1 << 16 | sums.0).to_be_bytes());
    out
}

/// Makes entries of objects, one after the other, with its own buffers.
pub(crate) struct Encoder<'a> {
    source: Source<'a>,
    odb: Odb,
    /// Made when first needed: where all is copied, it is not.
    deflate: Option<Compress>,
    new: Vec<u8>,
    old: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(odb: Odb, source: Source<'a>) -> Self {
        Encoder { source, odb, deflate: None, new: Vec::new(), old: Vec::new(), out: Vec::new() }
    }

    pub(crate) fn encode(&mut self, planned: &Planned) -> Result<Encoded, Error> {
        let objects = self.source.objects;
        let object = &objects.wanted[planned.at as usize];
        let (id, kind, base) = (object.id, object.kind, planned.base);
        if let Some(encoded) = self.copy(planned, kind) {
            return Ok(encoded);
        }
        if let (Some(base), Some(delta)) = (base, &object.delta)
            && object.base == Some(base)
        {
            let delta = objects.deltas.get(delta);
            let size = delta.len() as u64;
            let data = match delta.len() {
                ..=STORED_BYTES_MAX => stored(delta),
                _ => self.deflated(delta)?,
            };
            let head = Head { base: Some(base), kind, size, copied: false };
            return Ok(Encoded { head, data });
        }
        let mut buffer = std::mem::take(&mut self.new);
        let object = self.odb.find(id, &mut buffer)?.ok_or(Error::Missing { id })?;
        if object.kind != kind {
            return Err(unreadable(id, format!("it is a {}, not a {kind}", object.kind)));
        }
        let delta = match base {
            Some(base) => self.delta(object.data, kind, base)?,
            None => None,
        };
        let base = base.filter(|_| delta.is_some());
        let bytes = delta.as_deref().unwrap_or(object.data);
        let (size, data) = (bytes.len() as u64, self.deflated(bytes)?);
        // One huge object should not be remembered by its room for long.
        if buffer.capacity() <= BATCH_BYTES * 4 {
            self.new = buffer;
        }
        Ok(Encoded { head: Head { base, kind, size, copied: false }, data })
    }

    fn delta(&mut self, new: &[u8], kind: Kind, base: ObjectId) -> Result<Option<Vec<u8>>, Error> {
        let fits = |size: u64| (DELTA_BYTES_MIN..=DELTA_BYTES_MAX).contains(&size);
        if !fits(new.len() as u64) {
            return Ok(None);
        }
        let header = self.odb.header(base)?;
        // Little of a large object can come from a small one.
        if header.is_none_or(|it| !fits(it.size) || it.size < new.len() as u64 / 4) {
            return Ok(None);
        }
        let old = self.odb.find(base, &mut self.old)?;
        let Some(old) = old.filter(|it| it.kind == kind) else {
            return Ok(None);
        };
        let exact = match kind {
            Kind::Tree => {
                let hash_bytes = base.as_slice().len();
                let ends = Ends::of(old.data, new, hash_bytes);
                delta::tree(old.data, new, ends, hash_bytes)
            }
            Kind::Blob | Kind::Commit | Kind::Tag => None,
        };
        Ok(exact.or_else(|| delta::bytes(old.data, new)))
    }

    /// Takes the compressed bytes of an object as they lie in a local pack.
    fn copy(&self, planned: &Planned, kind: Kind) -> Option<Encoded> {
        let place = planned.place?;
        let packs = self.source.packs;
        let entry = packs.entry(place)?;
        let fits = match (entry.form, planned.base) {
            (Form::Delta(on), Some(base)) => on == base,
            (Form::Whole(lies), None) => lies == kind,
            // A large object may be smaller as a delta than it lies there.
            (Form::Whole(lies), Some(_)) => lies == kind && entry.size < DELTA_BYTES_MIN,
            (Form::Delta(_), None) => false,
        };
        if !fits || !packs.is_intact(place) {
            return None;
        }
        let base = match entry.form {
            Form::Delta(base) => Some(base),
            Form::Whole(_) => None,
        };
        let (size, data) = (entry.size, entry.compressed.to_vec());
        Some(Encoded { head: Head { base, kind, size, copied: true }, data })
    }

    fn deflated(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let level = self.source.level;
        let deflate = self.deflate.get_or_insert_with(|| Compress::new(level));
        deflate.reset();
        // Zlib's own bound on what cannot be compressed, so that one call does.
        let room = bytes.len() + (bytes.len() >> 10) + 64;
        if self.out.len() < room {
            self.out.resize(room, 0);
        }
        let failed = |source| Error::local("objects to pack", source);
        deflate
            .compress(bytes, &mut self.out, FlushCompress::Finish)
            .map_err(|err| failed(err.to_string()))?;
        let (read, written) = (deflate.total_in(), deflate.total_out());
        if read != bytes.len() as u64 {
            return Err(failed("they do not compress".into()));
        }
        let written = usize::try_from(written).expect("it fits the buffer");
        let out = self.out[..written].to_vec();
        if self.out.len() > BATCH_BYTES * 4 {
            self.out = Vec::new();
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_by_zlib() {
        for length in 0..=STORED_BYTES_MAX {
            let bytes: Vec<u8> = (0..length).map(|n| 255 - (n * 7) as u8).collect();
            let (mut out, mut inflate) = ([0; 2 * STORED_BYTES_MAX], gix_zlib::Inflate::default());
            let (status, read, written) = inflate.once(&stored(&bytes), &mut out).unwrap();
            assert_eq!(status, gix_zlib::Status::StreamEnd);
            assert_eq!((read, &out[..written]), (stored(&bytes).len(), &*bytes));
        }
    }
}
