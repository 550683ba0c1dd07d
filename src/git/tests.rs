//! The hand on the history, judged by git itself.
#![allow(clippy::disallowed_methods)]

use super::*;
use crate::model::fabric::Author;
use crate::model::ids::CommitId;
use bstr::BString;
use std::fs;
use std::process::Command;
use std::sync::Arc;

struct Place {
    dir: tempfile::TempDir,
    repo: Repo,
    steps: Steps,
}

fn git(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(["AUTHOR", "COMMITTER"].map(|it| (format!("GIT_{it}_NAME"), "A Person")))
        .envs(["AUTHOR", "COMMITTER"].map(|it| (format!("GIT_{it}_EMAIL"), "person@example.com")))
        .args(args)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    let steps = Steps::default();
    let repo = Repo::discover(dir.path(), steps.clone()).unwrap();
    Place { dir, repo, steps }
}

fn seeded() -> Place {
    let it = place();
    fs::write(it.dir.path().join("README"), "hello\n").unwrap();
    git(it.dir.path(), &["add", "."]);
    git(it.dir.path(), &["commit", "-qm", "first"]);
    it
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

impl Place {
    fn git(&self, args: &[&str]) -> String {
        git(self.dir.path(), args)
    }

    fn draft(&self, files: &[(&str, &str)]) -> CommitDraft {
        let writes = files.iter().map(|(at, text)| (path(at), Arc::from(text.as_bytes())));
        CommitDraft {
            branch: "refs/heads/main".into(),
            base: self.repo.tip("refs/heads/main").unwrap(),
            writes: writes.collect(),
            removals: vec![],
            message: "change\n\nIntake-Operation: x\n".into(),
            author: Author { name: "git-intake".into(), email: "i@example.com".into() },
            time: jiff::Timestamp::from_second(1_700_000_000).unwrap(),
            archive: None,
        }
    }

    /// Commits as the agent does: files, commit, index.
    fn commit(&self, files: &[(&str, &str)]) -> CommitId {
        let draft = self.draft(files);
        for (at, text) in files {
            let full = self.dir.path().join(at);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        }
        let CommitOutcome::Committed(id) = self.repo.commit(&draft).unwrap() else { panic!() };
        let paths: Vec<BString> = files.iter().map(|it| BString::from(it.0)).collect();
        self.repo.refresh_index(&paths, draft.base, id).unwrap();
        id
    }

    fn packs(&self) -> usize {
        let packs = fs::read_dir(self.dir.path().join(".git/objects/pack")).unwrap();
        packs
            .filter(|it| it.as_ref().unwrap().path().extension().is_some_and(|it| it == "pack"))
            .count()
    }
}

#[test]
fn many_files_become_one_commit_and_one_pack_and_status_is_clean() {
    let it = seeded();
    let names: Vec<String> = (0..46).map(|n| format!("f/managed/vpcs/v{n}.yaml")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|it| (it.as_str(), it.as_str())).collect();
    it.commit(&files);
    assert_eq!(it.git(&["status", "--porcelain"]), "");
    assert_eq!(it.git(&["ls-tree", "-r", "--name-only", "HEAD", "f"]).lines().count(), 46);
    assert_eq!(it.git(&["rev-list", "--count", "HEAD"]).trim(), "2");
    assert_eq!(it.packs(), 1);
    assert_eq!(it.git(&["fsck", "--strict"]), "");
    assert_eq!(it.git(&["show", "HEAD:f/managed/vpcs/v7.yaml"]), "f/managed/vpcs/v7.yaml");
}

#[test]
fn the_first_commit_of_a_repository_is_made() {
    let it = place();
    it.commit(&[("f/managed/a.yaml", "a\n")]);
    assert_eq!(it.git(&["log", "--format=%an %s"]), "git-intake change\n");
    assert_eq!(it.git(&["status", "--porcelain"]), "");
    assert_eq!(it.git(&["fsck", "--strict"]), "");
}

#[test]
fn the_same_content_is_no_commit() {
    let it = seeded();
    it.commit(&[("f/a.yaml", "a\n")]);
    let draft = it.draft(&[("f/a.yaml", "a\n")]);
    assert_eq!(it.repo.commit(&draft).unwrap(), CommitOutcome::Unchanged);
}

#[test]
fn a_branch_that_somebody_moved_is_not_moved_by_us() {
    let it = seeded();
    let draft = it.draft(&[("f/a.yaml", "a\n")]);
    it.git(&["commit", "-q", "--allow-empty", "-m", "theirs"]);
    assert!(matches!(it.repo.commit(&draft).unwrap(), CommitOutcome::Moved { now: Some(_) }));
    assert_eq!(it.git(&["log", "-1", "--format=%s"]), "theirs\n");
}

#[test]
fn a_lock_of_somebody_else_is_waited_for_and_never_removed() {
    let it = seeded();
    let lock = it.dir.path().join(".git/refs/heads/main.lock");
    fs::write(&lock, "").unwrap();
    let draft = it.draft(&[("f/a.yaml", "a\n")]);
    assert!(matches!(it.repo.commit(&draft).unwrap(), CommitOutcome::Locked { .. }));
    assert!(lock.exists());
    fs::write(it.dir.path().join(".git/index.lock"), "").unwrap();
    let head = it.repo.head().unwrap().commit.unwrap();
    assert_eq!(it.repo.refresh_index(&["a".into()], None, head).unwrap(), IndexOutcome::Locked);
}

#[test]
fn what_people_staged_and_edited_stays_as_it_is() {
    let it = seeded();
    fs::write(it.dir.path().join("staged"), "s").unwrap();
    it.git(&["add", "staged"]);
    fs::write(it.dir.path().join("README"), "edited\n").unwrap();
    fs::write(it.dir.path().join("loose"), "l").unwrap();
    let before = it.git(&["status", "--porcelain"]);
    it.commit(&[("f/a.yaml", "a\n")]);
    assert_eq!(it.git(&["status", "--porcelain"]), before);
    assert_eq!(it.git(&["show", "--name-only", "--format=", "HEAD"]), "f/a.yaml\n");
}

#[test]
fn the_archive_moves_with_the_branch_or_not_at_all() {
    let it = seeded();
    let mut draft = it.draft(&[("f/a.yaml", "a\n")]);
    let archive = ArchiveDraft {
        ref_name: "refs/intake/archive/f".into(),
        entries: vec![(path("ab/abcd/a.yaml"), Arc::from(&b"original"[..]))],
        message: "keep".into(),
    };
    draft.archive = Some(archive.clone());
    it.git(&["commit", "-q", "--allow-empty", "-m", "theirs"]);
    it.repo.commit(&draft).unwrap();
    assert_eq!(it.repo.tip(&archive.ref_name).unwrap(), None);
    draft.base = it.repo.tip("refs/heads/main").unwrap();
    it.repo.commit(&draft).unwrap();
    assert_eq!(it.git(&["show", "refs/intake/archive/f:ab/abcd/a.yaml"]), "original");
    let kept = it.repo.tip(&archive.ref_name).unwrap();
    draft.base = it.repo.tip("refs/heads/main").unwrap();
    assert_eq!(it.repo.commit(&draft).unwrap(), CommitOutcome::Unchanged);
    assert_eq!(it.repo.tip(&archive.ref_name).unwrap(), kept, "the same original is kept once");
}

#[test]
fn what_is_no_file_is_not_overwritten() {
    let it = seeded();
    fs::create_dir(it.dir.path().join("f")).unwrap();
    std::os::unix::fs::symlink("x", it.dir.path().join("f/a.yaml")).unwrap();
    it.git(&["add", "."]);
    it.git(&["commit", "-qm", "link"]);
    let refused = it.repo.commit(&it.draft(&[("f/a.yaml", "a\n")]));
    assert!(matches!(refused, Err(Error::InTheWay { .. })));
    let refused = it.repo.commit(&it.draft(&[("README/a.yaml", "a\n")]));
    assert!(matches!(refused, Err(Error::InTheWay { .. })));
}

#[test]
fn work_under_way_and_a_detached_head_are_seen() {
    let it = seeded();
    assert_eq!(it.repo.head().unwrap().busy, None);
    it.git(&["switch", "-q", "--detach"]);
    assert_eq!(it.repo.head().unwrap().busy, Some(Busy::Detached));
    it.git(&["switch", "-q", "main"]);
    fs::write(it.dir.path().join(".git/MERGE_HEAD"), "").unwrap();
    assert!(matches!(it.repo.head().unwrap().busy, Some(Busy::InProgress(_))));
}

#[test]
fn our_commits_are_made_again_on_top_of_others() {
    let it = seeded();
    let base = it.repo.head().unwrap().commit.unwrap();
    it.commit(&[("f/a.yaml", "ours\n"), ("f/b.yaml", "ours\n")]);
    let ours = it.commit(&[("f/c.yaml", "ours\n")]);
    it.git(&["switch", "-q", "-c", "theirs", &base.to_string()]);
    fs::create_dir_all(it.dir.path().join("f")).unwrap();
    fs::write(it.dir.path().join("f/a.yaml"), "theirs\n").unwrap();
    fs::write(it.dir.path().join("README"), "theirs\n").unwrap();
    it.git(&["add", "."]);
    it.git(&["commit", "-qm", "theirs"]);
    let theirs = it.repo.tip("refs/heads/theirs").unwrap().unwrap();
    let replay = it.repo.replay(ours, theirs, &Carry::Each, &mut |_| Resolution::Overlap).unwrap();
    assert_eq!(replay.mapping.len(), 2);
    assert_eq!(
        replay.overlaps.iter().map(|it| it.path.to_string()).collect::<Vec<_>>(),
        ["f/a.yaml"]
    );
    let tip = replay.tip.to_string();
    assert_eq!(it.git(&["show", &format!("{tip}:f/a.yaml")]), "theirs\n");
    assert_eq!(it.git(&["show", &format!("{tip}:f/b.yaml")]), "ours\n");
    assert_eq!(it.git(&["show", &format!("{tip}:README")]), "theirs\n");
    assert_eq!(
        it.git(&["log", "--format=%an", &tip]),
        "git-intake\ngit-intake\nA Person\nA Person\n"
    );
    it.git(&["switch", "-q", "main"]);
    let author = it.draft(&[]).author;
    let main = "refs/heads/main";
    assert_eq!(
        it.repo.move_branch(main, Some(base), replay.tip, &author, "x").unwrap(),
        Follow::Contended
    );
    assert_eq!(
        it.repo.move_branch(main, Some(ours), replay.tip, &author, "x").unwrap(),
        Follow::Moved
    );
    it.git(&["fsck", "--strict"]);
}

#[test]
fn packs_that_were_read_are_unmapped_when_they_are_let_go() {
    let mut it = seeded();
    let commit = it.commit(&[("a.yaml", "a: 1\n")]);
    it.repo.open_anew().unwrap();
    let objects = it.repo.work_tree().join(".git/objects/pack");
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|it| it.contains(objects.to_str().unwrap())).count()
    };
    assert_eq!(mapped(), 0);
    it.repo.blobs_at(Some(commit), [&b"a.yaml"[..]]).unwrap();
    assert_ne!(mapped(), 0);
    it.repo.open_anew().unwrap();
    assert_eq!(mapped(), 0);
}

