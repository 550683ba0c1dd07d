//! Trees are edited along the changed paths; what stays is copied byte by byte.
//!
//! One edited entry of a directory costs one pass over that directory's tree and nothing else, and
//! so do a hundred thousand: edits are sorted as git sorts entries and merged in.

use super::Error;
use bstr::ByteSlice;
use gix::ObjectId;
use gix::objs::Kind;
use gix::objs::tree::EntryKind;
use gix::prelude::FindExt;
use std::cmp::Ordering;

/// What a path gets: an entry, or nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit<'a> {
    /// The whole path.
    pub(super) path: &'a [u8],
    /// None takes the entry away.
    pub(super) entry: Option<(EntryKind, ObjectId)>,
}

/// The trees that an edit made, the topmost last.
pub(super) type Trees = Vec<(ObjectId, Vec<u8>)>;

/// Edits the tree `base`; none is an empty one. Gives the top tree's id and all trees that are new.
///
/// No file may lie where an edit wants a directory, and no directory where it wants a file: the
/// caller has looked, and the result would hold both. Taking away what is not there changes nothing.
pub(super) fn edit(
    repo: &gix::Repository,
    base: Option<ObjectId>,
    edits: &mut [Edit<'_>],
) -> Result<(ObjectId, Trees), Error> {
    edits.sort_by(|a, b| a.path.cmp(b.path));
    let mut trees = Trees::new();
    let top = Place { repo, base, depth: 0 }.edit(edits, &mut trees)?;
    let id = match top {
        Some(id) => id,
        None => ObjectId::empty_tree(repo.object_hash()),
    };
    if top.is_none() && base.is_some_and(|it| it != id) {
        trees.push((id, Vec::new()));
    }
    Ok((id, trees))
}

/// One directory in the old tree, and how many bytes of the edits' paths lead to it.
struct Place<'a> {
    repo: &'a gix::Repository,
    base: Option<ObjectId>,
    depth: usize,
}

/// What a name of this directory gets.
struct Named<'a> {
    name: &'a [u8],
    kind: EntryKind,
    id: Option<ObjectId>,
}

impl Named<'_> {
    fn is_tree(&self) -> bool {
        self.kind == EntryKind::Tree
    }
}

impl Place<'_> {
    /// None where nothing is left in it.
    fn edit(&self, edits: &[Edit<'_>], trees: &mut Trees) -> Result<Option<ObjectId>, Error> {
        let mut held = Vec::new();
        if let Some(id) = self.base {
            let found = self.repo.objects.find(&id, &mut held);
            let kind = found.map_err(|it| Error::git("read a tree", it))?.kind;
            if kind != Kind::Tree {
                return Err(Error::git("read a tree", format!("{id} is no tree")));
            }
        }
        let named = self.named(edits, &held, trees)?;
        let room = named.iter().map(|it| it.name.len() + 48).sum::<usize>();
        let mut out = Vec::with_capacity(held.len() + room);
        let mut named = named.iter().peekable();
        let mut rest = &held[..];
        while !rest.is_empty() {
            let old = self.next(&mut rest)?;
            let mut replaced = false;
            while let Some(new) =
                named.next_if(|it| order(it.name, it.is_tree(), old.name, old.tree).is_le())
            {
                replaced |= new.name == old.name && new.is_tree() == old.tree;
                put(&mut out, new);
            }
            if !replaced {
                out.extend_from_slice(old.bytes);
            }
        }
        named.for_each(|it| put(&mut out, it));
        if out.is_empty() {
            return Ok(None);
        }
        if out == held {
            return Ok(self.base);
        }
        let id = gix::objs::compute_hash(self.repo.object_hash(), Kind::Tree, &out)
            .map_err(|it| Error::git("hash a tree", it))?;
        trees.push((id, out));
        Ok(Some(id))
    }

    /// The edits of this directory by name, in the order of entries; those below it are made first.
    fn named<'a>(
        &self,
        edits: &[Edit<'a>],
        held: &[u8],
        trees: &mut Trees,
    ) -> Result<Vec<Named<'a>>, Error> {
        let mut named: Vec<Named<'a>> = Vec::new();
        let mut at = 0;
        while let Some(first) = edits.get(at) {
            let tail = &first.path[self.depth..];
            let Some(slash) = tail.find_byte(b'/') else {
                let (kind, id) = match first.entry {
                    Some((kind, id)) => (kind, Some(id)),
                    None => (EntryKind::Blob, None),
                };
                named.push(Named { name: tail, kind, id });
                at += 1;
                continue;
            };
            let (name, below) = (&tail[..slash], self.depth + slash + 1);
            // They stand together: all of them begin with the name and its slash.
            let all = edits[at..].partition_point(|it| it.path.starts_with(&first.path[..below]));
            let base = self.find(held, name)?;
            let place = Place { repo: self.repo, base, depth: below };
            let id = place.edit(&edits[at..at + all], trees)?;
            named.push(Named { name, kind: EntryKind::Tree, id });
            at += all;
        }
        named.sort_by(|a, b| order(a.name, a.is_tree(), b.name, b.is_tree()));
        Ok(named)
    }

    /// The directory of that name.
    fn find(&self, held: &[u8], name: &[u8]) -> Result<Option<ObjectId>, Error> {
        let mut rest = held;
        while !rest.is_empty() {
            let it = self.next(&mut rest)?;
            if it.tree && it.name == name {
                return Ok(Some(ObjectId::from_bytes_or_panic(it.id)));
            }
        }
        Ok(None)
    }

    /// Takes the next entry off the front: mode, space, name, NUL, id.
    fn next<'b>(&self, rest: &mut &'b [u8]) -> Result<Old<'b>, Error> {
        let torn = || Error::git("read a tree", "it is damaged");
        let bytes: &'b [u8] = rest;
        let space = bytes.find_byte(b' ').ok_or_else(torn)?;
        let name = &bytes[space + 1..];
        let name = &name[..name.find_byte(0).ok_or_else(torn)?];
        let from = space + 1 + name.len() + 1;
        let to = from + self.repo.object_hash().len_in_bytes();
        let id = bytes.get(from..to).ok_or_else(torn)?;
        let (bytes, after) = bytes.split_at(to);
        *rest = after;
        // As git writes it, and as some wrote it long ago.
        let tree = matches!(&bytes[..space], b"40000" | b"040000");
        Ok(Old { bytes, name, id, tree })
    }
}

