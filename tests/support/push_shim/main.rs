//! Stands in for `git push`, so that git's own test suite can judge the push room.
//!
//! Called as `push-shim ARGS` with the arguments of `git push`, in a repository. Messages, exit
//! codes and `--porcelain` output are git's. References and configuration are looked up with git
//! itself (`PUSH_SHIM_GIT`, else `git`); which references are meant is decided here, and what is
//! pushed is pushed by the room. What is not of the room's concern goes to git whole, if
//! `PUSH_SHIM_GIT` is set: `--signed`, submodules, pre-push hooks, negotiation, traces of git's own
//! insides, and words that git refuses before it connects. `PUSH_SHIM_LOG` names a file that says
//! which way each push went.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod args;
mod asker;
mod here;
mod refspec;
mod tell;

use std::{
    io::{IsTerminal, Write},
    os::unix::process::CommandExt,
    process::{Command, exit},
    time::Duration,
};

use git_intake::push::{Deadlines, Error, Observer, Options, Progress, push_with};
use gix::bstr::{BStr, ByteSlice};

use args::Asked;
use here::{Here, Remote};
use refspec::{Refspec, Wrong};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(mut asked) = args::parse(&args) else { give_to_git(&args, "form") };
    let Some(here) = Here::look() else { give_to_git(&args, "repository") };
    let name = asked.rest.first().cloned().or(asked.repo.clone());
    let remote = here.remote(&name.unwrap_or_else(|| here.default_remote()));
    let part = |key: &str| here.get(&format!("remote.{}.{key}", remote.name));
    if !asked.all && part("mirror") == Some("true") {
        asked.mirror = true;
    }
    if let Some(why) = foreign(&asked, &here, &remote) {
        give_to_git(&args, why);
    }
    if asked.receive_pack.is_none() {
        asked.receive_pack = part("receivepack").map(str::to_owned);
    }
    let Some(specs) = refspec::asked(&asked, &here, &remote) else { give_to_git(&args, "refspec") };
    note("room", &args);
    let mut code = 0;
    for (n, url) in remote.urls.iter().enumerate() {
        let push = Push { args: &args, asked: &asked, here: &here, remote: &remote, specs: &specs };
        match push.run(url, n == 0) {
            0 => {}
            128 => exit(128),
            other => code = other,
        }
    }
    exit(code)
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
        let err = Command::new(here::program()).arg("push").args(args).exec();
        eprintln!("fatal: {err}");
    } else {
        eprintln!("fatal: push-shim does not know this form of push");
    }
    exit(128)
}

/// What makes a push none of the room's business.
fn foreign(asked: &Asked, here: &Here, remote: &Remote) -> Option<&'static str> {
    let set = |key: &str| here.get(key).is_some();
    let variable = |name: &str| std::env::var_os(name).is_some();
    let submodules = here.get("push.recursesubmodules").is_some_and(|it| it != "no")
        || here.is_on("submodule.recurse");
    let traced = ["GIT_TRACE2_EVENT", "GIT_TRACE_PACKET", "GIT_TRACE_CURL", "GIT_CURL_VERBOSE"];
    if remote.urls.iter().any(|it| it.contains("::")) || set(&format!("remote.{}.vcs", remote.name))
    {
        Some("remote helper")
    } else if here.get("push.gpgsign").is_some_and(|it| it != "false") {
        Some("signed")
    } else if submodules {
        Some("submodules")
    } else if here.is_on("push.negotiate") {
        Some("negotiation")
    } else if here.is_on("push.useforceifincludes") && !asked.leases.is_empty() {
        Some("force-if-includes")
    } else if asked.mirror && asked.rest.len() > 1 {
        Some("form")
    } else if !asked.no_verify && here.hook_exists() {
        Some("pre-push hook")
    } else if here.is_malformed() {
        Some("settings")
    } else if traced.iter().any(|it| variable(it)) {
        Some("trace")
    } else {
        None
    }
}

struct Push<'a> {
    args: &'a [String],
    asked: &'a Asked,
    here: &'a Here,
    remote: &'a Remote,
    specs: &'a [Refspec],
}

