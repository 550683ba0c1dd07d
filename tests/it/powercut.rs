//! The power goes, on ext4, xfs and btrfs: what was acknowledged is there afterwards.
//!
//! The disk of a fabric is a file whose state at one instant is kept by a reflink, which holds what
//! the file system had sent to its disk and nothing of what was still in memory. Each such state is
//! mounted, the agent starts on it, and everything that had left `raw/` by then is looked for.
//! Meanwhile drops come by ones and in floods, and others push.
//! (A disk that loses what it was not told to flush is not part of this.)
//!
//! Needs root, loop devices, mkfs.xfs and mkfs.btrfs; passes over with a notice without them.
//!
//! ```text
//! POWER_CUTS=300 cargo test --test it powercut -- --nocapture
//! ```

use crate::storm::{Dice, no_strays};
use crate::world::{World, git, git_output, vpc};
use git_intake::agent::sync;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many cuts the test command makes, over all file systems.
const CUTS: u64 = 6;
/// So many drops at once are placed together, and not one by one.
const FLOOD: u64 = 40;
const FILE_SYSTEMS: [(&str, &[&str], u64); 3] = [
    ("ext4", &["mkfs.ext4", "-q", "-F"], 256 << 20),
    ("xfs", &["mkfs.xfs", "-q", "-f"], 320 << 20),
    ("btrfs", &["mkfs.btrfs", "-q", "-f"], 256 << 20),
];

