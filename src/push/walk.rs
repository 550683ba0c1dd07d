//! Which objects does the remote lack, and what has it that resembles them?
//!
//! From the difference of trees: each new commit's tree is compared with those of its parents,
//! entry by entry, so the cost follows the change and not the repository. Parents come before
//! children, so that what a parent brought is not looked at again.
//! For each object the walk also knows its predecessor at the same path: the natural delta base.

use std::{
    cmp,
    collections::VecDeque,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

use gix::{
    ObjectId,
    hashtable::{HashMap, HashSet},
    objs::{Kind, TreeRefIter},
};

use super::{
    delta::{self, Ends},
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
    /// Commits to be sent.
    pub commits: usize,
    /// Trees to be sent.
    pub trees: usize,
    /// Blobs to be sent.
    pub blobs: usize,
    /// Tag objects to be sent.
    pub tags: usize,
    /// Commits that were looked at to find out.
    pub commits_visited: usize,
}

/// The most bytes of deltas that are kept from the walk; later ones are made again when sent.
const DELTAS_BYTES_MAX: usize = 8 << 20;

/// The most bytes of trees that are kept to be compared with.
const RECENT_BYTES_MAX: usize = 1 << 20;
const TREE_BYTES_KEPT_MAX: usize = RECENT_BYTES_MAX / 4;

/// What keeping a tree costs beside its bytes.
const KEEPING_BYTES: usize = 192;

/// The deepest a tree may go.
const TREE_DEPTH_MAX: usize = 2048;

/// What is asked for and what is there, before any tree is looked at.
#[derive(Debug, Default)]
pub(crate) struct Frontier {
    /// Commits that the remote lacks, newest first.
    pub(crate) commits: Vec<ObjectId>,
    /// Wanted objects that are no commits: tags on the way, and what such tags lead to.
    others: Vec<(ObjectId, Kind)>,
    /// Objects at the remote's tips that are no commits.
    held: HashSet<ObjectId>,
}

impl Frontier {
    /// Whether commits and what they hold are all that is wanted.
    pub(crate) fn is_plain(&self) -> bool {
        self.others.is_empty()
    }
}

/// Finds the commits that lie between `wants` and `tips`.
///
/// # Errors
/// [`Error::Missing`] if an object of it is not here.
pub(crate) fn frontier(
    graph: &mut Graph<'_>,
    wants: &[ObjectId],
    tips: impl IntoIterator<Item = ObjectId>,
) -> Result<Frontier, Error> {
    let mut out = Frontier::default();
    let mut have_commits = Vec::new();
    for tip in tips {
        let peeled = graph.peel(tip)?;
        out.held.extend(peeled.tags);
        match peeled.end {
            Some((id, Kind::Commit)) => have_commits.push(id),
            Some((id, _)) => drop(out.held.insert(id)),
            None => {}
        }
    }
    let mut want_commits = Vec::new();
    for want in wants {
        let peeled = graph.peel(*want)?;
        let (id, kind) = peeled.end.ok_or(Error::Missing { id: *want })?;
        out.others.extend(peeled.tags.into_iter().map(|it| (it, Kind::Tag)));
        match kind {
            Kind::Commit => want_commits.push(id),
            Kind::Tree | Kind::Blob => out.others.push((id, kind)),
            Kind::Tag => return Err(unreadable(id, "tags of tags without an end")),
        }
    }
    out.commits = graph.missing(&want_commits, &have_commits)?;
    Ok(out)
}

/// Finds everything that lies behind a frontier and that the remote lacks. Ends with nothing soon
/// after `stop` is set.
///
/// # Errors
/// [`Error::Missing`] if an object of it is not here.
pub(crate) fn objects(
    odb: &Odb,
    graph: &mut Graph<'_>,
    frontier: Frontier,
    stop: &AtomicBool,
) -> Result<(Vec<Wanted>, Counts), Error> {
    let mut walk = Walk {
        odb,
        hash_bytes: odb.store_ref().object_hash().len_in_bytes(),
        seen: frontier.held,
        out: Vec::new(),
        counts: Counts::default(),
        deltas_bytes: 0,
        recent: Recent::default(),
        buffer: Vec::new(),
        stop,
    };
    for (id, kind) in frontier.others.iter().filter(|it| it.1 != Kind::Tree) {
        walk.add(*id, *kind, None);
    }
    for id in &frontier.commits {
        walk.add(*id, Kind::Commit, None);
    }
    for id in frontier.commits.iter().rev() {
        let Some(commit) = graph.get(id).cloned() else {
            continue;
        };
        let mut bases = Vec::new();
        for parent in commit.parents {
            bases.extend(graph.tree_of(parent)?);
        }
        walk.tree(commit.tree, &bases, 0)?;
    }
    for (id, _) in frontier.others.iter().filter(|it| it.1 == Kind::Tree) {
        walk.tree(*id, &[], 0)?;
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
    recent: Recent,
    buffer: Vec<u8>,
    stop: &'a AtomicBool,
}

/// The trees that were read last: what a commit brings is what the next one is compared with.
#[derive(Default)]
struct Recent {
    trees: HashMap<ObjectId, Rc<Vec<u8>>>,
    order: VecDeque<ObjectId>,
    bytes: usize,
}

impl Recent {
    fn keep(&mut self, id: ObjectId, tree: &Rc<Vec<u8>>) {
        self.trees.insert(id, tree.clone());
        self.order.push_back(id);
        self.bytes += tree.len() + KEEPING_BYTES;
        while self.bytes > RECENT_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.trees.remove(&oldest);
            self.bytes -= gone.map_or(0, |it| it.len() + KEEPING_BYTES);
        }
    }
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

    /// Keeps the delta of the object that came last.
    fn remember(&mut self, delta: Option<Vec<u8>>) {
        if let (Some(delta), Some(last)) = (delta, self.out.last_mut())
            && self.deltas_bytes + delta.len() <= DELTAS_BYTES_MAX
        {
            self.deltas_bytes += delta.len();
            last.delta = Some(delta.into());
        }
    }

    fn load(&mut self, id: ObjectId) -> Result<Option<Rc<Vec<u8>>>, Error> {
        if let Some(tree) = self.recent.trees.get(&id) {
            return Ok(Some(tree.clone()));
        }
        let Some(object) = graph::find(self.odb, id, &mut self.buffer)? else { return Ok(None) };
        if object.kind != Kind::Tree {
            return Err(unreadable(id, "it is no tree"));
        }
        if object.data.len() > TREE_BYTES_KEPT_MAX {
            return Ok(Some(Rc::new(std::mem::take(&mut self.buffer))));
        }
        let tree = Rc::new(object.data.to_vec());
        self.recent.keep(id, &tree);
        Ok(Some(tree))
    }

    /// Adds what is below tree `id` and differs from the same path in *every* one of `bases`.
    fn tree(&mut self, id: ObjectId, bases: &[ObjectId], depth: usize) -> Result<(), Error> {
        if bases.contains(&id) || self.seen.contains(&id) || self.stop.load(Ordering::Relaxed) {
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
        let mut changed = None;
        if let [base] = &*base_data
            && bases.len() == 1
        {
            let ends = Ends::of(base, &data, self.hash_bytes);
            self.remember(delta::tree(base, &data, ends, self.hash_bytes));
            changed = Some(self::changed(id, ends.middle(&data), &[ends.middle(base)])?);
        }
        let changed = match changed {
            Some(changed) => changed,
            None => {
                let bases: Vec<_> = base_data.iter().map(|it| it.as_slice()).collect();
                self::changed(id, &data, &bases)?
            }
        };
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
fn changed(id: ObjectId, data: &[u8], bases: &[&[u8]]) -> Result<Changed, Error> {
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
                            cmp::Ordering::Less => drop(cursor.next()),
                            cmp::Ordering::Equal => break Some(*it),
                            cmp::Ordering::Greater => break None,
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
