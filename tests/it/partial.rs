//! Drops that are taken in parts: the good documents are filed, the others stay behind in a file of
//! the same name, and nothing is lost on the way.

use crate::world::{World, git, vpc};
use git_intake::model::report::{Action, Ending, IngestReport};
use git_intake::step::Steps;

fn world() -> World {
    let mut world = World::in_memory();
    world.settings.partial = true;
    world
}

/// Two that are good, with a bad one before each.
fn mixed() -> String {
    let bad = vpc("Bad");
    format!("{bad}---\n{}--- # not finished\nkind: [\n---\n{}", vpc("vpc-1"), vpc("vpc-2"))
}

/// What must be left of [`mixed`].
fn rest() -> String {
    format!("{}--- # not finished\nkind: [\n", vpc("Bad"))
}

fn endings(report: &IngestReport) -> Vec<(String, Ending)> {
    report.files.iter().map(|it| (it.path.to_string(), it.ending)).collect()
}

fn text(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.raw(name)).unwrap()
}

/// Everything in `raw/`, hidden files too, less its README.
fn names(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.raw("")).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|it| it != "README.md").collect();
    names.sort();
    names
}

#[test]
fn good_documents_go_and_bad_ones_stay_in_their_own_words() {
    let world = world();
    world.drop("team/wiring.yaml", mixed());
    let report = world.turn();
    let name = || "team/wiring.yaml".to_owned();
    assert_eq!(endings(&report), [(name(), Ending::Parted), (name(), Ending::Rejected)]);
    let filed: Vec<_> = report.files[0].documents.iter().map(|it| (it.document, it.line)).collect();
    assert_eq!(filed, [(2, 11), (4, 22)]);
    let clone = world.clone_of_remote();
    assert_eq!(
        clone.keys().collect::<Vec<_>>(),
        ["managed/vpcs/vpc-1.yaml", "managed/vpcs/vpc-2.yaml"]
    );
    assert_eq!(clone["managed/vpcs/vpc-1.yaml"], vpc("vpc-1"));
    // The rest is a drop of its own, whose report counts its own lines.
    assert_eq!(text(&world, "team/wiring.yaml"), rest());
    let told = text(&world, "team/wiring.yaml.rejected.txt");
    assert!(told.contains("wiring.yaml:5:9 (document 1)"), "{told}");
    assert!(told.contains("wiring.yaml:10:7 (document 2)"), "{told}");
    assert_eq!(world.commits(), 2);
    // The archive has the whole.
    let whole = world.git(&["grep", "-h", "vpc-2, as written", "refs/intake/archive/fabric-1"]);
    assert_eq!(whole.trim(), "# vpc-2, as written");
    let record = world.open().unwrap();
    let records = record.store.records(&record.fabrics[0].fabric.name);
    let sources: Vec<_> = records.map(|it| it.unwrap().source.unwrap()).collect();
    assert_eq!((sources[0].path.to_string(), sources[0].line), (name(), 11));
    drop(record);
    world.at_rest();
    // Mended, it is taken like any other.
    std::fs::write(world.raw("team/wiring.yaml"), rest().replace("Bad", "vpc-3")).unwrap();
    let report = world.turn();
    assert_eq!(report.files[0].documents[0].action, Action::Created);
    assert_eq!(text(&world, "team/wiring.yaml"), "--- # not finished\nkind: [\n");
    assert_eq!(world.clone_of_remote().len(), 3);
    std::fs::remove_file(world.raw("team/wiring.yaml")).unwrap();
    world.turn();
    assert!(!world.raw("team/wiring.yaml.rejected.txt").exists());
    world.at_rest();
}

#[test]
fn without_the_setting_a_drop_stays_whole_and_a_fabric_may_say_otherwise() {
    let mut world = World::new();
    world.drop("wiring.yaml", mixed());
    assert_eq!(endings(&world.turn()), [("wiring.yaml".to_owned(), Ending::Rejected)]);
    assert_eq!(text(&world, "wiring.yaml"), mixed());
    world.repository.fabrics[0].partial = Some(true);
    world.drop("again.yaml", mixed());
    assert_eq!(endings(&world.turn())[0], ("again.yaml".to_owned(), Ending::Parted));
    assert_eq!(world.clone_of_remote().len(), 2);
}

#[test]
fn what_throws_doubt_on_a_whole_file_keeps_it_whole() {
    let world = world();
    let good = vpc("vpc-1");
    for (name, text) in [
        ("template.yaml", format!("{good}---\n{}", vpc("{{ .name }}"))),
        ("conflict.yaml", format!("{good}---\n<<<<<<< HEAD\n{}", vpc("vpc-2"))),
        ("nul.yaml", format!("{good}---\na: \0\n")),
        ("alone.yaml", vpc("Bad")),
    ] {
        world.drop(name, &text);
        assert_eq!(endings(&world.turn()), [(name.to_owned(), Ending::Rejected)]);
        assert_eq!(std::fs::read_to_string(world.raw(name)).unwrap(), text);
        std::fs::remove_file(world.raw(name)).unwrap();
    }
    assert!(world.clone_of_remote().is_empty());
}

