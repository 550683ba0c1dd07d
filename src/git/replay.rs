//! Behind with work of our own: our commits are made again on top of what others pushed.
//!
//! Each changed path is carried over where the other side still has what our commit began with.
//! Where both changed it to different contents, theirs stays and ours is handed back as an overlap:
//! nothing is merged by guessing, and nothing is lost. Only objects are made here; no ref moves but
//! by [`Repo::move_branch`], from the value that was seen.

use super::refs::{Move, Moved};
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::{BlobId, CommitId};
use bstr::{BString, ByteSlice};
use gix::object::tree::diff::ChangeDetached;
use gix::objs::tree::EntryMode;

/// How many commits are carried over at most; who has more of their own looks at it in person.
const REPLAYED_MAX: usize = 10_000;

/// One path that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Where.
    pub path: BString,
    /// What both began with.
    pub base: Option<BlobId>,
    /// What our commit made of it.
    pub ours: Option<BlobId>,
    /// What the others made of it, which stays.
    pub theirs: Option<BlobId>,
    /// Our commit.
    pub commit: CommitId,
}

/// Our commits on top of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The new tip; theirs, where nothing of ours is left to add.
    pub tip: CommitId,
    /// Which commit became which; a commit with nothing left to change has none.
    pub mapping: Vec<(CommitId, Option<CommitId>)>,
    /// What was not carried over.
    pub overlaps: Vec<Overlap>,
}

/// Whether the branch could be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It is there.
    Moved,
    /// It was not where it was seen, or somebody holds a lock.
    Contended,
}

impl Repo {
    /// Makes the commits that `tip` has and `onto` lacks again on top of `onto`.
    ///
    /// Author, message and time stay. People's commits among ours are carried over alike.
    ///
    /// # Errors
    /// [`Error::CannotReplay`] where one of them is a merge, or changes links or submodules.
    pub fn replay(&self, tip: CommitId, onto: CommitId) -> Result<Replay, Error> {
        let base = self.merge_base(tip, onto)?;
        let mut ours = self.log(tip, Some(onto), REPLAYED_MAX + 1)?;
        let first = ours.last().map_or(tip, |it| it.commit_id);
        if base.is_none() || ours.len() > REPLAYED_MAX {
            let why =
                "it shares no history with what the remote has, or there are too many commits";
            return Err(Error::CannotReplay { commit: first.short(), why });
        }
        ours.reverse();
        let repo = self.gix.clone().with_object_memory();
        let mut replay = Replay { tip: onto, mapping: Vec::new(), overlaps: Vec::new() };
        for it in &ours {
            let made = self.carry_over(&repo, it.commit_id, replay.tip, &mut replay.overlaps)?;
            replay.mapping.push((it.commit_id, made));
            replay.tip = made.unwrap_or(replay.tip);
        }
        self.write_pack(self.new_objects(repo)?)?;
        Ok(replay)
    }

