//! Commits for a pull request: they wait on a branch of their own until a person takes them over.

use crate::world::{World, git, vpc};
use git_intake::agent::desk::{self, Answer, Live, Request};
use git_intake::agent::exchange::SyncAsked;
use git_intake::agent::lane::Lane;
use git_intake::model::account::SyncReport;
use git_intake::model::report::{Delivery, RepositoryStatus};

const PROPOSED: &str = "refs/heads/git-intake/main";

/// A world whose remote has one VPC on `main`, which only merges may change from now on.
fn reviewed() -> World {
    let mut world = World::new();
    world.drop("first.yaml", vpc("vpc-1"));
    world.turn();
    world.repository.review = Some("git-intake/{branch}".into());
    world
}

fn opened(world: &World) -> Lane {
    let mut lane = world.open().unwrap();
    lane.prepare().unwrap();
    lane
}

fn sync(world: &World) -> SyncReport {
    match desk::answer(&mut opened(world), &Request::Sync(SyncAsked::default()), &Live::default()) {
        Answer::Synced(report) => *report,
        other => panic!("{other:?}"),
    }
}

fn status(world: &World) -> RepositoryStatus {
    match desk::answer(&mut opened(world), &Request::Status, &Live::default()) {
        Answer::Status(it) => *it,
        other => panic!("{other:?}"),
    }
}

fn there(world: &World, branch: &str) -> Option<String> {
    let found = git(&world.remote, &["for-each-ref", "--format=%(objectname)", branch]);
    Some(found.trim().to_owned()).filter(|it| !it.is_empty())
}

fn is_ancestor(world: &World, old: &str, new: &str) -> bool {
    git(&world.remote, &["merge-base", old, new]).trim() == old
}

/// What somebody else does to `main`, in a clone of the remote.
fn others(world: &World, work: impl FnOnce(&World)) {
    let other = World::beside(world);
    work(&other);
    other.git(&["push", "-q", "origin", "main"]);
}

fn others_commit(world: &World, name: &str, text: &str) {
    others(world, |it| {
        std::fs::write(it.managed(name), text).unwrap();
        it.git(&["add", "-A"]);
        it.git(&["commit", "-qm", "theirs"]);
    });
}

#[test]
fn a_drop_waits_on_a_branch_of_its_own_until_it_is_merged() {
    let world = reviewed();
    let main = there(&world, "refs/heads/main");
    world.drop("second.yaml", vpc("vpc-2"));
    let report = world.turn();
    let Delivery::Proposed { commit_id, branch } = report.delivery else { panic!("{report:?}") };
    assert_eq!((branch.as_str(), Some(commit_id)), (PROPOSED, report.commit_id));
    assert_eq!(there(&world, "refs/heads/main"), main);
    assert_eq!(there(&world, PROPOSED), Some(commit_id.to_string()));
    let it = status(&world);
    assert_eq!((it.proposed.as_deref(), it.unpushed), (Some(PROPOSED), 0));

    // The next one goes on top, and nothing is sent twice.
    world.drop("third.yaml", vpc("vpc-3"));
    world.turn();
    let both = there(&world, PROPOSED).unwrap();
    assert!(is_ancestor(&world, &commit_id.to_string(), &both));
    assert_eq!(sync(&world).delivery, Delivery::Nothing);

    others(&world, |it| {
        it.git(&["merge", "-q", "--no-ff", "-m", "merge", "origin/git-intake/main"]);
    });
    sync(&world);
    assert_eq!(status(&world).proposed, None);
    assert_eq!(world.clone_of_remote().len(), 3);
    world.at_rest();
}

