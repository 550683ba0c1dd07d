//! Two hands on one resource: what is merged, what waits for a person, and how a person decides.

use crate::edits::command;
use crate::world::{World, git, vpc};
use git_intake::agent::conflicts::Decided;
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::model::conflict::{ConflictStrategy, Side};
use git_intake::model::record::{Conflict, ConflictKind};
use git_intake::model::report::{ConflictView, Resolved};

pub const VPC: &str = "\
# the network of team a
apiVersion: vpc.githedgehog.com/v1beta1
kind: VPC
metadata:
  name: vpc-1
spec:
  ipv4Namespace: default
  subnets:
    default:
      subnet: 10.0.1.0/24
      vlan: 1001
      dhcp:
        enable: true
";

fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(VPC.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

/// Two hosts that have the same VPC; `theirs` is pushed from the other one, `ours` dropped here.
fn two_hosts(ours: &str, theirs: &str, prepare: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    prepare(&mut world);
    world.drop("vpc.yaml", VPC);
    world.turn();
    let other = World::beside(&world);
    other.drop("vpc.yaml", theirs);
    other.turn();
    world.drop("vpc.yaml", ours).drop("other.yaml", vpc("vpc-2"));
    world.turn();
    world
}

fn ask(world: &World, request: Request) -> Answer {
    let mut lane = world.open().unwrap();
    lane.prepare().unwrap();
    desk::answer(&mut lane, &request, &Live::default())
}

pub fn conflicts(world: &World) -> Vec<Conflict> {
    match ask(world, Request::Conflicts) {
        Answer::Conflicts(all) => all,
        other => panic!("{other:?}"),
    }
}

fn view(world: &World, fields: &[(&str, Side)]) -> ConflictView {
    let fields = fields.iter().map(|(path, side)| (path.parse().unwrap(), *side)).collect();
    let decided = Decided { strategy: None, fields };
    match ask(world, Request::Conflict { name: "VPC/vpc-1".into(), decided }) {
        Answer::Conflict(view) => *view,
        other => panic!("{other:?}"),
    }
}

pub fn request(decided: Decided, text: Option<&str>) -> Request {
    Request::Resolve {
        names: vec![],
        decided,
        text: text.map(str::to_owned),
        actor: "Ada".into(),
        dry_run: false,
    }
}

fn resolve(world: &World, decided: Decided, text: Option<&str>) -> Vec<Resolved> {
    match ask(world, request(decided, text)) {
        Answer::Resolved(report) => report.conflicts,
        other => panic!("{other:?}"),
    }
}

fn in_clone(world: &World) -> String {
    world.clone_of_remote().remove("managed/vpcs/vpc-1.yaml").unwrap()
}

const OURS: (&str, &str) = ("vlan: 1001", "vlan: 1002 # ours");
const THEIRS: (&str, &str) = ("enable: true", "enable: false # theirs");

#[test]
fn fields_that_two_hosts_changed_are_merged_with_both_comments() {
    let world = two_hosts(&edited(&[OURS]), &edited(&[THEIRS]), |_| ());
    assert_eq!(in_clone(&world), edited(&[OURS, THEIRS]));
    assert_eq!(conflicts(&world), vec![]);
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"));
    assert_eq!(world.git(&["rev-list", "--merges", "HEAD"]), "", "history is a line");
    world.at_rest();
}

#[test]
fn a_field_that_both_changed_waits_with_all_three_contents_and_the_rest_goes_through() {
    let world = two_hosts(&edited(&[OURS]), &edited(&[("vlan: 1001", "vlan: 7"), THEIRS]), |_| ());
    assert!(world.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"));
    let all = conflicts(&world);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].kind, ConflictKind::Merge);
    let field = &all[0].fields[0];
    assert_eq!(field.path.to_string(), "spec.subnets.default.vlan");
    let values = [&field.base, &field.record, &field.git].map(|it| it.clone().unwrap());
    assert_eq!(values, [1001, 1002, 7].map(serde_json::Value::from));
    let shown = view(&world, &[]);
    assert_eq!((shown.base.unwrap(), shown.record.unwrap()), (VPC.to_owned(), edited(&[OURS])));
    assert_eq!((shown.preview, shown.open.len()), (None, 1));
    // By field: what only they changed is there anyway.
    let decision = ("spec.subnets.default.vlan", Side::Record);
    let wanted = edited(&[OURS, THEIRS]);
    assert_eq!(view(&world, &[decision]).preview.as_deref(), Some(wanted.as_str()));
    let fields = [(decision.0.parse().unwrap(), decision.1)].into();
    let done = resolve(&world, Decided { strategy: None, fields }, None);
    assert!(done[0].resolved, "{done:?}");
    assert_eq!(in_clone(&world), wanted);
    let said = world.git(&["log", "-1", "--format=%B"]);
    assert!(said.contains("Intake-Actor: Ada\n"), "{said}");
    assert!(said.contains("Intake-Decision: spec.subnets.default.vlan record\n"), "{said}");
    // Nothing is left of it.
    assert_eq!(conflicts(&world), vec![]);
    assert_eq!(world.git(&["for-each-ref", "refs/intake/conflicts"]), "");
    let left = std::fs::read_dir(world.raw("")).unwrap().count();
    assert_eq!(left, 1, "only the README.md is left in raw/");
    world.at_rest();
}

