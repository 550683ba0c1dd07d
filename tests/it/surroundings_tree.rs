//! What else may lie in a work tree, and what git keeps otherwise than it lies there: submodules, links,
//! programs, line ends and filters, branches without commits, clocks that jump.

use crate::storm::agent;
use crate::world::{World, git, vpc};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

fn settled() -> World {
    let world = World::in_memory();
    world.drop("first.yaml", vpc("vpc-1"));
    world.turn();
    world
}

/// Pushes all that lies in another host's work tree.
fn push(other: &World) {
    other.git(&["add", "-A"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
}

fn executable(path: &std::path::Path) -> bool {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o111 != 0
}

#[test]
fn links_programs_and_submodules_of_others_are_followed_as_git_would() {
    let world = settled();
    let library = world.dir.path().join("library");
    git(world.dir.path(), &["init", "-q", "-b", "main", "library"]);
    git(&library, &["commit", "-q", "--allow-empty", "-m", "one"]);
    let place = world.work();
    let url = library.display().to_string();
    world.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url, "lib"]);
    symlink("nowhere", place.join("link")).unwrap();
    std::fs::write(place.join("tool"), "#!/bin/sh\n").unwrap();
    std::fs::create_dir(place.join("docs")).unwrap();
    std::fs::write(place.join("docs/only"), "1\n").unwrap();
    world.git(&["add", "-A"]);
    world.git(&["commit", "-qm", "all kinds"]);
    world.turn();

    let other = World::beside(&world);
    let theirs = other.work();
    other.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init"]);
    git(&theirs.join("lib"), &["commit", "-q", "--allow-empty", "-m", "two"]);
    std::fs::remove_file(theirs.join("link")).unwrap();
    symlink("elsewhere", theirs.join("link")).unwrap();
    symlink("../tool", theirs.join("docs/new-link")).unwrap();
    std::fs::remove_file(theirs.join("docs/only")).unwrap();
    let run = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(theirs.join("tool"), run.clone()).unwrap();
    std::fs::write(theirs.join("new-tool"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(theirs.join("new-tool"), run).unwrap();
    push(&other);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 2);
    assert_eq!(std::fs::read_link(place.join("link")).unwrap().to_str(), Some("elsewhere"));
    assert_eq!(std::fs::read_link(place.join("docs/new-link")).unwrap().to_str(), Some("../tool"));
    assert!(executable(&place.join("tool")) && executable(&place.join("new-tool")));
    // The submodule's own work tree waits for its owner, as after a pull.
    assert_eq!(world.git(&["diff", "--cached", "--name-only"]), "", "nothing is staged");
    assert_eq!(world.git(&["status", "--porcelain"]), " M lib\n");
    world.at_rest();

    other.git(&["pull", "-q", "--rebase", "origin", "main"]);
    // A directory becomes a file, and a file a directory.
    std::fs::remove_file(theirs.join("docs/new-link")).unwrap();
    // Git took the directory away with its last file, or it is empty.
    let _ = std::fs::remove_dir(theirs.join("docs"));
    std::fs::write(theirs.join("docs"), "a file by now\n").unwrap();
    std::fs::remove_file(theirs.join("tool")).unwrap();
    std::fs::create_dir(theirs.join("tool")).unwrap();
    std::fs::write(theirs.join("tool/part"), "1\n").unwrap();
    other.git(&["rm", "-qf", "lib"]);
    push(&other);
    world.drop("third.yaml", vpc("vpc-3"));
    world.turn();
    assert_eq!(std::fs::read_to_string(place.join("docs")).unwrap(), "a file by now\n");
    assert!(place.join("tool/part").exists());
    assert_eq!(world.git(&["diff", "--cached", "--name-only"]), "", "nothing is staged");
    assert_eq!(world.git(&["diff", "--name-only"]), "");
    world.at_rest();
}

#[test]
fn an_uncommitted_link_of_a_persons_is_not_written_over() {
    let world = settled();
    symlink("one", world.work().join("link")).unwrap();
    world.git(&["add", "link"]);
    world.git(&["commit", "-qm", "link"]);
    world.turn();
    let other = World::beside(&world);
    std::fs::remove_file(other.work().join("link")).unwrap();
    symlink("theirs", other.work().join("link")).unwrap();
    push(&other);
    std::fs::remove_file(world.work().join("link")).unwrap();
    symlink("mine", world.work().join("link")).unwrap();
    world.drop("second.yaml", vpc("vpc-2"));
    let held = format!("{:?}", world.turn().delivery);
    assert!(held.contains("uncommitted changes here (link)"), "{held}");
    world.git(&["checkout", "-q", "--", "link"]);
    world.turn();
    assert_eq!(std::fs::read_link(world.work().join("link")).unwrap().to_str(), Some("theirs"));
    world.at_rest();
}

#[test]
fn what_git_keeps_otherwise_than_it_lies_there_is_no_uncommitted_change() {
    let world = settled();
    let place = world.work();
    let settings = [
        ("filter.upper.clean", "tr a-z A-Z"),
        ("filter.upper.smudge", "tr A-Z a-z"),
        ("core.autocrlf", "true"),
    ];
    for (name, value) in settings {
        world.git(&["config", name, value]);
    }
    std::fs::write(place.join(".gitattributes"), "*.large filter=upper -text\n").unwrap();
    std::fs::write(place.join("a.large"), "stored elsewhere\n").unwrap();
    std::fs::write(place.join("notes"), "one\r\n").unwrap();
    world.git(&["add", "-A"]);
    world.git(&["commit", "-qm", "kept otherwise"]);
    assert_eq!(world.git(&["show", "HEAD:a.large", "HEAD:notes"]), "STORED ELSEWHERE\none\n");
    world.turn();
    let other = World::beside(&world);
    std::fs::write(other.work().join("a.large"), "STORED ANEW\n").unwrap();
    std::fs::write(other.work().join("b.large"), "NEW\n").unwrap();
    std::fs::write(other.work().join("notes"), "one\ntwo\n").unwrap();
    push(&other);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 2);
    let read = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
    assert_eq!((read("a.large"), read("b.large")), ("stored anew\n".into(), "new\n".into()));
    assert_eq!(read("notes"), "one\r\ntwo\r\n");
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    assert!(!read("fabric-1/managed/vpcs/vpc-2.yaml").contains('\r'), "ours stay as dropped");
    world.at_rest();
}

