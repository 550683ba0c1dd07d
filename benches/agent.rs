//! The agent beside plain git, in the same run, on the same disk.
//!
//! `cargo bench --bench agent [-- FILTER]`, for instance `-- latency`. Sections: `latency` (one file,
//! from the rename into `raw/` until the remote's branch has it), `throughput` (many files at once),
//! `syncs` (how often one commit forces something to the disk, where strace is installed),
//! `incoming` (others changed many resources at once: `sync`, records included, beside `git pull`),
//! `documents` (one file of 10,000), `memory` (start, rebuild, idle with many records).
//! Plain git is `git add` + `git commit` + `git push` in a work tree of the same content, with a
//! remote of its own; runs alternate, medians count, ratios come first. A table is printed, and
//! `target/bench/agent.svg` draws it.
//!
//! Durability is equal: git runs with `core.fsync=all` and `core.fsyncMethod=batch`, which syncs
//! objects, packs, index and refs as the agent does; what the receiving git syncs is its default on
//! both sides. The agent also syncs its journal and the files it writes, which git never does.
//!
//! `AGENT_BENCH_SIZES` (100,10000,100000), `AGENT_BENCH_DROPS` (1000,10000,100000),
//! `AGENT_BENCH_INCOMING` (5000), `AGENT_BENCH_ROUNDS` (11) and `AGENT_BENCH_IDLE_S` (65) change the
//! size, `AGENT_BENCH_CARRIERS` (file,https) and `AGENT_BENCH_LAYOUTS` (flat,sharded) what is
//! measured. Git adds its file where the agent would file it, so both write the same trees.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code)]

#[path = "../tests/it/remote.rs"]
mod remote;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remote::{Auth, ENVIRONMENT, Remote};

const PROGRAM: &str = env!("CARGO_BIN_EXE_git-intake");
/// No single wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(900);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|it| !it.starts_with('-')).cloned().unwrap_or_default();
    let asked = |name: &str| name.contains(&filter);
    let mut table = Table::default();
    for peer in ["gitwatch", "git-annex"] {
        if Command::new(peer).arg("--version").output().is_err() {
            println!("{peer} is not installed and is left out");
        }
    }
    println!("{:<52} {:>6} {:>12} {:>12}", "", "ratio", "git-intake", "plain git");
    if asked("latency") {
        let sizes = sizes("AGENT_BENCH_SIZES", "100,10000,100000");
        for carrier in words("AGENT_BENCH_CARRIERS", "file,https") {
            for layout in words("AGENT_BENCH_LAYOUTS", "flat,sharded") {
                let mut all = Vec::new();
                for size in &sizes {
                    all.extend(latency(&mut table, *size, &carrier, &layout));
                }
                if let [first, .., last] = all[..] {
                    let title = format!("latency, largest to smallest, {layout}, {carrier}");
                    println!("{title:<52} {:>6.2}", last / first);
                }
            }
        }
    }
    if asked("syncs") {
        syncs(&mut table);
    }
    if asked("incoming") {
        incoming(&mut table, number("AGENT_BENCH_INCOMING", 5_000));
    }
    if asked("throughput") {
        for drops in sizes("AGENT_BENCH_DROPS", "1000,10000,100000") {
            throughput(&mut table, drops);
        }
    }
    if asked("documents") {
        documents(&mut table, 10_000);
    }
    if asked("memory") {
        let size = sizes("AGENT_BENCH_SIZES", "100,10000,100000").last().copied().unwrap();
        memory(&mut table, size);
    }
    table.draw();
}

fn sizes(name: &str, default: &str) -> Vec<usize> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(|it| it.trim().parse().unwrap()).collect()
}

fn words(name: &str, default: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(|it| it.trim().to_owned()).collect()
}

fn number(name: &str, default: usize) -> usize {
    sizes(name, &default.to_string())[0]
}

/// A work tree with a remote, and how to speak to both.
struct Place {
    dir: tempfile::TempDir,
    remote: Remote,
    layout: String,
}

