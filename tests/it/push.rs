//! The push room against git's own receive-pack, over every transport.
//!
//! Each case runs against each remote; after it the remote must pass `git fsck --strict` and hold
//! what was reported.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use git_intake::push::{
    Error, Expect, Observer, Options, Outcome, Progress, RefStatus, RefUpdate, Rejection,
    credentials::{Login, Token},
};
use gix::{
    ObjectId,
    bstr::{BStr, ByteSlice},
};
use tempfile::TempDir;

use crate::remote::{Auth, PASSWORD, Remote, TOKEN, USER, run};

/// A local repository with a work tree.
struct Local {
    dir: TempDir,
}

impl Local {
    fn new() -> Local {
        Local::named_by("sha1")
    }

    /// Objects are named by sha1 or sha256.
    fn named_by(object_format: &str) -> Local {
        let dir = tempfile::Builder::new().prefix("local-").tempdir().unwrap();
        let format = format!("--object-format={object_format}");
        run(dir.path(), &["init", "--quiet", "-b", "main", &format]);
        run(dir.path(), &["config", "user.name", "C O Mitter"]);
        run(dir.path(), &["config", "user.email", "committer@example.com"]);
        Local { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn git(&self, args: &[&str]) -> String {
        run(self.path(), args)
    }

    fn commit(&self, file: &str, content: impl AsRef<[u8]>) -> ObjectId {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", file]);
        self.id("HEAD")
    }

    fn id(&self, rev: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", rev]).as_bytes()).unwrap()
    }

    fn repo(&self) -> gix::Repository {
        gix::open_opts(self.path(), gix::open::Options::isolated()).unwrap()
    }
}

fn null() -> ObjectId {
    gix::hash::Kind::Sha1.null()
}

fn update(name: &str, new: ObjectId, expect: Expect) -> RefUpdate {
    RefUpdate { name: name.into(), new, expect }
}

fn fast_forward(name: &str, new: ObjectId) -> RefUpdate {
    update(name, new, Expect::FastForward)
}

fn login(remote: &Remote) -> Option<Login> {
    match remote.auth {
        Auth::None => None,
        Auth::Basic => Some(Login::Basic { user: USER.into(), password: PASSWORD.into() }),
        Auth::Bearer => Some(Login::Bearer(TOKEN.into())),
    }
}

/// What the remote asks for.
fn options<'a>(remote: &Remote, token: Option<&'a mut Token>) -> Options<'a> {
    let mut options = Options {
        ssh_command: remote.ssh_command.as_deref().map(Into::into),
        allow_clear_text: true,
        ..Options::default()
    };
    options.client.ca_file = remote.ca_file.clone();
    if let Some(token) = token {
        options.credentials = Some(token);
    }
    options
}