#[test]
fn strategies_decide_and_an_undecided_conflict_stays() {
    let theirs = edited(&[("vlan: 1001", "vlan: 7"), THEIRS]);
    let world = two_hosts(&edited(&[OURS]), &theirs, |_| ());
    let undecided = resolve(&world, Decided::default(), None);
    assert!(!undecided[0].resolved && undecided[0].open.len() == 1);
    let commits = world.commits();
    let strategy = Some(ConflictStrategy::GitWins);
    let done = resolve(&world, Decided { strategy, ..Decided::default() }, None);
    assert!(done[0].resolved && done[0].commit_id.is_none(), "git has it already: no commit");
    assert_eq!((world.commits(), in_clone(&world)), (commits, theirs));
    assert_eq!(conflicts(&world), vec![]);
    world.at_rest();
}

#[test]
fn a_text_of_ones_own_resolves_if_it_is_that_resource() {
    let world = two_hosts(&edited(&[OURS]), &edited(&[("vlan: 1001", "vlan: 7")]), |_| ());
    let request = |text: &str| Request::Resolve {
        names: vec!["VPC/vpc-1".into()],
        decided: Decided::default(),
        text: Some(text.into()),
        actor: "Ada".into(),
        dry_run: false,
    };
    for wrong in [vpc("another"), "a: [".to_owned(), VPC.replace("v1beta1", "v1alpha1")] {
        assert!(matches!(ask(&world, request(&wrong)), Answer::Refused { .. }), "{wrong}");
    }
    let own = edited(&[("vlan: 1001", "vlan: 9 # agreed")]);
    assert!(matches!(ask(&world, request(&own)), Answer::Resolved(_)));
    assert_eq!(in_clone(&world), own);
    world.at_rest();
}

#[test]
fn each_strategy_of_the_settings_is_followed() {
    let theirs = edited(&[("vlan: 1001", "vlan: 7"), THEIRS]);
    let with =
        |strategy| two_hosts(&edited(&[OURS]), &theirs, |world| world.settings.conflict = strategy);
    let world = with(ConflictStrategy::RecordWins);
    assert_eq!((in_clone(&world), conflicts(&world)), (edited(&[OURS, THEIRS]), vec![]));
    world.at_rest();
    let world = with(ConflictStrategy::GitWins);
    assert_eq!((in_clone(&world), conflicts(&world)), (theirs.clone(), vec![]));
    world.at_rest();
    // Ours was made after theirs was, or in the same second, which counts as theirs.
    let world = with(ConflictStrategy::Newest);
    assert!(conflicts(&world).is_empty());
    let world = two_hosts(&edited(&[OURS]), &edited(&[THEIRS]), |world| {
        world.settings.conflict = ConflictStrategy::Manual;
    });
    assert_eq!(conflicts(&world).len(), 1, "even what could be merged waits for a person");
}