#[test]
fn many_small_packs_are_folded_into_one() {
    let it = seeded();
    for n in 0..70 {
        it.commit(&[(&format!("f/v{n}.yaml"), &format!("{n}\n"))]);
        it.repo.fold_packs().unwrap();
    }
    assert!(it.packs() < 20, "{}", it.packs());
    assert_eq!(it.git(&["fsck", "--strict"]), "");
    assert_eq!(it.git(&["ls-tree", "-r", "--name-only", "HEAD"]).lines().count(), 71);
}

#[test]
fn large_packs_are_folded_a_part_at_a_time() {
    let it = seeded();
    let noise = |n: u64| -> String {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b' ' + u8::try_from(state % 95).unwrap())
        };
        (0..400_000).map(|_| next()).collect()
    };
    for n in 0..63 {
        it.commit(&[(&format!("f/v{n}.yaml"), &noise(n))]);
    }
    it.repo.fold_packs().unwrap();
    let before = it.packs();
    it.commit(&[("f/v63.yaml", &noise(63))]);
    it.repo.fold_packs().unwrap();
    let after = it.packs();
    assert!(before > 60 && (8..40).contains(&after), "{before} {after}");
    assert_eq!(it.git(&["fsck", "--strict"]), "");
    it.repo.fold_packs().unwrap();
    assert_eq!(it.packs(), after, "there are few enough");
}