/// Pushes with what the remote asks for, and checks the remote against the answer.
fn try_push(
    local: &Local,
    remote: &Remote,
    updates: &[RefUpdate],
    change: impl FnOnce(&mut Options<'_>),
) -> Result<Outcome, Error> {
    let mut token = login(remote).map(Token);
    let mut options = options(remote, token.as_mut());
    change(&mut options);
    let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
    let before = |name: &str| remote.value(name);
    let held: Vec<_> = updates.iter().map(|it| before(it.name.to_str().unwrap())).collect();
    let outcome = git_intake::push::push(&local.repo(), &url, updates, &mut options)?;
    assert_eq!(outcome.refs.len(), updates.len());
    for (result, held) in outcome.refs.iter().zip(held) {
        let now = remote.value(result.name.to_str().unwrap());
        match result.status {
            RefStatus::Ok if options.dry_run => assert_eq!(now, held),
            RefStatus::Ok | RefStatus::UpToDate => {
                let wanted = (!result.new.is_null()).then(|| result.new.to_string());
                assert_eq!(now, wanted, "{}", result.name);
            }
            RefStatus::Rejected(_) | RefStatus::Refused(_) => assert_eq!(now, held),
            RefStatus::Unknown => panic!("{outcome:?}"),
        }
    }
    is_sound(remote);
    Ok(outcome)
}

fn is_sound(remote: &Remote) {
    remote.git(&["fsck", "--strict", "--no-dangling"]);
}

fn push(local: &Local, remote: &Remote, updates: &[RefUpdate]) -> Outcome {
    try_push(local, remote, updates, |_| ()).unwrap()
}

fn statuses(outcome: &Outcome) -> Vec<&RefStatus> {
    outcome.refs.iter().map(|it| &it.status).collect()
}

/// Runs a case against a fresh remote of every kind.
fn everywhere(case: impl Fn(&Local, &Remote)) {
    on_each(|remote| case(&Local::new(), remote));
}

fn on_each(mut case: impl FnMut(&Remote)) {
    let remotes: [fn() -> Option<Remote>; 7] = [
        || Some(Remote::file()),
        Remote::daemon,
        || Remote::http(Auth::None),
        || Remote::https(Auth::None),
        || Remote::https(Auth::Basic),
        || Remote::https(Auth::Bearer),
        Remote::ssh,
    ];
    for remote in remotes {
        if let Some(remote) = remote() {
            eprintln!("=== {} ({:?})", remote.url, remote.auth);
            case(&remote);
        }
    }
}

#[test]
fn an_empty_remote_gets_its_first_branch() {
    everywhere(|local, remote| {
        let first = local.commit("a/b/c.txt", "hello\n");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", first)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.unpack, Some(Ok(())));
        assert_eq!(outcome.pack.objects, 5);
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", first)]);
        assert_eq!(statuses(&outcome), [&RefStatus::UpToDate]);
    });
}

#[test]
fn a_fast_forward_sends_only_what_is_new() {
    everywhere(|local, remote| {
        for n in 0..300 {
            let content = format!("{n} first\n").repeat(20);
            let path = local.path().join(format!("d{}/f{n}", n % 10));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let first = local.commit("one", "1");
        push(local, remote, &[fast_forward("refs/heads/main", first)]);
        let second = local.commit("d3/f3", "3 first\n".repeat(20) + "and more\n");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", second)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.objects, 4);
        // Both trees and the file.
        assert_eq!(outcome.pack.deltas, 3);
    });
}

#[test]
fn a_branch_that_moved_is_to_be_fetched_first() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        push(local, remote, &[fast_forward("refs/heads/main", first)]);
        let other = Local::new();
        let theirs = other.commit("b", "theirs");
        let force = update("refs/heads/main", theirs, Expect::Force);
        let outcome = push(&other, remote, &[force]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok]);
        let second = local.commit("a", "2");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", second)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Rejected(Rejection::FetchFirst)]);
    });
}

#[test]
fn history_is_not_rewritten_without_force() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        let second = local.commit("a", "2");
        push(local, remote, &[fast_forward("refs/heads/main", second)]);
        let back = fast_forward("refs/heads/main", first);
        let outcome = push(local, remote, &[back]);
        assert_eq!(statuses(&outcome), [&RefStatus::Rejected(Rejection::NonFastForward)]);
        let outcome = push(local, remote, &[update("refs/heads/main", first, Expect::Force)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok]);
        assert!(outcome.refs[0].forced);
    });
}

#[test]
fn a_lease_holds_or_is_stale() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        let new = |id, expected| update("refs/heads/main", id, Expect::Exactly(expected));
        let outcome = push(local, remote, &[new(first, first)]);
        let stale = Rejection::Stale { expected: first, found: null() };
        assert_eq!(statuses(&outcome), [&RefStatus::Rejected(stale)]);
        assert_eq!(statuses(&push(local, remote, &[new(first, null())])), [&RefStatus::Ok]);
        let second = local.commit("a", "2");
        assert_eq!(statuses(&push(local, remote, &[new(second, first)])), [&RefStatus::Ok]);
        let outcome = push(local, remote, &[new(first, first)]);
        let stale = Rejection::Stale { expected: first, found: second };
        // The lease names what should become of it, but not what is there.
        assert_eq!(statuses(&outcome), [&RefStatus::Rejected(stale)]);
    });
}

#[test]
fn references_are_deleted() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        let two = ["refs/heads/main", "refs/heads/other"].map(|it| fast_forward(it, first));
        assert_eq!(statuses(&push(local, remote, &two)), [&RefStatus::Ok, &RefStatus::Ok]);
        let gone = ["refs/heads/other", "refs/heads/none"].map(|it| fast_forward(it, null()));
        let outcome = push(local, remote, &gone);
        // Whether the absence of what should go is a mistake is the remote's to say: git says no.
        assert_eq!(statuses(&outcome), [&RefStatus::Ok, &RefStatus::Ok]);
        assert_eq!(outcome.pack.objects, 0);
    });
}

