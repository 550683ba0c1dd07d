//! The walls of the house: which room may name which, how files open, how long they may grow.
//!
//! Everything is read from the sources as text, so it takes milliseconds and needs no build of the
//! product. What a test forbids, its message explains; the tables below are meant to be edited
//! when the house is, in the same commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms from the roof down, and those below that each may name.
///
/// A room may always name itself. `src/lib.rs` declares them all and names none.
const ROOMS: [(&str, &[&str]); 20] = [
    ("main", &["cli"]),
    (
        "cli",
        &[
            "api",
            "agent",
            "worktree",
            "git",
            "store",
            "telemetry",
            "config",
            "pipeline",
            "catalog",
            "yaml",
            "model",
            "push",
            "cores",
            "heap",
            "whole",
            "clock",
            "step",
        ],
    ),
    (
        "api",
        &[
            "agent",
            "worktree",
            "git",
            "store",
            "telemetry",
            "config",
            "pipeline",
            "catalog",
            "yaml",
            "model",
            "whole",
            "clock",
            "step",
        ],
    ),
    (
        "agent",
        &[
            "worktree",
            "git",
            "store",
            "telemetry",
            "config",
            "pipeline",
            "catalog",
            "yaml",
            "model",
            "push",
            "cores",
            "heap",
            "whole",
            "clock",
            "step",
        ],
    ),
    ("worktree", &["pipeline", "model", "cores", "clock", "step"]),
    ("git", &["model", "push", "cores", "whole", "clock", "step"]),
    ("store", &["model", "fence", "whole", "clock", "step"]),
    ("telemetry", &["config", "clock"]),
    ("config", &["pipeline", "catalog", "yaml", "model", "whole", "step"]),
    ("pipeline", &["catalog", "yaml", "model"]),
    ("catalog", &["yaml", "model"]),
    ("yaml", &["model"]),
    ("model", &[]),
    ("push", &[]),
    ("cores", &[]),
    ("heap", &[]),
    ("fence", &[]),
    ("whole", &[]),
    ("clock", &[]),
    ("step", &[]),
];

/// Rooms that touch no file, no network, no process, no environment and no clock.
const PURE: [&str; 4] = ["pipeline", "catalog", "yaml", "model"];
/// What a pure room may not name.
const EFFECTS: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "tempfile::",
];

/// A file's production part is not longer.
const FILE_LINES_MAX: usize = 500;
/// A function is not longer.
const FUNCTION_LINES_MAX: usize = 70;
/// Files above the limit, with the length they may not exceed: a ratchet that only tightens.
const LONGER_FILES: [(&str, usize); 1] = [("src/push/wire.rs", 541)];
/// Functions above the limit, as `file function`, with the length they may not exceed.
const LONGER_FUNCTIONS: [(&str, usize); 5] = [
    ("src/agent/verify.rs verify", 86),
    ("src/git/index.rs refresh_index", 72),
    ("src/git/replay.rs carry_over", 73),
    ("src/push/session.rs converse", 100),
    ("src/store/mod.rs write", 82),
];

/// Stands for what is left out of a name.
const LEFT_OUT: char = '\u{2026}';

/// Words that say nothing about what a thing is.
const BANNED_NAMES: [&str; 12] = [
    "Manager",
    "Service",
    "Helper",
    "Util",
    "Handler",
    "Processor",
    "Data",
    "Info",
    "Common",
    "Base",
    "Impl",
    "New",
];

/// What may stand at the top of the repository.
const ROOT: [&str; 20] = [
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    // cargo-fuzz looks for its targets here and nowhere else.
    "fuzz",
    "packaging",
    "proptest-regressions",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "src",
    "systemd",
    "tests",
];

/// One source file.
struct Source {
    /// Relative to the top, with `/`.
    path: String,
    lines: Vec<String>,
}

