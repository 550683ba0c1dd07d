//! What an operator chooses for a fabric: changed where it is kept and where it is obeyed, or not at all.
//!
//! Only settings of the repository's own are ours to change; what stands in the agent's file is its
//! operator's.

use super::Error;
use super::lane::Lane;
use crate::config::{self, FabricSettings, RepositorySettings};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Changes the settings of a fabric, where they are kept and where they are obeyed.
pub(super) fn change(
    lane: &mut Lane,
    n: usize,
    change: impl FnOnce(&mut FabricSettings),
) -> Result<(), Error> {
    writable(lane)?;
    let name = lane.fabrics[n].fabric.name.clone();
    let mut repository = lane.repository.clone();
    let known = repository.fabrics.iter_mut().find(|known| known.name == name);
    let settings = known.ok_or_else(|| Error::NotFound { what: format!("fabric {name}") })?;
    change(settings);
    let settings = settings.clone();
    let old = std::mem::replace(&mut lane.repository, repository);
    if let Err(error) = save(lane) {
        lane.repository = old;
        return Err(error);
    }
    let fabric = &mut lane.fabrics[n];
    fabric.fabric = settings.fabric(&lane.general);
    fabric.rules = settings.rules(&lane.general);
    (fabric.strategies, fabric.archive) = settings.strategies(&lane.general);
    Ok(())
}

/// What changes of a repository's settings; none stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetRepository {
    /// Where commits are sent.
    pub remote: Option<String>,
    /// The only branch that is worked on.
    pub branch: Option<String>,
    /// Whether commits are sent at all.
    pub push: Option<bool>,
}

/// Changes what is decided about a repository, where it is kept; it is obeyed from the next reload on.
///
/// # Errors
/// [`Error::Refused`] where git knows no such remote.
pub(super) fn set_repository(lane: &mut Lane, it: &SetRepository) -> Result<(), Error> {
    writable(lane)?;
    if let Some(name) = it.remote.as_ref().filter(|it| lane.repo.remote_shown(it).is_none()) {
        let what = format!("git knows no remote `{name}` here; add it: git remote add {name} URL");
        return Err(Error::Refused { what });
    }
    let mut repository = lane.repository.clone();
    if let Some(it) = &it.remote {
        repository.remote.clone_from(it);
    }
    repository.branch = it.branch.clone().or(repository.branch);
    repository.push = it.push.unwrap_or(repository.push);
    let old = std::mem::replace(&mut lane.repository, repository);
    save(lane).inspect_err(|_| lane.repository = old)
}

/// Only settings of the repository's own are ours to change.
pub(super) fn writable(lane: &Lane) -> Result<(), Error> {
    match &lane.repository.file {
        None => Ok(()),
        Some(file) => Err(Error::Refused {
            what: format!(
                "the fabrics of this repository stand in {}; change it there and reload the agent",
                file.display()
            ),
        }),
    }
}

pub(super) fn save(lane: &Lane) -> Result<(), Error> {
    let stored = RepositorySettings { path: PathBuf::new(), ..lane.repository.clone() };
    config::save_local(lane.repo.git_dir(), &stored).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|it| format!(": {it}"));
        Error::Refused { what: format!("{error}{}", cause.unwrap_or_default()) }
    })
}
