//! What can be typed to judge files without a repository.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const CHECK: &str = "\
Judge files as raw/ would: which documents are in them, where each would be filed, and what is \
wrong, with line and column. Needs no repository and no agent, so it fits an editor, a commit hook \
or a pipeline. Directories are walked for .yaml, .yml and .json files; hidden ones and symbolic \
links in them are passed over. Names in manifests (the connection of an attachment, say) are looked \
up where a directory is checked, in all of it, and in what --managed names.

Examples:
  git intake check vpc.yaml
  git intake check manifests/ --json
  git intake check manifests/ --format github     findings beside the lines of a pull request
  git intake check manifests/ --format sarif      for code scanning
  kubectl get vpc -o yaml | git intake check -";

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Files and directories; - is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How to answer
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: CheckFormat,
    /// What a breach of a kind's schema is taken for [default: the setting, which is warn]
    #[arg(long, value_name = "STRATEGY")]
    pub schema: Option<SchemaArg>,
    /// A directory with CustomResourceDefinitions of more kinds [default: the setting]
    #[arg(long, value_name = "DIR")]
    pub kinds: Option<PathBuf>,
    /// How many kinds are taken [default: the setting, which is hedgehog]
    #[arg(long, value_name = "BREADTH")]
    pub catalog: Option<CatalogArg>,
    /// A directory whose resources are there already, for names in what is checked
    #[arg(long, value_name = "DIR")]
    pub managed: Option<PathBuf>,
    /// Answer as one JSON document, as --format json does
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// What is done about a breach of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaArg {
    /// Nobody looks
    Off,
    /// It is told
    Warn,
    /// The file is rejected
    Enforce,
}

/// How many kinds are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CatalogArg {
    /// Hedgehog's, and those of definitions
    Hedgehog,
    /// Every kind in the manner of Kubernetes
    Any,
}

/// How `check` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// Text with the lines in question
    Human,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, which code scanning services read
    Sarif,
    /// Workflow commands, which GitHub shows beside the lines
    Github,
}
