//! A plan becomes a commit, if the branch has not moved.
//!
//! Knows nothing of remotes: a commit is ours before it is anyone's.

use super::pack::{Content, Objects};
use super::read::entries_at;
use super::refs::{Move, Moved};
use super::tree::Edit;
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::CommitId;
use crate::model::path::RepoPath;
use bstr::BString;
use gix::ObjectId;
use gix::objs::tree::EntryKind;
use gix::objs::{Kind, WriteTo};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What a commit changes and says.
#[derive(Debug, Clone)]
pub struct CommitDraft {
    /// The branch that moves, by its full name.
    pub branch: String,
    /// The commit it must be at; none for an unborn branch.
    pub base: Option<CommitId>,
    /// Files with their content.
    pub writes: Vec<(RepoPath, Arc<[u8]>)>,
    /// Files that leave the tree.
    pub removals: Vec<BString>,
    /// What it says.
    pub message: String,
    /// Who it is by.
    pub author: Author,
    /// When it was made.
    pub time: jiff::Timestamp,
    /// What the archive takes in the same breath.
    pub archive: Option<ArchiveDraft>,
}

/// Originals on their way to the archive.
#[derive(Debug, Clone)]
pub struct ArchiveDraft {
    /// The archive's ref, by its full name.
    pub ref_name: String,
    /// Files with their content.
    pub entries: Vec<(RepoPath, Arc<[u8]>)>,
    /// What its commit says.
    pub message: String,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The branch is at this commit now.
    Committed(CommitId),
    /// The tree is what it was: there is no commit. The archive may have one.
    Unchanged,
    /// Somebody else moved the branch meanwhile; nothing of ours is visible.
    Moved {
        /// Where it is now.
        now: Option<CommitId>,
    },
    /// Somebody holds a lock; it is theirs, and we try later.
    Locked {
        /// The lock.
        path: PathBuf,
    },
}

impl Repo {
    /// Commits, all or nothing: objects in one synced pack, then archive and branch under one set of
    /// locks, each only from the value that was seen.
    pub fn commit(&self, draft: &CommitDraft) -> Result<CommitOutcome, Error> {
        let committed = |it: &_| matches!(it, CommitOutcome::Committed(_));
        self.moving(|| self.try_commit(draft), committed)
    }

    fn try_commit(&self, draft: &CommitDraft) -> Result<CommitOutcome, Error> {
        if self.tip(&draft.branch)? != draft.base {
            return Ok(CommitOutcome::Moved { now: self.tip(&draft.branch)? });
        }
        self.write_doubted()?;
        let mut objects = Made::default();
        let made = self.make(
            draft.base,
            &draft.writes,
            &draft.removals,
            &draft.message,
            draft,
            &mut objects,
        )?;
        let archived = match &draft.archive {
            None => None,
            Some(it) => {
                let base = self.tip(&it.ref_name)?;
                let made = self.make(base, &it.entries, &[], &it.message, draft, &mut objects)?;
                made.map(|id| (it.ref_name.as_str(), base, id))
            }
        };
        self.write_pack(self.missing(objects))?;
        let mut moves = Vec::new();
        // The archive first: once the branch has moved, the drop may go.
        if let Some((name, from, to)) = archived {
            moves.push(Move { name, from, to, why: "archive" });
        }
        let why = format!("commit: {}", subject(&draft.message));
        if let Some(to) = made {
            self.owe_index(draft.base, to)?;
            moves.push(Move { name: &draft.branch, from: draft.base, to, why: &why });
        }
        if moves.is_empty() {
            return Ok(CommitOutcome::Unchanged);
        }
        if let Some(base) = draft.base {
            self.make_durable(base)?;
        }
        let on_head = made.map(|_| draft.branch.as_str());
        match self.move_refs(&moves, on_head, &draft.author, draft.time)? {
            Moved::There => (),
            Moved::Elsewhere => {
                return Ok(CommitOutcome::Moved { now: self.tip(&draft.branch)? });
            }
            Moved::Locked(path) => return Ok(CommitOutcome::Locked { path }),
        }
        if made.is_some() {
            self.durable.set(made);
        }
        Ok(made.map_or(CommitOutcome::Unchanged, CommitOutcome::Committed))
    }

