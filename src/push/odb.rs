//! The object database, as a push has to know it: what is on the disk, and nothing in its place.
//!
//! gix looks for an object in the packs that it knows of, and lists them anew when it is in none.
//! Where two threads find nothing at the same moment, one lists them, and the other compares that list
//! with itself, sees nothing new and says that the object is nowhere (gix-odb 0.87,
//! `Store::load_one_index`). With packs just folded that was once in 3,000 looks of two threads, and 13
//! times in 6,000 of four. The object is there when it is looked for again.

use gix::{
    ObjectId,
    hash::Kind as Hash,
    objs::{Data, Find as _, FindHeader as _, Header, Kind},
    odb::{Handle, Store, store::RefreshMode},
};

use super::error::{Cause, Error};

/// How often an object is looked for that may be in a pack that came since.
const LOOKS_MAX: usize = 3;

/// A handle on it. Cheap to clone; each thread has its own.
#[derive(Clone)]
pub(crate) struct Odb {
    handle: Handle,
    looks: usize,
}

pub(crate) fn unreadable(id: ObjectId, source: impl Into<Cause>) -> Error {
    Error::local(format!("object {id}"), source)
}

impl Odb {
    /// What `repo` has on the disk, without its replacements.
    pub(crate) fn of(repo: &gix::Repository) -> Odb {
        let mut handle: Handle = repo.objects.clone().into_inner();
        handle.ignore_replacements = true;
        Odb { handle, looks: LOOKS_MAX }
    }

    /// One that does not look for packs that came since they were last listed: what is missing then
    /// costs no look at the disk.
    pub(crate) fn as_listed(&self) -> Odb {
        let mut handle = self.handle.clone();
        handle.refresh = RefreshMode::Never;
        Odb { handle, looks: 1 }
    }

    pub(crate) fn store(&self) -> &Store {
        self.handle.store_ref()
    }

    pub(crate) fn hash(&self) -> Hash {
        self.store().object_hash()
    }

    /// Reads an object into `buffer`. The empty tree is there even if nobody has written it: git knows
    /// it by heart.
    pub(crate) fn find<'b>(
        &self,
        id: ObjectId,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<Data<'b>>, Error> {
        let mut found = None;
        for _ in 0..self.looks {
            found = self.look(id, buffer)?;
            if found.is_some() {
                break;
            }
        }
        if found.is_none() && id.is_empty_tree() {
            buffer.clear();
            found = Some(Kind::Tree);
        }
        Ok(found.map(|kind| Data { kind, object_hash: id.kind(), data: buffer }))
    }

    /// Looks once; the buffer holds the object and nothing else, if it is there.
    fn look(&self, id: ObjectId, buffer: &mut Vec<u8>) -> Result<Option<Kind>, Error> {
        let found = self.handle.try_find(&id, buffer).map_err(|err| unreadable(id, err))?;
        let Some((kind, length)) = found.map(|it| (it.kind, it.data.len())) else {
            return Ok(None);
        };
        buffer.truncate(length);
        Ok(Some(kind))
    }

    /// Kind and size of an object that was found before.
    pub(crate) fn header(&self, id: ObjectId) -> Result<Option<Header>, Error> {
        self.handle.try_header(&id).map_err(|err| unreadable(id, err))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::super::{graph::Graph, walk};
    use super::*;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::Barrier;
    use std::{fs, io::Write as _};

    const ROUNDS: usize = 300;
    const THREADS: usize = 8;

    fn git(dir: &Path, args: &[&str], input: &str) -> String {
        let mut git = Command::new("git");
        git.current_dir(dir).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = git.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Objects, each in a pack that lies beside those of the repository, in which the objects are not.
    fn packs(dir: &Path) -> Vec<(ObjectId, PathBuf)> {
        git(dir, &["init", "--quiet"], "");
        let mut out = Vec::new();
        for n in 0..ROUNDS {
            let id = git(dir, &["hash-object", "-w", "--stdin"], &n.to_string());
            let to = dir.join(format!("beside-{n}")).join("pack");
            fs::create_dir(to.parent().unwrap()).unwrap();
            let args = ["pack-objects", "--quiet", to.to_str().unwrap()];
            let name = git(dir, &args, &format!("{id}\n"));
            fs::remove_file(dir.join(".git/objects").join(&id[..2]).join(&id[2..])).unwrap();
            let pack = to.with_file_name(format!("pack-{name}"));
            out.push((ObjectId::from_hex(id.as_bytes()).unwrap(), pack));
        }
        out
    }

    #[test]
    fn what_several_look_for_at_once_is_found_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let packs = packs(dir.path());
        let repo = gix::open_opts(dir.path(), gix::open::Options::isolated()).unwrap();
        let odb = Odb::of(&repo);
        let together = Barrier::new(THREADS + 1);
        std::thread::scope(|scope| {
            let look = || {
                let odb = odb.clone();
                let (together, packs) = (&together, &packs);
                scope.spawn(move || {
                    let found = |(id, _): &(ObjectId, PathBuf)| {
                        together.wait();
                        let found = odb.find(*id, &mut Vec::new()).unwrap().is_some();
                        together.wait();
                        found
                    };
                    packs.iter().filter(|it| found(it)).count()
                })
            };
            let looking: Vec<_> = (0..THREADS).map(|_| look()).collect();
            let mut before: Option<PathBuf> = None;
            for (_, pack) in &packs {
                // As when packs are folded: another has the objects, and the old one goes.
                let to = dir.path().join(".git/objects/pack").join(pack.file_name().unwrap());
                for form in ["pack", "idx"] {
                    fs::rename(pack.with_extension(form), to.with_extension(form)).unwrap();
                }
                for form in
                    before.iter().flat_map(|it| ["idx", "pack"].map(|to| it.with_extension(to)))
                {
                    fs::remove_file(form).unwrap();
                }
                before = Some(to);
                together.wait();
                together.wait();
            }
            for it in looking {
                assert_eq!(it.join().unwrap(), ROUNDS);
            }
        });
    }

    #[test]
    fn the_disk_is_not_looked_at_anew_for_each_tip_that_is_not_here() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet"], "");
        let tree = git(dir.path(), &["write-tree"], "");
        let person = ["-c", "user.name=A", "-c", "user.email=a@b"];
        let args: Vec<_> = person.into_iter().chain(["commit-tree", &tree]).collect();
        let commit = ObjectId::from_hex(git(dir.path(), &args, "x").as_bytes()).unwrap();
        let repo = gix::open_opts(dir.path(), gix::open::Options::isolated()).unwrap();
        let odb = Odb::of(&repo);
        let (uncut, looks) = (Default::default(), || odb.store().metrics().num_refreshes);
        let tips = (1..=100u8).map(|n| ObjectId::from_bytes_or_panic(&[n; 20]));
        let mut graph = Graph::new(&odb, Vec::new(), &uncut);
        let before = looks();
        let frontier = walk::frontier(&mut graph, &[commit], tips).unwrap();
        assert_eq!(frontier.commits, [commit]);
        assert!(looks() - before < 10, "{}", looks() - before);
    }
}