impl Push<'_> {
    fn run(&self, url: &str, first: bool) -> i32 {
        let (asked, args) = (self.asked, self.args);
        let Ok(parsed) = gix::url::parse(url.as_bytes().as_bstr()) else {
            give_to_git(args, "url")
        };
        let Ok(repo) = gix::ThreadSafeRepository::discover_with_environment_overrides(".") else {
            give_to_git(args, "repository")
        };
        let mut repo = repo.to_thread_local();
        self.here.command(&mut repo);
        let mut asker = asker::Asker::default();
        let to_terminal = std::io::stderr().is_terminal();
        let progress = asked.progress.unwrap_or(to_terminal) && asked.verbosity >= 0;
        let mut terminal = Terminal { progress, to_terminal, told: None };
        let mut options = Options {
            atomic: asked.atomic,
            thin: !asked.no_thin,
            quiet: asked.verbosity < 0 || !progress,
            dry_run: asked.dry_run,
            push_options: asked.options.clone(),
            credentials: Some(&mut asker),
            allow_clear_text: true,
            receive_pack: asked.receive_pack.clone().map(Into::into),
            observer: Some(&mut terminal),
            deadlines: Deadlines { idle: Duration::from_secs(600), ..Deadlines::default() },
            ..Options::default()
        };
        if options.push_options.is_empty() {
            options.push_options = self.here.push_options();
        }
        let post_buffer = self.here.get("http.postbuffer").and_then(|it| it.parse().ok());
        let post_buffer_bytes: u64 = post_buffer.unwrap_or(1 << 20);
        if asked.verbosity > 0 {
            eprintln!("Pushing to {}", tell::anonymous(url));
        }
        let (mut chosen, mut wrong) = (Vec::new(), Vec::new());
        let mut choose = |there: &git_intake::push::Advertisement| match refspec::choose(
            asked,
            self.here,
            self.remote,
            self.specs,
            &there.refs,
        ) {
            Ok(specs) => {
                chosen = specs;
                Ok(chosen.iter().map(|it| it.update.clone()).collect())
            }
            Err(what) => {
                wrong = what;
                Err("no reference is meant".into())
            }
        };
        let answer = push_with(&repo, &parsed, &mut choose, &mut options);
        drop(options);
        match answer {
            Ok(outcome) => {
                terminal.end(&outcome);
                if asked.verbosity > 1 && url.starts_with("http") && outcome.sent_bytes > 0 {
                    let size = match outcome.sent_bytes {
                        n if n > post_buffer_bytes => "chunked".to_owned(),
                        n => format!("{n} bytes"),
                    };
                    eprintln!("POST git-receive-pack ({size})");
                }
                let (here, remote, repo) = (self.here, self.remote, &repo);
                let specs = &chosen;
                tell::Telling { asked, here, repo, remote, url, specs, outcome: &outcome }.tell()
            }
            Err(Error::Choice { .. })
                if first && wrong.iter().any(|it| matches!(it, Wrong::Gits)) =>
            {
                give_to_git(args, "refspec")
            }
            Err(Error::Choice { .. }) => {
                wrong.iter().for_each(|it| eprintln!("error: {it}"));
                eprintln!("error: failed to push some refs to '{}'", tell::anonymous(url));
                1
            }
            Err(err) => tell::fatal(&err),
        }
    }
}

/// Prints what is heard while a push is under way.
struct Terminal {
    progress: bool,
    to_terminal: bool,
    told: Option<Progress>,
}

impl Observer for Terminal {
    fn message(&mut self, line: &BStr, transient: bool) {
        let mut text = b"remote: ".to_vec();
        text.extend_from_slice(line);
        // Git clears what a longer line may have left.
        if !line.is_empty() {
            let clear: &[u8] = if self.to_terminal { b"\x1b[K" } else { b"        " };
            text.extend_from_slice(clear);
        }
        text.push(if transient { b'\r' } else { b'\n' });
        let _ = std::io::stderr().write_all(&text);
    }

    fn complaint(&mut self, line: &BStr) {
        eprintln!("{line}");
    }

    fn progress(&mut self, now: Progress) {
        let percent =
            |it: &Progress| u64::from(it.objects) * 100 / u64::from(it.objects_total.max(1));
        let told = self.told.replace(now);
        if self.progress && told.is_none_or(|it| percent(&it) != percent(&now)) {
            let (n, total) = (now.objects, now.objects_total);
            eprint!("Writing objects: {:3}% ({n}/{total})\r", percent(&now));
        }
    }
}

impl Terminal {
    fn end(&self, outcome: &git_intake::push::Outcome) {
        if let (true, Some(last)) = (self.progress, self.told) {
            let (n, bytes, deltas) = (last.objects_total, last.bytes, outcome.pack.deltas);
            eprintln!("Writing objects: 100% ({n}/{n}), {bytes} bytes, done.");
            eprintln!("Total {n} (delta {deltas}), reused 0 (delta 0), pack-reused 0");
        }
    }
}