#[test]
fn a_rule_for_one_resource_counts_more_than_the_fabrics() {
    let theirs = edited(&[("vlan: 1001", "vlan: 7")]);
    let world = two_hosts(&edited(&[OURS]), &theirs, |world| {
        world.settings.conflict = ConflictStrategy::Manual;
        let rule = serde_json::json!({"match": "VPC/vpc-*", "conflict": "record_wins"});
        world.repository.fabrics[0].resources = vec![serde_json::from_value(rule).unwrap()];
    });
    assert_eq!((in_clone(&world), conflicts(&world)), (edited(&[OURS]), vec![]));
}

#[test]
fn two_that_made_one_name_at_once_are_kept_apart() {
    let world = World::new();
    world.turn();
    let other = World::beside(&world);
    other.drop("vpc.yaml", edited(&[THEIRS]));
    other.turn();
    world.drop("vpc.yaml", edited(&[OURS]));
    world.turn();
    assert_eq!(conflicts(&world)[0].kind, ConflictKind::DuplicateIdentity);
    assert_eq!(in_clone(&world), edited(&[THEIRS]));
}

#[test]
fn a_conflict_outlives_the_store_and_git_gc() {
    let world = two_hosts(&edited(&[OURS]), &edited(&[("vlan: 1001", "vlan: 7")]), |_| ());
    let before = conflicts(&world);
    std::fs::remove_dir_all(world.work().join(".git/intake/state")).unwrap();
    world.git(&["reflog", "expire", "--expire=now", "--all"]);
    world.git(&["gc", "-q", "--prune=now"]);
    world.turn();
    assert_eq!(in_clone(&world), edited(&[("vlan: 1001", "vlan: 7")]), "theirs is not filed over");
    assert_eq!(conflicts(&world), before);
    assert_eq!(view(&world, &[]).record.as_deref(), Some(edited(&[OURS]).as_str()));
    let strategy = Some(ConflictStrategy::RecordWins);
    assert!(resolve(&world, Decided { strategy, ..Decided::default() }, None)[0].resolved);
    assert_eq!(in_clone(&world), edited(&[OURS]));
}

#[test]
fn a_conflict_that_git_settles_is_over() {
    let world = two_hosts(&edited(&[OURS]), &edited(&[("vlan: 1001", "vlan: 7")]), |_| ());
    let other = World::beside(&world);
    std::fs::write(other.managed("vpcs/vpc-1.yaml"), edited(&[OURS])).unwrap();
    other.git(&["commit", "-qam", "as you like"]);
    other.git(&["push", "-q", "origin", "main"]);
    world.git(&["pull", "-q", "--ff-only", "origin", "main"]);
    assert_eq!(conflicts(&world), vec![]);
    world.at_rest();
}

#[test]
fn people_among_our_commits_are_carried_over_line_by_line_or_hold_us() {
    let world = World::new();
    let notes = |edits: [&str; 3]| edits.join("\n\n\n");
    std::fs::write(world.work().join("notes.txt"), notes(["one", "two", "three"])).unwrap();
    world.git(&["add", "."]);
    world.git(&["commit", "-qm", "notes"]);
    world.turn();
    let other = World::beside(&world);
    std::fs::write(other.work().join("notes.txt"), notes(["one", "two", "theirs"])).unwrap();
    other.git(&["commit", "-qam", "their notes"]);
    other.git(&["push", "-q", "origin", "main"]);
    std::fs::write(world.work().join("notes.txt"), notes(["ours", "two", "three"])).unwrap();
    world.git(&["commit", "-qam", "our notes"]);
    world.drop("vpc.yaml", VPC);
    world.turn();
    world.turn();
    let merged = git(&world.remote, &["show", "main:notes.txt"]);
    assert_eq!(merged, notes(["ours", "two", "theirs"]));
    let log = world.git(&["log", "-3", "--format=%an|%s"]);
    assert!(log.contains("A Person|our notes"), "{log}");
    world.at_rest();

    std::fs::write(other.work().join("notes.txt"), "all theirs").unwrap();
    other.git(&["pull", "-q", "--rebase", "origin", "main", "--autostash", "-Xtheirs"]);
    other.git(&["commit", "-qam", "theirs again"]);
    other.git(&["push", "-q", "origin", "main"]);
    std::fs::write(world.work().join("notes.txt"), "all ours").unwrap();
    world.git(&["commit", "-qam", "ours again"]);
    world.drop("vpc.yaml", vpc("vpc-3"));
    let report = world.turn();
    let held = format!("{:?}", report.delivery);
    assert!(held.contains("notes.txt") && held.contains("git pull --rebase"), "{held}");
    assert_eq!(std::fs::read_to_string(world.work().join("notes.txt")).unwrap(), "all ours");
}

