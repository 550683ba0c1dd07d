//! What can be typed: commands, arguments and flags, and the help that teaches them.
//!
//! Scripts rely on these names and on the exit codes, so both are stable: a snapshot of every help
//! text is kept in the tests. Nothing is decided here.

pub mod check;
pub mod decide;
pub mod token;
pub mod exchange;

use crate::model::fabric::FabricName;
use crate::model::path::RepoPath;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};

/// Below every help text.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the message says what could not be done, why, and what to do next
  2  wrong usage or configuration
  3  done, but something was rejected or waits for a person";

const ABOUT: &str = "\
Drop Kubernetes-style YAML in raw/, find it checked, filed, committed and pushed.

A repository has one or more fabrics: directories with raw/ (the inbox), managed/ (one checked file \
for each resource) and unmanaged/ (what is nobody's business). The agent watches raw/, judges each \
file, files every resource under its kind and name, commits, and pushes to the remote, within a \
second and exactly once. A file with a mistake stays in raw/ with a report beside it.";

const START: &str = "\
To begin:
  git intake quickstart                  see it work in a new directory
  git intake init --fabric fabric-1      make raw/, managed/ and unmanaged/ in this repository
  git intake run                         watch, until Ctrl-C
  git intake put vpc.yaml --wait         drop a file and hear what became of it";

/// A Git-native filesystem watcher.
#[derive(Debug, Parser)]
#[command(
    name = "git-intake",
    version,
    about = "Drop Kubernetes-style YAML in raw/, find it checked, filed, committed and pushed",
    long_about = ABOUT,
    after_help = START,
    after_long_help = format!("{START}\n\n{EXIT_CODES}"),
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What holds for all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Say more about what is done; twice for each step
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors and the answer
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to use colours; NO_COLOR in the environment turns `auto` off
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Settings of several repositories, instead of the repository's own [or: GIT_INTAKE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

impl Global {
    /// Says whether colours are to be used on a stream that is a terminal or not.
    ///
    /// `no_color` is what the environment says.
    pub fn colored(&self, terminal: bool, no_color: bool) -> bool {
        match self.color {
            Color::Auto => terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        }
    }

    /// The level of the log that `-v` and `-q` ask for; none leaves it to the settings.
    pub fn level(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => Some("error"),
            (false, 0) => None,
            (false, 1) => Some("debug"),
            (false, _) => Some("trace"),
        }
    }
}

/// The commands, in the order a newcomer needs them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: make a demo repository with a remote, drop samples, show what became of each
    #[command(long_about = QUICKSTART, after_long_help = EXIT_CODES)]
    Quickstart(Quickstart),
    /// Make or repair a fabric's directories in a repository, in one commit
    #[command(long_about = INIT, after_long_help = EXIT_CODES)]
    Init(Init),
    /// Watch and work until told to stop
    #[command(long_about = RUN, after_long_help = EXIT_CODES)]
    Run(Run),
    /// Do one turn now: judge, file, commit and push what lies in raw/
    #[command(long_about = INGEST, after_long_help = EXIT_CODES)]
    Ingest(Ingest),
    /// Judge files as raw/ would; needs no repository and changes nothing
    #[command(long_about = check::CHECK, after_long_help = EXIT_CODES)]
    Check(check::Check),
    /// Copy files into raw/ safely, and hear what became of them
    #[command(long_about = PUT, after_long_help = EXIT_CODES)]
    Put(Put),
    /// Say how a repository stands: what waits, what is rejected, what is not on the remote yet
    #[command(after_long_help = EXIT_CODES)]
    Status(Status),
    /// Show the drops that stay in raw/, each with every reason
    #[command(subcommand, visible_alias = "rejects")]
    Reject(Rejects),
    /// Judge rejected drops again though nobody touched them
    #[command(long_about = RETRY, after_long_help = EXIT_CODES)]
    Retry(Retry),
    /// Show which resources there are, in which file, and where each came from
    #[command(subcommand)]
    Records(decide::Records),
    /// Show what was done, when and why: the journal
    #[command(subcommand)]
    Operations(Operations),
    /// Show where two contents claim one resource
    #[command(subcommand)]
    Conflicts(decide::Conflicts),
    /// Bring what others have in and send what is ours, now
    #[command(long_about = exchange::SYNC, after_long_help = EXIT_CODES)]
    Sync(exchange::Sync),
    /// Let a fabric go on that waits for a person
    #[command(long_about = exchange::RELEASE, after_long_help = EXIT_CODES)]
    Release(exchange::Release),
    /// Undo an operation by a new commit
    #[command(long_about = exchange::REVERT, after_long_help = EXIT_CODES)]
    Revert(exchange::Revert),
    /// List, make, change and remove the fabrics of a repository
    #[command(subcommand)]
    Fabric(exchange::Fabric),
    /// Compare store, work tree, HEAD and remote, and change nothing
    #[command(long_about = VERIFY, after_long_help = EXIT_CODES)]
    Verify(OneRepository),
    /// Say who may come in by the API: make, list and end tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Throw the store away and make it again from git
    #[command(long_about = REBUILD, after_long_help = EXIT_CODES)]
    Rebuild(Rebuild),
    /// Write man pages
    #[command(hide = true)]
    Man(Man),
    /// Print completions for a shell
    #[command(hide = true)]
    Completions(Completions),
}

