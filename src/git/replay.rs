//! Behind with work of our own: our commits are made again on top of what others pushed.
//!
//! Each changed path is carried over where the other side still has what our commit began with.
//! Where both changed it to different contents, the caller says what it gets; where nobody can say,
//! theirs stays and ours is handed back as an overlap: nothing is guessed, and nothing is lost. Only
//! objects are made here; no ref moves but by [`Repo::move_branch`], from the value that was seen.

use super::commit::signature;
use super::refs::{Move, Moved};
use super::{Error, Repo};
use crate::model::fabric::Author;
use crate::model::ids::{BlobId, CommitId};
use crate::step::Step;
use bstr::{BStr, BString, ByteSlice};
use gix::ObjectId;
use gix::object::tree::diff::ChangeDetached;
use gix::objs::tree::EntryMode;
use std::fs::File;
use std::io::{self, Write};

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

/// One path that both sides changed, with all three contents; none where there is no file.
#[derive(Debug, Clone)]
pub struct Meeting<'a> {
    /// Where.
    pub path: &'a BStr,
    /// What both began with.
    pub base: Option<Vec<u8>>,
    /// What our commit made of it.
    pub ours: Option<Vec<u8>>,
    /// What is there on the other side.
    pub theirs: Option<Vec<u8>>,
    /// When our commit was made, in seconds since 1970.
    pub at: i64,
}

/// What a path gets that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This content.
    Content(Vec<u8>),
    /// Nothing: the file goes.
    Gone,
    /// Theirs stays, and ours is an overlap for the caller to keep.
    Overlap,
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

/// How our commits go together with theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carry {
    /// Each is made again on top of theirs, so that history stays a line.
    Each,
    /// They stay what they are, and one merge commit joins both.
    Joined {
        /// Whose the merge commit is.
        author: Author,
        /// What it says.
        message: String,
    },
}

/// Whether the branch could be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It is there.
    Moved,
    /// It was not where it was seen, or somebody holds a lock.
    Contended,
}

/// In the git directory: what the work tree is being brought along to.
const FOLLOWING: &str = "intake/following";

/// A branch on its way to what others pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// The branch, by its full name.
    pub branch: String,
    /// Where it was.
    pub from: Option<CommitId>,
    /// Where it goes.
    pub to: CommitId,
}

impl Repo {
    /// Brings the commits that `tip` has and `onto` lacks together with `onto`.
    ///
    /// Author, message and time stay. People's commits among ours are carried over alike. `meet` is
    /// asked about every path that both sides changed.
    ///
    /// # Errors
    /// [`Error::CannotReplay`] where one of them is a merge and each is made again, or where both
    /// sides changed one link or submodule.
    pub fn replay(
        &self,
        tip: CommitId,
        onto: CommitId,
        carry: &Carry,
        meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
    ) -> Result<Replay, Error> {
        let (replay, repo) = self.replayed(tip, onto, carry, meet)?;
        self.write_pack(self.new_objects(repo)?)?;
        Ok(replay)
    }

    /// The paths that a replay would leave to a person; nothing is written.
    pub fn rehearse_replay(
        &self,
        tip: CommitId,
        onto: CommitId,
        carry: &Carry,
        meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
    ) -> Result<Vec<Overlap>, Error> {
        Ok(self.replayed(tip, onto, carry, meet)?.0.overlaps)
    }