#[test]
fn a_branch_without_commits_begins_with_the_directories() {
    let world = settled();
    world.git(&["switch", "-q", "--orphan", "fresh"]);
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    let pushed = git(&world.remote, &["ls-tree", "-r", "--name-only", "fresh"]);
    assert!(pushed.contains("managed/vpcs/vpc-2.yaml") && !pushed.contains("vpc-1"), "{pushed}");
    assert!(!world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"), "main is as it was");
    world.at_rest();
    world.git(&["switch", "-q", "main"]);
    world.turn();
    world.at_rest();
}

/// Files from the future and from long ago, and an agent whose clock jumps between two runs.
#[test]
fn clocks_that_jump_change_nothing_but_the_dates() {
    let world = World::in_memory();
    let init = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(init.status.success());
    for (n, years) in [(0, "+20y"), (1, "-20y"), (2, "+1y"), (3, "-2y")].into_iter() {
        let name = format!("vpc-{n}.yaml");
        world.drop(&name, vpc(&format!("vpc-{n}")));
        let time = std::time::SystemTime::UNIX_EPOCH
            + std::time::Duration::from_secs([1, 7_000_000_000, 60, 5_000_000_000][n]);
        let file = std::fs::File::options().write(true).open(world.raw(&name)).unwrap();
        file.set_modified(time).unwrap();
        drop(file);
        let ingest = agent(&world, &["ingest"]);
        let jumps = Command::new("faketime").arg("--version").output().is_ok();
        let out = match jumps {
            true => {
                let mut jumped = Command::new("faketime");
                jumped.arg("-f").arg(years).arg(ingest.get_program()).args(ingest.get_args());
                jumped.current_dir(world.work());
                for (name, value) in ingest.get_envs() {
                    jumped.env(name, value.unwrap_or_default());
                }
                jumped.output().unwrap()
            }
            false => {
                eprintln!("notice: faketime is not installed; only the files' clocks jump");
                let mut ingest = ingest;
                ingest.output().unwrap()
            }
        };
        assert!(out.status.success(), "{years}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(!world.raw(&name).exists(), "{years}");
    }
    assert_eq!(world.clone_of_remote().len(), 4);
    world.at_rest();
    // An update across a jump, and a rebuild.
    world.drop("vpc-0.yaml", vpc("vpc-0").replace("1001", "7"));
    world.turn();
    let mut lane = world.open().unwrap();
    assert_eq!(git_intake::agent::verify::rebuild(&mut lane).unwrap(), 4);
    drop(lane);
    world.at_rest();
}
