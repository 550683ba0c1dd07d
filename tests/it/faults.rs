//! Every system call of a turn, and of a recovery, that changes anything, made by the agent or by
//! what git starts at the remote's end: made the last one of its process or of the whole tree, torn,
//! or failed, once or from then on, on its side or on both. Whatever happens, the next start ends
//! where an undisturbed one would have ended.
//!
//! `cargo test --test it faults` takes a selection that differs from one fault to the next.
//! All of them, a part of all, or another selection:
//!
//! ```text
//! FAULTS=all cargo test --test it faults -- --nocapture
//! FAULTS=all FAULTS_PART=3/10 cargo test --test it faults -- --nocapture
//! FAULTS=1000 FAULTS_SEED=7 cargo test --test it faults -- --nocapture
//! ```
//!
//! Nothing is left out of *all* but what is another of them by definition: a call that writes no
//! bytes is not torn, all die only where there is more than one to die, and a fault lasts
//! everywhere only where the other side has calls left to fail.

use crate::storm::{Dice, agent, no_strays};
use crate::sysfault::{self, At, Call, Fault, Lasts, Ran, Side};
use crate::world::{World, git, vpc};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

/// How many faults one test makes, where nobody asks for more.
const FAULTS: usize = 120;
/// At how many depths of a turn a recovery begins.
const DEPTHS: u64 = 6;
const SEED: u64 = 20_261_124;
/// A run that makes more calls goes round in circles.
const CALLS_MAX: u64 = 20_000;

/// Everything that can happen in a run of these calls.
fn faults(calls: &[Call]) -> Vec<At> {
    let first = |side| calls.iter().position(|it| it.side == side).unwrap_or(usize::MAX);
    let last = |side| calls.iter().rposition(|it| it.side == side).unwrap_or(0);
    let both = first(Side::Remote)..=last(Side::Remote);
    let mut all = Vec::new();
    for (n, call) in calls.iter().enumerate() {
        let other = if call.side == Side::Agent { Side::Remote } else { Side::Agent };
        let mut faults = vec![Fault::Kill, Fault::Errno(libc::EINTR, Lasts::Once)];
        faults.extend(call.name.contains("write").then_some(Fault::Torn));
        faults.extend(both.contains(&n).then_some(Fault::KillAll));
        for number in [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::EMFILE] {
            let everywhere = (n < last(other)).then_some(Lasts::Everywhere);
            let lasting = [Lasts::Once, Lasts::Here].into_iter().chain(everywhere);
            faults.extend(lasting.map(|it| Fault::Errno(number, it)));
        }
        all.extend(faults.into_iter().map(|fault| At { nth: n as u64 + 1, fault }));
    }
    all
}

/// What lies where when everything has come to rest.
#[derive(Debug, PartialEq)]
pub struct End {
    trees: String,
    commits: String,
    raw: Vec<String>,
    status: String,
}

impl End {
    pub fn of(world: &World, case: &str) -> End {
        let archive = "refs/intake/archive/fabric-1";
        let args = ["rev-parse", "HEAD", "HEAD^{tree}", &format!("{archive}^{{tree}}")];
        let names = world.git(&args);
        let (head, trees) = names.split_once('\n').unwrap();
        let mut raw: Vec<String> = std::fs::read_dir(world.raw(""))
            .unwrap()
            .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        raw.sort();
        let theirs = git(&world.remote, &["rev-parse", "main"]);
        assert_eq!(head, theirs.trim_end(), "{case}: the remote has what is here");
        assert_eq!(world.git(&["fsck", "--strict", "--no-dangling"]), "", "{case}");
        no_strays(&world.work());
        End {
            trees: trees.to_owned(),
            commits: world.git(&["rev-list", "--count", "HEAD", archive]),
            raw,
            status: world.git(&["status", "--porcelain"]),
        }
    }
}

/// One resource to be updated, two new ones in one file, a foreign file and a mistake.
pub fn before_the_turn() -> World {
    let world = World::in_memory();
    let out = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    world.drop("old.yaml", vpc("vpc-1"));
    ingest(&world, None);
    world.drop("old.yaml", vpc("vpc-1").replace("1001", "1002"));
    world.drop("two.yaml", format!("{}---\n{}", vpc("vpc-2"), vpc("vpc-3")));
    world.drop("foreign.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n");
    world.drop("bad.yaml", vpc("BAD"));
    world
}

