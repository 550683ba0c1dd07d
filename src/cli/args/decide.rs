//! What can be typed to change records and to decide conflicts.

use super::{EXIT_CODES, Listing, Showing};
use crate::model::conflict::{ConflictStrategy, Side};
use crate::model::fabric::FabricName;
use crate::model::field::FieldPath;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

const SHOW: &str = "\
Show one conflict: which fields both sides changed, with what each has, the three contents, and the \
content that resolving it as asked for would give.

Examples:
  git intake conflicts show VPC/vpc-1
  git intake conflicts show VPC/vpc-1 --field spec.subnets.default.vlan=record";

const RESOLVE: &str = "\
Resolve conflicts by a commit that says who decided and how, and send it. What only one side changed \
is taken anyway; --field decides single fields (or all below one), --strategy the rest. A conflict \
with fields that nobody decided stays, and makes the exit code 3.

Examples:
  git intake conflicts resolve VPC/vpc-1 --strategy git-wins
  git intake conflicts resolve VPC/vpc-1 --field spec.mode=record --field spec.subnets=git
  git intake conflicts resolve VPC/vpc-1 --file merged.yaml
  git intake conflicts resolve --all --strategy record-wins --dry-run";

/// `records`.
#[derive(Debug, Subcommand)]
pub enum Records {
    /// List all resources on record
    #[command(after_long_help = EXIT_CODES)]
    List(Listing),
    /// Show one resource: its file, digests, commit and source
    #[command(
        long_about = "\
Show one resource: its file, digests, commit, and the drop, document and line it came from.

Examples:
  git intake records show VPC/vpc-1
  git intake records show VPC/team-a/vpc-1
  git intake records show fabric-1/managed/vpcs/vpc-1.yaml",
        after_long_help = EXIT_CODES
    )]
    Show(Showing),
    /// Change fields of a resource, by a commit
    #[command(long_about = SET, after_long_help = EXIT_CODES)]
    Set(Set),
    /// Change the text of a resource, or make a new one, by a commit
    #[command(long_about = EDIT, after_long_help = EXIT_CODES)]
    Edit(Edit),
    /// Delete a resource: its file goes, by a commit
    #[command(after_long_help = EXIT_CODES)]
    Delete(Delete),
}

/// `conflicts`.
#[derive(Debug, Subcommand)]
pub enum Conflicts {
    /// List what waits for a person, each with the way out; exit code 3 if there is any
    #[command(after_long_help = EXIT_CODES)]
    List(Listing),
    /// Show one conflict: the fields, all three contents, and what resolving it would give
    #[command(long_about = SHOW, after_long_help = EXIT_CODES)]
    Show(Show),
    /// Resolve conflicts by a commit: by field, by a strategy, or with a text of your own
    #[command(long_about = RESOLVE, after_long_help = EXIT_CODES)]
    Resolve(Resolve),
}

/// A strategy, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// Field by field; what both changed differently stays open
    Merge,
    /// Where both changed a field, what was changed here counts
    #[value(alias = "record_wins")]
    RecordWins,
    /// Where both changed a field, what git has counts
    #[value(alias = "git_wins")]
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

const SET: &str = "\
Change fields of a record: its file gets the new values in place, everything else in it stays byte \
for byte, and one commit says who did it. A value is written as in YAML.

Examples:
  git intake records set VPC/vpc-1 spec.subnets.default.vlan=1002
  git intake records set VPC/vpc-1 'metadata.labels[\"example.com/team\"]=a' --remove spec.mode
  git intake records set Gateway/gw-1 'spec.neighbors[ip=10.0.0.1].asn=65001' --dry-run";

const EDIT: &str = "\
Change the text of a record's file, in an editor ($VISUAL or $EDITOR) or from a file. What git has \
changed meanwhile is merged by field; what both changed differently becomes a conflict. With --new \
the file makes a record that is not there yet.

Examples:
  git intake records edit VPC/vpc-1
  git intake records edit VPC/vpc-1 --file vpc-1.yaml
  git intake records edit --new --file vpc-2.yaml";

/// `records set`.
#[derive(Debug, Args)]
pub struct Set {
    /// Which: its id, its path, or KIND/NAME
    pub id: String,
    /// Fields and their new values
    #[arg(value_name = "FIELD=VALUE", value_parser = assignment, required_unless_present = "remove")]
    pub fields: Vec<(FieldPath, String)>,
    /// A field that goes
    #[arg(long, value_name = "FIELD")]
    pub remove: Vec<FieldPath>,
    /// How it is done.
    #[command(flatten)]
    pub doing: Doing,
}

/// `records edit`.
#[derive(Debug, Args)]
pub struct Edit {
    /// Which: its id, its path, or KIND/NAME
    #[arg(required_unless_present = "new")]
    pub id: Option<String>,
    /// The new text, instead of an editor; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Make a record that is not there yet
    #[arg(long, requires = "file", conflicts_with = "id")]
    pub new: bool,
    /// The fabric of a new record; needed only where there are several
    #[arg(long, value_name = "NAME", requires = "new", value_parser = FabricName::parse)]
    pub fabric: Option<FabricName>,
    /// How it is done.
    #[command(flatten)]
    pub doing: Doing,
}

/// `records delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Which: its id, its path, or KIND/NAME
    pub id: String,
    /// How it is done.
    #[command(flatten)]
    pub doing: Doing,
}

/// What all edits share.
#[derive(Debug, Args)]
pub struct Doing {
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

fn assignment(text: &str) -> Result<(FieldPath, String), String> {
    // Between brackets, `=` belongs to the path.
    let mut depth = 0;
    let at = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '[') - i32::from(*c == ']');
        *c == '=' && depth == 0
    });
    let (at, _) = at.ok_or("write FIELD=VALUE, such as spec.mode=l3vni")?;
    let path = text[..at].parse().map_err(|it: crate::model::field::FieldError| it.to_string())?;
    Ok((path, text[at + 1..].to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_known_by_the_word_that_settings_and_the_api_use() {
        for it in Strategy::value_variants() {
            let word = serde_json::to_value(ConflictStrategy::from(*it)).unwrap();
            assert_eq!(Strategy::from_str(word.as_str().unwrap(), false), Ok(*it));
        }
    }
}
