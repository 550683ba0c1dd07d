//! A pack before it is sent: in which order objects go into it, and the first of them encoded.
//!
//! Behind ssh or TLS a remote takes longer to say its first word than it takes to compress thousands
//! of objects. So what is likely to be sent ([`super::guess`]) is encoded while it is waited for, up to
//! a limit. What comes of it is the pack that would have been made later, byte for byte.

use std::sync::atomic::{AtomicBool, Ordering};

use gix::{ObjectId, hashtable::HashMap};

use super::{
    error::Error,
    odb::Odb,
    pack::{self, Encoder, Head, Settings, Source},
    plan::{self, Planned},
    reuse::Packs,
    walk::{self, Objects},
};

/// How much is encoded ahead, what is noted of each object included.
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// A larger object is left to when it is sent: it would be held, and who waits no more would wait for
/// it.
const OBJECT_BYTES_MAX: u64 = 256 * 1024;

/// What is known of a pack.
pub(crate) struct Draft {
    settings: Settings,
    pub(super) positions: HashMap<ObjectId, u32>,
    packs: Packs,
    pub(super) plan: Vec<Planned>,
    /// Of the first objects of the plan, with how many bytes each has.
    heads: Vec<(Head, usize)>,
    /// Their bytes, one behind the other.
    bytes: Vec<u8>,
}

impl Draft {
    /// Plans the pack of `objects`.
    ///
    /// # Errors
    /// When an object cannot be looked up.
    pub(super) fn of(odb: &Odb, objects: &Objects, settings: Settings) -> Result<Draft, Error> {
        let wanted = &objects.wanted[..];
        let positions = walk::positions(wanted);
        let packs = match pack::is_worth_copying(odb, wanted)? {
            true => Packs::open(odb, wanted.len()),
            false => Packs::none(),
        };
        let plan = plan::plan(wanted, &positions, &packs, settings.thin);
        let (heads, bytes) = (Vec::new(), Vec::new());
        Ok(Draft { settings, positions, packs, plan, heads, bytes })
    }

    /// Whether it is good for a pack with these settings.
    pub(super) fn is_for(&self, settings: Settings) -> bool {
        (self.settings.thin, self.settings.level) == (settings.thin, settings.level)
    }

    /// Where its objects come from.
    pub(super) fn source<'a>(&'a self, objects: &'a Objects) -> Source<'a> {
        Source { objects, packs: &self.packs, level: self.settings.level }
    }

    /// What is encoded, in the order of the plan.
    pub(super) fn made(&self) -> impl ExactSizeIterator<Item = (&Head, &[u8])> {
        let mut rest = &self.bytes[..];
        self.heads.iter().map(move |(head, length)| {
            let (data, behind) = rest.split_at(*length);
            rest = behind;
            (head, data)
        })
    }

    /// Encodes objects until it is enough. Where one cannot be read, whoever sends it will say so.
    ///
    /// In one thread: the other processors make the connection.
    pub(super) fn encode_ahead(&mut self, odb: &Odb, objects: &Objects, enough: &AtomicBool) {
        let (mut heads, mut bytes) = (Vec::new(), Vec::new());
        let mut encoder = Encoder::new(odb.clone(), self.source(objects));
        for planned in &self.plan {
            let held = bytes.len() + heads.len() * size_of::<(Head, usize)>();
            let object = &objects.wanted[planned.at as usize];
            let small = object.delta.is_some()
                || odb
                    .header(object.id)
                    .is_ok_and(|it| it.is_some_and(|it| it.size <= OBJECT_BYTES_MAX));
            if !small || held > AHEAD_BYTES_MAX || enough.load(Ordering::Relaxed) {
                break;
            }
            let Ok(it) = encoder.encode(planned) else { break };
            bytes.extend_from_slice(&it.data);
            heads.push((it.head, it.data.len()));
        }
        drop(encoder);
        (self.heads, self.bytes) = (heads, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Graph;
    use super::*;
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Three commits of some hundred files, in a pack or not.
    fn repository(dir: &std::path::Path, packed: bool) -> gix::Repository {
        let mut stream = String::new();
        for commit in 0..3 {
            stream += "commit refs/heads/main\ncommitter C <c@d> 1 +0000\ndata 1\nx\n";
            for n in 0..200 {
                let text = format!("{n}: line of commit {commit}\n").repeat(n % 30 + 5);
                writeln!(stream, "M 100644 inline d{}/f{n}", n % 7).unwrap();
                writeln!(stream, "data {}\n{text}", text.len()).unwrap();
            }
        }
        let limit = format!("fastimport.unpackLimit={}", if packed { 1 } else { 10_000 });
        for args in [&["init", "--quiet"][..], &["-c", &limit, "fast-import", "--quiet"]] {
            let mut git = Command::new("git");
            git.current_dir(dir).args(args).stdin(Stdio::piped());
            let mut child = git.env("GIT_CONFIG_GLOBAL", "/dev/null").spawn().unwrap();
            child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap_or_default();
            assert!(child.wait().unwrap().success());
        }
        gix::open_opts(dir, gix::open::Options::isolated()).unwrap()
    }

    #[test]
    fn what_was_encoded_ahead_makes_the_same_pack() {
        for packed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let repo = repository(dir.path(), packed);
            let odb = Odb::of(&repo);
            let tip = repo.find_reference("refs/heads/main").unwrap().id().detach();
            let (uncut, never) = (Default::default(), AtomicBool::new(false));
            let mut graph = Graph::new(&odb, Vec::new(), &uncut);
            let frontier = walk::frontier(&mut graph, &[tip], []).unwrap();
            let (objects, _) = walk::objects(&odb, &mut graph, frontier, &never).unwrap();
            let level = repo.pack_compression().unwrap();
            let settings = Settings { thin: true, ofs_delta: true, level };
            let drafted = || Draft::of(&odb, &objects, settings).unwrap();
            let written = |draft| {
                let mut out = Vec::new();
                pack::write(&odb, &objects, draft, settings, &mut out, &mut |_, _| ()).unwrap();
                out
            };
            let whole = written(None);
            let mut all = drafted();
            all.encode_ahead(&odb, &objects, &never);
            assert_eq!(all.made().len(), objects.wanted.len());
            let mut part = drafted();
            part.encode_ahead(&odb, &objects, &never);
            part.heads.truncate(part.heads.len() / 3);
            let mut nothing = drafted();
            nothing.encode_ahead(&odb, &objects, &AtomicBool::new(true));
            assert_eq!(nothing.made().len(), 0);
            // For other settings it is of no use, and not used.
            let thick = Settings { thin: false, ..settings };
            assert!(all.is_for(settings) && !all.is_for(thick));
            for draft in [all, part, nothing] {
                assert!(written(Some(draft)) == whole);
            }
        }
    }

    #[test]
    fn a_large_object_is_left_to_when_it_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let repo = repository(dir.path(), false);
        let wanted = [1, OBJECT_BYTES_MAX + 1, 2].map(|bytes| {
            let bytes = vec![b'x'; usize::try_from(bytes).unwrap()];
            let id = repo.write_blob(bytes).unwrap().detach();
            walk::Wanted { id, kind: gix::objs::Kind::Blob, base: None, delta: None }
        });
        let objects = Objects { wanted: wanted.to_vec(), ..Objects::default() };
        let level = repo.pack_compression().unwrap();
        let settings = Settings { thin: true, ofs_delta: true, level };
        let odb = Odb::of(&repo);
        let mut draft = Draft::of(&odb, &objects, settings).unwrap();
        draft.encode_ahead(&odb, &objects, &AtomicBool::new(false));
        assert_eq!(draft.made().len(), 1);
    }
}