    /// The replay, and the repository that has its objects in memory.
    fn replayed(
        &self,
        tip: CommitId,
        onto: CommitId,
        carry: &Carry,
        meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
    ) -> Result<(Replay, gix::Repository), Error> {
        let base = self.merge_base(tip, onto)?;
        let mut ours = self.log(tip, Some(onto), REPLAYED_MAX + 1)?;
        let first = ours.last().map_or(tip, |it| it.commit_id);
        let Some(base) = base.filter(|_| ours.len() <= REPLAYED_MAX) else {
            let why =
                "it shares no history with what the remote has, or there are too many commits";
            return Err(Error::CannotReplay { commit: first.short(), why });
        };
        let repo = self.gix.clone().with_object_memory();
        let mut replay = Replay { tip: onto, mapping: Vec::new(), overlaps: Vec::new() };
        if let Carry::Joined { author, message } = carry {
            let at = ours.first().map_or(0, |it| it.at);
            if let Some(tree) = joined(&repo, (base, tip, at), &mut replay, meet)? {
                replay.tip = join(&repo, tree, [tip, onto], author, message)?;
            }
            return Ok((replay, repo));
        }
        ours.reverse();
        for it in &ours {
            let made = make_again(&repo, it.commit_id, &mut replay, meet)?;
            replay.mapping.push((it.commit_id, made));
            replay.tip = made.unwrap_or(replay.tip);
        }
        Ok((replay, repo))
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
        let moves = [Move { name: branch, from, to, why }];
        let work = || {
            self.owe_index(from, to)?;
            Ok(match self.move_refs(&moves, Some(branch), author, crate::clock::now())? {
                Moved::There => {
                    self.durable.set(Some(to));
                    Follow::Moved
                }
                Moved::Elsewhere | Moved::Locked(_) => Follow::Contended,
            })
        };
        self.moving(work, |it| *it == Follow::Moved)
    }

    /// Notes, before the work tree is brought along, where the branch is to go. The note is on the
    /// disk before the first file: what is half brought along is never taken for a person's work.
    pub fn follows(&self, branch: &str, from: Option<CommitId>, to: CommitId) -> Result<(), Error> {
        let failed = |it: io::Error| Error::io("note what is followed", it);
        self.steps.pass(Step::WriteFile).map_err(failed)?;
        let from = from.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let path = self.git_dir().join(FOLLOWING);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let mut file = File::create(&path).map_err(failed)?;
        file.write_all(format!("{from} {to} {branch}\n").as_bytes()).map_err(failed)?;
        self.steps.pass(Step::Sync).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        File::open(path.parent().unwrap_or(&path)).and_then(|it| it.sync_all()).map_err(failed)
    }

    /// What an earlier run was about to follow, if it can still be followed.
    pub fn following(&self) -> Result<Option<Following>, Error> {
        let text = match std::fs::read_to_string(self.git_dir().join(FOLLOWING)) {
            Ok(it) => it,
            Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(it) => return Err(Error::io("read what is followed", it)),
        };
        let id = |text: &str| ObjectId::from_hex(text.as_bytes()).ok().map(CommitId);
        let mut words = text.trim_end().splitn(3, ' ');
        let (from, to, branch) = (words.next(), words.next(), words.next());
        let to = to.and_then(id).filter(|it| self.gix.has_object(it.0));
        match (to, branch) {
            (Some(to), Some(branch)) if text.ends_with('\n') => {
                Ok(Some(Following { branch: branch.to_owned(), from: from.and_then(id), to }))
            }
            _ => self.follows_no_more().map(|()| None),
        }
    }

    /// The work tree has been brought along, or somebody has moved the branch elsewhere.
    pub fn follows_no_more(&self) -> Result<(), Error> {
        super::heal::remove(&self.git_dir().join(FOLLOWING))
            .map_err(|it| Error::io("note what is followed", it))
    }
}

/// A change on its way to another tree.
struct Carried<'a> {
    commit_id: CommitId,
    /// When it was made, in seconds since 1970.
    at: i64,
    from: &'a gix::Tree<'a>,
    to: &'a gix::Tree<'a>,
}

fn tree_of(repo: &gix::Repository, commit_id: CommitId) -> Result<gix::Tree<'_>, Error> {
    let commit = repo.find_commit(commit_id.0).map_err(|it| failed(it.into()))?;
    commit.tree().map_err(|it| failed(it.into()))
}

