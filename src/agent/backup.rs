//! A tag for what a fabric was before it is removed.

use super::Error;
use super::lane::Lane;
use crate::clock;
use crate::git::PushOutcome;
use crate::model::fabric::FabricName;
use crate::model::ids::CommitId;

/// So many tags of one second are told apart.
const BACKUPS_A_SECOND_MAX: usize = 100;

/// Keeps the commit that still has the fabric under a tag, on the remote too where commits are sent.
pub(super) fn back_up(lane: &Lane, name: &FabricName, head: CommitId) -> Result<String, Error> {
    let time = clock::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut short = format!("intake-backup/{name}/{time}");
    let mut full = format!("refs/tags/{short}");
    for n in 2..=BACKUPS_A_SECOND_MAX {
        match lane.repo.tip(&full)? {
            Some(tip) if tip != head => {
                short = format!("intake-backup/{name}/{time}-{n}");
                full = format!("refs/tags/{short}");
            }
            Some(_) | None => break,
        }
    }
    if lane.repo.tip(&full)? != Some(head) {
        lane.repo.mark(&full, head, &lane.settings.author)?;
    }
    if let Some(remote) = lane.sends_to()
        && !matches!(lane.repo.push(remote, &full, head, &mut || ()), Ok(PushOutcome::Pushed))
    {
        tracing::warn!(tag = short, "the tag stays here: the remote did not take it");
    }
    Ok(short)
}
