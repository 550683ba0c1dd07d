//! The way to the remote: push what is ours, fetch what is theirs.
//!
//! A rejected push is an outcome, not an error, and never answered with force.

use super::refs::{Move, Moved};
use super::{Error, Repo};
use crate::model::ids::CommitId;
use crate::push::{self, Expect, RefStatus, RefUpdate, Rejection};
use crate::step::{Mistake, Step};
use bstr::ByteSlice;
use gix::remote::Direction;
use gix_transport::client::blocking_io::Transport;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A token is short; a longer file is some other file.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// The most bytes of one answer to a fetch: a whole history fits, an endless stream does not.
const FETCH_BYTES_MAX: u64 = 64 << 30;

/// How to reach a remote.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its name in the repository's configuration.
    pub name: String,
    /// The name beside a token.
    pub username: Option<String>,
    /// A file that holds a token, read at each use; none asks git's credential helpers.
    pub token_file: Option<PathBuf>,
    /// Certificates to trust beside the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// For a connection.
    pub connect: Duration,
    /// Between two bytes.
    pub idle: Duration,
    /// For all of it.
    pub wall: Duration,
    /// Set when the process wants to end.
    pub interrupt: Arc<AtomicBool>,
}

impl Remote {
    fn deadlines(&self) -> push::Deadlines {
        push::Deadlines { connect: self.connect, idle: self.idle, wall: self.wall }
    }
}

/// How the remote answered a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// It has the commit.
    Pushed,
    /// It has commits that we lack.
    Behind,
    /// Somebody is at its branch this moment, or has left a lock there.
    Locked {
        /// In its words.
        reason: String,
    },
    /// It does not want it: a hook, a protected branch.
    Refused {
        /// In its words.
        reason: String,
    },
}

/// What a remote says where somebody else moved the branch between its telling and our asking.
const BEHIND: [&str; 2] = ["fetch first", "non-fast-forward"];
/// What it says where somebody is about to move it, or has just done so.
const LOCKED: [&str; 3] = ["failed to update ref", "cannot lock ref", "failed to lock"];

/// What a fetch found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOutcome {
    /// Where the remote's branch is; none where it has no such branch.
    pub tip: Option<CommitId>,
}

impl Repo {
    /// The address of a remote, without any secret; none where there is no such remote.
    pub fn remote_shown(&self, name: &str) -> Option<String> {
        let remote = self.gix.try_find_remote(name)?.ok()?;
        let url = remote.url(Direction::Push).or_else(|| remote.url(Direction::Fetch))?;
        match Mistake::TokenInUrl.is_made() {
            true => Some(url.to_bstring().to_string()),
            false => Some(push::url::shown(url)),
        }
    }

    /// Where the remote's branch was when we last heard of it.
    pub fn tracking(&self, remote: &str, branch: &str) -> Result<Option<CommitId>, Error> {
        self.tip(&tracking_name(remote, branch))
    }

