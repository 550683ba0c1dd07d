//! The other way: what others push, remove, move and copy, what hands edit, what is undone and
//! released, and fabrics that come and go.

use crate::world::{World, git, vpc};
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::agent::events::{Events, Voice};
use git_intake::agent::exchange::{SyncAsked, SyncDirection};
use git_intake::agent::fabrics::{AddFabric, FabricChange, RemoveFabric, SetFabric};
use git_intake::agent::lane::Lane;
use git_intake::agent::run;
use git_intake::agent::tidy::TidyAsked;
use git_intake::clock;
use git_intake::config::{self, RepositorySettings};
use git_intake::model::account::{
    Drift, IncomingKind, RecordState, ReleaseReport, ResourceView, RevertReport, SyncReport,
    TidyReport,
};
use git_intake::model::conflict::ConflictStrategy;
use git_intake::model::fabric::FabricName;
use git_intake::model::record::{Record, Stray, StrayKind};
use git_intake::model::report::Delivery;
use git_intake::model::rules::{Mode, OnDelete};
use git_intake::step::Steps;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FILE: &str = "managed/vpcs/vpc-1.yaml";

fn opened(world: &World) -> Lane {
    let mut lane = world.open().unwrap();
    lane.prepare().unwrap();
    lane
}

fn ask(lane: &mut Lane, request: &Request) -> Answer {
    desk::answer(lane, request, &Live::default())
}

fn records(lane: &Lane) -> BTreeMap<String, Record> {
    let name = &lane.fabrics[0].fabric.name;
    lane.store.records(name).map(|it| it.unwrap()).map(|it| (it.path.to_string(), it)).collect()
}

fn strays(lane: &Lane) -> Vec<Stray> {
    lane.store.strays(&lane.fabrics[0].fabric.name).map(Result::unwrap).collect()
}

fn synced(world: &World, asked: SyncAsked) -> SyncReport {
    match ask(&mut opened(world), &Request::Sync(asked)) {
        Answer::Synced(report) => *report,
        other => panic!("{other:?}"),
    }
}

fn sync(world: &World) -> SyncReport {
    synced(world, SyncAsked::default())
}

fn view(lane: &mut Lane, name: &str) -> ResourceView {
    match ask(lane, &Request::View { name: name.into() }) {
        Answer::View(it) => *it,
        other => panic!("{other:?}"),
    }
}

/// A world with so many VPCs, on the remote.
fn with_vpcs(count: usize) -> World {
    let world = World::new();
    let all: Vec<String> = (1..=count).map(|n| vpc(&format!("vpc-{n}"))).collect();
    world.drop("all.yaml", all.join("---\n"));
    world.turn();
    world
}

