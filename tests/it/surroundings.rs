//! What people and other programs do to the work tree, its git directory, its remote and its disk
//! while the agent lives there: each state has an answer, and when it is over the agent goes on.

use crate::storm::agent;
use crate::world::{World, git, git_output, vpc};
use git_intake::agent::desk;
use git_intake::agent::lane::Lane;
use git_intake::model::record::Record;
use git_intake::model::report::Delivery;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A world at work: one resource is filed and pushed.
fn settled() -> World {
    let world = World::in_memory();
    world.drop("first.yaml", vpc("vpc-1"));
    world.turn();
    world
}

/// A drop waits while something is so, with a reason that names it, and goes through afterwards.
fn held(world: &World, reason: &str, over: impl FnOnce()) {
    world.drop("waits.yaml", vpc("vpc-2"));
    let told = world.try_turn().unwrap_err().to_string();
    assert!(told.contains(reason), "{told}");
    assert!(world.raw("waits.yaml").exists());
    over();
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"), "{reason}");
    world.at_rest();
}

#[test]
fn a_lock_of_others_on_head_is_waited_for_and_one_on_the_index_is_in_nobodys_way() {
    let world = settled();
    let lock = world.work().join(".git/HEAD.lock");
    std::fs::write(&lock, "").unwrap();
    held(&world, "HEAD.lock", || std::fs::remove_file(&lock).unwrap());

    let lock = world.work().join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    world.drop("third.yaml", vpc("vpc-3"));
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-3.yaml"));
    assert!(lock.exists());
    assert_ne!(world.git(&["status", "--porcelain"]), "");
    std::fs::remove_file(&lock).unwrap();
    world.turn();
    assert_eq!(world.git(&["status", "--porcelain"]), "", "the index follows by itself");
    world.at_rest();
}

/// An agent that is killed at the end, whatever that is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `git commit` takes what the index holds: one that lacks what was just filed would remove it.
#[test]
fn whoever_commits_while_a_drop_is_on_its_way_takes_nothing_of_it_away() {
    let world = settled();
    let hook = world.remote.join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\nsleep 0.4\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap().status.success());
    let running = Running(agent(&world, &["run"]).stderr(Stdio::null()).spawn().unwrap());
    let commits = || git_output(&world.work(), &["commit", "-qm", "mine"]).status.success();
    let head = || world.git(&["rev-parse", "HEAD"]);
    for round in 2..5 {
        std::fs::write(world.work().join(format!("own-{round}")), "a person's\n").unwrap();
        world.git(&["add", &format!("own-{round}")]);
        let before = head();
        world.drop("next.yaml", vpc(&format!("vpc-{round}")));
        until("the drop is committed", || head() != before);
        until("a person's commit is made", commits);
        let there = world.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
        assert!(there.contains(&format!("vpc-{round}.yaml")), "{there}");
        assert!(there.contains(&format!("own-{round}")), "{there}");
    }
    // Nobody is kept out for as long as the remote is away.
    let away = world.dir.path().join("away.git");
    until("the remote has all", || is_pushed(&world));
    std::fs::rename(&world.remote, &away).unwrap();
    let before = head();
    world.drop("last.yaml", vpc("vpc-9"));
    until("the drop is committed", || head() != before);
    std::fs::write(world.work().join("own"), "a person's\n").unwrap();
    until("nobody has the index", || git_output(&world.work(), &["add", "own"]).status.success());
    until("a person's commit is made", commits);
    drop(running);
    std::fs::rename(&away, &world.remote).unwrap();
    world.turn();
    let clone = world.clone_of_remote();
    assert!((1..5).chain([9]).all(|n| clone.contains_key(&format!("managed/vpcs/vpc-{n}.yaml"))));
    world.at_rest();
}

/// A git that was killed at the remote's end leaves its lock there.
#[test]
fn a_lock_that_was_left_on_the_remotes_branch_is_told_in_its_words_and_never_removed() {
    let world = settled();
    let lock = world.remote.join("refs/heads/main.lock");
    std::fs::write(&lock, "").unwrap();
    world.drop("waits.yaml", vpc("vpc-2"));
    let Delivery::Held { reason } = world.turn().delivery else { panic!("it cannot have it") };
    assert!(reason.contains("main.lock") && reason.contains("exists"), "{reason}");
    assert!(lock.exists() && !world.raw("waits.yaml").exists());
    std::fs::remove_file(&lock).unwrap();
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"));
    world.at_rest();
}

