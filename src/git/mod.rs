//! The hand on the history: one work tree's repository, read and changed with gix.
//!
//! Trees are edited from the commit we saw, along the changed paths only; the branch moves only
//! from the value we saw. New objects become one pack, synced before any ref names it, because gix
//! itself never syncs. People's index, locks and other refs are theirs.

mod commit;
mod tree;
mod edited;
mod refs;
mod doubt;
mod locks;
mod index;
mod keep;
mod pack;
mod fold;
mod filters;
mod heal;
mod read;
mod versions;
mod replay;
mod remote;

pub use commit::{ArchiveDraft, CommitDraft, CommitOutcome};
pub use edited::Edited;
pub use filters::Filters;
pub use heal::Cleared;
pub use index::IndexOutcome;
pub use read::{Busy, Changed, ChangedEntry, Entry, Head, Kind, Log};
pub use remote::{FetchOutcome, PushOutcome, Remote};
pub use replay::{Carry, Follow, Following, Meeting, Overlap, Replay, Resolution, merge_text};

use crate::model::ids::CommitId;
use crate::model::path::RepoPath;
use crate::step::Steps;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// So many new packs may be mapped into memory.
const PACKS_MAPPED_MAX: u32 = 16;

/// Whether it is worth trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Later, by itself.
    Later,
    /// Not before a person acted.
    Never,
}

/// What the hand on the history could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No repository, or none we may open.
    #[error("cannot open a git repository at {path}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A repository without a work tree has no `raw/`.
    #[error("{path} is a bare repository, which has no work tree to watch")]
    Bare {
        /// Where.
        path: PathBuf,
    },
    /// An object, a ref or the index.
    #[error("cannot {verb}")]
    Git {
        /// What, in words.
        verb: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk.
    #[error("cannot {verb}")]
    Io {
        /// What, in words.
        verb: String,
        /// Why.
        source: io::Error,
    },
    /// HEAD has something else where a file of ours belongs.
    #[error("{path} is {what} in the last commit, so no file can go there")]
    InTheWay {
        /// Where.
        path: RepoPath,
        /// A directory, a symbolic link, a submodule.
        what: &'static str,
    },
    /// No remote of that name.
    #[error("there is no remote `{name}`")]
    NoRemote {
        /// The name.
        name: String,
    },
    /// A secret could not be read.
    #[error("cannot read the token in {path}")]
    Token {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Our commits cannot be made again on top of another's.
    #[error("cannot replay commit {commit}: {why}")]
    CannotReplay {
        /// Which.
        commit: String,
        /// Why.
        why: &'static str,
    },
    /// Something on the way to the remote.
    #[error("cannot push")]
    Push(#[source] crate::push::Error),
}

impl Error {
    pub(crate) fn git(
        verb: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Git { verb: verb.into(), source: source.into() }
    }

    pub(crate) fn io(verb: impl Into<String>, source: io::Error) -> Error {
        Error::Io { verb: verb.into(), source }
    }

    /// Says whether it is worth trying again.
    pub fn retry(&self) -> Retry {
        match self {
            Error::Git { .. } | Error::Io { .. } | Error::Token { .. } => Retry::Later,
            Error::Push(it) => match it.retry() {
                crate::push::Retry::Later => Retry::Later,
                crate::push::Retry::Never => Retry::Never,
            },
            Error::Open { .. }
            | Error::Bare { .. }
            | Error::InTheWay { .. }
            | Error::NoRemote { .. }
            | Error::CannotReplay { .. } => Retry::Never,
        }
    }
}

/// One work tree and its repository. One thread uses it at a time.
#[derive(Debug)]
pub struct Repo {
    gix: gix::Repository,
    work_tree: PathBuf,
    steps: Steps,
    /// What this commit reaches is on the disk, as far as we know.
    durable: Cell<Option<CommitId>>,
    /// Refs that were renamed into place and whose sync did not follow.
    doubts: RefCell<BTreeSet<String>>,
    /// Packs, by their names, that were renamed into place and whose sync did not follow.
    doubted_packs: RefCell<BTreeSet<String>>,
    /// A sync of all failed, and what it was for is in doubt.
    unsynced: Cell<bool>,
    /// The index as we saw or wrote it last, and how often it was another one than that.
    index_known: Cell<(Option<index::IndexMark>, u64)>,
    /// The index, locked from before the branch moves until it follows: whoever commits from an index
    /// that is behind commits that what we filed is gone.
    index_lock: RefCell<Option<locks::Lock>>,
    /// Packs made since the repository was opened.
    packs_made: Cell<u32>,
    /// This value has marked the run, and unmarks it at its end.
    running: Cell<bool>,
    /// How HTTP is spoken, in both directions, and the settings that it was made for.
    client: RefCell<Option<(crate::push::http::ClientOptions, crate::push::http::Client)>>,
    /// The remote that was called before there was anything to send, and its name.
    called: RefCell<Option<(String, crate::push::Ahead)>>,
}

impl Repo {
    /// Finds the repository that `path` lies in.
    pub fn discover(path: &Path, steps: Steps) -> Result<Repo, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let (found, _) = gix::discover::upwards(path).map_err(|it| failed(it.into()))?;
        let (git_dir, _) = found.into_repository_and_work_tree_directories();
        let gix = opened(git_dir)?;
        let Some(work_tree) = gix.workdir() else {
            return Err(Error::Bare { path: gix.git_dir().to_owned() });
        };
        let work_tree = work_tree.canonicalize().map_err(|it| failed(it.into()))?;
        Ok(Repo {
            gix,
            work_tree,
            steps,
            durable: Cell::new(None),
            doubts: RefCell::default(),
            doubted_packs: RefCell::default(),
            unsynced: Cell::new(false),
            index_known: Cell::default(),
            index_lock: RefCell::default(),
            packs_made: Cell::new(0),
            running: Cell::new(false),
            client: RefCell::default(),
            called: RefCell::default(),
        })
    }

    /// Lets go of the packs that are mapped into memory, when there are many: what was read of each
    /// stays mapped otherwise, and in a large directory that is megabytes a commit.
    ///
    /// Says whether it did.
    pub fn let_go_of_packs(&mut self) -> Result<bool, Error> {
        let many = self.packs_made.get() >= PACKS_MAPPED_MAX;
        if many {
            self.open_anew()?;
        }
        Ok(many)
    }

    /// Lets go of all that was read: packs that are mapped, objects, the index.
    pub fn open_anew(&mut self) -> Result<(), Error> {
        self.gix = opened(self.gix.git_dir().to_owned())?;
        self.packs_made.set(0);
        Ok(())
    }

    /// The top of the work tree, as an absolute path.
    pub fn work_tree(&self) -> &Path {
        &self.work_tree
    }

    /// The git directory of this work tree; of a linked one, its own.
    pub fn git_dir(&self) -> &Path {
        self.gix.git_dir()
    }
}

/// Opens the repository whose git directory this is.
fn opened(git_dir: PathBuf) -> Result<gix::Repository, Error> {
    // Room for the packs that appear while we run: gix keeps as many places as it began with.
    let slots = gix::odb::store::init::Slots::Given(4096);
    let options = gix::open::Options::default()
        .object_store_slots(slots)
        // For reflogs alone: a service account has no identity, and commits bring their own.
        .config_overrides(["committer.name=git-intake", "committer.email=git-intake@localhost"]);
    let mut gix = gix::open_opts(&git_dir, options)
        .map_err(|it| Error::Open { path: git_dir.clone(), source: it.into() })?;
    gix.object_cache_size_if_unset(16 << 20);
    Ok(gix)
}

#[cfg(test)]
mod tests;
