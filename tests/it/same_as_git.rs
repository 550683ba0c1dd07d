//! For random histories and random boundaries: after our push a remote holds what it would hold
//! after `git push`.
//!
//! A failure prints its seed; `PUSH_SEED=n` runs only that.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{fmt::Write as _, io::Write as _, path::Path, process::Stdio};

use git_intake::push::{Expect, Options, RefUpdate};
use gix::{ObjectId, bstr::ByteSlice};
use tempfile::TempDir;

use crate::remote::{git, run};

/// A small generator whose whole state is its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }
}

const COMMITS: usize = 25;

/// Commits with merges, renames, deletions, modes, links and submodules, each under a name.
fn history(dice: &mut Dice, digits: usize) -> String {
    let mut out = String::new();
    for n in 1..=COMMITS {
        let time = 1_700_000_000 + dice.roll(500) + n * if dice.roll(5) == 0 { 0 } else { 100 };
        writeln!(out, "commit refs/heads/c{n}\nmark :{n}").unwrap();
        writeln!(out, "committer C <c@example.com> {time} +0000\ndata 1\nx").unwrap();
        if n > 1 && dice.roll(12) > 0 {
            writeln!(out, "from :{}", n - 1 - dice.roll((n - 1).min(4))).unwrap();
            if n > 3 && dice.roll(4) == 0 {
                writeln!(out, "merge :{}", 1 + dice.roll(n - 1)).unwrap();
            }
        }
        for _ in 0..1 + dice.roll(5) {
            let path = format!("d{}/e{}/f{}", dice.roll(3), dice.roll(3), dice.roll(8));
            let text = format!("{}\n", dice.roll(40)).repeat(1 + dice.roll(60));
            let data = format!("data {}\n{text}", text.len());
            match dice.roll(10) {
                0 => writeln!(out, "D {path}").unwrap(),
                1 => writeln!(out, "M 100755 inline {path}\n{data}").unwrap(),
                2 => writeln!(out, "M 120000 inline {path}\ndata 3\nabc").unwrap(),
                3 => {
                    let id = format!("{:0digits$x}", 1 + dice.roll(9));
                    writeln!(out, "M 160000 {id} sub{}", dice.roll(3)).unwrap();
                }
                4 => writeln!(out, "D d{}", dice.roll(3)).unwrap(),
                5 => writeln!(out, "M 100644 inline top\n{data}\nC top {path}").unwrap(),
                6 => writeln!(out, "M 100644 inline moving\n{data}\nR moving {path}").unwrap(),
                _ => writeln!(out, "M 100644 inline {path}\n{data}").unwrap(),
            }
        }
        writeln!(out).unwrap();
        if dice.roll(6) == 0 {
            let tag = format!("tag t{n}\nfrom :{n}\ntagger T <t@example.com> {time} +0000\n");
            write!(out, "{tag}data 1\nx\n").unwrap();
        }
    }
    out
}

fn import(dir: &Path, stream: &str) {
    let mut child =
        git(dir).args(["fast-import", "--quiet", "--force"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{stream}");
}

fn objects(dir: &Path) -> Vec<String> {
    let listed = run(dir, &["rev-list", "--objects", "--all", "--no-object-names"]);
    let mut out: Vec<_> = listed.lines().map(str::to_owned).collect();
    out.sort();
    out.push(run(dir, &["for-each-ref"]));
    out
}

fn held(dir: &Path) -> usize {
    let listed = run(dir, &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    listed.lines().count()
}

fn compare(seed: u64) {
    let dice = &mut Dice(seed);
    let dir: TempDir = tempfile::tempdir().unwrap();
    let (local, ours, theirs) =
        (dir.path().join("local"), dir.path().join("ours"), dir.path().join("theirs"));
    let (format, digits) = if seed % 4 == 3 { ("sha256", 64) } else { ("sha1", 40) };
    let format = format!("--object-format={format}");
    run(dir.path(), &["init", "--quiet", &format, "local"]);
    import(&local, &history(dice, digits));
    if dice.roll(2) == 0 {
        // Deltas between all versions, in an order of git's own.
        run(&local, &["repack", "-adfq"]);
    }
    for remote in [&ours, &theirs] {
        run(dir.path(), &["init", "--quiet", "--bare", &format, remote.to_str().unwrap()]);
    }
    let mut round = |share: usize| {
        let mut names: Vec<String> = (1..=COMMITS).map(|n| format!("refs/heads/c{n}")).collect();
        names.extend(run(&local, &["tag"]).lines().map(|it| format!("refs/tags/{it}")));
        names.retain(|_| dice.roll(share) == 0);
        if names.is_empty() {
            return;
        }
        let mut command = vec!["push", "--quiet", theirs.to_str().unwrap()];
        let specs: Vec<_> = names.iter().map(|it| format!("{it}:{it}")).collect();
        command.extend(specs.iter().map(String::as_str));
        run(&local, &command);
        let repo = gix::open_opts(&local, gix::open::Options::isolated()).unwrap();
        let update = |name: &String| {
            let id = ObjectId::from_hex(run(&local, &["rev-parse", name]).as_bytes()).unwrap();
            RefUpdate { name: name.as_str().into(), new: id, expect: Expect::FastForward }
        };
        let updates: Vec<_> = names.iter().map(update).collect();
        let url = gix::url::parse(ours.to_str().unwrap().as_bytes().as_bstr()).unwrap();
        let before = held(&ours);
        let outcome =
            git_intake::push::push(&repo, &url, &updates, &mut Options::default()).unwrap();
        assert!(outcome.is_ok(), "{outcome:?}");
        run(&ours, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(objects(&ours), objects(&theirs));
        // What was sent was needed: clocks that lie are git's excuse too.
        assert!(held(&ours) <= before + outcome.pack.objects as usize);
    };
    round(6);
    round(4);
    round(1);
}

#[test]
fn a_remote_holds_what_git_push_would_have_given_it() {
    if let Ok(seed) = std::env::var("PUSH_SEED") {
        return compare(seed.parse().unwrap());
    }
    for seed in 0..12 {
        eprintln!("seed {seed}");
        compare(seed);
    }
}
