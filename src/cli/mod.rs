//! The door for people: what can be typed, and how answers look.

pub mod args;
mod check;
mod commands;
mod decide;
mod exchange;
pub mod exchanged;
pub mod decisions;
mod door;
mod formats;
mod put;
mod quickstart;
mod reach;
pub mod render;
pub mod listing;
pub mod serve;
mod table;
mod token;

use crate::{agent, config, heap};
use args::{Cli, Command};
use clap::Parser as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Done, but something was rejected or waits for a person.
const HELD: u8 = 3;

/// Why a command ended without doing what was asked.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    fn said(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), causes: Vec::new(), hint: None }
    }

    fn of(code: u8, error: &dyn std::error::Error) -> Failure {
        let mut failure = Failure::said(code, error.to_string());
        let mut source = error.source();
        while let Some(it) = source {
            let words = it.to_string();
            if failure.causes.last() != Some(&words) && failure.message != words {
                failure.causes.push(words);
            }
            source = it.source();
        }
        failure
    }

    fn usage(error: impl std::error::Error, hint: &str) -> Failure {
        Failure::of(2, &error).hint(hint)
    }

    fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

impl From<agent::Error> for Failure {
    fn from(error: agent::Error) -> Failure {
        use agent::Error as E;
        let hint = match &error {
            E::Busy { .. } => "stop the other one, or ask it: git-intake status",
            E::Held { .. } => return Failure::of(HELD, &error),
            E::NotFound { .. }
            | E::Refused { .. }
            | E::Invalid { .. }
            | E::Exists { .. }
            | E::Stale { .. } => return Failure::of(1, &error),
            E::WorkTree(_) => "look at the path that is named, and at the rights of this user",
            E::Store(_) => {
                "free the disk or the store; git-intake rebuild makes the store again from git"
            }
            E::Git(_) => "git fsck and git status tell how the repository stands",
            E::HeadMoved | E::Locked { .. } => "try again when the other process is done",
            E::State(_) => "name another place with the setting state_dir",
            E::StoreLost => "free the disk, and start the agent again",
        };
        Failure::of(1, &error).hint(hint)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Failure {
        Failure::usage(error, "every key is explained in packaging/config.yaml")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::of(1, &error)
    }
}

/// What every command is told.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// Colours in answers.
    pub colored: bool,
    /// The settings file that was named.
    pub config: Option<std::path::PathBuf>,
    /// The level of the log that flags ask for.
    pub level: Option<&'static str>,
}

/// Parses, runs and answers; gives the exit code.
pub fn main() -> ExitCode {
    heap::keep_small();
    let cli = Cli::parse();
    let no_color = config::variable("NO_COLOR").is_some();
    let context = Context {
        colored: cli.global.colored(std::io::stdout().is_terminal(), no_color),
        config: cli.global.config.clone(),
        level: cli.global.level(),
    };
    let errors_colored = cli.global.colored(std::io::stderr().is_terminal(), no_color);
    match run(cli.command, &context) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            tell(&failure, errors_colored);
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command, context: &Context) -> Result<u8, Failure> {
    if !matches!(command, Command::Run(_) | Command::Quickstart(_)) {
        // A command answers on standard output; its log keeps to what went wrong.
        log(context, &config::LogSettings::default(), Some("warn"));
    }
    match command {
        Command::Quickstart(it) => quickstart::quickstart(&it, context),
        Command::Init(it) => commands::init(it, context),
        Command::Run(it) => serve::run(it.repo.as_deref(), context),
        Command::Ingest(it) => commands::ingest(&it, context),
        Command::Check(it) => check::check(&it, context),
        Command::Put(it) => put::put(&it, context),
        Command::Status(it) => commands::status(&it, context),
        Command::Reject(it) => commands::rejects(&it, context),
        Command::Retry(it) => commands::retry(&it, context),
        Command::Records(it) => commands::records(&it, context),
        Command::Operations(it) => commands::operations(&it, context),
        Command::Conflicts(it) => commands::conflicts(&it, context),
        Command::Sync(it) => exchange::sync(&it, context),
        Command::Release(it) => exchange::release(&it, context),
        Command::Revert(it) => exchange::revert(&it, context),
        Command::Fabric(it) => exchange::fabric(it, context),
        Command::Verify(it) => commands::verify(&it, context),
        Command::Token(it) => token::token(&it, context),
        Command::Rebuild(it) => commands::rebuild(&it, context),
        Command::Man(it) => args::write_man(&it.dir).map(|()| 0).map_err(Failure::from),
        Command::Completions(it) => {
            args::write_completions(it.shell, &mut std::io::stdout());
            Ok(0)
        }
    }
}

/// Sets the log up. `quiet` is the level of a command that only answers.
fn log(context: &Context, settings: &config::LogSettings, quiet: Option<&str>) {
    let asked = config::variable("RUST_LOG");
    let filters = asked.as_deref().or(context.level).or(quiet);
    let mut settings = settings.clone();
    if quiet.is_some() {
        settings.format = config::LogFormat::Text;
    }
    if let Err(error) = crate::telemetry::start(&settings, filters, context.colored) {
        // Set up twice is what a demo does that goes on as an agent.
        tracing::debug!(%error, "the log stays as it is");
    }
}

/// Prints an answer. A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(it) if it.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::from),
    }
}

fn tell(failure: &Failure, colored: bool) {
    let paint = |code: &str, text: &str| match colored {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let mut text = format!("{} {}\n", paint("1;31", "error:"), failure.message);
    for cause in &failure.causes {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("{} {hint}\n", paint("32", "hint:")));
    }
    // Nobody is left to tell when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