const DURABLE: [(&str, &str); 2] = [("core.fsync", "all"), ("core.fsyncMethod", "batch")];

impl Place {
    /// A fabric with so many managed files, committed and pushed.
    fn new(remote: Remote, files: usize) -> Place {
        Place::laid_out(remote, files, "flat")
    }

    fn laid_out(remote: Remote, files: usize, layout: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { dir, remote, layout: layout.to_owned() };
        let work = place.work();
        fs::create_dir(&work).unwrap();
        place.git(&["init", "--quiet", "-b", "main"]);
        let url = place.remote.url.clone();
        place.git(&["remote", "add", "origin", &url]);
        if let Some(ca_file) = &place.remote.ca_file {
            place.git(&["config", "http.sslCAInfo", ca_file.to_str().unwrap()]);
        }
        for (name, value) in DURABLE.iter().chain(&[("gc.auto", "0"), ("user.name", "B")]) {
            place.git(&["config", name, value]);
        }
        place.git(&["config", "user.email", "b@example.com"]);
        place.remote.git(&["config", "receive.autogc", "false"]);
        let mut import = place.command("git");
        import.args(["fast-import", "--quiet"]).stdin(Stdio::piped());
        let mut child = import.spawn().unwrap();
        let mut out = std::io::BufWriter::new(child.stdin.take().unwrap());
        out.write_all(b"commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata 1\nx\n")
            .unwrap();
        for n in 0..files {
            let text = vpc(&format!("old-{n}"), n);
            let path = place.filed(&format!("old-{n}"));
            write!(out, "M 100644 inline {path}\ndata {}\n{text}\n", text.len()).unwrap();
        }
        drop(out);
        assert!(child.wait().unwrap().success());
        place.git(&["reset", "--quiet", "--hard"]);
        place.git(&["push", "--quiet", "-u", "origin", "main"]);
        place
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Where a resource of this name is filed.
    fn filed(&self, name: &str) -> String {
        match self.layout.as_str() {
            "sharded" => {
                let digest = git_intake::model::digest::Sha256::of(name.as_bytes()).short();
                format!("fabric-1/managed/vpcs/_{}/{name}.yaml", &digest[..2])
            }
            _ => format!("fabric-1/managed/vpcs/{name}.yaml"),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.work()).envs(ENVIRONMENT).stderr(Stdio::null());
        command.envs(self.remote.environment()).stdout(Stdio::null());
        command.env("GIT_INTAKE_LAYOUT", &self.layout);
        command
    }

    fn git(&self, args: &[&str]) {
        let output = self.command("git").args(args).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {stderr}");
    }

    /// What the remote's branch is on, read as cheaply as can be.
    fn tip(&self) -> String {
        fs::read_to_string(self.remote.path.join("refs/heads/main")).unwrap_or_default()
    }

    /// When the remote's branch has moved away from `from`.
    fn moved(&self, from: &str) -> Instant {
        let begun = Instant::now();
        loop {
            let tip = self.tip();
            if tip != from && !tip.is_empty() {
                return Instant::now();
            }
            assert!(begun.elapsed() < WAIT_MAX, "the remote never moved");
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn init(&self) {
        let made = self.command(PROGRAM).args(["init", "--fabric", "fabric-1"]).status();
        assert!(made.unwrap().success());
        self.git(&["push", "--quiet", "origin", "main"]);
    }

    /// Starts the agent and waits until it answers.
    fn agent(&self) -> (Agent, Duration) {
        let begun = Instant::now();
        let agent = Agent(self.command(PROGRAM).arg("run").spawn().unwrap());
        loop {
            let mut ask = self.command(PROGRAM);
            ask.args(["status", "--json"]).stdout(Stdio::piped());
            let told = ask.output().unwrap().stdout;
            if String::from_utf8_lossy(&told).contains("\"running\": true") {
                return (agent, begun.elapsed());
            }
            assert!(begun.elapsed() < WAIT_MAX, "the agent never answered");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn managed(&self) -> usize {
        let mut list = self.command("git");
        list.args(["ls-tree", "-r", "--name-only", "HEAD:fabric-1/managed/vpcs"]);
        list.stdout(Stdio::piped())
            .output()
            .unwrap()
            .stdout
            .iter()
            .filter(|it| **it == b'\n')
            .count()
    }
}

/// A running agent, stopped in the end.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// What the kernel counted of a process.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    cpu_s: f64,
    written_bytes: f64,
    switches: f64,
}

impl Agent {
    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap_or_default()
    }

    fn field(&self, name: &str, key: &str) -> f64 {
        let text = self.proc(name);
        let line = text.lines().find_map(|it| it.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0.0)
    }

    fn counted(&self) -> Counted {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime, stime, and those of children that were waited for: in hundredths of a second.
        let ticks: f64 = fields[11..15].iter().map(|it| it.parse::<f64>().unwrap()).sum();
        let mut switches = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = status.lines().find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
            switches += line.unwrap().trim().parse::<f64>().unwrap();
        }
        let written_bytes = self.field("io", "write_bytes:");
        Counted { cpu_s: ticks / 100.0, written_bytes, switches }
    }

    fn rss_mib(&self, key: &str) -> f64 {
        self.field("status", key) / 1024.0
    }
}

fn vpc(name: &str, n: usize) -> String {
    format!(
        "# The network of tenant {n}.\napiVersion: vpc.githedgehog.com/v1beta1\nkind: VPC\n\
         metadata:\n  name: {name}\n  labels:\n    tenant: \"{n}\"\nspec:\n  \
         ipv4Namespace: default\n  vlanNamespace: default\n  subnets:\n    default:\n      \
         subnet: 10.{}.{}.0/24\n      gateway: 10.{}.{}.1\n      vlan: {}\n",
        n / 250 % 250,
        n % 250,
        n / 250 % 250,
        n % 250,
        1001 + n % 2000
    )
}

/// Others change so many resources with one commit; both fetch it from the same remote.
///
/// Each round has directories of its own, which stay until the end: an ext4 without a journal passes
/// over every inode that was freed in the last minutes, one by one, before it gives one out.
fn incoming(table: &mut Table, count: usize) {
    let rounds = number("AGENT_BENCH_ROUNDS", 11);
    let mut rows: [Vec<[f64; 3]>; 2] = Default::default();
    let mut places = Vec::new();
    for round in 0..=rounds {
        let ours = Place::new(Remote::file(), count);
        ours.init();
        assert!(ours.command(PROGRAM).arg("sync").status().unwrap().success());
        let [others, theirs] = ["others", "theirs"].map(|name| cloned(&ours, name));
        for n in 0..count {
            let (old, new) = (format!("\"{n}\""), format!("\"{n}-{round}\""));
            let text = vpc(&format!("old-{n}"), n).replace(&old, &new);
            let path = format!("{others}/fabric-1/managed/vpcs/old-{n}.yaml");
            fs::write(path, text).unwrap();
        }
        ours.git(&["-C", &others, "commit", "-qam", "all"]);
        ours.git(&["-C", &others, "push", "--quiet"]);
        assert!(Command::new("sync").status().unwrap().success());
        let pull = format!("git -C {theirs} pull --quiet --ff-only");
        let sync = format!("{PROGRAM} sync --direction git-to-record");
        // Whoever goes first finds nothing in the cache, so they take turns.
        let mut scripts = [(0, sync), (1, pull)];
        scripts.rotate_left(round % 2);
        for (n, script) in scripts {
            let (wall, counted, peak) = timed(&ours, &script);
            rows[n].push([wall, counted.cpu_s, peak]);
        }
        assert!(ours.command(PROGRAM).arg("verify").status().unwrap().success());
        places.push(ours);
    }
    for (n, what, unit) in [(0, "wall", "s"), (1, "CPU", "s"), (2, "peak memory", "MiB")] {
        // The first round warms both up.
        let of = |rows: &[[f64; 3]]| {
            let values: Vec<_> = rows[1..].iter().map(|it| it[n]).collect();
            percentile(&values, 50)
        };
        let title = format!("{count} resources changed by others: {what}");
        table.row(&title, unit, of(&rows[0]), Some(of(&rows[1])));
    }
}

/// Somebody's clone of the remote, beside the place.
fn cloned(place: &Place, name: &str) -> String {
    let path = place.dir.path().join(name).display().to_string();
    place.git(&["clone", "--quiet", &place.remote.url, &path]);
    let more = [("gc.auto", "0"), ("user.name", "O"), ("user.email", "o@example.com")];
    for (name, value) in DURABLE.iter().chain(&more) {
        place.git(&["-C", &path, "config", name, value]);
    }
    path
}

/// The same with comments: about one kilobyte, as real ones have it.
fn long(name: &str, n: usize) -> String {
    let mut text = vpc(name, n);
    while text.len() < 980 {
        writeln!(
            text,
            "# {:04} a line that makes the file about one kilobyte long",
            text.len() + n
        )
        .unwrap();
    }
    text
}

/// Runs a command with what GNU time counts: wall, CPU seconds, peak MiB and MiB written.
fn timed(place: &Place, script: &str) -> (f64, Counted, f64) {
    let mut time = place.command("/usr/bin/time");
    time.args(["-f", "%M %U %S %O", "sh", "-ec", script]).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = time.output().unwrap();
    let wall = begun.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {text}");
    let last = text.lines().last().unwrap_or_default();
    let n: Vec<f64> = last.split(' ').filter_map(|it| it.parse().ok()).collect();
    let [kib, user, system, blocks] = n[..] else { panic!("GNU time says {last}") };
    let counted = Counted { cpu_s: user + system, written_bytes: blocks * 512.0, switches: 0.0 };
    (wall, counted, kib / 1024.0)
}

/// Gives the median of ours in seconds; none where the carrier's server is not installed.
fn latency(table: &mut Table, size: usize, carrier: &str, layout: &str) -> Option<f64> {
    let rounds = number("AGENT_BENCH_ROUNDS", 11);
    let place = || {
        let remote = match carrier {
            "https" => Remote::https(Auth::None)?,
            _ => Remote::file(),
        };
        Some(Place::laid_out(remote, size, layout))
    };
    let (ours, theirs) = (place()?, place()?);
    ours.init();
    let (agent, _) = ours.agent();
    let (mut ours_s, mut theirs_s) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let name = format!("new-{round}");
        let text = vpc(&name, round);
        let beside = ours.dir.path().join("beside");
        fs::write(&beside, &text).unwrap();
        let tip = ours.tip();
        let begun = Instant::now();
        fs::rename(&beside, ours.work().join(format!("fabric-1/raw/{round}.yaml"))).unwrap();
        ours_s.push((ours.moved(&tip) - begun).as_secs_f64());
        // The index is refreshed behind the push; it is not to slow git down.
        std::thread::sleep(Duration::from_millis(500));
        let path = theirs.filed(&name);
        let script = format!("git add {path}; git commit -qm x; git push -q origin main");
        let tip = theirs.tip();
        fs::create_dir_all(theirs.work().join(&path).parent().unwrap()).unwrap();
        let begun = Instant::now();
        fs::write(theirs.work().join(&path), &text).unwrap();
        let mut child = theirs.command("sh").args(["-ec", &script]).spawn().unwrap();
        theirs_s.push((theirs.moved(&tip) - begun).as_secs_f64());
        assert!(child.wait().unwrap().success());
        // A person would not drop faster than this.
        std::thread::sleep(Duration::from_millis(300));
    }
    // The first one warms both up.
    let (ours_s, theirs_s) = (&ours_s[1..], &theirs_s[1..]);
    let title = format!("latency, {size} files, {layout}, {carrier}");
    for n in [50, 99] {
        let (ours, theirs) = (percentile(ours_s, n) * 1e3, percentile(theirs_s, n) * 1e3);
        table.row(&format!("{title}, p{n}"), "ms", ours, Some(theirs));
    }
    table.row(&format!("{title}: peak memory"), "MiB", agent.rss_mib("VmHWM:"), None);
    Some(percentile(ours_s, 50))
}

/// How often one dropped file, and one added by git, has something forced to the disk here; what the
/// receiving git does counts on both sides, as it is a child of each.
fn syncs(table: &mut Table) {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("strace is not installed: how often something is synced is left out");
        return;
    }
    let traced = |place: &Place, program: &str, args: &[&str]| {
        let mut command = place.command("strace");
        command.args(["-f", "-qq", "-o", "../trace", "-e", "trace=fsync,fdatasync,syncfs"]);
        command.arg(program).args(args);
        command
    };
    let count = |place: &Place| {
        let text = fs::read_to_string(place.dir.path().join("trace")).unwrap_or_default();
        text.lines().filter(|it| it.contains("sync") && !it.contains("resumed")).count()
    };
    let place = Place::new(Remote::file(), 100);
    place.init();
    let agent = Agent(traced(&place, PROGRAM, &["run"]).spawn().unwrap());
    let mut counts = Vec::new();
    for round in 0..4 {
        std::thread::sleep(Duration::from_secs(2));
        let (before, tip) = (count(&place), place.tip());
        let beside = place.dir.path().join("beside");
        fs::write(&beside, vpc(&format!("sync-{round}"), round)).unwrap();
        fs::rename(&beside, place.work().join(format!("fabric-1/raw/{round}.yaml"))).unwrap();
        place.moved(&tip);
        std::thread::sleep(Duration::from_secs(2));
        counts.push((count(&place) - before) as f64);
    }
    drop(agent);
    let git = Place::new(Remote::file(), 100);
    fs::write(git.work().join("fabric-1/managed/vpcs/new.yaml"), vpc("new", 1)).unwrap();
    let script = "git add -A; git commit -qm x; git push -q origin main";
    assert!(traced(&git, "sh", &["-ec", script]).status().unwrap().success());
    // The first turn also makes what a new store lacks.
    let ours = percentile(&counts[1..], 50);
    table.row("one file: syncs", "", ours, Some(count(&git) as f64));
}

