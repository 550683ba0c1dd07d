//! Says what came of a push, as git does, and notes it in the local repository.

use std::io::Write;

use git_intake::push::{Error, Outcome, RefResult, RefStatus, Rejection};
use gix::{
    ObjectId,
    bstr::{BStr, ByteSlice},
};

use super::{
    args::Asked,
    here::{Here, Remote, git},
    refspec::Spec,
};

/// What a failure before any answer is called.
pub fn fatal(err: &Error) -> i32 {
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
        Error::Forbidden { url, .. } => {
            eprintln!("fatal: unable to access '{url}/': The requested URL returned error: 403");
        }
        Error::TooLarge { url, .. } => {
            eprintln!("fatal: unable to access '{url}/': The requested URL returned error: 413");
        }
        Error::NotFound { url, .. } if url.starts_with("http") => {
            eprintln!("fatal: repository '{url}/' not found");
        }
        Error::Login { url, .. } => eprintln!("fatal: Authentication failed for '{url}/'"),
        Error::Transport { scheme } => eprintln!("fatal: transport '{scheme}' not allowed"),
        _ => eprintln!("fatal: {text}"),
    }
    128
}

/// An address without what may be secret.
pub fn anonymous(url: &str) -> String {
    let Some((before, after)) = url.split_once('@') else { return url.to_owned() };
    match before.split_once("://") {
        Some((scheme, user)) if !user.contains('/') => format!("{scheme}://{after}"),
        None if after.contains(':') && !before.contains('/') => after.to_owned(),
        _ => url.to_owned(),
    }
}

/// What tells of one push.
pub struct Telling<'a> {
    pub asked: &'a Asked,
    pub here: &'a Here,
    pub repo: &'a gix::Repository,
    pub remote: &'a Remote,
    pub url: &'a str,
    pub specs: &'a [Spec],
    pub outcome: &'a Outcome,
}

