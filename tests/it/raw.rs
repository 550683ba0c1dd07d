//! Bad and odd drops, each with its outcome: a watching agent meets all of them at once, and none
//! may keep a good one from being taken.

use crate::agent::{Agent, intake, output, text, until};
use crate::world::{World, git, vpc};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What has to become of a drop.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The VPC of this name is on the remote, and the drop has left.
    Filed(&'static str),
    /// It has left without a trace in `managed/`.
    Leaves,
    /// It stays as it is, with a report that names this rule.
    Rejected(&'static str),
    /// It stays without a report, and `status --ignored` gives this reason.
    Ignored(&'static str),
    /// It stays without a report: it is not for us yet.
    Waits,
}
use Then::{Filed, Ignored, Leaves, Rejected, Waits};

/// The limit for one file in these tests, in bytes.
const BYTES_MAX: usize = 64 << 10;

struct Row {
    what: &'static str,
    name: Vec<u8>,
    make: Box<dyn Fn(&Path)>,
    then: Then,
}

fn row(
    what: &'static str,
    name: impl AsRef<[u8]>,
    make: impl Fn(&Path) + 'static,
    then: Then,
) -> Row {
    Row { what, name: name.as_ref().to_vec(), make: Box::new(make), then }
}

/// A good manifest, written as any program would.
fn good(name: &'static str) -> impl Fn(&Path) {
    move |path| fs::write(path, vpc(name)).unwrap()
}

fn bytes(content: impl AsRef<[u8]>) -> impl Fn(&Path) {
    move |path| fs::write(path, content.as_ref()).unwrap()
}

fn mode(bits: u32, name: &'static str) -> impl Fn(&Path) {
    move |path| {
        // Beside first, so that it is never seen with other rights.
        let beside = path.with_extension("beside");
        fs::write(&beside, vpc(name)).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(bits)).unwrap();
        fs::rename(beside, path).unwrap();
    }
}

fn node(kind: rustix::fs::FileType, device: u64) -> impl Fn(&Path) {
    move |path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
    }
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn names() -> Vec<Row> {
    let long = [&[b'n'; 250][..], b".yaml"].concat();
    let deep = "d/".repeat(30) + "deep.yaml";
    let too_deep = "e/".repeat(33) + "deep.yaml";
    vec![
        row("a newline", "a\nb.yaml", good("newline"), Filed("newline")),
        row("a leading dash", "-rf.yaml", good("dash"), Filed("dash")),
        row("blanks", " a  b .yaml", good("blanks"), Filed("blanks")),
        row("no text at all", b"\xff\xfe\x80.yaml", good("bytes"), Filed("bytes")),
        row("255 bytes", long, good("long"), Filed("long")),
        row("a deep path", deep, good("deep"), Filed("deep")),
        row("too deep a path", too_deep, good("abyss"), Waits),
        row("escape sequences", "\x1b[2J\x07.yaml", good("escape"), Filed("escape")),
        row("right to left", "\u{202e}lmay.yaml", good("rtl"), Filed("rtl")),
        row("an escape of ours", "a\\x41.yaml", good("backslash"), Filed("backslash")),
        row("a short name of .git", "git~1.yaml", good("short"), Filed("short")),
        row("for a shell", "$(reboot);`x`'\".yaml", good("shell"), Filed("shell")),
        row("for another system", "nul.yaml", good("nul"), Filed("nul")),
        row("an option of git", "--force.yaml", good("option"), Filed("option")),
        row("a pathspec", ":(top)*.yaml", good("pathspec"), Filed("pathspec")),
        row("an emoji", "\u{1f980}.yaml", good("emoji"), Filed("emoji")),
        row("capital letters", "A.YAML", good("capital"), Filed("capital")),
        row(".yml", "a.yml", good("yml"), Filed("yml")),
        row("a name of ours for the lost", "recovered-1-a.yaml", good("lost"), Filed("lost")),
        row("no extension", "manifest", good("no"), Ignored("not_named")),
        row("another extension", "a.yaml.bak", good("no"), Ignored("not_named")),
        row("a picture", "a.png", bytes([0x89, b'P']), Ignored("not_named")),
        row("an extension alone", ".yaml", good("no"), Ignored("hidden")),
        row("hidden", ".a.yaml", good("no"), Ignored("hidden")),
        row("dots", "...yaml", good("no"), Ignored("hidden")),
        row("a backup", "a.yaml~", good("no"), Ignored("leftover")),
        row("an emacs autosave", "#a.yaml#", good("no"), Ignored("leftover")),
        row("an office lock", "~$a.yaml", good("no"), Ignored("leftover")),
        row("a vim swap", "a.yaml.swp", good("no"), Ignored("leftover")),
        row("a download", "a.yaml.part", good("no"), Ignored("leftover")),
        row("a Chromium download", "a.yaml.crdownload", good("no"), Ignored("leftover")),
        row("a temporary file", "a.yaml.tmp", good("no"), Ignored("leftover")),
        row("a report by hand", "b.yaml.rejected.txt", good("no"), Ignored("report")),
        row("a name of ours", ".git-intake-taken-z.yaml", good("no"), Ignored("ours")),
        row("in a hidden directory", ".git/a.yaml", good("no"), Ignored("hidden")),
        row("in lost+found", "lost+found/a.yaml", good("no"), Ignored("leftover")),
        row("put aside before", "processed/a.yaml", good("no"), Ignored("aside")),
        row("quarantined before", "errors/a.yaml", good("no"), Ignored("aside")),
        row("the operator's pattern", "drafts/a.yaml", good("no"), Ignored("pattern")),
        row("a team's directory", "team a/vpc.yaml", good("team"), Filed("team")),
        row("pending/ is input", "pending/a.yaml", good("pending"), Filed("pending")),
    ]
}

fn types() -> Vec<Row> {
    vec![
        row(
            "a link to a file outside",
            "link.yaml",
            |path| symlink("/etc/passwd", path).unwrap(),
            Rejected("not-a-file"),
        ),
        row(
            "a link to a good drop",
            "link-2.yaml",
            |path| {
                let beside = path.with_extension("txt");
                fs::write(&beside, vpc("linked")).unwrap();
                symlink(beside, path).unwrap();
            },
            Rejected("not-a-file"),
        ),
        row(
            "a link to nothing",
            "dangling.yaml",
            |path| symlink("nowhere", path).unwrap(),
            Rejected("not-a-file"),
        ),
        row(
            "a link to itself",
            "loop.yaml",
            |path| symlink("loop.yaml", path).unwrap(),
            Rejected("not-a-file"),
        ),
        row(
            "an emacs lock",
            ".#a.yaml",
            |path| symlink("user@host.1:2", path).unwrap(),
            Ignored("hidden"),
        ),
        row("a link to a directory", "up", |path| symlink("..", path).unwrap(), {
            Ignored("not_named")
        }),
        row("a pipe", "pipe.yaml", node(rustix::fs::FileType::Fifo, 0), Rejected("not-a-file")),
        row(
            "a socket",
            "socket.yaml",
            |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
            Rejected("not-a-file"),
        ),
        row(
            "a directory",
            "dir.yaml",
            |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("in.yaml"), vpc("inside")).unwrap();
            },
            Rejected("not-a-file"),
        ),
        row(
            "a sparse file of a terabyte",
            "sparse.yaml",
            |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
            Rejected("too-large"),
        ),
        row(
            "a file over the limit",
            "big.yaml",
            bytes(vpc("big") + &"#".repeat(BYTES_MAX)),
            Rejected("too-large"),
        ),
        row(
            "a file at the limit",
            "full.yaml",
            {
                let text = vpc("full");
                let pad = BYTES_MAX - text.len() - 1;
                bytes(text + "#" + &"x".repeat(pad))
            },
            Filed("full"),
        ),
        row(
            "a hard link",
            "hard.yaml",
            |path| {
                let other = path.with_extension("txt");
                fs::write(&other, vpc("hard")).unwrap();
                fs::hard_link(other, path).unwrap();
            },
            Filed("hard"),
        ),
        row(
            "a file without a name that gets one",
            "tmpfile.yaml",
            |path| {
                let mut file = fs::File::options()
                    .write(true)
                    .custom_flags(libc::O_TMPFILE)
                    .open(path.parent().unwrap())
                    .unwrap();
                file.write_all(vpc("tmpfile").as_bytes()).unwrap();
                let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
                let cwd = rustix::fs::CWD;
                rustix::fs::linkat(cwd, own, cwd, path, flags).unwrap();
            },
            Filed("tmpfile"),
        ),
    ]
}

