//! Hooks: forges that tell us of pushes.

use super::units;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Hooks of forges.
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
}

impl Default for HookSettings {
    fn default() -> HookSettings {
        HookSettings {
            github: Vec::new(),
            gitlab: Vec::new(),
            gitea: Vec::new(),
            requests_per_second: 20,
        }
    }
}

impl HookSettings {
    /// Takes paths as written in a file of this directory.
    pub(super) fn lie_below(&mut self, base: &Path) {
        let all = [&mut self.github, &mut self.gitlab, &mut self.gitea];
        for it in all.into_iter().flatten() {
            *it = base.join(&it);
        }
    }
}
