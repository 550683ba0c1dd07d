//! The walk, begun before the remote has spoken.
//!
//! Most pushes bring a little on top of what was last seen of the remote. So while a connection is
//! made and the remote makes up its mind, trees are compared as if it still had that. If it then
//! lacks just the commits that were thought of, the work is done; if not, it is done again, and
//! all that was lost is the time of a processor that would have waited. Where there is time left,
//! what was found is encoded as well ([`super::draft`]).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use gix::ObjectId;

use super::{
    RefUpdate,
    draft::Draft,
    error::Error,
    graph::Graph,
    odb::Odb,
    pack::Settings,
    walk::{self, Counts, Frontier, Objects},
};

/// What a walk finds, and what was made of it.
type Found = Result<(Objects, Counts, Option<Draft>), Error>;

/// For more references than this, nothing is thought of beforehand.
const UPDATES_MAX: usize = 16;

/// A walk under way.
pub(crate) struct Guess {
    shared: Arc<Shared>,
    walk: Option<JoinHandle<Option<Found>>>,
}

#[derive(Default)]
struct Shared {
    commits: OnceLock<Vec<ObjectId>>,
    /// The remote has spoken, and what is not encoded by now is encoded when it is sent.
    spoken: AtomicBool,
    stop: AtomicBool,
}

impl Guess {
    /// Begins to walk as if the remote had what the remote-tracking branches say, or else all but
    /// the newest commit of each update; and to encode what is found, where it is known how.
    pub(crate) fn begin(
        repo: &gix::Repository,
        odb: &Odb,
        shallow: &[ObjectId],
        updates: &[RefUpdate],
        settings: Option<Settings>,
    ) -> Guess {
        let shared = Arc::new(Shared::default());
        let news: Vec<_> = updates.iter().map(|it| it.new).filter(|it| !it.is_null()).collect();
        if news.is_empty() || updates.len() > UPDATES_MAX {
            return Guess { shared, walk: None };
        }
        let haves = tracked(repo, updates);
        let (odb, shallow, told) = (odb.clone(), shallow.to_vec(), shared.clone());
        let thread = std::thread::Builder::new().name("git-push-guess".into());
        // Without a thread to spare the walk is only made later.
        let walk = thread.spawn(move || look(&odb, shallow, &news, haves, settings, &told)).ok();
        Guess { shared, walk }
    }

    /// What lies behind a frontier: found beforehand, or else now.
    pub(crate) fn or_now(self, odb: &Odb, graph: &mut Graph<'_>, frontier: Frontier) -> Found {
        if let Some(found) = self.found(&frontier) {
            return found;
        }
        let (objects, counts) = walk::objects(odb, graph, frontier, &AtomicBool::new(false))?;
        Ok((objects, counts, None))
    }

    /// What was found, if these are the commits that were thought of.
    fn found(mut self, frontier: &Frontier) -> Option<Found> {
        self.shared.spoken.store(true, Ordering::Relaxed);
        let right = frontier.is_plain() && self.shared.commits.get() == Some(&frontier.commits);
        let walk = self.walk.take_if(|_| right)?;
        walk.join().ok().flatten()
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.spoken.store(true, Ordering::Relaxed);
        if let Some(walk) = self.walk.take() {
            // Nobody wants to know any more.
            drop(walk.join());
        }
    }
}

/// The remote-tracking branches of any remote that are named like what is to be moved.
fn tracked(repo: &gix::Repository, updates: &[RefUpdate]) -> Vec<ObjectId> {
    let mut out = Vec::new();
    for remote in repo.remote_names() {
        for update in updates {
            let branch = update.name.strip_prefix(b"refs/heads/").map(gix::bstr::BStr::new);
            let name = branch.map(|it| format!("refs/remotes/{remote}/{it}"));
            let found = name.and_then(|it| repo.try_find_reference(&*it).ok().flatten());
            out.extend(found.and_then(|it| Some(it.try_id()?.detach())));
        }
    }
    out
}

