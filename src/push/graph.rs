//! Commits, painted: what we want to send, what the remote has, and where the two meet.
//!
//! Walked newest first by commit time. Clocks lie, so a commit may be reached before all its
//! children: paint that arrives late is passed on again, and nothing ends before everything that
//! is still queued is known to the remote.

use std::{
    collections::{BinaryHeap, HashSet},
    ops::Range,
};

use gix::{
    ObjectId,
    hashtable::{HashMap, hash_map::Entry},
    objs::{CommitRefIter, Kind, TagRefIter},
};

use super::{
    error::Error,
    odb::{Odb, unreadable},
};

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

/// Commits as they are loaded, each once.
pub(crate) struct Graph<'a> {
    odb: &'a Odb,
    /// The same as it is known, once something was missing.
    listed: Option<Odb>,
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

/// The most tags of tags that are followed.
const TAG_DEPTH_MAX: usize = 100;

impl<'a> Graph<'a> {
    /// `shallow` are our own cuts, `remote_shallow` the remote's.
    pub(crate) fn new(
        odb: &'a Odb,
        mut shallow: Vec<ObjectId>,
        remote_shallow: &'a HashSet<ObjectId>,
    ) -> Self {
        shallow.sort_unstable();
        let (commits, parents, buffer) = (HashMap::default(), Vec::new(), Vec::new());
        Graph { odb, listed: None, shallow, remote_shallow, commits, parents, buffer, visited: 0 }
    }

    pub(crate) fn peel(&mut self, id: ObjectId) -> Result<Peeled, Error> {
        self.peel_in(self.odb, id)
    }

    /// What a tip of the remote stands for. Most of a busy remote's are not here, and looking for
    /// packs that came meanwhile is done for the first of those, not for each.
    pub(crate) fn peel_tip(&mut self, id: ObjectId) -> Result<Peeled, Error> {
        match self.listed.take() {
            Some(listed) => {
                let peeled = self.peel_in(&listed, id);
                self.listed = Some(listed);
                peeled
            }
            None => {
                let peeled = self.peel(id)?;
                self.listed = peeled.end.is_none().then(|| self.odb.as_listed());
                Ok(peeled)
            }
        }
    }

    fn peel_in(&mut self, odb: &Odb, id: ObjectId) -> Result<Peeled, Error> {
        let mut out = Peeled::default();
        let mut id = id;
        for _ in 0..TAG_DEPTH_MAX {
            if self.commits.contains_key(&id) {
                out.end = Some((id, Kind::Commit));
                return Ok(out);
            }
            let Some(object) = odb.find(id, &mut self.buffer)? else {
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

    /// Loads a commit; `false` if it is not here.
    fn load(&mut self, id: ObjectId) -> Result<bool, Error> {
        let Entry::Vacant(entry) = self.commits.entry(id) else {
            return Ok(true);
        };
        let Some(object) = self.odb.find(id, &mut self.buffer)? else {
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
