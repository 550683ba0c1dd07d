//! Real programs that put files into `raw/`, while an agent watches: each file is taken whole, once.
//!
//! Programs that are not installed are passed over, with a word; `tests/run` installs them.
//! Editors and browsers that are too heavy for that are played by their system calls, as `strace`
//! shows them.

use crate::agent::{Agent, output, running, until};
use crate::world::{World, git, hermetic, vpc};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A drop with a mistake in its first line, rejected before a script mends it.
const BAD: &str = r#"bad() {
    { echo "[BAD"; cat "$SRC"; } > "$DST"
    until [ -e "$DST.rejected.txt" ]; do sleep 0.05; done
}"#;

/// What a script finds in its environment: SRC, a good file; DST, where it has to go; NAME; RAW;
/// URL, where SRC can be downloaded, slowly.
const PROGRAMS: [(&str, &str, &str); 30] = [
    ("cp", "cp", r#"cp "$SRC" "$DST""#),
    ("cp-a", "cp", r#"cp -a "$SRC" "$DST""#),
    ("mv", "mv", r#"mv "$SRC" "$DST""#),
    ("mv-from-another-disk", "mv", r#"cp "$SRC" /dev/shm/$$.yaml; mv /dev/shm/$$.yaml "$DST""#),
    ("ln", "ln", r#"ln "$SRC" "$DST""#),
    ("install", "install", r#"install -m 640 "$SRC" "$DST""#),
    ("dd", "dd", r#"dd if="$SRC" of="$DST" bs=512 status=none"#),
    ("tee", "tee", r#"tee "$DST" < "$SRC" > /dev/null"#),
    ("sh-slowly", "sh", r#"{ head -c 5000 "$SRC"; sleep 1; tail -c +5001 "$SRC"; } > "$DST""#),
    ("tar", "tar", r#"tar -C "${SRC%/*}" -c "$NAME.yaml" | tar -C "$RAW" -x"#),
    (
        "tar-slowly",
        "tar",
        r#"tar -C "${SRC%/*}" -c "$NAME.yaml" | (head -c 9000; sleep 1; cat) | tar -C "$RAW" -x"#,
    ),
    ("unzip", "unzip zip", r#"zip -qj "$SRC.zip" "$SRC"; unzip -q "$SRC.zip" -d "$RAW""#),
    ("gunzip", "gzip", r#"gzip -c "$SRC" > "$RAW/$NAME.yaml.gz"; gunzip "$RAW/$NAME.yaml.gz""#),
    ("curl", "curl", r#"curl -s -o "$DST" "$URL""#),
    ("wget", "wget", r#"wget -q -O "$DST" "$URL""#),
    ("wget-into-the-directory", "wget", r#"cd "$RAW"; wget -q "$URL""#),
    ("scp", "scp", r#"scp -q -D /usr/lib/openssh/sftp-server -l 300 "$SRC" host:"$DST""#),
    ("scp-p", "scp", r#"scp -q -p -D /usr/lib/openssh/sftp-server "$SRC" host:"$DST""#),
    ("rsync", "rsync", r#"rsync -a --bwlimit=30 "$SRC" "$RAW/""#),
    ("rsync-inplace", "rsync", r#"rsync -a --inplace --bwlimit=30 "$SRC" "$RAW/""#),
    ("rsync-delayed", "rsync", r#"rsync -a --delay-updates "$SRC" "$RAW/""#),
    ("rsync-partial", "rsync", r#"rsync -a --partial-dir=.part --bwlimit=30 "$SRC" "$RAW/""#),
    ("sed-i", "sed", r#"bad; sed -i "/BAD/d" "$DST""#),
    ("perl-i", "perl", r#"bad; perl -ni -e "print unless /BAD/" "$DST""#),
    ("ed", "ed", r#"bad; printf "g/BAD/d\nw\nq\n" | ed -s "$DST""#),
    ("patch", "patch diff", r#"bad; diff -u "$DST" "$SRC" | patch -s "$DST""#),
    (
        "vim",
        "vim|vim.tiny",
        r#"bad; $(command -v vim || command -v vim.tiny) -Nes -u NONE -c "g/BAD/d" -c wq "$DST""#,
    ),
    (
        "vim-backup-by-rename",
        "vim|vim.tiny",
        r#"bad; $(command -v vim || command -v vim.tiny) -Nes -u NONE -c "set bk bkc=no" -c "g/BAD/d" -c wq "$DST""#,
    ),
    (
        "vim-backup-by-copy",
        "vim|vim.tiny",
        r#"bad; $(command -v vim || command -v vim.tiny) -Nes -u NONE -c "set bk bkc=yes" -c "g/BAD/d" -c wq "$DST""#,
    ),
    (
        "nano",
        "nano script",
        r#"bad; { sleep 2; printf "\013"; sleep 1; printf "\017"; sleep 1; printf "\r"; sleep 1; printf "\030"; } |
            timeout 30 script -qec "nano -I $DST" /dev/null > /dev/null"#,
    ),
];

/// Large enough to come in pieces; what is missing at its end would not be missed by a parser.
fn content(name: &str) -> String {
    let lines =
        (0..1000).map(|n| format!("# line {n} of a thousand, so that it comes in pieces\n"));
    vpc(name) + &lines.collect::<String>()
}

/// Says whether a program is installed, under one of its names.
fn has(names: &str) -> bool {
    names.split('|').any(|name| {
        let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
        found.is_ok_and(|it| it.status.success())
    })
}

/// Gives out files a piece at a time, as a slow server does.
fn serve(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, dir) = (stream.unwrap(), dir.clone());
            std::thread::spawn(move || {
                let mut request = [0; 2048];
                let n = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..n]).into_owned();
                let name = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
                let bytes = fs::read(dir.join(name)).unwrap();
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
                stream.write_all(head.as_bytes()).unwrap();
                for piece in bytes.chunks(bytes.len() / 4) {
                    stream.write_all(piece).unwrap();
                    std::thread::sleep(Duration::from_millis(300));
                }
            });
        }
    });
    url
}

/// Every file is on the remote as it was written, by one commit: no half of it ever was.
fn all_taken_whole_and_once(world: &World, names: &[String]) {
    let filed = || {
        let args = ["ls-tree", "-r", "--name-only", "main", "fabric-1/managed/"];
        let all = git(&world.remote, &args);
        let missing = |it: &&String| !all.contains(&format!("/{it}.yaml"));
        names.iter().filter(missing).cloned().collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    while !filed().is_empty() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = output(world, &["reject", "list"]);
    assert_eq!(filed(), Vec::<String>::new(), "{}", String::from_utf8_lossy(&said.stdout));
    let clone = world.clone_of_remote();
    for name in names {
        let path = format!("managed/vpcs/{name}.yaml");
        assert_eq!(clone[&path], content(name), "{name}");
        let full = format!("fabric-1/{path}");
        let commits = git(&world.remote, &["rev-list", "--count", "main", "--", &full]);
        assert_eq!(commits.trim(), "1", "{name} was taken more than once");
        assert!(!world.raw(&format!("{name}.yaml.rejected.txt")).exists(), "{name}");
    }
    let strays = clone.keys().filter(|it| !it.starts_with("managed/vpcs/"));
    assert_eq!(strays.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn what_programs_write_is_taken_whole_and_once() {
    let (world, _agent): (World, Agent) = running();
    let src = world.dir.path().join("src");
    fs::create_dir(&src).unwrap();
    let url = serve(src.clone());
    let raw = world.raw("");
    let run = |(name, needs, script): &(&str, &str, &str)| {
        if let Some(missing) = needs.split(' ').find(|it| !has(it)) {
            eprintln!("notice: {missing} is not installed; {name} is passed over");
            return None;
        }
        let file = src.join(format!("{name}.yaml"));
        fs::write(&file, content(name)).unwrap();
        let dst = raw.join(format!("{name}.yaml"));
        let script = format!("{BAD}\n{script}");
        let mut command = Command::new("sh");
        command.args(["-euc", &script]).envs(hermetic()).env("TERM", "xterm");
        command.env("SRC", &file).env("DST", dst).env("RAW", &raw).env("NAME", name);
        command.env("URL", format!("{url}/{name}.yaml")).stdin(Stdio::null());
        Some(((*name).to_owned(), command.spawn().unwrap()))
    };
    let started: Vec<_> = PROGRAMS.iter().filter_map(run).collect();
    assert!(started.len() >= 10, "hardly any program is installed");
    let mut names = Vec::new();
    for (name, mut child) in started {
        assert!(child.wait().unwrap().success(), "{name}");
        names.push(name);
    }
    all_taken_whole_and_once(&world, &names);
}

/// One way in which a program saves a file, as its system calls.
type Dance = fn(&Path, &str);

const DANCES: [(&str, Dance); 10] = [
    ("emacs", |path, text| {
        let lock = path.with_file_name(format!(".#{}", file_name(path)));
        std::os::unix::fs::symlink("user@host.1:1", &lock).unwrap();
        let auto = path.with_file_name(format!("#{}#", file_name(path)));
        fs::write(&auto, &text[..100]).unwrap();
        fs::rename(path, with_suffix(path, "~")).unwrap();
        fs::write(path, text).unwrap();
        fs::remove_file(auto).unwrap();
        fs::remove_file(lock).unwrap();
    }),
    ("vs-code", |path, text| {
        // It opens the file, cuts it, and writes it again in place.
        let mut file = fs::File::options().write(true).truncate(true).open(path).unwrap();
        for piece in text.as_bytes().chunks(16 << 10) {
            file.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        file.sync_data().unwrap();
    }),
    ("kate", |path, text| {
        let temp = with_suffix(path, ".vTzXqR");
        fs::write(&temp, text).unwrap();
        fs::File::open(&temp).unwrap().sync_all().unwrap();
        fs::rename(temp, path).unwrap();
    }),
    ("gnome", |path, text| {
        let temp = path.with_file_name(".goutputstream-6B3V81");
        fs::write(&temp, text).unwrap();
        fs::hard_link(path, with_suffix(path, "~")).unwrap();
        fs::rename(temp, path).unwrap();
    }),
    ("jetbrains", |path, text| {
        let (new, old) = (with_suffix(path, "___jb_tmp___"), with_suffix(path, "___jb_old___"));
        fs::write(&new, text).unwrap();
        fs::rename(path, &old).unwrap();
        fs::rename(new, path).unwrap();
        fs::remove_file(old).unwrap();
    }),
    ("firefox", |path, text| {
        // A file of the final name holds the place while the other grows.
        fs::write(path, "").unwrap();
        let part = with_suffix(path, ".part");
        slowly(&part, text);
        fs::rename(part, path).unwrap();
    }),
    ("chromium", |path, text| {
        fs::remove_file(path).unwrap();
        let part = path.with_file_name(format!("Unconfirmed {}.crdownload", std::process::id()));
        slowly(&part, text);
        fs::rename(part, path).unwrap();
    }),
    ("samba", |path, text| {
        // The whole size first, then the bytes, then the times.
        let file = fs::File::create(path).unwrap();
        file.set_len(text.len() as u64).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        (&file).write_all(text.as_bytes()).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        file.set_modified(then).unwrap();
    }),
    ("syncthing", |path, text| {
        let temp = path.with_file_name(format!(".syncthing.{}.tmp", file_name(path)));
        slowly(&temp, text);
        fs::remove_file(path).unwrap();
        fs::rename(temp, path).unwrap();
    }),
    ("mac", |path, text| {
        fs::write(path.with_file_name(format!("._{}", file_name(path))), b"\0\x05\x16\x07")
            .unwrap();
        fs::remove_file(path).unwrap();
        fs::create_dir(with_suffix(path, ".download")).unwrap();
        let inside = with_suffix(path, ".download").join(file_name(path));
        slowly(&inside, text);
        fs::rename(inside, path).unwrap();
        fs::remove_dir(with_suffix(path, ".download")).unwrap();
    }),
];

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(file_name(path) + suffix)
}

fn slowly(path: &Path, text: &str) {
    let mut file = fs::File::create(path).unwrap();
    for piece in text.as_bytes().chunks(text.len() / 3) {
        file.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn what_editors_and_browsers_save_is_taken_whole_and_once() {
    let (world, _agent) = running();
    let path = |name: &str| world.raw(&format!("{name}.yaml"));
    for (name, _) in DANCES {
        fs::write(path(name), "[BAD").unwrap();
    }
    for (name, _) in DANCES {
        until("it is rejected first", || with_suffix(&path(name), ".rejected.txt").exists());
    }
    let dances = DANCES.map(|(name, dance)| {
        let path = path(name);
        std::thread::spawn(move || dance(&path, &content(name)))
    });
    dances.into_iter().for_each(|it| it.join().unwrap());
    let names: Vec<String> = DANCES.iter().map(|(name, _)| (*name).to_owned()).collect();
    all_taken_whole_and_once(&world, &names);
}
