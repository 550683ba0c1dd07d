//! The push room and `git push`, side by side in the same run: wall time and peak memory.
//!
//! `cargo bench --bench push [-- FILTER]`. Each round pushes the same commits to two remotes, one
//! with each; rounds alternate, and the median counts. `PUSH_BENCH_ROUNDS` (5) and
//! `PUSH_BENCH_FILES` (100000) change the size.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code)]

#[path = "../tests/it/remote.rs"]
mod remote;

use std::{
    fmt::Write as _,
    io::Write as _,
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

/// A name, what is there before, and what each round adds.
type Case = (&'static str, Box<dyn Fn(&Path)>, fn(usize) -> String);

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
    let (rounds, files) = (number("PUSH_BENCH_ROUNDS", 5), number("PUSH_BENCH_FILES", 100_000));
    println!(
        "{:<42} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "", "git", "room", "ratio", "git KiB", "room KiB"
    );
    let cases: [Case; 4] = [
        ("one file, flat folder", Box::new(move |it| tree(it, files, files)), one_file),
        ("one file, small folders", Box::new(move |it| tree(it, files, 300)), one_file),
        ("10,000 new files", Box::new(|it| tree(it, 100, 10)), many_files),
        ("1,000 commits", Box::new(|it| tree(it, 1000, 50)), many_commits),
    ];
    for (name, prepare, change) in &cases {
        let local = tempfile::tempdir().unwrap();
        let mut prepared = false;
        for carrier in ["file", "https", "ssh"] {
            let title = format!("{name}, {carrier}");
            if !title.contains(&filter) {
                continue;
            }
            if !std::mem::replace(&mut prepared, true) {
                prepare(local.path());
            }
            measure(&title, carrier, local.path(), *change, rounds);
        }
    }
}

fn import(dir: &Path, stream: &str) {
    let mut child =
        git(dir).args(["fast-import", "--quiet", "--force"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

const HEAD: &str = "commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata 1\nx\n";

fn entry(path: &str, text: &str) -> String {
    format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len())
}

fn tree(dir: &Path, files: usize, per_folder: usize) {
    run(dir, &["init", "--quiet", "-b", "main"]);
    let mut stream = HEAD.to_owned();
    for n in 0..files {
        stream.push_str(&entry(&format!("d{}/f{n}", n / per_folder), &format!("file {n}\n")));
    }
    import(dir, &stream);
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
    let [dir, url, ca_file, ssh, auth] = args else { panic!("five arguments") };
    let repo = gix::open_opts(dir, gix::open::Options::isolated()).unwrap();
    let new: ObjectId = repo.find_reference("refs/heads/main").unwrap().id().detach();
    let basic = Login::Basic { user: USER.into(), password: PASSWORD.into() };
    let mut token = Token(basic);
    let mut options = Options::default();
    options.client.ca_file = (!ca_file.is_empty()).then(|| ca_file.into());
    options.ssh_command = (!ssh.is_empty()).then(|| ssh.as_str().into());
    if auth == "basic" {
        options.credentials = Some(&mut token);
    }
    let url = gix::url::parse(url.as_bytes().as_bstr()).unwrap();
    let name = "refs/heads/main".into();
    let update = RefUpdate { name, new, expect: Expect::FastForward };
    assert!(push(&repo, &url, &[update], &mut options).unwrap().is_ok());
}

fn timed(mut command: Command) -> (Duration, u64) {
    let begun = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let took = begun.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    let peak = stderr.lines().last().and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    (took, peak)
}

/// GNU time tells the peak, if it is here.
fn command(program: &Path) -> Command {
    if Path::new("/usr/bin/time").is_file() {
        let mut time = Command::new("/usr/bin/time");
        time.args(["-f", "%M"]).arg(program);
        return time;
    }
    Command::new(program)
}

fn remote(carrier: &str) -> Option<Remote> {
    match carrier {
        "https" => Remote::https(Auth::Basic),
        "ssh" => Remote::ssh(),
        _ => Some(Remote::file()),
    }
}

fn measure(title: &str, carrier: &str, local: &Path, change: fn(usize) -> String, rounds: usize) {
    let (Some(ours), Some(theirs)) = (remote(carrier), remote(carrier)) else {
        return;
    };
    for to in [&ours, &theirs] {
        run(local, &["push", "--quiet", to.path.to_str().unwrap(), "main"]);
    }
    let (mut git_runs, mut room_runs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        import(local, &change(round));
        let mut git = command(Path::new("git"));
        let login = format!("{USER}:{}@localhost", PASSWORD.replace(' ', "%20"));
        let url = theirs.url.replace("localhost", &login);
        git.current_dir(local).args(["push", "--quiet", &url, "main"]);
        git.envs(remote::ENVIRONMENT).envs(theirs.environment());
        let mut room = command(&std::env::current_exe().unwrap());
        let path = ours.ca_file.clone().unwrap_or_default();
        room.arg("--push-once").arg(local).arg(&ours.url).arg(path);
        room.arg(ours.ssh_command.clone().unwrap_or_default());
        room.arg(if ours.auth == Auth::Basic { "basic" } else { "none" });
        room.envs(remote::ENVIRONMENT);
        if round % 2 == 0 {
            git_runs.push(timed(git));
            room_runs.push(timed(room));
        } else {
            room_runs.push(timed(room));
            git_runs.push(timed(git));
        }
    }
    let median = |runs: &mut Vec<(Duration, u64)>| {
        runs.sort();
        runs[runs.len() / 2].0.as_secs_f64()
    };
    let peak = |runs: &[(Duration, u64)]| runs.iter().map(|it| it.1).max().unwrap_or(0);
    let (git_s, room_s) = (median(&mut git_runs), median(&mut room_runs));
    println!(
        "{title:<42} {git_s:>8.3}s {room_s:>8.3}s {:>6.2} {:>9} {:>9}",
        room_s / git_s,
        peak(&git_runs),
        peak(&room_runs)
    );
}