#[test]
fn twins_rivals_and_foreign_kinds_stay_and_the_rest_goes() {
    let world = world();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    let other = vpc("vpc-r").replace("1001", "7");
    world.drop("twins.yaml", [vpc("vpc-1"), vpc("vpc-t"), vpc("vpc-t")].join("---\n"));
    world.drop("one.yaml", [vpc("vpc-2"), vpc("vpc-r")].join("---\n"));
    world.drop("two.yaml", [vpc("vpc-3"), other.clone()].join("---\n"));
    world.drop("map.yaml", [vpc("vpc-4").as_str(), map].join("---\n"));
    world.turn();
    let managed: Vec<String> = world.clone_of_remote().into_keys().collect();
    let expected = ["vpcs/vpc-1", "vpcs/vpc-2", "vpcs/vpc-3", "vpcs/vpc-4"];
    let mut expected = expected.map(|it| format!("managed/{it}.yaml")).to_vec();
    expected.push("unmanaged/map.yaml".to_owned());
    assert_eq!(managed, expected);
    assert_eq!(world.clone_of_remote()["unmanaged/map.yaml"], format!("---\n{map}"));
    assert_eq!(text(&world, "twins.yaml"), format!("---\n{0}---\n{0}", vpc("vpc-t")));
    assert_eq!(text(&world, "one.yaml"), format!("---\n{}", vpc("vpc-r")));
    assert!(text(&world, "one.yaml.rejected.txt").contains("two.yaml:3"));
    // One of two that disagree goes, and the other is taken.
    std::fs::remove_file(world.raw("one.yaml")).unwrap();
    world.turn();
    assert!(world.clone_of_remote()["managed/vpcs/vpc-r.yaml"].contains("vlan: 7"));
    assert_eq!(names(&world), ["twins.yaml", "twins.yaml.rejected.txt"]);
    world.at_rest();
}

#[test]
fn what_came_by_git_is_taken_apart_by_git() {
    let world = world();
    world.turn();
    let other = World::beside(&world);
    std::fs::write(other.raw("pushed.yaml"), mixed()).unwrap();
    git(&other.work(), &["add", "-A"]);
    git(&other.work(), &["commit", "-qm", "two and two"]);
    git(&other.work(), &["push", "-q"]);
    let mut lane = world.open().unwrap();
    git_intake::agent::sync::take_in(&mut lane).unwrap();
    drop(lane);
    world.turn();
    let clone = world.clone_of_remote();
    assert_eq!(clone["raw/pushed.yaml"], rest());
    assert!(clone["raw/pushed.yaml.rejected.txt"].contains("pushed.yaml:5:9"));
    assert!(clone.contains_key("managed/vpcs/vpc-2.yaml"));
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.at_rest();
    git(&other.work(), &["pull", "-q"]);
    std::fs::write(other.raw("pushed.yaml"), vpc("vpc-3")).unwrap();
    git(&other.work(), &["commit", "-qam", "mended"]);
    git(&other.work(), &["push", "-q"]);
    let mut lane = world.open().unwrap();
    git_intake::agent::sync::take_in(&mut lane).unwrap();
    drop(lane);
    world.turn();
    let clone = world.clone_of_remote();
    assert_eq!(clone.len(), 3, "{:?}", clone.keys());
    world.at_rest();
}

fn before_the_turn() -> World {
    let mut world = world();
    world.repository.push = false;
    world.turn();
    world.drop("wiring.yaml", mixed());
    world
}

fn check_end(world: &World, what: &str) {
    let files = world.git(&["ls-tree", "-r", "--name-only", "HEAD", "fabric-1/managed/vpcs"]);
    assert_eq!(files.lines().count(), 2, "{what}: {files}");
    assert_eq!(text(world, "wiring.yaml"), rest(), "{what}");
    assert_eq!(names(world), ["wiring.yaml", "wiring.yaml.rejected.txt"], "{what}");
    assert_eq!(world.commits(), 2, "{what}: {}", world.git(&["log", "--oneline"]));
    let kept = world.git(&["grep", "-l", "as written", "refs/intake/archive/fabric-1"]);
    assert_eq!(kept.lines().count(), 1, "{what}: {kept}");
    let lane = world.open().unwrap();
    assert!(lane.store.open_operations().unwrap().is_empty(), "{what}");
    let records = lane.store.records(&lane.fabrics[0].fabric.name);
    assert_eq!(records.count(), 2, "{what}");
}

#[test]
fn wherever_it_is_cut_off_nothing_is_lost_and_nothing_stays_twice() {
    let world = before_the_turn();
    let before = world.steps.taken();
    world.turn();
    check_end(&world, "no fault");
    let n = world.steps.taken() - before;
    for at in 1..=n {
        for (what, dies) in [("died", true), ("failed", false)] {
            let mut world = before_the_turn();
            match dies {
                true => world.steps.stop_after(at),
                false => world.steps.fail_once(at),
            }
            let _ = world.try_turn();
            world.steps = Steps::default();
            world.turn();
            check_end(&world, &format!("{what} at {at} of {n}"));
        }
    }
}
