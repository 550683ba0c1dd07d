//! THE STORY: one file, from `raw/` to a fresh clone of the remote. Read this first.

use crate::world::{World, vpc};
use git_intake::model::report::{Action, Delivery, Ending};

#[test]
fn a_dropped_file_is_found_in_a_fresh_clone_of_the_remote() {
    let world = World::new();
    world.turn();
    // A person drops a manifest with a comment, and with what a cluster had filled in.
    let dropped = vpc("vpc-1").replace("  name: vpc-1\n", "  name: vpc-1 # ours\n  uid: 1234\n");
    world.drop("team-a/vpc.yaml", &dropped);

    let report = world.turn();

    // The remote has it, in the person's own words less what must not be filed.
    let clone = world.clone_of_remote();
    assert_eq!(clone.keys().collect::<Vec<_>>(), ["managed/vpcs/vpc-1.yaml"]);
    assert_eq!(clone["managed/vpcs/vpc-1.yaml"], dropped.replace("  uid: 1234\n", ""));
    // One commit, by the agent, that says where the file came from.
    assert_eq!(world.commits(), 2);
    let log = world.git(&["log", "-1", "--format=%an|%s|%(trailers:key=Intake-Source,valueonly)"]);
    assert_eq!(
        log.trim(),
        "git-intake|fabric-1: create VPC vpc-1|fabric-1/managed/vpcs/vpc-1.yaml 1:2 team-a/vpc.yaml"
    );
    // The drop has left raw/, the original is in the archive, and nothing else changed.
    assert!(!world.raw("team-a/vpc.yaml").exists());
    let archive = world.git(&["ls-tree", "-r", "--name-only", "refs/intake/archive/fabric-1"]);
    let original =
        world.git(&["show", &format!("refs/intake/archive/fabric-1:{}", archive.trim())]);
    assert_eq!(original, dropped);
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    // And that is what the answer says.
    assert!(
        matches!(report.delivery, Delivery::Pushed { commit_id } if Some(commit_id) == report.commit_id)
    );
    let file = &report.files[0];
    assert_eq!((file.ending, file.documents[0].action), (Ending::Managed, Action::Created));
    assert_eq!(file.documents[0].cut, ["metadata.uid"]);
    world.at_rest();
}

#[test]
fn the_same_file_again_is_no_commit_and_another_content_is_an_update_in_place() {
    let world = World::new();
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.turn();
    let before = world.commits();

    world.drop("vpc.yaml", vpc("vpc-1"));
    let again = world.turn();
    assert_eq!((again.commit_id, world.commits()), (None, before));
    assert_eq!(again.files[0].documents[0].action, Action::Unchanged);
    assert!(!world.raw("vpc.yaml").exists());

    world.drop("other-name.yaml", vpc("vpc-1").replace("1001", "1002"));
    let update = world.turn();
    assert_eq!(update.files[0].documents[0].action, Action::Updated);
    let clone = world.clone_of_remote();
    assert_eq!(clone.len(), 1);
    assert!(clone["managed/vpcs/vpc-1.yaml"].contains("1002"));
    world.at_rest();
}

#[test]
fn the_record_follows_what_was_written_where_a_drop_of_the_same_turn_changes_nothing() {
    for (written, unchanged) in [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")] {
        let world = World::new();
        world.drop("vpc.yaml", vpc("vpc-1"));
        world.turn();
        // The same values in other words are no rivals.
        let reworded = vpc("vpc-1").replace("as written", "as written again");
        world.drop(written, &reworded).drop(unchanged, vpc("vpc-1"));
        world.turn();
        assert_eq!(world.clone_of_remote()["managed/vpcs/vpc-1.yaml"], reworded);
        world.at_rest();
    }
}

#[test]
fn a_file_of_46_documents_becomes_46_files_in_one_commit() {
    let world = World::new();
    world.turn();
    let mut text = String::from("# a wiring diagram\n");
    for n in 0..46 {
        let spec = if n % 2 == 0 { "spec: {} # nothing to say\n" } else { "" };
        text.push_str(&format!(
            "# server {n}\napiVersion: wiring.githedgehog.com/v1beta1\nkind: Server\nmetadata:\n  name: server-{n}\n{spec}---\n"
        ));
    }
    world.drop("wiring.yaml", &text);
    let report = world.turn();
    assert_eq!(report.files[0].documents.len(), 46);
    assert_eq!(world.commits(), 2);
    let clone = world.clone_of_remote();
    assert_eq!(clone.len(), 46);
    assert!(clone["managed/servers/server-0.yaml"].starts_with("# a wiring diagram\n# server 0\n"));
    assert!(clone["managed/servers/server-2.yaml"].ends_with("spec: {} # nothing to say\n"));
    world.at_rest();
}

