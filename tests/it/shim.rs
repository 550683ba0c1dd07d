//! `push-shim` beside `git push`: the same words, exit codes and references, form by form.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::remote::{ENVIRONMENT, git, run};

/// The example beside this test's own binary. `cargo test` builds both; a nested cargo would see
/// other variables than the outer one and build half the world again.
pub fn shim() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let shim = profile.join("examples/push-shim");
    assert!(shim.is_file(), "{} is not built: cargo build --example push-shim", shim.display());
    shim
}

/// A clone and its remote, at the same paths in two worlds.
struct World(TempDir);

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &["init", "--quiet", "--bare", "-b", "main", "remote.git"]);
        run(dir.path(), &["init", "--quiet", "-b", "main", "local"]);
        let world = World(dir);
        for n in 0..3 {
            fs::write(world.local().join("file"), format!("{n}\n")).unwrap();
            world.git(&["add", "-A"]);
            world.git(&["commit", "--quiet", "-m", "x"]);
        }
        world.git(&["tag", "-a", "-m", "t", "v1", "HEAD~1"]);
        world.git(&["remote", "add", "origin", "../remote.git"]);
        world.git(&[
            "push",
            "--quiet",
            "origin",
            "HEAD~1:refs/heads/main",
            "HEAD:refs/heads/ahead",
        ]);
        world.git(&["branch", "old", "HEAD~2"]);
        world
    }

    /// The same world once more, elsewhere.
    fn copy(&self) -> World {
        let dir = tempfile::tempdir().unwrap();
        for part in ["remote.git", "local"] {
            let copied =
                Command::new("cp").arg("-a").arg(self.0.path().join(part)).arg(dir.path()).status();
            assert!(copied.unwrap().success());
        }
        World(dir)
    }

    fn local(&self) -> PathBuf {
        self.0.path().join("local")
    }

    fn git(&self, args: &[&str]) -> String {
        run(&self.local(), args)
    }

    fn references(&self) -> [String; 2] {
        let list = |dir: &Path| run(dir, &["for-each-ref"]);
        [list(&self.0.path().join("remote.git")), list(&self.local())]
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        // Advice is git's own to give at length.
        // The receiving git's own complaint, when the sending one leaves without a word.
        let theirs = |it: &&str| *it != "fatal: the remote end hung up unexpectedly";
        let lines = text.lines().filter(|it| !it.starts_with("hint:")).filter(theirs);
        let lines = lines.map(str::trim_end).filter(|it| !it.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    };
    let code = output.status.code();
    format!("exit {code:?}\n{}\n--- stderr\n{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_shim_says_what_git_says() {
    let shim = shim();
    let hooked = "#!/bin/sh\necho hello from the hook\ncase $1 in */bad) exit 1;; esac\n";
    let mut different = Vec::new();
    let template = World::new();
    for form in [
        "origin main",
        "origin HEAD",
        "origin main:main main:refs/heads/new",
        "origin v1",
        "origin v1 main",
        "--porcelain origin main v1",
        "origin ahead~1:ahead",
        "--force origin main~1:ahead",
        "origin +main~1:ahead",
        "--porcelain origin main~1:ahead main",
        "--atomic origin main~1:ahead main",
        "--atomic --porcelain origin main~1:ahead main :old",
        "--all origin",
        "--tags origin",
        "--mirror origin",
        "--prune origin refs/heads/*:refs/heads/*",
        "--follow-tags origin main",
        "origin refs/heads/*:refs/heads/x/*",
        "origin :",
        "--atomic origin main main:bad",
        "origin main main:bad",
        "--porcelain origin main main:bad",
        "--delete origin ahead",
        "-d origin ahead main",
        "origin :ahead",
        "--porcelain origin :ahead",
        "--force-with-lease origin main~1:ahead",
        "--force-with-lease=ahead:main~2 origin main~1:ahead",
        "--force-with-lease=ahead:main origin main~1:ahead",
        "--force-with-lease=new: origin main:new",
        "-v origin main~1:main",
        "origin main~1:main",
        "--porcelain origin main~1:main",
        "-q origin main",
        "-n origin main",
        "-u origin main",
        "--receive-pack=../fails origin main",
        "--receive-pack=../fails --porcelain origin main v1",
        "../remote.git main",
        "nowhere main",
    ] {
        let mut answers = Vec::new();
        for ours in [false, true] {
            let world = template.copy();
            let hook = world.0.path().join("remote.git/hooks/update");
            fs::create_dir_all(hook.parent().unwrap()).unwrap();
            fs::write(&hook, hooked).unwrap();
            run(world.0.path(), &["-C", "remote.git", "config", "receive.denyDeletes", "false"]);
            let fails = world.0.path().join("fails");
            fs::write(&fails, "#!/bin/sh\ngit-receive-pack \"$@\"\nexit 1\n").unwrap();
            Command::new("chmod").arg("+x").args([&hook, &fails]).status().unwrap();
            let mut command = if ours {
                let mut command = Command::new(&shim);
                command.envs(ENVIRONMENT);
                command
            } else {
                let mut command = git(Path::new("/"));
                command.arg("push");
                command
            };
            let form = form.replace("ahead~1:", "main~2:");
            let output = command.args(form.split(' ')).current_dir(world.local()).output();
            let output = output.unwrap();
            answers.push((said(&output), world.references()));
        }
        let (ours, theirs) = (answers.pop().unwrap(), answers.pop().unwrap());
        if form.starts_with("nowhere") {
            // What failed is put in other words; that it failed is the same.
            assert_eq!(ours.0.lines().next(), theirs.0.lines().next());
            continue;
        }
        if ours != theirs {
            let references = if ours.1 == theirs.1 { "the same" } else { "different" };
            let (ours, theirs) = (ours.0, theirs.0);
            let text = format!("references: {references}\nours: {ours}\ngit's: {theirs}");
            different.push(format!("git push {form}\n{text}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
