//! The hand on real files, in real directories.
#![allow(clippy::disallowed_methods)]

use super::watch::{Wake, Watched, Watcher};
use super::*;
use crate::model::path::RawPath;
use crate::model::report::Ignored;
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

fn report(drop: &RawPath) -> RepoPath {
    let name = crate::model::fabric::FabricName::parse("f").unwrap();
    let dir = RepoPath::parse("f").unwrap();
    crate::pipeline::tracked::report_path(&crate::model::fabric::Fabric::flat(name, dir), drop)
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

    /// What could be a drop, and what is left alone.
    fn listed(&self) -> (Vec<RawPath>, Vec<(RawPath, Ignored)>) {
        let (mut entries, mut ignored) = (Vec::new(), Vec::new());
        self.tree
            .list_raw(&raw(), &Ignores::default(), &mut |it| match it {
                Listed::Entry(it) => entries.push(RawPath::new(it.path)),
                Listed::Ignored { path, why, .. } => ignored.push((RawPath::new(path), why)),
            })
            .unwrap();
        entries.sort();
        (entries, ignored)
    }

    fn names(&self) -> Vec<String> {
        self.listed().0.iter().map(ToString::to_string).collect()
    }

    fn read(&self, path: &RawPath, bytes_max: u64) -> ReadRaw {
        let found = rustix::fs::lstat(self.dir.path().join("f/raw").join(path.as_path()));
        let zero = rustix::fs::fstat(&self.tree.top).unwrap();
        let expected = list::fingerprint(&found.unwrap_or(zero));
        self.tree.read_raw(&raw(), path, &expected, bytes_max).unwrap()
    }

    fn watcher(&self, wakes: usize) -> (Watcher, crossbeam_channel::Receiver<Wake>) {
        let (sender, receiver) = crossbeam_channel::bounded(wakes);
        let watched = Watched { raw: raw(), ignores: Ignores::default() };
        let own = self.tree.own_moves();
        (Watcher::new(self.dir.path(), vec![watched], own, sender), receiver)
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
    assert!(matches!(it.read(&path, 100), ReadRaw::Busy));
    drop(writer);
    assert!(matches!(it.read(&path, 100), ReadRaw::Read { leased: true, .. }));
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
        let read = it.read(&RawPath::new(name), 100);
        assert!(matches!(read, ReadRaw::NotRegular), "{name}: {read:?}");
    }
    fs::write(it.raw("big.yaml"), [b'x'; 101]).unwrap();
    let read = it.read(&RawPath::new("big.yaml"), 100);
    assert!(matches!(read, ReadRaw::TooLarge { bytes: 101, max: 100 }));
    let read = it.read(&RawPath::new("none.yaml"), 100);
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
    it.tree.write_report(&report(&drop), "wrong").unwrap();
    let before = it.tree.steps.taken();
    it.tree.write_report(&report(&drop), "wrong").unwrap();
    assert_eq!(it.tree.steps.taken(), before, "the same report is no work");
    assert_eq!(fs::read(it.raw("a.yaml.rejected.txt")).unwrap(), b"wrong");
    it.tree.remove_report(&report(&drop)).unwrap();
    assert!(!it.raw("a.yaml.rejected.txt").exists());
}

#[test]
fn the_kernel_wakes_us_for_a_closed_file_and_for_new_directories_but_not_for_reads() {
    let it = place();
    let (mut watcher, receiver) = it.watcher(100);
    let wait = Duration::from_secs(5);
    fs::write(it.raw("a.yaml"), "x").unwrap();
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("a.yaml") };
    while receiver.recv_timeout(wait).unwrap() != closed {}
    fs::create_dir(it.raw("team")).unwrap();
    while receiver.recv_timeout(wait).unwrap() != Wake::Rescan {}
    watcher.catch_up();
    fs::write(it.raw("team/b.yaml"), "x").unwrap();
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("team/b.yaml") };
    while receiver.recv_timeout(wait).unwrap() != closed {}
    it.read(&RawPath::new("a.yaml"), 10);
    it.tree.write_report(&report(&RawPath::new("a.yaml")), "wrong").unwrap();
    fs::write(it.raw("z.yaml"), "x").unwrap();
    // What comes next is the file made last, and nothing of the reading and reporting before it.
    assert_eq!(receiver.recv_timeout(wait), Ok(Wake::Begun { fabric: 0 }));
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("z.yaml") };
    assert_eq!(receiver.recv_timeout(wait), Ok(closed));
    assert!(!watcher.lost_wakes());
}

#[test]
fn a_drop_that_a_link_or_a_pipe_replaced_stays_in_sight() {
    let it = place();
    let path = RawPath::new("a.yaml");
    let id = crate::model::digest::Sha256::of_drop(b"a.yaml", b"one");
    std::os::unix::fs::symlink("elsewhere", it.raw("a.yaml")).unwrap();
    assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Replaced);
    assert!(it.raw("a.yaml").is_symlink());
    fs::remove_file(it.raw("a.yaml")).unwrap();
    let mode = Mode::from_raw_mode(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, it.raw("a.yaml"), fifo, mode, 0).unwrap();
    assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Replaced);
    assert!(it.raw("a.yaml").exists());
}

