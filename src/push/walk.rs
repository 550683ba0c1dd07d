//! Which objects does the remote lack, and what has it that resembles them?
//!
//! From the difference of trees: each new commit's tree is compared with those of its parents,
//! entry by entry, so the cost follows the change and not the repository. Parents come before
//! children, so that what a parent brought is not looked at again.
//! For each object the walk also knows its predecessor at the same path: the natural delta base.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use gix::{
    ObjectId,
    objs::{Kind, TreeRefIter},
};

use super::{
    advertisement::Advertisement,
    delta,
    error::Error,
    graph::{self, Graph, Odb, unreadable},
};

/// An object to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) id: ObjectId,
    pub(crate) kind: Kind,
    /// Its predecessor: an object that the remote has, or that is sent too.
    pub(crate) base: Option<ObjectId>,
    /// The delta against `base`, where the walk had both in hand anyway.
    pub(crate) delta: Option<Box<[u8]>>,
}

/// How many objects of which kind are to be sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub commits: usize,
    pub trees: usize,
    pub blobs: usize,
    pub tags: usize,
    /// Commits that were looked at to find out.
    pub commits_visited: usize,
}

/// The most bytes of deltas that are kept from the walk; later ones are made again when sent.
const DELTAS_BYTES_MAX: usize = 8 << 20;

/// The deepest a tree may go.
const TREE_DEPTH_MAX: usize = 2048;

/// Finds everything reachable from `wants` that the remote lacks.
///
/// # Errors
/// [`Error::Missing`] if an object of it is not here.
pub(crate) fn objects(
    odb: &Odb,
    graph: &mut Graph<'_>,
    wants: &[ObjectId],
    remote: &Advertisement,
) -> Result<(Vec<Wanted>, Counts), Error> {
    let mut walk = Walk {
        odb,
        hash_bytes: odb.store_ref().object_hash().len_in_bytes(),
        seen: HashSet::new(),
        out: Vec::new(),
        counts: Counts::default(),
        deltas_bytes: 0,
    };
    let mut have_commits = Vec::new();
    for tip in remote.tips() {
        let peeled = graph.peel(tip)?;
        walk.seen.extend(peeled.tags);
        match peeled.end {
            Some((id, Kind::Commit)) => have_commits.push(id),
            Some((id, _)) => drop(walk.seen.insert(id)),
            None => {}
        }
    }
    let (mut want_commits, mut trees) = (Vec::new(), Vec::new());
    for want in wants {
        let peeled = graph.peel(*want)?;
        let (id, kind) = peeled.end.ok_or(Error::Missing { id: *want })?;
        for tag in peeled.tags {
            walk.add(tag, Kind::Tag, None);
        }
        match kind {
            Kind::Commit => want_commits.push(id),
            Kind::Tree => trees.push(id),
            Kind::Blob => walk.add(id, Kind::Blob, None),
            Kind::Tag => return Err(unreadable(id, "tags of tags without an end")),
        }
    }
    let commits = graph.missing(&want_commits, &have_commits)?;
    for id in &commits {
        walk.add(*id, Kind::Commit, None);
    }
    for id in commits.iter().rev() {
        let Some(commit) = graph.get(id).cloned() else {
            continue;
        };
        let mut bases = Vec::new();
        for parent in commit.parents {
            bases.extend(graph.tree_of(parent)?);
        }
        walk.tree(commit.tree, &bases, 0)?;
    }
    for tree in trees {
        walk.tree(tree, &[], 0)?;
    }
    walk.counts.commits_visited = graph.visited;
    Ok((walk.out, walk.counts))
}

struct Walk<'a> {
    odb: &'a Odb,
    hash_bytes: usize,
    seen: HashSet<ObjectId>,
    out: Vec<Wanted>,
    counts: Counts,
    deltas_bytes: usize,
}

