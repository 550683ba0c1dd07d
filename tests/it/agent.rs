//! The real binary: the watching agent, its signals, its socket, and the commands beside it.

use crate::world::{World, hermetic, vpc};
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Agent(pub Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn intake(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_git-intake"));
    command.current_dir(world.work()).envs(hermetic()).args(args);
    command
}

pub fn output(world: &World, args: &[&str]) -> Output {
    intake(world, args).output().unwrap()
}

pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Waits until something is so; the bound only ends a test that has failed.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A world whose fabric `init` has made, with an agent at work.
pub fn running() -> (World, Agent) {
    let world = World::new();
    let out = output(&world, &["init", "--fabric", "fabric-1"]);
    assert!(out.status.success(), "{}", text(&out));
    let agent = start(&world);
    (world, agent)
}

pub fn start(world: &World) -> Agent {
    let child = intake(world, &["run"]).stderr(Stdio::null()).spawn().unwrap();
    let agent = Agent(child);
    until("the agent answers", || {
        text(&output(world, &["status", "--json"])).contains("\"running\": true")
    });
    agent
}

pub fn signal(agent: &Agent, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, signal).unwrap();
}

pub fn on_remote(world: &World, name: &str) -> bool {
    crate::world::git_output(&world.remote, &["cat-file", "-e", &format!("main:fabric-1/{name}")])
        .status
        .success()
}

#[test]
fn what_is_dropped_while_it_watches_reaches_the_remote_and_a_sigterm_leaves_a_clean_state() {
    let (world, mut agent) = running();
    world.drop("a.yaml", vpc("vpc-1"));
    until("the drop is on the remote", || on_remote(&world, "managed/vpcs/vpc-1.yaml"));
    // A new directory with a file in it, moved in as a whole.
    let beside = world.dir.path().join("team");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("b.yaml"), vpc("vpc-2")).unwrap();
    std::fs::rename(&beside, world.raw("team")).unwrap();
    until("the moved directory is on the remote", || on_remote(&world, "managed/vpcs/vpc-2.yaml"));
    signal(&agent, rustix::process::Signal::TERM);
    assert!(agent.0.wait().unwrap().success());
    assert!(!world.work().join(".git/intake/state/agent.sock").exists());
    world.at_rest();
}

#[test]
fn a_file_that_is_still_being_written_is_never_taken_early() {
    let (world, _agent) = running();
    let mut file = std::fs::File::create(world.raw("slow.yaml")).unwrap();
    let whole = vpc("vpc-1");
    let (first, rest) = whole.split_at(whole.find("spec:").unwrap());
    // The first part alone would be a valid manifest, and it stands still far beyond the quiet period.
    file.write_all(first.as_bytes()).unwrap();
    file.flush().unwrap();
    for n in 0..25 {
        world.drop("other.yaml", vpc(&format!("other-{n}")));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!on_remote(&world, "managed/vpcs/vpc-1.yaml"), "taken while it was held open");
    }
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    until("the whole file is on the remote", || on_remote(&world, "managed/vpcs/vpc-1.yaml"));
    assert_eq!(world.clone_of_remote()["managed/vpcs/vpc-1.yaml"], whole);
}

