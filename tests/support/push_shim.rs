//! Stands in for `git push`, so that git's own test suite can judge the push room.
//!
//! Called as `push-shim ARGS` with the arguments of `git push`, in a repository. Messages, exit
//! codes and `--porcelain` output are git's. References, refspecs and configuration are looked up
//! with git itself (`PUSH_SHIM_GIT`, else `git`); what is pushed is pushed by the room.
//! A form that is not of the room's concern (`--mirror`, `--signed`, submodules ...) goes to git
//! whole, if `PUSH_SHIM_GIT` is set; `PUSH_SHIM_LOG` names a file that says which way each went.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, exit},
};

use git_intake::push::{
    Error, Expect, Observer, Options, Outcome, RefResult, RefStatus, RefUpdate, Rejection,
    credentials::Helpers, push,
};
use gix::{
    ObjectId,
    bstr::{BStr, ByteSlice},
};

#[derive(Default)]
struct Asked {
    force: bool,
    leases: Vec<String>,
    atomic: bool,
    delete: bool,
    porcelain: bool,
    quiet: bool,
    verbose: bool,
    dry_run: bool,
    upstream: bool,
    all: bool,
    tags: bool,
    no_thin: bool,
    progress: bool,
    no_verify: bool,
    options: Vec<String>,
    receive_pack: Option<String>,
    rest: Vec<String>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = parse(&args) else { give_to_git(&args, "form") };
    exit(run(&args, &asked))
}

fn program() -> String {
    std::env::var("PUSH_SHIM_GIT").unwrap_or_else(|_| "git".into())
}

fn note(way: &str, args: &[String]) {
    if let Ok(path) = std::env::var("PUSH_SHIM_LOG") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut it| writeln!(it, "{way}\t{}", args.join(" ")));
    }
}

fn give_to_git(args: &[String], why: &str) -> ! {
    note(&format!("git ({why})"), args);
    if std::env::var_os("PUSH_SHIM_GIT").is_some() {
        let err = Command::new(program()).arg("push").args(args).exec();
        eprintln!("fatal: {err}");
    } else {
        eprintln!("fatal: push-shim does not know this form of push");
    }
    exit(128)
}

fn parse(args: &[String]) -> Option<Asked> {
    let mut out = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = |name: &str| arg.strip_prefix(name).and_then(|it| it.strip_prefix('='));
        match arg.as_str() {
            "-f" | "--force" => out.force = true,
            "--atomic" => out.atomic = true,
            "-d" | "--delete" => out.delete = true,
            "--porcelain" => out.porcelain = true,
            "-q" | "--quiet" => out.quiet = true,
            "-v" | "--verbose" => out.verbose = true,
            "-n" | "--dry-run" => out.dry_run = true,
            "-u" | "--set-upstream" => out.upstream = true,
            "--all" | "--branches" => out.all = true,
            "--tags" => out.tags = true,
            "--no-thin" => out.no_thin = true,
            "--thin" | "--no-progress" | "--no-force-with-lease" | "--no-signed" => {}
            "--progress" => out.progress = true,
            "--no-verify" => out.no_verify = true,
            "--force-with-lease" => out.leases.push(String::new()),
            "-o" | "--push-option" => out.options.push(args.next()?.clone()),
            "--receive-pack" | "--exec" => out.receive_pack = Some(args.next()?.clone()),
            "--" => out.rest.extend(args.by_ref().cloned()),
            _ => {
                if let Some(lease) = value("--force-with-lease") {
                    out.leases.push(lease.into());
                } else if let Some(option) = value("--push-option") {
                    out.options.push(option.into());
                } else if let Some(path) = value("--receive-pack").or(value("--exec")) {
                    out.receive_pack = Some(path.into());
                } else if arg.starts_with('-') {
                    return None;
                } else {
                    out.rest.push(arg.clone());
                }
            }
        }
    }
    // Which references these mean is a long story of git's own.
    if out.all || out.tags || out.rest.len() < 2 || (out.delete && out.force) {
        return None;
    }
    Some(out)
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new(program()).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    output.status.success().then_some(text)
}

