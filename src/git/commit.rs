//! A plan becomes a commit, if the branch has not moved.
//!
//! Knows nothing of remotes: a commit is ours before it is anyone's.

use super::pack::Objects;
use super::read::entries_at;
use super::refs::{Move, Moved};
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::CommitId;
use crate::model::path::RepoPath;
use bstr::{BString, ByteSlice};
use gix::ObjectId;
use gix::objs::tree::EntryKind;
use std::collections::{BTreeSet, HashMap};
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
        if self.tip(&draft.branch)? != draft.base {
            return Ok(CommitOutcome::Moved { now: self.tip(&draft.branch)? });
        }
        self.write_doubted()?;
        let repo = self.gix.clone().with_object_memory();
        let made =
            commit_of(&repo, draft.base, &draft.writes, &draft.removals, &draft.message, draft)?;
        let archived = match &draft.archive {
            None => None,
            Some(it) => {
                let base = self.tip(&it.ref_name)?;
                let made = commit_of(&repo, base, &it.entries, &[], &it.message, draft)?;
                made.map(|id| (it.ref_name.as_str(), base, id))
            }
        };
        self.distrust_loose(&repo, draft, made)?;
        self.write_pack(self.new_objects(repo)?)?;
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
        let Some(made) = repo.objects.take_object_memory() else { return Ok(objects) };
        for (id, (kind, data)) in made.iter() {
            if !self.gix.has_object(*id) {
                objects.push((*id, *kind, data.clone()));
            }
        }
        Ok(objects)
    }

    /// What is there already is not written again. Where it lies loose somebody else has written it,
    /// perhaps a moment ago and without a sync: then everything is synced before the branch moves.
    fn distrust_loose(
        &self,
        repo: &gix::Repository,
        draft: &CommitDraft,
        made: Option<CommitId>,
    ) -> Result<(), Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("read a tree", it);
        let originals = draft.archive.iter().flat_map(|it| &it.entries);
        for (_, bytes) in draft.writes.iter().chain(originals) {
            if self.is_loose(self.blob_id_of(bytes)?.0) {
                self.durable.set(None);
                return Ok(());
            }
        }
        let Some(made) = made else { return Ok(()) };
        let commit = repo.find_commit(made.0).map_err(|it| failed(it.into()))?;
        let tree = commit.tree().map_err(|it| failed(it.into()))?;
        let mut dirs = BTreeSet::new();
        let paths = draft.writes.iter().map(|it| it.0.as_str().as_bytes());
        for path in paths.chain(draft.removals.iter().map(|it| it.as_slice())) {
            let slashes = path.iter().enumerate().filter(|it| *it.1 == b'/');
            dirs.extend(slashes.map(|(at, _)| &path[..at]));
        }
        let mut loose = self.is_loose(tree.id) || self.is_loose(made.0);
        for dir in dirs {
            let found = tree.lookup_entry(dir.split(|it| *it == b'/'));
            let found = found.map_err(|it| failed(it.into()))?;
            loose |= found.is_some_and(|it| self.is_loose(it.object_id()));
        }
        if loose {
            self.durable.set(None);
        }
        Ok(())
    }

    fn is_loose(&self, id: ObjectId) -> bool {
        let hex = id.to_string();
        let (dir, name) = hex.split_at(2);
        self.gix.objects.store_ref().path().join(dir).join(name).exists()
    }
}

/// Makes the objects of one commit; none where the tree stays as it is.
fn commit_of(
    repo: &gix::Repository,
    base: Option<CommitId>,
    writes: &[(RepoPath, Arc<[u8]>)],
    removals: &[BString],
    message: &str,
    draft: &CommitDraft,
) -> Result<Option<CommitId>, Error> {
    let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("edit a tree", it);
    let tree = match base {
        Some(id) => repo.find_commit(id.0).and_then(|it| it.tree_id().map(|it| it.detach())),
        None => Ok(ObjectId::empty_tree(repo.object_hash())),
    };
    let tree_id = tree.map_err(|it| failed(it.into()))?;
    let tree = match base {
        Some(_) => Some(repo.find_tree(tree_id).map_err(|it| failed(it.into()))?),
        None => None,
    };
    let mut editor = repo.edit_tree(tree_id).map_err(|it| failed(it.into()))?;
    let held = match &tree {
        Some(tree) => entries_at(tree, writes.iter().map(|it| it.0.as_str().as_bytes()))?,
        None => HashMap::new(),
    };
    for (path, bytes) in writes {
        let kind = match (&tree, held.get(path.as_str().as_bytes())) {
            (_, Some((mode, _))) => file_kind(*mode, path)?,
            (Some(tree), None) => new_file(tree, path)?,
            (None, None) => EntryKind::Blob,
        };
        let blob = repo.write_blob(bytes).map_err(|it| failed(it.into()))?;
        editor.upsert(path.as_str(), kind, blob).map_err(|it| failed(it.into()))?;
    }
    for path in removals {
        editor.remove(path.as_bstr()).map_err(|it| failed(it.into()))?;
    }
    let written = editor.write().map_err(|it| failed(it.into()))?.detach();
    if written == tree_id {
        return Ok(None);
    }
    let time = gix::date::Time::new(draft.time.as_second(), 0);
    let (mut a, mut b) = Default::default();
    let signature = signature(&draft.author, time);
    let parents = base.map(|it| it.0);
    let made = repo.new_commit_as(
        signature.to_ref(&mut a),
        signature.to_ref(&mut b),
        message,
        written,
        parents,
    );
    let made = made.map_err(|it| Error::git("make a commit", it))?;
    Ok(Some(CommitId(made.id)))
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
fn new_file(tree: &gix::Tree<'_>, path: &RepoPath) -> Result<EntryKind, Error> {
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
    Ok(EntryKind::Blob)
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