    fn carry_over(
        &self,
        repo: &gix::Repository,
        commit_id: CommitId,
        onto: CommitId,
        overlaps: &mut Vec<Overlap>,
    ) -> Result<Option<CommitId>, Error> {
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("replay a commit", it);
        let cannot = |why| Error::CannotReplay { commit: commit_id.short(), why };
        let commit = repo.find_commit(commit_id.0).map_err(|it| failed(it.into()))?;
        let parents: Vec<_> = commit.parent_ids().collect();
        if parents.len() > 1 {
            return Err(cannot("it is a merge; pull by hand (git pull) and the agent goes on"));
        }
        let old_tree = match parents.first() {
            Some(it) => {
                let parent = repo.find_commit(it.detach()).map_err(|it| failed(it.into()))?;
                parent.tree().map_err(|it| failed(it.into()))?
            }
            None => repo.empty_tree(),
        };
        let tree = commit.tree().map_err(|it| failed(it.into()))?;
        let options = gix::diff::Options::default().with_rewrites(None);
        let changes = repo.diff_tree_to_tree(Some(&old_tree), Some(&tree), options);
        let onto_commit = repo.find_commit(onto.0).map_err(|it| failed(it.into()))?;
        let onto_tree = onto_commit.tree().map_err(|it| failed(it.into()))?;
        let mut editor = repo.edit_tree(onto_tree.id).map_err(|it| failed(it.into()))?;
        for change in changes.map_err(|it| failed(it.into()))? {
            let Some((path, base, ours)) = sides(change) else { continue };
            if [&base, &ours].into_iter().flatten().any(|it| !it.0.is_blob()) {
                return Err(cannot(
                    "it changes links or submodules; pull by hand and the agent goes on",
                ));
            }
            let components = path.split(|it| *it == b'/');
            let theirs = onto_tree.lookup_entry(components).map_err(|it| failed(it.into()))?;
            let theirs = theirs.map(|it| (it.mode(), it.object_id()));
            let id = |side: &Side| side.as_ref().map(|it| it.1);
            if id(&theirs) == id(&ours) {
                continue;
            }
            if id(&theirs) != id(&base) {
                let blob = |side: &Side| id(side).map(BlobId);
                overlaps.push(Overlap {
                    base: blob(&base),
                    ours: blob(&ours),
                    theirs: blob(&theirs),
                    commit: commit_id,
                    path,
                });
                continue;
            }
            let path = path.as_bstr();
            let edited = match ours {
                Some((mode, id)) => editor.upsert(path, mode.kind(), id).map(drop),
                None => editor.remove(path).map(drop),
            };
            edited.map_err(|it| failed(it.into()))?;
        }
        let written = editor.write().map_err(|it| failed(it.into()))?.detach();
        if written == onto_tree.id {
            return Ok(None);
        }
        let decoded = commit.decode().map_err(|it| failed(it.into()))?;
        let mut again = gix::objs::Commit::try_from(decoded).map_err(|it| failed(it.into()))?;
        again.tree = written;
        again.parents = [onto.0].into_iter().collect();
        // A signature is of the old commit, and would be wrong on the new one.
        again.extra_headers.retain(|(name, _)| name != "gpgsig" && name != "gpgsig-sha256");
        let id = repo.write_object(&again).map_err(|it| failed(it.into()))?;
        Ok(Some(CommitId(id.detach())))
    }

    /// Moves a branch from the value that was seen; the work tree is the caller's to bring along.
    pub fn move_branch(
        &self,
        branch: &str,
        from: Option<CommitId>,
        to: CommitId,
        author: &Author,
        why: &str,
    ) -> Result<Follow, Error> {
        // What others wrote is not synced one by one.
        self.make_durable(to)?;
        self.owe_index(from, to)?;
        let moves = [Move { name: branch, from, to, why }];
        match self.move_refs(&moves, Some(branch), author, crate::clock::now())? {
            Moved::There => {
                self.durable.set(Some(to));
                Ok(Follow::Moved)
            }
            Moved::Elsewhere | Moved::Locked(_) => Ok(Follow::Contended),
        }
    }
}

type Side = Option<(EntryMode, gix::ObjectId)>;

/// The two sides of a change to something that is no directory.
fn sides(change: ChangeDetached) -> Option<(BString, Side, Side)> {
    let (path, old, new) = match change {
        ChangeDetached::Addition { location, entry_mode, id, .. } => {
            (location, None, Some((entry_mode, id)))
        }
        ChangeDetached::Deletion { location, entry_mode, id, .. } => {
            (location, Some((entry_mode, id)), None)
        }
        ChangeDetached::Modification {
            location,
            previous_entry_mode,
            previous_id,
            entry_mode,
            id,
        } => (location, Some((previous_entry_mode, previous_id)), Some((entry_mode, id))),
        ChangeDetached::Rewrite { .. } => return None,
    };
    let file = |side: Side| side.filter(|it| !it.0.is_tree());
    let (old, new) = (file(old), file(new));
    (old.is_some() || new.is_some()).then_some((path, old, new))
}
