//! Records are edited: by field, as a text, made and removed, each a commit with a name in it.

use crate::world::{World, hermetic, vpc};
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::agent::records::{Edit, EditChange};
use git_intake::model::ids::BlobId;
use git_intake::model::report::{Delivery, EditReport};
use std::process::{Command, Output};

const FILE: &str = "managed/vpcs/vpc-1.yaml";

pub fn edit(name: &str, change: EditChange) -> Edit {
    Edit {
        name: Some(name.to_owned()),
        fabric: None,
        change,
        actor: "Ada <ada@example.com>".into(),
        expected: None,
        strategy: None,
        dry_run: false,
    }
}

pub fn fields(set: &[(&str, &str)], remove: &[&str]) -> EditChange {
    EditChange::Fields {
        set: set.iter().map(|(path, to)| (path.parse().unwrap(), (*to).to_owned())).collect(),
        remove: remove.iter().map(|it| it.parse().unwrap()).collect(),
    }
}

fn ask(world: &World, edit: Edit) -> Result<EditReport, String> {
    let mut lane = world.open().unwrap();
    lane.prepare().unwrap();
    match desk::answer(&mut lane, &Request::Edit(edit), &Live::default()) {
        Answer::Edited(report) => Ok(*report),
        Answer::Refused { message, .. } => Err(message),
        other => panic!("{other:?}"),
    }
}

fn blob(world: &World) -> BlobId {
    let id = world.git(&["rev-parse", &format!("HEAD:fabric-1/{FILE}")]);
    BlobId::try_from(id.trim().to_owned()).unwrap()
}

fn world() -> World {
    let world = World::new();
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.turn();
    world
}

#[test]
fn fields_change_in_place_with_a_name_in_the_commit() {
    let world = world();
    let change = fields(&[("spec.subnets.default.vlan", "1005"), ("spec.mode", "l3flat")], &[]);
    let report = ask(&world, edit("VPC/vpc-1", change)).unwrap();
    assert!(matches!(report.delivery, Delivery::Pushed { .. }), "{report:?}");
    let expect = vpc("vpc-1").replace("1001", "1005") + "  mode: l3flat\n";
    assert_eq!(world.clone_of_remote()[FILE], expect);
    let log = world.git(&["log", "-1", "--format=%s|%(trailers:key=Intake-Actor,valueonly)"]);
    assert_eq!(log.trim(), "fabric-1: update VPC vpc-1|Ada <ada@example.com>");
    // The record follows, and still knows its drop.
    let lane = world.open().unwrap();
    let record = lane.store.records(&lane.fabrics[0].fabric.name).next().unwrap().unwrap();
    assert_eq!(record.blob_id, blob(&world));
    assert_eq!(record.source.unwrap().path.to_string(), "vpc.yaml");
    drop(lane);
    world.at_rest();
    let change = fields(&[], &["spec.mode"]);
    ask(&world, edit(&format!("fabric-1/{FILE}"), change)).unwrap();
    assert_eq!(world.clone_of_remote()[FILE], vpc("vpc-1").replace("1001", "1005"));
    world.at_rest();
}

#[test]
fn an_edit_that_says_the_same_is_no_commit_and_a_dry_run_changes_nothing() {
    let world = world();
    let before = world.commits();
    let same = fields(&[("spec.subnets.default.vlan", "1001")], &["spec.nothing"]);
    assert_eq!(ask(&world, edit("VPC/vpc-1", same)).unwrap().commit_id, None);
    let change = fields(&[("spec.subnets.default.vlan", "7")], &[]);
    let report = ask(&world, Edit { dry_run: true, ..edit("VPC/vpc-1", change) }).unwrap();
    assert!(report.after.unwrap().contains("vlan: 7}") && report.commit_id.is_none());
    assert_eq!(world.commits(), before);
    world.at_rest();
}

#[test]
fn what_a_drop_may_not_say_an_edit_may_not_either() {
    let world = world();
    let before = world.commits();
    for (path, to, why) in [
        ("metadata.name", "vpc-2", "a resource keeps its name"),
        ("metadata.name", "'VPC 1'", "cannot name a resource"),
        ("kind", "Agent", "no resource to be filed"),
        ("apiVersion", "vpc.githedgehog.com/v1alpha1", "v1beta1"),
        ("spec.subnets.default.vlan.x", "1", "cannot hold it"),
        ("spec.mode", "a: [", "is no YAML"),
    ] {
        let error = ask(&world, edit("VPC/vpc-1", fields(&[(path, to)], &[]))).unwrap_err();
        assert!(error.contains(why), "{path}={to}: {error}");
    }
    assert!(ask(&world, edit("VPC/vpc-9", EditChange::Delete)).unwrap_err().contains("no record"));
    assert_eq!(world.commits(), before);
    world.at_rest();
}