    /// The objects made in memory that the disk does not have yet.
    pub(super) fn new_objects(&self, mut repo: gix::Repository) -> Result<Objects, Error> {
        let mut objects = Objects::new();
        let Some(mut made) = repo.objects.take_object_memory() else { return Ok(objects) };
        for (id, (kind, data)) in made.drain() {
            if !self.gix.has_object(id) {
                objects.push((id, kind, Content::Own(data)));
            }
        }
        Ok(objects)
    }

    /// Of what a commit is made of, that which the disk lacks.
    ///
    /// What is there already is not written again. Where it lies loose somebody else has written it,
    /// perhaps a moment ago and without a sync: then everything is synced before the branch moves.
    fn missing(&self, made: Made) -> Objects {
        let mut objects = made.objects;
        let mut loose = false;
        // The first look that finds nothing looks for new packs; one such look is enough for all.
        if let Some((id, _, _)) = objects.last() {
            self.gix.has_object(*id);
        }
        objects.retain(|(id, _, _)| {
            let lies_loose = self.is_loose(*id);
            loose |= lies_loose;
            !lies_loose && !self.gix.objects.exists_without_refresh(id)
        });
        if loose {
            self.durable.set(None);
        }
        objects
    }

    fn is_loose(&self, id: ObjectId) -> bool {
        let hex = id.to_string();
        let (dir, name) = hex.split_at(2);
        self.gix.objects.store_ref().path().join(dir).join(name).exists()
    }

    /// Makes the objects of one commit; none where the tree stays as it is.
    fn make(
        &self,
        base: Option<CommitId>,
        writes: &[(RepoPath, Arc<[u8]>)],
        removals: &[BString],
        message: &str,
        draft: &CommitDraft,
        made: &mut Made,
    ) -> Result<Option<CommitId>, Error> {
        let tree = base.map(|it| self.tree_of(it)).transpose()?;
        let blobs = self.blobs(writes, made)?;
        let kinds = kinds_at(tree.as_ref(), writes)?;
        let written = writes.iter().zip(kinds).zip(blobs);
        let mut edits: Vec<Edit<'_>> = written
            .map(|(((path, _), kind), id)| Edit {
                path: path.as_str().as_bytes(),
                entry: Some((kind, id)),
            })
            .collect();
        edits.extend(removals.iter().map(|path| Edit { path, entry: None }));
        let old = tree.as_ref().map(|it| it.id);
        let (new, trees) = super::tree::edit(&self.gix, old, &mut edits)?;
        if new == old.unwrap_or_else(|| ObjectId::empty_tree(self.gix.object_hash())) {
            return Ok(None);
        }
        for (id, data) in trees {
            made.add(id, Kind::Tree, Content::Own(data));
        }
        let signature = signature(&draft.author, gix::date::Time::new(draft.time.as_second(), 0));
        let commit = gix::objs::Commit {
            tree: new,
            parents: base.iter().map(|it| it.0).collect(),
            author: signature.clone(),
            committer: signature,
            encoding: None,
            message: message.into(),
            extra_headers: Vec::new(),
        };
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("make a commit", it);
        let mut bytes = Vec::new();
        commit.write_to(&mut bytes).map_err(|it| failed(it.into()))?;
        let id = gix::objs::compute_hash(self.gix.object_hash(), Kind::Commit, &bytes);
        let id = id.map_err(|it| failed(it.into()))?;
        made.add(id, Kind::Commit, Content::Own(bytes));
        Ok(Some(CommitId(id)))
    }