/// A mounted file system, until it is dropped.
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(kind: &str, disk: &Path, at: &Path) -> Result<Mount, String> {
        std::fs::create_dir_all(at).unwrap();
        let options = if kind == "xfs" { "loop,nouuid" } else { "loop" };
        did(Command::new("mount").args(["-t", kind, "-o", options]).arg(disk).arg(at))
            .map(|()| Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for _ in 0..50 {
            if did(Command::new("umount").arg(&self.0)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("{} stays mounted", self.0.display());
    }
}

pub fn did(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

pub fn disk(kind: &str, at: &Path, bytes: u64) -> Result<(), String> {
    std::fs::File::create(at).unwrap().set_len(bytes).unwrap();
    let make = FILE_SYSTEMS.iter().find(|it| it.0 == kind).unwrap().1;
    did(Command::new(make[0]).args(&make[1..]).arg(at))
}

/// One state of the disk, and what was acknowledged before it was taken.
struct Cut {
    disk: PathBuf,
    acknowledged: Vec<String>,
}

#[test]
fn whenever_the_power_goes_what_was_acknowledged_is_there_afterwards() {
    let cuts = std::env::var("POWER_CUTS").ok().and_then(|it| it.parse().ok()).unwrap_or(CUTS);
    let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let dir = tempfile::tempdir_in(base).unwrap();
    // What can clone files at once is below all of them.
    let ground = disk("xfs", &dir.path().join("ground"), 6 << 30)
        .and_then(|()| Mount::new("xfs", &dir.path().join("ground"), &dir.path().join("disks")));
    let ground = match ground {
        Ok(it) => it,
        Err(why) => return eprintln!("notice: no power is cut here: {why}"),
    };
    for (n, (kind, _, bytes)) in FILE_SYSTEMS.iter().enumerate() {
        let share = cuts / 3 + u64::from((n as u64) < cuts % 3);
        let place = ground.0.join("disk");
        if let Err(why) = disk(kind, &place, *bytes) {
            eprintln!("notice: no power is cut on {kind}: {why}");
            continue;
        }
        let at = dir.path().join("mounted");
        let mount = Mount::new(kind, &place, &at).unwrap();
        let others = Others::new(&dir.path().join(kind));
        let (world, taken) = work(&at, &place, &others, share, 20_261_124 + n as u64);
        drop(mount);
        for cut in &taken {
            let mount = Mount::new(kind, &cut.disk, &at).unwrap();
            check(&world, cut, kind);
            drop(mount);
            std::fs::remove_file(&cut.disk).unwrap();
        }
        println!("{kind}: {} cuts, at most {} drops acknowledged", taken.len(), most(&taken));
        // Its files are on a disk that is not there any more.
        std::mem::forget(world);
    }
    drop(ground);
}

fn most(cuts: &[Cut]) -> usize {
    cuts.iter().map(|it| it.acknowledged.len()).max().unwrap_or(0)
}

fn text(n: u64) -> String {
    format!("# drop {n}\n{}", vpc(&format!("vpc-{n}")))
}

/// The file system stops in the middle: nothing that is still in memory comes to its disk any more, and
/// every call fails from then on (`xfs_io -c shutdown`).
#[test]
fn when_the_file_system_shuts_down_what_was_acknowledged_is_there_afterwards() {
    let times = std::env::var("POWER_CUTS").ok().and_then(|it| it.parse().ok()).unwrap_or(CUTS) / 3;
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mounted");
    let mut dice = Dice::new(20_261_125);
    for (kind, _, bytes) in &FILE_SYSTEMS[..2] {
        let place = dir.path().join(kind);
        let made = disk(kind, &place, *bytes).and_then(|()| Mount::new(kind, &place, &at));
        let mut mount = match made {
            Ok(it) => it,
            Err(why) => {
                eprintln!("notice: no {kind} is shut down here: {why}");
                continue;
            }
        };
        let mut world = World::alone_in(&at);
        world.repository.push = false;
        world.turn();
        rustix::fs::sync();
        let mut acknowledged = Vec::new();
        for n in 0..times.max(1) {
            let round = drops_until_shutdown(&world, &at, n, dice.roll(300_000));
            let Some(round) = round else {
                eprintln!("notice: xfs_io is not installed; no {kind} is shut down here");
                break;
            };
            acknowledged.extend(round);
            drop(mount);
            mount = Mount::new(kind, &place, &at).unwrap();
            let cut = Cut { disk: place.clone(), acknowledged: acknowledged.clone() };
            check(&world, &cut, kind);
        }
        println!("{kind}: {} drops acknowledged over {times} shutdowns", acknowledged.len());
        drop(mount);
        std::mem::forget(world);
    }
}

/// What had left `raw/` when the file system was shut down; none where that cannot be done.
fn drops_until_shutdown(world: &World, at: &Path, round: u64, after: u64) -> Option<Vec<String>> {
    let end = AtomicBool::new(false);
    let dropped = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1_000 * round.. {
                let name = format!("drop-{n}.yaml");
                let beside = at.join("dropping");
                let put = std::fs::write(&beside, text(n))
                    .and_then(|()| std::fs::rename(&beside, world.raw(&name)));
                if end.load(Ordering::SeqCst) || put.is_err() {
                    return;
                }
                dropped.lock().unwrap().push(name);
                // sled panics where its disk is gone; the service manager starts the agent anew.
                let turned = std::panic::AssertUnwindSafe(|| world.try_turn().is_ok());
                if !std::panic::catch_unwind(turned).unwrap_or(false) {
                    return;
                }
            }
        });
        std::thread::sleep(Duration::from_micros(after));
        let mut acknowledged = dropped.lock().unwrap().clone();
        acknowledged.retain(|it| !world.raw(it).exists());
        let stopped = did(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(at));
        end.store(true, Ordering::SeqCst);
        stopped.ok().map(|()| acknowledged)
    })
}

/// A remote on another machine, and somebody there who pushes.
struct Others {
    remote: PathBuf,
    work: PathBuf,
}

