//! The push room against git's own receive-pack, over every transport.
//!
//! Each case runs against each remote; after it the remote must pass `git fsck --strict` and hold
//! what was reported.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{fs, path::Path};

use git_intake::push::{
    Error, Expect, Options, Outcome, RefStatus, RefUpdate, Rejection,
    credentials::{Login, Token},
};
use gix::{ObjectId, bstr::ByteSlice};
use tempfile::TempDir;

use crate::remote::{Auth, PASSWORD, Remote, TOKEN, USER, run};

/// A local repository with a work tree.
struct Local {
    dir: TempDir,
}

impl Local {
    fn new() -> Local {
        let dir = tempfile::Builder::new().prefix("local-").tempdir().unwrap();
        run(dir.path(), &["init", "--quiet", "-b", "main"]);
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

/// Pushes with what the remote asks for, and checks the remote against the answer.
fn try_push(
    local: &Local,
    remote: &Remote,
    updates: &[RefUpdate],
    change: impl FnOnce(&mut Options<'_>),
) -> Result<Outcome, Error> {
    let mut token = match remote.auth {
        Auth::None => None,
        Auth::Basic => Some(Login::Basic { user: USER.into(), password: PASSWORD.into() }),
        Auth::Bearer => Some(Login::Bearer(TOKEN.into())),
    }
    .map(Token);
    let mut options = Options {
        ssh_command: remote.ssh_command.as_deref().map(Into::into),
        allow_clear_text: true,
        ..Options::default()
    };
    options.client.ca_file = remote.ca_file.clone();
    if let Some(token) = &mut token {
        options.credentials = Some(token);
    }
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
    remote.git(&["fsck", "--strict", "--no-dangling"]);
    Ok(outcome)
}

fn push(local: &Local, remote: &Remote, updates: &[RefUpdate]) -> Outcome {
    try_push(local, remote, updates, |_| ()).unwrap()
}

fn statuses(outcome: &Outcome) -> Vec<&RefStatus> {
    outcome.refs.iter().map(|it| &it.status).collect()
}

/// Runs a case against a fresh remote of every kind.
fn everywhere(case: impl Fn(&Local, &Remote)) {
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
            case(&Local::new(), &remote);
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