const QUICKSTART: &str = "\
See it work. Makes a demo repository with a fabric and a bare remote beside it, drops sample \
manifests in raw/ (many resources in one file, one file with a mistake, one of a foreign kind), \
takes them through, and shows what became of each, the commits, and the tree as a fresh clone of \
the remote has it. Then it keeps watching, so that you can drop files of your own.

Examples:
  git intake quickstart                  in a new directory ./git-intake-demo
  git intake quickstart /tmp/demo --once stop after the first round";

/// `quickstart`.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Where to make the demo; must not exist or be empty
    #[arg(default_value = "git-intake-demo")]
    pub dir: PathBuf,
    /// Stop when the samples are through, instead of watching on
    #[arg(long)]
    pub once: bool,
}

const INIT: &str = "\
Make a fabric in a repository: its raw/, managed/ and unmanaged/, each with a README.md, in one \
commit. Run again, it repairs what is missing and otherwise changes nothing. The settings go to \
intake/config.yaml in the git directory, where `run` and the other commands find them.

Examples:
  git intake init --fabric fabric-1
  git intake init /srv/gitops --fabric site-b --dir sites/b --branch main";

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The work tree [default: the one around the current directory]
    pub repo: Option<PathBuf>,
    /// The name of the fabric: lower-case letters, digits and dashes
    #[arg(long, value_name = "NAME", value_parser = FabricName::parse)]
    pub fabric: FabricName,
    /// Its directory in the work tree; `.` is the top [default: its name]
    #[arg(long, value_name = "DIR", value_parser = RepoPath::parse)]
    pub dir: Option<RepoPath>,
    /// The remote that commits are pushed to [default: origin]
    #[arg(long, value_name = "NAME")]
    pub remote: Option<String>,
    /// Work on this branch only, and hold while HEAD is on another
    /// [default: whichever branch HEAD is on]
    #[arg(long, value_name = "BRANCH")]
    pub branch: Option<String>,
}

const RUN: &str = "\
Watch and work until told to stop. With REPO the agent serves that repository, with --config all \
that the file names; with neither, those of /etc/git-intake/config.yaml if there is one, else the \
repository around the current directory.

SIGTERM and SIGINT finish or undo the turn under way and leave a clean state; SIGHUP reads the \
settings again. A second agent on the same work tree is refused.

Settings come from four layers, the later one wins: built-in defaults, the file, the environment \
(intake.bytes_max is GIT_INTAKE_INTAKE_BYTES_MAX), flags.

Examples:
  git intake run
  git intake run /srv/gitops
  git intake run --config /etc/git-intake/config.yaml";

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The work tree to serve
    pub repo: Option<PathBuf>,
}

const INGEST: &str = "\
Do one turn now, push included, and say what became of each file. Where an agent is running, it \
does the turn. A file that stays in raw/ is named with the place of its mistake, and makes the exit \
code 3.

