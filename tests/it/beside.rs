//! A repository as people lay one out before there is an agent: manifests pushed into `raw/` and
//! straight into the fabric's directory, which lies deep in it, beside what is nobody's business.

use crate::world::{World, git};
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::agent::exchange::SyncAsked;
use git_intake::model::path::RepoPath;
use git_intake::model::rules::BesideRaw;
use std::path::PathBuf;

const DIR: &str = "gitops/hedgehog/fabric-1";

fn manifest(group: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: {group}.githedgehog.com/v1beta1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: default\nspec: {spec}\n"
    )
}

fn vpc(n: usize) -> String {
    let spec = format!(
        "{{ipv4Namespace: default, vlanNamespace: default, subnets: {{default: {{subnet: 10.0.{n}.0/24, gateway: 10.0.{n}.1, vlan: {}}}}}}}",
        1000 + n
    );
    manifest("vpc", "VPC", &format!("vpc-{n:02}"), &spec)
}

/// A small fabric: 46 documents of five kinds in one file.
fn fabric() -> String {
    let mut all = Vec::new();
    for n in 1..=6 {
        let spec = format!(
            "{{role: server-leaf, profile: vs, description: leaf {n}, asn: 6510{n}, ip: 172.30.0.{n}/21, boot: {{mac: '0c:20:12:ff:00:0{n}'}}}}"
        );
        all.push(manifest("wiring", "Switch", &format!("leaf-{n:02}"), &spec));
    }
    for n in 1..=10 {
        let spec = format!("{{description: server {n}}}");
        all.push(manifest("wiring", "Server", &format!("server-{n:02}"), &spec));
        let link = format!(
            "{{unbundled: {{link: {{server: {{port: server-{n:02}/enp2s1}}, switch: {{port: leaf-{:02}/E1/{n}}}}}}}}}",
            1 + n % 6
        );
        all.push(manifest("wiring", "Connection", &format!("server-{n:02}--unbundled"), &link));
        let spec = format!("{{connection: server-{n:02}--unbundled, subnet: vpc-{n:02}/default}}");
        all.push(vpc(n));
        all.push(manifest("vpc", "VPCAttachment", &format!("vpc-{n:02}--server-{n:02}"), &spec));
    }
    assert_eq!(all.len(), 46);
    all.join("---\n")
}

/// Files that somebody pushed before the agent came, and the agent's host with its own clone.
fn pushed(files: &[(&str, String)]) -> World {
    let mut world = World::new();
    world.repository.fabrics[0].dir = Some(RepoPath::parse(DIR).unwrap());
    write(&world, files);
    world.git(&["add", "-A"]);
    world.git(&["commit", "-qm", "as it was"]);
    world.git(&["push", "-q", "origin", "main"]);
    world
}

fn write(world: &World, files: &[(&str, String)]) {
    for (name, text) in files {
        let path = world.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// All paths of the remote's branch, less the README files of ours.
fn in_clone(world: &World) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["clone", "-q", &world.remote.display().to_string(), "clone"]);
    let clone: PathBuf = dir.path().join("clone");
    assert_eq!(git(&clone, &["fsck", "--strict", "--no-dangling"]), "");
    let names = git(&clone, &["ls-files"]);
    names
        .lines()
        .filter(|it| !it.ends_with("d/README.md") && !it.ends_with("raw/README.md"))
        .map(str::to_owned)
        .collect()
}

fn managed(world: &World) -> usize {
    let prefix = format!("{DIR}/managed/");
    in_clone(world).iter().filter(|it| it.starts_with(&prefix)).count()
}

