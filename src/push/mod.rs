//! `git push` for gitoxide: send what the remote lacks, and move its references.
//!
//! Speaks the receive-pack protocol over files, ssh, `git://`, http and https. Only what the
//! remote lacks is sent, found from the difference of trees, as a thin pack that is made while
//! it is sent. What becomes of each reference is told as data ([`RefStatus`]); an [`Error`] means
//! that nothing was moved by us. When the connection is lost after everything was sent, what the
//! remote did with it is not known: the status is [`RefStatus::Unknown`], and the one right thing
//! to do is to ask the remote again.
//!
//! Objects must be on the disk: those that are only in gix's object memory are not found.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use gix::{
    ObjectId,
    bstr::{BStr, BString},
};

mod advertisement;
mod child;
mod config;
pub mod credentials;
mod delta;
mod error;
#[cfg(any(test, fuzzing))]
pub mod feed;
pub mod fetch;
mod graph;
pub mod http;
mod line;
mod pack;
mod plan;
mod pulse;
mod report;
mod reuse;
mod session;
pub mod url;
mod walk;
mod web;
mod wire;

pub use advertisement::Advertisement;
pub use credentials::Credentials;
pub use error::{Cause, Error, Retry};
pub use pack::PackCounts;
pub use walk::Counts;

/// Sends what the remote lacks and asks it to move its references as `updates` say.
///
/// # Errors
/// When there was no answer and nothing can have been moved.
pub fn push(
    repo: &gix::Repository,
    url: &gix::Url,
    updates: &[RefUpdate],
    options: &mut Options<'_>,
) -> Result<Outcome, Error> {
    session::check_names(updates)?;
    session::push(repo, url, &mut |_| Ok(updates.to_vec()), options)
}

/// Like [`push`], for a caller who can say what is to be moved only once it is known what is
/// there: patterns, "all that both sides have", a short name. One connection serves both.
///
/// # Errors
/// Those of [`push`], and [`Error::Choice`] with what `choose` failed with; nothing is sent then.
pub fn push_with(
    repo: &gix::Repository,
    url: &gix::Url,
    choose: &mut dyn FnMut(&Advertisement) -> Result<Vec<RefUpdate>, Cause>,
    options: &mut Options<'_>,
) -> Result<Outcome, Error> {
    session::push(repo, url, choose, options)
}

/// One reference to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The remote's full name.
    pub name: BString,
    /// The new value; null deletes.
    pub new: ObjectId,
    pub expect: Expect,
}

/// What the remote must hold for an update to be right. Judged here against what it advertised,
/// and once more by the remote, which is told that value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing, or an ancestor of the new value. Tags do not move.
    FastForward,
    /// Exactly this (a lease); null: the reference must not exist.
    Exactly(ObjectId),
    /// Whatever it is.
    Force,
}

/// What became of one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefStatus {
    /// The remote moved it.
    Ok,
    /// It already was what it should become.
    UpToDate,
    /// Not sent: refused here.
    Rejected(Rejection),
    /// Refused by the remote, in its words.
    Refused(BString),
    /// Sent, but no answer came: it may or may not have moved.
    Unknown,
}

/// Why an update was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The remote has a commit that is not here.
    FetchFirst,
    /// The remote has a commit that the new value does not contain.
    NonFastForward,
    /// A tag of this name exists.
    AlreadyExists,
    /// A branch should become something other than a commit, or was.
    NeedsForce,
    /// The lease names another value.
    Stale { expected: ObjectId, found: ObjectId },
    /// The remote does not delete references.
    CannotDelete,
    /// Another reference of an atomic push was rejected.
    AtomicFailed,
}

/// What became of one [`RefUpdate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefResult {
    pub name: BString,
    /// What the remote advertised; null if nothing.
    pub old: ObjectId,
    pub new: ObjectId,
    pub status: RefStatus,
    /// Whether the old value is not contained in the new one.
    pub forced: bool,
    /// What a proc-receive hook of the remote made of it: the option lines of each of its answers,
    /// of which there may be several.
    pub options: Vec<Vec<BString>>,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order of the updates.
    pub refs: Vec<RefResult>,
    /// How unpacking went, in the remote's words; `None` if it did not say.
    pub unpack: Option<Result<(), BString>>,
    /// What the remote printed, up to a limit. Transient lines (progress) are left out.
    pub messages: Vec<BString>,
    /// The remote's references before the push.
    pub advertised: BTreeMap<BString, ObjectId>,
    /// Why no complete report came, if any reference is [`RefStatus::Unknown`].
    pub lost: Option<Error>,
    pub counts: Counts,
    pub pack: PackCounts,
    /// How much was sent: commands, options and the pack.
    pub sent_bytes: u64,
}

