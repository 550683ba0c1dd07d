//! Commits, painted: what we want to send, what the remote has, and where the two meet.
//!
//! Walked newest first by commit time. Clocks lie, so a commit may be reached before all its
//! children: paint that arrives late is passed on again, and nothing ends before everything that
//! is still queued is known to the remote.

use std::{
    collections::{BinaryHeap, HashSet},
    ops::Range,
    time::Duration,
};

use gix::{
    ObjectId,
    hashtable::{HashMap, hash_map::Entry},
    objs::{CommitRefIter, Find, Kind, TagRefIter},
};

use super::error::{Cause, Error};

/// The object database on disk: the repository's own, without what replaces what.
pub(crate) type Odb = gix::odb::Handle;

/// What is kept of a commit.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// Where its parents are in the list of all.
    parents: Range<usize>,
    pub(crate) tree: ObjectId,
    time: i64,
    paint: u8,
}

/// A commit's time, whether it is only wanted so far, and its paint. Of many commits of one second
/// the wanted ones come first: what is had need not be walked to find where the two meet.
type Queued = (i64, bool, ObjectId, u8);

const WANT: u8 = 1;
const HAVE: u8 = 2;

/// Finds an object. The empty tree is there even if nobody has written it: git knows it by heart.
pub(crate) fn find<'b>(
    odb: &Odb,
    id: ObjectId,
    buffer: &'b mut Vec<u8>,
) -> Result<Option<gix::objs::Data<'b>>, Error> {
    let found = odb.try_find(&id, buffer).map_err(|err| unreadable(id, err))?;
    let empty = || gix::objs::Data { kind: Kind::Tree, object_hash: id.kind(), data: &[] };
    Ok(found.or_else(|| id.is_empty_tree().then(empty)))
}

/// Commits as they are loaded, each once.
pub(crate) struct Graph<'a> {
    odb: &'a Odb,
    /// Commits whose parents are not here.
    shallow: Vec<ObjectId>,
    /// Commits whose parents the remote lacks.
    remote_shallow: &'a HashSet<ObjectId>,
    commits: HashMap<ObjectId, Commit>,
    /// The parents of all commits, side by side: a small piece of memory for each would lie between
    /// what reading a commit takes for a moment, so that none of that could be used again.
    parents: Vec<ObjectId>,
    buffer: Vec<u8>,
    /// How many commits were looked at, for people who wonder where time went.
    pub(crate) visited: usize,
}

/// What a name or tip stands for, once tags are peeled.
#[derive(Debug, Default)]
pub(crate) struct Peeled {
    /// Tag objects on the way, outermost first.
    pub(crate) tags: Vec<ObjectId>,
    /// The object at the end, if it is here.
    pub(crate) end: Option<(ObjectId, Kind)>,
}

/// How often an object that is here is looked for again, and after how long.
const LOOKS_MAX: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// The most tags of tags that are followed.
const TAG_DEPTH_MAX: usize = 100;

pub(crate) fn unreadable(id: ObjectId, source: impl Into<Cause>) -> Error {
    Error::local(format!("object {id}"), source)
}

impl<'a> Graph<'a> {
    /// `shallow` are our own cuts, `remote_shallow` the remote's.
    pub(crate) fn new(
        odb: &'a Odb,
        mut shallow: Vec<ObjectId>,
        remote_shallow: &'a HashSet<ObjectId>,
    ) -> Self {
        shallow.sort_unstable();
        let (commits, parents, buffer) = (HashMap::default(), Vec::new(), Vec::new());
        Graph { odb, shallow, remote_shallow, commits, parents, buffer, visited: 0 }
    }

    pub(crate) fn peel(&mut self, id: ObjectId) -> Result<Peeled, Error> {
        let mut out = Peeled::default();
        let mut id = id;
        for _ in 0..TAG_DEPTH_MAX {
            if self.commits.contains_key(&id) {
                out.end = Some((id, Kind::Commit));
                return Ok(out);
            }
            let found = self.odb.try_find(&id, &mut self.buffer);
            let Some(object) = found.map_err(|err| unreadable(id, err))? else {
                return Ok(out);
            };
            if object.kind != Kind::Tag {
                out.end = Some((id, object.kind));
                return Ok(out);
            }
            out.tags.push(id);
            id = TagRefIter::from_bytes(object.data, id.kind())
                .target_id()
                .map_err(|err| unreadable(id, err))?;
        }
        Ok(out)
    }

