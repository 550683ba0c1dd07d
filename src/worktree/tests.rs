//! The hand on real files, in real directories.
#![allow(clippy::disallowed_methods)]

use super::watch::{Wake, Watcher};
use super::*;
use crate::model::path::RawPath;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

struct Place {
    dir: tempfile::TempDir,
    tree: WorkTree,
}

fn raw() -> RepoPath {
    RepoPath::parse("f/raw").unwrap()
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("f/raw")).unwrap();
    let tree = WorkTree::open(dir.path(), Steps::default()).unwrap();
    Place { dir, tree }
}

impl Place {
    fn raw(&self, name: &str) -> PathBuf {
        self.dir.path().join("f/raw").join(name)
    }

    fn names(&self) -> Vec<String> {
        let listing = self.tree.list_raw(&raw(), ListLimits::default()).unwrap();
        listing.entries.iter().map(|it| it.path.to_string()).collect()
    }
}

#[test]
fn only_what_is_named_like_a_manifest_is_listed() {
    let it = place();
    fs::create_dir_all(it.raw("team/.hidden")).unwrap();
    fs::create_dir_all(it.raw("processed")).unwrap();
    for name in [
        "a.yaml",
        "team/b.YML",
        "c.json",
        "README.md",
        ".d.yaml",
        "e.yaml~",
        "f.yaml.part",
        "#g.yaml#",
        "a.yaml.rejected.txt",
        "team/.hidden/h.yaml",
        "processed/i.yaml",
        ".j.yaml.swp",
        "4913",
    ] {
        fs::write(it.raw(name), "x").unwrap();
    }
    assert_eq!(it.names(), ["a.yaml", "c.json", "team/b.YML"]);
}

#[test]
fn a_file_held_open_for_writing_is_busy() {
    let it = place();
    let writer = fs::File::create(it.raw("a.yaml")).unwrap();
    let path = RawPath::new("a.yaml");
    assert!(matches!(it.tree.read_raw(&raw(), &path, 100).unwrap(), ReadRaw::Busy));
    drop(writer);
    assert!(matches!(
        it.tree.read_raw(&raw(), &path, 100).unwrap(),
        ReadRaw::Read { leased: true, .. }
    ));
}

#[test]
fn what_is_no_file_is_never_read_and_never_blocks() {
    let it = place();
    fs::write(it.dir.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink("../../secret", it.raw("link.yaml")).unwrap();
    std::os::unix::fs::symlink("..", it.raw("up")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        it.raw("pipe.yaml"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fs::create_dir(it.raw("dir.yaml")).unwrap();
    for name in ["link.yaml", "up/raw/link.yaml", "pipe.yaml", "dir.yaml"] {
        let read = it.tree.read_raw(&raw(), &RawPath::new(name), 100).unwrap();
        assert!(matches!(read, ReadRaw::NotRegular), "{name}: {read:?}");
    }
    fs::write(it.raw("big.yaml"), [b'x'; 101]).unwrap();
    let read = it.tree.read_raw(&raw(), &RawPath::new("big.yaml"), 100).unwrap();
    assert!(matches!(read, ReadRaw::TooLarge { bytes: 101, max: 100 }));
    let read = it.tree.read_raw(&raw(), &RawPath::new("none.yaml"), 100).unwrap();
    assert!(matches!(read, ReadRaw::Gone));
}

#[test]
fn a_drop_leaves_only_while_it_is_the_same_drop() {
    let it = place();
    let path = RawPath::new("a.yaml");
    fs::write(it.raw("a.yaml"), "one").unwrap();
    let id = crate::model::digest::Sha256::of_drop(b"a.yaml", b"one");
    fs::write(it.raw("a.yaml"), "two").unwrap();
    assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Replaced);
    assert_eq!(fs::read(it.raw("a.yaml")).unwrap(), b"two");
    fs::write(it.raw("a.yaml"), "one").unwrap();
    assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Removed);
    assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Gone);
    assert_eq!(fs::read_dir(it.raw("")).unwrap().count(), 0);
}

