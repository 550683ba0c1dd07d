//! What can be typed to synchronise, to undo, to release, and to make and remove fabrics.

use super::decide::Strategy;
use super::{EXIT_CODES, Listing};
use crate::agent::exchange::SyncDirection;
use crate::model::fabric::FabricName;
use crate::model::path::RepoPath;
use crate::model::rules::{Mode, OnDelete};
use clap::{Args, Subcommand, ValueEnum};

pub(super) const SYNC: &str = "\
Bring what others have in and send what is ours, now: what others pushed is fetched and met, edits by \
hand in managed/ are committed, what lies in raw/ is taken, and commits are sent. With --dry-run \
nothing is changed but what a fetch brings, and the answer says what would happen.

Examples:
  git intake sync
  git intake sync --dry-run
  git intake sync --direction git-to-record --strategy git-wins";

pub(super) const RELEASE: &str = "\
Let a fabric go on that waits because many managed files were removed at once. Without --restore the \
removal is accepted; with it, what is gone is brought back (by a commit, where commits removed it).

Examples:
  git intake release fabric-1
  git intake release fabric-1 --restore";

pub(super) const REVERT: &str = "\
Undo an operation by a new commit, and the records with it. What came after it stays: a file that was \
changed since is merged by field, and where both meet in one field nothing is undone (exit code 3) \
unless --strategy decides: record-wins is the undoing, git-wins is what is there now.

Examples:
  git intake operations list
  git intake revert 0192f0c1 --dry-run
  git intake revert 0192f0c1";

/// Which way, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// What others have comes in, then what is ours goes out
    Bidirectional,
    /// What others pushed, committed or edited by hand comes in
    GitToRecord,
    /// What lies in raw/ and what is committed here goes out
    RecordToGit,
}

impl From<Way> for SyncDirection {
    fn from(it: Way) -> SyncDirection {
        match it {
            Way::Bidirectional => SyncDirection::Bidirectional,
            Way::GitToRecord => SyncDirection::GitToRecord,
            Way::RecordToGit => SyncDirection::RecordToGit,
        }
    }
}

/// How much the agent does, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Doing {
    /// Records follow git; nothing is written, committed or sent
    Observe,
    /// Drops and edits of records become commits, which stay here
    Ingest,
    /// Commits are sent, and what others pushed is taken in
    Push,
    /// Edits by hand in managed/ are committed as well
    Full,
}

impl From<Doing> for Mode {
    fn from(it: Doing) -> Mode {
        match it {
            Doing::Observe => Mode::Observe,
            Doing::Ingest => Mode::Ingest,
            Doing::Push => Mode::Push,
            Doing::Full => Mode::Full,
        }
    }
}

/// What becomes of the record of a removed file, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Removal {
    /// It is kept aside
    Orphan,
    /// It goes as well
    Delete,
}

impl From<Removal> for OnDelete {
    fn from(it: Removal) -> OnDelete {
        match it {
            Removal::Orphan => OnDelete::Orphan,
            Removal::Delete => OnDelete::Delete,
        }
    }
}

/// `sync`.
#[derive(Debug, Args)]
pub struct Sync {
    /// Which way
    #[arg(long, value_name = "WAY", default_value = "bidirectional")]
    pub direction: Way,
    /// How to decide fields that both sides changed [default: what the settings say]
    #[arg(long, value_name = "STRATEGY")]
    pub strategy: Option<Strategy>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Which fabric [default: all that are held]
    #[arg(value_parser = FabricName::parse)]
    pub fabric: Option<FabricName>,
    /// Bring back what is gone, instead of accepting that it is
    #[arg(long)]
    pub restore: bool,
    /// Who says so, for the commit [default: the name of the user]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `revert`.
#[derive(Debug, Args)]
pub struct Revert {
    /// The operation: its id, or the beginning of it
    pub operation: String,
    /// How to decide fields that were changed since [default: what the settings say]
    #[arg(long, value_name = "STRATEGY")]
    pub strategy: Option<Strategy>,
    /// Who does it, for the commit [default: the name of the user]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Say what would come of it, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `fabric`.
#[derive(Debug, Subcommand)]
pub enum Fabric {
    /// List the fabrics of a repository
    #[command(after_long_help = EXIT_CODES)]
    List(Listing),
    /// Show one fabric: its settings, and how it stands
    #[command(after_long_help = EXIT_CODES)]
    Show(One),
    /// Make a fabric beside others, or bring one back
    #[command(after_long_help = EXIT_CODES)]
    Add(Add),
    /// Change how much the agent does for a fabric, and how
    #[command(after_long_help = EXIT_CODES)]
    Set(Setting),
    /// Bring each file of managed/ to where the layout says, by one commit
    #[command(after_long_help = EXIT_CODES)]
    Tidy(Tidy),
    /// Remove a fabric; its files stay, unless --purge says otherwise
    #[command(after_long_help = EXIT_CODES)]
    Remove(Remove),
}

/// One fabric.
#[derive(Debug, Args)]
pub struct One {
    /// Its name
    #[arg(value_parser = FabricName::parse)]
    pub name: FabricName,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `fabric add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Its name: lower-case letters, digits and dashes
    #[arg(value_parser = FabricName::parse)]
    pub name: FabricName,
    /// Its directory in the work tree; `.` is the top [default: its name]
    #[arg(long, value_name = "DIR", value_parser = RepoPath::parse)]
    pub dir: Option<RepoPath>,
    /// How much the agent does [default: what the settings say]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<Doing>,
    /// Bring back what `fabric remove --purge --backup` kept under this tag
    #[arg(long, value_name = "TAG")]
    pub restore: Option<String>,
    /// Who does it, for the commit [default: the name of the user]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `fabric set`.
#[derive(Debug, Args)]
pub struct Setting {
    /// Its name
    #[arg(value_parser = FabricName::parse)]
    pub name: FabricName,
    /// How much the agent does
    #[arg(long, value_name = "MODE")]
    pub mode: Option<Doing>,
    /// What becomes of the record of a resource whose file others removed
    #[arg(long, value_name = "POLICY")]
    pub on_delete: Option<Removal>,
    /// What happens to fields that both sides changed
    #[arg(long, value_name = "STRATEGY")]
    pub conflict: Option<Strategy>,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `fabric tidy`.
#[derive(Debug, Args)]
pub struct Tidy {
    /// Its name
    #[arg(value_parser = FabricName::parse)]
    pub name: FabricName,
    /// Say what would be moved, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who does it, for the commit [default: the name of the user]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `fabric remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Its name
    #[arg(value_parser = FabricName::parse)]
    pub name: FabricName,
    /// Remove its files as well, by a commit
    #[arg(long)]
    pub purge: bool,
    /// Keep the commit that still has them under a tag
    #[arg(long)]
    pub backup: bool,
    /// Say what would come of it, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who does it, for the commit [default: the name of the user]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}