impl Telling<'_> {
    /// Prints as git does, notes what has moved, and gives git's exit code.
    pub fn tell(&self) -> i32 {
        let (asked, outcome) = (self.asked, self.outcome);
        if outcome.advertised.is_empty() && outcome.refs.is_empty() {
            eprintln!("No refs in common and none specified; doing nothing.");
            eprintln!("Perhaps you should specify a branch.");
            return 1;
        }
        if let Some(Err(reason)) = &outcome.unpack {
            eprintln!("error: remote unpack failed: {reason}");
        }
        if let Some(err) = &outcome.lost {
            fatal(err);
        }
        let group_broke = outcome.refs.iter().any(is_in_broken_group);
        let over_http = self.url.starts_with("http");
        if group_broke
            && !over_http
            && let Some((name, number)) = outcome.refs.iter().find_map(group_breaker)
        {
            eprintln!("error: atomic push failed for ref {name}. status: {number}");
        }
        self.list();
        if asked.upstream {
            self.set_upstreams();
        }
        if !asked.dry_run {
            self.follow();
        }
        let unpacked = !matches!(outcome.unpack, Some(Err(_))) && outcome.lost.is_none();
        if asked.porcelain && unpacked && !outcome.program_failed {
            println!("Done");
        }
        if outcome.is_ok() && !outcome.program_failed {
            let idle = outcome.refs.iter().all(|it| it.status == RefStatus::UpToDate);
            if idle && asked.verbosity >= 0 && !asked.porcelain {
                eprintln!("Everything up-to-date");
            }
            return 0;
        }
        let text = format!("error: failed to push some refs to '{}'", anonymous(self.url));
        eprintln!("{}", self.here.painted("push", RED, &text));
        self.advise();
        1
    }

    fn list(&self) {
        let (asked, outcome) = (self.asked, self.outcome);
        let up_to_date = |it: &RefResult| it.status == RefStatus::UpToDate;
        let mut lines = Vec::new();
        let width = self.width();
        // Git tells what went well first, and what did not last.
        for wanted in [0, 1, 2] {
            for (spec, result) in self.specs.iter().zip(&outcome.refs) {
                let place = match result.status {
                    RefStatus::UpToDate => 0,
                    RefStatus::Ok => 1,
                    _ => 2,
                };
                let shown = !up_to_date(result) || asked.verbosity > 0 || asked.porcelain;
                if place == wanted && shown {
                    for made in made(result) {
                        lines.push(self.line(spec, result, &made, width));
                    }
                }
            }
        }
        if lines.is_empty() || asked.verbosity < 0 && outcome.is_ok() {
            return;
        }
        let mut out: Box<dyn Write> =
            if asked.porcelain { Box::new(std::io::stdout()) } else { Box::new(std::io::stderr()) };
        let _ = writeln!(out, "To {}", anonymous(self.url));
        for line in &lines {
            let _ = writeln!(out, "{line}");
        }
    }

    fn abbreviated(&self, id: &ObjectId) -> String {
        use gix::prelude::ObjectIdExt;
        match id.attach(self.repo).shorten() {
            Ok(short) if !id.is_null() => short.to_string(),
            _ => id.to_hex_with_len(7).to_string(),
        }
    }

    fn width(&self) -> usize {
        let ids = self.outcome.refs.iter().flat_map(|it| [it.old, it.new]);
        2 * ids.map(|it| self.abbreviated(&it).len()).max().unwrap_or(7) + 3
    }

    fn line(&self, spec: &Spec, result: &RefResult, made: &Made, width: usize) -> String {
        let own_name = result.name.to_str_lossy();
        let name = made.name.as_deref().unwrap_or(&own_name);
        let kind = if name.starts_with("refs/tags/") {
            "[new tag]"
        } else if name.starts_with("refs/heads/") {
            "[new branch]"
        } else {
            "[new reference]"
        };
        let deleted = result.new.is_null();
        let (old, new) = (made.old.unwrap_or(result.old), made.new.unwrap_or(result.new));
        let (flag, summary, reason) = match &result.status {
            RefStatus::UpToDate => ('=', "[up to date]".to_owned(), String::new()),
            RefStatus::Ok if deleted => ('-', "[deleted]".to_owned(), String::new()),
            RefStatus::Ok if old.is_null() => ('*', kind.to_owned(), String::new()),
            RefStatus::Ok => {
                let forced = made.forced || result.forced || spec.forced;
                let dots = if forced { "..." } else { ".." };
                let reason = if forced { "forced update" } else { "" };
                let flag = if forced { '+' } else { ' ' };
                let ids = [self.abbreviated(&old), self.abbreviated(&new)];
                (flag, ids.join(dots), reason.to_owned())
            }
            RefStatus::Refused(text) => ('!', "[remote rejected]".to_owned(), text.to_string()),
            RefStatus::Unknown => {
                let reason = "remote failed to report status".to_owned();
                ('!', "[remote failure]".to_owned(), reason)
            }
            RefStatus::Rejected(why) => ('!', "[rejected]".to_owned(), words(*why).to_owned()),
        };
        let reason = if reason.is_empty() { reason } else { format!(" ({reason})") };
        // Git names what is to be deleted only where the remote was not asked.
        let ours =
            matches!(&result.status, RefStatus::Rejected(why) if *why != Rejection::CannotDelete);
        let from = match deleted {
            true if ours => "(delete)",
            true => "",
            false => spec.from.as_str(),
        };
        if self.asked.porcelain {
            return format!("{flag}\t{from}:{name}\t{summary}{reason}");
        }
        let names = match from {
            "" => short(name).to_owned(),
            from => format!("{} -> {}", short(from), short(name)),
        };
        let lead = format!("{flag} {summary:<width$}");
        let fine = matches!(result.status, RefStatus::Ok | RefStatus::UpToDate);
        let lead = if fine { lead } else { self.here.painted("transport", RED, &lead) };
        format!(" {lead} {names}{reason}")
    }

    fn set_upstreams(&self) {
        for (spec, result) in self.specs.iter().zip(&self.outcome.refs) {
            if !matches!(result.status, RefStatus::Ok | RefStatus::UpToDate) {
                continue;
            }
            let local = self.here.resolve(&spec.from).unwrap_or_default();
            let (Some(local), Some(branch)) = (
                local.strip_prefix("refs/heads/"),
                result.name.strip_prefix(b"refs/heads/").map(|it| it.to_str_lossy()),
            ) else {
                continue;
            };
            let remote = &self.remote.name;
            if self.asked.dry_run {
                println!("Would set upstream of '{local}' to '{branch}' of '{remote}'");
                continue;
            }
            git(&["config", &format!("branch.{local}.remote"), remote]);
            git(&["config", &format!("branch.{local}.merge"), &result.name.to_string()]);
            if self.asked.verbosity >= 0 {
                println!("branch '{local}' set up to track '{remote}/{branch}'.");
            }
        }
    }

    /// Moves the references that follow the remote's.
    fn follow(&self) {
        for result in &self.outcome.refs {
            if !matches!(result.status, RefStatus::Ok | RefStatus::UpToDate) {
                continue;
            }
            for made in made(result) {
                let name = made.name.unwrap_or_else(|| result.name.to_string());
                let Some(tracking) = self.here.tracking(self.remote, &name) else { continue };
                if self.asked.verbosity > 0 {
                    eprintln!("updating local tracking ref '{tracking}'");
                }
                let new = made.new.unwrap_or(result.new);
                if new.is_null() {
                    git(&["update-ref", "-d", &tracking]);
                } else {
                    git(&["update-ref", "-m", "update by push", &tracking, &new.to_string()]);
                }
            }
        }
    }

    fn advise(&self) {
        let rejected = |why| {
            let mut refs = self.outcome.refs.iter();
            refs.find(|it| it.status == RefStatus::Rejected(why)).map(|it| it.name.to_string())
        };
        let on = |key: &str| self.here.get(&format!("advice.{key}")) != Some("false");
        let advice = if let Some(name) = rejected(Rejection::NonFastForward) {
            if self.here.head.as_deref() == Some(name.as_str()) {
                let text = "Updates were rejected because the tip of your current branch is behind";
                on("pushnonffcurrent").then_some(text)
            } else {
                let text = "Updates were rejected because a pushed branch tip is behind its remote";
                on("pushnonffmatching").then_some(text)
            }
        } else if rejected(Rejection::AlreadyExists).is_some() {
            let text = "Updates were rejected because the tag already exists in the remote.";
            on("pushalreadyexists").then_some(text)
        } else if rejected(Rejection::FetchFirst).is_some() {
            let text = "Updates were rejected because the remote contains work that you do not";
            on("pushfetchfirst").then_some(text)
        } else if rejected(Rejection::NeedsForce).is_some() {
            let text = "You cannot update a remote ref that points at a non-commit object,";
            on("pushneedsforce").then_some(text)
        } else {
            None
        };
        if let Some(text) = advice.filter(|_| on("pushupdaterejected")) {
            eprintln!("{}", self.here.painted("advice", YELLOW, &format!("hint: {text}")));
        }
    }
}

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";