#[test]
fn tags_travel_with_their_objects_and_stay() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        local.git(&["tag", "-a", "-m", "one", "v1"]);
        let tag = local.id("v1");
        let refs = [fast_forward("refs/tags/v1", tag), fast_forward("refs/heads/main", first)];
        let outcome = push(local, remote, &refs);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok, &RefStatus::Ok]);
        assert_eq!(outcome.counts.tags, 1);
        let outcome = push(local, remote, &[fast_forward("refs/tags/v1", first)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Rejected(Rejection::AlreadyExists)]);
    });
}

#[test]
fn an_atomic_push_is_all_or_nothing() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        let second = local.commit("a", "2");
        push(local, remote, &[fast_forward("refs/heads/main", second)]);
        let refs = [fast_forward("refs/heads/new", first), fast_forward("refs/heads/main", first)];
        let outcome = try_push(local, remote, &refs, |it| it.atomic = true).unwrap();
        let rejected = |it| RefStatus::Rejected(it);
        let expected = [rejected(Rejection::AtomicFailed), rejected(Rejection::NonFastForward)];
        assert_eq!(statuses(&outcome), expected.iter().collect::<Vec<_>>());
        // And when only the remote knows the reason.
        remote.hook("update", "case $1 in */bad) echo no bad ones; exit 1;; esac");
        let refs = ["refs/heads/new", "refs/heads/bad"].map(|it| fast_forward(it, first));
        let outcome = try_push(local, remote, &refs, |it| it.atomic = true).unwrap();
        assert!(outcome.refs.iter().all(|it| matches!(it.status, RefStatus::Refused(_))));
        assert!(outcome.messages.iter().any(|it| *it == "no bad ones"), "{outcome:?}");
    });
}

#[test]
fn an_update_hook_may_refuse_one_of_two() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        remote.hook("update", "case $1 in */bad) exit 1;; esac");
        let refs = ["refs/heads/good", "refs/heads/bad"].map(|it| fast_forward(it, first));
        let outcome = push(local, remote, &refs);
        let refused = RefStatus::Refused("hook declined".into());
        assert_eq!(statuses(&outcome), [&RefStatus::Ok, &refused]);
    });
}

#[test]
fn a_hook_that_refuses_all_is_heard() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        remote.hook("pre-receive", "echo 'not on a Sunday' >&2; exit 1");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", first)]);
        let refused = RefStatus::Refused("pre-receive hook declined".into());
        assert_eq!(statuses(&outcome), [&refused]);
        assert_eq!(outcome.messages, ["not on a Sunday"]);
    });
}

#[test]
fn push_options_reach_the_hooks() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        remote.hook("pre-receive", "echo $GIT_PUSH_OPTION_COUNT: $GIT_PUSH_OPTION_1");
        let wish = [fast_forward("refs/heads/main", first)];
        let options = |it: &mut Options<'_>| it.push_options = vec!["one".into(), "two=2".into()];
        let answer = try_push(local, remote, &wish, options);
        let why = matches!(answer, Err(Error::Unsupported { capability: "push-options" }));
        assert!(why, "{answer:?}");
        remote.git(&["config", "receive.advertisePushOptions", "true"]);
        let outcome = try_push(local, remote, &wish, options).unwrap();
        assert_eq!(statuses(&outcome), [&RefStatus::Ok]);
        assert!(outcome.messages.iter().any(|it| *it == "2: two=2"), "{outcome:?}");
    });
}

/// Writes down what it hears and when.
#[derive(Default)]
struct Listener {
    lines: Vec<(String, Instant)>,
    last: Option<Progress>,
}

impl Observer for Listener {
    fn message(&mut self, line: &BStr, _transient: bool) {
        self.lines.push((line.to_string(), Instant::now()));
    }
    fn progress(&mut self, progress: Progress) {
        self.last = Some(progress);
    }
}

#[test]
fn messages_and_progress_are_heard_while_it_goes_on() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        remote.hook("pre-receive", "echo one; sleep 0.4; echo two");
        let mut listener = Listener::default();
        let outcome = push_to_main(local, remote, first, &mut listener);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok]);
        is_sound(remote);
        let at = |text: &str| listener.lines.iter().find(|it| it.0 == text).unwrap().1;
        let between = at("two") - at("one");
        // A web server may gather what its backend says.
        let direct = !remote.url.starts_with("http");
        assert!(!direct || between > Duration::from_millis(100), "they came at once");
        let last = listener.last.unwrap();
        assert_eq!((last.objects, last.objects_total), (3, 3));
        assert!(last.bytes > 0);
    });
}