/// What somebody else does in a clone of the remote, committed and pushed.
fn others(world: &World, work: impl FnOnce(&World)) {
    let other = World::beside(world);
    work(&other);
    other.git(&["add", "-A"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
}

#[test]
fn a_resource_that_others_remove_becomes_an_orphan_and_lives_again() {
    let world = with_vpcs(2);
    others(&world, |it| std::fs::remove_file(it.managed("vpcs/vpc-1.yaml")).unwrap());
    let report = sync(&world);
    assert_eq!(report.incoming[0].kind, IncomingKind::Removed);
    let mut lane = opened(&world);
    assert_eq!(records(&lane).len(), 1);
    let it = view(&mut lane, "VPC/vpc-1");
    assert_eq!(
        (it.state, it.removed.unwrap().author.as_str()),
        (RecordState::Orphaned, "A Person")
    );
    // A store that forgot knows it again from the history.
    assert!(matches!(ask(&mut lane, &Request::Rebuild), Answer::Rebuilt(1)));
    let Answer::Orphans(all) = ask(&mut lane, &Request::Orphans) else { panic!() };
    assert_eq!(all.len(), 1);
    drop(lane);
    world.drop("again.yaml", vpc("vpc-1"));
    world.turn();
    let mut lane = opened(&world);
    let Answer::Orphans(all) = ask(&mut lane, &Request::Orphans) else { panic!() };
    assert_eq!((all.len(), records(&lane).len()), (0, 2));
    drop(lane);
    world.at_rest();
    // With the other policy nothing is kept.
    let mut world = world;
    world.settings.on_delete = OnDelete::Delete;
    others(&world, |it| std::fs::remove_file(it.managed("vpcs/vpc-1.yaml")).unwrap());
    sync(&world);
    let mut lane = opened(&world);
    let Answer::Orphans(all) = ask(&mut lane, &Request::Orphans) else { panic!() };
    assert_eq!((all.len(), records(&lane).len()), (0, 1));
}

#[test]
fn many_removals_wait_for_a_person_who_lets_them_go_or_brings_them_back() {
    let world = with_vpcs(20);
    let remove = |it: &World| {
        (1..=12).for_each(|n| {
            let _ = std::fs::remove_file(it.managed(&format!("vpcs/vpc-{n}.yaml")));
        });
    };
    others(&world, remove);
    let report = sync(&world);
    assert_eq!((report.holds.len(), report.holds[0].removed), (1, 12));
    // The drop waits too, and the records are what they were.
    world.drop("new.yaml", vpc("vpc-99"));
    let Delivery::Held { reason } = world.turn().delivery else { panic!() };
    assert!(reason.contains("git-intake release fabric-1"), "{reason}");
    let mut lane = opened(&world);
    assert_eq!(records(&lane).len(), 20);
    let release = |restore| Request::Release { fabric: None, restore, actor: "Ada".into() };
    let Answer::Released(ReleaseReport { released, delivery }) = ask(&mut lane, &release(true))
    else {
        panic!()
    };
    assert!(released[0].commit_id.is_some() && matches!(delivery, Delivery::Pushed { .. }));
    drop(lane);
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 21);
    world.at_rest();

    others(&world, remove);
    sync(&world);
    let mut lane = opened(&world);
    assert!(matches!(ask(&mut lane, &release(false)), Answer::Released(_)));
    assert_eq!(records(&lane).len(), 9);
    drop(lane);
    world.at_rest();
}

#[test]
fn moves_copies_and_foreign_files_are_known_for_what_they_are() {
    let world = with_vpcs(3);
    let before = records(&opened(&world));
    others(&world, |it| {
        std::fs::create_dir_all(it.managed("team")).unwrap();
        std::fs::rename(it.managed("vpcs/vpc-1.yaml"), it.managed("team/moved.yaml")).unwrap();
        std::fs::copy(it.managed("vpcs/vpc-2.yaml"), it.managed("a-copy.yaml")).unwrap();
        std::fs::write(it.managed("notes.txt"), "notes").unwrap();
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        std::fs::write(it.managed("map.yaml"), map).unwrap();
        std::fs::write(it.managed("vpcs/vpc-3.yaml"), "kind: [\n").unwrap();
        std::fs::create_dir_all(it.raw("")).unwrap();
        std::fs::write(it.raw("by-git.yaml"), vpc("vpc-9")).unwrap();
    });
    let kinds: BTreeMap<String, IncomingKind> =
        sync(&world).incoming.into_iter().map(|it| (it.path.to_string(), it.kind)).collect();
    assert_eq!(kinds["fabric-1/managed/team/moved.yaml"], IncomingKind::Moved);
    assert_eq!(kinds["fabric-1/raw/by-git.yaml"], IncomingKind::Intake);
    assert_eq!(kinds["fabric-1/managed/notes.txt"], IncomingKind::Stray);
    let lane = opened(&world);
    let now = records(&lane);
    let id = |all: &BTreeMap<String, Record>, path: &str| {
        let it = &all[&format!("fabric-1/managed/{path}")];
        (it.id, it.source.clone())
    };
    assert_eq!(id(&before, "vpcs/vpc-1.yaml"), id(&now, "team/moved.yaml"), "the same resource");
    assert_eq!(id(&before, "vpcs/vpc-2.yaml"), id(&now, "vpcs/vpc-2.yaml"), "its own place counts");
    assert_eq!(id(&before, "vpcs/vpc-3.yaml"), id(&now, "vpcs/vpc-3.yaml"), "as it was");
    assert!(now.contains_key("fabric-1/managed/vpcs/vpc-9.yaml"));
    let told: BTreeMap<String, StrayKind> =
        strays(&lane).into_iter().map(|it| (it.path.to_string(), it.kind)).collect();
    let kind = |path: &str| told.get(&format!("fabric-1/managed/{path}")).copied();
    assert_eq!(kind("a-copy.yaml"), Some(StrayKind::Duplicate));
    assert_eq!(kind("notes.txt"), Some(StrayKind::Foreign));
    assert_eq!(kind("map.yaml"), Some(StrayKind::Foreign));
    assert_eq!(kind("vpcs/vpc-3.yaml"), Some(StrayKind::Invalid));
    drop(lane);
    // The copy comes into its place when the first is gone.
    others(&world, |it| std::fs::remove_file(it.managed("vpcs/vpc-2.yaml")).unwrap());
    sync(&world);
    let lane = opened(&world);
    assert_eq!(id(&before, "vpcs/vpc-2.yaml").0, id(&records(&lane), "a-copy.yaml").0);
}

#[test]
fn what_only_records_change_is_put_back_and_what_others_did_is_on_record() {
    let mut world = with_vpcs(2);
    let rule = serde_json::json!({"match": "VPC/vpc-1", "direction": "record_to_git"});
    world.repository.fabrics[0].resources = vec![serde_json::from_value(rule).unwrap()];
    let edit = |it: &World, name: &str, to: &str| {
        std::fs::write(it.managed(&format!("vpcs/{name}.yaml")), vpc(name).replace("1001", to))
            .unwrap();
    };
    others(&world, |it| {
        edit(it, "vpc-1", "7");
        edit(it, "vpc-2", "7");
    });
    sync(&world);
    let there = world.clone_of_remote();
    assert_eq!(there[FILE], vpc("vpc-1"), "put back");
    assert!(there["managed/vpcs/vpc-2.yaml"].contains("vlan: 7"));
    let mut lane = opened(&world);
    let modified =
        |lane: &Lane| records(lane)["fabric-1/managed/vpcs/vpc-2.yaml"].modifications.len();
    assert_eq!(modified(&lane), 1);
    for n in 0..12 {
        drop(lane);
        others(&world, |it| edit(it, "vpc-2", &n.to_string()));
        sync(&world);
        lane = opened(&world);
    }
    assert_eq!(modified(&lane), 10, "the last ten");
    ask(&mut lane, &Request::ClearModifications { name: "VPC/vpc-2".into() });
    assert_eq!(modified(&lane), 0);
    drop(lane);
    world.at_rest();
}

#[test]
fn edits_by_hand_are_committed_as_they_are_or_left_with_the_reason() {
    let mut world = with_vpcs(4);
    let edited = vpc("vpc-1").replace("1001", "5") + "# by hand\n";
    std::fs::write(world.managed("vpcs/vpc-1.yaml"), &edited).unwrap();
    std::fs::write(world.managed("vpcs/vpc-2.yaml"), "kind: [\n").unwrap();
    let staged = vpc("vpc-3").replace("1001", "6");
    std::fs::write(world.managed("vpcs/vpc-3.yaml"), &staged).unwrap();
    world.git(&["add", "fabric-1/managed/vpcs/vpc-3.yaml"]);
    std::fs::remove_file(world.managed("vpcs/vpc-4.yaml")).unwrap();
    std::fs::write(world.managed("vpcs/vpc-5.yaml"), vpc("vpc-5")).unwrap();
    world.settings.mode = Mode::Push;
    let before = world.commits();
    sync(&world);
    assert_eq!(world.commits(), before, "only the mode full commits them");
    world.settings.mode = Mode::Full;
    sync(&world);
    let there = world.clone_of_remote();
    assert_eq!(there[FILE], edited);
    assert_eq!(there["managed/vpcs/vpc-2.yaml"], vpc("vpc-2"), "not valid");
    assert_eq!(there["managed/vpcs/vpc-3.yaml"], vpc("vpc-3"), "staged is somebody's");
    assert!(!there.contains_key("managed/vpcs/vpc-4.yaml"));
    assert_eq!(there["managed/vpcs/vpc-5.yaml"], vpc("vpc-5"));
    let now = std::fs::read_to_string(world.managed("vpcs/vpc-2.yaml")).unwrap();
    assert_eq!(now, "kind: [\n", "left");
    assert!(world.git(&["diff", "--cached", "--name-only"]).contains("vpc-3.yaml"));
    let lane = opened(&world);
    assert_eq!(records(&lane)["fabric-1/managed/vpcs/vpc-1.yaml"].modifications.len(), 1);
    drop(lane);
    world.git(&["reset", "-q", "--hard"]);
    world.at_rest();
}

#[test]
fn many_removals_by_hand_are_released_by_a_command_that_did_not_see_them() {
    let world = with_vpcs(20);
    let remove = || {
        (1..=12).for_each(|n| {
            std::fs::remove_file(world.managed(&format!("vpcs/vpc-{n}.yaml"))).unwrap()
        });
    };
    remove();
    assert_eq!(sync(&world).holds.len(), 1);
    assert_eq!(world.clone_of_remote().len(), 20);
    let release = |restore| {
        let request = Request::Release { fabric: None, restore, actor: "Ada".into() };
        match ask(&mut opened(&world), &request) {
            Answer::Released(it) => it.released.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(release(true), 1);
    assert!(world.managed("vpcs/vpc-12.yaml").exists());
    world.at_rest();
    remove();
    assert_eq!(release(false), 1);
    assert_eq!(world.clone_of_remote().len(), 8);
    world.at_rest();
}

#[test]
fn what_became_a_link_or_a_directory_has_not_been_removed() {
    let world = with_vpcs(3);
    for name in ["vpc-1", "vpc-2"] {
        std::fs::remove_file(world.managed(&format!("vpcs/{name}.yaml"))).unwrap();
    }
    std::os::unix::fs::symlink("vpc-3.yaml", world.managed("vpcs/vpc-1.yaml")).unwrap();
    std::fs::create_dir(world.managed("vpcs/vpc-2.yaml")).unwrap();
    sync(&world);
    assert_eq!(world.clone_of_remote().len(), 3);
    let link = std::fs::symlink_metadata(world.managed("vpcs/vpc-1.yaml")).unwrap();
    assert!(link.is_symlink(), "left as it is");
}

#[test]
fn nothing_is_handed_back_while_somebodys_work_keeps_the_branch_from_moving() {
    let mut world = with_vpcs(2);
    world.settings.mode = Mode::Push;
    let edit = |it: &World, name: &str, to: &str| {
        let text = vpc(name).replace("1001", to);
        std::fs::write(it.managed(&format!("vpcs/{name}.yaml")), text).unwrap();
    };
    others(&world, |it| {
        edit(it, "vpc-1", "7");
        edit(it, "vpc-2", "7");
    });
    edit(&world, "vpc-1", "8");
    world.git(&["commit", "-qam", "ours"]);
    edit(&world, "vpc-2", "9");
    for _ in 0..2 {
        let answer = ask(&mut opened(&world), &Request::Sync(SyncAsked::default()));
        assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
        assert_eq!(world.git(&["for-each-ref", "refs/intake/conflicts"]), "");
        assert_eq!(std::fs::read_dir(world.raw("")).unwrap().count(), 1, "only the README.md");
    }
    world.git(&["checkout", "fabric-1/managed/vpcs/vpc-2.yaml"]);
    assert_eq!(sync(&world).conflicts.len(), 1);
    assert_eq!(world.clone_of_remote()[FILE], vpc("vpc-1").replace("1001", "7"));
}

#[test]
fn what_is_no_text_is_handed_back_to_the_byte() {
    let world = with_vpcs(1);
    let odd = [vpc("vpc-1").as_bytes(), b"# \xff\n"].concat();
    others(&world, |it| {
        std::fs::write(it.managed("vpcs/vpc-1.yaml"), vpc("vpc-1").replace("1001", "7")).unwrap();
    });
    std::fs::write(world.managed("vpcs/vpc-1.yaml"), &odd).unwrap();
    world.git(&["commit", "-qam", "ours"]);
    sync(&world);
    let lying = std::fs::read_dir(world.raw("")).unwrap().map(|it| it.unwrap().path());
    assert!(lying.filter(|it| it.is_file()).any(|it| std::fs::read(it).unwrap() == odd));
}

#[test]
fn an_operation_is_undone_with_what_came_later_kept() {
    let world = with_vpcs(1);
    let changed = vpc("vpc-1").replace("1001", "1002");
    world.drop("two.yaml", format!("{changed}---\n{}", vpc("vpc-2")));
    let operation = world.turn().operation.unwrap().to_string();
    let revert = |strategy, dry_run| {
        let operation = operation.clone();
        let request = Request::Revert { operation, strategy, actor: "Ada".into(), dry_run };
        match ask(&mut opened(&world), &request) {
            Answer::Reverted(it) => *it,
            other => panic!("{other:?}"),
        }
    };
    let open = |it: &RevertReport| it.files.iter().filter(|it| !it.open.is_empty()).count();
    // Somebody has changed the same field since: nothing is undone before somebody decides.
    world.drop("later.yaml", vpc("vpc-1").replace("1001", "1003"));
    world.turn();
    let (report, before) = (revert(None, false), world.commits());
    assert_eq!((open(&report), report.commit_id), (1, None));
    // Another field since: it stays.
    world.drop("later.yaml", changed.replace("10.0.1.0", "10.0.9.0"));
    world.turn();
    assert_eq!(revert(None, true).commit_id, None);
    assert_eq!(world.commits(), before + 1);
    let report = revert(None, false);
    assert!(matches!(report.delivery, Delivery::Pushed { .. }), "{report:?}");
    let there = world.clone_of_remote();
    assert_eq!(there[FILE], vpc("vpc-1").replace("10.0.1.0", "10.0.9.0"));
    assert_eq!(there.len(), 1, "what it made is gone");
    let said = world.git(&["log", "-1", "--format=%B"]);
    assert!(said.contains("Intake-Reverts: ") && said.contains("Intake-Actor: Ada"), "{said}");
    world.at_rest();
    // The undoing is an operation, and undone like any other.
    let undoing = report.operation.unwrap().to_string();
    let request = Request::Revert {
        operation: undoing,
        strategy: Some(ConflictStrategy::RecordWins),
        actor: "Ada".into(),
        dry_run: false,
    };
    ask(&mut opened(&world), &request);
    assert_eq!(world.clone_of_remote().len(), 2);
    world.at_rest();
}

#[test]
fn a_dry_run_of_a_sync_tells_what_comes_and_changes_nothing() {
    let mut world = with_vpcs(1);
    world.settings.conflict = ConflictStrategy::Merge;
    others(&world, |it| {
        std::fs::write(it.managed("vpcs/vpc-1.yaml"), vpc("vpc-1").replace("1001", "7")).unwrap();
        std::fs::write(it.managed("vpcs/vpc-2.yaml"), vpc("vpc-2")).unwrap();
    });
    std::fs::write(world.managed("vpcs/vpc-1.yaml"), vpc("vpc-1").replace("1001", "8")).unwrap();
    world.git(&["commit", "-qam", "ours"]);
    let head = world.git(&["rev-parse", "HEAD"]);
    let asked = SyncAsked { dry_run: true, ..SyncAsked::default() };
    let report = synced(&world, asked);
    let kinds: Vec<IncomingKind> = report.incoming.iter().map(|it| it.kind).collect();
    assert!(kinds.contains(&IncomingKind::Created) && kinds.contains(&IncomingKind::Updated));
    assert_eq!(report.overlaps.len(), 1);
    assert_eq!(world.git(&["rev-parse", "HEAD"]), head);
    // One way alone, decided by a strategy: what is ours stays here.
    let asked = SyncAsked {
        direction: SyncDirection::GitToRecord,
        strategy: Some(ConflictStrategy::GitWins),
        ..SyncAsked::default()
    };
    assert_eq!(synced(&world, asked).delivery, Delivery::Nothing);
    let mine = std::fs::read_to_string(world.managed("vpcs/vpc-1.yaml")).unwrap();
    assert!(mine.contains("vlan: 7"), "{mine}");
    sync(&world);
    world.at_rest();
}

#[test]
fn modes_do_no_more_than_they_say() {
    let mut world = with_vpcs(1);
    world.settings.mode = Mode::Observe;
    world.drop("new.yaml", vpc("vpc-2"));
    let (commits, before) = (world.commits(), world.clone_of_remote());
    sync(&world);
    assert_eq!((world.commits(), world.clone_of_remote()), (commits, before.clone()));
    assert!(world.raw("new.yaml").exists());
    world.settings.mode = Mode::Ingest;
    let report = sync(&world);
    assert_eq!(report.delivery, Delivery::Local);
    assert_eq!((world.commits(), world.clone_of_remote()), (commits + 1, before));
    world.settings.mode = Mode::Push;
    sync(&world);
    assert_eq!(world.clone_of_remote().len(), 2);
}

#[test]
fn a_fabric_is_removed_with_a_backup_and_comes_back_the_same() {
    let world = with_vpcs(3);
    let (files, before) = (world.clone_of_remote(), records(&opened(&world)));
    let name = world.repository.fabrics[0].name.clone();
    let mut lane = opened(&world);
    let remove = |dry_run| {
        let (name, actor) = (name.clone(), "Ada".into());
        Request::RemoveFabric(RemoveFabric { name, purge: true, backup: true, actor, dry_run })
    };
    world.drop("waiting.yaml", vpc("vpc-9"));
    let Answer::Refused { message, .. } = ask(&mut lane, &remove(false)) else { panic!() };
    assert!(message.contains("1 drops lie in fabric-1/raw"), "{message}");
    std::fs::remove_file(world.raw("waiting.yaml")).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let change = |it: Answer| -> FabricChange {
        match it {
            Answer::FabricChanged(it) => *it,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(change(ask(&mut lane, &remove(true))).files, 6);
    let removed = change(ask(&mut lane, &remove(false)));
    let backup = removed.backup.unwrap();
    assert!(matches!(removed.delivery, Delivery::Pushed { .. }), "{:?}", removed.delivery);
    assert_eq!(world.clone_of_remote().len(), 0);
    assert!(!world.work().join("fabric-1").exists(), "nothing is left of it");
    git(&world.remote, &["rev-parse", &format!("refs/tags/{backup}")]);
    let Answer::Fabrics(all) = ask(&mut lane, &Request::Fabrics) else { panic!() };
    assert_eq!(all, vec![]);
    // Added again and given the same drops, it is the same.
    let add = |restore| {
        let (name, actor) = (name.clone(), "Ada".into());
        Request::AddFabric(AddFabric {
            name,
            dir: None,
            mode: None,
            on_delete: None,
            conflict: None,
            restore,
            actor,
        })
    };
    change(ask(&mut lane, &add(None)));
    let all: Vec<String> = (1..=3).map(|n| vpc(&format!("vpc-{n}"))).collect();
    world.drop("all.yaml", all.join("---\n"));
    desk::ingest(&mut lane, false).unwrap();
    assert_eq!(world.clone_of_remote(), files);
    let ids = |it: &BTreeMap<String, Record>| -> Vec<_> {
        it.values().map(|it| (it.id, it.path.clone(), it.blob_id)).collect()
    };
    assert_eq!(ids(&records(&lane)), ids(&before));
    // And so it is when the backup is brought back.
    change(ask(&mut lane, &remove(false)));
    change(ask(&mut lane, &add(Some(backup))));
    assert_eq!(world.clone_of_remote(), files);
    assert_eq!(ids(&records(&lane)), ids(&before));
    let set = SetFabric {
        name,
        mode: Some(Mode::Observe),
        on_delete: None,
        conflict: None,
        archive: None,
        layout: None,
        on_invalid: None,
        on_unsupported: None,
    };
    let Answer::Fabric(it) = ask(&mut lane, &Request::SetFabric(set)) else { panic!() };
    assert_eq!(it.mode, Mode::Observe);
    drop(lane);
    world.at_rest();
}

/// A start with the settings that the repository has of itself, as a process would.
fn restarted(world: &mut World) -> Lane {
    let git_dir = world.work().join(".git");
    world.repository = config::load_local(&git_dir, &world.work()).unwrap().unwrap();
    world.steps = Steps::default();
    opened(world)
}

#[test]
fn a_removal_that_is_cut_off_anywhere_is_finished_by_the_next() {
    let template = World::in_memory();
    let own = RepositorySettings { path: "".into(), ..template.repository.clone() };
    drop(opened(&template));
    config::save_local(&template.work().join(".git"), &own).unwrap();
    template.drop("all.yaml", format!("{}---\n{}", vpc("vpc-1"), vpc("vpc-2")));
    template.turn();
    let name = template.repository.fabrics[0].name.clone();
    let actor = "Ada".to_owned();
    let it = RemoveFabric { name, purge: true, backup: true, actor, dry_run: false };
    let remove = Request::RemoveFabric(it);
    let mut cut_off = 0;
    for n in 1.. {
        let mut world = template.copy();
        let mut lane = restarted(&mut world);
        let before = world.steps.taken();
        world.steps.stop_after(n);
        ask(&mut lane, &remove);
        let done = world.steps.taken() - before < n;
        drop(lane);
        let mut lane = restarted(&mut world);
        if !lane.fabrics.is_empty() {
            cut_off += 1;
            let again = ask(&mut lane, &remove);
            assert!(matches!(again, Answer::FabricChanged(_)), "step {n}: {again:?}");
        }
        desk::ingest(&mut lane, false).unwrap();
        desk::answer(&mut lane, &Request::Sync(SyncAsked::default()), &Live::default());
        assert_eq!(git(&world.remote, &["ls-tree", "-r", "main", "fabric-1"]), "", "step {n}");
        let tag = world.git(&["for-each-ref", "--format=%(refname)", "--count=1", "refs/tags"]);
        let kept =
            world.git(&["ls-tree", "-r", "--name-only", tag.trim(), "fabric-1/managed/vpcs"]);
        assert_eq!(kept.lines().count(), 2, "step {n}");
        assert_eq!(world.git(&["fsck", "--strict", "--no-dangling"]), "");
        if done {
            break;
        }
    }
    assert!(cut_off > 10, "cut off {cut_off} times");
}

#[test]
fn what_a_cluster_has_is_compared_when_somebody_tells() {
    let world = with_vpcs(1);
    let mut lane = opened(&world);
    let mut tell = |text: Option<String>| {
        let request = Request::TellActual { name: "VPC/vpc-1".into(), text };
        match ask(&mut lane, &request) {
            Answer::View(it) => (it.drift.unwrap(), it.state),
            other => panic!("{other:?}"),
        }
    };
    // What a cluster fills in is no difference.
    let same = vpc("vpc-1").replace("spec:", "status: {ready: true}\nspec:");
    assert_eq!(tell(Some(same)), (Drift::InSync, RecordState::Synced));
    let other = vpc("vpc-1").replace("1001", "7");
    assert_eq!(tell(Some(other)), (Drift::SpecDrift, RecordState::Drifted));
    assert_eq!(tell(None), (Drift::DesiredOnly, RecordState::Drifted));
}

/// A week on a clock that flies, in the agent's own loop: it looks every ten minutes and fetches every
/// hour, with the real remote. `WEEK=all` does so as often as the settings say by themselves.
#[test]
fn a_week_of_nothing_makes_no_commit_and_no_push() {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    let mut world = with_vpcs(5);
    assert_eq!(world.settings.mode, Mode::Full, "edits by hand are looked for");
    if std::env::var("WEEK").is_err() {
        world.settings.intake.rescan = Duration::from_secs(600);
        world.settings.fetch.every = Some(Duration::from_secs(3600));
    }
    let (rescan, every) = (world.settings.intake.rescan, world.settings.fetch.every.unwrap());
    let mut lane = opened(&world);
    let state = |world: &World| {
        let log = std::fs::read_to_string(world.work().join(".git/logs/HEAD")).unwrap();
        (world.commits(), git(&world.remote, &["for-each-ref"]), log)
    };
    let (before, steps) = (state(&world), world.steps.taken());
    let passed_ms = Arc::new(AtomicU64::new(0));
    let events = std::sync::Arc::new(Events::new(100));
    let (ends, inside) = run::channels(Voice::new(events, "repository"));
    let live = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            clock::fly(passed_ms.clone());
            run::work(&mut lane, &inside, || ())
        });
        while Duration::from_millis(passed_ms.load(Ordering::Relaxed)) < WEEK {
            assert!(!worker.is_finished(), "the agent ended early");
            std::thread::sleep(Duration::from_millis(1));
        }
        ends.stop.send(()).unwrap();
        worker.join().unwrap().unwrap();
        ends.board.read().live.clone()
    });
    let often = |every: Duration| (WEEK.as_secs() / every.as_secs()) as f64;
    assert!(live.turns as f64 >= 0.9 * often(rescan), "{} turns", live.turns);
    assert_eq!((live.held, live.waiting), (None, None));
    assert_eq!(state(&world), before);
    // Each fetch is one effect, and there is no other: not one write, not one push.
    let (fetches, all) = (world.steps.taken() - steps, often(every));
    assert!(
        (0.9 * all..=1.1 * all).contains(&(fetches as f64)),
        "{fetches} effects for {all} fetches"
    );
    drop(lane);
    world.at_rest();
}

fn tidied(world: &World, dry_run: bool) -> TidyReport {
    let fabric = FabricName::parse("fabric-1").unwrap();
    let asked = TidyAsked { fabric, actor: "Ada".into(), dry_run };
    match ask(&mut opened(world), &Request::Tidy(asked)) {
        Answer::Tidied(report) => *report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_go_to_their_places_when_somebody_asks_and_second_ones_are_set_aside() {
    let world = with_vpcs(3);
    let ids: Vec<_> = records(&opened(&world)).into_values().map(|it| it.id).collect();
    others(&world, |it| {
        let managed = |name: &str| it.managed(name);
        std::fs::create_dir_all(managed("attic")).unwrap();
        std::fs::rename(managed("vpcs/vpc-1.yaml"), managed("attic/one.yaml")).unwrap();
        // The second takes the place of the third, which lies elsewhere.
        std::fs::rename(managed("vpcs/vpc-3.yaml"), managed("attic/three.yaml")).unwrap();
        std::fs::rename(managed("vpcs/vpc-2.yaml"), managed("vpcs/vpc-3.yaml")).unwrap();
        std::fs::write(managed("attic/again.yaml"), vpc("vpc-1")).unwrap();
    });
    sync(&world);
    let before = world.clone_of_remote();
    let told = tidied(&world, true);
    assert_eq!((told.moved.len(), told.left.len(), told.commit_id), (4, 0, None), "{told:?}");
    assert_eq!(world.clone_of_remote(), before);

    let report = tidied(&world, false);
    assert!(matches!(report.delivery, Delivery::Pushed { .. }), "{report:?}");
    assert_eq!(report.moved, told.moved);
    let clone = world.clone_of_remote();
    let names: Vec<&str> = clone.keys().map(String::as_str).collect();
    let aside = names.iter().find(|it| it.starts_with("unmanaged/")).unwrap();
    assert_eq!(clone[*aside], vpc("vpc-1"));
    assert_eq!(names.len(), 4, "{names:?}");
    for n in 1..=3 {
        let path = format!("managed/vpcs/vpc-{n}.yaml");
        assert_eq!(clone[&path], vpc(&format!("vpc-{n}")));
    }
    let lane = opened(&world);
    let mut after: Vec<_> = records(&lane).into_values().map(|it| it.id).collect();
    let mut ids = ids;
    ids.sort();
    after.sort();
    assert_eq!(after, ids);
    assert_eq!(strays(&lane), vec![]);
    drop(lane);
    assert_eq!(tidied(&world, false).moved, vec![]);
    world.at_rest();
}
