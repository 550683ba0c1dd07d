//! Many drops at once: more than one turn takes, and enough for all cores to take part.

use crate::world::{World, vpc};
use git_intake::model::report::Ending;
use std::collections::BTreeSet;

#[test]
fn a_flood_is_taken_in_turns_and_each_drop_arrives_once() {
    let mut world = World::in_memory();
    world.settings.intake.files_per_turn_max = 200;
    world.turn();
    for n in 0..500 {
        // Some are wrong, some say what another one says.
        let text = match n % 50 {
            7 => "kind: VPC\n".to_owned(),
            9 => vpc(&format!("vpc-{}", n - 1)),
            _ => vpc(&format!("vpc-{n}")),
        };
        world.drop(&format!("team-{}/{n}.yaml", n % 3), text);
    }
    let report = world.turn();
    let rejected = report.files.iter().filter(|it| it.ending == Ending::Rejected).count();
    assert_eq!((report.files.len(), rejected), (500, 10));
    let expected: BTreeSet<String> = (0..500)
        .filter(|n| !matches!(n % 50, 7 | 9))
        .map(|n| format!("managed/vpcs/vpc-{n}.yaml"))
        .collect();
    let clone = world.clone_of_remote();
    assert_eq!(clone.keys().cloned().collect::<BTreeSet<_>>(), expected);
    // The index has followed, though it was put off while more was waiting.
    assert_eq!(world.git(&["status", "--porcelain", "fabric-1/managed"]), "");
    // Every original that was filed is in the archive, once.
    let archive = world.git(&["ls-tree", "-r", "--name-only", "refs/intake/archive/fabric-1"]);
    assert_eq!(archive.lines().count(), 490);
    for n in [0, 9, 499] {
        let name = format!("-{n}.yaml");
        let path = archive.lines().find(|it| it.ends_with(&name)).unwrap();
        let kept = world.git(&["show", &format!("refs/intake/archive/fabric-1:{path}")]);
        let filed = if n == 9 { 8 } else { n };
        assert_eq!(kept, vpc(&format!("vpc-{filed}")));
    }
    world.at_rest();
}

/// Enough drops for files to be synced together.
const MANY: usize = 20;

fn many() -> World {
    let world = World::in_memory();
    world.turn();
    for n in 0..MANY {
        world.drop(&format!("{n}.yaml"), vpc(&format!("vpc-{n}")));
    }
    world
}

#[test]
fn what_a_dropper_still_holds_leads_to_no_managed_file() {
    use std::os::unix::fs::MetadataExt as _;
    let world = many();
    let raw = |n: usize| world.raw(&format!("{n}.yaml"));
    // A descriptor can be opened again for writing (/proc/self/fd), long after the drop is gone.
    let held: Vec<_> = (0..MANY).map(|n| std::fs::File::open(raw(n)).unwrap()).collect();
    world.turn();
    let filed = |n: usize| world.managed(&format!("vpcs/vpc-{n}.yaml"));
    for (n, drop) in held.iter().enumerate() {
        let (drop, filed) = (drop.metadata().unwrap(), std::fs::metadata(filed(n)).unwrap());
        assert_ne!((drop.dev(), drop.ino()), (filed.dev(), filed.ino()), "drop {n}");
        assert_eq!((drop.nlink(), filed.nlink()), (0, 1), "drop {n}");
    }
}

#[test]
fn a_flood_that_is_cut_off_anywhere_loses_nothing_and_takes_nothing_twice() {
    let world = many();
    let before = world.steps.taken();
    world.turn();
    let n = world.steps.taken() - before;
    assert!(n > 3 * MANY as u64, "{n} steps");
    // Every step of the long rows looks the same; a number prime to their lengths meets all kinds.
    for at in (1..=n).step_by(7) {
        let mut world = many();
        world.steps.stop_after(at);
        let _ = world.try_turn();
        world.steps = git_intake::step::Steps::default();
        world.turn();
        let clone = world.clone_of_remote();
        assert_eq!(clone.len(), MANY, "stopped at {at} of {n}");
        for k in 0..MANY {
            assert_eq!(clone[&format!("managed/vpcs/vpc-{k}.yaml")], vpc(&format!("vpc-{k}")));
            assert!(!world.raw(&format!("{k}.yaml")).exists(), "stopped at {at} of {n}");
        }
        assert_eq!(world.commits(), 2, "stopped at {at} of {n}");
        world.at_rest();
    }
}