/// A push to `main` with somebody listening.
fn push_to_main(local: &Local, remote: &Remote, new: ObjectId, listener: &mut Listener) -> Outcome {
    // The options hold the listener for as long as they live, so they are made here.
    let mut token = login(remote).map(Token);
    let mut options = options(remote, token.as_mut());
    options.observer = Some(listener);
    let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
    let wish = [fast_forward("refs/heads/main", new)];
    git_intake::push::push(&local.repo(), &url, &wish, &mut options).unwrap()
}

#[test]
fn what_a_hook_made_of_a_reference_is_told() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        remote.git(&["config", "receive.procReceiveRefs", "refs/for"]);
        let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
        let answer = [
            &line("version=1\n"),
            "0000",
            &line("ok refs/for/main\n"),
            &line("option refname refs/changes/1\n"),
            &line(&format!("option new-oid {first}\n")),
            &line("ok refs/for/main\n"),
            &line("option refname refs/changes/2\n"),
            "0000",
        ];
        remote.hook("proc-receive", &format!("printf '{}'; cat >/dev/null", answer.concat()));
        let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
        let mut token = login(remote).map(Token);
        let wish = [fast_forward("refs/for/main", first)];
        let mut options = options(remote, token.as_mut());
        let outcome = git_intake::push::push(&local.repo(), &url, &wish, &mut options).unwrap();
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        let told: Vec<Vec<String>> = outcome.refs[0]
            .options
            .iter()
            .map(|it| it.iter().map(ToString::to_string).collect())
            .collect();
        let one = vec!["refname refs/changes/1".to_owned(), format!("new-oid {first}")];
        assert_eq!(told, [one, vec!["refname refs/changes/2".to_owned()]]);
        is_sound(remote);
    });
}

#[test]
fn the_empty_tree_is_sent_though_nobody_wrote_it() {
    everywhere(|local, remote| {
        let tree = local.git(&["hash-object", "-t", "tree", "/dev/null"]);
        let commit = local.git(&["commit-tree", "-m", "empty", &tree]);
        let commit = ObjectId::from_hex(commit.as_bytes()).unwrap();
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", commit)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.objects, 2);
    });
}

#[test]
fn what_is_meant_may_be_chosen_when_it_is_known_what_is_there() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        push(local, remote, &[fast_forward("refs/heads/theirs", first)]);
        let second = local.commit("a", "2");
        let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
        let mut token = login(remote).map(Token);
        let mut options = options(remote, token.as_mut());
        let mut choose = |there: &git_intake::push::Advertisement| {
            let updates = there.refs.keys().map(|it| fast_forward(&it.to_string(), second));
            Ok(updates.collect())
        };
        let repo = local.repo();
        let outcome = git_intake::push::push_with(&repo, &url, &mut choose, &mut options).unwrap();
        assert_eq!(statuses(&outcome), [&RefStatus::Ok]);
        assert_eq!(remote.value("refs/heads/theirs"), Some(second.to_string()));
        let mut refuse = |_: &git_intake::push::Advertisement| Err("there is nothing".into());
        let answer = git_intake::push::push_with(&repo, &url, &mut refuse, &mut options);
        assert!(matches!(answer, Err(Error::Choice { .. })), "{answer:?}");
        is_sound(remote);
    });
}

#[test]
fn a_slow_hook_runs_to_its_end() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        remote.hook("post-receive", "echo begun; sleep 1; touch done; echo ended");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", first)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok]);
        assert_eq!(outcome.messages, ["begun", "ended"]);
        assert!(remote.path.join("done").exists());
    });
}

