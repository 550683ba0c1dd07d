//! What runs out while the agent lives, and comes back: room on the disk, at any moment of a running
//! service's turn, and files that a process may have open.

use crate::faults::{End, before_the_turn, calls, ingest, locks_below, possible};
use crate::storm::agent;
use crate::surroundings::until;
use crate::sysfault::{self, At, Fault, Lasts, Lever};
use crate::world::{World, git_output};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::Ordering;

/// In how many moments of a service's first turn the disk becomes full, where nobody asks for all.
const MOMENTS: usize = 8;

/// The disk has no room from the n-th call on: every drop stays, `status` says why, and what was to
/// be done is done by itself when there is room.
#[test]
fn a_disk_that_is_full_from_any_moment_on_is_told_and_gone_on_from_by_itself() {
    if !possible() {
        return;
    }
    let template = before_the_turn();
    let (calls, end) = calls(&template);
    let all = std::env::var("FAULTS").is_ok_and(|it| it == "all");
    let every = if all { 1 } else { calls.len().div_ceil(MOMENTS) };
    for nth in (1..=calls.len()).step_by(every) {
        let case = format!("no room from call {nth} of {} on", calls.len());
        let at = At { nth: nth as u64, fault: Fault::Errno(libc::ENOSPC, Lasts::Everywhere) };
        let world = template.copy();
        full_for_a_while(&world, at, &case);
        let (ran, said) = ingest(&world, None);
        assert!(matches!(ran.status.code(), Some(0 | 3)), "{case}: {said}");
        assert_eq!(End::of(&world, &case), end, "{case}");
    }
}

/// A service whose disk is full from some call on, until somebody has read in `status` why nothing
/// goes on. It may give up and be started anew, as its manager does it.
fn full_for_a_while(world: &World, at: At, case: &str) {
    let log = world.dir.path().join("log");
    let served = |at: At, lever: &Lever| {
        let mut command = agent(world, &["run"]);
        let out = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        sysfault::run_until_over(command, at, lever)
    };
    let (lever, again) = (Lever::default(), Lever::default());
    again.over.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        // Whatever is found wrong below, nobody waits for a service that runs on.
        let _ended = Ended([&lever, &again]);
        let service = scope.spawn(|| served(at, &lever));
        until(&format!("{case}: it is told"), || {
            // A turn that made fewer calls than it might have never came to the fault.
            service.is_finished() || tells_of_no_room(world) || nothing_is_left(world)
        });
        let gave_up = service.is_finished();
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(
            !gave_up || said.contains("space left"),
            "{case}: it ended without a reason: {said}"
        );
        lever.over.store(true, Ordering::SeqCst);
        let mut second = gave_up.then(|| scope.spawn(|| served(at, &again)));
        until(&format!("{case}: it goes on"), || {
            let ended = second.as_ref().unwrap_or(&service).is_finished();
            let said = std::fs::read_to_string(&log).unwrap();
            if said.contains("main.lock") {
                // Not even git at the remote could remove its lock; whoever reads of it there does.
                for lock in locks_below(&world.remote) {
                    // A push may be just done with its own.
                    let _ = std::fs::remove_file(lock);
                }
            }
            let left = !nothing_is_left(world);
            if ended && left {
                // It told why, and gave up only then.
                let reason = second.is_none() && said.contains("has to be opened again");
                assert!(reason, "{case}: it ended with room: {said}");
                second = Some(scope.spawn(|| served(at, &again)));
            }
            !left
        });
    });
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!said.contains("panicked"), "{case}: {said}");
}

/// Services that end with this value.
struct Ended<'a>([&'a Lever; 2]);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        for lever in self.0 {
            lever.over.store(true, Ordering::SeqCst);
            let pid = i32::try_from(lever.pid.load(Ordering::SeqCst)).unwrap_or_default();
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // It may have given up.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
    }
}

fn tells_of_no_room(world: &World) -> bool {
    let out = agent(world, &["status"]).output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).contains("space left")
}

/// All that can be filed is on the remote.
fn nothing_is_left(world: &World) -> bool {
    let there = |it: &str| {
        let place = format!("main:fabric-1/managed/vpcs/{it}.yaml");
        git_output(&world.remote, &["cat-file", "-e", &place]).status.success()
    };
    let taken = |it: &str| !Path::exists(&world.raw(it));
    ["vpc-2", "vpc-3"].into_iter().all(there) && ["old.yaml", "two.yaml"].into_iter().all(taken)
}

/// Whatever cannot be opened, at whichever point that is: the next start, with more, does the work.
#[test]
fn however_few_files_a_process_may_open_nothing_is_lost() {
    let template = before_the_turn();
    let (_, end) = calls(&template);
    let mut stopped = 0;
    for files in (6..48).step_by(2) {
        let case = format!("with {files} files at a time");
        let world = template.copy();
        let mut command = agent(&world, &["ingest", "--json"]);
        // SAFETY: one system call between fork and exec, which touches nothing.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: files, rlim_max: files };
                match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let out = command.output().unwrap();
        let told = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        // Below a few, no program can be loaded.
        assert!(matches!(out.status.code(), Some(0 | 1 | 3 | 127)), "{case}: {told}");
        assert!(!told.contains("panicked"), "{case}: {told}");
        stopped += usize::from(out.status.code() == Some(1));
        let (ran, said) = ingest(&world, None);
        assert!(matches!(ran.status.code(), Some(0 | 3)), "{case}: {said}");
        assert_eq!(End::of(&world, &case), end, "{case}: {told}");
    }
    assert!(stopped > 3, "only {stopped} runs had too few");
}