/// Commits of ours that meet others', by field and in conflict.
fn before_a_replay() -> World {
    let world = crate::crash::before_a_replay(false);
    let out = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    world
}

const INGEST: &[&str] = &["ingest", "--json"];
const RESOLVE: &[&str] = &["conflicts", "resolve", "--all", "--strategy", "record-wins"];

/// One `ingest` with a fault in it, and what it said.
pub fn ingest(world: &World, at: Option<At>) -> (Ran, String) {
    command(world, INGEST, at)
}

fn command(world: &World, args: &[&str], at: Option<At>) -> (Ran, String) {
    let said = world.dir.path().join("said");
    let out = std::fs::File::create(&said).unwrap();
    let mut command = agent(world, args);
    command.stdout(out.try_clone().unwrap()).stderr(Stdio::from(out));
    let ran = sysfault::run(command, at, |n, call| {
        assert!(n < CALLS_MAX, "goes round in circles: {call:?}");
    });
    (ran, std::fs::read_to_string(&said).unwrap())
}

/// Faults one case and looks at the end of it.
fn check(world: &World, args: &[&str], at: At, end: &End, case: &str) {
    let (ran, said) = command(world, args, Some(at));
    let struck = ran.calls.get(usize::try_from(at.nth).unwrap() - 1).map(|it| it.side);
    let spared = match at.fault {
        Fault::Errno(..) => true,
        Fault::Kill | Fault::Torn => struck != Some(Side::Agent),
        Fault::KillAll => false,
    };
    if spared {
        // Whatever failed, at whichever end, is told; nobody falls over it.
        assert!(matches!(ran.status.code(), Some(0 | 1 | 3)), "{case}: {:?}: {said}", ran.status);
        assert!(!said.contains("panicked"), "{case}: {said}");
    }
    if said.contains("\"pushed\"") {
        // What is told is true at once, not only after the next start.
        let tip = world.git(&["rev-parse", "HEAD"]);
        assert_eq!(git(&world.remote, &["rev-parse", "main"]), tip, "{case} told too early");
    }
    let left = locks_below(&world.remote);
    if !left.is_empty() {
        // A git that is killed leaves its locks behind. They are the remote's, and somebody's there
        // to take away; until then nothing is lost and nobody falls over them.
        let (ran, said) = ingest(world, None);
        let told = ["lock", "\"nothing\"", "\"pushed\""].iter().any(|it| said.contains(it));
        assert!(matches!(ran.status.code(), Some(0 | 3)) && told, "{case}: {left:?}: {said}");
        assert_eq!(locks_below(&world.remote), left, "{case}: locks of others were removed");
        left.iter().for_each(|it| std::fs::remove_file(it).unwrap());
    }
    let mut last = ingest(world, None);
    if args != INGEST {
        // What was asked for is asked again, and may be done already.
        last = command(world, args, None);
        ingest(world, None);
    }
    let (ran, again) = last;
    assert!(matches!(ran.status.code(), Some(0 | 3)), "{case}: {said}{again}");
    assert_eq!(End::of(world, case), *end, "{case}");
    if struck == Some(Side::Remote) {
        assert_eq!(git(&world.remote, &["fsck", "--strict", "--no-dangling"]), "", "{case}");
    }
}

/// The locks that lie there. A push that ends takes directories of its own away meanwhile.
pub fn locks_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for path in std::fs::read_dir(at).into_iter().flatten().flatten().map(|it| it.path()) {
            match path {
                it if it.is_dir() => todo.push(it),
                it if it.extension().is_some_and(|it| it == "lock") => found.push(it),
                _ => (),
            }
        }
    }
    found.sort();
    found
}

/// Which faults are made, of all that there are.
fn chosen(mut all: Vec<At>, parts: usize) -> Vec<At> {
    let wanted = match std::env::var("FAULTS") {
        Ok(it) if it == "all" => all.len(),
        Ok(it) => it.parse::<usize>().expect("a number, or all") / parts,
        Err(_) => FAULTS / parts,
    };
    let mut dice = Dice::new(seed());
    for at in 0..all.len() {
        let further = dice.roll((all.len() - at) as u64);
        all.swap(at, at + usize::try_from(further).unwrap());
    }
    all.truncate(wanted);
    if let Ok(part) = std::env::var("FAULTS_PART") {
        let (part, of) = part.split_once('/').expect("a part and how many there are: 3/10");
        let (part, of) = (part.parse::<usize>().unwrap(), of.parse::<usize>().unwrap());
        assert!((1..=of).contains(&part), "there is no part {part} of {of}");
        all = all.into_iter().skip(part - 1).step_by(of).collect();
    }
    all
}

