//! One record with all that is known around it: where it stands between draft, git and cluster.

use super::lane::Lane;
use super::{Error, fabrics, find};
use crate::git::Repo;
use crate::model::account::{Drift, RecordState, ResourceView};
use crate::model::ids::CommitId;
use crate::model::key::ResourceId;
use crate::model::record::{Actual, Modification, Orphan, Record};
use crate::model::rules::FabricRules;
use crate::pipeline::validation;
use crate::store::{Settlement, Store};
use crate::worktree::WorkTree;

/// What a look around a record needs: a lane has it, and so has whoever reads beside one.
pub struct Surroundings<'a> {
    /// The memory.
    pub store: &'a Store,
    /// The hand on the history.
    pub repo: &'a Repo,
    /// The hand on the files.
    pub tree: &'a WorkTree,
    /// What holds for the record's fabric.
    pub rules: &'a FabricRules,
    /// Where the remote's branch was when we last heard of it.
    pub remote_head: Option<CommitId>,
    /// The size of the largest file that is read, in bytes.
    pub bytes_max: u64,
}

impl Surroundings<'_> {
    /// What is known around a record, or around an orphan whose file was `removed`.
    pub fn of(&self, record: Record, removed: Option<Modification>) -> Result<ResourceView, Error> {
        let path = record.path.as_str().as_bytes();
        let held = self.repo.blob_at(self.repo.head()?.commit, path)?;
        let found = self.tree.read(&record.path, self.bytes_max)?;
        let found = found.map(|it| self.repo.blob_id_of(&it)).transpose()?;
        let theirs = self.remote_head.filter(|it| self.repo.has_commit(*it));
        let sent = theirs.is_some() && self.repo.blob_at(theirs, path)? == held;
        let drift = drift(&record, removed.is_some());
        let drifted = held != Some(record.blob_id)
            || found != held
            || drift.is_some_and(|it| it != Drift::InSync);
        let state = match (&removed, drifted, sent) {
            (Some(_), _, _) => RecordState::Orphaned,
            (None, true, _) => RecordState::Drifted,
            (None, false, true) => RecordState::Synced,
            (None, false, false) => RecordState::Committed,
        };
        Ok(ResourceView {
            state,
            drift,
            differs_from_head: removed.is_none() && held != Some(record.blob_id),
            edited_by_hand: removed.is_none() && found != held,
            on_remote: removed.is_none() && sent,
            direction: self.rules.direction_of(&record.key),
            strategy: self.rules.strategy_of(&record.key),
            conflict: self.store.conflict(&record.id)?,
            removed,
            record,
        })
    }
}

/// How what git has compares with what a cluster has; none where nobody told.
pub fn drift(record: &Record, orphaned: bool) -> Option<Drift> {
    let actual = record.actual.as_ref()?;
    Some(match actual.content {
        _ if orphaned => Drift::ActualOnly,
        None => Drift::DesiredOnly,
        Some(it) if it == record.content => Drift::InSync,
        Some(_) => Drift::SpecDrift,
    })
}

/// A record, or an orphan, with all that is known around it.
pub(super) fn view(lane: &Lane, name: &str) -> Result<ResourceView, Error> {
    let (record, removed) = match find::record(lane, name) {
        Ok(it) => (it, None),
        Err(error) => match orphan(lane, name)? {
            Some(it) => (it.record, Some(it.removed)),
            None => return Err(error),
        },
    };
    let n = fabrics::place(lane, &record.fabric)?;
    let remote_head = match (&lane.settings.remote, lane.repo.head()?.branch) {
        (Some(remote), Some(branch)) => lane.repo.tracking(&remote.name, &branch)?,
        _ => None,
    };
    let around = Surroundings {
        store: &lane.store,
        repo: &lane.repo,
        tree: &lane.tree,
        rules: &lane.fabrics[n].rules,
        remote_head,
        bytes_max: lane.settings.bytes_max,
    };
    around.of(record, removed)
}

/// An orphan, by its id, its path, or `Kind/name`.
pub(super) fn orphan(lane: &Lane, name: &str) -> Result<Option<Orphan>, Error> {
    if let Ok(id) = name.parse() {
        return Ok(lane.store.orphan(&ResourceId(id))?);
    }
    for it in lane.store.orphans() {
        let it = it?;
        let key = &it.record.key;
        let named = name
            .split_once('/')
            .is_some_and(|(kind, name)| key.kind.eq_ignore_ascii_case(kind) && key.name == name);
        if named || it.record.path.as_str() == name {
            return Ok(Some(it));
        }
    }
    Ok(None)
}

/// Forgets which changes did not come through the agent; git still has them.
pub(super) fn clear_modifications(lane: &mut Lane, name: &str) -> Result<(), Error> {
    let record = find::record(lane, name)?;
    keep(lane, Record { modifications: Vec::new(), ..record })
}

/// Keeps what a cluster has of a resource, as somebody tells.
///
/// # Errors
/// [`Error::Invalid`] where the text is no manifest, [`Error::Refused`] where it is of another resource.
pub(super) fn tell_actual(lane: &mut Lane, name: &str, text: Option<&str>) -> Result<(), Error> {
    let record = find::record(lane, name)?;
    let at = crate::clock::now();
    let content = match text {
        None => None,
        Some(text) => {
            let path = crate::model::path::RawPath::new("actual.yaml");
            let intake = crate::model::document::Intake::new(path, text.as_bytes().to_vec());
            // As a drop is read: what a cluster fills in is cut.
            let read = validation::validate(intake, &lane.rules());
            let read = read.map_err(|it| Error::Invalid { problems: it.problems })?;
            let document = read.documents.into_iter().find(|it| it.key == record.key);
            let what = format!("the manifest is not of {}", record.key);
            Some(document.ok_or(Error::Refused { what })?.content)
        }
    };
    keep(lane, Record { actual: Some(Actual { content, at }), ..record })
}

fn keep(lane: &Lane, record: Record) -> Result<(), Error> {
    Ok(lane.store.settle(Settlement { records: vec![record], ..Settlement::default() })?)
}
