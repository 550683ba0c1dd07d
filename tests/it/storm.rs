//! The storm: real processes, real signals, a seeded hand that drops, replaces, deletes and edits
//! while others push, the remote goes away and the agent is killed at random instants.
//!
//! `cargo test --test it storm` kills 2,000 agents. More of it, or one storm again:
//!
//! ```text
//! STORM_KILLS=50000 STORM_SEED=7 cargo test --test it storm -- --nocapture
//! ```
//!
//! A failure names the seed of its world and keeps the world's directory.

use crate::faults::locks_below;
use crate::world::{World, git, git_output, hermetic, vpc};
use git_intake::agent::sync;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: u64 = 2_000;
const SEED: u64 = 20_261_124;
/// Kills between two looks at everything.
const KILLS_PER_REST: u64 = 100;
/// How long things may take to come to rest, with a machine that is busy with other things.
const REST_MAX: Duration = Duration::from_secs(120);
/// A lock at the remote that is older than this has nobody behind it.
const REMOTE_LOCK_MAX: Duration = Duration::from_secs(10);

#[test]
fn whenever_agents_are_killed_nothing_is_lost_nothing_is_twice_and_nothing_is_half() {
    let kills = number("STORM_KILLS", KILLS);
    let seed = number("STORM_SEED", SEED);
    // An agent that starts mostly waits, so that there are more worlds than cores.
    let worlds =
        (2 * std::thread::available_parallelism().map_or(2, usize::from)).clamp(2, 16) as u64;
    let begun = Instant::now();
    let threads: Vec<_> = (0..worlds)
        .map(|n| {
            let share = kills / worlds + u64::from(n < kills % worlds);
            std::thread::spawn(move || Storm::new(seed + n).rage(share))
        })
        .collect();
    let done: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    let drops: usize = done.iter().map(|it| it.0).sum();
    let looking: Duration = done.iter().map(|it| it.1).sum();
    let (took, looking) = (begun.elapsed(), looking / u32::try_from(worlds).unwrap());
    println!(
        "{kills} kills in {worlds} worlds from seed {seed}, {drops} drops, {took:?}, of it {looking:?} at rest"
    );
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

/// Numbers that follow from a seed (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % below.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.roll(from.len() as u64);
        from.get(usize::try_from(at).unwrap())
    }

    fn micros(&mut self, below: Duration) -> Duration {
        Duration::from_micros(self.roll(u64::try_from(below.as_micros()).unwrap()))
    }
}

/// Something that must be found again.
struct Given {
    what: String,
    bytes: Vec<u8>,
    /// The person took it back before it was taken, so it may be nowhere.
    taken_back: bool,
}