fn seed() -> u64 {
    std::env::var("FAULTS_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(SEED)
}

/// Makes the chosen faults, some at a time.
fn storm_of(
    template: &World,
    args: &[&str],
    (calls, end): (&[Call], &End),
    parts: u64,
    name: &str,
) {
    let all = faults(calls);
    let (total, remote) = (all.len(), calls.iter().filter(|it| it.side == Side::Remote).count());
    let cases = chosen(all, usize::try_from(parts).unwrap());
    let made = cases.len();
    let cases = Mutex::new(cases.into_iter());
    let wrong = Mutex::new(Vec::new());
    let begun = std::time::Instant::now();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(at) = cases.lock().unwrap().next() else { return };
                    let case = format!("{name}, {at:?} of {}", calls.len());
                    let mut world = template.copy();
                    let checked = || check(&world, args, at, end, &case);
                    if catch_unwind(AssertUnwindSafe(checked)).is_err() {
                        world.dir.disable_cleanup(true);
                        let kept = world.dir.path().display().to_string();
                        wrong.lock().unwrap().push(format!("{case}: {kept}"));
                    }
                }
            });
        }
    });
    let (wrong, took) = (wrong.into_inner().unwrap(), begun.elapsed());
    println!(
        "{name}: {made} of {total} faults in {} calls, {remote} of them at the remote's end, seed {}: {} wrong, {took:.0?}",
        calls.len(),
        seed(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub fn calls(world: &World) -> (Vec<Call>, End) {
    let world = world.copy();
    let (ran, said) = ingest(&world, None);
    assert!(matches!(ran.status.code(), Some(0 | 3)), "{said}");
    (ran.calls, End::of(&world, "no fault"))
}

#[test]
fn whatever_call_of_a_turn_fails_the_next_start_ends_where_it_should() {
    if !possible() {
        return;
    }
    let template = before_the_turn();
    let (calls, end) = calls(&template);
    storm_of(&template, INGEST, (&calls, &end), 2, "a turn");
}

#[test]
fn whatever_call_of_a_recovery_fails_the_next_start_ends_where_it_should() {
    if !possible() {
        return;
    }
    let template = before_the_turn();
    let (turn, end) = calls(&template);
    let turn = turn.len() as u64;
    // Killed at different depths of the turn; what a recovery has to do differs.
    for depth in 0..DEPTHS {
        let killed = template.copy();
        let nth = turn * (depth + 2) / (DEPTHS + 2);
        ingest(&killed, Some(At { nth, fault: Fault::KillAll }));
        locks_below(&killed.remote).iter().for_each(|it| std::fs::remove_file(it).unwrap());
        let (calls, again) = calls(&killed);
        assert_eq!(again, end);
        let name = format!("recovery from a kill at call {nth}");
        storm_of(&killed, INGEST, (&calls, &end), DEPTHS, &name);
    }
}

/// The way to a remote that others pushed to first: fetched, made again on top, sent.
#[test]
fn whatever_call_of_a_replay_fails_the_next_start_ends_where_it_should() {
    if !possible() {
        return;
    }
    let template = before_a_replay();
    let (calls, end) = calls(&template);
    storm_of(&template, INGEST, (&calls, &end), 2, "a replay");
}

/// An end where the pack should begin looks like a pack without objects.
#[test]
fn a_remote_that_ends_anywhere_in_its_answer_is_not_believed() {
    if !possible() {
        return;
    }
    let template = before_a_replay();
    let (calls, end) = calls(&template);
    let is_pack = |it: &Call| it.name == "openat" && it.path.contains("/objects/pack/.tmp");
    let pack = calls.iter().position(is_pack).expect("a pack is received");
    let said = |n: &usize| calls[*n].side == Side::Remote && calls[*n].name == "write";
    // Which comes first of theirs and ours is chance.
    let moments: Vec<_> = (0..calls.len().min(pack + 4)).filter(said).collect();
    assert!(!moments.is_empty());
    for n in moments.iter().rev().take(6) {
        let at = At { nth: *n as u64 + 1, fault: Fault::Errno(libc::EIO, Lasts::Once) };
        check(&template.copy(), INGEST, at, &end, &format!("{at:?}"));
    }
}

#[test]
fn whatever_call_of_a_resolution_fails_it_is_made_again() {
    if !possible() {
        return;
    }
    let template = before_a_replay();
    ingest(&template, None);
    let world = template.copy();
    let (ran, said) = command(&world, RESOLVE, None);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    let calls = ran.calls;
    let end = End::of(&world, "no fault");
    assert_eq!(end.raw, ["README.md"]);
    storm_of(&template, RESOLVE, (&calls, &end), 3, "a resolution");
}

/// Says so where this machine does not let us between a process and its kernel.
pub fn possible() -> bool {
    let possible = sysfault::is_possible();
    if !possible {
        eprintln!(
            "notice: seccomp user notification is not available; system calls are not failed"
        );
    }
    possible
}

/// Its note is all that tells it from somebody else's, so the note stays as long as the lock.
#[test]
fn a_lock_of_ours_that_could_not_be_removed_is_removed_by_the_start_after() {
    if !possible() {
        return;
    }
    let world = before_the_turn();
    let (turn, end) = calls(&world);
    let is_lock = |it: &Call, name| it.name.starts_with(name) && it.path.ends_with("HEAD.lock");
    let taken = turn.iter().position(|it| is_lock(it, "link")).expect("HEAD is locked");
    ingest(&world, Some(At { nth: taken as u64 + 2, fault: Fault::Kill }));
    assert!(world.work().join(".git/HEAD.lock").exists());
    let (recovery, _) = calls(&world);
    let removed = recovery.iter().position(|it| is_lock(it, "unlink")).expect("it is removed");
    let fault = Fault::Errno(libc::EIO, Lasts::Once);
    ingest(&world, Some(At { nth: removed as u64 + 1, fault }));
    let (ran, said) = ingest(&world, None);
    assert!(matches!(ran.status.code(), Some(0 | 3)), "{said}");
    assert_eq!(End::of(&world, "a lock"), end);
}

/// The order in which a turn makes things durable, read from its calls.
#[test]
fn nothing_leaves_raw_before_all_that_replaces_it_was_forced_to_the_disk() {
    if !possible() {
        return;
    }
    let world = before_the_turn().copy();
    let (ran, _) = ingest(&world, None);
    let mut synced: BTreeMap<String, usize> = BTreeMap::new();
    let mut gone = None;
    for (n, call) in ran.calls.iter().enumerate() {
        match call.name {
            "fsync" | "fdatasync" | "syncfs" => {
                synced.entry(call.path.clone()).or_insert(n);
            }
            "unlinkat" if call.path.contains("taken-") => {
                gone.get_or_insert(n);
            }
            _ => (),
        }
    }
    let gone = gone.expect("drops leave raw/");
    let before = |what: &str, part: &dyn Fn(&str) -> bool| {
        let found = synced.iter().any(|(path, n)| part(path) && *n < gone);
        assert!(found, "{what} is not forced to the disk before a drop goes: {synced:?}");
    };
    before("the pack", &|it| it.contains("/objects/pack/tmp_pack"));
    before("its index", &|it| it.contains("/objects/pack/tmp_idx"));
    before("the directory of packs", &|it| it.ends_with("/objects/pack"));
    before("the branch", &|it| it.ends_with("/intake/locks/refs/heads/main"));
    before("the directory of branches", &|it| it.ends_with("/.git/refs/heads"));
    before("the archive", &|it| it.ends_with("/refs/intake/archive/fabric-1"));
    before("the directory of archives", &|it| it.ends_with("/.git/refs/intake/archive"));
    before("a managed file", &|it| it.contains("/managed/vpcs/.git-intake-"));
    before("the directory of managed files", &|it| it.ends_with("/managed/vpcs"));
    before("the journal", &|it| it.ends_with("/store/db/db"));
    before("what the index owes", &|it| it.ends_with("/intake/index"));
}

/// Says where, among the calls of a run, the last file in `dir` was written, where it was forced to
/// the disk with the others, and where the first of them got its name.
fn written_forced_named(ran: &Ran, dir: &str, is_name: &dyn Fn(&str) -> bool) -> [usize; 3] {
    let temporary = format!("/{dir}/.git-intake-");
    let named = |it: &sysfault::Call| {
        (it.name.starts_with("rename") || it.name.starts_with("link")) && is_name(&it.path)
    };
    let written = |it: &sysfault::Call| it.name == "write" && it.path.contains(&temporary);
    let written = ran.calls.iter().rposition(written).expect("files are written");
    let forced = ran.calls[written..].iter().position(|it| it.name == "syncfs");
    let named = ran.calls.iter().position(named).expect("files get their names");
    [written, written + forced.expect("they are forced to the disk"), named]
}

/// A name that reaches the disk before its content is an empty file after a power cut.
#[test]
fn many_files_get_their_names_when_all_of_them_are_on_the_disk() {
    if !possible() {
        return;
    }
    let world = World::in_memory();
    let out = agent(&world, &["init", "--fabric", "fabric-1"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let many: Vec<String> = (0..30).map(|n| vpc(&format!("vpc-{n}"))).collect();
    world.drop("many.yaml", many.join("---\n"));
    for n in 0..20 {
        world.drop(&format!("drop-{n}.yaml"), vpc(&format!("one-{n}")));
    }
    let (ran, said) = ingest(&world, None);
    let is_name = |it: &str| it.starts_with("vpc-") || it.starts_with("one-");
    let order = written_forced_named(&ran, "managed/vpcs", &is_name);
    assert!(order.is_sorted(), "{order:?}: {said}");

    let other = World::beside(&world);
    std::fs::create_dir(other.work().join("notes")).unwrap();
    for n in 0..20 {
        std::fs::write(other.work().join(format!("notes/note-{n}")), "theirs\n").unwrap();
    }
    other.git(&["add", "notes"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
    world.drop("last.yaml", vpc("last"));
    let (ran, said) = ingest(&world, None);
    let order = written_forced_named(&ran, "notes", &|it| it.starts_with("note-"));
    assert!(order.is_sorted(), "{order:?}: {said}");
    let noted = |it: &sysfault::Call| it.name == "fsync" && it.path.ends_with("/intake/following");
    let noted = ran.calls.iter().position(noted).expect("where the branch goes is noted");
    assert!(noted < order[0], "{noted} {order:?}");
    assert_eq!(world.clone_of_remote().len(), 51);
}

/// After a sync that failed, nothing rests on what it was to force to the disk: not by syncing
/// again, only by writing again.
#[test]
fn a_sync_that_failed_is_never_repeated_and_believed() {
    if !possible() {
        return;
    }
    let template = before_the_turn();
    let world = template.copy();
    let (clean, _) = ingest(&world, None);
    let syncs = clean.calls.iter().enumerate().filter(|(_, it)| it.name.contains("sync"));
    for (n, call) in syncs {
        let world = template.copy();
        let at = At { nth: n as u64 + 1, fault: Fault::Errno(libc::EIO, Lasts::Once) };
        let (ran, _) = ingest(&world, Some(at));
        let Some(failed) = ran.calls.iter().position(|it| it.failed) else { continue };
        let path = &ran.calls[failed].path;
        let dir = std::path::Path::new(path).is_dir();
        // A file that was taken away and made anew is written again.
        let same = ran.calls[failed + 1..].iter().filter(|it| it.path == *path);
        let again = same
            .take_while(|it| !it.name.starts_with("unlink"))
            .find(|it| it.name.contains("sync") && !it.path.ends_with("/store/db/db"));
        assert!(dir || again.is_none(), "{call:?} failed and was repeated: {again:?}");
    }
}

/// Between any look and any opening somebody may put a link in the place of a drop.
#[test]
fn a_drop_that_becomes_a_link_in_the_last_moment_leads_nowhere() {
    if !possible() {
        return;
    }
    let world = before_the_turn().copy();
    let secret = world.dir.path().join("secret.yaml");
    std::fs::write(&secret, vpc("secret")).unwrap();
    let place = world.raw("race.yaml");
    world.drop("race.yaml", vpc("race"));
    let mut command = agent(&world, &["ingest"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut opened = 0;
    let ran = sysfault::run_watched(command, |_, call| {
        if call.path.ends_with("raw/race.yaml") && call.name.starts_with("open") {
            opened += 1;
            // It may have been taken away by then.
            let _ = std::fs::remove_file(&place);
            std::os::unix::fs::symlink(&secret, &place).unwrap();
        }
    });
    assert!(opened > 0 && ran.status.code().is_some(), "{ran:?}");
    assert!(!world.clone_of_remote().values().any(|it| it.contains("name: secret")));
    assert_eq!(world.git(&["log", "--all", "--oneline", "-S", "name: secret"]), "");
}