impl Source {
    /// The room it belongs to, where it is part of the product.
    fn room(&self) -> Option<&str> {
        let tail = self.path.strip_prefix("src/")?;
        let room = tail.split('/').next()?;
        Some(room.strip_suffix(".rs").unwrap_or(room)).filter(|it| *it != "lib")
    }

    /// The lines before the inline tests; none of a file that is all tests.
    fn production(&self) -> &[String] {
        if !self.path.starts_with("src/") || self.path.ends_with("/tests.rs") {
            return &[];
        }
        let tests = |n: &usize| {
            let opens = self.lines.get(n + 1).is_some_and(|it| it.trim_start().starts_with("mod "));
            self.lines[*n] == "#[cfg(test)]" && opens && self.lines[n + 1].ends_with('{')
        };
        let end = (0..self.lines.len()).find(tests).unwrap_or(self.lines.len());
        &self.lines[..end]
    }

    /// Numbered lines of the production part without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.production().iter().enumerate();
        numbered.map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Says whether it is this module, by the last parts of its name.
    fn is_module(&self, name: &str) -> bool {
        let path = ["src/", "tests/it/", "tests/"].iter().find_map(|it| self.path.strip_prefix(it));
        let path = path.unwrap_or(&self.path).trim_end_matches(".rs");
        let path = path.trim_end_matches("/mod").trim_end_matches("/tests").replace('/', "::");
        path.strip_suffix(name).is_some_and(|it| it.is_empty() || it.ends_with("::"))
    }

    /// Says whether there is a test of this name, of which parts may be left out.
    fn has_test(&self, name: &str) -> bool {
        let tests = self.lines.windows(2).filter(|it| it[0].trim().ends_with("test]"));
        tests.filter_map(|it| function_name(it[1].trim_start())).any(|it| is_like(it, name))
    }

    /// How many modules deep it lies: `super::` as often as this is the top of the crate.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        parts - usize::from(self.path.ends_with("/mod.rs"))
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for dir in ["src", "tests"] {
        walk(&top().join(dir), &mut found);
    }
    assert!(found.len() > 20, "no sources below {}", top().display());
    found
}

fn walk(dir: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source {
                path: path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned(),
                lines: text.lines().map(str::to_owned).collect(),
            });
        }
    }
}

/// Fails with everything found and the way out.
fn must_be_empty(found: Vec<String>, way_out: &str) {
    assert!(found.is_empty(), "\n{}\n\n{way_out}\n", found.join("\n"));
}

/// The rooms that a line names after `crate::` or `git_intake::`; a group names several.
fn named(line: &str) -> Vec<String> {
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let mut rooms = Vec::new();
    for start in ["crate::", "git_intake::"] {
        for (at, _) in line.match_indices(start) {
            let rest = &line[at + start.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                rooms.push(word(rest));
                continue;
            };
            // Only the outermost names of a group are rooms.
            let mut depth = 0;
            for part in group.split_inclusive(['{', '}', ',']) {
                if depth == 0 && !word(part.trim_start()).is_empty() {
                    rooms.push(word(part.trim_start()));
                }
                depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                if depth < 0 {
                    break;
                }
            }
        }
    }
    rooms
}

#[test]
fn a_room_names_only_rooms_that_the_table_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: `{room}` is no room of the table", source.path));
            continue;
        };
        for (n, line) in source.code() {
            // A literal such as a log filter is no path.
            let line = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
            for name in named(&line) {
                if name != room && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}:{n}: {room} names {name}", source.path));
                }
            }
            if line.contains("crate::{") && !line.contains("};") {
                wrong.push(format!("{}:{n}: a group of rooms stays on one line", source.path));
            }
            let climbs = "super::".repeat(source.depth());
            if !climbs.is_empty() && line.contains(&climbs) {
                wrong.push(format!("{}:{n}: climbs out of its room with super::", source.path));
            }
        }
    }
    must_be_empty(wrong, "A room names only rooms below it: see ROOMS in tests/walls.rs.");
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    for (n, (room, allowed)) in ROOMS.iter().enumerate() {
        for it in *allowed {
            let below = ROOMS[n + 1..].iter().any(|(name, _)| name == it);
            assert!(below, "{room} may name {it}, which is not below it in ROOMS");
        }
    }
}

