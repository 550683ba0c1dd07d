//! Fabrics and repositories, as clients see them.

use super::account::HoldView;
use super::word;
use crate::agent::board::{FabricShown, Shown};
use crate::api::house::{FabricDoor, LaneDoor};
use crate::store;
use serde::Serialize;
use utoipa::ToSchema;

/// One GitOps directory.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fabric)]
pub struct FabricView {
    /// Its name, which is its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The repository it lies in.
    pub repository: String,
    /// The branch that is worked on; none while HEAD is on none.
    pub branch: Option<String>,
    /// Its directory in the repository.
    pub directory: String,
    /// Whether its directories are there.
    pub status: FabricStatus,
    /// Why they are not.
    pub init_error: Option<String>,
    /// The commit that its records follow.
    pub synced_commit: Option<String>,
    /// Why it waits for a person; none where it does not.
    pub hold: Option<HoldView>,
    /// What its operator chose.
    pub policies: Policies,
    /// The file that its settings stand in, to be changed there; none is the repository's own, which
    /// the API changes.
    pub settings_file: Option<String>,
    /// Resources on record.
    pub resources_count: u64,
    /// Conflicts that wait for a person.
    pub conflicts_count: u64,
}

/// Whether a fabric's directories are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FabricStatus {
    /// Nothing has been made yet.
    NotInitialized,
    /// They are there, and the records follow.
    Initialized,
    /// Something is in the way.
    Error,
}

/// What an operator chose for a fabric.
#[derive(Debug, Serialize, ToSchema)]
pub struct Policies {
    /// How much the agent does: `observe`, `ingest`, `push` or `full`.
    pub mode: String,
    /// What becomes of a record whose file others removed: `orphan` or `delete`.
    pub on_delete: String,
    /// What becomes of a drop with a mistake.
    pub on_invalid: String,
    /// What becomes of a drop of foreign kinds.
    pub on_unsupported: String,
    /// Where originals are kept.
    pub archive: String,
    /// Where the files of new resources lie: `flat` or `sharded`.
    pub layout: String,
    /// What happens where two sides changed one resource.
    pub conflict_strategy: String,
}

impl FabricView {
    pub(in crate::api) fn of(it: &FabricDoor) -> Result<FabricView, store::Error> {
        let (store, name) = (&it.lane.store, it.name());
        let synced = store.synced(name)?;
        let shown: &FabricShown = it.fabric();
        let status = match (&synced, &it.shown.held) {
            (Some(_), _) => FabricStatus::Initialized,
            (None, Some(_)) => FabricStatus::Error,
            (None, None) => FabricStatus::NotInitialized,
        };
        let conflicts = store.conflicts()?;
        Ok(FabricView {
            id: name.to_string(),
            name: name.to_string(),
            repository: it.lane.id.clone(),
            branch: branch(&it.shown),
            directory: shown.fabric.dir.to_string(),
            status,
            init_error: it.shown.held.clone().filter(|_| synced.is_none()),
            synced_commit: synced.map(|it| it.to_string()),
            hold: shown.hold.as_ref().map(HoldView::from),
            settings_file: it.shown.settings_file.as_ref().map(|it| it.display().to_string()),
            policies: Policies {
                mode: shown.rules.mode.to_string(),
                on_delete: shown.rules.on_delete.to_string(),
                on_invalid: word(&shown.strategies.on_invalid),
                on_unsupported: word(&shown.strategies.on_unsupported),
                archive: word(&shown.archive),
                layout: word(&shown.fabric.layout),
                conflict_strategy: word(&shown.rules.conflict),
            },
            resources_count: store.records_count(name),
            conflicts_count: conflicts.iter().filter(|it| it.fabric == *name).count() as u64,
        })
    }
}

fn branch(shown: &Shown) -> Option<String> {
    let branch = shown.branch.as_deref()?;
    Some(branch.strip_prefix("refs/heads/").unwrap_or(branch).to_owned())
}

/// One work tree and its remote.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Repository)]
pub struct RepositoryView {
    /// Names it.
    pub id: String,
    /// Where it is on the agent's host.
    pub work_tree: String,
    /// The branch, where HEAD is on one.
    pub branch: Option<String>,
    /// What HEAD points to.
    pub head: Option<String>,
    /// The remote's name and address, without any secret.
    pub remote: Option<String>,
    /// Where the remote's branch was when the agent last heard of it.
    pub remote_head: Option<String>,
    /// Why the agent stands still there, and what to do.
    pub held: Option<String>,
    /// Why the last push did not arrive; it is tried again.
    pub waiting: Option<String>,
    /// Its fabrics.
    pub fabrics: Vec<String>,
    /// The file that its settings stand in, to be changed there; none is the repository's own, which
    /// the API changes.
    pub settings_file: Option<String>,
}

impl RepositoryView {
    pub(in crate::api) fn of(lane: &LaneDoor) -> RepositoryView {
        let shown = lane.board.read();
        RepositoryView {
            id: lane.id.clone(),
            work_tree: lane.work_tree.display().to_string(),
            branch: branch(&shown),
            head: shown.head.map(|it| it.to_string()),
            remote: shown.remote.clone(),
            remote_head: shown.remote_head.map(|it| it.to_string()),
            held: shown.held.clone(),
            waiting: shown.live.waiting.clone(),
            settings_file: shown.settings_file.as_ref().map(|it| it.display().to_string()),
            fabrics: shown.fabrics.iter().map(|it| it.fabric.name.to_string()).collect(),
        }
    }
}