#[test]
fn a_drop_that_cannot_be_taken_away_is_taken_at_the_next_try() {
    for n in 1..=2 {
        let it = place();
        let path = RawPath::new("a.yaml");
        let id = crate::model::digest::Sha256::of_drop(b"a.yaml", b"one");
        fs::write(it.raw("a.yaml"), "one").unwrap();
        it.tree.steps.fail_once(n);
        assert!(it.tree.remove_raw(&raw(), &path, &id, 100).is_err(), "{n}");
        assert!(it.raw("a.yaml").exists(), "{n}: still in sight");
        assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Removed);
        // The process died after its claim: whoever tries again finishes it.
        fs::write(it.raw(".git-intake-taken-a.yaml"), "one").unwrap();
        assert_eq!(it.tree.remove_raw(&raw(), &path, &id, 100).unwrap(), Removal::Removed);
        assert_eq!(fs::read_dir(it.raw("")).unwrap().count(), 0, "{n}");
    }
}

#[test]
fn no_claim_is_lost_when_its_name_is_taken() {
    let it = place();
    for (name, text) in [
        (".git-intake-taken-a.yaml", "oldest"),
        ("recovered-1-a.yaml", "older"),
        ("a.yaml", "newest"),
    ] {
        fs::write(it.raw(name), text).unwrap();
    }
    assert_eq!(it.tree.restore_claims(&raw()).unwrap(), 1);
    assert_eq!(it.names(), ["a.yaml", "recovered-1-a.yaml", "recovered-2-a.yaml"]);
    assert_eq!(fs::read(it.raw("recovered-2-a.yaml")).unwrap(), b"oldest");
    // A drop that was written again while its claim was undecided: both stay.
    fs::write(it.raw(".git-intake-taken-b.yaml"), "one").unwrap();
    fs::write(it.raw("b.yaml"), "two").unwrap();
    let other = crate::model::digest::Sha256::of_drop(b"b.yaml", b"three");
    let removal = it.tree.remove_raw(&raw(), &RawPath::new("b.yaml"), &other, 100).unwrap();
    assert_eq!(removal, Removal::Replaced);
    assert_eq!(fs::read(it.raw("b.yaml")).unwrap(), b"two");
    assert_eq!(fs::read(it.raw("recovered-1-b.yaml")).unwrap(), b"one");
}

#[test]
fn every_name_that_unix_allows_is_listed_read_and_taken_away() {
    use std::os::unix::ffi::OsStrExt as _;
    let it = place();
    let long = [&[b'n'; 250][..], b".yaml"].concat();
    let deep = "d/".repeat(30) + "a.yaml";
    for name in [
        &b"a\nb.yaml"[..],
        b"-rf.yaml",
        b"a b.yaml",
        b"\xff\xfe.yaml",
        "\u{202e}a.yaml".as_bytes(),
        b"a\\x41.yaml",
        b"git~1.yaml",
        b"\x1b[31m.json",
        &long,
        deep.as_bytes(),
    ] {
        let full = it.dir.path().join("f/raw").join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(&full, "one").unwrap();
        let (entries, _) = it.listed();
        assert_eq!(entries.len(), 1, "{name:?}");
        let path = &entries[0];
        assert_eq!(path.as_bytes(), name);
        let read = it.read(path, 10);
        let ReadRaw::Read { intake, .. } = read else { panic!("{name:?}: {read:?}") };
        it.tree.write_report(&report(path), "wrong").unwrap();
        it.tree.remove_report(&report(path)).unwrap();
        let removal = it.tree.remove_raw(&raw(), path, &intake.drop_id, 10).unwrap();
        assert_eq!(removal, Removal::Removed, "{name:?}");
        assert!(!full.exists());
    }
}

#[test]
fn a_directory_that_cannot_be_looked_into_is_told_and_keeps_no_other() {
    let it = place();
    let deep = "d/".repeat(list::DEPTH_MAX + 1);
    fs::create_dir_all(it.raw(&deep)).unwrap();
    fs::write(it.raw(&format!("{deep}a.yaml")), "x").unwrap();
    fs::write(it.raw("b.yaml"), "x").unwrap();
    let (entries, ignored) = it.listed();
    assert_eq!(entries, [RawPath::new("b.yaml")]);
    let deep = RawPath::new(deep.trim_end_matches('/'));
    assert_eq!(ignored, [(deep, Ignored::Unreadable)], "too deep is told, not passed over");
}

#[test]
fn a_directory_in_the_place_of_a_report_stops_nobody() {
    let it = place();
    fs::create_dir(it.raw("a.yaml.rejected.txt")).unwrap();
    it.tree.write_report(&report(&RawPath::new("a.yaml")), "wrong").unwrap();
    it.tree.remove_report(&report(&RawPath::new("a.yaml"))).unwrap();
    assert_eq!(fs::read_dir(it.raw("")).unwrap().count(), 1);
}