#[test]
fn work_of_people_that_is_half_done_holds_the_agent_until_it_is_over() {
    let world = settled();
    world.git(&["-c", "sequence.editor=echo break >", "rebase", "-q", "-i", "HEAD~1"]);
    held(&world, "a rebase is under way", || {
        world.git(&["rebase", "--abort"]);
    });
    let world = settled();
    world.git(&["bisect", "start"]);
    held(&world, "a bisect is under way", || {
        world.git(&["bisect", "reset"]);
    });
    let world = settled();
    world.git(&["branch", "side"]);
    std::fs::write(world.work().join("here"), "1").unwrap();
    world.git(&["add", "here"]);
    world.git(&["commit", "-qm", "here"]);
    world.git(&["switch", "-q", "side"]);
    std::fs::write(world.work().join("there"), "1").unwrap();
    world.git(&["add", "there"]);
    world.git(&["commit", "-qm", "there"]);
    world.git(&["switch", "-q", "main"]);
    world.git(&["merge", "-q", "--no-commit", "--no-ff", "side"]);
    held(&world, "a merge is under way", || {
        world.git(&["commit", "-qm", "merged"]);
    });
}

#[test]
fn a_branch_that_was_switched_is_worked_on_or_waited_for_as_the_settings_say() {
    let mut world = settled();
    world.git(&["switch", "-q", "-c", "other"]);
    world.drop("a.yaml", vpc("vpc-2"));
    world.turn();
    let pushed = git(&world.remote, &["ls-tree", "-r", "--name-only", "other"]);
    assert!(pushed.contains("managed/vpcs/vpc-2.yaml"), "{pushed}");
    assert!(!world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"), "main has it not");
    world.repository.branch = Some("main".to_owned());
    let back = world.work();
    world.drop("waits.yaml", vpc("vpc-3"));
    let told = world.try_turn().unwrap_err().to_string();
    assert!(told.contains("switch back"), "{told}");
    git(&back, &["switch", "-q", "main"]);
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-3.yaml"));
    world.at_rest();
}

#[test]
fn a_reset_under_the_agent_takes_nothing_from_the_remote() {
    let world = settled();
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    world.git(&["reset", "-q", "--hard", "HEAD~1"]);
    world.drop("third.yaml", vpc("vpc-3"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 3);
    world.at_rest();
}

#[test]
fn a_history_that_was_rewritten_on_the_remote_is_met_without_force() {
    let world = settled();
    let other = world.dir.path().join("other");
    git(world.dir.path(), &["clone", "-q", "remote.git", "other"]);
    git(&other, &["commit", "-q", "--amend", "-m", "said otherwise"]);
    git(&other, &["push", "-q", "--force"]);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 2);
    let log = git(&world.remote, &["log", "--format=%s", "main"]);
    assert!(log.contains("said otherwise"), "theirs stays: {log}");
    world.at_rest();
}

#[test]
fn a_branch_that_was_deleted_on_the_remote_comes_back_with_the_next_push() {
    let world = settled();
    git(&world.remote, &["update-ref", "-d", "refs/heads/main"]);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 2);
    world.at_rest();
}

#[test]
fn a_shallow_clone_and_a_linked_work_tree_are_work_trees_like_others() {
    let world = settled();
    for n in 2..5 {
        world.drop("more.yaml", vpc(&format!("vpc-{n}")));
        world.turn();
    }
    let mut shallow = World::beside(&world);
    let url = format!("file://{}", world.remote.display());
    git(shallow.dir.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    shallow.repository.path = shallow.dir.path().join("shallow");
    std::fs::write(shallow.repository.path.join("fabric-1/raw/s.yaml"), vpc("vpc-7")).unwrap();
    shallow.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-7.yaml"));

    let mut linked = World::beside(&world);
    linked.git(&["switch", "-q", "--detach"]);
    linked.git(&["worktree", "add", "-q", "../linked", "main"]);
    linked.repository.path = linked.dir.path().join("linked");
    std::fs::write(linked.repository.path.join("fabric-1/raw/l.yaml"), vpc("vpc-8")).unwrap();
    linked.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-8.yaml"));
    assert_eq!(git(&linked.repository.path, &["status", "--porcelain"]), "");
}

#[test]
fn what_is_checked_out_in_part_is_followed_in_part() {
    let world = settled();
    std::fs::create_dir(world.work().join("elsewhere")).unwrap();
    std::fs::write(world.work().join("elsewhere/file"), "1\n").unwrap();
    world.git(&["add", "elsewhere"]);
    world.git(&["commit", "-qm", "elsewhere"]);
    world.turn();
    world.git(&["sparse-checkout", "set", "fabric-1"]);
    assert!(!world.work().join("elsewhere").exists());
    let other = World::beside(&world);
    std::fs::write(other.work().join("elsewhere/file"), "2\n").unwrap();
    std::fs::write(other.work().join("elsewhere/new"), "2\n").unwrap();
    other.git(&["add", "elsewhere"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q"]);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"));
    assert!(!world.work().join("elsewhere").exists(), "what is left out stays out");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.at_rest();
}

#[test]
fn cleaning_up_by_git_and_line_ends_of_git_stop_nobody() {
    let world = settled();
    world.drop("bad.yaml", vpc("BAD"));
    world.turn();
    world.git(&["clean", "-fdxq"]);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 2);
    world.at_rest();

    world.git(&["config", "core.autocrlf", "true"]);
    world.drop("third.yaml", vpc("vpc-3"));
    world.drop("again.yaml", vpc("vpc-1").replace("1001", "7"));
    world.turn();
    let clone = world.clone_of_remote();
    assert!(clone["managed/vpcs/vpc-1.yaml"].contains("vlan: 7"));
    assert!(!clone["managed/vpcs/vpc-3.yaml"].contains('\r'));
    world.at_rest();
}