#[test]
fn a_claim_that_a_crash_left_is_a_drop_again() {
    let it = place();
    fs::create_dir(it.raw("team")).unwrap();
    fs::write(it.raw("team/.git-intake-taken-a.yaml"), "one").unwrap();
    assert_eq!(it.names().len(), 0);
    assert_eq!(it.tree.restore_claims(&raw()).unwrap(), 1);
    assert_eq!(it.names(), ["team/a.yaml"]);
}

#[test]
fn files_are_written_whole_with_their_directories_and_removed_with_them() {
    let it = place();
    let path = RepoPath::parse("f/managed/vpcs/x.yaml").unwrap();
    let bytes: Arc<[u8]> = Arc::from(&b"kind: VPC\n"[..]);
    it.tree.write_all(&[(path.clone(), bytes)]).unwrap();
    assert_eq!(it.tree.read(&path, 100).unwrap().unwrap(), b"kind: VPC\n");
    assert!(it.tree.remove(&path, &RepoPath::parse("f/managed").unwrap()).unwrap());
    assert!(!it.dir.path().join("f/managed/vpcs").exists());
    assert!(it.dir.path().join("f/managed").exists());
}

#[test]
fn nothing_is_written_through_a_symbolic_link() {
    let it = place();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), it.dir.path().join("f/managed")).unwrap();
    let path = RepoPath::parse("f/managed/x.yaml").unwrap();
    assert!(it.tree.write_all(&[(path, Arc::from(&b"x"[..]))]).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(it.tree.check_directory(&RepoPath::parse("f/managed").unwrap()).is_err());
}

#[test]
fn a_failed_write_leaves_no_temporary_file() {
    let it = place();
    let path = RepoPath::parse("f/x.yaml").unwrap();
    for n in 1..=3 {
        it.tree.steps.fail_once(n);
        assert!(it.tree.write_all(&[(path.clone(), Arc::from(&b"x"[..]))]).is_err(), "{n}");
        assert_eq!(it.tree.read(&path, 10).unwrap(), None, "{n}");
        let left = fs::read_dir(it.dir.path().join("f")).unwrap().count();
        assert_eq!(left, 1, "{n}: only raw/");
    }
}

#[test]
fn a_report_is_written_once_and_goes_with_its_drop() {
    let it = place();
    let drop = RawPath::new("a.yaml");
    it.tree.write_report(&raw(), &drop, "wrong").unwrap();
    let before = it.tree.steps.taken();
    it.tree.write_report(&raw(), &drop, "wrong").unwrap();
    assert_eq!(it.tree.steps.taken(), before, "the same report is no work");
    assert_eq!(fs::read(it.raw("a.yaml.rejected.txt")).unwrap(), b"wrong");
    it.tree.remove_report(&raw(), &drop).unwrap();
    assert!(!it.raw("a.yaml.rejected.txt").exists());
}

#[test]
fn the_kernel_wakes_us_for_a_closed_file_and_for_new_directories_but_not_for_reads() {
    let it = place();
    let (sender, receiver) = crossbeam_channel::bounded(100);
    let mut watcher = Watcher::new(it.dir.path(), &[raw()], sender).unwrap();
    let wait = Duration::from_secs(5);
    fs::write(it.raw("a.yaml"), "x").unwrap();
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("a.yaml") };
    while receiver.recv_timeout(wait).unwrap() != closed {}
    fs::create_dir(it.raw("team")).unwrap();
    while receiver.recv_timeout(wait).unwrap() != Wake::Rescan {}
    watcher.catch_up().unwrap();
    fs::write(it.raw("team/b.yaml"), "x").unwrap();
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("team/b.yaml") };
    while receiver.recv_timeout(wait).unwrap() != closed {}
    it.tree.read_raw(&raw(), &RawPath::new("a.yaml"), 10).unwrap();
    it.tree.write_report(&raw(), &RawPath::new("a.yaml"), "wrong").unwrap();
    fs::write(it.raw("z.yaml"), "x").unwrap();
    // What comes next is the file made last, and nothing of the reading and reporting before it.
    let next = receiver.recv_timeout(wait).unwrap();
    assert!(matches!(next, Wake::Touched { .. } | Wake::Closed { .. }), "{next:?}");
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("z.yaml") };
    let mut last = next;
    while last != closed {
        last = receiver.recv_timeout(wait).unwrap();
    }
    assert!(!watcher.lost_wakes());
}
