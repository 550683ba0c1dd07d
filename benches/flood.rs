//! A watching agent under a flood and under a trickle, beside plain git on the same files.
//!
//! `cargo bench --bench flood [-- flood|trickle|idle|crowd]`; without a word, all but `crowd`.
//!
//! - `flood`: files of 1 KB appear in `raw/` at once; the time until all are on the remote, and the
//!   agent's peak memory, beside `git add -A && git commit && git push` of the same files.
//! - `trickle`: 50 files a second for a minute, each renamed into place; how long each takes to be
//!   on the remote.
//! - `idle`: a minute of nothing; the agent's processor time and how often it woke.
//! - `crowd`: a million files at once; peak memory and open files only, and not beside git.
//!
//! Git runs with `core.fsync=all` and `core.fsyncMethod=batch`, so that both sides sync what they
//! write.
//!
//! `FLOOD_FILES` (100000), `FLOOD_SECONDS` (60) and `FLOOD_CROWD` (1000000) change the size,
//! `GIT_INTAKE_LAYOUT` (flat, sharded) where files lie.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let word = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let wanted = |it: &str| word.as_deref().map_or(it != "crowd", |word| word == it);
    let files = number("FLOOD_FILES", 100_000);
    let seconds = Duration::from_secs(number("FLOOD_SECONDS", 60) as u64);
    let place = Place::new();
    let agent = place.start();
    if wanted("flood") || wanted("trickle") || wanted("idle") {
        flood(&place, &agent, files, wanted("flood"));
    }
    if wanted("trickle") {
        trickle(&place, &agent, files, seconds);
    }
    if wanted("idle") {
        idle(&agent, seconds);
    }
    if wanted("crowd") {
        crowd(&place, &agent, number("FLOOD_CROWD", 1_000_000));
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// About one kilobyte, as a real one has with its comments.
fn manifest(n: usize) -> String {
    let mut text = format!(
        "apiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\nmetadata:\n  name: vpc-{n:07}\nspec:\n"
    );
    for line in 0..11 {
        let words = "a line that makes the file about one kilobyte long, as real ones are";
        writeln!(text, "    # {line:03} {words}").unwrap();
    }
    text.push_str("  subnets:\n    default: {subnet: 10.0.1.0/24, vlan: 1001}\n");
    text
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = command("git", dir).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("HOME", "/nonexistent");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A Person");
        command.env(format!("GIT_{who}_EMAIL"), "person@example.com");
    }
    command
}