#[test]
fn a_failed_step_moves_nothing_or_all_of_it() {
    const INDEX: u64 = 7;
    let it = seeded();
    let mut moved: Vec<bool> = Vec::new();
    for n in 1.. {
        let before = it.repo.head().unwrap();
        let taken = it.steps.taken();
        it.steps.fail_once(n);
        let done = it.repo.commit(&it.draft(&[("f/a.yaml", &n.to_string())]));
        it.repo.let_go_of_index();
        it.git(&["fsck", "--strict"]);
        assert!(!it.dir.path().join(".git/HEAD.lock").exists(), "{n}");
        assert!(!it.dir.path().join(".git/refs/heads/main.lock").exists(), "{n}");
        if it.steps.taken() - taken < n {
            break;
        }
        moved.push(it.repo.head().unwrap() != before);
        assert!(done.is_err() || n == INDEX, "{n}");
        // Another repository value, which holds nothing in doubt.
        it.repo.make_durable(it.repo.head().unwrap().commit.unwrap()).unwrap();
        it.repo.durable.set(None);
    }
    // Pack: write, two syncs, rename, sync; what the index owes: sync; its lock, without which a
    // commit goes on; history: sync; branch: move, sync, rename, sync. Only the last one is behind the
    // renaming.
    let expected = (1..=12).map(|n| n == INDEX || n == 12);
    assert_eq!(moved, expected.collect::<Vec<_>>());
}