impl Walk<'_> {
    fn add(&mut self, id: ObjectId, kind: Kind, base: Option<ObjectId>) {
        if self.seen.insert(id) {
            *match kind {
                Kind::Commit => &mut self.counts.commits,
                Kind::Tree => &mut self.counts.trees,
                Kind::Blob => &mut self.counts.blobs,
                Kind::Tag => &mut self.counts.tags,
            } += 1;
            self.out.push(Wanted { id, kind, base, delta: None });
        }
    }

    fn load(&self, id: ObjectId) -> Result<Option<Vec<u8>>, Error> {
        let mut buffer = Vec::new();
        match graph::find(self.odb, id, &mut buffer)?.map(|it| it.kind) {
            None => Ok(None),
            Some(Kind::Tree) => Ok(Some(buffer)),
            Some(_) => Err(unreadable(id, "it is no tree")),
        }
    }

    /// Adds what is below tree `id` and differs from the same path in *every* one of `bases`.
    fn tree(&mut self, id: ObjectId, bases: &[ObjectId], depth: usize) -> Result<(), Error> {
        if bases.contains(&id) || self.seen.contains(&id) {
            return Ok(());
        }
        if depth > TREE_DEPTH_MAX {
            return Err(unreadable(id, "its trees go too deep"));
        }
        self.add(id, Kind::Tree, bases.first().copied());
        let data = self.load(id)?.ok_or(Error::Missing { id })?;
        let mut base_data = Vec::new();
        for base in bases {
            // A shallow or partial repository may lack a base, which then is of no use.
            base_data.extend(self.load(*base)?);
        }
        if let [base] = &*base_data
            && bases.len() == 1
            && let Some(delta) = delta::tree(base, &data, self.hash_bytes)
            && self.deltas_bytes + delta.len() <= DELTAS_BYTES_MAX
        {
            self.deltas_bytes += delta.len();
            if let Some(last) = self.out.last_mut() {
                last.delta = Some(delta.into());
            }
        }
        let changed = changed(id, &data, &base_data)?;
        drop((data, base_data));
        for (id, is_tree, bases) in changed {
            if is_tree {
                self.tree(id, &bases, depth + 1)?;
            } else {
                self.add(id, Kind::Blob, bases.first().copied());
            }
        }
        Ok(())
    }
}

type Changed = Vec<(ObjectId, bool, Vec<ObjectId>)>;

/// Entries of a tree that none of the bases has, with what stands at their path there.
fn changed(id: ObjectId, data: &[u8], bases: &[Vec<u8>]) -> Result<Changed, Error> {
    let mut cursors: Vec<_> =
        bases.iter().map(|it| TreeRefIter::from_bytes(it, id.kind()).peekable()).collect();
    let mut out = Vec::new();
    for entry in TreeRefIter::from_bytes(data, id.kind()) {
        let entry = entry.map_err(|err| unreadable(id, err))?;
        if entry.mode.is_commit() {
            continue;
        }
        let mut known = false;
        let mut same_path = Vec::new();
        for cursor in &mut cursors {
            let there = loop {
                match cursor.peek() {
                    Some(Ok(it)) => {
                        let left = (&**it.filename, it.mode.is_tree());
                        let right = (&**entry.filename, entry.mode.is_tree());
                        match delta::entry_order(left, right) {
                            Ordering::Less => drop(cursor.next()),
                            Ordering::Equal => break Some(*it),
                            Ordering::Greater => break None,
                        }
                    }
                    Some(Err(_)) | None => break None,
                }
            };
            if let Some(there) = there {
                known |= there.oid == entry.oid;
                if there.mode.is_tree() == entry.mode.is_tree() && !there.mode.is_commit() {
                    same_path.push(there.oid.to_owned());
                }
            }
        }
        if !known {
            out.push((entry.oid.to_owned(), entry.mode.is_tree(), same_path));
        }
    }
    Ok(out)
}

/// Where each wanted object stands in the list.
pub(crate) fn positions(wanted: &[Wanted]) -> HashMap<ObjectId, u32> {
    wanted.iter().zip(0u32..).map(|(it, at)| (it.id, at)).collect()
}