#[test]
fn records_are_made_and_removed() {
    let world = world();
    let text = |text: String| EditChange::Text { text, base: None };
    let new = |change| Edit { name: None, ..edit("", change) };
    let made = ask(&world, new(text(vpc("vpc-2")))).unwrap();
    assert_eq!(made.path.as_str(), "fabric-1/managed/vpcs/vpc-2.yaml");
    assert!(ask(&world, new(text(vpc("vpc-2")))).unwrap_err().contains("exists already"));
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned();
    assert!(ask(&world, new(text(map))).is_err());
    assert_eq!(world.clone_of_remote().len(), 2);
    ask(&world, edit("VPC/vpc-1", EditChange::Delete)).unwrap();
    let clone = world.clone_of_remote();
    assert_eq!(clone.keys().collect::<Vec<_>>(), ["managed/vpcs/vpc-2.yaml"]);
    assert!(!world.managed("vpcs/vpc-1.yaml").exists());
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.at_rest();
}

#[test]
fn a_text_that_began_earlier_is_merged_with_what_git_has_by_now() {
    let world = world();
    let base = Some(blob(&world));
    ask(&world, edit("VPC/vpc-1", fields(&[("spec.mode", "l3flat")], &[]))).unwrap();
    let text = |vlan: &str| EditChange::Text { text: vpc("vpc-1").replace("1001", vlan), base };
    ask(&world, edit("VPC/vpc-1", text("7"))).unwrap();
    assert_eq!(
        world.clone_of_remote()[FILE],
        vpc("vpc-1").replace("1001", "7") + "  mode: l3flat\n"
    );
    // The same field twice: the edit waits, with all three contents.
    let met = ask(&world, edit("VPC/vpc-1", text("8"))).unwrap();
    assert_eq!(met.open[0].path.to_string(), "spec.subnets.default.vlan");
    assert!(world.clone_of_remote()[FILE].contains("vlan: 7}"));
    let lane = world.open().unwrap();
    let conflicts = lane.store.conflicts().unwrap();
    assert_eq!((conflicts.len(), conflicts[0].kept), (1, true));
}

#[test]
fn somebodys_uncommitted_work_is_not_overwritten() {
    let world = world();
    let edited = vpc("vpc-1").replace("1001", "5");
    std::fs::write(world.managed("vpcs/vpc-1.yaml"), &edited).unwrap();
    let change = fields(&[("spec.mode", "l3flat")], &[]);
    let error = ask(&world, edit("VPC/vpc-1", change)).unwrap_err();
    assert!(error.contains("nobody has committed"), "{error}");
    assert_eq!(std::fs::read_to_string(world.managed("vpcs/vpc-1.yaml")).unwrap(), edited);
}

#[test]
fn a_resource_that_is_changed_in_git_only_takes_no_edits_and_no_drops() {
    let mut world = world();
    let rule = serde_json::json!({"match": "VPC/*", "direction": "git_to_record"});
    world.repository.fabrics[0].resources = vec![serde_json::from_value(rule).unwrap()];
    let change = fields(&[("spec.mode", "l3flat")], &[]);
    let error = ask(&world, edit("VPC/vpc-1", change)).unwrap_err();
    assert!(error.contains("git_to_record"), "{error}");
    world.drop("vpc.yaml", vpc("vpc-1").replace("1001", "7")).drop("same.yaml", vpc("vpc-1"));
    let report = world.turn();
    let rules: Vec<&str> =
        report.files.iter().flat_map(|it| &it.problems).map(|it| it.rule.as_str()).collect();
    assert_eq!(rules, ["changed-in-git-only"]);
    assert!(world.raw("vpc.yaml").exists() && !world.raw("same.yaml").exists());
}

pub fn command(world: &World, args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_git-intake"))
        .args(args)
        .current_dir(world.work())
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .envs(hermetic())
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn people_edit_in_their_editor_and_by_command() {
    let world = World::new();
    let run = |args: &[&str], env: &[(&str, &str)], code: i32| {
        let out = command(&world, args, env);
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        text.into_owned()
    };
    run(&["init", "--fabric", "fabric-1"], &[], 0);
    world.drop("vpc.yaml", vpc("vpc-1"));
    run(&["ingest"], &[], 0);
    let who = ("USER", "grace");
    run(&["records", "set", "VPC/vpc-1", "spec.subnets.default.vlan=1002"], &[who], 0);
    let said = world.git(&["log", "-1", "--format=%(trailers:key=Intake-Actor,valueonly)"]);
    assert_eq!(said.trim(), "grace");
    let editor = ("EDITOR", "sed -i s/1002/1003/");
    run(&["records", "edit", "VPC/vpc-1"], &[who, editor], 0);
    assert!(world.clone_of_remote()[FILE].contains("1003"));
    assert!(
        run(&["records", "edit", "VPC/vpc-1"], &[("EDITOR", "true")], 0).contains("nothing was")
    );
    let failed = run(&["records", "edit", "VPC/vpc-1"], &[("VISUAL", "sed -i s/kind/kin/")], 1);
    assert!(failed.contains("your text is kept"), "{failed}");
    run(&["records", "set", "VPC/vpc-1"], &[], 2);
    run(&["records", "set", "VPC/vpc-1", "spec..x=1"], &[], 2);
    run(&["records", "delete", "VPC/vpc-1", "--dry-run"], &[], 0);
    assert_eq!(world.clone_of_remote().len(), 1);
    run(&["records", "delete", "VPC/vpc-1"], &[], 0);
    assert_eq!(world.clone_of_remote().len(), 0);
    run(&["conflicts", "resolve", "--all"], &[], 0);
    run(&["conflicts", "show", "nothing"], &[], 1);
}