#[test]
fn nobody_commits_from_an_index_that_is_behind() {
    let it = seeded();
    let commit = |name: &str| {
        let name = format!("f/{name}.yaml");
        let outcome = it.repo.commit(&it.draft(&[(&name, "x\n")]));
        assert!(matches!(outcome, Ok(CommitOutcome::Committed(_))), "{outcome:?}");
    };
    commit("a");
    assert!(it.repo.holds_index() && !it.repo.index_is_locked(), "it is ours");
    let git = std::process::Command::new("git")
        .current_dir(it.dir.path())
        .args([
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@b",
            "commit",
            "--allow-empty",
            "-m",
            "mine",
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&git.stderr).contains("index.lock"), "{git:?}");
    commit("b");
    assert_eq!(it.repo.pay_index().unwrap(), IndexOutcome::Refreshed);
    assert!(!it.repo.holds_index());
    it.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
    assert_eq!(it.git(&["ls-files"]), "README\nf/a.yaml\nf/b.yaml\n");
    assert_eq!(it.git(&["diff", "--name-only", "HEAD^", "HEAD"]), "");

    // Whoever was first goes on, and we without it.
    let lock = it.dir.path().join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    commit("c");
    assert!(!it.repo.holds_index() && it.repo.index_is_locked());
    assert_eq!(it.repo.pay_index().unwrap(), IndexOutcome::Locked);
    fs::remove_file(&lock).unwrap();
    // A commit that is not made leaves no lock behind.
    it.steps.fail_once(9);
    assert!(it.repo.commit(&it.draft(&[("f/d.yaml", "d\n")])).is_err());
    assert!(!it.repo.holds_index() && !lock.exists());
}

#[test]
fn a_branch_that_was_not_synced_is_written_again_before_anything_relies_on_it() {
    use std::os::unix::fs::MetadataExt;
    let it = seeded();
    it.steps.fail_once(12);
    assert!(it.repo.commit(&it.draft(&[("f/a.yaml", "a")])).is_err());
    let place = it.dir.path().join(".git/refs/heads/main");
    let (inode, text) = (fs::metadata(&place).unwrap().ino(), fs::read(&place).unwrap());
    let tip = it.repo.tip("refs/heads/main").unwrap().unwrap();
    // A sync that failed and now succeeds tells nothing about what was lost before.
    let taken = it.steps.taken();
    it.repo.make_durable(tip).unwrap();
    assert!(it.steps.taken() > taken + 2);
    assert_eq!(fs::read(&place).unwrap(), text);
    assert_ne!(fs::metadata(&place).unwrap().ino(), inode, "a new file, with a sync of its own");
    let taken = it.steps.taken();
    it.repo.make_durable(tip).unwrap();
    assert_eq!(it.steps.taken(), taken, "once is enough");
}