fn percentile(values: &[f64], n: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) * n).div_ceil(100)]
}

/// Makes so many drops in a directory beside the work tree.
fn drops(place: &Place, count: usize, round: usize) -> PathBuf {
    let dir = place.dir.path().join(format!("drops-{round}"));
    fs::create_dir(&dir).unwrap();
    for n in 0..count {
        fs::write(dir.join(format!("{n}.yaml")), long(&format!("r{round}-{n}"), n)).unwrap();
    }
    // What the kernel has still to write belongs to nobody's time.
    rustix::fs::sync();
    dir
}

fn throughput(table: &mut Table, count: usize) {
    let rounds = number("AGENT_BENCH_ROUNDS", 11).min(if count >= 100_000 { 3 } else { 5 });
    let mut rows: [Vec<[f64; 4]>; 3] = Default::default();
    for round in 0..rounds {
        rows[0].push(ours_at_once(count, round));
        let place = Place::new(Remote::file(), 100);
        let dir = drops(&place, count, round);
        let to = place.work().join("fabric-1/managed/vpcs/new");
        fs::rename(dir, to).unwrap();
        let script = "git add -A; git commit -qm x; git push -q origin main";
        let (wall, counted, peak) = timed(&place, script);
        rows[1].push([wall, counted.cpu_s, peak, counted.written_bytes / 1048576.0]);
        rows[2].push(fast_import(count));
    }
    for (n, what, unit) in
        [(0, "wall", "s"), (1, "CPU", "s"), (2, "peak memory", "MiB"), (3, "written", "MiB")]
    {
        let of = |rows: &[[f64; 4]]| {
            let values: Vec<_> = rows.iter().map(|it| it[n]).collect();
            percentile(&values, 50)
        };
        let (ours, git, import) = (of(&rows[0]), of(&rows[1]), of(&rows[2]));
        table.row(&format!("{count} files at once: {what}"), unit, ours, Some(git));
        if n < 2 {
            table.row(
                &format!("{count} files at once: {what} (fast-import)"),
                unit,
                ours,
                Some(import),
            );
        }
    }
}

