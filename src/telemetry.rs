//! What the program says while it runs: log lines, and words to systemd.
//!
//! Lines go to standard error, so that standard output is the answer and nothing else.
//! Outside of systemd its part is silent and costs nothing.

use crate::config::{LogFormat, LogSettings};
use sd_notify::NotifyState;
use std::io::{self, IsTerminal as _};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is no level and no list of filters.
    #[error("cannot use the log level `{level}`")]
    Level {
        /// As it stands in the settings, a flag or `RUST_LOG`.
        level: String,
        /// Why not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is a log already.
    #[error("cannot set up the log twice in one process")]
    Twice,
}

/// Sends log lines to standard error from here on.
///
/// `filters` goes above the settings: what `RUST_LOG` or `-v` ask for.
/// Colours appear only on a terminal, and only where `colored` allows them.
pub fn start(log: &LogSettings, filters: Option<&str>, colored: bool) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(filters.unwrap_or(&log.level))?)
        .with_ansi(colored && terminal)
        .with_target(false)
        .with_writer(io::stderr);
    let done = match is_json(log.format, terminal) {
        true => builder.json().flatten_event(true).try_init(),
        false => builder.try_init(),
    };
    done.map_err(|_| Error::Twice)
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// A single word holds for our own lines, and libraries speak up only from warnings on; anything
/// longer is taken as it is.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let directives = match level.trim() {
        "info" => "warn,git_intake=info",
        "debug" => "warn,git_intake=debug",
        other => other,
    };
    EnvFilter::try_new(directives)
        .map_err(|source| Error::Level { level: level.to_owned(), source })
}

/// Tells systemd that recovery is over and drops are taken.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd in a line what the agent is doing; `systemctl status` shows it.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Tells systemd that the configuration is read again; [`ready`] follows.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

/// Tells systemd that the end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing the turn")]);
}

/// Tells systemd that the loop still turns. To be called by the loop itself, never by a timer.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be called: half of what systemd allows; none where it does not watch.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

/// A lost word to systemd is no reason to stop: it will notice by itself.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::debug!(error = %err, "cannot tell systemd how it stands");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_text_and_machines_json() {
        assert!(is_json(LogFormat::Auto, false));
        assert!(!is_json(LogFormat::Auto, true));
        assert!(!is_json(LogFormat::Text, false));
        assert!(is_json(LogFormat::Json, true));
    }

    #[test]
    fn a_word_holds_for_our_own_lines_and_nonsense_is_refused() {
        let info = filter("info").unwrap().to_string();
        assert!(info.contains("git_intake=info") && info.contains("warn"), "{info}");
        assert_eq!(filter("git_intake::push=trace").unwrap().to_string(), "git_intake::push=trace");
        let wrong = filter("git_intake=loud").unwrap_err();
        assert_eq!(wrong.to_string(), "cannot use the log level `git_intake=loud`");
    }

    #[test]
    fn outside_of_systemd_nothing_happens() {
        ready("watching");
        alive();
        stopping();
        assert_eq!(watchdog(), None);
    }
}
