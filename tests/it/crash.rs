//! Every step of every kind of work fails, both ways: for good (the process died) and once (the disk
//! was full for a moment, broken, or not ours). Whatever fails, the next start ends where an
//! undisturbed one would have ended, and one more turn does nothing.
//!
//! Each step fails with one of three errors, which change from step to step. With all of them:
//!
//! ```text
//! CRASH=all cargo test --test it crash
//! ```

use crate::edits;
use crate::merge::{self, VPC};
use crate::storm::no_strays;
use crate::world::{World, git, vpc};
use git_intake::agent::conflicts::Decided;
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::agent::lane::Lane;
use git_intake::agent::records::EditChange;
use git_intake::agent::{message, sync, verify};
use git_intake::model::conflict::ConflictStrategy;
use git_intake::model::ids::CommitId;
use git_intake::model::record::{Conflict, Record};
use git_intake::pipeline::archive::ArchiveStrategy;
use git_intake::pipeline::processing::{OnInvalid, OnUnsupported};
use git_intake::step::Steps;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
const ERRORS: [i32; 3] = [libc::ENOSPC, libc::EIO, libc::EACCES];

/// Work whose every step is to fail. It is begun again afterwards, so it must be possible twice.
pub type Work = fn(&World) -> Result<(), String>;

/// How a step fails.
#[derive(Debug, Clone, Copy)]
enum Failing {
    /// It and all that follow: the process died there.
    ForGood,
    /// It alone.
    Once(i32),
}

/// What lies where when everything has come to rest, a line each.
type End = BTreeSet<String>;

fn end_of(world: &World, case: &str) -> End {
    let (lane, status) = world.resting();
    no_strays(&world.work());
    let refs = "--format=%(refname) %(tree) %(objectname)";
    let theirs = git(&world.remote, &["for-each-ref", refs, "refs/heads/main"]);
    let ours = world.git(&["for-each-ref", refs, "refs/heads/main", "refs/intake"]);
    assert!(ours.contains(theirs.trim()), "{case}: the remote has {theirs} of {ours}");
    let mut end: End = status.lines().map(str::to_owned).collect();
    for line in ours.lines() {
        // Times differ, and with them the commits.
        let (name, tree) = line.rsplit_once(' ').unwrap().0.split_once(' ').unwrap();
        let log = lane.repo.log(lane.repo.tip(name).unwrap().unwrap(), None, 1_000).unwrap();
        let mut operations = BTreeSet::new();
        for it in log.iter().filter_map(|it| message::trailers(&it.message).operation) {
            assert!(operations.insert(it), "{case}: {it} came twice to {name}");
        }
        // Of a conflict it holds the time.
        let tree = if name.contains("/conflicts/") { "" } else { tree };
        end.insert(format!("{name} {tree} with {} commits", log.len()));
    }
    end.extend(below(&world.raw("")).iter().map(|it| format!("raw/{it}")));
    end.extend(records(&lane).iter().map(|it| format!("{it:?}")));
    end.extend(lane.store.conflicts().unwrap().iter().map(told));
    end.extend(lane.store.orphans().map(|it| format!("orphan {}", it.unwrap().record.path)));
    let strays = lane.store.strays(&lane.fabrics[0].fabric.name);
    end.extend(strays.map(Result::unwrap).map(|it| format!("stray {} {:?}", it.path, it.kind)));
    end
}

fn below(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found
}

/// What is the same in every world: neither times nor the numbers of operations.
fn records(lane: &Lane) -> Vec<Record> {
    let fabric = &lane.fabrics[0].fabric.name;
    let strip = |mut it: Record| {
        it.commit_id = None;
        for modified in &mut it.modifications {
            modified.commit_id = CommitId(gix::ObjectId::null(gix::hash::Kind::Sha1));
            modified.at = jiff::Timestamp::UNIX_EPOCH;
        }
        it.source = it.source.map(|it| git_intake::model::record::Source { operation: None, ..it });
        it
    };
    lane.store.records(fabric).map(|it| strip(it.unwrap())).collect()
}

fn told(it: &Conflict) -> String {
    format!("{} {:?} {:?} {:?} {}", it.path, it.kind, it.raw_path, it.fields, it.kept)
}