#[test]
fn what_others_push_meanwhile_is_joined_and_the_branch_only_goes_forward() {
    let world = reviewed();
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    let before = there(&world, PROPOSED).unwrap();
    others_commit(&world, "vpcs/vpc-9.yaml", &vpc("vpc-9"));
    let theirs = there(&world, "refs/heads/main").unwrap();
    let Delivery::Proposed { commit_id, .. } = sync(&world).delivery else { panic!() };
    let after = there(&world, PROPOSED).unwrap();
    assert_eq!(after, commit_id.to_string());
    assert!(is_ancestor(&world, &before, &after) && is_ancestor(&world, &theirs, &after));
    assert_eq!(there(&world, "refs/heads/main"), Some(theirs));
    let files =
        git(&world.remote, &["ls-tree", "-r", "--name-only", &after, "fabric-1/managed/vpcs/"]);
    assert_eq!(files.lines().count(), 3, "{files}");
    // Again with the merge commit among ours, and as a dry run before.
    others_commit(&world, "vpcs/vpc-8.yaml", &vpc("vpc-8"));
    let asked = SyncAsked { dry_run: true, ..SyncAsked::default() };
    let answer = desk::answer(&mut opened(&world), &Request::Sync(asked), &Live::default());
    let Answer::Synced(report) = answer else { panic!("{answer:?}") };
    assert_eq!((report.incoming_count, report.overlaps.len()), (1, 0));
    sync(&world);
    let last = there(&world, PROPOSED).unwrap();
    assert!(is_ancestor(&world, &after, &last));
    assert_eq!(sync(&world).delivery, Delivery::Nothing);
    assert_eq!(there(&world, PROPOSED), Some(last));
}

#[test]
fn a_proposal_that_was_taken_over_as_one_commit_is_done_and_the_next_has_a_number() {
    let world = reviewed();
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    let squash = |it: &World, branch: &str| {
        it.git(&["merge", "-q", "--squash", &format!("origin/{branch}")]);
        it.git(&["commit", "-qm", "squashed"]);
    };
    others(&world, |it| squash(it, "git-intake/main"));
    assert_eq!(sync(&world).delivery, Delivery::Nothing);
    assert_eq!(world.git(&["rev-parse", "HEAD"]), world.git(&["rev-parse", "origin/main"]));
    world.at_rest();

    let old = there(&world, PROPOSED);
    world.drop("third.yaml", vpc("vpc-3"));
    let Delivery::Proposed { branch, .. } = world.turn().delivery else { panic!() };
    assert_eq!((branch, there(&world, PROPOSED)), (format!("{PROPOSED}-2"), old));

    // Where merged branches are deleted, the name is free again.
    others(&world, |it| squash(it, "git-intake/main-2"));
    git(&world.remote, &["branch", "-D", "git-intake/main", "git-intake/main-2"]);
    sync(&world);
    world.drop("fourth.yaml", vpc("vpc-4"));
    let Delivery::Proposed { branch, .. } = world.turn().delivery else { panic!() };
    assert_eq!(branch, PROPOSED);
}

#[test]
fn a_field_that_both_changed_waits_for_a_person_and_the_rest_is_proposed() {
    let world = reviewed();
    let with = |name: &str, subnet: &str| vpc(name).replace("10.0.", subnet);
    assert_ne!(with("vpc-1", "10.7."), vpc("vpc-1"));
    world.drop("again.yaml", with("vpc-1", "10.7."));
    world.drop("second.yaml", vpc("vpc-2"));
    world.turn();
    others_commit(&world, "vpcs/vpc-1.yaml", &with("vpc-1", "10.8."));
    let report = sync(&world);
    assert_eq!(report.conflicts.len(), 1, "{report:?}");
    let head = there(&world, PROPOSED).unwrap();
    let file = git(&world.remote, &["show", &format!("{head}:fabric-1/managed/vpcs/vpc-1.yaml")]);
    assert!(file.contains("10.8."), "{file}");
    git(&world.remote, &["cat-file", "-e", &format!("{head}:fabric-1/managed/vpcs/vpc-2.yaml")]);
}

#[test]
fn without_a_branch_to_compare_with_or_with_the_branch_itself_the_agent_says_so() {
    let mut world = World::new();
    world.repository.review = Some("git-intake/{branch}".into());
    world.drop("first.yaml", vpc("vpc-1"));
    let report = world.turn();
    let (Delivery::Waiting { reason } | Delivery::Held { reason }) = report.delivery else {
        panic!()
    };
    assert!(reason.contains("the remote has no branch refs/heads/main"), "{reason}");
    world.repository.review = Some("main".into());
    world.git(&["push", "-q", "origin", "main"]);
    world.drop("second.yaml", vpc("vpc-2"));
    let report = world.turn();
    let (Delivery::Waiting { reason } | Delivery::Held { reason }) = report.delivery else {
        panic!()
    };
    assert!(reason.contains("`review` names refs/heads/main"), "{reason}");
}