#[test]
fn what_was_pushed_into_raw_and_beside_it_is_48_managed_files_after_three_commits_at_most() {
    for places in [
        ["raw/prepop.yaml", "test-vpc.yaml", "test-vpc-2.yaml"],
        ["prepop.yaml", "raw/test-vpc.yaml", "raw/test-vpc-2.yaml"],
    ] {
        let [all, one, two] = places.map(|it| format!("{DIR}/{it}"));
        let others = ["README.md", "gitops/hedgehog/README.md", "gitops/hedgehog/vpc-99.yaml"];
        let mut files = vec![(all.as_str(), fabric()), (&one, vpc(11)), (&two, vpc(12))];
        files.extend(others.map(|it| (it, vpc(99))));
        let world = pushed(&files);
        let before = world.commits();
        world.turn();
        let made = world.commits() - before;
        assert!((1..=3).contains(&made), "{made} commits");
        assert_eq!(managed(&world), 48);
        let left: Vec<String> =
            in_clone(&world).into_iter().filter(|it| !it.contains("/managed/")).collect();
        assert_eq!(left, others, "nothing else was touched, and raw/ is empty");
        let said = world.git(&["log", "--format=%B"]);
        assert!(said.contains("test-vpc.yaml"), "{said}");
        world.at_rest();
    }
}

#[test]
fn what_is_pushed_beside_raw_later_is_taken_by_a_sync() {
    let world = pushed(&[("notes", "x\n".into())]);
    world.turn();
    let other = World::beside(&world);
    write(&other, &[(&format!("{DIR}/late.yaml"), vpc(1))]);
    other.git(&["add", "-A"]);
    other.git(&["commit", "-qm", "theirs"]);
    other.git(&["push", "-q", "origin", "main"]);
    let mut lane = world.open().unwrap();
    lane.prepare().unwrap();
    let asked = Request::Sync(SyncAsked::default());
    let answer = desk::answer(&mut lane, &asked, &Live::default());
    assert!(matches!(answer, Answer::Synced(_)), "{answer:?}");
    drop(lane);
    assert_eq!(managed(&world), 1);
    world.at_rest();
}

#[test]
fn what_composes_what_is_foreign_broken_edited_or_only_here_stays_beside_raw() {
    let at = |name: &str| format!("{DIR}/{name}");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let names = [
        (at("kustomization.yaml"), "resources:\n  - named.yaml\n  - managed\n".to_owned()),
        (at("named.yaml"), vpc(1)),
        (at("map.yaml"), map.to_owned()),
        (at("mixed.yaml"), format!("{}---\n{map}", vpc(2))),
        (at("broken.yaml"), "kind: [\n".to_owned()),
        (at("edited.yaml"), vpc(3)),
        (at("overlays/prod/vpc.yaml"), vpc(4)),
        (at("values.yaml"), vpc(5)),
        (at(".hidden.yaml"), vpc(6)),
        (at("README.md"), "notes\n".to_owned()),
        (at("taken.yaml"), vpc(7)),
    ];
    let files: Vec<(&str, String)> =
        names.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let world = pushed(&files);
    let before = in_clone(&world);
    let edit = format!("{}# in the middle of it\n", vpc(3));
    write(&world, &[(&at("edited.yaml"), edit.clone()), (&at("only-here.yaml"), vpc(8))]);
    world.turn();
    let gone: Vec<String> =
        before.into_iter().filter(|it| !in_clone(&world).contains(it)).collect();
    assert_eq!(gone, [at("taken.yaml")]);
    assert_eq!(managed(&world), 1);
    assert_eq!(std::fs::read_to_string(world.work().join(at("edited.yaml"))).unwrap(), edit);
    assert!(world.work().join(at("only-here.yaml")).exists());
    // Once it is done and committed it is taken.
    world.git(&["commit", "-qam", "done"]);
    world.turn();
    assert_eq!(managed(&world), 2);
    world.at_rest();
}

#[test]
fn a_name_that_raw_has_already_is_no_obstacle_and_the_setting_leaves_everything() {
    let at = |name: &str| format!("{DIR}/{name}");
    let (beside, drop) = (at("vpc.yaml"), at("raw/vpc.yaml"));
    let files = [(beside.as_str(), vpc(1)), (drop.as_str(), vpc(2))];
    let world = pushed(&files);
    world.turn();
    assert_eq!(managed(&world), 2);
    world.at_rest();
    let mut world = pushed(&files);
    world.repository.fabrics[0].beside_raw = Some(BesideRaw::Leave);
    world.turn();
    assert_eq!(managed(&world), 1);
    assert!(in_clone(&world).contains(&beside));
    world.at_rest();
}