fn contents() -> Vec<Row> {
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                  e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                  g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    let utf16: Vec<u8> = "\u{feff}"
        .encode_utf16()
        .chain(vpc("utf-16").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let json = r#"{"apiVersion": "vpc.githedgehog.com/v1beta1", "kind": "VPC",
                   "metadata": {"name": "json"}, "spec": {"subnets": {}}}"#;
    vec![
        row("nothing", "empty.yaml", bytes(""), Rejected("empty-file")),
        row("blanks", "blank.yaml", bytes(" \n\t\n"), Rejected("empty-file")),
        row("comments", "comment.yaml", bytes("# nothing\n"), Leaves),
        row("a NUL", "nul-byte.yaml", bytes("a: \0\n"), Rejected("control-character")),
        row("a picture", "png.yaml", bytes(b"\x89PNG\r\n\x1a\n"), Rejected("not-utf-8")),
        row("UTF-16", "utf-16.yaml", bytes(utf16), Filed("utf-16")),
        row(
            "a BOM and CRLF",
            "crlf.yaml",
            bytes(format!("\u{feff}{}", vpc("crlf").replace('\n', "\r\n"))),
            Filed("crlf"),
        ),
        row(
            "no line end at the end",
            "no-end.yaml",
            bytes(vpc("no-end").replace("1001}}\n", "1001}}")),
            Filed("no-end"),
        ),
        row("JSON", "a.json", bytes(json), Filed("json")),
        row("YAML in .json", "yaml.json", good("no"), Rejected("json")),
        row("a billion laughs", "laughs.yaml", bytes(laughs), Rejected("too-many-values")),
        row("50,000 brackets", "deep.yaml", bytes("[".repeat(50_000)), Rejected("too-deep")),
        row(
            "a merge half done",
            "merge.yaml",
            bytes(format!("<<<<<<< HEAD\n{}>>>>>>> x\n", vpc("merge"))),
            Rejected("merge-conflict"),
        ),
        row(
            "a template",
            "template.yaml",
            bytes(vpc("t").replace("name: t", "name: {{ .Values.name }}")),
            Rejected("template"),
        ),
        row("a web page", "page.yaml", bytes("<!DOCTYPE html>\n<html>\n"), Rejected("not-a-")),
        row("one resource, two drops", "rival-1.yaml", good("rival"), Rejected("rival-drops")),
        row(
            "one resource, two drops, the other",
            "rival-2.yaml",
            bytes(vpc("rival").replace("1001", "1002")),
            Rejected("rival-drops"),
        ),
        row("the same twice", "twin-1.yaml", good("twin"), Filed("twin")),
        row("the same twice, the other", "twin-2.yaml", good("twin"), Filed("twin")),
    ]
}