#[test]
fn a_fabric_that_became_a_link_or_a_file_is_told_and_nothing_is_touched_behind_it() {
    for link in [true, false] {
        let world = settled();
        let (dir, away) = (world.work().join("fabric-1"), world.dir.path().join("away"));
        std::fs::rename(&dir, &away).unwrap();
        match link {
            true => std::os::unix::fs::symlink(&away, &dir).unwrap(),
            false => std::fs::write(&dir, "").unwrap(),
        }
        std::fs::write(away.join("raw/outside.yaml"), vpc("vpc-9")).unwrap();
        let told = world.try_turn().unwrap_err().to_string();
        assert!(told.contains("fabric-1"), "{told}");
        assert!(away.join("raw/outside.yaml").exists());
        std::fs::remove_file(&dir).unwrap();
        std::fs::rename(&away, &dir).unwrap();
        world.turn();
        assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-9.yaml"));
        world.at_rest();
    }
}

fn records(world: &World) -> Vec<Record> {
    let mut lane = world.open().unwrap();
    lane.prepare().unwrap();
    let fabric = lane.fabrics[0].fabric.name.clone();
    lane.store.records(&fabric).map(Result::unwrap).collect()
}

#[test]
fn a_damaged_store_comes_back_with_the_same_records_ids_and_sources() {
    let world = settled();
    let store = world.work().join(".git/intake/state/store");
    let older = world.dir.path().join("older");
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copy(&store, &older);
    let many: Vec<String> = (2..40).map(|n| vpc(&format!("vpc-{n}"))).collect();
    world.drop("team/many.yaml", many.join("---\n"));
    world.turn();
    let before = records(&world);
    assert_eq!(before.len(), 39);
    let db = store.join("db/db");
    let mut dice = crate::storm::Dice::new(7);
    for n in 0..16 {
        let len = std::fs::metadata(&db).unwrap().len();
        match n {
            0 => std::fs::remove_dir_all(&store).unwrap(),
            1 => std::fs::remove_file(&db).unwrap(),
            2 => std::fs::write(&db, "").unwrap(),
            3 => {
                std::fs::remove_dir_all(&store).unwrap();
                copy(&older, &store);
            }
            _ => {
                let mut bytes = std::fs::read(&db).unwrap();
                if n % 3 == 0 {
                    bytes.truncate(usize::try_from(dice.roll(len)).unwrap());
                }
                for _ in 0..1 + dice.roll(64) {
                    let at = usize::try_from(dice.roll(bytes.len().min(1 << 16) as u64)).unwrap();
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = u8::try_from(dice.roll(256)).unwrap();
                    }
                }
                std::fs::write(&db, bytes).unwrap();
            }
        }
        assert_eq!(records(&world), before, "damage {n}");
        world.at_rest();
    }
    let mut lane = world.open().unwrap();
    git_intake::agent::verify::rebuild(&mut lane).unwrap();
    drop(lane);
    assert_eq!(records(&world), before, "rebuilt");
}

