//! The kernel's word: what wakes the agent, what does not, and what happens where it says nothing.
//!
//! The periodic look is put off for an hour in most of these, so that only a wake can be the reason
//! for what happens.

use crate::agent::{Agent, intake, on_remote, output, signal, text, until};
use crate::world::{World, hermetic, vpc};
use rustix::process::Signal;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

fn init(world: &World) {
    assert!(output(world, &["init", "--fabric", "fabric-1"]).status.success());
}

/// An agent that never looks without a cause.
fn start(world: &World, more: &[(&str, &str)]) -> Agent {
    let mut command = intake(world, &["run"]);
    command.env("GIT_INTAKE_INTAKE_RESCAN", "1h").env("GIT_INTAKE_FETCH_EVERY", "off");
    command.envs(more.iter().copied()).stderr(Stdio::null());
    let agent = Agent(command.spawn().unwrap());
    until("the agent answers", || status(world)["running"] == true);
    agent
}

fn status(world: &World) -> serde_json::Value {
    serde_json::from_slice(&output(world, &["status", "--json"]).stdout).unwrap_or_default()
}

fn turns(world: &World) -> u64 {
    status(world)["turns"].as_u64().unwrap()
}

/// The number of turns, once it has stopped to grow.
fn at_rest(world: &World) -> u64 {
    let mut before = turns(world);
    loop {
        std::thread::sleep(Duration::from_millis(700));
        let now = turns(world);
        if now == before {
            return now;
        }
        before = now;
    }
}

/// A drop that arrives in one step.
fn arrive(world: &World, name: &str, content: &str) {
    let beside = world.dir.path().join("beside");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, world.raw(name)).unwrap();
}

fn taken(world: &World, name: &str) {
    until(&format!("{name} is on the remote"), || {
        on_remote(world, &format!("managed/vpcs/{name}.yaml"))
    });
}

#[test]
fn one_arrival_is_one_turn_and_nothing_that_the_agent_does_wakes_it() {
    let world = World::new();
    init(&world);
    let _agent = start(&world, &[]);
    let before = at_rest(&world);
    arrive(&world, "a.yaml", &vpc("a"));
    taken(&world, "a");
    assert_eq!(at_rest(&world), before + 1, "a drop that is filed");
    arrive(&world, "b.yaml", "a: [");
    until("it is rejected", || world.raw("b.yaml.rejected.txt").exists());
    assert_eq!(at_rest(&world), before + 2, "a drop that stays, and its report");
    arrive(&world, "b.yaml", &vpc("b"));
    taken(&world, "b");
    assert_eq!(at_rest(&world), before + 3, "mended: it leaves with its report");
    arrive(&world, "config-map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n");
    until("it is set aside", || !world.raw("config-map.yaml").exists());
    assert_eq!(at_rest(&world), before + 4, "a drop that moves to unmanaged/");
    for name in [".hidden.yaml", "a.yaml~", "notes.txt", "b.yaml.part"] {
        arrive(&world, name, "x");
        fs::remove_file(world.raw(name)).unwrap();
    }
    fs::read_dir(world.raw("")).unwrap().for_each(drop);
    assert_eq!(at_rest(&world), before + 4, "what is no drop comes and goes");
}

/// Removes a directory in one step, since the agent makes it again at once.
fn gone(world: &World, dir: &str) {
    let aside = world.dir.path().join("aside");
    fs::rename(world.work().join(dir), &aside).unwrap();
    fs::remove_dir_all(aside).unwrap();
}