fn ours_at_once(count: usize, round: usize) -> [f64; 4] {
    let place = Place::new(Remote::file(), 100);
    place.init();
    let (agent, _) = place.agent();
    let dir = drops(&place, count, round);
    let before = agent.counted();
    let begun = Instant::now();
    fs::rename(&dir, place.work().join("fabric-1/raw/drops")).unwrap();
    let (mut tip, mut last) = (place.tip(), begun);
    loop {
        std::thread::sleep(Duration::from_millis(1));
        let now = place.tip();
        if now != tip {
            (tip, last) = (now, Instant::now());
        }
        let raw = place.work().join("fabric-1/raw/drops");
        let empty = fs::read_dir(raw).map_or(true, |mut it| it.next().is_none());
        let head = fs::read_to_string(place.work().join(".git/refs/heads/main"));
        if empty && head.is_ok_and(|it| it == tip) {
            break;
        }
        assert!(begun.elapsed() < WAIT_MAX, "not all drops were taken");
    }
    assert_eq!(place.managed(), count + 100);
    // What comes behind the push counts as work too.
    std::thread::sleep(Duration::from_secs(2));
    let after = agent.counted();
    [
        (last - begun).as_secs_f64(),
        after.cpu_s - before.cpu_s,
        agent.rss_mib("VmHWM:"),
        (after.written_bytes - before.written_bytes) / 1048576.0,
    ]
}

