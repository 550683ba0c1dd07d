//! Which objects does the remote lack, and what has it that resembles them?
//!
//! From the difference of trees: each new commit's tree is compared with those of its parents,
//! entry by entry, so the cost follows the change and not the repository. Parents come before
//! children, so that what a parent brought is not looked at again.
//! For each object the walk also knows its predecessor at the same path: the natural delta base.

use std::{
    cmp,
    ops::Range,
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
    graph::Graph,
    odb::{Odb, unreadable},
};

/// An object to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) id: ObjectId,
    pub(crate) kind: Kind,
    /// Its predecessor: an object that the remote has, or that is sent too.
    pub(crate) base: Option<ObjectId>,
    /// The delta against `base`, where the walk had both in hand anyway.
    pub(crate) delta: Option<Kept>,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) deltas: Deltas,
}

/// Deltas that the walk has kept, side by side: a small piece of memory for each would lie between
/// what reading an object takes for a moment, so that none of that could be used again.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    pages: Vec<Vec<u8>>,
    bytes: usize,
}

/// Where a delta lies.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    page: usize,
    range: Range<usize>,
}

impl Kept {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }
}

impl Deltas {
    /// Keeps a delta, unless there are too many.
    fn keep(&mut self, delta: &[u8]) -> Option<Kept> {
        self.bytes = Some(self.bytes + delta.len()).filter(|it| *it <= DELTAS_BYTES_MAX)?;
        let full = |it: &Vec<u8>| it.capacity() - it.len() < delta.len();
        if self.pages.last().is_none_or(full) {
            self.pages.push(Vec::with_capacity(delta.len().max(PAGE_BYTES)));
        }
        let page = self.pages.len() - 1;
        let bytes = &mut self.pages[page];
        let start = bytes.len();
        bytes.extend_from_slice(delta);
        Some(Kept { page, range: start..bytes.len() })
    }

