//! What the repository holds: HEAD, blobs, trees and the log.

use super::{Error, Repo};
use crate::model::ids::{BlobId, CommitId};
use crate::model::path::RepoPath;
use bstr::BString;
use gix::objs::tree::{EntryKind, EntryMode};
use gix::prelude::FindExt;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Why nobody but the person at work should commit now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// HEAD names a commit and no branch.
    Detached,
    /// A merge, a rebase or the like is half done.
    InProgress(&'static str),
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Busy::Detached => f.write_str(
                "HEAD is detached; check a branch out (git switch BRANCH), and the agent goes on by itself",
            ),
            Busy::InProgress(what) => write!(
                f,
                "{what} is under way; finish or abort it (see git status), and the agent goes on by itself"
            ),
        }
    }
}

/// Where HEAD stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch, by its full name.
    pub branch: Option<String>,
    /// The commit; none on an unborn branch.
    pub commit: Option<CommitId>,
    /// What keeps us from committing.
    pub busy: Option<Busy>,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A link, or another repository.
    Other,
}

/// One entry of a directory: its name, what it is, and the id of its content.
pub type Listed = (BString, Entry, String);

/// One commit, as far as the records need it.
#[derive(Debug, Clone)]
pub struct Log {
    /// Its id.
    pub commit_id: CommitId,
    /// Its first parent.
    pub parent: Option<CommitId>,
    /// It has more than one parent.
    pub merge: bool,
    /// Its author, by name.
    pub author: String,
    /// When it was committed, in seconds since 1970.
    pub at: i64,
    /// Its message.
    pub message: String,
}

/// What a path is in a tree, as far as a work tree shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A file that can be run.
    Executable,
    /// A symbolic link; its blob is where it leads.
    Link,
    /// Another repository; its id is that of a commit there.
    Submodule,
}

/// A path that differs between two commits, whatever it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedEntry {
    /// Where.
    pub path: BString,
    /// What was there.
    pub old: Option<(Kind, BlobId)>,
    /// What is.
    pub new: Option<(Kind, BlobId)>,
}

/// A path that differs between two commits: what was there, and what is.
pub type Changed = (BString, Option<BlobId>, Option<BlobId>);