/// The practical limit: no files, no index.
fn fast_import(count: usize) -> [f64; 4] {
    let place = Place::new(Remote::file(), 100);
    let stream = place.dir.path().join("stream");
    let mut out = std::io::BufWriter::new(fs::File::create(&stream).unwrap());
    out.write_all(b"commit refs/heads/main\ncommitter C <c@d> 1700000001 +0000\ndata 1\nx\nfrom refs/heads/main^0\n")
        .unwrap();
    for n in 0..count {
        let text = long(&format!("r-{n}"), n);
        let path = format!("fabric-1/managed/vpcs/r-{n}.yaml");
        write!(out, "M 100644 inline {path}\ndata {}\n{text}\n", text.len()).unwrap();
    }
    out.into_inner().unwrap().sync_all().unwrap();
    let script = "git fast-import --quiet <../stream; git push -q origin main";
    let (wall, counted, peak) = timed(&place, script);
    [wall, counted.cpu_s, peak, counted.written_bytes / 1048576.0]
}

fn documents(table: &mut Table, count: usize) {
    let place = Place::new(Remote::file(), 100);
    place.init();
    let (agent, _) = place.agent();
    let text: Vec<String> = (0..count).map(|n| vpc(&format!("doc-{n}"), n)).collect();
    let beside = place.dir.path().join("beside");
    fs::write(&beside, text.join("---\n")).unwrap();
    let tip = place.tip();
    let begun = Instant::now();
    fs::rename(&beside, place.work().join("fabric-1/raw/all.yaml")).unwrap();
    let took = (place.moved(&tip) - begun).as_secs_f64();
    assert_eq!(place.managed(), count + 100);
    let git = Place::new(Remote::file(), 100);
    let dir = drops(&git, count, 0);
    fs::rename(dir, git.work().join("fabric-1/managed/vpcs/new")).unwrap();
    let (wall, _, _) = timed(&git, "git add -A; git commit -qm x; git push -q origin main");
    table.row(&format!("one file of {count} documents"), "s", took, Some(wall));
    table.row("one file of many documents: peak memory", "MiB", agent.rss_mib("VmHWM:"), None);
}