#[test]
fn a_bad_file_among_good_ones_stops_only_itself_and_is_taken_once_mended() {
    let world = World::new();
    world
        .drop("good.yaml", vpc("vpc-1"))
        .drop("bad.yaml", vpc("VPC_2"))
        .drop("also-good.yaml", vpc("vpc-3"));
    let report = world.turn();
    let endings: Vec<Ending> = report.files.iter().map(|it| it.ending).collect();
    assert_eq!(endings, [Ending::Managed, Ending::Rejected, Ending::Managed]);
    assert_eq!(world.clone_of_remote().len(), 2);
    let said = std::fs::read_to_string(world.raw("bad.yaml.rejected.txt")).unwrap();
    assert!(said.contains("bad.yaml:5:9") && said.contains("VPC_2"), "{said}");
    // It waits, and makes no noise.
    let commits = world.commits();
    assert_eq!(world.turn().operation, None);
    assert_eq!(world.commits(), commits);

    world.drop("bad.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 3);
    assert!(!world.raw("bad.yaml").exists() && !world.raw("bad.yaml.rejected.txt").exists());
    world.at_rest();
}

#[test]
fn foreign_kinds_are_set_aside_and_comments_alone_are_archived() {
    let world = World::new();
    let foreign = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    world.drop("map.yaml", foreign).drop("note.yaml", "# kind: VPC\n# all commented out\n");
    let report = world.turn();
    let endings: Vec<Ending> = report.files.iter().map(|it| it.ending).collect();
    assert_eq!(endings, [Ending::Unmanaged, Ending::NoDocuments]);
    let clone = world.clone_of_remote();
    assert_eq!(
        clone.into_iter().collect::<Vec<_>>(),
        [("unmanaged/map.yaml".to_owned(), foreign.to_owned())]
    );
    // A file of comments never deletes anything; its original is kept.
    let kept = world.git(&["ls-tree", "-r", "--name-only", "refs/intake/archive/fabric-1"]);
    assert!(kept.contains("note.yaml"), "{kept}");
    world.at_rest();
}

#[test]
fn two_files_that_disagree_both_stay_and_name_each_other() {
    let world = World::new();
    world.drop("a.yaml", vpc("vpc-1")).drop("b.yaml", vpc("vpc-1").replace("1001", "7"));
    world.drop("c.yaml", vpc("vpc-2")).drop("d.yaml", format!("# other words\n{}", vpc("vpc-2")));
    world.turn();
    assert_eq!(world.clone_of_remote().keys().collect::<Vec<_>>(), ["managed/vpcs/vpc-2.yaml"]);
    assert!(std::fs::read_to_string(world.raw("a.yaml.rejected.txt")).unwrap().contains("b.yaml"));
    assert!(std::fs::read_to_string(world.raw("b.yaml.rejected.txt")).unwrap().contains("a.yaml"));
    std::fs::remove_file(world.raw("b.yaml")).unwrap();
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 2);
    world.at_rest();
}

#[test]
fn people_at_work_in_the_same_tree_keep_what_they_have() {
    let world = World::new();
    world.turn();
    std::fs::write(world.work().join("staged"), "s").unwrap();
    world.git(&["add", "staged"]);
    std::fs::write(world.work().join("loose"), "l").unwrap();
    let before = world.git(&["status", "--porcelain"]);
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.turn();
    assert_eq!(world.git(&["status", "--porcelain"]), before);
    // Somebody edits a managed file: a drop for it waits until the edit is committed or undone.
    std::fs::write(world.managed("vpcs/vpc-1.yaml"), vpc("vpc-1").replace("1001", "5")).unwrap();
    world.drop("vpc.yaml", vpc("vpc-1").replace("1001", "6"));
    let held = world.turn();
    assert_eq!(held.files[0].problems[0].rule, "managed-edited");
    world.git(&["checkout", "-q", "--", "fabric-1/managed"]);
    world.turn();
    assert!(world.clone_of_remote()["managed/vpcs/vpc-1.yaml"].contains("vlan: 6"));
}

#[test]
fn a_file_that_came_by_git_is_taken_like_a_dropped_one() {
    let world = World::new();
    world.turn();
    let other = World::beside(&world);
    other.drop("pushed.yaml", vpc("vpc-9"));
    other.git(&["add", "."]);
    other.git(&["commit", "-qm", "a file for the inbox"]);
    other.git(&["push", "-q", "origin", "main"]);
    world.git(&["pull", "-q", "origin", "main"]);
    world.turn();
    assert_eq!(world.clone_of_remote().keys().collect::<Vec<_>>(), ["managed/vpcs/vpc-9.yaml"]);
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.at_rest();
}

