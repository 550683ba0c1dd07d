//! What can be typed to change records and to decide conflicts.

use super::Listing;
use crate::model::conflict::{ConflictStrategy, Side};
use crate::model::field::FieldPath;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const SHOW: &str = "\
Show one conflict: which fields both sides changed, with what each has, the three contents, and the \
content that resolving it as asked for would give.

Examples:
  git intake conflicts show VPC/vpc-1
  git intake conflicts show VPC/vpc-1 --field spec.subnets.default.vlan=record";

pub(super) const RESOLVE: &str = "\
Resolve conflicts by a commit that says who decided and how, and send it. What only one side changed \
is taken anyway; --field decides single fields (or all below one), --strategy the rest. A conflict \
with fields that nobody decided stays, and makes the exit code 3.

Examples:
  git intake conflicts resolve VPC/vpc-1 --strategy git-wins
  git intake conflicts resolve VPC/vpc-1 --field spec.mode=record --field spec.subnets=git
  git intake conflicts resolve VPC/vpc-1 --file merged.yaml
  git intake conflicts resolve --all --strategy record-wins --dry-run";

/// A strategy, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// Field by field; what both changed differently stays open
    Merge,
    /// Where both changed a field, what was changed here counts
    RecordWins,
    /// Where both changed a field, what git has counts
    GitWins,
    /// Where both changed a field, the later change counts
    Newest,
    /// Nothing is merged unseen
    Manual,
}

impl From<Strategy> for ConflictStrategy {
    fn from(it: Strategy) -> ConflictStrategy {
        match it {
            Strategy::Merge => ConflictStrategy::Merge,
            Strategy::RecordWins => ConflictStrategy::RecordWins,
            Strategy::GitWins => ConflictStrategy::GitWins,
            Strategy::Newest => ConflictStrategy::Newest,
            Strategy::Manual => ConflictStrategy::Manual,
        }
    }
}

/// What is decided.
#[derive(Debug, Clone, Args)]
pub struct Deciding {
    /// How to decide what no --field decides [default: merge]
    #[arg(long, value_name = "STRATEGY")]
    pub strategy: Option<Strategy>,
    /// Take this field, and all below it, from one side: record, git or base
    #[arg(long = "field", value_name = "FIELD=SIDE", value_parser = field)]
    pub fields: Vec<(FieldPath, Side)>,
}

/// `conflicts show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id, or the beginning of it; or its path, or KIND/NAME
    pub id: String,
    /// What is decided, for the preview.
    #[command(flatten)]
    pub deciding: Deciding,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `conflicts resolve`.
#[derive(Debug, Args)]
pub struct Resolve {
    /// Which: ids or their beginnings, paths, or KIND/NAME
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// All that there are
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// What is decided.
    #[command(flatten)]
    pub deciding: Deciding,
    /// A text of your own for one conflict; `-` reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "strategy", "fields"])]
    pub file: Option<PathBuf>,
    /// Who decides, for the commit [default: the name of the user]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Say what would come of it, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where they are.
    #[command(flatten)]
    pub listing: Listing,
}

fn field(text: &str) -> Result<(FieldPath, Side), String> {
    // A key may hold `=`, a side never does.
    let (path, side) = text.rsplit_once('=').ok_or("write FIELD=SIDE, such as spec.mode=git")?;
    let side = match side {
        "record" => Side::Record,
        "git" => Side::Git,
        "base" => Side::Base,
        other => return Err(format!("`{other}` is no side; write record, git or base")),
    };
    Ok((path.parse().map_err(|it: crate::model::field::FieldError| it.to_string())?, side))
}