#[test]
fn a_lock_of_ours_that_a_kill_left_is_removed_at_start_and_no_other() {
    let it = seeded();
    let git_dir = it.dir.path().join(".git");
    let notes = git_dir.join("intake/locks/refs/heads");
    fs::create_dir_all(&notes).unwrap();
    for name in ["main", "other"] {
        fs::write(notes.join(name), "x").unwrap();
    }
    fs::write(git_dir.join("intake/locks/HEAD"), "").unwrap();
    fs::hard_link(notes.join("main"), git_dir.join("refs/heads/main.lock")).unwrap();
    fs::hard_link(git_dir.join("intake/locks/HEAD"), git_dir.join("HEAD.lock")).unwrap();
    // Somebody else's, with the same content.
    fs::write(git_dir.join("refs/heads/other.lock"), "x").unwrap();
    fs::write(git_dir.join("index.lock"), "").unwrap();
    assert_eq!(it.repo.clear_up().unwrap().leftovers, 2);
    assert!(!git_dir.join("refs/heads/main.lock").exists() && !git_dir.join("HEAD.lock").exists());
    assert!(git_dir.join("refs/heads/other.lock").exists() && git_dir.join("index.lock").exists());
    assert!(!notes.join("main").exists());
}

#[test]
fn a_branch_switched_in_the_middle_is_not_committed_to() {
    let it = seeded();
    it.git(&["branch", "other"]);
    let draft = it.draft(&[("f/a.yaml", "a")]);
    it.git(&["switch", "-q", "other"]);
    assert!(matches!(it.repo.commit(&draft).unwrap(), CommitOutcome::Moved { .. }));
    assert_eq!(it.git(&["rev-parse", "main"]), it.git(&["rev-parse", "other"]));
}

#[test]
fn the_reflogs_say_what_git_would_say() {
    let it = seeded();
    let before = it.git(&["rev-parse", "HEAD"]);
    it.commit(&[("f/a.yaml", "a")]);
    for name in ["HEAD", "main"] {
        assert_eq!(
            it.git(&["reflog", "-1", "--format=%gs %gn", name]),
            "commit: change git-intake\n"
        );
    }
    assert_eq!(it.git(&["rev-parse", "HEAD@{1}"]), before);
    it.git(&["reflog", "expire", "--expire=now", "--all"]);
}

/// A repository in which a power cut left what a blob was as `left`, after a run of ours.
fn after_a_power_cut(left: &[u8]) -> (Place, std::path::PathBuf) {
    let it = seeded();
    it.repo.clear_up().unwrap();
    // As a person's git writes it, loose.
    fs::write(it.dir.path().join("theirs"), "text\n").unwrap();
    it.git(&["add", "theirs"]);
    it.git(&["commit", "-qm", "theirs"]);
    let id = it.git(&["rev-parse", "HEAD:theirs"]);
    let object = it.dir.path().join(".git/objects").join(&id[..2]).join(id[2..].trim());
    fs::remove_file(&object).unwrap();
    fs::write(&object, left).unwrap();
    it.repo.running.set(false);
    (it, object)
}

#[test]
fn objects_that_a_power_cut_left_empty_or_torn_are_healed_at_start() {
    for left in [&b""[..], b"x\x01torn"] {
        let (it, object) = after_a_power_cut(left);
        let repo = Repo::discover(it.dir.path(), Steps::default()).unwrap();
        let cleared = repo.clear_up().unwrap();
        assert_eq!((cleared.broken.len(), cleared.mended), (1, 1));
        assert!(!object.exists());
        assert_eq!(it.git(&["fsck", "--strict"]), "");
        assert_eq!(it.git(&["show", "HEAD:theirs"]), "text\n");
        assert_eq!(repo.clear_up().unwrap().broken.len(), 0);
    }
}