impl Outcome {
    /// Whether every reference is where it should be.
    pub fn is_ok(&self) -> bool {
        self.refs.iter().all(|it| matches!(it.status, RefStatus::Ok | RefStatus::UpToDate))
    }
}

/// Hears how a push goes, from whichever thread hears it first.
pub trait Observer: Send {
    /// The remote printed a line. A transient one would be overwritten by the next.
    fn message(&mut self, _line: &BStr, _transient: bool) {}
    /// The program that carries the conversation printed a line: ssh, or a receive-pack on this
    /// machine. Heard when it has ended.
    fn complaint(&mut self, line: &BStr) {
        self.message(line, false);
    }
    /// So much of the pack is written.
    fn progress(&mut self, _progress: Progress) {}
}

/// How far a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub objects: u32,
    pub objects_total: u32,
    pub bytes: u64,
}

/// How to push. The default is a plain `git push` without prompts.
pub struct Options<'a> {
    /// All references or none.
    pub atomic: bool,
    /// Send deltas against objects that only the remote has.
    pub thin: bool,
    /// Ask the remote not to print its own progress.
    pub quiet: bool,
    /// Find out what would be moved, and send nothing.
    pub dry_run: bool,
    /// Passed to the remote's hooks; refused if it does not take any.
    pub push_options: Vec<String>,
    /// Where logins come from; without it a 401 is an error.
    pub credentials: Option<&'a mut dyn Credentials>,
    /// Send credentials over plain http too.
    pub allow_clear_text: bool,
    /// The client to use for http, with its own settings; else one is made of `client` and, for
    /// what that leaves open, of the settings (`http.<url>.*`) and the environment.
    pub http: Option<http::Client>,
    pub client: http::ClientOptions,
    /// Bodies up to this size are sent whole, larger ones in pieces after a probe; else
    /// `http.postBuffer`, else 1 MiB.
    pub post_buffer_bytes: Option<usize>,
    /// A command line for ssh; else `GIT_SSH_COMMAND`, `core.sshCommand`, `GIT_SSH`, `ssh`.
    pub ssh_command: Option<BString>,
    /// The program to run at the other end of a file or ssh URL.
    pub receive_pack: Option<BString>,
    pub deadlines: Deadlines,
    pub limits: Limits,
    /// When set to true, the push ends soon with [`Error::Interrupted`].
    pub interrupt: Option<Arc<AtomicBool>>,
    pub observer: Option<&'a mut dyn Observer>,
    /// Called once, on the caller's own thread, when all is sent and the remote is at work: room for
    /// what is to be done here anyway. The answer is heard behind it, however long it takes.
    pub meanwhile: Option<&'a mut dyn FnMut()>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            atomic: false,
            thin: true,
            quiet: true,
            dry_run: false,
            push_options: Vec::new(),
            credentials: None,
            allow_clear_text: false,
            http: None,
            client: http::ClientOptions::default(),
            post_buffer_bytes: None,
            ssh_command: None,
            receive_pack: None,
            deadlines: Deadlines::default(),
            limits: Limits::default(),
            interrupt: None,
            observer: None,
            meanwhile: None,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until a connection stands.
    pub connect: Duration,
    /// Without a byte in either direction. Hooks may be silent for long; git's own server sends a
    /// keep-alive every five seconds while they run.
    pub idle: Duration,
    /// For the whole push.
    pub wall: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            wall: Duration::from_secs(3600),
        }
    }
}

/// How much the remote may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub advertisement_bytes_max: u64,
    pub report_bytes_max: u64,
    /// How much of what the remote prints is kept in [`Outcome::messages`].
    pub messages_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            advertisement_bytes_max: 256 << 20,
            report_bytes_max: 256 << 20,
            messages_bytes_max: 256 << 10,
        }
    }
}