#[test]
fn pure_rooms_have_no_effects() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.room().is_some_and(|it| PURE.contains(&it)) {
            continue;
        }
        for (n, line) in source.code() {
            for effect in EFFECTS.iter().filter(|it| line.contains(**it)) {
                wrong.push(format!("{}:{n}: {effect}", source.path));
            }
        }
    }
    must_be_empty(wrong, "These rooms decide and do nothing: hand the value in from above.");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent = |it: &Source| !it.lines.first().is_some_and(|line| line.starts_with("//! "));
    let wrong = sources().into_iter().filter(silent).map(|it| it.path).collect();
    must_be_empty(wrong, "Open the file with //! and one sentence that could be its caption.");
}

#[test]
fn no_file_and_no_function_grows_too_long() {
    let mut wrong = Vec::new();
    for source in sources() {
        let allowed = LONGER_FILES.iter().find(|(path, _)| *path == source.path);
        let allowed = allowed.map_or(FILE_LINES_MAX, |(_, lines)| *lines);
        let lines = source.production().len();
        if lines > allowed {
            wrong.push(format!("{}: {lines} lines, at most {allowed}", source.path));
        }
        for (name, line, lines) in functions(source.production()) {
            let label = format!("{} {name}", source.path);
            let allowed = LONGER_FUNCTIONS.iter().find(|(it, _)| *it == label);
            let allowed = allowed.map_or(FUNCTION_LINES_MAX, |(_, lines)| *lines);
            if lines > allowed {
                let path = &source.path;
                wrong.push(format!("{path}:{line}: {name} has {lines} lines, at most {allowed}"));
            }
        }
    }
    must_be_empty(wrong, "Split it where a new sentence would begin.");
}

/// Name, first line and length of each function, as rustfmt lays them out.
fn functions(lines: &[String]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        let Some(name) = function_name(text) else { continue };
        let closing = format!("{indent}}}");
        let ends = |it: &String| *it == closing || it.ends_with(';') && it.starts_with(indent);
        // One line, or a declaration without a body, is short enough.
        if text.ends_with('}') || text.ends_with(';') {
            continue;
        }
        let body = lines[n..].iter().position(|it| ends(it) && *it == closing);
        if let Some(length) = body {
            found.push((name.to_owned(), n + 1, length + 1));
        }
    }
    found
}

/// Says whether a name is the same as one of which parts may be left out.
fn is_like(name: &str, abridged: &str) -> bool {
    let mut parts = abridged.split(LEFT_OUT);
    let Some(mut rest) = parts.next().and_then(|it| name.strip_prefix(it)) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        (rest, open) = (&rest[at + part.len()..], part.is_empty());
    }
    rest.is_empty() || open
}

fn function_name(text: &str) -> Option<&str> {
    let mut words = text.split(' ').skip_while(|it| {
        it.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(it)
    });
    let is_function = words.next() == Some("fn");
    let name = words.next().filter(|_| is_function)?;
    name.split(['(', '<']).next()
}

#[test]
fn names_say_what_things_are() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (n, line) in source.lines.iter().enumerate() {
            let mut words = line.split_whitespace();
            if !words.any(|it| ["struct", "enum", "trait"].contains(&it)) {
                continue;
            }
            let name = words.next().unwrap_or_default();
            let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            let is_type = name.starts_with(|c: char| c.is_ascii_uppercase());
            for word in camel_words(name).iter().filter(|_| is_type) {
                if BANNED_NAMES.contains(&word.as_str()) {
                    wrong.push(format!("{}:{}: {name}", source.path, n + 1));
                }
            }
        }
    }
    must_be_empty(wrong, "Name the thing with a word that says what it is.");
}

fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if !c.is_ascii_uppercase() => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    words
}

#[test]
fn nothing_unfinished_and_no_test_put_aside_is_merged() {
    // Put together here, so that this file does not find itself.
    let marks =
        [["FIX", "ME"], ["todo", "!("], ["unimple", "mented!("], ["dbg", "!("], ["#[ign", "ore"]];
    let marks = marks.map(|it| it.concat());
    let mut wrong = Vec::new();
    for source in sources() {
        for (n, line) in source.lines.iter().enumerate() {
            for mark in marks.iter().filter(|it| line.contains(it.as_str())) {
                wrong.push(format!("{}:{}: {mark}", source.path, n + 1));
            }
        }
    }
    must_be_empty(wrong, "Finish it, or leave it out and say so in an issue.");
}

#[test]
fn the_top_of_the_repository_holds_only_what_belongs_there() {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(list).current_dir(top()).output();
    let listed = match listed {
        Ok(it) if it.status.success() => String::from_utf8(it.stdout).unwrap(),
        // An unpacked source archive has no repository: then there is nothing to find out.
        _ => return,
    };
    let files = listed.split('\0').filter(|it| !it.is_empty());
    let entries: BTreeSet<&str> = files.filter_map(|it| it.split('/').next()).collect();
    let strange = entries.into_iter().filter(|it| !ROOT.contains(it));
    must_be_empty(
        strange.map(str::to_owned).collect(),
        "The top is for what every visitor needs: put it in a directory, or in ROOT.",
    );
}

#[test]
fn no_file_of_the_world_is_forgotten() {
    let main = fs::read_to_string(top().join("tests/it/main.rs")).unwrap();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(file) = source.path.strip_prefix("tests/it/") else { continue };
        let module = file.strip_suffix("/mod.rs").or(file.strip_suffix(".rs")).unwrap();
        if module == "main" || module.contains('/') {
            continue;
        }
        let declared =
            main.lines().any(|it| it.trim_start_matches("pub ") == format!("mod {module};"));
        if !declared {
            wrong.push(format!("{} is not a `mod` of tests/it/main.rs", source.path));
        }
    }
    must_be_empty(wrong, "Without its `mod` line a file is never compiled.");
}

/// A test that the tables of ARCHITECTURE.md name is there.
#[test]
fn every_test_that_the_architecture_names_is_there() {
    let text = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let sources = sources();
    let lines = text.lines().enumerate().skip_while(|(_, it)| !it.starts_with("## Invariants"));
    let rows = lines.take_while(|(_, it)| *it != "## What is on disk");
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (n, row) in rows.filter(|(_, it)| it.starts_with("| ")) {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut module = "";
        for name in cell.split('`').skip(1).step_by(2) {
            let Some((its, test)) = named_test(name, module) else { continue };
            (module, found) = (its, found + 1);
            if !sources.iter().any(|it| it.is_module(module) && it.has_test(test)) {
                wrong.push(format!("ARCHITECTURE.md:{}: there is no test `{name}`", n + 1));
            }
        }
    }
    assert!(found > 80, "only {found} tests are seen in the tables");
    must_be_empty(wrong, "What a table names is a test that there is: mend the name, or write it.");
}

/// Module and name of a test, as a table writes them; what is left out stands for anything, a module
/// that is left out for the one before.
fn named_test<'a>(name: &'a str, before: &'a str) -> Option<(&'a str, &'a str)> {
    // A file, or a type of the tests.
    if name.contains(['/', '.']) || name.starts_with(|it: char| it.is_ascii_uppercase()) {
        return None;
    }
    if name.starts_with(LEFT_OUT) {
        return Some((before, name));
    }
    let whole = |module: &'a str| module.strip_suffix("::tests").unwrap_or(module);
    match name.rsplit_once("::") {
        Some((module, "tests")) => Some((module, "\u{2026}")),
        Some((module, test)) => Some((whole(module), test)),
        None => Some((name, "\u{2026}")),
    }
}