#[test]
fn what_moves_or_is_made_again_is_watched_where_it_is() {
    let world = World::new();
    init(&world);
    let _agent = start(&world, &[]);
    gone(&world, "fabric-1/raw");
    until("raw/ is there again", || world.raw("README.md").exists());
    at_rest(&world);
    arrive(&world, "1.yaml", &vpc("raw-again"));
    taken(&world, "raw-again");
    gone(&world, "fabric-1");
    until("the fabric is there again", || world.raw("README.md").exists());
    at_rest(&world);
    arrive(&world, "2.yaml", &vpc("fabric-again"));
    taken(&world, "fabric-again");
    // Another directory takes the fabric's place.
    let work = world.work();
    let copy = Command::new("cp").args(["-a", "fabric-1", "other"]).current_dir(&work).status();
    assert!(copy.unwrap().success());
    // In one step: in between, the agent would make the fabric that is missing.
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    let (other, place) = (work.join("other"), work.join("fabric-1"));
    rustix::fs::renameat_with(rustix::fs::CWD, other, rustix::fs::CWD, place, exchange).unwrap();
    arrive(&world, "3.yaml", &vpc("replaced"));
    let _ = output(&world, &["ingest"]);
    at_rest(&world);
    arrive(&world, "4.yaml", &vpc("after"));
    taken(&world, "after");
    taken(&world, "replaced");
    // Trees within raw/ keep their watches under their new names.
    fs::create_dir_all(world.raw("a/deep/er")).unwrap();
    at_rest(&world);
    fs::rename(world.raw("a"), world.raw("b")).unwrap();
    at_rest(&world);
    arrive(&world, "b/deep/er/5.yaml", &vpc("moved-tree"));
    taken(&world, "moved-tree");
    fs::rename(world.raw("b/deep"), world.raw("deep")).unwrap();
    fs::create_dir(world.raw("b/deep")).unwrap();
    at_rest(&world);
    arrive(&world, "b/deep/6.yaml", &vpc("same-name"));
    arrive(&world, "deep/er/7.yaml", &vpc("moved-again"));
    taken(&world, "same-name");
    taken(&world, "moved-again");
}

#[test]
fn a_directory_that_is_filled_while_it_is_made_loses_nothing() {
    let world = World::new();
    init(&world);
    let _agent = start(&world, &[]);
    for n in 0..20 {
        let dir = format!("team-{n}/a/b");
        fs::create_dir_all(world.raw(&dir)).unwrap();
        world.drop(&format!("{dir}/x.yaml"), vpc(&format!("race-{n}")));
    }
    for n in 0..20 {
        taken(&world, &format!("race-{n}"));
    }
}

#[test]
fn when_the_kernels_queue_overflows_everything_is_looked_at() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        // Filling it would take longer than the test is worth.
        return;
    }
    let world = World::new();
    init(&world);
    let agent = start(&world, &[]);
    at_rest(&world);
    signal(&agent, Signal::STOP);
    // Events of different files are not folded into one.
    for n in 0..=limit {
        let name = if n % 2 == 0 { ".even" } else { ".odd" };
        drop(fs::File::create(world.raw(name)).unwrap());
    }
    arrive(&world, "lost.yaml", &vpc("lost"));
    signal(&agent, Signal::CONT);
    taken(&world, "lost");
}

#[test]
fn with_too_few_watches_it_looks_now_and_then_and_names_the_sysctl() {
    let world = World::new();
    init(&world);
    fs::create_dir(world.raw("team")).unwrap();
    let run = "echo 2 > /proc/sys/user/max_inotify_watches || exit 77; exec \"$0\" run";
    let mut command = Command::new("unshare");
    command.args(["-Ur", "sh", "-c", run]).arg(env!("CARGO_BIN_EXE_git-intake"));
    command.current_dir(world.work()).envs(hermetic()).stderr(Stdio::null());
    command.env("GIT_INTAKE_INTAKE_RESCAN", "1h").env("GIT_INTAKE_INTAKE_POLL", "100ms");
    let mut agent = Agent(command.spawn().unwrap());
    until("the agent answers, or there are no user namespaces", || {
        status(&world)["running"] == true || agent.0.try_wait().unwrap().is_some()
    });
    if agent.0.try_wait().unwrap().is_some() {
        return;
    }
    let said = text(&output(&world, &["status"]));
    assert!(
        said.contains("polling") && said.contains("sysctl fs.inotify.max_user_watches"),
        "{said}"
    );
    arrive(&world, "team/a.yaml", &vpc("polled"));
    taken(&world, "polled");
}

