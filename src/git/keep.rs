//! A few files kept under a ref of our own, so that they outlive the store and git's own sweeping.

use super::refs::{Move, Moved};
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::CommitId;
use gix::objs::tree::EntryKind;
use std::collections::BTreeMap;

impl Repo {
    /// Keeps `files` (plain names and contents) under the ref `name`, in place of what was there.
    ///
    /// The commits that `led_to` it stay with it: git drops no commit that a ref leads to. So do
    /// those of what was there.
    pub fn keep(
        &self,
        name: &str,
        files: &[(&str, &[u8])],
        led_to: Option<CommitId>,
        author: &Author,
        message: &str,
    ) -> Result<CommitId, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("keep a file", it);
        let repo = self.gix.clone().with_object_memory();
        let empty = gix::ObjectId::empty_tree(repo.object_hash());
        let mut editor = repo.edit_tree(empty).map_err(|it| failed(it.into()))?;
        for (path, bytes) in files {
            let id = repo.write_blob(bytes).map_err(|it| failed(it.into()))?;
            editor.upsert(*path, EntryKind::Blob, id).map_err(|it| failed(it.into()))?;
        }
        let tree = editor.write().map_err(|it| failed(it.into()))?.detach();
        let time = gix::date::Time::new(crate::clock::now().as_second(), 0);
        let (mut a, mut b) = Default::default();
        let signature = super::commit::signature(author, time);
        let before = self.tip(name)?;
        let parents = self.leading_to(before, led_to)?;
        let made = repo.new_commit_as(
            signature.to_ref(&mut a),
            signature.to_ref(&mut b),
            message,
            tree,
            parents,
        );
        let made = made.map_err(|it| failed(it.into()))?.id;
        self.write_pack(self.new_objects(repo)?)?;
        let to = CommitId(made);
        let moves = [Move { name, from: before, to, why: "keep" }];
        match self.move_refs(&moves, None, author, crate::clock::now())? {
            Moved::There => Ok(to),
            // Nobody but us writes these refs, and one agent holds the lock.
            Moved::Elsewhere | Moved::Locked(_) => {
                let source = std::io::Error::other("another process holds its lock");
                Err(Error::io(format!("move {name}"), source))
            }
        }
    }

    /// The parents of what is kept. Kept twice is the same as once.
    fn leading_to(
        &self,
        before: Option<CommitId>,
        led_to: Option<CommitId>,
    ) -> Result<Vec<gix::ObjectId>, Error> {
        let Some(before) = before else { return Ok(led_to.iter().map(|it| it.0).collect()) };
        match led_to {
            Some(it) if !self.is_ancestor(it, before)? => Ok(vec![before.0, it.0]),
            _ => {
                let commit = self.gix.find_commit(before.0);
                let commit = commit.map_err(|it| Error::git("read what is kept", it))?;
                Ok(commit.parent_ids().map(|it| it.detach()).collect())
            }
        }
    }

    /// Gives a commit a name below `refs/` that was free.
    pub fn mark(&self, name: &str, at: CommitId, author: &Author) -> Result<(), Error> {
        self.make_durable(at)?;
        let moves = [Move { name, from: None, to: at, why: "keep" }];
        match self.move_refs(&moves, None, author, crate::clock::now())? {
            Moved::There => Ok(()),
            Moved::Elsewhere | Moved::Locked(_) => {
                let source = std::io::Error::other("there is one of this name, or it is locked");
                Err(Error::io(format!("make {name}"), source))
            }
        }
    }

    /// What is kept under the ref `name`; none where there is no such ref.
    pub fn kept(&self, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Error> {
        let Some(tip) = self.tip(name)? else { return Ok(None) };
        let mut found = BTreeMap::new();
        for (path, blob) in self.files_below(tip, &crate::model::path::RepoPath::top())? {
            found.insert(path.to_string(), self.blob(blob)?);
        }
        Ok(Some(found))
    }

    /// The refs that begin with `prefix`, by their full names.
    pub fn refs_below(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| Error::git("list refs", it);
        let platform = self.gix.references().map_err(|it| failed(it.into()))?;
        let mut found = Vec::new();
        for it in platform.prefixed(prefix).map_err(|it| failed(it.into()))? {
            found.push(it.map_err(|it| failed(it.into()))?.name().as_bstr().to_string());
        }
        Ok(found)
    }

    /// Lets a ref of ours go; nothing happens where there is none. What a crash, or a lock of
    /// somebody else's, keeps of it is let go again by whoever asks next.
    pub fn let_go(&self, name: &str) -> Result<(), Error> {
        match self.remove_ref(name)? {
            Moved::There | Moved::Elsewhere => Ok(()),
            Moved::Locked(lock) => {
                let lock = lock.display();
                tracing::warn!(name, %lock, "cannot remove this ref, which another process has locked; it is tried again later");
                Ok(())
            }
        }
    }
}