/// A work tree with a fabric, and a bare remote on the same disk.
struct Place {
    dir: tempfile::TempDir,
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let place = Place { dir };
        git(&place.work(), &["remote", "add", "origin", "../remote.git"]);
        git(&place.work(), &["config", "core.fsync", "all"]);
        git(&place.work(), &["config", "core.fsyncMethod", "batch"]);
        place
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn remote(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    fn start(&self) -> Agent {
        let program = env!("CARGO_BIN_EXE_git-intake");
        let init =
            command(program, &self.work()).args(["init", "-q", "--fabric", "f"]).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let mut run = command(program, &self.work());
        let agent = Agent(run.args(["run", "-q"]).stderr(Stdio::inherit()).spawn().unwrap());
        while self.tip().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }

    /// The commit that the remote's branch has.
    fn tip(&self) -> String {
        fs::read_to_string(self.remote().join("refs/heads/main")).unwrap_or_default()
    }

    fn managed(&self) -> usize {
        let names =
            git(&self.remote(), &["ls-tree", "-r", "--name-only", "main", "f/managed/vpcs/"]);
        names.lines().count()
    }

    /// Drops a directory of manifests, all at once.
    fn drop_all(&self, numbers: std::ops::Range<usize>) -> Instant {
        let beside = self.dir.path().join("beside");
        fs::create_dir(&beside).unwrap();
        for n in numbers {
            fs::write(beside.join(format!("{n:07}.yaml")), manifest(n)).unwrap();
        }
        // What the kernel has still to write belongs to nobody's time.
        rustix::fs::sync();
        let begun = Instant::now();
        fs::rename(beside, self.work().join("f/raw/flood")).unwrap();
        begun
    }

    fn wait_for(&self, managed: usize) {
        let mut before = String::new();
        loop {
            let tip = self.tip();
            if tip != before && self.managed() >= managed {
                return;
            }
            before = tip;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A line of /proc/PID/status, in its own unit.
fn of_status(agent: &Agent, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
    let line = text.lines().find(|it| it.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open_files(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.0.id())).map_or(0, Iterator::count)
}

fn flood(place: &Place, agent: &Agent, files: usize, beside_git: bool) {
    let begun = place.drop_all(0..files);
    place.wait_for(files);
    let ours = begun.elapsed();
    let peak = of_status(agent, "VmHWM:") / 1024;
    if !beside_git {
        return;
    }
    fs::remove_dir(place.work().join("f/raw/flood")).unwrap();
    let theirs = by_git(files);
    println!(
        "flood of {files} files of 1 KB: {:.2} s, plain git {:.2} s, ratio {:.2}; peak {peak} MiB",
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}

/// The same files in the same kind of directory, added, committed and pushed by git.
fn by_git(files: usize) -> Duration {
    let place = Place::new();
    let dir = place.work().join("f/managed/vpcs");
    fs::create_dir_all(&dir).unwrap();
    for n in 0..files {
        fs::write(dir.join(format!("vpc-{n:07}.yaml")), manifest(n)).unwrap();
    }
    rustix::fs::sync();
    let begun = Instant::now();
    git(&place.work(), &["add", "-A"]);
    git(&place.work(), &["commit", "-q", "-m", "all"]);
    git(&place.work(), &["push", "-q", "origin", "main"]);
    begun.elapsed()
}

fn trickle(place: &Place, agent: &Agent, from: usize, length: Duration) {
    const PER_SECOND: usize = 50;
    let files = PER_SECOND * usize::try_from(length.as_secs()).unwrap();
    let begun = Instant::now();
    let due = |n: usize| begun + Duration::from_secs(1) * u32::try_from(n).unwrap() / 50;
    let mut dropped = vec![begun; files];
    let mut took: Vec<Duration> = Vec::new();
    let (mut next, mut tip) = (0, place.tip());
    while took.len() < files {
        while next < files && Instant::now() >= due(next) {
            let beside = place.dir.path().join("one.tmp");
            fs::write(&beside, manifest(from + next)).unwrap();
            dropped[next] = Instant::now();
            fs::rename(beside, place.work().join(format!("f/raw/t{next}.yaml"))).unwrap();
            next += 1;
        }
        let now = place.tip();
        if now != tip {
            let seen = Instant::now();
            let (old, new) = (tip.trim(), now.trim());
            let diff = git(&place.remote(), &["diff-tree", "-r", "--name-only", old, new]);
            let filed = diff.lines().filter(|it| it.starts_with("f/managed/"));
            for name in filed.filter_map(|it| it.rsplit_once("/vpc-")) {
                let n: usize = name.1.trim_end_matches(".yaml").parse().unwrap();
                took.push(seen - dropped[n - from]);
            }
            tip = now;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64();
    println!(
        "trickle of {PER_SECOND} files a second for {} s into {from} managed ones: median {:.3} s, p99 {:.3} s, \
         longest {:.3} s; peak {} MiB",
        length.as_secs(),
        at(0.5),
        at(0.99),
        at(1.0),
        of_status(agent, "VmHWM:") / 1024
    );
}

fn idle(agent: &Agent, length: Duration) {
    // Folding packs, the last push: let it come to rest.
    std::thread::sleep(Duration::from_secs(3));
    let (cpu, wakes) = (ticks(agent), switches(agent));
    std::thread::sleep(length);
    let (cpu, wakes) = (ticks(agent) - cpu, switches(agent) - wakes);
    let share = cpu as f64 / 100.0 / length.as_secs_f64() * 100.0;
    println!("idle for {} s: {share:.3} % of a core, {wakes} wakes", length.as_secs());
}

/// Processor time of all threads, in hundredths of a second.
fn ticks(agent: &Agent) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", agent.0.id())).unwrap();
    let fields = text.rsplit(')').next().unwrap();
    fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap()).sum()
}

/// How often any thread was put to sleep and woke again.
fn switches(agent: &Agent) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.0.id())).unwrap();
    let each = tasks.map(|it| fs::read_to_string(it.unwrap().path().join("status")).unwrap());
    each.map(|text| {
        let line = text.lines().find(|it| it.starts_with("voluntary_ctxt_switches:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    })
    .sum()
}

fn crowd(place: &Place, agent: &Agent, files: usize) {
    let first = 1_000_000;
    let begun = place.drop_all(first..first + files);
    let mut most = 0;
    while place.managed() < files {
        for _ in 0..20 {
            most = most.max(open_files(agent));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    println!(
        "crowd of {files} files: {:.0} s, {:.0} a second; peak {} MiB, {most} open files",
        begun.elapsed().as_secs_f64(),
        files as f64 / begun.elapsed().as_secs_f64(),
        of_status(agent, "VmHWM:") / 1024
    );
}