#[test]
fn a_race_is_lost_to_the_remotes_own_comparison() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        let second = local.commit("a", "2");
        push(local, remote, &[fast_forward("refs/heads/main", first)]);
        // Between what the remote advertised and what it is told to do, someone is faster.
        remote.hook("pre-receive", "unset GIT_QUARANTINE_PATH; git update-ref refs/heads/main $(git commit-tree -m x HEAD^{tree})");
        let update = [fast_forward("refs/heads/main", second)];
        let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
        let mut token = Token(match remote.auth {
            Auth::Bearer => Login::Bearer(TOKEN.into()),
            _ => Login::Basic { user: USER.into(), password: PASSWORD.into() },
        });
        let mut options = Options {
            ssh_command: remote.ssh_command.as_deref().map(Into::into),
            allow_clear_text: true,
            ..Options::default()
        };
        if remote.auth != Auth::None {
            options.credentials = Some(&mut token);
        }
        options.client.ca_file = remote.ca_file.clone();
        let outcome = git_intake::push::push(&local.repo(), &url, &update, &mut options).unwrap();
        assert!(matches!(outcome.refs[0].status, RefStatus::Refused(_)), "{outcome:?}");
        assert_ne!(remote.value("refs/heads/main"), Some(second.to_string()));
        is_sound(remote);
    });
}

#[test]
fn a_strict_remote_refuses_a_bad_object() {
    everywhere(|local, remote| {
        remote.git(&["config", "receive.fsckObjects", "true"]);
        let good = local.commit("a", "1");
        assert_eq!(
            statuses(&push(local, remote, &[fast_forward("refs/heads/main", good)])),
            [&RefStatus::Ok]
        );
        let tree = local.id("HEAD^{tree}");
        let text = format!(
            "tree {tree}\nparent {good}\nauthor A <a@b 0 +0000\ncommitter C <c@d> 0 +0000\n\nx\n"
        );
        fs::write(local.path().join(".git/bad"), text).unwrap();
        let bad = local.git(&["hash-object", "-t", "commit", "-w", "--literally", ".git/bad"]);
        let bad = ObjectId::from_hex(bad.as_bytes()).unwrap();
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", bad)]);
        assert!(matches!(outcome.refs[0].status, RefStatus::Refused(_)), "{outcome:?}");
        assert!(matches!(outcome.unpack, Some(Err(_))), "{outcome:?}");
    });
}

#[test]
fn a_checked_out_branch_is_refused() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        push(local, remote, &[fast_forward("refs/heads/main", first)]);
        remote.git(&["config", "core.bare", "false"]);
        let second = local.commit("a", "2");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", second)]);
        let refused = RefStatus::Refused("branch is currently checked out".into());
        assert_eq!(statuses(&outcome), [&refused]);
    });
}

#[test]
fn a_shallow_clone_pushes_what_it_added() {
    everywhere(|local, remote| {
        local.commit("a", "1");
        local.commit("a", "2");
        let third = local.commit("a", "3");
        push(local, remote, &[fast_forward("refs/heads/main", third)]);
        let shallow = Local::new();
        let from = format!("file://{}", remote.path.display());
        shallow.git(&["fetch", "--quiet", "--depth=1", &from, "main"]);
        shallow.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]);
        let fourth = shallow.commit("b", "4");
        let outcome = push(&shallow, remote, &[fast_forward("refs/heads/main", fourth)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.objects, 3);
    });
}

#[test]
fn what_a_remote_borrows_is_not_sent() {
    everywhere(|local, remote| {
        local.commit("a", "1");
        let second = local.commit("a", "2");
        let lender = local.path().join(".git/objects");
        let info = remote.path.join("objects/info/alternates");
        fs::write(info, format!("{}\n", lender.display())).unwrap();
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", second)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.objects, 0);
        // The lender is about to go, so the remote must not depend on it in the last check.
        remote.git(&["repack", "-a", "-d", "--quiet"]);
    });
}