fn look(
    odb: &Odb,
    shallow: Vec<ObjectId>,
    news: &[ObjectId],
    mut haves: Vec<ObjectId>,
    settings: Option<Settings>,
    told: &Shared,
) -> Option<Found> {
    let uncut = Default::default();
    let mut graph = Graph::new(odb, shallow, &uncut);
    if haves.is_empty() {
        for new in news {
            haves.extend(graph.parents_of(*new).ok()?);
        }
    }
    let frontier = walk::frontier(&mut graph, news, haves).ok()?;
    if !frontier.is_plain() || told.commits.set(frontier.commits.clone()).is_err() {
        return None;
    }
    let (objects, counts) = match walk::objects(odb, &mut graph, frontier, &told.stop) {
        Ok(found) => found,
        Err(error) => return Some(Err(error)),
    };
    drop(graph);
    let settings = settings.filter(|_| !told.spoken.load(Ordering::Relaxed));
    let mut draft = settings.and_then(|it| Draft::of(odb, &objects, it).ok());
    if let Some(draft) = &mut draft {
        draft.encode_ahead(odb, &objects, &told.spoken);
    }
    Some(Ok((objects, counts, draft)))
}

#[cfg(test)]
mod tests {
    use super::super::Expect;
    use super::*;
    use std::process::{Command, Stdio};

    const COMMITS: usize = 9;

    /// Commits of one file and one second, and a remote-tracking branch at the third newest, if
    /// there is one.
    fn repository(dir: &std::path::Path, is_tracked: bool) -> (gix::Repository, Vec<ObjectId>) {
        let mut stream = String::new();
        for n in 0..COMMITS {
            stream += "commit refs/heads/main\ncommitter C <c@d> 1 +0000\ndata 1\nx\n";
            stream += &format!("M 100644 inline dir/file\ndata 1\n{n}\n");
        }
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            git.current_dir(dir).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
            git.env("GIT_CONFIG_GLOBAL", "/dev/null").spawn().unwrap()
        };
        assert!(git(&["init", "--quiet", "-b", "main"]).wait().unwrap().success());
        let mut import = git(&["fast-import", "--quiet"]);
        std::io::Write::write_all(&mut import.stdin.take().unwrap(), stream.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
        if is_tracked {
            assert!(git(&["remote", "add", "origin", "../x"]).wait().unwrap().success());
            let track = ["update-ref", "refs/remotes/origin/main", "main~2"];
            assert!(git(&track).wait().unwrap().success());
        }
        let repo = gix::open_opts(dir, gix::open::Options::isolated()).unwrap();
        let all = repo.rev_walk([repo.head_id().unwrap()]).all().unwrap();
        let commits = all.map(|it| it.unwrap().id).collect();
        (repo, commits)
    }

    /// How many objects were found beforehand, and how many of them encoded, where the remote in truth
    /// has `held`.
    fn guessed(is_tracked: bool, held: usize) -> Option<(usize, usize)> {
        let dir = tempfile::tempdir().unwrap();
        let (repo, commits) = repository(dir.path(), is_tracked);
        let odb = Odb::of(&repo);
        let update = RefUpdate {
            name: "refs/heads/main".into(),
            new: commits[0],
            expect: Expect::FastForward,
        };
        let settings =
            Settings { thin: true, ofs_delta: true, level: repo.pack_compression().unwrap() };
        let guess = Guess::begin(&repo, &odb, &[], &[update], Some(settings));
        while guess.walk.as_ref().is_some_and(|it| !it.is_finished()) {
            std::thread::yield_now();
        }
        let uncut = Default::default();
        let mut graph = Graph::new(&odb, Vec::new(), &uncut);
        let tips = commits.get(held).copied();
        let frontier = walk::frontier(&mut graph, &[commits[0]], tips).unwrap();
        let (objects, _, draft) = guess.found(&frontier)?.unwrap();
        Some((objects.wanted.len(), draft.unwrap().made().len()))
    }

    #[test]
    fn one_commit_on_top_is_what_is_thought_of() {
        // A commit, two trees and a file.
        assert_eq!(guessed(false, 1), Some((4, 4)));
        assert_eq!(guessed(false, 2), None);
        assert_eq!(guessed(false, 3), None);
    }

    #[test]
    fn what_was_seen_of_the_remote_goes_before() {
        assert_eq!(guessed(true, 2), Some((8, 8)));
        assert_eq!(guessed(true, 1), None);
    }

    #[test]
    fn of_one_second_only_what_is_wanted_is_walked() {
        let dir = tempfile::tempdir().unwrap();
        let (repo, commits) = repository(dir.path(), false);
        let odb = Odb::of(&repo);
        let uncut = Default::default();
        for (at, want) in commits.iter().enumerate() {
            let mut graph = Graph::new(&odb, Vec::new(), &uncut);
            let have = commits.get(at + 1).copied();
            assert_eq!(graph.missing(&[*want], have.as_slice()).unwrap(), [*want]);
            assert_eq!(graph.visited, 1 + have.iter().len());
        }
    }
}
