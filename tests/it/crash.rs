//! Every step of a turn fails, both ways: for good (the process died) and once (the disk was full
//! for a moment). Whatever fails, the next start comes to rest with nothing lost and nothing twice.

use crate::world::{World, vpc};
use git_intake::step::Steps;

/// A world just before its turn: one resource to be updated, two new ones, a bad file.
fn before_the_turn() -> World {
    let world = World::in_memory();
    world.drop("old.yaml", vpc("vpc-1"));
    world.turn();
    world.drop("old.yaml", vpc("vpc-1").replace("1001", "1002"));
    world.drop("two.yaml", format!("{}---\n{}", vpc("vpc-2"), vpc("vpc-3")));
    world.drop("bad.yaml", vpc("BAD"));
    world
}

fn check_end(world: &World, what: &str) {
    let clone = world.clone_of_remote();
    assert_eq!(clone.len(), 3, "{what}: {:?}", clone.keys());
    assert!(clone["managed/vpcs/vpc-1.yaml"].contains("1002"), "{what}");
    assert!(!world.raw("old.yaml").exists() && !world.raw("two.yaml").exists(), "{what}");
    assert!(
        world.raw("bad.yaml").exists() && world.raw("bad.yaml.rejected.txt").exists(),
        "{what}"
    );
    assert_eq!(world.commits(), 3, "{what}: {}", world.git(&["log", "--oneline"]));
    let originals = world.git(&["ls-tree", "-r", "--name-only", "refs/intake/archive/fabric-1"]);
    assert_eq!(originals.lines().count(), 3, "{what}");
    world.at_rest();
}

fn steps_of_a_turn() -> u64 {
    let world = before_the_turn();
    let before = world.steps.taken();
    world.turn();
    check_end(&world, "no fault");
    world.steps.taken() - before
}

#[test]
fn wherever_the_process_dies_the_next_start_comes_to_rest() {
    let n = steps_of_a_turn();
    assert!(n > 15, "a turn has {n} steps");
    for at in 1..=n {
        let mut world = before_the_turn();
        world.steps.stop_after(at);
        // It may end with an error or notice nothing: some steps come after the answer.
        let _ = world.try_turn();
        world.steps = Steps::default();
        world.turn();
        check_end(&world, &format!("stopped at {at} of {n}"));
    }
}

#[test]
fn wherever_the_disk_is_full_for_a_moment_the_next_turn_goes_on() {
    let n = steps_of_a_turn();
    for at in 1..=n {
        let mut world = before_the_turn();
        world.steps.fail_once(at);
        let _ = world.try_turn();
        // A turn that ended early has steps left to fail; the next begins without.
        world.steps = Steps::default();
        world.turn();
        check_end(&world, &format!("failed at {at} of {n}"));
    }
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
    let world = before_the_turn();
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
    check_end(&world, "after the lock");
}