/// Does the work in a world for each step and each way to fail, and compares how they end.
///
/// Without work it is a turn, which is what comes next in any case.
pub fn each_step_fails(before: fn() -> World, work: Option<Work>, steps_min: u64) {
    let template = before();
    let undisturbed = template.copy();
    let done = undisturbed.steps.taken();
    work.unwrap_or(turn)(&undisturbed).unwrap();
    let steps = undisturbed.steps.taken() - done;
    assert!(steps >= steps_min, "only {steps} steps");
    undisturbed.turn();
    let end = end_of(&undisturbed, "no fault");
    let all = std::env::var("CRASH").is_ok_and(|it| it == "all");
    let mut cases = Vec::new();
    for n in 1..=steps {
        cases.push((n, Failing::ForGood));
        let first = n as usize % ERRORS.len();
        let errors = ERRORS.iter().cycle().skip(first).take(if all { ERRORS.len() } else { 1 });
        cases.extend(errors.map(|it| (n, Failing::Once(*it))));
    }
    let cases = Mutex::new(cases.into_iter());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some((n, failing)) = cases.lock().unwrap().next() else { return };
                    let case = format!("step {n} of {steps}, {failing:?}");
                    check(&template, work, (n, failing), &end, &case);
                }
            });
        }
    });
}

fn check(template: &World, work: Option<Work>, at: (u64, Failing), end: &End, case: &str) {
    let mut world = template.copy();
    match at {
        (n, Failing::ForGood) => world.steps.stop_after(n),
        (n, Failing::Once(errno)) => world.steps.fail_once_with(n, errno),
    }
    // It may end with an error or notice nothing: some steps come after the answer.
    let first = work.unwrap_or(turn)(&world);
    // A turn that ended early has steps left to fail; the next begins without.
    world.steps = Steps::default();
    let again = turn(&world).and_then(|()| match work {
        Some(work) => work(&world).and_then(|()| turn(&world)),
        None => Ok(()),
    });
    again.unwrap_or_else(|it| panic!("{case}: does not go on: {it}; at first: {first:?}"));
    let found = end_of(&world, case);
    let differs: Vec<_> = found.symmetric_difference(end).collect();
    assert!(differs.is_empty(), "{case}: ends otherwise: {differs:#?}; at first: {first:?}");
}

pub fn opened(world: &World) -> Result<Lane, String> {
    let mut lane = world.open().map_err(|it| it.chain())?;
    lane.prepare().map_err(|it| it.chain())?;
    Ok(lane)
}

fn turn(world: &World) -> Result<(), String> {
    world.try_turn().map(drop).map_err(|it| it.chain())
}

pub fn ask(world: &World, request: &Request) -> Result<Answer, String> {
    match desk::answer(&mut opened(world)?, request, &Live::default()) {
        Answer::Refused { message, .. } => Err(message),
        other => Ok(other),
    }
}

/// One resource to be updated, two new ones, a bad file, a foreign one, and a bad one that somebody
/// has taken away.
fn before_a_turn() -> World {
    let world = World::in_memory();
    world.drop("old.yaml", vpc("vpc-1")).drop("gone.yaml", vpc("GONE"));
    world.turn();
    std::fs::remove_file(world.raw("gone.yaml")).unwrap();
    world.drop("old.yaml", vpc("vpc-1").replace("1001", "1002"));
    world.drop("two.yaml", format!("{}---\n{}", vpc("vpc-2"), vpc("vpc-3")));
    world.drop("foreign.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n");
    world.drop("bad.yaml", vpc("BAD"));
    world
}

#[test]
fn of_a_turn() {
    each_step_fails(before_a_turn, None, 30);
}

#[test]
fn of_directories_that_are_made_on_a_branch_without_commits() {
    each_step_fails(World::in_memory, Some(open), 20);
}

fn open(world: &World) -> Result<(), String> {
    opened(world).map(drop)
}

/// The archive in the tree, and mistakes put aside.
#[test]
fn of_a_turn_that_archives_in_directories() {
    let before = || {
        let mut world = World::in_memory();
        world.settings.archive = ArchiveStrategy::Directory;
        world.settings.on_invalid = OnInvalid::Quarantine;
        world.settings.on_unsupported = OnUnsupported::Keep;
        world.drop("old.yaml", vpc("vpc-1"));
        world.turn();
        world.drop("old.yaml", vpc("vpc-1").replace("1001", "1002"));
        world.drop("team/new.yaml", vpc("vpc-2")).drop("team/bad.yaml", "a: [");
        world.drop("foreign.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n");
        world
    };
    each_step_fails(before, None, 30);
}