/// Somebody's editor, as a program: it puts one text in the place of another.
fn editor(world: &World, (from, to): (&str, &str)) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = world.dir.path().join("editor");
    std::fs::write(&path, format!("#!/bin/sh\nsed -i 's/{from}/{to}/' \"$1\"\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn two_people_with_two_clones_meet_at_the_command_line() {
    let run = |world: &World, args: &[&str], env: &[(&str, &str)]| {
        let out = command(world, args, env);
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        // 3: something waits for a person.
        assert!(matches!(out.status.code(), Some(0 | 3)), "{args:?}: {text}");
        text.into_owned()
    };
    let ada = World::new();
    run(&ada, &["init", "--fabric", "fabric-1"], &[]);
    ada.drop("vpc.yaml", VPC);
    run(&ada, &["ingest"], &[]);
    let grace = World::beside(&ada);
    run(&grace, &["init", "--fabric", "fabric-1"], &[]);
    let edit = |world: &World, who: &str, change: (&str, &str)| {
        let env = [("USER", who), ("EDITOR", &editor(world, change))];
        run(world, &["records", "edit", "VPC/vpc-1"], &env)
    };

    // Neither has heard of the other's edit, and they are of different fields.
    edit(&ada, "ada", ("vlan: 1001", "vlan: 1002 # ada was here"));
    edit(&grace, "grace", ("enable: true", "enable: false # grace as well"));
    let both = edited(&[
        ("vlan: 1001", "vlan: 1002 # ada was here"),
        ("enable: true", "enable: false # grace as well"),
    ]);
    assert_eq!(in_clone(&ada), both);
    let log = grace.git(&["log", "-2", "--format=%(trailers:key=Intake-Actor,valueonly)"]);
    assert_eq!(log.split_whitespace().collect::<Vec<_>>(), ["grace", "ada"]);

    // The same field, and a second resource beside it.
    run(&ada, &["sync"], &[]);
    edit(&ada, "ada", ("vlan: 1002", "vlan: 1003"));
    grace.drop("vpc-2.yaml", vpc("vpc-2"));
    edit(&grace, "grace", ("vlan: 1002", "vlan: 1004"));
    let out = command(&grace, &["sync"], &[]);
    assert_eq!(out.status.code(), Some(3), "something waits for a person");
    assert!(in_clone(&ada).contains("vlan: 1003 # ada"), "who was first stays");
    assert!(ada.clone_of_remote().contains_key("managed/vpcs/vpc-2.yaml"), "the rest goes on");
    let list = run(&grace, &["conflicts", "list"], &[]);
    assert!(list.contains("vpc-1"), "{list}");
    let shown = run(&grace, &["conflicts", "show", "VPC/vpc-1"], &[]);
    for said in ["spec.subnets.default.vlan", "1002", "1003", "1004"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let args = ["conflicts", "resolve", "VPC/vpc-1", "--strategy", "record-wins"];
    run(&grace, &args, &[("USER", "grace")]);
    assert!(in_clone(&ada).contains("vlan: 1004 # ada was here"), "{}", in_clone(&ada));
    run(&ada, &["sync"], &[]);
    for world in [&ada, &grace] {
        run(world, &["verify"], &[]);
        world.at_rest();
    }
}