/// One refspec, resolved: what it is called here, and what is to be moved there.
struct Spec {
    from: String,
    update: RefUpdate,
}

struct Terminal {
    quiet: bool,
    line: Vec<u8>,
}

impl Observer for Terminal {
    fn message(&mut self, line: &BStr, transient: bool) {
        let _ = self.quiet;
        self.line.clear();
        self.line.extend_from_slice(b"remote: ");
        self.line.extend_from_slice(line);
        // Git clears what a longer line may have left.
        self.line.extend_from_slice(b"        ");
        self.line.push(if transient { b'\r' } else { b'\n' });
        let _ = std::io::stderr().write_all(&self.line);
    }
}

fn run(args: &[String], asked: &Asked) -> i32 {
    let remote = &asked.rest[0];
    let url = git(&["remote", "get-url", "--push", "--all", remote]);
    let known = url.is_some();
    let url = url.unwrap_or_else(|| {
        git(&["ls-remote", "--get-url", remote]).unwrap_or_else(|| remote.clone())
    });
    let config = |key: &str| git(&["config", "--get", key]);
    let foreign = url.contains('\n')
        || std::path::Path::new(&url).is_file()
        || config("push.gpgsign").is_some()
        || config(&format!("remote.{remote}.mirror")).is_some()
        || config("push.recurseSubmodules").is_some_and(|it| it != "no")
        || config("submodule.recurse").is_some()
        || config(&format!("remote.{remote}.vcs")).is_some()
        || !asked.no_verify && hook_exists()
        || std::env::var_os("GIT_TRACE_PACKET").is_some()
        || std::env::var_os("GIT_PROTOCOL").is_some();
    let Ok(parsed) = gix::url::parse(url.as_bytes().as_bstr()) else { give_to_git(args, "url") };
    if foreign {
        give_to_git(args, "surroundings");
    }
    let Ok(repo) = gix::discover(".") else { give_to_git(args, "repository") };
    let mut helpers = Helpers::new(&repo);
    let mut terminal = Terminal { quiet: asked.quiet, line: Vec::new() };
    let mut options = Options {
        atomic: asked.atomic,
        thin: !asked.no_thin,
        quiet: asked.quiet || !asked.progress,
        dry_run: asked.dry_run,
        push_options: asked.options.clone(),
        credentials: Some(&mut helpers),
        allow_clear_text: true,
        observer: Some(&mut terminal),
        ..Options::default()
    };
    let program = asked.receive_pack.clone();
    let program = program.or_else(|| config(&format!("remote.{remote}.receivepack")));
    options.receive_pack = program.map(Into::into);
    options.client.ca_file =
        config("http.sslCAInfo").or_else(|| std::env::var("GIT_SSL_CAINFO").ok()).map(Into::into);
    if asked.verbose {
        eprintln!("Pushing to {}", git_intake::push::url::shown(&parsed));
    }
    // Which names are meant depends on what is there.
    let there = match push(&repo, &parsed, &[], &mut options) {
        Ok(outcome) => outcome.advertised,
        Err(err) => return fatal(&err),
    };
    let names: BTreeMap<String, ObjectId> =
        there.iter().map(|(name, id)| (name.to_string(), *id)).collect();
    let Some(specs) = specs(asked, known.then_some(remote), &names) else {
        give_to_git(args, "refspec")
    };
    note("room", args);
    let updates: Vec<_> = specs.iter().map(|it| it.update.clone()).collect();
    match push(&repo, &parsed, &updates, &mut options) {
        Ok(outcome) => {
            let shown = git_intake::push::url::shown(&parsed);
            tell(asked, &url, &shown, &specs, &outcome, known.then_some(remote))
        }
        Err(err) => fatal(&err),
    }
}

fn hook_exists() -> bool {
    git(&["rev-parse", "--git-path", "hooks/pre-push"])
        .is_some_and(|it| std::path::Path::new(&it).is_file())
}