#[test]
fn others_who_pushed_first_are_met_and_nothing_is_forced() {
    let world = World::new();
    world.drop("seed.yaml", vpc("vpc-0"));
    world.turn();
    let other = World::beside(&world);
    other.drop("theirs.yaml", vpc("vpc-1")).drop("both.yaml", vpc("both").replace("1001", "1"));
    other.turn();
    world.drop("ours.yaml", vpc("vpc-2")).drop("both.yaml", vpc("both").replace("1001", "2"));
    world.turn();
    let clone = world.clone_of_remote();
    assert_eq!(clone.len(), 4, "{:?}", clone.keys());
    // Theirs was first; ours is back in raw/ for a person, with both sides told apart.
    assert!(clone["managed/vpcs/both.yaml"].contains("vlan: 1}"));
    let back: Vec<_> =
        std::fs::read_dir(world.raw("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    let back: Vec<String> = back.into_iter().map(|it| it.into_string().unwrap()).collect();
    let ours = back.iter().find(|it| it.starts_with("conflict-") && it.ends_with(".yaml")).unwrap();
    assert!(std::fs::read_to_string(world.raw(ours)).unwrap().contains("vlan: 2}"));
    assert!(back.iter().any(|it| it.ends_with(".rejected.txt")));
    // It stays there until a person decides, and history is a line.
    let commits = world.commits();
    world.turn();
    assert_eq!(world.commits(), commits);
    assert_eq!(world.git(&["rev-list", "--merges", "HEAD"]), "");
    let lane = world.open().unwrap();
    assert_eq!(lane.store.conflicts().unwrap().len(), 1);
}

#[test]
fn while_the_remote_is_away_commits_queue_and_one_push_sends_them() {
    let world = World::new();
    world.turn();
    let away = world.dir.path().join("away.git");
    std::fs::rename(&world.remote, &away).unwrap();
    for n in 0..3 {
        world.drop("vpc.yaml", vpc(&format!("vpc-{n}")));
        let report = world.turn();
        assert!(!matches!(report.delivery, Delivery::Pushed { .. }), "{:?}", report.delivery);
    }
    std::fs::rename(&away, &world.remote).unwrap();
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 3);
    world.at_rest();
}

/// As git takes it, which works at the top; a service works at `/`.
#[test]
fn a_remote_by_a_relative_path_is_found_from_wherever_the_agent_runs() {
    let world = World::new();
    world.drop("seed.yaml", vpc("vpc-0"));
    world.turn();
    let other = World::beside(&world);
    world.git(&["config", "remote.origin.url", "../remote.git"]);
    other.drop("theirs.yaml", vpc("vpc-1"));
    other.turn();
    world.drop("ours.yaml", vpc("vpc-2"));
    let report = world.turn();
    assert!(matches!(report.delivery, Delivery::Pushed { .. }), "{:?}", report.delivery);
    assert_eq!(world.clone_of_remote().len(), 3);
    world.git(&["config", "remote.origin.pushurl", "../remote.git"]);
    world.drop("again.yaml", vpc("vpc-3"));
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 4);
}

#[test]
fn work_of_a_person_holds_the_agent_and_it_goes_on_by_itself() {
    let world = World::new();
    world.turn();
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.git(&["switch", "-q", "--detach"]);
    let held = world.try_turn().unwrap_err().to_string();
    assert!(held.contains("detached"), "{held}");
    assert!(world.raw("vpc.yaml").exists());
    world.git(&["switch", "-q", "main"]);
    world.turn();
    assert_eq!(world.clone_of_remote().len(), 1);
}