#[test]
fn an_index_that_a_power_cut_left_empty_is_made_again() {
    let (it, _) = after_a_power_cut(b"");
    let staged = it.dir.path().join("staged");
    fs::write(&staged, "kept\n").unwrap();
    fs::write(it.dir.path().join(".git/index"), "").unwrap();
    let repo = Repo::discover(it.dir.path(), Steps::default()).unwrap();
    let cleared = repo.clear_up().unwrap();
    assert_eq!((cleared.broken.len(), cleared.mended), (2, 2));
    repo.pay_index().unwrap();
    assert_eq!(it.git(&["status", "--porcelain"]), "?? staged\n");
    assert_eq!(it.git(&["fsck", "--strict"]), "");
}

#[test]
fn what_the_index_owed_before_a_move_that_never_came_is_paid() {
    let it = seeded();
    let draft = it.draft(&[("f/a.yaml", "a")]);
    fs::create_dir(it.dir.path().join("f")).unwrap();
    fs::write(it.dir.path().join("f/a.yaml"), "a").unwrap();
    let CommitOutcome::Committed(ours) = it.repo.commit(&draft).unwrap() else { panic!() };
    // A replay was about to move the branch when the process ended.
    let replayed = it.git(&["commit-tree", "-p", "HEAD~1", "-m", "again", "HEAD^{tree}"]);
    let replayed = CommitId(gix::ObjectId::from_hex(replayed.trim().as_bytes()).unwrap());
    it.repo.owe_index(Some(ours), replayed).unwrap();
    assert_ne!(it.git(&["status", "--porcelain"]), "");
    it.repo.pay_index().unwrap();
    assert_eq!(it.git(&["status", "--porcelain"]), "");
}

#[test]
fn after_a_sync_of_all_that_failed_what_others_wrote_is_written_again() {
    use std::os::unix::fs::MetadataExt;
    let it = seeded();
    it.repo.clear_up().unwrap();
    it.git(&["repack", "-q"]);
    let packs = it.dir.path().join(".git/objects/pack");
    let all = fs::read_dir(&packs).unwrap().map(|it| it.unwrap().path());
    let pack = all.into_iter().find(|it| it.extension().is_some_and(|it| it == "pack")).unwrap();
    let before = fs::metadata(&pack).unwrap().ino();
    // As a person's git writes it, loose, and nobody forces it to the disk.
    fs::write(it.dir.path().join("theirs"), "text\n").unwrap();
    it.git(&["add", "theirs"]);
    it.git(&["commit", "-qm", "theirs"]);
    let tip = it.repo.tip("refs/heads/main").unwrap().unwrap();
    it.steps.fail_once(1);
    it.repo.make_durable(tip).unwrap_err();
    // Neither this process nor the next believes the sync that succeeds.
    let repo = Repo::discover(it.dir.path(), Steps::default()).unwrap();
    let count = |n: usize| assert_eq!(it.packs(), n);
    count(1);
    repo.make_durable(tip).unwrap();
    count(2);
    assert_ne!(fs::metadata(&pack).unwrap().ino(), before, "the pack is another file");
    let listed = it.git(&["cat-file", "--batch-all-objects", "--batch-check", "--unordered"]);
    assert_eq!(listed.lines().count(), 6);
    it.git(&["prune-packed"]);
    assert!(!it.dir.path().join(".git/objects").join(&tip.to_string()[..2]).exists());
    assert_eq!(it.git(&["fsck", "--strict"]), "");
    let taken = repo.steps.taken();
    repo.make_durable(tip).unwrap();
    assert_eq!(repo.steps.taken(), taken, "once is enough");
}

#[test]
fn what_others_wrote_a_moment_ago_is_synced_before_we_build_on_it() {
    let it = seeded();
    it.commit(&[("f/a.yaml", "a\n")]);
    let steps = |text: &str| {
        it.repo.let_go_of_index();
        let before = it.steps.taken();
        it.repo.commit(&it.draft(&[("f/b.yaml", text)])).unwrap();
        let taken = it.steps.taken() - before;
        it.repo.let_go_of_index();
        taken
    };
    let usual = steps("1\n");
    assert_eq!(steps("2\n"), usual, "our own is on the disk already");
    // The same content, as somebody's `git add` leaves it: loose, and not forced to the disk.
    fs::write(it.dir.path().join("theirs"), "3\n").unwrap();
    it.git(&["hash-object", "-w", "theirs"]);
    assert_eq!(steps("3\n"), usual + 1);
    it.git(&["commit", "-q", "--allow-empty", "-m", "theirs"]);
    assert_eq!(steps("4\n"), usual + 1);
}