struct Old<'a> {
    bytes: &'a [u8],
    name: &'a [u8],
    id: &'a [u8],
    tree: bool,
}

/// Git's order of entries: by name, where a directory's ends in a slash.
fn order(a: &[u8], a_tree: bool, b: &[u8], b_tree: bool) -> Ordering {
    let common = a.len().min(b.len());
    let behind = |name: &[u8], tree: bool| match name.get(common) {
        Some(it) => *it,
        None if tree => b'/',
        None => 0,
    };
    a[..common].cmp(&b[..common]).then_with(|| behind(a, a_tree).cmp(&behind(b, b_tree)))
}

fn put(out: &mut Vec<u8>, it: &Named<'_>) {
    if let Some(id) = it.id {
        out.extend_from_slice(it.kind.as_octal_str());
        out.push(b' ');
        out.extend_from_slice(it.name);
        out.push(0);
        out.extend_from_slice(id.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::prelude::Write as _;
    use std::collections::BTreeMap;

    type Files = BTreeMap<String, ObjectId>;

    fn edited(
        repo: &gix::Repository,
        base: Option<ObjectId>,
        changes: &[(String, Option<ObjectId>)],
    ) -> ObjectId {
        let mut edits: Vec<Edit<'_>> = changes
            .iter()
            .map(|(path, id)| Edit {
                path: path.as_bytes(),
                entry: id.map(|id| (EntryKind::Blob, id)),
            })
            .collect();
        let (id, trees) = edit(repo, base, &mut edits).unwrap();
        for (id, data) in trees {
            assert_eq!(repo.objects.write_buf(Kind::Tree, &data).unwrap(), id);
        }
        id
    }

    /// The same files as one tree, made by gix.
    fn whole(repo: &gix::Repository, files: &Files) -> ObjectId {
        let empty = ObjectId::empty_tree(repo.object_hash());
        let mut editor = repo.edit_tree(empty).unwrap();
        for (path, id) in files {
            editor.upsert(path.as_str(), EntryKind::Blob, *id).unwrap();
        }
        editor.write().unwrap().detach()
    }

    #[test]
    fn a_tree_edited_again_and_again_is_the_tree_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let repo = gix::init_bare(dir.path()).unwrap().with_object_memory();
        let blob = |n: u64| repo.write_blob(n.to_string()).unwrap().detach();
        // Names whose order depends on what is a directory.
        let dirs = ["", "a/", "a-b/", "a.b/", "a/b/", "a0/", "z/y/x/"];
        let names = ["a", "a-", "a.", "a0", "b", "f.yaml", "f", "z"];
        let (mut files, mut tree) = (Files::new(), None);
        let mut random = 88172645463325252u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % 1_000_003).unwrap() % below
        };
        for round in 0..300 {
            let mut changes = BTreeMap::new();
            for _ in 0..=next(5) {
                // A suffix keeps files and directories apart.
                let path = format!("{}{}_", dirs[next(dirs.len())], names[next(names.len())]);
                let gone = next(3) == 0;
                changes.insert(path, (!gone).then(|| blob(round)));
            }
            for (path, id) in &changes {
                match id {
                    Some(id) => files.insert(path.clone(), *id),
                    None => files.remove(path),
                };
            }
            let changes: Vec<_> = changes.into_iter().collect();
            let now = edited(&repo, tree, &changes);
            assert_eq!(now, whole(&repo, &files), "round {round}: {changes:?}");
            tree = Some(now);
        }
        let gone: Vec<_> = files.keys().map(|it| (it.clone(), None)).collect();
        assert_eq!(edited(&repo, tree, &gone), ObjectId::empty_tree(repo.object_hash()));
    }

    #[test]
    fn a_damaged_tree_is_told_and_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let repo = gix::init_bare(dir.path()).unwrap().with_object_memory();
        for torn in [&b"100644 a"[..], b"100644 a\0short", b"no entry"] {
            let id = repo.objects.write_buf(Kind::Tree, torn).unwrap();
            let mut edits = [Edit { path: b"b", entry: None }];
            assert!(edit(&repo, Some(id), &mut edits).is_err());
        }
    }
}