fn fatal(err: &Error) -> i32 {
    let mut text = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(it) = cause {
        text = format!("{text}: {it}");
        cause = it.source();
    }
    match err {
        Error::Unsupported { capability: "atomic" } => {
            eprintln!("fatal: the receiving end does not support --atomic push");
        }
        Error::Unsupported { capability: "push-options" } => {
            eprintln!("fatal: the receiving end does not support push options");
        }
        Error::Http { status, url, .. } => {
            eprintln!(
                "fatal: unable to access '{url}/': The requested URL returned error: {status}"
            );
        }
        Error::Login { url, .. } => eprintln!("fatal: Authentication failed for '{url}/'"),
        Error::Transport { scheme } => eprintln!("fatal: transport '{scheme}' not allowed"),
        _ => eprintln!("fatal: {text}"),
    }
    128
}

/// Resolves refspecs as git does in the plain cases; `None` leaves them to git.
fn specs(
    asked: &Asked,
    remote: Option<&String>,
    there: &BTreeMap<String, ObjectId>,
) -> Option<Vec<Spec>> {
    let mut out = Vec::new();
    for text in &asked.rest[1..] {
        let (forced, text) = match text.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        if text.contains('*') || text.starts_with('^') || text == ":" || text == "tag" {
            return None;
        }
        let (from, to) = match text.split_once(':') {
            _ if asked.delete && text.contains(':') => return None,
            _ if asked.delete => ("", text),
            Some((from, to)) => (from, to),
            None => (text, text),
        };
        let full = match from {
            "" => String::new(),
            "HEAD" | "@" => git(&["symbolic-ref", "-q", "HEAD"]).unwrap_or_default(),
            from => git(&["rev-parse", "--symbolic-full-name", from]).unwrap_or_default(),
        };
        let new = if from.is_empty() {
            gix::hash::Kind::Sha1.null()
        } else {
            ObjectId::from_hex(git(&["rev-parse", "--verify", "-q", from])?.as_bytes()).ok()?
        };
        let to = if text.contains(':') || asked.delete { to } else { full.as_str() };
        let name = qualified(to, &full, there)?;
        if out.iter().any(|it: &Spec| it.update.name == name.as_str()) {
            return None;
        }
        let expect = if asked.force || forced {
            Expect::Force
        } else {
            lease(asked, &name, remote)?.unwrap_or(Expect::FastForward)
        };
        // A lease that force overrides is still git's to explain.
        if expect == Expect::Force && !asked.leases.is_empty() {
            return None;
        }
        let shown = if full.is_empty() || from == "HEAD" { from.to_owned() } else { full };
        out.push(Spec { from: shown, update: RefUpdate { name: name.into(), new, expect } });
    }
    // Git goes through what the remote has, by name, and then through what it gets.
    out.sort_by_key(|it| {
        let name = it.update.name.to_string();
        if there.contains_key(&name) { (0, name) } else { (1, String::new()) }
    });
    Some(out)
}

fn qualified(to: &str, from: &str, there: &BTreeMap<String, ObjectId>) -> Option<String> {
    if to.starts_with("refs/") {
        return Some(to.to_owned());
    }
    let forms = ["refs/tags/", "refs/heads/", "refs/remotes/"].map(|it| format!("{it}{to}"));
    let found: Vec<_> = forms.iter().filter(|it| there.contains_key(*it)).collect();
    match found[..] {
        [one] => Some(one.clone()),
        [] if from.starts_with("refs/heads/") => Some(format!("refs/heads/{to}")),
        [] if from.starts_with("refs/tags/") => Some(format!("refs/tags/{to}")),
        _ => None,
    }
}

/// The lease on a name: outer `None` leaves it to git, inner `None` says that there is none.
fn lease(asked: &Asked, name: &str, remote: Option<&String>) -> Option<Option<Expect>> {
    let short = name.strip_prefix("refs/heads/").unwrap_or(name);
    for lease in &asked.leases {
        let (which, expected) = match lease.split_once(':') {
            Some((which, expected)) => (which, Some(expected)),
            None => (lease.as_str(), None),
        };
        if !(which.is_empty() || which == name || which == short) {
            continue;
        }
        let id = match expected {
            Some("") => gix::hash::Kind::Sha1.null(),
            Some(rev) => {
                ObjectId::from_hex(git(&["rev-parse", "--verify", "-q", rev])?.as_bytes()).ok()?
            }
            None => {
                let tracking = format!("refs/remotes/{}/{short}", remote?);
                let id = git(&["rev-parse", "--verify", "-q", &tracking])?;
                ObjectId::from_hex(id.as_bytes()).ok()?
            }
        };
        return Some(Some(Expect::Exactly(id)));
    }
    Some(None)
}

