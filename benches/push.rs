//! The push room and `git push`, side by side in the same run: wall time, CPU time, peak memory.
//!
//! `cargo bench --bench push [-- FILTER]`, for instance `-- "one file, flat, ssh"`. Each round pushes
//! the same commits to two remotes, one with each, both in a process of its own; rounds alternate
//! in who goes first, so that a busy machine slows both alike, and the medians are compared.
//! Over `file`, `http` and `ssh` the receiver is measured alone too, fed with the bytes that the room
//! sent: no sender can be faster than that.
//! `PUSH_BENCH_ROUNDS` (7) and `PUSH_BENCH_FILES` (100000) change the size.
//! CPU seconds and peak memory count a process and the children it waited for: over `file` the
//! receiving git is among them on both sides.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code)]

#[path = "../tests/it/remote.rs"]
mod remote;

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use git_intake::push::{
    Expect, Options, RefUpdate,
    credentials::{Login, Token},
    push,
};
use gix::{ObjectId, bstr::ByteSlice};
use remote::{Auth, PASSWORD, Remote, USER, git, run};

/// What is pushed.
struct Case {
    name: &'static str,
    /// What is there before.
    prepare: Box<dyn Fn(&Path)>,
    /// What each round adds, for git's fast-import.
    change: fn(usize) -> String,
    /// The new objects are files of their own, not a pack.
    loose: bool,
}

fn cases(files: usize) -> [Case; 6] {
    let case = |name, in_all: usize, per_folder, change, loose| {
        let prepare = Box::new(move |it: &Path| tree(it, in_all, per_folder));
        Case { name, prepare, change, loose }
    };
    [
        case("one file, flat", files, files, one_file, true),
        case("one file, small folders", files, 300, one_file, true),
        case("10,000 files, packed", 100, 10, many_files, false),
        case("10,000 files, loose", 100, 10, many_files, true),
        case("1,000 commits, packed", 1000, 50, many_commits, false),
        case("1,000 commits, loose", 1000, 50, many_commits, true),
    ]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rest @ ..] = &args[..]
        && flag == "--push-once"
    {
        return once(rest);
    }
    let filter = args.iter().find(|it| !it.starts_with('-')).cloned().unwrap_or_default();
    let number =
        |name, default| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (rounds, files) = (number("PUSH_BENCH_ROUNDS", 7), number("PUSH_BENCH_FILES", 100_000));
    println!("medians of {rounds}; ratios are the room to git; KiB are peaks");
    println!(
        "{:<33} {:>5} {:>5} {:>5} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "",
        "wall",
        "cpu",
        "peak",
        "git",
        "room",
        "receiver",
        "git cpu",
        "room cpu",
        "git KiB",
        "room KiB"
    );
    for case in cases(files) {
        let local = tempfile::tempdir().unwrap();
        let mut prepared = false;
        // No two rounds bring the same content, whatever the carrier.
        let mut round = 0;
        for carrier in ["file", "http", "https", "ssh"] {
            let title = format!("{}, {carrier}", case.name);
            if !title.contains(&filter) {
                continue;
            }
            if !std::mem::replace(&mut prepared, true) {
                (case.prepare)(local.path());
            }
            measure(&title, carrier, local.path(), &case, round..round + rounds);
            round += rounds;
        }
    }
}

fn import(dir: &Path, stream: &str, loose: bool) {
    let limit = format!("fastimport.unpackLimit={}", if loose { 1_000_000 } else { 1 });
    let mut import = git(dir);
    import.args(["-c", &limit, "fast-import", "--quiet", "--force"]).stdin(Stdio::piped());
    let mut child = import.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

const HEAD: &str = "commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata 1\nx\n";

fn entry(path: &str, text: &str) -> String {
    format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len())
}

fn tree(dir: &Path, files: usize, per_folder: usize) {
    run(dir, &["init", "--quiet", "-b", "main"]);
    // Nobody tidies up in the background while others are measured.
    run(dir, &["config", "gc.auto", "0"]);
    // As in a clone, what was last seen of the remote is known.
    run(dir, &["config", "remote.origin.url", "nowhere"]);
    let mut stream = HEAD.to_owned();
    for n in 0..files {
        stream.push_str(&entry(&format!("d{}/f{n}", n / per_folder), &format!("file {n}\n")));
    }
    import(dir, &stream, false);
}

fn one_file(round: usize) -> String {
    format!("{HEAD}from refs/heads/main^0\n{}", entry("d0/f1", &format!("round {round}\n")))
}

