//! What can be typed about tokens of the API.

use super::EXIT_CODES;
use crate::config::units;
use crate::model::fabric::FabricName;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const ADD: &str = "\
Make a token for the API and show it, once: what is kept is its digest. A running agent knows it at \
once. The name stands in the commits and in the audit of whatever is done with it.

Examples:
  git intake token add dashboard
  git intake token add ci --scope write --fabric fabric-1 --expires 7d
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8765/api/v1/fabrics";

/// `token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token, and show it once
    #[command(long_about = ADD, after_long_help = EXIT_CODES)]
    Add(Add),
    /// List the tokens, without their secrets
    #[command(after_long_help = EXIT_CODES)]
    List(List),
    /// End a token at once
    #[command(after_long_help = EXIT_CODES)]
    Revoke(Revoke),
}

/// `token add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Whose it is: a line of text
    pub name: String,
    /// How far it goes
    #[arg(long, value_name = "SCOPE", default_value = "read")]
    pub scope: Scope,
    /// For this fabric alone; may be given several times [default: all]
    #[arg(long = "fabric", value_name = "NAME", value_parser = FabricName::parse)]
    pub fabrics: Vec<FabricName>,
    /// After this it ends: 12h or 7d, say [default: never]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    pub expires: Option<Duration>,
    /// The work tree of the agent [default: the host's agent, or the one around the current directory]
    #[arg(long)]
    pub repo: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// How far a token goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Look
    Read,
    /// Change resources, drop files, decide conflicts
    Write,
    /// Change fabrics and repositories, read the audit
    Admin,
}

/// `token list`.
#[derive(Debug, Args)]
pub struct List {
    /// The work tree of the agent [default: the host's agent, or the one around the current directory]
    #[arg(long)]
    pub repo: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// `token revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Its id, or its name
    pub name: String,
    /// The work tree of the agent [default: the host's agent, or the one around the current directory]
    #[arg(long)]
    pub repo: Option<PathBuf>,
}