fn short(name: &str) -> &str {
    ["refs/heads/", "refs/tags/", "refs/remotes/"]
        .iter()
        .find_map(|it| name.strip_prefix(it))
        .unwrap_or(name)
}

/// Prints as git does and gives git's exit code.
fn tell(
    asked: &Asked,
    url: &str,
    shown: &str,
    specs: &[Spec],
    outcome: &Outcome,
    remote: Option<&String>,
) -> i32 {
    if let Some(Err(reason)) = &outcome.unpack {
        eprintln!("error: remote unpack failed: {reason}");
    }
    if let Some(err) = &outcome.lost {
        fatal(err);
    }
    if broken_group(outcome)
        && let Some((name, number)) = outcome.refs.iter().find_map(group_breaker)
    {
        eprintln!("error: atomic push failed for ref {name}. status: {number}");
    }
    let up_to_date = |it: &RefResult| it.status == RefStatus::UpToDate;
    let ok = outcome.is_ok();
    let mut lines = Vec::new();
    // Git tells what went well first, and what did not last.
    for wanted in [0, 1, 2] {
        for (spec, result) in specs.iter().zip(&outcome.refs) {
            let place = match result.status {
                RefStatus::UpToDate => 0,
                RefStatus::Ok => 1,
                _ => 2,
            };
            if place == wanted && (!up_to_date(result) || asked.verbose || asked.porcelain) {
                lines.push(line(asked.porcelain, spec, result));
            }
        }
    }
    let mut out: Box<dyn Write> =
        if asked.porcelain { Box::new(std::io::stdout()) } else { Box::new(std::io::stderr()) };
    if !lines.is_empty() && (!asked.quiet || !ok || asked.porcelain) {
        let _ = writeln!(out, "To {shown}");
        for line in &lines {
            let _ = writeln!(out, "{line}");
        }
    }
    let unpacked = !matches!(outcome.unpack, Some(Err(_))) && outcome.lost.is_none();
    if asked.porcelain && unpacked && !broken_group(outcome) {
        let _ = writeln!(out, "Done");
    }
    if let Some(remote) = remote.filter(|_| !asked.dry_run) {
        follow(asked, remote, specs, outcome);
    }
    if ok {
        if outcome.refs.iter().all(up_to_date) && !asked.quiet && !asked.porcelain {
            eprintln!("Everything up-to-date");
        }
        return 0;
    }
    eprintln!("error: failed to push some refs to '{url}'");
    let rejected = |why| outcome.refs.iter().any(|it| it.status == RefStatus::Rejected(why));
    if rejected(Rejection::FetchFirst) {
        eprintln!("hint: Updates were rejected because the remote contains work that you do not");
    } else if rejected(Rejection::NonFastForward) {
        eprintln!("hint: Updates were rejected because a pushed branch tip is behind its remote");
    } else if rejected(Rejection::AlreadyExists) {
        eprintln!("hint: Updates were rejected because the tag already exists in the remote.");
    }
    1
}

fn broken_group(outcome: &Outcome) -> bool {
    let failed = RefStatus::Rejected(Rejection::AtomicFailed);
    outcome.refs.iter().any(|it| it.status == failed)
}

/// The reference that broke an atomic group, and git's number for the reason.
fn group_breaker(result: &RefResult) -> Option<(&BStr, u8)> {
    let RefStatus::Rejected(why) = result.status else {
        return None;
    };
    let number = match why {
        Rejection::NonFastForward => 2,
        Rejection::AlreadyExists => 3,
        Rejection::CannotDelete => 4,
        Rejection::FetchFirst => 5,
        Rejection::NeedsForce => 6,
        Rejection::Stale { .. } => 7,
        Rejection::NotThere | Rejection::AtomicFailed => return None,
    };
    Some((result.name.as_bstr(), number))
}