#[test]
fn a_pack_whose_name_may_not_be_on_the_disk_is_written_again() {
    use std::os::unix::fs::MetadataExt;
    let it = seeded();
    it.steps.fail_once(5);
    assert!(it.repo.commit(&it.draft(&[("f/a.yaml", "a")])).is_err());
    let dir = it.dir.path().join(".git/objects/pack");
    let inodes = || -> std::collections::BTreeMap<std::ffi::OsString, u64> {
        let files = fs::read_dir(&dir).unwrap().map(|it| it.unwrap());
        files.map(|it| (it.file_name(), it.metadata().unwrap().ino())).collect()
    };
    let before = inodes();
    it.commit(&[("f/a.yaml", "a")]);
    let after = inodes();
    assert!(before.iter().all(|(name, inode)| after[name] != *inode), "each is a new file");
    it.git(&["fsck", "--strict"]);
}

#[test]
fn half_written_packs_of_a_killed_run_are_swept_and_those_of_others_are_not() {
    let it = seeded();
    let dir = it.dir.path().join(".git/objects/pack");
    fs::create_dir_all(&dir).unwrap();
    let ours = dir.join(format!("tmp_pack{}abc", it.repo.temp_mark()));
    let theirs = [dir.join("tmp_pack_XYZ"), dir.join(".tmpold"), dir.join("pack-1.keep")];
    fs::write(&ours, "x").unwrap();
    theirs.iter().for_each(|it| fs::write(it, "").unwrap());
    it.repo.clear_up().unwrap();
    assert!(!ours.exists() && theirs.iter().all(|it| it.exists()));
    // What gix leaves of a fetch that was killed has no owner in its name, so its time tells.
    std::thread::sleep(std::time::Duration::from_millis(20));
    it.repo.fetch_begins().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let (left, held) = (dir.join(".tmpnew"), dir.join(".tmplive"));
    fs::write(&left, "").unwrap();
    let writer = fs::File::create(&held).unwrap();
    it.repo.clear_up().unwrap();
    assert!(!left.exists() && held.exists() && theirs.iter().all(|it| it.exists()));
    drop(writer);
}

#[test]
fn the_index_follows_later_what_a_lock_kept_it_from() {
    let it = seeded();
    let lock = it.dir.path().join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    it.commit(&[("f/a.yaml", "a\n")]);
    it.commit(&[("f/a.yaml", "b\n"), ("f/b.yaml", "b\n")]);
    assert_eq!(it.repo.pay_index().unwrap(), IndexOutcome::Locked);
    assert_ne!(it.git(&["status", "--porcelain"]), "");
    fs::remove_file(&lock).unwrap();
    assert_eq!(it.repo.pay_index().unwrap(), IndexOutcome::Refreshed);
    assert_eq!(it.git(&["status", "--porcelain"]), "");
    // What a person staged since is theirs.
    fs::write(&lock, "").unwrap();
    it.commit(&[("f/a.yaml", "c\n")]);
    fs::remove_file(&lock).unwrap();
    fs::write(it.dir.path().join("f/a.yaml"), "staged\n").unwrap();
    it.git(&["add", "f/a.yaml"]);
    it.repo.pay_index().unwrap();
    assert_eq!(it.git(&["status", "--porcelain"]), "M  f/a.yaml\n");
}

#[test]
fn an_edit_between_our_writing_and_the_index_is_seen_by_git() {
    let it = seeded();
    let draft = it.draft(&[("f/a.yaml", "ours\n")]);
    fs::create_dir_all(it.dir.path().join("f")).unwrap();
    let CommitOutcome::Committed(id) = it.repo.commit(&draft).unwrap() else { panic!() };
    // As long as ours, so that only the content tells.
    fs::write(it.dir.path().join("f/a.yaml"), "mine\n").unwrap();
    it.repo.refresh_index(&["f/a.yaml".into()], draft.base, id).unwrap();
    assert_eq!(it.git(&["status", "--porcelain"]), " M f/a.yaml\n");
}

