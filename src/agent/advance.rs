//! A branch goes to what others pushed, and work tree and index with it.

use super::follow::all_follow_head;
use super::lane::Lane;
use super::{Error, recovery};
use crate::cores;
use crate::git::{ChangedEntry, Filters, Follow, Following, Kind};
use crate::model::ids::{BlobId, CommitId};
use crate::model::operation::State;
use crate::model::path::escape;
use crate::store::Settlement;
use crate::worktree::Foreign;
use bstr::{BString, ByteSlice};
use std::collections::HashSet;

/// The largest file of others that is brought along in memory, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// So many files are looked at together.
const LOOKS_MAX: usize = 1024;

/// Finishes what a crash or a full disk kept from being brought along; nothing else may be done in
/// a work tree that holds half of what others pushed.
pub(super) fn follow_on(lane: &mut Lane) -> Result<(), Error> {
    let Some(it) = lane.repo.following()? else { return Ok(()) };
    let files = lane.repo.entries_between(it.from, it.to)?;
    lane.tree.sweep_beside(files.iter().map(|it| &it.path[..]))?;
    let standing = lane.head_to_commit_on()?;
    if standing.branch == it.branch && standing.commit == it.from && it.from != Some(it.to) {
        tracing::info!(commit_id = %it.to, "going on with what others pushed");
        return follow(lane, &it.branch, it.from, it.to);
    }
    // The branch has moved by now, by us or by somebody else.
    if let Some(head) = standing.commit {
        if !lane.repo.is_ancestor(it.to, head)? {
            turn_back(lane, &it, &files, head)?;
        } else if standing.branch == it.branch {
            carried_over(lane, it.from, it.to)?;
        }
    }
    Ok(lane.repo.follows_no_more()?)
}

/// Gives the files that were brought along what HEAD has: the branch went elsewhere, so that they
/// would look like uncommitted work, and be in the way of what others push next. A file that is not
/// what was brought along is a person's, and stays.
fn turn_back(
    lane: &Lane,
    it: &Following,
    brought: &[ChangedEntry],
    head: CommitId,
) -> Result<(), Error> {
    tracing::info!(commit_id = %it.to, "not going on with what others pushed: the branch moved meanwhile");
    let brought: HashSet<&BString> = brought.iter().map(|it| &it.path).collect();
    let mut changes = lane.repo.entries_between(Some(it.to), head)?;
    changes.retain(|it| brought.contains(&it.path));
    bring(lane, &way(lane, &changes)?.files)?;
    let paths: Vec<BString> = changes.into_iter().map(|it| it.path).collect();
    lane.repo.refresh_index(&paths, it.from, head)?;
    Ok(())
}

/// What the work tree gets: a path, and what is to be there.
type Files = Vec<(BString, Option<Foreign>)>;

/// What brings the work tree along, and all paths that differ.
///
/// # Errors
/// [`Error::Held`] where somebody's uncommitted work is in the way.
pub(super) fn way_to(
    lane: &Lane,
    from: Option<CommitId>,
    to: CommitId,
) -> Result<(Files, Vec<BString>), Error> {
    let changes = lane.repo.entries_between(from, to)?;
    let Way { files, mut blocked } = way(lane, &changes)?;
    if !blocked.is_empty() {
        let n = blocked.len();
        blocked.truncate(5);
        return Err(Error::Held {
            reason: format!(
                "others pushed changes to {n} files that have uncommitted changes here ({}); commit, stash or \
                 undo them, and the agent goes on by itself",
                blocked.join(", ")
            ),
        });
    }
    Ok((files, changes.into_iter().map(|it| it.path).collect()))
}

/// What a work tree needs for some changes.
#[derive(Default)]
struct Way {
    files: Files,
    /// What is neither as it was nor as it will be, as shown to people.
    blocked: Vec<String>,
}

fn way(lane: &Lane, changes: &[ChangedEntry]) -> Result<Way, Error> {
    let Way { mut files, mut blocked } = Way::default();
    let left_out = lane.repo.left_out(changes.iter().map(|it| &it.path))?;
    let mut converted = Converted { lane, filters: None };
    let tree = &lane.tree;
    for part in changes.chunks(LOOKS_MAX) {
        let found = cores::on_all(part, |it| tree.look(&it.path, FILE_BYTES_MAX))?;
        for (it, found) in part.iter().zip(found) {
            if found.is_none() && left_out.contains(&it.path) {
                continue;
            }
            // A file that is there already, as it will be, was brought along before a crash.
            if converted.is(&it.path, found.as_ref(), it.new)? {
                continue;
            }
            if !converted.is(&it.path, found.as_ref(), it.old)? {
                blocked.push(escape(&it.path));
                continue;
            }
            files.push((it.path.clone(), converted.of(&it.path, it.new)?));
        }
    }
    Ok(Way { files, blocked })
}