    /// Sends `tip` to a branch of the remote, by a fast-forward or not at all. `meanwhile` is called
    /// when all is sent and the remote takes its time.
    pub fn push(
        &self,
        to: &Remote,
        branch: &str,
        tip: CommitId,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<PushOutcome, Error> {
        self.steps.pass(Step::Push).map_err(|it| Error::io("push", it))?;
        if Mistake::TellEarly.is_made() {
            self.note_tracking(to, branch, tip, "update by push")?;
            return Ok(PushOutcome::Pushed);
        }
        let outcome = self.send(to, branch, tip, Some(meanwhile))?;
        let Some(result) = outcome.refs.first() else {
            return Ok(PushOutcome::Refused { reason: "the remote did not say why".to_owned() });
        };
        match &result.status {
            RefStatus::Ok | RefStatus::UpToDate => {
                self.note_tracking(to, branch, tip, "update by push")?;
                Ok(PushOutcome::Pushed)
            }
            RefStatus::Rejected(Rejection::FetchFirst | Rejection::NonFastForward) => {
                Ok(PushOutcome::Behind)
            }
            RefStatus::Rejected(why) => Ok(PushOutcome::Refused { reason: format!("{why:?}") }),
            RefStatus::Refused(reason) => {
                let mut words = reason.to_string();
                for line in outcome.messages.iter().take(10) {
                    words.push_str(&format!("; {}", crate::model::path::escape(line)));
                }
                let says = |any: &[&str]| any.iter().any(|it| reason.contains_str(it));
                Ok(match () {
                    () if says(&BEHIND) => PushOutcome::Behind,
                    () if says(&LOCKED) => PushOutcome::Locked { reason: words },
                    () => PushOutcome::Refused { reason: words },
                })
            }
            // The remote may have taken it and lost the answer, so ask before sending again.
            RefStatus::Unknown => {
                let asked = self.send(to, branch, tip, None)?;
                if asked.refs.first().is_some_and(|it| it.status == RefStatus::UpToDate) {
                    self.note_tracking(to, branch, tip, "update by push")?;
                    return Ok(PushOutcome::Pushed);
                }
                let lost = outcome.lost.unwrap_or(push::Error::Interrupted);
                Err(Error::Push(lost))
            }
        }
    }

    /// Calls the remote, so that it is there when a push begins, and does not wait for it. What keeps
    /// it from coming, the push tells.
    pub fn call_ahead(&self, to: &Remote) {
        let mut called = self.called.borrow_mut();
        if called.is_none() {
            let call = self.to_remote(to, None, |url, options| push::call(&self.gix, url, options));
            *called = call.ok().flatten().map(|it| (to.name.clone(), it));
        }
    }

    /// Tells a remote that was called that nothing comes.
    pub fn hang_up(&self) {
        self.called.take();
    }

    /// Without `meanwhile` it only asks.
    fn send(
        &self,
        to: &Remote,
        branch: &str,
        tip: CommitId,
        mut meanwhile: Option<&mut dyn FnMut()>,
    ) -> Result<push::Outcome, Error> {
        let ask = meanwhile.is_none();
        let mut sent = || {
            if let Some(work) = &mut meanwhile {
                work();
            }
        };
        let update = RefUpdate { name: branch.into(), new: tip.0, expect: Expect::FastForward };
        let called = self.called.take().filter(|it| it.0 == to.name);
        self.to_remote(to, Some(&mut sent), |url, options| {
            options.dry_run = ask;
            options.ahead = called.map(|it| it.1);
            push::push(&self.gix, url, &[update], options).map_err(Error::Push)
        })?
    }

    /// Hands over the address of a remote, and how to push to it.
    fn to_remote<T>(
        &self,
        to: &Remote,
        meanwhile: Option<&mut dyn FnMut()>,
        then: impl FnOnce(&gix::Url, &mut push::Options<'_>) -> T,
    ) -> Result<T, Error> {
        let remote = self.find_remote(&to.name)?;
        let url = remote
            .url(Direction::Push)
            .or_else(|| remote.url(Direction::Fetch))
            .ok_or_else(|| Error::NoRemote { name: to.name.clone() })?
            .clone();
        let mut credentials: Box<dyn push::Credentials> = match self.login(to)? {
            Some(login) => Box::new(push::credentials::Token(login)),
            None => Box::new(push::credentials::Helpers::new(&self.gix)),
        };
        let mut options = push::Options {
            meanwhile: meanwhile.map(|it| it as _),
            credentials: Some(&mut *credentials),
            deadlines: to.deadlines(),
            http: self.client(to, &url)?,
            interrupt: Some(to.interrupt.clone()),
            ..push::Options::default()
        };
        Ok(then(&url, &mut options))
    }

    /// Asks the remote where its branch is, without sending or fetching anything.
    pub fn ask(&self, to: &Remote, branch: &str, tip: CommitId) -> Result<Option<CommitId>, Error> {
        let outcome = self.send(to, branch, tip, None)?;
        let found = outcome.advertised.get(branch.as_bytes().as_bstr());
        Ok(found.map(|it| CommitId(*it)))
    }

    /// Fetches a branch of the remote.
    pub fn fetch(&self, from: &Remote, branch: &str) -> Result<FetchOutcome, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| {
            Error::git(format!("fetch from `{}`", from.name), it)
        };
        self.steps.pass(Step::Fetch).map_err(|it| Error::io("fetch", it))?;
        // Without a place to put it: gix would write the ref without syncing it.
        let spec = format!("+{branch}");
        let mut remote =
            self.find_remote(&from.name)?.with_fetch_tags(gix::remote::fetch::Tags::None);
        let replaced = remote.replace_refspecs([spec.as_str()], Direction::Fetch);
        replaced.map_err(|it| failed(it.into()))?;
        let url = remote.url(Direction::Fetch).map(ToOwned::to_owned);
        let login = self.login(from)?;
        let (repo, known) = (self.gix.clone(), login.is_some());
        let client = match &url {
            Some(url) => self.client(from, url)?.map(|it| (it, url)),
            None => None,
        };
        let mut connection = match client {
            Some((client, url)) => {
                let options = push::fetch::FetchOptions {
                    deadlines: from.deadlines(),
                    response_bytes_max: FETCH_BYTES_MAX,
                    allow_clear_text: false,
                    interrupt: Some(from.interrupt.clone()),
                };
                let opened = push::fetch::transport(&client, url, login, &options);
                let opened: Box<dyn Transport + Send> = Box::new(opened.map_err(Error::Push)?);
                remote.to_connection_with_transport(opened)
            }
            None => remote.connect(Direction::Fetch).map_err(|it| failed(it.into()))?,
        };
        connection.set_credentials(move |action| answer(&repo, known, action));
        let prepared = connection
            .prepare_fetch(gix::progress::Discard, gix::remote::ref_map::Options::default());
        let prepared = match prepared {
            Ok(it) => it,
            Err(it) if says_no_branch(&it) => return Ok(FetchOutcome { tip: None }),
            Err(it) => return Err(failed(it.into())),
        };
        let noted = |it| Error::io("note the fetch", it);
        self.fetch_begins().map_err(noted)?;
        let received = prepared.receive(gix::progress::Discard, &from.interrupt);
        let received = match received {
            Ok(it) => it,
            Err(it) if says_no_branch(&it) => return Ok(FetchOutcome { tip: None }),
            Err(it) => return Err(failed(it.into())),
        };
        let theirs = |it: &&gix::remote::fetch::refmap::Mapping| {
            it.remote.as_name().is_some_and(|it| it == branch.as_bytes())
        };
        let tip = received.ref_map.mappings.iter().find(theirs);
        let tip = tip.and_then(|it| it.remote.as_id()).map(|it| CommitId(it.to_owned()));
        let mut keep = None;
        if let gix::remote::fetch::Status::Change { write_pack_bundle, .. } = received.status {
            keep = write_pack_bundle.keep_path;
        }
        if let Some(tip) = tip {
            self.has_come(tip).map_err(|it| failed(it.into()))?;
            self.make_durable(tip)?;
            self.note_tracking(from, branch, tip, "fetch")?;
        }
        // It keeps git from throwing away what no ref names yet.
        keep.map_or(Ok(()), |it| super::heal::remove(&it)).map_err(noted)?;
        self.fetch_ends().map_err(noted)?;
        Ok(FetchOutcome { tip })
    }

    /// Whether a fetch brought what it was to bring: gix takes an end of the stream where the pack
    /// should begin for a pack without objects.
    fn has_come(&self, tip: CommitId) -> io::Result<()> {
        match self.gix.has_object(tip.0) {
            true => Ok(()),
            false => {
                let ended = format!("the other side ended before it had sent {tip}");
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, ended))
            }
        }
    }

    fn find_remote(&self, name: &str) -> Result<gix::Remote<'_>, Error> {
        let failed = |it: Box<dyn std::error::Error + Send + Sync>| {
            Error::git(format!("read the settings of remote `{name}`"), it)
        };
        let mut remote = match self.gix.try_find_remote(name) {
            Some(Ok(it)) => it,
            Some(Err(it)) => return Err(failed(it.into())),
            None => return Err(Error::NoRemote { name: name.to_owned() }),
        };
        if let Some(url) = remote.url(Direction::Push).and_then(|it| self.below_top(it)) {
            let moved = remote.with_push_url_without_url_rewrite(url);
            remote = moved.map_err(|it| failed(it.into()))?;
        }
        if let Some(url) = remote.url(Direction::Fetch).and_then(|it| self.below_top(it)) {
            let moved = remote.with_url_without_url_rewrite(url);
            remote = moved.map_err(|it| failed(it.into()))?;
        }
        Ok(remote)
    }

    /// A relative path as git takes it, which works at the top of the work tree; we may work anywhere.
    fn below_top(&self, url: &gix::Url) -> Option<gix::Url> {
        let path = Path::new(std::ffi::OsStr::from_bytes(&url.path));
        if url.scheme != gix::url::Scheme::File || !path.is_relative() || path.starts_with("~") {
            return None;
        }
        let mut url = url.clone();
        url.path = self.work_tree.join(path).into_os_string().into_vec().into();
        Some(url)
    }

    fn login(&self, to: &Remote) -> Result<Option<push::credentials::Login>, Error> {
        use std::io::Read as _;
        let Some(path) = &to.token_file else { return Ok(None) };
        let failed = |source| Error::Token { path: path.clone(), source };
        let mut token = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(TOKEN_BYTES_MAX).read_to_string(&mut token).map_err(failed)?;
        // Forges take a token as the password of any user; `x-access-token` is what they document.
        let user = to.username.clone().unwrap_or_else(|| "x-access-token".to_owned());
        let password = token.trim().to_owned();
        Ok(Some(push::credentials::Login::Basic { user, password }))
    }

    /// One client for both directions, as long as the settings stay; none where no HTTP is spoken.
    fn client(&self, to: &Remote, url: &gix::Url) -> Result<Option<push::http::Client>, Error> {
        if !url.scheme.as_str().starts_with("http") {
            return Ok(None);
        }
        let options = push::http::ClientOptions {
            ca_file: to.ca_file.clone(),
            connect: Some(to.connect),
            ..push::http::ClientOptions::default()
        };
        let options = options.or_configured(&self.gix, url).map_err(Error::Push)?;
        let mut kept = self.client.borrow_mut();
        if let Some((of, client)) = kept.as_ref()
            && *of == options
        {
            return Ok(Some(client.clone()));
        }
        let client = push::http::Client::new(&options).map_err(Error::Push)?;
        *kept = Some((options, client.clone()));
        Ok(Some(client))
    }

    /// What the remote has now, as git notes it after a push or a fetch.
    fn note_tracking(
        &self,
        to: &Remote,
        branch: &str,
        tip: CommitId,
        why: &str,
    ) -> Result<(), Error> {
        let name = tracking_name(&to.name, branch);
        let from = self.tip(&name)?;
        if from == Some(tip) {
            return Ok(());
        }
        let moves = [Move { name: &name, from, to: tip, why }];
        let author =
            crate::model::fabric::Author { name: "git-intake".into(), email: String::new() };
        match self.move_refs(&moves, None, &author, crate::clock::now())? {
            // Somebody fetches at the same time, and notes what we would.
            Moved::There | Moved::Elsewhere | Moved::Locked(_) => Ok(()),
        }
    }
}

fn tracking_name(remote: &str, branch: &str) -> String {
    let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    format!("refs/remotes/{remote}/{short}")
}

/// gix tells of a branch that the remote lacks only in words.
fn says_no_branch(error: &dyn std::fmt::Display) -> bool {
    let words = format!("{error:#}");
    words.contains("didn't have any ref")
        || words.contains("matched no")
        || words.contains("matched any of the")
        || words.contains("No ref")
}

/// Answers gix's question for credentials by git's helpers; never by a prompt, and not at all where
/// the login is `known` and has been refused.
fn answer(
    repo: &gix::Repository,
    known: bool,
    action: gix::credentials::helper::Action,
) -> gix::Result<Option<gix::credentials::protocol::Outcome>> {
    use gix::credentials::helper::Action;
    let url = match &action {
        Action::Get(context) if !known => context.url.clone().unwrap_or_default(),
        _ => return Ok(None),
    };
    let url = gix::url::parse(url.as_bstr())?;
    let (mut cascade, _, mut prompt) = repo.config_snapshot().credential_helpers(url)?;
    prompt.mode = gix::prompt::Mode::Disable;
    prompt.askpass = None;
    cascade.invoke(action, prompt)
}