impl Repo {
    /// Where HEAD stands now.
    pub fn head(&self) -> Result<Head, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("read HEAD", it);
        let head = self.gix.head().map_err(|it| failed(it.into()))?;
        let branch = head.referent_name().map(|it| it.as_bstr().to_string());
        let commit = head.id().map(|it| CommitId(it.detach()));
        let busy = match self.gix.state() {
            Some(state) => Some(Busy::InProgress(in_progress(state))),
            None if head.is_detached() => Some(Busy::Detached),
            None => None,
        };
        Ok(Head { branch, commit, busy })
    }

    /// The commit that a ref (by its full name) names; what cannot be a name names nothing.
    pub fn tip(&self, name: &str) -> Result<Option<CommitId>, Error> {
        let full: Result<&gix::refs::FullNameRef, _> = name.try_into();
        if full.is_err() {
            return Ok(None);
        }
        let verb = || format!("read {name}");
        let found = self.gix.try_find_reference(name).map_err(|it| Error::git(verb(), it))?;
        let Some(mut found) = found else { return Ok(None) };
        let id = found.peel_to_id().map_err(|it| Error::git(verb(), it))?;
        Ok(Some(CommitId(id.detach())))
    }

    /// The blob at a path of a commit; none where there is no file.
    pub fn blob_at(&self, commit: Option<CommitId>, path: &[u8]) -> Result<Option<BlobId>, Error> {
        let Some(commit) = commit else { return Ok(None) };
        let tree = self.tree_of(commit)?;
        let components = path.split(|it| *it == b'/');
        let entry = tree.lookup_entry(components).map_err(|it| Error::git("read a tree", it))?;
        Ok(entry.filter(|it| it.mode().is_blob()).map(|it| BlobId(it.object_id())))
    }

    /// Says whether a commit has a directory, which is never empty in git.
    pub fn has_directory(&self, commit: Option<CommitId>, dir: &RepoPath) -> Result<bool, Error> {
        let Some(commit) = commit else { return Ok(false) };
        let tree = self.tree_of(commit)?;
        let entry = tree.lookup_entry_by_path(dir.as_path());
        let entry = entry.map_err(|it| Error::git("read a tree", it))?;
        Ok(entry.is_some_and(|it| it.mode().is_tree()))
    }

    /// The same as [`Repo::blob_at`] for many paths, reading each directory once: in a directory of 100,000 files one
    /// look-up after the other would read it as often as there are paths.
    pub fn blobs_at<'a>(
        &self,
        commit: Option<CommitId>,
        paths: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<HashMap<&'a [u8], BlobId>, Error> {
        let mut found = HashMap::new();
        let Some(commit) = commit else { return Ok(found) };
        let tree = self.tree_of(commit)?;
        for (path, (mode, id)) in entries_at(&tree, paths)? {
            if mode.is_blob() {
                found.insert(path, BlobId(id));
            }
        }
        Ok(found)
    }

    /// What lies in a directory of a commit: the first so many, in git's order; none where there is no
    /// such directory.
    pub fn directory(
        &self,
        commit: Option<CommitId>,
        dir: &RepoPath,
        max: usize,
    ) -> Result<Option<Vec<Listed>>, Error> {
        let Some(commit) = commit else { return Ok(None) };
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("read a tree", it);
        let mut tree = self.tree_of(commit)?;
        if !dir.is_top() {
            let found = tree.lookup_entry_by_path(dir.as_path()).map_err(|it| failed(it.into()))?;
            let Some(found) = found.filter(|it| it.mode().is_tree()) else { return Ok(None) };
            tree = found.object().map_err(|it| failed(it.into()))?.into_tree();
        }
        let mut entries = Vec::new();
        for entry in tree.iter().take(max) {
            let entry = entry.map_err(|it| failed(it.into()))?;
            let kind = match entry.mode().kind() {
                EntryKind::Blob | EntryKind::BlobExecutable => Entry::File,
                EntryKind::Tree => Entry::Directory,
                EntryKind::Link | EntryKind::Commit => Entry::Other,
            };
            entries.push((entry.filename().to_owned(), kind, entry.object_id().to_string()));
        }
        Ok(Some(entries))
    }

    /// The content of a blob.
    pub fn blob(&self, id: BlobId) -> Result<Vec<u8>, Error> {
        let found = self.gix.find_blob(id.0);
        found.map(|mut it| it.take_data()).map_err(|it| Error::git(format!("read blob {id}"), it))
    }

    /// Says whether a blob of this name is here.
    pub fn has_blob(&self, id: BlobId) -> bool {
        self.gix.find_header(id.0).is_ok_and(|it| it.kind() == gix::objs::Kind::Blob)
    }

    /// The blob that `bytes` would be.
    pub fn blob_id_of(&self, bytes: &[u8]) -> Result<BlobId, Error> {
        let id = gix::objs::compute_hash(self.gix.object_hash(), gix::objs::Kind::Blob, bytes);
        id.map(BlobId).map_err(|it| Error::git("hash a file", it))
    }

    /// The same for many.
    pub fn blob_ids_of(&self, files: &[&[u8]]) -> Result<Vec<BlobId>, Error> {
        let hash = self.gix.object_hash();
        let ids = crate::cores::on_all(files, |bytes| {
            gix::objs::compute_hash(hash, gix::objs::Kind::Blob, bytes).map(BlobId)
        });
        ids.map_err(|it| Error::git("hash a file", it))
    }

    /// Every file below `dir` in a commit, in git's order.
    pub fn files_below(
        &self,
        commit: CommitId,
        dir: &RepoPath,
    ) -> Result<Vec<(BString, BlobId)>, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("list a tree", it);
        let mut tree = self.tree_of(commit)?;
        if !dir.is_top() {
            let Some(entry) =
                tree.lookup_entry_by_path(dir.as_path()).map_err(|it| failed(it.into()))?
            else {
                return Ok(Vec::new());
            };
            if !entry.mode().is_tree() {
                return Ok(Vec::new());
            }
            tree = entry.object().map_err(|it| failed(it.into()))?.into_tree();
        }
        let mut found = Vec::new();
        let mut todo = vec![(BString::from(dir.as_str()), tree.id)];
        let mut buffer = Vec::new();
        while let Some((at, id)) = todo.pop() {
            let tree = self.gix.objects.find_tree_iter(&id, &mut buffer);
            for entry in tree.map_err(|it| failed(it.into()))? {
                let entry = entry.map_err(|it| failed(it.into()))?;
                let mut path = at.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.filename);
                match entry.mode.kind() {
                    EntryKind::Tree => todo.push((path, entry.oid.to_owned())),
                    EntryKind::Blob | EntryKind::BlobExecutable => {
                        found.push((path, BlobId(entry.oid.to_owned())));
                    }
                    EntryKind::Link | EntryKind::Commit => (),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// What differs between two commits below `dir`.
    pub fn changes_between(
        &self,
        from: Option<CommitId>,
        to: CommitId,
        dir: &RepoPath,
    ) -> Result<Vec<Changed>, Error> {
        let file = |it: Option<(Kind, BlobId)>| match it {
            Some((Kind::File | Kind::Executable, id)) => Some(id),
            Some((Kind::Link | Kind::Submodule, _)) | None => None,
        };
        let mut found = Vec::new();
        for ChangedEntry { path, old, new } in self.entries_between(from, to)? {
            let below = dir.is_top()
                || path
                    .strip_prefix(dir.as_str().as_bytes())
                    .is_some_and(|it| it.starts_with(b"/"));
            let (old, new) = (file(old), file(new));
            if below && (old.is_some() || new.is_some()) {
                found.push((path, old, new));
            }
        }
        Ok(found)
    }

    /// The paths that differ between two commits, whatever they are there.
    pub fn entries_between(
        &self,
        from: Option<CommitId>,
        to: CommitId,
    ) -> Result<Vec<ChangedEntry>, Error> {
        use gix::object::tree::diff::ChangeDetached as Change;
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("compare two commits", it);
        let old = from.map(|it| self.tree_of(it)).transpose()?;
        let new = self.tree_of(to)?;
        let options = gix::diff::Options::default().with_rewrites(None);
        let changes = self.gix.diff_tree_to_tree(old.as_ref(), Some(&new), options);
        let mut found = Vec::new();
        for change in changes.map_err(|it| failed(it.into()))? {
            let (path, old, new) = match change {
                Change::Addition { location, entry_mode, id, .. } => {
                    (location, None, shown(entry_mode, id))
                }
                Change::Deletion { location, entry_mode, id, .. } => {
                    (location, shown(entry_mode, id), None)
                }
                Change::Modification {
                    location,
                    previous_entry_mode,
                    previous_id,
                    entry_mode,
                    id,
                } => (location, shown(previous_entry_mode, previous_id), shown(entry_mode, id)),
                // Rewrites are not looked for.
                Change::Rewrite { .. } => continue,
            };
            if old.is_some() || new.is_some() {
                found.push(ChangedEntry { path, old, new });
            }
        }
        Ok(found)
    }

    /// The commits from `tip` back to, and without, `until`; the newest first, at most `limit`.
    pub fn log(
        &self,
        tip: CommitId,
        until: Option<CommitId>,
        limit: usize,
    ) -> Result<Vec<Log>, Error> {
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("walk the history", it);
        let walk = self.gix.rev_walk([tip.0]).with_hidden(until.map(|it| it.0));
        let mut found = Vec::new();
        for info in walk.all().map_err(|it| failed(it.into()))?.take(limit) {
            let info = info.map_err(|it| failed(it.into()))?;
            let commit = info.object().map_err(|it| failed(it.into()))?;
            let parents: Vec<_> = commit.parent_ids().take(2).collect();
            let author = commit.author().map_or_else(|_| String::new(), |it| it.name.to_string());
            found.push(Log {
                commit_id: CommitId(info.id),
                parent: parents.first().map(|it| CommitId(it.detach())),
                merge: parents.len() > 1,
                author,
                at: commit.time().map_or(0, |it| it.seconds),
                message: commit.message_raw_sloppy().to_string(),
            });
        }
        Ok(found)
    }

    /// When the content at `path` was changed last in the commits from `tip` back to `until`, in
    /// seconds since 1970; none where none of the newest `limit` did.
    pub fn last_changed(
        &self,
        path: &[u8],
        tip: CommitId,
        until: Option<CommitId>,
        limit: usize,
    ) -> Result<Option<i64>, Error> {
        for it in self.log(tip, until, limit)? {
            if self.blob_at(Some(it.commit_id), path)? != self.blob_at(it.parent, path)? {
                let commit = self.gix.find_commit(it.commit_id.0);
                let time = commit.map_err(|it| Error::git("read a commit", it))?;
                let time = time.time().map_err(|it| Error::git("read a commit", it))?;
                return Ok(Some(time.seconds));
            }
        }
        Ok(None)
    }

    /// How many commits `tip` has that `of` lacks, counted up to `limit`.
    pub fn ahead(&self, tip: CommitId, of: Option<CommitId>, limit: usize) -> Result<u64, Error> {
        if Some(tip) == of {
            return Ok(0);
        }
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("walk the history", it);
        // What the remote has may be unknown here, if others pushed it.
        let of = of.filter(|it| self.gix.has_object(it.0));
        let walk = self.gix.rev_walk([tip.0]).with_hidden(of.map(|it| it.0));
        Ok(walk.all().map_err(|it| failed(it.into()))?.take(limit).count() as u64)
    }

    /// Says whether `old` is `new` or one of its ancestors.
    pub fn is_ancestor(&self, old: CommitId, new: CommitId) -> Result<bool, Error> {
        if old == new {
            return Ok(true);
        }
        if !self.gix.has_object(old.0) {
            return Ok(false);
        }
        Ok(self.merge_base(old, new)? == Some(old))
    }

    /// Says whether the history of a commit is here.
    pub fn has_commit(&self, commit: CommitId) -> bool {
        self.gix.has_object(commit.0)
    }

    /// The best common ancestor of two commits.
    pub fn merge_base(&self, a: CommitId, b: CommitId) -> Result<Option<CommitId>, Error> {
        let bases = self.gix.merge_bases_many(a.0, &[b.0]);
        let bases = bases.map_err(|it| Error::git("find a common ancestor", it))?;
        Ok(bases.first().map(|it| CommitId(it.detach())))
    }

    pub(super) fn tree_of(&self, commit: CommitId) -> Result<gix::Tree<'_>, Error> {
        let verb = || format!("read commit {commit}");
        let found = self.gix.find_commit(commit.0).map_err(|it| Error::git(verb(), it))?;
        found.tree().map_err(|it| Error::git(verb(), it))
    }
}