#[test]
fn a_write_that_meets_a_read_is_noticed_and_ends_nobody() {
    let it = place();
    fs::write(it.raw("a.yaml"), "one").unwrap();
    let file = fs::File::open(it.raw("a.yaml")).unwrap();
    assert_eq!(lease::take(&file), lease::Leased::Yes);
    let path = it.raw("a.yaml");
    // Opening blocks until the lease is given back; SIGIO comes at once.
    let writer = std::thread::spawn(move || fs::write(path, "two").unwrap());
    // SAFETY: F_GETLEASE takes no argument and only reads the state of an open descriptor.
    let held = || unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_GETLEASE) };
    while held() == libc::F_RDLCK {
        std::thread::yield_now();
    }
    assert!(!lease::release(&file), "the lease was asked back while we read");
    writer.join().unwrap();
}

#[test]
fn a_directory_made_again_is_watched_again() {
    let it = place();
    fs::create_dir(it.raw("team")).unwrap();
    let (mut watcher, receiver) = it.watcher(1000);
    let wait = Duration::from_secs(5);
    for n in 0..5 {
        fs::remove_dir_all(it.raw("team")).unwrap();
        fs::create_dir(it.raw("team")).unwrap();
        while receiver.recv_timeout(wait).unwrap() != Wake::Rescan {}
        watcher.catch_up();
        let name = format!("team/{n}.yaml");
        fs::write(it.raw(&name), "x").unwrap();
        let closed = Wake::Closed { fabric: 0, path: RawPath::new(name) };
        while receiver.recv_timeout(wait).unwrap() != closed {}
    }
    assert_eq!(watcher.blind(), None);
}

#[test]
fn files_moved_in_with_their_directory_are_announced_by_a_rescan() {
    let it = place();
    let (_watcher, receiver) = it.watcher(1000);
    fs::create_dir(it.dir.path().join("out")).unwrap();
    fs::write(it.dir.path().join("out/a.yaml"), "x").unwrap();
    fs::rename(it.dir.path().join("out"), it.raw("in")).unwrap();
    let wait = Duration::from_secs(5);
    while receiver.recv_timeout(wait).unwrap() != Wake::Rescan {}
    assert_eq!(it.names(), ["in/a.yaml"]);
}

const SHORT: &str = "GIT_INTAKE_TEST_WATCHES";

/// Runs where the kernel has two watches for us; the next test arranges it.
#[test]
fn a_child_with_two_watches() {
    if std::env::var_os(SHORT).is_none() {
        return;
    }
    let it = place();
    fs::create_dir(it.raw("one")).unwrap();
    let (watcher, receiver) = it.watcher(100);
    assert!(watcher.blind().unwrap().contains("sysctl fs.inotify.max_user_watches"));
    fs::write(it.raw("a.yaml"), "x").unwrap();
    let closed = Wake::Closed { fabric: 0, path: RawPath::new("a.yaml") };
    while receiver.recv_timeout(Duration::from_secs(5)).unwrap() != closed {}
}

#[test]
fn with_too_few_watches_those_that_stand_go_on() {
    let run = "echo 2 > /proc/sys/user/max_inotify_watches || exit 77; exec \"$0\" \"$@\"";
    let done = std::process::Command::new("unshare")
        .args(["-Ur", "sh", "-c", run])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "worktree::tests::a_child_with_two_watches"])
        .env(SHORT, "1")
        .output();
    // Where user namespaces are forbidden the limit cannot be set for one process alone.
    let Ok(done) = done else { return };
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(77) || said.contains("unshare:") {
        return;
    }
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn without_openat2_no_link_is_followed_either() {
    let it = place();
    fs::write(it.dir.path().join("secret"), "x").unwrap();
    fs::write(it.raw("a.yaml"), "x").unwrap();
    std::os::unix::fs::symlink("../../secret", it.raw("link.yaml")).unwrap();
    std::os::unix::fs::symlink("..", it.raw("up")).unwrap();
    let open = |path: &str| {
        super::step_by_step(
            it.tree.top.as_fd(),
            path.as_bytes(),
            OFlags::RDONLY,
            Mode::empty(),
            ResolveFlags::empty(),
        )
    };
    assert!(open("f/raw/a.yaml").is_ok());
    assert!(open(".").is_ok());
    for path in
        ["f/raw/link.yaml", "f/raw/up/raw/a.yaml", "../x", "/etc/passwd", "f/../f/raw/a.yaml"]
    {
        assert!(open(path).is_err(), "{path}");
    }
}

#[test]
fn a_raw_directory_is_still_as_long_as_nothing_comes_or_goes() {
    let it = place();
    fs::write(it.raw("a.yaml"), "a").unwrap();
    let still = || it.tree.stillness(&raw());
    // It has just changed, and may change again within the same tick of the clock.
    assert_eq!(still(), None);
    std::thread::sleep(Duration::from_millis(3100));
    let before = still();
    assert_eq!(before.is_some(), mounts::has_no_directory(&it.raw("")), "others never say so");
    assert_eq!(still(), before);
    fs::remove_file(it.raw("a.yaml")).unwrap();
    assert!(before.is_none() || still() != before);
    fs::create_dir(it.raw("team")).unwrap();
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(still(), None, "what lies in directories changes without it");
}