fn rights() -> Vec<Row> {
    let unreadable = if root() { Filed("mode-000") } else { Rejected("not-readable") };
    let mut rows = vec![
        row("no rights", "mode-000.yaml", mode(0o000, "mode-000"), unreadable),
        row("read only", "mode-400.yaml", mode(0o400, "mode-400"), Filed("mode-400")),
        row("a program", "mode-4755.yaml", mode(0o4755, "mode-4755"), Filed("mode-4755")),
        row("for all", "mode-666.yaml", mode(0o666, "mode-666"), Filed("mode-666")),
        row(
            "in a directory that nobody may enter",
            "shut/a.yaml",
            |path| {
                fs::write(path, vpc("shut")).unwrap();
                let shut = fs::Permissions::from_mode(0o000);
                fs::set_permissions(path.parent().unwrap(), shut).unwrap();
            },
            if root() { Filed("shut") } else { Waits },
        ),
    ];
    if root() {
        rows.push(row(
            "somebody else's",
            "nobody.yaml",
            |path| {
                fs::write(path, vpc("nobody")).unwrap();
                std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
            },
            Filed("nobody"),
        ));
        rows.push(row(
            "a device",
            "device.yaml",
            node(rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5)),
            Rejected("not-a-file"),
        ));
    }
    rows
}