#[test]
fn objects_may_be_named_by_sha256() {
    on_each(|remote| {
        let old = Local::new();
        let first = old.commit("a", "1");
        remote.reformat("sha256");
        let answer = try_push(&old, remote, &[fast_forward("refs/heads/main", first)], |_| ());
        assert!(matches!(answer, Err(Error::ObjectFormat { .. })), "{answer:?}");

        let local = Local::named_by("sha256");
        let first = local.commit("dir/a", "1\n".repeat(500));
        let null = first.kind().null();
        let outcome = push(&local, remote, &[fast_forward("refs/heads/main", first)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        let second = local.commit("dir/a", format!("2\n{}", "1\n".repeat(500)));
        let both = [fast_forward("refs/heads/main", second), fast_forward("refs/heads/b", first)];
        let outcome = push(&local, remote, &both);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok, &RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.objects, 4);
        let outcome = push(&local, remote, &[fast_forward("refs/heads/b", null)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        let stale = update("refs/heads/main", first, Expect::Exactly(first));
        let outcome = push(&local, remote, &[stale]);
        let why = Rejection::Stale { expected: first, found: second };
        assert_eq!(statuses(&outcome), [&RefStatus::Rejected(why)]);
    });
}

#[test]
fn one_file_in_a_tree_of_a_hundred_thousand() {
    let local = &Local::new();
    let mut stream = String::from("commit refs/heads/main\ncommitter C <c@example.com> 1 +0000\n");
    stream.push_str("data 1\nx\n");
    for n in 0..100_000 {
        let text = format!("kind: Thing\nname: thing-{n}\n");
        let path = format!("d{}/e{}/f{n}", n % 100, n / 100 % 100);
        stream.push_str(&format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len()));
    }
    import(local.path(), &stream);
    let before = local.id("main");
    let pack = fs::read_dir(local.path().join(".git/objects/pack")).unwrap();
    let pack: Vec<_> = pack.map(|it| it.unwrap().path()).collect();
    stream = "commit refs/heads/main\ncommitter C <c@example.com> 2 +0000\ndata 1\ny\n".into();
    stream.push_str("from refs/heads/main^0\nM 100644 inline d7/e7/new\ndata 4\nnew\n");
    import(local.path(), &stream);
    let after = local.id("main");
    on_each(|remote| {
        for file in &pack {
            let name = file.file_name().unwrap();
            fs::copy(file, remote.path.join("objects/pack").join(name)).unwrap();
        }
        remote.git(&["update-ref", "refs/heads/main", &before.to_string()]);
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", after)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        // The commit, the three trees on the way, and the file.
        assert_eq!(outcome.pack.objects, 5);
    });
}

#[test]
fn one_file_in_a_folder_of_ten_thousand() {
    let local = &Local::new();
    let head = "commit refs/heads/main\ncommitter C <c@example.com> 1 +0000\ndata 1\nx\n";
    let mut stream = String::from(head);
    for n in 0..10_000 {
        stream.push_str(&format!("M 100644 inline d/file-{n}\ndata 4\n{:04}\n", n % 50));
    }
    import(local.path(), &stream);
    let before = local.id("main");
    import(local.path(), &format!("{head}from {before}\nM 100644 inline d/file-7\ndata 3\nnew\n"));
    let after = local.id("main");
    on_each(|remote| {
        push(local, remote, &[fast_forward("refs/heads/main", before)]);
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", after)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        // The commit, two trees and the file; of a tree of 400 KB only what differs.
        assert_eq!((outcome.pack.objects, outcome.pack.deltas), (4, 1));
        assert!(outcome.sent_bytes < 1000, "{}", outcome.sent_bytes);
    });
}

/// Commits faster than a work tree allows.
fn import(dir: &Path, stream: &str) {
    use std::{io::Write, process::Stdio};
    let mut child = crate::remote::git(dir);
    let mut child = child.args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_remote_whose_history_is_cut_gets_what_it_lacks() {
    on_each(|remote| {
        let local = &Local::new();
        for n in 0..4 {
            local.commit("a", n.to_string());
        }
        // The remote knows the last two commits and no more.
        let from = format!("file://{}", local.path().display());
        remote.git(&["fetch", "--quiet", "--depth=2", &from, "main:main"]);
        let fifth = local.commit("b", "5");
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", fifth)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.objects, 3);
        // What lies below the cut is sent when it is asked for by name.
        let (first, fork) = (local.id("main~4"), {
            local.git(&["checkout", "--quiet", "-b", "fork", "main~4"]);
            local.commit("c", "6")
        });
        let both = [fast_forward("refs/heads/old", first), fast_forward("refs/heads/fork", fork)];
        let outcome = push(local, remote, &both);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok, &RefStatus::Ok], "{outcome:?}");
    });
}

#[test]
fn a_cut_history_makes_an_empty_remote_shallow_only_if_it_allows_that() {
    on_each(|remote| {
        let whole = Local::new();
        for n in 0..3 {
            whole.commit("a", n.to_string());
        }
        let shallow = Local::new();
        let from = format!("file://{}", whole.path().display());
        shallow.git(&["fetch", "--quiet", "--depth=1", &from, "main"]);
        shallow.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]);
        let tip = shallow.commit("b", "4");
        let wish = [fast_forward("refs/heads/main", tip)];
        let outcome = push(&shallow, remote, &wish);
        assert_eq!(statuses(&outcome), [&RefStatus::Refused("shallow update not allowed".into())]);
        remote.git(&["config", "receive.shallowUpdate", "true"]);
        let outcome = push(&shallow, remote, &wish);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(remote.git(&["rev-parse", "--is-shallow-repository"]), "true");
    });
}

