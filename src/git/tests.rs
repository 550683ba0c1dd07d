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
    let replay = it.repo.replay(ours, theirs).unwrap();
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
fn a_failed_step_moves_nothing() {
    let it = seeded();
    let before = it.repo.head().unwrap();
    // Pack, sync, sync, rename, sync, move: only behind the last has the branch moved.
    for n in 1..=6 {
        it.steps.fail_once(n);
        assert!(it.repo.commit(&it.draft(&[("f/a.yaml", &n.to_string())])).is_err(), "{n}");
        assert_eq!(it.repo.head().unwrap(), before, "{n}");
        it.git(&["fsck", "--strict"]);
    }
}