/// Rows about time hold what they need in themselves: a file that stays open, say.
fn timings(open: &std::sync::Arc<std::sync::Mutex<Vec<fs::File>>>) -> Vec<Row> {
    let keep = |name: &'static str| {
        let open = open.clone();
        move |path: &Path| {
            let mut file = fs::File::create(path).unwrap();
            file.write_all(vpc(name).as_bytes()).unwrap();
            open.lock().unwrap().push(file);
        }
    };
    let times = |seconds: i64| {
        move |path: &Path| {
            let at = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = rustix::fs::Timestamps { last_access: at, last_modification: at };
            let file = fs::File::create(path).unwrap();
            (&file).write_all(vpc(if seconds > 0 { "future" } else { "past" }).as_bytes()).unwrap();
            rustix::fs::futimens(&file, &times).unwrap();
        }
    };
    vec![
        row("a writer that never closes", "open.yaml", keep("open"), Waits),
        row("written in pieces", "pieces.yaml", in_pieces, Filed("pieces")),
        row("renamed into place", "renamed.yaml", renamed, Filed("renamed")),
        row("a directory moved in", "moved/in/a.yaml", moved_in, Filed("moved-in")),
        row("renamed again and again", "chain-9.yaml", chain, Filed("chain")),
        row("a scanner that opens and closes it", "scanned.yaml", scanned, Filed("scanned")),
        row("cut and written again", "again.yaml", again, Filed("again")),
        row("removed at once", "removed.yaml", removed, Leaves),
        row("rejected, then mended in place", "mended.yaml", mended, Filed("mended")),
        row("rejected, then replaced", "replaced.yaml", replaced, Filed("replaced")),
        row("rejected, then removed", "given-up.yaml", given_up, Leaves),
        row("a directory where the report goes", "report.yaml", no_report, Waits),
        row("from the future", "future.yaml", times(4_000_000_000), Filed("future")),
        row("from 1969", "past.yaml", times(-1), Filed("past")),
    ]
}