Examples:
  git intake ingest
  git intake ingest /srv/gitops --dry-run
  git intake ingest --json | jq '.[].files[] | select(.ending == \"rejected\")'";

/// `ingest`.
#[derive(Debug, Args)]
pub struct Ingest {
    /// The work tree [default: the one around the current directory]
    pub repo: Option<PathBuf>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Answer as one JSON document
    #[arg(long)]
    pub json: bool,
}

const PUT: &str = "\
Copy files into raw/ so that none is ever seen half written. With --wait the answer comes when the \
work is on the remote: the commit and the path of each resource, or why not.

Examples:
  git intake put vpc.yaml
  git intake put *.yaml --repo /srv/gitops --fabric fabric-1 --wait";

/// `put`.
#[derive(Debug, Args)]
pub struct Put {
    /// The files to copy
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The work tree [default: the one around the current directory]
    #[arg(long, value_name = "REPO")]
    pub repo: Option<PathBuf>,
    /// The fabric; needed only where the repository has several
    #[arg(long, value_name = "NAME", value_parser = FabricName::parse)]
    pub fabric: Option<FabricName>,
    /// Answer when the work is on the remote, or cannot get there
    #[arg(long)]
    pub wait: bool,
    /// Answer as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which, and how to answer.
    #[command(flatten)]
    pub one: OneRepository,
    /// Show what in raw/ is left alone, and why, instead
    #[arg(long)]
    pub ignored: bool,
}

/// `reject`.
#[derive(Debug, Subcommand)]
pub enum Rejects {
    /// List what stays in raw/, with every reason and the way out; exit code 3 if there is any
    #[command(after_long_help = EXIT_CODES)]
    List(Listing),
}

const RETRY: &str = "\
Judge rejected drops again though nobody touched them, push included, and say what became of each. \
A drop that was mended is taken by itself; this is for when something else has changed, such as the \
settings. One that came back because others pushed something else for its resource is only judged \
again when it is named: taking it writes over theirs.

Examples:
  git intake retry
  git intake retry team-a/vpc.yaml";

