//! Commits for a pull request: they go to a branch of their own on the remote, and a person takes
//! them over from there.
//!
//! Nobody's commits are ever replaced. While a proposal waits and others push, their work is joined
//! to ours by a merge commit, so the branch only ever goes forward; where it cannot (it was taken
//! over as one commit and lives on, or somebody else writes to it), the next one gets a number.

use super::Error;
use super::lane::{Lane, Standing};
use super::settle;
use super::sync::Sent;
use crate::git::{PushOutcome, Remote};
use crate::model::ids::CommitId;

/// So many branches are tried before a person has to look.
const NUMBERS_MAX: u32 = 1_000;
/// Stands for the name of the branch that is worked on.
pub(super) const BRANCH: &str = "{branch}";

/// The full name of a branch for proposals.
fn name_of(pattern: &str, branch: &str, number: u32) -> String {
    let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    let name = pattern.replace(BRANCH, short);
    match number {
        1 => format!("refs/heads/{name}"),
        n => format!("refs/heads/{name}-{n}"),
    }
}

/// Sends `tip` to the first branch for proposals that can go forward to it.
pub(super) fn propose(
    lane: &mut Lane,
    remote: &Remote,
    pattern: &str,
    standing: &Standing,
    theirs: Option<CommitId>,
    tip: CommitId,
) -> Result<Sent, Error> {
    let theirs = match theirs {
        Some(it) => Some(it),
        None => lane.repo.fetch(remote, &standing.branch)?.tip,
    };
    let Some(theirs) = theirs else {
        return Err(Error::Held {
            reason: format!(
                "the remote has no branch {} that a proposal could be compared with; make it once by \
                 hand (git push), and the agent goes on by itself",
                standing.branch
            ),
        });
    };
    if lane.repo.has_commit(theirs) && lane.repo.is_ancestor(tip, theirs)? {
        return Ok(Sent::Nothing);
    }
    for number in 1..=NUMBERS_MAX {
        let branch = name_of(pattern, &standing.branch, number);
        if branch == standing.branch {
            let reason =
                format!("`review` names {branch}, the branch that is worked on; name another");
            return Err(Error::Held { reason });
        }
        let known = lane.repo.tracking(&remote.name, &branch)?;
        if known == Some(tip) {
            return Ok(Sent::Nothing);
        }
        // What is taken over may be gone from the remote; then its name is free again.
        if !goes_forward(lane, known, tip)? && lane.repo.ask(remote, &branch, tip)?.is_some() {
            continue;
        }
        match lane.repo.push(remote, &branch, tip, &mut || settle::tidy(lane))? {
            PushOutcome::Pushed => return Ok(Sent::Proposed { commit_id: tip, branch }),
            PushOutcome::Refused { reason } | PushOutcome::Locked { reason } => {
                return Ok(Sent::Refused(reason));
            }
            PushOutcome::Behind => (),
        }
    }
    let last = name_of(pattern, &standing.branch, NUMBERS_MAX);
    Err(Error::Held {
        reason: format!(
            "all branches for proposals up to {last} hold other commits; delete those of them that are \
             merged, and the agent goes on by itself"
        ),
    })
}

fn goes_forward(lane: &Lane, from: Option<CommitId>, tip: CommitId) -> Result<bool, Error> {
    Ok(match from {
        None => true,
        Some(from) => lane.repo.has_commit(from) && lane.repo.is_ancestor(from, tip)?,
    })
}

/// The newest proposal that waits on the remote, as far as we heard: its branch and commit.
pub(super) fn waiting(
    lane: &Lane,
    branch: &str,
    tip: CommitId,
    theirs: Option<CommitId>,
) -> Result<Option<(String, CommitId)>, Error> {
    let (Some(remote), Some(pattern)) = (&lane.settings.remote, &lane.settings.review) else {
        return Ok(None);
    };
    for number in 1..=NUMBERS_MAX {
        let name = name_of(pattern, branch, number);
        let Some(at) = lane.repo.tracking(&remote.name, &name)? else { return Ok(None) };
        if goes_forward(lane, Some(at), tip)? {
            let theirs = theirs.filter(|it| lane.repo.has_commit(*it));
            let merged = theirs.map(|it| lane.repo.is_ancestor(at, it)).transpose()?;
            return Ok((merged != Some(true)).then_some((name, at)));
        }
    }
    Ok(None)
}
