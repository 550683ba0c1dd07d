//! What an operator chooses for a fabric: changed where it is kept and where it is obeyed, or not at all.
//!
//! Only settings of the repository's own are ours to change; what stands in the agent's file is its
//! operator's.

use super::Error;
use super::lane::Lane;
use crate::config::{self, FabricSettings, RepositorySettings};
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