#[test]
fn on_an_overlay_it_looks_now_and_then_and_says_so() {
    let world = World::new();
    init(&world);
    let run = "mkdir up wd at && mount -t overlay overlay -o lowerdir=work,upperdir=up,workdir=wd at || exit 77\n\
               cd at && exec \"$0\" run";
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", run]).arg(env!("CARGO_BIN_EXE_git-intake"));
    command.current_dir(world.dir.path()).envs(hermetic()).stderr(Stdio::null());
    command.env("GIT_INTAKE_INTAKE_RESCAN", "1h").env("GIT_INTAKE_INTAKE_POLL", "100ms");
    let mut agent = Agent(command.spawn().unwrap());
    let (pid, at) = (agent.0.id().to_string(), world.dir.path().join("at"));
    let ask = || {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-U", "-m", "--preserve-credentials"]);
        command.arg(env!("CARGO_BIN_EXE_git-intake")).arg("status").arg(&at);
        command.envs(hermetic()).output().map(|it| text(&it)).unwrap_or_default()
    };
    until("the agent answers, or nothing can be mounted", || {
        let said = ask();
        let answers = said.contains("agent running") && !said.contains("no agent running");
        answers || agent.0.try_wait().unwrap().is_some()
    });
    if agent.0.try_wait().unwrap().is_some() {
        return;
    }
    let said = ask();
    assert!(said.contains("polling") && said.contains("an overlay"), "{said}");
    let raw = format!("/proc/{pid}/root{}/fabric-1/raw", at.display());
    fs::write(format!("{raw}/a.yaml"), vpc("overlay")).unwrap();
    taken(&world, "overlay");
}

#[test]
fn a_file_that_is_held_open_costs_ever_fewer_looks() {
    let world = World::new();
    init(&world);
    let _agent = start(&world, &[("GIT_INTAKE_INTAKE_QUIET", "20ms")]);
    let before = at_rest(&world);
    let file = fs::File::create(world.raw("open.yaml")).unwrap();
    std::io::Write::write_all(&mut &file, vpc("open").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let looks = turns(&world) - before;
    assert!((2..=12).contains(&looks), "{looks} looks; without pauses they would be 150");
    drop(file);
    taken(&world, "open");
}

#[test]
fn an_edit_by_hand_is_found_by_the_kernels_word_and_our_own_writes_are_none() {
    let world = World::new();
    init(&world);
    let _agent = start(&world, &[("GIT_INTAKE_INTAKE_HAND_EDITS_QUIET", "100ms")]);
    arrive(&world, "a.yaml", &vpc("vpc-1"));
    taken(&world, "vpc-1");
    // What was filed, in a directory that is new, is nobody's edit.
    let before = at_rest(&world);
    arrive(&world, "b.yaml", &vpc("vpc-2"));
    taken(&world, "vpc-2");
    let after = at_rest(&world);
    assert_eq!(after, before + 1);

    let edited = vpc("vpc-1").replace("1001", "7");
    fs::write(world.managed("vpcs/vpc-1.yaml"), &edited).unwrap();
    until("the edit is on the remote", || {
        world.clone_of_remote().get("managed/vpcs/vpc-1.yaml") == Some(&edited)
    });
    // In a directory that somebody else made.
    let there = world.managed("vpcs/blue");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("vpc-3.yaml"), vpc("vpc-3").replace("name:", "namespace: blue\n  name:"))
        .unwrap();
    until("the new file is on the remote", || on_remote(&world, "managed/vpcs/blue/vpc-3.yaml"));
    fs::remove_file(world.managed("vpcs/vpc-2.yaml")).unwrap();
    until("the removal is on the remote", || !on_remote(&world, "managed/vpcs/vpc-2.yaml"));
}
