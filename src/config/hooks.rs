//! Hooks: forges that tell us of pushes, and programs that we tell of events.

use super::{Error, units};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Hooks, both ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HookSettings {
    /// Files with secrets of GitHub's hooks; a second one is for the time of a change.
    pub github: Vec<PathBuf>,
    /// The same for GitLab.
    pub gitlab: Vec<PathBuf>,
    /// The same for Gitea and Forgejo.
    pub gitea: Vec<PathBuf>,
    /// Of one address that tells us.
    #[serde(deserialize_with = "units::count")]
    pub requests_per_second: u32,
    /// Tell programs at loopback, link-local and private addresses too.
    pub private: bool,
    /// Tell them without TLS too.
    pub plaintext: bool,
    /// Authorities that receivers' certificates may be of, beside the system's: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// A notice is sent so often before it lies aside.
    #[serde(deserialize_with = "units::count")]
    pub attempts_max: u32,
    /// After the first failure.
    #[serde(with = "units::duration")]
    pub retry_min: Duration,
    /// After many.
    #[serde(with = "units::duration")]
    pub retry_max: Duration,
}

impl Default for HookSettings {
    fn default() -> HookSettings {
        HookSettings {
            github: Vec::new(),
            gitlab: Vec::new(),
            gitea: Vec::new(),
            requests_per_second: 20,
            private: false,
            plaintext: false,
            ca_file: None,
            attempts_max: 15,
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(3600),
        }
    }
}

impl HookSettings {
    /// Takes paths as written in a file of this directory.
    pub(super) fn lie_below(&mut self, base: &Path) {
        let all = [&mut self.github, &mut self.gitlab, &mut self.gitea];
        for it in all.into_iter().flatten().chain(&mut self.ca_file) {
            *it = base.join(&it);
        }
    }

    /// Refuses what no single value can show.
    pub(super) fn check(&self, place: &str) -> Result<(), Error> {
        match self.retry_min > self.retry_max || self.retry_min.is_zero() {
            true => Err(Error::Invalid {
                place: place.to_owned(),
                message: "webhooks.retry_min is 0 or above webhooks.retry_max".to_owned(),
            }),
            false => Ok(()),
        }
    }
}