#[test]
fn of_record_edits() {
    let before = || {
        let world = World::in_memory();
        world.drop("two.yaml", format!("{}---\n{}", vpc("vpc-1"), vpc("vpc-2")));
        world.turn();
        world
    };
    each_step_fails(before, Some(edit), 60);
}

/// One record changed, one removed.
fn edit(world: &World) -> Result<(), String> {
    let ask = |name: &str, change| ask(world, &Request::Edit(edits::edit(name, change)));
    ask("VPC/vpc-1", edits::fields(&[("spec.mode", "l3flat")], &[]))?;
    match ask("VPC/vpc-2", EditChange::Delete) {
        Err(why) if !why.starts_with("there is no") => Err(why),
        _ => Ok(()),
    }
}

/// Commits of ours, and one of a person, that meet what others pushed: a field that both changed,
/// fields that can be merged, a file that both set aside, and files of nobody's business.
///
/// `foreign` says whether there is a file that both set aside, which takes another turn afterwards.
pub fn before_a_replay(foreign: bool) -> World {
    let world = World::in_memory();
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n");
    world.drop("three.yaml", [VPC.to_owned(), vpc("both"), vpc("gone")].join("---\n"));
    world.turn();
    let other = World::beside(&world);
    other.drop("theirs.yaml", vpc("theirs")).drop("both.yaml", vpc("both").replace("1001", "7"));
    other.drop("merged.yaml", VPC.replace("enable: true", "enable: false # theirs"));
    if foreign {
        other.drop("map.yaml", map("theirs"));
    }
    other.turn();
    std::fs::write(other.work().join("notes"), "theirs\n").unwrap();
    other.git(&["add", "notes"]);
    other.git(&["rm", "-q", "fabric-1/managed/vpcs/gone.yaml"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
    let away = world.dir.path().join("away.git");
    std::fs::rename(&world.remote, &away).unwrap();
    world.drop("ours.yaml", vpc("ours")).drop("both.yaml", vpc("both").replace("1001", "8"));
    world.drop("merged.yaml", VPC.replace("vlan: 1001", "vlan: 1002 # ours"));
    if foreign {
        world.drop("map.yaml", map("ours"));
    }
    world.turn();
    std::fs::write(world.work().join("here"), "ours\n").unwrap();
    world.git(&["add", "here"]);
    world.git(&["commit", "-qm", "a person's"]);
    world.drop("more.yaml", vpc("more"));
    world.turn();
    std::fs::rename(&away, &world.remote).unwrap();
    world
}

#[test]
fn of_a_replay_on_top_of_what_others_pushed() {
    each_step_fails(|| before_a_replay(true), Some(deliver), 60);
}

fn deliver(world: &World) -> Result<(), String> {
    sync::deliver(&mut opened(world)?).map(drop).map_err(|it| it.chain())
}

#[test]
fn of_following_what_others_pushed() {
    let take_in = |world: &World| sync::take_in(&mut opened(world)?).map_err(|it| it.chain());
    each_step_fails(before_following, Some(take_in), 10);
}

/// The agent dies while it brings others' work along, and before it is back the branch goes elsewhere:
/// nothing of theirs is left behind as if a person had written it.
#[test]
fn whoever_commits_while_others_work_is_brought_along_keeps_no_half_of_it() {
    let template = before_following();
    // At least one step each: the note, its sync, a file, the branch.
    for n in 1.. {
        let mut world = template.copy();
        world.steps.stop_after(n);
        let first =
            opened(&world).and_then(|mut it| sync::take_in(&mut it).map_err(|it| it.chain()));
        if first.is_ok() {
            assert!(n > 10, "it took only {n} steps");
            break;
        }
        world.steps = Steps::default();
        std::fs::write(world.work().join("own"), "a person's\n").unwrap();
        world.git(&["add", "own"]);
        world.git(&["commit", "-qm", "a person's", "--", "own"]);
        // What was left half is not in the way of what comes next, wherever that comes from.
        let others = World::beside(&world);
        std::fs::write(others.work().join("notes"), "theirs, later\n").unwrap();
        let path = others.managed("vpcs/vpc-1.yaml");
        std::fs::write(path, vpc("vpc-1").replace("1001", "10")).unwrap();
        others.git(&["commit", "-qam", "theirs, later"]);
        others.git(&["push", "-q", "origin", "main"]);
        world.try_turn().unwrap_or_else(|it| panic!("step {n}: {it}"));
        world.turn();
        let clone = world.clone_of_remote();
        let text = &clone["managed/vpcs/vpc-1.yaml"];
        assert!(text.contains("vlan: 10}"), "step {n}: {text}");
        assert!(clone.contains_key("managed/vpcs/moved.yaml"), "step {n}");
        let status = world.git(&["status", "--porcelain", "--", ".", ":!fabric-1/raw"]);
        assert_eq!(status, "", "step {n}");
        assert_eq!(std::fs::read_to_string(world.work().join("notes")).unwrap(), "theirs, later\n");
    }
}

fn before_following() -> World {
    let world = World::in_memory();
    world.drop("three.yaml", [vpc("vpc-1"), vpc("vpc-2"), vpc("vpc-3")].join("---\n"));
    world.turn();
    let other = World::beside(&world);
    let managed = |name: &str| format!("fabric-1/managed/vpcs/{name}.yaml");
    std::fs::write(other.work().join(managed("vpc-1")), vpc("vpc-1").replace("1001", "9")).unwrap();
    other.git(&["rm", "-q", &managed("vpc-2")]);
    other.git(&["mv", &managed("vpc-3"), "fabric-1/managed/vpcs/moved.yaml"]);
    other.drop("by-git.yaml", vpc("vpc-4")).drop("bad.yaml", vpc("BAD"));
    std::fs::write(other.work().join("notes"), "theirs\n").unwrap();
    other.git(&["add", "."]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
    world
}

#[test]
fn of_a_conflict_that_a_person_resolves() {
    let before = || {
        let world = before_a_replay(true);
        deliver(&world).unwrap();
        world.turn();
        assert_eq!(merge::conflicts(&world).len(), 1);
        world
    };
    let resolve = |world: &World| {
        let strategy = Some(ConflictStrategy::RecordWins);
        let decided = Decided { strategy, ..Decided::default() };
        ask(world, &merge::request(decided, None)).map(drop)
    };
    each_step_fails(before, Some(resolve), 40);
}

#[test]
fn of_a_store_that_is_made_again() {
    let before = || {
        let world = before_a_replay(true);
        deliver(&world).unwrap();
        world.turn();
        world
    };
    let rebuild =
        |world: &World| verify::rebuild(&mut opened(world)?).map(drop).map_err(|it| it.chain());
    each_step_fails(before, Some(rebuild), 4);
}

#[test]
fn of_a_store_of_an_older_version() {
    let before = || {
        let world = before_a_turn();
        let path = world.work().join(".git/intake/state/store/db");
        // Threads of sled hold its lock for a moment after it was closed.
        let open = |_| sled::open(&path).map_err(|_| std::thread::sleep(PAUSE)).ok();
        let db = (0..100).find_map(open).expect("it is closed");
        let meta = db.open_tree("meta").unwrap();
        meta.insert("format", b"1").unwrap();
        meta.remove("digest").unwrap();
        db.flush().unwrap();
        world
    };
    each_step_fails(before, Some(open), 5);
}

#[test]
fn two_agents_on_one_work_tree_are_one_too_many() {
    let world = World::new();
    let first = world.open().unwrap();
    let second = world.open().unwrap_err().to_string();
    assert!(second.contains("another git-intake"), "{second}");
    drop(first);
    world.open().unwrap();
}

#[test]
fn a_commit_that_cannot_be_made_leaves_every_drop_where_it_is() {
    let world = before_a_turn();
    let lock = world.work().join(".git/refs/heads/main.lock");
    std::fs::write(&lock, "").unwrap();
    let told = world.try_turn().unwrap_err().to_string();
    assert!(told.contains("main.lock"), "{told}");
    for name in ["old.yaml", "two.yaml", "bad.yaml"] {
        assert!(world.raw(name).exists(), "{name}");
    }
    assert!(lock.exists(), "it is somebody else's");
    std::fs::remove_file(&lock).unwrap();
    world.turn();
    let clone = world.clone_of_remote();
    assert!(clone["managed/vpcs/vpc-1.yaml"].contains("1002"));
    assert!(clone.contains_key("managed/vpcs/vpc-3.yaml"));
    assert!(!world.raw("old.yaml").exists() && !world.raw("two.yaml").exists());
    world.at_rest();
}