/// Makes one commit again on top of what the replay has come to; none where nothing is left of it.
fn make_again(
    repo: &gix::Repository,
    commit_id: CommitId,
    replay: &mut Replay,
    meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
) -> Result<Option<CommitId>, Error> {
    let commit = repo.find_commit(commit_id.0).map_err(|it| failed(it.into()))?;
    let parents: Vec<_> = commit.parent_ids().collect();
    if parents.len() > 1 {
        let why = "it is a merge; pull by hand (git pull) and the agent goes on";
        return Err(Error::CannotReplay { commit: commit_id.short(), why });
    }
    let from = match parents.first() {
        Some(it) => tree_of(repo, CommitId(it.detach()))?,
        None => repo.empty_tree(),
    };
    let to = commit.tree().map_err(|it| failed(it.into()))?;
    let at = commit.time().map_err(|it| failed(it.into()))?.seconds;
    let change = Carried { commit_id, at, from: &from, to: &to };
    match carry_over(repo, &change, replay, meet)? {
        Some(tree) => made_again(repo, &commit, tree, replay.tip).map(Some),
        None => Ok(None),
    }
}

/// All that our commits made of their base, as one change on top of theirs.
fn joined(
    repo: &gix::Repository,
    (base, tip, at): (CommitId, CommitId, i64),
    replay: &mut Replay,
    meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
) -> Result<Option<ObjectId>, Error> {
    let (from, to) = (tree_of(repo, base)?, tree_of(repo, tip)?);
    carry_over(repo, &Carried { commit_id: tip, at, from: &from, to: &to }, replay, meet)
}

/// The tree that the replay has come to with a change on top; none where it changes nothing there.
fn carry_over(
    repo: &gix::Repository,
    change: &Carried<'_>,
    replay: &mut Replay,
    meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
) -> Result<Option<ObjectId>, Error> {
    let options = gix::diff::Options::default().with_rewrites(None);
    let changes = repo.diff_tree_to_tree(Some(change.from), Some(change.to), options);
    let onto = tree_of(repo, replay.tip)?;
    let mut editor = repo.edit_tree(onto.id).map_err(|it| failed(it.into()))?;
    for it in changes.map_err(|it| failed(it.into()))? {
        let Some((path, base, ours)) = sides(it) else { continue };
        let theirs = onto.lookup_entry(path.split(|it| *it == b'/'));
        let theirs = theirs.map_err(|it| failed(it.into()))?;
        let theirs = theirs.map(|it| (it.mode(), it.object_id()));
        if theirs == ours {
            continue;
        }
        let all = Sides { path: path.clone(), base, ours, theirs };
        let entry = match theirs == base {
            true => ours,
            false => match met(repo, &all, change.commit_id, change.at, meet)? {
                Some(entry) => entry,
                None => {
                    replay.overlaps.push(all.overlap(change.commit_id));
                    continue;
                }
            },
        };
        let path = path.as_bstr();
        let edited = match entry {
            Some((mode, id)) => editor.upsert(path, mode.kind(), id).map(drop),
            None => editor.remove(path).map(drop),
        };
        edited.map_err(|it| failed(it.into()))?;
    }
    let written = editor.write().map_err(|it| failed(it.into()))?.detach();
    Ok((written != onto.id).then_some(written))
}

/// A merge commit; its time is that of the clock.
fn join(
    repo: &gix::Repository,
    tree: ObjectId,
    parents: [CommitId; 2],
    author: &Author,
    message: &str,
) -> Result<CommitId, Error> {
    let seconds = crate::clock::now().as_second();
    let signature = signature(author, gix::date::Time { seconds, offset: 0 });
    let commit = gix::objs::Commit {
        tree,
        parents: parents.iter().map(|it| it.0).collect(),
        author: signature.clone(),
        committer: signature,
        encoding: None,
        message: message.into(),
        extra_headers: Vec::new(),
    };
    let id = repo.write_object(&commit).map_err(|it| failed(it.into()))?;
    Ok(CommitId(id.detach()))
}

type Side = Option<(EntryMode, gix::ObjectId)>;