    /// The blobs of files. What was seen before is known by its place in memory: a drop that is
    /// filed as it came goes to the branch and to the archive.
    fn blobs(
        &self,
        files: &[(RepoPath, Arc<[u8]>)],
        made: &mut Made,
    ) -> Result<Vec<ObjectId>, Error> {
        let place = |it: &Arc<[u8]>| it.as_ptr() as usize;
        let unknown: Vec<&Arc<[u8]>> = files
            .iter()
            .map(|it| &it.1)
            .filter(|it| !made.known.contains_key(&place(it)))
            .collect();
        let hash = self.gix.object_hash();
        let ids = crate::cores::on_all(&unknown, |bytes| {
            gix::objs::compute_hash(hash, Kind::Blob, bytes)
        });
        let ids = ids.map_err(|it| Error::git("hash a file", it))?;
        for (bytes, id) in unknown.into_iter().zip(ids) {
            // Nothing is freed while the draft lives, and an empty slice has no place of its own.
            if !bytes.is_empty() {
                made.known.insert(place(bytes), id);
            }
            made.add(id, Kind::Blob, Content::Shared(bytes.clone()));
        }
        let empty = ObjectId::empty_blob(hash);
        Ok(files.iter().map(|it| made.known.get(&place(&it.1)).copied().unwrap_or(empty)).collect())
    }
}

/// The objects of a commit and of its archive, each once.
#[derive(Default)]
struct Made {
    objects: Objects,
    ids: HashSet<ObjectId>,
    /// Blobs by where their bytes lie in memory.
    known: HashMap<usize, ObjectId>,
}

impl Made {
    fn add(&mut self, id: ObjectId, kind: Kind, content: Content) {
        if self.ids.insert(id) {
            self.objects.push((id, kind, content));
        }
    }
}

/// What each file becomes in the tree; what has its place already keeps its executable bit, unless
/// it is no file.
fn kinds_at(
    tree: Option<&gix::Tree<'_>>,
    writes: &[(RepoPath, Arc<[u8]>)],
) -> Result<Vec<EntryKind>, Error> {
    let Some(tree) = tree else { return Ok(vec![EntryKind::Blob; writes.len()]) };
    let held = entries_at(tree, writes.iter().map(|it| it.0.as_str().as_bytes()))?;
    let mut free = BTreeSet::new();
    let kind = |(path, _): &(RepoPath, _)| match held.get(path.as_str().as_bytes()) {
        Some((mode, _)) => file_kind(*mode, path),
        None => {
            let above = path.parent().unwrap_or_else(RepoPath::top);
            if !free.contains(&above) {
                check_above(tree, path)?;
                free.insert(above);
            }
            Ok(EntryKind::Blob)
        }
    };
    writes.iter().map(kind).collect()
}

/// The kind of the file at `path`, which keeps its executable bit; something else is in the way.
fn file_kind(mode: gix::objs::tree::EntryMode, path: &RepoPath) -> Result<EntryKind, Error> {
    let in_the_way = |what| Err(Error::InTheWay { path: path.clone(), what });
    match mode.kind() {
        kind @ (EntryKind::Blob | EntryKind::BlobExecutable) => Ok(kind),
        EntryKind::Tree => in_the_way("a directory"),
        EntryKind::Link => in_the_way("a symbolic link"),
        EntryKind::Commit => in_the_way("a submodule"),
    }
}

/// A new file: everything above it must be a directory, or not be there.
fn check_above(tree: &gix::Tree<'_>, path: &RepoPath) -> Result<(), Error> {
    let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("read a tree", it);
    let mut above = path.parent();
    while let Some(dir) = above.filter(|it| !it.is_top()) {
        let found = tree.lookup_entry_by_path(dir.as_path()).map_err(|it| failed(it.into()))?;
        match found.map(|it| it.mode().is_tree()) {
            Some(true) => break,
            Some(false) => {
                let what = "below something that is no directory";
                return Err(Error::InTheWay { path: path.clone(), what });
            }
            None => above = dir.parent(),
        }
    }
    Ok(())
}

pub(super) fn signature(author: &Author, time: gix::date::Time) -> gix::actor::Signature {
    gix::actor::Signature {
        name: author.name.as_str().into(),
        email: author.email.as_str().into(),
        time,
    }
}

fn subject(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}