fn many_files(round: usize) -> String {
    let mut out = format!("{HEAD}from refs/heads/main^0\n");
    for n in 0..10_000 {
        let text = format!("kind: VPC\nmetadata:\n  name: vpc-{round}-{n}\n").repeat(8);
        out.push_str(&entry(&format!("r{round}/d{}/f{n}", n % 100), &text));
    }
    out
}

fn many_commits(round: usize) -> String {
    let mut out = String::new();
    for n in 0..1000 {
        let from = if n == 0 { "from refs/heads/main^0\n" } else { "" };
        let text = format!("round {round} commit {n}\n").repeat(20);
        write!(out, "{HEAD}{from}{}", entry(&format!("d{}/f{}", n % 20, n % 1000), &text)).unwrap();
    }
    out
}

/// Pushes main to a URL: what is measured of the room, in a process of its own like git's.
fn once(args: &[String]) {
    let [dir, url, ca_file, ssh, auth, receive_pack] = args else { panic!("six arguments") };
    let repo = gix::open_opts(dir, gix::open::Options::isolated()).unwrap();
    let new: ObjectId = repo.find_reference("refs/heads/main").unwrap().id().detach();
    let basic = Login::Basic { user: USER.into(), password: PASSWORD.into() };
    let mut token = Token(basic);
    let mut options = Options::default();
    options.client.ca_file = (!ca_file.is_empty()).then(|| ca_file.into());
    options.ssh_command = (!ssh.is_empty()).then(|| ssh.as_str().into());
    options.receive_pack = (!receive_pack.is_empty()).then(|| receive_pack.as_str().into());
    if auth == "basic" {
        options.credentials = Some(&mut token);
    }
    let url = gix::url::parse(url.as_bytes().as_bstr()).unwrap();
    let name = "refs/heads/main".into();
    let update = RefUpdate { name, new, expect: Expect::FastForward };
    assert!(push(&repo, &url, &[update], &mut options).unwrap().is_ok());
}

/// One run.
struct Run {
    wall: Duration,
    cpu_s: f64,
    peak_kib: f64,
}

fn timed(mut command: Command) -> Run {
    let begun = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let wall = begun.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    let numbers: Vec<f64> = last.split(' ').filter_map(|it| it.parse().ok()).collect();
    match numbers[..] {
        [peak_kib, user, system] => Run { wall, cpu_s: user + system, peak_kib },
        _ => Run { wall, cpu_s: 0.0, peak_kib: 0.0 },
    }
}

/// GNU time tells peak and CPU time, if it is here.
fn command(program: &Path) -> Command {
    if Path::new("/usr/bin/time").is_file() {
        let mut time = Command::new("/usr/bin/time");
        time.args(["-f", "%M %U %S"]).arg(program);
        return time;
    }
    Command::new(program)
}

fn remote(carrier: &str) -> Option<Remote> {
    let remote = match carrier {
        "http" => Remote::http(Auth::None),
        "https" => Remote::https(Auth::Basic),
        "ssh" => Remote::ssh(),
        _ => Some(Remote::file()),
    };
    remote.inspect(|it| drop(it.git(&["config", "receive.autogc", "false"])))
}

/// The room's push to a remote, in a process of its own.
fn room(local: &Path, to: &Remote, receive_pack: &str) -> Command {
    let mut room = command(&std::env::current_exe().unwrap());
    room.arg("--push-once").arg(local).arg(&to.url).arg(to.ca_file.clone().unwrap_or_default());
    room.arg(to.ssh_command.clone().unwrap_or_default());
    room.arg(if to.auth == Auth::Basic { "basic" } else { "none" }).arg(receive_pack);
    room.envs(remote::ENVIRONMENT);
    room
}

/// A receiver that is given what a sender once sent, and a place to record that.
struct Alone {
    record: Remote,
    receiver: Remote,
}

impl Alone {
    fn new(carrier: &str) -> Option<Alone> {
        let receiver = remote(carrier).filter(|_| carrier != "https")?;
        Some(Alone { record: Remote::file(), receiver })
    }