struct Storm {
    seed: u64,
    dice: Dice,
    world: World,
    /// Where others work on the same branch.
    others: PathBuf,
    away: bool,
    n: u64,
    /// By where it lies in `raw/` if it still does: what was dropped.
    lying: BTreeMap<String, usize>,
    given: Vec<Given>,
    /// Every text that anyone ever gave a resource, by its name.
    texts: BTreeMap<String, BTreeSet<String>>,
    /// How long a life takes that nobody ends.
    life: Duration,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let world = World::in_memory();
        let out = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        world.git(&["push", "-q", "origin", "main"]);
        let others = world.dir.path().join("others");
        git(world.dir.path(), &["clone", "-q", "remote.git", "others"]);
        let mut storm = Storm {
            seed,
            dice: Dice::new(seed),
            world,
            others,
            away: false,
            n: 0,
            lying: BTreeMap::new(),
            given: Vec::new(),
            texts: BTreeMap::new(),
            life: Duration::from_millis(100),
        };
        storm.drop_new();
        storm.rest();
        storm
    }

    /// How many drops there were, and how long was spent at rest.
    fn rage(mut self, kills: u64) -> (usize, Duration) {
        let mut looking = Duration::ZERO;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 1..=kills {
                self.live_and_die();
                if n % KILLS_PER_REST == 0 || n == kills {
                    let begun = Instant::now();
                    self.rest();
                    self.check();
                    looking += begun.elapsed();
                }
            }
        }));
        if let Err(why) = done {
            self.world.dir.disable_cleanup(true);
            eprintln!(
                "the storm of seed {} failed in {}",
                self.seed,
                self.world.dir.path().display()
            );
            std::panic::resume_unwind(why);
        }
        (self.given.len(), looking)
    }

    /// One agent: what lies there, what comes meanwhile, and its end.
    fn live_and_die(&mut self) {
        for _ in 0..self.dice.roll(3) {
            self.act();
        }
        let command = if self.dice.roll(4) == 0 { "ingest" } else { "run" };
        let mut agent = self.start(command);
        std::thread::sleep(self.dice.micros(self.life));
        if self.dice.roll(2) == 0 {
            self.act();
            std::thread::sleep(self.dice.micros(self.life / 2));
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn start(&self, command: &str) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.world.dir.path().join("agent.log"))
            .unwrap();
        let mut agent = agent(&self.world, &[command]);
        agent.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn act(&mut self) {
        match self.dice.roll(40) {
            0..=19 => self.drop_new(),
            20..=25 => self.drop_update(),
            26..=27 => self.drop_again(),
            28..=29 => self.replace(),
            30..=31 => self.take_back(),
            32..=33 => self.edit(),
            34..=36 => self.others_push(),
            _ => self.remote_goes_or_comes(),
        }
    }

    /// Puts a file into `raw/` whole, as `put` and `mv` do.
    fn put(&mut self, name: &str, text: String) {
        let beside = self.world.dir.path().join("dropping");
        std::fs::write(&beside, &text).unwrap();
        if let Some(old) = self.lying.get(name) {
            self.given[*old].taken_back = true;
        }
        std::fs::rename(&beside, self.world.raw(name)).unwrap();
        self.lying.insert(name.to_owned(), self.given.len());
        self.given.push(Given {
            what: format!("drop {name}"),
            bytes: text.into_bytes(),
            taken_back: false,
        });
    }

    fn new_resource(&mut self) -> String {
        self.n += 1;
        let name = format!("vpc-{}", self.n);
        let text = vpc(&name);
        self.offer(&name, &text);
        text
    }

    fn offer(&mut self, name: &str, text: &str) {
        self.texts.entry(name.to_owned()).or_default().insert(text.to_owned());
    }

    fn drop_new(&mut self) {
        let text = match self.dice.roll(12) {
            0 => {
                self.n += 1;
                format!("# broken {}\n{}", self.n, vpc("NOT_A_NAME"))
            }
            1 => {
                self.n += 1;
                let n = self.n;
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: foreign-{n}\n")
            }
            2..=3 => (0..6).map(|_| self.new_resource()).collect::<Vec<_>>().join("---\n"),
            _ => self.new_resource(),
        };
        self.n += 1;
        let name = format!("drop-{}.yaml", self.n);
        self.put(&name, text);
    }

    fn changed(&mut self, who: &str) -> Option<(String, String)> {
        let names: Vec<String> = self.texts.keys().cloned().collect();
        let name = self.dice.pick(&names)?.clone();
        self.n += 1;
        Some((name.clone(), format!("# {who} {}\n{}", self.n, vpc(&name))))
    }

    fn drop_update(&mut self) {
        let Some((name, text)) = self.changed("update") else { return };
        self.offer(&name, &text);
        let name = format!("update-{}.yaml", self.n);
        self.put(&name, text);
    }

    /// The same bytes once more, under another name.
    fn drop_again(&mut self) {
        let at = self.dice.roll(self.given.len() as u64);
        let bytes = self.given[usize::try_from(at).unwrap()].bytes.clone();
        self.n += 1;
        let name = format!("again-{}.yaml", self.n);
        self.put(&name, String::from_utf8(bytes).unwrap());
    }

    fn lying_name(&mut self) -> Option<String> {
        let names: Vec<String> = self.lying.keys().cloned().collect();
        self.dice.pick(&names).cloned()
    }

    fn replace(&mut self) {
        let Some(name) = self.lying_name() else { return };
        let text = self.new_resource();
        self.put(&name, text);
    }

    fn take_back(&mut self) {
        let Some(name) = self.lying_name() else { return };
        // The agent may have it already.
        if std::fs::remove_file(self.world.raw(&name)).is_ok()
            && let Some(at) = self.lying.remove(&name)
        {
            self.given[at].taken_back = true;
        }
    }

    /// A person edits a managed file in place, and perhaps commits it.
    fn edit(&mut self) {
        let Some((name, text)) = self.changed("edit") else { return };
        let path = self.world.managed(&format!("vpcs/{name}.yaml"));
        if !path.exists() {
            return;
        }
        self.offer(&name, &text);
        std::fs::write(&path, &text).unwrap();
        if self.dice.roll(2) == 0 {
            self.commit_edits();
        }
    }

    /// Commits what people edited, path by path; git may find locks in its way.
    fn commit_edits(&mut self) -> bool {
        let edited = self.edited();
        if edited.is_empty() {
            return true;
        }
        let mut args = vec!["commit", "-q", "-m", "edit by hand", "--"];
        args.extend(edited.iter().map(String::as_str));
        self.commit(&args)
    }

    /// The same where nobody else is at work: a file that was edited before its first commit is new.
    fn add_and_commit_edits(&mut self) -> bool {
        let managed = "fabric-1/managed";
        let new = self.world.git(&["ls-files", "--others", "--", managed]);
        git_output(&self.world.work(), &["add", "-A", "--", managed]).status.success()
            && (new.is_empty()
                || self.commit(&["commit", "-q", "-m", "edit by hand", "--", managed]))
            && self.commit_edits()
    }

    fn commit(&self, args: &[&str]) -> bool {
        git_output(&self.world.work(), args).status.success()
    }

    fn edited(&self) -> Vec<String> {
        let out = self.world.git(&["diff", "--name-only", "HEAD", "--", "fabric-1/managed"]);
        let there = |it: &&str| self.world.work().join(it).exists();
        out.lines().filter(there).map(str::to_owned).collect()
    }

    fn others_push(&mut self) {
        if self.away {
            return;
        }
        let others = self.others.clone();
        let run = |args: &[&str]| git_output(&others, args).status.success();
        if !run(&["fetch", "-q"]) || !run(&["reset", "-q", "--hard", "origin/main"]) {
            return;
        }
        match self.dice.roll(3) {
            0 => {
                self.n += 1;
                std::fs::write(others.join("notes"), format!("{}\n", self.n)).unwrap();
            }
            1 => {
                self.n += 1;
                let name = format!("theirs-{}", self.n);
                let text = vpc(&name);
                self.offer(&name, &text);
                let dir = others.join("fabric-1/managed/vpcs");
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(format!("{name}.yaml")), text).unwrap();
            }
            _ => {
                let Some((name, text)) = self.changed("theirs") else { return };
                let path = others.join(format!("fabric-1/managed/vpcs/{name}.yaml"));
                if !path.exists() {
                    return;
                }
                self.offer(&name, &text);
                std::fs::write(path, text).unwrap();
            }
        }
        run(&["add", "-A"]);
        run(&["commit", "-q", "-m", "theirs"]);
        run(&["push", "-q"]);
    }

    fn remote_goes_or_comes(&mut self) {
        let away = self.world.dir.path().join("remote.away");
        let (from, to) = match self.away {
            true => (away, self.world.remote.clone()),
            false => (self.world.remote.clone(), away),
        };
        // A push under way may hold it for a moment.
        if std::fs::rename(from, to).is_ok() {
            self.away = !self.away;
        }
    }

    /// Removes what git left at a remote that was moved while somebody pushed: git knows its locks
    /// by their full paths, so that it removes none that went elsewhere, and whoever keeps the remote
    /// has to.
    fn locks_at_the_remote_go(&self) {
        for lock in locks_below(&self.world.remote) {
            let age =
                std::fs::metadata(&lock).ok().and_then(|it| it.modified().ok()?.elapsed().ok());
            // Nobody who still pushes holds one for so long.
            if age.is_some_and(|it| it > REMOTE_LOCK_MAX) {
                std::fs::remove_file(&lock).unwrap();
            }
        }
    }

    /// The remote is back, people have committed what they edited, and one agent works undisturbed.
    fn rest(&mut self) {
        if self.away {
            self.remote_goes_or_comes();
        }
        let begun = Instant::now();
        loop {
            self.locks_at_the_remote_go();
            let started = Instant::now();
            let out = agent(&self.world, &["ingest"]).output().unwrap();
            self.life = started.elapsed().clamp(Duration::from_millis(30), Duration::from_secs(1));
            // A command that has nothing to send does not ask what others pushed; an agent does.
            let asked = self.world.open().and_then(|mut it| sync::take_in(&mut it)).is_ok();
            let committed = self.add_and_commit_edits() && asked;
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            if matches!(out.status.code(), Some(0 | 3)) && committed && self.is_at_rest() {
                return;
            }
            let code = out.status.code();
            assert!(
                begun.elapsed() < REST_MAX,
                "does not come to rest: ended with {code:?}, asked {asked}, committed {committed}: {said}"
            );
        }
    }

    fn is_at_rest(&self) -> bool {
        let head = self.world.git(&["rev-parse", "HEAD"]);
        git(&self.world.remote, &["rev-parse", "main"]) == head && self.edited().is_empty()
    }

    fn check(&self) {
        self.world.at_rest();
        self.nothing_is_lost();
        self.nothing_is_twice();
        no_strays(&self.world.work());
        let status = self.world.git(&["status", "--porcelain", "--", ".", ":!fabric-1/raw"]);
        assert_eq!(status, "", "the index follows");
    }

    fn nothing_is_lost(&self) {
        let blob_ids = |bytes: &[Vec<u8>]| hash_objects(&self.world.work(), bytes);
        let archive = self.world.git(&["rev-list", "--objects", "refs/intake/archive/fabric-1"]);
        let mut found: HashSet<String> = archive.lines().map(|it| it[..40].to_owned()).collect();
        // What is of foreign kinds is kept where everybody sees it.
        let aside = self.world.git(&["rev-list", "--objects", "main", "--", "fabric-1/unmanaged"]);
        found.extend(aside.lines().map(|it| it[..40].to_owned()));
        let mut lying = Vec::new();
        for entry in std::fs::read_dir(self.world.raw("")).unwrap() {
            lying.push(std::fs::read(entry.unwrap().path()).unwrap());
        }
        found.extend(blob_ids(&lying));
        let all: Vec<Vec<u8>> = self.given.iter().map(|it| it.bytes.clone()).collect();
        for (it, id) in self.given.iter().zip(blob_ids(&all)) {
            assert!(it.taken_back || found.contains(&id), "{} is lost", it.what);
        }
    }

    fn nothing_is_twice(&self) {
        // One resource, one file, and in it what somebody wrote, whole.
        for (path, text) in self.world.clone_of_remote() {
            let Some(name) = path.strip_prefix("managed/vpcs/") else { continue };
            let name = name.strip_suffix(".yaml").unwrap();
            assert!(is_somebodys(&self.texts[name], &text), "{path} is nobody's: {text}");
        }
        // No commit of ours without a change, and none that says again what another said.
        let log =
            self.world.git(&["log", "--author=git-intake", "--format=%H %T %P %x00%B%x00", "main"]);
        let trees = self.world.git(&["log", "--format=%H %T", "main"]);
        let trees: BTreeMap<&str, &str> =
            trees.lines().map(|it| it.split_once(' ').unwrap()).collect();
        let mut operations = HashSet::new();
        let mut sources = HashSet::new();
        for entry in log.split("\0\n").filter(|it| !it.trim().is_empty()) {
            let (ids, message) = entry.split_once('\0').unwrap();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let parent = ids.get(2).map(|it| trees[it]);
            assert_ne!(parent, Some(ids[1]), "{} changes nothing", ids[0]);
            for line in message.lines() {
                if let Some(id) = line.strip_prefix("Intake-Operation: ") {
                    assert!(operations.insert(id.to_owned()), "operation {id} twice");
                }
                // A name that was given to another drop later is the only reason to see it again.
                if let Some(source) = line.strip_prefix("Intake-Source: ") {
                    assert!(sources.insert(source.to_owned()), "{source} twice");
                }
            }
        }
    }
}