fn line(porcelain: bool, spec: &Spec, result: &RefResult) -> String {
    let name = result.name.to_str_lossy();
    let hex = |id: &ObjectId| id.to_hex_with_len(7).to_string();
    let remote_reason = |text: &BStr| format!(" ({text})");
    let kind = if name.starts_with("refs/tags/") {
        "[new tag]"
    } else if name.starts_with("refs/heads/") {
        "[new branch]"
    } else {
        "[new reference]"
    };
    let (flag, summary, reason) = match &result.status {
        RefStatus::UpToDate => ('=', "[up to date]".to_owned(), String::new()),
        RefStatus::Ok if result.new.is_null() => ('-', "[deleted]".to_owned(), String::new()),
        RefStatus::Ok if result.old.is_null() => ('*', kind.to_owned(), String::new()),
        RefStatus::Ok => {
            let dots = if result.forced { "..." } else { ".." };
            let reason = if result.forced { " (forced update)" } else { "" };
            let flag = if result.forced { '+' } else { ' ' };
            (flag, format!("{}{dots}{}", hex(&result.old), hex(&result.new)), reason.to_owned())
        }
        RefStatus::Refused(text) => {
            ('!', "[remote rejected]".to_owned(), remote_reason(text.as_bstr()))
        }
        RefStatus::Unknown => {
            ('!', "[remote failure]".to_owned(), " (remote failed to report status)".to_owned())
        }
        RefStatus::Rejected(why) => {
            let words = match why {
                Rejection::FetchFirst => "fetch first",
                Rejection::NonFastForward => "non-fast-forward",
                Rejection::AlreadyExists => "already exists",
                Rejection::NeedsForce => "needs force",
                Rejection::Stale { .. } => "stale info",
                Rejection::CannotDelete => "remote does not support deleting refs",
                Rejection::NotThere => "remote ref does not exist",
                Rejection::AtomicFailed => "atomic push failed",
            };
            ('!', "[rejected]".to_owned(), format!(" ({words})"))
        }
    };
    let deleted = result.new.is_null();
    if porcelain {
        let from = if deleted { "" } else { spec.from.as_str() };
        return format!("{flag}\t{from}:{name}\t{summary}{reason}");
    }
    let names = if deleted {
        short(&name).to_owned()
    } else {
        format!("{} -> {}", short(&spec.from), short(&name))
    };
    format!(" {flag} {summary:<17} {names}{reason}")
}

/// Moves the remote-tracking references, and the upstream if asked.
fn follow(asked: &Asked, remote: &str, specs: &[Spec], outcome: &Outcome) {
    let tracked = git(&["config", "--get-all", &format!("remote.{remote}.fetch")]);
    let all = format!("+refs/heads/*:refs/remotes/{remote}/*");
    let tracks = tracked.is_some_and(|it| it.lines().any(|it| it == all));
    for (spec, result) in specs.iter().zip(&outcome.refs) {
        if !matches!(result.status, RefStatus::Ok | RefStatus::UpToDate) {
            continue;
        }
        let name = result.name.to_string();
        let Some(branch) = name.strip_prefix("refs/heads/") else {
            continue;
        };
        let tracking = format!("refs/remotes/{remote}/{branch}");
        if tracks && asked.verbose {
            eprintln!("updating local tracking ref '{tracking}'");
        }
        if tracks && result.new.is_null() {
            git(&["update-ref", "-d", &tracking]);
        } else if tracks {
            git(&["update-ref", "-m", "update by push", &tracking, &result.new.to_string()]);
        }
        if let Some(local) = spec.from.strip_prefix("refs/heads/").filter(|_| asked.upstream) {
            git(&["config", &format!("branch.{local}.remote"), remote]);
            git(&["config", &format!("branch.{local}.merge"), &name]);
            if !asked.quiet {
                println!("branch '{local}' set up to track '{remote}/{branch}'.");
            }
        }
    }
}