fn in_pieces(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for piece in vpc("pieces").as_bytes().chunks(40) {
        file.write_all(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn renamed(path: &Path) {
    let beside = path.with_extension("yaml.tmp");
    fs::write(&beside, vpc("renamed")).unwrap();
    fs::rename(beside, path).unwrap();
}

fn moved_in(path: &Path) {
    let raw = path.ancestors().nth(3).unwrap();
    let outside = raw.parent().unwrap().parent().unwrap().join("outside");
    fs::remove_dir_all(raw.join("moved")).unwrap();
    fs::create_dir_all(outside.join("in")).unwrap();
    fs::write(outside.join("in/a.yaml"), vpc("moved-in")).unwrap();
    fs::rename(outside, raw.join("moved")).unwrap();
}

fn chain(path: &Path) {
    let link = |n: usize| path.with_file_name(format!("chain-{n}.yaml"));
    fs::write(link(0).with_extension("tmp"), vpc("chain")).unwrap();
    fs::rename(link(0).with_extension("tmp"), link(0)).unwrap();
    for n in 0..9 {
        // It may have been taken on the way.
        let _ = fs::rename(link(n), link(n + 1));
    }
}

fn scanned(path: &Path) {
    fs::write(path, vpc("scanned")).unwrap();
    for _ in 0..20 {
        let _ = fs::File::open(path);
    }
}

fn again(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for _ in 0..5 {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(vpc("again").as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
}

fn removed(path: &Path) {
    fs::write(path, "a: [").unwrap();
    fs::remove_file(path).unwrap();
}

/// Waits for the report beside a drop that has a mistake.
fn rejected(path: &Path) -> PathBuf {
    fs::write(path, "a: [").unwrap();
    let report = report_of(path);
    until("the report is there", || report.exists());
    report
}

fn mended(path: &Path) {
    rejected(path);
    fs::write(path, vpc("mended")).unwrap();
}

fn replaced(path: &Path) {
    rejected(path);
    let beside = path.with_extension("tmp");
    fs::write(&beside, vpc("replaced")).unwrap();
    fs::rename(beside, path).unwrap();
}

fn given_up(path: &Path) {
    let report = rejected(path);
    fs::remove_file(path).unwrap();
    until("the report goes with its drop", || !report.exists());
}

fn no_report(path: &Path) {
    fs::create_dir(report_of(path)).unwrap();
    fs::write(path, "a: [").unwrap();
}

fn report_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap().as_bytes();
    let keep = name.len().min(255 - ".rejected.txt".len());
    let name = [&name[name.len() - keep..], b".rejected.txt"].concat();
    path.with_file_name(OsStr::from_bytes(&name))
}

fn filed(world: &World) -> BTreeSet<String> {
    let all = git(&world.remote, &["ls-tree", "-r", "--name-only", "main", "fabric-1/managed/"]);
    let stem = |it: &str| Some(it.rsplit('/').next()?.strip_suffix(".yaml")?.to_owned());
    all.lines().filter_map(stem).collect()
}

/// What is so of a row, where it is not as it has to be.
fn wrong(row: &Row, path: &Path, filed: &BTreeSet<String>, ignored: &str) -> Option<String> {
    let there = fs::symlink_metadata(path).is_ok();
    let report = fs::read_to_string(report_of(path)).ok();
    let said = |it: &Row| {
        let all: serde_json::Value = serde_json::from_str(ignored).unwrap();
        let entries = all[0]["entries"].as_array().unwrap().clone();
        let name = git_intake::model::path::RawPath::new(it.name.clone()).to_string();
        let above = |entry: &serde_json::Value| {
            let path = entry["path"].as_str().unwrap();
            name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        let found = entries.iter().find(|it| above(it));
        found.map(|it| it["reason"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    let as_it_should = match row.then {
        Filed(name) => !there && report.is_none() && filed.contains(name),
        Leaves => !there && report.is_none(),
        Rejected(rule) => {
            there && report.as_ref().is_some_and(|it| it.contains(&format!("error[{rule}")))
        }
        Ignored(why) => there && report.is_none() && said(row) == why,
        Waits => there && report.is_none(),
    };
    (!as_it_should).then(|| format!("{}: {:?}: there {there}, {report:?}", row.what, row.then))
}

fn start(world: &World) -> Agent {
    let mut command = intake(world, &["run"]);
    command.env("GIT_INTAKE_INTAKE_BYTES_MAX", format!("{BYTES_MAX} B"));
    command.env("GIT_INTAKE_INTAKE_IGNORE", "[drafts/]");
    let agent = Agent(command.stderr(Stdio::null()).spawn().unwrap());
    until("the agent answers", || {
        text(&output(world, &["status", "--json"])).contains("\"running\": true")
    });
    agent
}

#[test]
fn every_bad_or_odd_drop_has_its_outcome_and_none_stops_another() {
    let world = World::new();
    assert!(output(&world, &["init", "--fabric", "fabric-1"]).status.success());
    let open = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut rows = names();
    rows.extend(types());
    rows.extend(contents());
    rows.extend(rights());
    rows.extend(timings(&open));
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let agent = start(&world);
    let path = |row: &Row| world.work().join("fabric-1/raw").join(OsStr::from_bytes(&row.name));
    for row in &rows {
        fs::create_dir_all(path(row).parent().unwrap()).unwrap();
        (row.make)(&path(row));
    }
    let judge = || {
        let filed = filed(&world);
        let ignored = text(&output(&world, &["status", "--ignored", "--json"]));
        let wrong = rows.iter().filter_map(|row| wrong(row, &path(row), &filed, &ignored));
        wrong.collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    while !judge().is_empty() && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(judge(), Vec::<String>::new());

    // What was filed is what was to be filed, and nothing of what a link leads to.
    let wanted: BTreeSet<String> = rows
        .iter()
        .filter_map(|it| if let Filed(name) = it.then { Some(name.to_owned()) } else { None })
        .collect();
    assert_eq!(filed(&world), wanted);
    // The odd ones keep their name for whoever looks for where something came from.
    let record = output(&world, &["records", "show", "VPC/newline", "--json"]);
    let record: serde_json::Value = serde_json::from_slice(&record.stdout).unwrap();
    assert_eq!(record["source"]["path"], "a\\x0ab.yaml");
    let record = text(&output(&world, &["records", "show", "VPC/team"]));
    assert!(record.contains("team a/vpc.yaml:2"), "{record}");
    // The writer is done at last; and after a restart all is as it was.
    open.lock().unwrap().clear();
    until("the file is taken once it is closed", || filed(&world).contains("open"));
    drop(agent);
    let _agent = start(&world);
    until("all is judged again", || {
        judge().iter().all(|it| it.starts_with("a writer") || it.starts_with("a name of ours:"))
    });
}

/// A person on another host, with a clone.
fn push(other: &World, what: &str) {
    other.git(&["add", "-A"]);
    other.git(&["commit", "-qm", what]);
    other.git(&["pull", "-q", "--rebase", "origin", "main"]);
    other.git(&["push", "-q", "origin", "main"]);
}

#[test]
fn whoever_pushes_a_file_into_raw_hears_of_it_by_git() {
    let world = World::new();
    assert!(output(&world, &["init", "--fabric", "fabric-1"]).status.success());
    let mut command = intake(&world, &["run"]);
    command.env("GIT_INTAKE_FETCH_EVERY", "1s").stderr(Stdio::null());
    let _agent = Agent(command.spawn().unwrap());
    until("the fabric is on the remote", || crate::agent::on_remote(&world, "managed/README.md"));
    let other = World::beside(&world);
    other.drop("good.yaml", vpc("good")).drop("team/bad.yaml", "a: [");
    other.drop("odd\nname.yaml", "b: [").drop("gone.yaml", "c: [");
    push(&other, "files for the inbox");
    let on_remote = || {
        let all = git(&world.remote, &["ls-tree", "-r", "-z", "--name-only", "main", "fabric-1"]);
        let mut all: Vec<String> = all.split('\0').map(str::to_owned).collect();
        all.retain(|it| !it.ends_with("README.md") && !it.is_empty());
        all
    };
    until("each has its answer", || {
        let all = on_remote();
        let reports = all.iter().filter(|it| it.ends_with(".rejected.txt")).count();
        reports == 3 && all.iter().any(|it| it == "fabric-1/managed/vpcs/good.yaml")
    });
    assert!(!on_remote().iter().any(|it| it.ends_with("raw/good.yaml")));
    other.git(&["pull", "-q", "origin", "main"]);
    let report = fs::read_to_string(other.raw("team/bad.yaml.rejected.txt")).unwrap();
    assert!(report.contains("syntax"), "{report}");
    // Mended by a push, removed by a push: both leave with their reports.
    other.drop("team/bad.yaml", vpc("mended"));
    fs::remove_file(other.raw("gone.yaml")).unwrap();
    push(&other, "mend one, give up another");
    until("the rest is answered", || {
        let all = on_remote();
        let odd = |it: &&String| !it.contains("odd");
        let rest: Vec<_> = all.iter().filter(odd).collect();
        rest == ["fabric-1/managed/vpcs/good.yaml", "fabric-1/managed/vpcs/mended.yaml"]
    });
    until("the work tree is clean", || world.git(&["status", "--porcelain"]).is_empty());
}

#[test]
fn what_is_quarantined_after_it_came_by_git_is_found_in_git() {
    let mut world = World::new();
    world.settings.on_invalid = git_intake::pipeline::processing::OnInvalid::Quarantine;
    world.turn();
    world.drop("bad.yaml", "a: [");
    world.git(&["add", "-A"]);
    world.git(&["commit", "-qm", "a file for the inbox"]);
    world.turn();
    let clone = world.clone_of_remote();
    let names: Vec<&String> = clone.keys().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|it| it.starts_with("raw/errors/") && it.contains("bad.yaml")));
    world.at_rest();
}

#[test]
fn a_drop_that_lost_to_others_is_taken_when_it_is_named_and_not_before() {
    let world = World::new();
    assert!(output(&world, &["init", "--fabric", "fabric-1"]).status.success());
    world.drop("seed.yaml", vpc("vpc-0"));
    world.turn();
    let other = World::beside(&world);
    other.drop("both.yaml", vpc("both").replace("1001", "1"));
    other.turn();
    world.drop("both.yaml", vpc("both").replace("1001", "2"));
    world.turn();
    let listed = output(&world, &["reject", "list", "--json"]);
    assert_eq!(listed.status.code(), Some(3));
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let name = listed[0]["path"].as_str().unwrap().to_owned();
    let managed = |world: &World| world.clone_of_remote()["managed/vpcs/both.yaml"].clone();
    let out = output(&world, &["retry"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));
    assert!(managed(&world).contains("vlan: 1}"), "theirs stays unless somebody names ours");
    let out = output(&world, &["retry", &name]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(managed(&world).contains("vlan: 2}"));
    let out = output(&world, &["retry", "nothing.yaml"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains("reject list"), "{}", text(&out));
    assert!(output(&world, &["reject", "list"]).status.success());
    world.at_rest();
}