#[test]
fn an_edit_in_the_second_in_which_the_index_was_written_is_seen_by_git() {
    let it = seeded();
    let at = it.dir.path().join("f/a.yaml");
    // Until a write of the index and an edit fall into one second; the first try almost always.
    for n in 0.. {
        let second = || crate::clock::now().as_second();
        let begun = second();
        it.commit(&[("f/a.yaml", &format!("our{n}\n"))]);
        fs::write(&at, "mine\n").unwrap();
        if second() == begun {
            break;
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    it.commit(&[("f/b.yaml", "ours\n")]);
    assert_eq!(it.git(&["status", "--porcelain"]), " M f/a.yaml\n");
}

#[test]
fn a_ref_is_let_go_wherever_git_keeps_it_and_its_locks_are_told_from_others() {
    let it = seeded();
    let author = Author { name: "git-intake".into(), email: "i@example.com".into() };
    let names = ["refs/intake/conflicts/f/1", "refs/intake/conflicts/f/2"];
    for name in names {
        it.repo.keep(name, &[("record", b"x")], None, &author, "kept\n").unwrap();
    }
    it.git(&["tag", "-am", "v1", "v1"]);
    it.git(&["pack-refs", "--all"]);
    let others = it.git(&["for-each-ref", "refs/heads", "refs/tags"]);
    it.repo.let_go(names[0]).unwrap();
    assert_eq!(
        it.git(&["for-each-ref", "--format=%(refname)", "refs/intake"]),
        format!("{}\n", names[1])
    );
    it.repo.let_go(names[0]).unwrap();
    assert_eq!(it.git(&["for-each-ref", "refs/heads", "refs/tags"]), others);
    // Somebody else's lock: it stays, and so does the ref, until the next time.
    let lock = it.dir.path().join(".git/packed-refs.lock");
    fs::write(&lock, "").unwrap();
    it.repo.let_go(names[1]).unwrap();
    assert!(lock.exists() && it.repo.tip(names[1]).unwrap().is_some());
    fs::remove_file(&lock).unwrap();
    it.repo.let_go(names[1]).unwrap();
    assert_eq!(it.git(&["for-each-ref", "refs/intake"]), "");
    assert_eq!(it.git(&["fsck", "--strict", "--no-dangling"]), "");
    assert!(!lock.exists());
}

#[test]
fn what_a_file_ever_held_is_known_and_what_another_held_is_not_its() {
    let it = seeded();
    let mine = "f/managed/vpcs/a.yaml";
    it.commit(&[(mine, "one\n"), ("g/managed/vpcs/a.yaml", "theirs\n")]);
    it.git(&["switch", "-qc", "side"]);
    fs::write(it.dir.path().join(mine), "aside\n").unwrap();
    it.git(&["commit", "-qam", "side"]);
    it.git(&["switch", "-q", "main"]);
    it.commit(&[("other", "x\n")]);
    it.git(&["merge", "-q", "--no-edit", "side"]);
    fs::remove_file(it.dir.path().join(mine)).unwrap();
    it.git(&["commit", "-qam", "gone"]);
    let tip = it.commit(&[(mine, "two\n")]);
    let ever = |text: &str, at: &str| {
        let blob = it.repo.blob_id_of(text.as_bytes()).unwrap();
        it.repo.ever_held(tip, &path(at), blob).unwrap()
    };
    for text in ["one\n", "aside\n", "two\n"] {
        assert!(ever(text, mine), "{text}");
    }
    for (text, at) in [
        ("theirs\n", mine),
        ("nowhere\n", mine),
        ("one\n", "g/managed/vpcs/a.yaml"),
        ("one\n", "f/managed"),
        ("one\n", "f/managed/vpcs/a.yaml/b"),
        ("hello\n", mine),
    ] {
        assert!(!ever(text, at), "{text} at {at}");
    }
}