#[test]
fn the_store_can_be_thrown_away_and_comes_back_the_same() {
    let world = World::new();
    let two = format!("{}---\n{}", vpc("vpc-1"), vpc("vpc-2"));
    world.drop("team/two.yaml", two).drop("three.yaml", vpc("vpc-3"));
    world.turn();
    let all = || {
        let mut lane = world.open().unwrap();
        let head = lane.repo.head().unwrap().commit;
        git_intake::agent::follow::records_follow_head(&mut lane, 0, head).unwrap();
        let records = lane.store.records(&lane.fabrics[0].fabric.name);
        records.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let before = all();
    assert_eq!(before.len(), 3);
    std::fs::remove_dir_all(world.work().join(".git/intake/state")).unwrap();
    let after = all();
    assert_eq!(before, after);
    assert_eq!(after[0].source.as_ref().unwrap().path.to_string(), "team/two.yaml");
}

#[test]
fn strategies_do_what_they_say() {
    use git_intake::pipeline::archive::ArchiveStrategy;
    use git_intake::pipeline::processing::{OnInvalid, OnUnsupported};
    let mut world = World::new();
    world.settings.archive = ArchiveStrategy::Directory;
    world.settings.on_invalid = OnInvalid::Quarantine;
    world.settings.on_unsupported = OnUnsupported::Keep;
    let foreign = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    world.drop("a.yaml", vpc("vpc-1")).drop("bad.yaml", "a: [").drop("map.yaml", foreign);
    world.turn();
    let clone = world.clone_of_remote();
    let archived = clone.keys().find(|it| it.starts_with("raw/processed/a.yaml.")).unwrap();
    assert!(archived.ends_with(".archived") && clone[archived] == vpc("vpc-1"));
    let errors = std::fs::read_dir(world.raw("errors")).unwrap().count();
    assert_eq!(errors, 2, "the file and its report");
    assert!(!world.raw("bad.yaml").exists());
    assert!(world.raw("map.yaml.rejected.txt").exists());

    world.settings.on_invalid = OnInvalid::Unmanaged;
    world.settings.archive = ArchiveStrategy::None;
    world.drop("bad.yaml", "a: [").drop("b.yaml", vpc("vpc-2"));
    world.turn();
    let clone = world.clone_of_remote();
    assert_eq!(clone["unmanaged/bad.yaml"], "a: [");
    assert!(clone.contains_key("unmanaged/bad.yaml.rejected.txt"));
    world.at_rest();
}

#[test]
fn what_others_set_aside_under_the_same_name_does_not_swallow_ours() {
    let world = World::new();
    world.turn();
    let other = World::beside(&world);
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    other.drop("map.yaml", map("theirs"));
    other.turn();
    world.drop("map.yaml", map("ours"));
    world.turn();
    world.turn();
    let all = world.clone_of_remote();
    assert!(
        all.values().any(|it| *it == map("theirs")) && all.values().any(|it| *it == map("ours"))
    );
    world.at_rest();
}

#[test]
fn a_rejected_drop_that_is_removed_takes_its_report_and_conflict_along() {
    let world = World::new();
    world.drop("vpc.yaml", vpc("vpc-1"));
    world.turn();
    std::fs::write(world.managed("vpcs/vpc-1.yaml"), "edited by hand\n").unwrap();
    world.drop("vpc.yaml", vpc("vpc-1").replace("1001", "6")).drop("bad.yaml", "a: [");
    world.turn();
    assert_eq!(world.open().unwrap().store.conflicts().unwrap().len(), 1);
    std::fs::remove_file(world.raw("vpc.yaml")).unwrap();
    std::fs::remove_file(world.raw("bad.yaml")).unwrap();
    world.git(&["checkout", "-q", "--", "fabric-1/managed"]);
    world.turn();
    assert_eq!(world.open().unwrap().store.conflicts().unwrap(), vec![]);
    assert_eq!(world.git(&["status", "--porcelain"]), "");
    world.at_rest();
}

#[test]
fn one_path_in_the_way_stops_one_drop_only() {
    let world = World::new();
    world.turn();
    std::fs::create_dir_all(world.managed("vpcs/vpc-1.yaml")).unwrap();
    world.drop("a.yaml", vpc("vpc-1")).drop("b.yaml", vpc("vpc-2"));
    world.turn();
    assert_eq!(world.clone_of_remote().keys().collect::<Vec<_>>(), ["managed/vpcs/vpc-2.yaml"]);
    assert!(world.raw("a.yaml").exists() && world.raw("a.yaml.rejected.txt").exists());
}

#[test]
fn what_was_not_read_is_never_moved_elsewhere() {
    use git_intake::pipeline::processing::OnInvalid;
    let mut world = World::new();
    world.settings.on_invalid = OnInvalid::Quarantine;
    world.settings.intake.bytes_max = 1000;
    std::os::unix::fs::symlink("/etc/passwd", {
        world.turn();
        world.raw("link.yaml")
    })
    .unwrap();
    world.drop("big.yaml", vec![b'#'; 2000]);
    let report = world.turn();
    let rules: Vec<&str> = report.files.iter().map(|it| it.problems[0].rule.as_str()).collect();
    assert_eq!(rules, ["too-large", "not-a-file"]);
    assert!(world.raw("big.yaml").exists() && !world.raw("errors").exists());
    assert_eq!(world.turn().operation, None, "and it makes no noise");
}

#[test]
fn without_a_remote_the_commit_stays_here_and_nothing_stays_open() {
    let mut world = World::new();
    world.repository.push = false;
    world.drop("vpc.yaml", vpc("vpc-1"));
    let report = world.turn();
    assert_eq!(report.delivery, Delivery::Local);
    let lane = world.open().unwrap();
    assert!(lane.store.open_operations().unwrap().is_empty());
    let newest = lane.store.operations().next().unwrap().unwrap();
    assert_eq!(newest.state.word(), "local");
    assert!(world.git(&["ls-tree", "-r", "--name-only", "HEAD"]).contains("vpcs/vpc-1.yaml"));
}