#[test]
fn ten_thousand_new_files() {
    let local = &Local::new();
    let first = local.commit("seed", "seed");
    let mut stream = "commit refs/heads/main\ncommitter C <c@example.com> 2 +0000\n".to_owned();
    stream.push_str("data 1\ny\nfrom refs/heads/main^0\n");
    for n in 0..10_000 {
        let text = format!("kind: Thing\nname: thing-{n}\n");
        let path = format!("d{}/f{n}", n % 100);
        stream.push_str(&format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len()));
    }
    import(local.path(), &stream);
    let many = local.id("main");
    let mut loose = false;
    on_each(|remote| {
        push(local, remote, &[fast_forward("refs/heads/main", first)]);
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", many)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        // The commit, its tree and the folders.
        assert_eq!(outcome.pack.objects, 10_000 + 102);
        // From a pack to the first, from files of their own to the others.
        if !std::mem::replace(&mut loose, true) {
            scatter(local);
        }
    });
}

/// Makes a file of its own of each object.
fn scatter(local: &Local) {
    let dir = local.path().join(".git/objects/pack");
    for pack in fs::read_dir(&dir).unwrap().map(|it| it.unwrap().path()) {
        let aside = local.path().join(".git").join(pack.file_name().unwrap());
        fs::rename(pack, &aside).unwrap();
        if aside.extension().is_some_and(|it| it == "pack") {
            let unpack = crate::remote::git(local.path())
                .args(["unpack-objects", "-q"])
                .stdin(fs::File::open(&aside).unwrap())
                .status();
            assert!(unpack.unwrap().success());
        }
    }
}

#[test]
fn a_file_of_fifty_megabytes() {
    let local = &Local::new();
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let first = local.commit("large", noise.take(50 << 20).collect::<Vec<_>>());
    let mut packed = false;
    on_each(|remote| {
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", first)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert!(outcome.sent_bytes > 50 << 20);
        // From a file of its own to the first, from a pack to the others.
        if !std::mem::replace(&mut packed, true) {
            local.git(&["repack", "-adq"]);
        }
    });
}

#[test]
fn what_lies_in_a_pack_is_sent_as_it_lies() {
    let local = &Local::new();
    // One text after the other, a little different each: git's own packing makes deltas of them.
    for n in 0..100 {
        let same: String = (0..60).map(|line| format!("{}\n", line * 7_654_321)).collect();
        let text = format!("{same}{n}\n");
        fs::write(local.path().join(format!("f{n}")), text).unwrap();
    }
    let all = local.commit("last", "one");
    run(local.path(), &["repack", "-adq", "--depth=40"]);
    let deltas =
        run(local.path(), &["cat-file", "--batch-all-objects", "--batch-check=%(deltabase)"]);
    let deltas = deltas.lines().filter(|it| !it.starts_with("0000")).count();
    assert!(deltas > 50, "{deltas}");
    on_each(|remote| {
        let outcome = push(local, remote, &[fast_forward("refs/heads/main", all)]);
        assert_eq!(statuses(&outcome), [&RefStatus::Ok], "{outcome:?}");
        assert_eq!(outcome.pack.copied, outcome.pack.objects);
        assert_eq!(outcome.pack.deltas as usize, deltas);
    });
}

#[test]
fn there_is_room_for_other_work_while_the_remote_is_at_it() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        let wait = "for n in $(seq 300); do test -e go && echo seen && exit; sleep 0.1; done";
        remote.hook("post-receive", wait);
        let mut done = 0;
        let mut work = || {
            done += 1;
            fs::write(remote.path.join("go"), "").unwrap();
        };
        let update = [fast_forward("refs/heads/main", first)];
        let mut token = login(remote).map(Token);
        let mut options = options(remote, token.as_mut());
        options.meanwhile = Some(&mut work);
        let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
        let pushed = git_intake::push::push(&local.repo(), &url, &update, &mut options).unwrap();
        assert_eq!(statuses(&pushed), [&RefStatus::Ok]);
        assert_eq!(pushed.messages, ["seen"]);
        assert_eq!(done, 1);
        is_sound(remote);
    });
}