fn memory(table: &mut Table, size: usize) {
    let place = Place::new(Remote::file(), size);
    place.init();
    let (agent, first) = place.agent();
    table.row(&format!("first start, {size} files"), "s", first.as_secs_f64(), None);
    drop(agent);
    let begun = Instant::now();
    assert!(place.command(PROGRAM).arg("rebuild").status().unwrap().success());
    table.row(&format!("rebuild of {size} records"), "s", begun.elapsed().as_secs_f64(), None);
    let mut commits = Vec::new();
    for round in 0..5 {
        let text = vpc(&format!("start-{round}"), round);
        fs::write(place.work().join(format!("fabric-1/raw/start-{round}.yaml")), text).unwrap();
        let tip = place.tip();
        let begun = Instant::now();
        let agent = Agent(place.command(PROGRAM).arg("run").spawn().unwrap());
        commits.push((place.moved(&tip) - begun).as_secs_f64());
        drop(agent);
    }
    let title = format!("start with {size} records to a pushed commit");
    table.row(&title, "s", percentile(&commits, 50), None);
    let (agent, _) = place.agent();
    std::thread::sleep(Duration::from_secs(5));
    let before = agent.counted();
    let idle_s = number("AGENT_BENCH_IDLE_S", 65) as u64;
    std::thread::sleep(Duration::from_secs(idle_s));
    let after = agent.counted();
    let minutes = idle_s as f64 / 60.0;
    let per_minute = |a: f64, b: f64| (a - b) / minutes;
    table.row("idle: CPU seconds a minute", "s", per_minute(after.cpu_s, before.cpu_s), None);
    table.row("idle: wakes a minute", "", per_minute(after.switches, before.switches), None);
    table.row(&format!("idle with {size} records: memory"), "MiB", agent.rss_mib("VmRSS:"), None);
    let store = place.work().join(".git/intake/state/store");
    let bytes: u64 = walk(&store).iter().map(|it| it.metadata().map_or(0, |it| it.len())).sum();
    table.row(&format!("store of {size} records"), "MiB", bytes as f64 / 1048576.0, None);
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            it if it.is_dir() => found.extend(walk(&it)),
            it => found.push(it),
        }
    }
    found
}