/// A text that one hand wrote, whole; or what several wrote, with the comments of more than one of
/// them, as a merge leaves it.
fn is_somebodys(texts: &BTreeSet<String>, text: &str) -> bool {
    let parts = |text: &str| -> (Vec<String>, String) {
        let (comments, rest): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|it| it.starts_with('#'));
        (comments.iter().map(|it| (*it).to_owned()).collect(), rest.join("\n"))
    };
    let (comments, rest) = parts(text);
    let known: Vec<_> = texts.iter().map(|it| parts(it)).collect();
    known.iter().any(|it| it.1 == rest)
        && comments.iter().all(|it| known.iter().any(|known| known.0.contains(it)))
}

/// The agent's binary over a world, quick to look again.
pub fn agent(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-intake"));
    command.current_dir(world.work()).envs(hermetic()).args(args).stdin(Stdio::null());
    for (name, value) in [
        ("INTAKE_QUIET", "5ms"),
        ("FETCH_EVERY", "50ms"),
        ("PUSH_RETRY_MIN", "10ms"),
        ("PUSH_RETRY_MAX", "100ms"),
    ] {
        command.env(format!("GIT_INTAKE_{name}"), value);
    }
    command
}

fn hash_objects(dir: &Path, contents: &[Vec<u8>]) -> Vec<String> {
    contents
        .iter()
        .map(|it| {
            let kind = gix::objs::Kind::Blob;
            let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, it);
            id.unwrap_or_else(|it| panic!("{}: {it}", dir.display())).to_string()
        })
        .collect()
}

/// Nothing half-written lies in the work tree or in the git directory, and no lock.
pub fn no_strays(work: &Path) {
    let mut todo = vec![work.to_owned()];
    let mut strays = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            let begins = ["tmp_", ".tmp", ".git-intake-"].iter().any(|it| name.starts_with(it));
            let ends =
                [".lock", ".tmp", ".keep", ".generating"].iter().any(|it| name.ends_with(it));
            if begins || ends {
                strays.push(entry.path());
            }
        }
    }
    assert_eq!(strays, Vec::<PathBuf>::new(), "something was left behind");
}