/// `retry`.
#[derive(Debug, Args)]
pub struct Retry {
    /// These drops, relative to raw/ as `reject list` shows them [default: all]
    #[arg(value_name = "DROP")]
    pub drops: Vec<String>,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

/// `status` and `verify`.
#[derive(Debug, Args)]
pub struct OneRepository {
    /// The work tree [default: the one around the current directory]
    pub repo: Option<PathBuf>,
    /// Answer as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `operations`.
#[derive(Debug, Subcommand)]
pub enum Operations {
    /// List the latest operations, newest first
    #[command(after_long_help = EXIT_CODES)]
    List(Latest),
    /// Show one operation: what it took, what it changed, how far it came
    #[command(after_long_help = EXIT_CODES)]
    Show(Showing),
}

/// A list of one repository.
#[derive(Debug, Args)]
pub struct Listing {
    /// The work tree [default: the one around the current directory]
    #[arg(long, value_name = "REPO")]
    pub repo: Option<PathBuf>,
    /// Answer as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The latest of a long list.
#[derive(Debug, Args)]
pub struct Latest {
    /// Which list.
    #[command(flatten)]
    pub listing: Listing,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// One thing of one repository.
#[derive(Debug, Args)]
pub struct Showing {
    /// Its id, or the beginning of it; for a record also its path or KIND/[NAMESPACE/]NAME
    pub id: String,
    /// Where it is.
    #[command(flatten)]
    pub listing: Listing,
}

const VERIFY: &str = "\
Compare store, work tree, HEAD and remote, and change nothing. Every difference is named with the \
way out; the exit code is 3 if there is any.";

const REBUILD: &str = "\
Throw the store away and make it again from git. Git is the truth and the store a memory of it, so \
nothing is lost: resources, sources and operations come back from the tree and the history. Refused \
while an agent is running on the work tree.";

/// `rebuild`.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// The work tree [default: the one around the current directory]
    pub repo: Option<PathBuf>,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory to write to; must exist
    pub dir: PathBuf,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: Shell,
}

/// Writes one man page for each command into a directory that exists.
pub fn write_man(dir: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), dir)
}

/// Writes the completions of a shell.
pub fn write_completions(shell: Shell, to: &mut impl io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "git-intake", to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_scripts_rely_on_is_understood() {
        for line in [
            "git-intake quickstart",
            "git-intake quickstart demo --once",
            "git-intake init --fabric fabric-1",
            "git-intake init repo --fabric f --dir a/b --remote up --branch main",
            "git-intake run",
            "git-intake run repo --config c.yaml",
            "git-intake ingest repo --dry-run --json",
            "git-intake check a.yaml b.yaml --json",
            "git-intake check - --format sarif",
            "git-intake put a.yaml b.yaml --repo r --wait --json",
            "git-intake status repo --json",
            "git-intake status --ignored --json",
            "git-intake reject list --json",
            "git-intake rejects list",
            "git-intake retry a.yaml b/c.yaml --repo r --json",
            "git-intake records list --json",
            "git-intake records show VPC/vpc-1 --repo r --json",
            "git-intake operations list --json --limit 3",
            "git-intake operations show 0192 --json",
            "git-intake conflicts list --json",
            "git-intake sync --direction git-to-record --strategy git-wins --dry-run --json",
            "git-intake release fabric-1 --restore",
            "git-intake revert 0192 --dry-run --json",
            "git-intake fabric list --json",
            "git-intake fabric add f --dir a/b --mode observe",
            "git-intake fabric set f --mode full --on-delete delete",
            "git-intake fabric remove f --purge --backup --repo r",
            "git-intake verify repo --json",
            "git-intake rebuild repo",
            "git-intake -vv --color never status",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        for line in [
            "git-intake",
            "git-intake frobnicate",
            "git-intake init",
            "git-intake init --fabric Not_A_Name",
            "git-intake init --fabric f --dir ../x",
            "git-intake check",
            "git-intake check a --json --format sarif",
            "git-intake put",
            "git-intake -q -v status",
            "git-intake operations list --limit 0",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parse("git-intake --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
        assert_eq!(parse("git-intake --help").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn colours_follow_the_flag_the_stream_and_the_environment() {
        let global = |line| parse(line).unwrap().global;
        let auto = global("git-intake status");
        assert!(auto.colored(true, false));
        assert!(!auto.colored(true, true) && !auto.colored(false, false));
        assert!(global("git-intake status --color always").colored(false, true));
        assert!(!global("git-intake status --color never").colored(true, false));
        assert_eq!(global("git-intake status").level(), None);
        assert_eq!(global("git-intake -v status").level(), Some("debug"));
        assert_eq!(global("git-intake -q status").level(), Some("error"));
    }

    #[test]
    fn the_help_is_what_it_is() {
        let mut text = String::new();
        add_help(&mut Cli::command().term_width(100), "git-intake", &mut text);
        insta::assert_snapshot!("help", text);
    }

    fn add_help(command: &mut clap::Command, name: &str, text: &mut String) {
        // The version alone would change the snapshot with every release.
        text.push_str(&format!("==== {name}\n{}\n", command.render_long_help()));
        let names: Vec<String> = command.get_subcommands().map(|it| it.get_name().into()).collect();
        for inner in names {
            if let Some(it) = command.find_subcommand_mut(&inner) {
                let mut it = it.clone().bin_name(format!("{name} {inner}")).term_width(100);
                add_help(&mut it, &format!("{name} {inner}"), text);
            }
        }
    }

    #[test]
    fn every_command_has_a_man_page_and_shells_have_completions() {
        let dir = tempfile::tempdir().unwrap();
        write_man(dir.path()).unwrap();
        for page in ["git-intake.1", "git-intake-run.1", "git-intake-records-list.1"] {
            assert!(dir.path().join(page).is_file(), "{page}");
        }
        let mut bash = Vec::new();
        write_completions(Shell::Bash, &mut bash);
        assert!(String::from_utf8(bash).unwrap().contains("quickstart"));
    }
}