#[test]
fn a_remote_that_was_called_ahead_is_the_one_that_is_spoken_to() {
    everywhere(|local, remote| {
        let first = local.commit("a", "1");
        push(local, remote, &[fast_forward("refs/heads/main", first)]);
        let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
        let call = |options: &mut Options<'_>| {
            options.ahead = git_intake::push::call(&local.repo(), &url, options);
            // A git daemon is not called.
            assert_eq!(options.ahead.is_none(), remote.url.starts_with("git://"));
        };
        let second = local.commit("a", "2");
        let outcome = try_push(local, remote, &[fast_forward("refs/heads/main", second)], call);
        assert_eq!(statuses(&outcome.unwrap()), [&RefStatus::Ok]);

        // What it told is as old as the call, and the remote compares again.
        let third = local.commit("a", "3");
        let theirs = remote.git(&["commit-tree", "-m", "x", "-p", "main", "main^{tree}"]);
        let mut called = false;
        let outcome = try_push(local, remote, &[fast_forward("refs/heads/main", third)], |it| {
            call(it);
            called = it.ahead.is_some();
            std::thread::sleep(std::time::Duration::from_millis(1500));
            remote.git(&["update-ref", "refs/heads/main", theirs.trim()]);
        });
        match &outcome.map(|it| it.refs[0].status.clone()) {
            Ok(RefStatus::Refused(_)) => assert!(called),
            Ok(RefStatus::Rejected(Rejection::FetchFirst)) => assert!(!called),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_call_is_not_taken_for_one_to_somebody_else_and_leaves_nothing_behind() {
    let (local, remote, other) = (Local::new(), Remote::file(), Remote::file());
    let first = local.commit("a", "1");
    let to_other = gix::url::parse(other.url.as_bytes().as_bstr()).unwrap();
    let outcome = try_push(&local, &remote, &[fast_forward("refs/heads/main", first)], |it| {
        it.ahead = git_intake::push::call(&local.repo(), &to_other, it);
        assert!(it.ahead.is_some());
    });
    assert_eq!(statuses(&outcome.unwrap()), [&RefStatus::Ok]);
    assert_eq!(other.value("refs/heads/main"), None);
    let place = other.path.display().to_string();
    crate::surroundings::until("who was called hangs up", || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut lines = all.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
        !lines.any(|it| it.contains_str("receive-pack") && it.contains_str(&place))
    });
}

#[test]
fn a_fetch_uses_the_same_client() {
    for auth in [Auth::None, Auth::Basic, Auth::Bearer] {
        let Some(remote) = Remote::https(auth) else {
            return;
        };
        let local = Local::new();
        let first = local.commit("a", "1");
        push(&local, &remote, &[fast_forward("refs/heads/main", first)]);
        let options = git_intake::push::http::ClientOptions {
            ca_file: remote.ca_file.clone(),
            ..Default::default()
        };
        let client = git_intake::push::http::Client::new(&options).unwrap();
        let login = match auth {
            Auth::None => None,
            Auth::Basic => Some(Login::Basic { user: USER.into(), password: PASSWORD.into() }),
            Auth::Bearer => Some(Login::Bearer(TOKEN.into())),
        };
        let fetch = git_intake::push::fetch::FetchOptions {
            deadlines: Default::default(),
            response_bytes_max: 1 << 30,
            allow_clear_text: false,
            interrupt: None,
        };
        let url = gix::url::parse(remote.url.as_bytes().as_bstr()).unwrap();
        let transport = git_intake::push::fetch::transport(&client, &url, login, &fetch).unwrap();
        let other = Local::new();
        let repo = other.repo();
        let outcome = repo
            .remote_at(url)
            .unwrap()
            .with_refspecs(["refs/heads/main:refs/heads/got"], gix::remote::Direction::Fetch)
            .unwrap()
            .to_connection_with_transport(transport)
            .prepare_fetch(gix::progress::Discard, Default::default())
            .unwrap()
            .receive(gix::progress::Discard, &std::sync::atomic::AtomicBool::new(false));
        outcome.unwrap();
        assert_eq!(other.id("refs/heads/got"), first);
    }
}