    pub(crate) fn get(&self, at: &Kept) -> &[u8] {
        self.pages.get(at.page).and_then(|it| it.get(at.range.clone())).unwrap_or_default()
    }
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
const PAGE_BYTES: usize = 64 * 1024;

/// The most bytes of trees that are kept to be compared with.
const RECENT_BYTES_MAX: usize = 1 << 20;
const TREE_BYTES_KEPT_MAX: usize = RECENT_BYTES_MAX / 4;

/// What a tree's name and place take.
const PLACE_BYTES: usize = 64;

/// How many buffers wait for the next trees.
const SPARE_MAX: usize = 4;

/// In a push of so few commits, larger trees than this are read beside what they are compared with.
const SMALL_COMMITS_MAX: usize = 4;
const LARGE_BYTES_MIN: u64 = 256 * 1024;

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
        let peeled = graph.peel_tip(tip)?;
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
) -> Result<(Objects, Counts), Error> {
    let mut walk = Walk {
        odb,
        hash_bytes: odb.hash().len_in_bytes(),
        seen: frontier.held,
        out: Objects::default(),
        counts: Counts::default(),
        recent: Recent::default(),
        spare: Vec::new(),
        is_small: frontier.commits.len() <= SMALL_COMMITS_MAX,
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
        for parent in graph.parents(&commit).to_vec() {
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
    out: Objects,
    counts: Counts,
    recent: Recent,
    spare: Vec<Tree>,
    is_small: bool,
    stop: &'a AtomicBool,
}

/// A tree, as it is in the object.
type Tree = Vec<u8>;

/// The trees that were read last: what a commit brings is what the next one is compared with.
/// They lie side by side in two halves, of which the older makes room: so many small pieces of
/// memory, each kept for a while, would leave holes between what is needed for a moment only.
#[derive(Default)]
struct Recent {
    halves: [Vec<u8>; 2],
    /// How many trees are in each.
    kept: [usize; 2],
    now: usize,
    places: HashMap<ObjectId, (usize, Range<usize>)>,
}

impl Recent {
    fn get(&self, id: &ObjectId) -> Option<&[u8]> {
        let (half, range) = self.places.get(id)?;
        self.halves[*half].get(range.clone())
    }

    fn keep(&mut self, id: ObjectId, tree: &[u8]) {
        if tree.len() > TREE_BYTES_KEPT_MAX {
            return;
        }
        let names = self.kept[self.now] * PLACE_BYTES;
        if self.halves[self.now].len() + tree.len() + names > RECENT_BYTES_MAX / 2 {
            self.now ^= 1;
            let now = self.now;
            self.halves[now].clear();
            self.kept[now] = 0;
            self.places.retain(|_, it| it.0 != now);
        }
        let half = &mut self.halves[self.now];
        half.reserve_exact((RECENT_BYTES_MAX / 2).saturating_sub(half.len()));
        let start = half.len();
        half.extend_from_slice(tree);
        self.places.insert(id, (self.now, start..half.len()));
        self.kept[self.now] += 1;
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
            self.out.wanted.push(Wanted { id, kind, base, delta: None });
        }
    }

    /// Keeps the delta of the object that came last.
    fn remember(&mut self, delta: Option<Vec<u8>>) {
        let Objects { wanted, deltas } = &mut self.out;
        if let (Some(delta), Some(last)) = (delta, wanted.last_mut()) {
            last.delta = deltas.keep(&delta);
        }
    }

    /// Reads a tree; `false` if it is not here.
    fn load(&mut self, id: ObjectId, out: &mut Vec<u8>) -> Result<bool, Error> {
        if let Some(tree) = self.recent.get(&id) {
            out.clear();
            out.extend_from_slice(tree);
            return Ok(true);
        }
        let found = read(self.odb, id, out)?;
        if found {
            self.recent.keep(id, out);
        }
        Ok(found)
    }

    /// Loads a tree and what it is compared with, of which what is not here is left out: a shallow
    /// or partial repository may lack it.
    fn load_with(&mut self, id: ObjectId, bases: &[ObjectId]) -> Result<(Tree, Vec<Tree>), Error> {
        let mut tree = self.spare.pop().unwrap_or_default();
        let mut base_trees = Vec::with_capacity(bases.len());
        if let [base] = *bases
            && self.is_large(id)
        {
            // Reading takes most of the time, and one core reads one tree.
            let odb = self.odb.clone();
            std::thread::scope(|scope| {
                let other = scope.spawn(move || {
                    let mut buffer = Vec::new();
                    read(&odb, base, &mut buffer).map(|found| found.then_some(buffer))
                });
                if !self.load(id, &mut tree)? {
                    return Err(Error::Missing { id });
                }
                let base = other.join().unwrap_or_else(|it| std::panic::resume_unwind(it))?;
                base_trees.extend(base);
                Ok(())
            })?;
            return Ok((tree, base_trees));
        }
        if !self.load(id, &mut tree)? {
            return Err(Error::Missing { id });
        }
        for base in bases {
            let mut buffer = self.spare.pop().unwrap_or_default();
            if self.load(*base, &mut buffer)? {
                base_trees.push(buffer);
            }
        }
        Ok((tree, base_trees))
    }

    /// Keeps a buffer for the next tree, unless it is large.
    fn give_back(&mut self, buffer: Tree) {
        if buffer.capacity() <= 2 * TREE_BYTES_KEPT_MAX && self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// Whether a tree is worth a thread. Only a small push asks: asking costs a look at each tree.
    fn is_large(&self, id: ObjectId) -> bool {
        let header = self.is_small.then(|| self.odb.header(id).ok().flatten());
        header.flatten().is_some_and(|it| it.size > LARGE_BYTES_MIN)
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
        let (data, base_data) = self.load_with(id, bases)?;
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
                let bases: Vec<_> = base_data.iter().map(Vec::as_slice).collect();
                self::changed(id, &data, &bases)?
            }
        };
        // What lies below needs the room.
        base_data.into_iter().chain([data]).for_each(|it| self.give_back(it));
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

/// Reads a tree; `false` if it is not here.
fn read(odb: &Odb, id: ObjectId, buffer: &mut Vec<u8>) -> Result<bool, Error> {
    let Some(object) = odb.find(id, buffer)? else { return Ok(false) };
    if object.kind != Kind::Tree {
        return Err(unreadable(id, "it is no tree"));
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trees_that_were_read_last_are_kept_and_no_more() {
        let mut recent = Recent::default();
        let id = |n: u32| {
            let mut bytes = [0; 20];
            // Spread like a hash, which maps of names count on.
            let spread = u64::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bytes[..8].copy_from_slice(&spread.to_be_bytes());
            ObjectId::from_bytes_or_panic(&bytes)
        };
        // Of any size at first, and then so many small ones that their names are what counts.
        let tree = |n: u32| vec![n as u8; if n < 3000 { n as usize * 7 % 3000 } else { 1 }];
        for n in 0..30_000 {
            recent.keep(id(n), &tree(n));
            for back in [0, 1, 40].map(|it| n.saturating_sub(it)) {
                assert_eq!(recent.get(&id(back)), Some(&*tree(back)), "{back} of {n}");
            }
            let bytes: usize = recent.halves.iter().map(Vec::capacity).sum();
            assert!(
                bytes <= RECENT_BYTES_MAX && recent.places.len() * PLACE_BYTES <= RECENT_BYTES_MAX
            );
        }
        assert_eq!(recent.get(&id(0)), None);
        recent.keep(id(0), &vec![0; TREE_BYTES_KEPT_MAX + 1]);
        assert_eq!(recent.get(&id(0)), None);
    }
}