/// Rows as they come, and a drawing of those that have two sides.
#[derive(Default)]
struct Table {
    rows: Vec<(String, &'static str, f64, f64)>,
}

impl Table {
    fn row(&mut self, title: &str, unit: &'static str, ours: f64, git: Option<f64>) {
        let show = |value: f64| match value {
            ..1.0 => format!("{value:.3} {unit}"),
            1.0..100.0 => format!("{value:.1} {unit}"),
            _ => format!("{value:.0} {unit}"),
        };
        let ratio = git.map_or("-".to_owned(), |git| format!("{:.2}", ours / git));
        let other = git.map_or("-".to_owned(), show);
        println!("{title:<52} {ratio:>6} {:>12} {other:>12}", show(ours));
        if let Some(git) = git {
            self.rows.push((title.to_owned(), unit, ours, git));
        }
    }

    /// Ratios as bars: what is left of the line is faster than plain git.
    fn draw(&self) {
        let height = 40 + 22 * self.rows.len();
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <text x=\"10\" y=\"18\">ratio to plain git (the line is 1.0; shorter is faster)</text>\n"
        );
        for (n, (title, unit, ours, git)) in self.rows.iter().enumerate() {
            let (ratio, y) = (ours / git, 32 + 22 * n);
            let (width, fill) =
                ((ratio * 200.0).min(400.0), if ratio <= 1.0 { "#2a7" } else { "#c53" });
            writeln!(
                out,
                "<text x=\"10\" y=\"{}\">{title}</text><rect x=\"380\" y=\"{y}\" width=\"{width:.0}\" \
                 height=\"16\" fill=\"{fill}\"/><text x=\"{:.0}\" y=\"{}\">{ratio:.2} ({ours:.3} to \
                 {git:.3} {unit})</text>",
                y + 13,
                385.0 + width,
                y + 13
            )
            .unwrap();
        }
        writeln!(
            out,
            "<line x1=\"580\" y1=\"26\" x2=\"580\" y2=\"{height}\" stroke=\"#333\"/></svg>"
        )
        .unwrap();
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("agent.svg"), out).unwrap();
        println!("drawn in {}", dir.join("agent.svg").display());
    }
}