/// What one path is on each side.
struct Sides {
    path: BString,
    base: Side,
    ours: Side,
    theirs: Side,
}

impl Sides {
    fn overlap(self, commit: CommitId) -> Overlap {
        let blob = |side: Side| side.map(|it| BlobId(it.1));
        let (base, ours, theirs) = (blob(self.base), blob(self.ours), blob(self.theirs));
        Overlap { path: self.path, base, ours, theirs, commit }
    }
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::git("replay a commit", source)
}

/// What a path becomes that both sides changed; none where it is an overlap.
fn met(
    repo: &gix::Repository,
    all: &Sides,
    commit_id: CommitId,
    at: i64,
    meet: &mut dyn FnMut(&Meeting<'_>) -> Resolution,
) -> Result<Option<Side>, Error> {
    let Sides { path, base, ours, theirs } = all;
    let there = [base, ours, theirs];
    if there.iter().any(|it| it.is_some_and(|it| !it.0.is_blob())) {
        let why = "it changes links or submodules that others changed too; pull by hand and the \
                   agent goes on";
        return Err(Error::CannotReplay { commit: commit_id.short(), why });
    }
    // Who changed the executable bit keeps it; the content is another matter.
    let mode = match (base, ours, theirs) {
        (Some(base), Some(ours), Some(theirs)) if ours.0 == base.0 => Some(theirs.0),
        (_, Some(ours), _) => Some(ours.0),
        (_, None, theirs) => theirs.map(|it| it.0),
    };
    let id = |side: &Side| side.map(|it| it.1);
    let content = match () {
        () if id(ours) == id(theirs) || id(ours) == id(base) => id(theirs),
        () if id(theirs) == id(base) => id(ours),
        () => {
            let read = |side: &Side| -> Result<Option<Vec<u8>>, Error> {
                let Some((_, id)) = side else { return Ok(None) };
                let found = repo.find_blob(*id).map_err(|it| failed(it.into()))?;
                Ok(Some(found.detach().data))
            };
            let (base, ours, theirs) = (read(base)?, read(ours)?, read(theirs)?);
            match meet(&Meeting { path: path.as_bstr(), base, ours, theirs, at }) {
                Resolution::Overlap => return Ok(None),
                Resolution::Gone => None,
                Resolution::Content(bytes) => {
                    Some(repo.write_blob(bytes).map_err(|it| failed(it.into()))?.detach())
                }
            }
        }
    };
    Ok(Some(content.and_then(|id| Some((mode?, id)))))
}

/// The same commit with another tree on another parent.
fn made_again(
    repo: &gix::Repository,
    commit: &gix::Commit<'_>,
    tree: gix::ObjectId,
    parent: CommitId,
) -> Result<CommitId, Error> {
    let decoded = commit.decode().map_err(|it| failed(it.into()))?;
    let mut again = gix::objs::Commit::try_from(decoded).map_err(|it| failed(it.into()))?;
    again.tree = tree;
    again.parents = [parent.0].into_iter().collect();
    // A signature is of the old commit, and would be wrong on the new one.
    again.extra_headers.retain(|(name, _)| name != "gpgsig" && name != "gpgsig-sha256");
    let id = repo.write_object(&again).map_err(|it| failed(it.into()))?;
    Ok(CommitId(id.detach()))
}

/// Merges text as git does; none where both changed the same lines, or one is no text.
pub fn merge_text(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    use gix::merge::plumbing::blob::{Resolution, builtin_driver};
    if [base, ours, theirs].iter().any(|it| it.contains(&0)) {
        return None;
    }
    let mut input = gix::diff::blob::InternedInput::default();
    let algorithm = gix::diff::blob::Algorithm::Histogram;
    let merge = builtin_driver::text::Merge::new(&mut input, ours, base, theirs, algorithm);
    let mut out = Vec::new();
    let done = merge.run(&mut out, Default::default(), Default::default());
    (done == Resolution::Complete).then_some(out)
}

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
