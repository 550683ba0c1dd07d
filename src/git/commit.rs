//! A plan becomes a commit, if the branch has not moved.
//!
//! Knows nothing of remotes: a commit is ours before it is anyone's.

use super::pack::Objects;
use super::read::entries_at;
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::CommitId;
use crate::model::path::RepoPath;
use crate::step::Step;
use bstr::{BString, ByteSlice};
use gix::ObjectId;
use gix::objs::tree::EntryKind;
use gix::refs::Target;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use std::collections::HashMap;
use std::fs::File;
use std::io;
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
    /// Commits, all or nothing: objects in one synced pack, then branch and archive in one
    /// transaction, each only from the value that was seen.
    pub fn commit(&self, draft: &CommitDraft) -> Result<CommitOutcome, Error> {
        if self.tip(&draft.branch)? != draft.base {
            return Ok(CommitOutcome::Moved { now: self.tip(&draft.branch)? });
        }
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
        self.write_pack(self.new_objects(repo)?)?;
        let mut edits = Vec::new();
        if let Some(id) = made {
            edits.push(edit(&draft.branch, draft.base, id, subject(&draft.message))?);
        }
        if let Some((name, base, id)) = archived {
            edits.push(edit(name, base, id, "archive")?);
        }
        if edits.is_empty() {
            return Ok(CommitOutcome::Unchanged);
        }
        if let Some(outcome) = self.move_refs(edits, draft)? {
            return Ok(outcome);
        }
        Ok(made.map_or(CommitOutcome::Unchanged, CommitOutcome::Committed))
    }

    /// Moves refs in one transaction and syncs them. Gives an outcome where they could not move.
    fn move_refs(
        &self,
        edits: Vec<RefEdit>,
        draft: &CommitDraft,
    ) -> Result<Option<CommitOutcome>, Error> {
        let failed = |it: io::Error| Error::io("move the branch", it);
        let names: Vec<String> = edits.iter().map(|it| it.name.as_bstr().to_string()).collect();
        self.steps.pass(Step::MoveRef).map_err(failed)?;
        let time = gix::date::Time::new(draft.time.as_second(), 0);
        let mut buffer = gix::date::parse::TimeBuf::default();
        let signature = signature(&draft.author, time);
        if let Err(error) = self.gix.edit_references_as(edits, Some(signature.to_ref(&mut buffer)))
        {
            for name in names.iter().map(String::as_str).chain(["HEAD"]) {
                let lock = self.gix.common_dir().join(format!("{name}.lock"));
                if lock.exists() {
                    return Ok(Some(CommitOutcome::Locked { path: lock }));
                }
            }
            let now = self.tip(&draft.branch)?;
            if now != draft.base {
                return Ok(Some(CommitOutcome::Moved { now }));
            }
            return Err(Error::git("move the branch", error));
        }
        self.steps.pass(Step::Sync).map_err(failed)?;
        for name in names {
            self.sync_ref(&name).map_err(failed)?;
        }
        Ok(None)
    }

    pub(super) fn sync_ref(&self, name: &str) -> io::Result<()> {
        let path = self.gix.common_dir().join(name);
        File::open(&path)?.sync_all()?;
        // Its directory, and those above it that may be new, up to refs/.
        for dir in path.ancestors().skip(1) {
            File::open(dir)?.sync_all()?;
            if dir.ends_with("refs") {
                break;
            }
        }
        Ok(())
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

pub(super) fn edit(
    name: &str,
    from: Option<CommitId>,
    to: CommitId,
    why: &str,
) -> Result<RefEdit, Error> {
    let name = name
        .try_into()
        .map_err(|it: gix::refs::name::Error| Error::git(format!("use the ref {name}"), it))?;
    Ok(RefEdit {
        change: Change::Update {
            log: LogChange {
                mode: RefLog::AndReference,
                force_create_reflog: false,
                message: format!("commit: {why}").into(),
            },
            expected: match from {
                Some(id) => PreviousValue::MustExistAndMatch(Target::Object(id.0)),
                None => PreviousValue::MustNotExist,
            },
            new: Target::Object(to.0),
        },
        name,
        deref: false,
    })
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
