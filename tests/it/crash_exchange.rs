//! Every step of the other way fails, like those of a turn: what others removed and moved, edits by
//! hand, undoing, releasing, and fabrics that come and go.

use crate::crash::{ask, each_step_fails, opened};
use crate::world::{World, vpc};
use git_intake::agent::desk::Request;
use git_intake::agent::exchange::SyncAsked;
use git_intake::agent::fabrics::{AddFabric, RemoveFabric};
use git_intake::agent::verify;
use git_intake::model::rules::Mode;
use git_intake::step::Steps;

/// A world with so many VPCs, on the remote.
fn with_vpcs(count: usize) -> World {
    let mut world = World::in_memory();
    world.settings.mode = Mode::Full;
    let all: Vec<String> = (1..=count).map(|n| vpc(&format!("vpc-{n}"))).collect();
    world.drop("all.yaml", all.join("---\n"));
    world.turn();
    world
}

fn others(world: &World, work: impl FnOnce(&World)) {
    let other = World::beside(world);
    work(&other);
    other.git(&["add", "-A"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
}

fn remove(world: &World, upto: usize) {
    for n in 1..=upto {
        std::fs::remove_file(world.managed(&format!("vpcs/vpc-{n}.yaml"))).unwrap();
    }
}

fn sync(world: &World) -> Result<(), String> {
    ask(world, &Request::Sync(SyncAsked::default())).map(drop)
}

#[test]
fn of_a_sync_with_what_others_removed_and_moved() {
    let before = || {
        let world = with_vpcs(3);
        others(&world, |it| {
            remove(it, 1);
            std::fs::create_dir_all(it.managed("team")).unwrap();
            std::fs::rename(it.managed("vpcs/vpc-2.yaml"), it.managed("team/moved.yaml")).unwrap();
        });
        world
    };
    each_step_fails(before, Some(sync), 15);
}

#[test]
fn of_edits_by_hand_that_are_committed() {
    let before = || {
        let world = with_vpcs(3);
        let edited = vpc("vpc-2").replace("1001", "5") + "# by hand\n";
        std::fs::write(world.managed("vpcs/vpc-2.yaml"), edited).unwrap();
        std::fs::write(world.managed("vpcs/vpc-4.yaml"), vpc("vpc-4")).unwrap();
        remove(&world, 1);
        world
    };
    each_step_fails(before, Some(sync), 15);
}

#[test]
fn of_an_operation_that_is_undone() {
    let before = || {
        let world = with_vpcs(1);
        let changed = vpc("vpc-1").replace("1001", "1002");
        world.drop("two.yaml", format!("{changed}---\n{}", vpc("vpc-2")));
        world.turn();
        // Another field since: it stays.
        world.drop("later.yaml", changed.replace("10.0.1.0", "10.0.9.0"));
        world.turn();
        world
    };
    let revert = |world: &World| {
        let named = "--format=%(trailers:key=Intake-Operation,valueonly)";
        let source = "--grep=Intake-Source: .*two.yaml";
        let operation = world.git(&["log", "-1", named, source]).trim().to_owned();
        let (strategy, actor, dry_run) = (None, "Ada".into(), false);
        ask(world, &Request::Revert { operation, strategy, actor, dry_run }).map(drop)
    };
    each_step_fails(before, Some(revert), 20);
}

/// So much is gone that a person has to say whether it was meant.
fn held() -> World {
    let world = with_vpcs(20);
    others(&world, |it| remove(it, 12));
    sync(&world).unwrap();
    assert!(opened(&world).unwrap().fabrics[0].hold.is_some());
    world
}

fn release(world: &World, restore: bool) -> Result<(), String> {
    let actor = "Ada".into();
    ask(world, &Request::Release { fabric: None, restore, actor }).map(drop)
}

#[test]
fn of_a_release_that_brings_back_what_is_gone() {
    each_step_fails(held, Some(|world| release(world, true)), 15);
}

#[test]
fn of_a_release_that_lets_go() {
    each_step_fails(held, Some(|world| release(world, false)), 1);
}

fn remove_fabric(world: &World) -> Result<(), String> {
    if world.git(&["ls-tree", "-r", "--name-only", "HEAD", "fabric-1/managed/vpcs"]).is_empty() {
        return Ok(());
    }
    let name = world.repository.fabrics[0].name.clone();
    let (purge, backup, actor, dry_run) = (true, false, "Ada".into(), false);
    ask(world, &Request::RemoveFabric(RemoveFabric { name, purge, backup, actor, dry_run }))
        .map(drop)
}

#[test]
fn of_a_fabric_that_is_removed() {
    each_step_fails(|| with_vpcs(2), Some(remove_fabric), 15);
}

#[test]
fn of_a_fabric_that_is_brought_back() {
    let before = || {
        let world = with_vpcs(2);
        world.git(&["tag", "kept"]);
        remove_fabric(&world).unwrap();
        world
    };
    let add = |world: &World| {
        let name = world.repository.fabrics[0].name.clone();
        let (restore, actor) = (Some("kept".to_owned()), "Ada".into());
        let (dir, mode, on_delete, conflict) = (None, None, None, None);
        let add = AddFabric { name, dir, mode, on_delete, conflict, restore, actor };
        ask(world, &Request::AddFabric(add)).map(drop)
    };
    each_step_fails(before, Some(add), 15);
}

/// More records than are held in memory at once: they are written as they are made.
#[test]
fn of_a_first_start_with_very_many_files() {
    const FILES: u64 = 5_200;
    let template = World::in_memory();
    std::fs::create_dir_all(template.managed("vpcs")).unwrap();
    for n in 0..FILES {
        let name = format!("vpc-{n}");
        std::fs::write(template.managed(&format!("vpcs/{name}.yaml")), vpc(&name)).unwrap();
    }
    template.git(&["add", "-A"]);
    template.git(&["commit", "-qm", "all"]);
    let all_there = |world: &World| {
        let lane = opened(world).unwrap();
        assert_eq!(lane.store.records_count(&lane.fabrics[0].fabric.name), FILES);
        let mut differences = verify::verify(&lane, true).unwrap().differences;
        differences.retain(|it| it.between != "remote");
        assert_eq!(differences, vec![], "but for what was not pushed");
    };
    let undisturbed = template.copy();
    let before = undisturbed.steps.taken();
    all_there(&undisturbed);
    let steps = undisturbed.steps.taken() - before;
    let mut begun = 0;
    for n in [steps - 14, steps - 7, steps - 3, steps - 1] {
        let mut world = template.copy();
        world.steps.stop_after(n);
        assert!(opened(&world).is_err(), "step {n} of {steps}");
        world.steps = Steps::default();
        let lane = world.open().unwrap();
        let name = lane.fabrics[0].fabric.name.clone();
        let records = lane.store.records_count(&name);
        begun += usize::from(records > 0 && lane.store.synced(&name).unwrap().is_none());
        drop(lane);
        all_there(&world);
    }
    assert!(begun > 0, "none was cut off between its records");
}