/// Writes what others have below our directories and elsewhere; those that we need stay.
fn bring(lane: &Lane, files: &Files) -> Result<(), Error> {
    let fabrics = lane.fabrics.iter().map(|it| &it.fabric);
    let keep = fabrics.flat_map(|it| [it.dir.clone(), it.raw(), it.managed(), it.unmanaged()]);
    lane.tree.tell_eye(files.iter().map(|it| it.0.as_slice()));
    Ok(lane.tree.write_foreign(files, &keep.collect::<Vec<_>>())?)
}

/// Moves the branch and brings work tree and index along, or changes nothing at all: what is cut off
/// in between is finished, or undone where the branch went elsewhere, before anything else is done.
pub(super) fn follow(
    lane: &mut Lane,
    branch: &str,
    from: Option<CommitId>,
    to: CommitId,
) -> Result<(), Error> {
    let (files, paths) = way_to(lane, from, to)?;
    lane.repo.follows(branch, from, to)?;
    bring(lane, &files)?;
    let why = "follow the remote";
    match lane.repo.move_branch(branch, from, to, &lane.settings.author, why)? {
        Follow::Moved => (),
        Follow::Contended => return Err(Error::HeadMoved),
    }
    lane.repo.refresh_index(&paths, from, to)?;
    all_follow_head(lane, Some(to))?;
    carried_over(lane, from, to)?;
    Ok(lane.repo.follows_no_more()?)
}

/// Operations whose commits were made again on top of others' work hear of it. A commit that came to
/// nothing, because others made the same change or a person has to decide, is with the others' work.
fn carried_over(lane: &Lane, from: Option<CommitId>, to: CommitId) -> Result<(), Error> {
    let Some(from) = from else { return Ok(()) };
    for mut operation in lane.store.open_operations()? {
        let State::Committed { commit_id: old, settled } = operation.state else { continue };
        if lane.repo.is_ancestor(old, to)? || !lane.repo.is_ancestor(old, from)? {
            continue;
        }
        operation.state = match recovery::commit_of(lane, &operation)? {
            Some(commit_id) => State::Committed { commit_id, settled },
            None => State::Pushed { commit_id: to },
        };
        lane.store.settle(Settlement { operation: Some(&operation), ..Settlement::default() })?;
    }
    Ok(())
}

/// What git keeps, as it lies in the work tree. Our own directories hold it byte for byte; elsewhere
/// line ends and filters are git's business, and read only where they are asked for.
struct Converted<'a> {
    lane: &'a Lane,
    filters: Option<Filters<'a>>,
}

impl<'a> Converted<'a> {
    /// Says whether what was found at a path is what a tree has there.
    fn is(
        &mut self,
        path: &BString,
        found: Option<&Foreign>,
        entry: Option<(Kind, BlobId)>,
    ) -> Result<bool, Error> {
        let repo = &self.lane.repo;
        Ok(match (found, entry) {
            (None, None) => true,
            // The work tree of a submodule is its owner's, whether it is there or not.
            (None | Some(Foreign::Directory), Some((Kind::Submodule, _))) => true,
            // What is left of a submodule, or a directory in the place of a file that went.
            (Some(Foreign::Directory), None) => true,
            (Some(Foreign::Link { target }), Some((Kind::Link, id))) => {
                repo.blob_id_of(target)? == id
            }
            (Some(Foreign::File { bytes, executable }), Some((kind, id)))
                if matches!(kind, Kind::File | Kind::Executable) =>
            {
                let runs = *executable == (kind == Kind::Executable) || !repo.keeps_modes();
                runs && (repo.blob_id_of(bytes)? == id || self.blob_id_of(path, bytes)? == Some(id))
            }
            _ => false,
        })
    }

    /// What a tree has at a path, for the work tree.
    fn of(
        &mut self,
        path: &BString,
        entry: Option<(Kind, BlobId)>,
    ) -> Result<Option<Foreign>, Error> {
        let Some((kind, id)) = entry else { return Ok(None) };
        Ok(Some(match kind {
            Kind::Submodule => Foreign::Directory,
            Kind::Link => Foreign::Link { target: self.lane.repo.blob(id)? },
            Kind::File | Kind::Executable => {
                let mut bytes = self.lane.repo.blob(id)?;
                if let Some(filters) = self.filters_for(path)? {
                    bytes = filters.work_tree_of(path.as_bstr(), &bytes)?;
                }
                Foreign::File { bytes: bytes.into(), executable: kind == Kind::Executable }
            }
        }))
    }

    fn blob_id_of(&mut self, path: &BString, bytes: &[u8]) -> Result<Option<BlobId>, Error> {
        let lane = self.lane;
        match self.filters_for(path)? {
            Some(it) => Ok(Some(it.blob_id_of(&lane.repo, path.as_bstr(), bytes)?)),
            None => Ok(None),
        }
    }

    fn filters_for(&mut self, path: &BString) -> Result<Option<&mut Filters<'a>>, Error> {
        if self.lane.fabrics.iter().any(|it| it.fabric.owns(path)) {
            return Ok(None);
        }
        if self.filters.is_none() {
            self.filters = Some(self.lane.repo.filters()?);
        }
        Ok(self.filters.as_mut())
    }
}