#[test]
fn the_test_command_of_the_readme_is_the_one_that_ci_runs() {
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    let ci = fs::read_to_string(top().join(".ci/run")).unwrap();
    assert!(readme.lines().any(|it| it.trim() == "./tests/run"), "README.md names ./tests/run");
    assert!(ci.lines().any(|it| it.contains("./tests/run")), ".ci/run calls ./tests/run");
}

#[test]
fn the_fuzzers_are_built_from_what_the_product_is_built_from() {
    let ours = locked("Cargo.lock");
    let theirs = locked("fuzz/Cargo.lock");
    let named = |it: &[(String, String)], name: &str| it.iter().any(|it| it.0 == name);
    let stale = |it: &&(String, String)| named(&ours, &it.0) && !ours.contains(it);
    let mut wrong: Vec<String> =
        theirs.iter().filter(stale).map(|(name, version)| format!("{name} {version}")).collect();
    let manifest = std::fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let from = manifest.find("\n[dependencies]\n").unwrap();
    let to = manifest.find("\n[dev-dependencies]\n").unwrap();
    let names = manifest[from..to].lines().filter_map(|it| it.split_once(" = ")).map(|it| it.0);
    let names =
        names.filter(|it| it.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    // It goes by another name here.
    let missing = names.filter(|it| *it != "serde_yaml" && !named(&theirs, it));
    wrong.extend(missing.map(|it| format!("{it} is missing")));
    must_be_empty(
        wrong,
        "Run: cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml.",
    );
}

/// Names and versions of the packages in a lock file.
fn locked(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(top().join(file)).unwrap();
    let value = |line: &str, key: &str| {
        line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned)
    };
    let lines: Vec<&str> = text.lines().collect();
    let pair = |it: &[&str]| Some((value(it[0], "name")?, value(it[1], "version")?));
    lines.windows(2).filter_map(pair).collect()
}

#[test]
fn the_guards_themselves_can_see() {
    assert_eq!(named("use crate::model::path; crate::git::x"), ["model", "git"]);
    assert_eq!(named("use crate::{clock, push::{Url, Wire}, git::x};"), ["clock", "push", "git"]);
    assert_eq!(camel_words("JobManagerX"), ["Job", "Manager", "X"]);
    assert!(is_like("a_lock_of_ours", "a_lock_\u{2026}") && is_like("a", "\u{2026}"));
    assert!(is_like("whatever_of_a_turn_ends", "\u{2026}of_a_turn\u{2026}"));
    assert!(!is_like("a_lock_of_ours", "a_lock") && !is_like("b_lock", "a_lo\u{2026}"));
    let test = ["#[test]", "fn a_lock_of_ours() {", "}"].map(str::to_owned).to_vec();
    let test = Source { path: "src/git/tests.rs".to_owned(), lines: test };
    let (module, name) = named_test("git::tests::a_lock\u{2026}", "").unwrap();
    assert!(test.is_module(module) && test.has_test(name) && !test.is_module("it"));
    assert_eq!(named_test("\u{2026}x", "git"), Some(("git", "\u{2026}x")));
    let long = ["pub fn f(", "    a: u8,", ") {", "    b();", "}"].map(str::to_owned);
    assert_eq!(functions(&long), [("f".to_owned(), 1, 5)]);
    let deep = Source { path: "src/git/read.rs".to_owned(), lines: Vec::new() };
    assert_eq!((deep.depth(), deep.room()), (2, Some("git")));
    let inline = ["//! x", "#[cfg(test)]", "mod tests {", "}"].map(str::to_owned).to_vec();
    let file = Source { path: "src/step.rs".to_owned(), lines: inline };
    assert_eq!((file.production().len(), file.depth()), (1, 1));
}
