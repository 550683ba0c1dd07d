//! `git push` for gitoxide: send what the remote lacks, and move its references.
//!
//! Give it an open [`gix::Repository`], an address, and what is to be moved; it answers with what
//! became of each reference.
//!
//! ```no_run
//! use git_intake::push::{push, Expect, Options, RefStatus, RefUpdate};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let repo = gix::open(".")?;
//! let url = gix::url::parse("https://example.com/team/repo.git")?;
//! let main = RefUpdate {
//!     name: "refs/heads/main".into(),
//!     new: repo.head_id()?.detach(),
//!     expect: Expect::FastForward,
//! };
//! let outcome = push(&repo, &url, &[main], &mut Options::default())?;
//! for line in &outcome.messages {
//!     println!("remote: {line}");
//! }
//! for it in &outcome.refs {
//!     match &it.status {
//!         RefStatus::Ok | RefStatus::UpToDate => println!("{} is there", it.name),
//!         RefStatus::Rejected(why) => println!("{} was not sent: {why:?}", it.name),
//!         RefStatus::Refused(reason) => println!("{} was refused: {reason}", it.name),
//!         RefStatus::Unknown => println!("{}: ask the remote again", it.name),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! - **Transports**: a path or `file://`, `ssh://` and `host:path` (through the user's own ssh),
//!   `git://`, `http://` and `https://`. No others: `ext::` and remote helpers run programs that an
//!   address names, so there is no way to ask for them.
//! - **Protocol**: receive-pack, versions 0 and 1 (there is no version 2 of it), with
//!   `report-status-v2`, `side-band-64k`, `ofs-delta`, `atomic`, `delete-refs`, `quiet`,
//!   `push-options`, `object-format` (SHA-1 and SHA-256), `.have` lines, and histories that are cut
//!   on either side.
//! - **Which objects**: found from the difference of trees, commit by commit, down to what the
//!   remote advertises. The cost follows what is new, not what is there. The walk begins while the
//!   connection is still being made, and that may begin before there is anything to send ([`call`]).
//! - **The pack** is thin, and made while it is sent. Entries of local packs go out as they lie. A
//!   few objects are held at a time, however many are sent.
//! - **Races** are the remote's to decide: it is told the value that it advertised, and compares
//!   it again under its own lock. A lease ([`Expect::Exactly`]) is judged here as well.
//! - **Time and size** are bounded ([`Deadlines`], [`Limits`]), whatever the other side does.
//! - **Secrets** have no `Debug` and no `Display`, and go into no argument list and no error.
//!
//! # What comes of it
//!
//! What becomes of each reference is data ([`RefStatus`]), also where the answer is no; an [`Error`]
//! means that nothing was moved by us, and knows whether it is worth trying again
//! ([`Error::retry`]). When the connection is lost after everything was sent, what the remote did
//! with it is not known: the status is [`RefStatus::Unknown`], and the one right thing to do is to
//! ask the remote again. Hook messages and progress are heard as they come ([`Observer`]).
//!
//! # What it leaves to others
//!
//! Refspecs, remotes and remote-tracking branches are the caller's: names are full, addresses are
//! whole. Signed pushes, submodules and hooks of the pushing side are not done here. Objects must be
//! on the disk: those that are only in gix's object memory are not found.
//!
//! # Where it is written
//!
//! [gitprotocol-pack] has the conversation, [gitprotocol-capabilities] the words of it,
//! [gitprotocol-common] its lines, [gitprotocol-http] how it fits into requests, [gitformat-pack]
//! the pack and its deltas, [git-push] what the rules for references are, and [git-config] the
//! settings. Where they are silent, git's `send-pack.c`, `receive-pack.c`, `connect.c` and
//! `remote-curl.c` are what other programs were written against.
//!
//! [gitprotocol-pack]: https://git-scm.com/docs/gitprotocol-pack
//! [gitprotocol-capabilities]: https://git-scm.com/docs/gitprotocol-capabilities
//! [gitprotocol-common]: https://git-scm.com/docs/gitprotocol-common
//! [gitprotocol-http]: https://git-scm.com/docs/gitprotocol-http
//! [gitformat-pack]: https://git-scm.com/docs/gitformat-pack
//! [git-push]: https://git-scm.com/docs/git-push
//! [git-config]: https://git-scm.com/docs/git-config

#![deny(missing_docs)]

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
mod ahead;
mod child;
mod config;
pub mod credentials;
mod delta;
mod draft;
mod error;
#[cfg(any(test, fuzzing))]
pub mod feed;
pub mod fetch;
mod graph;
mod guess;
pub mod http;
mod line;
mod odb;
mod pack;
mod plan;
mod pulse;
mod report;
mod reuse;
mod session;
mod trust;
pub mod url;
mod walk;
mod web;
mod wire;

pub use advertisement::Advertisement;
pub use ahead::{Ahead, call};
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
    session::push(repo, url, updates, &mut |_| Ok(updates.to_vec()), options)
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
    session::push(repo, url, &[], choose, options)
}

/// One reference to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The remote's full name.
    pub name: BString,
    /// The new value; null deletes.
    pub new: ObjectId,
    /// What must be there for it to move.
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
    Stale {
        /// What the lease says.
        expected: ObjectId,
        /// What is there; null if nothing.
        found: ObjectId,
    },
    /// The remote does not delete references.
    CannotDelete,
    /// Another reference of an atomic push was rejected.
    AtomicFailed,
}

/// What became of one [`RefUpdate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefResult {
    /// The remote's full name.
    pub name: BString,
    /// What the remote advertised; null if nothing.
    pub old: ObjectId,
    /// What it was to become; null if nothing.
    pub new: ObjectId,
    /// What became of it.
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
    /// The program at the other end, or the ssh that carried its words, ended with a failure. Git
    /// calls such a push failed; what was reported of the references stands all the same.
    pub program_failed: bool,
    /// Why no complete report came, if any reference is [`RefStatus::Unknown`].
    pub lost: Option<Error>,
    /// What was found to be lacking.
    pub counts: Counts,
    /// What was made of it.
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
    /// Objects written.
    pub objects: u32,
    /// Objects of the whole pack.
    pub objects_total: u32,
    /// Bytes written.
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
    /// How to set up a client for http, where none is given.
    pub client: http::ClientOptions,
    /// Bodies up to this size are sent whole, larger ones in pieces after a probe; else
    /// `http.postBuffer`, else 1 MiB.
    pub post_buffer_bytes: Option<usize>,
    /// A command line for ssh; else `GIT_SSH_COMMAND`, `core.sshCommand`, `GIT_SSH`, `ssh`.
    pub ssh_command: Option<BString>,
    /// The program to run at the other end of a file or ssh URL.
    pub receive_pack: Option<BString>,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How much the remote may say.
    pub limits: Limits,
    /// When set to true, the push ends soon with [`Error::Interrupted`].
    pub interrupt: Option<Arc<AtomicBool>>,
    /// The remote, where it was called before ([`call`]).
    pub ahead: Option<Ahead>,
    /// Who hears how it goes.
    pub observer: Option<&'a mut dyn Observer>,
    /// Called once, on the caller's own thread, when all is sent and the remote is at work for longer
    /// than a moment: room for what is to be done here anyway. The answer is heard behind it, however
    /// long it takes. Who answers at once, mostly on this very machine, has the processors for that.
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
            ahead: None,
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
    /// References and capabilities together.
    pub advertisement_bytes_max: u64,
    /// The report and what hooks print, together.
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