#[test]
fn whatever_differs_between_store_tree_head_and_remote_is_told_by_name() {
    let world = World::in_memory();
    for n in 1..=4 {
        world.drop(&format!("{n}.yaml"), vpc(&format!("vpc-{n}")));
    }
    world.turn();
    let place = |it: &str| format!("fabric-1/managed/{it}");
    let write = |it: &str, text: &str| std::fs::write(world.managed(it), text).unwrap();
    // What somebody commits, and nobody has followed yet.
    write("vpcs/vpc-3.yaml", &vpc("vpc-3").replace("1001", "1003"));
    write("vpcs/vpc-5.yaml", &vpc("vpc-5"));
    write("notes.txt", "theirs\n");
    world.git(&["rm", "-q", &place("vpcs/vpc-4.yaml")]);
    world.git(&["add", "fabric-1/managed"]);
    world.git(&["commit", "-qm", "a person's"]);
    // And what is not committed.
    write("vpcs/vpc-1.yaml", &vpc("vpc-1").replace("1001", "1009"));
    std::fs::remove_file(world.managed("vpcs/vpc-2.yaml")).unwrap();
    let differences = |lane: &Lane| {
        let report = git_intake::agent::verify::verify(lane, true).unwrap();
        let named =
            report.differences.into_iter().map(|it| format!("{} {}", it.between, it.subject));
        named.collect::<BTreeSet<_>>()
    };
    let lane = world.open().unwrap();
    let expected = [
        format!("head {}", place("notes.txt")),
        format!("work_tree {}", place("vpcs/vpc-1.yaml")),
        format!("work_tree {}", place("vpcs/vpc-2.yaml")),
        format!("record {}", place("vpcs/vpc-3.yaml")),
        format!("record {}", place("vpcs/vpc-4.yaml")),
        format!("record {}", place("vpcs/vpc-5.yaml")),
        "remote refs/heads/main".to_owned(),
    ];
    assert_eq!(differences(&lane), BTreeSet::from(expected));
    drop(lane);
    world.git(&["checkout", "-q", "--", "fabric-1/managed"]);
    world.turn();
    let left = BTreeSet::from([format!("head {}", place("notes.txt"))]);
    assert_eq!(differences(&world.open().unwrap()), left, "the rest follows with a turn");
}

#[test]
fn eight_agents_on_eight_clones_converge_and_nobody_starves() {
    let first = settled();
    let worlds: Vec<World> = (0..8).map(|_| World::beside(&first)).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (n, world) in worlds.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..3 {
                    let text = vpc(&format!("vpc-of-{n}-{round}"));
                    world.drop(&format!("drop-{n}-{round}.yaml"), text);
                    // A turn that was overtaken again and again ends, and the next goes on.
                    while world.try_turn().is_err() || !is_pushed(world) {
                        assert!(begun.elapsed() < Duration::from_secs(300), "agent {n} starves");
                    }
                }
            });
        }
    });
    assert_eq!(first.clone_of_remote().len(), 25);
    for world in &worlds {
        let mut lane = world.open().unwrap();
        lane.prepare().unwrap();
        git_intake::agent::sync::take_in(&mut lane).unwrap();
        desk::ingest(&mut lane, false).unwrap();
        drop(lane);
        let tip = git(&first.remote, &["rev-parse", "main"]);
        assert_eq!(world.git(&["rev-parse", "HEAD"]), tip);
        world.at_rest();
    }
    let log = git(&first.remote, &["log", "--format=%(trailers:key=Intake-Operation)", "main"]);
    let mut operations: Vec<&str> = log.lines().filter(|it| !it.is_empty()).collect();
    let all = operations.len();
    operations.sort_unstable();
    operations.dedup();
    assert_eq!(operations.len(), all, "an operation came twice");
    let merges = git(&first.remote, &["rev-list", "--merges", "main"]);
    assert_eq!(merges, "", "the history is one line");
}

fn is_pushed(world: &World) -> bool {
    let head = world.git(&["rev-parse", "HEAD"]);
    git_output(&world.remote, &["merge-base", "--is-ancestor", head.trim(), "main"])
        .status
        .success()
}