impl Others {
    fn new(dir: &Path) -> Others {
        std::fs::create_dir(dir).unwrap();
        git(dir, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(&dir.join("remote.git"), &["config", "receive.autogc", "false"]);
        git(dir, &["clone", "-q", "remote.git", "others"]);
        Others { remote: dir.join("remote.git"), work: dir.join("others") }
    }

    /// One resource, many files beside it, some of them old ones, and one that goes.
    fn push(&self, n: u64) {
        // Whoever is overtaken comes again.
        let run = |args: &[&str]| git_output(&self.work, args).status.success();
        if !run(&["fetch", "-q"]) || !run(&["reset", "-q", "--hard", "origin/main"]) {
            return;
        }
        let managed = self.work.join("fabric-1/managed/vpcs");
        std::fs::create_dir_all(&managed).unwrap();
        std::fs::write(managed.join(format!("theirs-{n}.yaml")), vpc(&format!("theirs-{n}")))
            .unwrap();
        for at in [format!("notes/{n}"), "notes/same".to_owned()] {
            let dir = self.work.join(at);
            std::fs::create_dir_all(&dir).unwrap();
            for part in 0..10 {
                std::fs::write(dir.join(part.to_string()), format!("{n}\n").repeat(100)).unwrap();
            }
        }
        let _ = std::fs::remove_dir_all(self.work.join(format!("notes/{}", n.wrapping_sub(2))));
        run(&["add", "-A"]);
        run(&["commit", "-q", "-m", "theirs"]);
        run(&["push", "-q"]);
    }
}

/// Drops and turns without end, others who push, somebody else who syncs, and states of the disk
/// taken in between.
fn work(at: &Path, disk: &Path, others: &Others, cuts: u64, seed: u64) -> (World, Vec<Cut>) {
    let mut world = World::alone_in(at);
    world.remote.clone_from(&others.remote);
    world.git(&["remote", "add", "origin", &others.remote.display().to_string()]);
    world.turn();
    rustix::fs::sync();
    let end = AtomicBool::new(false);
    let dropped = Mutex::new(Vec::new());
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                for part in 0..if n % 4 == 3 { FLOOD } else { 1 + n % 4 } {
                    let id = 100 * n + part;
                    let beside = at.join("dropping");
                    std::fs::write(&beside, text(id)).unwrap();
                    std::fs::rename(beside, world.raw(&format!("drop-{id}.yaml"))).unwrap();
                    dropped.lock().unwrap().push(format!("drop-{id}.yaml"));
                }
                world.turn();
            }
        });
        scope.spawn(|| {
            for n in 0.. {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                others.push(n);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        scope.spawn(|| {
            // It brings the file system's journal to the disk, and not our data.
            while !end.load(Ordering::SeqCst) {
                let file = std::fs::File::create(at.join("other")).unwrap();
                file.sync_all().unwrap();
                std::thread::sleep(Duration::from_millis(7));
            }
        });
        let mut dice = Dice::new(seed);
        for n in 0..cuts {
            std::thread::sleep(Duration::from_micros(dice.roll(150_000)));
            let mut acknowledged = dropped.lock().unwrap().clone();
            acknowledged.retain(|it| !world.raw(it).exists());
            let copy = disk.with_file_name(format!("cut-{n}"));
            did(Command::new("cp").arg("--reflink=always").arg(disk).arg(&copy)).unwrap();
            taken.push(Cut { disk: copy, acknowledged });
        }
        end.store(true, Ordering::SeqCst);
    });
    (world, taken)
}

fn check(world: &World, cut: &Cut, kind: &str) {
    let case = format!("{kind}, {}", cut.disk.display());
    world.try_turn().unwrap_or_else(|it| panic!("{case}: {it:?}"));
    if world.remote.exists() {
        // A turn with nothing to send does not ask what others pushed.
        let mut lane = world.open().unwrap();
        lane.prepare().unwrap();
        sync::take_in(&mut lane).unwrap_or_else(|it| panic!("{case}: {it:?}"));
    }
    assert_eq!(world.git(&["fsck", "--strict", "--no-dangling"]), "", "{case}");
    // There is no archive before the first drop.
    let list = ["ls-tree", "-r", "--name-only", "refs/intake/archive/fabric-1"];
    let kept = String::from_utf8(git_output(&world.work(), &list).stdout).unwrap();
    // An original is called by its digest and its name.
    let name = |it: &str| Some(it.rsplit('/').next()?.get(65..)?.to_owned());
    let kept: HashSet<String> = kept.lines().filter_map(name).collect();
    for name in &cut.acknowledged {
        assert!(kept.contains(name.as_str()), "{case}: {name} is lost");
        let id: u64 = name[5..name.len() - 5].parse().unwrap();
        let filed = world.git(&["show", &format!("HEAD:fabric-1/managed/vpcs/vpc-{id}.yaml")]);
        assert_eq!(filed, text(id), "{case}");
    }
    no_strays(&world.work());
    let half = world.git(&["status", "--porcelain", "--", ".", ":!fabric-1/raw"]);
    assert_eq!(half, "", "{case}: {}", world.git(&["diff"]));
    world.at_rest();
}