#[test]
fn the_commands_ask_a_running_agent() {
    let (world, _agent) = running();
    let file = world.dir.path().join("vpc.yaml");
    std::fs::write(&file, vpc("vpc-1")).unwrap();
    let out = output(&world, &["put", file.to_str().unwrap(), "--wait", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(told[0]["state"], "pushed");
    assert_eq!(told[0]["targets"][0], "fabric-1/managed/vpcs/vpc-1.yaml");
    assert!(on_remote(&world, "managed/vpcs/vpc-1.yaml"));

    // A name that another drop has already is not taken from it.
    world.drop("vpc.yaml", "a: [");
    std::fs::write(&file, vpc("vpc-2")).unwrap();
    let out = output(&world, &["put", file.to_str().unwrap(), "--wait"]);
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(std::fs::read(world.raw("vpc.yaml")).unwrap(), b"a: [");
    std::fs::remove_file(world.raw("vpc.yaml")).unwrap();

    std::fs::write(&file, vpc("VPC_1")).unwrap();
    let out = output(&world, &["put", file.to_str().unwrap(), "--wait"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));
    assert!(text(&out).contains("bad-name"), "{}", text(&out));
    let out = output(&world, &["status"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));

    let out = output(&world, &["records", "show", "VPC/vpc-1", "--json"]);
    let record: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(record["source"]["path"], "vpc.yaml");
    for args in
        [&["records", "list"][..], &["operations", "list"], &["conflicts", "list"], &["verify"]]
    {
        let out = output(&world, args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
    }
    // A second agent on the same tree is refused.
    let out = output(&world, &["run"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
}

#[test]
fn without_an_agent_the_commands_do_it_themselves() {
    let world = World::new();
    assert_eq!(output(&world, &["status"]).status.code(), Some(2), "there is no fabric yet");
    assert!(output(&world, &["init", "--fabric", "fabric-1"]).status.success());
    let commits = world.commits();
    assert!(output(&world, &["init", "--fabric", "fabric-1"]).status.success(), "again is well");
    assert_eq!(world.commits(), commits);
    world.drop("vpc.yaml", vpc("vpc-1"));
    let out = output(&world, &["ingest", "--dry-run", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(world.commits(), commits, "a dry run changes nothing");
    assert!(world.raw("vpc.yaml").exists());
    assert!(output(&world, &["ingest"]).status.success());
    assert!(on_remote(&world, "managed/vpcs/vpc-1.yaml"));
    assert!(output(&world, &["rebuild"]).status.success());
    world.drop("bad.yaml", "a: [");
    assert_eq!(output(&world, &["ingest"]).status.code(), Some(3));
    assert_eq!(output(&world, &["frobnicate"]).status.code(), Some(2));
}

#[test]
fn a_killed_agent_loses_nothing_and_a_reload_keeps_working() {
    let (world, mut agent) = running();
    for n in 0..40 {
        world.drop(&format!("f{n}.yaml"), vpc(&format!("vpc-{n}")));
        if n % 8 == 7 {
            signal(&agent, rustix::process::Signal::KILL);
            agent.0.wait().unwrap();
            agent = start(&world);
        }
    }
    signal(&agent, rustix::process::Signal::HUP);
    world.drop("last.yaml", vpc("last"));
    until("everything is on the remote", || {
        on_remote(&world, "managed/vpcs/last.yaml") && world.clone_of_remote().len() == 41
    });
    until("raw/ is empty", || std::fs::read_dir(world.raw("")).unwrap().count() == 1);
    signal(&agent, rustix::process::Signal::TERM);
    agent.0.wait().unwrap();
    world.at_rest();
}

#[test]
fn the_quickstart_does_the_main_job() {
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_git-intake"))
        .current_dir(dir.path())
        .envs(hermetic())
        .args(["quickstart", "demo", "--once"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let clone = dir.path().join("demo/clone");
    let files = crate::world::git(&clone, &["ls-files", "fabric-1/managed"]);
    assert_eq!(files.lines().filter(|it| it.ends_with(".yaml")).count(), 11, "{files}");
    assert!(text(&out).contains("mistake.yaml") && text(&out).contains("11:7"), "{}", text(&out));
}

#[test]
fn one_agent_serves_several_repositories_and_fabrics() {
    let (first, second) = (World::new(), World::new());
    let config = first.dir.path().join("agent.yaml");
    let text = format!(
        "repositories:\n  - path: {}\n    fabrics: [{{name: fabric-1}}, {{name: site-b, dir: sites/b, archive: none}}]\n  - path: {}\n    fabrics: [{{name: fabric-1}}]\nintake: {{quiet: 50ms}}\n",
        first.work().display(),
        second.work().display()
    );
    std::fs::write(&config, text).unwrap();
    let child = intake(&first, &["run", "--config", config.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Agent(child);
    until("all directories are there", || {
        first.work().join("sites/b/raw").exists()
            && second.raw("").exists()
            && first.raw("").exists()
    });
    first.drop("a.yaml", vpc("vpc-a"));
    second.drop("b.yaml", vpc("vpc-b"));
    std::fs::write(first.work().join("sites/b/raw/c.yaml"), vpc("vpc-c")).unwrap();
    until("each is on its remote", || {
        let has = |world: &World, path: &str| {
            let spec = format!("main:{path}");
            crate::world::git_output(&world.remote, &["cat-file", "-e", &spec]).status.success()
        };
        has(&first, "fabric-1/managed/vpcs/vpc-a.yaml")
            && has(&first, "sites/b/managed/vpcs/vpc-c.yaml")
            && has(&second, "fabric-1/managed/vpcs/vpc-b.yaml")
    });
    // The one without an archive keeps none; the other does.
    assert!(first.git(&["for-each-ref", "refs/intake"]).contains("archive/fabric-1"));
    assert!(!first.git(&["for-each-ref", "refs/intake"]).contains("site-b"));
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_place() {
    let world = World::new();
    let config = world.dir.path().join("agent.yaml");
    std::fs::write(&config, "repositories: []\nintake:\n  quiett: 1s\n").unwrap();
    let out = output(&world, &["run", "--config", config.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("agent.yaml:3:3"), "{}", text(&out));
}

#[test]
fn a_request_that_does_not_end_is_cut_off_at_its_limit() {
    let (world, _agent) = running();
    let socket = world.work().join(".git/intake/state/agent.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    // What it says of its length is not to be believed, so it says nothing.
    let head = "POST /api/v1/ask HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while sent < 1 << 20 && stream.write_all(&chunk).is_ok() {
        sent += 1 << 16;
    }
    assert!(sent < 1 << 20, "all of it was taken in");
}

#[test]
fn a_password_in_the_address_of_a_remote_is_never_shown() {
    let world = World::new();
    let out = output(&world, &["init", "--fabric", "fabric-1"]);
    assert!(out.status.success(), "{}", text(&out));
    world.git(&["config", "remote.origin.url", "https://me:hunter2@127.0.0.1:1/x.git"]);
    for args in [&["status"][..], &["status", "--json"], &["ingest"], &["verify"]] {
        let told = text(&output(&world, args));
        assert!(!told.contains("hunter2"), "{args:?}: {told}");
    }
}