/// A disk of a few megabytes, which is full for a while and then is not.
#[test]
fn a_full_disk_takes_no_drop_is_told_and_gone_on_from_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mount.is_ok_and(|it| it.status.success()) {
        eprintln!("notice: no disk is filled here: it needs root");
        return;
    }
    {
        let world = World::in_directory(dir.path());
        let init = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
        assert!(init.status.success());
        let run = || agent(&world, &["run"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut running = run();
        let filler = dir.path().join("filler");
        let free = || {
            let free = rustix::fs::statvfs(dir.path()).unwrap();
            free.f_bavail * free.f_frsize
        };
        for room in [4 << 20, 64 << 10, 0] {
            let name = format!("full-{room}.yaml");
            let text = vpc(&format!("full-{room}"));
            // Whole before there is no room for it.
            let beside = world.dir.path().join("dropping");
            std::fs::write(&beside, &text).unwrap();
            let full = vec![0u8; usize::try_from(free().saturating_sub(room)).unwrap()];
            // With no room at all the last write is cut short, which fills the disk.
            let _ = std::fs::write(&filler, full);
            std::fs::rename(&beside, world.raw(&name)).unwrap();
            until("status tells of the disk", || {
                // The service manager starts it anew where it gave up.
                if running.try_wait().unwrap().is_some() {
                    running = run();
                }
                let out = agent(&world, &["status"]).output().unwrap();
                let told = String::from_utf8_lossy(&out.stdout).into_owned()
                    + &String::from_utf8_lossy(&out.stderr);
                told.contains("space left") || told.contains("no storage space")
            });
            assert_eq!(std::fs::read_to_string(world.raw(&name)).unwrap(), text);
            std::fs::remove_file(&filler).unwrap();
            until("the drop arrives", || {
                if running.try_wait().unwrap().is_some() {
                    running = run();
                }
                let place = format!("main:fabric-1/managed/vpcs/full-{room}.yaml");
                git_output(&world.remote, &["cat-file", "-e", &place]).status.success()
            });
        }
        running.kill().unwrap();
        running.wait().unwrap();
        world.at_rest();
    }
    assert!(Command::new("umount").arg("-l").arg(dir.path()).status().unwrap().success());
}

/// A process that may not take more memory than this, of which the most drops need little.
fn with_little_memory(world: &World, args: &[&str]) -> Output {
    use std::os::unix::process::CommandExt;
    let mut command = agent(world, args);
    // Each arena of the allocator counts as 64 MiB, used or not.
    command.env("MALLOC_ARENA_MAX", "1");
    // SAFETY: one system call between fork and exec, which touches nothing.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 160 << 20, rlim_max: 160 << 20 };
            match libc::setrlimit(libc::RLIMIT_AS, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command.output().unwrap()
}

/// A drop within every limit of its own, and more than there is memory for.
fn world_with_a_big_drop() -> (World, String) {
    let world = World::in_memory();
    let init = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(init.status.success());
    let mut big = vpc("big") + "  x:\n";
    big.extend((0..390_000).map(|_| "    - \"0123456789abcdef\"\n"));
    world.drop("big.yaml", &big);
    (world, big)
}

#[test]
fn a_drop_that_ends_the_agent_twice_is_set_aside_by_name_and_the_agent_goes_on() {
    let (world, big) = world_with_a_big_drop();
    world.drop("small.yaml", vpc("small"));
    for n in 1..=2 {
        let out = with_little_memory(&world, &["ingest"]);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), None, "death {n}: {told}");
        assert_eq!(std::fs::read_to_string(world.raw("big.yaml")).unwrap(), big);
    }
    let out = with_little_memory(&world, &["ingest"]);
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(3), "{told}{}", String::from_utf8_lossy(&out.stderr));
    assert!(told.contains("big.yaml") && told.contains("ends-the-agent"), "{told}");
    assert!(world.clone_of_remote().contains_key("managed/vpcs/small.yaml"));
    assert_eq!(std::fs::read_to_string(world.raw("big.yaml")).unwrap(), big);
    let report = std::fs::read_to_string(world.raw("big.yaml.rejected.txt")).unwrap();
    assert!(report.contains("2 processes ended"), "{report}");
    // It stays so for those who come after, and more memory is a way out.
    assert_eq!(with_little_memory(&world, &["ingest"]).status.code(), Some(3));
    let out = agent(&world, &["retry", "big.yaml"]).output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(told.contains("big.yaml") && !told.contains("ends-the-agent"), "{told}");
}

/// Many drops are judged on all cores, and then one by one, so that the one gets its name.
#[test]
fn a_drop_among_many_that_ends_the_agent_is_found_out() {
    let (world, _) = world_with_a_big_drop();
    for n in 0..100 {
        world.drop(&format!("small-{n}.yaml"), vpc(&format!("small-{n}")));
    }
    let deaths =
        (0..5).take_while(|_| with_little_memory(&world, &["ingest"]).status.code().is_none());
    assert_eq!(deaths.count(), 3, "among many, and twice by name");
    let report = std::fs::read_to_string(world.raw("big.yaml.rejected.txt")).unwrap();
    assert!(report.contains("2 processes ended"), "{report}");
    let clone = world.clone_of_remote();
    assert!((0..100).all(|n| clone.contains_key(&format!("managed/vpcs/small-{n}.yaml"))));
}

pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never came true: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