/// What a tree holds at some paths, reading each directory once.
pub(super) fn entries_at<'a>(
    tree: &gix::Tree<'_>,
    paths: impl IntoIterator<Item = &'a [u8]>,
) -> Result<HashMap<&'a [u8], (EntryMode, gix::ObjectId)>, Error> {
    let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("read a tree", it);
    let mut by_dir: BTreeMap<&[u8], HashMap<&[u8], &'a [u8]>> = BTreeMap::new();
    for path in paths {
        let (dir, name) = match path.iter().rposition(|it| *it == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        by_dir.entry(dir).or_default().insert(name, path);
    }
    let mut found = HashMap::new();
    let mut buffer = Vec::new();
    for (dir, names) in by_dir {
        let id = match dir.is_empty() {
            true => Some(tree.id),
            false => {
                let entry = tree.lookup_entry(dir.split(|it| *it == b'/'));
                let entry = entry.map_err(|it| failed(it.into()))?;
                entry.filter(|it| it.mode().is_tree()).map(|it| it.object_id())
            }
        };
        let Some(id) = id else { continue };
        let entries = tree.repo.objects.find_tree_iter(&id, &mut buffer);
        for entry in entries.map_err(|it| failed(it.into()))? {
            let entry = entry.map_err(|it| failed(it.into()))?;
            let name: &[u8] = entry.filename;
            if let Some(path) = names.get(name) {
                found.insert(*path, (entry.mode, entry.oid.to_owned()));
            }
        }
    }
    Ok(found)
}

fn shown(mode: EntryMode, id: gix::ObjectId) -> Option<(Kind, BlobId)> {
    let kind = match mode.kind() {
        EntryKind::Tree => return None,
        EntryKind::Blob => Kind::File,
        EntryKind::BlobExecutable => Kind::Executable,
        EntryKind::Link => Kind::Link,
        EntryKind::Commit => Kind::Submodule,
    };
    Some((kind, BlobId(id)))
}

fn in_progress(state: gix::state::InProgress) -> &'static str {
    use gix::state::InProgress as State;
    match state {
        State::ApplyMailbox | State::ApplyMailboxRebase => "applying patches (git am)",
        State::Bisect => "a bisect",
        State::CherryPick | State::CherryPickSequence => "a cherry-pick",
        State::Merge => "a merge",
        State::Rebase | State::RebaseInteractive => "a rebase",
        State::Revert | State::RevertSequence => "a revert",
    }
}