    fn run(&self, local: &Path) -> Run {
        let sent = self.record.dir.path().join("sent");
        let tee = format!("tee {} | git-receive-pack", sent.display());
        timed(room(local, &self.record, &tee));
        if self.receiver.url.starts_with("http:") {
            return over_http(&self.receiver.url, &std::fs::read(sent).unwrap());
        }
        let path = self.receiver.path.to_str().unwrap();
        let mut receive = match &self.receiver.ssh_command {
            Some(ssh) => {
                let url = gix::url::parse(self.receiver.url.as_bytes().as_bstr()).unwrap();
                let to = format!("{}@{}", url.user().unwrap(), url.host().unwrap());
                let mut sh = command(Path::new("sh"));
                let port = url.port.unwrap();
                sh.arg("-c").arg(format!("{ssh} -p {port} {to} git-receive-pack {path}"));
                sh
            }
            None => {
                let mut receive = command(Path::new("git-receive-pack"));
                receive.arg(path);
                receive
            }
        };
        receive.envs(remote::ENVIRONMENT).stdin(std::fs::File::open(sent).unwrap());
        timed(receive)
    }
}

/// What git's server takes over HTTP, asked by two requests that are ready to be sent.
fn over_http(url: &str, sent: &[u8]) -> Run {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let ask = |head: String, body: &[u8]| {
        let mut to = std::net::TcpStream::connect(host).unwrap();
        to.write_all(format!("{head} HTTP/1.0\r\nHost: {host}\r\n").as_bytes()).unwrap();
        let kind = "Content-Type: application/x-git-receive-pack-request";
        write!(to, "{kind}\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
        to.write_all(body).unwrap();
        let mut answer = Vec::new();
        to.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"));
    };
    let begun = Instant::now();
    ask(format!("GET /{path}/info/refs?service=git-receive-pack"), b"");
    ask(format!("POST /{path}/git-receive-pack"), sent);
    Run { wall: begun.elapsed(), cpu_s: 0.0, peak_kib: 0.0 }
}

fn measure(title: &str, carrier: &str, local: &Path, case: &Case, rounds: Range<usize>) {
    let (Some(ours), Some(theirs)) = (remote(carrier), remote(carrier)) else {
        return;
    };
    let alone = Alone::new(carrier);
    let others = alone.iter().flat_map(|it| [&it.record, &it.receiver]);
    for to in [&ours, &theirs].into_iter().chain(others) {
        run(local, &["push", "--quiet", to.path.to_str().unwrap(), "main"]);
    }
    let (mut git_runs, mut room_runs, mut alone_runs) = (Vec::new(), Vec::new(), Vec::new());
    for round in rounds {
        run(local, &["update-ref", "refs/remotes/origin/main", "main"]);
        import(local, &(case.change)(round), case.loose);
        let mut git = command(Path::new("git"));
        let login = format!("{USER}:{}@localhost", PASSWORD.replace(' ', "%20"));
        let url = match theirs.auth {
            Auth::Basic => theirs.url.replace("localhost", &login),
            _ => theirs.url.clone(),
        };
        git.current_dir(local).args(["push", "--quiet", &url, "main"]);
        git.envs(remote::ENVIRONMENT).envs(theirs.environment());
        let room = room(local, &ours, "");
        if round % 2 == 0 {
            git_runs.push(timed(git));
            room_runs.push(timed(room));
        } else {
            room_runs.push(timed(room));
            git_runs.push(timed(git));
        }
        alone_runs.extend(alone.as_ref().map(|it| it.run(local)));
        let value = ours.value("refs/heads/main");
        assert_eq!(value, theirs.value("refs/heads/main"));
        assert_eq!(value, Some(run(local, &["rev-parse", "main"])));
        assert!(alone.iter().all(|it| it.receiver.value("refs/heads/main") == value));
    }
    ours.git(&["fsck", "--strict", "--connectivity-only"]);
    let wall = |runs: &[Run]| median(runs.iter().map(|it| it.wall.as_secs_f64()));
    let cpu = |runs: &[Run]| median(runs.iter().map(|it| it.cpu_s));
    let peak = |runs: &[Run]| runs.iter().map(|it| it.peak_kib).fold(0.0, f64::max);
    let (git, room) = (&git_runs[..], &room_runs[..]);
    let receiver = match &alone_runs[..] {
        [] => String::new(),
        runs => format!("{:.3}s", wall(runs)),
    };
    println!(
        "{title:<33} {:>5.2} {:>5.2} {:>5.2} {:>8.3}s {:>8.3}s {receiver:>9} {:>7.2}s {:>7.2}s {:>8} {:>8}",
        wall(room) / wall(git),
        cpu(room) / cpu(git),
        peak(room) / peak(git),
        wall(git),
        wall(room),
        cpu(git),
        cpu(room),
        peak(git),
        peak(room)
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