    /// The end of what is here for certain, looked for again where it seems not to be: once in many
    /// thousand pushes gix found nothing, with packs just folded and another thread looking for them.
    pub(crate) fn peel_known(&mut self, id: ObjectId) -> Result<Option<(ObjectId, Kind)>, Error> {
        for _ in 0..LOOKS_MAX {
            if let Some(found) = self.peel(id)?.end {
                return Ok(Some(found));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(self.peel(id)?.end)
    }

    /// Loads a commit; `false` if it is not here.
    fn load(&mut self, id: ObjectId) -> Result<bool, Error> {
        let Entry::Vacant(entry) = self.commits.entry(id) else {
            return Ok(true);
        };
        let found = self.odb.try_find(&id, &mut self.buffer);
        let Some(object) = found.map_err(|err| unreadable(id, err))? else {
            return Ok(false);
        };
        if object.kind != Kind::Commit {
            return Err(unreadable(id, "it is no commit"));
        }
        let commit = CommitRefIter::from_bytes(object.data, id.kind());
        let tree = commit.clone().tree_id().map_err(|err| unreadable(id, err))?;
        let first = self.parents.len();
        if self.shallow.binary_search(&id).is_err() {
            self.parents.extend(commit.parent_ids());
        }
        let parents = first..self.parents.len();
        let time = commit.committer().map_or(0, |it| it.seconds());
        entry.insert(Commit { parents, tree, time, paint: 0 });
        self.visited += 1;
        Ok(true)
    }

    pub(crate) fn get(&self, id: &ObjectId) -> Option<&Commit> {
        self.commits.get(id)
    }

    /// The parents of a commit that was visited.
    pub(crate) fn parents(&self, commit: &Commit) -> &[ObjectId] {
        self.parents.get(commit.parents.clone()).unwrap_or_default()
    }

    /// The tree of a commit that may not have been visited.
    pub(crate) fn tree_of(&mut self, id: ObjectId) -> Result<Option<ObjectId>, Error> {
        Ok(if self.load(id)? { self.commits.get(&id).map(|it| it.tree) } else { None })
    }

    /// The parents of what a name stands for, if that is a commit.
    pub(crate) fn parents_of(&mut self, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
        let Some((id, Kind::Commit)) = self.peel(id)?.end else { return Ok(Vec::new()) };
        self.load(id)?;
        Ok(self.commits.get(&id).map(|it| self.parents(it).to_vec()).unwrap_or_default())
    }

    fn time(&self, id: &ObjectId) -> i64 {
        self.commits.get(id).map_or(0, |it| it.time)
    }

    /// Whether everything in `old` is also in `new`.
    pub(crate) fn is_ancestor(&mut self, old: ObjectId, new: ObjectId) -> Result<bool, Error> {
        if old == new {
            return Ok(true);
        }
        self.paint(&[new], &[old])?;
        // `old` is reached from `new` exactly if the paint of `new` has arrived there.
        let reached = self.commits.get(&old).is_some_and(|it| it.paint & WANT != 0);
        self.clean();
        Ok(reached)
    }

    fn clean(&mut self) {
        self.commits.values_mut().for_each(|it| it.paint = 0);
    }

    /// Commits reachable from `wants` and from none of `haves`, newest first.
    ///
    /// # Errors
    /// [`Error::Missing`] if a wanted commit is not here.
    pub(crate) fn missing(
        &mut self,
        wants: &[ObjectId],
        haves: &[ObjectId],
    ) -> Result<Vec<ObjectId>, Error> {
        let mut order = self.paint(wants, haves)?;
        order.retain(|id| self.commits.get(id).is_some_and(|it| it.paint == WANT));
        self.clean();
        Ok(order)
    }

    /// Paints until no commit that is only wanted is queued; gives those that once were.
    fn paint(&mut self, wants: &[ObjectId], haves: &[ObjectId]) -> Result<Vec<ObjectId>, Error> {
        let mut queue = BinaryHeap::new();
        let mut order = Vec::new();
        // Commits that are queued and, so far, only wanted.
        let mut open = 0usize;
        for (ids, paint) in [(haves, HAVE), (wants, WANT)] {
            for id in ids {
                if !self.load(*id)? {
                    if paint == WANT {
                        return Err(Error::Missing { id: *id });
                    }
                    continue;
                }
                self.add(*id, paint, &mut queue, &mut open);
            }
        }
        while open > 0 {
            let Some((_, _, id, queued)) = queue.pop() else {
                break;
            };
            let Some(commit) = self.commits.get(&id) else {
                continue;
            };
            if queued == WANT {
                open -= 1;
            }
            if commit.paint != queued {
                // More paint has arrived since, and queued it again.
                continue;
            }
            if queued == WANT {
                order.push(id);
            }
            if queued & HAVE != 0 && self.remote_shallow.contains(&id) {
                continue;
            }
            for at in commit.parents.clone() {
                let parent = self.parents[at];
                if self.load(parent)? {
                    self.add(parent, queued, &mut queue, &mut open);
                } else if queued == WANT {
                    return Err(Error::Missing { id: parent });
                }
            }
        }
        Ok(order)
    }

    fn add(&mut self, id: ObjectId, paint: u8, queue: &mut BinaryHeap<Queued>, open: &mut usize) {
        let time = self.time(&id);
        if let Some(commit) = self.commits.get_mut(&id) {
            let after = commit.paint | paint;
            if after != commit.paint {
                commit.paint = after;
                queue.push((time, after == WANT, id, after));
                if after == WANT {
                    *open += 1;
                }
            }
        }
    }
}