/// What the remote made of one update, if its option lines say so.
#[derive(Default)]
struct Made {
    name: Option<String>,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    forced: bool,
}

fn made(result: &RefResult) -> Vec<Made> {
    let mut out = Vec::new();
    for answer in &result.options {
        let mut made = Made::default();
        for option in answer {
            let (key, value) = option.split_once_str(" ").unwrap_or((option, b""));
            match key {
                b"refname" => made.name = Some(value.to_str_lossy().into_owned()),
                b"old-oid" => made.old = ObjectId::from_hex(value).ok(),
                b"new-oid" => made.new = ObjectId::from_hex(value).ok(),
                b"forced-update" => made.forced = true,
                _ => {}
            }
        }
        out.push(made);
    }
    if out.is_empty() {
        out.push(Made::default());
    }
    out
}

fn words(why: Rejection) -> &'static str {
    match why {
        Rejection::FetchFirst => "fetch first",
        Rejection::NonFastForward => "non-fast-forward",
        Rejection::AlreadyExists => "already exists",
        Rejection::NeedsForce => "needs force",
        Rejection::Stale { .. } => "stale info",
        Rejection::CannotDelete => "remote does not support deleting refs",
        Rejection::AtomicFailed => "atomic push failed",
    }
}

fn is_in_broken_group(result: &RefResult) -> bool {
    result.status == RefStatus::Rejected(Rejection::AtomicFailed)
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
        Rejection::AtomicFailed => return None,
    };
    Some((result.name.as_bstr(), number))
}

fn short(name: &str) -> &str {
    ["refs/heads/", "refs/tags/", "refs/remotes/"]
        .iter()
        .find_map(|it| name.strip_prefix(it))
        .unwrap_or(name)
}
